//! A resource that runs out of its tokens a minute answers late before it refuses. Log and `/metrics` show
//! that, and a warning names it.

use std::time::Duration;

use crate::support;
use serde_json::json;
use support::client::Client;
use support::daemon::Daemon;
use support::scene::Scene;
use support::script::{Script, Step};

/// The only figure of this name.
fn figure(daemon: &Daemon, name: &str) -> String {
    let metrics = support::http::ask(daemon.address, "GET /metrics", "");
    let prefix = format!("voicelived_{name} ");
    let line =
        metrics.text().lines().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned));
    line.unwrap_or_else(|| panic!("{name}: {}", metrics.text()))
}

#[test]
fn a_late_first_sound_is_counted_and_its_likely_cause_named() {
    let service = Daemon::simulate(&["no-welcome", "latency=3100"]);
    let daemon = Daemon::run(service.address, &[]);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    for answers in 1..=2 {
        client.tell(&json!({"type": "text", "text": "Hello"}));
        client.wait_for_next("latency");
        client.wait_for_next("response_done");
        assert_eq!(figure(&daemon, "late_answers_total"), answers.to_string());
    }
    client.tell(&json!({"type": "hang_up"}));
    daemon.wait_for_log("(p50/p95/max), 2 late");
    let log = daemon.log();
    let told = log.lines().filter(|line| line.contains("tokens in the last minute")).count();
    assert_eq!(told, 1, "once a minute: {log}");
    let after = log.split_once("the first audio of an answer came after ").expect("it is told").1;
    let ms: u32 = after.split(' ').next().and_then(|ms| ms.parse().ok()).expect("a number");
    assert!(ms >= 3_000, "{log}");
    assert!(figure(&daemon, "input_tokens_total").parse::<u64>().expect("a number") > 0);
    assert!(figure(&daemon, "output_tokens_total").parse::<u64>().expect("a number") > 0);
}

#[test]
fn an_answer_is_late_from_three_seconds_on() {
    for (ms, late) in [(2_999, 0), (3_000, 1)] {
        let mut scene = Scene::new();
        scene.say(br#"{"type": "input_audio_buffer.speech_started", "item_id": "u"}"#);
        scene.say(br#"{"type": "input_audio_buffer.speech_stopped", "item_id": "u"}"#);
        scene.pass(Duration::from_millis(ms));
        scene.say(
            br#"{"type": "response.audio.delta", "response_id": "r", "item_id": "a",
            "output_index": 0, "content_index": 0, "delta": "AAAA"}"#,
        );
        assert!(scene.texts.contains(&format!(r#""first_audio_ms":{ms}"#)), "{}", scene.texts);
        assert_eq!(scene.counted("late_answers_total"), late, "after {ms} ms");
    }
}

#[test]
fn a_tool_is_another_cause_of_waiting() {
    let service = Daemon::simulate(&["no-welcome", "latency=1600"]);
    let daemon = Daemon::run(service.address, &[]);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    client.tell(&json!({"type": "text", "text": "What is the weather in Berlin?"}));
    client.wait_for_next("tool");
    client.wait_for_next("latency");
    assert_eq!(figure(&daemon, "late_answers_total"), "0");
    assert!(!daemon.log().contains("tokens in the last minute"), "{}", daemon.log());
}

#[test]
fn what_the_service_says_of_its_tokens_is_told_when_few_are_left() {
    let limits = |left: u64| {
        let limits = json!([{"name": "requests", "limit": 9, "remaining": 0, "reset_seconds": 1},
            {"name": "tokens", "limit": 120_000, "remaining": left, "reset_seconds": 20}]);
        Step::Text(json!({"type": "rate_limits.updated", "rate_limits": limits}).to_string())
    };
    let script = Script::playing(vec![limits(12_000), limits(11_999), limits(3)]);
    let daemon = Daemon::run(script.address, &[]);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    daemon
        .wait_for_log("the service has 11999 of 120000 tokens left; all calls have used 0 tokens");
    client.tell(&json!({"type": "hang_up"}));
    daemon.wait_for_log("ended: hang_up");
    assert_eq!(daemon.log().matches("tokens left").count(), 1, "{}", daemon.log());
}
