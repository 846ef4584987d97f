//! Reply audio in every spelling, through a real `Session` whose connections are in memory: what is audio
//! reaches the client to the last byte, and what is none ends the call before a byte of it was played.

#[path = "support/kernel.rs"]
#[allow(dead_code, reason = "each test file uses its own part")]
mod kernel;
#[path = "support/random.rs"]
#[allow(dead_code, reason = "each test file uses its own part")]
mod random;

#[path = "support/scene.rs"]
#[allow(dead_code, reason = "each test file uses its own part")]
mod scene;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use scene::Scene;

const HEAD: &str = r#""type":"response.audio.delta","response_id":"r","item_id":"i""#;

fn pcm(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 % 251).to_le_bytes()[0]).collect()
}

fn event(base64: &str) -> String {
    format!(r#"{{{HEAD},"delta":"{base64}"}}"#)
}

#[test]
fn every_spelling_of_audio_is_played() {
    // Its base64 has slashes, at which an escape may stand; the longest takes several frames.
    for sound in [pcm(2), pcm(960), vec![0xff; 960], pcm(12_480), pcm(48_000)] {
        let base64 = STANDARD.encode(&sound);
        for text in [
            event(&base64),
            event(&base64.replace('/', r"\/")),
            event(&base64.replacen('A', r"\u0041", 1)),
            format!(r#"{{{HEAD},"delta":"{base64}","output_index":0,"x":"y"}}"#),
            format!(r#"{{"delta":"{base64}",{HEAD}}}"#),
            format!(" {{ {HEAD} , \"delta\" : \"{base64}\" }} \n"),
            format!(r#"{{"event_id":"ä",{HEAD},"delta":"{base64}"}}"#),
            format!(r#"{{{HEAD},"more":{{"delta":"AAAA"}},"delta":"{base64}"}}"#),
            event(&base64).replace("response.audio.delta", "response.output_audio.delta"),
        ] {
            for first in [0x81, 0x82] {
                let mut scene = Scene::new();
                scene.send(first, text.as_bytes());
                scene.send(first, text.as_bytes());
                assert!(scene.audio == sound.repeat(2), "{:.200}: {}", text, scene.texts);
            }
        }
    }
}

#[test]
fn what_is_no_audio_ends_the_call_and_is_not_played() {
    let base64 = STANDARD.encode(pcm(48_000));
    let bad = |what: &[u8]| {
        let start = event("");
        let start = start.trim_end_matches("\"}").as_bytes();
        [start, base64.as_bytes(), what, b"\"}"].concat()
    };
    let utf8 = "not UTF-8";
    for (text, words) in [
        (bad(b"\xff\xff\xff\xff"), utf8),
        ([b"{\"x\":\"\xff\",", &event("AAAA").as_bytes()[1..]].concat(), utf8),
        (bad("ä".as_bytes()), "not base64"),
        (bad(b"!!!!"), "not base64"),
        (bad(b"AAA"), "not base64"),
        (bad(b"AA=="), "samples"),
        (bad(b"AAA=AAAA"), "not base64"),
        (bad(b"AA\nA"), "not JSON"),
        (bad(b"AA\"A"), "not JSON"),
        (event("AA==").into_bytes(), "samples"),
    ] {
        let mut scene = Scene::new();
        scene.say(&text);
        scene.assert_ended(&String::from_utf8_lossy(&text[text.len() - 20..]), words);
    }
}
