//! The voices, transcribers and languages that a session's model accepts or refuses.
//!
//! The refusals are those recorded or reported from the real service. A model of unknown name, such
//! as a deployment, refuses nothing.

use serde_json::{Map, Value, json};

use super::validate::Fault;
use crate::models::{self, AZURE_SPEECH, Kind};

/// Facts about the session that limit what an update may change.
#[derive(Debug)]
pub(super) struct Past<'a> {
    /// The model asked for in the query.
    pub(super) model: &'a str,
    pub(super) agent: bool,
    /// Whether the session has produced audio.
    pub(super) spoken: bool,
}

/// Most languages that Azure's transcriber takes.
const MAX_LANGUAGES: usize = 10;

/// How the session's model hears and speaks, if its name is known. An agent has no model of its
/// own.
fn known_kind(model: &str, agent: bool) -> Option<Kind> {
    let known = agent
        || models::find(model).is_some()
        || ["gpt-realtime", "azure-realtime"].iter().any(|family| model.starts_with(family));
    known.then(|| models::kind(model))
}

/// The differences of this model's untouched session from the recorded one of `gpt-realtime`.
pub(super) fn defaults(model: &str, agent: bool) -> Value {
    match known_kind(model, agent) {
        Some(Kind::Native) => {
            let voice = models::find(model).map_or("alloy", |model| model.voice);
            json!({ "voice": { "type": "openai", "name": voice } })
        }
        Some(Kind::Cascade) => json!({
            "modalities": ["text", "audio"],
            "voice": { "type": "azure-standard", "name": "en-US-AvaNeural" },
            "input_audio_transcription": { "model": AZURE_SPEECH },
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

/// Judges a session as it would be after an update.
pub(super) fn check(next: &Map<String, Value>, past: &Past<'_>) -> Result<(), Fault> {
    let Some(kind) = known_kind(past.model, past.agent) else {
        return Ok(());
    };
    check_voice(next, kind, past.model)?;
    check_transcriber(next, kind, past.model)
}

fn check_voice(next: &Map<String, Value>, kind: Kind, model: &str) -> Result<(), Fault> {
    let voice = next.get("voice").map_or("", |voice| voice["type"].as_str().unwrap_or_default());
    let refused = match kind {
        Kind::Native => voice == "azure-realtime-native",
        Kind::Cascade => ["openai", "azure-realtime-native"].contains(&voice),
        Kind::AzureNative => voice == "azure-standard",
    };
    if refused {
        let message = format!("Voices of type '{voice}' are not supported by the model '{model}'.");
        return Err(Fault::value("session.voice", message));
    }
    Ok(())
}

fn check_transcriber(next: &Map<String, Value>, kind: Kind, model: &str) -> Result<(), Fault> {
    let transcription = next.get("input_audio_transcription").unwrap_or(&Value::Null);
    let Some(name) = transcription["model"].as_str() else {
        return Ok(());
    };
    let openai = models::is_openai_transcriber(name);
    if openai && !models::takes_whisper(model) {
        let message = format!("The transcription model '{name}' is not supported by this session.");
        return Err(Fault::new("invalid_input_audio_transcription_model", message));
    }
    let turns = next.get("turn_detection").map_or("", |it| it["type"].as_str().unwrap_or_default());
    let semantic = ["azure_semantic_vad", "azure_semantic_vad_multilingual"].contains(&turns);
    if name == AZURE_SPEECH && kind != Kind::Cascade && !semantic {
        return Err(Fault {
            code: Fault::UNCODED,
            message:
                "When using azure-speech as InputAudioTranscription, turn_detection must be of \
                      type AzureSemanticVAD or AzureMultilingualSemanticVAD."
                    .to_owned(),
            param: Some("session.turn_detection".to_owned()),
        });
    }
    check_language(transcription["language"].as_str().unwrap_or_default(), openai)
}

fn check_language(language: &str, openai: bool) -> Result<(), Fault> {
    let param = "session.input_audio_transcription.language";
    let two_letters = language.len() == 2 && language.bytes().all(|b| b.is_ascii_lowercase());
    if openai && !language.is_empty() && !two_letters {
        return Err(Fault::value(param, "Expected one language in ISO 639-1, such as 'en'."));
    }
    if language.split(',').count() > MAX_LANGUAGES {
        return Err(Fault::value(param, "Expected at most 10 languages."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(model: &str, agent: bool, session: Value) -> Option<(&'static str, Option<String>)> {
        let past = Past { model, agent, spoken: false };
        let mut next = json!({"turn_detection": {"type": "azure_semantic_vad"}});
        next.as_object_mut().unwrap().extend(session.as_object().unwrap().clone());
        check(next.as_object().unwrap(), &past).err().map(|fault| (fault.code, fault.param))
    }

    #[test]
    fn each_family_takes_its_voices() {
        let voice = |kind: &str| json!({"voice": {"type": kind, "name": "x"}});
        for (model, kind, taken) in [
            ("gpt-realtime", "openai", true),
            ("gpt-realtime-2.1-mini", "azure-standard", true),
            ("gpt-realtime", "azure-realtime-native", false),
            ("gpt-4.1", "openai", false),
            ("phi4-mm-realtime", "openai", false),
            ("gpt-4.1", "azure-standard", true),
            ("azure-realtime", "azure-standard", false),
            ("azure-realtime", "azure-realtime-native", true),
            ("my-deployment", "openai", true),
        ] {
            assert_eq!(refusal(model, false, voice(kind)).is_none(), taken, "{model} {kind}");
        }
    }

    #[test]
    fn each_family_takes_its_transcriber() {
        let by = |name: &str| json!({"input_audio_transcription": {"model": name}});
        let code = "invalid_input_audio_transcription_model";
        for (model, agent, refused) in [
            ("gpt-realtime", false, false),
            ("gpt-realtime-mini", false, false),
            ("gpt-realtime-2.1-mini", false, true),
            ("gpt-realtime-1.5", false, true),
            ("gpt-4.1", false, true),
            ("azure-realtime", false, true),
            ("", true, true),
            ("my-deployment", false, false),
        ] {
            let found = refusal(model, agent, by("whisper-1"));
            assert_eq!(found.map(|(code, _)| code), refused.then_some(code), "{model}");
            assert_eq!(refusal(model, agent, by(AZURE_SPEECH)), None, "{model}");
        }
    }

    #[test]
    fn azure_speech_needs_azures_detection_on_models_that_hear() {
        for turns in [json!(null), json!({"type": "server_vad"})] {
            let session = json!({"turn_detection": turns, "input_audio_transcription": {"model": AZURE_SPEECH}});
            let expected = ("invalid_request_error", Some("session.turn_detection".to_owned()));
            assert_eq!(refusal("gpt-realtime", false, session.clone()), Some(expected));
            assert_eq!(refusal("gpt-4.1", false, session), None);
        }
    }

    #[test]
    fn languages_have_the_form_of_their_transcriber() {
        let language = |model: &str, transcriber: &str, language: &str| {
            let object = json!({"model": transcriber, "language": language});
            refusal(model, false, json!({ "input_audio_transcription": object }))
        };
        let param = Some("session.input_audio_transcription.language".to_owned());
        for bad in ["en-US", "en,de", "EN"] {
            let found = language("gpt-realtime", "whisper-1", bad);
            assert_eq!(found, Some(("invalid_value", param.clone())), "{bad}");
        }
        assert_eq!(language("gpt-realtime", "whisper-1", "en"), None);
        assert_eq!(language("gpt-4.1", AZURE_SPEECH, "en-US,de-DE"), None);
        let eleven = ["en"; 11].join(",");
        assert_eq!(language("gpt-4.1", AZURE_SPEECH, &eleven), Some(("invalid_value", param)));
    }
}
