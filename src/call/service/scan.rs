//! Borrowed scanning of JSON text: the hot path's way around a JSON tree.
//!
//! [`audio_delta`] answers only when it is sure; whatever it does not know well (escapes, nesting,
//! doubled keys, odd numbers) it leaves to `serde_json`, so both always agree. [`Scan`] says what it
//! takes for granted.

use std::ops::Range;

use super::{AudioDelta, MAX_ID_BYTES};

/// The two names of a reply audio delta: dated api-versions, and the GA dialect.
pub(super) const AUDIO_DELTA_TYPES: [&str; 2] =
    ["response.audio.delta", "response.output_audio.delta"];

/// What is known of a message before it is scanned, and how much of it is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    /// It is UTF-8. Every byte is looked at, and the answer is sure.
    Whole,
    /// It is any bytes; what we look for is all ASCII. A base64 text at its very end is taken for
    /// granted, since whoever decodes it looks at each of its bytes, and they are almost all of the
    /// message: the answer is sure if it decodes.
    ButBase64,
}

/// Recognises a reply audio delta, in any key order, without allocating. `None` means "not sure",
/// never "not an audio delta".
pub(super) fn audio_delta(message: &[u8], scan: Scan) -> Option<AudioDelta<'_>> {
    let mut cursor = Cursor { bytes: message, at: 0, utf8: scan == Scan::Whole };
    let (mut found, mut guess) = (DeltaMembers::default(), 0);
    cursor.expect(b'{')?;
    loop {
        let member = cursor.member(&mut guess)?;
        if member == Member::Delta
            && scan == Scan::ButBase64
            && found.lacks_only_delta()
            && let Some(base64) = cursor.string_at_end()
        {
            found.delta = Some(base64);
            return found.into_delta(message);
        }
        found.take(&mut cursor, member)?;
        match cursor.next_token()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    cursor.at_end().then_some(())?;
    found.into_delta(message)
}

/// The text of a top-level member's value exactly as it stands in `text`, which must be valid JSON.
/// Of doubled keys the last counts, as in a JSON tree.
pub(in crate::call) fn member<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut cursor = Cursor { bytes: text.as_bytes(), at: 0, utf8: true };
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
pub(super) fn decoded_bytes(base64: &[u8]) -> usize {
    let padding = base64.iter().rev().take_while(|&&byte| byte == b'=').count();
    (base64.len() / 4 * 3).saturating_sub(padding.min(2))
}

/// A member of an audio delta, by what matters of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    Type,
    ResponseId,
    ItemId,
    Delta,
    /// Any other; it is stepped over.
    Other,
}

/// The keys in their usual order: a guess saves reading them letter by letter.
const USUAL_KEYS: [(&[u8], Member); 7] = [
    (b"\"type\":", Member::Type),
    (b"\"event_id\":", Member::Other),
    (b"\"response_id\":", Member::ResponseId),
    (b"\"item_id\":", Member::ItemId),
    (b"\"output_index\":", Member::Other),
    (b"\"content_index\":", Member::Other),
    (b"\"delta\":", Member::Delta),
];

/// The fields of an audio delta that have been found so far.
#[derive(Default)]
struct DeltaMembers<'a> {
    kind: bool,
    response_id: Option<&'a [u8]>,
    item_id: Option<&'a [u8]>,
    delta: Option<Range<usize>>,
}

impl<'a> DeltaMembers<'a> {
    fn take(&mut self, cursor: &mut Cursor<'a>, member: Member) -> Option<()> {
        if member == Member::Other {
            return cursor.skip_simple();
        }
        let (text, end) = (cursor.plain_string()?, cursor.at - 1);
        let doubled = match member {
            Member::Type => {
                // Most events that are no audio delta name their type early: stop there.
                AUDIO_DELTA_TYPES.iter().any(|known| known.as_bytes() == text).then_some(())?;
                std::mem::replace(&mut self.kind, true)
            }
            Member::ResponseId => self.response_id.replace(text).is_some(),
            Member::ItemId => self.item_id.replace(text).is_some(),
            _ => self.delta.replace(end - text.len()..end).is_some(),
        };
        (!doubled).then_some(())
    }

    fn lacks_only_delta(&self) -> bool {
        let ids = self.response_id.is_some() && self.item_id.is_some();
        self.kind && ids && self.delta.is_none()
    }

    fn into_delta(self, message: &'a [u8]) -> Option<AudioDelta<'a>> {
        self.kind.then_some(())?;
        let base64 = self.delta?;
        let (response_id, item_id) = (id(self.response_id?)?, id(self.item_id?)?);
        let pcm_bytes = decoded_bytes(&message[base64.clone()]);
        Some(AudioDelta { response_id, item_id, base64, pcm_bytes })
    }
}

fn id(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|id| id.len() <= MAX_ID_BYTES)
}

