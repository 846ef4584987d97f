//! A configuration while it is being put together, and the parsers of single values.
//!
//! A message continues the sentence that the variable's name begins. It quotes only short, escaped
//! pieces of values that are not secret.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use serde_json::{Map, Value};

use super::endpoint::OwnQuery;
use super::{Endpoint, Files, Limits, McpConfig, Secret, SessionConfig, Web, endpoint as address};
use crate::identity::SignIn;
use crate::mcp::file;
use crate::net::proxy::{self, Proxy};
use crate::net::tls;

const MAX_TEXT_FILE: usize = 64 * 1024;
const MAX_PEM_FILE: usize = 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) endpoint: Option<Endpoint>,
    /// The endpoint's own query, which may say something of other settings.
    pub(super) own_query: OwnQuery,
    pub(super) key: Option<Secret>,
    pub(super) api_version: String,
    pub(super) authorities: Vec<CertificateDer<'static>>,
    pub(super) proxy: Option<Proxy>,
    pub(super) entra: super::entra::EntraDraft,
    pub(super) sign_in: Option<SignIn>,
    /// What the settings say of an agent: indices of `agent::SETTINGS`, with their values.
    pub(super) agent: Vec<(usize, String)>,
    pub(super) session: SessionConfig,
    pub(super) limits: Limits,
    pub(super) web: Web,
    pub(super) tls_cert: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
    /// `VOICELIVED_ACCESS`: whether a token is asked for.
    pub(super) asks_token: Option<bool>,
    pub(super) token: Option<Secret>,
    pub(super) state_dir: Option<PathBuf>,
    /// Variables that the MCP file may name.
    pub(super) environment: Vec<(String, String)>,
    pub(super) mcp: McpConfig,
    pub(super) tools_dir: Option<PathBuf>,
    pub(super) assistants_dir: Option<PathBuf>,
    pub(super) log: Option<log::LevelFilter>,
    pub(super) unready: Option<String>,
    pub(super) secret_files: Vec<PathBuf>,
    pub(super) warnings: Vec<String>,
}

impl Draft {
    pub(super) fn set_key(&mut self, text: &str) -> Result<(), String> {
        self.key = Some(Secret::header_value(text)?);
        Ok(())
    }
}

pub(super) fn endpoint(draft: &mut Draft, text: &str, _: Files<'_>) -> Result<(), String> {
    let (endpoint, warning) = Endpoint::service(text)?;
    draft.endpoint = Some(endpoint);
    draft.own_query = Endpoint::own_query(text)?;
    let warning = warning.map(|text| format!("{}: {text}", super::names::ENDPOINT));
    draft.warnings.extend(warning);
    Ok(())
}

pub(super) fn key_file(draft: &mut Draft, path: &str, files: Files<'_>) -> Result<(), String> {
    let text = text_file(path, Secret::MAX_BYTES, files)?;
    draft.secret_files.push(path.into());
    draft.set_key(&text).map_err(|fault| format!("the key in {} {fault}", shown(path)))
}

pub(super) fn authorities(draft: &mut Draft, path: &str, files: Files<'_>) -> Result<(), String> {
    let pem = bytes(path, MAX_PEM_FILE, files)?;
    draft.authorities =
        tls::certificates(&pem).map_err(|fault| format!("{}: {fault}", shown(path)))?;
    Ok(())
}

pub(super) fn instructions_file(
    draft: &mut Draft,
    path: &str,
    files: Files<'_>,
) -> Result<(), String> {
    let text = text_file(path, MAX_TEXT_FILE, files)?;
    draft.session.instructions =
        prose(text.trim()).map_err(|fault| format!("{} {fault}", shown(path)))?;
    Ok(())
}

pub(super) fn session_file(draft: &mut Draft, path: &str, files: Files<'_>) -> Result<(), String> {
    let text = text_file(path, MAX_TEXT_FILE, files)?;
    let parsed: Result<Value, _> = serde_json::from_str(&text);
    let value = parsed.map_err(|fault| {
        let (line, column) = (fault.line(), fault.column());
        format!("{} is not JSON at line {line} column {column}", shown(path))
    })?;
    let Value::Object(overrides) = value else {
        return Err(format!("{} must hold a JSON object: {{…}}", shown(path)));
    };
    judge_session(draft, &overrides, &shown(path))?;
    draft.session.overrides = overrides;
    Ok(())
}

