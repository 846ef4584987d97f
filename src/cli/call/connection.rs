//! The connection of a `call` to its daemon: which authorities it trusts, whether the access token may
//! travel, and what a failure means.

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

use rustls::pki_types::CertificateDer;

use crate::cli::args::CallArgs;
use crate::cli::drive::{self, Drive};
use crate::cli::exit::{self, Failure};
use crate::cli::screen::plain;
use crate::config::{Endpoint, Secret};
use crate::net::dial::{DialError, Target};
use crate::net::ws::{Sizes, USUAL_WAITING};
use crate::net::{tls, tls_words};
use crate::system::files;

/// Longest file of authorities, in bytes.
const MAX_PEM: usize = 1024 * 1024;

/// Bounds, in bytes. The daemon's longest message is a transcript of 64 KiB.
const SIZES: Sizes = Sizes { message: 1024 * 1024, waiting: USUAL_WAITING };

/// The certificates of `--ca`.
///
/// # Errors
/// [`Failure`], when the file cannot be read or holds no certificates.
pub(super) fn authorities(path: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let pem = files::read(path, MAX_PEM)
        .map_err(|error| (exit::NO_INPUT, format!("{path:?}: {error}")))?;
    tls::certificates(&pem).map_err(|error| (exit::DATA, format!("{path:?}: {error}")))
}

/// Where the daemon is, and what it and we show each other.
pub(super) struct Way<'a> {
    pub(super) args: &'a CallArgs,
    pub(super) token: Option<Secret>,
    pub(super) authorities: Vec<CertificateDer<'static>>,
}

/// Connects to the daemon. `query` is added to the address's own.
///
/// # Errors
/// [`Failure`]: no daemon, a refusal, or a token that would leave this machine unencrypted.
pub(super) fn connect(way: &Way<'_>, query: &str) -> Result<Drive, Failure> {
    let Way { args, token, authorities } = way;
    let (url, token) = (&args.url, token.as_ref());
    let unreachable = |text: String| (exit::UNAVAILABLE, text);
    let addresses = drive::look_up(&url.host, url.port).map_err(|error| {
        unreachable(format!("the name {} could not be looked up: {error}", url.host))
    })?;
    if token.is_some() && !args.unencrypted_token {
        keep_token_safe(url, &addresses)?;
    }
    let target = target(url, query, token, authorities).map_err(unreachable)?;
    Drive::connect(target, addresses, String::new(), SIZES, |_| {})
        .map_err(|error| unreachable(explain(&error, url)))
}

/// Refuses to send the token to another machine unencrypted: every machine on the path could read it.
/// The addresses decide whether it is another machine, not the spelling of its name.
fn keep_token_safe(url: &Endpoint, addresses: &[SocketAddr]) -> Result<(), Failure> {
    let stays_here = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
    if url.tls || addresses.iter().all(stays_here) {
        return Ok(());
    }
    let host = url.authority();
    Err((
        exit::USAGE,
        format!(
            "ws://{host} would carry the access token through the network unencrypted; use wss:// \
             (the daemon's HTTPS port), or say --send-token-unencrypted"
        ),
    ))
}

fn target(
    url: &Endpoint,
    query: &str,
    token: Option<&Secret>,
    authorities: &[CertificateDer<'static>],
) -> Result<Rc<Target>, String> {
    let mark = if url.path_and_query.contains('?') { '&' } else { '?' };
    let tls = if url.tls { Some(tls::client_config(authorities)?) } else { None };
    Ok(Rc::new(Target {
        host: url.host.clone(),
        port: url.port,
        request_target: format!("{}{mark}{query}", url.path_and_query),
        host_field: url.authority(),
        credential: token
            .map_or_else(String::new, |token| format!("Authorization: Bearer {}", token.expose())),
        tls,
        proxy: None,
    }))
}

/// Says what a failed connection to a daemon means. The query is left out, because it may hold a secret.
fn explain(error: &DialError, url: &Endpoint) -> String {
    let scheme = if url.tls { "wss" } else { "ws" };
    let daemon = format!("{scheme}://{}", url.authority());
    match error {
        DialError::Connect(error) => format!(
            "no daemon answers at {daemon} ({error}); start one with voicelived run, or name \
             another with --url"
        ),
        DialError::Tls(rustls::Error::InvalidCertificate(fault)) => format!(
            "{daemon} is not trusted: {}; --ca FILE names an authority to trust, such as the \
             daemon's ca.pem",
            tls_words::certificate_fault(fault)
        ),
        DialError::Tls(error) => format!("the secure connection to {daemon} failed: {error}"),
        DialError::Broken(error) => {
            format!("{daemon} ended the connection ({error}); does it need ws:// or wss://?")
        }
        DialError::Timeout(step) => format!("{daemon} did not finish {step} in time"),
        DialError::Refused(refusal, body) => {
            // An error page in HTML is for browsers, so it is not shown.
            let is_page = body.trim_start().starts_with('<') || refusal.status < 300;
            let said: String = plain(if is_page { "" } else { body }).chars().take(200).collect();
            let said = if said.is_empty() { said } else { format!(": {said}") };
            let status = refusal.status;
            let hint = match status {
                200..=299 => "; that is a web page, and the path of calls is usually /ws",
                401 => "; put the right access token into VOICELIVED_ACCESS_TOKEN or --token-file",
                404 => "; the path is usually /ws",
                _ => "",
            };
            format!("{daemon} refused the call with status {status}{hint}{said}")
        }
        DialError::Invalid(what) => format!("{daemon} does not answer as a daemon: {what}"),
        // It never asks for a proxy.
        DialError::Proxy(proxy, _) => format!("the proxy {proxy} opens no way"),
        DialError::Internal(what) => format!("the connection could not be tried: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_connection_is_one_line_without_the_query() {
        let url = Endpoint::exact("ws://127.0.0.1:1/ws?token=canary").unwrap();
        let refusal = crate::net::upgrade::Refusal { status: 404, ..Default::default() };
        let page = crate::net::upgrade::Refusal { status: 200, ..Default::default() };
        for error in [
            DialError::Connect(std::io::ErrorKind::ConnectionRefused.into()),
            DialError::Refused(refusal, "Not\r\nhere\u{1b}".to_owned()),
            DialError::Refused(page, "\n<!doctype html>".to_owned()),
            DialError::Invalid("the answer is not HTTP"),
        ] {
            let text = explain(&error, &url);
            assert!(text.contains("ws://127.0.0.1:1") && !text.contains("canary"), "{text}");
            assert!(!text.contains(char::is_control) && !text.contains('<'), "{text}");
        }
    }

    #[test]
    fn a_token_leaves_this_machine_encrypted_only() {
        let allowed = |url: &str, addresses: &[&str]| {
            let addresses: Vec<_> = addresses.iter().map(|at| at.parse().unwrap()).collect();
            keep_token_safe(&Endpoint::exact(url).unwrap(), &addresses).is_ok()
        };
        assert!(allowed("ws://localhost:8000/ws", &["127.0.0.1:8000", "[::1]:8000"]));
        assert!(allowed("ws://[::ffff:127.0.0.1]:1/ws", &["[::ffff:127.0.0.1]:1"]));
        assert!(allowed("wss://pi.local/ws", &["192.0.2.7:443"]));
        assert!(!allowed("ws://pi.local/ws", &["192.0.2.7:80"]));
        assert!(!allowed("ws://pi.local/ws", &["127.0.0.1:80", "192.0.2.7:80"]));
    }
}
