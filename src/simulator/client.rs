//! What each client event does.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::conversation::{Position, normalise};
use super::defaults::complete;
use super::family::{Past, check_voice};
use super::ga;
use super::outcome::Outcome;
use super::pending::{Request, RequestKind, Unanswered};
use super::response::Response;
use super::script::{ModelRefusal, Moment};
use super::simulation::{Configuration, Simulation, WELCOME_DELAY, model_fault};
use super::turns::{MOST_WAITING, quoted};
use super::validate::{Fault, check_event};
use super::{Admission, Dialect};

/// The SDK's limit for one append: 15 MiB of audio.
const MOST_APPENDED: usize = 15 * 1024 * 1024;
/// An `event_id` comes back in errors; longer ones are cut.
const EVENT_ID_CHARS: usize = 512;

impl Simulation {
    /// Handles one message. A fault in it becomes an `error` event.
    pub(super) fn client_message(&mut self, text: &str, now: Instant) {
        let mut event = match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(event)) => event,
            Ok(_) => return self.refuse(&not_json("a client event is a JSON object"), None),
            Err(error) => return self.refuse(&not_json(&error.to_string()), None),
        };
        let cause: Option<String> = event
            .get("event_id")
            .and_then(Value::as_str)
            .map(|id| id.chars().take(EVENT_ID_CHARS).collect());
        let update = event.get("type").is_some_and(|kind| kind == "session.update");
        let result = match self.configuration {
            Configuration::Refused => Err(unconfigured()),
            _ => self.client_event(&mut event, now),
        };
        if let Err(fault) = result {
            // Echo cancellation is refused in calls that go on.
            let harmless = fault.code == Fault::NO_ECHO_CANCELLATION;
            if update && !harmless && self.configuration == Configuration::Untouched {
                self.configuration = Configuration::Refused;
            }
            self.refuse(&fault, cause.as_deref());
        }
    }

    fn client_event(&mut self, event: &mut Map<String, Value>, now: Instant) -> Result<(), Fault> {
        if self.dialect() == Dialect::Ga {
            ga::client_event(event, &self.admission.model)?;
        }
        match check_event(event)? {
            "session.update" => self.session_update(event, now),
            "input_audio_buffer.append" => self.append(event, now),
            "input_audio_buffer.commit" => self.commit(),
            "input_audio_buffer.clear" => {
                self.input.clear();
                self.speech_item = None;
                self.send("input_audio_buffer.cleared", json!({}));
                Ok(())
            }
            "conversation.item.create" => self.item_create(event),
            "conversation.item.retrieve" => self.item_retrieve(text(event, "item_id")),
            "conversation.item.truncate" => self.item_truncate(event),
            "conversation.item.delete" => self.item_delete(text(event, "item_id")),
            "response.create" => self.response_create(event, now),
            "response.cancel" => self.response_cancel(event, now),
            "output_audio_buffer.clear" => {
                let response_id = self.last_response.clone();
                self.send("output_audio_buffer.cleared", json!({ "response_id": response_id }));
                Ok(())
            }
            other => Err(Fault::value("type", format!("The simulator has no '{other}'."))),
        }
    }

    fn session_update(&mut self, event: &Map<String, Value>, now: Instant) -> Result<(), Fault> {
        let first = self.configuration != Configuration::Accepted;
        if first && self.end_at(Moment::Update) {
            return Ok(());
        }
        if self.options.script.refuse_session {
            return Err(Fault::value("session", "Refused by script."));
        }
        if self.refuses_model(ModelRefusal::Update) {
            return Err(model_fault(&self.admission.model));
        }
        self.refused_by_script(&event["session"])?;
        if let Some(patch) = event.get("session").and_then(Value::as_object) {
            let past = past(&self.admission, self.spoken);
            self.session.update(patch, &past)?;
        }
        self.input.configure(&self.session.settings);
        let session = self.session.value();
        self.send("session.updated", json!({ "session": session }));
        self.configuration = Configuration::Accepted;
        if first && self.options.welcome && !self.options.script.no_welcome && self.responses == 0 {
            self.welcome_at = Some(now + WELCOME_DELAY);
        }
        Ok(())
    }

    /// A transcriber or language that the script does not let pass.
    fn refused_by_script(&self, session: &Value) -> Result<(), Fault> {
        let script = &self.options.script;
        let transcription = &session["input_audio_transcription"];
        let name = transcription["model"].as_str();
        if name.is_some_and(|name| script.refused_transcribers.iter().any(|it| it == name)) {
            let message = "The transcription model is not supported by this session.";
            return Err(Fault::new("invalid_input_audio_transcription_model", message));
        }
        if script.refuse_language && transcription["language"].is_string() {
            let param = "session.input_audio_transcription.language";
            return Err(Fault::value(param, "The language is not supported."));
        }
        Ok(())
    }

    fn append(&mut self, event: &Map<String, Value>, now: Instant) -> Result<(), Fault> {
        let audio = text(event, "audio");
        let expected = "Invalid 'audio'. Expected base64-encoded audio bytes (mono PCM16)";
        let pcm = STANDARD
            .decode(audio)
            .map_err(|_| Fault::value("audio", format!("{expected} but got an invalid value.")))?;
        if pcm.len() > MOST_APPENDED {
            return Err(Fault::value("audio", "More than 15 MiB of audio in one event."));
        }
        let frame = self.input.frame_bytes();
        if pcm.len() % frame != 0 {
            let got = format!("{expected}: {} bytes are no multiple of {frame}.", pcm.len());
            return Err(Fault::value("audio", got));
        }
        for heard in self.input.append(&pcm) {
            self.heard(heard, now);
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Fault> {
        let held = self.input.held_ms();
        let Some(turn) = self.input.commit() else {
            let message = format!(
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of \
                 audio, but buffer only has {held}ms of audio."
            );
            return Err(Fault::new("input_audio_buffer_commit_empty", message));
        };
        let item_id = match self.speech_item.take() {
            Some(item_id) => item_id,
            None => self.new_id("item"),
        };
        self.commit_turn(item_id, turn, false, false);
        Ok(())
    }

    fn item_create(&mut self, event: &Map<String, Value>) -> Result<(), Fault> {
        let item = event.get("item").filter(|item| !item.is_null());
        let item = item.ok_or_else(|| Fault::missing("item"))?;
        let place = match event.get("previous_item_id").and_then(Value::as_str) {
            None => Position::Last,
            Some("root") => Position::First,
            Some(previous) => Position::After(previous),
        };
        match item["type"].as_str() {
            Some("function_call_output") => {
                self.conversation.check_call(item["call_id"].as_str().unwrap_or_default())?;
            }
            Some("mcp_approval_response") => {
                self.conversation
                    .check_approval(item["approval_request_id"].as_str().unwrap_or_default())?;
            }
            _ => {}
        }
        check_parts(item, self.dialect())?;
        check_lengths(item)?;
        let id = match item["id"].as_str() {
            Some(id) => id.to_owned(),
            None => self.new_id("item"),
        };
        let item = normalise(item, id);
        let before = match (place, &item["role"]) {
            (Position::Last, role) if role == "user" => Some(self.before_user_item()),
            _ => None,
        };
        let inserted = self.conversation.insert(item.clone(), place)?;
        let before = before.unwrap_or(inserted);
        self.note(&item);
        self.announce(item, before, false);
        Ok(())
    }

    /// Remembers which part of the client's item needs an answer. Words of the assistant, and a function
    /// call, are the answer to what stands before them: so a client tells what happened in another
    /// session.
    fn note(&mut self, item: &Value) {
        if item["role"] == "assistant" || item["type"] == "function_call" {
            self.unanswered = Unanswered::default();
        } else if item["type"] == "function_call_output" {
            let output = quoted(item["output"].as_str().unwrap_or_default());
            self.unanswered.outputs.push(output);
        } else if item["type"] == "mcp_approval_response" {
            self.on_approval(item);
        } else if let Some(text) = user_text(item) {
            self.welcome_at = None;
            self.unanswered.text = Some(quoted(&text));
        }
    }

    /// What is approved is done at once; the client asks for the response that tells of it.
    fn on_approval(&mut self, item: &Value) {
        if item["approve"] != true {
            let output = r#"{"error":"The user has not allowed it."}"#;
            return self.unanswered.outputs.push(output.to_owned());
        }
        let request = item["approval_request_id"].as_str().unwrap_or_default();
        let request = self.conversation.get(request).cloned().unwrap_or_default();
        let output = r#"{"result":"what the simulated server would find"}"#;
        self.unanswered.outputs.push(output.to_owned());
        let id = self.new_id("mcp");
        let call = json!({
            "id": id, "type": "mcp_call", "approval_request_id": request["id"],
            "server_label": request["server_label"], "name": request["name"],
            "arguments": request["arguments"], "output": output,
        });
        let place = json!({ "item_id": id, "output_index": 0 });
        self.send("response.mcp_call.in_progress", place.clone());
        self.send("response.mcp_call.completed", place);
        self.send("response.output_item.done", json!({ "output_index": 0, "item": call }));
    }

    fn item_retrieve(&mut self, id: &str) -> Result<(), Fault> {
        let item = self.conversation.get(id).cloned();
        let item = item.ok_or_else(|| not_found("item_id", id))?;
        self.send("conversation.item.retrieved", json!({ "item": item }));
        Ok(())
    }

    fn item_truncate(&mut self, event: &Map<String, Value>) -> Result<(), Fault> {
        let number = |key: &str| event.get(key).and_then(Value::as_i64).unwrap_or(i64::MAX);
        let item_id = text(event, "item_id");
        let (part, end_ms) = (number("content_index"), number("audio_end_ms"));
        self.conversation.truncate(item_id, part, end_ms)?;
        self.send_event(super::response::truncated(item_id, end_ms));
        Ok(())
    }

    fn item_delete(&mut self, id: &str) -> Result<(), Fault> {
        self.conversation.delete(id)?;
        self.send("conversation.item.deleted", json!({ "item_id": id }));
        Ok(())
    }

    fn response_create(&mut self, event: &Map<String, Value>, now: Instant) -> Result<(), Fault> {
        let params = event.get("response").cloned().unwrap_or_default();
        self.check_response_voice(&params["voice"])?;
        if !matches!(params["conversation"].as_str(), None | Some("auto" | "none")) {
            let message = "Supported values are: 'auto' and 'none'.";
            return Err(Fault::value("response.conversation", message));
        }
        let kept = params["commit"] != false && params["conversation"] != "none";
        let fixed = params.get("pre_generated_assistant_message").filter(|it| !it.is_null());
        let given = params["input_items"].as_array();
        let kind = match (fixed, given) {
            (Some(message), _) => RequestKind::Fixed(fixed_text(message)?),
            (None, Some(items)) => {
                let mut given = Unanswered::default();
                self.add_items(&mut given, items)?;
                RequestKind::Given(given)
            }
            (None, None) if !kept => RequestKind::Given(self.unanswered.clone()),
            (None, None) => RequestKind::Answer,
        };
        let more = params["append_input_items"].as_array().map_or(&[][..], Vec::as_slice);
        let mut added = Unanswered::default();
        self.add_items(&mut added, more)?;
        if kept {
            self.make_way(now)?;
        } else if self.waiting.len() >= MOST_WAITING {
            return Err(busy("Too many responses outside of the conversation wait."));
        }
        let kind = match kind {
            RequestKind::Given(mut given) => {
                given.add(added);
                RequestKind::Given(given)
            }
            other => {
                self.unanswered.add(added);
                other
            }
        };
        self.welcome_at = None;
        self.request(Request { params, kind, kept }, now);
        Ok(())
    }

    /// A response of the conversation must not meet another one. Responses outside of it, which the
    /// service makes side by side, wait their turn here.
    fn make_way(&mut self, now: Instant) -> Result<(), Fault> {
        let Some(response) = self.response.as_ref().filter(|response| response.kept()) else {
            return Ok(());
        };
        if !self.options.script.cancel_previous {
            return Err(busy(&format!(
                "Conversation already has an active response in progress: {}. Wait until the \
                 response is finished before creating a new one.",
                response.id()
            )));
        }
        self.waiting.retain(|request| !request.kept);
        self.cancel_response(Outcome::ClientCancelled, 0, now);
        Ok(())
    }

    /// The voice of a single response obeys the rules of the session's.
    fn check_response_voice(&self, voice: &Value) -> Result<(), Fault> {
        if voice.is_null() {
            return Ok(());
        }
        let past = past(&self.admission, self.spoken);
        let voice = complete("voice", voice);
        check_voice(&voice, "response.voice", &past)?;
        if self.spoken && voice != self.session.field("voice") {
            let message = "Cannot update a conversation's voice if assistant audio is present.";
            return Err(Fault::new("cannot_update_voice", message));
        }
        Ok(())
    }

    /// What items that are given with a response ask for. A reference stands for an item of the
    /// conversation.
    fn add_items(&self, context: &mut Unanswered, items: &[Value]) -> Result<(), Fault> {
        for item in items {
            let item = match item["type"].as_str() {
                Some("item_reference") => {
                    let id = item["id"].as_str().unwrap_or_default();
                    let found = self.conversation.get(id);
                    found.ok_or_else(|| not_found("response.input", id))?
                }
                _ => {
                    check_parts(item, self.dialect())?;
                    item
                }
            };
            if item["type"] == "function_call_output" {
                context.outputs.push(quoted(item["output"].as_str().unwrap_or_default()));
            } else if let Some(text) = user_text(item) {
                context.text = Some(quoted(&text));
            }
        }
        Ok(())
    }

    fn response_cancel(&mut self, event: &Map<String, Value>, now: Instant) -> Result<(), Fault> {
        let named = event.get("response_id").and_then(Value::as_str);
        let active = self.response.as_ref().map(Response::id);
        if active.is_none() || named.is_some_and(|named| Some(named) != active) {
            let message = "Cancellation failed: no active response found";
            return Err(Fault::new("response_cancel_not_active", message));
        }
        self.cancel_response(Outcome::ClientCancelled, self.options.script.late_deltas, now);
        Ok(())
    }
}

fn past(admission: &Admission, spoken: bool) -> Past<'_> {
    Past { model: &admission.model, agent: admission.agent, spoken }
}

