//! Keep-alive: whether a side still lives. It does while it says something or answers pings (RFC 6455,
//! section 5.5.2), and while it takes what it is sent.
//!
//! Both are needed. A device that lost its network says nothing, and TCP reports it only after
//! minutes. A side that takes nothing may say a lot, and all that time its reply holds PCM blocks that
//! other calls need.

use std::time::{Duration, Instant};

use crate::net::socket::Socket;
use crate::net::ws::{Message, WsPeer};

/// A side that takes nothing of what it is sent for this long is given up. One byte taken is enough to
/// stay: a slow client is not a dead one.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(15);

/// When a silent side is asked whether it lives, and when it is given up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Silence after which it is pinged.
    pub(super) ping: Duration,
    /// Silence after which it counts as gone.
    pub(super) give_up: Duration,
}

/// Browsers answer pings by themselves, also in a hidden tab.
pub(super) const CLIENT: Patience =
    Patience { ping: Duration::from_secs(10), give_up: Duration::from_secs(25) };

/// The SDK's own ping interval is 30 s.
pub(super) const SERVICE: Patience =
    Patience { ping: Duration::from_secs(25), give_up: Duration::from_secs(60) };

/// How a side's liveness is watched. It compares the transport's byte counts with those of the last
/// check, so reading and writing cost nothing for it.
#[derive(Debug)]
pub(super) struct KeepAlive {
    patience: Patience,
    /// Bytes received at the last check, and when that count last changed.
    received: u64,
    heard: Instant,
    /// A ping was sent in this silence: one is enough.
    pinged: bool,
    /// Bytes sent at the last check, and when the side last took something or had nothing to take.
    sent: u64,
    took: Instant,
}

/// Why a side is given up.
#[derive(Debug)]
pub(super) enum Dead {
    /// Nothing came from it, not even an answer to a ping.
    Silent,
    /// It took nothing of what it was sent.
    Stalled,
    /// It is away for too long, or has missed more than can be kept for it.
    Away,
}

impl KeepAlive {
    /// A side that was just heard. Start it when the connection opens: time spent on the way there is
    /// no silence.
    pub(super) fn new(patience: Patience, now: Instant) -> Self {
        Self { patience, received: 0, heard: now, pinged: false, sent: 0, took: now }
    }

    /// Notes what has moved, pings a silent peer, and says whether it must be given up.
    ///
    /// # Errors
    /// [`Dead`] says why, again at every call. The ping is only queued: flush the peer after it.
    pub(super) fn check<S: Socket>(
        &mut self,
        peer: &mut WsPeer<S>,
        now: Instant,
    ) -> Result<(), Dead> {
        let (received, sent) = (peer.transport().received(), peer.transport().sent());
        if sent != self.sent || !peer.transport().is_blocked() {
            (self.sent, self.took) = (sent, now);
        } else if now >= self.took + STALL_TIMEOUT {
            return Err(Dead::Stalled);
        }
        if received != self.received {
            (self.received, self.heard, self.pinged) = (received, now, false);
            return Ok(());
        }
        if now >= self.heard + self.patience.give_up {
            return Err(Dead::Silent);
        }
        if now >= self.heard + self.patience.ping && !self.pinged {
            self.pinged = true;
            // A full or closed peer shows elsewhere.
            let _ = peer.send(Message::Ping);
        }
        Ok(())
    }

    /// Whether it has said something since it should have been pinged. Ask after [`check`](Self::check).
    pub(super) fn is_heard(&self, now: Instant) -> bool {
        now < self.heard + self.patience.ping
    }

