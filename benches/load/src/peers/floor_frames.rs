//! What no relay can avoid for one frame of audio: as a whole, on the cases that `benches/frames`
//! measures the daemon's core on, in memory and over sockets as there, and in pieces.
//!
//!     floor-frames                          a line of JSON for each case
//!     floor-frames count CASE up|down N     for callgrind

#[path = "../frame.rs"]
#[allow(dead_code, reason = "the load uses the rest")]
mod frame;
#[path = "../memory.rs"]
mod memory;
#[path = "../shape.rs"]
mod shape;
#[path = "../suites.rs"]
mod suites;
#[path = "../unavoidable.rs"]
mod unavoidable;

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use mio::{Events, Interest, Poll, Token};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, RootCertStore, ServerConnection};
use serde_json::{Value, json};
use shape::{CASES, Direction, Message, Shape, check, direction, pair, quartiles, shape};
use unavoidable::{Buffers, Side, back, forth};

/// Runs of which a median is made.
const SAMPLES: usize = 1_000;

/// Frames before the first that counts.
const WARM_UP: usize = 100;

/// How long anything may take: it is on loopback, but the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

const CLIENT: Token = Token(0);
const SERVICE: Token = Token(1);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => CASES.iter().for_each(|(name, shape)| report(name, *shape)),
        ["count", name, way, frames] => {
            count(name, direction(way), frames.parse().expect("a number of frames"));
        }
        _ => panic!("no arguments, or `count CASE up|down FRAMES`"),
    }
}

/// For callgrind, which counts within [`measured`] only. Frames go both ways, as in a call.
fn count(name: &str, counted: Direction, frames: usize) {
    let mut floor = Floor::new(shape(name), memory::pair);
    for number in 0..WARM_UP + frames {
        for direction in [Direction::Up, Direction::Down] {
            floor.send(direction);
            if direction == counted && number >= WARM_UP {
                measured(&mut floor, direction);
            } else {
                floor.relay(direction);
            }
            floor.check(direction);
        }
    }
}

fn report(name: &str, shape: Shape) {
    let mut floor = Floor::new(shape, memory::pair);
    let memory = times(&mut floor, |_, _| {});
    let mut floor = Floor::new(shape, pair);
    let mut readiness = Readiness::of(&floor);
    let sockets = times(&mut floor, |_, direction| readiness.wait(direction));
    let line = json!({
        "case": name,
        "up_floor_memory_ns": memory[0], "down_floor_memory_ns": memory[1],
        "up_floor_ns": sockets[0], "down_floor_ns": sockets[1],
        "pieces_ns": pieces(shape.reply),
    });
    println!("{line}");
}

/// Quartiles up and down. `come` waits until the frame lies ready.
fn times<S: Read + Write>(
    floor: &mut Floor<S>,
    mut come: impl FnMut(&Floor<S>, Direction),
) -> [[u64; 3]; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for number in 0..WARM_UP + 2 * SAMPLES {
        for (direction, times) in [Direction::Up, Direction::Down].into_iter().zip(&mut times) {
            floor.send(direction);
            come(floor, direction);
            let started = Instant::now();
            measured(floor, direction);
            let time = started.elapsed();
            floor.check(direction);
            if number >= WARM_UP {
                times.push(time);
            }
        }
    }
    times.map(quartiles)
}

/// A relay that does nothing else, and its two ends.
struct Floor<S> {
    client: Side<S>,
    service: Side<S>,
    far_client: Side<S>,
    far_service: Side<S>,
    up: Message,
    down: Message,
    /// Characters of base64 in a delta.
    chars: usize,
    buffers: Buffers,
    wire: Vec<u8>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl<S: Read + Write> Floor<S> {
    fn new(shape: Shape, connect: impl Fn() -> (S, S)) -> Self {
        let (far_client, client) = connection(connect(), shape.client_tls);
        let (service, far_service) = connection(connect(), shape.service_tls);
        let sized = || Vec::with_capacity(64 * 1_024);
        Self {
            client,
            service,
            far_client,
            far_service,
            up: Message::of(shape, Direction::Up),
            down: Message::of(shape, Direction::Down),
            chars: shape.reply / 3 * 4,
            buffers: Buffers::new(),
            wire: vec![0; 64 * 1_024],
            plain: sized(),
            sealed: sized(),
        }
    }

    fn send(&mut self, direction: Direction) {
        let (far, message) = match direction {
            Direction::Up => (&mut self.far_client, &self.up),
            Direction::Down => (&mut self.far_service, &self.down),
        };
        far.send(&message.wire, &mut self.sealed).expect("an open connection");
    }

    fn relay(&mut self, direction: Direction) {
        let Self { client, service, buffers, .. } = self;
        match direction {
            Direction::Up => {
                forth(client, service, buffers).expect("open connections");
            }
            Direction::Down => {
                back(service, client, self.chars, buffers).expect("open connections");
            }
        }
    }

    /// It has relayed what it should.
    fn check(&mut self, direction: Direction) {
        let (far, message) = match direction {
            Direction::Up => (&mut self.far_service, &self.up),
            Direction::Down => (&mut self.far_client, &self.down),
        };
        check(far, message, &mut self.wire, &mut self.plain);
    }
}

/// Tells when a frame has come, as a relay would have it.
struct Readiness {
    poll: Poll,
    events: Events,
}

impl Readiness {
    fn of(floor: &Floor<TcpStream>) -> Self {
        let poll = Poll::new().expect("a poll");
        for (side, token) in [(&floor.client, CLIENT), (&floor.service, SERVICE)] {
            side.stream.set_nonblocking(true).expect("an open socket");
            let twin = side.stream.try_clone().expect("a descriptor");
            let mut twin = mio::net::TcpStream::from_std(twin);
            poll.registry().register(&mut twin, token, Interest::READABLE).expect("a new socket");
            // Its registration lives as long as the socket itself, which the side keeps open.
        }
        Self { poll, events: Events::with_capacity(4) }
    }

