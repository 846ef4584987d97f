//! MCP servers as a call meets them: through the whole program, with a server that breaks the protocol in
//! one way beside one that does not.

#[path = "mcp/standin.rs"]
mod standin;
mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use support::client::Client;
use support::daemon::Daemon;

/// The server, when it is started as one.
#[test]
fn stand_in() {
    if let Ok(fault) = std::env::var("FAULT") {
        standin::serve(&fault);
    }
}

/// An entry of the MCP file for a server with this fault; none with an empty one.
fn entry(fault: &str) -> Value {
    let program = std::env::current_exe().expect("this program");
    json!({
        "command": program,
        "args": ["--exact", "stand_in", "--nocapture"],
        "env": { "FAULT": if fault.is_empty() { "none" } else { fault } },
        "timeout_seconds": 2,
    })
}

fn file(name: &str, servers: &Map<String, Value>) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("mcp-{name}.json"));
    std::fs::write(&path, json!({ "mcpServers": servers }).to_string()).expect("a file");
    path
}

fn demo(name: &str, servers: &Map<String, Value>) -> Daemon {
    let path = file(name, servers);
    let path = path.to_str().expect("text");
    Daemon::demo(&[("VOICELIVED_MCP_FILE", path), ("VOICELIVED_LOG", "debug")])
}

/// A call that is past the simulator's welcome.
fn call(daemon: &Daemon) -> Client {
    let mut client = Client::connect(daemon.address);
    client.wait_for("the welcome ends", |message| message["type"] == "response_done");
    client
}

/// Has a tool called, and gives how it ended and what the model then said.
fn run(client: &mut Client, tool: &str, arguments: &Value) -> (String, String) {
    let before = client.messages.len();
    client.tell(&json!({ "type": "text", "text": format!("{tool} {arguments}") }));
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let new = || client.messages[before..].iter().map(|(_, message)| message);
        let end = new().find(|it| it["type"] == "tool" && it["state"] != "running");
        let said = new()
            .filter(|it| it["type"] == "transcript" && it["role"] == "assistant")
            .find_map(|it| it["text"].as_str().filter(|text| text.contains("ool")));
        if let (Some(end), Some(said)) = (end, said) {
            return (end["state"].as_str().expect("a word").to_owned(), said.to_owned());
        }
        assert!(Instant::now() < deadline, "{tool} did not end: {:?}", new().collect::<Vec<_>>());
        client.read_one_within(Duration::from_millis(100));
    }
}

fn good_answer(client: &mut Client, server: &str, text: &str) {
    let (state, said) = run(client, &format!("{server}_echo"), &json!({ "text": text }));
    assert!(state == "done" && said.contains(text), "{server}: {state}: {said}");
}

/// Each fault of a call, whether the tool can do its work all the same, and words that the model is told.
const FAULTS_OF_CALLS: [(&str, bool, &str); 21] = [
    ("never answers", false, "took too long"),
    ("exits in the midst", false, "does not work"),
    ("answers with another id", false, "took too long"),
    ("answers without an id", false, "took too long"),
    ("answers with text for an id", true, "the word"),
    ("answers with a giant line", false, "too long"),
    ("stops in half a line", false, "took too long"),
    ("answers with HTML", false, "took too long"),
    ("answers with bytes that are no text", false, "took too long"),
    ("answers slowly", true, "the word"),
    ("floods before it answers", true, "the word"),
    ("asks in a flood", true, "the word"),
    ("asks for what is not offered", true, "the word"),
    ("answers twice", true, "the word"),
    ("fails without a word", false, "does not say why"),
    ("fails with control characters", false, "red"),
    ("gives no result", true, "nothing to tell"),
    ("gives a result of the wrong kind", true, "nothing to tell"),
    ("nests deeply", false, "took too long"),
    ("wants input", false, "wants input"),
    ("answers in an array", true, "the word"),
];

/// Each in a call of its own daemon's list of at most 16 servers, and a good server answers beside it.
#[test]
fn every_fault_of_a_call_ends_in_words_and_disturbs_nothing_else() {
    for (part, faults) in FAULTS_OF_CALLS.chunks(11).enumerate() {
        let mut servers = Map::new();
        servers.insert("good".to_owned(), entry(""));
        for (at, (fault, ..)) in faults.iter().enumerate() {
            servers.insert(format!("s{at}"), entry(fault));
        }
        let daemon = demo(&format!("calls-{part}"), &servers);
        daemon.wait_for_log(&format!("{} tools are offered", faults.len() + 1));
        let mut client = call(&daemon);
        for (at, (fault, works, words)) in faults.iter().enumerate() {
            let tool = format!("s{at}_echo");
            let (state, said) = run(&mut client, &tool, &json!({ "text": "the word" }));
            assert_eq!(state == "done", *works, "{fault}: {said}");
            assert!(said.contains(words), "{fault}: {said}");
            good_answer(&mut client, "good", &format!("after {at}"));
        }
        assert_eq!(daemon.threads(), 1);
        let memory = daemon.status("VmHWM");
        assert!(memory < 80_000, "{memory} kB at the most");
        assert_eq!(daemon.stop("TERM"), Some(0));
    }
}

