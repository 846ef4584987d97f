//! The commands of the one binary.

pub mod args;
pub mod wav;

use std::process::ExitCode;

/// Runs the command named by the process's arguments and returns its exit code (sysexits.h).
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
