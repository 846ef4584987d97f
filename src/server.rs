//! The poll loop: the only place that waits, and the only user of `mio::Poll`.
//!
//! One turn, always in this order:
//!
//! 1. **timeout**: zero if a slot has more to do, else the nearest deadline.
//! 2. **poll**: a signal's `Interrupted` is a turn, not an end.
//! 3. **now**: the clock is read once and passed down.
//! 4. **mark**: events only set flags; nothing is read or written, so no event of a batch can meet
//!    a slot that was freed and given out again within it.
//! 5. **pump**: every slot that was marked, is due, or had more.
//! 6. **free** closed slots (S1: only here).
//! 7. **accept** until `WouldBlock` or until there is no slot (S1: slots are given out only here).
//!    A listener stays marked until `accept` says `WouldBlock`: there is no second event.
//!
//! Every socket is registered once, for both directions, edge-triggered: mio then costs no system
//! call per change of interest, and a writable event comes only after a refused write.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use tungstenite::protocol::Role;

use crate::call::CallSettings;
use crate::call::client::{self, CallState};
use crate::call::ending::EndReason;
use crate::call::pcm::PcmPool;
use crate::child::{Child, Outcome};
use crate::fault;
use crate::net::dial::Target;
use crate::net::transport::Transport;
use crate::net::upgrade;
use crate::net::ws::{WsError, WsPeer};
use crate::resolve::{self, Resolver};
use crate::session::{CLIENT_SIZES, Desk, Progress, Session, WantedTool};
use crate::simulator::peer::SimulatedService;
use crate::tools::Tools;
use crate::web::{Site, Visit, Visitor};

/// Signals arrive here.
const SIGNALS: Token = Token(0);
/// Listener `i` has token `LISTENERS + i`.
const LISTENERS: usize = 1;
/// Child `i` has tokens `CHILDREN + 2 * i` (its input) and one more (its output).
const CHILDREN: usize = 16;
/// Children that may run at once: name look-ups and tools.
const MAX_CHILDREN: usize = 24;
/// Slot `i` has tokens `SLOTS + 2 * i` (the client) and one more (the service).
const SLOTS: usize = CHILDREN + 2 * MAX_CHILDREN;

/// Slots for visitors beside those for calls.
const VISITORS: usize = 64;
/// Connections waiting in the kernel until they are accepted.
const BACKLOG: i32 = 256;
/// Connections accepted in one turn.
const MAX_ACCEPTS: usize = 32;
/// How long accepting rests after the kernel had no descriptor left.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How long calls may take to end in order after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client that is turned away may take to hear it.
const TURN_AWAY_TIMEOUT: Duration = Duration::from_secs(2);
/// Kernel send buffer of a client's socket, in bytes (Linux doubles it): about a third of a second
/// of audio, so that what a barge-in clears has not left already.
const CLIENT_SEND_BUFFER: usize = 16 * 1024;

/// An address to listen on.
#[allow(missing_debug_implementations, reason = "TLS configurations hold keys")]
pub struct Listen {
    /// The bound socket.
    pub socket: std::net::TcpListener,
    /// What it serves.
    pub site: Site,
    /// TLS, or plain.
    pub tls: Option<std::sync::Arc<rustls::ServerConfig>>,
}

/// What the loop needs to make calls.
#[allow(missing_debug_implementations, reason = "the target holds the credential")]
pub struct Calls {
    /// Settings of every call.
    pub settings: Rc<CallSettings>,
    /// The service.
    pub target: Rc<Target>,
    /// The tools.
    pub tools: Tools,
    /// This program's file, for its children.
    pub program: PathBuf,
    /// Most calls at once.
    pub max_sessions: usize,
    /// Most calls at once from one address.
    pub max_sessions_per_address: usize,
    /// Blocks of the PCM pool.
    pub pool_blocks: usize,
}

struct Listener {
    socket: TcpListener,
    site: Site,
    tls: Option<std::sync::Arc<rustls::ServerConfig>>,
    ready: bool,
}

/// Who sits in a slot.
#[allow(clippy::large_enum_variant, reason = "slots are few and allocated once")]
enum Conn {
    Free,
    Visitor { visitor: Visitor, listener: usize },
    Call(Box<Session>),
    Simulated(Box<SimulatedService>),
    TurnedAway { peer: Box<WsPeer<TcpStream>>, deadline: Instant },
}

