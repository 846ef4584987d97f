//! `voicelived simulate` through its socket: it is no kinder than the service. What the service was
//! recorded or logged to refuse is refused, and its shapes and orders are the recorded ones, in both
//! dialects and for both families of models. Then the daemon with such a service.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::client::{Client, speech};
use support::daemon::{Daemon, PATIENCE};
use voicelived::simulator::pattern_sample;

const AZURE_SPEECH: &str = "azure-speech";

/// A connection to the simulated service, in the dialect of dated api-versions.
fn dated(service: &Daemon, model: &str) -> Client {
    let target = format!("/voice-live/realtime?api-version=2026-07-15&model={model}");
    Client::of_service(service.address, &target)
}

/// The same in the GA dialect.
fn ga(address: SocketAddr) -> Client {
    Client::of_service(address, "/openai/v1/realtime?model=gpt-realtime")
}

fn tell(client: &mut Client, kind: &str, fields: Value) {
    let mut event = fields;
    event["type"] = kind.into();
    client.tell(&event);
}

/// The service's answer to a first `session.update`.
fn answer(service: &Daemon, model: &str, session: &Value) -> Value {
    let mut client = dated(service, model);
    tell(&mut client, "session.update", json!({ "session": session }));
    client.wait_for("an answer", |it| it["type"] == "session.updated" || it["type"] == "error")
}

fn by(transcriber: &str, language: Value) -> Value {
    json!({ "model": transcriber, "language": language })
}

/// Settings that one kind of model takes and another refuses, with the field that is at fault.
fn cases() -> Vec<(&'static str, Value, Option<&'static str>)> {
    let ends = json!({"model": "semantic_detection_v1"});
    let ends_of = |kind: &str| {
        json!({"turn_detection": {"type": kind, "end_of_utterance_detection": ends},
            "input_audio_transcription": null})
    };
    let end = Some("session.turn_detection.end_of_utterance_detection");
    let voice = |kind: &str, name: &str| json!({"voice": {"type": kind, "name": name}});
    let timed = |kind: &str, name: &str| {
        let mut session = voice(kind, name);
        session["output_audio_timestamp_types"] = json!(["word"]);
        session
    };
    let words = Some("session.output_audio_timestamp_types");
    let turns = Some("session.turn_detection");
    let azure = json!({"input_audio_transcription": by(AZURE_SPEECH, Value::Null)});
    let azure_by = |detection: &str| {
        let mut session = azure.clone();
        session["turn_detection"] = json!({ "type": detection });
        session
    };
    let several = |transcriber: &str| {
        json!({"turn_detection": {"type": "azure_semantic_vad"},
            "input_audio_transcription": by(transcriber, "en,de".into())})
    };
    let language = Some("session.input_audio_transcription.language");
    let echo = json!({"modalities": ["text"],
        "input_audio_echo_cancellation": {"type": "server_echo_cancellation"}});
    let echo_param = Some("session.input_audio_echo_cancellation");
    vec![
        ("gpt-realtime", azure_by("server_vad"), turns),
        ("gpt-realtime", azure_by("azure_semantic_vad_en"), turns),
        ("gpt-realtime-2.1", azure.clone(), turns),
        ("gpt-realtime", azure_by("azure_semantic_vad"), None),
        ("gpt-realtime", azure_by("azure_semantic_vad_multilingual"), None),
        ("gpt-4.1-mini", azure_by("server_vad"), None),
        ("gpt-realtime", ends_of("azure_semantic_vad"), end),
        ("gpt-realtime-2.1-mini", ends_of("server_vad"), end),
        ("azure-realtime", ends_of("azure_semantic_vad_multilingual"), end),
        ("gpt-4.1", ends_of("azure_semantic_vad"), None),
        (
            "gpt-4.1-mini",
            json!({"turn_detection": {"type": "semantic_vad"}}),
            Some("session.turn_detection.type"),
        ),
        ("gpt-realtime", json!({"turn_detection": {"type": "semantic_vad"}}), None),
        ("gpt-4.1-mini", voice("openai", "alloy"), Some("session.voice")),
        ("phi4-mm-realtime", json!({"voice": "marin"}), Some("session.voice")),
        ("azure-realtime", voice("azure-standard", "en-US-AvaNeural"), Some("session.voice")),
        ("azure-realtime", voice("openai", "alloy"), Some("session.voice")),
        ("gpt-realtime", voice("azure-realtime-native", "ava"), Some("session.voice")),
        ("azure-realtime", voice("azure-realtime-native", "ava"), None),
        ("gpt-realtime", voice("azure-standard", "en-US-AvaNeural"), None),
        ("phi4-mini", voice("openai", "alloy"), Some("session.voice")),
        ("gpt-realtime", timed("openai", "alloy"), words),
        ("gpt-realtime", timed("azure-standard", "en-US-AvaNeural"), None),
        ("gpt-4.1", timed("azure-standard", "en-US-AvaNeural"), None),
        ("gpt-realtime", several("whisper-1"), language),
        ("gpt-realtime", several(AZURE_SPEECH), None),
        (
            "gpt-4.1",
            json!({"input_audio_noise_reduction": {"type": "far_field"}}),
            Some("session.input_audio_noise_reduction.type"),
        ),
        ("gpt-realtime", json!({"input_audio_noise_reduction": {"type": "far_field"}}), None),
        ("gpt-realtime", json!({"model": "gpt-realtime"}), Some("session.model")),
        ("gpt-realtime", echo.clone(), echo_param),
        ("gpt-4.1-mini", echo, echo_param),
        ("gpt-realtime", json!({"modalities": ["text"]}), None),
    ]
}

