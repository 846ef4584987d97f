//! The child processes of the loop: a bounded table of name look-ups, fetches of tokens and tool runs.
//!
//! An entry goes from empty to running (`spawn`) and back to empty (`ended`). Nothing else empties
//! it. A child that was killed also leaves through `ended`, because the process must be waited for,
//! or it would stay as a zombie.

use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

use mio::{Interest, Registry, Token};

use super::runs::RunId;
use crate::system::child::{Child, Launch, Outcome};

/// The most children at once. At the bound no child is started: a tool then waits for its place, and a
/// look-up fails with a log line.
pub(super) const MAX_CHILDREN: usize = 24;

/// Of these, the places that tools leave free for look-ups and tokens: no call begins without them.
const RESERVED: usize = 4;

/// The poll's tokens of a child: its input, its output and its errors.
pub(super) const TOKENS: usize = 3;

/// What a child was started for.
pub(super) enum Purpose {
    /// A look-up of the service's addresses.
    Resolve,
    /// A token of Entra ID, for the [`Tokens`](crate::identity::Tokens) of this generation. What is
    /// fetched for older ones, before the settings were read again, is dropped.
    SignIn(u64),
    /// A run of a tool, with the tool's name for the log.
    Tool { run: RunId, name: String },
}

/// What a child is to do.
pub(super) struct Job<'a> {
    /// Program and arguments; no shell reads them.
    pub(super) command: &'a [OsString],
    /// Its working folder; `None` for the daemon's.
    pub(super) folder: Option<&'a Path>,
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

