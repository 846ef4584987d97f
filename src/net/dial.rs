//! The way to the service: connect, a proxy's tunnel if there is a proxy, TLS, WebSocket upgrade, at one
//! address after the other.
//!
//! A state machine over non-blocking sockets. Its owner registers the socket it makes, feeds it
//! readiness and time, and gets an open [`WsPeer`] or a [`DialError`].
//!
//! ```text
//! Start ──► Connecting ──┬──────────────────► Upgrading ──► Finished: open, or refused by the service
//!             ▲   │      └──► Tunnelling ───────▲ │            ▲
//!             │   │               │   └───────────┼────────────┘  refused by the proxy
//!             └───┴───────────────┴───────────────┘  silence or a break: the next address
//! ```
//!
//! Through a proxy the addresses are the proxy's, and the proxy looks the service's name up. The proxy
//! sees name and port of the service, never the credential: that leaves only inside TLS to the service.
//!
//! What may be relied on, and what would break without it:
//!
//! - **There is one socket at a time.** Each new one is announced by [`Progress::NewSocket`] before
//!   anything is expected of it. An owner that did not register it then would never hear of it again.
//! - **A deadline is always set**, and no later than the dial's own end. Many things on the way take a
//!   connection and then say nothing (a firewall that knows IPv6 by half, a full proxy). Without it the
//!   call would wait for its own end, and so would every call after it, since only an address that was
//!   given up is moved behind the others.
//! - **Only an address is given up for silence and breaks; an answer ends the dial.** A refusal is the
//!   service's own word, and holds at its other addresses too. Asking there would only use up the
//!   quota of connections.
//! - **The request leaves after TLS has proved who is there.** [`Transport`] keeps it until then. So a
//!   credential reaches no address of another.
//! - **`Finished` is never left.** It stands in whenever a stage is taken out to be worked on, so a
//!   path that forgot to put one back would end the dial and not repeat it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::body;
pub use super::dial_error::{DialError, ProxyFault, Setback};
use super::proxy::{self, Proxy};
use super::socket::Socket;
use super::transport::Transport;
use super::upgrade::{self, Answer, MAX_ANSWER_HEAD, Refusal, percent_encoded};
use super::ws::{Role, Sizes, WsPeer};

/// How long one address may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a proxy may take to open its tunnel, TLS to it included, once connected, where no other
/// address is left.
const TUNNEL_TIMEOUT: Duration = Duration::from_secs(8);

/// How long TLS and the upgrade may take together, once connected, where no other address is left.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// The same where others are left. It is more than a slow network takes for it, and little enough
/// for three addresses to be tried.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(4);

/// How long all addresses may take together. A call has 15 s to reach the service and to configure
/// its session; the rest is for the second part.
const DIAL_TIMEOUT: Duration = Duration::from_secs(13);

/// How long the rest of a refusal's body may take.
const REFUSAL_BODY_WAIT: Duration = Duration::from_secs(1);

/// Bytes of a refusal's body that are kept: Azure says there what is wrong.
const MAX_REFUSAL_BODY: usize = 8 * 1024;

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

/// What has become of the attempt.
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
    /// No address has accepted yet.
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

/// One attempt to reach the service.
#[allow(missing_debug_implementations, reason = "the target holds the credential")]
pub struct Dial<S = TcpStream> {
    target: Rc<Target>,
    addresses: Vec<SocketAddr>,
    /// The index of the address that is tried after the present one.
    next: usize,
    /// The call's `x-ms-client-request-id`; empty for none.
    request_id: String,
    stage: Stage<S>,
    deadline: Instant,
    /// How long the proxy has for its tunnel.
    tunnel_time: Duration,
    /// When the whole dial is over.
    end: Instant,
    /// The failure that is told if no address is left: of those that got furthest, the last.
    worst: DialError,
    setback: Option<Setback>,
    sizes: Sizes,
    /// What is added to the request's query.
    query: String,
}

