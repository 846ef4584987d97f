//! Parses the command line into a [`Command`], or says in one sentence what is wrong with it.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::{Long, Short, Value};

use crate::config::Endpoint;

/// The command that the program was started with.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// The daemon.
    Run(RunArgs),
    /// The daemon with the built-in simulator as its service.
    Demo(RunArgs),
    /// A test of the configuration and of the service.
    Check(CheckArgs),
    /// The simulated service alone.
    Simulate(SimulateArgs),
    /// A call from the command line.
    Call(CallArgs),
    /// Internal: prints the addresses of a host.
    Resolve {
        /// Name or address.
        host: String,
        /// Passed through to the printed socket addresses.
        port: u16,
    },
    /// The tools: a list, or a run of one.
    Tools(ToolsArgs),
    /// Internal: sends a tool's web request; its job is on standard input.
    Request,
    /// Internal: runs built-in tools, one for each line of standard input.
    ServeTools,
    /// `__mcp_http`: the child between the loop and an MCP server behind HTTP.
    McpHttp,
    /// Internal: fetches a token of Entra ID; its job is on standard input.
    Token,
    /// Print [`help`].
    Help(Topic),
    /// Print [`version`].
    Version,
}

/// Options of the daemon.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunArgs {
    /// File to use in place of `.env`.
    pub env_file: Option<PathBuf>,
    /// Wins over `VOICELIVED_LISTEN`; checked with the rest of the configuration.
    pub listen: Option<String>,
    /// Scripted faults of a demo's simulator, in its own notation.
    pub faults: Vec<String>,
}

/// Options of `check`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckArgs {
    /// File to use in place of `.env`, or of the service's file.
    pub env_file: Option<PathBuf>,
    /// Whether the settings are those of the installed service.
    pub service: bool,
}

/// Options of `tools`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ToolsArgs {
    /// File to use in place of `.env`, or of the service's file.
    pub env_file: Option<PathBuf>,
    /// Whether the settings are those of the installed service.
    pub service: bool,
    /// The folder with the tools; without it the settings name it.
    pub folder: Option<PathBuf>,
    /// What to run; without it the tools are listed.
    pub run: Option<Run>,
}

/// A run of a tool.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    /// The tool's name.
    pub name: String,
    /// Its arguments as JSON, as a model would write them.
    pub arguments: String,
}

/// Options of `simulate`.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulateArgs {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Scripted faults, in the simulator's own notation.
    pub faults: Vec<String>,
    /// PEM files of certificate and key: with them it speaks TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// Options of `call`.
#[derive(Debug, Clone, PartialEq)]
pub struct CallArgs {
    /// The daemon's `/ws`.
    pub url: Endpoint,
    /// The speech to send.
    pub input: CallInput,
    /// WAV file for the answer.
    pub output: Option<PathBuf>,
    /// A typed turn. It follows the speech, if both are given.
    pub text: Option<String>,
    /// File that holds the daemon's access token. There is no option for the token itself, because
    /// other users could see it in the list of processes.
    pub token_file: Option<PathBuf>,
    /// File to use in place of `.env`, which may hold the token too.
    pub env_file: Option<PathBuf>,
    /// PEM file with further authorities to trust, such as the daemon's own.
    pub authorities: Option<PathBuf>,
    /// Whether the token may go through a network unencrypted.
    pub unencrypted_token: bool,
    /// How long the answer may take to begin.
    pub timeout: Duration,
}

/// Speech of a `call`.
#[derive(Debug, Clone, PartialEq)]
pub enum CallInput {
    /// None: there is a typed turn.
    Silence,
    /// A WAV file.
    Wav(PathBuf),
    /// Raw PCM16, 24 kHz, mono, from standard input.
    Stdin,
}

/// The topic of a help text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// The program as a whole, and `run`.
    Main,
    /// `demo`.
    Demo,
    /// `check`.
    Check,
    /// `simulate`.
    Simulate,
    /// `call`.
    Call,
    /// `tools`.
    Tools,
}

/// What is wrong with the command line, in one line. Exit code [`exit::USAGE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; see voicelived --help", self.0)
    }
}

impl std::error::Error for UsageError {}

impl From<lexopt::Error> for UsageError {
    fn from(fault: lexopt::Error) -> Self {
        // The sentence may quote an argument as it was given. Quotes and backslashes do no harm.
        let mut text = String::new();
        for letter in fault.to_string().chars() {
            match letter {
                '\'' | '"' | '\\' => text.push(letter),
                _ => text.extend(letter.escape_debug()),
            }
        }
        Self(text)
    }
}

