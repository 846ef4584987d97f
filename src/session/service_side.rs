//! The service's side of a session: the way to it, its WebSocket, whether it still lives, when its
//! session expires, and the microphone audio that waits for it.
//!
//! ```text
//! Resolving ─► Dialling ─► Configuring ─► Open ─► Closing ─► Gone
//!     │  │        │ └───────────┴─► Resolving, when the service is asked otherwise
//!     │  └─► Authorising ─► Dialling, when Entra ID stands for the key
//!     │           ▲ └─ Dialling, when the service has refused a token that was kept
//!     └───────────┴─────────────┴───────────┴────────────────► Gone
//! Open ◄─► Paused, while the microphone is held for a change to another session
//! ```
//!
//! The states follow the connection. Whether a *call* goes on is the call's own state: the two meet
//! in [`Session`](super::Session). This file moves bytes and keeps bounds; what the service says is
//! given to the call in `from_service`.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::candidates::Candidate;
use super::connection_faults;
use super::context::TurnContext;
use super::keep_alive::{self, Dead, KeepAlive};
use super::microphone::MicrophonePath;
use super::refusals;
use crate::call::ending::ServiceFault;
use crate::call::pcm::PcmPool;
use crate::call::sooner;
use crate::metrics::Family;
use crate::net::dial::{Dial, Progress as DialProgress, Setback};
use crate::net::inbox::Inbox;
use crate::net::socket::Socket;
use crate::net::upgrade;
use crate::net::ws::{Message, Raw, Sizes, USUAL_WAITING, WsError, WsPeer};

/// Bounds of the service's connection, in bytes. An audio delta has about 17 KB. Both public SDKs
/// read a few MiB at most, so the service stays below one.
const SERVICE_SIZES: Sizes = Sizes { message: 1024 * 1024 + 64 * 1024, waiting: USUAL_WAITING };

/// The longest time to expiry that is believed. No session of the service lasts as long; a longer
/// time means that one of the two clocks is wrong.
const LONGEST_SESSION: Duration = Duration::from_secs(24 * 3600);

/// How long a call waits for a token. The fetch goes on for the next call. It is shorter than the call's
/// time to get ready, so that the call ends with the right words.
const TOKEN_PATIENCE: Duration = Duration::from_secs(12);

/// See the module's text.
pub(super) struct ServiceSide<S> {
    /// Which of the call's two sockets to the service is its own, 1 or 2: the poll's token tells it.
    lane: usize,
    /// The session that the call asks for, and where.
    candidate: Candidate,
    /// The call's `x-ms-client-request-id`, on each of its upgrades.
    request_id: String,
    /// `candidate` is not the one that the call began with, and the service has not accepted it yet.
    pub(super) untried: bool,
    pub(super) state: State<S>,
    pub(super) microphone: MicrophonePath,
    /// An agent's conversation to go on with; empty for none.
    conversation: String,
    /// The dial shows a token that had been fetched before this call asked. If the service refuses it,
    /// a new one is fetched, once: the kept one may have been revoked, or be for a role of before.
    kept_token: bool,
    /// What the loop does not know yet, in order: at most one of each kind in a turn.
    pub(super) news: Vec<News>,
}

/// How far the connection is.
pub(super) enum State<S> {
    /// The loop is looking up the service's addresses. There is no socket and no deadline here: the
    /// look-up has its own, and the call's time to get ready bounds both.
    Resolving,
    /// The loop is getting a token of Entra ID, or has one that must not be used. There is no socket, and
    /// after `until` the call ends. The addresses wait here: they were known first.
    Authorising { addresses: Vec<SocketAddr>, until: Instant },
    /// The connection is being made: TCP, TLS, upgrade. The dial owns the sockets, which share the service's
    /// token of the poll.
    Dialling(Box<Dial<S>>),
    /// Events flow, but the service has not taken the session's settings. Microphone audio is held:
    /// sent now, it would be heard with the service's default settings.
    Configuring(Box<Connection<S>>),
    /// The service has taken the settings. Microphone audio goes straight through.
    Open(Box<Connection<S>>),
    /// As Open, but the microphone is held: another session may be about to hear it.
    Paused(Box<Connection<S>>),
    /// The call has ended and a close frame is queued. It stays until the service has answered the
    /// close, or until the session's deadline.
    Closing(Box<Connection<S>>),
    /// There is no connection and there will be none. The socket is closed, so the poll knows
    /// nothing of it any more.
    Gone,
}

