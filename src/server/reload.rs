//! SIGHUP: the settings that may change while the daemon runs are read again. They apply to new calls.
//! One change also concerns running calls: if the access token has changed, the calls that the old
//! token admitted end.

use std::rc::Rc;
use std::time::Instant;

use serde_json::Value;

use super::assistants::Assistants;
use super::slot::Conn;
use super::{Calls, Mcp, Server};
use crate::access::Access;
use crate::call::ending::EndReason;
use crate::identity::SignIn;
use crate::session::candidates::{Candidate, Chosen};
use crate::system::resolve::Resolver;
use crate::tools::Tools;

/// The configuration of new calls. A reload (SIGHUP) replaces it as a whole.
#[allow(missing_debug_implementations, reason = "the target holds the credential")]
pub struct CallConfiguration {
    /// The access rule: open, or the token to show.
    pub access: Access,
    /// The service's address and credential, and the session that it is asked for.
    pub candidate: Chosen,
    /// What clients may ask for by name instead.
    pub assistants: Assistants,
    /// Entra ID in place of the key that the candidate holds.
    pub sign_in: Option<Rc<SignIn>>,
    /// The tools that a call may run. Those of servers are no part of what is read again, and stay.
    pub tools: Tools,
    /// The MCP servers; empty once the loop has taken them.
    pub mcp: Mcp,
    /// Why no call can be made: a sentence for the caller about the settings that are missing. `None`
    /// when they are complete.
    pub unready: Option<String>,
}

impl CallConfiguration {
    /// A resolver for what is connected to: the service, or the proxy before it. `None` while no service
    /// is configured.
    pub(super) fn resolver(&self) -> Option<Resolver> {
        let target = Some(self.candidate.target()).filter(|_| self.unready.is_none());
        target.map(|target| {
            let (host, port) = target.next_hop();
            Resolver::new(host, port)
        })
    }

    /// Changes the tools that calls may run, and that new calls are offered. Gives what running calls are to
    /// be told: the `tools` of the service's session, if they have become others.
    pub(super) fn change_tools(&mut self, change: impl FnOnce(&mut Tools)) -> Option<Value> {
        change(&mut self.tools);
        let old = self.candidate.offered().cloned();
        let schemas = self.tools.schemas();
        self.candidate.offer(&schemas);
        self.assistants.all().for_each(|chosen| chosen.offer(&schemas));
        self.candidate.offered().filter(|new| Some(*new) != old.as_ref()).cloned()
    }
}

impl CallConfiguration {
    /// The service has accepted a candidate that a call fell back to. True if later calls begin with it, and
    /// did not before.
    pub(super) fn remember(&mut self, candidate: &Candidate, now: Instant) -> bool {
        let own = self.candidate.remember(candidate, now);
        self.assistants.all().fold(own, |known, chosen| known | chosen.remember(candidate, now))
    }
}

/// Reads the configuration again: all of it, or none and a line for the log that says why. It runs in the
/// loop, and all calls wait for it. So it may read a few small files, and nothing else that can wait.
pub type Reread = Box<dyn Fn() -> Result<CallConfiguration, String>>;

impl Calls {
    /// Takes a new configuration for new calls, but never a service at another address. The addresses that are
    /// known, or being looked up, belong to the old service. The new key must not be sent there, so
    /// address and key change only together, with a restart.
    fn adopt(&mut self, configuration: CallConfiguration) {
        let (old, new) = (self.configuration.candidate.target(), configuration.candidate.target());
        let same = old.host == new.host && old.port == new.port;
        let moved = !same || old.tls.is_some() != new.tls.is_some();
        // As long as the settings were incomplete, there was no address and no key to protect.
        let moved = moved && self.configuration.unready.is_none();
        let servers: Vec<_> = self.configuration.tools.of_servers().cloned().collect();
        self.configuration = if moved {
            let candidate = configuration.candidate.at(&self.configuration.candidate);
            let assistants = std::mem::take(&mut self.configuration.assistants);
            CallConfiguration {
                candidate,
                assistants,
                sign_in: self.configuration.sign_in.clone(),
                ..configuration
            }
        } else {
            configuration
        };
        self.configuration
            .change_tools(|tools| servers.iter().for_each(|tool| tools.add_again(tool)));
    }
}

impl Server {
    /// Reads settings and access rules again. If anything in them cannot be used, nothing changes: a
    /// mistake in a file must not end a service that works.
    pub(super) fn reload(&mut self, now: Instant) {
        let Some(calls) = &mut self.calls else {
            return;
        };
        match (calls.reread)() {
            Ok(CallConfiguration { unready: Some(why), .. })
                if calls.configuration.unready.is_none() =>
            {
                return log::error!("the old settings stay: {why}");
            }
            Ok(configuration) => calls.adopt(configuration),
            Err(why) => return log::error!("the old settings stay: {why}"),
        }
        let (access, mcp) =
            (calls.configuration.access.clone(), std::mem::take(&mut calls.configuration.mcp));
        log::info!("settings: read again, for new calls");
        // The addresses of an old proxy must not be taken for the new way.
        let (old, new) = (self.resolver.as_ref(), calls.configuration.resolver());
        if old.map(Resolver::name) != new.as_ref().map(Resolver::name) {
            self.resolver = new;
            self.refresh_addresses(now);
        }
        self.change_sign_in(now);
        self.prepare_tools(now);
        self.change_servers(mcp, now);
        self.change_access(access, now);
    }

    /// Takes the new access rules. If they take rights away, every call of an older generation is told
    /// and ends. Visitors need no such step: `admit` compares their generation when they upgrade.
    fn change_access(&mut self, access: Access, now: Instant) {
        let open = access.is_open();
        if !self.guard.replace(access) {
            return log::info!("access: read again, {}", if open { "open" } else { "unchanged" });
        }
        let generation = self.guard.generation();
        let mut ended = 0;
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            if matches!(slot.conn, Conn::Call(_)) && slot.generation != generation {
                ended += 1;
                self.with_session(at, now, |session, cx| session.end(EndReason::AccessChanged, cx));
            }
        }
        log::info!("access: the token has changed; calls ended: {ended}");
    }
}
