//! The spending guard: it bounds the minutes of calls in a day, and remembers them across restarts.
//!
//! Every minute of a call costs the owner money. The count is kept in one small file in the state folder.
//! The file is replaced as a whole, so a power cut leaves the old one or the new one. It is written at
//! most once a minute, however many calls begin and end, and when the daemon ends.
//!
//! During an upgrade two daemons count in the same file. Each one adds its minutes to what it finds
//! there, under the folder's lock. So each learns what the other has used, at most two minutes later:
//! within one minute the other has written, and within one more this one has read.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::system::clock::is_clock_set;
use crate::system::files::{self, PRIVATE, Reach};
use crate::system::lock::Lock;

/// A day in seconds.
const DAY: u64 = 86_400;

/// The guard's file in the state folder.
const FILE: &str = "minutes-today";

/// The shortest time between two writes. More of them would wear an SD card out.
const WRITE_EVERY: Duration = Duration::from_secs(60);

/// How many days the file may be ahead of the clock and still count. After a power cut a device without
/// a clock battery is hours behind its file, and must not allow that day's minutes twice. A file that is
/// further ahead was written while the clock was wrong. To wait for its day could refuse calls for years.
const MOST_AHEAD: u64 = 2;

/// How long to wait for another daemon's write, at the start and at the end. A write takes milliseconds,
/// on a slow card a second.
const PATIENCE: Duration = Duration::from_secs(4);

/// The day of a time, in days since 1970. The guard's day begins at midnight UTC.
#[must_use]
pub fn day_of(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / DAY)
}

/// The count of one day.
#[derive(Debug)]
pub struct Spending {
    limit: Duration,
    /// The day that `used` belongs to.
    day: u64,
    /// Time of calls on this day, of this daemon and of others as far as it is known.
    used: Duration,
    /// The part of `used` that the file had when it was last read or written. The rest is this daemon's
    /// own and has to be added to the file.
    seen: Duration,
    /// Calls that are running since `counted`.
    running: u32,
    /// The time up to which running calls are counted.
    counted: Instant,
    /// When the file was last written or tried.
    written: Instant,
    /// `used` has something that the file has not.
    dirty: bool,
}

impl Spending {
    /// A guard that allows `limit` a day. `kept` is the last [`text`](Self::text), if there is one. A text
    /// that cannot be read counts as none.
    #[must_use]
    pub fn new(limit: Duration, kept: Option<&str>, today: u64, now: Instant) -> Self {
        let (day, used) = kept.and_then(parse).unwrap_or((today, Duration::ZERO));
        let (seen, dirty) = (used, false);
        let mut spending =
            Self { limit, day, used, seen, running: 0, counted: now, written: now, dirty };
        spending.turn_day(today);
        spending
    }

    /// Counts up to now, and notes how many calls run from now on.
    pub fn set_running(&mut self, calls: usize, today: u64, now: Instant) {
        self.count(today, now);
        self.running = u32::try_from(calls).unwrap_or(u32::MAX);
    }

    /// Adds the time that running calls have used since the last count.
    pub fn count(&mut self, today: u64, now: Instant) {
        let passed = now.saturating_duration_since(self.counted) * self.running;
        self.counted = now;
        self.turn_day(today);
        self.used = self.used.saturating_add(passed);
        self.dirty |= !passed.is_zero();
    }

