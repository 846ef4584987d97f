//! The query of `/ws`: how a client joins. It begins a call, or takes one up again.

use std::fmt;

use crate::access::{Credential, Secret};
use crate::net::http::Request;

/// How the client of an upgrade joins.
#[derive(Debug)]
pub struct Join {
    /// How it has shown that it may call.
    pub credential: Credential,
    /// What it wants.
    pub request: JoinRequest,
}

/// What a client wants that opens `/ws`.
pub enum JoinRequest {
    /// A new call.
    Call(Abilities, Named),
    /// To go on with a call.
    TakeUp(TakeUp),
}

/// What a client says that it can do. Clients that know nothing of it say nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Abilities {
    /// It can take its call up again, should its connection break (`resume` without a value).
    pub resumes: bool,
    /// It can hold a reply (`barge_in=hold`).
    pub holds: bool,
}

/// The name of the assistant that a client asks for; empty for the one of the daemon's own settings.
pub type Named = Box<str>;

/// A call to be taken up.
#[derive(Debug)]
pub struct TakeUp {
    /// What it shows; `None` if that cannot be a secret.
    pub secret: Option<Secret>,
    /// Bytes of reply audio that it has had.
    pub received: Option<u64>,
    /// Text messages that it has had.
    pub messages: Option<u64>,
}

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Call(..) => "Call",
            Self::TakeUp(_) => "TakeUp",
        })
    }
}

impl Default for Join {
    fn default() -> Self {
        Self {
            credential: Credential::None,
            request: JoinRequest::Call(Abilities::default(), Named::default()),
        }
    }
}

impl JoinRequest {
    /// Reads the query. Unknown keys are passed over, and so are counts that are no numbers: they count
    /// as not given.
    pub(super) fn of(request: &Request) -> Self {
        let value = |wanted: &str| {
            let mut pairs = request.query.split('&');
            pairs.find_map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (key == wanted).then_some(value)
            })
        };
        let holds = value("barge_in") == Some("hold");
        let assistant = || value("assistant").unwrap_or_default().into();
        match value("resume") {
            None => Self::Call(Abilities { resumes: false, holds }, assistant()),
            Some("") => Self::Call(Abilities { resumes: true, holds }, assistant()),
            Some(secret) => Self::TakeUp(TakeUp {
                secret: Secret::shown(secret),
                received: value("received").and_then(|text| text.parse().ok()),
                messages: value("messages").and_then(|text| text.parse().ok()),
            }),
        }
    }
}
