//! Tells the two meanings of SIGHUP apart. For a daemon it means that the settings have changed. For a
//! program that was started by hand it may mean that its terminal has been closed.

use std::io::{self, IsTerminal};

/// The terminal that the program was started on, if there was one.
#[derive(Debug)]
pub(super) struct Terminal {
    /// Whether standard input, output and error were terminals at the start.
    streams: [bool; 3],
}

impl Terminal {
    /// Looks at the standard streams. It must run before the first SIGHUP can come.
    pub(super) fn at_start() -> Self {
        Self { streams: streams() }
    }

    /// Whether a stream that was a terminal at the start is none now. When a terminal closes, the
    /// kernel detaches its streams before it sends SIGHUP, so the signal's handler already sees it.
    pub(super) fn has_gone(&self) -> bool {
        self.streams.iter().zip(streams()).any(|(before, now)| *before && !now)
    }
}

/// Whether each standard stream is a terminal now.
fn streams() -> [bool; 3] {
    [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()]
}
