//! The service refuses a model, a transcriber or a language. The call falls back to the next
//! candidate, once, and the daemon remembers the candidate that the service has accepted.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support;
use serde_json::json;
use support::client::{Client, speech};
use support::daemon::{Daemon, KEY};
use support::service::{Lines, Service};
use support::switch::Switch;

/// The defaults, in their order.
const MODELS: [&str; 2] = ["gpt-realtime-2.1-mini", "gpt-realtime-mini"];

/// Makes a call and hangs up.
fn call(daemon: &Daemon) -> Client {
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    client.tell(&json!({"type": "hang_up"}));
    client.assert_ends("hanging up", 1000, "hang_up");
    client
}

/// Lines of a daemon's log with this in them.
fn lines(daemon: &Daemon, text: &str) -> Vec<String> {
    daemon.log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

fn check(service: &Daemon, settings: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_voicelived"))
        .arg("check")
        .env_clear()
        .env("AZURE_VOICE_LIVE_ENDPOINT", format!("ws://{}", service.address))
        .env("AZURE_VOICE_LIVE_API_KEY", KEY)
        .envs(settings.iter().copied())
        .current_dir(std::env::temp_dir())
        .output()
        .expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A session file of this test's own.
fn session_file(name: &str, content: &serde_json::Value) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("models-{name}.json"));
    fs::write(&path, content.to_string()).expect("a file");
    path
}

#[test]
fn a_refused_default_is_replaced_told_and_remembered() {
    for how in ["404", "400", "error", "update"] {
        let word = format!("refuse-model={}:{how}", MODELS[0]);
        let service = Daemon::simulate(&["no-welcome", &word]);
        let daemon = Daemon::run(service.address, &[]);
        let descriptors = daemon.descriptors();
        for _ in 0..3 {
            let client = call(&daemon);
            let states: Vec<_> =
                client.of_type("call_state").iter().map(|message| &message["state"]).collect();
            assert_eq!(
                states,
                ["connecting", "active", "ended"],
                "{how}: the caller sees none of it"
            );
        }
        let refused = lines(&daemon, "is refused; gpt-realtime-mini is tried instead");
        assert_eq!(refused.len(), 1, "{how}: asked for once: {refused:?}");
        assert!(refused[0].contains("WARN") && refused[0].contains("[simulator]"), "{refused:?}");
        assert_eq!(lines(&daemon, "later calls begin with it").len(), 1, "{how}");
        let failed = u64::from(["404", "400"].contains(&how));
        daemon.assert_counted("service_connects_total", "failed", failed);
        daemon.assert_counted("service_connects_total", "ok", 4 - failed);
        daemon.assert_nothing_left(descriptors);

        let (code, told, fault) = check(&service, &[]);
        assert_eq!((code, &*fault), (Some(0), ""), "{told}");
        for part in ["gpt-realtime-mini is tried instead", "calls are made with gpt-realtime-mini"]
        {
            assert!(told.contains(part), "{how}: {part}: {told}");
        }
        assert!(told.contains("2026-12-15") && told.contains("2027-06-15"), "both ends: {told}");
    }
}

/// The model of the running session is refused to the next one, which falls back like a new call.
#[test]
fn a_model_that_is_gone_when_the_next_session_is_made_is_replaced_too() {
    for how in ["404", "error", "update"] {
        let first = Daemon::simulate(&["no-welcome", "session-seconds=8"]);
        let word = format!("refuse-model={}:{how}", MODELS[0]);
        let next = Daemon::simulate(&["no-welcome", &word]);
        let switch = Switch::to(first.address);
        let daemon = Daemon::run(switch.address, &[]);
        let mut client = Client::connect(daemon.address);
        client.wait_until_active();
        switch.turn_to(next.address);
        daemon.wait_for_log("went on to the next session");
        assert_eq!(lines(&daemon, "is refused").len(), 1, "{how}: {}", daemon.log());
        assert_eq!(lines(&daemon, "later calls begin with it").len(), 1, "{how}");
        assert!(!client.told().contains("reconnecting"), "{how}: {}", client.told());
        client.tell(&json!({"type": "hang_up"}));
        client.assert_ends(how, 1000, "hang_up");
    }
}

#[test]
fn settings_that_are_read_again_begin_with_the_first_model() {
    let word = format!("refuse-model={}", MODELS[0]);
    let service = Daemon::simulate(&["no-welcome", &word]);
    let daemon = Daemon::run(service.address, &[]);
    call(&daemon);
    call(&daemon);
    daemon.signal("HUP");
    daemon.wait_for_log("settings: read again");
    call(&daemon);
    assert_eq!(lines(&daemon, "is tried instead").len(), 2);
}

