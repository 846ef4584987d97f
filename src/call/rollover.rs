//! The planned change from one session of the service to the next, before the service ends the first.
//!
//! ```text
//! Resting ──`prepare`──► Waiting ──its turn──► Making ──session.updated──► Ready ──it is quiet──► Pausing
//!    ▲                     ▲  │                  │                          ▲ │  ▲                  │ │
//!    │                     └──┼───── it fails ───┴──────────────────────────┼─┴──┼──────────────────┤ │
//!    │                        └─ too late ─► GivenUp                        │    └─ it is not ──────┘ │
//!    └── the second session is the present one ◄── `last`, or the first is lost ◄── 600 ms later ─────┘
//! ```
//!
//! The client hears nothing of it, so three things have to hold:
//!
//! - **The first session serves until the change.** The second one is made, configured and told the
//!   conversation beside it. If it fails, the first goes on, and it is tried again later.
//! - **The change comes when nothing is under way** in the first session: nobody speaks, no response is
//!   active or wanted, no tool runs, nothing plays, the last turn's words have come. A service says only a
//!   moment later that it hears speech. So the microphone is held for [`PAUSE`] first. If the first session
//!   then reports speech, it gets what was held, and the change waits. Otherwise what was held goes to the
//!   second session: no sample is lost, and none is sent twice.
//! - **There is a last moment.** From `late` on the end of a turn is enough: the reply may still be playing,
//!   since all of it has come. At `last` the change comes in any case. What is then under way is settled as
//!   if the session were lost, and the user's turn is heard again by the second session.
//!
//! A first session that is lost while the second one is ready is replaced at once, without an outage.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::ending::ServiceFault;
use super::outage::{Outage, SETTLED};
use super::service::session::{Dialect, SessionInfo, ga_session};
use super::service::{ServiceError, ServiceEvent, commands};
use super::service_session::ServiceSession;
use super::{Call, CallSettings, ChangeOver, Moment, Output, State, sooner};

/// How long before the end of the session the second one is made. Of a session of less than two minutes it
/// is half its time.
const LEAD: Duration = Duration::from_secs(60);
/// How long the microphone is held before the change. Services report speech 200 to 500 ms after it has
/// begun.
const PAUSE: Duration = Duration::from_millis(600);
/// How long the words of a turn are waited for.
const WORDS: Duration = Duration::from_secs(5);
/// When the next second session is tried, if none could be had and the service has told no end.
const LATER: Duration = Duration::from_secs(300);

/// The times of a session. `late` is 15 s before its end and `last` 5 s, or a quarter and a twelfth of a
/// shorter lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    /// The second session is made.
    prepare: Instant,
    /// The end of a turn is quiet enough.
    late: Instant,
    /// The change comes in any case.
    last: Instant,
}

impl Plan {
    fn new(since: Instant, end: Instant) -> Self {
        let lead = LEAD.min(end.saturating_duration_since(since) / 2);
        let before = |time: Duration| end.checked_sub(time).unwrap_or(since);
        Self { prepare: before(lead), late: before(lead / 4), last: before(lead / 12) }
    }
}

/// How far the second session is. See the module's text. There is a connection from Making to Pausing.
#[derive(Debug)]
enum Stage {
    /// None is wanted yet.
    Resting,
    /// One is wanted. `tries` knows when the next try is due.
    Waiting,
    /// It is being made. `asked`: it was sent its settings.
    Making { asked: bool },
    /// It has taken the settings, and was told the conversation as far as that will not change.
    Ready,
    /// It is quiet, and the microphone is held until this time.
    Pausing { until: Instant },
    /// None can be had, and none is tried any more while this session lasts.
    GivenUp,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Rollover {
    /// The times of the present session; `None` while there is none, or none that ends.
    plan: Option<Plan>,
    stage: Stage,
    /// When to try again: the waits are those of an outage.
    tries: Option<Outage>,
    /// What the second session has said of itself.
    next: ServiceSession,
    /// Other settings than the call's, if the service has refused those to the second session.
    instead: Option<Rc<CallSettings>>,
    /// Items that it was told.
    items: usize,
    /// Until when the words of the user's last turn are waited for.
    words: Option<Instant>,
}

impl Default for Rollover {
    fn default() -> Self {
        Self {
            plan: None,
            stage: Stage::Resting,
            tries: None,
            next: ServiceSession::new(),
            instead: None,
            items: 0,
            words: None,
        }
    }
}

impl Rollover {
    /// A turn of the user is in the conversation, and its words are still to come.
    pub(super) fn wait_for_words(&mut self, now: Instant) {
        self.words = Some(now + WORDS);
    }

