//! A call's service: the way to it, its events, and the audio it sends.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::pulse::{self, Pulse};
use super::reply::PathError;
use super::{Desk, Service, Session, TURN_MESSAGES};
use crate::call::ending::{EndReason, ServiceFault};
use crate::call::service::{self, Parsed, ServiceEvent};
use crate::call::{Input, Reply};
use crate::fault;
use crate::metrics::Family;
use crate::net::dial::Progress as DialProgress;
use crate::net::inbox::Inbox;
use crate::net::ws::{Incoming, WsError};

/// More than any session of the service lasts: it is the bound for believing its `expires_at`.
const LONGEST_SESSION: Duration = Duration::from_secs(24 * 3600);

impl Session {
    pub(super) fn advance_dial(&mut self, desk: &mut Desk<'_>) {
        let Service::Dialling(dial) = &mut self.service else {
            return;
        };
        match dial.advance(desk.now) {
            DialProgress::Pending => {}
            DialProgress::NewSocket => self.unregistered = true,
            DialProgress::Open(mut peer) => {
                desk.metrics.count(Family::Connects, "ok");
                peer.transport_mut().begin_turn();
                self.service_pulse = Pulse::new(pulse::SERVICE, desk.now);
                self.service = Service::Open(Box::new(peer));
                self.input(Input::ServiceOpened, desk);
            }
            DialProgress::Failed(error) => {
                desk.metrics.count(Family::Connects, "failed");
                let fault = fault::explain(&error, &self.target.host);
                log::warn!("[{}] {}", self.id, fault.message);
                self.lose_service(fault, desk);
            }
        }
    }

    pub(super) fn lose_service(&mut self, fault: ServiceFault, desk: &mut Desk<'_>) {
        self.service = Service::Gone;
        self.input(Input::ServiceLost(fault), desk);
    }

    pub(super) fn read_service(&mut self, desk: &mut Desk<'_>) {
        let mut inbox = std::mem::take(&mut desk.buffers.inbox);
        self.hear_service(&mut inbox, desk);
        match &mut self.service {
            Service::Open(peer) => peer.keep(&mut inbox),
            _ => inbox.clear(),
        }
        desk.buffers.inbox = inbox;
    }

    fn hear_service(&mut self, inbox: &mut Inbox, desk: &mut Desk<'_>) {
        for _ in 0..TURN_MESSAGES {
            // R2: what the client does not take, and the blocks cannot hold, stays unread.
            if self.reply.is_backed_up() {
                return;
            }
            let Service::Open(peer) = &mut self.service else {
                return;
            };
            match peer.read(inbox) {
                Ok(Some(Incoming::Text(text))) => self.on_event(text, desk),
                Ok(Some(Incoming::Binary(data))) => match std::str::from_utf8(data) {
                    Ok(text) => self.on_event(text, desk),
                    Err(_) => self.service_error("a binary message that is no JSON", desk),
                },
                Ok(Some(Incoming::Control)) => {}
                Ok(Some(Incoming::Close { code, reason })) => {
                    if self.is_talking() && fault::is_expiry(code, &reason) {
                        self.input(Input::End(EndReason::SessionExpired), desk);
                    } else if self.is_talking() {
                        let reason =
                            self.target.conceal(&reason).unwrap_or_else(|| reason.to_string());
                        self.input(Input::ServiceLost(fault::closed(code, &reason)), desk);
                    }
                }
                Ok(None) => return,
                Err(error) => return self.service_ended(&error, desk),
            }
        }
    }

    pub(super) fn service_ended(&mut self, error: &WsError, desk: &mut Desk<'_>) {
        let fault = match error {
            WsError::Closed => fault::closed(None, ""),
            WsError::Lost(error) => fault::lost(error),
            WsError::Violation { what, .. } => fault::violation(what),
            WsError::Full => fault::lost(&"it takes nothing"),
        };
        if !matches!(error, WsError::Violation { .. }) {
            self.service = Service::Gone;
        }
        if self.is_talking() {
            self.input(Input::ServiceLost(fault), desk);
        }
    }

