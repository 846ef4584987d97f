//! A transport between two ends in memory, plain and with TLS.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use crate::net::inbox::Inbox;
use crate::net::tls;
use crate::net::transport::{TURN_ALLOWANCE, Transport};

/// One end of a connection in memory. The kernel's room is `room`.
struct End {
    incoming: Rc<RefCell<VecDeque<u8>>>,
    outgoing: Rc<RefCell<VecDeque<u8>>>,
    /// The other end has ended its side.
    over: Rc<RefCell<bool>>,
    room: usize,
    reads: usize,
}

impl Read for End {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        let mut incoming = self.incoming.borrow_mut();
        if incoming.is_empty() && !*self.over.borrow() {
            return Err(ErrorKind::WouldBlock.into());
        }
        incoming.make_contiguous();
        incoming.read(buf)
    }
}

impl Write for End {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut outgoing = self.outgoing.borrow_mut();
        let count = buf.len().min(self.room.saturating_sub(outgoing.len()));
        if count == 0 && !buf.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        outgoing.extend(&buf[..count]);
        Ok(count)
    }

    /// As the kernel does it: what fits of all of them.
    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let joined: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        self.write(&joined)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn ends() -> (End, End, Rc<RefCell<bool>>) {
    let (a, b, over) = (Rc::default(), Rc::default(), Rc::new(RefCell::new(false)));
    let end = |incoming: &Rc<_>, outgoing: &Rc<_>, over: &Rc<_>| End {
        incoming: Rc::clone(incoming),
        outgoing: Rc::clone(outgoing),
        over: Rc::clone(over),
        room: 1_000_000,
        reads: 0,
    };
    (end(&a, &b, &over), end(&b, &a, &Rc::default()), over)
}

/// A server and its client.
fn connections() -> (rustls::Connection, rustls::Connection) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let server = tls::server_config(chain.as_bytes(), key.as_bytes()).expect("they fit");
    let roots = tls::certificates(chain.as_bytes()).expect("a certificate");
    let client = tls::client_config(&roots).expect("a configuration");
    let server = tls::server(&server).expect("a connection");
    (server, tls::client(&client, "localhost").expect("a connection"))
}

type Pair = (Transport<End>, Transport<End>, Rc<RefCell<bool>>);

/// Ours is the server; the other's end says `over`.
fn secure() -> Pair {
    let ((server, client), (a, b, over)) = (connections(), ends());
    (Transport::tls(a, server), Transport::tls(b, client), over)
}

/// The same within a tunnel that is encrypted itself.
fn secure_in_a_tunnel() -> Pair {
    let ((mut ours, mut other, over), (server, client)) = (secure(), connections());
    shake_hands(&mut ours, &mut other);
    let ours = ours.tunnelled(server, &[]).expect("nothing came early");
    (ours, other.tunnelled(client, &[]).expect("nothing came early"), over)
}

fn new_turn(transport: &mut Transport<End>) {
    transport.mark_readable(false);
    transport.mark_writable();
    transport.begin_turn();
}

fn would_block<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Reads nothing but handshakes on both sides, until both are done.
fn shake_hands(ours: &mut Transport<End>, other: &mut Transport<End>) {
    for _ in 0..10 {
        for side in [&mut *other, &mut *ours] {
            new_turn(side);
            side.flush().expect("there is room");
            assert!(would_block(side.read(&mut [0])));
        }
    }
    assert!(!ours.is_handshaking() && !other.is_handshaking());
}

#[test]
fn a_short_read_is_the_last_one_until_an_event() {
    let (a, mut b, over) = ends();
    let mut ours = Transport::plain(a);
    b.write_all(b"hello").expect("there is room");
    let mut inbox = Inbox::new();
    assert!(ours.may_fill() && ours.has_more(), "nothing is known yet");
    assert_eq!(ours.fill(&mut inbox).expect("five bytes"), 5);
    assert!(!ours.may_fill() && !ours.has_more());
    assert!(would_block(ours.fill(&mut inbox)));
    assert_eq!(ours.stream().reads, 1, "the kernel was not asked again");
    ours.mark_readable(true);
    b.write_all(b"more").expect("there is room");
    assert_eq!(ours.fill(&mut inbox).expect("four bytes"), 4);
    assert!(ours.has_more(), "the end stands behind them without an event of its own");
    *over.borrow_mut() = true;
    assert_eq!(ours.fill(&mut inbox).expect("the end"), 0);
    assert_eq!(ours.fill(&mut inbox).expect("the end stays"), 0);
    assert_eq!((ours.received(), inbox.waiting()), (9, &b"hellomore"[..]));
}

#[test]
fn an_end_that_was_not_announced_stays_an_end() {
    let (a, _b, over) = ends();
    let mut ours = Transport::plain(a);
    *over.borrow_mut() = true;
    for _ in 0..3 {
        assert_eq!(ours.read(&mut [0; 10]).expect("the end"), 0);
    }
}

