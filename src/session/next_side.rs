//! The connection beside the one that serves: for a moment a call has two, when one session of the service
//! is about to follow another.
//!
//! ```text
//! (none) ──Prepare──► Coming ──ChangeOver──► (it is the call's service; the other one is Leaving) ─► (none)
//!                       └──DropNext, the call's end──► Leaving ──closed, or 2 s later──► (none)
//! ```
//!
//! When to do what is the call's decision (`call/rollover`). Here are the connection and the order of the
//! bytes. A session that is prepared is Configuring until the change, since it may hear nothing before that.
//! The microphone's queue changes sides in one step between two frames, so a frame is in front of the change
//! or behind it. The connection that has left is closed with a handshake, for two reasons: what it was sent
//! must not be lost to a reset, and a session that is left open costs money.

use std::time::Instant;

use super::connection_faults;
use super::context::TurnContext;
use super::refusals::{self, Refused};
use super::service_side::{Dialled, News, ServiceSide};
use super::{CLOSE_TIMEOUT, Session, TURN_MESSAGES};
use crate::call::ending::ServiceFault;
use crate::call::pcm::PcmPool;
use crate::call::service::{self, HalfCharacters, Parsed, ServiceEvent};
use crate::call::{ChangeOver, Input, Moment, sooner};
use crate::metrics::Family;
use crate::net::inbox::Inbox;
use crate::net::socket::Socket;
use crate::net::ws::{Raw, WsError, said};

/// See the module's text.
pub(super) struct NextSide<S> {
    side: ServiceSide<S>,
    /// It is being closed, and is given up at this time. `None`: it is coming.
    leaving: Option<Instant>,
}

impl<S: Socket> NextSide<S> {
    /// Gives what it holds of the pool back: nothing.
    pub(super) fn release(self, pool: &mut PcmPool) {
        self.side.release(pool);
    }

    fn deadline(&self) -> Option<Instant> {
        self.leaving.or_else(|| self.side.deadline())
    }
}

impl<S: Socket> Session<S> {
    /// The side that is on its way to the service: at most one is. What the loop brings is for it.
    pub(super) fn way(&self) -> &ServiceSide<S> {
        match &self.next {
            Some(next) if next.leaving.is_none() => &next.side,
            _ => &self.service,
        }
    }

    pub(super) fn way_mut(&mut self) -> &mut ServiceSide<S> {
        match &mut self.next {
            Some(next) if next.leaving.is_none() => &mut next.side,
            _ => &mut self.service,
        }
    }

    /// There is no way to the service for the side that wanted one.
    pub(super) fn lose_way(&mut self, fault: ServiceFault, cx: &mut TurnContext<'_>) {
        let is_next = self.next.as_ref().is_some_and(|next| next.leaving.is_none());
        self.way_mut().lose();
        self.input(if is_next { Input::NextLost(fault) } else { Input::ServiceLost(fault) }, cx);
    }

    /// The poll reported a socket to the service: that of this lane.
    pub fn mark_lane(&mut self, lane: usize, readable: bool, writable: bool, ending: bool) {
        if self.service.lane() == lane {
            self.service.mark(readable, writable, ending);
        } else {
            self.mark_next(readable, writable, ending);
        }
    }

    /// The poll reported the socket of the connection beside the one that serves.
    pub fn mark_next(&mut self, readable: bool, writable: bool, ending: bool) {
        if let Some(next) = &mut self.next {
            next.side.mark(readable, writable, ending);
        }
    }

    /// That socket, if there is one.
    pub fn next_socket(&mut self) -> Option<&mut S> {
        self.next.as_mut()?.side.socket()
    }

    /// The socket of the side that is on its way to the service, for registration, and its lane.
    pub fn new_socket(&mut self) -> Option<(usize, &mut S)> {
        let side = self.way_mut();
        let lane = side.lane();
        side.socket().map(|socket| (lane, socket))
    }

    pub(super) fn next_news(&mut self) -> Option<News> {
        self.next.as_mut()?.side.news()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next.as_ref().and_then(|next| next.deadline())
    }

