//! The order of TLS cipher suites, by what this processor computes fastest.
//!
//! A peer that heeds our order, or whose order we do not heed, takes the first suite that both have. So the
//! order decides what each block of audio costs:
//!
//! | Processor | First | Then |
//! |---|---|---|
//! | with instructions for AES-GCM | AES-128 (10 rounds for a block) | AES-256 (14 rounds), ChaCha20 |
//! | without (every Raspberry Pi before the 5, all 32-bit ARM) | ChaCha20 | AES-128, AES-256 |
//!
//! Nothing is left out: a peer that has only AES still gets it. BoringSSL, which Chromium uses, orders in the
//! same way.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, ProtocolVersion, SupportedCipherSuite};

/// ring's cryptography with its suites in this processor's order. Both legs use it.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(ordered(is_aes_fast())));
    Arc::clone(&PROVIDER)
}

/// Whether ring computes AES-GCM with the processor's own instructions. It needs two kinds: one for the AES
/// rounds and one for the multiplication of GCM. On 32-bit ARM ring has no such code, so there the answer is
/// "no" even for a newer processor.
#[must_use]
pub fn is_aes_fast() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    let fast = is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let fast = std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    let fast = false;
    fast
}

/// What both sides have agreed on, for people: `TLS 1.3, AES-128-GCM`.
#[must_use]
pub fn named(version: ProtocolVersion, suite: CipherSuite) -> String {
    let version = match version {
        ProtocolVersion::TLSv1_3 => "TLS 1.3".to_owned(),
        ProtocolVersion::TLSv1_2 => "TLS 1.2".to_owned(),
        other => format!("{other:?}"),
    };
    match Cipher::of(suite) {
        Some(cipher) => format!("{version}, {}", cipher.name()),
        None => format!("{version}, {suite:?}"),
    }
}

/// ring's provider in the order for a processor with or without fast AES.
fn ordered(aes_is_fast: bool) -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    let suites = std::mem::take(&mut provider.cipher_suites);
    // Suites of one rank keep the order of rustls, ECDSA before RSA. It is no sort of the library's: each
    // kind of value that is sorted adds 5 kilobytes to the program.
    for place in RANKS {
        provider
            .cipher_suites
            .extend(suites.iter().filter(|suite| rank(suite, aes_is_fast) == place));
    }
    provider
}

/// All ranks in their order.
const RANKS: [(bool, u8); 8] =
    [(false, 0), (false, 1), (false, 2), (false, 3), (true, 0), (true, 1), (true, 2), (true, 3)];

/// The place of a suite: first TLS 1.3, then by cost.
fn rank(suite: &SupportedCipherSuite, aes_is_fast: bool) -> (bool, u8) {
    let cost = match (Cipher::of(suite.suite()), aes_is_fast) {
        (Some(Cipher::Aes128), true) | (Some(Cipher::ChaCha20), false) => 0,
        (Some(Cipher::Aes256), true) | (Some(Cipher::Aes128), false) => 1,
        (Some(Cipher::ChaCha20), true) | (Some(Cipher::Aes256), false) => 2,
        // A suite that a later rustls brings: its cost is not known yet.
        (None, _) => 3,
    };
    (suite.tls13().is_none(), cost)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cipher {
    Aes128,
    Aes256,
    ChaCha20,
}

impl Cipher {
    fn of(suite: CipherSuite) -> Option<Self> {
        match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => Some(Self::Aes128),
            CipherSuite::TLS13_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Some(Self::Aes256),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Some(Self::ChaCha20),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Aes128 => "AES-128-GCM",
            Self::Aes256 => "AES-256-GCM",
            Self::ChaCha20 => "ChaCha20-Poly1305",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(aes_is_fast: bool) -> Vec<(bool, Cipher)> {
        let suites = ordered(aes_is_fast).cipher_suites;
        let named = |suite: &SupportedCipherSuite| {
            (suite.tls13().is_some(), Cipher::of(suite.suite()).expect("a known suite"))
        };
        suites.iter().map(named).collect()
    }

    #[test]
    fn each_processor_has_its_order_and_all_suites() {
        use Cipher::{Aes128, Aes256, ChaCha20};
        for (fast, expected) in
            [(true, [Aes128, Aes256, ChaCha20]), (false, [ChaCha20, Aes128, Aes256])]
        {
            let new = expected.map(|cipher| (true, cipher));
            // One for each kind of certificate, ECDSA and RSA.
            let old = expected.map(|cipher| [(false, cipher); 2]);
            assert_eq!(order(fast), [&new[..], old.as_flattened()].concat(), "fast: {fast}");
            let all = rustls::crypto::ring::default_provider().cipher_suites;
            let ours = ordered(fast).cipher_suites;
            assert!(all.iter().all(|suite| ours.contains(suite)) && all.len() == ours.len());
        }
    }
}
