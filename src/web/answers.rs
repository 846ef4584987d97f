//! The answers to a visitor's requests: what is served, under which conditions, and with which fields.

use std::time::{Duration, Instant};

use super::assets::{self, Asset};
use super::languages::trust_page;
use super::{CallSite, Join, JoinRequest, Phase, VisitContext};
use crate::access::{Gate, Verdict, token};
use crate::metrics::{Family, Metrics};
use crate::net::http::{self, Request, Status, Upgrade};
use crate::simulator::{self, Admission};

/// Fields of every answer: browsers shall not guess its type, pass its address on, or let other sites
/// load it.
const COMMON_FIELDS: &str = "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n";

/// Further fields of the page's files. In a frame the microphone needs the permission of the page around it, too.
const PAGE_FIELDS: &str = "Permissions-Policy: microphone=(self)\r\nCache-Control: no-cache\r\n\
    Vary: Accept-Encoding\r\n";

/// Field of the page's files over HTTPS (RFC 6797), see [`CallSite::is_lasting`].
const STAY_SECURE: &str = "Strict-Transport-Security: max-age=31536000\r\n";

/// Fields of a 401.
const ASK_FOR_TOKEN: &str = "WWW-Authenticate: Bearer\r\nCache-Control: no-store\r\n";

/// Answers a request to a listener that serves calls: the page, `/ws`, `/pair`, `/healthz`, `/metrics`,
/// and the local authority's root. `by_proxy` says that a trusted proxy has passed it on. The order of the checks matters: Host comes first, so a name that
/// was pointed at this device (DNS rebinding) gets nothing at all.
pub(super) fn answer_visitor(
    out: &mut Vec<u8>,
    request: &Request,
    site: &CallSite,
    by_proxy: bool,
    cx: &mut VisitContext<'_>,
) -> Phase {
    let CallSite { gate, simulated, https, ca_pem } = site;
    if !gate.admits_scheme(request.secure) || !gate.admits_host(&request.host) {
        cx.metrics.count(Family::Refused, "host");
        let text = "This name is not one of this device's own. If the device is reached by it, add it to VOICELIVED_NAMES. If it is that of a proxy, add its origin to VOICELIVED_ALLOWED_ORIGINS.";
        return plain(out, request, Status::MISDIRECTED_REQUEST, "", text);
    }
    let is_read = matches!(request.method.as_str(), "GET" | "HEAD");
    // A device that does not trust the local authority yet cannot use HTTPS. So it gets these without.
    match (request.path.as_str(), ca_pem) {
        ("/ca.pem", Some(pem)) if is_read => return answer_root(out, request, pem),
        (path, Some(_)) if is_read && (path.starts_with("/trust") || path == "/style.css") => {
            let asset = match path {
                "/trust" => trust_page(&request.languages),
                path => assets::find(path),
            };
            if let Some(asset) = asset {
                return answer_asset(out, request, asset, gate, "Vary: Accept-Language\r\n");
            }
        }
        _ => {}
    }
    // Behind a proxy the connection says nothing about the visitor's: the proxy may have taken off the TLS.
    if let Some(location) = https.and_then(|port| gate.elsewhere(&request.host, port))
        && !by_proxy
        && request.path != "*"
    {
        let extra = format!("Location: {location}{}\r\n", path_and_query(request));
        return plain(
            out,
            request,
            Status::PERMANENT_REDIRECT,
            &extra,
            "This device speaks HTTPS.",
        );
    }
    let trusts = ca_pem.is_some() && matches!(request.path.as_str(), "/ca.pem" | "/trust");
    let known =
        trusts || matches!(request.path.as_str(), "/ws" | "/pair" | "/healthz" | "/metrics" | "*");
    let asset = assets::find(&request.path);
    if !known && asset.is_none() {
        if is_read && let Some(location) = meant_fragment(request) {
            let extra = format!("Cache-Control: no-store\r\nLocation: {location}\r\n");
            let text = "The address has an escaped #.";
            return plain(out, request, Status::TEMPORARY_REDIRECT, &extra, text);
        }
        return plain(out, request, Status::NOT_FOUND, "", "There is nothing here.");
    }
    if !is_read {
        let allow = if request.path == "/ws" { "Allow: GET\r\n" } else { "Allow: GET, HEAD\r\n" };
        return plain(out, request, Status::METHOD_NOT_ALLOWED, allow, "Only GET is served.");
    }
    match (request.path.as_str(), asset) {
        ("/ws", _) => answer_call(out, request, gate, cx),
        ("/pair" | "/metrics", _) => match refuse_stranger(out, request, gate, cx) {
            Some(phase) => phase,
            None if request.path == "/pair" => answer_pairing(out, request, gate, cx),
            None => answer_metrics(out, request, cx),
        },
        ("/healthz", _) => {
            let service = if *simulated { "voicelived-service: simulator\r\n" } else { "" };
            // Browsers that have not been told to trust it may show the page and refuse its calls, so
            // the page leads to `/trust`.
            let own = if ca_pem.is_some() { "voicelived-certificate: local\r\n" } else { "" };
            let extra = format!("Cache-Control: no-store\r\n{service}{own}");
            let (status, text) = if cx.draining {
                (Status::SERVICE_UNAVAILABLE, "draining")
            } else if cx.unready {
                (Status::SERVICE_UNAVAILABLE, "not_configured")
            } else {
                (Status::OK, "ok")
            };
            plain(out, request, status, &extra, text)
        }
        (_, Some(asset)) => {
            let extra = if site.is_lasting(&request.host) { STAY_SECURE } else { "" };
            answer_asset(out, request, asset, gate, extra)
        }
        (_, None) => plain(out, request, Status::NOT_FOUND, "", "There is nothing here."),
    }
}

