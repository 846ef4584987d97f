//! How a call starts, how long it may last, and how it ends.

use std::time::Duration;

use super::scene::{Scene, settings};
use serde_json::{Value, json};
use voicelived::call::ending::{EndReason, ServiceFault};
use voicelived::call::{CallSettings, Input, Microphone, Output};

fn created() -> Value {
    json!({"type": "session.created", "session": {"id": "sess_9", "model": "gpt-realtime",
        "expires_at": 1_795_400_000_u64, "modalities": ["audio"]}})
}

fn updated() -> Value {
    json!({"type": "session.updated", "session": {"input_audio_format": "pcm16"}})
}

#[test]
fn hello_comes_first_and_the_microphone_waits_for_the_settings() {
    let mut scene = Scene::connecting(settings());
    let told = scene.told();
    assert_eq!(told[0]["type"], "hello");
    assert_eq!(told[0]["session"], "c1");
    assert_eq!(told[0]["resume"], "secret");
    assert_eq!(told[0]["resumed"], false);
    let limits = json!({"max_seconds": 3600, "idle_seconds": 120, "resume_seconds": 0,
        "max_frame_bytes": 65536});
    assert_eq!(told[0]["limits"], limits);
    assert_eq!(told[1], json!({"type": "call_state", "state": "connecting"}));
    let now = scene.now;
    assert_eq!(scene.call.microphone(960, now), Microphone::Hold);
    scene.service(created());
    let commands = scene.commands();
    assert_eq!(commands[0]["type"], "session.update");
    assert_eq!(commands[0]["event_id"], "cfg1");
    assert_eq!(commands[0]["session"]["voice"]["name"], "alloy");
    assert_eq!(scene.call.microphone(960, now), Microphone::Hold);
    scene.service(updated());
    assert_eq!(scene.story(), ["call_state", "release"]);
    assert_eq!(scene.call.microphone(960, now), Microphone::Forward);
    assert_eq!(scene.call.service_session(), "sess_9");
    assert_eq!(scene.call.expires_at(), Some(1_795_400_000));
}

#[test]
fn the_client_learns_whether_a_simulator_answers() {
    for (model, service) in [("gpt-realtime", "azure"), ("voicelived-simulator-1", "simulator")] {
        let mut scene = Scene::connecting(settings());
        scene.service(json!({"type": "session.created", "session": {"model": model}}));
        scene.service(updated());
        let active = scene.told().pop().unwrap();
        let expected = json!({"type": "call_state", "state": "active", "service": service});
        assert_eq!(active, expected);
    }
}

#[test]
fn the_greeting_is_spoken_once() {
    let greeting = Some("Hello there".to_owned());
    let mut scene = Scene::active_with(CallSettings { greeting, ..settings() }, json!(null));
    let create = scene.commands().pop().unwrap();
    assert_eq!(create["type"], "response.create");
    let message = &create["response"]["pre_generated_assistant_message"];
    assert_eq!(message["content"][0]["text"], "Hello there");
    scene.created("r1");
    scene.done("r1", "completed");
    scene.service(updated());
    assert!(scene.commands().is_empty());
}

#[test]
fn a_ga_session_gets_ga_settings_and_event_names_work() {
    let greeting = Some("Hi".to_owned());
    let mut scene = Scene::connecting(CallSettings { greeting, ..settings() });
    let audio = json!({"input": {"turn_detection": {}}, "output": {"format":
        {"type": "audio/pcm", "rate": 24000}}});
    scene.service(
        json!({"type": "session.created", "session": {"type": "realtime", "audio": audio}}),
    );
    let update = scene.commands().pop().unwrap();
    assert_eq!(update["session"]["type"], "realtime");
    assert_eq!(update["session"]["audio"]["output"]["voice"], "alloy");
    assert!(update["session"].get("modalities").is_none());
    scene.service(
        json!({"type": "session.updated", "session": {"type": "realtime", "audio": audio}}),
    );
    let create = scene.commands().pop().unwrap();
    assert!(create["response"]["instructions"].as_str().unwrap().ends_with("Hi"));
    scene.created("r1");
    scene.service(json!({"type": "response.output_audio_transcript.delta", "response_id": "r1",
        "item_id": "a1", "delta": "Hi"}));
    scene.service(json!({"type": "response.output_audio_transcript.done", "response_id": "r1",
        "item_id": "a1", "transcript": "Hi"}));
    assert_eq!(scene.story(), ["response_started", "transcript_delta", "transcript"]);
}

