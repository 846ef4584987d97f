//! Borrowed scanning of JSON text: the hot path's way around a JSON tree.
//!
//! [`audio_delta`] answers only when it is sure; whatever it does not know well (escapes, nesting,
//! doubled keys, odd numbers) it leaves to `serde_json`, so both always agree.

use std::ops::Range;

use super::{AudioDelta, MAX_ID_BYTES};

/// The two names of a reply audio delta: dated api-versions, and the GA dialect.
pub(super) const AUDIO_DELTA_TYPES: [&str; 2] =
    ["response.audio.delta", "response.output_audio.delta"];

/// Recognises a reply audio delta, in any key order, without allocating. `None` means "not sure",
/// never "not an audio delta".
pub(super) fn audio_delta(text: &str) -> Option<AudioDelta<'_>> {
    let mut cursor = Cursor::new(text);
    let mut found = Found::default();
    cursor.expect(b'{')?;
    loop {
        let key = cursor.plain_string()?;
        cursor.expect(b':')?;
        found.take(&mut cursor, key)?;
        match cursor.next_token()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    cursor.at_end().then_some(())?;
    found.into_delta(text)
}

/// The text of a top-level member's value exactly as it stands in `text`, which must be valid JSON.
/// Of doubled keys the last counts, as in a JSON tree.
pub(in crate::call) fn member<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut cursor = Cursor::new(text);
    let mut found = None;
    cursor.expect(b'{')?;
    while cursor.next_token()? == b'"' {
        let name = cursor.any_string()?;
        cursor.expect(b':')?;
        let value = cursor.any_value()?;
        if is_key(text, name, key) {
            found = Some(&text[value]);
        }
        if cursor.next_token()? != b',' {
            break;
        }
    }
    found
}

/// Whether the string between these quotes is `key`, with escapes or without.
fn is_key(text: &str, name: Range<usize>, key: &str) -> bool {
    if !text[name.clone()].contains('\\') {
        return &text[name] == key;
    }
    let quoted = &text[name.start - 1..name.end + 1];
    serde_json::from_str::<String>(quoted).is_ok_and(|name| name == key)
}

/// How many bytes a base64 text decodes to, taken from its length and padding.
pub(super) fn decoded_bytes(base64: &str) -> usize {
    let padding = base64.bytes().rev().take_while(|&byte| byte == b'=').count();
    (base64.len() / 4 * 3).saturating_sub(padding.min(2))
}

/// The members of an audio delta, as ranges of the text.
#[derive(Default)]
struct Found {
    kind: Option<Range<usize>>,
    delta: Option<Range<usize>>,
    response_id: Option<Range<usize>>,
    item_id: Option<Range<usize>>,
}

impl Found {
    fn take(&mut self, cursor: &mut Cursor<'_>, key: Range<usize>) -> Option<()> {
        let slot = match &cursor.text[key] {
            "type" => &mut self.kind,
            "delta" => &mut self.delta,
            "response_id" => &mut self.response_id,
            "item_id" => &mut self.item_id,
            _ => return cursor.skip_simple(),
        };
        if slot.is_some() {
            return None; // doubled key
        }
        let value = cursor.plain_string()?;
        let kind_known = slot.insert(value).clone();
        // Most events that are no audio delta name their type early: stop there.
        match &self.kind {
            Some(kind) if *kind == kind_known => {
                AUDIO_DELTA_TYPES.contains(&&cursor.text[kind_known]).then_some(())
            }
            _ => Some(()),
        }
    }

    fn into_delta(self, text: &str) -> Option<AudioDelta<'_>> {
        self.kind?;
        let base64 = self.delta?;
        let response_id = &text[self.response_id?];
        let item_id = &text[self.item_id?];
        if response_id.len() > MAX_ID_BYTES || item_id.len() > MAX_ID_BYTES {
            return None;
        }
        let pcm_bytes = decoded_bytes(&text[base64.clone()]);
        Some(AudioDelta { response_id, item_id, base64, pcm_bytes })
    }
}

