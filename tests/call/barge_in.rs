//! Barge-in that can be taken back: what holds a reply, what lets it go on, and what ends it.

use super::scene::{Scene, settings};
use serde_json::{Value, json};
use voicelived::call::{CallSettings, Input, Reply};

pub(super) fn transcribing() -> Value {
    let mut session = settings().session;
    session["turn_detection"] =
        json!({"type": "azure_semantic_vad", "silence_duration_ms": 300, "auto_truncate": true});
    session["input_audio_transcription"] = json!({"model": "whisper-1", "language": "en"});
    session
}

/// A call whose client holds replies, at a service that only reports speech.
fn holding(session: Value) -> Scene {
    holding_with(CallSettings { session, ..settings() })
}

pub(super) fn holding_with(settings: CallSettings) -> Scene {
    let mut scene = Scene::connecting(CallSettings { reversible_barge_in: true, ..settings });
    scene.call.prefer_hold();
    scene.service(json!({"type": "session.created", "session":
        {"id": "sess_1", "model": "gpt-realtime", "modalities": ["audio"]}}));
    scene.service(json!({"type": "session.updated", "session": {"id": "sess_1", "turn_detection":
        {"create_response": false, "interrupt_response": false, "auto_truncate": false}}}));
    scene.outputs.clear();
    scene
}

/// The same, with a reply of ten seconds that is heard since a second.
fn replying() -> Scene {
    let mut scene = holding(transcribing());
    scene.created("r1");
    scene.audio("r1", "a1", 10_000);
    scene.pass_secs(1);
    scene.outputs.clear();
    scene
}

fn speech(scene: &mut Scene, item: &str) {
    scene.service(json!({"type": "input_audio_buffer.speech_started", "item_id": item}));
}

fn speech_ends(scene: &mut Scene, item: &str) {
    scene.service(json!({"type": "input_audio_buffer.speech_stopped", "item_id": item}));
}

fn committed(scene: &mut Scene, item: &str) {
    scene.service(json!({"type": "input_audio_buffer.committed", "item_id": item}));
}

fn words(scene: &mut Scene, item: &str, text: &str) {
    scene.service(json!({"type": "conversation.item.input_audio_transcription.completed",
        "item_id": item, "transcript": text}));
}

/// Half a second that becomes an item, and then has these words.
pub(super) fn short_speech(scene: &mut Scene, item: &str, text: &str) {
    speech(scene, item);
    scene.pass_ms(500);
    speech_ends(scene, item);
    committed(scene, item);
    scene.pass_ms(300);
    words(scene, item, text);
}

fn truncated_at(scene: &mut Scene) -> Vec<Value> {
    let commands = scene.commands().into_iter();
    let cuts = commands.filter(|command| command["type"] == "conversation.item.truncate");
    cuts.map(|cut| cut["audio_end_ms"].clone()).collect()
}

#[test]
fn the_service_is_asked_to_report_speech_and_nothing_more() {
    let settings = |allowed| CallSettings {
        reversible_barge_in: allowed,
        session: transcribing(),
        ..settings()
    };
    for (allowed, prefers) in [(true, true), (true, false), (false, true)] {
        let mut scene = Scene::connecting(settings(allowed));
        if prefers {
            scene.call.prefer_hold();
        }
        scene.service(json!({"type": "session.created", "session": {"modalities": ["audio"]}}));
        let asked = scene.commands().pop().unwrap()["session"]["turn_detection"].take();
        let off = json!(false);
        let ours = asked["create_response"] == off && asked["interrupt_response"] == off;
        assert_eq!(ours, allowed && prefers, "{asked}");
        assert_eq!(asked["auto_truncate"], json!(!ours));
        assert_eq!(asked["silence_duration_ms"], 300, "the owner's own stay");
    }
}

