//! The body of a refusal, as text: what the transfer and a byte order mark put around it is taken off.
//! It may be cut at any byte, since only its beginning is kept.

/// What there is of a chunked body (RFC 9112, section 7.1), and whether nothing more of it can come: it
/// has ended, or it breaks the rules. Extensions and trailers are passed over.
#[must_use]
pub fn unchunked(bytes: &[u8]) -> (Vec<u8>, bool) {
    let (mut body, mut rest) = (Vec::new(), bytes);
    loop {
        let (head, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return (body, false),
            Err(_) => return (body, true),
        };
        if size == 0 {
            return (body, true);
        }
        let data = &rest[head..];
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        body.extend_from_slice(&data[..size.min(data.len())]);
        match data.get(size..) {
            None | Some([] | [b'\r']) => return (body, false),
            Some([b'\r', b'\n', next @ ..]) => rest = next,
            Some(_) => return (body, true),
        }
    }
}

/// The text of a body. It is UTF-8, unless a byte order mark says UTF-16; what is neither becomes
/// U+FFFD.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let (pairs, _half) = bytes.as_chunks::<2>();
    let letters = char::decode_utf16(pairs.iter().map(|pair| unit(*pair)));
    letters.map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_every_cut_gives_what_was_got() {
        let sent = b"3;a=\"b\"\r\nabc\r\n0a \r\n0123456789\r\n0\r\nx: y\r\n\r\n";
        let whole = b"abc0123456789";
        assert_eq!(unchunked(sent), (whole.to_vec(), true));
        for end in 0..sent.len() {
            let (got, complete) = unchunked(&sent[..end]);
            assert!(whole.starts_with(&got), "cut at {end}");
            assert_eq!(complete, end >= sent.len() - 8, "cut at {end}");
        }
    }

    #[test]
    fn what_breaks_the_rules_ends_the_body() {
        for (sent, expected) in [
            (&b"3\r\nabcX3\r\ndef\r\n"[..], &b"abc"[..]),
            (b"3\r\nabc\r\n-1\r\n", b"abc"),
            (b"xyz", b""),
            (b"11111111111111111\r\n", b""),
            (b"3\nabc", b""),
        ] {
            assert_eq!(unchunked(sent), (expected.to_vec(), true), "{sent:?}");
        }
        assert_eq!(unchunked(b"ffffffffffffffff\r\nab"), (b"ab".to_vec(), false));
    }

    #[test]
    fn a_byte_order_mark_tells_the_encoding() {
        assert_eq!(text(b"\xef\xbb\xbfab"), "ab");
        assert_eq!(text(b"\xff\xfea\0b\0c"), "ab");
        assert_eq!(text(b"\xfe\xff\0a\xd8\0"), "a\u{fffd}");
        assert_eq!(text(b"a\xff"), "a\u{fffd}");
        assert_eq!(text(b""), "");
    }
}
