//! The life of a response through a real `Session` on a clock that the test moves: an end that never
//! comes, a beginning that is never told, an answer that breaks off, and what comes too late.

use std::time::Duration;

use crate::support::scene;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use scene::{Scene, settings};
use serde_json::{Value, json};
use voicelived::call::CallSettings;
use voicelived::net::ws::Message;

/// A call in which both sides are looked at.
struct Call(Scene);

impl Call {
    fn new() -> Self {
        Self(Scene::new())
    }

    fn says(&mut self, event: &Value) {
        self.0.say(event.to_string().as_bytes());
    }

    fn created(&mut self, response: &str) {
        self.says(&json!({"type": "response.created", "response": {"id": response}}));
    }

    fn done(&mut self, response: &str, status: &str, details: &Value) {
        self.says(&json!({"type": "response.done", "response": {"id": response, "status": status,
            "status_details": details, "usage": {"input_tokens": 3, "output_tokens": 2}}}));
    }

    fn audio(&mut self, response: &str, ms: usize) {
        let delta = STANDARD.encode(vec![7; ms * 48]);
        self.says(&json!({"type": "response.audio.delta", "response_id": response,
            "item_id": format!("item_{response}"), "output_index": 0, "content_index": 0,
            "delta": delta}));
    }

    /// A finished call of a tool that there is not: it is answered at once.
    fn calls_tool(&mut self, response: &str) {
        self.says(&json!({"type": "response.output_item.done", "response_id": response,
            "item": {"id": "f", "type": "function_call", "status": "completed", "name": "no_such_tool",
                "call_id": format!("call_{response}"), "arguments": "{}"}}));
    }

    fn speech(&mut self, item: &str) {
        self.says(&json!({"type": "input_audio_buffer.speech_started", "item_id": item}));
    }

    fn speech_ends(&mut self, item: &str) {
        for kind in ["speech_stopped", "committed"] {
            let kind = format!("input_audio_buffer.{kind}");
            self.says(&json!({"type": kind, "item_id": item}));
        }
    }

    fn client_says(&mut self, message: &Value) {
        self.0.client().send(Message::Text(&message.to_string())).expect("memory");
        self.0.client().flush().expect("memory");
        self.0.turn();
    }

    fn types(&mut self, text: &str) {
        self.client_says(&json!({"type": "text", "text": text}));
    }

    fn pass(&mut self, seconds: u64) {
        self.0.pass(Duration::from_secs(seconds));
    }

    /// The types of what the service was told since the last look, but for audio.
    fn commands(&mut self) -> Vec<String> {
        let told = std::mem::take(&mut self.0.told);
        let kind = |text: &String| {
            let event: Value = serde_json::from_str(text).expect("JSON");
            event["type"].as_str().expect("a type").to_owned()
        };
        told.iter().map(kind).filter(|kind| kind != "input_audio_buffer.append").collect()
    }

    /// How often a response was asked for since the last look.
    fn requests(&mut self) -> usize {
        self.commands().iter().filter(|kind| *kind == "response.create").count()
    }

    /// What the client was told since the last look.
    fn told(&mut self) -> Vec<Value> {
        let texts = std::mem::take(&mut self.0.texts);
        let texts = texts.split("closed").next().unwrap_or_default().to_owned();
        serde_json::Deserializer::from_str(&texts)
            .into_iter::<Value>()
            .map(|message| message.expect("JSON"))
            .collect()
    }

    fn told_of(&mut self, kind: &str) -> Vec<Value> {
        self.told().into_iter().filter(|message| message["type"] == kind).collect()
    }

    fn unfinished(&mut self, reason: &str) -> u64 {
        self.0.counted(&format!("responses_unfinished_total{{reason=\"{reason}\"}}"))
    }
}

// ---- the end never comes ----

#[test]
fn a_tools_result_is_spoken_about_though_its_response_never_ends() {
    let mut call = Call::new();
    call.created("r1");
    call.calls_tool("r1");
    assert_eq!(call.requests(), 0, "the response may yet call another tool");
    call.pass(30);
    assert_eq!(call.requests(), 1);
    assert_eq!(call.unfinished("silent"), 1);
    let done = call.told_of("response_done");
    assert_eq!(done, [json!({"type": "response_done", "status": "lost"})]);
    call.created("r2");
    call.audio("r2", 20);
    assert_eq!(call.0.audio.len(), 960);
}

