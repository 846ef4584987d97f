//! What the service of a call hears and does.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::said::{Link, Reply, Said, Session, Stage, Turn};
use super::{NEAR, UNDER_WAY, World};
use crate::support::whole_call::{numbers, read_numbers};

impl World {
    /// What the service was told since the last look.
    pub(super) fn listen(&mut self) {
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
    pub(super) fn begin_session(&mut self) {
        self.link = Link::Active;
        self.began = self.scene.now;
        self.lose_turn();
        self.sessions.push(Session::default());
    }

    /// What is under way goes with its session: a turn that nothing has answered is heard again.
    pub(super) fn lose_turn(&mut self) {
        self.said.retain(|said| !said.text.is_empty());
        self.turn = self.turn.take().filter(|turn| !turn.answered);
        if let Some(turn) = &mut self.turn
            && !matches!(turn.stage, Stage::Again(_))
        {
            turn.stage = Stage::Again(self.scene.now);
        }
        self.present().reply = None;
    }

    pub(super) fn begin_turn(&mut self) {
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
    pub(super) fn drop_played(&mut self) {
        if self.away_since.is_none() && self.stalled_since.is_none() {
            self.played = self.scene.audio.len();
        }
    }

    /// Notes how much of each reply the user has heard until now.
    pub(super) fn cut_replies(&mut self) {
        self.cuts.push(self.reply);
        let active = self.present().reply.as_ref().map(|reply| format!("a{}", reply.number));
        // While it takes nothing, and until it has played all that waited, only the client knows.
        let here = self.away_since.is_none() && self.stalled_since.is_none();
        let exact = here && !self.late;
        let (had, rest) = self.scene.audio.as_chunks::<4>();
        assert!(rest.is_empty(), "half a number");
        let heard = &had[..self.played / 4];
        for said in self.said.iter_mut().rev().take(8) {
            let ms = |all: &[[u8; 4]]| {
                let before = |end| all.partition_point(|number| u32::from_le_bytes(*number) < end);
                (before(said.sound.end) - before(said.sound.start)) / 12
            };
            let (ms, had) = (ms(heard), ms(had));
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
    pub(super) fn serve(&mut self) {
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
}
