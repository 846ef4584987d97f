//! The life of one call as a pure state machine: inputs in, outputs out, a deadline.
//!
//! No socket, no clock, no randomness, no logging of content. Time comes in as `now`. So a test can
//! drive a whole call through any order of events, and what it sees is what the daemon does.
//!
//! The owner (`session`) feeds one input, drains [`Call::poll`] to `None`, and then feeds the next.
//! That order is a rule: an input that is handled while outputs of the one before still wait could
//! put, for example, a `response.create` in front of the tool output that it answers.
//!
//! ```text
//!     ┌────────────────────────Instead──┐
//!     ▼                                 │
//! Connecting ──session.created──► Configuring ──session.updated──► Active
//!     └─────────────────────────────────┴───────────any end──────────┴────► Ended
//! ```
//!
//! All changes of `State` are in this file, `reconnect` and `rollover`. `interface` is what goes in and comes out. `events`
//! handles what the service says, `turns` what the client says and barge-in, `barge_in` the barge-in that can be
//! taken back, `end_of_turn` the end of
//! a turn on the client's word, `farewell` the end that the model asks for, `limits` the clock, `absence` a client
//! that is away.
//! `response_gate`, `playback`, `announced_calls`, `tool_calls`, `seen`, `captions`, `interrupted`,
//! `first_audio`, `questions` and `service_session` each keep one thing; `responses` is the life of a response.
//!
//! What is not here: sockets, and audio itself. The call decides about audio by its length and its
//! response, and never sees a sample.

mod absence;
mod announced_calls;
mod barge_in;
mod captions;
pub mod client;
mod end_of_turn;
pub mod ending;
mod events;
mod farewell;
mod first_audio;
mod history;
mod interface;
mod interjections;
mod interrupted;
mod limits;
mod outage;
pub mod pcm;
mod playback;
mod questions;
mod reconnect;
pub mod response_gate;
mod responses;
mod rollover;
mod seen;
pub mod service;
mod service_session;
pub mod tool_calls;
mod turns;
mod unfinished;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use absence::Presence;
use announced_calls::AnnouncedCalls;
use barge_in::BargeIn;
use captions::Captions;
use client::{CallState, Hello};
use end_of_turn::EndOfTurn;
use ending::{EndReason, ServiceFault};
use farewell::Farewell;
use first_audio::FirstAudio;
use history::History;
pub use interface::{
    Assistant, CallSettings, ChangeOver, Input, MAX_SILENCE_BYTES, Microphone, Moment, Output,
    Reply, Restored,
};
use interrupted::Interrupted;
use limits::Limits;
use outage::{Jitter, Outage};
use playback::Playback;
pub use questions::Asked;
use questions::Questions;
use response_gate::{ResponseGate, ResponseRequest};
use rollover::Rollover;
use service::session::SessionInfo;
use service::{AudioDelta, commands};
use service_session::ServiceSession;
use tool_calls::ToolCalls;
pub use unfinished::Unfinished;

/// How long the service may take from the call's creation until it has taken the session's settings.
/// It bounds look-up, dial and configuration together: each of them may use up its own limit, and
/// the caller must not wait for the sum.
pub const SERVICE_TIMEOUT: Duration = Duration::from_secs(15);

/// Most microphone audio that is kept of what was sent, in bytes: 15 s, a long turn of the user.
pub const KEPT_BYTES: usize = 15 * 48_000;

/// What a new session is told if the beginning of the conversation is not sent again.
const SHORTENED: &str =
    "The conversation has gone on for a while. Its beginning is not repeated here.";

/// Where a call stands. States follow each other in this order. Only [`Input::Instead`] leads back,
/// from Configuring to Connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Until the service's `session.created`. Nothing has been sent to the service, because it
    /// speaks first and its first words tell the dialect. Microphone audio is held. An error of the
    /// service means that it made no session: usually the model's name is wrong.
    Connecting,
    /// `session.update` is sent; until the first `session.updated`. Microphone audio is still held,
    /// since the service would hear it with its default settings. An error means that the settings
    /// were refused, and the call ends rather than going on with another voice and prompt.
    Configuring,
    /// Both sides can talk, since this time. Only here may anything of the conversation be sent to
    /// either side, and only here does the idle limit count.
    Active { since: Instant },
    /// The session with the service is lost, and the next try to get another one is not due yet. The
    /// tries themselves are Connecting and Configuring. The client keeps its call: it hears what has
    /// come of the reply, and its microphone audio is held.
    Lost,
    /// [`Output::Close`] is given, as the last output. Every later input is ignored, so nothing can
    /// follow `ended` to the client, and a call can end only once.
    Ended,
}

