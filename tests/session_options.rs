//! The session file reaches every option of the service: what is written there is what the service is
//! sent. An option of another type than the default's brings nothing of the default along.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::support;
use serde_json::{Value, json};
use support::client::Client;
use support::daemon::{Daemon, KEY};
use support::service::{Lines, Service};

/// A session file of this test's own.
fn session_file(name: &str, content: &Value) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("options-{name}.json"));
    fs::write(&path, content.to_string()).expect("a file");
    path
}

/// What `voicelived check` says with this session file; its exit code first.
fn check(service: SocketAddr, file: &PathBuf, settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_voicelived"))
        .arg("check")
        .env_clear()
        .env("AZURE_VOICE_LIVE_ENDPOINT", format!("ws://{service}"))
        .env("AZURE_VOICE_LIVE_API_KEY", KEY)
        .env("AZURE_VOICE_LIVE_SESSION_FILE", file)
        .envs(settings.iter().copied())
        .current_dir(std::env::temp_dir())
        .output()
        .expect("it runs");
    let told = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(told).expect("UTF-8"))
}

/// The session that the service is asked for with this session file.
fn asked(name: &str, overrides: &Value, settings: &[(&str, &str)]) -> Value {
    let service = Service::new();
    let file = session_file(name, overrides);
    let (code, told) = check(service.address, &file, settings);
    assert_eq!(code, Some(0), "{name}: {told}");
    let mut calls = service.calls();
    assert_eq!(calls.len(), 1, "{name}: {told}");
    calls.remove(0).session
}

#[test]
fn an_object_of_another_type_replaces_the_default_whole() {
    for (key, object) in [
        ("turn_detection", json!({"type": "server_vad"})),
        ("turn_detection", json!({"type": "server_vad", "threshold": 0.4})),
        ("turn_detection", json!({"type": "semantic_vad", "eagerness": "low"})),
        ("turn_detection", json!({"type": "azure_semantic_vad_en", "speech_duration_ms": 80})),
        (
            "turn_detection",
            json!({"type": "azure_semantic_vad_multilingual", "languages": ["en", "de"]}),
        ),
        ("voice", json!({"type": "avatar-voice-sync", "model": "DragonLatestNeural"})),
        ("voice", json!({"type": "azure-custom", "name": "Ours", "endpoint_id": "e"})),
        ("voice", json!({"type": "azure-personal", "name": "Mine", "model": "DragonLatestNeural"})),
        ("voice", json!({"type": "openai", "name": "marin"})),
        ("voice", json!("coral")),
        ("input_audio_noise_reduction", json!({"type": "near_field"})),
        ("input_audio_noise_reduction", json!({"type": "far_field"})),
        ("tool_choice", json!({"type": "function", "name": "get_weather"})),
    ] {
        let session = asked("type", &json!({ key: object }), &[]);
        assert_eq!(session[key], object, "{key}");
    }
}

#[test]
fn an_object_of_the_same_type_or_of_none_is_laid_over_the_default() {
    for typed in [json!({}), json!({"type": "azure_semantic_vad"})] {
        let mut over = typed;
        over["silence_duration_ms"] = json!(900);
        over["end_of_utterance_detection"] = json!({"model": "semantic_detection_v1"});
        let turns = &asked("same", &json!({"turn_detection": over}), &[])["turn_detection"];
        assert_eq!(turns["type"], "azure_semantic_vad");
        assert_eq!(turns["silence_duration_ms"], 900);
        assert_eq!(turns["end_of_utterance_detection"]["model"], "semantic_detection_v1");
        assert_eq!(turns["auto_truncate"], true, "the default's own");
    }
    let voice = asked("voice", &json!({"voice": {"rate": "1.2"}}), &[]);
    assert_eq!(voice["voice"]["type"], "azure-standard");
    assert_eq!(voice["voice"]["rate"], "1.2");
    for (name, kind) in [
        ("alloy", "openai"),
        ("ava", "azure-realtime-native"),
        ("de-DE-KatjaNeural", "azure-standard"),
    ] {
        let voice = asked("named", &json!({"voice": {"name": name}}), &[]);
        assert_eq!(voice["voice"], json!({"name": name, "type": kind}), "a name tells its kind");
    }
    let text_only = asked("text-only", &json!({"modalities": ["text"]}), &[]);
    assert_eq!(text_only["input_audio_echo_cancellation"], Value::Null, "nothing echoes");
    let echo = json!({"input_audio_echo_cancellation": {"reference_source": "client"}});
    assert_eq!(
        asked("echo", &echo, &[])["input_audio_echo_cancellation"],
        json!({"type": "server_echo_cancellation", "reference_source": "client"})
    );
}

