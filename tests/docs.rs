//! `.env.example` and the README's tables say exactly what the code knows, and the tests that
//! `docs/security.md` leans on exist.

mod performance;
mod security;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

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
        "# Settings of voicelived.\n\
         # 1. Make your own copy, which only you can read:  install -m 600 .env.example .env\n\
         # 2. In the copy, fill in the two lines without a #. Remove the # in front of each other setting\n\
         #    that you change.\n\
         # An environment variable of the same name wins over this file. An empty value counts as\n\
         # unset. A comment needs a line of its own. Every AZURE_VOICE_LIVE_… may also be written\n\
         # AZURE_VOICELIVE_….\n",
    );
    let mut group = "";
    for variable in VARIABLES {
        if variable.group != group {
            group = variable.group;
            text += &format!("\n# --- {group} ---\n");
        }
        let quote = if variable.default.contains(' ') { "\"" } else { "" };
        let (name, value) = (variable.name, variable.default);
        // What everybody has to set waits to be filled in: a # left in front of it would hide it.
        let off = if variable.explanation.contains("Required") { "" } else { "#" };
        text += &format!("\n# {}\n{off}{name}={quote}{value}{quote}\n", variable.explanation);
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

/// `UPDATE=1 cargo test --test all docs::` writes the file anew.
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

/// The command by which the README makes `.env`, done in a folder of its own: nobody else can read
/// the file, which will hold the key. The head of `.env.example` says the same command.
#[test]
fn the_readmes_copy_of_env_example_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let readme = read("README.md");
    let mut lines = readme.lines().filter(|line| line.contains(".env.example .env"));
    let (Some(line), None) = (lines.next(), lines.next()) else { panic!("one line makes it") };
    let command = line.split('#').next().expect("a command").trim();
    assert!(read(".env.example").contains(command), "{command}");
    let folder = std::env::temp_dir().join(format!("voicelived-readme-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(in_repository(".env.example"), folder.join(".env.example")).unwrap();
    let script = format!("umask 022 && {command}");
    let status = Command::new("sh").args(["-ec", &script]).current_dir(&folder).status().unwrap();
    let made = std::fs::metadata(folder.join(".env")).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(status.success() && made.permissions().mode() & 0o777 == 0o600, "{command}");
}

/// One row of the README's tables of settings.
struct Row {
    /// The heading above it in the table; empty in the first table.
    group: String,
    names: Vec<String>,
    default: String,
}

fn readme_rows() -> Vec<Row> {
    let readme = read("README.md");
    let section = readme.split("\n## Settings\n").nth(1).expect("a section of settings");
    let section = section.split("\n## ").next().expect("its text");
    let mut group = String::new();
    let mut rows = Vec::new();
    for line in section.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if let Some(heading) = cells[0].strip_prefix("**") {
            group = heading.split("**").next().expect("a heading").to_owned();
        } else if cells[0].starts_with('`') {
            assert!(cells.len() == 3 && !cells[1].is_empty(), "{line}");
            let names = cells[0].split('`').skip(1).step_by(2).map(str::to_owned).collect();
            rows.push(Row { group: group.clone(), names, default: cells[2].to_owned() });
        }
    }
    rows
}

/// Each setting has one place, under its heading, with the default that the code has. What has no
/// default says in words what happens then.
#[test]
fn readme_has_every_setting_once_with_its_default() {
    let rows = readme_rows();
    let top: Vec<_> = rows.iter().filter(|row| row.group.is_empty()).collect();
    assert_eq!(top.len(), 5, "the five settings that most people need");
    for variable in VARIABLES {
        let has_it = |row: &&Row| row.names.iter().any(|name| name == variable.name);
        let found: Vec<_> = rows.iter().filter(has_it).collect();
        let [row] = found[..] else { panic!("{} stands in {} rows", variable.name, found.len()) };
        assert!(row.group.is_empty() || row.group == variable.group, "{}", variable.name);
        if variable.default.is_empty() {
            let words = !row.default.is_empty() && row.default != "-";
            assert!(words, "{}: what without it?", variable.name);
        } else {
            // A row of several settings may have a default for each, in their order.
            let at = row.names.iter().position(|name| name == variable.name).unwrap_or_default();
            let own = row.default.split(", ").nth(at).unwrap_or(&row.default);
            assert_eq!(own, format!("`{}`", variable.default), "{}", variable.name);
        }
    }
}

#[test]
fn readme_names_no_setting_that_does_not_exist() {
    let accepted: BTreeSet<String> = VARIABLES.iter().flat_map(|v| v.spellings()).collect();
    let found = names(&read("README.md"));
    let unknown: Vec<_> = found.difference(&accepted).collect();
    assert!(unknown.is_empty(), "README.md names {unknown:?}, which no setting has");
}

#[test]
fn readme_can_be_read_in_one_go() {
    let lines = read("README.md").lines().count();
    assert!(lines < 150, "{lines} lines");
}

#[test]
fn the_threat_model_names_tests_that_run_and_can_fail() {
    let text = read("docs/security.md") + &read("docs/mcp.md");
    let named: Vec<_> = text.split('`').filter_map(|word| word.split_once("::")).collect();
    // Types and constants have capitals: `Gate::admits_host` and `tools::TIMEOUT` are no tests.
    let small = |word: &str| word.starts_with(|c: char| c.is_ascii_lowercase());
    let tests: Vec<_> =
        named.into_iter().filter(|(file, name)| small(file) && small(name)).collect();
    assert!(tests.len() > 40, "{tests:?}");
    for (file, name) in tests {
        let path = if file.ends_with(".rs") { file.into() } else { format!("tests/{file}.rs") };
        let text = read(&path);
        let body = body_of_test(&text, name);
        let body = body.unwrap_or_else(|| panic!("{path} has no test {name} that runs"));
        assert!(can_fail(&text, body), "{path}: {name} cannot fail");
    }
}

/// Whether a test of this body judges something, itself or by what it calls of its own file.
fn can_fail(file: &str, body: &str) -> bool {
    let functions: Vec<(&str, &str)> =
        file.split("fn ").skip(1).filter_map(|code| code.split_once(['(', '<'])).collect();
    let mut seen = BTreeSet::new();
    let mut open = vec![body];
    while let Some(code) = open.pop() {
        if ["assert", "expect", "panic!", "unwrap", "wait_for"].iter().any(|it| code.contains(it)) {
            return true;
        }
        let called = functions.iter().filter(|(name, _)| code.contains(&format!("{name}(")));
        open.extend(called.filter(|(name, _)| seen.insert(*name)).map(|(_, code)| *code));
    }
    false
}

/// The lines of this test, without its helpers; `None` when there is none or it is left out.
fn body_of_test<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (before, rest) = text.split_once(&format!("fn {name}() {{\n"))?;
    let line = before.rsplit('\n').next().unwrap_or_default();
    let attributes: Vec<_> = before
        .lines()
        .rev()
        .skip(usize::from(!line.is_empty()))
        .map(str::trim)
        .take_while(|line| line.starts_with("#["))
        .collect();
    let runs =
        attributes.contains(&"#[test]") && !attributes.iter().any(|it| it.contains("ignore"));
    runs.then(|| rest.split(&format!("\n{line}}}\n")).next().unwrap_or(rest))
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

/// The page, the documents and the commands call the access token by this one name; and a text of
/// the page stands in one file.
#[test]
fn one_thing_has_one_name_and_one_place() {
    let listed = |folder: &str| std::fs::read_dir(in_repository(folder)).unwrap();
    let files: Vec<_> = ["frontend", "docs", "src/cli", "src/call", "packaging", "."]
        .into_iter()
        .flat_map(listed)
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && path.file_name().unwrap() != "Cargo.lock")
        .collect();
    assert!(files.len() > 60, "{files:?}");
    let mut ready = 0;
    for path in files {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        assert!(!text.to_ascii_lowercase().contains("access code"), "{}", path.display());
        ready += text.matches("Ready when you are").count();
    }
    assert_eq!(ready, 1, "index.html has it, and app.js takes it from there");
}