/// A position in a text.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    fn skip_whitespace(&mut self) {
        let blank = |byte: &&u8| matches!(**byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += self.rest().iter().take_while(blank).count();
    }

    /// The next byte that is not white space, stepped over.
    fn next_token(&mut self) -> Option<u8> {
        self.skip_whitespace();
        let byte = *self.rest().first()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        (self.next_token()? == wanted).then_some(())
    }

    fn at_end(&mut self) -> bool {
        self.skip_whitespace();
        self.rest().is_empty()
    }

    /// A string without escapes, as the range between its quotes.
    fn plain_string(&mut self) -> Option<Range<usize>> {
        self.expect(b'"')?;
        let start = self.at;
        let end = start + special_byte(self.rest())?;
        if self.text.as_bytes()[end] != b'"' {
            return None; // an escape, or a control character
        }
        self.at = end + 1;
        Some(start..end)
    }

    /// The rest of a string whose opening quote was stepped over; escapes allowed.
    fn any_string(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        loop {
            self.at += special_byte(self.rest())?;
            let byte = self.text.as_bytes()[self.at];
            self.at += 1;
            match byte {
                b'"' => return Some(start..self.at - 1),
                b'\\' if !self.rest().is_empty() => self.at += 1,
                _ => return None,
            }
        }
    }

    /// Steps over a value that cannot hide anything: a plain string, a short whole number, a word.
    fn skip_simple(&mut self) -> Option<()> {
        self.skip_whitespace();
        match self.rest().first()? {
            b'"' => self.plain_string().map(|_| ()),
            b'0'..=b'9' => self.skip_number(),
            b'n' => self.skip_word("null"),
            b't' => self.skip_word("true"),
            b'f' => self.skip_word("false"),
            _ => None,
        }
    }

    fn skip_number(&mut self) -> Option<()> {
        let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        let leading_zero = digits > 1 && self.rest()[0] == b'0';
        self.at += digits;
        let goes_on = matches!(self.rest().first(), Some(b'.' | b'e' | b'E'));
        (digits <= 15 && !leading_zero && !goes_on).then_some(())
    }

    fn skip_word(&mut self, word: &str) -> Option<()> {
        self.rest().starts_with(word.as_bytes()).then_some(())?;
        self.at += word.len();
        Some(())
    }

    /// Steps over any value of valid JSON.
    fn any_value(&mut self) -> Option<Range<usize>> {
        self.skip_whitespace();
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.rest().first()? {
                b'"' => {
                    self.at += 1;
                    self.any_string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => break,
                _ => self.step(),
            }
        }
        (self.at > start).then_some(start..self.at)
    }

    /// One character onwards, staying on a character boundary.
    fn step(&mut self) {
        self.at += self.text[self.at..].chars().next().map_or(1, char::len_utf8);
    }
}

/// Where the first quote, backslash or control character stands. Fast, since an audio delta is some
/// 17 KB of base64 in which there is none.
fn special_byte(bytes: &[u8]) -> Option<usize> {
    let end = memchr::memchr2(b'"', b'\\', bytes);
    let plain = &bytes[..end.unwrap_or(bytes.len())];
    if !may_hold_control(plain) {
        return end;
    }
    plain.iter().position(|&byte| byte < 0x20).or(end)
}

/// Whether there may be a byte below 0x20; never wrong when it says no.
fn may_hold_control(bytes: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // A byte below the limit borrows into its highest bit, which was not set.
    let below = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word);
        word.wrapping_sub(ONES * 0x20) & !word
    };
    let (words, rest) = bytes.as_chunks();
    let (fours, words) = words.as_chunks::<4>();
    let mut found = 0;
    for [a, b, c, d] in fours {
        found |= below(a) | below(b) | below(c) | below(d);
    }
    found |= words.iter().map(below).fold(0, |all, word| all | word);
    found & HIGHS != 0 || rest.iter().any(|&byte| byte < 0x20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_bytes_are_found_at_every_offset() {
        for special in [b'"', b'\\', 0x00, 0x1f, b'\n'] {
            for at in 0..40 {
                let mut bytes = vec![b'A'; 48];
                bytes[at] = special;
                assert_eq!(special_byte(&bytes), Some(at), "{special:#x} at {at}");
            }
        }
        assert_eq!(special_byte("äöü€ÿ~ !AZaz09+/=".as_bytes()), None);
    }

    #[test]
    fn members_are_given_as_written() {
        let text = r#" { "a" : "x\"}" , "id" : 1.50e2 , "n":{"id":[1,"]"]} } "#;
        assert_eq!(member(text, "id"), Some("1.50e2"));
        assert_eq!(member(text, "a"), Some(r#""x\"}""#));
        assert_eq!(member(text, "n"), Some(r#"{"id":[1,"]"]}"#));
        assert_eq!(member(text, "b"), None);
        assert_eq!(member("{}", "b"), None);
    }

    #[test]
    fn the_last_of_doubled_keys_counts_also_when_it_is_written_with_escapes() {
        assert_eq!(member(r#"{"id":{},"\u0069d":2}"#, "id"), Some("2"));
        assert_eq!(member(r#"{"\u0069d":2,"i\\u0064":3}"#, "id"), Some("2"));
    }

    #[test]
    fn decoded_length_counts_padding() {
        assert_eq!(decoded_bytes("AAAA"), 3);
        assert_eq!(decoded_bytes("AAA="), 2);
        assert_eq!(decoded_bytes("AA=="), 1);
        assert_eq!(decoded_bytes(""), 0);
        assert_eq!(decoded_bytes("=="), 0);
    }
}