/// A WebSocket to the service.
pub(super) struct Connection<S> {
    pub(super) peer: WsPeer<S>,
    keep_alive: KeepAlive,
    /// When the service will end its session, once it has said so.
    expires: Option<Instant>,
}

/// What the loop has to learn of the way to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// There is a socket to register. A race of addresses brings several, one a turn.
    Socket,
    /// There is a connection to this address.
    Reached(SocketAddr),
    /// There is none, and this address was one of those tried.
    Unreached(SocketAddr),
    /// The service has refused a token that was kept. A new one is wanted.
    TokenRefused,
    /// The service has refused the candidate. Its fallback is to be dialled.
    FallBack,
    /// The service has accepted the fallback.
    Accepted,
    /// The session was lost. The same candidate is to be dialled again, when the loop's budget of
    /// connections allows it.
    Redial,
}

/// What a turn of the dial has brought.
pub(super) enum Dialled {
    /// Nothing that the call has to know.
    Pending,
    /// An address is late or was given up, and another one is tried.
    NextAddress(Setback),
    /// The WebSocket is open.
    Open,
    /// No address led to the service, or it has refused.
    Failed {
        /// Why.
        fault: ServiceFault,
        /// The service's words, if it refuses the model.
        refused: Option<String>,
    },
}

impl<S: Socket> State<S> {
    fn connection(&self) -> Option<&Connection<S>> {
        match self {
            Self::Configuring(connection)
            | Self::Open(connection)
            | Self::Paused(connection)
            | Self::Closing(connection) => Some(connection),
            Self::Resolving | Self::Authorising { .. } | Self::Dialling(_) | Self::Gone => None,
        }
    }

    fn connection_mut(&mut self) -> Option<&mut Connection<S>> {
        match self {
            Self::Configuring(connection)
            | Self::Open(connection)
            | Self::Paused(connection)
            | Self::Closing(connection) => Some(connection),
            Self::Resolving | Self::Authorising { .. } | Self::Dialling(_) | Self::Gone => None,
        }
    }

    fn peer_mut(&mut self) -> Option<&mut WsPeer<S>> {
        self.connection_mut().map(|connection| &mut connection.peer)
    }
}

impl<S: Socket> ServiceSide<S> {
    /// A service that is still to be called. `microphone` is its share of the PCM pool.
    pub(super) fn new(candidate: Candidate, microphone: MicrophonePath) -> Self {
        // Without randomness the dial fails too, and says so.
        let request_id = upgrade::request_id().unwrap_or_default();
        Self {
            lane: 1,
            candidate,
            request_id,
            untried: false,
            state: State::Resolving,
            microphone,
            conversation: String::new(),
            kept_token: false,
            news: Vec::new(),
        }
    }

    /// A side for the same call's next session, with nothing of the microphone.
    pub(super) fn second(&self) -> Self {
        let microphone = MicrophonePath::none();
        Self {
            lane: 3 - self.lane,
            request_id: self.request_id.clone(),
            ..Self::new(self.candidate.clone(), microphone)
        }
    }

    /// Which of the call's sockets is its own.
    pub(super) fn lane(&self) -> usize {
        self.lane
    }

    // ---- the way to the service ----

    /// Whether the service's addresses are still wanted.
    pub(super) fn is_resolving(&self) -> bool {
        matches!(self.state, State::Resolving)
    }

    /// Resolving → Dialling. In any other state the addresses come too late and change nothing.
    pub(super) fn dial(&mut self, addresses: &[SocketAddr], now: Instant) {
        if self.is_resolving() {
            self.begin_dial(addresses.to_vec(), now);
        }
    }

    fn begin_dial(&mut self, addresses: Vec<SocketAddr>, now: Instant) {
        let (target, id) = (Rc::clone(self.candidate.target()), self.request_id.clone());
        let dial = Dial::new(target, addresses, id, SERVICE_SIZES, now)
            .with_conversation(&self.conversation);
        self.state = State::Dialling(Box::new(dial));
    }

    /// Whether a token is wanted.
    pub(super) fn is_authorising(&self) -> bool {
        matches!(self.state, State::Authorising { .. })
    }

