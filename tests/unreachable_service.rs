//! The service cannot be reached, or another server has its address. The caller is told what to
//! correct, and the key goes to no other server.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use crate::support;
use mio::{Events, Interest, Poll, Token};
use support::certificates::Authority;
use support::client::Client;
use support::daemon::{Daemon, KEY};
use support::inside::daemon_with_names;
use support::recorder::Recorder;
use support::witness::{self, Witness};
use voicelived::net::dial::{Dial, DialError, Progress, Target};
use voicelived::net::ws::{Sizes, USUAL_WAITING};

/// The years in which these tests are run.
const NOW: std::ops::Range<i32> = 2020..2080;

/// Whole at once: a daemon may read it at any moment.
fn file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("unreachable-{name}"));
    let part = path.with_extension("part");
    fs::write(&part, text).expect("a file");
    fs::rename(part, &path).expect("ours");
    path
}

/// A daemon that trusts this authority, and calls this host and port.
fn daemon_for(endpoint: &str, authority: &Authority, name: &str) -> Daemon {
    let trusted = file(&format!("{name}-ca.pem"), &authority.pem);
    let settings = [("VOICELIVED_UPSTREAM_CA_FILE", trusted.to_str().expect("a plain path"))];
    Daemon::run_at(endpoint, &settings)
}

/// The next call ends so; the daemon serves on and has nothing left of it.
fn assert_call_ends(daemon: &Daemon, what: &str, reason: &str, hint: &str) {
    let before = daemon.descriptors();
    let message = Client::connect(daemon.address).assert_ends(what, 1011, reason);
    assert!(message.contains(hint), "{what}: {message}");
    assert_eq!(support::http::ask(daemon.address, "GET /healthz", "").text(), "ok");
    daemon.assert_counted("calls_ended_total", reason, 1);
    daemon.assert_nothing_left(before);
}

#[test]
fn a_trusted_certificate_carries_a_whole_turn() {
    let authority = Authority::new("Ours");
    let (certificate, key) = authority.certify("localhost", NOW);
    let files = [file("good.pem", &certificate), file("good.key", &key)];
    let files = files.each_ref().map(|path| path.to_str().expect("a plain path"));
    let mut arguments =
        vec!["simulate", "--listen", "127.0.0.1:0", "--cert", files[0], "--key", files[1]];
    arguments.extend(witness::SERVICE.iter().flat_map(|word| ["--fault", word]));
    let service = Daemon::start(&arguments, &[]);
    let endpoint = format!("https://localhost:{}", service.address.port());
    let daemon = daemon_for(&endpoint, &authority, "good");
    Witness::call(daemon.address).finish();
}

#[test]
fn whoever_cannot_prove_to_be_the_service_never_sees_the_key() {
    let [trusted, other, namesake] = ["Ours", "Other", "Ours"].map(Authority::new);
    for (what, authority, name, years, hint) in [
        ("unknown", &other, "localhost", NOW, "VOICELIVED_UPSTREAM_CA_FILE"),
        ("namesake", &namesake, "localhost", NOW, "VOICELIVED_UPSTREAM_CA_FILE"),
        ("wrong-host", &trusted, "other.example", NOW, "its certificate names others"),
        ("expired", &trusted, "localhost", 2001..2002, "has expired by this device's clock"),
        ("future", &trusted, "localhost", 2090..2091, "not valid yet by this device's clock"),
    ] {
        let (certificate, key) = authority.certify(name, years);
        let impostor = Recorder::tls(&certificate, &key);
        let endpoint = format!("https://localhost:{}", impostor.address.port());
        let daemon = daemon_for(&endpoint, &trusted, what);
        assert_call_ends(&daemon, what, "tls", hint);
        assert_eq!(impostor.heard(), "", "{what}");
    }
    // The recorder does record: the real service is told the key.
    let (certificate, key) = trusted.certify("localhost", NOW);
    let service = Recorder::tls(&certificate, &key);
    let endpoint = format!("https://localhost:{}", service.address.port());
    let daemon = daemon_for(&endpoint, &trusted, "right");
    assert_call_ends(&daemon, "no answer", "unreachable", "broke before the service answered");
    assert!(service.heard().contains(KEY));
}

