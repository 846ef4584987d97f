//! Which address is tried when: pure, told the time.
//!
//! RFC 8305 ("Happy Eyeballs"), sections 4 and 5: the families take turns, and an address that does not
//! answer at once gets a rival. What may be relied on:
//!
//! - **At most [`MAX_OPEN`] attempts are open at once.** Each costs a socket and, once it has asked, one
//!   of the service's connections in a minute.
//! - **A rival comes only when the newest attempt is late or was given up.** So a healthy service is asked
//!   once a call, however far away it is.
//! - **Nothing begins after `end`.**

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Step;

/// The most attempts that are open at once.
const MAX_OPEN: usize = 3;

/// How long the newest attempt has for each step before the next address is tried beside it
/// (RFC 8305, section 8: the "Connection Attempt Delay").
const DELAY: Duration = Duration::from_millis(250);

/// The same for the upgrade, once TLS has proved that the service is there. Many answer it only after
/// half a second, and a second request would cost a second session.
const ANSWER_DELAY: Duration = Duration::from_secs(1);

/// See the module's text.
#[derive(Debug)]
pub(super) struct Order {
    addresses: Vec<SocketAddr>,
    /// The index of the address that is tried next.
    next: usize,
    /// When it may be tried.
    due: Instant,
    /// When nothing begins any more.
    end: Instant,
}

impl Order {
    /// These addresses, the first one first, then the families in turn.
    pub(super) fn new(addresses: Vec<SocketAddr>, now: Instant, end: Instant) -> Self {
        Self { addresses: interleaved(addresses), next: 0, due: now, end }
    }

    /// All addresses, in their order.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address that was tried last.
    pub(super) fn last(&self) -> Option<SocketAddr> {
        self.addresses.get(self.next.checked_sub(1)?).copied()
    }

    /// How many addresses were not tried.
    pub(super) fn left(&self) -> usize {
        self.addresses.len() - self.next
    }

    /// When another address is to be tried while so many attempts are open; `None` if none will be.
    pub(super) fn due(&self, open: usize) -> Option<Instant> {
        (self.left() > 0 && open < MAX_OPEN && self.due < self.end).then_some(self.due)
    }

    /// The address to try now, if one is due. The one after it waits.
    pub(super) fn begin(&mut self, open: usize, now: Instant) -> Option<SocketAddr> {
        if self.due(open)? > now || now >= self.end {
            return None;
        }
        self.next += 1;
        self.due = now + DELAY;
        self.last()
    }

    /// The newest attempt has come to this step: the next address waits again. `proved`: TLS has.
    pub(super) fn put_off(&mut self, step: Step, proved: bool, now: Instant) {
        self.due = now + if proved && step == Step::Upgrade { ANSWER_DELAY } else { DELAY };
    }

    /// The newest attempt was given up: the next address need not wait for it.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.due = self.due.min(now);
    }
}

/// The families in turn, beginning with the first address's. Within a family the order stays.
fn interleaved(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    for at in 1..addresses.len() {
        let before = addresses[at - 1].is_ipv4();
        let other = addresses[at..].iter().position(|address| address.is_ipv4() != before);
        addresses[at..=at + other.unwrap_or(0)].rotate_right(1);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<SocketAddr> {
        text.split(' ').map(|it| it.parse().expect("an address")).collect()
    }

    #[test]
    fn the_families_take_turns_and_the_first_address_stays_first() {
        for (given, expected) in [
            (
                "[::1]:1 [::2]:1 [::3]:1 1.0.0.1:1 1.0.0.2:1",
                "[::1]:1 1.0.0.1:1 [::2]:1 1.0.0.2:1 [::3]:1",
            ),
            ("1.0.0.1:1 [::1]:1 [::2]:1 [::3]:1", "1.0.0.1:1 [::1]:1 [::2]:1 [::3]:1"),
            ("1.0.0.1:1 1.0.0.2:1 [::1]:1", "1.0.0.1:1 [::1]:1 1.0.0.2:1"),
            ("1.0.0.2:1 1.0.0.1:1", "1.0.0.2:1 1.0.0.1:1"),
            ("[::1]:1", "[::1]:1"),
        ] {
            assert_eq!(interleaved(addresses(given)), addresses(expected), "{given}");
        }
        assert_eq!(interleaved(Vec::new()), Vec::new());
    }

    #[test]
    fn each_address_waits_for_the_one_before_it_and_three_are_open() {
        let start = Instant::now();
        let end = start + Duration::from_secs(13);
        let all = addresses("1.0.0.1:1 1.0.0.2:1 1.0.0.3:1 1.0.0.4:1");
        let mut order = Order::new(all.clone(), start, end);
        let tick = Duration::from_millis(1);
        let mut now = start;
        for (open, address) in all.iter().take(3).enumerate() {
            assert_eq!(
                order.begin(open, now - tick.min(now - start)),
                if open == 0 { Some(*address) } else { None }
            );
            if open > 0 {
                assert_eq!(order.begin(open, now), Some(*address));
            }
            now = order.due(0).expect("one is left");
            assert!(now > start);
        }
        assert_eq!((order.due(3), order.begin(3, end - tick)), (None, None), "too many are open");
        order.hurry(now - tick);
        assert_eq!(order.begin(2, now - tick), Some(all[3]));
        assert_eq!((order.due(0), order.left()), (None, 0));
    }

    #[test]
    fn a_service_that_has_proved_to_be_there_has_longer_to_answer() {
        let start = Instant::now();
        let end = start + Duration::from_secs(13);
        let mut order = Order::new(addresses("1.0.0.1:1 1.0.0.2:1"), start, end);
        assert!(order.begin(0, start).is_some());
        let ms = Duration::from_millis;
        for (step, proved, wait) in [
            (Step::Tunnel, true, 250),
            (Step::Tls, true, 250),
            (Step::Upgrade, false, 250),
            (Step::Upgrade, true, 1000),
        ] {
            order.put_off(step, proved, start + ms(100));
            assert_eq!(order.due(1), Some(start + ms(100 + wait)), "{step:?}");
        }
        order.put_off(Step::Upgrade, true, end);
        assert_eq!((order.due(1), order.begin(0, end + ms(5000))), (None, None), "it is over");
    }
}
