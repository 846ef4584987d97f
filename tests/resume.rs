//! A client's connection breaks without a goodbye: the call is held, and the client takes it up again.

mod support;

use serde_json::{Value, json};
use support::client::Client;
use support::daemon::Daemon;
use support::witness;

/// A call of a client that can take it up again.
fn call(daemon: &Daemon) -> Client {
    let mut client = Client::join(daemon.address, "resume", "");
    client.wait_until_active();
    client
}

fn hello(client: &Client) -> Value {
    (*client.of_type("hello").last().expect("it comes first")).clone()
}

#[test]
fn a_client_goes_on_with_its_call() {
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[]);
    let descriptors = daemon.descriptors();
    let client = call(&daemon);
    let first = hello(&client);
    assert_eq!(
        (&first["resumed"], &first["limits"]["resume_seconds"]),
        (&json!(false), &json!(30))
    );
    let had = client.cut();
    daemon.wait_for_log("the call is held for 30 s");
    let mut client = had.join(daemon.address, "");
    client.wait_for("hello", |message| message["resumed"] == true);
    let second = hello(&client);
    assert_eq!(second["session"], first["session"]);
    assert_ne!(second["resume"], first["resume"]);
    client.wait_for_next("call_state");
    client.tell(&json!({"type": "text", "text": "Hello"}));
    client.wait_for_next("response_done");
    client.tell(&json!({"type": "hang_up"}));
    client.assert_ends("it hangs up", 1000, "hang_up");
    daemon.assert_counted("calls_held_total", "resumed", 1);
    daemon.assert_nothing_left(descriptors);
}

/// The daemon refuses to give the call back, with this reason.
fn assert_refused(daemon: &Daemon, query: &str, fields: &str, reason: &str) {
    let mut client = Client::join(daemon.address, query, fields);
    client.assert_ends(query, 1008, reason);
    assert!(client.of_type("hello").is_empty(), "{query}");
    assert!(client.audio.is_empty(), "{query}");
}

#[test]
fn a_secret_is_good_for_one_call_once() {
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[]);
    let had = call(&daemon).cut();
    let used = had.secret.clone();
    let wrong = "0123456789abcdef0123456789abcdef";
    assert_refused(&daemon, &format!("resume={wrong}"), "", "resume_refused");
    assert_refused(&daemon, &format!("resume={}", &used[1..]), "", "resume_refused");
    let mut client = had.join(daemon.address, "");
    client.wait_for_next("call_state");
    assert_refused(&daemon, &format!("resume={used}"), "", "resume_refused");
    client.tell(&json!({"type": "hang_up"}));
    client.assert_ends("the call goes on", 1000, "hang_up");
    let over = hello(&client)["resume"].as_str().expect("text").to_owned();
    assert_refused(&daemon, &format!("resume={over}"), "", "resume_refused");
    daemon.assert_counted("calls_turned_away_total", "resume_refused", 4);
    // Five in a row are too many. A new call is still welcome.
    for _ in 0..3 {
        assert_refused(&daemon, &format!("resume={wrong}"), "", "resume_refused");
    }
    let head = support::client::upgrade_head(daemon.address, "");
    let head = head.replacen("/ws", &format!("/ws?resume={wrong}"), 1);
    let (_, answer) = support::client::request(daemon.address, &head);
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("Retry-After: "), "{answer}");
    call(&daemon).tell(&json!({"type": "hang_up"}));
}

#[test]
fn who_has_missed_more_than_is_kept_gets_a_new_call() {
    let service = Daemon::simulate(&["no-welcome", "reply-seconds=3", "speed=20"]);
    let daemon = Daemon::run(service.address, &[]);
    for (declared, had_bytes) in [(true, 47_998), (false, 143_998)] {
        let mut client = Client::join(daemon.address, if declared { "resume" } else { "" }, "");
        client.wait_until_active();
        client.tell(&json!({"type": "text", "text": "Hello"}));
        client.wait_for_audio(3 * 48_000);
        let mut had = client.cut();
        had.audio.truncate(had_bytes);
        assert_refused(&daemon, &had.query(), "", "resume_late");
    }
    daemon.assert_counted("calls_turned_away_total", "resume_late", 2);
    daemon.assert_counted("calls_ended_total", "resume_late", 2);
    daemon.assert_counted("calls_held_total", "ended", 2);
}
