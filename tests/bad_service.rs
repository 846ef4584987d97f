//! A service that misbehaves costs at most the call it serves; oddities cost nothing.

use crate::support;
use serde_json::json;
use support::client::{Client, speech};
use support::daemon::Daemon;
use support::service::{Lines, Service};
use support::switch::Switch;
use support::witness::{self, Witness};

/// A daemon with a good call under way, whose next calls reach another service.
struct Scene {
    daemon: Daemon,
    switch: Switch,
    _good: Daemon,
    descriptors: usize,
    witness: Witness,
}

impl Scene {
    fn new() -> Self {
        let good = Daemon::simulate(&witness::SERVICE);
        let switch = Switch::to(good.address);
        // How a call is told of the loss when it does not connect again.
        let daemon = Daemon::run(switch.address, &[("VOICELIVED_RECONNECT_SECONDS", "0")]);
        let descriptors = daemon.descriptors();
        let witness = Witness::call(daemon.address);
        Self { daemon, switch, _good: good, descriptors, witness }
    }

    /// A call to a service with these faults ends with 1011, this reason and a sentence with this
    /// in it.
    fn assert_ends(&self, fault: &str, reason: &str, hint: &str) {
        let service = Daemon::simulate(&[fault]);
        self.switch.turn_to(service.address);
        let before = self.daemon.count("calls_ended_total", reason);
        let mut client = Client::connect(self.daemon.address);
        let message = client.assert_ends(fault, 1011, reason);
        assert!(message.contains(hint), "{fault}: {message}");
        let (_, close_reason) = client.closed.expect("it was compared");
        assert!(message.starts_with(&close_reason), "{fault}: {close_reason}");
        self.daemon.assert_counted("calls_ended_total", reason, before + 1);
    }

    fn finish(self) {
        self.witness.finish();
        self.daemon.assert_nothing_left(self.descriptors);
    }
}

#[test]
fn a_refused_upgrade_says_what_to_fix() {
    let scene = Scene::new();
    for (fault, reason, hint) in [
        ("refuse=400", "bad_request", "VOICE_LIVE_MODEL"),
        ("refuse=401", "unauthorized", "AZURE_VOICE_LIVE_API_KEY"),
        ("refuse=403", "forbidden", "network rules"),
        ("refuse=404", "not_found", "AZURE_VOICE_LIVE_ENDPOINT"),
        ("refuse=418", "refused", "answered 418"),
        ("refuse=429:7", "quota", "Try again in 7 seconds."),
        ("refuse=429", "quota", "Try again in a minute."),
        ("refuse=302", "redirect", "not followed"),
        ("refuse=500", "service_trouble", "Try again later."),
        ("refuse=503", "service_trouble", "[simulator] The service had a problem."),
    ] {
        scene.assert_ends(fault, reason, hint);
    }
    scene.daemon.assert_counted("service_connects_total", "failed", 10);
    scene.daemon.assert_counted("service_connects_total", "ok", 1);
    scene.finish();
}

#[test]
fn a_service_that_goes_away_ends_the_call() {
    let scene = Scene::new();
    for (fault, reason, hint) in [
        ("close-after-upgrade", "service_closed", "closed the connection"),
        ("close=1000@start", "service_closed", "code 1000"),
        ("close=1011:internal trouble@update", "service_closed", "It said: internal trouble"),
        ("close=1011:internal trouble@reply", "service_closed", "It said: internal trouble"),
        ("close=1008:not you@reply", "refused", "not you"),
        ("close=1009@reply", "refused", "too large"),
        ("close=4000:\u{1b}[31mred@reply", "service_closed", "It said: [31mred"),
        ("reset@start", "service_lost", "was lost"),
        ("reset@update", "service_lost", "was lost"),
        ("reset@reply", "service_lost", "was lost"),
    ] {
        scene.assert_ends(fault, reason, hint);
    }
    assert!(!scene.daemon.log().contains('\u{1b}'), "what a service says forges no line");
    scene.finish();
}

#[test]
fn what_cannot_be_read_ends_the_call() {
    let scene = Scene::new();
    for (fault, reason, hint) in [
        ("refuse-session", "session_refused", "Refused by script"),
        ("big-message=2000000", "service_protocol", "longer than"),
        ("big-message=16000000", "service_protocol", "longer than"),
    ] {
        scene.assert_ends(fault, reason, hint);
    }
    scene.finish();
}

#[test]
fn oddities_leave_a_whole_turn_working() {
    let words = [
        "unknown-events",
        "nulls",
        "type-last",
        "whitespace",
        "fragments",
        "binary",
        "pings",
        "trickle",
        "big-message=900000",
        "error-event=server_error",
        "transcript=early",
        "transcript=late",
        "transcript=failed",
        "cancel-previous",
        "dialect=ga",
        "latency=300",
        "garbage",
        "odd-pcm",
    ];
    let turns = words.map(|word| std::thread::spawn(move || take_a_turn(word)));
    for (word, turn) in words.iter().zip(turns) {
        assert!(turn.join().is_ok(), "{word}");
    }
}

/// Speaks and compares the answer, which the service chooses so that every byte is known.
fn take_a_turn(word: &str) {
    let service = Daemon::simulate(&["no-welcome", "reply-seconds=1", word]);
    // This model's transcriber needs no turn detection that only one of the dialects has.
    let daemon = Daemon::run(service.address, &[("VOICE_LIVE_MODEL", "gpt-realtime-mini")]);
    let descriptors = daemon.descriptors();
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    client.speak(&[speech("weather"), vec![0; 48_000]].concat(), 4);
    client.wait_for("the turn's end", |message| message["type"] == "speech_stopped");
    client.wait_for("the answer's end", |message| message["type"] == "response_done");
    let expected = witness::pattern(1);
    client.wait_for_audio(expected.len());
    assert!(client.audio == expected, "every byte of the answer");
    let of_role = |role: &str| {
        let texts = client.of_type("transcript");
        texts.iter().filter(|transcript| transcript["role"] == role).count()
    };
    assert_eq!(of_role("assistant"), 1);
    client.tell(&json!({"type": "hang_up"}));
    client.assert_ends(word, 1000, "hang_up");
    let heard = client.of_type("transcript").iter().any(|text| text["role"] == "user");
    assert_eq!(heard, word != "transcript=failed");
    daemon.assert_nothing_left(descriptors);
}

