//! One WebSocket connection driven by a command. It has a poll of its own, which may wait, because
//! a person waits for the command. The daemon's loop (`server`) has many connections and never
//! waits for one of them.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use crate::net::dial::{Dial, DialError, Progress, ProxyFault, Step, Target};
use crate::net::inbox::Inbox;
use crate::net::ws::{Incoming, Message, Sizes, WsError, WsPeer, said};
use crate::system::child::{Child, Outcome};

const SOCKET: Token = Token(0);
const SIGNALS: Token = Token(1);

/// The signals that end a command in order.
const STOP_SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// How often a child is looked at whose pipes are quiet.
const CHILD_INTERVAL: Duration = Duration::from_millis(10);

/// How long the other side may take to answer our close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What [`Drive::next`] returns.
#[derive(Debug)]
pub(super) enum Event {
    /// A whole text message.
    Text(String),
    /// A whole binary message.
    Binary(Vec<u8>),
    /// The deadline has passed.
    Deadline,
    /// The user wants to stop; only after [`Drive::watch_signals`].
    Signal,
    /// The connection is over. Do not call `next` again.
    Ended(Ended),
}

/// How a connection came to its end.
#[derive(Debug)]
pub(super) enum Ended {
    /// The other side closed it.
    Closed {
        /// Its close code, if it gave one.
        code: Option<u16>,
        /// Its reason, possibly empty; any text the other side likes.
        reason: String,
    },
    /// It broke.
    Lost(io::Error),
    /// The other side broke the protocol; this is what it did.
    Violation(String),
}

/// What [`Drive::connect`] tells of the way.
#[derive(Debug)]
pub(super) enum Way {
    /// This step is done, at this address. When another address gets further than the one that was told
    /// of, its steps follow from the first one.
    Done(Step, Option<SocketAddr>),
    /// An address is late or was given up, and another one is tried; a clause.
    Setback(String),
}

/// An open WebSocket.
#[allow(missing_debug_implementations, reason = "signals have none")]
pub(super) struct Drive {
    poll: Poll,
    events: Events,
    peer: WsPeer<TcpStream>,
    inbox: Inbox,
    signals: Option<Signals>,
    stop: bool,
}

/// The addresses of a host, from the system's resolver. May block for many seconds.
///
/// # Errors
/// What the resolver says.
pub(super) fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<_> = (host, port).to_socket_addrs()?.collect();
    log::debug!("{host} has the addresses {found:?}");
    Ok(found)
}

/// The step that the attempt had reached when it failed, if the error tells.
fn failed_at(error: &DialError) -> Option<Step> {
    match error {
        DialError::Proxy(_, ProxyFault::Unreachable(_)) => None,
        DialError::Proxy(..) => Some(Step::Tunnel),
        DialError::Tls(_) => Some(Step::Tls),
        DialError::Refused(..) | DialError::Invalid(_) => Some(Step::Upgrade),
        DialError::Connect(_)
        | DialError::Broken(_)
        | DialError::Timeout(_)
        | DialError::Internal(_) => None,
    }
}

