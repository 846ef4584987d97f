//! What the service says, and what follows from it.
//!
//! Which events count depends on the call's state: before it is active only the session's own events
//! and errors do. A service that talks too early is ignored, not punished: there is nothing that the
//! client could do with it.

use std::time::Instant;

use super::captions::Told;
use super::client::{self, Role, quoted};
use super::ending::{EndReason, ServiceFault};
use super::response_gate::{Maker, ResponseRequest};
use super::service::{Part, ServiceError, ServiceEvent, commands};
use super::{Call, Output, State};

/// Codes of errors that no further try mends.
pub(super) const HOPELESS: [&str; 5] = [
    "insufficient_quota",
    "credit_balance_exhausted",
    "invalid_api_key",
    "account_deactivated",
    "billing_hard_limit_reached",
];

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
        if self.unconfirmed > 0 {
            self.confirm_items(&event);
        }
        match &event {
            ServiceEvent::ReplyTextDelta { response_id, .. } => {
                self.sign_of_reply(response_id, now)
            }
            event => {
                if let Some(response_id) = event.response_id() {
                    self.sign_of_life(response_id, now);
                }
            }
        }
        match event {
            ServiceEvent::SpeechStarted { item_id } => self.on_speech_started(&item_id, now),
            ServiceEvent::SpeechStopped { item_id } => self.on_speech_stopped(&item_id, now),
            ServiceEvent::Committed { item_id } => self.on_committed(&item_id, now),
            ServiceEvent::UserTranscriptDelta { part, text } => {
                self.on_words(Role::User, "", &part, &text);
            }
            ServiceEvent::UserTranscript { part, text } => {
                self.rollover.words_came();
                if !self.weigh_words(&part.item_id, &text, now) {
                    self.history.user_said(&part.item_id, &text);
                }
                self.settle_turn(Some(&part.item_id));
                let text = self.captions.finish(Role::User, &part, &text);
                self.tell_transcript(Role::User, &part, text);
            }
            ServiceEvent::UserTranscriptFailed { part, error } => {
                self.rollover.words_came();
                self.settle_turn(Some(&part.item_id));
                self.judge_by_length(now);
                self.on_transcript_failed(&part, error);
            }
            ServiceEvent::ResponseCreated { response_id, ours } => {
                let maker = if ours { Maker::Us } else { Maker::Service };
                self.open_response(&response_id, maker, now);
            }
            // The words of an interrupted response are dropped as its audio is: the client would show
            // what nobody heard.
            ServiceEvent::ReplyTextDelta { response_id, part, text }
                if !self.is_interrupted(&response_id) =>
            {
                self.settle_turn(None);
                self.history.assistant_says(&part.item_id, &text);
                self.on_words(Role::Assistant, &response_id, &part, &text);
            }
            ServiceEvent::ReplyText { response_id, part, text } => {
                self.on_all_words(&response_id, &part, &text);
            }
            ServiceEvent::Words { by_user: true, words, .. } => self.on_users_item(&words),
            // Without a response the item is one that is taken over from another session.
            ServiceEvent::Words { response_id, words, .. }
                if !response_id.is_empty() || self.gate.active().is_some() =>
            {
                self.on_item_words(&response_id, &words);
            }
            ServiceEvent::FunctionCall(call) => self.on_function_call(*call, now),
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

    /// All words of a part of the reply. Of an interrupted one nobody has heard them all.
    fn on_all_words(&mut self, response_id: &str, part: &Part, text: &str) {
        let text = if self.is_interrupted(response_id) {
            self.captions.cut_off(part)
        } else {
            self.history.assistant_said(&part.item_id, text);
            self.captions.finish(Role::Assistant, part, text)
        };
        self.tell_transcript(Role::Assistant, part, text);
    }

    /// The same, as an item has them: told now unless an event of their own has told them.
    pub(super) fn on_item_words(&mut self, response_id: &str, words: &[(Part, String)]) {
        for (part, text) in words {
            if !self.captions.has_told(Role::Assistant, part, text) {
                self.on_all_words(response_id, part, text);
            }
        }
    }

    /// What the user has said, as its item has it.
    fn on_users_item(&mut self, words: &[(Part, String)]) {
        for (part, text) in words {
            if !self.captions.has_told(Role::User, part, text) {
                self.history.user_said(&part.item_id, text);
                let text = self.captions.finish(Role::User, part, text);
                self.tell_transcript(Role::User, part, text);
            }
        }
    }

    fn on_words(&mut self, role: Role, response_id: &str, part: &Part, text: &str) {
        if let Some(text) = self.captions.push(role, response_id, part, text) {
            self.tell(client::transcript_delta(role, part, &text));
        }
    }

    pub(super) fn tell_transcript(&mut self, role: Role, part: &Part, text: Option<String>) {
        if let Some(text) = text {
            self.tell(client::transcript(role, part, &text));
        }
    }

    /// What the user said has no transcript. The model has heard it all the same, so the conversation
    /// goes on.
    fn on_transcript_failed(&mut self, part: &Part, error: Box<ServiceError>) {
        let before = self.captions.fail(part);
        if before.is_none() {
            self.tell(client::transcript_failed(&part.item_id));
        }
        if before != Some(Told::Failed) {
            self.outputs.push_back(Output::TranscriptFailed { error });
        }
    }

    /// An `error` event. What it means depends on the state: before the call is active it is the end,
    /// because the call would go on without a session or with other settings. In a running call it
    /// is a sentence for the client, and the call goes on.
    fn on_error(&mut self, error: &ServiceError, now: Instant) {
        // An error of a new session that names no setting is the service's trouble of the moment.
        let of_settings = error.event_id == commands::EVENT_CONFIG || !error.param.is_empty();
        let fails_try = self.is_reconnecting() && !of_settings;
        if error.code == "session_expired" {
            self.on_session_expired(now);
        } else if self.state == State::Connecting || fails_try {
            let said = quoted(&error.message);
            let advice = if self.is_reconnecting() { "" } else { " Check VOICE_LIVE_MODEL." };
            let message = format!("The voice service reports: {said}{advice}");
            let retryable = !HOPELESS.contains(&error.code.as_str());
            let fault =
                ServiceFault { word: "service_error", message, retryable, retry_after: None };
            self.on_service_lost(fault, now);
        } else if !self.is_active() || error.event_id == commands::EVENT_CONFIG {
            // The service's defaults would stay in force: another voice, another prompt.
            self.end(EndReason::SessionRefused(refusal(error)), now);
        } else {
            self.on_talk_error(error, now);
        }
    }

    /// An error in a running call. Nobody is told of the harmless ones; the session logs them all.
    fn on_talk_error(&mut self, error: &ServiceError, now: Instant) {
        if let Some(id) = error.event_id.strip_prefix(commands::EVENT_REPLAY) {
            return self.forget_item(id);
        }
        if error.event_id == commands::EVENT_TOOLS {
            // The old tools stay in force, and the call goes on with them.
            return;
        }
        match error.code.as_str() {
            "conversation_already_has_active_response" => self.gate.refused(now),
            _ if error.is_harmless() => {}
            // An old api-version has no metadata: the request goes out again without.
            _ if error.event_id == commands::EVENT_CREATE
                && error.param.contains("metadata")
                && std::mem::take(&mut self.session.tags) =>
            {
                self.gate.again();
            }
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
