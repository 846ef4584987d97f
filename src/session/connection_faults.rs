//! What a failed service connection means, in words that say what to fix.
//!
//! Each fault has a word for machines, which never changes for one cause, a sentence for people, and
//! whether another try may help. Clients call again by the last one: a fault that no try mends, such as
//! a wrong key, must never say so, or every page would knock at the service for ever.

use std::time::Duration;

use super::service_words::{Words, quote};
use crate::call::ending::ServiceFault;
use crate::net::dial::{DialError, ProxyFault, Target};
use crate::net::proxy::{self, Proxy};
use crate::net::tls_words;
use crate::net::upgrade::Refusal;
use crate::net::ws::WsError;

/// Turns a failed attempt to reach `target` into a fault for the call, the log and `check`.
#[must_use]
pub fn explain(error: &DialError, target: &Target) -> ServiceFault {
    let host = &target.host;
    match error {
        DialError::Connect(error) => fault(
            "unreachable",
            format!(
                "The voice service {host} cannot be reached ({error}). Check the network and AZURE_VOICE_LIVE_ENDPOINT."
            ),
            true,
        ),
        DialError::Proxy(proxy, fault) => through(proxy, fault, host),
        DialError::Tls(error) => tls(error, host),
        DialError::Broken(error) => fault(
            "unreachable",
            format!(
                "The connection to {host} broke before the service answered ({error}). Try again."
            ),
            true,
        ),
        DialError::Timeout(step) => fault(
            "unreachable",
            format!("{host} did not finish {step} in time. Check the network and try again."),
            true,
        ),
        DialError::Refused(refusal, body) => refused(refusal, body, target),
        DialError::Invalid(what) => fault(
            "bad_answer",
            format!(
                "{host} does not answer like a voice service: {what}. Check AZURE_VOICE_LIVE_ENDPOINT."
            ),
            false,
        ),
        DialError::Internal(what) => {
            fault("internal", format!("The connection could not be tried: {what}."), false)
        }
    }
}

/// A connection that was open is at its end.
pub(super) fn of(error: &WsError) -> ServiceFault {
    match error {
        WsError::Closed => closed(None, ""),
        WsError::Lost(error) => lost(error),
        WsError::Violation { what, .. } => violation(what),
        WsError::Full => lost(&"it takes nothing"),
    }
}

/// The name look-up failed.
#[must_use]
pub fn unresolved(host: &str, why: &str) -> ServiceFault {
    fault(
        "unreachable",
        format!(
            "The name {host} could not be looked up: {why}. Check the network, the DNS and AZURE_VOICE_LIVE_ENDPOINT."
        ),
        true,
    )
}

/// No token came in time. The fetch has its own words in the log.
#[must_use]
pub fn token_late(seconds: u64) -> ServiceFault {
    let message = format!(
        "No token of Entra ID came in {seconds} seconds. The log of the daemon says what it waits for."
    );
    fault("sign_in", message, true)
}

/// There is no token. `source` is where it should come from, and `why` follows a colon.
#[must_use]
pub fn no_token(source: &dyn std::fmt::Display, why: &str) -> ServiceFault {
    fault("sign_in", format!("There is no token of {source}: {why}."), true)
}

/// The look-up of the proxy's name failed.
#[must_use]
pub fn proxy_unresolved(proxy: &Proxy, why: &str) -> ServiceFault {
    fault(
        "proxy",
        format!(
            "The name of the proxy {proxy} could not be looked up: {why}. Check the network, the DNS and {}.",
            proxy.variable
        ),
        true,
    )
}

/// No tunnel through the proxy to `host`. Its credentials are in no sentence.
fn through(proxy: &Proxy, why: &ProxyFault, host: &str) -> ServiceFault {
    let variable = &proxy.variable;
    let (what, retryable) = match why {
        ProxyFault::Unreachable(error) => {
            let assumed = if proxy.port_assumed {
                format!(" It names no port, so {} was tried.", proxy.port)
            } else {
                String::new()
            };
            (
                format!("cannot be reached ({error}). Check the network and {variable}.{assumed}"),
                true,
            )
        }
        ProxyFault::Tls(rustls::Error::InvalidMessage(_)) => (
            format!(
                "does not speak TLS on this port. If it is a plain one, write http:// in {variable}."
            ),
            false,
        ),
        ProxyFault::Tls(rustls::Error::InvalidCertificate(error)) => (
            format!(
                "is not trusted: {}. If its authority is your own, name it in VOICELIVED_UPSTREAM_CA_FILE.",
                tls_words::certificate_fault(error)
            ),
            false,
        ),
        ProxyFault::Tls(error) => (format!("failed in TLS ({error})."), false),
        ProxyFault::Broken(error) => {
            (format!("closed the connection without an answer ({error})."), true)
        }
        ProxyFault::Silent(seconds) => (
            format!(
                "took the connection and said nothing for {seconds} seconds. Check {variable}."
            ),
            true,
        ),
        ProxyFault::Invalid(what) => {
            (format!("does not answer like an HTTP proxy: {what}. Check {variable}."), false)
        }
        ProxyFault::Refused(refusal) => proxy_refused(proxy, refusal, host),
    };
    fault("proxy", format!("The proxy {proxy} {what}"), retryable)
}

