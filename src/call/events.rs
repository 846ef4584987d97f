//! What the service says, and what follows from it.
//!
//! Which events count depends on the call's state: before it is active only the session's own events
//! and errors do. A service that talks too early is ignored, not punished: there is nothing that the
//! client could do with it.

use std::time::Instant;

use super::client::{self, ToolState, quoted};
use super::ending::{EndReason, ServiceFault};
use super::playback::whole_ms;
use super::response_gate::ResponseRequest;
use super::service::{FunctionCall, Part, ServiceError, ServiceEvent, commands};
use super::tool_calls::{OpenCall, Opened};
use super::{Call, Output, State};

/// Longest tool output passed to the model, in bytes.
const MAX_TOOL_OUTPUT_BYTES: usize = 64 * 1024;
/// Longest arguments passed to a tool, in bytes.
const MAX_TOOL_ARGUMENT_BYTES: usize = 64 * 1024;

impl Call {
    pub(super) fn on_service(&mut self, event: ServiceEvent<'_>, now: Instant) {
        match event {
            ServiceEvent::SessionCreated(session) => self.configure(&session),
            ServiceEvent::SessionUpdated(session) => self.activate(&session, now),
            ServiceEvent::Error(error) => self.on_error(&error, now),
            event if self.is_active() => self.on_talk(event, now),
            // Nothing of a session that is not configured concerns the client.
            _ => {}
        }
    }

    fn on_talk(&mut self, event: ServiceEvent<'_>, now: Instant) {
        if let Some(response_id) = event.response_id() {
            self.sign_of_life(response_id, now);
        }
        match event {
            ServiceEvent::SpeechStarted { item_id } => self.on_speech_started(&item_id, now),
            ServiceEvent::SpeechStopped { item_id } => self.on_speech_stopped(&item_id, now),
            ServiceEvent::Committed { item_id } => self.on_committed(&item_id, now),
            ServiceEvent::UserTranscriptDelta { part, text } => {
                self.on_words("user", None, &part, &text);
            }
            ServiceEvent::UserTranscript { part, text } => {
                let text = self.captions.finish(&part, &text);
                self.tell_transcript("user", &part, text);
            }
            ServiceEvent::UserTranscriptFailed { part, error } => {
                self.on_transcript_failed(&part, error);
            }
            ServiceEvent::ResponseCreated { response_id } => self.open_response(&response_id, now),
            // The words of an interrupted response are dropped as its audio is: the client would show
            // what nobody heard.
            ServiceEvent::ReplyTextDelta { response_id, part, text }
                if !self.interrupted.is(&response_id) =>
            {
                self.on_words("assistant", Some(&response_id), &part, &text);
            }
            ServiceEvent::ReplyText { response_id, part, text } => {
                let text = if self.interrupted.is(&response_id) {
                    self.captions.cut_off(&part)
                } else {
                    self.captions.finish(&part, &text)
                };
                self.tell_transcript("assistant", &part, text);
            }
            ServiceEvent::FunctionCall(call) => self.on_function_call(*call, now),
            // Nobody is asked for approval, so it is refused: the model then says so.
            ServiceEvent::ApprovalRequest { id } => {
                self.send(commands::approval(&id, false));
                self.gate.want(ResponseRequest::Answer);
            }
            ServiceEvent::McpCallFinished => self.gate.want(ResponseRequest::Answer),
            ServiceEvent::ResponseDone(done) => self.on_response_done(&done, now),
            // The session logs warnings.
            _ => {}
        }
    }

    fn on_words(&mut self, role: &str, response_id: Option<&str>, part: &Part, text: &str) {
        if let Some(text) = self.captions.push(response_id, part, text) {
            self.tell(client::transcript_delta(role, part, &text));
        }
    }

    pub(super) fn tell_transcript(&mut self, role: &str, part: &Part, text: Option<String>) {
        if let Some(text) = text {
            self.tell(client::transcript(role, part, &text));
        }
    }

    /// What the user said has no transcript. The model has heard it all the same, so the conversation
    /// goes on.
    fn on_transcript_failed(&mut self, part: &Part, error: Box<ServiceError>) {
        if self.captions.fail(part) {
            self.tell(client::transcript_failed(&part.item_id));
            self.outputs.push_back(Output::TranscriptFailed { error });
        }
    }

