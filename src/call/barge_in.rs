//! Barge-in that can be taken back: what sounds like speech holds the reply, and does not drop it yet.
//!
//! ```text
//! None ──speech, while a reply is there──► Speaking ──it stops──► Waiting ──no turn──► None, the reply goes on
//!                                             │  ▲──speech again──────┘ │
//!                                             └────── a turn ───────────┴────────────► None, the reply is dropped
//! ```
//!
//! For a client that asks for it, where the owner allows it. The service must neither cancel nor answer by itself
//! (`interrupt_response` and `create_response` off), so both are this file's to do.
//!
//! - **A turn:** speech of [`LONGEST_COUGH`], or a transcript with words that are no interjections. The response is
//!   cancelled, the conversation is truncated at what was heard, and the turn is answered.
//! - **No turn:** an empty transcript, an interjection, or no transcript within [`WORDS`]. The client goes on where it
//!   stopped, and what is known to be nothing leaves the conversation.
//! - **Where nothing is transcribed**, the length of the speech decides: [`SHORTEST_TURN`].
//!
//! Words that come after all make a turn of it even when the reply has gone on.

use std::time::{Duration, Instant};

use super::interjections::is_turn;
use super::response_gate::ResponseRequest;
use super::service::commands;
use super::{Call, client};

/// Speech of this length is a turn, whatever its words are: nobody coughs for so long.
const LONGEST_COUGH: Duration = Duration::from_secs(2);
/// Shorter speech is no turn where nothing is transcribed. The silence by which the service knows the end of speech
/// comes on top.
const SHORTEST_TURN: Duration = Duration::from_millis(500);
/// How long the transcript is waited for after speech. Most come within half a second.
const WORDS: Duration = Duration::from_secs(2);
/// The silence that ends a turn, if the settings do not say.
const SILENCE_MS: u64 = 500;
/// Stretches of speech that one hold can have: after more of them it is a turn. And as many are remembered later.
const MOST: usize = 8;

/// One stretch of speech: the service makes an item of each.
#[derive(Debug)]
struct Heard {
    /// Empty if the service has not named it.
    item_id: String,
    /// It is in the conversation.
    committed: bool,
    /// Its transcript is known, and it is no turn.
    nothing: bool,
}

impl Heard {
    /// An item without a name may be any.
    fn is(&self, item_id: &str) -> bool {
        self.item_id == item_id || self.item_id.is_empty() || item_id.is_empty()
    }
}

/// How far the speech has got.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// It goes on.
    Speaking { since: Instant },
    /// It has ended, and its transcript is waited for. `long`: without one it would count as a turn.
    Waiting { since: Instant, long: bool },
}

/// A hold of the reply.
#[derive(Debug)]
struct Hold {
    /// The newest last; never empty.
    heard: Vec<Heard>,
    stage: Stage,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct BargeIn {
    /// The client knows `hold`, and the owner allows it.
    reversible: bool,
    hold: Option<Hold>,
    /// Speech for which the reply was held and went on, the newest last, as far as something of it may still come.
    past: Vec<Heard>,
}

impl BargeIn {
    /// Whether the session is asked for with settings for this.
    pub(super) fn is_reversible(&self) -> bool {
        self.reversible
    }

    /// Whether the client holds the reply.
    pub(super) fn is_held(&self) -> bool {
        self.hold.is_some()
    }

    /// The reply is dropped, whatever the speech was.
    pub(super) fn forget_hold(&mut self) {
        self.hold = None;
    }

    /// When the hold ends at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.hold.as_ref().map(|hold| match hold.stage {
            Stage::Speaking { since } => since + LONGEST_COUGH,
            Stage::Waiting { since, .. } => since + WORDS,
        })
    }

    /// Where this item is among those of holds that are over.
    fn position(&self, item_id: &str) -> Option<usize> {
        self.past.iter().position(|heard| !item_id.is_empty() && heard.item_id == item_id)
    }

    fn remember(&mut self, heard: Heard) {
        if self.past.len() == MOST {
            self.past.remove(0);
        }
        self.past.push(heard);
    }
}

