//! How the loop runs tools: every kind in the same way, from a call's wish to its one result.
//!
//! ```text
//! a call wants it ──► waiting ──► running ──► result ──► the call (or nobody, if it has ended)
//!                        │           ├──► its time is over: cancelled, an error
//!                        │           └──► what stands behind it has died: an error
//!                        └──► its time is over, or its call has ended
//! ```
//!
//! Each wish gets exactly one result, for the service waits for one. Only [`Server::run_ended`] gives results.

use std::time::{Duration, Instant};

use super::Server;
use super::children::{Job, Purpose};
use super::manage::Lifecycle;
use super::runs::{Caller, Run, RunId, Stage};
use super::slot::Conn;
use crate::metrics::Family;
use crate::session::WantedTool;
use crate::system::child::Outcome;
use crate::tools::Backing;
use crate::tools::process::{self, Ended};

/// The loop's own deadline ends a run; this one ends its process if that fails.
const SPARE: Duration = Duration::from_secs(5);

impl Server {
    /// With the child of the built-in tools, so that the first run need not wait for it. It starts before
    /// the daemon says that it listens.
    #[must_use]
    pub fn with_tools(mut self, now: Instant) -> Self {
        self.prepare_tools(now);
        self
    }

    pub(super) fn prepare_tools(&mut self, now: Instant) {
        let Some(calls) = &self.calls else { return };
        let needed = calls.configuration.tools.iter().any(|tool| tool.backing == Backing::Builtin);
        if needed && let Err(why) = self.helper.start(&calls.program, self.poll.registry(), now) {
            log::warn!("the child of the built-in tools: {why}");
        }
    }

    /// Takes up the runs that the call in this slot wants.
    pub(super) fn start_tools(&mut self, at: usize, now: Instant) {
        for WantedTool { call_id, tool, input } in std::mem::take(&mut self.resources.wanted) {
            let Conn::Call(session) = &self.slots[at].conn else { return };
            let session = session.id().to_owned();
            let caller = Caller { slot: at, session, call_id };
            if !self.runs.ask(&tool, caller.clone(), input, now) {
                self.not_started(&caller, "Too many tools are running at once.", now);
            }
        }
        self.start_runs(now);
    }

    /// Starts all runs that have their place.
    fn start_runs(&mut self, now: Instant) {
        while let Some((id, started)) = self.start_next(now) {
            let failed = started.err().and_then(|why| Some((self.runs.finish(id)?, why)));
            if let Some((run, why)) = failed {
                self.not_started(&run.caller, &why, now);
            }
        }
    }

    /// The only place that knows how each kind of tool is started. Each kind ends in
    /// [`run_ended`](Self::run_ended), and is cancelled in [`cancel`](Self::cancel).
    fn start_next(&mut self, now: Instant) -> Option<(RunId, Result<(), String>)> {
        let calls = self.calls.as_ref()?;
        let registry = self.poll.registry();
        let Run { id, tool, input, deadline, .. } = self.runs.next(self.children.places(), now)?;
        let started = match &tool.backing {
            Backing::Builtin => {
                let started = self.helper.start(&calls.program, registry, now);
                started.map(|()| self.helper.run(*id, &tool.name, input))
            }
            Backing::Command { .. } | Backing::Web { .. } => {
                let process = process::of(tool, input, &calls.program);
                let job = Job {
                    command: &process.command,
                    folder: process.folder.as_deref(),
                    input: process.input,
                    max_output: process.max_output,
                    deadline: *deadline + SPARE,
                    purpose: Purpose::Tool { run: *id, name: tool.name.clone() },
                };
                self.children.spawn(job, registry)
            }
            Backing::Server { server, tool } => self.servers.call(*id, (server, tool), input, now),
            Backing::HangUp => Err("it is not run here".to_owned()),
        };
        Some((*id, started))
    }

    /// Stops what stands behind a run that nobody waits for any more. Whether and when it ends does not
    /// matter: the run is finished, and a late result is dropped.
    fn cancel(&mut self, id: RunId, backing: &Backing, why: &str) {
        match backing {
            // One run in it hangs, so none goes on.
            Backing::Builtin => self.helper.lose(why),
            Backing::Command { .. } | Backing::Web { .. } => self.children.stop(id, why),
            Backing::Server { server, .. } => self.servers.cancel(id, server, why),
            Backing::HangUp => {}
        }
    }

