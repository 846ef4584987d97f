//! Tools that ask first, through the whole program: what the user is shown is what runs, once, and nothing
//! runs without a yes.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::support;
use serde_json::{Value, json};
use support::client::Client;
use support::daemon::Daemon;
use support::tools::Folder;

/// A tool that notes what it was run with, and asks first.
fn door(folder: &str, words: &str) -> (Folder, String) {
    let script = format!("{{ echo {words}; cat; echo; }} >>opened; echo {words}");
    let file = json!({"name": "door", "description": "Opens a door of the house.",
        "command": ["sh", "-c", script], "confirm": "always",
        "parameters": {"type": "object", "properties": {"which": {"type": "string"}}}});
    (Folder::new(folder), file.to_string())
}

/// What the tool has noted.
fn opened(folder: &Folder) -> String {
    fs::read_to_string(folder.0.join("opened")).unwrap_or_default()
}

const SHOWN: &str = r#"{"which":"front \"<b>door</b>\""}"#;

/// Types a turn that makes the model call the tool; what the user is asked.
fn ask(client: &mut Client, turn: &str) -> Value {
    let seen = client.of_type("confirm").len();
    client.tell(&json!({"type": "text", "text": turn}));
    while client.of_type("confirm").len() == seen {
        client.wait_for_next("confirm");
    }
    client.of_type("confirm").last().copied().cloned().expect("it was asked")
}

fn answer(client: &mut Client, question: &Value, allow: bool) {
    client.tell(&json!({"type": "confirm", "id": question["id"], "allow": allow}));
}

/// All that has been told before was handled.
fn settle(client: &mut Client) {
    client.tell(&json!({"type": "ping", "id": "settled"}));
    client.wait_for_next("pong");
}

fn says(client: &mut Client, words: &str) {
    client.wait_for(words, |message| {
        message["type"] == "transcript"
            && message["text"].as_str().unwrap_or_default().contains(words)
    });
}

