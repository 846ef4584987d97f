//! A call's service: the way to it, its events, and the audio it sends.

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::connection_faults;
use super::pulse::{self, Pulse};
use super::refusals::{self, Refused};
use super::reply::Decoded;
use super::{Desk, News, Service, Session, TURN_MESSAGES};
use crate::call::ending::{EndReason, ServiceFault};
use crate::call::service::{self, AudioDelta, Parsed, ServiceEvent};
use crate::call::{Input, Reply};
use crate::metrics::Family;
use crate::net::dial::Progress as DialProgress;
use crate::net::inbox::Inbox;
use crate::net::socket::Socket;
use crate::net::ws::{Kind, Raw, WsError};

/// More than any session of the service lasts: it is the bound for believing its `expires_at`.
const LONGEST_SESSION: Duration = Duration::from_secs(24 * 3600);

impl<S: Socket> Session<S> {
    pub(super) fn advance_dial(&mut self, desk: &mut Desk<'_>) {
        let Service::Dialling(dial) = &mut self.service else {
            return;
        };
        match dial.advance(desk.now) {
            DialProgress::Pending => {}
            DialProgress::NewSocket => self.news = Some(News::Socket),
            DialProgress::Open(mut peer) => {
                self.news = dial.address().map(News::Reached);
                desk.metrics.count(Family::Connects, "ok");
                peer.transport_mut().begin_turn();
                self.service_pulse = Pulse::new(pulse::SERVICE, desk.now);
                self.service = Service::Open(Box::new(peer));
                self.input(Input::ServiceOpened, desk);
            }
            DialProgress::Failed(error) => {
                desk.metrics.count(Family::Connects, "failed");
                self.news = dial.address().filter(|_| error.is_absence()).map(News::Unreached);
                let refused = refusals::model_refusal(&error, self.way.model());
                if refused.is_some_and(|said| self.ask_otherwise(Refused::Model, &said, desk)) {
                    return;
                }
                self.lose_service(
                    connection_faults::explain(&error, &self.way.target().host),
                    desk,
                );
            }
        }
    }

    pub(super) fn lose_service(&mut self, fault: ServiceFault, desk: &mut Desk<'_>) {
        self.service = Service::Gone;
        self.input(Input::ServiceLost(fault), desk);
    }

