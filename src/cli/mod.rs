//! The commands of the one binary.
//!
//! `run`, `demo` and `simulate` set up the daemon. `call` and `check` are clients. Each has one
//! connection (`drive`) and waits for it.

mod access_token;
pub mod args;
mod assistants;
mod call;
mod check;
mod drive;
mod drop_ins;
pub mod exit;
mod help;
mod own_names;
pub mod run;
mod screen;
pub mod service;
mod tool_folder;
mod tools;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use args::Command;
use exit::Failure;

/// Runs the command named by the process's arguments and returns its exit code (sysexits.h).
#[must_use]
pub fn main() -> ExitCode {
    match args::parse(std::env::args_os().skip(1))
        .map_err(|error| (exit::USAGE, error.to_string()))
        .and_then(execute)
    {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            // If standard error cannot be written either, the exit code remains.
            let _ =
                writeln!(io::stderr(), "voicelived: {}", message.replace('\n', "\nvoicelived: "));
            ExitCode::from(code)
        }
    }
}

fn execute(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => run::demo(&args),
        Command::Simulate(args) => run::simulate(&args),
        Command::Check(args) => check::check(&args),
        Command::Call(args) => call::call(&args),
        Command::Resolve { host, port } => {
            let found = crate::system::resolve::look_up(&host, port, &mut io::stdout());
            found.map_err(|error| (exit::UNAVAILABLE, error.to_string()))
        }
        Command::Tools(args) => tools::tools(&args),
        Command::Request => send_request(),
        Command::ServeTools => serve_tools(),
        Command::McpHttp => {
            crate::mcp::http::run(&mut io::stdin().lock(), Box::new(io::stdout()));
            Ok(())
        }
        Command::Token => print(&crate::identity::fetch::run(&mut io::stdin())),
        Command::Help(args::Topic::Simulate) => {
            let faults = crate::simulator::Script::help();
            print(&format!(
                "{}\nFaults (--fault WORD, repeatable):\n{faults}",
                help::help(args::Topic::Simulate)
            ))
        }
        Command::Help(topic) => print(help::help(topic)),
        Command::Version => print(&format!("{}\n", args::version())),
    }
}

/// The child of the built-in tools: it serves until its input ends.
fn serve_tools() -> Result<(), Failure> {
    let served = crate::tools::builtin::serve(&mut io::stdin().lock(), &mut io::stdout());
    served.map_err(|error| (exit::IO, error.to_string()))
}

/// The child of a tool's web request. A failure is told on standard output, for the model.
fn send_request() -> Result<(), Failure> {
    match crate::tools::request::run(&mut io::stdin().lock()) {
        Ok(answer) => print(&answer),
        Err(why) => print(&why).and(Err((exit::UNAVAILABLE, why))),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader has closed the pipe, as `head` does.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| (exit::IO, format!("standard output: {error}"))),
    }
}
