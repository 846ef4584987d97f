//! The HTTPS listener's certificates, whoever made them, and their renewal.

mod authority;
mod facts;
mod files;
mod issue;
mod names;
mod own_files;
mod permits;
mod store;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;

pub use authority::Authority;
pub use names::{Names, device_names};
pub use own_files::OwnFiles;

/// Where the listener's certificate comes from.
#[derive(Debug)]
pub enum Certificates {
    /// The owner's files, which something else renews.
    Own(OwnFiles),
    /// The local authority.
    Local(Box<Authority>),
}

/// What a look at the certificates has brought.
#[derive(Debug)]
pub enum Refreshed {
    /// Nothing has changed.
    Same,
    /// New handshakes use this.
    New(Arc<ServerConfig>),
    /// The new certificate cannot be used, so the old one stays; a sentence says why.
    Kept(String),
}

impl Certificates {
    /// Looks whether the files have changed, or the leaf must be made anew. To be asked at SIGHUP
    /// and once an hour: a certificate's third of a life is months, but an address may change.
    pub fn refresh(&mut self, now: SystemTime) -> Refreshed {
        let result = match self {
            Self::Own(files) if files.changed() => files.load(now),
            // Said at each look until it is renewed: browsers refuse it, and this is why.
            Self::Own(files) => return files.expired(now).map_or(Refreshed::Same, Refreshed::Kept),
            Self::Local(authority) => {
                let names = device_names();
                if !authority.needs_renewal(&names, now) {
                    return Refreshed::Same;
                }
                let renewed = authority.renew(&names, now);
                for warning in authority.take_warnings() {
                    log::warn!("{warning}");
                }
                renewed.and_then(|()| authority.server_config())
            }
        };
        match result {
            Ok(config) => Refreshed::New(config),
            Err(why) => Refreshed::Kept(why),
        }
    }

    /// The root that devices must trust, as PEM; `None` when the owner's own certificate is used.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        match self {
            Self::Own(_) => None,
            Self::Local(authority) => Some(authority.ca_pem()),
        }
    }

    /// The names in the owner's own certificate, if it is that.
    #[must_use]
    pub fn own_names(&self) -> &[String] {
        match self {
            Self::Own(files) => files.names(),
            Self::Local(_) => &[],
        }
    }

    /// By what names and addresses a listener at `address` is reached, besides `localhost` and that
    /// address: those of the owner's certificate come first. Others do not reach the loopback, but
    /// its HTTPS may be handed on to it, as by a forwarded port.
    #[must_use]
    pub fn names_at(certificates: Option<&Self>, address: IpAddr, secure: bool) -> Names {
        let remote = !address.to_canonical().is_loopback();
        let mut names = if remote { device_names() } else { Names::default() };
        let own = certificates.filter(|_| remote || secure).map_or(&[][..], Self::own_names);
        let mut dns = own.to_vec();
        dns.append(&mut names.dns);
        Names { dns, ..names }
    }
}
