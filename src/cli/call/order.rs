//! What both sides said, in the order of the conversation. The words of a turn may come long after it
//! was spoken, and after those of a later one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a line waits for the words of the turns before it. They may never come.
const PATIENCE: Duration = Duration::from_secs(2);
/// Turns that may wait. The oldest one is not waited for any longer.
const MOST: usize = 32;

/// A turn, by its item.
#[derive(Debug)]
struct Turn {
    item: String,
    /// Its line, and when it came; `None` until its words have come.
    line: Option<(String, Instant)>,
}

/// The lines that are not printed yet.
#[derive(Debug, Default)]
pub(super) struct Order {
    turns: VecDeque<Turn>,
}

impl Order {
    /// The item's turn is here. Its words will come, or not.
    pub(super) fn expect(&mut self, item: &str) {
        if !item.is_empty() && !self.turns.iter().any(|turn| turn.item == item) {
            self.add(item, None);
        }
    }

    /// The item's words have come. Without an item they were said last.
    pub(super) fn say(&mut self, item: &str, line: String, now: Instant) {
        let waits = |turn: &&mut Turn| !item.is_empty() && turn.item == item && turn.line.is_none();
        match self.turns.iter_mut().find(waits) {
            Some(turn) => turn.line = Some((line, now)),
            None => self.add(item, Some((line, now))),
        }
    }

    /// The next line to print, until `None`: one that nothing is before, or that has waited for it long
    /// enough.
    pub(super) fn next(&mut self, now: Instant) -> Option<String> {
        let is_late =
            |turn: &Turn| turn.line.as_ref().is_some_and(|(_, since)| now >= *since + PATIENCE);
        if !self.turns.iter().any(is_late) {
            self.turns.front()?.line.as_ref()?;
        }
        self.next_at_all()
    }

    /// The same without any patience: for the end of the call.
    pub(super) fn next_at_all(&mut self) -> Option<String> {
        loop {
            if let Some((line, _)) = self.turns.pop_front()?.line {
                return Some(line);
            }
        }
    }

    fn add(&mut self, item: &str, line: Option<(String, Instant)>) {
        if self.turns.len() == MOST
            && let Some(at) = self.turns.iter().position(|turn| turn.line.is_none())
        {
            self.turns.remove(at);
        }
        self.turns.push_back(Turn { item: item.to_owned(), line });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(order: &mut Order, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| order.next(now)).collect()
    }

    #[test]
    fn lines_wait_for_those_before_them_but_not_for_ever() {
        let now = Instant::now();
        let mut order = Order::default();
        for item in ["a", "b", "c", "a"] {
            order.expect(item);
        }
        order.say("b", "B".to_owned(), now);
        assert!(all(&mut order, now).is_empty());
        order.say("a", "A".to_owned(), now);
        assert_eq!(all(&mut order, now), ["A", "B"]);
        order.say("d", "D".to_owned(), now);
        order.say("", "E".to_owned(), now);
        assert!(all(&mut order, now).is_empty());
        assert_eq!(all(&mut order, now + PATIENCE), ["D", "E"]);
        order.say("c", "C".to_owned(), now);
        assert_eq!(all(&mut order, now), ["C"], "late, but not lost");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut order = Order::default();
        for item in 0..1_000 {
            order.expect(&item.to_string());
        }
        assert_eq!(order.turns.len(), MOST);
        order.say("999", "Z".to_owned(), Instant::now());
        assert_eq!(order.next_at_all().as_deref(), Some("Z"));
    }
}