impl Call {
    /// The client wants to hold the reply when it is interrupted. To be told before the service is connected.
    pub fn prefer_hold(&mut self) {
        self.barge_in.reversible = self.settings.reversible_barge_in;
    }

    /// `hold` once more, while the reply is held: a client that has joined again may have missed the first, or may
    /// begin to play what it has missed of the reply.
    #[must_use]
    pub fn hold_now(&self) -> Option<String> {
        let newest = self.barge_in.hold.as_ref()?.heard.last()?;
        Some(client::hold(&newest.item_id))
    }

    /// Whether speech that begins now holds the reply. A service that would cancel or answer by itself leaves nothing
    /// to take back. A response that is on its way would otherwise begin in the middle of the user's words.
    pub(super) fn holds_reply(&self, now: Instant) -> bool {
        let turns = &self.session.turns;
        let active = self.gate.active().is_some_and(|id| !self.interrupted.is(id));
        self.barge_in.reversible
            && turns.detects
            && !turns.interrupt_response
            && !turns.create_response
            && (self.barge_in.is_held()
                || active
                || self.gate.is_requested()
                || self.playback.is_playing(now))
    }

    /// Speech has begun: the reply is held until it is known what the speech is.
    pub(super) fn hold_reply(&mut self, item_id: &str, now: Instant) {
        let heard = Heard { item_id: item_id.to_owned(), committed: false, nothing: false };
        let stage = Stage::Speaking { since: now };
        match &mut self.barge_in.hold {
            Some(hold) => {
                hold.heard.push(heard);
                hold.stage = stage;
                if hold.heard.len() > MOST {
                    self.take_turn(None, now);
                }
            }
            None => {
                self.barge_in.hold = Some(Hold { heard: vec![heard], stage });
                self.playback.hold(now);
                self.tell(client::hold(item_id));
            }
        }
    }

    /// The speech has ended. False if the reply is not held.
    pub(super) fn on_held_speech_stopped(&mut self, now: Instant) -> bool {
        let silence = self.settings.session["turn_detection"]["silence_duration_ms"].as_u64();
        let shortest = SHORTEST_TURN + Duration::from_millis(silence.unwrap_or(SILENCE_MS));
        let transcribes = !self.settings.session["input_audio_transcription"].is_null();
        let Some(hold) = &mut self.barge_in.hold else { return false };
        if let Stage::Speaking { since } = hold.stage {
            let long = now.saturating_duration_since(since) >= shortest;
            hold.stage = Stage::Waiting { since: now, long };
            if !transcribes {
                self.judge_by_length(now);
            } else if hold.heard.iter().all(|heard| heard.nothing) {
                self.let_go(now);
            }
        }
        true
    }

    /// The speech has become an item. False if it is an ordinary turn, to be answered.
    pub(super) fn on_doubtful_item(&mut self, item_id: &str) -> bool {
        let mut held = self.barge_in.hold.iter_mut().flat_map(|hold| hold.heard.iter_mut());
        if let Some(heard) = held.find(|heard| !heard.committed && heard.is(item_id)) {
            heard.committed = true;
            item_id.clone_into(&mut heard.item_id);
            return true;
        }
        drop(held);
        let Some(at) = self.barge_in.position(item_id) else { return false };
        self.barge_in.past[at].committed = true;
        if self.barge_in.past[at].nothing {
            let heard = self.barge_in.past.remove(at);
            self.discard(heard);
        }
        true
    }

    /// The words of an item are known. True if they are none to be answered.
    pub(super) fn weigh_words(&mut self, item_id: &str, text: &str, now: Instant) -> bool {
        let language = self.settings.session["input_audio_transcription"]["language"].as_str();
        let nothing = !is_turn(text, language.unwrap_or_default());
        let held = self.barge_in.hold.iter_mut().flat_map(|hold| hold.heard.iter_mut());
        let mut unknown = held.filter(|heard| !heard.nothing);
        if let Some(heard) = unknown.find(|heard| heard.is(item_id)) {
            heard.nothing = nothing;
            drop(unknown);
            if !nothing {
                self.take_turn(Some(item_id), now);
            } else if self.barge_in.hold.as_ref().is_some_and(Hold::is_nothing) {
                self.let_go(now);
            }
            return nothing;
        }
        let Some(at) = self.barge_in.position(item_id) else { return false };
        let heard = &mut self.barge_in.past[at];
        heard.nothing |= nothing;
        if nothing && !heard.committed {
            return true;
        }
        let heard = self.barge_in.past.remove(at);
        if nothing {
            self.discard(heard);
        } else {
            let stage = Stage::Waiting { since: now, long: true };
            self.barge_in.hold = Some(Hold { heard: vec![heard], stage });
            self.take_turn(Some(item_id), now);
        }
        nothing
    }

