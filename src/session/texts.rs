//! Text messages that a client may have missed, for when it takes its call up again.
//!
//! They are numbered as the client counts them: all that it was sent, on all its connections. While it is
//! away nothing is sent, and all is kept. While it is there only clients that have said that they can take
//! a call up have the last messages kept, since those may still be under way.
//!
//! Bounds: [`RECENT_BYTES`] while the client is there, [`MISSED_BYTES`] and [`MISSED`] messages while it is
//! away. Captions go first: the transcript repeats their words. Of older recent messages nothing is kept;
//! messages that a client away has certainly missed are never left out, so beyond the bound its call
//! cannot be taken up any more.

use std::collections::VecDeque;

use crate::call::client;

/// Bytes of messages that are kept although they were sent, with what each costs besides.
const RECENT_BYTES: usize = 3 * 1024;

/// Messages, and their bytes, that are kept for a client that is away.
const MISSED: usize = 128;
const MISSED_BYTES: usize = 32 * 1024;

/// What a message costs besides its bytes.
const OVERHEAD: usize = size_of::<Kept>() + 16;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// The number of the last message that the client was sent, or that is kept for it.
    count: u64,
    /// The number of the last one that it was sent.
    sent: u64,
    /// Whether messages are kept although they were sent.
    keeps_sent: bool,
    /// In the order of their numbers.
    kept: VecDeque<Kept>,
    /// What `kept` costs.
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    number: u64,
    json: Box<str>,
}

impl Texts {
    /// `keeps_sent`: messages are kept although they were sent.
    pub(super) fn new(keeps_sent: bool) -> Self {
        Self { keeps_sent, ..Self::default() }
    }

    /// A message was sent.
    pub(super) fn sent(&mut self, json: &str) {
        self.count += 1;
        self.sent = self.count;
        if self.keeps_sent {
            self.keep(json);
            while self.bytes > RECENT_BYTES && self.forget_one(|_| true) {}
        }
    }

    /// A message could not be sent: the client is away. False if it finds no room.
    pub(super) fn missed(&mut self, json: &str) -> bool {
        self.count += 1;
        self.keep(json);
        let sent = self.sent;
        while self.is_over() {
            // What was sent may have arrived.
            if !self.forget_one(|kept| kept.number <= sent || client::is_caption(&kept.json)) {
                return false;
            }
        }
        true
    }

    fn is_over(&self) -> bool {
        self.bytes > MISSED_BYTES || self.kept.len() > MISSED
    }

    fn keep(&mut self, json: &str) {
        self.bytes += json.len() + OVERHEAD;
        self.kept.push_back(Kept { number: self.count, json: json.into() });
    }

    /// Forgets the oldest caption, or else the oldest message, of those that may be forgotten.
    fn forget_one(&mut self, may: impl Fn(&Kept) -> bool) -> bool {
        let caption = |kept: &Kept| may(kept) && client::is_caption(&kept.json);
        let at = self.kept.iter().position(caption).or_else(|| self.kept.iter().position(&may));
        let forgotten = at.and_then(|at| self.kept.remove(at));
        self.bytes -= forgotten.as_ref().map_or(0, |kept| kept.json.len() + OVERHEAD);
        forgotten.is_some()
    }

    /// The client is back. It has had `had` messages; if it does not say, all that it was sent. Returns
    /// those that it has missed, in order. They and all that follow are numbered from there, and kept.
    pub(super) fn take_missed(&mut self, had: Option<u64>) -> impl Iterator<Item = Box<str>> {
        let had = had.map_or(self.sent, |had| had.min(self.sent));
        (self.count, self.sent, self.bytes) = (had, had, 0);
        self.keeps_sent = true;
        let kept = std::mem::take(&mut self.kept).into_iter();
        kept.filter(move |kept| kept.number > had).map(|kept| kept.json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed(texts: &mut Texts, had: Option<u64>) -> Vec<String> {
        texts.take_missed(had).map(String::from).collect()
    }

    fn caption(text: &str) -> String {
        let part = crate::call::service::Part::default();
        client::transcript_delta(client::Role::Assistant, &part, text)
    }

    #[test]
    fn a_client_gets_what_it_has_not_counted() {
        let mut texts = Texts::new(true);
        for json in ["1", "2", "3"] {
            texts.sent(json);
        }
        assert!(texts.missed("4"));
        assert_eq!(missed(&mut texts, Some(1)), ["2", "3", "4"]);
        // They are sent again, and a client may vanish again at once.
        for json in ["hello", "2", "3", "4"] {
            texts.sent(json);
        }
        assert_eq!(missed(&mut texts, Some(2)), ["2", "3", "4"]);
        texts.sent("5");
        assert_eq!(missed(&mut texts, None), [""; 0]);
        texts.sent("6");
        assert!(texts.missed("7"));
        assert_eq!(missed(&mut texts, Some(u64::MAX)), ["7"], "it cannot have had that");
    }

    #[test]
    fn without_its_word_nothing_is_kept_of_what_was_sent() {
        let mut texts = Texts::default();
        texts.sent("1");
        assert!(texts.kept.is_empty() && texts.missed("2"));
        assert_eq!(missed(&mut texts, Some(0)), ["2"]);
    }

    #[test]
    fn captions_go_first_and_missed_messages_never() {
        let mut texts = Texts::new(true);
        for _ in 0..100 {
            texts.sent(&caption("words"));
            texts.sent("speech_started");
        }
        assert!(texts.bytes <= RECENT_BYTES);
        assert!(!texts.kept.iter().any(|kept| client::is_caption(&kept.json)));
        for number in 0..MISSED {
            assert!(texts.missed(&caption("words")) && texts.missed(&number.to_string()));
        }
        assert_eq!(texts.kept.len(), MISSED);
        assert!(!texts.missed("one more"));
        let mut texts = Texts::default();
        assert!(!texts.missed(&"x".repeat(MISSED_BYTES)));
    }

    #[test]
    fn the_bounds_hold_to_the_byte() {
        let mut texts = Texts::new(true);
        texts.sent(&"x".repeat(RECENT_BYTES - OVERHEAD));
        assert_eq!(texts.kept.len(), 1);
        texts.sent("");
        assert_eq!(missed(&mut texts, Some(0)), [""]);
        let mut texts = Texts::default();
        assert!(texts.missed(&"x".repeat(MISSED_BYTES - OVERHEAD)));
        assert!(!texts.missed(""));
    }

    #[test]
    fn a_text_that_quotes_a_caption_is_none() {
        assert!(client::is_caption(&caption("a")));
        assert!(!client::is_caption(&client::error("x", &caption("a"))));
    }
}
