//! The certificates of the HTTPS listeners and their renewal. They are either the owner's files or made
//! by the local authority.

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
pub use names::{DeviceNames, Names, device_names};
pub use own_files::OwnFiles;

/// Where the listener's certificate comes from.
#[derive(Debug)]
pub enum Certificates {
    /// The owner's files, which something else renews.
    Own(Box<OwnFiles>),
    /// The local authority.
    Local(Box<Authority>),
}

/// The result of a look at the certificates.
#[derive(Debug)]
pub enum Refreshed {
    /// Nothing has changed.
    Same,
    /// There is a new certificate. New handshakes use this configuration.
    New(Arc<ServerConfig>),
    /// The new certificate cannot be used, so the old one stays. The sentence says why.
    Kept(String),
}

impl Certificates {
    /// Checks whether the owner's files have changed, or whether the leaf must be made anew for `names`. The
    /// loop calls it at SIGHUP, once an hour, and when the device's names or addresses have changed.
    pub fn refresh(&mut self, names: &Names, now: SystemTime) -> Refreshed {
        let result = match self {
            Self::Own(files) if files.changed() => files.load(now),
            // An expired certificate is reported at each look until it is renewed, because browsers
            // refuse it.
            Self::Own(files) => return files.expired(now).map_or(Refreshed::Same, Refreshed::Kept),
            Self::Local(authority) => {
                if !authority.needs_renewal(names, now) {
                    return Refreshed::Same;
                }
                let renewed = authority.renew(names, now);
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

    /// The DNS names in the owner's own certificate; none with the local authority.
    #[must_use]
    pub fn own_names(&self) -> &[String] {
        match self {
            Self::Own(files) => files.names(),
            Self::Local(_) => &[],
        }
    }

    /// The names and addresses under which a listener at `address` is reached, besides `localhost` and
    /// the address itself. `all` are the device's, and `set` those of its owner among them. The names of the
    /// owner's certificate come first. Other devices do not reach a loopback listener, so the device's
    /// names do not count there. What the owner has set does, and so do the certificate's names for HTTPS,
    /// because a forwarded port may lead to it.
    #[must_use]
    pub fn names_at(
        certificates: Option<&Self>,
        (all, set): (&Names, &Names),
        address: IpAddr,
        secure: bool,
    ) -> Names {
        let remote = !address.to_canonical().is_loopback();
        let names = if remote { all } else { set };
        let own = certificates.filter(|_| remote || secure).map_or(&[][..], Self::own_names);
        Names { dns: own.to_vec(), addresses: Vec::new() }.and(names.clone())
    }

    /// Those of `names` for which the certificate does not hold, so that browsers refuse it there.
    #[must_use]
    pub fn lacks(&self, names: &Names) -> Vec<String> {
        let covered = match self {
            Self::Own(files) => files.all_names(),
            Self::Local(authority) => authority.names(),
        };
        let dns = names.dns.iter().filter(|name| !covered.covers(name)).cloned();
        let addresses =
            names.addresses.iter().filter(|&address| !covered.addresses.contains(address));
        dns.chain(addresses.map(IpAddr::to_string)).collect()
    }
}
