//! Events of the Voice Live service: text to [`ServiceEvent`] and commands to text.
//!
//! Two dialects are understood by one table: the names of dated Voice Live api-versions (OpenAI's
//! beta names) and the GA names. Parsing is lenient: `null` means absent, only what the call uses is
//! looked at, unknown types are [`ServiceEvent::Ignored`].

pub mod commands;
mod ends;
mod ga;
mod items;
mod lenient_json;
mod overlay;
mod scan;
pub mod session;
pub mod settings;
pub mod transcription;

use std::borrow::Cow;
use std::ops::Range;

use serde_json::{Map, Value};

pub use ends::{ResponseDone, Usage};
pub use items::{FunctionCall, Stage};
pub use lenient_json::HalfCharacters;
pub(in crate::call) use lenient_json::object as json_object;
use scan::Scan;
pub(in crate::call) use scan::member;
use session::SessionInfo;

/// Longest id accepted from the service, in bytes. Recorded ids have about 26.
pub const MAX_ID_BYTES: usize = 128;

/// One audio delta, recognised without building a JSON tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioDelta<'a> {
    /// `response_id`.
    pub response_id: &'a str,
    /// `item_id`.
    pub item_id: &'a str,
    /// Where the base64 text stands inside the event's text, in bytes (it has no escapes).
    pub base64: Range<usize>,
    /// How many bytes of PCM that text decodes to, from its length and padding.
    pub pcm_bytes: usize,
}

/// An audio delta that came by the slow way, because its text has escapes or other rarities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedAudio {
    /// `response_id`, empty if absent.
    pub response_id: String,
    /// `item_id`, empty if absent.
    pub item_id: String,
    /// The base64 text with all escapes resolved.
    pub base64: String,
}

impl OwnedAudio {
    /// The same delta as the hot path sees it; the range is one of [`OwnedAudio::base64`].
    #[must_use]
    pub fn delta(&self) -> AudioDelta<'_> {
        AudioDelta {
            response_id: &self.response_id,
            item_id: &self.item_id,
            base64: 0..self.base64.len(),
            pcm_bytes: scan::decoded_bytes(self.base64.as_bytes()),
        }
    }
}

