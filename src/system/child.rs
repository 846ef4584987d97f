//! Child processes for work that may block: name look-ups and tools. The loop talks to them through
//! non-blocking pipes. Each has a deadline and a bound on its output, and is always waited for.
//!
//! A child is over when both things have happened, in either order: its output has ended, and the
//! process has exited. After [`Child::kill`] only the exit counts, since a grandchild may keep the pipe
//! open.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use mio::unix::pipe::{Receiver, Sender};

/// The environment variables that a child gets. It needs no others, and the service's key must not
/// reach it.
const PASSED_ON: [&str; 8] =
    ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "RES_OPTIONS", "LOCALDOMAIN"];

/// How a child ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It exited with status 0 and wrote these bytes to its standard output.
    Done(Vec<u8>),
    /// It failed or was killed. The text tells why, such as "it took too long".
    Failed(String),
}

/// A running child.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    stdin: Option<Sender>,
    input: Vec<u8>,
    stdout: Option<Receiver>,
    output: Vec<u8>,
    max_output: usize,
    deadline: Instant,
    exit: Option<ExitStatus>,
    /// Why it was killed; `None` if it was not. The first reason stays.
    killed: Option<String>,
}

impl Child {
    /// Starts `command` (program and arguments, without a shell), to be fed `input`. At `deadline`, or
    /// with more than `max_output` bytes of output, it is killed.
    ///
    /// # Errors
    /// When the command is empty or the program cannot be started.
    pub fn spawn(
        command: &[OsString],
        input: Vec<u8>,
        max_output: usize,
        deadline: Instant,
    ) -> io::Result<Self> {
        let (program, arguments) = command.split_first().ok_or(ErrorKind::InvalidInput)?;
        let environment = PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut process = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdin = process.stdin.take().map(Sender::from);
        let stdout = process.stdout.take().map(Receiver::from);
        for set in [
            stdin.as_ref().map(|p| p.set_nonblocking(true)),
            stdout.as_ref().map(|p| p.set_nonblocking(true)),
        ] {
            set.transpose()?;
        }
        Ok(Self {
            process,
            stdin,
            input,
            stdout,
            output: Vec::new(),
            max_output,
            deadline,
            exit: None,
            killed: None,
        })
    }

    /// The pipes, for registration with the poll: input and output.
    pub fn pipes(&mut self) -> (Option<&mut Sender>, Option<&mut Receiver>) {
        (self.stdin.as_mut(), self.stdout.as_mut())
    }

    /// When [`pump`](Self::pump) must be called again at the latest. `None` after a kill: SIGCHLD then
    /// tells of the exit, and a deadline that has passed would let the loop spin.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.killed.is_none().then_some(self.deadline)
    }

    /// Writes input and reads output as far as it goes without waiting. Gives the outcome when the child
    /// is over, and `None` before. The loop calls it when a pipe is ready, at SIGCHLD and at the deadline.
    pub fn pump(&mut self, now: Instant) -> Option<Outcome> {
        self.feed();
        self.drain();
        if self.killed.is_none() && now >= self.deadline {
            self.kill("it took too long");
        }
        if self.exit.is_none() {
            self.exit = self.process.try_wait().ok().flatten();
        }
        let status = self.exit?;
        if self.stdout.is_some() && self.killed.is_none() {
            return None;
        }
        Some(self.outcome(status))
    }

    /// Kills the child (SIGKILL). `why` becomes the reason in the outcome, unless it was killed before.
    pub fn kill(&mut self, why: &str) {
        self.killed.get_or_insert_with(|| why.to_owned());
        self.stdin = None;
        self.stdout = None;
        // This fails if the process has exited already, which is as good.
        let _ = self.process.kill();
    }

    fn outcome(&mut self, status: ExitStatus) -> Outcome {
        match self.killed.take() {
            Some(why) => Outcome::Failed(why),
            None if status.success() => Outcome::Done(std::mem::take(&mut self.output)),
            None => Outcome::Failed(format!("it ended with {status}")),
        }
    }

    fn feed(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        while !self.input.is_empty() {
            match stdin.write(&self.input) {
                Ok(count) => drop(self.input.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The child has closed its input without reading all. That is no failure by itself: its
                // exit status decides.
                Err(_) => break,
            }
        }
        self.stdin = None;
    }

    fn drain(&mut self) {
        let mut chunk = [0; 4096];
        while let Some(stdout) = &mut self.stdout {
            match stdout.read(&mut chunk) {
                Ok(0) => self.stdout = None,
                Ok(count) if self.output.len() + count > self.max_output => {
                    self.kill("its output is too long");
                }
                Ok(count) => self.output.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.stdout = None,
            }
        }
    }
}

