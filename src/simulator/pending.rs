//! The open work of a simulation: turns without an answer, responses to be made, and audio that the
//! user may still hear.

use std::time::Instant;

use serde_json::Value;

use super::input::Turn;
use super::sound::BYTES_PER_MS;

/// What the next response has to answer.
#[derive(Debug, Default, Clone)]
pub(super) struct Unanswered {
    pub(super) turn: Option<Turn>,
    pub(super) text: Option<String>,
    /// Outputs of function calls.
    pub(super) outputs: Vec<String>,
}

impl Unanswered {
    /// Adds what else is to be answered; of two texts the later one counts.
    pub(super) fn add(&mut self, other: Self) {
        self.turn = other.turn.or_else(|| self.turn.take());
        self.text = other.text.or_else(|| self.text.take());
        self.outputs.extend(other.outputs);
    }
}

/// The user's words, as their transcription would arrive.
#[derive(Debug)]
pub(super) struct Transcription {
    pub(super) item_id: String,
    pub(super) text: String,
    /// The length of the turn.
    pub(super) milliseconds: u64,
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
    /// Whether the response joins the conversation.
    pub(super) kept: bool,
}

impl Request {
    /// A response that the simulation makes without parameters of the client.
    pub(super) fn plain(kind: RequestKind) -> Self {
        Self { params: Value::Null, kind, kept: true }
    }

    /// Whether one response serves both requests: it answers all that is unanswered by then.
    pub(super) fn same(&self, other: &Self) -> bool {
        let plain = matches!(
            (&self.kind, &other.kind),
            (RequestKind::Answer, RequestKind::Answer)
                | (RequestKind::Welcome, RequestKind::Welcome)
        );
        plain && self.kept && other.kept
    }
}

#[derive(Debug, Clone)]
pub(super) enum RequestKind {
    /// It answers everything that has no answer yet.
    Answer,
    /// It answers what the client gave or what was open when it asked, and leaves open what is open.
    Given(Unanswered),
    Welcome,
    /// A text given by the client.
    Fixed(String),
}
