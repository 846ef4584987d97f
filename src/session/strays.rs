//! Messages that mean nothing: a binary frame, an empty text, a text that is no JSON object with a
//! `type`. One of them is an accident, of a gateway or of a program in the making, and the call goes on
//! without it. Many in a row mean that the two sides do not understand each other, and then the call
//! ends.

use crate::call::service::HalfCharacters;

/// So many in a row end the call.
const MOST_IN_A_ROW: u32 = 8;

/// Lines that a call writes into the log about such things; the rest are only counted, or a side that
/// does it all the time would fill the disk.
const MOST_LINES: u32 = 32;

/// What the two sides have said oddly, and what of it is still to be put together.
#[derive(Debug, Default)]
pub(super) struct Oddities {
    pub(super) client: Strays,
    pub(super) service: Strays,
    /// The service's deltas of audio that are none.
    pub(super) audio: Strays,
    /// Half characters at the end of the service's deltas.
    pub(super) halves: HalfCharacters,
    /// Lines in the log about messages that were passed over, and about the service's errors.
    pub(super) lines: Lines,
    pub(super) error_lines: Lines,
    pub(super) ignored: IgnoredTypes,
}

impl Oddities {
    /// The service has sent audio: it is understood.
    pub(super) fn end_rows(&mut self) {
        self.service.end_row();
        self.audio.end_row();
    }
}

/// Those of one side. A message that is understood ends the row.
#[derive(Debug, Default)]
pub(super) struct Strays(u32);

impl Strays {
    /// Another one. True if the call must end.
    pub(super) fn another(&mut self) -> bool {
        self.0 += 1;
        self.0 >= MOST_IN_A_ROW
    }

    /// A message was understood.
    pub(super) fn end_row(&mut self) {
        self.0 = 0;
    }
}

/// How many lines of a kind a call has written into the log.
#[derive(Debug, Default)]
pub(super) struct Lines(u32);

impl Lines {
    /// Whether there may be another one, and whether it is the last.
    pub(super) fn another(&mut self) -> Option<&'static str> {
        self.0 = self.0.saturating_add(1);
        match self.0.cmp(&MOST_LINES) {
            std::cmp::Ordering::Less => Some(""),
            std::cmp::Ordering::Equal => Some(" (more of this call are only counted)"),
            std::cmp::Ordering::Greater => None,
        }
    }
}

/// Types of events that were ignored, for one line each in the log. A service has about 60 of them.
#[derive(Debug, Default)]
pub(super) struct IgnoredTypes(Vec<String>);

impl IgnoredTypes {
    /// Types that are remembered; others beyond them are not told.
    const MOST: usize = 100;

    /// Whether the type is a new one.
    pub(super) fn is_new(&mut self, kind: &str) -> bool {
        if self.0.len() == Self::MOST || self.0.iter().any(|known| known == kind) {
            return false;
        }
        self.0.push(kind.to_owned());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_in_a_row_end_a_call() {
        let mut strays = Strays::default();
        for _ in 0..100 {
            assert!((1..MOST_IN_A_ROW).all(|_| !strays.another()));
            strays.end_row();
        }
        assert!((1..MOST_IN_A_ROW).all(|_| !strays.another()) && strays.another());
    }

    #[test]
    fn lines_and_types_are_bounded() {
        let mut lines = Lines::default();
        let written = (0..1_000).filter_map(|_| lines.another()).collect::<Vec<_>>();
        assert_eq!(written.len(), MOST_LINES as usize);
        assert!(written.last().is_some_and(|last| !last.is_empty()));
        let mut types = IgnoredTypes::default();
        let new = (0..1_000).filter(|kind| types.is_new(&(kind % 500).to_string())).count();
        assert_eq!(new, IgnoredTypes::MOST);
    }
}
