//! Commands to the service, as JSON text.
//!
//! Each kind has a fixed `event_id`: the service names it in the `error` event when the command
//! fails, which tells a refused configuration from a refused truncation.

use serde_json::{Value, json};

use super::session::Dialect;

/// The text before the base64 of an `input_audio_buffer.append`: the hot path writes audio between
/// two constants.
pub const APPEND_PREFIX: &str = "{\"type\":\"input_audio_buffer.append\",\"audio\":\"";
/// The text after the base64 of an `input_audio_buffer.append`.
pub const APPEND_SUFFIX: &str = "\"}";

/// `event_id` of `session.update`.
pub const EVENT_CONFIG: &str = "cfg1";
/// `event_id` of a `session.update` that changes the tools of a running call.
pub const EVENT_TOOLS: &str = "tools";
/// `event_id` of every `response.create`.
pub const EVENT_CREATE: &str = "create";
/// The key in the metadata of every `response.create`.
pub(super) const TAG: &str = "client_event_id";
/// `event_id` of every `response.cancel`.
pub const EVENT_CANCEL: &str = "cancel";
/// `event_id` of every `input_audio_buffer.commit`.
pub const EVENT_COMMIT: &str = "commit";
/// `event_id` of every `conversation.item.truncate`.
pub const EVENT_TRUNCATE: &str = "truncate";
/// `event_id` of every `conversation.item.delete`.
pub const EVENT_DELETE: &str = "delete";
/// The beginning of the `event_id` of every item that is sent again to a new session; the item's id or
/// the call's follows.
pub const EVENT_REPLAY: &str = "replay_";
/// The longest id of an item that the service takes from a client.
const MAX_ITEM_ID_BYTES: usize = 32;
/// `event_id` of every `conversation.item.create`.
pub const EVENT_ITEM: &str = "item";

/// What the service tells of a message or an output that was added to the conversation, in its dialects.
pub(in crate::call) const CONFIRMED: [&str; 2] =
    ["conversation.item.created", "conversation.item.added"];

/// One item to create in the new session's conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::call) enum Item<'a> {
    /// Words of the user.
    User { id: &'a str, text: &'a str },
    /// Words of the assistant.
    Assistant { id: &'a str, text: &'a str },
    /// A function call.
    Call { call_id: &'a str, name: &'a str, arguments: &'a str },
    /// The output of the call before it.
    Output { call_id: &'a str, output: &'a str },
}

/// `session.update` with the complete `session` object.
#[must_use]
pub fn session_update(session: &Value) -> String {
    json!({"type": "session.update", "event_id": EVENT_CONFIG, "session": session}).to_string()
}

/// The service only reports speech in this session, in either dialect: it does not answer, cancel or truncate by
/// itself. Where it detects no turns nothing changes.
pub(in crate::call) fn leave_turns_to_us(session: &mut Value) {
    for path in ["/turn_detection", "/audio/input/turn_detection"] {
        let Some(Value::Object(turns)) = session.pointer_mut(path) else { continue };
        for key in ["create_response", "interrupt_response"] {
            turns.insert(key.to_owned(), false.into());
        }
        if let Some(truncates) = turns.get_mut("auto_truncate") {
            *truncates = false.into();
        }
    }
}

/// `session.update` with the tools alone: all else stays as it is.
#[must_use]
pub fn tools_update(tools: &Value, dialect: Dialect) -> String {
    let mut session = json!({ "tools": tools });
    if dialect == Dialect::Ga {
        session["type"] = "realtime".into();
    }
    json!({"type": "session.update", "event_id": EVENT_TOOLS, "session": session}).to_string()
}

/// An item of the conversation for a new session. A text of the assistant has another content type in
/// the GA dialect (OpenAI's realtime reference, `RealtimeConversationItemAssistantMessage`).
#[must_use]
pub(in crate::call) fn replay(item: &Item<'_>, dialect: Dialect) -> String {
    replay_behind("", item, dialect)
}

/// Whether an item that was sent again has its old id in the new session.
#[must_use]
pub(in crate::call) fn keeps_id(id: &str) -> bool {
    id.len() <= MAX_ITEM_ID_BYTES
}

