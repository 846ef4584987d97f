//! The codec against the published list of events, and the scanner against `serde_json`.

use serde_json::{Map, Value, json};

use super::*;

const EVENTS: &str = include_str!("../../../tests/data/voice-live-events.json");

fn event(text: &str) -> ServiceEvent<'_> {
    match parse(text) {
        Ok(Parsed::Event(event)) => event,
        other => panic!("{text}: {other:?}"),
    }
}

/// A value of the type that the list of events names.
fn value_for(name: &str, catalogue: &Value, depth: usize) -> Value {
    let object = &catalogue["objects"][name];
    match name {
        "integer" => json!(7),
        "number" => json!(0.5),
        "boolean" => json!(true),
        "base64" => json!("AAABAAIAAwD//w=="),
        _ if name.starts_with("array") || name.contains("Union[array") => json!([]),
        _ if name.starts_with("map") => json!({}),
        _ if name.starts_with("Literal[") => json!(name[8..].trim_end_matches(']')),
        _ if object.is_object() && depth < 3 => minimal(object, catalogue, depth + 1),
        _ => json!("text"),
    }
}

fn minimal(entry: &Value, catalogue: &Value, depth: usize) -> Value {
    let mut fields = Map::new();
    for key in entry["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let kind = entry["types"][key].as_str().unwrap_or("string");
        fields.insert(key.to_owned(), value_for(kind, catalogue, depth));
    }
    Value::Object(fields)
}

#[test]
fn every_published_event_parses_with_its_minimal_fields() {
    let catalogue: Value = serde_json::from_str(EVENTS).unwrap();
    let events = catalogue["server_events"].as_object().unwrap();
    assert!(events.len() > 50);
    for (kind, entry) in events {
        let mut event = minimal(entry, &catalogue, 0);
        event["type"] = json!(kind);
        let text = event.to_string();
        let parsed = parse(&text);
        assert!(parsed.is_ok(), "{text}: {parsed:?}");
        let optional = entry["optional"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for key in optional {
            event[key] = Value::Null;
        }
        assert!(parse(&event.to_string()).is_ok(), "{event}");
        let nulls: Map<String, Value> = entry["types"]
            .as_object()
            .unwrap()
            .keys()
            .map(|key| (key.clone(), if key == "type" { json!(kind) } else { Value::Null }))
            .collect();
        assert!(parse(&Value::Object(nulls).to_string()).is_ok(), "{kind} with nulls");
    }
    for kind in catalogue["not_in_sdk"]["server_events"].as_object().unwrap().keys() {
        assert!(parse(&json!({"type": kind}).to_string()).is_ok(), "{kind}");
    }
}

#[test]
fn every_event_the_call_acts_on_is_recognised() {
    let cases = [
        (json!({"type": "session.created", "session": {}}), "SessionCreated"),
        (json!({"type": "session.updated", "session": {}}), "SessionUpdated"),
        (json!({"type": "error", "error": {"message": "m"}}), "Error"),
        (json!({"type": "warning", "warning": {}}), "Warning"),
        (json!({"type": "input_audio_buffer.speech_started"}), "SpeechStarted"),
        (json!({"type": "input_audio_buffer.speech_stopped"}), "SpeechStopped"),
        (json!({"type": "input_audio_buffer.committed"}), "Committed"),
        (json!({"type": "response.created", "response": {"id": "r"}}), "ResponseCreated"),
        (json!({"type": "response.text.delta"}), "ReplyTextDelta"),
        (json!({"type": "response.output_text.delta"}), "ReplyTextDelta"),
        (json!({"type": "response.output_audio_transcript.delta"}), "ReplyTextDelta"),
        (json!({"type": "response.output_audio_transcript.done"}), "ReplyText"),
        (json!({"type": "response.output_text.done"}), "ReplyText"),
        (json!({"type": "response.mcp_call.failed"}), "McpCallFinished"),
        (json!({"type": "response.done", "response": {"id": "r"}}), "ResponseDone"),
        (json!({"type": "conversation.item.truncated"}), "Truncated"),
        (
            json!({"type": "conversation.item.added", "item": {"type": "mcp_approval_request"}}),
            "FunctionCall",
        ),
        (
            json!({"type": "response.output_item.done", "item": {"type": "mcp_approval_request"}}),
            "FunctionCall",
        ),
        (
            json!({"type": "conversation.item.done", "item": {"type": "function_call"}}),
            "FunctionCall",
        ),
        (json!({"type": "response.function_call_arguments.done"}), "FunctionCall"),
        (json!({"type": "response.output_audio.done"}), "AudioDone"),
        (json!({"type": "conversation.item.created", "item": {"type": "message"}}), "Ignored"),
        (json!({"type": "response.output_item.done", "item": {"type": "message"}}), "Ignored"),
        (json!({"type": "response.brand_new"}), "Ignored"),
    ];
    for (value, expected) in cases {
        let text = value.to_string();
        let debug = format!("{:?}", event(&text));
        assert!(debug.starts_with(expected), "{text}: {debug}");
    }
}

#[test]
fn details_are_read() {
    let text = r#"{"type":"response.done","response":{"id":"r","status":"failed","status_details":
        {"type":"failed","error":{"message":"Please retry."}},"usage":{"input_tokens":4,
        "output_tokens":5}}}"#;
    let ServiceEvent::ResponseDone(done) = event(text) else { panic!() };
    assert_eq!((done.status.as_str(), done.error.message.as_str()), ("failed", "Please retry."));
    assert_eq!(done.usage, Some(Usage { input_tokens: 4, output_tokens: 5 }));
    let text = r#"{"type":"response.output_item.done","response_id":"r","item":{"type":"function_call",
        "name":"t","call_id":"c","arguments":"{  \n}","status":"incomplete"}}"#;
    let ServiceEvent::FunctionCall(call) = event(text) else { panic!() };
    assert!(call.stage == Stage::BrokenOff && call.arguments == "{  \n}" && call.call_id == "c");
    let text = r#"{"type":"error","error":{"code":429,"message":"Slow down","param":null}}"#;
    let ServiceEvent::Error(error) = event(text) else { panic!() };
    assert_eq!((error.code.as_str(), error.param.as_str()), ("429", ""));
}

