//! The service's addresses. `getaddrinfo` blocks for seconds when a name server is dead, so it
//! runs in a child: this program again, as `voicelived __resolve HOST PORT`. Hosts file, mDNS,
//! VPNs and systemd-resolved all count that way. The last good answer is kept, and refreshed off
//! the call path. Two calls wait for a name: the first one, and the next one after nobody was there
//! at any of the addresses, since the name may lead elsewhere by now.

use std::ffi::OsString;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a look-up may take.
pub const TIMEOUT: Duration = Duration::from_secs(12);

/// Bytes of output that a look-up may have.
pub const MAX_OUTPUT: usize = 4 * 1024;

/// Addresses that are kept.
const MAX_ADDRESSES: usize = 16;

/// After this long the next call starts a new look-up, while it uses the old answer.
const REFRESH: Duration = Duration::from_secs(300);

/// What is known of one host.
#[derive(Debug)]
pub struct Resolver {
    host: String,
    port: u16,
    addresses: Vec<SocketAddr>,
    asked: Option<Instant>,
    running: bool,
    /// Nobody was there; a new look-up comes before the next attempt.
    doubted: bool,
    /// Where the last connection was made: it comes first, so that an address that never answers,
    /// such as that of a broken IPv6, costs its time-out only once.
    proven: Option<SocketAddr>,
}

impl Resolver {
    /// Nothing is known yet, unless `host` is an address.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        let literal = host.parse::<IpAddr>().ok();
        let addresses = literal.map(|address| SocketAddr::new(address, port)).into_iter().collect();
        let host = host.to_owned();
        Self { host, port, addresses, asked: None, running: false, doubted: false, proven: None }
    }

    /// The host's name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The last good answer, in the order to try; empty if there was none, or it is in doubt.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        if self.doubted { &[] } else { &self.addresses }
    }

    /// A connection was made to this one.
    pub fn reached(&mut self, address: SocketAddr) {
        self.proven = Some(address);
        self.sort();
    }

    /// Nobody was there. What was found since is not in doubt, nor is what cannot be looked up.
    pub fn unreached(&mut self, tried: SocketAddr) {
        self.proven = self.proven.filter(|proven| *proven != tried);
        let known = self.addresses.contains(&tried);
        self.doubted |= known && !self.is_literal();
    }

    fn is_literal(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }

    /// The others stay in the system's order. A general sort is kilobytes of program.
    fn sort(&mut self) {
        let at = self.addresses.iter().position(|address| Some(*address) == self.proven);
        if let Some(known) = at.and_then(|at| self.addresses.get_mut(..=at)) {
            known.rotate_right(1);
        }
    }

    /// Whether a look-up should be started now; if so, it counts as started.
    pub fn begin(&mut self, now: Instant) -> bool {
        let recent = self.asked.is_some_and(|at| now < at + REFRESH);
        let fresh = recent && !self.addresses().is_empty();
        if self.is_literal() || fresh || self.running {
            return false;
        }
        self.running = true;
        self.asked = Some(now);
        true
    }

    /// The look-up that was begun is over. An empty or failed one keeps the old answer.
    ///
    /// # Errors
    /// Why there is no address at all.
    pub fn finish(&mut self, result: Result<&[u8], String>) -> Result<(), String> {
        self.running = false;
        self.doubted = false;
        let found = result.map(parse);
        match found {
            Ok(list) if !list.is_empty() => {
                self.addresses = list;
                self.sort();
            }
            Ok(_) if self.addresses.is_empty() => return Err("it has no address".to_owned()),
            Err(why) if self.addresses.is_empty() => return Err(why),
            Ok(_) | Err(_) => {}
        }
        Ok(())
    }

    /// The child's command line.
    #[must_use]
    pub fn command(&self, program: &Path) -> Vec<OsString> {
        vec![program.into(), "__resolve".into(), (&self.host).into(), self.port.to_string().into()]
    }
}

fn parse(output: &[u8]) -> Vec<SocketAddr> {
    let lines = String::from_utf8_lossy(output);
    lines.lines().filter_map(|line| line.parse().ok()).take(MAX_ADDRESSES).collect()
}

/// The child's work: prints one address a line. Blocks; never called in the daemon itself.
///
/// # Errors
/// What the system's resolver says.
pub fn look_up(host: &str, port: u16, out: &mut dyn Write) -> std::io::Result<()> {
    for address in (host, port).to_socket_addrs()?.take(MAX_ADDRESSES) {
        writeln!(out, "{address}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_no_look_up() {
        let mut resolver = Resolver::new("127.0.0.1", 80);
        assert!(!resolver.begin(Instant::now()));
        assert_eq!(resolver.addresses().len(), 1);
        assert_eq!(Resolver::new("::1", 80).addresses().len(), 1);
    }

    #[test]
    fn doubt_makes_the_next_call_wait_for_one_look_up() {
        let (mut resolver, now) = (Resolver::new("a.example", 443), Instant::now());
        let [a, b] = [1, 2].map(|last| SocketAddr::from(([192, 0, 2, last], 443)));
        assert!(resolver.begin(now));
        assert!(resolver.finish(Ok(b"192.0.2.1:443\n192.0.2.2:443\n")).is_ok());
        resolver.reached(b);
        assert_eq!(resolver.addresses(), [b, a]);
        resolver.unreached(b);
        assert!(resolver.addresses().is_empty());
        assert!(resolver.begin(now) && !resolver.begin(now));
        assert!(resolver.finish(Err("no network".to_owned())).is_ok());
        assert_eq!(resolver.addresses(), [b, a], "the old ones serve on");
        assert!(!resolver.begin(now));
        resolver.unreached(SocketAddr::from(([192, 0, 2, 3], 443)));
        assert!(!resolver.addresses().is_empty(), "an attempt from before the look-up");
        let mut literal = Resolver::new("192.0.2.1", 443);
        literal.unreached(a);
        assert_eq!(literal.addresses(), [a]);
    }

    #[test]
    fn a_failed_refresh_keeps_the_last_good_answer() {
        let start = Instant::now();
        let mut resolver = Resolver::new("a.example", 443);
        assert!(resolver.begin(start) && !resolver.begin(start));
        assert!(resolver.finish(Err("no network".to_owned())).is_err());
        assert!(resolver.begin(start));
        assert!(resolver.finish(Ok(b"192.0.2.1:443\n[2001:db8::1]:443\nnonsense\n")).is_ok());
        assert!(!resolver.begin(start) && resolver.begin(start + REFRESH));
        assert!(resolver.finish(Err("no network".to_owned())).is_ok());
        assert_eq!(resolver.addresses().len(), 2);
    }
}
