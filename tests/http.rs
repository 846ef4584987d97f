//! The answers that a browser, a script or an unknown client gets over plain HTTP.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

use crate::support;
use support::certificates;
use support::client::{Client, request, upgrade_head};
use support::daemon::Daemon;
use support::http::{Answer, ask, connect, exchange, read_answers};
use voicelived::net::tls;
use voicelived::web::assets::ASSETS;

/// Fields that keep a page where it belongs.
fn assert_guarded(answer: &Answer) {
    assert_eq!(answer.field("X-Content-Type-Options"), "nosniff", "{answer:?}");
    assert_eq!(answer.field("Referrer-Policy"), "no-referrer", "{answer:?}");
    assert_eq!(answer.field("Cross-Origin-Resource-Policy"), "same-origin", "{answer:?}");
}

/// The file behind a path, as it is in the source.
fn file(path: &str) -> Vec<u8> {
    let name = if path == "/" { "/index.html" } else { path };
    fs::read(format!("{}/frontend{name}", env!("CARGO_MANIFEST_DIR"))).expect("a file of the page")
}

/// Whether it is the file, where comments may be missing, and a language is a list without its keys. The page's own
/// tests judge both.
fn is_file(body: &[u8], path: &str) -> bool {
    if path.starts_with("/words.") && path.matches('.').count() == 2 && path != "/words.en.js" {
        return body.trim_ascii_start().starts_with(b"export default [");
    }
    let file = file(path);
    let may_shrink = path.ends_with(".js") || path.ends_with(".css");
    let mut lines = body.split(|byte| *byte == b'\n').zip(file.split(|byte| *byte == b'\n'));
    let is_line = |(now, old): (&[u8], &[u8])| {
        let left_out = old.strip_prefix(now).map(<[u8]>::trim_ascii_start);
        now.is_empty() || left_out.is_some_and(|words| words.is_empty() || words.starts_with(b"//"))
    };
    body == file || may_shrink && lines.all(is_line)
}

#[test]
fn every_file_of_the_page_is_served_and_cached_by_its_tag() {
    let daemon = Daemon::demo(&[]);
    for asset in ASSETS {
        let get = format!("GET {}", asset.path);
        let plain = ask(daemon.address, &get, "");
        assert_eq!((plain.status, plain.field("Content-Type")), (200, asset.media_type));
        assert!(plain.body == asset.plain() && is_file(&plain.body, asset.path), "{get}");
        let packed = ask(daemon.address, &get, "Accept-Encoding: br, gzip\r\n");
        if asset.media_type.starts_with("text/html") {
            assert_eq!((packed.status, packed.field("Content-Encoding")), (200, ""), "{get}");
            assert!(packed.body == plain.body && packed.field("ETag") == plain.field("ETag"));
        } else {
            assert_eq!((packed.status, packed.field("Content-Encoding")), (200, "gzip"));
            assert!(packed.body == asset.gzip, "{get}");
            assert_ne!(plain.field("ETag"), packed.field("ETag"), "two representations");
        }
        for (full, encoding) in [(&plain, ""), (&packed, "Accept-Encoding: gzip\r\n")] {
            assert_guarded(full);
            assert_eq!(full.field("Vary"), "Accept-Encoding");
            // Word for word: what is left out here would be allowed.
            assert_eq!(
                full.field("Content-Security-Policy"),
                "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
            );
            assert_eq!(full.field("Permissions-Policy"), "microphone=(self)");
            assert_eq!(full.field("Cache-Control"), "no-cache");
            let tag = full.field("ETag");
            let known = format!("{encoding}If-None-Match: \"other\", {tag}\r\n");
            let again = ask(daemon.address, &get, &known);
            assert_eq!((again.status, again.body.len(), again.field("ETag")), (304, 0, tag));
            let head = ask(daemon.address, &format!("HEAD {}", asset.path), encoding);
            assert_eq!((head.status, head.body.len(), head.field("ETag")), (200, 0, tag));
            assert_eq!(head.field("Content-Length"), full.field("Content-Length"));
        }
    }
}

