//! The session object: how `session.update` is merged, what it may not hold whatever the model is,
//! and the settings the simulation acts on.

use serde_json::{Map, Value};

use super::defaults::{MODEL, PCM16, complete, untouched};
use super::family::{self, Past, is_text_only};
use super::validate::Fault;

/// Voice activity detection as configured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct VadSettings {
    /// 0 to 1; higher means that speech must be louder.
    pub(super) threshold: f64,
    pub(super) prefix_padding_ms: u64,
    pub(super) silence_duration_ms: u64,
    pub(super) speech_duration_ms: u64,
    pub(super) create_response: bool,
    pub(super) interrupt_response: bool,
    pub(super) auto_truncate: bool,
}

/// A function the model may call.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) parameters: Value,
}

/// Whether a reply to the user must, may or must not be a function call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ToolChoice {
    Auto,
    None,
    Required,
    Named(String),
}

/// The settings that the simulation takes from the session object.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) vad: Option<VadSettings>,
    /// Samples per second of the appended audio.
    pub(super) input_rate: u32,
    /// 2 when the loudspeaker's signal travels beside the microphone's.
    pub(super) input_channels: u8,
    pub(super) transcription: bool,
    pub(super) text_only: bool,
    pub(super) parallel_tool_calls: bool,
    pub(super) tools: Vec<Tool>,
    /// The labels of MCP servers whose tools need the user's approval.
    pub(super) servers: Vec<String>,
    pub(super) tool_choice: ToolChoice,
}

impl Settings {
    /// The settings of one response, whose own tools and choice replace the session's.
    pub(super) fn with(&self, params: &Value) -> Self {
        let mut settings = self.clone();
        if params["tools"].is_array() {
            settings.tools = tools(&params["tools"]);
            settings.servers = servers(&params["tools"]);
        }
        if !params["tool_choice"].is_null() {
            settings.tool_choice = tool_choice(&params["tool_choice"]);
        }
        settings
    }
}

/// The effective session.
#[derive(Debug)]
pub(super) struct Session {
    value: Map<String, Value>,
    pub(super) settings: Settings,
}

impl Session {
    /// An untouched session.
    pub(super) fn new(id: u64, expires_at: u64, model: &str, agent: bool) -> Self {
        let value = untouched(id, expires_at, model, agent);
        Self { settings: settings(&value), value }
    }

    pub(super) fn value(&self) -> Value {
        Value::Object(self.value.clone())
    }

    pub(super) fn field(&self, key: &str) -> Value {
        self.value.get(key).cloned().unwrap_or_default()
    }

    /// Merges an update whose types were checked before. Nothing changes when it is refused.
    pub(super) fn update(
        &mut self,
        patch: &Map<String, Value>,
        past: &Past<'_>,
    ) -> Result<(), Fault> {
        let mut next = self.value.clone();
        for (key, value) in patch {
            next.insert(key.clone(), complete(key, value));
        }
        self.check(patch, &next, past)?;
        next.insert("model".to_owned(), MODEL.into());
        self.settings = settings(&next);
        self.value = next;
        Ok(())
    }

    fn check(
        &self,
        patch: &Map<String, Value>,
        next: &Map<String, Value>,
        past: &Past<'_>,
    ) -> Result<(), Fault> {
        let model = patch.get("model").and_then(Value::as_str);
        if model.is_some() {
            let message = "The model of a session is that of its address and can't be set.";
            return Err(Fault::value("session.model", message));
        }
        if past.agent && patch.get("instructions").is_some_and(|text| !text.is_null()) {
            return Err(Fault::value("session.instructions", "Not allowed with an agent."));
        }
        if past.spoken && next.get("voice") != self.value.get("voice") {
            let message = "Cannot update a conversation's voice if assistant audio is present.";
            return Err(Fault::new("cannot_update_voice", message));
        }
        check_formats(next)?;
        check_ranges(next)?;
        family::check(next, past)?;
        check_tools(next)
    }
}

