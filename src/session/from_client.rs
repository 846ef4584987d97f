//! What the client says: its microphone, its messages, and its leaving. Each becomes an input of the
//! call.

use super::client_side::MAX_CHATTER;
use super::context::TurnContext;
use super::keep_alive::STALL_TIMEOUT;
use super::{Session, TURN_MESSAGES};
use crate::call::client;
use crate::call::ending::EndReason;
use crate::call::{Input, Microphone};
use crate::metrics::Family;
use crate::net::inbox::Inbox;
use crate::net::socket::Socket;
use crate::net::ws::{CloseCode, Incoming, WsError};

impl<S: Socket> Session<S> {
    /// Reads the client in the loop's memory. What belongs to an unfinished message is kept by the
    /// client's own side before the memory goes to the next call.
    pub(super) fn read_client(&mut self, cx: &mut TurnContext<'_>) {
        if !self.client.has_more() {
            return;
        }
        let mut inbox = cx.buffers.inbox.take().unwrap_or_default();
        self.hear_client(&mut inbox, cx);
        self.client.keep(&mut inbox);
        cx.buffers.inbox = Some(inbox);
    }

    /// At most [`TURN_MESSAGES`] of them.
    fn hear_client(&mut self, inbox: &mut Inbox, cx: &mut TurnContext<'_>) {
        for _ in 0..TURN_MESSAGES {
            match self.client.read(inbox) {
                Ok(Some(Incoming::Binary(data))) => self.on_microphone(data, cx),
                Ok(Some(Incoming::Text(text))) => self.on_text(text, cx),
                Ok(Some(Incoming::Control)) => self.count_chatter(cx),
                Ok(Some(Incoming::Close(_))) => {
                    if self.is_talking() {
                        self.input(Input::ClientLost, cx);
                    }
                }
                Ok(None) => return,
                Err(error) => return self.client_ended(&error, cx),
            }
        }
    }

    /// The client's connection is at its end. The reason decides the close code: the client is told
    /// what it did wrong (RFC 6455, section 7.4.1) if it is still there to hear it. After the call's
    /// end this is how a closing handshake is meant to finish, so nothing happens.
    pub(super) fn client_ended(&mut self, error: &WsError, cx: &mut TurnContext<'_>) {
        if !self.is_talking() {
            return;
        }
        let input = match error {
            WsError::Closed => Input::ClientLost,
            WsError::Lost(error) => return self.break_client(error, cx),
            WsError::Violation { code: CloseCode::Size, .. } => Input::End(EndReason::TooBig),
            WsError::Violation { code: CloseCode::Invalid, .. } => {
                Input::End(EndReason::BadText("A text message must be UTF-8.".to_owned()))
            }
            WsError::Violation { what, .. } => Input::End(EndReason::BadProtocol(format!(
                "The client broke the WebSocket protocol: {what}."
            ))),
            WsError::Full => Input::End(EndReason::ClientStalled(STALL_TIMEOUT.as_secs())),
        };
        self.input(input, cx);
    }

    /// A text message. The maker of a client is told of one that is no message, and the call goes on:
    /// only many in a row end it.
    fn on_text(&mut self, text: &str, cx: &mut TurnContext<'_>) {
        self.count_chatter(cx);
        if !self.is_talking() {
            return;
        }
        match client::parse(text) {
            Ok(message) => {
                self.oddities.client.end_row();
                self.input(Input::Client(message), cx);
            }
            Err(what) if self.oddities.client.another() => {
                self.input(Input::End(EndReason::BadText(what)), cx);
            }
            Err(what) => {
                self.count_passed_over("client", &what, cx);
                self.client.tell(&client::error("bad_text", &what));
            }
        }
    }

    /// A flood of messages that are no audio ends the call.
    fn count_chatter(&mut self, cx: &mut TurnContext<'_>) {
        if self.client.is_flooding(cx.now) && self.is_talking() {
            let message = format!("More than {MAX_CHATTER} messages came within a second.");
            self.input(Input::End(EndReason::Refused(message)), cx);
        }
    }

    /// A binary message: PCM16, 24 kHz, mono. Half a sample waits for the next frame. An empty frame is
    /// no audio and counts as chatter. After the call's end audio is dropped.
    fn on_microphone(&mut self, data: &[u8], cx: &mut TurnContext<'_>) {
        if data.is_empty() {
            return self.count_chatter(cx);
        }
        self.oddities.client.end_row();
        self.totals.microphone_bytes += data.len() as u64;
        cx.metrics.add(Family::Microphone, data.len() as u64);
        if self.half_microphone.is_even(data.len()) {
            return self.take_microphone(data, cx);
        }
        let (completed, whole) = self.half_microphone.join(data);
        if let Some(sample) = completed {
            self.take_microphone(&sample, cx);
        }
        if !whole.is_empty() {
            self.take_microphone(whole, cx);
        }
    }

    /// Whole samples of the microphone.
    fn take_microphone(&mut self, pcm: &[u8], cx: &mut TurnContext<'_>) {
        if self.call.microphone(pcm.len(), cx.now) == Microphone::Discard {
            return;
        }
        let keep = self.call.microphone_keep();
        let dropped = self.service.take_microphone(pcm, keep, cx.pool);
        self.totals.microphone_dropped += dropped as u64;
        cx.metrics.add(Family::MicrophoneDropped, dropped as u64);
    }
}