    fn service_error(&mut self, what: &str, desk: &mut Desk<'_>) {
        if self.is_talking() {
            log::warn!("[{}] the service sent {what}", self.id);
            self.input(Input::ServiceLost(fault::violation(what)), desk);
        }
    }

    fn on_event(&mut self, text: &str, desk: &mut Desk<'_>) {
        if !self.is_talking() {
            return;
        }
        match service::parse(text) {
            Ok(Parsed::Audio(delta)) => {
                let verdict = self.call.reply_audio(&delta, desk.now);
                let (range, bytes) = (delta.base64, delta.pcm_bytes);
                if verdict == Reply::Forward {
                    self.on_audio(&text[range], bytes, desk);
                }
            }
            Ok(Parsed::AudioOwned(owned)) => {
                let delta = owned.delta();
                let verdict = self.call.reply_audio(&delta, desk.now);
                let (range, bytes) = (delta.base64, delta.pcm_bytes);
                if verdict == Reply::Forward {
                    self.on_audio(&owned.base64[range], bytes, desk);
                }
            }
            Ok(Parsed::Event(event)) => {
                // Its words go to the client and the log. It gets shorter, so this ends.
                if let Some(text) = self.target.conceal(text) {
                    return self.on_event(&text, desk);
                }
                self.note(&event);
                self.input(Input::Service(event), desk);
                self.learn_expiry(desk.now);
            }
            Err(what) => self.service_error(&what, desk),
        }
    }

    /// What the service says to whoever runs the daemon.
    fn note(&self, event: &ServiceEvent<'_>) {
        match event {
            ServiceEvent::Warning { code, message } => {
                log::warn!("[{}] the service warns: {message} ({code})", self.id);
            }
            ServiceEvent::UserTranscriptFailed { message } => {
                log::warn!("[{}] the service has no transcript: {message}", self.id);
            }
            _ => {}
        }
    }

    /// The call has no calendar. A time that makes no sense by our own clock is not believed.
    fn learn_expiry(&mut self, now: Instant) {
        let (None, Some(expires_at)) = (self.expires, self.call.expires_at()) else {
            return;
        };
        let at = UNIX_EPOCH + Duration::from_secs(expires_at);
        let left = at.duration_since(SystemTime::now()).ok();
        self.expires = left.filter(|left| *left < LONGEST_SESSION).map(|left| now + left);
    }

    fn on_audio(&mut self, base64: &str, bytes: usize, desk: &mut Desk<'_>) {
        if !bytes.is_multiple_of(2) {
            return self.service_error("audio that is no whole number of samples", desk);
        }
        let sent = self.reply.accept(base64, &mut self.client, desk.pool);
        self.reply_left(sent, desk);
        desk.metrics.add(Family::Backpressure, u64::from(self.reply.is_backed_up()));
    }

    /// Sends what waits for the client as far as it takes it.
    pub(super) fn send_reply(&mut self, desk: &mut Desk<'_>) {
        if self.reply.is_empty() {
            return;
        }
        let sent = self.reply.send(&mut self.client, desk.pool);
        self.reply_left(sent, desk);
    }

    fn reply_left(&mut self, sent: Result<usize, PathError>, desk: &mut Desk<'_>) {
        let bytes = match sent {
            Ok(bytes) => bytes,
            Err(PathError::Client(error)) => return self.client_ended(&error, desk),
            Err(PathError::Service(what)) => return self.service_error(what, desk),
        };
        if bytes > 0 {
            self.totals.reply_bytes += bytes as u64;
            desk.metrics.add(Family::Reply, bytes as u64);
            if let Some(waited) = self.call.reply_sent(bytes, desk.now) {
                desk.metrics.first_audio(waited);
                self.totals.waits.add(waited);
            }
            self.carry_out(desk);
        }
    }
}
