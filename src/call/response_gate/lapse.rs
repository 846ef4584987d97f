//! What becomes of the gate's states when their time is over.

use std::time::{Duration, Instant};

use super::{Answer, Lapsed, Lost, Response, ResponseGate, Turn};
use crate::call::sooner;
use crate::call::unfinished::Unfinished;

/// How long an active response may show no sign of life: no event of it, and nothing of its sound being
/// played. Some models think this long before their first word; a response that goes on after all is
/// taken up again.
const SILENT: Duration = Duration::from_secs(20);
/// The same while something waits for its end: a tool's result that nobody has spoken about, say.
const SILENT_AND_AWAITED: Duration = Duration::from_secs(10);
/// The same after it was cancelled. The service ends such a response at once.
const CANCELLED: Duration = Duration::from_secs(5);

impl ResponseGate {
    /// Lets states lapse whose time is over. `awaited`: somebody besides the gate waits for the end of
    /// the response. `play_end`: when the client will have played all it was sent.
    pub fn tick(&mut self, awaited: bool, play_end: Option<Instant>, now: Instant) -> Lapsed {
        let turn = self.turn_end().is_some_and(|until| until <= now);
        if turn {
            self.turn = Turn::Quiet;
        }
        let late = self.response_end(awaited, play_end).is_some_and(|until| until <= now);
        let response = if late { self.give_up() } else { None };
        if turn || late {
            self.stop_next = false;
        }
        if self.turn == Turn::Quiet && self.active().is_none() && std::mem::take(&mut self.owed) {
            self.answer = Answer::Wanted;
        }
        Lapsed { any: turn || late, response }
    }

    /// Any → None, since the time of the response's state is over.
    fn give_up(&mut self) -> Option<Unfinished> {
        match std::mem::replace(&mut self.response, Response::None) {
            Response::None | Response::Refused { .. } => None,
            Response::Requested { .. } => {
                self.failed();
                Some(Unfinished::NotCreated)
            }
            Response::Active { .. } => {
                self.lost = Lost::Silent;
                self.outstanding = None;
                Some(Unfinished::Silent)
            }
            Response::Cancelled { by, .. } => {
                self.lost = Lost::Cancelled(by);
                self.outstanding = None;
                Some(Unfinished::CancelUnanswered)
            }
        }
    }

    /// When to call [`ResponseGate::tick`] at the latest, which takes the same arguments.
    #[must_use]
    pub fn deadline(&self, awaited: bool, play_end: Option<Instant>) -> Option<Instant> {
        sooner(self.turn_end(), self.response_end(awaited, play_end))
    }

    /// When the response's state lapses. What is still being played of an active one shows that it
    /// lives; of a cancelled one nothing is.
    fn response_end(&self, awaited: bool, play_end: Option<Instant>) -> Option<Instant> {
        match self.response {
            Response::None => None,
            Response::Requested { until } | Response::Refused { until } => Some(until),
            Response::Active { seen } => {
                let patience =
                    if awaited || self.is_wanted() { SILENT_AND_AWAITED } else { SILENT };
                Some(play_end.map_or(seen, |end| end.max(seen)) + patience)
            }
            Response::Cancelled { seen, .. } => Some(seen + CANCELLED),
        }
    }

    fn turn_end(&self) -> Option<Instant> {
        match self.turn {
            Turn::Speaking { until } | Turn::Typed { until } | Turn::Announced { until } => {
                Some(until)
            }
            Turn::Quiet => None,
        }
    }
}
