//! The child that runs the built-in tools: one for all calls, replaced when it dies or hangs. And `hang_up`,
//! which needs no child.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support;
use serde_json::json;
use support::client::Client;
use support::daemon::{Daemon, PATIENCE};

/// The processes of the daemon that run its built-in tools.
fn helpers(daemon: &Daemon) -> Vec<u32> {
    let children = format!("/proc/{0}/task/{0}/children", daemon.id());
    let children = fs::read_to_string(children).expect("it runs");
    let ids = children.split_whitespace().filter_map(|id| id.parse().ok());
    ids.filter(|id: &u32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("__tools")
    })
    .collect()
}

fn signal(id: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &id.to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn active(daemon: &Daemon) -> Client {
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    client
}

fn ask(client: &mut Client) {
    client.tell(&json!({"type": "text", "text": "get_weather {\"location\":\"Oslo\"}"}));
}

fn end_of_tool(client: &mut Client) -> String {
    let seen = client.messages.len();
    loop {
        let told = client.messages[seen..].iter().map(|(_, message)| message);
        let mut ends = told.filter(|it| it["type"] == "tool" && it["state"] != "running");
        if let Some(end) = ends.next() {
            return end["state"].as_str().unwrap_or_default().to_owned();
        }
        assert!(client.read_one_within(PATIENCE), "the tool does not end");
    }
}

#[test]
fn one_child_serves_all_calls_and_another_takes_its_place_when_it_dies() {
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[]);
    until("it is started", || helpers(&daemon).len() == 1);
    let mut clients: Vec<Client> = (0..4).map(|_| active(&daemon)).collect();
    clients.iter_mut().for_each(ask);
    for client in &mut clients {
        assert_eq!(end_of_tool(client), "done");
    }
    let first = helpers(&daemon);
    assert_eq!(first.len(), 1);
    // It must have lived for a moment to be replaced without being asked for.
    std::thread::sleep(Duration::from_millis(1100));
    signal(first[0], "KILL");
    until("another takes its place", || {
        let now = helpers(&daemon);
        now.len() == 1 && now != first
    });
    ask(&mut clients[0]);
    assert_eq!(end_of_tool(&mut clients[0]), "done");
    daemon.assert_counted("tool_runs_total", "ok", 5);
}

/// Two calls wait for it, one longer than the other. When the first has waited too long, both are told, it alone is
/// killed, and the next run goes well.
#[test]
fn a_child_that_hangs_is_killed_and_the_runs_in_it_end_in_words() {
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[]);
    let mut clients = [active(&daemon), active(&daemon)];
    until("it is started", || helpers(&daemon).len() == 1);
    let hung = helpers(&daemon)[0];
    signal(hung, "STOP");
    ask(&mut clients[0]);
    clients[0].wait_for_next("tool");
    // At its own time the second run would be told what the first one is told.
    std::thread::sleep(Duration::from_secs(2));
    ask(&mut clients[1]);
    let words =
        ["The tool failed: it took too long", "The built-in tools have failed: it took too long"];
    for (client, words) in clients.iter_mut().zip(words) {
        assert_eq!(end_of_tool(client), "failed");
        client.wait_for("an answer about it", |message| {
            let text = message["text"].as_str().unwrap_or_default();
            message["role"] == "assistant" && text.contains(words)
        });
    }
    until("it is killed", || !helpers(&daemon).contains(&hung));
    ask(&mut clients[0]);
    assert_eq!(end_of_tool(&mut clients[0]), "done");
    daemon.wait_for_log("the child of the built-in tools is started anew: it took too long");
}

#[test]
fn the_child_ends_with_the_daemon() {
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[]);
    let client = active(&daemon);
    until("it is started", || helpers(&daemon).len() == 1);
    let helper = helpers(&daemon)[0];
    drop(client);
    assert_eq!(daemon.stop("TERM"), Some(0));
    until("it goes on", || !fs::exists(format!("/proc/{helper}")).expect("a Linux"));
}

/// A typed goodbye: the simulated model calls the tool without a word, is asked for a goodbye, and
/// the call ends when that has been spoken.
#[test]
fn the_model_hangs_up_after_its_goodbye() {
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[]);
    let mut client = active(&daemon);
    client.tell(&json!({"type": "text", "text": "Thank you, goodbye."}));
    let sentence = client.assert_ends("saying goodbye", 1000, "goodbye");
    assert_eq!(sentence, "The assistant said goodbye and ended the call.");
    assert!(client.audio.len() > 4_800, "the goodbye was heard: {}", client.audio.len());
    daemon.assert_counted("calls_ended_total", "goodbye", 1);
}
