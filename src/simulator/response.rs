//! One response: a list of steps in the order recorded from the real service, taken one at a time
//! when the socket has room. Audio is cut from its source at that moment and paced.
//!
//! A cancelled response keeps only the steps that close what it had opened.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Action;
use super::conversation::{Conversation, Position};
use super::event::{Event, event};
use super::habits::Habits;
use super::outcome::Outcome;
use super::plan::{Content, Noise, Output, Step};
use super::sound::BYTES_PER_MS;

/// What the next step of a response is.
#[derive(Debug)]
pub(super) enum Progress {
    Send(Event),
    Raw(Action),
    /// The user's transcription is to be sent here.
    Heard,
    /// The connection sends nothing any more.
    Stall,
    /// Nothing before [`Response::due`].
    Wait,
    Finished,
}

/// How a response behaves, decided when it begins.
#[derive(Debug)]
pub(super) struct Manner {
    pub(super) not_before: Instant,
    /// Multiples of real time.
    pub(super) speed: u32,
    pub(super) habits: &'static Habits,
    /// Whether it belongs to the conversation. If not, its items are in no history: they are not
    /// announced, and nobody can name, truncate or answer them.
    pub(super) kept: bool,
    pub(super) odd_pcm: bool,
    pub(super) bad_base64: bool,
    /// GA announces finished items of the assistant too.
    pub(super) announce_items: bool,
    /// Fields of the response object that come from the session and the request.
    pub(super) template: Value,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Response {
    id: String,
    outputs: Vec<Output>,
    steps: VecDeque<Step>,
    manner: Manner,
    current: usize,
    outcome: Outcome,
    /// When the next audio delta may leave; set by the first one.
    audio_due: Option<Instant>,
    first_audio: Option<Instant>,
    deltas: usize,
    over: bool,
}

impl Response {
    pub(super) fn new(
        id: String,
        outputs: Vec<Output>,
        steps: VecDeque<Step>,
        manner: Manner,
    ) -> Self {
        Self {
            id,
            outputs,
            steps,
            manner,
            current: 0,
            outcome: Outcome::Completed,
            audio_due: None,
            first_audio: None,
            deltas: 0,
            over: false,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Whether it belongs to the conversation.
    pub(super) fn kept(&self) -> bool {
        self.manner.kept
    }

    /// Whether `response.done` was taken: the client may ask for another one.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// The item whose audio was sent last, when its first piece left, and its bytes.
    pub(super) fn playing(&self) -> Option<(String, Instant, usize)> {
        let output = self.outputs.iter().rev().find(|output| output.sent > 0)?;
        Some((output.item_id.clone(), self.first_audio?, output.sent))
    }

    /// When the next step may be taken; `None` if that doesn't depend on time.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.steps.front()? {
            Step::Created => Some(self.manner.not_before),
            Step::Audio | Step::AudioRest => self.audio_due,
            _ => None,
        }
    }

    /// Ends the response early. `truncated_ms` announces a truncation behind it.
    pub(super) fn cancel(&mut self, outcome: Outcome, late: u8, truncated_ms: Option<usize>) {
        if self.over || self.outcome != Outcome::Completed {
            return;
        }
        self.outcome = outcome;
        let begun = !matches!(self.steps.front(), Some(Step::Created));
        self.steps.clear();
        if !begun {
            self.steps.push_back(Step::Created);
        }
        self.close_current(late);
        self.steps.push_back(Step::Done);
        if let Some(end_ms) = truncated_ms {
            self.steps.push_back(Step::Truncated(end_ms));
        }
    }

    fn close_current(&mut self, late: u8) {
        let Some(output) = self.outputs.get(self.current).filter(|output| output.open) else {
            return;
        };
        match &output.content {
            Content::Message { sound, .. } if output.part_open => {
                if sound.is_some() {
                    self.steps.extend((0..late).map(|_| Step::LateAudio));
                    self.steps.push_back(Step::AudioDone);
                }
                self.steps.extend([Step::TextDone, Step::PartDone]);
            }
            Content::Message { .. } => {}
            Content::Call { .. } => self.steps.push_back(Step::ArgumentsDone),
            Content::Approval { .. } => {}
        }
        self.steps.push_back(Step::ItemDone);
    }

