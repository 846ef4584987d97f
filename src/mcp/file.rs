//! The file that names the servers, in the form that the ecosystem uses:
//!
//! ```json
//! {"mcpServers": {
//!     "home": {"command": "npx", "args": ["-y", "some-server"], "env": {"TOKEN": "${HOME_TOKEN}"}},
//!     "stock": {"url": "https://stock.lan/mcp", "headers": {"Authorization": "Bearer …"}}
//! }}
//! ```
//!
//! A file that was made for another assistant works as it is: what only others know is passed over.
//! Ours besides: `allow`, `deny`, `confirm`, `timeout_seconds`. A faulty server costs only itself, and
//! its fault names the line. Values are in no fault, since they may be secrets.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

/// The most bytes of the file.
pub const MAX_FILE: usize = 256 * 1024;
/// The most servers. Each takes a process.
pub const MAX_SERVERS: usize = 16;
/// How long a call may take without progress, where the file does not say.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The longest time that the file may set, in seconds.
const LONGEST: u64 = 100;

/// When a person is asked before a tool of the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirm {
    /// Never.
    Never,
    /// Before each run.
    Always,
    /// Unless the server says that the tool only reads, or that it destroys nothing.
    Auto,
}

/// Where a server is.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_debug_implementations, reason = "environment and headers hold secrets")]
pub enum ServerEndpoint {
    /// A program, which speaks on its pipes.
    Program {
        /// The program and its arguments. No shell reads them.
        command: Vec<String>,
        /// Variables of its environment, besides the few that every child gets.
        environment: Vec<(String, String)>,
        /// Its working folder; `None` for the daemon's.
        folder: Option<String>,
    },
    /// An address of Streamable HTTP.
    Http {
        /// `http` or `https`.
        url: String,
        /// Fields that every request carries, such as a login.
        headers: Vec<(String, String)>,
        /// The address of the proxy on the way, with its login. The file does not name it.
        proxy: Option<String>,
    },
}

/// One server of the file. Only its name is ever shown: environment and headers hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name in the file.
    pub name: String,
    /// Where it is.
    pub place: ServerEndpoint,
    /// The only tools that are taken, by the server's names, where `*` stands for any text; `None` for
    /// all.
    pub allow: Option<Vec<String>>,
    /// Tools that are not taken, in the same form.
    pub deny: Vec<String>,
    /// When a person is asked first.
    pub confirm: Confirm,
    /// How long a call may take without progress.
    pub timeout: Duration,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({:?})", self.name)
    }
}

/// What is wrong with a server, or with the whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
    /// The server that it costs; `None` for all of them.
    pub server: Option<String>,
}

/// The value of a variable of the environment, for `${NAME}`; `None` if there is none, or none that a
/// server may see.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

impl ServerEndpoint {
    /// The host of an `https` address, and where its proxy is to be put.
    pub fn https_host(&mut self) -> Option<(String, &mut Option<String>)> {
        let Self::Http { url, proxy, .. } = self else { return None };
        let (scheme, rest) = url.split_once("://")?;
        let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let place = place.rsplit('@').next().unwrap_or_default();
        let host = match place.strip_prefix('[') {
            Some(address) => address.split(']').next(),
            None => place.split(':').next(),
        };
        host.filter(|_| scheme.eq_ignore_ascii_case("https")).map(|host| (host.to_owned(), proxy))
    }
}

impl Server {
    /// Whether its entry has places where logins stand.
    #[must_use]
    pub fn may_hold_secrets(&self) -> bool {
        match &self.place {
            ServerEndpoint::Program { environment, .. } => !environment.is_empty(),
            ServerEndpoint::Http { headers, .. } => !headers.is_empty(),
        }
    }
}

