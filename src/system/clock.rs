//! Whether the clock was set. A device without a clock battery starts in 1970, or at the time when it
//! was last switched off.

use std::time::{SystemTime, UNIX_EPOCH};

/// 1 November 2026, in seconds since 1970. This program is younger than that, so a clock that shows an
/// earlier time has not been set yet. It is a constant and not the time of the build, so that builds
/// stay reproducible.
pub const EARLIEST: u64 = 1_793_491_200;

/// Whether the clock can be right: it does not show a time before [`EARLIEST`].
#[must_use]
pub fn is_clock_set(now: SystemTime) -> bool {
    now.duration_since(UNIX_EPOCH).is_ok_and(|since| since.as_secs() >= EARLIEST)
}

/// Seconds since 1970; 0 before it.
#[must_use]
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