#[test]
fn a_turn_has_its_allowance() {
    let (a, mut b, _) = ends();
    let mut ours = Transport::plain(a);
    b.write_all(&[7; TURN_ALLOWANCE + 10]).expect("there is room");
    let (mut inbox, mut read) = (Inbox::new(), 0);
    while let Ok(count) = ours.fill(&mut inbox) {
        read += count;
    }
    assert_eq!(read, TURN_ALLOWANCE);
    assert!(ours.has_more(), "the next turn goes on without an event");
    ours.begin_turn();
    assert_eq!(ours.fill(&mut inbox).expect("the rest"), 10);
}

#[test]
fn a_write_that_is_cut_short_waits_for_an_event() {
    let (mut a, b, _) = ends();
    a.room = 10;
    let mut ours = Transport::plain(a);
    assert_eq!(ours.write(b"1234567").expect("there is room"), 7);
    assert!(!ours.is_blocked());
    assert_eq!(ours.write(b"1234567").expect("there is some"), 3);
    assert!(ours.is_blocked() && would_block(ours.write(b"4567")));
    b.incoming.borrow_mut().clear();
    assert!(would_block(ours.write(b"4567")), "no event has come");
    ours.mark_writable();
    assert_eq!(ours.write(b"4567").expect("there is room"), 4);
    assert_eq!(ours.sent(), 14);
}

/// The request behind the handshake is read by `read`, and the first frames, which came in the same
/// record, by `fill`.
#[test]
fn what_a_small_read_has_left_in_tls_comes_first() {
    let (mut ours, mut other, over) = secure();
    assert!(ours.is_handshaking() && other.is_handshaking());
    shake_hands(&mut ours, &mut other);
    other.write_all(b"request|frames").expect("there is room");
    other.flush().expect("there is room");
    new_turn(&mut ours);
    let mut request = [0; 8];
    assert_eq!(ours.read(&mut request).expect("it is there"), 8);
    assert!(ours.may_fill(), "no event tells of what TLS holds");
    let mut inbox = Inbox::new();
    assert_eq!(ours.fill(&mut inbox).expect("the rest"), 6);
    assert_eq!((&request, inbox.waiting()), (b"request|", &b"frames"[..]));
    assert!(would_block(ours.fill(&mut inbox)));
    assert!(!ours.has_more());
    // An announced end behind bytes is told after them, and then again.
    other.write_all(b"last").expect("there is room");
    other.send_close_notify();
    other.flush().expect("there is room");
    new_turn(&mut ours);
    assert_eq!(ours.fill(&mut inbox).expect("four bytes"), 4);
    assert!(ours.may_fill());
    assert_eq!(ours.fill(&mut inbox).expect("the end"), 0);
    assert_eq!(ours.read(&mut [0; 4]).expect("the end"), 0);
    *over.borrow_mut() = true;
    assert_eq!(ours.fill(&mut inbox).expect("the end"), 0);
}

#[test]
fn a_cut_connection_stays_at_its_end() {
    for ((mut ours, mut other, over), small) in [
        (secure(), true),
        (secure(), false),
        (secure_in_a_tunnel(), true),
        (secure_in_a_tunnel(), false),
    ] {
        shake_hands(&mut ours, &mut other);
        *over.borrow_mut() = true;
        new_turn(&mut ours);
        for _ in 0..3 {
            let end = if small { ours.read(&mut [0; 4]) } else { ours.fill(&mut Inbox::new()) };
            assert_eq!(end.expect("the end"), 0);
        }
    }
}

#[test]
fn what_is_no_tls_is_an_error_that_tells_so() {
    let (mut ours, other, _) = secure();
    other.stream().outgoing.borrow_mut().extend(b"GET / HTTP/1.1\r\n\r\n");
    let error = ours.read(&mut [0; 10]).expect_err("it is no TLS");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()));
    let (mut ours, mut other, _) = secure();
    shake_hands(&mut ours, &mut other);
    other.stream().outgoing.borrow_mut().extend(b"GET / HTTP/1.1\r\n\r\n");
    new_turn(&mut ours);
    let error = ours.fill(&mut Inbox::new()).expect_err("it is no TLS");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
}

#[test]
fn tls_keeps_what_the_kernel_does_not_take_and_has_a_bound() {
    let (mut ours, mut other, _) = secure();
    shake_hands(&mut ours, &mut other);
    ours.stream().outgoing.borrow_mut().clear();
    ours.stream_mut().room = 100;
    assert_eq!(ours.write(b"").expect("nothing is nothing"), 0);
    let mut taken = 0;
    let full = loop {
        match ours.write(&[7; 1000]) {
            Ok(count) => taken += count,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    assert!(ours.is_blocked(), "an event will come");
    assert!(ours.holds_output());
    assert!((30_000..40_000).contains(&taken), "{taken}");
    let before = ours.sent();
    ours.flush().expect("blocked is no error");
    assert_eq!(ours.sent(), before, "the kernel is not asked without an event");
    let mut inbox = Inbox::new();
    let mut read = 0;
    while ours.holds_output() {
        ours.mark_writable();
        ours.flush().expect("there is some room");
        new_turn(&mut other);
        while let Ok(count @ 1..) = other.fill(&mut inbox) {
            read += count;
            inbox.clear();
        }
    }
    new_turn(&mut other);
    while let Ok(count @ 1..) = other.fill(&mut inbox) {
        read += count;
    }
    assert_eq!(read, taken);
    assert!(ours.sent() > taken as u64, "records have heads");
}
