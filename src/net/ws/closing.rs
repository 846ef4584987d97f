//! How a connection ends: closing handshake, violation, loss (RFC 6455, section 7).
//!
//! ```text
//! Open ──close()──────────► Closing ──the peer's close frame──► Closed ─┬─► Leaving ─► Done
//!  ├────the peer's close frame, answered at once────────────────► Closed ┘
//!  ├────the peer breaks the protocol──► Broken ──close()──► Draining ─────────────────► Done
//!  └────the connection is lost────────────────────────────────────────────────────────► Done
//! ```
//!
//! A server whose close frame has left goes from `Closed` to `Draining` too
//! ([`WsPeer::end_output`]). No state is left backwards. Messages are sent in `Open`, and a last
//! word in `Broken`. The owner bounds how long a peer may take for all this.

use std::io::{self, ErrorKind, Read, Write};

use tungstenite::error::ProtocolError;
use tungstenite::protocol::Role;
use tungstenite::protocol::frame::coding::{CloseCode, Control, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Utf8Bytes};

use super::frame::{Fault, MAX_CONTROL};
use super::{NextFrame, WsError, WsPeer};
use crate::net::inbox::Inbox;
use crate::net::socket::Socket;

/// The longest close reason: a control frame without the code.
const MAX_REASON: usize = MAX_CONTROL - 2;

/// How far the closing has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Messages flow both ways. No close frame has come or been queued.
    Open,
    /// The peer broke the protocol. Nothing of it is heard any more, since nobody knows where its next
    /// frame begins. The close frame, which will carry this code, is not queued yet: the owner may
    /// still send its last word before it.
    Broken { code: CloseCode },
    /// Our close frame is queued, and the peer's has not come. Messages of the peer still count: it
    /// may have sent them before it saw our frame.
    Closing,
    /// Both close frames are there, so every message that will ever come has come. A server ends its
    /// side as soon as its own frame has left, and a client waits for that (section 7.1.1): the side
    /// that ends first keeps the port in TIME_WAIT. `alone`: the peer has ended its side already, and
    /// only our answer still has to leave.
    Closed { alone: bool },
    /// Whatever the peer still sends is read and thrown away until it leaves. Without that, the
    /// kernel would answer bytes that nobody reads with a reset, and the reset would overtake our
    /// close frame. `ended`: that frame has left, and our side of the stream is shut.
    Draining { ended: bool },
    /// Both directions are over, but TLS holds bytes that the kernel has not taken: our close frame
    /// may be among them. Only a writable event helps now.
    Leaving,
    /// Nothing is read or written any more, and no memory is held.
    Done,
}

/// How a connection came to its end.
pub(super) enum End {
    /// In order.
    Closed,
    /// The peer has gone.
    Left,
    /// It broke.
    Broken(io::Error),
}

impl<S: Read + Write> WsPeer<S> {
    /// Begins the closing handshake (section 7.1.2) with a code and a reason, which is cut to the 123
    /// bytes that a close frame holds. A peer that broke the protocol is told the code of that
    /// instead. A second call does nothing: one close frame is all that a peer may send.
    pub fn close(&mut self, code: impl Into<CloseCode>, reason: &str) {
        let (code, next) = match self.phase {
            Phase::Open => (code.into(), Phase::Closing),
            Phase::Broken { code } => (code, Phase::Draining { ended: false }),
            Phase::Closing | Phase::Closed { .. } | Phase::Draining { .. } => return,
            Phase::Leaving | Phase::Done => return,
        };
        self.phase = next;
        // `Status` (1005) stands for "no code" and must not be sent (section 7.4.1).
        self.queue_close((code != CloseCode::Status).then_some(code), reason);
    }

