//! What the service has said of the session that this call has with it.

use std::time::Instant;

use serde_json::Value;

use super::service::session::{Dialect, SessionInfo, TurnRules};

/// Facts of one session of the service. They end with it: nothing here may be carried over to
/// another session of the same call.
#[derive(Debug)]
pub(super) struct ServiceSession {
    /// The service's id; empty until known.
    pub(super) id: String,
    /// When the service ends the session, in seconds since 1970.
    pub(super) expires_at: Option<u64>,
    /// The same by our clock, as the owner has told it. A time that makes no sense is not told.
    pub(super) ends: Option<Instant>,
    /// How this service spells its events, known from `session.created`.
    pub(super) dialect: Dialect,
    /// Which parts of a turn the service does by itself.
    pub(super) turns: TurnRules,
    /// An agent's id of the conversation, by which another session can go on with it. Empty without an
    /// agent.
    pub(super) conversation: String,
    /// Our requests for responses carry metadata; not once the service has refused that.
    pub(super) tags: bool,
    /// Whether what answers is the built-in simulator.
    pub(super) simulated: bool,
}

impl ServiceSession {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        Self {
            id: String::new(),
            expires_at: None,
            ends: None,
            dialect: Dialect::Beta,
            turns: TurnRules::default(),
            conversation: String::new(),
            tags: true,
            simulated: false,
        }
    }

    /// The first `session.created`: what is to be known before it is sent its settings.
    pub(super) fn begin(&mut self, session: &SessionInfo) {
        self.dialect = session.dialect;
        self.simulated = session.model.starts_with("voicelived-simulator");
    }

    /// `session.created` or `session.updated`: id and expiry may be missing in the later one and
    /// stay; the turn rules are always those of the last one. `asked` is the session that was asked
    /// for: it tells whether the service finds turns where the service itself leaves that out.
    pub(super) fn learn(&mut self, session: &SessionInfo, asked: &Value) {
        if !session.id.is_empty() {
            self.id.clone_from(&session.id);
        }
        if !session.conversation.is_empty() {
            self.conversation.clone_from(&session.conversation);
        }
        self.expires_at = session.expires_at.or(self.expires_at);
        self.turns = TurnRules { detects: session.finds_turns(asked), ..session.turns };
    }
}
