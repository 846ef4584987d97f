//! Exact `Host` and `Origin` checks.
//!
//! They protect the owner's money from two attacks. The Origin check keeps other web pages from opening
//! calls (cross-site WebSocket hijacking). The Host check refuses foreign names that an attacker has
//! pointed at this device (DNS rebinding).

use std::net::{IpAddr, SocketAddr};

use super::proxies::Proxies;

/// A host name or address with a port (RFC 3986, section 3.2), normalised: lower case, no trailing dot,
/// addresses in their canonical form. So equal authorities compare as equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The name, or the address without brackets.
    pub host: String,
    /// The TCP port; the scheme's default if none was written.
    pub port: u16,
}

impl Authority {
    /// Parses `host`, `host:port`, `[v6]` or `[v6]:port`. `None` for anything else, for names longer
    /// than 253 bytes, and for an empty label.
    #[must_use]
    pub fn parse(text: &str, default_port: u16) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, tail) = rest.split_once(']')?;
                let address: std::net::Ipv6Addr = address.parse().ok()?;
                (address.to_string(), tail)
            }
            None => {
                let at = text.find(':').unwrap_or(text.len());
                (normal_name(&text[..at])?, &text[at..])
            }
        };
        let port = match port.strip_prefix(':') {
            // An empty port is the default one (RFC 9110, section 4.2.3).
            Some("") => default_port,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok()?
            }
            None if port.is_empty() => default_port,
            _ => return None,
        };
        Some(Self { host, port })
    }
}

/// A host name in lower case without its trailing dot; `None` if it is no valid name.
fn normal_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = name.len() <= 253
        && name.split('.').all(|label| !label.is_empty())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    fits.then(|| name.to_ascii_lowercase())
}

/// A web origin: scheme, host and port (RFC 6454).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Whether the scheme is https (else http).
    pub secure: bool,
    /// Host and port.
    pub authority: Authority,
}

impl Origin {
    /// Parses `http://host[:port]` or `https://host[:port]` with nothing behind it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        Some(Self { secure, authority: Authority::parse(rest, default_port(secure))? })
    }
}

/// The most addresses that a gate learns from connections. A device has few, and the oldest one makes way.
const MAX_MET: usize = 16;

/// The Host and Origin rules of one listener, and whom it believes in front of it and around it.
#[derive(Debug, Clone)]
pub struct Gate {
    secure: bool,
    address: SocketAddr,
    names: Vec<String>,
    extra: Vec<Origin>,
    /// Where clients reach this listener under another port than its own, such as the published one of a
    /// container. Each name here is also in `names`.
    published: Vec<Authority>,
    /// Addresses at which connections were accepted and that `names` lacks.
    met: Vec<IpAddr>,
    proxies: Proxies,
    /// What `frame-ancestors` says in the content security policy (CSP level 3).
    frame_ancestors: String,
}

impl Gate {
    /// The gate of a listener at `address`: its own names are `localhost` and the address itself,
    /// until [`set_device_names`](Self::set_device_names); `extra` are the origins of
    /// `VOICELIVED_ALLOWED_ORIGINS`.
    #[must_use]
    pub fn new(secure: bool, address: SocketAddr, extra: Vec<Origin>) -> Self {
        let mut gate = Self {
            secure,
            address,
            names: Vec::new(),
            extra,
            published: Vec::new(),
            met: Vec::new(),
            proxies: Proxies::default(),
            frame_ancestors: "'none'".to_owned(),
        };
        gate.set_device_names(&[], &[]);
        gate
    }

    /// The names and addresses by which others on the network reach this device.
    pub fn set_device_names(&mut self, names: &[String], addresses: &[IpAddr]) {
        self.names = vec!["localhost".to_owned(), self.address.ip().to_canonical().to_string()];
        self.names.extend(names.iter().filter_map(|name| normal_name(name)));
        self.names.extend(addresses.iter().map(|address| address.to_canonical().to_string()));
        self.met.clear();
    }

    /// Learns that a connection was accepted at this address. So it is one of the device's own, since when ever:
    /// the kernel accepts no other. True if the gate did not know that, which means that the device's addresses
    /// have changed since they were read.
    pub fn meet(&mut self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if address.is_loopback()
            || self.met.contains(&address)
            || self.names.contains(&address.to_string())
        {
            return false;
        }
        if self.met.len() >= MAX_MET {
            self.met.remove(0);
        }
        self.met.push(address);
        true
    }