/// What an event's text holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed<'a> {
    /// Reply audio: the hot path.
    Audio(AudioDelta<'a>),
    /// Reply audio whose text could not be borrowed. Rare.
    AudioOwned(OwnedAudio),
    /// Anything else.
    Event(ServiceEvent<'a>),
}

/// Every event the call acts on; all others are `Ignored`. Absent texts are empty.
#[derive(Debug, Clone, PartialEq)]
pub enum ServiceEvent<'a> {
    /// `session.created`: the first event of a session.
    SessionCreated(Box<SessionInfo>),
    /// `session.updated`: the effective session after a `session.update`.
    SessionUpdated(Box<SessionInfo>),
    /// `error`.
    Error(Box<ServiceError>),
    /// `warning`: the session goes on. For the log.
    Warning {
        /// `warning.code`.
        code: String,
        /// `warning.message`.
        message: String,
    },
    /// `input_audio_buffer.speech_started`: the service hears the user speak.
    SpeechStarted {
        /// The item that the turn will be.
        item_id: String,
    },
    /// `input_audio_buffer.speech_stopped`: the user's turn is over.
    SpeechStopped {
        /// The item that the turn will be.
        item_id: String,
    },
    /// `input_audio_buffer.committed`: the user's turn is an item now.
    Committed {
        /// The user's item.
        item_id: String,
    },
    /// `conversation.item.input_audio_transcription.delta`.
    UserTranscriptDelta {
        /// The user's item, and where in it.
        part: Part,
        /// More words.
        text: String,
    },
    /// `conversation.item.input_audio_transcription.completed`. May come in the middle of a reply.
    UserTranscript {
        /// The user's item, and where in it.
        part: Part,
        /// All words; may be empty.
        text: String,
    },
    /// `rate_limits.updated`: tokens of the resource that are left for this minute.
    TokensLeft {
        /// `remaining`.
        left: u64,
        /// `limit`.
        limit: u64,
    },
    /// `conversation.item.input_audio_transcription.failed`: the conversation goes on.
    UserTranscriptFailed {
        /// The user's item, and where in it.
        part: Part,
        /// `error`.
        error: Box<ServiceError>,
    },
    /// `response.created`.
    ResponseCreated {
        /// `response.id`.
        response_id: String,
        /// It has the metadata of our requests.
        ours: bool,
    },
    /// A delta of `response.audio_transcript` or `response.text`. Runs ahead of the audio.
    ReplyTextDelta {
        /// The response.
        response_id: String,
        /// The assistant's item, and where in it.
        part: Part,
        /// More words.
        text: String,
    },
    /// The end of `response.audio_transcript` or `response.text`. Also sent when cancelled.
    ReplyText {
        /// The response.
        response_id: String,
        /// The assistant's item, and where in it.
        part: Part,
        /// All words generated, heard or not.
        text: String,
    },
    /// An item that is whole, with what was said in it: `response.output_item.done`, `conversation.item.done`.
    Words {
        /// The response; empty if it is not named.
        response_id: String,
        /// Whether it is what the user has said.
        by_user: bool,
        /// Its parts that have words.
        words: Vec<(Part, String)>,
    },
    /// `response.audio.done` (or `response.output_audio.done`): no more audio of this item comes.
    AudioDone {
        /// The response.
        response_id: String,
        /// The assistant's item.
        item_id: String,
    },
    /// `response.output_item.added` or `.done`, `conversation.item.created`, `.added` or `.done` of a
    /// `function_call` or an `mcp_approval_request`, and `response.function_call_arguments.delta` or `.done`.
    FunctionCall(Box<FunctionCall>),
    /// `response.mcp_call.completed` or `.failed`: the service ran a tool of its own.
    McpCallFinished,
    /// `response.done`.
    ResponseDone(Box<ResponseDone>),
    /// `conversation.item.truncated`.
    Truncated {
        /// The item cut.
        item_id: String,
        /// Where, in ms of its audio.
        audio_end_ms: u64,
    },
    /// A known or unknown event that needs no action of its own.
    Ignored {
        /// Its `type`, for a debug log; at most [`MAX_ID_BYTES`] bytes.
        kind: Cow<'a, str>,
        /// The response that it belongs to, of which it is a sign of life: empty if it does not say
        /// to which. `None` if it belongs to none.
        response_id: Option<String>,
    },
}

/// A content part of an item: what is transcribed by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// `item_id`; empty if absent.
    pub item_id: String,
    /// `content_index`: 0 for the first or only part.
    pub content_index: u64,
}

impl ServiceEvent<'_> {
    /// The response of which the event is a sign of life: empty if it does not say to which it belongs.
    /// `None` for events that belong to none, and for those that begin or end one.
    #[must_use]
    pub fn response_id(&self) -> Option<&str> {
        match self {
            Self::ReplyTextDelta { response_id, .. }
            | Self::ReplyText { response_id, .. }
            | Self::AudioDone { response_id, .. } => Some(response_id),
            Self::Words { response_id, by_user: false, .. } => Some(response_id),
            Self::FunctionCall(call) => Some(&call.response_id),
            Self::McpCallFinished => Some(""),
            Self::Ignored { response_id, .. } => response_id.as_deref(),
            _ => None,
        }
    }
}

/// The `error` object of an `error` event. Texts are bounded to 1,000 bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceError {
    /// `type`, such as `invalid_request_error` or `server_error`.
    pub kind: String,
    /// `code`.
    pub code: String,
    /// `message`, for people.
    pub message: String,
    /// `param`.
    pub param: String,
    /// `event_id` of the command it answers.
    pub event_id: String,
    /// `event_id` of the event itself: Azure's support finds it by that.
    pub reported_as: String,
}