#[test]
fn a_code_beyond_whole_numbers_is_none() {
    let text = r#"{"type":"error","error":{"code":111100006171178737961038381,"message":"No"}}"#;
    let Ok(Parsed::Event(ServiceEvent::Error(error))) = parse(text) else { panic!() };
    assert_eq!((error.code.as_str(), error.message.as_str()), ("", "No"));
}

#[test]
fn what_is_no_event_is_an_error() {
    for text in ["", "{", "[]", "1", "{}", r#"{"type":null}"#, r#"{"type":"a"}x"#] {
        assert!(parse(text).is_err(), "{text}");
    }
    let long = json!({"type": "response.created", "response": {"id": "x".repeat(129)}});
    assert!(parse(&long.to_string()).is_err());
    let long = json!({"type": "response.audio.delta", "response_id": "x".repeat(129), "delta": ""});
    assert!(parse(&long.to_string()).is_err());
}

/// What `serde_json` makes of a text: the three strings of an audio delta. A bare control character is
/// forgiven, so it is spelt as JSON wants it first.
fn by_the_book(text: &str) -> Option<(String, String, String)> {
    let spelt = text.replace('\u{1}', "\\u0001").replace("a\nb", "a\\nb");
    let value: Value = serde_json::from_str(text).or_else(|_| serde_json::from_str(&spelt)).ok()?;
    let kind = value.as_object()?.get("type")?.as_str()?;
    if !scan::AUDIO_DELTA_TYPES.contains(&kind) {
        return None;
    }
    let field = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    Some((field("response_id"), field("item_id"), field("delta")))
}

/// Checks a text both ways; says whether the hot path took it.
fn compare(text: &str) -> bool {
    let expected = by_the_book(text);
    match parse(text) {
        Ok(Parsed::Audio(delta)) => {
            let base64 = text[delta.base64.clone()].to_owned();
            assert_eq!(delta.pcm_bytes, scan::decoded_bytes(base64.as_bytes()));
            let found = (delta.response_id.to_owned(), delta.item_id.to_owned(), base64);
            assert_eq!(Some(found), expected, "{text}");
            true
        }
        Ok(Parsed::AudioOwned(owned)) => {
            assert_eq!(owned.delta().base64, 0..owned.base64.len());
            assert_eq!(Some((owned.response_id, owned.item_id, owned.base64)), expected, "{text}");
            false
        }
        Ok(Parsed::Event(_)) => {
            assert_eq!(expected, None, "{text}");
            false
        }
        Err(_) => {
            let typed = serde_json::from_str::<Value>(text)
                .ok()
                .is_some_and(|value| value.get("type").is_some_and(Value::is_string));
            assert!(!typed, "{text}");
            false
        }
    }
}

