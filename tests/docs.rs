//! `.env.example` and the README's table say exactly what the code knows, and the tests that
//! `docs/security.md` leans on exist.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use voicelived::config::{Config, EnvFile, Purpose, Sources, VARIABLES, dotenv};

fn in_repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    let text = std::fs::read_to_string(in_repository(name));
    text.unwrap_or_else(|fault| panic!("{name}: {fault}"))
}

/// `.env.example` as the table of settings implies it.
fn example() -> String {
    let mut text = String::from(
        "# Settings of voicelived. Copy this file to .env and remove the # before what you set.\n\
         # The environment wins over this file; an empty value counts as unset. A comment needs a\n\
         # line of its own. AZURE_VOICELIVE_… is accepted wherever AZURE_VOICE_LIVE_… is written.\n",
    );
    let mut group = "";
    for variable in VARIABLES {
        if variable.group != group {
            group = variable.group;
            text += &format!("\n# --- {group} ---\n");
        }
        let quote = if variable.default.contains(' ') { "\"" } else { "" };
        let (name, value) = (variable.name, variable.default);
        text += &format!("\n# {}\n#{name}={quote}{value}{quote}\n", variable.explanation);
    }
    text
}

/// Words in `text` that look like a setting of ours.
fn names(text: &str) -> BTreeSet<String> {
    let letters = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c: char| !letters(c));
    let prefixes = ["VOICELIVED_", "AZURE_", "VOICE_LIVE_"];
    words
        .filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)))
        .filter(|word| !word.ends_with('_'))
        .map(str::to_owned)
        .collect()
}

/// `UPDATE=1 cargo test --test docs` writes the file anew.
#[test]
fn env_example_is_what_the_code_knows() {
    let path = in_repository(".env.example");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, example()).unwrap();
    }
    assert_eq!(read(".env.example"), example());
}

#[test]
fn env_example_can_be_used_as_it_is() {
    let no_files = |_: &Path, _: usize| Err(io::ErrorKind::NotFound.into());
    let with_settings: String = read(".env.example")
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let entries = dotenv::parse(with_settings.as_bytes());
    let faults: Vec<_> = entries.iter().filter(|entry| entry.is_err()).collect();
    assert!(faults.is_empty() && entries.len() == VARIABLES.len(), "{faults:?}");
    let sources = Sources {
        env_file: Some(EnvFile { path: ".env.example".into(), bytes: with_settings.into() }),
        ..Sources::default()
    };
    let config = Config::load(Purpose::Demo, sources, &no_files).unwrap();
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn readme_names_every_setting_and_no_other() {
    let found = names(&read("README.md"));
    let documented: BTreeSet<String> = VARIABLES.iter().map(|v| v.name.to_owned()).collect();
    let accepted = VARIABLES.iter().flat_map(|v| v.spellings()).collect();
    let missing: Vec<_> = documented.difference(&found).collect();
    assert!(missing.is_empty(), "README.md lacks {missing:?}");
    let unknown: Vec<_> = found.difference(&accepted).collect();
    assert!(unknown.is_empty(), "README.md names {unknown:?}, which no setting has");
}

#[test]
fn the_threat_model_names_tests_that_exist() {
    let text = read("docs/security.md");
    let named: Vec<_> = text.split('`').filter_map(|word| word.split_once("::")).collect();
    // Types have capitals: `Gate::admits_host` is no test.
    let is_test = |file: &str| file.starts_with(|c: char| c.is_ascii_lowercase());
    let tests: Vec<_> = named.into_iter().filter(|(file, _)| is_test(file)).collect();
    assert!(tests.len() > 40, "{tests:?}");
    for (file, name) in tests {
        let path = if file.ends_with(".rs") { file.into() } else { format!("tests/{file}.rs") };
        let found = read(&path).contains(&format!("#[test]\n    fn {name}()"))
            || read(&path).contains(&format!("#[test]\nfn {name}()"));
        assert!(found, "{path} has no test {name}");
    }
}

#[test]
fn the_protocol_names_every_reason_of_an_end() {
    let protocol = read("docs/protocol.md");
    let words = |file: &str, from: &str, to: &str, marker: &str| -> Vec<String> {
        let text = read(file);
        let text = text.split(from).nth(1).expect("it begins").split(to).next().expect("some");
        let found = text.split(marker).skip(1).filter_map(|rest| rest.split('"').next());
        found.map(str::to_owned).collect()
    };
    let mut all = words("src/call/ending.rs", "pub fn word", "pub fn message", "=> \"");
    for marker in ["fault(\n            \"", "fault(\"", "=> (\""] {
        all.extend(words(
            "src/session/connection_faults.rs",
            "pub fn explain",
            "mod tests",
            marker,
        ));
    }
    assert!(all.len() > 30, "{all:?}");
    for word in all {
        assert!(protocol.contains(&format!("`{word}`")), "docs/protocol.md lacks {word}");
    }
}