    pub(super) fn next_is_done(&self) -> bool {
        self.next.as_ref().is_none_or(|next| next.side.is_done())
    }

    // ---- what the call wants ----

    /// A second connection is to be made. One that is still leaving is dropped for it: there are never more
    /// than two.
    pub(super) fn prepare_next(&mut self, conversation: &str, cx: &mut TurnContext<'_>) {
        log::debug!("[{}] the next session of the service is prepared", self.id);
        self.release_next(cx);
        let mut side = self.service.second();
        side.redial(conversation);
        self.next = Some(Box::new(NextSide { side, leaving: None }));
    }

    pub(super) fn tell_next(&mut self, json: &str, cx: &mut TurnContext<'_>) {
        let told = self.next.as_mut().map_or(Ok(()), |next| next.side.tell(json));
        self.count_unsent(told, cx);
    }

    pub(super) fn drop_next(&mut self, why: &str, cx: &mut TurnContext<'_>) {
        log::warn!("[{}] the next session of the service is not there. {why}", self.id);
        self.close_next(cx);
    }

    /// Coming → Leaving.
    pub(super) fn close_next(&mut self, cx: &mut TurnContext<'_>) {
        if let Some(next) = &mut self.next {
            next.side.close(cx.pool);
            next.leaving.get_or_insert(cx.now + CLOSE_TIMEOUT);
        }
    }

    /// Any → none.
    pub(super) fn release_next(&mut self, cx: &mut TurnContext<'_>) {
        if let Some(next) = self.next.take() {
            next.release(cx.pool);
        }
    }

    /// The two sides change places, and the microphone stays where it is. See the module's text.
    pub(super) fn change_over(&mut self, change: &ChangeOver, cx: &mut TurnContext<'_>) {
        let Some(next) = &mut self.next else { return };
        self.service.change_places(&mut next.side, change.again, cx.pool);
        self.close_next(cx);
        self.drop_half_reply(cx);
        self.oddities.halves = HalfCharacters::default();
        self.oddities.end_rows();
        self.service.open_microphone(change.again, cx.pool, cx.now);
        cx.metrics.add(Family::Rollovers, 1);
        cx.metrics.add(Family::ItemsReplayed, change.items as u64);
        let ChangeOver { moment, items, lasted, why, .. } = change;
        let (level, moment) = match moment {
            Moment::Quiet => (log::Level::Info, "in a quiet moment"),
            Moment::TurnEnd => (log::Level::Info, "at the end of a turn"),
            Moment::Last => (log::Level::Warn, "in the middle of a turn, since its time was up"),
            Moment::Lost => (log::Level::Warn, "since it was lost:"),
        };
        log::log!(
            level,
            "[{}] went on to the next session of the service after {} s, {moment} {why}({items} items of the conversation were sent)",
            self.id,
            lasted.as_secs(),
        );
    }

    // ---- a turn ----

    /// Lets the second connection do what it can: it comes last in the turn, when everything was queued that
    /// the call has to say to it. Whether something is left to read.
    pub(super) fn pump_next(&mut self, cx: &mut TurnContext<'_>) -> bool {
        // The loop's memory is lent to the side that serves.
        let mut memory = Vec::new();
        let Some(next) = &mut self.next else { return false };
        next.side.begin_turn(&mut memory);
        let dialled = next.side.advance_dial(cx);
        self.on_next_dialled(dialled, cx);
        let mut inbox = cx.buffers.inbox.take().unwrap_or_default();
        self.hear_next(&mut inbox, cx);
        if let Some(next) = &mut self.next {
            next.side.keep(&mut inbox);
        }
        inbox.clear();
        cx.buffers.inbox = Some(inbox);
        self.watch_next(cx);
        let Some(next) = &mut self.next else { return false };
        let flushed = next.side.flush_commands();
        next.side.end_turn(&mut memory);
        if let Err(error) = flushed {
            self.next_ended(&error, cx);
        }
        let Some(next) = &mut self.next else { return false };
        if next.leaving.is_some_and(|end| cx.now >= end || next.side.is_done()) {
            self.release_next(cx);
            return false;
        }
        next.side.has_more()
    }

