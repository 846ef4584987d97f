//! JSON as others write it. `serde_json` refuses two things that are common in the field:
//!
//! - an escape that is half of a surrogate pair (`"\ud83d"`): half an emoji, cut off by a stream of
//!   deltas, by a token limit or by a program that counts in UTF-16. RFC 8259, section 8.2, allows it, and Python's and
//!   JavaScript's libraries write it;
//! - a control character that stands in a string unescaped.
//!
//! A byte order mark before a text is passed over, as RFC 8259 (section 8.1) allows.
//!
//! A text is looked at in this way only after `serde_json` has refused it, so nothing else pays for it.
//! Half a character becomes U+FFFD, as it does elsewhere.

use std::fmt::Write;

use serde_json::Value;

/// Reads a JSON text. The second value says whether it had to be mended for that.
///
/// # Errors
/// Those of `serde_json`.
#[inline(never)]
pub fn read(text: &str) -> Result<(Value, bool), serde_json::Error> {
    let text = without_mark(text);
    match serde_json::from_str(text) {
        Ok(value) => Ok((value, false)),
        Err(error) => match mended(text) {
            Some(mended) => serde_json::from_str(&mended).map(|value| (value, true)),
            None => Err(error),
        },
    }
}

/// The same of bytes, which must be UTF-8 as JSON is.
///
/// # Errors
/// Those of `serde_json`.
#[inline(never)]
pub fn read_bytes(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(bytes).or_else(|error| match std::str::from_utf8(bytes) {
        Ok(text) => read(text).map(|(value, _)| value),
        Err(_) => Err(error),
    })
}

/// The text without byte order marks before it.
#[must_use]
pub fn without_mark(text: &str) -> &str {
    text.trim_start_matches('\u{feff}')
}

/// The same JSON without halves of surrogate pairs and without bare control characters; `None` if it
/// has neither.
#[must_use]
#[inline(never)]
pub fn mended(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut in_string, mut changed) = (text, false, false);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => {
                in_string = !in_string;
                1
            }
            '\\' => match unit(rest) {
                Some(0xd800..0xdc00) if low_half(&rest[ESCAPE..]).is_some() => 2 * ESCAPE,
                Some(0xd800..0xe000) => {
                    out.push_str("\\ufffd");
                    (rest, changed) = (&rest[ESCAPE..], true);
                    continue;
                }
                // An escaped quote ends no string.
                _ => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            },
            '\0'..' ' if in_string => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(first));
                (rest, changed) = (&rest[1..], true);
                continue;
            }
            other => other.len_utf8(),
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    changed.then_some(out)
}

/// Bytes of `\uXXXX`.
pub const ESCAPE: usize = 6;

/// The UTF-16 unit of the escape `\uXXXX` that `text` begins with.
#[must_use]
pub fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.as_bytes().get(..4)?;
    digits.iter().try_fold(0_u16, |unit, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}

/// The same, if it is the second half of a surrogate pair.
#[must_use]
pub fn low_half(text: &str) -> Option<u16> {
    unit(text).filter(|unit| (0xdc00..0xe000).contains(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_pairs_become_the_replacement_character_and_pairs_stay() {
        for (text, expected) in [
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""\ude00""#, "\u{fffd}"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""a\ud83dA\ude00b""#, "a\u{fffd}A\u{fffd}b"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""\ud83d\\ude00""#, "\u{fffd}\\ude00"),
            (r#""\ud83d\"\uDEAD""#, "\u{fffd}\"\u{fffd}"),
            ("\"\\ud83d\0\n\u{1f}\u{ffff}ä\"", "\u{fffd}\0\n\u{1f}\u{ffff}ä"),
        ] {
            assert_eq!(read(text).unwrap(), (expected.into(), true), "{text}");
        }
        let (value, mended) = read(r#"{"\ud83d":[{"x":"\ude00"}]}"#).unwrap();
        assert!(mended);
        assert_eq!(value, serde_json::json!({"\u{fffd}": [{"x": "\u{fffd}"}]}));
    }

    #[test]
    fn what_serde_json_takes_is_not_touched_and_what_is_no_json_stays_none() {
        for text in [r#""\ud83d\ude00""#, r#""\\ud83d""#, "\"\u{fffe}\"", " {} "] {
            assert!(!read(text).unwrap().1, "{text}");
        }
        for text in
            ["", "\0", r#""\ud83"#, r#""\ud83d"#, r#""\u""#, r#"\ud83d"#, "{\0}", "\"\\\0\""]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_read_as_their_text_does() {
        for bytes in [&b"{\"a\":\"\\ud83d\"}"[..], b"\xef\xbb\xbf{\"a\":\"\\ud83d\"}"] {
            assert_eq!(read_bytes(bytes).unwrap(), serde_json::json!({"a": "\u{fffd}"}));
        }
        assert_eq!(read_bytes(b" {} ").unwrap(), serde_json::json!({}));
        for bytes in [&b"\"\xed\xa0\xbd\""[..], b"", b"\xff", b"{"] {
            assert!(read_bytes(bytes).is_err());
        }
    }
}
