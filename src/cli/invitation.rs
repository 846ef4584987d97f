//! What is told to the person who has started the daemon: where to open it, and how to let a device in.

use std::io::{self, IsTerminal, Write};

use super::{access, qr};
use crate::certificates::{Names, device_names};
use crate::config::Secret;
use crate::server::Listen;

/// What to type into a browser, or to point a phone's camera at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invitation {
    /// The most useful first.
    pages: Vec<String>,
    /// One by an address: a phone whose system knows no mDNS cannot find `HOST.local`.
    by_address: Option<String>,
}

impl Invitation {
    /// To what is served here. `own` are the names in the owner's own certificate, if there is one:
    /// it is good for nothing else.
    pub(super) fn to(doors: &[Listen], own: &[String]) -> Self {
        let mut all = Self { pages: Vec::new(), by_address: None };
        for door in doors {
            let Ok(address) = door.socket.local_addr() else { continue };
            let (port, secure) = (address.port(), door.tls.is_some());
            if secure && !own.is_empty() {
                let names = Names { dns: own.to_vec(), ..Names::default() };
                all.pages.extend(names.urls(port));
            } else if secure && !address.ip().to_canonical().is_loopback() {
                all.add(&device_names(), port);
            } else {
                let scheme = if secure { "https" } else { "http" };
                all.pages.push(format!("{scheme}://localhost:{port}/"));
            }
        }
        all
    }

    fn add(&mut self, names: &Names, port: u16) {
        self.pages.extend(names.urls(port));
        // The first one is that towards the network, where that is known.
        let addresses = names.addresses.iter().copied().take(1).collect();
        let outward = Names { addresses, ..Names::default() };
        self.by_address = self.by_address.take().or_else(|| outward.urls(port).pop());
    }

    /// For nobody who reads what it leaves behind: no pipe, no file, no journal.
    pub(super) fn print(&self, token: Option<&Secret>) {
        let mut out = io::stdout();
        if out.is_terminal() {
            // Where it cannot be printed the token can still be typed.
            let _ = out.write_all(self.text(token).as_bytes());
        }
    }

    fn text(&self, token: Option<&Secret>) -> String {
        let mut text = String::from("\nOpen one of these in a browser:\n\n");
        for page in &self.pages {
            text.push_str(&format!("    {page}\n"));
        }
        let (Some(first), Some(token)) = (self.pages.first(), token) else { return text };
        text.push_str("\nThis link lets a device in without typing:\n\n");
        let mut shown = access::pairing_link(first, token);
        text.push_str(&format!("    {shown}\n"));
        if let Some(page) = self.by_address.as_ref().filter(|page| *page != first) {
            shown = access::pairing_link(page, token);
            text.push_str(&format!("    {shown}   (where the name is not found)\n"));
        }
        text.push_str(&format!("\n{}\n", qr::terminal(&shown).unwrap_or_default()));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_to_scan_needs_no_mdns() {
        let mut all = Invitation { pages: Vec::new(), by_address: None };
        let addresses = ["192.0.2.7", "127.0.0.1", "198.51.100.1"].map(|a| a.parse().unwrap());
        let names =
            Names { dns: vec!["pi".into(), "pi.local".into()], addresses: addresses.into() };
        all.add(&names, 8443);
        let token = Secret::access_token("0123456789abcdefghij").unwrap();
        let text = all.text(Some(&token));
        assert!(text.contains("    https://pi.local:8443/#token="), "{text}");
        let link = access::pairing_link("https://192.0.2.7:8443/", &token);
        assert!(text.contains(&link) && text.contains(&qr::terminal(&link).unwrap()), "{text}");
        assert!(!all.text(None).contains("token="));
    }

    #[test]
    fn without_a_way_out_the_code_leads_to_the_name() {
        let mut all = Invitation { pages: Vec::new(), by_address: None };
        let addresses = ["127.0.0.1", "198.51.100.1"].map(|address| address.parse().unwrap());
        all.add(&Names { dns: vec!["pi.local".into()], addresses: addresses.into() }, 8443);
        assert_eq!(all.by_address, None);
    }
}
