//! The session in the shape of the GA dialect: OpenAI's, Azure OpenAI's and that of Voice Live's
//! `v1`. Its source is Voice Live's published contract of `v1` (Azure/azure-rest-api-specs,
//! specification/ai/data-plane/VoiceLive/v1/models.tsp), which is OpenAI's GA session and a few
//! options of Azure's.
//!
//! The service refuses a whole update for one key that it does not know, so of the dated session only
//! that is sent which the contract has. Azure's turn detection and its noise suppression are not in it.

use serde_json::{Map, Value, json};

use super::overlay::lay_over;
use super::settings::SAMPLE_RATE;

/// The keys of Azure's voices that the contract has too, with its names.
const VOICE_KEYS: [(&str, &str); 11] = [
    ("temperature", "voice_temperature"),
    ("endpoint_id", "custom_voice_endpoint_id"),
    ("model", "personal_voice_model"),
    ("custom_lexicon_url", "custom_lexicon_url"),
    ("custom_text_normalization_url", "custom_text_normalization_url"),
    ("prefer_locales", "prefer_locales"),
    ("locale", "locale"),
    ("style", "style"),
    ("pitch", "pitch"),
    ("volume", "volume"),
    ("speed", "speed"),
];

const SERVER_VAD_KEYS: [&str; 7] = [
    "type",
    "threshold",
    "prefix_padding_ms",
    "silence_duration_ms",
    "idle_timeout_ms",
    "create_response",
    "interrupt_response",
];
const SEMANTIC_VAD_KEYS: [&str; 4] = ["type", "eagerness", "create_response", "interrupt_response"];

/// Keys of a dated session for which the contract has no place.
const DATED_ONLY: [&str; 4] = ["temperature", "interim_response", "metadata", "reasoning_effort"];

/// The same session in the GA shape.
///
/// An `audio` object that the owner wrote is laid over what is derived, and sent as it is: the owner
/// knows best what a service has that is newer than the contract.
#[must_use]
pub fn ga_session(session: &Value) -> Value {
    convert(session).0
}

/// What of a dated session has no place in the GA dialect, as paths such as `voice.rate`.
pub(super) fn left_out(session: &Value) -> Vec<String> {
    convert(session).1
}

fn convert(session: &Value) -> (Value, Vec<String>) {
    let mut rest = session.as_object().cloned().unwrap_or_default();
    let mut lost = Vec::new();
    let modalities = rest.remove("modalities");
    let mut input = Map::new();
    let mut output = Map::new();
    if let Some(voice) = rest.remove("voice") {
        output = voice_members(voice, &mut lost);
    }
    let rate = rest.remove("input_audio_sampling_rate");
    if let Some(given) = rest.remove("input_audio_format") {
        input.insert("format".to_owned(), format(&given, rate.as_ref()));
    }
    if let Some(given) = rest.remove("output_audio_format") {
        output.insert("format".to_owned(), format(&given, None));
    }
    if let Some(types) = rest.remove("output_audio_timestamp_types") {
        output.insert("output_audio_timestamp_types".to_owned(), types);
    }
    for (dated, name, convert) in INPUT_PARTS {
        if let Some(value) = rest.remove(dated) {
            let part = match value {
                Value::Object(object) => convert(object, &mut lost),
                other => Some(other),
            };
            input.extend(part.map(|part| (name.to_owned(), part)));
        }
    }
    for key in DATED_ONLY {
        if rest.remove(key).is_some() {
            lost.push(key.to_owned());
        }
    }
    let mut ga = json!({
        "type": "realtime",
        "output_modalities": [output_modality(modalities.as_ref())],
        "audio": {"input": input, "output": output},
    });
    if let Some(limit) = rest.remove("max_response_output_tokens") {
        ga["max_output_tokens"] = limit;
    }
    lay_over(&mut ga, &Value::Object(rest));
    (ga, lost)
}

type Part = (&'static str, &'static str, fn(Map<String, Value>, &mut Vec<String>) -> Option<Value>);

/// The dated name, the GA name, and the conversion of an object. `null` is "off" in both.
const INPUT_PARTS: [Part; 4] = [
    ("turn_detection", "turn_detection", turn_detection),
    ("input_audio_transcription", "transcription", transcription),
    ("input_audio_noise_reduction", "noise_reduction", noise_reduction),
    ("input_audio_echo_cancellation", "echo_cancellation", echo_cancellation),
];

/// Azure's detections become the server's plain one, with the same times: it is the only other that
/// every kind of model takes.
fn turn_detection(mut dated: Map<String, Value>, lost: &mut Vec<String>) -> Option<Value> {
    let keys = match dated.get("type").and_then(Value::as_str) {
        Some("semantic_vad") => &SEMANTIC_VAD_KEYS[..],
        Some("server_vad") => &SERVER_VAD_KEYS,
        _ => {
            lost.push("turn_detection.type".to_owned());
            dated.insert("type".to_owned(), "server_vad".into());
            &SERVER_VAD_KEYS
        }
    };
    Some(only(dated, keys, "turn_detection", lost))
}

fn transcription(dated: Map<String, Value>, lost: &mut Vec<String>) -> Option<Value> {
    let keys = ["model", "language", "prompt"];
    Some(only(dated, &keys, "input_audio_transcription", lost))
}

