//! What an owner wants of every session.

use serde_json::{Map, Value};

/// Samples per second of all audio, both ways.
pub(super) const SAMPLE_RATE: u64 = 24_000;

/// Which of the two message dialects a session speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Dated Voice Live api-versions: OpenAI's beta names plus Azure's additions.
    #[default]
    Beta,
    /// OpenAI's GA names: Azure OpenAI, OpenAI, Voice Live `v1`.
    Ga,
}

/// The everyday session settings, from which
/// [`session_object`](super::session::session_object) makes the `session` object.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// The model's name: decides which transcriber fits.
    pub model: String,
    /// The dialect that the api-version promises. The service's own `session.created` decides which
    /// one is spoken; this one is for choices that are made before it has come.
    pub expected: Dialect,
    /// A voice's name: `en-US-AvaNeural`, `alloy`… Empty for an agent's own.
    pub voice: String,
    /// The prompt. `None` in agent mode, where the agent has its own.
    pub instructions: Option<String>,
    /// The language the user speaks (`en`, `en-US`, `en,de`); a hint for transcription.
    pub language: Option<String>,
    /// An array of function tools. Empty or not an array: none are sent.
    pub tools: Value,
    /// Laid over everything last. Objects merge key by key, unless their `type` differs; `null`
    /// removes a key, or switches a feature of the service off.
    pub overrides: Map<String, Value>,
}
