//! The life of one call as a pure state machine: inputs in, outputs out, a deadline.
//!
//! No socket, no clock, no randomness, no logging of content. Time comes in as `now`. The owner
//! (`session.rs`) feeds one input, drains [`Call::poll`] to `None`, and then feeds the next.
//!
//! All changes of `State` are in this file. `events` handles what the service says, `turns` what
//! the client says and barge-in, `limits` the clock; `gate`, `playback`, `tool_calls` and `captions`
//! each keep one thing. After the end every input is ignored.
//!
//! What is not here: reconnecting and replaying (see `State`), sockets, audio itself.

mod captions;
pub mod client;
pub mod ending;
mod events;
mod limits;
pub mod pcm;
mod playback;
pub mod response_gate;
pub mod service;
pub mod tool_calls;
mod turns;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use captions::Captions;
use client::{CallState, ClientMessage};
use ending::EndReason;
use limits::Limits;
use playback::Playback;
use response_gate::{ResponseGate, ResponseRequest};
use service::commands;
use service::session::{Dialect, SessionInfo, TurnRules, ga_session};
use service::{AudioDelta, ServiceEvent};
use tool_calls::ToolCalls;

/// How long the service may take from the call's creation until it has taken the session's settings.
pub const SERVICE_TIMEOUT: Duration = Duration::from_secs(15);

/// What a call needs to know from the configuration. Shared by all calls, never changed by one.
#[derive(Debug, Clone)]
pub struct CallSettings {
    /// The complete `session` object of `session.update`: explicit values, tools, user's overrides,
    /// as [`service::session::session_object`] makes it (the dialect of dated api-versions).
    pub session: serde_json::Value,
    /// Text spoken by the service once, when the call becomes active.
    pub greeting: Option<String>,
    /// How long neither side may speak before the call ends (clock starts when active).
    pub idle: Duration,
    /// How long a call may last at most, from its creation.
    pub max_duration: Duration,
}

/// Everything that happens to a call, except audio (which has its own two methods).
#[derive(Debug)]
pub enum Input<'a> {
    /// The WebSocket to the service is open; the service will send `session.created`.
    ServiceOpened,
    /// One event of the service that is not an audio delta.
    Service(ServiceEvent<'a>),
    /// The service has refused these settings' predecessors before they were taken: it is asked
    /// again, on a new connection, for this session.
    Instead(Rc<CallSettings>),
    /// The service could not be reached, refused, closed or was lost.
    ServiceLost(ending::ServiceFault),
    /// One text message of the client.
    Client(ClientMessage<'a>),
    /// The client's socket is gone, or it closed.
    ClientLost,
    /// The session decided that the call must end (stalled client, bad data, daemon stopping…).
    End(EndReason),
    /// A tool finished. `output` is the JSON text (or error JSON text) for the model.
    ToolFinished {
        /// The service's id of the function call.
        call_id: &'a str,
        /// A string for `function_call_output.output`.
        output: &'a str,
        /// Whether the tool did its work (for the client's `tool` message only).
        ok: bool,
    },
    /// A deadline passed.
    Tick,
}

/// What the owner must do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send this JSON text to the service.
    ToService(String),
    /// Send this JSON text to the client. Overtakes queued audio.
    ToClient(String),
    /// Throw away all reply audio that has not left for the client (barge-in).
    DropPlayback,
    /// The session is configured: send the held microphone audio, then forward as it comes.
    ReleaseMicrophone,
    /// Run a tool beside the loop; answer with [`Input::ToolFinished`].
    RunTool {
        /// The service's id of the function call.
        call_id: String,
        /// The tool's name.
        name: String,
        /// JSON text as the model wrote it: may be empty or invalid.
        arguments: String,
    },
    /// A tool that the model asked for is not run: for the count.
    ToolRefused,
    /// The call is over: close both sockets, with the reason's close code to the client.
    Close(EndReason),
}

/// What to do with a frame of microphone audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Microphone {
    /// Send it to the service now.
    Forward,
    /// Keep it (bounded, oldest dropped first) until [`Output::ReleaseMicrophone`].
    Hold,
    /// The call is ending: drop it.
    Discard,
}

/// What to do with a reply audio delta of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Send it to the client.
    Forward,
    /// It belongs to a response the user interrupted.
    Discard,
}

/// Where a call stands.
///
/// Reconnecting would be one more state between `Active` and `Connecting`: entered from
/// [`Input::ServiceLost`] with a retryable fault, left by a new [`Input::ServiceOpened`], with the
/// conversation replayed when the new session is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Until the service's `session.created`.
    Connecting,
    /// `session.update` is sent; until the first `session.updated`.
    Configuring,
    /// Both sides can talk, since this time.
    Active { since: Instant },
    /// [`Output::Close`] is given; nothing happens any more.
    Ended,
}