/// Refuses options that the daemon needs otherwise, and warns of others. `place` is where they stand.
pub(super) fn judge_session(
    draft: &mut Draft,
    options: &Map<String, Value>,
    place: &str,
) -> Result<(), String> {
    let at = |pointer: &str| {
        let mut keys = pointer[1..].split('/');
        let first = keys.next().and_then(|key| options.get(key));
        keys.try_fold(first?, |value, key| value.get(key))
    };
    let differs = |(pointer, fixed): &&(&str, &str)| {
        at(pointer).is_some_and(|value| format!("{value}") != *fixed)
    };
    let named = |pointer: &str| pointer[1..].replace('/', ".");
    if let Some((pointer, fixed)) = FIXED_SESSION_KEYS.iter().find(differs) {
        return Err(format!("{place}: {} must stay {fixed}", named(pointer)));
    }
    for (pointer, mono) in MONO_SESSION_KEYS.iter().filter(differs) {
        let key = named(pointer);
        let hint = "clients send one channel, which the service would take for two";
        draft.warnings.push(format!("{key} in {place}: should be {mono}: {hint}"));
    }
    if options.contains_key("model") {
        let hint = "the service takes the model only from VOICE_LIVE_MODEL";
        draft.warnings.push(format!("model in {place}: {hint}"));
    }
    Ok(())
}