fn check_formats(next: &Map<String, Value>) -> Result<(), Fault> {
    for key in ["input_audio_format", "output_audio_format"] {
        let format = next.get(key).and_then(Value::as_str).unwrap_or(PCM16);
        if format != PCM16 {
            let message = "The simulator speaks and hears pcm16 only.";
            return Err(Fault::value(&format!("session.{key}"), message));
        }
    }
    let rate = next.get("input_audio_sampling_rate").filter(|rate| !rate.is_null());
    match rate.map_or(Some(24_000), Value::as_u64) {
        Some(8_000 | 16_000 | 24_000) => Ok(()),
        _ => Err(Fault::value(
            "session.input_audio_sampling_rate",
            "Supported values are: 8000, 16000 and 24000.",
        )),
    }
}

fn check_ranges(next: &Map<String, Value>) -> Result<(), Fault> {
    for &(group, key, least, most) in RANGES {
        let holder = match group {
            "" => Some(next),
            group => next.get(group).and_then(Value::as_object),
        };
        let value = holder.and_then(|map| map.get(key));
        let Some(value) = value.and_then(Value::as_f64) else {
            continue;
        };
        if !(least..=most).contains(&value) {
            let path = ["session", group, key].map(str::to_owned);
            let path = path.join(".").replace("..", ".");
            return Err(Fault::value(&path, format!("Expected a value from {least} to {most}.")));
        }
    }
    Ok(())
}

/// Group, key, least and most allowed value. Those of the service where they are documented, else
/// wide enough for anything sensible.
const RANGES: &[(&str, &str, f64, f64)] = &[
    ("turn_detection", "threshold", 0.0, 1.0),
    ("turn_detection", "prefix_padding_ms", 0.0, 5_000.0),
    ("turn_detection", "silence_duration_ms", 0.0, 10_000.0),
    ("turn_detection", "speech_duration_ms", 0.0, 10_000.0),
    ("", "temperature", 0.0, 1.2),
    ("", "max_response_output_tokens", 1.0, 4_096.0),
];

fn check_tools(next: &Map<String, Value>) -> Result<(), Fault> {
    let tools = next.get("tools").and_then(Value::as_array);
    for (index, tool) in tools.into_iter().flatten().enumerate() {
        let Some(name) = tool["name"].as_str() else {
            continue;
        };
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > 64 || !name.chars().all(valid) {
            let path = format!("session.tools[{index}].name");
            return Err(Fault::value(&path, "Expected letters, digits, '_' and '-', at most 64."));
        }
    }
    Ok(())
}

fn settings(value: &Map<String, Value>) -> Settings {
    let get = |key: &str| value.get(key).cloned().unwrap_or_default();
    let rate = get("input_audio_sampling_rate").as_u64().unwrap_or(24_000);
    let channels = get("input_audio_echo_cancellation")["channels"].as_u64();
    let modalities = get("modalities");
    let modalities = modalities.as_array().map_or(&[][..], Vec::as_slice);
    Settings {
        vad: vad_settings(&get("turn_detection")),
        input_rate: u32::try_from(rate).unwrap_or(24_000),
        input_channels: if channels == Some(2) { 2 } else { 1 },
        transcription: !get("input_audio_transcription").is_null(),
        text_only: is_text_only(modalities),
        parallel_tool_calls: get("parallel_tool_calls") != Value::Bool(false),
        tools: tools(&get("tools")),
        servers: servers(&get("tools")),
        tool_choice: tool_choice(&get("tool_choice")),
    }
}

fn vad_settings(turn: &Value) -> Option<VadSettings> {
    let turn = turn.as_object()?;
    let number = |key: &str, default| turn.get(key).and_then(Value::as_u64).unwrap_or(default);
    let flag = |key: &str, default| turn.get(key).and_then(Value::as_bool).unwrap_or(default);
    Some(VadSettings {
        threshold: turn.get("threshold").and_then(Value::as_f64).unwrap_or(0.5),
        prefix_padding_ms: number("prefix_padding_ms", 300),
        silence_duration_ms: number("silence_duration_ms", 500),
        speech_duration_ms: number("speech_duration_ms", 60),
        create_response: flag("create_response", true),
        interrupt_response: flag("interrupt_response", true),
        auto_truncate: flag("auto_truncate", false),
    })
}

