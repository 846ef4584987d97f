//! What the client of a server has to tell the loop.

use std::time::Instant;

use super::listing::Tool;

/// How important a sentence for the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// For a person who looks for a fault.
    Debug,
    /// Something that an operator may want to know.
    Info,
    /// Something that does not work.
    Warn,
}

/// What the client has to tell the loop.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// The server's tools, all of them: at first, and whenever they were listed again.
    Tools(Vec<Tool>),
    /// A call has ended, exactly once.
    Done {
        /// What [`Client::call`](super::client::Client::call) was given.
        ticket: u64,
        /// Text for the model: the result, or a sentence that says why there is none.
        output: String,
        /// Whether the tool did its work.
        ok: bool,
    },
    /// A call makes progress: its end was put off.
    Later {
        /// What [`Client::call`](super::client::Client::call) was given.
        ticket: u64,
        /// When it ends now, unless it makes more progress.
        until: Instant,
    },
    /// A sentence for the log. It follows the server's name and a colon.
    Note(Weight, String),
    /// The server cannot be spoken to over this connection. It is to be ended, and made anew later.
    Broken(String),
}
