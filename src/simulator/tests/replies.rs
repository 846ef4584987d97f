//! Welcome, typed turns, tools, cancelling, session limits.

use super::*;

#[test]
fn the_session_says_that_it_is_a_simulator() {
    let client = Client::scripted(&[]);
    let session = &find(&client.events, "session.created")["session"];
    assert_eq!(session["model"], "voicelived-simulator");
    assert_eq!(session["id"], "sim_7");
    assert_eq!(session["expires_at"], 1_795_403_600);
    assert_eq!(session["modalities"], json!(["audio"]));
    assert_eq!(session["turn_detection"]["silence_duration_ms"], 200);
}

#[test]
fn the_welcome_is_spoken_once_after_configuration() {
    let mut client = Client::with(Options::default(), Dialect::Dated);
    client.wait(1000);
    assert_eq!(kinds(&client.take()), ["session.created"]);
    client.send(json!({"type": "session.update", "session": usual_session()}));
    client.wait(5000);
    let events = client.take();
    assert_eq!(audio(&events).len() / 48, 3861);
    assert!(transcript(&events).starts_with("[simulator] This is the simulator"));
    client.send(json!({"type": "session.update", "session": usual_session()}));
    client.wait(5000);
    assert_eq!(kinds(&client.take()), ["session.updated"]);
}

#[test]
fn a_greeting_of_the_client_replaces_the_welcome() {
    let mut client = Client::with(Options::default(), Dialect::Dated);
    client.send(json!({"type": "session.update", "session": usual_session()}));
    client.wait(100);
    let message = json!({"type": "message", "role": "assistant",
        "content": [{"type": "text", "text": "Hello! How can I help?"}]});
    let params = json!({"pre_generated_assistant_message": message});
    client.send(json!({"type": "response.create", "response": params}));
    client.wait(10_000);
    let events = client.take();
    assert_eq!(transcript(&events), "[simulator] Hello! How can I help?");
    assert_eq!(all(&events, "response.created").len(), 1);
}

#[test]
fn a_first_plain_response_is_the_welcome_and_a_second_has_nothing_to_say() {
    let mut client = Client::configured(&[], usual_session());
    client.send(json!({"type": "response.create"}));
    client.wait(3000);
    assert!(transcript(&client.take()).contains("This is the simulator"));
    client.send(json!({"type": "response.create"}));
    client.wait(3000);
    assert_eq!(transcript(&client.take()), "[simulator] There is nothing new to answer.");
}

#[test]
fn typed_turns_are_quoted_and_text_only_replies_have_no_audio() {
    let mut client = Client::configured(&[], usual_session());
    client.say("Good morning");
    client.wait(3000);
    let events = client.take();
    assert_eq!(transcript(&events), "[simulator] You wrote: Good morning");
    assert!(audio(&events).len() > 48 * 500);
    client.send(json!({"type": "session.update", "session": {"modalities": ["text"]}}));
    client.take();
    client.say("Good evening");
    let events = client.take();
    assert_eq!(find(&events, "response.text.done")["text"], "[simulator] You wrote: Good evening");
    assert_eq!(find(&events, "response.content_part.done")["part"]["text"], "");
    assert!(audio(&events).is_empty());
}

fn calls(events: &[Value]) -> Vec<(String, String, Value)> {
    let done = all(events, "response.output_item.done");
    let calls = done.iter().filter(|event| event["item"]["type"] == "function_call");
    calls
        .map(|event| {
            let item = &event["item"];
            let text = |key: &str| item[key].as_str().unwrap().to_owned();
            (text("name"), text("call_id"), serde_json::from_str(&text("arguments")).unwrap())
        })
        .collect()
}

fn answer(client: &mut Client, call_id: &str, output: &str) {
    let item = json!({"type": "function_call_output", "call_id": call_id, "output": output});
    client.send(json!({"type": "conversation.item.create", "item": item}));
}