    /// Resolving → Authorising: Entra ID stands for the key, so the addresses alone are not enough.
    pub(super) fn await_token(&mut self, addresses: &[SocketAddr], now: Instant) {
        if self.is_resolving() {
            let (addresses, until) = (addresses.to_vec(), now + TOKEN_PATIENCE);
            self.state = State::Authorising { addresses, until };
        }
    }

    /// Authorising → Dialling with the token in this header line. `kept` says that it had been fetched
    /// before this call asked. In any other state it comes too late and changes nothing.
    pub(super) fn authorise(&mut self, header: &str, kept: bool, now: Instant) {
        if let State::Authorising { addresses, .. } = &mut self.state {
            let addresses = std::mem::take(addresses);
            self.candidate.log_in_with(header);
            self.kept_token = kept;
            self.begin_dial(addresses, now);
        }
    }

    /// Whether a connection is being made. Asked in every turn, before a call that costs more.
    pub(super) fn is_on_its_way(&self) -> bool {
        matches!(self.state, State::Authorising { .. } | State::Dialling(_))
    }

    /// Lets the dial go on. Dialling → Configuring when the WebSocket is open, → Gone when no
    /// address is left.
    pub(super) fn advance_dial(&mut self, cx: &mut TurnContext<'_>) -> Dialled {
        if let State::Authorising { until, .. } = &self.state
            && cx.now >= *until
        {
            self.state = State::Gone;
            let fault = connection_faults::token_late(TOKEN_PATIENCE.as_secs());
            return Dialled::Failed { fault, refused: None };
        }
        let State::Dialling(dial) = &mut self.state else {
            return Dialled::Pending;
        };
        match dial.advance(cx.now) {
            DialProgress::Pending => {
                dial.take_setback().map_or(Dialled::Pending, Dialled::NextAddress)
            }
            DialProgress::NewSocket => {
                self.news.push(News::Socket);
                dial.take_setback().map_or(Dialled::Pending, Dialled::NextAddress)
            }
            DialProgress::Open(mut peer) => {
                self.news.extend(dial.address().map(News::Reached));
                cx.metrics.count(Family::Connects, "ok");
                // Its turn began before it was there. Without the allowance it would not be read.
                peer.transport_mut().begin_turn();
                let keep_alive = KeepAlive::new(keep_alive::SERVICE, cx.now);
                let connection = Connection { peer, keep_alive, expires: None };
                self.state = State::Configuring(Box::new(connection));
                Dialled::Open
            }
            DialProgress::Failed(error) => {
                cx.metrics.count(Family::Connects, "failed");
                let absent = dial.address().filter(|_| error.is_absence());
                self.news.extend(absent.map(News::Unreached));
                if std::mem::take(&mut self.kept_token) && error.is_unauthorized() {
                    let (addresses, until) = (dial.addresses().to_vec(), cx.now + TOKEN_PATIENCE);
                    self.state = State::Authorising { addresses, until };
                    self.news.push(News::TokenRefused);
                    return Dialled::Pending;
                }
                self.state = State::Gone;
                Dialled::Failed {
                    fault: connection_faults::explain(&error, self.candidate.target()),
                    refused: refusals::model_refusal(&error, self.candidate.model()),
                }
            }
        }
    }

    /// What Azure's support asks for to find the call's requests.
    pub(super) fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The session that the call asks for, and where.
    pub(super) fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    /// Configuring, Gone → Resolving: `candidate` is asked for on a new connection. A session whose
    /// first settings were refused would refuse all later ones too. Held microphone audio stays.
    pub(super) fn start_over(&mut self, candidate: Candidate) {
        self.hang_up();
        self.state = State::Resolving;
        self.candidate = candidate;
        self.untried = true;
        self.news.push(News::FallBack);
    }

    /// Any state → Gone: this session of the service is over, and another one will be asked for. What it
    /// had heard of the user's turn waits for that one.
    pub(super) fn drop_session(&mut self) {
        self.hang_up();
        self.microphone.take_back();
    }

    /// Gone → Resolving: the same candidate is asked for on a new connection. An agent goes on with
    /// `conversation`, if there is one.
    pub(super) fn redial(&mut self, conversation: &str) {
        if !conversation.is_empty() {
            conversation.clone_into(&mut self.conversation);
        }
        self.state = State::Resolving;
        self.news.push(News::Redial);
    }

