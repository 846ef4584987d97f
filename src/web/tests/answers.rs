//! What each request is answered, word for word where it matters. Pure: bytes in, bytes out.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use super::super::answers::{answer_as_service, answer_visitor};
use super::*;

const HOST: &str = "192.168.1.2:8000";
const ROOT: &str = "-----BEGIN CERTIFICATE-----\n";
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A device in a home, with an HTTPS listener beside the one that is asked.
struct Device {
    site: CallSite,
    guard: Guard,
    metrics: Metrics,
    draining: bool,
    unready: bool,
    now: Instant,
}

impl Device {
    fn new(https: Option<u16>, ca_pem: Option<&str>) -> Self {
        let gate = Gate::new(false, SocketAddr::from(([192, 168, 1, 2], 8000)), Vec::new());
        let site = CallSite { gate, simulated: false, https, ca_pem: ca_pem.map(Rc::from) };
        let (guard, metrics) = (Guard::new(Access::Open), Metrics::new());
        Self { site, guard, metrics, draining: false, unready: false, now: Instant::now() }
    }

    /// The answer to `METHOD PATH` with these fields, and the phase that follows.
    fn ask(&mut self, line: &str, fields: &str) -> (String, Phase) {
        let head = format!("{line} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n");
        let ParsedHead::Complete(request, _) = http::parse(head.as_bytes()) else {
            panic!("{line} is no request");
        };
        let mut out = Vec::new();
        let mut cx = VisitContext {
            guard: &mut self.guard,
            metrics: &mut self.metrics,
            address: Ipv4Addr::new(192, 168, 1, 9).into(),
            draining: self.draining,
            takes_calls: !self.draining,
            unready: self.unready,
            assistants: "",
            join: Default::default(),
            now: self.now,
        };
        let phase = answer_visitor(&mut out, &request, &self.site, false, &mut cx);
        (String::from_utf8_lossy(&out).into_owned(), phase)
    }

    /// The status and the value of a field.
    fn field(&mut self, line: &str, fields: &str, name: &str) -> (u16, String) {
        let (answer, _) = self.ask(line, fields);
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
        let name = format!("{name}: ");
        let value = answer.lines().find_map(|line| line.strip_prefix(&name));
        (status.expect("a status"), value.unwrap_or_default().to_owned())
    }

    fn status(&mut self, line: &str) -> u16 {
        self.field(line, "", "Allow").0
    }
}

#[test]
fn over_the_network_all_but_the_root_and_how_to_trust_it_is_elsewhere() {
    let mut device = Device::new(Some(8443), Some(ROOT));
    for (line, location) in [
        ("GET /", "https://192.168.1.2:8443/"),
        ("GET /app.js?v=1&w=2", "https://192.168.1.2:8443/app.js?v=1&w=2"),
        ("GET /ws", "https://192.168.1.2:8443/ws"),
        ("GET /nothing", "https://192.168.1.2:8443/nothing"),
        ("POST /ca.pem", "https://192.168.1.2:8443/ca.pem"),
        ("POST /trust", "https://192.168.1.2:8443/trust"),
    ] {
        let redirected = device.field(line, "", "Location");
        assert_eq!(redirected, (308, location.to_owned()), "{line}");
    }
    for path in ["/ca.pem", "/trust", "/trust.html", "/trust.ja.html", "/trust.css", "/style.css"] {
        for method in ["GET", "HEAD"] {
            assert_eq!(device.status(&format!("{method} {path}")), 200, "{method} {path}");
        }
    }
    // This one asks about the server, and has no place that it could be sent to.
    assert_eq!(device.status("OPTIONS *"), 405);
    // Without an authority there is nothing to trust.
    let mut device = Device::new(Some(8443), None);
    assert_eq!(device.status("GET /trust.html"), 308);
    let mut device = Device::new(None, None);
    assert_eq!((device.status("GET /ca.pem"), device.status("GET /trust")), (404, 404));
}

