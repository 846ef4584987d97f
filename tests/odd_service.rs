//! What the service says oddly costs a line in the log and a count, and not the call: messages that
//! mean nothing, half characters, half samples, function calls told in pieces or twice.

use std::time::{Duration, Instant};

use crate::support;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::client::Client;
use support::daemon::{Daemon, PATIENCE};
use support::script::{Script, Step, say};

/// A call to a service that plays these steps, and then says that it is through.
struct Scene {
    script: Script,
    daemon: Daemon,
    client: Client,
}

impl Scene {
    fn play(steps: Vec<Step>) -> Self {
        let created = json!({"type": "session.created", "session": {"id": "s", "model": "m"}});
        Self::begin(vec![say(created)], steps)
    }

    fn begin(first: Vec<Step>, mut steps: Vec<Step>) -> Self {
        steps.push(say(json!({"type": HEARD, "item_id": "last", "transcript": "That was all."})));
        let script = Script::beginning(first, steps);
        let daemon = Daemon::run(script.address, &[("VOICELIVED_LOG", "debug")]);
        let client = Client::connect(daemon.address);
        Self { script, daemon, client }
    }

    /// Reads until the service is through with its steps.
    fn hear_all(&mut self) {
        self.client.wait_for("the script's end", |message| message["text"] == "That was all.");
    }

