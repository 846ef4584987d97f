//! What was said, as text: each turn once, without stray blanks, and with the item that it belongs to,
//! through a real `Session` whose connections are in memory.

use crate::support::scene;
use scene::Scene;
use serde_json::{Value, json};

const USER: &str = "conversation.item.input_audio_transcription";

/// The names of the assistant's words, in both dialects: their event, and the key of all words.
const REPLIES: [(&str, &str); 4] = [
    ("response.audio_transcript", "transcript"),
    ("response.output_audio_transcript", "transcript"),
    ("response.text", "text"),
    ("response.output_text", "text"),
];

struct Call(Scene);

impl Call {
    fn new() -> Self {
        let mut call = Self(Scene::new());
        call.told();
        call
    }

    fn says(&mut self, event: &Value) {
        self.0.say(event.to_string().as_bytes());
    }

    fn created(&mut self, response: &str) {
        self.says(&json!({"type": "response.created", "response": {"id": response}}));
    }

    fn done(&mut self, response: &str, status: &str) {
        self.says(
            &json!({"type": "response.done", "response": {"id": response, "status": status}}),
        );
    }

    fn user(&mut self, event: &str, item: &str, key: &str, text: &str) {
        self.says(&json!({"type": format!("{USER}.{event}"), "item_id": item, "content_index": 0,
            key: text}));
    }

    fn reply(&mut self, kind: &str, (item, part): (&str, u32), key: &str, text: &str) {
        self.says(&json!({"type": kind, "response_id": "r1", "item_id": item, "output_index": 0,
            "content_index": part, key: text}));
    }

    fn told(&mut self) -> Vec<Value> {
        let texts = std::mem::take(&mut self.0.texts);
        serde_json::Deserializer::from_str(&texts)
            .into_iter::<Value>()
            .map(|message| message.expect("JSON"))
            .collect()
    }

    fn of(&mut self, kind: &str) -> Vec<Value> {
        self.told().into_iter().filter(|message| message["type"] == kind).collect()
    }
}

fn transcript(role: &str, item: &str, text: &str) -> Value {
    json!({"type": "transcript", "role": role, "item_id": item, "text": text})
}

#[test]
fn the_users_words_are_told_once_and_trimmed() {
    let mut call = Call::new();
    for text in ["Weather?\n", "Weather?", "", "\n", "Weather!"] {
        call.user("completed", "u1", "transcript", text);
    }
    assert_eq!(call.told(), [transcript("user", "u1", "Weather?")]);
    // Empty at first: the words come yet.
    call.user("completed", "u2", "transcript", " \r\n");
    call.user("completed", "u2", "transcript", "  And\ttomorrow? ");
    assert_eq!(call.told(), [transcript("user", "u2", "And\ttomorrow?")]);
    // As one delta or as several; what comes after all is not told.
    call.user("delta", "u3", "delta", "\n");
    call.user("delta", "u3", "delta", " Is it ");
    call.user("delta", "u3", "delta", "late?\n");
    call.user("completed", "u3", "transcript", " Is it late?\n");
    call.user("delta", "u3", "delta", "late?\n");
    call.user("completed", "u3", "transcript", "Is it late?");
    let told = call.told();
    let deltas: String = told
        .iter()
        .filter_map(|m| m["text"].as_str().filter(|_| m["type"] == "transcript_delta"))
        .collect();
    assert_eq!(deltas, "Is it late?");
    assert_eq!(told.last(), Some(&transcript("user", "u3", "Is it late?")));
    assert_eq!(told.len(), 3, "{told:?}");
    // Told by deltas only: their words are the words.
    call.user("delta", "u4", "delta", "Good bye.\n");
    call.user("completed", "u4", "transcript", "");
    assert_eq!(call.of("transcript"), [transcript("user", "u4", "Good bye.")]);
}

#[test]
fn the_assistants_words_are_told_once_and_trimmed_in_both_dialects() {
    for (kind, key) in REPLIES {
        let (delta, done) = (format!("{kind}.delta"), format!("{kind}.done"));
        let mut call = Call::new();
        call.created("r1");
        call.told();
        call.reply(&delta, ("a1", 0), "delta", "\n It");
        call.reply(&delta, ("a1", 0), "delta", " is late.\n");
        call.reply(&done, ("a1", 0), key, "It is late.\n");
        call.reply(&done, ("a1", 0), key, "It is late.");
        call.reply(&delta, ("a1", 0), "delta", " is late.\n");
        call.done("r1", "completed");
        call.reply(&done, ("a1", 0), key, "It is late.");
        let told = call.told();
        let texts: Vec<_> = told.iter().filter_map(|m| m["text"].as_str()).collect();
        assert_eq!(texts, ["It", " is late.", "It is late."], "{kind}");
        let transcripts: Vec<_> = told.iter().filter(|m| m["type"] == "transcript").collect();
        assert_eq!(transcripts, [&transcript("assistant", "a1", "It is late.")], "{kind}");
        // All words alone, blank ones, and none.
        call.created("r1");
        call.told();
        call.reply(&done, ("a2", 0), key, "  Yes. ");
        call.reply(&done, ("a3", 0), key, " \n");
        call.reply(&done, ("a4", 0), key, "");
        call.done("r1", "completed");
        let told: Vec<_> = call.of("transcript");
        assert_eq!(told, [transcript("assistant", "a2", "Yes.")], "{kind}");
    }
}

