//! What depends on the family of the model: defaults, order of a turn, pace, and what follows a
//! refused configuration.

use super::*;

fn cascade(words: &[&str]) -> Client {
    let script = Script::parse(words).unwrap();
    let options = Options { script, welcome: false, ..Options::default() };
    Client::of_model("gpt-4.1-mini", options, Dialect::Dated)
}

fn configured_cascade(words: &[&str]) -> Client {
    let mut client = cascade(words);
    let mut session = usual_session();
    session["input_audio_transcription"] = json!({"model": "azure-speech"});
    client.send(json!({"type": "session.update", "session": session}));
    find(&client.take(), "session.updated");
    client
}

fn say_aloud(client: &mut Client, name: &str) -> Vec<Value> {
    client.speak(&speech(name));
    client.speak(&speech("silence-1s"));
    client.wait(3000);
    client.take()
}

#[test]
fn an_untouched_cascade_session_is_another_one() {
    let client = cascade(&[]);
    let session = &find(&client.events, "session.created")["session"];
    assert_eq!(session["modalities"], json!(["audio", "text"]));
    assert_eq!(session["voice"]["name"], "en-US-AvaNeural");
    assert_eq!(session["input_audio_transcription"]["model"], "azure-speech");
    assert_eq!(session["temperature"], 0.8);
    assert_eq!(session["turn_detection"]["silence_duration_ms"], 500);
    assert_eq!(session["expires_at"], 1_795_400_000 + 7200);
    let newer = Client::of_model("gpt-realtime-2", Options::default(), Dialect::Dated);
    let session = &find(&newer.events, "session.created")["session"];
    assert_eq!(
        (&session["voice"]["name"], &session["expires_at"]),
        (&json!("marin"), &json!(1_795_403_600))
    );
    assert_eq!(session["turn_detection"]["silence_duration_ms"], 500);
}

#[test]
fn a_cascade_turn_begins_with_its_words() {
    let mut client = configured_cascade(&[]);
    let events = say_aloud(&mut client, "weather");
    let order = kinds(&events);
    assert_eq!(
        order[..9],
        [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.input_audio_transcription.completed",
            "conversation.item.created",
            "response.created",
            "response.output_item.added",
            "conversation.item.created",
            "response.content_part.added",
        ]
    );
    assert!(!order.contains(&"conversation.item.done"));
    assert!(!order.contains(&"conversation.item.input_audio_transcription.delta"));
    let words = &find(&events, "conversation.item.input_audio_transcription.completed");
    let items = all(&events, "conversation.item.created");
    assert_eq!(items[0]["item"]["content"][0]["transcript"], words["transcript"]);
    assert_eq!(items[1]["item"]["status"], "incomplete");
    assert_eq!(find(&events, "response.output_item.added")["item"]["status"], "incomplete");
    assert_eq!(find(&events, "response.output_item.done")["item"]["status"], "completed");
    assert_eq!(find(&events, "response.created")["response"]["conversation_id"], "");

    let second = say_aloud(&mut client, "stock");
    let item = find(&second, "conversation.item.created");
    assert_eq!(item["previous_item_id"], items[0]["item"]["id"], "the user's item before it");
    assert_eq!(
        find(&second, "input_audio_buffer.committed")["previous_item_id"],
        items[0]["item"]["id"]
    );
    client.say("And typed?");
    assert_eq!(
        find(&client.take(), "conversation.item.created")["previous_item_id"],
        item["item"]["id"]
    );
}

#[test]
fn the_speech_of_a_cascade_leaves_in_a_burst() {
    let mut client = configured_cascade(&["reply-seconds=10"]);
    client.say("Tell me a story.");
    client.wait(600);
    let events = client.take();
    assert_eq!(audio(&events).len(), 480_000, "ten seconds within 0.6 s");
    find(&events, "response.done");
    let deltas = all(&events, "response.audio.delta");
    assert!(
        deltas
            .iter()
            .all(|d| STANDARD.decode(d["delta"].as_str().unwrap()).unwrap().len() == 24_000)
    );
    // So whoever interrupts finds no response any more: only the history is cut.
    client.speak(&speech("stock")[..48 * 900]);
    assert_eq!(
        kinds(&client.take()),
        ["input_audio_buffer.speech_started", "conversation.item.truncated"]
    );
}

