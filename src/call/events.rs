//! What the service says, and what follows from it.
//!
//! Which events count depends on the call's state: before it is active only the session's own events
//! and errors do. A service that talks too early is ignored, not punished: there is nothing that the
//! client could do with it.

use std::time::Instant;

use super::client;
use super::ending::{EndReason, ServiceFault};
use super::response_gate::ResponseRequest;
use super::service::{ResponseDone, ServiceError, ServiceEvent, commands};
use super::{Call, State};

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
        match event {
            ServiceEvent::SpeechStarted => self.on_speech_started(now),
            ServiceEvent::SpeechStopped => self.on_speech_stopped(now),
            ServiceEvent::Committed => self.on_committed(now),
            ServiceEvent::UserTranscriptDelta { item_id, text } if !text.is_empty() => {
                self.tell(client::transcript_delta("user", &item_id, &text));
            }
            ServiceEvent::UserTranscript { text, .. } if !text.trim().is_empty() => {
                self.tell(client::transcript("user", &text));
            }
            ServiceEvent::ResponseCreated { response_id } => self.on_response_created(&response_id),
            ServiceEvent::ReplyTextDelta { response_id, item_id, text } => {
                self.on_reply_delta(&response_id, &item_id, &text);
            }
            ServiceEvent::ReplyText { response_id, text, .. } => {
                let cut_off = self.interrupted.is(&response_id);
                let text =
                    if cut_off { self.captions.cut_off() } else { self.captions.finish(&text) };
                self.tell_reply(text);
            }
            ServiceEvent::FunctionCall(call) => self.on_function_call(*call, now),
            ServiceEvent::ApprovalRequest { id } => self.on_approval_request(&id),
            ServiceEvent::McpCallFinished => self.gate.want(ResponseRequest::Answer),
            ServiceEvent::ResponseDone(mut done) => {
                // What it calls is answered or begun before it counts as over: one follow-up answers all.
                self.on_response_output(&mut done, now);
                self.on_response_done(&done, now);
            }
            // The session logs warnings.
            _ => {}
        }
    }

    /// The audio of the user's turn is in the conversation. A service that does not answer spoken
    /// turns by itself is asked to; asking at `speech_stopped` would be too early, for the turn is
    /// not in the conversation then.
    fn on_committed(&mut self, now: Instant) {
        self.gate.committed(now);
        if !self.session.turns.create_response {
            self.gate.want(ResponseRequest::Answer);
        }
    }

    /// A new response. An interruption of an earlier one ends here: its id can no longer occur in
    /// what comes, and the new one must be heard.
    fn on_response_created(&mut self, response_id: &str) {
        let stop = self.gate.created(response_id);
        self.interrupted.clear();
        if stop {
            self.interrupted.set(response_id);
            self.send(commands::response_cancel(response_id));
        }
        self.tell(client::response_started());
    }

    /// Words of the reply. Those of an interrupted response are dropped as its audio is: the client
    /// would show what nobody heard.
    fn on_reply_delta(&mut self, response_id: &str, item_id: &str, text: &str) {
        if text.is_empty() || self.interrupted.is(response_id) {
            return;
        }
        self.captions.push(item_id, text);
        self.tell(client::transcript_delta("assistant", item_id, text));
    }

    fn tell_reply(&mut self, text: Option<String>) {
        if let Some(text) = text {
            self.tell(client::transcript("assistant", &text));
        }
    }

    /// The response has ended, however. It is told to the client also when it was interrupted, since
    /// a client that shows "answering" waits for it.
    fn on_response_done(&mut self, done: &ResponseDone, now: Instant) {
        self.limits.touch(now);
        if self.gate.done(&done.response_id) {
            // A response that broke off may have words whose end never came.
            let broken_off = self.captions.cut_off();
            self.tell_reply(broken_off);
        }
        if self.interrupted.is(&done.response_id) {
            self.interrupted.clear();
        }
        let status = if done.status.is_empty() { "completed" } else { done.status.as_str() };
        self.tell(client::response_done(status));
        if let Some(usage) = done.usage {
            self.totals.input_tokens = self.totals.input_tokens.saturating_add(usage.input_tokens);
            self.totals.output_tokens =
                self.totals.output_tokens.saturating_add(usage.output_tokens);
        }
        self.send_usage(now);
        if status == "failed" {
            let text = format!("The voice service could not answer: {}", quoted(&done.error));
            self.error("response_failed", &text);
        }
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

    /// An error in a running call. Nobody is told of the harmless ones; the session logs them all.
    fn on_talk_error(&mut self, error: &ServiceError, now: Instant) {
        match error.code.as_str() {
            "conversation_already_has_active_response" => self.gate.refused(now),
            _ if error.is_harmless() => {}
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

/// A text of the service as the end of one of our sentences.
fn quoted(message: &str) -> String {
    match message.trim() {
        "" => "it gives no reason.".to_owned(),
        text if text.ends_with(['.', '!', '?']) => text.to_owned(),
        text => format!("{text}."),
    }
}
