//! The door: accepting connections, and what happens when there are too many.
//!
//! - All visitors' places are taken: whoever has waited longest without asking for anything, or
//!   without taking its answer, makes way for the newcomer. A visitor that asks at once is served
//!   however many do not.
//! - The kernel has no descriptor left: a reserved one is given up to take each waiting connection
//!   and close it, so that it knows; later ones are served again as soon as there are some.
//! - TLS handshakes come in a flood: beyond so many in a second they wait their turn in the kernel,
//!   since each costs the loop a signature.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use mio::Interest;
use mio::net::TcpStream;

use super::slot::{Conn, Slot};
use super::{Server, VISITORS, token};
use crate::metrics::Family;
use crate::net::transport::Transport;
use crate::web::Visitor;

/// Connections waiting in the kernel until they are accepted.
const BACKLOG: i32 = 256;

/// Connections accepted in one turn.
const MAX_ACCEPTS: usize = 32;

/// How long accepting rests after the kernel had no descriptor left.
const REST: Duration = Duration::from_millis(100);

/// TLS handshakes begun in a second: on a small device, about a tenth of its processor.
const MAX_HANDSHAKES: u32 = 200;

/// The second in which they are counted.
const SECOND: Duration = Duration::from_secs(1);

/// Kernel send buffer of a client's socket, in bytes (Linux doubles it), and the part of it that
/// may be unsent: audio shall wait in our own blocks, where a barge-in can still clear it.
const SEND_BUFFER: usize = 16 * 1024;
const UNSENT: u32 = 4 * 1024;

/// The accept limiter: when accepting rests, and what is done without a free descriptor.
#[derive(Debug)]
pub(super) struct AcceptLimiter {
    rests_until: Option<Instant>,
    /// Held back for telling callers that there is no other left.
    reserve: Option<File>,
    /// Handshakes in the second that began then.
    handshakes: (Instant, u32),
}

impl AcceptLimiter {
    pub(super) fn new(now: Instant) -> Self {
        Self { rests_until: None, reserve: spare(), handshakes: (now, 0) }
    }

    fn is_open(&self, now: Instant) -> bool {
        self.rests_until.is_none_or(|until| now >= until)
    }

    /// Whether one more handshake may begin.
    fn admits_handshake(&self, now: Instant) -> bool {
        let (since, count) = self.handshakes;
        count < MAX_HANDSHAKES || now >= since + SECOND
    }

    /// Says whether that was the last one of its second.
    fn count_handshake(&mut self, now: Instant) -> bool {
        let (since, count) = &mut self.handshakes;
        if now >= *since + SECOND {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count == MAX_HANDSHAKES
    }
}

impl Server {
    pub(super) fn can_accept(&self, now: Instant) -> bool {
        self.ready_listener(now).is_some()
    }

    /// When somebody who waits may come in, if not now.
    pub(super) fn door_deadline(&self) -> Option<Instant> {
        let mut waiting = self.listeners.iter().filter(|door| door.ready).peekable();
        waiting.peek()?;
        let (since, count) = self.door.handshakes;
        let flooded = count >= MAX_HANDSHAKES && waiting.any(|door| door.tls.is_some());
        self.door.rests_until.or_else(|| flooded.then_some(since + SECOND))
    }

    /// A listener where somebody waits and may come in now.
    fn ready_listener(&self, now: Instant) -> Option<usize> {
        if !self.door.is_open(now) {
            return None;
        }
        let handshakes = self.door.admits_handshake(now);
        self.listeners.iter().position(|door| door.ready && (handshakes || door.tls.is_none()))
    }

    pub(super) fn accept(&mut self, now: Instant) {
        let mut left = MAX_ACCEPTS;
        while left > 0
            && let Some(at) = self.ready_listener(now)
        {
            left -= 1;
            self.door.rests_until = None;
            match self.listeners[at].socket.accept() {
                Ok((socket, address)) => self.welcome(socket, address.ip().to_canonical(), at, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.listeners[at].ready = false;
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => self.turn_all_away(at, &error, now),
            }
        }
    }

    /// No descriptor, or no kernel memory: the waiting connections are closed with the reserved
    /// descriptor, and the door rests.
    fn turn_all_away(&mut self, at: usize, error: &io::Error, now: Instant) {
        log::warn!("no connection can be accepted for a moment: {error}");
        self.resources.metrics.count(Family::Paused, "no_descriptor");
        self.door.reserve = None;
        for _ in 0..MAX_ACCEPTS {
            if self.listeners[at].socket.accept().is_err() {
                break;
            }
            self.resources.metrics.count(Family::Dropped, "no_descriptor");
        }
        self.door.reserve = spare();
        self.door.rests_until = Some(now + REST);
    }

    fn welcome(&mut self, socket: TcpStream, address: IpAddr, listener: usize, now: Instant) {
        self.resources.metrics.add(Family::Accepted, 1);
        if self.listeners[listener].tls.is_some() && self.door.count_handshake(now) {
            self.resources.metrics.count(Family::Paused, "handshake_limit");
        }
        if (self.visitors() >= VISITORS || self.free.is_empty()) && !self.evict(now) {
            return self.resources.metrics.count(Family::Dropped, "no_place");
        }
        let Some(at) = self.free.pop() else { return };
        match self.seat(socket, at, listener) {
            Ok(transport) => {
                let visitor = Box::new(Visitor::new(transport, now));
                let conn = Conn::Visitor { visitor, listener };
                self.slots[at] =
                    Slot { conn, address, generation: 0, marked: false, deadline: None };
                self.want_pump(at);
            }
            // It is gone already.
            Err(_) => {
                self.resources.metrics.count(Family::Dropped, "setup_failed");
                self.free.push(at);
            }
        }
    }

    fn seat(
        &self,
        mut socket: TcpStream,
        at: usize,
        listener: usize,
    ) -> io::Result<Transport<TcpStream>> {
        prepare(&socket)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, token(at, 0), both)?;
        match &self.listeners[listener].tls {
            None => Ok(Transport::plain(socket)),
            Some(config) => Ok(Transport::tls(socket, crate::net::tls::server(config)?)),
        }
    }

    fn visitors(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot.conn, Conn::Visitor { .. })).count()
    }

    /// Closes the visitor that has held its place longest without using it; false if there is none.
    fn evict(&mut self, now: Instant) -> bool {
        let waiting = self.slots.iter().enumerate().filter_map(|(at, slot)| match &slot.conn {
            Conn::Visitor { visitor, .. } if visitor.is_waiting() => Some((visitor.deadline(), at)),
            _ => None,
        });
        match waiting.min() {
            Some((_, at)) => {
                self.resources.metrics.count(Family::Dropped, "evicted");
                self.release(at, now);
                true
            }
            None => false,
        }
    }
}

/// A connection that came and went, or a signal: the next one may be fine.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = socket2::SockRef::from(socket);
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_send_buffer_size(SEND_BUFFER)
}

/// Binds a listening socket. A restart may take the port while old connections linger.
///
/// # Errors
/// What the kernel says; the caller names the address.
pub fn bind(address: std::net::SocketAddr) -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` serves IPv4 too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
