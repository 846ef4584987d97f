//! The model hangs up: the call ends when its goodbye has been heard.
//!
//! ```text
//! None ──hang_up──► Due ──the goodbye is over, or time is up──► the call ends
//!   ▲                │
//!   └─the user speaks┘
//! ```
//!
//! A model may say goodbye in the response that calls `hang_up`, or only call it. In the second case it is
//! asked for one more response, so that nobody is left without a word. A user who speaks before the end may have
//! something to add: the model then answers, and hangs up again if that was all.

use std::time::{Duration, Instant};

use super::Call;
use super::ending::EndReason;
use super::response_gate::ResponseRequest;

/// How long the goodbye may take. After that the call ends without it.
const LONGEST: Duration = Duration::from_secs(30);
/// What clients hold back before they play, and so hear later than the clock says.
const MARGIN: Duration = Duration::from_millis(400);
/// How soon to look again while something of the goodbye is still on its way.
const LOOK: Duration = Duration::from_millis(100);

/// A call that is to end.
#[derive(Debug)]
pub(super) struct Farewell {
    /// The response that called `hang_up`.
    response_id: String,
    /// Whether it is still open if that response has said goodbye.
    open: bool,
    /// When the call ends in any case.
    latest: Instant,
    /// When to look again.
    look: Instant,
}

impl Farewell {
    /// When [`Call::part`] must be called at the latest.
    pub(super) fn deadline(&self) -> Instant {
        self.look.min(self.latest)
    }
}

impl Call {
    /// The model has called `hang_up`. It is answered at once, and its answer by itself asks for no
    /// follow-up: whether one is needed shows when the response is over.
    pub(super) fn on_hang_up(&mut self, call_id: &str, now: Instant) {
        let Some(call) = self.tools.close_alone(call_id) else { return };
        self.limits.touch(now);
        let output = r#"{"result":"The call ends as soon as your goodbye has been heard."}"#;
        self.answer_call(call_id, output);
        self.tell_tool_end(&call, true, now);
        let response_id = call.response_id;
        self.farewell =
            Some(Farewell { response_id, open: true, latest: now + LONGEST, look: now + LOOK });
    }

    /// The user goes on, so the call does.
    pub(super) fn call_off_farewell(&mut self) {
        self.farewell = None;
    }

    /// Before it is asked whether a response is due: the goodbye is one, if nothing was said yet.
    pub(super) fn want_goodbye(&mut self) {
        let Some(farewell) = &mut self.farewell else { return };
        if farewell.open && self.gate.active().is_none() {
            farewell.open = false;
            if !self.playback.has_audio_of(&farewell.response_id) {
                self.gate.want(ResponseRequest::Answer);
            }
        }
    }

    /// Ends the call if all has been said and heard.
    pub(super) fn part(&mut self, now: Instant) {
        let Some(farewell) = &mut self.farewell else { return };
        let speaks = farewell.open || self.gate.is_busy() || self.gate.is_wanted();
        let heard = self.playback.end().map(|end| end + MARGIN);
        let plays = self.playback.is_playing(now) || heard.is_some_and(|heard| heard > now);
        let over = !speaks && !plays && !self.tools.is_running();
        if over || now >= farewell.latest {
            self.end(EndReason::AssistantHungUp, now);
        } else {
            farewell.look = heard.map_or(now, |heard| heard.max(now)) + LOOK;
        }
    }
}