#[test]
fn words_whose_end_never_comes_are_told_at_the_responses_end() {
    for (status, text) in
        [("completed", "It is late."), ("cancelled", "It is late…"), ("incomplete", "It is late…")]
    {
        let mut call = Call::new();
        call.created("r1");
        call.reply("response.audio_transcript.delta", ("a1", 0), "delta", "It is late. ");
        call.done("r1", status);
        assert_eq!(call.of("transcript"), [transcript("assistant", "a1", text)], "{status}");
    }
}

#[test]
fn each_part_of_an_item_is_told() {
    let mut call = Call::new();
    call.created("r1");
    call.told();
    let kind = "response.audio_transcript";
    call.reply(&format!("{kind}.delta"), ("a1", 0), "delta", "One");
    call.reply(&format!("{kind}.delta"), ("a1", 1), "delta", "Two");
    call.reply(&format!("{kind}.delta"), ("a2", 0), "delta", "Three");
    for ((item, part), text) in [(("a1", 0), "One."), (("a1", 1), "Two."), (("a2", 0), "Three.")] {
        call.reply(&format!("{kind}.done"), (item, part), "transcript", text);
    }
    let mut second = transcript("assistant", "a1", "Two.");
    second["content_index"] = json!(1);
    let expected =
        [transcript("assistant", "a1", "One."), second, transcript("assistant", "a2", "Three.")];
    assert_eq!(call.of("transcript"), expected);
}

#[test]
fn two_utterances_before_the_first_transcript_keep_their_items() {
    let mut call = Call::new();
    for item in ["u1", "u2"] {
        for event in ["speech_started", "speech_stopped", "committed"] {
            call.says(&json!({"type": format!("input_audio_buffer.{event}"), "item_id": item}));
        }
    }
    call.user("completed", "u2", "transcript", "Second.");
    call.user("completed", "u1", "transcript", "First.");
    let told = call.told();
    assert_eq!(
        told,
        [
            json!({"type": "speech_started", "item_id": "u1"}),
            json!({"type": "speech_stopped", "item_id": "u1"}),
            json!({"type": "speech_started", "item_id": "u2"}),
            json!({"type": "speech_stopped", "item_id": "u2"}),
            transcript("user", "u2", "Second."),
            transcript("user", "u1", "First."),
        ]
    );
    // Without an item there is none to name.
    call.says(&json!({"type": "input_audio_buffer.speech_started", "item_id": null}));
    call.says(&json!({"type": format!("{USER}.completed"), "transcript": "Third."}));
    let expected = [
        json!({"type": "speech_started"}),
        json!({"type": "transcript", "role": "user", "text": "Third."}),
    ];
    assert_eq!(call.told(), expected);
}

#[test]
fn a_transcription_that_fails_is_told_with_its_item() {
    let failed = |item: &str, error: Value| json!({"type": format!("{USER}.failed"), "item_id": item, "content_index": 0, "error": error});
    let mut call = Call::new();
    call.says(&failed(
        "u1",
        json!({"code": "DeploymentNotFound", "message": "No such deployment."}),
    ));
    call.says(&failed("u1", Value::Null));
    call.says(&failed("u2", Value::Null));
    let expected = ["u1", "u2"].map(|item| json!({"type": "transcript_failed", "item_id": item}));
    assert_eq!(call.told(), expected);
    assert_eq!(call.0.counted("transcripts_failed_total"), 2);
    // The words may come after all, and what was told is not taken back.
    call.user("completed", "u2", "transcript", "Hello");
    call.says(&failed("u2", Value::Null));
    assert_eq!(call.told(), [transcript("user", "u2", "Hello")]);
}

