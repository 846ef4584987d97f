//! Microphone audio on its way to the service: each frame becomes one `input_audio_buffer.append`,
//! base64 between a constant head and tail.
//!
//! Before the session is configured, and when the service is behind, audio waits in PCM blocks. It
//! is live, so when the blocks are full, whole oldest blocks make way: the service then hears a gap
//! in the past instead of a conversation that lags behind for ever. A service that takes nothing at all is
//! another thing: the way to it is broken, for a moment or for good, and audio waits as long as in an
//! outage. Otherwise the words said before the outage is noticed would be lost, which takes 15 s.
//!
//! What was sent of the user's present turn is kept too. If the connection is lost, the next session
//! has heard none of it, so it is sent again, before what has come since.

use std::time::{Duration, Instant};

use std::collections::VecDeque;

use super::base64_audio;
use crate::call::KEPT_BYTES;
use crate::call::pcm::{BLOCK_BYTES, PcmPool, PcmQueue};
use crate::call::service::commands::{APPEND_PREFIX, APPEND_SUFFIX};
use crate::net::socket::Socket;
use crate::net::ws::{Kind, Message, WsError, WsPeer};

/// Blocks (20 ms each) for what is said before the service is ready: 2 s. They are reserved with the
/// call, so a full pool cannot cost anybody's first words.
const HELD: usize = 100;

/// Blocks for what waits in an outage, as far as the pool has them: 16 s. It takes 15 s until an outage is
/// noticed in which nothing is taken, and a moment until the next session is there. A user who has talked for
/// longer has noticed that nobody answers.
const HELD_IN_OUTAGE: usize = 800;

/// Bytes of PCM in a millisecond.
const BYTES_PER_MS: usize = 48;

/// How much faster than real time the audio of an outage is sent. The service's maker advises
/// against bursts.
const CATCH_UP: usize = 2;

/// The time between two portions of the audio of an outage.
const PORTION: Duration = Duration::from_millis(20);

/// Bytes of the audio of an outage that may leave at once: ten portions.
const MOST_AT_ONCE: usize = 10 * 20 * BYTES_PER_MS * CATCH_UP;

/// How fast audio that waits is sent.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// As fast as the service takes it. Nothing waits but what came before the first session was
    /// ready, or what the service did not take.
    Free,
    /// The service has taken nothing for as long as audio usually may wait. The next turn makes
    /// `CatchingUp` of it, so that what waits does not leave in one burst when the way is open again.
    Stalled,
    /// After an outage: [`CATCH_UP`] times real time, until nothing waits. `bytes` may be sent now;
    /// `since` is when this was computed.
    CatchingUp { bytes: usize, since: Instant },
}
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
    /// Commands behind audio, each with the bytes that are still in front of it.
    commands: VecDeque<(usize, String)>,
    /// What this session of the service was sent, and would have to be sent again: borrowed blocks,
    /// which are given back when others need them.
    sent: PcmQueue,
    /// Bytes at the front of `sent` that the service has made an item of. They are forgotten when its
    /// words are known.
    committed: usize,
    pace: Pace,
    /// Bytes that the connection had sent when audio began to wait for it, or when it last took some.
    taken: u64,
}

impl MicrophonePath {
    /// Reserves its blocks; `None` if the pool has not as many.
    pub(super) fn open(pool: &mut PcmPool) -> Option<Self> {
        let queue = pool.open(HELD, HELD)?;
        let sent = pool.open(0, KEPT_BYTES / BLOCK_BYTES)?;
        let commands = VecDeque::new();
        Some(Self { queue, commands, sent, committed: 0, pace: Pace::Free, taken: 0 })
    }

    /// That of a session that hears nothing yet: it takes nothing.
    pub(super) fn none() -> Self {
        let (queue, sent) = (PcmQueue::none(), PcmQueue::none());
        Self { queue, commands: VecDeque::new(), sent, committed: 0, pace: Pace::Free, taken: 0 }
    }

    /// Gives the blocks back.
    pub(super) fn close(self, pool: &mut PcmPool) {
        self.queue.close(pool);
        self.sent.close(pool);
    }

