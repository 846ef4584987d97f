//! Throw-away certificates for TLS tests.

/// A certificate for `localhost` and 127.0.0.1 that signs itself, and its key: both PEM.
pub(crate) fn localhost() -> (String, String) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}