    fn wait(&mut self, direction: Direction) {
        let token = if direction == Direction::Up { CLIENT } else { SERVICE };
        let deadline = Instant::now() + PATIENCE;
        while !self.events.iter().any(|event| event.token() == token && event.is_readable()) {
            assert!(Instant::now() < deadline, "the frame does not come");
            self.poll.poll(&mut self.events, Some(PATIENCE)).expect("a poll");
        }
        self.events.clear();
    }
}

/// What callgrind counts and the clock measures.
#[inline(never)]
fn measured<S: Read + Write>(floor: &mut Floor<S>, direction: Direction) {
    floor.relay(direction);
}

/// Medians of the single pieces, in nanoseconds, for so many bytes of PCM.
fn pieces(bytes: usize) -> Value {
    let mut pcm = vec![7; bytes];
    let mut text = vec![0; bytes / 3 * 4];
    let mut out = vec![0; bytes + 3];
    let mask = median(|| frame::mask(black_box(&mut pcm), frame::MASK));
    let encode = median(|| {
        let _ = unavoidable::BASE64.encode_slice(black_box(&pcm), &mut text);
    });
    let decode = median(|| {
        unavoidable::BASE64.decode_slice(black_box(&text), &mut out).expect("base64");
    });
    let (send, receive) = system_calls(bytes);
    let (seal, open) = records(&text);
    json!({"mask": mask, "base64_encode": encode, "base64_decode": decode,
        "tls_seal": seal, "tls_open": open, "send": send, "receive": receive})
}

/// A connection, its connecting end first.
fn connection<S>((near, far): (S, S), with_tls: bool) -> (Side<S>, Side<S>) {
    if !with_tls {
        return (Side { stream: near, tls: None }, Side { stream: far, tls: None });
    }
    let (near_tls, far_tls) = tls_pair();
    (Side { stream: near, tls: Some(near_tls) }, Side { stream: far, tls: Some(far_tls) })
}

/// Client and server after their handshake.
fn tls_pair() -> (Connection, Connection) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("names");
    let key = made.signing_key.serialize_der().try_into().expect("a key");
    let provider = suites::provider();
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a pair");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("an anchor");
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let near = ClientConnection::new(Arc::new(client), name).expect("a config");
    let far = ServerConnection::new(Arc::new(server)).expect("a config");
    let (mut near, mut far) = (Connection::from(near), Connection::from(far));
    while near.wants_write() || far.wants_write() {
        deliver(&mut near, &mut far);
        deliver(&mut far, &mut near);
    }
    (near, far)
}

fn deliver(from: &mut Connection, to: &mut Connection) {
    let mut sealed = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut sealed).expect("memory");
    }
    let mut rest = sealed.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).expect("memory");
        to.process_new_packets().expect("proper TLS");
    }
}

fn system_calls(bytes: usize) -> (u64, u64) {
    let (mut near, mut far) = connection(pair(), false);
    let (message, mut wire) = (vec![7; bytes], vec![0; 64 * 1_024]);
    let (mut plain, mut sealed) = (Vec::with_capacity(64 * 1_024), Vec::new());
    let (mut sends, mut receives) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        let started = Instant::now();
        near.send(&message, &mut sealed).expect("an open connection");
        sends.push(started.elapsed());
        far.stream.peek(&mut [0]).expect("an open connection");
        plain.clear();
        let started = Instant::now();
        far.receive(&mut wire, &mut plain).expect("an open connection");
        receives.push(started.elapsed());
    }
    (middle(sends), middle(receives))
}

/// One TLS record of this text sealed, and opened.
fn records(text: &[u8]) -> (u64, u64) {
    let (mut near, mut far) = tls_pair();
    let (mut sealed, mut plain) = (Vec::with_capacity(64 * 1_024), vec![0; text.len()]);
    let (mut seals, mut opens) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        sealed.clear();
        let started = Instant::now();
        near.writer().write_all(text).expect("memory");
        while near.wants_write() {
            near.write_tls(&mut sealed).expect("memory");
        }
        seals.push(started.elapsed());
        let started = Instant::now();
        let mut rest = sealed.as_slice();
        let mut at = 0;
        while !rest.is_empty() {
            far.read_tls(&mut rest).expect("memory");
            let state = far.process_new_packets().expect("proper TLS");
            let end = at + state.plaintext_bytes_to_read();
            far.reader().read_exact(&mut plain[at..end]).expect("it is there");
            at = end;
        }
        opens.push(started.elapsed());
        assert!(plain == text);
    }
    (middle(seals), middle(opens))
}

fn median(mut work: impl FnMut()) -> u64 {
    let times = (0..SAMPLES).map(|_| {
        let started = Instant::now();
        work();
        started.elapsed()
    });
    middle(times.collect())
}

fn middle(times: Vec<Duration>) -> u64 {
    quartiles(times)[1]
}
