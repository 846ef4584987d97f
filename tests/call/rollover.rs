//! A call that goes on to its next session before the service ends the present one: when the next one is
//! made, when the change comes, and what each is told.

use std::time::Duration;

use serde_json::{Value, json};
use voicelived::call::ending::ServiceFault;
use voicelived::call::{Assistant, CallSettings, Input, Moment, Output};

use super::barge_in::{holding_with, short_speech, transcribing};
use super::scene::{Scene, settings};

fn lasting() -> CallSettings {
    CallSettings {
        reconnect: Duration::from_secs(60),
        session_time: Duration::from_secs(1_500),
        idle: Duration::from_secs(40_000),
        max_duration: Duration::from_secs(86_400),
        ..settings()
    }
}

/// An active call whose service ends the session after so many seconds.
fn call(seconds: u64) -> Scene {
    call_with(seconds, json!({"auto_truncate": true}))
}

fn call_with(seconds: u64, turns: Value) -> Scene {
    let mut scene = Scene::active_with(lasting(), turns);
    let ends = scene.now + Duration::from_secs(seconds);
    scene.call.session_ends(ends);
    scene.outputs.clear();
    scene
}

fn fault(retryable: bool, retry_after: Option<u64>) -> ServiceFault {
    let retry_after = retry_after.map(Duration::from_secs);
    ServiceFault { word: "quota", message: "No.".to_owned(), retryable, retry_after }
}

/// The next session is there, and has taken the settings.
fn get_ready(scene: &mut Scene) {
    get_ready_as(scene, json!({"id": "sess_2", "model": "m"}));
}

fn get_ready_as(scene: &mut Scene, session: Value) {
    scene.client(Input::NextOpened);
    scene.next_service(json!({"type": "session.created", "session": session}));
    let mut updated = session;
    updated["turn_detection"] = json!({"auto_truncate": true});
    scene.next_service(json!({"type": "session.updated", "session": updated}));
}

/// Items as `role: text`.
fn items(commands: &[Value]) -> Vec<String> {
    let items = commands.iter().filter(|command| command["item"].is_object());
    items
        .map(|command| {
            let item = &command["item"];
            match item["type"].as_str().unwrap() {
                "message" => format!(
                    "{}: {}",
                    item["role"].as_str().unwrap(),
                    item["content"][0]["text"].as_str().unwrap()
                ),
                kind => format!("{kind} {}", item["call_id"].as_str().unwrap()),
            }
        })
        .collect()
}

fn transcript(scene: &mut Scene, item: &str, text: &str) {
    scene.service(json!({"type": "conversation.item.input_audio_transcription.completed",
        "item_id": item, "content_index": 0, "transcript": text}));
}

fn user_says(scene: &mut Scene, item: &str, text: &str) {
    scene.speech();
    scene.events(&["input_audio_buffer.speech_stopped"]);
    scene.service(json!({"type": "input_audio_buffer.committed", "item_id": item}));
    transcript(scene, item, text);
}

fn service_begins(scene: &mut Scene, response: &str, text: &str, ms: usize) {
    scene.created(response);
    scene.service(json!({"type": "response.audio_transcript.delta", "response_id": response,
        "item_id": format!("{response}_item"), "content_index": 0, "delta": text}));
    scene.audio(response, &format!("{response}_item"), ms);
}

fn service_says(scene: &mut Scene, response: &str, text: &str, ms: usize) {
    service_begins(scene, response, text, ms);
    scene.done(response, "completed");
}

fn moment(scene: &Scene) -> Option<Moment> {
    scene.outputs.iter().find_map(|output| match output {
        Output::ChangeOver(change) => Some(change.moment),
        _ => None,
    })
}

#[test]
fn a_quiet_call_changes_over_and_the_client_is_told_nothing() {
    let mut scene = call(1_800);
    scene.pass_secs(1_739);
    assert_eq!(scene.story(), [""; 0]);
    scene.pass_secs(1);
    assert_eq!(scene.story(), ["prepare"]);
    get_ready(&mut scene);
    assert_eq!(scene.story(), ["+ session.update", "hold"]);
    scene.pass_ms(599);
    assert_eq!(scene.story(), [""; 0]);
    scene.pass_ms(1);
    assert_eq!(scene.story(), ["change Quiet"]);
    assert_eq!(scene.call.service_session(), "sess_2");
    // The next one is planned by its own time.
    let ends = scene.now + Duration::from_secs(600);
    scene.call.session_ends(ends);
    scene.pass_secs(539);
    assert_eq!(scene.story(), [""; 0]);
    scene.pass_secs(1);
    assert_eq!(scene.story(), ["prepare"]);
}