    /// There will be no words: the length decides.
    pub(super) fn judge_by_length(&mut self, now: Instant) {
        match self.barge_in.hold.as_ref().map(|hold| hold.stage) {
            Some(Stage::Waiting { long: true, .. }) => self.take_turn(None, now),
            Some(Stage::Waiting { long: false, .. }) => {
                self.barge_in.hold.iter_mut().for_each(Hold::give_up_words);
                self.let_go(now);
            }
            Some(Stage::Speaking { .. }) | None => {}
        }
    }

    /// What is due of a hold.
    pub(super) fn on_hold_tick(&mut self, now: Instant) {
        if self.barge_in.deadline().is_none_or(|due| due > now) {
            return;
        }
        match self.barge_in.hold.as_ref().map(|hold| hold.stage) {
            Some(Stage::Speaking { .. }) => self.take_turn(None, now),
            Some(Stage::Waiting { .. }) => self.let_go(now),
            None => {}
        }
    }

    /// The hold is over: it was a turn, of this item or of the last. The client hears of it what it would have heard
    /// of any barge-in, only later.
    fn take_turn(&mut self, item_id: Option<&str>, now: Instant) {
        let Some(Hold { heard, stage }) = self.barge_in.hold.take() else { return };
        let of = |heard: &&Heard| item_id.is_none_or(|id| heard.is(id));
        let Some(turn) = heard.iter().rev().find(of) else { return };
        self.call_off_farewell();
        self.first_audio.cancel();
        if self.gate.active().is_none() {
            self.gate.stop_next();
        }
        self.stop_reply(now);
        self.tell_speech(&turn.item_id);
        if let Stage::Waiting { since, .. } = stage {
            self.end_nameless();
            self.gate.speech_stopped(false, now);
            self.tell_turn_end(&turn.item_id, since);
        }
        if heard.iter().any(|heard| heard.committed) {
            self.gate.want(ResponseRequest::Answer);
        }
    }

    /// The hold is over: it was no turn, as far as is known.
    fn let_go(&mut self, now: Instant) {
        let Some(hold) = self.barge_in.hold.take() else { return };
        self.gate.speech_stopped(false, now);
        self.go_on_playing(now);
        for heard in hold.heard {
            if heard.nothing && heard.committed {
                self.discard(heard);
            } else {
                self.barge_in.remember(heard);
            }
        }
    }

    /// The session is lost with what was said in it: the next one hears it again.
    pub(super) fn settle_hold(&mut self, now: Instant) {
        if self.barge_in.hold.take().is_some() {
            self.go_on_playing(now);
        }
        self.barge_in.past.clear();
    }

    fn go_on_playing(&mut self, now: Instant) {
        self.playback.go_on(now);
        self.tell(client::resume_playback());
    }

    /// Takes an item that is nothing out of the conversation: the model would wonder what it was to answer.
    fn discard(&mut self, heard: Heard) {
        self.rollover.words_came();
        self.settle_turn(Some(&heard.item_id));
        self.history.forget(&heard.item_id);
        if !heard.item_id.is_empty() {
            self.send(commands::item_delete(&heard.item_id));
        }
    }
}

impl Hold {
    /// The speech has ended, and none of it is a turn.
    fn is_nothing(&self) -> bool {
        matches!(self.stage, Stage::Waiting { .. }) && self.heard.iter().all(|heard| heard.nothing)
    }

    fn give_up_words(&mut self) {
        self.heard.iter_mut().for_each(|heard| heard.nothing = true);
    }
}