#[test]
fn a_typed_turn_does_not_wait_for_a_dead_response() {
    let mut call = Call::new();
    call.created("r1");
    call.types("Are you there?");
    call.commands();
    call.pass(20);
    assert_eq!(call.requests(), 1, "the cancelled response never ended");
    assert_eq!(call.unfinished("cancel_unanswered"), 1);
    call.created("r2");
    call.done("r2", "completed", &Value::Null);
    call.types("And now?");
    assert_eq!(call.requests(), 1);
}

#[test]
fn a_spoken_turn_that_meets_a_dead_response_is_answered() {
    let mut call = Call::new();
    call.created("r1");
    call.speech("u1");
    call.speech_ends("u1");
    call.pass(30);
    assert_eq!(call.requests(), 1);
    // It is the same when the response was given up before the turn.
    let mut call = Call::new();
    call.created("r1");
    call.pass(60);
    assert_eq!(call.requests(), 0, "nobody has asked");
    call.speech("u1");
    call.speech_ends("u1");
    call.pass(30);
    assert_eq!(call.requests(), 1);
    // Or within a long sentence: the user's speech has cancelled it, as far as we know.
    let mut call = Call::new();
    call.created("r1");
    call.speech("u1");
    for _ in 0..20 {
        call.pass(1);
        call.0.client().send(Message::Binary(&[0; 960])).expect("memory");
        call.0.client().flush().expect("memory");
        call.0.turn();
    }
    call.speech_ends("u1");
    call.commands();
    call.pass(30);
    let commands = call.commands();
    assert_eq!(commands, ["response.cancel", "response.create"]);
    // A service that answers by itself is not asked.
    let mut call = Call::new();
    call.created("r1");
    call.speech("u1");
    call.speech_ends("u1");
    call.created("r2");
    call.done("r2", "completed", &Value::Null);
    call.pass(60);
    assert_eq!(call.requests(), 0);
}

