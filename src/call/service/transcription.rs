//! What writes down the user's words: it follows the model, the turn detection and the language, and
//! an owner's own setting wins.

use serde_json::{Value, json};

use super::settings::{Dialect, SessionSettings};
use crate::models::{self, AZURE_SPEECH, Kind, MAI_TRANSCRIBE, WHISPER};

/// How the user's words are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transcription {
    /// By what the owner's session file names, or not at all if it says so.
    Owner,
    /// By this transcriber.
    By(&'static str),
    /// Not at all: no transcriber that is known would be taken. The call works without captions.
    Off,
}

/// How the words may be written down, the best first; each is for when the one before is refused.
#[must_use]
pub fn transcriptions(settings: &SessionSettings, session: &Value) -> Vec<Transcription> {
    if owner_sets_transcriber(settings) {
        return vec![Transcription::Owner];
    }
    let azure = takes_azure_speech(settings, session).then_some(AZURE_SPEECH);
    let speaks_to_whisper = language(settings).is_none_or(|text| hint(WHISPER, text).is_some());
    let order = if settings.expected == Dialect::Ga && azure.is_none() {
        // Its contract has no Azure detection, without which only text models take azure-speech. It names
        // whisper-1, which most models refuse; every model's page has the other one.
        [Some(WHISPER), Some(MAI_TRANSCRIBE)]
    } else if models::takes_whisper(&settings.model) {
        // Several languages are more than it can be told.
        match azure {
            Some(azure) if !speaks_to_whisper => [Some(azure), Some(WHISPER)],
            azure => [Some(WHISPER), azure],
        }
    } else {
        [azure, azure.and(Some(WHISPER))]
    };
    order.into_iter().flatten().map(Transcription::By).chain([Transcription::Off]).collect()
}

/// The name of the transcriber, if there is one.
#[must_use]
pub fn transcriber(settings: &SessionSettings, which: Transcription) -> Option<&str> {
    match which {
        Transcription::Owner => owner(settings)?.get("model").and_then(Value::as_str),
        Transcription::By(name) => Some(name),
        Transcription::Off => None,
    }
}

/// The value of `input_audio_transcription` before the owner's overrides.
pub(super) fn object(settings: &SessionSettings, which: Transcription, hinted: bool) -> Value {
    let Some(name) = transcriber(settings, which) else {
        return Value::Null;
    };
    let mut object = json!({ "model": name });
    let language = settings.language.as_deref().filter(|_| hinted);
    if let Some(language) = language.and_then(|language| hint(name, language)) {
        object["language"] = json!(language);
    }
    object
}

/// The language that the user speaks: of the owner's session file, or else of its own setting.
#[must_use]
pub fn language(settings: &SessionSettings) -> Option<&str> {
    match owner(settings).and_then(|own| own.get("language")) {
        Some(own) => own.as_str(),
        None => settings.language.as_deref(),
    }
}

/// A language of the owner's session file gets the form that the transcriber takes, too, or is left out.
pub(super) fn fit_language(
    session: &mut Value,
    settings: &SessionSettings,
    which: Transcription,
    hinted: bool,
) {
    let Some(object) = session["input_audio_transcription"].as_object_mut() else {
        return;
    };
    let Some(name) = transcriber(settings, which) else { return };
    if object.get("language").is_some_and(Value::is_string) {
        let told = language(settings).filter(|_| hinted).and_then(|it| hint(name, it));
        match told {
            Some(told) => object.insert("language".to_owned(), told.into()),
            None => object.remove("language"),
        };
    }
}

/// The language setting in the form that a transcriber takes; `None` if it cannot be told so.
/// OpenAI's take one language of two letters, Azure's up to ten BCP 47 tags (which the setting's
/// parser holds it to).
#[must_use]
pub fn hint(transcriber: &str, language: &str) -> Option<String> {
    if !models::is_openai_transcriber(transcriber) {
        return Some(language.to_owned());
    }
    let primary = language.split('-').next().unwrap_or_default();
    let single = !language.contains(',') && primary.len() == 2;
    (single && primary.bytes().all(|byte| byte.is_ascii_alphabetic()))
        .then(|| primary.to_ascii_lowercase())
}

