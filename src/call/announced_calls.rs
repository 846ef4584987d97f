//! Function calls that the service has told of and that were not run yet.
//!
//! ```text
//! (unknown) ──any event──► Begun ──it is finished──► Finished ──its arguments are there──► run
//!                            │                          └──the response is done, or 1 s──► run
//!                            └──broken off────────────────────────────────────────────────► forgotten
//! ```
//!
//! Which event finishes a call, and which one has its arguments, differs between services. So what all
//! events say of a call is put together here, and a call leaves as soon as it is finished and whole:
//! once, and never again in the session. A call that is finished without arguments waits a moment for
//! them, but not for ever: without an output the model would never learn what became of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::seen::Seen;
use super::service::{FunctionCall, Stage, bounded_str, json_object};

/// Calls that are not finished yet; the oldest makes way. Eight tools of a call run at once.
const MAX_ANNOUNCED: usize = 16;
/// How long a finished call may wait for its arguments. They come with the same breath, or with
/// `response.done`, which may be late or missing.
const LATE_ARGUMENTS: Duration = Duration::from_secs(1);
/// Longest arguments passed to a tool, in bytes.
pub(super) const MAX_TOOL_ARGUMENT_BYTES: usize = 64 * 1024;
/// Bytes that are kept of them: enough to tell that they are too long.
const MAX_KEPT: usize = MAX_TOOL_ARGUMENT_BYTES + 4;

/// A call to be run now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FinishedCall {
    /// The response that holds it; empty if no event has named it.
    pub(super) response_id: String,
    /// Never empty.
    pub(super) call_id: String,
    /// Empty if no event has named it.
    pub(super) name: String,
    /// The longest JSON object that any event had, or else the longest text: it may be empty or invalid.
    pub(super) arguments: String,
    /// See [`FunctionCall::server`].
    pub(super) server: Option<String>,
}

/// What is known of one call.
#[derive(Debug, Default)]
struct Announced {
    response_id: String,
    item_id: String,
    call_id: String,
    name: String,
    /// The deltas of its arguments, joined.
    deltas: String,
    /// The longest arguments that are a JSON object.
    whole: String,
    /// The longest that are none.
    broken: String,
    server: Option<String>,
    /// Since when it is finished.
    finished: Option<Instant>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct AnnouncedCalls {
    calls: VecDeque<Announced>,
    /// Calls that have left.
    run: Seen,
}

impl AnnouncedCalls {
    /// What an event says of a call. The call leaves if it is finished and whole by that.
    /// `interrupted` tells of a response whether the user has interrupted it. A call of such a response
    /// counts when its item is finished; it is not run, so it needs no arguments.
    pub(super) fn learn(
        &mut self,
        news: FunctionCall,
        interrupted: impl Fn(&str) -> bool,
        now: Instant,
    ) -> Option<FinishedCall> {
        if !news.call_id.is_empty() && self.run.has(&news.call_id) {
            return None;
        }
        let at = self.place(&news)?;
        if news.stage == Stage::BrokenOff {
            self.calls.remove(at);
            return None;
        }
        let call = self.calls.get_mut(at)?;
        let stage = news.stage;
        call.learn(news);
        let interrupted = interrupted(&call.response_id);
        let finishes = match stage {
            Stage::Finished => true,
            // Sent for a response that was cut off, too: then only the item's end tells.
            Stage::Written => !interrupted && call.is_whole(),
            Stage::Begun | Stage::More | Stage::BrokenOff => false,
        };
        if finishes {
            call.finished.get_or_insert(now);
        }
        let ready = call.finished.is_some()
            && !call.call_id.is_empty()
            && (interrupted || (call.is_whole() && !call.name.is_empty()));
        ready.then(|| self.leave(at)).flatten()
    }

    /// A response is done: its calls that are finished leave with what is known of them, one after the
    /// other, until there are none; the others are forgotten. If it was `completed`, all that it has
    /// begun is finished.
    pub(super) fn settle(&mut self, response_id: &str, completed: bool) -> Option<FinishedCall> {
        // Events of the conversation do not name the response.
        let is_of =
            |call: &Announced| call.response_id == response_id || call.response_id.is_empty();
        let leaves = |call: &Announced| {
            is_of(call) && !call.call_id.is_empty() && (completed || call.finished.is_some())
        };
        match self.calls.iter().position(leaves) {
            Some(at) => self.leave(at),
            None => {
                self.calls.retain(|call| !is_of(call));
                None
            }
        }
    }

