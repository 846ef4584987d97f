//! An authority for one run, and the certificate that the stand-in and a relay's HTTPS have of it.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Writes `ca.pem`, `cert.pem` and `key.pem` into the folder.
pub(crate) fn make(folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(rcgen::DnType::CommonName, "Load bench");
    let key = rcgen::KeyPair::generate()?;
    fs::write(folder.join("ca.pem"), params.self_signed(&key)?.pem())?;
    let issuer = rcgen::Issuer::new(params, key);
    let mut leaf =
        rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    leaf.use_authority_key_identifier_extension = true;
    let key = rcgen::KeyPair::generate()?;
    fs::write(folder.join("cert.pem"), leaf.signed_by(&key, &issuer)?.pem())?;
    fs::write(folder.join("key.pem"), key.serialize_pem())?;
    Ok(())
}

/// What the stand-in serves with.
pub(crate) fn server(folder: &Path) -> Result<Arc<ServerConfig>, Box<dyn Error>> {
    let chain = vec![CertificateDer::from_pem_file(folder.join("cert.pem"))?];
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem"))?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

/// What a client of a relay's HTTPS asks with; each handshake is a whole one.
pub(crate) fn client(folder: &Path) -> Result<Arc<ClientConfig>, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem"))?)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
