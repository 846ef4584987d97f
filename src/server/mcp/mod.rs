//! The MCP servers in the loop: they are citizens of it like any connection. Their pipes do not wait, each
//! has its bounds in a turn, and a server that is slow or dead delays nothing but its own tools.

mod alone;
mod link;

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::Registry;

use super::Server;
use super::children::TOKENS;
use super::runs::RunId;
use super::slot::Conn;
use crate::call::sooner;
use crate::mcp::client::LONGEST_CALL;
use crate::mcp::file::{self, MAX_SERVERS};
use crate::mcp::listing;
use crate::mcp::offer::{Offered, offer};
use crate::metrics::Family;
use crate::tools::{self, Backing, Confirm, Limits, Origin, Tool};
pub use alone::Alone;
use link::{Link, News};

/// Servers and those that still end since the file does not name them any more.
const MAX_LINKS: usize = 2 * MAX_SERVERS;

/// How many tokens of the poll they have.
pub(super) const SERVERS_TOKENS: usize = TOKENS * MAX_LINKS;

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
    /// Those that have a fault there; `None` if the whole file has one. Their last good versions stay.
    pub faulty: Vec<Option<String>>,
    /// The most bytes that their tools' names, descriptions and schemas may have together.
    pub schema_budget: usize,
    /// Certificate authorities that are trusted besides the usual ones, as DER.
    pub authorities: Vec<Vec<u8>>,
}

/// See the module's text.
pub(super) struct Servers {
    /// The poll's tokens of all of them begin here. Each has three.
    first: usize,
    links: Vec<Link>,
    budget: usize,
    authorities: Vec<Vec<u8>>,
    /// How often one has failed.
    failures: u64,
}

impl Servers {
    pub(super) fn new(mcp: Mcp, first: usize, now: Instant) -> Self {
        let (links, authorities) = (Vec::new(), Vec::new());
        let mut new = Self { first, links, budget: 0, authorities, failures: 0 };
        new.adopt(mcp, now);
        new
    }

    /// Takes what the file says now, in its order. True if other tools may have to be offered.
    fn adopt(&mut self, mcp: Mcp, now: Instant) -> bool {
        let mut changed = self.budget != mcp.schema_budget;
        (self.budget, self.authorities) = (mcp.schema_budget, mcp.authorities);
        let mut old = std::mem::take(&mut self.links);
        for spec in mcp.servers {
            match old.iter().position(|link| link.spec.name == spec.name) {
                Some(at) => {
                    let mut link = old.remove(at);
                    changed |= link.adopt(spec, now);
                    self.links.push(link);
                }
                None => match self.free_token(&old) {
                    Some(token) => self.links.push(Link::new(spec, token, now)),
                    None => log::error!("mcp {}: too many other servers still end", spec.name),
                },
            }
        }
        for mut link in old {
            let name = &link.spec.name;
            if mcp.faulty.iter().any(|faulty| faulty.as_ref().is_none_or(|it| it == name)) {
                log::warn!("mcp {}: its last good version stays", name.escape_debug());
            } else if !link.is_stopping() {
                changed |= link.retire(now);
            }
            self.links.push(link);
        }
        changed
    }

    /// The first of three tokens that neither `links` nor `old` have.
    fn free_token(&self, old: &[Link]) -> Option<usize> {
        let mut all = (0..MAX_LINKS).map(|at| self.first + TOKENS * at);
        all.find(|token| !self.links.iter().chain(old).any(|link| link.token == *token))
    }

    /// Remembers that the poll has announced a pipe.
    pub(super) fn mark(&mut self, token: usize) {
        let its = |link: &&mut Link| (link.token..link.token + TOKENS).contains(&token);
        if let Some(link) = self.links.iter_mut().find(its) {
            link.mark();
        }
    }

