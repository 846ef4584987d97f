//! The service's events: the scanner of the hot path and `serde_json` read the same from a text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use voicelived::call::service::{
    AudioDelta, FunctionCall, MAX_ID_BYTES, OwnedAudio, Parsed, ServiceEvent, parse, reply_audio,
};

/// The names of a reply audio delta in the two dialects.
const AUDIO: [&str; 2] = ["response.audio.delta", "response.output_audio.delta"];

/// Most bytes of a text for people.
const MAX_SHORT: usize = 1_000;

/// An event of the service.
pub fn fuzz_service_event(data: &[u8]) {
    check_hot_path(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let parsed = parse(text);
    // A byte order mark is passed over (RFC 8259, section 8.1).
    let value: Result<Value, _> = serde_json::from_str(text.trim_start_matches('\u{feff}'));
    if value.is_err() && parsed.is_ok() {
        // Half a character may be escaped in JSON, though `serde_json` does not take it; and a bare
        // control character is forgiven.
        let bare = |letter: char| letter < ' ' && !letter.is_ascii_whitespace();
        let in_string = text.contains(bare) || text.contains(['\t', '\n', '\r']);
        let escape = |digits: &str| text.to_ascii_lowercase().contains(&format!("\\ud{digits}"));
        assert!(in_string || ["8", "9", "a", "b", "c", "d", "e", "f"].iter().any(|d| escape(d)));
        return;
    }
    let Some(event) = value.as_ref().ok().and_then(Value::as_object) else {
        assert!(parsed.is_err(), "no JSON object, and accepted: {parsed:?}");
        return;
    };
    let Some(kind) = event.get("type").and_then(Value::as_str) else {
        assert!(parsed.is_err(), "an event without a type");
        return;
    };
    let Ok(parsed) = parsed else {
        assert!(has_long_id(event), "refused for no reason");
        return;
    };
    match &parsed {
        Parsed::Audio(delta) => check_audio(delta, &text[delta.base64.clone()], event),
        Parsed::AudioOwned(owned) => check_audio(&owned.delta(), &owned.base64, event),
        Parsed::Event(event) => {
            assert!(!AUDIO.contains(&kind), "an audio delta was missed");
            check_event(event);
        }
    }
    check_other_spelling(&parsed, text, event);
}

/// The hot path gets bytes that were not checked to be text. What it recognises is what the tree
/// says, as long as the base64 consists of base64's letters. Else the base64 does not decode, and
/// `parse` reads the message.
fn check_hot_path(message: &[u8]) {
    let Some(delta) = reply_audio(message) else {
        return;
    };
    let base64 = &message[delta.base64.clone()];
    if !base64.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte)) {
        return;
    }
    let text = std::str::from_utf8(message).expect("text");
    let event: Map<String, Value> = serde_json::from_str(text).expect("an object");
    check_audio(&delta, &text[delta.base64.clone()], &event);
    assert_eq!(parse(text), Ok(Parsed::Audio(delta)));
}

/// What the hot path read is what the tree says.
fn check_audio(delta: &AudioDelta<'_>, base64: &str, event: &Map<String, Value>) {
    let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
    assert!(AUDIO.contains(&text("type")));
    assert_eq!(delta.response_id, text("response_id"));
    assert_eq!(delta.item_id, text("item_id"));
    assert_eq!(base64, text("delta"));
    assert!(delta.response_id.len() <= MAX_ID_BYTES && delta.item_id.len() <= MAX_ID_BYTES);
    if let Ok(pcm) = STANDARD.decode(base64) {
        assert_eq!(delta.pcm_bytes, pcm.len());
    }
}

