//! Function-calling tools: their schemas, and the commands that run them beside the loop.
//!
//! Every tool runs in a child process, so no tool can delay audio. A built-in tool is one file,
//! with its schema and its handler, and one line in [`BUILTINS`]. Its process is this program,
//! started as `voicelived __tool NAME`. The loop starts the processes, not this module.

mod schema;
mod stock;
mod weather;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

const BUILTINS: &[Builtin] = &[weather::TOOL, stock::TOOL];

/// Longest arguments that are passed to a tool, in bytes.
pub const MAX_ARGUMENTS: usize = 64 * 1024;

const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_OUTPUT: usize = 16 * 1024;

/// One tool, as the loop sees it.
#[derive(Debug, Clone)]
pub struct Tool {
    /// The name by which the model calls it.
    pub name: String,
    /// The description for the model.
    pub description: String,
    /// JSON Schema of the arguments, of type `object`.
    pub parameters: Value,
    /// Program and arguments, never a shell line. It gets the tool's arguments as JSON on standard
    /// input and prints its result. Start it without [`crate::config::secret_names`] in its
    /// environment.
    pub command: Vec<OsString>,
    /// After this time it is killed.
    pub timeout: Duration,
    /// Longest result in bytes.
    pub max_output: usize,
}

/// All tools of the daemon.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    list: Vec<Tool>,
}

impl Tools {
    /// The built-in tools. `own_exe` is the path of this program.
    #[must_use]
    pub fn builtin(own_exe: &Path) -> Self {
        let tool = |builtin: &Builtin| {
            let parameters = (builtin.parameters)();
            debug_assert_eq!(schema::verify(&parameters), Ok(()), "{}", builtin.name);
            Tool {
                name: builtin.name.to_owned(),
                description: builtin.description.to_owned(),
                parameters,
                command: vec![own_exe.into(), "__tool".into(), builtin.name.into()],
                timeout: TIMEOUT,
                max_output: MAX_OUTPUT,
            }
        };
        Self { list: BUILTINS.iter().map(tool).collect() }
    }

    /// The tool of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Tool> {
        self.list.iter().find(|tool| tool.name == name)
    }

    /// The `tools` array of the service's session object.
    #[must_use]
    pub fn schemas(&self) -> Value {
        let form = |tool: &Tool| {
            json!({
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
            })
        };
        self.list.iter().map(form).collect()
    }

    /// Checks a call as the model wrote it. Empty arguments count as `{}`. Returns the text that
    /// the tool's process gets.
    ///
    /// # Errors
    /// A sentence for the model that says what was wrong with the call.
    pub fn check(&self, name: &str, arguments: &str) -> Result<(&Tool, String), String> {
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

/// Runs a built-in tool in this process: arguments from `input`, result or `{"error": …}` to
/// `output`. `Ok(false)` means that an error was printed.
///
/// # Errors
/// When `output` cannot be written to.
pub fn run_builtin(name: &str, input: &mut dyn Read, output: &mut dyn Write) -> io::Result<bool> {
    let outcome = answer(name, input);
    let (text, good) = match outcome {
        Ok(result) => (result, true),
        Err(fault) => (json!({ "error": fault }), false),
    };
    writeln!(output, "{text}")?;
    output.flush()?;
    Ok(good)
}

fn answer(name: &str, input: &mut dyn Read) -> Result<Value, String> {
    let builtin = BUILTINS.iter().find(|builtin| builtin.name == name);
    let builtin = builtin.ok_or("There is no built-in tool of this name.")?;
    let mut text = String::new();
    let limit = u64::try_from(MAX_ARGUMENTS).unwrap_or(u64::MAX);
    input
        .take(limit.saturating_add(1))
        .read_to_string(&mut text)
        .map_err(|_| "The arguments could not be read as text.")?;
    let arguments = parse_arguments(&text)?;
    schema::check(&(builtin.parameters)(), &arguments)
        .map_err(|fault| format!("The arguments of {name} are wrong: {fault}."))?;
    (builtin.handler)(&arguments)
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

/// A tool that is part of this program.
struct Builtin {
    name: &'static str,
    description: &'static str,
    parameters: fn() -> Value,
    /// Gets arguments that fit `parameters`; its error is a sentence for the model.
    handler: fn(&Value) -> Result<Value, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> Tools {
        Tools::builtin(Path::new("/usr/bin/voicelived"))
    }

    fn run(name: &str, input: &[u8]) -> (bool, Value) {
        let mut output = Vec::new();
        let good = run_builtin(name, &mut &*input, &mut output).unwrap();
        (good, serde_json::from_slice(&output).unwrap())
    }

    #[test]
    fn schemas_have_the_services_flat_form() {
        let schemas = tools().schemas();
        let first = &schemas[0];
        assert_eq!(first["type"], "function");
        assert_eq!(first["name"], "get_weather");
        assert_eq!(first["parameters"]["type"], "object");
        assert_eq!(schemas.as_array().unwrap().len(), BUILTINS.len());
    }

    #[test]
    fn builtin_schemas_are_sound_and_names_unique() {
        for (index, builtin) in BUILTINS.iter().enumerate() {
            schema::verify(&(builtin.parameters)()).unwrap();
            assert!(BUILTINS[..index].iter().all(|other| other.name != builtin.name));
        }
    }

    #[test]
    fn a_builtin_runs_as_this_program() {
        let tools = tools();
        let tool = tools.find("get_stock_price").unwrap();
        assert_eq!(tool.command, ["/usr/bin/voicelived", "__tool", "get_stock_price"]);
        assert_eq!(tool.timeout, Duration::from_secs(10));
        assert!(tools.find("").is_none());
    }

    #[test]
    fn check_passes_good_calls_in_one_form() {
        let tools = tools();
        let (tool, text) = tools.check("get_weather", " {\n\"location\": \"Oslo\"} ").unwrap();
        assert_eq!((tool.name.as_str(), text.as_str()), ("get_weather", r#"{"location":"Oslo"}"#));
    }

    #[test]
    fn check_explains_bad_calls() {
        let tools = tools();
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
        let tools = tools();
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

    #[test]
    fn builtins_run() {
        let (good, result) = run("get_weather", br#"{"location":"oslo","unit":"celsius"}"#);
        assert!(good && result["note"] == "demo data", "{result}");
        let (good, result) = run("get_stock_price", br#"{"symbol":"msft"}"#);
        assert!(good && result["symbol"] == "MSFT", "{result}");
    }

    #[test]
    fn builtins_report_errors_as_json() {
        let endless = vec![b' '; MAX_ARGUMENTS + 10];
        for (name, input) in [
            ("nothing", &b"{}"[..]),
            ("get_weather", b""),
            ("get_weather", b"\xff"),
            ("get_weather", b"{\"location\":[]}"),
            ("get_weather", &endless),
        ] {
            let (good, result) = run(name, input);
            assert!(!good && result["error"].is_string(), "{result}");
        }
    }
}
