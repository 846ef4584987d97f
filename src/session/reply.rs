//! Reply audio on its way to the client: straight into its frames, or, when the client is behind,
//! into PCM blocks. What neither takes is parked, and the service is not read until it is gone (R2).
//!
//! Unlike microphone audio it is never dropped for want of room: a reply with a hole is no reply. It
//! is dropped only as a whole, when the user interrupts.

use super::base64_audio;
use super::tail::Tail;
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

/// The largest frame to a client that can take its call up again: 160 ms; and the bytes that wait for one
/// write to it. With what the kernel takes (32 KiB) that is less than half of what is kept of it.
const MAX_KEPT_FRAME: usize = 8 * BLOCK_BYTES;
const MAX_WAITING: usize = 4 * 1024;

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
///
/// While the client is away there is nowhere to send: everything goes into the blocks, and then the
/// service is not read (R2).
#[derive(Debug)]
pub(super) struct ReplyPath {
    queue: PcmQueue,
    parked: Option<Parked>,
    /// Bytes of PCM that were put into frames, ever. What is sent again counts again.
    sent: u64,
    tail: Tail,
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
        let queue = pool.open(GUARANTEED, share)?;
        Some(Self { queue, parked: None, sent: 0, tail: Tail::new() })
    }

    /// Gives the blocks back.
    pub(super) fn close(self, pool: &mut PcmPool) {
        self.queue.close(pool);
        self.tail.close(pool);
    }

    /// Forgets everything that has not been sent, and what was sent too (barge-in).
    pub(super) fn clear(&mut self, pool: &mut PcmPool) {
        self.queue.clear(pool);
        self.parked = None;
        self.tail.cut(pool);
    }

    /// What the client was sent, for when it takes its call up again.
    pub(super) fn tail(&self) -> &Tail {
        &self.tail
    }

    /// From now on the end of what is sent is kept.
    pub(super) fn keep_tail(&mut self, pool: &mut PcmPool) {
        self.tail.keep(pool);
    }

    /// The client has had `received` bytes and goes on from there. Returns the bytes that will be sent
    /// again.
    pub(super) fn go_on(&mut self, received: u64, pool: &mut PcmPool) -> usize {
        self.tail.go_on(received, &mut self.queue, pool)
    }

    /// Bytes of PCM sent so far. It only grows.
    pub(super) fn sent(&self) -> u64 {
        self.sent
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
    /// what finds no block. Nothing of it is lost with the connection. `client` is `None` while it is
    /// away.
    pub(super) fn accept<S: Socket>(
        &mut self,
        pcm: &[u8],
        client: Option<&mut WsPeer<S>>,
        pool: &mut PcmPool,
    ) -> Result<(), WsError> {
        debug_assert!(self.parked.is_none(), "the service was read while backed up");
        let mut rest = pcm;
        let result = client.map_or(Ok(()), |client| {
            self.send_blocks(client, pool)?;
            self.send_straight(&mut rest, client, pool)
        });
        rest = &rest[self.queue.push(pool, rest)..];
        if !rest.is_empty() {
            self.parked = Some(Parked { pcm: rest.into(), from: 0 });
        }
        result
    }

    /// Sends what the client takes now, then moves what it does not into blocks.
    pub(super) fn send<S: Socket>(
        &mut self,
        client: &mut WsPeer<S>,
        pool: &mut PcmPool,
    ) -> Result<(), WsError> {
        let mut result = self.send_blocks(client, pool);
        if let Some(mut parked) = self.parked.take() {
            let mut rest = &parked.pcm[parked.from..];
            if result.is_ok() {
                result = self.send_straight(&mut rest, client, pool);
            }
            rest = &rest[self.queue.push(pool, rest)..];
            parked.from = parked.pcm.len() - rest.len();
            self.parked = (!rest.is_empty()).then_some(parked);
        }
        result
    }

    fn send_blocks<S: Socket>(
        &mut self,
        client: &mut WsPeer<S>,
        pool: &mut PcmPool,
    ) -> Result<(), WsError> {
        let Self { queue, sent, tail, .. } = self;
        while !queue.is_empty() && has_room(client, tail)? {
            client.send_with(Kind::Binary, |out| {
                let start = out.len();
                while !queue.is_empty() && out.len() - start < MAX_QUEUED_FRAME {
                    let part = queue.front(pool);
                    let bytes = part.len();
                    out.extend_from_slice(part);
                    queue.consume(pool, bytes);
                }
                // It counts as sent even if the connection breaks now: it has left the queue.
                let frame = &out[start..];
                *sent += frame.len() as u64;
                tail.sent(frame, pool);
                Ok::<_, WsError>(())
            })?;
        }
        Ok(())
    }

    /// Puts it straight into frames while the client takes them and no block waits.
    fn send_straight<S: Socket>(
        &mut self,
        rest: &mut &[u8],
        client: &mut WsPeer<S>,
        pool: &mut PcmPool,
    ) -> Result<(), WsError> {
        while self.queue.is_empty() && !rest.is_empty() && has_room(client, &self.tail)? {
            let most = if self.tail.is_kept() { MAX_KEPT_FRAME } else { MAX_FRAME };
            let (frame, left) = rest.split_at(rest.len().min(most));
            client.send(Message::Binary(frame))?;
            self.sent += frame.len() as u64;
            self.tail.sent(frame, pool);
            *rest = left;
        }
        Ok(())
    }
}

/// Whether the client takes audio now; flushes once when only our own coalescing is in the way. What is
/// still under way to a client that can take its call up again must fit into the tail: so less is
/// coalesced for it.
fn has_room<S: Socket>(client: &mut WsPeer<S>, tail: &Tail) -> Result<bool, WsError> {
    if client.has_room() && !(tail.is_kept() && client.waiting() >= MAX_WAITING) {
        return Ok(true);
    }
    if client.transport().is_blocked() || !client.is_open() {
        return Ok(false);
    }
    client.flush()?;
    Ok(client.has_room())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audio_is_decoded_behind_room_for_a_byte() {
        let mut decoded = Decoded::default();
        for text in ["AQID".to_owned(), "AQID".repeat(20_000), "AQID".to_owned()] {
            let pcm = decoded.decode(text.as_bytes()).expect("it is base64");
            assert!(pcm[1..].iter().eq([1, 2, 3].iter().cycle().take(text.len() / 4 * 3)));
        }
        assert_eq!(decoded.0.len(), Decoded::USUAL, "what a giant needed is given back");
        assert!(decoded.decode(b"AQI*").is_none());
    }
}
