//! The GA dialect: OpenAI's present names and session shape. They are translated from and to the
//! dated ones at the edge, so the simulation itself knows only one form.

use serde_json::{Map, Value, json};

use super::conversation::parts_of;
use super::defaults::MODEL;
use super::event::Event;
use super::validate::{Fault, is_enum_value};

const NAMES: &[(&str, &str)] = &[
    ("response.audio.delta", "response.output_audio.delta"),
    ("response.audio.done", "response.output_audio.done"),
    ("response.audio_transcript.delta", "response.output_audio_transcript.delta"),
    ("response.audio_transcript.done", "response.output_audio_transcript.done"),
    ("response.text.delta", "response.output_text.delta"),
    ("response.text.done", "response.output_text.done"),
    ("conversation.item.created", "conversation.item.added"),
];

/// Translates a server event.
pub(super) fn event(mut event: Event) -> Event {
    if let Some((_, name)) = NAMES.iter().find(|(dated, _)| *dated == event.kind) {
        event.kind = name;
    }
    for (key, value) in &mut event.fields {
        // The part of a `content_part` event keeps its short name.
        match key.as_str() {
            "session" => *value = session(value),
            "response" => *value = response(value),
            "item" => item(value),
            _ => {}
        }
    }
    if PADDED.contains(&event.kind) {
        let delta = event.fields.get("delta").and_then(Value::as_str).unwrap_or_default();
        // Together 16 characters or more, so that the length of a message tells less.
        let padding = "x".repeat(16_usize.saturating_sub(delta.chars().count()).max(1));
        event.fields.insert("obfuscation".to_owned(), padding.into());
    }
    event
}

/// Pieces of text that are padded; audio is not.
const PADDED: [&str; 4] = [
    "response.output_audio_transcript.delta",
    "response.output_text.delta",
    "response.function_call_arguments.delta",
    "conversation.item.input_audio_transcription.delta",
];