/// A fault within the file costs the server that has it, and not the daemon's start.
pub(super) fn mcp_file(draft: &mut Draft, path: &str, files: Files<'_>) -> Result<(), String> {
    let text = text_file(path, file::MAX_FILE, files)?;
    let environment = &draft.environment;
    let lookup = |name: &str| {
        environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    let (servers, faults) = file::parse(&text, &lookup);
    for file::Fault { line, message, server } in faults {
        draft
            .warnings
            .push(format!("VOICELIVED_MCP_FILE: line {line} of {}: {message}", shown(path)));
        draft.mcp.faulty.push(server);
    }
    if servers.iter().any(file::Server::may_hold_secrets) {
        draft.secret_files.push(path.into());
    }
    draft.mcp.servers = servers;
    Ok(())
}

/// Session settings that `/ws` promises to its clients, in the words of both dialects, and their JSON. A session file
/// must not change them.
const FIXED_SESSION_KEYS: [(&str, &str); 7] = [
    ("/input_audio_format", r#""pcm16""#),
    ("/input_audio_sampling_rate", "24000"),
    ("/output_audio_format", r#""pcm16""#),
    ("/audio/input/format/type", r#""audio/pcm""#),
    ("/audio/input/format/rate", "24000"),
    ("/audio/output/format/type", r#""audio/pcm""#),
    ("/audio/output/format/rate", "24000"),
];

/// A reference for the echo that comes from the client is a second channel beside the microphone's.
const MONO_SESSION_KEYS: [(&str, &str); 4] = [
    ("/input_audio_echo_cancellation/channels", "1"),
    ("/input_audio_echo_cancellation/reference_source", r#""server""#),
    ("/audio/input/echo_cancellation/channels", "1"),
    ("/audio/input/echo_cancellation/reference_source", r#""server""#),
];

/// Visible characters without blanks, for a part of an address.
pub(super) fn word(text: &str, max: usize) -> Result<String, String> {
    if text.contains(char::is_whitespace) {
        return Err(format!("must not hold blanks, but is {}", shown(text)));
    }
    line(text, max)
}

/// Program and arguments: words separated by blanks, in double or single quotes where they hold blanks,
/// or a JSON array of texts. Nothing is expanded.
pub(super) fn command(text: &str) -> Result<Vec<String>, String> {
    if text.starts_with('[') {
        let words: Vec<String> = serde_json::from_str::<Value>(text)
            .ok()
            .and_then(|list| {
                list.as_array()?.iter().map(|it| it.as_str().map(str::to_owned)).collect()
            })
            .ok_or("must be a JSON array of texts, such as [\"az\", \"account\"]")?;
        return if words.is_empty() { Err("names no program".to_owned()) } else { Ok(words) };
    }
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line(text, 4096)?.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    match quote {
        Some(open) => Err(format!("lacks the closing {open}")),
        None if words.is_empty() => Err("names no program".to_owned()),
        None => Ok(words),
    }
}

/// A part of a request to Entra ID: an id or a name.
pub(super) fn entra_word(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/".contains(&byte);
    if text.len() > 256 || !text.bytes().all(allowed) {
        return Err("must be one word of letters, digits, dots and hyphens".to_owned());
    }
    Ok(text.to_owned())
}

/// A secret for a request to Entra ID. No fault quotes it.
pub(super) fn entra_secret(text: &str) -> Result<String, String> {
    Secret::header_value(text).map(|secret| secret.expose().to_owned())
}

/// The address of Entra ID, without a `/` at its end. The secret goes there, so it must be encrypted,
/// unless it stays on this machine.
pub(super) fn authority(text: &str) -> Result<String, String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let parsed = Endpoint::exact(&whole)?;
    if !parsed.tls && !proxy::is_direct(&parsed.host, "") {
        return Err("would send the secret unencrypted; it must begin with https://".to_owned());
    }
    Ok(whole.trim_end_matches('/').to_owned())
}

/// The address of an endpoint beside this machine, without a `/` at its end.
pub(super) fn near_address(text: &str) -> Result<String, String> {
    Endpoint::exact(text)?;
    Ok(text.trim_end_matches('/').to_owned())
}

/// One line without control characters.
pub(super) fn line(text: &str, max: usize) -> Result<String, String> {
    if text.len() > max {
        return Err(format!("is longer than {max} bytes"));
    }
    if text.contains(char::is_control) {
        return Err(format!("must be one plain line, but is {}", shown(text)));
    }
    Ok(text.to_owned())
}

/// A text for the model. It may have line breaks and tabs.
pub(super) fn prose(text: &str) -> Result<String, String> {
    if text.len() > MAX_TEXT_FILE {
        return Err(format!("is longer than {MAX_TEXT_FILE} bytes"));
    }
    let plain = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    if text.is_empty() || !text.chars().all(plain) {
        return Err("must be plain text, not empty, without control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// The largest number of models in a list. Each refused model costs a call one connection.
const MAX_MODELS: usize = 8;

/// Names with commas between them, in the order in which calls try them.
pub(super) fn models(text: &str) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    for name in text.split(',').map(str::trim) {
        let name = word(name, 128)?;
        if name.is_empty() {
            return Err(format!("has no name before or after a comma in {}", shown(text)));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.len() > MAX_MODELS {
        return Err(format!("must be at most {MAX_MODELS} models, but is {}", shown(text)));
    }
    Ok(names)
}

/// Most languages that the service's transcribers take.
const MAX_LANGUAGES: usize = 10;

pub(super) fn language(text: &str) -> Result<String, String> {
    // RFC 5646: a language of two or three letters, then script, region and variants.
    let tag = |tag: &str| {
        let language = tag.split('-').next().unwrap_or_default();
        let parts = tag.split('-').all(|part| {
            (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
        });
        let letters = language.bytes().all(|b| b.is_ascii_alphabetic());
        parts && letters && matches!(language.len(), 2 | 3) && tag.len() <= 35
    };
    let tags: Vec<&str> = text.split(',').map(str::trim).collect();
    if tags.len() > MAX_LANGUAGES {
        return Err(format!("must be at most {MAX_LANGUAGES} languages, but is {}", shown(text)));
    }
    if !tags.iter().copied().all(tag) {
        return Err(format!(
            "must be a code of two letters, with or without a region, such as en or en-US, or \
             several: en,de; but is {}",
            shown(text)
        ));
    }
    Ok(tags.join(","))
}

/// A file's name.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    line(text, 4096).map(PathBuf::from)
}

pub(super) fn listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let address: SocketAddr = text.parse().map_err(|_| {
        format!(
            "must be ADDRESS:PORT such as 127.0.0.1:8000 or [::1]:8000, or off; but is {}",
            shown(text)
        )
    })?;
    Ok(Some(address))
}

/// Whether callers are asked for a token.
pub(super) fn asks_token(text: &str) -> Result<bool, String> {
    match text {
        "token" => Ok(true),
        "open" => Ok(false),
        _ => Err(format!("must be token or open, but is {}", shown(text))),
    }
}

pub(super) fn token_file(draft: &mut Draft, path: &str, files: Files<'_>) -> Result<(), String> {
    // The file may have some white space around the token.
    let text = text_file(path, Secret::MAX_TOKEN_BYTES + 64, files)?;
    draft.secret_files.push(path.into());
    let token = Secret::access_token(&text);
    draft.token = Some(token.map_err(|fault| format!("the token in {} {fault}", shown(path)))?);
    Ok(())
}

/// A folder that does not depend on where the daemon was started.
pub(super) fn folder(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(format!("must be a path that begins with /, but is {}", shown(text)));
    }
    Ok(path.to_owned())
}

/// Origins as browsers write them: lower case, no path, no usual port.
pub(super) fn origins(text: &str) -> Result<Vec<String>, String> {
    let items = text.split(|c: char| c == ',' || c.is_whitespace());
    let items = items.filter(|item| !item.is_empty());
    let origins: Result<Vec<_>, _> = items.map(origin).collect();
    let origins = origins?;
    if origins.len() > 64 {
        return Err("lists more than 64 origins".to_owned());
    }
    Ok(origins)
}

fn origin(text: &str) -> Result<String, String> {
    let fault = || {
        format!(
            "must list origins such as https://app.example.com (scheme, host and port; no *, no \
             path), but has {}",
            shown(text)
        )
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(fault)?;
    let scheme = scheme.to_ascii_lowercase();
    let letters = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    if scheme.is_empty() || !scheme.bytes().all(letters) {
        return Err(fault());
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = address::parse_authority(authority).map_err(|_| fault())?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let usual = match scheme.as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    Ok(match port.filter(|port| Some(*port) != usual) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

pub(super) fn count(text: &str, max: u16) -> Result<usize, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(number) if digits && (1..=max).contains(&number) => Ok(usize::from(number)),
        _ => Err(number_fault(text, u32::from(max))),
    }
}

pub(super) fn minutes(text: &str, max: u32) -> Result<Option<Duration>, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    seconds(text, max).map(|minutes| Some(minutes * 60))
}

pub(super) fn seconds(text: &str, max: u32) -> Result<Duration, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(number) if digits && (1..=max).contains(&number) => {
            Ok(Duration::from_secs(u64::from(number)))
        }
        _ => Err(number_fault(text, max)),
    }
}

/// As [`seconds`], but 0 is allowed.
/// `on` or `off`.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("must be on or off, but is {}", shown(text))),
    }
}

pub(super) fn seconds_or_none(text: &str, max: u32) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    seconds(text, max)
        .map_err(|_| format!("must be a whole number from 0 to {max}, but is {}", shown(text)))
}

fn number_fault(text: &str, max: u32) -> String {
    format!("must be a whole number from 1 to {max}, but is {}", shown(text))
}

pub(super) fn level(text: &str) -> Result<log::LevelFilter, String> {
    match text.parse() {
        Ok(level) if level != log::LevelFilter::Off => Ok(level),
        _ => Err(format!("must be error, warn, info, debug or trace, but is {}", shown(text))),
    }
}

fn bytes(path: &str, max: usize, files: Files<'_>) -> Result<Vec<u8>, String> {
    files(Path::new(path), max).map_err(|fault| format!("cannot read {}: {fault}", shown(path)))
}

fn text_file(path: &str, max: usize, files: Files<'_>) -> Result<String, String> {
    String::from_utf8(bytes(path, max, files)?)
        .map_err(|_| format!("{} is not UTF-8 text", shown(path)))
}

/// A value for a message: quoted, escaped, and cut when long.
pub(super) fn shown(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_state_their_range() {
        assert_eq!(count("10000", 10_000), Ok(10_000));
        assert_eq!(seconds("86400", 86_400), Ok(Duration::from_secs(86_400)));
        for bad in ["0", "-1", "+1", "1.5", "1e3", "86401", "99999999999", "ten", " "] {
            assert!(seconds(bad, 86_400).unwrap_err().contains("1 to 86400"), "{bad}");
            assert!(count(bad, 10_000).unwrap_err().contains("1 to 10000"), "{bad}");
        }
    }

    #[test]
    fn listens_on_addresses_with_ports() {
        assert_eq!(listen("OFF"), Ok(None));
        for good in ["127.0.0.1:0", "127.9.9.9:80", "[::1]:8000", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(listen(good), Ok(Some(good.parse().unwrap())));
        }
        for open in ["0.0.0.0:8000", "[::]:8000", "192.168.1.2:80"] {
            assert_eq!(listen(open), Ok(Some(open.parse().unwrap())), "{open}");
        }
        for bad in ["8000", "localhost:8000", "127.0.0.1", "::1:8000", "127.0.0.1:65536"] {
            assert!(listen(bad).unwrap_err().contains("ADDRESS:PORT"), "{bad}");
        }
    }

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        let text = "https://App.Example.com:443/, http://[::1]:8000\nhttp://h:80 app://localhost";
        let expected =
            ["https://app.example.com", "http://[::1]:8000", "http://h", "app://localhost"];
        assert_eq!(origins(text).unwrap(), expected);
        for bad in
            ["*", "null", "example.com", "https://", "https://h/p", "https://u@h", "https://*.h"]
        {
            assert!(origins(bad).is_err(), "{bad}");
        }
        assert!(origins(&"http://h ".repeat(65)).is_err());
    }

    #[test]
    fn access_is_one_of_two_words() {
        assert_eq!((asks_token("token"), asks_token("open")), (Ok(true), Ok(false)));
        for bad in ["Open", "opne", "none", "off", "1", "true"] {
            assert!(asks_token(bad).unwrap_err().contains("token or open"), "{bad}");
        }
    }

    #[test]
    fn languages() {
        assert_eq!(language("en-US").unwrap(), "en-US");
        assert_eq!(language("en, de").unwrap(), "en,de");
        assert_eq!(language("fil-PH,zh-Hans-CN").unwrap(), "fil-PH,zh-Hans-CN");
        for bad in ["english", "English", "e", "12", "deutsch,en", "en_US", "en,", "-"] {
            assert!(language(bad).unwrap_err().contains("such as en"), "{bad}");
        }
        for bad in ["english language", &"en,".repeat(20)] {
            assert!(language(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn messages_escape_and_cut_values() {
        assert_eq!(shown("a\n\u{1b}\"b"), "\"a\\n\\u{1b}\\\"b\"");
        assert!(shown(&"ü".repeat(500)).len() < 200);
    }
}
