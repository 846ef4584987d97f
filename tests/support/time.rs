//! What is to happen at once, on a machine that may be busy.

use std::time::Duration;

/// Does something that must take less than `limit`, up to three times until it does: another program may
/// have the processor once, but a wait of our own comes every time.
pub(crate) fn at_once(what: &str, limit: Duration, mut attempt: impl FnMut() -> Duration) {
    let mut took = Vec::new();
    while took.iter().all(|time| *time >= limit) {
        assert!(took.len() < 3, "{what}: it had to wait: {took:?}");
        took.push(attempt());
    }
}
