//! The end of the reply audio that a client was sent, as long as it may still be under way: what the
//! daemon goes on with when the client takes its call up again.
//!
//! Positions count the bytes of the reply in the order in which they are sent. The client counts the same
//! way, and what it has had is a position. The last [`TAIL_BYTES`] before the daemon's own position are
//! kept, in borrowed blocks, which are the first that are given back when the pool gets short.

use crate::call::pcm::{BLOCK_BYTES, PcmPool, PcmQueue};

/// What is kept: two seconds. Less than one is under way as far as the daemon can see: 12 KiB in the WebSocket
/// or TLS (`reply`), and 32 KiB in the kernel (`server/accept`). The rest is for what the client's own system
/// has taken and its program has not read when it gives the connection up.
///
/// One second was the first aim, and was too little: in calls over bad networks with both, 3 of 6 that kept 1 s
/// could not be taken up again (`resume_late`), and 8 of 8 that kept 2 s could.
pub(super) const TAIL_BYTES: usize = 96_000;

/// Why a client cannot go on where it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoReturn {
    /// It says that it has had more than it was sent.
    Beyond,
    /// It has missed more than is kept.
    Late,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Tail {
    /// What was sent, by the client's count.
    position: u64,
    /// Where the user interrupted last: nothing before it is wanted any more.
    cut: u64,
    /// The bytes before `position`; `None` for clients that cannot take a call up.
    recent: Option<PcmQueue>,
}

impl Tail {
    /// A tail of which nothing is kept.
    pub(super) fn new() -> Self {
        Self { position: 0, cut: 0, recent: None }
    }

    /// From now on what is sent is kept.
    pub(super) fn keep(&mut self, pool: &mut PcmPool) {
        if self.recent.is_none() {
            self.recent = pool.open(0, TAIL_BYTES.div_ceil(BLOCK_BYTES) + 2);
        }
    }

    /// Whether what is sent is kept.
    pub(super) fn is_kept(&self) -> bool {
        self.recent.is_some()
    }

    /// A frame was sent. It costs a copy where it is kept, else an addition.
    pub(super) fn sent(&mut self, pcm: &[u8], pool: &mut PcmPool) {
        self.position += pcm.len() as u64;
        let Some(recent) = &mut self.recent else { return };
        if pool.spare_blocks() < pool.total_blocks() / 8 {
            return recent.clear(pool);
        }
        recent.push_dropping_oldest(pool, pcm);
        recent.consume(pool, recent.len_bytes().saturating_sub(TAIL_BYTES));
    }

    /// What was sent so far was thrown away by the client, or will be.
    pub(super) fn cut(&mut self, pool: &mut PcmPool) {
        self.cut = self.position;
        if let Some(recent) = &mut self.recent {
            recent.clear(pool);
        }
    }

    fn kept_bytes(&self) -> u64 {
        self.recent.as_ref().map_or(0, |recent| recent.len_bytes() as u64)
    }

    /// Whether a client that has had `received` bytes can go on from there.
    pub(super) fn may_go_on(&self, received: u64) -> Result<(), NoReturn> {
        let first = self.position - self.kept_bytes();
        if received > self.position {
            Err(NoReturn::Beyond)
        } else if received >= first || first <= self.cut {
            Ok(())
        } else {
            Err(NoReturn::Late)
        }
    }

    /// The client goes on from `received`, as [`may_go_on`](Self::may_go_on) allows: puts what it has
    /// missed in front of what waits. Returns those bytes.
    pub(super) fn go_on(
        &mut self,
        received: u64,
        waiting: &mut PcmQueue,
        pool: &mut PcmPool,
    ) -> usize {
        let missed = self.position.saturating_sub(received).min(self.kept_bytes());
        let missed = usize::try_from(missed).unwrap_or(usize::MAX);
        self.position = self.position.min(received);
        self.cut = self.cut.min(self.position);
        if let Some(recent) = &mut self.recent {
            recent.consume(pool, recent.len_bytes() - missed);
            waiting.prepend(pool, recent);
        }
        missed
    }

    /// By the client's count, what it was sent.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Gives the blocks back.
    pub(super) fn close(self, pool: &mut PcmPool) {
        if let Some(recent) = self.recent {
            recent.close(pool);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: u64 = BLOCK_BYTES as u64;

    fn tail(pool: &mut PcmPool) -> Tail {
        let mut tail = Tail::new();
        assert!(!tail.is_kept());
        tail.keep(pool);
        assert!(tail.is_kept());
        tail
    }

    #[test]
    fn a_client_goes_on_within_the_last_two_seconds() {
        let mut pool = PcmPool::new(1_000);
        let mut tail = tail(&mut pool);
        for at in 0..150 {
            tail.sent(&[at; BLOCK_BYTES], &mut pool);
        }
        let end = 150 * FRAME;
        let first = end - TAIL_BYTES as u64;
        assert_eq!(tail.position(), end);
        assert_eq!(tail.may_go_on(end + 1), Err(NoReturn::Beyond));
        assert_eq!(tail.may_go_on(end), Ok(()));
        assert_eq!(tail.may_go_on(first), Ok(()));
        assert_eq!(tail.may_go_on(first - 1), Err(NoReturn::Late));
        let mut waiting = pool.open(0, 200).expect("the pool is new");
        assert_eq!(tail.go_on(first + FRAME, &mut waiting, &mut pool), TAIL_BYTES - BLOCK_BYTES);
        assert_eq!(waiting.len_bytes(), TAIL_BYTES - BLOCK_BYTES);
        assert_eq!(waiting.front(&pool)[0], 51, "the frame after the last that it has had");
        assert_eq!(tail.position(), first + FRAME, "they are sent again");
        tail.cut(&mut pool);
        assert_eq!(tail.may_go_on(0), Ok(()), "nothing before an interruption is wanted");
        waiting.close(&mut pool);
        tail.close(&mut pool);
        assert_eq!(pool.free_blocks(), pool.total_blocks());
    }

    /// What others need is worth more than what may have arrived.
    #[test]
    fn a_pool_that_gets_short_takes_the_blocks_back() {
        let mut pool = PcmPool::new(80);
        let mut tail = tail(&mut pool);
        tail.sent(&[1; BLOCK_BYTES], &mut pool);
        let others = pool.open(69, 69).expect("there is room");
        assert_eq!(pool.spare_blocks(), pool.total_blocks() / 8);
        tail.sent(&[2; BLOCK_BYTES], &mut pool);
        assert_eq!(tail.may_go_on(0), Ok(()));
        tail.sent(&[3; BLOCK_BYTES], &mut pool);
        assert_eq!(tail.may_go_on(2 * FRAME), Err(NoReturn::Late));
        others.close(&mut pool);
    }
}
