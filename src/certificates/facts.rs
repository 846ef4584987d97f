//! Reads from a certificate what renewal needs to know (RFC 5280, section 4.1), with `x509-parser`.
//!
//! rustls checks certificates, but it tells neither their dates nor their addresses. The certificates
//! come from files that may be damaged. Anything that is not as expected gives `None`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, NameConstraints};
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use super::names::Names;
use super::permits::Permits;

/// What is in a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The signer's common name.
    pub(super) issuer: String,
    /// The common name.
    pub(super) subject: String,
    /// First second of its validity, since 1970.
    pub(super) not_before: u64,
    /// Last second of its validity, since 1970.
    pub(super) not_after: u64,
    /// The public key's bits.
    pub(super) public_key: Vec<u8>,
    /// The names and addresses that it certifies (subjectAltName).
    pub(super) names: Names,
    /// Its name constraints; `None` if it has none.
    pub(super) permits: Option<Permits>,
}

impl Facts {
    /// Reads one certificate.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let constraints = certificate.name_constraints().ok()?;
        Some(Self {
            issuer: common_name(certificate.issuer())?,
            subject: common_name(certificate.subject())?,
            not_before: seconds(certificate.validity().not_before)?,
            not_after: seconds(certificate.validity().not_after)?,
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
            names: alternative_names(&certificate)?,
            permits: match constraints {
                Some(found) => Some(permits(found.value)?),
                None => None,
            },
        })
    }

    /// The names in any certificate, also one of a public authority. `read` would refuse some of those,
    /// since public authorities leave the common name out.
    pub(super) fn names_of(der: &[u8]) -> Option<Names> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        alternative_names(&certificate)
    }
}

/// The last second of any certificate, since 1970, and its date as text (UTC).
pub(super) fn end_of(der: &[u8]) -> Option<(u64, String)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let end = certificate.validity().not_after;
    Some((seconds(end)?, end.to_datetime().date().to_string()))
}

/// Seconds since 1970; `None` for an earlier time, which no certificate of ours has.
fn seconds(time: ASN1Time) -> Option<u64> {
    u64::try_from(time.timestamp()).ok()
}

fn common_name(name: &X509Name<'_>) -> Option<String> {
    name.iter_common_name().next()?.as_str().ok().map(str::to_owned)
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Option<Names> {
    let mut names = Names::default();
    let found = certificate.subject_alternative_name().ok()?;
    for name in found.iter().flat_map(|found| &found.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
            GeneralName::IPAddress(octets) => names.addresses.push(address(octets)?),
            _ => {}
        }
    }
    Some(names)
}

/// The permitted subtrees. Excluded ones are not read, because our own roots have none.
fn permits(constraints: &NameConstraints<'_>) -> Option<Permits> {
    let mut permits = Permits::default();
    for subtree in constraints.permitted_subtrees.as_ref()? {
        match &subtree.base {
            GeneralName::DNSName(name) => permits.domains.push((*name).to_owned()),
            GeneralName::IPAddress(octets) => permits.networks.push(network(octets)?),
            _ => {}
        }
    }
    Some(permits)
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(octets).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into())
}

/// An address and a mask of the same length.
fn network(octets: &[u8]) -> Option<IpNet> {
    let (first, mask) = octets.split_at(octets.len() / 2);
    IpNet::with_netmask(address(first)?, address(mask)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_must_be_prefixes() {
        let prefix = |bytes: &[u8]| network(bytes).map(|found| found.prefix_len());
        assert_eq!(prefix(&[10, 0, 0, 0, 255, 0, 0, 0]), Some(8));
        assert_eq!(prefix(&[0; 8]), Some(0));
        assert_eq!(prefix(&[0xff; 32]), Some(128));
        assert_eq!(prefix(&[10, 0, 0, 0, 255, 0, 255, 0]), None);
        assert_eq!(prefix(&[10, 0, 0, 255, 255, 0]), None);
        assert_eq!(prefix(&[]), None);
    }

    /// Neither cutting it short nor changing any byte may do worse than being refused.
    #[test]
    fn damaged_certificates_cannot_do_harm() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params =
            rcgen::CertificateParams::new(["pi".to_owned(), "::1".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "pi");
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let facts = Facts::read(&der).unwrap();
        assert_eq!((facts.subject.as_str(), facts.issuer.as_str()), ("pi", "pi"));
        assert_eq!(facts.names.dns, ["pi"]);
        assert_eq!(Facts::names_of(&der).as_ref(), Some(&facts.names));
        assert_eq!(facts.public_key, key.public_key_raw());
        for at in 0..der.len() {
            assert_eq!(Facts::read(&der[..at]), None, "cut at {at}");
            assert_eq!(Facts::names_of(&der[..at]), None, "cut at {at}");
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = der.clone();
                damaged[at] ^= flip;
                let _ = Facts::read(&damaged);
                let _ = Facts::names_of(&damaged);
            }
        }
    }
}
