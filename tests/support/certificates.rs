//! Throw-away certificates for TLS tests.
#![allow(dead_code, reason = "each test file uses its own part")]

/// A certificate for `localhost` and 127.0.0.1 that signs itself, and its key: both PEM.
pub(crate) fn localhost() -> (String, String) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// An authority of the test's own.
pub(crate) struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    /// Its certificate, to be trusted.
    pub(crate) pem: String,
    /// Its key, for other tools.
    pub(crate) key_pem: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = authority_params(name);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self::of(params, key, pem)
    }

    fn of(params: rcgen::CertificateParams, key: rcgen::KeyPair, pem: String) -> Self {
        let key_pem = key.serialize_pem();
        Self { issuer: rcgen::Issuer::new(params, key), pem, key_pem }
    }

    /// An authority below this one, as `edit` makes it.
    pub(crate) fn delegate(&self, edit: impl FnOnce(&mut rcgen::CertificateParams)) -> Self {
        let mut params = authority_params("Below");
        edit(&mut params);
        let key = rcgen::KeyPair::generate().expect("a key");
        let pem = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Self::of(params, key, pem)
    }

    /// A certificate for `name`, valid in these years, and its key: both PEM.
    pub(crate) fn certify(&self, name: &str, years: std::ops::Range<i32>) -> (String, String) {
        self.certify_as(name, |params| {
            params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
            params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        })
    }

    /// A certificate for `name`, as `edit` makes it, and its key: both PEM.
    pub(crate) fn certify_as(
        &self,
        name: &str,
        edit: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> (String, String) {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
        edit(&mut params);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

fn authority_params(name: &str) -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params
}
