//! JSON-RPC messages: how those to a server are written, and what is found in those from it.

use serde_json::{Value, json};

use super::{Era, LEGACY, MODERN, shown};

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

/// Whether a list of versions has this one.
pub(super) fn speaks(versions: &Value, version: &str) -> bool {
    versions.as_array().is_some_and(|list| list.iter().any(|one| one == version))
}

/// An id of ours. Some servers make text of numbers.
pub(super) fn id_of(id: &Value) -> Option<u64> {
    id.as_u64().or_else(|| id.as_str()?.parse().ok())
}

/// An error's message and code, in words.
pub(super) fn reason(error: &Value) -> String {
    let message = error["message"].as_str().unwrap_or("it does not say why");
    let message = shown(message, 500);
    let message = message.trim_end_matches('.');
    match error["code"].as_i64() {
        Some(code) => format!("{message} ({code})"),
        None => message.to_owned(),
    }
}

/// The beginning of a line, for the log.
pub(super) fn text(line: &[u8]) -> String {
    shown(&String::from_utf8_lossy(&line[..line.len().min(1000)]), 200)
}

/// The id of a message of which only both ends are known. It is believed only where it stands beside
/// the message's own fields: in front of the first inner bracket, or behind the last one.
pub(super) fn id_at_an_end(head: &[u8], tail: &[u8]) -> Option<u64> {
    let (head, tail) = (String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
    let head = head.trim_start().strip_prefix('{')?;
    let head = head.split(['{', '[']).next().unwrap_or_default();
    let tail = tail.trim_end().strip_suffix('}').unwrap_or_default();
    let tail = tail.rsplit(['}', ']']).next().unwrap_or_default();
    [head, tail].into_iter().find_map(|part| {
        let (_, id) = part.split_once("\"id\":")?;
        let digits = id.trim_start().trim_start_matches('"');
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse().ok()
    })
}
