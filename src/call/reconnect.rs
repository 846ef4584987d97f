//! A running call loses its session with the service, and goes on with another one.
//!
//! ```text
//! Active ──lost──► Lost ──try is due──► Connecting ─► Configuring ──session.updated──► Active
//!                   ▲                        └──────────┴── the try fails ──┐
//!                   └───────────────────────────────────────────────────────┘
//! ```
//!
//! A call that was never active does not come here: its caller has said nothing yet, and hears at once
//! what is wrong.
//!
//! What was under way is settled when the session is lost. Reply audio that has come is played to its
//! end; if the user cuts it short there, every later session is told so. A reply that had begun is not asked for again, since the user has heard some of it, unless
//! the owner wants it continued; one that was
//! asked for and had not begun is. The user's turn is sent again as audio if its words are not known.
//! The rest of the conversation is sent again as text (`history`).

use std::time::Instant;

use super::client::{self, CallState};
use super::ending::{EndReason, ServiceFault};
use super::outage::{Outage, SETTLED};
use super::response_gate::ResponseRequest;
use super::service::ServiceEvent;
use super::service::commands::{self, Item};
use super::service_session::ServiceSession;
use super::{Call, KEPT_BYTES, Output, Restored, State};

/// Microphone audio that is kept of what was sent while nobody speaks, in bytes: 1.5 s. Speech is heard by
/// the service a moment before it says so. And a service that is lost may not have had what was under way:
/// 64 KiB in the kernel and 16 KiB in front of it, 1.25 s as base64.
const KEPT_QUIET_BYTES: usize = 72_000;

impl Call {
    /// The service was lost, or a try to reach it has failed. Before the call was active, and for a
    /// reason that no further try can mend, it is the call's end.
    pub(super) fn on_service_lost(&mut self, fault: ServiceFault, now: Instant) {
        let may_retry = fault.retryable && self.may_reconnect();
        match self.state {
            State::Ended | State::Lost => {}
            State::Active { since } if may_retry => {
                if !self.is_replaced(&fault, now) {
                    self.lose_session(since, fault, now);
                }
            }
            State::Connecting | State::Configuring if may_retry => self.fail_try(fault, now),
            State::Connecting | State::Configuring | State::Active { .. } => {
                self.end(EndReason::Service(fault), now);
            }
        }
    }

    /// The service's session has lasted as long as it may. A new one is asked for.
    pub(super) fn on_session_expired(&mut self, now: Instant) {
        if !self.may_reconnect() {
            return self.end(EndReason::SessionExpired, now);
        }
        let fault = ServiceFault {
            word: "session_expired",
            message: "The voice service ends sessions of this length.".to_owned(),
            retryable: true,
            retry_after: None,
        };
        self.on_service_lost(fault, now);
    }

    /// Whether the call was active once and may go on without the service for a while.
    fn may_reconnect(&self) -> bool {
        self.limits.active_since().is_some() && !self.settings.reconnect.is_zero()
    }

    /// Whether the call is between two sessions.
    pub(super) fn is_reconnecting(&self) -> bool {
        !self.is_active() && self.outage.is_some() && self.state != State::Ended
    }

    /// Active → Lost. A session that did not last is the same outage still: otherwise a service that
    /// accepts every session and drops it at once would be asked for ever. One that has not confirmed what it
    /// was told of the conversation may have been lost over that, so the waits go on doubling.
    fn lose_session(&mut self, since: Instant, fault: ServiceFault, now: Instant) {
        self.settle(now);
        self.limits.touch(now);
        let session = std::mem::replace(&mut self.session, ServiceSession::new());
        self.conversation = session.conversation;
        let active_for = now.saturating_duration_since(since);
        match &mut self.outage {
            Some(outage) if active_for < SETTLED || self.unconfirmed > 0 => {
                let patience = Some(self.settings.reconnect).filter(|_| active_for >= SETTLED);
                outage.lost_again(patience, fault.retry_after, &mut self.jitter, now);
            }
            _ => {
                let patience = self.settings.reconnect;
                let wait = fault.retry_after;
                let outage = Outage::new(active_for, patience, wait, &mut self.jitter, now);
                self.outage = Some(outage);
            }
        }
        self.go_on_without(fault, now);
    }

