//! Tools as processes of the daemon: what they see, how long they live, and how much they may say.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support;
use serde_json::json;
use support::client::Client;
use support::daemon::{Daemon, PATIENCE};
use support::inside::daemon_with_tools;
use support::metrics::count;

fn file(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("tool-runs-{name}"));
    let _ = std::fs::remove_file(&path);
    path
}

/// A call whose model runs `get_weather`.
fn ask_for_weather(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client.wait_until_active();
    client.tell(&json!({"type": "text", "text": "weather"}));
    client.wait_for("the tool", |message| message["state"] == "running");
    client
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The daemon runs in this process, whose environment cargo has filled.
#[test]
fn a_tool_sees_nothing_of_the_daemons_environment_but_a_few_variables() {
    assert!(std::env::vars_os().any(|(name, _)| name == "CARGO_MANIFEST_DIR"), "run by cargo");
    let service = Daemon::simulate(&["no-welcome"]);
    let seen = file("environment");
    // The shell that stands in front of the tool adds PWD, SHLVL and _ for itself.
    let script = format!(
        "tr '\\0' '\\n' </proc/$$/environ >'{0}.part'; mv '{0}.part' '{0}'",
        seen.display()
    );
    let address = daemon_with_tools(service.address, &script);
    let mut client = ask_for_weather(address);
    client.wait_for("its end", |message| message["type"] == "tool" && message["state"] == "done");
    let seen = std::fs::read_to_string(seen).expect("the tool wrote it");
    assert!(seen.contains("PATH="), "{seen}");
    for line in seen.lines() {
        let name = line.split('=').next().unwrap_or_default();
        let passed =
            ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "RES_OPTIONS", "LOCALDOMAIN"];
        assert!(passed.contains(&name), "a tool sees {name}");
    }
}

/// Two calls run a tool that does not end by itself. The second hangs up; its tool, though it has
/// the later deadline, ends before the first one's has passed.
#[test]
fn the_tools_of_a_call_end_with_it() {
    let service = Daemon::simulate(&["no-welcome"]);
    let address = daemon_with_tools(service.address, "[ \"$2\" = get_weather ] && exec sleep 60");
    let _stays = ask_for_weather(address);
    let mut leaves = ask_for_weather(address);
    leaves.tell(&json!({"type": "hang_up"}));
    leaves.assert_ends("hanging up", 1000, "hang_up");
    until("its tool goes on", || count(address, "tool_runs_total", "abandoned") == 1);
    assert_eq!(count(address, "tool_runs_total", "failed"), 0, "the other's time was over before");
}

/// What the model is told of a tool that prints so many letters.
fn told_of(letters: usize) -> (String, SocketAddr) {
    use support::service::{Lines, Service};
    let created = json!({"type": "session.created", "session": {"id": "s", "model": "m"}});
    let then = vec![
        json!({"type": "response.created", "response": {"id": "r"}}),
        json!({"type": "response.output_item.done", "response_id": "r", "item": {
            "type": "function_call", "call_id": "c", "name": "get_weather",
            "arguments": "{\"location\":\"Rome\"}"}}),
    ];
    let service = Service::saying(Lines { first: vec![created], updated: None, then });
    let print = format!(
        "[ \"$2\" = get_weather ] && exec head -c {letters} /dev/zero | tr '\\0' x && exit"
    );
    let address = daemon_with_tools(service.address, &print);
    let mut client = Client::connect(address);
    client.wait_until_active();
    until("the model is told nothing", || !service.items().is_empty());
    (service.items()[0]["output"].as_str().expect("text").to_owned(), address)
}

#[test]
fn a_tool_may_say_16_kib_and_not_a_letter_more() {
    let (told, address) = told_of(16 * 1024);
    assert!(told == "x".repeat(16 * 1024), "{told:.100}");
    assert_eq!(count(address, "tool_runs_total", "ok"), 1);
    let (told, address) = told_of(16 * 1024 + 1);
    assert!(told.contains("its output is too long"), "{told:.100}");
    assert_eq!(count(address, "tool_runs_total", "failed"), 1);
}
