//! SIGHUP means two things: to a daemon that its settings have changed, to a program started by hand
//! that its terminal has gone.

use std::io::{self, IsTerminal};

/// The terminal that the program was started on, if it was.
#[derive(Debug)]
pub(super) struct Terminal {
    /// Standard input, output and error.
    streams: [bool; 3],
}

impl Terminal {
    pub(super) fn at_start() -> Self {
        Self { streams: streams() }
    }

    /// Whether one of its streams is a terminal no more: the kernel cuts them off before it signals.
    pub(super) fn has_gone(&self) -> bool {
        self.streams.iter().zip(streams()).any(|(before, now)| *before && !now)
    }
}

fn streams() -> [bool; 3] {
    [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()]
}
