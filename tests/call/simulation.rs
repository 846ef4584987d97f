//! Random conversations: whatever the order of events, the call keeps its promises. The service forgets
//! to tell the beginnings and the ends of some responses, and says things of past ones.

use std::time::{Duration, Instant};

use serde_json::json;
use voicelived::call::Output;

use super::scene::Scene;

/// A small generator (xorshift), so that a failing seed can be run again.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % limit
    }
}

/// What a service and a tool runner would know.
#[derive(Default)]
struct World {
    responses: u64,
    active: Option<String>,
    /// What the client knows: a response is under way.
    answering: bool,
    /// When a `response.create` was seen that has no response yet.
    requested: Option<Instant>,
    calls: u64,
    running: Vec<String>,
    asked: Vec<String>,
    answered: Vec<String>,
    closes: usize,
}

impl World {
    /// Takes in what the call put out, and checks it.
    fn observe(&mut self, scene: &mut Scene, what: &str) {
        for output in std::mem::take(&mut scene.outputs) {
            assert_eq!(self.closes, 0, "{what}: {output:?} after the end");
            match output {
                Output::ToService(text) => self.command(&text, scene.now, what),
                Output::ToClient(text) => {
                    let begins = text.contains(r#""response_started""#);
                    if begins || text.contains(r#""response_done""#) {
                        assert_ne!(self.answering, begins, "{what}: {text} twice");
                        self.answering = begins;
                    }
                }
                Output::RunTool { call_id, .. } => self.running.push(call_id),
                Output::Close(_) => self.closes += 1,
                // It counts as over. The service says nothing more of it.
                Output::Unfinished { response_id, .. } => {
                    self.active.take_if(|active| *active == response_id);
                }
                _ => {}
            }
        }
    }

    fn command(&mut self, text: &str, now: Instant, what: &str) {
        let command: serde_json::Value = serde_json::from_str(text).unwrap();
        match command["type"].as_str().unwrap() {
            "response.create" => {
                assert!(self.active.is_none(), "{what}: requested while one is active");
                assert!(!self.answering, "{what}: requested while the client hears of one");
                assert!(self.requested.is_none(), "{what}: requested twice");
                self.requested = Some(now);
            }
            "conversation.item.create" if command["item"]["call_id"].is_string() => {
                let call_id = command["item"]["call_id"].as_str().unwrap().to_owned();
                assert!(!self.answered.contains(&call_id), "{what}: {call_id} answered twice");
                self.answered.push(call_id);
            }
            "conversation.item.truncate" => {
                assert!(command["audio_end_ms"].as_u64().unwrap() <= 2_000, "{what}: {text}");
            }
            _ => {}
        }
    }

    fn step(&mut self, scene: &mut Scene, random: &mut Random) {
        let active = self.active.clone();
        match (random.below(12), active) {
            (0, None) => {
                self.responses += 1;
                self.requested = None;
                let id = format!("r{}", self.responses);
                match random.below(4) {
                    0 => drop(scene.audio(&id, &format!("item_{id}"), 10)),
                    1 => scene.function_call(&id, "", "completed"),
                    _ => scene.created(&id),
                }
                self.active = Some(id);
            }
            (1, Some(id)) => {
                self.active = None;
                match random.below(5) {
                    // Its end is never told.
                    0 => {}
                    1 | 2 => scene.done(&id, "completed"),
                    _ => scene.done(&id, "cancelled"),
                }
            }
            (11, _) if random.below(3) == 0 && self.responses > 1 => {
                let past =
                    format!("r{}", self.responses - 1 - random.below(self.responses.min(9) - 1));
                let known = self.active.as_ref() != Some(&past);
                match random.below(3) {
                    0 if known => scene.done(&past, "completed"),
                    1 if known => drop(scene.audio(&past, &format!("item_{past}"), 1)),
                    _ => {}
                }
            }
            (2 | 3, Some(id)) => {
                // One item a response, never longer than two seconds.
                if random.below(4) > 0 {
                    scene.audio(&id, &format!("item_{id}"), 10);
                }
            }
            (4, Some(id)) if random.below(3) == 0 => {
                self.calls += 1;
                let call = format!("call_{}", self.calls);
                scene.function_call(&id, &call, "completed");
                self.asked.push(call);
            }
            (5, _) if !self.running.is_empty() => {
                let index = random.below(self.running.len() as u64);
                let call = self.running.swap_remove(usize::try_from(index).unwrap());
                scene.tool_finished(&call);
            }
            (6, _) => scene.speech(),
            (7, _) => scene.speech_ends(),
            (8, _) => scene.says(json!({"type": "text", "text": "hi"})),
            (9, _) => scene.says(json!({"type": "interrupt"})),
            (10, _) => scene.says(json!({"type": "played", "ms": random.below(3_000)})),
            _ => self.wait(scene, random),
        }
    }

    fn wait(&mut self, scene: &mut Scene, random: &mut Random) {
        scene.pass_ms(random.below(4_000));
        // A request that the service never answers is given up after ten seconds.
        if self.requested.is_some_and(|at| scene.now >= at + Duration::from_secs(6)) {
            self.requested = None;
        }
    }
}

#[test]
fn random_conversations_keep_every_promise() {
    for seed in 1..=200_u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let truncates = random.below(2) == 0;
        let mut scene =
            if truncates { Scene::active() } else { Scene::active_without_truncation() };
        let mut world = World::default();
        for step in 0..400 {
            let what = format!("seed {seed}, step {step}");
            world.step(&mut scene, &mut random);
            world.observe(&mut scene, &what);
            if world.closes > 0 {
                break;
            }
        }
        if world.closes == 0 {
            for _ in 0..4 {
                scene.pass_secs(8);
                world.requested = None;
                world.observe(&mut scene, "the tools' time is up");
            }
            assert_eq!(
                world.answered.len(),
                world.asked.len(),
                "seed {seed}: a call got no output"
            );
            scene.pass_secs(3_600);
            world.observe(&mut scene, "the end");
            assert_eq!(world.closes, 1, "seed {seed}");
        }
    }
}
