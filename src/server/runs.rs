//! The runs of tools that calls have asked for: one kind of run, whatever stands behind the tool.
//!
//! A run goes from waiting to running, and leaves the table once, with [`Runs::finish`]. It waits while
//! its tool has as many runs as it may have at once, or while there is no place for its process. Its deadline
//! begins anew when it starts. This table knows no process and no call: `server/tools.rs` acts on what it says.
//!
//! A run whose call has ended stays until what stands behind it has ended too. Otherwise nobody would notice
//! that it hangs.

use std::rc::Rc;
use std::time::Instant;

use crate::call::sooner;
use crate::tools::{Backing, Tool};

/// The most runs at once, those that wait included. A call has 8 open at most, so only many calls reach it.
const MAX_RUNS: usize = 512;

/// A run's name for what stands behind it. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RunId(pub(super) u64);

/// Who gets the result. The call may end before the run does, and its slot may be given to another call.
/// So the result goes to the slot only if the call in it has this session id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) slot: usize,
    pub(super) session: String,
    pub(super) call_id: String,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits for its place; nothing has been started.
    Waiting,
    /// What stands behind the tool works on it.
    Running,
}

/// One run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: RunId,
    pub(super) caller: Caller,
    pub(super) tool: Rc<Tool>,
    /// The arguments: a JSON object on one line.
    pub(super) input: String,
    pub(super) stage: Stage,
    pub(super) deadline: Instant,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Runs {
    list: Vec<Run>,
    last: u64,
}

impl Runs {
    /// Takes up a run. It waits until [`next`](Self::next) gives it out. False at the bound of the table.
    pub(super) fn ask(
        &mut self,
        tool: &Rc<Tool>,
        caller: Caller,
        input: String,
        now: Instant,
    ) -> bool {
        if self.list.len() >= MAX_RUNS {
            return false;
        }
        self.last += 1;
        let (id, deadline) = (RunId(self.last), now + tool.limits.timeout);
        let (tool, stage) = (Rc::clone(tool), Stage::Waiting);
        self.list.push(Run { id, caller, tool, input, stage, deadline });
        true
    }

    /// The next run that may start: it is running from now on, and the caller must start it. `places` is how
    /// many processes may be started yet.
    pub(super) fn next(&mut self, places: usize, now: Instant) -> Option<&Run> {
        let may_start = |run: &&Run| {
            let needs_place =
                matches!(run.tool.backing, Backing::Command { .. } | Backing::Web { .. });
            run.stage == Stage::Waiting
                && (places > 0 || !needs_place)
                && self.running(&run.tool.name) < run.tool.limits.at_once
        };
        let id = self.list.iter().find(may_start)?.id;
        let run = self.list.iter_mut().find(|run| run.id == id)?;
        run.stage = Stage::Running;
        run.deadline = now + run.tool.limits.timeout;
        Some(run)
    }

    /// By name, since a tool that was read again is another with the same work behind it.
    fn running(&self, name: &str) -> usize {
        let same = |run: &&Run| run.stage == Stage::Running && run.tool.name == name;
        self.list.iter().filter(same).count()
    }

    /// Takes a run out: it has its result, or will have none.
    pub(super) fn finish(&mut self, id: RunId) -> Option<Run> {
        let at = self.list.iter().position(|run| run.id == id)?;
        Some(self.list.remove(at))
    }

    /// A run whose time is over. The caller must finish it, and cancel what stands behind it.
    pub(super) fn overdue(&self, now: Instant) -> Option<RunId> {
        self.list.iter().find(|run| now >= run.deadline).map(|run| run.id)
    }

    /// Puts a deadline off: what stands behind the run has told of progress.
    pub(super) fn put_off(&mut self, id: RunId, deadline: Instant) {
        if let Some(run) = self.list.iter_mut().find(|run| run.id == id) {
            run.deadline = run.deadline.max(deadline);
        }
    }

    /// When [`overdue`](Self::overdue) has something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.list.iter().fold(None, |soonest, run| sooner(soonest, Some(run.deadline)))
    }

    /// Nobody waits for the run of this function call any more: it is dropped if it has not started, and has no
    /// caller else. Gives one that has started.
    pub(super) fn disown(&mut self, session: &str, call_id: &str) -> Option<(RunId, Rc<Tool>)> {
        let its = |run: &Run| run.caller.session == session && run.caller.call_id == call_id;
        let at = self.list.iter().position(its)?;
        if self.list[at].stage == Stage::Waiting {
            self.list.remove(at);
            return None;
        }
        let run = &mut self.list[at];
        run.caller.session.clear();
        Some((run.id, Rc::clone(&run.tool)))
    }

    /// Drops the runs of a call that have not started, and gives those that have.
    pub(super) fn abandon(&mut self, session: &str) -> Vec<(RunId, Rc<Tool>)> {
        self.list.retain(|run| run.caller.session != session || run.stage == Stage::Running);
        let theirs = self.list.iter().filter(|run| run.caller.session == session);
        theirs.map(|run| (run.id, Rc::clone(&run.tool))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tools::{Confirm, Limits, Origin};

    fn tool(name: &str, backing: Backing) -> Rc<Tool> {
        Rc::new(Tool {
            name: name.to_owned(),
            description: String::new(),
            parameters: serde_json::json!({}),
            backing,
            limits: Limits { at_once: 1, ..Limits::DEFAULT },
            confirm: Confirm::Never,
            origin: Origin::Builtin,
        })
    }

    fn ask(runs: &mut Runs, tool: &Rc<Tool>, now: Instant) {
        let (session, call_id) = ("s".to_owned(), "c".to_owned());
        assert!(runs.ask(tool, Caller { slot: 0, session, call_id }, "{}".to_owned(), now));
    }

    /// The tool of an MCP server needs no process of its own.
    #[test]
    fn a_run_waits_for_a_place_if_its_tool_needs_a_process() {
        let argv = vec!["/bin/true".into()];
        let command = tool("command", Backing::Command { argv, folder: "/".into() });
        let backing = Backing::Server { server: "files".to_owned(), tool: "read".to_owned() };
        let server = tool("server", backing);
        let (mut runs, now) = (Runs::default(), Instant::now());
        for tool in [&command, &server, &server] {
            ask(&mut runs, tool, now);
        }
        let name = |run: Option<&Run>| run.map(|run| run.tool.name.clone());
        assert_eq!(name(runs.next(0, now)).as_deref(), Some("server"));
        assert_eq!(name(runs.next(0, now)), None, "no place, and one run of the server's tool");
        let later = now + Duration::from_secs(3);
        let run = runs.next(1, later).expect("there is a place");
        assert_eq!((run.tool.name.as_str(), run.stage), ("command", Stage::Running));
        assert_eq!(run.deadline, later + Limits::DEFAULT.timeout, "its time begins now");
        assert_eq!(name(runs.next(1, later)), None);
    }
}
