//! A call that loses its session with the service: what is tried, what the next session is told, and what
//! becomes of what was under way.

use std::time::Duration;

use serde_json::{Value, json};
use voicelived::call::ending::{EndReason, ServiceFault};
use voicelived::call::{CallSettings, Input, KEPT_BYTES, Microphone, Output, Reply};

use super::scene::{Scene, settings};

const QUIET_BYTES: usize = 72_000;

fn patient() -> CallSettings {
    CallSettings { reconnect: Duration::from_secs(60), ..settings() }
}

/// An active call, a minute old.
fn old_call() -> Scene {
    call_with(patient(), json!({"auto_truncate": true}))
}

fn call_with(settings: CallSettings, turns: Value) -> Scene {
    let mut scene = Scene::active_with(settings, turns);
    scene.pass_secs(60);
    scene.outputs.clear();
    scene
}

fn fault(word: &'static str, retryable: bool) -> ServiceFault {
    ServiceFault { word, message: "It is gone.".to_owned(), retryable, retry_after: None }
}

fn lose(scene: &mut Scene) {
    scene.client(Input::ServiceLost(fault("service_lost", true)));
}

/// Both of the service's messages that make a new session.
fn come_back(scene: &mut Scene) {
    scene.client(Input::ServiceOpened);
    scene.service(json!({"type": "session.created", "session": {"id": "sess_2", "model": "m"}}));
    scene.service(json!({"type": "session.updated", "session": {"id": "sess_2",
        "turn_detection": {"auto_truncate": true}}}));
}

/// What the new session is told after its settings: each item as `role: text`, each call as
/// `name(arguments)`, each output as `= output`, and a request for an answer as `?`.
fn restored(scene: &mut Scene) -> Vec<String> {
    scene.pass_secs(1);
    come_back(scene);
    told_service(scene)
}

fn told_service(scene: &mut Scene) -> Vec<String> {
    let commands = scene.commands();
    commands.iter().filter(|command| command["type"] != "session.update").map(short).collect()
}

fn short(command: &Value) -> String {
    let item = &command["item"];
    match (command["type"].as_str().unwrap(), item["type"].as_str().unwrap_or_default()) {
        ("response.create", _) => "?".to_owned(),
        (_, "message") => {
            let text = item["content"][0]["text"].as_str().unwrap();
            format!("{}: {text}", item["role"].as_str().unwrap())
        }
        (_, "function_call") => {
            format!("{}({})", item["name"].as_str().unwrap(), item["arguments"].as_str().unwrap())
        }
        (_, "function_call_output") => format!("= {}", item["output"].as_str().unwrap()),
        (other, _) => other.to_owned(),
    }
}

/// The user says this, as item `item`; the service transcribes it.
fn user_says(scene: &mut Scene, item: &str, text: &str) {
    scene.speech();
    scene.events(&["input_audio_buffer.speech_stopped"]);
    scene.service(json!({"type": "input_audio_buffer.committed", "item_id": item}));
    transcript(scene, item, text);
}

fn transcript(scene: &mut Scene, item: &str, text: &str) {
    scene.service(json!({"type": "conversation.item.input_audio_transcription.completed",
        "item_id": item, "content_index": 0, "transcript": text}));
}

/// The service answers with these words and `ms` of audio, and is done.
fn service_says(scene: &mut Scene, response: &str, text: &str, ms: usize) {
    scene.created(response);
    words(scene, response, text);
    scene.audio(response, &format!("{response}_item"), ms);
    scene.done(response, "completed");
}

fn words(scene: &mut Scene, response: &str, text: &str) {
    scene.service(json!({"type": "response.audio_transcript.delta", "response_id": response,
        "item_id": format!("{response}_item"), "content_index": 0, "delta": text}));
}

#[test]
fn the_client_keeps_its_call_and_is_told_once_of_each_change() {
    let mut scene = old_call();
    lose(&mut scene);
    let told = scene.told();
    assert_eq!(
        told,
        [json!({"type": "call_state", "state": "reconnecting", "reason": "service_lost",
            "message": "It is gone."})]
    );
    assert_eq!(scene.call.microphone(960, scene.now), Microphone::Hold);
    scene.pass_ms(0);
    assert_eq!(scene.story(), ["redial"], "a call that had settled is tried again at once");
    come_back(&mut scene);
    assert_eq!(scene.story(), ["> session.update", "call_state", "release"]);
    assert_eq!(scene.call.microphone(960, scene.now), Microphone::Forward);
    assert_eq!(scene.call.service_session(), "sess_2");
}

