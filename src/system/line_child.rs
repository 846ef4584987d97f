//! A child that lives long and talks in lines, as the child of the built-in tools does.
//!
//! Its pipes do not wait, and both directions go on in each turn: a child that does not read while it
//! writes would otherwise stand still, and the loop with it. What has not left yet is bounded, and so are a
//! line and what one turn reads.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::process::Stdio;

use mio::Interest;
use mio::Registry;
use mio::Token;
use mio::unix::pipe::{Receiver, Sender};

use super::child::{kill_group, start};

/// The most bytes that wait for the child. At the bound nothing more is taken.
const MAX_OUTGOING: usize = 1024 * 1024;
/// What one turn reads.
const TURN: usize = 64 * 1024;

/// What to start.
#[derive(Debug)]
pub struct LineLaunch<'a> {
    /// Program and arguments; no shell reads them.
    pub command: &'a [OsString],
    /// Variables beside the few that every child gets.
    pub environment: &'a [(OsString, OsString)],
    /// The working folder; `None` for the daemon's own.
    pub folder: Option<&'a Path>,
    /// The longest line that it may write, in bytes.
    pub max_line: usize,
}

/// What a turn has brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Talk {
    /// There may be more to read: call [`LineChild::pump`] again in the next turn.
    More,
    /// The next event of a pipe tells of more.
    Idle,
    /// It has gone, or cannot be talked to any more. The text follows a colon. Drop it.
    Gone(String),
}

/// See the module's text. Dropping it kills it.
#[derive(Debug)]
pub struct LineChild {
    process: std::process::Child,
    stdin: Sender,
    stdout: Receiver,
    stderr: Receiver,
    outgoing: Vec<u8>,
    /// The line that has not ended yet.
    line: Vec<u8>,
    max_line: usize,
}

impl LineChild {
    /// Starts a child, and registers its pipes with the poll: `token` and the two after it.
    ///
    /// # Errors
    /// When the command is empty, or the program cannot be started or watched.
    pub fn spawn(launch: &LineLaunch<'_>, token: usize, registry: &Registry) -> io::Result<Self> {
        let LineLaunch { command, environment, folder, max_line } = *launch;
        let mut process = start(command, environment, folder, Stdio::piped())?;
        let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(ErrorKind::BrokenPipe.into());
        };
        let mut child = Self {
            process,
            stdin: Sender::from(stdin),
            stdout: Receiver::from(stdout),
            stderr: Receiver::from(stderr),
            outgoing: Vec::new(),
            line: Vec::new(),
            max_line,
        };
        child.stdin.set_nonblocking(true)?;
        child.stdout.set_nonblocking(true)?;
        child.stderr.set_nonblocking(true)?;
        registry.register(&mut child.stdin, Token(token), Interest::WRITABLE)?;
        registry.register(&mut child.stdout, Token(token + 1), Interest::READABLE)?;
        registry.register(&mut child.stderr, Token(token + 2), Interest::READABLE)?;
        Ok(child)
    }

    /// Says a line, with its line break. What the pipe does not take leaves with [`pump`](Self::pump). False
    /// if too much waits already: the child does not read.
    pub fn send(&mut self, line: &[u8]) -> bool {
        if self.outgoing.len() + line.len() > MAX_OUTGOING {
            return false;
        }
        self.outgoing.extend_from_slice(line);
        self.flush();
        true
    }

    /// Writes and reads as far as it goes without waiting. `heard` gets each whole line without its line
    /// break, and `errors` what it wrote to standard error.
    pub fn pump(&mut self, heard: &mut dyn FnMut(&[u8]), errors: &mut dyn FnMut(&[u8])) -> Talk {
        self.flush();
        let told = self.read_errors(errors);
        match self.read_lines(heard) {
            Talk::Idle => told,
            other => other,
        }
    }

    /// The id of its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// A closed pipe is no fault here: the end of its output tells that it has gone.
    fn flush(&mut self) {
        while !self.outgoing.is_empty() {
            match self.stdin.write(&self.outgoing) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn read_lines(&mut self, heard: &mut dyn FnMut(&[u8])) -> Talk {
        let (mut chunk, mut read) = ([0; 4096], 0);
        while read < TURN {
            let count = match self.stdout.read(&mut chunk) {
                Ok(0) => return Talk::Gone(self.farewell()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Talk::Idle,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Talk::Gone(error.to_string()),
            };
            read += count;
            let mut rest = &chunk[..count];
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                self.line.extend_from_slice(&rest[..end]);
                heard(&self.line);
                self.line.clear();
                rest = &rest[end + 1..];
            }
            self.line.extend_from_slice(rest);
            if self.line.len() > self.max_line {
                return Talk::Gone("it writes a line that is too long".to_owned());
            }
        }
        Talk::More
    }

    fn read_errors(&mut self, errors: &mut dyn FnMut(&[u8])) -> Talk {
        let (mut chunk, mut read) = ([0; 1024], 0);
        while read < TURN / 4 {
            match self.stderr.read(&mut chunk) {
                Ok(count) if count > 0 => {
                    read += count;
                    errors(&chunk[..count]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Its end says nothing: a child may close it and live.
                _ => return Talk::Idle,
            }
        }
        Talk::More
    }

    /// How it ended, if it has.
    fn farewell(&mut self) -> String {
        match self.process.try_wait() {
            Ok(Some(status)) => format!("it ended with {status}"),
            _ => "it has closed its output".to_owned(),
        }
    }
}

impl Drop for LineChild {
    /// Kills it with all that it has started, and waits for it. The wait is short, because SIGKILL cannot
    /// be ignored.
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            kill_group(&self.process);
            let _ = self.process.wait();
        }
    }
}
