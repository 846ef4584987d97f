//! Microphone audio on its way to the service: each frame becomes one `input_audio_buffer.append`,
//! base64 between a constant head and tail.
//!
//! Before the session is configured, and when the service is behind, audio waits in PCM blocks. It
//! is live, so when the blocks are full, whole oldest blocks make way: the service then hears a gap
//! in the past instead of a conversation that lags behind for ever.

use super::base64_audio;
use crate::call::pcm::{PcmPool, PcmQueue};
use crate::call::service::commands::{APPEND_PREFIX, APPEND_SUFFIX};
use crate::net::socket::Socket;
use crate::net::ws::{Kind, WsError, WsPeer};

/// Blocks (20 ms each) for what is said before the service is ready: 2 s, and never more. They are
/// reserved with the call, so a full pool cannot cost anybody's first words.
const HELD: usize = 100;

/// The queue in front of the service. Frames leave in the order in which they came: while one waits,
/// none goes straight through.
#[derive(Debug)]
pub(super) struct MicrophonePath {
    queue: PcmQueue,
}

impl MicrophonePath {
    /// Reserves its blocks; `None` if the pool has not as many.
    pub(super) fn open(pool: &mut PcmPool) -> Option<Self> {
        Some(Self { queue: pool.open(HELD, HELD)? })
    }

    /// Gives the blocks back.
    pub(super) fn close(self, pool: &mut PcmPool) {
        self.queue.close(pool);
    }

    /// Forgets what waits; the blocks stay reserved.
    pub(super) fn clear(&mut self, pool: &mut PcmPool) {
        self.queue.clear(pool);
    }

    /// Keeps a frame; returns the bytes of older audio dropped for it.
    pub(super) fn hold(&mut self, pcm: &[u8], pool: &mut PcmPool) -> usize {
        self.queue.push_dropping_oldest(pool, pcm)
    }

    /// Sends a frame at once if nothing waits and the service takes it, else keeps it.
    pub(super) fn forward<S: Socket>(
        &mut self,
        pcm: &[u8],
        service: &mut WsPeer<S>,
        pool: &mut PcmPool,
    ) -> usize {
        if self.queue.is_empty() && append(pcm, service) {
            return 0;
        }
        self.hold(pcm, pool)
    }

    /// Sends what waits, as far as the service takes it.
    pub(super) fn send<S: Socket>(&mut self, service: &mut WsPeer<S>, pool: &mut PcmPool) {
        while !self.queue.is_empty() {
            let front = self.queue.front(pool);
            let bytes = front.len();
            if !append(front, service) {
                return;
            }
            self.queue.consume(pool, bytes);
        }
    }
}

/// Sends one `input_audio_buffer.append`; false if the service takes nothing now.
fn append<S: Socket>(pcm: &[u8], service: &mut WsPeer<S>) -> bool {
    if !service.has_room()
        && (service.transport().is_blocked() || service.flush().is_err() || !service.has_room())
    {
        return false;
    }
    let sent = service.send_with(Kind::Text, |out| {
        out.extend_from_slice(APPEND_PREFIX.as_bytes());
        base64_audio::append(pcm, out);
        out.extend_from_slice(APPEND_SUFFIX.as_bytes());
        Ok::<_, WsError>(())
    });
    sent.is_ok()
}
