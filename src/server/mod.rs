//! The poll loop. It is the only place that waits, and the only user of `mio::Poll`.
//!
//! One turn of the loop always runs in this order:
//!
//! 1. **timeout**: zero if a slot has more to do, else the nearest deadline.
//! 2. **poll**: the loop waits for events. A signal's `Interrupted` is a turn without events.
//! 3. **now**: the loop reads the clock once and passes the time down.
//! 4. **mark**: events only set flags. Nothing is read or written yet. So no event of a batch can
//!    meet a slot that was freed and given out again within the same batch.
//! 5. **pump**: every slot that was marked, is due, or had more to do.
//! 6. **free**: closed slots are released (S1: slots are freed only here).
//! 7. **accept**: until `WouldBlock`, or until there is no slot (S1: slots are given out only here).
//!    A listener stays marked until `accept` says `WouldBlock`, because the kernel announces
//!    waiting connections once.
//!
//! Every socket is registered once, for both directions, edge-triggered. So a change of interest
//! costs no system call. The price is that readiness must be remembered: a readable event comes only
//! when new bytes arrive, and a writable event only after a refused write (W1).

mod accept;
mod allowance;
pub mod assistants;
mod calls;
mod certificates;
mod children;
mod connects;
mod gauges;
mod helper;
mod joins;
mod manage;
mod mcp;
pub mod reload;
mod runs;
mod slot;
mod spending;
mod terminal;
#[cfg(test)]
mod tests;
mod tokens;
mod tools;
mod visitors;

use accept::AcceptLimiter;
pub use accept::bind;
use allowance::Allowance;
use certificates::KnownNames;
use children::{Children, MAX_CHILDREN, TOKENS};
use connects::ConnectBudget;
use helper::Helper;
use manage::Lifecycle;
pub use mcp::{Alone, Mcp};
use mcp::{SERVERS_TOKENS, Servers};
use reload::{CallConfiguration, Reread};
use runs::Runs;
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
use crate::call::sooner;
use crate::certificates::{Certificates, DeviceNames};
use crate::identity::Tokens;
use crate::session::{LoopResources, News, Progress, Session, TurnContext};
use crate::spending::Ledger;
use crate::system::resolve::Resolver;
use crate::system::systemd::Manager;
use crate::web::Site;

/// Signals arrive here.
const SIGNALS: Token = Token(0);
/// Listener `i` has token `LISTENERS + i`.
const LISTENERS: usize = 1;
/// Child `i` has tokens `CHILDREN + 3 * i` (its input), one more (its output), and one more (its errors).
const CHILDREN: usize = 16;
/// The child of the built-in tools has this token and the two after it, for the same three.
const HELPER: usize = CHILDREN + TOKENS * MAX_CHILDREN;
/// MCP server `i` has tokens `SERVERS + 3 * i` and the two after it.
const SERVERS: usize = HELPER + TOKENS;
/// Slot `i` has four tokens from `SLOTS + SIDES * i`: the client, and the two lanes of the service. One is unused, so
/// that no event needs a division.
const SLOTS: usize = SERVERS + SERVERS_TOKENS;
const SIDES: usize = 4;

/// Slots for visitors beside those for calls.
const VISITORS: usize = 64;

/// A listening socket and what it serves.
#[allow(missing_debug_implementations, reason = "TLS configurations hold keys")]
pub struct Listen {
    /// The socket, bound and listening.
    pub socket: std::net::TcpListener,
    /// What its visitors are served.
    pub site: Site,
    /// The TLS configuration; `None` for plain HTTP.
    pub tls: Option<std::sync::Arc<rustls::ServerConfig>>,
    /// systemd passed the socket to this process, and will pass it to the next one too
    /// (socket activation, sd_listen_fds(3)).
    pub passed: bool,
}

/// What the loop needs to make calls. A server without it serves the simulator only.
#[allow(missing_debug_implementations, reason = "the target holds the credential")]
pub struct Calls {
    /// The certificates of the HTTPS listeners, which the loop renews; `None` without HTTPS.
    pub certificates: Option<Certificates>,
    /// The spending guard; `None` without one.
    pub spending: Option<Ledger>,
    /// The configuration of new calls.
    pub configuration: CallConfiguration,
    /// Reads the configuration again, for SIGHUP.
    pub reread: Reread,
    /// The path of this program, which children run too.
    pub program: PathBuf,
    /// The most calls at once (`VOICELIVED_MAX_SESSIONS`).
    pub max_sessions: usize,
    /// The most calls at once from one client address.
    pub max_sessions_per_address: usize,
    /// New connections to the service in a minute, from which on a call that has lost it waits.
    pub connects_per_minute: usize,
    /// The size of the PCM pool, in blocks of 960 bytes (20 ms of audio).
    pub pool_blocks: usize,
    /// How long running calls may go on after SIGTERM; zero ends them at once.
    pub drain: Duration,
}

