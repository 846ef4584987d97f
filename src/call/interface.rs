//! What goes into a call and what comes out of it: the whole contract between [`Call`](super::Call)
//! and its owner, `session`.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::client::ClientMessage;
use super::ending::{EndReason, ServiceFault};
use super::questions::Asked;
use super::service::{ServiceError, ServiceEvent};
use super::unfinished::Unfinished;

/// What a call needs to know from the configuration. Shared by all calls, never changed by one.
#[derive(Debug, Clone)]
pub struct CallSettings {
    /// Name of the agent that answers, for `hello`; empty if it is none.
    pub assistant: String,
    /// The owner's assistant that the client has asked for; `None` if it has asked for none.
    pub chosen: Option<Rc<Assistant>>,
    /// The complete `session` object of `session.update`: explicit values, tools, user's overrides,
    /// as [`session_object`](super::service::session::session_object) makes it (the dialect of dated api-versions).
    pub session: serde_json::Value,
    /// Text spoken by the service once, when the call becomes active.
    pub greeting: Option<String>,
    /// How long neither side may speak before the call ends (clock starts when active).
    pub idle: Duration,
    /// How long a call may last at most, from its creation.
    pub max_duration: Duration,
    /// How long a call that was active may be without a session of the service; zero for not at all.
    pub reconnect: Duration,
    /// A reply that a lost session has cut off is continued in the next one.
    pub continue_reply: bool,
    /// How long a session of the service is used that tells no end; zero for as long as it lasts.
    pub session_time: Duration,
    /// How long a call is held for a client whose connection broke; zero for not at all.
    pub resume: Duration,
    /// A client may ask that speech holds the reply until it is known to be a turn.
    pub reversible_barge_in: bool,
}

/// What a call knows of the assistant that its client has asked for. The rest is in the session.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Assistant {
    /// Its name, as in `/ws?assistant=NAME`.
    pub name: String,
    /// Names of the tools that it may use; `None` for all.
    pub tools: Option<Vec<String>>,
}

impl Assistant {
    /// Whether it may use the tool of that name.
    #[must_use]
    pub fn may_use(&self, tool: &str) -> bool {
        self.tools.as_ref().is_none_or(|tools| tools.iter().any(|name| name == tool))
    }
}

impl CallSettings {
    /// Whether the model may call the tool of that name.
    #[must_use]
    pub fn may_use(&self, tool: &str) -> bool {
        self.chosen.as_ref().is_none_or(|chosen| chosen.may_use(tool))
    }

    /// What the model is offered of these tools, a `tools` array of the service's session.
    #[must_use]
    pub fn offer(&self, tools: &serde_json::Value) -> serde_json::Value {
        let mut tools = tools.clone();
        if let Some(list) = tools.as_array_mut() {
            list.retain(|tool| self.may_use(tool["name"].as_str().unwrap_or_default()));
        }
        tools
    }
}

/// The most silence of one [`Output::Silence`]: 100 ms of PCM16, 24 kHz, mono.
pub const MAX_SILENCE_BYTES: usize = 4_800;

