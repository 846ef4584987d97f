//! Decides whether an upgrade request is accepted, and how a refusal is answered: with the statuses
//! and JSON bodies of Azure AI services.

use std::fmt;
use std::time::Instant;

use super::Options;
use super::event::Dialect;
use super::script::{ModelRefusal, Refuse};

/// The service that the request asked for.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// Names and session shape for this connection.
    pub dialect: Dialect,
    /// The model named in the query, decoded; empty for agents.
    pub model: String,
    /// Whether an agent was asked for instead of a model: `instructions` are then refused.
    pub agent: bool,
}

/// An HTTP answer instead of `101 Switching Protocols`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status code.
    pub status: u16,
    /// Extra headers: `Retry-After`, `Location`, `apim-request-id`.
    pub headers: Vec<(&'static str, String)>,
    /// A JSON object with the service's kind of error.
    pub body: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.body)
    }
}

/// Judges an upgrade. `header` looks a request header up by its lower-case name.
#[inline(never)]
pub fn admit<'a>(
    options: &Options,
    path_and_query: &str,
    header: impl Fn(&str) -> Option<&'a str>,
) -> Result<Admission, Refusal> {
    if let Some(refuse) = options.script.refuse {
        return Err(scripted(refuse));
    }
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let dialect = dialect_of(path)
        .ok_or_else(|| refusal(404, "404", "Resource not found: no such path here."))?;
    check_credential(options, &header, query)?;
    let dated = dialect == Dialect::Dated;
    let mut dialect = options.script.dialect.unwrap_or(dialect);
    let version = parameter(query, "api-version").unwrap_or_default();
    if dated && version.is_empty() {
        return Err(refusal(400, "BadRequest", "The api-version query parameter is required."));
    }
    if options.script.dialect.is_none() && version == "v1" {
        dialect = Dialect::Ga;
    }
    let model = parameter(query, "model").unwrap_or_default();
    let named = |name| parameter(query, name).is_some_and(|value| !value.is_empty());
    let agent = named("agent-name") && named("agent-project-name");
    if model.is_empty() && !agent {
        let message =
            "The model query parameter, or agent-name and agent-project-name, is required.";
        return Err(refusal(400, "BadRequest", message));
    }
    // A refused model was never recorded on this path. These are Azure's usual answers.
    match options.script.model_refusal(&model) {
        Some(ModelRefusal::NotFound) => {
            let message =
                format!("The model '{model}' does not exist or is not available in this region.");
            return Err(refusal(404, "404", &message));
        }
        Some(ModelRefusal::BadRequest) => {
            return Err(refusal(400, "BadRequest", &format!("Unsupported model: {model}.")));
        }
        Some(ModelRefusal::Error | ModelRefusal::Update) | None => {}
    }
    Ok(Admission { dialect, model, agent })
}

/// The answer to an upgrade while the script keeps the service away.
#[must_use]
#[inline(never)]
pub fn refuse_while_down(options: &Options, now: Instant) -> Option<Refusal> {
    options.outages.down(&options.script, now).map(|down| scripted(down.refuse))
}

/// Any prefix is accepted: users put proxies in front, and the SDK appends to configured paths.
fn dialect_of(path: &str) -> Option<Dialect> {
    let path = path.trim_end_matches('/');
    if path.ends_with("/voice-live/realtime") {
        Some(Dialect::Dated)
    } else if path.ends_with("/openai/v1/realtime") {
        Some(Dialect::Ga)
    } else {
        None
    }
}

fn check_credential<'a>(
    options: &Options,
    header: &impl Fn(&str) -> Option<&'a str>,
    query: &str,
) -> Result<(), Refusal> {
    if let Some(wanted) = &options.script.require_token {
        let token = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        if token.is_some_and(|token| !token.is_empty() && (wanted.is_empty() || token == wanted)) {
            return Ok(());
        }
        let message = "Access denied: a valid Microsoft Entra ID token is required.";
        return Err(refusal(401, "401", message));
    }
    let bearer = |value: &str| value.strip_prefix("Bearer ").map(str::trim).map(str::to_owned);
    let given = header("api-key")
        .map(str::to_owned)
        .or_else(|| header("authorization").and_then(bearer))
        .or_else(|| parameter(query, "api-key"))
        .or_else(|| parameter(query, "Authorization").as_deref().and_then(bearer));
    let right = match (&given, &options.api_key) {
        (None, _) => false,
        (Some(given), None) => !given.is_empty(),
        (Some(given), Some(key)) => given == key,
    };
    if right {
        return Ok(());
    }
    let message = "Access denied due to invalid subscription key or wrong API endpoint. Make sure to \
                   provide a valid key for an active subscription.";
    Err(refusal(401, "401", message))
}

