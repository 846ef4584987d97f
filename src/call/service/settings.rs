//! What an owner wants of every session.

use serde_json::{Map, Value};

/// The everyday session settings, from which
/// [`session_object`](super::session::session_object) makes the `session` object.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// The model's name: decides which transcriber fits.
    pub model: String,
    /// A voice's name: `en-US-AvaNeural`, `alloy`…
    pub voice: String,
    /// The prompt. `None` in agent mode, where the agent has its own.
    pub instructions: Option<String>,
    /// The language the user speaks (`en`, `en-US`, `en,de`); a hint for transcription.
    pub language: Option<String>,
    /// An array of function tools. Empty or not an array: none are sent.
    pub tools: Value,
    /// Merged over everything last. Objects merge key by key; all else replaces, also `null`, which
    /// switches a feature off at the service.
    pub overrides: Map<String, Value>,
}
