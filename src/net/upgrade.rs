//! The WebSocket opening handshake in both roles (RFC 6455, section 4): pure text and checks.
//!
//! What has arrived of an answer is judged anew each time: [`Answer::Partial`] → any other one, and that
//! stays, whatever follows. So the caller needs no state, and how the bytes were cut cannot matter.
//! Without that a slow network could get another verdict than a fast one.
//!
//! [`Answer::Upgraded`] says where frames begin. The service may send its first frame in the same
//! packet; bytes behind the head that were thrown away would be missing from the middle of a frame.
//! The accept key proves that the answer is to this request: without the check a cache or another
//! server that says 101 to anything would be taken for the service.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::rand::{SecureRandom, SystemRandom};

/// Appended to the key before hashing (RFC 6455, section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Bytes of a service's answer head that are read before giving up.
pub const MAX_ANSWER_HEAD: usize = 16 * 1024;

/// Fields that an answer head may have.
const MAX_ANSWER_FIELDS: usize = 64;

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`.
#[must_use]
pub fn accept_key(key: &str) -> String {
    let joined = [key.as_bytes(), GUID].concat();
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &joined))
}

/// Random bytes as lower-case hex: WebSocket keys, session ids and secrets start here.
///
/// # Errors
/// When the system has no randomness to give.
pub fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(bytes)
}

/// A random UUID (RFC 9562, version 4), by which Azure's support finds a request.
///
/// # Errors
/// When the system has no randomness to give.
pub fn request_id() -> Result<String, String> {
    let mut bytes = random::<16>()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = |part: &[u8]| part.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let parts = [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]].map(hex);
    Ok(parts.join("-"))
}

/// The client's request. `credential` is a whole header line without line end (for example
/// `api-key: …`) or empty, and `request_id` is a [`request_id`] or empty; both must already be free of
/// control characters.
///
/// # Errors
/// When the system has no randomness for the key.
pub fn request(
    host: &str,
    target: &str,
    credential: &str,
    request_id: &str,
) -> Result<Request, String> {
    let key = STANDARD.encode(random::<16>()?);
    let separator = if credential.is_empty() { "" } else { "\r\n" };
    let id = if request_id.is_empty() {
        String::new()
    } else {
        format!("x-ms-client-request-id: {request_id}\r\n")
    };
    let text = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
         User-Agent: voicelived/{}\r\n{id}{credential}{separator}\r\n",
        env!("CARGO_PKG_VERSION")
    );
    Ok(Request { text, accept: accept_key(&key) })
}

/// A request ready to send, and the answer it wants. No `Debug`: it holds the credential.
#[allow(missing_debug_implementations, reason = "the text holds the credential")]
pub struct Request {
    /// The bytes to send.
    pub text: String,
    /// The `Sec-WebSocket-Accept` that proves the answer is to this request.
    pub accept: String,
}

/// What the service answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The head is not complete yet.
    Partial,
    /// 101 with all four checks passed; the head ends after this many bytes.
    Upgraded(usize),
    /// A status other than 101.
    Refused(Refusal),
    /// No proper answer to a WebSocket request.
    Invalid(&'static str),
}

/// An HTTP answer other than 101.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After` in seconds, if it was a number.
    pub retry_after: Option<u32>,
    /// `apim-request-id` or `x-ms-request-id`: Azure support asks for it.
    pub request_id: Option<String>,
    /// `Date`, as sent: tells whether our own clock is wrong.
    pub date: Option<String>,
    /// `Content-Length`, if given. A chunked body has none that counts.
    pub content_length: Option<usize>,
    /// Whether the body comes in chunks (RFC 9112, section 7.1).
    pub chunked: bool,
    /// Bytes of the head; what follows is the body.
    pub head_bytes: usize,
}

/// Where the answer begins behind heads that only say that it is on its way, such as 100 and 103 (RFC 9110,
/// section 15.2).
pub(super) fn after_provisional(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MAX_ANSWER_FIELDS];
        let mut head = httparse::Response::new(&mut fields);
        let parsed = head.parse(bytes.get(at..).unwrap_or_default());
        match (parsed, head.code) {
            (Ok(httparse::Status::Complete(length)), Some(100 | 102..=199)) => at += length,
            _ => return at,
        }
    }
}