const MEMBERS: [&str; 6] = [
    r#""type":"response.audio.delta""#,
    r#""delta":"AAABAAIAAwD//w==""#,
    r#""response_id":"resp_1""#,
    r#""item_id":"item_ä1""#,
    r#""content_index":0"#,
    r#""event_id":"event_34""#,
];

/// All orders of the members (Heap's algorithm).
fn orders(members: &mut [&str], count: usize, visit: &mut impl FnMut(&[&str])) {
    if count <= 1 {
        return visit(members);
    }
    for index in 0..count {
        orders(members, count - 1, visit);
        members.swap(if count.is_multiple_of(2) { index } else { 0 }, count - 1);
    }
}

#[test]
fn the_hot_path_takes_every_key_order_and_white_space() {
    let mut seen = 0;
    orders(&mut MEMBERS.clone(), MEMBERS.len(), &mut |members| {
        assert!(compare(&format!("{{{}}}", members.join(","))));
        assert!(compare(&format!(
            " {{ {} \n}}\t",
            members.join(" ,\r\n ").replace("\":", "\" : ")
        )));
        seen += 1;
    });
    assert_eq!(seen, 720);
    let ga =
        format!("{{{}}}", MEMBERS.join(",")).replace("response.audio", "response.output_audio");
    assert!(compare(&ga));
}

#[test]
fn rare_shapes_take_the_slow_path_and_lose_nothing() {
    let rest = MEMBERS[2..].join(",");
    let kind = MEMBERS[0];
    for text in [
        format!(r#"{{{kind},"delta":"AA\/B",{rest}}}"#),
        format!(r#"{{{kind},"delta":"AA\u002bB",{rest}}}"#),
        format!(r#"{{{kind},"delta":"A","delta":"B",{rest}}}"#),
        format!(r#"{{{kind},"delta":null,{rest}}}"#),
        format!(r#"{{{kind},"d\u0065lta":"AAAA",{rest}}}"#),
        format!(r#"{{{kind},"nested":{{"delta":"X"}},"delta":"AAAA",{rest}}}"#),
        format!(r#"{{{kind},"list":[{{"delta":"X"}}],"delta":"AAAA",{rest}}}"#),
        format!(r#"{{{kind},"note":"\"delta\":\"X\"","delta":"AAAA",{rest}}}"#),
        format!(r#"{{{kind},"number":-1.5e3,"delta":"AAAA",{rest}}}"#),
        format!(r#"{{{kind},"delta":"AAAA"}}"#),
        format!(r#"{{{kind},"delta":"AAAA","response_id":null,"item_id":"i"}}"#),
    ] {
        assert!(!compare(&text), "{text}");
        assert!(matches!(parse(&text), Ok(Parsed::AudioOwned(_))), "{text}");
    }
    assert!(compare(&format!(r#"{{{kind},"a":null,"b":true,"c":false,"delta":"",{rest}}}"#)));
}

#[test]
fn broken_and_odd_texts_agree_with_serde() {
    let base = format!("{{{}}}", MEMBERS.join(","));
    for text in [
        format!("{base}x"),
        format!("{base}{base}"),
        base.replace(":0,", ":00,"),
        base.replace(":0,", ":,"),
        base.replace(":0,", ":nul,"),
        base.replace(":0,", ":9999999999999999999999,"),
        base.replace("event_34", "a\nb"),
        base.replace("event_34", "a\u{7f}b"),
        base.replace(',', ",,"),
        base.replace('}', ",}"),
        base.replace("response.audio.delta", "response.audio.delta "),
        base.replace("response.audio.delta", "response.audio_transcript.delta"),
        "\u{feff}{}".to_owned(),
    ] {
        compare(&text);
    }
}

#[test]
fn truncated_and_damaged_texts_never_panic() {
    let long = format!("{{{},\"n\":{{\"a\":[1,\"\\u00e4\"]}}}}", MEMBERS.join(" , "));
    for text in [long.clone(), format!("{{{}}}", MEMBERS.join(","))] {
        for end in (0..=text.len()).filter(|&end| text.is_char_boundary(end)) {
            compare(&text[..end]);
            let _ = member(&text[..end], "n");
        }
        for at in (0..text.len()).filter(|&at| text.as_bytes()[at].is_ascii()) {
            for byte in ["\"", "\\", "{", "}", ",", ":", "\u{1}", "x", "ä", ""] {
                let damaged = format!("{}{byte}{}", &text[..at], &text[at + 1..]);
                compare(&damaged);
                let _ = member(&damaged, "n");
            }
        }
    }
}
