//! The open work of a simulation: turns without an answer, responses to be made, and audio that the
//! user may still hear.

use std::time::Instant;

use serde_json::Value;

use super::input::Turn;
use super::sound::BYTES_PER_MS;

/// What the next response has to answer.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    pub(super) turn: Option<Turn>,
    pub(super) text: Option<String>,
    /// Outputs of function calls.
    pub(super) outputs: Vec<String>,
}

/// The user's words, as their transcription would arrive.
#[derive(Debug)]
pub(super) struct Transcription {
    pub(super) item_id: String,
    pub(super) text: String,
}

/// Reply audio the user may still be hearing.
#[derive(Debug)]
pub(super) struct Playing {
    pub(super) item_id: String,
    pub(super) first: Instant,
    pub(super) bytes: usize,
}

impl Playing {
    /// Milliseconds heard if it was played in real time as it came.
    pub(super) fn heard_ms(&self, now: Instant) -> usize {
        let elapsed = now.saturating_duration_since(self.first).as_millis();
        usize::try_from(elapsed).unwrap_or(usize::MAX).min(self.bytes / BYTES_PER_MS)
    }
}

/// A response to be made.
#[derive(Debug)]
pub(super) struct Request {
    /// The `response` object of `response.create`, or null.
    pub(super) params: Value,
    pub(super) kind: RequestKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestKind {
    /// It answers everything that has no answer yet.
    Answer,
    Welcome,
    /// A text given by the client.
    Fixed(String),
}
