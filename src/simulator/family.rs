//! The settings that a session's model accepts or refuses: voices, transcribers and their languages,
//! detection of turns, noise reduction, interim responses.
//!
//! The refusals are those recorded or reported from the real service. A model of unknown name, such
//! as a deployment, refuses nothing but what every session refuses.

use serde_json::{Map, Value, json};

use super::validate::Fault;
use voicelived_models::{self as models, AZURE_SPEECH, Kind};

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
pub(super) fn known_kind(model: &str, agent: bool) -> Option<Kind> {
    if agent { Some(Kind::Cascade) } else { models::known_kind(model) }
}

/// Judges a session as it would be after an update.
pub(super) fn check(next: &Map<String, Value>, past: &Past<'_>) -> Result<(), Fault> {
    check_echo_cancellation(next)?;
    let Some(kind) = known_kind(past.model, past.agent) else {
        return Ok(());
    };
    let voice = next.get("voice").unwrap_or(&Value::Null);
    check_voice(voice, "session.voice", past)?;
    check_transcriber(next, kind, past.model)?;
    check_turns(next, kind, past.model)?;
    check_extras(next, kind, past.model)
}

/// Judges the voice of a session or of a single response, as an object.
pub(super) fn check_voice(voice: &Value, param: &str, past: &Past<'_>) -> Result<(), Fault> {
    let kind_of_voice = voice["type"].as_str().unwrap_or_default();
    let refused = match known_kind(past.model, past.agent) {
        Some(Kind::Native) => kind_of_voice == "azure-realtime-native",
        Some(Kind::Cascade) => ["openai", "azure-realtime-native"].contains(&kind_of_voice),
        Some(Kind::AzureNative) => !["", "azure-realtime-native"].contains(&kind_of_voice),
        None => false,
    };
    if refused {
        let model = past.model;
        let message =
            format!("Voices of type '{kind_of_voice}' are not supported by the model '{model}'.");
        return Err(Fault::value(param, message));
    }
    Ok(())
}

/// Without audio there is no echo. The service says so with a code of its own.
fn check_echo_cancellation(next: &Map<String, Value>) -> Result<(), Fault> {
    let modalities = next.get("modalities").and_then(Value::as_array);
    let wanted = next.get("input_audio_echo_cancellation").is_some_and(|it| !it.is_null());
    if wanted && modalities.is_some_and(|modalities| is_text_only(modalities)) {
        return Err(Fault {
            code: Fault::NO_ECHO_CANCELLATION,
            message: "Echo cancellation is not supported in a session without audio output."
                .to_owned(),
            param: Some("session.input_audio_echo_cancellation".to_owned()),
        });
    }
    Ok(())
}

/// End-of-utterance detection reads what the recogniser has written down. A model that hears audio
/// has no recogniser before it. The semantic detection of OpenAI's models is theirs alone.
fn check_turns(next: &Map<String, Value>, kind: Kind, model: &str) -> Result<(), Fault> {
    let turns = next.get("turn_detection").unwrap_or(&Value::Null);
    let (refused, key) = match kind {
        Kind::Cascade => (turns["type"] == "semantic_vad", "type"),
        Kind::Native | Kind::AzureNative => {
            let key = "end_of_utterance_detection";
            (!turns[key].is_null(), key)
        }
    };
    if refused {
        return Err(unsupported(&format!("session.turn_detection.{key}"), model));
    }
    Ok(())
}

fn check_extras(next: &Map<String, Value>, kind: Kind, model: &str) -> Result<(), Fault> {
    let reduction = next.get("input_audio_noise_reduction").unwrap_or(&Value::Null);
    let of_openai = ["near_field", "far_field"].iter().any(|it| reduction["type"] == *it);
    if kind == Kind::Cascade && of_openai {
        return Err(unsupported("session.input_audio_noise_reduction.type", model));
    }
    let interim = next.get("interim_response").is_some_and(|it| !it.is_null());
    if kind != Kind::Cascade && interim {
        return Err(unsupported("session.interim_response", model));
    }
    // Only Azure's voices know when they say which word.
    let timed = next.get("output_audio_timestamp_types").and_then(Value::as_array);
    let of_openai = next.get("voice").is_some_and(|voice| voice["type"] == "openai");
    if of_openai && timed.is_some_and(|types| !types.is_empty()) {
        return Err(unsupported("session.output_audio_timestamp_types", model));
    }
    Ok(())
}

/// Whether a reply has no sound.
pub(super) fn is_text_only(modalities: &[Value]) -> bool {
    modalities == [json!("text")]
}

/// A setting that this kind of model does not have.
fn unsupported(param: &str, model: &str) -> Fault {
    Fault {
        code: Fault::UNCODED,
        message: format!("'{param}' is not supported by the model '{model}'."),
        param: Some(param.to_owned()),
    }
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
            ("azure-realtime", "openai", false),
            ("azure-realtime", "azure-realtime-native", true),
            ("phi4-mini", "openai", false),
            ("gpt-5.9-next", "openai", false),
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
    fn a_text_only_session_has_no_echo_to_cancel() {
        let echo = json!({"type": "server_echo_cancellation"});
        for (modalities, echo, refused) in [
            (json!(["text"]), echo.clone(), true),
            (json!(["text"]), json!(null), false),
            (json!(["text", "audio"]), echo.clone(), false),
            (json!(["audio"]), echo, false),
        ] {
            let session = json!({"modalities": modalities, "input_audio_echo_cancellation": echo});
            for model in ["gpt-realtime", "gpt-4.1-mini", "my-deployment"] {
                let found = refusal(model, false, session.clone()).map(|(code, _)| code);
                assert_eq!(found, refused.then_some("ec_not_supported"), "{model} {session}");
            }
        }
    }

    #[test]
    fn what_reads_the_recogniser_s_text_is_for_cascade_models_and_openai_s_own_for_native_ones() {
        let end = json!({"model": "semantic_detection_v1"});
        let ends = |kind: &str| json!({"turn_detection": {"type": kind, "end_of_utterance_detection": end}});
        let end_param = "session.turn_detection.end_of_utterance_detection";
        let noise = |kind: &str| json!({"input_audio_noise_reduction": {"type": kind}});
        let noise_param = "session.input_audio_noise_reduction.type";
        let semantic = json!({"turn_detection": {"type": "semantic_vad"}});
        let interim = json!({"interim_response": {"type": "static_interim_response"}});
        for (session, cascade, native, azure_native) in [
            (ends("server_vad"), None, Some(end_param), Some(end_param)),
            (ends("azure_semantic_vad"), None, Some(end_param), Some(end_param)),
            (ends("azure_semantic_vad_multilingual"), None, Some(end_param), Some(end_param)),
            (semantic, Some("session.turn_detection.type"), None, None),
            (noise("near_field"), Some(noise_param), None, None),
            (noise("azure_deep_noise_suppression"), None, None, None),
            (interim, None, Some("session.interim_response"), Some("session.interim_response")),
        ] {
            for (model, agent, param) in [
                ("gpt-4.1-mini", false, cascade),
                ("", true, cascade),
                ("gpt-realtime", false, native),
                ("gpt-realtime-2.1", false, native),
                ("azure-realtime", false, azure_native),
                ("my-deployment", false, None),
            ] {
                let expected = param.map(|it| ("invalid_request_error", Some(it.to_owned())));
                assert_eq!(refusal(model, agent, session.clone()), expected, "{model} {session}");
            }
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
