//! The spending guard in the loop: counts running calls, ends them when the day's minutes are used
//! up, and keeps the count.

use std::time::{Instant, SystemTime};

use super::Server;
use super::slot::Conn;
use crate::call::ending::EndReason;
use crate::spending::{Ledger, day_of};

impl Server {
    pub(super) fn spending_deadline(&self) -> Option<Instant> {
        self.calls.as_ref()?.spending.as_ref()?.spending.deadline()
    }

    /// Why no call may begin or go on, if so.
    pub(super) fn spent(&self) -> Option<EndReason> {
        let Ledger { spending, .. } = self.calls.as_ref()?.spending.as_ref()?;
        spending.is_exhausted().then(|| EndReason::DailyLimit(spending.limit_minutes()))
    }

    /// Counts; ends the calls when the minutes are used up; writes when it is time.
    pub(super) fn watch_spending(&mut self, now: Instant) {
        if self.calls.as_ref().is_none_or(|calls| calls.spending.is_none()) {
            return;
        }
        let running = self.slots.iter().filter(|slot| is_running(&slot.conn)).count();
        let Some(calls) = &mut self.calls else { return };
        let Some(ledger) = &mut calls.spending else { return };
        // The calendar is asked only while calls run: an idle daemon needs no day.
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

    /// The daemon ends.
    pub(super) fn end_spending(&mut self) {
        let ledger = self.calls.as_mut().and_then(|calls| calls.spending.as_mut());
        if let Some(Err(error)) = ledger.map(Ledger::end) {
            log::error!("the day's minutes cannot be kept: {error}");
        }
    }
}

fn is_running(conn: &Conn) -> bool {
    matches!(conn, Conn::Call(session) if session.is_talking())
}
