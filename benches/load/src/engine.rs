//! One thread and one poll for all callers and the stand-in.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustls::ServerConfig;

use crate::caller::{Caller, FRAME, Sent};
use crate::pattern::Pattern;
use crate::process::Account;
use crate::service::Service;

/// 20 ms: what a frame of audio lasts.
pub(crate) const PERIOD: Duration = Duration::from_millis(20);

/// Read at once: more than a socket's usual share of a turn.
const BUFFER: usize = 64 * 1024;

const LISTENER: Token = Token(0);

/// How the callers speak.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Not at all.
    Silent,
    /// A frame every 20 ms, the calls spread evenly over that time.
    RealTime,
    /// The next frame as soon as the last is back.
    Saturating,
}

/// What was seen since the last [`Engine::begin_window`].
#[derive(Default)]
pub(crate) struct Window {
    /// Frames that came back.
    pub(crate) echoed: u64,
    /// From sending a frame to having it back, in nanoseconds.
    pub(crate) delays: Vec<u64>,
    /// By how much frames were sent too late (real time), in nanoseconds.
    pub(crate) lateness: Vec<u64>,
    /// For each delay, how much of it this process waited for its core, in nanoseconds. Only where
    /// it sleeps: who spins has the core.
    pub(crate) waits: Vec<u64>,
}

/// Everything but the relay.
pub(crate) struct Engine {
    poll: Poll,
    events: Events,
    buffer: Box<[u8]>,
    /// Where the relay's service connections come in; `None` while another process is the service.
    door: Option<TcpListener>,
    tls: Arc<ServerConfig>,
    pub(crate) service: SocketAddr,
    services: Vec<Option<Service>>,
    callers: Vec<Option<Caller>>,
    pattern: Pattern,
    pace: Pace,
    /// When the next caller speaks, and which.
    due: (Instant, usize),
    /// Delays are noted for frames sent from here on.
    since: Instant,
    pub(crate) window: Window,
    /// Frames that ever came back.
    pub(crate) echoed: u64,
    /// Calls that ended before their time, and why the first did.
    pub(crate) failed: Vec<String>,
    /// Service sessions configured so far, and those of them with a resumed TLS session.
    pub(crate) configured: usize,
    pub(crate) resumed: usize,
    /// Never sleep: deliver at once, without the cost of waking a sleeping process.
    pub(crate) spin: bool,
    /// Callers that speak, if not all.
    pub(crate) talking: usize,
    /// What the kernel says of this process.
    account: Account,
}

impl Engine {
    pub(crate) fn new(tls: Arc<ServerConfig>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let now = Instant::now();
        Ok(Self {
            poll,
            events: Events::with_capacity(1_024),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            service: listener.local_addr()?,
            door: Some(listener),
            tls,
            services: Vec::new(),
            callers: Vec::new(),
            pattern: Pattern::new(),
            pace: Pace::Silent,
            due: (now, 0),
            since: now,
            window: Window::default(),
            echoed: 0,
            failed: Vec::new(),
            configured: 0,
            resumed: 0,
            spin: false,
            talking: usize::MAX,
            account: Account::own()?,
        })
    }

    /// Leaves the service's port to another process. Connections that there are stay.
    pub(crate) fn close_door(&mut self) -> io::Result<()> {
        match self.door.take() {
            Some(mut listener) => self.poll.registry().deregister(&mut listener),
            None => Ok(()),
        }
    }

    /// Calls that were opened and have not failed.
    pub(crate) fn calls(&self) -> usize {
        self.callers.iter().flatten().count()
    }

