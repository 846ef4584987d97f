//! A WebSocket peer over a stream that reads, writes and blocks as it pleases: cut into pieces the
//! same messages come, a violation is told once and by its code, and it ends when the stream does.

use std::io::{self, ErrorKind, Read, Write};

use voicelived::net::inbox::Inbox;
use voicelived::net::transport::Transport;
use voicelived::net::ws::{Incoming, Message, Role, Sizes, WsError, WsPeer, said};

/// Small, so that short inputs reach the bounds.
const SIZES: Sizes = Sizes { message: 2_000, waiting: 20_000 };

/// Bytes from a message to the end of the peer's patience, with what one turn may read on top.
const MOST_SILENT: usize = SIZES.message + 64 * 1024 + 128 * 1024;

/// Below this no flood of fragments is recognised, so pieces and the whole must agree.
const NO_FLOOD: usize = 64 * 1024;

/// Turns for one input at most: each takes a byte or finds the end.
const MOST_TURNS: usize = 1_000_000;

/// First byte: role and how often the frames are sent. Second byte: the cuts. The rest: frames.
pub fn fuzz_peer(data: &[u8]) {
    let [flags, seed, frames @ ..] = data else {
        return;
    };
    let role = if flags & 1 == 0 { Role::Server } else { Role::Client };
    let times = 1 << (flags >> 1 & 7);
    let early = usize::from(flags >> 4).min(frames.len());
    let bytes = frames.repeat(times);
    let whole = run(role, Stream::new(&bytes, 0), early);
    let cut = run(role, Stream::new(&bytes, *seed), early);
    if bytes.len() < NO_FLOOD {
        assert_eq!(whole, cut, "the cuts matter");
    }
}

/// What the peer said until it closed or broke the protocol, and that.
#[derive(Debug, PartialEq, Eq, Default)]
struct Seen {
    messages: Vec<Heard>,
    violation: Option<u16>,
}

/// An [`Incoming`] that lasts.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Control,
    Close(Option<u16>, String),
}

impl From<Incoming<'_>> for Heard {
    fn from(message: Incoming<'_>) -> Self {
        match message {
            Incoming::Text(text) => Self::Text(text.to_owned()),
            Incoming::Binary(data) => Self::Binary(data.to_vec()),
            Incoming::Control => Self::Control,
            Incoming::Close(frame) => {
                let (code, reason) = said(frame);
                Self::Close(code, reason)
            }
        }
    }
}

fn run(role: Role, mut stream: Stream<'_>, early: usize) -> Seen {
    let mut first = vec![0; early];
    stream.bytes = {
        let (taken, rest) = stream.bytes.split_at(early);
        first.copy_from_slice(taken);
        rest
    };
    let mut peer = WsPeer::new(Transport::plain(stream), role, SIZES, &first);
    let mut seen = Seen::default();
    let mut inbox = Inbox::new();
    let mut heard_at = 0;
    let mut turns = 0;
    while !peer.is_done() {
        turns += 1;
        assert!(turns < MOST_TURNS, "it never ends");
        turn(&mut peer, &mut inbox, &mut seen, &mut heard_at);
        // Here the owner's time would run out: the answer to the close can never leave.
        if seen.messages.iter().any(is_close) && peer.transport().stream().is_stuck() {
            return seen;
        }
    }
    assert!(matches!(peer.read(&mut inbox), Err(WsError::Closed)));
    assert!(peer.send(Message::Text("x")).is_err() && peer.flush().is_ok() && !peer.has_more());
    let sent = std::mem::take(&mut peer.transport_mut().stream_mut().sent);
    // The side that closes first chooses the code. Later violations do not change it.
    let closed = seen.messages.iter().any(is_close);
    check_sent(&sent, role, seen.violation.filter(|_| !closed));
    seen
}

/// What the loop does in one turn.
fn turn(peer: &mut WsPeer<Stream<'_>>, inbox: &mut Inbox, seen: &mut Seen, heard_at: &mut u64) {
    peer.transport_mut().stream_mut().move_on();
    peer.mark_readable(peer.transport().stream().bytes.is_empty());
    peer.mark_writable();
    peer.transport_mut().begin_turn();
    while peer.has_more() {
        match peer.read(inbox) {
            Ok(Some(message)) => {
                let message = message.into();
                *heard_at = peer.transport().received();
                hear(peer, seen, message);
            }
            Ok(None) => break,
            Err(WsError::Violation { code, .. }) => {
                assert_eq!(seen.violation.replace(code.into()), None, "a second violation");
                // The last word, as the session would say it.
                let _ = peer.send(Message::Text("the end"));
                peer.close(1011, "is not sent: the violation's code is");
                assert!(!peer.is_open());
            }
            Err(WsError::Closed | WsError::Lost(_)) => assert!(peer.is_done()),
            Err(WsError::Full) => panic!("nothing was sent"),
        }
    }
    peer.keep(inbox);
    if seen.violation.is_none() && peer.is_open() {
        let silent = peer.transport().received() - *heard_at;
        assert!(silent <= MOST_SILENT as u64, "{silent} bytes without a message");
    }
    let _ = peer.flush();
}

