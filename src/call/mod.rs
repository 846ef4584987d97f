//! The life of one call as a pure state machine: inputs in, outputs out, a deadline.
//!
//! No socket, no clock, no randomness, no logging of content. Time comes in as `now`. The owner
//! (`session.rs`) feeds one input, drains [`Call::poll`] to `None`, and then feeds the next.

pub mod client;
pub mod ending;
pub mod gate;
pub mod pcm;
pub mod service;

use std::time::{Duration, Instant};

use client::ClientMessage;
use ending::EndReason;
use service::{AudioDelta, ServiceEvent};

/// What a call needs to know from the configuration. Shared by all calls, never changed by one.
#[derive(Debug, Clone)]
pub struct CallSettings {
    /// The complete `session` object of `session.update`: explicit values, tools, user's overrides.
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

/// One call. See the module's text for how to drive it.
#[derive(Debug)]
pub struct Call {}

impl Call {
    /// A call whose client is connected and whose service connection is being made. The first
    /// outputs are `hello` and `call_state` `connecting`. `id` is the call's public id, `resume`
    /// the secret for taking the call up again.
    #[must_use]
    pub fn new(settings: std::rc::Rc<CallSettings>, id: &str, resume: &str, now: Instant) -> Self {
        let _ = (settings, id, resume, now);
        todo!()
    }
    /// Takes one input.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) {
        let _ = (input, now);
        todo!()
    }
    /// The next output, until `None`.
    pub fn poll(&mut self) -> Option<Output> {
        todo!()
    }
    /// When to call again with [`Input::Tick`] at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        todo!()
    }
    /// Asked for each microphone frame (`bytes` of PCM16 24 kHz mono). No output, no allocation.
    pub fn microphone(&mut self, bytes: usize, now: Instant) -> Microphone {
        let _ = (bytes, now);
        todo!()
    }
    /// Asked for each audio delta before it is decoded. No output, no allocation per delta.
    pub fn reply_audio(&mut self, delta: &AudioDelta<'_>, now: Instant) -> Reply {
        let _ = (delta, now);
        todo!()
    }
    /// `bytes` of PCM of the current reply have left for the client. May queue outputs (`latency`).
    pub fn reply_sent(&mut self, bytes: usize, now: Instant) {
        let _ = (bytes, now);
        todo!()
    }
}
