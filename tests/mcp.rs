//! MCP servers as a call meets them: through the whole program, with a server that breaks the protocol in
//! one way beside one that does not.

mod asking;
mod assistants;
mod command;
mod hostile;
mod plenty;
mod reread;
mod secure;
mod standin;
mod stop;
mod traps;
mod web;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::daemon::{Daemon, PATIENCE};
use serde_json::{Map, Value, json};
use web::Web;

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
        // With one thread, as on a machine of one core, the harness would begin the first answer's line.
        "args": ["--exact", "mcp::stand_in", "--nocapture", "--test-threads=2"],
        "env": { "FAULT": if fault.is_empty() { "none" } else { fault } },
        "timeout_seconds": PATIENCE.as_secs(),
    })
}

/// The same for one whose calls take too long.
fn hasty(fault: &str) -> Value {
    let mut entry = entry(fault);
    entry["timeout_seconds"] = json!(2);
    entry
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
    let deadline = Instant::now() + PATIENCE;
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
        for (at, (fault, _, words)) in faults.iter().enumerate() {
            let late = *words == "took too long";
            servers.insert(format!("s{at}"), if late { hasty(fault) } else { entry(fault) });
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
    daemon.wait_for_log("standard error: 0 is a line of a log that nobody asked for");
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
    let mark = format!("mark-{}", std::process::id());
    for (at, fault) in faults.iter().enumerate() {
        let mut entry = entry(fault);
        entry["env"]["MARK"] = json!(mark);
        servers.insert(format!("s{at}"), entry);
    }
    let daemon = demo("again", &servers);
    daemon.wait_for_log("3 tools are offered");
    daemon.wait_for_log("mcp s1: it is started anew");
    let mut client = call(&daemon);
    for _ in 0..2 {
        let count = daemon.log().matches("mcp s0: it is ready").count();
        let (state, said) = run(&mut client, "s0_echo", &json!({ "text": "x" }));
        assert!(state == "failed" && said.contains("server does not work"), "{said}");
        daemon.wait_for_logs("mcp s0: it is ready", count + 1);
    }
    good_answer(&mut client, "s2", "still here");
    let start = Instant::now();
    assert_eq!(daemon.stop("TERM"), Some(0));
    println!("it ended after {:?}", start.elapsed());
    // SIGKILL has been sent to them, and takes a moment.
    let deadline = Instant::now() + PATIENCE;
    while processes_with(&mark) > 0 {
        assert!(Instant::now() < deadline, "something was left behind");
        std::thread::sleep(Duration::from_millis(20));
    }
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

fn web_entry(web: &Web) -> Value {
    json!({
        "url": web.url,
        "headers": { "Authorization": "Bearer canary-77" },
        "timeout_seconds": 3,
    })
}

/// Each way in which a server behind HTTP answers a call, whether the tool can do its work, and words.
const WAYS_OF_HTTP: [(&str, bool, &str); 15] = [
    ("none", true, "the word"),
    ("modern", true, "the word"),
    ("streams", true, "the word"),
    ("answers slowly", true, "the word"),
    ("says 404 for a lost session", true, "the word"),
    ("says 400 for a lost session", true, "the word"),
    ("breaks its stream off", true, "resumed"),
    ("breaks its stream off for good", false, "ended without an answer"),
    ("answers with HTML", false, "text/html"),
    ("answers with HTML as JSON", false, "no JSON"),
    ("redirects elsewhere", false, "asked elsewhere"),
    ("refuses the login", false, "refuses the login"),
    ("has nothing to say", false, "gave no answer"),
    ("closes at once", false, "not reached"),
    ("answers without an end", false, "too long"),
];

#[test]
fn servers_behind_http_of_both_eras_are_used_and_their_faults_end_in_words() {
    let webs: Vec<Web> = WAYS_OF_HTTP.iter().map(|(fault, ..)| Web::serve(fault)).collect();
    let entries = webs.iter().enumerate().map(|(at, web)| {
        let mut entry = web_entry(web);
        entry["timeout_seconds"] = json!(PATIENCE.as_secs());
        (format!("w{at}"), entry)
    });
    let daemon = demo("http", &entries.collect());
    daemon.wait_for_log(&format!("{} tools are offered", 2 * webs.len()));
    let mut client = call(&daemon);
    for (at, (fault, works, words)) in WAYS_OF_HTTP.iter().enumerate() {
        let (state, said) =
            run(&mut client, &format!("w{at}_echo"), &json!({ "text": "the word" }));
        assert_eq!(state == "done", *works, "{fault}: {said}");
        assert!(said.contains(words), "{fault}: {said}");
    }
    // What the new era wants in header fields.
    let modern = &webs[1];
    run(&mut client, "w1_gr__e", &json!({ "text": "x" }));
    let calls = modern.asked("tools/call");
    assert_eq!(calls[0].field("mcp-protocol-version"), "2026-07-28");
    assert_eq!((calls[0].field("mcp-method"), calls[0].field("mcp-name")), ("tools/call", "echo"));
    assert_eq!(calls[1].field("mcp-name"), "=?base64?Z3LDtsOfZQ==?=");
    assert_eq!(calls[1].field("mcp-session-id"), "");
    assert_eq!(calls[0].field("authorization"), "Bearer canary-77");
    // What the old one wants: the session, the version, and to be told of the end.
    let old = &webs[0];
    let listed = &old.asked("tools/list")[0];
    assert_eq!(listed.field("mcp-session-id"), "session-1");
    assert_eq!(listed.field("mcp-protocol-version"), "2025-06-18");
    for lost in [4, 5] {
        let calls = webs[lost].asked("tools/call");
        let sessions: Vec<_> = calls.iter().map(|call| call.field("mcp-session-id")).collect();
        assert_eq!(sessions, ["session-1", "session-2"]);
        assert_eq!(webs[lost].asked("notifications/initialized").len(), 2);
    }
    let (threads, log) = (daemon.threads(), daemon.log());
    assert_eq!((threads, log.contains("canary-77")), (1, false));
    assert_eq!(daemon.stop("TERM"), Some(0));
    let ends = old.ends(1);
    let ends: Vec<_> = ends.iter().map(|end| end.field("mcp-session-id")).collect();
    assert_eq!(ends, ["session-1"]);
}

/// JavaScript writes a text that was cut within an emoji so, and it is JSON.
#[test]
fn half_an_emoji_in_what_a_server_says_is_taken() {
    let webs = ["says half an emoji", "streams half an emoji"].map(Web::serve);
    let mut servers = Map::new();
    servers.insert("halves".to_owned(), entry("says half an emoji"));
    servers.insert("marks".to_owned(), entry("begins with a byte order mark"));
    for (at, web) in webs.iter().enumerate() {
        servers.insert(format!("w{at}"), web_entry(web));
    }
    let daemon = demo("halves", &servers);
    daemon.wait_for_log("6 tools are offered");
    let mut client = call(&daemon);
    for (tool, words) in [
        ("halves_echo", "\u{fffd} the word \u{fffd}"),
        ("marks_echo", "the word"),
        ("w0_echo", "\u{fffd} word"),
        ("w1_echo", "\u{fffd} word"),
    ] {
        let (state, said) = run(&mut client, tool, &json!({ "text": "the word" }));
        assert!(state == "done" && said.contains(words), "{tool}: {state}: {said}");
    }
    // What the test harness prints before the stand-in begins.
    assert_eq!(daemon.log().matches("is no message").count(), 2, "{}", daemon.log());
}

/// A modern server learns that nobody waits any more by the end of the stream.
#[test]
fn a_call_that_is_not_waited_for_is_cut_off_at_the_server() {
    let (modern, endless) = (Web::serve("modern"), Web::serve("streams without an end"));
    let mut servers = Map::new();
    servers.insert("w".to_owned(), web_entry(&modern));
    servers.insert("e".to_owned(), web_entry(&endless));
    let daemon = demo("cut", &servers);
    daemon.wait_for_log("4 tools are offered");
    let mut client = call(&daemon);
    for tool in ["w_echo", "e_echo"] {
        let (state, said) = run(&mut client, tool, &json!({ "text": "wait" }));
        assert!(state == "failed" && said.contains("took too long"), "{said}");
    }
    daemon.wait_until("the server sees it", |_| modern.cut_off() == 1);
    good_answer(&mut client, "w", "and again");
}

/// A server of the old era says by its own stream that its tools have changed.
#[test]
fn a_server_behind_http_tells_of_changes() {
    let web = Web::serve("tells of a change");
    let mut servers = Map::new();
    servers.insert("w".to_owned(), web_entry(&web));
    let daemon = demo("told", &servers);
    daemon.wait_until("it is asked again", |_| web.asked("tools/list").len() >= 2);
}

/// A running call learns that a server has other tools now, and its model can call them.
#[test]
fn a_running_call_learns_of_new_tools() {
    let mut servers = Map::new();
    servers.insert("s".to_owned(), entry("changes its tools"));
    let daemon = demo("changes", &servers);
    daemon.wait_for_log("1 tools are offered");
    let mut client = call(&daemon);
    good_answer(&mut client, "s", "before");
    daemon.wait_for_log("2 tools are offered");
    let (state, said) = run(&mut client, "s_new", &json!({ "text": "after" }));
    assert!(state == "done" && said.contains("after"), "{state}: {said}");
    // A call that begins now is offered it, too.
    let (state, _) = run(&mut call(&daemon), "s_new", &json!({ "text": "after" }));
    assert_eq!(state, "done");
}

/// The server's time is 4 s; it works for longer and tells of progress.
#[test]
fn progress_puts_the_end_of_a_call_off() {
    let mut servers = Map::new();
    let mut entry = entry("tells of progress");
    entry["timeout_seconds"] = json!(4);
    servers.insert("s".to_owned(), entry);
    let daemon = demo("progress", &servers);
    daemon.wait_for_log("1 tools are offered");
    good_answer(&mut call(&daemon), "s", "at last");
}
