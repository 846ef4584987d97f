//! Every input the fuzzers keep, through the same code: `fuzz/corpus/TARGET/*`.
//!
//! Finding more needs `cargo fuzz` (CONTRIBUTING.md, "Fuzz"); keeping what was found needs nothing.

#[path = "support/fuzzed/mod.rs"]
pub(crate) mod fuzzed;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

/// What the repository carries of one target at most.
const MOST_FILES: usize = 200;
const MOST_BYTES: usize = 200 * 1024;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).expect("the target has a corpus");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let mut bytes = 0;
    for path in &paths {
        let data = fs::read(path).expect("a readable file");
        bytes += data.len();
        let outcome = catch_unwind(|| run(&data));
        assert!(outcome.is_ok(), "see above: {}", path.display());
    }
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    assert!(paths.len() <= MOST_FILES && bytes <= MOST_BYTES, "{} is too large", folder.display());
}

#[test]
fn request_heads() {
    replay("request_head", fuzzed::fuzz_request_head);
}

#[test]
fn upgrade_answers() {
    replay("upgrade_answer", fuzzed::fuzz_upgrade_answer);
}

#[test]
fn client_texts() {
    replay("client_text", fuzzed::fuzz_client_text);
}

#[test]
fn service_events() {
    replay("service_event", fuzzed::fuzz_service_event);
}

#[test]
fn dotenv_files() {
    replay("dotenv", fuzzed::fuzz_dotenv);
}

#[test]
fn session_files() {
    replay("session_file", fuzzed::fuzz_session_file);
}

#[test]
fn hosts_and_origins() {
    replay("access", fuzzed::fuzz_access);
}

#[test]
fn tokens_and_cookies() {
    replay("credentials", fuzzed::fuzz_credentials);
}

#[test]
fn websocket_peers() {
    replay("peer", fuzzed::fuzz_peer);
}

#[test]
fn simulations() {
    replay("simulator", fuzzed::fuzz_simulator);
}

#[test]
fn calls() {
    replay("call", fuzzed::fuzz_call);
}

#[test]
fn tool_files() {
    replay("tool_file", fuzzed::fuzz_tool_file);
}

#[test]
fn mcp_files() {
    replay("mcp_file", fuzzed::fuzz_mcp_file);
}

#[test]
fn mcp_lines() {
    replay("mcp_lines", fuzzed::fuzz_mcp_lines);
}

#[test]
fn mcp_event_streams() {
    replay("mcp_events", fuzzed::fuzz_mcp_events);
}