/// Reads the file: the servers that can be used, and what is wrong with the others.
#[must_use]
#[inline(never)]
pub fn parse(text: &str, lookup: Lookup<'_>) -> (Vec<Server>, Vec<Fault>) {
    let whole = |line, message: &str| {
        (Vec::new(), vec![Fault { line, message: message.to_owned(), server: None }])
    };
    let root: Value = match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
        Ok(root) => root,
        Err(error) => {
            let words = error.to_string();
            let words = words.split(" at line ").next().unwrap_or_default();
            return whole(error.line().max(1), &format!("this is not valid JSON: {words}"));
        }
    };
    // One editor's assistant calls the list `servers`.
    let key = ["mcpServers", "servers"].into_iter().find(|key| root.get(key).is_some());
    let Some(key) = key else { return whole(1, "there is no \"mcpServers\"") };
    let Some(entries) = root[key].as_object() else {
        return whole(line_of(text, &[key]), "\"mcpServers\" must be an object");
    };
    let (mut servers, mut faults) = (Vec::new(), Vec::new());
    for (name, entry) in entries {
        match server(name, entry, lookup) {
            Ok(None) => {}
            Ok(Some(_)) if servers.len() == MAX_SERVERS => {
                let message = format!("more than {MAX_SERVERS} servers; {name:?} is left out");
                let (line, server) = (line_of(text, &[key, name]), Some(name.clone()));
                faults.push(Fault { line, message, server });
            }
            Ok(Some(server)) => servers.push(server),
            Err((field, why)) => {
                let path = [key, name, field];
                let path = if field.is_empty() { &path[..2] } else { &path[..] };
                let message = format!("{}: {why}", super::shown(name, 60));
                let (line, server) = (line_of(text, path), Some(name.clone()));
                faults.push(Fault { line, message, server });
            }
        }
    }
    (servers, faults)
}

