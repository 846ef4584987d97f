//! Function-calling tools: one registry of all of them, whatever stands behind each.
//!
//! [`Tools`] says what there is, and judges a call before anything runs. A [`Tool`] carries its limits and
//! its [`Backing`]; the loop (`server/tools.rs`) runs every tool in the same way, beside the audio and never
//! before it. This module starts nothing.
//!
//! A built-in tool is one file, with its schema and its handler, and one line in `builtin.rs`. `file` judges the
//! files of the owner's tools, `web` and `places` are those of them that are web requests, and `request` is what
//! the child does that sends one.

pub mod builtin;
pub mod file;
mod hang_up;
mod places;
pub mod process;
pub mod request;
mod schema;
mod stock;
mod weather;
pub mod web;

use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

/// Longest arguments that are passed to a tool, in bytes.
pub const MAX_ARGUMENTS: usize = 64 * 1024;

/// How long a run may go on, from its start, that tells of progress.
pub const LONGEST_PROGRESS: Duration = Duration::from_secs(130);

/// One tool: what the model is told of it, what may be done with it, and what stands behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// The name by which the model calls it: up to 64 of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// The description for the model.
    pub description: String,
    /// JSON Schema of the arguments, of type `object`. Keywords that our own check does not know are left
    /// to what stands behind the tool.
    pub parameters: Value,
    /// What does the work.
    pub backing: Backing,
    /// What one run may take.
    pub limits: Limits,
    /// Whether the user is asked before it runs.
    pub confirm: Confirm,
    /// Where it comes from, for lists and logs.
    pub origin: Origin,
}

impl Tool {
    /// The longest that a run may take from its wish to its result: it may wait for its place as long as it
    /// may run, and progress puts the end of a server's run off.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let run = match self.backing {
            Backing::Server { .. } => self.limits.timeout.max(LONGEST_PROGRESS),
            _ => self.limits.timeout,
        };
        self.limits.timeout + run
    }
}

/// What does a tool's work. Every kind is run in the same way: it waits for its place, starts, has a
/// deadline, can be cancelled, and ends with one result.
#[derive(Debug, Clone, PartialEq)]
pub enum Backing {
    /// A handler of this program, in the long-lived child `voicelived __tools`.
    Builtin,
    /// The call itself: it ends in order.
    HangUp,
    /// A program of the owner's, started anew for each run.
    Command {
        /// Program and arguments, never a shell line. It gets the tool's arguments as JSON on standard
        /// input and prints its result.
        argv: Vec<OsString>,
        /// Its working folder.
        folder: PathBuf,
    },
    /// A web request, sent by a child of this program (`voicelived __request`).
    Web {
        /// Scheme, host and port, which no argument changes.
        origin: String,
        /// The part of the child's job that is always the same.
        job: String,
    },
    /// A tool of an MCP server.
    Server {
        /// The server's name in the MCP file.
        server: String,
        /// The tool's name there, which may differ from [`Tool::name`].
        tool: String,
    },
}

/// What holds where a tool's file says nothing.
const RUN_TIMEOUT: Duration = Duration::from_secs(10);
const RUN_OUTPUT: usize = 16 * 1024;
const AT_ONCE: usize = 4;

/// What one run of a tool may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// After this time the run is cancelled. As long it may wait for its place before.
    pub timeout: Duration,
    /// Longest result in bytes.
    pub max_output: usize,
    /// How many runs of this tool there may be at once; others wait.
    pub at_once: usize,
}

impl Limits {
    /// What holds where nothing is said.
    pub const DEFAULT: Self =
        Self { timeout: RUN_TIMEOUT, max_output: RUN_OUTPUT, at_once: AT_ONCE };
}

/// Whether the user is asked before a tool runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirm {
    /// It runs at once.
    Never,
    /// The user has to agree, each time anew.
    Always,
}

/// Where a tool comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This program.
    Builtin,
    /// A file of the owner's.
    File(PathBuf),
    /// An MCP server, by its name in the MCP file.
    Server(String),
}

/// All tools of the daemon.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    list: Vec<Rc<Tool>>,
}

impl Tools {
    /// The built-in tools.
    #[must_use]
    #[inline(never)]
    pub fn builtin() -> Self {
        Self { list: builtin::all().map(Rc::new).collect() }
    }

    /// Adds a tool. One of the owner's files takes the place of a built-in one that only shows how it is done.
    ///
    /// # Errors
    /// When the name is taken: where the other one comes from.
    #[inline(never)]
    pub fn add(&mut self, tool: Tool) -> Result<(), Origin> {
        let Some(taken) = self.list.iter_mut().find(|other| other.name == tool.name) else {
            self.list.push(Rc::new(tool));
            return Ok(());
        };
        if !matches!(tool.origin, Origin::File(_)) || taken.backing != Backing::Builtin {
            return Err(taken.origin.clone());
        }
        *taken = Rc::new(tool);
        Ok(())
    }

    /// The tools of MCP servers.
    pub fn of_servers(&self) -> impl Iterator<Item = &Rc<Tool>> {
        self.list.iter().filter(|tool| matches!(tool.origin, Origin::Server(_)))
    }

    /// Adds a tool of an older registry, unless its name is taken now.
    pub fn add_again(&mut self, tool: &Rc<Tool>) {
        if self.find(&tool.name).is_none() {
            self.list.push(Rc::clone(tool));
        }
    }

