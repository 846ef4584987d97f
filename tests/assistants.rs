//! Assistants: a client asks for one by name, gets its settings and its tools alone, and keeps them whatever
//! happens to the call. Faulty files cost only themselves.

use std::fs;
use std::process::Command;

use crate::support;
use serde_json::{Value, json};
use support::client::Client;
use support::daemon::{Daemon, KEY};
use support::http::ask;
use support::service::{Lines, Service};
use support::switch::Switch;
use support::tools::Folder;

const COOK: &str = r#"{
  "name": "cook",
  "title": "Köchin",
  "instructions": "You cook.",
  "voice": "alloy",
  "language": "de",
  "model": "gpt-realtime",
  "tools": ["get_weather"],
  "session": {"temperature": 0.6}
}"#;

fn names(session: &Value) -> Vec<&str> {
    let tools = session["tools"].as_array().expect("a list");
    tools.iter().filter_map(|tool| tool["name"].as_str()).collect()
}

/// What `voicelived check` prints with this folder and the simulated service.
fn check(folder: &Folder, more: &[(&str, &str)]) -> String {
    let service = Daemon::simulate(&[]);
    let output = Command::new(env!("CARGO_BIN_EXE_voicelived"))
        .arg("check")
        .env_clear()
        .env("AZURE_VOICE_LIVE_ENDPOINT", format!("http://{}", service.address))
        .env("AZURE_VOICE_LIVE_API_KEY", KEY)
        .env("VOICELIVED_ASSISTANTS_DIR", folder.path())
        .envs(more.iter().copied())
        .current_dir(&folder.0)
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn a_call_has_the_settings_of_its_assistant_to_the_end() {
    let folder = Folder::new("assistant").with("cook.json", COOK);
    folder.write(
        "options",
        r#"{"voice": "of the file", "instructions": "You file.", "max_response_output_tokens": 99,
            "input_audio_transcription": {"language": "fr"},
            "audio": {"output": {"voice": "of the file", "speed": 2},
                      "input": {"transcription": {"language": "fr", "x": 1}}}}"#,
    );
    let options = folder.0.join("options");
    let service = Service::new();
    let switch = Switch::to(service.address);
    let settings = [
        ("VOICELIVED_ASSISTANTS_DIR", folder.path()),
        ("AZURE_VOICE_LIVE_SESSION_FILE", options.to_str().expect("UTF-8")),
        ("AZURE_VOICE_LIVE_INSTRUCTIONS", "You help."),
    ];
    let daemon = Daemon::run(switch.address, &settings);
    let mut client = Client::join(daemon.address, "resume&assistant=cook", "");
    client.wait_until_active();
    assert_eq!(client.of_type("hello")[0]["assistant"], "cook");
    let first = service.calls().remove(0);
    assert!(first.head.contains("model=gpt-realtime "), "{}", first.head);
    let session = &first.session;
    assert_eq!(session["instructions"], "You cook.");
    assert_eq!(session["voice"]["name"], "alloy", "{session}");
    assert_eq!(session["temperature"], 0.6);
    assert_eq!(session["max_response_output_tokens"], 99, "the session file holds for all");
    assert!(session["input_audio_transcription"].to_string().contains("\"de\""), "{session}");
    let rest = json!({"output": {"speed": 2}, "input": {"transcription": {"x": 1}}});
    assert_eq!(session["audio"], rest, "nor does the other dialect's option count");
    assert_eq!(names(session), ["get_weather"]);
    // The service is lost, and then the client.
    switch.cut();
    client.wait_for("reconnecting", |message| message["state"] == "reconnecting");
    client.wait_for_next("call_state");
    let again = service.calls().remove(1);
    assert_eq!(again.session["voice"], session["voice"]);
    assert_eq!(names(&again.session), ["get_weather"]);
    assert!(again.session["instructions"].to_string().contains("You cook."));
    assert!(again.head.contains("model=gpt-realtime "));
    let mut client = client.cut().join(daemon.address, "");
    client
        .wait_for("hello", |message| message["resumed"] == true && message["assistant"] == "cook");
    // Without a name all is as without the folder.
    let mut other = Client::connect(daemon.address);
    other.wait_until_active();
    assert!(other.of_type("hello")[0].get("assistant").is_none());
    let last = service.calls().pop().expect("a call").session;
    assert_eq!(
        (&last["instructions"], &last["voice"]),
        (&json!("You file."), &json!("of the file"))
    );
    assert!(names(&last).len() > 2, "{last}");
    daemon.wait_for_log("to the assistant cook");
}

