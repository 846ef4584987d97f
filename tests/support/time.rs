//! What is to happen at once, or before a limit of the daemon's own, on a machine that may be busy.

use std::time::Duration;

/// How often something may be tried until it was quick enough.
const TRIES: usize = 8;

/// Does something that must take less than `limit`, up to eight times until it does: another program may
/// have the processor now and then, but a wait of our own comes every time.
pub(crate) fn at_once(what: &str, limit: Duration, mut attempt: impl FnMut() -> Duration) {
    let mut took = Vec::new();
    while took.iter().all(|time| *time >= limit) {
        assert!(took.len() < TRIES, "{what}: it had to wait: {took:?}");
        took.push(attempt());
    }
}

/// Does several things that a limit of the daemon's ends after `limit`. An attempt gives how long they took and what
/// came of it; the result is that of the first one in which all were done in time. Of one that took longer nothing
/// can be said.
pub(crate) fn in_time<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> (Duration, T),
) -> T {
    for _ in 0..TRIES {
        let (took, found) = attempt();
        if took < limit {
            return found;
        }
    }
    panic!("{what}: this machine is too slow for it");
}
