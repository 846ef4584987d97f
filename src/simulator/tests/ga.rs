//! The shapes of the GA dialect, as recorded from Azure OpenAI.

use super::*;

fn ga() -> Client {
    let options = Options { welcome: false, ..Options::default() };
    let mut client = Client::with(options, Dialect::Ga);
    let audio = json!({"input": {"turn_detection": {"type": "server_vad"},
        "transcription": {"model": "gpt-4o-transcribe"}}, "output": {"voice": "marin"}});
    let session = json!({"type": "realtime", "model": "gpt-realtime", "output_modalities": ["audio"],
        "audio": audio, "tools": two_tools()});
    client.send(json!({"type": "session.update", "session": session}));
    find(&client.take(), "session.updated");
    client
}

/// Every item in an event.
fn items(event: &Value) -> Vec<&Value> {
    let output = event["response"]["output"].as_array().into_iter().flatten();
    event.get("item").into_iter().chain(output).collect()
}

#[test]
fn parts_keep_their_short_names_and_items_have_no_object() {
    let mut client = ga();
    client.say("What is the weather in Paris?");
    client.wait(2000);
    let mut events = client.take();
    let call_id = find(&events, "response.function_call_arguments.done")["call_id"].clone();
    let output = json!({"type": "function_call_output", "call_id": call_id, "output": "{}"});
    client.send(json!({"type": "conversation.item.create", "item": output}));
    client.send(json!({"type": "response.create"}));
    client.wait(3000);
    events.extend(client.take());
    client.send(json!({"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"]}}));
    client.say("Hello");
    client.wait(3000);
    events.extend(client.take());

    let parts: Vec<&Value> = events.iter().filter_map(|event| event.get("part")).collect();
    let kinds: Vec<&str> = parts.iter().map(|part| part["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["audio", "audio", "text", "text"]);
    let all_items: Vec<&Value> = events.iter().flat_map(items).collect();
    assert!(all_items.len() > 10);
    for item in &all_items {
        assert!(item.get("object").is_none(), "{item}");
        let function = item["type"].as_str().unwrap().starts_with("function_call");
        assert_eq!(item.get("content").is_none(), function, "{item}");
    }
    let content = |kind: &str| all_items.iter().any(|item| item["content"][0]["type"] == kind);
    assert!(content("output_audio") && content("output_text"));
    // Each item is announced when it is added and when it is done, with its place.
    for event in all(&events, "conversation.item.done") {
        assert!(event.get("previous_item_id").is_some(), "{event}");
    }
    let deltas = all(&events, "response.function_call_arguments.delta");
    assert!(deltas.iter().all(|delta| delta["obfuscation"].is_string()));
    let audio = all(&events, "response.output_audio.delta");
    assert!(!audio.is_empty() && audio.iter().all(|delta| delta.get("obfuscation").is_none()));
}

#[test]
fn a_transcription_tells_what_it_cost_in_its_unit() {
    let mut client = ga();
    client.speak(&speech("weather"));
    client.speak(&speech("silence-1s"));
    client.wait(3000);
    let events = client.take();
    let usage = &find(&events, "conversation.item.input_audio_transcription.completed")["usage"];
    assert_eq!(usage["type"], "tokens");
    assert_eq!(usage["input_token_details"]["audio_tokens"], usage["input_tokens"]);
    let whisper = json!({"input": {"transcription": {"model": "whisper-1"}}});
    client
        .send(json!({"type": "session.update", "session": {"type": "realtime", "audio": whisper}}));
    client.speak(&speech("weather"));
    client.speak(&speech("silence-1s"));
    client.wait(3000);
    let events = client.take();
    let usage = &find(&events, "conversation.item.input_audio_transcription.completed")["usage"];
    assert_eq!(usage, &json!({"type": "duration", "seconds": 4}));
    // Not in the dated dialect: recorded without.
    let mut dated = Client::configured(&[], usual_session());
    dated.speak(&speech("weather"));
    dated.speak(&speech("silence-1s"));
    dated.wait(3000);
    let events = dated.take();
    let completed = find(&events, "conversation.item.input_audio_transcription.completed");
    assert!(completed.get("usage").is_none());
}

#[test]
fn a_response_has_its_ga_names_and_no_dated_ones() {
    let mut client = ga();
    let said = json!([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]);
    let response =
        json!({"input": said.clone(), "conversation": "none", "output_modalities": ["text"]});
    client.send(json!({"type": "response.create", "response": response}));
    client.wait(1000);
    let events = client.take();
    assert_eq!(find(&events, "response.output_text.done")["text"], "[simulator] You wrote: Hi");
    assert!(all(&events, "conversation.item.added").is_empty());
    assert!(all(&events, "conversation.item.done").is_empty());
    assert_eq!(find(&events, "response.done")["response"]["conversation_id"], Value::Null);
    for key in ["modalities", "input_items", "voice", "temperature"] {
        client.send(json!({"type": "response.create", "response": {key: "x"}}));
        let error = find(&client.take(), "error")["error"].clone();
        assert_eq!(
            (&error["code"], &error["param"]),
            (&json!("unknown_parameter"), &json!(format!("response.{key}")))
        );
    }
    let choice = json!({"input": said, "tool_choice": {"type": "function", "name": "get_weather"}});
    client.send(json!({"type": "response.create", "response": choice}));
    client.wait(1000);
    let events = client.take();
    assert_eq!(find(&events, "response.function_call_arguments.done")["name"], "get_weather");
}

#[test]
fn a_cleared_output_buffer_names_its_response() {
    for dialect in [Dialect::Dated, Dialect::Ga] {
        let mut client = Client::with(Options { welcome: false, ..Options::default() }, dialect);
        client.say("Hello");
        client.wait(300);
        let id = find(&client.take(), "response.created")["response"]["id"].clone();
        for _ in 0..2 {
            client.send(json!({"type": "output_audio_buffer.clear"}));
            assert_eq!(find(&client.take(), "output_audio_buffer.cleared")["response_id"], id);
            client.wait(5000);
            client.take();
        }
    }
}
