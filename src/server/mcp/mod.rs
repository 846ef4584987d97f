//! The MCP servers in the loop: they are citizens of it like any connection. Their pipes do not wait, each
//! has its bounds in a turn, and a server that is slow or dead delays nothing but its own tools.

mod link;

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Server;
use super::children::TOKENS;
use super::runs::RunId;
use super::slot::Conn;
use crate::call::sooner;
use crate::mcp::client::LONGEST_CALL;
use crate::mcp::file::{self, MAX_SERVERS};
use crate::mcp::listing;
use crate::mcp::offer::{Offered, offer};
use crate::tools::{self, Backing, Confirm, Limits, Origin, Tool};
use link::{Link, News};

/// How many tokens of the poll the servers have.
pub(super) const SERVERS_TOKENS: usize = TOKENS * MAX_SERVERS;

/// How many runs of one tool there may be at once.
const AT_ONCE: usize = 8;

/// The client of a server ends a call at its time. If that fails, the loop ends it so much later.
const SPARE: Duration = Duration::from_secs(1);

const _: () = assert!(LONGEST_CALL.as_secs() < tools::LONGEST_PROGRESS.as_secs());

/// What the loop needs to reach servers.
#[derive(Default)]
#[allow(missing_debug_implementations, reason = "holds secrets")]
pub struct Mcp {
    /// The servers of the file.
    pub servers: Vec<file::Server>,
    /// The most bytes that their tools' names, descriptions and schemas may have together.
    pub schema_budget: usize,
    /// Certificate authorities that are trusted besides the usual ones, as DER.
    pub authorities: Vec<Vec<u8>>,
}

/// See the module's text.
pub(super) struct Servers {
    /// Server `i` has the poll's tokens `first + 3 * i` and the two after it.
    first: usize,
    links: Vec<Link>,
    budget: usize,
    authorities: Vec<Vec<u8>>,
}

impl Servers {
    pub(super) fn new(mcp: Mcp, first: usize, now: Instant) -> Self {
        let Mcp { servers, schema_budget, authorities } = mcp;
        let servers = servers.into_iter().take(MAX_SERVERS).enumerate();
        let link = |(at, spec)| Link::new(spec, first + TOKENS * at, now);
        Self { first, links: servers.map(link).collect(), budget: schema_budget, authorities }
    }

    /// Remembers that the poll has announced a pipe.
    pub(super) fn mark(&mut self, token: usize) {
        if let Some(link) = self.links.get_mut((token - self.first) / TOKENS) {
            link.mark();
        }
    }

    /// Remembers that some child has exited.
    pub(super) fn mark_all(&mut self) {
        self.links.iter_mut().for_each(Link::mark);
    }

    /// Whether there is more to do at once.
    pub(super) fn is_marked(&self) -> bool {
        self.links.iter().any(Link::is_marked)
    }

    /// When [`Server::serve_mcp`] must be called at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.links.iter().fold(None, |soonest, link| sooner(soonest, link.deadline()))
    }

    /// Whether all are gone for good.
    pub(super) fn are_stopped(&self) -> bool {
        self.links.iter().all(Link::is_stopped)
    }

    /// The daemon ends.
    pub(super) fn stop(&mut self, now: Instant) {
        self.links.iter_mut().for_each(|link| link.stop(now));
    }

    /// Calls a tool of a server.
    ///
    /// # Errors
    /// A sentence for the model.
    pub(super) fn call(
        &mut self,
        run: RunId,
        (server, tool): (&str, &str),
        input: &str,
        now: Instant,
    ) -> Result<(), String> {
        let link = self.links.iter_mut().find(|link| link.spec.name == server);
        link.ok_or("The tool's server is not there any more.")?.call(run, tool, input, now)
    }

    /// Nobody waits for this run any more.
    pub(super) fn cancel(&mut self, run: RunId, server: &str, why: &str) {
        if let Some(link) = self.links.iter_mut().find(|link| link.spec.name == server) {
            link.cancel(run, why);
        }
    }

    /// All tools that the model is offered; the log is told what is left out. `taken` are the names of
    /// other tools.
    fn offered(&self, taken: &[&str]) -> Vec<Tool> {
        let lists: Vec<(&file::Server, &[listing::Tool])> =
            self.links.iter().map(|link| (&link.spec, &link.tools[..])).collect();
        let (offered, notes) = offer(&lists, taken, self.budget);
        for note in notes {
            log::warn!("mcp: {note}");
        }
        let tool = |Offered { name, server, tool }| {
            let (spec, tool) = (lists[server].0, &lists[server].1[tool]);
            let timeout = spec.timeout + SPARE;
            Tool {
                name,
                description: tool.description.clone(),
                parameters: tool.parameters.clone(),
                backing: Backing::Server { server: spec.name.clone(), tool: tool.name.clone() },
                limits: Limits { timeout, max_output: 64 * 1024, at_once: AT_ONCE },
                confirm: confirm(spec.confirm, tool),
                origin: Origin::Server(spec.name.clone()),
            }
        };
        offered.into_iter().map(tool).collect()
    }
}