/// A position in a text.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The text is known to be UTF-8; else only ASCII is taken.
    utf8: bool,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The next byte that is not white space, stepped over.
    fn next_token(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            if !is_blank(byte) {
                return Some(byte);
            }
        }
    }

    /// The same, not stepped over.
    fn peek_token(&mut self) -> Option<u8> {
        let byte = self.next_token()?;
        self.at -= 1;
        Some(byte)
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        (self.next_token()? == wanted).then_some(())
    }

    fn at_end(&mut self) -> bool {
        self.next_token().is_none()
    }

    /// A key and the colon behind it. `guess` is the usual key that may stand here.
    fn member(&mut self, guess: &mut usize) -> Option<Member> {
        if let Some((key, member)) = USUAL_KEYS.get(*guess)
            && self.rest().starts_with(key)
        {
            self.at += key.len();
            *guess += 1;
            return Some(*member);
        }
        let key = self.plain_string()?;
        self.expect(b':')?;
        let usual = |(usual, _): &(&[u8], Member)| usual[1..usual.len() - 2] == *key;
        let Some(at) = USUAL_KEYS.iter().position(usual) else { return Some(Member::Other) };
        *guess = at + 1;
        Some(USUAL_KEYS[at].1)
    }

    /// A string without escapes.
    fn plain_string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            self.at += special_byte(self.rest())?;
            match self.bytes[self.at] {
                b'"' => break,
                0x80.. if self.utf8 => self.at += 1,
                _ => return None, // an escape, or a control character
            }
        }
        let end = self.at;
        self.at += 1;
        Some(&self.bytes[start..end])
    }

    /// Where the string here stands, if it is the last thing in the outermost object and holds no quote:
    /// nothing else of it is looked at.
    fn string_at_end(&mut self) -> Option<Range<usize>> {
        if self.peek_token()? != b'"' || !self.bytes.ends_with(b"\"}") {
            return None;
        }
        let (start, end) = (self.at + 1, self.bytes.len() - 2);
        (start <= end).then_some(start..end)
    }

    /// The rest of a string whose opening quote was stepped over; escapes allowed.
    fn any_string(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        loop {
            self.at += special_byte(self.rest())?;
            let byte = self.bytes[self.at];
            self.at += 1;
            match byte {
                b'"' => return Some(start..self.at - 1),
                b'\\' if self.at < self.bytes.len() => self.at += 1,
                0x80.. => {}
                _ => return None,
            }
        }
    }

    /// Steps over a value that cannot hide anything: a plain string, a short whole number, a word.
    fn skip_simple(&mut self) -> Option<()> {
        match self.peek_token()? {
            b'"' => self.plain_string().map(|_| ()),
            b'0'..=b'9' => self.skip_number(),
            b'n' => self.skip_word(b"null"),
            b't' => self.skip_word(b"true"),
            b'f' => self.skip_word(b"false"),
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

    fn skip_word(&mut self, word: &[u8]) -> Option<()> {
        self.rest().starts_with(word).then_some(())?;
        self.at += word.len();
        Some(())
    }

    /// Steps over any value of valid JSON.
    fn any_value(&mut self) -> Option<Range<usize>> {
        self.peek_token()?;
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.rest().first()? {
                b'"' => {
                    self.at += 1;
                    self.any_string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth > 0 => depth -= 1,
                b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => break,
                _ => {}
            }
            self.at += 1;
        }
        (self.at > start).then_some(start..self.at)
    }
}

fn is_blank(byte: u8) -> bool {
    byte <= b' ' && matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Where the first quote, backslash, control character or part of a character beyond ASCII stands.
fn special_byte(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        let special = specials(u64::from_le_bytes(*word));
        if special != 0 {
            return Some(number * 8 + special.trailing_zeros() as usize / 8);
        }
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | ..0x20 | 0x80..);
    rest.iter().position(special).map(|at| words.len() * 8 + at)
}

/// The highest bit of the lowest special byte in a word; those of higher bytes may be wrong.
fn specials(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // What is below the limit borrows into its highest bit; who has that set is special anyway.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit);
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (word | below(word, 0x20) | is(b'"') | is(b'\\')) & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_bytes_are_found_at_every_offset() {
        for special in [b'"', b'\\', 0x00, 0x1f, b'\n', 0x80, 0xff] {
            for at in 0..40 {
                let mut bytes = vec![b'A'; 48];
                bytes[at] = special;
                assert_eq!(special_byte(&bytes), Some(at), "{special:#x} at {at}");
            }
        }
        let plain: Vec<u8> =
            (0x20..0x80).filter(|byte| !matches!(byte, b'"' | b'\\')).cycle().take(999).collect();
        assert_eq!(special_byte(&plain), None);
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
        assert_eq!(decoded_bytes(b"AAAA"), 3);
        assert_eq!(decoded_bytes(b"AAA="), 2);
        assert_eq!(decoded_bytes(b"AA=="), 1);
        assert_eq!(decoded_bytes(b""), 0);
        assert_eq!(decoded_bytes(b"=="), 0);
    }
}