/// What a file does not say is as in the daemon's own settings. What `session` says comes after all else.
#[test]
fn a_field_replaces_one_setting_and_an_option_in_session_comes_last() {
    let folder = Folder::new("assistant-order")
        .with("a.json", r#"{"name": "bare", "greeting": "Hello from bare."}"#)
        .with(
            "b.json",
            r#"{"name": "last", "voice": "alloy", "language": "de",
                "session": {"voice": "of the session", "turn_detection": {"type": "server_vad"},
                "input_audio_transcription": {"language": "it"}, "x_noise": {"b": 2}}}"#,
        );
    folder.write(
        "options",
        r#"{"temperature": 0.3, "x_noise": {"a": 1, "b": 1},
            "turn_detection": {"type": "azure_semantic_vad", "threshold": 0.25}}"#,
    );
    let options = folder.0.join("options");
    let service = Service::new();
    let settings = [
        ("VOICELIVED_ASSISTANTS_DIR", folder.path()),
        ("AZURE_VOICE_LIVE_SESSION_FILE", options.to_str().expect("UTF-8")),
        ("AZURE_VOICE_LIVE_INSTRUCTIONS", "You help."),
        ("AZURE_VOICE_LIVE_VOICE", "echo"),
        ("AZURE_VOICE_LIVE_LANGUAGE", "fr"),
        ("AZURE_VOICE_LIVE_GREETING", "Hello from all."),
        ("VOICE_LIVE_MODEL", "gpt-realtime"),
    ];
    let daemon = Daemon::run(service.address, &settings);
    let call = |name: &str| {
        let asked = service.requests();
        let mut client = Client::join(daemon.address, &format!("assistant={name}"), "");
        client.wait_until_active();
        daemon.wait_until("it greets", |_| service.requests() == asked + 1);
        let greeting = service.asked().pop().expect("one").to_string();
        (service.calls().pop().expect("a call"), greeting)
    };
    let (own, greeting) = call("");
    assert!(greeting.contains("Hello from all."), "{greeting}");
    let (bare, greeting) = call("bare");
    assert_eq!(bare.session, own.session, "its file says nothing of the session");
    assert!(bare.head.contains("model=gpt-realtime "), "{}", bare.head);
    assert!(greeting.contains("Hello from bare.") && !greeting.contains("from all"), "{greeting}");
    let (last, greeting) = call("last");
    assert!(greeting.contains("Hello from all."), "{greeting}");
    let session = last.session;
    assert_eq!(session["voice"], "of the session");
    assert_eq!(session["input_audio_transcription"]["language"], "it");
    assert_eq!(session["instructions"], "You help.");
    assert_eq!(session["temperature"], 0.3);
    assert_eq!(session["x_noise"], json!({"a": 1, "b": 2}), "options of one object add up");
    assert_eq!(session["turn_detection"]["type"], "server_vad");
    let threshold = &session["turn_detection"]["threshold"];
    assert_ne!(threshold, &json!(0.25), "it was an option of another type: {session}");
}

