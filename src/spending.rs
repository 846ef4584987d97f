//! The spending guard: minutes of calls per day, kept across restarts.
//!
//! Every minute of a call costs the owner money, so a day's minutes can be bounded. The count is
//! kept in one small file of the state directory, replaced whole so that a power cut leaves the
//! old or the new one, at most once a minute however calls come and go, and at the daemon's end.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the count is written at most: an SD card is worn by more.
const WRITE_EVERY: Duration = Duration::from_secs(60);

/// Days since 1970 in UTC: the guard's day begins at midnight UTC.
#[must_use]
pub fn day_of(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400)
}

/// The count of one day.
#[derive(Debug)]
pub struct Spending {
    limit: Duration,
    day: u64,
    used: Duration,
    running: u32,
    counted: Instant,
    written: Instant,
    dirty: bool,
}

impl Spending {
    /// A guard that allows `limit` a day. `kept` is what [`text`](Self::text) said last, if there
    /// is something; nonsense counts as nothing.
    #[must_use]
    pub fn new(limit: Duration, kept: Option<&str>, today: u64, now: Instant) -> Self {
        let (day, used) = kept.and_then(parse).unwrap_or((today, Duration::ZERO));
        let mut spending =
            Self { limit, day, used, running: 0, counted: now, written: now, dirty: false };
        spending.turn_day(today);
        spending
    }

    /// Notes how many calls run from now on.
    pub fn set_running(&mut self, calls: usize, today: u64, now: Instant) {
        self.count(today, now);
        self.running = u32::try_from(calls).unwrap_or(u32::MAX);
    }

    /// Adds what has been used since the last time.
    pub fn count(&mut self, today: u64, now: Instant) {
        let passed = now.saturating_duration_since(self.counted) * self.running;
        self.counted = now;
        self.turn_day(today);
        self.used += passed;
        self.dirty |= !passed.is_zero();
    }

    /// Whether the day's minutes are used up.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.used >= self.limit
    }

    /// When the day's minutes will be used up, or the count must be written.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let write = self.written + WRITE_EVERY;
        if self.running == 0 {
            return self.dirty.then_some(write);
        }
        let left = self.limit.saturating_sub(self.used) / self.running;
        Some((self.counted + left).min(write))
    }

    /// What must be kept now, if anything.
    pub fn text_to_keep(&mut self, now: Instant) -> Option<String> {
        if !self.dirty || now < self.written + WRITE_EVERY {
            return None;
        }
        (self.written, self.dirty) = (now, false);
        Some(self.text())
    }

    /// Day and seconds used, as one line.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{} {}\n", self.day, self.used.as_secs())
    }

    /// Time of calls on this day, all together.
    #[must_use]
    pub fn used(&self) -> Duration {
        self.used
    }

    /// The limit in whole minutes.
    #[must_use]
    pub fn limit_minutes(&self) -> u64 {
        self.limit.as_secs() / 60
    }

    /// A clock that went back, as on a device that has not asked for the time yet, is no new day.
    fn turn_day(&mut self, today: u64) {
        if today > self.day {
            (self.day, self.used, self.dirty) = (today, Duration::ZERO, true);
        }
    }
}

fn parse(text: &str) -> Option<(u64, Duration)> {
    let (day, seconds) = text.trim().split_once(' ')?;
    Some((day.parse().ok()?, Duration::from_secs(seconds.parse().ok()?)))
}

/// The guard with its file.
#[derive(Debug)]
pub struct Ledger {
    /// The count.
    pub spending: Spending,
    path: PathBuf,
}

