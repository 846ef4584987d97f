//! What a fetch has printed: a token, or why there is none.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::MAX_TOKEN;

/// Letters of somebody else's words that are passed on.
const MAX_QUOTE: usize = 300;

/// The longest life that is believed. A managed identity's token lasts a day.
const LONGEST_LIFE: Duration = Duration::from_secs(48 * 3600);

/// An access token as it was printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    text: String,
    /// How long it lasts from its receipt; `None` if that was not told.
    pub life: Option<Duration>,
    /// When a new one should be fetched, from its receipt, if that was told.
    pub refresh: Option<Duration>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(***, {:?})", self.life)
    }
}

impl Token {
    /// The header line that logs in with it. It is a secret.
    #[must_use]
    pub fn header(&self) -> String {
        format!("Authorization: Bearer {}", self.text)
    }
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What follows the colon in a sentence; without the last full stop.
    pub why: String,
    /// Whether the next try may do better.
    pub retry: bool,
}

impl Refusal {
    /// One that no further try will mend.
    pub fn lasting(why: impl Into<String>) -> Self {
        Self { why: why.into(), retry: false }
    }

    /// One that may pass.
    pub fn passing(why: impl Into<String>) -> Self {
        Self { why: why.into(), retry: true }
    }
}

/// Reads a token alone on its line, or JSON as Entra ID, the metadata services, `az` and `azd` write
/// it, or a refusal of [`fetch`](super::fetch). `today` serves only where a date is told and no life.
///
/// # Errors
/// Why there is no token in it. Nothing of the text is quoted but the words of a refusal.
pub fn parse(output: &[u8], today: SystemTime) -> Result<Token, Refusal> {
    let text = std::str::from_utf8(output).map_err(|_| Refusal::lasting("it is no text"))?.trim();
    if !text.starts_with('{') {
        return token(text, None, None);
    }
    let json: Value = serde_json::from_str(text)
        .map_err(|_| Refusal::lasting("it begins like JSON and is none"))?;
    if let Some(why) = json["error"].as_str() {
        let said = json["error_description"].as_str().unwrap_or(why);
        let retry = json["retry"].as_bool().unwrap_or_default();
        return Err(Refusal { why: first_line(said), retry });
    }
    let named = ["access_token", "accessToken", "token"];
    let found = named.iter().find_map(|name| json[*name].as_str());
    let found = found.ok_or_else(|| Refusal::lasting("it has no access token"))?;
    // A device without a clock battery may have the wrong time. So the life counts, not the date.
    let life = seconds(&json["expires_in"]).or_else(|| {
        let at = UNIX_EPOCH.checked_add(seconds(&json["expires_on"])?)?;
        at.duration_since(today).ok()
    });
    token(found, life.filter(|life| *life <= LONGEST_LIFE), seconds(&json["refresh_in"]))
}

fn token(text: &str, life: Option<Duration>, refresh: Option<Duration>) -> Result<Token, Refusal> {
    let text = text.strip_prefix("Bearer ").unwrap_or(text).trim();
    if text.is_empty() {
        return Err(Refusal::lasting("it is empty"));
    }
    if text.len() > MAX_TOKEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Refusal::lasting("it is no token: one word of visible ASCII characters"));
    }
    Ok(Token { text: text.to_owned(), life, refresh })
}

/// Whole seconds, as a number or, as the metadata services write it, as text.
fn seconds(value: &Value) -> Option<Duration> {
    let whole = value.as_u64().or_else(|| value.as_str()?.parse().ok()).map(Duration::from_secs);
    whole.or_else(|| Duration::try_from_secs_f64(value.as_f64()?).ok())
}

/// The first line of Entra ID's words, bounded, without control characters: the rest are ids.
#[must_use]
pub fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(" Trace ID:").next().unwrap_or_default();
    let clean = line.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(MAX_QUOTE).collect::<String>().trim().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Token, Refusal> {
        parse(text.as_bytes(), UNIX_EPOCH + Duration::from_secs(1_000_000))
    }

    #[test]
    fn tokens_in_every_spelling() {
        for (text, life) in [
            ("canary\n", None),
            ("Bearer canary", None),
            (r#"{"access_token":"canary","expires_in":3599,"token_type":"Bearer"}"#, Some(3599)),
            (r#"{"access_token":"canary","expires_in":"86399","expires_on":"7"}"#, Some(86_399)),
            (r#"{"accessToken":"canary","expires_on":1000060,"expiresOn":"x"}"#, Some(60)),
            (r#"{"accessToken":"canary","expires_on":"1000060"}"#, Some(60)),
            (r#"{"accessToken":"canary","expires_on":999999}"#, None),
            (r#"{"accessToken":"canary","expires_on":9999999999}"#, None),
            (r#"{"accessToken":"canary","expires_on":18446744073709551615}"#, None),
            (r#"{"accessToken":"canary","expires_in":-1}"#, None),
            (r#"{"accessToken":"canary","expires_in":60.0}"#, Some(60)),
            (r#"{"token":"canary","expiresOn":"2026-01-01T00:00:00Z"}"#, None),
        ] {
            let token = of(text).unwrap();
            assert_eq!(token.header(), "Authorization: Bearer canary");
            assert_eq!(token.life, life.map(Duration::from_secs), "{text}");
            assert!(!format!("{token:?}").contains("canary"));
        }
    }

    #[test]
    fn what_is_no_token_is_said_without_quoting_it() {
        for bad in ["", "two words canary", "{canary", r#"{"x":"canary"}"#, "can\u{7f}ary", "ü"] {
            assert!(!of(bad).unwrap_err().why.contains("canary"), "{bad}");
        }
        assert!(of(&"x".repeat(MAX_TOKEN + 1)).is_err());
        assert!(parse(&[0xff], UNIX_EPOCH).is_err());
        let said = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.\r\nTrace ID: 1"}"#;
        let why = "AADSTS7000215: Invalid client secret provided".to_owned();
        assert_eq!(of(said).unwrap_err(), Refusal { why, retry: false });
    }
}