fn proxy_refused(proxy: &Proxy, refusal: &proxy::Refusal, host: &str) -> (String, bool) {
    let variable = &proxy.variable;
    let said = format!("{} {}", refusal.status, refusal.reason);
    let said = said.trim_end();
    let scheme = |challenge: &String| challenge.split(' ').next().unwrap_or_default().to_owned();
    let offers: Vec<_> = refusal.challenges.iter().map(scheme).collect();
    let basic = offers.iter().any(|offer| offer.eq_ignore_ascii_case("basic"));
    match refusal.status {
        401 | 407 if !basic && !offers.is_empty() => (
            format!(
                "wants a login ({said}) and offers only {}, which voicelived does not speak. A helper on this device, such as cntlm or px, can log in for it.",
                offers.join(", ")
            ),
            false,
        ),
        401 | 407 if proxy.logs_in() => {
            (format!("does not accept the user name and password in {variable} ({said})."), false)
        }
        401 | 407 => (
            format!(
                "wants a user name and a password ({said}). Write http://USER:PASSWORD@HOST:PORT in {variable}."
            ),
            false,
        ),
        403 => (
            format!(
                "does not allow a connection to {host} ({said}). Its administrator must allow it, or NO_PROXY must name {host}."
            ),
            false,
        ),
        502..=504 => (
            format!(
                "has no way to {host} ({said}). Check AZURE_VOICE_LIVE_ENDPOINT, and the proxy's own network and DNS."
            ),
            true,
        ),
        status => (
            format!("opens no tunnel to {host} ({said}). Check {variable}."),
            status == 429 || status >= 500,
        ),
    }
}

/// Whether the service closed because its session has lasted as long as it may: no fault.
#[must_use]
pub fn is_expiry(code: Option<u16>, reason: &str) -> bool {
    code == Some(1001) && (reason.contains("duration") || reason.contains("expired"))
}

/// The open connection closed. 1000 and 1001 look like a clean end elsewhere; here any close that
/// the call did not ask for is told.
#[must_use]
pub fn closed(code: Option<u16>, reason: &str) -> ServiceFault {
    let quoted = quote(reason);
    let said = if quoted.is_empty() { String::new() } else { format!(" It said: {quoted}") };
    match code {
        Some(1008) => fault("refused", format!("The voice service refused to go on.{said}"), false),
        Some(1003 | 1007) => {
            fault("refused", format!("The voice service could not read a message.{said}"), false)
        }
        Some(1009) => {
            fault("refused", format!("The voice service found a message too large.{said}"), false)
        }
        Some(code) => fault(
            "service_closed",
            format!("The voice service closed the connection (code {code}).{said}"),
            true,
        ),
        None => {
            fault("service_closed", format!("The voice service closed the connection.{said}"), true)
        }
    }
}

/// The open connection broke.
#[must_use]
pub fn lost(why: &dyn std::fmt::Display) -> ServiceFault {
    fault("service_lost", format!("The connection to the voice service was lost ({why})."), true)
}

/// The service broke the WebSocket protocol or sent what no client can read.
#[must_use]
pub fn violation(what: &str) -> ServiceFault {
    // What is quoted may be a sentence of its own.
    let what = what.trim_end_matches('.');
    fault(
        "service_protocol",
        format!("The voice service sent something unreadable: {what}."),
        false,
    )
}

fn fault(word: &'static str, message: String, retryable: bool) -> ServiceFault {
    ServiceFault { word, message, retryable, retry_after: None }
}

fn tls(error: &rustls::Error, host: &str) -> ServiceFault {
    use rustls::CertificateError as Certificate;
    let message = match error {
        rustls::Error::InvalidCertificate(
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. },
        ) => {
            format!(
                "The certificate of {host} is not valid yet by this device's clock. Set the clock (a device without a clock battery needs the network's time)."
            )
        }
        rustls::Error::InvalidCertificate(
            Certificate::Expired | Certificate::ExpiredContext { .. },
        ) => {
            format!(
                "The certificate of {host} has expired by this device's clock. Check the clock first."
            )
        }
        // A bad signature: an authority of the same name as one we know, but not that one.
        rustls::Error::InvalidCertificate(
            Certificate::UnknownIssuer | Certificate::BadSignature,
        ) => {
            format!(
                "The certificate of {host} comes from an unknown authority. If a proxy or a simulator of yours answers there, name its authority in VOICELIVED_UPSTREAM_CA_FILE."
            )
        }
        rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => {
            format!(
                "The server that answers is not {host}: its certificate names others. Check AZURE_VOICE_LIVE_ENDPOINT."
            )
        }
        rustls::Error::InvalidMessage(_) => {
            format!("{host} does not speak TLS on this port. Check AZURE_VOICE_LIVE_ENDPOINT.")
        }
        rustls::Error::InvalidCertificate(other) => {
            format!("The answer of {host} is not trusted: {}.", tls_words::certificate_fault(other))
        }
        other => format!("The secure connection to {host} failed ({other})."),
    };
    fault("tls", message, false)
}

