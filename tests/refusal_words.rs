//! What the service says when it refuses the upgrade reaches the caller, the log and `check`, however
//! the answer is framed. And what Azure's support asks for is on the way out and in the log.

use std::net::SocketAddr;
use std::process::Command;

use crate::support;
use support::client::Client;
use support::daemon::{Daemon, KEY};
use support::recorder::Recorder;
use support::service::Service;

const JSON: &str = r#"{"error":{"code":"401","message":"Access denied by héÿ of this test."}}"#;
const SAID: &str = "It said: Access denied by héÿ of this test.";

/// `body` in chunks of so many bytes, each size line with this behind it.
fn chunked(body: &[u8], size: usize, extension: &str) -> Vec<u8> {
    let mut sent = Vec::new();
    for chunk in body.chunks(size) {
        sent.extend(format!("{:X}{extension}\r\n", chunk.len()).bytes());
        sent.extend([chunk, b"\r\n"].concat());
    }
    sent
}

fn answer(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 401 Unauthorized\r\napim-request-id: abc\r\n{fields}\r\n");
    [head.as_bytes(), body].concat()
}

/// What a caller is told when the service answers so.
fn told(answer: &[u8]) -> String {
    let daemon = Daemon::run(Recorder::plain(answer).address, &[]);
    Client::connect(daemon.address).assert_ends("refused", 1011, "unauthorized")
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

#[test]
fn a_chunked_refusal_keeps_its_words() {
    let json = JSON.as_bytes();
    let end = |ending: &str, body: Vec<u8>| [body, ending.as_bytes().to_vec()].concat();
    for (what, fields, body) in [
        ("one chunk", CHUNKED, end("0\r\n\r\n", chunked(json, 999, ""))),
        ("a byte each", CHUNKED, end("0\r\n\r\n", chunked(json, 1, ""))),
        ("odd sizes", CHUNKED, end("0\r\n\r\n", chunked(json, 7, ""))),
        (
            "zeros before",
            CHUNKED,
            end("000\r\n\r\n", [b"00".to_vec(), chunked(json, 99, "")].concat()),
        ),
        ("extensions", CHUNKED, end("0;last\r\n\r\n", chunked(json, 20, ";a=b;c=\"d\""))),
        ("blanks", CHUNKED, end("0\r\n\r\n", chunked(json, 20, " "))),
        ("trailers", CHUNKED, end("0\r\nx-a: b\r\nx-c: d\r\n\r\n", chunked(json, 20, ""))),
        ("another case", "transfer-encoding: CHUNKED\r\n", end("0\r\n\r\n", chunked(json, 9, ""))),
        ("no last chunk", CHUNKED, chunked(json, 20, "")),
        ("a broken size after all", CHUNKED, end("xyz\r\n", chunked(json, 20, ""))),
        (
            "a length too",
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            end("0\r\n\r\n", chunked(json, 20, "")),
        ),
        ("what is no part of it", CHUNKED, end("0\r\n\r\nHTTP/1.1 400 X", chunked(json, 20, ""))),
    ] {
        let message = told(&answer(fields, &body));
        assert!(message.contains(SAID), "{what}: {message}");
        assert!(message.contains("(request abc)"), "{what}: {message}");
    }
}

/// Proxies and gateways say that something is on its way (RFC 9110, section 15.2) before they answer.
#[test]
fn what_comes_before_the_answer_hides_it_not() {
    let end = format!("Content-Length: {}\r\n", JSON.len());
    for before in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100\r\n\r\n",
        "HTTP/1.1 102 Processing\r\napim-request-id: other\r\nContent-Length: 9\r\n\r\n",
    ] {
        let answer = [before.as_bytes(), &answer(&end, JSON.as_bytes())].concat();
        let message = told(&answer);
        assert!(message.contains(SAID) && message.contains("(request abc)"), "{before}: {message}");
    }
    // Without an end.
    let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(2_000);
    let daemon = Daemon::run(Recorder::plain(endless.as_bytes()).address, &[]);
    Client::connect(daemon.address).assert_ends("endless", 1011, "bad_answer");
}

