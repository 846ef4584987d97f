//! Turns: spoken and typed, interrupted and not.

use super::scene::{Scene, settings};
use serde_json::{Value, json};
use voicelived::call::{Output, Reply};

fn delta(response: &str, text: &str) -> Value {
    json!({"type": "response.audio_transcript.delta", "response_id": response, "item_id": "a1",
        "delta": text})
}

fn transcript_done(response: &str, text: &str) -> Value {
    json!({"type": "response.audio_transcript.done", "response_id": response, "item_id": "a1",
        "transcript": text})
}

fn truncation(item: &str, ms: u64) -> Value {
    json!({"type": "conversation.item.truncate", "event_id": "truncate", "item_id": item,
        "content_index": 0, "audio_end_ms": ms})
}

/// A service may tell what the user has said in its item alone.
#[test]
fn the_words_of_a_users_item_are_told_once() {
    let mut scene = Scene::active();
    scene.speech();
    scene.speech_ends();
    scene.outputs.clear();
    let item = json!({"type": "conversation.item.done", "item": {"id": "u1", "type": "message",
        "role": "user", "status": "completed",
        "content": [{"type": "input_audio", "transcript": "Weather?"}]}});
    scene.service(item.clone());
    let words = json!({"type": "transcript", "role": "user", "item_id": "u1", "text": "Weather?"});
    assert_eq!(scene.told(), [words]);
    scene.service(item);
    assert_eq!(scene.told(), [] as [Value; 0]);
}

#[test]
fn a_spoken_turn_from_first_to_last_event() {
    let mut scene = Scene::active();
    scene.speech();
    scene.pass_ms(900);
    scene.speech_ends();
    scene.events(&["conversation.item.created", "conversation.item.done"]);
    scene.created("r1");
    scene.service(delta("r1", "It is"));
    scene.pass_ms(340);
    assert_eq!(scene.audio("r1", "a1", 200), Reply::Forward);
    assert_eq!(scene.audio("r1", "a1", 200), Reply::Forward);
    scene.service(json!({"type": "conversation.item.input_audio_transcription.completed",
        "item_id": "u1", "transcript": "Weather?"}));
    scene.service(transcript_done("r1", "It is foggy."));
    scene.done("r1", "completed");
    let told = scene.told();
    let kinds: Vec<_> = told.iter().map(|message| message["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "speech_started",
            "speech_stopped",
            "response_started",
            "transcript_delta",
            "latency",
            "transcript",
            "transcript",
            "response_done",
            "usage"
        ]
    );
    assert_eq!(told[4]["first_audio_ms"], 340);
    let user = json!({"type": "transcript", "role": "user", "item_id": "u1", "text": "Weather?"});
    assert_eq!(told[5], user);
    assert_eq!(told[6]["text"], "It is foggy.");
    assert_eq!(told[7]["status"], "completed");
}

#[test]
fn barge_in_drops_late_deltas_and_tells_only_the_words_that_came() {
    let mut scene = Scene::active();
    scene.created("r1");
    scene.service(delta("r1", "Once upon "));
    scene.audio("r1", "a1", 1_000);
    scene.outputs.clear();
    scene.speech();
    assert_eq!(scene.story(), ["drop", "speech_started"], "no cancel, no truncate");
    scene.service(delta("r1", "a time there was"));
    assert_eq!(scene.audio("r1", "a1", 100), Reply::Discard);
    scene.service(transcript_done("r1", "Once upon a time there was"));
    scene.done("r1", "cancelled");
    let told = scene.told();
    assert_eq!(told[0]["text"], "Once upon…");
    assert_eq!(told[1], json!({"type": "response_done", "status": "cancelled"}));
    scene.speech_ends();
    scene.created("r2");
    assert_eq!(scene.audio("r2", "a2", 100), Reply::Forward);
}

