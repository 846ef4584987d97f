//! What events say of the items of a conversation: function calls, and requests for approval.
//!
//! An item is told by many events, and services differ in which of them has what: the arguments may
//! stand in the item, in an event of their own, or in `response.done` alone. So all of them are read
//! in the same way, and [`AnnouncedCalls`](crate::call) puts them together.

use serde_json::{Map, Value};

use super::{Event, MAX_ID_BYTES, Part, ServiceEvent, bounded, id, object, text_of};

/// Items of a `response.done` that are looked at. A response has one or two, and eight tools at most
/// run at once.
const MAX_ITEMS: usize = 64;

/// What one event says of a function call. What it does not say is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FunctionCall {
    /// The response that holds it.
    pub response_id: String,
    /// The item's id. Some events name the call by it alone.
    pub item_id: String,
    /// The id its output must name.
    pub call_id: String,
    /// The tool.
    pub name: String,
    /// JSON text as the model wrote it: may be empty or invalid. Of a [`Stage::More`] a part.
    pub arguments: String,
    /// How far it is.
    pub stage: Stage,
    /// The service asks whether it may run this with a tool of its own: the label of the MCP server. `None` for a
    /// function that we run. What asks has one id, which is both `item_id` and `call_id`.
    pub server: Option<String>,
}

/// How far a function call is, by what one event says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stage {
    /// It has begun; what the event says may be incomplete.
    #[default]
    Begun,
    /// The event has more of its arguments.
    More,
    /// The model has written all of its arguments. The item may still be broken off.
    Written,
    /// It is finished, and wants an output.
    Finished,
    /// It was broken off, and wants none.
    BrokenOff,
}

/// The event of an item, if it is one that the call acts on.
pub(super) fn item_event(kind: &str, event: &Map<String, Value>) -> Option<Event> {
    let done = match kind {
        "response.output_item.done" | "conversation.item.done" => true,
        "response.output_item.added" | "conversation.item.created" | "conversation.item.added" => {
            false
        }
        "response.function_call_arguments.delta" => {
            return Some(arguments(event, "delta", Stage::More));
        }
        "response.function_call_arguments.done" => {
            return Some(arguments(event, "arguments", Stage::Written));
        }
        _ => return None,
    };
    let item = object(event, "item")?;
    if done && let Some(words) = words_of(item) {
        let by_user = text_of(item, "role") == "user";
        let response_id = id(event, "response_id");
        return Some(response_id.map(|response_id| ServiceEvent::Words {
            response_id,
            by_user,
            words,
        }));
    }
    is_call(item).then(|| {
        // No request is broken off in the middle. `created` may be its only event; `added` has others behind it.
        let told = done || kind == "conversation.item.created";
        let stage = match (text_of(item, "status").as_str(), done) {
            ("completed", _) | ("", true) => Stage::Finished,
            // Cascade models call an item so that has only begun.
            ("in_progress", _) => Stage::Begun,
            _ if is_approval_request(item) && told => Stage::Finished,
            (_, false) => Stage::Begun,
            _ => Stage::BrokenOff,
        };
        function_call(item, id(event, "response_id")?, stage).map(announced)
    })
}

/// The function calls and the requests for approval in a response that is done. Items that cannot be
/// used are left out.
pub(super) fn of_response(response: &Map<String, Value>) -> Vec<FunctionCall> {
    let response_id = id(response, "id").unwrap_or_default();
    let completed = matches!(text_of(response, "status").as_str(), "completed" | "");
    let output = response.get("output").and_then(Value::as_array);
    let items = output.into_iter().flatten().take(MAX_ITEMS).filter_map(Value::as_object);
    let calls = items.filter(|item| is_call(item)).filter_map(|item| {
        let stage = match text_of(item, "status").as_str() {
            "completed" => Stage::Finished,
            _ if is_approval_request(item) => Stage::Finished,
            "" | "in_progress" if completed => Stage::Finished,
            _ => Stage::BrokenOff,
        };
        function_call(item, response_id.clone(), stage).ok()
    });
    calls.collect()
}

/// What was said in a response that is done, by its items.
pub(super) fn words_of_response(response: &Map<String, Value>) -> Vec<(Part, String)> {
    let output = response.get("output").and_then(Value::as_array);
    let items = output.into_iter().flatten().take(MAX_ITEMS).filter_map(Value::as_object);
    let spoken = items.filter(|item| text_of(item, "role") != "user");
    spoken.filter_map(words_of).flatten().collect()
}

/// The words in an item that is whole; `None` if it has none. What the user typed is no speech.
fn words_of(item: &Map<String, Value>) -> Option<Vec<(Part, String)>> {
    if !matches!(text_of(item, "status").as_str(), "completed" | "") {
        return None;
    }
    let item_id = id(item, "id").ok()?;
    let parts = item.get("content").and_then(Value::as_array)?.iter().take(MAX_ITEMS);
    let words = parts.zip(0..).filter_map(|(part, content_index)| {
        let part = part.as_object()?;
        let key = match text_of(part, "type").as_str() {
            "audio" | "output_audio" | "input_audio" => "transcript",
            "text" | "output_text" => "text",
            _ => return None,
        };
        let text = part.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())?;
        Some((Part { item_id: item_id.clone(), content_index }, text.to_owned()))
    });
    let words: Vec<_> = words.collect();
    (!words.is_empty()).then_some(words)
}

fn is_call(item: &Map<String, Value>) -> bool {
    text_of(item, "type") == "function_call" || is_approval_request(item)
}

fn is_approval_request(item: &Map<String, Value>) -> bool {
    text_of(item, "type") == "mcp_approval_request"
}

fn announced(call: FunctionCall) -> ServiceEvent<'static> {
    ServiceEvent::FunctionCall(Box::new(call))
}

fn function_call(
    item: &Map<String, Value>,
    response_id: String,
    stage: Stage,
) -> Result<FunctionCall, String> {
    let arguments = arguments_of(item, "arguments");
    let asks = is_approval_request(item);
    Ok(FunctionCall {
        response_id,
        item_id: id(item, "id")?,
        call_id: id(item, if asks { "id" } else { "call_id" })?,
        name: id(item, "name")?,
        arguments,
        stage,
        server: asks.then(|| bounded(&text_of(item, "server_label"), MAX_ID_BYTES)),
    })
}

/// They should be a text with JSON in it, but some make no text of it.
fn arguments_of(holder: &Map<String, Value>, key: &str) -> String {
    match holder.get(key) {
        Some(value @ (Value::Object(_) | Value::Array(_) | Value::Number(_))) => value.to_string(),
        _ => text_of(holder, key),
    }
}

/// An event of the arguments alone.
fn arguments(event: &Map<String, Value>, key: &str, stage: Stage) -> Event {
    let call = FunctionCall {
        response_id: id(event, "response_id")?,
        item_id: id(event, "item_id")?,
        call_id: id(event, "call_id")?,
        name: id(event, "name")?,
        arguments: arguments_of(event, key),
        stage,
        server: None,
    };
    Ok(announced(call))
}
