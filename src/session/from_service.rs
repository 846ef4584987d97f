//! What the service says: its events, the audio it sends, and its leaving. Each becomes an input of
//! the call; audio goes past the call's inputs, straight to the client's side.

use std::rc::Rc;
use std::time::Duration;

use super::base64_audio;
use super::connection_faults;
use super::consumption::{Advice, LATE};
use super::context::TurnContext;
use super::refusals::{self, Refused};
use super::reply::Decoded;
use super::service_side::Dialled;
use super::service_words::quote;
use super::{Session, TURN_MESSAGES};
use crate::call::service::{self, AudioDelta, Parsed, ServiceError, ServiceEvent, Usage};
use crate::call::{Input, Reply};
use crate::metrics::Family;
use crate::net::inbox::Inbox;
use crate::net::socket::Socket;
use crate::net::ws::{Kind, Raw, WsError, said};

impl<S: Socket> Session<S> {
    /// Continues connecting to the service, and tells the call the outcome.
    pub(super) fn advance_dial(&mut self, cx: &mut TurnContext<'_>) {
        if !self.service.is_on_its_way() {
            return;
        }
        match self.service.advance_dial(cx) {
            Dialled::Pending => {}
            Dialled::NextAddress(setback) => log::info!("[{}] {setback}", self.id),
            Dialled::Open => self.input(Input::ServiceOpened, cx),
            Dialled::Failed { fault, refused } => {
                let again = refused.is_some_and(|said| self.fall_back(Refused::Model, &said, cx));
                if !again {
                    self.input(Input::ServiceLost(fault), cx);
                }
            }
        }
    }

    /// Whether the event refuses the candidate, and the call has fallen back to another one.
    fn falls_back(&mut self, event: &ServiceEvent<'_>, cx: &mut TurnContext<'_>) -> bool {
        let ServiceEvent::Error(error) = event else {
            return false;
        };
        if !self.call.is_waiting() {
            return false;
        }
        let refused = refusals::choice_refusal(error, self.service.candidate().model());
        refused.is_some_and(|(refused, said)| self.fall_back(refused, &said, cx))
    }

    /// Falls back to the next candidate. False if there is none.
    pub(super) fn fall_back(
        &mut self,
        refused: Refused,
        said: &str,
        cx: &mut TurnContext<'_>,
    ) -> bool {
        let Some((candidate, clause)) = self.way().candidate().fallback(refused) else {
            return false;
        };
        log::warn!("[{}] {clause}. The service said: {said}", self.id);
        let settings = Rc::clone(candidate.settings());
        self.way_mut().start_over(candidate);
        let is_next = self.call.is_active();
        self.input(
            if is_next { Input::NextInstead(settings) } else { Input::Instead(settings) },
            cx,
        );
        true
    }

    /// Reads the service in the loop's memory. What stays unread, for backpressure or because its turn
    /// is over, is kept by the service's own side before the memory goes to the next call.
    pub(super) fn read_service(&mut self, cx: &mut TurnContext<'_>) {
        if !self.service.has_more() {
            return;
        }
        let mut inbox = cx.buffers.inbox.take().unwrap_or_default();
        let lane = self.service.lane();
        self.hear_service(lane, &mut inbox, cx);
        if self.service.lane() == lane {
            self.service.keep(&mut inbox);
        } else {
            inbox.clear();
        }
        cx.buffers.inbox = Some(inbox);
    }

    /// Until there is nothing more, or another session has taken the place of the one that is lost: what
    /// the inbox holds is not of that one.
    fn hear_service(&mut self, lane: usize, inbox: &mut Inbox, cx: &mut TurnContext<'_>) {
        for _ in 0..TURN_MESSAGES {
            // R2: what the client does not take, and the blocks cannot hold, stays unread.
            if self.client.is_backed_up() || self.service.lane() != lane {
                return;
            }
            match self.service.read(inbox) {
                Ok(Some(Raw::Message(kind, bytes))) => self.on_message(kind, bytes, cx),
                Ok(Some(Raw::Control)) => {}
                Ok(Some(Raw::Close(frame))) => {
                    let (code, reason) = said(frame);
                    if self.is_talking() && connection_faults::is_expiry(code, &reason) {
                        self.input(Input::SessionExpired, cx);
                    } else if self.is_talking() {
                        let reason =
                            self.service.conceal(&reason).unwrap_or_else(|| reason.to_string());
                        self.input(
                            Input::ServiceLost(connection_faults::closed(code, &reason)),
                            cx,
                        );
                    }
                }
                Ok(None) => return,
                Err(error) => return self.service_ended(&error, cx),
            }
        }
    }

