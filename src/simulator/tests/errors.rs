//! Everything a client can do wrong.

use super::*;

/// Sends one bad event and returns code and param of the only answer.
fn refused(client: &mut Client, mut event: Value) -> (String, String) {
    event["event_id"] = "bad1".into();
    client.take();
    client.send(event);
    let events = client.take();
    assert_eq!(kinds(&events), ["error"], "{events:?}");
    let error = &events[0]["error"];
    assert_eq!(
        (&error["type"], &error["event_id"]),
        (&json!("invalid_request_error"), &json!("bad1"))
    );
    assert!(error["message"].as_str().unwrap().starts_with("[simulator] "));
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    (text("code"), text("param"))
}

#[test]
fn each_mistake_gets_the_service_s_kind_of_error() {
    let mut client = Client::configured(&[], usual_session());
    for (event, code, param) in [
        (json!({"type": "hello"}), "invalid_value", "type"),
        (json!({"text": "hello"}), "missing_required_parameter", "type"),
        (json!({"type": "session.update"}), "missing_required_parameter", "session"),
        (
            json!({"type": "session.update", "session": {"foo": 1}}),
            "unknown_parameter",
            "session.foo",
        ),
        (
            json!({"type": "session.update", "session": {"type": "realtime"}}),
            "unknown_parameter",
            "session.type",
        ),
        (json!({"type": "input_audio_buffer.append"}), "missing_required_parameter", "audio"),
        (
            json!({"type": "input_audio_buffer.append", "audio": "not base64"}),
            "invalid_value",
            "audio",
        ),
        (json!({"type": "input_audio_buffer.append", "audio": "AAA"}), "invalid_value", "audio"),
        (json!({"type": "input_audio_buffer.append", "audio": "AAAA"}), "invalid_value", "audio"),
        (json!({"type": "input_audio_buffer.append", "audio": 7}), "invalid_type", "audio"),
        (
            json!({"type": "input_audio_buffer.append", "audio": "", "rate": 1}),
            "unknown_parameter",
            "rate",
        ),
        (json!({"type": "input_audio_buffer.commit"}), "input_audio_buffer_commit_empty", ""),
        (json!({"type": "response.cancel"}), "response_cancel_not_active", ""),
        (json!({"type": "conversation.item.create"}), "missing_required_parameter", "item"),
        (json!({"type": "conversation.item.retrieve", "item_id": "x"}), "invalid_value", "item_id"),
        (json!({"type": "conversation.item.delete", "item_id": "x"}), "invalid_value", "item_id"),
        (
            json!({"type": "conversation.item.truncate", "item_id": "x", "content_index": 0,
            "audio_end_ms": 5}),
            "invalid_value",
            "item_id",
        ),
        (
            json!({"type": "conversation.item.create", "item": {"type": "function_call_output",
            "call_id": "nobody", "output": "{}"}}),
            "invalid_value",
            "item.call_id",
        ),
        (
            json!({"type": "conversation.item.create", "item": {"type": "function_call_output",
            "call_id": "nobody", "output": {}}}),
            "invalid_type",
            "item.output",
        ),
        (
            json!({"type": "conversation.item.create", "item": {"type": "message", "role": "assistant",
            "content": [{"type": "input_text", "text": "x"}]}}),
            "invalid_value",
            "item.content[0].type",
        ),
        (
            json!({"type": "conversation.item.create", "previous_item_id": "x", "item": {
            "type": "message", "role": "user", "content": []}}),
            "invalid_value",
            "previous_item_id",
        ),
        (json!({"type": "input_audio.turn.start", "turn_id": "t"}), "invalid_value", "type"),
    ] {
        let expected = (code.to_owned(), param.to_owned());
        assert_eq!(refused(&mut client, event.clone()), expected, "{event}");
    }
    client.say("Still there?");
    client.wait(3000);
    assert!(transcript(&client.take()).contains("Still there?"));
}

