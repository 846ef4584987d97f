//! The way to the service: its addresses race. Each attempt connects, asks a proxy for a tunnel if there
//! is a proxy, and goes on with TLS and the WebSocket upgrade; the first that is open wins.
//!
//! `order` decides which address is tried when; `attempt` is the way at one address. A `Dial` holds the
//! attempts that are open. Its owner registers the sockets that it makes, feeds it readiness and time, and
//! gets an open [`WsPeer`] or a [`DialError`].
//!
//! Through a proxy the addresses are the proxy's, and the proxy looks the service's name up. The proxy
//! sees name and port of the service, never the credential: that leaves only inside TLS to the service.
//!
//! What may be relied on, and what would break without it:
//!
//! - **The race is over only when the upgrade was answered.** Many things on the way accept a connection
//!   and then say nothing. If accepting were enough, each of them would cost every call its time.
//! - **One connection comes out, and the others are closed in the same turn.** A second session of the
//!   service would cost money, and nobody would ever hear of it.
//! - **Each new socket is announced by [`Progress::NewSocket`]**, one a turn, before anything is expected
//!   of it. An owner that did not register it then would never hear of it again.
//! - **All sockets may share one token of the poll.** An event marks every attempt, and one too many costs
//!   a read that says `WouldBlock`.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::proxy::Proxy;
use super::socket::Socket;
use super::upgrade::percent_encoded;
use super::ws::{Sizes, WsPeer};
use attempt::{Attempt, Job, Outcome, Turn};
pub use error::{DialError, ProxyFault, Setback};
use order::Order;

mod attempt;
mod error;
mod order;

/// How long all addresses may take together. A call has 15 s to reach the service and to configure
/// its session; the rest is for the second part.
const DIAL_TIMEOUT: Duration = Duration::from_secs(13);

/// Bytes from which on a credential is looked for in what comes back; Azure's keys have 32 and more.
const MIN_SECRET: usize = 16;

/// Where to, and how.
#[allow(missing_debug_implementations, reason = "the header holds the credential")]
pub struct Target {
    /// Name for TLS and messages.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path and query of the upgrade request.
    pub request_target: String,
    /// `host` or `host:port` as the `Host` field wants it.
    pub host_field: String,
    /// The credential's whole header line, without line end; empty for none.
    pub credential: String,
    /// TLS, or plain for a loopback simulator.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The proxy to go through; only with TLS.
    pub proxy: Option<Proxy>,
}

impl Target {
    /// The host and port that are connected to, and whose addresses are wanted: the proxy's, if there
    /// is one, else the service's.
    #[must_use]
    pub fn next_hop(&self) -> (&str, u16) {
        self.proxy.as_ref().map_or((&self.host, self.port), |proxy| (&proxy.host, proxy.port))
    }

    /// The same target with another credential.
    #[must_use]
    pub fn with_credential(&self, header: &str) -> Self {
        Self {
            host: self.host.clone(),
            request_target: self.request_target.clone(),
            host_field: self.host_field.clone(),
            credential: header.to_owned(),
            tls: self.tls.clone(),
            proxy: self.proxy.clone(),
            ..*self
        }
    }

    /// Whether a token of Entra ID is shown, and no key.
    #[must_use]
    pub fn shows_token(&self) -> bool {
        self.credential.starts_with("Authorization:")
    }

    /// `text` without the credential, should the other side have put it there; else `None`. What
    /// is short is a word of its own, such as the simulator's, and no secret.
    #[must_use]
    pub fn conceal(&self, text: &str) -> Option<String> {
        let secret = self.credential.rsplit(' ').next()?;
        (secret.len() >= MIN_SECRET && text.contains(secret)).then(|| text.replace(secret, "***"))
    }
}

/// What has become of the race.
#[allow(clippy::large_enum_variant, reason = "lives on the stack of one call")]
#[derive(Debug)]
pub enum Progress<S = TcpStream> {
    /// Still under way; wait for readiness or [`Dial::deadline`].
    Pending,
    /// A new socket was made: register it.
    NewSocket,
    /// The WebSocket is open.
    Open(WsPeer<S>),
    /// It failed for good.
    Failed(DialError),
}

/// How far an attempt has got, for those who time it; in the order of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The address has not accepted yet.
    Connect,
    /// The proxy is asked for a tunnel.
    Tunnel,
    /// The TLS handshake.
    Tls,
    /// The upgrade request is on its way or sent.
    Upgrade,
    /// The attempt is over, one way or the other.
    Over,
}

impl Step {
    /// What was not finished in time, for a sentence.
    fn name(self) -> &'static str {
        match self {
            Self::Connect => "the TCP handshake",
            Self::Tunnel => "the proxy's tunnel",
            Self::Tls => "the TLS handshake",
            Self::Upgrade | Self::Over => "the WebSocket upgrade",
        }
    }
}

/// One race to the service.
#[allow(missing_debug_implementations, reason = "the target holds the credential")]
pub struct Dial<S = TcpStream> {
    job: Job,
    order: Order,
    /// The attempts that are open, in the order in which they began.
    open: Vec<Attempt<S>>,
    /// Where the race has ended, if it was won.
    winner: Option<SocketAddr>,
    is_over: bool,
    /// The failure that is told if no address is left: of those that got furthest, the last.
    worst: DialError,
    /// Addresses that were late or given up, and not told of; at most one each.
    setbacks: Vec<Setback>,
}

