//! Tells the person who has started the daemon where to open the page, and how to let a device in.

use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;

use super::qr;
use crate::certificates::{Names, device_names};
use crate::cli::access_token;
use crate::config::{OwnName, Secret};
use crate::server::Listen;

/// The addresses to type into a browser, or to scan with a phone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Invitation {
    /// The most useful first.
    pages: Vec<String>,
    /// A page by its IP address, for phones without mDNS, which cannot find `HOST.local`.
    by_address: Option<String>,
    /// The owner has set by what the device is reached. So what the system knows may not lead here, like the
    /// address of a container.
    is_set: bool,
    /// Whether other devices reach a page to which their browsers give no microphone.
    lacks_microphone: bool,
    /// Whether browsers warn, since their devices may not know the local authority.
    warns: bool,
}

impl Invitation {
    /// The addresses of these listeners. `own` are the names in the owner's certificate, if there
    /// is one. Browsers accept it for no other names. What the owner has `set` comes first: it was set because
    /// the system does not know by what the device is reached.
    pub(super) fn to(doors: &[Listen], own: &[String], set: &[OwnName]) -> Self {
        let mut all = Self::default();
        let secured = doors.iter().any(|door| door.tls.is_some());
        all.warns = secured && own.is_empty();
        all.add_set(doors, set);
        for door in doors {
            let Ok(address) = door.socket.local_addr() else { continue };
            let (port, ip) = (address.port(), address.ip().to_canonical());
            match (door.tls.is_some(), ip.is_loopback()) {
                (true, _) if !own.is_empty() => {
                    let names = Names { dns: own.to_vec(), ..Names::default() };
                    all.pages.extend(names.urls("https", port));
                }
                (true, false) => all.add("https", &device_names(), port),
                (true, true) => all.pages.push(format!("https://localhost:{port}/")),
                (false, true) => all.pages.push(format!("http://localhost:{port}/")),
                // Other devices are led to the secure one by a redirect.
                (false, false) if secured => {}
                (false, false) => {
                    all.pages.push(format!("http://localhost:{port}/"));
                    all.add("http", &reached_at(ip), port);
                    all.lacks_microphone = true;
                }
            }
        }
        all
    }

    /// The pages by what the owner has set: over HTTPS if there is a listener for it.
    fn add_set(&mut self, doors: &[Listen], set: &[OwnName]) {
        let door = doors.iter().max_by_key(|door| door.tls.is_some());
        let Some((door, Ok(at))) = door.map(|door| (door, door.socket.local_addr())) else {
            return;
        };
        let scheme = if door.tls.is_some() { "https" } else { "http" };
        for OwnName { host, port } in set {
            let (mut names, port) = (Names::default(), port.unwrap_or(at.port()));
            match host.parse() {
                Ok(address) => names.addresses.push(address),
                Err(_) => names.dns.push(host.clone()),
            }
            self.is_set = true;
            self.pages.extend(names.urls(scheme, port));
            names.dns.clear();
            self.by_address = self.by_address.take().or_else(|| names.urls(scheme, port).pop());
        }
    }

    fn add(&mut self, scheme: &str, names: &Names, port: u16) {
        let pages: Vec<_> = names
            .urls(scheme, port)
            .into_iter()
            .filter(|page| !self.pages.contains(page))
            .collect();
        self.pages.extend(pages);
        if self.is_set {
            return;
        }
        // The first one is that towards the network, where that is known.
        let addresses = names.addresses.iter().copied().take(1).collect();
        let outward = Names { addresses, ..Names::default() };
        self.by_address = self.by_address.take().or_else(|| outward.urls(scheme, port).pop());
    }

    /// Prints the token, so only a terminal gets it: no pipe, no file and no journal.
    pub(super) fn print(&self, token: Option<&Secret>) {
        let mut out = io::stdout();
        if out.is_terminal() {
            // If it cannot be printed, the token can still be typed.
            let _ = out.write_all(self.text(token).as_bytes());
        }
    }

    fn text(&self, token: Option<&Secret>) -> String {
        let mut text = String::from("\nOpen one of these in a browser:\n\n");
        for page in &self.pages {
            text.push_str(&format!("    {page}\n"));
        }
        if self.lacks_microphone {
            text.push_str(NO_MICROPHONE);
        }
        if self.warns {
            text.push_str(WARNED);
        }
        // `localhost` is the scanning device itself.
        let far = self.pages.iter().find(|page| !page.contains("://localhost"));
        let first = far.or_else(|| self.pages.first());
        let (Some(first), Some(token)) = (first, token) else { return text };
        text.push_str("\nThis link lets a device in without typing:\n\n");
        let mut shown = access_token::pairing_link(first, token);
        text.push_str(&format!("    {shown}\n"));
        if let Some(page) = self.by_address.as_ref().filter(|page| *page != first) {
            shown = access_token::pairing_link(page, token);
            text.push_str(&format!("    {shown}   (where the name is not found)\n"));
        }
        text.push_str(&format!("\n{}\n", qr::terminal(&shown).unwrap_or_default()));
        text
    }
}

