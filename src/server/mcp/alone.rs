//! The servers without a daemon, for commands: they are started, asked and ended as in the loop.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use super::link::{Link, News};
use super::{Mcp, RunId, Servers, offer_in};
use crate::tools::{Backing, Tool, Tools};

/// How long servers may take to tell their tools: two questions about the era, and the first page.
const PATIENCE: Duration = Duration::from_secs(75);
/// The exit of a process is no event here, so it is looked for so often.
const TURN: Duration = Duration::from_millis(20);

/// See the module's text. [`end`](Self::end) ends the servers in order; dropping it kills them.
#[allow(missing_debug_implementations, reason = "holds secrets")]
pub struct Alone {
    poll: Poll,
    events: Events,
    servers: Servers,
    program: PathBuf,
}

impl Alone {
    /// Starts the servers. `program` is this one.
    ///
    /// # Errors
    /// When the system gives no poll.
    pub fn start(mcp: Mcp, program: PathBuf) -> io::Result<Self> {
        let servers = Servers::new(mcp, 0, Instant::now());
        Ok(Self { poll: Poll::new()?, events: Events::with_capacity(64), servers, program })
    }

    /// Puts the servers' tools into `tools`, as a daemon that has run for a while has them: when each server has
    /// told its own or has failed, after 75 s at most, or as soon as there is one of the name `wanted`. Gives a
    /// sentence for each fault.
    pub fn list(&mut self, tools: &mut Tools, wanted: Option<&str>) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        let mut faults = Vec::new();
        while !self.servers.links.iter().all(Link::is_settled) && Instant::now() < until {
            if self.turn().iter().any(|news| matches!(news, News::Tools)) {
                faults = offer_in(tools, &self.servers);
            }
            if wanted.is_some_and(|name| tools.find(name).is_some()) {
                return faults;
            }
        }
        for link in &self.servers.links {
            let why = match &link.standing {
                Ok(()) => continue,
                Err(why) if why.is_empty() => "it does not tell its tools",
                Err(why) => why,
            };
            faults.push(format!("MCP server {}: {why}", link.spec.name.escape_debug()));
        }
        faults
    }

    /// Runs a tool of a server. Its input has passed [`Tools::check`].
    ///
    /// # Errors
    /// A sentence for the model.
    pub fn run(&mut self, tool: &Tool, input: &str) -> Result<String, String> {
        let Backing::Server { server, tool } = &tool.backing else {
            return Err("It is no tool of a server.".to_owned());
        };
        self.servers.call(RunId(1), (server, tool), input, Instant::now())?;
        // The server's client ends each call, at its deadline at the latest.
        loop {
            for news in self.turn() {
                if let News::Ended(_, result) = news {
                    return result;
                }
            }
        }
    }

    /// Ends the servers, each as the protocol wants it.
    pub fn end(mut self) {
        self.servers.stop(Instant::now());
        while !self.servers.are_stopped() {
            self.turn();
        }
    }

    fn turn(&mut self) -> Vec<News> {
        // A signal during the wait is no error; without a poll the turns are shorter, and all are marked anyway.
        if self.poll.poll(&mut self.events, Some(TURN)).is_err() {
            self.events.clear();
        }
        self.servers.mark_all();
        self.servers.pump(&self.program, self.poll.registry(), Instant::now())
    }
}