impl<S: Socket> Dial<S> {
    /// Prepares a race of these addresses; the first one has the start. `request_id` is an
    /// [`upgrade::request_id`](super::upgrade::request_id), the same for all of them, or empty.
    #[must_use]
    pub fn new(
        target: Rc<Target>,
        addresses: Vec<SocketAddr>,
        request_id: String,
        sizes: Sizes,
        now: Instant,
    ) -> Self {
        let end = now + DIAL_TIMEOUT;
        Self {
            job: Job { target, request_id, sizes, query: String::new(), end },
            order: Order::new(addresses, now, end),
            open: Vec::new(),
            winner: None,
            is_over: false,
            worst: DialError::Connect(ErrorKind::AddrNotAvailable.into()),
            setbacks: Vec::new(),
        }
    }

    /// Goes on with an agent's conversation: the query parameter `conversation-id` of the SDK. An empty
    /// id adds nothing, and one that the owner has set stays.
    #[must_use]
    pub fn with_conversation(mut self, id: &str) -> Self {
        if !id.is_empty() && !self.job.target.request_target.contains("&conversation-id=") {
            self.job.query = format!("&conversation-id={}", percent_encoded(id));
        }
        self
    }

    /// When [`advance`](Self::advance) must be called again at the latest.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let attempts = self.open.iter().map(|attempt| attempt.deadline);
        attempts.chain(self.order.due(self.open.len())).min().unwrap_or(self.job.end)
    }

    /// The attempt that has got furthest; of several, the one that began first.
    fn leader(&self) -> Option<&Attempt<S>> {
        self.open.iter().reduce(|leader, it| if it.step() > leader.step() { it } else { leader })
    }

    /// How far the best attempt has got.
    #[must_use]
    pub fn step(&self) -> Step {
        match self.leader() {
            Some(leader) => leader.step(),
            None if self.is_over => Step::Over,
            None => Step::Connect,
        }
    }

    /// All addresses.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        self.order.addresses()
    }

    /// The winner's address; before there is one, that of the best attempt, or the one tried last.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        let leader = || self.leader().map(|leader| leader.address);
        self.winner.or_else(leader).or_else(|| self.order.last())
    }

    /// The socket to register after [`Progress::NewSocket`]: the newest.
    pub fn socket(&mut self) -> Option<&mut S> {
        self.open.last_mut()?.socket()
    }

    /// The poll reported a socket, whichever it is.
    pub fn mark(&mut self, readable: bool, writable: bool, ending: bool) {
        for attempt in &mut self.open {
            attempt.mark(readable, writable, ending);
        }
    }

    /// An address that was late or given up, said once; another one is tried.
    pub fn take_setback(&mut self) -> Option<Setback> {
        (!self.setbacks.is_empty()).then(|| self.setbacks.remove(0))
    }

    /// Goes as far as it can without waiting.
    pub fn advance(&mut self, now: Instant) -> Progress<S> {
        let mut at = 0;
        while let Some(attempt) = self.open.get_mut(at) {
            let before = attempt.step();
            let turn = Turn { job: &self.job, left: self.order.left(), now };
            match attempt.advance(turn) {
                Outcome::Pending => {
                    let (step, is_newest) = (attempt.step(), at + 1 == self.open.len());
                    if is_newest && step != before {
                        self.order.put_off(step, self.job.target.tls.is_some(), now);
                    }
                    at += 1;
                }
                Outcome::Open(peer) => {
                    self.winner = Some(attempt.address);
                    self.finish();
                    return Progress::Open(peer);
                }
                Outcome::GivenUp(error) => {
                    let Attempt { address, is_told, .. } = self.open.remove(at);
                    if at == self.open.len() {
                        self.order.hurry(now);
                    }
                    self.note(address, error, is_told);
                }
                Outcome::Failed(error) => return self.fail(error),
            }
        }
        self.begin_next(now)
    }

    /// Begins at the next address that is due and lets a connection begin.
    fn begin_next(&mut self, now: Instant) -> Progress<S> {
        while let Some(address) = self.order.begin(self.open.len(), now) {
            match Attempt::begin(address, &self.job, now) {
                Ok(attempt) => {
                    self.tell_late();
                    self.open.push(attempt);
                    return Progress::NewSocket;
                }
                Err(error) => {
                    self.order.hurry(now);
                    self.note(address, DialError::Connect(error), false);
                }
            }
        }
        if !self.open.is_empty() {
            return Progress::Pending;
        }
        let none = DialError::Connect(ErrorKind::NotConnected.into());
        let worst = std::mem::replace(&mut self.worst, none);
        self.fail(match (worst, &self.job.target.proxy) {
            (DialError::Connect(error), Some(proxy)) => {
                DialError::Proxy(Box::new(proxy.clone()), ProxyFault::Unreachable(error))
            }
            (worst, _) => worst,
        })
    }

    /// The newest attempt is late, so another one begins beside it.
    fn tell_late(&mut self) {
        if let Some(late) = self.open.last_mut().filter(|late| !late.is_told) {
            late.is_told = true;
            let late = Setback::new(late.address, &DialError::Timeout(late.step().name()));
            self.setbacks.push(late);
        }
    }

    /// An address was given up.
    fn note(&mut self, address: SocketAddr, error: DialError, is_told: bool) {
        if !is_told && (self.order.left() > 0 || !self.open.is_empty()) {
            self.setbacks.push(Setback::new(address, &error));
        }
        if error.reach() >= self.worst.reach() {
            self.worst = error;
        }
    }

    fn fail(&mut self, error: DialError) -> Progress<S> {
        self.finish();
        Progress::Failed(error)
    }

    /// Closes what is open, which takes it out of the poll.
    fn finish(&mut self) {
        self.open.clear();
        self.is_over = true;
    }
}