/// Tokens of all responses so far.
#[derive(Debug, Default)]
struct Totals {
    input_tokens: u64,
    output_tokens: u64,
}

/// One call. See the module's text for how to drive it. Its memory does not grow with its length:
/// each part states the bound of what it keeps.
#[derive(Debug)]
pub struct Call {
    settings: Rc<CallSettings>,
    state: State,
    /// What the last input made necessary; empty whenever an input comes.
    outputs: VecDeque<Output>,
    session: ServiceSession,
    gate: ResponseGate,
    playback: Playback,
    captions: Captions,
    announced: AnnouncedCalls,
    tools: ToolCalls,
    /// The tools that the model is offered, once they have become others than the settings'.
    offered: Option<Rc<serde_json::Value>>,
    /// The model has hung up, and its last words are still to be heard.
    farewell: Option<Farewell>,
    questions: Questions,
    limits: Limits,
    totals: Totals,
    first_audio: FirstAudio,
    interrupted: Interrupted,
    barge_in: BargeIn,
    end_of_turn: EndOfTurn,
    /// The item of the user's turn that the client was told last.
    turn_item: String,
    history: History,
    /// The item of the user's turn whose words are not known yet.
    open_turn: Option<String>,
    /// The answer that is wanted goes on with a reply which a lost session has cut off.
    go_on: bool,
    /// The outage under way, or the last one, as long as the session after it is young.
    outage: Option<Outage>,
    /// Items that the session after it was told and has not confirmed.
    unconfirmed: usize,
    /// Why the service was lost, or could not be reached, last.
    last_fault: Option<ServiceFault>,
    /// An agent's conversation, to be gone on with in the next session.
    conversation: String,
    jitter: Jitter,
    /// The second session, which takes over before the service ends the first.
    rollover: Rollover,
    presence: Presence,
    /// How long the call is held for a client whose connection broke.
    hold: Duration,
}

impl Call {
    /// A call whose client is connected and whose service connection is being made. The first
    /// outputs are `hello` and `call_state` `connecting`. `id` is the call's public id, `resume`
    /// the secret for taking the call up again.
    #[must_use]
    pub fn new(settings: Rc<CallSettings>, id: &str, resume: &str, now: Instant) -> Self {
        let hello = client::hello(&Hello {
            session: id,
            resume,
            resumed: false,
            heard: None,
            settings: &settings,
        });
        let connecting = client::call_state(CallState::Connecting);
        let hold = settings.resume;
        Self {
            limits: Limits::new(&settings, now),
            settings,
            state: State::Connecting,
            outputs: VecDeque::from([Output::ToClient(hello), Output::ToClient(connecting)]),
            session: ServiceSession::new(),
            gate: ResponseGate::default(),
            playback: Playback::default(),
            captions: Captions::default(),
            announced: AnnouncedCalls::default(),
            tools: ToolCalls::default(),
            offered: None,
            farewell: None,
            questions: Questions::new(id),
            totals: Totals::default(),
            first_audio: FirstAudio::default(),
            interrupted: Interrupted::default(),
            barge_in: BargeIn::default(),
            end_of_turn: EndOfTurn::default(),
            turn_item: String::new(),
            history: History::default(),
            open_turn: None,
            go_on: false,
            outage: None,
            unconfirmed: 0,
            last_fault: None,
            conversation: String::new(),
            jitter: Jitter::new(id),
            rollover: Rollover::default(),
            presence: Presence::Here,
            hold,
        }
    }

