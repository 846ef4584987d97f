//! The `/ws` text messages (`docs/protocol.md`): parse and write.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::CallSettings;
use super::service::{Part, bounded_str, member, trimmed};
use crate::lenient::read;

/// Longest typed turn, in UTF-16 code units: what `maxlength` and `length` count in a browser, so
/// that the page's field and the daemon agree about every text. In UTF-8 it has three times as many
/// bytes at most.
pub const MAX_TEXT_UNITS: usize = 8 * 1024;
/// Most text sent in one transcript message, in bytes.
const MAX_TRANSCRIPT_BYTES: usize = 64 * 1024;
/// Longest `ping` id as written in JSON, in bytes.
const MAX_PING_BYTES: usize = 128;
/// Largest binary frame a client may send, in bytes; told in `hello`.
pub const MAX_FRAME_BYTES: usize = 65_536;

/// A text message from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// A typed turn, not blank, at most [`MAX_TEXT_UNITS`].
    Text(Cow<'a, str>),
    /// A typed turn that is too long: refused, the call goes on.
    TextTooLong,
    /// Stop the reply.
    Interrupt,
    /// The user's spoken turn is over: answer it.
    EndTurn,
    /// Answers a question of ours.
    Confirm {
        /// The question's id.
        id: Cow<'a, str>,
        /// Whether the user agrees.
        allow: bool,
    },
    /// End the call.
    HangUp,
    /// The client closes this connection and means to come back: hold the call for it.
    Leave,
    /// How much of the current reply has been heard.
    Played {
        /// From the reply's start, in ms.
        ms: u64,
    },
    /// Answer at once with the same id.
    Ping {
        /// A JSON scalar as the client wrote it.
        id: Cow<'a, str>,
    },
    /// Unknown type, or a known one without its value: ignored.
    Unknown,
}

/// Reads one text message of the client.
///
/// # Errors
/// A sentence, when the text is no JSON object with a string `type`.
pub fn parse(text: &str) -> Result<ClientMessage<'_>, String> {
    // A byte order mark is passed over, so that what is looked up in the text finds its place, too.
    let text = text.trim_start_matches('\u{feff}');
    let (value, _) =
        read(text).map_err(|error| format!("A text message must be JSON: {error}."))?;
    let Value::Object(mut message) = value else {
        return Err("A text message must be a JSON object.".to_owned());
    };
    let Some(kind) = message.get("type").and_then(Value::as_str) else {
        return Err("A text message must have a string \"type\".".to_owned());
    };
    Ok(match kind {
        "text" => typed_turn(message.remove("text")),
        "interrupt" => ClientMessage::Interrupt,
        "end_turn" => ClientMessage::EndTurn,
        "hang_up" => ClientMessage::HangUp,
        "leave" => ClientMessage::Leave,
        "confirm" => match (message.remove("allow"), message.remove("id")) {
            (Some(Value::Bool(allow)), Some(Value::String(id))) => {
                ClientMessage::Confirm { id: id.into(), allow }
            }
            _ => ClientMessage::Unknown,
        },
        "played" => {
            played(&message).map_or(ClientMessage::Unknown, |ms| ClientMessage::Played { ms })
        }
        "ping" => ping(&message, text),
        _ => ClientMessage::Unknown,
    })
}

fn typed_turn(text: Option<Value>) -> ClientMessage<'static> {
    match text {
        Some(Value::String(text)) if is_too_long(&text) => ClientMessage::TextTooLong,
        Some(Value::String(text)) if !trimmed(&text).is_empty() => ClientMessage::Text(text.into()),
        _ => ClientMessage::Unknown,
    }
}

/// Whether a typed turn is over [`MAX_TEXT_UNITS`]. A text has no more of these than bytes, so short
/// ones are not counted through.
#[must_use]
pub fn is_too_long(text: &str) -> bool {
    text.len() > MAX_TEXT_UNITS && text.encode_utf16().count() > MAX_TEXT_UNITS
}

/// Whole milliseconds; players often count in fractions, which are cut off.
fn played(message: &Map<String, Value>) -> Option<u64> {
    let ms = message.get("ms")?;
    ms.as_u64().or_else(|| {
        let ms = Duration::try_from_secs_f64(ms.as_f64()? / 1_000.0).ok()?;
        u64::try_from(ms.as_millis()).ok()
    })
}

fn ping<'a>(message: &Map<String, Value>, text: &'a str) -> ClientMessage<'a> {
    let scalar = |id: &&Value| !id.is_object() && !id.is_array();
    // The id goes back as it was written: reading a number would round it.
    let written = message.get("id").filter(scalar).and_then(|_| member(text, "id"));
    match written {
        Some(id) if id.len() <= MAX_PING_BYTES => ClientMessage::Ping { id: id.into() },
        _ => ClientMessage::Unknown,
    }
}

