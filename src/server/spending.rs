//! The spending guard in the loop. It counts the minutes of running calls, ends the calls when the
//! day's minutes are used up, and writes the count to disk.

use std::time::{Instant, SystemTime};

use super::Server;
use super::slot::Conn;
use crate::call::ending::EndReason;
use crate::spending::{Ledger, day_of};

impl Server {
    /// When [`watch_spending`](Self::watch_spending) must run at the latest; `None` without a guard, or
    /// if no time is running.
    pub(super) fn spending_deadline(&self) -> Option<Instant> {
        self.calls.as_ref()?.spending.as_ref()?.spending.deadline()
    }

    /// The reason to refuse and end calls, if the day's minutes are used up.
    pub(super) fn spent(&self) -> Option<EndReason> {
        let Ledger { spending, .. } = self.calls.as_ref()?.spending.as_ref()?;
        spending.is_exhausted().then(|| EndReason::DailyLimit(spending.limit_minutes()))
    }

    /// Counts the running calls, writes the count when it is time, and ends all calls when the minutes
    /// are used up. It runs after the pumps of each turn, so a call that has just begun or ended is
    /// counted from this turn on.
    pub(super) fn watch_spending(&mut self, now: Instant) {
        if self.calls.as_ref().is_none_or(|calls| calls.spending.is_none()) {
            return;
        }
        let running = self.slots.iter().filter(|slot| is_running(&slot.conn)).count();
        let Some(calls) = &mut self.calls else { return };
        let Some(ledger) = &mut calls.spending else { return };
        ledger.spending.set_running(running, day_of(SystemTime::now()), now);
        if let Err(error) = ledger.keep(now) {
            log::error!("the day's minutes cannot be kept: {error}");
        }
        let Some(reason) = self.spent() else { return };
        for at in 0..self.slots.len() {
            if is_running(&self.slots[at].conn) {
                let reason = reason.clone();
                self.with_session(at, now, |session, cx| session.end(reason, cx));
            }
        }
    }

    /// Writes the count for the last time, when the daemon ends.
    pub(super) fn end_spending(&mut self) {
        let ledger = self.calls.as_mut().and_then(|calls| calls.spending.as_mut());
        if let Some(Err(error)) = ledger.map(Ledger::end) {
            log::error!("the day's minutes cannot be kept: {error}");
        }
    }
}

/// Whether the slot holds a call that costs money. A call that is only closing does not.
fn is_running(conn: &Conn) -> bool {
    matches!(conn, Conn::Call(session) if session.is_talking())
}
