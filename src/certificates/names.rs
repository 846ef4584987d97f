//! The names and addresses under which other devices of the local network reach this one.
//!
//! The addresses of interfaces are read from files in `/proc/self/net`. That needs no `unsafe`, and it
//! works for a service that may not open netlink sockets, which `getifaddrs` needs.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use crate::system::files;

/// The most addresses that are taken. A host of many containers has hundreds, which no user types.
const MAX_ADDRESSES: usize = 32;
/// The most bytes that are read of a file with addresses or names.
const MAX_LIST: usize = 1024 * 1024;
/// The most search domains of the resolver that are taken.
const MAX_DOMAINS: usize = 3;

/// The names and addresses in a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// DNS names in lower case, the most useful first.
    pub dns: Vec<String>,
    /// Addresses, first the one that the device sends from.
    pub addresses: Vec<IpAddr>,
}

impl Names {
    /// These, and then those of `more` that are not among them.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.dns.extend(more.dns);
        self.addresses.extend(more.addresses);
        deduplicate(&mut self.dns);
        deduplicate(&mut self.addresses);
        self
    }

    /// Whether a certificate with these names holds for a name. A wildcard stands for one label (RFC 6125,
    /// section 6.4.3).
    #[must_use]
    pub(super) fn covers(&self, name: &str) -> bool {
        let parent = name.split_once('.').map(|(_, parent)| parent);
        self.dns.iter().any(|own| {
            own.eq_ignore_ascii_case(name)
                || own
                    .strip_prefix("*.")
                    .zip(parent)
                    .is_some_and(|(under, parent)| under.eq_ignore_ascii_case(parent))
        })
    }

    /// URLs to open in a browser on another device, the most useful first: `host.local`, other names,
    /// addresses. Loopback ones are left out. `scheme` is `https` or `http`. Its usual `port` is not
    /// written.
    #[must_use]
    pub fn urls(&self, scheme: &str, port: u16) -> Vec<String> {
        let (local, other): (Vec<_>, Vec<_>) = self
            .dns
            .iter()
            .filter(|name| *name != "localhost")
            .partition(|n| n.ends_with(".local"));
        let usual = if scheme == "https" { 443 } else { 80 };
        let port = if port == usual { String::new() } else { format!(":{port}") };
        let names = local.into_iter().chain(other).map(|name| format!("{scheme}://{name}{port}/"));
        let addresses = self.addresses.iter().filter(|address| !address.is_loopback());
        names
            .chain(addresses.map(|address| match address {
                IpAddr::V4(address) => format!("{scheme}://{address}{port}/"),
                IpAddr::V6(address) => format!("{scheme}://[{address}]{port}/"),
            }))
            .collect()
    }
}

/// Where the names of this device come from: its owner, and the system.
#[derive(Debug, Clone, Default)]
pub struct DeviceNames {
    /// What the owner has set (`VOICELIVED_NAMES`). It is there from the start and does not change.
    set: Names,
}

impl DeviceNames {
    /// The system's names, and these of the owner before them.
    #[must_use]
    pub fn new(set: Names) -> Self {
        Self { set }
    }

    /// What the owner has set.
    #[must_use]
    pub fn set(&self) -> &Names {
        &self.set
    }

    /// The owner's names, then those that the system has now ([`device_names`]).
    #[must_use]
    pub fn read(&self) -> Names {
        self.read_with(&[])
    }

    /// The same with these addresses, as far as they are the device's: clients have used them.
    #[must_use]
    pub fn read_with(&self, used: &[IpAddr]) -> Names {
        self.set.clone().and(names_with(used))
    }
}

/// The names and addresses of this device:
///
/// - its host name, alone, with `.local` (mDNS) and with the network's search domains;
/// - `localhost`;
/// - the addresses of its interfaces, 32 at most. Link-local IPv6 addresses are left out, because a certificate
///   cannot name their zone. Temporary ones are left out, because they change every day.
///
/// What cannot be read is left out.
#[must_use]
pub fn device_names() -> Names {
    names_with(&[])
}