/// The states of `call_state` before the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallState<'a> {
    /// The service is being called.
    Connecting,
    /// Both sides can talk. `service` is `azure` or `simulator`.
    Active {
        /// What answers.
        service: &'a str,
        /// The service finds the ends of spoken turns; else the client must send `end_turn`.
        detects: bool,
    },
    /// The service was lost. The call goes on with a new session of it, or ends.
    Reconnecting {
        /// A fixed word.
        reason: &'a str,
        /// A sentence for people.
        message: &'a str,
    },
    /// The call is over.
    Ended {
        /// A fixed word.
        reason: &'a str,
        /// A sentence for people.
        message: &'a str,
    },
}

/// What `hello` says.
#[derive(Debug)]
pub struct Hello<'a> {
    /// The call's public id.
    pub session: &'a str,
    /// The secret to take the call up again with, good once.
    pub resume: &'a str,
    /// The client has taken its call up again.
    pub resumed: bool,
    /// Bytes of the microphone that have come in this call, over all its connections: from there the
    /// client sends it again. `None` in a new call.
    pub heard: Option<u64>,
    /// The call's limits.
    pub settings: &'a CallSettings,
}

/// `hello`: the first message on a client's connection.
#[must_use]
pub fn hello(hello: &Hello<'_>) -> String {
    let Hello { session, resume, resumed, heard, settings } = hello;
    let mut hello = json!({
        "type": "hello",
        "session": session,
        "resume": resume,
        "resumed": resumed,
        "limits": {
            "max_seconds": settings.max_duration.as_secs(),
            "idle_seconds": settings.idle.as_secs(),
            "resume_seconds": settings.resume.as_secs(),
            "max_frame_bytes": MAX_FRAME_BYTES,
        },
    });
    if let Some(heard) = heard {
        hello["heard"] = (*heard).into();
    }
    let chosen = settings.chosen.as_ref().map(|chosen| &chosen.name);
    let assistant = chosen.unwrap_or(&settings.assistant);
    if !assistant.is_empty() {
        hello["assistant"] = assistant.as_str().into();
    }
    hello.to_string()
}

/// `call_state`.
#[must_use]
pub fn call_state(state: CallState<'_>) -> String {
    match state {
        CallState::Connecting => json!({"type": "call_state", "state": "connecting"}),
        CallState::Active { service, detects: true } => {
            json!({"type": "call_state", "state": "active", "service": service})
        }
        CallState::Reconnecting { reason, message } => json!({
            "type": "call_state", "state": "reconnecting", "reason": reason, "message": message,
        }),
        CallState::Active { service, detects: false } => {
            json!({"type": "call_state", "state": "active", "service": service, "turns": "client"})
        }
        CallState::Ended { reason, message } => json!({
            "type": "call_state", "state": "ended", "reason": reason, "message": message,
        }),
    }
    .to_string()
}

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The person at the client.
    User,
    /// The model.
    Assistant,
}

/// `transcript`: all words of an item.
#[must_use]
pub fn transcript(role: Role, part: &Part, text: &str) -> String {
    words("transcript", role, part, text)
}

/// `transcript_delta`: more words of an item.
#[must_use]
pub fn transcript_delta(role: Role, part: &Part, text: &str) -> String {
    words("transcript_delta", role, part, text)
}

/// Whether a message is a `transcript_delta`: its words come again in `transcript`. Within other messages
/// these quotes would be escaped, or would not be at the end: keys are in the order of the alphabet.
#[must_use]
pub fn is_caption(json: &str) -> bool {
    json.ends_with(r#""type":"transcript_delta"}"#)
}

/// What `confirm` asks.
#[derive(Debug)]
pub struct Confirm<'a> {
    /// By which it is answered.
    pub id: &'a str,
    /// What would be run.
    pub tool: &'a str,
    /// What that does, in the words of its maker; empty if nobody says.
    pub about: &'a str,
    /// The MCP server of the voice service that has it; `None` for a tool of this daemon.
    pub server: Option<&'a str>,
    /// Exactly what it would be run with: JSON.
    pub arguments: &'a str,
    /// How long an answer counts; 0 if none does any more.
    pub seconds: u64,
}

/// `confirm`: the user is asked.
#[must_use]
pub fn confirm(asked: &Confirm<'_>) -> String {
    let Confirm { id, tool, about, server, arguments, seconds } = asked;
    let arguments: Value =
        read(arguments).map_or_else(|_| Value::from(*arguments), |(value, _)| value);
    let mut message = json!({"type": "confirm", "id": id, "tool": tool, "arguments": arguments, "seconds": seconds});
    if !about.is_empty() {
        message["about"] = (*about).into();
    }
    if let Some(server) = server {
        message["server"] = (*server).into();
    }
    message.to_string()
}

