//! The simulated service's socket shell: one WebSocket and its [`Simulation`].
//!
//! It runs in the daemon's own loop. Both directions are bounded: replies are made only when the
//! socket takes them, and the socket is not read while answers wait. The faults that concern bytes
//! and not events are here: fragments, trickle, reset, no pong.

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::net::TcpStream;

use crate::net::inbox::Inbox;
use crate::net::transport::Transport;
use crate::net::ws::{Incoming, Message, Role, Sizes, USUAL_WAITING, WsError, WsPeer};
use crate::session::Progress;
use crate::simulator::{Action, Admission, MAX_BIG_MESSAGE, Options, Simulation};

/// Bounds, in bytes: the public SDKs append up to seconds of audio at once.
/// The script's biggest message has to leave in one piece.
const SIZES: Sizes = Sizes { message: 4 * 1024 * 1024, waiting: MAX_BIG_MESSAGE + USUAL_WAITING };

/// Messages taken from or given to the peer in one turn.
const TURN_MESSAGES: usize = 64;

/// Bytes of one fragment under the `fragments` fault.
const FRAGMENT: usize = 1000;

/// Bytes of one fragment, and the time between two, under the `trickle` fault.
const TRICKLE: (usize, Duration) = (200, Duration::from_millis(1));

/// How long the closing handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// One connection to the simulated service.
#[allow(missing_debug_implementations, reason = "the options hold a key")]
pub struct SimulatedService {
    peer: WsPeer<TcpStream>,
    simulation: Simulation,
    options: Rc<Options>,
    /// A message that leaves bit by bit, and how much of it has left.
    pieces: Option<(String, usize)>,
    next_piece: Option<Instant>,
    /// Bytes of messages sent so far.
    sent: u64,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// In conversation.
    Open,
    /// The closing handshake runs.
    Closing(Instant),
    /// Nothing moves any more, as if the cable were cut (the `no-pong` fault).
    Frozen,
    /// Over.
    Done,
}