/// What a token of Entra ID needs at the resource.
const ROLES: &str = "With Entra ID the identity needs the roles Cognitive Services User and Foundry User on this resource (new roles take some minutes), the resource's own endpoint, and its tenant.";

/// What an agent needs in place of what a model needs.
const AGENT: &str = "Check AZURE_VOICE_LIVE_AGENT_NAME, AZURE_VOICE_LIVE_PROJECT_NAME and AZURE_VOICE_LIVE_ENDPOINT.";
const AGENT_LOGIN: &str = "An agent is meant for Entra ID in place of a key: set AZURE_VOICE_LIVE_TOKEN_COMMAND or another login of it.";

fn refused(refusal: &Refusal, body: &str, target: &Target) -> ServiceFault {
    let (host, entra) = (&target.host, target.shows_token());
    let is_agent = target.request_target.contains("&agent-");
    let quoted = quote(&Words::of_body(body).message);
    let said = if quoted.is_empty() { String::new() } else { format!(" It said: {quoted}") };
    let id = refusal.request_id.as_deref().map(quote).unwrap_or_default();
    let id = if id.is_empty() { id } else { format!(" (request {id})") };
    let (word, advice, retryable) = match refusal.status {
        400 if is_agent => ("bad_request", AGENT.to_owned(), false),
        404 if is_agent => ("not_found", AGENT.to_owned(), false),
        401 if is_agent && !entra => ("unauthorized", AGENT_LOGIN.to_owned(), false),
        403 if is_agent && !entra => ("forbidden", AGENT_LOGIN.to_owned(), false),
        400 => ("bad_request", "Check VOICE_LIVE_MODEL and AZURE_VOICE_LIVE_API_VERSION.".to_owned(), false),
        401 if entra => ("unauthorized", ROLES.to_owned(), false),
        403 if entra => ("forbidden", format!("{ROLES} Check its network rules too."), false),
        401 => ("unauthorized", "Check that AZURE_VOICE_LIVE_API_KEY is a key of this very resource and region.".to_owned(), false),
        403 => ("forbidden", "Check the resource's network rules and roles, and that key authentication is switched on.".to_owned(), false),
        404 => ("not_found", "Check AZURE_VOICE_LIVE_ENDPOINT, and that VOICE_LIVE_MODEL exists in the resource's region.".to_owned(), false),
        408 => ("service_trouble", "The service took too long. Try again later.".to_owned(), true),
        429 => ("quota", quota_advice(refusal.retry_after), true),
        300..=399 => ("redirect", "It points elsewhere; redirects are not followed, so that the key goes nowhere else. Check AZURE_VOICE_LIVE_ENDPOINT.".to_owned(), false),
        500..=599 => ("service_trouble", "The service has trouble. Try again later.".to_owned(), true),
        _ => ("refused", "Check AZURE_VOICE_LIVE_ENDPOINT.".to_owned(), false),
    };
    let message = format!("{host} answered {}{id}. {advice}{said}", refusal.status);
    let wait = refusal.retry_after.map(|seconds| Duration::from_secs(u64::from(seconds)));
    ServiceFault { retry_after: wait.filter(|_| retryable), ..fault(word, message, retryable) }
}