    /// Takes the results of the built-in tools, ends the runs whose time is over, and starts those whose
    /// turn it is.
    pub(super) fn end_runs(&mut self, now: Instant) {
        let due = self.runs.deadline().is_some_and(|deadline| now >= deadline);
        if !due && !self.helper.is_marked() {
            return;
        }
        while let Some(id) = self.runs.overdue(now) {
            self.run_overdue(id, now);
        }
        while let Some((id, result)) = self.helper.ended() {
            self.run_ended(id, result, now);
        }
        if self.lifecycle == Lifecycle::Serving && self.helper.is_missed(now) {
            self.prepare_tools(now);
        }
    }

    fn run_overdue(&mut self, id: RunId, now: Instant) {
        let Some(run) = self.runs.finish(id) else { return };
        let (tool, caller) = (run.tool, run.caller);
        log::warn!("[{}] the tool {} took too long", caller.session, tool.name);
        let why = match run.stage {
            Stage::Waiting => "The tool is busy with other calls.",
            Stage::Running => {
                self.cancel(id, &tool.backing, "it took too long");
                "The tool failed: it took too long."
            }
        };
        self.give(&caller, Err(why.to_owned()), now);
        self.start_runs(now);
    }

    /// The process of a run has ended.
    pub(super) fn process_ended(&mut self, id: RunId, outcome: Outcome, now: Instant) {
        let ended = match outcome {
            Outcome::Done(output) => Ended::Well(output),
            Outcome::Refused(output) => Ended::Speaking(output),
            Outcome::Failed(why) => Ended::Badly(why),
        };
        self.run_ended(id, process::result(ended), now);
    }

    /// A run has ended: its call gets the result, and the next run its place. The error is a sentence for
    /// the model. A run that was finished before gets no second result.
    pub(super) fn run_ended(&mut self, id: RunId, result: Result<String, String>, now: Instant) {
        if let Some(run) = self.runs.finish(id) {
            self.give(&run.caller, result, now);
        }
        self.start_runs(now);
    }

    fn not_started(&mut self, caller: &Caller, why: &str, now: Instant) {
        self.resources.metrics.count(Family::Tools, "not_started");
        self.tell(caller, Err(why.to_owned()), now);
    }

    fn give(&mut self, caller: &Caller, result: Result<String, String>, now: Instant) {
        let word = match (self.is_here(caller), &result) {
            (false, _) => "abandoned",
            (true, Ok(_)) => "ok",
            (true, Err(_)) => "failed",
        };
        self.resources.metrics.count(Family::Tools, word);
        self.tell(caller, result, now);
    }

    fn is_here(&self, caller: &Caller) -> bool {
        matches!(&self.slots[caller.slot].conn, Conn::Call(call) if call.id() == caller.session)
    }

    /// A failure becomes JSON with an `error`, which the model can speak about.
    fn tell(&mut self, caller: &Caller, result: Result<String, String>, now: Instant) {
        if !self.is_here(caller) {
            return;
        }
        let ok = result.is_ok();
        let output = result.unwrap_or_else(|why| serde_json::json!({ "error": why }).to_string());
        self.with_session(caller.slot, now, |session, cx| {
            session.tool_finished(&caller.call_id, &output, ok, cx);
        });
    }

    /// The user of the call in this slot has stopped these runs.
    pub(super) fn stop_runs(&mut self, at: usize, now: Instant) {
        for call_id in std::mem::take(&mut self.resources.unwanted) {
            let Conn::Call(session) = &self.slots[at].conn else { return };
            if let Some((id, tool)) = self.runs.disown(session.id(), &call_id) {
                self.stop_run(id, &tool.backing, "the user stopped it");
            }
        }
        self.start_runs(now);
    }

    /// A call has ended: nobody waits for its runs any more.
    pub(super) fn stop_tools_of(&mut self, session: &str, now: Instant) {
        for (id, tool) in self.runs.abandon(session) {
            self.stop_run(id, &tool.backing, "its call ended");
        }
        self.start_runs(now);
    }

    /// Nobody waits for a run that has started. A process is killed, and its run is over with it. A server says
    /// nothing more of a call that it was told to cancel. A built-in tool goes on, since others may run in the same
    /// child; one that hangs is found by its deadline.
    fn stop_run(&mut self, id: RunId, backing: &Backing, why: &str) {
        if *backing != Backing::Builtin {
            self.cancel(id, backing, why);
        }
        if matches!(backing, Backing::Server { .. }) {
            self.runs.finish(id);
            self.resources.metrics.count(Family::Tools, "abandoned");
        }
    }
}
