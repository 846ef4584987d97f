//! `voicelived tools` and `voicelived check` with MCP servers: they start them, ask them, and end them.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{entry, file, processes_with, web_entry};
use crate::mcp::web::Web;
use crate::support::daemon::{Daemon, KEY, PATIENCE};

pub(super) struct Told {
    pub(super) code: Option<i32>,
    pub(super) output: String,
    pub(super) errors: String,
}

/// The program with the servers of a file of this test.
pub(super) fn voicelived(
    name: &str,
    servers: &[(&str, Value)],
    settings: &[(&str, &str)],
    arguments: &[&str],
) -> Told {
    let servers: Map<String, Value> =
        servers.iter().map(|(name, entry)| ((*name).to_owned(), entry.clone())).collect();
    let path = file(&format!("command-{name}"), &servers);
    let mut command = Command::new(env!("CARGO_BIN_EXE_voicelived"));
    command.args(arguments).env_clear().env("VOICELIVED_MCP_FILE", path);
    command.envs(settings.iter().copied()).current_dir(std::env::temp_dir());
    let done = command.output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Told { code: done.status.code(), output: text(&done.stdout), errors: text(&done.stderr) }
}

fn marked(fault: &str, mark: &str) -> Value {
    let mut entry = entry(fault);
    entry["env"]["MARK"] = json!(mark);
    entry
}

fn assert_left_nothing(mark: &str) {
    let deadline = Instant::now() + PATIENCE;
    while processes_with(mark) > 0 {
        assert!(Instant::now() < deadline, "a server was left behind");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_list_has_the_tools_of_servers_and_what_is_wrong_with_others() {
    let mark = format!("listed-{}", std::process::id());
    let web = Web::serve("none");
    let servers = [
        ("good", marked("", &mark)),
        ("web", web_entry(&web)),
        ("dead", marked("dies at the start", &mark)),
        ("faulty", json!({ "command": "x", "confirm": "perhaps" })),
        ("missing", json!({ "command": "/no/such/program" })),
    ];
    let told = voicelived("list", &servers, &[], &["tools"]);
    let line = |name: &str| {
        let mut lines = told.output.lines().filter(|line| line.starts_with(name));
        lines.next().unwrap_or_else(|| panic!("no {name} in {}", told.output)).to_owned()
    };
    assert!(line("get_weather ").ends_with("built in"));
    assert!(line("good_echo ").ends_with("MCP server good"), "{}", told.output);
    assert!(line("web_gr__e ").ends_with("MCP server web"), "{}", told.output);
    assert_eq!(told.code, Some(78), "{}", told.errors);
    for words in [
        "VOICELIVED_MCP_FILE: line 1 of ",
        "faulty: it must be never, always or auto",
        "MCP server dead: ",
        "exit status: 3",
        "MCP server missing: it cannot be started: No such file",
    ] {
        assert!(told.errors.contains(words), "{words}: {}", told.errors);
    }
    assert_left_nothing(&mark);
    assert_eq!(web.ends(1).len(), 1, "the session is given back");
}

/// With its schema, its deadline and its words, as in a call.
#[test]
fn a_run_prints_what_the_model_would_get() {
    let mark = format!("run-{}", std::process::id());
    let mut asks = marked("", &mark);
    asks["confirm"] = json!("always");
    let mut slow = marked("never answers", &mark);
    slow["timeout_seconds"] = json!(2);
    let servers = [("s", asks), ("slow", slow), ("dead", marked("exits in the midst", &mark))];
    let run = |tool: &str, arguments: &str| {
        voicelived("run", &servers, &[], &["tools", "run", tool, arguments])
    };
    let told = run("s_echo", r#"{"text":"as in a call"}"#);
    assert_eq!((told.code, told.output.as_str()), (Some(0), "as in a call\n"), "{}", told.errors);
    assert!(told.errors.contains(" ms, 12 bytes"), "{}", told.errors);
    let faults = [
        ("s_echo", r#"{"text":7}"#, "The arguments of s_echo are wrong"),
        ("slow_echo", "{}", "took too long"),
        ("dead_echo", "{}", "server does not work"),
        ("s_nothing", "{}", "There is no such tool. The tools are: get_weather"),
    ];
    for (tool, arguments, words) in faults {
        let told = run(tool, arguments);
        assert_eq!(told.code, Some(1), "{tool}: {}", told.errors);
        let error: Value = serde_json::from_str(&told.output).expect("JSON");
        assert!(error["error"].as_str().is_some_and(|it| it.contains(words)), "{tool}: {error}");
    }
    // A built-in tool needs no server, so none is started.
    let told = run("get_weather", r#"{"location":"Oslo"}"#);
    assert_eq!(told.code, Some(0));
    assert_left_nothing(&mark);
}

/// `check` tells the service of all tools that calls have, and prints them.
#[test]
fn check_names_the_tools_of_servers() {
    let mark = format!("check-{}", std::process::id());
    let service = Daemon::simulate(&["no-welcome"]);
    let endpoint = format!("ws://{}", service.address);
    let settings =
        [("AZURE_VOICE_LIVE_ENDPOINT", endpoint.as_str()), ("AZURE_VOICE_LIVE_API_KEY", KEY)];
    let servers = [("good", marked("", &mark)), ("dead", marked("dies at the start", &mark))];
    let told = voicelived("check", &servers, &settings, &["check"]);
    assert_eq!(told.code, Some(0), "{}{}", told.output, told.errors);
    assert!(told.output.contains("good_echo"), "{}", told.output);
    assert!(told.output.contains("MCP server good"), "{}", told.output);
    assert!(told.output.contains("MCP server dead: "), "{}", told.output);
    assert!(told.output.contains("All is well"), "{}", told.output);
    assert_left_nothing(&mark);
}
