//! The end of a spoken turn on the client's word (`end_turn`), for clients that stop sending when the
//! user lets go of a button.
//!
//! Who finds the ends of turns decides what has to be done:
//!
//! - **The service does** (any turn detection): it hears an end only in silence, and a client that has
//!   stopped sends none. So the daemon sends the silence, in real time, as a microphone would.
//! - **Nobody does** (`turn_detection` null): the audio lies in the service's buffer until it is
//!   committed, and no answer comes until it is asked for.
//!
//! A second `end_turn` without audio in between finds nothing to end and does nothing: the service
//! would refuse to commit an empty buffer, and an answer to nothing would be nonsense.

use std::time::{Duration, Instant};

use super::interface::MAX_SILENCE_BYTES;
use super::response_gate::ResponseRequest;
use super::service::commands;
use super::{Call, Output, client};

/// The silence sent at a time: 100 ms. Longer pieces cost fewer wake-ups, and end the turn no later.
const PIECE_BYTES: usize = MAX_SILENCE_BYTES;
const PIECE: Duration = Duration::from_millis(100);
/// How long the client's audio is waited for before silence takes its place: its last frames may still
/// be on their way when it says that the turn is over.
const GAP: Duration = Duration::from_millis(40);
/// Silence that is sent in any case: services report the beginning of speech late, so a short word may
/// not be known yet.
const LEAST_PIECES: u32 = 10;
/// Silence after which a service that still hears speech is left alone: 10 s.
const MOST_PIECES: u32 = 100;
/// Audio of the client after which its user speaks again: half a second. Then our silence would cut
/// into the next turn.
const RESUMED_BYTES: usize = 24_000;
/// Services refuse to commit less than 100 ms. A shorter turn is filled up with silence, so that a
/// word as short as "no" gets its answer.
const LEAST_COMMIT_BYTES: usize = PIECE_BYTES;

/// What is still to be done for the end of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Nothing.
    Nothing,
    /// The client has ended a turn before the call was active. It is ended right behind the audio that
    /// was held. Without this state the first words of a quick user would get no answer.
    Wanted,
    /// Silence is being sent. It begins anew with each `end_turn`, ends when the service has heard the
    /// end of the turn, or after [`MOST_PIECES`].
    Silence {
        /// When the next piece is due. Audio of the client puts it off, so the two never mix.
        next: Instant,
        pieces: u32,
        /// What the client has sent since.
        client_bytes: usize,
    },
}

/// Where the end of the user's spoken turn stands.
#[derive(Debug)]
pub(super) struct EndOfTurn {
    /// Microphone audio since the last end of a turn, in bytes: there is nothing to end without any.
    unended: usize,
    ending: Ending,
    /// A turn was committed, and the client was not told `speech_stopped` yet. It comes with the item
    /// that `input_audio_buffer.committed` names, or with the answer, if that comes first.
    untold: bool,
}

impl Default for EndOfTurn {
    fn default() -> Self {
        Self { unended: 0, ending: Ending::Nothing, untold: false }
    }
}

impl EndOfTurn {
    /// Microphone audio of the client came. Called for every frame.
    pub(super) fn heard(&mut self, bytes: usize, now: Instant) {
        self.unended = self.unended.saturating_add(bytes);
        if let Ending::Silence { next, client_bytes, .. } = &mut self.ending {
            *client_bytes = client_bytes.saturating_add(bytes);
            *next = (*next).max(now + GAP);
            if *client_bytes > RESUMED_BYTES {
                self.ending = Ending::Nothing;
            }
        }
    }

