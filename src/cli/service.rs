//! Makes of the configuration what is needed to reach the service. Every command that reaches it uses
//! this.

use std::rc::Rc;

use crate::call::service::session::{
    Dialect, SessionSettings, language_fault, oddities, replaced_voice,
};
use crate::call::{Assistant, CallSettings};
use crate::config::{Config, ConfigError, ServiceConfig};
use crate::net::dial::Target;
use crate::net::tls::ClientConfigs;
use crate::server::Mcp;
use crate::session::candidates::{Candidate, Candidates, ModelTarget};
use crate::tools::Tools;

/// The owner's first choice for a session. It knows the candidates to fall back to.
///
/// # Errors
/// A sentence, when TLS cannot be set up.
pub fn first_candidate(
    config: &Config,
    tools: &Tools,
    tls: &ClientConfigs,
) -> Result<Candidate, String> {
    candidate(config, tools, tls, None)
}

/// [`first_candidate`] of the assistant that a client has asked for.
///
/// # Errors
/// As there.
pub fn candidate(
    config: &Config,
    tools: &Tools,
    tls: &ClientConfigs,
    chosen: Option<Rc<Assistant>>,
) -> Result<Candidate, String> {
    let model_target = |model: &String| -> Result<ModelTarget, String> {
        let target = target(&config.service, model, tls)?;
        Ok(ModelTarget { model: model.clone(), target })
    };
    let mut models =
        config.session.models.iter().map(model_target).collect::<Result<Vec<_>, _>>()?;
    if models.is_empty() {
        models.push(model_target(&String::new())?);
    }
    let first = models.remove(0);
    let call = CallSettings {
        assistant: config.session.assistant.clone(),
        chosen,
        session: serde_json::Value::Null,
        greeting: config.session.greeting.clone(),
        idle: config.limits.idle,
        max_duration: config.limits.max_session,
        reconnect: config.limits.reconnect,
        continue_reply: config.limits.continue_reply,
        reversible_barge_in: config.limits.reversible_barge_in,
        session_time: config.limits.session_time.unwrap_or_default(),
        resume: config.limits.resume,
    };
    Ok(Candidate::first(Candidates {
        first,
        others: models,
        session: session_settings(config, "", call.offer(&tools.schemas())),
        call,
    }))
}

/// The MCP servers, for the loop.
#[must_use]
pub fn mcp(config: &Config) -> Mcp {
    Mcp {
        servers: config.mcp.servers.clone(),
        faulty: config.mcp.faulty.clone(),
        schema_budget: config.mcp.schema_budget,
        authorities: config.service.extra_authorities.iter().map(|it| it.to_vec()).collect(),
    }
}

/// What is odd in the settings beside one of the models that a call may ask for, a sentence each.
#[must_use]
pub fn odd_settings(config: &Config) -> Vec<String> {
    let mut found: Vec<String> =
        all_session_settings(config).flat_map(|settings| oddities(&settings)).collect();
    if config.session.voice_is_chosen {
        found.extend(all_session_settings(config).filter_map(|settings| replaced_voice(&settings)));
    }
    found
}

/// Why a model that a call may ask for does not take the language, a sentence each. Its calls leave
/// the language out.
#[must_use]
pub fn language_faults(config: &Config) -> Vec<String> {
    all_session_settings(config).filter_map(|settings| language_fault(&settings)).collect()
}

fn all_session_settings(config: &Config) -> impl Iterator<Item = SessionSettings> {
    let models = config.session.models.iter();
    models.map(|model| session_settings(config, model, serde_json::Value::Null))
}

/// Where the service is and how to log in.
fn target(service: &ServiceConfig, model: &str, tls: &ClientConfigs) -> Result<Rc<Target>, String> {
    let mut endpoint = service.endpoint.clone();
    endpoint.set_query(&service.api_version, model);
    let tls = endpoint.tls.then(|| tls.trusting(&service.extra_authorities)).transpose()?;
    Ok(Rc::new(Target {
        host: endpoint.host.clone(),
        port: endpoint.port,
        request_target: endpoint.path_and_query.clone(),
        host_field: endpoint.authority(),
        credential: format!("api-key: {}", service.key.expose()),
        tls,
        proxy: service.proxy.clone(),
    }))
}

/// Only the evergreen `v1` speaks GA; each dated version speaks the older dialect.
fn expected_dialect(api_version: &str) -> Dialect {
    if api_version == "v1" { Dialect::Ga } else { Dialect::Beta }
}

fn session_settings(config: &Config, model: &str, tools: serde_json::Value) -> SessionSettings {
    // An agent has instructions and tools of its own; the service refuses others.
    let is_agent = config.session.models.is_empty();
    SessionSettings {
        model: model.to_owned(),
        expected: expected_dialect(&config.service.api_version),
        voice: config.session.voice.clone(),
        instructions: (!is_agent).then(|| config.session.instructions.clone()),
        language: config.session.language.clone(),
        tools: if is_agent { serde_json::Value::Null } else { tools },
        overrides: config.session.overrides.clone(),
    }
}

/// All faults, a line each.
#[must_use]
pub fn lines(faults: &[ConfigError]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
