//! From speech and typed words to responses: which turns have no answer yet, and what the answer
//! will be.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Dialect;
use super::conversation::Position;
use super::family::is_text_only;
use super::input::{Heard, Turn};
use super::outcome::Outcome;
use super::pending::{Request, RequestKind, Transcription, Unanswered};
use super::plan::{self, Content, Output};
use super::response::{Manner, Response, truncated};
use super::script::{ReplyFault, TranscriptTiming};
use super::simulation::Simulation;
use super::sound::{BYTES_PER_MS, Sound};
use super::tools::{self, Call};

/// Responses with a context of their own that wait, at most.
pub(super) const MOST_WAITING: usize = 8;

/// Turns of the user that are repeated when the user asks for them.
const MOST_REPEATED: usize = 8;

/// A transcript repeats no more characters than this of what a client or tool wrote.
const QUOTED_CHARS: usize = 2000;

impl Simulation {
    /// Reacts to what the detector heard.
    pub(super) fn heard(&mut self, heard: Heard, now: Instant) {
        match heard {
            Heard::Started { audio_start_ms } => self.speech_started(audio_start_ms, now),
            Heard::Stopped { audio_end_ms, turn } => self.speech_stopped(audio_end_ms, turn, now),
        }
    }

    fn speech_started(&mut self, audio_start_ms: u64, now: Instant) {
        self.welcome_at = None;
        let item_id = self.new_id("item");
        self.speech_item = Some(item_id.clone());
        let fields = json!({ "audio_start_ms": audio_start_ms, "item_id": item_id });
        self.send("input_audio_buffer.speech_started", fields);
        let Some(vad) = self.session.settings.vad.clone() else {
            return;
        };
        // Speech interrupts what belongs to the conversation only.
        let interruptible = self.response.as_ref().map(Response::kept);
        if interruptible == Some(true) {
            if vad.interrupt_response {
                self.waiting.retain(|request| !request.kept);
                self.cancel_response(Outcome::TurnDetected, self.options.script.late_deltas, now);
            }
        } else if interruptible.is_none() && vad.auto_truncate {
            self.truncate_playing(now);
        }
    }

    /// The reply was complete, and the user interrupts its playback.
    fn truncate_playing(&mut self, now: Instant) {
        let Some(playing) = self.playing.take() else {
            return;
        };
        let heard = playing.heard_ms(now);
        if heard >= playing.bytes / BYTES_PER_MS {
            return;
        }
        let end_ms = i64::try_from(heard).unwrap_or(0);
        if self.conversation.cut(&playing.item_id, end_ms).is_ok() {
            self.send_event(truncated(&playing.item_id, end_ms));
        }
    }

    fn speech_stopped(&mut self, audio_end_ms: u64, turn: Turn, now: Instant) {
        let item_id = match self.speech_item.take() {
            Some(item_id) => item_id,
            None => self.new_id("item"),
        };
        let fields = json!({ "audio_end_ms": audio_end_ms, "item_id": item_id });
        self.send("input_audio_buffer.speech_stopped", fields);
        let answer = self.session.settings.vad.as_ref().is_some_and(|vad| vad.create_response);
        self.commit_turn(item_id, turn, true, answer);
        if answer {
            self.request(Request::plain(RequestKind::Answer), now);
        }
    }

