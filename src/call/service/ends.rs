//! The end of a response, by whatever event tells it.

use serde_json::{Map, Value};

use super::{
    Event, FunctionCall, Part, ServiceError, ServiceEvent, id, items, number, object,
    service_error, short,
};

/// The outcome of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseDone {
    /// `response.id`.
    pub response_id: String,
    /// `completed`, `cancelled`, `failed`, `incomplete`, or what the service says in future.
    pub status: String,
    /// `status_details.reason`.
    pub reason: String,
    /// `status_details.error`.
    pub error: ServiceError,
    /// What its `output` says of function calls, and of requests for approval.
    pub calls: Vec<FunctionCall>,
    /// What its `output` says was said in it.
    pub words: Vec<(Part, String)>,
    /// Tokens, if the service counted any.
    pub usage: Option<Usage>,
}

/// Tokens of a response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// `input_tokens`.
    pub input_tokens: u64,
    /// `output_tokens`.
    pub output_tokens: u64,
}

pub(super) fn response_done(event: &Map<String, Value>) -> Event {
    let empty = Map::new();
    let response = object(event, "response").unwrap_or(&empty);
    let details = object(response, "status_details");
    let usage = object(response, "usage").map(|usage| Usage {
        input_tokens: number(usage, "input_tokens"),
        output_tokens: number(usage, "output_tokens"),
    });
    Ok(ServiceEvent::ResponseDone(Box::new(ResponseDone {
        response_id: id(response, "id")?,
        calls: items::of_response(response),
        words: items::words_of_response(response),
        status: short(Some(response), "status"),
        reason: short(details, "reason"),
        error: details.map(service_error).unwrap_or_default(),
        usage,
    })))
}

/// The end of a response whose event is named after its status. A `response.done` may follow, which tells the
/// tokens.
pub(super) fn ended_as(kind: &str, event: &Map<String, Value>) -> Event {
    let mut ended = response_done(event)?;
    if let ServiceEvent::ResponseDone(done) = &mut ended {
        done.usage = None;
        if done.response_id.is_empty() {
            done.response_id = id(event, "response_id")?;
        }
        if done.status.is_empty() {
            done.status = kind.trim_start_matches("response.").to_owned();
        }
    }
    Ok(ended)
}
