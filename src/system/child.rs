//! Child processes for work that may block: name look-ups and tools. The loop talks to them through
//! non-blocking pipes. Each has a deadline and a bound on its output, and is always waited for.
//!
//! A child is over when both things have happened, in either order: its output has ended, and the
//! process has exited. A grandchild may keep the pipe open. So after the exit the output has [`GRACE`] to
//! end, and after [`Child::kill`] only the exit counts.
//!
//! Each child leads a process group of its own. A kill reaches all of the group, so that what a shell has
//! started does not outlive it.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mio::unix::pipe::{Receiver, Sender};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The environment variables that a child gets. It needs no others, and the service's key must not
/// reach it.
const PASSED_ON: [&str; 8] =
    ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "RES_OPTIONS", "LOCALDOMAIN"];

/// How long the output of a process that has exited may stay open.
const GRACE: Duration = Duration::from_millis(250);

/// The most bytes of standard error that are kept; the rest is read and dropped.
const MAX_ERRORS: usize = 2048;
/// The most bytes of standard error that are read. After that nobody listens: a flood must not hold the
/// loop.
const MOST_ERRORS_READ: usize = 256 * 1024;

/// How a child ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It exited with status 0 and wrote these bytes to its standard output.
    Done(Vec<u8>),
    /// One that [`speaks`](Launch::speaks) exited with another status, and wrote these bytes.
    Refused(Vec<u8>),
    /// It failed or was killed. The text tells why, such as "it took too long".
    Failed(String),
}

/// What to start, and within which bounds.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Program and arguments; no shell reads them.
    pub command: &'a [OsString],
    /// The working folder; `None` for the daemon's own.
    pub folder: Option<&'a Path>,
    /// What it reads from its standard input.
    pub input: Vec<u8>,
    /// With more bytes of output it is killed.
    pub max_output: usize,
    /// At this time it is killed.
    pub deadline: Instant,
    /// What it writes before it fails is for somebody to read ([`Outcome::Refused`]), and its standard
    /// error is kept.
    pub speaks: bool,
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
    stderr: Option<Receiver>,
    errors: Vec<u8>,
    errors_read: usize,
    speaks: bool,
    deadline: Instant,
    /// When the exit was seen. Its output may then end until [`GRACE`] has passed.
    exit: Option<(ExitStatus, Instant)>,
    /// Why it was killed; `None` if it was not. The first reason stays.
    killed: Option<String>,
}

