//! The `session` object, both ways: what the daemon asks for, and what the service says is so.

use serde_json::{Map, Value, json};

use super::ga;
pub use super::ga::ga_session;
use super::overlay::lay_over;
use super::settings::SAMPLE_RATE;
pub use super::settings::{Dialect, SessionSettings};
use super::transcription::{self, Transcription, transcriptions};
use crate::models::{self, Kind};

/// The `session` object of `session.update` in the dialect of dated api-versions, with the
/// transcriber that fits best.
#[must_use]
pub fn session_object(settings: &SessionSettings) -> Value {
    let session = first_session(settings);
    let best = transcriptions(settings, &session).first().copied();
    session_with(settings, best.unwrap_or(Transcription::Off), true)
}

/// The same with another transcriber, or without the language hint.
#[must_use]
pub fn session_with(settings: &SessionSettings, which: Transcription, hinted: bool) -> Value {
    let mut session = everyday(settings);
    session["input_audio_transcription"] = transcription::object(settings, which, hinted);
    lay_over(&mut session, &Value::Object(settings.overrides.clone()));
    if let Some(kind) = kind_of_named(settings) {
        session["voice"]["type"] = json!(kind);
    }
    transcription::fit_language(&mut session, settings, which, hinted);
    let echo = "input_audio_echo_cancellation";
    if session["modalities"] == json!(["text"]) && !settings.overrides.contains_key(echo) {
        // Nothing is spoken, so nothing echoes; the service refuses the default then.
        session[echo] = Value::Null;
    }
    if which == Transcription::Off {
        // An owner's options alone, without a transcriber, would be refused.
        session["input_audio_transcription"] = Value::Null;
    }
    session
}

/// The session as far as it does not depend on the transcriber, for choosing one.
#[must_use]
pub fn first_session(settings: &SessionSettings) -> Value {
    session_with(settings, Transcription::Off, false)
}

/// What is odd about the settings as a whole: sentences for the log and `check`.
#[must_use]
pub fn oddities(settings: &SessionSettings) -> Vec<String> {
    let session = first_session(settings);
    let (model, mut found) = (&settings.model, Vec::new());
    if let Some(refused) = refused_voice(model, voice_kind(&session)) {
        let setting = if owner_voice(settings).is_some() {
            "voice in AZURE_VOICE_LIVE_SESSION_FILE"
        } else {
            "AZURE_VOICE_LIVE_VOICE"
        };
        found.push(format!("{setting}: {model} refuses {refused}"));
    }
    let which = transcriptions(settings, &session).first().copied();
    if which == Some(Transcription::Off) {
        found.push(format!(
            "turn_detection in AZURE_VOICE_LIVE_SESSION_FILE: {model} has its words written down by \
             azure-speech, which the service takes only beside azure_semantic_vad or \
             azure_semantic_vad_multilingual; calls show no captions of what users say, unless you \
             set one of these or input_audio_transcription"
        ));
    }
    found.extend(wrong_dialect(settings));
    found
}

/// That the default voice gives way to one that the model has, for an owner who has named it.
#[must_use]
pub fn replaced_voice(settings: &SessionSettings) -> Option<String> {
    let (model, name) = (&settings.model, &settings.voice);
    let counts = owner_voice(settings).is_none() && gives_way(name, model);
    counts.then(|| {
        format!(
            "AZURE_VOICE_LIVE_VOICE: {model} refuses {name}, so it speaks with {} instead; set one of its \
             own voices",
            models::DEFAULT_AZURE_NATIVE_VOICE
        )
    })
}

/// Whether the default voice cannot be asked for, because the model takes only its own.
fn gives_way(name: &str, model: &str) -> bool {
    models::kind(model) == Kind::AzureNative && name == models::DEFAULT_VOICE
}

/// What of the session file this api-version has no place for.
fn wrong_dialect(settings: &SessionSettings) -> Option<String> {
    let file = "AZURE_VOICE_LIVE_SESSION_FILE";
    if settings.expected == Dialect::Beta {
        return settings.overrides.contains_key("audio").then(|| {
            format!("audio in {file}: only AZURE_VOICE_LIVE_API_VERSION=v1 has this key")
        });
    }
    let lost = ga::left_out(&Value::Object(settings.overrides.clone()));
    let detection = "turn_detection.type";
    let own_detection = settings.overrides.get("turn_detection").and_then(|own| own.get("type"));
    let lost = lost.into_iter().filter(|path| path != detection || own_detection.is_some());
    let lost: Vec<String> = lost.collect();
    (!lost.is_empty()).then(|| {
        let lost = lost.join(", ");
        format!("{file}: api-version v1 has no {lost}; left out, or replaced by what it has")
    })
}

