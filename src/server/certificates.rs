//! Renewal of the HTTPS listeners' certificates while the loop runs.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{Calls, Server};
use crate::certificates::{Certificates, Refreshed};
use crate::web::Site;

/// How often the certificates are looked at. The local authority's certificate names the device's
/// addresses, and they may change at any time.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// When to look at the certificates next; `None` if there are none.
pub(super) fn next_look(calls: Option<&Calls>, now: Instant) -> Option<Instant> {
    calls.and_then(|calls| calls.certificates.as_ref()).map(|_| now + LOOK_EVERY)
}

impl Server {
    /// Takes new certificates into use, once an hour and at SIGHUP. New handshakes get the new one.
    /// Connections that exist keep the one that they began with. If the new one cannot be used, the
    /// old one stays: a listener without a certificate would serve nobody.
    pub(super) fn look_at_certificates(&mut self, now: Instant) {
        if self.certificates_due.is_none_or(|due| now < due) {
            return;
        }
        self.certificates_due = next_look(self.calls.as_ref(), now);
        let certificates = self.calls.as_mut().and_then(|calls| calls.certificates.as_mut());
        let Some(certificates) = certificates else { return };
        match certificates.refresh(SystemTime::now()) {
            Refreshed::Same => {}
            Refreshed::Kept(why) => log::error!("the certificate in use is kept: {why}"),
            Refreshed::New(config) => {
                log::info!("a new certificate is in use");
                for listener in &mut self.listeners {
                    if listener.tls.is_some() {
                        listener.tls = Some(Arc::clone(&config));
                    }
                    // The names that visitors may ask for change with the certificate. With the old
                    // ones the gate would refuse the device's new name or address.
                    if let (Site::Calls(site), Ok(at)) =
                        (&mut listener.site, listener.socket.local_addr())
                    {
                        let secure = listener.tls.is_some();
                        let names = Certificates::names_at(Some(certificates), at.ip(), secure);
                        site.gate.set_device_names(&names.dns, &names.addresses);
                    }
                }
            }
        }
    }
}
