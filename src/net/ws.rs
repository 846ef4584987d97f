//! One WebSocket peer after its upgrade, in either role, over a [`Transport`].
//!
//! tungstenite does the framing; this file bounds it, remembers readiness, and turns its errors
//! into the few things that matter to a relay: a message, nothing now, or the end and why.
//!
//! - **W2** After every turn the owner calls [`WsPeer::flush`]: pongs and close frames wait
//!   inside tungstenite until then.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use bytes::Bytes;
use mio::net::TcpStream;
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Message, Utf8Bytes};

use super::transport::Transport;

/// Bytes of messages that wait for one write: what is sent within a turn leaves together.
const COALESCE: usize = 16 * 1024;

/// Bytes of messages that may wait behind a blocked transport, in most cases. Audio never waits
/// here (its owner asks [`WsPeer::has_room`] first), so this is room for a long talk's captions.
pub const USUAL_WAITING: usize = 128 * 1024;

/// Bytes beyond the largest message that may arrive without completing one: frame headers of a
/// fragmented message. More is a flood of empty fragments.
const FRAGMENT_OVERHEAD: u64 = 64 * 1024;

/// The longest close reason (RFC 6455, section 5.5: a control frame holds 125 bytes).
const MAX_REASON: usize = 123;

/// Sizes of one peer's buffers, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// What is read from the transport at once.
    pub read: usize,
    /// The largest message accepted.
    pub message: usize,
    /// What may wait behind a blocked transport; also the largest message sent.
    pub waiting: usize,
}

/// What a peer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A whole text message.
    Text(Utf8Bytes),
    /// A whole binary message.
    Binary(Bytes),
    /// A ping (already answered) or a pong.
    Control,
    /// The peer closes; the answer is queued.
    Close {
        /// Its close code, if it gave one.
        code: Option<u16>,
        /// Its reason, possibly empty.
        reason: Utf8Bytes,
    },
}

/// Why no more messages come.
#[derive(Debug)]
pub enum WsError {
    /// The closing handshake is complete.
    Closed,
    /// The connection broke without one.
    Lost(io::Error),
    /// The peer broke the protocol. Its owner may still send a last word, and then closes.
    Violation {
        /// 1002, 1007 or 1009: what the close frame will say.
        code: u16,
        /// What it did.
        what: String,
    },
    /// More messages wait for this peer than the bound allows.
    Full,
}

/// How far the closing has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Messages flow both ways.
    Open,
    /// The peer broke the protocol: nothing of it is heard any more, and the close frame, which
    /// will carry this code, is not sent yet.
    Broken { code: u16 },
    /// Our close frame is sent; the peer's is awaited.
    Closing,
    /// The peer's bytes make no sense any more: they are read and thrown away until it leaves, so
    /// that our close frame is not lost to a reset. Our own side is `ended` once that has left.
    Draining { ended: bool },
    /// Both directions are over, but TLS holds bytes that the kernel has not taken, our close frame
    /// perhaps. The owner bounds how long they may take.
    Leaving,
    /// Nothing more will be read.
    Done,
}

/// One WebSocket connection.
#[derive(Debug)]
pub struct WsPeer<S> {
    transport: Transport<S>,
    context: WebSocketContext,
    role: Role,
    phase: Phase,
    /// The peer's close frame has been read.
    heard_close: bool,
    /// A read may find something: in the kernel, in TLS or in tungstenite (R2).
    readable: bool,
    /// Bytes sent since everything was last flushed.
    unflushed: usize,
    /// `transport.received()` at the last complete message.
    message_mark: u64,
    max_silent_bytes: u64,
}