#[test]
fn refused_settings_end_the_call_with_the_services_words() {
    let mut scene = Scene::connecting(settings());
    scene.service(created());
    scene.service(json!({"type": "error", "error": {"code": "unknown_parameter",
        "message": "Unknown parameter: 'session.foo'.", "param": "session.foo", "event_id": "cfg1"}}));
    let reason = scene.ended();
    assert_eq!((reason.word(), reason.close_code()), ("session_refused", 1011));
    let message = reason.message();
    assert!(message.contains("Unknown parameter: 'session.foo'."), "{message}");
    assert!(message.ends_with("session.foo."), "{message}");
}

#[test]
fn another_audio_format_ends_the_call() {
    let mut scene = Scene::connecting(settings());
    scene.service(created());
    scene.service(
        json!({"type": "session.updated", "session": {"output_audio_format": "g711_ulaw"}}),
    );
    assert!(scene.ended().message().contains("g711_ulaw"));
}

#[test]
fn a_fault_told_right_after_the_upgrade_ends_the_call() {
    let mut scene = Scene::connecting(settings());
    scene.service(json!({"type": "error", "error": {"message": "No such model"}}));
    assert_eq!(
        scene.ended().message(),
        "The voice service reports: No such model. Check VOICE_LIVE_MODEL."
    );
}

#[test]
fn a_service_that_is_not_ready_in_time_is_given_up() {
    for connected in [false, true] {
        let mut scene = Scene::connecting(settings());
        if connected {
            scene.service(created());
        }
        scene.pass_ms(14_999);
        assert!(!scene.call.is_ended());
        scene.pass_ms(1);
        assert_eq!(scene.ended(), EndReason::ServiceTimeout);
    }
}

#[test]
fn a_lost_service_ends_the_call_with_its_word_before_and_after_active() {
    let fault = ServiceFault {
        word: "lost",
        message: "It is gone.".to_owned(),
        retryable: true,
        retry_after: None,
    };
    for mut scene in [Scene::connecting(settings()), Scene::active()] {
        scene.client(Input::ServiceLost(fault.clone()));
        assert_eq!(scene.ended().word(), "lost");
    }
}

#[test]
fn after_the_end_everything_is_ignored() {
    let mut scene = Scene::active();
    scene.says(json!({"type": "hang_up"}));
    assert_eq!(scene.story(), ["usage", "call_state", "close hang_up"]);
    scene.client(Input::End(EndReason::Stopping));
    scene.client(Input::ClientLost);
    scene.client(Input::Tick);
    scene.says(json!({"type": "ping", "id": 1}));
    scene.speech();
    let now = scene.now;
    assert_eq!(scene.call.microphone(960, now), Microphone::Discard);
    scene.audio("r1", "a1", 100);
    scene.call.reply_sent(960, now);
    assert!(scene.call.poll().is_none());
    assert!(scene.outputs.is_empty());
}

#[test]
fn a_silent_client_keeps_its_call_until_idle_and_hears_why() {
    let mut scene = Scene::active();
    scene.pass_secs(104);
    assert!(scene.outputs.is_empty(), "no audio for a while is no reason");
    scene.pass_secs(1);
    let warning = scene.told().pop().unwrap();
    assert_eq!(warning["code"], "idle_soon");
    assert!(warning["message"].as_str().unwrap().contains("15 seconds"));
    scene.pass_ms(14_999);
    assert!(scene.outputs.is_empty());
    scene.pass_ms(1);
    assert_eq!(scene.ended(), EndReason::Idle(120));
}

