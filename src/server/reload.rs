//! SIGHUP: what can change while the daemon runs is read once more, and counts for new calls. Only
//! who may call concerns running ones: those of a changed token end.

use std::time::Instant;

use super::slot::Conn;
use super::{Calls, Server};
use crate::access::Access;
use crate::call::ending::EndReason;
use crate::session::candidates::Chosen;
use crate::system::resolve::Resolver;

/// The configuration of new calls. A reload (SIGHUP) replaces it as a whole.
#[allow(missing_debug_implementations, reason = "the target holds the credential")]
pub struct Terms {
    /// Who may call.
    pub access: Access,
    /// The service, and the session that calls ask it for.
    pub candidate: Chosen,
    /// Why no call can be made until the settings are completed; `None` when they are complete.
    pub unready: Option<String>,
}

impl Terms {
    /// For the service's addresses, if there is a service.
    pub(super) fn resolver(&self) -> Option<Resolver> {
        let target = Some(self.candidate.target()).filter(|_| self.unready.is_none());
        target.map(|target| Resolver::new(&target.host, target.port))
    }
}

/// Reads the terms again, all of them or, with a line that says why, none. It may read a few small
/// files and must not wait for anything else.
pub type Reread = Box<dyn Fn() -> Result<Terms, String>>;

impl Calls {
    /// Takes new terms for new calls. A service at another address is not among them: the addresses
    /// that are known, or being looked up, are the old one's, and no key may go there but its own.
    fn adopt(&mut self, terms: Terms) {
        let (old, new) = (self.terms.candidate.target(), terms.candidate.target());
        let same = old.host == new.host && old.port == new.port;
        let moved = !same || old.tls.is_some() != new.tls.is_some();
        // Without settings there was no address and no key yet.
        let moved = moved && self.terms.unready.is_none();
        let candidate =
            if moved { terms.candidate.at(&self.terms.candidate) } else { terms.candidate };
        self.terms = Terms { candidate, ..terms };
    }
}

impl Server {
    /// Reads settings and access rules again. What cannot be used changes nothing.
    pub(super) fn reload(&mut self, now: Instant) {
        let Some(calls) = &mut self.calls else {
            return;
        };
        match (calls.reread)() {
            Ok(Terms { unready: Some(why), .. }) if calls.terms.unready.is_none() => {
                return log::error!("the old settings stay: {why}");
            }
            Ok(terms) => calls.adopt(terms),
            Err(why) => return log::error!("the old settings stay: {why}"),
        }
        let access = calls.terms.access.clone();
        log::info!("settings: read again, for new calls");
        if self.resolver.is_none() {
            self.resolver = calls.terms.resolver();
            self.refresh_addresses(now);
        }
        self.change_access(access, now);
    }

    /// If the new rules take rights away, the calls that were admitted by older ones are told and
    /// ended.
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
