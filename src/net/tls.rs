//! TLS configurations, built at the start and when what they are made of changes. Certificates are always checked.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::{suites, tls_words};

/// The client side towards the service: Mozilla's roots (webpki-roots) and, if given, further
/// trust anchors (`VOICELIVED_UPSTREAM_CA_FILE`).
///
/// # Errors
/// A sentence, when one of them is not usable as a trust anchor.
pub fn client_config(extra_roots: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for certificate in extra_roots {
        roots.add(certificate.clone()).map_err(|error| match error {
            rustls::Error::InvalidCertificate(fault) => tls_words::certificate_fault(&fault),
            other => format!("a certificate cannot be trusted ({other})"),
        })?;
    }
    let mut config = ClientConfig::builder_with_provider(suites::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // The service speaks WebSocket over HTTP/1.1 only; a proxy that prefers h2 must not pick it.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The client side, made anew only when other authorities are trusted: it remembers the sessions, which
/// spare the next connection a full handshake.
#[derive(Debug, Default)]
pub struct ClientConfigs(RefCell<Option<CachedConfig>>);

/// What was trusted besides Mozilla's roots, and what was made of it.
type CachedConfig = (Vec<CertificateDer<'static>>, Arc<ClientConfig>);

impl ClientConfigs {
    /// As [`client_config`], the last one if it will do.
    ///
    /// # Errors
    /// As there.
    pub fn trusting(
        &self,
        extra_roots: &[CertificateDer<'static>],
    ) -> Result<Arc<ClientConfig>, String> {
        if let Some((trusted, config)) = &*self.0.borrow()
            && trusted == extra_roots
        {
            return Ok(Arc::clone(config));
        }
        let config = client_config(extra_roots)?;
        self.0.replace(Some((extra_roots.to_vec(), Arc::clone(&config))));
        Ok(config)
    }
}

/// The server side: PEM certificate chain (leaf first) and PEM private key.
///
/// # Errors
/// A sentence, when either is missing, unreadable, or they do not belong together.
pub fn server_config(chain: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, String> {
    let chain = certificates(chain)?;
    let key = private_key(key)?;
    let mut config = ServerConfig::builder_with_provider(suites::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| tls_words::own_certificate_fault(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // No suite that rustls has is weak; but scanners rightly ask that a client cannot choose. And this device has
    // to encrypt for all its clients, so its order counts: see `suites`.
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}

/// One connection to the service named `host` (a DNS name or an IP address).
///
/// # Errors
/// A sentence, when `host` cannot stand in a certificate.
pub fn client(config: &Arc<ClientConfig>, host: &str) -> Result<rustls::Connection, String> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| format!("{host} is no valid host name"))?;
    let connection =
        ClientConnection::new(Arc::clone(config), name).map_err(|error| error.to_string())?;
    Ok(connection.into())
}

/// One accepted connection.
///
/// # Errors
/// An [`io::Error`] when rustls refuses the configuration.
pub fn server(config: &Arc<ServerConfig>) -> io::Result<rustls::Connection> {
    let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    Ok(connection.into())
}

/// The certificates of a PEM file, in order.
///
/// # Errors
/// A sentence, when there is none or the text is no PEM.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let fault = |error: pem::Error| tls_words::pem_fault(&error, text, "certificate");
    match found {
        Ok(list) if list.is_empty() => Err(fault(pem::Error::NoItemsFound)),
        other => other.map_err(fault),
    }
}

/// The private key of a PEM file.
///
/// # Errors
/// A sentence, when there is none, or one with a password.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(text)
        .map_err(|error| tls_words::pem_fault(&error, text, "private key"))
}