/// A process with the few variables of [`PASSED_ON`] and `more`, in a group of its own.
///
/// # Errors
/// When the command is empty or the program cannot be started.
pub(super) fn start(
    command: &[OsString],
    more: &[(OsString, OsString)],
    folder: Option<&Path>,
    stderr: Stdio,
) -> io::Result<std::process::Child> {
    let (program, arguments) = command.split_first().ok_or(ErrorKind::InvalidInput)?;
    let environment = PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut process = Command::new(program);
    if let Some(folder) = folder {
        process.current_dir(folder);
    }
    process
        .args(arguments)
        .env_clear()
        .envs(environment)
        .envs(more.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .process_group(0)
        .spawn()
}

/// Kills a process that has not been waited for, and its group. This fails if it has exited already,
/// which is as good.
pub(super) fn kill_group(process: &std::process::Child) {
    let id = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    // Under an emulator the start may return before the child has a group of its own.
    if let Some(id) = id
        && kill_process_group(id, Signal::KILL).is_err()
    {
        let _ = kill_process(id, Signal::KILL);
    }
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
        let folder = None;
        Self::launch(Launch { command, folder, input, max_output, deadline, speaks: false })
    }

    /// Starts a child.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn launch(launch: Launch<'_>) -> io::Result<Self> {
        let Launch { command, folder, input, max_output, deadline, speaks } = launch;
        let stderr = if speaks { Stdio::piped() } else { Stdio::null() };
        let mut process = start(command, &[], folder, stderr)?;
        let stdin = process.stdin.take().map(Sender::from);
        let stdout = process.stdout.take().map(Receiver::from);
        let stderr = process.stderr.take().map(Receiver::from);
        for set in [
            stdin.as_ref().map(|p| p.set_nonblocking(true)),
            stdout.as_ref().map(|p| p.set_nonblocking(true)),
            stderr.as_ref().map(|p| p.set_nonblocking(true)),
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
            stderr,
            errors: Vec::new(),
            errors_read: 0,
            speaks,
            deadline,
            exit: None,
            killed: None,
        })
    }

    /// Standard error, for registration with the poll. Without that a child that fills the pipe stands still.
    pub fn error_pipe(&mut self) -> Option<&mut Receiver> {
        self.stderr.as_mut()
    }

    /// What it has written to its standard error, cut off. Empty unless it [`speaks`](Launch::speaks).
    #[must_use]
    pub fn errors(&self) -> &[u8] {
        &self.errors
    }

    /// The pipes, for registration with the poll: input and output.
    pub fn pipes(&mut self) -> (Option<&mut Sender>, Option<&mut Receiver>) {
        (self.stdin.as_mut(), self.stdout.as_mut())
    }

    /// When [`pump`](Self::pump) must be called again at the latest. `None` after a kill: SIGCHLD then
    /// tells of the exit, and a deadline that has passed would let the loop spin.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let end = self.exit.map_or(self.deadline, |(_, seen)| self.deadline.min(seen + GRACE));
        self.killed.is_none().then_some(end)
    }

    /// Writes input and reads output as far as it goes without waiting. Gives the outcome when the child
    /// is over, and `None` before. The loop calls it when a pipe is ready, at SIGCHLD and at the deadline.
    pub fn pump(&mut self, now: Instant) -> Option<Outcome> {
        self.feed();
        self.drain();
        self.drain_errors();
        if self.killed.is_none() && self.exit.is_none() && now >= self.deadline {
            self.kill("it took too long");
        }
        if self.exit.is_none() {
            self.exit = self.process.try_wait().ok().flatten().map(|status| (status, now));
            // What it wrote last may have come after the reading above.
            self.drain();
            self.drain_errors();
        }
        let (status, seen) = self.exit?;
        if self.stdout.is_some() && self.killed.is_none() && now < seen + GRACE {
            return None;
        }
        Some(self.outcome(status))
    }

    /// Kills the child and its group (SIGKILL). `why` becomes the reason in the outcome, unless it was
    /// killed before.
    pub fn kill(&mut self, why: &str) {
        self.killed.get_or_insert_with(|| why.to_owned());
        self.stdin = None;
        self.stdout = None;
        // Once it has been waited for, its number may belong to another.
        if self.exit.is_none() {
            kill_group(&self.process);
        }
    }

    fn outcome(&mut self, status: ExitStatus) -> Outcome {
        match self.killed.take() {
            Some(why) => Outcome::Failed(why),
            None if status.success() => Outcome::Done(std::mem::take(&mut self.output)),
            None if self.speaks && !self.output.is_empty() => {
                Outcome::Refused(std::mem::take(&mut self.output))
            }
            None => Outcome::Failed(format!("it ended with {status}")),
        }
    }

    // A signal interrupts a call that waits. These pipes do not wait, so `Interrupted` does not come.

    fn feed(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        while !self.input.is_empty() {
            match stdin.write(&self.input) {
                Ok(count) => drop(self.input.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The child has closed its input without reading all. That is no failure by itself: its
                // exit status decides.
                Err(_) => break,
            }
        }
        self.stdin = None;
    }

    fn drain_errors(&mut self) {
        let mut chunk = [0; 1024];
        while let Some(stderr) = &mut self.stderr {
            match stderr.read(&mut chunk) {
                Ok(0) => self.stderr = None,
                Ok(count) if self.errors_read + count > MOST_ERRORS_READ => self.stderr = None,
                Ok(count) => {
                    self.errors_read += count;
                    let room = MAX_ERRORS - self.errors.len();
                    self.errors.extend_from_slice(&chunk[..count.min(room)]);
                }
                // Nothing waits. If the pipe has failed, nothing will: its exit ends the child.
                Err(_) => return,
            }
        }
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
            kill_group(&self.process);
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

    /// A shell with this script, that speaks.
    fn speaking(script: &str) -> Child {
        let command = ["/bin/sh", "-c", script].map(OsString::from);
        let launch = Launch {
            command: &command,
            folder: None,
            input: Vec::new(),
            max_output: 100,
            deadline: Instant::now() + Duration::from_secs(20),
            speaks: true,
        };
        Child::launch(launch).expect("it is there")
    }

    /// Such a child, run to its end: what it wrote to standard error, and its outcome.
    fn run_speaking(script: &str) -> (Vec<u8>, Outcome) {
        let mut child = speaking(script);
        loop {
            if let Some(outcome) = child.pump(Instant::now()) {
                return (child.errors().to_vec(), outcome);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn of_what_a_child_complains_the_beginning_is_kept_and_no_end_of_it_is_read() {
        let (errors, outcome) = run_speaking("printf one >&2; sleep 0.1; printf two >&2; exit 3");
        assert_eq!(errors, b"onetwo", "a pause is no end");
        assert!(matches!(outcome, Outcome::Failed(_)), "it wrote no answer: {outcome:?}");
        // The pipe holds 64 KiB more.
        let most = MOST_ERRORS_READ + 128 * 1024;
        let (errors, outcome) = run_speaking(&format!("head -c {most} /dev/zero >&2; echo done"));
        assert_eq!(errors, vec![0; MAX_ERRORS]);
        // `head` ended at the closed pipe; the shell went on.
        assert_eq!(outcome, Outcome::Done(b"done\n".to_vec()));
        let endless = run_speaking("cat /dev/zero >&2; exit 0");
        assert_eq!(endless.1, Outcome::Done(Vec::new()), "it found its pipe closed");
    }

    /// Its pipe is closed by the first byte above the bound, and by no earlier one.
    #[test]
    fn a_child_may_complain_256_kib_long() {
        for (bytes, stays) in [(262_144, true), (262_145, false)] {
            let mut child = speaking(&format!("head -c {bytes} /dev/zero >&2; sleep 60"));
            let is_read = |child: &mut Child| match stays {
                true => child.errors_read == bytes,
                false => child.error_pipe().is_none(),
            };
            let patience = Instant::now() + Duration::from_secs(15);
            while !is_read(&mut child) {
                assert!(Instant::now() < patience, "{} of {bytes}", child.errors_read);
                assert_eq!(child.pump(Instant::now()), None);
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(child.error_pipe().is_some(), stays, "{bytes} bytes");
        }
    }

    /// A pipe without a reader is ready for ever: the loop would spin.
    #[test]
    fn a_child_that_closes_its_input_is_fed_no_more() {
        let command = ["/bin/sh", "-c", "exec <&-; sleep 0.1; echo said"].map(OsString::from);
        let deadline = Instant::now() + Duration::from_secs(20);
        let input = vec![b'x'; 1 << 20];
        let mut child = Child::spawn(&command, input, 100, deadline).expect("it is there");
        let mut fed_at_last = true;
        let outcome = loop {
            if let Some(outcome) = child.pump(Instant::now()) {
                break outcome;
            }
            fed_at_last = child.pipes().0.is_some();
            std::thread::sleep(Duration::from_millis(1));
        };
        assert_eq!(outcome, Outcome::Done(b"said\n".to_vec()));
        assert!(!fed_at_last);
    }

    /// What it has started may hold its output open.
    #[test]
    fn after_its_exit_a_childs_output_is_waited_for_a_moment() {
        let command = ["/bin/sh", "-c", "sleep 20 & echo said"].map(OsString::from);
        let start = Instant::now();
        let deadline = start + Duration::from_secs(20);
        let mut child = Child::spawn(&command, Vec::new(), 100, deadline).expect("it is there");
        while child.exit.is_none() {
            assert_eq!(child.pump(start), None);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(child.deadline(), Some(start + GRACE));
        assert_eq!(child.pump(start + GRACE - Duration::from_millis(1)), None);
        assert_eq!(child.pump(start + GRACE), Some(Outcome::Done(b"said\n".to_vec())));
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
