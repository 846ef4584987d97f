//! Spoken turns: detection, the echo, barge-in, push-to-talk.

use super::*;

#[test]
fn a_spoken_turn_has_the_recorded_order_of_events() {
    let mut client = Client::configured(&[], usual_session());
    client.speak(&speech("weather"));
    client.speak(&speech("silence-1s"));
    client.wait(5000);
    let events = client.take();
    let order: Vec<&str> = kinds(&events);
    assert_eq!(
        order[..14],
        [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.created",
            "conversation.item.done",
            "response.created",
            "response.output_item.added",
            "conversation.item.created",
            "response.content_part.added",
            "response.audio_transcript.delta",
            "response.audio.delta",
            "conversation.item.input_audio_transcription.delta",
            "conversation.item.input_audio_transcription.completed",
            "response.audio_transcript.delta",
        ]
    );
    assert_eq!(
        order[order.len() - 6..],
        [
            "response.audio.delta",
            "response.audio.done",
            "response.audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.done",
        ]
    );
    let user = &find(&events, "input_audio_buffer.committed")["item_id"];
    assert_eq!(all(&events, "conversation.item.created")[1]["previous_item_id"], *user);
    let done = &find(&events, "response.done")["response"];
    assert_eq!(
        (&done["status"], &done["output"][0]["role"]),
        (&json!("completed"), &json!("assistant"))
    );
    assert!(done["usage"]["total_tokens"].as_u64().unwrap() > 0);
}

#[test]
fn speech_is_found_where_it_is_and_played_back_byte_for_byte() {
    // Onset and end in milliseconds as the speech files were made; 420 ms of padding before.
    for (name, onset, end) in
        [("greeting", 500, 2640), ("stock", 500, 3120), ("weather", 500, 2760)]
    {
        let mut client = Client::configured(&[], usual_session());
        let sent = [speech(name), speech("silence-1s")].concat();
        client.speak(&sent);
        client.wait(5000);
        let events = client.take();
        let started = find(&events, "input_audio_buffer.speech_started");
        let started = started["audio_start_ms"].as_u64().unwrap();
        let stopped = find(&events, "input_audio_buffer.speech_stopped");
        let stopped = stopped["audio_end_ms"].as_u64().unwrap();
        assert!(started.abs_diff(onset - 420) <= 60, "{name} started at {started}");
        assert!(stopped.abs_diff(end + 500) <= 150, "{name} stopped at {stopped}");
        let bytes = |milliseconds: u64| usize::try_from(milliseconds * 48).unwrap();
        let slice = bytes(started)..bytes(stopped);
        assert_eq!(audio(&events), sent[slice], "{name}");
        assert!(transcript(&events).starts_with("[simulator] You said that for "));
    }
}

#[test]
fn pauses_separate_turns_and_silence_makes_none() {
    let vad = json!({"type": "server_vad", "create_response": false});
    let mut client = Client::configured(&[], json!({"turn_detection": vad}));
    client.speak(&speech("silence-1s"));
    assert!(client.events.is_empty());
    client.speak(&speech("long-pauses"));
    let events = client.take();
    let starts: Vec<u64> = all(&events, "input_audio_buffer.speech_started")
        .iter()
        .map(|event| event["audio_start_ms"].as_u64().unwrap())
        .collect();
    assert_eq!(starts.len(), 3, "{starts:?}");
    for (start, expected) in starts.iter().zip([1500, 4020, 6980]) {
        // The prefix can't reach into the turn before.
        assert!(start.abs_diff(expected - 400) <= 80, "{starts:?}");
    }
    assert!(all(&events, "response.created").is_empty());
}

#[test]
fn replies_come_faster_than_real_time_but_not_at_once() {
    let mut client = Client::configured(&["reply-seconds=10", "speed=5"], usual_session());
    client.say("Hello!");
    let first = audio(&client.events).len();
    client.wait(1000);
    let after_a_second = audio(&client.events).len() / 48;
    assert!(first < 48 * 1000, "{first}");
    assert!((4500..=6000).contains(&after_a_second), "{after_a_second}");
    client.wait(2000);
    let pcm = audio(&client.take());
    assert_eq!(pcm.len(), 480_000);
    let whole = (0..240_000).flat_map(|n| crate::pattern_sample(n).to_le_bytes());
    assert!(pcm.into_iter().eq(whole));
}

