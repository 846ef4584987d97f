//! Most tests of the program and its library, as one test program: linking one for each file would take
//! longer than running them. `cargo test --test all limits::` runs one file.
//!
//! A new file needs its line here, and says `use crate::support;`. What judges the use of a processor, of
//! memory or of the whole process stays a program of its own, named in `Cargo.toml`.

mod access;
mod agent;
mod assistants;
mod authority;
mod bad_certificates;
mod bad_client;
mod bad_service;
mod barge_in;
mod both_lost;
mod builtin_tools;
mod call;
mod call_again;
mod call_command;
mod check_command;
mod ciphers;
mod client_lost;
mod clock;
mod config;
mod confirm;
mod conversation;
mod dependencies;
mod docs;
mod drop_in_tools;
mod end_of_turn;
mod event_shapes;
mod frames;
mod fuzz_corpus;
mod http;
mod http_corpus;
mod https;
mod identity;
mod late_answers;
mod layering;
mod limits;
mod manual;
mod mcp;
mod metrics;
mod microphone_order;
mod models;
mod names;
mod odd_client;
mod odd_service;
mod old_sample_faults;
mod origin_table;
mod own_authority;
mod pasted_endpoint;
mod patience;
mod proxies;
mod proxy;
mod quiet;
mod refusal_words;
mod reload;
mod reply_audio;
mod response_life;
mod resume;
mod secrets;
mod service_lost;
mod service_rollover;
mod service_settings;
mod session_lost;
mod session_options;
mod session_rollover;
mod simulated_service;
mod spending;
mod stalled_addresses;
mod start_faults;
mod support;
mod system_faults;
mod systemd;
mod terminal;
mod terminal_log;
mod test_command;
mod tool_runs;
mod tool_traces;
mod transcripts;
mod transport_seeds;
mod typed_turns;
mod units;
mod unreachable_service;
mod web_tools;

use std::collections::BTreeSet;
use std::path::Path;

/// A file that nobody names would never be compiled, and its tests would be missed by nobody.
#[test]
fn every_file_of_tests_is_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).expect("a file of ours");
    let mut named = BTreeSet::from(["all".to_owned()]);
    let own = read("tests/all.rs");
    named.extend(
        own.lines()
            .filter_map(|line| Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())),
    );
    let manifest = read("Cargo.toml");
    let programs = manifest.split("[[test]]\n").skip(1);
    named.extend(programs.map(|it| it.split('"').nth(1).expect("its name").to_owned()));
    for entry in std::fs::read_dir(root.join("tests")).expect("it is there") {
        let path = entry.expect("an entry").path();
        let is_code = path.extension().is_some_and(|it| it == "rs")
            || path.join("mod.rs").exists()
            || path.join("main.rs").exists();
        let name = path.file_stem().expect("a name").to_string_lossy();
        assert!(!is_code || named.contains(&*name), "tests/all.rs has no line `mod {name};`");
    }
}
