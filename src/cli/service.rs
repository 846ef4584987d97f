//! From the configuration to what reaching the service needs: shared by every command that does.

use std::rc::Rc;

use crate::call::CallSettings;
use crate::call::service::session::{SessionSettings, language_fault, oddities};
use crate::config::{Config, ConfigError, ServiceConfig};
use crate::net::dial::Target;
use crate::net::tls::ClientConfigs;
use crate::session::ways::{Place, Way, Ways};
use crate::tools::Tools;

/// How the service is asked for a session: the owner's first choice, and what it may be instead.
///
/// # Errors
/// A sentence, when TLS cannot be set up.
pub fn way(config: &Config, tools: &Tools, tls: &ClientConfigs) -> Result<Way, String> {
    let place = |model: &String| -> Result<Place, String> {
        let target = target(&config.service, model, tls)?;
        Ok(Place { model: model.clone(), target })
    };
    let mut places = config.session.models.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    if places.is_empty() {
        places.push(place(&String::new())?);
    }
    let first = places.remove(0);
    let call = CallSettings {
        session: serde_json::Value::Null,
        greeting: config.session.greeting.clone(),
        idle: config.limits.idle,
        max_duration: config.limits.max_session,
    };
    Ok(Way::first(Ways {
        first,
        others: places,
        wishes: wishes(config, "", tools.schemas()),
        call,
    }))
}

/// What the settings have that is odd with a model that may be asked for, a sentence each.
#[must_use]
pub fn odd_settings(config: &Config) -> Vec<String> {
    wishes_of_all(config).flat_map(|wishes| oddities(&wishes)).collect()
}

/// What is wrong with the language beside a model that may be asked for. Calls are made without it.
#[must_use]
pub fn language_faults(config: &Config) -> Vec<String> {
    wishes_of_all(config).filter_map(|wishes| language_fault(&wishes)).collect()
}

fn wishes_of_all(config: &Config) -> impl Iterator<Item = SessionSettings> {
    let models = config.session.models.iter();
    models.map(|model| wishes(config, model, serde_json::Value::Null))
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
    }))
}

fn wishes(config: &Config, model: &str, tools: serde_json::Value) -> SessionSettings {
    SessionSettings {
        model: model.to_owned(),
        voice: config.session.voice.clone(),
        instructions: Some(config.session.instructions.clone()),
        language: config.session.language.clone(),
        tools,
        overrides: config.session.overrides.clone(),
    }
}

/// All faults, a line each.
#[must_use]
pub fn lines(faults: &[ConfigError]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