fn quota_advice(retry_after: Option<u32>) -> String {
    let when = retry_after
        .map_or_else(|| "in a minute".to_owned(), |seconds| format!("in {seconds} seconds"));
    format!("The resource's quota of calls or tokens is used up. Try again {when}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(credential: &str) -> Target {
        Target {
            host: "x.example".to_owned(),
            port: 443,
            request_target: "/".to_owned(),
            host_field: "x.example".to_owned(),
            credential: credential.to_owned(),
            tls: None,
            proxy: None,
        }
    }

    fn of_status(status: u16, body: &str) -> ServiceFault {
        let refusal = Refusal { status, retry_after: Some(7), ..Refusal::default() };
        explain(&DialError::Refused(refusal, body.to_owned()), &target("api-key: k"))
    }

    #[test]
    fn both_roles_are_named_where_a_token_is_refused() {
        for status in [401, 403] {
            let refusal = Refusal { status, ..Refusal::default() };
            let error = DialError::Refused(refusal, String::new());
            let message = explain(&error, &target("Authorization: Bearer t")).message;
            for role in ["Cognitive Services User", "Foundry User"] {
                assert!(message.contains(role) && !message.contains("API_KEY"), "{message}");
            }
        }
    }

    #[test]
    fn each_status_says_what_to_fix() {
        for (status, word, hint) in [
            (400, "bad_request", "VOICE_LIVE_MODEL"),
            (401, "unauthorized", "AZURE_VOICE_LIVE_API_KEY"),
            (403, "forbidden", "network rules"),
            (404, "not_found", "region"),
            (429, "quota", "in 7 seconds"),
            (302, "redirect", "not followed"),
            (503, "service_trouble", "later"),
        ] {
            let fault = of_status(status, "");
            assert_eq!(fault.word, word);
            assert!(fault.message.contains(hint), "{}", fault.message);
        }
    }

    /// A model's settings are nothing that an agent has.
    #[test]
    fn where_an_agent_is_refused_its_own_settings_are_named() {
        for (status, credential, hint) in [
            (400, "api-key: k", AGENT),
            (404, "api-key: k", AGENT),
            (401, "api-key: k", AGENT_LOGIN),
            (403, "api-key: k", AGENT_LOGIN),
            (404, "Authorization: Bearer t", AGENT),
            (401, "Authorization: Bearer t", ROLES),
        ] {
            let request_target = "/?api-version=1&agent-name=a".to_owned();
            let target = Target { request_target, ..target(credential) };
            let error = DialError::Refused(Refusal { status, ..Refusal::default() }, String::new());
            let message = explain(&error, &target).message;
            assert!(message.contains(hint), "{status}, {credential}: {message}");
        }
    }

    /// A refusal that stays is not asked for again, and only a refusal that passes has a time to wait.
    #[test]
    fn what_passes_by_itself_is_tried_again_after_the_time_that_the_service_names() {
        let wait = Some(Duration::from_secs(7));
        for status in [408, 429, 500, 502, 503, 504] {
            let fault = of_status(status, "");
            assert_eq!((fault.retryable, fault.retry_after), (true, wait), "{status}");
        }
        for status in [302, 400, 401, 403, 404, 410] {
            let fault = of_status(status, "");
            assert_eq!((fault.retryable, fault.retry_after), (false, None), "{status}");
        }
    }

    #[test]
    fn only_a_close_that_finds_fault_with_what_was_sent_is_final() {
        for code in [None, Some(1000), Some(1001), Some(1006), Some(1011), Some(1012), Some(1013)] {
            assert!(closed(code, "").retryable, "{code:?}");
        }
        for code in [1003, 1007, 1008, 1009] {
            assert!(!closed(Some(code), "").retryable, "{code}");
        }
        assert!(lost(&"a reset").retryable);
    }

    #[test]
    fn the_services_words_are_quoted_on_one_line_and_bounded() {
        let body =
            format!(r#"{{"error":{{"code":"401","message":"no\r\nX: y{}"}}}}"#, "z".repeat(999));
        let message = of_status(401, &body).message;
        assert!(message.contains("It said: no  X: y"), "{message}");
        assert!(message.len() < 600 && !message.contains('\n'));
        assert!(!of_status(401, "<html>secret</html>").message.contains("html"));
    }

    #[test]
    fn a_proxy_is_tried_again_where_its_refusal_may_pass() {
        let proxy = Proxy::parse("http://p", "HTTPS_PROXY").expect("an address");
        let is_retryable = |status| {
            let refusal = proxy::Refusal { status, reason: String::new(), challenges: Vec::new() };
            proxy_refused(&proxy, &refusal, "h").1
        };
        for status in [429, 500, 502, 599] {
            assert!(is_retryable(status), "{status}");
        }
        for status in [400, 403, 407, 428, 430, 499] {
            assert!(!is_retryable(status), "{status}");
        }
    }

    #[test]
    fn only_a_session_at_its_longest_has_expired() {
        assert!(is_expiry(Some(1001), "Session hit the maximum duration of 60 minutes."));
        assert!(is_expiry(Some(1001), "session expired"));
        for (code, reason) in [(Some(1001), "going away"), (Some(1011), "expired"), (None, "")] {
            assert!(!is_expiry(code, reason), "{code:?} {reason}");
        }
    }

    #[test]
    fn a_wrong_clock_is_named() {
        let error = rustls::Error::InvalidCertificate(rustls::CertificateError::NotValidYet);
        assert!(explain(&DialError::Tls(error), &target("")).message.contains("clock"));
    }
}
