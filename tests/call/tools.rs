//! Tools and the gate for `response.create`.

use super::scene::Scene;
use serde_json::json;
use voicelived::call::ending::EndReason;
use voicelived::call::{Input, Microphone, Reply};

fn busy() -> serde_json::Value {
    json!({"type": "error", "error": {"code": "conversation_already_has_active_response",
        "event_id": "create"}})
}

#[test]
fn a_tool_runs_and_its_answer_is_asked_for_after_the_response() {
    let mut scene = Scene::active();
    scene.created("r1");
    scene.function_call("r1", "call_1", "completed");
    assert_eq!(scene.story(), ["response_started", "tool", "run call_1"]);
    scene.pass_ms(120);
    scene.tool_finished("call_1");
    let outputs = scene.outputs.clone();
    assert_eq!(scene.commands()[0]["item"]["output"], r#"{"ok":1}"#);
    scene.outputs = outputs;
    let done = json!({"type": "tool", "name": "get_weather", "state": "done", "ms": 120});
    assert_eq!(scene.told(), [done]);
    scene.done("r1", "completed");
    assert_eq!(scene.story(), ["response_done", "usage", "> response.create"]);
}

#[test]
fn two_calls_of_one_response_are_answered_in_one_batch() {
    let mut scene = Scene::active();
    scene.created("r1");
    scene.function_call("r1", "call_1", "completed");
    scene.tool_finished("call_1");
    scene.function_call("r1", "call_2", "completed");
    scene.done("r1", "completed");
    scene.outputs.clear();
    scene.pass_secs(1);
    scene.tool_finished("call_2");
    assert_eq!(scene.story(), ["> conversation.item.create", "tool", "> response.create"]);
    scene.created("r2");
    scene.done("r2", "completed");
    assert!(!scene.story().contains(&"> response.create".to_owned()));
}

#[test]
fn audio_transcripts_and_barge_in_work_while_a_tool_runs() {
    let mut scene = Scene::active();
    scene.created("r1");
    scene.function_call("r1", "call_1", "completed");
    let now = scene.now;
    assert_eq!(scene.call.microphone(960, now), Microphone::Forward);
    assert_eq!(scene.audio("r1", "a1", 200), Reply::Forward);
    scene.outputs.clear();
    scene.service(json!({"type": "conversation.item.input_audio_transcription.completed",
        "item_id": "u1", "transcript": "Weather?"}));
    scene.speech();
    assert_eq!(scene.story(), ["transcript", "drop", "speech_started"]);
}

#[test]
fn a_new_turn_answers_for_a_tool_that_finished_while_the_user_spoke() {
    let mut scene = Scene::active();
    scene.created("r1");
    scene.function_call("r1", "call_1", "completed");
    scene.done("r1", "completed");
    scene.speech();
    scene.outputs.clear();
    scene.tool_finished("call_1");
    assert_eq!(scene.story(), ["> conversation.item.create", "tool"]);
    scene.speech_ends();
    scene.created("r2");
    scene.done("r2", "completed");
    assert!(!scene.story().contains(&"> response.create".to_owned()));
}

#[test]
fn a_tool_that_finishes_during_another_response_is_spoken_after_it() {
    let mut scene = Scene::active();
    scene.created("r1");
    scene.function_call("r1", "call_1", "completed");
    scene.done("r1", "completed");
    scene.speech();
    scene.speech_ends();
    scene.created("r2");
    scene.tool_finished("call_1");
    scene.outputs.clear();
    scene.done("r2", "completed");
    assert_eq!(scene.story(), ["response_done", "usage", "> response.create"]);
}

#[test]
fn a_slow_tool_is_answered_for_and_its_late_result_ignored() {
    let mut scene = Scene::active();
    scene.created("r1");
    scene.function_call("r1", "call_1", "completed");
    scene.done("r1", "completed");
    scene.outputs.clear();
    scene.pass_secs(30);
    let outputs = scene.outputs.clone();
    assert_eq!(scene.story(), ["> conversation.item.create", "tool", "> response.create"]);
    scene.outputs = outputs;
    assert_eq!(scene.told()[0]["state"], "failed");
    scene.tool_finished("call_1");
    assert!(scene.outputs.is_empty());
}

#[test]
fn a_stop_ends_the_tools_that_keep_the_user_waiting() {
    let mut scene = Scene::active();
    scene.created("r1");
    for call in ["call_1", "call_2", "call_3"] {
        scene.function_call("r1", call, "completed");
    }
    scene.done("r1", "completed");
    scene.tool_finished("call_2");
    scene.outputs.clear();
    scene.says(json!({"type": "interrupt"}));
    let outputs = scene.outputs.clone();
    let told: Vec<_> = scene.commands().iter().map(|it| it["item"].clone()).collect();
    let ids: Vec<_> = told.iter().map(|item| item["call_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["call_1", "call_3"]);
    assert!(told[0]["output"].as_str().unwrap().contains("The user stopped it"));
    scene.outputs = outputs;
    let one = ["> conversation.item.create", "tool"];
    let all = [&one[..], &["stop call_1"], &one, &["stop call_3", "drop"]].concat();
    assert_eq!(scene.story(), all);
    // A result that comes all the same is not told, and nobody speaks until the next turn.
    for call in ["call_1", "call_3"] {
        scene.tool_finished(call);
    }
    scene.pass_secs(60);
    assert!(scene.story().iter().all(|it| !it.starts_with('>')));
    scene.says(json!({"type": "text", "text": "And now?"}));
    assert!(scene.story().contains(&"> response.create".to_owned()));
}

/// A stop is meant for what is heard. So are those that a page sends before the user speaks or types into a reply.
#[test]
fn a_stop_of_a_reply_leaves_the_tools_at_work() {
    for made in [false, true] {
        let mut scene = Scene::active();
        scene.created("r1");
        scene.audio("r1", "a1", 4_000);
        scene.function_call("r1", "call_1", "completed");
        if made {
            // It is still heard.
            scene.done("r1", "completed");
        }
        scene.says(json!({"type": "interrupt"}));
        if !made {
            scene.done("r1", "cancelled");
        }
        assert!(!scene.story().iter().any(|it| it.starts_with("stop")), "made: {made}");
        scene.tool_finished("call_1");
        assert!(scene.story().contains(&"> response.create".to_owned()), "made: {made}");
    }
}

#[test]
fn calls_of_an_interrupted_response_are_not_run() {
    let mut scene = Scene::active();
    scene.created("r1");
    scene.speech();
    scene.outputs.clear();
    scene.function_call("r1", "call_1", "incomplete");
    assert!(scene.outputs.is_empty());
    scene.function_call("r1", "call_2", "completed");
    let output = scene.commands().pop().unwrap();
    assert_eq!(output["item"]["call_id"], "call_2");
    assert!(output["item"]["output"].as_str().unwrap().contains("interrupted"));
}

#[test]
fn too_many_calls_and_oversized_outputs_are_answered_with_errors() {
    let mut scene = Scene::active();
    scene.created("r1");
    for index in 0..8 {
        scene.function_call("r1", &format!("call_{index}"), "completed");
    }
    scene.outputs.clear();
    scene.function_call("r1", "call_8", "completed");
    assert_eq!(scene.story(), ["refused", "> conversation.item.create", "tool"]);
    let long = "x".repeat(70_000);
    scene.client(Input::ToolFinished { call_id: "call_0", output: &long, ok: true });
    assert!(scene.commands()[0]["item"]["output"].as_str().unwrap().contains("too long"));
}

#[test]
fn a_request_that_crossed_a_response_is_repeated_once_after_it() {
    let mut scene = Scene::active();
    scene.says(json!({"type": "text", "text": "hi"}));
    scene.created("vad");
    scene.service(busy());
    scene.outputs.clear();
    scene.done("vad", "completed");
    assert_eq!(scene.story(), ["response_done", "usage", "> response.create"]);
    scene.service(busy());
    scene.created("other");
    scene.done("other", "completed");
    assert!(!scene.story().contains(&"> response.create".to_owned()), "repeated once only");
}

#[test]
fn nothing_is_requested_while_the_service_is_about_to_answer() {
    let mut scene = Scene::active();
    scene.speech();
    scene.speech_ends();
    scene.says(json!({"type": "text", "text": "and this"}));
    assert!(!scene.story().contains(&"> response.create".to_owned()));
    scene.pass_secs(5);
    assert_eq!(scene.story(), ["> response.create"], "an empty turn brings no response");
}

#[test]
fn a_request_refused_for_good_is_told_and_frees_the_gate() {
    let mut scene = Scene::active();
    scene.says(json!({"type": "text", "text": "hi"}));
    scene.outputs.clear();
    scene.service(json!({"type": "error", "error": {"code": "quota", "message": "Too much",
        "event_id": "create"}}));
    assert_eq!(scene.told()[0]["code"], "quota");
    scene.says(json!({"type": "text", "text": "again"}));
    assert_eq!(scene.story(), ["> conversation.item.create", "> response.create"]);
}

#[test]
fn a_tool_of_the_services_own_without_a_name_is_refused_and_spoken_about() {
    let mut scene = Scene::active();
    scene.service(json!({"type": "conversation.item.created", "item":
        {"id": "mcpr_1", "type": "mcp_approval_request"}}));
    scene.pass_secs(1);
    let commands = scene.commands();
    let answer = json!({"type": "mcp_approval_response", "approval_request_id": "mcpr_1",
        "approve": false});
    assert_eq!(commands[0]["item"], answer);
    scene.created("r1");
    scene.events(&["response.mcp_call.completed"]);
    scene.outputs.clear();
    scene.done("r1", "completed");
    assert_eq!(scene.story(), ["response_done", "usage", "> response.create"]);
}

/// The model says goodbye and hangs up in one response: nothing more is asked for, and the call ends when
/// the last word has been heard.
#[test]
fn hanging_up_waits_until_the_goodbye_has_been_heard() {
    let mut scene = Scene::active();
    scene.created("r1");
    scene.audio("r1", "a1", 2_000);
    scene.function_call("r1", "call_1", "completed");
    scene.client(Input::HangUp { call_id: "call_1" });
    scene.done("r1", "completed");
    let story = scene.story();
    assert!(story.contains(&"> conversation.item.create".to_owned()), "{story:?}");
    assert!(!story.contains(&"> response.create".to_owned()), "{story:?}");
    scene.pass_ms(1_900);
    assert!(!scene.call.is_ended(), "the goodbye is still heard");
    scene.pass_ms(1_000);
    assert_eq!(scene.ended(), EndReason::AssistantHungUp);
}

#[test]
fn hanging_up_without_a_word_asks_for_a_goodbye_first() {
    let mut scene = Scene::active();
    scene.created("r1");
    scene.function_call("r1", "call_1", "completed");
    scene.client(Input::HangUp { call_id: "call_1" });
    scene.outputs.clear();
    scene.done("r1", "completed");
    assert!(scene.story().contains(&"> response.create".to_owned()));
    scene.created("r2");
    scene.audio("r2", "a2", 1_000);
    scene.done("r2", "completed");
    scene.pass_ms(900);
    assert!(!scene.call.is_ended(), "the goodbye is still heard");
    scene.pass_ms(1_000);
    assert_eq!(scene.ended(), EndReason::AssistantHungUp);
}

/// Words that come behind the function call of the same response are the goodbye too.
#[test]
fn a_goodbye_behind_the_call_of_hang_up_counts() {
    let mut scene = Scene::active();
    scene.created("r1");
    scene.function_call("r1", "call_1", "completed");
    scene.client(Input::HangUp { call_id: "call_1" });
    scene.audio("r1", "a1", 1_000);
    scene.outputs.clear();
    scene.done("r1", "completed");
    assert!(!scene.story().contains(&"> response.create".to_owned()));
    scene.pass_ms(2_000);
    assert_eq!(scene.ended(), EndReason::AssistantHungUp);
}

#[test]
fn a_user_who_goes_on_calls_the_end_off() {
    for typed in [false, true] {
        let mut scene = Scene::active();
        scene.created("r1");
        scene.audio("r1", "a1", 2_000);
        scene.function_call("r1", "call_1", "completed");
        scene.client(Input::HangUp { call_id: "call_1" });
        scene.done("r1", "completed");
        scene.pass_ms(500);
        if typed {
            scene.says(json!({"type": "text", "text": "Wait, one more thing."}));
        } else {
            scene.speech();
            scene.speech_ends();
        }
        scene.created("r2");
        scene.audio("r2", "a2", 1_000);
        scene.done("r2", "completed");
        scene.pass_secs(60);
        assert!(!scene.call.is_ended(), "typed: {typed}");
    }
}

#[test]
fn a_goodbye_that_never_comes_ends_the_call_all_the_same() {
    let mut scene = Scene::active();
    scene.created("r1");
    scene.function_call("r1", "call_1", "completed");
    scene.client(Input::HangUp { call_id: "call_1" });
    scene.stays_alive("r1", 29);
    assert!(!scene.call.is_ended());
    scene.pass_secs(2);
    assert_eq!(scene.ended(), EndReason::AssistantHungUp);
}
