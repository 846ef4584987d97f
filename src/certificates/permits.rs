//! The names that a root may certify: its name constraints (RFC 5280, section 4.2.1.10).
//!
//! Users trust the root on their phones and computers, and its key is stored on a small device. With the
//! constraints a thief of that key can certify no web site on the internet. They cannot change later
//! without a new root, which every device would have to trust again. So they permit whole ranges that are
//! private by definition, and a device that is renamed or moved keeps its root.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::names::Names;

/// Name spaces that never lead to the internet: mDNS (RFC 6762), loopback (RFC 6761), home networks
/// (RFC 8375), private use (`internal`, reserved by ICANN), and the `lan` of many routers.
const PRIVATE_DOMAINS: [&str; 5] = ["local", "localhost", "home.arpa", "internal", "lan"];

/// Private (RFC 1918, RFC 4193), shared (RFC 6598), link-local and loopback networks.
const PRIVATE_NETWORKS: [IpNet; 9] = [
    v4([10, 0, 0, 0], 8),
    v4([172, 16, 0, 0], 12),
    v4([192, 168, 0, 0], 16),
    v4([100, 64, 0, 0], 10),
    v4([169, 254, 0, 0], 16),
    v4([127, 0, 0, 0], 8),
    v6(Ipv6Addr::LOCALHOST, 128),
    v6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6(address: Ipv6Addr, prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(address, prefix))
}

/// Permitted subtrees. An empty list permits nothing of its kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Permits {
    /// Permitted names. A name also permits every name below it.
    pub(super) domains: Vec<String>,
    pub(super) networks: Vec<IpNet>,
}

impl Permits {
    /// The constraints for a new root of a device with these names. They permit all private names and
    /// networks, and of the public ones only the device's own: its names, its IPv4 addresses, and the
    /// /64 networks of its IPv6 addresses, whose last 64 bits change.
    pub(super) fn for_device(names: &Names) -> Self {
        let domains = PRIVATE_DOMAINS.map(str::to_owned).into();
        let mut made = Self { domains, networks: PRIVATE_NETWORKS.into() };
        for name in &names.dns {
            if !made.has_name(name) {
                made.domains.push(name.clone());
            }
        }
        for &address in &names.addresses {
            if !made.has_address(address) {
                let whole = IpNet::from(address);
                made.networks.push(match whole.addr() {
                    IpAddr::V4(_) => whole,
                    IpAddr::V6(own) => {
                        Ipv6Net::new(own, 64).map_or(whole, |net| net.trunc().into())
                    }
                });
            }
        }
        made
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        self.domains.iter().any(|domain| {
            name.strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The part of `names` that is permitted. One name outside would make the whole certificate invalid.
    pub(super) fn of(&self, names: &Names) -> Names {
        Names {
            dns: names.dns.iter().filter(|name| self.has_name(name)).cloned().collect(),
            addresses: names.addresses.iter().copied().filter(|&a| self.has_address(a)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dns: &[&str], addresses: &[&str]) -> Names {
        Names {
            dns: dns.iter().map(|&name| name.to_owned()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn private_names_and_addresses_need_no_entry_of_their_own() {
        let own = names(
            &["pi.local", "localhost", "pi.lan"],
            &[
                "192.168.1.7",
                "10.1.2.3",
                "172.31.0.1",
                "127.0.0.1",
                "::1",
                "fd12::5",
                "100.127.1.1",
            ],
        );
        let permits = Permits::for_device(&own);
        assert_eq!(permits.domains, PRIVATE_DOMAINS);
        assert_eq!(permits.networks, PRIVATE_NETWORKS);
        assert_eq!(permits.of(&own), own);
    }

    #[test]
    fn public_ones_are_permitted_exactly() {
        let own = names(&["pi", "pi.fritz.box"], &["203.0.113.9", "2001:db8::1:2:3:4"]);
        let permits = Permits::for_device(&own);
        let asked = names(
            &[
                "pi",
                "pi.fritz.box",
                "x.pi",
                "fritz.box",
                "api",
                "com",
                "x.com",
                "notlocal",
                "a.local",
            ],
            &[
                "203.0.113.9",
                "203.0.113.8",
                "2001:db8::9",
                "2001:db8:0:1::1",
                "8.8.8.8",
                "172.32.0.1",
            ],
        );
        let granted = permits.of(&asked);
        assert_eq!(
            granted,
            names(&["pi", "pi.fritz.box", "x.pi", "a.local"], &["203.0.113.9", "2001:db8::9"])
        );
    }
}
