//! What the client says, and how a reply is interrupted.

use std::time::Instant;

use super::client::{self, ClientMessage, Role};
use super::ending::EndReason;
use super::playback::Cut;
use super::response_gate::{Canceller, ResponseRequest};
use super::service::commands;
use super::{Call, Output};

impl Call {
    /// One message of the client. Unknown ones are ignored, so that newer clients can talk to an older
    /// daemon.
    pub(super) fn on_client(&mut self, message: ClientMessage<'_>, now: Instant) {
        match message {
            ClientMessage::Text(text) => self.on_typed_turn(&text, now),
            ClientMessage::TextTooLong => {
                let text =
                    format!("A typed turn may have {} characters at most.", client::MAX_TEXT_UNITS);
                self.error("text_too_long", &text);
            }
            ClientMessage::Interrupt => self.on_interrupt(now),
            ClientMessage::EndTurn => self.on_end_turn(now),
            ClientMessage::Confirm { id, allow } => self.on_confirm(&id, allow, now),
            ClientMessage::HangUp => self.end(EndReason::HangUp, now),
            ClientMessage::Leave => self.on_client_broken(now),
            ClientMessage::Played { ms } => {
                self.playback.report(ms, now);
                self.outputs.extend(self.first_audio.heard(ms, now).map(Output::Heard));
            }
            ClientMessage::Ping { id } => self.tell(client::pong(&id)),
            ClientMessage::Unknown => {}
        }
    }

    /// A typed turn interrupts a reply as a spoken one would. Clients that know only the sample's
    /// messages must hear `speech_started` for it, or they would play the old reply to its end. The
    /// reply is stopped before the text is sent: the service puts the text behind what was said, and
    /// that must already be cut to what was heard.
    fn on_typed_turn(&mut self, text: &str, now: Instant) {
        if !self.is_active() && !self.is_reconnecting() {
            self.error(
                "not_ready",
                "The call is not connected yet; send the text again in a moment.",
            );
            return;
        }
        self.call_off_farewell();
        if self.gate.active().is_some() || self.playback.is_playing(now) {
            self.stop_reply(now);
            self.tell(client::speech_started(""));
            self.tell(client::speech_stopped(""));
        }
        self.go_on = false;
        self.history.user_typed(text);
        self.send(commands::user_text(text));
        self.gate.typed(now);
        self.arm_latency(now);
        self.limits.touch(now);
    }

    /// The user pressed stop. What is heard is stopped alone; where nothing is, the tools are stopped that
    /// keep the user waiting. The client has dropped its own queue already, so it hears no
    /// `speech_started`. The service's `response.done` brings it `response_done`. A response that is
    /// still on its way is cancelled as it comes.
    fn on_interrupt(&mut self, now: Instant) {
        if !self.is_active() && !self.is_reconnecting() {
            return;
        }
        self.limits.touch(now);
        if self.gate.active().is_none() {
            if !self.playback.is_playing(now) {
                self.stop_tools(now);
            }
            self.gate.stop_next();
        }
        self.stop_reply(now);
    }

    /// Stops a reply because of the client: the service neither cancels it nor truncates the
    /// conversation by itself. A response that is being cancelled already is not cancelled again.
    pub(super) fn stop_reply(&mut self, now: Instant) {
        if let Some(response_id) = self.gate.active().map(str::to_owned)
            && !self.interrupted.is(&response_id)
        {
            self.cancel(&response_id, now);
        }
        self.drop_playback(true, now);
    }

    /// Barge-in: the service's `speech_started`. Playback is dropped also when no response is active:
    /// a reply arrives much faster than it is played, so it is often complete while it is heard.
    pub(super) fn on_speech_started(&mut self, item_id: &str, now: Instant) {
        self.limits.touch(now);
        self.captions.next_turn(Role::User);
        self.gate.speech_started(now);
        self.end_turn_of_absent(now);
        if self.holds_reply(now) {
            return self.hold_reply(item_id, now);
        }
        self.call_off_farewell();
        self.first_audio.cancel();
        if !self.session.turns.interrupt_response {
            // The reply goes on. `speech_started` would make the client drop it.
            let silent = self.gate.active().is_none() && !self.playback.is_playing(now);
            if silent || self.barge_in.is_reversible() {
                self.tell_speech(item_id);
            }
            return;
        }
        // The service cancels its response itself; ours to do is to drop what is still under way.
        if let Some(response_id) = self.gate.active() {
            self.interrupted.set(response_id);
            self.gate.cancelled(Canceller::Service, now);
        }
        self.drop_playback(!self.session.turns.auto_truncate, now);
        self.tell_speech(item_id);
    }

    pub(super) fn tell_speech(&mut self, item_id: &str) {
        self.tell(client::speech_started(item_id));
        item_id.clone_into(&mut self.turn_item);
    }

    /// The user's turn has ended, and the wait for an answer begins.
    pub(super) fn on_speech_stopped(&mut self, item_id: &str, now: Instant) {
        self.limits.touch(now);
        if self.on_held_speech_stopped(now) {
            return;
        }
        self.end_nameless();
        self.gate.speech_stopped(self.session.turns.create_response, now);
        self.tell_turn_end(item_id, now);
    }

    /// The audio of the user's turn is in the conversation. A service that does not answer spoken
    /// turns by itself is asked to; asking at `speech_stopped` would be too early, for the turn is
    /// not in the conversation then.
    ///
    /// A service that detects no turns has told of no speech. So the client hears here that the turn is
    /// over, and of which item: its transcript may come long after the answer to it. The answer was asked
    /// for with the commit, which was ours.
    pub(super) fn on_committed(&mut self, item_id: &str, now: Instant) {
        self.gate.committed(now);
        self.captions.next_turn(Role::User);
        self.begin_turn(item_id, now);
        if self.on_doubtful_item(item_id) {
            return;
        }
        if self.end_of_turn.take_untold() {
            self.tell(client::speech_stopped(item_id));
            item_id.clone_into(&mut self.turn_item);
        } else if !item_id.is_empty() && self.turn_item != item_id {
            self.tell_turn_end(item_id, now);
        }
        if self.session.turns.detects && !self.session.turns.create_response {
            self.gate.want(ResponseRequest::Answer);
        }
    }

    pub(super) fn tell_turn_end(&mut self, item_id: &str, now: Instant) {
        self.arm_latency(now);
        self.tell(client::speech_stopped(item_id));
        item_id.clone_into(&mut self.turn_item);
    }

    /// Drops reply audio on both sides; with `truncate`, the conversation is cut to what was heard.
    /// Without the cut the model believes that the user has heard all of its reply. The cuts are
    /// computed before the playback is forgotten, since it knows what was heard.
    fn drop_playback(&mut self, truncate: bool, now: Instant) {
        if std::mem::take(&mut self.go_on) {
            self.gate.unwant();
        }
        self.outputs.push_back(Output::DropPlayback);
        for Cut { item_id, heard_ms, all_ms } in self.playback.cuts(self.gate.active(), now) {
            let as_text = self.history.cut(&item_id, heard_ms, all_ms);
            if as_text && self.session.conversation.is_empty() {
                self.cut_text(&item_id);
            } else if truncate {
                self.send(commands::truncate(&item_id, heard_ms));
            }
        }
        self.playback.flush(now);
        self.barge_in.forget_hold();
    }

    /// From here on the user waits for an answer.
    pub(super) fn arm_latency(&mut self, now: Instant) {
        self.first_audio.wait(self.gate.last_id(), now);
    }
}