#[test]
fn null_removes_a_key_or_switches_a_feature_off() {
    let removed = json!({
        "turn_detection": {"remove_filler_words": null, "auto_truncate": null},
        "voice": {"temperature": null},
        "modalities": null,
        "tools": null,
        "temperature": null,
        "avatar": {"character": "lisa", "style": null},
    });
    let session = asked("null", &removed, &[]);
    let turns = session["turn_detection"].as_object().expect("an object");
    assert!(!turns.contains_key("remove_filler_words") && !turns.contains_key("auto_truncate"));
    assert_eq!(turns["silence_duration_ms"], 500);
    for gone in ["modalities", "tools", "temperature"] {
        assert!(session.get(gone).is_none(), "{gone}");
    }
    assert_eq!(session["avatar"], json!({"character": "lisa"}));
    assert!(session["voice"].get("temperature").is_none());
    // With these the service has a default that is on; only null turns it off.
    for key in [
        "turn_detection",
        "input_audio_transcription",
        "input_audio_noise_reduction",
        "input_audio_echo_cancellation",
    ] {
        let session = asked("off", &json!({ key: null }), &[]);
        assert_eq!(session.get(key), Some(&Value::Null), "{key}");
    }
    let none = asked("none", &json!({"turn_detection": {"type": "none"}}), &[]);
    assert_eq!(none.get("turn_detection"), Some(&Value::Null));
}

/// A service that speaks the GA dialect and takes everything.
fn ga_service() -> Service {
    let session = json!({"type": "realtime", "id": "s", "model": "m"});
    let created = json!({"type": "session.created", "session": session});
    Service::saying(Lines { first: vec![created], updated: None, then: Vec::new() })
}

fn asked_in_ga(name: &str, overrides: &Value, settings: &[(&str, &str)]) -> (Value, String) {
    let service = ga_service();
    let file = session_file(name, overrides);
    let (code, told) = check(service.address, &file, settings);
    assert_eq!(code, Some(0), "{told}");
    (service.calls().remove(0).session, told)
}

const V1: (&str, &str) = ("AZURE_VOICE_LIVE_API_VERSION", "v1");

#[test]
fn v1_is_sent_what_its_contract_has() {
    for settings in [&[V1][..], &[]] {
        let (session, _) = asked_in_ga("v1", &json!({}), settings);
        assert_eq!(
            session["audio"]["input"]["turn_detection"],
            json!({"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300,
                "silence_duration_ms": 500, "create_response": true, "interrupt_response": true})
        );
        assert_eq!(session["audio"]["input"].get("noise_reduction"), None);
        let echo = session["audio"]["input"]["echo_cancellation"].as_object().expect("an object");
        assert!(!echo.contains_key("type"), "{echo:?}");
        let known = [
            "format",
            "transcription",
            "noise_reduction",
            "turn_detection",
            "echo_cancellation",
            "channels",
        ];
        for key in session["audio"]["input"].as_object().expect("an object").keys() {
            assert!(known.contains(&key.as_str()), "{key}");
        }
    }
}