/// A voice in the session file, in either dialect's place.
fn owner_voice(settings: &SessionSettings) -> Option<&Value> {
    let ga = settings.overrides.get("audio").and_then(|audio| audio.pointer("/output/voice"));
    ga.or_else(|| settings.overrides.get("voice"))
}

/// The type of the session's voice; empty for a name that nothing is known of.
fn voice_kind(session: &Value) -> &str {
    let output = &session["audio"]["output"];
    let ga = output.get("voice").or_else(|| output.get("voice_type"));
    let (kind, voice) = match ga {
        Some(_) => (&output["voice_type"], &output["voice"]),
        None => (&session["voice"]["type"], &session["voice"]),
    };
    match (kind.as_str(), voice.as_str()) {
        (Some(kind), _) => kind,
        (None, Some(name)) => voice_kind_of(name).unwrap_or_default(),
        (None, None) => "",
    }
}

/// The words for voices of this type, if the model refuses them. Of a deployment's name nothing is
/// known.
fn refused_voice(model: &str, kind: &str) -> Option<&'static str> {
    match (models::known_kind(model)?, kind) {
        (_, "") | (Kind::AzureNative, "azure-realtime-native") => None,
        (Kind::Cascade, "openai") => Some("voices of OpenAI; choose one of Azure's"),
        (Kind::AzureNative, "azure-standard") => {
            Some("standard voices of Azure; choose one of its own, such as ava")
        }
        (Kind::AzureNative, _) => Some("all voices but its own; choose one of these, such as ava"),
        (Kind::Native | Kind::Cascade, "azure-realtime-native") => {
            Some("voices of azure-realtime; choose another")
        }
        (Kind::Native | Kind::Cascade, _) => None,
    }
}

/// What is wrong with the language setting, since the transcriber cannot be told it.
#[must_use]
pub fn language_fault(settings: &SessionSettings) -> Option<String> {
    let which = transcriptions(settings, &first_session(settings)).first().copied()?;
    transcription::language_fault(settings, which)
}

fn everyday(settings: &SessionSettings) -> Value {
    let mut session = json!({
        "modalities": ["text", "audio"],
        "input_audio_format": "pcm16",
        "input_audio_sampling_rate": SAMPLE_RATE,
        "output_audio_format": "pcm16",
        "turn_detection": {
            "type": "azure_semantic_vad",
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 500,
            "remove_filler_words": false,
            "create_response": true,
            "interrupt_response": true,
            "auto_truncate": true,
        },
        "input_audio_noise_reduction": {"type": "azure_deep_noise_suppression"},
        "input_audio_echo_cancellation": {"type": "server_echo_cancellation"},
    });
    if !settings.voice.is_empty() {
        session["voice"] = voice(&settings.voice, &settings.model);
    }
    if let Some(instructions) = &settings.instructions {
        session["instructions"] = json!(instructions);
    }
    if settings.tools.as_array().is_some_and(|tools| !tools.is_empty()) {
        session["tools"] = settings.tools.clone();
        session["tool_choice"] = json!("auto");
    }
    session
}

/// What a `session.created` or `session.updated` says, as far as the call needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionInfo {
    /// The session's id: Azure support asks for it.
    pub id: String,
    /// The model's name as the service reports it; may differ from the one asked for.
    pub model: String,
    /// When the session ends at the latest, in seconds since 1970.
    pub expires_at: Option<u64>,
    /// The dialect its shape belongs to.
    pub dialect: Dialect,
    /// A sentence, if the audio formats are not PCM16 at 24 kHz. Absent ones are taken for it.
    pub format_fault: Option<String>,
    /// How turns are found.
    pub turns: TurnRules,
    /// `agent.thread_id`: an agent's id of the conversation. Empty without an agent.
    pub conversation: String,
    /// The session holds a `turn_detection`, be it null. Without one `turns` are the usual rules.
    pub turns_told: bool,
}