    /// The session with the service is lost: what was not finished never will be. Calls that have left
    /// stay known, since the next session is told them again.
    pub(super) fn session_lost(&mut self) {
        self.calls.clear();
    }

    /// Whether nothing is told that was not run.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// A finished call that has waited long enough. Asked until `None`.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<FinishedCall> {
        let is_due = |call: &Announced| call.until().is_some_and(|until| until <= now);
        let at = self.calls.iter().position(is_due)?;
        self.leave(at)
    }

    /// When [`overdue`](Self::overdue) must be asked at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        // Asked in every turn.
        if self.calls.is_empty() {
            return None;
        }
        self.calls.iter().filter_map(Announced::until).min()
    }

    /// Where the call stands that is meant; a new one if it is not known.
    fn place(&mut self, news: &FunctionCall) -> Option<usize> {
        let same = |ours: &str, theirs: &str| !ours.is_empty() && ours == theirs;
        let known = self.calls.iter().position(|call| {
            same(&call.call_id, &news.call_id)
                || (same(&call.item_id, &news.item_id)
                    && (call.call_id.is_empty() || news.call_id.is_empty()))
        });
        if known.is_some() {
            return known;
        }
        if news.call_id.is_empty() && news.item_id.is_empty() {
            return None;
        }
        if self.calls.len() == MAX_ANNOUNCED {
            self.calls.pop_front();
        }
        self.calls.push_back(Announced::default());
        Some(self.calls.len() - 1)
    }

    fn leave(&mut self, at: usize) -> Option<FinishedCall> {
        let mut call = self.calls.remove(at)?;
        self.run.note(&call.call_id).then(|| {
            call.weigh_deltas();
            let arguments = if call.whole.is_empty() { call.broken } else { call.whole };
            let Announced { response_id, call_id, name, server, .. } = call;
            FinishedCall { response_id, call_id, name, arguments, server }
        })
    }
}

impl Announced {
    fn learn(&mut self, news: FunctionCall) {
        for (ours, theirs) in [
            (&mut self.response_id, news.response_id),
            (&mut self.item_id, news.item_id),
            (&mut self.call_id, news.call_id),
            (&mut self.name, news.name),
        ] {
            if ours.is_empty() {
                *ours = theirs;
            }
        }
        self.server = self.server.take().or(news.server);
        if news.stage == Stage::More {
            let room = MAX_KEPT.saturating_sub(self.deltas.len());
            self.deltas.push_str(bounded_str(&news.arguments, room));
        } else {
            self.weigh(&news.arguments);
        }
    }

    /// Keeps arguments that are better than those known: any JSON object is better than none, and of
    /// two the longer one.
    fn weigh(&mut self, arguments: &str) {
        let arguments = bounded_str(arguments.trim(), MAX_KEPT);
        match json_object(arguments) {
            Some(object) if object.len() > self.whole.len() => self.whole = object,
            None if arguments.len() > self.broken.len() => arguments.clone_into(&mut self.broken),
            _ => {}
        }
    }

    fn weigh_deltas(&mut self) {
        let deltas = std::mem::take(&mut self.deltas);
        self.weigh(&deltas);
    }

    /// Whether there are arguments to run it with, or too many of them.
    fn is_whole(&mut self) -> bool {
        if self.whole.is_empty() {
            let deltas = self.deltas.clone();
            self.weigh(&deltas);
        }
        !self.whole.is_empty() || self.broken.len() > MAX_TOOL_ARGUMENT_BYTES
    }

