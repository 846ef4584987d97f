//! Tools of MCP servers that ask first. What a server says of its own tools counts only where the owner leaves
//! the decision to it.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::{call, demo, entry, run};
use crate::support::client::Client;
use crate::support::daemon::Daemon;

/// A daemon with one server `s` that notes its runs, and the file with the notes.
fn noted(name: &str, fault: &str, confirm: &str, tools: usize) -> (Daemon, PathBuf) {
    let notes = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("mcp-notes-{name}"));
    let _ = std::fs::remove_file(&notes);
    let mut entry = entry(fault);
    entry["env"]["NOTE"] = json!(notes);
    entry["confirm"] = json!(confirm);
    let daemon = demo(&format!("asks-{name}"), &Map::from_iter([("s".to_owned(), entry)]));
    daemon.wait_for_log(&format!("{tools} tools are offered"));
    (daemon, notes)
}

fn runs(notes: &PathBuf) -> Vec<String> {
    let text = std::fs::read_to_string(notes).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Has the model call a tool that asks; the question.
fn ask(client: &mut Client, tool: &str, arguments: &Value) -> Value {
    let seen = client.of_type("confirm").len();
    client.tell(&json!({ "type": "text", "text": format!("{tool} {arguments}") }));
    while client.of_type("confirm").len() == seen {
        client.wait_for_next("confirm");
    }
    client.of_type("confirm").last().copied().cloned().expect("it was asked")
}

fn answer(client: &mut Client, question: &Value, allow: bool) {
    client.tell(&json!({ "type": "confirm", "id": question["id"], "allow": allow }));
}

/// All that was told before has been handled.
fn settle(client: &mut Client) {
    client.tell(&json!({ "type": "ping", "id": "settled" }));
    client.wait_for_next("pong");
}

fn wait_for_done(client: &mut Client, count: usize) {
    let done =
        |client: &Client| client.of_type("tool").iter().filter(|it| it["state"] == "done").count();
    while done(client) < count {
        client.wait_for_next("tool");
    }
}

/// With `auto` the server's word decides, if it is a proper one: yes and no, and no other values.
#[test]
fn auto_asks_unless_the_server_says_that_a_tool_is_harmless() {
    let (daemon, notes) = noted("auto", "tells how its tools are", "auto", 5);
    let mut client = call(&daemon);
    for tool in ["look", "add"] {
        let (state, _) = run(&mut client, &format!("s_{tool}"), &json!({ "text": "the tool" }));
        assert_eq!(state, "done", "{tool}");
    }
    assert_eq!(client.of_type("confirm").len(), 0);
    assert_eq!(runs(&notes).len(), 2);
    for tool in ["wipe", "both", "echo"] {
        let asked = ask(&mut client, &format!("s_{tool}"), &json!({}));
        assert_eq!(asked["tool"], format!("s_{tool}"));
        answer(&mut client, &asked, false);
        settle(&mut client);
    }
    assert_eq!(runs(&notes).len(), 2, "nothing has run without a yes");
}

/// The owner asked for it. No hint of a server switches that off.
#[test]
fn a_read_only_hint_switches_no_confirmation_off_that_the_owner_asked_for() {
    let (daemon, notes) = noted("always", "tells how its tools are", "always", 5);
    let mut client = call(&daemon);
    for tool in ["look", "add", "wipe"] {
        let asked = ask(&mut client, &format!("s_{tool}"), &json!({}));
        settle(&mut client);
        assert_eq!(runs(&notes).len(), 0, "{tool} has run before the answer");
        answer(&mut client, &asked, false);
        settle(&mut client);
    }
    assert_eq!(runs(&notes).len(), 0);
}

/// A yes runs exactly the arguments that were shown, once. The same words again ask again, and so do others.
#[test]
fn a_yes_is_for_these_arguments_and_good_once() {
    let (daemon, notes) = noted("once", "tells how its tools are", "always", 5);
    let mut client = call(&daemon);
    let front = json!({ "text": "front \"<b>door</b>\" 1.0e2" });
    let asked = ask(&mut client, "s_wipe", &front);
    assert_eq!(asked["arguments"], front);
    for allow in [true, true, false, true] {
        answer(&mut client, &asked, allow);
    }
    wait_for_done(&mut client, 1);
    settle(&mut client);
    assert_eq!(runs(&notes), [format!("wipe {front}")]);
    // The yes is used up: for the same arguments as for others.
    for arguments in [front.clone(), json!({ "text": "back door" })] {
        let again = ask(&mut client, "s_wipe", &arguments);
        assert_ne!(again["id"], asked["id"]);
        answer(&mut client, &asked, true);
        settle(&mut client);
        assert_eq!(runs(&notes).len(), 1, "an old yes has run {arguments}");
        answer(&mut client, &again, false);
        settle(&mut client);
    }
    assert_eq!(runs(&notes).len(), 1);
}

/// While the user reads, the server says that its tool is harmless. The open question stays, and the answer to
/// it counts for what was shown.
#[test]
fn a_hint_that_comes_later_answers_no_open_question() {
    let (daemon, notes) = noted("later", "says that its tool is harmless, later", "auto", 1);
    let (mut first, mut second) = (call(&daemon), call(&daemon));
    let open = ask(&mut first, "s_echo", &json!({ "text": "first" }));
    let other = ask(&mut second, "s_echo", &json!({ "text": "second" }));
    answer(&mut second, &other, true);
    wait_for_done(&mut second, 1);
    // The server has said it, and the owner leaves it to the server.
    daemon.wait_until("it is listed again", |daemon| {
        daemon.log().matches("tools are offered").count() >= 2
    });
    settle(&mut first);
    assert_eq!(runs(&notes), [r#"echo {"text":"second"}"#]);
    answer(&mut first, &open, false);
    settle(&mut first);
    assert_eq!(runs(&notes).len(), 1, "a no is a no");
    let (state, _) = run(&mut first, "s_echo", &json!({ "text": "the tool" }));
    assert_eq!((state.as_str(), runs(&notes).len()), ("done", 2));
}