/// A service that names no item tells its words twice, too. The same words in the next turn are new ones.
#[test]
fn words_without_an_item_are_told_once_in_a_turn() {
    let mut call = Call::new();
    for _ in 0..2 {
        call.says(&json!({"type": "input_audio_buffer.speech_started"}));
        call.user("completed", "", "transcript", "Yes.\n");
        call.user("completed", "", "transcript", "Yes.");
        call.created("r1");
        for (kind, key) in REPLIES {
            call.reply(&format!("{kind}.done"), ("", 0), key, "Well.");
        }
        call.user("completed", "", "transcript", "Yes.");
        call.done("r1", "completed");
        let told = call.of("transcript");
        let words: Vec<_> = told.iter().map(|message| &message["text"]).collect();
        assert_eq!(words, ["Yes.", "Well."]);
    }
}

/// An item of the assistant's with these words.
fn spoken(item: &str, kind: &str, key: &str, words: &[&str]) -> Value {
    let part = |text: &&str| json!({"type": kind, key: text});
    json!({"id": item, "type": "message", "role": "assistant", "status": "completed",
        "content": words.iter().map(part).collect::<Vec<_>>()})
}

/// A service may tell the words in no event of their own.
#[test]
fn words_that_only_an_item_has_are_told_once() {
    for (kind, key) in [
        ("audio", "transcript"),
        ("output_audio", "transcript"),
        ("text", "text"),
        ("output_text", "text"),
    ] {
        let item = spoken("a1", kind, key, &["It is late.\n", " "]);
        let event = |name: &str| json!({"type": name, "response_id": "r1", "item": item});
        let end = json!({"type": "response.done", "response": {"id": "r1", "status": "completed",
            "output": [item]}});
        for first in [
            event("response.output_item.done"),
            event("conversation.item.done"),
            json!({"type": "conversation.item.done", "item": item}),
            end.clone(),
        ] {
            let mut call = Call::new();
            call.created("r1");
            call.told();
            call.reply("response.audio_transcript.delta", ("a1", 0), "delta", "It is");
            call.says(&first);
            call.says(&event("response.output_item.done"));
            call.says(&end);
            call.reply("response.audio_transcript.done", ("a1", 0), "transcript", "It is late.");
            let expected = [transcript("assistant", "a1", "It is late.")];
            assert_eq!(call.of("transcript"), expected, "{first}");
        }
        // Words that were told without their item are not told again with it.
        let mut call = Call::new();
        call.created("r1");
        call.reply("response.output_audio_transcript.done", ("", 0), "transcript", "It is late.");
        call.says(&end);
        assert_eq!(call.of("transcript").len(), 1);
    }
    // Of a reply that was cut off nobody hears what its item has.
    let mut call = Call::new();
    call.created("r1");
    call.reply("response.audio_transcript.delta", ("a1", 0), "delta", "It is");
    call.says(&json!({"type": "input_audio_buffer.speech_started"}));
    let item = spoken("a1", "audio", "transcript", &["It is late."]);
    call.says(&json!({"type": "response.output_item.done", "response_id": "r1", "item": item}));
    call.says(&json!({"type": "response.done", "response": {"id": "r1", "status": "cancelled",
        "output": [item]}}));
    assert_eq!(call.of("transcript"), [transcript("assistant", "a1", "It is…")]);
    // The user's words.
    let mut call = Call::new();
    let item = json!({"id": "u1", "type": "message", "role": "user", "status": "completed",
        "content": [{"type": "input_audio", "transcript": "Weather?\n"}]});
    call.says(&json!({"type": "conversation.item.done", "item": item}));
    call.user("completed", "u1", "transcript", "Weather?");
    assert_eq!(call.of("transcript"), [transcript("user", "u1", "Weather?")]);
    // What was typed is no transcript, and what is only on its way has no words yet.
    let item = json!({"id": "u2", "type": "message", "role": "user",
        "content": [{"type": "input_text", "text": "Typed"}]});
    call.says(&json!({"type": "conversation.item.done", "item": item}));
    let mut item = spoken("a2", "audio", "transcript", &["Half"]);
    item["status"] = json!("in_progress");
    call.created("r2");
    for kind in
        ["response.output_item.added", "conversation.item.created", "conversation.item.done"]
    {
        call.says(&json!({"type": kind, "item": item}));
    }
    assert_eq!(call.of("transcript"), Vec::<Value>::new());
}

#[test]
fn what_nobody_sees_is_no_transcript() {
    let mut call = Call::new();
    for (number, blank) in ["\u{200b}", "\u{feff}", "\u{2060}\n"].iter().enumerate() {
        let item = format!("u{number}");
        call.user("delta", &item, "delta", blank);
        call.user("completed", &item, "transcript", blank);
        assert!(call.told().is_empty(), "{blank:?}");
        call.user("completed", &item, "transcript", &format!("{blank}Yes.{blank}"));
        assert_eq!(call.of("transcript"), [transcript("user", &item, "Yes.")]);
    }
}
