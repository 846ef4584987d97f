//! Makes certificates: exactly two profiles, written by hand over ring's keys and signatures.
//!
//! A general library with its ASN.1 and calendar adds over a twentieth to the program; two fixed
//! forms need none of its generality. Strict readers (openssl, rustls) judge them in the tests.

use std::net::IpAddr;

use base64_simd::STANDARD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::system::clock::EARLIEST;

use super::der::{self, context, element, oid};
use super::facts::Facts;
use super::names::Names;
use super::permits::{Permits, Subnet};

/// One day, in seconds.
pub(super) const DAY: u64 = 24 * 60 * 60;

/// Validity of a root, from now on: about ten years.
const ROOT_LIFE: u64 = 3652 * DAY;

/// Validity of a leaf. Apple refuses more than 825 days under any root (support article 103769);
/// the 398 days that Apple and Google allow under public roots are kept too.
const LEAF_LIFE: u64 = 397 * DAY;

/// RFC 5280, appendix A.1: `ub-common-name`.
const MAX_COMMON_NAME: usize = 64;

/// Bytes of a key identifier, from a SHA-256 (RFC 7093, method 1).
const KEY_ID: usize = 20;

/// Said where ring fails, which takes a kernel without random numbers.
const NO_RANDOM: &str = "the system has no random numbers";

/// A P-256 key that signs.
pub(super) struct Key {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Key {
    /// The first private key in a PEM text, if it is PKCS#8 and of the right kind.
    pub(super) fn read(pem: &str) -> Option<Self> {
        match PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()? {
            PrivateKeyDer::Pkcs8(key) => Self::from_pkcs8(key.secret_pkcs8_der()),
            _ => None,
        }
    }

    /// A new key and its PEM.
    fn generate() -> Option<(Self, String)> {
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).ok()?;
        Some((Self::from_pkcs8(document.as_ref())?, pem("PRIVATE KEY", document.as_ref())))
    }

    fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &random).ok()?;
        Some(Self { pair, random })
    }

    /// The public key's bits.
    pub(super) fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        Some(self.pair.sign(&self.random, message).ok()?.as_ref().to_vec())
    }

    /// A positive number of 16 bytes (RFC 5280, 4.1.2.2, allows 20).
    fn serial_number(&self) -> Option<[u8; 16]> {
        let mut serial = [0; 16];
        self.random.fill(&mut serial).ok()?;
        serial[0] = serial[0] & 0x7f | 0x40;
        Some(serial)
    }
}

/// What the two profiles do not have in common.
struct Content<'a> {
    issuer: &'a str,
    subject: &'a str,
    not_before: u64,
    not_after: u64,
    public_key: &'a [u8],
    extensions: &'a [Vec<u8>],
}

/// A new root for the device `host`, as PEM: its key, then its certificate.
///
/// Its validity begins at [`EARLIEST`] whatever the clock says, so that a clock that is ahead when
/// the root is made cannot make it useless once the clock is right.
pub(super) fn root(host: &str, permits: &Permits, now: u64) -> Result<String, String> {
    let (key, key_pem) = Key::generate().ok_or(NO_RANDOM)?;
    let name = root_name(host, key.public());
    let extensions = [
        extension(oid::BASIC_CONSTRAINTS, true, &basic_constraints(Some(0))),
        extension(oid::KEY_USAGE, true, &key_usage(KEY_CERT_SIGN | CRL_SIGN)),
        extension(
            oid::SUBJECT_KEY_ID,
            false,
            &element(der::OCTET_STRING, &[&key_id(key.public())]),
        ),
        extension(oid::NAME_CONSTRAINTS, true, &name_constraints(permits)?),
    ];
    let content = Content {
        issuer: &name,
        subject: &name,
        not_before: EARLIEST - DAY,
        not_after: now.saturating_add(ROOT_LIFE),
        public_key: key.public(),
        extensions: &extensions,
    };
    let certificate = certificate(&content, &key).ok_or(NO_RANDOM)?;
    Ok(key_pem + &pem("CERTIFICATE", &certificate))
}

