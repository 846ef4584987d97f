//! From the configuration to what reaching the service needs: shared by every command that does.

use std::rc::Rc;

use crate::call::CallSettings;
use crate::call::service::session::{SessionSettings, session_object};
use crate::config::{Config, ConfigError, ServiceConfig};
use crate::net::dial::Target;
use crate::net::tls::ClientConfigs;
use crate::tools::Tools;

/// Where the service is and how to log in.
///
/// # Errors
/// A sentence, when TLS cannot be set up.
pub fn target(service: &ServiceConfig, tls: &ClientConfigs) -> Result<Rc<Target>, String> {
    let endpoint = &service.endpoint;
    let tls = endpoint.tls.then(|| tls.trusting(&service.extra_authorities)).transpose()?;
    Ok(Rc::new(Target {
        host: endpoint.host.clone(),
        port: endpoint.port,
        request_target: endpoint.path_and_query.clone(),
        host_field: endpoint.authority(),
        credential: format!("api-key: {}", service.key.expose()),
        tls,
    }))
}

/// What every call starts with.
#[must_use]
pub fn call_settings(config: &Config, tools: &Tools) -> CallSettings {
    let session = SessionSettings {
        model: config.session.model.clone(),
        voice: config.session.voice.clone(),
        instructions: Some(config.session.instructions.clone()),
        language: config.session.language.clone(),
        tools: tools.schemas(),
        overrides: config.session.overrides.clone(),
    };
    CallSettings {
        session: session_object(&session),
        greeting: config.session.greeting.clone(),
        idle: config.limits.idle,
        max_duration: config.limits.max_session,
    }
}

/// All faults, a line each.
#[must_use]
pub fn lines(faults: &[ConfigError]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
