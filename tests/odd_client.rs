//! What a client says oddly costs it nothing: half samples, half characters, texts that are no message.

use crate::support;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::client::Client;
use support::daemon::Daemon;
use support::frames::frame;
use support::script::Script;
use tungstenite::Message;

const TEXT: u8 = 0x81;

struct Scene {
    script: Script,
    daemon: Daemon,
    client: Client,
}

impl Scene {
    fn new() -> Self {
        let script = Script::playing(Vec::new());
        let daemon = Daemon::run(script.address, &[]);
        let mut client = Client::connect(daemon.address);
        client.wait_until_active();
        Self { script, daemon, client }
    }

    /// Everything the service has heard, once the call has come to its end in order.
    fn finish(mut self) -> (Vec<u8>, Vec<Value>, Daemon) {
        self.client.tell(&json!({"type": "text", "text": "That was all."}));
        let last = |script: &Script| {
            script.items().iter().any(|item| item["content"][0]["text"] == "That was all.")
        };
        self.daemon.wait_until("the service has heard all", |_| last(&self.script));
        self.client.tell(&json!({"type": "hang_up"}));
        self.client.assert_ends("hanging up", 1000, "hang_up");
        let told = self.script.told();
        let appended = told.iter().filter(|event| event["type"] == "input_audio_buffer.append");
        let mut audio = Vec::new();
        for event in appended {
            let base64 = event["audio"].as_str().expect("base64");
            let pcm = STANDARD.decode(base64).expect("base64");
            assert!(pcm.len().is_multiple_of(2), "half a sample was sent");
            audio.extend(pcm);
        }
        (audio, self.script.items(), self.daemon)
    }
}

fn sound(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 % 251).to_le_bytes()[0]).collect()
}

/// In whatever pieces the sound comes, the service hears it byte for byte.
#[test]
fn half_a_sample_waits_for_the_next_frame() {
    for (bytes, sizes) in [
        (28_800, &[961][..]),
        (28_800, &[0, 961, 0]),
        (28_800, &[959, 1, 1, 1919]),
        (200, &[3, 0, 2]),
        (131_070, &[65_535]),
    ] {
        let pcm = sound(bytes);
        let mut scene = Scene::new();
        let mut rest = &pcm[..];
        for size in sizes.iter().cycle() {
            let (part, left) = rest.split_at(rest.len().min(*size));
            scene.client.send(Message::binary(part.to_vec()));
            rest = left;
            if rest.is_empty() {
                break;
            }
        }
        let (heard, _, daemon) = scene.finish();
        assert!(heard == pcm, "{sizes:?}: {} bytes", heard.len());
        daemon.assert_counted("microphone_bytes_total", "", pcm.len() as u64);
        daemon.assert_counted("half_samples_dropped_total", "client", 0);
    }
    let pcm = sound(101);
    let mut scene = Scene::new();
    for byte in &pcm {
        scene.client.send(Message::binary(vec![*byte]));
    }
    let (heard, _, daemon) = scene.finish();
    assert_eq!(heard, &pcm[..100]);
    daemon.assert_counted("half_samples_dropped_total", "client", 1);
}

/// The first words too, which are held until the service is ready.
#[test]
fn half_samples_may_be_said_before_the_call_is_active() {
    let script = Script::playing(Vec::new());
    let daemon = Daemon::run(script.address, &[]);
    let mut client = Client::connect(daemon.address);
    let pcm = sound(9_610);
    for part in pcm.chunks(961) {
        client.send(Message::binary(part.to_vec()));
    }
    client.wait_until_active();
    let (heard, ..) = Scene { script, daemon, client }.finish();
    assert!(heard == pcm, "{} bytes", heard.len());
}