    /// Connecting, Configuring → Lost.
    fn fail_try(&mut self, fault: ServiceFault, now: Instant) {
        self.session = ServiceSession::new();
        if let Some(outage) = &mut self.outage {
            outage.failed(fault.retry_after, &mut self.jitter, now);
        }
        self.go_on_without(fault, now);
    }

    fn go_on_without(&mut self, fault: ServiceFault, now: Instant) {
        if self.outage.as_ref().is_none_or(|outage| outage.is_over(now)) {
            return self.end(EndReason::Service(fault), now);
        }
        let news = self.is_active();
        self.state = State::Lost;
        self.outputs
            .push_back(Output::DropSession { word: fault.word, message: fault.message.clone() });
        // Tries that fail after that are no news to the user.
        if news {
            let state = CallState::Reconnecting { reason: fault.word, message: &fault.message };
            self.tell(client::call_state(state));
        }
        self.last_fault = Some(fault);
    }

    /// Ends what was under way in the lost session. The client is told the end of a response as ever,
    /// since it shows "answering" until then.
    pub(super) fn settle(&mut self, now: Instant) {
        self.settle_hold(now);
        let active = self.gate.active().map(str::to_owned);
        let begun = active.as_deref().is_some_and(|id| self.playback.has_audio_of(id));
        let broken_off = begun && active.as_deref().is_some_and(|id| !self.interrupted.is(id));
        if let Some(response_id) = active {
            let words = self.captions.end(&response_id, false);
            self.tell_end(&response_id, words, super::responses::LOST);
        }
        // The audio of a turn whose words are not known goes to the next session.
        let committed = self.open_turn.take().is_some();
        self.gate.session_lost(begun, committed || self.end_of_turn.is_untold());
        // An agent keeps its instructions to itself, and they cannot be added to.
        let may_go_on = self.settings.continue_reply && self.settings.assistant.is_empty();
        self.go_on = broken_off && may_go_on && !committed && !self.gate.is_wanted();
        if self.go_on {
            self.gate.want(ResponseRequest::Answer);
        }
        self.end_of_turn.session_lost(committed, self.session.turns.detects);
        self.announced.session_lost();
        self.withdraw_requests();
        self.history.settle();
        // The ids of another session may be the same.
        self.captions = Default::default();
        self.interrupted = Default::default();
    }

    /// What is due of an outage: the next try, the end of a try that stalls, or the end of all tries.
    pub(super) fn on_outage_tick(&mut self, now: Instant) {
        if !self.is_reconnecting() {
            return;
        }
        let Some(outage) = &mut self.outage else { return };
        if outage.is_over(now) {
            let fault = self.last_fault.take();
            let reason = fault.map_or(EndReason::ServiceTimeout, EndReason::Service);
            return self.end(reason, now);
        }
        if outage.begin_try(now) {
            self.state = State::Connecting;
            let conversation = std::mem::take(&mut self.conversation);
            self.outputs.push_back(Output::Redial { conversation });
        } else if outage.has_stalled(now) {
            let fault = ServiceFault {
                word: "service_timeout",
                message: "The voice service did not get ready in time.".to_owned(),
                retryable: true,
                retry_after: None,
            };
            self.fail_try(fault, now);
        }
    }

    /// When [`on_outage_tick`](Self::on_outage_tick) has something to do.
    pub(super) fn outage_deadline(&self) -> Option<Instant> {
        self.outage.as_ref().filter(|_| self.is_reconnecting()).map(Outage::deadline)
    }

