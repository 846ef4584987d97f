//! Why a call ends: one enum from which log line, close code and the client's sentence derive.

/// The only ways a call ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndReason {
    /// The client hung up.
    HangUp,
}

/// What went wrong with the service, already in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFault {
    /// A fixed word: `unauthorized`, `forbidden`, `not_found`, `quota`, `unreachable`, `lost`…
    pub word: &'static str,
    /// A sentence that says what to fix.
    pub message: String,
    /// Whether trying again may help (place for reconnecting).
    pub retryable: bool,
}