/// The field that is wrong (empty for the whole entry), and why.
type Wrong = (&'static str, String);

/// `Ok(None)` for a server that is switched off.
fn server(name: &str, entry: &Value, lookup: Lookup<'_>) -> Result<Option<Server>, Wrong> {
    let Some(entry) = entry.as_object() else {
        return Err(("", "a server must be an object".to_owned()));
    };
    if name.is_empty() {
        return Err(("", "a server needs a name".to_owned()));
    }
    if entry.get("disabled") == Some(&Value::Bool(true)) {
        return Ok(None);
    }
    Ok(Some(Server {
        name: name.to_owned(),
        place: place(entry, lookup)?,
        allow: entry.get("allow").map(|_| names(entry, "allow")).transpose()?,
        deny: names(entry, "deny")?,
        confirm: confirm(entry)?,
        timeout: timeout(entry)?,
    }))
}

fn place(entry: &Map<String, Value>, lookup: Lookup<'_>) -> Result<ServerEndpoint, Wrong> {
    // Two other assistants have names of their own for the address.
    let url = ["url", "serverUrl", "httpUrl"].into_iter().find(|key| entry.contains_key(*key));
    if entry.get("type").is_some_and(|kind| kind == "sse") {
        let why = "the HTTP+SSE form of 2024 is not spoken; most such servers offer Streamable HTTP at \
                   another path, usually /mcp";
        return Err(("type", why.to_owned()));
    }
    match (entry.contains_key("command"), url) {
        (true, Some(key)) => Err((key, "there is a command already; only one can be".to_owned())),
        (true, None) => program(entry, lookup),
        (false, Some(key)) => {
            let url = text(entry, key, lookup)?;
            let (scheme, rest) = url.split_once("://").unwrap_or_default();
            let web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            if !web
                || host.is_empty()
                || url.contains(|c: char| c.is_whitespace() || c.is_control())
            {
                return Err((key, "this is no address such as https://host/mcp".to_owned()));
            }
            Ok(ServerEndpoint::Http { url, headers: pairs(entry, "headers", lookup)?, proxy: None })
        }
        (false, None) => Err(("", "there is neither \"command\" nor \"url\"".to_owned())),
    }
}

fn program(entry: &Map<String, Value>, lookup: Lookup<'_>) -> Result<ServerEndpoint, Wrong> {
    let mut command = vec![text(entry, "command", lookup)?];
    if command[0].trim().is_empty() {
        return Err(("command", "it is empty".to_owned()));
    }
    if let Some(arguments) = entry.get("args") {
        let wrong = || ("args", "it must be a list of texts".to_owned());
        let list = arguments.as_array().ok_or_else(wrong)?;
        for argument in list {
            let argument = argument.as_str().ok_or_else(wrong)?;
            command.push(expand(argument, lookup).map_err(|why| ("args", why))?);
        }
    }
    if command.iter().any(|part| part.contains('\0')) {
        return Err(("command", "it holds a NUL character".to_owned()));
    }
    let folder = entry.get("cwd").map(|_| text(entry, "cwd", lookup)).transpose()?;
    Ok(ServerEndpoint::Program { command, environment: pairs(entry, "env", lookup)?, folder })
}

fn text(
    entry: &Map<String, Value>,
    key: &'static str,
    lookup: Lookup<'_>,
) -> Result<String, Wrong> {
    let value = entry.get(key).and_then(Value::as_str);
    let value = value.ok_or_else(|| (key, "it must be a text".to_owned()))?;
    expand(value, lookup).map_err(|why| (key, why))
}

fn pairs(
    entry: &Map<String, Value>,
    key: &'static str,
    lookup: Lookup<'_>,
) -> Result<Vec<(String, String)>, Wrong> {
    let Some(value) = entry.get(key) else { return Ok(Vec::new()) };
    let wrong = || (key, "it must be an object of texts".to_owned());
    let mut pairs = Vec::new();
    for (name, value) in value.as_object().ok_or_else(wrong)? {
        let value = match value {
            Value::String(text) => expand(text, lookup).map_err(|why| (key, why))?,
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            _ => return Err(wrong()),
        };
        let odd =
            |c: char| c.is_control() || c == '=' || (key == "headers" && (c == ':' || c == ' '));
        if name.is_empty() || name.contains(odd) || value.contains(['\0', '\r', '\n']) {
            return Err((key, format!("{} cannot be used", super::shown(name, 60))));
        }
        pairs.push((name.clone(), value));
    }
    Ok(pairs)
}

fn names(entry: &Map<String, Value>, key: &'static str) -> Result<Vec<String>, Wrong> {
    let Some(value) = entry.get(key) else { return Ok(Vec::new()) };
    let list = value.as_array().into_iter().flatten().map(|one| one.as_str().map(str::to_owned));
    let names: Option<Vec<_>> = list.collect();
    let names = names.filter(|_| value.is_array());
    names.ok_or_else(|| (key, "it must be a list of tools' names".to_owned()))
}

fn confirm(entry: &Map<String, Value>) -> Result<Confirm, Wrong> {
    match entry.get("confirm").map(Value::as_str) {
        None | Some(Some("never")) => Ok(Confirm::Never),
        Some(Some("always")) => Ok(Confirm::Always),
        Some(Some("auto")) => Ok(Confirm::Auto),
        Some(_) => Err(("confirm", "it must be never, always or auto".to_owned())),
    }
}

fn timeout(entry: &Map<String, Value>) -> Result<Duration, Wrong> {
    let Some(value) = entry.get("timeout_seconds") else { return Ok(TIMEOUT) };
    let seconds = value.as_u64().filter(|seconds| (1..=LONGEST).contains(seconds));
    let wrong = || ("timeout_seconds", format!("it must be a whole number from 1 to {LONGEST}"));
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

/// Puts variables in: `${NAME}`, `${NAME:-default}`, `${env:NAME}`, as other assistants do. Anything
/// else after a `$` stays as it is.
fn expand(text: &str, lookup: Lookup<'_>) -> Result<String, String> {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        whole.push_str(before);
        let end = behind.find('}');
        let inner = end.map(|end| &behind[..end]).unwrap_or_default();
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner.strip_prefix("env:").unwrap_or(inner), None),
        };
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(letters) {
            whole.push_str("${");
            rest = behind;
            continue;
        }
        let value = lookup(name).or_else(|| default.map(str::to_owned));
        whole.push_str(&value.ok_or_else(|| format!("the variable {name} is not set"))?);
        rest = &behind[end.map_or(behind.len(), |end| end + 1)..];
    }
    whole.push_str(rest);
    Ok(whole)
}

/// The line of the key at the end of `path` in a JSON text that is valid, counted from 1; of the last
/// part of the path that is there.
fn line_of(text: &str, path: &[&str]) -> usize {
    let bytes = text.as_bytes();
    let (mut line, mut found, mut depth, mut matched, mut at) = (1, 1, 0_usize, 0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\n' => line += 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if matched > 0 && depth <= matched {
                    return found;
                }
            }
            b'"' => {
                let end = end_of_text(bytes, at);
                let is_key = bytes[end..].trim_ascii_start().first() == Some(&b':');
                let key = || serde_json::from_str::<String>(&text[at..end]).unwrap_or_default();
                if is_key && depth == matched + 1 && path.get(matched).is_some_and(|p| key() == *p)
                {
                    matched += 1;
                    found = line;
                    if matched == path.len() {
                        return found;
                    }
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Behind the closing quote of the text that begins at `start`.
fn end_of_text(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

#[cfg(test)]
mod tests;
