//! The client's side of a session: its WebSocket, whether it still lives, and the reply audio that
//! waits for it. The connection may be replaced by another one; what waits stays.
//!
//! This file moves bytes and keeps bounds. What the client says is given to the call in
//! `from_client`.

use std::time::{Duration, Instant};

use super::keep_alive::{self, Dead, KeepAlive};
use super::reply::ReplyPath;
use super::tail::NoReturn;
use super::texts::Texts;
use crate::call::client::MAX_FRAME_BYTES;
use crate::call::ending::EndReason;
use crate::call::pcm::PcmPool;
use crate::net::inbox::Inbox;
use crate::net::socket::Socket;
use crate::net::ws::{Incoming, Message, Sizes, USUAL_WAITING, WsError, WsPeer};

/// Bounds of a client's connection, in bytes: the largest message it may send, and most that waits
/// to be sent to it.
pub const CLIENT_SIZES: Sizes = Sizes { message: MAX_FRAME_BYTES, waiting: USUAL_WAITING };

/// Text and control messages that a client may send in a second.
pub(super) const MAX_CHATTER: u32 = 200;

/// The close code of a connection that the call goes on without (1012, "service restart", by the IANA
/// registry): the client may connect again.
pub const SUPERSEDED: u16 = 1012;

/// See the module's text.
///
/// What may be relied on: a message or a sample that the client cannot have had is never dropped here,
/// whatever becomes of the connection, until the call ends or its bounds are met.
pub(super) struct ClientSide<S> {
    line: Line<S>,
    reply: ReplyPath,
    texts: Texts,
}

/// Whether there is a connection to the client.
///
/// ```text
/// Open ──leave()──► Away ──join()──► Open        Open ──join()──► Open, in place of the old one
/// ```
///
/// How long a client may be away decides the call (`call/absence`).
#[allow(
    clippy::large_enum_variant,
    reason = "a client is hardly ever away, and a box would be opened at every frame"
)]
enum Line<S> {
    /// There is, as far as is known.
    Open(Connection<S>),
    /// It broke, and its socket is closed: the poll knows nothing of it any more. Reply audio goes into
    /// blocks, and messages into `texts`.
    Away {
        /// When it is given up.
        until: Instant,
        /// The messages that the client has missed found no room: its call cannot be taken up.
        overfull: bool,
    },
}

/// A WebSocket to the client.
struct Connection<S> {
    peer: WsPeer<S>,
    keep_alive: KeepAlive,
    /// A message found no room. The client counts as stalled from then on, because it has missed
    /// something that it cannot ask for again.
    overfull: bool,
    chatter: Chatter,
}

/// Messages that are no audio, counted within one second.
struct Chatter {
    since: Instant,
    count: u32,
}

/// What a client says of itself when it joins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Had {
    /// Bytes of reply audio that it has had; `None` if it does not say.
    pub received: Option<u64>,
    /// Text messages that it has had.
    pub messages: Option<u64>,
}

/// What a client that has joined again missed.
pub(super) struct Missed<S> {
    /// Bytes of PCM that are sent again.
    pub(super) pcm: usize,
    /// Messages to be sent again, in order.
    pub(super) texts: Vec<Box<str>>,
    /// The connection that was not known to be dead.
    pub(super) old: Option<WsPeer<S>>,
}

impl<S: Socket> Connection<S> {
    fn new(peer: WsPeer<S>, now: Instant) -> Self {
        Self {
            peer,
            keep_alive: KeepAlive::new(keep_alive::CLIENT, now),
            overfull: false,
            chatter: Chatter { since: now, count: 0 },
        }
    }
}

impl<S: Socket> ClientSide<S> {
    /// A client whose WebSocket is open. `reply` is its share of the PCM pool.
    pub(super) fn new(peer: WsPeer<S>, reply: ReplyPath, now: Instant) -> Self {
        let texts = Texts::new(reply.tail().is_kept());
        Self { line: Line::Open(Connection::new(peer, now)), reply, texts }
    }

    fn peer_mut(&mut self) -> Option<&mut WsPeer<S>> {
        match &mut self.line {
            Line::Open(connection) => Some(&mut connection.peer),
            Line::Away { .. } => None,
        }
    }