#[test]
fn what_no_try_mends_ends_the_call_and_so_does_a_service_that_never_was_there() {
    let mut scene = old_call();
    scene.client(Input::ServiceLost(fault("unauthorized", false)));
    assert_eq!(scene.ended(), EndReason::Service(fault("unauthorized", false)));

    let mut scene = Scene::connecting(patient());
    lose(&mut scene);
    assert_eq!(scene.ended(), EndReason::Service(fault("service_lost", true)));

    let mut scene = call_with(settings(), Value::Null);
    assert_eq!(scene.call.microphone_keep(), 0, "nothing is sent again");
    lose(&mut scene);
    assert_eq!(
        scene.ended(),
        EndReason::Service(fault("service_lost", true)),
        "it is switched off"
    );

    let mut scene = old_call();
    lose(&mut scene);
    scene.pass_ms(0);
    scene.client(Input::ServiceLost(fault("forbidden", false)));
    assert_eq!(scene.ended(), EndReason::Service(fault("forbidden", false)));
}

#[test]
fn an_error_in_answer_to_a_try_is_a_failed_try_but_for_the_hopeless_ones() {
    let error = |code: &str| json!({"type": "error", "error": {"code": code, "message": "No."}});
    let mut scene = old_call();
    lose(&mut scene);
    scene.pass_ms(0);
    scene.client(Input::ServiceOpened);
    scene.story();
    scene.service(error("server_error"));
    assert_eq!(scene.story(), ["lost service_error"]);
    scene.pass_secs(1);
    assert_eq!(scene.story(), ["redial"]);
    // It comes after the first words of the session.
    scene.client(Input::ServiceOpened);
    scene.service(json!({"type": "session.created", "session": {"id": "s"}}));
    scene.story();
    scene.service(error("server_error"));
    assert_eq!(scene.story(), ["lost service_error"]);
    scene.pass_secs(2);
    assert_eq!(scene.story(), ["redial"]);
    scene.client(Input::ServiceOpened);
    scene.service(error("insufficient_quota"));
    assert!(matches!(scene.ended(), EndReason::Service(fault) if !fault.retryable));
}

/// What a new session would not mend is never tried again, before its first words and after them.
#[test]
fn an_account_that_is_closed_or_used_up_is_not_asked_again() {
    for code in [
        "insufficient_quota",
        "credit_balance_exhausted",
        "invalid_api_key",
        "account_deactivated",
        "billing_hard_limit_reached",
    ] {
        for begun in [false, true] {
            let mut scene = old_call();
            lose(&mut scene);
            scene.pass_ms(0);
            scene.client(Input::ServiceOpened);
            if begun {
                scene.service(json!({"type": "session.created", "session": {"id": "s"}}));
            }
            let error = json!({"code": code, "message": "No."});
            scene.service(json!({"type": "error", "error": error}));
            let ended = scene.ended();
            let hopeless = matches!(&ended, EndReason::Service(fault) if !fault.retryable);
            assert!(hopeless, "{code}, begun {begun}: {ended:?}");
        }
    }
}

#[test]
fn the_tries_end_after_the_time_that_the_owner_gives_them() {
    let mut scene = old_call();
    let start = scene.now;
    lose(&mut scene);
    let mut tries = 0;
    while !scene.call.is_ended() {
        scene.pass_ms(100);
        let story = scene.story();
        if story.contains(&"redial".to_owned()) {
            tries += 1;
            scene.client(Input::ServiceLost(fault("unreachable", true)));
        }
        assert!(scene.now < start + Duration::from_secs(61), "it goes on for ever");
    }
    assert!(tries >= 8, "{tries} tries in a minute");
    let told = scene.now - start;
    assert!(told > Duration::from_secs(50), "given up after {told:?}");
}

#[test]
fn a_try_that_is_reached_and_hears_nothing_fails() {
    let mut scene = old_call();
    lose(&mut scene);
    scene.pass_ms(0);
    scene.client(Input::ServiceOpened);
    scene.story();
    scene.pass_secs(14);
    assert_eq!(scene.story(), [""; 0]);
    scene.pass_secs(2);
    assert_eq!(scene.story(), ["lost service_timeout", "redial"]);
}

