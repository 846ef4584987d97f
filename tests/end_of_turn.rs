//! `end_turn` through the whole program and its simulator: a client that stops sending gets its answer, whoever
//! finds the ends of turns.

use std::time::Duration;

use crate::support;
use serde_json::{Value, json};
use support::client::{Client, speech};
use support::daemon::{Daemon, KEY};

/// A settings file for the session, removed with the test.
struct SessionFile(std::path::PathBuf);

impl SessionFile {
    fn new(name: &str, session: &Value) -> Self {
        let name = format!("voicelived-turns-{name}-{}.json", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, session.to_string()).expect("a file");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("ASCII")
    }
}

impl Drop for SessionFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn welcomed(daemon: &Daemon) -> Client {
    let mut client = Client::connect(daemon.address);
    client.wait_for("the welcome ends", |message| message["type"] == "response_done");
    client
}

/// Words and nothing behind them, as from a device whose button was let go.
fn words() -> Vec<u8> {
    // The speech of this file ends at 2.76 s.
    speech("weather")[..132_480].to_vec()
}

#[test]
fn a_client_that_stops_sending_ends_its_turn_with_a_word() {
    let off = SessionFile::new("no-turns", &json!({"turn_detection": null}));
    // This model's transcriber works without turn detection too.
    let model = ("VOICE_LIVE_MODEL", "gpt-realtime");
    for settings in [&[][..], &[("AZURE_VOICE_LIVE_SESSION_FILE", off.path()), model]] {
        let daemon = Daemon::demo(settings);
        let mut client = welcomed(&daemon);
        let waits = client.of_type("call_state").iter().any(|state| state["turns"] == "client");
        assert_eq!(waits, !settings.is_empty());
        for _ in 0..2 {
            let before = client.audio.len();
            client.speak(&words(), 4);
            client.tell(&json!({"type": "end_turn"}));
            client.tell(&json!({"type": "end_turn"}));
            let done = client.wait_for_next("response_done");
            assert_eq!(done["status"], "completed");
            assert!(client.audio.len() > before + 48_000, "it is answered in sound");
        }
        assert_eq!(client.of_type("latency").len(), 2);
        assert_eq!(client.of_type("error"), Vec::<&Value>::new());
        let said = |role: &str| {
            let lines = client.of_type("transcript");
            lines.iter().filter(|line| line["role"] == role).count()
        };
        assert_eq!(said("user"), 2, "each turn was heard once");
    }
}

#[test]
fn nothing_said_is_nothing_to_answer() {
    let off = SessionFile::new("nothing-said", &json!({"turn_detection": null}));
    for settings in [&[][..], &[("AZURE_VOICE_LIVE_SESSION_FILE", off.path())]] {
        let daemon = Daemon::demo(settings);
        let mut client = welcomed(&daemon);
        client.tell(&json!({"type": "end_turn"}));
        client.tell(&json!({"type": "end_turn", "why": [1]}));
        client.read_one_within(Duration::from_secs(1));
        client.tell(&json!({"type": "ping", "id": 1}));
        client.wait_for_next("pong");
        assert_eq!(client.of_type("error"), Vec::<&Value>::new());
        assert_eq!(client.of_type("response_started").len(), 1, "the welcome alone");
    }
}

/// What was said and ended before the service was there is answered once it is.
#[test]
fn a_turn_that_ended_while_the_service_was_called_is_answered() {
    let off = SessionFile::new("early", &json!({"turn_detection": null}));
    let service = Daemon::simulate(&[]);
    let daemon = Daemon::run(service.address, &[("AZURE_VOICE_LIVE_SESSION_FILE", off.path())]);
    let mut client = Client::connect(daemon.address);
    client.send(tungstenite::Message::binary(words()[36_480..36_480 + 48_000].to_vec()));
    client.tell(&json!({"type": "end_turn"}));
    client.wait_for("it is answered", |message| {
        let text = message["text"].as_str().unwrap_or_default();
        message["type"] == "transcript" && text.contains("You said that for 1.0 seconds")
    });
    assert_eq!(client.of_type("error"), Vec::<&Value>::new());
}

#[test]
fn check_says_what_a_session_without_turn_detection_needs() {
    let off = SessionFile::new("check", &json!({"turn_detection": null}));
    let service = Daemon::simulate(&[]);
    let check = |file: Option<&str>| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_voicelived"));
        command.arg("check").env_clear();
        command.env("AZURE_VOICE_LIVE_ENDPOINT", format!("ws://{}", service.address));
        command.env("AZURE_VOICE_LIVE_API_KEY", KEY);
        if let Some(file) = file {
            command.env("AZURE_VOICE_LIVE_SESSION_FILE", file);
        }
        let output = command.output().expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let text = check(Some(off.path()));
    assert!(text.contains("turn_detection") && text.contains("end_turn"), "{text}");
    assert!(!check(None).contains("end_turn"));
}

#[test]
fn voicelived_call_is_answered_where_the_service_waits_for_the_end() {
    let off = SessionFile::new("call", &json!({"turn_detection": null}));
    let model = ("VOICE_LIVE_MODEL", "gpt-realtime");
    let daemon = Daemon::demo(&[("AZURE_VOICE_LIVE_SESSION_FILE", off.path()), model]);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_voicelived"));
    let url = format!("ws://{}/ws", daemon.address);
    let speech = format!("{}/tests/audio/weather.wav", env!("CARGO_MANIFEST_DIR"));
    command.args(["call", "--url", &url, "--in", &speech, "--timeout", "10"]).env_clear();
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("you: [simulator]"), "{text}");
}

