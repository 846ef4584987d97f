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