    /// The new session has taken the settings: it is told the conversation so far. Returns what the
    /// outage was; `None` in the first session.
    pub(super) fn restore(&mut self, now: Instant) -> Option<Restored> {
        let (after, tries) = self.outage.as_ref().map(|o| (o.length(now), o.tries()))?;
        let dialect = self.session.dialect;
        let mut told = 0;
        let replay = |item: Item<'_>| {
            told += usize::from(!matches!(item, Item::Call { .. }));
            commands::replay(&item, dialect)
        };
        // An agent has kept the conversation by itself.
        let commands: Vec<String> = if self.session.conversation.is_empty() {
            self.history.items().map(replay).collect()
        } else {
            Vec::new()
        };
        let items = commands.len();
        self.unconfirmed = told;
        commands.into_iter().for_each(|command| self.send(command));
        self.history.replayed();
        self.last_fault = None;
        Some(Restored { after, tries, items })
    }

    // ---- what has to be known of the conversation ----

    /// How many bytes of the microphone audio that was sent are worth keeping. Asked for every frame.
    /// None if the call does not outlive its session.
    #[must_use]
    pub fn microphone_keep(&self) -> usize {
        if self.settings.reconnect.is_zero() {
            return 0;
        }
        let in_turn = self.gate.is_in_turn() || self.open_turn.is_some();
        if in_turn || !self.session.turns.detects { KEPT_BYTES } else { KEPT_QUIET_BYTES }
    }

    /// The user's turn is an item, whose words are not known yet.
    pub(super) fn begin_turn(&mut self, item_id: &str, now: Instant) {
        self.rollover.wait_for_words(now);
        self.history.user_spoke(item_id);
        self.open_turn = Some(item_id.to_owned());
        self.outputs.push_back(Output::CommitMicrophone);
    }

    /// The words of the user's turn are known, or are not needed any more, since it is being answered.
    pub(super) fn settle_turn(&mut self, item_id: Option<&str>) {
        if self.open_turn.as_deref().is_some_and(|open| item_id.is_none_or(|id| id == open)) {
            self.open_turn = None;
            self.outputs.push_back(Output::SettleMicrophone);
        }
    }

    /// Gives the model the output of a tool. A call that was under way when a session was lost is not
    /// known to the new one, so it goes first.
    pub(super) fn answer_call(&mut self, call_id: &str, output: &str) {
        self.history.tool_answered(call_id, output);
        if !self.is_active() {
            return;
        }
        let dialect = self.session.dialect;
        let unknown = self.history.unknown_call(call_id);
        if let Some(call) = unknown.map(|item| commands::replay(&item, dialect)) {
            self.send(call);
            self.history.replayed();
        }
        self.send(commands::function_call_output(call_id, output));
    }

    /// A reply of a session before this one was cut while its audio was still playing. This session has all of
    /// its text, which cannot be truncated: what was heard takes its place. In an outage there is nobody to
    /// tell, and the next session gets the text as it is then.
    pub(super) fn cut_text(&mut self, item_id: &str) {
        // With a longer id the service has given it one of its own, which is not known.
        if !self.is_active() || !commands::keeps_id(item_id) {
            return;
        }
        let dialect = self.session.dialect;
        let renewed = self.history.renew(item_id);
        if let Some(command) = renewed.map(|it| commands::replay_behind(item_id, &it, dialect)) {
            self.send(command);
        }
        self.send(commands::item_delete(item_id));
    }

    /// The service has told of something. Of each item that it was told it says that it has it; and what it
    /// makes of the user's words or of a request it makes after all of them, since it takes them in order. A
    /// function call is not counted: its output follows it.
    pub(super) fn confirm_items(&mut self, event: &ServiceEvent<'_>) {
        match event {
            ServiceEvent::Ignored { kind, .. } if commands::CONFIRMED.contains(&&**kind) => {
                self.unconfirmed = self.unconfirmed.saturating_sub(1);
            }
            ServiceEvent::SpeechStarted { .. }
            | ServiceEvent::Committed { .. }
            | ServiceEvent::ResponseCreated { .. } => self.unconfirmed = 0,
            _ => {}
        }
    }

    /// The service has refused an item that was sent again. The conversation goes on without it.
    pub(super) fn forget_item(&mut self, id: &str) {
        self.unconfirmed = self.unconfirmed.saturating_sub(1);
        self.history.forget(id);
        self.outputs.push_back(Output::ItemRefused);
    }
}