#[test]
fn a_port_without_tls_is_named_as_such() {
    let plain = Recorder::plain(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let endpoint = format!("https://localhost:{}", plain.address.port());
    let daemon = Daemon::run_at(&endpoint, &[]);
    assert_call_ends(&daemon, "plain HTTP", "tls", "does not speak TLS on this port");
    assert!(!plain.heard().contains(KEY));
}

#[test]
fn what_is_no_voice_service_is_named_as_such() {
    let endless = [b"HTTP/1.1 101 X\r\na: ".as_slice(), &[b'x'; 20_000]].concat();
    for (what, answer, reason, hint) in [
        ("nothing", b"".as_slice(), "unreachable", "broke before the service answered"),
        ("another protocol", b"SSH-2.0-OpenSSH_9\r\n", "bad_answer", "not HTTP"),
        ("an endless head", &endless, "bad_answer", "too long"),
        (
            "another's handshake",
            b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            "bad_answer",
            "Sec-WebSocket-Accept",
        ),
        (
            "a page",
            b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n<html>x</html>",
            "refused",
            "answered 200",
        ),
    ] {
        let daemon = Daemon::run(Recorder::plain(answer).address, &[]);
        assert_call_ends(&daemon, what, reason, hint);
    }
}

#[test]
fn nobody_at_the_address_is_said() {
    let daemon = Daemon::run(NOBODY, &[]);
    assert_call_ends(&daemon, "nobody", "unreachable", "cannot be reached");
    daemon.assert_counted("service_connects_total", "failed", 1);
}

#[test]
fn a_name_that_does_not_exist_is_said() {
    let daemon = Daemon::run_at("https://nosuchhost.invalid", &[]);
    assert_call_ends(&daemon, "no name", "unreachable", "could not be looked up");
    daemon.assert_counted("service_connects_total", "unresolved", 1);
}

#[test]
fn a_dead_address_is_followed_by_the_next() {
    let service = Daemon::simulate(&[]);
    let dead = NOBODY;
    assert!(matches!(dial(vec![dead, dead, service.address]), Progress::Open(_)));
    assert!(matches!(dial(vec![dead, dead]), Progress::Failed(DialError::Connect(_))));
    assert!(matches!(dial(Vec::new()), Progress::Failed(DialError::Connect(_))));
}

/// Nobody listens there, nor can another test get this port.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// An address without a server, at the port of a service on `127.0.0.1`.
const ELSEWHERE: [u8; 4] = [127, 0, 0, 9];

#[test]
fn a_name_that_leads_elsewhere_by_now_is_looked_up_again() {
    let service = Daemon::simulate(&["no-welcome"]);
    let port = service.address.port();
    let names = file("moved-names", &format!("{}\n", SocketAddr::from((ELSEWHERE, port))));
    let address = daemon_with_names("service.test", port, &names);
    for _ in 0..2 {
        Client::connect(address).assert_ends("nobody there", 1011, "unreachable");
    }
    file("moved-names", &format!("{}\n", service.address));
    Client::connect(address).wait_until_active();
    // No answer at all: the old one serves on.
    file("moved-names", "");
    Client::connect(address).wait_until_active();
}

#[test]
fn the_address_that_worked_is_tried_first() {
    let service = Daemon::simulate(&["no-welcome"]);
    let port = service.address.port();
    let broken = SocketAddr::from((ELSEWHERE, port));
    let names = file("proven-names", &format!("{broken}\n{}\n", service.address));
    let address = daemon_with_names("service.test", port, &names);
    Client::connect(address).wait_until_active();
    let silent = std::net::TcpListener::bind(broken).expect("nobody is there");
    silent.set_nonblocking(true).expect("a socket");
    Client::connect(address).wait_until_active();
    assert!(silent.accept().is_err(), "the other one is not tried");
}

#[test]
fn a_failed_connection_is_logged_once() {
    let daemon = Daemon::run(SocketAddr::from((ELSEWHERE, 9)), &[]);
    Client::connect(daemon.address).assert_ends("nobody", 1011, "unreachable");
    daemon.wait_until("it is over", |daemon| daemon.log().contains("ended: "));
    assert_eq!(daemon.log().matches("cannot be reached").count(), 1, "{}", daemon.log());
    let daemon = Daemon::run_at("https://nosuchhost.invalid", &[]);
    Client::connect(daemon.address).assert_ends("no name", 1011, "unreachable");
    daemon.wait_until("it is over", |daemon| daemon.log().contains("ended: "));
    let call = daemon.log().split_once("call from").expect("it is logged").1.to_owned();
    assert_eq!(call.matches("could not be looked up").count(), 1, "{call}");
}

/// Drives an attempt to its end.
fn dial(addresses: Vec<SocketAddr>) -> Progress {
    let target = Target {
        host: "service.example".to_owned(),
        port: 1,
        request_target: "/voice-live/realtime?api-version=1&model=m".to_owned(),
        host_field: "service.example".to_owned(),
        credential: "api-key: k".to_owned(),
        tls: None,
        proxy: None,
    };
    let sizes = Sizes { message: 65_536, waiting: USUAL_WAITING };
    let mut dial = Dial::new(Rc::new(target), addresses, String::new(), sizes, Instant::now());
    let (mut poll, mut events) = (Poll::new().expect("a poll"), Events::with_capacity(8));
    loop {
        match dial.advance(Instant::now()) {
            Progress::Pending => {
                let wait = dial.deadline().saturating_duration_since(Instant::now());
                poll.poll(&mut events, Some(wait)).expect("it polls");
                for event in &events {
                    dial.mark(event.is_readable(), event.is_writable(), event.is_read_closed());
                }
            }
            Progress::NewSocket => {
                let both = Interest::READABLE | Interest::WRITABLE;
                let socket = dial.socket().expect("it was just made");
                poll.registry().register(socket, Token(0), both).expect("it registers");
            }
            end => return end,
        }
    }
}