#[test]
fn barge_in_cancels_the_reply_and_truncates_history() {
    let words = ["reply-seconds=60", "speed=2", "late-deltas=3"];
    let mut client = Client::configured(&words, usual_session());
    client.say("Tell me a story.");
    client.wait(1500);
    client.take();
    client.speak(&speech("stock")[..48 * 1000]);
    let events = client.take();
    let start =
        events.iter().position(|e| e["type"] == "input_audio_buffer.speech_started").unwrap();
    let after = &events[start..];
    assert_eq!(
        kinds(after),
        [
            "input_audio_buffer.speech_started",
            "response.audio.delta",
            "response.audio.done",
            "response.audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.done",
            "conversation.item.truncated",
        ]
    );
    assert_eq!(all(after, "response.audio.delta").len(), 3);
    let done = &find(after, "response.done")["response"];
    assert_eq!(done["status"], "cancelled");
    assert_eq!(done["status_details"]["reason"], "turn_detected");
    assert_eq!(done["output"][0]["status"], "incomplete");
    // Heard in real time since the first delta, though twice as much was sent.
    let heard = find(after, "conversation.item.truncated")["audio_end_ms"].as_u64().unwrap();
    assert!((1900..2300).contains(&heard), "{heard}");
    client.speak(&speech("stock")[48 * 1000..]);
    client.speak(&speech("silence-1s"));
    find(&client.take(), "response.created");
}

#[test]
fn speech_after_the_reply_was_sent_only_truncates() {
    let mut client = Client::configured(&["reply-seconds=5", "speed=20"], usual_session());
    client.say("Hello!");
    client.wait(1000);
    find(&client.take(), "response.done");
    client.speak(&speech("stock")[..48 * 800]);
    let events = client.take();
    assert_eq!(
        kinds(&events),
        ["input_audio_buffer.speech_started", "conversation.item.truncated"]
    );
    let heard = events[1]["audio_end_ms"].as_u64().unwrap();
    assert!((1400..1800).contains(&heard), "{heard}");
}

#[test]
fn without_interruption_the_reply_goes_on_and_the_turn_waits() {
    let mut session = usual_session();
    session["turn_detection"] = json!({"type": "server_vad", "interrupt_response": false});
    let mut client = Client::configured(&["reply-seconds=20", "speed=2"], session);
    client.say("Hello!");
    client.speak(&speech("greeting"));
    client.speak(&speech("silence-1s"));
    client.wait(20_000);
    let events = client.take();
    let replies: Vec<&Value> =
        all(&events, "response.done").iter().map(|e| &e["response"]["status"]).collect();
    assert_eq!(replies, ["completed", "completed"]);
    assert_eq!(all(&events, "response.created").len(), 2);
}

#[test]
fn push_to_talk_answers_when_asked() {
    let mut client = Client::configured(&[], json!({"turn_detection": null}));
    let said = speech("greeting");
    client.speak(&said);
    assert!(client.events.is_empty());
    client.send(json!({"type": "input_audio_buffer.commit"}));
    client.wait(1000);
    let events = client.take();
    assert_eq!(kinds(&events), ["input_audio_buffer.committed", "conversation.item.created"]);
    client.send(json!({"type": "response.create"}));
    client.wait(5000);
    assert_eq!(audio(&client.take()), said);
    client.append(&said);
    client.send(json!({"type": "input_audio_buffer.clear"}));
    assert_eq!(kinds(&client.take()), ["input_audio_buffer.cleared"]);
    client.send(json!({"type": "input_audio_buffer.commit"}));
    assert_eq!(error_code(&client.events), "input_audio_buffer_commit_empty");
}

#[test]
fn the_transcription_can_come_early_late_or_fail() {
    let position = |events: &[Value], kind: &str| events.iter().position(|e| e["type"] == kind);
    let completed = "conversation.item.input_audio_transcription.completed";
    for (word, after, before) in [
        ("transcript=early", "conversation.item.done", "response.created"),
        ("transcript=usual", "response.created", "response.audio.done"),
        ("transcript=late", "response.done", ""),
    ] {
        let mut client = Client::configured(&[word], usual_session());
        client.speak(&speech("greeting"));
        client.speak(&speech("silence-1s"));
        client.wait(3000);
        let events = client.take();
        let at = position(&events, completed).unwrap();
        assert!(position(&events, after).unwrap() < at, "{word}");
        assert!(position(&events, before).is_none_or(|before| at < before), "{word}");
        let text = events[at]["transcript"].as_str().unwrap();
        assert!(
            text.starts_with("[simulator] (") && text.ends_with("seconds of speech)"),
            "{text}"
        );
    }
    let mut client = Client::configured(&["transcript=failed"], usual_session());
    client.speak(&speech("greeting"));
    client.speak(&speech("silence-1s"));
    client.wait(3000);
    find(&client.take(), "conversation.item.input_audio_transcription.failed");
}

#[test]
fn slower_input_is_played_back_at_24_khz() {
    let session = json!({"input_audio_sampling_rate": 8000, "turn_detection": null});
    let mut client = Client::configured(&[], session);
    client.append(&vec![0; 16_000]);
    client.send(json!({"type": "input_audio_buffer.commit"}));
    client.send(json!({"type": "response.create"}));
    client.wait(1000);
    assert_eq!(audio(&client.take()).len(), 48_000);
}
