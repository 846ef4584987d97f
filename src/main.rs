//! The `voicelived` program: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    voicelived::cli::main()
}