#[test]
fn where_the_owner_detects_no_turns_it_stays_so() {
    let session = json!({"turn_detection": null});
    let mut scene =
        Scene::connecting(CallSettings { reversible_barge_in: true, session, ..settings() });
    scene.call.prefer_hold();
    scene.service(json!({"type": "session.created", "session": {"modalities": ["audio"]}}));
    assert_eq!(scene.commands().pop().unwrap()["session"]["turn_detection"], Value::Null);
}

#[test]
fn a_cough_lets_the_reply_go_on_and_leaves_the_conversation() {
    for text in ["", "Mm-hmm.", "uh"] {
        let mut scene = replying();
        speech(&mut scene, "u1");
        assert_eq!(scene.told(), [json!({"type": "hold", "item_id": "u1"})]);
        assert_eq!(scene.audio("r1", "a1", 500), Reply::Forward, "the client keeps it");
        scene.pass_ms(500);
        speech_ends(&mut scene, "u1");
        committed(&mut scene, "u1");
        assert!(scene.story().is_empty());
        words(&mut scene, "u1", text);
        let deleted =
            json!({"type": "conversation.item.delete", "event_id": "delete", "item_id": "u1"});
        let commands = scene.outputs.clone();
        assert_eq!(scene.commands(), [deleted], "{text}: no cancel, no answer");
        scene.outputs = commands;
        assert_eq!(scene.told()[0], json!({"type": "resume_playback"}), "{text}");
        scene.done("r1", "completed");
        assert_eq!(scene.story(), ["response_done", "usage"]);
    }
}

/// A second is heard, then a pause of 800 ms, then again 200 ms of it.
#[test]
fn after_a_cough_a_turn_truncates_at_what_was_heard() {
    let mut scene = replying();
    short_speech(&mut scene, "u1", "");
    scene.pass_ms(1_500);
    scene.outputs.clear();
    short_speech(&mut scene, "u2", "What about tomorrow?");
    assert_eq!(truncated_at(&mut scene), [1_000 - 200 + 1_500]);
}

#[test]
fn a_turn_drops_the_reply_cuts_it_at_what_was_heard_and_is_answered() {
    let mut scene = replying();
    scene.says(json!({"type": "played", "ms": 940}));
    short_speech(&mut scene, "u1", "Stop.");
    assert_eq!(
        scene.story(),
        [
            "hold",
            "> response.cancel",
            "drop",
            "> conversation.item.truncate",
            "speech_started",
            "speech_stopped",
            "transcript"
        ]
    );
    assert_eq!(scene.audio("r1", "a1", 100), Reply::Discard);
    scene.done("r1", "cancelled");
    assert_eq!(scene.story(), ["response_done", "usage", "> response.create"]);
    let mut scene = replying();
    scene.says(json!({"type": "played", "ms": 940}));
    short_speech(&mut scene, "u1", "Stop.");
    assert_eq!(truncated_at(&mut scene), [940]);
}

#[test]
fn long_speech_is_a_turn_before_its_words_are_known() {
    let mut scene = replying();
    speech(&mut scene, "u1");
    scene.pass_ms(1_999);
    assert_eq!(scene.story(), ["hold"]);
    scene.pass_ms(1);
    assert_eq!(
        scene.story(),
        ["> response.cancel", "drop", "> conversation.item.truncate", "speech_started"]
    );
    scene.done("r1", "cancelled");
    scene.outputs.clear();
    speech_ends(&mut scene, "u1");
    assert_eq!(scene.story(), ["speech_stopped"]);
    committed(&mut scene, "u1");
    assert_eq!(scene.story(), ["> response.create"]);
}

#[test]
fn without_words_the_reply_goes_on_after_two_seconds_and_late_words_end_it_after_all() {
    let mut scene = replying();
    speech(&mut scene, "u1");
    scene.pass_ms(500);
    speech_ends(&mut scene, "u1");
    committed(&mut scene, "u1");
    scene.pass_ms(1_999);
    assert_eq!(scene.story(), ["hold"]);
    scene.pass_ms(1);
    assert_eq!(scene.story(), ["resume_playback"], "it may have words: it is not deleted");
    scene.pass_ms(400);
    words(&mut scene, "u1", "No, wait.");
    let story = scene.story();
    assert_eq!(story[..2], ["> response.cancel", "drop"]);
    assert!(story.contains(&"speech_stopped".to_owned()), "{story:?}");
    scene.done("r1", "cancelled");
    assert!(scene.story().contains(&"> response.create".to_owned()));
}

