//! What the TLS library and its PEM reader object to, in words that say what to mend. They name a
//! fault as a programmer would (`KeyMismatch`, `InvalidCharacter(45)`); an owner needs a remedy.
//!
//! Each text continues a sentence that has named the file or the peer.

use rustls::pki_types::pem;
use rustls::{CertificateError, Error, InconsistentKeys};

/// Why the PEM text `text` gave nothing of the `wanted` kind, such as `private key`.
#[must_use]
pub fn pem_fault(error: &pem::Error, text: &[u8], wanted: &str) -> String {
    let holds = |mark: &[u8]| text.windows(mark.len()).any(|part| part == mark);
    // Older tools mark the section's head, newer ones its first lines.
    if holds(b"ENCRYPTED") {
        return "the private key in it has a password, which nobody could type at each start; \
                take it off: openssl pkey -in KEY -out NEWKEY"
            .to_owned();
    }
    match error {
        pem::Error::NoItemsFound if holds(b"-----BEGIN ") => {
            format!("there is no {wanted} in it, but something else; is it the other file?")
        }
        pem::Error::NoItemsFound => {
            format!("there is no {wanted} in it; it must be PEM text with a line -----BEGIN …")
        }
        pem::Error::Base64Decode(_) => {
            format!("the {wanted} in it is damaged: its lines are not Base64; copy the file again")
        }
        pem::Error::MissingSectionEnd { .. } => {
            format!("the {wanted} in it has no end: the file was cut off; copy it again")
        }
        pem::Error::IllegalSectionStart { .. } => {
            "a line that begins with ----- is not a PEM line; copy the file again".to_owned()
        }
        _ => "it is too large, or it cannot be read as PEM text".to_owned(),
    }
}

/// Why a certificate and its key cannot serve.
#[must_use]
pub fn own_certificate_fault(error: &Error) -> String {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the key belongs to another certificate; name the key that this certificate was made \
             with"
                .to_owned()
        }
        Error::InvalidCertificate(fault) => certificate_fault(fault),
        Error::General(_) => {
            "the key is of a kind that is not supported; use an ECDSA key of curve P-256, an RSA \
             key or an Ed25519 key"
                .to_owned()
        }
        other => format!("they cannot be used together ({other})"),
    }
}

/// What is wrong with a certificate, of ours or of a peer.
#[must_use]
pub fn certificate_fault(fault: &CertificateError) -> String {
    let raw = match fault {
        CertificateError::Other(inner) => inner.to_string(),
        other => format!("{other:?}"),
    };
    // webpki's words come as text: its types are not part of rustls' promise.
    let known = [
        (
            "UnsupportedCertVersion",
            "the certificate has an old form (X.509 version 1), which browsers refuse too; make \
             one of version 3, with the host's name as subjectAltName",
        ),
        (
            "CaUsedAsEndEntity",
            "the certificate is an authority's own (CA:TRUE), and a server may not show that one, \
             even where it is trusted; make an authority and, signed by it, a certificate for the \
             server with basicConstraints=CA:FALSE and subjectAltName=DNS:HOST (docs/operations.md \
             has the commands, under Troubleshoot)",
        ),
        ("RequiredEkuNotFound", "the certificate is not made for servers (extendedKeyUsage)"),
        ("InvalidPurpose", "the certificate is not made for servers (extendedKeyUsage)"),
        ("NameConstraintViolation", "its authority may not vouch for this name (name constraints)"),
        ("PathLenConstraintViolated", "an authority on its way to the root may not sign another"),
        ("BadEncoding", "the certificate is damaged; copy it again"),
        ("BadDer", "the certificate is damaged; copy it again"),
        ("TrailingData", "the certificate is damaged; copy it again"),
        ("MalformedExtensions", "the certificate is damaged; copy it again"),
        ("UnknownIssuer", "the certificate comes from an authority that is not trusted here"),
        ("BadSignature", "the certificate comes from an authority that is not trusted here"),
        ("Revoked", "its authority has revoked the certificate"),
        ("NotValidYet", "the certificate is not valid yet by this device's clock"),
        ("Expired", "the certificate has expired by this device's clock"),
        ("NotValidForName", "the certificate names other hosts"),
        (
            "UnsupportedSignatureAlgorithm",
            "the certificate is signed in a way that is not supported (such as SHA-1)",
        ),
        ("UnhandledCriticalExtension", "the certificate demands something unknown"),
        ("UnsupportedCriticalExtension", "the certificate demands something unknown"),
    ];
    match known.iter().find(|(name, _)| raw.starts_with(name)) {
        Some((_, words)) => (*words).to_owned(),
        None => format!("the certificate cannot be used ({raw})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::{certificates, server_config};

    fn refused(chain: &str, key: &str) -> String {
        server_config(chain.as_bytes(), key.as_bytes()).map(drop).unwrap_err()
    }

    fn pair() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn what_owners_confuse_is_told_in_words() {
        let ((chain, key), (_, other)) = (pair(), pair());
        assert!(refused(&chain, &other).contains("belongs to another certificate"));
        assert!(refused(&chain, &chain).contains("is it the other file?"));
        assert!(refused(&key, &key).contains("is it the other file?"));
        assert!(refused(&chain, "").contains("no private key"));
        let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert!(refused(&chain, &locked).contains("openssl pkey"));
        // The older way of openssl: a head of lines with colons and hyphens.
        let head =
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: DES-EDE3-CBC,0\n\n";
        assert!(
            refused(&chain, &format!("{head}AAAA\n-----END RSA PRIVATE KEY-----\n"))
                .contains("password")
        );
        let cut = &key[..key.len() - 30];
        assert!(refused(&chain, cut).contains("cut off"), "{}", refused(&chain, cut));
        let damaged = key.replacen("\nM", "\n-", 1);
        assert!(refused(&chain, &damaged).contains("Base64"), "{}", refused(&chain, &damaged));
        assert!(certificates(b"\xff\xfe").unwrap_err().contains("-----BEGIN"));
    }

    #[test]
    fn no_name_of_the_library_is_left_where_words_are_known() {
        let other = |text: &'static str| {
            CertificateError::Other(rustls::OtherError(std::sync::Arc::new(std::io::Error::other(
                text,
            ))))
        };
        for fault in [
            other("UnsupportedCertVersion"),
            other("CaUsedAsEndEntity"),
            CertificateError::BadEncoding,
            CertificateError::UnknownIssuer,
            CertificateError::Expired,
            CertificateError::InvalidPurpose,
        ] {
            let words = certificate_fault(&fault);
            assert!(words.contains(' ') && !words.contains(&format!("{fault:?}")), "{words}");
        }
        assert!(certificate_fault(&other("Strange")).contains("(Strange)"));
    }
}
