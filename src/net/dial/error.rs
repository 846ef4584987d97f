//! Why there is no connection to the service, and why an address was not enough.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::net::proxy::{self, Proxy};
use crate::net::tls_words;
use crate::net::upgrade::Refusal;

/// Why there is no tunnel through a proxy.
#[derive(Debug)]
pub enum ProxyFault {
    /// No address of it accepted; the last one's error.
    Unreachable(io::Error),
    /// TLS to the proxy itself failed.
    Tls(rustls::Error),
    /// It closed the connection without an answer.
    Broken(io::Error),
    /// It did not answer in so many seconds.
    Silent(u64),
    /// It refused, and shows these words.
    Refused(proxy::Refusal),
    /// Its answer made no sense.
    Invalid(&'static str),
}

/// Why there is no connection.
#[derive(Debug)]
pub enum DialError {
    /// The proxy is not there, or opens no tunnel.
    Proxy(Box<Proxy>, ProxyFault),
    /// No address accepted; the last one's error.
    Connect(io::Error),
    /// TLS failed: certificate, version, clock.
    Tls(rustls::Error),
    /// The connection broke before the upgrade was answered.
    Broken(io::Error),
    /// Nothing came in time; the text names the step.
    Timeout(&'static str),
    /// The answer was no upgrade: status, and the body's beginning.
    Refused(Refusal, String),
    /// The answer made no sense.
    Invalid(&'static str),
    /// Our own side could not even try.
    Internal(String),
}

impl DialError {
    /// Whether the service does not know the credential.
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Refused(refusal, _) if refusal.status == 401)
    }

    /// Whether it may be that the service is not at the address; a refusal is the service's own.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Tls(_) | Self::Broken(_) | Self::Timeout(_) => true,
            Self::Proxy(_, fault) => {
                !matches!(fault, ProxyFault::Refused(_) | ProxyFault::Invalid(_))
            }
            Self::Refused(..) | Self::Invalid(_) | Self::Internal(_) => false,
        }
    }

    /// How much it says: what got further says more of what is wrong.
    pub(super) fn reach(&self) -> u8 {
        match self {
            Self::Connect(_) | Self::Proxy(_, ProxyFault::Unreachable(_)) => 0,
            Self::Broken(_) | Self::Proxy(_, ProxyFault::Broken(_)) => 1,
            Self::Timeout(_) | Self::Proxy(_, ProxyFault::Silent(_)) => 2,
            Self::Tls(_) | Self::Proxy(_, ProxyFault::Tls(_)) => 3,
            Self::Proxy(..) | Self::Refused(..) | Self::Invalid(_) | Self::Internal(_) => 4,
        }
    }
}

/// An address that was given up, or is so late that the next one is tried beside it. It displays as a
/// clause for the log.
#[derive(Debug)]
pub struct Setback {
    address: SocketAddr,
    why: String,
}

impl Setback {
    pub(super) fn new(address: SocketAddr, error: &DialError) -> Self {
        let why = match error {
            DialError::Connect(error) | DialError::Proxy(_, ProxyFault::Unreachable(error)) => {
                format!("cannot be reached ({error})")
            }
            DialError::Timeout(step) => format!("did not finish {step} in time"),
            DialError::Tls(error) | DialError::Proxy(_, ProxyFault::Tls(error)) => tls_fault(error),
            DialError::Broken(error) | DialError::Proxy(_, ProxyFault::Broken(error)) => {
                format!("broke the connection before it answered ({error})")
            }
            DialError::Proxy(_, ProxyFault::Silent(_)) => "opened no tunnel in time".to_owned(),
            // These end the dial, so no address follows.
            DialError::Proxy(..)
            | DialError::Refused(..)
            | DialError::Invalid(_)
            | DialError::Internal(_) => "did not work".to_owned(),
        };
        Self { address, why }
    }
}

fn tls_fault(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(fault) => {
            format!("is not trusted: {}", tls_words::certificate_fault(fault))
        }
        error => format!("failed in TLS ({error})"),
    }
}

impl fmt::Display for Setback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}; the next address is tried", self.address, self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_answers_is_no_absence() {
        let is_absence = |fault| {
            let proxy = Proxy::parse("http://p", "HTTPS_PROXY").expect("an address");
            DialError::Proxy(Box::new(proxy), fault).is_absence()
        };
        assert!(is_absence(ProxyFault::Silent(8)));
        assert!(is_absence(ProxyFault::Broken(io::ErrorKind::UnexpectedEof.into())));
        assert!(!is_absence(ProxyFault::Invalid("its answer makes no sense")));
    }

    #[test]
    fn a_setback_tells_why_tls_failed() {
        let address = SocketAddr::from(([127, 0, 0, 1], 443));
        let told = |error| Setback::new(address, &DialError::Tls(error)).to_string();
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        let words = told(expired);
        assert!(words.starts_with("127.0.0.1:443 is not trusted: "), "{words}");
        assert!(words.contains("expired"), "{words}");
        let words = told(rustls::Error::HandshakeNotComplete);
        assert!(words.starts_with("127.0.0.1:443 failed in TLS (handshake"), "{words}");
    }
}
