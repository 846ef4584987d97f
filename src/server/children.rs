//! The loop's children: a bounded table of name look-ups and tool runs.

use std::ffi::OsString;
use std::time::Instant;

use mio::{Interest, Registry, Token};

use crate::system::child::{Child, Outcome};

/// Children that may run at once.
pub(super) const MAX_CHILDREN: usize = 24;

/// What a child was started for.
pub(super) enum Purpose {
    /// The service's addresses.
    Resolve,
    /// A tool of a call, which may be over by the time the tool is.
    Tool { slot: usize, session: String, call_id: String },
}

/// A child's work.
pub(super) struct Job<'a> {
    pub(super) command: &'a [OsString],
    pub(super) input: Vec<u8>,
    pub(super) max_output: usize,
    pub(super) deadline: Instant,
    pub(super) purpose: Purpose,
}

struct Running {
    child: Child,
    purpose: Purpose,
    marked: bool,
}

/// The table. Child `i` has the tokens `first + 2 * i` (its input) and one more (its output).
pub(super) struct Children {
    first: usize,
    list: [Option<Running>; MAX_CHILDREN],
    /// How many there are: with none, which is usual, a turn of the loop looks at no place.
    running: usize,
}

impl Children {
    pub(super) fn new(first: usize) -> Self {
        Self { first, list: [const { None }; MAX_CHILDREN], running: 0 }
    }

    /// Starts a child and watches its pipes. The error is a sentence's middle.
    pub(super) fn spawn(&mut self, job: Job<'_>, registry: &Registry) -> Result<(), String> {
        let free = self.list.iter().position(Option::is_none);
        let at = free.ok_or_else(|| "too many helpers are running".to_owned())?;
        let Job { command, input, max_output, deadline, purpose } = job;
        let mut child = Child::spawn(command, input, max_output, deadline)
            .map_err(|error| format!("it cannot be started: {error}"))?;
        let (stdin, stdout) = child.pipes();
        let token = |side| Token(self.first + 2 * at + side);
        let stdin = stdin.map(|pipe| registry.register(pipe, token(0), Interest::WRITABLE));
        let stdout = stdout.map(|pipe| registry.register(pipe, token(1), Interest::READABLE));
        for registered in [stdin, stdout].into_iter().flatten() {
            registered.map_err(|error| format!("it cannot be watched: {error}"))?;
        }
        self.list[at] = Some(Running { child, purpose, marked: true });
        self.running += 1;
        Ok(())
    }

    /// The poll reported a pipe.
    pub(super) fn mark(&mut self, token: usize) {
        if let Some(Some(running)) = self.list.get_mut((token - self.first) / 2) {
            running.marked = true;
        }
    }

    /// A child may have exited (SIGCHLD does not tell which).
    pub(super) fn mark_all(&mut self) {
        for running in self.list.iter_mut().flatten() {
            running.marked = true;
        }
    }

    /// The next child that has ended. Call until `None`.
    pub(super) fn ended(&mut self, now: Instant) -> Option<(Purpose, Outcome)> {
        if self.running == 0 {
            return None;
        }
        for place in &mut self.list {
            let Some(running) = place else { continue };
            let due = running.child.deadline().is_some_and(|deadline| now >= deadline);
            if !std::mem::take(&mut running.marked) && !due {
                continue;
            }
            if let Some(outcome) = running.child.pump(now) {
                self.running -= 1;
                return place.take().map(|running| (running.purpose, outcome));
            }
        }
        None
    }

    /// When [`ended`](Self::ended) must be asked again at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.running == 0 {
            return None;
        }
        self.list.iter().flatten().filter_map(|running| running.child.deadline()).min()
    }

    /// Ends the tools of a call that is over.
    pub(super) fn stop_tools_of(&mut self, id: &str) {
        for running in self.list.iter_mut().flatten() {
            if matches!(&running.purpose, Purpose::Tool { session, .. } if session == id) {
                running.child.kill("its call ended");
            }
        }
    }
}