    pub(super) fn read_service(&mut self, desk: &mut Desk<'_>) {
        if !matches!(&self.service, Service::Open(peer) if peer.has_more()) {
            return;
        }
        let mut inbox = desk.buffers.inbox.take().unwrap_or_default();
        self.hear_service(&mut inbox, desk);
        match &mut self.service {
            Service::Open(peer) => peer.keep(&mut inbox),
            _ => inbox.clear(),
        }
        desk.buffers.inbox = Some(inbox);
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
            if !peer.has_more() {
                return;
            }
            match peer.read_raw(inbox) {
                Ok(Some(Raw::Message(kind, bytes))) => self.on_message(kind, bytes, desk),
                Ok(Some(Raw::Control)) => {}
                Ok(Some(Raw::Close { code, reason })) => {
                    if self.is_talking() && connection_faults::is_expiry(code, &reason) {
                        self.input(Input::End(EndReason::SessionExpired), desk);
                    } else if self.is_talking() {
                        let reason = self
                            .way
                            .target()
                            .conceal(&reason)
                            .unwrap_or_else(|| reason.to_string());
                        self.input(
                            Input::ServiceLost(connection_faults::closed(code, &reason)),
                            desk,
                        );
                    }
                }
                Ok(None) => return,
                Err(error) => return self.service_ended(&error, desk),
            }
        }
    }

    pub(super) fn service_ended(&mut self, error: &WsError, desk: &mut Desk<'_>) {
        let fault = match error {
            WsError::Closed => connection_faults::closed(None, ""),
            WsError::Lost(error) => connection_faults::lost(error),
            WsError::Violation { what, .. } => connection_faults::violation(what),
            WsError::Full => connection_faults::lost(&"it takes nothing"),
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
            self.input(Input::ServiceLost(connection_faults::violation(what)), desk);
        }
    }

    /// Reply audio is decoded where it stands, before anybody has looked at the text as a whole: what
    /// decodes needs no other look.
    fn on_message(&mut self, kind: Kind, bytes: &[u8], desk: &mut Desk<'_>) {
        if self.is_talking()
            && let Some(delta) = service::reply_audio(bytes)
        {
            let mut decoded = std::mem::take(&mut desk.buffers.decoded);
            let pcm = decoded.decode(&bytes[delta.base64.clone()]);
            let taken = pcm.map(|pcm| self.on_audio(&delta, pcm, desk));
            desk.buffers.decoded = decoded;
            if taken.is_some() {
                return;
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => self.on_event(text, desk),
            Err(_) if kind == Kind::Binary => {
                self.service_error("a binary message that is no JSON", desk);
            }
            Err(_) => {
                if let Service::Open(peer) = &mut self.service {
                    let error = peer.not_text();
                    self.service_ended(&error, desk);
                }
            }
        }
    }

    fn on_event(&mut self, text: &str, desk: &mut Desk<'_>) {
        if !self.is_talking() {
            return;
        }
        match service::parse(text) {
            Ok(Parsed::Audio(delta)) => {
                self.on_rare_audio(&delta, &text.as_bytes()[delta.base64.clone()], desk);
            }
            Ok(Parsed::AudioOwned(owned)) => {
                self.on_rare_audio(&owned.delta(), owned.base64.as_bytes(), desk);
            }
            Ok(Parsed::Event(event)) => {
                // Its words go to the client and the log. It gets shorter, so this ends.
                if let Some(text) = self.way.target().conceal(text) {
                    return self.on_event(&text, desk);
                }
                self.note(&event);
                if self.is_asked_otherwise(&event, desk) {
                    return;
                }
                self.input(Input::Service(event), desk);
                self.learn_taken();
                self.learn_expiry(desk.now);
            }
            Err(what) => self.service_error(&what, desk),
        }
    }

    /// Whether the event refuses what another way does without, and that way is gone.
    fn is_asked_otherwise(&mut self, event: &ServiceEvent<'_>, desk: &mut Desk<'_>) -> bool {
        let ServiceEvent::Error(error) = event else {
            return false;
        };
        if !self.call.is_waiting() {
            return false;
        }
        let refused = refusals::choice_refusal(error, self.way.model());
        refused.is_some_and(|(refused, said)| self.ask_otherwise(refused, &said, desk))
    }

    /// Goes the next way, if there is one: on a new connection, since a session whose first settings
    /// were refused refuses all that follows.
    fn ask_otherwise(&mut self, refused: Refused, said: &str, desk: &mut Desk<'_>) -> bool {
        let Some((way, clause)) = self.way.instead(refused) else {
            return false;
        };
        log::warn!("[{}] {clause}. The service said: {said}", self.id);
        if let Service::Open(peer) = &mut self.service {
            peer.close(1000, "");
            // It has said all that counts.
            let _ = peer.flush();
        }
        self.service = Service::Resolving;
        self.expires = None;
        self.news = Some(News::Instead);
        self.untried = true;
        let settings = Rc::clone(way.settings());
        self.way = way;
        self.input(Input::Instead(settings), desk);
        true
    }

    fn learn_taken(&mut self) {
        if self.untried && !self.call.is_waiting() && self.is_talking() {
            self.untried = false;
            self.news = Some(News::Taken);
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

    fn on_audio(&mut self, delta: &AudioDelta<'_>, pcm: &[u8], desk: &mut Desk<'_>) {
        if self.call.reply_audio(delta, desk.now) == Reply::Discard {
            return;
        }
        if !pcm.len().is_multiple_of(2) {
            return self.service_error("audio that is no whole number of samples", desk);
        }
        let sent = self.reply.accept(pcm, &mut self.client, desk.pool);
        self.reply_left(sent, desk);
        desk.metrics.add(Family::Backpressure, u64::from(self.reply.is_backed_up()));
    }

    /// Audio in another spelling than the usual one, or that is none.
    fn on_rare_audio(&mut self, delta: &AudioDelta<'_>, base64: &[u8], desk: &mut Desk<'_>) {
        match Decoded::default().decode(base64) {
            Some(pcm) => self.on_audio(delta, pcm, desk),
            None if self.call.reply_audio(delta, desk.now) == Reply::Discard => {}
            None => self.service_error("audio that is not base64", desk),
        }
    }

    /// Sends what waits for the client as far as it takes it.
    pub(super) fn send_reply(&mut self, desk: &mut Desk<'_>) {
        if self.reply.is_empty() {
            return;
        }
        let sent = self.reply.send(&mut self.client, desk.pool);
        self.reply_left(sent, desk);
    }

    fn reply_left(&mut self, sent: Result<usize, WsError>, desk: &mut Desk<'_>) {
        let bytes = match sent {
            Ok(bytes) => bytes,
            Err(error) => return self.client_ended(&error, desk),
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
