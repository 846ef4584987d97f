//! The daemon's log sink. Each line is one write. It never waits and never panics.
//!
//! Standard error may not take a line at once: its reader stalls, the disk is full, or the pipe is
//! closed. Such a line is lost and counted, and the count is written before the next line that fits.
//! Control characters are escaped, so text from a client can neither forge a line nor control a terminal.
//! Other crates are limited to `warn` at every level that is set. Their details could contain anything
//! that passes through them, the service's key too.
//!
//! This module does no rotation, writes no time for the journal (which adds its own), and logs no content
//! of calls.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Metadata, Record};
use rustix::fs::OFlags;
use rustix::io::ioctl_fionbio;
use time::OffsetDateTime;

/// The most bytes of one write. A pipe takes up to this many whole or not at all (`PIPE_BUF`, pipe(7)).
pub const MAX_LINE: usize = 4096;

/// Lines lost since the start.
static LOST: AtomicU64 = AtomicU64::new(0);

/// The number of lines lost since the start, for `/metrics`.
#[must_use]
pub fn lost_lines() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Installs the sink on standard error. A second call only sets the level.
pub fn init(level: LevelFilter) {
    let stderr = io::stderr();
    if let Ok(sink) = Sink::new(stderr.as_fd(), std::env::var("JOURNAL_STREAM").ok().as_deref()) {
        // This fails only if a sink is installed already. That one stays.
        let _ = log::set_boxed_logger(Box::new(sink));
    }
    log::set_max_level(level);
}

/// How a line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// `<4>`: the journal takes the priority from it and adds the time.
    Journal,
    /// Time in UTC and the level in words.
    Plain,
}

/// A [`log::Log`] that writes to one descriptor. The global maximum level of `log` applies.
#[derive(Debug)]
pub struct Sink {
    out: File,
    style: Style,
    /// Lost lines that the log has not reported yet.
    lost: AtomicU64,
    /// Only part of the last line was written, so the next one needs a line break first.
    torn: AtomicBool,
}

impl Sink {
    /// A sink that writes to what `stderr` refers to. `journal_stream` is the environment variable
    /// `JOURNAL_STREAM`, by which systemd names the socket that leads to the journal.
    ///
    /// # Errors
    /// When the descriptor is not open.
    pub fn new(stderr: BorrowedFd<'_>, journal_stream: Option<&str>) -> io::Result<Self> {
        let shared = File::from(stderr.try_clone_to_owned()?);
        let style = match journal_stream {
            Some(stream) if is_stream(stream, &shared) => Style::Journal,
            _ => Style::Plain,
        };
        Ok(Self {
            out: without_waiting(shared)?,
            style,
            lost: AtomicU64::new(0),
            torn: AtomicBool::new(false),
        })
    }

    fn print(&self, level: Level, target: &str, message: fmt::Arguments<'_>) {
        let mut line = self.begin(level);
        // Lines of other crates get the crate's name. Our own messages need none.
        let _ = if is_own(target) {
            line.write_fmt(message)
        } else {
            write!(line, "[{target}] {message}")
        };
        if !self.put(Some(line)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            LOST.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn begin(&self, level: Level) -> Line {
        let mut line = Line::default();
        let _ = match self.style {
            Style::Journal => write!(line, "<{}>", priority(level)),
            Style::Plain => write!(line, "{} {:5} ", Utc(SystemTime::now()), level),
        };
        line
    }

    /// A line that reports how many lines were lost; `None` if none was.
    fn losses(&self, lost: u64) -> Option<Line> {
        let mut line = self.begin(Level::Warn);
        let _ = match lost {
            0 => return None,
            1 => line.write_str("1 log line was lost"),
            _ => write!(line, "{lost} log lines were lost"),
        };
        Some(line)
    }

    /// Writes the report of lost lines and the line itself with one write. Both count as written, or
    /// neither.
    fn put(&self, line: Option<Line>) -> bool {
        let lost = self.lost.load(Ordering::Relaxed);
        let torn = self.torn.load(Ordering::Relaxed);
        let mut bytes = Vec::new();
        bytes.extend(torn.then_some(b'\n'));
        for line in self.losses(lost).into_iter().chain(line) {
            line.append_to(&mut bytes);
        }
        let mut outcome = (&self.out).write(&bytes);
        // A signal came before anything was written. One more attempt is enough, since signals are rare.
        if matches!(&outcome, Err(fault) if fault.kind() == io::ErrorKind::Interrupted) {
            outcome = (&self.out).write(&bytes);
        }
        let written = outcome.unwrap_or(0);
        let whole = written == bytes.len();
        self.torn.store(!whole && (torn || written > 0), Ordering::Relaxed);
        if whole {
            self.lost.fetch_sub(lost, Ordering::Relaxed);
        }
        whole
    }
}

impl log::Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= cap(metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.print(record.level(), record.target(), *record.args());
        }
    }

