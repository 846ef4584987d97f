//! Whose request it is when a reverse proxy stands in front of the daemon.
//!
//! To the kernel every client of a proxy has the proxy's address. The proxy says in `Forwarded` (RFC 7239) or
//! `X-Forwarded-For` whom it speaks for. Anybody can write these fields. So what they say is believed only as far
//! as trusted proxies have written it: each proxy adds the address of its own peer at the end, and the reading
//! goes from the end towards the beginning.
//!
//! ```text
//! X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.0.0.2     from 10.0.0.1; 10.0.0.0/8 is trusted
//!                  │        │            └ trusted: written by 10.0.0.1, so there is one more proxy
//!                  │        └ not trusted: the client
//!                  └ written by the client itself: never read
//! ```
//!
//! What cannot be read ends the reading, if the reading gets there. The client then counts as the last proxy that is known, which it shares
//! with all others of that kind: a liar gains no fresh address, and takes none from anybody. The same holds when
//! both fields are there and do not agree, because a proxy that writes the one may pass the other on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The reverse proxies whose word is believed (`VOICELIVED_TRUSTED_PROXIES`).
#[derive(Debug, Clone, Default)]
pub struct Proxies(Vec<IpNet>);

/// The proxy fields of a request, each line in the order of the request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forwarding<'a> {
    /// `Forwarded`.
    pub forwarded: &'a [String],
    /// `X-Forwarded-For`.
    pub forwarded_for: &'a [String],
}

impl Proxies {
    /// Believes proxies in these networks. Without any, nobody's word counts.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether a peer at this address is a trusted proxy.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The address that counts for a request from `peer`: its own, unless it is a trusted proxy that names
    /// another. It is canonical: IPv4 is never mapped into IPv6.
    #[must_use]
    pub fn client(&self, peer: IpAddr, said: Forwarding<'_>) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return peer;
        }
        // Each proxy adds a line, or adds to the last one.
        let lines = |lines: &'_ [String], read: fn(&str) -> Vec<Option<IpAddr>>| {
            self.last_untrusted(peer, lines.iter().rev().flat_map(|line| read(line)))
        };
        let by_forwarded = lines(said.forwarded, elements);
        let by_forwarded_for = lines(said.forwarded_for, addresses);
        match (said.forwarded.is_empty(), said.forwarded_for.is_empty()) {
            (false, true) => by_forwarded,
            (true, _) => by_forwarded_for,
            (false, false) if by_forwarded == by_forwarded_for => by_forwarded,
            (false, false) => peer,
        }
    }

    /// Follows the hops, the nearest first, as long as they are trusted proxies. `None` is a hop that cannot be
    /// read.
    fn last_untrusted(&self, peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut last = peer;
        for hop in hops {
            match hop {
                Some(address) if self.trusts(address) => last = address,
                Some(address) => return address,
                None => return last,
            }
        }
        last
    }
}

/// The hops of a line of `X-Forwarded-For`, the last one first.
fn addresses(line: &str) -> Vec<Option<IpAddr>> {
    backwards(line, false).map(|entry| node(unquoted(entry))).collect()
}

/// The hops of a line of `Forwarded` (RFC 7239, section 4), the last one first. An element that breaks the grammar
/// is a hop that cannot be read.
fn elements(line: &str) -> Vec<Option<IpAddr>> {
    backwards(line, true).map(|element| hop(element).flatten()).collect()
}

/// The elements of a list that are not empty (RFC 9110, section 5.6.1.2), the last one first. With `quotes` a comma
/// between quotes ends none. They are found from the end too: what a proxy has added is well-formed, and nothing
/// before it, such as a quote that its client has left open, can take it in.
fn backwards(line: &str, quotes: bool) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let bytes = line.as_bytes();
    // An even number of backslashes before a quote are pairs.
    let escaped =
        |at: usize| bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
    let ends: Vec<_> = (0..bytes.len())
        .rev()
        .filter(|&at| {
            let quote = quotes && bytes[at] == b'"' && !(quoted && escaped(at));
            quoted ^= quote;
            bytes[at] == b',' && !quoted
        })
        .collect();
    let mut rest = line;
    let mut starts = ends.into_iter().map(|at| at + 1).chain([0]);
    let parts = std::iter::from_fn(move || {
        let (before, part) = rest.split_at(starts.next()?);
        rest = before.strip_suffix(',').unwrap_or(before);
        Some(part.trim())
    });
    parts.filter(|part| !part.is_empty())
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text)
}

/// The `for` of an element; `None` if the element breaks the grammar.
fn hop(element: &str) -> Option<Option<IpAddr>> {
    let mut hop = None;
    let mut rest = element;
    while !rest.is_empty() {
        if let Some(more) = rest.strip_prefix(';') {
            rest = more.trim_start();
            continue;
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after)?;
        if !name.trim().bytes().all(is_token) || name.trim().is_empty() {
            return None;
        }
        // Each parameter may come once only. Two are a contradiction.
        if name.trim().eq_ignore_ascii_case("for") && hop.replace(node(&value)).is_some() {
            return None;
        }
        rest = after.trim_start();
        if !rest.is_empty() && !rest.starts_with(';') {
            return None;
        }
    }
    Some(hop.flatten())
}

