//! What the child `voicelived __request` does: one web request of a tool, with blocking HTTP. It may block:
//! nobody but the child runs this.
//!
//! Its job comes on standard input. It prints the result, or a sentence for the model and a status of failure.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use ureq::http::{self, Uri};
use ureq::{Agent, Body};

use super::web::{Request, Secret, Web};

/// The most bytes of a job: the file and the arguments.
const MAX_JOB: u64 = 256 * 1024;
/// The most bytes of an answer that are read.
const MAX_ANSWER: u64 = 64 * 1024;
const MAX_SECRET: u64 = 8 * 1024;
const MAX_REDIRECTS: usize = 5;

/// The whole child. The error is a sentence for the model.
///
/// # Errors
/// When the request cannot be made, or is not answered well.
#[inline(never)]
pub fn run(input: &mut dyn Read) -> Result<String, String> {
    let mut text = String::new();
    let broken = "The tool's file cannot be used.";
    input.take(MAX_JOB).read_to_string(&mut text).map_err(|_| broken)?;
    let job: Value = serde_json::from_str(&text).map_err(|_| broken)?;
    let (tool, arguments) = (&job[0], &job[1]);
    let credentials = Path::new(tool["credentials"].as_str().unwrap_or_default());
    let web = Web::parse(&tool["http"], &tool["parameters"], credentials);
    let web = web.map_err(|(why, _)| format!("The tool's file cannot be used: {why}."))?;
    let none = Map::new();
    let request = web.request(arguments.as_object().unwrap_or(&none), &read_secret)?;
    // The loop ends the run at its deadline. A sentence of ours before that says more.
    let patience = Duration::from_secs(tool["seconds"].as_u64().unwrap_or(10)).mul_f32(0.8);
    let answer = send(&request, Instant::now() + patience)?;
    let most = tool["bytes"].as_u64().and_then(|most| usize::try_from(most).ok());
    Ok(cut(concealed(answer, &request.secrets), most.unwrap_or(usize::MAX)))
}

/// A secret's file is read for each request, so a new one counts at once.
fn read_secret(secret: &Secret) -> Result<String, String> {
    let missing = "The tool's secret cannot be read.";
    let mut text = String::new();
    let file = std::fs::File::open(&secret.file).map_err(|error| {
        // For the owner's log: the model is not told where secrets are.
        let credential = secret.file.starts_with("/run/credentials");
        let hint = if credential { "; LoadCredential= of the unit must name it" } else { "" };
        eprintln!("{}: {error}{hint}", secret.file.display());
        missing
    })?;
    file.take(MAX_SECRET).read_to_string(&mut text).map_err(|_| missing)?;
    Ok(text.trim().to_owned())
}

/// An answer may repeat what it was asked with.
fn concealed(mut text: String, secrets: &[String]) -> String {
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "***");
    }
    text
}

fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
    }
    text
}

fn send(request: &Request, deadline: Instant) -> Result<String, String> {
    let (mut method, mut body) = (request.method.as_str(), request.body.as_deref());
    let mut target = request.target.clone();
    let place = request.origin.split("//").last().unwrap_or_default();
    for _ in 0..=MAX_REDIRECTS {
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = ask(request, method, &target, body, left);
        let mut answer = answer.map_err(|error| unreached(place, &error))?;
        let status = answer.status().as_u16();
        match status {
            301 | 302 | 303 | 307 | 308 => {
                let to = answer.headers().get("location").and_then(|to| to.to_str().ok());
                target = redirect(&request.origin, &target, to.unwrap_or_default()).ok_or_else(
                    || format!("{place} sends the request elsewhere, which is not followed."),
                )?;
                let stays = matches!(status, 307 | 308) || matches!(method, "GET");
                if !stays {
                    (method, body) = ("GET", None);
                }
            }
            200..=299 => return read(&mut answer, request, place),
            _ => return Err(format!("{place} answered with the status {status}.")),
        }
    }
    Err(format!("{place} sends the request in a circle."))
}

