//! The `/ws` text messages: what is taken from one, and what goes back for a `ping`.

use serde_json::Value;
use voicelived::call::client::{self, ClientMessage, MAX_TEXT_UNITS};

/// A text message of a client.
pub fn fuzz_client_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // A byte order mark is passed over (RFC 8259, section 8.1).
    let value: Result<Value, _> = serde_json::from_str(text.trim_start_matches('\u{feff}'));
    if value.is_err() && client::parse(text).is_ok() {
        // Half a character may be escaped in JSON, though `serde_json` does not take it; and a bare
        // control character is forgiven.
        let escape = text.to_ascii_lowercase().contains("\\ud");
        assert!(escape || text.contains(|letter| letter < ' '), "{text:?}");
        return;
    }
    let kind = value.as_ref().ok().filter(|value| value.is_object()).map(|value| &value["type"]);
    let Some(kind) = kind.and_then(Value::as_str) else {
        assert!(client::parse(text).is_err(), "no object with a type, and accepted");
        return;
    };
    let message = client::parse(text).expect("an object with a type");
    let value = value.as_ref().expect("checked above");
    match &message {
        ClientMessage::Text(turn) => {
            assert_eq!(("text", Some(turn.as_ref())), (kind, value["text"].as_str()));
            assert!(!turn.trim().is_empty() && turn.encode_utf16().count() <= MAX_TEXT_UNITS);
        }
        ClientMessage::TextTooLong => {
            let units = value["text"].as_str().map_or(0, |turn| turn.encode_utf16().count());
            assert!(units > MAX_TEXT_UNITS, "{units}");
        }
        ClientMessage::Interrupt => assert_eq!(kind, "interrupt"),
        ClientMessage::EndTurn => assert_eq!(kind, "end_turn"),
        ClientMessage::Confirm { id, allow } => {
            assert_eq!((kind, value["id"].as_str()), ("confirm", Some(id.as_ref())));
            assert_eq!(value["allow"], *allow);
        }
        ClientMessage::HangUp => assert_eq!(kind, "hang_up"),
        ClientMessage::Leave => assert_eq!(kind, "leave"),
        ClientMessage::Played { ms } => {
            let sent = value["ms"].as_f64().expect("a number");
            assert!(sent >= 0.0 && *ms as f64 <= sent, "{ms} of {sent}");
        }
        ClientMessage::Ping { id } => check_pong(id, &value["id"]),
        ClientMessage::Unknown => {}
    }
    let spaced = format!(" \t{text}\r\n");
    assert_eq!(client::parse(&spaced).as_ref(), Ok(&message), "blanks around it");
}

/// The `pong` is JSON, and its id is what the client sent.
fn check_pong(id: &str, sent: &Value) {
    let pong: Value = serde_json::from_str(&client::pong(id)).expect("a pong is JSON");
    assert_eq!(pong.as_object().map(serde_json::Map::len), Some(2));
    assert_eq!(pong["type"], "pong");
    assert_eq!(&pong["id"], sent);
    assert!(!sent.is_object() && !sent.is_array());
}