#[test]
fn barge_in_after_the_service_finished_still_drops_what_plays() {
    let mut scene = Scene::active_without_truncation();
    scene.created("r1");
    scene.audio("r1", "a1", 30_000);
    scene.done("r1", "completed");
    scene.outputs.clear();
    scene.pass_ms(1_240);
    scene.speech();
    assert_eq!(scene.outputs.len(), 3);
    assert_eq!(scene.commands(), [truncation("a1", 1_240)]);
}

#[test]
fn speech_while_nothing_plays_is_told_and_truncates_nothing() {
    let mut scene = Scene::active_without_truncation();
    scene.created("r1");
    scene.audio("r1", "a1", 500);
    scene.done("r1", "completed");
    scene.pass_ms(600);
    scene.outputs.clear();
    scene.speech();
    assert_eq!(scene.story(), ["drop", "speech_started"]);
}

#[test]
fn truncation_follows_the_clients_report_and_its_refusal_is_no_fault() {
    let mut scene = Scene::active_without_truncation();
    scene.created("r1");
    scene.audio("r1", "a1", 5_000);
    scene.pass_ms(2_000);
    scene.says(json!({"type": "played", "ms": 1_700}));
    scene.outputs.clear();
    scene.speech();
    assert_eq!(scene.commands(), [truncation("a1", 1_700)]);
    scene.service(
        json!({"type": "error", "error": {"code": "invalid_value", "event_id": "truncate"}}),
    );
    scene.service(
        json!({"type": "error", "error": {"code": "invalid_value", "param": "audio_end_ms"}}),
    );
    assert!(scene.outputs.is_empty());
}

#[test]
fn where_speech_does_not_interrupt_the_reply_goes_on() {
    let turns = json!({"interrupt_response": false});
    let mut scene = Scene::active_with(settings(), turns);
    scene.outputs.clear();
    scene.speech();
    assert_eq!(scene.story(), ["speech_started"]);
    scene.speech_ends();
    scene.created("r1");
    scene.audio("r1", "a1", 1_000);
    scene.outputs.clear();
    scene.speech();
    assert!(scene.outputs.is_empty());
    assert_eq!(scene.audio("r1", "a1", 100), Reply::Forward);
}

#[test]
fn interrupt_cancels_truncates_and_ends_with_the_services_word() {
    let mut scene = Scene::active();
    scene.created("r1");
    scene.audio("r1", "a1", 3_000);
    scene.pass_ms(400);
    scene.outputs.clear();
    scene.says(json!({"type": "interrupt"}));
    assert_eq!(scene.outputs.len(), 3);
    let commands = scene.commands();
    assert_eq!(commands[0]["type"], "response.cancel");
    assert_eq!(commands[0]["response_id"], "r1");
    assert_eq!(commands[1], truncation("a1", 400));
    assert_eq!(scene.audio("r1", "a1", 100), Reply::Discard);
    scene.says(json!({"type": "interrupt"}));
    assert_eq!(scene.story(), ["drop"], "cancelled once");
    scene.done("r1", "cancelled");
    assert_eq!(scene.told()[0]["status"], "cancelled");
    scene.service(json!({"type": "error", "error": {"code": "response_cancel_not_active"}}));
    assert!(scene.outputs.is_empty());
}

#[test]
fn interrupt_while_the_model_thinks_stops_the_answer_as_it_comes() {
    let mut scene = Scene::active();
    scene.speech();
    scene.speech_ends();
    scene.says(json!({"type": "interrupt"}));
    scene.outputs.clear();
    scene.created("r1");
    assert_eq!(scene.story(), ["> response.cancel", "response_started"]);
    assert_eq!(scene.audio("r1", "a1", 100), Reply::Discard);
}

#[test]
fn a_typed_turn_is_answered_with_its_latency() {
    let mut scene = Scene::active();
    scene.says(json!({"type": "text", "text": "What time is it?"}));
    let commands = scene.commands();
    assert_eq!(commands[0]["item"]["content"][0]["text"], "What time is it?");
    assert_eq!(commands[1]["type"], "response.create");
    scene.pass_ms(250);
    scene.created("r1");
    scene.audio("r1", "a1", 100);
    assert_eq!(scene.told()[1], json!({"type": "latency", "first_audio_ms": 250}));
}