    fn flush(&self) {
        if self.lost.load(Ordering::Relaxed) > 0 {
            self.put(None);
        }
    }
}

/// The most detailed level that lines of a module may have.
fn cap(target: &str) -> LevelFilter {
    if is_own(target) { LevelFilter::Trace } else { LevelFilter::Warn }
}

fn is_own(target: &str) -> bool {
    let own = env!("CARGO_PKG_NAME");
    target.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Whether `JOURNAL_STREAM` (`device:inode`, systemd.exec(5)) means this descriptor. The variable alone
/// proves nothing: a process inherits it even if its standard error was redirected.
fn is_stream(text: &str, file: &File) -> bool {
    let parts = text.split_once(':').and_then(|(device, inode)| {
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    });
    let found = file.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    parts.is_some() && parts == found
}

/// The same target, opened so that a write never waits for its reader.
fn without_waiting(shared: File) -> io::Result<File> {
    let kind = shared.metadata()?.file_type();
    if kind.is_fifo() || kind.is_char_device() {
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        // A new description of the same pipe or terminal, whose flags no other process shares.
        let reopened = OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open("/proc/self/fd/".to_owned() + &fd_number(&shared));
        return match reopened {
            Ok(file) => Ok(file),
            // Reopening is not permitted, for example after a change of user. For a pipe the flag is
            // then set on the shared description. Other writers may see it, but a stalled reader stops
            // no call. For a terminal it is not set, because the user's shell reads from the same
            // description.
            Err(_) if kind.is_fifo() => set_nonblocking(shared),
            Err(_) => Ok(shared),
        };
    }
    if kind.is_socket() {
        // A socket cannot be reopened. systemd makes one for each service, so no other program sees the
        // flag.
        return set_nonblocking(shared);
    }
    // Writes to a regular file wait for no reader. The description stays shared, so all its writers have
    // one offset and do not overwrite each other's lines.
    Ok(shared)
}

fn set_nonblocking(file: File) -> io::Result<File> {
    ioctl_fionbio(&file, true)?;
    Ok(file)
}

fn fd_number(file: &File) -> String {
    use std::os::fd::AsRawFd;
    file.as_raw_fd().to_string()
}

/// The priorities of syslog.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// A line that escapes what it is given and never grows beyond [`MAX_LINE`].
#[derive(Debug, Default)]
pub(super) struct Line {
    text: String,
    cut: bool,
}

impl Line {
    /// Room for the mark of a cut line, line breaks, and the notice of lost lines before it.
    const RESERVED: usize = 96;

    fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.text.as_bytes());
        bytes.extend_from_slice(if self.cut { "…\n" } else { "\n" }.as_bytes());
    }

    fn push(&mut self, c: char) {
        if self.cut {
            return;
        }
        let before = self.text.len();
        if is_plain(c) {
            self.text.push(c);
        } else {
            self.text.extend(c.escape_default());
        }
        if self.text.len() + Self::RESERVED > MAX_LINE {
            self.text.truncate(before);
            self.cut = true;
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.cut { "…" } else { "" })
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().for_each(|c| self.push(c));
        Ok(())
    }
}