    /// Whether the day's minutes are used up.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.used >= self.limit
    }

    /// When the day's minutes will be used up or the count must be written, whichever comes first. `None`
    /// if no call runs and the file is up to date: an idle daemon does not wake.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let write = self.written + WRITE_EVERY;
        if self.running == 0 {
            return self.dirty.then_some(write);
        }
        let left = self.limit.saturating_sub(self.used) / self.running;
        Some((self.counted + left).min(write))
    }

    /// Whether the count must be written now. The next time is a minute away even if the write fails, so
    /// a full disk does not keep the loop busy.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.dirty && now >= self.written + WRITE_EVERY;
        if due {
            self.written = now;
        }
        due
    }

    /// Takes in what another daemon has added to the file. `kept` is its text now. If it says less than
    /// before, no daemon has written that, and it is ignored.
    pub fn learn(&mut self, kept: &str) {
        let Some((day, kept)) = parse(kept) else { return };
        if day > self.day.saturating_add(MOST_AHEAD) {
            return;
        }
        if day > self.day {
            // The other daemon has already begun a new day. Our own minutes that the file does not have
            // yet count on that day.
            (self.day, self.used) = (day, self.used.saturating_sub(self.seen));
            self.seen = Duration::ZERO;
        }
        if day == self.day {
            self.used = self.used.saturating_add(kept.saturating_sub(self.seen));
            self.seen = self.seen.max(kept);
        }
    }

    /// Notes that the file now has [`text`](Self::text).
    fn kept(&mut self) {
        (self.seen, self.dirty) = (Duration::from_secs(self.used.as_secs()), false);
    }

    /// The file's text: the day and the seconds used, in one line.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{} {}\n", self.day, self.used.as_secs())
    }

    /// The time of all calls on this day.
    #[must_use]
    pub fn used(&self) -> Duration {
        self.used
    }

    /// The limit in whole minutes.
    #[must_use]
    pub fn limit_minutes(&self) -> u64 {
        self.limit.as_secs() / 60
    }

    /// Begins a new day when the clock shows one. A clock that went back a little begins none, nor does
    /// one that is not set yet, as on a device that has just started. Both would give the day's minutes
    /// twice.
    fn turn_day(&mut self, today: u64) {
        if self.day > today + MOST_AHEAD
            && is_clock_set(UNIX_EPOCH + Duration::from_secs(today * DAY))
        {
            (self.day, self.dirty) = (today, true);
        }
        if today > self.day {
            (self.day, self.used, self.dirty) = (today, Duration::ZERO, true);
            self.seen = Duration::ZERO;
        }
    }
}

fn parse(text: &str) -> Option<(u64, Duration)> {
    let (day, seconds) = text.trim().split_once(' ')?;
    Some((day.parse().ok()?, Duration::from_secs(seconds.parse().ok()?)))
}

/// The spending guard with its file.
#[derive(Debug)]
pub struct Ledger {
    /// The count.
    pub spending: Spending,
    folder: PathBuf,
}

impl Ledger {
    /// Goes on with the count of the file in `folder`, and checks that the file can be written. It may wait
    /// for another daemon, at most 4 s.
    ///
    /// # Errors
    /// The system's error, if the file cannot be read or written. The daemon must then not start: a guard
    /// that forgets its count at each restart does not protect.
    pub fn open(
        folder: &Path,
        limit: Duration,
        time: SystemTime,
        now: Instant,
    ) -> io::Result<Self> {
        files::create_folder(folder)?;
        let _lock = Lock::take(folder, PATIENCE)?;
        let path = folder.join(FILE);
        let kept = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let spending = Spending::new(limit, kept.as_deref(), day_of(time), now);
        let mut ledger = Self { spending, folder: folder.to_owned() };
        ledger.write(Reach::Disk)?;
        Ok(ledger)
    }