#[test]
fn what_was_got_of_a_broken_body_is_told() {
    let json = JSON.as_bytes();
    let whole = chunked(json, 25, "");
    for (what, fields, body) in [
        ("cut in a chunk", CHUNKED, whole[..60].to_vec()),
        (
            "a broken size in the middle",
            CHUNKED,
            [chunked(&json[..40], 40, ""), b"zz\r\n".to_vec(), json[40..].to_vec()].concat(),
        ),
        (
            "no line end after a chunk",
            CHUNKED,
            [b"28\r\n", &json[..40], b"28\r\n", &json[40..]].concat(),
        ),
        ("cut by its length", "Content-Length: 40\r\n", json.to_vec()),
        ("less than its length", "Content-Length: 400\r\n", json[..50].to_vec()),
    ] {
        let message = told(&answer(fields, &body));
        assert!(message.contains("It said: Access"), "{what}: {message}");
    }
    // Larger than is kept: the words are at the beginning.
    let long = JSON.replace("}}", &format!(r#","details":"{}"}}}}"#, "x".repeat(20_000)));
    let long = long.as_bytes();
    let message = told(&answer(CHUNKED, &chunked(long, 1000, "")));
    assert!(message.contains(SAID), "{message}");
    assert!(message.len() < 800, "{message}");
    let message = told(&answer(&format!("Content-Length: {}\r\n", long.len()), long));
    assert!(message.contains(SAID), "{message}");
}

#[test]
fn a_byte_order_mark_hides_no_words() {
    let utf16 = |order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        "\u{feff}".encode_utf16().chain(JSON.encode_utf16()).flat_map(order).collect()
    };
    for (what, body) in [
        ("UTF-8", format!("\u{feff}{JSON}").into_bytes()),
        ("UTF-16, low byte first", utf16(u16::to_le_bytes)),
        ("UTF-16, high byte first", utf16(u16::to_be_bytes)),
    ] {
        let message = told(&answer(&format!("Content-Length: {}\r\n", body.len()), &body));
        assert!(message.contains(SAID), "{what}: {message}");
        let body = [chunked(&body, 2, ""), b"0\r\n\r\n".to_vec()].concat();
        let message = told(&answer(CHUNKED, &body));
        assert!(message.contains(SAID), "{what}, chunked: {message}");
    }
}

/// A proxy may compress its words although nobody has asked for that: no letter of them is worth showing.
#[test]
fn what_is_no_text_is_not_shown() {
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\xabVJ-*\xca/R\xb2\x52\xaaVJ";
    for headers in ["Content-Encoding: gzip\r\n", CHUNKED] {
        let body = match headers {
            CHUNKED => [chunked(gzip, 7, ""), b"0\r\n\r\n".to_vec()].concat(),
            _ => gzip.to_vec(),
        };
        let message = told(&answer(headers, &body));
        assert!(!message.contains("It said") && message.contains("401"), "{message}");
    }
    let inner =
        br#"{"error":{"code":"BadRequest","message":"","innererror":{"message":"Inner words"}}}"#;
    let message = told(&answer(&format!("Content-Length: {}\r\n", inner.len()), inner));
    assert!(message.contains("It said: Inner words"), "{message}");
}

#[test]
fn a_chunked_refusal_of_the_model_is_understood() {
    let body = br#"{"error":{"code":"model_not_found","message":"No such model: m1."}}"#;
    let body = [chunked(body, 1, ""), b"0\r\n\r\n".to_vec()].concat();
    // 404 alone would say as much.
    let head = b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n";
    let service = Recorder::plain(&[head.as_slice(), &body].concat());
    let daemon = Daemon::run(service.address, &[("VOICE_LIVE_MODEL", "m1,m2")]);
    Client::connect(daemon.address).assert_ends("both", 1011, "bad_request");
    daemon.wait_for_log("the model m1 is refused; m2 is tried instead");
}

#[test]
fn a_key_that_comes_back_in_chunks_is_concealed() {
    let body = format!(r#"{{"error":{{"message":"The key {KEY} is wrong."}}}}"#);
    let body = [chunked(body.as_bytes(), 3, ""), b"0\r\n\r\n".to_vec()].concat();
    let message = told(&answer(CHUNKED, &body));
    assert!(message.contains("The key *** is wrong."), "{message}");
}

fn check(service: SocketAddr) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_voicelived"))
        .arg("check")
        .env_clear()
        .env("AZURE_VOICE_LIVE_ENDPOINT", format!("ws://{service}"))
        .env("AZURE_VOICE_LIVE_API_KEY", KEY)
        .current_dir(std::env::temp_dir())
        .output()
        .expect("it runs");
    String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8")
}

#[test]
fn check_tells_the_words_too() {
    let body = [chunked(JSON.as_bytes(), 9, ""), b"0\r\n\r\n".to_vec()].concat();
    let told = check(Recorder::plain(&answer(CHUNKED, &body)).address);
    assert!(told.contains(SAID), "{told}");
}

/// The value of the request's `x-ms-client-request-id`.
fn request_id(head: &str) -> String {
    let mut ids = head.lines().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("x-ms-client-request-id").then(|| value.trim().to_owned())
    });
    let id = ids.next().unwrap_or_else(|| panic!("no id in {head}"));
    assert_eq!(ids.next(), None, "{head}");
    id
}

/// RFC 9562, version 4.
fn assert_uuid(id: &str) {
    let parts: Vec<&str> = id.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{id}");
    assert!(id.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()), "{id}");
    assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{id}");
}

#[test]
fn each_call_has_a_request_id_for_azures_support() {
    let service = Service::new();
    let daemon = Daemon::run(service.address, &[]);
    for _ in 0..2 {
        let mut client = Client::connect(daemon.address);
        client.wait_until_active();
        client.tell(&serde_json::json!({"type": "hang_up"}));
        client.assert_ends("hanging up", 1000, "hang_up");
    }
    daemon.wait_until("both are logged", |daemon| daemon.log().matches("ended: ").count() == 2);
    let ids: Vec<String> = service.calls().iter().map(|told| request_id(&told.head)).collect();
    assert_ne!(ids[0], ids[1]);
    for id in &ids {
        assert_uuid(id);
        let log = daemon.log();
        let line = log.lines().find(|line| line.contains(id.as_str())).expect("it is logged");
        assert!(line.contains("ended: hang_up"), "{line}");
    }
}

#[test]
fn a_refused_call_has_its_request_id_in_the_log_and_check_prints_it() {
    let service = Recorder::plain(&answer("Content-Length: 0\r\n", b""));
    let daemon = Daemon::run(service.address, &[]);
    Client::connect(daemon.address).assert_ends("refused", 1011, "unauthorized");
    let id = request_id(&service.heard());
    assert_uuid(&id);
    daemon.wait_for_log(&id);
    let service = Recorder::plain(&answer("Content-Length: 0\r\n", b""));
    let told = check(service.address);
    assert!(told.contains(&request_id(&service.heard())), "{told}");
}