    /// The socket, for registration with the poll; `None` while the client is away.
    pub(super) fn socket(&mut self) -> Option<&mut S> {
        self.peer_mut().map(|peer| peer.transport_mut().stream_mut())
    }

    /// The poll has reported the socket. Nothing is read or written here. A report for a socket that has
    /// gone since then is ignored.
    pub(super) fn mark(&mut self, readable: bool, writable: bool, ending: bool) {
        if let Some(peer) = self.peer_mut() {
            peer.mark(readable, writable, ending);
        }
    }

    /// A turn begins: the transport gets its allowance, and the loop's memory to write into.
    pub(super) fn begin_turn(&mut self, memory: &mut Vec<u8>) {
        if let Some(peer) = self.peer_mut() {
            peer.transport_mut().begin_turn();
            peer.lend(memory);
        }
    }

    /// A turn ends: the memory goes back to the loop, unless something in it could not leave.
    pub(super) fn end_turn(&mut self, memory: &mut Vec<u8>) {
        if let Some(peer) = self.peer_mut() {
            peer.take_back(memory);
        }
    }

    // ---- away, and back ----

    /// Open → Away. A peer that may still hear it is told that this connection is over, so that it does
    /// not wait for it.
    pub(super) fn leave(&mut self, until: Instant) {
        if let Some(peer) = self.peer_mut() {
            peer.close(SUPERSEDED, "");
            let _ = peer.flush();
        }
        self.line = Line::Away { until, overfull: false };
    }

    /// Whether a client that has had this can go on from there.
    pub(super) fn may_go_on(&self, had: Had) -> Result<(), NoReturn> {
        had.received.map_or(Ok(()), |received| self.reply.tail().may_go_on(received))
    }

    /// Any state → Open, with a new connection. Ask [`may_go_on`](Self::may_go_on) first.
    pub(super) fn join(
        &mut self,
        peer: WsPeer<S>,
        had: Had,
        pool: &mut PcmPool,
        now: Instant,
    ) -> Missed<S> {
        let position = self.reply.tail().position();
        let pcm = self.reply.go_on(had.received.unwrap_or(position), pool);
        let texts = self.texts.take_missed(had.messages).collect();
        self.reply.keep_tail(pool);
        let old = match std::mem::replace(&mut self.line, Line::Open(Connection::new(peer, now))) {
            Line::Open(old) => Some(old.peer),
            Line::Away { .. } => None,
        };
        Missed { pcm, texts, old }
    }

    // ---- reading ----

    /// Whether a read may bring something without a new event.
    pub(super) fn has_more(&self) -> bool {
        matches!(&self.line, Line::Open(connection) if connection.peer.has_more())
    }

