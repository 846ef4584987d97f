//! The files that settings name, the session file before all: through the configuration and into
//! the `session` object of both dialects.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::Path;

use serde_json::Value;
use voicelived::call::service::session::{
    Dialect, SessionInfo, SessionSettings, ga_session, session_object,
};
use voicelived::config::{Config, ConfigError, Purpose, Sources};

use super::dotenv::{check_config, check_faults};

/// A session file; what is no JSON object, as each of the other files too.
pub fn fuzz_session_file(data: &[u8]) {
    match load("AZURE_VOICE_LIVE_SESSION_FILE", data) {
        Ok(config) => check_session(&config),
        Err(faults) => check_faults(&faults),
    }
    if data.starts_with(b"{") {
        return;
    }
    for variable in [
        "AZURE_VOICE_LIVE_INSTRUCTIONS_FILE",
        "AZURE_VOICE_LIVE_API_KEY_FILE",
        "VOICELIVED_ACCESS_TOKEN_FILE",
        "VOICELIVED_UPSTREAM_CA_FILE",
    ] {
        match load(variable, data) {
            Ok(config) => check_config(&config),
            Err(faults) => check_faults(&faults),
        }
    }
}

/// A configuration whose `variable` names a file with these bytes.
fn load(variable: &str, data: &[u8]) -> Result<Config, Vec<ConfigError>> {
    let mut settings = vec![
        ("AZURE_VOICE_LIVE_ENDPOINT", "https://example.services.ai.azure.com"),
        (variable, "the-file"),
    ];
    if variable != "AZURE_VOICE_LIVE_API_KEY_FILE" {
        settings.push(("AZURE_VOICE_LIVE_API_KEY", "abc"));
    }
    let settings = settings.into_iter();
    let settings = settings.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let files = |path: &Path, most: usize| -> io::Result<Vec<u8>> {
        assert_eq!(path, Path::new("the-file"));
        if data.len() > most { Err(ErrorKind::FileTooLarge.into()) } else { Ok(data.to_owned()) }
    };
    Config::load(Purpose::Service, Sources::from_environment(settings), &files)
}

/// Whatever the file says, the audio stays what `/ws` promises, in both dialects.
fn check_session(config: &Config) {
    check_config(config);
    let session = session_object(&SessionSettings {
        model: config.session.models.first().cloned().unwrap_or_default(),
        expected: Dialect::Beta,
        voice: config.session.voice.clone(),
        instructions: Some(config.session.instructions.clone()),
        language: config.session.language.clone(),
        tools: Value::Null,
        overrides: config.session.overrides.clone(),
    });
    assert_eq!(session["input_audio_format"], "pcm16");
    assert_eq!(session["input_audio_sampling_rate"], 24_000);
    assert_eq!(session["output_audio_format"], "pcm16");
    let ga = ga_session(&session);
    assert!(ga.is_object());
    // The service sends both back as the effective session.
    for (session, dialect) in [(&session, Dialect::Beta), (&ga, Dialect::Ga)] {
        let said = SessionInfo::read(session.as_object().expect("an object"));
        let asked = config.session.overrides.keys();
        if !asked.into_iter().any(|key| ["audio", "type"].contains(&key.as_str())) {
            assert_eq!((said.dialect, said.format_fault), (dialect, None), "{session}");
        }
    }
}
