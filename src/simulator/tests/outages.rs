//! Connections that the script ends, and the conversation that a client brings to the next one.

use super::*;
use crate::refuse_while_down;

/// Another connection to the same simulator.
fn connect(options: &Rc<Options>, now: Instant) -> Client {
    let model = "gpt-realtime".to_owned();
    let admission = Admission { dialect: Dialect::Dated, model, agent: false };
    let simulation = Simulation::new(Rc::clone(options), admission, 7, now, 1_795_400_000);
    let mut client = Client { simulation, now, events: Vec::new(), others: Vec::new() };
    client.read();
    client
}

fn options(words: &[&str]) -> Rc<Options> {
    let script = Script::parse(words).unwrap();
    Rc::new(Options { script, welcome: false, ..Options::default() })
}

#[test]
fn only_as_many_connections_end_as_the_script_says() {
    let options = options(&["reset@reply", "times=2"]);
    let now = Instant::now();
    for connection in 0..4 {
        let mut client = connect(&options, now);
        client.send(json!({"type": "session.update", "session": {}}));
        client.say("Hello");
        client.wait(20_000);
        let ended = client.others.contains(&Action::Reset);
        assert_eq!(ended, connection < 2, "connection {connection}");
        assert_eq!(!all(&client.events, "response.done").is_empty(), connection >= 2);
    }
}

#[test]
fn the_service_stays_away_for_as_long_as_the_script_says() {
    let options = options(&["session-seconds=20", "down=5:429:7"]);
    let now = Instant::now();
    assert!(refuse_while_down(&options, now).is_none(), "nothing has ended yet");
    let mut client = connect(&options, now);
    client.wait(19_000);
    assert!(refuse_while_down(&options, client.now).is_none());
    client.wait(1_000);
    let closed = |action: &Action| matches!(action, Action::Close { code: Some(1001), .. });
    assert!(client.others.iter().any(closed));
    let refusal = refuse_while_down(&options, client.now).expect("a refusal");
    assert_eq!(refusal.status, 429);
    assert!(refusal.headers.contains(&("Retry-After", "7".to_owned())));
    assert!(refuse_while_down(&options, client.now + Duration::from_secs(5)).is_none());
}

fn ask_what_was_said(client: &mut Client) -> String {
    client.events.clear();
    client.say("And what have I said so far?");
    client.wait(20_000);
    transcript(&client.events)
}

#[test]
fn it_tells_what_the_user_has_said_in_this_connection_and_in_one_that_was_lost() {
    let mut client = Client::configured(&[], usual_session());
    assert!(ask_what_was_said(&mut client).contains("You have said nothing before."));
    client.say("My name is Ada.");
    client.wait(20_000);
    client.speak(&speech("weather"));
    client.speak(&[0; 48_000 * 2]);
    client.wait(30_000);
    let told = ask_what_was_said(&mut client);
    assert!(told.contains("\"My name is Ada.\", \"("), "{told}");
    assert!(told.contains(" of speech)\"."), "{told}");

    let mut again = Client::configured(&[], usual_session());
    for (role, kind, text) in
        [("user", "input_text", "My name is Ada."), ("assistant", "text", "Good day, Ada.")]
    {
        let item = json!({"id": format!("old_{role}"), "type": "message", "role": role,
            "content": [{"type": kind, "text": text}]});
        again.send(json!({"type": "conversation.item.create", "item": item}));
    }
    let told = ask_what_was_said(&mut again);
    assert!(told.contains("So far you have said: \"My name is Ada.\"."), "{told}");
}

#[test]
fn a_tool_that_was_called_in_another_connection_is_not_called_again() {
    let mut client = Client::configured(&[], usual_session());
    let content = json!([{"type": "input_text", "text": "How is the weather in Oslo?"}]);
    for item in [
        json!({"type": "message", "role": "user", "content": content}),
        json!({"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": "{}"}),
        json!({"type": "function_call_output", "call_id": "c1", "output": "{\"sky\":\"clear\"}"}),
    ] {
        client.send(json!({"type": "conversation.item.create", "item": item}));
    }
    client.send(json!({"type": "response.create"}));
    client.wait(20_000);
    assert!(transcript(&client.events).contains("sky is clear"));
}

#[test]
fn what_was_answered_in_another_connection_is_not_answered_again() {
    let mut client = Client::configured(&[], usual_session());
    for (role, kind, text) in
        [("user", "input_text", "My name is Ada."), ("assistant", "text", "Good day, Ada.")]
    {
        let content = json!([{"type": kind, "text": text}]);
        let item = json!({"type": "message", "role": role, "content": content});
        client.send(json!({"type": "conversation.item.create", "item": item}));
    }
    client.send(json!({"type": "response.create"}));
    client.wait(20_000);
    let told = transcript(&client.events);
    assert!(!told.contains("Ada"), "{told}");
}