    fn on_next_dialled(&mut self, dialled: Dialled, cx: &mut TurnContext<'_>) {
        match dialled {
            Dialled::Pending => {}
            Dialled::NextAddress(setback) => log::info!("[{}] {setback}", self.id),
            Dialled::Open => self.input(Input::NextOpened, cx),
            Dialled::Failed { fault, refused } => {
                let again = refused.is_some_and(|said| self.fall_back(Refused::Model, &said, cx));
                if !again {
                    self.input(Input::NextLost(fault), cx);
                }
            }
        }
    }

    /// Reads what the second session says. Once it leaves, that changes nothing.
    fn hear_next(&mut self, inbox: &mut Inbox, cx: &mut TurnContext<'_>) {
        for _ in 0..TURN_MESSAGES {
            let Some(next) = &mut self.next else { return };
            let is_coming = next.leaving.is_none();
            let fault = match next.side.read(inbox) {
                Ok(Some(Raw::Message(_, bytes))) => {
                    if let (true, Ok(text)) = (is_coming, std::str::from_utf8(bytes)) {
                        self.on_next_event(text, cx);
                    }
                    continue;
                }
                Ok(Some(Raw::Control)) => continue,
                Ok(Some(Raw::Close(frame))) => {
                    let (code, reason) = said(frame);
                    let reason = next.side.conceal(&reason).unwrap_or_else(|| reason.to_string());
                    connection_faults::closed(code, &reason)
                }
                Ok(None) => return,
                Err(error) => return self.next_ended(&error, cx),
            };
            if is_coming {
                self.input(Input::NextLost(fault), cx);
            }
        }
    }

    /// The second connection is at its end. When it leaves, that is as it should be.
    fn next_ended(&mut self, error: &WsError, cx: &mut TurnContext<'_>) {
        let Some(next) = &mut self.next else { return };
        if !matches!(error, WsError::Violation { .. }) {
            next.side.lose();
        }
        if next.leaving.is_none() {
            self.input(Input::NextLost(connection_faults::of(error)), cx);
        }
    }

    fn on_next_event(&mut self, text: &str, cx: &mut TurnContext<'_>) {
        let concealed = self.way().conceal(text);
        let text = concealed.as_deref().unwrap_or(text);
        // What is odd or sound means nothing here: the session has not begun for the client.
        let Ok(Parsed::Event(event)) = service::parse_next(text, &mut HalfCharacters::default())
        else {
            return;
        };
        self.note(&event, cx);
        if let ServiceEvent::Error(error) = &event
            && let Some((refused, said)) =
                refusals::choice_refusal(error, self.way().candidate().model())
            && self.fall_back(refused, &said, cx)
        {
            return;
        }
        let expires_at = match &event {
            ServiceEvent::SessionCreated(session) | ServiceEvent::SessionUpdated(session) => {
                session.expires_at
            }
            _ => None,
        };
        self.input(Input::Next(event), cx);
        if let Some(next) = &mut self.next
            && let Some(ends) = next.side.learn_expiry(expires_at, cx.now)
        {
            self.call.next_session_ends(ends);
        }
    }

    /// The second session may die, or end, before it is needed.
    fn watch_next(&mut self, cx: &mut TurnContext<'_>) {
        let Some(next) = self.next.as_mut().filter(|next| next.leaving.is_none()) else { return };
        if next.side.check(cx.now).is_err() {
            self.input(Input::NextLost(connection_faults::lost(&"it does not answer")), cx);
        } else if next.side.has_expired(cx.now) {
            self.input(Input::NextLost(connection_faults::lost(&"its time is up")), cx);
        }
    }

    /// The earlier of a time and the second connection's.
    pub(super) fn sooner_next(&self, other: Option<Instant>) -> Option<Instant> {
        if self.next.is_some() { sooner(other, self.next_deadline()) } else { other }
    }
}