    /// Takes tools out: those of a server that has gone, say.
    pub fn remove(&mut self, is_gone: impl Fn(&Tool) -> bool) {
        self.list.retain(|tool| !is_gone(tool));
    }

    /// The tool of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Rc<Tool>> {
        self.list.iter().find(|tool| tool.name == name)
    }

    /// All of them, in the order in which the service is told.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Tool>> {
        self.list.iter()
    }

    /// The `tools` array of the service's session object.
    #[must_use]
    #[inline(never)]
    pub fn schemas(&self) -> Value {
        let form = |tool: &Rc<Tool>| {
            json!({
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
            })
        };
        self.list.iter().map(form).collect()
    }

    /// Checks a call as the model wrote it. Empty arguments count as `{}`. Returns the tool, and its
    /// arguments as one JSON object on one line.
    ///
    /// # Errors
    /// A sentence for the model that says what was wrong with the call.
    #[inline(never)]
    pub fn check(&self, name: &str, arguments: &str) -> Result<(&Rc<Tool>, String), String> {
        let tool = self.find(name).ok_or_else(|| {
            let names: Vec<_> = self.list.iter().map(|tool| tool.name.as_str()).collect();
            format!("There is no such tool. The tools are: {}.", names.join(", "))
        })?;
        let arguments = parse_arguments(arguments)?;
        schema::check(&tool.parameters, &arguments)
            .map_err(|fault| format!("The arguments of {name} are wrong: {fault}."))?;
        Ok((tool, arguments.to_string()))
    }
}

/// A tool that is part of this program.
struct Builtin {
    name: &'static str,
    description: &'static str,
    parameters: fn() -> Value,
    /// Gets arguments that fit `parameters`; its error is a sentence for the model.
    handler: fn(&Value) -> Result<Value, String>,
}

fn parse_arguments(text: &str) -> Result<Value, String> {
    if text.len() > MAX_ARGUMENTS {
        return Err(format!("The arguments are longer than {MAX_ARGUMENTS} bytes."));
    }
    if text.trim().is_empty() {
        return Ok(json!({}));
    }
    match serde_json::from_str(text) {
        Ok(arguments @ Value::Object(_)) => Ok(arguments),
        Ok(_) => Err("The arguments must be a JSON object.".to_owned()),
        Err(fault) => Err(format!(
            "The arguments are not valid JSON (line {}, column {}).",
            fault.line(),
            fault.column()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_have_the_services_flat_form() {
        let schemas = Tools::builtin().schemas();
        let first = &schemas[0];
        assert_eq!(first["type"], "function");
        assert_eq!(first["name"], "get_weather");
        assert_eq!(first["parameters"]["type"], "object");
        assert_eq!(schemas.as_array().unwrap().len(), Tools::builtin().iter().count());
    }

    #[test]
    fn a_name_is_taken_once() {
        let mut tools = Tools::builtin();
        let mut tool = (**tools.find("get_weather").unwrap()).clone();
        assert_eq!(tools.add(tool.clone()), Err(Origin::Builtin));
        tool.name = "other".to_owned();
        tool.origin = Origin::Server("home".to_owned());
        tools.add(tool).unwrap();
        assert!(tools.find("other").is_some() && tools.find("").is_none());
        tools.remove(|tool| tool.origin == Origin::Server("home".to_owned()));
        assert!(tools.find("other").is_none());
    }

    #[test]
    fn check_passes_good_calls_in_one_form() {
        let tools = Tools::builtin();
        let (tool, text) = tools.check("get_weather", " {\n\"location\": \"Oslo\"} ").unwrap();
        assert_eq!((tool.name.as_str(), text.as_str()), ("get_weather", r#"{"location":"Oslo"}"#));
    }

    #[test]
    fn check_explains_bad_calls() {
        let tools = Tools::builtin();
        for (name, arguments, part) in [
            ("rm", "{}", "no such tool"),
            ("get_weather", "", "location"),
            ("get_weather", "  ", "location"),
            ("get_weather", "{", "not valid JSON"),
            ("get_weather", "{}{}", "not valid JSON"),
            ("get_weather", "[]", "JSON object"),
            ("get_weather", "null", "JSON object"),
            ("get_weather", r#"{"location":7}"#, "string"),
            ("get_weather", r#"{"location":""}"#, "location"),
            ("get_weather", r#"{"location":"x","unit":"kelvin"}"#, "unit"),
            ("get_stock_price", r#"{"symbol":"MUCHTOOLONGASYMBOL"}"#, "symbol"),
        ] {
            let fault = tools.check(name, arguments).unwrap_err();
            assert!(fault.contains(part), "{arguments}: {fault}");
        }
    }

    #[test]
    fn hostile_arguments_end_in_short_sentences() {
        let tools = Tools::builtin();
        let deep = "[".repeat(50_000);
        let long = format!(r#"{{"location":"{}"}}"#, "x".repeat(60_000));
        let key = format!(r#"{{"{}":1,"location":3}}"#, "k".repeat(60_000));
        let huge = "x".repeat(MAX_ARGUMENTS + 1);
        for arguments in [&deep, &long, &key, &huge, "{\"location\":\"\\ud800\"}", "1e999999", "\0"]
        {
            let fault = tools.check("get_weather", arguments).unwrap_err();
            assert!(fault.len() < 300, "{fault}");
        }
    }
}
