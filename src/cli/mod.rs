//! The commands of the one binary.

pub mod args;
pub mod run;
pub mod service;
pub mod wav;

use std::process::ExitCode;

use args::Command;

/// Runs the command named by the process's arguments and returns its exit code (sysexits.h).
#[must_use]
pub fn main() -> ExitCode {
    let result = match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Run(args)) => run::run(&args),
        Ok(Command::Demo(args)) => run::demo(&args),
        Ok(Command::Simulate(args)) => run::simulate(&args),
        Ok(Command::Resolve { host, port }) => {
            crate::resolve::look_up(&host, port, &mut std::io::stdout())
                .map_err(|e| (1, e.to_string()))
        }
        Ok(Command::Tool { name }) => {
            crate::tools::run_builtin(&name, &mut std::io::stdin(), &mut std::io::stdout())
                .map_err(|e| (1, e.to_string()))
                .and_then(|ok| if ok { Ok(()) } else { Err((1, String::new())) })
        }
        Ok(_) => Ok(()),
        Err(error) => Err((args::exit::USAGE, error.to_string())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("{message}");
            ExitCode::from(code)
        }
    }
}