    /// Forgets what waits and what was sent; the blocks stay reserved.
    pub(super) fn clear(&mut self, pool: &mut PcmPool) {
        self.queue.clear(pool);
        self.forget(pool);
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

    /// Sends a frame at once if nothing waits and the service takes it, else keeps it. `keep`: how
    /// many bytes of what was sent are worth keeping.
    pub(super) fn forward<S: Socket>(
        &mut self,
        pcm: &[u8],
        keep: usize,
        service: &mut WsPeer<S>,
        pool: &mut PcmPool,
    ) -> usize {
        if self.queue.is_empty() && !self.has_commands() && append(pcm, service) {
            self.keep(pcm, keep, pool);
            return 0;
        }
        self.watch(service.transport().sent());
        self.hold(pcm, pool)
    }

    /// Audio waits, and the connection has sent so many bytes in all. If nothing has left since the queue
    /// began to fill, it may grow as in an outage. One that has sent a little is only slow, and keeps its
    /// bound: otherwise the talk over a slow line would lag by 15 s.
    fn watch(&mut self, sent: u64) {
        if self.queue.is_empty() || sent != self.taken {
            self.taken = sent;
        } else if matches!(self.pace, Pace::Free) && self.queue.used_blocks() >= HELD {
            self.queue.set_cap(HELD_IN_OUTAGE);
            self.pace = Pace::Stalled;
        }
    }

    /// Sends what waits, in order, as far as the pace allows and the service takes it.
    pub(super) fn send<S: Socket>(
        &mut self,
        service: &mut WsPeer<S>,
        pool: &mut PcmPool,
        now: Instant,
    ) {
        if self.queue.is_empty() && self.commands.is_empty() && matches!(self.pace, Pace::Free) {
            return;
        }
        if matches!(self.pace, Pace::Stalled) {
            self.pace_up(now);
        }
        let mut allowed = self.allowed(now);
        while let Some(sent) = self.send_next(allowed, service, pool) {
            allowed -= sent;
        }
        match &mut self.pace {
            Pace::CatchingUp { .. } if self.queue.is_empty() => {
                self.queue.set_cap(HELD);
                self.pace = Pace::Free;
            }
            Pace::CatchingUp { bytes, .. } => *bytes = allowed,
            Pace::Free | Pace::Stalled => {}
        }
    }

    /// Sends the next command or block, of at most `allowed` bytes; `None` when nothing can be sent.
    /// Returns the bytes of audio.
    fn send_next<S: Socket>(
        &mut self,
        allowed: usize,
        service: &mut WsPeer<S>,
        pool: &mut PcmPool,
    ) -> Option<usize> {
        let ahead = match self.commands.front() {
            Some((0, command)) => {
                if matches!(service.send(Message::Text(command)), Err(WsError::Full)) {
                    return None;
                }
                self.commands.pop_front();
                return Some(0);
            }
            Some((ahead, _)) => *ahead,
            None => usize::MAX,
        };
        // A copy, because the bytes move on within the pool.
        let mut block = [0; BLOCK_BYTES];
        let front = self.queue.front(pool);
        let bytes = front.len().min(ahead).min(allowed);
        block[..bytes].copy_from_slice(&front[..bytes]);
        if bytes == 0 || !append(&block[..bytes], service) {
            return None;
        }
        self.queue.consume(pool, bytes);
        self.passed(bytes);
        self.keep(&block[..bytes], KEPT_BYTES, pool);
        Some(bytes)
    }

    /// Bytes that may be sent now: whole samples.
    fn allowed(&mut self, now: Instant) -> usize {
        let Pace::CatchingUp { bytes, since } = &mut self.pace else {
            return usize::MAX;
        };
        let passed = now.saturating_duration_since(*since);
        let ms = usize::try_from(passed.as_millis()).unwrap_or(usize::MAX);
        if ms > 0 {
            *since = now;
        }
        // A loop that was held up may not make a burst of it, and a service that takes nothing neither.
        *bytes = bytes.saturating_add(ms.saturating_mul(BYTES_PER_MS * CATCH_UP)).min(MOST_AT_ONCE);
        *bytes
    }

    /// When the next portion is due, after an outage.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.pace {
            Pace::CatchingUp { since, .. } if !self.queue.is_empty() => Some(since + PORTION),
            Pace::CatchingUp { .. } | Pace::Free | Pace::Stalled => None,
        }
    }

    // ---- an outage ----

    /// The connection is lost. Commands were meant for its session alone. What that had heard of the user's
    /// turn stays where it is until [`catch_up`](Self::catch_up): in the queue it would be the oldest, and
    /// a long outage would drop the user's question to make room for the silence after it.
    pub(super) fn take_back(&mut self) {
        self.commands.clear();
        self.queue.set_cap(HELD_IN_OUTAGE);
        self.committed = 0;
        self.pace = Pace::Free;
    }

    /// A new session is ready to hear what waits: first what the one before had heard of the turn.
    pub(super) fn catch_up(&mut self, pool: &mut PcmPool, now: Instant) {
        self.queue.set_cap(HELD_IN_OUTAGE + KEPT_BYTES / BLOCK_BYTES);
        for (ahead, _) in &mut self.commands {
            *ahead += self.sent.len_bytes();
        }
        self.queue.prepend(pool, &mut self.sent);
        self.pace_up(now);
    }

    fn pace_up(&mut self, now: Instant) {
        self.pace = Pace::CatchingUp { bytes: 0, since: now };
    }

    /// The service has made an item of what it was sent.
    pub(super) fn commit(&mut self) {
        self.committed = self.sent.len_bytes();
    }

    /// The words of the committed item are known, or are not needed: its audio is forgotten.
    pub(super) fn settle(&mut self, pool: &mut PcmPool) {
        self.sent.consume(pool, std::mem::take(&mut self.committed));
    }

    /// Keeps audio that was sent: the newest `most` bytes. Its blocks are the first that are given back when the pool gets
    /// short: a turn that may have to be repeated is worth less than audio that waits to be heard.
    fn keep(&mut self, pcm: &[u8], most: usize, pool: &mut PcmPool) {
        if most == 0 || pool.spare_blocks() < pool.total_blocks() / 8 {
            return self.forget(pool);
        }
        let forgotten = self.sent.push_recent(pool, pcm, most);
        self.committed = self.committed.saturating_sub(forgotten);
    }

    /// What was sent need not be sent again.
    pub(super) fn forget(&mut self, pool: &mut PcmPool) {
        self.sent.clear(pool);
        self.committed = 0;
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use mio::net::TcpStream;

    use super::*;
    use crate::net::transport::Transport;
    use crate::net::ws::{Role, Sizes, USUAL_WAITING};

    /// The connection to a service that takes all of it, and its other end.
    fn service() -> (WsPeer<TcpStream>, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let other = std::net::TcpStream::connect(listener.local_addr().expect("bound"));
        let (ours, _) = listener.accept().expect("a connection");
        ours.set_nonblocking(true).expect("a socket");
        let sizes = Sizes { message: 65_536, waiting: USUAL_WAITING };
        let transport = Transport::plain(TcpStream::from_std(ours));
        (WsPeer::new(transport, Role::Client, sizes, b""), other.expect("a connection"))
    }

    #[test]
    fn so_many_commands_wait_behind_audio() {
        let mut path = MicrophonePath::none();
        for _ in 0..MOST_COMMANDS {
            assert!(path.put_behind("{}".to_owned()).is_ok());
        }
        assert!(matches!(path.put_behind("{}".to_owned()), Err(WsError::Full)));
        path.take_back();
        assert!(path.put_behind("{}".to_owned()).is_ok(), "they were for the session that is lost");
    }

    /// However long the loop was held up: the service's maker advises against bursts.
    #[test]
    fn after_an_outage_at_most_ten_portions_leave_at_once() {
        let (mut service, _other) = service();
        let mut pool = PcmPool::new(1_000);
        let mut path = MicrophonePath::open(&mut pool).expect("the pool is new");
        let start = Instant::now();
        path.take_back();
        path.hold(&[7; 100 * BLOCK_BYTES], &mut pool);
        path.catch_up(&mut pool, start);
        assert_eq!(path.deadline(), Some(start + PORTION));
        path.send(&mut service, &mut pool, start);
        assert_eq!(path.queue.used_blocks(), 100, "nothing is due yet");
        path.send(&mut service, &mut pool, start + PORTION);
        assert_eq!(path.queue.used_blocks(), 98, "twice as fast as it was said");
        path.send(&mut service, &mut pool, start + Duration::from_secs(1));
        assert_eq!(path.queue.used_blocks(), 78);
        for secs in 2..10 {
            path.send(&mut service, &mut pool, start + Duration::from_secs(secs));
        }
        assert!(path.is_empty() && path.deadline().is_none());
        let dropped = path.hold(&[7; (HELD + 1) * BLOCK_BYTES], &mut pool);
        assert_eq!(dropped, BLOCK_BYTES, "the outage is over");
    }

    /// 16 s of an outage, and the 15 s of the turn that the session before may have heard.
    #[test]
    fn what_is_said_while_the_next_session_catches_up_is_bounded() {
        let mut pool = PcmPool::new(2_000);
        let mut path = MicrophonePath::open(&mut pool).expect("the pool is new");
        path.take_back();
        path.catch_up(&mut pool, Instant::now());
        assert_eq!(path.hold(&vec![7; 1_550 * BLOCK_BYTES], &mut pool), 0);
        assert_eq!(path.hold(&[7; BLOCK_BYTES], &mut pool), BLOCK_BYTES);
    }

    /// A slow service keeps its bound: the talk must not lag behind by 15 s.
    #[test]
    fn more_is_kept_for_a_service_that_takes_nothing_than_for_a_slow_one() {
        for (sent, dropped) in [(0, 0), (5, 50 * BLOCK_BYTES)] {
            let mut pool = PcmPool::new(2_000);
            let mut path = MicrophonePath::open(&mut pool).expect("the pool is new");
            path.hold(&[0; HELD * BLOCK_BYTES], &mut pool);
            path.watch(sent);
            assert_eq!(path.hold(&[1; 50 * BLOCK_BYTES], &mut pool), dropped);
        }
    }

    /// What the session before had heard of the turn is sent again, ahead of all that waits.
    #[test]
    fn a_command_stays_behind_the_audio_that_is_sent_again() {
        let (mut service, _other) = service();
        let mut pool = PcmPool::new(1_000);
        let mut path = MicrophonePath::open(&mut pool).expect("the pool is new");
        let start = Instant::now();
        path.forward(&[1; BLOCK_BYTES], KEPT_BYTES, &mut service, &mut pool);
        path.take_back();
        path.hold(&[2; BLOCK_BYTES], &mut pool);
        path.put_behind("{}".to_owned()).expect("there is room");
        path.catch_up(&mut pool, start);
        assert_eq!(path.commands[0].0, 2 * BLOCK_BYTES);
        path.send(&mut service, &mut pool, start + PORTION);
        assert!(path.is_empty() && !path.has_commands());
    }
}
