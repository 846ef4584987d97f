//! Every byte boundary, by seed: the real `WsPeer` and `Transport`, plain and TLS, in both roles,
//! over in-memory sockets that read, write and block as they please. A lost wake-up shows as a
//! connection that stands still with messages undelivered.
//!
//! `VOICELIVED_SEED=N cargo test --test all transport_seeds::` replays one seed.

use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::Arc;

use crate::support::{certificates, kernel, random};
use kernel::Socket;
use random::Random;
use voicelived::net::inbox::Inbox;
use voicelived::net::tls;
use voicelived::net::transport::{TURN_ALLOWANCE, Transport};
use voicelived::net::ws::{Incoming, Message, Role, Sizes, WsError, WsPeer};

const PLAIN_SEEDS: u64 = 4096;
const TLS_SEEDS: u64 = 1024;
const GOODBYE_SEEDS: u64 = 512;
const SIZES: Sizes = Sizes { message: 64 * 1024, waiting: 128 * 1024 };

type Pair = (Transport<Socket>, Transport<Socket>);

/// The client's end and the server's.
fn plain(room: usize) -> Pair {
    let (a, b) = kernel::pair(room);
    (Transport::plain(a), Transport::plain(b))
}

/// The client's and the server's state of a new TLS connection.
fn connections() -> impl Fn() -> (rustls::Connection, rustls::Connection) {
    let (certificate, key) = certificates::localhost();
    let server = tls::server_config(certificate.as_bytes(), key.as_bytes()).expect("TLS");
    let client =
        tls::client_config(&tls::certificates(certificate.as_bytes()).expect("TLS")).expect("TLS");
    move || {
        let client = tls::client(&Arc::clone(&client), "localhost").expect("TLS");
        (client, tls::server(&server).expect("TLS"))
    }
}

fn secure() -> impl Fn(usize) -> Pair {
    let connections = connections();
    move |room| {
        let ((a, b), (client, server)) = (kernel::pair(room), connections());
        (Transport::tls(a, client), Transport::tls(b, server))
    }
}

/// TLS inside the TLS to a proxy. Both ends stand in the tunnel: the proxy only passes bytes on.
fn tunnelled() -> impl Fn(usize) -> Pair {
    let (outer, inner) = (secure(), connections());
    move |room| {
        let (mut near, mut far) = outer(room);
        let step = |side: &mut Transport<Socket>| {
            if let Some(events) = side.stream().poll() {
                if events.readable {
                    side.mark_readable(false);
                }
                if events.writable {
                    side.mark_writable();
                }
            }
            side.begin_turn();
            let nothing = side.read(&mut [0]).expect_err("nothing is sent yet");
            assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
            side.flush().expect("it is open");
            side.stream().carry(usize::MAX);
        };
        while near.is_handshaking()
            || far.is_handshaking()
            || near.holds_output()
            || far.holds_output()
        {
            step(&mut near);
            step(&mut far);
        }
        let (client, server) = inner();
        (near.tunnelled(client, &[]).expect("TLS"), far.tunnelled(server, &[]).expect("TLS"))
    }
}

#[test]
fn tunnelled_connections_never_stand_still() {
    run_seeds(TLS_SEEDS / 2, tunnelled());
}

#[test]
fn plain_connections_never_stand_still() {
    run_seeds(PLAIN_SEEDS, plain);
}

#[test]
fn tls_connections_never_stand_still() {
    run_seeds(TLS_SEEDS, secure());
}

#[test]
fn the_answer_to_a_close_arrives_through_a_full_kernel() {
    let secure = secure();
    for seed in range(GOODBYE_SEEDS) {
        let mut random = Random::new(seed);
        say_goodbye(seed, plain(random.range(1, 5_000)), &mut random);
        // With less room TLS makes records of single bytes: a flood by their heads alone.
        say_goodbye(seed, secure(random.range(500, 5_000)), &mut random);
    }
}

