//! The log of the commands that a person runs and waits for (`check`, `call`, `simulate`). On a terminal
//! `simple_logger` prints it with the time. Errors are red, warnings yellow, details dim. (The colours of
//! `simple_logger` itself come from a crate under the MPL, which would be the only such licence here.)
//!
//! `simple_logger` prints with `eprintln!`. This panics when standard error fails, waits for a terminal
//! that is stopped, and does not escape control characters. So `simple_logger` is used only where the
//! panic needs a terminal that goes within the few microseconds of one line (the command then ends, as it
//! would have by SIGHUP) and the wait does no harm, and it gets escaped text:
//!
//! | standard error | sink |
//! |---|---|
//! | a terminal | `simple_logger` |
//! | a terminal that has gone | none: the line is dropped |
//! | a pipe, a file, a device, the journal, a terminal whose writes may fail with `WouldBlock` | [`log`](super::log) |

use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::fs::{OFlags, fcntl_getfl};
use simple_logger::SimpleLogger;

use super::log::{self as daemon_log, Line};

/// Installs the log of a command that a person waits for. A second call only sets the level.
pub fn init(level: LevelFilter) {
    if !io::stderr().is_terminal() || may_refuse() {
        return daemon_log::init(level);
    }
    let colours = wants_colours(std::env::var("NO_COLOR").ok().as_deref());
    // This fails only if a sink is installed already. That one stays.
    let _ = log::set_boxed_logger(Box::new(Dressed { printer: printer(level), colours }));
    log::set_max_level(level);
}

/// The level that `VOICELIVED_LOG` asks for, for commands that read no other settings.
#[must_use]
pub fn level_or(usual: LevelFilter) -> LevelFilter {
    let wanted = std::env::var("VOICELIVED_LOG").ok();
    wanted.and_then(|word| word.trim().parse().ok()).unwrap_or(usual)
}

/// Whether the output may have colours: `NO_COLOR` is not set or empty (<https://no-color.org>).
fn wants_colours(no_color: Option<&str>) -> bool {
    no_color.is_none_or(str::is_empty)
}

/// `simple_logger` with its levels: `level` for this program, at most `warn` for other crates, as in the
/// daemon's log.
fn printer(level: LevelFilter) -> SimpleLogger {
    SimpleLogger::new()
        .with_level(level.min(LevelFilter::Warn))
        .with_module_level(env!("CARGO_PKG_NAME"), level)
}

/// Whether standard error may answer `WouldBlock`, because a program that shares the terminal has
/// set it so.
fn may_refuse() -> bool {
    fcntl_getfl(io::stderr()).map_or(true, |flags| flags.contains(OFlags::NONBLOCK))
}

/// Escapes control characters and adds colours before the printer gets a line, as long as the terminal
/// is there.
struct Dressed<L> {
    printer: L,
    colours: bool,
}

impl<L: Log> Dressed<L> {
    fn hand_on(&self, record: &Record<'_>) {
        let mut line = Line::default();
        let _ = line.write_fmt(*record.args());
        let (on, off) = if self.colours { colour(record.level()) } else { ("", "") };
        let (target, level) = (record.target(), record.level());
        let text = format_args!("{on}{line}{off}");
        self.printer.log(&Record::builder().target(target).level(level).args(text).build());
    }
}

impl<L: Log> Log for Dressed<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.printer.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        // After its terminal has gone, standard error is no terminal any more, and a write would fail.
        if self.enabled(record.metadata()) && io::stderr().is_terminal() {
            self.hand_on(record);
        }
    }

    fn flush(&self) {
        self.printer.flush();
    }
}

/// The sequences that turn a line's colour on and off again (ECMA-48, SGR).
fn colour(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::Error => ("\x1b[31m", "\x1b[0m"),
        Level::Warn => ("\x1b[33m", "\x1b[0m"),
        Level::Info => ("", ""),
        Level::Debug | Level::Trace => ("\x1b[2m", "\x1b[0m"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Keeps the last line.
    #[derive(Default)]
    struct Last(Mutex<String>);

    impl Log for Last {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            *self.0.lock().unwrap() = record.args().to_string();
        }

        fn flush(&self) {}
    }

    #[test]
    fn nothing_that_is_logged_steers_the_terminal_or_forges_a_line() {
        let log = Dressed { printer: Last::default(), colours: false };
        let say = |text: &str| {
            log.hand_on(&Record::builder().args(format_args!("{text}")).build());
            log.printer.0.lock().unwrap().clone()
        };
        assert_eq!(
            say("a\r\nWARN b\u{1b}[2J\u{9b}\u{7}\u{202e}ü"),
            "a\\r\\nWARN b\\u{1b}[2J\\u{9b}\\u{7}\\u{202e}ü"
        );
        let long = say(&"x".repeat(100_000));
        assert!(long.len() <= daemon_log::MAX_LINE && long.ends_with('…'));
    }

    #[test]
    fn the_level_is_the_one_asked_for_and_other_crates_stay_at_warn() {
        let is_on = |printer: &SimpleLogger, target: &str, level: Level| {
            printer.enabled(&Metadata::builder().target(target).level(level).build())
        };
        for level in [Level::Error, Level::Info, Level::Trace] {
            let printer = printer(level.to_level_filter());
            for other in Level::iter() {
                assert_eq!(is_on(&printer, "voicelived::net", other), other <= level);
                let foreign = other <= level.min(Level::Warn);
                assert_eq!(is_on(&printer, "rustls::client", other), foreign, "{level} {other}");
            }
        }
    }

    #[test]
    fn colours_can_be_refused() {
        assert!(wants_colours(None));
        assert!(wants_colours(Some("")));
        assert!(!wants_colours(Some("1")));
    }
}