#[test]
fn a_silent_call_ends_by_the_idle_limit_though_a_response_never_ends() {
    for cancelled in [false, true] {
        let idle = Duration::from_secs(60);
        let mut call = Call(Scene::active(CallSettings { idle, ..settings() }, usize::MAX));
        call.created("r1");
        if cancelled {
            call.client_says(&json!({"type": "interrupt"}));
        }
        call.pass(120);
        assert!(call.0.texts.contains(r#""reason":"idle""#), "{}", call.0.texts);
    }
}

#[test]
fn deltas_items_and_playing_are_signs_of_life() {
    let idle = Duration::from_secs(10);
    let mut call = Call(Scene::active(CallSettings { idle, ..settings() }, usize::MAX));
    call.created("r1");
    for at in 0..20 {
        call.pass(9);
        let kind = [
            "response.audio_transcript.delta",
            "response.function_call_arguments.delta",
            "response.content_part.added",
            "response.output_item.added",
            "response.brand_new.delta",
        ][at % 5];
        call.says(&json!({"type": kind, "response_id": "r1", "item_id": "a1", "delta": "x"}));
    }
    for _ in 0..12 {
        call.audio("r1", 5_000);
    }
    while call.0.audio.len() < 60 * 48_000 {
        call.0.turn();
    }
    call.pass(60);
    assert_eq!(call.unfinished("silent"), 0, "it is still being played");
    assert!(call.0.session_is_talking(), "{}", call.0.texts);
    call.pass(60);
    assert!(!call.0.session_is_talking());
    assert_eq!(call.unfinished("silent"), 1);
}

#[test]
fn what_comes_after_all_of_a_response_that_was_given_up_makes_sense() {
    // Its end: told once, its tokens count.
    let mut call = Call::new();
    call.created("r1");
    call.pass(60);
    assert_eq!(call.told_of("response_done").len(), 1);
    call.done("r1", "completed", &Value::Null);
    let told = call.told();
    assert!(!told.iter().any(|message| message["type"] == "response_done"), "{told:?}");
    assert_eq!(told.last().expect("usage")["input_tokens"], 3);
    // Its end while the next one is active: the next one goes on.
    call.created("r2");
    call.pass(30);
    call.created("r3");
    call.done("r2", "completed", &Value::Null);
    call.commands();
    call.types("Stop.");
    let commands = call.commands();
    assert_eq!(commands[0], "response.cancel", "r3 is active: {commands:?}");

    // Its words and its sound: it was not dead, and is as it was.
    let mut call = Call::new();
    call.created("r1");
    call.pass(60);
    call.told();
    call.audio("r1", 20);
    assert_eq!(call.0.audio.len(), 960);
    assert_eq!(call.told_of("response_started").len(), 1);
    call.commands();
    call.types("Stop.");
    assert_eq!(call.commands()[0], "response.cancel");
    call.done("r1", "cancelled", &Value::Null);
    assert_eq!(call.told_of("response_done").len(), 1);
    assert_eq!(call.requests(), 1);

    // After a request for another one it is not heard any more.
    let mut call = Call::new();
    call.created("r1");
    call.calls_tool("r1");
    call.pass(30);
    let commands = call.commands();
    assert!(
        commands.ends_with(&["response.cancel".into(), "response.create".into()]),
        "{commands:?}"
    );
    call.audio("r1", 20);
    call.created("r2");
    call.audio("r1", 20);
    assert!(call.0.audio.is_empty());
    call.audio("r2", 20);
    assert_eq!(call.0.audio.len(), 960);
}

#[test]
fn a_service_that_takes_the_dead_response_for_alive_is_asked_again_after_its_end() {
    let busy = json!({"type": "error", "error": {"type": "invalid_request_error", "event_id": "create",
        "code": "conversation_already_has_active_response", "message": "There is one."}});
    let mut call = Call::new();
    call.created("r1");
    call.calls_tool("r1");
    call.pass(12);
    assert_eq!(call.requests(), 1);
    call.says(&busy);
    call.done("r1", "cancelled", &Value::Null);
    assert_eq!(call.requests(), 1, "the way is free");
    // One that always refuses is not asked for ever, and the call does not stay busy.
    let idle = Duration::from_secs(60);
    let mut call = Call(Scene::active(CallSettings { idle, ..settings() }, usize::MAX));
    call.types("Hello?");
    let mut requests = 0;
    for _ in 0..200 {
        let asked = call.requests();
        requests += asked;
        if asked > 0 {
            call.says(&busy);
        }
        call.pass(1);
    }
    assert_eq!(requests, 2);
    assert!(!call.0.session_is_talking(), "the idle limit runs");
}

#[test]
fn a_request_without_any_answer_is_told_and_the_next_one_works() {
    let mut call = Call::new();
    call.types("Hello?");
    assert_eq!(call.requests(), 1);
    call.pass(20);
    assert_eq!(call.unfinished("not_created"), 1);
    assert_eq!(call.told_of("error")[0]["code"], "response_lost");
    call.types("Hello?");
    assert_eq!(call.requests(), 1);
}

#[test]
fn a_response_that_takes_another_ones_place_ends_it() {
    let mut call = Call::new();
    call.created("r1");
    call.audio("r1", 20);
    call.created("r2");
    let kinds: Vec<_> = call.told().iter().map(|message| message["type"].to_string()).collect();
    let at = |kind: &str| kinds.iter().rposition(|found| found.contains(kind));
    assert!(at("response_done") < at("response_started"), "{kinds:?}");
    assert_eq!(call.unfinished("superseded"), 1);
    call.done("r1", "completed", &Value::Null);
    assert!(call.told_of("response_done").is_empty(), "it was told");
    call.done("r2", "completed", &Value::Null);
    assert_eq!(call.told_of("response_done").len(), 1);
}

// ---- the beginning is never told ----

/// A first sign of a response, in both dialects.
fn signs(response: &str) -> Vec<Value> {
    let ids = |kind: &str| {
        json!({"type": kind, "response_id": response, "item_id": "a1", "output_index": 0,
            "content_index": 0})
    };
    let with = |kind: &str, key: &str, value: Value| {
        let mut event = ids(kind);
        event[key] = value;
        event
    };
    let message =
        json!({"id": "a1", "type": "message", "role": "assistant", "status": "in_progress"});
    let mut all = vec![
        with("response.output_item.added", "item", message),
        with("response.content_part.added", "part", json!({"type": "audio", "transcript": ""})),
        with("response.function_call_arguments.delta", "delta", json!("{")),
    ];
    for kind in ["audio", "output_audio"] {
        all.push(with(&format!("response.{kind}.delta"), "delta", json!("A".repeat(64))));
        // One that the fast way does not take: an id is missing.
        let mut odd = with(&format!("response.{kind}.delta"), "delta", json!("A".repeat(64)));
        odd["item_id"] = Value::Null;
        all.push(odd);
    }
    for kind in ["audio_transcript", "output_audio_transcript", "text", "output_text"] {
        all.push(with(&format!("response.{kind}.delta"), "delta", json!("Hello")));
    }
    all
}

#[test]
fn any_sign_of_an_unknown_response_opens_it() {
    for sign in signs("r1") {
        let mut call = Call::new();
        call.types("Hello?");
        call.told();
        call.commands();
        call.says(&sign);
        let told = call.told();
        assert_eq!(told.first().expect("it is told")["type"], "response_started", "{sign}");
        call.audio("r1", 20);
        assert!(call.told_of("response_started").is_empty(), "{sign}: told once");
        // Stop and typed turns work as ever.
        call.client_says(&json!({"type": "interrupt"}));
        assert_eq!(call.commands()[0], "response.cancel", "{sign}");
        let heard = call.0.audio.len();
        call.audio("r1", 20);
        assert_eq!(call.0.audio.len(), heard, "{sign}: it was stopped");
        call.types("Another question");
        assert_eq!(call.requests(), 0, "{sign}: it has not ended");
        call.done("r1", "cancelled", &Value::Null);
        assert_eq!(call.requests(), 1, "{sign}");
    }
}

#[test]
fn barge_in_works_in_a_response_that_was_never_announced() {
    for sign in signs("r1") {
        let mut call = Call::new();
        call.speech("u1");
        call.speech_ends("u1");
        call.says(&sign);
        call.audio("r1", 400);
        let heard = call.0.audio.len();
        assert!(heard >= 400 * 48, "{sign}");
        call.speech("u2");
        call.audio("r1", 400);
        assert_eq!(call.0.audio.len(), heard, "{sign}: it is cut off");
        call.done("r1", "cancelled", &Value::Null);
        call.speech_ends("u2");
        call.says(&signs("r2")[3]);
        assert_eq!(call.0.audio.len(), heard + 48, "the next one is heard");
    }
}

/// A service may name no response at all, neither by its beginning nor by its deltas.
#[test]
fn a_response_without_any_name_can_be_interrupted_and_stopped() {
    for id in [Value::Null, json!("")] {
        let anonymous = |call: &mut Call, kind: &str, delta: &str| {
            call.says(&json!({"type": kind, "response_id": id, "item_id": null, "delta": delta}));
        };
        let pcm = STANDARD.encode([7; 480]);
        for audio in ["response.audio.delta", "response.output_audio.delta"] {
            let mut call = Call::new();
            call.speech("u1");
            call.speech_ends("u1");
            call.told();
            anonymous(&mut call, "response.audio_transcript.delta", "Well");
            anonymous(&mut call, audio, &pcm);
            let told = call.told();
            assert_eq!(told[0]["type"], "response_started", "{told:?}");
            let begun = told.iter().filter(|message| message["type"] == "response_started");
            assert_eq!((begun.count(), call.0.audio.len()), (1, 480));
            // Barge-in: the rest is dropped, and the next answer is heard, though nothing ends this one.
            call.speech("u2");
            anonymous(&mut call, audio, &pcm);
            assert_eq!(call.0.audio.len(), 480, "{audio}");
            call.speech_ends("u2");
            anonymous(&mut call, audio, &pcm);
            assert_eq!(call.0.audio.len(), 960, "{audio}");
            let told = call.told();
            let of = |kind: &str| told.iter().filter(|message| message["type"] == kind).count();
            assert_eq!((of("response_done"), of("response_started")), (1, 1), "{told:?}");
            // Stop.
            call.commands();
            call.client_says(&json!({"type": "interrupt"}));
            assert_eq!(call.commands()[0], "response.cancel");
            anonymous(&mut call, audio, &pcm);
            assert_eq!(call.0.audio.len(), 960, "{audio}");
            call.done("", "cancelled", &Value::Null);
            assert_eq!(call.told_of("response_done").len(), 1);
            call.types("Again");
            assert_eq!(call.requests(), 1);
            anonymous(&mut call, audio, &pcm);
            assert_eq!(call.0.audio.len(), 1440, "{audio}");
        }
    }
}

/// Deltas that name no response belong to the one that was announced.
#[test]
fn deltas_without_a_name_are_interrupted_with_their_response() {
    let delta =
        json!({"type": "response.audio.delta", "item_id": "a", "delta": STANDARD.encode([7; 480])});
    let words = json!({"type": "response.audio_transcript.delta", "item_id": "a", "delta": "More"});
    for stop in [false, true] {
        let mut call = Call::new();
        call.created("r1");
        call.says(&delta);
        if stop {
            call.client_says(&json!({"type": "interrupt"}));
        } else {
            call.speech("u1");
        }
        call.told();
        call.says(&delta);
        call.says(&words);
        assert_eq!(call.0.audio.len(), 480, "{stop}");
        assert!(call.told_of("transcript_delta").is_empty(), "{stop}");
        call.done("r1", "cancelled", &Value::Null);
        call.created("r2");
        call.says(&delta);
        assert_eq!(call.0.audio.len(), 960, "{stop}");
    }
}

/// Stand-ins for the service end a response by an event named after its status.
#[test]
fn an_end_by_another_name_is_an_end() {
    for status in ["cancelled", "completed", "failed", "incomplete"] {
        let kind = format!("response.{status}");
        for event in [
            json!({"type": kind, "response": {"id": "r1", "status": status}}),
            json!({"type": kind, "response": {"id": "r1"}}),
            json!({"type": kind, "response_id": "r1"}),
            json!({"type": kind}),
        ] {
            let mut call = Call::new();
            call.created("r1");
            call.audio("r1", 20);
            if status == "cancelled" {
                call.client_says(&json!({"type": "interrupt"}));
            }
            call.types("And now?");
            call.commands();
            call.told();
            call.says(&event);
            assert_eq!(call.requests(), 1, "{event}: it is over");
            assert_eq!(call.told_of("response_done")[0]["status"], status, "{event}");
            call.done("r1", status, &Value::Null);
            assert!(call.told_of("response_done").is_empty(), "{event}: told once");
        }
    }
}

#[test]
fn a_response_told_by_its_end_alone_is_told() {
    let mut call = Call::new();
    call.types("Hello?");
    call.told();
    call.done("r1", "completed", &Value::Null);
    let kinds: Vec<_> = call.told().iter().map(|message| message["type"].clone()).collect();
    assert_eq!(kinds, ["response_started", "response_done", "usage"]);
    call.types("Again?");
    assert_eq!(call.requests(), 2);
}

#[test]
fn an_announcement_that_comes_late_tells_nothing_twice() {
    let mut call = Call::new();
    call.audio("r1", 20);
    call.created("r1");
    assert_eq!(call.told_of("response_started").len(), 1);
    call.done("r1", "completed", &Value::Null);
    assert_eq!(call.told_of("response_done").len(), 1);
}

/// Some stand-ins for the service announce a response without its id, or put the id elsewhere.
#[test]
fn an_announcement_without_an_id_and_what_follows_are_one_response() {
    for announced in [
        json!({"type": "response.created"}),
        json!({"type": "response.created", "response": null}),
        json!({"type": "response.created", "response": {"id": null}}),
        json!({"type": "response.created", "response_id": "r1"}),
    ] {
        let mut call = Call::new();
        call.says(&announced);
        call.audio("r1", 20);
        call.speech("u1");
        let heard = call.0.audio.len();
        call.audio("r1", 20);
        assert_eq!(call.0.audio.len(), heard, "{announced}: it was interrupted");
        call.done("r1", "cancelled", &Value::Null);
        let told = call.told();
        let of = |kind: &str| told.iter().filter(|message| message["type"] == kind).count();
        assert_eq!((of("response_started"), of("response_done")), (1, 1), "{announced}");
    }
}

#[test]
fn what_comes_late_of_a_response_that_ended_opens_nothing() {
    for (status, stopped) in [("completed", false), ("cancelled", true), ("cancelled", false)] {
        for sign in signs("r1") {
            let mut call = Call::new();
            call.created("r1");
            call.audio("r1", 20);
            if stopped {
                call.client_says(&json!({"type": "interrupt"}));
            } else if status == "cancelled" {
                call.speech("u1");
            }
            call.done("r1", status, &Value::Null);
            call.told();
            call.commands();
            let heard = call.0.audio.len();
            call.says(&sign);
            assert!(call.told_of("response_started").is_empty(), "{status} {sign}");
            if status == "cancelled" {
                assert_eq!(call.0.audio.len(), heard, "{sign}: nothing that was cut off is heard");
                call.speech_ends("u1");
            }
            call.created("r2");
            call.says(&sign);
            call.types("Stop.");
            let cancel = call.0.told.iter().find(|text| text.contains("response.cancel"));
            assert!(cancel.expect("r2 is active").contains("r2"), "{status} {sign}");
        }
    }
}

// ---- an answer that breaks off ----

#[test]
fn an_answer_that_breaks_off_is_told_in_words_and_counted_by_its_reason() {
    for (status, details, code, words, reason) in [
        (
            "incomplete",
            json!({"type": "incomplete", "reason": "max_output_tokens"}),
            "response_incomplete",
            "length",
            "max_output_tokens",
        ),
        (
            "incomplete",
            json!({"type": "incomplete", "reason": "content_filter"}),
            "response_incomplete",
            "content filter",
            "content_filter",
        ),
        (
            "incomplete",
            json!({"type": "incomplete", "reason": "cosmic_rays"}),
            "response_incomplete",
            "cosmic_rays",
            "incomplete",
        ),
        (
            "incomplete",
            json!({"type": "incomplete"}),
            "response_incomplete",
            "no reason",
            "incomplete",
        ),
        (
            "incomplete",
            json!({"reason": null, "error": null}),
            "response_incomplete",
            "no reason",
            "incomplete",
        ),
        ("incomplete", Value::Null, "response_incomplete", "no reason", "incomplete"),
        ("incomplete", json!("?"), "response_incomplete", "no reason", "incomplete"),
        (
            "incomplete",
            json!({"error": {"message": "The model is tired"}}),
            "response_incomplete",
            "The model is tired.",
            "incomplete",
        ),
        (
            "cancelled",
            json!({"type": "cancelled", "reason": "content_filter"}),
            "response_incomplete",
            "content filter",
            "content_filter",
        ),
        (
            "failed",
            json!({"type": "failed", "error": {"type": "server_error",
            "code": "rate_limit_exceeded", "message": "Slow down."}}),
            "response_failed",
            "Slow down.",
            "failed",
        ),
        (
            "failed",
            json!({"error": {"code": "rate_limit_exceeded"}}),
            "response_failed",
            "rate_limit_exceeded",
            "failed",
        ),
        (
            "failed",
            json!({"error": {"type": "server_error", "message": ""}}),
            "response_failed",
            "server_error",
            "failed",
        ),
        (
            "failed",
            json!({"reason": "content_filter"}),
            "response_failed",
            "content filter",
            "failed",
        ),
        ("failed", Value::Null, "response_failed", "no reason", "failed"),
    ] {
        let mut call = Call::new();
        call.created("r1");
        call.audio("r1", 20);
        call.done("r1", status, &details);
        let errors = call.told_of("error");
        assert_eq!(errors.len(), 1, "{status} {details}");
        assert_eq!(errors[0]["code"], code, "{details}");
        let message = errors[0]["message"].as_str().expect("a sentence");
        assert!(message.contains(words) && message.ends_with('.'), "{details}: {message}");
        assert_eq!(call.unfinished(reason), 1, "{details}");
    }
    for (status, details) in [
        ("completed", Value::Null),
        ("cancelled", json!({"type": "cancelled", "reason": "turn_detected"})),
        ("cancelled", json!({"type": "cancelled", "reason": "client_cancelled"})),
        ("cancelled", Value::Null),
        ("some_new_status", Value::Null),
    ] {
        let mut call = Call::new();
        call.created("r1");
        call.done("r1", status, &details);
        assert!(call.told_of("error").is_empty(), "{status}");
    }
}

#[test]
fn an_answer_that_was_interrupted_and_breaks_off_is_no_complaint() {
    let mut call = Call::new();
    call.created("r1");
    call.audio("r1", 20);
    call.speech("u1");
    call.done("r1", "incomplete", &json!({"reason": "max_output_tokens"}));
    assert!(call.told_of("error").is_empty());
    assert_eq!(call.unfinished("max_output_tokens"), 1);
}