#[test]
fn a_service_that_drops_every_session_is_given_up_too() {
    let mut scene = old_call();
    let start = scene.now;
    lose(&mut scene);
    while !scene.call.is_ended() {
        scene.pass_ms(100);
        if scene.story().contains(&"redial".to_owned()) {
            come_back(&mut scene);
            scene.pass_secs(1);
            lose(&mut scene);
        }
        assert!(scene.now < start + Duration::from_secs(70), "it goes on for ever");
    }
}

/// Sessions that last 11 s each, and are lost with what they were told or not: only when all of it was confirmed
/// does the next loss count as the first one, whose try comes at once.
#[test]
fn the_waits_begin_anew_only_when_all_that_was_told_is_confirmed() {
    let created = json!({"type": "conversation.item.created", "item": {"type": "message"}});
    let refused =
        json!({"type": "error", "error": {"event_id": "replay_typed_2", "message": "No."}});
    let speech = json!({"type": "input_audio_buffer.speech_started"});
    for (confirmations, at_once) in [
        (vec![], false),
        (vec![&created], false),
        (vec![&created, &created], true),
        (vec![&created, &refused], true),
        (vec![&speech], true),
    ] {
        let mut scene = old_call();
        for text in ["One", "Two"] {
            scene.says(json!({"type": "text", "text": text}));
        }
        for _ in 0..4 {
            lose(&mut scene);
            scene.pass_secs(9);
            come_back(&mut scene);
            for event in &confirmations {
                scene.service((*event).clone());
            }
            scene.pass_secs(11);
        }
        scene.story();
        lose(&mut scene);
        scene.pass_ms(0);
        let story = scene.story();
        assert_eq!(story.contains(&"redial".to_owned()), at_once, "{confirmations:?}: {story:?}");
        scene.pass_secs(9);
        assert!(!scene.call.is_ended(), "{confirmations:?}: it lasted, so its patience is new");
    }
}

#[test]
fn the_services_retry_after_is_heeded() {
    let mut scene = old_call();
    lose(&mut scene);
    scene.pass_ms(0);
    let wait = Some(Duration::from_secs(7));
    scene.client(Input::ServiceLost(ServiceFault { retry_after: wait, ..fault("quota", true) }));
    scene.story();
    scene.pass_ms(6_900);
    assert_eq!(scene.story(), [""; 0]);
    scene.pass_ms(200);
    assert_eq!(scene.story(), ["redial"]);
}

#[test]
fn an_expired_session_is_followed_by_another_one() {
    let mut scene = old_call();
    scene.client(Input::SessionExpired);
    assert_eq!(scene.story(), ["lost session_expired", "call_state"]);
    let mut scene = old_call();
    scene.service(
        json!({"type": "error", "error": {"code": "session_expired", "message": "Over."}}),
    );
    assert_eq!(scene.story(), ["lost session_expired", "call_state"]);
}

// ---- the conversation ----

#[test]
fn the_conversation_is_told_to_the_new_session_in_order() {
    let mut scene = old_call();
    user_says(&mut scene, "u1", "What time is it? ");
    service_says(&mut scene, "r1", "It is noon.", 1_000);
    scene.pass_secs(5);
    scene.says(json!({"type": "text", "text": "And the weather?"}));
    scene.created("r2");
    scene.function_call("r2", "call_1", "completed");
    scene.done("r2", "completed");
    scene.tool_finished("call_1");
    service_says(&mut scene, "r3", "It is sunny.", 1_000);
    scene.pass_secs(5);
    lose(&mut scene);
    scene.outputs.clear();
    scene.pass_secs(1);
    come_back(&mut scene);
    let commands = scene.commands();
    assert_eq!(commands[0]["type"], "session.update", "settings first");
    let items: Vec<_> = commands[1..].iter().map(short).collect();
    assert_eq!(
        items,
        [
            "user: What time is it?",
            "assistant: It is noon.",
            "user: And the weather?",
            "get_weather({})",
            r#"= {"ok":1}"#,
            "assistant: It is sunny.",
        ]
    );
    assert_eq!(commands[1]["item"]["id"], "u1", "items keep their ids");
    assert_eq!(commands[2]["item"]["content"][0]["type"], "text");
    assert!(commands[1]["event_id"].as_str().unwrap().starts_with("replay_"));
}

