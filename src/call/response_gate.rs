//! The one gate for `response.create`: at most one outstanding.
//!
//! Everybody who wants the model to speak (tool results, typed turns, the greeting) says so here, and
//! the gate says when to ask. It stays shut while the user speaks, while the service is about to make
//! a response of its own (announced by `speech_stopped`), while our own request is under way, and
//! while a response is active. Wishes merge: two before the gate opens make one request.
//!
//! A wish from before the user's turn ended is met by the response the service makes for that turn,
//! because that response already sees what was added to the conversation.

use std::time::{Duration, Instant};

use super::sooner;

/// How long a response is expected after `speech_stopped` or `committed`. An empty or discarded turn
/// brings none, so the expectation has to lapse.
const ANNOUNCED: Duration = Duration::from_secs(5);
/// How long the user counts as speaking after the last microphone audio. Who mutes in the middle of a
/// sentence sends none, and then the service never hears the sentence end.
const SPEAKING: Duration = Duration::from_secs(3);
/// How long the user counts as speaking after a typed turn. In a noisy room the service may hear
/// speech without an end, and who types wants to be answered all the same.
const TYPED: Duration = Duration::from_secs(2);
/// How long `response.created` may take after our `response.create`.
const REQUESTED: Duration = Duration::from_secs(10);

/// What to ask the service for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseRequest {
    /// Speak the configured greeting.
    Greeting,
    /// Answer to what is in the conversation.
    Answer,
}

/// Where the user's turn stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nobody speaks, nothing is announced.
    Quiet,
    /// Between `speech_started` and `speech_stopped`.
    Speaking { until: Instant },
    /// The same, but a typed turn does not wait longer for the end of what is heard.
    Typed { until: Instant },
    /// The service is going to answer by itself.
    Announced { until: Instant },
}

/// Where the service's response stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Response {
    None,
    /// Ours was asked for, or the service said that one is active whose `created` we have not seen.
    Requested {
        until: Instant,
    },
    /// Between `response.created` and `response.done`; the id is in `response_id`.
    Active,
}

/// Whether an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Unwanted,
    Wanted,
    /// Wanted before the user's turn ended: the response made for that turn will do.
    Covered,
}

/// See the module's text.
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
    /// Somebody wants the model to speak.
    pub fn want(&mut self, wish: ResponseRequest) {
        match wish {
            ResponseRequest::Greeting => self.greeting = true,
            ResponseRequest::Answer => self.answer = Answer::Wanted,
        }
    }

    /// What to request now, if the gate is open and something is wanted.
    pub fn next(&mut self, now: Instant) -> Option<ResponseRequest> {
        if self.turn != Turn::Quiet || self.response != Response::None {
            return None;
        }
        let wish = if std::mem::take(&mut self.greeting) {
            ResponseRequest::Greeting
        } else if self.answer != Answer::Unwanted {
            self.answer = Answer::Unwanted;
            ResponseRequest::Answer
        } else {
            return None;
        };
        self.outstanding = Some(wish);
        self.stop_next = false;
        self.response = Response::Requested { until: now + REQUESTED };
        Some(wish)
    }

    /// `speech_started`.
    pub fn speech_started(&mut self, now: Instant) {
        self.turn = Turn::Speaking { until: now + SPEAKING };
        self.stop_next = false;
    }

    /// A typed turn wants an answer.
    pub fn typed(&mut self, now: Instant) {
        if let Turn::Speaking { until } = self.turn {
            self.turn = Turn::Typed { until: until.min(now + TYPED) };
        }
        self.want(ResponseRequest::Answer);
    }

    /// Microphone audio came: if the user speaks, the user still does.
    pub fn heard(&mut self, now: Instant) {
        if let Turn::Speaking { until } = &mut self.turn {
            *until = now + SPEAKING;
        }
    }

    /// `speech_stopped`. `announced`: the service answers spoken turns by itself.
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

    /// `committed`: an announced response still has its full time from here.
    pub fn committed(&mut self, now: Instant) {
        if let Turn::Announced { until } = &mut self.turn {
            *until = now + ANNOUNCED;
        }
    }

    /// `response.created`. Returns whether the user asked to stop it before it came.
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

    /// `response.done`. A done of another response than the active one changes nothing. Returns
    /// whether it was the active one.
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

    /// `conversation_already_has_active_response`: wait for that one's end, then ask once more.
    pub fn refused(&mut self, now: Instant) {
        let wish = self.outstanding.take();
        match wish {
            Some(wish) if !self.retried => {
                self.retried = true;
                self.want(wish);
            }
            _ => self.retried = false,
        }
        if matches!(self.response, Response::Requested { .. }) {
            self.response = Response::Requested { until: now + REQUESTED };
        }
    }

    /// Our request failed for a reason that asking again does not mend.
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

    /// Lets expectations lapse. Returns whether one did.
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
    fn wishes_merge_and_only_one_is_outstanding() {
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
            "a new wish may be retried again"
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
