//! Whole conversations with a virtual clock. [`Client`] is a well-behaved WebSocket client: it reads
//! whatever is due after each thing it does.

mod chaos;
mod contexts;
mod errors;
mod families;
mod ga;
mod outages;
mod random;
mod replies;
mod turns;

use std::rc::Rc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Action, Admission, Dialect, Options, Script, Simulation};

struct Client {
    simulation: Simulation,
    now: Instant,
    /// Everything received and not yet looked at.
    events: Vec<Value>,
    others: Vec<Action>,
}

impl Client {
    fn with(options: Options, dialect: Dialect) -> Self {
        Self::of_model("gpt-realtime", options, dialect)
    }

    fn of_model(model: &str, options: Options, dialect: Dialect) -> Self {
        let admission = Admission { dialect, model: model.to_owned(), agent: model.is_empty() };
        let now = Instant::now();
        let simulation = Simulation::new(Rc::new(options), admission, 7, now, 1_795_400_000);
        let mut client = Self { simulation, now, events: Vec::new(), others: Vec::new() };
        client.read();
        client
    }

    fn scripted(words: &[&str]) -> Self {
        let script = Script::parse(words).unwrap();
        Self::with(Options { script, welcome: false, ..Options::default() }, Dialect::Dated)
    }

    /// A configured session without a welcome.
    fn configured(words: &[&str], session: Value) -> Self {
        let mut client = Self::scripted(words);
        client.send(json!({"type": "session.update", "event_id": "cfg", "session": session}));
        client.events.clear();
        client
    }

    fn send(&mut self, event: Value) {
        self.send_text(&event.to_string());
    }

    fn send_text(&mut self, text: &str) {
        self.simulation.handle_text(text, self.now);
        self.read();
    }

    fn read(&mut self) {
        while let Some(action) = self.simulation.poll(self.now) {
            match &action {
                Action::Send(text) => match serde_json::from_str(text) {
                    Ok(event) => self.events.push(event),
                    Err(_) => self.others.push(action),
                },
                Action::SendBinary(data) => {
                    self.events.extend(serde_json::from_slice::<Value>(data));
                    self.others.push(action);
                }
                _ => self.others.push(action),
            }
        }
        assert!(!self.simulation.congested());
    }

    fn wait(&mut self, milliseconds: u64) {
        let end = self.now + Duration::from_millis(milliseconds);
        while let Some(due) = self.simulation.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.read();
        }
        self.now = end;
        self.read();
    }

    fn append(&mut self, pcm: &[u8]) {
        self.send(json!({"type": "input_audio_buffer.append", "audio": STANDARD.encode(pcm)}));
    }

    /// Speaks in real time, in 20 ms chunks.
    fn speak(&mut self, pcm: &[u8]) {
        for chunk in pcm.chunks(960) {
            self.append(chunk);
            self.wait(20);
        }
    }

    fn say(&mut self, text: &str) {
        let content = json!([{"type": "input_text", "text": text}]);
        let item = json!({"type": "message", "role": "user", "content": content});
        self.send(json!({"type": "conversation.item.create", "item": item}));
        self.send(json!({"type": "response.create"}));
    }

    fn take(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.events)
    }
}

fn speech(name: &str) -> Vec<u8> {
    let path = format!("{}/../../tests/audio/{name}.wav", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap()[44..].to_vec()
}

fn two_tools() -> Value {
    let tool = |name: &str, property: &str| {
        let properties = json!({property: {"type": "string"}});
        let parameters =
            json!({"type": "object", "properties": properties, "required": [property]});
        json!({"type": "function", "name": name, "description": "", "parameters": parameters})
    };
    json!([tool("get_weather", "city"), tool("get_stock_price", "symbol")])
}

/// What the daemon sends, roughly.
fn usual_session() -> Value {
    json!({
        "modalities": ["text", "audio"],
        "turn_detection": {"type": "azure_semantic_vad", "auto_truncate": true},
        "input_audio_transcription": {"model": "whisper-1", "language": "en"},
        "tools": two_tools(),
    })
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    kinds.dedup();
    kinds
}

fn find<'a>(events: &'a [Value], kind: &str) -> &'a Value {
    let found = events.iter().find(|event| event["type"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {:?}", kinds(events)))
}

fn all<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

fn audio(events: &[Value]) -> Vec<u8> {
    let deltas = all(events, "response.audio.delta");
    deltas.iter().flat_map(|d| STANDARD.decode(d["delta"].as_str().unwrap()).unwrap()).collect()
}

fn transcript(events: &[Value]) -> String {
    find(events, "response.audio_transcript.done")["transcript"].as_str().unwrap().to_owned()
}

fn error_code(events: &[Value]) -> &str {
    find(events, "error")["error"]["code"].as_str().unwrap()
}