/// A new leaf for `names`, as PEM: its key, then its certificate. It does not outlive the root.
pub(super) fn leaf(
    root: &Facts,
    root_key: &Key,
    names: &Names,
    now: u64,
) -> Result<String, String> {
    let (key, key_pem) = Key::generate().ok_or(NO_RANDOM)?;
    let subject = names.dns.first().map_or("voicelived", String::as_str);
    let subject: String = subject.chars().take(MAX_COMMON_NAME).collect();
    // A day back: the clocks of the clients differ.
    let not_before = now.saturating_sub(DAY);
    let root_id = element(0x80, &[&key_id(&root.public_key)]);
    let server_auth = element(der::OID, &[oid::SERVER_AUTH]);
    let extensions = [
        extension(oid::BASIC_CONSTRAINTS, true, &basic_constraints(None)),
        extension(oid::KEY_USAGE, true, &key_usage(DIGITAL_SIGNATURE)),
        extension(oid::EXTENDED_KEY_USAGE, false, &element(der::SEQUENCE, &[&server_auth])),
        extension(
            oid::SUBJECT_KEY_ID,
            false,
            &element(der::OCTET_STRING, &[&key_id(key.public())]),
        ),
        extension(oid::AUTHORITY_KEY_ID, false, &element(der::SEQUENCE, &[&root_id])),
        extension(oid::SUBJECT_ALT_NAME, false, &alternative_names(names)?),
    ];
    let content = Content {
        issuer: &root.subject,
        subject: &subject,
        not_before,
        // The last second counts as valid too.
        not_after: not_before.saturating_add(LEAF_LIFE - 1).min(root.not_after),
        public_key: key.public(),
        extensions: &extensions,
    };
    let certificate = certificate(&content, root_key).ok_or(NO_RANDOM)?;
    Ok(key_pem + &pem("CERTIFICATE", &certificate))
}

/// A name of its own for each root: clients find a root by it, and two that are called the same, of
/// two devices or of one after a new start, would get in each other's way.
fn root_name(host: &str, public_key: &[u8]) -> String {
    let hash = digest(&SHA256, public_key);
    let id: String = hash.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let room = MAX_COMMON_NAME - "voicelived  ".len() - id.len();
    let host: String = host.chars().take(room).collect();
    format!("voicelived {host} {id}")
}

/// RFC 5280, 4.1.
fn certificate(content: &Content<'_>, signer: &Key) -> Option<Vec<u8>> {
    let algorithm = element(der::SEQUENCE, &[&element(der::OID, &[oid::ECDSA_SHA256])]);
    let extensions: Vec<_> = content.extensions.iter().map(Vec::as_slice).collect();
    let body = element(
        der::SEQUENCE,
        &[
            // Version 3 is written as 2.
            &element(context(0), &[&element(der::INTEGER, &[&[2]])]),
            &element(der::INTEGER, &[&signer.serial_number()?]),
            &algorithm,
            &name(content.issuer),
            &element(
                der::SEQUENCE,
                &[&der::time(content.not_before), &der::time(content.not_after)],
            ),
            &name(content.subject),
            &public_key(content.public_key),
            &element(context(3), &[&element(der::SEQUENCE, &extensions)]),
        ],
    );
    let signature = signer.sign(&body)?;
    Some(element(der::SEQUENCE, &[&body, &algorithm, &bits(&signature)]))
}

fn name(common_name: &str) -> Vec<u8> {
    let kind = element(der::OID, &[oid::COMMON_NAME]);
    let text = element(der::UTF8_STRING, &[common_name.as_bytes()]);
    let pair = element(der::SEQUENCE, &[&kind, &text]);
    element(der::SEQUENCE, &[&element(der::SET, &[&pair])])
}