    /// They have come, or will not.
    pub(super) fn words_came(&mut self) {
        self.words = None;
    }

    /// Whether the second session can take over at once.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready | Stage::Pausing { .. })
    }
}

impl Call {
    /// The service has said when it ends the present session.
    pub fn session_ends(&mut self, at: Instant) {
        self.session.ends = Some(at);
        self.plan_rollover();
    }

    /// The same of the session that is being prepared.
    pub fn next_session_ends(&mut self, at: Instant) {
        self.rollover.next.ends = Some(at);
    }

    /// The present session is active, or its end has become known. A call that does not outlive its
    /// session plans nothing.
    pub(super) fn plan_rollover(&mut self) {
        let State::Active { since } = self.state else { return };
        let CallSettings { session_time, reconnect, .. } = *self.settings;
        let assumed = || since.checked_add(session_time).filter(|_| !session_time.is_zero());
        let end = self.session.ends.or_else(assumed).filter(|_| !reconnect.is_zero());
        self.rollover.plan = end.map(|end| Plan::new(since, end));
    }

    /// When [`on_rollover_tick`](Self::on_rollover_tick) has something to do. Asked in every turn in which
    /// the service has said something.
    pub(super) fn rollover_deadline(&self) -> Option<Instant> {
        let plan = self.rollover.plan.as_ref()?;
        match self.rollover.stage {
            Stage::Resting => Some(plan.prepare),
            Stage::Waiting | Stage::Making { .. } => {
                self.rollover.tries.as_ref().map(Outage::deadline)
            }
            Stage::Ready => {
                let late = self.is_still().then_some(plan.late);
                sooner(Some(plan.last), sooner(late, self.quiet_from()))
            }
            Stage::Pausing { until } => Some(until),
            Stage::GivenUp => None,
        }
    }

    /// What is due of a rollover: the first or the next try, its end, or the change.
    pub(super) fn on_rollover_tick(&mut self, now: Instant) {
        let Some(plan) = self.rollover.plan else { return };
        if let Stage::Resting = self.rollover.stage
            && plan.prepare <= now
        {
            let patience = plan.last.saturating_duration_since(now);
            let tries = Outage::new(SETTLED, patience, None, &mut self.jitter, now);
            self.rollover.tries = Some(tries);
            self.rollover.stage = Stage::Waiting;
        }
        if !matches!(self.rollover.stage, Stage::Waiting | Stage::Making { .. }) {
            return;
        }
        let Some(tries) = &mut self.rollover.tries else { return };
        if tries.is_over(now) {
            self.give_up_rollover(now);
        } else if tries.begin_try(now) {
            self.rollover.stage = Stage::Making { asked: false };
            let conversation = self.session.conversation.clone();
            self.outputs.push_back(Output::Prepare { conversation });
        } else if tries.has_stalled(now) {
            let message = "The voice service did not get the next session ready in time.";
            self.fail_next(fault(message), now);
        }
    }

    /// No second session is tried any more: the present one lasts until it is lost. If its end is not
    /// known, that may be long, so there is another try later.
    fn give_up_rollover(&mut self, now: Instant) {
        self.drop_next("It took too long.");
        self.rollover.stage = Stage::GivenUp;
        if self.session.ends.is_none() {
            self.rollover.stage = Stage::Resting;
            self.rollover.plan = Some(Plan::new(now, now + LATER));
        }
    }

    // ---- the second session ----

    /// The WebSocket of the second session is open: from here the service has a bounded time.
    pub(super) fn on_next_opened(&mut self, now: Instant) {
        if let Some(tries) = &mut self.rollover.tries {
            tries.reached(now);
        }
    }

    /// The service has refused the settings to the second session: it is asked again with these.
    pub(super) fn on_next_instead(&mut self, settings: Rc<CallSettings>) {
        if let Stage::Making { .. } = self.rollover.stage {
            self.rollover.stage = Stage::Making { asked: false };
            self.rollover.instead = Some(settings);
            self.rollover.next = ServiceSession::new();
        }
    }

    /// The second session has said something. It has heard nothing yet, so most of it is passed over.
    pub(super) fn on_next(&mut self, event: ServiceEvent<'_>, now: Instant) {
        match event {
            ServiceEvent::SessionCreated(session) => self.configure_next(&session),
            ServiceEvent::SessionUpdated(session) => self.on_next_updated(&session, now),
            ServiceEvent::Error(error) => self.on_next_error(&error, now),
            // A service that speaks first: it is the first session that speaks.
            ServiceEvent::ResponseCreated { response_id, .. } => {
                self.outputs.push_back(Output::ToNext(commands::response_cancel(&response_id)));
            }
            _ => {}
        }
    }