/// A registered listener.
struct Listener {
    socket: TcpListener,
    site: Site,
    tls: Option<std::sync::Arc<rustls::ServerConfig>>,
    /// A connection may be waiting. Only `accept`'s `WouldBlock` clears this: the poll announces
    /// waiting connections once, so one that is left behind would never be accepted.
    ready: bool,
    /// See [`Listen::passed`].
    passed: bool,
}

/// The daemon: the poll loop and everything that it owns.
#[allow(missing_debug_implementations, reason = "holds the credential")]
pub struct Server {
    poll: Poll,
    signals: Signals,
    listeners: Vec<Listener>,
    /// All slots, allocated at the start. An index stays valid for the life of the process, so the
    /// poll's tokens can be computed from it.
    slots: Box<[Slot]>,
    /// The indices of the free slots (S1). A slot is in here exactly when no connection uses it.
    free: Vec<usize>,
    /// How many slots hold a call. Every turn asks for it, so it is counted and not searched.
    running: usize,
    /// The slots to pump in the next turn: each slot whose `marked` is set. While the list is not
    /// empty, the poll does not wait. An eviction may leave an index in here twice; the second pump
    /// then finds nothing to do.
    marked: Vec<usize>,
    /// The memory of the list that was pumped last.
    resting: Vec<usize>,
    /// A lower bound of all slots' deadlines. The slots are searched only when this time has come,
    /// because deadlines are put off far more often than they pass. Too early costs one empty turn.
    /// Too late would miss a time limit, so every change of a slot's deadline lowers it.
    soonest: Option<Instant>,
    children: Children,
    helper: Helper,
    servers: Servers,
    runs: Runs,
    calls: Option<Calls>,
    guard: Guard,
    resolver: Option<Resolver>,
    connects: ConnectBudget,
    /// `None` where a key logs in.
    tokens: Option<Tokens>,
    resources: LoopResources,
    limiter: AcceptLimiter,
    /// When to look at the certificates again; `None` without certificates.
    certificates_due: Option<Instant>,
    names: KnownNames,
    lifecycle: Lifecycle,
    terminal: Terminal,
    manager: Manager,
}

