//! Microphone audio on its way to the service: each frame becomes one `input_audio_buffer.append`,
//! base64 between a constant head and tail.
//!
//! Before the session is configured, and when the service is behind, audio waits in PCM blocks. It
//! is live, so when the blocks are full, whole oldest blocks make way: the service then hears a gap
//! in the past instead of a conversation that lags behind for ever.

use std::collections::VecDeque;

use super::base64_audio;
use crate::call::pcm::{PcmPool, PcmQueue};
use crate::call::service::commands::{APPEND_PREFIX, APPEND_SUFFIX};
use crate::net::socket::Socket;
use crate::net::ws::{Kind, Message, WsError, WsPeer};

/// Blocks (20 ms each) for what is said before the service is ready: 2 s, and never more. They are
/// reserved with the call, so a full pool cannot cost anybody's first words.
const HELD: usize = 100;

/// Commands that may wait behind audio. A service that takes nothing for so long loses the next ones.
const MOST_COMMANDS: usize = 32;

/// The queue in front of the service. Frames leave in the order in which they came: while one waits,
/// none goes straight through.
///
/// Commands normally overtake the audio that waits. The end of a turn must not, and what follows it
/// must not overtake it: such commands wait here, each with the bytes of audio that go before it.
/// That is never more than the queue holds, so an empty queue lets all of them go.
#[derive(Debug)]
pub(super) struct MicrophonePath {
    queue: PcmQueue,
    commands: VecDeque<(usize, String)>,
}

impl MicrophonePath {
    /// Reserves its blocks; `None` if the pool has not as many.
    pub(super) fn open(pool: &mut PcmPool) -> Option<Self> {
        Some(Self { queue: pool.open(HELD, HELD)?, commands: VecDeque::new() })
    }

    /// Gives the blocks back.
    pub(super) fn close(self, pool: &mut PcmPool) {
        self.queue.close(pool);
    }

    /// Forgets what waits; the blocks stay reserved.
    pub(super) fn clear(&mut self, pool: &mut PcmPool) {
        self.queue.clear(pool);
        self.commands.clear();
    }

    /// Whether no audio waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether commands wait: every later one must wait too.
    pub(super) fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    /// Keeps a command until all audio that waits now has left.
    ///
    /// # Errors
    /// [`WsError::Full`] when too many wait.
    pub(super) fn put_behind(&mut self, command: String) -> Result<(), WsError> {
        if self.commands.len() >= MOST_COMMANDS {
            return Err(WsError::Full);
        }
        self.commands.push_back((self.queue.len_bytes(), command));
        Ok(())
    }

    /// So many of the oldest bytes have left the queue.
    fn passed(&mut self, bytes: usize) {
        for (ahead, _) in &mut self.commands {
            *ahead = ahead.saturating_sub(bytes);
        }
    }

    /// Keeps a frame; returns the bytes of older audio dropped for it.
    pub(super) fn hold(&mut self, pcm: &[u8], pool: &mut PcmPool) -> usize {
        let dropped = self.queue.push_dropping_oldest(pool, pcm);
        self.passed(dropped);
        dropped
    }

    /// Sends a frame at once if nothing waits and the service takes it, else keeps it.
    pub(super) fn forward<S: Socket>(
        &mut self,
        pcm: &[u8],
        service: &mut WsPeer<S>,
        pool: &mut PcmPool,
    ) -> usize {
        if self.queue.is_empty() && !self.has_commands() && append(pcm, service) {
            return 0;
        }
        self.hold(pcm, pool)
    }

    /// Sends what waits, in order, as far as the service takes it.
    pub(super) fn send<S: Socket>(&mut self, service: &mut WsPeer<S>, pool: &mut PcmPool) {
        loop {
            let ahead = match self.commands.front() {
                Some((0, command)) => {
                    if matches!(service.send(Message::Text(command)), Err(WsError::Full)) {
                        return;
                    }
                    self.commands.pop_front();
                    continue;
                }
                Some((ahead, _)) => *ahead,
                None => usize::MAX,
            };
            let front = self.queue.front(pool);
            let front = &front[..front.len().min(ahead)];
            let bytes = front.len();
            if bytes == 0 || !append(front, service) {
                return;
            }
            self.queue.consume(pool, bytes);
            self.passed(bytes);
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