#[test]
fn a_model_that_its_owner_set_alone_is_never_replaced() {
    for how in ["404", "400", "error", "update"] {
        let word = format!("refuse-model=gpt-realtime:{how}");
        let service = Daemon::simulate(&[&word]);
        let settings = [("VOICE_LIVE_MODEL", "gpt-realtime")];
        let daemon = Daemon::run(service.address, &settings);
        let mut client = Client::connect(daemon.address);
        let ended = client.wait_for_end();
        let message = ended["message"].as_str().expect("a sentence");
        assert!(message.contains("gpt-realtime"), "{how}: {message}");
        assert!(lines(&daemon, "is tried instead").is_empty(), "{how}");
        let (code, _, fault) = check(&service, &settings);
        assert!(code != Some(0) && fault.contains("gpt-realtime"), "{how}: {code:?} {fault}");
    }
}

#[test]
fn a_list_that_is_refused_as_a_whole_ends_the_call_after_one_try_each() {
    let service =
        Daemon::simulate(&["refuse-model=a", "refuse-model=b:error", "refuse-model=c:400"]);
    let daemon = Daemon::run(service.address, &[("VOICE_LIVE_MODEL", "a,b,c")]);
    let mut client = Client::connect(daemon.address);
    let message = client.assert_ends("all refused", 1011, "bad_request");
    assert!(message.contains("VOICE_LIVE_MODEL") && message.contains("Unsupported model: c"));
    let tried = lines(&daemon, "is tried instead");
    assert_eq!(tried.len(), 2, "{tried:?}");
    assert!(lines(&daemon, "later calls begin").is_empty(), "nothing was taken");
}

#[test]
fn other_refusals_are_not_taken_for_one_of_the_model() {
    for word in ["refuse=400", "refuse=404", "refuse=401", "refuse=429", "refuse-session"] {
        let service = Daemon::simulate(&[word]);
        let daemon = Daemon::run(service.address, &[]);
        Client::connect(daemon.address).wait_for_end();
        assert!(lines(&daemon, "is tried instead").is_empty(), "{word}");
    }
}

/// What the daemon asks of a service that takes everything.
fn asked(settings: &[(&str, &str)]) -> (String, serde_json::Value) {
    let service = Service::new();
    let daemon = Daemon::run(service.address, settings);
    call(&daemon);
    let calls = service.calls();
    let [told] = calls.as_slice() else { panic!("{} calls", calls.len()) };
    let target = told.head.split_whitespace().nth(1).expect("a target").to_owned();
    (target, told.session["input_audio_transcription"].clone())
}

#[test]
fn the_transcriber_and_the_form_of_the_language_follow_the_model() {
    let azure = |language: &str| json!({"model": "azure-speech", "language": language});
    let whisper = |language: &str| json!({"model": "whisper-1", "language": language});
    for (model, language, expected) in [
        ("", "en-US", azure("en-US")),
        ("gpt-realtime-2.1-mini", "en,de", azure("en,de")),
        ("gpt-realtime-mini", "en-US", whisper("en")),
        ("gpt-realtime", "de", whisper("de")),
        ("gpt-realtime", "en,de", azure("en,de")),
        ("gpt-realtime", "", json!({"model": "whisper-1"})),
        ("gpt-realtime-1.5", "", json!({"model": "azure-speech"})),
        ("gpt-4.1", "pt-BR", azure("pt-BR")),
    ] {
        let settings = [("VOICE_LIVE_MODEL", model), ("AZURE_VOICE_LIVE_LANGUAGE", language)];
        let (target, told) = asked(&settings);
        assert_eq!(told, expected, "{model} {language}");
        let model = if model.is_empty() { MODELS[0] } else { model };
        assert!(target.ends_with(&format!("&model={model}")), "{target}");
    }
}

#[test]
fn an_owners_own_transcriber_wins_and_is_never_replaced() {
    let file =
        session_file("own", &json!({"input_audio_transcription": {"model": "gpt-4o-transcribe"}}));
    let file = [("AZURE_VOICE_LIVE_SESSION_FILE", file.to_str().expect("UTF-8"))];
    assert_eq!(asked(&file).1, json!({"model": "gpt-4o-transcribe"}));
    let service = Daemon::simulate(&["refuse-transcriber=gpt-4o-transcribe"]);
    let settings = [file[0], ("VOICE_LIVE_MODEL", "gpt-realtime")];
    let daemon = Daemon::run(service.address, &settings);
    Client::connect(daemon.address).assert_ends("its own", 1011, "session_refused");
    assert!(lines(&daemon, "is tried instead").is_empty());
}

