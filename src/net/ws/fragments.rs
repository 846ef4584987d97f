//! Messages that come in fragments (RFC 6455, section 5.4).

use std::io::{Read, Write};
use std::ops::Range;

use super::frame::Fault;
use super::{Kind, NextFrame, WsPeer, not_utf8};
use crate::net::inbox::Inbox;

/// A message of which the last fragment has not come.
#[derive(Debug)]
pub(super) struct Fragments {
    kind: Kind,
    bytes: Vec<u8>,
    /// Bytes of a text that are known to be UTF-8.
    valid: usize,
}

impl Fragments {
    /// Bytes that have come.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a fragment. A text that cannot become UTF-8 any more is found at once; a character
    /// may be cut.
    fn push(&mut self, fragment: &[u8]) -> Result<(), Fault> {
        self.bytes.extend_from_slice(fragment);
        if self.kind == Kind::Binary {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[self.valid..]) {
            Ok(text) => self.valid += text.len(),
            Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
            Err(_) => return Err(not_utf8()),
        }
        Ok(())
    }
}

impl<S: Read + Write> WsPeer<S> {
    pub(super) fn begin_fragments(
        &mut self,
        kind: Kind,
        payload: &[u8],
    ) -> Result<Option<NextFrame>, Fault> {
        let mut fragments = Fragments { kind, bytes: Vec::new(), valid: 0 };
        fragments.push(payload)?;
        self.fragments = Some(fragments);
        Ok(None)
    }

    pub(super) fn continue_fragments(
        &mut self,
        last: bool,
        inbox: &mut Inbox,
        place: Range<usize>,
    ) -> Result<Option<NextFrame>, Fault> {
        let Some(mut fragments) = self.fragments.take() else { return Ok(None) };
        fragments.push(inbox.slice(place))?;
        if last {
            return Ok(Some(NextFrame::Message(fragments.kind, inbox.join(fragments.bytes))));
        }
        self.fragments = Some(fragments);
        Ok(None)
    }
}