/// A token or a quoted string (RFC 9110, section 5.6), and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Addresses with a port, which belong in quotes, often come without.
        let end =
            text.find(|c: char| c.is_whitespace() || ";,\"".contains(c)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            _ => value.push(letter),
        }
    }
    None
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The address of a node: `192.0.2.7`, `192.0.2.7:47011`, `[2001:db8::7]`, `[2001:db8::7]:4711` or `2001:db8::7`.
/// Proxies in Go write a neighbour with its interface (`fe80::7%eth0`, RFC 4007, section 11): that is left out, as
/// the kernel leaves it out of a peer's address. `None` for `unknown`, for names that hide an address (`_hidden`), and
/// for nonsense.
fn node(text: &str) -> Option<IpAddr> {
    let address = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        is_port(port).then_some(IpAddr::from(six(address)?))
    } else if let Some(address) = six(text) {
        Some(address.into())
    } else {
        let at = text.find(':').unwrap_or(text.len());
        let address: Ipv4Addr = text[..at].parse().ok()?;
        is_port(&text[at..]).then_some(address.into())
    };
    address.map(|address| address.to_canonical())
}

/// An IPv6 address, if need be with its interface.
fn six(text: &str) -> Option<Ipv6Addr> {
    let (address, interface) = text.split_once('%').unwrap_or((text, "x"));
    let named = !interface.is_empty() && interface.bytes().all(|byte| byte.is_ascii_graphic());
    address.parse().ok().filter(|_| named)
}