/// What is wrong with the language setting beside the transcriber, and what to set.
pub(super) fn language_fault(settings: &SessionSettings, which: Transcription) -> Option<String> {
    let told = language(settings)?;
    let name = transcriber(settings, which)?;
    if hint(name, told).is_some() {
        return None;
    }
    let setting = match owner(settings).and_then(|own| own.get("language")) {
        Some(_) => "language of input_audio_transcription in AZURE_VOICE_LIVE_SESSION_FILE",
        None => "AZURE_VOICE_LIVE_LANGUAGE",
    };
    let other = match which {
        Transcription::Owner => "choose azure-speech in AZURE_VOICE_LIVE_SESSION_FILE",
        _ if settings.expected == Dialect::Ga => {
            "let AZURE_VOICE_LIVE_API_VERSION be a dated one, with which azure-speech is chosen"
        }
        _ => {
            "let turn_detection in AZURE_VOICE_LIVE_SESSION_FILE be of type azure_semantic_vad, with \
             which azure-speech is chosen"
        }
    };
    Some(format!(
        "{setting}: {name}, which writes down what is said to {}, takes one language \
         of two letters such as en, so it is told none; set one, or {other}, which takes up to ten",
        settings.model
    ))
}

/// Whether the service takes `azure-speech` beside this model and turn detection. It was seen to
/// refuse all but these two types on `gpt-realtime`.
fn takes_azure_speech(settings: &SessionSettings, session: &Value) -> bool {
    let own = session.pointer("/audio/input/turn_detection");
    let turns = own.unwrap_or_else(|| &session["turn_detection"]);
    let semantic = ["azure_semantic_vad", "azure_semantic_vad_multilingual"];
    if models::kind(&settings.model) == Kind::Cascade {
        return true;
    }
    // What the session has of Azure's detections does not reach a GA service, but for the owner's own.
    let reaches_it = settings.expected == Dialect::Beta || own.is_some();
    reaches_it && turns["type"].as_str().is_some_and(|kind| semantic.contains(&kind))
}

/// The owner's own setting, by either dialect's name.
fn owner(settings: &SessionSettings) -> Option<&Value> {
    let dated = settings.overrides.get("input_audio_transcription");
    let ga = settings.overrides.get("audio");
    ga.and_then(|audio| audio.pointer("/input/transcription")).or(dated)
}

/// A setting without a model says nothing of the transcriber; `null` says that there is to be none.
fn owner_sets_transcriber(settings: &SessionSettings) -> bool {
    owner(settings).is_some_and(|own| !own.is_object() || own.get("model").is_some())
}

#[cfg(test)]
mod tests {
    use super::super::session::{SessionSettings, first_session, session_with};
    use super::*;
    use Transcription::{By, Off, Owner};

    fn settings(model: &str, language: Option<&str>, overrides: Value) -> SessionSettings {
        SessionSettings {
            model: model.to_owned(),
            expected: Dialect::Beta,
            voice: models::DEFAULT_VOICE.to_owned(),
            instructions: None,
            language: language.map(str::to_owned),
            tools: json!([]),
            overrides: overrides.as_object().unwrap().clone(),
        }
    }

    fn order(model: &str, language: Option<&str>, overrides: Value) -> Vec<Transcription> {
        let settings = settings(model, language, overrides);
        transcriptions(&settings, &first_session(&settings))
    }

    #[test]
    fn the_transcriber_follows_the_model() {
        let (whisper, azure) = (By(WHISPER), By(AZURE_SPEECH));
        for model in ["gpt-realtime", "gpt-realtime-mini"] {
            assert_eq!(order(model, None, json!({})), [whisper, azure, Off], "{model}");
            assert_eq!(order(model, Some("en-US"), json!({}))[0], whisper);
        }
        for model in
            ["gpt-realtime-2.1-mini", "gpt-realtime-datazone", "gpt-4.1", "azure-realtime", ""]
        {
            assert_eq!(order(model, None, json!({})), [azure, whisper, Off], "{model}");
        }
    }