#[test]
fn late_words_that_are_nothing_only_leave_the_conversation() {
    let mut scene = replying();
    speech(&mut scene, "u1");
    scene.pass_ms(500);
    speech_ends(&mut scene, "u1");
    scene.pass_secs(2);
    scene.outputs.clear();
    words(&mut scene, "u1", "");
    assert!(scene.story().is_empty());
    committed(&mut scene, "u1");
    assert_eq!(scene.story(), ["> conversation.item.delete"], "and it is not answered");
}

#[test]
fn without_transcription_the_length_decides() {
    for (ms, turn) in [(799, false), (800, true)] {
        let mut session = transcribing();
        session["input_audio_transcription"] = Value::Null;
        let mut scene = holding(session);
        scene.created("r1");
        scene.audio("r1", "a1", 10_000);
        scene.outputs.clear();
        speech(&mut scene, "u1");
        scene.pass_ms(ms);
        speech_ends(&mut scene, "u1");
        let story = scene.story();
        assert_eq!(story.contains(&"resume_playback".to_owned()), !turn, "{ms}: {story:?}");
        assert_eq!(story.contains(&"drop".to_owned()), turn, "{ms}: {story:?}");
        committed(&mut scene, "u1");
        let deleted = scene.story().contains(&"> conversation.item.delete".to_owned());
        assert_eq!(deleted, !turn, "{ms}");
    }
}

#[test]
fn speech_that_cannot_be_transcribed_is_judged_by_its_length() {
    for (ms, turn) in [(700, false), (900, true)] {
        let mut scene = replying();
        speech(&mut scene, "u1");
        scene.pass_ms(ms);
        speech_ends(&mut scene, "u1");
        scene.service(json!({"type": "conversation.item.input_audio_transcription.failed",
            "item_id": "u1", "error": {"code": "x", "message": "y"}}));
        let story = scene.story();
        assert_eq!(story.contains(&"drop".to_owned()), turn, "{ms}: {story:?}");
        assert_eq!(story.contains(&"resume_playback".to_owned()), !turn, "{ms}: {story:?}");
    }
}

#[test]
fn two_coughs_in_a_row_are_one_hold() {
    let mut scene = replying();
    speech(&mut scene, "u1");
    scene.pass_ms(400);
    speech_ends(&mut scene, "u1");
    committed(&mut scene, "u1");
    scene.pass_ms(100);
    speech(&mut scene, "u2");
    words(&mut scene, "u1", "");
    assert_eq!(scene.story(), ["hold"], "somebody speaks");
    scene.pass_ms(400);
    speech_ends(&mut scene, "u2");
    committed(&mut scene, "u2");
    words(&mut scene, "u2", "uh");
    let story = scene.story();
    assert_eq!(story.iter().filter(|word| *word == "> conversation.item.delete").count(), 2);
    assert_eq!(story.iter().filter(|word| *word == "resume_playback").count(), 1);
}

#[test]
fn nine_stretches_of_speech_are_a_turn_whatever_they_are() {
    let mut scene = replying();
    for at in 0..8 {
        let item = format!("u{at}");
        speech(&mut scene, &item);
        scene.pass_ms(100);
        speech_ends(&mut scene, &item);
    }
    assert_eq!(scene.story(), ["hold"]);
    speech(&mut scene, "u8");
    assert_eq!(scene.told().last(), Some(&json!({"type": "speech_started", "item_id": "u8"})));
}

