//! The end of a spoken turn on the client's word.

use super::scene::{Scene, settings};
use serde_json::{Value, json};
use voicelived::call::{Microphone, Reply};

const FRAME: usize = 960;

/// A call whose service waits for the end of each turn; nothing in its outputs.
fn manual() -> Scene {
    let mut scene = Scene::active_with(settings(), Value::Null);
    scene.outputs.clear();
    scene
}

/// Microphone audio of 20 ms each, in real time.
fn speak(scene: &mut Scene, frames: usize) {
    for _ in 0..frames {
        assert_ne!(scene.call.microphone(FRAME, scene.now), Microphone::Discard);
        scene.pass_ms(20);
    }
}

fn end_turn(scene: &mut Scene) {
    scene.says(json!({"type": "end_turn"}));
}

#[test]
fn where_the_service_waits_the_turn_is_committed_and_answered_once() {
    let mut scene = manual();
    speak(&mut scene, 20);
    end_turn(&mut scene);
    let told = ["speech_started", ">> input_audio_buffer.commit", "> response.create"];
    assert_eq!(scene.story(), told);
    scene.service(json!({"type": "input_audio_buffer.committed", "item_id": "u1"}));
    scene.events(&["conversation.item.created"]);
    let told = scene.told();
    assert_eq!(told, [json!({"type": "speech_stopped", "item_id": "u1"})], "and no second request");
    scene.created("r1");
    scene.pass_ms(250);
    assert_eq!(scene.audio("r1", "a1", 100), Reply::Forward);
    let latency = scene.told().into_iter().find(|message| message["type"] == "latency");
    assert_eq!(latency.expect("a latency")["first_audio_ms"], 250);
    scene.done("r1", "completed");
    scene.outputs.clear();
    scene.pass_secs(5);
    assert!(scene.outputs.is_empty(), "{:?}", scene.story());
}

#[test]
fn a_client_is_told_that_the_service_waits_for_it() {
    let active = |turns: Value| {
        let mut scene = Scene::active_with(settings(), turns);
        scene.told().into_iter().find(|message| message["state"] == "active").expect("active")
    };
    for turns in [json!(null), json!({"type": "none"})] {
        assert_eq!(active(turns)["turns"], "client");
    }
    assert_eq!(active(json!({"type": "server_vad"})).get("turns"), None);
}

#[test]
fn what_the_service_leaves_out_is_as_it_was_asked_for() {
    let mut asked = settings();
    asked.session["turn_detection"] = Value::Null;
    let mut scene = Scene::connecting(asked);
    scene.service(json!({"type": "session.created", "session": {"id": "s"}}));
    scene.service(json!({"type": "session.updated", "session": {"id": "s"}}));
    scene.outputs.clear();
    speak(&mut scene, 10);
    end_turn(&mut scene);
    assert!(scene.story().contains(&">> input_audio_buffer.commit".to_owned()));
}

#[test]
fn a_short_word_is_filled_up_to_what_a_service_commits() {
    let mut scene = manual();
    speak(&mut scene, 2);
    end_turn(&mut scene);
    let story = scene.story();
    assert_eq!(story[1..3], ["silence 2880", ">> input_audio_buffer.commit"]);
}

#[test]
fn an_end_without_audio_and_a_second_end_do_nothing() {
    for turns in [Value::Null, json!({"type": "server_vad"})] {
        let mut scene = Scene::active_with(settings(), turns);
        scene.outputs.clear();
        end_turn(&mut scene);
        assert!(scene.outputs.is_empty());
        speak(&mut scene, 10);
        end_turn(&mut scene);
        scene.outputs.clear();
        end_turn(&mut scene);
        assert!(scene.outputs.is_empty(), "{:?}", scene.story());
    }
}

#[test]
fn a_refused_commit_is_no_fault_of_the_users() {
    let mut scene = manual();
    speak(&mut scene, 10);
    end_turn(&mut scene);
    scene.outputs.clear();
    for code in ["input_audio_buffer_commit_empty", "invalid_request_error"] {
        let error = json!({"code": code, "event_id": "commit", "message": "buffer too small"});
        scene.service(json!({"type": "error", "error": error}));
    }
    assert!(scene.outputs.is_empty(), "{:?}", scene.story());
}

