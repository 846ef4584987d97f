//! Accepting connections, and the bounds on it.
//!
//! - **All visitors' slots are taken.** The visitor that has waited longest, without a request or
//!   without taking its answer, is evicted for the new one. So a visitor that sends its request at
//!   once is served, however many others hold connections open and are silent.
//! - **The process has no file descriptor left.** A reserved descriptor is given up. With it the loop
//!   accepts each waiting connection and closes it, so the client learns that it is not served.
//!   Otherwise the connections would wait in the kernel, and the listener would stay ready without
//!   end. Accepting then pauses for [`REST`].
//! - **TLS handshakes come in a flood.** Beyond [`MAX_HANDSHAKES`] in a second, connections to HTTPS
//!   listeners wait in the kernel. Each handshake costs the loop a signature, for which all calls wait.

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

/// The most connections that wait in the kernel until they are accepted (listen(2)).
const BACKLOG: i32 = 256;

/// The most connections accepted in one turn.
const MAX_ACCEPTS: usize = 32;

/// How long accepting pauses after the process had no descriptor left.
const REST: Duration = Duration::from_millis(100);

/// The most TLS handshakes begun in a second. They take about a tenth of a small device's processor.
const MAX_HANDSHAKES: u32 = 200;

/// The length of the window in which handshakes are counted.
const SECOND: Duration = Duration::from_secs(1);

/// The kernel's send buffer of a client's socket, in bytes (Linux doubles it). It is small, because
/// audio should wait in our own blocks, where a barge-in can still clear it.
const SEND_BUFFER: usize = 16 * 1024;

/// The part of the send buffer that may be unsent, in bytes (`TCP_NOTSENT_LOWAT`).
const UNSENT: u32 = 4 * 1024;

/// The accept limiter: when accepting pauses, and the descriptor that is kept in reserve.
#[derive(Debug)]
pub(super) struct AcceptLimiter {
    /// Accepting pauses until this time. `None` while the last `accept` found a descriptor.
    rests_until: Option<Instant>,
    /// An open file whose descriptor is given up when there is no other, to close waiting
    /// connections with. `None` if it could not be opened again; then they wait in the kernel.
    reserve: Option<File>,
    /// The start of the current window, and the handshakes begun in it.
    handshakes: (Instant, u32),
}

impl AcceptLimiter {
    pub(super) fn new(now: Instant) -> Self {
        Self { rests_until: None, reserve: spare(), handshakes: (now, 0) }
    }

    /// Whether accepting does not pause.
    fn is_open(&self, now: Instant) -> bool {
        self.rests_until.is_none_or(|until| now >= until)
    }

    /// Whether one more handshake may begin now.
    fn admits_handshake(&self, now: Instant) -> bool {
        let (since, count) = self.handshakes;
        count < MAX_HANDSHAKES || now >= since + SECOND
    }

    /// Counts a handshake, and begins a new window if the last one is over. True for the last
    /// handshake that the window allows: the pause that follows is counted once.
    pub(super) fn count_handshake(&mut self, now: Instant) -> bool {
        let (since, count) = &mut self.handshakes;
        if now >= *since + SECOND {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count == MAX_HANDSHAKES
    }
}

impl Server {
    /// Whether a connection may be waiting that can be accepted now. The loop then does not wait.
    pub(super) fn can_accept(&self, now: Instant) -> bool {
        self.ready_listener(now).is_some()
    }

    /// When a waiting connection may be accepted, if a bound holds it back now. `None` if no
    /// connection waits: an idle daemon needs no deadline for it.
    pub(super) fn accept_deadline(&self) -> Option<Instant> {
        let mut waiting = self.listeners.iter().filter(|listener| listener.ready).peekable();
        waiting.peek()?;
        let (since, count) = self.limiter.handshakes;
        let flooded = count >= MAX_HANDSHAKES && waiting.any(|listener| listener.tls.is_some());
        self.limiter.rests_until.or_else(|| flooded.then_some(since + SECOND))
    }

    /// A listener where a connection may be waiting, and where one may be accepted now.
    fn ready_listener(&self, now: Instant) -> Option<usize> {
        if !self.limiter.is_open(now) {
            return None;
        }
        let handshakes = self.limiter.admits_handshake(now);
        self.listeners
            .iter()
            .position(|listener| listener.ready && (handshakes || listener.tls.is_none()))
    }

    /// Accepts waiting connections, at most [`MAX_ACCEPTS`]. It runs after all pumping and freeing of
    /// the turn, so a slot given out here meets no event that was meant for the connection before.
    pub(super) fn accept(&mut self, now: Instant) {
        let mut left = MAX_ACCEPTS;
        while left > 0
            && let Some(at) = self.ready_listener(now)
        {
            left -= 1;
            self.limiter.rests_until = None;
            match self.listeners[at].socket.accept() {
                Ok((socket, address)) => self.welcome(socket, address.ip().to_canonical(), at, now),
                // No connection waits any more. The next one will cause an event.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.listeners[at].ready = false;
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => self.drop_waiting(at, &error, now),
            }
        }
    }

