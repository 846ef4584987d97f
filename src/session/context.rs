//! The loop's resources that all calls share, and the context in which one call runs for a turn.
//!
//! A call owns its connections and its queues. It does not own memory to read into, the pool behind
//! its queues, the tools or the counters: a daemon with 100 calls would hold all of that 100 times.
//! The loop keeps one [`LoopResources`], and lends it to one call after the other.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::consumption::Consumption;
use super::reply::Decoded;
use crate::call::pcm::PcmPool;
use crate::metrics::{Family, Metrics};
use crate::net::inbox::Inbox;
use crate::tools::{Backing, Confirm, Tool, Tools};

/// What the loop owns and lends to each call for its turn.
#[derive(Debug)]
pub struct LoopResources {
    /// All PCM memory, allocated once at start.
    pub pool: PcmPool,
    /// Where bytes lie within a turn.
    pub buffers: Buffers,
    /// Tool runs that the calls have asked for. The loop starts them after the call's turn and
    /// leaves the list empty.
    pub wanted: Vec<WantedTool>,
    /// The function calls whose runs the user has stopped. The loop ends them after the call's turn and leaves
    /// the list empty.
    pub unwanted: Vec<String>,
    /// What is counted.
    pub metrics: Metrics,
    /// The tokens that all calls use.
    pub(super) consumption: Consumption,
}

impl LoopResources {
    /// Allocates the pool: `pool_blocks` blocks of [`BLOCK_BYTES`](crate::call::pcm::BLOCK_BYTES).
    #[must_use]
    pub fn new(pool_blocks: usize) -> Self {
        Self {
            pool: PcmPool::new(pool_blocks),
            buffers: Buffers::default(),
            wanted: Vec::new(),
            unwanted: Vec::new(),
            metrics: Metrics::new(),
            consumption: Consumption::default(),
        }
    }

    /// Lends everything to one call for one turn. `now` is the only time that the call is told in
    /// this turn, so all its deadlines are judged by the same moment.
    pub fn lend<'a>(&'a mut self, tools: &'a Tools, now: Instant) -> TurnContext<'a> {
        let Self { pool, buffers, wanted, unwanted, metrics, consumption } = self;
        TurnContext { pool, buffers, tools, wanted, unwanted, metrics, consumption, now }
    }
}

/// What a call may use during one turn of the loop. Made by [`LoopResources::lend`] only.
#[allow(missing_debug_implementations, reason = "lent for a turn, never kept")]
pub struct TurnContext<'a> {
    pub(super) pool: &'a mut PcmPool,
    pub(super) buffers: &'a mut Buffers,
    pub(super) tools: &'a Tools,
    pub(super) wanted: &'a mut Vec<WantedTool>,
    pub(super) unwanted: &'a mut Vec<String>,
    pub(super) metrics: &'a mut Metrics,
    pub(super) consumption: &'a mut Consumption,
    pub(super) now: Instant,
}

impl TurnContext<'_> {
    /// Asks the loop to run a tool after this turn, unless it is one that the call itself carries out, or one
    /// that asks first.
    ///
    /// # Errors
    /// A sentence for the model: there is no such tool, or its arguments do not fit its schema.
    pub(super) fn want_tool(
        &mut self,
        call_id: &str,
        name: &str,
        arguments: &str,
    ) -> Result<Carried, String> {
        let (tool, input) = self.tools.check(name, arguments)?;
        if tool.backing == Backing::HangUp {
            return Ok(Carried::HangUp);
        }
        let wanted = WantedTool { call_id: call_id.to_owned(), tool: Rc::clone(tool), input };
        Ok(match tool.confirm {
            Confirm::Never => self.run(wanted),
            Confirm::Always => Carried::Ask(wanted),
        })
    }

    /// Asks the loop to run this after the turn.
    pub(super) fn run(&mut self, wanted: WantedTool) -> Carried {
        let most = wanted.tool.longest() + SPARE;
        self.wanted.push(wanted);
        Carried::Run { most }
    }

    /// Counts what does not come back from the loop.
    pub(super) fn count_wanted(&mut self, wanted: &Result<Carried, String>) {
        match wanted {
            Ok(Carried::Run { .. } | Carried::Ask(_)) => {}
            Ok(Carried::HangUp) => self.metrics.count(Family::Tools, "ok"),
            Err(_) => self.metrics.count(Family::Tools, "refused"),
        }
    }
}

/// What the loop may need beyond a tool's own time.
const SPARE: Duration = Duration::from_secs(10);

/// What becomes of a function call of the model.
#[derive(Debug)]
pub(super) enum Carried {
    /// The loop runs it and tells its result within this time.
    Run { most: Duration },
    /// The user is asked first. The session keeps it meanwhile: it is what the user is shown, and what a yes runs.
    Ask(WantedTool),
    /// The call ends.
    HangUp,
}

/// Memory for what is read and written within a turn. It belongs to the loop: between turns a
/// call's connections hold no buffer but the one with what could not leave.
#[derive(Debug, Default)]
pub struct Buffers {
    /// The read buffer, for both sides of all calls. It is boxed because it changes hands in every
    /// turn, and `None` while a call has it.
    pub(super) inbox: Option<Box<Inbox>>,
    pub(super) decoded: Decoded,
    pub(super) to_client: Vec<u8>,
    pub(super) to_service: Vec<u8>,
}

impl Buffers {
    /// The read buffer, for connections of the loop that are no calls.
    pub fn inbox(&mut self) -> &mut Inbox {
        self.inbox.get_or_insert_default()
    }
}

/// A tool run that a call asks for. The arguments have passed the tool's schema.
#[derive(Debug)]
pub struct WantedTool {
    /// The service's id of the function call.
    pub call_id: String,
    /// The tool, as it was when the call was judged.
    pub tool: Rc<Tool>,
    /// Its arguments: a JSON object on one line.
    pub input: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loop ends a run at the tool's own time. The call waits longer, so that it gets that result.
    #[test]
    fn a_call_waits_for_a_tool_ten_seconds_longer_than_the_loop() {
        let (mut resources, tools) = (LoopResources::new(1), Tools::builtin());
        let tool = tools.find("get_weather").expect("built in");
        let (call_id, tool) = ("c".to_owned(), Rc::clone(tool));
        let longest = tool.longest();
        let wanted = WantedTool { call_id, tool, input: "{}".to_owned() };
        let carried = resources.lend(&tools, Instant::now()).run(wanted);
        let waits = longest + Duration::from_secs(10);
        assert!(matches!(carried, Carried::Run { most } if most == waits), "{carried:?}");
        assert_eq!(resources.wanted.len(), 1);
    }
}
