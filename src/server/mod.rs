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

mod accept;
mod allowance;
mod calls;
mod certificates;
mod children;
mod manage;
pub mod reload;
mod slot;
mod spending;
mod terminal;

use accept::AcceptLimiter;
pub use accept::bind;
use allowance::Allowance;
use children::{Children, MAX_CHILDREN};
use reload::{Reread, Terms};
use slot::{Conn, Slot, pump_turned_away};
use terminal::Terminal;

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use crate::access::{Access, Guard};
use crate::call::ending::EndReason;
use crate::call::sooner;
use crate::certificates::Certificates;
use crate::metrics::{Family, nanos};
use crate::net::ws::{Role, WsPeer};
use crate::session::{CLIENT_SIZES, LoopResources, News, Progress, Session, TurnContext};
use crate::simulator::peer::SimulatedService;
use crate::spending::Ledger;
use crate::system::resolve::Resolver;
use crate::system::systemd::Manager;
use crate::tools::Tools;
use crate::web::{Doorway, Site, Visit};

/// Signals arrive here.
const SIGNALS: Token = Token(0);
/// Listener `i` has token `LISTENERS + i`.
const LISTENERS: usize = 1;
/// Child `i` has tokens `CHILDREN + 2 * i` (its input) and one more (its output).
const CHILDREN: usize = 16;
/// Slot `i` has tokens `SLOTS + 2 * i` (the client) and one more (the service).
const SLOTS: usize = CHILDREN + 2 * MAX_CHILDREN;

/// Slots for visitors beside those for calls.
const VISITORS: usize = 64;

/// An address to listen on.
#[allow(missing_debug_implementations, reason = "TLS configurations hold keys")]
pub struct Listen {
    /// The bound socket.
    pub socket: std::net::TcpListener,
    /// What it serves.
    pub site: Site,
    /// TLS, or plain.
    pub tls: Option<std::sync::Arc<rustls::ServerConfig>>,
    /// It was handed over, and the next process gets it too.
    pub passed: bool,
}

/// What the loop needs to make calls.
#[allow(missing_debug_implementations, reason = "the target holds the credential")]
pub struct Calls {
    /// The HTTPS listeners' certificates, to be renewed; `None` without HTTPS.
    pub certificates: Option<Certificates>,
    /// The spending guard; `None` without one.
    pub spending: Option<Ledger>,
    /// What new calls are made by.
    pub terms: Terms,
    /// Reads the terms again, for SIGHUP.
    pub reread: Reread,
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
    /// How long running calls may go on after SIGTERM.
    pub drain: Duration,
}

struct Listener {
    socket: TcpListener,
    site: Site,
    tls: Option<std::sync::Arc<rustls::ServerConfig>>,
    ready: bool,
    passed: bool,
}

/// The daemon.
#[allow(missing_debug_implementations, reason = "holds the credential")]
pub struct Server {
    poll: Poll,
    signals: Signals,
    listeners: Vec<Listener>,
    slots: Box<[Slot]>,
    free: Vec<usize>,
    /// Slots that hold a call: asked for in every turn.
    running: usize,
    marked: Vec<usize>,
    /// The memory of the list that was pumped last.
    resting: Vec<usize>,
    /// No slot is due before that. The slots are looked through only then: deadlines are put off
    /// far more often than they pass.
    soonest: Option<Instant>,
    children: Children,
    calls: Option<Calls>,
    guard: Guard,
    resolver: Option<Resolver>,
    resources: LoopResources,
    door: AcceptLimiter,
    /// When to look at the certificates again, if there are any.
    certificates_due: Option<Instant>,
    stop: Stop,
    terminal: Terminal,
    manager: Manager,
}