    /// The names under which clients reach this listener at another port than its own. The gate must know the
    /// names already, or from now on with [`set_device_names`](Self::set_device_names).
    pub fn set_published(&mut self, published: Vec<Authority>) {
        self.published = published;
    }

    /// The reverse proxies whose word on a client's address is believed. Nobody's is until then.
    pub fn set_proxies(&mut self, proxies: Proxies) {
        self.proxies = proxies;
    }

    /// The reverse proxies whose word is believed.
    #[must_use]
    pub fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// The origins whose pages may show this page in a frame. No page may until then.
    pub fn set_frame_ancestors(&mut self, origins: &[String]) {
        self.frame_ancestors =
            if origins.is_empty() { "'none'".to_owned() } else { origins.join(" ") };
    }

    /// The value of `frame-ancestors` in the page's content security policy.
    #[must_use]
    pub fn frame_ancestors(&self) -> &str {
        &self.frame_ancestors
    }

    /// Whether the page may be shown in a frame of another origin.
    #[must_use]
    pub fn admits_frames(&self) -> bool {
        self.frame_ancestors != "'none'"
    }

    /// Whether `Host` is a name of this device, or of an origin that the owner has listed.
    #[must_use]
    pub fn admits_host(&self, host: &str) -> bool {
        let own = Authority::parse(host, self.default_port());
        own.is_some_and(|authority| self.is_own(&authority))
            || self.extra.iter().any(|origin| {
                // Behind a proxy the scheme of the browser decides which port may be left out, and not
                // the scheme of this listener.
                Authority::parse(host, default_port(origin.secure)).as_ref()
                    == Some(&origin.authority)
            })
    }

    /// Whether the scheme of an absolute request target, if there is one, is the listener's.
    #[must_use]
    pub fn admits_scheme(&self, secure: Option<bool>) -> bool {
        secure.is_none_or(|secure| secure == self.secure)
    }

    /// Whether a page with these `Origin` fields may open a call at `host`. A request without the field
    /// may: it does not come from a browser's page. A page of this device or of a listed origin may.
    /// `null`, several fields, and all other origins may not.
    #[must_use]
    pub fn admits_origin(&self, origins: &[String], host: &str) -> bool {
        let [origin] = origins else {
            return origins.is_empty();
        };
        let Some(origin) = Origin::parse(origin) else {
            return false;
        };
        // A page of a listed host counts only with the listed scheme. Otherwise an attacker on the
        // network could forge a page of http://host and call through the TLS proxy of https://host.
        let same = Authority::parse(host, self.default_port())
            .is_some_and(|own| self.is_own(&own) && own == origin.authority);
        (same && origin.secure == self.secure) || self.extra.contains(&origin)
    }

    /// The origin to redirect a visitor to that came over the network without TLS: the same host at
    /// the HTTPS port, or at the port under which that is published. `None` in two cases: over loopback,
    /// which browsers trust and no one else can read; and by the name of a listed origin, where a proxy
    /// has its own rules.
    #[must_use]
    pub fn elsewhere(&self, host: &str, https_port: u16) -> Option<String> {
        let authority = Authority::parse(host, self.default_port())?;
        let own = self.is_own(&authority);
        // The port that the visitor came by is the plain one.
        let other = |published: &&Authority| {
            published.host == authority.host && published.port != authority.port
        };
        let https_port = self.published.iter().find(other).map_or(https_port, |found| found.port);
        let Authority { host, .. } = authority;
        let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if local || !own {
            return None;
        }
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Some(format!("https://{host}:{https_port}"))
    }

    /// Whether this listener speaks HTTPS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether `host` is a name and no address, and not `localhost`. A rule that a browser keeps for
    /// `localhost` would hit all other programs of that machine too.
    #[must_use]
    pub fn is_network_name(&self, host: &str) -> bool {
        Authority::parse(host, self.default_port()).is_some_and(|Authority { host, .. }| {
            host != "localhost" && host.parse::<IpAddr>().is_err()
        })
    }

    /// Whether this is one of the device's own names or addresses, with the listener's port. Every
    /// loopback address is: only this machine can reach it, and DNS rebinding needs a name.
    fn is_own(&self, authority: &Authority) -> bool {
        let address = authority.host.parse::<IpAddr>();
        let known = |address: &IpAddr| address.is_loopback() || self.met.contains(address);
        let here = authority.port == self.address.port()
            && (address.is_ok_and(|address| known(&address))
                || self.names.contains(&authority.host));
        here || self.published.contains(authority)
    }