#[test]
fn a_cascade_s_recogniser_can_fail_or_be_late() {
    let failed = "conversation.item.input_audio_transcription.failed";
    let mut client = configured_cascade(&["transcript=failed"]);
    let events = say_aloud(&mut client, "weather");
    assert_eq!(kinds(&events)[3..5], [failed, "conversation.item.created"]);
    let item = find(&events, "conversation.item.created");
    assert_eq!(item["item"]["content"][0]["transcript"], Value::Null);
    let mut client = configured_cascade(&["transcript=late"]);
    let events = say_aloud(&mut client, "weather");
    assert_eq!(
        kinds(&events).last(),
        Some(&"conversation.item.input_audio_transcription.completed")
    );
}

#[test]
fn an_empty_transcription_can_come_again() {
    let mut client = configured_cascade(&["transcript=twice"]);
    let events = say_aloud(&mut client, "weather");
    let told = all(&events, "conversation.item.input_audio_transcription.completed");
    assert_eq!((told.len(), &told[1]["transcript"]), (2, &json!("")));
    assert_eq!(told[0]["item_id"], told[1]["item_id"]);
    assert_eq!(events.last().unwrap()["transcript"], "", "behind response.done");
}

#[test]
fn nothing_is_taken_after_a_refused_configuration() {
    let mut client = Client::scripted(&[]);
    let bad = json!({"turn_detection": {"type": "server_vad"}, "input_audio_transcription": {"model": "azure-speech"}});
    client.take();
    client.send(json!({"type": "session.update", "event_id": "cfg", "session": bad}));
    let error = find(&client.take(), "error")["error"].clone();
    assert_eq!(
        (&error["code"], &error["event_id"]),
        (&json!("invalid_request_error"), &json!(null))
    );
    for event in [
        json!({"type": "session.update", "session": usual_session()}),
        json!({"type": "response.create"}),
        json!({"type": "input_audio_buffer.append", "audio": "AAAAAA=="}),
    ] {
        client.send(event);
        client.wait(2000);
        assert_eq!(kinds(&client.take()), ["error"]);
    }
}

#[test]
fn a_refused_echo_cancellation_or_a_later_refusal_ends_nothing() {
    let mut client = Client::scripted(&[]);
    let echo = json!({"modalities": ["text"], "input_audio_echo_cancellation": {"type": "server_echo_cancellation"}});
    client.take();
    client.send(json!({"type": "session.update", "session": echo}));
    assert_eq!(error_code(&client.take()), "ec_not_supported");
    client.send(json!({"type": "session.update", "session": {"modalities": ["text"]}}));
    assert_eq!(kinds(&client.take()), ["session.updated"]);
    // The session is text only now, so the next one is refused without naming modalities.
    let echo = json!({"input_audio_echo_cancellation": {"type": "server_echo_cancellation"}});
    client.send(json!({"type": "session.update", "session": echo}));
    assert_eq!(error_code(&client.take()), "ec_not_supported");
    client.say("Still there?");
    assert_eq!(find(&client.take(), "response.done")["response"]["status"], "completed");
}

#[test]
fn a_single_response_has_no_voice_of_another_family_either() {
    let mut client = configured_cascade(&[]);
    for (voice, code) in [
        (json!("alloy"), "invalid_value"),
        (json!({"type": "azure-realtime-native", "name": "ava"}), "invalid_value"),
    ] {
        client.send(json!({"type": "response.create", "response": {"voice": voice}}));
        assert_eq!(error_code(&client.take()), code);
    }
    client.send(json!({"type": "response.create", "response": {"voice": {"type": "azure-standard", "name": "en-US-AvaNeural"}}}));
    client.wait(3000);
    find(&client.take(), "response.done");
    client.send(json!({"type": "response.create", "response": {"voice": {"type": "azure-standard", "name": "en-US-BrianNeural"}}}));
    assert_eq!(error_code(&client.take()), "cannot_update_voice");
}
