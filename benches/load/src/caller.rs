//! One caller: sends its stream of audio to a relay's `/ws` and checks every byte that comes back.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;

use crate::frame;
use crate::pattern::Pattern;
use crate::service::send;

/// Bytes of PCM in 20 ms.
pub(crate) const FRAME: usize = 960;

/// Bytes that may wait for a relay that takes nothing before the call counts as failed.
const MAX_WAITING: usize = 1 << 20;

/// A call from the outside.
pub(crate) struct Caller {
    pub(crate) socket: TcpStream,
    call: usize,
    /// What came and is not yet a whole head (HTTP or frame).
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    state: State,
    sent: u64,
    received: u64,
    /// When each frame that is still out was sent.
    out: VecDeque<Sent>,
}

/// A frame's departure.
#[derive(Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) at: Instant,
    /// How long this process had waited for its core by then, in nanoseconds.
    pub(crate) waited: u64,
}

enum State {
    /// The upgrade is not answered yet.
    Upgrading,
    /// Between frames.
    Head,
    /// Within one: its opcode, and how much is still to come.
    Payload(u8, usize),
}

impl Caller {
    pub(crate) fn new(call: usize, socket: TcpStream, relay: SocketAddr) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let outbox = frame::request(&relay.to_string(), "/ws", "").into_bytes();
        Ok(Self {
            socket,
            call,
            inbox: Vec::new(),
            outbox,
            state: State::Upgrading,
            sent: 0,
            received: 0,
            out: VecDeque::with_capacity(64),
        })
    }

    pub(crate) fn upgraded(&self) -> bool {
        !matches!(self.state, State::Upgrading)
    }

    /// Frames sent whose audio has not come back whole.
    pub(crate) fn outstanding(&self) -> usize {
        self.out.len()
    }

    /// Sends the next 20 ms.
    pub(crate) fn speak(&mut self, pattern: &Pattern, now: Sent) -> io::Result<()> {
        frame::head(&mut self.outbox, frame::BINARY, FRAME, Some(frame::MASK));
        let start = self.outbox.len();
        pattern.append(self.call, self.sent, FRAME, &mut self.outbox);
        frame::mask(&mut self.outbox[start..], frame::MASK);
        self.sent += FRAME as u64;
        self.out.push_back(now);
        if self.outbox.len() > MAX_WAITING {
            return Err(io::Error::other("the relay takes nothing"));
        }
        self.flush()
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        send(&mut self.socket, &mut self.outbox)
    }

    /// Ends the call with a close frame.
    pub(crate) fn hang_up(&mut self) -> io::Result<()> {
        frame::head(&mut self.outbox, frame::CLOSE, 2, Some([0; 4]));
        self.outbox.extend_from_slice(&1_000_u16.to_be_bytes());
        self.flush()
    }

    /// The poll reported it readable. `echoed` hears when each frame that is back had been sent.
    pub(crate) fn readable(
        &mut self,
        buffer: &mut [u8],
        pattern: &Pattern,
        mut echoed: impl FnMut(Sent),
    ) -> io::Result<()> {
        loop {
            let count = match self.socket.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            self.take(&buffer[..count], pattern, &mut echoed)?;
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    fn take(
        &mut self,
        data: &[u8],
        pattern: &Pattern,
        echoed: &mut impl FnMut(Sent),
    ) -> io::Result<()> {
        let joined;
        let mut data = data;
        if !self.inbox.is_empty() {
            self.inbox.extend_from_slice(data);
            joined = std::mem::take(&mut self.inbox);
            data = &joined;
        }
        while !data.is_empty() {
            match self.state {
                State::Upgrading => {
                    let Some(end) = frame::head_end(data) else { break };
                    if !data.starts_with(b"HTTP/1.1 101") {
                        let head = String::from_utf8_lossy(data).into_owned();
                        return Err(io::Error::other(format!("refused: {head}")));
                    }
                    data = &data[end..];
                    self.state = State::Head;
                }
                State::Head => {
                    let Some(head) = frame::Head::parse(data) else { break };
                    data = &data[head.bytes..];
                    self.state = State::Payload(head.opcode, head.payload);
                    if head.opcode == frame::CLOSE {
                        return Err(io::Error::other("the relay closed the call"));
                    }
                    if head.opcode == frame::PING {
                        frame::head(&mut self.outbox, frame::PONG, 0, Some(frame::MASK));
                        self.flush()?;
                    }
                    self.next_payload(0);
                }
                State::Payload(opcode, left) => {
                    let part = &data[..left.min(data.len())];
                    data = &data[part.len()..];
                    if opcode == frame::BINARY || opcode == 0 {
                        self.hear(part, pattern, echoed)?;
                    }
                    self.next_payload(part.len());
                }
            }
        }
        self.inbox.extend_from_slice(data);
        Ok(())
    }

    /// Steps on within a payload, or over its end.
    fn next_payload(&mut self, taken: usize) {
        if let State::Payload(opcode, left) = self.state {
            let left = left - taken;
            self.state = if left == 0 { State::Head } else { State::Payload(opcode, left) };
        }
    }

    fn hear(
        &mut self,
        audio: &[u8],
        pattern: &Pattern,
        echoed: &mut impl FnMut(Sent),
    ) -> io::Result<()> {
        if !pattern.matches(self.call, self.received, audio) {
            return Err(io::Error::other("the audio that came back is not what was sent"));
        }
        let before = self.received / FRAME as u64;
        self.received += audio.len() as u64;
        for _ in before..self.received / FRAME as u64 {
            match self.out.pop_front() {
                Some(sent) => echoed(sent),
                None => return Err(io::Error::other("more audio came back than was sent")),
            }
        }
        Ok(())
    }
}
