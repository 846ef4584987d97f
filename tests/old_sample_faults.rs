//! The faults of the Python sample: a test for each.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support;
use serde_json::json;
use support::client::{Client, speech};
use support::daemon::Daemon;
use support::inside::daemon_with_tools;
use support::metrics::count;
use support::time::at_once;

/// How long a slow tool takes.
const SLOW: Duration = Duration::from_secs(2);

fn slow_weather() -> String {
    format!("[ \"$2\" = get_weather ] && sleep {}", SLOW.as_secs())
}

/// What a tool waits for.
struct Gate(PathBuf);

impl Gate {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("old-sample-{name}"));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }

    /// The beginning of a tool that goes on when the gate is open.
    fn weather(&self) -> String {
        let wait = format!("while [ ! -e '{}' ]; do sleep 0.05; done", self.0.display());
        format!("[ \"$2\" = get_weather ] && {wait}")
    }

    fn open(&self) {
        std::fs::write(&self.0, "").expect("a file");
    }
}

/// No tool has ended.
fn assert_runs(client: &Client) {
    let ended = client.of_type("tool").iter().any(|tool| tool["state"] != "running");
    assert!(!ended, "{}", client.told());
}

fn open(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client.wait_until_active();
    client
}

fn ask_for(client: &mut Client, words: &str) {
    client.tell(&json!({"type": "text", "text": words}));
    client.wait_for("the tool", |message| message["state"] == "running");
}

#[test]
fn a_silent_client_keeps_its_call_until_the_idle_limit_and_hears_why() {
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_IDLE_SECONDS", "3")]);
    let before = daemon.descriptors();
    let (start, work) = (Instant::now(), daemon.processor_time());
    let mut client = open(daemon.address);
    let message = client.assert_ends("silence", 1000, "idle");
    assert_eq!(message, "Nobody has spoken for 3 seconds, so the call was ended.");
    // `patience.rs` holds it to the millisecond.
    assert!(start.elapsed() > Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(client.of_type("error")[0]["code"], "idle_soon");
    daemon.assert_counted("calls_ended_total", "idle", 1);
    let used = daemon.processor_time() - work;
    // A loop that turns for nothing takes what it can get of three seconds.
    assert!(used < Duration::from_millis(300), "the loop turns for nothing: {used:?}");
    daemon.assert_nothing_left(before);
}

#[test]
fn after_ended_nothing_comes_and_the_socket_closes_at_once() {
    let service = Daemon::simulate(&["reply-seconds=60"]);
    let daemon = Daemon::run(service.address, &[]);
    at_once("the end", Duration::from_secs(1), || {
        let mut client = open(daemon.address);
        client.wait_for_audio(48_000);
        client.tell(&json!({"type": "hang_up"}));
        client.wait_for("ended", |message| message["state"] == "ended");
        let (heard, start) = (client.audio.len(), Instant::now());
        client.assert_ends("hanging up", 1000, "hang_up");
        let took = start.elapsed();
        assert_eq!(client.messages.last().expect("messages").1["state"], "ended");
        assert_eq!(client.audio.len(), heard);
        took
    });
}

#[test]
fn what_is_said_while_a_tool_runs_is_heard_and_answered() {
    let service = Daemon::simulate(&["no-welcome"]);
    let gate = Gate::new("heard");
    let mut client = open(daemon_with_tools(service.address, &gate.weather()));
    ask_for(&mut client, "weather");
    client.speak(&[speech("stock"), vec![0; 48_000]].concat(), 6);
    client.wait_for("it is heard", |message| message["type"] == "speech_started");
    client.wait_for("it is understood", |message| message["role"] == "user");
    client.wait_for_audio(48_001);
    assert_runs(&client);
    gate.open();
    client.wait_for("the tool's end", |message| message["state"] == "done");
    client.wait_for("the tool's answer", |message| {
        message["type"] == "transcript" && message["text"].as_str().unwrap().contains("Seattle")
    });
}

#[test]
fn two_tools_of_one_response_get_one_answer_after_the_slower() {
    let service = Daemon::simulate(&["no-welcome", "tools=2"]);
    let address = daemon_with_tools(service.address, &slow_weather());
    let mut client = open(address);
    client.speak(&[speech("weather"), vec![0; 48_000]].concat(), 6);
    client.wait_for("both results are spoken", |message| {
        let text = message["text"].as_str().unwrap_or_default();
        message["type"] == "transcript" && text.contains("Seattle") && text.contains("MSFT")
    });
    client.wait_for_next("response_done");
    let states: Vec<_> = client.of_type("tool").iter().map(|tool| &tool["state"]).collect();
    assert_eq!(states, ["running", "running", "done", "done"]);
    // The response with the calls, and one answer to both.
    assert_eq!(client.of_type("response_started").len(), 2);
    assert_eq!(count(address, "tool_runs_total", "ok"), 2);
    assert_eq!(client.of_type("error").len(), 0);
}

#[test]
fn a_slow_tool_delays_no_other_calls_audio() {
    let service = Daemon::simulate(&support::witness::SERVICE);
    // The tool ends when the other call has had its replies, however long that takes.
    let gate = Gate::new("other");
    let address = daemon_with_tools(service.address, &gate.weather());
    let mut other = open(address);
    let mut client = open(address);
    ask_for(&mut client, "weather");
    let expected = support::witness::pattern(1);
    for _ in 0..4 {
        other.audio.clear();
        other.tell(&json!({"type": "text", "text": "Go on."}));
        other.wait_for_next("response_done");
        other.wait_for_audio(expected.len());
        assert!(other.audio == expected, "the other call's audio is different");
    }
    client.tell(&json!({"type": "ping", "id": "all"}));
    client.wait_for_next("pong");
    assert_runs(&client);
    gate.open();
    client.wait_for("the tool's end", |message| message["state"] == "done");
}

#[test]
fn a_broken_tool_is_told_to_the_model_and_the_call_goes_on() {
    let service = Daemon::simulate(&["no-welcome"]);
    let address = daemon_with_tools(service.address, "exit 3");
    let mut client = open(address);
    ask_for(&mut client, "weather");
    client.wait_for("the tool's end", |message| message["state"] == "failed");
    client.wait_for("the model's word on it", |message| message["type"] == "transcript");
    assert_eq!(count(address, "tool_runs_total", "failed"), 1);
    client.tell(&json!({"type": "hang_up"}));
    client.assert_ends("hanging up", 1000, "hang_up");
}
