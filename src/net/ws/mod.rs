//! One WebSocket peer after its upgrade, in either role, over a [`Transport`].
//!
//! `frame` reads and writes single frames, by tungstenite's codec; `fragments` puts messages together;
//! `closing` is the closing handshake. This module bounds all three, remembers readiness, and tells its
//! owner the few things that matter to a relay: a message, nothing now, or the end and why (RFC 6455).
//!
//! A peer owns almost no memory. What is read lies in the [`Inbox`] that its owner lends
//! it; what is written waits in `out`, whose memory the owner may lend too
//! ([`WsPeer::lend`]). Only what has come or left in part stays with the peer.
//!
//! - **W2** After every turn the owner calls [`WsPeer::flush`]: all that is sent waits for it, but
//!   for what exceeds [`COALESCE`].

mod closing;
mod fragments;
mod frame;

use std::io::{self, ErrorKind, Read, Write};

use closing::{End, Phase};
use fragments::Fragments;
use frame::{Fault, Masks, ReceivedHeader};
use tungstenite::error::{CapacityError, ProtocolError};
pub use tungstenite::protocol::Role;
use tungstenite::protocol::frame::FrameHeader;
pub use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
pub use tungstenite::protocol::frame::{CloseFrame, Utf8Bytes};

use super::inbox::{Inbox, MessageSpan};
use super::transport::Transport;

/// Bytes of messages that wait for one write: what is sent within a turn leaves together.
const COALESCE: usize = 16 * 1024;

/// Bytes of messages that may wait behind a blocked transport, in most cases. Audio never waits
/// here (its owner asks [`WsPeer::has_room`] first), so this is room for a long talk's captions.
pub const USUAL_WAITING: usize = 128 * 1024;

/// Bytes beyond the largest message that may arrive without completing one: frame headers of a
/// fragmented message. More is a flood of empty fragments.
const FRAGMENT_OVERHEAD: u64 = 64 * 1024;

/// Sizes of one peer, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// The largest message accepted.
    pub message: usize,
    /// While more waits behind a blocked transport, no further message is taken. One may be larger: the
    /// settings of a session with many tools are.
    pub waiting: usize,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// An empty ping.
    Ping,
    /// A part of a text message (section 5.4). The simulator tests with it what a client makes of fragments.
    Fragment {
        /// Its bytes; a character may be cut.
        bytes: &'a [u8],
        /// It begins the message.
        first: bool,
        /// It ends the message.
        last: bool,
    },
}

/// The kinds of messages whose payload is written in place ([`WsPeer::send_with`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text; the payload must be UTF-8.
    Text,
    /// Binary.
    Binary,
}