#[test]
fn when_an_answer_is_heard_is_known_from_the_first_report_about_it() {
    let mut scene = Scene::active();
    let heard = |scene: &mut Scene| {
        let all = std::mem::take(&mut scene.outputs);
        all.into_iter().find_map(|output| match output {
            Output::Heard(after) => Some(after.as_millis()),
            _ => None,
        })
    };
    scene.says(json!({"type": "text", "text": "What time is it?"}));
    scene.says(json!({"type": "played", "ms": 0}));
    assert_eq!(heard(&mut scene), None, "nothing has left yet");
    scene.created("r1");
    scene.audio("r1", "a1", 2_000);
    scene.pass_ms(50);
    scene.says(json!({"type": "played", "ms": 700}));
    assert_eq!(heard(&mut scene), None, "that was the reply before");
    scene.pass_ms(50);
    scene.says(json!({"type": "played", "ms": 40}));
    assert_eq!(heard(&mut scene), Some(60));
    scene.pass_ms(300);
    scene.says(json!({"type": "played", "ms": 340}));
    assert_eq!(heard(&mut scene), None, "once an answer");
}

#[test]
fn a_typed_turn_interrupts_a_reply_and_waits_for_its_end() {
    let mut scene = Scene::active();
    scene.created("r1");
    scene.audio("r1", "a1", 2_000);
    scene.pass_ms(100);
    scene.outputs.clear();
    scene.says(json!({"type": "text", "text": "Stop, another question"}));
    assert_eq!(
        scene.story(),
        [
            "> response.cancel",
            "drop",
            "> conversation.item.truncate",
            "speech_started",
            "speech_stopped",
            "> conversation.item.create"
        ]
    );
    scene.done("r1", "cancelled");
    assert_eq!(scene.story(), ["response_done", "usage", "> response.create"]);
}

/// Hears on for so long, a frame each 100 ms.
fn noise(scene: &mut Scene, tenths: u64) {
    for _ in 0..tenths {
        scene.pass_ms(100);
        scene.call.microphone(4_800, scene.now);
    }
}

#[test]
fn a_typed_turn_is_answered_in_a_room_that_is_never_quiet() {
    let mut scene = Scene::active();
    scene.speech();
    noise(&mut scene, 50);
    scene.outputs.clear();
    scene.says(json!({"type": "text", "text": "weather and stock"}));
    assert_eq!(scene.story(), ["> conversation.item.create"]);
    noise(&mut scene, 19);
    assert!(scene.story().is_empty(), "the sentence may yet end");
    noise(&mut scene, 1);
    assert_eq!(scene.story(), ["> response.create"]);
    scene.created("r1");
    assert_eq!(scene.audio("r1", "a1", 100), Reply::Forward);
}

#[test]
fn a_typed_turn_within_a_sentence_is_met_by_the_answer_to_it() {
    let mut scene = Scene::active();
    scene.speech();
    scene.says(json!({"type": "text", "text": "in Lisbon"}));
    noise(&mut scene, 10);
    scene.speech_ends();
    scene.created("r1");
    scene.done("r1", "completed");
    noise(&mut scene, 100);
    let asked = scene.story().iter().filter(|line| *line == "> response.create").count();
    assert_eq!(asked, 0);
}

#[test]
fn a_tools_result_waits_while_the_user_speaks() {
    let mut scene = Scene::active();
    scene.created("r1");
    scene.function_call("r1", "c1", "completed");
    scene.speech();
    scene.done("r1", "cancelled");
    scene.tool_finished("c1");
    noise(&mut scene, 100);
    assert!(!scene.story().iter().any(|line| line == "> response.create"));
}