/// The effective `turn_detection`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnRules {
    /// The service finds the ends of spoken turns. If not, only a commit ends one, and the other rules
    /// mean nothing.
    pub detects: bool,
    /// The service answers a spoken turn by itself.
    pub create_response: bool,
    /// The service cancels its response when the user speaks.
    pub interrupt_response: bool,
    /// The service cuts an interrupted item to what can have been heard.
    pub auto_truncate: bool,
}

impl Default for TurnRules {
    fn default() -> Self {
        Self {
            detects: true,
            create_response: true,
            interrupt_response: true,
            auto_truncate: false,
        }
    }
}

impl SessionInfo {
    /// Reads a `session` object of either dialect.
    #[must_use]
    pub fn read(session: &Map<String, Value>) -> Self {
        let text = |key: &str| session.get(key).and_then(Value::as_str).unwrap_or_default();
        let audio = session.get("audio").filter(|audio| audio.is_object());
        let ga = audio.is_some() || text("type") == "realtime";
        let turn_detection = turn_detection(session);
        Self {
            id: super::bounded(text("id"), super::MAX_ID_BYTES),
            model: super::bounded(text("model"), super::MAX_ID_BYTES),
            expires_at: session.get("expires_at").and_then(Value::as_u64),
            dialect: if ga { Dialect::Ga } else { Dialect::Beta },
            format_fault: audio.map_or_else(|| beta_fault(session), ga_fault),
            turns: turn_rules(turn_detection),
            conversation: super::bounded(
                session
                    .get("agent")
                    .and_then(|agent| agent.get("thread_id"))
                    .and_then(Value::as_str)
                    .unwrap_or_default(),
                super::MAX_ID_BYTES,
            ),
            turns_told: turn_detection.is_some(),
        }
    }
}

impl SessionInfo {
    /// Whether the service finds the ends of spoken turns. Where it does not say, it does as `asked`,
    /// the session object that was sent.
    #[must_use]
    pub fn finds_turns(&self, asked: &Value) -> bool {
        if self.turns_told { self.turns.detects } else { detects_turns(asked) }
    }
}

/// `turn_detection` of a session in either dialect; `None` if it is not there at all.
fn turn_detection(session: &Map<String, Value>) -> Option<&Value> {
    match session.get("audio").filter(|audio| audio.is_object()) {
        Some(audio) => audio.pointer("/input/turn_detection"),
        None => session.get("turn_detection"),
    }
}

/// Whether a session object asks the service to find the ends of spoken turns. Without a word about it
/// the service does so by itself.
fn detects_turns(session: &Value) -> bool {
    let ga = session.pointer("/audio/input/turn_detection");
    ga.or_else(|| session.get("turn_detection")).is_none_or(is_detection)
}

/// `null` switches turn detection off, and some services write `none`.
fn is_detection(turns: &Value) -> bool {
    !turns.is_null() && turns["type"] != "none" && turns != "none"
}

fn turn_rules(turn_detection: Option<&Value>) -> TurnRules {
    let flag = |key: &str, default: bool| {
        turn_detection.and_then(|turns| turns.get(key)).and_then(Value::as_bool).unwrap_or(default)
    };
    TurnRules {
        detects: turn_detection.is_none_or(is_detection),
        create_response: flag("create_response", true),
        interrupt_response: flag("interrupt_response", true),
        auto_truncate: flag("auto_truncate", false),
    }
}

fn beta_fault(session: &Map<String, Value>) -> Option<String> {
    for key in ["input_audio_format", "output_audio_format"] {
        match session.get(key).and_then(Value::as_str) {
            None | Some("pcm16" | "pcm16_24000hz") => {}
            Some(other) => return Some(fault(key, other)),
        }
    }
    match session.get("input_audio_sampling_rate").and_then(Value::as_u64) {
        None | Some(SAMPLE_RATE) => None,
        Some(rate) => Some(fault("input_audio_sampling_rate", &rate.to_string())),
    }
}

fn ga_fault(audio: &Value) -> Option<String> {
    for side in ["input", "output"] {
        let Some(format) = audio.get(side).and_then(|side| side.get("format")) else {
            continue;
        };
        let kind = format.get("type").and_then(Value::as_str).or(format.as_str());
        let rate = format.get("rate").and_then(Value::as_u64);
        if !matches!(kind, None | Some("audio/pcm" | "pcm16"))
            || !matches!(rate, None | Some(SAMPLE_RATE))
        {
            return Some(fault(&format!("audio.{side}.format"), &format.to_string()));
        }
    }
    None
}

