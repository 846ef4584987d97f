//! Makes certificates in two profiles, root and leaf, with `rcgen` and ring. Strict readers (openssl,
//! rustls) judge them in the tests.

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, NameConstraints,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;

use crate::system::clock::EARLIEST;

use super::names::Names;
use super::permits::Permits;

/// One day, in seconds.
pub(super) const DAY: u64 = 24 * 60 * 60;

/// How long a root is valid from now on, in seconds: about ten years.
const ROOT_LIFE: u64 = 3652 * DAY;

/// How long a leaf is valid, in seconds. Apple refuses more than 825 days under any root (support article
/// 103769). The leaf also keeps within the 398 days that Apple and Google allow under public roots.
const LEAF_LIFE: u64 = 397 * DAY;

/// RFC 5280, appendix A.1: `ub-common-name`.
const MAX_COMMON_NAME: usize = 64;

/// Bytes of a key identifier, from a SHA-256 (RFC 7093, method 1).
const KEY_ID: usize = 20;

/// Bytes of a serial number (RFC 5280, 4.1.2.2, allows 20).
const SERIAL: usize = 16;

/// The last second that a certificate can name (RFC 5280, 4.1.2.5).
const LAST_SECOND: u64 = 253_402_300_799;

/// The error text if ring fails, which happens only if the kernel gives no random numbers.
const NO_RANDOM: &str = "the system has no random numbers";

/// The first private key in a PEM text, if it is PKCS#8 and for P-256.
pub(super) fn read_key(pem: &str) -> Option<KeyPair> {
    match PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()? {
        PrivateKeyDer::Pkcs8(key) => {
            KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256).ok()
        }
        _ => None,
    }
}

/// A new root for the device `host`, as PEM: its key, then its certificate.
///
/// Its validity begins a day before [`EARLIEST`], whatever the clock shows. A root that was made while the
/// clock was ahead would otherwise not be valid yet once the clock is right.
pub(super) fn root(host: &str, permits: &Permits, now: u64) -> Result<String, String> {
    let key = new_key()?;
    let mut params = profile(&root_name(host, key.public_key_raw()), &key)?;
    params.not_before = moment(EARLIEST - DAY)?;
    params.not_after = moment(now.saturating_add(ROOT_LIFE))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(name_constraints(permits)?);
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    Ok(key.serialize_pem() + &certificate.pem())
}

/// The root as a signer: its certificate as DER, its key, and its last second since 1970.
pub(super) struct Signer<'a> {
    pub(super) certificate: &'a CertificateDer<'a>,
    pub(super) key: KeyPair,
    pub(super) not_after: u64,
}

/// A new leaf for `names`, as PEM: its key, then its certificate. It does not end later than the root.
pub(super) fn leaf(root: Signer<'_>, names: &Names, now: u64) -> Result<String, String> {
    let key = new_key()?;
    let subject = names.dns.first().map_or("voicelived", String::as_str);
    let subject: String = subject.chars().take(MAX_COMMON_NAME).collect();
    // It begins a day earlier, because a client's clock may be behind ours.
    let not_before = now.saturating_sub(DAY);
    let mut params = profile(&subject, &key)?;
    params.not_before = moment(not_before)?;
    // The last second counts as valid too.
    params.not_after = moment(not_before.saturating_add(LEAF_LIFE - 1).min(root.not_after))?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // The leaf names the key identifier that the root's own certificate has, whichever program made it.
    params.use_authority_key_identifier_extension = true;
    params.subject_alt_names = alternative_names(names)?;
    let issuer = Issuer::from_ca_cert_der(root.certificate, root.key);
    let made = issuer.and_then(|issuer| params.signed_by(&key, &issuer));
    Ok(key.serialize_pem() + &made.map_err(|error| error.to_string())?.pem())
}

fn new_key() -> Result<KeyPair, String> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| NO_RANDOM.to_owned())
}

/// The fields that both profiles have: a name, a serial number, and the key's identifier.
fn profile(common_name: &str, key: &KeyPair) -> Result<CertificateParams, String> {
    let mut serial = [0; SERIAL];
    SystemRandom::new().fill(&mut serial).map_err(|_| NO_RANDOM)?;
    // The first two bits are 01, so the number is positive and has its full length.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let id = digest(&SHA256, key.public_key_raw()).as_ref()[..KEY_ID].to_vec();
    params.key_identifier_method = KeyIdMethod::PreSpecified(id);
    Ok(params)
}

/// The time of so many seconds since 1970, at most the end of the year 9999.
fn moment(seconds: u64) -> Result<OffsetDateTime, String> {
    let seconds = i64::try_from(seconds.min(LAST_SECOND)).map_err(|error| error.to_string())?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| error.to_string())
}

/// A common name that is different for each root. Clients find a root by its name. Two roots with one name,
/// of two devices or of one that began anew, could be mistaken for each other.
fn root_name(host: &str, public_key: &[u8]) -> String {
    let hash = digest(&SHA256, public_key);
    let id: String = hash.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let room = MAX_COMMON_NAME - "voicelived  ".len() - id.len();
    let host: String = host.chars().take(room).collect();
    format!("voicelived {host} {id}")
}

fn alternative_names(names: &Names) -> Result<Vec<SanType>, String> {
    let mut list = Vec::new();
    for name in &names.dns {
        let name = host_name(name)?.try_into().map_err(|error: rcgen::Error| error.to_string())?;
        list.push(SanType::DnsName(name));
    }
    list.extend(names.addresses.iter().map(|&address| SanType::IpAddress(address)));
    Ok(list)
}

fn name_constraints(permits: &Permits) -> Result<NameConstraints, String> {
    let mut permitted_subtrees = Vec::new();
    for domain in &permits.domains {
        permitted_subtrees.push(GeneralSubtree::DnsName(host_name(domain)?.to_owned()));
    }
    for network in &permits.networks {
        // Bits outside the mask must be zero; `rcgen` writes what it is given.
        let subnet = CidrSubnet::from_addr_prefix(network.network(), network.prefix_len());
        permitted_subtrees.push(GeneralSubtree::IpAddress(subnet));
    }
    Ok(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() })
}

/// Checks that a certificate can carry a name, because `rcgen` does not check constraints.
fn host_name(name: &str) -> Result<&str, String> {
    let fits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then_some(name).ok_or_else(|| format!("{name:?} is no host name"))
}