fn not_found(param: &str, id: &str) -> Fault {
    Fault::value(param, format!("Item '{id}' not found."))
}

fn busy(message: &str) -> Fault {
    Fault::new("conversation_already_has_active_response", message)
}

/// What the service says to everything that follows a refused configuration, as far as known: that
/// it refuses it, and not in which words.
fn unconfigured() -> Fault {
    let message = "The session was not configured: its first session.update was refused.";
    Fault::new(Fault::UNCODED, message)
}

fn not_json(message: &str) -> Fault {
    Fault::new("invalid_json", format!("The message could not be read: {message}."))
}

/// A required string: its presence and type were checked before.
fn text<'a>(event: &'a Map<String, Value>, key: &str) -> &'a str {
    event.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The service refuses longer ids of items and calls.
const ID_CHARS: usize = 32;

/// Checks the ids that the client has chosen.
fn check_lengths(item: &Value) -> Result<(), Fault> {
    for key in ["id", "call_id"] {
        let length = item[key].as_str().map_or(0, |id| id.chars().count());
        if length > ID_CHARS {
            return Err(Fault::too_long(&format!("item.{key}"), ID_CHARS, length));
        }
    }
    Ok(())
}

/// Checks that the role may hold these parts, and that audio can be decoded. Words of the assistant are
/// `output_text`; the dated dialect takes `text` too.
fn check_parts(item: &Value, dialect: Dialect) -> Result<(), Fault> {
    for (index, part) in item["content"].as_array().into_iter().flatten().enumerate() {
        let kind = part["type"].as_str().unwrap_or_default();
        let fits = match item["role"].as_str() {
            Some("user") => kind.starts_with("input_"),
            Some("system") => kind == "input_text",
            _ => kind == "output_text" || (kind == "text" && dialect == Dialect::Dated),
        };
        if !fits {
            let message = format!("A part of type '{kind}' does not fit the role.");
            return Err(Fault::value(&format!("item.content[{index}].type"), message));
        }
        let audio = part["audio"].as_str().unwrap_or_default();
        if STANDARD.decode(audio).map_or(true, |pcm| pcm.len() % 2 != 0) {
            let message = "Expected base64-encoded audio bytes (mono PCM16).";
            return Err(Fault::value(&format!("item.content[{index}].audio"), message));
        }
    }
    Ok(())
}

/// The words of a typed turn.
fn user_text(item: &Value) -> Option<String> {
    if item["role"] != "user" {
        return None;
    }
    let parts = item["content"].as_array()?.iter();
    let words: Vec<&str> = parts.filter_map(|part| part["text"].as_str()).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn fixed_text(message: &Value) -> Result<String, Fault> {
    match message["content"].as_array().map(Vec::as_slice) {
        Some([part]) if part["type"] == "text" => {
            Ok(part["text"].as_str().unwrap_or_default().to_owned())
        }
        _ => {
            let path = "response.pre_generated_assistant_message.content";
            Err(Fault::value(path, "Expected exactly one part of type 'text'."))
        }
    }
}