fn fault(key: &str, value: &str) -> String {
    let value = super::bounded(value, 100);
    format!(
        "The service set {key} to {value}, but this daemon only carries 16-bit PCM at 24 kHz. \
         Remove that setting from the session file."
    )
}

fn voice(name: &str, model: &str) -> Value {
    let own_voices = models::kind(model) == Kind::AzureNative;
    // A model that refuses the default gets one that it takes. An owner who has named it is told.
    let name = if gives_way(name, model) { models::DEFAULT_AZURE_NATIVE_VOICE } else { name };
    match voice_kind_of(name) {
        Some(kind) => json!({"type": kind, "name": name}),
        None if own_voices => json!({"type": "azure-realtime-native", "name": name}),
        None => json!(name),
    }
}

/// The type of an owner's voice that has a name and no type: the default's type would be wrong for it.
fn kind_of_named(settings: &SessionSettings) -> Option<&'static str> {
    let own = settings.overrides.get("voice")?.as_object()?;
    let name = own.get("name").filter(|_| !own.contains_key("type"))?;
    voice_kind_of(name.as_str()?)
}

/// The type of a voice, as far as its name tells.
fn voice_kind_of(name: &str) -> Option<&'static str> {
    if models::OPENAI_VOICES.contains(&name) {
        Some("openai")
    } else if names_azure_voice(name) {
        Some("azure-standard")
    } else if models::AZURE_NATIVE_VOICES.contains(&name) {
        Some("azure-realtime-native")
    } else {
        None
    }
}

