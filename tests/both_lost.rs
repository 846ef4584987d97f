//! Whole calls in memory, by seeds, in which all of it happens to one call: its client is lost and takes it up
//! again, its service is lost, refuses and comes back, and its sessions reach their limit. The test plays
//! client and service, keeps its own record of what was said and heard, and compares.
//!
//! The invariants: no session of the service hears a sample of the microphone twice or out of order, and what
//! none hears was counted; the client hears all of the replies that came, once; what each session is told of
//! the conversation is what was said and heard; one response at most is asked for; every question is answered;
//! the call ends once and leaves nothing.

use std::time::{Duration, Instant};

use crate::support::{random, scene};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use random::Random;
use scene::{Scene, settings};
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

fn numbers(range: std::ops::Range<u32>) -> Vec<u8> {
    range.flat_map(u32::to_le_bytes).collect()
}

fn read_numbers(pcm: &[u8]) -> impl Iterator<Item = u32> {
    let (pairs, rest) = pcm.as_chunks::<4>();
    assert!(rest.is_empty(), "half a number");
    pairs.iter().map(|pair| u32::from_le_bytes(*pair))
}

/// What was said, as the test knows it. The first word tells it from all else.
#[derive(Debug)]
struct Said {
    /// `u3`, `a3`, `t3` or `typed3`.
    key: String,
    /// All that was said. Nothing: the words are not known yet.
    text: String,
    /// The numbers of the reply.
    sound: std::ops::Range<u32>,
    /// Of a reply that was cut off: the most and the least that may count as heard, in milliseconds.
    cut: Option<(usize, usize)>,
}

impl Said {
    fn new(key: String, text: String) -> Self {
        Self { key, text, sound: 0..0, cut: None }
    }

    fn is_tool(&self) -> bool {
        self.key.starts_with('t') && !self.key.starts_with("typed")
    }

    fn ms(&self) -> usize {
        self.sound.len() / 12
    }

    /// Whether a text begins as this. A reply may be cut in its first word.
    fn begins(&self, text: &str) -> bool {
        text.split(' ').next() == Some(&self.key)
            || (self.cut.is_some() && !text.is_empty() && self.key.starts_with(text))
    }

    /// Whether a session that was told this knows it as it was.
    fn is(&self, told: &str) -> bool {
        let Some((most, least)) = self.cut else { return self.text == told };
        let words = |ms: usize| self.text.len() * ms.min(self.ms()) / self.ms().max(1);
        // Cut at the end of a word.
        self.text.starts_with(told)
            && told.len() <= words(most)
            && told.len() + self.key.len() + 6 >= words(least)
    }
}

/// An answer under way.
struct Reply {
    id: String,
    number: usize,
    parts: usize,
}

/// What one session of the service has heard, and what it knows.
#[derive(Default)]
struct Session {
    heard: Vec<u32>,
    /// Ids and texts.
    items: Vec<(String, String)>,
    /// It was asked for an answer, and it is going to give one by itself.
    asked: bool,
    owes: bool,
    reply: Option<Reply>,
    /// Silence in a row, in bytes.
    silence: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Speaking,
    Committed,
    /// Its session was lost, so the next one hears it again from that moment on.
    Again(Instant),
}