    /// Takes the next step.
    pub(super) fn next(&mut self, conversation: &mut Conversation, now: Instant) -> Progress {
        if self.due().is_some_and(|due| due > now) {
            return Progress::Wait;
        }
        while let Some(step) = self.steps.pop_front() {
            if let Some(progress) = self.take(step, conversation, now) {
                return progress;
            }
            if self.due().is_some_and(|due| due > now) {
                return Progress::Wait;
            }
        }
        Progress::Finished
    }

    fn take(&mut self, step: Step, all: &mut Conversation, now: Instant) -> Option<Progress> {
        let sent = match step {
            Step::Created => self.created(),
            Step::ItemAdded => self.item_added(),
            Step::ItemCreated if !self.manner.kept => return None,
            Step::ItemCreated => self.item_created(all),
            Step::PartAdded => self.part_added(),
            Step::Words(words) => self.words(&words),
            Step::Audio => self.audio(all, now)?,
            Step::AudioRest => {
                let delta = self.audio(all, now)?;
                self.steps.push_front(Step::AudioRest);
                delta
            }
            Step::LateAudio => self.audio(all, now)?,
            Step::AudioDone => self.part_event("response.audio.done", json!({})),
            Step::TextDone => self.text_done(),
            Step::PartDone => self.part_done(),
            Step::Arguments(piece) => self.arguments_delta(piece),
            Step::ArgumentsDone => self.arguments_done(),
            Step::ItemDone => {
                let done = self.item_done(all);
                if self.manner.announce_items && self.manner.kept {
                    self.steps.push_front(Step::Announced(done));
                    self.announcement(all)
                } else {
                    done
                }
            }
            Step::Announced(done) => done,
            Step::Next => {
                self.current += 1;
                return None;
            }
            Step::Heard => return Some(Progress::Heard),
            Step::Cut(outcome) => {
                self.cancel(outcome, 0, None);
                return None;
            }
            Step::Done => {
                self.over = true;
                self.done()
            }
            Step::Truncated(end_ms) => self.truncated(all, end_ms)?,
            Step::Noise(noise) => return Some(make_noise(noise)),
        };
        Some(Progress::Send(sent))
    }

    fn output(&self) -> Option<&Output> {
        self.outputs.get(self.current)
    }

    fn item_id(&self) -> &str {
        self.output().map_or("", |output| output.item_id.as_str())
    }

    fn created(&self) -> Event {
        event("response.created", json!({ "response": self.object("in_progress", false) }))
    }

    fn item_added(&mut self) -> Event {
        if let Some(output) = self.outputs.get_mut(self.current) {
            output.open = true;
        }
        self.output_event("response.output_item.added", self.manner.habits.begun, false)
    }

    fn output_event(&self, kind: &'static str, status: &str, full: bool) -> Event {
        let item = self.output().map(|output| output.item(status, full));
        let fields = json!({ "response_id": self.id, "output_index": self.current, "item": item });
        event(kind, fields)
    }

    fn item_created(&self, all: &mut Conversation) -> Event {
        let item = self.output().map(|output| output.item(self.manner.habits.begun, false));
        let item = item.unwrap_or_default();
        // Ids are made here and are unique, so the conversation cannot refuse one.
        let before = all.insert(item.clone(), Position::Last).unwrap_or_default();
        event("conversation.item.created", json!({ "previous_item_id": before, "item": item }))
    }

    fn part_event(&self, kind: &'static str, more: Value) -> Event {
        let mut event = event(kind, more);
        event.fields.insert("response_id".to_owned(), self.id.clone().into());
        event.fields.insert("item_id".to_owned(), self.item_id().into());
        event.fields.insert("output_index".to_owned(), self.current.into());
        event.fields.insert("content_index".to_owned(), 0.into());
        event
    }

