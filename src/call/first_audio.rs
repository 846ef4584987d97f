//! Measures how long the user waits for the first sound of an answer.

use std::time::{Duration, Instant};

/// The wait for the first audio of the next answer.
///
/// It runs from the end of the user's turn to the first audio *sent* to the client. A response that
/// was already active when the turn ended is no answer to it, so its audio does not end the wait.
#[derive(Debug, Default)]
pub(super) struct FirstAudio {
    /// The end of the user's turn; `None` while nobody waits.
    since: Option<Instant>,
    /// The last response from before that. The text's memory is reused.
    earlier_response: String,
    /// A tool ran for the answer.
    by_tool: bool,
    /// When the first audio of the answer left; `None` once the client has said that it plays. Until
    /// the next turn's end nothing else may clear it: a report may be about the reply before.
    left: Option<Instant>,
}

impl FirstAudio {
    /// The user's turn has ended. `last_response` is the id of the latest response until now, or
    /// empty.
    pub(super) fn wait(&mut self, last_response: &str, now: Instant) {
        self.since = Some(now);
        self.by_tool = false;
        self.left = None;
        self.earlier_response.clear();
        self.earlier_response.push_str(last_response);
    }

    /// The user speaks again: nobody waits for an answer.
    pub(super) fn cancel(&mut self) {
        self.since = None;
    }

    /// A tool runs: the wait is its, too.
    pub(super) fn explain(&mut self) {
        self.by_tool = true;
    }

    /// Whether a tool ran for the answer that was waited for last.
    pub(super) fn took_a_tool(&self) -> bool {
        self.by_tool
    }

    /// Whether somebody waits.
    pub(super) fn is_awaited(&self) -> bool {
        self.since.is_some()
    }

    /// Audio of this response has left. Returns how long the user has waited for it, once a turn.
    pub(super) fn sent(&mut self, response_id: &str, now: Instant) -> Option<Duration> {
        if response_id == self.earlier_response {
            return None;
        }
        let waited = now.saturating_duration_since(self.since.take()?);
        self.left = Some(now);
        Some(waited)
    }

    /// The client has played `ms` of a reply. Returns, once an answer, how long after it had left its
    /// first audio was heard. A reply that has played for longer is not this answer.
    pub(super) fn heard(&mut self, ms: u64, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(self.left?);
        let after = since.checked_sub(Duration::from_millis(ms))?;
        self.left = None;
        Some(after)
    }
}
