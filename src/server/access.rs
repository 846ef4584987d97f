//! Who may call, while the daemon runs: the rules are read again, and calls of the old ones end.

use std::fmt;
use std::time::Instant;

use super::Server;
use super::slot::Conn;
use crate::access::Access;
use crate::call::ending::EndReason;

/// Reads the rules again, or says in a sentence why they cannot be used. It may read a few small
/// files and must not wait for anything else.
pub type Reread = Box<dyn Fn() -> Result<Access, String>>;

/// The rules to begin with, and how to find out again.
pub struct Rules {
    /// Who may call.
    pub access: Access,
    /// For SIGHUP.
    pub reread: Reread,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("access", &self.access).finish_non_exhaustive()
    }
}

impl Server {
    /// Reads the access rules again. What cannot be used changes nothing. If the new rules take
    /// rights away, the calls that were admitted by older ones are told and ended.
    pub(super) fn reload_access(&mut self, now: Instant) {
        let Some(calls) = &self.calls else {
            return;
        };
        let access = match (calls.access.reread)() {
            Ok(access) => access,
            Err(why) => return log::error!("access: the old rules stay: {why}"),
        };
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
                self.with_session(at, now, |session, desk| {
                    session.end(EndReason::AccessChanged, desk)
                });
            }
        }
        log::info!("access: the token has changed; calls ended: {ended}");
    }
}