    /// Any state → Gone, with a close frame if there is a connection: a session that is left open costs
    /// money. The service's answer to the close is not awaited.
    fn hang_up(&mut self) {
        if let Some(peer) = self.state.peer_mut() {
            peer.close(1000, "");
            let _ = peer.flush();
        }
        self.state = State::Gone;
    }

    /// The oldest news of the way to the service that the loop does not know; said once.
    pub(super) fn news(&mut self) -> Option<News> {
        (!self.news.is_empty()).then(|| self.news.remove(0))
    }

    /// The socket, if there is one.
    pub(super) fn socket(&mut self) -> Option<&mut S> {
        match &mut self.state {
            State::Dialling(dial) => dial.socket(),
            state => Some(state.peer_mut()?.transport_mut().stream_mut()),
        }
    }

    /// The poll has reported the socket. Nothing is read or written here. A report for a socket
    /// that has gone since then is ignored.
    pub(super) fn mark(&mut self, readable: bool, writable: bool, ending: bool) {
        match &mut self.state {
            State::Dialling(dial) => dial.mark(readable, writable, ending),
            state => {
                if let Some(peer) = state.peer_mut() {
                    peer.mark(readable, writable, ending);
                }
            }
        }
    }

    /// `text` without the credential, if it holds it.
    pub(super) fn conceal(&self, text: &str) -> Option<String> {
        self.candidate.target().conceal(text)
    }

    // ---- a turn ----

    /// A turn begins: the transport gets its allowance, and the loop's memory to write into.
    pub(super) fn begin_turn(&mut self, memory: &mut Vec<u8>) {
        if let Some(peer) = self.state.peer_mut() {
            peer.transport_mut().begin_turn();
            peer.lend(memory);
        }
    }

    /// A turn ends: the memory goes back to the loop, unless something in it could not leave.
    pub(super) fn end_turn(&mut self, memory: &mut Vec<u8>) {
        if let Some(peer) = self.state.peer_mut() {
            peer.take_back(memory);
        }
    }

    /// Whether a read may bring something without a new event.
    pub(super) fn has_more(&self) -> bool {
        self.state.connection().is_some_and(|connection| connection.peer.has_more())
    }