/// The same, for a place behind another item; an empty `before` is the end of the conversation.
#[must_use]
pub(in crate::call) fn replay_behind(before: &str, item: &Item<'_>, dialect: Dialect) -> String {
    let said = match dialect {
        Dialect::Beta => "text",
        Dialect::Ga => "output_text",
    };
    let message = |id: &str, role: &str, kind: &str, text: &str| {
        let content = json!([{"type": kind, "text": text}]);
        let mut message = json!({"type": "message", "role": role, "content": content});
        if keeps_id(id) {
            message["id"] = id.into();
        }
        message
    };
    let (id, item) = match *item {
        Item::User { id, text } => (id, message(id, "user", "input_text", text)),
        Item::Assistant { id, text } => (id, message(id, "assistant", said, text)),
        Item::Call { call_id, name, arguments } => (
            call_id,
            json!({"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}),
        ),
        Item::Output { call_id, output } => {
            (call_id, json!({"type": "function_call_output", "call_id": call_id, "output": output}))
        }
    };
    let event_id = format!("{EVENT_REPLAY}{id}");
    let mut create =
        json!({"type": "conversation.item.create", "event_id": event_id, "item": item});
    if !before.is_empty() {
        create["previous_item_id"] = before.into();
    }
    create.to_string()
}

/// Takes an item out of the conversation.
#[must_use]
pub fn item_delete(item_id: &str) -> String {
    json!({"type": "conversation.item.delete", "event_id": EVENT_DELETE, "item_id": item_id})
        .to_string()
}

/// The output of a function call. `output` is a string for the service, JSON or not.
#[must_use]
pub fn function_call_output(call_id: &str, output: &str) -> String {
    item(&json!({"type": "function_call_output", "call_id": call_id, "output": output}))
}

/// A typed turn of the user.
#[must_use]
pub fn user_text(text: &str) -> String {
    item(&json!({
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": text}],
    }))
}

/// The answer to an `mcp_approval_request`.
#[must_use]
pub fn approval(request_id: &str, approve: bool) -> String {
    item(&json!({
        "type": "mcp_approval_response",
        "approval_request_id": request_id,
        "approve": approve,
    }))
}

/// A `response.create`: the service answers to what is in the conversation.
#[must_use]
pub fn response_create(tagged: bool) -> String {
    request(json!({}), tagged)
}

/// A `response.create` that goes on with a reply which broke off. The instructions of a response stand in
/// place of the session's, so those come first.
#[must_use]
pub fn go_on(instructions: &str, tagged: bool) -> String {
    let more = "Your last message broke off in the middle. Go on exactly where it ends, without a greeting and \
                without repeating any of it.";
    request(json!({"instructions": format!("{instructions}\n\n{more}")}), tagged)
}

/// A `response.create` that asks the user aloud about `asked`: what waits for a yes. It calls nothing, since what
/// waits would be called again.
#[must_use]
pub fn ask(instructions: &str, asked: &str, tagged: bool) -> String {
    let more = format!(
        "This is not done yet: the user must agree first. {asked}\nThe user's screen shows the question with two \
         buttons, and only these count. Ask aloud now whether you may do it, in one short sentence in the \
         language of the conversation, and say that the answer is given on the screen."
    );
    let instructions = format!("{instructions}\n\n{more}");
    request(json!({"instructions": instructions, "tool_choice": "none"}), tagged)
}

/// A `response.create` that speaks `text`. Dated api-versions take a pre-generated message (no model
/// call); the GA dialect has none, so there the model is told what to say.
#[must_use]
pub fn greeting(text: &str, dialect: Dialect, tagged: bool) -> String {
    let response = match dialect {
        Dialect::Beta => json!({"pre_generated_assistant_message": {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": text}],
        }}),
        Dialect::Ga => json!({
            "instructions": format!("Say exactly the following words and nothing else: {text}"),
        }),
    };
    request(response, tagged)
}

/// A `response.create`. `tagged`: with metadata, which the service gives back in the response's own
/// events, in both dialects. So a response that we have asked for is told from one that the service makes by itself.
fn request(mut response: Value, tagged: bool) -> String {
    if tagged {
        response["metadata"] = json!({ TAG: EVENT_CREATE });
    }
    json!({"type": "response.create", "event_id": EVENT_CREATE, "response": response}).to_string()
}

/// `response.cancel` of one response.
#[must_use]
pub fn response_cancel(response_id: &str) -> String {
    if response_id.is_empty() {
        return json!({"type": "response.cancel", "event_id": EVENT_CANCEL}).to_string();
    }
    json!({"type": "response.cancel", "event_id": EVENT_CANCEL, "response_id": response_id})
        .to_string()
}

/// `conversation.item.truncate` of an item's audio after `audio_end_ms`.
#[must_use]
pub fn truncate(item_id: &str, audio_end_ms: u64) -> String {
    json!({
        "type": "conversation.item.truncate",
        "event_id": EVENT_TRUNCATE,
        "item_id": item_id,
        "content_index": 0,
        "audio_end_ms": audio_end_ms,
    })
    .to_string()
}

/// `input_audio_buffer.commit`: what was said since the last one is a turn of the user.
#[must_use]
pub fn input_commit() -> String {
    json!({"type": "input_audio_buffer.commit", "event_id": EVENT_COMMIT}).to_string()
}

fn item(item: &Value) -> String {
    json!({"type": "conversation.item.create", "event_id": EVENT_ITEM, "item": item}).to_string()
}