/// Nothing, or a port: a number, or a name that hides one (`_x`).
fn is_port(text: &str) -> bool {
    let Some(port) = text.strip_prefix(':') else { return text.is_empty() };
    match port.strip_prefix('_') {
        Some(hidden) => {
            hidden.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        }
        None => (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn judge(peer: &str, forwarded: &[&str], forwarded_for: &[&str]) -> String {
        let networks = ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"].map(|net| net.parse().unwrap());
        let own = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        let (forwarded, forwarded_for) = (own(forwarded), own(forwarded_for));
        let said = Forwarding { forwarded: &forwarded, forwarded_for: &forwarded_for };
        Proxies::new(networks.into()).client(peer.parse().unwrap(), said).to_string()
    }

    #[test]
    fn only_a_trusted_peer_is_believed() {
        assert_eq!(judge("203.0.113.1", &["for=1.1.1.1"], &[]), "203.0.113.1");
        assert_eq!(judge("203.0.113.1", &[], &["1.1.1.1"]), "203.0.113.1");
        assert_eq!(judge("::ffff:203.0.113.1", &[], &["1.1.1.1"]), "203.0.113.1");
        assert_eq!(judge("::ffff:10.0.0.9", &[], &["1.1.1.1"]), "1.1.1.1");
        let nobody = Proxies::default();
        let lines = ["1.1.1.1".to_owned()];
        let said = Forwarding { forwarded_for: &lines, ..Forwarding::default() };
        assert_eq!(nobody.client("127.0.0.1".parse().unwrap(), said).to_string(), "127.0.0.1");
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        for (lines, client) in [
            (&["203.0.113.9"][..], "203.0.113.9"),
            (&["6.6.6.6, 203.0.113.9"], "203.0.113.9"),
            (&["6.6.6.6, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            (&["6.6.6.6", "203.0.113.9", "10.0.0.2, 10.0.0.3"], "203.0.113.9"),
            (&["6.6.6.6,203.0.113.9,,"], "203.0.113.9"),
            (&["203.0.113.9:4711"], "203.0.113.9"),
            (&["6.6.6.6, [2001:db8::7]:4711"], "2001:db8::7"),
            (&["2001:db8::7"], "2001:db8::7"),
            (&["\"[2001:db8::7]\""], "2001:db8::7"),
            (&["::ffff:203.0.113.9"], "203.0.113.9"),
            (&["fe80::7%eth0"], "fe80::7"),
            (&["[FE80::7%25eth0]:1"], "fe80::7"),
            // Nobody else is known: a client in the proxies' own network.
            (&["10.0.0.7, 10.0.0.2"], "10.0.0.7"),
        ] {
            assert_eq!(judge(PROXY, &[], lines), client, "{lines:?}");
        }
        for (lines, client) in [
            (&["for=203.0.113.9"][..], "203.0.113.9"),
            (&["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
            (&["for=6.6.6.6, for=203.0.113.9;proto=https;by=10.0.0.1"], "203.0.113.9"),
            (&["by=10.0.0.1 ; FOR = 203.0.113.9"], PROXY),
            (&["proto=http;for=\"203.0.113.9:_port\";host=\"a, b;for=6.6.6.6\""], "203.0.113.9"),
            (&["for=6.6.6.6", "for=203.0.113.9", "for=10.0.0.2"], "203.0.113.9"),
            (&["for=203.0.113.9;"], "203.0.113.9"),
            (&["for=\"203\\.0.113.9\""], "203.0.113.9"),
            // The client's nonsense and its open quote, and what the proxy has added behind them.
            (&["6.6.6.6, for=203.0.113.9"], "203.0.113.9"),
            (&["for=6.6.6.6, for=\", for=203.0.113.9"], "203.0.113.9"),
            (&["for=6.6.6.6, for=\", for=\"[2001:db8::7]:99\""], "2001:db8::7"),
            (&["for=\"\\, for=\"203.0.113.9\";host=\"\\\\\\\", for=7.7.7.7\\\\\""], "203.0.113.9"),
            (&["for=203.0.113.9;host=\"\\\", for=7.7.7.7\""], "203.0.113.9"),
            (&[";; ,;for=203.0.113.9;;, ,"], "203.0.113.9"),
        ] {
            assert_eq!(judge(PROXY, lines, &[]), client, "{lines:?}");
        }
    }

    /// Who lies shares one address with all who do, and takes nobody else's.
    #[test]
    fn what_cannot_be_read_is_not_guessed() {
        for line in [
            "unknown",
            "_hidden",
            "6.6.6.6, unknown",
            "6.6.6.6, nonsense",
            "6.6.6.6, 203.0.113.9x",
            "203.0.113.9:",
            "203.0.113.9:999999",
            "[2001:db8::7",
            "2001:db8::7]",
            "fe80::1%",
            "fe80::1%eth 0",
            "203.0.113.9%eth0",
            "203.0.113.009",
            "\u{fffd}",
            "",
            " , ,",
        ] {
            assert_eq!(judge(PROXY, &[], &[line]), PROXY, "{line:?}");
        }
        assert_eq!(judge(PROXY, &[], &["6.6.6.6, unknown, 10.0.0.2"]), "10.0.0.2");
        for line in [
            "for=unknown",
            "for=\"_gazonk\"",
            "proto=https",
            "for=6.6.6.6;for=7.7.7.7",
            "for",
            "for=",
            "6.6.6.6",
            "for=\"6.6.6.6",
            "for=\"6.6.6.6, for=7.7.7.7\"x",
            "for=6.6.6.6, \"for=7.7.7.7",
            "for=6.6.6.6 for=7.7.7.7",
            "f r=6.6.6.6",
        ] {
            assert_eq!(judge(PROXY, &[line], &[]), PROXY, "{line:?}");
        }
        // A line of its own is the proxy's, whatever the client's holds.
        assert_eq!(judge(PROXY, &["for=\"", "for=203.0.113.9"], &[]), "203.0.113.9");
    }

    #[test]
    fn two_fields_must_agree() {
        let agree = judge(PROXY, &["for=6.6.6.6, for=203.0.113.9"], &["7.7.7.7, 203.0.113.9"]);
        assert_eq!(agree, "203.0.113.9");
        for (one, other) in [
            ("for=6.6.6.6", "203.0.113.9"),
            ("for=203.0.113.9", "6.6.6.6"),
            ("proto=https", "203.0.113.9"),
            ("for=203.0.113.9", "unknown"),
            ("", "203.0.113.9"),
            // Cut off, or left open by the client, before or behind what a proxy has added.
            ("for=\"203.0.113.9", "203.0.113.9"),
            ("for=203.0.113.9, for=\"", "203.0.113.9"),
            ("for=\"203.0.113.9, for=6.6.6.6", "203.0.113.9"),
            ("for=203.0.113.9;host=\"a", "203.0.113.9"),
            ("for=6.6.6.6, for=\"[2001:db8::7", "2001:db8::7"),
            ("for=203.0.113.9;by=", "203.0.113.9, 6.6.6.6"),
        ] {
            assert_eq!(judge(PROXY, &[one], &[other]), PROXY, "{one:?} {other:?}");
        }
    }

    #[test]
    fn thousands_of_hops_are_read_from_their_end() {
        let long =
            format!("{}203.0.113.9, {}10.0.0.2", "6.6.6.6,".repeat(5000), "10.0.0.3,".repeat(500));
        assert_eq!(judge(PROXY, &[], &[&long]), "203.0.113.9");
    }

    /// An element that breaks the grammar is nobody's word (RFC 7239, section 4).
    #[test]
    fn an_element_names_its_parameters_with_tokens() {
        let client = Some(Some("192.0.2.7".parse().unwrap()));
        for (element, found) in [
            ("for=192.0.2.7", client),
            ("by=a; for=192.0.2.7", client),
            ("!#$%&'*+-.^_`|~=a;for=192.0.2.7", client),
            ("for=unknown", Some(None)),
            ("=a;for=192.0.2.7", None),
            ("b y=a;for=192.0.2.7", None),
            ("b@y=a;for=192.0.2.7", None),
            ("by=;for=192.0.2.7", None),
            ("for=", None),
            ("for=192.0.2.7 by=a", None),
        ] {
            assert_eq!(hop(element), found, "{element}");
        }
    }
}