    /// The second session was sent its settings before the tools became others: without this it would take
    /// over with the old ones.
    pub(super) fn change_next_tools(&mut self, tools: &serde_json::Value) {
        if self.rollover.is_ready() || matches!(self.rollover.stage, Stage::Making { asked: true })
        {
            let update = commands::tools_update(tools, self.rollover.next.dialect);
            self.outputs.push_back(Output::ToNext(update));
        }
    }

    fn configure_next(&mut self, session: &SessionInfo) {
        let settings = self.rollover.instead.as_ref().unwrap_or(&self.settings);
        self.rollover.next.learn(session, &settings.session);
        if let Stage::Making { asked: asked @ false } = &mut self.rollover.stage {
            *asked = true;
            self.rollover.next.begin(session);
            let update = self.update_command(settings, self.rollover.next.dialect);
            self.outputs.push_back(Output::ToNext(update));
        }
    }

    /// Making → Ready, at the first `session.updated`.
    fn on_next_updated(&mut self, session: &SessionInfo, now: Instant) {
        let settings = self.rollover.instead.as_ref().unwrap_or(&self.settings);
        self.rollover.next.learn(session, &settings.session);
        if let Some(what) = &session.format_fault {
            return self.fail_next(fault(what), now);
        }
        if let Stage::Making { asked: true } = self.rollover.stage {
            self.rollover.stage = Stage::Ready;
            let is_playing = |item_id: &str| self.playback.is_playing_item(item_id, now);
            let quiet = self.quiet_from().is_some_and(|from| from <= now);
            let until = if quiet { usize::MAX } else { self.history.settled(is_playing) };
            self.tell_next(until);
        }
    }

    /// An error before the session is ready is a failed try.
    fn on_next_error(&mut self, error: &ServiceError, now: Instant) {
        if let Some(id) = error.event_id.strip_prefix(commands::EVENT_REPLAY) {
            self.forget_item(id);
        } else if !self.rollover.is_ready() || error.code == "session_expired" {
            let retryable = !super::events::HOPELESS.contains(&error.code.as_str());
            let message = format!("It reports: {}", super::client::quoted(&error.message));
            self.fail_next(ServiceFault { retryable, ..fault(&message) }, now);
        }
    }

    /// The second session could not be had, or is lost. The first one goes on.
    pub(super) fn fail_next(&mut self, fault: ServiceFault, now: Instant) {
        if matches!(self.rollover.stage, Stage::Resting | Stage::Waiting | Stage::GivenUp) {
            return;
        }
        self.drop_next(&fault.message);
        self.rollover.stage = Stage::GivenUp;
        if let Some(tries) = self.rollover.tries.as_mut().filter(|_| fault.retryable) {
            tries.failed(fault.retry_after, &mut self.jitter, now);
            self.rollover.stage = Stage::Waiting;
        }
    }

    /// Any stage → Resting. The connection is closed, if there is one.
    pub(super) fn drop_next(&mut self, why: &str) {
        let stage = std::mem::replace(&mut self.rollover.stage, Stage::Resting);
        if let Stage::Pausing { .. } = stage {
            self.outputs.push_back(Output::ResumeMicrophone);
        }
        if matches!(stage, Stage::Making { .. } | Stage::Ready | Stage::Pausing { .. }) {
            self.outputs.push_back(Output::DropNext { message: why.to_owned() });
        }
        self.rollover.next = ServiceSession::new();
        self.rollover.instead = None;
        self.rollover.items = 0;
        self.history.untell();
    }

    /// Tells the second session the entries of the history up to this one that it does not know. An agent
    /// has kept the conversation by itself.
    fn tell_next(&mut self, until: usize) {
        if self.rollover.next.conversation.is_empty() {
            let dialect = self.rollover.next.dialect;
            let items = self.history.untold(until);
            let commands = items.map(|item| Output::ToNext(commands::replay(&item, dialect)));
            let before = self.outputs.len();
            self.outputs.extend(commands);
            self.rollover.items += self.outputs.len() - before;
        }
        self.history.tell(until);
    }

    // ---- the change ----

    /// Whether nothing is under way in the present session.
    fn is_still(&self) -> bool {
        !self.is_busy()
            && !self.gate.is_wanted()
            && !self.tools.has_complete_batch()
            && self.announced.is_empty()
            && !self.end_of_turn.is_ending()
    }