    /// Gives each one that has something to do its turn.
    fn pump(&mut self, program: &Path, registry: &Registry, now: Instant) -> Vec<News> {
        let mut news = Vec::new();
        for link in &mut self.links {
            if link.is_marked() || link.deadline().is_some_and(|deadline| now >= deadline) {
                let before = link.failures;
                link.pump(program, &self.authorities, registry, now, &mut news);
                self.failures += u64::from(link.failures > before);
            }
        }
        self.links.retain(|link| !link.is_stopped());
        news
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

    /// What `/metrics` tells of them.
    pub(super) fn gauges(&self, tools: Option<&tools::Tools>) -> [(Family, u64); 4] {
        let count = |is: fn(&&Link) -> bool| self.links.iter().filter(is).count() as u64;
        [
            (Family::McpServers, count(|link| !link.is_stopping())),
            (Family::McpReady, count(|link| link.is_ready())),
            (Family::McpTools, tools.map_or(0, |tools| tools.of_servers().count() as u64)),
            (Family::McpFailures, self.failures),
        ]
    }

    /// Whether all are gone for good.
    pub(super) fn are_stopped(&self) -> bool {
        self.links.iter().all(Link::is_stopped)
    }

    /// The daemon ends.
    pub(super) fn stop(&mut self, now: Instant) {
        self.links.iter_mut().for_each(|link| link.stop("the daemon ends", now));
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

    /// All tools that the model is offered, and a sentence for each fault in what the servers list. `taken` are
    /// the names of other tools.
    fn offered(&self, taken: &[&str]) -> (Vec<Tool>, Vec<String>) {
        let lists: Vec<(&file::Server, &[listing::Tool])> =
            self.links.iter().map(|link| (&link.spec, &link.tools[..])).collect();
        let (offered, notes) = offer(&lists, taken, self.budget);
        let tool = |Offered { name, server, tool }| {
            let (spec, tool) = (lists[server].0, &lists[server].1[tool]);
            let timeout = spec.timeout + SPARE;
            Tool {
                name,
                description: tool.description.clone(),
                parameters: tool.parameters.clone(),
                backing: Backing::Server { server: spec.name.clone(), tool: tool.name.clone() },
                // Of its output the client keeps a bounded part.
                limits: Limits { timeout, at_once: AT_ONCE, ..Limits::DEFAULT },
                confirm: confirm(spec.confirm, tool),
                origin: Origin::Server(spec.name.clone()),
            }
        };
        (offered.into_iter().map(tool).collect(), notes)
    }
}

/// Puts the tools of servers into a registry, in place of those that they had there. Gives what
/// [`Servers::offered`] finds wrong.
fn offer_in(tools: &mut tools::Tools, servers: &Servers) -> Vec<String> {
    tools.remove(is_of_server);
    let own: Vec<String> = tools.iter().map(|tool| tool.name.clone()).collect();
    let (offered, notes) = servers.offered(&own.iter().map(String::as_str).collect::<Vec<_>>());
    // No name is taken: `offered` knows them all.
    offered.into_iter().for_each(|tool| drop(tools.add(tool)));
    notes
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
    /// Takes what the MCP file says now. A server that has not changed notices nothing.
    pub(super) fn change_servers(&mut self, mcp: Mcp, now: Instant) {
        if self.servers.adopt(mcp, now) {
            self.offer_tools(now);
        }
    }

    /// Gives each server that has something to do its turn.
    pub(super) fn serve_mcp(&mut self, now: Instant) {
        let due = self.servers.deadline().is_some_and(|deadline| now >= deadline);
        if !due && !self.servers.is_marked() {
            return;
        }
        let Some(calls) = &self.calls else { return };
        let news = self.servers.pump(&calls.program, self.poll.registry(), now);
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
        let change = |tools: &mut tools::Tools| {
            for note in offer_in(tools, &self.servers) {
                log::warn!("mcp: {note}");
            }
            log::info!("mcp: {} tools are offered", tools.of_servers().count());
        };
        let Some(schemas) = calls.configuration.change_tools(change).map(Rc::new) else { return };
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
mod tests;
