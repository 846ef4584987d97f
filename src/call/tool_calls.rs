//! Function calls of the model that have no output yet.
//!
//! Every call id is answered exactly once: by the tool, by its deadline, or at once when there are
//! too many. Without an answer the model would never learn what became of its call, and no
//! follow-up would come.
//!
//! One follow-up is due when all of a batch are answered. One for each would make the model speak
//! about the first result before it knows the others.

use std::time::{Duration, Instant};

/// How long a tool may take. After that its call is answered with an error, so that the model can say
/// so. The loop ends the process by its own, shorter limit; this one holds if that fails.
pub const TOOL_TIMEOUT: Duration = Duration::from_secs(30);
/// Calls open at the same time; those beyond it are answered with an error at once.
pub const MAX_OPEN_CALLS: usize = 8;

/// A function call whose tool is running.
#[derive(Debug)]
pub(super) struct OpenCall {
    pub(super) call_id: String,
    pub(super) name: String,
    pub(super) started: Instant,
}

/// What became of a new call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// It is open: run the tool.
    Run,
    /// It is open already, or has no id to answer to.
    Ignore,
    /// Too many are open: answer with an error.
    TooMany,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct ToolCalls {
    open: Vec<OpenCall>,
    /// An output was sent that no follow-up was asked for yet.
    answered: bool,
}

impl ToolCalls {
    /// A new call of the model. One that is [`TooMany`](Opened::TooMany) counts as answered: the
    /// caller must send the error.
    pub(super) fn open(&mut self, call_id: &str, name: &str, now: Instant) -> Opened {
        if call_id.is_empty() || self.open.iter().any(|call| call.call_id == call_id) {
            return Opened::Ignore;
        }
        if self.open.len() == MAX_OPEN_CALLS {
            self.answered = true;
            return Opened::TooMany;
        }
        self.open.push(OpenCall {
            call_id: call_id.to_owned(),
            name: name.to_owned(),
            started: now,
        });
        Opened::Run
    }

    /// Closes a call; `None` if it is not open (answered by its deadline, say).
    pub(super) fn close(&mut self, call_id: &str) -> Option<OpenCall> {
        let index = self.open.iter().position(|call| call.call_id == call_id)?;
        self.answered = true;
        Some(self.open.remove(index))
    }

    /// Closes one call that is past its deadline; the caller must send its error. Asked until `None`.
    pub(super) fn close_overdue(&mut self, now: Instant) -> Option<OpenCall> {
        let index = self.open.iter().position(|call| call.started + TOOL_TIMEOUT <= now)?;
        self.answered = true;
        Some(self.open.remove(index))
    }

    /// Whether a batch is complete: all are answered, and at least one was. Says so once, so the caller
    /// must ask for the follow-up.
    pub(super) fn take_complete_batch(&mut self) -> bool {
        self.open.is_empty() && std::mem::take(&mut self.answered)
    }

    /// Whether a batch is complete that no follow-up was asked for.
    pub(super) fn has_complete_batch(&self) -> bool {
        self.open.is_empty() && self.answered
    }

    /// Whether a tool works: the call is not idle then.
    pub(super) fn is_running(&self) -> bool {
        !self.open.is_empty()
    }

    /// When the oldest open call is overdue.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open.iter().map(|call| call.started + TOOL_TIMEOUT).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_complete_once_all_are_answered() {
        let now = Instant::now();
        let mut calls = ToolCalls::default();
        assert!(!calls.take_complete_batch());
        assert_eq!(calls.open("a", "t", now), Opened::Run);
        assert_eq!(calls.open("a", "t", now), Opened::Ignore);
        assert_eq!(calls.open("", "t", now), Opened::Ignore);
        assert_eq!(calls.open("b", "t", now), Opened::Run);
        assert!(calls.close("a").is_some() && calls.close("a").is_none());
        assert!(!calls.take_complete_batch());
        assert!(calls.close_overdue(now).is_none());
        assert!(calls.close_overdue(now + TOOL_TIMEOUT).is_some());
        assert!(calls.take_complete_batch());
        assert!(!calls.take_complete_batch());
    }

    #[test]
    fn open_calls_are_bounded() {
        let now = Instant::now();
        let mut calls = ToolCalls::default();
        for index in 0..MAX_OPEN_CALLS {
            assert_eq!(calls.open(&index.to_string(), "t", now), Opened::Run);
        }
        assert_eq!(calls.open("more", "t", now), Opened::TooMany);
    }
}