struct Slot {
    conn: Conn,
    address: IpAddr,
    /// Pump it in this turn.
    marked: bool,
    deadline: Option<Instant>,
}

/// What a child was started for.
enum Purpose {
    Resolve,
    Tool { slot: usize, session: String, call_id: String },
}

struct Running {
    child: Child,
    purpose: Purpose,
}

/// The daemon.
#[allow(missing_debug_implementations, reason = "holds the credential")]
pub struct Server {
    poll: Poll,
    signals: Signals,
    listeners: Vec<Listener>,
    slots: Box<[Slot]>,
    free: Vec<usize>,
    marked: Vec<usize>,
    children: Vec<Option<Running>>,
    calls: Option<Calls>,
    resolver: Option<Resolver>,
    pool: PcmPool,
    scratch: BytesMut,
    wanted: Vec<WantedTool>,
    accept_rests_until: Option<Instant>,
    stop: Stop,
}

/// Whether the daemon goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// It does.
    No,
    /// Calls are ending; what is left at the deadline is dropped.
    By(Instant),
    /// A second signal: at once.
    Now,
}

impl Server {
    /// Registers everything; nothing is served until [`run`](Self::run).
    ///
    /// # Errors
    /// When the kernel refuses a poll, a signal handler or a socket.
    pub fn new(listen: Vec<Listen>, calls: Option<Calls>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let signals = [SIGTERM, SIGINT, SIGHUP, SIGCHLD];
        let mut signals = Signals::new(signals)?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        let mut listeners = Vec::new();
        for (at, Listen { socket, site, tls }) in listen.into_iter().enumerate() {
            socket.set_nonblocking(true)?;
            let mut socket = TcpListener::from_std(socket);
            poll.registry().register(&mut socket, Token(LISTENERS + at), Interest::READABLE)?;
            listeners.push(Listener { socket, site, tls, ready: true });
        }
        let (sessions, blocks) = calls.as_ref().map_or((0, 0), |calls| (calls.max_sessions, calls.pool_blocks));
        // In a demo the simulator's side of each call takes a slot too.
        let slots = sessions * 2 + VISITORS;
        let resolver = calls.as_ref().map(|calls| Resolver::new(&calls.target.host, calls.target.port));
        Ok(Self {
            poll,
            signals,
            listeners,
            slots: (0..slots).map(|_| Slot::free()).collect(),
            free: (0..slots).rev().collect(),
            marked: Vec::with_capacity(slots),
            children: (0..MAX_CHILDREN).map(|_| None).collect(),
            calls,
            resolver,
            pool: PcmPool::new(blocks),
            scratch: BytesMut::with_capacity(96 * 1024),
            wanted: Vec::new(),
            accept_rests_until: None,
            stop: Stop::No,
        })
    }

