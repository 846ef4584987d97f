//! The names of this device that its owner has set (`VOICELIVED_NAMES`), for those that use them.

use std::net::IpAddr;

use crate::access::Authority;
use crate::certificates::{DeviceNames, Names};
use crate::config::{Config, OwnName};

/// Where the device's names come from under this configuration.
pub(super) fn of(config: &Config) -> DeviceNames {
    let mut names = Names::default();
    for OwnName { host, .. } in &config.web.names {
        match host.parse::<IpAddr>() {
            Ok(address) => names.addresses.push(address),
            Err(_) => names.dns.push(host.clone()),
        }
    }
    DeviceNames::new(names)
}

/// Those that clients reach at another port than the listener's.
pub(super) fn published(config: &Config) -> Vec<Authority> {
    let with_port =
        |name: &OwnName| name.port.map(|port| Authority { host: name.host.clone(), port });
    config.web.names.iter().filter_map(with_port).collect()
}