/// Each fault before a call, and whether the tool is offered and works all the same.
const FAULTS_BEFORE_CALLS: [(&str, bool); 15] = [
    ("dies at the start", false),
    ("dies of the first question", true),
    ("repeats itself", true),
    ("answers with its modern era alone", true),
    ("refuses to begin", false),
    ("begins with nonsense", false),
    ("speaks an unknown version", true),
    ("lists without an end", true),
    ("lists the same page for ever", true),
    ("lists thousands", true),
    ("lists nonsense", true),
    ("lists what is huge", true),
    ("does not list", false),
    ("announces changes in a flood", true),
    ("floods its standard error", true),
];

#[test]
fn every_fault_before_a_call_costs_its_server_at_most() {
    let mut servers = Map::new();
    for (at, (fault, _)) in FAULTS_BEFORE_CALLS.iter().enumerate() {
        let mut entry = entry(fault);
        // Thousands of tools leave no room for others.
        entry["allow"] = json!(["echo"]);
        servers.insert(format!("s{at}"), entry);
    }
    servers.insert("good".to_owned(), entry(""));
    let start = Instant::now();
    let daemon = demo("before", &servers);
    let started = start.elapsed();
    let works = FAULTS_BEFORE_CALLS.iter().filter(|(_, works)| *works).count();
    daemon.wait_for_log(&format!("{} tools are offered", works + 1));
    let mut client = call(&daemon);
    for (at, (_, works)) in FAULTS_BEFORE_CALLS.iter().enumerate() {
        if *works {
            good_answer(&mut client, &format!("s{at}"), &format!("from {at}"));
        }
    }
    good_answer(&mut client, "good", "at the end");
    assert!(daemon.status("VmHWM") < 80_000, "{} kB", daemon.status("VmHWM"));
    assert_eq!(daemon.stop("TERM"), Some(0));
    println!("the daemon listened after {started:?}");
}

/// How many processes run with this word in their environment or arguments.
fn processes_with(word: &str) -> usize {
    let list = std::fs::read_dir("/proc").expect("a Linux").flatten();
    let named = |path: PathBuf| {
        let parts = ["environ", "cmdline"].map(|part| std::fs::read(path.join(part)));
        parts.into_iter().flatten().any(|bytes| String::from_utf8_lossy(&bytes).contains(word))
    };
    list.filter(|entry| named(entry.path())).count()
}

/// A server that dies in a call is there again for the next one; one that stays behind its closed output,
/// or does not end when it is told to, is killed with all that it has started.
#[test]
fn servers_are_started_anew_and_leave_nothing_behind() {
    let mut servers = Map::new();
    let faults =
        ["exits in the midst", "closes its output and stays", "does not end when it is told to"];
    for (at, fault) in faults.iter().enumerate() {
        let mut entry = entry(fault);
        entry["env"]["MARK"] = json!("mark-9d1c07");
        servers.insert(format!("s{at}"), entry);
    }
    let daemon = demo("again", &servers);
    daemon.wait_for_log("3 tools are offered");
    daemon.wait_for_log("mcp s1: it is started anew");
    let mut client = call(&daemon);
    for _ in 0..2 {
        let (state, said) = run(&mut client, "s0_echo", &json!({ "text": "x" }));
        assert!(state == "failed" && said.contains("server does not work"), "{said}");
        let count = daemon.log().matches("mcp s0: it is ready").count();
        daemon.wait_until("it is ready again", |daemon| {
            daemon.log().matches("mcp s0: it is ready").count() > count
        });
    }
    good_answer(&mut client, "s2", "still here");
    let start = Instant::now();
    assert_eq!(daemon.stop("TERM"), Some(0));
    println!("it ended after {:?}", start.elapsed());
    assert_eq!(processes_with("mark-9d1c07"), 0, "something was left behind");
}

/// The daemon's key, and all its other variables, stay with it.
#[test]
fn a_server_sees_of_the_environment_only_what_is_harmless_and_what_the_file_says() {
    let seen = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("mcp-environment");
    let _ = std::fs::remove_file(&seen);
    let script = format!("env > '{0}.part'; mv '{0}.part' '{0}'; exec cat", seen.display());
    let env = json!({ "OWN": "${GIVEN} and ${AZURE_VOICE_LIVE_API_KEY:-no key}" });
    let mut servers = Map::new();
    servers.insert("s".to_owned(), json!({ "command": "sh", "args": ["-c", script], "env": env }));
    let path = file("environment", &servers);
    let path = path.to_str().expect("text");
    let settings = [("VOICELIVED_MCP_FILE", path), ("GIVEN", "a value"), ("OTHER", "x")];
    let daemon = Daemon::run_at("ws://127.0.0.1:9", &settings);
    daemon.wait_until("it is started", |_| seen.exists());
    let seen = std::fs::read_to_string(seen).expect("it was written");
    assert!(seen.contains("OWN=a value and no key\n"), "{seen}");
    for line in seen.lines() {
        let name = line.split('=').next().unwrap_or_default();
        let passed = [
            "PATH",
            "HOME",
            "LANG",
            "LC_ALL",
            "TZ",
            "TMPDIR",
            "RES_OPTIONS",
            "LOCALDOMAIN",
            "LOGNAME",
            "SHELL",
            "TERM",
            "USER",
            "OWN",
            "PWD",
            "OLDPWD",
            "SHLVL",
            "_",
        ];
        assert!(passed.contains(&name), "a server sees {name}");
    }
}
