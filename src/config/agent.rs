//! A Foundry agent that holds the conversation in place of a model: asked for by settings, by the query of
//! a pasted endpoint, or by both. All becomes parameters of the endpoint's query, since that is how the
//! service is asked (the SDK's `AgentSessionConfig`).

use super::draft::{self, Draft, shown};
use super::endpoint::{AGENT_PARAMETERS, agent_parameter, percent_decoded};
use super::names::VOICE;
use crate::net::upgrade::percent_encoded;

pub(super) const NAME: &str = "AZURE_VOICE_LIVE_AGENT_NAME";
pub(super) const PROJECT: &str = "AZURE_VOICE_LIVE_PROJECT_NAME";

/// Each setting, and the query's parameter that says the same.
pub(super) const SETTINGS: [(&str, &str); 6] = [
    (NAME, AGENT_PARAMETERS[0]),
    (PROJECT, AGENT_PARAMETERS[1]),
    ("AZURE_VOICE_LIVE_AGENT_VERSION", AGENT_PARAMETERS[2]),
    ("AZURE_VOICE_LIVE_CONVERSATION_ID", AGENT_PARAMETERS[3]),
    ("AZURE_VOICE_LIVE_AGENT_AUTHENTICATION_IDENTITY_CLIENT_ID", AGENT_PARAMETERS[4]),
    ("AZURE_VOICE_LIVE_FOUNDRY_RESOURCE_OVERRIDE", AGENT_PARAMETERS[5]),
];

const INSTRUCTIONS: [&str; 2] =
    ["AZURE_VOICE_LIVE_INSTRUCTIONS", "AZURE_VOICE_LIVE_INSTRUCTIONS_FILE"];
const SESSION_FILE: &str = "AZURE_VOICE_LIVE_SESSION_FILE";

pub(super) fn parse(draft: &mut Draft, at: usize, text: &str) -> Result<(), String> {
    draft.agent.push((at, draft::line(text, 256)?));
    Ok(())
}

/// The parameters of the query that ask for an agent, decoded.
pub(super) fn asked(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let pairs = pairs.map(|(name, value)| (agent_parameter(name), percent_decoded(value)));
    let known = |name: &str| name == "agent-id" || SETTINGS.iter().any(|(_, it)| *it == name);
    pairs.filter(|(name, value)| known(name) && !value.is_empty()).collect()
}

/// The agent's name, if one is asked for.
pub(super) fn name(pasted: &[(String, String)], draft: &Draft) -> Option<String> {
    let of_query = |wanted| pasted.iter().find(|(name, _)| name == wanted);
    let pasted = of_query("agent-name").or_else(|| of_query("agent-id"));
    let set = || draft.agent.iter().find(|(at, _)| *at == 0);
    pasted.map(|(_, value)| value).or_else(|| set().map(|(_, value)| value)).cloned()
}

/// Adds what the settings say to the endpoint's query. `set` gives name and place of a setting.
///
/// # Errors
/// What the query says otherwise, as a sentence that the endpoint's name begins.
pub(super) fn ask(
    draft: &mut Draft,
    pasted: &[(String, String)],
    set: &dyn Fn(&str) -> Option<String>,
) -> Result<(), String> {
    for (at, value) in &draft.agent {
        let (setting, parameter) = SETTINGS[*at];
        let mut rivals = pasted.iter().filter(|(name, _)| name == parameter);
        match rivals.next() {
            Some((_, rival)) if rival == value => {}
            Some((_, rival)) => {
                return Err(format!(
                    "has {parameter}={} in its query, which contradicts {}; keep only one of them",
                    shown(rival),
                    set(setting).unwrap_or_default()
                ));
            }
            None => {
                if let Some(endpoint) = &mut draft.endpoint {
                    let target = &mut endpoint.path_and_query;
                    target.push(if target.contains('?') { '&' } else { '?' });
                    target.push_str(&format!("{parameter}={}", percent_encoded(value)));
                }
            }
        }
    }
    Ok(())
}

/// The setting that is missing beside those that are set, and one of these.
pub(super) fn incomplete(
    draft: &Draft,
    pasted: &[(String, String)],
) -> Option<(&'static str, &'static str)> {
    let (first, _) = draft.agent.first()?;
    let is_there = |at: usize| {
        draft.agent.iter().any(|(set, _)| *set == at)
            || pasted.iter().any(|(name, _)| *name == SETTINGS[at].1)
    };
    let missing = (0..2).find(|at| !is_there(*at))?;
    Some((SETTINGS[missing].0, SETTINGS[*first].0))
}

/// Leaves to the agent what is its own: the service takes no model and refuses instructions beside it, and
/// a voice that nobody has chosen would replace the agent's.
pub(super) fn leave_to_it(draft: &mut Draft, set: &dyn Fn(&str) -> Option<String>) {
    draft.session.models.clear();
    if set(VOICE).is_none() {
        draft.session.voice.clear();
    }
    let mut unused: Vec<String> = INSTRUCTIONS.into_iter().filter_map(set).collect();
    if draft.session.overrides.remove("instructions").is_some() {
        unused.push(format!("instructions in {SESSION_FILE}"));
    }
    let unused =
        unused.into_iter().map(|it| format!("{it}: not sent, since the agent has its own"));
    draft.warnings.extend(unused);
}
