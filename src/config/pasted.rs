//! What an endpoint's own query says, such as that of an address which somebody pasted from a sample. It
//! counts where the settings say nothing, so that no other model answers than the address names.

use super::agent;
use super::draft::{self, Draft, shown};
use super::endpoint::{OwnQuery, percent_decoded};

/// The settings that an endpoint's query can stand for.
#[derive(Debug, Default)]
pub(super) struct Pasted {
    /// Values of `api-version`.
    api_versions: Vec<String>,
    /// Values of `model`, and of `deployment`, which is Azure OpenAI's name for it.
    models: Vec<String>,
    /// What asks for an agent, which has its own model, instructions and tools.
    agent: Vec<(String, String)>,
    /// Whether the address is one of another API, whose versions mean nothing here.
    foreign: bool,
}

/// Names of the settings, as faults name them.
const VERSION: &str = "AZURE_VOICE_LIVE_API_VERSION";
const MODEL: &str = "VOICE_LIVE_MODEL";

impl Pasted {
    /// Reads an endpoint's query.
    pub(super) fn read(query: &OwnQuery) -> Self {
        let mut pasted =
            Self { foreign: query.foreign, agent: agent::asked(&query.text), ..Self::default() };
        for parameter in query.text.split('&') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = percent_decoded(value);
            if value.is_empty() {
                continue;
            }
            let values = match name.to_ascii_lowercase().as_str() {
                "api-version" => &mut pasted.api_versions,
                "model" | "deployment" => &mut pasted.models,
                _ => continue,
            };
            if !values.contains(&value) {
                values.push(value);
            }
        }
        pasted
    }

    /// Settles what counts. `set` gives name and place of a setting that the owner has made.
    ///
    /// # Errors
    /// Each contradiction, as a sentence that the endpoint's name begins.
    pub(super) fn settle(
        &self,
        draft: &mut Draft,
        set: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), Vec<String>> {
        let mut faults = Vec::new();
        let mut settle = |outcome: Result<(), String>| faults.extend(outcome.err());
        settle(self.version(draft, set(VERSION)));
        match agent::name(&self.agent, draft) {
            Some(name) => {
                draft.session.assistant = name;
                settle(self.agent(draft, set));
                settle(agent::ask(draft, &self.agent, set));
                agent::leave_to_it(draft, set);
            }
            None => settle(self.model(draft, set(MODEL))),
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn version(&self, draft: &mut Draft, set: Option<String>) -> Result<(), String> {
        let Some(version) = only("api-version", &self.api_versions)? else {
            return Ok(());
        };
        if self.foreign || *version == draft.api_version {
            return Ok(());
        }
        if let Some(set) = set {
            return Err(contradiction("api-version", version, &set));
        }
        draft.api_version = draft::word(version, 64).map_err(|fault| in_query(VERSION, &fault))?;
        note(draft, VERSION, &format!("the api-version {}", shown(version)));
        Ok(())
    }

    fn model(&self, draft: &mut Draft, set: Option<String>) -> Result<(), String> {
        let Some(model) = only("model", &self.models)? else {
            return Ok(());
        };
        if draft.session.models.first() == Some(model) && set.is_some() {
            return Ok(());
        }
        if let Some(set) = set {
            return Err(contradiction("model", model, &set));
        }
        let name = draft::word(model, 128).map_err(|fault| in_query(MODEL, &fault))?;
        draft.session.models = vec![name];
        note(draft, MODEL, &format!("the model {}", shown(model)));
        Ok(())
    }

    /// Settles what an agent that the query names means for the model.
    fn agent(&self, draft: &mut Draft, set: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
        let set = set(MODEL);
        if self.agent.is_empty() {
            let unused =
                set.map(|set| format!("{set}: not used, since an agent has its own model"));
            draft.warnings.extend(unused);
            return Ok(());
        }
        if let Some(set) = set {
            return Err(format!(
                "names an agent in its query, which has its own model, but {set} is set too; keep \
                 only one of them"
            ));
        }
        draft.warnings.push(format!(
            "{}: an agent is named in its query, so calls ask for no model and bring no tools",
            super::names::ENDPOINT
        ));
        Ok(())
    }

    /// See [`agent::incomplete`].
    pub(super) fn incomplete_agent(&self, draft: &Draft) -> Option<(&'static str, &'static str)> {
        agent::incomplete(draft, &self.agent)
    }
}

fn only<'a>(name: &str, values: &'a [String]) -> Result<Option<&'a String>, String> {
    match values {
        [] => Ok(None),
        [value] => Ok(Some(value)),
        [one, other, ..] => {
            let (one, other) = (shown(one), shown(other));
            Err(format!("has two values of {name} in its query, {one} and {other}; keep one"))
        }
    }
}

fn contradiction(name: &str, value: &str, set: &str) -> String {
    let value = shown(value);
    format!("has {name}={value} in its query, which contradicts {set}; keep only one of them")
}

fn in_query(setting: &str, fault: &str) -> String {
    format!("has a value for {setting} in its query that {fault}")
}

fn note(draft: &mut Draft, setting: &str, what: &str) {
    let endpoint = super::names::ENDPOINT;
    draft.warnings.push(format!("{endpoint}: {setting} is not set, so {what} of its query counts"));
}
