//! Reply audio on its way to the client: straight into its frames, or, when the client is behind,
//! into PCM blocks. What neither takes is parked, and the service is not read until it is gone (R2).
//!
//! Unlike microphone audio it is never dropped for want of room: a reply with a hole is no reply. It
//! is dropped only as a whole, when the user interrupts.

use super::base64_audio;
use crate::call::pcm::{BLOCK_BYTES, PcmPool, PcmQueue};
use crate::net::socket::Socket;
use crate::net::ws::{Kind, Message, WsError, WsPeer};

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

/// Where a delta is decoded before anything is done with it: half a delta is none, and what is no
/// base64 may yet be audio in another spelling. Lent by the loop.
#[derive(Debug, Default)]
pub(super) struct Decoded(Vec<u8>);

impl Decoded {
    /// Bytes that are kept allocated: more than twice the usual delta.
    const USUAL: usize = 32 * 1024;

    /// The PCM in a base64 text, behind one byte of room for half a sample; `None` if it is none.
    pub(super) fn decode(&mut self, base64: &[u8]) -> Option<&mut [u8]> {
        let most = 1 + base64_audio::most_decoded(base64.len());
        if self.0.len() < most || self.0.len() > Self::USUAL.max(most) {
            self.0 = vec![0; most.max(Self::USUAL)];
        }
        let pcm = base64_audio::decode(base64, self.0.get_mut(1..)?)?.len();
        self.0.get_mut(..=pcm)
    }
}

/// The queue in front of the client. What came first leaves first: the blocks, then the parked delta,
/// then what comes new. A new delta is never accepted while one is parked.
#[derive(Debug)]
pub(super) struct ReplyPath {
    queue: PcmQueue,
    parked: Option<Parked>,
}

/// The rest of a delta that has found no place yet. There is one at most, because the service is not
/// read meanwhile.
#[derive(Debug)]
struct Parked {
    pcm: Box<[u8]>,
    /// Where its rest begins.
    from: usize,
}

impl ReplyPath {
    /// Reserves its guaranteed blocks; `None` if the pool has not as many.
    pub(super) fn open(pool: &mut PcmPool) -> Option<Self> {
        let share = pool.total_blocks() / LARGEST_SHARE;
        Some(Self { queue: pool.open(GUARANTEED, share)?, parked: None })
    }

    /// Gives the blocks back.
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
    pub(super) fn accept<S: Socket>(
        &mut self,
        pcm: &[u8],
        client: &mut WsPeer<S>,
        pool: &mut PcmPool,
    ) -> Result<usize, WsError> {
        debug_assert!(self.parked.is_none(), "the service was read while backed up");
        let mut sent = self.send_blocks(client, pool)?;
        let mut rest = pcm;
        sent += self.send_and_store(&mut rest, client, pool)?;
        if !rest.is_empty() {
            self.parked = Some(Parked { pcm: rest.into(), from: 0 });
        }
        Ok(sent)
    }

    /// Sends what the client takes now, then moves what it does not into blocks. Returns the
    /// bytes of PCM sent.
    pub(super) fn send<S: Socket>(
        &mut self,
        client: &mut WsPeer<S>,
        pool: &mut PcmPool,
    ) -> Result<usize, WsError> {
        let mut sent = self.send_blocks(client, pool)?;
        if let Some(mut parked) = self.parked.take() {
            let mut rest = &parked.pcm[parked.from..];
            sent += self.send_and_store(&mut rest, client, pool)?;
            parked.from = parked.pcm.len() - rest.len();
            self.parked = (!rest.is_empty()).then_some(parked);
        }
        Ok(sent)
    }

    fn send_blocks<S: Socket>(
        &mut self,
        client: &mut WsPeer<S>,
        pool: &mut PcmPool,
    ) -> Result<usize, WsError> {
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
                Ok::<_, WsError>(frame)
            })?;
        }
        Ok(sent)
    }

    /// Puts it straight into frames while the client takes them and no block waits, then into blocks
    /// as far as there are any.
    fn send_and_store<S: Socket>(
        &mut self,
        rest: &mut &[u8],
        client: &mut WsPeer<S>,
        pool: &mut PcmPool,
    ) -> Result<usize, WsError> {
        let all = rest.len();
        while self.queue.is_empty() && !rest.is_empty() && has_room(client)? {
            let (frame, left) = rest.split_at(rest.len().min(MAX_FRAME));
            client.send(Message::Binary(frame))?;
            *rest = left;
        }
        let sent = all - rest.len();
        *rest = &rest[self.queue.push(pool, rest)..];
        Ok(sent)
    }
}

/// Whether the client takes audio now; flushes once when only our own coalescing is in the way.
fn has_room<S: Socket>(client: &mut WsPeer<S>) -> Result<bool, WsError> {
    if client.has_room() {
        return Ok(true);
    }
    if client.transport().is_blocked() || !client.is_open() {
        return Ok(false);
    }
    client.flush()?;
    Ok(client.has_room())
}