    /// The model calls a tool. Every call that stands in the conversation gets exactly one output,
    /// also if it is not run: without one the model would never learn what became of it.
    fn on_function_call(&mut self, call: FunctionCall, now: Instant) {
        // The items of a cancelled response come to their end too, as incomplete.
        if !call.completed || call.call_id.is_empty() {
            return;
        }
        if self.interrupted.is(&call.response_id) {
            // It is in the conversation, so it needs an output, but nobody waits for the work.
            let output = r#"{"error":"The user interrupted before the tool was run."}"#;
            self.send(commands::function_call_output(&call.call_id, output));
            return;
        }
        match self.tools.open(&call.call_id, &call.name, now) {
            Opened::Run if call.arguments.len() > MAX_TOOL_ARGUMENT_BYTES => {
                self.outputs.push_back(Output::ToolRefused);
                let output = r#"{"error":"The arguments are too long."}"#;
                self.on_tool_finished(&call.call_id, output, false, now);
            }
            Opened::Run => {
                self.tell(client::tool(&call.name, ToolState::Running, 0));
                let FunctionCall { call_id, name, arguments, .. } = call;
                self.outputs.push_back(Output::RunTool { call_id, name, arguments });
            }
            Opened::TooMany => {
                self.outputs.push_back(Output::ToolRefused);
                let output = r#"{"error":"Too many tools are running at once."}"#;
                self.send(commands::function_call_output(&call.call_id, output));
                self.tell(client::tool(&call.name, ToolState::Failed, 0));
            }
            Opened::Ignore => {}
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
        self.send(commands::function_call_output(call_id, output));
        self.tell_tool_end(&call, ok && fits, now);
    }

    pub(super) fn tell_tool_end(&mut self, call: &OpenCall, ok: bool, now: Instant) {
        let state = if ok { ToolState::Done } else { ToolState::Failed };
        let ms = whole_ms(now.saturating_duration_since(call.started));
        self.tell(client::tool(&call.name, state, ms));
    }

    /// An `error` event. What it means depends on the state: before the call is active it is the end,
    /// because the call would go on without a session or with other settings. In a running call it
    /// is a sentence for the client, and the call goes on.
    fn on_error(&mut self, error: &ServiceError, now: Instant) {
        if error.code == "session_expired" {
            self.end(EndReason::SessionExpired, now);
        } else if self.state == State::Connecting {
            let said = quoted(&error.message);
            let message = format!("The voice service reports: {said} Check VOICE_LIVE_MODEL.");
            let fault = ServiceFault { word: "service_error", message, retryable: false };
            self.end(EndReason::Service(fault), now);
        } else if !self.is_active() || error.event_id == commands::EVENT_CONFIG {
            // The service's defaults would stay in force: another voice, another prompt.
            self.end(EndReason::SessionRefused(refusal(error)), now);
        } else {
            self.on_talk_error(error, now);
        }
    }

    /// An error in a running call. Some are the ordinary outcome of a race (a response ended while it
    /// was being cancelled or cut), so nobody is told of them.
    fn on_talk_error(&mut self, error: &ServiceError, now: Instant) {
        let harmless = error.event_id == commands::EVENT_TRUNCATE
            || error.event_id == commands::EVENT_CANCEL
            || error.event_id == commands::EVENT_COMMIT
            || error.param.ends_with("audio_end_ms");
        match error.code.as_str() {
            "conversation_already_has_active_response" => self.gate.refused(now),
            "response_cancel_not_active" | "input_audio_buffer_commit_empty" => {}
            _ if harmless => {}
            code => {
                if error.event_id == commands::EVENT_CREATE {
                    self.gate.failed();
                    self.limits.touch(now);
                }
                let code = if code.is_empty() { "service_error" } else { code };
                let text = format!("The voice service reports: {}", quoted(&error.message));
                self.error(code, &text);
            }
        }
    }
}

/// The sentence for a refused configuration: it quotes the service, and names the setting.
fn refusal(error: &ServiceError) -> String {
    let mut text =
        format!("The voice service refused the session's settings: {}", quoted(&error.message));
    if !error.param.is_empty() {
        text.push_str(" The setting is ");
        text.push_str(&error.param);
        text.push('.');
    }
    text
}