/// Answers with the local authority's root. Its media type makes phones offer to install it. As an
/// attachment they would only store it.
fn answer_root(out: &mut Vec<u8>, request: &Request, pem: &str) -> Phase {
    let extra = format!(
        "{COMMON_FIELDS}Content-Type: application/x-x509-ca-cert\r\nCache-Control: no-cache\r\n"
    );
    http::answer_head(out, Status::OK, &extra, Some(pem.len()), request.keep_alive);
    if request.method != "HEAD" {
        out.extend_from_slice(pem.as_bytes());
    }
    after(request)
}

/// The request's target as it was sent, without control characters: a line break in it could add a
/// field to the answer.
fn path_and_query(request: &Request) -> String {
    let query =
        if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
    format!("{}{query}", request.path).replace(|c: char| c.is_control(), "")
}

/// Where a page's address leads whose `#` somebody or something has escaped, such as a pairing link's on its way
/// through a chat or a QR code reader: to the page, with the rest behind a `#` again. Relative, since a proxy may serve
/// the page under a prefix.
fn meant_fragment(request: &Request) -> Option<String> {
    let target = path_and_query(request);
    let at = target.find('%')?;
    let (page, escaped) = target.split_at(at);
    assets::find(page).filter(|asset| asset.is_document())?;
    // Escaped once more by each program that it went through.
    let mut rest = &escaped[1..];
    while let Some(inner) = rest.strip_prefix("25") {
        rest = inner;
    }
    let fragment = rest.strip_prefix("23")?;
    let deeper = fragment.split('?').next().unwrap_or_default().matches('/').count();
    let up = if deeper == 0 { "./".to_owned() } else { "../".repeat(deeper) };
    Some(format!("{up}{}#{fragment}", page.trim_start_matches('/')))
}

/// Answers `/ws`: 101 for a client that may call, else the reason why it may not.
fn answer_call(
    out: &mut Vec<u8>,
    request: &Request,
    gate: &Gate,
    cx: &mut VisitContext<'_>,
) -> Phase {
    if request.method != "GET" {
        return plain(
            out,
            request,
            Status::METHOD_NOT_ALLOWED,
            "Allow: GET\r\n",
            "Calls are opened with GET.",
        );
    }
    if let Some(phase) = refuse_stranger(out, request, gate, cx) {
        return phase;
    }
    let asked = JoinRequest::of(request);
    if matches!(asked, JoinRequest::TakeUp(_))
        && let Some(wait) = cx.guard.secret_wait(cx.address, cx.now)
    {
        return slow_down(out, request, wait, "secrets of calls", cx.metrics);
    }
    cx.join = Join { credential: cx.guard.credential(&request.authorization), request: asked };
    if !cx.takes_calls && matches!(request.upgrade, Some(Upgrade::Valid { .. })) {
        cx.metrics.count(Family::Refused, "draining");
        let text = "The daemon is stopping.";
        return plain(out, request, Status::SERVICE_UNAVAILABLE, "Retry-After: 5\r\n", text);
    }
    answer_valid_upgrade(out, request)
}

