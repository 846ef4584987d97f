//! Streamable HTTP: the child `voicelived __mcp_http`, which stands between the loop and one server.
//!
//! To the loop it is a stdio server: JSON-RPC lines in and out. Outside it speaks blocking HTTP with a
//! library, in threads of its own; the daemon itself has one thread, always. So the loop knows one
//! transport, and a slow server costs a thread of this child and nothing else.
//!
//! What only HTTP has is kept from the loop: sessions, event streams, their resumption, and the new
//! session where a server has forgotten the old one. `child` does it; `events` and `fields` are pure.

mod child;
pub mod events;
pub mod fields;

use serde_json::{Value, json};

pub use child::run;

/// What the child is told first, as one line: where the server is. The line may hold secrets, so it
/// comes on standard input and not in an argument.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_debug_implementations, reason = "holds secrets")]
pub struct Job {
    /// The server's address.
    pub url: String,
    /// Fields that each request carries.
    pub headers: Vec<(String, String)>,
    /// The address of a proxy, with its login; `None` for the direct way.
    pub proxy: Option<String>,
    /// Certificate authorities that are trusted besides the usual ones, as DER.
    pub authorities: Vec<Vec<u8>>,
}

impl Job {
    /// The line, with its end.
    #[must_use]
    #[inline(never)]
    pub fn line(&self) -> String {
        let Self { url, headers, proxy, authorities } = self;
        let job =
            json!({ "url": url, "headers": headers, "proxy": proxy, "authorities": authorities });
        format!("{job}\n")
    }

    /// What a line tells; `None` if it is no job.
    #[must_use]
    #[inline(never)]
    pub fn read(line: &[u8]) -> Option<Self> {
        let job: Value = serde_json::from_slice(line).ok()?;
        let pair =
            |pair: &Value| Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned()));
        let byte = |byte: &Value| u8::try_from(byte.as_u64()?).ok();
        let bytes = |list: &Value| list.as_array()?.iter().map(byte).collect();
        Some(Self {
            url: job["url"].as_str()?.to_owned(),
            headers: job["headers"].as_array()?.iter().map(pair).collect::<Option<_>>()?,
            proxy: job["proxy"].as_str().map(str::to_owned),
            authorities: job["authorities"].as_array()?.iter().map(bytes).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_says_all_that_the_child_needs() {
        let job = Job {
            url: "https://h/mcp?a=\"b\"".to_owned(),
            headers: vec![("Authorization".to_owned(), "Bearer x".to_owned())],
            proxy: Some("http://u:p@h:1".to_owned()),
            authorities: vec![vec![0, 255], Vec::new()],
        };
        let line = job.line();
        assert!(line.ends_with('\n') && line.lines().count() == 1);
        assert!(Job::read(line.trim().as_bytes()) == Some(job));
        assert!(Job::read(b"{}").is_none() && Job::read(b"x").is_none());
    }
}