/// The user's turn, until its words are known.
#[derive(Debug)]
struct Turn {
    number: usize,
    /// Its first number of the microphone.
    from: u32,
    stage: Stage,
    /// Words of its answer have come.
    answered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Active,
    Lost,
    /// A second connection is open beside the active one.
    Coming,
}

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
        self.scene.client().send(Message::Binary(pcm)).expect("memory");
        self.scene.client().flush().expect("memory");
        self.scene.turn();
        self.listen();
    }

    // ---- what the service is told ----

    /// What the service was told since the last look.
    fn listen(&mut self) {
        loop {
            let end = self.scene.changes.get(self.changed).copied();
            let end = end.unwrap_or(self.scene.told.len());
            while self.looked < end {
                let event: Value =
                    serde_json::from_str(&self.scene.told[self.looked]).expect("JSON");
                self.looked += 1;
                self.hear(&event);
            }
            if self.changed == self.scene.changes.len() {
                return;
            }
            self.changed += 1;
            self.changes += 1;
            self.begin_session();
            self.listen();
            self.compare_replay();
        }
    }

    fn hear(&mut self, event: &Value) {
        let seed = self.seed;
        let session = self.sessions.last_mut().expect("there is one");
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        match event["type"].as_str().expect("text") {
            "input_audio_buffer.append" => {
                let pcm = STANDARD.decode(text("audio")).expect("base64");
                for number in read_numbers(&pcm) {
                    session.silence = if number == 0 { session.silence + 4 } else { 0 };
                    session.heard.extend(Some(number).filter(|number| *number > 0));
                }
            }
            "conversation.item.create" => {
                let item = &event["item"];
                let id = item["id"].as_str().unwrap_or_default().to_owned();
                let text = match item["type"].as_str().expect("text") {
                    "function_call" => format!("call {}", item["call_id"].as_str().expect("text")),
                    "function_call_output" => {
                        format!("output {}", item["call_id"].as_str().expect("text"))
                    }
                    _ => item["content"][0]["text"].as_str().expect("text").to_owned(),
                };
                let before = event["previous_item_id"].as_str();
                let at = before.map(|id| session.items.iter().position(|item| item.0 == id));
                let at = at.map_or(session.items.len(), |at| at.expect("it knows that item") + 1);
                session.items.insert(at, (id, text));
            }
            "conversation.item.delete" => {
                let before = session.items.len();
                session.items.retain(|item| item.0 != text("item_id"));
                assert_eq!(session.items.len() + 1, before, "seed {seed}: nothing to delete");
            }
            "conversation.item.truncate" => {
                let ms = event["audio_end_ms"].as_u64().expect("a number");
                let id = text("item_id");
                let said = self.said.iter().find(|said| said.key == id).expect("a reply");
                let item = session.items.iter_mut().find(|item| item.0 == id);
                let text = &mut item.expect("it knows the item that is cut").1;
                let most = said.text.len() * usize::try_from(ms).expect("small") / said.ms().max(1);
                text.truncate(most);
                text.truncate(text.rfind(' ').unwrap_or(0));
            }
            "response.create" => {
                let busy = session.asked || session.owes || session.reply.is_some();
                assert!(!busy, "seed {seed}: a second answer is asked for");
                session.asked = true;
            }
            "response.cancel" => {
                if let Some(reply) = session.reply.take() {
                    let done = json!({"type": "response.done", "response":
                        {"id": reply.id, "status": "cancelled"}});
                    self.say(&done);
                }
            }
            _ => {}
        }
    }

    /// A new session is the present one, and nothing of the last is under way any more.
    fn begin_session(&mut self) {
        self.link = Link::Active;
        self.began = self.scene.now;
        self.lose_turn();
        self.sessions.push(Session::default());
    }

    /// What is under way goes with its session: a turn that nothing has answered is heard again.
    fn lose_turn(&mut self) {
        self.said.retain(|said| !said.text.is_empty());
        self.turn = self.turn.take().filter(|turn| !turn.answered);
        if let Some(turn) = &mut self.turn
            && !matches!(turn.stage, Stage::Again(_))
        {
            turn.stage = Stage::Again(self.scene.now);
        }
        self.present().reply = None;
    }

    /// What the new session was told is the conversation, in order.
    fn compare_replay(&self) {
        let seed = self.seed;
        let session = self.sessions.last().expect("there is one");
        let mut told = session.items.iter().map(|item| item.1.as_str());
        let mut next = told.next();
        for said in &self.said {
            let parts = said
                .is_tool()
                .then(|| [format!("call {}", said.key), format!("output {}", said.key)]);
            if let (Some([call, output]), "is done") = (parts, said.text.as_str()) {
                assert_eq!((next, told.next()), (Some(&*call), Some(&*output)), "seed {seed}");
                next = told.next();
            } else if let Some(text) = next
                && said.begins(text)
            {
                assert!(said.is(text), "seed {seed}: {text:?} is told of {said:?}");
                next = told.next();
            } else {
                let unheard = said.cut.is_some() && said.is("");
                assert!(
                    unheard || said.is_tool(),
                    "seed {seed}: {said:?} is missing, {next:?} is there"
                );
            }
        }
        assert_eq!(next, None, "seed {seed}: nobody has said this");
    }

    // ---- what the service does ----

    fn begin_turn(&mut self) {
        self.turns += 1;
        let (number, from) = (self.turns, self.microphone);
        self.turn = Some(Turn { number, from, stage: Stage::Speaking, answered: false });
        self.speech_started();
    }

    fn speech_started(&mut self) {
        // What it was asked for begins before the user interrupts it.
        if self.present().asked {
            self.begin_reply();
        }
        self.cut_replies();
        self.say(&json!({"type": "input_audio_buffer.speech_started"}));
        self.end_cancelled();
        self.drop_played();
    }

    /// The service ends what the user has cut off.
    fn end_cancelled(&mut self) {
        let session = self.present();
        session.owes = false;
        if let Some(reply) = session.reply.take() {
            self.say(&json!({"type": "response.done", "response":
                {"id": reply.id, "status": "cancelled"}}));
        }
    }

    /// The client drops what it has not played.
    fn drop_played(&mut self) {
        if self.away_since.is_none() && self.stalled_since.is_none() {
            self.played = self.scene.audio.len();
        }
    }

    /// Notes how much of each reply the user has heard until now.
    fn cut_replies(&mut self) {
        self.cuts.push(self.reply);
        let active = self.present().reply.as_ref().map(|reply| format!("a{}", reply.number));
        // While it takes nothing, and until it has played all that waited, only the client knows.
        let here = self.away_since.is_none() && self.stalled_since.is_none();
        let exact = here && !self.late;
        let heard: Vec<u32> = read_numbers(&self.scene.audio[..self.played]).collect();
        let had: Vec<u32> = read_numbers(&self.scene.audio).collect();
        for said in self.said.iter_mut().rev().take(8) {
            let count = |all: &[u32]| {
                let from = all.partition_point(|number| *number < said.sound.start);
                let to = all.partition_point(|number| *number < said.sound.end);
                (to - from) / 12
            };
            let (ms, had) = (count(&heard), count(&had));
            let whole = ms >= said.ms() && active.as_ref() != Some(&said.key);
            if !said.key.starts_with('a') || whole || said.cut.is_some() {
                continue;
            }
            let near = (ms + NEAR, ms.saturating_sub(NEAR));
            said.cut = Some(if exact { near } else { (had + UNDER_WAY, 0) });
        }
    }

    fn end_turn(&mut self) {
        let turn = self.turn.as_mut().expect("the user speaks");
        turn.stage = Stage::Committed;
        let item = format!("u{}_{}", turn.number, self.sessions.len());
        self.said.push(Said::new(format!("u{}", turn.number), String::new()));
        self.present().owes = true;
        self.say(&json!({"type": "input_audio_buffer.speech_stopped"}));
        self.say(&json!({"type": "input_audio_buffer.committed", "item_id": item}));
    }

    fn transcribe(&mut self) {
        let turn = self.turn.take().expect("it was committed");
        let key = format!("u{}", turn.number);
        let words = format!("{key} is what the user has said");
        let item = format!("{key}_{}", self.sessions.len());
        let said = self.said.iter_mut().find(|said| said.key == key).expect("it was committed");
        said.text.clone_from(&words);
        self.present().items.push((item.clone(), words.clone()));
        self.say(&json!({"type": "conversation.item.input_audio_transcription.completed",
            "item_id": item, "content_index": 0, "transcript": words}));
    }

    fn begin_reply(&mut self) {
        let session = self.sessions.last_mut().expect("there is one");
        let ours = std::mem::take(&mut session.asked);
        session.owes = false;
        self.replies += 1;
        let id = format!("r{}", self.replies);
        let metadata = if ours { json!({"client_event_id": "create"}) } else { json!({}) };
        self.say(&json!({"type": "response.created",
            "response": {"id": id, "metadata": metadata}}));
        if self.random.one_in(4) {
            return self.want_tool(&id);
        }
        self.present().reply = Some(Reply { id, number: 0, parts: 0 });
    }

    fn want_tool(&mut self, response: &str) {
        let call = format!("t{}", self.tools);
        self.tools += 1;
        self.answered();
        self.said.push(Said::new(call.clone(), "runs".to_owned()));
        let call = json!({"type": "function_call", "call_id": call, "name": "get_weather",
            "arguments": r#"{"location":"Oslo"}"#});
        self.say(
            &json!({"type": "response.output_item.done", "response_id": response, "item": call}),
        );
        self.say(
            &json!({"type": "response.done", "response": {"id": response, "status": "completed"}}),
        );
    }

    fn answered(&mut self) {
        if let Some(turn) = &mut self.turn {
            turn.answered |= turn.stage == Stage::Committed;
        }
    }

    fn go_on_with_reply(&mut self) {
        let (seed, replies) = (self.seed, self.replies);
        let reply = self.present().reply.as_mut().expect("it is under way");
        reply.number = replies;
        reply.parts += 1;
        let (id, item, parts) = (reply.id.clone(), format!("a{replies}"), reply.parts);
        let words = if parts == 1 { item.clone() } else { format!(" w{parts:03}") };
        if parts == 1 {
            self.said.push(Said {
                sound: self.reply..self.reply,
                ..Said::new(item.clone(), String::new())
            });
            self.present().items.push((item.clone(), String::new()));
            self.answered();
        }
        // As much sound as letters, so that both are cut in the same place.
        let count = u32::try_from(words.len()).expect("short") * 12 * 60;
        let pcm = STANDARD.encode(numbers(self.reply..self.reply + count));
        self.reply += count;
        let said = self.said.iter_mut().find(|said| said.key == item);
        let said = said.unwrap_or_else(|| panic!("seed {seed}: {item}"));
        said.text.push_str(&words);
        said.sound.end = self.reply;
        let known =
            self.present().items.iter_mut().find(|known| known.0 == item).expect("it began");
        known.1.push_str(&words);
        let part =
            json!({"response_id": id, "item_id": item, "output_index": 0, "content_index": 0});
        let event = |kind: &str, delta: &str| {
            let mut event = part.clone();
            event["type"] = kind.into();
            event["delta"] = delta.into();
            event
        };
        self.say(&event("response.audio_transcript.delta", &words));
        if self.link != Link::Lost {
            self.say(&event("response.audio.delta", &pcm));
        }
    }

    fn end_reply(&mut self) {
        let reply = self.present().reply.take().expect("it is under way");
        self.say(&json!({"type": "response.done", "response":
            {"id": reply.id, "status": "completed"}}));
    }

    /// The service goes on with what it does.
    fn serve(&mut self) {
        let now = self.scene.now;
        let (silence, last) = (self.present().silence, self.present().heard.last().copied());
        // A service says that it hears speech some 300 ms after it has begun.
        let hears = |from: u32| silence > 0 || last.is_some_and(|last| last >= from + 3_600);
        match self.turn.as_ref().map(|turn| (turn.stage, turn.from)) {
            Some((Stage::Speaking, _)) if silence > 24_000 || self.random.one_in(12) => {
                return self.end_turn();
            }
            Some((Stage::Committed, _)) if self.random.one_in(8) => return self.transcribe(),
            Some((Stage::Again(lost), from)) if hears(from) => {
                let held = now.saturating_duration_since(lost) < Duration::from_secs(8);
                let heard = self.present().heard.first().copied();
                let came = self.gone.last().is_none_or(|gone| *gone < from);
                if held && came {
                    let seed = self.seed;
                    assert!(
                        heard.is_none_or(|first| first <= from),
                        "seed {seed}: the turn's beginning"
                    );
                }
                if let Some(turn) = &mut self.turn {
                    turn.stage = Stage::Speaking;
                }
                return self.speech_started();
            }
            _ => {}
        }
        let session = self.present();
        let (wanted, replying) = (session.asked || session.owes, session.reply.is_some());
        let parts = session.reply.as_ref().map_or(0, |reply| reply.parts);
        match (wanted, replying) {
            (_, true) if parts > 0 && self.random.one_in(10) => self.end_reply(),
            (_, true) if parts < 30 && self.random.one_in(3) => self.go_on_with_reply(),
            (true, false) if self.random.one_in(6) => self.begin_reply(),
            _ => {}
        }
    }

    // ---- what happens to the connections ----

    /// The service ends the session, or loses it.
    fn lose(&mut self) {
        let before = self.scene.changes.len();
        self.scene.redial = false;
        match self.random.range(0, 2) {
            0 => self.scene.break_service(),
            1 => self.scene.say(
                br#"{"type":"error","error":{"code":"session_expired","message":"It is over."}}"#,
            ),
            _ => self.scene.send(0x88, &[0x03, 0xe9]),
        }
        if self.scene.changes.len() == before {
            let lasted = self.scene.now >= self.began + Duration::from_secs(10);
            self.losses = if lasted { 1 } else { self.losses + 1 };
            self.link = Link::Lost;
            self.refusals = 0;
            self.outages += 1;
            self.listen();
            self.lose_turn();
        } else {
            self.listen();
        }
    }

    /// The service may be there again.
    fn find(&mut self) {
        if !self.scene.redial {
            return;
        }
        if self.refusals < 3 && self.random.one_in(3) {
            self.refusals += 1;
            let status = [408, 429, 500, 503][self.random.range(0, 3)];
            self.scene.refuse_redial(status);
            return self.listen();
        }
        self.listen();
        self.begin_session();
        self.scene.answer_redial();
        self.say(&json!({"type": "session.created", "session": {"id": "s"}}));
        self.say(&json!({"type": "session.updated", "session": {"id": "s"}}));
        self.compare_replay();
    }

    /// Something of what may happen to the session that is being prepared.
    fn prepare(&mut self) {
        // A try whose time was over at once is not waited for any more.
        self.scene.redial &= self.scene.is_calling();
        if self.scene.redial {
            if self.random.one_in(4) {
                self.scene.refuse_next([408, 429, 500, 503][self.random.range(0, 3)]);
            } else {
                self.scene.answer_next();
                self.link = Link::Coming;
                if self.random.one_in(8) {
                    return;
                }
                self.scene.say_next(br#"{"type":"session.created","session":{"id":"s"}}"#);
                self.scene.say_next(br#"{"type":"session.updated","session":{"id":"s"}}"#);
            }
        } else if self.link == Link::Coming && self.random.one_in(80) {
            self.scene.break_next();
            self.link = Link::Active;
        }
        self.listen();
    }

    fn lose_client(&mut self) {
        let most = self.random.range(0, 40_000);
        self.scene.break_client(most);
        self.listen();
        assert!(self.scene.is_held(), "seed {}: {}", self.seed, self.scene.texts);
        self.away_since = Some(self.scene.now);
        self.stalled_since = None;
    }

    /// The client takes its call up, perhaps before the daemon knows that its old connection is dead, and
    /// sends what it has kept of its microphone, if it keeps any.
    fn join(&mut self) {
        let before = self.scene.messages.len();
        let joined = self.scene.join(ROOM);
        assert_eq!(joined, Ok(()), "seed {}", self.seed);
        (self.away_since, self.stalled_since) = (None, None);
        self.scene.client_listens = true;
        (0..20).for_each(|_| self.scene.turn());
        self.joins += 1;
        self.late = true;
        let hello = &self.scene.messages[before];
        assert!(hello.contains(r#""resumed":true"#), "seed {}: {hello}", self.seed);
        let kept = std::mem::take(&mut self.kept);
        let keeps = self.random.one_in(2);
        for frame in kept {
            if keeps {
                self.send(&frame);
            } else {
                self.gone.extend(read_numbers(&frame));
            }
        }
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
        self.scene.client().send(Message::Text(&message)).expect("memory");
        self.scene.client().flush().expect("memory");
        self.scene.turn();
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

    // ---- the end ----

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

    fn check(&mut self) {
        let seed = self.seed;
        self.check_reply_audio();
        self.check_microphone();
        // What the last session knows, which it was told or has heard itself.
        let session = self.sessions.last().expect("there is one");
        for (at, (_, whole)) in session.items.iter().enumerate() {
            let text = whole.as_str();
            let text = text.trim_start_matches("call ").trim_start_matches("output ");
            let known = |said: &&Said| said.begins(text) && (said.is(text) || said.is_tool());
            let known = text.is_empty() || self.said.iter().any(|said| known(&said));
            assert!(known, "seed {seed}: it knows {text:?}, of {:?}", self.said);
            let again = session.items[..at].iter().any(|(_, other)| other == whole);
            assert!(!text.contains(' ') || !again, "seed {seed}: it knows {text:?} twice");
        }
        let last = self.said.last().map(|said| said.key.as_str());
        assert!(
            self.turn.is_none() && last.is_none_or(|key| key.starts_with('a')),
            "seed {seed}: nobody has answered {last:?}, {:?}\n{}",
            self.turn,
            self.scene.texts
        );
    }

    /// The client has heard every number of the replies once; a gap ends where the user has interrupted.
    fn check_reply_audio(&self) {
        let seed = self.seed;
        let mut next = 1;
        for number in read_numbers(&self.scene.audio) {
            let cut = number > next && self.cuts.contains(&number);
            assert!(number == next || cut, "seed {seed}: {number} instead of {next}");
            next = number + 1;
        }
        let end = self.cuts.last().copied().unwrap_or_default();
        assert!(next == self.reply || end == self.reply, "seed {seed}: {next} of {}", self.reply);
    }

    /// No session hears a number twice or out of order. What none has heard, and the client has sent, was counted.
    fn check_microphone(&mut self) {
        let seed = self.seed;
        let counted = self.scene.counted("microphone_dropped_bytes_total") / 4;
        let mut heard = vec![false; self.microphone as usize];
        for session in &self.sessions {
            assert!(session.heard.is_sorted_by(|one, next| one < next), "seed {seed}: doubled");
            session.heard.iter().for_each(|number| heard[*number as usize] = true);
        }
        self.gone.iter().for_each(|number| heard[*number as usize] = true);
        let missing = heard[1..].iter().filter(|heard| !**heard).count();
        assert_eq!(missing as u64, counted, "seed {seed}: missing, and counted");
    }

    /// The call ends once, and nothing is left of either connection.
    fn end(mut self) {
        let seed = self.seed;
        self.scene.client().send(Message::Text(r#"{"type":"hang_up"}"#)).expect("memory");
        self.scene.client().flush().expect("memory");
        self.scene.turn();
        self.scene.pass(Duration::from_secs(3));
        assert!(self.scene.closed, "seed {seed}");
        assert_eq!(self.scene.service_closed, Some(1000), "seed {seed}");
        let ends = self.scene.texts.matches(r#""state":"ended""#).count();
        assert_eq!(ends, 1, "seed {seed}: {}", self.scene.texts);
        let reconnects = self.scene.counted("service_reconnects_total");
        assert_eq!(reconnects, self.outages as u64, "seed {seed}: outages");
        let (free, all) = self.scene.release();
        assert_eq!(free, all, "seed {seed}: blocks are missing");
    }
}

/// Says which seed has failed, whatever has failed in it.
struct Failing(u64);

impl Drop for Failing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("VOICELIVED_SEED={}", self.0);
        }
    }
}

/// Returns whether the call has met all three: a client that came back, an outage, and a change of sessions.
fn run(seed: u64) -> bool {
    let _failing = Failing(seed);
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
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("VOICELIVED_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("VOICELIVED_SEEDS").unwrap_or(2_000),
    };
    let calls = usize::try_from(seeds.end - seeds.start).expect("it fits");
    let met_all = seeds.map(run).filter(|all| *all).count();
    assert!(calls < 100 || met_all > calls / 4, "{met_all} of {calls} calls have met all of it");
}