    /// Makes the user's audio an item. `detected` turns are announced as done too, as recorded.
    pub(super) fn commit_turn(
        &mut self,
        item_id: String,
        turn: Turn,
        detected: bool,
        answered: bool,
    ) {
        let before = self.before_user_item();
        let fields = json!({ "item_id": item_id, "previous_item_id": before });
        self.send("input_audio_buffer.committed", fields);
        // The transcription of an earlier turn, whose reply never came, is due by now.
        self.send_transcription();
        let milliseconds = turn.milliseconds;
        self.turns += 1;
        let cough = self.options.script.cough_ms.is_some_and(|most| milliseconds <= most.into());
        if !cough {
            self.unanswered.turn = Some(turn);
        }
        // A recogniser writes for the text model behind it, asked or not.
        if self.session.settings.transcription || self.habits.transcript_first {
            let text = match cough {
                true => String::new(),
                false => format!("[simulator] ({} of speech)", seconds(milliseconds)),
            };
            let item_id = item_id.clone();
            self.transcription = Some(Transcription { item_id, text, milliseconds });
        }
        let timing = self.options.script.transcript;
        let words = match &self.transcription {
            Some(words) if self.habits.transcript_first && timing != TranscriptTiming::Failed => {
                Value::from(words.text.as_str())
            }
            _ => Value::Null,
        };
        if self.habits.transcript_first && timing != TranscriptTiming::Late {
            self.send_transcription();
        }
        let item = json!({
            "id": item_id, "object": "realtime.item", "type": "message", "status": "completed",
            "role": "user", "content": [{ "type": "input_audio", "transcript": words }],
        });
        // The id is new, so the item can't be refused.
        let _ = self.conversation.insert(item.clone(), Position::Last);
        self.announce(item, before, detected && self.habits.announces_turns);
        let reply = self.options.script.reply != ReplyFault::Missing;
        if !(answered && reply) || timing == TranscriptTiming::Early {
            self.send_transcription();
        }
    }

    /// What an item of the user will name as the one before it, when it is added at the end.
    pub(super) fn before_user_item(&self) -> Value {
        match self.habits.counts_users_only {
            true => self.conversation.last_user_id().into(),
            false => self.conversation.last_id().into(),
        }
    }

    pub(super) fn announce(&mut self, item: Value, before: Value, done: bool) {
        let fields = json!({ "previous_item_id": before, "item": item });
        self.send("conversation.item.created", fields.clone());
        if done || self.dialect() == Dialect::Ga {
            self.send("conversation.item.done", fields);
        }
    }

    /// Sends the user's words, once.
    pub(super) fn send_transcription(&mut self) {
        let Some(Transcription { item_id, text, milliseconds }) = self.transcription.take() else {
            return;
        };
        let mut fields = json!({ "item_id": item_id, "content_index": 0 });
        if self.options.script.transcript == TranscriptTiming::Failed {
            let message = "[simulator] Failed by script.";
            fields["error"] =
                json!({ "type": "server_error", "code": "DeploymentNotFound", "message": message });
            self.send("conversation.item.input_audio_transcription.failed", fields);
            return;
        }
        // A recogniser was seen to tell a turn as a whole, a transcriber in pieces.
        if !self.habits.transcript_first {
            let mut delta = fields.clone();
            delta["delta"] = text.clone().into();
            self.send("conversation.item.input_audio_transcription.delta", delta);
        }
        self.conversation.heard(&item_id, &text);
        fields["transcript"] = text.into();
        if self.options.script.transcript == TranscriptTiming::Twice {
            self.repeated = Some(item_id);
        }
        if self.dialect() == Dialect::Ga {
            fields["usage"] = self.transcription_usage(milliseconds);
        }
        self.send("conversation.item.input_audio_transcription.completed", fields);
    }

    /// Sends a transcription again that was sent before, without words.
    pub(super) fn repeat_transcription(&mut self) {
        if let Some(item_id) = self.repeated.take() {
            let fields = json!({ "item_id": item_id, "content_index": 0, "transcript": "" });
            self.send("conversation.item.input_audio_transcription.completed", fields);
        }
    }

    /// What a transcription is said to have cost, in the unit of its transcriber; ten tokens a second.
    fn transcription_usage(&self, milliseconds: u64) -> Value {
        let by = self.session.field("input_audio_transcription");
        if by["model"].as_str().is_some_and(|name| name.starts_with("gpt-")) {
            let heard = milliseconds / 100;
            let details = json!({ "text_tokens": 0, "audio_tokens": heard });
            return json!({
                "type": "tokens", "total_tokens": heard + 6, "input_tokens": heard,
                "input_token_details": details, "output_tokens": 6,
            });
        }
        json!({ "type": "duration", "seconds": milliseconds.div_ceil(1000) })
    }