impl ServiceError {
    /// Whether it is the ordinary outcome of a race: a response ended while it was being cancelled, an
    /// item was cut while it ended. Nobody can do anything about it. The service does not always name
    /// the command it answers, so the codes count too.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        let code = self.code.as_str();
        self.event_id == commands::EVENT_TRUNCATE
            || self.event_id == commands::EVENT_CANCEL
            || self.event_id == commands::EVENT_COMMIT
            || self.event_id == commands::EVENT_DELETE
            || self.param.ends_with("audio_end_ms")
            || code.starts_with("item_truncate_")
            || HARMLESS.contains(&code)
    }
}

/// Codes to expect in a healthy call. Seen at the service, or listed by clients that were.
const HARMLESS: [&str; 5] = [
    "conversation_already_has_active_response",
    "response_cancel_not_active",
    "input_audio_buffer_commit_empty",
    "item_already_truncated",
    "ec_not_supported",
];

/// Recognises reply audio in a message as it came, which need not even be UTF-8: the hot path.
///
/// The answer is right if the base64 decodes. If not, or without an answer, [`parse`] has the word.
#[must_use]
pub fn reply_audio(message: &[u8]) -> Option<AudioDelta<'_>> {
    scan::audio_delta(message, Scan::ButBase64)
}

/// Recognises one event of the service, in both dialects.
///
/// # Errors
/// What the service has sent, in words that can follow "the service sent": when the text is no JSON
/// object with a string `type`, or holds an id longer than [`MAX_ID_BYTES`].
pub fn parse(text: &str) -> Result<Parsed<'_>, String> {
    parse_next(text, &mut HalfCharacters::default())
}

/// As [`parse`], for the next of a service's events. `halves` is the service's own: a character whose
/// halves come in two deltas of an item is put together.
///
/// # Errors
/// As for `parse`.
pub fn parse_next<'a>(text: &'a str, halves: &mut HalfCharacters) -> Result<Parsed<'a>, String> {
    if let Some(delta) = scan::audio_delta(text.as_bytes(), Scan::Whole) {
        return Ok(Parsed::Audio(delta));
    }
    let (value, mended) =
        crate::lenient::read(text).map_err(|error| format!("text that is not JSON: {error}"))?;
    let Value::Object(mut event) = value else {
        return Err("JSON that is not an object".to_owned());
    };
    if mended || !halves.is_empty() {
        join_halves(text, &mut event, mended, halves);
    }
    let Some(kind) = event.get("type").and_then(Value::as_str) else {
        return Err("an event without a type".to_owned());
    };
    if scan::AUDIO_DELTA_TYPES.contains(&kind) {
        return Ok(Parsed::AudioOwned(OwnedAudio {
            response_id: id(&event, "response_id")?,
            item_id: id(&event, "item_id")?,
            base64: text_of(&event, "delta"),
        }));
    }
    session_event(kind, &event)
        .or_else(|| items::item_event(kind, &event))
        .or_else(|| user_event(kind, &event))
        .or_else(|| reply_event(kind, &event))
        .unwrap_or_else(|| Ok(ignored(kind, &event)))
        .map(Parsed::Event)
}

type Event = Result<ServiceEvent<'static>, String>;

/// Puts a delta's text together with a half character that the delta before it ended with.
fn join_halves(
    text: &str,
    event: &mut Map<String, Value>,
    mended: bool,
    halves: &mut HalfCharacters,
) {
    let kind = text_of(event, "type");
    let (stream, end) = kind.rsplit_once('.').unwrap_or_default();
    let stream = format!("{stream} {}", text_of(event, "item_id"));
    match (end, event.get_mut("delta")) {
        ("delta", Some(Value::String(delta))) if !scan::AUDIO_DELTA_TYPES.contains(&&*kind) => {
            *delta = halves.join(&stream, text, delta, mended);
        }
        ("done" | "completed" | "failed", _) => halves.end(&stream),
        _ => {}
    }
}