enum Stage<S> {
    /// No socket yet.
    Start,
    /// Waiting for the TCP handshake (C1).
    Connecting(S),
    /// The proxy's address has accepted. `CONNECT` is on its way or sent, perhaps inside TLS to the proxy;
    /// collecting the answer. Nothing of the service's credential is here yet.
    Tunnelling { transport: Transport<S>, request: Vec<u8>, answer: Vec<u8> },
    /// The request is on its way or sent; collecting the answer.
    Upgrading { transport: Transport<S>, request: Vec<u8>, accept: String, answer: Vec<u8> },
    /// Over.
    Finished,
}

impl<S: Socket> Dial<S> {
    /// Prepares an attempt over these addresses, in order. `request_id` is an
    /// [`upgrade::request_id`], the same for all of them, or empty.
    #[must_use]
    pub fn new(
        target: Rc<Target>,
        addresses: Vec<SocketAddr>,
        request_id: String,
        sizes: Sizes,
        now: Instant,
    ) -> Self {
        Self {
            target,
            addresses,
            next: 0,
            request_id,
            stage: Stage::Start,
            deadline: now,
            tunnel_time: TUNNEL_TIMEOUT,
            end: now + DIAL_TIMEOUT,
            worst: DialError::Connect(ErrorKind::AddrNotAvailable.into()),
            setback: None,
            sizes,
            query: String::new(),
        }
    }

    /// Goes on with an agent's conversation: the query parameter `conversation-id` of the SDK. An empty
    /// id adds nothing.
    #[must_use]
    pub fn with_conversation(mut self, id: &str) -> Self {
        if !id.is_empty() {
            self.query = format!("&conversation-id={}", percent_encoded(id));
        }
        self
    }

    /// When [`advance`](Self::advance) must be called again at the latest.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How far it has got.
    #[must_use]
    pub fn step(&self) -> Step {
        match &self.stage {
            Stage::Start | Stage::Connecting(_) => Step::Connect,
            Stage::Tunnelling { .. } => Step::Tunnel,
            Stage::Upgrading { transport, .. } if transport.is_handshaking() => Step::Tls,
            Stage::Upgrading { .. } => Step::Upgrade,
            Stage::Finished => Step::Over,
        }
    }