/// Judges what has arrived so far. `accept` is [`Request::accept`].
#[must_use]
pub fn answer(bytes: &[u8], accept: &str) -> Answer {
    let before = after_provisional(bytes);
    let mut fields = [httparse::EMPTY_HEADER; MAX_ANSWER_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let head_bytes = match head.parse(bytes.get(before..).unwrap_or_default()) {
        Ok(httparse::Status::Complete(length)) if before + length <= MAX_ANSWER_HEAD => {
            before + length
        }
        Ok(httparse::Status::Partial) if bytes.len() < MAX_ANSWER_HEAD => return Answer::Partial,
        Ok(_) => return Answer::Invalid("the answer's head is too long"),
        Err(_) => return Answer::Invalid("the answer is not HTTP"),
    };
    match head.code {
        Some(101) => match check_upgrade(head.headers, accept) {
            Ok(()) => Answer::Upgraded(head_bytes),
            Err(what) => Answer::Invalid(what),
        },
        Some(status) => Answer::Refused(refusal(status, head.headers, head_bytes)),
        None => Answer::Invalid("the answer has no status"),
    }
}

/// The checks of RFC 6455, section 4.1: `Upgrade`, `Connection`, `Sec-WebSocket-Accept`, and no
/// extension or subprotocol that nobody asked for.
fn check_upgrade(fields: &[httparse::Header<'_>], accept: &str) -> Result<(), &'static str> {
    if !field(fields, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
        return Err("the answer does not upgrade to websocket");
    }
    if !field(fields, "connection").is_some_and(|value| has_token(value, "upgrade")) {
        return Err("the answer's Connection field lacks upgrade");
    }
    if field(fields, "sec-websocket-accept") != Some(accept) {
        return Err("the answer's Sec-WebSocket-Accept is wrong");
    }
    if field(fields, "sec-websocket-extensions").is_some()
        || field(fields, "sec-websocket-protocol").is_some()
    {
        return Err("the answer uses an extension or subprotocol that was not offered");
    }
    Ok(())
}

fn refusal(status: u16, fields: &[httparse::Header<'_>], head_bytes: usize) -> Refusal {
    let number = |name| field(fields, name).and_then(|value| value.parse().ok());
    let chunked = field(fields, "transfer-encoding").is_some_and(|it| has_token(it, "chunked"));
    let id = field(fields, "apim-request-id").or_else(|| field(fields, "x-ms-request-id"));
    Refusal {
        status,
        retry_after: number("retry-after").and_then(|seconds: usize| u32::try_from(seconds).ok()),
        request_id: id.map(|value| value.chars().take(64).collect()),
        date: field(fields, "date").map(|value| value.chars().take(64).collect()),
        content_length: number("content-length").filter(|_| !chunked),
        chunked,
        head_bytes,
    }
}

fn field<'a>(fields: &[httparse::Header<'a>], name: &str) -> Option<&'a str> {
    let found = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(found.value).ok().map(str::trim)
}

/// Whether a comma-separated list holds a token, in any case (RFC 9110, section 5.6.1).
#[must_use]
pub fn has_token(list: &str, token: &str) -> bool {
    list.split(',').any(|part| part.trim_matches([' ', '\t']).eq_ignore_ascii_case(token))
}

/// `text` as a value of a URL's query: everything but RFC 3986's unreserved characters is encoded
/// (section 2.3).
#[must_use]
pub fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    #[test]
    fn the_accept_key_is_that_of_the_rfc_example() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), ACCEPT);
    }

    fn good() -> String {
        format!(
            "HTTP/1.1 101 Switching\r\nupgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
        )
    }

    #[test]
    fn a_good_answer_is_accepted_and_tells_where_frames_begin() {
        let text = good();
        assert_eq!(answer(text.as_bytes(), ACCEPT), Answer::Upgraded(text.len()));
        assert_eq!(
            answer(format!("{text}\u{1}x").as_bytes(), ACCEPT),
            Answer::Upgraded(text.len())
        );
    }

    #[test]
    fn every_cut_of_a_good_answer_is_partial() {
        let text = good();
        for text in [text.clone(), format!("HTTP/1.1 100 Continue\r\n\r\n{text}")] {
            for end in 0..text.len() {
                let cut = &text.as_bytes()[..end];
                assert_eq!(answer(cut, ACCEPT), Answer::Partial, "cut at {end}");
            }
            assert_eq!(answer(text.as_bytes(), ACCEPT), Answer::Upgraded(text.len()));
        }
    }

    #[test]
    fn each_of_the_four_checks_can_fail() {
        for (from, to) in [
            ("upgrade: WebSocket", "upgrade: h2c"),
            ("keep-alive, Upgrade", "keep-alive"),
            ("s3pPLMB", "s3pPLMC"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
        ] {
            let text = good().replace(from, to);
            assert!(matches!(answer(text.as_bytes(), ACCEPT), Answer::Invalid(_)), "{text}");
        }
    }

    #[test]
    fn a_refusal_keeps_what_helps_the_user() {
        let text = "HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\napim-request-id: abc\r\nContent-Length: 2\r\n\r\n{}";
        let Answer::Refused(refusal) = answer(text.as_bytes(), ACCEPT) else {
            panic!("not refused")
        };
        assert_eq!(
            (refusal.status, refusal.retry_after, refusal.content_length),
            (429, Some(7), Some(2))
        );
        assert_eq!(refusal.request_id.as_deref(), Some("abc"));
        assert_eq!(&text[refusal.head_bytes..], "{}");
    }

    #[test]
    fn endless_or_foreign_answers_are_refused() {
        let endless = format!("HTTP/1.1 101 X\r\na: {}", "b".repeat(MAX_ANSWER_HEAD));
        assert!(matches!(answer(endless.as_bytes(), ACCEPT), Answer::Invalid(_)));
        assert!(matches!(answer(b"SSH-2.0-OpenSSH_9\r\n", ACCEPT), Answer::Invalid(_)));
    }

    #[test]
    fn a_long_answer_is_refused_however_it_arrives() {
        let text = format!("HTTP/1.1 401 X\r\na: {}\r\n\r\n", "b".repeat(MAX_ANSWER_HEAD));
        assert!(matches!(answer(text.as_bytes(), ACCEPT), Answer::Invalid(_)));
        assert!(matches!(answer(&text.as_bytes()[..MAX_ANSWER_HEAD], ACCEPT), Answer::Invalid(_)));
    }

    #[test]
    fn the_request_carries_the_credential_once_and_ends_properly() {
        let request = request("h:1", "/p?x=1", "api-key: k", "u").expect("randomness");
        assert!(request.text.contains("\r\nx-ms-client-request-id: u\r\n"));
        assert!(request.text.ends_with("\r\napi-key: k\r\n\r\n"));
        let bare = super::request("h", "/", "", "").expect("randomness").text;
        assert!(bare.ends_with("\r\n\r\n") && !bare.contains("request-id"));
        assert_eq!(request.text.matches("\r\n\r\n").count(), 1);
    }
}