/// Home screens take a picture of points, and say nothing when there is none.
#[test]
fn the_icons_that_page_and_manifest_name_are_there() {
    let manifest: serde_json::Value =
        serde_json::from_slice(&file("/manifest.webmanifest")).expect("JSON");
    let icons = manifest["icons"].as_array().expect("a list");
    let named = |name: &str| icons.iter().find(|icon| icon["src"] == name);
    for icon in icons {
        let path = format!("/{}", icon["src"].as_str().expect("a name"));
        let asset = ASSETS.iter().find(|asset| asset.path == path).expect("it is served");
        assert_eq!(icon["type"], asset.media_type);
    }
    let page = String::from_utf8(file("/")).expect("text");
    assert!(page.contains("<link rel=\"apple-touch-icon\" href=\"apple-touch-icon.png\">"));
    let picture = file("/apple-touch-icon.png");
    assert_eq!(&picture[..8], b"\x89PNG\r\n\x1a\n");
    let points = |at: usize| u32::from_be_bytes(picture[at..at + 4].try_into().expect("four"));
    assert_eq!((points(16), points(20)), (180, 180));
    assert_eq!(named("apple-touch-icon.png").expect("it is named")["sizes"], "180x180");
}

#[test]
fn the_page_obeys_its_own_content_policy() {
    let pages = ASSETS.iter().filter(|asset| asset.media_type.starts_with("text/html"));
    for page in pages {
        let plain = page.plain();
        let text = std::str::from_utf8(&plain).unwrap();
        for tag in text.split('<').filter(|tag| tag.contains('>')) {
            let inside = tag.split('>').next().unwrap();
            let script = inside.starts_with("script") && !inside.contains("src=");
            let handler = inside.split_whitespace().skip(1).any(|word| word.starts_with("on"));
            let style = inside.starts_with("style") || inside.contains(" style=");
            assert!(!script && !handler && !style, "{}: <{inside}>", page.path);
        }
    }
}

/// `Strict-Transport-Security` of this answer over HTTPS; empty if there is none.
fn staying_secure(root: &str, daemon: &Daemon, host: &str, path: &str) -> String {
    let roots = tls::certificates(root.as_bytes()).expect("a root");
    let config = tls::client_config(&roots).expect("TLS");
    let name = "localhost".try_into().expect("a name");
    let client = rustls::ClientConnection::new(config, name).expect("TLS");
    let mut stream = rustls::StreamOwned::new(client, connect(daemon.secure_address()));
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("the daemon reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the daemon answers");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    let mut lines = answer.lines().filter_map(|line| line.split_once(": "));
    let field = lines.find(|(name, _)| *name == "Strict-Transport-Security");
    field.map_or(String::new(), |(_, value)| value.to_owned())
}