/// What a client tells of a conversation that was held in another session. The service refuses the item,
/// and takes what follows.
#[test]
fn a_conversation_that_is_told_again_is_judged_item_by_item() {
    let message = |id: &str, role: &str, kind: &str| json!({"type": "message", "id": id, "role": role, "content": [{"type": kind, "text": "x"}]});
    let call =
        |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"});
    let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "{}"});
    let (fits, long) = ("i".repeat(32), "i".repeat(33));
    for dialect in [Dialect::Dated, Dialect::Ga] {
        let mut client = Client::with(Options { welcome: false, ..Options::default() }, dialect);
        let kind = if dialect == Dialect::Ga { json!({"type": "realtime"}) } else { json!({}) };
        client.send(json!({"type": "session.update", "session": kind}));
        find(&client.take(), "session.updated");
        let other = if dialect == Dialect::Ga { "text" } else { "input_text" };
        for (item, refused_for) in [
            (message(&fits, "user", "input_text"), None),
            (message(&fits, "user", "input_text"), Some("item.id")),
            (message(&long, "user", "input_text"), Some("item.id")),
            (message("u1", "user", "text"), Some("item.content[0].type")),
            (message("u2", "user", "output_text"), Some("item.content[0].type")),
            (message("s1", "system", "text"), Some("item.content[0].type")),
            (message("s2", "system", "input_text"), None),
            (message("a1", "assistant", other), Some("item.content[0].type")),
            (message("a2", "assistant", "output_text"), None),
            (message("a3", "nobody", "input_text"), Some("item.role")),
            (output("c1"), Some("item.call_id")),
            (call("c1"), None),
            (output("c1"), None),
            (output("c1"), Some("item.call_id")),
            (call(&long), Some("item.call_id")),
            (call(&fits), None),
        ] {
            let event = json!({"type": "conversation.item.create", "item": item});
            if let Some(param) = refused_for {
                assert_eq!(refused(&mut client, event).1, param, "{dialect:?} {item}");
            } else {
                client.send(event);
                let taken = client.take();
                assert!(all(&taken, "error").is_empty(), "{dialect:?} {item}: {taken:?}");
            }
        }
    }
}

#[test]
fn messages_that_are_no_json_objects_are_answered() {
    let mut client = Client::configured(&[], json!({}));
    for text in ["", "{", "[]", "null", "{\"type\":\"session.update\"", "\u{0}"] {
        client.send_text(text);
        assert_eq!(error_code(&client.take()), "invalid_json", "{text}");
    }
    client.simulation.handle_binary(&[0xff, 0xfe], client.now);
    client.read();
    assert_eq!(error_code(&client.take()), "invalid_json");
    let update = br#"{"type":"session.update","session":{}}"#;
    client.simulation.handle_binary(update, client.now);
    client.read();
    find(&client.take(), "session.updated");
}

#[test]
fn a_call_is_answered_once_and_only_as_asked() {
    let mut client = Client::configured(&[], usual_session());
    client.say("weather");
    let events = client.take();
    let call_id = &find(&events, "response.function_call_arguments.done")["call_id"];
    let item = json!({"type": "function_call_output", "call_id": call_id, "output": "{}"});
    let output = json!({"type": "conversation.item.create", "item": item});
    client.send(output.clone());
    find(&client.take(), "conversation.item.created");
    assert_eq!(refused(&mut client, output).1, "item.call_id");
}

#[test]
fn the_voice_is_fixed_once_it_was_heard() {
    let mut client = Client::configured(&[], json!({"voice": "alloy"}));
    client.say("Hello");
    client.wait(3000);
    let update = json!({"type": "session.update", "session": {"voice": "echo"}});
    assert_eq!(refused(&mut client, update).0, "cannot_update_voice");
}

#[test]
fn a_flood_of_mistakes_is_bounded() {
    let mut client = Client::configured(&[], json!({}));
    for sent in 0..10_000 {
        assert_eq!(client.simulation.congested(), (64..=4096).contains(&sent), "{sent}");
        client.simulation.handle_text("x", client.now);
    }
    client.others.clear();
    while let Some(action) = client.simulation.poll(client.now) {
        client.others.push(action);
    }
    assert!(client.others.len() <= 4096);
    assert!(matches!(client.others.last(), Some(Action::Close { code: Some(1008), .. })));
}