#[test]
fn a_yes_runs_what_was_shown_once_and_a_no_runs_nothing() {
    for faults in [&["no-welcome"][..], &["no-welcome", "dialect=ga"]] {
        let (folder, file) = door("yes", "open");
        folder.write("door.json", &file);
        let service = Daemon::simulate(faults);
        let daemon = Daemon::run(service.address, &[("VOICELIVED_TOOLS_DIR", folder.path())]);
        let mut client = Client::connect(daemon.address);
        client.wait_until_active();

        let asked = ask(&mut client, &format!("door {SHOWN}"));
        let shown: Value = serde_json::from_str(SHOWN).expect("JSON");
        assert_eq!((&asked["tool"], &asked["arguments"]), (&json!("door"), &shown));
        assert_eq!(
            (&asked["seconds"], &asked["about"]),
            (&json!(30), &json!("Opens a door of the house."))
        );
        says(&mut client, "Ask aloud");
        settle(&mut client);
        assert_eq!(opened(&folder), "", "nothing runs before the answer");
        for allow in [true, true, false] {
            answer(&mut client, &asked, allow);
        }
        client.wait_for("its end", |it| it["type"] == "tool" && it["state"] == "done");
        says(&mut client, "The tool said: open");
        answer(&mut client, &asked, true);
        settle(&mut client);
        assert_eq!(opened(&folder), format!("open\n{SHOWN}\n"), "{faults:?}");
        daemon.assert_counted("confirms_total", "allowed", 1);
        daemon.assert_counted("confirms_total", "stray", 3);

        let asked = ask(&mut client, r#"door {"which":"back"}"#);
        answer(&mut client, &asked, false);
        says(&mut client, "The user said no");
        answer(&mut client, &asked, true);
        settle(&mut client);
        assert_eq!(opened(&folder), format!("open\n{SHOWN}\n"));
        daemon.wait_for_log("answers a question that is not open");
        client.tell(&json!({"type": "hang_up"}));
        client.assert_ends("hanging up", 1000, "hang_up");
    }
}

/// The owner's file changes while the user reads. What was shown is what runs.
#[test]
fn a_yes_is_bound_to_the_tool_that_was_shown() {
    let (folder, file) = door("bound", "first");
    folder.write("door.json", &file);
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_TOOLS_DIR", folder.path())]);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    let asked = ask(&mut client, r#"door {"which":"front"}"#);
    folder.change("door.json", "echo first", "echo second");
    daemon.signal("HUP");
    daemon.wait_for_log("settings: read again");
    let other = ask(&mut client, r#"door {"which":"back"}"#);
    assert_ne!(other["id"], asked["id"]);
    // In the other order.
    answer(&mut client, &other, true);
    client.wait_for("its end", |it| it["type"] == "tool" && it["state"] == "done");
    let one = opened(&folder);
    assert!(one.ends_with("\n{\"which\":\"back\"}\n"), "{one}");
    answer(&mut client, &asked, true);
    while client.of_type("tool").iter().filter(|it| it["state"] == "done").count() < 2 {
        client.wait_for_next("tool");
    }
    assert_eq!(opened(&folder), one + "first\n{\"which\":\"front\"}\n");
}

#[test]
fn a_client_that_comes_back_is_asked_again() {
    let (folder, file) = door("back", "open");
    folder.write("door.json", &file);
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_TOOLS_DIR", folder.path())]);
    let mut client = Client::join(daemon.address, "resume", "");
    client.wait_until_active();
    let asked = ask(&mut client, r#"door {"which":"front"}"#);
    let had = client.cut();
    daemon.wait_for_log("the call is held");
    let mut client = had.join(daemon.address, "");
    client.wait_for("hello", |message| message["resumed"] == true);
    let again = client.wait_for_next("confirm");
    assert_eq!((&again["id"], &again["arguments"]), (&asked["id"], &asked["arguments"]));
    assert!(again["seconds"].as_u64().is_some_and(|left| (1..=30).contains(&left)), "{again}");
    answer(&mut client, &again, true);
    answer(&mut client, &again, true);
    client.wait_for("its end", |it| it["type"] == "tool" && it["state"] == "done");
    settle(&mut client);
    assert_eq!(opened(&folder), "open\n{\"which\":\"front\"}\n");
    // Nothing is asked any more.
    let had = client.cut();
    let mut client = had.join(daemon.address, "");
    client.wait_for("hello", |message| message["resumed"] == true);
    let before = client.of_type("confirm").len();
    settle(&mut client);
    assert_eq!(client.of_type("confirm").len(), before);
}

#[test]
fn another_calls_answer_fits_nowhere() {
    let (folder, file) = door("foreign", "open");
    folder.write("door.json", &file);
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_TOOLS_DIR", folder.path())]);
    let [mut one, mut other] = [(), ()].map(|()| Client::connect(daemon.address));
    let [first, second] = [&mut one, &mut other].map(|client| {
        client.wait_until_active();
        ask(client, r#"door {"which":"front"}"#)
    });
    assert_ne!(first["id"], second["id"]);
    answer(&mut one, &second, true);
    answer(&mut other, &first, true);
    settle(&mut one);
    settle(&mut other);
    assert_eq!(opened(&folder), "");
    daemon.assert_counted("confirms_total", "stray", 2);
}

/// A GET only reads; what a program does nobody can tell.
#[test]
fn auto_asks_for_what_may_change_something() {
    let tool = |name: &str, what: Value| {
        let mut file = json!({"name": name, "description": "d", "confirm": "auto"});
        let what = what.as_object().expect("an object").clone();
        file.as_object_mut().expect("an object").extend(what);
        file.to_string()
    };
    let http = |method: &str| json!({"http": {"url": "http://127.0.0.1:1/", "method": method}});
    let folder = Folder::new("auto")
        .with("a.json", &tool("program", json!({"command": ["true"]})))
        .with("b.json", &tool("reads", http("GET")))
        .with("c.json", &tool("posts", json!({"http": {"url": "http://127.0.0.1:1/", "body": {}}})))
        .with("d.json", &tool("deletes", http("DELETE")));
    let told = folder.tools(&[]);
    let asks = |name: &str| {
        told.output.lines().any(|line| line.starts_with(name) && line.contains("asks first"))
    };
    let asking = ["program", "reads", "posts", "deletes", "get_weather"].map(asks);
    assert_eq!(asking, [true, false, true, true, false], "{}", told.output);
}

/// A tool of the service's own, on an MCP server that only the cloud reaches.
#[test]
fn a_request_of_the_services_is_asked_and_answered() {
    let folder = Folder::new("session");
    let session = json!({"tools": [{"type": "mcp", "server_label": "docs",
        "server_url": "https://docs.invalid/mcp", "require_approval": "always"}]});
    folder.write("session.json", &session.to_string());
    let path = folder.0.join("session.json");
    for faults in [&["no-welcome"][..], &["no-welcome", "dialect=ga"]] {
        let service = Daemon::simulate(faults);
        let settings = [("AZURE_VOICE_LIVE_SESSION_FILE", path.to_str().expect("UTF-8"))];
        let daemon = Daemon::run(service.address, &settings);
        let mut client = Client::connect(daemon.address);
        client.wait_until_active();
        for (allow, words) in [(true, "simulated server would find"), (false, "has not allowed it")]
        {
            let asked = ask(&mut client, r#"docs search {"query":"voice"}"#);
            assert_eq!(
                (&asked["server"], &asked["tool"], &asked["arguments"]),
                (&json!("docs"), &json!("search"), &json!({"query": "voice"})),
                "{faults:?}"
            );
            answer(&mut client, &asked, allow);
            says(&mut client, words);
        }
    }
}

// ---- voicelived call ----

/// `voicelived call` with a typed turn, on a terminal whose user types these lines, each when this was asked.
fn on_a_terminal(daemon: &Daemon, turn: &str, lines: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_voicelived");
    let command =
        format!("{program} call --url ws://{}/ws --text '{turn}'; echo code $?", daemon.address);
    let mut terminal = support::pty::command(&command).spawn().expect("script of util-linux");
    let mut keyboard = terminal.stdin.take().expect("a pipe");
    let mut screen = terminal.stdout.take().expect("a pipe");
    let (mut text, mut bytes) = (String::new(), [0; 4096]);
    let mut lines = lines.iter();
    let mut asked = 0;
    while let Ok(count @ 1..) = screen.read(&mut bytes) {
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        if text.matches("y/N?").count() > asked {
            asked += 1;
            let line = lines.next().expect("another question");
            keyboard.write_all(format!("{line}\n").as_bytes()).expect("it reads");
        }
        if text.contains("code ") && text.trim_end().ends_with(|c: char| c.is_ascii_digit()) {
            break;
        }
    }
    drop(keyboard);
    terminal.wait().expect("ours");
    text
}

#[test]
fn a_command_asks_on_its_terminal_and_says_no_without_one() {
    let (folder, file) = door("command", "open");
    folder.write("door.json", &file);
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_TOOLS_DIR", folder.path())]);
    let turn = r#"door {"which":"front"}"#;

    let program = env!("CARGO_BIN_EXE_voicelived");
    let url = format!("ws://{}/ws", daemon.address);
    let output = Command::new(program)
        .args(["call", "--url", &url, "--text", turn])
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let lines = String::from_utf8_lossy(&output.stdout);
    assert!(lines.contains("no (there is no terminal to ask on)"), "{lines}");
    assert!(lines.contains("tool: door failed") && lines.contains("The user said no"), "{lines}");
    assert!(output.status.success(), "{lines}");
    assert_eq!(opened(&folder), "");

    for no in ["", "n", "what?", "yess"] {
        let text = on_a_terminal(&daemon, turn, &[no]);
        assert!(text.contains("answer: no") && text.contains("code 0"), "{no}: {text}");
    }
    assert_eq!(opened(&folder), "");
    let text = on_a_terminal(&daemon, turn, &["Y"]);
    let asked = r#"question: may the assistant run door with {"which":"front"} (Opens a door of the house.)?"#;
    assert!(text.contains(asked), "{text}");
    assert!(text.contains("tool: door done") && text.contains("The tool said: open"), "{text}");
    assert!(text.contains("code 0"), "{text}");
    assert_eq!(opened(&folder), "open\n{\"which\":\"front\"}\n");
}