    /// Serves until a signal ends it.
    ///
    /// # Errors
    /// When polling itself fails, which no peer can cause.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        self.refresh_addresses(Instant::now());
        loop {
            match self.poll.poll(&mut events, self.timeout(Instant::now())) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                Err(_) => events.clear(),
                Ok(()) => {}
            }
            let now = Instant::now();
            for event in &events {
                self.mark(event, now);
            }
            self.mark_due(now);
            self.pump_children(now);
            self.pump_slots(now);
            if self.is_stopped(now) {
                return Ok(());
            }
            self.accept(now);
        }
    }

    // ---- 1. timeout ----

    fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.marked.is_empty() || self.can_accept(now) {
            return Some(Duration::ZERO);
        }
        let children = self.children.iter().flatten().filter_map(|running| running.child.deadline());
        let stop = if let Stop::By(deadline) = self.stop { Some(deadline) } else { None };
        let slots = self.slots.iter().filter_map(|slot| slot.deadline);
        let nearest = slots.chain(children).chain(stop).chain(self.accept_rests_until).min()?;
        Some(nearest.saturating_duration_since(now))
    }

    // ---- 4. mark ----

    fn mark(&mut self, event: &mio::event::Event, now: Instant) {
        let Token(token) = event.token();
        if event.token() == SIGNALS {
            return self.take_signals(now);
        }
        if token < CHILDREN {
            if let Some(listener) = self.listeners.get_mut(token - LISTENERS) {
                listener.ready = true;
            }
            return;
        }
        // Children are few: all of them are pumped each turn.
        let Some(token) = token.checked_sub(SLOTS) else { return };
        let (at, service_side) = (token / 2, token % 2 == 1);
        let Some(slot) = self.slots.get_mut(at) else { return };
        let ending = event.is_read_closed() || event.is_error();
        slot.conn.mark(service_side, event.is_readable() || ending, event.is_writable() || event.is_error(), ending);
        self.want_pump(at);
    }

    fn want_pump(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        if !slot.marked {
            slot.marked = true;
            self.marked.push(at);
        }
    }

    fn mark_due(&mut self, now: Instant) {
        for at in 0..self.slots.len() {
            if self.slots[at].deadline.is_some_and(|deadline| now >= deadline) {
                self.want_pump(at);
            }
        }
        if self.accept_rests_until.is_some_and(|until| now >= until) {
            self.accept_rests_until = None;
        }
    }

    fn take_signals(&mut self, now: Instant) {
        let pending: Vec<i32> = self.signals.pending().collect();
        for signal in pending {
            match signal {
                SIGTERM | SIGINT => self.begin_stop(now),
                SIGHUP => log::info!("SIGHUP: there is nothing to read again in this version"),
                // Children are reaped by their own pump.
                _ => {}
            }
        }
    }

    fn begin_stop(&mut self, now: Instant) {
        if self.stop != Stop::No {
            self.stop = Stop::Now;
            return;
        }
        log::info!("stopping: calls in progress are told and ended");
        self.stop = Stop::By(now + STOP_TIMEOUT);
        self.listeners.clear();
        for at in 0..self.slots.len() {
            self.with_session(at, now, |session, desk| session.end(EndReason::Stopping, desk));
        }
    }

    fn is_stopped(&self, now: Instant) -> bool {
        let calls = self.slots.iter().any(|slot| matches!(slot.conn, Conn::Call(_)));
        match self.stop {
            Stop::No => false,
            Stop::By(deadline) => !calls || now >= deadline,
            Stop::Now => true,
        }
    }

    // ---- 5. pump, 6. free ----

    fn pump_slots(&mut self, now: Instant) {
        let mut batch = std::mem::take(&mut self.marked);
        for &at in &batch {
            self.slots[at].marked = false;
        }
        for at in batch.drain(..) {
            match self.pump(at, now) {
                Progress::Closed => self.release(at),
                Progress::More => {
                    self.set_deadline(at);
                    self.want_pump(at);
                }
                Progress::Idle => self.set_deadline(at),
            }
        }
        if self.marked.is_empty() {
            // The list's memory is used again.
            self.marked = batch;
        }
    }

    fn pump(&mut self, at: usize, now: Instant) -> Progress {
        match &mut self.slots[at].conn {
            Conn::Free => Progress::Idle,
            Conn::Visitor { .. } => self.pump_visitor(at, now),
            Conn::Call(_) => self.pump_session(at, now),
            Conn::Simulated(service) => service.pump(now),
            Conn::TurnedAway { peer, deadline } => pump_turned_away(peer, *deadline, now),
        }
    }

    fn set_deadline(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        slot.deadline = match &slot.conn {
            Conn::Free => None,
            Conn::Visitor { visitor, .. } => Some(visitor.deadline()),
            Conn::Call(session) => session.deadline(),
            Conn::Simulated(service) => service.deadline(),
            Conn::TurnedAway { deadline, .. } => Some(*deadline),
        };
    }

    fn release(&mut self, at: usize) {
        let slot = std::mem::replace(&mut self.slots[at], Slot::free());
        // Dropping the sockets takes them out of the poll.
        if let Conn::Call(session) = slot.conn {
            self.stop_tools_of(session.id());
            session.release(&mut self.pool);
        }
        self.free.push(at);
    }

    fn pump_session(&mut self, at: usize, now: Instant) -> Progress {
        let progress = self.with_session(at, now, Session::pump).unwrap_or(Progress::Idle);
        let Conn::Call(session) = &mut self.slots[at].conn else { return progress };
        if let Some(socket) = session.new_service_socket() {
            let registered = self.poll.registry().register(socket, token(at, 1), Interest::READABLE | Interest::WRITABLE);
            if let Err(error) = registered {
                let reason = EndReason::Internal(format!("A socket could not be watched: {error}."));
                self.with_session(at, now, |session, desk| session.end(reason, desk));
                return Progress::More;
            }
            // The connection may have come through before it was watched.
            return Progress::More;
        }
        progress
    }

    /// Lends a session what all calls share, and then starts the tools it wants.
    fn with_session<T>(&mut self, at: usize, now: Instant, act: impl FnOnce(&mut Session, &mut Desk<'_>) -> T) -> Option<T> {
        let (Conn::Call(session), Some(calls)) = (&mut self.slots[at].conn, &self.calls) else { return None };
        let mut desk = Desk { pool: &mut self.pool, scratch: &mut self.scratch, tools: &calls.tools, wanted: &mut self.wanted, now };
        let result = act(session, &mut desk);
        self.want_pump(at);
        if !self.wanted.is_empty() {
            self.start_tools(at, now);
        }
        Some(result)
    }

    // ---- visitors and upgrades ----

    fn pump_visitor(&mut self, at: usize, now: Instant) -> Progress {
        let Conn::Visitor { visitor, listener } = &mut self.slots[at].conn else { return Progress::Idle };
        let draining = self.stop != Stop::No;
        let Some(listener) = self.listeners.get(*listener) else { return Progress::Closed };
        match visitor.pump(&listener.site, draining, now) {
            Visit::Stays if visitor.has_more() => Progress::More,
            Visit::Stays => Progress::Idle,
            Visit::Gone => Progress::Closed,
            Visit::Upgrade => {
                self.upgrade(at, now);
                Progress::More
            }
        }
    }

    /// The visitor's slot becomes a call's, or the simulated service's.
    fn upgrade(&mut self, at: usize, now: Instant) {
        let Conn::Visitor { mut visitor, listener } = std::mem::replace(&mut self.slots[at].conn, Conn::Free) else { return };
        let site = self.listeners.get(listener).map(|listener| listener.site.clone());
        self.slots[at].conn = match site {
            Some(Site::Simulator(options)) => {
                let admission = visitor.take_admission().unwrap_or_default();
                let (transport, early) = visitor.into_transport();
                Conn::Simulated(Box::new(SimulatedService::new(transport, &early, options, admission, now)))
            }
            Some(Site::Calls { .. }) => {
                let (transport, early) = visitor.into_transport();
                self.begin_call(at, WsPeer::new(transport, Role::Server, CLIENT_SIZES, &early), now)
            }
            None => Conn::Free,
        };
        self.dial(at, now);
    }

    fn begin_call(&mut self, at: usize, peer: WsPeer<TcpStream>, now: Instant) -> Conn {
        let address = self.slots[at].address;
        let (mut all, mut same) = (0, 0);
        for slot in &self.slots {
            if matches!(&slot.conn, Conn::Call(_)) {
                all += 1;
                same += usize::from(slot.address == address);
            }
        }
        let Some(calls) = &self.calls else { return turn_away(peer, &EndReason::Full, now) };
        if all >= calls.max_sessions {
            return turn_away(peer, &EndReason::Full, now);
        }
        if same >= calls.max_sessions_per_address {
            let message = format!("There are already {same} calls from this address.");
            return turn_away(peer, &EndReason::Refused(message), now);
        }
        let (Ok(id), Ok(resume)) = (upgrade::random::<6>(), upgrade::random::<16>()) else {
            return turn_away(peer, &EndReason::Full, now);
        };
        let mut desk = Desk { pool: &mut self.pool, scratch: &mut self.scratch, tools: &calls.tools, wanted: &mut self.wanted, now };
        let (settings, target) = (Rc::clone(&calls.settings), Rc::clone(&calls.target));
        match Session::new(hex(&id), &hex(&resume), peer, settings, target, &mut desk) {
            Ok(session) => {
                log::info!("[{}] call from {address}", session.id());
                Conn::Call(Box::new(session))
            }
            Err(peer) => turn_away(peer, &EndReason::Full, now),
        }
    }

    // ---- the service's name ----

    fn refresh_addresses(&mut self, now: Instant) {
        let (Some(resolver), Some(calls)) = (&mut self.resolver, &self.calls) else { return };
        if !resolver.begin(now) {
            return;
        }
        let command = resolver.command(&calls.program);
        if let Err(why) = self.spawn(&command, Vec::new(), resolve::MAX_OUTPUT, now + resolve::TIMEOUT, Purpose::Resolve) {
            self.resolved(Err(why), now);
        }
    }

    /// Connects a new call at once if an address is known; else it waits for the look-up.
    fn dial(&mut self, at: usize, now: Instant) {
        self.refresh_addresses(now);
        let (Conn::Call(session), Some(resolver)) = (&mut self.slots[at].conn, &self.resolver) else { return };
        if !resolver.addresses().is_empty() {
            session.dial(resolver.addresses(), now);
        }
    }

    fn resolved(&mut self, result: Result<&[u8], String>, now: Instant) {
        let Some(resolver) = &mut self.resolver else { return };
        let known = resolver.finish(result);
        let fault = known.map_err(|why| fault::unresolved(resolver.host(), &why));
        if let Err(fault) = &fault {
            log::warn!("{}", fault.message);
        }
        for at in 0..self.slots.len() {
            let waiting = matches!(&self.slots[at].conn, Conn::Call(session) if session.is_resolving());
            match &fault {
                _ if !waiting => {}
                Ok(()) => {
                    self.dial(at, now);
                    self.want_pump(at);
                }
                Err(fault) => {
                    let fault = fault.clone();
                    self.with_session(at, now, |session, desk| session.unresolved(fault, desk));
                }
            }
        }
    }

    // ---- children ----

    fn spawn(&mut self, command: &[OsString], input: Vec<u8>, max_output: usize, deadline: Instant, purpose: Purpose) -> Result<(), String> {
        let free = self.children.iter().position(Option::is_none);
        let at = free.ok_or_else(|| "too many helpers are running".to_owned())?;
        let mut child = Child::spawn(command, input, max_output, deadline).map_err(|error| format!("it cannot be started: {error}"))?;
        let (stdin, stdout) = child.pipes();
        let registry = self.poll.registry();
        if let Some(stdin) = stdin {
            registry.register(stdin, Token(CHILDREN + 2 * at), Interest::WRITABLE).map_err(|error| error.to_string())?;
        }
        if let Some(stdout) = stdout {
            registry.register(stdout, Token(CHILDREN + 2 * at + 1), Interest::READABLE).map_err(|error| error.to_string())?;
        }
        self.children[at] = Some(Running { child, purpose });
        Ok(())
    }

    fn pump_children(&mut self, now: Instant) {
        for at in 0..self.children.len() {
            let Some(running) = &mut self.children[at] else { continue };
            let Some(outcome) = running.child.pump(now) else { continue };
            if let Some(Running { purpose, .. }) = self.children[at].take() {
                self.child_ended(purpose, outcome, now);
            }
        }
    }

    fn child_ended(&mut self, purpose: Purpose, outcome: Outcome, now: Instant) {
        match purpose {
            Purpose::Resolve => match outcome {
                Outcome::Done(output) => self.resolved(Ok(&output), now),
                Outcome::Failed(_) => self.resolved(Err("the name server does not know it or does not answer".to_owned()), now),
            },
            Purpose::Tool { slot, session, call_id } => {
                let (output, ok) = tool_output(outcome);
                let here = matches!(&self.slots[slot].conn, Conn::Call(found) if found.id() == session);
                if here {
                    self.with_session(slot, now, |found, desk| found.tool_finished(&call_id, &output, ok, desk));
                }
            }
        }
    }

    fn start_tools(&mut self, at: usize, now: Instant) {
        for WantedTool { call_id, name, input } in std::mem::take(&mut self.wanted) {
            let (Conn::Call(session), Some(calls)) = (&self.slots[at].conn, &self.calls) else { return };
            let Some(tool) = calls.tools.find(&name) else { continue };
            let (command, max_output, deadline) = (tool.command.clone(), tool.max_output, now + tool.timeout);
            let purpose = Purpose::Tool { slot: at, session: session.id().to_owned(), call_id: call_id.clone() };
            if let Err(why) = self.spawn(&command, input.into_bytes(), max_output, deadline, purpose) {
                let output = serde_json::json!({ "error": why }).to_string();
                self.with_session(at, now, |session, desk| session.tool_finished(&call_id, &output, false, desk));
            }
        }
    }

    fn stop_tools_of(&mut self, id: &str) {
        for running in self.children.iter_mut().flatten() {
            if matches!(&running.purpose, Purpose::Tool { session, .. } if session == id) {
                running.child.kill("its call ended");
            }
        }
    }

    // ---- 7. accept ----

    fn can_accept(&self, now: Instant) -> bool {
        let rested = self.accept_rests_until.is_none_or(|until| now >= until);
        rested && !self.free.is_empty() && self.listeners.iter().any(|listener| listener.ready)
    }

    fn accept(&mut self, now: Instant) {
        let mut left = MAX_ACCEPTS;
        while left > 0 && self.can_accept(now) {
            left -= 1;
            let Some(at) = self.listeners.iter().position(|listener| listener.ready) else { return };
            match self.listeners[at].socket.accept() {
                Ok((socket, address)) => self.seat(socket, address.ip().to_canonical(), at, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.listeners[at].ready = false,
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    log::warn!("no connection can be accepted for a moment: {error}");
                    self.accept_rests_until = Some(now + ACCEPT_REST);
                }
            }
        }
    }

    fn seat(&mut self, mut socket: TcpStream, address: IpAddr, listener: usize, now: Instant) {
        let Some(at) = self.free.pop() else { return };
        let both = Interest::READABLE | Interest::WRITABLE;
        let prepared = prepare(&socket).and_then(|()| self.poll.registry().register(&mut socket, token(at, 0), both));
        let transport = prepared.and_then(|()| match &self.listeners[listener].tls {
            None => Ok(Transport::plain(socket)),
            Some(config) => Ok(Transport::tls(socket, crate::net::tls::server(config)?)),
        });
        match transport {
            Ok(transport) => {
                let visitor = Visitor::new(transport, now);
                self.slots[at] = Slot { conn: Conn::Visitor { visitor, listener }, address, marked: false, deadline: None };
                self.want_pump(at);
            }
            // It is gone already.
            Err(_) => self.free.push(at),
        }
    }
}

