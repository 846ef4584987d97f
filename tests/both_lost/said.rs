//! What was said in a call, what its sessions know of it, and where the user's turn is.

use std::time::Instant;

/// What was said, as the test knows it. The first word tells it from all else.
#[derive(Debug)]
pub(super) struct Said {
    /// `u3`, `a3`, `t3` or `typed3`.
    pub(super) key: String,
    /// All that was said. Nothing: the words are not known yet.
    pub(super) text: String,
    /// The numbers of the reply.
    pub(super) sound: std::ops::Range<u32>,
    /// Of a reply that was cut off: the most and the least that may count as heard, in milliseconds.
    pub(super) cut: Option<(usize, usize)>,
}

impl Said {
    pub(super) fn new(key: String, text: String) -> Self {
        Self { key, text, sound: 0..0, cut: None }
    }

    pub(super) fn is_tool(&self) -> bool {
        self.key.starts_with('t') && !self.key.starts_with("typed")
    }

    pub(super) fn ms(&self) -> usize {
        self.sound.len() / 12
    }

    /// Whether a text begins as this. A reply may be cut in its first word.
    pub(super) fn begins(&self, text: &str) -> bool {
        text.split(' ').next() == Some(&self.key)
            || (self.cut.is_some() && !text.is_empty() && self.key.starts_with(text))
    }

    /// Whether a session that was told this knows it as it was.
    pub(super) fn is(&self, told: &str) -> bool {
        let Some((most, least)) = self.cut else { return self.text == told };
        let words = |ms: usize| self.text.len() * ms.min(self.ms()) / self.ms().max(1);
        // Cut at the end of a word.
        self.text.starts_with(told)
            && told.len() <= words(most)
            && told.len() + self.key.len() + 6 >= words(least)
    }
}

/// An answer under way.
pub(super) struct Reply {
    pub(super) id: String,
    pub(super) number: usize,
    pub(super) parts: usize,
}

/// What one session of the service has heard, and what it knows.
#[derive(Default)]
pub(super) struct Session {
    pub(super) heard: Vec<u32>,
    /// Ids and texts.
    pub(super) items: Vec<(String, String)>,
    /// It was asked for an answer, and it is going to give one by itself.
    pub(super) asked: bool,
    pub(super) owes: bool,
    pub(super) reply: Option<Reply>,
    /// Silence in a row, in bytes.
    pub(super) silence: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Speaking,
    Committed,
    /// Its session was lost, so the next one hears it again from that moment on.
    Again(Instant),
}

/// The user's turn, until its words are known.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) number: usize,
    /// Its first number of the microphone.
    pub(super) from: u32,
    pub(super) stage: Stage,
    /// Words of its answer have come.
    pub(super) answered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Active,
    Lost,
    /// A second connection is open beside the active one.
    Coming,
}
