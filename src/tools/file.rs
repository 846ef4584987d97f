//! A tool as its owner writes it: one JSON file. What is in it is judged here; nothing is read or run.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::web::Web;
use super::{Backing, Confirm, Limits, Origin, Tool, schema};

/// Longest file in bytes.
pub const MAX_FILE: usize = 64 * 1024;

const MAX_DESCRIPTION: usize = 4096;
const MOST_SECONDS: u64 = 120;
const MOST_OUTPUT: u64 = 64 * 1024;
const MOST_AT_ONCE: u64 = 16;

const FIELDS: [&str; 10] = [
    "name",
    "description",
    "parameters",
    "command",
    "http",
    "timeout_seconds",
    "max_output_bytes",
    "at_once",
    "confirm",
    "comment",
];

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line, counted from 1.
    pub line: usize,
    /// The reason, as it follows a colon.
    pub reason: String,
}

/// Why a field is not taken, and a text that stands where the fault is.
type Refusal = (String, String);

/// The tool that a file describes. `folder` is where the file is: its programs run there. `credentials` is
/// the folder of systemd's credentials.
///
/// # Errors
/// The first fault, with its line.
#[inline(never)]
pub fn parse(text: &str, path: &Path, folder: &Path, credentials: &Path) -> Result<Tool, Fault> {
    let fields = object(text)?;
    tool(&fields, path, folder, credentials)
        .map_err(|(reason, place)| Fault { line: line_of(text, &place), reason })
}

/// The one JSON object that a file of the owner's holds.
///
/// # Errors
/// It is no JSON, or something else than an object.
#[inline(never)]
pub fn object(text: &str) -> Result<Map<String, Value>, Fault> {
    match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Fault { line: 1, reason: "it must hold one JSON object".to_owned() }),
        Err(fault) => {
            let mut reason = fault.to_string();
            // The library names the place too.
            reason.truncate(reason.find(" at line ").unwrap_or(reason.len()));
            Err(Fault { line: fault.line().max(1), reason: format!("it is not JSON: {reason}") })
        }
    }
}

/// A field that no file has, with the reason why it is refused.
#[must_use]
pub fn unknown_field(fields: &Map<String, Value>, known: &[&str]) -> Option<(String, String)> {
    let name = fields.keys().find(|name| !known.contains(&name.as_str()))?;
    let reason = format!("there is no field {name:?}; the fields are {}", known.join(", "));
    Some((reason, name.clone()))
}

/// Whether a text may be the name of a tool or an assistant.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(is_good)
}

/// The line where a text stands, as a key or a value if it can be found so; else the first.
#[must_use]
pub fn line_of(text: &str, place: &str) -> usize {
    let quoted = text.find(&format!("{}", Value::from(place)));
    let at = quoted.or_else(|| text.find(place)).unwrap_or(0);
    text[..at].matches('\n').count() + 1
}

fn refuse<T>(place: &str, reason: impl Into<String>) -> Result<T, Refusal> {
    Err((reason.into(), place.to_owned()))
}

fn tool(
    fields: &Map<String, Value>,
    path: &Path,
    folder: &Path,
    credentials: &Path,
) -> Result<Tool, Refusal> {
    if let Some(refusal) = unknown_field(fields, &FIELDS) {
        return Err(refusal);
    }
    let name = text(fields, "name")?;
    if !is_name(&name) {
        return refuse("name", "name may have up to 64 of the characters A-Z a-z 0-9 _ and -");
    }
    let description = text(fields, "description")?;
    if description.len() > MAX_DESCRIPTION {
        return refuse("description", format!("description is over {MAX_DESCRIPTION} bytes"));
    }
    let nothing = || json!({ "type": "object", "properties": {} });
    let parameters = fields.get("parameters").cloned().unwrap_or_else(nothing);
    schema::verify(&parameters)
        .or_else(|why| refuse("parameters", format!("parameters: {why}")))?;
    let number = |name: &str, default: u64, max: u64| match fields.get(name) {
        None => Ok(default),
        Some(value) => match value.as_u64() {
            Some(number) if (1..=max).contains(&number) => Ok(number),
            _ => refuse(name, format!("{name} must be a whole number from 1 to {max}")),
        },
    };
    let timeout = number("timeout_seconds", Limits::DEFAULT.timeout.as_secs(), MOST_SECONDS)?;
    let max_output = number("max_output_bytes", Limits::DEFAULT.max_output as u64, MOST_OUTPUT)?;
    let at_once = number("at_once", Limits::DEFAULT.at_once as u64, MOST_AT_ONCE)?;
    let limits = Limits {
        timeout: Duration::from_secs(timeout),
        max_output: usize::try_from(max_output).unwrap_or(usize::MAX),
        at_once: usize::try_from(at_once).unwrap_or(usize::MAX),
    };
    let mut only_reads = false;
    let backing = match (fields.get("command"), fields.get("http")) {
        (Some(command), None) => self::command(command, folder)?,
        (None, Some(http)) => {
            let web = Web::parse(http, &parameters, credentials)?;
            only_reads = web.only_reads();
            let credentials = credentials.to_string_lossy();
            let given = json!({
                "http": http,
                "parameters": parameters,
                "credentials": credentials,
                "seconds": timeout,
                "bytes": max_output,
            });
            Backing::Web { origin: web.origin().to_owned(), job: given.to_string() }
        }
        (Some(_), Some(_)) => return refuse("http", "a tool has a command or http, not both"),
        (None, None) => return refuse("name", "a tool needs a command or http"),
    };
    let confirm = match fields.get("confirm").map(Value::as_str) {
        None | Some(Some("never")) => Confirm::Never,
        Some(Some("always")) => Confirm::Always,
        // What a program does nobody can tell; a GET only reads.
        Some(Some("auto")) if only_reads => Confirm::Never,
        Some(Some("auto")) => Confirm::Always,
        Some(_) => return refuse("confirm", "confirm must be never, always or auto"),
    };
    let origin = Origin::File(path.to_owned());
    Ok(Tool { name, description, parameters, backing, limits, confirm, origin })
}