    /// The close frame is the last, and short. It waits even where the bound lets nothing else wait:
    /// a slow peer, too, is told why it has to go.
    fn queue_close(&mut self, code: Option<CloseCode>, reason: &str) {
        let mut end = reason.len().min(MAX_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let written = self.write_frame(OpCode::Control(Control::Close), true, |out| {
            if let Some(code) = code {
                out.extend_from_slice(&u16::from(code).to_be_bytes());
                out.extend_from_slice(&reason.as_bytes()[..end]);
            }
            Ok::<_, std::convert::Infallible>(())
        });
        let Ok(()) = written;
    }

    pub(super) fn on_close(&mut self, payload: &[u8]) -> Result<NextFrame, Fault> {
        let mut frame = close_frame(payload)?;
        if let Some(frame) = &mut frame
            && !may_be_sent(frame.code)
        {
            let reason = Utf8Bytes::from_static("Protocol violation");
            *frame = CloseFrame { code: CloseCode::Protocol, reason };
        }
        if self.phase == Phase::Open {
            // A close is answered with its own code (section 5.5.1).
            match &frame {
                Some(frame) => self.queue_close(Some(frame.code), &frame.reason),
                None => self.queue_close(None, ""),
            }
        }
        self.phase = Phase::Closed { alone: false };
        Ok(NextFrame::Close(frame))
    }

    pub(super) fn violation(&mut self, Fault { code, what }: Fault) -> WsError {
        self.phase = match self.phase {
            Phase::Open => Phase::Broken { code },
            _ => Phase::Draining { ended: false },
        };
        self.fragments = None;
        WsError::Violation { code, what }
    }

    pub(super) fn discard(&mut self, inbox: &mut Inbox) -> Result<(), WsError> {
        loop {
            inbox.clear();
            match self.transport.fill(inbox) {
                // The peer has closed and may end its side. Our answer to it is still under way.
                Ok(0) if self.ends_first() => {
                    self.phase = Phase::Closed { alone: true };
                    self.readable = false;
                    return self.flush();
                }
                Ok(0) => return Err(self.ended(End::Closed)),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = self.transport.has_more();
                    return self.flush();
                }
                Err(error) => return Err(self.ended(End::Broken(error))),
            }
        }
    }

    /// Whether both close frames are there and our side has to end the connection (section 7.1.1).
    fn ends_first(&self) -> bool {
        self.role == Role::Server && matches!(self.phase, Phase::Closed { .. })
    }

    /// Nothing more is heard or said. What TLS still holds may leave, as long as the kernel takes it.
    pub(super) fn leave(&mut self) {
        let flushed = self.transport.flush().is_ok();
        let left = !flushed || !self.transport.holds_output();
        self.phase = if left { Phase::Done } else { Phase::Leaving };
    }

    pub(super) fn ended(&mut self, end: End) -> WsError {
        let closing = self.phase != Phase::Open;
        self.phase = Phase::Done;
        (self.rest, self.out, self.fragments) = (Vec::new(), Vec::new(), None);
        match end {
            End::Closed => {
                self.transport.send_close_notify();
                self.leave();
                WsError::Closed
            }
            _ if closing => WsError::Closed,
            End::Left => WsError::Lost(ErrorKind::UnexpectedEof.into()),
            End::Broken(error) => WsError::Lost(error),
        }
    }
}

impl<S: Socket> WsPeer<S> {
    /// Ends our side once our close frame has left, where the peer must not wait for us: both close
    /// frames are there, or the peer broke the protocol and cannot answer in frames that we would
    /// understand. Called after every flush; before the frame has left it does nothing, since the
    /// end of the stream would cut it off.
    pub fn end_output(&mut self) {
        let is_due = self.phase == (Phase::Draining { ended: false }) || self.ends_first();
        if is_due && self.has_left() {
            self.phase = Phase::Draining { ended: true };
            self.transport.send_close_notify();
            // A failure shows at the next read.
            let _ = self.transport.flush();
            self.transport.stream().end_output();
        }
    }
}

/// Code and reason of a close frame (section 5.5.1); `None` if it has neither.
fn close_frame(payload: &[u8]) -> Result<Option<CloseFrame>, Fault> {
    match payload {
        [] => Ok(None),
        [_] => Err(ProtocolError::InvalidCloseSequence.into()),
        [high, low, reason @ ..] => match std::str::from_utf8(reason) {
            Ok(reason) => {
                let code = u16::from_be_bytes([*high, *low]).into();
                Ok(Some(CloseFrame { code, reason: reason.into() }))
            }
            Err(_) => Err(Fault::new(CloseCode::Invalid, "a close reason is not UTF-8")),
        },
    }
}

/// "Bad gateway" in IANA's registry of close codes. A gateway before the service may say it, and
/// tungstenite does not know it.
const BAD_GATEWAY: u16 = 1014;

/// Whether a close code may stand in a frame (section 7.4, and IANA's registry).
fn may_be_sent(code: CloseCode) -> bool {
    code.is_allowed() || u16::from(code) == BAD_GATEWAY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_that_may_stand_in_a_frame() {
        let allowed = |code: &u16| may_be_sent((*code).into());
        for codes in [1000..=1003, 1007..=1014, 3000..=4999] {
            assert_eq!(codes.clone().find(|code| !allowed(code)), None, "of {codes:?}");
        }
        for codes in [0..=999, 1004..=1006, 1015..=2999, 5000..=u16::MAX] {
            assert_eq!(codes.clone().find(allowed), None, "of {codes:?}");
        }
    }
}