/// A pairing link whose `#` was escaped on its way, as some chats, scanners and address bars do.
#[test]
fn an_escaped_fragment_leads_to_the_page_with_it() {
    let mut device = Device::new(None, Some(ROOT));
    for (path, location) in [
        ("/%23token=abcd-efgh", "./#token=abcd-efgh"),
        ("/%23token%3Dabcd-efgh", "./#token%3Dabcd-efgh"),
        ("/%2523token%253Dabcd", "./#token%253Dabcd"),
        ("/%23token=abcd?utm=x", "./#token=abcd?utm=x"),
        ("/%23token=ab/cd/ef", "../../#token=ab/cd/ef"),
        ("/%23", "./#"),
        ("/trust.html%23token=abcd", "./trust.html#token=abcd"),
    ] {
        for method in ["GET", "HEAD"] {
            let found = device.field(&format!("{method} {path}"), "", "Location");
            assert_eq!(found, (307, location.to_owned()), "{method} {path}");
        }
        let stored = device.field(&format!("GET {path}"), "", "Cache-Control").1;
        assert_eq!(stored, "no-store");
    }
    // Over plain HTTP the way to HTTPS comes first, and from there to the page.
    let mut elsewhere = Device::new(Some(8443), Some(ROOT));
    let found = elsewhere.field("GET /%23token=abcd", "", "Location");
    assert_eq!(found, (308, "https://192.168.1.2:8443/%23token=abcd".to_owned()));
    for path in
        ["/%24token=abcd", "/ws%23token", "/app.js%23x", "/nothing%23token=abcd", "/%", "/%2"]
    {
        assert_eq!(device.status(&format!("GET {path}")), 404, "{path}");
    }
    assert_eq!(device.status("POST /%23token=abcd"), 404);
}

#[test]
fn the_root_is_offered_for_installing_and_the_way_to_trust_it_is_a_page() {
    let mut device = Device::new(None, Some(ROOT));
    let (root, phase) = device.ask("GET /ca.pem", "");
    assert!(root.contains("\r\nContent-Type: application/x-x509-ca-cert\r\n"), "{root}");
    assert!(root.ends_with(&format!("\r\n\r\n{ROOT}")), "{root}");
    assert_eq!(phase, Phase::Answering);
    let (root, phase) = device.ask("HEAD /ca.pem", "Connection: close\r\n");
    assert!(root.contains(&format!("\r\nContent-Length: {}\r\n", ROOT.len())), "{root}");
    assert!(root.ends_with("\r\n\r\n"), "{root}");
    assert_eq!(phase, Phase::LastAnswer);
    let page = device.ask("GET /trust", "").0;
    assert_eq!(page, device.ask("GET /trust.html", "").0);
    assert!(page.contains("\r\nContent-Type: text/html"), "{page:.500}");
    assert!(page.contains("\r\nVary: Accept-Language\r\n"), "{page:.500}");
    let german = device.ask("GET /trust", "Accept-Language: de-AT, en;q=0.5\r\n").0;
    assert!(german.contains("<html lang=\"de\">"), "{german:.900}");
    for path in ["/ca.pem", "/trust"] {
        let refused = device.field(&format!("POST {path}"), "", "Allow");
        assert_eq!(refused, (405, "GET, HEAD".to_owned()), "{path}");
    }
}

#[test]
fn only_what_is_read_may_be_read_and_calls_are_opened_with_get() {
    let mut device = Device::new(None, None);
    for (line, status, allow) in [
        ("POST /", 405, "GET, HEAD"),
        ("DELETE /metrics", 405, "GET, HEAD"),
        ("POST /ws", 405, "GET"),
        ("HEAD /ws", 405, "GET"),
        ("GET /ws", 426, ""),
        ("GET /nothing", 404, ""),
        ("POST /nothing", 404, ""),
        ("GET /pair", 204, ""),
        ("GET /metrics", 200, ""),
    ] {
        assert_eq!(device.field(line, "", "Allow"), (status, allow.to_owned()), "{line}");
    }
    let (shown, _) = device.ask("GET /metrics", "");
    let (head, text) = shown.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains(&format!("\r\nContent-Length: {}", text.len())), "{head}");
    assert!(text.contains("voicelived_calls_started_total"), "{text}");
    assert!(device.ask("HEAD /metrics", "").0.ends_with("\r\n\r\n"));
    assert!(device.ask("HEAD /healthz", "").0.ends_with("\r\n\r\n"));
}

