//! Ids that were acted on already. A service may tell the same thing in several events, or again much
//! later, and it must be acted on once.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Ids that are remembered: the newest. A session of the service lasts an hour, so this is more than one
/// function call in a second.
const MAX_SEEN: usize = 4_096;

/// The newest [`MAX_SEEN`] ids, as hashes of 8 bytes: 32 KiB at most, and nothing in a call without
/// tools. Two ids with one hash would cost the second one its answer. That is one in 10^15.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hashes: VecDeque<u64>,
}

impl Seen {
    /// Whether the id was noted.
    pub(super) fn has(&self, id: &str) -> bool {
        self.hashes.contains(&hash(id))
    }

    /// Notes an id. False if it was noted before.
    pub(super) fn note(&mut self, id: &str) -> bool {
        if self.has(id) {
            return false;
        }
        if self.hashes.len() == MAX_SEEN {
            self.hashes.pop_front();
        }
        self.hashes.push_back(hash(id));
        true
    }
}

/// The same in every run: the core of a call knows no chance.
fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_is_new_once_and_the_memory_is_bounded() {
        let mut seen = Seen::default();
        for id in 0..2 * MAX_SEEN {
            assert!(seen.note(&id.to_string()) && !seen.note(&id.to_string()));
        }
        assert_eq!(seen.hashes.len(), MAX_SEEN);
        assert!(seen.has(&MAX_SEEN.to_string()) && !seen.has("0") && !seen.has(""));
    }
}