impl Ledger {
    /// Goes on with what the file in `folder` says, and makes sure that it can be written.
    ///
    /// # Errors
    /// The system's, when it cannot: a guard that forgets is none.
    pub fn open(
        folder: &Path,
        limit: Duration,
        time: SystemTime,
        now: Instant,
    ) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = folder.join("minutes-today");
        let kept = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let spending = Spending::new(limit, kept.as_deref(), day_of(time), now);
        let ledger = Self { spending, path };
        ledger.write(Reach::Disk)?;
        Ok(ledger)
    }

    /// Replaces the file whole, if it is time. The data goes to the page cache: losing the last
    /// minute to a power cut is better than a loop that waits for an SD card.
    ///
    /// # Errors
    /// The system's; the count in memory goes on.
    pub fn keep(&mut self, now: Instant) -> io::Result<()> {
        match self.spending.text_to_keep(now) {
            Some(_) => self.write(Reach::Cache),
            None => Ok(()),
        }
    }

    /// Keeps what has not been kept yet, for the last time: no call waits for the disk any more.
    ///
    /// # Errors
    /// The system's.
    pub fn end(&self) -> io::Result<()> {
        if self.spending.dirty { self.write(Reach::Disk) } else { Ok(()) }
    }

    fn write(&self, reach: Reach) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        // The owner's habits are nobody else's business.
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(self.spending.text().as_bytes())?;
        if reach == Reach::Disk {
            file.sync_all()?;
        }
        fs::rename(&new, &self.path)
    }
}

/// How far a write has to go before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Cache,
    Disk,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn two_calls_use_the_minutes_twice_as_fast() {
        let start = Instant::now();
        let mut spending = Spending::new(10 * MINUTE, None, 7, start);
        spending.set_running(2, 7, start);
        assert_eq!(spending.deadline(), Some(start + MINUTE), "to be written first");
        spending.count(7, start + 4 * MINUTE);
        assert!(!spending.is_exhausted());
        assert_eq!(spending.text_to_keep(start + 4 * MINUTE).as_deref(), Some("7 480\n"));
        assert_eq!(spending.deadline(), Some(start + 5 * MINUTE));
        spending.count(7, start + 5 * MINUTE);
        assert!(spending.is_exhausted());
    }

    #[test]
    fn a_restart_goes_on_counting_and_a_new_day_begins_anew() {
        let start = Instant::now();
        assert!(Spending::new(8 * MINUTE, Some("7 480\n"), 7, start).is_exhausted());
        assert!(!Spending::new(8 * MINUTE, Some("7 480\n"), 8, start).is_exhausted());
        assert!(!Spending::new(8 * MINUTE, Some("no sense"), 7, start).is_exhausted());
    }

    #[test]
    fn a_clock_that_went_back_gives_no_new_minutes() {
        assert!(Spending::new(8 * MINUTE, Some("7 480\n"), 0, Instant::now()).is_exhausted());
    }

    #[test]
    fn the_count_is_written_at_most_once_a_minute() {
        let start = Instant::now();
        let mut spending = Spending::new(60 * MINUTE, None, 7, start);
        spending.set_running(1, 7, start);
        let mut written = 0;
        for second in 1..=150 {
            let now = start + Duration::from_secs(second);
            spending.count(7, now);
            written += usize::from(spending.text_to_keep(now).is_some());
        }
        assert_eq!(written, 2);
        let end = start + Duration::from_secs(151);
        spending.set_running(0, 7, end);
        assert_eq!(spending.text_to_keep(end), None, "the last time was 31 s ago");
        let due = start + 3 * MINUTE;
        assert_eq!(spending.deadline(), Some(due));
        assert_eq!(spending.text_to_keep(due).as_deref(), Some("7 151\n"));
        assert_eq!(spending.text_to_keep(due + 2 * MINUTE), None, "nothing has changed");
        assert_eq!(spending.deadline(), None, "and nothing wakes the daemon");
    }

    #[test]
    fn many_short_calls_do_not_wear_the_card() {
        let start = Instant::now();
        let mut spending = Spending::new(60 * MINUTE, None, 7, start);
        let mut written = 0;
        for second in 1..=120 {
            let now = start + Duration::from_secs(second);
            spending.set_running(usize::from(second % 2 == 0), 7, now);
            written += usize::from(spending.text_to_keep(now).is_some());
        }
        assert_eq!(written, 2);
    }
}