/// Whether the user is asked first. The server's word counts only where the owner leaves it to it.
fn confirm(asked: file::Confirm, tool: &listing::Tool) -> Confirm {
    let harmless = tool.read_only == Some(true) || tool.destructive == Some(false);
    match asked {
        file::Confirm::Never => Confirm::Never,
        file::Confirm::Always => Confirm::Always,
        file::Confirm::Auto if harmless => Confirm::Never,
        file::Confirm::Auto => Confirm::Always,
    }
}

impl Server {
    /// Gives each server that has something to do its turn.
    pub(super) fn serve_mcp(&mut self, now: Instant) {
        let due = self.servers.deadline().is_some_and(|deadline| now >= deadline);
        if !due && !self.servers.is_marked() {
            return;
        }
        let Some(calls) = &self.calls else { return };
        let (registry, mut news) = (self.poll.registry(), Vec::new());
        let Servers { links, authorities, .. } = &mut self.servers;
        for link in links {
            if link.is_marked() || link.deadline().is_some_and(|deadline| now >= deadline) {
                link.pump(&calls.program, authorities, registry, now, &mut news);
            }
        }
        let mut changed = false;
        for one in news {
            match one {
                News::Tools => changed = true,
                News::Ended(run, result) => self.run_ended(run, result, now),
                News::Later(run, until) => self.runs.put_off(run, until + SPARE),
            }
        }
        if changed {
            self.offer_tools(now);
        }
    }

    /// The servers' tools have changed: new calls are offered them, and running calls are told.
    fn offer_tools(&mut self, now: Instant) {
        let Some(calls) = &mut self.calls else { return };
        let own: Vec<String> = calls
            .terms
            .tools
            .iter()
            .filter(|tool| !is_of_server(tool))
            .map(|it| it.name.clone())
            .collect();
        let taken: Vec<&str> = own.iter().map(String::as_str).collect();
        let offered = self.servers.offered(&taken);
        log::info!("mcp: {} tools are offered", offered.len());
        let change = |tools: &mut tools::Tools| {
            tools.remove(is_of_server);
            // No name is taken: `offered` knows them all.
            offered.into_iter().for_each(|tool| drop(tools.add(tool)));
        };
        let Some(schemas) = calls.terms.change_tools(change).map(Rc::new) else { return };
        for at in 0..self.slots.len() {
            if matches!(self.slots[at].conn, Conn::Call(_)) {
                self.with_session(at, now, |session, cx| session.tools_changed(&schemas, cx));
            }
        }
    }
}

fn is_of_server(tool: &Tool) -> bool {
    matches!(tool.origin, Origin::Server(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_word_counts_only_where_the_owner_leaves_it_to_it() {
        let asks = |asked, read_only, destructive| {
            let tool = listing::Tool {
                name: "t".to_owned(),
                description: String::new(),
                parameters: serde_json::json!({}),
                read_only,
                destructive,
            };
            confirm(asked, &tool)
        };
        for (read_only, destructive, auto) in [
            (None, None, Confirm::Always),
            (Some(false), Some(true), Confirm::Always),
            (Some(true), None, Confirm::Never),
            (None, Some(false), Confirm::Never),
        ] {
            assert_eq!(asks(file::Confirm::Auto, read_only, destructive), auto);
            assert_eq!(asks(file::Confirm::Never, read_only, destructive), Confirm::Never);
            assert_eq!(asks(file::Confirm::Always, read_only, destructive), Confirm::Always);
        }
    }
}