/// RFC 5480, 2.
fn public_key(point: &[u8]) -> Vec<u8> {
    let (kind, curve) = (element(der::OID, &[oid::EC_PUBLIC_KEY]), element(der::OID, &[oid::P256]));
    element(der::SEQUENCE, &[&element(der::SEQUENCE, &[&kind, &curve]), &bits(point)])
}

/// A bit string of whole bytes.
fn bits(bytes: &[u8]) -> Vec<u8> {
    element(der::BIT_STRING, &[&[0], bytes])
}

fn key_id(public_key: &[u8]) -> [u8; KEY_ID] {
    let mut id = [0; KEY_ID];
    id.copy_from_slice(&digest(&SHA256, public_key).as_ref()[..KEY_ID]);
    id
}

fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let id = element(der::OID, &[id]);
    // False is the default, and DER does not write defaults.
    let critical = if critical { element(der::BOOLEAN, &[&[0xff]]) } else { Vec::new() };
    element(der::SEQUENCE, &[&id, &critical, &element(der::OCTET_STRING, &[value])])
}

/// Of an authority with at most so many more below it, or of none.
fn basic_constraints(path_length: Option<u8>) -> Vec<u8> {
    match path_length {
        Some(length) => element(
            der::SEQUENCE,
            &[&element(der::BOOLEAN, &[&[0xff]]), &element(der::INTEGER, &[&[length]])],
        ),
        None => element(der::SEQUENCE, &[]),
    }
}

// Bits count from the highest (RFC 5280, 4.2.1.3).
const DIGITAL_SIGNATURE: u8 = 0x80;
const KEY_CERT_SIGN: u8 = 0x04;
const CRL_SIGN: u8 = 0x02;

fn key_usage(uses: u8) -> Vec<u8> {
    // DER drops trailing zero bits and tells how many.
    let unused = u8::try_from(uses.trailing_zeros()).unwrap_or(0);
    element(der::BIT_STRING, &[&[unused], &[uses]])
}

fn alternative_names(names: &Names) -> Result<Vec<u8>, String> {
    let mut list = Vec::new();
    for name in &names.dns {
        list.extend(dns_name(name)?);
    }
    for &address in &names.addresses {
        list.extend(match address {
            IpAddr::V4(address) => element(der::IP_ADDRESS, &[&address.octets()]),
            IpAddr::V6(address) => element(der::IP_ADDRESS, &[&address.octets()]),
        });
    }
    Ok(element(der::SEQUENCE, &[&list]))
}

fn name_constraints(permits: &Permits) -> Result<Vec<u8>, String> {
    let mut subtrees = Vec::new();
    for domain in &permits.domains {
        subtrees.extend(element(der::SEQUENCE, &[&dns_name(domain)?]));
    }
    for network in &permits.networks {
        subtrees.extend(element(der::SEQUENCE, &[&subnet(network)]));
    }
    Ok(element(der::SEQUENCE, &[&element(context(0), &[&subtrees])]))
}

/// An address and a mask; bits outside the mask are zero.
fn subnet(network: &Subnet) -> Vec<u8> {
    match network.address {
        IpAddr::V4(address) => {
            let mask = !u32::MAX.checked_shr(network.prefix.into()).unwrap_or(0);
            let first = address.to_bits() & mask;
            element(der::IP_ADDRESS, &[&first.to_be_bytes(), &mask.to_be_bytes()])
        }
        IpAddr::V6(address) => {
            let mask = !u128::MAX.checked_shr(network.prefix.into()).unwrap_or(0);
            let first = address.to_bits() & mask;
            element(der::IP_ADDRESS, &[&first.to_be_bytes(), &mask.to_be_bytes()])
        }
    }
}

fn dns_name(name: &str) -> Result<Vec<u8>, String> {
    let fits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits {
        return Err(format!("{name:?} is no host name"));
    }
    Ok(element(der::DNS_NAME, &[name.as_bytes()]))
}

/// RFC 7468: lines of 64 characters.
fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in STANDARD.encode_to_string(der).as_bytes().chunks(64) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