#[test]
fn speech_typed_turns_tools_and_playing_are_not_idle() {
    let mut scene = Scene::active();
    scene.pass_secs(100);
    scene.says(json!({"type": "text", "text": "hi"}));
    scene.created("r1");
    scene.stays_alive("r1", 200);
    scene.audio("r1", "a1", 60_000);
    scene.function_call("r1", "call_1", "completed");
    scene.done("r1", "completed");
    scene.pass_secs(29);
    scene.tool_finished("call_1");
    scene.created("r2");
    scene.done("r2", "completed");
    scene.outputs.clear();
    scene.pass_secs(31 + 104);
    assert!(scene.outputs.is_empty(), "the clock starts when the reply has been played");
    scene.pass_secs(1);
    assert_eq!(scene.told().pop().unwrap()["code"], "idle_soon");
    scene.speech();
    scene.speech_ends();
    scene.outputs.clear();
    scene.pass_secs(5 + 104);
    assert!(scene.outputs.is_empty());
    scene.pass_secs(1);
    assert_eq!(scene.told().pop().unwrap()["code"], "idle_soon", "warned anew");
}

#[test]
fn who_mutes_in_the_middle_of_a_sentence_is_idle_and_can_type() {
    let mut scene = Scene::active();
    scene.speech();
    for _ in 0..100 {
        scene.pass_secs(2);
        let now = scene.now;
        assert_eq!(scene.call.microphone(960, now), Microphone::Forward);
    }
    scene.outputs.clear();
    scene.says(json!({"type": "text", "text": "hi"}));
    assert_eq!(scene.story(), ["> conversation.item.create"]);
    scene.pass_secs(4);
    assert_eq!(scene.story(), ["> response.create"]);
    scene.pass_secs(300);
    assert_eq!(scene.ended().word(), "idle");
}

#[test]
fn a_short_idle_limit_warns_at_half() {
    let idle = Duration::from_secs(10);
    let mut scene = Scene::active_with(CallSettings { idle, ..settings() }, json!(null));
    scene.outputs.clear();
    scene.pass_secs(5);
    assert_eq!(scene.told().pop().unwrap()["code"], "idle_soon");
    scene.pass_secs(5);
    assert_eq!(scene.ended(), EndReason::Idle(10));
}

#[test]
fn the_longest_duration_ends_even_a_lively_call_after_a_warning() {
    let max_duration = Duration::from_secs(300);
    let mut scene = Scene::active_with(CallSettings { max_duration, ..settings() }, json!(null));
    scene.outputs.clear();
    scene.created("r1");
    scene.stays_alive("r1", 239);
    assert_eq!(scene.story(), ["response_started"]);
    scene.pass_secs(1);
    assert_eq!(scene.told().pop().unwrap()["code"], "time_soon");
    scene.pass_secs(60);
    assert_eq!(scene.ended(), EndReason::TimeLimit(300));
}

#[test]
fn the_services_own_limit_is_told_as_such() {
    let mut scene = Scene::active();
    scene.service(json!({"type": "error", "error": {"code": "session_expired", "message": "60"}}));
    assert_eq!(scene.ended(), EndReason::SessionExpired);
}

#[test]
fn a_response_that_counts_no_tokens_brings_the_totals_too() {
    let mut scene = Scene::active();
    scene.created("r1");
    scene.done("r1", "completed");
    scene.created("r2");
    scene.story();
    scene
        .service(json!({"type": "response.done", "response": {"id": "r2", "status": "cancelled"}}));
    let usage = json!({"type": "usage", "input_tokens": 10, "output_tokens": 5, "seconds": 0});
    assert_eq!(scene.told()[1], usage);
}

#[test]
fn the_end_carries_usage_and_a_daemon_that_stops_says_so() {
    let mut scene = Scene::active();
    scene.created("r1");
    scene.done("r1", "completed");
    scene.created("r2");
    scene.done("r2", "completed");
    scene.pass_secs(7);
    scene.outputs.clear();
    scene.client(Input::End(EndReason::Stopping));
    let outputs = scene.outputs.clone();
    assert_eq!(outputs.last(), Some(&Output::Close(EndReason::Stopping)));
    let usage = json!({"type": "usage", "input_tokens": 20, "output_tokens": 10, "seconds": 7});
    assert_eq!(scene.told()[0], usage);
}
