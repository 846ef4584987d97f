//! A visitor on a real socket, by a clock that the test moves.

mod answers;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::*;
use crate::access::Access;

const TICK: Duration = Duration::from_millis(1);

/// A visitor of a daemon that is open to all, and the socket of the other end.
struct Scene {
    visitor: Visitor,
    other: std::net::TcpStream,
    site: Site,
    guard: Guard,
    metrics: Metrics,
    /// The visitor's `Host`.
    host: String,
    /// The time.
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address: SocketAddr = listener.local_addr().expect("bound");
        let other = std::net::TcpStream::connect(address).expect("a connection");
        other.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        let (ours, _) = listener.accept().expect("a connection");
        ours.set_nonblocking(true).expect("a socket");
        let now = Instant::now();
        let gate = Gate::new(false, address, Vec::new());
        let site = CallSite { gate, simulated: true, https: None, ca_pem: None };
        Self {
            visitor: Visitor::new(Transport::plain(TcpStream::from_std(ours)), now),
            other,
            site: Site::Calls(site),
            guard: Guard::new(Access::Open),
            metrics: Metrics::new(),
            host: address.to_string(),
            now,
        }
    }

    /// One turn, in which everything may have become readable and writable.
    fn turn(&mut self) -> Visit {
        self.visitor.transport_mut().mark_readable(false);
        self.visitor.transport_mut().mark_writable();
        let mut cx = VisitContext {
            guard: &mut self.guard,
            metrics: &mut self.metrics,
            address: Ipv4Addr::LOCALHOST.into(),
            draining: false,
            takes_calls: true,
            unready: false,
            assistants: "",
            join: Default::default(),
            now: self.now,
        };
        self.visitor.pump(&self.site, &mut cx)
    }

    /// What was sent arrives, and the visitor is pumped until it is in that state.
    fn until(&mut self, what: &str, reached: impl Fn(&Visitor) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !reached(&self.visitor) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.visitor.phase);
            assert!(matches!(self.turn(), Visit::Stays), "{what}: {:?}", self.visitor.phase);
        }
    }

    /// Asks until an answer waits for room.
    fn block_with_answers(&mut self) {
        // What the two kernels hold is more than one answer, and no more than a thousand.
        self.other.set_nonblocking(true).expect("a socket");
        let ask = self.get("/app.js", "").repeat(100);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !(self.visitor.phase == Phase::Answering && self.visitor.transport.is_blocked()) {
            assert!(Instant::now() < deadline, "all of it has left");
            let _ = self.other.write(ask.as_bytes());
            assert!(matches!(self.turn(), Visit::Stays));
        }
    }

    fn send(&mut self, text: &str) {
        self.other.write_all(text.as_bytes()).expect("there is room");
    }

    /// A request with these further fields.
    fn get(&self, path: &str, fields: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", self.host)
    }

    /// It stays until just before this time and is gone then.
    fn assert_goes_at(&mut self, time: Instant) {
        assert_eq!(self.visitor.deadline(), time);
        self.now = time - TICK;
        assert!(matches!(self.turn(), Visit::Stays));
        self.now = time;
        assert!(matches!(self.turn(), Visit::Gone));
    }

    fn counted(&mut self, family: &str) -> String {
        let text = self.metrics.render();
        let lines = text.lines().filter(|line| line.contains(family) && !line.ends_with(" 0"));
        lines.filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn a_visitor_that_asks_nothing_has_five_seconds() {
    let mut scene = Scene::new();
    let start = scene.now;
    scene.assert_goes_at(start + Duration::from_secs(5));
    assert!(scene.counted("dropped").contains("idle"));
}

#[test]
fn an_answer_has_five_seconds_to_leave() {
    let mut scene = Scene::new();
    scene.now += Duration::from_secs(1);
    scene.block_with_answers();
    let since = scene.now;
    scene.assert_goes_at(since + Duration::from_secs(5));
    assert!(scene.counted("dropped").contains("slow_reader"));
}

/// A peer that still sends would meet a reset, which may destroy the answer it has not read yet.
#[test]
fn after_the_last_answer_the_peer_has_a_second_to_go() {
    let mut scene = Scene::new();
    scene.send("nonsense\r\n\r\n");
    scene.until("it is refused", |visitor| visitor.phase == Phase::Lingering);
    scene.send("more nonsense");
    let since = scene.now;
    scene.assert_goes_at(since + Duration::from_secs(1));
    let mut answer = String::new();
    drop(scene.visitor);
    scene.other.read_to_string(&mut answer).expect("an answer and the end");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn a_peer_that_goes_is_not_waited_for() {
    let mut scene = Scene::new();
    scene.send("nonsense\r\n\r\n");
    scene.until("it is refused", |visitor| visitor.phase == Phase::Lingering);
    scene.other.shutdown(std::net::Shutdown::Write).expect("a socket");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !matches!(scene.turn(), Visit::Gone) {
        assert!(Instant::now() < deadline, "its end is not seen");
    }
}

#[test]
fn each_request_has_its_own_five_seconds() {
    let mut scene = Scene::new();
    scene.now += Duration::from_secs(4);
    let asked = scene.now;
    let request = scene.get("/healthz", "");
    scene.send(&request);
    scene.until("it is answered", |visitor| visitor.served);
    assert_eq!(scene.visitor.phase, Phase::Reading, "it may ask again");
    scene.assert_goes_at(asked + Duration::from_secs(5));
}

#[test]
fn half_a_request_is_answered_408_which_has_five_seconds_of_its_own() {
    let mut scene = Scene::new();
    scene.send("GET /healthz HT");
    scene.until("it has come", |visitor| !visitor.input.is_empty());
    scene.now = scene.visitor.deadline();
    assert!(matches!(scene.turn(), Visit::Stays), "it is told");
    assert_eq!(scene.visitor.phase, Phase::Lingering);
    let since = scene.now;
    scene.assert_goes_at(since + Duration::from_secs(1));
    assert!(scene.counted("http_responses").contains("408"));
    drop(scene.visitor);
    let mut answer = String::new();
    scene.other.read_to_string(&mut answer).expect("an answer and the end");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

/// Where the next request would begin is not known, so this answer is the last.
#[test]
fn a_head_that_makes_no_sense_is_answered_and_nothing_after_it() {
    for (method, has_body) in [("GET", true), ("HEAD", false)] {
        let mut scene = Scene::new();
        let next = scene.get("/healthz", "");
        scene.send(&format!("{method} / HTTP/1.1\r\nno field\r\n\r\n{next}"));
        scene.until("it is answered", |visitor| visitor.phase == Phase::Lingering);
        drop(scene.visitor);
        let mut answer = String::new();
        scene.other.read_to_string(&mut answer).expect("an answer and the end");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert_eq!(!answer.ends_with("\r\n\r\n"), has_body, "{answer}");
    }
}

#[test]
fn a_pipeline_is_answered_four_at_a_time() {
    let mut scene = Scene::new();
    let requests = scene.get("/healthz", "").repeat(9);
    scene.send(&requests);
    let deadline = Instant::now() + Duration::from_secs(10);
    // All of it must have come before the first turn.
    let mut peeked = [0; 1024];
    let all = requests.len();
    while scene.visitor.transport.stream().peek(&mut peeked).unwrap_or_default() < all {
        assert!(Instant::now() < deadline, "the pipeline does not come");
    }
    for answered in [4, 8, 9] {
        assert!(matches!(scene.turn(), Visit::Stays));
        assert!(scene.counted("http_responses").ends_with(&format!(" {answered}")));
        assert_eq!(scene.visitor.has_more(), answered < 9);
    }
}

#[test]
fn who_makes_way_first_is_who_asks_nothing() {
    let mut scene = Scene::new();
    assert!(scene.visitor.is_waiting() && scene.visitor.is_unserved());
    let request = scene.get("/healthz", "");
    scene.send(&request);
    scene.until("it is answered", |visitor| visitor.served);
    assert!(scene.visitor.is_waiting() && !scene.visitor.is_unserved(), "it has what it wanted");
    scene.send("GET /heal");
    scene.until("it asks again", |visitor| !visitor.input.is_empty());
    assert!(scene.visitor.is_waiting() && scene.visitor.is_unserved());
    scene.send("th\r\n\r\n");
    scene.until("it is refused", |visitor| visitor.phase == Phase::Lingering);
    assert!(scene.visitor.is_waiting() && !scene.visitor.is_unserved());
    assert!(!scene.visitor.is_handshaking());
}

#[test]
fn an_upgrade_keeps_the_rules_it_was_granted_under_and_the_bytes_behind_it() {
    let mut scene = Scene::new();
    for token in ["one-token-of-many", "another-of-the-many"] {
        scene.guard.replace(Access::token(token));
    }
    scene.guard.replace(Access::Open);
    let fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let request = scene.get("/ws", fields) + "bytes";
    scene.send(&request);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !matches!(scene.turn(), Visit::Upgrade) {
        assert!(Instant::now() < deadline, "{:?}", scene.visitor.phase);
    }
    assert_eq!(scene.visitor.generation(), 2);
    assert!(scene.visitor.take_admission().is_none(), "it is no simulator");
    assert!(!scene.visitor.is_waiting(), "it does not make way");
    assert_eq!(scene.visitor.into_transport().1, b"bytes");
}

#[test]
fn a_reset_is_the_end_at_once() {
    for answered in [false, true] {
        let mut scene = Scene::new();
        if answered {
            scene.block_with_answers();
        } else {
            scene.send("GET / HT");
            scene.until("it has come", |visitor| !visitor.input.is_empty());
        }
        // The kernel then sends a reset instead of an end.
        let idle = Scene::new().other;
        let other = std::mem::replace(&mut scene.other, idle);
        socket2::SockRef::from(&other).set_linger(Some(Duration::ZERO)).expect("a socket");
        drop(other);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !matches!(scene.turn(), Visit::Gone) {
            assert!(Instant::now() < deadline, "the reset is not seen; answered: {answered}");
        }
        assert_eq!(scene.counted("dropped"), "", "no time limit has passed");
    }
}

/// The simulated service can be told not to answer. It is a fault of the service, not of the visitor.
#[test]
fn a_silent_service_keeps_its_visitor_and_says_nothing() {
    let mut scene = Scene::new();
    let script = simulator::Script::parse(["silent"]).expect("it is a fault");
    scene.site = Site::Simulator(Rc::new(simulator::Options { script, ..Default::default() }));
    let request = scene.get("/", "");
    scene.send(&request);
    scene.until("it is read", |visitor| visitor.phase == Phase::Silent);
    assert!(!scene.visitor.is_waiting() && !scene.visitor.is_unserved());
    scene.now += Duration::from_secs(1000);
    assert!(matches!(scene.turn(), Visit::Stays));
    scene.other.set_nonblocking(true).expect("a socket");
    assert!(scene.other.read(&mut [0]).is_err(), "nothing was said");
}

/// Not with a local authority, and not for what many machines call themselves.
#[test]
fn only_a_name_of_its_own_with_a_public_certificate_is_kept_to_https() {
    let site = |secure, ca_pem: Option<Rc<str>>| {
        let gate = Gate::new(secure, SocketAddr::from(([192, 168, 1, 2], 443)), Vec::new());
        CallSite { gate, simulated: false, https: None, ca_pem }
    };
    assert!(site(true, None).is_lasting("voice.example.org"));
    assert!(!site(true, None).is_lasting("192.168.1.2"));
    assert!(!site(false, None).is_lasting("voice.example.org"));
    assert!(!site(true, Some("PEM".into())).is_lasting("voice.example.org"));
}