impl Slot {
    fn free() -> Self {
        Self { conn: Conn::Free, address: IpAddr::from([0, 0, 0, 0]), marked: false, deadline: None }
    }
}

impl Conn {
    fn mark(&mut self, service_side: bool, readable: bool, writable: bool, ending: bool) {
        let transport = match self {
            Self::Free => return,
            Self::Call(session) if service_side => return session.mark_service(readable, writable, ending),
            Self::Call(session) => return session.mark_client(readable, writable, ending),
            Self::Simulated(service) => return service.mark(readable, writable, ending),
            Self::TurnedAway { peer, .. } => {
                if readable {
                    peer.mark_readable(ending);
                }
                peer.transport_mut()
            }
            Self::Visitor { visitor, .. } => visitor.transport_mut(),
        };
        if readable {
            transport.mark_readable(ending);
        }
        if writable {
            transport.mark_writable();
        }
    }
}

fn token(slot: usize, side: usize) -> Token {
    Token(SLOTS + 2 * slot + side)
}

/// A connection that came and went, or a signal: the next one may be fine.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket2::SockRef::from(socket).set_send_buffer_size(CLIENT_SEND_BUFFER)
}

/// Says why there is no call, as a call's end does: browsers cannot read a refused upgrade.
fn turn_away(mut peer: WsPeer<TcpStream>, reason: &EndReason, now: Instant) -> Conn {
    log::info!("a caller was turned away: {}", reason.word());
    let ended = client::call_state(CallState::Ended { reason: reason.word(), message: &reason.message() });
    // A failure shows when the peer is pumped.
    let _ = peer.send(tungstenite::Message::text(ended));
    peer.close(reason.close_code(), &reason.message());
    Conn::TurnedAway { peer: Box::new(peer), deadline: now + TURN_AWAY_TIMEOUT }
}

fn pump_turned_away(peer: &mut WsPeer<TcpStream>, deadline: Instant, now: Instant) -> Progress {
    peer.transport_mut().begin_turn();
    let _ = peer.flush();
    loop {
        match peer.read() {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(WsError::Violation { .. }) => break,
            Err(_) => return Progress::Closed,
        }
    }
    if now >= deadline { Progress::Closed } else { Progress::Idle }
}

fn tool_output(outcome: Outcome) -> (String, bool) {
    let failed = |why: &str| (serde_json::json!({ "error": why }).to_string(), false);
    match outcome {
        Outcome::Done(output) => match String::from_utf8(output) {
            Ok(text) => (text.trim().to_owned(), true),
            Err(_) => failed("The tool's answer is not text."),
        },
        Outcome::Failed(why) => failed(&format!("The tool failed: {why}.")),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Binds a listening socket. A restart may take the port while old connections linger.
///
/// # Errors
/// What the kernel says; the caller names the address.
pub fn bind(address: std::net::SocketAddr) -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

