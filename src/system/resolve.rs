//! The service's addresses. The system's resolver (`getaddrinfo`) may block for seconds, so it runs in a
//! child process: this program again, as `voicelived __resolve HOST PORT`. So the hosts file, mDNS, VPNs
//! and systemd-resolved count as the system is configured.
//!
//! The last good answer is kept and refreshed while calls use it. A call waits for a look-up in two cases
//! only: there is no answer yet, or the answer is in doubt, because no address of it could be reached.

use std::ffi::OsString;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a look-up may take.
pub const TIMEOUT: Duration = Duration::from_secs(12);

/// The most bytes of output of a look-up.
pub const MAX_OUTPUT: usize = 4 * 1024;

/// The most addresses that are kept.
const MAX_ADDRESSES: usize = 16;

/// The age of an answer at which the next call starts a new look-up. That call still uses the old answer.
const REFRESH: Duration = Duration::from_secs(300);

/// The known addresses of one host.
#[derive(Debug)]
pub struct Resolver {
    host: String,
    port: u16,
    addresses: Vec<SocketAddr>,
    asked: Option<Instant>,
    running: bool,
    /// No address of the last answer could be reached. The next call waits for a new look-up, because the
    /// name may lead elsewhere by now.
    doubted: bool,
    /// The address of the last connection that succeeded. It is tried first. So an address that never
    /// answers, as with a broken IPv6 network, costs its moment only once.
    proven: Option<SocketAddr>,
}

impl Resolver {
    /// A resolver for `host`. It knows no address yet, unless `host` is one itself.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        let literal = host.parse::<IpAddr>().ok();
        let addresses = literal.map(|address| SocketAddr::new(address, port)).into_iter().collect();
        let host = host.to_owned();
        Self { host, port, addresses, asked: None, running: false, doubted: false, proven: None }
    }

    /// The host's name and the port.
    #[must_use]
    pub fn name(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The last good answer, in the order to try. Empty if there was none, or if it is in doubt.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        if self.doubted { &[] } else { &self.addresses }
    }

    /// Notes that a connection to this address has succeeded.
    pub fn reached(&mut self, address: SocketAddr) {
        self.proven = Some(address);
        self.sort();
    }

    /// Notes that no address could be reached, and that `tried` was one of them. This puts the answer in
    /// doubt, with two exceptions: an answer without `tried` is newer than the attempt, and an address
    /// that stands for the host needs no look-up.
    pub fn unreached(&mut self, tried: SocketAddr) {
        self.proven = None;
        let known = self.addresses.contains(&tried);
        self.doubted |= known && !self.is_literal();
    }

    fn is_literal(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }

    /// Puts the proven address first. The others stay in the system's order (RFC 6724). It is a rotation,
    /// since a general sort adds kilobytes to the program.
    fn sort(&mut self) {
        let at = self.addresses.iter().position(|address| Some(*address) == self.proven);
        if let Some(known) = at.and_then(|at| self.addresses.get_mut(..=at)) {
            known.rotate_right(1);
        }
    }

    /// Whether a look-up should start now. If so, it counts as running until [`finish`](Self::finish).
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

    /// Takes the result of the look-up that was begun. After an empty or failed one the old answer stays,
    /// and is no longer in doubt: it is all there is to try.
    ///
    /// # Errors
    /// If no address is known at all: the reason, which follows a colon in a sentence.
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

/// The addresses in a child's output, one a line. Other lines are skipped.
fn parse(output: &[u8]) -> Vec<SocketAddr> {
    let lines = String::from_utf8_lossy(output);
    lines.lines().filter_map(|line| line.parse().ok()).take(MAX_ADDRESSES).collect()
}

/// What the child does: it looks a name up and prints one address a line. This blocks, so the daemon
/// itself never calls it.
///
/// # Errors
/// The error of the system's resolver, or of the output.
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
