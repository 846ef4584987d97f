//! The header fields of a message, and what an answer's status means.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The field that carries the session of the legacy era.
pub const SESSION: &str = "mcp-session-id";

/// What is known of the connection, for the legacy era.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    /// The session's id, if the server has given one.
    pub id: Option<String>,
    /// The version that `initialize` agreed on.
    pub version: Option<String>,
}

/// The version that a message of the modern era carries.
#[must_use]
pub fn modern_version(message: &Value) -> Option<&str> {
    message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].as_str()
}

/// The fields that go with a message, besides the owner's and the usual ones.
#[must_use]
pub fn of(message: &Value, session: &Session) -> Vec<(&'static str, String)> {
    let mut fields = Vec::new();
    let mut add = |name, value: &str| fields.push((name, plain(value)));
    if let Some(version) = modern_version(message) {
        add("mcp-protocol-version", version);
        let method = message["method"].as_str().unwrap_or_default();
        add("mcp-method", method);
        if let (true, Some(name)) = (method == "tools/call", message["params"]["name"].as_str()) {
            add("mcp-name", name);
        }
    } else if message["method"] != "initialize" {
        if let Some(version) = &session.version {
            add("mcp-protocol-version", version);
        }
        if let Some(id) = &session.id {
            add(SESSION, id);
        }
    }
    fields
}

/// A value as a field may carry it: visible ASCII as it is, anything else in base64.
fn plain(value: &str) -> String {
    let visible = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let trimmed = value.trim() == value && !value.is_empty() && !value.starts_with("=?base64?");
    if visible && trimmed {
        return value.to_owned();
    }
    format!("=?base64?{}?=", STANDARD.encode(value))
}

/// The error for an answer that is no success. `body` is what came with it: a message that says what is
/// wrong goes on as it is.
#[must_use]
pub fn refusal(status: u16, body: &[u8]) -> Value {
    let told: Value = serde_json::from_slice(body).unwrap_or_default();
    if told["error"].is_object() {
        return told["error"].clone();
    }
    let hint = match status {
        300..=399 => ": it wants to be asked elsewhere, which is not done",
        401 | 403 => ": it refuses the login; \"headers\" in the file may carry one",
        404 => ": there is no MCP server at this address",
        405 | 406 => ": it may speak the HTTP+SSE form of 2024 only",
        429 | 503 => ": it has too much to do",
        _ => "",
    };
    fault(&format!("the server answered {status}{hint}"))
}

/// An error of our own, in the form of a server's.
#[must_use]
pub fn fault(message: &str) -> Value {
    json!({ "code": -32000, "message": message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_follow_the_era() {
        let session = Session { id: Some("s".to_owned()), version: Some("2025-06-18".to_owned()) };
        let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28" });
        let call = json!({ "method": "tools/call", "params": { "name": "Größe", "_meta": meta } });
        let name = format!("=?base64?{}?=", STANDARD.encode("Größe"));
        let pair = |name, value: &str| (name, value.to_owned());
        let modern = [
            pair("mcp-protocol-version", "2026-07-28"),
            pair("mcp-method", "tools/call"),
            pair("mcp-name", &name),
        ];
        assert_eq!(of(&call, &session), modern);
        let list = json!({ "method": "tools/list", "params": {} });
        let legacy = [pair("mcp-protocol-version", "2025-06-18"), pair(SESSION, "s")];
        assert_eq!(of(&list, &session), legacy);
        assert_eq!(of(&json!({ "method": "initialize" }), &session), []);
        assert_eq!(of(&list, &Session::default()), []);
    }

    #[test]
    fn values_stay_one_line() {
        assert_eq!(plain("get_weather"), "get_weather");
        for odd in ["a\r\nB: c", " a", "", "=?base64?x?="] {
            assert!(plain(odd).starts_with("=?base64?") && !plain(odd).contains('\n'), "{odd:?}");
        }
    }

    #[test]
    fn a_refusal_goes_on_in_the_servers_words_or_in_ours() {
        let theirs = br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"no"}}"#;
        assert_eq!(refusal(400, theirs)["code"], -32022);
        for (status, part) in [(302, "elsewhere"), (401, "login"), (404, "no MCP"), (500, "500")] {
            let error = refusal(status, b"<html>");
            assert!(error["message"].as_str().unwrap().contains(part), "{error}");
        }
    }
}
