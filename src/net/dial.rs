//! The way to the service: connect (next address on failure), a proxy's tunnel if there is a proxy, TLS,
//! WebSocket upgrade.
//!
//! ```text
//! Start ─► Connecting ─┬─────────────────► Upgrading ─► Finished
//!             ▲   │    └─► Tunnelling ────────▲
//!             └───┘ the next address
//! ```
//!
//! Through a proxy the addresses are the proxy's, and the proxy looks the service's name up. The proxy
//! sees name and port of the service, never the credential: that leaves only inside TLS to the service.
//!
//! A state machine over non-blocking sockets. Its owner registers the socket it makes, feeds it
//! readiness and time, and gets an open [`WsPeer`] or a [`DialError`].

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::proxy::{self, Proxy};
use super::socket::Socket;
use super::transport::Transport;
use super::upgrade::{self, Answer, MAX_ANSWER_HEAD, Refusal};
use super::ws::{Role, Sizes, WsPeer};

/// How long one address may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a proxy may take to open its tunnel, TLS to it included, once connected.
const TUNNEL_TIMEOUT: Duration = Duration::from_secs(8);

/// How long TLS and the upgrade may take together, once connected.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

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

/// Why there is no tunnel through a proxy.
#[derive(Debug)]
pub enum ProxyFault {
    /// No address of it accepted; the last one's error.
    Unreachable(io::Error),
    /// TLS to the proxy itself failed.
    Tls(rustls::Error),
    /// It closed the connection without an answer.
    Broken(io::Error),
    /// It did not answer in so many seconds.
    Silent(u64),
    /// It refused, and shows these words.
    Refused(proxy::Refusal),
    /// Its answer made no sense.
    Invalid(&'static str),
}

/// Why there is no connection.
#[derive(Debug)]
pub enum DialError {
    /// The proxy is not there, or opens no tunnel.
    Proxy(Box<Proxy>, ProxyFault),
    /// No address accepted; the last one's error.
    Connect(io::Error),
    /// TLS failed: certificate, version, clock.
    Tls(rustls::Error),
    /// The connection broke before the upgrade was answered.
    Broken(io::Error),
    /// Nothing came in time; the text names the step.
    Timeout(&'static str),
    /// The answer was no upgrade: status, and the body's beginning.
    Refused(Refusal, String),
    /// The answer made no sense.
    Invalid(&'static str),
    /// Our own side could not even try.
    Internal(String),
}

impl DialError {
    /// Whether the service does not know the credential.
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Refused(refusal, _) if refusal.status == 401)
    }

    /// Whether it may be that the service is not at the address; a refusal is the service's own.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Tls(_) | Self::Broken(_) | Self::Timeout(_) => true,
            Self::Proxy(_, fault) => {
                !matches!(fault, ProxyFault::Refused(_) | ProxyFault::Invalid(_))
            }
            Self::Refused(..) | Self::Invalid(_) | Self::Internal(_) => false,
        }
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
    next: usize,
    stage: Stage<S>,
    deadline: Instant,
    last_error: io::Error,
    sizes: Sizes,
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
    /// Prepares an attempt over these addresses, in order.
    #[must_use]
    pub fn new(target: Rc<Target>, addresses: Vec<SocketAddr>, sizes: Sizes, now: Instant) -> Self {
        Self {
            target,
            addresses,
            next: 0,
            stage: Stage::Start,
            deadline: now,
            last_error: ErrorKind::AddrNotAvailable.into(),
            sizes,
        }
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

    fn try_next(&mut self, now: Instant) -> Progress<S> {
        while let Some(address) = self.addresses.get(self.next) {
            self.next += 1;
            match S::connect(*address) {
                Ok(socket) => {
                    self.stage = Stage::Connecting(socket);
                    self.deadline = now + CONNECT_TIMEOUT;
                    return Progress::NewSocket;
                }
                Err(error) => self.last_error = error,
            }
        }
        let error = std::mem::replace(&mut self.last_error, ErrorKind::NotConnected.into());
        Progress::Failed(match &self.target.proxy {
            Some(proxy) => {
                DialError::Proxy(Box::new(proxy.clone()), ProxyFault::Unreachable(error))
            }
            None => DialError::Connect(error),
        })
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
                self.last_error = ErrorKind::TimedOut.into();
                self.try_next(now)
            }
            Err(error) => {
                self.last_error = error;
                self.try_next(now)
            }
        }
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
        self.deadline = now + TUNNEL_TIMEOUT;
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
            Err(error) => return self.no_tunnel(proxy_broken(error)),
        };
        match proxy::answer(&answer) {
            proxy::Answer::Open(head) => return self.tunnel(transport, &answer[head..], now),
            proxy::Answer::Refused(refusal) => return self.no_tunnel(ProxyFault::Refused(refusal)),
            proxy::Answer::Invalid(what) => return self.no_tunnel(ProxyFault::Invalid(what)),
            proxy::Answer::Partial => {}
        }
        if ended {
            return self.no_tunnel(ProxyFault::Broken(ErrorKind::UnexpectedEof.into()));
        }
        if now >= self.deadline {
            return self.no_tunnel(ProxyFault::Silent(TUNNEL_TIMEOUT.as_secs()));
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
            Err(error) => Progress::Failed(broken(error)),
        }
    }

    fn no_tunnel(&self, mut fault: ProxyFault) -> Progress<S> {
        let Some(proxy) = self.target.proxy.clone() else {
            return Progress::Failed(DialError::Internal("there is no proxy".to_owned()));
        };
        if let ProxyFault::Refused(refusal) = &mut fault {
            refusal.reason = proxy.conceal(&refusal.reason);
            for challenge in &mut refusal.challenges {
                *challenge = proxy.conceal(challenge);
            }
        }
        Progress::Failed(DialError::Proxy(Box::new(proxy), fault))
    }

    fn begin_upgrade(&mut self, transport: Transport<S>, now: Instant) -> Progress<S> {
        let Target { host_field, request_target, credential, .. } = &*self.target;
        match upgrade::request(host_field, request_target, credential) {
            Ok(upgrade::Request { text, accept }) => {
                self.deadline = now + UPGRADE_TIMEOUT;
                self.upgrading(transport, text.into_bytes(), accept, Vec::new(), now)
            }
            Err(error) => Progress::Failed(DialError::Internal(error)),
        }
    }

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
            Err(error) => return Progress::Failed(broken(error)),
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
                let body = String::from_utf8_lossy(&answer[refusal.head_bytes..]).into_owned();
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
            return Progress::Failed(DialError::Broken(ErrorKind::UnexpectedEof.into()));
        }
        if now >= self.deadline {
            let step = if transport.is_handshaking() {
                "the TLS handshake"
            } else {
                "the WebSocket upgrade"
            };
            return Progress::Failed(DialError::Timeout(step));
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

fn body_complete(refusal: &Refusal, answer: &[u8]) -> bool {
    let body = answer.len() - refusal.head_bytes;
    body >= refusal.content_length.unwrap_or(usize::MAX).min(MAX_REFUSAL_BODY)
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