/// Whether a character may stand in a line: it is no control character (C0, DEL, C1), breaks no line and
/// does not change the direction of the text.
fn is_plain(c: char) -> bool {
    let unruly = matches!(c,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    !c.is_control() && !unruly
}

/// Displays as `2026-03-14T15:09:26Z`.
struct Utc(SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let moment = i64::try_from(since).ok();
        // The calendar ends with the year 9999. A clock beyond it is wrong.
        let moment = moment.and_then(|since| OffsetDateTime::from_unix_timestamp(since).ok());
        let moment = moment.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (year, month, day) = moment.to_calendar_date();
        let (hour, minute, second) = moment.to_hms();
        let month = u8::from(month);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::process::Command;
    use std::time::{Duration, Instant};

    use log::Log as _;
    use rustix::fs::fcntl_getfl;

    use super::*;

    fn say(sink: &Sink, level: Level, target: &str, text: &str) {
        let args = format_args!("{text}");
        sink.log(&Record::builder().level(level).target(target).args(args).build());
    }

    fn info(sink: &Sink, text: &str) {
        say(sink, Level::Info, "voicelived::session", text);
    }

    /// A sink whose output can be read: a pipe, as under a supervisor.
    fn piped() -> (Sink, io::PipeReader, io::PipeWriter) {
        let (reader, writer) = io::pipe().unwrap();
        let sink = Sink::new(writer.as_fd(), None).unwrap();
        (sink, reader, writer)
    }

    fn all(sink: Sink, mut reader: io::PipeReader, writer: io::PipeWriter) -> String {
        drop((sink, writer));
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_line_has_time_level_and_text() {
        let (sink, reader, writer) = piped();
        info(&sink, "[s3] call ended");
        let text = all(sink, reader, writer);
        assert!(text.ends_with("Z INFO  [s3] call ended\n"), "{text}");
        assert_eq!(text.find('T'), Some(10));
    }

    #[test]
    fn control_characters_are_escaped() {
        let (sink, reader, writer) = piped();
        info(&sink, "a\r\nb\u{1b}[2J\0\t\u{85}\u{7f}\u{2028}\u{202e}ü");
        let text = all(sink, reader, writer);
        let expected = r"a\r\nb\u{1b}[2J\u{0}\t\u{85}\u{7f}\u{2028}\u{202e}ü";
        assert!(text.ends_with(&format!("{expected}\n")), "{text:?}");
        assert_eq!(text.matches(char::is_control).count(), 1);
    }

    #[test]
    fn a_target_cannot_forge_a_line_either() {
        let (sink, reader, writer) = piped();
        say(&sink, Level::Error, "x\n<0>y", "z");
        assert_eq!(all(sink, reader, writer).lines().count(), 1);
    }

    #[test]
    fn other_crates_stay_at_warn() {
        let (sink, reader, writer) = piped();
        for target in ["tungstenite::handshake", "rustls::client", "mio", "voicelivedx"] {
            for level in [Level::Info, Level::Debug, Level::Trace] {
                say(&sink, level, target, "canary");
            }
            say(&sink, Level::Warn, target, "odd");
        }
        say(&sink, Level::Trace, "voicelived", "own");
        let text = all(sink, reader, writer);
        assert!(!text.contains("canary"));
        assert_eq!(text.lines().count(), 5);
        assert!(text.contains("WARN  [rustls::client] odd"));
    }

    #[test]
    fn long_lines_are_cut() {
        let (sink, reader, writer) = piped();
        info(&sink, &"ü\n".repeat(9000));
        let text = all(sink, reader, writer);
        assert!(text.len() <= MAX_LINE && text.ends_with("…\n"));
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn a_stalled_reader_stops_nobody_and_losses_are_told() {
        let (sink, mut reader, writer) = piped();
        let began = Instant::now();
        for _ in 0..2000 {
            info(&sink, &"x".repeat(500));
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        let lost = sink.lost.load(Ordering::Relaxed);
        assert!((1..2000).contains(&lost));
        let mut taken = vec![0; 65_536];
        let count = reader.read(&mut taken).unwrap();
        info(&sink, "again");
        let text =
            String::from_utf8_lossy(&taken[..count]).into_owned() + &all(sink, reader, writer);
        assert!(text.contains(&format!("WARN  {lost} log lines were lost\n")));
        assert_eq!(text.matches("lost").count(), 1);
        assert!(text.ends_with("again\n"));
        assert_eq!(text.matches("xxx\n").count() as u64 + lost, 2000);
    }

    #[test]
    fn the_pipe_itself_keeps_its_flags() {
        let (sink, _reader, writer) = piped();
        let waits = |file: &File| !fcntl_getfl(file).unwrap().contains(OFlags::NONBLOCK);
        let writer = File::from(OwnedFd::from(writer));
        assert!(waits(&writer) && !waits(&sink.out));
    }

    #[test]
    fn a_full_disk_is_survived() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let sink = Sink::new(full.as_fd(), None).unwrap();
        info(&sink, "one");
        info(&sink, "two");
        sink.flush();
        assert_eq!(sink.lost.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_closed_pipe_is_survived() {
        let (sink, reader, _writer) = piped();
        drop(reader);
        info(&sink, "one");
        info(&sink, "two");
        assert_eq!(sink.lost.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_file_is_shared_with_its_other_writers() {
        let path = std::env::temp_dir().join(format!("voicelived-log-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        let sink = Sink::new(file.as_fd(), None).unwrap();
        file.write_all(b"first\n").unwrap();
        info(&sink, "second");
        file.write_all(b"third\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let ends: Vec<_> = text.lines().filter_map(|l| l.split(' ').next_back()).collect();
        assert_eq!(ends, ["first", "second", "third"]);
    }

    #[test]
    fn the_journal_gets_priorities_and_no_time() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let meta = File::from(near.as_fd().try_clone_to_owned().unwrap()).metadata().unwrap();
        let stream = format!("{}:{}", meta.dev(), meta.ino());
        let sink = Sink::new(near.as_fd(), Some(&stream)).unwrap();
        for level in [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace] {
            say(&sink, level, "voicelived", "x");
        }
        drop((sink, near));
        let mut text = String::new();
        far.read_to_string(&mut text).unwrap();
        assert_eq!(text, "<3>x\n<4>x\n<6>x\n<7>x\n<7>x\n");
        for other in ["", "8", "8:x", &format!("{}:1", meta.dev())] {
            let (near, _far) = UnixStream::pair().unwrap();
            assert_eq!(Sink::new(near.as_fd(), Some(other)).unwrap().style, Style::Plain);
        }
    }

    #[test]
    fn a_stalled_socket_stops_nobody() {
        let (near, _far) = UnixStream::pair().unwrap();
        let sink = Sink::new(near.as_fd(), None).unwrap();
        (0..5000).for_each(|_| info(&sink, &"x".repeat(900)));
        assert!(sink.lost.load(Ordering::Relaxed) > 0);
    }

    #[test]
    fn a_torn_line_does_not_swallow_the_next() {
        let (sink, reader, writer) = piped();
        sink.torn.store(true, Ordering::Relaxed);
        info(&sink, "whole");
        assert!(all(sink, reader, writer).starts_with('\n'));
    }

    #[test]
    fn times_agree_with_date() {
        let at = |seconds| Utc(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_773_500_966), "2026-03-14T15:09:26Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z");
        let stamp = 1_709_164_800 + 86_399;
        let date = Command::new("date")
            .args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d", &format!("@{stamp}")])
            .output()
            .unwrap();
        assert_eq!(at(stamp), String::from_utf8_lossy(&date.stdout).trim());
    }
}
