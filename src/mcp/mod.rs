//! The client of the Model Context Protocol (MCP): tools of programs and servers that the cloud cannot
//! reach.
//!
//! It is pure. Bytes and time come in; bytes, results and words for the log go out. The loop owns
//! processes and pipes (`server/mcp.rs`). A server behind HTTP is reached through a child of this program
//! (`http`), which speaks lines to the loop and HTTP outside, so the loop knows one transport only.
//!
//! Two eras of the protocol are spoken (`client` says how the era is found out):
//!
//! | Era | Versions | What differs |
//! |---|---|---|
//! | [`Modern`](Era::Modern) | 2026-07-28 | each request stands alone and carries the version; no session |
//! | [`Legacy`](Era::Legacy) | 2024-11-05 to 2025-11-25 | `initialize` agrees on a version; HTTP has sessions |
//!
//! Of the protocol only tools are used. Left out: resources, prompts, sampling, elicitation, roots,
//! tasks, logging levels, OAuth, and the HTTP+SSE transport of 2024.

pub mod client;
pub mod content;
pub mod event;
pub mod file;
pub mod http;
pub mod lines;
pub mod listing;
pub mod messages;
pub mod offer;

/// The generation of the protocol that a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// 2026-07-28: no `initialize` and no session.
    Modern,
    /// Everything before it.
    Legacy,
}

/// The version that is spoken to a server of the modern era.
pub const MODERN: &str = "2026-07-28";

/// The versions of the legacy era, newest first. The first one is asked for.
pub const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// A text that came from a server, for a log line: on one line, escaped, and at most so many
/// characters long.
#[must_use]
#[inline(never)]
pub fn shown(text: &str, most: usize) -> String {
    let mut shown: String = text.trim().chars().take(most).flat_map(char::escape_debug).collect();
    if text.trim().chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}
