//! The simulation of one connection. It answers what the client sends, and `poll` hands out the
//! answers.
//!
//! At most one response runs at a time. Its audio is made when it is polled. Answers that need not
//! wait for audio (`speech_started`, errors) overtake it through `outbox`.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::conversation::Conversation;
use super::event::{self, Event, event};
use super::habits::{Habits, habits};
use super::input::InputBuffer;
use super::outcome::Outcome;
use super::pending::{Playing, Request, Transcription, Unanswered};
use super::response::{Progress, Response};
use super::script::{ModelRefusal, Moment};
use super::session::Session;
use super::validate::Fault;
use super::wire::Encoder;
use super::{Action, Admission, Dialect, Options};

/// Actions in `outbox` from which on the client should not be read: it does not take its answers.
const CONGESTED: usize = 64;
/// Actions in `outbox` at which the connection ends: the client was read, but takes nothing.
const OVERFLOWING: usize = 4096;
/// A client that requests its own greeting does so within this time after `session.updated`.
pub(super) const WELCOME_DELAY: Duration = Duration::from_millis(300);

/// Something that waits for the socket.
#[derive(Debug)]
pub(super) enum Outgoing {
    Event(Event),
    Raw(Action),
    Stall,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The script wants silence for ever.
    Stalled,
    /// The last action was handed out.
    Ended,
}

/// What has become of the client's first `session.update`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Configuration {
    /// None has come, or one without consequences. The defaults are in force.
    Untouched,
    /// One was accepted. What is refused from now on changes nothing.
    Accepted,
    /// The first one was refused. The service refuses whatever follows it, a right one too: only
    /// another connection helps.
    Refused,
}

/// See the module's text.
#[derive(Debug)]
pub struct Simulation {
    pub(super) options: Rc<Options>,
    pub(super) admission: Admission,
    pub(super) habits: &'static Habits,
    id: u64,
    state: State,
    expires: Instant,
    last_id: u64,
    encoder: Encoder,
    pub(super) session: Session,
    pub(super) input: InputBuffer,
    pub(super) conversation: Conversation,
    pub(super) unanswered: Unanswered,
    outbox: VecDeque<Outgoing>,
    pub(super) response: Option<Response>,
    /// The response that began last, running or over.
    pub(super) last_response: Option<String>,
    /// Responses that wait for the present one to end, see [`Simulation::request`].
    pub(super) waiting: VecDeque<Request>,
    /// The turn's transcription, until its place in the reply comes.
    pub(super) transcription: Option<Transcription>,
    /// The item whose transcription will come once more, empty.
    pub(super) repeated: Option<String>,
    pub(super) playing: Option<Playing>,
    /// When to speak first.
    pub(super) welcome_at: Option<Instant>,
    pub(super) speech_item: Option<String>,
    pub(super) turns: usize,
    pub(super) responses: usize,
    pub(super) spoken: bool,
    pub(super) configuration: Configuration,
}

impl Simulation {
    /// A connection that was let in. `id` tells simulations of one process apart; `unix_seconds` is
    /// the wall clock at `now`.
    #[must_use]
    #[inline(never)]
    pub fn new(
        options: Rc<Options>,
        admission: Admission,
        id: u64,
        now: Instant,
        unix_seconds: u64,
    ) -> Self {
        let habits = habits(&admission.model, admission.agent);
        let seconds = options.script.session_seconds.unwrap_or(habits.session_seconds);
        let expires_at = unix_seconds.saturating_add(seconds);
        let session = Session::new(id, expires_at, &admission.model, admission.agent);
        let mut simulation = Self {
            id,
            state: State::Open,
            // A day is more than any session; the bound keeps the addition from overflowing.
            expires: now + Duration::from_secs(seconds.min(86_400)),
            last_id: 0,
            encoder: Encoder::new(&options.script, admission.dialect),
            input: InputBuffer::new(&session.settings),
            session,
            conversation: Conversation::default(),
            unanswered: Unanswered::default(),
            habits,
            outbox: VecDeque::new(),
            response: None,
            last_response: None,
            waiting: VecDeque::new(),
            transcription: None,
            repeated: None,
            playing: None,
            welcome_at: None,
            speech_item: None,
            turns: 0,
            responses: 0,
            spoken: false,
            configuration: Configuration::Untouched,
            options,
            admission,
        };
        simulation.open();
        simulation
    }