/// The same with these addresses among the others, even temporary ones and those beyond the bound.
fn names_with(used: &[IpAddr]) -> Names {
    let read = |path: &str| {
        let bytes = files::read(Path::new(path), MAX_LIST).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    // A hardened service may see no /proc/sys (ProcSubset=pid).
    let host = fs::read_to_string("/proc/sys/kernel/hostname");
    let host = host.unwrap_or_else(|_| read("/etc/hostname"));
    let mut addresses = outward_addresses();
    addresses.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    addresses.extend(ipv4_of(&read("/proc/self/net/fib_trie")));
    addresses.extend(ipv6_of(&read("/proc/self/net/if_inet6"), used));
    deduplicate(&mut addresses);
    let beyond = addresses.split_off(addresses.len().min(MAX_ADDRESSES));
    addresses.extend(beyond.into_iter().filter(|address| used.contains(address)));
    Names { dns: dns_names(&host, &read("/etc/resolv.conf")), addresses }
}

/// Leaves the first of equal entries. The lists are short.
fn deduplicate<T: PartialEq + Clone>(list: &mut Vec<T>) {
    let mut known: Vec<T> = Vec::with_capacity(list.len());
    list.retain(|entry| {
        let is_new = !known.contains(entry);
        if is_new {
            known.push(entry.clone());
        }
        is_new
    });
}

/// The names made of a host name and the resolver's search domains.
fn dns_names(host: &str, resolver: &str) -> Vec<String> {
    let host = sanitised(host);
    let short = host.split('.').next().unwrap_or_default().to_owned();
    let mut names = Vec::new();
    if !short.is_empty() && short != "localhost" {
        names.push(short.clone());
        names.push(format!("{short}.local"));
        names.extend(domains(resolver).map(|domain| format!("{short}.{domain}")));
        names.push(host);
    }
    names.push("localhost".to_owned());
    let mut known = Vec::new();
    for name in names {
        if name.len() <= 253 && !known.contains(&name) {
            known.push(name);
        }
    }
    known
}

/// A host name of lower case letters, digits and inner hyphens, in labels of 1 to 63 bytes (RFC 1123,
/// section 2.1). Other characters become hyphens, as mDNS responders do it.
fn sanitised(host: &str) -> String {
    let host = host.trim();
    if host == "(none)" {
        // Linux reports this before a name is set.
        return String::new();
    }
    let clean = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let labels = host.split('.').map(|label| {
        let label: String = label.chars().map(clean).take(63).collect();
        label.trim_matches('-').to_owned()
    });
    let labels: Vec<_> = labels.filter(|label| !label.is_empty()).collect();
    labels.join(".")
}

/// Search domains of a `resolv.conf`. A single label may be a home router's (`lan`, `home`).
fn domains(resolver: &str) -> impl Iterator<Item = String> {
    let lines = resolver.lines().filter_map(|line| {
        let line = line.trim();
        line.strip_prefix("search").or_else(|| line.strip_prefix("domain"))
    });
    let words = lines.filter(|rest| rest.starts_with([' ', '\t'])).flat_map(str::split_whitespace);
    words.map(sanitised).filter(|domain| !domain.is_empty()).take(MAX_DOMAINS)
}

/// The address that this device would send from. A UDP `connect` chooses a route and sends nothing. Its
/// target is an address for documentation (RFC 5737).
fn outward_addresses() -> Vec<IpAddr> {
    let towards = |local: IpAddr, target: &str| -> Option<IpAddr> {
        let socket = UdpSocket::bind(SocketAddr::new(local, 0)).ok()?;
        socket.connect(target.parse::<SocketAddr>().ok()?).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    // Only IPv4 is asked: over IPv6 the result would be a temporary address.
    let found = towards(Ipv4Addr::UNSPECIFIED.into(), "192.0.2.1:9");
    found.filter(|address| !address.is_unspecified()).into_iter().collect()
}

/// Local IPv4 addresses in the text of `fib_trie`: a line `|-- ADDRESS` whose next line is
/// `/32 host LOCAL`.
fn ipv4_of(text: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(last.map(IpAddr::from));
        }
    }
    found
}

