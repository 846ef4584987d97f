//! Reply audio on its way to the client: decoded straight into its frames, or, when it is behind,
//! into PCM blocks. What neither takes stays as it came, and the service is not read (R2).

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use mio::net::TcpStream;
use tungstenite::{Message, Utf8Bytes};

use super::Desk;
use crate::call::pcm::{BLOCK_BYTES, PcmPool, PcmQueue};
use crate::net::ws::{WsError, WsPeer};

/// Blocks that always belong to a call's reply: 1 s.
const GUARANTEED: usize = 50;

/// The share of the whole pool that one call's reply may hold, as a divisor.
const LARGEST_SHARE: usize = 2;

/// The largest frame sent to a client, in bytes of PCM: 320 ms, more than the service's usual
/// delta of 260 ms, so that such a delta is one frame.
const MAX_FRAME: usize = 16 * BLOCK_BYTES;

/// The largest frame from the blocks, in bytes: a client that is behind gets 80 ms at a time, since
/// what the WebSocket has taken can no longer be cleared.
const MAX_QUEUED_FRAME: usize = 4 * BLOCK_BYTES;

/// Base64 characters of a block: 960 bytes are a whole number of its groups.
const BLOCK_CHARS: usize = BLOCK_BYTES / 3 * 4;

/// Why the path cannot go on.
#[derive(Debug)]
pub(super) enum PathError {
    /// The client's connection is over.
    Client(WsError),
    /// The service's audio cannot be decoded.
    Service(&'static str),
}

/// The reply's way. Order: blocks first, then the parked delta.
#[derive(Debug)]
pub(super) struct ReplyPath {
    queue: PcmQueue,
    parked: Option<Parked>,
}

/// A delta that is not yet, or only partly, decoded.
#[derive(Debug)]
struct Parked {
    event: Utf8Bytes,
    /// What is left of its base64.
    base64: Range<usize>,
}

impl ReplyPath {
    pub(super) fn open(pool: &mut PcmPool) -> Option<Self> {
        let share = pool.total_blocks() / LARGEST_SHARE;
        Some(Self { queue: pool.open(GUARANTEED, share)?, parked: None })
    }

    pub(super) fn close(self, pool: &mut PcmPool) {
        self.queue.close(pool);
    }

    /// Forgets everything that has not been sent (barge-in).
    pub(super) fn clear(&mut self, pool: &mut PcmPool) {
        self.queue.clear(pool);
        self.parked = None;
    }

    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.parked.is_none()
    }

    /// Neither client nor blocks take more: stop reading the service.
    pub(super) fn is_backed_up(&self) -> bool {
        self.parked.is_some()
    }

    /// Takes a delta. Follow with [`send`](Self::send).
    pub(super) fn accept(&mut self, event: Utf8Bytes, base64: Range<usize>) {
        debug_assert!(self.parked.is_none(), "the service was read while backed up");
        self.parked = (!base64.is_empty()).then_some(Parked { event, base64 });
    }

    /// Sends what the client takes now, then moves what it does not into blocks. Returns the
    /// bytes of PCM sent.
    pub(super) fn send(
        &mut self,
        client: &mut WsPeer<TcpStream>,
        desk: &mut Desk<'_>,
    ) -> Result<usize, PathError> {
        let mut sent = 0;
        while !self.is_empty() && has_room(client)? {
            let frame = self.next_frame(desk.pool, desk.scratch)?;
            if frame == 0 {
                break;
            }
            let message = Message::Binary(desk.scratch.split().freeze());
            client.send(message).map_err(PathError::Client)?;
            sent += frame;
        }
        self.store(desk.pool)?;
        Ok(sent)
    }

    /// Puts the next frame into `scratch`; its bytes.
    fn next_frame(
        &mut self,
        pool: &mut PcmPool,
        scratch: &mut BytesMut,
    ) -> Result<usize, PathError> {
        scratch.clear();
        while !self.queue.is_empty() && scratch.len() < MAX_QUEUED_FRAME {
            let part = self.queue.front(pool);
            let bytes = part.len();
            scratch.extend_from_slice(part);
            self.queue.consume(pool, bytes);
        }
        if scratch.is_empty()
            && let Some(parked) = &mut self.parked
        {
            scratch.resize(MAX_FRAME, 0);
            let bytes = parked.decode(scratch, MAX_FRAME / BLOCK_BYTES * BLOCK_CHARS)?;
            scratch.truncate(bytes);
            if parked.base64.is_empty() {
                self.parked = None;
            }
        }
        Ok(scratch.len())
    }

    /// Moves the parked delta into blocks as far as there are any.
    fn store(&mut self, pool: &mut PcmPool) -> Result<(), PathError> {
        while let Some(parked) = &mut self.parked {
            if parked.base64.is_empty() {
                self.parked = None;
                break;
            }
            let Some(block) = self.queue.writable(pool, BLOCK_BYTES) else {
                break;
            };
            let bytes = parked.decode(block, BLOCK_CHARS)?;
            self.queue.commit(pool, bytes);
        }
        Ok(())
    }
}

impl Parked {
    /// Decodes up to `chars` characters, a multiple of four, into `out`; the bytes written.
    fn decode(&mut self, out: &mut [u8], chars: usize) -> Result<usize, PathError> {
        let start = self.base64.start;
        let end = self.base64.end.min(start + chars);
        // Group by group the text is ASCII; a cut inside a character is no base64 either way.
        let text = self.event.as_str().as_bytes().get(start..end).unwrap_or_default();
        self.base64.start = end;
        STANDARD.decode_slice(text, out).map_err(|_| PathError::Service("audio that is not base64"))
    }
}

/// Whether the client takes audio now; flushes once when only our own coalescing is in the way.
fn has_room(client: &mut WsPeer<TcpStream>) -> Result<bool, PathError> {
    if client.has_room() {
        return Ok(true);
    }
    if client.transport().is_blocked() || !client.is_open() {
        return Ok(false);
    }
    client.flush().map_err(PathError::Client)?;
    Ok(client.has_room())
}