    /// Takes one input. All outputs of the one before must have been taken (checked in debug builds).
    ///
    /// After each input the gate is asked whether a response is due. No handler asks by itself, so
    /// two reasons for an answer within one input make one `response.create`.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) {
        debug_assert!(self.outputs.is_empty(), "outputs must be drained before the next input");
        if self.state == State::Ended {
            return;
        }
        match input {
            // The service speaks first; until then there is nothing to send.
            Input::ServiceOpened => {
                if let Some(outage) = &mut self.outage {
                    outage.reached(now);
                }
            }
            Input::Instead(settings) => self.begin_again(settings),
            Input::NextOpened => self.on_next_opened(now),
            Input::NextInstead(settings) => self.on_next_instead(settings),
            Input::Next(event) => self.on_next(event, now),
            Input::NextLost(fault) => self.fail_next(fault, now),
            Input::Service(event) => self.on_service(event, now),
            Input::ServiceLost(fault) => self.on_service_lost(fault, now),
            Input::SessionExpired => self.on_session_expired(now),
            Input::Client(message) => self.on_client(message, now),
            Input::ClientLost => self.end(EndReason::ClientLost, now),
            Input::ClientBroken => self.on_client_broken(now),
            Input::End(reason) => self.end(reason, now),
            Input::ToolFinished { call_id, output, ok } => {
                self.on_tool_finished(call_id, output, ok, now);
            }
            Input::Tools(tools) => self.change_tools(tools),
            Input::AskFirst { call_id, about, arguments } => {
                self.on_ask_first(call_id, about, arguments, now);
            }
            Input::ToolTakes { call_id, most } => self.tools.takes(call_id, most),
            Input::HangUp { call_id } => self.on_hang_up(call_id, now),
            Input::Tick => self.on_tick(now),
        }
        // Before a request, so that what a session did not answer is asked of the next one.
        self.consider_rollover(now);
        self.request_response(now);
        self.part(now);
    }

    /// The next output, until `None`. The order matters: a tool's output before the request for the
    /// answer to it, `ended` before the close.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether [`poll`](Self::poll) has nothing: after most frames of audio.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.outputs.is_empty()
    }

    /// When to call again with [`Input::Tick`] at the latest. Changes with every input and with
    /// [`Call::reply_sent`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.state == State::Ended {
            return None;
        }
        let limits = self.limits.deadline(self.state, self.is_busy(), self.playback.end());
        let gate = self.gate.deadline(self.tools.has_complete_batch(), self.sound_end());
        let tools = sooner(self.announced.deadline(), self.tools.deadline());
        let tools = sooner(tools, self.questions.deadline());
        let tools = sooner(tools, self.farewell.as_ref().map(Farewell::deadline));
        let turn = sooner(self.end_of_turn.deadline(), self.barge_in.deadline());
        let waiting = sooner(tools, turn);
        let session = sooner(self.outage_deadline(), self.rollover_deadline());
        sooner(sooner(limits, gate), sooner(waiting, session))
    }

    /// Asked for each microphone frame (`bytes` of PCM16 24 kHz mono). It makes no output and does
    /// not allocate, so the owner need not drain [`poll`](Self::poll) for audio.
    pub fn microphone(&mut self, bytes: usize, now: Instant) -> Microphone {
        self.gate.heard(now);
        self.end_of_turn.heard(bytes, now);
        match self.state {
            State::Connecting | State::Configuring | State::Lost => Microphone::Hold,
            State::Active { .. } => Microphone::Forward,
            State::Ended => Microphone::Discard,
        }
    }

    /// Asked for each audio delta of the service. It does not allocate, and makes an output only for a
    /// response that nobody has announced: the owner must carry out the outputs before it gives the
    /// audio to the client, since the reply begins for the client with `response_started`. A delta
    /// that is forwarded counts as accepted: its PCM must be given to the client's side, or the
    /// estimate of what is playing never ends.
    pub fn reply_audio(&mut self, delta: &AudioDelta<'_>, now: Instant) -> Reply {
        if !self.is_active() {
            return Reply::Discard;
        }
        self.sign_of_reply(delta.response_id, now);
        if self.is_interrupted(delta.response_id) {
            return Reply::Discard;
        }
        self.playback.accept(delta);
        Reply::Forward
    }

    /// `bytes` of PCM of the reply have left for the client. May queue an output (`latency`).
    /// Returns, with the first audio of an answer, how long the user has waited for it.
    pub fn reply_sent(&mut self, bytes: usize, now: Instant) -> Option<Duration> {
        if self.limits.active_since().is_none() || self.is_ended() {
            return None;
        }
        let waited = self.first_audio.sent(self.playback.sent(bytes, now)?, now)?;
        self.outputs.push_back(Output::ToClient(client::latency(playback::whole_ms(waited))));
        Some(waited)
    }

    /// Whether a tool ran for the answer whose first audio was sent last.
    #[must_use]
    pub fn answer_took_a_tool(&self) -> bool {
        self.first_audio.took_a_tool()
    }

    /// Whether [`Output::Close`] was given.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The service's id of the session, for the log: Azure support asks for it. Empty until known.
    #[must_use]
    pub fn service_session(&self) -> &str {
        &self.session.id
    }

    /// When the service will end the session, in seconds since 1970. The core has no calendar: the
    /// owner ends the call with [`EndReason::SessionExpired`] when it is time.
    #[must_use]
    pub fn expires_at(&self) -> Option<u64> {
        self.session.expires_at
    }

    /// Whether the service has not taken the session's settings yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Connecting | State::Configuring)
    }

    /// Connecting or Configuring → Connecting, with other settings and a new connection. What the
    /// refused session said of itself is forgotten. [`SERVICE_TIMEOUT`] goes on from the call's
    /// creation, so a service that refuses everything cannot keep the caller waiting.
    fn begin_again(&mut self, settings: Rc<CallSettings>) {
        if self.is_waiting() {
            self.settings = settings;
            self.state = State::Connecting;
            self.session = ServiceSession::new();
        }
    }

    /// Connecting → Configuring, at the first `session.created`. A later one only tells facts: a
    /// second `session.update` would undo what the service has changed since.
    fn configure(&mut self, session: &SessionInfo) {
        self.session.learn(session, &self.settings.session);
        if self.state != State::Connecting {
            return;
        }
        self.state = State::Configuring;
        self.session.begin(session);
        let update = self.update_command(&self.settings, self.session.dialect);
        self.send(update);
    }

    /// Configuring → Active, at the first `session.updated`; later ones only change the turn rules.
    ///
    /// `active` is told before the microphone is released, so a client never hears of speech in a
    /// call that it still takes for connecting. In every state a session with another audio format
    /// ends the call: what is relayed would be noise.
    fn activate(&mut self, session: &SessionInfo, now: Instant) {
        self.session.learn(session, &self.settings.session);
        if let Some(fault) = &session.format_fault {
            self.end(EndReason::SessionRefused(fault.clone()), now);
            return;
        }
        if self.state != State::Configuring {
            return;
        }
        let first = self.limits.active_since().is_none();
        self.state = State::Active { since: now };
        self.limits.activated(now);
        self.plan_rollover();
        let restored = self.restore(now);
        self.tell(client::call_state(self.active_state()));
        self.outputs.push_back(Output::ReleaseMicrophone { restored });
        self.end_held_turn(now);
        if first && self.settings.greeting.is_some() {
            self.gate.want(ResponseRequest::Greeting);
        }
    }

    /// The tools have changed. A session that has its settings is told them alone; one that is to come gets
    /// them with its settings.
    fn change_tools(&mut self, mut tools: Rc<serde_json::Value>) {
        if self.settings.chosen.is_some() {
            let before = self.offered.as_deref().or_else(|| self.settings.session.get("tools"));
            let own = self.settings.offer(&tools);
            if before == Some(&own) {
                return;
            }
            tools = Rc::new(own);
        }
        if matches!(self.state, State::Configuring | State::Active { .. }) {
            self.send(commands::tools_update(&tools, self.session.dialect));
        }
        self.change_next_tools(&tools);
        self.offered = Some(tools);
    }

    fn active_state(&self) -> CallState<'static> {
        let service = if self.session.simulated { "simulator" } else { "azure" };
        CallState::Active { service, detects: self.session.turns.detects }
    }

    /// The settings of the session. One that goes on with a conversation whose beginning is lost is told
    /// so, or the model would deny what was said there.
    fn session_settings<'s>(&self, settings: &'s CallSettings) -> Cow<'s, serde_json::Value> {
        let instructions = settings.session.get("instructions");
        let instructions = instructions.and_then(serde_json::Value::as_str);
        let goes_on = self.limits.active_since().is_some();
        let mut settings = Cow::Borrowed(&settings.session);
        if let Some(tools) = &self.offered {
            settings.to_mut()["tools"] = (**tools).clone();
        }
        if self.barge_in.is_reversible() {
            commands::leave_turns_to_us(settings.to_mut());
        }
        if let (Some(text), true) = (instructions, goes_on && self.history.is_shortened()) {
            settings.to_mut()["instructions"] = format!("{text}\n\n{SHORTENED}").into();
        }
        settings
    }

    /// Any state → Ended. The order is the contract with the client: `usage`, `ended`, close. A
    /// second reason is ignored, so the first one, which is the cause, is told and logged.
    fn end(&mut self, reason: EndReason, now: Instant) {
        if self.state == State::Ended {
            return;
        }
        self.send_usage(now);
        self.state = State::Ended;
        let ended = CallState::Ended { reason: reason.word(), message: &reason.message() };
        self.tell(client::call_state(ended));
        self.outputs.push_back(Output::Close(reason));
    }

    /// Asks for a response, if one is wanted and the gate is open. This is the only place that sends
    /// `response.create`: the service refuses a second one while a response is active.
    fn request_response(&mut self, now: Instant) {
        if !self.is_active() {
            return;
        }
        // A response may still hold more calls: a batch is complete when it is done.
        if self.gate.active().is_none() && self.tools.take_complete_batch() {
            self.gate.want(ResponseRequest::Answer);
        }
        self.want_goodbye();
        let Some(request) = self.gate.next(now) else {
            return;
        };
        self.cancel_lost();
        let goes_on = std::mem::take(&mut self.go_on);
        let command = match request {
            ResponseRequest::Answer if goes_on => {
                let instructions = self.settings.session["instructions"].as_str();
                commands::go_on(instructions.unwrap_or_default(), self.session.tags)
            }
            ResponseRequest::Answer => match self.questions.take_unspoken() {
                Some(asked) => {
                    let instructions = self.settings.session["instructions"].as_str();
                    commands::ask(instructions.unwrap_or_default(), &asked, self.session.tags)
                }
                None => commands::response_create(self.session.tags),
            },
            ResponseRequest::Greeting => commands::greeting(
                self.settings.greeting.as_deref().unwrap_or_default(),
                self.session.dialect,
                self.session.tags,
            ),
        };
        self.send(command);
    }

    /// `usage`: totals since the call became active; nothing before that, since nothing was used.
    fn send_usage(&mut self, now: Instant) {
        let Some(since) = self.limits.active_since() else {
            return;
        };
        let seconds = now.saturating_duration_since(since).as_secs();
        let Totals { input_tokens, output_tokens } = self.totals;
        self.tell(client::usage(input_tokens, output_tokens, seconds));
    }

    /// Whether both sides can talk.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self.state, State::Active { .. })
    }

    /// Whether somebody speaks or works, so that the call is not idle (playing apart).
    fn is_busy(&self) -> bool {
        self.gate.is_busy() || self.tools.is_running() || self.questions.are_open()
    }

    fn tell(&mut self, message: String) {
        self.outputs.push_back(Output::ToClient(message));
    }

    /// Queues a command. Between two sessions there is nobody to tell: what counts is in the history,
    /// and the next session is told that.
    fn send(&mut self, command: String) {
        if !matches!(self.state, State::Active { .. } | State::Configuring) {
            return;
        }
        self.outputs.push_back(Output::ToService(command));
    }

    fn error(&mut self, code: &str, message: &str) {
        self.tell(client::error(code, message));
    }
}

/// The earlier of two times; the only one there is; or `None`.
pub(crate) fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
