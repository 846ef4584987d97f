//! Slows those who guess. Pure: time comes in as `now`.
//!
//! Bounds: [`MAX_ADDRESSES`] addresses are remembered, whoever failed longest ago makes way. Wrong
//! credentials from one address do not touch another's. Devices that share an address (behind a
//! proxy, or one IPv6 network of 64 bits, where a device may take any address it likes) share its
//! waiting.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Addresses with failures that are remembered.
const MAX_ADDRESSES: usize = 256;

/// Failures before the first wait.
const FREE_FAILURES: u32 = 5;

/// The first wait; each further failure doubles it, up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 60);

/// An address that has not failed for so long begins anew. Longer than the longest wait, or sitting
/// that out would start the count again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// Who failed how often.
#[derive(Debug, Default)]
pub struct Throttle {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    network: IpAddr,
    failures: u32,
    last: Instant,
}

impl Entry {
    fn blocked_until(&self) -> Option<Instant> {
        let doublings = self.failures.checked_sub(FREE_FAILURES)?;
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        Some(self.last + FIRST_WAIT.saturating_mul(factor).min(LONGEST_WAIT))
    }
}

impl Throttle {
    /// How long this address has to wait; `None` if it may try.
    #[must_use]
    pub fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let network = network(address);
        let entry = self.entries.iter().find(|entry| entry.network == network)?;
        let left = entry.blocked_until()?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// A wrong credential came from this address.
    pub fn fail(&mut self, address: IpAddr, now: Instant) {
        self.entries.retain(|entry| now.saturating_duration_since(entry.last) < FORGOTTEN_AFTER);
        let network = network(address);
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.network == network) {
            entry.failures = entry.failures.saturating_add(1);
            entry.last = now;
            return;
        }
        if self.entries.len() >= MAX_ADDRESSES {
            let oldest = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.last);
            if let Some((at, _)) = oldest {
                self.entries.swap_remove(at);
            }
        }
        self.entries.push(Entry { network, failures: 1, last: now });
    }

    /// A right credential came from this address: its owner has only mistyped before.
    pub fn forget(&mut self, address: IpAddr) {
        let network = network(address);
        self.entries.retain(|entry| entry.network != network);
    }
}

/// The address itself, or the network of 64 bits in which an IPv6 device may choose any.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn fail(throttle: &mut Throttle, address: IpAddr, times: u32, now: Instant) {
        for _ in 0..times {
            throttle.fail(address, now);
        }
    }

    #[test]
    fn waits_double_from_one_second_to_ten_minutes() {
        let (mut throttle, address) = (Throttle::default(), ip("10.0.0.1"));
        let mut now = Instant::now();
        fail(&mut throttle, address, 4, now);
        assert_eq!(throttle.wait(address, now), None);
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600] {
            throttle.fail(address, now);
            let wait = throttle.wait(address, now).expect("it is slowed");
            assert_eq!(wait, Duration::from_secs(seconds));
            let nearly = now + wait - Duration::from_millis(1);
            assert_eq!(throttle.wait(address, nearly), Some(Duration::from_millis(1)));
            now += wait;
            assert_eq!(throttle.wait(address, now), None);
        }
        fail(&mut throttle, address, 100, now);
        assert_eq!(throttle.wait(address, now), Some(LONGEST_WAIT));
    }

    #[test]
    fn quiet_time_and_a_right_credential_forget() {
        let (mut throttle, address) = (Throttle::default(), ip("10.0.0.1"));
        let now = Instant::now();
        fail(&mut throttle, address, 20, now);
        let later = now + FORGOTTEN_AFTER;
        throttle.fail(address, later);
        assert_eq!(throttle.wait(address, later), None, "the first failure of a new count");
        fail(&mut throttle, address, 20, later);
        throttle.forget(ip("10.0.0.2"));
        assert!(throttle.wait(address, later).is_some());
        throttle.forget(address);
        assert_eq!(throttle.wait(address, later), None);
    }

    #[test]
    fn one_ipv6_network_is_one_address_and_mapped_ipv4_is_ipv4() {
        let now = Instant::now();
        let mut throttle = Throttle::default();
        fail(&mut throttle, ip("2001:db8:0:1::1"), 5, now);
        assert!(throttle.wait(ip("2001:db8:0:1:ffff::2"), now).is_some());
        assert!(throttle.wait(ip("2001:db8:0:2::1"), now).is_none());
        fail(&mut throttle, ip("::ffff:10.0.0.1"), 5, now);
        assert!(throttle.wait(ip("10.0.0.1"), now).is_some());
        assert!(throttle.wait(ip("::ffff:10.0.0.2"), now).is_none());
    }

    #[test]
    fn the_table_is_bounded_and_the_longest_quiet_makes_way() {
        let mut throttle = Throttle::default();
        let start = Instant::now();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        fail(&mut throttle, address(0), 6, start);
        for number in 1..10_000 {
            let now = start + Duration::from_millis(number.into());
            throttle.fail(address(number), now);
            // This one keeps guessing, so it stays known.
            if number % 100 == 0 {
                throttle.fail(address(0), now);
            }
        }
        assert_eq!(throttle.entries.len(), MAX_ADDRESSES);
        assert!(throttle.wait(address(0), start + Duration::from_secs(10)).is_some());
    }
}