    fn has_sound(&self) -> bool {
        let content = self.output().map(|output| &output.content);
        matches!(content, Some(Content::Message { sound: Some(_), .. }))
    }

    fn part_added(&mut self) -> Event {
        if let Some(output) = self.outputs.get_mut(self.current) {
            output.part_open = true;
        }
        let part = match self.has_sound() {
            true => json!({ "type": "audio", "transcript": "" }),
            false => json!({ "type": "text", "text": "" }),
        };
        self.part_event("response.content_part.added", json!({ "part": part }))
    }

    fn words(&mut self, words: &str) -> Event {
        if let Some(output) = self.outputs.get_mut(self.current) {
            output.written.push_str(words);
        }
        let kind = match self.has_sound() {
            true => "response.audio_transcript.delta",
            false => "response.text.delta",
        };
        self.part_event(kind, json!({ "delta": words }))
    }

    /// The next piece of audio, or `None` at its end.
    fn audio(&mut self, all: &mut Conversation, now: Instant) -> Option<Event> {
        let sizes = self.manner.habits.delta_ms;
        let milliseconds = sizes[self.deltas % sizes.len()];
        let bytes = match (self.manner.odd_pcm, self.deltas % 2) {
            (false, _) => milliseconds * BYTES_PER_MS,
            (true, 0) => milliseconds * BYTES_PER_MS + 1,
            (true, _) => milliseconds * BYTES_PER_MS - 1,
        };
        self.deltas += 1;
        if self.manner.bad_base64 && self.deltas == 2 {
            return Some(
                self.part_event("response.audio.delta", json!({ "delta": "?not base64?" })),
            );
        }
        let output = self.outputs.get_mut(self.current)?;
        let Content::Message { sound: Some(sound), .. } = &output.content else {
            return None;
        };
        let pcm = sound.read(output.sent, bytes);
        if pcm.is_empty() {
            return None;
        }
        output.sent += pcm.len();
        all.audio_sent(&output.item_id, pcm.len());
        self.first_audio.get_or_insert(now);
        self.pace(milliseconds, now);
        Some(self.part_event("response.audio.delta", json!({ "delta": STANDARD.encode(pcm) })))
    }