    /// It was not read, for backpressure: that is no silence of its own.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.heard = now;
    }

    /// When [`check`](Self::check) must be asked again at the latest.
    pub(super) fn deadline<S: Socket>(&self, peer: &WsPeer<S>) -> Instant {
        let Patience { ping, give_up } = self.patience;
        let silent = self.heard + if self.pinged { give_up } else { ping };
        if peer.transport().is_blocked() { silent.min(self.took + STALL_TIMEOUT) } else { silent }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use mio::net::TcpStream;

    use super::*;
    use crate::net::inbox::Inbox;
    use crate::net::transport::Transport;
    use crate::net::ws::{Role, Sizes, USUAL_WAITING};

    const SIZES: Sizes = Sizes { message: 65_536, waiting: USUAL_WAITING };

    /// Our peer, and the socket of the other end.
    fn pair() -> (WsPeer<TcpStream>, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let other = std::net::TcpStream::connect(listener.local_addr().expect("bound"));
        let (ours, _) = listener.accept().expect("a connection");
        ours.set_nonblocking(true).expect("a socket");
        let transport = Transport::plain(TcpStream::from_std(ours));
        (WsPeer::new(transport, Role::Server, SIZES, b""), other.expect("a connection"))
    }

    #[test]
    fn who_answers_no_ping_is_given_up() {
        let (mut peer, mut other) = pair();
        let start = Instant::now();
        let mut keep_alive = KeepAlive::new(SERVICE, start);
        let mut check = |peer: &mut WsPeer<TcpStream>, after: Duration| {
            let verdict = keep_alive.check(peer, start + after);
            peer.flush().expect("it is open");
            assert!(verdict.is_err() || keep_alive.deadline(peer) > start + after);
            verdict
        };
        let tick = Duration::from_millis(1);
        assert!(check(&mut peer, SERVICE.ping - tick).is_ok());
        assert_eq!(peer.transport().sent(), 0, "nothing is sent to a service that was just heard");
        assert!(check(&mut peer, SERVICE.ping).is_ok());
        assert!(check(&mut peer, SERVICE.give_up - tick).is_ok());
        let mut ping = [0; 2];
        other.read_exact(&mut ping).expect("a ping");
        assert_eq!(ping, [0x89, 0]);
        assert_eq!(peer.transport().sent(), 2, "one ping is enough");
        assert!(matches!(check(&mut peer, SERVICE.give_up), Err(Dead::Silent)));
    }

    /// Of a side that takes nothing, this decides whether it may come back.
    #[test]
    fn a_side_is_heard_until_it_should_have_been_pinged() {
        let start = Instant::now();
        let mut keep_alive = KeepAlive::new(CLIENT, start);
        let tick = Duration::from_millis(1);
        assert!(keep_alive.is_heard(start + CLIENT.ping - tick));
        assert!(!keep_alive.is_heard(start + CLIENT.ping));
        keep_alive.excuse(start + tick);
        assert!(keep_alive.is_heard(start + CLIENT.ping));
        assert!(!keep_alive.is_heard(start + CLIENT.ping + CLIENT.ping));
    }

    #[test]
    fn any_byte_is_a_sign_of_life() {
        let (mut peer, mut other) = pair();
        let start = Instant::now();
        let mut keep_alive = KeepAlive::new(CLIENT, start);
        // An empty pong, masked.
        other.write_all(&[0x8a, 0x80, 1, 2, 3, 4]).expect("a socket");
        peer.transport_mut().begin_turn();
        let mut inbox = Inbox::new();
        while peer.transport().received() == 0 {
            peer.mark_readable(false);
            peer.read(&mut inbox).expect("it is open");
        }
        assert!(keep_alive.check(&mut peer, start + CLIENT.give_up).is_ok());
        assert_eq!(keep_alive.deadline(&peer), start + CLIENT.give_up + CLIENT.ping);
    }

    #[test]
    fn who_takes_nothing_is_given_up_and_who_takes_a_little_is_not() {
        let (mut peer, mut other) = pair();
        let start = Instant::now();
        let patience = Patience { ping: STALL_TIMEOUT * 9, give_up: STALL_TIMEOUT * 10 };
        let mut keep_alive = KeepAlive::new(patience, start);
        while !peer.transport().is_blocked() {
            peer.send(Message::Binary(&[0; 60_000])).expect("there is room");
        }
        assert!(
            keep_alive.check(&mut peer, start + STALL_TIMEOUT - Duration::from_millis(1)).is_ok()
        );
        // The first check has seen that something left; from then on nothing does.
        assert_eq!(keep_alive.deadline(&peer), keep_alive.took + STALL_TIMEOUT);
        assert!(keep_alive.check(&mut peer, start + STALL_TIMEOUT).is_ok());
        let sent = peer.transport().sent();
        let mut chunk = vec![0; 1 << 20];
        while peer.transport().sent() == sent {
            other.read_exact(&mut chunk[..60_000]).expect("it waits there");
            peer.mark_writable();
            peer.flush().expect("it is open");
        }
        let late = start + STALL_TIMEOUT * 2;
        assert!(keep_alive.check(&mut peer, late).is_ok());
        peer.mark_writable();
        while !peer.transport().is_blocked() {
            peer.send(Message::Binary(&[0; 60_000])).expect("there is room");
        }
        assert!(keep_alive.check(&mut peer, late).is_ok());
        assert!(matches!(keep_alive.check(&mut peer, late + STALL_TIMEOUT), Err(Dead::Stalled)));
    }
}
