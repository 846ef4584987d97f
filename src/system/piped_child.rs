//! A child that lives long, with its three pipes in the poll. They do not wait, and nothing is kept here:
//! what is said and heard belongs to the one that talks to it.
//!
//! ```text
//! running ──close_input──► asked to end ──terminate──► told to end ──kill (or drop)──► gone
//! ```
//!
//! Each child leads a process group of its own, and each signal reaches all of the group.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use mio::unix::pipe::{Receiver, Sender};
use mio::{Interest, Registry, Token};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::child::{kill_group, start};

/// The most bytes of output that one turn reads; of errors it reads a quarter.
const TURN: usize = 64 * 1024;

/// What to start.
#[derive(Debug)]
pub struct Start<'a> {
    /// Program and arguments; no shell reads them.
    pub command: &'a [OsString],
    /// Variables beside the few that every child gets.
    pub environment: &'a [(OsString, OsString)],
    /// The working folder; `None` for the daemon's own.
    pub folder: Option<&'a Path>,
}

/// What a turn has brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Talk {
    /// There may be more to read: call again in the next turn.
    More,
    /// The next event of a pipe, or SIGCHLD, tells of more.
    Idle,
    /// It has gone, or cannot be talked to any more. The text follows a colon.
    Gone(String),
}

/// See the module's text. Dropping it kills it.
#[derive(Debug)]
pub struct PipedChild {
    process: std::process::Child,
    /// `None` once it was asked to end.
    stdin: Option<Sender>,
    stdout: Receiver,
    stderr: Receiver,
    exit: Option<ExitStatus>,
}

impl PipedChild {
    /// Starts a child, and registers its pipes with the poll: `token` and the two after it.
    ///
    /// # Errors
    /// When the command is empty, or the program cannot be started or watched.
    pub fn spawn(launch: &Start<'_>, token: usize, registry: &Registry) -> io::Result<Self> {
        let mut process = start(launch.command, launch.environment, launch.folder, Stdio::piped())?;
        let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(ErrorKind::BrokenPipe.into());
        };
        let mut stdin = Sender::from(stdin);
        let (stdout, stderr) = (Receiver::from(stdout), Receiver::from(stderr));
        stdin.set_nonblocking(true)?;
        registry.register(&mut stdin, Token(token), Interest::WRITABLE)?;
        let mut child = Self { process, stdin: Some(stdin), stdout, stderr, exit: None };
        for (pipe, token) in [(&mut child.stdout, token + 1), (&mut child.stderr, token + 2)] {
            pipe.set_nonblocking(true)?;
            registry.register(pipe, Token(token), Interest::READABLE)?;
        }
        Ok(child)
    }

    /// Writes what its pipe takes without waiting, and says how much. A closed pipe takes nothing and is
    /// no fault here: the end of its output tells that it has gone.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while let (Some(stdin), true) = (&mut self.stdin, written < bytes.len()) {
            match stdin.write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        written
    }

    /// Reads as far as it goes without waiting, within a turn's bound. An exit counts also where a
    /// grandchild keeps the pipe open.
    pub fn read(&mut self, heard: &mut dyn FnMut(&[u8])) -> Talk {
        // First the exit, then the bytes: what was written before the exit is read.
        let exit = self.exit_status();
        match (read_some(&mut self.stdout, TURN, heard), exit) {
            (Talk::Idle | Talk::Gone(_), Some(status)) => {
                Talk::Gone(format!("it ended with {status}"))
            }
            (talk, _) => talk,
        }
    }

    /// Reads what it wrote to its standard error. Its end says nothing: a child may close it and live.
    pub fn read_errors(&mut self, heard: &mut dyn FnMut(&[u8])) -> Talk {
        match read_some(&mut self.stderr, TURN / 4, heard) {
            Talk::Gone(_) => Talk::Idle,
            talk => talk,
        }
    }

    /// Closes its input, which asks it to end.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Tells it to end (SIGTERM).
    pub fn terminate(&mut self) {
        if let (None, Some(id)) = (self.exit_status(), self.number()) {
            let _ = kill_process_group(id, Signal::TERM);
        }
    }

    /// How it has exited; `None` while it runs. What it has started, and left behind in its group, ends
    /// with it.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() && self.is_zombie() {
            // Until it is waited for, its number can belong to no other group.
            kill_group(&self.process);
            self.exit = self.process.try_wait().ok().flatten();
        }
        self.exit
    }

    /// Whether it has exited and was not waited for.
    fn is_zombie(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let Some(id) = self.number() else { return false };
        !matches!(waitid(WaitId::Pid(id), options), Ok(None))
    }

    fn number(&self) -> Option<Pid> {
        i32::try_from(self.process.id()).ok().and_then(Pid::from_raw)
    }

    /// The id of its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

fn read_some(pipe: &mut Receiver, most: usize, heard: &mut dyn FnMut(&[u8])) -> Talk {
    let (mut chunk, mut read) = ([0; 4096], 0);
    while read < most {
        match pipe.read(&mut chunk) {
            Ok(0) => return Talk::Gone("it has closed its output".to_owned()),
            Ok(count) => {
                read += count;
                heard(&chunk[..count]);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Talk::Idle,
            Err(error) => return Talk::Gone(error.to_string()),
        }
    }
    Talk::More
}

impl Drop for PipedChild {
    /// Kills it with all that it has started, and waits for it. The wait is short, because SIGKILL cannot
    /// be ignored.
    fn drop(&mut self) {
        if self.exit_status().is_none() {
            kill_group(&self.process);
            let _ = self.process.wait();
        }
    }
}