/// A hint in the session file gets the transcriber's form as the setting does, and is left out when the
/// service refuses it all the same.
#[test]
fn a_language_of_the_session_file_has_the_form_that_the_transcriber_takes() {
    for (model, own, expected) in [
        (
            "gpt-realtime",
            json!({"language": "en-US"}),
            json!({"model": "whisper-1", "language": "en"}),
        ),
        (
            "gpt-realtime",
            json!({"language": "en,de"}),
            json!({"model": "azure-speech", "language": "en,de"}),
        ),
        (
            "gpt-4.1",
            json!({"language": "en-US"}),
            json!({"model": "azure-speech", "language": "en-US"}),
        ),
        (
            "gpt-realtime",
            json!({"model": "whisper-1", "language": "en-US"}),
            json!({"model": "whisper-1", "language": "en"}),
        ),
        (
            "gpt-realtime",
            json!({"model": "whisper-1", "language": "en,de"}),
            json!({"model": "whisper-1"}),
        ),
        ("gpt-realtime", json!({"language": null}), json!({"model": "whisper-1"})),
    ] {
        let file = session_file("own-language", &json!({ "input_audio_transcription": own }));
        let file = ("AZURE_VOICE_LIVE_SESSION_FILE", file.to_str().expect("UTF-8"));
        let settings = [file, ("VOICE_LIVE_MODEL", model), ("AZURE_VOICE_LIVE_LANGUAGE", "fr")];
        assert_eq!(asked(&settings).1, expected, "{own}");
    }
    let file =
        session_file("refused", &json!({"input_audio_transcription": {"language": "de-DE"}}));
    let settings = [
        ("AZURE_VOICE_LIVE_SESSION_FILE", file.to_str().expect("UTF-8")),
        ("VOICE_LIVE_MODEL", "gpt-4.1"),
    ];
    let service = Daemon::simulate(&["no-welcome", "refuse-language"]);
    let daemon = Daemon::run(service.address, &settings);
    Client::connect(daemon.address).wait_until_active();
    assert_eq!(lines(&daemon, "is not told the language de-DE").len(), 1);
}

#[test]
fn a_refused_transcriber_is_replaced_once_and_then_left_out() {
    for (faults, model, said) in [
        (&["refuse-transcriber=whisper-1"][..], "gpt-realtime", "azure-speech is tried instead"),
        (&["refuse-transcriber=azure-speech"], "my-deployment", "whisper-1 is tried instead"),
        (
            &["refuse-transcriber=whisper-1", "refuse-transcriber=azure-speech"],
            "gpt-realtime",
            "without captions",
        ),
        // The simulator refuses what the service does: whisper-1 on any other model.
        (&["refuse-transcriber=azure-speech"], "gpt-realtime-2.1", "without captions"),
    ] {
        let service = Daemon::simulate(&[faults, &["no-welcome"]].concat());
        let settings = [("VOICE_LIVE_MODEL", model)];
        let daemon = Daemon::run(service.address, &settings);
        call(&daemon);
        call(&daemon);
        let refused = lines(&daemon, said);
        assert_eq!(refused.len(), 1, "{faults:?} {model}: {}", daemon.log());
        assert!(refused[0].contains("invalid_input_audio_transcription_model"), "{refused:?}");
        let (code, told, fault) = check(&service, &settings);
        assert!(code == Some(0) && told.contains(said), "{told}{fault}");
    }
}

#[test]
fn the_ga_dialect_has_captions_of_what_users_say_with_every_model() {
    let spoken = [speech("weather"), vec![0; 48_000]].concat();
    for model in ["", "gpt-realtime-2.1", "gpt-realtime-mini", "gpt-4.1", "azure-realtime"] {
        let service = Daemon::simulate(&["no-welcome"]);
        let settings = [("VOICE_LIVE_MODEL", model), ("AZURE_VOICE_LIVE_API_VERSION", "v1")];
        let daemon = Daemon::run(service.address, &settings);
        let mut client = Client::connect(daemon.address);
        client.wait_until_active();
        client.speak(&spoken, 4);
        client.wait_for("the caption of what was said", |message| {
            message["type"] == "transcript" && message["role"] == "user"
        });
        let (code, told, fault) = check(&service, &settings);
        assert!(code == Some(0) && !told.contains("no captions"), "{model}: {told}{fault}");
    }
}

#[test]
fn a_refused_language_is_left_out_and_the_call_goes_on() {
    for model in ["gpt-realtime", "gpt-4.1"] {
        let service = Daemon::simulate(&["no-welcome", "refuse-language"]);
        let settings = [("VOICE_LIVE_MODEL", model), ("AZURE_VOICE_LIVE_LANGUAGE", "de-DE")];
        let daemon = Daemon::run(service.address, &settings);
        call(&daemon);
        call(&daemon);
        assert_eq!(lines(&daemon, "is not told the language").len(), 1, "{}", daemon.log());
    }
}

