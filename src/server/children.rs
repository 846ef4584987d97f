//! The child processes of the loop: a bounded table of name look-ups, fetches of tokens and tool runs.
//!
//! An entry goes from empty to running (`spawn`) and back to empty (`ended`). Nothing else empties
//! it. A child that was killed also leaves through `ended`, because the process must be waited for,
//! or it would stay as a zombie.

use std::ffi::OsString;
use std::time::Instant;

use mio::{Interest, Registry, Token};

use crate::system::child::{Child, Outcome};

/// The most children at once. At the bound no child is started: a tool then fails with a reason, and a
/// look-up with a log line.
pub(super) const MAX_CHILDREN: usize = 24;

/// What a child was started for.
pub(super) enum Purpose {
    /// A look-up of the service's addresses.
    Resolve,
    /// A token of Entra ID, for the [`Tokens`](crate::identity::Tokens) of this generation. What is
    /// fetched for older ones, before the settings were read again, is dropped.
    SignIn(u64),
    /// A tool of a call. The call may end before the tool does, and its slot may be given to another
    /// call. So the result goes to the slot only if the call in it has this session id.
    Tool { slot: usize, session: String, call_id: String },
}

/// What a child is to do.
pub(super) struct Job<'a> {
    /// Program and arguments; no shell reads them.
    pub(super) command: &'a [OsString],
    /// What it reads from its standard input.
    pub(super) input: Vec<u8>,
    /// The most bytes of output; a child that writes more has failed.
    pub(super) max_output: usize,
    /// The child is killed at this time.
    pub(super) deadline: Instant,
    pub(super) purpose: Purpose,
}

struct Running {
    child: Child,
    purpose: Purpose,
    /// A pipe is ready, or a child has exited: look at it in this turn.
    marked: bool,
}

/// The table. Child `i` has the poll's tokens `first + 2 * i` (its input) and one more (its output).
pub(super) struct Children {
    first: usize,
    list: [Option<Running>; MAX_CHILDREN],
    /// How many entries are running. Usually there are none, and a turn need not search the table.
    running: usize,
}

impl Children {
    /// An empty table whose tokens begin at `first`.
    pub(super) fn new(first: usize) -> Self {
        Self { first, list: [const { None }; MAX_CHILDREN], running: 0 }
    }

    /// Starts a child and registers its pipes with the poll.
    ///
    /// # Errors
    /// When the table is full, or the child cannot be started or watched. The text is what
    /// follows the colon in a sentence such as "The look-up failed: …".
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

    /// Remembers that the poll has announced a pipe.
    pub(super) fn mark(&mut self, token: usize) {
        if let Some(Some(running)) = self.list.get_mut((token - self.first) / 2) {
            running.marked = true;
        }
    }

    /// Remembers that some child has exited. SIGCHLD does not tell which one: several exits may have
    /// become one signal.
    pub(super) fn mark_all(&mut self) {
        for running in self.list.iter_mut().flatten() {
            running.marked = true;
        }
    }

    /// The next child that has ended. The loop calls it until `None`: a second child that has ended
    /// gives no further event.
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

    /// When [`ended`](Self::ended) must be called at the latest, to kill a child that takes too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.running == 0 {
            return None;
        }
        self.list.iter().flatten().filter_map(|running| running.child.deadline()).min()
    }

    /// Kills the tools of a call that has ended. Their results come out of [`ended`](Self::ended) and
    /// are dropped.
    pub(super) fn stop_tools_of(&mut self, id: &str) {
        for running in self.list.iter_mut().flatten() {
            if matches!(&running.purpose, Purpose::Tool { session, .. } if session == id) {
                running.child.kill("its call ended");
            }
        }
    }
}
