//! Reads back from a certificate what renewing needs to know (X.509 in DER, RFC 5280, 4.1).
//!
//! rustls checks certificates but tells neither their dates nor their addresses, and a full parser
//! costs a tenth of the program. This reads our own certificates, from files somebody may have
//! damaged: every length is checked, and what is not as expected is `None`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::der::{
    BIT_STRING, BOOLEAN, DNS_NAME, INTEGER, IP_ADDRESS, OCTET_STRING, OID, Reader, SEQUENCE, SET,
    context, oid, read_time,
};
use super::names::Names;
use super::permits::{Permits, Subnet};

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
    /// Names and addresses it is made out to.
    pub(super) names: Names,
    /// What it may vouch for; `None` when it says nothing of that.
    pub(super) permits: Option<Permits>,
}

impl Facts {
    /// Reads one certificate.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let mut outer = Reader(Reader(der).take(SEQUENCE)?);
        let mut body = Reader(outer.take(SEQUENCE)?);
        body.take(context(0))?;
        body.take(INTEGER)?;
        body.take(SEQUENCE)?;
        let mut facts = Self { issuer: common_name(body.take(SEQUENCE)?)?, ..Self::default() };
        let mut validity = Reader(body.take(SEQUENCE)?);
        facts.not_before = read_time(validity.next()?)?;
        facts.not_after = read_time(validity.next()?)?;
        facts.subject = common_name(body.take(SEQUENCE)?)?;
        let mut key = Reader(body.take(SEQUENCE)?);
        key.take(SEQUENCE)?;
        // The first byte counts unused bits: none.
        facts.public_key = key.take(BIT_STRING)?.strip_prefix(&[0])?.to_vec();
        let mut extensions = Reader(Reader(body.take(context(3))?).take(SEQUENCE)?);
        while let Some((tag, extension)) = extensions.next() {
            facts.add_extension(tag, extension)?;
        }
        Some(facts)
    }

    /// The names that anybody's certificate is made out to. What else is in it may be as it likes:
    /// public authorities leave the common name out.
    pub(super) fn names_of(der: &[u8]) -> Option<Names> {
        let mut body = Reader(Reader(Reader(der).take(SEQUENCE)?).take(SEQUENCE)?);
        let mut extensions = loop {
            let (tag, content) = body.next()?;
            if tag == context(3) {
                break Reader(Reader(content).take(SEQUENCE)?);
            }
        };
        let mut facts = Self::default();
        while let Some((tag, extension)) = extensions.next() {
            facts.add_extension(tag, extension)?;
        }
        Some(facts.names)
    }

    fn add_extension(&mut self, tag: u8, extension: &[u8]) -> Option<()> {
        let mut parts = Reader(extension);
        let id = parts.take(OID).filter(|_| tag == SEQUENCE)?;
        let (mut tag, mut value) = parts.next()?;
        if tag == BOOLEAN {
            (tag, value) = parts.next()?;
        }
        if tag != OCTET_STRING {
            return None;
        }
        match id {
            oid::SUBJECT_ALT_NAME => self.names = alternative_names(value)?,
            oid::NAME_CONSTRAINTS => self.permits = Some(permits(value)?),
            _ => {}
        }
        Some(())
    }
}

fn common_name(name: &[u8]) -> Option<String> {
    let mut parts = Reader(name);
    while let Some(part) = parts.take(SET) {
        let mut pair = Reader(Reader(part).take(SEQUENCE)?);
        if pair.take(OID)? == oid::COMMON_NAME {
            return String::from_utf8(pair.next()?.1.to_vec()).ok();
        }
    }
    None
}

fn alternative_names(value: &[u8]) -> Option<Names> {
    let mut names = Names::default();
    let mut list = Reader(Reader(value).take(SEQUENCE)?);
    while let Some((tag, content)) = list.next() {
        match tag {
            DNS_NAME => names.dns.push(text(content)?),
            IP_ADDRESS => names.addresses.push(address(content)?),
            _ => {}
        }
    }
    Some(names)
}

fn permits(value: &[u8]) -> Option<Permits> {
    let mut permits = Permits::default();
    let mut list = Reader(Reader(Reader(value).take(SEQUENCE)?).take(context(0))?);
    while let Some(subtree) = list.take(SEQUENCE) {
        let (tag, content) = Reader(subtree).next()?;
        match tag {
            DNS_NAME => permits.domains.push(text(content)?),
            IP_ADDRESS => permits.networks.push(subnet(content)?),
            _ => {}
        }
    }
    Some(permits)
}

fn text(content: &[u8]) -> Option<String> {
    content.is_ascii().then(|| String::from_utf8_lossy(content).into_owned())
}

fn address(content: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(content) {
        return Some(Ipv4Addr::from(octets).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(content).ok()?).into())
}

/// An address and a mask of the same length.
fn subnet(content: &[u8]) -> Option<Subnet> {
    let (network, mask) = content.split_at(content.len() / 2);
    let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let leading: u32 = match address(mask)? {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    let prefix = u8::try_from(leading).ok().filter(|_| ones == leading)?;
    Some(Subnet { address: address(network)?, prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_must_be_prefixes() {
        let prefix = |bytes: &[u8]| subnet(bytes).map(|found| found.prefix);
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