fn scripted(refuse: Refuse) -> Refusal {
    let (code, message) = match refuse.status {
        300..=399 => ("Found", "Moved."),
        400 => ("BadRequest", "The request is not valid."),
        401 => ("401", "Access denied due to invalid subscription key or wrong API endpoint."),
        403 => ("PermissionDenied", "The principal lacks the required data action."),
        404 => ("404", "Resource not found."),
        429 => ("429", "Too many connections. Please retry later."),
        500..=599 => ("InternalServerError", "The service had a problem."),
        _ => ("Refused", "Refused by script."),
    };
    let mut refusal = refusal(refuse.status, code, message);
    if let Some(seconds) = refuse.retry_after {
        refusal.headers.push(("Retry-After", seconds.to_string()));
    }
    if (300..400).contains(&refuse.status) {
        // The host name is reserved (RFC 2606). A client that follows the redirect reaches no host.
        let to = "https://redirected.invalid/voice-live/realtime";
        refusal.headers.push(("Location", to.to_owned()));
    }
    refusal
}

fn refusal(status: u16, code: &str, message: &str) -> Refusal {
    let message = format!("[simulator] {message}");
    let body = serde_json::json!({ "error": { "code": code, "message": message } }).to_string();
    let id = "51a1a702-0000-4000-8000-000000000000".to_owned();
    Refusal { status, headers: vec![("apim-request-id", id)], body }
}

/// The first value of a query parameter, with `+` and percent escapes decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut values = pairs.filter(|(key, _)| *key == name);
    values.next().map(|(_, value)| decode(value))
}

fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &tail[2..];
            }
            None => bytes.push(if first == b'+' { b' ' } else { first }),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Script;

    const GOOD: &str = "/voice-live/realtime?api-version=2026-07-15&model=gpt-realtime";

    fn ask(options: &Options, target: &str, key: Option<&'static str>) -> Result<Admission, u16> {
        let header = |name: &str| key.filter(|_| name == "api-key");
        admit(options, target, header).map_err(|refusal| refusal.status)
    }

    #[test]
    fn the_path_the_key_and_the_query_are_checked() {
        let open = Options::default();
        assert_eq!(ask(&open, GOOD, Some("any")).unwrap().model, "gpt-realtime");
        assert!(ask(&open, &format!("/proxy{GOOD}"), Some("any")).is_ok());
        assert_eq!(ask(&open, GOOD, None).unwrap_err(), 401);
        assert_eq!(ask(&open, "/chat", Some("any")).unwrap_err(), 404);
        assert_eq!(ask(&open, "/voice-live/realtime?model=x", Some("k")).unwrap_err(), 400);
        assert_eq!(ask(&open, "/voice-live/realtime?api-version=1", Some("k")).unwrap_err(), 400);
        let locked = Options { api_key: Some("right".to_owned()), ..Options::default() };
        assert_eq!(ask(&locked, GOOD, Some("wrong")).unwrap_err(), 401);
        assert!(ask(&locked, GOOD, Some("right")).is_ok());
        assert!(!format!("{locked:?}").contains("right"));
    }

    #[test]
    fn bearer_tokens_agents_and_the_ga_path_are_let_in() {
        let options = Options::default();
        let bearer = |name: &str| (name == "authorization").then_some("Bearer token");
        let target = "/voice-live/realtime?api-version=1&agent-name=a&agent-project-name=p%20q";
        assert!(admit(&options, target, bearer).unwrap().agent);
        let ga = admit(&options, "/openai/v1/realtime?model=a%2Fb+c", bearer).unwrap();
        assert_eq!((ga.dialect, ga.model.as_str()), (Dialect::Ga, "a/b c"));
    }

    #[test]
    fn a_script_may_ask_for_a_token_in_place_of_the_key() {
        for (word, admitted) in
            [("require-token", true), ("require-token=token", true), ("require-token=x", false)]
        {
            let script = Script::parse([word]).unwrap();
            let options = Options { script, ..Options::default() };
            assert_eq!(ask(&options, GOOD, Some("key")).err(), Some(401), "{word}");
            let bearer = |name: &str| (name == "authorization").then_some("Bearer token");
            assert_eq!(admit(&options, GOOD, bearer).is_ok(), admitted, "{word}");
        }
    }

    #[test]
    fn a_scripted_model_is_refused_and_no_other() {
        for (word, status) in [
            ("refuse-model=gpt-realtime", Some(404)),
            ("refuse-model=gpt-realtime:404", Some(404)),
            ("refuse-model=gpt-realtime:400", Some(400)),
            ("refuse-model=gpt-realtime:error", None),
            ("refuse-model=gpt-realtime-mini", None),
        ] {
            let script = Script::parse([word]).unwrap();
            let options = Options { script, ..Options::default() };
            assert_eq!(ask(&options, GOOD, Some("k")).err(), status, "{word}");
        }
    }

    #[test]
    fn scripted_refusals_carry_their_headers() {
        let script = Script::parse(["refuse=429:7"]).unwrap();
        let refusal = admit(&Options { script, ..Options::default() }, GOOD, |_| None).unwrap_err();
        assert_eq!(refusal.status, 429);
        assert!(refusal.headers.contains(&("Retry-After", "7".to_owned())));
        let body: serde_json::Value = serde_json::from_str(&refusal.body).unwrap();
        assert_eq!(body["error"]["code"], "429");
        let script = Script::parse(["refuse=302"]).unwrap();
        let refusal = admit(&Options { script, ..Options::default() }, GOOD, |_| None).unwrap_err();
        assert!(refusal.headers.iter().any(|(name, _)| *name == "Location"));
    }
}
