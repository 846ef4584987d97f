//! The budget of connections to the service, shared by all calls.
//!
//! The service takes a limited number of new connections a minute for each resource (30 by older
//! pages, 100 by newer ones) and answers 429 beyond that. When a router restarts, all calls lose their
//! connections in the same moment. So a call that comes back waits here for its turn; the one that has
//! waited longest goes first.
//!
//! A new call does not wait: its caller would hear nothing at all. But its connection counts.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time in which the connections are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// See the module's text.
#[derive(Debug)]
pub(super) struct ConnectBudget {
    /// Connections in a window; zero for no limit.
    most: usize,
    /// When the last connections were begun: at most `most` of them.
    begun: VecDeque<Instant>,
    /// The slots of the calls that wait, in the order in which they came. At most one entry a slot.
    waiting: VecDeque<usize>,
}

impl ConnectBudget {
    /// A budget of `most` connections a minute; zero for no limit.
    pub(super) fn new(most: usize) -> Self {
        Self { most, begun: VecDeque::new(), waiting: VecDeque::new() }
    }

    /// Counts a connection.
    pub(super) fn count(&mut self, now: Instant) {
        if self.most > 0 {
            if self.begun.len() == self.most {
                self.begun.pop_front();
            }
            self.begun.push_back(now);
        }
    }

    /// The call in this slot waits for its turn.
    pub(super) fn wait(&mut self, slot: usize) {
        if !self.is_waiting(slot) {
            self.waiting.push_back(slot);
        }
    }

    /// Whether the call in this slot waits for its turn.
    pub(super) fn is_waiting(&self, slot: usize) -> bool {
        self.waiting.contains(&slot)
    }

    /// The slot was freed.
    pub(super) fn forget(&mut self, slot: usize) {
        self.waiting.retain(|waiting| *waiting != slot);
    }

    /// The call whose turn it is, if the budget allows a connection.
    pub(super) fn next(&mut self, now: Instant) -> Option<usize> {
        if self.free_at().is_some_and(|free| free > now) { None } else { self.waiting.pop_front() }
    }

    /// When a call that waits has its turn; `None` while none waits.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| self.free_at().unwrap_or(now))
    }

    /// When the budget allows another connection; `None` for at once.
    fn free_at(&self) -> Option<Instant> {
        let full = self.most > 0 && self.begun.len() == self.most;
        self.begun.front().filter(|_| full).map(|oldest| *oldest + WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_come_back_take_turns_within_the_budget() {
        let (mut budget, start) = (ConnectBudget::new(2), Instant::now());
        budget.count(start);
        for slot in [7, 3, 7] {
            budget.wait(slot);
        }
        assert_eq!(budget.deadline(start), Some(start));
        assert_eq!(budget.next(start), Some(7));
        budget.count(start + Duration::from_secs(1));
        assert_eq!(budget.next(start + Duration::from_secs(59)), None);
        assert_eq!(budget.deadline(start), Some(start + WINDOW));
        budget.count(start + Duration::from_secs(30));
        let later = start + Duration::from_secs(61);
        assert_eq!(budget.deadline(start), Some(later), "a new call has used the place");
        assert_eq!(budget.next(later), Some(3));
        assert_eq!(budget.next(later), None);
        assert_eq!(budget.deadline(later), None);
        budget.wait(4);
        budget.forget(4);
        assert!(!budget.is_waiting(4));
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let (mut budget, now) = (ConnectBudget::new(0), Instant::now());
        for slot in 0..100 {
            budget.count(now);
            budget.wait(slot);
            assert_eq!(budget.next(now), Some(slot));
        }
    }
}
