//! A server event before it is written, in the dated dialect.

use serde_json::{Map, Value, json};

use super::validate::Fault;

/// Names of events and shape of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// The dated api-versions of Voice Live: OpenAI's beta names and Azure's additions.
    #[default]
    Dated,
    /// OpenAI's GA names, as Azure OpenAI and the `v1` label of Voice Live use them.
    Ga,
}

/// A server event in the dated dialect, before it gets its id.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) kind: &'static str,
    pub(super) fields: Map<String, Value>,
}

/// Builds an event. `fields` is an object literal without `type` and `event_id`.
pub(super) fn event(kind: &'static str, fields: Value) -> Event {
    let fields = match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    Event { kind, fields }
}

/// Codes of errors that were seen without the `event_id` of the client's event.
const NAMELESS: [&str; 2] = [Fault::UNCODED, Fault::ALREADY_TRUNCATED];

/// The service's answer to a client's mistake. `cause` is the `event_id` of the client's event.
pub(super) fn error(fault: &Fault, cause: Option<&str>) -> Event {
    let fields = json!({
        "type": "invalid_request_error",
        "code": fault.code,
        "message": format!("[simulator] {}", fault.message),
        "param": fault.param,
        "event_id": cause.filter(|_| !NAMELESS.contains(&fault.code)),
    });
    event("error", json!({ "error": fields }))
}
