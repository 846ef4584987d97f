//! The `.env` file: its lines one by one, and the configuration made of it.

use std::io::{self, ErrorKind};
use std::path::Path;

use voicelived::config::dotenv::{Entry, Fault, parse};
use voicelived::config::{Config, ConfigError, EnvFile, Purpose, Sources};

/// Lines of which a configuration is made; a misspelt name is compared with every other, so many
/// would be slow and find nothing more.
const MOST_LINES: usize = 24;

/// A `.env` file.
pub fn fuzz_dotenv(data: &[u8]) {
    let lines = parse(data);
    let mut last = 0;
    for line in &lines {
        let number = match line {
            Ok(entry) => {
                check_entry(entry);
                entry.line
            }
            Err(Fault { line, .. }) => *line,
        };
        assert!(number > last, "lines in their order, each once");
        last = number;
    }
    assert!(last <= data.split(|&byte| byte == b'\n').count());
    if lines.len() <= MOST_LINES {
        check_configuration(data);
    }
}

fn check_entry(entry: &Entry) {
    let Entry { name, value, .. } = entry;
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    assert!(name.bytes().all(letters) && !name.is_empty() && !name.as_bytes()[0].is_ascii_digit());
    assert!(!value.contains(['\n', '\0']), "{value:?}");
    // Written in quotes, the same value comes back.
    let escape = |text: String, special: char| text.replace(special, &format!("\\{special}"));
    let escaped = ['\\', '"', '$', '`'].into_iter().fold(value.clone(), escape);
    let written = format!("{name}=\"{escaped}\"");
    let again = Entry { line: 1, ..entry.clone() };
    assert_eq!(parse(written.as_bytes()), [Ok(again)], "{written:?}");
}

/// The whole way: nothing there panics, and what is said is one line each.
fn check_configuration(data: &[u8]) {
    for purpose in [Purpose::Service, Purpose::Demo] {
        let env_file = Some(EnvFile { path: ".env".into(), bytes: data.to_owned() });
        let sources = Sources { env_file, ..Sources::default() };
        match Config::load(purpose, sources, &no_files) {
            Ok(config) => check_config(&config),
            Err(faults) => check_faults(&faults),
        }
    }
}

fn no_files(_: &Path, _: usize) -> io::Result<Vec<u8>> {
    Err(ErrorKind::NotFound.into())
}

/// What every accepted configuration keeps.
pub(super) fn check_config(config: &Config) {
    for warning in &config.warnings {
        assert!(!warning.contains(char::is_control), "{warning:?}");
    }
    let key = config.service.key.expose();
    assert!(!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic()));
    let endpoint = &config.service.endpoint;
    for text in [&endpoint.host, &endpoint.path_and_query] {
        assert!(!text.contains(|c: char| c.is_control() || c == ' '), "{text:?}");
    }
    assert!(config.limits.max_sessions > 0);
}

/// Faults are told as lines of a log, and never show the key.
pub(super) fn check_faults(faults: &[ConfigError]) {
    assert!(!faults.is_empty(), "refused without a word");
    for fault in faults {
        let line = fault.to_string();
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}