#[test]
fn typed_turns_too_early_or_too_long_are_refused_and_the_call_goes_on() {
    let mut scene = Scene::connecting(settings());
    scene.outputs.clear();
    scene.says(json!({"type": "text", "text": "hi"}));
    assert_eq!(scene.told()[0]["code"], "not_ready");
    let mut scene = Scene::active();
    scene.says(json!({"type": "text", "text": "x".repeat(9_000)}));
    assert_eq!(scene.told()[0]["code"], "text_too_long");
    scene.says(json!({"type": "ping", "id": "a"}));
    assert_eq!(scene.told(), [json!({"type": "pong", "id": "a"})]);
}

#[test]
fn where_the_service_does_not_answer_by_itself_each_turn_asks() {
    let mut scene = Scene::active_with(settings(), json!({"create_response": false}));
    scene.outputs.clear();
    scene.speech();
    scene.speech_ends();
    assert_eq!(scene.story(), ["drop", "speech_started", "speech_stopped", "> response.create"]);
}

#[test]
fn failed_and_unknown_things_are_told_or_ignored_but_never_end_the_call() {
    let mut scene = Scene::active();
    scene.service(json!({"type": "error", "error": {"type": "server_error", "message": "Oops"}}));
    let told = scene.told();
    assert_eq!(told[0]["code"], "service_error");
    assert_eq!(told[0]["message"], "The voice service reports: Oops.");
    scene.created("r1");
    scene.service(json!({"type": "response.done", "response": {"id": "r1", "status": "failed",
        "status_details": {"error": {"message": "Quota."}}, "usage": null}}));
    let failed = scene.told().pop().unwrap();
    assert_eq!(failed["code"], "response_failed");
    assert!(failed["message"].as_str().unwrap().ends_with("Quota."));
    scene.events(&["response.brand_new", "rate_limits.updated", "warning"]);
    scene.service(json!({"type": "response.created", "response": null}));
    scene.service(json!({"type": "response.done", "response": null}));
    scene.service(json!({"type": "error", "error": null}));
    scene.service(json!({"type": "conversation.item.input_audio_transcription.completed",
        "item_id": null, "transcript": ""}));
    assert!(!scene.call.is_ended());
}

#[test]
fn latency_is_told_once_a_reply_and_never_for_an_abandoned_turn() {
    let mut scene = Scene::active();
    scene.speech();
    scene.speech_ends();
    scene.pass_ms(100);
    scene.speech();
    scene.created("r1");
    scene.audio("r1", "a1", 100);
    let latencies = |scene: &mut Scene| {
        let told = scene.told();
        told.into_iter().filter(|message| message["type"] == "latency").count()
    };
    assert_eq!(latencies(&mut scene), 0);
    scene.done("r1", "cancelled");
    scene.speech_ends();
    scene.created("r2");
    scene.audio("r2", "a2", 100);
    scene.audio("r2", "a2", 100);
    assert_eq!(latencies(&mut scene), 1);
}

#[test]
fn a_function_call_without_words_leaves_the_latency_to_the_spoken_answer() {
    let mut scene = Scene::active();
    scene.speech();
    scene.speech_ends();
    scene.created("r1");
    scene.function_call("r1", "call_1", "completed");
    scene.done("r1", "completed");
    scene.pass_ms(700);
    scene.tool_finished("call_1");
    scene.created("r2");
    scene.outputs.clear();
    scene.audio("r2", "a2", 100);
    assert_eq!(scene.told(), [json!({"type": "latency", "first_audio_ms": 700})]);
}

/// The commit alone tells that the turn is over, where the service has told of no speech before it.
#[test]
fn a_commit_without_a_word_of_speech_ends_a_turn_of_its_item() {
    let mut scene = Scene::active();
    scene.service(json!({"type": "input_audio_buffer.committed", "item_id": "u7"}));
    let stopped = json!({"type": "speech_stopped", "item_id": "u7"});
    assert_eq!(scene.told(), [stopped]);
    scene.service(json!({"type": "input_audio_buffer.committed", "item_id": "u7"}));
    scene.service(json!({"type": "input_audio_buffer.committed", "item_id": ""}));
    assert!(scene.told().is_empty(), "it is told once, and not of no item");
}