/// What a peer sent. Payloads lie in the inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming<'i> {
    /// A whole text message.
    Text(&'i str),
    /// A whole binary message.
    Binary(&'i [u8]),
    /// A ping (its answer is queued) or a pong.
    Control,
    /// The peer closes, with a code and a reason or without; the answer is queued.
    Close(Option<CloseFrame>),
}

/// The same before anybody has looked whether a text is one: [`WsPeer::read_raw`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw<'i> {
    /// A whole message; a text may be no UTF-8.
    Message(Kind, &'i [u8]),
    /// As [`Incoming::Control`].
    Control,
    /// As [`Incoming::Close`].
    Close(Option<CloseFrame>),
}

/// Why no more messages come, or why one could not be sent.
#[derive(Debug)]
pub enum WsError {
    /// The closing handshake is complete.
    Closed,
    /// The connection broke without one.
    Lost(io::Error),
    /// The peer broke the protocol. Its owner may still send a last word, and then closes.
    Violation {
        /// `Protocol` (1002), `Invalid` (1007) or `Size` (1009): what the close frame will say.
        code: CloseCode,
        /// What it did.
        what: String,
    },
    /// More messages wait for this peer than the bound allows.
    Full,
}

/// One WebSocket connection.
#[derive(Debug)]
pub struct WsPeer<S> {
    transport: Transport<S>,
    role: Role,
    sizes: Sizes,
    phase: Phase,
    /// A read may find something: in the kernel, in TLS or in `rest` (R2). It is cleared only when all
    /// three are empty: the poll does not report again what it has reported once.
    readable: bool,
    /// Bytes that have come and are not taken: part of a message, or what backpressure left. At most
    /// what one turn may read and one message.
    rest: Vec<u8>,
    /// A message in fragments, as far as it has come.
    fragments: Option<Fragments>,
    /// Frames that the transport has not taken: in bytes at most `sizes.waiting`, one message, and a close
    /// frame.
    out: Vec<u8>,
    masks: Masks,
    /// `transport.received()` at the last complete message.
    message_mark: u64,
}

/// What [`WsPeer::next_frame`] took from the inbox.
enum NextFrame {
    Message(Kind, MessageSpan),
    Control,
    Close(Option<CloseFrame>),
    /// The rest has not come yet.
    Incomplete,
}

/// Code and reason of a peer's close frame, as a person is told them. The reason may be empty.
#[must_use]
pub fn said(frame: Option<CloseFrame>) -> (Option<u16>, String) {
    frame.map_or((None, String::new()), |frame| {
        (Some(frame.code.into()), frame.reason.as_str().to_owned())
    })
}

/// The kind of a message that a data frame begins.
fn kind(data: Data) -> Kind {
    if data == Data::Text { Kind::Text } else { Kind::Binary }
}

fn not_utf8() -> Fault {
    Fault::new(CloseCode::Invalid, "a text message is not UTF-8")
}

impl<S: Read + Write> WsPeer<S> {
    /// A peer whose opening handshake is done, ours being `role`. `early` are bytes that came behind
    /// the handshake.
    pub fn new(transport: Transport<S>, role: Role, sizes: Sizes, early: &[u8]) -> Self {
        Self {
            message_mark: transport.received(),
            transport,
            role,
            sizes,
            phase: Phase::Open,
            readable: true,
            rest: early.to_vec(),
            fragments: None,
            out: Vec::new(),
            masks: Masks::new(),
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

    /// The poll reported this peer, in one of these ways or several.
    pub fn mark(&mut self, readable: bool, writable: bool, ending: bool) {
        if readable {
            self.mark_readable(ending);
        }
        if writable {
            self.mark_writable();
        }
    }

    /// Whether [`read`](Self::read) may find a message without a new event (R2).
    pub fn has_more(&self) -> bool {
        self.readable && !matches!(self.phase, Phase::Leaving | Phase::Done)
    }

    /// Whether audio may be sent now without waiting behind a blocked transport.
    pub fn has_room(&self) -> bool {
        self.phase == Phase::Open && !self.transport.is_blocked() && self.out.len() < COALESCE
    }

    /// Bytes of messages that wait for the transport.
    pub fn waiting(&self) -> usize {
        self.out.len()
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

    /// Lends memory for what is sent, for a turn. [`take_back`](Self::take_back) ends that.
    pub fn lend(&mut self, memory: &mut Vec<u8>) {
        if self.out.is_empty() {
            std::mem::swap(&mut self.out, memory);
        }
    }

    /// Gives the memory back. What the transport has not taken keeps as much as it needs.
    pub fn take_back(&mut self, memory: &mut Vec<u8>) {
        if self.out.is_empty() {
            *memory = std::mem::take(&mut self.out);
        } else if memory.capacity() == 0 {
            let rest = self.out.as_slice().into();
            *memory = std::mem::replace(&mut self.out, rest);
            memory.clear();
        }
    }

    /// The next message, or `None` when there is nothing now. At the end of the owner's turn
    /// [`keep`](Self::keep) must take what is left in the inbox.
    ///
    /// # Errors
    /// [`WsError`], once; after `Violation` what comes is thrown away until the peer leaves.
    pub fn read<'i>(&mut self, inbox: &'i mut Inbox) -> Result<Option<Incoming<'i>>, WsError> {
        Ok(match self.read_raw(inbox)? {
            Some(Raw::Message(Kind::Binary, bytes)) => Some(Incoming::Binary(bytes)),
            Some(Raw::Message(Kind::Text, bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => Some(Incoming::Text(text)),
                Err(_) => return Err(self.not_text()),
            },
            Some(Raw::Control) => Some(Incoming::Control),
            Some(Raw::Close(frame)) => Some(Incoming::Close(frame)),
            None => None,
        })
    }

    /// As [`read`](Self::read), for an owner who looks at every byte of a text anyway. It calls
    /// [`not_text`](Self::not_text) when one is no UTF-8.
    ///
    /// # Errors
    /// As for `read`.
    pub fn read_raw<'i>(&mut self, inbox: &'i mut Inbox) -> Result<Option<Raw<'i>>, WsError> {
        if !self.rest.is_empty() {
            inbox.open().append(&self.rest);
            inbox.give_spare(std::mem::take(&mut self.rest));
        }
        let found = match self.phase {
            Phase::Leaving | Phase::Done => return Err(WsError::Closed),
            Phase::Broken { .. } | Phase::Draining { .. } | Phase::Closed { .. } => {
                return self.discard(inbox).map(|()| None);
            }
            Phase::Open | Phase::Closing => self.read_frames(inbox)?,
        };
        Ok(match found {
            NextFrame::Message(kind, place) => Some(Raw::Message(kind, inbox.message(place))),
            NextFrame::Control => Some(Raw::Control),
            NextFrame::Close(frame) => Some(Raw::Close(frame)),
            NextFrame::Incomplete => None,
        })
    }

    /// The text message that [`read_raw`](Self::read_raw) gave last is no UTF-8: what `read` would
    /// have said.
    pub fn not_text(&mut self) -> WsError {
        self.violation(not_utf8())
    }

    /// Takes what is left in the inbox, which is then free for another peer.
    pub fn keep(&mut self, inbox: &mut Inbox) {
        if !matches!(self.phase, Phase::Leaving | Phase::Done) && !inbox.waiting().is_empty() {
            // A peer that was not read in this turn has its rest still, and the inbox is empty.
            self.rest = inbox.take_spare();
            self.rest.extend_from_slice(inbox.waiting());
        }
        inbox.clear();
    }

    /// Queues a message. It leaves with the next [`flush`](Self::flush) at the latest.
    ///
    /// # Errors
    /// `Full` when too much waits already, `Lost` when the connection is gone, `Closed` when
    /// either side has begun to close.
    pub fn send(&mut self, message: Message<'_>) -> Result<(), WsError> {
        let (opcode, last, bytes) = match message {
            Message::Text(text) => (OpCode::Data(Data::Text), true, text.as_bytes()),
            Message::Binary(bytes) => (OpCode::Data(Data::Binary), true, bytes),
            Message::Ping => (OpCode::Control(Control::Ping), true, &[][..]),
            Message::Fragment { bytes, first, last } => {
                let data = if first { Data::Text } else { Data::Continue };
                (OpCode::Data(data), last, bytes)
            }
        };
        self.queue(opcode, last, |out| {
            out.extend_from_slice(bytes);
            Ok(())
        })
    }

    /// As [`send`](Self::send), with a payload that `fill` appends where it leaves from.
    ///
    /// # Errors
    /// Those of `send`, and those of `fill`.
    pub fn send_with<T, E: From<WsError>>(
        &mut self,
        kind: Kind,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
    ) -> Result<T, E> {
        let data = match kind {
            Kind::Text => Data::Text,
            Kind::Binary => Data::Binary,
        };
        self.queue(OpCode::Data(data), true, fill)
    }

    fn queue<T, E: From<WsError>>(
        &mut self,
        opcode: OpCode,
        last: bool,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
    ) -> Result<T, E> {
        if !matches!(self.phase, Phase::Open | Phase::Broken { .. }) {
            return Err(WsError::Closed.into());
        }
        if self.out.len() > self.sizes.waiting {
            return Err(WsError::Full.into());
        }
        let filled = self.write_frame(opcode, last, fill)?;
        if self.out.len() > COALESCE {
            self.write_out().map_err(|error| self.ended(End::Broken(error)))?;
        }
        Ok(filled)
    }

    fn write_frame<T, E>(
        &mut self,
        opcode: OpCode,
        last: bool,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mask = (self.role == Role::Client).then(|| self.masks.next());
        let header = FrameHeader { is_final: last, opcode, mask, ..FrameHeader::default() };
        frame::write(&mut self.out, &header, fill)
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
        let written = self.write_out().and_then(|()| self.transport.flush());
        written.map_err(|error| self.ended(End::Broken(error)))?;
        if self.phase == (Phase::Closed { alone: true }) && self.has_left() {
            return Err(self.ended(End::Closed));
        }
        Ok(())
    }

    fn has_left(&self) -> bool {
        self.out.is_empty() && !self.transport.is_blocked()
    }

    /// Moves what waits into the transport, until it takes no more.
    fn write_out(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let mut taken = 0;
        let result = loop {
            if taken == self.out.len() {
                break Ok(());
            }
            match self.transport.write(&self.out[taken..]) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(count) => taken += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if taken == self.out.len() {
            self.out.clear();
        } else {
            self.out.drain(..taken);
        }
        result
    }

    fn read_frames(&mut self, inbox: &mut Inbox) -> Result<NextFrame, WsError> {
        loop {
            match self.next_frame(inbox) {
                Ok(Some(NextFrame::Incomplete)) => {}
                Ok(Some(found)) => {
                    self.message_mark = self.transport.received();
                    // That saves its owner the reading that would find nothing.
                    self.readable = !inbox.waiting().is_empty() || self.transport.may_fill();
                    return Ok(found);
                }
                // A fragment: the next frame may be there.
                Ok(None) => continue,
                Err(fault) => return Err(self.violation(fault)),
            }
            if !self.transport.may_fill() {
                return self.nothing_now().map(|()| NextFrame::Incomplete);
            }
            match self.transport.fill(inbox) {
                Ok(0) => return Err(self.ended(End::Left)),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.nothing_now().map(|()| NextFrame::Incomplete);
                }
                Err(error) => return Err(self.ended(End::Broken(error))),
            }
        }
    }

    /// Takes the first frame in the inbox, if it is whole; `None` for one that completes nothing.
    fn next_frame(&mut self, inbox: &mut Inbox) -> Result<Option<NextFrame>, Fault> {
        let Some(head) = frame::read_header(inbox.waiting(), self.role)? else {
            return Ok(Some(NextFrame::Incomplete));
        };
        let length = self.check(&head)?;
        if inbox.waiting().len() < head.size + length {
            return Ok(Some(NextFrame::Incomplete));
        }
        let place = inbox.take(head.size, length);
        if let Some(key) = head.header.mask {
            frame::mask(inbox.slice(place.clone()), key);
        }
        let payload = inbox.slice(place.clone());
        match (head.header.opcode, head.header.is_final) {
            (OpCode::Control(control), _) => self.on_control(control, payload).map(Some),
            (OpCode::Data(Data::Continue), last) => self.continue_fragments(last, inbox, place),
            (OpCode::Data(data), true) => {
                Ok(Some(NextFrame::Message(kind(data), MessageSpan::Frame(place))))
            }
            (OpCode::Data(data), false) => self.begin_fragments(kind(data), payload),
        }
    }

    fn on_control(&mut self, control: Control, payload: &[u8]) -> Result<NextFrame, Fault> {
        match control {
            Control::Close => return self.on_close(payload),
            Control::Ping => self.answer_ping(payload),
            // Nothing waits for a pong: the keep-alive takes any frame for a sign of life.
            Control::Pong | Control::Reserved(_) => {}
        }
        Ok(NextFrame::Control)
    }

    /// Whether a frame of this kind may come now and be so long; the bytes of its payload. It is asked
    /// before the payload has come, so that a message over the bound is never waited for.
    fn check(&self, head: &ReceivedHeader) -> Result<usize, Fault> {
        let begun = match (head.header.opcode, &self.fragments) {
            (OpCode::Data(Data::Continue), None) => {
                return Err(ProtocolError::UnexpectedContinueFrame.into());
            }
            (OpCode::Data(Data::Continue), Some(begun)) => begun.len(),
            (OpCode::Data(data), Some(_)) => {
                return Err(ProtocolError::ExpectedFragment(data).into());
            }
            _ => 0,
        };
        let max_size = self.sizes.message;
        match usize::try_from(head.length) {
            Ok(length) if length <= max_size - begun => Ok(length),
            length => {
                let size = length.unwrap_or(usize::MAX).saturating_add(begun);
                Err(CapacityError::MessageTooLong { size, max_size }.into())
            }
        }
    }

    /// Only the latest ping needs an answer (section 5.5.3). So an answer that finds no room is left
    /// out, and a peer that sends pings and reads nothing fills no memory.
    fn answer_ping(&mut self, payload: &[u8]) {
        if self.phase == Phase::Open {
            let _ = self.queue(OpCode::Control(Control::Pong), true, |out| {
                out.extend_from_slice(payload);
                Ok::<_, WsError>(())
            });
        }
    }

    fn nothing_now(&mut self) -> Result<(), WsError> {
        self.readable = self.transport.has_more();
        let silent = self.transport.received().saturating_sub(self.message_mark);
        if silent > self.sizes.message as u64 + FRAGMENT_OVERHEAD {
            let fault = Fault::new(CloseCode::Size, "a message has too many fragments");
            return Err(self.violation(fault));
        }
        Ok(())
    }
}