#[test]
fn one_tool_round_from_the_words_to_the_spoken_result() {
    let mut client = Client::configured(&[], usual_session());
    client.say("What is the weather in Paris?");
    let events = client.take();
    assert_eq!(
        kinds(&events)[1..],
        [
            "response.created",
            "response.output_item.added",
            "conversation.item.created",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.done",
        ]
    );
    let found = calls(&events);
    assert_eq!(found[0].0, "get_weather");
    assert_eq!(found[0].2, json!({"city": "Paris"}));
    let deltas = all(&events, "response.function_call_arguments.delta");
    let pieces: String = deltas.iter().map(|e| e["delta"].as_str().unwrap()).collect();
    assert!(deltas.len() > 3 && pieces.contains('\n'));
    assert_eq!(find(&events, "response.function_call_arguments.done")["arguments"], pieces);
    answer(&mut client, &found[0].1, r#"{"condition":"fog"}"#);
    client.send(json!({"type": "response.create"}));
    client.wait(3000);
    let events = client.take();
    assert_eq!(transcript(&events), "[simulator] The tool says that condition is fog.");
    assert!(!audio(&events).is_empty());
}

#[test]
fn two_calls_in_one_response_and_both_results_in_one_answer() {
    let mut client = Client::configured(&["say-first"], usual_session());
    client.say("weather and stock");
    client.wait(3000);
    let events = client.take();
    let done = &find(&events, "response.done")["response"]["output"];
    assert_eq!(done.as_array().unwrap().len(), 3);
    assert_eq!(done[0]["type"], "message");
    let found = calls(&events);
    for (_, call_id, _) in &found {
        answer(&mut client, call_id, &format!("result of {call_id}"));
    }
    client.send(json!({"type": "response.create"}));
    client.wait(3000);
    let text = transcript(&client.take());
    assert!(found.iter().all(|(_, call_id, _)| text.contains(call_id)), "{text}");
}

#[test]
fn every_third_spoken_turn_calls_a_tool_and_every_sixth_two() {
    let mut client = Client::configured(&["speed=50"], usual_session());
    let mut counts = Vec::new();
    for _ in 0..6 {
        client.take();
        client.speak(&speech("greeting"));
        client.speak(&speech("silence-1s"));
        client.wait(2000);
        let events = client.take();
        let found = calls(&events);
        counts.push(found.len());
        for (_, call_id, _) in &found {
            answer(&mut client, call_id, "{}");
        }
        if !found.is_empty() {
            client.send(json!({"type": "response.create"}));
            client.wait(2000);
            assert!(transcript(&client.take()).contains("nothing to tell"));
        }
    }
    assert_eq!(counts, [0, 0, 1, 0, 0, 2]);
}

#[test]
fn a_reply_can_be_cancelled_and_truncated_by_the_client() {
    let mut client = Client::configured(&["reply-seconds=60"], usual_session());
    client.say("A story, please.");
    client.wait(1000);
    client.send(json!({"type": "response.cancel"}));
    let events = client.take();
    let done = &find(&events, "response.done")["response"];
    assert_eq!(done["status_details"]["reason"], "client_cancelled");
    let item = done["output"][0]["id"].clone();
    let truncate = |end: i64| {
        json!({"type": "conversation.item.truncate", "item_id": item, "content_index": 0,
            "audio_end_ms": end})
    };
    client.send(truncate(400));
    assert_eq!(find(&client.take(), "conversation.item.truncated")["audio_end_ms"], 400);
    client.send(truncate(401));
    assert_eq!(error_code(&client.take()), "invalid_value");
}

#[test]
fn only_one_response_at_a_time_unless_the_script_cancels() {
    let mut client = Client::configured(&["reply-seconds=60"], usual_session());
    client.say("One");
    client.take();
    client.send(json!({"type": "response.create", "event_id": "second"}));
    let events = client.take();
    assert_eq!(error_code(&events), "conversation_already_has_active_response");
    assert_eq!(find(&events, "error")["error"]["event_id"], "second");
    let mut client = Client::configured(&["reply-seconds=60", "cancel-previous"], usual_session());
    client.say("One");
    client.say("Two");
    let events = client.take();
    assert_eq!(find(&events, "response.done")["response"]["status"], "cancelled");
    assert_eq!(all(&events, "response.created").len(), 2);
}

#[test]
fn a_client_that_has_read_response_done_may_ask_at_once() {
    let mut client = Client::configured(&["speed=1000"], usual_session());
    client.say("One");
    // Reads event by event, as a socket with little room would.
    loop {
        client.now += Duration::from_millis(1);
        if let Some(Action::Send(text)) = client.simulation.poll(client.now) {
            let event: Value = serde_json::from_str(&text).unwrap();
            if event["type"] == "response.done" {
                break;
            }
        }
    }
    client.take();
    client.say("Two");
    assert!(all(&client.take(), "error").is_empty());
}

#[test]
fn a_session_ends_at_its_limit() {
    let mut client = Client::configured(&["session-seconds=5", "reply-seconds=60"], json!({}));
    client.say("Hello");
    client.wait(4999);
    assert!(client.others.is_empty());
    client.take();
    client.wait(1);
    assert_eq!(error_code(&client.events), "session_expired");
    let [Action::Close { code: Some(1001), reason }] = &client.others[..] else {
        panic!("{:?}", client.others);
    };
    assert!(reason.contains("maximum duration of 5 seconds"));
    assert_eq!(client.simulation.deadline(), None);
    client.take();
    client.say("Anyone?");
    client.wait(1000);
    assert!(client.events.is_empty());
}

#[test]
fn the_ga_dialect_has_its_names_and_shapes() {
    let options = Options { welcome: false, ..Options::default() };
    let mut client = Client::with(options, Dialect::Ga);
    let session = &find(&client.events, "session.created")["session"];
    assert_eq!(session["type"], "realtime");
    assert_eq!(session["audio"]["input"]["format"]["rate"], 24000);
    assert!(session["modalities"].is_null());
    let audio = json!({"input": {"turn_detection": {"type": "server_vad"},
        "transcription": {"model": "whisper-1"}}, "output": {"voice": "marin"}});
    let session = json!({"type": "realtime", "output_modalities": ["audio"], "audio": audio,
        "tools": two_tools()});
    client.send(json!({"type": "session.update", "session": session}));
    let updated = &find(&client.events, "session.updated")["session"];
    assert_eq!(updated["audio"]["output"]["voice"], "marin");
    client.take();
    client.say("Hello");
    client.wait(3000);
    let events = client.take();
    let order = kinds(&events);
    assert_eq!(order[..2], ["conversation.item.added", "conversation.item.done"]);
    assert!(order.contains(&"response.output_audio.delta"));
    assert!(order.contains(&"response.output_audio_transcript.done"));
    assert_eq!(
        order[order.len() - 4..],
        [
            "response.content_part.done",
            "conversation.item.done",
            "response.output_item.done",
            "response.done",
        ]
    );
    client.send(json!({"type": "session.update", "session": {"modalities": ["text"]}}));
    assert_eq!(find(&client.events, "error")["error"]["param"], "session.type");
}
