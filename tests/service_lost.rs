//! A daemon whose connection to the service breaks: the call goes on, and the service's next session
//! knows what was said.

use std::time::{Duration, Instant};

use crate::support;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::client::{Client, speech};
use support::daemon::{Daemon, PATIENCE};
use support::service::{Lines, Service};
use support::switch::Switch;
use support::witness;

/// A whole spoken turn and its answer.
fn take_a_turn(client: &mut Client) {
    client.audio.clear();
    let answers = client.of_type("response_done").len();
    client.speak(&[speech("weather"), vec![0; 48_000]].concat(), 4);
    let expected = witness::pattern(1);
    client.wait_for_audio(expected.len());
    assert!(client.audio == expected, "every byte of the answer");
    while client.of_type("response_done").len() == answers {
        client.wait_for_next("response_done");
    }
}

/// Reads until the client was told of so many states.
fn wait_for_states(client: &mut Client, count: usize) {
    while states(client).len() < count {
        client.wait_for_next("call_state");
    }
}

/// Waits until the service was told so much of something.
fn wait_for(count: usize, told: impl Fn() -> Vec<Value>) -> Vec<Value> {
    let end = Instant::now() + PATIENCE;
    loop {
        let all = told();
        if all.len() >= count {
            return all;
        }
        assert!(Instant::now() < end, "{all:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn states(client: &Client) -> Vec<String> {
    let states = client.of_type("call_state");
    states.iter().map(|state| state["state"].as_str().expect("text").to_owned()).collect()
}

#[test]
fn a_call_goes_on_after_each_loss_of_the_service() {
    let service = Daemon::simulate(&["no-welcome", "reply-seconds=1"]);
    let switch = Switch::to(service.address);
    let daemon = Daemon::run(switch.address, &[]);
    let descriptors = daemon.descriptors();
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    take_a_turn(&mut client);
    for losses in 1..=3 {
        switch.cut();
        wait_for_states(&mut client, 2 + 2 * losses);
        take_a_turn(&mut client);
        daemon.assert_counted("service_reconnects_total", "", losses as u64);
    }
    assert_eq!(switch.visits(), 4);
    assert_eq!(states(&client)[..4], ["connecting", "active", "reconnecting", "active"]);
    let log = daemon.log();
    assert!(log.contains("connected again after"), "{log}");
    assert!(log.contains("items of the conversation were sent again"), "{log}");
    client.tell(&json!({"type": "hang_up"}));
    daemon.assert_counted("calls_ended_total", "hang_up", 1);
    daemon.assert_nothing_left(descriptors);
}

#[test]
fn the_next_session_is_told_what_was_said() {
    let service = Service::new();
    let switch = Switch::to(service.address);
    let daemon = Daemon::run(switch.address, &[]);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    client.tell(&json!({"type": "text", "text": "My name is Ada."}));
    let told = |count: usize| wait_for(count, || service.items());
    assert_eq!(told(1)[0]["content"][0]["text"], "My name is Ada.");
    switch.cut();
    wait_for_states(&mut client, 4);
    assert_eq!(told(2)[1]["content"][0]["text"], "My name is Ada.");
    assert_eq!(service.calls().len(), 2);
    client.tell(&json!({"type": "hang_up"}));
}

#[test]
fn a_service_that_stays_away_ends_the_call_with_its_reason() {
    let service = Daemon::simulate(&["no-welcome"]);
    let refusing = Daemon::simulate(&["refuse=401"]);
    let busy = Daemon::simulate(&["refuse=503"]);
    let switch = Switch::to(service.address);
    let daemon = Daemon::run(switch.address, &[("VOICELIVED_RECONNECT_SECONDS", "3")]);
    for (next, reason) in [(&refusing, "unauthorized"), (&busy, "service_trouble")] {
        switch.turn_to(service.address);
        let mut client = Client::connect(daemon.address);
        client.wait_until_active();
        switch.turn_to(next.address);
        switch.cut();
        client.assert_ends(reason, 1011, reason);
    }
}

#[test]
fn calls_that_come_back_together_share_one_budget() {
    let service = Daemon::simulate(&["no-welcome"]);
    let switch = Switch::to(service.address);
    let settings = [("VOICELIVED_CONNECTS_PER_MINUTE", "5"), ("VOICELIVED_RECONNECT_SECONDS", "3")];
    let daemon = Daemon::run(switch.address, &settings);
    let mut clients: Vec<_> = (0..4).map(|_| Client::connect(daemon.address)).collect();
    clients.iter_mut().for_each(Client::wait_until_active);
    switch.cut();
    let mut back = 0;
    for client in &mut clients {
        wait_for_states(client, 4);
        back += usize::from(states(client).last().expect("a state") == "active");
    }
    assert_eq!(back, 1, "four new calls and one that came back: the budget of a minute is spent");
    assert_eq!(switch.visits(), 5);
}

/// The whole as a person would try it: the built-in simulator drops the connection in the middle of a
/// message, stays away for a moment, and is then asked what it knows.
#[test]
fn the_simulator_can_be_asked_whether_the_conversation_has_outlived_its_connection() {
    let faults = ["no-welcome", "drop-at=30000", "times=1", "down=1:429:1"];
    let service = Daemon::simulate(&faults);
    let daemon = Daemon::run(service.address, &[]);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    client.tell(&json!({"type": "text", "text": "My name is Ada."}));
    wait_for_states(&mut client, 4);
    assert_eq!(states(&client), ["connecting", "active", "reconnecting", "active"]);
    client.tell(&json!({"type": "text", "text": "What have I said so far?"}));
    loop {
        let transcript = client.wait_for_next("transcript");
        let text = transcript["text"].as_str().expect("text");
        if text.contains("So far you have said") {
            assert!(text.contains("\"My name is Ada.\""), "{text}");
            break;
        }
    }
    client.tell(&json!({"type": "hang_up"}));
}

/// A service that is in the middle of a reply: so many bytes of its audio have come.
fn in_a_reply(bytes: usize) -> Service {
    let part = json!({"response_id": "r", "item_id": "a", "output_index": 0, "content_index": 0});
    let delta = |kind: &str, delta: &str| {
        let mut event = part.clone();
        event["type"] = kind.into();
        event["delta"] = delta.into();
        event
    };
    Service::saying(Lines {
        first: vec![json!({"type": "session.created", "session": {"id": "s", "model": "m"}})],
        updated: None,
        then: vec![
            json!({"type": "response.created", "response": {"id": "r"}}),
            delta("response.audio_transcript.delta", "One, two,"),
            delta("response.audio.delta", &STANDARD.encode(vec![1; bytes])),
        ],
    })
}

/// What had come of the reply is heard and known in either case. Only an owner who wants it continued has the
/// next session asked to go on; else the user has the next word.
#[test]
fn a_reply_that_was_cut_off_is_continued_or_settled_as_the_owner_wants() {
    for (setting, goes_on) in [("on", true), ("off", false)] {
        let (first, next) = (in_a_reply(48_000), Service::new());
        let switch = Switch::to(first.address);
        let daemon = Daemon::run(switch.address, &[("VOICELIVED_CONTINUE_REPLY", setting)]);
        let mut client = Client::connect(daemon.address);
        client.wait_until_active();
        client.wait_for_audio(48_000);
        switch.turn_to(next.address);
        switch.cut();
        wait_for_states(&mut client, 4);
        let end = client.of_type("response_done");
        assert_eq!((end.len(), &end[0]["status"]), (1, &json!("lost")), "{setting}");
        if !goes_on {
            client.tell(&json!({"type": "text", "text": "And then?"}));
        }
        let asked = wait_for(1, || next.asked());
        let items = next.items();
        assert_eq!(items[0]["role"], "assistant", "{setting}: {items:?}");
        assert_eq!(items[0]["content"][0]["text"], "One, two,", "{setting}: {items:?}");
        let instructions = asked[0]["instructions"].as_str().unwrap_or_default();
        assert_eq!(instructions.contains("broke off in the middle"), goes_on, "{asked:?}");
        let last = items.last().expect("the reply");
        assert_eq!(last["role"], if goes_on { "assistant" } else { "user" }, "{items:?}");
        assert_eq!(asked.len(), 1, "{setting}: {asked:?}");
        assert_eq!(client.audio.len(), 48_000, "{setting}");
        client.tell(&json!({"type": "hang_up"}));
    }
}
