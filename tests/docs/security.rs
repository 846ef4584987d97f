//! What `docs/security.md` says about the code, held against the code.

use std::collections::BTreeSet;
use std::path::Path;

use super::{in_repository, read};

const PAGE: &str = "docs/security.md";

/// Every file below `folder` that ends in `.rs`, with its text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![in_repository(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("source is text");
                found.push((path.to_str().expect("a plain name").to_owned(), text));
            }
        }
    }
    found
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_place_in_the_code_exists() {
    let page = read(PAGE);
    let code = sources("src");
    let is_path = |word: &&str| {
        let ours = ["src/", "tests/", "examples/", "docs/"].iter().any(|at| word.starts_with(at));
        ours && !word.contains("::")
    };
    // Of a command such as `tests/run judges` the program.
    let paths: Vec<_> = quoted(&page).filter(is_path).filter_map(|p| p.split(' ').next()).collect();
    assert!(paths.len() > 20, "{paths:?}");
    for path in paths {
        assert!(in_repository(path).exists(), "{PAGE} names {path}, which is not there");
    }
    let capital = |word: &str| word.starts_with(|c: char| c.is_ascii_uppercase());
    let methods = quoted(&page).filter_map(|word| word.split_once("::")).filter(|m| capital(m.0));
    let mut seen = 0;
    for (owner, method) in methods {
        let block = format!("impl {owner} {{");
        let function = format!("fn {method}(");
        let found = code.iter().any(|(_, text)| text.contains(&block) && text.contains(&function));
        assert!(found, "{PAGE} names {owner}::{method}, which is not there");
        seen += 1;
    }
    assert!(seen > 3);
}

/// "Forbid" where the code says "deny" was once on the page.
#[test]
fn what_is_said_of_unsafe_code_is_what_the_compiler_is_told() {
    let page = read(PAGE);
    let told = ["src/lib.rs", "src/main.rs", "Cargo.toml"].map(read);
    let said: Vec<_> = quoted(&page).filter(|word| word.contains("unsafe_code")).collect();
    assert!(!said.is_empty());
    for word in said {
        assert!(told.iter().any(|text| text.contains(word)), "{PAGE} says {word}");
    }
    let forbids = "#![forbid(unsafe_code)]";
    assert!(page.contains(forbids) && told[..2].iter().all(|text| text.contains(forbids)));
}

/// `tests/metrics.rs` lists the test that sees each limit's count, and checks that list. The page
/// names them all, so it cannot call one of these counts untested.
#[test]
fn the_test_of_every_limit_is_named() {
    let page = read(PAGE);
    let list = read("tests/metrics.rs");
    let list = list.split("const TESTED").nth(1).expect("a list").split("\n];").next().unwrap();
    let tests: BTreeSet<_> = list.split('"').filter(|word| word.contains("::")).collect();
    assert!(tests.len() > 15, "{tests:?}");
    let missing: Vec<_> = tests.iter().filter(|test| !page.contains(**test)).collect();
    assert!(missing.is_empty(), "{PAGE} lacks {missing:?}");
}

/// Seconds, bytes or a plain number, from words such as `10 min` or `64 KiB`.
fn bound(words: &str) -> u64 {
    let mut words = words.split(' ');
    let number: u64 = words.next().and_then(|word| word.parse().ok()).expect("a number");
    number
        * match words.next() {
            None | Some("s") => 1,
            Some("min") => 60,
            Some("days") => 24 * 60 * 60,
            Some("KiB") => 1024,
            Some(unit) => panic!("{unit}?"),
        }
}

/// The same from a constant's code: a product of numbers, seconds of such a product, or the length
/// of an array.
fn constant(kind: &str, code: &str) -> u64 {
    if let Some(length) = kind.strip_prefix("[&str; ") {
        return length.trim_end_matches(']').parse().expect("a length");
    }
    let code = code.strip_prefix("Duration::from_secs(").unwrap_or(code).trim_end_matches(')');
    let factors = code.split('*').map(|factor| factor.trim().replace('_', ""));
    factors.map(|factor| factor.parse::<u64>().unwrap_or_else(|_| panic!("{code}?"))).product()
}

#[test]
fn every_bound_is_that_of_the_code() {
    let page = read(PAGE);
    let section = page.split("\n## Bounds\n").nth(1).expect("bounds").split("\n## ").next();
    let code = sources("src");
    let rows = section.expect("a table").lines().filter(|line| line.ends_with("` |"));
    let mut seen = 0;
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, value, name] = cells[..] else { panic!("{row}") };
        let name = name.trim_matches('`');
        // `tools::TIMEOUT` is the one below a folder or in a file of that name.
        let (room, name) = name.split_once("::").unwrap_or(("", name));
        let begin = format!("const {name}: ");
        let is_there = |path: &str| {
            let path = path.trim_end_matches(".rs");
            !path.contains("/simulator/")
                && (room.is_empty() || Path::new(path).iter().any(|part| part == room))
        };
        let found: Vec<_> = code
            .iter()
            .filter(|(path, _)| is_there(path))
            .flat_map(|(_, text)| text.split(begin.as_str()).skip(1))
            .collect();
        let [rest] = found[..] else { panic!("{name} stands in {} places", found.len()) };
        let (kind, rest) = rest.split_once(" =").expect("a type");
        let value_of_code = rest.split(';').next().expect("a value").trim();
        assert_eq!(bound(value), constant(kind, value_of_code), "{PAGE}: {row}");
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
}
