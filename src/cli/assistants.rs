//! The folder with the owner's assistants, one JSON file each: read, judged, listed, and made ready for calls.

use std::rc::Rc;

use serde_json::{Map, Value};

use super::drop_ins::{DropIns, shown};
use super::screen::plain;
use super::service;
use crate::call::Assistant;
use crate::config::Config;
use crate::net::tls::ClientConfigs;
use crate::server::assistants::{self, Assistants};
use crate::session::candidates::Chosen;
use crate::tools::Tools;
use crate::tools::file::{Fault, is_name, line_of, object, unknown_field};

/// The most files that are looked at. Each is a session object with all tools in memory.
const MAX_FILES: usize = 32;

/// The longest name for people, in characters.
const MAX_TITLE: usize = 64;

/// The most tools in a list.
const MAX_TOOLS: usize = 256;

const FIELDS: [&str; 10] = [
    "name",
    "title",
    "instructions",
    "voice",
    "language",
    "model",
    "greeting",
    "session",
    "tools",
    "comment",
];

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct AssistantFolder(DropIns);

/// One assistant, as its file says.
pub(super) struct Described {
    assistant: Rc<Assistant>,
    title: String,
    /// The daemon's configuration with this assistant's conversation.
    config: Config,
}

/// What there is.
#[derive(Default)]
pub(super) struct LoadedAssistants {
    pub(super) list: Vec<Described>,
    /// A line for each fault, and for what is odd.
    pub(super) faults: Vec<String>,
}

impl AssistantFolder {
    /// The assistants of the configuration's folder.
    pub(super) fn read(&self, config: &Config) -> LoadedAssistants {
        let mut found = LoadedAssistants::default();
        let folder = config.assistants_dir.as_deref();
        let faults = self.0.read(folder, MAX_FILES, &mut |path, text| {
            let one = parse(text, config)?;
            let name = &one.assistant.name;
            if found.list.iter().any(|other| other.assistant.name == *name) {
                found.faults.push(format!("{}: the name {name} is taken", shown(path)));
                return Ok(());
            }
            let odd = service::odd_settings(&one.config).into_iter();
            let odd = odd.chain(service::language_faults(&one.config));
            let odd = odd.chain(one.config.warnings.iter().cloned());
            found.faults.extend(odd.map(|note| format!("{}: {note}", shown(path))));
            found.list.push(one);
            Ok(())
        });
        found.faults.extend(faults);
        found
    }
}

impl LoadedAssistants {
    /// For calls.
    ///
    /// # Errors
    /// A sentence, when TLS cannot be set up.
    pub(super) fn ready(self, tools: &Tools, tls: &ClientConfigs) -> Result<Assistants, String> {
        let mut list = Vec::new();
        for Described { assistant, title, config } in self.list {
            let name = assistant.name.clone();
            let candidate = service::candidate(&config, tools, tls, Some(assistant))?;
            list.push(assistants::Assistant { name, title, candidate: Chosen::new(candidate) });
        }
        Ok(Assistants::new(list))
    }
}

impl Described {
    /// On a line: its name, and what answers with which tools.
    pub(super) fn line(&self) -> String {
        let Assistant { name, tools } = &*self.assistant;
        let session = &self.config.session;
        let model = session.models.first().unwrap_or(&session.assistant);
        let tools = match tools.as_deref() {
            None => String::new(),
            Some([]) => ", no tools".to_owned(),
            Some(tools) => format!(", tools {}", tools.join(" ")),
        };
        let voice = if session.voice.is_empty() { "the agent's" } else { &session.voice };
        plain(&format!("{name} ({}): {model}, voice {voice}{tools}", self.title))
    }

    /// The tools that it is allowed and that there are not.
    pub(super) fn missing<'a>(&'a self, tools: &'a Tools) -> impl Iterator<Item = String> + 'a {
        let allowed = self.assistant.tools.iter().flatten();
        let missing = allowed.filter(|tool| tools.find(tool).is_none());
        missing.map(|tool| format!("assistant {}: there is no tool {tool}", self.assistant.name))
    }
}

fn parse(text: &str, config: &Config) -> Result<Described, Fault> {
    let fields = object(text)?;
    describe(&fields, config)
        .map_err(|(reason, place)| Fault { line: line_of(text, &place), reason })
}

/// The error is the reason, and a text that stands where the fault is.
fn describe(fields: &Map<String, Value>, config: &Config) -> Result<Described, (String, String)> {
    let refuse = |field: &str, why: String| Err((why, field.to_owned()));
    if let Some(refusal) = unknown_field(fields, &FIELDS) {
        return Err(refusal);
    }
    let text = |field: &str| fields.get(field).map(|value| value.as_str().unwrap_or_default());
    let name = match text("name") {
        Some(name) if is_name(name) => name.to_owned(),
        Some(_) => {
            let why = "name must be 1 to 64 of the characters A-Z a-z 0-9 _ and -".to_owned();
            return refuse("name", why);
        }
        None => return refuse("", "name is missing".to_owned()),
    };
    let title = text("title").unwrap_or(&name).to_owned();
    let long = title.chars().count() > MAX_TITLE || title.chars().any(char::is_control);
    if long || title.trim().is_empty() {
        return refuse("title", format!("title must be a text of up to {MAX_TITLE} characters"));
    }
    let tools = match fields.get("tools") {
        None => None,
        Some(value) => {
            let names = value
                .as_array()
                .into_iter()
                .flatten()
                .map(|tool| tool.as_str().filter(|name| is_name(name)).map(str::to_owned));
            let names: Option<Vec<String>> = names.take(MAX_TOOLS + 1).collect();
            match names.filter(|names| value.is_array() && names.len() <= MAX_TOOLS) {
                Some(names) => Some(names),
                None => {
                    let why = format!("tools must be a list of up to {MAX_TOOLS} names of tools");
                    return refuse("tools", why);
                }
            }
        }
    };
    let config = config.for_assistant(fields)?;
    Ok(Described { assistant: Rc::new(Assistant { name, tools }), title, config })
}