#[test]
fn a_dated_session_file_becomes_what_v1_has_of_it() {
    let over = json!({
        "voice": {"type": "azure-custom", "name": "Ours", "endpoint_id": "e", "rate": "1.2",
            "pitch": "+10%", "temperature": 0.5},
        "turn_detection": {"type": "azure_semantic_vad_en", "threshold": 0.3,
            "speech_duration_ms": 80, "remove_filler_words": true, "silence_duration_ms": 700},
        "input_audio_transcription": {"model": "whisper-1", "prompt": "Ava", "phrase_list": ["x"]},
        "input_audio_noise_reduction": {"type": "far_field"},
        "input_audio_echo_cancellation": {"reference_source": "client", "channels": 2},
        "output_audio_timestamp_types": ["word"],
        "temperature": 0.8,
        "interim_response": {"type": "static_interim_response", "texts": ["One moment."]},
        "metadata": {"a": "b"},
        "max_response_output_tokens": 300,
        "truncation": "disabled",
    });
    let (session, told) = asked_in_ga("v1-dated", &over, &[V1]);
    let audio = &session["audio"];
    assert_eq!(
        audio["output"],
        json!({"format": {"type": "audio/pcm", "rate": 24_000}, "voice": "Ours",
            "voice_type": "azure-custom", "custom_voice_endpoint_id": "e", "pitch": "+10%",
            "voice_temperature": 0.5, "output_audio_timestamp_types": ["word"]})
    );
    assert_eq!(
        audio["input"]["turn_detection"],
        json!({"type": "server_vad", "threshold": 0.3, "silence_duration_ms": 700})
    );
    assert_eq!(audio["input"]["transcription"], json!({"model": "whisper-1", "prompt": "Ava"}));
    assert_eq!(audio["input"]["noise_reduction"], json!({"type": "far_field"}));
    assert_eq!(
        audio["input"]["echo_cancellation"],
        json!({"reference_source": "client", "channels": 2})
    );
    assert_eq!(
        (&session["max_output_tokens"], &session["truncation"]),
        (&json!(300), &json!("disabled"))
    );
    for gone in ["temperature", "interim_response", "metadata", "output_audio_timestamp_types"] {
        assert!(session.get(gone).is_none(), "{gone}");
    }
    // What the owner asked for and does not get is told.
    for left_out in ["voice.rate", "turn_detection.type", "phrase_list", "interim_response"] {
        assert!(told.contains(left_out), "{left_out}: {told}");
    }
}

#[test]
fn an_owner_who_writes_in_ga_words_gets_them() {
    let over = json!({"audio": {
        "input": {"turn_detection": {"type": "semantic_vad", "eagerness": "high"},
            "noise_reduction": null, "transcription": null, "echo_cancellation": null},
        "output": {"voice": "cedar", "voice_type": "openai", "speed": 1.1}}});
    let (session, _) = asked_in_ga("ga-words", &over, &[V1]);
    let input = &session["audio"]["input"];
    assert_eq!(input["turn_detection"], json!({"type": "semantic_vad", "eagerness": "high"}));
    for off in ["noise_reduction", "transcription", "echo_cancellation"] {
        assert_eq!(input.get(off), Some(&Value::Null), "{off}");
    }
    assert_eq!(
        (&session["audio"]["output"]["voice"], &session["audio"]["output"]["speed"]),
        (&json!("cedar"), &json!(1.1))
    );
}

/// Clients send and get one channel of 24 kHz, whatever the session file would like.
#[test]
fn a_session_file_does_not_change_the_clients_sound() {
    for (over, told) in [
        (
            json!({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16_000}}}}),
            "audio.input.format.rate must stay 24000",
        ),
        (
            json!({"audio": {"output": {"format": {"type": "audio/pcmu"}}}}),
            "audio.output.format.type must stay \"audio/pcm\"",
        ),
        (json!({"output_audio_format": "pcm16_16000hz"}), "output_audio_format must stay"),
        (json!({"input_audio_sampling_rate": 16_000}), "input_audio_sampling_rate must stay"),
    ] {
        let file = session_file("other-sound", &over);
        let service = Service::new();
        let (code, said) = check(service.address, &file, &[]);
        assert!(code == Some(78) && said.contains(told), "{over}: {said}");
        assert!(service.calls().is_empty(), "{over}: nothing is asked for");
    }
    let cancellation = |option: Value| json!({"input_audio_echo_cancellation": option});
    let ga = |option: Value| json!({"audio": {"input": {"echo_cancellation": option}}});
    for (over, keys) in [
        (cancellation(json!({"channels": 2})), &["input_audio_echo_cancellation.channels"][..]),
        (
            cancellation(json!({"reference_source": "client", "channels": 2})),
            &["cancellation.channels in", "cancellation.reference_source in"],
        ),
        (ga(json!({"channels": 2})), &["audio.input.echo_cancellation.channels"]),
        (ga(json!({"reference_source": "client"})), &["input.echo_cancellation.reference_source"]),
        (cancellation(json!({"reference_source": "server", "channels": 1})), &[]),
        (cancellation(Value::Null), &[]),
    ] {
        let (_, said) = check(Service::new().address, &session_file("channels", &over), &[]);
        for key in keys {
            assert!(said.contains(key), "{over}: {key}: {said}");
        }
        assert_eq!(said.matches("clients send one channel").count(), keys.len(), "{over}: {said}");
    }
}