    fn until(&self) -> Option<Instant> {
        let can_leave = !self.call_id.is_empty();
        self.finished.filter(|_| can_leave).map(|since| since + LATE_ARGUMENTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(stage: Stage, arguments: &str) -> FunctionCall {
        FunctionCall {
            response_id: "r".to_owned(),
            item_id: "i".to_owned(),
            call_id: "c".to_owned(),
            name: "t".to_owned(),
            arguments: arguments.to_owned(),
            stage,
            server: None,
        }
    }

    fn learn(calls: &mut AnnouncedCalls, stage: Stage, arguments: &str) -> Option<String> {
        let finished = calls.learn(call(stage, arguments), |_| false, Instant::now());
        finished.map(|call| call.arguments)
    }

    #[test]
    fn the_longest_object_wins_over_a_longer_text() {
        let mut calls = AnnouncedCalls::default();
        assert_eq!(learn(&mut calls, Stage::Begun, r#"{"a":"#), None);
        assert_eq!(learn(&mut calls, Stage::Begun, "{}"), None);
        assert_eq!(learn(&mut calls, Stage::More, r#"{"a":1"#), None);
        assert_eq!(learn(&mut calls, Stage::Begun, r#"{"a":12}"#), None);
        assert_eq!(learn(&mut calls, Stage::Begun, r#"{"a":34}"#), None, "the first of a length");
        assert_eq!(learn(&mut calls, Stage::Begun, r#"{"a":123456,"#), None);
        assert_eq!(
            learn(&mut calls, Stage::Finished, r#"{"a":1}"#).as_deref(),
            Some(r#"{"a":12}"#)
        );
        assert_eq!(learn(&mut calls, Stage::Finished, r#"{"a":1}"#), None, "it is run once");
    }

    #[test]
    fn a_call_without_arguments_waits_for_them_until_its_response_is_done_or_for_a_second() {
        let now = Instant::now();
        let mut calls = AnnouncedCalls::default();
        assert_eq!(calls.learn(call(Stage::Finished, ""), |_| false, now), None);
        assert_eq!(calls.deadline(), Some(now + LATE_ARGUMENTS));
        assert_eq!(calls.overdue(now), None);
        assert_eq!(calls.settle("other", true), None);
        let finished = calls.settle("r", true).unwrap();
        assert_eq!((finished.call_id.as_str(), finished.arguments.as_str()), ("c", ""));
        assert_eq!((calls.settle("r", true), calls.deadline()), (None, None));

        let mut calls = AnnouncedCalls::default();
        calls.learn(call(Stage::Finished, "nonsense"), |_| false, now);
        assert_eq!(calls.overdue(now + LATE_ARGUMENTS).unwrap().arguments, "nonsense");
    }

    #[test]
    fn a_call_of_an_interrupted_response_counts_when_its_item_is_finished() {
        let now = Instant::now();
        let mut calls = AnnouncedCalls::default();
        assert_eq!(calls.learn(call(Stage::Written, "{}"), |_| true, now), None);
        assert!(calls.learn(call(Stage::Finished, ""), |id| id == "r", now).is_some());
    }

    #[test]
    fn what_was_not_finished_ends_with_its_response() {
        let mut calls = AnnouncedCalls::default();
        learn(&mut calls, Stage::Begun, "{}");
        assert_eq!(calls.settle("r", false), None);
        assert!(calls.calls.is_empty());
        learn(&mut calls, Stage::Begun, "{}");
        assert!(calls.settle("r", true).is_some(), "a completed response has finished it");
        learn(&mut calls, Stage::Begun, "{}");
        learn(&mut calls, Stage::BrokenOff, "{}");
        assert!(calls.calls.is_empty());
    }

    #[test]
    fn calls_and_their_arguments_are_bounded() {
        let mut calls = AnnouncedCalls::default();
        let long = format!(r#"{{"a":"{}"}}"#, "é".repeat(MAX_TOOL_ARGUMENT_BYTES));
        for _ in 0..100 {
            learn(&mut calls, Stage::More, &long);
        }
        assert_eq!(calls.calls[0].deltas.len(), MAX_KEPT);
        let arguments = learn(&mut calls, Stage::Finished, &long).unwrap();
        assert!(arguments.len() > MAX_TOOL_ARGUMENT_BYTES && arguments.len() <= MAX_KEPT);
        for id in 0..100 {
            let id = id.to_string();
            let news = FunctionCall { call_id: id.clone(), item_id: id, ..call(Stage::Begun, "") };
            calls.learn(news, |_| false, Instant::now());
        }
        assert_eq!(calls.calls.len(), MAX_ANNOUNCED);
    }
}
