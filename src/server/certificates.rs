//! The device's names and addresses, and the HTTPS listeners' certificates, while the loop runs.
//!
//! A device gets new addresses at any time: from DHCP, or when the Wi-Fi comes up after the daemon. Nothing tells
//! the daemon, since a hardened service may not listen to the kernel's announcements (netlink). But nobody uses a
//! new address before connecting to it. So the loop looks when a connection comes, and an idle daemon does not
//! wake up for it:
//!
//! - A connection to an address that the loop does not know makes it look at once, before the TLS handshake. So
//!   the certificate that is shown holds for that address, although a client that asks by address does not name
//!   it in its first message.
//! - Any other connection makes it look if the last look was [`LOOK_AGAIN`] ago, for a new host name or search
//!   domain.
//!
//! What may be relied on: after a look, all gates, the certificate and `known` agree. Without that the gate would
//! refuse a name for which the certificate holds, or the other way round.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{Calls, Server};
use crate::certificates::{Certificates, DeviceNames, Names, Refreshed};
use crate::web::Site;

/// How often the certificates are looked at: their validity, and the owner's files.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// The shortest time between two looks at names that nothing has called for. A look reads three small files.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// When to look at the certificates next; `None` if there are none.
pub(super) fn next_look(calls: Option<&Calls>, now: Instant) -> Option<Instant> {
    calls.and_then(|calls| calls.certificates.as_ref()).map(|_| now + LOOK_EVERY)
}

/// The most addresses that are looked for because a client has connected to them. Devices have fewer.
const MAX_USED: usize = 16;

/// The names of the device, as the loop knows them.
#[derive(Debug, Default)]
pub(super) struct KnownNames {
    source: DeviceNames,
    known: Names,
    /// Addresses that clients have connected to and that were not known, at most [`MAX_USED`].
    used: Vec<IpAddr>,
    /// When they were read last.
    looked: Option<Instant>,
}

impl KnownNames {
    pub(super) fn new(source: DeviceNames) -> Self {
        Self { known: source.read(), source, used: Vec::new(), looked: None }
    }

    /// Sees to it that the next look finds this address, however many others there are. With too many of them it does
    /// not, so nobody can make the daemon write one certificate after the other.
    fn want(&mut self, address: IpAddr) {
        if self.used.len() < MAX_USED && !self.used.contains(&address) {
            self.used.push(address);
        }
    }

    /// Reads them again. True if they have changed.
    fn look(&mut self, now: Instant) -> bool {
        self.looked = Some(now);
        let names = self.source.read_with(&self.used);
        // One that has gone is another device's by now.
        self.used.retain(|address| names.addresses.contains(address));
        let changed = names != self.known;
        self.known = names;
        changed
    }
}

impl Server {
    /// A connection has come to this address by this listener: looks at the device's names if that is due.
    pub(super) fn notice_address(&mut self, listener: usize, local: IpAddr, now: Instant) {
        // A loopback listener is reached by no other device, so its names do not change.
        if self.calls.is_none() || local.to_canonical().is_loopback() {
            return;
        }
        let is_new = match &mut self.listeners[listener].site {
            Site::Calls(site) => site.gate.meet(local),
            Site::Simulator(_) => return,
        };
        if is_new {
            self.names.want(local.to_canonical());
        }
        let is_due = self.names.looked.is_none_or(|looked| now >= looked + LOOK_AGAIN);
        if (is_new || is_due) && self.names.look(now) {
            log::info!("this device's names or addresses have changed");
            self.refresh_certificates();
            // It clears what the gate has met, and a link-local address is not among the names.
            if let Site::Calls(site) = &mut self.listeners[listener].site {
                site.gate.meet(local);
            }
        }
    }

    /// Takes new certificates into use, once an hour and at SIGHUP.
    pub(super) fn look_at_certificates(&mut self, now: Instant) {
        if self.certificates_due.is_none_or(|due| now < due) {
            return;
        }
        self.certificates_due = next_look(self.calls.as_ref(), now);
        self.names.look(now);
        self.refresh_certificates();
    }

    /// Brings certificate and gates in line with the names that are known. New handshakes get the new
    /// certificate. Connections that exist keep the one that they began with. If the new one cannot be used,
    /// the old one stays: a listener without a certificate would serve nobody.
    fn refresh_certificates(&mut self) {
        let certificates = self.calls.as_mut().and_then(|calls| calls.certificates.as_mut());
        let refreshed = certificates.map(|own| own.refresh(&self.names.known, SystemTime::now()));
        match refreshed {
            None | Some(Refreshed::Same) => {}
            Some(Refreshed::Kept(why)) => log::error!("the certificate in use is kept: {why}"),
            Some(Refreshed::New(config)) => {
                log::info!("a new certificate is in use");
                for listener in self.listeners.iter_mut().filter(|found| found.tls.is_some()) {
                    listener.tls = Some(Arc::clone(&config));
                }
            }
        }
        self.tell_gates();
    }

    /// Tells all gates the names that visitors may ask for. With the old ones they would refuse the device's new
    /// name or address.
    fn tell_gates(&mut self) {
        let certificates = self.calls.as_ref().and_then(|calls| calls.certificates.as_ref());
        let of_device = (&self.names.known, self.names.source.set());
        for listener in &mut self.listeners {
            if let (Site::Calls(site), Ok(at)) = (&mut listener.site, listener.socket.local_addr())
            {
                let secure = listener.tls.is_some();
                let names = Certificates::names_at(certificates, of_device, at.ip(), secure);
                site.gate.set_device_names(&names.dns, &names.addresses);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Scene;
    use super::*;

    /// A look reads files, so not every connection causes one.
    #[test]
    fn names_are_looked_at_for_a_new_address_and_otherwise_once_a_second() {
        let mut scene = Scene::new(|_| ());
        let start = scene.now;
        let mut looked_at = |address: &str, ms: u64| {
            let local = address.parse().expect("an address");
            scene.server.notice_address(0, local, start + Duration::from_millis(ms));
            scene.server.names.looked.map(|looked| (looked - start).as_millis())
        };
        assert_eq!(looked_at("127.0.0.1", 0), None);
        assert_eq!(looked_at("192.0.2.1", 0), Some(0));
        assert_eq!(looked_at("192.0.2.1", 999), Some(0), "it is known");
        assert_eq!(looked_at("192.0.2.2", 999), Some(999), "it is new");
        assert_eq!(looked_at("192.0.2.2", 1_999), Some(1_999), "a second has passed");
    }
}
