//! The response gate: the one place that decides when to send `response.create`.
//!
//! The service has one response active at a time and refuses a second one
//! (`conversation_already_has_active_response`). So every part that wants the model to speak (tool
//! results, typed turns, the greeting) says so here, and the gate says when to ask. It stays shut
//!
//! - while the user speaks: an answer would be cut off by the user's next word;
//! - while the service is about to answer by itself (announced by `speech_stopped`): asking now
//!   makes two answers to one turn, or an error;
//! - while our own request is under way, and while a response is active.
//!
//! Requests merge: two before the gate opens make one `response.create`, because one answer sees
//! everything that is in the conversation.
//!
//! A request from before the user's turn ended is met by the response that the service makes for
//! that turn, for the same reason.
//!
//! Every state has a time limit. An event of the service that never comes (an empty turn brings no
//! response, a mute in mid-sentence brings no `speech_stopped`, a response has no end) would otherwise
//! keep the gate shut for the rest of the call, and the idle limit off.
//!
//! Our requests carry metadata, which the service gives back in `response.created`. Once it has done so, a
//! response without it is one of the service's own. It does not meet our request, which is sent again if
//! nothing else shows what became of it; and a response of ours is not the one that the service makes for the user's turn.
//!
//! A response begins with `response.created`, or with any other sign of it if that never comes. What
//! comes late of a response that has ended is no such sign: the last ones are remembered by their ids.

mod lapse;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::unfinished::Unfinished;

/// How long a response is expected after `speech_stopped` or `committed`. An empty or discarded turn
/// brings no response, so the expectation has to lapse.
const ANNOUNCED: Duration = Duration::from_secs(5);
/// How long the user counts as speaking after the last microphone audio. A client that mutes in the
/// middle of a sentence sends no more audio, and then the service never hears the sentence end.
const SPEAKING: Duration = Duration::from_secs(3);
/// How long the user counts as speaking after a typed turn. In a noisy room the service may hear
/// speech without an end, and a user who types must be answered all the same.
const TYPED: Duration = Duration::from_secs(2);
/// How long `response.created` may take after our `response.create`. After that the request counts
/// as lost, and the next one may be sent.
const REQUESTED: Duration = Duration::from_secs(10);
/// Responses remembered after their end.
const MAX_PAST: usize = 16;

/// A request for a response: what to ask the service for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseRequest {
    /// Speak the configured greeting.
    Greeting,
    /// Answer to what is in the conversation.
    Answer,
}

/// Where the user's turn stands. `until` is when the state lapses to `Quiet`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nobody speaks, and no response is announced. The gate is open as far as the user goes.
    Quiet,
    /// Between `speech_started` and `speech_stopped`. Each microphone frame puts `until` off, so a
    /// long sentence is not taken for a mute.
    Speaking { until: Instant },
    /// The user speaks, or the room is noisy, and has typed a turn meanwhile. Microphone frames no
    /// longer put `until` off, or noise would hold back the answer to what was typed.
    Typed { until: Instant },
    /// `speech_stopped` has come, and the service is going to answer by itself.
    Announced { until: Instant },
}

/// Where the service's response stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Response {
    /// None is active, and none was asked for.
    None,
    /// We have asked for one.
    Requested { until: Instant },
    /// The service has refused our request, because another response is active that we know nothing of,
    /// or take for over. The end of any response ends this.
    Refused { until: Instant },
    /// Between its beginning and its `response.done`; the id is in `response_id`. `seen` is its last
    /// sign of life.
    Active { seen: Instant },
    /// The same, after it was cancelled: only its end is missing.
    Cancelled { seen: Instant, by: Canceller },
}

/// What has cancelled a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canceller {
    /// Our `response.cancel`.
    Us,
    /// The service, because the user speaks. It does so by itself, or was meant to.
    Service,
}

/// The last response, if it counts as over and its end has not come. From then on a turn of the user may
/// meet a service that is stuck in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// It is not lost.
    No,
    /// It was given up. It is taken up again at a sign of life, until we ask for another one.
    Silent,
    /// It was cancelled, by this.
    Cancelled(Canceller),
}

/// What has made a response, as its `response.created` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// Our request: it has our metadata.
    Us,
    /// It has none of ours. That means the service itself only if this service gives metadata back.
    Service,
    /// Its `response.created` has not come.
    Unknown,
}

/// What an event is for the gate that belongs to a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Its response is the active one, has ended, or is not named.
    Known,
    /// Nobody has announced this response: it must be [`created`](ResponseGate::created).
    New,
    /// The response had been given up, and is active again.
    Revived,
}

