//! What is written to a server: JSON-RPC messages, each one line.

use serde_json::{Value, json};

use super::{Era, LEGACY, MODERN};

/// The error of JSON-RPC for a method that is not known.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// The modern era's error for a version that the server does not speak; `data.supported` has its own.
pub const UNSUPPORTED_VERSION: i64 = -32022;

fn client_info() -> Value {
    json!({ "name": "voicelived", "version": env!("CARGO_PKG_VERSION") })
}

/// A request. A modern server is told version and capabilities with each one. No capability is
/// offered, so a server must not ask for input, samples or roots.
pub(super) fn request(era: Era, id: u64, method: &str, mut params: Value) -> Value {
    if era == Era::Modern {
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(MODERN);
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
        params["_meta"]["io.modelcontextprotocol/clientInfo"] = client_info();
    }
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

/// The first request of the legacy era.
pub(super) fn initialize(id: u64) -> Value {
    let params = json!({
        "protocolVersion": LEGACY[0],
        "capabilities": {},
        "clientInfo": client_info(),
    });
    request(Era::Legacy, id, "initialize", params)
}

/// The legacy era's confirmation that `initialize` has been answered.
pub(super) fn initialized() -> Value {
    json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })
}

/// Tells that an answer is not waited for any more.
pub(super) fn cancelled(id: u64, why: &str) -> Value {
    let params = json!({ "requestId": id, "reason": why });
    json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })
}

/// The answer to a server's own request (legacy era only): `ping` is answered, and nothing else is
/// offered.
pub(super) fn answer(id: &Value, method: &str) -> Value {
    if method == "ping" {
        return json!({ "jsonrpc": "2.0", "id": id, "result": {} });
    }
    let error = json!({ "code": METHOD_NOT_FOUND, "message": "Method not found" });
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
}