    /// Writes the count if it is due. The data goes to the page cache only: to lose a minute in a power cut
    /// is better than a loop that waits for an SD card. If another daemon holds the lock, the count waits
    /// for the next minute.
    ///
    /// # Errors
    /// The system's error. The count in memory goes on, and is written a minute later.
    pub fn keep(&mut self, now: Instant) -> io::Result<()> {
        if !self.spending.is_due(now) {
            return Ok(());
        }
        match self.add(Reach::Cache, Duration::ZERO) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    /// Writes the count for the last time, down to the disk. It may wait, since no call runs any more.
    ///
    /// # Errors
    /// The system's error.
    pub fn end(&mut self) -> io::Result<()> {
        if self.spending.dirty { self.add(Reach::Disk, PATIENCE) } else { Ok(()) }
    }

    /// Reads what others have added, and writes the sum. If the file is gone or cannot be read, the count
    /// in memory is written.
    fn add(&mut self, reach: Reach, patience: Duration) -> io::Result<()> {
        let _lock = Lock::take(&self.folder, patience)?;
        if let Ok(kept) = fs::read_to_string(self.folder.join(FILE)) {
            self.spending.learn(&kept);
        }
        self.write(reach)
    }

    /// Replaces the file as a whole. The calling function holds the lock.
    fn write(&mut self, reach: Reach) -> io::Result<()> {
        // The file is private: it tells when the owner talks.
        files::replace(&self.folder, FILE, PRIVATE, self.spending.text().as_bytes(), reach)?;
        self.spending.kept();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// What is written, if it is time.
    fn kept(spending: &mut Spending, now: Instant) -> Option<String> {
        spending.is_due(now).then(|| {
            spending.kept();
            spending.text()
        })
    }

    #[test]
    fn two_calls_use_the_minutes_twice_as_fast() {
        let start = Instant::now();
        let mut spending = Spending::new(10 * MINUTE, None, 7, start);
        spending.set_running(2, 7, start);
        assert_eq!(spending.deadline(), Some(start + MINUTE), "to be written first");
        spending.count(7, start + 4 * MINUTE);
        assert!(!spending.is_exhausted());
        assert_eq!(kept(&mut spending, start + 4 * MINUTE).as_deref(), Some("7 480\n"));
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
        let kept = Some("20801 480\n");
        assert!(Spending::new(8 * MINUTE, kept, 0, Instant::now()).is_exhausted(), "not set yet");
        assert!(Spending::new(8 * MINUTE, kept, 20_799, Instant::now()).is_exhausted());
    }

    #[test]
    fn numbers_without_measure_in_the_file_do_no_harm() {
        let (start, most) = (Instant::now(), format!("{} {0}\n", u64::MAX));
        let mut spending = Spending::new(8 * MINUTE, Some(&most), 0, start);
        spending.set_running(9, 0, start);
        spending.learn(&most);
        spending.count(0, start + MINUTE);
        assert!(spending.is_exhausted());
        spending.count(20_800, start + MINUTE);
        assert_eq!(spending.day, 20_800);
    }

    #[test]
    fn a_day_that_a_wrong_clock_left_behind_is_taken_for_today() {
        let start = Instant::now();
        let mut spending = Spending::new(8 * MINUTE, Some("30000 480\n"), 20_800, start);
        assert!(spending.is_exhausted(), "what was used is used");
        assert_eq!(spending.text(), "20800 480\n");
        spending.learn("30000 480\n");
        assert_eq!(
            spending.text(),
            "20800 480\n",
            "from another daemon, or before the first write"
        );
        spending.count(20_801, start);
        assert!(!spending.is_exhausted());
    }

    #[test]
    fn a_day_begins_at_midnight_in_utc() {
        let at = |seconds| day_of(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!((at(0), at(86_399), at(86_400)), (0, 0, 1));
        assert_eq!((at(20_800 * 86_400 - 1), at(20_800 * 86_400)), (20_799, 20_800));
        assert_eq!(day_of(UNIX_EPOCH - Duration::from_secs(1)), 0);
    }

    #[test]
    fn the_end_of_the_minutes_is_known_beforehand() {
        let start = Instant::now();
        let mut spending = Spending::new(3 * MINUTE, Some("7 90\n"), 7, start);
        assert_eq!((spending.limit_minutes(), spending.deadline()), (3, None));
        // 90 s are left, and three calls use them: in 30 s.
        spending.set_running(3, 7, start);
        assert_eq!(spending.deadline(), Some(start + Duration::from_secs(30)));
        spending.count(7, start + Duration::from_secs(29));
        assert!(!spending.is_exhausted());
        spending.count(7, start + Duration::from_secs(30));
        assert!(spending.is_exhausted());
        // With more left than a minute, the count is written before.
        let mut spending = Spending::new(30 * MINUTE, None, 7, start);
        spending.set_running(3, 7, start);
        assert_eq!(spending.deadline(), Some(start + MINUTE));
    }

    /// A day may be two ahead, as two clocks may differ; what is more is a wrong clock.
    #[test]
    fn a_day_ahead_is_believed_up_to_two() {
        let start = Instant::now();
        for (ahead, believed) in [(0, true), (2, true), (3, false)] {
            let today = 20_800;
            let mut spending = Spending::new(60 * MINUTE, None, today, start);
            spending.learn(&format!("{} 60\n", today + ahead));
            let used = if believed { MINUTE } else { Duration::ZERO };
            assert_eq!(spending.used(), used, "{ahead} days ahead");
            // The same from an own file of before the start.
            let kept = format!("{} 60\n", today + ahead);
            let day = Spending::new(60 * MINUTE, Some(&kept), today, start).day;
            assert_eq!(day, if believed { today + ahead } else { today }, "{ahead} days ahead");
        }
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
            written += usize::from(kept(&mut spending, now).is_some());
        }
        assert_eq!(written, 2);
        let end = start + Duration::from_secs(151);
        spending.set_running(0, 7, end);
        assert_eq!(kept(&mut spending, end), None, "the last time was 31 s ago");
        let due = start + 3 * MINUTE;
        assert_eq!(spending.deadline(), Some(due));
        assert_eq!(kept(&mut spending, due).as_deref(), Some("7 151\n"));
        assert_eq!(kept(&mut spending, due + 2 * MINUTE), None, "nothing has changed");
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
            written += usize::from(kept(&mut spending, now).is_some());
        }
        assert_eq!(written, 2);
    }
    fn folder(name: &str) -> PathBuf {
        let folder = format!("voicelived-spending-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    /// Counts on day 7 until `now`, and keeps it if it is time.
    fn turn(ledger: &mut Ledger, running: usize, now: Instant) {
        ledger.spending.set_running(running, 7, now);
        ledger.keep(now).unwrap();
    }

    #[test]
    fn two_daemons_on_one_folder_count_together_and_obey_one_limit() {
        let folder = folder("two");
        let (start, day) = (Instant::now(), UNIX_EPOCH + Duration::from_secs(7 * 86_400));
        let open = |now| Ledger::open(&folder, 10 * MINUTE, day, now).unwrap();
        let says = || fs::read_to_string(folder.join(FILE)).unwrap();
        let mut old = open(start);
        turn(&mut old, 1, start);
        turn(&mut old, 1, start + MINUTE);
        assert_eq!(says(), "7 60\n");
        // The next one starts in the middle of a minute, with two calls soon.
        let begun = start + 3 * MINUTE / 2;
        let mut next = open(begun);
        turn(&mut next, 2, begun);
        turn(&mut old, 1, start + 2 * MINUTE);
        assert_eq!(says(), "7 120\n");
        turn(&mut next, 2, begun + MINUTE);
        assert_eq!(says(), "7 240\n", "2 min of the old one, 2 of the next");
        assert_eq!(next.spending.used(), 4 * MINUTE);
        turn(&mut old, 1, start + 3 * MINUTE);
        assert_eq!(old.spending.used(), 5 * MINUTE);
        turn(&mut next, 2, begun + 2 * MINUTE);
        turn(&mut old, 1, start + 4 * MINUTE);
        assert_eq!(says(), "7 480\n", "4 and 4");
        assert!(!old.spending.is_exhausted());
        turn(&mut next, 2, begun + 3 * MINUTE);
        assert!(next.spending.is_exhausted(), "4 and 6");
        turn(&mut old, 0, start + 5 * MINUTE);
        assert!(old.spending.is_exhausted(), "the limit is one for both");
        turn(&mut next, 0, begun + 3 * MINUTE);
        old.end().unwrap();
        next.end().unwrap();
        assert_eq!(says(), "7 660\n", "nothing is lost, nothing counted twice");
        assert!(open(start).spending.is_exhausted());
        fs::remove_dir_all(&folder).unwrap();
    }

    /// The log tells the owner: a guard that forgets does not protect.
    #[test]
    fn a_count_that_cannot_be_written_is_an_error() {
        let folder = folder("gone");
        let (start, day) = (Instant::now(), UNIX_EPOCH + Duration::from_secs(7 * 86_400));
        let mut ledger = Ledger::open(&folder, 10 * MINUTE, day, start).unwrap();
        turn(&mut ledger, 1, start);
        fs::remove_dir_all(&folder).unwrap();
        ledger.spending.set_running(1, 7, start + MINUTE);
        assert!(ledger.keep(start + MINUTE).is_err());
        // A count that is there and cannot be read is not begun anew.
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(FILE), b"7 \xff\n").unwrap();
        assert!(Ledger::open(&folder, 10 * MINUTE, day, start).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn seconds_in_parts_are_not_lost_between_two_daemons() {
        let folder = folder("parts");
        let (start, day) = (Instant::now(), UNIX_EPOCH + Duration::from_secs(7 * 86_400));
        let open = || Ledger::open(&folder, 600 * MINUTE, day, start).unwrap();
        let (mut one, mut other) = (open(), open());
        let mut now = start;
        for _ in 0..20 {
            for ledger in [&mut one, &mut other] {
                turn(ledger, 1, now);
                now += Duration::from_millis(60_900);
                turn(ledger, 0, now);
            }
        }
        let text = fs::read_to_string(folder.join(FILE)).unwrap();
        let (_, used) = parse(&text).unwrap();
        // 40 times 60.9 s; each may hold back a second of its own.
        assert!((2434..=2436).contains(&used.as_secs()), "{text}");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_that_was_spoilt_is_written_anew_and_a_held_lock_is_not_waited_for() {
        let folder = folder("spoilt");
        let (start, day) = (Instant::now(), UNIX_EPOCH + Duration::from_secs(7 * 86_400));
        let file = folder.join(FILE);
        let mut ledger = Ledger::open(&folder, 60 * MINUTE, day, start).unwrap();
        turn(&mut ledger, 1, start);
        let spoilt: [&[u8]; 5] = [b"no sense", b"\xff", b"", b"7 3", b"6 999999"];
        for (minute, text) in (1..).zip(spoilt) {
            fs::write(&file, text).unwrap();
            turn(&mut ledger, 1, start + minute * MINUTE);
            assert_eq!(fs::read_to_string(&file).unwrap(), format!("7 {}\n", minute * 60));
        }
        fs::remove_file(&file).unwrap();
        turn(&mut ledger, 1, start + 6 * MINUTE);
        assert_eq!(fs::read_to_string(&file).unwrap(), "7 360\n");
        let lock = Lock::take(&folder, Duration::ZERO).unwrap();
        turn(&mut ledger, 1, start + 7 * MINUTE);
        assert_eq!(fs::read_to_string(&file).unwrap(), "7 360\n");
        assert_eq!(ledger.spending.deadline(), Some(start + 8 * MINUTE), "no hurry");
        drop(lock);
        turn(&mut ledger, 1, start + 8 * MINUTE);
        assert_eq!(fs::read_to_string(&file).unwrap(), "7 480\n");
        // Another one's clock is a day ahead.
        fs::write(&file, "8 100\n").unwrap();
        turn(&mut ledger, 1, start + 9 * MINUTE);
        assert_eq!(fs::read_to_string(&file).unwrap(), "8 160\n");
        fs::remove_dir_all(&folder).unwrap();
    }
}
