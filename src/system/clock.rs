//! Whether the clock was set: a device without a clock battery begins in 1970, or where it last was.

use std::time::{SystemTime, UNIX_EPOCH};

/// 1 November 2026, in seconds since 1970: before it there was no such program, so a clock that says
/// so has not been set yet. A constant and not the time of the build, so that builds stay
/// reproducible.
pub const EARLIEST: u64 = 1_793_491_200;

/// Whether the clock can be right.
#[must_use]
pub fn is_clock_set(now: SystemTime) -> bool {
    now.duration_since(UNIX_EPOCH).is_ok_and(|since| since.as_secs() >= EARLIEST)
}

/// Seconds since 1970; 0 before it.
#[must_use]
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