#[test]
fn a_detection_without_azure_speech_costs_the_captions_and_not_the_call() {
    let file = session_file(
        "server-vad",
        &json!({"turn_detection": {"type": "server_vad",
        "remove_filler_words": null}}),
    );
    let file = ("AZURE_VOICE_LIVE_SESSION_FILE", file.to_str().expect("UTF-8"));
    assert_eq!(asked(&[file]).1, json!(null));
    let several =
        [file, ("VOICE_LIVE_MODEL", "gpt-realtime"), ("AZURE_VOICE_LIVE_LANGUAGE", "en,de")];
    assert_eq!(asked(&several).1, json!({"model": "whisper-1"}));

    let service = Daemon::simulate(&[]);
    let (_, told, _) = check(&service, &[file]);
    assert!(told.contains("warning") && told.contains("azure_semantic_vad"), "{told}");
    let (code, _, fault) = check(&service, &several);
    assert_eq!(code, Some(78), "{fault}");
    for part in ["AZURE_VOICE_LIVE_LANGUAGE", "whisper-1", "one language", "azure_semantic_vad"] {
        assert!(fault.contains(part), "{part}: {fault}");
    }
}

#[test]
fn a_default_voice_that_the_owner_has_named_gives_way_with_a_word() {
    let service = Daemon::simulate(&["no-welcome"]);
    let voice = ("AZURE_VOICE_LIVE_VOICE", "en-US-Ava:DragonHDLatestNeural");
    let ga = ("AZURE_VOICE_LIVE_API_VERSION", "v1");
    let said = "AZURE_VOICE_LIVE_VOICE: azure-realtime refuses en-US-Ava:DragonHDLatestNeural";
    for models in ["azure-realtime", "gpt-4.1,azure-realtime"] {
        for more in [&[][..], &[ga]] {
            let mut settings = vec![("VOICE_LIVE_MODEL", models)];
            settings.extend(more);
            let (code, told, fault) = check(&service, &settings);
            assert!(code == Some(0) && !told.contains("refuses"), "nobody chose: {told}{fault}");
            settings.push(voice);
            let (code, told, fault) = check(&service, &settings);
            assert!(code == Some(0) && told.contains(said), "{models}: {told}{fault}");
            let daemon = Daemon::run(service.address, &settings);
            daemon.wait_for_log(said);
            call(&daemon);
        }
    }
    // What counts is the session file's.
    let file = session_file(
        "own-voice",
        &json!({"voice": {"type": "azure-realtime-native", "name": "andrew"}}),
    );
    let file = ("AZURE_VOICE_LIVE_SESSION_FILE", file.to_str().expect("UTF-8"));
    let (code, told, _) = check(&service, &[("VOICE_LIVE_MODEL", "azure-realtime"), voice, file]);
    assert!(code == Some(0) && !told.contains("refuses"), "{told}");
}

#[test]
fn the_default_voice_gives_way_to_the_only_ones_a_model_has() {
    let service = Daemon::simulate(&["no-welcome"]);
    let model = ("VOICE_LIVE_MODEL", "azure-realtime");
    call(&Daemon::run(service.address, &[model]));
    for (model, voice) in [("azure-realtime", "en-US-AvaNeural"), ("gpt-4.1", "alloy")] {
        let settings = [("VOICE_LIVE_MODEL", model), ("AZURE_VOICE_LIVE_VOICE", voice)];
        let (code, told, fault) = check(&service, &settings);
        assert!(code == Some(78) && fault.contains("AZURE_VOICE_LIVE_VOICE"), "{told}{fault}");
        assert!(told.contains(&format!("AZURE_VOICE_LIVE_VOICE: {model} refuses")), "{told}");
    }
}

#[test]
fn an_error_after_the_session_is_configured_changes_no_model() {
    let error = json!({"type": "error", "error": {"type": "invalid_request_error",
        "code": "model_not_found", "message": "The model is gone."}});
    let created = json!({"type": "session.created", "session": {"id": "s", "model": "m"}});
    let service = Service::saying(Lines { first: vec![created], updated: None, then: vec![error] });
    let daemon = Daemon::run(service.address, &[]);
    let mut client = Client::connect(daemon.address);
    client.wait_for("the error", |message| message["type"] == "error");
    client.tell(&json!({"type": "hang_up"}));
    client.assert_ends("hanging up", 1000, "hang_up");
    assert_eq!(service.calls().len(), 1);
}
