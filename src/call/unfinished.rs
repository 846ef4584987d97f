//! Responses that do not end as they should: which kinds there are, and what people are told of them.

use super::client::quoted;
use super::service::{ResponseDone, bounded_str};

/// Longest word of the service that is quoted to the client, in bytes.
const MAX_QUOTED_BYTES: usize = 200;

/// What became of a response that was not completed. Neither a user's interruption nor a stop counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// It ended at the limit for its length.
    MaxOutputTokens,
    /// The service's content filter broke it off.
    ContentFilter,
    /// It ended too early for another reason, or for none that is told.
    Incomplete,
    /// It failed.
    Failed,
    /// It showed no sign of life for too long, and counts as over.
    Silent,
    /// It was cancelled, and its end never came.
    CancelUnanswered,
    /// Another one began before its end had come.
    Superseded,
    /// It was asked for, and nothing came.
    NotCreated,
}

impl Unfinished {
    /// A fixed word for log and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::MaxOutputTokens => "max_output_tokens",
            Self::ContentFilter => "content_filter",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Silent => "silent",
            Self::CancelUnanswered => "cancel_unanswered",
            Self::Superseded => "superseded",
            Self::NotCreated => "not_created",
        }
    }

    /// What happened, for the log: the rest of a sentence about the response.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::MaxOutputTokens => {
                "was cut off at its longest length (max_response_output_tokens of the session)"
            }
            Self::ContentFilter => "was broken off by the service's content filter",
            Self::Incomplete => "ended too early",
            Self::Failed => "failed",
            Self::Silent => "shows no sign of life and counts as over",
            Self::CancelUnanswered => "was cancelled, has not ended and counts as over",
            Self::Superseded => "counts as over, since another one has begun",
            Self::NotCreated => "was asked for and never came",
        }
    }

    /// How this response ended, by what the service says; `None` if it ended as it should, or because
    /// of the user.
    pub(super) fn of(done: &ResponseDone) -> Option<Self> {
        let broken_off = match done.reason.as_str() {
            "max_output_tokens" => Some(Self::MaxOutputTokens),
            "content_filter" => Some(Self::ContentFilter),
            _ => None,
        };
        match done.status.as_str() {
            "incomplete" => Some(broken_off.unwrap_or(Self::Incomplete)),
            // Some services say it so.
            "cancelled" => broken_off,
            "failed" => Some(Self::Failed),
            _ => None,
        }
    }

    /// The code and the sentence for the client, of a response whose end has come.
    pub(super) fn words(self, done: &ResponseDone) -> (&'static str, String) {
        let why = why(done);
        match self {
            Self::MaxOutputTokens => (
                "response_incomplete",
                "The answer has reached its longest length and stops here. Ask for the rest."
                    .to_owned(),
            ),
            Self::ContentFilter => (
                "response_incomplete",
                "The voice service's content filter has stopped the answer here.".to_owned(),
            ),
            Self::Failed => {
                ("response_failed", format!("The voice service could not answer: {why}"))
            }
            _ => ("response_incomplete", format!("The answer stops here too early: {why}")),
        }
    }
}

/// The service's own words for the end of a response, as the end of one of our sentences. Its message
/// comes first, then its code, its type and its reason.
pub(super) fn why(done: &ResponseDone) -> String {
    let error = &done.error;
    if !error.message.trim().is_empty() {
        return quoted(&error.message);
    }
    let words = [&error.code, &error.kind, &done.reason].map(|word| word.trim());
    match words.into_iter().find(|word| !word.is_empty()) {
        None => quoted(""),
        Some("content_filter") => "its content filter does not let the answer pass.".to_owned(),
        Some(word) => quoted(&format!("it says {}", bounded_str(word, MAX_QUOTED_BYTES))),
    }
}