    /// All addresses.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address tried last.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.addresses.get(self.next.checked_sub(1)?).copied()
    }

    /// The socket to register after [`Progress::NewSocket`].
    pub fn socket(&mut self) -> Option<&mut S> {
        match &mut self.stage {
            Stage::Connecting(socket) => Some(socket),
            Stage::Tunnelling { transport, .. } | Stage::Upgrading { transport, .. } => {
                Some(transport.stream_mut())
            }
            Stage::Start | Stage::Finished => None,
        }
    }

    /// The poll reported the socket.
    pub fn mark(&mut self, readable: bool, writable: bool, ending: bool) {
        if let Stage::Tunnelling { transport, .. } | Stage::Upgrading { transport, .. } =
            &mut self.stage
        {
            if readable {
                transport.mark_readable(ending);
            }
            if writable {
                transport.mark_writable();
            }
        }
    }

    /// Goes as far as it can without waiting.
    pub fn advance(&mut self, now: Instant) -> Progress<S> {
        match std::mem::replace(&mut self.stage, Stage::Finished) {
            Stage::Start => self.try_next(now),
            Stage::Connecting(socket) => self.connecting(socket, now),
            Stage::Tunnelling { transport, request, answer } => {
                self.tunnelling(transport, request, answer, now)
            }
            Stage::Upgrading { transport, request, accept, answer } => {
                self.upgrading(transport, request, accept, answer, now)
            }
            Stage::Finished => Progress::Failed(DialError::Connect(ErrorKind::NotConnected.into())),
        }
    }

    /// Start → Connecting at the first address that lets a connection begin, → Finished if there is
    /// none.
    fn try_next(&mut self, now: Instant) -> Progress<S> {
        while let Some(address) = self.addresses.get(self.next).filter(|_| now < self.end) {
            self.next += 1;
            match S::connect(*address) {
                Ok(socket) => {
                    self.stage = Stage::Connecting(socket);
                    self.deadline = self.end.min(now + CONNECT_TIMEOUT);
                    return Progress::NewSocket;
                }
                Err(error) => self.note(DialError::Connect(error)),
            }
        }
        let none = DialError::Connect(ErrorKind::NotConnected.into());
        let worst = std::mem::replace(&mut self.worst, none);
        Progress::Failed(match (worst, &self.target.proxy) {
            (DialError::Connect(error), Some(proxy)) => {
                DialError::Proxy(Box::new(proxy.clone()), ProxyFault::Unreachable(error))
            }
            (worst, _) => worst,
        })
    }

    /// Connecting, Upgrading → Connecting at the next address. The socket was dropped with its stage,
    /// which takes it out of the poll.
    fn give_up_address(&mut self, error: DialError, now: Instant) -> Progress<S> {
        self.note(error);
        self.try_next(now)
    }

    fn note(&mut self, error: DialError) {
        if self.next < self.addresses.len() {
            self.setback = Some(Setback::new(self.address(), &error));
        }
        if error.reach() >= self.worst.reach() {
            self.worst = error;
        }
    }

    /// The address that was given up last, said once.
    pub fn take_setback(&mut self) -> Option<Setback> {
        self.setback.take()
    }

    /// C1: connected means a writable event, no pending error, and a peer address.
    fn connecting(&mut self, socket: S, now: Instant) -> Progress<S> {
        match socket.is_connected() {
            Ok(true) => self.connected(socket, now),
            Ok(false) if now < self.deadline => {
                self.stage = Stage::Connecting(socket);
                Progress::Pending
            }
            Ok(false) => {
                drop(socket);
                self.give_up_address(DialError::Connect(ErrorKind::TimedOut.into()), now)
            }
            Err(error) => {
                drop(socket);
                self.give_up_address(DialError::Connect(error), now)
            }
        }
    }

    /// When the present address must have gone so far, if it may take `most` where no other is left.
    fn stage_deadline(&self, most: Duration, now: Instant) -> Instant {
        let others = self.addresses.len().saturating_sub(self.next);
        let most = if others == 0 { most } else { ADDRESS_TIMEOUT };
        let all = u32::try_from(others + 1).unwrap_or(u32::MAX);
        now + most.min(self.end.saturating_duration_since(now) / all)
    }

    /// Connecting → Tunnelling through a proxy, else → Upgrading.
    fn connected(&mut self, socket: S, now: Instant) -> Progress<S> {
        socket.hurry();
        let target = Rc::clone(&self.target);
        let (config, host) = (target.tls.as_ref(), target.host.as_str());
        let Some(proxy) = &target.proxy else {
            return match config.map(|config| super::tls::client(config, host)).transpose() {
                Ok(None) => self.begin_upgrade(Transport::plain(socket), now),
                Ok(Some(connection)) => self.begin_upgrade(Transport::tls(socket, connection), now),
                Err(error) => Progress::Failed(DialError::Internal(error)),
            };
        };
        let config = config.filter(|_| proxy.tls);
        let transport =
            match config.map(|config| super::tls::client(config, &proxy.host)).transpose() {
                Ok(None) => Transport::plain(socket),
                Ok(Some(connection)) => Transport::tls(socket, connection),
                Err(error) => return Progress::Failed(DialError::Internal(error)),
            };
        self.deadline = self.stage_deadline(TUNNEL_TIMEOUT, now);
        self.tunnel_time = self.deadline.saturating_duration_since(now);
        let request = proxy.request(host, target.port).into_bytes();
        self.tunnelling(transport, request, Vec::new(), now)
    }

    /// Tunnelling → Upgrading when the proxy has opened the tunnel.
    fn tunnelling(
        &mut self,
        mut transport: Transport<S>,
        mut request: Vec<u8>,
        mut answer: Vec<u8>,
        now: Instant,
    ) -> Progress<S> {
        transport.begin_turn();
        let ended = match exchange(&mut transport, &mut request, &mut answer) {
            Ok(ended) => ended,
            Err(error) => return self.no_tunnel(proxy_broken(error), now),
        };
        match proxy::answer(&answer) {
            proxy::Answer::Open(head) => return self.tunnel(transport, &answer[head..], now),
            proxy::Answer::Refused(refusal) => {
                return self.no_tunnel(ProxyFault::Refused(refusal), now);
            }
            proxy::Answer::Invalid(what) => return self.no_tunnel(ProxyFault::Invalid(what), now),
            proxy::Answer::Partial => {}
        }
        if ended {
            return self.no_tunnel(ProxyFault::Broken(ErrorKind::UnexpectedEof.into()), now);
        }
        if now >= self.deadline {
            return self.no_tunnel(ProxyFault::Silent(self.tunnel_time.as_secs()), now);
        }
        self.stage = Stage::Tunnelling { transport, request, answer };
        Progress::Pending
    }

    /// TLS to the service begins inside the tunnel. Only TLS may go through: the proxy would read the
    /// credential otherwise.
    fn tunnel(&mut self, transport: Transport<S>, early: &[u8], now: Instant) -> Progress<S> {
        let Some(config) = &self.target.tls else {
            let what = "only an encrypted service is reached through a proxy".to_owned();
            return Progress::Failed(DialError::Internal(what));
        };
        let connection = match super::tls::client(config, &self.target.host) {
            Ok(connection) => connection,
            Err(error) => return Progress::Failed(DialError::Internal(error)),
        };
        match transport.tunnelled(connection, early) {
            Ok(transport) => self.begin_upgrade(transport, now),
            Err(error) => self.give_up_address(broken(error), now),
        }
    }

    /// Tunnelling → Finished, or → Connecting if the address is to blame.
    fn no_tunnel(&mut self, mut fault: ProxyFault, now: Instant) -> Progress<S> {
        let Some(proxy) = self.target.proxy.clone() else {
            return Progress::Failed(DialError::Internal("there is no proxy".to_owned()));
        };
        if let ProxyFault::Refused(refusal) = &mut fault {
            refusal.reason = proxy.conceal(&refusal.reason);
            for challenge in &mut refusal.challenges {
                *challenge = proxy.conceal(challenge);
            }
        }
        let error = DialError::Proxy(Box::new(proxy), fault);
        // As the service's, its refusal holds at its other addresses too.
        if error.is_absence() { self.give_up_address(error, now) } else { Progress::Failed(error) }
    }

    fn begin_upgrade(&mut self, transport: Transport<S>, now: Instant) -> Progress<S> {
        let Target { host_field, request_target, credential, .. } = &*self.target;
        let request_target = format!("{request_target}{}", self.query);
        match upgrade::request(host_field, &request_target, credential, &self.request_id) {
            Ok(upgrade::Request { text, accept }) => {
                self.deadline = self.stage_deadline(UPGRADE_TIMEOUT, now);
                self.upgrading(transport, text.into_bytes(), accept, Vec::new(), now)
            }
            Err(error) => Progress::Failed(DialError::Internal(error)),
        }
    }

    /// Goes on with TLS, the request and the answer, and judges what there is of the answer.
    fn upgrading(
        &mut self,
        mut transport: Transport<S>,
        mut request: Vec<u8>,
        accept: String,
        mut answer: Vec<u8>,
        now: Instant,
    ) -> Progress<S> {
        transport.begin_turn();
        let ended = match exchange(&mut transport, &mut request, &mut answer) {
            Ok(ended) => ended,
            Err(error) => return self.give_up_address(broken(error), now),
        };
        match upgrade::answer(&answer, &accept) {
            Answer::Upgraded(head) => {
                return Progress::Open(WsPeer::new(
                    transport,
                    Role::Client,
                    self.sizes,
                    &answer[head..],
                ));
            }
            Answer::Refused(mut refusal)
                if ended || body_complete(&refusal, &answer) || now >= self.deadline =>
            {
                let body = body_text(&refusal, &answer);
                let body = self.target.conceal(&body).unwrap_or(body);
                let id = refusal.request_id.as_deref().and_then(|id| self.target.conceal(id));
                refusal.request_id = id.or(refusal.request_id);
                return Progress::Failed(DialError::Refused(refusal, body));
            }
            Answer::Invalid(what) => return Progress::Failed(DialError::Invalid(what)),
            // The refusal is clear already; its text is worth a moment, not the whole wait.
            Answer::Refused(_) => self.deadline = self.deadline.min(now + REFUSAL_BODY_WAIT),
            Answer::Partial => {}
        }
        if ended {
            let error = DialError::Broken(ErrorKind::UnexpectedEof.into());
            return self.give_up_address(error, now);
        }
        if now >= self.deadline {
            let step = if transport.is_handshaking() {
                "the TLS handshake"
            } else {
                "the WebSocket upgrade"
            };
            return self.give_up_address(DialError::Timeout(step), now);
        }
        self.stage = Stage::Upgrading { transport, request, accept, answer };
        Progress::Pending
    }
}

