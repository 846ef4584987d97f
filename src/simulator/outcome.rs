//! How a response ends, and how its events say so.

use serde_json::{Value, json};

/// How a response ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Completed,
    TurnDetected,
    ClientCancelled,
    Failed,
    Incomplete,
}

impl Outcome {
    /// The field `status` of its `response.done`.
    pub(super) fn status(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::TurnDetected | Self::ClientCancelled => "cancelled",
            Self::Failed => "failed",
            Self::Incomplete => "incomplete",
        }
    }

    /// The field `status` of the item that it ended.
    pub(super) fn item_status(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            _ => "incomplete",
        }
    }

    /// The field `status_details` of its `response.done`.
    pub(super) fn details(self) -> Value {
        match self {
            Self::Completed => Value::Null,
            Self::TurnDetected => json!({ "type": "cancelled", "reason": "turn_detected" }),
            Self::ClientCancelled => {
                json!({ "type": "cancelled", "reason": "client_cancelled" })
            }
            Self::Incomplete => json!({ "type": "incomplete", "reason": "max_output_tokens" }),
            Self::Failed => {
                let message = "[simulator] Failed by script. Please retry.";
                let error = json!({ "type": "server_error", "code": null, "message": message });
                json!({ "type": "failed", "error": error })
            }
        }
    }
}
