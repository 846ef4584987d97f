//! What the service says when it refuses something: its words and codes, in any shape of Azure and
//! OpenAI.

use serde_json::Value;

use crate::lenient::{mended, read};

/// Bytes of the service's own words that are passed on.
const MAX_QUOTE: usize = 300;

/// A refusal's fields, as far as there are any.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// All codes and types, one behind the other.
    pub(super) codes: String,
    /// The parameter that it is about.
    pub(super) param: String,
    /// A sentence, or what there is of one.
    pub(super) message: String,
}

impl Words {
    /// Of the body of an HTTP answer: `{"error":{…}}`, `{"error":"…"}`, or the fields alone. What
    /// follows the JSON is passed over, and of JSON that was cut off the message is taken as far as it
    /// goes. A text that is no JSON is a message, but HTML comes from a proxy, and what is no text (it was
    /// compressed, say) tells nobody anything.
    pub(super) fn of_body(body: &str) -> Self {
        let body = body.trim_start();
        let Some(json) = first_value(body).or_else(|| first_value(&mended(body)?)) else {
            let message = match body.chars().next() {
                Some('<') => "".to_owned(),
                _ if is_no_text(body) => "".to_owned(),
                Some('{' | '[') => cut_message(body),
                _ => body.to_owned(),
            };
            return Self { message, ..Self::default() };
        };
        let error = json.get("error").unwrap_or(&json);
        let text = |pointer: &str| {
            let value = error.pointer(pointer).or_else(|| json.pointer(pointer));
            value.and_then(Value::as_str).unwrap_or_default()
        };
        let codes = ["/code", "/type", "/innererror/code", "/details/0/code"].map(text).join(" ");
        // The last two are of RFC 9457, "Problem Details".
        let messages =
            ["/message", "/Message", "/detail", "/title", "/innererror/message"].map(text);
        let message = messages.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
        let message = error.as_str().unwrap_or(message);
        Self { codes, param: text("/param").to_owned(), message: message.to_owned() }
    }

    /// One line of it for a log.
    pub(super) fn quoted(&self) -> String {
        // A status in digits is told already.
        let mut codes = self.codes.split_whitespace();
        let is_word = |code: &&str| !code.bytes().all(|byte| byte.is_ascii_digit());
        let code = codes.find(is_word).unwrap_or_default();
        let message = quote(&self.message);
        match (message.trim_end_matches('.'), code) {
            ("", "") => "without a reason".to_owned(),
            ("", code) => format!("({})", quote(code)),
            (message, "") => message.to_owned(),
            (message, code) => format!("{message} ({})", quote(code)),
        }
    }
}

/// The JSON that a body begins with.
fn first_value(body: &str) -> Option<Value> {
    serde_json::Deserializer::from_str(body).into_iter().next()?.ok()
}

/// Whether a body holds bytes that stand in no text.
fn is_no_text(body: &str) -> bool {
    body.chars().any(|letter| letter.is_control() && !letter.is_whitespace())
}

/// The value of `message` in JSON that has no end, as far as it goes.
fn cut_message(body: &str) -> String {
    let value = || {
        let (_, rest) = body.split_once("\"message\"")?;
        rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')
    };
    let Some(text) = value() else {
        return String::new();
    };
    let mut escaped = false;
    let end = text.find(|letter| {
        let ends = letter == '"' && !escaped;
        escaped = letter == '\\' && !escaped;
        ends
    });
    let text = text[..end.unwrap_or(text.len())].trim_end_matches(char::REPLACEMENT_CHARACTER);
    // The cut may be within an escape, which has up to twelve characters.
    let cuts = || text.char_indices().rev().map(|(at, _)| &text[..at]).take(12);
    let strict = |text: &str| serde_json::from_str(&format!("\"{text}\"")).ok();
    let lenient = |text: &str| match read(&format!("\"{text}\"")) {
        Ok((Value::String(text), _)) => Some(text),
        _ => None,
    };
    let mut found = strict(text).or_else(|| cuts().find_map(strict)).or_else(|| lenient(text));
    found = found.or_else(|| cuts().find_map(lenient));
    found.unwrap_or_default()
}

/// Somebody else's words for a log or a page: one line, bounded, no control characters.
pub(super) fn quote(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = clean.len().min(MAX_QUOTE);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    clean[..end].trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> String {
        Words::of_body(body).message
    }

    #[test]
    fn the_message_is_found_in_every_shape() {
        for body in [
            r#"{"error":{"code":"401","message":"No \"way\"."}}"#,
            r#"{"error":"No \"way\"."}"#,
            r#"{"message":"No \"way\"."}"#,
            r#"{"Message":"No \"way\"."}"#,
            r#"{"type":"about:blank","title":"No","detail":"No \"way\"."}"#,
            "{\"message\":\"No \\\"way\\\".\"}\r\nrubbish",
            "\n{\"message\":\"No \\\"way\\\".\"} {",
            r#"{"error":{"message" : "No \"way\".","detai"#,
            r#"No "way"."#,
        ] {
            assert_eq!(message(body), "No \"way\".", "{body}");
        }
        for half in [
            r#"{"error":{"message":"Half \ud83d of it."}}"#,
            r#"{"error":{"message":"Half \ud83d of it."}} rubbish"#,
            r#"{"error":{"message":"Half \ud83d of it.","code"#,
        ] {
            assert_eq!(message(half), "Half \u{fffd} of it.", "{half}");
        }
        for nothing in ["", "null", "{", "[", "<html>", "{\"message\":", "{\"message\":7"] {
            assert_eq!(message(nothing), "", "{nothing}");
        }
    }

    #[test]
    fn a_message_that_was_cut_off_is_told_as_far_as_it_goes() {
        let body = r#"{"error":{"message":"Grüße \"\ud83d\ude00 \\ end"#;
        let whole = "Grüße \"😀 \\ end";
        let mut longest = 0;
        for end in 0..=body.len() {
            if let Some(cut) = body.get(..end) {
                let got = message(cut);
                assert!(whole.starts_with(&got) && got.len() >= longest, "{cut}: {got}");
                longest = got.len();
            }
        }
        assert_eq!(message(body), whole);
        assert_eq!(message("{\"message\":\"ab\u{fffd}"), "ab");
    }

    #[test]
    fn a_quotation_is_one_line_and_ends_between_two_letters() {
        assert_eq!(quote(" two\r\nlines\t"), "two  lines");
        let long = format!("x{}", "ü".repeat(MAX_QUOTE));
        assert_eq!(quote(&long), long[..MAX_QUOTE - 1], "the bound is within a letter");
        assert_eq!(quote(&"x".repeat(MAX_QUOTE + 1)), "x".repeat(MAX_QUOTE));
    }
}