impl From<String> for UsageError {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Reads the arguments, without the program's own name. The command comes first. Without a command
/// it is `run`.
///
/// # Errors
/// One sentence about the first fault.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut arguments = arguments.into_iter().peekable();
    let is_command = |word: &OsString| !word.as_encoded_bytes().starts_with(b"-");
    let command = arguments.next_if(is_command);
    let command = command.unwrap_or_else(|| "run".into());
    let mut parser = lexopt::Parser::from_args(arguments);
    match command.to_str() {
        Some("run") => run_args(&mut parser, Topic::Main, Command::Run),
        Some("demo") => run_args(&mut parser, Topic::Demo, Command::Demo),
        Some("check") => check_args(&mut parser),
        Some("simulate") => simulate_args(&mut parser),
        Some("call") => call_args(&mut parser),
        Some("tools") => tools_args(&mut parser),
        Some("help") => help_args(&mut parser),
        Some("version") => Ok(Command::Version),
        Some("__resolve") => {
            let host = positional(&mut parser, "host")?;
            let port = positional(&mut parser, "port")?;
            let port = port.parse().map_err(|_| "the port is not a number".to_owned())?;
            Ok(Command::Resolve { host, port })
        }
        Some("__token") => alone(&mut parser, Command::Token),
        Some("__request") => alone(&mut parser, Command::Request),
        Some("__tools") => alone(&mut parser, Command::ServeTools),
        Some("__mcp_http") => alone(&mut parser, Command::McpHttp),
        _ => Err(format!("there is no command {command:?}").into()),
    }
}

/// Name and version of the program.
#[must_use]
pub fn version() -> &'static str {
    concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"))
}

/// The options that every command has: help and version, which replace its work.
fn common(option: &lexopt::Arg<'_>, topic: Topic) -> Option<Command> {
    match option {
        Short('h') | Long("help") => Some(Command::Help(topic)),
        Short('V') | Long("version") => Some(Command::Version),
        _ => None,
    }
}