/// A field with a text that is not empty.
fn text(fields: &Map<String, Value>, name: &str) -> Result<String, Refusal> {
    match fields.get(name).map(Value::as_str) {
        Some(Some(text)) if !text.trim().is_empty() => Ok(text.to_owned()),
        Some(_) => refuse(name, format!("{name} must be a text")),
        None => refuse("", format!("{name} is missing")),
    }
}

fn command(command: &Value, folder: &Path) -> Result<Backing, Refusal> {
    let form = "command must be a list of texts: the program and its arguments. No shell reads it";
    let words = command.as_array().into_iter().flatten().map(Value::as_str);
    let words: Option<Vec<&str>> = words.collect();
    let words = words.filter(|words| words.first().is_some_and(|program| !program.is_empty()));
    let Some(words) = words.filter(|words| !words.iter().any(|word| word.contains('\0'))) else {
        return refuse("command", form);
    };
    let mut argv: Vec<OsString> = words.iter().map(OsString::from).collect();
    // A path is taken from the folder of the file; a name alone is looked for in PATH.
    if words[0].contains('/') {
        argv[0] = folder.join(words[0]).into();
    }
    Ok(Backing::Command { argv, folder: folder.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Tool, Fault> {
        parse(text, Path::new("/t/x.json"), Path::new("/t"), Path::new("/run/credentials/x"))
    }

    const LIGHT: &str = r#"{
  "name": "light",
  "description": "Switches a light.",
  "parameters": {
    "type": "object",
    "properties": {"room": {"type": "string"}, "on": {"type": "boolean", "default": true}},
    "required": ["room"]
  },
  "http": {
    "method": "POST",
    "url": "http://ha.local:8123/api/{room}",
    "headers": {"Authorization": {"credential": "ha", "prefix": "Bearer "}},
    "body": {"on": "{on}"}
  },
  "timeout_seconds": 5
}"#;

    #[test]
    fn a_file_becomes_a_tool() {
        let tool = parsed(LIGHT).unwrap();
        assert_eq!((tool.limits.timeout.as_secs(), tool.limits.at_once), (5, 4));
        assert!(
            matches!(&tool.backing, Backing::Web { origin, .. } if origin == "http://ha.local:8123")
        );
        let tool = parsed(
            r#"{"name": "a", "description": "b", "command": ["./x.sh", "1"], "confirm": "always"}"#,
        );
        let tool = tool.unwrap();
        let argv = vec!["/t/./x.sh".into(), "1".into()];
        assert_eq!(tool.backing, Backing::Command { argv, folder: "/t".into() });
        assert_eq!(tool.confirm, Confirm::Always);
        assert!(parsed(r#"{"name": "a", "description": "b", "command": ["sh"]}"#).is_ok());
    }

    #[test]
    fn a_fault_is_named_with_its_line() {
        for (old, new, line, part) in [
            ("\"name\": \"light\",", "\"name\": \"light\"", 3, "not JSON"),
            ("\"light\"", "\"a b\"", 2, "64 of the characters"),
            ("\"light\"", "7", 2, "name must be a text"),
            ("Switches a light.", " ", 3, "description must be"),
            ("\"object\"", "\"array\"", 4, "type must be"),
            ("timeout_seconds\": 5", "timeout_seconds\": 500", 15, "from 1 to 120"),
            ("timeout_seconds", "timeout", 15, "there is no field \"timeout\""),
            ("POST", "BREW", 10, "method must be"),
            ("http://ha", "ftp://ha", 11, "url must be"),
            ("//ha.local:8123", "//{room}", 11, "no argument can stand for host"),
            ("//ha.local", "//me:pw@ha.local", 11, "no name and password"),
            ("{room}\"", "{rom}\"", 11, "{rom}, which is no parameter"),
            (
                "{\"credential\": \"ha\", \"prefix\": \"Bearer \"}",
                "\"Bearer x\"",
                12,
                "is a secret",
            ),
            ("\"Authorization\"", "\"Host\"", 12, "cannot be set"),
            ("\"credential\": \"ha\"", "\"credential\": \"../x\"", 12, "must be a text, {\"file\""),
            ("\"{on}\"", "\"{off}\"", 13, "{off}, which is no parameter"),
            ("\"required\": [\"room\"]", "\"required\": []", 11, "must be required"),
        ] {
            assert!(LIGHT.contains(old), "{old}");
            let fault = parsed(&LIGHT.replacen(old, new, 1)).unwrap_err();
            assert!(fault.reason.contains(part), "{new}: {fault:?}");
            assert_eq!(fault.line, line, "{new}: {fault:?}");
        }
        for (text, part) in [
            ("", "not JSON"),
            ("[]", "one JSON object"),
            ("{}", "name is missing"),
            (r#"{"name":"a","description":"b"}"#, "needs a command or http"),
            (r#"{"name":"a","description":"b","command":"rm -rf"}"#, "list of texts"),
            (r#"{"name":"a","description":"b","command":[]}"#, "list of texts"),
            (
                r#"{"name":"a","description":"b","command":["a"],"confirm":1}"#,
                "never, always or auto",
            ),
            (r#"{"name":"a","description":"b","command":["a"],"http":{}}"#, "not both"),
        ] {
            let fault = parsed(text).unwrap_err();
            assert!(fault.reason.contains(part) && fault.line == 1, "{text}: {fault:?}");
        }
    }
}