    /// Closes the waiting connections with the reserved descriptor, and lets accepting pause. It runs
    /// when the kernel refused one for want of a descriptor or of memory.
    fn drop_waiting(&mut self, at: usize, error: &io::Error, now: Instant) {
        log::warn!("no connection can be accepted for a moment: {error}");
        self.resources.metrics.count(Family::Paused, "no_descriptor");
        // This frees a descriptor. Each connection below takes it, and gives it back when dropped.
        self.limiter.reserve = None;
        for _ in 0..MAX_ACCEPTS {
            if self.listeners[at].socket.accept().is_err() {
                break;
            }
            self.resources.metrics.count(Family::Dropped, "no_descriptor");
        }
        self.limiter.reserve = spare();
        self.limiter.rests_until = Some(now + REST);
    }

    /// Gives an accepted socket a slot as a visitor (S1), after evicting another visitor if there is no
    /// slot. If none can be evicted, the socket is closed.
    fn welcome(&mut self, socket: TcpStream, address: IpAddr, listener: usize, now: Instant) {
        self.resources.metrics.add(Family::Accepted, 1);
        if self.listeners[listener].tls.is_some() && self.limiter.count_handshake(now) {
            self.resources.metrics.count(Family::Paused, "handshake_limit");
        }
        if (self.visitors() >= VISITORS || self.free.is_empty()) && !self.evict(now) {
            return self.resources.metrics.count(Family::Dropped, "no_place");
        }
        // Before the handshake begins, since the certificate may have to be made for this address.
        if let Ok(local) = socket.local_addr() {
            self.notice_address(listener, local.ip(), now);
        }
        let Some(at) = self.free.pop() else { return };
        match self.seat(socket, at, listener) {
            Ok(transport) => {
                let visitor = Box::new(Visitor::new(transport, now));
                let conn = Conn::Visitor { visitor, listener };
                self.slots[at] = Slot { conn, address, ..Slot::free() };
                // The first pump is also what sets the visitor's deadline.
                self.want_pump(at);
            }
            // The client has gone already.
            Err(_) => {
                self.resources.metrics.count(Family::Dropped, "setup_failed");
                self.free.push(at);
            }
        }
    }

    /// Registers the socket under its slot's token, and puts the listener's TLS in front of it.
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

    /// How many slots hold a visitor.
    fn visitors(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot.conn, Conn::Visitor { .. })).count()
    }

    /// Evicts the visitor with the earliest deadline among those that wait; false if none waits.
    /// A deadline is set when the visitor's phase begins. So the earliest one belongs to the visitor
    /// that has waited longest, or to one that has got its last answer.
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

/// Whether the error concerns one connection only (the client closed it before it was accepted) or
/// was a signal. The next `accept` may succeed.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

/// A descriptor to keep in reserve.
fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Sets a client socket's options: no delay for small frames, and little room in the kernel.
fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = socket2::SockRef::from(socket);
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_send_buffer_size(SEND_BUFFER)
}

/// Binds a listening socket with a backlog of 256 connections. `SO_REUSEADDR` lets a restart take the
/// port while old connections are still in TIME_WAIT.
///
/// # Errors
/// The kernel's error, without the address. The caller adds that to its message.
pub fn bind(address: std::net::SocketAddr) -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // So `[::]` serves IPv4 too, whatever the default of the system (`bindv6only`) is.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(1);

    #[test]
    fn each_second_has_its_handshakes() {
        let start = Instant::now();
        let mut limiter = AcceptLimiter::new(start);
        for second in 0..3 {
            let now = start + SECOND * second;
            for count in 1..=MAX_HANDSHAKES {
                assert!(limiter.admits_handshake(now + TICK), "{count} in second {second}");
                assert_eq!(limiter.count_handshake(now), count == MAX_HANDSHAKES, "told once");
            }
            assert!(!limiter.admits_handshake(now));
            assert!(!limiter.admits_handshake(now + SECOND - TICK));
            assert!(limiter.admits_handshake(now + SECOND));
        }
    }

    #[test]
    fn a_rest_has_an_end() {
        let start = Instant::now();
        let mut limiter = AcceptLimiter::new(start);
        assert!(limiter.is_open(start));
        limiter.rests_until = Some(start + REST);
        assert!(!limiter.is_open(start + REST - TICK));
        assert!(limiter.is_open(start + REST));
    }
}