/// Whether a message is a `confirm`. A client that comes back is asked anew what is still open.
#[must_use]
pub fn is_question(json: &str) -> bool {
    json.ends_with(r#""type":"confirm"}"#)
}

/// `transcript_failed`: what the user said in this item has no transcript.
#[must_use]
pub fn transcript_failed(item_id: &str) -> String {
    of_item("transcript_failed", item_id)
}

/// `speech_started`: the client drops what it has queued to play. `item_id` is the turn's item, or empty
/// if there is none: for a typed turn.
#[must_use]
pub fn speech_started(item_id: &str) -> String {
    of_item("speech_started", item_id)
}

/// `speech_stopped`, with the same `item_id`.
#[must_use]
pub fn speech_stopped(item_id: &str) -> String {
    of_item("speech_stopped", item_id)
}

/// `hold`: the client stops playing and keeps what it has, until [`resume_playback`] or [`speech_started`].
#[must_use]
pub fn hold(item_id: &str) -> String {
    of_item("hold", item_id)
}

/// `resume_playback`: the client goes on where it stopped.
#[must_use]
pub fn resume_playback() -> String {
    bare("resume_playback")
}

/// An item without an id is not named; nor is the first part of one, which is almost always the only.
fn words(kind: &str, role: Role, part: &Part, text: &str) -> String {
    let role = match role {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let text = bounded_str(text, MAX_TRANSCRIPT_BYTES);
    let mut message = json!({"type": kind, "role": role, "text": text});
    if !part.item_id.is_empty() {
        message["item_id"] = json!(part.item_id);
    }
    if part.content_index > 0 {
        message["content_index"] = json!(part.content_index);
    }
    message.to_string()
}

fn of_item(kind: &str, item_id: &str) -> String {
    if item_id.is_empty() {
        return bare(kind);
    }
    json!({"type": kind, "item_id": item_id}).to_string()
}

/// `response_started`.
#[must_use]
pub fn response_started() -> String {
    bare("response_started")
}

/// `response_done` with the service's word for the outcome.
#[must_use]
pub fn response_done(status: &str) -> String {
    json!({"type": "response_done", "status": status}).to_string()
}

/// What a tool is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolState {
    /// Begun.
    Running,
    /// It did its work.
    Done,
    /// It failed, was too slow, or is unknown.
    Failed,
}

/// `tool`: `ms` since it began.
#[must_use]
pub fn tool(name: &str, state: ToolState, ms: u64) -> String {
    let state = match state {
        ToolState::Running => "running",
        ToolState::Done => "done",
        ToolState::Failed => "failed",
    };
    json!({"type": "tool", "name": name, "state": state, "ms": ms}).to_string()
}

/// `latency`: from the end of the user's turn to the first reply audio leaving, in ms.
#[must_use]
pub fn latency(first_audio_ms: u64) -> String {
    json!({"type": "latency", "first_audio_ms": first_audio_ms}).to_string()
}

/// `error`: something the user should know; the call goes on.
#[must_use]
pub fn error(code: &str, message: &str) -> String {
    json!({"type": "error", "code": code, "message": message}).to_string()
}

/// `usage`: totals of the call.
#[must_use]
pub fn usage(input_tokens: u64, output_tokens: u64, seconds: u64) -> String {
    json!({
        "type": "usage",
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "seconds": seconds,
    })
    .to_string()
}

/// `pong`: `id` is JSON text as the client wrote it.
#[must_use]
pub fn pong(id: &str) -> String {
    format!("{{\"type\":\"pong\",\"id\":{id}}}")
}

fn bare(kind: &str) -> String {
    json!({"type": kind}).to_string()
}

/// A text of the service as the end of one of our sentences.
pub(super) fn quoted(message: &str) -> String {
    match message.trim() {
        "" => "it gives no reason.".to_owned(),
        text if text.ends_with(['.', '!', '?']) => text.to_owned(),
        text => format!("{text}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_read() {
        let cases = [
            (r#"{"type":"text","text":"hi"}"#, ClientMessage::Text("hi".into())),
            (r#"{"text":"h\u0069","more":[1],"type":"text"}"#, ClientMessage::Text("hi".into())),
            (r#"{"type":"interrupt"}"#, ClientMessage::Interrupt),
            (r#"{"type":"end_turn","more":1}"#, ClientMessage::EndTurn),
            (
                r#"{"type":"confirm","allow":true,"id":"c1-1"}"#,
                ClientMessage::Confirm { id: "c1-1".into(), allow: true },
            ),
            (r#"{"type":"hang_up","why":{}}"#, ClientMessage::HangUp),
            (r#"{"type":"leave"}"#, ClientMessage::Leave),
            (r#"{"type":"played","ms":12}"#, ClientMessage::Played { ms: 12 }),
            (r#"{"type":"played","ms":12.9}"#, ClientMessage::Played { ms: 12 }),
            (r#"{"type":"ping","id":7}"#, ClientMessage::Ping { id: "7".into() }),
            (r#"{"type":"ping","id":"a\"b"}"#, ClientMessage::Ping { id: r#""a\"b""#.into() }),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn unknown_and_incomplete_messages_are_ignored() {
        for text in [
            r#"{"type":"later"}"#,
            r#"{"type":"text"}"#,
            r#"{"type":"text","text":null}"#,
            r#"{"type":"text","text":"  "}"#,
            r#"{"type":"confirm","id":"c1-1"}"#,
            r#"{"type":"confirm","id":"c1-1","allow":"true"}"#,
            r#"{"type":"confirm","id":"c1-1","allow":1}"#,
            r#"{"type":"confirm","allow":true}"#,
            r#"{"type":"confirm","id":7,"allow":true}"#,
            r#"{"type":"played","ms":-1}"#,
            r#"{"type":"played","ms":"1"}"#,
            r#"{"type":"played","ms":1e300}"#,
            r#"{"type":"ping"}"#,
            r#"{"type":"ping","id":[1]}"#,
            r#"{"type":"ping","id":{"a":1}}"#,
        ] {
            assert_eq!(parse(text), Ok(ClientMessage::Unknown), "{text}");
        }
        let long = format!(r#"{{"type":"ping","id":"{}"}}"#, "x".repeat(128));
        assert_eq!(parse(&long), Ok(ClientMessage::Unknown));
    }

    #[test]
    fn what_is_no_object_with_a_type_is_an_error() {
        for text in ["", "x", "[]", "1", "{}", r#"{"type":1}"#, r#"{"type":"text"} x"#] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn text_is_bounded() {
        // One UTF-16 code unit each, of one to three bytes; the last one is two units of four bytes.
        for (letter, units) in [("x", 1), ("\u{e9}", 1), ("\u{4e2d}", 1), ("\u{1f600}", 2)] {
            let message = |count: usize| json!({"type": "text", "text": letter.repeat(count)});
            let most = MAX_TEXT_UNITS / units;
            let fits = message(most).to_string();
            assert!(matches!(parse(&fits), Ok(ClientMessage::Text(_))), "{letter}");
            assert_eq!(parse(&message(most + 1).to_string()), Ok(ClientMessage::TextTooLong));
            assert!(is_too_long(&letter.repeat(most + 1)) && !is_too_long(&letter.repeat(most)));
        }
    }

    /// The longest message with a typed turn that fits: each unit written as an escape.
    #[test]
    fn the_longest_typed_turn_fits_into_a_message() {
        let text = format!(r#"{{"type":"text","text":"{}"}}"#, r"\u4e2d".repeat(MAX_TEXT_UNITS));
        assert!(text.len() < MAX_FRAME_BYTES);
        assert!(matches!(parse(&text), Ok(ClientMessage::Text(_))));
    }

    #[test]
    fn a_pong_holds_the_id_as_written() {
        for id in ["1.50", "123456789012345678901234567890", "null", "true", "\"\\u00e4\""] {
            let text = format!(r#"{{ "id" : {id} , "type":"ping"}}"#);
            let Ok(ClientMessage::Ping { id: read }) = parse(&text) else { panic!("{text}") };
            assert_eq!(pong(&read), format!(r#"{{"type":"pong","id":{id}}}"#));
        }
    }

    #[test]
    fn a_pong_never_holds_another_id_than_the_one_that_was_judged() {
        let text = r#"{"type":"ping","id":{"no":"scalar"},"\u0069d":2}"#;
        assert_eq!(parse(text), Ok(ClientMessage::Ping { id: "2".into() }));
        let text = r#"{"type":"ping","id":1,"\u0069d":[2]}"#;
        assert_eq!(parse(text), Ok(ClientMessage::Unknown));
    }

    #[test]
    fn the_samples_messages_keep_their_form() {
        let same = |text: &str, expected: Value| {
            assert_eq!(serde_json::from_str::<Value>(text).unwrap(), expected);
        };
        same(&speech_started(""), json!({"type": "speech_started"}));
        same(
            &transcript(Role::User, &Part::default(), "a\"b"),
            json!({"type": "transcript", "role": "user", "text": "a\"b"}),
        );
        let ended = call_state(CallState::Ended { reason: "idle", message: "m" });
        same(
            &ended,
            json!({"type": "call_state", "state": "ended", "reason": "idle", "message": "m"}),
        );
    }
}