/// Whether the daemon goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// It does.
    No,
    /// No new calls; those that run may go on until then.
    Draining(Instant),
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
        let now = Instant::now();
        let signals = [SIGTERM, SIGINT, SIGHUP, SIGCHLD];
        let mut signals = Signals::new(signals)?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        let mut listeners = Vec::new();
        for (at, Listen { socket, site, tls, passed }) in listen.into_iter().enumerate() {
            socket.set_nonblocking(true)?;
            let mut socket = TcpListener::from_std(socket);
            poll.registry().register(&mut socket, Token(LISTENERS + at), Interest::READABLE)?;
            listeners.push(Listener { socket, site, tls, ready: true, passed });
        }
        let (sessions, blocks) =
            calls.as_ref().map_or((0, 0), |calls| (calls.max_sessions, calls.pool_blocks));
        // In a demo the simulator's side of each call takes a slot too.
        let slots = sessions * 2 + VISITORS;
        let resolver = calls.as_ref().and_then(|calls| calls.terms.resolver());
        let certificates_due = certificates::next_look(calls.as_ref(), now);
        let access = calls.as_ref().map_or(Access::Open, |calls| calls.terms.access.clone());
        Ok(Self {
            poll,
            signals,
            listeners,
            slots: (0..slots).map(|_| Slot::free()).collect(),
            free: (0..slots).rev().collect(),
            running: 0,
            marked: Vec::with_capacity(slots),
            resting: Vec::with_capacity(slots),
            soonest: None,
            children: Children::new(CHILDREN),
            calls,
            guard: Guard::new(access),
            resolver,
            resources: LoopResources::new(blocks),
            door: AcceptLimiter::new(now),
            certificates_due,
            stop: Stop::No,
            terminal: Terminal::at_start(),
            manager: Manager::default(),
        })
    }

    /// Has a service manager told how things stand.
    #[must_use]
    pub fn managed_by(mut self, manager: Manager) -> Self {
        self.manager = manager;
        self
    }

    /// Serves until a signal ends it.
    ///
    /// # Errors
    /// When polling itself fails, which no peer can cause.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut now = Instant::now();
        self.manager.ready(now);
        self.refresh_addresses(now);
        loop {
            let end = Instant::now();
            self.resources.metrics.turn(end.saturating_duration_since(now));
            match self.poll.poll(&mut events, self.timeout(end)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                Err(_) => events.clear(),
                Ok(()) => {}
            }
            now = Instant::now();
            for event in &events {
                self.mark(event, now);
            }
            self.mark_due(now);
            self.look_at_certificates(now);
            self.take_ended_children(now);
            self.pump_slots(now);
            self.watch_spending(now);
            self.watch_drain(now);
            self.report(now);
            if self.is_stopped(now) {
                self.end_spending();
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
        let stop = match self.stop {
            Stop::Draining(deadline) | Stop::By(deadline) => Some(deadline),
            Stop::No | Stop::Now => None,
        };
        // Written out: this is asked in every turn, and an iterator of as many would weigh it down.
        let nearest = sooner(self.soonest, stop);
        let nearest = sooner(nearest, sooner(self.children.deadline(), self.door_deadline()));
        let nearest = sooner(nearest, sooner(self.certificates_due, self.spending_deadline()));
        let nearest = sooner(nearest, self.manager.deadline())?;
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
        let Some(token) = token.checked_sub(SLOTS) else {
            return self.children.mark(token);
        };
        let (at, service_side) = (token / 2, token % 2 == 1);
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        let ending = event.is_read_closed() || event.is_error();
        slot.conn.mark(
            service_side,
            event.is_readable() || ending,
            event.is_writable() || event.is_error(),
            ending,
        );
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
        if self.soonest.is_none_or(|soonest| now < soonest) {
            return;
        }
        let later = |deadline: &Instant| *deadline > now;
        self.soonest = self.slots.iter().filter_map(|slot| slot.deadline).filter(later).min();
        for at in 0..self.slots.len() {
            if self.slots[at].deadline.is_some_and(|deadline| now >= deadline) {
                self.want_pump(at);
            }
        }
    }

    fn take_signals(&mut self, now: Instant) {
        let pending: Vec<i32> = self.signals.pending().collect();
        for signal in pending {
            match signal {
                SIGTERM | SIGINT => self.begin_stop(now),
                // The shell sends a second one, which is no wish to end at once.
                SIGHUP if self.terminal.has_gone() => {
                    if self.stop == Stop::No {
                        self.begin_stop(now);
                    }
                }
                SIGHUP => {
                    self.manager.reloading();
                    self.reload(now);
                    self.certificates_due = Some(now);
                }
                _ => self.children.mark_all(),
            }
        }
    }

    // ---- 5. pump, 6. free ----

    fn pump_slots(&mut self, now: Instant) {
        // Two lists take turns, so that neither is allocated again.
        let mut batch = std::mem::take(&mut self.resting);
        std::mem::swap(&mut batch, &mut self.marked);
        for &at in &batch {
            self.slots[at].marked = false;
        }
        let (mut allowance, mut passed_over) = (Allowance::default(), 0);
        for at in batch.drain(..) {
            if !allowance.admits(&self.slots[at].conn) {
                // First in the next turn, or whoever stands before it would always be.
                self.slots[at].marked = true;
                self.marked.insert(passed_over, at);
                passed_over += 1;
                continue;
            }
            match self.pump(at, now) {
                Progress::Closed => self.release(at, now),
                Progress::More => {
                    self.set_deadline(at);
                    self.want_pump(at);
                }
                Progress::Idle => self.set_deadline(at),
            }
        }
        self.resting = batch;
    }

    fn pump(&mut self, at: usize, now: Instant) -> Progress {
        match &mut self.slots[at].conn {
            Conn::Free => Progress::Idle,
            Conn::Visitor { .. } => self.pump_visitor(at, now),
            Conn::Call(_) => self.pump_session(at, now),
            Conn::Simulated(service) => service.pump(self.resources.buffers.inbox(), now),
            Conn::TurnedAway { peer, deadline } => {
                pump_turned_away(peer, *deadline, self.resources.buffers.inbox(), now)
            }
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
        self.soonest = sooner(self.soonest, slot.deadline);
    }

    fn release(&mut self, at: usize, now: Instant) {
        let slot = std::mem::replace(&mut self.slots[at], Slot::free());
        // Dropping the sockets takes them out of the poll.
        self.free.push(at);
        let is_last = self.free.len() == self.slots.len();
        let is_call = matches!(slot.conn, Conn::Call(_));
        if let Conn::Call(session) = slot.conn {
            self.running -= 1;
            self.children.stop_tools_of(session.id());
            session.release(&mut self.resources.pool, now);
        }
        if is_call || is_last {
            self.log_what_is_left();
        }
    }

    /// Shows a leak in the log of any day, and in tests.
    fn log_what_is_left(&self) {
        let used = self.slots.len() - self.free.len();
        let (free, all) = (self.resources.pool.spare_blocks(), self.resources.pool.total_blocks());
        log::debug!("{used} connections in use, {free} of {all} PCM blocks free");
    }

    fn pump_session(&mut self, at: usize, now: Instant) -> Progress {
        let progress = self.lend(at, now, Session::pump).unwrap_or(Progress::Idle);
        let Conn::Call(session) = &mut self.slots[at].conn else {
            return progress;
        };
        let Some(news) = session.news() else {
            return progress;
        };
        if let (News::Socket, Some(socket)) = (news, session.service_socket()) {
            let registered = self.poll.registry().register(
                socket,
                token(at, 1),
                Interest::READABLE | Interest::WRITABLE,
            );
            if let Err(error) = registered {
                let reason =
                    EndReason::Internal(format!("A socket could not be watched: {error}."));
                self.with_session(at, now, |session, cx| session.end(reason, cx));
                return Progress::More;
            }
            // The connection may have come through before it was watched.
            return Progress::More;
        }
        self.learn_of_service(at, news, now);
        if news == News::FallBack { Progress::More } else { progress }
    }

    /// Tells a session something that the poll does not, and lets it act on it in the next turn.
    fn with_session(
        &mut self,
        at: usize,
        now: Instant,
        act: impl FnOnce(&mut Session, &mut TurnContext<'_>),
    ) {
        if self.lend(at, now, act).is_some() {
            self.want_pump(at);
        }
    }

    /// Lends a session what all calls share, and then starts the tools it wants.
    fn lend<T>(
        &mut self,
        at: usize,
        now: Instant,
        act: impl FnOnce(&mut Session, &mut TurnContext<'_>) -> T,
    ) -> Option<T> {
        let (Conn::Call(session), Some(calls)) = (&mut self.slots[at].conn, &self.calls) else {
            return None;
        };
        let mut cx = self.resources.lend(&calls.tools, now);
        let result = act(session, &mut cx);
        if !self.resources.wanted.is_empty() {
            self.start_tools(at, now);
        }
        Some(result)
    }

    // ---- visitors and upgrades ----

    /// What `/metrics` tells besides what is counted where it happens.
    fn read_gauges(&mut self) {
        let spending = self.calls.as_ref().and_then(|calls| calls.spending.as_ref());
        let used = spending.map_or(0, |ledger| nanos(ledger.spending.used()));
        let open = self.slots.len() - self.free.len();
        for (family, value) in [
            (Family::Open, open as u64),
            (Family::Blocks, self.resources.pool.total_blocks() as u64),
            (Family::BlocksFree, self.resources.pool.spare_blocks() as u64),
            (Family::UsedToday, used),
            (Family::LogLost, crate::system::log::lost_lines()),
        ] {
            self.resources.metrics.set(family, value);
        }
    }

    fn pump_visitor(&mut self, at: usize, now: Instant) -> Progress {
        self.read_gauges();
        let Conn::Visitor { visitor, listener } = &mut self.slots[at].conn else {
            return Progress::Idle;
        };
        let Some(listener) = self.listeners.get(*listener) else {
            return Progress::Closed;
        };
        let mut door = Doorway {
            guard: &mut self.guard,
            metrics: &mut self.resources.metrics,
            address: self.slots[at].address,
            draining: self.stop != Stop::No,
            takes_calls: self.stop.lets_in(listener.passed),
            unready: self.calls.as_ref().is_some_and(|calls| calls.terms.unready.is_some()),
            now,
        };
        match visitor.pump(&listener.site, &mut door) {
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
        let Conn::Visitor { mut visitor, listener } =
            std::mem::replace(&mut self.slots[at].conn, Conn::Free)
        else {
            return;
        };
        let site = self.listeners.get(listener).map(|listener| listener.site.clone());
        self.slots[at].conn = match site {
            Some(Site::Simulator(options)) => {
                let admission = visitor.take_admission().unwrap_or_default();
                let (transport, early) = visitor.into_transport();
                Conn::Simulated(Box::new(SimulatedService::new(
                    transport, &early, options, admission, now,
                )))
            }
            Some(Site::Calls(_)) => {
                self.slots[at].generation = visitor.generation();
                let (transport, early) = visitor.into_transport();
                self.begin_call(at, WsPeer::new(transport, Role::Server, CLIENT_SIZES, &early), now)
            }
            None => Conn::Free,
        };
        self.running += usize::from(matches!(self.slots[at].conn, Conn::Call(_)));
        self.dial(at, now);
    }
}

fn token(slot: usize, side: usize) -> Token {
    Token(SLOTS + 2 * slot + side)
}
