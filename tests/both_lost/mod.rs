//! Whole calls in memory, by seeds, in which all of it happens to one call: its client is lost and takes it up
//! again, its service is lost, refuses and comes back, and its sessions reach their limit. The test plays
//! client and service, keeps its own record of what was said and heard, and compares.
//!
//! The invariants: no session of the service hears a sample of the microphone twice or out of order, and what
//! none hears was counted; the client hears all of the replies that came, once; what each session is told of
//! the conversation is what was said and heard; one response at most is asked for; every question is answered;
//! the call ends once and leaves nothing.

mod connections;
mod judge;
mod said;
mod service;

use std::time::{Duration, Instant};

use crate::support::random::Random;
use crate::support::scene::{Scene, settings};
use crate::support::whole_call::{for_seeds, numbers, read_numbers, send};
use said::{Link, Said, Session, Turn};
use serde_json::{Value, json};
use voicelived::call::CallSettings;
use voicelived::net::ws::Message;

const FRAME: Duration = Duration::from_millis(60);
/// Numbers of a frame of the microphone: each is four bytes, two samples.
const NUMBERS: u32 = 720;
const SESSION: Duration = Duration::from_secs(14);
/// What the kernel takes for a client: as the daemon asks of Linux.
const ROOM: usize = 32 * 1024;
/// Frames of the microphone that a client keeps while it is away: 5 s.
const KEPT: usize = 83;
/// How far the daemon's idea of what was heard may be from the client's, in milliseconds of sound.
const NEAR: usize = 200;
/// The same while the client takes nothing: so much may have left for it that it has not had.
const UNDER_WAY: usize = 1_000;