#[test]
fn a_service_that_tells_no_end_is_left_after_the_owners_time() {
    let mut scene = Scene::active_with(lasting(), Value::Null);
    scene.outputs.clear();
    scene.pass_secs(1_439);
    assert_eq!(scene.story(), [""; 0]);
    scene.pass_secs(1);
    assert_eq!(scene.story(), ["prepare"]);
    // None can be had: that is no reason to stay for ever.
    scene.client(Input::NextLost(fault(true, Some(100))));
    scene.outputs.clear();
    scene.pass_secs(300);
    assert!(scene.story().contains(&"prepare".to_owned()));

    for settings in [
        CallSettings { session_time: Duration::ZERO, ..lasting() },
        CallSettings { reconnect: Duration::ZERO, ..lasting() },
    ] {
        let mut scene = Scene::active_with(settings, Value::Null);
        scene.outputs.clear();
        scene.pass_secs(30_000);
        assert!(!scene.story().contains(&"prepare".to_owned()));
    }
}

#[test]
fn what_is_said_until_the_change_is_told_before_it_in_order_and_once() {
    let mut scene = call(1_800);
    scene.call.next_session_ends(scene.now);
    user_says(&mut scene, "u1", "One?");
    service_says(&mut scene, "r1", "One.", 500);
    scene.pass_secs(1_700);
    user_says(&mut scene, "u2", "Two?");
    service_says(&mut scene, "r2", "Two.", 60_000);
    scene.pass_secs(45);
    scene.outputs.clear();
    get_ready(&mut scene);
    let told = scene.next_commands();
    assert_eq!(told[0]["type"], "session.update");
    assert_eq!(items(&told), ["user: One?", "assistant: One."], "the last turn may still change");
    // The user interrupts what is playing, and is answered.
    user_says(&mut scene, "u3", "Three?");
    service_says(&mut scene, "r3", "Three.", 500);
    assert_eq!(moment(&scene), None);
    scene.outputs.clear();
    scene.pass_ms(1_100);
    assert_eq!(moment(&scene), Some(Moment::Quiet));
    let before = scene.outputs.iter().position(|output| matches!(output, Output::ChangeOver(_)));
    let last = scene.outputs.iter().rposition(|output| matches!(output, Output::ToNext(_)));
    assert!(last < before, "the new session knows all before it hears the microphone");
    let told = items(&scene.next_commands());
    assert_eq!(told[0], "user: Two?");
    assert!(told[1].starts_with("assistant: "), "{told:?}");
    assert_eq!(told[told.len() - 2..], ["user: Three?", "assistant: Three."]);
}

