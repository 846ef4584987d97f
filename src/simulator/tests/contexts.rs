//! Responses with a context of their own, and those that stay out of the conversation.

use super::*;

fn input(text: &str) -> Value {
    json!([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}])
}

fn ask(client: &mut Client, response: Value) -> Vec<Value> {
    client.send(json!({"type": "response.create", "response": response}));
    client.wait(4000);
    client.take()
}

#[test]
fn a_response_out_of_the_conversation_leaves_no_item_and_no_answer_in_it() {
    for outside in [json!({"conversation": "none"}), json!({"commit": false})] {
        let mut client = Client::configured(&[], usual_session());
        client.say("Good morning");
        client.wait(3000);
        let before = find(&client.take(), "response.done")["response"]["output"][0]["id"].clone();
        let mut response = outside.clone();
        response["input_items"] = input("Classify this: hello");
        response["metadata"] = json!({"topic": "classification"});
        let events = ask(&mut client, response);
        assert_eq!(transcript(&events), "[simulator] You wrote: Classify this: hello");
        let done = &find(&events, "response.done")["response"];
        assert_eq!(done["conversation_id"], Value::Null);
        assert_eq!(done["metadata"]["topic"], "classification");
        assert!(all(&events, "conversation.item.created").is_empty());
        let item = &done["output"][0]["id"];
        client.send(json!({"type": "conversation.item.retrieve", "item_id": item}));
        assert_eq!(error_code(&client.take()), "invalid_value", "{outside}");
        client.send(json!({"type": "conversation.item.truncate", "item_id": item, "content_index": 0, "audio_end_ms": 1}));
        assert_eq!(error_code(&client.take()), "invalid_value", "{outside}");
        client.say("And now?");
        let next = client.take();
        assert_eq!(find(&next, "conversation.item.created")["previous_item_id"], before);
    }
}

#[test]
fn what_is_unanswered_stays_so_for_a_response_with_its_own_context() {
    let mut client = Client::configured(&[], usual_session());
    let content = json!([{"type": "input_text", "text": "Who are you?"}]);
    let item = json!({"id": "asked", "type": "message", "role": "user", "content": content});
    client.send(json!({"type": "conversation.item.create", "item": item}));
    let events = ask(&mut client, json!({"input_items": []}));
    assert!(!transcript(&events).contains("Who are you?"), "an empty context");
    let reference = json!([{"type": "item_reference", "id": "asked"}]);
    let events = ask(&mut client, json!({"input_items": reference, "conversation": "none"}));
    assert_eq!(transcript(&events), "[simulator] You wrote: Who are you?");
    let events = ask(&mut client, json!({"commit": false}));
    assert_eq!(transcript(&events), "[simulator] You wrote: Who are you?");
    let events = ask(&mut client, json!({}));
    assert_eq!(transcript(&events), "[simulator] You wrote: Who are you?");
    assert_eq!(all(&events, "conversation.item.created").len(), 1);
    let events = ask(&mut client, json!({}));
    assert_eq!(transcript(&events), "[simulator] There is nothing new to answer.");
    let missing = json!({"input_items": [{"type": "item_reference", "id": "nobody"}]});
    assert_eq!(error_code(&ask(&mut client, missing)), "invalid_value");
    assert_eq!(error_code(&ask(&mut client, json!({"conversation": "all"}))), "invalid_value");
}

#[test]
fn a_call_made_outside_of_the_conversation_cannot_be_answered_in_it() {
    let mut client = Client::configured(&[], usual_session());
    let weather =
        json!({"input_items": input("What is the weather in Rome?"), "conversation": "none"});
    let events = ask(&mut client, weather);
    let call_id = &find(&events, "response.function_call_arguments.done")["call_id"];
    let item = json!({"type": "function_call_output", "call_id": call_id, "output": "{}"});
    client.send(json!({"type": "conversation.item.create", "item": item}));
    assert_eq!(find(&client.take(), "error")["error"]["param"], "item.call_id");
}

#[test]
fn speech_interrupts_only_what_belongs_to_the_conversation() {
    let mut client = Client::configured(&["reply-seconds=20", "speed=2"], usual_session());
    let response = json!({"conversation": "none", "input_items": input("A long aside, please")});
    client.send(json!({"type": "response.create", "response": response}));
    client.wait(1000);
    client.take();
    client.speak(&speech("stock"));
    client.speak(&speech("silence-1s"));
    let events = client.take();
    find(&events, "input_audio_buffer.speech_started");
    assert!(all(&events, "response.done").is_empty(), "it goes on");
    client.wait(20_000);
    let events = client.take();
    let status: Vec<_> =
        all(&events, "response.done").iter().map(|e| e["response"]["status"].clone()).collect();
    assert_eq!(status, ["completed", "completed"], "and the turn is answered behind it");
}

#[test]
fn responses_outside_wait_while_another_runs_and_their_number_has_a_bound() {
    let mut client = Client::configured(&["reply-seconds=60"], usual_session());
    client.say("A long story, please.");
    client.take();
    for _ in 0..8 {
        client.send(json!({"type": "response.create", "response": {"conversation": "none"}}));
        assert!(client.take().is_empty());
    }
    client.send(json!({"type": "response.create", "response": {"conversation": "none"}}));
    assert_eq!(error_code(&client.take()), "conversation_already_has_active_response");
    client.send(json!({"type": "response.create"}));
    assert_eq!(error_code(&client.take()), "conversation_already_has_active_response");
    client.wait(120_000);
    assert_eq!(all(&client.take(), "response.done").len(), 9);
}

#[test]
fn one_response_may_have_its_own_tools_and_choice() {
    let mut client = Client::configured(&[], usual_session());
    client.say("Nothing to call here");
    client.wait(3000);
    client.take();
    let content = json!([{"type": "input_text", "text": "What is the weather in Oslo?"}]);
    let item = json!({"type": "message", "role": "user", "content": content});
    client.send(json!({"type": "conversation.item.create", "item": item}));
    let events = ask(&mut client, json!({"tool_choice": "none"}));
    assert_eq!(transcript(&events), "[simulator] You wrote: What is the weather in Oslo?");
    let events =
        ask(&mut client, json!({"tool_choice": "get_stock_price", "input_items": input("hello")}));
    assert_eq!(find(&events, "response.function_call_arguments.done")["name"], "get_stock_price");
    let own =
        json!([{"type": "function", "name": "own_weather", "parameters": {"type": "object"}}]);
    let events = ask(&mut client, json!({"tools": own, "input_items": input("weather")}));
    assert_eq!(find(&events, "response.function_call_arguments.done")["name"], "own_weather");
}
