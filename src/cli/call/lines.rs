//! What a `call` prints: one line for each message of the daemon that says something to a person.

use serde_json::Value;

use crate::cli::screen::plain;

/// The line for a message of the daemon. `None` for messages that are not shown.
pub(super) fn line(message: &Value) -> Option<String> {
    let text = |key: &str| plain(message[key].as_str().unwrap_or_default());
    let ms = |key: &str| message[key].as_u64().unwrap_or_default();
    Some(match message["type"].as_str()? {
        "transcript" if message["role"] == "user" => format!("you: {}", text("text")),
        "transcript" => format!("assistant: {}", text("text")),
        "transcript_failed" => "you: (no transcript)".to_owned(),
        "call_state" => state_line(message)?,
        "tool" if message["state"] == "running" => format!("tool: {} running", text("name")),
        "tool" => format!("tool: {} {} after {} ms", text("name"), text("state"), ms("ms")),
        "latency" => format!("latency: first audio after {} ms", ms("first_audio_ms")),
        "error" => format!("notice: {} ({})", text("message"), text("code")),
        _ => return None,
    })
}

fn state_line(message: &Value) -> Option<String> {
    let text = |key: &str| message[key].as_str().map(plain);
    let state = text("state")?;
    let detail = match state.as_str() {
        "active" if message["service"] == "simulator" => {
            Some("the simulator answers, not the real model".to_owned())
        }
        "reconnecting" => text("message"),
        "ended" => text("reason"),
        _ => None,
    };
    Some(match detail {
        Some(detail) => format!("state: {state} ({detail})"),
        None => format!("state: {state}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_become_lines() {
        for (message, expected) in [
            (
                json!({"type": "transcript", "role": "user", "text": "Hi\u{1b}[2J\n"}),
                "you: Hi\u{fffd}[2J",
            ),
            (json!({"type": "transcript", "role": "assistant", "text": "Yes."}), "assistant: Yes."),
            (json!({"type": "transcript_failed", "item_id": "u1"}), "you: (no transcript)"),
            (json!({"type": "call_state", "state": "connecting"}), "state: connecting"),
            (json!({"type": "call_state", "state": "active", "service": "azure"}), "state: active"),
            (
                json!({"type": "call_state", "state": "ended", "reason": "idle", "message": "m"}),
                "state: ended (idle)",
            ),
            (json!({"type": "tool", "name": "t", "state": "running", "ms": 0}), "tool: t running"),
            (
                json!({"type": "tool", "name": "t", "state": "done", "ms": 7}),
                "tool: t done after 7 ms",
            ),
            (
                json!({"type": "latency", "first_audio_ms": 412}),
                "latency: first audio after 412 ms",
            ),
            (json!({"type": "error", "code": "c", "message": "M."}), "notice: M. (c)"),
        ] {
            assert_eq!(line(&message).as_deref(), Some(expected), "{message}");
        }
    }

    #[test]
    fn other_messages_are_silent() {
        for message in [
            json!(null),
            json!({"type": 1}),
            json!({"type": "hello"}),
            json!({"type": "transcript_delta", "role": "assistant", "text": "x"}),
            json!({"type": "call_state"}),
        ] {
            assert_eq!(line(&message), None, "{message}");
        }
    }
}