/// Everything that happens to a call, except audio (which has its own two methods).
#[derive(Debug)]
pub enum Input<'a> {
    /// The WebSocket to the service is open; the service will send `session.created`.
    ServiceOpened,
    /// One event of the service that is not an audio delta.
    Service(ServiceEvent<'a>),
    /// The service has refused the settings before it took them. It is asked again, on a new
    /// connection, for the session of these.
    Instead(Rc<CallSettings>),
    /// The WebSocket of the second session is open, which takes over before the service ends the first.
    NextOpened,
    /// The service has refused the settings to the second session, and is asked again for these.
    NextInstead(Rc<CallSettings>),
    /// One event of the second session.
    Next(ServiceEvent<'a>),
    /// The second session could not be had, or was lost.
    NextLost(ServiceFault),
    /// The service could not be reached, refused, closed or was lost.
    ServiceLost(ServiceFault),
    /// The service's session has lasted as long as it may.
    SessionExpired,
    /// One text message of the client.
    Client(ClientMessage<'a>),
    /// The client has closed, or is given up: the call ends.
    ClientLost,
    /// The client's connection broke without a goodbye: the call is held, if it may be.
    ClientBroken,
    /// The owner decided that the call must end (stalled client, bad data, daemon stopping…).
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
    /// The tools that the model may call have changed: the `tools` of the service's session.
    Tools(Rc<serde_json::Value>),
    /// A tool that runs may take longer than most do.
    ToolTakes {
        /// The service's id of the function call.
        call_id: &'a str,
        /// From its beginning to its result.
        most: Duration,
    },
    /// A tool that was to run asks first. What is ready to run is kept by the owner until
    /// [`Output::RunAllowed`] or [`Output::ForgetTool`].
    AskFirst {
        /// The service's id of the function call.
        call_id: &'a str,
        /// What the tool does, in the words of its maker.
        about: &'a str,
        /// What it would be run with: a JSON object.
        arguments: &'a str,
    },
    /// A tool that was to run is the one that hangs up: the call ends when the goodbye has been heard.
    HangUp {
        /// The service's id of the function call.
        call_id: &'a str,
    },
    /// The time given by [`Call::deadline`](super::Call::deadline) has come. Harmless at any time.
    Tick,
}

/// What the owner must do, in the order in which the call gives it.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send this JSON text to the service.
    ToService(String),
    /// Send this JSON text to the service, behind all microphone audio that waits for it. Every
    /// [`ToService`](Self::ToService) after it stays behind it. A commit that overtook the audio
    /// would cut off the end of the turn.
    BehindMicrophone(String),
    /// Send silence to the service, as if it came from the microphone.
    Silence {
        /// Of PCM, at most [`MAX_SILENCE_BYTES`].
        bytes: usize,
    },
    /// Send this JSON text to the client. Overtakes queued audio.
    ToClient(String),
    /// Throw away all reply audio that has not left for the client (barge-in). A `speech_started` that
    /// makes the client drop its own comes after it: old audio that left behind that message would
    /// be played.
    DropPlayback,
    /// The session is configured: send the held microphone audio, then forward as it comes.
    ReleaseMicrophone {
        /// The outage that ends with it, if there was one.
        restored: Option<Restored>,
    },
    /// The service has made an item of the microphone audio that it was sent so far.
    CommitMicrophone,
    /// What was committed need not be sent again.
    SettleMicrophone,
    /// The session of the service is over: close its connection if there is one, and hold the
    /// microphone's audio. The call goes on.
    DropSession {
        /// A fixed word for the count.
        word: &'static str,
        /// Why, as a sentence for the log.
        message: String,
    },
    /// Connect to the service again.
    Redial {
        /// An agent's id of the conversation to go on with; empty for none.
        conversation: String,
    },
    /// The client is away, and the call goes on without it: drop its connection, and keep what it is told.
    /// [`Call::take_up`](super::Call::take_up) ends this.
    HoldCall {
        /// When to give the client up with [`Input::ClientLost`].
        until: Instant,
    },
    /// Make a connection for a second session beside the present one.
    Prepare {
        /// An agent's id of the conversation to go on with; empty for none.
        conversation: String,
    },
    /// Send this JSON text to the second session.
    ToNext(String),
    /// Close the connection of the second session. The present one goes on.
    DropNext {
        /// Why, as a sentence for the log.
        message: String,
    },
    /// Keep the microphone's audio back from the present session, which goes on otherwise.
    HoldMicrophone,
    /// Send the present session what was kept back.
    ResumeMicrophone,
    /// The second session takes the place of the present one: everything after this is for it, and the
    /// connection of the other one is closed.
    ChangeOver(ChangeOver),
    /// The service has refused an item of the conversation that was sent again: for the count.
    ItemRefused,
    /// The client plays an answer. Its first audio was heard so long after it had left.
    Heard(Duration),
    /// Run a tool beside the loop; answer with [`Input::ToolFinished`], [`Input::HangUp`] or [`Input::AskFirst`], exactly once. An answer that
    /// comes after the tool's deadline is ignored.
    RunTool {
        /// The service's id of the function call.
        call_id: String,
        /// The tool's name.
        name: String,
        /// JSON text as the model wrote it: may be empty or invalid.
        arguments: String,
    },
    /// The user has stopped a tool that was to run, or runs. Nobody waits for it any more; an answer to it is
    /// ignored.
    StopTool {
        /// The service's id of the function call.
        call_id: String,
    },
    /// The user has agreed: run what was kept for this call, and nothing else. Answered as
    /// [`RunTool`](Self::RunTool).
    RunAllowed {
        /// The service's id of the function call.
        call_id: String,
    },
    /// What was kept for this call is not to be run.
    ForgetTool {
        /// The service's id of the function call.
        call_id: String,
    },
    /// What became of a question to the user, or of an answer: for the log and the count.
    Asked(Asked),
    /// A tool that the model asked for is not run: for the count.
    ToolRefused,
    /// A response did not end as it should: for the log and the count.
    Unfinished {
        /// What became of it.
        how: Unfinished,
        /// The service's id of it; empty if there is none.
        response_id: String,
        /// What the service says of it, as the end of a sentence; empty if it says nothing.
        said: String,
    },
    /// What the user said has no transcript: for the log and the count.
    TranscriptFailed {
        /// What the service says of it.
        error: Box<ServiceError>,
    },
    /// The call is over: close both sockets, with the reason's close code to the client. It is the
    /// last output.
    Close(EndReason),
}

/// An outage that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// How long the call was without a session.
    pub after: Duration,
    /// Tries that it took.
    pub tries: u32,
    /// Items of the conversation that were sent again.
    pub items: usize,
}

/// One session has followed another without an outage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeOver {
    /// What the moment was.
    pub moment: Moment,
    /// Whether the new session hears again what the old one has heard of the user's turn.
    pub again: bool,
    /// Items of the conversation that the new session was told.
    pub items: usize,
    /// How long the old session was in use.
    pub lasted: Duration,
    /// What has become of the old session, as a sentence; empty if it was in order.
    pub why: String,
}

/// The moment of a change from one session to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing was under way, and nothing played.
    Quiet,
    /// Nothing was under way, but a reply may have been playing.
    TurnEnd,
    /// The service was about to end the session.
    Last,
    /// The session was lost.
    Lost,
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
    /// Drop it: it belongs to a response that the user interrupted, or the call is not active.
    Discard,
}
