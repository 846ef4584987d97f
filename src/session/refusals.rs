//! Whether a refusal concerns a choice that may be made otherwise: the model, the transcriber, the
//! language.
//!
//! No refusal of this path was ever recorded, so it is judged by its words, in any of Azure's and
//! OpenAI's shapes. Taking another refusal for one of these costs a second connection, which is
//! refused in the same way; only what the service has taken is remembered.

use super::service_words::Words;
use crate::call::service::ServiceError;
use crate::net::dial::DialError;

/// What the service refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The model.
    Model,
    /// What writes down the user's words.
    Transcriber,
    /// The language that it is told.
    Language,
}

/// Whether the answer to the upgrade refuses `model`; the service's words for it. Only 400, 404 and
/// 410 can: all others are about credentials, quotas or the service itself.
#[must_use]
pub fn model_refusal(error: &DialError, model: &str) -> Option<String> {
    let DialError::Refused(refusal, body) = error else {
        return None;
    };
    if ![400, 404, 410].contains(&refusal.status) {
        return None;
    }
    let words = Words::of_body(body);
    words.name_model(model).then(|| format!("{} {}", refusal.status, words.quoted()))
}

/// What an `error` event refuses that comes before the session is configured, and its words.
#[must_use]
pub fn choice_refusal(error: &ServiceError, model: &str) -> Option<(Refused, String)> {
    let words = Words {
        codes: format!("{} {}", error.code, error.kind),
        param: error.param.clone(),
        message: error.message.clone(),
    };
    let refused = if words.name_language() {
        Refused::Language
    } else if words.name_transcriber() {
        Refused::Transcriber
    } else if words.name_model(model) {
        Refused::Model
    } else {
        return None;
    };
    Some((refused, words.quoted()))
}

impl Words {
    /// The setting that it is about, without what the dialects put in front.
    fn setting(&self) -> &str {
        self.param.trim_start_matches("session.").trim_start_matches("audio.")
    }

    fn name_transcriber(&self) -> bool {
        let about = |text: &str| text.to_ascii_lowercase().contains("transcription");
        match self.setting() {
            "" => about(&self.codes),
            // Seen: `session.turn_detection`, for a transcriber that needs another one.
            "turn_detection" | "input.turn_detection" => about(&self.message),
            setting => about(setting),
        }
    }

    fn name_language(&self) -> bool {
        let codes = self.codes.to_ascii_lowercase();
        self.setting().ends_with("transcription.language")
            || (codes.contains("transcription") && codes.contains("language"))
    }

    /// By its code, by the parameter, or in its message: by name, or as "the model" that is not
    /// there. A refusal about another parameter is none of the model.
    fn name_model(&self, model: &str) -> bool {
        if !matches!(self.setting(), "" | "model") {
            return false;
        }
        if self.setting() == "model" || self.codes.split_whitespace().any(is_model_code) {
            return !self.is_missing_parameter();
        }
        let message = self.message.to_ascii_lowercase().replace("voice live", "");
        let about_others = ["api-version", "api version", "transcri", "voice", "agent"];
        if self.is_missing_parameter() || about_others.iter().any(|word| message.contains(word)) {
            return false;
        }
        let is_named = !model.is_empty() && has_word(&message, &model.to_ascii_lowercase());
        let is_meant = has_word(&message, "model") || has_word(&message, "deployment");
        is_named || (is_meant && NEGATIONS.iter().any(|word| message.contains(word)))
    }

    /// That a model must be named is nothing that another name mends.
    fn is_missing_parameter(&self) -> bool {
        let codes = self.codes.to_ascii_lowercase();
        let message = self.message.to_ascii_lowercase();
        codes.contains("missing") || message.contains("missing") || message.contains("required")
    }
}

/// How a message says that there is no such thing, or no longer.
const NEGATIONS: [&str; 14] = [
    "not found",
    "not exist",
    "not support",
    "unsupported",
    "invalid",
    "not valid",
    "unknown",
    "unrecognized",
    "not available",
    "unavailable",
    "no longer",
    "retired",
    "deprecated",
    "not work",
];

/// `model_not_found`, `invalid_model`, `DeploymentNotFound`, `unsupported_model`, `ModelDeprecated`…
fn is_model_code(code: &str) -> bool {
    let letters = code.chars().filter(char::is_ascii_alphanumeric);
    let code: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
    let of_others = ["transcri", "voice", "avatar", "embedding"];
    let named = code.contains("model") || code == "deploymentnotfound";
    named && !of_others.iter().any(|word| code.contains(word))
}

