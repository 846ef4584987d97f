//! Clients that break the rules: each one loses its own call, is told why, and leaves nothing
//! behind.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::support;
use serde_json::json;
use support::client::Client;
use support::daemon::Daemon;
use support::frames::{frame, head, unmasked};
use support::time::at_once;
use support::witness::{self, Witness};
use tungstenite::Message;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
/// Without FIN: the first fragment of a text, and one in the middle.
const TEXT_BEGINS: u8 = 0x01;
const MIDDLE: u8 = 0x00;

/// A daemon whose service gives witnesses what they know, with a call under way.
struct Scene {
    daemon: Daemon,
    _service: Daemon,
    descriptors: usize,
    witness: Witness,
}

impl Scene {
    fn new() -> Self {
        let service = Daemon::simulate(&witness::SERVICE);
        let daemon = Daemon::run(service.address, &[("VOICELIVED_RESUME_SECONDS", "0")]);
        let descriptors = daemon.descriptors();
        let witness = Witness::call(daemon.address);
        Self { daemon, _service: service, descriptors, witness }
    }

    fn call(&self) -> Client {
        let mut client = Client::connect(self.daemon.address);
        client.wait_until_active();
        client
    }

    /// Each of these, sent in an active call, ends that call with this code and reason.
    fn assert_each_ends(
        &self,
        cases: impl IntoIterator<Item = (&'static str, Vec<u8>, u16, &'static str)>,
    ) {
        for (what, bytes, code, reason) in cases {
            at_once(what, Duration::from_millis(1500), || {
                let mut client = self.call();
                // The service may refuse too, so a flood has a word of its own.
                let word = if reason == "refused" { "flood" } else { reason };
                let before = self.daemon.count("calls_ended_total", word);
                client.send_raw(&bytes);
                let start = Instant::now();
                client.assert_ends(what, code, reason);
                self.daemon.assert_counted("calls_ended_total", word, before + 1);
                start.elapsed()
            });
        }
    }

    fn finish(self) {
        self.witness.finish();
        self.daemon.assert_nothing_left(self.descriptors);
    }
}

#[test]
fn broken_frames_end_the_call_with_their_close_code() {
    let scene = Scene::new();
    scene.assert_each_ends([
        ("unmasked", unmasked(BINARY, &[0; 4]), 1002, "bad_protocol"),
        ("RSV1", frame(BINARY | 0x40, &[0; 4]), 1002, "bad_protocol"),
        ("RSV2", frame(BINARY | 0x20, &[0; 4]), 1002, "bad_protocol"),
        ("RSV3", frame(BINARY | 0x10, &[0; 4]), 1002, "bad_protocol"),
        ("opcode 3", frame(0x83, b""), 1002, "bad_protocol"),
        ("opcode 11", frame(0x8b, b""), 1002, "bad_protocol"),
        ("a ping of 126 bytes", frame(PING, &[0; 126]), 1002, "bad_protocol"),
        ("half a ping", frame(PING & 0x7f, b""), 1002, "bad_protocol"),
        ("a continuation first", frame(0x80, b""), 1002, "bad_protocol"),
        (
            "a text inside a text",
            [frame(TEXT_BEGINS, b"{"), frame(TEXT, b"{}")].concat(),
            1002,
            "bad_protocol",
        ),
        ("a close of 1 byte", frame(CLOSE, &[3]), 1002, "bad_protocol"),
        ("a close reason of no UTF-8", frame(CLOSE, &[3, 0xe8, 0xff]), 1007, "bad_text"),
        ("a text of no UTF-8", frame(TEXT, &[b'"', 0xc3, 0x28]), 1007, "bad_text"),
        ("65,537 bytes", frame(BINARY, &vec![0; 65_537]), 1009, "too_big"),
        ("the head of 70,000 bytes", head(BINARY, 70_000), 1009, "too_big"),
        ("the head of 2^62 bytes", head(BINARY, 1 << 62), 1009, "too_big"),
        ("the head of 2^63 bytes", head(BINARY, 1 << 63), 1009, "too_big"),
        ("70,000 fragments of one byte", fragments(70_000, b"x"), 1009, "too_big"),
        ("200,000 empty fragments", fragments(200_000, b""), 1009, "too_big"),
    ]);
    scene.finish();
}

