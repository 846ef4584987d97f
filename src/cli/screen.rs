//! Lines on standard output, for a person or a pipe. The command goes on if the reader has gone.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the status line may change.
const STATUS_INTERVAL: Duration = Duration::from_millis(200);

/// Standard output. On a terminal it has a last line that changes in place.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: bool,
    status: Option<Instant>,
}

impl Screen {
    /// Standard output as it is.
    #[must_use]
    pub(super) fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), status: None }
    }

    /// Prints a line that stays.
    pub(super) fn line(&mut self, text: &str) {
        let clear = if self.status.take().is_some() { "\r\x1b[K" } else { "" };
        put(&format!("{clear}{text}\n"));
    }

    /// Shows what is going on, until the next line; not in a pipe.
    pub(super) fn status(&mut self, now: Instant, text: impl FnOnce() -> String) {
        let fresh = self.status.is_some_and(|at| now < at + STATUS_INTERVAL);
        if self.terminal && !fresh {
            self.status = Some(now);
            put(&format!("\r{}\x1b[K", text()));
        }
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Screen {
    /// Removes the status line.
    fn drop(&mut self) {
        if self.status.take().is_some() {
            put("\r\x1b[K");
        }
    }
}

fn put(text: &str) {
    let mut out = io::stdout().lock();
    // A reader such as `head` may have seen enough. The command's work goes on.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A text from outside as part of a line. It has no line breaks, and no characters that control a
/// terminal or change the direction of writing.
#[must_use]
pub(super) fn plain(text: &str) -> String {
    let tame = |c: char| match c {
        c if c.is_whitespace() => ' ',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => ' ',
        '\u{feff}' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.trim().chars().map(tame).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_words_stay_on_their_line() {
        assert_eq!(
            plain(" a\r\nb\u{1b}[2J\u{85}\u{2028}\u{202e}ü\t\u{9b}\0 "),
            "a  b\u{fffd}[2J   ü \u{fffd}\u{fffd}"
        );
        assert_eq!(plain("Grüße, 世界 👋"), "Grüße, 世界 👋");
    }
}