    /// Since when it is quiet, or from when on it will be if nothing comes between. `None` while an input is
    /// awaited that ends something.
    fn quiet_from(&self) -> Option<Instant> {
        let State::Active { since } = self.state else { return None };
        // Without a detection of turns, audio that nobody has committed may be a part of one.
        let in_turn = !self.session.turns.detects && self.end_of_turn.has_audio();
        let quiet = self.is_still() && !self.playback.is_waiting() && !in_turn;
        let times = [Some(since), self.playback.end(), self.rollover.words];
        times.into_iter().flatten().max().filter(|_| quiet)
    }

    /// After each input: whether the moment for the change has come or gone.
    pub(super) fn consider_rollover(&mut self, now: Instant) {
        let Some(plan) =
            self.rollover.plan.filter(|_| self.rollover.is_ready() && self.is_active())
        else {
            return;
        };
        let quiet = self.quiet_from().is_some_and(|from| from <= now);
        let moment = match (quiet, now >= plan.late && self.is_still()) {
            (true, _) => Some(Moment::Quiet),
            (false, true) => Some(Moment::TurnEnd),
            (false, false) => None,
        };
        match (&self.rollover.stage, moment) {
            _ if now >= plan.last => self.change_over(moment.unwrap_or(Moment::Last), "", now),
            (Stage::Pausing { until }, Some(moment)) if *until <= now => {
                self.change_over(moment, "", now);
            }
            (Stage::Pausing { .. }, None) => {
                self.rollover.stage = Stage::Ready;
                self.outputs.push_back(Output::ResumeMicrophone);
            }
            (Stage::Ready, Some(_)) => {
                self.rollover.stage = Stage::Pausing { until: plan.last.min(now + PAUSE) };
                self.outputs.push_back(Output::HoldMicrophone);
            }
            _ => {}
        }
    }

    /// Ready, Pausing → Resting: the second session is the present one from here on. `why`: what has become
    /// of the first, if it is lost.
    pub(super) fn change_over(&mut self, moment: Moment, why: &str, now: Instant) {
        let in_turn = !self.session.turns.detects && self.end_of_turn.has_audio();
        let again = in_turn || matches!(moment, Moment::Last | Moment::Lost);
        self.tell_next(usize::MAX);
        if !again {
            // Its words have not come, and will not. It was answered, or is not to be.
            self.open_turn = None;
        }
        self.settle(now);
        self.history.replayed();
        // An outage of long ago is not the same as one that follows.
        self.outage = None;
        self.unconfirmed = 0;
        self.rollover.words = None;
        self.rollover.stage = Stage::Resting;
        self.session = std::mem::replace(&mut self.rollover.next, ServiceSession::new());
        self.settings = self.rollover.instead.take().unwrap_or_else(|| Rc::clone(&self.settings));
        let before = std::mem::replace(&mut self.state, State::Active { since: now });
        let lasted = match before {
            State::Active { since } => now.saturating_duration_since(since),
            _ => Duration::ZERO,
        };
        let items = std::mem::take(&mut self.rollover.items);
        let why = why.to_owned();
        self.outputs.push_back(Output::ChangeOver(ChangeOver {
            moment,
            again,
            items,
            lasted,
            why,
        }));
        self.plan_rollover();
        self.end_held_turn(now);
    }

    /// The present session is lost. The second one takes its place, if it can.
    pub(super) fn is_replaced(&mut self, fault: &ServiceFault, now: Instant) -> bool {
        let replaced = self.rollover.is_ready() && self.is_active();
        if replaced {
            self.change_over(Moment::Lost, &fault.message, now);
        } else {
            self.drop_next("The present session is lost.");
            self.rollover.plan = None;
        }
        replaced
    }

    /// `session.update` with these settings, in a dialect.
    pub(super) fn update_command(&self, settings: &CallSettings, dialect: Dialect) -> String {
        let settings = self.session_settings(settings);
        match dialect {
            Dialect::Beta => commands::session_update(&settings),
            Dialect::Ga => commands::session_update(&ga_session(&settings)),
        }
    }
}

/// What is wrong with the second session, for the log alone.
fn fault(message: &str) -> ServiceFault {
    ServiceFault {
        word: "service_error",
        message: message.to_owned(),
        retryable: true,
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_sessions_have_short_leads() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        for (end, prepare, late, last) in [
            (1_800_000, 1_740_000, 1_785_000, 1_795_000),
            (120_000, 60_000, 105_000, 115_000),
            (24_000, 12_000, 21_000, 23_000),
        ] {
            let plan = Plan { prepare: at(prepare), late: at(late), last: at(last) };
            assert_eq!(Plan::new(start, at(end)), plan);
        }
    }
}