/// Whose end a `response.done` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The active response's.
    Active,
    /// That of one whose end was told before: it has ended, or counted as over.
    Past,
    /// That of one which nobody has announced.
    Unknown,
}

/// What has lapsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lapsed {
    /// Whether anything did. It counts as activity: the idle time begins when the waiting ends.
    pub any: bool,
    /// What became of the response, if it was one. Its id is [`last_id`](ResponseGate::last_id).
    pub response: Option<Unfinished>,
}

/// Whether an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Nobody has asked for one.
    Unwanted,
    /// It is asked for as soon as the gate opens.
    Wanted,
    /// Wanted before the user's turn ended: the response that the service makes for that turn will
    /// do. If that one never comes, the answer is asked for when the announcement lapses.
    Covered,
}

/// The response gate. See the module's text.
#[derive(Debug)]
pub struct ResponseGate {
    turn: Turn,
    response: Response,
    /// Id of the active response, or of the last one.
    response_id: String,
    lost: Lost,
    /// The ids of those before it that have ended, the newest last.
    past: VecDeque<String>,
    /// The user's turn came while a response was active or lost: a service that hangs does not answer it
    /// by itself.
    owed: bool,
    answer: Answer,
    greeting: bool,
    /// What our last request was for, until its response is done.
    outstanding: Option<ResponseRequest>,
    /// The outstanding wish was refused once already.
    retried: bool,
    /// The service gives our metadata back.
    echoes: bool,
    /// What we had asked for when a response of the service's own came first. It is wanted again.
    overtaken: Option<ResponseRequest>,
    /// The user pressed stop while a response was on its way: it is cancelled as it comes.
    stop_next: bool,
}

impl Default for ResponseGate {
    fn default() -> Self {
        Self {
            turn: Turn::Quiet,
            response: Response::None,
            response_id: String::new(),
            lost: Lost::No,
            past: VecDeque::new(),
            owed: false,
            answer: Answer::Unwanted,
            greeting: false,
            outstanding: None,
            retried: false,
            echoes: false,
            overtaken: None,
            stop_next: false,
        }
    }
}

impl ResponseGate {
    /// The model is to speak. Asked for again before the gate opens, it changes nothing.
    pub fn want(&mut self, request: ResponseRequest) {
        match request {
            ResponseRequest::Greeting => self.greeting = true,
            ResponseRequest::Answer => self.answer = Answer::Wanted,
        }
    }

    /// What to request now, if the gate is open and something is wanted. The caller must send it: the
    /// gate is shut from here on. The greeting goes first, since it opens the conversation.
    pub fn next(&mut self, now: Instant) -> Option<ResponseRequest> {
        if self.turn != Turn::Quiet || self.response != Response::None {
            return None;
        }
        let request = if std::mem::take(&mut self.greeting) {
            ResponseRequest::Greeting
        } else if self.answer != Answer::Unwanted {
            self.answer = Answer::Unwanted;
            ResponseRequest::Answer
        } else {
            return None;
        };
        self.outstanding = Some(request);
        self.stop_next = false;
        self.response = Response::Requested { until: now + REQUESTED };
        Some(request)
    }

    /// `speech_started`: Any → Speaking. A stop that was meant for a response on its way is forgotten:
    /// what comes after this speech is an answer to it.
    pub fn speech_started(&mut self, now: Instant) {
        self.turn = Turn::Speaking { until: now + SPEAKING };
        self.stop_next = false;
    }

    /// A typed turn wants an answer: Speaking → Typed, with no later end than it had.
    pub fn typed(&mut self, now: Instant) {
        if let Turn::Speaking { until } = self.turn {
            self.turn = Turn::Typed { until: until.min(now + TYPED) };
        }
        self.want(ResponseRequest::Answer);
    }

    /// Microphone audio came: if the user speaks, the user still does. Called for every frame.
    pub fn heard(&mut self, now: Instant) {
        if let Turn::Speaking { until } = &mut self.turn {
            *until = now + SPEAKING;
        }
    }

    /// `speech_stopped`: Any → Announced if the service answers spoken turns by itself (`announced`),
    /// else → Quiet. An answer that was wanted until here is covered by the announced response.
    pub fn speech_stopped(&mut self, announced: bool, now: Instant) {
        if !announced {
            self.turn = Turn::Quiet;
            return;
        }
        self.turn = Turn::Announced { until: now + ANNOUNCED };
        if self.answer == Answer::Wanted {
            self.answer = Answer::Covered;
        }
    }

