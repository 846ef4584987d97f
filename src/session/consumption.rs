//! How many tokens the calls use in a minute, all together, and whether an answer is late.
//!
//! A resource has a quota of tokens a minute (at first 120,000), and each answer reads the whole
//! conversation again. One that runs short does not refuse at first: its answers come late. A 429 follows
//! much later, and only at new connections. So the owner is told here, once a minute at most.

use std::fmt::{self, Display};
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// From here on the first sound of an answer is late. Usual answers begin within a second.
pub(super) const LATE: Duration = Duration::from_secs(3);

/// What is known of the resource's tokens; all calls share it.
#[derive(Debug, Default)]
pub(super) struct Consumption {
    /// When the present minute began; `None` before the first tokens.
    since: Option<Instant>,
    /// Tokens of the present minute, and of the one before.
    present: u64,
    before: u64,
    /// When the owner was told last.
    told: Option<Instant>,
}

impl Consumption {
    /// A response has used so many tokens.
    pub(super) fn used(&mut self, tokens: u64, now: Instant) {
        self.turn(now);
        self.present = self.present.saturating_add(tokens);
    }

    /// The owner is to be told. False if that was done in the last minute.
    pub(super) fn tell(&mut self, now: Instant) -> bool {
        let may = self.told.is_none_or(|told| now >= told + MINUTE);
        if may {
            self.told = Some(now);
        }
        may
    }

    /// The tokens of the last sixty seconds, as if those of the minute before had been spread evenly.
    pub(super) fn last_minute(&mut self, now: Instant) -> u64 {
        self.turn(now);
        let into = self.since.map_or(MINUTE, |since| now.saturating_duration_since(since));
        let rest = MINUTE.saturating_sub(into).as_secs();
        self.present.saturating_add(self.before.saturating_mul(rest) / MINUTE.as_secs())
    }

    fn turn(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let into = now.saturating_duration_since(since);
        if into >= MINUTE {
            self.before = if into < 2 * MINUTE { self.present } else { 0 };
            (self.since, self.present) = (Some(now), 0);
        }
    }
}

/// What a shortage of tokens looks like, and what helps; the end of a log line.
#[derive(Debug)]
pub(super) struct Advice(pub(super) u64);

impl Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "all calls have used {} tokens in the last minute. A resource that runs out of its tokens a minute \
             answers late, long before it refuses (429): shorten instructions and tools, or have its quota raised",
            self.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute_is_counted_and_told_once() {
        let (mut used, start) = (Consumption::default(), Instant::now());
        let at = |secs| start + Duration::from_secs(secs);
        assert_eq!(used.last_minute(start), 0);
        used.used(600, start);
        used.used(60, at(59));
        assert_eq!(used.last_minute(at(59)), 660);
        used.used(10, at(60));
        assert_eq!(used.last_minute(at(60)), 670);
        assert_eq!(used.last_minute(at(90)), 340);
        assert_eq!(used.last_minute(at(119)), 21);
        assert_eq!(used.last_minute(at(300)), 0);
        let mut used = Consumption::default();
        used.used(600, start);
        assert_eq!(used.last_minute(at(120)), 0);
        assert!(used.tell(start) && !used.tell(at(59)) && used.tell(at(60)));
    }
}