/// A client that still sends after its close frame must get the answer to it. A closed socket would
/// answer with a reset. A proxy that gets the reset drops the bytes that it has not passed on yet.
#[test]
fn words_after_a_goodbye_do_not_cost_its_answer() {
    let scene = Scene::new();
    let mut client = scene.call();
    client.send_raw(&frame(CLOSE, &[3, 0xe8]));
    for _ in 0..2 {
        // Time for the answer to be sent, for a daemon in a hurry to be gone, and for its reset.
        std::thread::sleep(Duration::from_millis(200));
        client.tcp().write_all(&frame(TEXT, b"{}")).expect("no reset");
    }
    let mut rest = Vec::new();
    client.tcp().read_to_end(&mut rest).expect("an end");
    assert!(rest.ends_with(&[CLOSE, 2, 3, 0xe8]), "{rest:?}");
    drop(client);
    scene.finish();
}

/// A text that goes on and on.
fn fragments(count: usize, each: &[u8]) -> Vec<u8> {
    [frame(TEXT_BEGINS, each), frame(MIDDLE, each).repeat(count - 1)].concat()
}

/// The maker of the client is told of each; the call goes on, unless nothing better comes.
#[test]
fn messages_that_mean_nothing_are_told_and_end_the_call_only_in_a_row() {
    let scene = Scene::new();
    let deep = ["[".repeat(4000), "]".repeat(4000)].concat();
    let texts = ["", "hello", "[]", "{}", "{\"type\":7}", "{\"type\":\"text\"", "\0", &deep];
    let rows = texts.map(|text| ("no message", frame(TEXT, text.as_bytes()).repeat(8)));
    scene.assert_each_ends(rows.map(|(what, row)| (what, row, 1007, "bad_text")));
    let mut client = scene.call();
    for text in texts.iter().chain(&texts) {
        client.send_raw(&frame(TEXT, text.as_bytes()));
        let told = client.wait_for_next("error");
        assert_eq!(told["code"], "bad_text", "{told}");
        assert!(!told["message"].as_str().unwrap_or_default().contains(".."), "{told}");
        client.tell(&json!({"type": "ping", "id": 1}));
        client.wait_for_next("pong");
    }
    client.send_raw(&frame(TEXT, b"hello").repeat(7));
    client.send_raw(&frame(BINARY, &[0; 960]));
    client.send_raw(&frame(TEXT, b"hello").repeat(7));
    client.tell(&json!({"type": "hang_up"}));
    client.assert_ends("hanging up", 1000, "hang_up");
    scene.finish();
}

