//! What `check` prints: each step with the time it took, and warnings.

use std::time::Instant;

use crate::cli::screen::{Screen, plain};

/// Prints steps with the time since the step before.
pub(super) struct Report {
    screen: Screen,
    since: Instant,
}

impl Report {
    pub(super) fn new() -> Self {
        Self { screen: Screen::new(), since: Instant::now() }
    }

    /// A step begins later than the one before it ended.
    pub(super) fn begin_step(&mut self) {
        self.since = Instant::now();
    }

    pub(super) fn line(&mut self, text: &str) {
        self.screen.line(text);
    }

    pub(super) fn done(&mut self, step: &str, detail: &str) {
        let ms = self.since.elapsed().as_secs_f64() * 1000.0;
        self.screen.line(format!("{step:<15} {ms:>8.1} ms  {detail}").trim_end());
        self.since = Instant::now();
    }

    /// Prints something that is known without a request.
    pub(super) fn fact(&mut self, what: &str, text: &str) {
        self.screen.line(&format!("{what:<15} {}", plain(text)));
    }

    pub(super) fn note(&mut self, text: &str) {
        self.screen.line(&format!("{:<15} {}", "warning", plain(text)));
    }
}