#[test]
fn a_ga_session_gets_its_own_content_types() {
    let mut scene = old_call();
    user_says(&mut scene, "u1", "Hello.");
    service_says(&mut scene, "r1", "Hi.", 100);
    scene.pass_secs(5);
    lose(&mut scene);
    scene.pass_secs(1);
    scene.outputs.clear();
    scene.client(Input::ServiceOpened);
    scene.service(json!({"type": "session.created", "session": {"type": "realtime", "id": "s"}}));
    scene.service(json!({"type": "session.updated", "session": {"type": "realtime", "id": "s"}}));
    let commands = scene.commands();
    assert_eq!(commands[1]["item"]["content"][0]["type"], "input_text");
    assert_eq!(commands[2]["item"]["content"][0]["type"], "output_text");
}

#[test]
fn an_item_that_the_service_refuses_is_left_out_from_then_on() {
    let mut scene = old_call();
    user_says(&mut scene, "u1", "One.");
    service_says(&mut scene, "r1", "Two.", 100);
    scene.pass_secs(5);
    lose(&mut scene);
    scene.outputs.clear();
    assert_eq!(restored(&mut scene), ["user: One.", "assistant: Two."]);
    scene.service(json!({"type": "error", "error": {"code": "invalid_value", "message": "No.",
        "event_id": "replay_r1_item"}}));
    assert_eq!(scene.story(), ["item refused"], "the client is told nothing");
    scene.pass_secs(20);
    lose(&mut scene);
    scene.outputs.clear();
    assert_eq!(restored(&mut scene), ["user: One."]);
}

#[test]
fn an_agent_goes_on_with_its_own_conversation() {
    let mut scene = Scene::connecting(patient());
    let session = json!({"id": "s", "agent": {"type": "agent", "thread_id": "thread 1"}});
    scene.service(json!({"type": "session.created", "session": session}));
    scene.service(json!({"type": "session.updated", "session": session}));
    scene.pass_secs(60);
    user_says(&mut scene, "u1", "Hello.");
    service_says(&mut scene, "r1", "Hi.", 100);
    scene.pass_secs(5);
    lose(&mut scene);
    scene.outputs.clear();
    scene.pass_ms(0);
    let redial = Output::Redial { conversation: "thread 1".to_owned() };
    assert!(scene.outputs.contains(&redial), "{:?}", scene.outputs);
    scene.client(Input::ServiceOpened);
    scene.service(json!({"type": "session.created", "session": session}));
    scene.service(json!({"type": "session.updated", "session": session}));
    assert_eq!(told_service(&mut scene), [""; 0]);
}

#[test]
fn a_long_conversation_says_that_its_beginning_is_missing() {
    let mut settings = patient();
    settings.session["instructions"] = json!("Be kind.");
    let mut scene = call_with(settings, json!({"auto_truncate": true}));
    for turn in 0..40 {
        user_says(&mut scene, &format!("u{turn}"), &format!("Question {turn}."));
        service_says(&mut scene, &format!("r{turn}"), "Answer.", 10);
        scene.pass_secs(5);
    }
    lose(&mut scene);
    scene.pass_secs(1);
    scene.outputs.clear();
    come_back(&mut scene);
    let commands = scene.commands();
    let instructions = commands[0]["session"]["instructions"].as_str().unwrap();
    assert!(instructions.starts_with("Be kind.\n\n") && instructions.contains("beginning"));
    assert!((50..=64).contains(&(commands.len() - 1)), "{} items", commands.len() - 1);
    assert_eq!(short(commands.last().unwrap()), "assistant: Answer.");
    assert!(short(&commands[1]).starts_with("user: "), "a turn is kept or dropped as a whole");
}

// ---- what was under way ----

