//! The MCP file is read again on SIGHUP, and running calls learn it.

use crate::support::client::Client;
use crate::support::daemon::Daemon;
use serde_json::{Map, Value, json};

use super::{call, demo, entry, file, good_answer, processes_with};

fn servers(list: &[(&str, Value)]) -> Map<String, Value> {
    list.iter().map(|(name, entry)| ((*name).to_owned(), entry.clone())).collect()
}

/// Changes the file of this test and has it read; returns when all of it was done.
pub(super) fn reread(daemon: &Daemon, name: &str, list: &[(&str, Value)], offered: usize) {
    file(name, &servers(list));
    reread_as_it_is(daemon);
    daemon.wait_until("the tools are offered", |daemon| {
        let log = daemon.log();
        let last = log.rsplit("settings: read again").next().unwrap_or_default();
        last.contains(&format!("mcp: {offered} tools are offered"))
    });
}

fn reread_as_it_is(daemon: &Daemon) {
    let before = daemon.log().matches("settings: read again").count();
    daemon.signal("HUP");
    daemon.wait_until("it is read again", |daemon| {
        daemon.log().matches("settings: read again").count() > before
    });
}

/// A mark in the environment finds the process of an entry.
fn marked(mark: &str) -> Value {
    let mut entry = entry("");
    entry["env"]["MARK"] = json!(mark);
    entry
}

fn gone(daemon: &Daemon, mark: &str) {
    daemon.wait_until(&format!("{mark} has ended"), |_| processes_with(mark) == 0);
}

/// The simulated model calls whatever tool it knows when a turn names it.
pub(super) fn assert_unknown(client: &mut Client, tool: &str) {
    let before = client.of_type("tool").len();
    client.tell(&json!({ "type": "text", "text": format!("{tool} {{\"text\":\"x\"}}") }));
    client.wait_for_next("response_done");
    assert_eq!(client.of_type("tool").len(), before, "the model still knows {tool}");
}

/// One server is added, one changes its place, one goes, one stays: in the midst of a call, which can call what
/// there is now, and nothing that has gone. The one that stays is not started again.
#[test]
fn a_running_call_gets_the_servers_of_the_file_as_it_is_now() {
    let own = format!("reread-{}", std::process::id());
    let mark = |name: &str| format!("{own}-{name}");
    let start = [
        ("goes", marked(&mark("goes"))),
        ("moves", marked(&mark("old"))),
        ("stays", marked(&mark("stays"))),
    ];
    let daemon = demo("reread", &servers(&start));
    daemon.wait_for_log("3 tools are offered");
    let mut client = call(&daemon);
    for name in ["goes", "moves", "stays"] {
        good_answer(&mut client, name, "at first");
    }
    let next = [
        ("comes", marked(&mark("comes"))),
        ("moves", marked(&mark("new"))),
        ("stays", marked(&mark("stays"))),
    ];
    reread(&daemon, "reread", &next, 3);
    for name in ["comes", "moves", "stays"] {
        good_answer(&mut client, name, "and then");
    }
    assert_unknown(&mut client, "goes_echo");
    gone(&daemon, &mark("goes"));
    gone(&daemon, &mark("old"));
    let log = daemon.log();
    assert_eq!(log.matches("mcp stays: it is ready").count(), 1, "{log}");
    assert_eq!(log.matches("mcp moves: it is ready").count(), 2, "{log}");
    assert!(!log.contains("after a restart"), "{log}");
    // And with the whole file's servers gone, none is left.
    reread(&daemon, "reread", &[], 0);
    for name in ["comes", "new", "stays"] {
        gone(&daemon, &mark(name));
    }
    assert_eq!(daemon.threads(), 1);
    assert_eq!(daemon.stop("TERM"), Some(0));
}