fn session_event(kind: &str, event: &Map<String, Value>) -> Option<Event> {
    Some(Ok(match kind {
        "session.created" => ServiceEvent::SessionCreated(Box::new(session_info(event))),
        "session.updated" => ServiceEvent::SessionUpdated(Box::new(session_info(event))),
        "error" => ServiceEvent::Error(Box::new(service_error(event))),
        "rate_limits.updated" => {
            let limits = event.get("rate_limits").and_then(Value::as_array);
            let tokens = limits.into_iter().flatten().filter_map(Value::as_object);
            let tokens = tokens.into_iter().find(|it| text_of(it, "name") == "tokens")?;
            ServiceEvent::TokensLeft {
                left: number(tokens, "remaining"),
                limit: number(tokens, "limit"),
            }
        }
        "warning" => {
            let warning = object(event, "warning");
            ServiceEvent::Warning {
                code: short(warning, "code"),
                message: short(warning, "message"),
            }
        }
        _ => return None,
    }))
}

fn user_event(kind: &str, event: &Map<String, Value>) -> Option<Event> {
    Some(match kind {
        "input_audio_buffer.speech_started" => {
            Ok(ServiceEvent::SpeechStarted { item_id: short_id(event, "item_id") })
        }
        "input_audio_buffer.speech_stopped" => {
            Ok(ServiceEvent::SpeechStopped { item_id: short_id(event, "item_id") })
        }
        "input_audio_buffer.committed" => {
            Ok(ServiceEvent::Committed { item_id: short_id(event, "item_id") })
        }
        "conversation.item.input_audio_transcription.delta" => {
            let text = text_of(event, "delta");
            part(event).map(|part| ServiceEvent::UserTranscriptDelta { part, text })
        }
        "conversation.item.input_audio_transcription.completed" => {
            let text = text_of(event, "transcript");
            part(event).map(|part| ServiceEvent::UserTranscript { part, text })
        }
        "conversation.item.input_audio_transcription.failed" => {
            let error = Box::new(service_error(event));
            part(event).map(|part| ServiceEvent::UserTranscriptFailed { part, error })
        }
        "conversation.item.truncated" => {
            let audio_end_ms = number(event, "audio_end_ms");
            id(event, "item_id").map(|item_id| ServiceEvent::Truncated { item_id, audio_end_ms })
        }
        _ => return None,
    })
}

fn reply_event(kind: &str, event: &Map<String, Value>) -> Option<Event> {
    Some(match kind {
        "response.created" => match object(event, "response") {
            Some(response) => id(response, "id").map(|response_id| {
                let tag = object(response, "metadata").and_then(|it| it.get(commands::TAG));
                let ours = tag.is_some_and(|tag| tag == commands::EVENT_CREATE);
                ServiceEvent::ResponseCreated { response_id, ours }
            }),
            None => Ok(ServiceEvent::ResponseCreated { response_id: String::new(), ours: false }),
        },
        "response.audio_transcript.delta"
        | "response.output_audio_transcript.delta"
        | "response.text.delta"
        | "response.output_text.delta" => reply_delta(event),
        "response.audio_transcript.done" | "response.output_audio_transcript.done" => {
            reply_text(event, "transcript")
        }
        "response.text.done" | "response.output_text.done" => reply_text(event, "text"),
        "response.audio.done" | "response.output_audio.done" => audio_done(event),
        "response.mcp_call.completed" | "response.mcp_call.failed" => {
            Ok(ServiceEvent::McpCallFinished)
        }
        "response.done" => ends::response_done(event),
        // Stand-ins for the service name the event after the status.
        "response.completed" | "response.cancelled" | "response.failed" | "response.incomplete" => {
            ends::ended_as(kind, event)
        }
        _ => return None,
    })
}

fn session_info(event: &Map<String, Value>) -> SessionInfo {
    object(event, "session").map(SessionInfo::read).unwrap_or_default()
}

