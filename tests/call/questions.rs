//! Tools that ask first: nothing runs without the user's yes, and a yes counts once.

use std::time::Duration;

use serde_json::{Value, json};
use voicelived::call::ending::{EndReason, ServiceFault};
use voicelived::call::{CallSettings, Input, Output};

use super::scene::{Scene, settings};
use super::simulation::Random;

/// The model calls a tool in this response, and the tool asks first.
fn asks(scene: &mut Scene, response: &str, call_id: &str, arguments: &str) {
    scene.function_call(response, call_id, "completed");
    scene.client(Input::AskFirst { call_id, about: "Opens the door.", arguments });
}

/// A call in which the user is being asked, and the model has been told to ask aloud; the question's id.
fn asked() -> (Scene, String) {
    let mut scene = Scene::active();
    scene.created("r1");
    asks(&mut scene, "r1", "call_1", r#"{"door":"front"}"#);
    let id = question(&mut scene)["id"].as_str().unwrap().to_owned();
    scene.done("r1", "completed");
    scene.created("r2");
    scene.done("r2", "completed");
    scene.outputs.clear();
    (scene, id)
}

/// The only question among what the client was told since the last look.
fn question(scene: &mut Scene) -> Value {
    let mut asked: Vec<Value> =
        scene.told().into_iter().filter(|told| told["type"] == "confirm").collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
    asked.remove(0)
}

fn answer(scene: &mut Scene, id: &str, allow: bool) {
    scene.says(json!({"type": "confirm", "id": id, "allow": allow}));
}

fn runs(scene: &Scene) -> usize {
    scene.outputs.iter().filter(|output| matches!(output, Output::RunAllowed { .. })).count()
}

fn lost() -> ServiceFault {
    ServiceFault {
        word: "service_lost",
        message: "m".to_owned(),
        retryable: true,
        retry_after: None,
    }
}

fn outlives_its_session() -> CallSettings {
    CallSettings { reconnect: Duration::from_secs(120), ..settings() }
}

#[test]
fn the_client_is_asked_and_the_model_asks_aloud() {
    let mut scene = Scene::active();
    scene.created("r1");
    asks(&mut scene, "r1", "call_1", r#"{"door":"front"}"#);
    let outputs = scene.outputs.clone();
    let asked = question(&mut scene);
    assert_eq!(
        asked,
        json!({"type": "confirm", "id": asked["id"], "tool": "get_weather", "about": "Opens the door.",
            "arguments": {"door": "front"}, "seconds": 30})
    );
    assert!(!outputs.iter().any(|output| matches!(output, Output::RunAllowed { .. })));
    scene.done("r1", "completed");
    let commands = scene.commands();
    assert_eq!(commands.len(), 1, "no output before the answer: {commands:?}");
    let response = &commands[0]["response"];
    assert_eq!(
        (&commands[0]["type"], &response["tool_choice"]),
        (&json!("response.create"), &json!("none"))
    );
    let words = response["instructions"].as_str().unwrap();
    assert!(words.contains("Ask aloud") && words.contains(r#"{"door":"front"}"#), "{words}");
    scene.created("r2");
    scene.done("r2", "completed");
    scene.outputs.clear();
    scene.pass_secs(5);
    assert!(scene.commands().is_empty(), "it is asked aloud once");
}

#[test]
fn a_yes_runs_it_once_and_its_output_is_the_result() {
    let (mut scene, id) = asked();
    scene.pass_secs(20);
    scene.outputs.clear();
    answer(&mut scene, &id, true);
    assert_eq!(scene.story(), ["asked allowed", "allowed call_1"]);
    // Its own time begins with the yes.
    scene.client(Input::ToolTakes { call_id: "call_1", most: Duration::from_secs(25) });
    scene.pass_secs(24);
    for _ in 0..2 {
        answer(&mut scene, &id, true);
        answer(&mut scene, &id, false);
    }
    assert_eq!(runs(&scene), 0, "a second yes");
    assert_eq!(scene.story(), ["asked stray"; 4]);
    scene.tool_finished("call_1");
    let commands = scene.commands();
    assert_eq!(commands[0]["item"]["output"], r#"{"ok":1}"#);
    assert_eq!(commands[1]["type"], "response.create");
    assert_eq!(commands.len(), 2);
}

#[test]
fn a_no_and_no_answer_are_told_the_model_in_words() {
    for answered in [true, false] {
        let (mut scene, id) = asked();
        if answered {
            answer(&mut scene, &id, false);
        } else {
            scene.pass_ms(29_900);
            assert!(scene.commands().is_empty(), "30 s are given");
            scene.pass_ms(200);
        }
        let outputs = scene.outputs.clone();
        let commands = scene.commands();
        let told = commands[0]["item"]["output"].as_str().unwrap();
        let words = if answered { "said no" } else { "30 seconds" };
        assert!(told.contains(words) && told.contains("error"), "{told}");
        assert_eq!(commands[1]["type"], "response.create");
        scene.outputs = outputs;
        assert!(scene.story().contains(&"forget call_1".to_owned()));
        // Late, and doubled.
        answer(&mut scene, &id, true);
        assert_eq!(scene.story(), ["asked stray"]);
    }
}

/// The client answers in the very moment in which the time is over.
#[test]
fn a_yes_is_late_when_the_time_is_over_although_nobody_has_looked() {
    let (mut scene, id) = asked();
    scene.now += Duration::from_secs(31);
    answer(&mut scene, &id, true);
    assert_eq!(runs(&scene), 0);
    let story = scene.story();
    assert!(
        story.contains(&"asked expired".to_owned()) && story.contains(&"asked stray".to_owned())
    );
}

#[test]
fn a_foreign_answer_runs_nothing() {
    let (mut scene, id) = asked();
    let other_call = id.replace("c1", "c2");
    assert_ne!(other_call, id);
    for foreign in
        ["", "1", "call_1", "get_weather", &other_call, &id.to_uppercase(), &format!("{id} ")]
    {
        answer(&mut scene, foreign, true);
    }
    assert_eq!(scene.story(), ["asked stray"; 7]);
    answer(&mut scene, &id, true);
    assert_eq!(runs(&scene), 1);
}

/// Each question is answered by its own id, in any order.
#[test]
fn several_questions_are_apart_and_bounded() {
    let mut scene = Scene::active();
    scene.created("r1");
    let mut ids = Vec::new();
    for number in 1..=4 {
        asks(&mut scene, "r1", &format!("call_{number}"), &json!({"n": number}).to_string());
        ids.push(question(&mut scene)["id"].as_str().unwrap().to_owned());
    }
    asks(&mut scene, "r1", "call_5", r#"{"n":5}"#);
    let story = scene.story();
    assert!(story.contains(&"asked unasked".to_owned()) && !story.contains(&"confirm".to_owned()));
    scene.done("r1", "completed");
    let words = scene.commands()[0]["response"]["instructions"].to_string();
    assert!((1..=4).all(|number| words.contains(&format!("{{\\\"n\\\":{number}}}"))), "{words}");
    answer(&mut scene, &ids[2], true);
    answer(&mut scene, &ids[0], false);
    let story = scene.story();
    assert!(
        story.contains(&"allowed call_3".to_owned()) && story.contains(&"forget call_1".to_owned())
    );
    assert!(
        !story.iter().any(|word| word == "allowed call_2" || word == "allowed call_4"),
        "{story:?}"
    );
}

#[test]
fn what_is_too_long_to_be_judged_is_not_asked() {
    for (bytes, is_asked) in [(4_096, true), (4_097, false)] {
        let mut scene = Scene::active();
        scene.created("r1");
        let text = "x".repeat(bytes - r#"{"text":""}"#.len());
        asks(&mut scene, "r1", "call_1", &json!({ "text": text }).to_string());
        let story = scene.story();
        assert_eq!(story.contains(&"asked unasked".to_owned()), !is_asked, "{bytes}: {story:?}");
        assert_eq!(story.contains(&"confirm".to_owned()), is_asked, "{bytes}: {story:?}");
    }
}

/// The model hears "yes" and calls the tool again while the screen still asks.
#[test]
fn the_same_call_is_not_asked_twice_at_a_time() {
    let (mut scene, id) = asked();
    scene.created("r3");
    asks(&mut scene, "r3", "call_2", r#"{"door":"front"}"#);
    assert!(!scene.story().contains(&"confirm".to_owned()));
    asks(&mut scene, "r3", "call_3", r#"{"door":"back"}"#);
    assert_ne!(question(&mut scene)["id"], id.as_str(), "other arguments are another question");
    answer(&mut scene, &id, true);
    assert_eq!(scene.story(), ["asked allowed", "allowed call_1"]);
}

#[test]
fn speech_and_typed_turns_leave_the_question_open() {
    let (mut scene, id) = asked();
    scene.speech();
    scene.speech_ends();
    scene.created("r3");
    scene.audio("r3", "a3", 1_000);
    scene.says(json!({"type": "interrupt"}));
    scene.done("r3", "cancelled");
    scene.says(json!({"type": "text", "text": "yes"}));
    assert_eq!(runs(&scene), 0, "words do not count");
    // Nothing is heard any more, and a stop is still no answer.
    scene.pass_secs(5);
    scene.outputs.clear();
    scene.says(json!({"type": "interrupt"}));
    assert!(!scene.story().iter().any(|it| it.starts_with("stop")));
    answer(&mut scene, &id, true);
    assert_eq!(runs(&scene), 1);
}

#[test]
fn a_question_outlives_the_session_and_its_call_is_told_anew_with_the_output() {
    for answers_in_between in [true, false] {
        let mut scene = Scene::active_with(outlives_its_session(), json!(null));
        scene.created("r1");
        asks(&mut scene, "r1", "call_1", r#"{"door":"front"}"#);
        let id = question(&mut scene)["id"].as_str().unwrap().to_owned();
        scene.client(Input::ServiceLost(lost()));
        if answers_in_between {
            answer(&mut scene, &id, true);
            scene.tool_finished("call_1");
        }
        scene.pass_secs(2);
        scene.client(Input::ServiceOpened);
        scene.service(json!({"type": "session.created", "session": {"id": "s2"}}));
        scene.service(json!({"type": "session.updated", "session": {"id": "s2"}}));
        if !answers_in_between {
            assert_eq!(runs(&scene), 0);
            answer(&mut scene, &id, true);
            scene.tool_finished("call_1");
        }
        let commands = scene.commands();
        let items: Vec<&Value> = commands
            .iter()
            .filter(|command| command["item"]["call_id"] == "call_1")
            .map(|command| &command["item"]["type"])
            .collect();
        assert_eq!(items, ["function_call", "function_call_output"], "{commands:?}");
    }
}

#[test]
fn a_question_keeps_a_call_awake_and_ends_with_it() {
    let settings = CallSettings { idle: Duration::from_secs(20), ..settings() };
    let mut scene = Scene::active_with(settings, json!(null));
    scene.created("r1");
    asks(&mut scene, "r1", "call_1", "{}");
    let id = question(&mut scene)["id"].as_str().unwrap().to_owned();
    scene.done("r1", "completed");
    scene.created("r2");
    scene.done("r2", "completed");
    scene.pass_secs(29);
    assert!(!scene.call.is_ended());
    scene.says(json!({"type": "hang_up"}));
    assert_eq!(scene.ended(), EndReason::HangUp);
    answer(&mut scene, &id, true);
    assert!(scene.story().is_empty());
}

#[test]
fn a_client_that_comes_back_is_asked_again_with_the_time_that_is_left() {
    let settings = CallSettings { resume: Duration::from_secs(60), ..settings() };
    let mut scene = Scene::active_with(settings, json!(null));
    scene.created("r1");
    asks(&mut scene, "r1", "call_1", "{}");
    let first = question(&mut scene);
    scene.client(Input::ClientBroken);
    asks(&mut scene, "r1", "call_2", r#"{"n":2}"#);
    assert!(!scene.story().contains(&"confirm".to_owned()), "nobody is there");
    scene.done("r1", "completed");
    scene.pass_ms(10_500);
    scene.call.take_up(0, scene.now);
    let read = |json: String| serde_json::from_str::<Value>(&json).unwrap();
    let again: Vec<Value> = scene.call.questions_now(scene.now).map(read).collect();
    assert_eq!(again.len(), 2);
    assert_eq!((&again[0]["id"], &again[0]["seconds"]), (&first["id"], &json!(20)));
    answer(&mut scene, again[1]["id"].as_str().unwrap(), true);
    assert!(scene.story().contains(&"allowed call_2".to_owned()));
    scene.pass_secs(20);
    assert_eq!(scene.call.questions_now(scene.now).count(), 0, "the other one is over");
}

// ---- requests of the service's ----

fn request(scene: &mut Scene, kind: &str, arguments: &str) {
    scene.service(json!({"type": kind, "response_id": "r1", "item": {"id": "mcpr_1",
        "type": "mcp_approval_request", "server_label": "docs", "name": "search", "arguments": arguments}}));
}

/// The service asks, whichever events bring it, and the user is asked once.
fn requested(events: &[(&str, &str)]) -> (Scene, String) {
    let mut scene = Scene::active_with(outlives_its_session(), json!(null));
    scene.outputs.clear();
    scene.created("r1");
    for (kind, arguments) in events {
        request(&mut scene, kind, arguments);
    }
    scene.done("r1", "completed");
    let outputs = scene.outputs.clone();
    let asked = question(&mut scene);
    assert_eq!(
        asked,
        json!({"type": "confirm", "id": asked["id"], "tool": "search", "server": "docs",
            "arguments": {"q": "voice"}, "seconds": 30})
    );
    scene.outputs = outputs;
    let commands = scene.commands();
    assert_eq!(commands.len(), 1, "{commands:?}");
    assert!(commands[0]["response"]["instructions"].to_string().contains("search"));
    scene.created("r2");
    scene.done("r2", "completed");
    scene.outputs.clear();
    (scene, asked["id"].as_str().unwrap().to_owned())
}

const WHOLE: &str = r#"{"q":"voice"}"#;

#[test]
fn a_request_of_the_services_is_asked_with_its_whole_arguments() {
    for events in [
        &[("conversation.item.created", WHOLE)][..],
        &[("conversation.item.added", "{}"), ("conversation.item.done", WHOLE)],
        &[("response.output_item.added", ""), ("response.output_item.done", WHOLE)],
        &[("conversation.item.created", ""), ("response.output_item.done", WHOLE)],
        &[("response.output_item.done", WHOLE), ("conversation.item.created", WHOLE)],
        &[("response.output_item.added", WHOLE)],
    ] {
        for allow in [true, false] {
            let (mut scene, id) = requested(events);
            answer(&mut scene, &id, allow);
            let commands = scene.commands();
            assert_eq!(
                commands[0]["item"],
                json!({"type": "mcp_approval_response", "approval_request_id": "mcpr_1",
                    "approve": allow}),
                "{events:?}"
            );
            assert_eq!(commands.len(), if allow { 1 } else { 2 }, "a no is spoken about");
            answer(&mut scene, &id, true);
            assert_eq!(scene.story(), ["asked stray"]);
            request(&mut scene, "conversation.item.done", WHOLE);
            assert!(scene.story().is_empty(), "it is asked once");
            if allow {
                scene.events(&["response.mcp_call.completed"]);
                assert_eq!(scene.story(), ["> response.create"]);
            }
        }
    }
}

#[test]
fn an_unanswered_request_of_the_services_is_refused() {
    let (mut scene, _) = requested(&[("conversation.item.created", WHOLE)]);
    scene.pass_secs(31);
    assert_eq!(scene.commands()[0]["item"]["approve"], false);
}

#[test]
fn a_request_in_an_interrupted_response_is_refused_unasked() {
    let mut scene = Scene::active();
    scene.created("r1");
    scene.audio("r1", "a1", 1_000);
    scene.speech();
    scene.outputs.clear();
    request(&mut scene, "response.output_item.done", WHOLE);
    scene.done("r1", "cancelled");
    let outputs = scene.outputs.clone();
    assert_eq!(scene.commands()[0]["item"]["approve"], false);
    scene.outputs = outputs;
    assert!(!scene.story().contains(&"confirm".to_owned()));
}

/// No answer would find it in the next session.
#[test]
fn a_request_of_a_session_that_is_lost_is_withdrawn_and_the_turn_is_answered_anew() {
    let (mut scene, id) = requested(&[("conversation.item.created", WHOLE)]);
    scene.client(Input::ServiceLost(lost()));
    let withdrawn = question(&mut scene);
    assert_eq!((&withdrawn["id"], &withdrawn["seconds"]), (&json!(id), &json!(0)));
    answer(&mut scene, &id, true);
    scene.pass_secs(2);
    scene.client(Input::ServiceOpened);
    scene.service(json!({"type": "session.created", "session": {"id": "s2"}}));
    scene.outputs.clear();
    scene.service(json!({"type": "session.updated", "session": {"id": "s2"}}));
    let commands = scene.commands();
    assert!(!commands.iter().any(|command| command["item"]["type"] == "mcp_approval_response"));
    assert_eq!(commands.last().unwrap()["type"], "response.create");
}

// ---- whatever happens ----

/// What a service, a client and a runner of tools know, while everything may break at any moment.
#[derive(Default)]
struct World {
    calls: u32,
    /// The questions that the client has seen, by their tools' call.
    seen: Vec<(String, String)>,
    /// Calls that got a yes while their question was open.
    allowed: Vec<String>,
    run: Vec<String>,
    running: Vec<String>,
}

impl World {
    /// Takes in what the call put out. `arguments` holds the number of the tool's call.
    fn observe(&mut self, scene: &mut Scene, what: &str) {
        let outputs = std::mem::take(&mut scene.outputs);
        for output in outputs {
            match output {
                Output::RunAllowed { call_id } => {
                    assert!(
                        self.allowed.contains(&call_id),
                        "{what}: {call_id} runs without a yes"
                    );
                    assert!(!self.run.contains(&call_id), "{what}: {call_id} runs twice");
                    self.run.push(call_id.clone());
                    self.running.push(call_id);
                }
                Output::ToClient(text) => self.hear(&text),
                _ => {}
            }
        }
        let again: Vec<String> = scene.call.questions_now(scene.now).collect();
        again.iter().for_each(|text| self.hear(text));
    }

    fn hear(&mut self, text: &str) {
        let message: Value = serde_json::from_str(text).unwrap();
        if message["type"] == "confirm" {
            let call = format!("call_{}", message["arguments"]["n"]);
            let id = message["id"].as_str().unwrap().to_owned();
            assert!(!self.seen.iter().any(|(known, of)| *known == id && *of != call));
            self.seen.push((id, call));
        }
    }

    fn step(&mut self, scene: &mut Scene, random: &mut Random) {
        let response = format!("r{}", self.calls / 3);
        match random.below(12) {
            0 => {
                self.calls += 1;
                let (call, arguments) = (format!("call_{}", self.calls), json!({"n": self.calls}));
                scene.function_call(&response, &call, "completed");
                let ran = |output: &Output| matches!(output, Output::RunTool { call_id, .. } if *call_id == call);
                if scene.outputs.iter().any(ran) {
                    let arguments = arguments.to_string();
                    scene.client(Input::AskFirst {
                        call_id: &call,
                        about: "",
                        arguments: &arguments,
                    });
                }
            }
            1 => scene.done(&response, "completed"),
            2..=4 if !self.seen.is_empty() => {
                // Right, late, doubled: what has ever been asked.
                let at = usize::try_from(random.below(self.seen.len() as u64)).unwrap();
                let (id, call) = self.seen[at].clone();
                let allow = random.below(2) == 0;
                let open = |text: String| text.contains(&format!("\"{id}\""));
                if allow && scene.call.questions_now(scene.now).any(open) {
                    self.allowed.push(call);
                }
                answer(scene, &id, allow);
            }
            5 if !self.running.is_empty() => {
                let call = self.running.remove(0);
                scene.tool_finished(&call);
            }
            6 => scene.client(Input::ServiceLost(lost())),
            7 => {
                scene.client(Input::ServiceOpened);
                scene.service(json!({"type": "session.created", "session": {"id": "s2"}}));
                scene.service(json!({"type": "session.updated", "session": {"id": "s2"}}));
            }
            8 => scene.client(Input::ClientBroken),
            9 => drop(scene.call.take_up(0, scene.now)),
            10 => scene.speech(),
            _ => scene.pass_ms(random.below(9_000)),
        }
    }
}

#[test]
fn whatever_breaks_nothing_runs_without_its_yes_or_twice() {
    let mut runs = 0;
    for seed in 1..=300_u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let settings = CallSettings {
            idle: Duration::from_secs(3_600),
            resume: Duration::from_secs(3_000),
            ..outlives_its_session()
        };
        let mut scene = Scene::active_with(settings, json!(null));
        let mut world = World::default();
        for step in 0..200 {
            let what = format!("seed {seed}, step {step}");
            world.step(&mut scene, &mut random);
            world.observe(&mut scene, &what);
        }
        scene.pass_secs(31);
        assert_eq!(scene.call.questions_now(scene.now).count(), 0, "seed {seed}");
        runs += world.run.len();
    }
    assert!(runs > 300, "{runs} is too few to show anything");
}