impl SimulatedService {
    /// A service for a client whose upgrade was answered.
    #[must_use]
    pub fn new(
        transport: Transport<TcpStream>,
        early: &[u8],
        options: Rc<Options>,
        admission: Admission,
        now: Instant,
    ) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let id = u64::try_from(since_1970.as_micros()).unwrap_or_default();
        let simulation =
            Simulation::new(Rc::clone(&options), admission, id, now, since_1970.as_secs());
        log::info!(
            "[{}] simulator: a client has connected; this is not the real model",
            simulation.session_id()
        );
        let peer = WsPeer::new(transport, Role::Server, SIZES, early);
        Self {
            peer,
            simulation,
            options,
            pieces: None,
            next_piece: None,
            sent: 0,
            phase: Phase::Open,
        }
    }

    /// The poll reported the socket.
    pub fn mark(&mut self, readable: bool, writable: bool, ending: bool) {
        if readable {
            self.peer.mark_readable(ending);
        }
        if writable {
            self.peer.mark_writable();
        }
    }

    /// When [`pump`](Self::pump) must be called again at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open if self.peer.transport().is_blocked() => None,
            Phase::Open => {
                [self.simulation.deadline(), self.next_piece].into_iter().flatten().min()
            }
            Phase::Closing(deadline) => Some(deadline),
            Phase::Frozen | Phase::Done => None,
        }
    }

    /// One turn: read, answer, flush.
    pub fn pump(&mut self, inbox: &mut Inbox, now: Instant) -> Progress {
        if self.phase == Phase::Frozen {
            return Progress::Idle;
        }
        self.peer.transport_mut().begin_turn();
        let heard = self.read(inbox, now);
        self.peer.keep(inbox);
        let result = heard.and_then(|()| self.write(now)).and_then(|()| self.flush());
        if let Err(WsError::Violation { code, .. }) = &result {
            self.peer.close(*code, "");
        }
        if self.phase != Phase::Frozen {
            self.peer.end_output();
        }
        // TLS may still hold the close frame.
        let leaving = matches!(self.phase, Phase::Closing(_)) && self.peer.is_leaving();
        let ended = result.is_err() && !leaving;
        let late = matches!(self.phase, Phase::Closing(deadline) if now >= deadline);
        if (ended && self.phase != Phase::Frozen) || late || self.phase == Phase::Done {
            log::info!("[{}] simulator: the client has gone", self.simulation.session_id());
            return Progress::Closed;
        }
        let readable = self.peer.has_more() && !self.simulation.congested();
        if readable && self.phase != Phase::Frozen { Progress::More } else { Progress::Idle }
    }

    fn read(&mut self, inbox: &mut Inbox, now: Instant) -> Result<(), WsError> {
        for _ in 0..TURN_MESSAGES {
            if self.simulation.congested() {
                break;
            }
            match self.peer.read(inbox)? {
                Some(Incoming::Text(text)) => self.simulation.handle_text(text, now),
                Some(Incoming::Binary(data)) => self.simulation.handle_binary(data, now),
                Some(Incoming::Control) if self.options.script.no_pong => {
                    // With this fault the pong stays inside the WebSocket.
                    self.phase = Phase::Frozen;
                    break;
                }
                Some(Incoming::Control) => {}
                Some(Incoming::Close(_)) => self.phase = Phase::Closing(now + CLOSE_TIMEOUT),
                None => break,
            }
        }
        Ok(())
    }

    fn write(&mut self, now: Instant) -> Result<(), WsError> {
        for _ in 0..TURN_MESSAGES {
            if self.phase != Phase::Open || !self.has_room()? || !self.send_pieces(now)? {
                return Ok(());
            }
            let Some(action) = self.simulation.poll(now) else {
                return Ok(());
            };
            self.act(action, now)?;
        }
        Ok(())
    }

    /// Whether the socket takes more; the simulation only makes what can leave.
    fn has_room(&mut self) -> Result<bool, WsError> {
        if !self.peer.has_room() && !self.peer.transport().is_blocked() {
            self.peer.flush()?;
        }
        Ok(self.peer.has_room())
    }

    fn act(&mut self, action: Action, now: Instant) -> Result<(), WsError> {
        match action {
            Action::Send(text) => match self.left_of(text.len()) {
                Some(left) => self.drop_within(&text.as_bytes()[..left], now),
                None => self.send(text),
            },
            Action::SendBinary(data) => self.peer.send(Message::Binary(&data)),
            Action::Ping => self.peer.send(Message::Ping),
            Action::Close { code, reason } => {
                self.peer.close(code.unwrap_or(1005), &reason);
                self.phase = Phase::Closing(now + CLOSE_TIMEOUT);
                Ok(())
            }
            Action::Reset => {
                self.reset();
                Ok(())
            }
        }
    }

    /// Without lingering the kernel drops waiting bytes and sends a reset.
    fn reset(&mut self) {
        let socket = socket2::SockRef::from(self.peer.transport().stream());
        let _ = socket.set_linger(Some(Duration::ZERO));
        self.phase = Phase::Done;
    }

    /// How much of the next message leaves before the script drops the connection; `None` for all of it.
    fn left_of(&mut self, length: usize) -> Option<usize> {
        let Options { script, outages, .. } = &*self.options;
        let at = script.drop_at.filter(|_| outages.may_end(script))?;
        let left = usize::try_from(at.saturating_sub(self.sent)).unwrap_or(usize::MAX);
        self.sent += length as u64;
        (left < length).then_some(left)
    }

    /// Sends the beginning of a message, and resets the connection.
    fn drop_within(&mut self, bytes: &[u8], now: Instant) -> Result<(), WsError> {
        self.options.outages.ended(&self.options.script, now);
        let sent = self.peer.send(Message::Fragment { bytes, first: true, last: false });
        let flushed = sent.and_then(|()| self.flush());
        self.reset();
        flushed
    }

    fn send(&mut self, text: String) -> Result<(), WsError> {
        if self.piece_size().is_none() {
            return self.peer.send(Message::Text(&text));
        }
        self.pieces = Some((text, 0));
        Ok(())
    }

    fn piece_size(&self) -> Option<usize> {
        let script = &self.options.script;
        if script.trickle { Some(TRICKLE.0) } else { script.fragments.then_some(FRAGMENT) }
    }

    /// Sends the rest of a message in pieces; false while some must wait.
    fn send_pieces(&mut self, now: Instant) -> Result<bool, WsError> {
        let trickle = self.options.script.trickle;
        let size = self.piece_size().unwrap_or(FRAGMENT);
        while let Some((text, from)) = &mut self.pieces {
            if trickle && self.next_piece.is_some_and(|at| now < at) {
                return Ok(false);
            }
            let to = text.len().min(*from + size);
            let bytes = &text.as_bytes()[*from..to];
            let (first, last) = (*from == 0, to == text.len());
            self.peer.send(Message::Fragment { bytes, first, last })?;
            *from = to;
            if last {
                self.pieces = None;
            }
            self.next_piece = trickle.then_some(now + TRICKLE.1);
        }
        self.next_piece = None;
        Ok(true)
    }

    fn flush(&mut self) -> Result<(), WsError> {
        if self.phase == Phase::Frozen { Ok(()) } else { self.peer.flush() }
    }
}