fn service_error(event: &Map<String, Value>) -> ServiceError {
    let nested = object(event, "error");
    // Gateways give a sentence in place of the object, or put its members beside the event's own.
    let error = nested.or(Some(event));
    let message = match event.get("error") {
        Some(Value::String(text)) => bounded(text, 1_000),
        _ => short(error, "message"),
    };
    ServiceError {
        kind: short(nested, "type"),
        code: short(error, "code"),
        message,
        param: short(error, "param"),
        event_id: short(nested, "event_id"),
        reported_as: short(Some(event), "event_id"),
    }
}

fn part(event: &Map<String, Value>) -> Result<Part, String> {
    Ok(Part { item_id: id(event, "item_id")?, content_index: number(event, "content_index") })
}

/// An event that needs no action. Those of a response, also unknown ones, show that it lives; so do its
/// items on their way into the conversation, which name no response.
fn ignored(kind: &str, event: &Map<String, Value>) -> ServiceEvent<'static> {
    let response_id = if kind.starts_with("response.") {
        Some(short_id(event, "response_id"))
    } else {
        let item = object(event, "item").filter(|_| kind.starts_with("conversation.item."));
        let theirs = |item: &Map<String, Value>| {
            text_of(item, "role") == "assistant"
                || matches!(text_of(item, "type").as_str(), "function_call" | "mcp_call")
        };
        item.is_some_and(theirs).then(String::new)
    };
    ServiceEvent::Ignored { kind: bounded(kind, MAX_ID_BYTES).into(), response_id }
}

fn audio_done(event: &Map<String, Value>) -> Event {
    Ok(ServiceEvent::AudioDone {
        response_id: id(event, "response_id")?,
        item_id: id(event, "item_id")?,
    })
}

fn reply_delta(event: &Map<String, Value>) -> Event {
    Ok(ServiceEvent::ReplyTextDelta {
        response_id: id(event, "response_id")?,
        part: part(event)?,
        text: text_of(event, "delta"),
    })
}

fn reply_text(event: &Map<String, Value>, key: &str) -> Event {
    Ok(ServiceEvent::ReplyText {
        response_id: id(event, "response_id")?,
        part: part(event)?,
        text: text_of(event, key),
    })
}

fn object<'v>(map: &'v Map<String, Value>, key: &str) -> Option<&'v Map<String, Value>> {
    map.get(key).and_then(Value::as_object)
}

fn text_of(map: &Map<String, Value>, key: &str) -> String {
    map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(map: &Map<String, Value>, key: &str) -> u64 {
    map.get(key).and_then(Value::as_u64).unwrap_or_default()
}

/// A text for people or a word, cut to 1,000 bytes. Whole numbers are taken as text: error codes of
/// gateways in front of the service are sometimes numbers. A fraction or a power is no code, and
/// its spelling is not kept by the parser.
fn short(map: Option<&Map<String, Value>>, key: &str) -> String {
    match map.and_then(|map| map.get(key)) {
        Some(Value::String(text)) => bounded(text, 1_000),
        Some(Value::Number(number)) if !number.is_f64() => number.to_string(),
        _ => String::new(),
    }
}

fn id(map: &Map<String, Value>, key: &str) -> Result<String, String> {
    let text = map.get(key).and_then(Value::as_str).unwrap_or_default();
    if text.len() > MAX_ID_BYTES {
        return Err(format!("a {key} of {} bytes", text.len()));
    }
    Ok(text.to_owned())
}

/// An id that the call can do without: one that is too long is none.
fn short_id(map: &Map<String, Value>, key: &str) -> String {
    id(map, key).unwrap_or_default()
}

/// A text without what nobody sees at its ends: blanks, and the characters without a width that
/// services and keyboards leave there.
pub(in crate::call) fn trimmed(text: &str) -> &str {
    text.trim_matches(is_blank)
}

/// See [`trimmed`].
pub(in crate::call) fn is_blank(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '\u{200b}' | '\u{2060}' | '\u{feff}')
}

/// At most `limit` bytes of a text, cut between characters.
pub(in crate::call) fn bounded_str(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// The same as an owned text.
pub(in crate::call) fn bounded(text: &str, limit: usize) -> String {
    bounded_str(text, limit).to_owned()
}

#[cfg(test)]
mod tests;