    fn default_port(&self) -> u16 {
        default_port(self.secure)
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        let extra = vec![Origin::parse("https://voice.example.org").expect("an origin")];
        let mut gate = Gate::new(false, "127.0.0.1:8000".parse().expect("an address"), extra);
        gate.set_device_names(&["Pi".to_owned()], &[]);
        gate
    }

    #[test]
    fn only_the_owners_origins_may_show_the_page_in_a_frame() {
        let mut gate = gate();
        for (origins, told) in [
            (
                &["https://a.example", "https://b.example"][..],
                "https://a.example https://b.example",
            ),
            (&[], "'none'"),
        ] {
            let origins: Vec<_> = origins.iter().map(ToString::to_string).collect();
            gate.set_frame_ancestors(&origins);
            assert_eq!(gate.frame_ancestors(), told);
        }
    }

    #[test]
    fn own_names_are_admitted_in_any_spelling() {
        for host in [
            "localhost:8000",
            "LOCALHOST:8000",
            "localhost.:8000",
            "127.0.0.1:8000",
            "127.0.0.2:8000",
            "[::1]:8000",
            "[0:0::1]:8000",
            "pi:8000",
            "voice.example.org:443",
            "voice.example.org",
        ] {
            assert!(gate().admits_host(host), "{host}");
        }
    }

    #[test]
    fn foreign_names_are_not() {
        for host in [
            "",
            "localhost",
            "localhost:80",
            "localhost:8001",
            "localhost:",
            "localhost:08x",
            "evil.example:8000",
            "localhost.evil.example:8000",
            "192.168.1.5:8000",
            "[::2]:8000",
            "::1:8000",
            "[::1:8000",
            "a b:8000",
            "user@localhost:8000",
            "localhost..:8000",
            "voice.example.org:8000",
            "localhost:8000,evil",
            "\u{fffd}:8000",
            "localhost:70000",
        ] {
            assert!(!gate().admits_host(host), "{host}");
        }
    }

    #[test]
    fn an_address_that_a_connection_came_to_is_its_own() {
        let mut gate = Gate::new(true, "[::]:8443".parse().expect("an address"), Vec::new());
        gate.set_device_names(&[], &["192.168.1.7".parse().expect("an address")]);
        let meet = |gate: &mut Gate, text: &str| gate.meet(text.parse().expect("an address"));
        for known in ["192.168.1.7", "::ffff:192.168.1.7", "127.0.0.1", "::1"] {
            assert!(!meet(&mut gate, known), "{known}");
        }
        assert!(!gate.admits_host("10.0.0.9:8443") && !gate.admits_host("[fd00::9]:8443"));
        assert!(meet(&mut gate, "::ffff:10.0.0.9") && meet(&mut gate, "fd00::9"));
        assert!(!meet(&mut gate, "10.0.0.9"), "it is known now");
        assert!(gate.admits_host("10.0.0.9:8443") && gate.admits_host("[fd00::9]:8443"));
        let own = "https://10.0.0.9:8443".to_owned();
        assert!(gate.admits_origin(&[own], "10.0.0.9:8443"));
        assert!(!gate.admits_host("10.0.0.9:8000") && !gate.admits_host("10.0.0.8:8443"));
        for number in 0..100 {
            meet(&mut gate, &format!("10.1.0.{number}"));
        }
        assert!(gate.met.len() <= MAX_MET && !gate.admits_host("10.0.0.9:8443"));
    }

    #[test]
    fn a_published_port_counts_for_its_name_alone() {
        let mut gate = Gate::new(true, "0.0.0.0:8443".parse().expect("an address"), Vec::new());
        gate.set_device_names(&["pi.local".to_owned(), "pi-2.local".to_owned()], &[]);
        gate.set_published(vec![Authority { host: "pi.local".to_owned(), port: 443 }]);
        for host in ["pi.local", "pi.local:443", "pi.local:8443", "pi-2.local:8443"] {
            assert!(gate.admits_host(host), "{host}");
        }
        for host in ["pi-2.local", "localhost", "pi.local:444"] {
            assert!(!gate.admits_host(host), "{host}");
        }
        assert!(gate.admits_origin(&["https://pi.local".to_owned()], "pi.local"));
        assert!(!gate.admits_origin(&["http://pi.local".to_owned()], "pi.local"));
        assert!(!gate.admits_origin(&["https://pi.local:8443".to_owned()], "pi.local"));
        let mut plain = Gate { secure: false, ..gate };
        assert_eq!(plain.elsewhere("pi.local:8443", 1).as_deref(), Some("https://pi.local:443"));
        assert_eq!(plain.elsewhere("pi-2.local:8443", 1).as_deref(), Some("https://pi-2.local:1"));
        let both = [80, 443].map(|port| Authority { host: "pi.local".to_owned(), port });
        plain.set_published(both.into());
        assert_eq!(plain.elsewhere("pi.local", 1).as_deref(), Some("https://pi.local:443"));
    }

