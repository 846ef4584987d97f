//! The program's crates, checked without any tool: each comes from crates.io with its checksum,
//! none is there twice, none was decided against, and CONTRIBUTING.md says what each is for.
//! Licences are `make deny`'s part: the lock file does not name them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// In the lock file twice: ring needs an older `getrandom`, and derive macros an older `syn`, at build
/// time. The others belong to what only tests or other systems need, and are in no program twice.
const TWICE: [&str; 3] = ["getrandom", "syn", "windows-sys"];

/// Another TLS, or threads of its own: see `deny.toml`.
const BANNED: [&str; 5] = ["openssl-sys", "aws-lc-sys", "native-tls", "tokio", "async-std"];

fn read(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).expect("a file of ours")
}

/// The value of `key = "value"` in a section of a lock file.
fn value<'a>(section: &'a str, key: &str) -> Option<&'a str> {
    let line = section.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
    line.map(|rest| rest.trim_end_matches('"'))
}

/// Folders of `src/` that are packages of their own.
const OWN: [&str; 5] = [
    "voicelived-lenient",
    "voicelived-mcp",
    "voicelived-models",
    "voicelived-simulator",
    "voicelived-tools",
];

#[test]
fn crates_are_locked_single_and_from_one_place() {
    let lock = read("Cargo.lock");
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for section in lock.split("[[package]]").skip(1) {
        let name = value(section, "name").expect("a name");
        *seen.entry(name).or_default() += 1;
        // The program, and the folders of `src/` that are packages of their own.
        if name == env!("CARGO_PKG_NAME") || OWN.contains(&name) {
            assert_eq!(value(section, "source"), None, "{name}");
            continue;
        }
        let source = value(section, "source");
        assert_eq!(source, Some("registry+https://github.com/rust-lang/crates.io-index"), "{name}");
        assert_eq!(value(section, "checksum").map(str::len), Some(64), "{name}");
        assert!(!BANNED.contains(&name), "{name}");
    }
    assert!(seen.len() > 20, "{seen:?}");
    seen.retain(|_, count| *count > 1);
    assert_eq!(seen.into_keys().collect::<Vec<_>>(), TWICE);
}

#[test]
fn contributing_says_what_each_is_for() {
    let manifest = read("Cargo.toml");
    let contributing = read("CONTRIBUTING.md");
    let table = contributing.split("\n## Crates\n").nth(1).expect("a section of crates");
    let table = table.split("\n## ").next().expect("its text");
    let wanted = ["[dependencies]", "[build-dependencies]"];
    for section in manifest.split("\n\n").filter(|text| wanted.iter().any(|w| text.starts_with(w)))
    {
        for line in section.lines().skip(1) {
            let name = line.split(' ').next().expect("a name");
            if OWN.contains(&name) {
                continue;
            }
            let mut rows = table.lines().filter(|row| row.starts_with('|'));
            assert!(rows.any(|row| row.contains(&format!("`{name}`"))), "{name}");
        }
    }
}

/// Crates that the owner asked for. Each stays, and each does work in the program.
const ASKED_FOR: [&str; 9] = [
    "mio",
    "tungstenite",
    "rustls",
    "webpki-roots",
    "httparse",
    "serde_json",
    "base64",
    "log",
    "simple_logger",
];

/// The program's own text: no comments, no tests.
fn program() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let mut files = vec![root.join("build.rs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of ours") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("our own names");
            match name {
                "tests" | "tests.rs" => {}
                _ if path.is_dir() => folders.push(path),
                _ if name.ends_with(".rs") => files.push(path),
                _ => {}
            }
        }
    }
    let mut program = String::new();
    for file in files {
        let text = fs::read_to_string(file).expect("text");
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        code.for_each(|line| program.extend([line, "\n"]));
    }
    program
}

/// Whether code names a crate's item: `use NAME::…`, or a path that begins with it.
fn uses(program: &str, name: &str) -> bool {
    let path = name.replace('-', "_") + "::";
    program.match_indices(&path).any(|(at, _)| {
        let before = program[..at].chars().next_back().unwrap_or('\n');
        !before.is_alphanumeric() && !matches!(before, '_' | ':')
    })
}

#[test]
fn the_crates_that_were_asked_for_do_their_work() {
    let manifest = read("Cargo.toml");
    let section = manifest.split("[dependencies]\n").nth(1).expect("dependencies");
    let section = section.split("\n\n").next().expect("its lines");
    let declared: Vec<_> = section.lines().filter_map(|line| line.split(' ').next()).collect();
    let program = program();
    for name in ASKED_FOR {
        assert!(declared.contains(&name), "{name} is no dependency of the program");
        assert!(uses(&program, name), "{name} is declared and not used");
    }
    // What is declared and does nothing would be seen.
    assert!(!uses(&program, "tokio") && !uses("a_log::b crate::log::c", "log"));
}