/// Answers `/pair` for a browser that was admitted. It either showed the token and gets a cookie for
/// it, or it showed its cookie and gets it renewed. Where there are assistants, it is told which.
fn answer_pairing(
    out: &mut Vec<u8>,
    request: &Request,
    gate: &Gate,
    cx: &VisitContext<'_>,
) -> Phase {
    let cookie =
        if gate.admits_frames() { cx.guard.cookie_for_frames() } else { cx.guard.cookie() };
    let cookie = cookie.map(|value| format!("Set-Cookie: {value}\r\n"));
    let cookie = cookie.unwrap_or_default();
    let mut extra = format!("{COMMON_FIELDS}Cache-Control: no-store\r\n{cookie}");
    if cx.assistants.is_empty() {
        http::answer_head(out, Status::NO_CONTENT, &extra, None, request.keep_alive);
        return after(request);
    }
    extra.push_str("Content-Type: application/json\r\n");
    let text = cx.assistants;
    http::answer_head(out, Status::OK, &extra, Some(text.len()), request.keep_alive);
    if request.method != "HEAD" {
        out.extend_from_slice(text.as_bytes());
    }
    after(request)
}

/// Answers `/metrics`. The owner's monitoring shows the token like any other program.
fn answer_metrics(out: &mut Vec<u8>, request: &Request, cx: &mut VisitContext<'_>) -> Phase {
    let text = cx.metrics.render();
    let extra = format!(
        "{COMMON_FIELDS}Content-Type: text/plain; version=0.0.4; charset=utf-8\r\nCache-Control: no-store\r\n"
    );
    http::answer_head(out, Status::OK, &extra, Some(text.len()), request.keep_alive);
    if request.method != "HEAD" {
        out.extend_from_slice(text.as_bytes());
    }
    after(request)
}

/// Refuses a client that has no right to call; `None` if it has the right. No part of a call exists yet,
/// so a refused client costs nothing more.
fn refuse_stranger(
    out: &mut Vec<u8>,
    request: &Request,
    gate: &Gate,
    cx: &mut VisitContext<'_>,
) -> Option<Phase> {
    if !gate.admits_origin(&request.origins, &request.host) {
        cx.metrics.count(Family::Refused, "origin");
        let text = "Pages of this origin may not open calls. Add it to VOICELIVED_ALLOWED_ORIGINS.";
        return Some(plain(out, request, Status::FORBIDDEN, "", text));
    }
    let VisitContext { guard, metrics, address, now, .. } = cx;
    match guard.judge(*address, &request.authorization, &request.cookies, *now) {
        Verdict::Admitted => None,
        Verdict::Later(wait) => Some(slow_down(out, request, wait, "access tokens", metrics)),
        Verdict::Missing => {
            metrics.count(Family::Refused, "token_missing");
            let text = "This needs the access token: Authorization: Bearer TOKEN.";
            Some(plain(out, request, Status::UNAUTHORIZED, ASK_FOR_TOKEN, text))
        }
        Verdict::Wrong => {
            metrics.count(Family::Refused, "token_wrong");
            log::warn!("a wrong access token from {address}");
            // A browser would go on sending a cookie that is not right any more, and the throttle would
            // slow it down.
            let mut extra = format!("{ASK_FOR_TOKEN}Set-Cookie: {}\r\n", token::forget_cookie());
            if gate.admits_frames() {
                extra.push_str(&format!("Set-Cookie: {}\r\n", token::forget_cookie_of_frames()));
            }
            Some(plain(out, request, Status::UNAUTHORIZED, &extra, "The access token is wrong."))
        }
    }
}

/// Answers a client whose address has guessed too often.
fn slow_down(
    out: &mut Vec<u8>,
    request: &Request,
    wait: Duration,
    what: &str,
    metrics: &mut Metrics,
) -> Phase {
    metrics.count(Family::Refused, "throttled");
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let extra = format!("Cache-Control: no-store\r\nRetry-After: {seconds}\r\n");
    let text = format!("Too many wrong {what}. Try again in {seconds} seconds.");
    plain(out, request, Status::TOO_MANY_REQUESTS, &extra, &text)
}

/// The field of the page's files that says what they may load and who may frame them. `'self'` covers the page's own
/// WebSocket too (CSP level 3). `X-Frame-Options` is not sent: it knows no list, and browsers follow this one.
fn content_security_policy(gate: &Gate) -> String {
    let ancestors = gate.frame_ancestors();
    format!(
        "Content-Security-Policy: default-src 'self'; base-uri 'none'; frame-ancestors {ancestors}; \
         form-action 'none'\r\n"
    )
}

