//! What the client says, and how a reply is interrupted.

use std::time::Instant;

use super::client::{self, ClientMessage};
use super::ending::EndReason;
use super::service::commands;
use super::{Call, Output};

impl Call {
    pub(super) fn on_client(&mut self, message: ClientMessage<'_>, now: Instant) {
        match message {
            ClientMessage::Text(text) => self.on_typed_turn(&text, now),
            ClientMessage::TextTooLong => {
                let text =
                    format!("A typed turn may have {} bytes at most.", client::MAX_TEXT_BYTES);
                self.error("text_too_long", &text);
            }
            ClientMessage::Interrupt => self.on_interrupt(now),
            ClientMessage::HangUp => self.end(EndReason::HangUp, now),
            ClientMessage::Played { ms } => self.playback.report(ms, now),
            ClientMessage::Ping { id } => self.tell(client::pong(&id)),
            ClientMessage::Unknown => {}
        }
    }

    /// A typed turn interrupts a reply as a spoken one would. Clients that know only the sample's
    /// messages must hear `speech_started` for it, or they would play the old reply to its end.
    fn on_typed_turn(&mut self, text: &str, now: Instant) {
        if !self.is_active() {
            self.error(
                "not_ready",
                "The call is not connected yet; send the text again in a moment.",
            );
            return;
        }
        if self.gate.active().is_some() || self.playback.is_playing(now) {
            self.stop_reply(now);
            self.tell(client::speech_started());
            self.tell(client::speech_stopped());
        }
        self.send(commands::user_text(text));
        self.gate.typed(now);
        self.arm_latency(now);
        self.limits.touch(now);
    }

    /// The client has dropped its own queue already, so it hears no `speech_started`; the service's
    /// `response.done` brings it `response_done`.
    fn on_interrupt(&mut self, now: Instant) {
        if !self.is_active() {
            return;
        }
        self.limits.touch(now);
        if self.gate.active().is_none() {
            self.gate.stop_next();
        }
        self.stop_reply(now);
    }

    /// Stops a reply on our own account: the service has not cancelled it, nor will it truncate.
    fn stop_reply(&mut self, now: Instant) {
        if let Some(response_id) = self.gate.active().map(str::to_owned)
            && !self.muted.is(&response_id)
        {
            self.muted.set(&response_id);
            self.send(commands::response_cancel(&response_id));
        }
        self.drop_playback(true, now);
    }

    /// The service's `speech_started`. Playback is dropped also when no response is active: a reply
    /// arrives much faster than it is played.
    pub(super) fn on_speech_started(&mut self, now: Instant) {
        self.limits.touch(now);
        self.gate.speech_started(now);
        self.turn_end = None;
        if !self.turns.interrupt_response {
            // The reply goes on. `speech_started` would make the client drop it.
            if self.gate.active().is_none() && !self.playback.is_playing(now) {
                self.tell(client::speech_started());
            }
            return;
        }
        // The service cancels its response itself; ours to do is to drop what is still under way.
        if let Some(response_id) = self.gate.active() {
            self.muted.set(response_id);
        }
        self.drop_playback(!self.turns.auto_truncate, now);
        self.tell(client::speech_started());
    }

    pub(super) fn on_speech_stopped(&mut self, now: Instant) {
        self.limits.touch(now);
        self.gate.speech_stopped(self.turns.create_response, now);
        self.arm_latency(now);
        self.tell(client::speech_stopped());
    }

    /// Drops reply audio on both sides; with `truncate`, the conversation is cut to what was heard.
    fn drop_playback(&mut self, truncate: bool, now: Instant) {
        self.outputs.push_back(Output::DropPlayback);
        if truncate {
            for (item_id, heard_ms) in self.playback.cuts(self.gate.active(), now) {
                self.send(commands::truncate(&item_id, heard_ms));
            }
        }
        self.playback.flush(now);
    }

    /// From here on the user waits for an answer.
    fn arm_latency(&mut self, now: Instant) {
        self.turn_end = Some(now);
        self.turn_end_response.clear();
        self.turn_end_response.push_str(self.gate.last_id());
    }
}