    /// The outputs that the service got for function calls, once there are as many.
    fn outputs(&self, count: usize) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let items = self.script.items();
            let outputs = items.iter().filter(|item| item["type"] == "function_call_output");
            let outputs: Vec<_> =
                outputs.map(|item| (text(&item["call_id"]), text(&item["output"]))).collect();
            if outputs.len() >= count {
                return outputs;
            }
            assert!(Instant::now() < deadline, "{outputs:?} and no more. {}", self.daemon.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The call goes on, and comes to an end in order.
    fn finish(mut self) -> (Script, Daemon, Client) {
        self.client.tell(&json!({"type": "hang_up"}));
        self.client.assert_ends("hanging up", 1000, "hang_up");
        (self.script, self.daemon, self.client)
    }
}

const HEARD: &str = "conversation.item.input_audio_transcription.completed";

fn created(response: &str) -> Step {
    say(json!({"type": "response.created", "response": {"id": response}}))
}

fn done(response: &str, output: &Value) -> Step {
    say(json!({"type": "response.done", "response": {"id": response, "status": "completed",
        "output": output}}))
}

fn transcript_delta(item: &str, delta: &str) -> Step {
    Step::Text(format!(
        r#"{{"type":"response.audio_transcript.delta","response_id":"r","item_id":"{item}","delta":"{delta}"}}"#
    ))
}

// ---- function calls ----

/// An item of a call for the weather in Paris; `more` are members in place of the usual ones.
fn weather(call: &str, more: &Value) -> Value {
    let mut item = json!({"id": format!("item_{call}"), "type": "function_call", "call_id": call,
        "name": "get_weather", "status": "completed", "arguments": PARIS});
    for (key, value) in more.as_object().expect("members") {
        if value.is_null() {
            item.as_object_mut().expect("an object").remove(key);
        } else {
            item[key] = value.clone();
        }
    }
    item
}

const PARIS: &str = r#"{"location":"Paris"}"#;

fn item_event(kind: &str, item: &Value) -> Step {
    say(json!({"type": kind, "response_id": "r", "output_index": 0, "item": item}))
}

fn arguments_event(more: &Value) -> Step {
    let mut event = json!({"type": "response.function_call_arguments.done", "response_id": "r",
        "item_id": "item_c", "call_id": "c", "output_index": 0, "arguments": PARIS});
    for (key, value) in more.as_object().expect("members") {
        event[key] = value.clone();
    }
    say(event)
}

fn arguments_delta(delta: &str) -> Step {
    say(json!({"type": "response.function_call_arguments.delta", "response_id": "r",
        "item_id": "item_c", "call_id": "c", "output_index": 0, "delta": delta}))
}

/// Whatever event has the arguments, and in whatever order they come, the tool is run with them, once.
#[test]
fn a_function_call_is_run_wherever_its_arguments_are_told() {
    let added = |more: Value| item_event("response.output_item.added", &weather("c", &more));
    let begun = || added(json!({"status": "in_progress", "arguments": ""}));
    let finished = |more: Value| item_event("response.output_item.done", &weather("c", &more));
    let nothing = || done("r", &json!([]));
    let cases: Vec<(&str, Vec<Step>)> = vec![
        ("as usual", vec![begun(), finished(json!({})), nothing()]),
        (
            "in arguments.done, the item has none",
            vec![
                begun(),
                arguments_event(&json!({})),
                finished(json!({"arguments": ""})),
                nothing(),
            ],
        ),
        (
            "in arguments.done, the item has no key",
            vec![
                added(json!({"status": "in_progress", "arguments": null})),
                arguments_event(&json!({"name": "get_weather"})),
                finished(json!({"arguments": null})),
                nothing(),
            ],
        ),
        (
            "in arguments.done after the item",
            vec![finished(json!({"arguments": ""})), arguments_event(&json!({})), nothing()],
        ),
        (
            "in arguments.done before the item",
            vec![arguments_event(&json!({})), finished(json!({"arguments": ""})), nothing()],
        ),
        (
            "in arguments.done that names the item only",
            vec![begun(), arguments_event(&json!({"call_id": null})), nothing()],
        ),
        (
            "in deltas",
            vec![
                begun(),
                arguments_delta(r#"{"locat"#),
                arguments_delta(r#"ion":"Paris"}"#),
                finished(json!({"arguments": ""})),
                nothing(),
            ],
        ),
        (
            "in conversation.item.done",
            vec![
                begun(),
                finished(json!({"arguments": ""})),
                item_event("conversation.item.done", &weather("c", &json!({}))),
                nothing(),
            ],
        ),
        (
            "in conversation.item.done alone",
            vec![
                item_event("conversation.item.done", &weather("c", &json!({"status": null}))),
                nothing(),
            ],
        ),
        (
            "in conversation.item.created",
            vec![
                item_event("conversation.item.created", &weather("c", &json!({}))),
                finished(json!({"arguments": ""})),
                nothing(),
            ],
        ),
        (
            "in conversation.item.added",
            vec![item_event("conversation.item.added", &weather("c", &json!({}))), nothing()],
        ),
        ("in response.done alone", vec![done("r", &json!([weather("c", &json!({}))]))]),
        (
            "in response.done, without a status",
            vec![begun(), done("r", &json!([weather("c", &json!({"status": null}))]))],
        ),
        (
            "in response.done, the name in the item",
            vec![begun(), done("r", &json!([weather("c", &json!({"name": null}))]))],
        ),
        (
            "cut off in one event, whole in another",
            vec![
                begun(),
                arguments_event(&json!({"arguments": r#"{"location":"Par"#})),
                finished(json!({"arguments": r#"{"location":"Pa"#})),
                done("r", &json!([weather("c", &json!({}))])),
            ],
        ),
        (
            "behind a byte order mark",
            vec![finished(json!({"arguments": format!("\u{feff}{PARIS}")})), nothing()],
        ),
        (
            "in a Markdown fence",
            vec![finished(json!({"arguments": format!("```json\n{PARIS}\n```")})), nothing()],
        ),
        (
            "as a JSON string in a JSON string",
            vec![finished(json!({"arguments": json!(PARIS).to_string()})), nothing()],
        ),
        ("as an object", vec![finished(json!({"arguments": {"location": "Paris"}})), nothing()]),
    ];
    let calls = cases.into_iter().map(|(what, steps)| {
        std::thread::spawn(move || {
            let steps = [vec![created("r")], steps, vec![Step::AwaitCreate]].concat();
            let mut scene = Scene::play(steps);
            scene.hear_all();
            let outputs = scene.outputs(1);
            assert_eq!(outputs.len(), 1, "{what}: {outputs:?}");
            assert_eq!(outputs[0].0, "c", "{what}");
            assert!(outputs[0].1.contains("\"temperature\""), "{what}: {outputs:?}");
            let states: Vec<_> = scene.client.of_type("tool").iter().map(|m| &m["state"]).collect();
            assert_eq!(states, ["running", "done"], "{what}");
            scene.finish();
        })
    });
    let failed = calls.collect::<Vec<_>>().into_iter().filter_map(|call| call.join().err()).count();
    assert_eq!(failed, 0);
}

/// Also without a response, an end, or arguments a finished call gets its output: an error that the
/// model can act on is better than silence.
#[test]
fn a_finished_call_without_arguments_is_answered_too() {
    for arguments in [json!(""), json!(null), json!("no JSON"), json!("[]")] {
        let item = weather("c", &json!({ "arguments": arguments }));
        let steps =
            vec![created("r"), item_event("response.output_item.done", &item), Step::AwaitItem];
        let mut scene = Scene::play(steps);
        scene.hear_all();
        let outputs = scene.outputs(1);
        assert!(outputs.len() == 1 && outputs[0].1.contains("error"), "{arguments}: {outputs:?}");
        scene.finish();
    }
}

/// Once for each id in a session, also after its answer and in every event that tells it again.
#[test]
fn a_function_call_told_again_is_not_run_again() {
    let item = weather("c", &json!({}));
    let again = [
        item_event("response.output_item.done", &item),
        item_event("conversation.item.done", &item),
        item_event("conversation.item.created", &item),
        arguments_event(&json!({"name": "get_weather"})),
        done("r", &json!([item])),
        created("r2"),
        item_event("response.output_item.done", &item),
        done("r2", &json!([item])),
        // Another one is run.
        created("r3"),
        item_event("response.output_item.done", &weather("d", &json!({}))),
        done("r3", &json!([])),
    ];
    let first = [created("r"), item_event("response.output_item.done", &item), Step::AwaitItem];
    let mut scene = Scene::play([first.to_vec(), again.to_vec(), vec![Step::AwaitItem]].concat());
    scene.hear_all();
    let outputs = scene.outputs(2);
    let ids: Vec<_> = outputs.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["c", "d"]);
    let runs = scene.client.of_type("tool").len();
    assert_eq!(runs, 4, "two begin and end");
    scene.finish();
}

/// A call that the service breaks off is not run.
#[test]
fn a_function_call_that_breaks_off_is_not_run() {
    let half = weather("c", &json!({"status": "incomplete", "arguments": r#"{"location":"Pa"#}));
    let broken = json!({"type": "response.done", "response": {"id": "r", "status": "incomplete",
        "output": [half]}});
    let mut scene = Scene::play(vec![
        created("r"),
        item_event(
            "response.output_item.added",
            &weather(
                "c",
                &json!({"status": "in_progress",
            "arguments": ""}),
            ),
        ),
        arguments_delta(r#"{"location":"Pa"#),
        item_event("response.output_item.done", &half),
        say(broken),
        created("r2"),
        item_event("response.output_item.done", &weather("d", &json!({}))),
        done("r2", &json!([])),
        Step::AwaitItem,
    ]);
    scene.hear_all();
    assert_eq!(scene.outputs(1)[0].0, "d");
    scene.finish();
}

// ---- tools of the service's own ----

#[test]
fn an_approval_request_is_asked_and_answered_once_whatever_tells_it() {
    let item = json!({"id": "mcpr_1", "type": "mcp_approval_request", "server_label": "x",
        "name": "y", "arguments": "{}"});
    let kinds = [
        "conversation.item.created",
        "conversation.item.added",
        "conversation.item.done",
        "response.output_item.added",
        "response.output_item.done",
    ];
    let tell = |kind: &str| item_event(kind, &item);
    let mut cases: Vec<Vec<Step>> =
        kinds.iter().map(|kind| vec![tell(kind), done("r", &json!([]))]).collect();
    cases.push(vec![done("r", &json!([item]))]);
    cases
        .push([kinds.map(tell).to_vec(), vec![done("r", &json!([item])), tell(kinds[2])]].concat());
    for (at, steps) in cases.into_iter().enumerate() {
        let (what, allow) = (format!("{steps:?}"), at % 2 == 0);
        let steps = [vec![created("r")], steps, vec![Step::AwaitItem]].concat();
        let mut scene = Scene::play(steps);
        let asked = scene.client.wait_for("the question", |message| message["type"] == "confirm");
        assert_eq!((&asked["server"], &asked["tool"]), (&json!("x"), &json!("y")), "{what}");
        scene.client.tell(&json!({"type": "confirm", "id": asked["id"], "allow": allow}));
        scene.hear_all();
        let items = scene.script.items();
        let expected = json!({"type": "mcp_approval_response", "approval_request_id": "mcpr_1",
            "approve": allow});
        assert_eq!(items, [expected], "{what}");
        let (_, _, client) = scene.finish();
        assert_eq!(client.of_type("confirm").len(), 1, "{what}");
    }
}

/// The user sees what the service would run, however that is written, and answers each question once.
#[test]
fn what_is_asked_for_is_shown_however_it_is_written() {
    for (arguments, shown) in [
        (json!("{\"a\": 1}"), json!({"a": 1})),
        (json!({"a": 1}), json!({"a": 1})),
        (json!([1, 2]), json!([1, 2])),
        (json!("[1]"), json!([1])),
        (json!("\u{feff}{\"a\": 1}"), json!({"a": 1})),
        (json!("{\"a\": \"\\ud83d\"}"), json!({"a": "\u{fffd}"})),
        (json!("{\"a\": \"\n\"}"), json!({"a": "\n"})),
        (json!("not JSON"), json!("not JSON")),
        (json!(""), json!({})),
        (Value::Null, json!({})),
    ] {
        let item = json!({"id": "mcpr_1", "type": "mcp_approval_request", "server_label": "x",
            "name": "y", "arguments": arguments});
        let told = item_event("response.output_item.done", &item);
        let steps = vec![created("r"), told, done("r", &json!([item])), Step::AwaitItem];
        let mut scene = Scene::play(steps);
        let asked = scene.client.wait_for_next("confirm");
        assert_eq!(asked["arguments"], shown, "{arguments}");
        for (id, allow) in [(&json!("none-1"), true), (&asked["id"], false), (&asked["id"], true)] {
            scene.client.tell(&json!({"type": "confirm", "id": id, "allow": allow}));
        }
        scene.hear_all();
        let items = scene.script.items();
        assert_eq!((items.len(), &items[0]["approve"]), (1, &json!(false)), "{items:?}");
        scene.finish();
    }
}

/// Two requests in one response are two questions, told in any order and twice, and each answer finds its own.
#[test]
fn requests_of_one_response_are_answered_each() {
    let request = |id: &str, tool: &str| {
        json!({"id": id, "type": "mcp_approval_request", "server_label": "x", "name": tool,
            "arguments": "{}"})
    };
    let (one, other) = (request("mcpr_1", "first"), request("mcpr_2", "second"));
    let steps = vec![
        created("r"),
        item_event("conversation.item.added", &one),
        item_event("response.output_item.added", &other),
        item_event("response.output_item.done", &other),
        item_event("conversation.item.done", &one),
        item_event("response.output_item.done", &one),
        done("r", &json!([one, other])),
        Step::AwaitItem,
        Step::AwaitItem,
    ];
    let mut scene = Scene::play(steps);
    let second = scene.client.wait_for_next("confirm");
    let first = scene.client.wait_for_next("confirm");
    assert_eq!((&second["tool"], &first["tool"]), (&json!("second"), &json!("first")));
    scene.client.tell(&json!({"type": "confirm", "id": first["id"], "allow": true}));
    scene.client.tell(&json!({"type": "confirm", "id": second["id"], "allow": false}));
    scene.hear_all();
    let answers = |items: Vec<Value>| -> Vec<_> {
        let part = |item: &Value| (item["approval_request_id"].clone(), item["approve"].clone());
        items.iter().map(part).collect()
    };
    let expected = [(json!("mcpr_1"), json!(true)), (json!("mcpr_2"), json!(false))];
    assert_eq!(answers(scene.script.items()), expected);
    let (_, _, client) = scene.finish();
    assert_eq!(client.of_type("confirm").len(), 2);
}

// ---- messages that mean nothing ----

fn strays() -> Vec<Step> {
    let texts = ["", " ", "hello", "{", "null", "[]", "7", "\"x\"", "{}", r#"{"type":7}"#, "\0"];
    let binary = [vec![], vec![0], vec![0xff; 960], b"{\"type\":".to_vec(), b"\xff{}".to_vec()];
    let long = json!({"type": "response.created", "response": {"id": "x".repeat(200)}});
    let texts = texts.map(|text| Step::Text(text.to_owned()));
    [texts.to_vec(), binary.map(Step::Binary).to_vec(), vec![say(long)]].concat()
}

#[test]
fn messages_that_mean_nothing_are_passed_over() {
    let strays = strays();
    // Each by itself, and seven in a row.
    let apart: Vec<_> = strays.iter().flat_map(|stray| [stray.clone(), created("r")]).collect();
    let row = strays.iter().take(7).cloned().collect();
    let mut scene = Scene::play([apart, vec![done("r", &json!([]))], row].concat());
    scene.hear_all();
    let (_, daemon, client) = scene.finish();
    assert!(client.of_type("error").is_empty(), "nobody but the owner need know");
    let count = strays.len() as u64 + 7;
    daemon.assert_counted("messages_passed_over_total", "service", count);
    let log = daemon.log();
    let said = log.lines().find(|line| line.contains("passed over")).expect("a line in the log");
    assert!(!log.contains("1.."), "{log}");
    assert!(said.contains("WARN"), "{said}");
}

/// As RFC 8259 (section 8.1) allows it.
#[test]
fn a_byte_order_mark_before_an_event_is_passed_over() {
    let marked = |event: Value| Step::Text(format!("\u{feff}{event}"));
    let audio = json!({"type": "response.audio.delta", "response_id": "r", "item_id": "i",
        "delta": STANDARD.encode([7; 960])});
    let created = json!({"type": "session.created", "session": {"id": "s", "model": "m"}});
    let first = vec![marked(created)];
    let words = json!({"type": HEARD, "item_id": "u", "transcript": "Good morning."});
    let mut scene = Scene::begin(first, vec![marked(audio), marked(words)]);
    scene.hear_all();
    let (_, daemon, client) = scene.finish();
    assert_eq!(client.audio, [7; 960]);
    assert_eq!(client.of_type("transcript")[0]["text"], "Good morning.");
    assert!(!daemon.log().contains("passed over"), "{}", daemon.log());
}

/// Before there is a session too.
#[test]
fn a_service_may_begin_with_what_means_nothing() {
    let created = json!({"type": "session.created", "session": {"id": "s", "model": "m"}});
    let first = [strays().into_iter().take(7).collect(), vec![say(created)]].concat();
    let mut scene = Scene::begin(first, vec![]);
    scene.hear_all();
    scene.finish();
}

#[test]
fn eight_in_a_row_end_the_call() {
    for stray in [Step::Text(String::new()), Step::Text("{".to_owned()), Step::Binary(vec![0xff])] {
        let mut scene = Scene::play([vec![created("r")], vec![stray.clone(); 8]].concat());
        let message = scene.client.assert_ends("strays", 1011, "service_protocol");
        assert!(message.contains("unreadable") && !message.contains(".."), "{message}");
        scene.daemon.assert_counted("messages_passed_over_total", "service", 7);
        let log = scene.daemon.log();
        assert!(!log.contains("1.."), "{log}");
    }
}

// ---- half characters ----

#[test]
fn half_an_emoji_ends_no_call() {
    let raw = |text: &str| Step::Text(text.to_owned());
    let lone = r"Hi \ud83d";
    let mut scene = Scene::begin(
        vec![raw(
            r#"{"type":"session.created","session":{"id":"s\udc00","model":"m\ud83d","instructions":"\ude00"}}"#,
        )],
        vec![
            raw(
                r#"{"type":"session.updated","session":{"id":"s","instructions":"\ud83d x \ud83d"}}"#,
            ),
            created("r"),
            // Halves of neighbouring deltas of one item belong together.
            transcript_delta("i", lone),
            transcript_delta("i", r"\ude00 there \ud83d"),
            // This one does not go on.
            transcript_delta("i", "!"),
            // The other half comes in another item.
            transcript_delta("i", r"\ud83c"),
            transcript_delta("j", r"\udfa7"),
            transcript_delta("j", r"\u0000\uffff\ufffe\ud83d\ude00"),
            raw(
                r#"{"type":"response.audio_transcript.done","response_id":"r","item_id":"j","transcript":"\ud83dA\ude00\ud83d\ude00\\ud83d\u0000"}"#,
            ),
            raw(&format!(r#"{{"type":"{HEARD}","item_id":"u","transcript":"Oh \udbff"}}"#)),
            raw(
                r#"{"type":"error","error":{"type":"x","code":"odd\ud83d","message":"No \ude00"}}"#,
            ),
            raw(r#"{"type":"warning","warning":{"code":"\ud83d","message":"\ude00\u0000"}}"#),
            raw(r#"{"type":"later\ud83d","\udead":"\ud83d\u0041"}"#),
            raw(
                "{\"type\":\"response.text.delta\",\"response_id\":\"r\",\"item_id\":\"k\",\"delta\":\"raw \0 and \u{ffff}\"}",
            ),
        ],
    );
    scene.hear_all();
    let deltas: Vec<_> = scene
        .client
        .of_type("transcript_delta")
        .iter()
        .map(|message| (message["item_id"].to_string(), message["text"].to_string()))
        .collect();
    let of = |item: &str| -> String {
        let item = json!(item).to_string();
        let of_item = deltas.iter().filter(|(id, _)| *id == item);
        of_item.map(|(_, text)| serde_json::from_str::<String>(text).expect("JSON")).collect()
    };
    assert!(of("i").starts_with("Hi \u{1f600} there \u{fffd}!"), "{deltas:?}");
    assert_eq!(of("j"), "\u{fffd}\0\u{ffff}\u{fffe}\u{1f600}", "{deltas:?}");
    assert_eq!(of("k"), "raw \0 and \u{ffff}", "{deltas:?}");
    let texts: Vec<_> =
        scene.client.of_type("transcript").iter().map(|m| m["text"].clone()).collect();
    assert_eq!(texts[0], "\u{fffd}A\u{fffd}\u{1f600}\\ud83d\0");
    assert_eq!(texts[1], "Oh \u{fffd}");
    assert_eq!(
        scene.client.of_type("error")[0]["message"],
        "The voice service reports: No \u{fffd}."
    );
    scene.finish();
}

#[test]
fn half_an_emoji_in_a_tools_arguments_is_run() {
    // Within the JSON of the arguments, and in the event around it.
    for arguments in [
        r#"{\"location\":\"Paris, \\ud83d\"}"#,
        r#"{\"location\":\"Paris, \ud83d\"}"#,
        r#"{\"location\":\"Paris, \\u0000\\uffff\"}"#,
    ] {
        let item = format!(
            r#"{{"type":"response.output_item.done","response_id":"r","item":{{"type":"function_call","id":"i","call_id":"c","name":"get_weather","status":"completed","arguments":"{arguments}"}}}}"#
        );
        let steps = vec![created("r"), Step::Text(item), done("r", &json!([])), Step::AwaitItem];
        let mut scene = Scene::play(steps);
        scene.hear_all();
        let outputs = scene.outputs(1);
        assert!(outputs[0].1.contains("\"temperature\""), "{arguments}: {outputs:?}");
        scene.finish();
    }
    // Its halves in neighbouring deltas.
    let delta = |delta: &str| {
        Step::Text(format!(
            r#"{{"type":"response.function_call_arguments.delta","response_id":"r","item_id":"item_c","call_id":"c","delta":"{delta}"}}"#
        ))
    };
    let item = weather("c", &json!({"arguments": ""}));
    let mut scene = Scene::play(vec![
        created("r"),
        delta(r#"{\"location\":\"Paris, \ud83d"#),
        delta(r#"\ude00\"}"#),
        item_event("response.output_item.done", &item),
        done("r", &json!([])),
        Step::AwaitItem,
    ]);
    scene.hear_all();
    assert!(scene.outputs(1)[0].1.contains("\"temperature\""));
    scene.finish();
}

// ---- half samples ----

fn audio(kind: &str, item: &str, pcm: &[u8]) -> Step {
    say(json!({"type": kind, "response_id": "r", "item_id": item, "output_index": 0,
        "content_index": 0, "delta": STANDARD.encode(pcm)}))
}

fn sound(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 % 251).to_le_bytes()[0]).collect()
}

#[test]
fn an_odd_byte_waits_for_the_next_delta_of_its_item() {
    for kind in ["response.audio.delta", "response.output_audio.delta"] {
        for cuts in [&[4801, 9600][..], &[1, 2, 3, 9600], &[9599, 9599, 9600], &[1, 1, 4801, 9600]]
        {
            let pcm = sound(9600);
            let mut steps = vec![created("r")];
            let mut from = 0;
            for cut in cuts {
                steps.push(audio(kind, "i", &pcm[from..*cut]));
                from = *cut;
            }
            steps.push(done("r", &json!([])));
            let mut scene = Scene::play(steps);
            scene.hear_all();
            scene.client.wait_for_audio(pcm.len());
            assert!(scene.client.audio == pcm, "{kind} {cuts:?}");
            let (_, daemon, _) = scene.finish();
            daemon.assert_counted("half_samples_dropped_total", "service", 0);
        }
    }
}

#[test]
fn half_a_sample_at_an_items_end_is_dropped_and_counted() {
    let kind = "response.audio.delta";
    let (one, two) = (sound(4801), sound(4800));
    let ends = [
        vec![],
        vec![say(json!({"type": "response.audio.done", "response_id": "r", "item_id": "i"}))],
        vec![say(
            json!({"type": "response.output_audio.done", "response_id": "r", "item_id": "i"}),
        )],
        vec![done("r", &json!([])), created("r2")],
        vec![
            say(json!({"type": "input_audio_buffer.speech_started"})),
            say(json!({"type": "input_audio_buffer.speech_stopped"})),
            created("r2"),
        ],
    ];
    for end in ends {
        let what = format!("{end:?}");
        let next = say(json!({"type": kind, "response_id": if end.len() < 2 { "r" } else { "r2" },
            "item_id": "j", "delta": STANDARD.encode(&two)}));
        let begin = vec![created("r"), audio(kind, "i", &one)];
        let mut scene = Scene::play([begin, end, vec![next]].concat());
        scene.hear_all();
        let audio = &scene.client.audio;
        assert!(audio.ends_with(&two) && audio.len().is_multiple_of(2), "{what}: {}", audio.len());
        let (_, daemon, _) = scene.finish();
        daemon.assert_counted("half_samples_dropped_total", "service", 1);
    }
}

/// Two items whose deltas take turns are two sounds: the half of each waits for its own.
#[test]
fn odd_bytes_of_two_items_wait_for_their_own() {
    for (response_ids, kind) in
        [(["r", "r"], "response.audio.delta"), (["r", "r2"], "response.output_audio.delta")]
    {
        let (one, two) = (sound(30), [0x80; 30]);
        let mut steps = vec![created("r")];
        let mut expected = Vec::new();
        for (cut, whole) in [(0..5, 0..4), (5..10, 4..10), (10..11, 10..10), (11..30, 10..30)] {
            for (item, pcm) in [("i", &one[..]), ("j", &two)] {
                let id = response_ids[usize::from(item == "j")];
                steps.push(say(json!({"type": kind, "response_id": id, "item_id": item,
                    "delta": STANDARD.encode(&pcm[cut.clone()])})));
                expected.extend_from_slice(&pcm[whole.clone()]);
            }
        }
        let mut scene = Scene::play(steps);
        scene.hear_all();
        scene.client.wait_for_audio(expected.len());
        assert!(scene.client.audio == expected, "{kind}: {:?}", scene.client.audio);
        let (_, daemon, _) = scene.finish();
        daemon.assert_counted("half_samples_dropped_total", "service", 0);
    }
}

/// Half a sample of a response never gets into the next one, also when neither names itself or its items.
#[test]
fn half_a_sample_ends_with_its_response_whatever_names_it() {
    let delta = |response: Value, item: Value, pcm: &[u8]| {
        say(json!({"type": "response.audio.delta", "response_id": response, "item_id": item,
            "delta": STANDARD.encode(pcm)}))
    };
    for (response, item) in [
        (json!("r"), Value::Null),
        (Value::Null, Value::Null),
        (json!(""), json!("i")),
        (Value::Null, json!("i")),
    ] {
        let what = format!("{response} {item}");
        let second = if response == "r" { json!("r2") } else { response.clone() };
        let scene = Scene::play(vec![
            created("r"),
            delta(response, item.clone(), &sound(5)),
            done("r", &json!([])),
            created("r2"),
            delta(second, item, &[0x80; 6]),
            done("r2", &json!([])),
        ]);
        let mut scene = scene;
        scene.hear_all();
        scene.client.wait_for_audio(10);
        assert_eq!(scene.client.audio, [&sound(4)[..], &[0x80; 6]].concat(), "{what}");
        let (_, daemon, _) = scene.finish();
        daemon.assert_counted("half_samples_dropped_total", "service", 1);
    }
}

/// Base64 with line breaks, of the URL's alphabet, or without its padding is audio all the same, and a delta
/// without any is nothing.
#[test]
fn audio_is_taken_in_every_spelling_of_base64() {
    let pcm: Vec<u8> = [&[0xfb, 0xff, 0xfe, 0xbf][..], &sound(60)].concat();
    let plain = STANDARD.encode(&pcm);
    let url = plain.replace('+', "-").replace('/', "_");
    assert!(plain.ends_with("==") && url != plain);
    let spellings = [
        plain.replace('=', ""),
        format!("{plain}\n"),
        format!(" {}\r\n{} ", &plain[..40], &plain[40..]),
        plain.chars().flat_map(|letter| [letter, '\t']).collect(),
        url.clone(),
        url.replace('=', ""),
        plain.replace("==", "="),
    ];
    let mut steps = vec![created("r")];
    for kind in ["response.audio.delta", "response.output_audio.delta"] {
        for text in &spellings {
            steps.push(say(
                json!({"type": kind, "response_id": "r", "item_id": "i", "delta": text}),
            ));
        }
        for nothing in [json!(""), Value::Null, json!(" \n"), json!("="), json!("====")] {
            steps.push(say(
                json!({"type": kind, "response_id": "r", "item_id": "i", "delta": nothing}),
            ));
        }
        steps.push(say(json!({"type": kind, "response_id": "r", "item_id": "i"})));
    }
    let mut scene = Scene::play(steps);
    scene.hear_all();
    let expected = pcm.repeat(2 * spellings.len());
    scene.client.wait_for_audio(expected.len());
    assert!(scene.client.audio == expected);
    let (_, daemon, _) = scene.finish();
    daemon.assert_counted("messages_passed_over_total", "service", 0);
}

/// A delta that is no base64 leaves a hole, which the log tells.
#[test]
fn audio_that_is_no_base64_is_passed_over() {
    let bad = || {
        say(json!({"type": "response.audio.delta", "response_id": "r", "item_id": "i",
        "delta": "!!!!"}))
    };
    let good = || audio("response.audio.delta", "i", &sound(960));
    let mut scene =
        Scene::play([vec![created("r"), good()], vec![bad(); 7], vec![good()]].concat());
    scene.hear_all();
    scene.client.wait_for_audio(1920);
    let (_, daemon, _) = scene.finish();
    daemon.assert_counted("messages_passed_over_total", "service", 7);
    // Words in between do not make it better.
    let words = || transcript_delta("i", "word");
    let steps = (0..8).flat_map(|_| [bad(), words()]).collect();
    let mut scene = Scene::play([vec![created("r")], steps].concat());
    scene.client.assert_ends("no audio", 1011, "service_protocol");
}

// ---- what the owner learns ----

fn error(code: &str, more: &Value) -> Step {
    let mut error = json!({"type": "invalid_request_error", "code": code, "event_id": null,
        "message": "content-secret"});
    for (key, value) in more.as_object().expect("members") {
        error[key] = value.clone();
    }
    say(json!({"type": "error", "event_id": "event_77", "error": error}))
}

#[test]
fn errors_are_logged_with_their_code_and_counted() {
    let mut scene = Scene::play(vec![
        error("invalid_value", &json!({"param": "session.voice", "event_id": "item"})),
        error("made_up_code", &json!({})),
        error("item_already_truncated", &json!({})),
        error("response_cancel_not_active", &json!({})),
        error("", &json!({"type": "server_error"})),
        say(json!({"type": "brand.new", "x": "content-secret"})),
        say(json!({"type": "brand.new", "x": 2})),
        say(json!({"type": "brand.other"})),
    ]);
    scene.hear_all();
    let told: Vec<_> = scene.client.of_type("error").iter().map(|m| m["code"].clone()).collect();
    assert_eq!(told, ["invalid_value", "made_up_code", "service_error"]);
    let (_, daemon, _) = scene.finish();
    let log = daemon.log();
    let line = |words: &[&str]| {
        log.lines().find(|line| words.iter().all(|word| line.contains(word))).is_some()
    };
    assert!(line(&["WARN", "invalid_value", "session.voice", "item", "event_77"]), "{log}");
    assert!(line(&["WARN", "made_up_code", "event_77"]), "{log}");
    assert!(line(&["WARN", "server_error"]), "{log}");
    assert!(line(&["DEBUG", "item_already_truncated"]), "{log}");
    assert!(line(&["DEBUG", "response_cancel_not_active"]), "{log}");
    assert!(!line(&["WARN", "item_already_truncated"]), "{log}");
    assert_eq!(log.matches("brand.new").count(), 1, "{log}");
    assert!(line(&["DEBUG", "brand.other"]), "{log}");
    assert!(!log.contains("content-secret"), "{log}");
    for (code, count) in [
        ("invalid_value", 1),
        ("item_already_truncated", 1),
        ("response_cancel_not_active", 1),
        ("server_error", 1),
        ("other", 1),
    ] {
        daemon.assert_counted("service_errors_total", code, count);
    }
}

#[test]
fn an_error_is_told_in_whatever_shape_it_comes() {
    let flat =
        json!({"type": "error", "code": "gateway_code", "message": "Flat words.", "error": null});
    let mut scene = Scene::play(vec![
        say(json!({"type": "error", "error": "A bare sentence."})),
        say(flat),
        say(json!({"type": "error"})),
        say(json!({"type": "error", "error": ["canary"]})),
    ]);
    scene.hear_all();
    let told: Vec<_> = scene.client.of_type("error").iter().map(|m| m["message"].clone()).collect();
    let reports = |words: &str| format!("The voice service reports: {words}");
    let none = reports("it gives no reason.");
    let expected = [reports("A bare sentence."), reports("Flat words."), none.clone(), none];
    assert_eq!(told, expected);
    let (_, daemon, _) = scene.finish();
    daemon.wait_for_log("gateway_code");
    for (error, words) in [
        (json!("A bare sentence."), "the service has no transcript: A bare sentence. (no code)"),
        (json!({"code": "c"}), "the service has no transcript: no reason given (c)"),
        (Value::Null, "the service has no transcript: no reason given (no code)"),
    ] {
        let failed = HEARD.replace("completed", "failed");
        let mut scene =
            Scene::play(vec![say(json!({"type": failed, "item_id": "u", "error": error}))]);
        scene.hear_all();
        scene.daemon.wait_for_log(words);
        scene.finish();
    }
}
