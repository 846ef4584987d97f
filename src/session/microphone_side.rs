//! The microphone on the service's side: in which state of the connection its audio leaves, waits, or
//! moves to another session.

use std::time::Instant;

use super::service_side::{News, ServiceSide, State};
use crate::call::pcm::PcmPool;
use crate::net::socket::Socket;

impl<S: Socket> ServiceSide<S> {
    /// Takes a frame of PCM: sends it, or keeps it while the service is not ready or is behind. `keep`:
    /// how many bytes of what was sent are worth keeping for another session. Returns the bytes of older
    /// audio that were dropped for it.
    pub(super) fn take_microphone(&mut self, pcm: &[u8], keep: usize, pool: &mut PcmPool) -> usize {
        match &mut self.state {
            State::Open(connection) => {
                self.microphone.forward(pcm, keep, &mut connection.peer, pool)
            }
            _ => self.microphone.hold(pcm, pool),
        }
    }

    /// The user's turn is an item of the service's conversation.
    pub(super) fn commit_microphone(&mut self) {
        self.microphone.commit();
    }

    /// The committed turn need not be sent again.
    pub(super) fn settle_microphone(&mut self, pool: &mut PcmPool) {
        self.microphone.settle(pool);
    }

    /// Configuring → Open: the service has taken the settings, and hears what was held for it. After an
    /// outage (`again`) it hears that little by little.
    pub(super) fn open_microphone(&mut self, again: bool, pool: &mut PcmPool, now: Instant) {
        if std::mem::take(&mut self.untried) {
            self.news.push(News::Accepted);
        }
        if again {
            self.microphone.catch_up(pool, now);
        }
        self.state = match std::mem::replace(&mut self.state, State::Gone) {
            State::Configuring(mut connection) => {
                self.microphone.send(&mut connection.peer, pool, now);
                State::Open(connection)
            }
            other => other,
        };
    }

    // ---- a change to another session ----

    /// The two sides change places, but the microphone does not. What the session that leaves has heard is
    /// taken back if it is to be heard `again`.
    pub(super) fn change_places(&mut self, other: &mut Self, again: bool, pool: &mut PcmPool) {
        if again {
            self.microphone.take_back();
        } else {
            self.microphone.forget(pool);
        }
        std::mem::swap(&mut self.microphone, &mut other.microphone);
        std::mem::swap(self, other);
    }

    /// Open → Paused: the microphone is held from here on.
    pub(super) fn pause_microphone(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Gone) {
            State::Open(connection) => State::Paused(connection),
            other => other,
        };
    }

    /// Paused → Open: what was held leaves with the next flush.
    pub(super) fn resume_microphone(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Gone) {
            State::Paused(connection) => State::Open(connection),
            other => other,
        };
    }
}
