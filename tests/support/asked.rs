//! `voicelived check` against a stand-in of the service: what it says, and what the service was asked for.

use std::process::Command;

use serde_json::Value;

use super::daemon::KEY;
use super::service::Service;

/// The path of the service.
pub(crate) const PATH: &str = "/voice-live/realtime";

/// What `check` says, its exit code first, and what the service was asked for.
pub(crate) struct Asked {
    pub(crate) code: Option<i32>,
    pub(crate) told: String,
    pub(crate) target: String,
    pub(crate) session: Value,
}

/// Runs `check` against a stand-in of the service at this path and query, with these settings besides.
pub(crate) fn check(path_and_query: &str, settings: &[(&str, &str)]) -> Asked {
    let service = Service::new();
    let output = Command::new(env!("CARGO_BIN_EXE_voicelived"))
        .arg("check")
        .env_clear()
        .env("AZURE_VOICE_LIVE_ENDPOINT", format!("ws://{}{path_and_query}", service.address))
        .env("AZURE_VOICE_LIVE_API_KEY", KEY)
        .envs(settings.iter().copied())
        .current_dir(std::env::temp_dir())
        .output()
        .expect("it runs");
    let told = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
    let call = service.calls().into_iter().next();
    let (target, session) = call.map_or_else(Default::default, |call| {
        let target = call.head.split_whitespace().nth(1).expect("a target").to_owned();
        (target, call.session)
    });
    Asked { code: output.status.code(), told, target, session }
}
