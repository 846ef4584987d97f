//! Settings about the network around the daemon: the names by which it is reached, the proxies in front of it,
//! and the pages that may show it in a frame.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::draft::{Draft, origins, shown};
use super::endpoint::parse_authority;

/// The most names, and the most networks, that a setting may list.
const MAX_ENTRIES: usize = 64;

/// A name or address by which clients reach the daemon (`VOICELIVED_NAMES`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnName {
    /// A name in lower case without a trailing dot, or an address in its canonical form without brackets.
    pub host: String,
    /// The port under which clients reach the page there. `None`: the listener's own.
    pub port: Option<u16>,
}

/// The entries of a list: with commas or white space between them.
fn entries(text: &str) -> Result<Vec<&str>, String> {
    let items = text.split(|c: char| c == ',' || c.is_whitespace());
    let items: Vec<_> = items.filter(|item| !item.is_empty()).collect();
    if items.len() > MAX_ENTRIES {
        return Err(format!("lists more than {MAX_ENTRIES} entries"));
    }
    Ok(items)
}

pub(super) fn names(text: &str) -> Result<Vec<OwnName>, String> {
    let mut names = Vec::new();
    for item in entries(text)? {
        let name = own_name(item)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn own_name(text: &str) -> Result<OwnName, String> {
    let fault = || {
        format!(
            "must list names or addresses such as pi-2.local, 192.168.1.7 or pi.local:443 (no \
             https://, no path, no *), but has {}",
            shown(text)
        )
    };
    // An IPv6 address may stand without brackets if it has no port.
    let (host, port) = match text.parse::<IpAddr>() {
        Ok(address) => (address.to_string(), None),
        Err(_) => parse_authority(text).map_err(|_| fault())?,
    };
    let host = match host.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() || address.is_multicast() => {
            return Err(format!("has {}, which is no address of one device", shown(text)));
        }
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => host,
    };
    Ok(OwnName { host, port })
}

/// Networks in CIDR notation, and single addresses.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let mut networks = Vec::new();
    for item in entries(text)? {
        let network = network(item)?;
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    Ok(networks)
}

fn network(text: &str) -> Result<IpNet, String> {
    let single = || text.parse::<IpAddr>().map(IpNet::from);
    let found = text.parse::<IpNet>().or_else(|_| single()).map_err(|_| {
        format!(
            "must list addresses or networks such as 127.0.0.1, 10.0.0.0/8 or fd00::/8, but has {}",
            shown(text)
        )
    })?;
    let found = canonical(found.trunc());
    // The address of nobody is what people write for everybody.
    if found.prefix_len() == 0 || found.addr().is_unspecified() {
        return Err(format!(
            "has {}, which is everybody: any client could then claim any address",
            shown(text)
        ));
    }
    Ok(found)
}

/// IPv4 written as IPv6 (`::ffff:10.0.0.0/104`) means IPv4, as which clients' addresses are judged.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(six) = network else { return network };
    let four = six.addr().to_ipv4_mapped().zip(six.prefix_len().checked_sub(96));
    four.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(network, IpNet::V4)
}

/// Origins whose pages may show the daemon's page in a frame. A content security policy is made of them, so
/// nothing else may get in.
pub(super) fn frame_ancestors(draft: &mut Draft, text: &str) -> Result<(), String> {
    let ancestors = origins(text)?;
    for origin in &ancestors {
        let Some((scheme @ ("https" | "http"), host)) = origin.split_once("://") else {
            return Err(format!("must list origins of https:// pages, but has {}", shown(origin)));
        };
        let near = |name: &str| {
            host == name || host.strip_prefix(name).is_some_and(|p| p.starts_with(':'))
        };
        if scheme == "http" && !["localhost", "127.0.0.1", "[::1]"].into_iter().any(near) {
            draft.warnings.push(format!(
                "VOICELIVED_FRAME_ANCESTORS: {origin} is not https, so browsers give a frame in its \
                 pages no microphone"
            ));
        }
    }
    draft.web.frame_ancestors = ancestors;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(host: &str, port: Option<u16>) -> OwnName {
        OwnName { host: host.to_owned(), port }
    }

    #[test]
    fn names_are_taken_in_any_spelling() {
        let text = "Pi-2.Local., 192.168.1.7 pi.local:443\n[FD00:0::7]:8443,fd00::8,[::ffff:10.0.0.1] pi-2.local";
        assert_eq!(
            names(text).unwrap(),
            [
                own("pi-2.local", None),
                own("192.168.1.7", None),
                own("pi.local", Some(443)),
                own("fd00::7", Some(8443)),
                own("fd00::8", None),
                own("10.0.0.1", None),
            ]
        );
        for bad in [
            "https://pi.local",
            "pi.local/",
            "*.local",
            "*",
            "pi local:",
            "pi.local:0",
            "pi.local:70000",
            "user@pi",
            "0.0.0.0",
            "::",
            "224.0.0.251",
            "10.0.0.256",
            "p\u{fc}.local",
            "a..b",
            "[fd00::7",
            "fe80::1%eth0",
        ] {
            assert!(names(bad).is_err(), "{bad}");
        }
        assert!(names("").unwrap().is_empty());
        assert!(names(&"a ".repeat(65)).is_err());
    }

    #[test]
    fn networks_are_taken_with_and_without_a_length() {
        let text = "127.0.0.1,10.1.2.3/8 fd00::7/8\n::ffff:192.168.0.0/112 ::1";
        let expected = ["127.0.0.1/32", "10.0.0.0/8", "fd00::/8", "192.168.0.0/16", "::1/128"];
        assert_eq!(networks(text).unwrap(), expected.map(|net| net.parse::<IpNet>().unwrap()));
        for bad in [
            "0.0.0.0/0",
            "::/0",
            "0.0.0.0",
            "::",
            "::ffff:0:0/96",
            "::ffff:10.0.0.1/96",
            "10.0.0.0/33",
            "10.0.0",
            "proxy",
            "10.0.0.1:80",
            "*",
            "/8",
        ] {
            assert!(networks(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_origins_of_pages_get_into_the_policy() {
        let mut draft = Draft::default();
        frame_ancestors(&mut draft, "https://Home.example:443, http://localhost:8123").unwrap();
        assert_eq!(draft.web.frame_ancestors, ["https://home.example", "http://localhost:8123"]);
        assert!(draft.warnings.is_empty());
        frame_ancestors(&mut draft, "http://home.local:8123").unwrap();
        assert!(draft.warnings[0].contains("no microphone"), "{:?}", draft.warnings);
        for bad in [
            "*",
            "'self'",
            "https://*.example",
            "https://h/path",
            "https://h;script-src",
            "app://h",
            "https://h; default-src *",
            "data:",
            "https:",
        ] {
            assert!(frame_ancestors(&mut Draft::default(), bad).is_err(), "{bad}");
        }
    }
}