    #[test]
    fn a_name_with_an_empty_label_is_none() {
        for host in ["", ".", "a..", ".a", "a..b"] {
            assert_eq!(Authority::parse(host, 80), None, "{host}");
        }
        let whole = Authority { host: "a.b".to_owned(), port: 80 };
        assert_eq!(Authority::parse("A.b.", 80), Some(whole));
    }

    #[test]
    fn only_the_own_origin_and_the_listed_ones_open_calls() {
        let admits = |origin: &str| gate().admits_origin(&[origin.to_owned()], "localhost:8000");
        for origin in [
            "http://localhost:8000",
            "HTTP://LOCALHOST:8000",
            "https://voice.example.org",
            "https://voice.example.org:443",
        ] {
            assert!(admits(origin), "{origin}");
        }
        for origin in [
            "null",
            "",
            "https://localhost:8000",
            "http://localhost",
            "http://127.0.0.1:8000",
            "http://localhost:8000/",
            "http://localhost:8000@evil",
            "http://evil.example:8000",
            "http://voice.example.org",
            "file://",
            "ws://localhost:8000",
            "http://localhost:8000 http://evil",
        ] {
            assert!(!admits(origin), "{origin}");
        }
    }

    #[test]
    fn only_network_names_of_ours_are_sent_to_https() {
        let to = gate().elsewhere("PI:8000", 8443);
        assert_eq!(to.as_deref(), Some("https://pi:8443"));
        for host in ["localhost:8000", "[::1]:8000", "voice.example.org", "evil.example:8000"] {
            assert_eq!(gate().elsewhere(host, 8443), None, "{host}");
        }
    }

    #[test]
    fn a_listener_has_one_scheme_and_its_port_may_be_left_out() {
        for secure in [true, false] {
            let port = if secure { 443 } else { 80 };
            let gate = Gate::new(secure, SocketAddr::from(([192, 168, 1, 2], port)), Vec::new());
            assert_eq!(gate.is_secure(), secure);
            assert!(gate.admits_scheme(None) && gate.admits_scheme(Some(secure)));
            assert!(!gate.admits_scheme(Some(!secure)));
            assert!(gate.admits_host("192.168.1.2") && !gate.admits_host("192.168.1.2:8000"));
        }
    }

    #[test]
    fn a_network_name_is_no_address_and_not_every_machines_own() {
        for (host, is_one) in [
            ("pi:8000", true),
            ("pi.local:8000", true),
            ("localhost:8000", false),
            ("192.168.1.2:8000", false),
            ("[fe80::1]:8000", false),
            ("no name", false),
        ] {
            assert_eq!(gate().is_network_name(host), is_one, "{host}");
        }
    }

    #[test]
    fn no_origin_is_no_browser_and_two_are_an_attack() {
        assert!(gate().admits_origin(&[], "localhost:8000"));
        let own = "http://localhost:8000".to_owned();
        assert!(!gate().admits_origin(&[own.clone(), own], "localhost:8000"));
    }

    #[test]
    fn a_port_is_digits_or_left_out() {
        let port = |text: &str| Authority::parse(text, 7).map(|authority| authority.port);
        for (text, found) in [
            ("a", Some(7)),
            ("a:", Some(7)),
            ("a:80", Some(80)),
            ("a:080", Some(80)),
            ("a:65535", Some(65535)),
            ("[::1]", Some(7)),
            ("[::1]:80", Some(80)),
            ("a:+80", None),
            ("a:-80", None),
            ("a:8 0", None),
            ("a:65536", None),
            ("[::1]80", None),
            ("[::1]x", None),
        ] {
            assert_eq!(port(text), found, "{text}");
        }
    }
}
