//! How a connection ends: closing handshake, violation, loss (RFC 6455, section 7).

use std::io::{self, ErrorKind, Read, Write};

use super::{Fault, Found, Role, WsError, WsPeer};
use crate::net::frames::{MAX_CONTROL, Opcode};
use crate::net::inbox::Inbox;
use crate::net::socket::Socket;

/// The longest close reason: a control frame without the code.
const MAX_REASON: usize = MAX_CONTROL - 2;

/// How far the closing has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Messages flow both ways.
    Open,
    /// The peer broke the protocol: nothing of it is heard any more, and the close frame, which
    /// will carry this code, is not sent yet.
    Broken { code: u16 },
    /// Our close frame is sent; the peer's is awaited.
    Closing,
    /// Both close frames are there. A server ends its side as soon as its own has left (section
    /// 7.1.1), a client awaits that. `alone`: the peer has ended its side already.
    Closed { alone: bool },
    /// Whatever the peer still sends is read and thrown away until it leaves, so that our close
    /// frame is not lost to a reset. Our own side is `ended` once that has left.
    Draining { ended: bool },
    /// Both directions are over, but TLS holds bytes that the kernel has not taken. The owner bounds
    /// how long they may take.
    Leaving,
    /// Nothing more will be read.
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
    /// Begins the closing handshake with a code and a reason (cut to what a frame holds). A peer
    /// that broke the protocol is told the code of that instead.
    pub fn close(&mut self, code: u16, reason: &str) {
        let (code, next) = match self.phase {
            Phase::Open => (code, Phase::Closing),
            Phase::Broken { code } => (code, Phase::Draining { ended: false }),
            Phase::Closing | Phase::Closed { .. } | Phase::Draining { .. } => return,
            Phase::Leaving | Phase::Done => return,
        };
        self.phase = next;
        // 1005 stands for "no code" and must not be sent (section 7.4.1).
        self.queue_close((code != 1005).then_some(code), reason);
    }

    /// The close frame is the last, and short: it waits even where nothing else may.
    fn queue_close(&mut self, code: Option<u16>, reason: &str) {
        let mut end = reason.len().min(MAX_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let written = self.write_frame((Opcode::Close, true), |out| {
            if let Some(code) = code {
                out.extend_from_slice(&code.to_be_bytes());
                out.extend_from_slice(&reason.as_bytes()[..end]);
            }
            Ok::<_, std::convert::Infallible>(())
        });
        let Ok(()) = written;
    }

    pub(super) fn on_close(&mut self, payload: &[u8]) -> Result<Found, Fault> {
        let (mut code, mut reason) = close_reason(payload)?;
        if code.is_some_and(|code| !may_be_sent(code)) {
            (code, reason) = (Some(1002), "Protocol violation".to_owned());
        }
        if self.phase == Phase::Open {
            self.queue_close(code, &reason);
        }
        self.phase = Phase::Closed { alone: false };
        Ok(Found::Close { code, reason })
    }

    pub(super) fn violation(&mut self, (code, what): Fault) -> WsError {
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
                // Who has said goodbye may end its side; our answer is still under way.
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

    /// Whether both said goodbye and it is on us to end the connection.
    fn ends_first(&self) -> bool {
        self.role == Role::Server && matches!(self.phase, Phase::Closed { .. })
    }

    /// Nothing more is heard or said; what TLS still holds may leave.
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
    /// Ends our side once our close frame has left, where the peer must not wait for us: it has
    /// answered that frame, or broke the protocol and cannot answer in words we would understand.
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

/// Code and reason of a close frame.
fn close_reason(payload: &[u8]) -> Result<(Option<u16>, String), Fault> {
    match payload {
        [] => Ok((None, String::new())),
        [_] => Err((1002, "half a close code".to_owned())),
        [high, low, reason @ ..] => match std::str::from_utf8(reason) {
            Ok(reason) => Ok((Some(u16::from_be_bytes([*high, *low])), reason.to_owned())),
            Err(_) => Err((1007, "a close reason is not UTF-8".to_owned())),
        },
    }
}

/// Close codes that may stand in a frame (section 7.4, and IANA's registry).
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