#[test]
fn a_turn_without_words_is_sent_again_as_audio_and_one_with_words_as_text() {
    let mut scene = old_call();
    assert_eq!(scene.call.microphone_keep(), QUIET_BYTES);
    scene.speech();
    assert_eq!(scene.call.microphone_keep(), KEPT_BYTES);
    scene.events(&["input_audio_buffer.speech_stopped"]);
    scene.service(json!({"type": "input_audio_buffer.committed", "item_id": "u1"}));
    assert!(scene.outputs.contains(&Output::CommitMicrophone));
    assert!(!scene.outputs.contains(&Output::SettleMicrophone));
    lose(&mut scene);
    scene.outputs.clear();
    assert_eq!(restored(&mut scene), [""; 0], "it answers what it hears, without being asked");

    let mut scene = old_call();
    user_says(&mut scene, "u1", "Are you there?");
    assert!(scene.outputs.contains(&Output::SettleMicrophone));
    lose(&mut scene);
    scene.outputs.clear();
    assert_eq!(restored(&mut scene), ["user: Are you there?", "?"]);
}

#[test]
fn an_answer_that_had_not_begun_is_asked_for_again_and_one_that_had_is_not() {
    let mut scene = old_call();
    user_says(&mut scene, "u1", "Tell me a story.");
    scene.created("r1");
    lose(&mut scene);
    scene.outputs.clear();
    assert_eq!(restored(&mut scene), ["user: Tell me a story.", "?"]);

    let mut scene = old_call();
    user_says(&mut scene, "u1", "Tell me a story.");
    scene.created("r1");
    words(&mut scene, "r1", "Once upon a ");
    scene.audio("r1", "r1_item", 1_000);
    scene.outputs.clear();
    lose(&mut scene);
    let told = scene.told();
    let kinds: Vec<_> = told.iter().map(|message| message["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["transcript", "response_done", "call_state"]);
    assert_eq!(told[0]["text"], "Once upon a…");
    assert_eq!(restored(&mut scene), ["user: Tell me a story.", "assistant: Once upon a "]);
}

#[test]
fn audio_that_has_come_is_played_on() {
    let mut scene = old_call();
    scene.created("r1");
    scene.audio("r1", "r1_item", 5_000);
    lose(&mut scene);
    assert!(!scene.story().contains(&"drop".to_owned()));
    assert_eq!(scene.audio("r1", "r1_item", 100), Reply::Discard, "of a session that is lost");
    // The user presses stop: what waits is dropped, and there is no service to tell.
    scene.says(json!({"type": "interrupt"}));
    assert_eq!(scene.story(), ["drop"]);
}

#[test]
fn a_tool_that_was_running_is_told_with_its_call() {
    let mut scene = old_call();
    scene.says(json!({"type": "text", "text": "Weather?"}));
    scene.created("r1");
    scene.function_call("r1", "call_1", "completed");
    scene.done("r1", "completed");
    lose(&mut scene);
    scene.outputs.clear();
    assert_eq!(restored(&mut scene), ["user: Weather?"], "its call has no output yet");
    scene.tool_finished("call_1");
    assert_eq!(told_service(&mut scene), ["get_weather({})", r#"= {"ok":1}"#, "?"]);

    // It ends while there is no session.
    let mut scene = old_call();
    scene.says(json!({"type": "text", "text": "Weather?"}));
    scene.created("r1");
    scene.function_call("r1", "call_1", "completed");
    scene.done("r1", "completed");
    lose(&mut scene);
    scene.tool_finished("call_1");
    scene.outputs.clear();
    assert_eq!(restored(&mut scene), ["user: Weather?", "get_weather({})", r#"= {"ok":1}"#, "?"]);
}

#[test]
fn what_is_typed_in_an_outage_is_answered_after_it() {
    let mut scene = old_call();
    lose(&mut scene);
    scene.outputs.clear();
    scene.says(json!({"type": "text", "text": "Still there?"}));
    assert_eq!(scene.story(), [""; 0], "no error, and nobody to tell");
    assert_eq!(restored(&mut scene), ["user: Still there?", "?"]);
}

#[test]
fn a_reply_is_told_as_far_as_it_was_heard() {
    let mut scene = old_call();
    user_says(&mut scene, "u1", "Count.");
    service_says(&mut scene, "r1", "One two three four five six.", 2_000);
    scene.pass_secs(1);
    scene.speech();
    scene.events(&["input_audio_buffer.speech_stopped"]);
    scene.service(json!({"type": "input_audio_buffer.committed", "item_id": "u2"}));
    transcript(&mut scene, "u2", "Stop.");
    lose(&mut scene);
    scene.outputs.clear();
    let told = restored(&mut scene);
    assert_eq!(told[1], "assistant: One two three", "half of it was heard");
    assert_eq!(told[2..], ["user: Stop.", "?"]);
}

#[test]
fn hang_up_and_the_longest_time_still_count_in_an_outage() {
    let mut scene = old_call();
    lose(&mut scene);
    scene.says(json!({"type": "hang_up"}));
    assert_eq!(scene.ended(), EndReason::HangUp);

    let mut settings = patient();
    settings.max_duration = Duration::from_secs(70);
    let mut scene = call_with(settings, Value::Null);
    lose(&mut scene);
    scene.pass_secs(11);
    assert_eq!(scene.ended(), EndReason::TimeLimit(70));
}

#[test]
fn the_greeting_is_not_spoken_again() {
    let mut settings = patient();
    settings.greeting = Some("Hello!".to_owned());
    let mut scene = call_with(settings, Value::Null);
    scene.created("r1");
    scene.done("r1", "completed");
    lose(&mut scene);
    scene.outputs.clear();
    assert_eq!(restored(&mut scene), [""; 0]);
}

#[test]
fn a_turn_that_the_client_ended_is_ended_again_behind_its_audio() {
    let back = |scene: &mut Scene| {
        scene.outputs.clear();
        scene.pass_secs(1);
        scene.client(Input::ServiceOpened);
        let session = json!({"id": "sess_2", "turn_detection": null});
        scene.service(json!({"type": "session.created", "session": session}));
        scene.service(json!({"type": "session.updated", "session": session}));
        let story = scene.story();
        let release = story.iter().position(|word| word == "release").expect("it is active");
        story[release..].to_vec()
    };
    let again = ["release", "speech_started", ">> input_audio_buffer.commit", "> response.create"];
    // The words are not known; the service has not even said that it has the turn.
    for committed in [true, false] {
        let mut scene = call_with(patient(), Value::Null);
        assert_eq!(scene.call.microphone_keep(), KEPT_BYTES, "any audio may be a turn");
        scene.call.microphone(96_000, scene.now);
        scene.says(json!({"type": "end_turn"}));
        if committed {
            scene.service(json!({"type": "input_audio_buffer.committed", "item_id": "u1"}));
        }
        lose(&mut scene);
        assert_eq!(back(&mut scene), again, "committed: {committed}");
    }
    // The words are known.
    let mut scene = call_with(patient(), Value::Null);
    scene.call.microphone(96_000, scene.now);
    scene.says(json!({"type": "end_turn"}));
    scene.service(json!({"type": "input_audio_buffer.committed", "item_id": "u1"}));
    transcript(&mut scene, "u1", "Hello.");
    lose(&mut scene);
    assert_eq!(back(&mut scene), ["release", "> response.create"]);
    // It was ended in the outage.
    let mut scene = call_with(patient(), Value::Null);
    lose(&mut scene);
    scene.call.microphone(96_000, scene.now);
    scene.says(json!({"type": "end_turn"}));
    assert_eq!(back(&mut scene), again);
}

/// What had come of a reply plays on after a reconnect. The new session has its whole text, which cannot be
/// truncated, so what was heard takes its place.
#[test]
fn a_reply_that_is_cut_after_a_reconnect_is_cut_in_the_new_session_too() {
    for (dialect, kind) in [("", "text"), ("realtime", "output_text")] {
        for barge_in in [false, true] {
            let mut scene = old_call();
            user_says(&mut scene, "u1", "Count.");
            service_says(&mut scene, "r1", "One two three four five six.", 4_000);
            lose(&mut scene);
            scene.outputs.clear();
            scene.pass_secs(1);
            scene.client(Input::ServiceOpened);
            let session = json!({"id": "sess_2", "type": dialect});
            scene.service(json!({"type": "session.created", "session": session}));
            scene.service(json!({"type": "session.updated", "session": session}));
            let told = told_service(&mut scene);
            assert_eq!(told, ["user: Count.", "assistant: One two three four five six."]);
            scene.pass_secs(1);
            scene.says(json!({"type": "played", "ms": 2_000}));
            if barge_in {
                scene.speech();
            } else {
                scene.says(json!({"type": "interrupt"}));
            }
            let commands = scene.commands();
            assert_eq!(commands.len(), 2, "{commands:?}");
            assert_eq!(commands[0]["previous_item_id"], "r1_item");
            let content = json!([{"type": kind, "text": "One two three"}]);
            assert_eq!(commands[0]["item"]["content"], content);
            assert_eq!(commands[1]["type"], "conversation.item.delete");
            assert_eq!(commands[1]["item_id"], "r1_item");
            // A service that does not know the item any more: nobody is told.
            scene
                .service(json!({"type": "error", "error": {"event_id": "delete", "message": "?"}}));
            assert!(!scene.story().contains(&"error".to_owned()));
            // The session after next is told the same.
            scene.pass_secs(11);
            lose(&mut scene);
            scene.outputs.clear();
            assert_eq!(restored(&mut scene)[..2], ["user: Count.", "assistant: One two three"]);
        }
    }
}

#[test]
fn a_reply_that_is_cut_in_the_outage_is_told_as_far_as_it_was_heard() {
    let mut scene = old_call();
    user_says(&mut scene, "u1", "Count.");
    service_says(&mut scene, "r1", "One two three four five six.", 4_000);
    scene.pass_secs(1);
    lose(&mut scene);
    scene.pass_secs(1);
    scene.says(json!({"type": "interrupt"}));
    scene.outputs.clear();
    come_back(&mut scene);
    assert_eq!(told_service(&mut scene), ["user: Count.", "assistant: One two three"]);
}

#[test]
fn a_reply_of_which_nothing_was_heard_is_taken_out() {
    let mut scene = old_call();
    user_says(&mut scene, "u1", "Count.");
    scene.created("r1");
    words(&mut scene, "r1", "One two three.");
    scene.audio("r1", "r1_item", 4_000);
    scene.says(json!({"type": "played", "ms": 0}));
    lose(&mut scene);
    scene.outputs.clear();
    scene.pass_ms(0);
    come_back(&mut scene);
    assert_eq!(told_service(&mut scene), ["user: Count.", "assistant: One two three."]);
    scene.says(json!({"type": "text", "text": "Wait."}));
    let told = told_service(&mut scene);
    assert_eq!(told, ["conversation.item.delete", "user: Wait.", "?"]);
}

/// A call whose owner wants cut replies continued, in the middle of a reply that its session has cut off.
fn cut_off(settings: CallSettings) -> Scene {
    let settings = CallSettings { continue_reply: true, ..settings };
    let mut scene = call_with(settings, Value::Null);
    scene.pass_secs(11);
    user_says(&mut scene, "u1", "Tell me a story.");
    scene.created("r1");
    words(&mut scene, "r1", "Once upon a ");
    scene.audio("r1", "r1_item", 5_000);
    lose(&mut scene);
    scene.outputs.clear();
    scene
}

#[test]
fn a_reply_that_was_cut_off_is_continued_if_the_owner_wants_that() {
    let mut settings = patient();
    settings.session = json!({"instructions": "Be brief."});
    let mut scene = cut_off(settings);
    scene.pass_ms(0);
    come_back(&mut scene);
    let request = scene.commands().pop().unwrap();
    assert_eq!(request["type"], "response.create");
    let instructions = request["response"]["instructions"].as_str().unwrap();
    assert!(instructions.starts_with("Be brief.\n\n") && instructions.contains("Go on exactly"));
    scene.created("r2");
    scene.done("r2", "completed");
    scene.says(json!({"type": "text", "text": "And now?"}));
    let request = scene.commands().pop().unwrap();
    assert!(request["response"]["instructions"].is_null(), "once: {request}");
}

#[test]
fn a_reply_that_the_user_has_stopped_is_not_continued() {
    let mut scene = cut_off(patient());
    scene.says(json!({"type": "interrupt"}));
    assert!(!restored(&mut scene).contains(&"?".to_owned()));

    // What the user types is answered, and nothing else.
    let mut scene = cut_off(patient());
    scene.says(json!({"type": "text", "text": "Stop."}));
    scene.outputs.clear();
    scene.pass_ms(0);
    come_back(&mut scene);
    let commands = scene.commands();
    let requests: Vec<_> = commands.iter().filter(|it| it["type"] == "response.create").collect();
    assert_eq!(requests.len(), 1);
    assert!(requests[0]["response"]["instructions"].is_null(), "{requests:?}");

    // An agent's instructions are its own.
    let mut scene = cut_off(CallSettings { assistant: "front".to_owned(), ..patient() });
    assert!(!restored(&mut scene).contains(&"?".to_owned()));
}
