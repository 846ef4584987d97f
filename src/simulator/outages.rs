//! What the connections to one simulator share: how often the script has ended one of them, and how
//! long new ones are refused after that.
//!
//! A script's ending would meet every connection, the one that follows it too. So nobody could watch
//! a call come back. `times` lets only the first connections end, and `down` keeps the service away for
//! a while.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::script::{Down, Script};

/// See the module's text.
#[derive(Debug, Clone, Default)]
pub struct Outages {
    ended: Cell<u32>,
    down_until: Cell<Option<Instant>>,
}

impl Outages {
    /// Whether the script may still end a connection.
    pub fn may_end(&self, script: &Script) -> bool {
        script.times.is_none_or(|times| self.ended.get() < times)
    }

    /// The script has ended a connection, or it has lasted as long as it may.
    pub fn ended(&self, script: &Script, now: Instant) {
        self.ended.set(self.ended.get().saturating_add(1));
        let length = |down: &Down| Duration::from_secs(down.seconds.into());
        self.down_until.set(script.down.as_ref().map(|down| now + length(down)));
    }

    /// How a new connection is refused now, if it is.
    pub(super) fn down<'s>(&self, script: &'s Script, now: Instant) -> Option<&'s Down> {
        let until = self.down_until.get()?;
        script.down.as_ref().filter(|_| now < until)
    }
}
