//! The `session` object as it is when nobody has set anything, and the defaults that fill what an
//! update leaves out.

use serde_json::{Map, Value, json};

use super::family::known_kind;
use voicelived_models::{self as models, AZURE_SPEECH, Kind};

/// The name every session reports as its model, whatever was asked for.
pub const MODEL: &str = "voicelived-simulator";

/// The audio format that the simulator supports.
pub(super) const PCM16: &str = "pcm16";

/// An untouched session, as recorded: audio only, and a voice activity detector with the short
/// silence of 200 ms. Other models have other voices, transcribers and silences.
pub(super) fn untouched(id: u64, expires_at: u64, model: &str, agent: bool) -> Map<String, Value> {
    let value = json!({
        "id": format!("sim_{id}"),
        "object": "realtime.session",
        "model": MODEL,
        "expires_at": expires_at,
        "modalities": ["audio"],
        "instructions": "(the simulator follows no instructions)",
        "voice": { "type": "openai", "name": "alloy" },
        "input_audio_format": PCM16,
        "output_audio_format": null,
        "input_audio_sampling_rate": 24_000,
        "input_audio_transcription": null,
        "input_audio_noise_reduction": null,
        "input_audio_echo_cancellation": null,
        "turn_detection": server_vad(300, 200),
        "tools": [],
        "tool_choice": "auto",
        "max_response_output_tokens": "inf",
        "animation": null,
        "avatar": null,
        "output_audio_timestamp_types": null,
        "truncation_strategy": null,
        "include": null,
    });
    let mut value = match value {
        Value::Object(value) => value,
        _ => Map::new(),
    };
    if let Value::Object(own) = of_model(model, agent) {
        value.extend(own);
    }
    value
}

/// The differences of this model's untouched session from the recorded one of `gpt-realtime`.
fn of_model(model: &str, agent: bool) -> Value {
    match known_kind(model, agent) {
        Some(Kind::Native) => {
            let voice = models::find(model).map_or("alloy", |model| model.voice);
            // The newer models are those that speak with marin; they wait longer for a pause's end.
            let silence_ms = if voice == "marin" { 500 } else { 200 };
            json!({
                "voice": { "type": "openai", "name": voice },
                "turn_detection": server_vad(300, silence_ms),
            })
        }
        Some(Kind::Cascade) => json!({
            "modalities": ["audio", "text"],
            "voice": { "type": "azure-standard", "name": "en-US-AvaNeural" },
            "output_audio_format": "pcm16",
            "input_audio_transcription": { "model": AZURE_SPEECH, "language": null },
            "turn_detection": server_vad(400, 500),
            "temperature": 0.8,
        }),
        Some(Kind::AzureNative) => json!({
            "voice": {
                "type": "azure-realtime-native",
                "name": models::DEFAULT_AZURE_NATIVE_VOICE,
            },
        }),
        None => json!({}),
    }
}

fn server_vad(prefix_padding_ms: u32, silence_duration_ms: u32) -> Value {
    json!({
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": prefix_padding_ms,
        "silence_duration_ms": silence_duration_ms,
        "create_response": true,
        "interrupt_response": true,
        "idle_timeout_ms": null,
        "speech_duration_ms": null,
        "end_of_utterance_detection": null,
        "auto_truncate": false,
        "appended_text_after_truncation": null,
    })
}

/// A nested object replaces the old one. Its missing fields get the defaults of the api-versions
/// from 2026-04-10 on, which differ from those of the untouched session.
pub(super) fn complete(key: &str, value: &Value) -> Value {
    match (key, value) {
        ("voice", Value::String(name)) => json!({ "type": "openai", "name": name }),
        ("turn_detection", Value::Object(given)) => {
            let mut full = match given.get("type").and_then(Value::as_str) {
                Some("server_vad") => server_vad(400, 500),
                kind => semantic_vad(kind),
            };
            for (key, value) in given.iter().filter(|(_, value)| !value.is_null()) {
                full[key] = value.clone();
            }
            full
        }
        ("tools", Value::Null) => json!([]),
        ("tool_choice", Value::Null) => json!("auto"),
        _ => value.clone(),
    }
}

fn semantic_vad(kind: Option<&str>) -> Value {
    json!({
        "type": kind,
        "threshold": 0.5,
        "prefix_padding_ms": 420,
        "silence_duration_ms": 500,
        "speech_duration_ms": 80,
        "remove_filler_words": false,
        "languages": null,
        "end_of_utterance_detection": null,
        "create_response": true,
        "interrupt_response": true,
        "auto_truncate": false,
    })
}