    /// Opens one more call and waits until its service session is configured.
    pub(crate) fn open_call(&mut self, relay: SocketAddr) -> io::Result<()> {
        let call = self.callers.len();
        let mut caller = Caller::new(call, TcpStream::connect(relay)?, relay)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut caller.socket, Token(2 + 2 * call), interest)?;
        self.callers.push(Some(caller));
        let wanted = self.configured + 1;
        let deadline = Instant::now() + Duration::from_secs(20);
        let ready = |engine: &Self| {
            let upgraded = engine.callers[call].as_ref().is_some_and(Caller::upgraded);
            upgraded && engine.configured >= wanted
        };
        while !ready(self) {
            self.turn(Some(Duration::from_millis(100)))?;
            if let Some(why) = self.failed.first() {
                return Err(io::Error::other(why.clone()));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("a call does not get ready"));
            }
        }
        Ok(())
    }

    /// Lets the callers speak from now on, or no more.
    pub(crate) fn set_pace(&mut self, pace: Pace) -> io::Result<()> {
        self.pace = pace;
        self.due = (Instant::now(), 0);
        if pace == Pace::Saturating {
            for call in 0..self.callers.len() {
                self.speak(call);
            }
        }
        Ok(())
    }

    pub(crate) fn begin_window(&mut self) {
        self.window = Window::default();
        self.since = Instant::now();
    }

    /// Runs for so long.
    pub(crate) fn run(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        loop {
            let now = Instant::now();
            let left = end.saturating_duration_since(now);
            if left.is_zero() {
                return Ok(());
            }
            let next = if self.pace == Pace::RealTime {
                self.speak_due(now);
                left.min(self.due.0.saturating_duration_since(Instant::now()))
            } else {
                left
            };
            self.turn(Some(if self.spin { Duration::ZERO } else { next }))?;
        }
    }

    /// Waits until every frame is back; false if some never come.
    pub(crate) fn drain(&mut self, patience: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + patience;
        self.set_pace(Pace::Silent)?;
        while self.callers.iter().flatten().any(|caller| caller.outstanding() > 0) {
            if Instant::now() > deadline {
                return Ok(false);
            }
            self.turn(Some(Duration::from_millis(20)))?;
        }
        Ok(true)
    }

    /// Has the model call a tool in every call at once, and waits for all results. Gives the nanoseconds from
    /// each tool call to its result.
    pub(crate) fn tool_round(&mut self) -> io::Result<Vec<u64>> {
        for service in self.services.iter_mut().flatten() {
            service.call_tool()?;
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.services.iter().flatten().any(|service| service.round_trip.is_none()) {
            if Instant::now() > deadline {
                return Err(io::Error::other("a tool's result does not come"));
            }
            self.turn(Some(if self.spin { Duration::ZERO } else { Duration::from_millis(20) }))?;
        }
        Ok(self.services.iter().flatten().filter_map(|service| service.round_trip).collect())
    }

    /// All callers leave in order.
    pub(crate) fn hang_up(&mut self) -> io::Result<()> {
        for caller in self.callers.iter_mut().flatten() {
            // Whoever is gone already needs no farewell.
            let _ = caller.hang_up();
        }
        self.run(Duration::from_millis(100))
    }

    fn speak_due(&mut self, now: Instant) {
        let talking = self.callers.len().clamp(1, self.talking.max(1));
        let step = PERIOD / u32::try_from(talking).unwrap_or(u32::MAX);
        while self.due.0 <= now {
            let (due, call) = self.due;
            if due >= self.since {
                self.window.lateness.push((now - due).as_nanos() as u64);
            }
            self.speak(call);
            self.due = (due + step, (call + 1) % talking);
        }
    }

    fn speak(&mut self, call: usize) {
        let Some(caller) = &mut self.callers[call] else { return };
        let waited = if self.spin { 0 } else { self.account.waited() };
        if let Err(error) = caller.speak(&self.pattern, Sent { at: Instant::now(), waited }) {
            self.fail(call, &error);
        }
    }

    fn fail(&mut self, call: usize, error: &io::Error) {
        self.callers[call] = None;
        self.failed.push(format!("call {call}: {error}"));
    }

    fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(1));
        self.poll.poll(&mut events, timeout)?;
        // Everything of this batch had come by now: our own work shall not count as delay.
        let now = Instant::now();
        for event in &events {
            match event.token() {
                LISTENER => self.accept()?,
                Token(token) if token % 2 == 0 => {
                    self.on_caller(token / 2 - 1, event.is_readable(), now);
                }
                Token(token) => self.on_service(token / 2, event.is_readable()),
            }
        }
        self.events = events;
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some(Ok((socket, _))) = self.door.as_ref().map(TcpListener::accept) {
            let mut service = Service::new(socket, &self.tls)?;
            let token = Token(1 + 2 * self.services.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut service.socket, token, interest)?;
            self.services.push(Some(service));
        }
        Ok(())
    }

    fn on_caller(&mut self, call: usize, readable: bool, now: Instant) {
        let Some(caller) = &mut self.callers[call] else { return };
        let (window, since) = (&mut self.window, self.since);
        let waited = if self.spin { 0 } else { self.account.waited() };
        let mut back = 0_u64;
        let echoed = |sent: Sent| {
            back += 1;
            window.echoed += 1;
            if sent.at >= since {
                window.delays.push(now.saturating_duration_since(sent.at).as_nanos() as u64);
                window.waits.push(waited - sent.waited);
            }
        };
        let result = if readable {
            caller.readable(&mut self.buffer, &self.pattern, echoed)
        } else {
            caller.flush()
        };
        self.echoed += back;
        match result {
            Ok(()) if self.pace == Pace::Saturating => (0..back).for_each(|_| self.speak(call)),
            Ok(()) => {}
            Err(error) => self.fail(call, &error),
        }
    }

    fn on_service(&mut self, index: usize, readable: bool) {
        let Some(service) = self.services[index].as_mut() else { return };
        let was_configured = service.configured;
        let open = if readable {
            service.readable(&mut self.buffer)
        } else {
            service.flush().map(|()| true)
        };
        if service.configured && !was_configured {
            self.configured += 1;
            self.resumed += usize::from(service.resumed() == Some(true));
        }
        // A relay that goes away without a farewell shows at the callers.
        if !matches!(open, Ok(true)) {
            self.services[index] = None;
        }
    }
}

/// Seconds of audio in so many frames.
pub(crate) fn audio_seconds(frames: u64) -> f64 {
    (frames * FRAME as u64) as f64 / 48_000.0
}
