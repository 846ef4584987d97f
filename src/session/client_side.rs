//! A call's client: its microphone, its messages, and its leaving.

use std::time::Duration;

use super::pulse::STALL_TIMEOUT;
use super::{Desk, Service, Session, TURN_MESSAGES};
use crate::call::client;
use crate::call::ending::EndReason;
use crate::call::{Input, Microphone};
use crate::metrics::Family;
use crate::net::inbox::Inbox;
use crate::net::socket::Socket;
use crate::net::ws::{CloseCode, Incoming, WsError};

/// Text and control messages that a client may send in a second.
const MAX_CHATTER: u32 = 200;

impl<S: Socket> Session<S> {
    pub(super) fn read_client(&mut self, desk: &mut Desk<'_>) {
        if !self.client.has_more() {
            return;
        }
        let mut inbox = desk.buffers.inbox.take().unwrap_or_default();
        self.hear_client(&mut inbox, desk);
        self.client.keep(&mut inbox);
        desk.buffers.inbox = Some(inbox);
    }

    fn hear_client(&mut self, inbox: &mut Inbox, desk: &mut Desk<'_>) {
        for _ in 0..TURN_MESSAGES {
            if !self.client.has_more() {
                return;
            }
            match self.client.read(inbox) {
                Ok(Some(Incoming::Binary(data))) => self.on_microphone(data, desk),
                Ok(Some(Incoming::Text(text))) => self.on_text(text, desk),
                Ok(Some(Incoming::Control)) => self.count_chatter(desk),
                Ok(Some(Incoming::Close(_))) => {
                    if self.is_talking() {
                        self.input(Input::ClientLost, desk);
                    }
                }
                Ok(None) => return,
                Err(error) => return self.client_ended(&error, desk),
            }
        }
    }

    pub(super) fn client_ended(&mut self, error: &WsError, desk: &mut Desk<'_>) {
        if !self.is_talking() {
            return;
        }
        let input = match error {
            WsError::Closed => Input::ClientLost,
            WsError::Lost(error) => {
                log::debug!("[{}] the client is gone: {error}", self.id);
                Input::ClientLost
            }
            WsError::Violation { code: CloseCode::Size, .. } => Input::End(EndReason::TooBig),
            WsError::Violation { code: CloseCode::Invalid, .. } => {
                Input::End(EndReason::BadText("A text message must be UTF-8.".to_owned()))
            }
            WsError::Violation { what, .. } => Input::End(EndReason::BadProtocol(format!(
                "The client broke the WebSocket protocol: {what}."
            ))),
            WsError::Full => Input::End(EndReason::ClientStalled(STALL_TIMEOUT.as_secs())),
        };
        self.input(input, desk);
    }

    fn on_text(&mut self, text: &str, desk: &mut Desk<'_>) {
        self.count_chatter(desk);
        if !self.is_talking() {
            return;
        }
        match client::parse(text) {
            Ok(message) => self.input(Input::Client(message), desk),
            Err(what) => self.input(Input::End(EndReason::BadText(what)), desk),
        }
    }

    /// Everything but audio is rare in an honest call; a flood of it ends the call.
    fn count_chatter(&mut self, desk: &mut Desk<'_>) {
        let (since, count) = &mut self.chatter;
        if desk.now.duration_since(*since) >= Duration::from_secs(1) {
            (*since, *count) = (desk.now, 0);
        }
        *count += 1;
        if *count > MAX_CHATTER && self.is_talking() {
            let message = format!("More than {MAX_CHATTER} messages came within a second.");
            self.input(Input::End(EndReason::Refused(message)), desk);
        }
    }

    fn on_microphone(&mut self, data: &[u8], desk: &mut Desk<'_>) {
        if !data.len().is_multiple_of(2) {
            if self.is_talking() {
                let message = "A binary frame must hold whole 16-bit samples.".to_owned();
                self.input(Input::End(EndReason::BadAudio(message)), desk);
            }
            return;
        }
        if data.is_empty() {
            return self.count_chatter(desk);
        }
        self.totals.microphone_bytes += data.len() as u64;
        desk.metrics.add(Family::Microphone, data.len() as u64);
        let verdict = self.call.microphone(data.len(), desk.now);
        let dropped = match (verdict, &mut self.service) {
            (Microphone::Discard, _) => return,
            (Microphone::Forward, Service::Open(peer)) => {
                self.microphone.forward(data, peer, desk.pool)
            }
            (Microphone::Forward | Microphone::Hold, _) => self.microphone.hold(data, desk.pool),
        };
        self.totals.microphone_dropped += dropped as u64;
        desk.metrics.add(Family::MicrophoneDropped, dropped as u64);
    }

    pub(super) fn send_microphone(&mut self, desk: &mut Desk<'_>) {
        if let Service::Open(peer) = &mut self.service {
            self.microphone.send(peer, desk.pool);
        }
    }
}