#[test]
fn half_an_emoji_in_a_typed_turn_ends_no_call() {
    let mut scene = Scene::new();
    for text in [
        r#"{"type":"text","text":"Hi \ud83d"}"#,
        r#"{"type":"text","text":"\ude00 Hi \ud83d\ude00 \\ud83d"}"#,
        r#"{"t\ud83d":"\ude00","type":"text","text":"\u0000\uffff\ufffe"}"#,
        "{\"type\":\"text\",\"text\":\"bare \0 and \u{ffff}\"}",
        // Nothing that the daemon knows, and nothing that harms.
        r#"{"type":"\ud800"}"#,
        r#"{"type":"played","ms":1,"note":"\udfff"}"#,
    ] {
        scene.client.send_raw(&frame(TEXT, text.as_bytes()));
    }
    // What the client has written goes back as it is.
    scene.client.send_raw(&frame(TEXT, br#"{"type":"ping","id":7,"note":"\ud83d"}"#));
    assert_eq!(scene.client.wait_for_next("pong")["id"], 7);
    // A byte order mark (RFC 8259, section 8.1), and a turn of which nobody sees anything.
    scene.client.tell(&json!({"type": "text", "text": "\u{200b}\u{feff}"}));
    scene.client.send_raw(&frame(TEXT, "\u{feff}{\"type\":\"ping\",\"id\":8}".as_bytes()));
    assert_eq!(scene.client.wait_for_next("pong")["id"], 8);
    assert!(scene.client.of_type("error").is_empty());
    let (_, items, _) = scene.finish();
    let texts: Vec<_> = items.iter().map(|item| item["content"][0]["text"].clone()).collect();
    assert_eq!(
        texts,
        [
            "Hi \u{fffd}",
            "\u{fffd} Hi \u{1f600} \\ud83d",
            "\0\u{ffff}\u{fffe}",
            "bare \0 and \u{ffff}",
            "That was all."
        ]
    );
}

#[test]
fn a_text_that_is_no_message_is_told_and_counted() {
    let mut scene = Scene::new();
    for text in ["", "hello", "[]", "{}", r#"{"type":7}"#, "{", "null"] {
        scene.client.send(Message::text(text));
        let told = scene.client.wait_for_next("error");
        assert_eq!(told["code"], "bad_text");
    }
    let (.., daemon) = scene.finish();
    daemon.assert_counted("messages_passed_over_total", "client", 7);
    assert!(daemon.log().contains("passed over what the client sent"), "{}", daemon.log());
}

/// Sound in fragments of any size, odd ones too, with control frames between them, as RFC 6455 (section 5.4) allows.
#[test]
fn fragments_with_control_frames_between_are_one_sound() {
    let (binary, more, fin, ping, pong) = (0x02, 0x00, 0x80, 0x89, 0x8a);
    let pcm = sound(9_603);
    for sizes in [&[1][..], &[0, 1], &[3, 0, 0, 5], &[961], &[126, 1], &[9_603]] {
        let mut scene = Scene::new();
        let (mut at, mut count, mut first) = (0, 0, true);
        for size in sizes.iter().cycle() {
            let end = (at + size).min(pcm.len());
            let last = end == pcm.len();
            // Every hundredth fragment ends its message, and the next one begins another.
            let ends = last || count % 100 == 99;
            let opcode = if first { binary } else { more } | if ends { fin } else { 0 };
            scene.client.send_raw(&frame(opcode, &pcm[at..end]));
            if count % 300 == 7 {
                scene.client.send_raw(&frame(ping, b"are you there?"));
                scene.client.send_raw(&frame(pong, b""));
            }
            (at, count, first) = (end, count + 1, ends);
            if last {
                break;
            }
        }
        // A text in fragments, cut within a character and within an escape.
        let text = "{\"type\":\"text\",\"text\":\"Gr\u{fc}\u{df}e \\ud83d\\ude00\"}".as_bytes();
        for (index, byte) in text.iter().enumerate() {
            let last = if index + 1 == text.len() { fin } else { 0 };
            scene.client.send_raw(&frame(if index == 0 { 0x01 } else { more } | last, &[*byte]));
        }
        let (heard, items, daemon) = scene.finish();
        assert!(heard == pcm[..9_602], "{sizes:?}: {} bytes", heard.len());
        assert_eq!(items[0]["content"][0]["text"], "Gr\u{fc}\u{df}e \u{1f600}", "{sizes:?}");
        daemon.assert_counted("half_samples_dropped_total", "client", 1);
    }
}

/// Odd bytes wait whatever else is said between: texts, strays, typed turns, ends of turns, pings.
#[test]
fn an_odd_byte_waits_while_something_else_is_said() {
    let pcm = sound(4_000);
    let mut scene = Scene::new();
    for (index, part) in pcm.chunks(7).enumerate() {
        scene.client.send(Message::binary(part.to_vec()));
        match index % 6 {
            0 => scene.client.send(Message::text("")),
            1 => scene.client.tell(&json!({"type": "played", "ms": index})),
            2 => scene.client.tell(&json!({"type": "interrupt"})),
            3 => scene.client.send(Message::binary(Vec::new())),
            4 => scene.client.tell(&json!({"type": "ping", "id": index})),
            _ => scene.client.send_raw(&frame(TEXT, br#"{"type":"\ud83d"}"#)),
        }
        if index % 90 == 89 {
            // Not more than 200 messages without sound in a second, and the second is the daemon's.
            scene.client.tell(&json!({"type": "ping", "id": "taken"}));
            scene.client.wait_for("all is taken", |it| it["id"] == "taken" && it["type"] == "pong");
            scene.client.messages.clear();
            std::thread::sleep(std::time::Duration::from_millis(600));
        }
    }
    let (heard, _, daemon) = scene.finish();
    assert!(heard == pcm, "{} bytes", heard.len());
    daemon.assert_counted("half_samples_dropped_total", "client", 0);
}

/// Seven strays, then anything that is understood, as often as one likes: only eight in a row end the call.
#[test]
fn what_is_understood_between_strays_begins_the_count_anew() {
    let mut scene = Scene::new();
    for understood in [
        Message::binary(vec![0; 960]),
        Message::text(r#"{"type":"unknown"}"#),
        Message::text(r#"{"type":"played","ms":1}"#),
        Message::text(r#"{"type":"text","text":""}"#),
        Message::binary(vec![1]),
    ] {
        for stray in ["", "[]", "{", "\u{feff}", "nul\0", "{}", r#"{"type":null}"#] {
            scene.client.send(Message::text(stray));
        }
        scene.client.send(understood);
    }
    let (.., daemon) = scene.finish();
    daemon.assert_counted("messages_passed_over_total", "client", 35);
}