/// The warning about a page over plain HTTP on a network.
const NO_MICROPHONE: &str = "
On other devices this page has no microphone, because browsers give it to HTTPS pages only.
Set VOICELIVED_TLS_LISTEN='[::]:8443' to talk from them.
";

/// What to expect of HTTPS with the local authority.
const WARNED: &str = "
At first a browser warns of the certificate, which is this device's own. Go on: the page leads to
/trust, which shows how to make a phone or computer trust it.
";

/// The names that reach a listener at `address`: one address, or all of the device.
fn reached_at(address: IpAddr) -> Names {
    if address.is_unspecified() {
        return device_names();
    }
    Names { addresses: vec![address], ..Names::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_to_scan_needs_no_mdns() {
        let mut all = Invitation::default();
        let addresses = ["192.0.2.7", "127.0.0.1", "198.51.100.1"].map(|a| a.parse().unwrap());
        let names =
            Names { dns: vec!["pi".into(), "pi.local".into()], addresses: addresses.into() };
        all.add("https", &names, 8443);
        let token = Secret::access_token("0123456789abcdefghij").unwrap();
        let text = all.text(Some(&token));
        assert!(text.contains("    https://pi.local:8443/#token="), "{text}");
        let link = access_token::pairing_link("https://192.0.2.7:8443/", &token);
        assert!(text.contains(&link) && text.contains(&qr::terminal(&link).unwrap()), "{text}");
        assert!(!all.text(None).contains("token="));
        assert!(!text.contains("/trust"), "{text}");
        all.warns = true;
        assert!(all.text(None).contains("/trust"), "nobody is surprised by the warning");
    }

    #[test]
    fn without_a_way_out_the_code_leads_to_the_name() {
        let mut all = Invitation::default();
        let addresses = ["127.0.0.1", "198.51.100.1"].map(|address| address.parse().unwrap());
        all.add(
            "https",
            &Names { dns: vec!["pi.local".into()], addresses: addresses.into() },
            8443,
        );
        assert_eq!(all.by_address, None);
    }

    #[test]
    fn what_the_owner_has_set_is_the_link_and_the_code() {
        let own = |host: &str, port| OwnName { host: host.to_owned(), port };
        let socket = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let site = crate::web::Site::Simulator(std::rc::Rc::default());
        let doors = [Listen { socket, site, tls: None, passed: false }];
        let token = Secret::access_token("0123456789abcdefghij").unwrap();
        let shown = |set: &[OwnName]| {
            let text = Invitation::to(&doors, &[], set).text(Some(&token));
            let links: Vec<_> = text.lines().filter(|line| line.contains("#token=")).collect();
            let scanned = links.last().unwrap().split_whitespace().next().unwrap().to_owned();
            assert!(text.contains(&qr::terminal(&scanned).unwrap()), "{text}");
            (text, scanned)
        };
        let (text, scanned) = shown(&[own("pi-2.local", None)]);
        assert!(scanned.starts_with(&format!("http://pi-2.local:{port}/#")), "{text}");
        let (text, scanned) = shown(&[own("pi.lan", Some(80)), own("192.0.2.7", Some(8080))]);
        assert!(text.contains("    http://pi.lan/\n"), "{text}");
        assert!(scanned.starts_with("http://192.0.2.7:8080/#"), "{text}");
    }

    #[test]
    fn a_plain_page_on_the_network_is_named_by_what_other_devices_can_open() {
        use std::net::TcpListener;

        use crate::web::Site;

        let socket = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let site = Site::Simulator(std::rc::Rc::default());
        let doors = [Listen { socket, site, tls: None, passed: false }];
        let token = Secret::access_token("0123456789abcdefghij").unwrap();
        let text = Invitation::to(&doors, &[], &[]).text(Some(&token));
        assert!(text.contains(&format!("    http://localhost:{port}/\n")), "{text}");
        assert!(text.contains("no microphone") && text.contains("VOICELIVED_TLS_LISTEN"), "{text}");
        let links = text.lines().filter(|line| line.contains("#token="));
        assert!(links.clone().count() > 0, "{text}");
        assert!(links.clone().all(|link| !link.contains("localhost")), "{text}");
        let one = reached_at([192, 0, 2, 7].into());
        assert_eq!(one.urls("http", 8000), ["http://192.0.2.7:8000/"]);
    }
}