impl Server {
    /// Registers signals and listeners with the poll, and allocates slots and PCM pool. Nothing is
    /// served until [`run`](Self::run).
    ///
    /// # Errors
    /// When the kernel refuses a poll, a signal handler or a socket.
    pub fn new(listen: Vec<Listen>, mut calls: Option<Calls>) -> io::Result<Self> {
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
        let connects = calls.as_ref().map_or(0, |calls| calls.connects_per_minute);
        let resolver = calls.as_ref().and_then(|calls| calls.configuration.resolver());
        let certificates_due = certificates::next_look(calls.as_ref(), now);
        let mcp = calls.as_mut().map(|calls| std::mem::take(&mut calls.configuration.mcp));
        let access =
            calls.as_ref().map_or(Access::Open, |calls| calls.configuration.access.clone());
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
            helper: Helper::new(HELPER),
            servers: Servers::new(mcp.unwrap_or_default(), SERVERS, now),
            runs: Runs::default(),
            calls,
            guard: Guard::new(access),
            resolver,
            connects: ConnectBudget::new(connects),
            tokens: None,
            resources: LoopResources::new(blocks),
            limiter: AcceptLimiter::new(now),
            certificates_due,
            names: KnownNames::default(),
            lifecycle: Lifecycle::Serving,
            terminal: Terminal::at_start(),
            manager: Manager::default(),
        })
    }

    /// Sets the service manager (systemd) that the loop reports its state to.
    #[must_use]
    pub fn managed_by(mut self, manager: Manager) -> Self {
        self.manager = manager;
        self
    }

    /// Sets where the names of this device come from. Without it the system's alone count.
    #[must_use]
    pub fn named_by(mut self, names: DeviceNames) -> Self {
        self.names = KnownNames::new(names);
        self
    }

    /// Serves until a signal ends it. The order of the steps is that of the module's comment.
    ///
    /// # Errors
    /// When the poll itself fails, which no peer can cause.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut now = Instant::now();
        self.manager.ready(now);
        self.refresh_addresses(now);
        self.change_sign_in(now);
        loop {
            let end = Instant::now();
            self.resources.metrics.turn(end.saturating_duration_since(now));
            match self.poll.poll(&mut events, self.timeout(end)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                Err(_) => events.clear(),
                Ok(()) => {}
            }
            now = Instant::now();
            if !self.turn(&events, now) {
                return Ok(());
            }
        }
    }

    /// All of a turn but the waiting. False when the loop ends.
    fn turn(&mut self, events: &Events, now: Instant) -> bool {
        for event in events {
            self.mark(event, now);
        }
        self.mark_due(now);
        self.look_at_certificates(now);
        self.take_ended_children(now);
        self.serve_mcp(now);
        self.end_runs(now);
        self.renew_token(now);
        self.redial(now);
        self.pump_slots(now);
        self.watch_spending(now);
        self.watch_drain(now);
        self.report(now);
        if self.is_stopped(now) {
            self.end_spending();
            return false;
        }
        self.accept(now);
        true
    }

    // ---- 1. timeout ----

    /// How long the poll may wait; `None` for ever. Every part of the loop that waits for a time must
    /// have its deadline in here. One that is missing passes unseen until the next event.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.marked.is_empty() || self.can_accept(now) || self.has_marked_children() {
            return Some(Duration::ZERO);
        }
        let stop = match self.lifecycle {
            Lifecycle::Draining(deadline) | Lifecycle::Closing(deadline) => Some(deadline),
            Lifecycle::Serving | Lifecycle::Stopped => None,
        };
        // Every turn runs this. An iterator over these deadlines would cost more than the calls.
        let nearest = sooner(self.soonest, stop);
        let nearest = sooner(nearest, sooner(self.children.deadline(), self.accept_deadline()));
        let nearest = sooner(nearest, sooner(self.certificates_due, self.spending_deadline()));
        let nearest = sooner(nearest, sooner(self.connects.deadline(now), self.token_deadline()));
        let nearest = sooner(nearest, sooner(self.servers.deadline(), self.runs.deadline()));
        let nearest = sooner(nearest, self.manager.deadline())?;
        Some(nearest.saturating_duration_since(now))
    }

    fn has_marked_children(&self) -> bool {
        self.helper.is_marked() || self.servers.is_marked()
    }

    // ---- 4. mark ----

    /// Turns an event into a flag of its owner. Signals are the exception: they are handled here,
    /// since they belong to no slot.
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
            return match token {
                ..HELPER => self.children.mark(token),
                HELPER..SERVERS => self.helper.mark(),
                _ => self.servers.mark(token),
            };
        };
        let (at, side) = (token / SIDES, token % SIDES);
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        // The peer's end, or an error, shows only when the socket is read or written. So it counts as
        // readiness. A read that finds fewer bytes than it asked for is then no proof of an empty
        // socket: the end may follow without an event of its own.
        let ending = event.is_read_closed() || event.is_error();
        slot.conn.mark(
            side,
            event.is_readable() || ending,
            event.is_writable() || event.is_error(),
            ending,
        );
        self.want_pump(at);
    }

    /// Has a slot pumped in the next turn, or in this one before its pumping has begun. It may be
    /// called many times.
    fn want_pump(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        if !slot.marked {
            slot.marked = true;
            self.marked.push(at);
        }
    }

    /// Marks the slots whose deadline has passed, and computes `soonest` anew from the others. A slot
    /// that was marked gets its next deadline after its pump (`set_deadline`). Until then it stays
    /// marked, so it cannot be forgotten.
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
                // The shell sends SIGHUP a second time. That must not count as the second signal,
                // which would end running calls at once.
                SIGHUP if self.terminal.has_gone() => {
                    if self.lifecycle == Lifecycle::Serving {
                        self.begin_stop(now);
                    }
                }
                SIGHUP => {
                    self.manager.reloading();
                    self.reload(now);
                    self.certificates_due = Some(now);
                }
                // SIGCHLD: a child has ended.
                _ => {
                    self.children.mark_all();
                    self.servers.mark_all();
                }
            }
        }
    }

    // ---- 5. pump, 6. free ----

    /// Pumps every marked slot once. What gets marked meanwhile waits for the next turn, so one turn
    /// is bounded by the number of slots.
    fn pump_slots(&mut self, now: Instant) {
        // The two lists swap their memory, so that neither is allocated again.
        let mut batch = std::mem::take(&mut self.resting);
        std::mem::swap(&mut batch, &mut self.marked);
        // The flags go before the first pump: a slot that another one marks during this loop must
        // get into the new list.
        for &at in &batch {
            self.slots[at].marked = false;
        }
        let (mut allowance, mut passed_over) = (Allowance::default(), 0);
        for at in batch.drain(..) {
            if !allowance.admits(&self.slots[at].conn) {
                // A visitor that is passed over comes first in the next turn. Otherwise the visitors
                // before it in the list could use up the allowance every time.
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

    /// Lets the connection of a slot do what it can without waiting, within its bounds for one turn.
    fn pump(&mut self, at: usize, now: Instant) -> Progress {
        match &mut self.slots[at].conn {
            // The slot was freed after it had been marked.
            Conn::Free => Progress::Idle,
            Conn::Visitor { .. } => self.pump_visitor(at, now),
            Conn::Call(_) => self.pump_session(at, now),
            Conn::Simulated(service) => service.pump(self.resources.buffers.inbox(), now),
            Conn::TurnedAway { peer, deadline } => {
                pump_turned_away(peer, *deadline, self.resources.buffers.inbox(), now)
            }
        }
    }

    /// Copies the connection's deadline to the slot. It runs after each pump, because the pump may
    /// have moved the deadline.
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

    /// Frees a slot (S1). Whatever its connection held must be given back here: the count of calls,
    /// the PCM blocks, and its tools. The tools would otherwise run on and occupy children.
    fn release(&mut self, at: usize, now: Instant) {
        // The sockets are closed when `slot` is dropped, and the kernel then removes them from the
        // poll.
        let slot = std::mem::replace(&mut self.slots[at], Slot::free());
        self.free.push(at);
        let is_last = self.free.len() == self.slots.len();
        let is_call = matches!(slot.conn, Conn::Call(_));
        if let Conn::Call(session) = slot.conn {
            self.running -= 1;
            self.stop_tools_of(session.id(), now);
            self.connects.forget(at);
            session.release(&mut self.resources.pool, now);
        }
        if is_call || is_last {
            self.log_what_is_left();
        }
    }

    /// Pumps a call, and does what only the loop can do for it: register a socket, and keep what was
    /// learnt about the service for later calls.
    fn pump_session(&mut self, at: usize, now: Instant) -> Progress {
        let mut progress = self.lend(at, now, Session::pump).unwrap_or(Progress::Idle);
        loop {
            let Conn::Call(session) = &mut self.slots[at].conn else {
                return progress;
            };
            let Some(news) = session.news() else {
                return progress;
            };
            match news {
                News::Socket => self.watch_service(at, now),
                news => self.learn_of_service(at, news, now),
            }
            // A new socket may have connected before it was registered, and a new dial has to begin. So
            // it is pumped again without waiting for an event.
            if matches!(news, News::Socket | News::FallBack | News::Redial) {
                progress = Progress::More;
            }
        }
    }

    /// Gives a session an input that does not come from the poll. The session is then pumped in the
    /// next turn: what it has queued for its two sides leaves only with a pump.
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

    /// Lends a session the buffers that all calls share, and then starts the tools that it wants, and
    /// stops those that it does not want any more.
    /// `None` if the slot holds no call.
    fn lend<T>(
        &mut self,
        at: usize,
        now: Instant,
        act: impl FnOnce(&mut Session, &mut TurnContext<'_>) -> T,
    ) -> Option<T> {
        let (Conn::Call(session), Some(calls)) = (&mut self.slots[at].conn, &self.calls) else {
            return None;
        };
        let mut cx = self.resources.lend(&calls.configuration.tools, now);
        let result = act(session, &mut cx);
        if !self.resources.wanted.is_empty() {
            self.start_tools(at, now);
        }
        if !self.resources.unwanted.is_empty() {
            self.stop_runs(at, now);
        }
        Some(result)
    }
}

/// The poll's token of a slot's socket: see [`SLOTS`].
fn token(slot: usize, side: usize) -> Token {
    Token(SLOTS + SIDES * slot + side)
}
