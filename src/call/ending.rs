//! Why a call ends: one enum from which log line, close code and the client's sentence derive.

use std::borrow::Cow;
use std::time::Duration;

/// The only ways a call ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndReason {
    /// The client hung up.
    HangUp,
    /// The model hung up, after its goodbye.
    AssistantHungUp,
    /// The client's socket is gone, or it closed.
    ClientLost,
    /// Neither side has spoken for this many seconds.
    Idle(u64),
    /// The call lasted as long as the configuration allows, in seconds.
    TimeLimit(u64),
    /// The service's session lasted as long as the service allows.
    SessionExpired,
    /// The daemon stops.
    Stopping,
    /// Many text messages in a row that were no JSON objects with a `type`, or one that was no UTF-8.
    BadText(String),
    /// A frame larger than allowed.
    TooBig,
    /// The client broke the WebSocket protocol.
    BadProtocol(String),
    /// The client took nothing of what it was sent for this many seconds.
    ClientStalled(u64),
    /// The token that the caller was admitted by is not right any more.
    AccessChanged,
    /// The call may not be made.
    Refused(String),
    /// There is no assistant of the name that was asked for: a sentence that tells which there are.
    NoAssistant(String),
    /// The daemon lacks settings without which there are no calls: a sentence that names them.
    NotConfigured(String),
    /// No room for another call.
    Full,
    /// The day's minutes of calls, this many, are used up (the spending guard).
    DailyLimit(u64),
    /// The caller's address has as many calls as it may.
    AddressLimit(usize),
    /// The service could not be reached, refused or was lost.
    Service(ServiceFault),
    /// The service did not answer, or did not take the session's settings, in time.
    ServiceTimeout,
    /// The service refused the session's settings: a sentence that quotes it.
    SessionRefused(String),
    /// There is no call to be taken up with the secret that was shown.
    ResumeRefused,
    /// The client has missed more of the reply than was kept for it.
    ResumeLate,
    /// Our own fault.
    Internal(String),
}

/// Who made a call end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A person, or whoever speaks `/ws`.
    Client,
    /// Voice Live, or the way to it.
    Service,
    /// This program, its limits included.
    Daemon,
}

