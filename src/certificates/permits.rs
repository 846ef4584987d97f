//! What a root may vouch for: its name constraints (RFC 5280, 4.2.1.10).
//!
//! People trust the root on their phones and computers, so its key, which lies on a small device,
//! must be worth little to a thief. Constraints cannot change later without a new root that everyone
//! has to trust again, hence whole ranges of what is private by definition: with these, a renamed
//! or moved device keeps its root. No web site on the internet is in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::names::Names;

/// Name spaces that never lead to the internet: mDNS (RFC 6762), loopback (RFC 6761), home networks
/// (RFC 8375), private use (`internal`, reserved by ICANN), and the `lan` of many routers.
const PRIVATE_DOMAINS: [&str; 5] = ["local", "localhost", "home.arpa", "internal", "lan"];

/// Private (RFC 1918, RFC 4193), shared (RFC 6598), link-local and loopback networks.
const PRIVATE_NETWORKS: [Subnet; 9] = [
    Subnet::v4([10, 0, 0, 0], 8),
    Subnet::v4([172, 16, 0, 0], 12),
    Subnet::v4([192, 168, 0, 0], 16),
    Subnet::v4([100, 64, 0, 0], 10),
    Subnet::v4([169, 254, 0, 0], 16),
    Subnet::v4([127, 0, 0, 0], 8),
    Subnet { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 },
    Subnet { address: IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), prefix: 7 },
    Subnet { address: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), prefix: 10 },
];

/// An address and the number of its leading bits that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subnet {
    pub(super) address: IpAddr,
    pub(super) prefix: u8,
}

impl Subnet {
    const fn v4(octets: [u8; 4], prefix: u8) -> Self {
        let [a, b, c, d] = octets;
        Self { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix }
    }

    fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let ignored = 32_u32.saturating_sub(self.prefix.into());
                let difference = own.to_bits() ^ other.to_bits();
                difference.checked_shr(ignored).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let ignored = 128_u32.saturating_sub(self.prefix.into());
                let difference = own.to_bits() ^ other.to_bits();
                difference.checked_shr(ignored).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Permitted subtrees. An empty list permits nothing of its kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Permits {
    /// A name permits itself and everything below it.
    pub(super) domains: Vec<String>,
    pub(super) networks: Vec<Subnet>,
}

impl Permits {
    /// For a new root of a device with these names: everything private, and of what is public only
    /// the device's own: its names, its IPv4 addresses, and the /64 networks of its IPv6 addresses,
    /// whose last half changes.
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
                made.networks.push(match address {
                    IpAddr::V4(_) => Subnet { address, prefix: 32 },
                    IpAddr::V6(own) => {
                        let network = own.to_bits() >> 64 << 64;
                        Subnet { address: Ipv6Addr::from_bits(network).into(), prefix: 64 }
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
        self.networks.iter().any(|network| network.contains(address))
    }

    /// The part of `names` that is permitted: one name outside would spoil the whole certificate.
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

    #[test]
    fn any_prefix_length_can_be_compared() {
        for prefix in 0..=u8::MAX {
            let v4 = Subnet { address: Ipv4Addr::new(192, 0, 2, 1).into(), prefix };
            assert_eq!(v4.contains("192.0.2.0".parse().unwrap()), prefix < 32);
            assert!(!v4.contains("::".parse().unwrap()));
            let v6 = Subnet { address: "2001:db8::1".parse().unwrap(), prefix };
            assert_eq!(v6.contains("2001:db8::".parse().unwrap()), prefix < 128);
        }
    }
}