/// A peer that sends without end is read up to a turn's allowance. The next turn continues.
#[test]
fn a_turn_reads_no_more_than_its_allowance() {
    let (flood, ours) = kernel::pair(usize::MAX);
    let mut flood = WsPeer::new(Transport::plain(flood), Role::Client, SIZES, &[]);
    let mut ours = WsPeer::new(Transport::plain(ours), Role::Server, SIZES, &[]);
    let (frames, mut heard, mut inbox) = (1_000, 0, Inbox::new());
    for _ in 0..frames {
        flood.send(Message::Binary(&[7; 960])).expect("there is room");
        flood.flush().expect("there is room");
    }
    flood.transport().stream().carry(usize::MAX);
    notice(&mut ours);
    while heard < frames {
        let before = ours.transport().received();
        ours.transport_mut().begin_turn();
        while let Some(message) = ours.read(&mut inbox).expect("it is open") {
            assert_eq!(message, Incoming::Binary(&[7; 960]));
            heard += 1;
        }
        ours.keep(&mut inbox);
        let read = ours.transport().received() - before;
        assert!(read <= TURN_ALLOWANCE as u64, "{read} bytes in a turn");
        assert!(heard == frames || ours.has_more(), "{heard} messages, then nothing");
    }
}

fn range(seeds: u64) -> std::ops::Range<u64> {
    let only = std::env::var("VOICELIVED_SEED").ok().map(|seed| seed.parse().expect("a number"));
    only.map_or(0..seeds, |seed: u64| seed..seed + 1)
}

fn run_seeds(seeds: u64, connect: impl Fn(usize) -> Pair) {
    for seed in range(seeds) {
        let mut random = Random::new(seed);
        let (a, b) = connect(random.range(1, 70_000));
        let mut sides =
            [Side::new(a, Role::Client, &mut random), Side::new(b, Role::Server, &mut random)];
        let steps = converse(&mut sides, &mut random);
        for (at, side) in sides.iter().enumerate() {
            assert_eq!(
                side.sent,
                side.outbox.len(),
                "seed {seed}: side {at} could not send after {steps} steps"
            );
        }
        for at in [0, 1] {
            assert_eq!(
                sides[at].received,
                sides[1 - at].outbox.len(),
                "seed {seed}: side {at} waits after {steps} steps"
            );
        }
    }
}

/// One end of the conversation.
struct Side {
    peer: WsPeer<Socket>,
    inbox: Inbox,
    outbox: Rc<Vec<Vec<u8>>>,
    sent: usize,
    received: usize,
}

impl Side {
    fn new(transport: Transport<Socket>, role: Role, random: &mut Random) -> Self {
        // Now and then more at once than rustls holds: its limit is where wake-ups get lost.
        let most = if random.one_in(3) { 40 } else { 8 };
        let count = random.range(1, most);
        let outbox = (0..count).map(|at| payload(at, random)).collect();
        Self {
            peer: WsPeer::new(transport, role, SIZES, &[]),
            inbox: Inbox::new(),
            outbox: Rc::new(outbox),
            sent: 0,
            received: 0,
        }
    }

