//! Whole calls in memory that go on from session to session, by seeds: the service ends each session after
//! 20 s, the next one is prepared before, and things go wrong at random moments. The test keeps its own
//! record of what was said, and compares it with what the client and each session were told.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::support::random::Random;
use crate::support::scene::{Scene, settings};
use crate::support::whole_call::{
    CREATED, UPDATED, end, find_service, for_seeds, lose_service, numbers, read_numbers, refusal,
    send,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use voicelived::call::CallSettings;
use voicelived::net::ws::Message;

const FRAME: Duration = Duration::from_millis(60);
const SAMPLES: usize = 1_440;
const SESSION: Duration = Duration::from_secs(20);

/// What one session of the service has heard.
#[derive(Default)]
struct Heard {
    /// The numbers of the microphone's samples, without a gap. Each pair of samples says its own number.
    samples: Option<Range<usize>>,
    /// The conversation: what it was told, and what was said in it.
    said: Vec<String>,
    /// It took over from one that was in order, and while nobody spoke.
    quietly: bool,
}

/// A call, and everything that its two ends have said and heard.
struct World {
    scene: Scene,
    next_sample: usize,
    sessions: Vec<Heard>,
    began: Instant,
    /// Messages of `scene.told` that were looked at, and changes that were noticed.
    looked: usize,
    changed: usize,
    /// What was said in the call, as each session must know it.
    said: Vec<String>,
    sent: Vec<u8>,
    playing_until: Instant,
    turns: usize,
    speaking: bool,
    /// The session is being lost.
    losing: bool,
    /// It was lost, and the call has none.
    lost: bool,
    /// The second connection has opened.
    coming: bool,
    outages: usize,
}

impl World {
    fn new() -> Self {
        let settings = CallSettings {
            reconnect: Duration::from_secs(60),
            session_time: SESSION,
            ..settings()
        };
        let scene = Scene::active(settings, usize::MAX);
        let now = scene.now;
        let mut world = Self {
            scene,
            next_sample: 0,
            sessions: vec![Heard::default()],
            began: now,
            looked: 0,
            changed: 0,
            said: Vec::new(),
            sent: Vec::new(),
            playing_until: now,
            turns: 0,
            speaking: false,
            losing: false,
            lost: false,
            coming: false,
            outages: 0,
        };
        world.listen();
        world
    }

    /// The client says 60 ms.
    fn speak(&mut self) {
        let pair = |sample: usize| u32::try_from(sample / 2).expect("it fits");
        let pairs = pair(self.next_sample)..pair(self.next_sample + SAMPLES);
        self.next_sample += SAMPLES;
        send(&mut self.scene, Message::Binary(&numbers(pairs)));
        self.listen();
    }

    /// 60 ms pass, and the client says 60 ms.
    fn live(&mut self) {
        self.scene.pass(FRAME);
        self.listen();
        self.speak();
    }

    fn live_for(&mut self, time: Duration) {
        let end = self.scene.now + time;
        while self.scene.now < end {
            self.live();
        }
    }

    fn say(&mut self, event: &Value) {
        self.scene.say(event.to_string().as_bytes());
        self.listen();
    }

    fn say_next(&mut self, event: &Value) {
        self.scene.say_next(event.to_string().as_bytes());
        self.listen();
    }

    /// The rest of a whole turn of the user, in words, and what the service answers.
    fn end_turn(&mut self, random: &mut Random) {
        self.turns += 1;
        let (item, words) = (format!("u{}", self.turns), format!("Question {}", self.turns));
        self.say(&json!({"type": "input_audio_buffer.speech_stopped"}));
        self.speaking = false;
        self.say(&json!({"type": "input_audio_buffer.committed", "item_id": item}));
        self.say(&json!({"type": "conversation.item.input_audio_transcription.completed",
            "item_id": item, "content_index": 0, "transcript": words}));
        self.know(format!("user: {words}"));
        if self.lost {
            return;
        }
        let response = format!("r{}", self.turns);
        let words = format!("Answer {}", self.turns);
        self.say(&json!({"type": "response.created", "response": {"id": response}}));
        self.say(&json!({"type": "response.audio_transcript.delta", "response_id": response,
            "item_id": format!("a{}", self.turns), "output_index": 0, "content_index": 0, "delta": words}));
        for _ in 0..random.range(1, 6) {
            self.reply(&response, random.range(1, 400));
        }
        self.say(&json!({"type": "response.done", "response":
            {"id": response, "status": "completed"}}));
        self.know(format!("assistant: {words}"));
    }

    fn reply(&mut self, response: &str, ms: usize) {
        let pcm: Vec<u8> = (0..ms * 48).map(|at| u8::try_from(at % 251).expect("small")).collect();
        self.sent.extend(&pcm);
        self.playing_until =
            self.playing_until.max(self.scene.now) + Duration::from_millis(ms as u64);
        self.say(&json!({"type": "response.audio.delta", "response_id": response,
            "item_id": format!("a{}", self.turns), "output_index": 0, "content_index": 0,
            "delta": STANDARD.encode(&pcm)}));
    }

    /// It was said in the present session, so that knows it.
    fn know(&mut self, what: String) {
        self.said.push(what.clone());
        self.present().said.push(what);
    }

    fn present(&mut self) -> &mut Heard {
        self.sessions.last_mut().expect("there is one")
    }

    /// The samples that the present session has heard.
    fn heard(&mut self) -> Range<usize> {
        self.present().samples.clone().expect("it has heard something")
    }

    /// What the service was told since the last look.
    fn listen(&mut self) {
        loop {
            let end = self.scene.changes.get(self.changed).copied();
            let end = end.unwrap_or(self.scene.told.len());
            for at in self.looked..end {
                let event: Value = serde_json::from_str(&self.scene.told[at]).expect("JSON");
                self.hear(&event);
            }
            self.looked = end;
            if self.changed == self.scene.changes.len() {
                return;
            }
            self.changed += 1;
            self.coming = false;
            self.began = self.scene.now;
            let quietly = !self.speaking && !self.losing;
            self.sessions.push(Heard { quietly, ..Heard::default() });
            assert!(!self.lost);
        }
    }

    fn hear(&mut self, event: &Value) {
        match event["type"].as_str().expect("text") {
            "input_audio_buffer.append" => {
                let pcm = STANDARD.decode(event["audio"].as_str().expect("text")).expect("base64");
                let at = self.sessions.len();
                let samples = &mut self.present().samples;
                for pair in read_numbers(&pcm) {
                    let sample = pair as usize * 2;
                    let heard = samples.get_or_insert(sample..sample);
                    assert_eq!(sample, heard.end, "the next sample of session {at}");
                    heard.end += 2;
                }
            }
            "conversation.item.create" => {
                let item = &event["item"];
                let (role, text) = (&item["role"], &item["content"][0]["text"]);
                let text = text.as_str().expect("text");
                self.present().said.push(format!("{}: {text}", role.as_str().expect("a role")));
                assert!(self.present().samples.is_none(), "it knows before it hears");
            }
            _ => {}
        }
    }

    /// Something of what may happen to the second session.
    fn go_on_with_next(&mut self, random: &mut Random) {
        if self.scene.redial && !self.lost {
            if random.one_in(4) {
                self.scene.refuse_next(refusal(random));
            } else {
                self.scene.answer_next();
                self.coming = true;
                if random.one_in(6) {
                    self.say_next(&json!({"type": "error", "error": {"message": "Not now."}}));
                    self.coming = false;
                    return;
                }
                if random.one_in(8) {
                    return;
                }
                self.scene.say_next(CREATED);
                self.scene.say_next(UPDATED);
                self.listen();
            }
        } else if self.coming && random.one_in(60) {
            self.scene.break_next();
            self.coming = false;
        }
        self.listen();
    }

    /// The service ends the session, or loses it.
    fn lose(&mut self, random: &mut Random) {
        self.losing = true;
        self.lost = lose_service(&mut self.scene, random);
        if self.lost {
            self.coming = false;
            self.outages += 1;
        }
        self.listen();
        self.losing = false;
        self.speaking = false;
    }

    fn come_back(&mut self) {
        for _ in 0..600 {
            if self.scene.redial {
                break;
            }
            self.live();
        }
        self.sessions.push(Heard::default());
        find_service(&mut self.scene);
        self.listen();
        self.lost = false;
        self.began = self.scene.now;
        // What was held is heard at twice real time.
        self.live_for(Duration::from_secs(2));
    }

    fn step(&mut self, random: &mut Random) {
        if self.lost {
            return self.come_back();
        }
        if self.scene.now >= self.began + SESSION {
            return self.lose(random);
        }
        self.go_on_with_next(random);
        match random.range(0, 150) {
            0..4 if !self.speaking && self.playing_until <= self.scene.now => {
                self.say(&json!({"type": "input_audio_buffer.speech_started"}));
                self.speaking = true;
            }
            4..12 if self.speaking => self.end_turn(random),
            20 if random.one_in(4) => self.lose(random),
            _ => self.live(),
        }
    }

    fn check(&mut self, seed: u64) {
        let counted = self.scene.counted("microphone_dropped_bytes_total") / 2;
        let counted = usize::try_from(counted).expect("it fits");
        let (mut known, mut missing) = (0, 0);
        for (at, session) in self.sessions.iter().enumerate() {
            let said = &session.said[..];
            assert!(self.said.starts_with(said), "seed {seed}, session {at}: {said:?}");
            let Some(samples) = &session.samples else { continue };
            if session.quietly {
                assert_eq!(samples.start, known, "seed {seed}, session {at}: not the next sample");
            }
            missing += samples.start.saturating_sub(known);
            known = known.max(samples.end);
        }
        assert_eq!(missing, counted, "seed {seed}: missing samples, and counted ones");
        assert_eq!(known, self.next_sample, "seed {seed}: the end is missing");
        assert!(self.scene.audio == self.sent, "seed {seed}: not all of the replies was heard");
        let told = self.scene.texts.matches(r#""state":"reconnecting""#).count();
        assert_eq!(told, self.outages, "seed {seed}: the client was told of a rollover");
        let errors = self.scene.texts.matches(r#""type":"error""#).count();
        assert_eq!(errors, 0, "seed {seed}: {}", self.scene.texts);
    }
}

/// Returns how many sessions followed another one without an outage.
fn run(seed: u64) -> usize {
    let mut random = Random::new(seed);
    let mut world = World::new();
    for _ in 0..600 {
        world.step(&mut random);
        assert!(world.scene.session_is_talking(), "seed {seed}: {}", world.scene.texts);
    }
    while world.lost {
        world.come_back();
    }
    if world.speaking {
        world.end_turn(&mut random);
    }
    // Until nothing waits any more. No session ends meanwhile, and no next one answers.
    world.scene.redial = false;
    world.began = world.scene.now;
    world.scene.pass(Duration::from_secs(17));
    world.listen();
    world.check(seed);
    let changes = world.scene.changes.len();
    let prepared = world.coming.then_some(Some(1000));
    let next_closed = end(world.scene, seed);
    assert_eq!(prepared.unwrap_or(next_closed), next_closed, "seed {seed}: it is left open");
    changes
}

/// A call whose next session has its connection, and has said nothing.
fn with_next() -> World {
    let mut world = World::new();
    while !world.scene.redial {
        assert!(world.scene.now < world.began + SESSION, "nobody calls");
        world.live();
    }
    world.scene.answer_next();
    assert!(world.scene.has_next());
    world
}

/// So the next session hears a turn that begins at this moment from its beginning.
#[test]
fn before_a_quiet_change_the_microphone_is_held() {
    let mut world = with_next();
    world.say_next(&json!({"type": "session.created", "session": {"id": "s"}}));
    world.say_next(&json!({"type": "session.updated", "session": {"id": "s"}}));
    let held = world.next_sample;
    world.speak();
    assert_eq!(world.heard().end, held, "the old session hears more");
    world.live_for(Duration::from_secs(1));
    assert_eq!(world.scene.changes.len(), 1);
    assert_eq!(world.heard().start, held);
}

#[test]
fn a_next_session_that_cannot_be_used_is_closed() {
    let mut world = with_next();
    world.say_next(&json!({"type": "error", "error": {"message": "Not now."}}));
    assert_eq!(world.scene.next_closed, Some(1000));
    world.live_for(Duration::from_secs(1));
    assert!(world.scene.changes.is_empty() && world.scene.session_is_talking());
}

#[test]
fn sessions_follow_each_other_and_nobody_hears_it() {
    let changes = for_seeds(run);
    let (calls, changes) = (changes.len(), changes.iter().sum::<usize>());
    assert!(calls < 100 || changes > calls, "{changes} rollovers only");
}
