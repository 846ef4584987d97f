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
