//! The `/ws` text messages (`docs/protocol.md`): parse and write.

/// A text message from the client.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientMessage<'a> {
    /// A typed turn.
    Text(std::borrow::Cow<'a, str>),
    /// Unknown type: ignored.
    Unknown,
}