#[test]
fn only_an_owners_certificate_tells_browsers_to_stay_with_https() {
    let folder = std::env::temp_dir().join(format!("voicelived-stay-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (certificate, key) = certificates::localhost();
    let files = [folder.join("own.pem"), folder.join("own.key")];
    fs::write(&files[0], &certificate).unwrap();
    fs::write(&files[1], &key).unwrap();
    let mut settings = vec![
        ("VOICELIVED_TLS_LISTEN", "127.0.0.1:0"),
        ("VOICELIVED_ALLOWED_ORIGINS", "https://voice.example"),
        ("VOICELIVED_STATE_DIR", folder.to_str().unwrap()),
    ];
    let local = Daemon::demo(&settings);
    let root = fs::read_to_string(folder.join("ca.pem")).unwrap();
    assert_eq!(staying_secure(&root, &local, "voice.example", "/"), "");
    settings.push(("VOICELIVED_TLS_CERT", files[0].to_str().unwrap()));
    settings.push(("VOICELIVED_TLS_KEY", files[1].to_str().unwrap()));
    let own = Daemon::demo(&settings);
    for path in ["/", "/app.js"] {
        let field = staying_secure(&certificate, &own, "voice.example", path);
        assert_eq!(field, "max-age=31536000", "{path}");
    }
    // Not for names that other programs of this machine share, nor without TLS.
    for name in ["localhost", "127.0.0.1"] {
        let host = format!("{name}:{}", own.secure_address().port());
        assert_eq!(staying_secure(&certificate, &own, &host, "/"), "", "{host}");
    }
    assert_eq!(ask(own.address, "GET /", "").field("Strict-Transport-Security"), "");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn health_is_told_and_never_cached() {
    let demo = Daemon::demo(&[]);
    let answer = ask(demo.address, "GET /healthz", "");
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert_eq!(answer.field("Cache-Control"), "no-store");
    assert_eq!(answer.field("voicelived-service"), "simulator");
    assert_guarded(&answer);
    let run = Daemon::run(demo.address, &[]);
    assert_eq!(ask(run.address, "GET /healthz", "").field("voicelived-service"), "");
}

#[test]
fn what_is_not_served_gets_its_status_and_the_connection_ends() {
    let daemon = Daemon::demo(&[]);
    let before = daemon.descriptors();
    let host = format!("Host: {}\r\n", daemon.address);
    let good = upgrade_head(daemon.address, "");
    let long = "x".repeat(9000);
    let with = |line: &str, fields: &str| format!("{line} HTTP/1.1\r\n{host}{fields}\r\n");
    let mut told = BTreeMap::new();
    for (bytes, status) in [
        (with("GET /nothing", "Connection: close\r\n"), 404),
        (with("GET /../Cargo.toml", "Connection: close\r\n"), 404),
        (with("GET /%2e%2e/.env", "Connection: close\r\n"), 404),
        (with("GET //", "Connection: close\r\n"), 404),
        (with("DELETE /", "Connection: close\r\n"), 405),
        (with("POST /ws", "Connection: close\r\nContent-Length: 0\r\n"), 405),
        (with("GET /ws", "Connection: close\r\n"), 426),
        (good.replace("Version: 13", "Version: 8"), 426),
        (good.replace("Key: dGhl", "Key: dG"), 400),
        (good.replace("Connection: Upgrade", "Connection: close"), 400),
        (good.replace(&host, ""), 400),
        ("GET /\r\n\r\n".to_owned(), 400),
        ("\u{16}\u{3}\u{1}\0\u{5}hello".to_owned(), 400),
        (with("GET /", "Transfer-Encoding: chunked\r\n"), 400),
        (with("GET /", "Content-Length: 5\r\nContent-Length: 6\r\n"), 400),
        (with("GET /", "Content-Length: 5\r\n") + "hello", 413),
        (format!("GET /{long}"), 414),
        (with("GET /", &format!("x: {long}\r\n")), 431),
        (with("GET /", &"a: b\r\n".repeat(65)), 431),
        (with("GET /", "").replace("1.1", "2.0"), 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
    ] {
        let shown = &bytes[..bytes.len().min(100)];
        let answers = exchange(daemon.address, bytes.as_bytes());
        assert_eq!(answers.len(), 1, "{shown:?}: {answers:?}");
        assert_eq!(answers[0].status, status, "{shown:?}");
        *told.entry(status).or_insert(0) += 1;
        assert_eq!(answers[0].field("Connection"), "close", "{shown:?}");
        assert_guarded(&answers[0]);
    }
    for (status, times) in told {
        daemon.assert_counted("http_responses_total", &status.to_string(), times);
    }
    daemon.wait_until("all are gone", |daemon| daemon.descriptors() <= before);
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let daemon = Daemon::demo(&[]);
    let mut socket = connect(daemon.address);
    let head =
        format!("GET /healthz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", daemon.address);
    for byte in head.as_bytes() {
        socket.write_all(&[*byte]).unwrap();
    }
    assert_eq!(read_answers(&mut socket)[0].text(), "ok");
}

#[test]
fn requests_behind_each_other_are_answered_in_order() {
    let daemon = Daemon::demo(&[]);
    let request = |path: &str, last: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{last}\r\n", daemon.address)
    };
    let all = [
        request("/", ""),
        request("/nothing", ""),
        request("/healthz", ""),
        request("/", "Connection: close\r\n"),
        request("/healthz", ""),
    ];
    let answers = exchange(daemon.address, all.concat().as_bytes());
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 404, 200, 200], "the last request is behind the end");
    assert_eq!(answers[0].body, answers[3].body);
    assert_eq!(answers[2].text(), "ok");
}

#[test]
fn only_names_of_this_device_are_answered() {
    let daemon = Daemon::demo(&[("VOICELIVED_ALLOWED_ORIGINS", "https://voice.example")]);
    let port = daemon.address.port();
    for (host, status) in [
        (format!("127.0.0.1:{port}"), 200),
        (format!("localhost:{port}"), 200),
        (format!("LOCALHOST.:{port}"), 200),
        ("voice.example".to_owned(), 200),
        (format!("rebound.example:{port}"), 421),
        ("127.0.0.1".to_owned(), 421),
        (format!("localhost:{port}.evil.example"), 400),
        (String::new(), 421),
    ] {
        for path in ["/", "/healthz", "/ws", "/nothing"] {
            let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let found = exchange(daemon.address, head.as_bytes())[0].status;
            let admitted = ![400, 421].contains(&found);
            let wanted = if status == 200 { admitted } else { found == status };
            assert!(wanted, "{host} {path}: {found}");
        }
    }
    daemon.assert_counted("access_refused_total", "host", 3 * 4);
    daemon.assert_counted("http_responses_total", "421", 3 * 4);
}

#[test]
fn a_foreign_page_is_refused_before_anything_is_paid_for() {
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    service.set_nonblocking(true).unwrap();
    let daemon = Daemon::run(service.local_addr().unwrap(), &[]);
    let own = daemon.address;
    for origins in [
        "Origin: https://evil.example\r\n".to_owned(),
        "Origin: null\r\n".to_owned(),
        "Origin: \r\n".to_owned(),
        format!("Origin: https://{own}\r\n"),
        format!("Origin: http://{own}.evil.example\r\n"),
        format!("Origin: http://localhost:{}\r\n", own.port()),
        format!("Origin: http://{own}\r\nOrigin: https://evil.example\r\n"),
    ] {
        let answers = exchange(own, upgrade_head(own, &origins).as_bytes());
        assert_eq!(answers[0].status, 403, "{origins}");
    }
    assert!(!daemon.log().contains("call from"), "{}", daemon.log());
    assert!(service.accept().is_err(), "the service was not even dialled");
    daemon.assert_counted("access_refused_total", "origin", 7);
    daemon.assert_counted("calls_started_total", "", 0);
    // Its own page, and programs, which send no origin, may call.
    let (_socket, answer) = request(own, &upgrade_head(own, &format!("Origin: http://{own}\r\n")));
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let _call = Client::connect(own);
    daemon.wait_until("the service is dialled", |_| service.accept().is_ok());
}

/// What the daemon answers to an upgrade that offers subprotocols: its status line and the subprotocol.
fn offer(daemon: &Daemon, fields: &str) -> (String, Vec<String>) {
    let (_, answer) = request(daemon.address, &upgrade_head(daemon.address, fields));
    let mut lines = answer.split("\r\n");
    let status = lines.next().unwrap_or_default().to_owned();
    let agreed = lines.filter_map(|line| line.split_once(':'));
    let agreed = agreed.filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"));
    (status, agreed.map(|(_, value)| value.trim().to_owned()).collect())
}

/// A browser ends a connection whose 101 names none of the subprotocols that it offered.
#[test]
fn the_first_well_formed_subprotocol_is_agreed_to() {
    let daemon = Daemon::demo(&[]);
    for (offered, agreed) in [
        ("voicelived", "voicelived"),
        ("a, b", "a"),
        ("  \t b ,a", "b"),
        (",, ,z", "z"),
        ("a b, \"quoted\", c/d, ok", "ok"),
        ("caf\u{e9}, plain", "plain"),
        ("!#$%&'*+-.^_`|~09azAZ", "!#$%&'*+-.^_`|~09azAZ"),
        ("x\r\nSec-WebSocket-Protocol: y", "x"),
        ("\r\nsec-websocket-protocol: y", "y"),
        ("a b\r\nSec-WebSocket-Protocol: c", "c"),
        ("\t chat\t,\tb\t", "chat"),
        ("realtime, openai-insecure-api-key.x, openai-beta.realtime-v1", "realtime"),
    ] {
        let found = offer(&daemon, &format!("Sec-WebSocket-Protocol: {offered}\r\n"));
        assert!(found.0.starts_with("HTTP/1.1 101 "), "{offered:?}: {found:?}");
        assert_eq!(found.1, [agreed], "{offered:?}");
    }
    // An element that is not even text costs none of the others.
    for offered in [&b"\xff\xfe, chat"[..], b"chat, \xff", b"\xff\r\nSec-WebSocket-Protocol: chat"]
    {
        let mut head = upgrade_head(daemon.address, "").into_bytes();
        head.truncate(head.len() - 2);
        head.extend([&b"Sec-WebSocket-Protocol: "[..], offered, b"\r\n\r\n"].concat());
        let mut socket = std::net::TcpStream::connect(daemon.address).expect("it listens");
        socket.write_all(&head).expect("it reads");
        let mut answer = [0; 256];
        let length = socket.read(&mut answer).expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..length]);
        assert!(answer.contains("\r\nSec-WebSocket-Protocol: chat\r\n"), "{answer}");
    }
    for nothing in
        ["", ":", ": , ,", ": a b", ": \"q\"", ": a/b, (c), d@e", ": a;b", ": a=1", ": \u{e9}"]
    {
        let field = if nothing.is_empty() { "" } else { "Sec-WebSocket-Protocol" };
        let end = if nothing.is_empty() { "" } else { "\r\n" };
        let found = offer(&daemon, &format!("{field}{nothing}{end}"));
        assert!(
            found.0.starts_with("HTTP/1.1 101 ") && found.1.is_empty(),
            "{nothing:?}: {found:?}"
        );
    }
}