/// Whether a name starts with a locale: `en-US-…`, `fil-PH-…`, `zh-CN-liaoning-…`.
fn names_azure_voice(name: &str) -> bool {
    let mut parts = name.splitn(3, '-');
    let language = parts.next().unwrap_or_default();
    let region = parts.next().unwrap_or_default();
    matches!(language.len(), 2..=3)
        && language.bytes().all(|byte| byte.is_ascii_lowercase())
        && matches!(region.len(), 2..=4)
        && region.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && parts.next().is_some_and(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(model: &str, voice: &str) -> SessionSettings {
        SessionSettings {
            model: model.to_owned(),
            expected: Dialect::Beta,
            voice: voice.to_owned(),
            instructions: Some("Be brief.".to_owned()),
            language: Some("en".to_owned()),
            tools: json!([]),
            overrides: Map::new(),
        }
    }

    #[test]
    fn everyday_settings_are_sent_explicitly() {
        let session =
            session_object(&settings("gpt-realtime-mini", "en-US-Ava:DragonHDLatestNeural"));
        assert_eq!(session["modalities"], json!(["text", "audio"]));
        assert_eq!(session["input_audio_sampling_rate"], 24_000);
        assert_eq!(session["turn_detection"]["type"], "azure_semantic_vad");
        assert_eq!(session["turn_detection"]["auto_truncate"], true);
        assert_eq!(
            session["input_audio_transcription"],
            json!({"model": "whisper-1", "language": "en"})
        );
        assert_eq!(session["voice"]["type"], "azure-standard");
        assert_eq!(session["instructions"], "Be brief.");
        assert!(session.get("tools").is_none());
        assert!(session.get("model").is_none());
    }

    #[test]
    fn transcriber_and_voice_follow_the_names() {
        let cascade = session_object(&settings("gpt-4.1", "marin"));
        assert_eq!(cascade["input_audio_transcription"]["model"], "azure-speech");
        assert_eq!(cascade["voice"], json!({"type": "openai", "name": "marin"}));
        assert_eq!(voice("de-DE-KatjaNeural", "x")["type"], "azure-standard");
        assert_eq!(voice("zh-CN-liaoning-XiaobeiNeural", "x")["type"], "azure-standard");
        assert_eq!(voice("ava", "azure-realtime")["type"], "azure-realtime-native");
        assert_eq!(voice("nova", "azure-realtime")["type"], "azure-realtime-native");
        assert_eq!(voice("nova", "x"), json!("nova"));
        assert_eq!(voice("en-US-", "x"), json!("en-US-"));
    }

    #[test]
    fn overrides_merge_last_and_null_switches_off() {
        let mut settings = settings("gpt-realtime", "alloy");
        settings.tools = json!([{"type": "function", "name": "t"}]);
        settings.overrides = json!({
            "turn_detection": {"threshold": 0.9, "auto_truncate": null},
            "input_audio_noise_reduction": null,
            "voice": "plain",
            "future": {"a": {"b": 1}},
        })
        .as_object()
        .unwrap()
        .clone();
        let session = session_object(&settings);
        assert_eq!(session["turn_detection"]["threshold"], 0.9);
        assert_eq!(session["turn_detection"]["silence_duration_ms"], 500);
        assert_eq!(session["turn_detection"].get("auto_truncate"), None);
        assert_eq!(session.get("input_audio_noise_reduction"), Some(&Value::Null));
        assert_eq!(session["voice"], "plain");
        assert_eq!(session["future"]["a"]["b"], 1);
        assert_eq!(session["tool_choice"], "auto");
    }

    #[test]
    fn ga_shape_moves_every_setting() {
        let mut settings = settings("gpt-realtime", "marin");
        settings.overrides = json!({"temperature": 0.8, "max_response_output_tokens": 9,
            "audio": {"output": {"speed": 1.2}}})
        .as_object()
        .unwrap()
        .clone();
        let ga = ga_session(&session_object(&settings));
        assert_eq!(ga["type"], "realtime");
        assert_eq!(ga["output_modalities"], json!(["audio"]));
        assert_eq!(ga["audio"]["input"]["format"], json!({"type": "audio/pcm", "rate": 24_000}));
        assert_eq!(ga["audio"]["output"]["voice"], "marin");
        assert_eq!(ga["audio"]["output"]["speed"], 1.2);
        assert_eq!(ga["audio"]["input"]["transcription"]["model"], "whisper-1");
        assert_eq!(ga["max_output_tokens"], 9);
        assert_eq!(ga["instructions"], "Be brief.");
        for gone in ["temperature", "modalities", "voice", "input_audio_format", "turn_detection"] {
            assert!(ga.get(gone).is_none(), "{gone}");
        }
    }

    fn read(session: &Value) -> SessionInfo {
        SessionInfo::read(session.as_object().unwrap())
    }

    #[test]
    fn effective_session_is_read_in_both_dialects() {
        let beta = read(&json!({"id": "s", "model": "m", "expires_at": 9, "modalities": ["audio"],
            "output_audio_format": null, "input_audio_format": "pcm16",
            "turn_detection": {"auto_truncate": true, "interrupt_response": false}}));
        assert_eq!((beta.dialect, beta.expires_at), (Dialect::Beta, Some(9)));
        assert_eq!(beta.format_fault, None);
        assert!(beta.turns.auto_truncate && !beta.turns.interrupt_response);
        let ga = read(&json!({"type": "realtime", "audio": {"input": {"turn_detection":
            {"create_response": false}}, "output": {"format": {"type": "audio/pcm", "rate": 24000}}}}));
        assert_eq!(ga.dialect, Dialect::Ga);
        assert!(!ga.turns.create_response && ga.format_fault.is_none());
        let usual = TurnRules::default();
        let manual = TurnRules { detects: false, ..usual };
        for (session, turns, told) in [
            (json!({}), usual, false),
            (json!({"turn_detection": {"type": "server_vad"}}), usual, true),
            (json!({"turn_detection": null}), manual, true),
            (json!({"turn_detection": {"type": "none"}}), manual, true),
            (json!({"audio": {"input": {"turn_detection": null}}}), manual, true),
            (json!({"audio": {"input": {}}, "turn_detection": null}), usual, false),
        ] {
            let info = read(&session);
            assert_eq!((info.turns, info.turns_told), (turns, told), "{session}");
        }
        assert!(detects_turns(&json!({})) && !detects_turns(&json!({"turn_detection": null})));
    }

    #[test]
    fn other_formats_are_a_fault() {
        for session in [
            json!({"input_audio_format": "g711_ulaw"}),
            json!({"output_audio_format": "pcm16_8000hz"}),
            json!({"input_audio_sampling_rate": 16_000}),
            json!({"audio": {"output": {"format": {"type": "audio/pcm", "rate": 16_000}}}}),
            json!({"audio": {"input": {"format": {"type": "audio/pcmu"}}}}),
        ] {
            assert!(read(&session).format_fault.is_some(), "{session}");
        }
    }
}
