//! Whether a side still lives: it is heard, or answers pings, and takes what it is sent.

use std::time::{Duration, Instant};

use mio::net::TcpStream;
use tungstenite::{Bytes, Message};

use crate::net::ws::WsPeer;

/// A side that takes nothing of what it is sent for this long is given up.
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

/// How a side's liveness is watched.
#[derive(Debug)]
pub(super) struct Pulse {
    patience: Patience,
    received: u64,
    heard: Instant,
    pinged: bool,
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
}

impl Pulse {
    pub(super) fn new(patience: Patience, now: Instant) -> Self {
        Self { patience, received: 0, heard: now, pinged: false, sent: 0, took: now }
    }

    /// Notes what has moved, pings a silent peer, and says when it must be given up.
    pub(super) fn check(&mut self, peer: &mut WsPeer<TcpStream>, now: Instant) -> Result<(), Dead> {
        let (received, sent) = (peer.transport().received(), peer.transport().sent());
        if received != self.received {
            (self.received, self.heard, self.pinged) = (received, now, false);
        }
        if sent != self.sent || !peer.transport().is_blocked() {
            (self.sent, self.took) = (sent, now);
        }
        if now >= self.took + STALL_TIMEOUT {
            return Err(Dead::Stalled);
        }
        if now >= self.heard + self.patience.give_up {
            return Err(Dead::Silent);
        }
        if now >= self.heard + self.patience.ping && !self.pinged {
            self.pinged = true;
            // A full or closed peer shows elsewhere.
            let _ = peer.send(Message::Ping(Bytes::new()));
        }
        Ok(())
    }

    /// When [`check`](Self::check) must be asked again at the latest.
    pub(super) fn deadline(&self, peer: &WsPeer<TcpStream>) -> Instant {
        let Patience { ping, give_up } = self.patience;
        let silent = self.heard + if self.pinged { give_up } else { ping };
        if peer.transport().is_blocked() { silent.min(self.took + STALL_TIMEOUT) } else { silent }
    }
}
