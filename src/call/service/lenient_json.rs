//! JSON in the service's events beyond what [`lenient`](crate::lenient) reads.
//!
//! The arguments of a function are written by a model, and may stand in a Markdown fence, or in a JSON string once
//! more. Half a character at the end of a delta becomes U+FFFD, unless its other half comes in the next delta
//! ([`HalfCharacters`]).

use serde_json::Value;

use super::scan;
use crate::lenient::{ESCAPE, low_half, mended, read, unit, without_mark};

/// Deltas that may wait for their other half at once. The texts, captions and arguments of one response
/// come side by side, hardly more.
const MAX_WAITING: usize = 4;

/// The text of a JSON object that a model has written, as `serde_json` takes it; `None` if it is none. What
/// models put around it is taken off.
pub(in crate::call) fn object(text: &str) -> Option<String> {
    let text = unfenced(without_mark(text.trim()));
    match read(text).ok()? {
        (Value::Object(_), true) => mended(text),
        (Value::Object(_), false) => Some(text.to_owned()),
        // What it holds is no string again, so this goes one step deep.
        (Value::String(inner), _) if inner.trim_start().starts_with('{') => object(&inner),
        _ => None,
    }
}

/// What stands in a Markdown fence, if all of the text does. The line of the fence may name a language.
fn unfenced(text: &str) -> &str {
    let inner = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let Some(inner) = inner else { return text };
    inner.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric()).trim()
}

/// The lone halves at the two ends of a JSON string, given as it is written, with its quotes: a second
/// half that it begins with, and a first half that it ends with.
fn halves_at_ends(written: &str) -> (Option<u16>, Option<u16>) {
    let inner = written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let Some(mut rest) = inner else { return (None, None) };
    let first = low_half(rest);
    let mut last = None;
    while let Some(letter) = rest.chars().next() {
        let length = match (letter, unit(rest)) {
            ('\\', Some(0xd800..0xdc00)) if low_half(&rest[ESCAPE..]).is_some() => 2 * ESCAPE,
            ('\\', Some(_)) => ESCAPE,
            ('\\', None) => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            _ => letter.len_utf8(),
        };
        last = unit(rest).filter(|unit| length == ESCAPE && (0xd800..0xdc00).contains(unit));
        rest = &rest[length..];
    }
    (first, last)
}

/// First halves of characters that deltas of one service ended with. A second half that the next delta
/// of the same item begins with makes them whole.
#[derive(Debug, Default)]
pub struct HalfCharacters {
    /// The deltas' stream, and the half; the oldest first, at most [`MAX_WAITING`].
    waiting: Vec<(String, u16)>,
}

impl HalfCharacters {
    /// Nothing waits: an event need not be looked at for it.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Puts a delta's text together with the half before it. `stream` names what it belongs to: kind of
    /// event and item. `event` is the whole text of the event, `delta` its delta as it was read, mended.
    /// What the delta ends with half is kept for the next one of the stream and left out of the text.
    pub(super) fn join(&mut self, stream: &str, event: &str, delta: &str, mended: bool) -> String {
        let before = self.waiting.iter().position(|(of, _)| of == stream);
        let before = before.map(|at| self.waiting.remove(at).1);
        let written = if mended { scan::member(event, "delta") } else { None };
        let (first, last) = written.map_or((None, None), halves_at_ends);
        let mut text = delta;
        let mut out = String::with_capacity(delta.len() + 4);
        match (before, first) {
            (Some(high), Some(low)) => {
                text = text.strip_prefix(char::REPLACEMENT_CHARACTER).unwrap_or(text);
                out.extend(char::decode_utf16([high, low]).flatten());
            }
            // The other half will not come any more.
            (Some(_), None) if !delta.is_empty() => out.push(char::REPLACEMENT_CHARACTER),
            _ => {}
        }
        let kept = last.or_else(|| before.filter(|_| delta.is_empty()));
        if let Some(high) = kept {
            if last.is_some() {
                text = text.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(text);
            }
            if self.waiting.len() == MAX_WAITING {
                self.waiting.remove(0);
            }
            self.waiting.push((stream.to_owned(), high));
        }
        out.push_str(text);
        out
    }

    /// The stream has ended, and a half that is left over with it: the end of an item tells its whole
    /// text again.
    pub(super) fn end(&mut self, stream: &str) {
        self.waiting.retain(|(of, _)| of != stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_models_put_around_an_object_is_taken_off() {
        let plain = r#"{"a": "b"}"#;
        for text in [
            plain,
            "\u{feff}{\"a\": \"b\"}",
            " \n\u{feff}{\"a\": \"b\"} ",
            "```json\n{\"a\": \"b\"}\n```",
            "```{\"a\": \"b\"}```\n",
            r#""{\"a\": \"b\"}""#,
        ] {
            assert_eq!(object(text).as_deref(), Some(plain), "{text}");
        }
        for text in ["```json\n[]\n```", "```json\n{}", "\"{\""] {
            assert_eq!(object(text), None, "{text}");
        }
        assert!(read("\u{feff}{}").is_ok_and(|(value, mended)| value.is_object() && !mended));
    }

    fn join(halves: &mut HalfCharacters, stream: &str, delta: &str) -> String {
        let event = format!(r#"{{"type":"x","delta":"{delta}","y":1}}"#);
        let (value, mended) = read(&event).unwrap();
        halves.join(stream, &event, value["delta"].as_str().unwrap(), mended)
    }

    #[test]
    fn halves_of_neighbouring_deltas_are_one_character() {
        let mut halves = HalfCharacters::default();
        let mut text = |deltas: &[&str]| -> String {
            deltas.iter().map(|delta| join(&mut halves, "a", delta)).collect()
        };
        assert_eq!(text(&[r"Hi \ud83d", r"\ude00!"]), "Hi \u{1f600}!");
        assert_eq!(text(&[r"\ud83d", r"\ude00\ud83c", "", r"\udfa7"]), "\u{1f600}\u{1f3a7}");
        assert_eq!(text(&[r"\ud83d", "!"]), "\u{fffd}!");
        assert_eq!(text(&[r"\ud83d", r"\ud83d", r"\ude00"]), "\u{fffd}\u{1f600}");
        assert_eq!(text(&[r"\ude00", r"\\ud83d", r"\ude00"]), "\u{fffd}\\ud83d\u{fffd}");
        assert_eq!(text(&[r"a\ud83db"]), "a\u{fffd}b");
        assert!(halves.is_empty());
    }

    #[test]
    fn halves_of_other_streams_are_kept_apart_and_bounded() {
        let mut halves = HalfCharacters::default();
        assert_eq!(join(&mut halves, "a", r"\ud83d"), "");
        assert_eq!(join(&mut halves, "b", r"\ude00"), "\u{fffd}");
        assert_eq!(join(&mut halves, "a", r"\ude00"), "\u{1f600}");
        for stream in 0..100 {
            join(&mut halves, &stream.to_string(), r"\ud83d");
        }
        assert_eq!(halves.waiting.len(), MAX_WAITING);
        halves.end("99");
        assert_eq!(halves.waiting.len(), MAX_WAITING - 1);
    }
}