    /// When the next piece of silence is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.ending {
            Ending::Silence { next, .. } => Some(next),
            Ending::Nothing | Ending::Wanted => None,
        }
    }

    /// The session with the service is lost, with a turn whose end had been told: it is ended again when
    /// its audio has gone to the next session. `committed`: the service had made an item of it. A
    /// service that detects turns (`detects`) ends a committed one by itself.
    pub(super) fn session_lost(&mut self, committed: bool, detects: bool) {
        let ending = match self.ending {
            Ending::Nothing => !detects && (committed || self.untold),
            Ending::Wanted | Ending::Silence { .. } => true,
        };
        self.ending = if ending { Ending::Wanted } else { Ending::Nothing };
        if ending {
            self.unended = self.unended.max(LEAST_COMMIT_BYTES);
        }
    }

    /// Whether a turn is being ended, or has been without the service's word.
    pub(super) fn is_ending(&self) -> bool {
        self.untold || self.ending != Ending::Nothing
    }

    /// Whether audio has come since the last end of a turn.
    pub(super) fn has_audio(&self) -> bool {
        self.unended > 0
    }

    /// The client sends no more audio, not even the end of its turn: silence follows, from `at` on. Audio
    /// of the client puts it off or ends it, as after its own word.
    pub(super) fn begin_silence(&mut self, at: Instant) {
        if !matches!(self.ending, Ending::Silence { .. }) {
            self.ending = Ending::Silence { next: at, pieces: 0, client_bytes: 0 };
        }
    }

    /// The turn, if there is one, ends behind the audio that is held until the call is active.
    pub(super) fn end_when_active(&mut self) {
        if self.unended > 0 {
            self.ending = Ending::Wanted;
        }
    }

    /// Whether a turn was committed whose item the service has not told yet.
    pub(super) fn is_untold(&self) -> bool {
        self.untold
    }

    /// Whether the client is still to be told that its turn is over: once.
    pub(super) fn take_untold(&mut self) -> bool {
        std::mem::take(&mut self.untold)
    }

    /// Takes the audio of the turn that ends: its bytes, `None` if there is none.
    fn take(&mut self) -> Option<usize> {
        Some(std::mem::take(&mut self.unended)).filter(|bytes| *bytes > 0)
    }

    /// Whether a piece of silence is due now. `speaking`: the service still hears the user.
    fn piece(&mut self, speaking: bool, now: Instant) -> bool {
        let Ending::Silence { next, pieces, .. } = &mut self.ending else {
            return false;
        };
        if *next > now {
            return false;
        }
        let wanted = *pieces < if speaking { MOST_PIECES } else { LEAST_PIECES };
        if wanted {
            *pieces += 1;
            // After a machine that slept, one piece is sent and not all that were missed.
            *next = (*next + PIECE).max(now);
        } else {
            self.ending = Ending::Nothing;
        }
        wanted
    }
}

impl Call {
    /// The client says that the user's spoken turn is over.
    pub(super) fn on_end_turn(&mut self, now: Instant) {
        if !self.is_active() {
            return self.end_of_turn.end_when_active();
        }
        let Some(bytes) = self.end_of_turn.take() else {
            return;
        };
        self.limits.touch(now);
        if self.session.turns.detects {
            self.end_of_turn.ending =
                Ending::Silence { next: now + GAP, pieces: 0, client_bytes: 0 };
        } else {
            self.commit_turn(bytes, now);
        }
    }

    /// The call has become active, and the held audio was released: what the client ended meanwhile
    /// ends now.
    pub(super) fn end_held_turn(&mut self, now: Instant) {
        if self.end_of_turn.ending == Ending::Wanted {
            self.end_of_turn.ending = Ending::Nothing;
            self.on_end_turn(now);
        }
    }

    /// Commits the turn and asks for its answer. The service says nothing of speech here, so the client
    /// hears of both its ends from us: it drops the old reply, and shows that it waits. The reply is
    /// stopped before the commit, for the same reason as for a typed turn. An answer to an earlier turn
    /// that is still on its way is stopped as it comes: one answer sees both turns.
    fn commit_turn(&mut self, bytes: usize, now: Instant) {
        if self.gate.active().is_none() {
            self.gate.stop_next();
        }
        if self.gate.active().is_some() || self.playback.is_playing(now) {
            self.stop_reply(now);
        }
        self.tell(client::speech_started(""));
        self.end_of_turn.untold = true;
        if bytes < LEAST_COMMIT_BYTES {
            self.outputs.push_back(Output::Silence { bytes: LEAST_COMMIT_BYTES - bytes });
        }
        self.outputs.push_back(Output::BehindMicrophone(commands::input_commit()));
        self.gate.want(ResponseRequest::Answer);
        self.arm_latency(now);
    }

    /// Sends the silence that is due.
    pub(super) fn send_silence(&mut self, now: Instant) {
        if self.end_of_turn.piece(self.gate.is_speaking(), now) {
            // The user counts as speaking while the service is helped to hear the end.
            self.gate.heard(now);
            self.outputs.push_back(Output::Silence { bytes: PIECE_BYTES });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_the_client_is_audio_and_ends_the_silence() {
        let (mut end, now) = (EndOfTurn::default(), Instant::now());
        assert!(!end.has_audio());
        end.begin_silence(now);
        end.heard(RESUMED_BYTES, now);
        assert!(end.has_audio() && end.is_ending(), "a frame that was under way is no word");
        end.heard(1, now);
        assert!(!end.is_ending());
    }
}
