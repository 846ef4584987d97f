//! Reply audio on its way to the client: decoded straight into its frames, or, when it is behind,
//! into PCM blocks. What neither takes stays as it came, and the service is not read (R2).

use base64_simd::{AsOut, STANDARD};
use mio::net::TcpStream;

use crate::call::pcm::{BLOCK_BYTES, PcmPool, PcmQueue};
use crate::net::ws::{Kind, WsError, WsPeer};

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

impl From<WsError> for PathError {
    fn from(error: WsError) -> Self {
        Self::Client(error)
    }
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
    base64: Box<[u8]>,
    /// Where its rest begins.
    from: usize,
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

    /// Takes a delta: sends what the client takes now, moves what it does not into blocks, and keeps
    /// what finds no block. Returns the bytes of PCM sent.
    pub(super) fn accept(
        &mut self,
        base64: &str,
        client: &mut WsPeer<TcpStream>,
        pool: &mut PcmPool,
    ) -> Result<usize, PathError> {
        debug_assert!(self.parked.is_none(), "the service was read while backed up");
        let mut sent = self.send_blocks(client, pool)?;
        let mut rest = base64.as_bytes();
        sent += self.send_and_store(&mut rest, client, pool)?;
        if !rest.is_empty() {
            self.parked = Some(Parked { base64: rest.into(), from: 0 });
        }
        Ok(sent)
    }

    /// Sends what the client takes now, then moves what it does not into blocks. Returns the
    /// bytes of PCM sent.
    pub(super) fn send(
        &mut self,
        client: &mut WsPeer<TcpStream>,
        pool: &mut PcmPool,
    ) -> Result<usize, PathError> {
        let mut sent = self.send_blocks(client, pool)?;
        if let Some(mut parked) = self.parked.take() {
            let mut rest = &parked.base64[parked.from..];
            sent += self.send_and_store(&mut rest, client, pool)?;
            parked.from = parked.base64.len() - rest.len();
            self.parked = (!rest.is_empty()).then_some(parked);
        }
        Ok(sent)
    }

    fn send_blocks(
        &mut self,
        client: &mut WsPeer<TcpStream>,
        pool: &mut PcmPool,
    ) -> Result<usize, PathError> {
        let mut sent = 0;
        while !self.queue.is_empty() && has_room(client)? {
            sent += client.send_with(Kind::Binary, |out| {
                let mut frame = 0;
                while !self.queue.is_empty() && frame < MAX_QUEUED_FRAME {
                    let part = self.queue.front(pool);
                    let bytes = part.len();
                    out.extend_from_slice(part);
                    self.queue.consume(pool, bytes);
                    frame += bytes;
                }
                Ok::<_, PathError>(frame)
            })?;
        }
        Ok(sent)
    }

    /// Decodes straight into frames while the client takes them and no block waits, then into blocks
    /// as far as there are any.
    fn send_and_store(
        &mut self,
        rest: &mut &[u8],
        client: &mut WsPeer<TcpStream>,
        pool: &mut PcmPool,
    ) -> Result<usize, PathError> {
        let mut sent = 0;
        while self.queue.is_empty() && !rest.is_empty() && has_room(client)? {
            sent += client.send_with(Kind::Binary, |out| {
                let start = out.len();
                let text = take(rest, MAX_FRAME / BLOCK_BYTES * BLOCK_CHARS);
                STANDARD.decode_append(text, out).map_err(no_base64)?;
                Ok::<_, PathError>(out.len() - start)
            })?;
        }
        while !rest.is_empty()
            && let Some(block) = self.queue.writable(pool, BLOCK_BYTES)
        {
            let text = take(rest, BLOCK_CHARS);
            let bytes = STANDARD.decode(text, block.as_out()).map_err(no_base64)?.len();
            self.queue.commit(pool, bytes);
        }
        Ok(sent)
    }
}

/// Takes up to `chars` characters, a multiple of four. Group by group base64 is ASCII; a cut inside
/// a character is no base64 either way.
fn take<'t>(rest: &mut &'t [u8], chars: usize) -> &'t [u8] {
    let (text, left) = rest.split_at(chars.min(rest.len()));
    *rest = left;
    text
}

fn no_base64(_: base64_simd::Error) -> PathError {
    PathError::Service("audio that is not base64")
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
