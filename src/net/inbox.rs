//! The buffer that bytes are read into. The loop has one and lends it to whoever is read; so
//! connections own no read buffer, only the part of a message that has not come whole.
//!
//! It is empty whenever a connection's turn begins, and whatever a turn leaves in it is kept by that
//! connection before the next one begins. This is what sharing stands on: a byte that stayed would be
//! read as the next caller's, in a call of somebody else.

use std::ops::Range;

/// What one system call may read, in bytes: a usual audio delta (17 KB) with its TLS records.
pub const READ: usize = 32 * 1024;

/// Bytes that are kept allocated; a longer message takes more for as long as it is there.
const USUAL: usize = 64 * 1024;

/// The read buffer that all connections share: bytes read and not taken yet. See the module's text.
#[derive(Debug, Default)]
pub struct Inbox {
    open: Open,
    /// Where TLS records are read to before they are opened.
    sealed: Vec<u8>,
    /// A message that came in fragments.
    joined: Vec<u8>,
    /// Memory for what connections keep between turns: a message that comes in two parts shall
    /// not cost an allocation.
    spares: Vec<Vec<u8>>,
}

/// The bytes themselves, as a peer sent them.
#[derive(Debug, Default)]
pub(super) struct Open {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// Spares, and the largest one's bytes.
const SPARES: (usize, usize) = (8, 32 * 1024);

/// Where a message lies in the inbox.
#[derive(Debug, Clone)]
pub(super) enum MessageSpan {
    /// In one frame.
    Frame(Range<usize>),
    /// Put together.
    Joined,
}

impl Inbox {
    /// An empty one; its memory comes with the first read.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.open.bytes[self.open.start..self.open.end]
    }

    /// Where bytes are appended.
    pub(super) fn open(&mut self) -> &mut Open {
        &mut self.open
    }

    /// The same, and a place for one usual read of TLS records.
    pub(super) fn with_sealed(&mut self) -> (&mut Open, &mut [u8]) {
        if self.sealed.is_empty() {
            self.sealed.resize(READ, 0);
        }
        (&mut self.open, &mut self.sealed)
    }

    /// Takes a frame of `head` and `payload` bytes, which must be there; where its payload lies.
    pub(super) fn take(&mut self, head: usize, payload: usize) -> Range<usize> {
        let from = self.open.start + head;
        self.open.start = from + payload;
        from..from + payload
    }

    pub(super) fn slice(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.open.bytes[range]
    }

    pub(super) fn join(&mut self, message: Vec<u8>) -> MessageSpan {
        self.joined = message;
        MessageSpan::Joined
    }

    pub(super) fn message(&self, place: MessageSpan) -> &[u8] {
        match place {
            MessageSpan::Frame(range) => &self.open.bytes[range],
            MessageSpan::Joined => &self.joined,
        }
    }

    pub(super) fn take_spare(&mut self) -> Vec<u8> {
        self.spares.pop().unwrap_or_default()
    }

    pub(super) fn give_spare(&mut self, mut spare: Vec<u8>) {
        if self.spares.len() < SPARES.0 && spare.capacity() <= SPARES.1 {
            spare.clear();
            self.spares.push(spare);
        }
    }

    /// Empties it for the next one, and gives back what an unusual message took.
    pub fn clear(&mut self) {
        (self.open.start, self.open.end) = (0, 0);
        self.joined = Vec::new();
        if self.open.bytes.len() > USUAL {
            self.open.bytes.truncate(USUAL);
            self.open.bytes.shrink_to_fit();
        }
    }
}

impl Open {
    /// Room for at least one usual read, at the end.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.make_room(READ);
        let end = self.end + READ;
        &mut self.bytes[self.end..end]
    }

    /// The first `bytes` of [`room`](Self::room) are filled.
    pub(super) fn filled(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// Appends what was kept from an earlier turn.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    fn make_room(&mut self, bytes: usize) {
        if self.end + bytes <= self.bytes.len() {
            return;
        }
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end + bytes > self.bytes.len() {
            self.bytes.resize((self.end + bytes).max(USUAL), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_usual_size_is_kept_for_the_next_one() {
        let mut inbox = Inbox::new();
        assert_eq!(inbox.take_spare().capacity(), 0);
        let spare = |capacity: usize| {
            let mut spare = Vec::with_capacity(capacity);
            spare.push(7);
            spare
        };
        inbox.give_spare(spare(SPARES.1 + 1));
        assert_eq!(inbox.take_spare().capacity(), 0, "an unusual one goes back");
        for _ in 0..=SPARES.0 {
            inbox.give_spare(spare(SPARES.1));
        }
        for at in 0..SPARES.0 {
            let spare = inbox.take_spare();
            assert!(spare.capacity() >= SPARES.1 && spare.is_empty(), "{at}");
        }
        assert_eq!(inbox.take_spare().capacity(), 0, "there is a bound");
    }

    #[test]
    fn what_a_long_message_took_is_given_back() {
        let mut inbox = Inbox::new();
        inbox.open().append(&[1; 10]);
        assert_eq!(inbox.open.bytes.len(), USUAL);
        inbox.clear();
        assert_eq!(inbox.open.bytes.len(), USUAL, "the usual memory stays");
        inbox.open().append(&vec![1; USUAL * 4]);
        inbox.join(vec![1; 100]);
        inbox.clear();
        assert!(inbox.waiting().is_empty() && inbox.message(MessageSpan::Joined).is_empty());
        assert_eq!((inbox.open.bytes.len(), inbox.joined.capacity()), (USUAL, 0));
        assert!(inbox.open.bytes.capacity() < USUAL * 2, "{}", inbox.open.bytes.capacity());
    }

    /// Bytes that were taken make room for others.
    #[test]
    fn it_grows_only_when_what_waits_does_not_fit() {
        let mut inbox = Inbox::new();
        inbox.open().append(&vec![1; USUAL - 10]);
        assert_eq!(inbox.take(10, USUAL - 30), 10..USUAL - 20);
        inbox.open().append(&[2; 10]);
        assert_eq!(inbox.waiting(), [[1; 10], [2; 10]].concat());
        inbox.open().append(&[3; 100]);
        assert_eq!(inbox.open.bytes.len(), USUAL);
        assert_eq!(inbox.waiting()[..30], *[[1; 10], [2; 10], [3; 10]].concat());
        inbox.open().append(&vec![4; USUAL]);
        assert_eq!(inbox.waiting().len(), 120 + USUAL);
    }
}