/// The call that falls back is still its assistant's, and the next one does not ask for the refused model again.
#[test]
fn each_of_an_assistants_models_is_asked_for_in_its_turn() {
    let folder = Folder::new("assistant-models").with(
        "mute.json",
        r#"{"name": "mute", "model": "gpt-realtime,gpt-realtime-mini", "tools": []}"#,
    );
    let service = Daemon::simulate(&["no-welcome", "refuse-model=gpt-realtime:update"]);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_ASSISTANTS_DIR", folder.path())]);
    for _ in 0..2 {
        let mut client = Client::join(daemon.address, "assistant=mute", "");
        client.wait_until_active();
        client.tell(&json!({"type": "text", "text": r#"get_weather {"location":"Oslo"}"#}));
        client.wait_for_next("response_done");
        assert_eq!(client.of_type("tool"), Vec::<&Value>::new());
    }
    let log = daemon.log();
    assert_eq!(log.matches("gpt-realtime-mini is tried instead").count(), 1, "{log}");
}

/// A model may call what it was not offered. Without `hang_up` in its list an assistant ends no call.
#[test]
fn a_tool_that_is_not_allowed_does_not_run() {
    let folder = Folder::new("assistant-tools").with("cook.json", COOK);
    let created = json!({"type": "session.created", "session": {"id": "s", "model": "m"}});
    let call = |name: &str, arguments: &str| {
        json!({"id": format!("item_{name}"), "type": "function_call", "call_id": name,
               "name": name, "arguments": arguments, "status": "completed"})
    };
    let calls = [
        call("get_stock_price", r#"{"symbol":"MSFT"}"#),
        call("hang_up", "{}"),
        call("get_weather", r#"{"location":"Oslo"}"#),
    ];
    let done = |item: &Value| json!({"type": "response.output_item.done", "response_id": "r", "item": item});
    let mut then = vec![json!({"type": "response.created", "response": {"id": "r"}})];
    then.extend(calls.iter().map(done));
    then.push(json!({"type": "response.done", "response": {"id": "r", "status": "completed", "output": calls}}));
    let service = Service::saying(Lines { first: vec![created], updated: None, then });
    let daemon = Daemon::run(service.address, &[("VOICELIVED_ASSISTANTS_DIR", folder.path())]);
    let mut client = Client::join(daemon.address, "assistant=cook", "");
    client.wait_until_active();
    daemon.wait_until("all are answered", |_| service.items().len() == 3);
    let items = service.items();
    let output = |id: &str| {
        let item = items.iter().find(|item| item["call_id"] == id).expect("it is answered");
        item["output"].to_string()
    };
    assert!(output("get_stock_price").contains("no such tool"), "{items:?}");
    assert!(output("hang_up").contains("no such tool"), "{items:?}");
    assert!(output("get_weather").contains("Oslo"), "{items:?}");
}

#[test]
fn a_name_that_none_has_is_refused_in_words() {
    let folder = Folder::new("assistant-unknown").with("cook.json", COOK);
    let service = Service::new();
    let daemon = Daemon::run(service.address, &[("VOICELIVED_ASSISTANTS_DIR", folder.path())]);
    for name in ["nobody", "cook2", "%63ook"] {
        let mut client = Client::join(daemon.address, &format!("assistant={name}"), "");
        let said = client.assert_ends(name, 1008, "no_assistant");
        assert!(said.contains(name) && said.contains("There is: cook."), "{said}");
        assert!(client.of_type("hello").is_empty(), "{name}");
    }
    let mut client = Client::join(daemon.address, &format!("assistant={}", "x".repeat(500)), "");
    assert!(client.assert_ends("long", 1008, "no_assistant").len() < 150);
    daemon.assert_counted("calls_turned_away_total", "no_assistant", 4);
    assert!(service.calls().is_empty(), "the service is not asked");
    let told = ask(daemon.address, "GET /pair", "");
    assert_eq!(told.status, 200);
    assert_eq!(told.text(), r#"[{"name":"cook","title":"Köchin"}]"#);
    assert_eq!(ask(daemon.address, "HEAD /pair", "").text(), "");
}

#[test]
fn each_faulty_file_is_named_and_costs_only_itself() {
    let folder = Folder::new("assistant-faults")
        .with("cook.json", &COOK.replace("get_weather", "no_tool"))
        .with("double.json", r#"{"name": "cook"}"#)
        .with("half.json", "{\n  \"name\": \"x\",\n")
        .with("typo.json", "{\n  \"name\": \"x\",\n  \"vioce\": \"y\"\n}")
        .with("fixed.json", "{\"name\": \"x\",\n\"session\": {\"input_audio_format\": \"g711\"}}")
        .with("plain.json", r#"{"name": "plain", "tools": []}"#);
    let told = check(&folder, &[]);
    for line in [
        "cook (Köchin): gpt-realtime, voice alloy, tools no_tool",
        "plain (plain): gpt-realtime-2.1-mini, voice en-US-Ava:DragonHDLatestNeural, no tools",
        "assistant cook: there is no tool no_tool",
        "double.json: the name cook is taken",
        "half.json line 3: it is not JSON",
        "typo.json line 3: there is no field \"vioce\"",
        "fixed.json line 2: session: input_audio_format must stay \"pcm16\"",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    for number in 0..40 {
        folder.write(&format!("n{number}.json"), &format!(r#"{{"name": "n{number}"}}"#));
    }
    let told = check(&folder, &[]);
    assert!(told.contains("only the first 32 files count"), "{told}");
    assert_eq!(told.matches("voice en-US-Ava").count(), 28, "{told}");
}

/// Each row of the table in `docs/assistants.md`: the fault is told with its line, and what is just within its
/// bounds is taken.
#[test]
fn each_field_has_its_bounds() {
    let list = |count: usize| {
        let names: Vec<String> = (0..count).map(|at| format!("t{at}")).collect();
        json!(names).to_string()
    };
    let (name, title) = ("n".repeat(64), "\u{e4}".repeat(64));
    let faults = [
        ("name", r#""a.b""#.to_owned(), "name must be 1 to 64 of the characters"),
        ("name", r#""""#.to_owned(), "name must be 1 to 64 of the characters"),
        ("name", format!("\"{name}n\""), "name must be 1 to 64 of the characters"),
        ("title", format!("\"{title}x\""), "title must be a text of up to 64 characters"),
        ("title", r#"" ""#.to_owned(), "title must be a text"),
        ("title", r#""a\u0007""#.to_owned(), "title must be a text"),
        ("title", "7".to_owned(), "title must be a text"),
        ("instructions", r#""""#.to_owned(), "instructions must be plain text, not empty"),
        ("voice", "7".to_owned(), "voice must be a text"),
        ("language", r#""German""#.to_owned(), "language must be a code of two letters"),
        ("model", r#""a,b,c,d,e,f,g,h,i""#.to_owned(), "model must be at most 8 models"),
        ("greeting", "null".to_owned(), "greeting must be a text"),
        ("session", "[]".to_owned(), "session must be a JSON object"),
        ("tools", r#""get_weather""#.to_owned(), "tools must be a list of up to 256 names"),
        ("tools", r#"["a b"]"#.to_owned(), "tools must be a list of up to 256 names"),
        ("tools", list(257), "tools must be a list of up to 256 names"),
    ];
    let folder = Folder::new("assistant-bounds");
    for (at, (field, value, _)) in faults.iter().enumerate() {
        let own = if *field == "name" { "" } else { r#""name": "x","# };
        folder.write(&format!("f{at}.json"), &format!("{{{own}\n\"{field}\": {value}}}"));
    }
    folder.write("nameless.json", r#"{"title": "x"}"#);
    folder.write("long.json", &format!("{{\"name\": \"long\"{}}}", " ".repeat(65_536)));
    folder.write("notes.txt", "{");
    folder.write(".hidden.json", "{");
    folder.write(
        "most.json",
        &format!(
            r#"{{"name": "{name}", "title": "{title}", "language": "en,de", "comment": [1],
                "model": "a,b,c,d,e,f,g,h", "tools": {}}}"#,
            list(256)
        ),
    );
    folder.write(
        "native.json",
        r#"{"name": "native", "model": "azure-realtime", "voice": "en-US-Ava:DragonHDLatestNeural"}"#,
    );
    folder.write("odd.json", r#"{"name": "odd", "session": {"model": "x", "audio": {}}}"#);
    let told = check(&folder, &[]);
    for (at, (field, value, said)) in faults.iter().enumerate() {
        let line = format!("f{at}.json line 2: {said}");
        assert!(told.contains(&line), "{field} {value:.80}: {line}: {told}");
    }
    for line in [
        "nameless.json line 1: name is missing",
        "long.json: it is longer than 65536 bytes",
        "odd.json: model in session: the service takes the model only from",
        "odd.json: audio in AZURE_VOICE_LIVE_SESSION_FILE: only",
        "native.json: AZURE_VOICE_LIVE_VOICE: azure-realtime refuses en-US-Ava",
        &format!("{name} ({title}): a, voice"),
        "odd (odd): gpt-realtime",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(!told.contains("notes.txt") && !told.contains(".hidden"), "{told}");
    assert_eq!(told.matches("voice en-US-Ava").count(), 3, "no other one is taken: {told}");
}

#[test]
fn a_file_that_changes_counts_from_the_next_reload_and_a_faulty_one_keeps_its_last_good_version() {
    let folder = Folder::new("assistant-reload").with("cook.json", COOK);
    folder.write("guide.json", r#"{"name": "guide", "instructions": "You guide."}"#);
    let service = Service::new();
    let daemon = Daemon::run(service.address, &[("VOICELIVED_ASSISTANTS_DIR", folder.path())]);
    let told = |name: &str| {
        let mut client = Client::join(daemon.address, &format!("assistant={name}"), "");
        client.wait_until_active();
        service.calls().pop().expect("a call").session["instructions"].clone()
    };
    let reload = |reads: usize| {
        daemon.signal("HUP");
        let read = "settings: read again";
        daemon.wait_until("read again", |it| it.log().matches(read).count() == reads);
    };
    folder.change("cook.json", "You cook.", "You bake.");
    assert_eq!(told("cook"), "You cook.", "not before it is told to");
    reload(1);
    assert_eq!(told("cook"), "You bake.");
    let mut guided = Client::join(daemon.address, "assistant=guide", "");
    guided.wait_until_active();
    folder.write("cook.json", "{\"name\":\n\"cook\",}");
    fs::remove_file(folder.0.join("guide.json")).expect("it is there");
    reload(2);
    daemon.wait_for_log("cook.json line 2: it is not JSON");
    daemon.wait_for_log("its last good version stays");
    assert_eq!(told("cook"), "You bake.");
    let mut client = Client::join(daemon.address, "assistant=guide", "");
    client.assert_ends("it is gone", 1008, "no_assistant");
    let asked = service.requests();
    guided.tell(&json!({"type": "text", "text": "And on the left?"}));
    daemon.wait_until("a call that runs goes on", |_| service.requests() == asked + 1);
    // A folder that cannot be read for a while takes nothing away.
    let aside = folder.0.with_extension("aside");
    fs::rename(&folder.0, &aside).expect("it is ours");
    reload(3);
    assert_eq!(told("cook"), "You bake.");
    fs::rename(&aside, &folder.0).expect("it is ours");
}

/// An agent has instructions and tools of its own, which the service does not let anyone replace.
#[test]
fn beside_an_agent_an_assistant_has_another_voice_but_no_other_task() {
    let folder = Folder::new("assistant-agent")
        .with(
            "voice.json",
            r#"{"name": "low", "voice": "alloy", "language": "de", "greeting": "Hello.",
                "session": {"temperature": 0.6}}"#,
        )
        .with("model.json", "{\"name\": \"x\",\n\"model\": \"gpt-realtime\"}")
        .with("tools.json", "{\"name\": \"x\",\n\"tools\": []}")
        .with("task.json", "{\"name\": \"task\",\n\"instructions\": \"You cook.\"}");
    let service = Service::new();
    let settings = [
        ("VOICELIVED_ASSISTANTS_DIR", folder.path()),
        ("AZURE_VOICE_LIVE_AGENT_NAME", "front"),
        ("AZURE_VOICE_LIVE_PROJECT_NAME", "house"),
    ];
    let daemon = Daemon::run(service.address, &settings);
    for (file, field) in [("task", "instructions"), ("model", "model"), ("tools", "tools")] {
        let why = "cannot be set: the agent has its own";
        daemon.wait_for_log(&format!("{file}.json line 2: {field} {why}"));
    }
    let mut client = Client::join(daemon.address, "assistant=low", "");
    client.wait_until_active();
    assert_eq!(client.of_type("hello")[0]["assistant"], "low");
    let call = service.calls().remove(0);
    assert!(call.head.contains("agent-name=front"), "{}", call.head);
    assert_eq!(call.session["voice"]["name"], "alloy");
    assert_eq!(call.session["temperature"], 0.6);
    assert!(call.session["input_audio_transcription"].to_string().contains("\"de\""));
    daemon.wait_until("it greets", |_| service.requests() == 1);
    assert!(service.asked()[0].to_string().contains("Hello."));
    assert!(call.session.get("instructions").is_none() && call.session.get("tools").is_none());
}

/// The repository's example works as it is.
#[test]
fn the_example_is_an_assistant() {
    let folder = Folder::new("assistant-example");
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/assistants");
    for entry in fs::read_dir(examples).expect("they are there").flatten() {
        fs::copy(entry.path(), folder.0.join(entry.file_name())).expect("a copy");
    }
    let told = check(&folder, &[]);
    assert!(told.contains("kitchen (Kitchen)") && !told.contains(".json"), "{told}");
}
