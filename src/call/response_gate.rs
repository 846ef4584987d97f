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
//! Every state but an active response has a time limit. An event of the service that never comes
//! (an empty turn brings no response, a mute in mid-sentence brings no `speech_stopped`) would
//! otherwise keep the gate shut for the rest of the call.

use std::time::{Duration, Instant};

use super::sooner;

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
    /// We have asked for one. Or the service has refused that because another one is active whose
    /// `response.created` we have not seen; that one is waited for in the same way.
    Requested { until: Instant },
    /// Between `response.created` and `response.done`; the id is in `response_id`. It has no time
    /// limit: the service ends each response, also a cancelled one, with `response.done`.
    Active,
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
    answer: Answer,
    greeting: bool,
    /// What our last request was for, until its response is done.
    outstanding: Option<ResponseRequest>,
    /// The outstanding wish was refused once already.
    retried: bool,
    /// The user pressed stop while a response was on its way: it is cancelled as it comes.
    stop_next: bool,
}

impl Default for ResponseGate {
    fn default() -> Self {
        Self {
            turn: Turn::Quiet,
            response: Response::None,
            response_id: String::new(),
            answer: Answer::Unwanted,
            greeting: false,
            outstanding: None,
            retried: false,
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
    /// after this event.
    pub fn committed(&mut self, now: Instant) {
        if let Turn::Announced { until } = &mut self.turn {
            *until = now + ANNOUNCED;
        }
    }

    /// `response.created`: the response is Active, and an announcement is fulfilled. Returns whether
    /// the user asked to stop it before it came: the caller must then cancel it.
    pub fn created(&mut self, response_id: &str) -> bool {
        if matches!(self.turn, Turn::Announced { .. }) {
            self.turn = Turn::Quiet;
            if self.answer == Answer::Covered {
                self.answer = Answer::Unwanted;
            }
        }
        self.response = Response::Active;
        self.response_id.clear();
        self.response_id.push_str(response_id);
        std::mem::take(&mut self.stop_next)
    }

    /// `response.done`: Active → None. The end of another response than the active one changes
    /// nothing, or a late `done` would open the gate in the middle of an answer. Returns whether it
    /// was the active one.
    pub fn done(&mut self, response_id: &str) -> bool {
        if self.active() != Some(response_id) {
            return false;
        }
        self.response = Response::None;
        if self.outstanding.take().is_some() {
            self.retried = false;
        }
        true
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
        if matches!(self.response, Response::Requested { .. }) {
            self.response = Response::Requested { until: now + REQUESTED };
        }
    }

    /// Our request failed for a reason that asking again does not mend: Requested → None.
    pub fn failed(&mut self) {
        self.outstanding = None;
        self.retried = false;
        if matches!(self.response, Response::Requested { .. }) {
            self.response = Response::None;
        }
    }

    /// The user pressed stop while nothing is active: stop what is on its way, if anything.
    pub fn stop_next(&mut self) {
        self.stop_next = matches!(self.response, Response::Requested { .. })
            || matches!(self.turn, Turn::Announced { .. });
    }

    /// Whether the service hears the user speak, as far as is known.
    #[must_use]
    pub fn is_speaking(&self) -> bool {
        matches!(self.turn, Turn::Speaking { .. } | Turn::Typed { .. })
    }

    /// Lets states lapse whose time is over. Returns whether one did, which counts as activity: the
    /// idle time begins when the waiting ends.
    pub fn tick(&mut self, now: Instant) -> bool {
        let mut lapsed = false;
        if self.turn_end().is_some_and(|until| until <= now) {
            self.turn = Turn::Quiet;
            lapsed = true;
        }
        if matches!(self.response, Response::Requested { until } if until <= now) {
            self.failed();
            lapsed = true;
        }
        if lapsed {
            self.stop_next = false;
        }
        lapsed
    }

    /// When to call [`ResponseGate::tick`] at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let response = match self.response {
            Response::Requested { until } => Some(until),
            Response::None | Response::Active => None,
        };
        sooner(self.turn_end(), response)
    }