#[test]
fn floods_end_the_call() {
    let scene = Scene::new();
    let flood = |frame: Vec<u8>| frame.repeat(1000);
    scene.assert_each_ends([
        ("pings", flood(frame(PING, b"?")), 1008, "refused"),
        ("texts", flood(frame(TEXT, br#"{"type":"later"}"#)), 1008, "refused"),
        ("empty audio", flood(frame(BINARY, b"")), 1008, "refused"),
    ]);
    scene.finish();
}

#[test]
fn oddities_are_put_up_with() {
    let scene = Scene::new();
    let mut client = scene.call();
    for (what, bytes) in [
        ("empty audio", frame(BINARY, b"")),
        ("an unknown type", frame(TEXT, br#"{"type":"later","n":[1,null]}"#)),
        ("a key twice", frame(TEXT, br#"{"type":"x","type":"later"}"#)),
        ("control characters", frame(TEXT, br#"{"type":"\r\n\u001b[31mERROR forged"}"#)),
        (
            "a text in two pieces",
            [frame(TEXT_BEGINS, b"{\"type\":"), frame(0x80, b"\"later\"}")].concat(),
        ),
        (
            "a ping between the pieces",
            [frame(TEXT_BEGINS, b"{\"type\":"), frame(PING, b"?"), frame(0x80, b"\"later\"}")]
                .concat(),
        ),
        ("a pong nobody asked for", frame(0x8a, b"!")),
        ("2 s of audio at once", frame(BINARY, &[0; 9600]).repeat(10)),
    ] {
        client.send_raw(&bytes);
        client.tell(&json!({"type": "ping", "id": what}));
        client.wait_for(what, |message| message["type"] == "pong" && message["id"] == what);
    }
    client.tell(&json!({"type": "hang_up"}));
    client.assert_ends("hanging up", 1000, "hang_up");
    assert!(!scene.daemon.log().contains('\u{1b}'), "what a client says forges no line");
    scene.finish();
}

#[test]
fn a_client_may_leave_in_any_way() {
    let scene = Scene::new();

    // A close is answered with its own code; one that no frame may carry, as a breach.
    for (code, answer) in [(1001, 1001), (4000, 4000), (0, 1002), (1005, 1002)] {
        let mut closing = scene.call();
        let behind = frame(BINARY, &[0; 960]).repeat(100);
        closing.send_raw(&[frame(CLOSE, &u16::to_be_bytes(code)), behind].concat());
        closing.wait_for_end();
        assert_eq!(closing.closed.expect("a close is answered").0, answer, "{code}");
    }

    let mut cut = scene.call();
    cut.send_raw(&head(BINARY, 960));
    cut.tcp().shutdown(std::net::Shutdown::Write).expect("a socket");
    cut.wait_for_end();

    let mut resetting = scene.call();
    let socket = socket2::SockRef::from(&*resetting.tcp());
    socket.set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(resetting);

    drop(scene.call());
    scene.daemon.wait_until("all have gone", |daemon| {
        daemon.log().matches("ended: client_lost").count() == 7
    });
    scene.finish();
}

#[test]
fn more_audio_than_a_microphone_makes_harms_nobody() {
    let scene = Scene::new();
    let mut client = scene.call();
    // A minute of sound in one go.
    client.send_raw(&frame(BINARY, &[0; 960]).repeat(3000));
    client.tell(&json!({"type": "ping", "id": 1}));
    client.wait_for("the pong behind it", |message| message["type"] == "pong");
    client.send(Message::Close(None));
    client.wait_for_end();
    scene.finish();
}

/// What a leak of one message would show: the largest ones that are refused, many times.
#[test]
fn violations_leave_no_memory_behind() {
    let scene = Scene::new();
    let cases = [
        frame(BINARY, &vec![0; 65_537]),
        fragments(70_000, b"x"),
        [frame(TEXT_BEGINS, &[b'x'; 60_000]), frame(TEXT, b"{}")].concat(),
        frame(TEXT, &[0xc3; 60_000]),
        frame(TEXT, "[".repeat(60_000).as_bytes()).repeat(8),
        frame(PING, b"?").repeat(1000),
    ];
    let once = || {
        for bytes in &cases {
            let mut client = scene.call();
            client.send_raw(bytes);
            client.wait_for_end();
            assert!(client.closed.is_some(), "it is told why");
        }
    };
    // What the allocator and the pool touch for the first time is no leak.
    once();
    let before = scene.daemon.status("VmRSS");
    for _ in 0..8 {
        once();
    }
    let after = scene.daemon.status("VmRSS");
    println!("memory {before} kB, after 48 more violations {after} kB");
    // One lost message of 60 KB in eight rounds would be 480 kB.
    assert!(after < before + 256, "memory grew from {before} to {after} kB");
    scene.finish();
}