impl Drive {
    /// Connects, and returns when the WebSocket is open or the attempt has failed. `request_id` is the
    /// one that the service is told, or empty. `on_way` is told what happens.
    ///
    /// # Errors
    /// As for every [`Dial`]; also `Internal`, when the system gives no poll.
    pub(super) fn connect(
        target: Rc<Target>,
        addresses: Vec<SocketAddr>,
        request_id: String,
        sizes: Sizes,
        mut on_way: impl FnMut(Way),
    ) -> Result<Self, DialError> {
        let mut poll = Poll::new().map_err(internal)?;
        let mut events = Events::with_capacity(8);
        let steps = [
            (true, Step::Connect),
            (target.proxy.is_some(), Step::Tunnel),
            (target.tls.is_some(), Step::Tls),
            (true, Step::Upgrade),
        ];
        let mut dial = Dial::new(target, addresses, request_id, sizes, Instant::now());
        let (mut step, mut leader) = (Step::Connect, None);
        loop {
            let progress = dial.advance(Instant::now());
            while let Some(setback) = dial.take_setback() {
                log::debug!("{setback}");
                on_way(Way::Setback(setback.to_string()));
            }
            let reached = match &progress {
                // With several addresses the error may be of an earlier one.
                Progress::Failed(error) if dial.addresses().len() == 1 => {
                    failed_at(error).unwrap_or(step)
                }
                Progress::Failed(_) => step,
                _ => dial.step(),
            };
            if reached > Step::Connect && leader != dial.address() {
                (step, leader) = (Step::Connect, dial.address());
            }
            // What a near server answers may be over before it was looked at.
            for (is_part, done) in steps {
                if is_part && (step..reached).contains(&done) {
                    log::debug!("done: {done:?}, {leader:?}");
                    on_way(Way::Done(done, leader));
                }
            }
            step = reached;
            match progress {
                Progress::Pending => {}
                Progress::NewSocket => {
                    if let Some(socket) = dial.socket() {
                        register(&poll, socket).map_err(internal)?;
                    }
                }
                Progress::Open(peer) => {
                    let inbox = Inbox::new();
                    return Ok(Self { poll, events, peer, inbox, signals: None, stop: false });
                }
                Progress::Failed(error) => return Err(error),
            }
            wait(&mut poll, &mut events, dial.deadline()).map_err(internal)?;
            for event in &events {
                dial.mark(event.is_readable(), event.is_writable(), event.is_read_closed());
            }
        }
    }

    /// The TLS version and cipher of the connection, for people; `None` without TLS.
    pub(super) fn agreed(&self) -> Option<String> {
        self.peer.transport().agreed()
    }

    /// From now on SIGINT and SIGTERM are events and no longer end the process.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn watch_signals(&mut self) -> io::Result<()> {
        let mut signals = Signals::new(STOP_SIGNALS)?;
        self.poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// Goes on with another connection in place of this one, which is over or counts as over. The signals
    /// are watched as before.
    pub(super) fn become_next(&mut self, next: Self) {
        let old = std::mem::replace(self, next);
        self.stop = old.stop;
        if let Some(mut signals) = old.signals {
            // A signal that is watched no more is a nuisance, and no reason to end a call.
            let _ = old.poll.registry().deregister(&mut signals);
            let _ = self.poll.registry().register(&mut signals, SIGNALS, Interest::READABLE);
            self.signals = Some(signals);
        }
    }

    /// Waits without looking at the connection, which may be over. Returns whether the user wants to
    /// stop.
    pub(super) fn rest(&mut self, until: Instant) -> bool {
        while !self.stop && Instant::now() < until && self.wait_for_events(until).is_ok() {}
        std::mem::take(&mut self.stop)
    }

    /// Sends what waits and returns with the next event. A deadline that has passed comes before
    /// any message, so a flood of messages cannot delay the caller's timed work.
    pub(super) fn next(&mut self, deadline: Instant) -> Event {
        loop {
            if let Err(error) = self.peer.flush() {
                return Event::Ended(ended(error));
            }
            if std::mem::take(&mut self.stop) {
                return Event::Signal;
            }
            if Instant::now() >= deadline {
                return Event::Deadline;
            }
            self.peer.transport_mut().begin_turn();
            match self.peer.read(&mut self.inbox) {
                Ok(Some(Incoming::Text(text))) => {
                    log::trace!("a text message of {} bytes has come", text.len());
                    return Event::Text(text.to_owned());
                }
                Ok(Some(Incoming::Binary(data))) => return Event::Binary(data.to_vec()),
                Ok(Some(Incoming::Close(frame))) => {
                    let (code, reason) = said(frame);
                    log::debug!("the other side closes: code {code:?}, {reason}");
                    // The answer to the close is a courtesy. An error changes nothing.
                    let _ = self.peer.flush();
                    return Event::Ended(Ended::Closed { code, reason });
                }
                Ok(Some(Incoming::Control)) => {}
                Ok(None) => {
                    if let Err(error) = self.wait(deadline) {
                        return Event::Ended(Ended::Lost(error));
                    }
                }
                Err(error) => return Event::Ended(ended(error)),
            }
        }
    }