/// What only says how a server's tools are used counts at once, and the server notices nothing.
#[test]
fn terms_of_a_server_change_without_a_restart_of_it() {
    let daemon = demo("terms", &servers(&[("s", entry("lists nonsense"))]));
    daemon.wait_for_log("1 tools are offered");
    let mut client = call(&daemon);
    let mut other = entry("lists nonsense");
    other["confirm"] = json!("always");
    reread(&daemon, "terms", &[("s", other.clone())], 1);
    client.tell(&json!({ "type": "text", "text": r#"s_echo {"text":"may it?"}"# }));
    let asked = client.wait_for("a question", |message| message["type"] == "confirm");
    assert_eq!(asked["tool"], "s_echo");
    client.tell(&json!({ "type": "confirm", "id": asked["id"], "allow": false }));
    other["deny"] = json!(["echo"]);
    reread(&daemon, "terms", &[("s", other)], 0);
    assert_eq!(daemon.log().matches("mcp s: it is ready").count(), 1);
}

/// A fault is named with its line and its reason. It costs nothing that worked.
#[test]
fn a_faulty_file_keeps_the_last_good_one() {
    let name = "faulty";
    let daemon = demo(name, &servers(&[("a", entry("")), ("b", entry(""))]));
    daemon.wait_for_log("2 tools are offered");
    let mut client = call(&daemon);
    let path = file(name, &Map::new());
    let write = |text: &str| std::fs::write(&path, text).expect("the file");
    // A comma is missing in line 3.
    write("{\"mcpServers\": {\n\"a\": {\"command\": \"x\"}\n\"b\": {}\n}}");
    reread_as_it_is(&daemon);
    daemon.wait_for_log("VOICELIVED_MCP_FILE: line 3 of ");
    daemon.wait_for_log("this is not valid JSON");
    for server in ["a", "b"] {
        daemon.wait_for_log(&format!("mcp {server}: its last good version stays"));
        good_answer(&mut client, server, "still here");
    }
    // One server has a fault, the other one has gone.
    write("{\"mcpServers\": {\n\n\"a\": {\"command\": 3}}}");
    reread_as_it_is(&daemon);
    daemon.wait_for_log("line 3 of ");
    daemon.wait_for_log("a: it must be a text");
    daemon.wait_for_log("mcp b: the file does not name it any more");
    good_answer(&mut client, "a", "after the fault");
    assert_unknown(&mut client, "b_echo");
    assert_eq!(daemon.log().matches("mcp a: it is ready").count(), 1);
    // A file that cannot be read changes nothing at all.
    std::fs::remove_file(&path).expect("it is there");
    daemon.signal("HUP");
    daemon.wait_for_log("the old settings stay: ");
    good_answer(&mut client, "a", "without a file");
    // A server that was taken out while it ends comes back when the file names it again.
    for list in [&[][..], &[("a", entry("")), ("b", entry(""))]] {
        file(name, &servers(list));
        reread_as_it_is(&daemon);
    }
    daemon.wait_until("both are offered again", |daemon| {
        let log = daemon.log();
        let last = log.lines().rev().find(|line| line.contains("tools are offered"));
        last.is_some_and(|line| line.contains("mcp: 2 tools"))
    });
    good_answer(&mut client, "a", "back");
    assert_eq!(daemon.stop("TERM"), Some(0));
}

/// `/metrics` tells how many servers there are, and how it goes.
#[test]
fn metrics_tell_of_servers() {
    let list = [("dead", entry("dies at the start")), ("good", entry(""))];
    let daemon = demo("metrics", &servers(&list));
    daemon.wait_for_log("1 tools are offered");
    daemon.wait_until("one has failed", |daemon| daemon.count("mcp_failures_total", "") >= 2);
    let now = ["mcp_servers", "mcp_servers_ready", "mcp_tools"].map(|name| daemon.count(name, ""));
    assert_eq!(now, [2, 1, 1]);
    reread(&daemon, "metrics", &[("dead", entry("dies at the start"))], 0);
    let now = ["mcp_servers", "mcp_servers_ready", "mcp_tools"].map(|name| daemon.count(name, ""));
    assert_eq!(now, [1, 0, 0]);
}