#[test]
fn what_the_service_does_not_name_is_known_by_its_place() {
    let mut scene = replying();
    speech(&mut scene, "");
    speech_ends(&mut scene, "");
    committed(&mut scene, "u1");
    scene.outputs.clear();
    words(&mut scene, "u1", "");
    assert_eq!(scene.commands()[0]["item_id"], "u1");
}

#[test]
fn words_may_be_known_before_the_speech_has_ended() {
    let mut scene = replying();
    speech(&mut scene, "u1");
    words(&mut scene, "u1", "");
    assert_eq!(scene.story(), ["hold"], "more may be said");
    speech_ends(&mut scene, "u1");
    assert_eq!(scene.story(), ["resume_playback"]);
}

#[test]
fn of_what_stays_without_words_eight_are_remembered() {
    for (at, remembered) in [(0, false), (1, true)] {
        let mut scene = replying();
        for cough in 0..9 {
            speech(&mut scene, &format!("u{cough}"));
            scene.pass_ms(100);
            speech_ends(&mut scene, &format!("u{cough}"));
            scene.service(json!({"type": "response.content_part.added", "response_id": "r1"}));
            scene.pass_secs(2);
        }
        scene.outputs.clear();
        words(&mut scene, &format!("u{at}"), "No, wait.");
        assert_eq!(scene.story().contains(&"drop".to_owned()), remembered, "{at}");
    }
}

#[test]
fn a_typed_turn_ends_the_hold() {
    let mut scene = replying();
    speech(&mut scene, "u1");
    scene.pass_ms(300);
    scene.outputs.clear();
    scene.says(json!({"type": "text", "text": "Never mind."}));
    let story = scene.story();
    assert_eq!(
        story[..4],
        ["> response.cancel", "drop", "> conversation.item.truncate", "speech_started"]
    );
    scene.pass_secs(10);
    assert!(!scene.story().contains(&"resume_playback".to_owned()));
}

/// Nothing is said into a cough, and all of it after the cough.
#[test]
fn what_a_tool_brings_meanwhile_waits_for_the_end_of_the_hold() {
    let mut scene = replying();
    scene.function_call("r1", "c1", "completed");
    scene.done("r1", "completed");
    speech(&mut scene, "u1");
    scene.outputs.clear();
    scene.tool_finished("c1");
    let asked = |story: Vec<String>| story.contains(&"> response.create".to_owned());
    assert!(!asked(scene.story()), "somebody speaks");
    scene.pass_ms(300);
    speech_ends(&mut scene, "u1");
    committed(&mut scene, "u1");
    assert!(!asked(scene.story()), "it may be a turn");
    words(&mut scene, "u1", "");
    assert!(asked(scene.story()));
}

#[test]
fn a_cough_before_the_answer_does_not_disturb_the_measure_of_its_delay() {
    for (text, told) in [("", 1), ("And tomorrow?", 0)] {
        let mut scene = holding(transcribing());
        speech(&mut scene, "u1");
        speech_ends(&mut scene, "u1");
        committed(&mut scene, "u1");
        speech(&mut scene, "u2");
        scene.pass_ms(200);
        speech_ends(&mut scene, "u2");
        words(&mut scene, "u2", text);
        scene.created("r1");
        scene.audio("r1", "a1", 100);
        let of = |message: &&Value| message["type"] == "latency";
        assert_eq!(scene.told().iter().filter(of).count(), told, "{text}");
    }
}

#[test]
fn speech_without_a_reply_is_an_ordinary_turn() {
    let mut scene = holding(transcribing());
    speech(&mut scene, "u1");
    speech_ends(&mut scene, "u1");
    committed(&mut scene, "u1");
    assert_eq!(
        scene.story(),
        ["drop", "speech_started", "speech_stopped", "> response.create"][1..]
    );
    // Before the answer begins.
    speech(&mut scene, "u2");
    assert_eq!(scene.story(), ["hold"]);
    scene.created("r1");
    assert_eq!(scene.audio("r1", "a1", 100), Reply::Forward);
    scene.pass_ms(400);
    speech_ends(&mut scene, "u2");
    words(&mut scene, "u2", "And tomorrow?");
    assert!(scene.story().contains(&"> response.cancel".to_owned()));
}