    /// Queues a message; [`next`](Self::next) sends it.
    ///
    /// # Errors
    /// When the connection is over, or the other side hasn't taken what was sent before.
    pub(super) fn send(&mut self, message: Message<'_>) -> Result<(), WsError> {
        self.peer.send(message)
    }

    /// Whether audio would leave now and not wait behind a blocked connection.
    pub(super) fn has_room(&self) -> bool {
        self.peer.has_room()
    }

    /// Says goodbye with code 1000 and waits a moment for the answer.
    pub(super) fn close(mut self) {
        self.peer.close(1000, "");
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        while !matches!(self.next(deadline), Event::Ended(_) | Event::Deadline | Event::Signal) {}
    }

    fn wait(&mut self, deadline: Instant) -> io::Result<()> {
        let until = if self.peer.has_more() { Instant::now() } else { deadline };
        self.wait_for_events(until)
    }

    fn wait_for_events(&mut self, until: Instant) -> io::Result<()> {
        wait(&mut self.poll, &mut self.events, until)?;
        for event in &self.events {
            if event.token() == SIGNALS {
                self.stop |= self.signals.as_mut().is_some_and(|it| it.pending().next().is_some());
                continue;
            }
            if event.is_readable() {
                self.peer.mark_readable(event.is_read_closed());
            }
            if event.is_writable() {
                self.peer.mark_writable();
            }
        }
        Ok(())
    }
}

/// Waits until a child is over. It has a deadline of its own.
///
/// # Errors
/// When the system gives no poll, or refuses its pipes.
pub(super) fn finish(child: Child) -> io::Result<Outcome> {
    finish_speaking(child).map(|(outcome, _)| outcome)
}

/// As [`finish`], with what the child wrote to its standard error if that was kept.
///
/// # Errors
/// As [`finish`].
pub(super) fn finish_speaking(mut child: Child) -> io::Result<(Outcome, Vec<u8>)> {
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(8));
    let (stdin, stdout) = child.pipes();
    if let Some(pipe) = stdin {
        poll.registry().register(pipe, SOCKET, Interest::WRITABLE)?;
    }
    if let Some(pipe) = stdout {
        poll.registry().register(pipe, SOCKET, Interest::READABLE)?;
    }
    if let Some(pipe) = child.error_pipe() {
        poll.registry().register(pipe, SOCKET, Interest::READABLE)?;
    }
    loop {
        if let Some(outcome) = child.pump(Instant::now()) {
            return Ok((outcome, child.errors().to_vec()));
        }
        // The exit itself is no event here.
        wait(&mut poll, &mut events, Instant::now() + CHILD_INTERVAL)?;
    }
}

fn register(poll: &Poll, socket: &mut TcpStream) -> io::Result<()> {
    poll.registry().register(socket, SOCKET, Interest::READABLE | Interest::WRITABLE)
}

/// A signal during the wait is no error: the caller looks at the clock and waits again.
fn wait(poll: &mut Poll, events: &mut Events, until: Instant) -> io::Result<()> {
    let timeout = until.saturating_duration_since(Instant::now());
    match poll.poll(events, Some(timeout)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        other => other,
    }
}

fn internal(error: io::Error) -> DialError {
    DialError::Internal(error.to_string())
}

fn ended(error: WsError) -> Ended {
    match error {
        WsError::Closed => Ended::Closed { code: None, reason: String::new() },
        WsError::Lost(error) => Ended::Lost(error),
        WsError::Violation { what, .. } => Ended::Violation(what),
        WsError::Full => Ended::Lost(io::ErrorKind::TimedOut.into()),
    }
}