/// The table. Child `i` has the poll's tokens `first + 3 * i` (its input), one more (its output), and one
/// more (its errors).
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
        let Job { command, folder, input, max_output, deadline, purpose } = job;
        let speaks = matches!(purpose, Purpose::Tool { .. });
        let launch = Launch { command, folder, input, max_output, deadline, speaks };
        let mut child =
            Child::launch(launch).map_err(|error| format!("it cannot be started: {error}"))?;
        let token = |side| Token(self.first + TOKENS * at + side);
        let (stdin, stdout) = child.pipes();
        let stdin = stdin.map(|pipe| registry.register(pipe, token(0), Interest::WRITABLE));
        let stdout = stdout.map(|pipe| registry.register(pipe, token(1), Interest::READABLE));
        let errors = child.error_pipe();
        let errors = errors.map(|pipe| registry.register(pipe, token(2), Interest::READABLE));
        for registered in [stdin, stdout, errors].into_iter().flatten() {
            registered.map_err(|error| format!("it cannot be watched: {error}"))?;
        }
        self.list[at] = Some(Running { child, purpose, marked: true });
        self.running += 1;
        Ok(())
    }

    /// Remembers that the poll has announced a pipe.
    pub(super) fn mark(&mut self, token: usize) {
        if let Some(Some(running)) = self.list.get_mut((token - self.first) / TOKENS) {
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
                log_errors(running);
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

    /// How many processes of tools may be started yet.
    pub(super) fn places(&self) -> usize {
        (MAX_CHILDREN - RESERVED).saturating_sub(self.running)
    }

    /// Kills the process of a run. Its result comes out of [`ended`](Self::ended).
    pub(super) fn stop(&mut self, run: RunId, why: &str) {
        for running in self.list.iter_mut().flatten() {
            if matches!(&running.purpose, Purpose::Tool { run: its, .. } if *its == run) {
                running.child.kill(why);
            }
        }
    }
}

/// What a tool wrote to its standard error, for its owner: one line, escaped.
fn log_errors(running: &Running) {
    let errors = running.child.errors();
    if let (Purpose::Tool { name, .. }, false) = (&running.purpose, errors.is_empty()) {
        let text = String::from_utf8_lossy(errors);
        log::debug!("tool {name}, standard error: {}", text.trim_end().escape_debug());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;

    const FIRST: usize = 40;
    const TIME: Duration = Duration::from_secs(20);

    struct Table {
        children: Children,
        poll: Poll,
        now: Instant,
    }

    impl Table {
        fn new() -> Self {
            let poll = Poll::new().expect("a poll");
            Self { children: Children::new(FIRST), poll, now: Instant::now() }
        }

        fn spawn(&mut self, command: &[&str], input: &str, run: u64) -> Result<(), String> {
            let command: Vec<OsString> = command.iter().map(OsString::from).collect();
            let job = Job {
                command: &command,
                folder: None,
                input: input.into(),
                max_output: input.len() + 100,
                deadline: self.now + TIME,
                purpose: Purpose::Tool { run: RunId(run), name: String::new() },
            };
            self.children.spawn(job, self.poll.registry())
        }

        /// Waits for the poll, and marks what it announces: nothing else is looked at.
        fn wait(&mut self) {
            let mut events = Events::with_capacity(100);
            if self.poll.poll(&mut events, Some(Duration::from_millis(20))).is_err() {
                // Another test's child has sent its signal.
                return;
            }
            for event in &events {
                self.children.mark(event.token().0);
            }
        }

        /// The next one that ends, by its run, with what became of it. Exits have no event here but a
        /// SIGCHLD, as in the loop.
        fn next(&mut self, exits: bool) -> (u64, Outcome) {
            let patience = Instant::now() + TIME;
            loop {
                if let Some((Purpose::Tool { run, .. }, outcome)) = self.children.ended(self.now) {
                    return (run.0, outcome);
                }
                assert!(Instant::now() < patience, "none ends");
                self.wait();
                if exits {
                    self.children.mark_all();
                }
            }
        }
    }

    fn done(text: &str) -> Outcome {
        Outcome::Done(text.into())
    }

    /// More than both pipes hold. So each child goes on only when its own events reach it.
    #[test]
    fn each_child_gets_its_own_events() {
        let mut table = Table::new();
        let texts: Vec<String> = (0..3).map(|at| at.to_string().repeat(300_000)).collect();
        for (at, text) in (0..).zip(&texts) {
            table.spawn(&["/bin/cat"], text, at).expect("there is a place");
        }
        // Until then only the pipes' events count, and then the exits.
        let all_read = |table: &mut Table| {
            let here = table.children.list.iter_mut().flatten();
            here.map(|running| running.child.pipes().1.is_some()).all(|open| !open)
        };
        let patience = Instant::now() + TIME;
        let mut ended = Vec::new();
        while ended.len() < 3 && !all_read(&mut table) {
            assert!(Instant::now() < patience, "a child stands still");
            table.wait();
            ended.extend(table.children.ended(table.now));
        }
        while ended.len() < 3 {
            assert!(Instant::now() < patience, "an exit is not seen");
            table.children.mark_all();
            ended.extend(table.children.ended(table.now));
        }
        for (purpose, outcome) in ended {
            let Purpose::Tool { run: RunId(run), .. } = purpose else { panic!("no tool") };
            let text = &texts[usize::try_from(run).expect("small")];
            assert!(outcome == done(text), "{run}");
        }
        assert_eq!((table.children.running, table.children.deadline()), (0, None));
    }

    #[test]
    fn the_table_has_an_end_and_places_are_used_again() {
        let mut table = Table::new();
        for _ in 0..MAX_CHILDREN {
            table.spawn(&["/bin/cat"], "x", 1).expect("there is a place");
        }
        let refused = table.spawn(&["/bin/cat"], "x", 1);
        assert_eq!(refused, Err("too many helpers are running".to_owned()));
        assert_eq!(table.next(true), (1, done("x")));
        table.spawn(&["/bin/cat"], "y", 2).expect("there is a place again");
        let mut ends: Vec<_> = (0..MAX_CHILDREN).map(|_| table.next(true).0).collect();
        ends.sort();
        assert_eq!(ends, [vec![1; MAX_CHILDREN - 1], vec![2]].concat());
        assert!(table.children.ended(table.now).is_none());
        match table.spawn(&["/nowhere"], "", 3) {
            Err(missing) => assert!(missing.starts_with("it cannot be started: "), "{missing}"),
            // An emulator of programs does not report that, and the child ends at once.
            Ok(()) => assert!(matches!(table.next(true).1, Outcome::Failed(_))),
        }
        assert_eq!(table.children.running, 0);
    }

    /// No call begins without a look-up, so tools leave four places free.
    #[test]
    fn tools_leave_places_free() {
        let mut table = Table::new();
        for left in (18..=20).rev() {
            assert_eq!(table.children.places(), left);
            table.spawn(&["/bin/sleep", "60"], "", 1).expect("there is a place");
        }
        for _ in 3..MAX_CHILDREN {
            table.spawn(&["/bin/sleep", "60"], "", 1).expect("there is a place");
        }
        assert_eq!(table.children.places(), 0);
    }

    #[test]
    fn time_and_a_stop_end_a_run() {
        let mut table = Table::new();
        for run in [1, 2, 1] {
            table.spawn(&["/bin/sleep", "60"], "", run).expect("there is a place");
            table.now += Duration::from_secs(1);
        }
        let first = table.now - Duration::from_secs(3) + TIME;
        assert_eq!(table.children.deadline(), Some(first));
        table.children.stop(RunId(1), "its call ended");
        let stopped = || Outcome::Failed("its call ended".to_owned());
        for _ in 0..2 {
            assert_eq!(table.next(true), (1, stopped()));
        }
        let due = first + Duration::from_secs(1);
        assert_eq!(table.children.deadline(), Some(due));
        table.now = due - Duration::from_millis(1);
        assert!(table.children.ended(table.now).is_none());
        assert_eq!(table.children.deadline(), Some(due), "it is looked at in time, and not killed");
        table.now = due;
        assert!(table.children.ended(table.now).is_none() || table.children.running == 0);
        assert_eq!(table.children.deadline(), None, "it is killed, and nothing is waited for");
        if table.children.running > 0 {
            let slow = Outcome::Failed("it took too long".to_owned());
            assert_eq!(table.next(true), (2, slow));
        }
    }
}