#[test]
fn what_the_service_refuses_is_refused() {
    let service = Daemon::simulate(&["no-welcome"]);
    for (model, session, param) in cases() {
        let answer = answer(&service, model, &session);
        let found = answer["error"]["param"].as_str();
        assert_eq!(found, param, "{model} {session}: {answer}");
        let echo = param.is_some_and(|it| it.contains("echo"));
        let code = &answer["error"]["code"];
        assert!(!echo || code == "ec_not_supported", "{answer}");
        if param == Some("session.turn_detection") {
            assert_eq!(
                (code.as_str(), &answer["error"]["event_id"]),
                (Some("invalid_request_error"), &Value::Null)
            );
        }
    }
}

#[test]
fn a_refused_first_configuration_cannot_be_mended_on_the_same_connection() {
    let service = Daemon::simulate(&["no-welcome"]);
    let mut client = dated(&service, "gpt-realtime");
    tell(
        &mut client,
        "session.update",
        json!({"session": {"voice": {"type": "azure-realtime-native", "name": "ava"}}}),
    );
    client.wait_for_next("error");
    tell(&mut client, "session.update", json!({"session": {"voice": "alloy"}}));
    client.wait_for_next("error");
    tell(&mut client, "response.create", json!({}));
    client.wait_for_next("error");
    assert!(client.of_type("session.updated").is_empty());
}

/// Speaks in real time times four, and reads to the reply's end.
fn spoken_turn(client: &mut Client, name: &str) -> Vec<Value> {
    let seen = client.messages.len();
    for chunk in [speech(name), speech("silence-1s")].concat().chunks(9600) {
        tell(client, "input_audio_buffer.append", json!({"audio": STANDARD.encode(chunk)}));
        client.read_until_time(Instant::now() + Duration::from_millis(50));
    }
    let is_done = |(_, event): &(usize, Value)| event["type"] == "response.done";
    if !client.messages[seen..].iter().any(is_done) {
        client.wait_for_next("response.done");
    }
    client.messages[seen..].iter().map(|(_, event)| event.clone()).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    kinds.dedup();
    kinds
}

fn find<'a>(events: &'a [Value], kind: &str) -> &'a Value {
    events.iter().find(|event| event["type"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

#[test]
fn a_cascade_model_tells_the_words_then_the_item_then_the_response_and_speaks_in_a_burst() {
    let service = Daemon::simulate(&["no-welcome", "reply-seconds=10"]);
    let mut client = dated(&service, "gpt-4.1-mini");
    let created = client.wait_for("it", |event| event["type"] == "session.created");
    let session = &created["session"];
    assert_eq!(session["voice"], json!({"type": "azure-standard", "name": "en-US-AvaNeural"}));
    assert_eq!(session["input_audio_transcription"]["model"], AZURE_SPEECH);
    let events = spoken_turn(&mut client, "weather");
    assert_eq!(
        kinds(&events)[2..8],
        [
            "input_audio_buffer.committed",
            "conversation.item.input_audio_transcription.completed",
            "conversation.item.created",
            "response.created",
            "response.output_item.added",
            "conversation.item.created",
        ]
    );
    assert_eq!(find(&events, "response.output_item.added")["item"]["status"], "incomplete");
    assert_eq!(find(&events, "response.created")["response"]["conversation_id"], "");
    let deltas = events.iter().filter(|event| event["type"] == "response.audio.delta");
    let sizes: Vec<usize> =
        deltas.map(|it| it["delta"].as_str().map_or(0, |it| it.len() / 4 * 3)).collect();
    assert_eq!((sizes.iter().sum::<usize>(), sizes.iter().max()), (480_000, Some(&24_000)));
}

#[test]
fn the_ga_dialect_has_the_recorded_shapes() {
    let service = Daemon::simulate(&["no-welcome"]);
    let mut client = ga(service.address);
    let audio = json!({"input": {"transcription": {"model": "whisper-1"}}});
    tell(&mut client, "session.update", json!({"session": {"type": "realtime", "audio": audio}}));
    client.wait_for_next("session.updated");
    let events = spoken_turn(&mut client, "weather");
    assert_eq!(find(&events, "response.content_part.added")["part"]["type"], "audio");
    assert_eq!(find(&events, "response.content_part.done")["part"]["type"], "audio");
    let done = &find(&events, "response.output_item.done")["item"];
    assert_eq!(done["content"][0]["type"], "output_audio");
    for event in &events {
        assert!(event["item"].get("object").is_none(), "{event}");
    }
    let words = find(&events, "conversation.item.input_audio_transcription.completed");
    assert_eq!(words["usage"]["type"], "duration");

    let said = json!([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "aside"}]}]);
    let seen = client.messages.len();
    tell(
        &mut client,
        "response.create",
        json!({"response": {"conversation": "none", "input": said}}),
    );
    let done = client.wait_for_next("response.done");
    assert_eq!(done["response"]["conversation_id"], Value::Null);
    let aside = &client.messages[seen..];
    assert!(aside.iter().all(|(_, event)| event["type"] != "conversation.item.added"));
    tell(&mut client, "output_audio_buffer.clear", json!({}));
    let cleared = client.wait_for_next("output_audio_buffer.cleared");
    assert_eq!(cleared["response_id"], done["response"]["id"]);
}