    /// Speaks first.
    pub(super) fn welcome(&mut self, now: Instant) {
        self.welcome_at = None;
        self.request(Request::plain(RequestKind::Welcome), now);
    }

    /// Begins a response. If one is running, the new one waits: of each kind that answers all that is
    /// unanswered one at most, and of those with a context of their own [`MOST_WAITING`].
    pub(super) fn request(&mut self, request: Request, now: Instant) {
        if self.options.script.reply == ReplyFault::Missing {
            self.unanswered = Unanswered::default();
            return;
        }
        if self.response.is_none() {
            self.begin(request, now);
        } else if !self.waiting.iter().any(|other| other.same(&request)) {
            self.waiting.push_back(request);
        }
    }

    pub(super) fn begin(&mut self, request: Request, now: Instant) {
        let (kept, params) = (request.kept, request.params.clone());
        let contents = self.contents(request);
        let outputs: Vec<Output> =
            contents.into_iter().map(|content| Output::new(self.new_id("item"), content)).collect();
        let spoken =
            |output: &Output| matches!(output.content, Content::Message { sound: Some(_), .. });
        self.spoken |= outputs.iter().any(spoken);
        self.responses += 1;
        self.playing = None;
        let script = &self.options.script;
        let manner = Manner {
            not_before: now + Duration::from_millis(script.latency_ms.into()),
            speed: script.speed.unwrap_or(self.habits.speed),
            habits: self.habits,
            kept,
            odd_pcm: script.odd_pcm,
            bad_base64: script.bad_base64,
            announce_items: self.dialect() == Dialect::Ga,
            template: self.template(&params, kept),
        };
        let steps = plan::steps(&outputs, script, self.may_end());
        let id = self.new_id("resp");
        self.last_response = Some(id.clone());
        self.response = Some(Response::new(id, outputs, steps, manner));
    }

    fn template(&self, params: &Value, kept: bool) -> Value {
        let modalities = match self.text_only(params) {
            true => json!(["text"]),
            false => json!(["audio", "text"]),
        };
        json!({
            "conversation_id": kept.then_some(self.habits.conversation_id),
            "modalities": modalities,
            "voice": self.session.field("voice"),
            "output_audio_format": "pcm16",
            "temperature": self.session.field("temperature"),
            "max_output_tokens": self.session.field("max_response_output_tokens"),
            "metadata": params["metadata"],
        })
    }

    fn text_only(&self, params: &Value) -> bool {
        match params["modalities"].as_array() {
            Some(modalities) => is_text_only(modalities),
            None => self.session.settings.text_only,
        }
    }

    fn contents(&mut self, request: Request) -> Vec<Content> {
        let silent = self.text_only(&request.params);
        let (words, sound) = match request.kind {
            RequestKind::Welcome => (WELCOME_TEXT.to_owned(), Sound::Welcome),
            RequestKind::Fixed(text) => (quoted(&text), Sound::Welcome),
            RequestKind::Answer => {
                let mut open = std::mem::take(&mut self.unanswered);
                let calls = self.calls(&mut open, &request.params);
                if !calls.is_empty() {
                    self.unanswered = open;
                    return self.call_contents(calls, silent);
                }
                self.answer(open, &request.params)
            }
            RequestKind::Given(mut given) => {
                let calls = self.calls(&mut given, &request.params);
                if !calls.is_empty() {
                    return self.call_contents(calls, silent);
                }
                self.answer(given, &request.params)
            }
        };
        let welcome = matches!(sound, Sound::Welcome);
        let sound = match self.options.script.reply_seconds {
            Some(seconds) if !welcome => Sound::pattern(seconds),
            _ => sound,
        };
        vec![message(&words, sound, silent)]
    }