    /// The session's id as the client sees it, for the shell's log.
    #[must_use]
    pub fn session_id(&self) -> String {
        format!("sim_{}", self.id)
    }

    /// Takes a text message.
    #[inline(never)]
    pub fn handle_text(&mut self, text: &str, now: Instant) {
        if self.listens(now) {
            self.client_message(text, now);
        }
    }

    /// Takes a binary message. The service's protocol is text; JSON in a binary message is let pass.
    #[inline(never)]
    pub fn handle_binary(&mut self, data: &[u8], now: Instant) {
        match std::str::from_utf8(data) {
            Ok(text) => self.handle_text(text, now),
            Err(_) if !self.listens(now) => {}
            Err(_) => {
                let fault = Fault::new("invalid_json", "A binary message is not a client event.");
                self.refuse(&fault, None);
            }
        }
    }

    /// Whether the shell should stop reading from the client until `poll` has caught up.
    #[must_use]
    pub fn congested(&self) -> bool {
        self.outbox.len() >= CONGESTED
    }

    /// Handles the passing of time. `poll` does it too.
    #[inline(never)]
    pub fn tick(&mut self, now: Instant) {
        if self.state != State::Open {
            return;
        }
        if now >= self.expires {
            self.expire();
        } else if self.welcome_at.is_some_and(|at| now >= at) {
            self.welcome(now);
        }
    }