    /// `committed`: an announced response has its full time from here, since the service makes it only
    /// after this event. A service that is stuck in another response may never make it, so the turn is
    /// remembered.
    pub fn committed(&mut self, now: Instant) {
        if let Turn::Announced { until } = &mut self.turn {
            *until = now + ANNOUNCED;
            self.owed = self.active().is_some() || self.lost != Lost::No;
        }
    }

    /// A response begins: it is Active, and an announcement is fulfilled. One that was active before is
    /// over. `None` if it has begun already; else whether the user asked to stop it before it came: the
    /// caller must then cancel it.
    pub fn created(&mut self, response_id: &str, now: Instant) -> Option<bool> {
        self.created_by(Maker::Unknown, response_id, now)
    }

    /// The same, of one whose maker may be known.
    pub fn created_by(&mut self, maker: Maker, response_id: &str, now: Instant) -> Option<bool> {
        if self.active() == Some(response_id) {
            return None;
        }
        self.echoes |= maker == Maker::Us;
        let overtaken = self.overtaken.take();
        match maker {
            Maker::Us if overtaken.is_some() => {
                match overtaken {
                    Some(ResponseRequest::Greeting) => self.greeting = false,
                    _ => self.answer = Answer::Unwanted,
                }
                self.outstanding = overtaken;
            }
            Maker::Service
                if self.echoes && matches!(self.response, Response::Requested { .. }) =>
            {
                self.overtaken = self.outstanding.take();
                self.overtaken.into_iter().for_each(|request| self.want(request));
            }
            _ => {}
        }
        if maker != Maker::Us && matches!(self.turn, Turn::Announced { .. }) {
            self.turn = Turn::Quiet;
            if self.answer == Answer::Covered {
                self.answer = Answer::Unwanted;
            }
        }
        self.bury();
        self.past.retain(|id| id != response_id);
        self.response = Response::Active { seen: now };
        self.response_id.push_str(response_id);
        self.owed = false;
        Some(std::mem::take(&mut self.stop_next))
    }

    /// An event of a response, which may be empty: a sign of life of the active one. Asked for every audio delta.
    pub fn sign(&mut self, response_id: &str, now: Instant) -> Sign {
        if response_id.is_empty() || self.active().is_some_and(|id| id == response_id) {
            if let Response::Active { seen } | Response::Cancelled { seen, .. } = &mut self.response
            {
                *seen = now;
            }
            return Sign::Known;
        }
        // `response.created` had no id: what comes next of it tells the name.
        if matches!(self.response, Response::Active { .. })
            && self.response_id.is_empty()
            && !self.past.iter().any(|id| id == response_id)
        {
            self.response_id.push_str(response_id);
            return Sign::Known;
        }
        if self.response_id == response_id {
            if self.lost == Lost::Silent && self.response == Response::None {
                self.lost = Lost::No;
                self.response = Response::Active { seen: now };
                return Sign::Revived;
            }
            return Sign::Known;
        }
        if self.past.iter().any(|id| id == response_id) { Sign::Known } else { Sign::New }
    }

    /// The active response is cancelled: Active → Cancelled.
    pub fn cancelled(&mut self, by: Canceller, now: Instant) {
        if matches!(self.response, Response::Active { .. }) {
            self.response = Response::Cancelled { seen: now, by };
        }
    }

    /// `response.done`: Active or Cancelled → None. The end of another response than the active one does
    /// not end that, or a late `done` would open the gate in the middle of an answer. An end or a
    /// beginning without an id belongs to whatever is active.
    pub fn done(&mut self, response_id: &str) -> Ended {
        let anonymous = response_id.is_empty();
        if self.active().is_some_and(|id| id == response_id || id.is_empty() || anonymous) {
            self.response = Response::None;
            self.owed = false;
            if self.outstanding.take().is_some() {
                self.retried = false;
            }
            return Ended::Active;
        }
        // Whatever was in the way of our request may have been this one.
        if matches!(self.response, Response::Refused { .. }) {
            self.response = Response::None;
        }
        let last = !anonymous && self.response_id == response_id;
        if last {
            self.lost = Lost::No;
        }
        if last || self.past.iter().any(|id| id == response_id) {
            Ended::Past
        } else {
            Ended::Unknown
        }
    }