    /// What the loop does with a slot in one turn: read (maybe pausing), send, flush.
    fn pump(&mut self, expected: &[Vec<u8>], random: &mut Random) {
        self.peer.transport_mut().begin_turn();
        let pause_after = if random.one_in(3) { random.range(0, 3) } else { usize::MAX };
        let mut taken = 0;
        while taken < pause_after {
            match self.peer.read(&mut self.inbox).expect("the connection holds") {
                Some(Incoming::Binary(data)) => {
                    assert_eq!(data, expected[self.received], "message {}", self.received);
                    self.received += 1;
                    taken += 1;
                }
                Some(Incoming::Control) => {}
                Some(other) => panic!("unexpected {other:?}"),
                None => break,
            }
        }
        self.peer.keep(&mut self.inbox);
        // Every other turn uses memory of its own, as an owner that lends none does.
        let mut lent = Vec::new();
        if random.one_in(2) {
            self.peer.lend(&mut lent);
        }
        while let Some(next) = self.outbox.get(self.sent) {
            if random.one_in(5) {
                let _ = self.peer.send(Message::Ping);
            }
            match self.peer.send(Message::Binary(next)) {
                Ok(()) => self.sent += 1,
                Err(WsError::Full) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
        self.peer.flush().expect("the connection holds");
        self.peer.take_back(&mut lent);
    }

    /// Whether the loop would pump this side without any event: something is left to read, or
    /// messages wait for room that exists.
    fn runnable(&self) -> bool {
        self.peer.has_more()
            || (self.sent < self.outbox.len() && !self.peer.transport().is_blocked())
    }
}

fn payload(at: usize, random: &mut Random) -> Vec<u8> {
    let length = match random.range(0, 9) {
        0 => random.range(0, 10),
        1..=8 => random.range(100, 2_000),
        _ => random.range(2_000, 50_000),
    };
    (0..length).map(|byte| (byte * 31 + at * 7).to_le_bytes()[0]).collect()
}

/// Runs until nothing can move any more; returns the steps taken.
fn converse(sides: &mut [Side; 2], random: &mut Random) -> usize {
    for at in [0, 1] {
        let expected = Rc::clone(&sides[1 - at].outbox);
        sides[at].pump(&expected, random);
    }
    for step in 0..200_000 {
        let mut moved = false;
        let first = random.range(0, 1);
        for at in [first, 1 - first] {
            moved |= sides[at].peer.transport().stream().carry(random.range(1, 30_000));
            if random.one_in(20) {
                sides[at].peer.transport().stream().resize(random);
            }
        }
        for at in [0, 1] {
            // The poll may be late: events wait, and are not repeated once told.
            if random.one_in(2) && moved {
                continue;
            }
            let events = sides[at].peer.transport().stream().poll();
            if let Some(events) = &events {
                if events.readable {
                    sides[at].peer.mark_readable(false);
                }
                if events.writable {
                    sides[at].peer.mark_writable();
                }
            }
            if events.is_some() || sides[at].runnable() {
                let expected = Rc::clone(&sides[1 - at].outbox);
                sides[at].pump(&expected, random);
                moved = true;
            }
        }
        if !moved {
            return step;
        }
    }
    200_000
}

/// A client that reads slowly says goodbye in the middle of what a server sends it. Everything the
/// server was able to send must arrive, and its close frame behind it; and the server must know when
/// it has handed over the last byte, since its socket goes then.
fn say_goodbye(seed: u64, (client, server): Pair, random: &mut Random) {
    let outbox: Vec<_> = (0..40).map(|at| payload(at, random)).collect();
    let mut client = WsPeer::new(client, Role::Client, SIZES, &[]);
    let mut server = WsPeer::new(server, Role::Server, SIZES, &[]);
    let mut inbox = Inbox::new();
    let goodbye_at = random.range(20, 200);
    let (mut sent, mut received, mut answer) = (0, 0, None);
    for step in 0.. {
        let mut moved = client.transport().stream().carry(usize::MAX);
        moved |= server.transport().stream().carry(random.range(1, 4_000));
        notice(&mut client);
        client.transport_mut().begin_turn();
        while let Ok(Some(incoming)) = client.read(&mut inbox) {
            match incoming {
                Incoming::Binary(data) => {
                    assert_eq!(data, outbox[received], "seed {seed}: message {received}");
                    received += 1;
                }
                Incoming::Close(frame) => answer = frame.map(|frame| u16::from(frame.code)),
                other => panic!("seed {seed}: unexpected {other:?}"),
            }
        }
        client.keep(&mut inbox);
        if step == goodbye_at {
            client.close(1000, "");
        }
        let _ = client.flush();
        if !server.is_done() {
            moved |= notice(&mut server) || server.has_more();
            server.transport_mut().begin_turn();
            let _ = server.flush();
            while let Ok(Some(incoming)) = server.read(&mut inbox) {
                assert!(matches!(incoming, Incoming::Close(_)), "seed {seed}: {incoming:?}");
                server.close(1000, "");
            }
            server.keep(&mut inbox);
            while sent < outbox.len() && server.is_open() {
                if server.send(Message::Binary(&outbox[sent])).is_err() {
                    break;
                }
                sent += 1;
            }
            let _ = server.flush();
            server.end_output();
        }
        if client.is_done() {
            client.transport().stream().end();
        }
        if step > goodbye_at && !moved {
            break;
        }
    }
    assert!(server.is_done(), "seed {seed}: the server does not let go");
    assert_eq!(received, sent, "seed {seed}: messages are missing");
    assert_eq!(answer, Some(1000), "seed {seed}: the close frame is missing");
}

/// Tells a peer what the poll has for it.
fn notice(peer: &mut WsPeer<Socket>) -> bool {
    let Some(events) = peer.transport().stream().poll() else { return false };
    if events.readable {
        peer.mark_readable(events.ended);
    }
    if events.writable {
        peer.mark_writable();
    }
    true
}