    /// The next action, if one is due. Call it only while the socket can take more: reply audio is
    /// made here.
    #[inline(never)]
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        self.tick(now);
        loop {
            if let Some(outgoing) = self.outbox.pop_front() {
                match self.deliver(outgoing, now) {
                    Some(action) => return Some(action),
                    None => continue,
                }
            }
            if self.state != State::Open {
                return None;
            }
            let Some(response) = &mut self.response else {
                let request = self.waiting.pop_front()?;
                self.begin(request, now);
                continue;
            };
            match response.next(&mut self.conversation, now) {
                Progress::Send(event) => {
                    let over = response.is_over();
                    self.outbox.push_back(Outgoing::Event(event));
                    if over {
                        self.finish_response(now);
                    }
                }
                Progress::Raw(action) => self.outbox.push_back(Outgoing::Raw(action)),
                Progress::Stall => self.outbox.push_back(Outgoing::Stall),
                Progress::Heard => self.send_transcription(),
                Progress::Wait => return None,
                Progress::Finished => self.finish_response(now),
            }
        }
    }

    /// When to `poll` again though nothing arrives. Meaningful after `poll` has returned `None`.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.state != State::Open {
            return None;
        }
        let due = self.response.as_ref().and_then(Response::due);
        [Some(self.expires), due, self.welcome_at].into_iter().flatten().min()
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.admission.dialect
    }

    pub(super) fn send(&mut self, kind: &'static str, fields: serde_json::Value) {
        self.outbox.push_back(Outgoing::Event(event(kind, fields)));
    }

    pub(super) fn send_event(&mut self, event: Event) {
        self.outbox.push_back(Outgoing::Event(event));
    }

    pub(super) fn refuse(&mut self, fault: &Fault, cause: Option<&str>) {
        self.send_event(event::error(fault, cause));
    }

    pub(super) fn new_id(&mut self, kind: &str) -> String {
        self.last_id += 1;
        format!("{kind}_{}_{}", self.id, self.last_id)
    }

    /// Carries out the script's ending if its moment has come.
    pub(super) fn end_at(&mut self, moment: Moment) -> bool {
        let ending = match &self.options.script.ending {
            Some((ending, at)) if *at == moment && self.may_end() => Action::from_ending(ending),
            _ => return false,
        };
        self.outbox.push_back(ending.map_or(Outgoing::Stall, Outgoing::Raw));
        true
    }

    /// Whether the script may still end a connection before its time.
    pub(super) fn may_end(&self) -> bool {
        self.options.outages.may_end(&self.options.script)
    }

    /// Whether the script refuses this session's model in this way.
    pub(super) fn refuses_model(&self, how: ModelRefusal) -> bool {
        self.options.script.model_refusal(&self.admission.model) == Some(how)
    }

    /// Whether a message still counts.
    fn listens(&mut self, now: Instant) -> bool {
        self.tick(now);
        if self.state == State::Open && self.outbox.len() >= OVERFLOWING {
            let reason = "too many unread events".to_owned();
            self.outbox.clear();
            self.outbox.push_back(Outgoing::Raw(Action::Close { code: Some(1008), reason }));
            self.state = State::Stalled;
        }
        self.state == State::Open
    }

    fn open(&mut self) {
        if self.options.script.pings {
            self.outbox.push_back(Outgoing::Raw(Action::Ping));
        }
        if self.refuses_model(ModelRefusal::Error) {
            self.refuse(&model_fault(&self.admission.model), None);
            let reason = "no such model".to_owned();
            self.outbox.push_back(Outgoing::Raw(Action::Close { code: Some(1008), reason }));
        } else if !self.end_at(Moment::Start) && !self.options.script.no_session_created {
            let session = self.session.value();
            self.send("session.created", json!({ "session": session }));
        }
    }

    fn deliver(&mut self, outgoing: Outgoing, now: Instant) -> Option<Action> {
        let action = match outgoing {
            Outgoing::Event(event) => Action::Send(self.encoder.encode(event)),
            Outgoing::Raw(action) => action,
            Outgoing::Stall => {
                self.outbox.clear();
                self.state = State::Stalled;
                self.options.outages.ended(&self.options.script, now);
                return None;
            }
        };
        match action {
            Action::Close { .. } | Action::Reset => {
                self.outbox.clear();
                self.state = State::Ended;
                self.options.outages.ended(&self.options.script, now);
                Some(action)
            }
            Action::Send(text) if self.options.script.binary => {
                Some(Action::SendBinary(text.into_bytes()))
            }
            other => Some(other),
        }
    }

    fn expire(&mut self) {
        let script = &self.options.script;
        let seconds = script.session_seconds.unwrap_or(self.habits.session_seconds);
        let message = format!("Your session hit the maximum duration of {seconds} seconds.");
        self.refuse(&Fault::new("session_expired", message.as_str()), None);
        self.outbox.push_back(Outgoing::Raw(Action::Close { code: Some(1001), reason: message }));
        // Only the outbox is sent. Its last entry, the close, ends the simulation.
        self.state = State::Stalled;
    }

    /// The client may ask for another response as soon as it has read `response.done`. So the
    /// events that follow `response.done` are queued at once.
    fn finish_response(&mut self, now: Instant) {
        let Some(mut ended) = self.response.take() else {
            return;
        };
        while let Progress::Send(event) = ended.next(&mut self.conversation, now) {
            self.outbox.push_back(Outgoing::Event(event));
        }
        let playing = ended.playing().filter(|_| ended.kept());
        if let Some((item_id, first, bytes)) = playing {
            self.playing = Some(Playing { item_id, first, bytes });
        }
        self.send_transcription();
        self.repeat_transcription();
    }

    pub(super) fn cancel_response(&mut self, outcome: Outcome, late: u8, now: Instant) {
        let truncate = self.session.settings.vad.as_ref().is_some_and(|vad| vad.auto_truncate);
        if let Some(response) = &mut self.response {
            let playing = response.playing();
            let by_speech = outcome == Outcome::TurnDetected && truncate;
            let heard = playing
                .filter(|_| by_speech)
                .map(|(item_id, first, bytes)| Playing { item_id, first, bytes }.heard_ms(now));
            response.cancel(outcome, late, heard);
        }
    }
}

/// A model that is not there, said by an event.
pub(super) fn model_fault(model: &str) -> Fault {
    let message = format!("The model '{model}' does not exist or is not available in this region.");
    Fault { code: "model_not_found", message, param: None }
}