#[test]
fn a_text_only_call_sends_no_echo_cancellation_and_is_answered_in_text() {
    let service = Daemon::simulate(&["no-welcome"]);
    let path =
        std::env::temp_dir().join(format!("voicelived-text-only-{}.json", std::process::id()));
    std::fs::write(&path, r#"{"modalities": ["text"]}"#).expect("a file");
    let file = path.to_str().expect("UTF-8");
    for model in ["gpt-realtime", "gpt-4.1-mini"] {
        let settings = [("AZURE_VOICE_LIVE_SESSION_FILE", file), ("VOICE_LIVE_MODEL", model)];
        let daemon = Daemon::run(service.address, &settings);
        let mut client = Client::connect(daemon.address);
        client.wait_until_active();
        client.tell(&json!({"type": "text", "text": "Good morning"}));
        let told = client.wait_for("the answer", |it| it["type"] == "transcript");
        assert_eq!(told["text"], "[simulator] You wrote: Good morning", "{model}");
        assert!(client.audio.is_empty());
    }
    let _ = std::fs::remove_file(path);
}

#[test]
fn a_transcript_that_comes_again_without_words_is_told_once() {
    let service = Daemon::simulate(&["no-welcome", "transcript=twice"]);
    for model in ["gpt-4.1-mini", "gpt-realtime"] {
        let daemon = Daemon::run(service.address, &[("VOICE_LIVE_MODEL", model)]);
        let mut client = Client::connect(daemon.address);
        client.wait_until_active();
        client.speak(&[speech("weather"), speech("silence-1s")].concat(), 4);
        client.wait_for("the reply", |it| it["type"] == "response_done");
        client.read_until_time(Instant::now() + Duration::from_millis(300));
        let users = client.of_type("transcript").into_iter().filter(|it| it["role"] == "user");
        let words: Vec<_> = users.map(|it| it["text"].as_str().unwrap_or_default()).collect();
        assert!(words.len() == 1 && words[0].ends_with("of speech)"), "{model}: {words:?}");
    }
}

/// The service has finished its reply before the user hears a second of it. So the barge-in finds
/// no response, and yet nothing of the reply may follow it.
#[test]
fn a_barge_in_behind_a_burst_of_speech_still_silences_it() {
    let service = Daemon::simulate(&["no-welcome", "reply-seconds=30"]);
    let daemon = Daemon::run(service.address, &[("VOICE_LIVE_MODEL", "gpt-4.1-mini")]);
    let mut client = Client::connect_with_window(daemon.address, 8 * 1024);
    client.wait_until_active();
    client.tell(&json!({"type": "text", "text": "a story"}));
    let start = Instant::now();
    let playable = || usize::try_from(start.elapsed().as_millis()).unwrap_or(0) * 48;
    // Takes its audio in real time, and speaks after a second.
    let mut said = speech("weather").into_iter();
    while client.of_type("speech_started").is_empty() {
        assert!(start.elapsed() < PATIENCE, "no barge-in");
        if start.elapsed() > Duration::from_secs(1) {
            let frame: Vec<u8> = said.by_ref().take(960).collect();
            client.send(tungstenite::Message::binary(frame));
        }
        let due = Instant::now() + Duration::from_millis(20);
        while client.audio.len() < playable()
            && client.read_one_within(due.saturating_duration_since(Instant::now()))
        {}
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let heard = client.audio.len();
    client.read_until_time(Instant::now() + Duration::from_millis(300));
    assert_eq!(client.audio.len(), heard, "nothing of the interrupted reply comes after");
    let whole = (0_u64..).flat_map(|at| pattern_sample(at).to_le_bytes());
    assert!(client.audio.iter().copied().eq(whole.take(heard)), "and what came is in order");
    assert!(heard < 30 * 48_000 / 2, "{heard} bytes");
}