    fn turn_end(&self) -> Option<Instant> {
        match self.turn {
            Turn::Speaking { until } | Turn::Typed { until } | Turn::Announced { until } => {
                Some(until)
            }
            Turn::Quiet => None,
        }
    }

    /// The active response's id.
    #[must_use]
    pub fn active(&self) -> Option<&str> {
        (self.response == Response::Active).then_some(self.response_id.as_str())
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
mod tests {
    use super::*;

    fn start() -> (ResponseGate, Instant) {
        (ResponseGate::default(), Instant::now())
    }

    #[test]
    fn requests_merge_and_only_one_is_outstanding() {
        let (mut gate, now) = start();
        gate.want(ResponseRequest::Answer);
        gate.want(ResponseRequest::Answer);
        assert_eq!(gate.next(now), Some(ResponseRequest::Answer));
        gate.want(ResponseRequest::Answer);
        assert_eq!(gate.next(now), None);
        gate.created("r1");
        assert_eq!(gate.next(now), None);
        gate.done("other");
        assert_eq!(gate.next(now), None);
        gate.done("r1");
        assert_eq!(gate.next(now), Some(ResponseRequest::Answer));
    }

    #[test]
    fn speech_announces_a_response_until_it_lapses() {
        let (mut gate, now) = start();
        gate.speech_started(now);
        gate.want(ResponseRequest::Answer);
        assert_eq!(gate.next(now), None);
        gate.speech_stopped(true, now);
        assert_eq!(gate.next(now), None);
        assert_eq!(gate.deadline(), Some(now + ANNOUNCED));
        let later = now + ANNOUNCED;
        assert!(gate.tick(later));
        assert_eq!(gate.next(later), Some(ResponseRequest::Answer));
    }

    #[test]
    fn the_services_own_response_meets_an_earlier_wish() {
        let (mut gate, now) = start();
        gate.speech_started(now);
        gate.want(ResponseRequest::Answer);
        gate.speech_stopped(true, now);
        gate.created("vad");
        gate.done("vad");
        assert_eq!(gate.next(now), None);
    }

    #[test]
    fn a_wish_during_the_announcement_is_asked_for_afterwards() {
        let (mut gate, now) = start();
        gate.speech_started(now);
        gate.speech_stopped(true, now);
        gate.want(ResponseRequest::Answer);
        gate.created("vad");
        gate.done("vad");
        assert_eq!(gate.next(now), Some(ResponseRequest::Answer));
    }

    #[test]
    fn a_refusal_is_retried_once_after_the_other_response() {
        let (mut gate, now) = start();
        gate.want(ResponseRequest::Answer);
        assert!(gate.next(now).is_some());
        gate.refused(now);
        assert_eq!(gate.next(now), None);
        gate.created("theirs");
        gate.done("theirs");
        assert_eq!(gate.next(now), Some(ResponseRequest::Answer));
        gate.refused(now);
        gate.created("again");
        gate.done("again");
        assert_eq!(gate.next(now), None);
        gate.want(ResponseRequest::Answer);
        assert_eq!(gate.next(now), Some(ResponseRequest::Answer));
        gate.created("r");
        gate.refused(now);
        gate.done("r");
        assert_eq!(
            gate.next(now),
            Some(ResponseRequest::Answer),
            "a new request may be retried again"
        );
    }

    #[test]
    fn a_request_without_an_answer_lapses() {
        let (mut gate, now) = start();
        gate.want(ResponseRequest::Greeting);
        assert_eq!(gate.next(now), Some(ResponseRequest::Greeting));
        assert!(gate.is_busy());
        assert!(gate.tick(now + REQUESTED));
        assert!(!gate.is_busy());
        assert_eq!(gate.next(now), None);
    }

    #[test]
    fn stop_takes_what_is_on_its_way_only() {
        let (mut gate, now) = start();
        gate.stop_next();
        gate.want(ResponseRequest::Answer);
        assert!(gate.next(now).is_some());
        assert!(!gate.created("r1"));
        gate.done("r1");
        gate.speech_started(now);
        gate.speech_stopped(true, now);
        gate.stop_next();
        assert!(gate.created("r2"));
    }
}