/// Sends what is left of the request, reads what there is of the answer; true at the peer's end.
fn exchange<S: Socket>(
    transport: &mut Transport<S>,
    request: &mut Vec<u8>,
    answer: &mut Vec<u8>,
) -> io::Result<bool> {
    let mut ended = false;
    loop {
        match send_some(transport, request) {
            Ok(()) => {}
            // The peer may have answered before it closed: read that first.
            Err(error) if is_reset(&error) => ended = true,
            Err(error) => return Err(error),
        }
        if answer.len() >= MAX_ANSWER_HEAD + MAX_REFUSAL_BODY {
            return Ok(true);
        }
        let mut chunk = [0; 2048];
        match transport.read(&mut chunk) {
            Ok(0) => return Ok(true),
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(ended),
            Err(error) if is_reset(&error) && !answer.is_empty() => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

fn send_some<S: Socket>(transport: &mut Transport<S>, request: &mut Vec<u8>) -> io::Result<()> {
    while !request.is_empty() {
        match transport.write(request) {
            Ok(count) => drop(request.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    transport.flush()
}

fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
    )
}

/// Whether no more of a refusal's body is to be waited for.
fn body_complete(refusal: &Refusal, answer: &[u8]) -> bool {
    let body = &answer[refusal.head_bytes..];
    if refusal.chunked {
        let (body, ended) = body::unchunked(body);
        return ended || body.len() >= MAX_REFUSAL_BODY;
    }
    body.len() >= refusal.content_length.unwrap_or(usize::MAX).min(MAX_REFUSAL_BODY)
}

/// What there is of a refusal's body, at most [`MAX_REFUSAL_BODY`] bytes of it.
fn body_text(refusal: &Refusal, answer: &[u8]) -> String {
    let body = &answer[refusal.head_bytes..];
    let mut body = if refusal.chunked { body::unchunked(body).0 } else { body.to_vec() };
    body.truncate(refusal.content_length.unwrap_or(usize::MAX).min(MAX_REFUSAL_BODY));
    body::text(&body)
}

fn proxy_broken(error: io::Error) -> ProxyFault {
    match broken(error) {
        DialError::Tls(error) => ProxyFault::Tls(error),
        DialError::Broken(error) => ProxyFault::Broken(error),
        _ => ProxyFault::Broken(ErrorKind::Other.into()),
    }
}

fn broken(error: io::Error) -> DialError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => DialError::Tls(tls.clone()),
        None => DialError::Broken(error),
    }
}
