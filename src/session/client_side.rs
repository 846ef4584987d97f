//! The client's side of a session: its WebSocket, whether it still lives, and the reply audio that
//! waits for it.
//!
//! This file moves bytes and keeps bounds. What the client says is given to the call in
//! `from_client`.

use std::time::{Duration, Instant};

use super::keep_alive::{self, Dead, KeepAlive};
use super::reply::ReplyPath;
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

/// See the module's text.
pub(super) struct ClientSide<S> {
    peer: WsPeer<S>,
    keep_alive: KeepAlive,
    reply: ReplyPath,
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

impl<S: Socket> ClientSide<S> {
    /// A client whose WebSocket is open. `reply` is its share of the PCM pool.
    pub(super) fn new(peer: WsPeer<S>, reply: ReplyPath, now: Instant) -> Self {
        Self {
            peer,
            keep_alive: KeepAlive::new(keep_alive::CLIENT, now),
            reply,
            overfull: false,
            chatter: Chatter { since: now, count: 0 },
        }
    }

    /// The socket, for registration with the poll.
    pub(super) fn socket(&mut self) -> &mut S {
        self.peer.transport_mut().stream_mut()
    }

    /// The poll has reported the socket. Nothing is read or written here.
    pub(super) fn mark(&mut self, readable: bool, writable: bool, ending: bool) {
        super::mark(&mut self.peer, readable, writable, ending);
    }

    /// A turn begins: the transport gets its allowance, and the loop's memory to write into.
    pub(super) fn begin_turn(&mut self, memory: &mut Vec<u8>) {
        self.peer.transport_mut().begin_turn();
        self.peer.lend(memory);
    }

    /// A turn ends: the memory goes back to the loop, unless something in it could not leave.
    pub(super) fn end_turn(&mut self, memory: &mut Vec<u8>) {
        self.peer.take_back(memory);
    }

    // ---- reading ----

    /// Whether a read may bring something without a new event.
    pub(super) fn has_more(&self) -> bool {
        self.peer.has_more()
    }

    /// The next message; `None` when there is no whole one.
    pub(super) fn read<'i>(
        &mut self,
        inbox: &'i mut Inbox,
    ) -> Result<Option<Incoming<'i>>, WsError> {
        self.peer.read(inbox)
    }

    /// Keeps what the inbox still holds of this connection: the inbox is about to serve others.
    pub(super) fn keep(&mut self, inbox: &mut Inbox) {
        self.peer.keep(inbox);
    }

    /// Counts a message that is no audio; true if there were more than [`MAX_CHATTER`] in a second.
    /// Such messages cost a JSON parse each and are rare in an honest call.
    pub(super) fn is_flooding(&mut self, now: Instant) -> bool {
        let Chatter { since, count } = &mut self.chatter;
        if now.duration_since(*since) >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count > MAX_CHATTER
    }

    // ---- sending ----

    /// Queues a text message. It overtakes reply audio that waits in blocks, so `speech_started`
    /// reaches a client that is seconds behind.
    pub(super) fn tell(&mut self, json: &str) {
        if let Err(WsError::Full) = self.peer.send(Message::Text(json)) {
            self.overfull = true;
        }
    }

    /// Takes a decoded delta. Returns the bytes of PCM that left for the client.
    pub(super) fn accept_reply(
        &mut self,
        pcm: &[u8],
        pool: &mut PcmPool,
    ) -> Result<usize, WsError> {
        self.reply.accept(pcm, &mut self.peer, pool)
    }

    /// Sends reply audio that waits, as far as the client takes it; `None` if none waits. Returns
    /// the bytes of PCM that left.
    pub(super) fn send_reply(&mut self, pool: &mut PcmPool) -> Option<Result<usize, WsError>> {
        (!self.reply.is_empty()).then(|| self.reply.send(&mut self.peer, pool))
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
        self.peer.flush()
    }

    // ---- life and end ----

    /// Says whether the client must be given up, and pings it if it has been silent.
    pub(super) fn check(&mut self, now: Instant) -> Result<(), Dead> {
        match self.keep_alive.check(&mut self.peer, now) {
            Ok(()) if self.overfull => Err(Dead::Stalled),
            verdict => verdict,
        }
    }

    /// When [`check`](Self::check) must be asked again at the latest.
    pub(super) fn deadline(&self) -> Instant {
        self.keep_alive.deadline(&self.peer)
    }

    /// Begins the closing handshake, with the reason's close code and sentence. Reply audio that
    /// waits is dropped: nothing may follow a close frame.
    pub(super) fn close(&mut self, reason: &EndReason, pool: &mut PcmPool) {
        self.reply.clear(pool);
        self.peer.close(reason.close_code(), &reason.message());
    }

    /// Shuts the sending half down once all has left. Must follow the last [`flush`](Self::flush)
    /// of a turn.
    pub(super) fn end_output(&mut self) {
        self.peer.end_output();
    }

    /// Whether the connection has nothing more to do: the socket may be dropped.
    pub(super) fn is_done(&self) -> bool {
        self.peer.is_done()
    }

    /// Gives the blocks back to the pool.
    pub(super) fn release(self, pool: &mut PcmPool) {
        self.reply.close(pool);
    }
}