/// The same event with sorted keys and no needless escapes reads the same.
fn check_other_spelling(parsed: &Parsed<'_>, text: &str, event: &Map<String, Value>) {
    let plain = serde_json::to_string(event).expect("JSON");
    // Some fractions do not survive `serde_json`, which rounds them when they are read.
    if serde_json::from_str::<Map<String, Value>>(&plain).expect("JSON") != *event {
        return;
    }
    let again = parse(&plain).expect("the same event");
    let owned = |parsed: &Parsed<'_>, text: &str| match parsed {
        Parsed::Audio(delta) => Some(OwnedAudio {
            response_id: delta.response_id.to_owned(),
            item_id: delta.item_id.to_owned(),
            base64: text[delta.base64.clone()].to_owned(),
        }),
        Parsed::AudioOwned(owned) => Some(owned.clone()),
        Parsed::Event(_) => None,
    };
    match (owned(parsed, text), owned(&again, &plain)) {
        (None, None) => assert_eq!(*parsed, again),
        (one, other) => assert_eq!(one, other),
    }
}

fn check_event(event: &ServiceEvent<'_>) {
    let (ids, shorts): (Vec<&str>, Vec<&str>) = match event {
        ServiceEvent::SessionCreated(session) | ServiceEvent::SessionUpdated(session) => {
            (vec![&session.id, &session.model], vec![])
        }
        ServiceEvent::Error(error) => {
            (vec![], vec![&error.kind, &error.code, &error.message, &error.param, &error.event_id])
        }
        ServiceEvent::TokensLeft { .. } => (vec![], vec![]),
        ServiceEvent::Warning { code, message } => (vec![], vec![code, message]),
        ServiceEvent::UserTranscriptFailed { part, error } => {
            (vec![&part.item_id], vec![&error.code, &error.message])
        }
        ServiceEvent::UserTranscriptDelta { part, .. }
        | ServiceEvent::UserTranscript { part, .. } => (vec![&part.item_id], vec![]),
        ServiceEvent::Truncated { item_id, .. }
        | ServiceEvent::SpeechStarted { item_id }
        | ServiceEvent::SpeechStopped { item_id }
        | ServiceEvent::Committed { item_id } => (vec![item_id], vec![]),
        ServiceEvent::ResponseCreated { response_id, .. } => (vec![response_id], vec![]),
        ServiceEvent::ReplyTextDelta { response_id, part, .. }
        | ServiceEvent::ReplyText { response_id, part, .. } => {
            (vec![response_id, &part.item_id], vec![])
        }
        ServiceEvent::Words { response_id, words, .. } => {
            let ids = words.iter().map(|(part, _)| &*part.item_id);
            (ids.chain([&**response_id]).collect(), vec![])
        }
        ServiceEvent::AudioDone { response_id, item_id } => (vec![response_id, item_id], vec![]),
        ServiceEvent::FunctionCall(call) => {
            let FunctionCall { response_id, item_id, call_id, name, .. } = call.as_ref();
            (vec![response_id, item_id, call_id, name], vec![])
        }
        ServiceEvent::ResponseDone(done) => {
            let shorts = vec![&*done.status, &done.reason, &done.error.code, &done.error.message];
            (vec![&done.response_id], shorts)
        }
        ServiceEvent::Ignored { kind, response_id } => {
            (vec![kind, response_id.as_deref().unwrap_or_default()], vec![])
        }
        ServiceEvent::McpCallFinished => (vec![], vec![]),
    };
    assert!(ids.iter().all(|id| id.len() <= MAX_ID_BYTES), "{event:?}");
    assert!(shorts.iter().all(|text| text.len() <= MAX_SHORT), "{event:?}");
}

/// Whether an id is too long, wherever the call looks for ids.
fn has_long_id(event: &Map<String, Value>) -> bool {
    let long = |map: &Map<String, Value>| {
        ["response_id", "item_id", "id", "call_id", "name"].iter().any(|key| {
            map.get(*key).and_then(Value::as_str).is_some_and(|id| id.len() > MAX_ID_BYTES)
        })
    };
    long(event)
        || ["item", "response"]
            .iter()
            .filter_map(|key| event.get(*key).and_then(Value::as_object))
            .any(long)
}
