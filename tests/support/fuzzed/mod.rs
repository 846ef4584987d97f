//! One function for each parser that meets bytes from outside: it takes any bytes and fails when a
//! promise is broken. libFuzzer drives them from `fuzz/`, `tests/fuzz_corpus.rs` over the corpora.
//!
//! A promise is more than "no panic": what arrives in pieces means what it means in one piece, two
//! readers of one text agree, what was bounded is bounded, what ended stays ended.

#![allow(unreachable_pub, reason = "public for the crate of the fuzz targets, private in a test")]

mod access;
mod call;
mod client_text;
mod dotenv;
mod heads;
mod mcp;
mod peer;
mod service_event;
mod session_file;
mod simulator;
mod tool_file;

pub use access::{fuzz_access, fuzz_credentials};
pub use call::fuzz_call;
pub use client_text::fuzz_client_text;
pub use dotenv::fuzz_dotenv;
pub use heads::{fuzz_request_head, fuzz_upgrade_answer};
pub use mcp::{fuzz_mcp_events, fuzz_mcp_file, fuzz_mcp_lines};
pub use peer::fuzz_peer;
pub use service_event::fuzz_service_event;
pub use session_file::fuzz_session_file;
pub use simulator::fuzz_simulator;
pub use tool_file::fuzz_tool_file;
