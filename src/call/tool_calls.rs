//! Function calls of the model that are run: what has no output yet, and what a call is answered.
//!
//! Every call id is answered exactly once: by the tool, by its deadline, or at once when there are
//! too many. Without an answer the model would never learn what became of its call, and no
//! follow-up would come.
//!
//! One follow-up is due when all of a batch are answered. One for each would make the model speak
//! about the first result before it knows the others.

use std::time::{Duration, Instant};

use super::announced_calls::{FinishedCall, MAX_TOOL_ARGUMENT_BYTES};
use super::client::{self, ToolState};
use super::playback::whole_ms;
use super::service::{FunctionCall, ResponseDone};
use super::{Call, Output};

/// Longest tool output passed to the model, in bytes.
const MAX_TOOL_OUTPUT_BYTES: usize = 64 * 1024;
/// How long a tool may take, unless it was said that it takes longer. After that its call is answered with an
/// error, so that the model can say so. The loop ends the run by its own, shorter limits; this one holds if
/// that fails.
pub const TOOL_TIMEOUT: Duration = Duration::from_secs(30);
/// Calls open at the same time; those beyond it are answered with an error at once.
pub const MAX_OPEN_CALLS: usize = 8;

/// A function call whose tool is running.
#[derive(Debug)]
pub(super) struct OpenCall {
    pub(super) call_id: String,
    pub(super) name: String,
    pub(super) response_id: String,
    pub(super) started: Instant,
    deadline: Instant,
}

/// What became of a new call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// It is open: run the tool.
    Run,
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
    /// A new call of the model, with an id that was not opened before. One that is
    /// [`TooMany`](Opened::TooMany) counts as answered: the caller must send the error.
    pub(super) fn open(
        &mut self,
        call_id: &str,
        name: &str,
        response_id: &str,
        now: Instant,
    ) -> Opened {
        if self.open.len() == MAX_OPEN_CALLS {
            self.answered = true;
            return Opened::TooMany;
        }
        self.open.push(OpenCall {
            call_id: call_id.to_owned(),
            name: name.to_owned(),
            response_id: response_id.to_owned(),
            started: now,
            deadline: now + TOOL_TIMEOUT,
        });
        Opened::Run
    }

    /// Closes a call; `None` if it is not open (answered by its deadline, say).
    pub(super) fn close(&mut self, call_id: &str) -> Option<OpenCall> {
        let call = self.close_alone(call_id)?;
        self.answered = true;
        Some(call)
    }

    /// Closes a call whose answer alone asks for no follow-up.
    pub(super) fn close_alone(&mut self, call_id: &str) -> Option<OpenCall> {
        let index = self.open.iter().position(|call| call.call_id == call_id)?;
        Some(self.open.remove(index))
    }

    /// Closes a call that the user has stopped. Nobody waits for a follow-up then, also not one about others
    /// of its batch. Asked until `None`.
    pub(super) fn close_stopped(&mut self, may_stop: impl Fn(&str) -> bool) -> Option<OpenCall> {
        let index = self.open.iter().position(|call| may_stop(&call.call_id))?;
        self.answered = false;
        Some(self.open.remove(index))
    }

    /// An open call may take longer than others.
    pub(super) fn takes(&mut self, call_id: &str, most: Duration) {
        if let Some(call) = self.open.iter_mut().find(|call| call.call_id == call_id) {
            call.deadline = call.deadline.max(call.started + most);
        }
    }

    /// The tool of an open call.
    pub(super) fn name(&self, call_id: &str) -> Option<&str> {
        self.open.iter().find(|call| call.call_id == call_id).map(|call| call.name.as_str())
    }

    /// An open call waits for the user until then. Its own deadline comes only after that.
    pub(super) fn waits(&mut self, call_id: &str, until: Instant) {
        if let Some(call) = self.open.iter_mut().find(|call| call.call_id == call_id) {
            call.deadline = until + TOOL_TIMEOUT;
        }
    }

    /// An open call has waited for the user, and begins now.
    pub(super) fn begins(&mut self, call_id: &str, now: Instant) {
        if let Some(call) = self.open.iter_mut().find(|call| call.call_id == call_id) {
            (call.started, call.deadline) = (now, now + TOOL_TIMEOUT);
        }
    }

    /// Closes one call that is past its deadline; the caller must send its error. Asked until `None`.
    pub(super) fn close_overdue(&mut self, now: Instant) -> Option<OpenCall> {
        let index = self.open.iter().position(|call| call.deadline <= now)?;
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
        self.open.iter().map(|call| call.deadline).min()
    }
}

impl Call {
    /// What an event says of a function call. It is run once, as soon as it is finished and whole.
    pub(super) fn on_function_call(&mut self, call: FunctionCall, now: Instant) {
        self.learn_call(call, false, now);
    }

    /// The items of a response that is done. Some services tell a call here alone; and no event of
    /// the response will complete a call any more.
    pub(super) fn on_response_output(&mut self, done: &mut ResponseDone, now: Instant) {
        let cancelled = done.status == "cancelled";
        let completed = matches!(done.status.as_str(), "completed" | "");
        for call in std::mem::take(&mut done.calls) {
            self.learn_call(call, cancelled, now);
        }
        while let Some(call) = self.announced.settle(&done.response_id, completed) {
            self.run_call(call, cancelled, now);
        }
    }