fn run_args(
    parser: &mut lexopt::Parser,
    topic: Topic,
    command: fn(RunArgs) -> Command,
) -> Result<Command, UsageError> {
    let mut args = RunArgs::default();
    while let Some(option) = parser.next()? {
        if let Some(other) = common(&option, topic) {
            return Ok(other);
        }
        match option {
            Long("env-file") => args.env_file = Some(parser.value()?.into()),
            Long("listen") => args.listen = Some(text(parser)?),
            Long("fault") if topic == Topic::Demo => args.faults.push(text(parser)?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(command(args))
}

fn check_args(parser: &mut lexopt::Parser) -> Result<Command, UsageError> {
    let mut args = CheckArgs::default();
    while let Some(option) = parser.next()? {
        if let Some(other) = common(&option, Topic::Check) {
            return Ok(other);
        }
        match option {
            Long("env-file") => args.env_file = Some(parser.value()?.into()),
            Long("service") => args.service = true,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Check(args))
}

fn tools_args(parser: &mut lexopt::Parser) -> Result<Command, UsageError> {
    let (mut args, mut words) = (ToolsArgs::default(), Vec::new());
    while let Some(option) = parser.next()? {
        if let Some(other) = common(&option, Topic::Tools) {
            return Ok(other);
        }
        match option {
            Long("env-file") => args.env_file = Some(parser.value()?.into()),
            Long("service") => args.service = true,
            Long("dir") => args.folder = Some(parser.value()?.into()),
            Value(word) if words.len() < 3 => words.push(word.to_string_lossy().into_owned()),
            other => return Err(other.unexpected().into()),
        }
    }
    args.run = match words.as_slice() {
        [] => None,
        [run, name, rest @ ..] if run == "run" => {
            let arguments = rest.first().cloned().unwrap_or_default();
            Some(Run { name: name.clone(), arguments })
        }
        [run] if run == "run" => return Err("the tool's name is missing".to_owned().into()),
        [other, ..] => return Err(format!("tools has no command {other:?}").into()),
    };
    Ok(Command::Tools(args))
}

fn simulate_args(parser: &mut lexopt::Parser) -> Result<Command, UsageError> {
    let mut listen = SocketAddr::from(([127, 0, 0, 1], 9000));
    let mut faults = Vec::new();
    let (mut cert, mut key) = (None, None);
    while let Some(option) = parser.next()? {
        if let Some(other) = common(&option, Topic::Simulate) {
            return Ok(other);
        }
        match option {
            Long("listen") => {
                let value = text(parser)?;
                listen = value.parse().map_err(|_| {
                    format!("--listen must be ADDRESS:PORT such as 127.0.0.1:9000, not {value:?}")
                })?;
            }
            Long("fault") => faults.push(text(parser)?),
            Long("cert") => cert = Some(PathBuf::from(parser.value()?)),
            Long("key") => key = Some(PathBuf::from(parser.value()?)),
            other => return Err(other.unexpected().into()),
        }
    }
    let tls = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err("--cert and --key must be given together".to_owned().into()),
    };
    Ok(Command::Simulate(SimulateArgs { listen, faults, tls }))
}

fn call_args(parser: &mut lexopt::Parser) -> Result<Command, UsageError> {
    let mut url = "ws://127.0.0.1:8000/ws".to_owned();
    let (mut input, mut output, mut typed) = (None, None, None);
    let (mut token_file, mut env_file, mut authorities) = (None, None, None);
    let mut timeout = Duration::from_secs(30);
    let mut unencrypted_token = false;
    while let Some(option) = parser.next()? {
        if let Some(other) = common(&option, Topic::Call) {
            return Ok(other);
        }
        match option {
            Long("url") => url = text(parser)?,
            Long("in") => input = Some(parser.value()?),
            Long("out") => output = Some(parser.value()?.into()),
            Long("text") => typed = Some(text(parser)?),
            Long("token-file") => token_file = Some(parser.value()?.into()),
            Long("env-file") => env_file = Some(parser.value()?.into()),
            Long("ca") => authorities = Some(parser.value()?.into()),
            Long("timeout") => timeout = seconds(&text(parser)?)?,
            Long("send-token-unencrypted") => unencrypted_token = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let input = match input {
        Some(word) if word == "-" => CallInput::Stdin,
        Some(path) => CallInput::Wav(path.into()),
        None if typed.is_some() => CallInput::Silence,
        None => CallInput::Stdin,
    };
    Ok(Command::Call(CallArgs {
        url: daemon_url(&url)?,
        input,
        output,
        text: typed,
        token_file,
        env_file,
        authorities,
        unencrypted_token,
        timeout,
    }))
}

/// The address of a daemon's `/ws`. The address of the page, as a browser shows it, is accepted
/// too.
fn daemon_url(text: &str) -> Result<Endpoint, UsageError> {
    let mut url = Endpoint::exact(text).map_err(|fault| format!("--url {fault}"))?;
    if url.path_and_query == "/" {
        url.path_and_query = "/ws".to_owned();
    }
    Ok(url)
}

fn help_args(parser: &mut lexopt::Parser) -> Result<Command, UsageError> {
    let Some(Value(word)) = parser.next()? else {
        return Ok(Command::Help(Topic::Main));
    };
    let topic = match word.to_str() {
        Some("run") => Topic::Main,
        Some("demo") => Topic::Demo,
        Some("check") => Topic::Check,
        Some("simulate") => Topic::Simulate,
        Some("call") => Topic::Call,
        Some("tools") => Topic::Tools,
        _ => return Err(format!("there is no command {word:?}").into()),
    };
    Ok(Command::Help(topic))
}

fn text(parser: &mut lexopt::Parser) -> Result<String, UsageError> {
    let word = parser.value()?.into_string();
    word.map_err(|word| format!("{word:?} is not UTF-8 text").into())
}

fn positional(parser: &mut lexopt::Parser, what: &str) -> Result<String, UsageError> {
    match parser.next()? {
        Some(Value(word)) => {
            word.into_string().map_err(|word| format!("{word:?} is not UTF-8 text").into())
        }
        _ => Err(format!("the {what} is missing").into()),
    }
}

/// A command that takes no arguments.
fn alone(parser: &mut lexopt::Parser, command: Command) -> Result<Command, UsageError> {
    match parser.next()? {
        None => Ok(command),
        Some(argument) => Err(argument.unexpected().into()),
    }
}

fn seconds(text: &str) -> Result<Duration, UsageError> {
    match text.parse::<u32>() {
        Ok(number @ 1..=3600) => Ok(Duration::from_secs(number.into())),
        _ => Err(format!("--timeout must be 1 to 3600 seconds, not {text:?}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::help::help;
    use super::*;

    fn parsed(line: &str) -> Result<Command, UsageError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn run_is_what_happens_without_a_command() {
        assert_eq!(parsed("").unwrap(), Command::Run(RunArgs::default()));
        let (env_file, listen) = (Some("a.env".into()), Some("[::1]:1".to_owned()));
        let mut args = RunArgs { env_file, listen, faults: Vec::new() };
        for line in ["--env-file a.env --listen [::1]:1", "run --listen=[::1]:1 --env-file=a.env"] {
            assert_eq!(parsed(line).unwrap(), Command::Run(args.clone()));
        }
        args.faults = vec!["silent".to_owned()];
        let line = "demo --env-file a.env --listen [::1]:1 --fault silent";
        assert_eq!(parsed(line).unwrap(), Command::Demo(args));
    }

    #[test]
    fn simulate() {
        let Command::Simulate(args) = parsed("simulate").unwrap() else { panic!() };
        assert_eq!((args.listen.to_string().as_str(), args.tls), ("127.0.0.1:9000", None));
        let line = "simulate --listen [::]:0 --fault a --fault b=2 --cert c --key k";
        let Command::Simulate(args) = parsed(line).unwrap() else { panic!() };
        assert_eq!((args.listen.port(), args.faults), (0, vec!["a".to_owned(), "b=2".to_owned()]));
        assert_eq!(args.tls, Some(("c".into(), "k".into())));
    }

    #[test]
    fn call() {
        let Command::Call(args) = parsed("call").unwrap() else { panic!() };
        assert_eq!(args.url.to_string(), "ws://127.0.0.1:8000/ws");
        assert_eq!((args.input, args.timeout.as_secs()), (CallInput::Stdin, 30));
        let line = "call --in q.wav --out a.wav --url wss://pi.local:8443/ws --timeout 5 --token-file t --ca c --env-file e";
        let Command::Call(args) = parsed(line).unwrap() else { panic!() };
        assert_eq!(args.input, CallInput::Wav("q.wav".into()));
        assert_eq!((args.output, args.url.port), (Some("a.wav".into()), 8443));
        assert_eq!((args.token_file, args.authorities), (Some("t".into()), Some("c".into())));
        assert_eq!(args.env_file, Some("e".into()));
        assert!(!args.unencrypted_token);
        let line = "call --send-token-unencrypted --url http://pi.local:8000";
        let Command::Call(args) = parsed(line).unwrap() else { panic!() };
        assert!(args.unencrypted_token);
        assert_eq!(args.url.to_string(), "ws://pi.local:8000/ws");
        for (line, expected) in [
            ("call --text hi", CallInput::Silence),
            ("call --text hi --in -", CallInput::Stdin),
            ("call --in -", CallInput::Stdin),
        ] {
            let Command::Call(args) = parsed(line).unwrap() else { panic!() };
            assert_eq!(args.input, expected, "{line}");
        }
    }

    #[test]
    fn help_and_version_everywhere() {
        for (word, topic) in [
            ("", Topic::Main),
            ("run", Topic::Main),
            ("demo", Topic::Demo),
            ("check", Topic::Check),
            ("simulate", Topic::Simulate),
            ("call", Topic::Call),
            ("tools", Topic::Tools),
        ] {
            for line in [format!("{word} --help"), format!("{word} -h"), format!("help {word}")] {
                assert_eq!(parsed(&line).unwrap(), Command::Help(topic), "{line}");
            }
            assert_eq!(parsed(&format!("{word} -V")).unwrap(), Command::Version);
            assert!(help(topic).ends_with('\n') && help(topic).lines().all(|l| l.len() <= 90));
        }
        assert!(version().starts_with("voicelived 0."));
    }

    #[test]
    fn internal_commands() {
        let resolve = parsed("__resolve pi.local 443").unwrap();
        let host = "pi.local".to_owned();
        assert_eq!(resolve, Command::Resolve { host, port: 443 });
        assert_eq!(parsed("__tools").unwrap(), Command::ServeTools);
        assert_eq!(parsed("__mcp_http").unwrap(), Command::McpHttp);
    }

    #[test]
    fn usage_errors_are_one_line() {
        for line in [
            "dance",
            "--dance",
            "run x",
            "check --listen 1",
            "demo --env-file",
            "run --fault silent",
            "call --url ftp://h",
            "call --timeout 0",
            "call --timeout soon",
            "call --send-token-unencrypted=yes",
            "simulate --listen 9000",
            "simulate --cert c",
            "help dance",
            "__resolve h",
            "__resolve h p",
            "__tools x",
            "__request x",
            "tools list",
            "tools run",
            "tools run a b c",
            "--listen a demo",
        ] {
            let text = parsed(line).unwrap_err().to_string();
            assert!(!text.contains(char::is_control) && text.len() < 200, "{text}");
        }
        let text = parsed("check extra").unwrap_err().to_string();
        assert_eq!(text, "unexpected argument \"extra\"; see voicelived --help");
        let odd = parse(["--a\n\u{1b}b".into()]).unwrap_err().to_string();
        assert!(!odd.contains(char::is_control), "{odd:?}");
    }

    #[test]
    fn paths_need_not_be_text() {
        use std::os::unix::ffi::OsStringExt;
        let odd = OsString::from_vec(vec![b'a', 0xff]);
        let words = ["run".into(), "--env-file".into(), odd.clone()];
        let Command::Run(args) = parse(words).unwrap() else { panic!() };
        assert_eq!(args.env_file, Some(odd.clone().into()));
        assert!(parse([odd.clone()]).is_err());
        assert!(parse(["--listen".into(), odd]).is_err());
    }
}
