//! Slows clients that guess access tokens. Pure: time comes in as `now`.
//!
//! An address that has failed too often must wait, and the wait doubles with each failure.
//!
//! - **IPv4**: failures of one address do not slow another address. Devices behind one proxy share its
//!   address, so they share its wait.
//! - **IPv6**: a device may take any address of its /64 network. So many failures from one network slow
//!   the whole network. Addresses that once showed a right credential are exempt. A home is one such
//!   network, and one guesser in it must not lock the others out.
//!
//! Bounds: at most [`MAX_ADDRESSES`] addresses, as many networks, and as many admitted addresses are
//! remembered. When a table is full, the entry that was used longest ago is dropped.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// The most entries of each table.
const MAX_ADDRESSES: usize = 256;

/// Failures of an address before its first wait.
const FREE_FAILURES: u32 = 5;

/// Failures of a whole IPv6 network before its first wait: more than a household mistypes.
const FREE_NETWORK_FAILURES: u32 = 50;

/// The first wait. Each further failure doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The bound of the doubling.
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 60);

/// The failures of an address are forgotten when none has come for this long. It must be longer than
/// the longest wait: otherwise a guesser that waits would begin with a count of zero each time.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// The failures by address and by network, and the addresses that showed a right credential.
#[derive(Debug)]
pub struct Throttle {
    addresses: Failures,
    networks: Failures,
    /// Addresses that showed a right credential, the latest last.
    admitted: Vec<IpAddr>,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            addresses: Failures { free: FREE_FAILURES, entries: Vec::new() },
            networks: Failures { free: FREE_NETWORK_FAILURES, entries: Vec::new() },
            admitted: Vec::new(),
        }
    }
}

impl Throttle {
    /// How long this address has to wait; `None` if it may try.
    #[must_use]
    pub fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let address = address.to_canonical();
        let own = self.addresses.wait(address, now);
        let shared = || match network(address) {
            Some(network) if !self.admitted.contains(&address) => self.networks.wait(network, now),
            _ => None,
        };
        own.or_else(shared)
    }

    /// Counts a wrong credential from this address.
    pub fn fail(&mut self, address: IpAddr, now: Instant) {
        let address = address.to_canonical();
        self.addresses.add(address, now);
        if let Some(network) = network(address) {
            self.networks.add(network, now);
        }
    }

    /// Forgets the failures of an address that has shown a right credential: its user had mistyped. The
    /// failures of its network stay, because others in it may still be guessing.
    pub fn forget(&mut self, address: IpAddr) {
        let address = address.to_canonical();
        self.addresses.entries.retain(|entry| entry.source != address);
        // The list is only asked for IPv6 addresses, since IPv4 has no network count.
        if self.admitted.last() == Some(&address) || address.is_ipv4() {
            return;
        }
        self.admitted.retain(|known| *known != address);
        if self.admitted.len() >= MAX_ADDRESSES {
            self.admitted.remove(0);
        }
        self.admitted.push(address);
    }
}

/// A table of failures by their source, an address or a network. A source waits once it has failed more
/// often than `free` allows.
#[derive(Debug)]
struct Failures {
    free: u32,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    source: IpAddr,
    failures: u32,
    last: Instant,
}

impl Failures {
    fn wait(&self, source: IpAddr, now: Instant) -> Option<Duration> {
        let entry = self.entries.iter().find(|entry| entry.source == source)?;
        let doublings = entry.failures.checked_sub(self.free)?;
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let until = entry.last + FIRST_WAIT.saturating_mul(factor).min(LONGEST_WAIT);
        let left = until.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    fn add(&mut self, source: IpAddr, now: Instant) {
        self.entries.retain(|entry| now.saturating_duration_since(entry.last) < FORGOTTEN_AFTER);
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.source == source) {
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
        self.entries.push(Entry { source, failures: 1, last: now });
    }
}

/// The /64 network of an IPv6 address, in which a device may choose any address; `None` for IPv4.
fn network(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V6(address) => Some(IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64))),
        IpAddr::V4(_) => None,
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
    fn a_guesser_slows_its_own_ipv6_address_and_mapped_ipv4_is_ipv4() {
        let now = Instant::now();
        let mut throttle = Throttle::default();
        fail(&mut throttle, ip("2001:db8:0:1::1"), 20, now);
        assert!(throttle.wait(ip("2001:db8:0:1::1"), now).is_some());
        assert!(throttle.wait(ip("2001:db8:0:1::2"), now).is_none(), "it has done nothing");
        fail(&mut throttle, ip("::ffff:10.0.0.1"), 5, now);
        assert!(throttle.wait(ip("10.0.0.1"), now).is_some());
        assert!(throttle.wait(ip("::ffff:10.0.0.2"), now).is_none());
    }

    #[test]
    fn a_guesser_of_many_ipv6_addresses_slows_its_network_but_for_who_was_right() {
        let now = Instant::now();
        let mut throttle = Throttle::default();
        let paired = ip("2001:db8:0:1:ffff::2");
        throttle.forget(paired);
        for number in 1..=50 {
            throttle.fail(ip(&format!("2001:db8:0:1::{number:x}")), now);
        }
        assert!(throttle.wait(ip("2001:db8:0:1::abcd"), now).is_some(), "a fresh address of it");
        assert!(throttle.wait(paired, now).is_none());
        assert!(throttle.wait(ip("2001:db8:0:2::1"), now).is_none(), "another network");
        fail(&mut throttle, paired, 5, now);
        assert!(throttle.wait(paired, now).is_some(), "its own failures count");
        for number in 0..1000_u32 {
            throttle.forget(IpAddr::V6(Ipv6Addr::from_bits(number.into())));
        }
        assert_eq!(throttle.admitted.len(), MAX_ADDRESSES);
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
        assert_eq!(throttle.addresses.entries.len(), MAX_ADDRESSES);
        assert!(throttle.wait(address(0), start + Duration::from_secs(10)).is_some());
    }

    /// The list of admitted addresses is for IPv6: a crowd of IPv4 does not push one out of it.
    #[test]
    fn right_callers_of_ipv4_take_no_place_from_those_of_ipv6() {
        let now = Instant::now();
        let mut throttle = Throttle::default();
        let here = ip("2001:db8::1");
        throttle.forget(here);
        let first = u32::from(std::net::Ipv4Addr::new(10, 0, 0, 0));
        for address in (first..).take(MAX_ADDRESSES + 1) {
            throttle.forget(IpAddr::from(std::net::Ipv4Addr::from(address)));
        }
        for at in 0..200_u32 {
            throttle.fail(ip(&format!("2001:db8::ff:{at}")), now);
        }
        assert!(throttle.wait(ip("2001:db8::2"), now).is_some(), "its network is slowed");
        assert_eq!(throttle.wait(here, now), None);
        for at in 0..=MAX_ADDRESSES {
            throttle.forget(ip(&format!("2001:db8:0:1::{at}")));
        }
        assert!(throttle.wait(here, now).is_some(), "the list has a bound");
    }
}