impl Drop for Child {
    /// Kills a child that still runs and waits for it. So it neither outlives its owner nor stays as a
    /// zombie. The wait is short, because SIGKILL cannot be ignored.
    fn drop(&mut self) {
        if self.exit.is_none() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Runs a program to its end.
    fn run(command: &[&str], input: &str, max_output: usize) -> Outcome {
        let command: Vec<OsString> = command.iter().map(OsString::from).collect();
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut child = Child::spawn(&command, input.into(), max_output, deadline).expect("it is");
        loop {
            if let Some(outcome) = child.pump(Instant::now()) {
                return outcome;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The service's key stands in the daemon's environment. A tool has no use for it.
    #[test]
    fn a_child_sees_no_variable_but_the_few_that_are_passed_on() {
        let ours = std::env::vars_os().filter(|(name, _)| !PASSED_ON.iter().any(|it| name == it));
        assert!(ours.count() > 0, "the test has no variable that may not be passed on");
        let Outcome::Done(output) = run(&["/usr/bin/env"], "", 65_536) else { panic!("it failed") };
        let output = String::from_utf8(output).expect("text");
        assert!(output.contains("PATH="), "{output}");
        for line in output.lines() {
            let name = line.split('=').next().unwrap_or_default();
            assert!(PASSED_ON.contains(&name), "it sees {name}");
        }
    }

    #[test]
    fn output_up_to_the_bound_is_kept_and_a_byte_more_ends_the_child() {
        let text = "x".repeat(20_000);
        assert_eq!(run(&["/bin/cat"], &text, 20_000), Outcome::Done(text.clone().into_bytes()));
        let too_long = Outcome::Failed("its output is too long".to_owned());
        assert_eq!(run(&["/bin/cat"], &text, 19_999), too_long);
    }

    #[test]
    fn a_child_has_its_time_and_not_more() {
        let command = ["/bin/sleep", "60"].map(OsString::from);
        let start = Instant::now();
        let deadline = start + Duration::from_secs(10);
        let mut child = Child::spawn(&command, Vec::new(), 10, deadline).expect("it is there");
        assert_eq!(child.deadline(), Some(deadline));
        assert_eq!(child.pump(deadline - Duration::from_millis(1)), None);
        // It is killed at its deadline, and its end is seen a moment later.
        let end = loop {
            if let Some(outcome) = child.pump(deadline) {
                break outcome;
            }
            assert_eq!(child.deadline(), None, "it was killed once");
            std::thread::sleep(Duration::from_millis(1));
        };
        assert_eq!(end, Outcome::Failed("it took too long".to_owned()));
    }

    #[test]
    fn what_a_failed_child_wrote_is_no_answer() {
        let failed = run(&["/bin/sh", "-c", "echo answer; exit 3"], "", 100);
        assert!(matches!(&failed, Outcome::Failed(why) if why.contains('3')), "{failed:?}");
    }

    #[test]
    fn a_child_never_outlives_its_owner() {
        let command = ["/bin/sleep", "60"].map(OsString::from);
        let deadline = Instant::now() + Duration::from_secs(60);
        let child = Child::spawn(&command, Vec::new(), 10, deadline).expect("it is there");
        let path = format!("/proc/{}", child.process.id());
        assert!(std::fs::exists(&path).expect("a Linux"));
        drop(child);
        assert!(!std::fs::exists(&path).expect("a Linux"), "it runs, or is a zombie");
    }
}