fn ask(
    request: &Request,
    method: &str,
    target: &str,
    body: Option<&str>,
    patience: Duration,
) -> Result<http::Response<Body>, ureq::Error> {
    let agent: Agent = Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .timeout_global(Some(patience.max(Duration::from_millis(1))))
        .user_agent(concat!("voicelived/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let url = format!("{}{target}", request.origin);
    let mut head = http::Request::builder().method(method).uri(url);
    for (name, value) in &request.headers {
        let of_body = name.to_ascii_lowercase().starts_with("content-");
        if body.is_some() || !of_body {
            head = head.header(name, value);
        }
    }
    match body {
        Some(body) => agent.run(head.body(body)?),
        None => agent.run(head.body(())?),
    }
}

/// Where a redirect leads within the same origin: path and query. `None` if it leads elsewhere.
fn redirect(origin: &str, target: &str, to: &str) -> Option<String> {
    let path = if to.starts_with("//") {
        return None;
    } else if to.starts_with('/') {
        to.to_owned()
    } else if to.contains("://") {
        let (there, here) = (to.parse::<Uri>().ok()?, origin.parse::<Uri>().ok()?);
        let place = |uri: &Uri| {
            let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
            let host = uri.host().map(str::to_ascii_lowercase);
            (uri.scheme_str().map(str::to_owned), host, uri.port_u16().unwrap_or(usual))
        };
        if place(&there) != place(&here) || there.authority()?.as_str().contains('@') {
            return None;
        }
        there.path_and_query()?.as_str().to_owned()
    } else {
        let folder = target.split('?').next()?.rsplit_once('/')?.0;
        (!to.is_empty() && !to.contains(':')).then(|| format!("{folder}/{to}"))?
    };
    Some(path.split('#').next().unwrap_or_default().to_owned())
}

fn read(
    answer: &mut http::Response<Body>,
    request: &Request,
    place: &str,
) -> Result<String, String> {
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok());
    let is_page = kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"));
    let mut bytes = Vec::new();
    let mut reader = answer.body_mut().as_reader().take(MAX_ANSWER + 1);
    // What has come counts, even if the rest does not.
    if let Err(error) = reader.read_to_end(&mut bytes)
        && (bytes.is_empty() || request.pointer.is_some())
    {
        return Err(format!("The answer of {place} broke off: {}.", short(&error.to_string())));
    }
    let whole = bytes.len() as u64 <= MAX_ANSWER;
    bytes.truncate(usize::try_from(MAX_ANSWER).unwrap_or(usize::MAX));
    if is_page {
        return Err(format!("{place} answered with a web page, not with data."));
    }
    if !whole && std::str::from_utf8(&bytes).is_err_and(|fault| fault.error_len().is_none()) {
        let good = std::str::from_utf8(&bytes).map_or_else(|fault| fault.valid_up_to(), str::len);
        bytes.truncate(good);
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("{place} answered with no text."))?;
    let Some(pointer) = &request.pointer else {
        let text = text.trim();
        return Ok(if text.is_empty() { "{\"done\":true}".to_owned() } else { text.to_owned() });
    };
    if !whole {
        return Err(format!("The answer of {place} is longer than {MAX_ANSWER} bytes."));
    }
    let json = voicelived_lenient::read(&text);
    let (json, _) = json.map_err(|_| format!("{place} answered with no JSON."))?;
    let part = json.pointer(pointer);
    part.map(Value::to_string).ok_or_else(|| format!("The answer of {place} has no {pointer}."))
}

fn unreached(place: &str, error: &ureq::Error) -> String {
    let why = match error {
        ureq::Error::HostNotFound => "its name was not found".to_owned(),
        ureq::Error::Timeout(_) => "it does not answer in time".to_owned(),
        ureq::Error::ConnectionFailed => "it takes no connection".to_owned(),
        other => short(&other.to_string()),
    };
    format!("{place} is not reached: {why}.")
}

/// The library's words on one line, and not too many of them.
fn short(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_within_the_origin() {
        let here = "https://example.org";
        for (to, wanted) in [
            ("/b?c", Some("/b?c")),
            ("b", Some("/a/b")),
            ("?x", Some("/a/?x")),
            ("https://example.org/b", Some("/b")),
            ("https://EXAMPLE.org:443/b#x", Some("/b")),
            ("https://example.org", Some("/")),
            ("http://example.org/b", None),
            ("https://example.org:8443/b", None),
            ("https://example.org.evil.net/b", None),
            ("https://example.org@evil.net/b", None),
            ("https://evil.net@example.org/b", None),
            ("//evil.net/b", None),
            ("file:///etc/passwd", None),
            ("javascript:alert(1)", None),
            ("http://169.254.169.254/latest", None),
            ("", None),
        ] {
            assert_eq!(redirect(here, "/a/x?q", to).as_deref(), wanted, "{to}");
        }
    }

    #[test]
    fn what_is_told_is_cut_between_characters_and_holds_no_secret() {
        assert_eq!(cut("aé".to_owned(), 2), "a");
        assert_eq!(concealed("x s3cret".to_owned(), &["s3cret".to_owned()]), "x ***");
    }
}