struct World {
    scene: Scene,
    seed: u64,
    random: Random,
    link: Link,
    began: Instant,
    /// Losses since a session lasted.
    losses: usize,
    refusals: usize,
    sessions: Vec<Session>,
    /// Messages of `scene.told` that were looked at, and changes that were noticed.
    looked: usize,
    changed: usize,
    said: Vec<Said>,
    turn: Option<Turn>,
    turns: usize,
    replies: usize,
    tools: usize,
    /// The next number of the reply, and of the microphone.
    reply: u32,
    microphone: u32,
    cuts: Vec<u32>,
    /// Frames that a client keeps that is away, and numbers that it has lost.
    kept: Vec<Vec<u8>>,
    gone: Vec<u32>,
    away_since: Option<Instant>,
    stalled_since: Option<Instant>,
    /// How much of `scene.audio` the client has played.
    played: usize,
    /// It took nothing for a while, and has not played all of that yet.
    late: bool,
    changes: usize,
    joins: usize,
    outages: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let settings = CallSettings {
            reconnect: Duration::from_secs(60),
            session_time: SESSION,
            resume: Duration::from_secs(30),
            ..settings()
        };
        let scene = Scene::active_resumable(settings, ROOM);
        let now = scene.now;
        let mut world = Self {
            scene,
            seed,
            random: Random::new(seed),
            link: Link::Active,
            began: now,
            losses: 0,
            refusals: 0,
            sessions: vec![Session::default()],
            looked: 0,
            changed: 0,
            said: Vec::new(),
            turn: None,
            turns: 0,
            replies: 0,
            tools: 0,
            reply: 1,
            microphone: 1,
            cuts: Vec::new(),
            kept: Vec::new(),
            gone: Vec::new(),
            away_since: None,
            stalled_since: None,
            played: 0,
            late: false,
            changes: 0,
            joins: 0,
            outages: 0,
        };
        world.listen();
        world
    }

    fn present(&mut self) -> &mut Session {
        self.sessions.last_mut().expect("there is one")
    }

    fn say(&mut self, event: &Value) {
        self.scene.say(event.to_string().as_bytes());
        self.listen();
    }

    // ---- time and the microphone ----

    /// 60 ms pass, and the user's microphone goes on.
    fn live(&mut self) {
        self.scene.pass(FRAME);
        self.played = self.scene.audio.len().min(self.played + NUMBERS as usize * 4);
        self.late &= self.played < self.scene.audio.len();
        self.listen();
        let said = self.microphone..self.microphone + NUMBERS;
        self.microphone = said.end;
        if self.away_since.is_some() {
            self.kept.push(numbers(said));
            if self.kept.len() > KEPT {
                self.gone.extend(read_numbers(&self.kept.remove(0)));
            }
        } else {
            self.send(&numbers(said));
        }
    }

    fn send(&mut self, pcm: &[u8]) {
        send(&mut self.scene, Message::Binary(pcm));
        self.listen();
    }

    fn type_text(&mut self) {
        self.turns += 1;
        let key = format!("typed{}", self.turns);
        let text = format!("{key} by the user");
        if self.present().reply.is_some() || self.played < self.scene.audio.len() {
            self.cut_replies();
        }
        self.said.push(Said::new(key, text.clone()));
        let message = json!({"type": "text", "text": text}).to_string();
        send(&mut self.scene, Message::Text(&message));
        self.listen();
        self.drop_played();
    }

    fn finish_tools(&mut self) {
        for said in &mut self.said {
            if said.text == "runs" {
                "is done".clone_into(&mut said.text);
            }
        }
        self.scene.finish_tools();
        self.listen();
    }

    fn step(&mut self) {
        let age = self.scene.now - self.began;
        match self.link {
            Link::Lost => self.find(),
            _ if age >= SESSION => self.lose(),
            _ => {
                self.serve();
                self.prepare();
            }
        }
        let there = self.link != Link::Lost;
        let here = self.away_since.is_none() && self.stalled_since.is_none();
        let may_lose = age > Duration::from_secs(11) || self.losses < 2;
        match self.random.range(0, 300) {
            0..6 if there && here && self.turn.is_none() => self.begin_turn(),
            10..12 if here && self.turn.is_none() => self.type_text(),
            20..30 => self.finish_tools(),
            30 | 31 if there && may_lose => self.lose(),
            40..43 if self.away_since.is_none() => self.lose_client(),
            50 => self.join(),
            60 | 61 if here => {
                self.scene.client_listens = false;
                self.stalled_since = Some(self.scene.now);
            }
            _ => {}
        }
        let long = |since: Option<Instant>, most: u64| {
            since.is_some_and(|since| self.scene.now >= since + Duration::from_secs(most))
        };
        let returns = self.away_since.is_some() && self.random.one_in(60);
        if returns || long(self.away_since, 20) || long(self.stalled_since, 8) {
            self.join();
        } else if self.stalled_since.is_some() && self.random.one_in(30) {
            self.stalled_since = None;
            self.scene.client_listens = true;
            (0..20).for_each(|_| self.scene.turn());
            self.late = true;
        }
        self.live();
        assert!(self.scene.session_is_talking(), "seed {}: {}", self.seed, self.scene.texts);
    }

    /// Everything comes to rest: the user is silent, and both connections hold.
    fn rest(&mut self) {
        if self.away_since.is_some() || self.stalled_since.is_some() {
            self.join();
        }
        self.scene.redial &= self.link == Link::Lost;
        for _ in 0..400 {
            self.began = self.began.max(self.scene.now - Duration::from_secs(4));
            match self.link {
                Link::Lost => self.find(),
                _ => self.serve(),
            }
            self.finish_tools();
            self.live();
        }
        self.scene.pass(Duration::from_secs(17));
        self.listen();
    }
}

/// Returns whether the call has met all three: a client that came back, an outage, and a change of sessions.
fn run(seed: u64) -> bool {
    let mut world = World::new(seed);
    for _ in 0..500 {
        world.step();
    }
    world.rest();
    world.check();
    let all = world.joins > 0 && world.outages > 0 && world.changes > 0;
    world.end();
    all
}

#[test]
fn a_call_outlives_its_client_its_service_and_its_sessions() {
    let calls = for_seeds(run);
    let met_all = calls.iter().filter(|all| **all).count();
    assert!(calls.len() < 100 || met_all > calls.len() / 4, "{met_all} calls have met all of it");
}