#[test]
fn a_stop_button_ends_the_hold_and_what_is_being_said_is_answered() {
    let mut scene = replying();
    speech(&mut scene, "u1");
    scene.says(json!({"type": "interrupt"}));
    assert_eq!(
        scene.story(),
        ["hold", "> response.cancel", "drop", "> conversation.item.truncate"]
    );
    scene.done("r1", "cancelled");
    scene.outputs.clear();
    scene.pass_ms(500);
    speech_ends(&mut scene, "u1");
    committed(&mut scene, "u1");
    assert_eq!(scene.story(), ["speech_stopped", "> response.create"]);
}

#[test]
fn a_service_that_cancels_or_answers_by_itself_is_met_as_ever() {
    for turns in
        [json!({"create_response": false}), json!({"interrupt_response": false}), json!({})]
    {
        let session = transcribing();
        let mut scene =
            Scene::connecting(CallSettings { reversible_barge_in: true, session, ..settings() });
        scene.call.prefer_hold();
        scene.service(json!({"type": "session.created", "session": {"modalities": ["audio"]}}));
        scene.service(json!({"type": "session.updated", "session": {"turn_detection": turns}}));
        scene.created("r1");
        scene.audio("r1", "a1", 1_000);
        scene.outputs.clear();
        speech(&mut scene, "u1");
        let story = scene.story();
        assert!(!story.contains(&"hold".to_owned()), "{turns}: {story:?}");
        assert!(story.contains(&"speech_started".to_owned()), "{turns}: {story:?}");
    }
}

/// The model says goodbye and hangs up. What is said into it calls the end off, if it is a turn.
#[test]
fn a_turn_into_the_goodbye_calls_the_end_off_and_a_cough_does_not() {
    for (text, goes_on) in [("Wait, one more thing.", true), ("", false)] {
        let mut scene = holding(transcribing());
        scene.created("r1");
        scene.audio("r1", "a1", 3_000);
        scene.function_call("r1", "c1", "completed");
        scene.client(Input::HangUp { call_id: "c1" });
        scene.done("r1", "completed");
        scene.pass_ms(500);
        short_speech(&mut scene, "u1", text);
        if goes_on {
            scene.created("r2");
            scene.audio("r2", "a2", 1_000);
            scene.done("r2", "completed");
        }
        scene.pass_secs(60);
        assert_eq!(scene.call.is_ended(), !goes_on, "{text}");
    }
}

/// Nothing tells the rest of a reply without a name from the answer without a name: behind the turn, it is the answer.
#[test]
fn at_a_service_that_names_no_responses_the_answer_to_the_turn_is_heard() {
    let mut scene = holding(transcribing());
    scene.audio("", "", 10_000);
    scene.pass_secs(1);
    short_speech(&mut scene, "u1", "And tomorrow?");
    scene.outputs.clear();
    assert_eq!(scene.audio("", "", 1_000), Reply::Forward);
    assert_eq!(scene.story(), ["response_started"]);
}

#[test]
fn a_session_that_is_lost_in_the_middle_lets_the_reply_go_on() {
    let reconnect = std::time::Duration::from_secs(30);
    let session = transcribing();
    let mut scene = Scene::connecting(CallSettings {
        reversible_barge_in: true,
        reconnect,
        session,
        ..settings()
    });
    scene.call.prefer_hold();
    scene.service(json!({"type": "session.created", "session": {"modalities": ["audio"]}}));
    scene.service(json!({"type": "session.updated", "session": {"turn_detection":
        {"create_response": false, "interrupt_response": false}}}));
    scene.created("r1");
    scene.audio("r1", "a1", 5_000);
    speech(&mut scene, "u1");
    scene.outputs.clear();
    scene.service(json!({"type": "error", "error": {"code": "session_expired"}}));
    assert_eq!(scene.story()[0], "resume_playback");
}