fn hear(peer: &mut WsPeer<Stream<'_>>, seen: &mut Seen, message: Heard) {
    assert_eq!(seen.violation, None, "{message:?} after a violation");
    assert!(!seen.messages.iter().any(is_close), "{message:?} after the close");
    match &message {
        Heard::Text(text) => assert!(text.len() <= SIZES.message),
        Heard::Binary(data) => assert!(data.len() <= SIZES.message),
        Heard::Close(_, reason) => assert!(reason.len() <= 123),
        Heard::Control => {}
    }
    // Answers meet a stream that may be blocked: more than the bound is refused, not kept.
    match peer.send(Message::Binary(&[0; 100])) {
        Ok(()) | Err(WsError::Full | WsError::Closed) => {}
        Err(WsError::Lost(error)) => panic!("the stream holds: {error}"),
        Err(WsError::Violation { .. }) => panic!("nothing was read"),
    }
    if is_close(&message) {
        peer.close(1000, "");
    }
    seen.messages.push(message);
}

fn is_close(message: &Heard) -> bool {
    matches!(message, Heard::Close(..))
}

/// What left is whole frames of our role, with one close at most, and that is the last.
fn check_sent(mut sent: &[u8], role: Role, violation: Option<u16>) {
    let mut closed = false;
    while let [first, second, rest @ ..] = sent {
        assert!(!closed, "a frame after the close");
        let masked = second & 0x80 != 0;
        assert_eq!(masked, role == Role::Client);
        let (length, rest) = match second & 0x7f {
            126 => match rest {
                [high, low, rest @ ..] => (usize::from(*high) << 8 | usize::from(*low), rest),
                _ => return,
            },
            127 => panic!("nothing so long was sent"),
            short => (usize::from(short), rest),
        };
        // The stream may have ended in the middle of a frame.
        let Some((mask, rest)) = rest.split_at_checked(if masked { 4 } else { 0 }) else {
            return;
        };
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            return;
        };
        if first & 0x0f == 8 {
            closed = true;
            let byte = |at: usize| payload[at] ^ mask.get(at).copied().unwrap_or_default();
            if let (Some(code), true) = (violation, payload.len() >= 2) {
                assert_eq!(u16::from(byte(0)) << 8 | u16::from(byte(1)), code);
            }
        }
        sent = rest;
    }
}

/// A stream whose bytes come and whose room grows turn by turn.
#[derive(Debug)]
struct Stream<'a> {
    bytes: &'a [u8],
    /// Zero: everything at once, in both directions.
    seed: u8,
    state: u32,
    readable: usize,
    writable: usize,
    sent: Vec<u8>,
}

impl<'a> Stream<'a> {
    fn new(bytes: &'a [u8], seed: u8) -> Self {
        Self { bytes, seed, state: u32::from(seed), readable: 0, writable: 0, sent: Vec::new() }
    }

    /// Everything has come, and nothing will ever leave.
    fn is_stuck(&self) -> bool {
        self.bytes.is_empty() && self.seed != 0 && !self.lets_leave()
    }

    /// Some seeds never let anything leave.
    fn lets_leave(&self) -> bool {
        self.seed & 16 == 0 && self.seed & 15 != 0
    }

    /// A new turn: some more bytes have arrived, some more may leave.
    fn move_on(&mut self) {
        if self.seed == 0 {
            (self.readable, self.writable) = (usize::MAX, usize::MAX);
            return;
        }
        let lets_leave = self.lets_leave();
        let mut random = || {
            self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (self.state >> 16) as usize
        };
        // Some seeds go byte by byte, others in large pieces.
        let most = 1 << (self.seed & 15).min(14);
        self.readable = 1 + random() % most;
        self.writable = if lets_leave { random() % most } else { 0 };
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            return Ok(0);
        }
        let count = buf.len().min(self.readable).min(self.bytes.len());
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let (taken, rest) = self.bytes.split_at(count);
        buf[..count].copy_from_slice(taken);
        self.bytes = rest;
        self.readable -= count;
        Ok(count)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = buf.len().min(self.writable);
        if count == 0 && !buf.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.sent.extend_from_slice(&buf[..count]);
        self.writable -= count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