#[test]
fn v1_gets_the_transcriber_that_its_contract_has() {
    for (model, language, expected) in [
        ("gpt-realtime-2.1-mini", "en-US", json!({"model": "whisper-1", "language": "en"})),
        ("gpt-realtime", "de", json!({"model": "whisper-1", "language": "de"})),
        ("gpt-4.1", "de-DE", json!({"model": "azure-speech", "language": "de-DE"})),
    ] {
        let settings = [V1, ("VOICE_LIVE_MODEL", model), ("AZURE_VOICE_LIVE_LANGUAGE", language)];
        let (session, _) = asked_in_ga("v1-words", &json!({}), &settings);
        assert_eq!(session["audio"]["input"]["transcription"], expected, "{model}");
    }
}

#[test]
fn the_simulator_takes_what_is_documented_and_in_no_sdk() {
    let service = Daemon::simulate(&["no-welcome"]);
    for (model, over) in [
        ("gpt-realtime", json!({"turn_detection": {"type": "semantic_vad", "eagerness": "auto"}})),
        ("gpt-4.1", json!({"turn_detection": {"type": "server_vad", "speech_duration_ms": 200}})),
        ("gpt-4.1", json!({"input_audio_transcription": {"model": "mai-transcribe"}})),
        ("gpt-realtime", json!({"turn_detection": null, "input_audio_transcription": null})),
    ] {
        let file = session_file("documented", &over);
        let (code, told) = check(service.address, &file, &[("VOICE_LIVE_MODEL", model)]);
        assert_eq!(code, Some(0), "{over}: {told}");
    }
}

#[test]
fn a_voice_that_the_model_refuses_is_told_at_start_and_in_check() {
    let openai = json!({"voice": {"type": "openai", "name": "marin"}});
    let custom = json!({"voice": {"type": "azure-custom", "name": "Ours", "endpoint_id": "e"}});
    for (model, over, voice, told) in [
        ("gpt-4.1", json!({}), "alloy", "AZURE_VOICE_LIVE_VOICE: gpt-4.1 refuses voices of OpenAI"),
        ("phi4-mini", json!({}), "marin", "AZURE_VOICE_LIVE_VOICE: phi4-mini refuses"),
        ("gpt-4.1", openai, "", "voice in AZURE_VOICE_LIVE_SESSION_FILE: gpt-4.1 refuses"),
        ("gpt-5", json!({"voice": "marin"}), "", "voice in AZURE_VOICE_LIVE_SESSION_FILE"),
        ("azure-realtime", custom, "", "azure-realtime refuses all voices but its own"),
        ("azure-realtime", json!({}), "coral", "azure-realtime refuses all voices but its own"),
        ("gpt-realtime", json!({}), "yunxi", "gpt-realtime refuses voices of azure-realtime"),
        ("gpt-realtime,gpt-4.1", json!({}), "cedar", "AZURE_VOICE_LIVE_VOICE: gpt-4.1 refuses"),
    ] {
        let file = session_file("refused-voice", &over);
        let service = Service::new();
        let settings = [("VOICE_LIVE_MODEL", model), ("AZURE_VOICE_LIVE_VOICE", voice)];
        let (_, said) = check(service.address, &file, &settings);
        assert!(said.contains(told), "{model} {over} {voice}: {said}");
        let file = ("AZURE_VOICE_LIVE_SESSION_FILE", file.to_str().expect("UTF-8"));
        let daemon = Daemon::run(service.address, &[settings[0], settings[1], file]);
        daemon.wait_for_log(told);
    }
    // What fits is not warned of; nothing is known of a deployment.
    for (model, voice) in
        [("gpt-realtime", "alloy"), ("gpt-4.1", ""), ("azure-realtime", ""), ("ours", "alloy")]
    {
        let file = session_file("fits", &json!({}));
        let settings = [("VOICE_LIVE_MODEL", model), ("AZURE_VOICE_LIVE_VOICE", voice)];
        let (code, said) = check(Service::new().address, &file, &settings);
        assert!(code == Some(0) && !said.contains("refuses"), "{model} {voice}: {said}");
    }
}

#[test]
fn the_simulator_takes_a_call_in_either_dialect() {
    for settings in [&[V1][..], &[]] {
        let service = Daemon::simulate(&["no-welcome"]);
        let daemon = Daemon::run(service.address, settings);
        let mut client = Client::connect(daemon.address);
        client.wait_until_active();
    }
}
