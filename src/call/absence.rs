//! The client is away: its connection has broken without a goodbye, and the call is held for it.
//!
//! ```text
//! Here ──its connection breaks──► Away ──it takes its call up again──► Here
//!                                  └──the time is over──► the call ends (`client_lost`)
//! ```
//!
//! This runs beside the states of the call (`mod`): the service may be lost and found meanwhile. What
//! may be relied on: while the client is away the service's session goes on, all limits count, and what
//! is told to the client is kept by the owner. Without the state `Away` the user's last turn would
//! never end: the service hears an end only in silence, and nobody sends any.

use std::time::{Duration, Instant};

use super::client::{self, CallState, Hello};
use super::ending::EndReason;
use super::{Call, Output};

/// How long the user's turn waits for the client to come back before silence ends it. A client that
/// changes its network is back within that time, with what the user has said meanwhile.
const GRACE: Duration = Duration::from_secs(1);

/// Where the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// Its connection is open, as far as is known.
    Here,
    /// Its connection broke at `since`. At `until` the owner gives it up ([`Input::ClientLost`](super::Input)):
    /// it watches that time in place of the connection, so a call whose client is there pays nothing for it.
    Away { since: Instant, until: Instant },
}

impl Call {
    /// The client's connection has broken. The call is held, or ends if it may not be held.
    pub(super) fn on_client_broken(&mut self, now: Instant) {
        if self.hold.is_zero() {
            return self.end(EndReason::ClientLost, now);
        }
        if self.presence == Presence::Here {
            self.presence = Presence::Away { since: now, until: now + self.hold };
            self.end_turn_of_absent(now);
            self.outputs.push_back(Output::HoldCall { until: now + self.hold });
        }
    }

    /// The user of a client that is away stops speaking for the service: after a moment it hears silence.
    /// Where the client ends the turns, the turn stays open: the client will go on with it.
    pub(super) fn end_turn_of_absent(&mut self, now: Instant) {
        if self.presence == Presence::Here || !self.session.turns.detects {
            return;
        }
        if !self.is_active() {
            self.end_of_turn.end_when_active();
        } else if self.gate.is_speaking() {
            self.end_of_turn.begin_silence(now + GRACE);
        }
    }

    /// When the client will have played all, as far as the life of a response goes. Audio that waits for a
    /// client that is away is heard when it is back: until then its response is not taken for silent, since
    /// the service may have to wait too. (The idle time goes on: see `limits`.)
    pub(super) fn sound_end(&self) -> Option<Instant> {
        match self.presence {
            Presence::Away { until, .. } if self.playback.is_waiting() => Some(until),
            Presence::Away { .. } | Presence::Here => self.playback.end(),
        }
    }

    /// Away → Here, or a new connection in place of one that was not known to be dead. `unheard` bytes
    /// of PCM had counted as sent and are sent again. Returns how long the client was away.
    pub fn take_up(&mut self, unheard: usize, now: Instant) -> Duration {
        let away = self.away_since().map(|since| now.saturating_duration_since(since));
        if away.is_some() {
            // Its user has waited for the network, not for the service.
            self.first_audio.cancel();
        }
        self.presence = Presence::Here;
        self.playback.unsent(unheard, now);
        away.unwrap_or_default()
    }

    /// Since when the client is away; `None` while it is there.
    #[must_use]
    pub fn away_since(&self) -> Option<Instant> {
        match self.presence {
            Presence::Away { since, .. } => Some(since),
            Presence::Here => None,
        }
    }

    /// From now on the call is not held for a client whose connection breaks.
    pub fn hold_no_more(&mut self) {
        self.hold = Duration::ZERO;
    }

    /// Whether the call would be held for a client whose connection breaks.
    #[must_use]
    pub fn may_be_held(&self) -> bool {
        !self.hold.is_zero() && !self.is_ended()
    }

    /// `hello` for a client that has taken its call up again. `heard`: bytes of the microphone that have come.
    #[must_use]
    pub fn hello_again(&self, id: &str, resume: &str, heard: u64) -> String {
        let (heard, settings) = (Some(heard), &self.settings);
        client::hello(&Hello { session: id, resume, resumed: true, heard, settings })
    }

    /// `call_state` as it is now, for a client that may have missed the changes.
    #[must_use]
    pub fn state_now(&self) -> String {
        client::call_state(match (&self.last_fault, self.is_active()) {
            (_, true) => self.active_state(),
            (Some(fault), false) if self.is_reconnecting() => {
                CallState::Reconnecting { reason: fault.word, message: &fault.message }
            }
            _ => CallState::Connecting,
        })
    }
}
