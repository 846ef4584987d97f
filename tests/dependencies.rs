//! What the program is made of, without any tool: every crate comes from crates.io with its
//! checksum, none twice, none that was decided against, and CONTRIBUTING.md says what each is for.
//! Licences are `make deny`'s part: the lock file does not name them.

use std::collections::BTreeMap;
use std::fs;

/// In the lock file twice: ring needs an older `getrandom`. The others belong to what only tests or
/// other systems need, and are in no program twice.
const TWICE: [&str; 4] = ["base64", "getrandom", "syn", "windows-sys"];

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

#[test]
fn crates_are_locked_single_and_from_one_place() {
    let lock = read("Cargo.lock");
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for section in lock.split("[[package]]").skip(1) {
        let name = value(section, "name").expect("a name");
        *seen.entry(name).or_default() += 1;
        if name == env!("CARGO_PKG_NAME") {
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
            let mut rows = table.lines().filter(|row| row.starts_with('|'));
            assert!(rows.any(|row| row.contains(&format!("`{name}`"))), "{name}");
        }
    }
}