    /// The next message; `None` when there is no whole one.
    pub(super) fn read<'i>(
        &mut self,
        inbox: &'i mut Inbox,
    ) -> Result<Option<Incoming<'i>>, WsError> {
        match &mut self.line {
            Line::Open(connection) if connection.peer.has_more() => connection.peer.read(inbox),
            Line::Open(_) | Line::Away { .. } => Ok(None),
        }
    }

    /// Keeps what the inbox still holds of this connection: the inbox is about to serve others. A
    /// connection that has gone leaves nothing in it.
    pub(super) fn keep(&mut self, inbox: &mut Inbox) {
        match self.peer_mut() {
            Some(peer) => peer.keep(inbox),
            None => inbox.clear(),
        }
    }

    /// Counts a message that is no audio; true if there were more than [`MAX_CHATTER`] in a second.
    /// Such messages cost a JSON parse each and are rare in an honest call.
    pub(super) fn is_flooding(&mut self, now: Instant) -> bool {
        let Line::Open(Connection { chatter: Chatter { since, count }, .. }) = &mut self.line
        else {
            return false;
        };
        if now.duration_since(*since) >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count > MAX_CHATTER
    }

    // ---- sending ----

    /// Queues a text message. It overtakes reply audio that waits in blocks, so `speech_started`
    /// reaches a client that is seconds behind. While the client is away it is kept.
    pub(super) fn tell(&mut self, json: &str) {
        match &mut self.line {
            Line::Open(connection) => match connection.peer.send(Message::Text(json)) {
                Ok(()) => self.texts.sent(json),
                Err(WsError::Full) => connection.overfull = true,
                // The connection has just broken, which shows at the end of the turn.
                Err(_) => connection.overfull |= !self.texts.missed(json),
            },
            Line::Away { overfull, .. } => *overfull |= !self.texts.missed(json),
        }
    }

    /// Takes a decoded delta.
    pub(super) fn accept_reply(&mut self, pcm: &[u8], pool: &mut PcmPool) -> Result<(), WsError> {
        let peer = match &mut self.line {
            Line::Open(connection) => Some(&mut connection.peer),
            Line::Away { .. } => None,
        };
        self.reply.accept(pcm, peer, pool)
    }

    /// Sends reply audio that waits, as far as the client takes it; `None` if none waits, or nobody is
    /// there to take it.
    pub(super) fn send_reply(&mut self, pool: &mut PcmPool) -> Option<Result<(), WsError>> {
        match &mut self.line {
            Line::Open(connection) if !self.reply.is_empty() => {
                Some(self.reply.send(&mut connection.peer, pool))
            }
            Line::Open(_) | Line::Away { .. } => None,
        }
    }

    /// Bytes of PCM that have left for the client so far. It only grows.
    pub(super) fn reply_sent(&self) -> u64 {
        self.reply.sent()
    }

    /// Throws away all reply audio that has not left (barge-in, end).
    pub(super) fn drop_reply(&mut self, pool: &mut PcmPool) {
        self.reply.clear(pool);
    }

    /// R2: neither the client nor the blocks take more. While this is true the service must not be
    /// read, or a delta would find no place.
    pub(super) fn is_backed_up(&self) -> bool {
        self.reply.is_backed_up()
    }

    /// Writes out what was queued in this turn.
    pub(super) fn flush(&mut self) -> Result<(), WsError> {
        self.peer_mut().map_or(Ok(()), WsPeer::flush)
    }

    // ---- life and end ----

    /// Says whether the client must be given up, and pings it if it has been silent.
    pub(super) fn check(&mut self, now: Instant) -> Result<(), Dead> {
        match &mut self.line {
            Line::Open(Connection { peer, keep_alive, overfull, .. }) => {
                let can_return = self.reply.tail().is_kept();
                match keep_alive.check(peer, now) {
                    // It broke while something was written to it.
                    Ok(()) if peer.is_done() => Err(Dead::Silent),
                    Ok(()) if *overfull => Err(Dead::Stalled),
                    // What takes nothing and says nothing has more likely lost its network.
                    Err(Dead::Stalled) if can_return && !keep_alive.is_heard(now) => {
                        Err(Dead::Silent)
                    }
                    verdict => verdict,
                }
            }
            Line::Away { until, overfull } if *overfull || now >= *until => Err(Dead::Away),
            Line::Away { .. } => Ok(()),
        }
    }

    /// When [`check`](Self::check) must be asked again at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.line {
            Line::Open(Connection { peer, keep_alive, .. }) => Some(keep_alive.deadline(peer)),
            Line::Away { until, .. } => Some(*until),
        }
    }

    /// Begins the closing handshake, with the reason's close code and sentence. Reply audio that
    /// waits is dropped: nothing may follow a close frame.
    pub(super) fn close(&mut self, reason: &EndReason, pool: &mut PcmPool) {
        self.reply.clear(pool);
        if let Some(peer) = self.peer_mut() {
            peer.close(reason.close_code(), &reason.message());
        }
    }

    /// Shuts the sending half down once all has left. Must follow the last [`flush`](Self::flush)
    /// of a turn.
    pub(super) fn end_output(&mut self) {
        if let Some(peer) = self.peer_mut() {
            peer.end_output();
        }
    }

    /// Whether the connection has nothing more to do: the socket may be dropped.
    pub(super) fn is_done(&self) -> bool {
        match &self.line {
            Line::Open(connection) => connection.peer.is_done(),
            Line::Away { .. } => true,
        }
    }

    /// Gives the blocks back to the pool.
    pub(super) fn release(self, pool: &mut PcmPool) {
        self.reply.close(pool);
    }
}
