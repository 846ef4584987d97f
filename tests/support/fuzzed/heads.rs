//! HTTP heads, both ways: how the bytes were cut into reads must not matter.

use voicelived::net::body;
use voicelived::net::http::{self, MAX_HEAD, ParsedHead, Request, Upgrade};
use voicelived::net::upgrade::{self, Answer, MAX_ANSWER_HEAD};

/// Cuts that are tried of one input; a longer one is cut at evenly spread places.
const MOST_CUTS: usize = 600;

/// The answer that [`fuzz_upgrade_answer`] waits for: that of the example in RFC 6455.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The request head of a visitor.
pub fn fuzz_request_head(data: &[u8]) {
    let mut before = ParsedHead::Partial;
    for end in cuts(data.len()) {
        let head = http::parse(&data[..end]);
        match (&before, &head) {
            (ParsedHead::Partial, _) | (ParsedHead::Bad(_), ParsedHead::Bad(_)) => {}
            (before, head) => assert_eq!(before, head, "{end} bytes say something else"),
        }
        before = head;
    }
    assert!(data.len() <= MAX_HEAD || before != ParsedHead::Partial, "an endless head");
    if let ParsedHead::Complete(request, length) = before {
        assert!(length <= data.len().min(MAX_HEAD));
        assert!(data[..length].ends_with(b"\r\n\r\n"));
        assert_eq!(
            http::parse(&data[..length - 1]),
            ParsedHead::Partial,
            "one byte before the end"
        );
        check_request(&request);
    }
}

fn check_request(request: &Request) {
    assert!(request.path == "*" || request.path.starts_with('/'));
    assert!(!request.path.contains('?'));
    assert!(!request.method.is_empty());
    let parts = [&request.method, &request.path, &request.query, &request.host];
    let fields = [&request.if_none_match, &request.api_key];
    let credentials = [&request.authorization, &request.cookies];
    for text in parts.into_iter().chain(fields).chain(credentials).chain(&request.origins) {
        assert!(!text.contains(['\r', '\n', '\0']), "{text:?}");
    }
    if let Some(Upgrade::Valid { key, protocol }) = &request.upgrade {
        let mut answer = Vec::new();
        http::answer_upgrade(&mut answer, key, protocol.as_deref());
        // The client's half of this program offers no subprotocol, so it takes an answer without one.
        let line = protocol.as_ref().map(|token| format!("Sec-WebSocket-Protocol: {token}\r\n"));
        let text = String::from_utf8(answer).expect("text");
        let plain = text.replacen(&line.unwrap_or_default(), "", 1);
        let accepted = upgrade::answer(plain.as_bytes(), &upgrade::accept_key(key));
        assert_eq!(accepted, Answer::Upgraded(plain.len()));
    }
}

/// The service's answer to our request for an upgrade.
pub fn fuzz_upgrade_answer(data: &[u8]) {
    let mut before = Answer::Partial;
    for end in cuts(data.len()) {
        let answer = upgrade::answer(&data[..end], ACCEPT);
        match (&before, &answer) {
            (Answer::Partial, _) | (Answer::Invalid(_), Answer::Invalid(_)) => {}
            (before, answer) => assert_eq!(before, answer, "{end} bytes say something else"),
        }
        before = answer;
    }
    assert!(data.len() <= MAX_ANSWER_HEAD || before != Answer::Partial, "an endless head");
    match before {
        Answer::Upgraded(length) => assert!(data[..length].ends_with(b"\n")),
        Answer::Refused(refusal) => {
            assert!(data[..refusal.head_bytes].ends_with(b"\n"));
            assert!(refusal.status != 101);
            let raw = &data[refusal.head_bytes..];
            let (body, _) = body::unchunked(raw);
            assert!(body.len() <= raw.len());
            assert!(body::text(&body).len() <= 3 * body.len());
            let texts = [refusal.request_id, refusal.date];
            assert!(texts.iter().flatten().all(|text| text.chars().count() <= 64));
        }
        Answer::Partial | Answer::Invalid(_) => {}
    }
}

/// Lengths in rising order, the whole last.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    let step = length / MOST_CUTS + 1;
    (0..length).step_by(step).chain([length])
}