impl EndReason {
    /// A fixed word for `call_state`, log and metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::HangUp => "hang_up",
            Self::AssistantHungUp => "goodbye",
            Self::ClientLost => "client_lost",
            Self::Idle(_) => "idle",
            Self::TimeLimit(_) => "time_limit",
            Self::SessionExpired => "session_expired",
            Self::Stopping => "stopping",
            Self::BadText(_) => "bad_text",
            Self::TooBig => "too_big",
            Self::BadProtocol(_) => "bad_protocol",
            Self::ClientStalled(_) => "client_stalled",
            Self::AccessChanged => "access_changed",
            Self::Refused(_) => "refused",
            Self::NoAssistant(_) => "no_assistant",
            Self::NotConfigured(_) => "not_configured",
            Self::Full => "full",
            Self::AddressLimit(_) => "address_limit",
            Self::DailyLimit(_) => "daily_limit",
            Self::Service(fault) => fault.word,
            Self::ServiceTimeout => "service_timeout",
            Self::SessionRefused(_) => "session_refused",
            Self::ResumeRefused => "resume_refused",
            Self::ResumeLate => "resume_late",
            Self::Internal(_) => "internal",
        }
    }

    /// A plain sentence for people.
    #[must_use]
    pub fn message(&self) -> Cow<'_, str> {
        match self {
            Self::HangUp => "You ended the call.".into(),
            Self::AssistantHungUp => "The assistant said goodbye and ended the call.".into(),
            Self::ClientLost => "The connection to the browser was lost.".into(),
            Self::Idle(seconds) => {
                format!("Nobody has spoken for {seconds} seconds, so the call was ended.").into()
            }
            Self::TimeLimit(seconds) => {
                format!("The call reached its longest duration of {seconds} seconds.").into()
            }
            Self::SessionExpired => {
                "The voice service ends sessions of this length. Start a new call.".into()
            }
            Self::Stopping => "The daemon is stopping. Call again in a moment.".into(),
            Self::TooBig => "A message was larger than allowed.".into(),
            Self::ClientStalled(seconds) => {
                format!("The client took no data for {seconds} seconds.").into()
            }
            Self::AccessChanged => {
                "The access token was changed. Enter the new one to call again.".into()
            }
            Self::Full => "All lines are busy. Try again later.".into(),
            Self::DailyLimit(minutes) => {
                format!("Today's {minutes} min of calls, all together, are used up.").into()
            }
            Self::AddressLimit(calls) => {
                format!("There are already {calls} calls from this address. End one of them first.")
                    .into()
            }
            Self::Service(fault) => fault.message.as_str().into(),
            Self::ServiceTimeout => {
                "The voice service did not get ready in time. Try again.".into()
            }
            Self::ResumeRefused => {
                "This call is over, or is not yours to take up. Call again.".into()
            }
            Self::ResumeLate => {
                "Too much of the call was missed to go on with it. Call again.".into()
            }
            Self::BadText(message)
            | Self::BadProtocol(message)
            | Self::Refused(message)
            | Self::NoAssistant(message)
            | Self::NotConfigured(message)
            | Self::SessionRefused(message)
            | Self::Internal(message) => message.as_str().into(),
        }
    }

    /// The WebSocket close code for the client (RFC 6455, section 7.4.1; 1013 by the IANA registry).
    #[must_use]
    pub fn close_code(&self) -> u16 {
        match self {
            Self::HangUp
            | Self::AssistantHungUp
            | Self::ClientLost
            | Self::Idle(_)
            | Self::TimeLimit(_)
            | Self::SessionExpired => 1000,
            Self::Stopping => 1001,
            Self::BadProtocol(_) => 1002,
            Self::BadText(_) => 1007,
            Self::ClientStalled(_)
            | Self::AccessChanged
            | Self::Refused(_)
            | Self::NoAssistant(_)
            | Self::ResumeRefused
            | Self::ResumeLate => 1008,
            Self::TooBig => 1009,
            Self::Service(_)
            | Self::ServiceTimeout
            | Self::SessionRefused(_)
            | Self::NotConfigured(_)
            | Self::Internal(_) => 1011,
            Self::Full | Self::AddressLimit(_) | Self::DailyLimit(_) => 1013,
        }
    }

    /// Which side made the call end.
    #[must_use]
    pub fn side(&self) -> Side {
        match self {
            Self::HangUp
            | Self::ClientLost
            | Self::BadText(_)
            | Self::TooBig
            | Self::BadProtocol(_)
            | Self::ClientStalled(_)
            | Self::ResumeRefused
            | Self::ResumeLate
            | Self::NoAssistant(_)
            | Self::Refused(_) => Side::Client,
            Self::Service(_)
            | Self::AssistantHungUp
            | Self::ServiceTimeout
            | Self::SessionExpired
            | Self::SessionRefused(_) => Side::Service,
            Self::Idle(_)
            | Self::TimeLimit(_)
            | Self::Stopping
            | Self::AccessChanged
            | Self::Full
            | Self::AddressLimit(_)
            | Self::DailyLimit(_)
            | Self::NotConfigured(_)
            | Self::Internal(_) => Side::Daemon,
        }
    }

    /// Whether somebody should look at it: neither a person's wish nor a limit that was reached.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        !matches!(
            self,
            Self::HangUp
                | Self::AssistantHungUp
                | Self::ClientLost
                | Self::Idle(_)
                | Self::TimeLimit(_)
                | Self::SessionExpired
                | Self::Stopping
                | Self::AccessChanged
                | Self::ResumeRefused
                | Self::ResumeLate
                | Self::NoAssistant(_)
                | Self::Full
                | Self::AddressLimit(_)
                | Self::DailyLimit(_)
        )
    }
}

/// What went wrong with the service, already in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFault {
    /// A fixed word: `unauthorized`, `forbidden`, `not_found`, `quota`, `unreachable`, `service_lost`…
    pub word: &'static str,
    /// A sentence that says what to fix.
    pub message: String,
    /// Whether trying again may help (place for reconnecting).
    pub retryable: bool,
    /// How long the service asks to wait before the next try.
    pub retry_after: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_says_a_sentence_and_has_a_code() {
        let text = || "A sentence.".to_owned();
        let fault =
            ServiceFault { word: "lost", message: text(), retryable: true, retry_after: None };
        let reasons = [
            EndReason::HangUp,
            EndReason::AssistantHungUp,
            EndReason::ClientLost,
            EndReason::Idle(120),
            EndReason::TimeLimit(3600),
            EndReason::SessionExpired,
            EndReason::Stopping,
            EndReason::BadText(text()),
            EndReason::NoAssistant(text()),
            EndReason::TooBig,
            EndReason::BadProtocol(text()),
            EndReason::ClientStalled(15),
            EndReason::AccessChanged,
            EndReason::Refused(text()),
            EndReason::NotConfigured(text()),
            EndReason::Full,
            EndReason::AddressLimit(4),
            EndReason::DailyLimit(60),
            EndReason::Service(fault),
            EndReason::ServiceTimeout,
            EndReason::SessionRefused(text()),
            EndReason::ResumeRefused,
            EndReason::ResumeLate,
            EndReason::Internal(text()),
        ];
        let mut words = std::collections::BTreeSet::new();
        for reason in reasons {
            assert!(reason.message().ends_with('.'), "{reason:?}");
            assert!((1000..=1013).contains(&reason.close_code()), "{reason:?}");
            assert!(words.insert(reason.word()), "{reason:?}");
            if reason.close_code() == 1011 {
                assert!(reason.is_fault() && reason.side() != Side::Client, "{reason:?}");
            }
        }
    }
}
