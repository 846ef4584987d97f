//! The end of a turn and the microphone audio that waits: in memory, with a service that takes nothing for
//! a while.

use std::time::Duration;

use crate::support::scene;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use scene::{Scene, settings};
use serde_json::Value;
use voicelived::net::ws::Message;

const FRAME: usize = 960;

/// A call of which the service finds no ends of turns.
fn manual() -> Scene {
    let mut asked = settings();
    asked.session = serde_json::json!({"turn_detection": null});
    Scene::active(asked, usize::MAX)
}

/// The client sends frames of this value, 20 ms of real time each.
fn speak(scene: &mut Scene, value: u8, frames: usize) {
    for _ in 0..frames {
        scene.client().send(Message::Binary(&[value; FRAME])).expect("room");
        scene.client().flush().expect("memory");
        scene.pass(Duration::from_millis(20));
        scene.turn();
    }
}

fn end_turn(scene: &mut Scene) {
    scene.client().send(Message::Text(r#"{"type":"end_turn"}"#)).expect("room");
    scene.client().flush().expect("memory");
    scene.turn();
}

/// What the service was told, in order: each run of equal samples with its length, and each command.
fn story(scene: &Scene) -> Vec<String> {
    let mut story: Vec<(String, usize)> = Vec::new();
    for text in &scene.told {
        let event: Value = serde_json::from_str(text).expect("JSON");
        let kind = event["type"].as_str().expect("a type");
        if kind != "input_audio_buffer.append" {
            story.push((kind.to_owned(), 0));
            continue;
        }
        for byte in STANDARD.decode(event["audio"].as_str().expect("base64")).expect("base64") {
            match story.last_mut() {
                Some((last, count)) if *last == byte.to_string() => *count += 1,
                _ => story.push((byte.to_string(), 1)),
            }
        }
    }
    let word = |(kind, count): (String, usize)| match count {
        0 => kind,
        bytes => format!("{} x {kind}", bytes / FRAME),
    };
    story.into_iter().map(word).collect()
}

#[test]
fn the_commit_stays_behind_the_audio_that_waits_and_before_what_comes() {
    let mut scene = manual();
    scene.told.clear();
    scene.service_listens = false;
    speak(&mut scene, 1, 60);
    end_turn(&mut scene);
    speak(&mut scene, 2, 30);
    end_turn(&mut scene);
    speak(&mut scene, 3, 5);
    scene.service_listens = true;
    for _ in 0..20 {
        scene.pass(Duration::from_millis(20));
        scene.turn();
    }
    assert_eq!(
        story(&scene),
        [
            "60 x 1",
            "input_audio_buffer.commit",
            "response.create",
            "30 x 2",
            "input_audio_buffer.commit",
            "5 x 3"
        ]
    );
}

/// Live audio makes way for newer audio, and the end of the turn still comes.
#[test]
fn the_commit_comes_although_the_oldest_audio_was_dropped() {
    let mut scene = manual();
    scene.told.clear();
    scene.service_listens = false;
    speak(&mut scene, 1, 40);
    end_turn(&mut scene);
    speak(&mut scene, 2, 150);
    scene.service_listens = true;
    for _ in 0..20 {
        scene.pass(Duration::from_millis(20));
        scene.turn();
    }
    let story = story(&scene);
    let commands: Vec<_> = story.iter().filter(|it| !it.contains(" x ")).collect();
    assert_eq!(commands, ["input_audio_buffer.commit", "response.create"], "{story:?}");
    assert!(story.last().expect("audio").ends_with(" x 2"), "{story:?}");
}