fn tools(value: &Value) -> Vec<Tool> {
    let functions =
        value.as_array().into_iter().flatten().filter(|tool| tool["type"] == "function");
    functions
        .map(|tool| Tool {
            name: tool["name"].as_str().unwrap_or_default().to_owned(),
            parameters: tool["parameters"].clone(),
        })
        .collect()
}

/// `always` is the service's default.
fn servers(value: &Value) -> Vec<String> {
    let servers = value.as_array().into_iter().flatten();
    let asks = |tool: &&Value| tool["type"] == "mcp" && tool["require_approval"] != "never";
    let labels = servers.filter(asks).filter_map(|tool| tool["server_label"].as_str());
    labels.map(str::to_owned).collect()
}

fn tool_choice(value: &Value) -> ToolChoice {
    match (value.as_str(), value["name"].as_str()) {
        (Some("none"), _) => ToolChoice::None,
        (Some("required"), _) => ToolChoice::Required,
        (Some("auto"), _) | (None, None) => ToolChoice::Auto,
        // A response names its function by a plain string.
        (Some(name), _) | (None, Some(name)) => ToolChoice::Named(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FRESH: Past<'_> = Past { model: "gpt-realtime", agent: false, spoken: false };

    fn update(session: &mut Session, patch: Value, past: &Past<'_>) -> Result<(), Fault> {
        session.update(patch.as_object().unwrap(), past)
    }

    #[test]
    fn turn_detection_is_refilled_with_other_defaults_than_the_untouched_session_has() {
        let mut session = Session::new(1, 2, "gpt-realtime", false);
        assert_eq!(session.settings.vad.as_ref().unwrap().silence_duration_ms, 200);
        update(&mut session, json!({"turn_detection":{"type":"server_vad"}}), &FRESH).unwrap();
        let vad = session.settings.vad.clone().unwrap();
        assert_eq!((vad.prefix_padding_ms, vad.silence_duration_ms), (400, 500));
        update(&mut session, json!({"turn_detection":null,"voice":"marin"}), &FRESH).unwrap();
        assert!(session.settings.vad.is_none());
        assert_eq!(session.field("voice"), json!({"type":"openai","name":"marin"}));
        assert_eq!(session.field("model"), MODEL);
    }

    #[test]
    fn a_refused_update_changes_nothing() {
        let mut session = Session::new(1, 2, "gpt-realtime", false);
        let before = session.value();
        let spoken = Past { spoken: true, ..FRESH };
        for (patch, past) in [
            (json!({"instructions":"x","model":"other"}), &FRESH),
            (json!({"instructions":"x","voice":"echo"}), &spoken),
            (json!({"instructions":"x","output_audio_format":"g711_ulaw"}), &FRESH),
            (json!({"instructions":"x","input_audio_sampling_rate":44100}), &FRESH),
            (
                json!({"instructions":"x","turn_detection":{"type":"server_vad","threshold":2}}),
                &FRESH,
            ),
            (json!({"instructions":"x","max_response_output_tokens":9000}), &FRESH),
            (json!({"instructions":"x","tools":[{"type":"function","name":"a b"}]}), &FRESH),
            (json!({"instructions":"x"}), &Past { agent: true, ..FRESH }),
        ] {
            assert!(update(&mut session, patch, past).is_err());
            assert_eq!(session.value(), before);
        }
        let own = json!({"model":"gpt-realtime","voice":"alloy"});
        assert_eq!(update(&mut session, own, &FRESH).unwrap_err().code, "invalid_value");
        update(&mut session, json!({"voice":"alloy"}), &spoken).unwrap();
    }
}
