//! Reply audio in every spelling, through a real `Session` whose connections are in memory: what is audio
//! reaches the client to the last byte, and what is none ends the call before a byte of it was played.

use crate::support::scene;
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

/// The words that the log and the client would get of it, if it went on.
#[test]
fn what_is_no_audio_is_passed_over_and_not_played() {
    let base64 = STANDARD.encode(pcm(48_000));
    let bad = |what: &[u8]| {
        let start = event("");
        let start = start.trim_end_matches("\"}").as_bytes();
        [start, base64.as_bytes(), what, b"\"}"].concat()
    };
    for (text, words) in [
        (bad("ä".as_bytes()), "not base64"),
        (bad(b"!!!!"), "not base64"),
        (bad(b"A"), "not base64"),
        (bad(b"AAA=AAAA"), "not base64"),
        (bad(b"A\n"), "not base64"),
        (bad(b"AA\x01A"), "not base64"),
        (bad(b"\\ud83d"), "not base64"),
        (bad(b"AA\"A"), "not JSON"),
    ] {
        let what = String::from_utf8_lossy(&text[text.len() - 20..]).into_owned();
        let mut scene = Scene::new();
        for _ in 0..7 {
            scene.say(&text);
        }
        assert!(scene.session_is_talking(), "{what}: {}", scene.texts);
        let sound = pcm(960);
        scene.say(event(&STANDARD.encode(&sound)).as_bytes());
        assert!(scene.audio == sound, "{what}: {}", scene.audio.len());
        for _ in 0..7 {
            scene.say(&text);
        }
        assert_eq!(scene.counted("messages_passed_over_total{side=\"service\"}"), 14, "{what}");
        scene.audio.clear();
        scene.say(&text);
        scene.assert_ended(&what, words);
    }
}

/// What the WebSocket protocol itself forbids ends the call at once (RFC 6455, section 8.1).
#[test]
fn a_text_that_is_no_utf_8_ends_the_call_and_is_not_played() {
    let start = event(&STANDARD.encode(pcm(48_000)));
    let start = start.trim_end_matches("\"}").as_bytes();
    for text in [
        [start, b"\xff\xff\xff\xff\"}"].concat(),
        [b"{\"x\":\"\xff\",", &event("AAAA").as_bytes()[1..]].concat(),
        // A surrogate as UTF-8 would have it.
        b"{\"type\":\"later\",\"x\":\"\xed\xa0\xbd\"}".to_vec(),
    ] {
        let mut scene = Scene::new();
        scene.say(&text);
        scene.assert_ended(&String::from_utf8_lossy(&text[text.len() - 20..]), "not UTF-8");
    }
}

/// In every cut, also in frames that the client takes late, and in the rarer spellings.
#[test]
fn half_samples_are_put_together() {
    let sound = pcm(9_600);
    for room in [usize::MAX, 3_000] {
        for cut in [1, 2, 3, 959, 961, 1_000, 4_801] {
            for rare in [false, true] {
                let mut scene = Scene::active(scene::settings(), room);
                for part in sound.chunks(cut) {
                    let text = event(&STANDARD.encode(part));
                    let text = if rare { text.replace("item_id", r"item_i\u0064") } else { text };
                    scene.say(text.as_bytes());
                }
                for _ in 0..100 {
                    scene.turn();
                }
                assert!(scene.audio == sound, "{room} {cut} {rare}: {}", scene.audio.len());
                assert!(scene.frames.iter().all(|frame| frame % 2 == 0 && *frame > 0));
            }
        }
    }
}
