//! The long-lived child that runs the built-in tools (`voicelived __tools`).
//!
//! It is started with the daemon, or for a run. When it hangs or dies, the runs in it end with an
//! error, and another is started: at once if it has lived for a while, else with the next run, so a child that
//! cannot live is not started over and over.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use mio::Registry;

use super::runs::RunId;
use crate::system::line_child::{LineChild, Start, Talk};
use crate::tools::builtin;

/// How long it must have lived to be started anew without being asked for.
const LIFE: Duration = Duration::from_secs(1);

/// See the module's text.
pub(super) struct Helper {
    /// Its pipes have this token of the poll and the two after it.
    token: usize,
    child: Option<LineChild>,
    started: Option<Instant>,
    /// The runs that it has been given and has not answered.
    waiting: Vec<RunId>,
    /// What it answered, until the loop takes it.
    answered: Vec<(RunId, Result<String, String>)>,
    marked: bool,
}

impl Helper {
    pub(super) fn new(token: usize) -> Self {
        let (waiting, answered) = (Vec::new(), Vec::new());
        Self { token, child: None, started: None, waiting, answered, marked: false }
    }

    /// Starts it, unless it is there.
    ///
    /// # Errors
    /// Why it cannot be started, after a colon in a sentence.
    pub(super) fn start(
        &mut self,
        program: &Path,
        registry: &Registry,
        now: Instant,
    ) -> Result<(), String> {
        if self.child.is_some() {
            return Ok(());
        }
        let command: [OsString; 2] = [program.into(), "__tools".into()];
        let launch = Start { command: &command, environment: &[], folder: None };
        self.started = Some(now);
        let child = LineChild::spawn(&launch, builtin::MAX_LINE, self.token, registry);
        self.child = Some(child.map_err(|error| format!("it cannot be started: {error}"))?);
        Ok(())
    }

    /// Gives it a run. It must have been [started](Self::start).
    pub(super) fn run(&mut self, id: RunId, name: &str, arguments: &str) {
        let line = builtin::request(id.0, name, arguments);
        let taken = self.child.as_mut().is_some_and(|child| child.send(line.as_bytes()));
        if taken {
            self.waiting.push(id);
        } else {
            let why = "too many runs wait for the built-in tools".to_owned();
            self.answered.push((id, Err(why)));
        }
    }

    /// Remembers that the poll has announced a pipe.
    pub(super) fn mark(&mut self) {
        self.marked = true;
    }

    /// Whether there is more to do at once.
    pub(super) fn is_marked(&self) -> bool {
        self.marked || !self.answered.is_empty()
    }

    /// The next run that has ended. The loop calls it until `None`. The error is a sentence for the model.
    pub(super) fn ended(&mut self) -> Option<(RunId, Result<String, String>)> {
        if self.marked {
            self.marked = self.read();
        }
        self.answered.pop()
    }

    /// True if there is more to read.
    fn read(&mut self) -> bool {
        let Some(child) = &mut self.child else { return false };
        let (waiting, answered) = (&mut self.waiting, &mut self.answered);
        let mut heard = |line: &[u8]| {
            let Some((id, result)) = builtin::answer(line) else { return };
            // Each run ends once, and only what was asked for is answered.
            if let Some(at) = waiting.iter().position(|run| run.0 == id) {
                answered.push((waiting.swap_remove(at), result));
            }
        };
        let mut errors = |text: &[u8]| {
            log::debug!("built-in tools: {}", String::from_utf8_lossy(text).escape_debug());
        };
        match child.pump(&mut heard, &mut errors) {
            Talk::More => true,
            Talk::Idle => false,
            Talk::Gone(why) => {
                self.lose(&why);
                false
            }
        }
    }

    /// Kills it: a run in it takes too long. All the runs in it end with an error.
    pub(super) fn lose(&mut self, why: &str) {
        if self.child.take().is_none() {
            return;
        }
        log::warn!("the child of the built-in tools is started anew: {why}");
        let failed = |id| (id, Err(format!("The built-in tools have failed: {why}.")));
        self.answered.extend(self.waiting.drain(..).map(failed));
    }

    /// Whether it was lost and has lived long enough to be started anew at once.
    pub(super) fn is_missed(&self, now: Instant) -> bool {
        self.child.is_none() && self.started.is_some_and(|started| now > started + LIFE)
    }
}