    #[test]
    fn azure_speech_is_asked_for_only_beside_a_detection_that_allows_it() {
        let server = || json!({"turn_detection": {"type": "server_vad"}});
        let none = || json!({"turn_detection": null});
        let ga = || json!({"audio": {"input": {"turn_detection": {"type": "server_vad"}}}});
        for overrides in [server, none, ga] {
            assert_eq!(order("gpt-realtime-2.1-mini", None, overrides()), [Off]);
            assert_eq!(order("gpt-realtime", Some("en,de"), overrides()), [By(WHISPER), Off]);
            assert_eq!(order("gpt-4.1", None, overrides())[0], By(AZURE_SPEECH));
        }
        let multilingual = json!({"turn_detection": {"type": "azure_semantic_vad_multilingual"}});
        assert_eq!(order("gpt-realtime-2.1-mini", None, multilingual)[0], By(AZURE_SPEECH));
    }

    #[test]
    fn several_languages_are_for_azure_speech() {
        for language in ["en,de", "fil-PH"] {
            let order = order("gpt-realtime", Some(language), json!({}));
            assert_eq!(order, [By(AZURE_SPEECH), By(WHISPER), Off], "{language}");
        }
    }

    #[test]
    fn an_owners_own_setting_wins() {
        for own in [json!({"model": "mai-transcribe-2"}), json!(null)] {
            let dated = json!({ "input_audio_transcription": own });
            let ga = json!({"audio": {"input": { "transcription": own }}});
            assert_eq!(order("gpt-realtime", None, dated), [Owner]);
            assert_eq!(order("gpt-realtime", None, ga), [Owner]);
        }
        let hint = json!({"input_audio_transcription": {"language": "fr"}});
        assert_eq!(order("gpt-realtime", None, hint)[0], By(WHISPER));
    }

    #[test]
    fn the_language_has_the_form_that_the_transcriber_takes() {
        for (transcriber, language, expected) in [
            (WHISPER, "en-US", Some("en")),
            (WHISPER, "DE", Some("de")),
            ("gpt-4o-transcribe", "pt-BR", Some("pt")),
            (WHISPER, "en,de", None),
            (WHISPER, "fil-PH", None),
            (AZURE_SPEECH, "en-US", Some("en-US")),
            (AZURE_SPEECH, "en-US,de-DE", Some("en-US,de-DE")),
            ("mai-transcribe", "en,de", Some("en,de")),
        ] {
            assert_eq!(
                hint(transcriber, language).as_deref(),
                expected,
                "{transcriber} {language}"
            );
        }
    }

    #[test]
    fn the_owners_transcriber_gets_the_language_in_its_form() {
        let own = json!({"input_audio_transcription": {"model": "whisper-1"}});
        let told = |language| {
            let settings = settings("gpt-realtime", Some(language), own.clone());
            (session_with(&settings, Owner, true), language_fault(&settings, Owner))
        };
        let (session, fault) = told("en-US");
        assert_eq!(
            session["input_audio_transcription"],
            json!({"model": "whisper-1", "language": "en"})
        );
        assert_eq!(fault, None);
        let (session, fault) = told("en,de");
        assert_eq!(session["input_audio_transcription"], json!({"model": "whisper-1"}));
        assert!(fault.is_some_and(|fault| fault.contains("choose azure-speech")));
    }

    #[test]
    fn what_helps_against_a_language_that_is_not_taken_depends_on_the_api() {
        for (expected, help) in [
            (Dialect::Beta, "be of type azure_semantic_vad"),
            (Dialect::Ga, "AZURE_VOICE_LIVE_API_VERSION be a dated one"),
        ] {
            let settings = settings("gpt-realtime", Some("en,de"), json!({}));
            let settings = SessionSettings { expected, ..settings };
            let fault = language_fault(&settings, By(WHISPER)).expect("it takes one language");
            assert!(fault.contains(help), "{fault}");
        }
    }

    #[test]
    fn a_hint_that_was_refused_is_left_out_and_none_is_off() {
        let settings = settings(
            "gpt-4.1",
            Some("de-DE"),
            json!({"input_audio_transcription":
            {"phrase_list": ["Ava"]}}),
        );
        let session = session_with(&settings, By(AZURE_SPEECH), false);
        assert_eq!(
            session["input_audio_transcription"],
            json!({"model": "azure-speech", "phrase_list": ["Ava"]})
        );
        let session = session_with(&settings, Off, true);
        assert_eq!(session.get("input_audio_transcription"), Some(&Value::Null));
    }
}