impl<S: Read + Write> WsPeer<S> {
    /// A peer whose opening handshake is done. `early` are bytes that came behind the handshake.
    pub fn new(transport: Transport<S>, role: Role, sizes: Sizes, early: &[u8]) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(sizes.read)
            .write_buffer_size(COALESCE)
            .max_write_buffer_size(sizes.waiting)
            .max_message_size(Some(sizes.message))
            .max_frame_size(Some(sizes.message));
        let context = if early.is_empty() {
            WebSocketContext::new(role, Some(config))
        } else {
            WebSocketContext::from_partially_read(early.to_vec(), role, Some(config))
        };
        Self {
            message_mark: transport.received(),
            transport,
            context,
            role,
            phase: Phase::Open,
            heard_close: false,
            readable: true,
            unflushed: 0,
            max_silent_bytes: sizes.message as u64 + FRAGMENT_OVERHEAD,
        }
    }

    /// The transport underneath.
    pub fn transport(&self) -> &Transport<S> {
        &self.transport
    }

    /// The transport underneath, for registration.
    pub fn transport_mut(&mut self) -> &mut Transport<S> {
        &mut self.transport
    }

    /// The poll reported this peer readable.
    pub fn mark_readable(&mut self, ending: bool) {
        self.readable = true;
        self.transport.mark_readable(ending);
    }

    /// The poll reported this peer writable.
    pub fn mark_writable(&mut self) {
        self.transport.mark_writable();
    }

    /// Whether [`read`](Self::read) may find a message without a new event (R2).
    pub fn has_more(&self) -> bool {
        self.readable && !matches!(self.phase, Phase::Leaving | Phase::Done)
    }

    /// Whether audio may be sent now without waiting behind a blocked transport.
    pub fn has_room(&self) -> bool {
        self.phase == Phase::Open && !self.transport.is_blocked() && self.unflushed < COALESCE
    }

    /// Whether messages can still be sent.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether both directions are over and nothing is left to send.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Whether both directions are over, and only what was sent has still to reach the kernel.
    pub fn is_leaving(&self) -> bool {
        self.phase == Phase::Leaving
    }

    /// The next message, or `None` when there is nothing now.
    ///
    /// # Errors
    /// [`WsError`], once; after `Violation` what comes is thrown away until the peer leaves.
    pub fn read(&mut self) -> Result<Option<Incoming>, WsError> {
        match self.phase {
            Phase::Leaving | Phase::Done => return Err(WsError::Closed),
            Phase::Broken { .. } | Phase::Draining { .. } => return self.discard(),
            // A server's last read would end the connection, whatever still waits to be sent.
            Phase::Open | Phase::Closing if self.heard_close && self.role == Role::Server => {
                return self.discard();
            }
            Phase::Open | Phase::Closing => {}
        }
        match self.context.read(&mut self.transport) {
            Ok(message) => {
                self.message_mark = self.transport.received();
                self.heard_close |= message.is_close();
                Ok(Some(incoming(message)))
            }
            Err(error) => self.read_failed(error),
        }
    }

    /// Queues a message. It leaves with the next [`flush`](Self::flush) at the latest.
    ///
    /// # Errors
    /// `Full` when too much waits already, `Lost` when the connection is gone, `Closed` when
    /// either side has begun to close.
    pub fn send(&mut self, message: Message) -> Result<(), WsError> {
        let open = matches!(self.phase, Phase::Open | Phase::Broken { .. });
        if !open || !self.context.can_write() {
            return Err(WsError::Closed);
        }
        let bytes = message.len();
        match self.context.write(&mut self.transport, message) {
            Ok(()) => {}
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
            Err(Error::WriteBufferFull(_)) => return Err(WsError::Full),
            Err(error) => return Err(self.ended(error)),
        }
        self.unflushed += bytes;
        Ok(())
    }

    /// Hands everything that waits to the kernel, as far as it takes it.
    ///
    /// # Errors
    /// `Lost` or `Closed` when the connection is over.
    pub fn flush(&mut self) -> Result<(), WsError> {
        match self.phase {
            Phase::Done => return Ok(()),
            Phase::Leaving => {
                self.leave();
                return Ok(());
            }
            _ => {}
        }
        match self.context.flush(&mut self.transport) {
            Ok(()) => {
                self.unflushed = 0;
                Ok(())
            }
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(self.ended(error)),
        }
    }

    /// Begins the closing handshake with a code and a reason (cut to what a frame holds). A peer
    /// that broke the protocol is told the code of that instead.
    pub fn close(&mut self, code: u16, reason: &str) {
        let (code, next) = match self.phase {
            Phase::Open => (code, Phase::Closing),
            Phase::Broken { code } => (code, Phase::Draining { ended: false }),
            Phase::Closing | Phase::Draining { .. } | Phase::Leaving | Phase::Done => return,
        };
        self.phase = next;
        self.queue_close(code, reason);
    }

    fn queue_close(&mut self, code: u16, reason: &str) {
        let mut end = reason.len().min(MAX_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason[..end].into() };
        // 1005 stands for "no code" and must not be sent (RFC 6455, section 7.4.1).
        let frame = (code != 1005).then_some(frame);
        // A failure here shows at the next read or flush, where it is handled.
        let _ = self.context.close(&mut self.transport, frame);
    }

    fn read_failed(&mut self, error: Error) -> Result<Option<Incoming>, WsError> {
        let (code, what) = match error {
            Error::Io(error) if error.kind() == ErrorKind::WouldBlock => return self.nothing_now(),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                return Err(self.ended(error));
            }
            Error::Capacity(CapacityError::MessageTooLong { max_size, .. }) => {
                (1009, format!("a message is longer than {max_size} bytes"))
            }
            Error::Utf8(_) => (1007, "a text message is not UTF-8".to_owned()),
            Error::Protocol(error) => (1002, error.to_string()),
            Error::Capacity(error) => (1009, error.to_string()),
            error => return Err(self.ended(error)),
        };
        Err(self.violation(code, what))
    }

    fn nothing_now(&mut self) -> Result<Option<Incoming>, WsError> {
        self.readable = self.transport.has_more();
        let silent = self.transport.received().saturating_sub(self.message_mark);
        if silent > self.max_silent_bytes {
            return Err(self.violation(1009, "a message has too many fragments".to_owned()));
        }
        Ok(None)
    }

    fn violation(&mut self, code: u16, what: String) -> WsError {
        self.phase = match self.phase {
            Phase::Open => Phase::Broken { code },
            _ => Phase::Draining { ended: false },
        };
        WsError::Violation { code, what }
    }

    fn discard(&mut self) -> Result<Option<Incoming>, WsError> {
        let mut scratch = [0; 4096];
        loop {
            match self.transport.read(&mut scratch) {
                // Who has said goodbye may end its side; our answer is still under way.
                Ok(0) if matches!(self.phase, Phase::Open | Phase::Closing) => {
                    self.readable = false;
                    return Ok(None);
                }
                Ok(0) => return Err(self.ended(Error::ConnectionClosed)),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = self.transport.has_more();
                    return Ok(None);
                }
                Err(error) => return Err(self.ended(Error::Io(error))),
            }
        }
    }

    /// Nothing more is heard or said; what TLS still holds may leave.
    fn leave(&mut self) {
        let flushed = self.transport.flush().is_ok();
        let left = !flushed || !self.transport.holds_output();
        self.phase = if left { Phase::Done } else { Phase::Leaving };
    }

    fn ended(&mut self, error: Error) -> WsError {
        let closing = self.phase != Phase::Open;
        self.phase = Phase::Done;
        if matches!(error, Error::ConnectionClosed | Error::AlreadyClosed) {
            // For tungstenite the last frame has left as soon as TLS has taken it.
            self.transport.send_close_notify();
            self.leave();
        }
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed => WsError::Closed,
            _ if closing => WsError::Closed,
            Error::Io(error) => WsError::Lost(error),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                WsError::Lost(ErrorKind::UnexpectedEof.into())
            }
            error => WsError::Lost(io::Error::other(error.to_string())),
        }
    }
}

impl WsPeer<TcpStream> {
    /// Ends our side towards a peer that broke the protocol, once the close frame has left: it
    /// cannot answer that frame in words we would understand, so it shall not wait for us.
    pub fn end_output(&mut self) {
        let left = self.unflushed == 0 && !self.transport.is_blocked();
        if self.phase == (Phase::Draining { ended: false }) && left {
            self.phase = Phase::Draining { ended: true };
            self.transport.send_close_notify();
            // A failure shows at the next read.
            let _ = self.transport.flush();
            let _ = self.transport.stream().shutdown(Shutdown::Write);
        }
    }
}

fn incoming(message: Message) -> Incoming {
    match message {
        Message::Text(text) => Incoming::Text(text),
        Message::Binary(data) => Incoming::Binary(data),
        Message::Close(frame) => Incoming::Close {
            code: frame.as_ref().map(|frame| frame.code.into()),
            reason: frame.map(|frame| frame.reason).unwrap_or_default(),
        },
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Incoming::Control,
    }
}