/// Translates a client event in place. `model` is the session's, which a client may repeat.
pub(super) fn client_event(event: &mut Map<String, Value>, model: &str) -> Result<(), Fault> {
    match event.get("type").and_then(Value::as_str) {
        Some("session.update") => {
            if let Some(session) = event.get_mut("session") {
                *session = update(session)?;
                if [model, MODEL].iter().any(|own| session["model"] == *own) {
                    session["model"] = Value::Null;
                }
            }
        }
        Some("response.create") => {
            if let Some(params) = event.get_mut("response").and_then(Value::as_object_mut) {
                *params = response_params(params)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Translates the `response` of a client's `response.create` into the dated shape. Names that the
/// dialect has replaced are unknown in it.
fn response_params(params: &Map<String, Value>) -> Result<Map<String, Value>, Fault> {
    let mut dated = Map::new();
    for (key, value) in params {
        match key.as_str() {
            "output_modalities" => {
                dated.insert("modalities".to_owned(), modalities(value)?);
            }
            "input" => {
                dated.insert("input_items".to_owned(), value.clone());
            }
            "audio" => {
                if let Some(given) = value["output"].get("voice").filter(|it| !it.is_null()) {
                    dated.insert("voice".to_owned(), voice(given, &value["output"]));
                }
            }
            "tool_choice" => {
                let name = value.get("name").cloned();
                dated.insert(key.clone(), name.unwrap_or_else(|| value.clone()));
            }
            // The simulator ignores these.
            "prompt" | "reasoning" | "parallel_tool_calls" => {}
            "modalities"
            | "input_items"
            | "voice"
            | "output_audio_format"
            | "temperature"
            | "max_response_output_tokens" => {
                return Err(Fault::unknown(&format!("response.{key}")));
            }
            _ => {
                dated.insert(key.clone(), value.clone());
            }
        }
    }
    Ok(dated)
}

/// Translates the `session` of a client's `session.update` into the dated shape.
fn update(session: &Value) -> Result<Value, Fault> {
    let Some(session) = session.as_object() else {
        return Ok(session.clone());
    };
    match session.get("type").and_then(Value::as_str) {
        Some("realtime") => {}
        Some(_) => {
            let message = "The simulator knows sessions of type 'realtime' only.";
            return Err(Fault::value("session.type", message));
        }
        None => return Err(Fault::missing("session.type")),
    }
    let mut dated = Map::new();
    for (key, value) in session {
        match key.as_str() {
            "type" => {}
            "audio" => audio(value, &mut dated)?,
            "output_modalities" => {
                dated.insert("modalities".to_owned(), modalities(value)?);
            }
            "max_output_tokens" => {
                dated.insert("max_response_output_tokens".to_owned(), value.clone());
            }
            // The simulator ignores these.
            "truncation" | "tracing" | "prompt" | "reasoning" => {}
            "instructions"
            | "tools"
            | "tool_choice"
            | "include"
            | "model"
            | "parallel_tool_calls" => {
                dated.insert(key.clone(), value.clone());
            }
            _ => return Err(Fault::unknown(&format!("session.{key}"))),
        }
    }
    Ok(Value::Object(dated))
}

fn modalities(value: &Value) -> Result<Value, Fault> {
    match value.as_array().map(Vec::as_slice) {
        Some([one]) if one == "text" => Ok(json!(["text"])),
        Some([one]) if one == "audio" => Ok(json!(["text", "audio"])),
        _ => Err(Fault::value("session.output_modalities", "Expected ['audio'] or ['text'].")),
    }
}

fn audio(whole: &Value, dated: &mut Map<String, Value>) -> Result<(), Fault> {
    for (side, fields) in whole.as_object().into_iter().flatten() {
        for (key, value) in fields.as_object().into_iter().flatten() {
            let path = format!("session.audio.{side}.{key}");
            match (side.as_str(), key.as_str()) {
                ("input", "format") => input_format(value, &path, dated)?,
                ("output", "format") => {
                    dated.insert("output_audio_format".to_owned(), format_name(value, &path)?);
                }
                ("output", "voice") => {
                    dated.insert("voice".to_owned(), voice(value, &whole[side]));
                }
                ("input", "turn_detection") => {
                    only_of_openai(value, &["server_vad", "semantic_vad"], &path)?;
                    dated.insert(key.clone(), value.clone());
                }
                ("input", "noise_reduction") => {
                    only_of_openai(value, &["near_field", "far_field"], &path)?;
                    dated.insert(format!("input_audio_{key}"), value.clone());
                }
                ("input", "transcription") => {
                    dated.insert(format!("input_audio_{key}"), value.clone());
                }
                ("input", "echo_cancellation") => {
                    dated.insert(format!("input_audio_{key}"), echo_cancellation(value, &path)?);
                }
                ("output", "speed" | "voice_type" | "voice_temperature" | "prefer_locales")
                | ("output", "custom_voice_endpoint_id" | "personal_voice_model")
                | ("output", "custom_lexicon_url" | "custom_text_normalization_url")
                | ("output", "locale" | "style" | "pitch" | "volume")
                | ("output", "output_audio_timestamp_types") => {}
                _ => return Err(Fault::unknown(&path)),
            }
        }
    }
    Ok(())
}

/// Azure's own types are in no published contract of this dialect.
fn only_of_openai(value: &Value, types: &[&str], path: &str) -> Result<(), Fault> {
    match value["type"].as_str() {
        Some(kind) if !types.contains(&kind) => {
            Err(Fault::value(&format!("{path}.type"), format!("Invalid value: '{kind}'.")))
        }
        _ => Ok(()),
    }
}

/// The contract of `v1` has one kind of it, which therefore has no `type`.
fn echo_cancellation(value: &Value, path: &str) -> Result<Value, Fault> {
    let Some(object) = value.as_object() else {
        return Ok(value.clone());
    };
    let known = ["reference_source", "channels"];
    if let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(Fault::unknown(&format!("{path}.{key}")));
    }
    let mut dated = object.clone();
    dated.insert("type".to_owned(), "server_echo_cancellation".into());
    Ok(Value::Object(dated))
}

fn input_format(value: &Value, path: &str, dated: &mut Map<String, Value>) -> Result<(), Fault> {
    dated.insert("input_audio_format".to_owned(), format_name(value, path)?);
    if let Some(rate) = value.get("rate").filter(|rate| !rate.is_null()) {
        dated.insert("input_audio_sampling_rate".to_owned(), rate.clone());
    }
    Ok(())
}

fn format_name(value: &Value, path: &str) -> Result<Value, Fault> {
    match value.get("type").and_then(Value::as_str) {
        Some("audio/pcm") => Ok("pcm16".into()),
        Some("audio/pcmu") => Ok("g711_ulaw".into()),
        Some("audio/pcma") => Ok("g711_alaw".into()),
        _ => Err(Fault::value(path, "Expected audio/pcm, audio/pcmu or audio/pcma.")),
    }
}

/// A voice as dated versions have it. On `v1` its kind and what that kind demands stand beside the name.
/// Without a kind a voice that OpenAI does not have is a standard one of Azure.
fn voice(value: &Value, beside: &Value) -> Value {
    let name = value.as_str().or_else(|| value["id"].as_str()).unwrap_or_default();
    let kind = match beside["voice_type"].as_str() {
        Some(kind) => kind,
        None if is_enum_value("OpenAIVoiceName", name) => "openai",
        None => "azure-standard",
    };
    let mut voice = json!({ "type": kind, "name": name });
    for (key, dated) in
        [("custom_voice_endpoint_id", "endpoint_id"), ("personal_voice_model", "model")]
    {
        if let Some(told) = beside.get(key) {
            voice[dated] = told.clone();
        }
    }
    voice
}

fn format(name: &Value, rate: &Value) -> Value {
    match name.as_str() {
        Some("g711_ulaw") => json!({ "type": "audio/pcmu" }),
        Some("g711_alaw") => json!({ "type": "audio/pcma" }),
        _ => json!({ "type": "audio/pcm", "rate": rate }),
    }
}

fn output_modalities(value: &Value) -> Value {
    let audio = value.as_array().is_some_and(|list| list.iter().any(|one| one == "audio"));
    if audio { json!(["audio"]) } else { json!(["text"]) }
}

fn session(dated: &Value) -> Value {
    json!({
        "type": "realtime",
        "object": "realtime.session",
        "id": dated["id"],
        "model": dated["model"],
        "expires_at": dated["expires_at"],
        "instructions": dated["instructions"],
        "output_modalities": output_modalities(&dated["modalities"]),
        "tools": dated["tools"],
        "tool_choice": dated["tool_choice"],
        "max_output_tokens": dated["max_response_output_tokens"],
        "truncation": "auto",
        "tracing": null,
        "prompt": null,
        "include": dated["include"],
        "audio": {
            "input": {
                "format": format(&dated["input_audio_format"], &dated["input_audio_sampling_rate"]),
                "turn_detection": dated["turn_detection"],
                "transcription": dated["input_audio_transcription"],
                "noise_reduction": dated["input_audio_noise_reduction"],
                "echo_cancellation": dated["input_audio_echo_cancellation"],
            },
            "output": {
                "format": format(&dated["output_audio_format"], &json!(24_000)),
                "voice": dated["voice"]["name"],
                "speed": 1.0,
            },
        },
    })
}

fn response(dated: &Value) -> Value {
    let mut response = dated.clone();
    if let Some(map) = response.as_object_mut() {
        map.remove("temperature");
        let modalities = map.remove("modalities").unwrap_or_default();
        map.insert("output_modalities".to_owned(), output_modalities(&modalities));
        let format = format(&map.remove("output_audio_format").unwrap_or_default(), &json!(24_000));
        let voice = map.remove("voice").unwrap_or_default();
        let output = json!({ "format": format, "voice": voice["name"] });
        map.insert("audio".to_owned(), json!({ "output": output }));
    }
    let outputs = response.get_mut("output").and_then(Value::as_array_mut);
    for output in outputs.into_iter().flatten() {
        item(output);
    }
    response
}

/// An item has no `object` here, and other names of parts.
fn item(item: &mut Value) {
    if let Some(item) = item.as_object_mut() {
        item.remove("object");
    }
    for part in parts_of(item) {
        rename_part(part);
    }
}

fn rename_part(part: &mut Value) {
    let name = match part["type"].as_str() {
        Some("text") => "output_text",
        Some("audio") => "output_audio",
        _ => return,
    };
    part["type"] = name.into();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event as dated;

    #[test]
    fn a_ga_update_becomes_a_dated_one() {
        let dated = update(&json!({"type":"realtime","output_modalities":["audio"],
            "instructions":"Be brief.","audio":{
                "input":{"format":{"type":"audio/pcm","rate":24000},
                    "turn_detection":{"type":"server_vad"},"transcription":{"model":"whisper-1"},
                    "noise_reduction":{"type":"far_field"}},
                "output":{"format":{"type":"audio/pcm","rate":24000},"voice":"marin"}},
            "tools":[],"tool_choice":"auto"}))
        .unwrap();
        assert_eq!(dated["modalities"], json!(["text", "audio"]));
        assert_eq!(dated["input_audio_sampling_rate"], 24000);
        assert_eq!(dated["input_audio_transcription"]["model"], "whisper-1");
        assert_eq!(dated["voice"], json!({"type":"openai","name":"marin"}));
        let beta = update(&json!({"modalities":["text"]})).unwrap_err();
        assert_eq!(beta.param.as_deref(), Some("session.type"));
    }

    #[test]
    fn events_and_parts_get_their_ga_names() {
        let part = json!({"part": {"type": "audio", "transcript": ""}});
        let part = event(dated::event("response.content_part.added", part));
        assert_eq!(part.fields["part"]["type"], "audio");
        let delta = event(dated::event("response.audio.delta", json!({"delta": "AAAA"})));
        assert_eq!(delta.kind, "response.output_audio.delta");
    }
}