#[test]
fn a_failed_response_is_told_and_the_call_goes_on() {
    let service = Daemon::simulate(&["no-welcome", "fail-response"]);
    let daemon = Daemon::run(service.address, &[]);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    for _ in 0..2 {
        client.tell(&json!({"type": "text", "text": "Hello?"}));
        client.wait_for_next("error");
    }
    let statuses: Vec<_> = client.of_type("response_done").iter().map(|d| &d["status"]).collect();
    assert_eq!(statuses, ["failed", "failed"]);
    client.tell(&json!({"type": "hang_up"}));
    client.assert_ends("hanging up", 1000, "hang_up");
}

#[test]
fn an_answer_that_breaks_off_is_told_logged_and_counted() {
    let service = Daemon::simulate(&["no-welcome", "incomplete-response"]);
    let daemon = Daemon::run(service.address, &[]);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    client.tell(&json!({"type": "text", "text": "Hello?"}));
    let error = client.wait_for_next("error");
    assert_eq!(error["code"], "response_incomplete");
    assert!(error["message"].as_str().expect("a sentence").contains("longest length"), "{error}");
    daemon.wait_for_log("max_response_output_tokens");
    daemon.assert_counted("responses_unfinished_total", "max_output_tokens", 1);
}

#[test]
fn a_tools_result_is_spoken_about_though_its_response_never_ends() {
    let call = json!({"type": "function_call", "id": "f", "status": "completed", "call_id": "c1",
        "name": "get_weather", "arguments": r#"{"location": "Seattle"}"#});
    let service = Service::saying(Lines {
        first: vec![json!({"type": "session.created", "session": {"id": "s", "model": "m"}})],
        updated: None,
        then: vec![
            json!({"type": "response.created", "response": {"id": "r1"}}),
            json!({"type": "response.output_item.done", "response_id": "r1", "item": call}),
        ],
    });
    let daemon = Daemon::run(service.address, &[]);
    let mut client = Client::connect(daemon.address);
    client.wait_for("the tool has run", |message| message["state"] == "done");
    daemon.wait_until("its result has come", |_| service.items().len() == 1);
    assert_eq!(service.items()[0]["call_id"], "c1");
    client.wait_for("it counts as over", |message| message["status"] == "lost");
    daemon.wait_until("its result is asked about", |_| service.requests() == 1);
    daemon.wait_for_log(r#"response "r1" shows no sign of life"#);
    daemon.assert_counted("responses_unfinished_total", "silent", 1);
}

#[test]
fn turns_without_a_transcript_are_told_each_and_logged_once() {
    let service = Daemon::simulate(&["no-welcome", "reply-seconds=1", "transcript=failed"]);
    let daemon = Daemon::run(service.address, &[]);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    for turn in 1..=2 {
        client.speak(&[speech("weather"), vec![0; 48_000]].concat(), 4);
        client.wait_for_next("response_done");
        let spoken =
            client.of_type("speech_started").last().expect("it was heard")["item_id"].clone();
        let failed = client.of_type("transcript_failed");
        assert_eq!(failed.len(), turn);
        assert_eq!(failed[turn - 1]["item_id"], spoken);
    }
    daemon.assert_counted("transcripts_failed_total", "", 2);
    assert_eq!(daemon.log().matches("input_audio_transcription").count(), 1, "{}", daemon.log());
}

#[test]
fn what_comes_of_an_interrupted_reply_is_dropped() {
    let service = Daemon::simulate(&["no-welcome", "reply-seconds=20", "late-deltas=5"]);
    let daemon = Daemon::run(service.address, &[]);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    client.tell(&json!({"type": "text", "text": "Tell me more."}));
    client.wait_for_audio(48_000);
    client.speak(&[speech("weather"), vec![0; 48_000]].concat(), 4);
    client.wait_for("the next answer", |message| message["status"] == "completed");
    let at = |kind: &str, which: usize| {
        let mut found = client.messages.iter().filter(|(_, message)| message["type"] == kind);
        found.nth(which).expect("it came").0
    };
    assert!(at("speech_started", 0) < 20 * 48_000, "it was interrupted");
    assert_eq!(at("speech_started", 0), at("response_started", 1), "audio in between");
}

#[test]
fn a_session_at_its_longest_ends_as_such() {
    let service = Daemon::simulate(&["no-welcome", "session-seconds=2"]);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_RECONNECT_SECONDS", "0")]);
    let descriptors = daemon.descriptors();
    let mut client = Client::connect(daemon.address);
    let message = client.assert_ends("its longest", 1000, "session_expired");
    assert!(message.contains("session"), "{message}");
    daemon.assert_counted("calls_ended_total", "session_expired", 1);
    daemon.assert_nothing_left(descriptors);

    // It is the same when the service says so by its close alone.
    let close = "close=1001:Your session hit the maximum duration of 60 minutes.@reply";
    let service = Daemon::simulate(&["no-welcome", close]);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_RECONNECT_SECONDS", "0")]);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    client.tell(&json!({"type": "text", "text": "Hello?"}));
    assert_eq!(client.assert_ends("its close", 1000, "session_expired"), message);
}