    /// After a stall of the client the schedule is not shifted: the real service makes audio
    /// meanwhile, too.
    fn pace(&mut self, milliseconds: usize, now: Instant) {
        let length = Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0));
        let due = self.audio_due.unwrap_or(now);
        self.audio_due = Some(due + length / self.manner.speed.max(1));
    }

    fn text_done(&self) -> Event {
        let text = self.output().map_or("", |output| output.written.as_str());
        match self.has_sound() {
            true => {
                self.part_event("response.audio_transcript.done", json!({ "transcript": text }))
            }
            false => self.part_event("response.text.done", json!({ "text": text })),
        }
    }

    fn part_done(&self) -> Event {
        let text = self.output().map_or("", |output| output.written.as_str());
        let part = match self.has_sound() {
            true => json!({ "type": "audio", "transcript": text }),
            // The recordings have no text here.
            false => json!({ "type": "text", "text": "" }),
        };
        self.part_event("response.content_part.done", json!({ "part": part }))
    }

    fn arguments_delta(&mut self, piece: String) -> Event {
        if let Some(output) = self.outputs.get_mut(self.current) {
            output.written.push_str(&piece);
        }
        self.call_event("response.function_call_arguments.delta", json!({ "delta": piece }))
    }

    fn arguments_done(&self) -> Event {
        let text = self.output().map_or("", |output| output.written.as_str());
        let name = self.output().map_or("", Output::call_name);
        let fields = json!({ "arguments": text, "name": name });
        self.call_event("response.function_call_arguments.done", fields)
    }

    fn call_event(&self, kind: &'static str, more: Value) -> Event {
        let mut event = self.part_event(kind, more);
        event.fields.remove("content_index");
        let call_id = self.output().map_or("", Output::call_id);
        event.fields.insert("call_id".to_owned(), call_id.into());
        event
    }

    fn item_done(&mut self, all: &mut Conversation) -> Event {
        let status = self.outcome.item_status();
        if let Some(output) = self.outputs.get_mut(self.current) {
            output.open = false;
            output.part_open = false;
            output.status = status;
            all.update(&output.item_id, output.item(status, true));
        }
        self.output_event("response.output_item.done", status, true)
    }

    fn announcement(&self, all: &Conversation) -> Event {
        let (item, before) = (all.get(self.item_id()).cloned(), all.before(self.item_id()));
        let fields = json!({ "previous_item_id": before, "item": item });
        event("conversation.item.done", fields)
    }

    fn truncated(&self, all: &mut Conversation, end_ms: usize) -> Option<Event> {
        let (item_id, _, sent) = self.playing()?;
        let end_ms = i64::try_from(end_ms.min(sent / BYTES_PER_MS)).ok()?;
        all.cut(&item_id, end_ms).ok()?;
        Some(truncated(&item_id, end_ms))
    }

    fn done(&self) -> Event {
        event("response.done", json!({ "response": self.object(self.outcome.status(), true) }))
    }

    /// The response object: without output and usage at first, with both at the end.
    fn object(&self, status: &str, done: bool) -> Value {
        let mut object = self.manner.template.clone();
        object["object"] = "realtime.response".into();
        object["id"] = self.id.clone().into();
        object["status"] = status.into();
        object["status_details"] = if done { self.outcome.details() } else { Value::Null };
        let finished = self.outputs.iter().filter(|output| done && output.status != "in_progress");
        let items = finished.map(|output| output.item(output.status, true));
        object["output"] = items.collect::<Vec<_>>().into();
        object["usage"] = if done { self.usage() } else { Value::Null };
        object
    }

    /// Invented numbers in the recorded proportions: twenty audio tokens a second.
    fn usage(&self) -> Value {
        let text: usize = self.outputs.iter().map(|o| o.written.split_whitespace().count()).sum();
        let audio: usize = self.outputs.iter().map(|output| output.sent / BYTES_PER_MS / 50).sum();
        let input = json!({
            "cached_tokens": 0, "text_tokens": 10, "audio_tokens": 10, "image_tokens": 0,
            "cached_tokens_details": { "text_tokens": 0, "audio_tokens": 0, "image_tokens": 0 },
        });
        json!({
            "total_tokens": 20 + text + audio,
            "input_tokens": 20,
            "output_tokens": text + audio,
            "input_token_details": input,
            "output_token_details": {
                "text_tokens": text, "audio_tokens": audio, "reasoning_tokens": 0,
            },
        })
    }
}

/// The event that says that the history ends where the user stopped listening.
pub(super) fn truncated(item_id: &str, end_ms: i64) -> Event {
    let fields = json!({ "item_id": item_id, "content_index": 0, "audio_end_ms": end_ms });
    event("conversation.item.truncated", fields)
}

fn make_noise(noise: Noise) -> Progress {
    let send = |event| Progress::Send(event);
    match noise {
        Noise::Ping => Progress::Raw(Action::Ping),
        Noise::Garbage => Progress::Raw(Action::Send("{\"type\": \"response.audio.de".to_owned())),
        Noise::Unknown => send(event(
            "simulator.unheard_of",
            json!({ "nested": { "type": "response.done", "delta": "AAAA" }, "list": [[], {}] }),
        )),
        Noise::Big(bytes) => send(event("simulator.big", json!({ "padding": "x".repeat(bytes) }))),
        Noise::Error(kind) => {
            let message = "[simulator] An error made by script.";
            let fields = json!({ "type": kind, "code": null, "message": message, "param": null });
            send(event("error", json!({ "error": fields })))
        }
        Noise::End(action) => action.map_or(Progress::Stall, Progress::Raw),
    }
}