/// A name, the session that it stands for, and settings of its model and dialect.
type Way = (String, SessionFile, Vec<(&'static str, &'static str)>);

/// The ways to find the ends of turns, each with a model that takes it, in both dialects.
fn ways(test: &str) -> Vec<Way> {
    let kinds = [
        ("server", json!({"turn_detection": {"type": "server_vad"}}), "gpt-realtime"),
        ("semantic", json!({"turn_detection": {"type": "semantic_vad"}}), "gpt-realtime"),
        ("azure", json!({"turn_detection": {"type": "azure_semantic_vad"}}), "gpt-4.1"),
        ("none", json!({"turn_detection": null}), "gpt-realtime"),
        ("none-cascade", json!({"turn_detection": null}), "gpt-4.1"),
    ];
    let mut ways = Vec::new();
    for (name, session, model) in kinds {
        for version in ["2026-07-15", "v1"] {
            let name = format!("{name}-{version}");
            let file = SessionFile::new(&format!("{test}-{name}"), &session);
            let settings =
                vec![("VOICE_LIVE_MODEL", model), ("AZURE_VOICE_LIVE_API_VERSION", version)];
            ways.push((name, file, settings));
        }
    }
    ways
}

#[test]
fn end_turn_works_with_every_kind_of_turn_detection_in_both_dialects() {
    for (name, file, mut settings) in ways("turns") {
        settings.push(("AZURE_VOICE_LIVE_SESSION_FILE", file.path()));
        let daemon = Daemon::demo(&settings);
        let mut client = welcomed(&daemon);
        let end = json!({"type": "end_turn"});
        // Nothing was said.
        client.tell(&end);
        // A turn, and its end told three times.
        client.speak(&words(), 4);
        for _ in 0..3 {
            client.tell(&end);
        }
        assert_eq!(client.wait_for_next("response_done")["status"], "completed", "{name}");
        // Another, while that answer is still played.
        client.speak(&words(), 4);
        client.tell(&end);
        client.wait_for_next("response_started");
        // In the midst of a reply the end of nothing changes nothing.
        client.tell(&end);
        assert_eq!(client.wait_for_next("response_done")["status"], "completed", "{name}");
        // One behind a typed turn, whose answer is stopped.
        client.tell(&json!({"type": "text", "text": "Tell me a long story"}));
        client.wait_for_next("response_started");
        client.tell(&json!({"type": "interrupt"}));
        client.speak(&words(), 4);
        client.tell(&end);
        client.wait_for_next("response_started");
        assert_eq!(client.wait_for_next("response_done")["status"], "completed", "{name}");
        client.tell(&json!({"type": "ping", "id": "all"}));
        client.wait_for_next("pong");
        assert_eq!(client.of_type("error"), Vec::<&Value>::new(), "{name}");
        let spoken = client.of_type("transcript").into_iter().filter(|line| {
            line["role"] == "user"
                && line["text"].as_str().unwrap_or_default().contains("seconds of")
        });
        let spoken = spoken.count();
        assert_eq!(spoken, 3, "{name}: {:#?}\n{}", client.messages, daemon.log());
        client.tell(&json!({"type": "hang_up"}));
        client.assert_ends(&name, 1000, "hang_up");
    }
}

#[test]
fn voicelived_call_is_answered_with_every_kind_of_turn_detection() {
    for (name, file, mut settings) in ways("command") {
        settings.push(("AZURE_VOICE_LIVE_SESSION_FILE", file.path()));
        let daemon = Daemon::demo(&settings);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_voicelived"));
        let url = format!("ws://{}/ws", daemon.address);
        let speech = format!("{}/tests/audio/weather.wav", env!("CARGO_MANIFEST_DIR"));
        command.args(["call", "--url", &url, "--in", &speech, "--timeout", "10"]).env_clear();
        let output = command.output().expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{name}: {output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(text.contains("you: [simulator]"), "{name}: {text}");
    }
}

/// A word shorter than what the service commits, silence, and half a sample.
#[test]
fn a_turn_of_next_to_nothing_ends_without_a_complaint() {
    for (name, file, mut settings) in ways("nothing") {
        settings.push(("AZURE_VOICE_LIVE_SESSION_FILE", file.path()));
        let daemon = Daemon::demo(&settings);
        let mut client = welcomed(&daemon);
        for bytes in [2, 1, 0, 480, 4_800, 48_000] {
            client.send(tungstenite::Message::binary(vec![0; bytes]));
            client.tell(&json!({"type": "end_turn"}));
            client.read_one_within(Duration::from_millis(300));
        }
        client.tell(&json!({"type": "text", "text": "Are you there?"}));
        client.wait_for("it is answered", |it| {
            it["text"].as_str().is_some_and(|text| text.contains("Are you there?"))
        });
        assert_eq!(client.wait_for_next("response_done")["status"], "completed", "{name}");
        assert_eq!(client.of_type("error"), Vec::<&Value>::new(), "{name}");
        client.tell(&json!({"type": "hang_up"}));
        client.assert_ends(&name, 1000, "hang_up");
    }
}