/// IPv6 addresses in the text of `if_inet6`: address, interface, prefix, scope, flags (hexadecimal)
/// and name, one line each.
fn ipv6_of(text: &str, used: &[IpAddr]) -> Vec<IpAddr> {
    const LINK_LOCAL: u8 = 0x20;
    // Temporary, duplicate, deprecated, tentative: linux/if_addr.h.
    const PASSING: u32 = 0x01 | 0x08 | 0x20 | 0x40;
    let address = |line: &str| {
        let mut fields = line.split_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok()?;
        let scope = u8::from_str_radix(fields.nth(2)?, 16).ok()?;
        let flags = u32::from_str_radix(fields.next()?, 16).ok()?;
        let address = IpAddr::V6(Ipv6Addr::from_bits(address));
        let lasting = flags & PASSING == 0 || used.contains(&address);
        (lasting && scope != LINK_LOCAL).then_some(address)
    };
    text.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     \
        +-- 192.168.1.0/24 2 0 2\n           |-- 192.168.1.0\n              /24 link UNICAST\n           \
        |-- 192.168.1.7\n              /32 host LOCAL\n        |-- 192.168.1.255\n           \
        /32 link BROADCAST\n        |-- 127.0.0.1\n              /8 host LOCAL\n              \
        /32 host LOCAL\n";

    #[test]
    fn local_ipv4_addresses_are_found() {
        let found = ipv4_of(TRIE);
        assert_eq!(found, ["192.168.1.7", "127.0.0.1"].map(|a| a.parse::<IpAddr>().unwrap()));
        assert!(ipv4_of("/32 host LOCAL\n|-- x\n/32 host LOCAL\n|-- 999.1.1.1").is_empty());
    }

    #[test]
    fn lasting_ipv6_addresses_are_found() {
        let text = "00000000000000000000000000000001 01 80 10 80       lo\n\
            fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n\
            fd000000000000000000000000000002 04 40 00 82     eth0\n\
            20010db8000000000000000000000003 04 40 00 01     eth0\n\
            20010db8000000000000000000000004 04 40 00 20     eth0\n\nnonsense\nff 1 2\n";
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(ipv6_of(text, &[]), ["::1", "fd00::2"].map(address));
        // A client has used them, so they are no secret, and a link-local one has a zone.
        let used = ["2001:db8::4", "fe80::fc00:fffe:0:1", "fe80::fc00:fffe:1", "::9"].map(address);
        assert_eq!(ipv6_of(text, &used), ["::1", "fd00::2", "2001:db8::4"].map(address));
    }

    #[test]
    fn host_names_are_made_fit_for_certificates() {
        let resolver = "# search no.example\nsearch fritz.box lan\nsearching x\ndomain\n";
        let made = dns_names("Pi_4\n", resolver);
        assert_eq!(made, ["pi-4", "pi-4.local", "pi-4.fritz.box", "pi-4.lan", "localhost"]);
        assert_eq!(
            dns_names("pi.example.org", ""),
            ["pi", "pi.local", "pi.example.org", "localhost"]
        );
        for nameless in ["", "(none)", "localhost", "...", "-\u{1f600}-", " \n"] {
            assert_eq!(dns_names(nameless, resolver), ["localhost"], "{nameless:?}");
        }
        let long = dns_names(&"x".repeat(300), "");
        assert_eq!(long[0].len(), 63);
    }

    #[test]
    fn this_device_has_names() {
        let names = device_names();
        assert!(names.dns.contains(&"localhost".to_owned()), "{names:?}");
        assert!(names.addresses.iter().any(|a| a.to_string() == "127.0.0.1"), "{names:?}");
        assert!(names.addresses.len() <= MAX_ADDRESSES);
    }

    #[test]
    fn what_the_owner_has_set_comes_first_and_once() {
        let set = Names {
            dns: vec!["pi-2.local".to_owned(), "localhost".to_owned()],
            addresses: vec!["192.0.2.1".parse().unwrap(), "127.0.0.1".parse().unwrap()],
        };
        let all = DeviceNames::new(set.clone()).read();
        assert_eq!(all.dns[..2], set.dns);
        assert_eq!(all.addresses[..2], set.addresses);
        assert_eq!(all.dns.iter().filter(|name| *name == "localhost").count(), 1);
        let loopback = |address: &&IpAddr| address.to_string() == "127.0.0.1";
        assert_eq!(all.addresses.iter().filter(loopback).count(), 1);
    }

    #[test]
    fn addresses_to_open_begin_with_the_easiest() {
        let names = Names {
            dns: ["pi", "pi.local", "localhost"].map(str::to_owned).into(),
            addresses: ["192.168.1.7", "127.0.0.1", "fd00::2"].map(|a| a.parse().unwrap()).into(),
        };
        assert_eq!(
            names.urls("https", 8443),
            [
                "https://pi.local:8443/",
                "https://pi:8443/",
                "https://192.168.1.7:8443/",
                "https://[fd00::2]:8443/"
            ]
        );
        assert_eq!(names.urls("https", 443)[0], "https://pi.local/");
    }
}