/// Tokens of all responses so far.
#[derive(Debug, Default)]
struct Totals {
    input_tokens: u64,
    output_tokens: u64,
}

/// One call. See the module's text for how to drive it.
#[derive(Debug)]
pub struct Call {
    settings: Rc<CallSettings>,
    state: State,
    outputs: VecDeque<Output>,
    dialect: Dialect,
    turns: TurnRules,
    /// The service's session id; empty until known.
    session_id: String,
    expires_at: Option<u64>,
    /// Whether what answers is the built-in simulator.
    simulated: bool,
    gate: ResponseGate,
    playback: Playback,
    captions: Captions,
    tools: ToolCalls,
    limits: Limits,
    totals: Totals,
    /// The end of the user's turn, until the first audio of a response made after it.
    turn_end: Option<Instant>,
    /// The response that was the last one when `turn_end` was armed: its audio is no answer.
    turn_end_response: String,
    /// The response the user interrupted: its late deltas are dropped.
    muted: InterruptedResponse,
}

/// The interrupted response, until its `response.done`. The text is reused.
#[derive(Debug, Default)]
struct InterruptedResponse {
    on: bool,
    response_id: String,
}

impl InterruptedResponse {
    fn set(&mut self, response_id: &str) {
        self.on = true;
        self.response_id.clear();
        self.response_id.push_str(response_id);
    }

    fn is(&self, response_id: &str) -> bool {
        self.on && self.response_id == response_id
    }
}

impl Call {
    /// A call whose client is connected and whose service connection is being made. The first
    /// outputs are `hello` and `call_state` `connecting`. `id` is the call's public id, `resume`
    /// the secret for taking the call up again.
    #[must_use]
    pub fn new(settings: Rc<CallSettings>, id: &str, resume: &str, now: Instant) -> Self {
        let hello = client::hello(id, resume, settings.max_duration, settings.idle);
        let connecting = client::call_state(CallState::Connecting);
        Self {
            limits: Limits::new(&settings, now),
            settings,
            state: State::Connecting,
            outputs: VecDeque::from([Output::ToClient(hello), Output::ToClient(connecting)]),
            dialect: Dialect::Beta,
            turns: TurnRules::default(),
            session_id: String::new(),
            expires_at: None,
            simulated: false,
            gate: ResponseGate::default(),
            playback: Playback::default(),
            captions: Captions::default(),
            tools: ToolCalls::default(),
            totals: Totals::default(),
            turn_end: None,
            turn_end_response: String::new(),
            muted: InterruptedResponse::default(),
        }
    }