#[test]
fn health_is_what_a_new_caller_would_meet() {
    let mut device = Device::new(None, None);
    for (draining, unready, status, word) in [
        (false, false, 200, "ok"),
        (false, true, 503, "not_configured"),
        (true, false, 503, "draining"),
        (true, true, 503, "draining"),
    ] {
        (device.draining, device.unready) = (draining, unready);
        let (answer, _) = device.ask("GET /healthz", "");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{word}")), "{answer}");
    }
    // What is no upgrade is told so, also while the daemon stops.
    device.draining = true;
    assert_eq!(device.field("GET /ws", UPGRADE, "Retry-After"), (503, "5".to_owned()));
    assert_eq!(device.status("GET /ws"), 426);
    device.draining = false;
    assert_eq!(device.ask("GET /ws", UPGRADE).1, Phase::Upgraded);
}

/// The browser that waits as long as it is told must not come too early.
#[test]
fn the_time_to_wait_is_told_in_whole_seconds_rounded_up() {
    let mut device = Device::new(None, None);
    device.guard.replace(Access::token("correct-horse-battery"));
    let wrong = "Authorization: Bearer wrong-horse-battery\r\n";
    assert_eq!(device.field("GET /pair", "", "WWW-Authenticate"), (401, "Bearer".to_owned()));
    for _ in 0..7 {
        let (status, forgets) = device.field("GET /pair", wrong, "Set-Cookie");
        assert!(status == 401 && forgets.contains("Max-Age=0"), "{status} {forgets}");
        // Each failure beyond the free ones doubles the wait.
        device.now += Duration::from_secs(2);
    }
    device.now -= Duration::from_secs(2);
    let mut told = |later: u64| {
        device.now += Duration::from_millis(later);
        device.field("GET /metrics", wrong, "Retry-After")
    };
    assert_eq!(told(0), (429, "4".to_owned()));
    assert_eq!(told(1), (429, "4".to_owned()));
    assert_eq!(told(2998), (429, "2".to_owned()));
    assert_eq!(told(1), (429, "1".to_owned()));
    assert_eq!(told(999), (429, "1".to_owned()));
    assert_eq!(told(1), (401, String::new()));
}

#[test]
fn a_tag_that_is_known_saves_the_file() {
    let mut device = Device::new(None, None);
    let (status, tag) = device.field("GET /app.js", "", "ETag");
    assert!(status == 200 && tag.starts_with('"'), "{status} {tag}");
    for (known, status) in [
        (tag.clone(), 304),
        (format!("W/{tag}"), 304),
        (format!("\"other\", {tag}"), 304),
        ("*".to_owned(), 304),
        ("\"other\"".to_owned(), 200),
        (tag.trim_matches('"').to_owned(), 200),
    ] {
        let found = device.field("GET /app.js", &format!("If-None-Match: {known}\r\n"), "ETag");
        assert_eq!(found, (status, tag.clone()), "{known}");
    }
    // The packed form is another representation.
    let packed = device.field("GET /app.js", "Accept-Encoding: gzip\r\n", "ETag").1;
    assert_eq!(packed, format!("\"{}-gz\"", tag.trim_matches('"')));
}

/// The simulated service wants a credential in one of two fields, as the real one does.
#[test]
fn the_simulated_service_reads_both_fields_of_a_credential() {
    let options = simulator::Options {
        api_key: Some("the-right-key".to_owned()),
        ..simulator::Options::default()
    };
    let ask = |fields: &str| {
        let line = "GET /voice-live/realtime?api-version=2025-10-01&model=some-model";
        let head = format!("{line} HTTP/1.1\r\nHost: {HOST}\r\n{UPGRADE}{fields}\r\n");
        let ParsedHead::Complete(request, _) = http::parse(head.as_bytes()) else {
            panic!("{fields} is no request");
        };
        let (mut out, mut admission) = (Vec::new(), None);
        let phase = answer_as_service(&mut out, &request, &options, &mut admission, Instant::now());
        (phase, admission.map(|admission| admission.model))
    };
    let admitted = (Phase::Upgraded, Some("some-model".to_owned()));
    assert_eq!(ask("api-key: the-right-key\r\n"), admitted);
    assert_eq!(ask(""), (Phase::LastAnswer, None));
    assert_eq!(ask("api-key: another\r\n"), (Phase::LastAnswer, None));
    assert_eq!(ask("api-key: \r\nAuthorization: Bearer the-right-key\r\n"), admitted);
}
