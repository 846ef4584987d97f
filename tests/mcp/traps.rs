//! The traps that users of MCP clients have met (`docs/mcp.md`): each as a test of its own, named after it.

use serde_json::{Map, json};

use super::command::voicelived;
use super::{call, demo, entry, good_answer, hasty, processes_with, run};
use crate::support::daemon::Daemon;

fn one(fault: &str) -> Daemon {
    let name = format!("trap-{}", fault.replace(' ', "-"));
    demo(&name, &Map::from_iter([("s".to_owned(), entry(fault))]))
}

/// Greetings and logs come before the first answer. They are in the log, and the connection goes on.
#[test]
fn text_on_standard_output_that_is_no_json_is_passed_over() {
    let daemon = one("prints on its standard output");
    daemon.wait_for_log("1 tools are offered");
    good_answer(&mut call(&daemon), "s", "all the same");
    let log = daemon.log();
    assert!(log.contains("what it writes is no message: Server 1.0 started"), "{log}");
    assert!(!log.contains('\u{1b}'), "raw bytes of a server are in the log");
    assert_eq!(log.matches("mcp s: it is ready").count(), 1);
}

/// A request of more than a pipe holds leaves in parts, and what the server writes meanwhile is read. Otherwise
/// both would wait for each other for ever.
#[test]
fn a_request_larger_than_the_pipe_gets_through_while_the_server_writes() {
    let entry = entry("writes before it reads");
    let text = "x".repeat(65_500);
    let arguments = json!({ "text": text }).to_string();
    assert!((65_500..=65_536).contains(&arguments.len()), "the most that a tool gets");
    let told = voicelived("large", &[("s", entry)], &[], &["tools", "run", "s_echo", &arguments]);
    assert_eq!(told.output, "65500 bytes have come, xxxxxxxxx\n", "{}", told.errors);
    // In a call the same loop serves the others beside it.
    let daemon = one("writes before it reads");
    daemon.wait_for_log("1 tools are offered");
    let mut client = call(&daemon);
    let text = "x".repeat(500);
    let (state, said) = run(&mut client, "s_echo", &json!({ "text": text }));
    assert!(state == "done" && said.contains("500 bytes have come"), "{state}: {said}");
    assert_eq!(daemon.log().matches("mcp s: it is ready").count(), 1);
}

/// A server that does not know `server/discover` may die of it. It is started again and asked in the old way.
#[test]
fn a_server_that_dies_of_the_probe_is_asked_in_the_old_way() {
    let daemon = one("dies of the first question");
    daemon.wait_for_log("1 tools are offered");
    good_answer(&mut call(&daemon), "s", "alive");
    let log = daemon.log();
    assert!(log.contains("speaks 2025-06-18"), "{log}");
    assert_eq!(log.matches("it is started as process").count(), 2, "once for each question");
}

/// A slow one has taken the new question for its era, and refuses the old one with -32022.
#[test]
fn a_server_that_answers_the_probe_too_late_is_modern_all_the_same() {
    let daemon = one("takes its time for the first question");
    daemon.wait_for_log("1 tools are offered");
    assert!(daemon.log().contains("speaks 2026-07-28"), "{}", daemon.log());
    good_answer(&mut call(&daemon), "s", "late");
}

/// A server that cannot live costs a process now and then, and not one after the other.
#[test]
fn a_server_that_dies_again_and_again_is_started_more_and_more_rarely() {
    let daemon = one("dies at the start");
    for seconds in [1, 2, 4, 8] {
        daemon.wait_for_log(&format!("mcp s: it is started anew in {seconds} s: "));
    }
    let log = daemon.log();
    assert_eq!(log.matches("it is started as process").count(), 4, "{log}");
}

/// A grandchild holds the pipes of a server that has ended. The exit counts, and the grandchild ends with it.
#[test]
fn a_grandchild_that_holds_the_pipes_keeps_no_dead_server_alive() {
    let mark = format!("held-{}", std::process::id());
    let mut entry = entry("leaves a child with its pipes");
    entry["env"]["MARK"] = json!(mark);
    let daemon = demo("trap-held", &Map::from_iter([("s".to_owned(), entry)]));
    daemon.wait_for_log("1 tools are offered");
    assert_eq!(processes_with(&mark), 2);
    let mut client = call(&daemon);
    let (state, said) = run(&mut client, "s_echo", &json!({ "text": "leave" }));
    assert!(state == "failed" && said.contains("exit status: 0"), "{state}: {said}");
    daemon.wait_until("it is ready again", |daemon| {
        daemon.log().matches("mcp s: it is ready").count() == 2
    });
    daemon.wait_until("the first grandchild has ended", |_| processes_with(&mark) == 2);
    good_answer(&mut client, "s", "anew");
    assert_eq!(daemon.stop("TERM"), Some(0));
}

/// The time limit of a call ends that call. The same process answers the next one, and the other call's.
#[test]
fn the_time_limit_of_a_tool_does_not_end_its_connection() {
    let servers = Map::from_iter([("s".to_owned(), hasty("answers only the word"))]);
    let daemon = demo("trap-time-limit", &servers);
    daemon.wait_for_log("1 tools are offered");
    let mut client = call(&daemon);
    for _ in 0..2 {
        let (state, said) = run(&mut client, "s_echo", &json!({ "text": "nothing" }));
        assert!(state == "failed" && said.contains("took too long"), "{state}: {said}");
        good_answer(&mut client, "s", "word");
    }
    assert_eq!(daemon.log().matches("it is started as process").count(), 1, "{}", daemon.log());
    daemon.assert_counted("mcp_failures_total", "", 0);
}