    /// The service's connection is at its end. After a violation it stays open for the close frame that
    /// says so; in all other cases there is nothing left to write to. After the call's end this is how
    /// a closing handshake is meant to finish, so nothing more happens.
    pub(super) fn service_ended(&mut self, error: &WsError, cx: &mut TurnContext<'_>) {
        let fault = connection_faults::of(error);
        if !matches!(error, WsError::Violation { .. }) {
            self.service.lose();
        }
        if self.is_talking() {
            self.input(Input::ServiceLost(fault), cx);
        }
    }

    /// The service sent what means nothing. The call goes on without it, unless that happens again and
    /// again.
    fn pass_over(&mut self, what: &str, cx: &mut TurnContext<'_>) {
        if !self.is_talking() {
            return;
        }
        if self.oddities.service.another() {
            log::warn!("[{}] the service sent {what}, and before it nothing better", self.id);
            self.input(Input::ServiceLost(connection_faults::violation(what)), cx);
        } else {
            self.count_passed_over("service", what, cx);
        }
    }

    /// A delta of audio cannot be decoded. It leaves a hole in the reply, which the log explains. Words
    /// that come between such deltas make nothing better, so these rows are counted apart.
    fn pass_over_audio(&mut self, cx: &mut TurnContext<'_>) {
        self.oddities.service.end_row();
        let what = "audio that is not base64";
        if self.oddities.audio.another() {
            log::warn!("[{}] the service sent {what}, and before it no better", self.id);
            self.input(Input::ServiceLost(connection_faults::violation(what)), cx);
        } else {
            self.count_passed_over("service", what, cx);
        }
    }

    /// Logs and counts a message that was passed over.
    pub(super) fn count_passed_over(
        &mut self,
        side: &'static str,
        what: &str,
        cx: &mut TurnContext<'_>,
    ) {
        cx.metrics.count(Family::PassedOver, side);
        if let Some(last) = self.oddities.lines.another() {
            log::warn!("[{}] passed over what the {side} sent: {what}{last}", self.id);
        }
    }

