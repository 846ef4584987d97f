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

        fn spawn(&mut self, command: &[&str], input: &str, call: &str) -> Result<(), String> {
            let command: Vec<OsString> = command.iter().map(OsString::from).collect();
            let job = Job {
                command: &command,
                input: input.into(),
                max_output: input.len() + 100,
                deadline: self.now + TIME,
                purpose: Purpose::Tool { slot: 0, session: call.into(), call_id: String::new() },
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

        /// The next one that ends, by its call, with what became of it. Exits have no event here but a
        /// SIGCHLD, as in the loop.
        fn next(&mut self, exits: bool) -> (String, Outcome) {
            let patience = Instant::now() + TIME;
            loop {
                if let Some((Purpose::Tool { session, .. }, outcome)) =
                    self.children.ended(self.now)
                {
                    return (session, outcome);
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
        for (at, text) in texts.iter().enumerate() {
            table.spawn(&["/bin/cat"], text, &at.to_string()).expect("there is a place");
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
            let Purpose::Tool { session, .. } = purpose else { panic!("no tool") };
            let text = &texts[session.parse::<usize>().expect("a number")];
            assert!(outcome == done(text), "{session}");
        }
        assert_eq!((table.children.running, table.children.deadline()), (0, None));
    }

    #[test]
    fn the_table_has_an_end_and_places_are_used_again() {
        let mut table = Table::new();
        for _ in 0..MAX_CHILDREN {
            table.spawn(&["/bin/cat"], "x", "a").expect("there is a place");
        }
        let refused = table.spawn(&["/bin/cat"], "x", "a");
        assert_eq!(refused, Err("too many helpers are running".to_owned()));
        assert_eq!(table.next(true), ("a".to_owned(), done("x")));
        table.spawn(&["/bin/cat"], "y", "b").expect("there is a place again");
        let mut ends: Vec<_> = (0..MAX_CHILDREN).map(|_| table.next(true).0).collect();
        ends.sort();
        assert_eq!(ends.concat(), "a".repeat(MAX_CHILDREN - 1) + "b");
        assert!(table.children.ended(table.now).is_none());
        match table.spawn(&["/nowhere"], "", "c") {
            Err(missing) => assert!(missing.starts_with("it cannot be started: "), "{missing}"),
            // An emulator of programs does not report that, and the child ends at once.
            Ok(()) => assert!(matches!(table.next(true).1, Outcome::Failed(_))),
        }
        assert_eq!(table.children.running, 0);
    }

    #[test]
    fn time_and_the_end_of_a_call_end_its_tools() {
        let mut table = Table::new();
        for call in ["first", "second", "first"] {
            table.spawn(&["/bin/sleep", "60"], "", call).expect("there is a place");
            table.now += Duration::from_secs(1);
        }
        let first = table.now - Duration::from_secs(3) + TIME;
        assert_eq!(table.children.deadline(), Some(first));
        table.children.stop_tools_of("first");
        let stopped = || Outcome::Failed("its call ended".to_owned());
        for _ in 0..2 {
            assert_eq!(table.next(true), ("first".to_owned(), stopped()));
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
            assert_eq!(table.next(true), ("second".to_owned(), slow));
        }
    }
}