    /// Takes one input. All outputs of the one before must have been taken.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) {
        debug_assert!(self.outputs.is_empty(), "outputs must be drained before the next input");
        if self.state == State::Ended {
            return;
        }
        match input {
            // The service speaks first; until then there is nothing to send.
            Input::ServiceOpened => {}
            Input::Instead(settings) => self.begin_again(settings),
            Input::Service(event) => self.on_service(event, now),
            Input::ServiceLost(fault) => self.end(EndReason::Service(fault), now),
            Input::Client(message) => self.on_client(message, now),
            Input::ClientLost => self.end(EndReason::ClientLost, now),
            Input::End(reason) => self.end(reason, now),
            Input::ToolFinished { call_id, output, ok } => {
                self.on_tool_finished(call_id, output, ok, now);
            }
            Input::Tick => self.on_tick(now),
        }
        self.request_response(now);
    }

    /// The next output, until `None`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call again with [`Input::Tick`] at the latest. Changes with every input and with
    /// [`Call::reply_sent`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.state == State::Ended {
            return None;
        }
        let limits = self.limits.deadline(self.state, self.is_busy(), self.playback.end());
        sooner(sooner(limits, self.gate.deadline()), self.tools.deadline())
    }

    /// Asked for each microphone frame (`bytes` of PCM16 24 kHz mono). No output, no allocation.
    pub fn microphone(&mut self, bytes: usize, now: Instant) -> Microphone {
        let _ = bytes;
        self.gate.heard(now);
        match self.state {
            State::Connecting | State::Configuring => Microphone::Hold,
            State::Active { .. } => Microphone::Forward,
            State::Ended => Microphone::Discard,
        }
    }

    /// Asked for each audio delta before it is decoded. No output, no allocation per delta.
    pub fn reply_audio(&mut self, delta: &AudioDelta<'_>, now: Instant) -> Reply {
        let _ = now;
        let active = matches!(self.state, State::Active { .. });
        if !active || self.muted.is(delta.response_id) {
            return Reply::Discard;
        }
        self.playback.accept(delta);
        Reply::Forward
    }

    /// `bytes` of PCM of the current reply have left for the client. May queue outputs (`latency`).
    /// With the first of an answer it says how long the user has waited.
    pub fn reply_sent(&mut self, bytes: usize, now: Instant) -> Option<Duration> {
        if !self.is_active() || self.playback.sent(bytes, now)? == self.turn_end_response {
            return None;
        }
        let waited = now.saturating_duration_since(self.turn_end.take()?);
        self.outputs.push_back(Output::ToClient(client::latency(playback::whole_ms(waited))));
        Some(waited)
    }

    /// Whether [`Output::Close`] was given.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The service's id of the session, for the log: Azure support asks for it. Empty until known.
    #[must_use]
    pub fn service_session(&self) -> &str {
        &self.session_id
    }

    /// When the service will end the session, in seconds since 1970. The core has no calendar: the
    /// owner ends the call with [`EndReason::SessionExpired`] when it is time.
    #[must_use]
    pub fn expires_at(&self) -> Option<u64> {
        self.expires_at
    }

    /// Whether the service has not taken the session's settings yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Connecting | State::Configuring)
    }

    /// Connecting or Configuring → Connecting. The time that all of it may take goes on.
    fn begin_again(&mut self, settings: Rc<CallSettings>) {
        if self.is_waiting() {
            self.settings = settings;
            self.state = State::Connecting;
            self.session_id.clear();
            self.expires_at = None;
        }
    }

    /// Connecting → Configuring.
    fn configure(&mut self, session: &SessionInfo) {
        self.learn(session);
        if self.state != State::Connecting {
            return;
        }
        self.state = State::Configuring;
        self.dialect = session.dialect;
        let update = match self.dialect {
            Dialect::Beta => commands::session_update(&self.settings.session),
            Dialect::Ga => commands::session_update(&ga_session(&self.settings.session)),
        };
        self.send(update);
        self.simulated = session.model.starts_with("voicelived-simulator");
    }

    /// Configuring → Active, at the first `session.updated`; later ones only change the rules.
    fn activate(&mut self, session: &SessionInfo, now: Instant) {
        self.learn(session);
        if let Some(fault) = &session.format_fault {
            self.end(EndReason::SessionRefused(fault.clone()), now);
            return;
        }
        if self.state != State::Configuring {
            return;
        }
        self.state = State::Active { since: now };
        self.limits.touch(now);
        let service = if self.simulated { "simulator" } else { "azure" };
        self.tell(client::call_state(CallState::Active { service }));
        self.outputs.push_back(Output::ReleaseMicrophone);
        if self.settings.greeting.is_some() {
            self.gate.want(ResponseRequest::Greeting);
        }
    }

    /// Any state → Ended.
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

    /// Remembers what the service says of the session.
    fn learn(&mut self, session: &SessionInfo) {
        if !session.id.is_empty() {
            self.session_id.clone_from(&session.id);
        }
        self.expires_at = session.expires_at.or(self.expires_at);
        self.turns = session.turns;
    }

    /// Asks for a response, if one is wanted and the gate is open.
    fn request_response(&mut self, now: Instant) {
        if !self.is_active() {
            return;
        }
        // A response may still hold more calls: a batch is complete when it is done.
        if self.gate.active().is_none() && self.tools.take_complete_batch() {
            self.gate.want(ResponseRequest::Answer);
        }
        let create = match self.gate.next(now) {
            Some(ResponseRequest::Answer) => commands::response_create(),
            Some(ResponseRequest::Greeting) => commands::greeting(
                self.settings.greeting.as_deref().unwrap_or_default(),
                self.dialect,
            ),
            None => return,
        };
        self.send(create);
    }

    /// `usage`, once the call has been active.
    fn send_usage(&mut self, now: Instant) {
        let State::Active { since } = self.state else {
            return;
        };
        let seconds = now.saturating_duration_since(since).as_secs();
        let Totals { input_tokens, output_tokens } = self.totals;
        self.tell(client::usage(input_tokens, output_tokens, seconds));
    }

    fn is_active(&self) -> bool {
        matches!(self.state, State::Active { .. })
    }

    /// Whether somebody speaks or works, so that the call is not idle (playing apart).
    fn is_busy(&self) -> bool {
        self.gate.is_busy() || self.tools.is_running()
    }

    fn tell(&mut self, message: String) {
        self.outputs.push_back(Output::ToClient(message));
    }

    fn send(&mut self, command: String) {
        self.outputs.push_back(Output::ToService(command));
    }

    fn error(&mut self, code: &str, message: &str) {
        self.tell(client::error(code, message));
    }
}

/// The earlier of two times, where there are any.
pub(crate) fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