fn noise_reduction(dated: Map<String, Value>, lost: &mut Vec<String>) -> Option<Value> {
    let is_known =
        dated.get("type").is_some_and(|kind| kind == "near_field" || kind == "far_field");
    if !is_known {
        lost.push("input_audio_noise_reduction.type".to_owned());
        return None;
    }
    Some(only(dated, &["type"], "input_audio_noise_reduction", lost))
}

/// There is one kind, so it has no `type`. What says nothing else says where the reference comes
/// from, since an empty object may read as nothing.
fn echo_cancellation(mut dated: Map<String, Value>, lost: &mut Vec<String>) -> Option<Value> {
    dated.remove("type");
    dated.entry("reference_source").or_insert_with(|| "server".into());
    let keys = ["reference_source", "channels"];
    Some(only(dated, &keys, "input_audio_echo_cancellation", lost))
}

/// The object with these keys alone. What goes is noted.
fn only(object: Map<String, Value>, keys: &[&str], path: &str, lost: &mut Vec<String>) -> Value {
    let (kept, others): (Map<_, _>, Map<_, _>) =
        object.into_iter().partition(|(key, _)| keys.contains(&key.as_str()));
    lost.extend(others.keys().map(|key| format!("{path}.{key}")));
    Value::Object(kept)
}

fn output_modality(modalities: Option<&Value>) -> &'static str {
    let audio = modalities
        .and_then(Value::as_array)
        .is_none_or(|list| list.iter().any(|entry| entry == "audio"));
    if audio { "audio" } else { "text" }
}

fn format(format: &Value, rate: Option<&Value>) -> Value {
    match format.as_str() {
        Some("g711_ulaw") => json!({"type": "audio/pcmu"}),
        Some("g711_alaw") => json!({"type": "audio/pcma"}),
        _ => {
            let rate = rate.cloned().unwrap_or_else(|| json!(SAMPLE_RATE));
            json!({"type": "audio/pcm", "rate": rate})
        }
    }
}

/// The members of `audio.output` for a voice: OpenAI's own are plain names, Azure's have their kind
/// and options beside the name. A voice that goes with an avatar has no name.
fn voice_members(voice: Value, lost: &mut Vec<String>) -> Map<String, Value> {
    let mut output = Map::new();
    let Value::Object(mut options) = voice else {
        output.insert("voice".to_owned(), voice);
        return output;
    };
    let kind = options.remove("type");
    if let Some(name) = options.remove("name") {
        output.insert("voice".to_owned(), name);
    }
    if let Some(kind) = kind.filter(|kind| kind != "openai") {
        output.insert("voice_type".to_owned(), kind);
    }
    for (key, value) in options {
        match VOICE_KEYS.iter().find(|(dated, _)| *dated == key) {
            Some((_, name)) => drop(output.insert((*name).to_owned(), value)),
            None => lost.push(format!("voice.{key}")),
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voices_have_their_options_beside_them() {
        let members = |voice| Value::Object(voice_members(voice, &mut Vec::new()));
        assert_eq!(members(json!({"type": "openai", "name": "marin"})), json!({"voice": "marin"}));
        assert_eq!(members(json!("nova")), json!({"voice": "nova"}));
        assert_eq!(
            members(json!({"type": "azure-standard", "name": "n", "temperature": 1, "rate": "2"})),
            json!({"voice": "n", "voice_type": "azure-standard", "voice_temperature": 1})
        );
        assert_eq!(
            members(json!({"type": "avatar-voice-sync", "model": "DragonLatestNeural"})),
            json!({"voice_type": "avatar-voice-sync", "personal_voice_model": "DragonLatestNeural"})
        );
    }

    #[test]
    fn detections_and_formats_are_translated() {
        let turns = |turns: Value| {
            ga_session(&json!({ "turn_detection": turns }))["audio"]["input"]["turn_detection"]
                .clone()
        };
        let semantic = json!({"type": "semantic_vad", "eagerness": "low"});
        assert_eq!(turns(semantic.clone()), semantic);
        assert_eq!(turns(json!({"type": "azure_semantic_vad"}))["type"], "server_vad");
        for (dated, ga) in [
            ("pcm16", json!({"type": "audio/pcm", "rate": SAMPLE_RATE})),
            ("g711_ulaw", json!({"type": "audio/pcmu"})),
            ("g711_alaw", json!({"type": "audio/pcma"})),
        ] {
            let session = ga_session(&json!({ "output_audio_format": dated }));
            assert_eq!(session["audio"]["output"]["format"], ga);
        }
    }

    #[test]
    fn what_is_left_out_is_named() {
        let session = json!({"voice": {"type": "azure-standard", "rate": "2"}, "temperature": 1,
            "turn_detection": {"type": "server_vad", "auto_truncate": true},
            "input_audio_noise_reduction": {"type": "azure_deep_noise_suppression"}});
        let mut lost = left_out(&session);
        lost.sort();
        assert_eq!(
            lost,
            [
                "input_audio_noise_reduction.type",
                "temperature",
                "turn_detection.auto_truncate",
                "voice.rate"
            ]
        );
        for off in [json!(null), json!({"type": "far_field"})] {
            let ga = ga_session(&json!({"input_audio_noise_reduction": off}));
            assert_eq!(ga["audio"]["input"]["noise_reduction"], off);
        }
    }
}
