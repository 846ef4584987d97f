//! What a session's connections are made of: sockets on loopback, or memory.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use voicelived::net::socket::Socket;

use crate::memory::{self, Memory};
use crate::shape;

/// How long anything may take: it is on loopback, but the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A connection of the session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Client,
    Service,
}

/// What a poll reports of one.
#[derive(Clone, Copy)]
pub(crate) struct Event {
    pub(crate) end: End,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) ending: bool,
}

/// Where connections come from, and what tells when they are ready.
pub(crate) trait Ground {
    /// The session's ends.
    type Near: Socket;
    /// The ends in our hands.
    type Far: Read + Write;

    fn new() -> Self;

    /// Where the session finds its service.
    fn address(&self) -> SocketAddr;

    /// A client's connection.
    fn client(&mut self) -> (Self::Far, Self::Near);

    /// The other end of the connection that the session has made.
    fn accept(&mut self) -> Self::Far;

    fn watch(&mut self, end: End, socket: &mut Self::Near);

    /// Whether reading an end of ours may wait.
    fn set_nonblocking(far: &Self::Far, nonblocking: bool);

    /// What has come up; waits a moment for it.
    fn poll(&mut self, wait: Duration) -> Vec<Event>;

    /// The same, when there is only what came to this end. Waits for it.
    fn arrival(&mut self, end: End) -> Vec<Event>;
}

/// Loopback.
pub(crate) struct Sockets {
    listener: TcpListener,
    poll: Poll,
    events: Events,
}

const ENDS: [End; 2] = [End::Client, End::Service];

impl Ground for Sockets {
    type Near = mio::net::TcpStream;
    type Far = std::net::TcpStream;

    fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let (poll, events) = (Poll::new().expect("a poll"), Events::with_capacity(16));
        Self { listener, poll, events }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("bound")
    }

    fn client(&mut self) -> (Self::Far, Self::Near) {
        let (far, near) = shape::pair();
        near.set_nonblocking(true).expect("an open socket");
        (far, mio::net::TcpStream::from_std(near))
    }

    fn accept(&mut self) -> Self::Far {
        let far = self.listener.accept().expect("the session's connection").0;
        far.set_nodelay(true).expect("an open socket");
        far
    }

    fn watch(&mut self, end: End, socket: &mut Self::Near) {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(usize::from(end == End::Service));
        self.poll.registry().register(socket, token, interest).expect("a new socket");
    }

    fn set_nonblocking(far: &Self::Far, nonblocking: bool) {
        far.set_nonblocking(nonblocking).expect("an open socket");
    }

    fn poll(&mut self, wait: Duration) -> Vec<Event> {
        self.poll.poll(&mut self.events, Some(wait)).expect("a poll");
        let event = |event: &mio::event::Event| Event {
            end: ENDS[event.token().0],
            readable: event.is_readable(),
            writable: event.is_writable(),
            ending: event.is_read_closed(),
        };
        self.events.iter().map(event).collect()
    }

    fn arrival(&mut self, end: End) -> Vec<Event> {
        let deadline = Instant::now() + PATIENCE;
        let mut all = Vec::new();
        while !all.iter().any(|event: &Event| event.end == end && event.readable) {
            assert!(Instant::now() < deadline, "the frame does not come");
            all.extend(self.poll(Duration::from_secs(1)));
        }
        all
    }
}

/// Memory: always ready to be looked at.
pub(crate) struct InMemory;

thread_local! {
    /// The other end of the connection made last.
    static CALLED: RefCell<Option<Memory>> = const { RefCell::new(None) };
}

impl Ground for InMemory {
    type Near = Memory;
    type Far = Memory;

    fn new() -> Self {
        Self
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 443).into()
    }

    fn client(&mut self) -> (Self::Far, Self::Near) {
        memory::pair()
    }

    fn accept(&mut self) -> Self::Far {
        CALLED.take().expect("the session's connection")
    }

    fn watch(&mut self, _: End, _: &mut Self::Near) {}

    fn set_nonblocking(_: &Self::Far, _: bool) {}

    fn poll(&mut self, _: Duration) -> Vec<Event> {
        ENDS.map(|end| Event { end, readable: true, writable: true, ending: false }).into()
    }

    fn arrival(&mut self, end: End) -> Vec<Event> {
        vec![Event { end, readable: true, writable: false, ending: false }]
    }
}

impl Socket for Memory {
    fn connect(_: SocketAddr) -> io::Result<Self> {
        let (near, far) = memory::pair();
        CALLED.set(Some(far));
        Ok(near)
    }

    fn is_connected(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn hurry(&self) {}

    fn end_output(&self) {}
}
