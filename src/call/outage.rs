//! The time in which a running call has no session of the service: when it is tried again, and when it
//! is given up.
//!
//! The first try comes at once if the call had been active for a while: then it is the connection that
//! is at fault, and not what the call asks for. Later tries wait for a time that doubles, with full
//! jitter: a random part of it. Without the jitter all calls of a network that comes back would ask in
//! the same moment.

use std::time::{Duration, Instant};

/// A call that was active for this long is tried again at once.
pub(super) const SETTLED: Duration = Duration::from_secs(10);
/// The longest wait before the second try. It doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// The longest wait before any try.
const LONGEST_BACKOFF: Duration = Duration::from_secs(8);
/// How long the service may take, once it is reached, to take the settings.
const CONFIGURE: Duration = Duration::from_secs(15);

/// An outage under way.
#[derive(Debug)]
pub(super) struct Outage {
    /// When the last session was lost.
    lost: Instant,
    /// When the call ends, if it has no session by then.
    give_up: Instant,
    /// Tries so far.
    tries: u32,
    /// When the next try is due; `None` while one is under way.
    next: Option<Instant>,
    /// When the try that is under way counts as failed; `None` while the way is still being made,
    /// since that has time limits of its own.
    try_ends: Option<Instant>,
}

impl Outage {
    /// The session is lost. `active_for`: how long it had been active. `patience`: how long the call
    /// may be without one. `retry_after`: what the service has asked for.
    pub(super) fn new(
        active_for: Duration,
        patience: Duration,
        retry_after: Option<Duration>,
        jitter: &mut Jitter,
        now: Instant,
    ) -> Self {
        let mut outage =
            Self { lost: now, give_up: now + patience, tries: 0, next: None, try_ends: None };
        let wait =
            if active_for >= SETTLED { Duration::ZERO } else { jitter.part_of(FIRST_BACKOFF) };
        outage.wait(wait, retry_after, now);
        outage
    }

    /// The try that was under way has failed. The next one is due after the wait.
    pub(super) fn failed(
        &mut self,
        retry_after: Option<Duration>,
        jitter: &mut Jitter,
        now: Instant,
    ) {
        let doubled = FIRST_BACKOFF * (1 << self.tries.saturating_sub(1).min(8));
        self.wait(jitter.part_of(doubled.min(LONGEST_BACKOFF)), retry_after, now);
    }

    /// The session that had ended the outage did not last, or has not confirmed what it was told. `patience`:
    /// it did last, so the call may be without one for as long again.
    pub(super) fn lost_again(
        &mut self,
        patience: Option<Duration>,
        retry_after: Option<Duration>,
        jitter: &mut Jitter,
        now: Instant,
    ) {
        self.lost = now;
        self.give_up = patience.map_or(self.give_up, |patience| now + patience);
        self.failed(retry_after, jitter, now);
    }

    fn wait(&mut self, wait: Duration, retry_after: Option<Duration>, now: Instant) {
        self.next = Some(now + wait.max(retry_after.unwrap_or_default()));
        self.try_ends = None;
    }

    /// Begins the next try, if it is due.
    pub(super) fn begin_try(&mut self, now: Instant) -> bool {
        let due = self.next.is_some_and(|next| next <= now);
        if due {
            self.tries += 1;
            self.next = None;
        }
        due
    }

    /// The WebSocket is open: from here the service has a bounded time.
    pub(super) fn reached(&mut self, now: Instant) {
        self.try_ends = Some(now + CONFIGURE);
    }

    /// Whether the service was reached, and has not taken the settings in time.
    pub(super) fn has_stalled(&self, now: Instant) -> bool {
        self.try_ends.is_some_and(|end| end <= now)
    }

    /// Whether the call is to be given up. A wait that the service has asked for is not sat out if it
    /// is longer than that: the caller is told at once.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.give_up <= now || self.next.is_some_and(|next| next >= self.give_up)
    }

    /// When something is due next.
    pub(super) fn deadline(&self) -> Instant {
        let next = [self.next, self.try_ends].into_iter().flatten().min();
        next.map_or(self.give_up, |next| next.min(self.give_up))
    }

    /// How long the call has been without a session.
    pub(super) fn length(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.lost)
    }

    /// Tries so far.
    pub(super) fn tries(&self) -> u32 {
        self.tries
    }
}

/// Random parts of waits. The core has no source of randomness: the call's id, which is random, is the
/// seed.
#[derive(Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    /// FNV-1a of the id.
    pub(super) fn new(id: &str) -> Self {
        let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(id.bytes().fold(0xcbf2_9ce4_8422_2325, fold) | 1)
    }

    /// A random part of a time: xorshift64.
    fn part_of(&mut self, most: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let thousandths = u32::try_from(self.0 % 1_001).unwrap_or_default();
        most * thousandths / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_call_that_had_settled_is_tried_again_at_once() {
        let (now, mut jitter) = (Instant::now(), Jitter::new("a"));
        let mut outage = Outage::new(SETTLED, MINUTE, None, &mut jitter, now);
        assert!(outage.begin_try(now));
        assert!(!outage.begin_try(now), "one try at a time");
        let fresh = Outage::new(Duration::ZERO, MINUTE, None, &mut jitter, now);
        assert!(fresh.deadline() <= now + FIRST_BACKOFF);
    }

    #[test]
    fn waits_double_up_to_a_bound_and_are_jittered() {
        let start = Instant::now();
        let mut longest = [Duration::ZERO; 8];
        for seed in 0..200 {
            let (mut now, mut jitter) = (start, Jitter::new(&seed.to_string()));
            let mut outage = Outage::new(SETTLED, MINUTE * 10, None, &mut jitter, now);
            for longest in &mut longest {
                assert!(outage.begin_try(now));
                outage.failed(None, &mut jitter, now);
                let wait = outage.deadline() - now;
                *longest = wait.max(*longest);
                now += wait;
            }
        }
        let bounds = [500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000, 8_000];
        for (longest, bound) in longest.into_iter().zip(bounds.map(Duration::from_millis)) {
            assert!(longest <= bound && longest > bound * 9 / 10, "{longest:?} of {bound:?}");
        }
    }

    #[test]
    fn the_services_wish_counts_and_a_wish_beyond_the_end_ends_it() {
        let (now, mut jitter) = (Instant::now(), Jitter::new("a"));
        let wish = Some(Duration::from_secs(7));
        let outage = Outage::new(SETTLED, MINUTE, wish, &mut jitter, now);
        assert_eq!(outage.deadline(), now + Duration::from_secs(7));
        assert!(!outage.is_over(now));
        let outage = Outage::new(SETTLED, MINUTE, Some(MINUTE * 2), &mut jitter, now);
        assert!(outage.is_over(now));
    }

    #[test]
    fn a_service_that_is_reached_and_says_nothing_is_a_failed_try() {
        let (now, mut jitter) = (Instant::now(), Jitter::new("a"));
        let mut outage = Outage::new(SETTLED, MINUTE, None, &mut jitter, now);
        assert!(outage.begin_try(now));
        assert_eq!(outage.deadline(), now + MINUTE);
        outage.reached(now);
        assert_eq!(outage.deadline(), now + CONFIGURE);
        assert!(outage.has_stalled(now + CONFIGURE) && !outage.has_stalled(now));
        assert_eq!(outage.tries(), 1);
        assert_eq!(outage.length(now + MINUTE), MINUTE);
        assert!(outage.is_over(now + MINUTE));
    }
}