/// Whether `text` holds `word` and not only as a part of another, as `gpt-4` is one of `gpt-4.1`.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '-' || letter == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let mut after = text[at + word.len()..].chars();
        let next = after.next();
        // A full stop ends a sentence, but within a name it is a part of it.
        let goes_on = next.is_some_and(is_part)
            || (next == Some('.') && after.next().is_some_and(char::is_alphanumeric));
        !before.is_some_and(is_part) && !goes_on
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::upgrade::Refusal;

    fn refuses(status: u16, body: &str) -> bool {
        let refusal = Refusal { status, ..Refusal::default() };
        let error = DialError::Refused(refusal, body.to_owned());
        model_refusal(&error, "gpt-realtime-mini").is_some()
    }

    #[test]
    fn a_refusal_of_the_model_is_found_in_every_shape() {
        for body in [
            r#"{"error":{"code":"model_not_found","message":"no"}}"#,
            r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}"#,
            r#"{"error":{"code":"invalid_model","message":"","param":null}}"#,
            r#"{"error":{"code":"unsupported_model"}}"#,
            r#"{"error":{"code":"ModelDeprecated","type":"","param":null}}"#,
            r#"{"error":{"code":"BadRequest","innererror":{"code":"ModelNotFound"}}}"#,
            r#"{"error":{"code":"400","message":"Bad value.","param":"model"}}"#,
            r#"{"error":{"code":"400","message":"Model gpt-realtime-mini has ended."}}"#,
            r#"{"error":{"code":"404","message":"gpt-realtime-mini: nothing there."}}"#,
            r#"{"error":{"code":"404","message":"The model is not available in this region."}}"#,
            r#"{"error":{"code":"400","message":"Unsupported model for Voice Live."}}"#,
            r#"{"error":"The model does not exist."}"#,
            r#"{"code":"OperationNotSupported","message":"The operation does not work with the specified model, gpt-realtime-mini."}"#,
            r#"{"statusCode":404,"message":"The model was retired"}"#,
            "unknown model",
        ] {
            for status in [400, 404, 410] {
                assert!(refuses(status, body), "{status} {body}");
            }
            for status in [302, 401, 403, 409, 429, 500, 503] {
                assert!(!refuses(status, body), "{status} {body}");
            }
        }
    }

    #[test]
    fn other_refusals_are_left_as_they_are() {
        for body in [
            "",
            "null",
            "<html>The model is not found</html>",
            r#"{"error":{"code":"404","message":"Resource not found"}}"#,
            r#"{"error":{"code":"BadRequest","message":"The request is not valid."}}"#,
            r#"{"error":{"code":"BadRequest","message":"The api-version query parameter is required."}}"#,
            r#"{"error":{"code":"BadRequest","message":"Unsupported API version for model gpt-realtime-mini."}}"#,
            r#"{"error":{"code":"BadRequest","message":"The model query parameter, or agent-name, is required."}}"#,
            r#"{"error":{"code":"missing_required_parameter","message":"Missing: model","param":"model"}}"#,
            r#"{"error":{"code":"missing_parameter","message":"","param":"model"}}"#,
            r#"{"error":{"code":"400","message":"It is missing.","param":"model"}}"#,
            r#"{"error":{"code":"400","message":"Missing required agent connection string or project name"}}"#,
            r#"{"error":{"code":"400","message":"gpt-realtime-mini-2 is something else."}}"#,
            r#"{"error":{"code":"400","message":"not supported with gpt-realtime-mini","param":"session.voice"}}"#,
        ] {
            for status in [400, 404] {
                assert!(!refuses(status, body), "{status} {body}");
            }
        }
        let timeout = DialError::Timeout("the WebSocket upgrade");
        assert_eq!(model_refusal(&timeout, "model"), None);
    }

    fn of_event(code: &str, param: &str, message: &str) -> Option<Refused> {
        let [code, param, message] = [code, param, message].map(str::to_owned);
        let kind = "invalid_request_error".to_owned();
        let error = ServiceError { kind, code, param, message, ..ServiceError::default() };
        choice_refusal(&error, "gpt-4").map(|(refused, _)| refused)
    }

    #[test]
    fn an_error_event_refuses_one_of_three_or_none() {
        let recorded = "When using azure-speech as InputAudioTranscription, turn_detection must be \
                        of type AzureSemanticVAD or AzureMultilingualSemanticVAD.";
        for (code, param, message, expected) in [
            ("invalid_input_audio_transcription_model", "", "", Some(Refused::Transcriber)),
            (
                "invalid_request_error",
                "session.turn_detection",
                recorded,
                Some(Refused::Transcriber),
            ),
            (
                "invalid_value",
                "session.input_audio_transcription.model",
                "",
                Some(Refused::Transcriber),
            ),
            (
                "invalid_value",
                "session.audio.input.transcription.model",
                "",
                Some(Refused::Transcriber),
            ),
            (
                "invalid_value",
                "session.input_audio_transcription.language",
                "",
                Some(Refused::Language),
            ),
            (
                "invalid_value",
                "session.audio.input.transcription.language",
                "",
                Some(Refused::Language),
            ),
            ("model_not_found", "", "", Some(Refused::Model)),
            ("invalid_value", "model", "", Some(Refused::Model)),
            ("", "", "The model 'gpt-4' is gone.", Some(Refused::Model)),
            ("", "", "The model 'gpt-4.1' is here.", None),
            ("invalid_value", "session.voice.name", "Unknown voice for model gpt-4.", None),
            ("invalid_value", "session.turn_detection", "Unknown type.", None),
            ("server_error", "", "Something went wrong.", None),
            ("session_expired", "", "", None),
        ] {
            assert_eq!(of_event(code, param, message), expected, "{code} {param} {message}");
        }
    }

    #[test]
    fn the_words_are_one_bounded_line() {
        let error = ServiceError {
            code: "model_not_found".to_owned(),
            message: format!("no\r\n{}", "x".repeat(999)),
            ..ServiceError::default()
        };
        let (_, said) = choice_refusal(&error, "m").unwrap();
        assert!(said.ends_with("(model_not_found)") && said.len() < 400 && !said.contains('\n'));
    }
}