    /// The next message, not yet looked at as text; `None` when there is no whole one, or no
    /// connection.
    pub(super) fn read<'i>(&mut self, inbox: &'i mut Inbox) -> Result<Option<Raw<'i>>, WsError> {
        match self.state.peer_mut() {
            Some(peer) if peer.has_more() => peer.read_raw(inbox),
            _ => Ok(None),
        }
    }

    /// Keeps what the inbox still holds of this connection: the inbox is about to serve others. A
    /// connection that has gone leaves nothing in it.
    pub(super) fn keep(&mut self, inbox: &mut Inbox) {
        match self.state.peer_mut() {
            Some(peer) => peer.keep(inbox),
            None => inbox.clear(),
        }
    }

    /// The last message was text and no UTF-8: queues the close frame for that (RFC 6455, section
    /// 8.1), and says what to report.
    pub(super) fn refuse_text(&mut self) -> Option<WsError> {
        self.state.peer_mut().map(WsPeer::not_text)
    }

    /// Queues a command. Without a connection there is nobody to tell, and nothing is lost: the call
    /// ends for that.
    ///
    /// # Errors
    /// [`WsError::Full`] when too much waits. Any other failure shows at the next read.
    pub(super) fn tell(&mut self, json: &str) -> Result<(), WsError> {
        if self.microphone.has_commands() {
            return self.microphone.put_behind(json.to_owned());
        }
        match self.state.peer_mut() {
            Some(peer) => peer.send(Message::Text(json)),
            None => Ok(()),
        }
    }

    /// Queues a command behind the microphone audio that waits; later commands stay behind it.
    ///
    /// # Errors
    /// As [`tell`](Self::tell).
    pub(super) fn tell_behind(&mut self, json: String) -> Result<(), WsError> {
        if self.microphone.is_empty() { self.tell(&json) } else { self.microphone.put_behind(json) }
    }

    /// Sends the microphone audio that waits, then writes out what was queued in this turn.
    #[inline]
    pub(super) fn flush(&mut self, pool: &mut PcmPool, now: Instant) -> Result<(), WsError> {
        if let State::Open(connection) = &mut self.state {
            self.microphone.send(&mut connection.peer, pool, now);
        }
        self.flush_commands()
    }

    /// Writes out what was queued in this turn.
    #[inline]
    pub(super) fn flush_commands(&mut self) -> Result<(), WsError> {
        self.state.peer_mut().map_or(Ok(()), WsPeer::flush)
    }

    // ---- life and end ----

    /// Says whether the service must be given up, and pings it if it has been silent.
    pub(super) fn check(&mut self, now: Instant) -> Result<(), Dead> {
        match self.state.connection_mut() {
            Some(Connection { peer, keep_alive, .. }) => keep_alive.check(peer, now),
            None => Ok(()),
        }
    }

    /// The service was not read, for backpressure: it is not silent of its own accord.
    pub(super) fn excuse(&mut self, now: Instant) {
        if let Some(connection) = self.state.connection_mut() {
            connection.keep_alive.excuse(now);
        }
    }

    /// Turns the service's calendar time (seconds since 1970) into a deadline, once. The call has no
    /// calendar. A time that makes no sense by our own clock is not believed. Returns it if it is new.
    pub(super) fn learn_expiry(
        &mut self,
        expires_at: Option<u64>,
        now: Instant,
    ) -> Option<Instant> {
        let connection = self.state.connection_mut().filter(|it| it.expires.is_none())?;
        let expires_at = expires_at?;
        let at = UNIX_EPOCH + Duration::from_secs(expires_at);
        let left = at.duration_since(SystemTime::now()).ok();
        connection.expires = left.filter(|left| *left < LONGEST_SESSION).map(|left| now + left);
        connection.expires
    }

    /// Whether the service's session has lasted as long as the service allows.
    pub(super) fn has_expired(&self, now: Instant) -> bool {
        let expires = self.state.connection().and_then(|connection| connection.expires);
        expires.is_some_and(|expires| now >= expires)
    }

    /// When the dial, the keep-alive or the expiry needs a turn at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Authorising { until, .. } => Some(*until),
            State::Dialling(dial) => Some(dial.deadline()),
            state => {
                let Connection { peer, keep_alive, expires } = state.connection()?;
                let due = sooner(Some(keep_alive.deadline(peer)), *expires);
                if matches!(state, State::Open(_)) {
                    return sooner(due, self.microphone.deadline());
                }
                due
            }
        }
    }

    /// Any state → Gone: the connection is lost, or none can be had. What the microphone has queued
    /// stays.
    pub(super) fn lose(&mut self) {
        self.state = State::Gone;
    }

    /// The call has ended. Configuring, Open → Closing with the closing handshake; earlier states →
    /// Gone. Microphone audio that waits is dropped: nothing may follow a close frame.
    pub(super) fn close(&mut self, pool: &mut PcmPool) {
        self.microphone.clear(pool);
        self.state = match std::mem::replace(&mut self.state, State::Gone) {
            State::Configuring(mut connection)
            | State::Open(mut connection)
            | State::Paused(mut connection)
            | State::Closing(mut connection) => {
                connection.peer.close(1000, "");
                State::Closing(connection)
            }
            State::Resolving | State::Authorising { .. } | State::Dialling(_) | State::Gone => {
                State::Gone
            }
        };
    }

    /// Whether the connection has nothing more to do.
    pub(super) fn is_done(&self) -> bool {
        self.state.connection().is_none_or(|connection| connection.peer.is_done())
    }

    /// Gives the blocks back to the pool.
    pub(super) fn release(self, pool: &mut PcmPool) {
        self.microphone.close(pool);
    }
}

#[cfg(test)]
mod tests {
    use mio::net::TcpStream;

    use super::super::candidates::tests::candidate;
    use super::*;

    fn side() -> ServiceSide<TcpStream> {
        ServiceSide::new(candidate(&["m"], None), MicrophonePath::none())
    }

    /// The poll tells the two sockets of a call apart by it.
    #[test]
    fn the_next_side_has_the_other_lane() {
        let next = side().second();
        assert_eq!([side().lane(), next.lane(), next.second().lane()], [1, 2, 1]);
    }

    /// The service may not have told of a conversation before it was lost.
    #[test]
    fn a_redial_goes_on_with_the_last_conversation_that_is_known() {
        let mut side = side();
        for (told, known) in [("", ""), ("c1", "c1"), ("", "c1"), ("c2", "c2")] {
            side.redial(told);
            assert_eq!(side.conversation, known);
        }
    }
}