    /// The last response, if it counts as over and nobody has cancelled it on our side: the caller must
    /// do so before it asks for another one, or a service in which it is alive would refuse that. It is
    /// not taken up again.
    pub fn take_lost(&mut self) -> Option<&str> {
        let lost = std::mem::replace(&mut self.lost, Lost::No);
        let uncancelled = matches!(lost, Lost::Silent | Lost::Cancelled(Canceller::Service));
        uncancelled.then_some(self.response_id.as_str())
    }

    /// The last response moves to the past, and makes room for the next one's id.
    fn bury(&mut self) {
        self.lost = Lost::No;
        let id = std::mem::take(&mut self.response_id);
        if id.is_empty() {
            return;
        }
        if self.past.len() == MAX_PAST {
            self.past.pop_front();
        }
        self.past.push_back(id);
    }

    /// `conversation_already_has_active_response`: wait for that one's end, then ask once more. Only
    /// once: a service that always refuses would be asked for ever.
    pub fn refused(&mut self, now: Instant) {
        let request = self.outstanding.take();
        match request {
            Some(request) if !self.retried => {
                self.retried = true;
                self.want(request);
            }
            _ => self.retried = false,
        }
        if matches!(self.response, Response::Requested { .. } | Response::Refused { .. }) {
            self.response = Response::Refused { until: now + REQUESTED };
        }
    }

    /// Nobody wants the answer any more that was wanted and not asked for.
    pub fn unwant(&mut self) {
        self.answer = Answer::Unwanted;
    }

    /// Our request was refused for its form: it is to be sent again at once. Requested → None.
    pub fn again(&mut self) {
        let request = self.outstanding;
        self.failed();
        request.into_iter().for_each(|request| self.want(request));
    }

    /// Our request failed for a reason that asking again does not mend: Requested → None.
    pub fn failed(&mut self) {
        self.outstanding = None;
        self.retried = false;
        if matches!(self.response, Response::Requested { .. }) {
            self.response = Response::None;
        }
    }

    /// The session with the service is lost, and everything that was under way in it. What somebody
    /// waits for is asked for again in the next session: what was wanted and not asked for, and what was
    /// asked for and has not begun. `begun`: audio of the active response has come. `heard_again`: the
    /// user's last turn goes to the next session as audio, and is answered there like any other.
    pub fn session_lost(&mut self, begun: bool, heard_again: bool) {
        let missing = match self.response {
            Response::Requested { .. } | Response::Refused { .. } => true,
            Response::Active { .. } => !begun,
            Response::None | Response::Cancelled { .. } => false,
        };
        let asked_to_greet = missing && self.outstanding == Some(ResponseRequest::Greeting);
        let greeting = self.greeting || asked_to_greet;
        let unanswered =
            matches!(self.turn, Turn::Announced { .. }) || (missing && !asked_to_greet);
        let wanted = self.owed || self.answer != Answer::Unwanted;
        let answer =
            if wanted || (unanswered && !heard_again) { Answer::Wanted } else { Answer::Unwanted };
        let stopped = self.stop_next;
        *self = Self::default();
        if !stopped {
            self.greeting = greeting;
            self.answer = answer;
        }
    }

    /// The user pressed stop while nothing is active: stop what is on its way, if anything.
    pub fn stop_next(&mut self) {
        let coming = matches!(self.response, Response::Requested { .. } | Response::Refused { .. });
        self.stop_next = coming || matches!(self.turn, Turn::Announced { .. });
    }

    /// Whether a response that we have asked for is on its way.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        matches!(self.response, Response::Requested { .. })
    }

    /// Whether the user speaks, or has spoken and the answer has not begun.
    #[must_use]
    pub fn is_in_turn(&self) -> bool {
        self.turn != Turn::Quiet
    }

    /// Whether the service hears the user speak, as far as is known.
    #[must_use]
    pub fn is_speaking(&self) -> bool {
        matches!(self.turn, Turn::Speaking { .. } | Turn::Typed { .. })
    }

    /// Whether a response will be asked for when the gate opens.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.greeting || self.owed || self.answer != Answer::Unwanted
    }

    /// The active response's id.
    #[must_use]
    pub fn active(&self) -> Option<&str> {
        let active = matches!(self.response, Response::Active { .. } | Response::Cancelled { .. });
        active.then_some(self.response_id.as_str())
    }

    /// The id of the active response, or of the last one; empty before the first.
    #[must_use]
    pub fn last_id(&self) -> &str {
        &self.response_id
    }

    /// Whether the user speaks, or a response is active or on its way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.turn != Turn::Quiet || self.response != Response::None
    }
}

#[cfg(test)]
mod tests;