    /// A message of the service. Reply audio is decoded where it stands, before the text as a whole is
    /// looked at: base64 that decodes holds no quote, no escape and no foreign letter, so there is
    /// nothing else to check in it. Everything else is checked to be UTF-8 and read as an event.
    fn on_message(&mut self, kind: Kind, bytes: &[u8], cx: &mut TurnContext<'_>) {
        if self.is_talking()
            && let Some(delta) = service::reply_audio(bytes)
        {
            let mut decoded = std::mem::take(&mut cx.buffers.decoded);
            let pcm = decoded.decode(&bytes[delta.base64.clone()]);
            let taken = pcm.map(|pcm| self.on_audio(delta, pcm, cx));
            cx.buffers.decoded = decoded;
            if taken.is_some() {
                return;
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => self.on_event(text, cx),
            Err(_) if kind == Kind::Binary => {
                self.pass_over("a binary message that is not JSON", cx);
            }
            Err(_) => {
                if let Some(error) = self.service.refuse_text() {
                    self.service_ended(&error, cx);
                }
            }
        }
    }

    /// An event that is no usual audio delta.
    fn on_event(&mut self, text: &str, cx: &mut TurnContext<'_>) {
        if !self.is_talking() {
            return;
        }
        // Its words go to the client and the log.
        let concealed = self.service.conceal(text);
        let text = concealed.as_deref().unwrap_or(text);
        match service::parse_next(text, &mut self.oddities.halves) {
            Ok(Parsed::Audio(delta)) => {
                let base64 = &text.as_bytes()[delta.base64.clone()];
                self.on_rare_audio(delta, base64, cx);
            }
            Ok(Parsed::AudioOwned(owned)) => {
                self.on_rare_audio(owned.delta(), owned.base64.as_bytes(), cx);
            }
            Ok(Parsed::Event(event)) => {
                self.oddities.service.end_row();
                self.note(&event, cx);
                if self.falls_back(&event, cx) {
                    return;
                }
                self.end_sound(&event, cx);
                self.input(Input::Service(event), cx);
                if let Some(ends) = self.service.learn_expiry(self.call.expires_at(), cx.now) {
                    self.call.session_ends(ends);
                }
            }
            Err(what) => self.pass_over(&what, cx),
        }
    }

    /// Tells the operator of the daemon what the service says of itself: in the log, and as counts. A
    /// service's code is a word of its own, but its message may quote what was said in the call: so the
    /// messages of errors are told to the client only.
    pub(super) fn note(&mut self, event: &ServiceEvent<'_>, cx: &mut TurnContext<'_>) {
        match event {
            ServiceEvent::Warning { code, message } => {
                log::warn!("[{}] the service warns: {message} ({code})", self.id);
            }
            ServiceEvent::ResponseDone(done) => {
                if let Some(Usage { input_tokens, output_tokens }) = done.usage {
                    cx.metrics.add(Family::InputTokens, input_tokens);
                    cx.metrics.add(Family::OutputTokens, output_tokens);
                    cx.consumption.used(input_tokens.saturating_add(output_tokens), cx.now);
                }
            }
            ServiceEvent::TokensLeft { left, limit } => {
                let is_short = left.saturating_mul(10) < *limit;
                if is_short && cx.consumption.tell(cx.now) {
                    let advice = Advice(cx.consumption.last_minute(cx.now));
                    log::warn!(
                        "[{}] the service has {left} of {limit} tokens left; {advice}",
                        self.id
                    );
                }
            }
            ServiceEvent::Error(error) => {
                let code = if error.code.is_empty() { &error.kind } else { &error.code };
                cx.metrics.count_known(Family::ServiceErrors, code);
                self.log_error(error, code);
            }
            ServiceEvent::Ignored { kind, .. }
                if log::log_enabled!(log::Level::Debug) && self.oddities.ignored.is_new(kind) =>
            {
                let kind = quote(kind);
                log::debug!("[{}] events of the type {kind} are ignored", self.id);
            }
            _ => {}
        }
    }

    /// Counts an answer that was late, and tells the likely cause. One for which a tool ran has another.
    fn judge_wait(&self, waited: Duration, cx: &mut TurnContext<'_>) {
        if waited < LATE || self.call.answer_took_a_tool() {
            return;
        }
        cx.metrics.add(Family::LateAnswers, 1);
        if cx.consumption.tell(cx.now) {
            let advice = Advice(cx.consumption.last_minute(cx.now));
            let ms = waited.as_millis();
            log::warn!("[{}] the first audio of an answer came after {ms} ms; {advice}", self.id);
        }
    }

    fn log_error(&mut self, error: &ServiceError, code: &str) {
        let (level, last) = match error.is_harmless() {
            true => (log::Level::Debug, Some("")),
            false => (log::Level::Warn, self.oddities.error_lines.another()),
        };
        if let Some(last) = last.filter(|_| log::log_enabled!(level)) {
            let told = |text: &str| match text {
                "" => "none".to_owned(),
                text => quote(text),
            };
            log::log!(
                level,
                "[{}] the service reports an error: code {}, param {}, in answer to {}, event {}{last}",
                self.id,
                told(code),
                told(&error.param),
                told(&error.event_id),
                told(&error.reported_as),
            );
        }
    }

    /// Decoded reply audio, behind one byte of room. The call is asked first: audio of an interrupted
    /// response is dropped here, before it takes up any memory. Only whole samples are passed on and
    /// counted; half a sample waits for the item's next delta.
    fn on_audio(&mut self, mut delta: AudioDelta<'_>, room: &mut [u8], cx: &mut TurnContext<'_>) {
        self.oddities.end_rows();
        let bytes = room.len().saturating_sub(1);
        let even = self.half_reply.is_even(bytes);
        delta.pcm_bytes = if even { bytes } else { self.half_reply.whole(&delta, bytes) };
        if self.fate_of(&delta, cx) == Reply::Discard {
            return;
        }
        let pcm = if even { &room[1..] } else { self.whole_samples(&delta, room, cx) };
        let sent = self.client.accept_reply(pcm, cx.pool);
        self.reply_left(sent, cx);
        if self.client.is_backed_up() {
            cx.metrics.add(Family::Backpressure, 1);
        }
    }

    /// The whole samples of a delta that needs its other half, or leaves one.
    fn whole_samples<'r>(
        &mut self,
        delta: &AudioDelta<'_>,
        room: &'r mut [u8],
        cx: &mut TurnContext<'_>,
    ) -> &'r [u8] {
        let (pcm, dropped) = self.half_reply.join(delta, room);
        if dropped {
            cx.metrics.count(Family::HalfSamples, "service");
        }
        pcm
    }

    /// The end of an item, or of all items of a response, is the end of its sound.
    fn end_sound(&mut self, event: &ServiceEvent<'_>, cx: &mut TurnContext<'_>) {
        let dropped = match event {
            ServiceEvent::AudioDone { item_id, .. } => self.half_reply.end_item(item_id),
            ServiceEvent::ResponseDone(done) => self.half_reply.end_response(&done.response_id),
            _ => 0,
        };
        for _ in 0..dropped {
            cx.metrics.count(Family::HalfSamples, "service");
        }
    }

    /// Asks the call about audio. A response that nobody has announced begins with it, and the client
    /// must hear of that first.
    fn fate_of(&mut self, delta: &AudioDelta<'_>, cx: &mut TurnContext<'_>) -> Reply {
        let reply = self.call.reply_audio(delta, cx.now);
        self.after_audio(cx);
        reply
    }

    /// Audio in another spelling than the usual one, or a delta that is no audio. It may allocate, since
    /// services that spell like this are rare. Of an interrupted response nothing is judged.
    fn on_rare_audio(&mut self, delta: AudioDelta<'_>, base64: &[u8], cx: &mut TurnContext<'_>) {
        let mut decoded = Decoded::default();
        let pcm = match decoded.decode(base64) {
            Some(pcm) => Some(pcm.to_vec()),
            None => base64_audio::decode_odd(base64),
        };
        match pcm {
            Some(mut pcm) => self.on_audio(delta, &mut pcm, cx),
            None if self.fate_of(&delta, cx) == Reply::Discard => {}
            None => self.pass_over_audio(cx),
        }
    }

    /// Sends what waits for the client as far as it takes it.
    pub(super) fn send_reply(&mut self, cx: &mut TurnContext<'_>) {
        if let Some(sent) = self.client.send_reply(cx.pool) {
            self.reply_left(sent, cx);
            // Nothing may wait any more, so the moment may be near in which a next session takes over.
            self.tick = self.call.deadline();
        }
    }

    /// Audio only puts the call's deadline off, unless it makes the call say something: a response begins
    /// with it, for example.
    fn after_audio(&mut self, cx: &mut TurnContext<'_>) {
        if !self.call.is_drained() {
            self.carry_out(cx);
            self.tick = self.call.deadline();
        }
    }

    /// The first audio of an answer has left. Once an answer: it stands apart, so that no frame pays for it.
    #[cold]
    fn on_first_audio(&mut self, waited: Duration, cx: &mut TurnContext<'_>) {
        cx.metrics.first_audio(waited);
        self.totals.waits.add(waited);
        self.judge_wait(waited, cx);
    }

    /// Counts reply audio that has left, and tells the call, which measures the wait for the answer by
    /// it.
    fn reply_left(&mut self, result: Result<(), WsError>, cx: &mut TurnContext<'_>) {
        let sent = self.client.reply_sent();
        let bytes = sent - std::mem::replace(&mut self.totals.reply_bytes, sent);
        if bytes > 0 {
            cx.metrics.add(Family::Reply, bytes);
            // One turn sends some KB.
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            if let Some(waited) = self.call.reply_sent(bytes, cx.now) {
                self.on_first_audio(waited, cx);
            }
            self.after_audio(cx);
        }
        if let Err(error) = result {
            self.client_ended(&error, cx);
        }
    }
}