    /// The function calls that an open turn asks for, which are its answer.
    fn calls(&self, open: &mut Unanswered, params: &Value) -> Vec<Call> {
        let settings = self.session.settings.with(params);
        let calls = match (&open.turn, &open.text) {
            (Some(_), _) => tools::for_speech(&settings, self.turns, self.options.script.tools),
            (None, Some(text)) => tools::for_text(&settings, text),
            (None, None) => Vec::new(),
        };
        if !calls.is_empty() {
            open.turn = None;
            open.text = None;
        }
        calls
    }

    fn call_contents(&mut self, calls: Vec<Call>, silent: bool) -> Vec<Content> {
        let mut contents = Vec::new();
        if self.options.script.say_first {
            contents.push(message("One moment, I ask a tool.", Sound::chime(), silent));
        }
        for call in calls {
            let arguments = match self.options.script.bad_arguments {
                true => call.arguments.trim_end().trim_end_matches('}').to_owned(),
                false => call.arguments,
            };
            if let Some(server) = call.server {
                contents.push(Content::Approval { server, name: call.name, arguments });
                continue;
            }
            let call_id = self.new_id("call");
            contents.push(Content::Call { name: call.name, call_id, arguments });
        }
        contents
    }

    /// The user's words in this conversation before the last ones, which ask for them.
    fn what_was_said(&self) -> String {
        let mut said: Vec<String> = self.conversation.user_words().collect();
        said.pop();
        if said.is_empty() {
            return "You have said nothing before.".to_owned();
        }
        let more = said.len().saturating_sub(MOST_REPEATED);
        let told: Vec<String> = said[more..].iter().map(|words| format!("\"{words}\"")).collect();
        let earlier = if more > 0 { format!("{more} things, and then: ") } else { String::new() };
        quoted(&format!("So far you have said: {earlier}{}.", told.join(", ")))
    }

    /// Words and sound for all that is open. If nothing is, the end of what the client has told the model for this
    /// response stands for the sense that a model would make of it.
    fn answer(&self, open: Unanswered, params: &Value) -> (String, Sound) {
        let Unanswered { turn, text, outputs } = open;
        let mut words = Vec::new();
        let mut sound = None;
        if let Some(turn) = turn {
            let seconds = seconds(turn.milliseconds);
            words.push(format!("You said that for {seconds}; here it is again."));
            sound = Some(Sound::turn(&turn));
        }
        match text {
            Some(text) if asks_what_was_said(&text) => words.push(self.what_was_said()),
            Some(text) => words.push(format!("You wrote: {text}")),
            None => {}
        }
        words.extend(outputs.iter().map(|output| tools::told(output)));
        if words.is_empty() && self.responses == 0 {
            return (WELCOME_TEXT.to_owned(), Sound::Welcome);
        }
        let told = params["instructions"].as_str().and_then(|told| told.rsplit("\n\n").next());
        if let Some(told) = told.filter(|_| words.is_empty()) {
            words.push(quoted(&format!("I am to say this: {told}")));
        }
        if words.is_empty() {
            words.push("There is nothing new to answer.".to_owned());
        }
        (words.join(" "), sound.unwrap_or_else(Sound::chime))
    }
}

/// Whether a typed turn asks for the user's words so far. So a person can try whether a conversation
/// has outlived a connection.
fn asks_what_was_said(text: &str) -> bool {
    let text = text.to_lowercase();
    text.contains("what have i said") || text.contains("what did i say")
}

const WELCOME_TEXT: &str =
    "This is the simulator, not the real model. Speak, and I will play it back.";

fn message(words: &str, sound: Sound, silent: bool) -> Content {
    let sound = if silent { None } else { Some(sound) };
    Content::Message { transcript: format!("[simulator] {words}"), sound }
}

/// As much of a text as transcripts repeat.
pub(super) fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_CHARS).collect()
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{} seconds", milliseconds / 1000, milliseconds % 1000 / 100)
}
