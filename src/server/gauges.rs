//! What is in use now, for `/metrics` and for the log.

use super::Server;
use crate::metrics::{Family, nanos};

impl Server {
    /// Sets the gauges of `/metrics`. Counters are counted where something happens; gauges are read
    /// here, before a visitor may ask for them.
    pub(super) fn read_gauges(&mut self) {
        let spending = self.calls.as_ref().and_then(|calls| calls.spending.as_ref());
        let used = spending.map_or(0, |ledger| nanos(ledger.spending.used()));
        let open = self.slots.len() - self.free.len();
        for (family, value) in [
            (Family::Open, open as u64),
            (Family::Blocks, self.resources.pool.total_blocks() as u64),
            (Family::BlocksFree, self.resources.pool.spare_blocks() as u64),
            (Family::UsedToday, used),
            (Family::LogLost, crate::system::log::lost_lines()),
        ]
        .into_iter()
        .chain(self.servers.gauges(self.calls.as_ref().map(|calls| &calls.configuration.tools)))
        {
            self.resources.metrics.set(family, value);
        }
    }

    /// Logs what is in use after a call has ended. A leak shows in these figures; tests read them.
    pub(super) fn log_what_is_left(&self) {
        let used = self.slots.len() - self.free.len();
        let (free, all) = (self.resources.pool.spare_blocks(), self.resources.pool.total_blocks());
        log::debug!("{used} connections in use, {free} of {all} PCM blocks free");
    }
}