    /// Finished calls whose arguments have not come in time are run without them.
    pub(super) fn run_overdue_calls(&mut self, now: Instant) {
        while let Some(call) = self.announced.overdue(now) {
            self.run_call(call, false, now);
        }
    }

    fn learn_call(&mut self, call: FunctionCall, cancelled: bool, now: Instant) {
        let interrupted = &self.interrupted;
        let interrupted = |response_id: &str| cancelled || interrupted.is(response_id);
        if let Some(call) = self.announced.learn(call, interrupted, now) {
            self.run_call(call, cancelled, now);
        }
    }

    /// The model calls a tool. Every call that stands in the conversation gets exactly one output,
    /// also if it is not run: without one the model would never learn what became of it.
    fn run_call(&mut self, call: FinishedCall, cancelled: bool, now: Instant) {
        self.settle_turn(None);
        if call.server.is_some() {
            return self.on_approval_request(call, cancelled, now);
        }
        self.history.tool_called(&call.call_id, &call.name, &call.arguments);
        if cancelled || self.interrupted.is(&call.response_id) {
            // It is in the conversation, so it needs an output, but nobody waits for the work.
            let output = r#"{"error":"The user interrupted before the tool was run."}"#;
            self.answer_call(&call.call_id, output);
            return;
        }
        match self.tools.open(&call.call_id, &call.name, &call.response_id, now) {
            Opened::Run if call.arguments.len() > MAX_TOOL_ARGUMENT_BYTES => {
                self.outputs.push_back(Output::ToolRefused);
                let output = r#"{"error":"The arguments are too long."}"#;
                self.on_tool_finished(&call.call_id, output, false, now);
            }
            Opened::Run => {
                self.tell(client::tool(&call.name, ToolState::Running, 0));
                let FinishedCall { call_id, name, arguments, .. } = call;
                self.first_audio.explain();
                self.outputs.push_back(Output::RunTool { call_id, name, arguments });
            }
            Opened::TooMany => {
                self.outputs.push_back(Output::ToolRefused);
                let output = r#"{"error":"Too many tools are running at once."}"#;
                self.answer_call(&call.call_id, output);
                self.tell(client::tool(&call.name, ToolState::Failed, 0));
            }
        }
    }

    /// A tool has ended. Its output goes to the service at once; the answer is asked for when the
    /// whole batch is complete.
    pub(super) fn on_tool_finished(&mut self, call_id: &str, output: &str, ok: bool, now: Instant) {
        // Not open any more: its deadline has answered for it.
        let Some(call) = self.tools.close(call_id) else {
            return;
        };
        self.limits.touch(now);
        let fits = output.len() <= MAX_TOOL_OUTPUT_BYTES;
        let output = if fits { output } else { r#"{"error":"The tool's output is too long."}"# };
        self.answer_call(call_id, output);
        self.tell_tool_end(&call, ok && fits, now);
    }

    /// The user stops what the tools are at. The model is told, and not asked to speak about it. A question that
    /// is open stays: it has its own two buttons.
    pub(super) fn stop_tools(&mut self, now: Instant) {
        loop {
            let questions = &self.questions;
            let stopped = self.tools.close_stopped(|id| !questions.are_about(id));
            let Some(call) = stopped else { return };
            let output = r#"{"error":"The user stopped it before it was done."}"#;
            self.answer_call(&call.call_id, output);
            self.tell_tool_end(&call, false, now);
            self.outputs.push_back(Output::StopTool { call_id: call.call_id });
        }
    }

    pub(super) fn tell_tool_end(&mut self, call: &OpenCall, ok: bool, now: Instant) {
        let state = if ok { ToolState::Done } else { ToolState::Failed };
        let ms = whole_ms(now.saturating_duration_since(call.started));
        self.tell(client::tool(&call.name, state, ms));
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
        assert_eq!(calls.open("a", "t", "r", now), Opened::Run);
        assert_eq!(calls.open("b", "t", "r", now), Opened::Run);
        assert!(calls.close("a").is_some() && calls.close("a").is_none());
        assert!(!calls.take_complete_batch());
        assert!(calls.close_overdue(now).is_none());
        assert!(calls.close_overdue(now + TOOL_TIMEOUT).is_some());
        assert!(calls.take_complete_batch());
        assert!(!calls.take_complete_batch());
    }

    #[test]
    fn a_call_that_takes_longer_is_given_its_time() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut calls = ToolCalls::default();
        calls.open("a", "t", "r", now);
        calls.takes("a", second);
        assert_eq!(calls.deadline(), Some(now + TOOL_TIMEOUT), "never less than others");
        calls.takes("a", second * 90);
        assert!(calls.close_overdue(now + second * 89).is_none());
        assert!(calls.close_overdue(now + second * 90).is_some());
    }

    #[test]
    fn open_calls_are_bounded() {
        let now = Instant::now();
        let mut calls = ToolCalls::default();
        for index in 0..MAX_OPEN_CALLS {
            assert_eq!(calls.open(&index.to_string(), "t", "r", now), Opened::Run);
        }
        assert_eq!(calls.open("more", "t", "r", now), Opened::TooMany);
    }
}