fn answer_asset(
    out: &mut Vec<u8>,
    request: &Request,
    asset: &Asset,
    gate: &Gate,
    extra: &str,
) -> Phase {
    let gzip = request.gzip && !asset.is_document();
    // The two encodings are two representations, so each has a strong tag of its own (RFC 9110,
    // section 8.8.3.3).
    let (length, encoding, tag) = if gzip {
        (asset.gzip.len(), "Content-Encoding: gzip\r\n", format!("\"{}-gz\"", asset.tag))
    } else {
        (asset.length, "", format!("\"{}\"", asset.tag))
    };
    let unchanged = request.if_none_match.split(',').map(str::trim).any(|known| {
        // The comparison is weak (RFC 9110, section 13.1.2).
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
    });
    let status = if unchanged { Status::NOT_MODIFIED } else { Status::OK };
    let policy = content_security_policy(gate);
    let extra = format!(
        "{COMMON_FIELDS}{policy}{PAGE_FIELDS}{extra}{encoding}ETag: {tag}\r\nContent-Type: {}\r\n",
        asset.media_type
    );
    let length = (!unchanged).then_some(length);
    http::answer_head(out, status, &extra, length, request.keep_alive);
    match (unchanged || request.method != "GET", gzip) {
        (true, _) => {}
        (false, true) => out.extend_from_slice(asset.gzip),
        (false, false) => out.extend_from_slice(&asset.plain()),
    }
    after(request)
}

/// Answers a request to the simulated service: 101, the service's refusal, or nothing (`silent`).
pub(super) fn answer_as_service(
    out: &mut Vec<u8>,
    request: &Request,
    options: &simulator::Options,
    admission: &mut Option<Admission>,
    now: Instant,
) -> Phase {
    if options.script.silent {
        return Phase::Silent;
    }
    if let Some(refusal) = simulator::refuse_while_down(options, now) {
        return refuse_as_service(out, &refusal);
    }
    let field = |name: &str| match name {
        "api-key" if !request.api_key.is_empty() => Some(request.api_key.as_str()),
        // An empty one has no token in it.
        "authorization" => Some(request.authorization.as_str()),
        _ => None,
    };
    let target = format!("{}?{}", request.path, request.query);
    match simulator::admit(options, &target, field) {
        Err(refusal) => refuse_as_service(out, &refusal),
        Ok(admitted) => {
            *admission = Some(admitted);
            answer_valid_upgrade(out, request)
        }
    }
}

fn refuse_as_service(out: &mut Vec<u8>, refusal: &simulator::Refusal) -> Phase {
    let mut extra = String::from("Content-Type: application/json\r\n");
    for (name, value) in &refusal.headers {
        extra.push_str(&format!("{name}: {value}\r\n"));
    }
    let status = Status(refusal.status, "Refused");
    http::answer_head(out, status, &extra, Some(refusal.body.len()), false);
    out.extend_from_slice(refusal.body.as_bytes());
    Phase::LastAnswer
}

fn answer_valid_upgrade(out: &mut Vec<u8>, request: &Request) -> Phase {
    match &request.upgrade {
        Some(Upgrade::Valid { key, protocol }) => {
            http::answer_upgrade(out, key, protocol.as_deref());
            Phase::Upgraded
        }
        Some(Upgrade::Invalid) => {
            plain(out, request, Status::BAD_REQUEST, "", "This is no valid WebSocket handshake.")
        }
        Some(Upgrade::Version) | None => {
            let extra =
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
            plain(out, request, Status::UPGRADE_REQUIRED, extra, "This is a WebSocket endpoint.")
        }
    }
}

fn plain(out: &mut Vec<u8>, request: &Request, status: Status, extra: &str, text: &str) -> Phase {
    let keep_alive = request.keep_alive && request.upgrade.is_none();
    text_head(out, status, extra, text, keep_alive);
    if request.method != "HEAD" {
        out.extend_from_slice(text.as_bytes());
    }
    if keep_alive { Phase::Answering } else { Phase::LastAnswer }
}

/// Writes the head of an answer with this text. The text itself does not follow after a HEAD request.
pub(super) fn text_head(
    out: &mut Vec<u8>,
    status: Status,
    extra: &str,
    text: &str,
    keep_alive: bool,
) {
    let extra = format!("{COMMON_FIELDS}Content-Type: text/plain; charset=utf-8\r\n{extra}");
    http::answer_head(out, status, &extra, Some(text.len()), keep_alive);
}

fn after(request: &Request) -> Phase {
    if request.keep_alive { Phase::Answering } else { Phase::LastAnswer }
}