#[test]
fn a_turn_that_ends_during_a_reply_stops_it_and_is_answered_after_it() {
    let mut scene = manual();
    scene.created("r1");
    scene.audio("r1", "a1", 3_000);
    scene.outputs.clear();
    speak(&mut scene, 20);
    end_turn(&mut scene);
    assert_eq!(
        scene.story(),
        [
            "> response.cancel",
            "drop",
            "> conversation.item.truncate",
            "speech_started",
            ">> input_audio_buffer.commit"
        ]
    );
    assert_eq!(scene.audio("r1", "a1", 100), Reply::Discard);
    scene.done("r1", "cancelled");
    assert_eq!(scene.story().last().map(String::as_str), Some("> response.create"));
}

#[test]
fn a_second_turn_before_the_answer_gets_one_answer_to_both() {
    let mut scene = manual();
    speak(&mut scene, 20);
    end_turn(&mut scene);
    speak(&mut scene, 20);
    scene.outputs.clear();
    end_turn(&mut scene);
    assert_eq!(scene.story().last().map(String::as_str), Some(">> input_audio_buffer.commit"));
    scene.created("r1");
    assert_eq!(scene.story(), ["> response.cancel", "speech_stopped", "response_started"]);
    scene.done("r1", "cancelled");
    assert_eq!(scene.story().last().map(String::as_str), Some("> response.create"));
}

/// The held audio leaves first, then the commit.
#[test]
fn a_turn_that_ends_before_the_call_is_active_is_answered_then() {
    let mut scene = Scene::connecting(settings());
    speak(&mut scene, 20);
    end_turn(&mut scene);
    end_turn(&mut scene);
    assert!(scene.told().iter().all(|message| message["type"] != "error"));
    scene.service(json!({"type": "session.created", "session": {"id": "s", "model": "m"}}));
    scene.service(json!({"type": "session.updated",
        "session": {"id": "s", "turn_detection": null}}));
    let story = scene.story();
    let at =
        |what: &str| story.iter().position(|it| it == what).unwrap_or_else(|| panic!("{story:?}"));
    assert!(at("release") < at(">> input_audio_buffer.commit"));
    assert!(at(">> input_audio_buffer.commit") < at("> response.create"));
    assert_eq!(story.iter().filter(|it| it.ends_with("commit")).count(), 1);
}

/// Silence in bytes, since the last look.
fn silence(scene: &mut Scene) -> usize {
    let pieces = scene.story();
    let bytes = pieces.iter().filter_map(|it| it.strip_prefix("silence ")?.parse::<usize>().ok());
    bytes.sum()
}

#[test]
fn where_the_service_hears_the_end_silence_follows_in_real_time_until_it_has() {
    let mut scene = Scene::active();
    speak(&mut scene, 10);
    scene.speech();
    end_turn(&mut scene);
    scene.pass_ms(2_050);
    // One piece may be ahead of its time.
    assert!((96_000..=105_600).contains(&silence(&mut scene)), "two seconds of it");
    scene.speech_ends();
    scene.pass_secs(5);
    assert_eq!(silence(&mut scene), 0, "it is over");
    scene.created("r1");
    scene.done("r1", "completed");

    // A service that hears no speech at all gets a second of it, and one that never stops hearing it ten.
    for (heard, least, most) in [(false, 48_000, 48_000), (true, 480_000, 480_000)] {
        speak(&mut scene, 10);
        if heard {
            scene.speech();
        }
        end_turn(&mut scene);
        scene.outputs.clear();
        scene.pass_secs(30);
        let bytes = silence(&mut scene);
        assert!((least..=most).contains(&bytes), "{bytes}");
    }
}

#[test]
fn a_client_that_goes_on_sending_is_not_talked_over() {
    let mut scene = Scene::active();
    speak(&mut scene, 10);
    scene.speech();
    end_turn(&mut scene);
    scene.outputs.clear();
    speak(&mut scene, 100);
    scene.pass_secs(5);
    assert_eq!(silence(&mut scene), 0, "its user speaks again");

    // Its last frames come late: that is no new turn.
    end_turn(&mut scene);
    scene.outputs.clear();
    speak(&mut scene, 3);
    scene.pass_ms(1_000);
    assert!(silence(&mut scene) >= 43_200);
}

#[test]
fn a_held_turn_is_ended_by_silence_too() {
    let mut scene = Scene::connecting(settings());
    speak(&mut scene, 20);
    end_turn(&mut scene);
    scene.service(json!({"type": "session.created", "session": {"id": "s", "model": "m"}}));
    scene.service(json!({"type": "session.updated",
        "session": {"id": "s", "turn_detection": {"type": "server_vad"}}}));
    scene.outputs.clear();
    scene.pass_ms(1_200);
    assert_eq!(silence(&mut scene), 48_000);
}
