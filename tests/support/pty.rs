//! A terminal of its own for a program: the pseudo-terminal of util-linux's `script`.

use std::process::{Command, Stdio};

/// Runs a line of the shell on a terminal. What it prints there, standard error included, comes from `stdout`, and what
/// is typed goes into `stdin`: both are pipes, unless the test says otherwise. The end is the line's. The terminal goes
/// with the process.
pub(crate) fn command(line: &str) -> Command {
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-f", "-c", line, "/dev/null"]);
    command.env_clear().envs([("PATH", "/usr/bin:/bin"), ("SHELL", "/bin/sh")]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}
