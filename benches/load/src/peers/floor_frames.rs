//! What no relay can avoid for one frame of audio: as a whole, on the cases and the kind of sockets
//! that `cargo bench --bench frames` measures the daemon's core on, and in pieces.
//!
//!     floor-frames                  a line of JSON for each case
//!     floor-frames count CASE N     runs N frames of one case, for callgrind

#[path = "../frame.rs"]
#[allow(dead_code, reason = "the load uses the rest")]
mod frame;
#[path = "../shape.rs"]
mod shape;
#[path = "../unavoidable.rs"]
mod unavoidable;

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mio::{Events, Interest, Poll, Token};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, RootCertStore, ServerConnection};
use serde_json::{Value, json};
use shape::{CASES, Direction, Messages, Shape, pair, quartiles, shape};
use unavoidable::{Buffers, Side, back, forth};

/// Runs of which a median is made.
const SAMPLES: usize = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => CASES.iter().for_each(|(name, shape)| report(name, *shape)),
        ["count", name, frames] => {
            let mut floor = Floor::new(shape(name));
            for _ in 0..frames.parse().expect("a number of frames") {
                floor.frame();
            }
        }
        _ => panic!("no arguments, or `count CASE FRAMES`"),
    }
}

fn report(name: &str, shape: Shape) {
    let mut floor = Floor::new(shape);
    for _ in 0..100 {
        floor.frame();
    }
    let times = (0..2 * SAMPLES).map(|_| floor.frame()).collect();
    println!(
        "{}",
        json!({"case": name, "floor_ns": quartiles(times), "pieces_ns": floor.pieces()})
    );
}

/// A relay that does nothing else, and its two ends.
struct Floor {
    client: Side,
    service: Side,
    far_client: Side,
    far_service: Side,
    shape: Shape,
    messages: Messages,
    buffers: Buffers,
    poll: Poll,
    events: Events,
    wire: Vec<u8>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl Floor {
    fn new(shape: Shape) -> Self {
        let (far_client, client) = connection(shape.client_tls);
        let (service, far_service) = connection(shape.service_tls);
        let poll = Poll::new().expect("a poll");
        let near = if shape.direction == Direction::Up { &client } else { &service };
        watch(&near.stream, &poll);
        let sized = || Vec::with_capacity(64 * 1_024);
        Self {
            client,
            service,
            far_client,
            far_service,
            shape,
            messages: shape.messages(),
            buffers: Buffers::new(),
            poll,
            events: Events::with_capacity(4),
            wire: vec![0; 64 * 1_024],
            plain: sized(),
            sealed: sized(),
        }
    }

    /// One frame from end to end; the time of the relay's part.
    fn frame(&mut self) -> Duration {
        let far = match self.shape.direction {
            Direction::Up => &mut self.far_client,
            Direction::Down => &mut self.far_service,
        };
        far.send(&self.messages.wire, &mut self.sealed).expect("an open connection");
        self.poll.poll(&mut self.events, Some(Duration::from_secs(20))).expect("a poll");
        let started = Instant::now();
        measured(self);
        let time = started.elapsed();
        self.check();
        time
    }

    /// It has relayed what it should.
    fn check(&mut self) {
        let far = match self.shape.direction {
            Direction::Up => &mut self.far_service,
            Direction::Down => &mut self.far_client,
        };
        self.plain.clear();
        loop {
            if let Some(head) = frame::Head::parse(&self.plain)
                && self.plain.len() >= head.bytes + head.payload
            {
                let payload = &mut self.plain[head.bytes..];
                frame::mask(payload, head.mask.unwrap_or_default());
                assert!(payload == self.messages.payload, "the floor relays something else");
                return;
            }
            assert!(far.receive(&mut self.wire, &mut self.plain).expect("an open connection"));
        }
    }

    /// Medians of the single pieces, in nanoseconds: for this amount of audio, over TLS if it is used.
    fn pieces(&mut self) -> Value {
        let mut pcm = vec![7; self.shape.pcm];
        let mut text = vec![0; self.shape.pcm / 3 * 4];
        let mut out = vec![0; self.shape.pcm + 3];
        let mask = median(|| frame::mask(black_box(&mut pcm), frame::MASK));
        let encode = median(|| {
            STANDARD.encode_slice(black_box(&pcm), &mut text).expect("room");
        });
        let decode = median(|| {
            STANDARD.decode_slice_unchecked(black_box(&text), &mut out).expect("room");
        });
        let (send, receive) = system_calls(self.shape.pcm);
        let (seal, open) = records(&text);
        json!({"mask": mask, "base64_encode": encode, "base64_decode": decode,
            "tls_seal": seal, "tls_open": open, "send": send, "receive": receive})
    }
}

#[inline(never)]
fn measured(floor: &mut Floor) {
    let Floor { client, service, shape, buffers, .. } = floor;
    match shape.direction {
        Direction::Up => {
            forth(client, service, buffers).expect("open connections");
        }
        Direction::Down => {
            back(service, client, shape.pcm / 3 * 4, buffers).expect("open connections");
        }
    }
}

/// A connection, its connecting end first.
fn connection(with_tls: bool) -> (Side, Side) {
    let (near, far) = pair();
    if !with_tls {
        return (Side { stream: near, tls: None }, Side { stream: far, tls: None });
    }
    let (near_tls, far_tls) = tls_pair();
    (Side { stream: near, tls: Some(near_tls) }, Side { stream: far, tls: Some(far_tls) })
}

/// Tells the poll when bytes have come, as a relay would have it.
fn watch(stream: &TcpStream, poll: &Poll) {
    stream.set_nonblocking(true).expect("an open socket");
    let twin = stream.try_clone().expect("a descriptor");
    let mut twin = mio::net::TcpStream::from_std(twin);
    poll.registry().register(&mut twin, Token(0), Interest::READABLE).expect("a new socket");
    // Its registration lives as long as the socket itself, which `stream` keeps open.
}

/// Client and server after their handshake.
fn tls_pair() -> (Connection, Connection) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("names");
    let key = made.signing_key.serialize_der().try_into().expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
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
    let (mut near, mut far) = connection(false);
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