/// What makes a call busy, and its name.
type Busy = (&'static str, fn(&mut Scene));

#[test]
fn nothing_under_way_is_cut() {
    let busy: [Busy; 6] = [
        ("speech", |scene| scene.speech()),
        ("an announced answer", |scene| {
            scene.speech();
            scene.speech_ends();
        }),
        ("a response", |scene| scene.created("r")),
        ("a typed turn", |scene| scene.says(json!({"type": "text", "text": "Hello"}))),
        ("playing", |scene| service_says(scene, "r", "Words", 3_000)),
        ("a tool", |scene| {
            scene.created("r");
            scene.function_call("r", "call_1", "completed");
            scene.done("r", "completed");
        }),
    ];
    for (what, begin) in busy {
        // It is under way when the next session is ready.
        let mut scene = call(1_800);
        scene.pass_secs(1_741);
        begin(&mut scene);
        scene.outputs.clear();
        get_ready(&mut scene);
        scene.pass_ms(1_900);
        assert!(!scene.story().contains(&"hold".to_owned()), "{what}");
        // It begins while the microphone is held.
        let mut scene = call(1_800);
        scene.pass_secs(1_741);
        get_ready(&mut scene);
        scene.pass_ms(300);
        scene.outputs.clear();
        begin(&mut scene);
        scene.pass_ms(1_900);
        let story = scene.story();
        assert_eq!(story.iter().filter(|word| *word == "resume").count(), 1, "{what}: {story:?}");
        assert!(!story.iter().any(|word| word.starts_with("change")), "{what}: {story:?}");
    }
}

#[test]
fn the_words_of_the_last_turn_are_waited_for() {
    let mut scene = call(1_800);
    scene.pass_secs(1_741);
    get_ready(&mut scene);
    scene.speech();
    scene.events(&["input_audio_buffer.speech_stopped"]);
    scene.service(json!({"type": "input_audio_buffer.committed", "item_id": "u1"}));
    service_says(&mut scene, "r1", "Yes.", 100);
    scene.pass_ms(2_000);
    assert_eq!(moment(&scene), None);
    transcript(&mut scene, "u1", "Is it?");
    scene.pass_ms(700);
    assert_eq!(moment(&scene), Some(Moment::Quiet));
    assert_eq!(items(&scene.next_commands()), ["user: Is it?", "assistant: Yes."]);
    // They never come.
    let mut scene = call(1_800);
    scene.pass_secs(1_741);
    get_ready(&mut scene);
    scene.speech();
    scene.speech_ends();
    service_says(&mut scene, "r1", "Yes.", 100);
    scene.pass_ms(5_700);
    assert_eq!(moment(&scene), Some(Moment::Quiet));
}

#[test]
fn from_15_seconds_before_the_end_the_end_of_a_turn_will_do() {
    let mut scene = call(1_800);
    scene.pass_secs(1_741);
    get_ready(&mut scene);
    service_says(&mut scene, "r1", "A long answer.", 120_000);
    scene.outputs.clear();
    scene.pass_ms(43_900);
    assert_eq!(scene.story(), [""; 0], "it is playing");
    scene.pass_ms(800);
    assert_eq!(scene.story(), ["hold", "+ conversation.item.create", "change TurnEnd"]);
}

#[test]
fn five_seconds_before_the_end_the_turn_is_taken_along() {
    let mut scene = call(1_800);
    scene.pass_secs(1_741);
    get_ready(&mut scene);
    scene.speech();
    scene.outputs.clear();
    for _ in 0..53 {
        scene.call.microphone(48_000, scene.now);
        scene.pass_secs(1);
    }
    assert_eq!(scene.story(), [""; 0]);
    scene.call.microphone(48_000, scene.now);
    scene.pass_secs(1);
    let change = scene.outputs.iter().find_map(|output| match output {
        Output::ChangeOver(change) => Some(change.clone()),
        _ => None,
    });
    let change = change.unwrap();
    assert_eq!((change.moment, change.again), (Moment::Last, true));
    assert!(scene.told().is_empty());
}

#[test]
fn an_answer_that_is_cut_by_the_end_is_told_so_and_one_that_had_not_begun_is_asked_for() {
    let mut scene = call(1_800);
    scene.pass_secs(1_741);
    get_ready(&mut scene);
    scene.pass_ms(100);
    scene.says(json!({"type": "text", "text": "Tell me"}));
    scene.created("r1");
    scene.stays_alive("r1", 53);
    scene.outputs.clear();
    scene.pass_secs(2);
    let story = scene.story();
    assert_eq!(
        story,
        ["+ conversation.item.create", "response_done", "change Last", "> response.create"]
    );
}

/// The reply of the session before plays on after a change that could not wait. The next session has its whole
/// text, so it is told what was heard instead, and so is each one after that.
#[test]
fn a_reply_that_is_cut_after_a_forced_change_is_told_as_far_as_it_was_heard() {
    for (dialect, kind) in [("", "text"), ("realtime", "output_text")] {
        for (lost, begun) in [(false, false), (false, true), (true, false), (true, true)] {
            for stop in ["speech", "interrupt", "typed"] {
                let case = format!("{kind}, lost {lost}, begun {begun}, {stop}");
                let mut scene = call(1_800);
                scene.pass_secs(1_741);
                get_ready_as(&mut scene, json!({"id": "sess_2", "model": "m", "type": dialect}));
                scene.pass_ms(100);
                user_says(&mut scene, "u1", "Count.");
                let lasts = 60_000;
                if begun {
                    service_begins(&mut scene, "r1", "One two three four five six.", lasts);
                } else {
                    service_says(&mut scene, "r1", "One two three four five six.", lasts);
                }
                scene.outputs.clear();
                if lost {
                    scene.pass_secs(20);
                    scene.client(Input::ServiceLost(fault(true, None)));
                } else if begun {
                    scene.stays_alive("r1", 55);
                } else {
                    scene.pass_secs(55);
                }
                let moment = moment(&scene);
                assert!(moment.is_some_and(|moment| moment != Moment::Quiet), "{case}: {moment:?}");
                assert_eq!(scene.call.service_session(), "sess_2", "{case}");
                scene.outputs.clear();
                scene.says(json!({"type": "played", "ms": 30_000}));
                match stop {
                    "speech" => scene.speech(),
                    "interrupt" => scene.says(json!({"type": "interrupt"})),
                    _ => scene.says(json!({"type": "text", "text": "Stop."})),
                }
                let commands = scene.commands();
                let at = commands.iter().position(|it| it["previous_item_id"] == "r1_item");
                let at = at.unwrap_or_else(|| panic!("{case}: not told: {commands:?}"));
                let heard = &commands[at]["item"]["content"][0];
                assert_eq!(heard["type"], kind, "{case}");
                let text = heard["text"].as_str().unwrap();
                assert!("One two three four five six.".starts_with(text), "{case}: {text}");
                assert!(text.len() < 28 && !text.is_empty(), "{case}: {text}");
                assert_eq!(commands[at + 1]["type"], "conversation.item.delete", "{case}");
                assert_eq!(commands[at + 1]["item_id"], "r1_item", "{case}");
                let cut = |it: &Value| it["type"] == "conversation.item.truncate";
                assert!(!commands.iter().any(cut), "{case}: a text cannot be truncated");
            }
        }
    }
}

#[test]
fn a_session_that_is_lost_is_replaced_at_once_if_the_next_is_ready() {
    let mut scene = call(1_800);
    scene.pass_secs(1_741);
    get_ready(&mut scene);
    scene.speech();
    scene.outputs.clear();
    scene.client(Input::ServiceLost(fault(true, None)));
    assert_eq!(scene.story(), ["resume", "change Lost"].map(str::to_owned)[1..]);
    assert_eq!(scene.call.service_session(), "sess_2");
    // It is not ready: an outage as ever, and the one that was being made is dropped.
    let mut scene = call(1_800);
    scene.pass_secs(1_741);
    scene.outputs.clear();
    scene.client(Input::ServiceLost(fault(true, None)));
    assert_eq!(scene.story()[..2], ["drop next", "lost quota"]);
    scene.pass_secs(1);
    assert_eq!(scene.story(), ["redial"]);
    // No further try mends it: then the next session would not help.
    let mut scene = call(1_800);
    scene.pass_secs(1_741);
    get_ready(&mut scene);
    scene.client(Input::ServiceLost(fault(false, None)));
    scene.ended();
}

#[test]
fn a_next_session_that_fails_is_tried_again_and_the_present_one_goes_on() {
    let mut scene = call(1_800);
    scene.pass_secs(1_740);
    assert_eq!(scene.story(), ["prepare"]);
    // Retry-After is heeded.
    scene.client(Input::NextLost(fault(true, Some(9))));
    assert_eq!(scene.story(), ["drop next"]);
    scene.pass_ms(8_900);
    assert_eq!(scene.story(), [""; 0]);
    scene.pass_ms(100);
    assert_eq!(scene.story(), ["prepare"]);
    // An error event is a failed try.
    scene.client(Input::NextOpened);
    scene.next_service(
        json!({"type": "error", "error": {"code": "server_error", "message": "No."}}),
    );
    assert_eq!(scene.story(), ["drop next"]);
    scene.pass_secs(1);
    assert_eq!(scene.story(), ["prepare"]);
    // So is silence.
    scene.client(Input::NextOpened);
    scene.pass_secs(14);
    assert_eq!(scene.story(), [""; 0]);
    scene.pass_secs(1);
    assert_eq!(scene.story()[..1], ["drop next"]);
    scene.pass_secs(3);
    scene.outputs.clear();
    // One that is lost while it waits is made again.
    get_ready(&mut scene);
    scene.speech();
    scene.client(Input::NextLost(fault(true, None)));
    scene.pass_secs(5);
    assert_eq!(
        scene.story(),
        ["+ session.update", "hold", "drop", "speech_started", "resume", "drop next", "prepare"]
    );
    // What no try mends is not tried again; the end of the session is an outage.
    scene.client(Input::NextLost(fault(false, None)));
    scene.pass_secs(20);
    assert!(!scene.story().contains(&"prepare".to_owned()));
    scene.client(Input::SessionExpired);
    assert!(scene.story().contains(&"lost session_expired".to_owned()));
}

/// The present session goes on to its end, and no further next one is asked for.
#[test]
fn a_next_session_that_an_account_forbids_is_not_tried_again() {
    for code in [
        "insufficient_quota",
        "credit_balance_exhausted",
        "invalid_api_key",
        "account_deactivated",
        "billing_hard_limit_reached",
    ] {
        let mut scene = call(1_800);
        scene.pass_secs(1_741);
        scene.client(Input::NextOpened);
        scene.outputs.clear();
        let error = json!({"code": code, "message": "No."});
        scene.next_service(json!({"type": "error", "error": error}));
        assert_eq!(scene.story(), ["drop next"], "{code}");
        scene.pass_secs(50);
        assert_eq!(scene.story(), [""; 0], "{code}");
    }
}

#[test]
fn the_ga_dialect_and_agents_get_what_is_theirs() {
    let mut scene = call(1_800);
    user_says(&mut scene, "u1", "One?");
    service_says(&mut scene, "r1", "One.", 500);
    scene.pass_secs(1_741);
    get_ready_as(
        &mut scene,
        json!({"id": "s", "model": "m", "type": "realtime",
        "audio": {"input": {}, "output": {}}, "output_modalities": ["audio"]}),
    );
    scene.pass_secs(1);
    let told = scene.next_commands();
    assert_eq!(told[0]["session"]["type"], "realtime");
    assert_eq!(told[2]["item"]["content"][0]["type"], "output_text");

    let mut scene = Scene::connecting(lasting());
    let agent = json!({"id": "s", "agent": {"thread_id": "conv_1"}});
    scene.service(json!({"type": "session.created", "session": agent}));
    scene.service(json!({"type": "session.updated", "session": agent}));
    user_says(&mut scene, "u1", "One?");
    service_says(&mut scene, "r1", "One.", 500);
    scene.outputs.clear();
    scene.pass_secs(1_441);
    let prepared = scene.outputs.iter().any(
        |output| matches!(output, Output::Prepare { conversation } if conversation == "conv_1"),
    );
    assert!(prepared, "{:?}", scene.outputs);
    get_ready_as(&mut scene, agent);
    scene.pass_secs(1);
    assert_eq!(moment(&scene), Some(Moment::Quiet));
    assert_eq!(items(&scene.next_commands()), [""; 0]);
}

#[test]
fn a_next_session_that_speaks_first_is_stopped_and_an_item_that_it_refuses_is_left_out() {
    let mut scene = call(1_800);
    user_says(&mut scene, "u1", "One?");
    user_says(&mut scene, "u2", "Two?");
    service_says(&mut scene, "r1", "Two.", 500);
    scene.pass_secs(1_741);
    get_ready(&mut scene);
    scene.outputs.clear();
    scene.next_service(json!({"type": "response.created", "response": {"id": "welcome"}}));
    assert_eq!(scene.next_commands()[0]["response_id"], "welcome");
    scene.next_service(json!({"type": "error", "error":
        {"event_id": "replay_u1", "code": "invalid_value", "message": "No."}}));
    assert_eq!(scene.story(), ["item refused"]);
    scene.pass_secs(1);
    assert_eq!(moment(&scene), Some(Moment::Quiet));
    // The session after that is not told it either.
    scene.pass_secs(1_441);
    scene.outputs.clear();
    get_ready(&mut scene);
    assert_eq!(items(&scene.next_commands()), ["user: Two?", "assistant: Two."]);
}

#[test]
fn a_rollover_is_no_activity() {
    let mut scene = Scene::active_with(
        CallSettings { idle: Duration::from_secs(100), ..lasting() },
        json!({"auto_truncate": true}),
    );
    let start = scene.now;
    for _ in 0..20 {
        let ends = scene.now + Duration::from_secs(20);
        scene.call.session_ends(ends);
        scene.pass_secs(11);
        if !scene.call.is_ended() {
            get_ready(&mut scene);
            scene.pass_secs(1);
        }
    }
    scene.ended();
    assert!(scene.now - start >= Duration::from_secs(100));
    let ended_in = Duration::from_secs(100);
    assert!(scene.call.is_ended() && ended_in < scene.now - start);
}

/// A cough leaves the conversation. As a turn whose words are still to come, it would hold up all that is said later.
#[test]
fn a_cough_keeps_nothing_from_the_next_session() {
    let mut scene = holding_with(CallSettings { session: transcribing(), ..lasting() });
    let ends = scene.now + Duration::from_secs(1_800);
    scene.call.session_ends(ends);
    service_says(&mut scene, "r1", "A long answer.", 5_000);
    scene.pass_secs(1);
    short_speech(&mut scene, "u1", "");
    scene.pass_secs(30);
    scene.says(json!({"type": "text", "text": "One"}));
    service_says(&mut scene, "r2", "Two.", 1_000);
    scene.pass_secs(30);
    scene.says(json!({"type": "text", "text": "Three"}));
    service_says(&mut scene, "r3", "Four.", 1_000);
    scene.pass(ends - Duration::from_secs(61) - scene.now);
    // The change has to wait, so only what is settled is told.
    scene.speech();
    scene.pass_secs(1);
    scene.outputs.clear();
    get_ready(&mut scene);
    let told = items(&scene.next_commands());
    assert_eq!(told, ["assistant: A long answer.", "user: One", "assistant: Two."]);
}

/// Whatever the tools become, a session is told what its assistant may use of them, and nothing if that stays.
#[test]
fn of_changed_tools_each_session_is_told_what_its_assistant_may_use() {
    let tool = |name: &str| json!({"type": "function", "name": name});
    let chosen = Assistant { name: "cook".to_owned(), tools: Some(vec!["a".to_owned()]) };
    let mut session = settings().session;
    session["tools"] = json!([tool("a")]);
    let chosen = Some(std::rc::Rc::new(chosen));
    let settings = CallSettings { chosen, session, ..lasting() };
    let mut scene = Scene::active_with(settings, json!({"auto_truncate": true}));
    let ends = scene.now + Duration::from_secs(1_800);
    scene.call.session_ends(ends);
    scene.pass_secs(1_740);
    get_ready(&mut scene);
    let mut other = tool("a");
    other["description"] = json!("It is another one.");
    for (tools, told) in [
        (json!([tool("a"), tool("b")]), vec![]),
        (json!([&other, tool("b")]), vec![json!([&other])]),
        (json!([&other]), vec![]),
        (json!([tool("b")]), vec![json!([])]),
        (json!([tool("a")]), vec![json!([tool("a")])]),
    ] {
        scene.outputs.clear();
        scene.client(Input::Tools(std::rc::Rc::new(tools.clone())));
        let story = scene.outputs.clone();
        let of = |commands: Vec<Value>| {
            commands.into_iter().map(|it| it["session"]["tools"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(of(scene.commands()), told, "{tools}");
        scene.outputs = story;
        assert_eq!(of(scene.next_commands()), told, "{tools}");
    }
}

/// The next session has got its settings, and the tools change before it takes over: it is told, too.
#[test]
fn tools_that_change_before_the_change_over_are_told_to_both_sessions() {
    for ready in [true, false] {
        let mut scene = call(1_800);
        scene.pass_secs(1_740);
        if ready {
            get_ready(&mut scene);
        } else {
            scene.client(Input::NextOpened);
            scene.next_service(json!({"type": "session.created", "session": {"id": "sess_2"}}));
        }
        scene.outputs.clear();
        let tools = json!([{"type": "function", "name": "new"}]);
        scene.client(Input::Tools(std::rc::Rc::new(tools.clone())));
        let story = scene.outputs.clone();
        let of = |commands: Vec<Value>| {
            let updates = commands.into_iter().filter(|it| it["type"] == "session.update");
            updates.map(|it| it["session"]["tools"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(of(scene.next_commands()), std::slice::from_ref(&tools), "ready: {ready}");
        scene.outputs = story;
        assert_eq!(of(scene.commands()), [tools], "ready: {ready}");
    }
}
