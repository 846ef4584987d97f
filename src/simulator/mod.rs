//! The simulated Voice Live service: a product feature (`demo`, `simulate`) and a test double.
//!
//! It has a pure core: client messages and time go in, server messages come out. The core has no
//! socket, no clock, no thread, no randomness and no log. The socket shell asks [`admit`] about an
//! upgrade and makes one [`Simulation`] for each connection. It hands over what arrives, and polls
//! while the socket can take more:
//!
//! 1. `handle_text` / `handle_binary` for each message, as long as it isn't [`Simulation::congested`];
//! 2. `poll` until `None` or until the socket is full, and carry out each [`Action`];
//! 3. sleep until [`Simulation::deadline`] or the socket; `poll` again.
//!
//! It is no model. It hears loudness, not words, and plays the user's own voice back. Session id,
//! model name and every transcript say "simulator", so it cannot be mistaken for the real service.
//!
//! ```text
//! mod ── simulation ─┬─ client (client events) ── validate (table of the SDK's models)
//!                    ├─ turns  (speech → items → what to answer) ── tools
//!                    ├─ input ── vad         session ── defaults ── family ── habits        conversation
//!                    └─ response ── plan ── sound          wire ── ga
//! admit (upgrade)    script (faults) ── outages
//! ```

mod admit;
mod client;
mod conversation;
mod defaults;
mod event;
mod family;
mod ga;
mod habits;
mod input;
mod outages;
mod outcome;
mod pending;
mod plan;
mod response;
mod script;
mod session;
mod simulation;
mod sound;
#[cfg(test)]
mod tests;
mod tools;
mod turns;
mod vad;
mod validate;
mod wire;

use std::fmt;

pub use admit::{Admission, Refusal, admit, refuse_while_down};
pub use defaults::MODEL;
pub use event::Dialect;
pub use outages::Outages;
pub use script::{
    Down, Ending, MAX_BIG_MESSAGE, ModelRefusal, Moment, Refuse, ReplyFault, Script,
    TranscriptTiming,
};
pub use simulation::Simulation;
pub use sound::pattern_sample;

/// How all simulations of one server behave.
#[derive(Clone)]
pub struct Options {
    /// Faults and fixed behaviour.
    pub script: Script,
    /// The only key (or bearer token) let in; any, if absent.
    pub api_key: Option<String>,
    /// Whether the simulator speaks first.
    pub welcome: bool,
    /// What has become of its connections so far.
    pub outages: Outages,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            script: Script::default(),
            api_key: None,
            welcome: true,
            outages: Outages::default(),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("script", &self.script)
            .field("api_key", &self.api_key.as_ref().map(|_| "[redacted]"))
            .field("welcome", &self.welcome)
            .field("outages", &self.outages)
            .finish()
    }
}

/// What the socket shell must do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a text message.
    Send(String),
    /// Send a binary message.
    SendBinary(Vec<u8>),
    /// Send a ping.
    Ping,
    /// Close the WebSocket, with an empty close frame if there is no code. The last action.
    Close {
        /// The close code.
        code: Option<u16>,
        /// The close reason, at most 123 bytes.
        reason: String,
    },
    /// Reset the TCP connection. The last action.
    Reset,
}

impl Action {
    /// `None` for a stall, which is the lack of any action.
    fn from_ending(ending: &Ending) -> Option<Self> {
        match ending {
            Ending::Close(code, reason) => {
                Some(Self::Close { code: *code, reason: reason.clone() })
            }
            Ending::Reset => Some(Self::Reset),
            Ending::Stall => None,
        }
    }
}
