//! One attempt: the way to the service at one address.
//!
//! ```text
//! Connecting ──┬──────────────────► Upgrading ──► Over: open, or refused by the service
//!          │   └──► Tunnelling ───────▲ │           ▲
//!          │            │   └───────────┼───────────┘  refused by the proxy
//!          └────────────┴───────────────┴─► Over: silence or a break, so the address is given up
//! ```
//!
//! What may be relied on, and what would break without it:
//!
//! - **A deadline is always set**, and no later than the dial's own end. Many things on the way take a
//!   connection and then say nothing (a firewall that knows IPv6 by half, a full proxy). Without it the
//!   attempt would keep its place, and three of them would keep all others from beginning.
//! - **Only an address is given up for silence and breaks; an answer ends the dial.** A refusal is the
//!   service's own word, and holds at its other addresses too. Asking there would only use up the
//!   quota of connections.
//! - **The request leaves after TLS has proved who is there.** [`Transport`] keeps it until then. So a
//!   credential reaches no address of another.
//! - **`Over` is never left.** It stands in whenever a stage is taken out to be worked on, so a
//!   path that forgot to put one back would end the attempt and not repeat it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::error::{DialError, ProxyFault};
use super::{Step, Target};
use crate::net::body;
use crate::net::proxy;
use crate::net::socket::Socket;
use crate::net::tls;
use crate::net::transport::Transport;
use crate::net::upgrade::{self, Answer, MAX_ANSWER_HEAD, Refusal};
use crate::net::ws::{Role, Sizes, WsPeer};

/// How long one address may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a proxy may take to open its tunnel, TLS to it included, once connected, where no other
/// address is left.
const TUNNEL_TIMEOUT: Duration = Duration::from_secs(8);

/// How long TLS and the upgrade may take together, once connected, where no other address is left.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// The same where others are left. It is more than a slow network takes for it, and little enough
/// for those to have their turn.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(4);

/// How long the rest of a refusal's body may take.
const REFUSAL_BODY_WAIT: Duration = Duration::from_secs(1);

/// Bytes of a refusal's body that are kept: Azure says there what is wrong.
const MAX_REFUSAL_BODY: usize = 8 * 1024;

/// What all attempts of a dial have in common.
pub(super) struct Job {
    pub(super) target: Rc<Target>,
    /// The call's `x-ms-client-request-id`; empty for none.
    pub(super) request_id: String,
    pub(super) sizes: Sizes,
    /// What is added to the request's query.
    pub(super) query: String,
    /// When the whole dial is over.
    pub(super) end: Instant,
}

/// What an attempt may use in one turn.
#[derive(Clone, Copy)]
pub(super) struct Turn<'a> {
    pub(super) job: &'a Job,
    /// How many addresses were not tried.
    pub(super) left: usize,
    pub(super) now: Instant,
}

impl Turn<'_> {
    /// When an address must have gone so far, if it may take `most` where no other is left.
    fn deadline(&self, most: Duration) -> Instant {
        let most = if self.left == 0 { most } else { ADDRESS_TIMEOUT };
        let all = u32::try_from(self.left + 1).unwrap_or(u32::MAX);
        self.now + most.min(self.job.end.saturating_duration_since(self.now) / all)
    }
}

/// What has become of an attempt.
pub(super) enum Outcome<S> {
    /// Still under way; wait for readiness or its deadline.
    Pending,
    /// The WebSocket is open.
    Open(WsPeer<S>),
    /// The address is given up. Its socket is closed.
    GivenUp(DialError),
    /// The dial has failed: no other address would do better.
    Failed(DialError),
}

/// See the module's text.
pub(super) struct Attempt<S> {
    pub(super) address: SocketAddr,
    pub(super) deadline: Instant,
    /// It was told that the next address is tried.
    pub(super) is_told: bool,
    stage: Stage<S>,
    /// How long the proxy has for its tunnel.
    tunnel_time: Duration,
}

enum Stage<S> {
    /// Waiting for the TCP handshake (C1).
    Connecting(S),
    /// The proxy's address has accepted. `CONNECT` is on its way or sent, perhaps inside TLS to the proxy;
    /// collecting the answer. Nothing of the service's credential is here yet.
    Tunnelling { transport: Transport<S>, request: Vec<u8>, answer: Vec<u8> },
    /// The request is on its way or sent; collecting the answer.
    Upgrading { transport: Transport<S>, request: Vec<u8>, accept: String, answer: Vec<u8> },
    /// Over.
    Over,
}

impl<S: Socket> Attempt<S> {
    /// Begins to connect.
    ///
    /// # Errors
    /// What the kernel says at once.
    pub(super) fn begin(address: SocketAddr, job: &Job, now: Instant) -> io::Result<Self> {
        Ok(Self {
            address,
            deadline: job.end.min(now + CONNECT_TIMEOUT),
            is_told: false,
            stage: Stage::Connecting(S::connect(address)?),
            tunnel_time: TUNNEL_TIMEOUT,
        })
    }

    /// How far it has got.
    pub(super) fn step(&self) -> Step {
        match &self.stage {
            Stage::Connecting(_) => Step::Connect,
            Stage::Tunnelling { .. } => Step::Tunnel,
            Stage::Upgrading { transport, .. } if transport.is_handshaking() => Step::Tls,
            Stage::Upgrading { .. } => Step::Upgrade,
            Stage::Over => Step::Over,
        }
    }

    pub(super) fn socket(&mut self) -> Option<&mut S> {
        match &mut self.stage {
            Stage::Connecting(socket) => Some(socket),
            Stage::Tunnelling { transport, .. } | Stage::Upgrading { transport, .. } => {
                Some(transport.stream_mut())
            }
            Stage::Over => None,
        }
    }

    /// The poll reported a socket of the dial, perhaps this one.
    pub(super) fn mark(&mut self, readable: bool, writable: bool, ending: bool) {
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
    pub(super) fn advance(&mut self, turn: Turn<'_>) -> Outcome<S> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Connecting(socket) => self.connecting(socket, turn),
            Stage::Tunnelling { transport, request, answer } => {
                self.tunnelling(transport, request, answer, turn)
            }
            Stage::Upgrading { transport, request, accept, answer } => {
                self.upgrading(transport, request, accept, answer, turn)
            }
            Stage::Over => Outcome::GivenUp(DialError::Connect(ErrorKind::NotConnected.into())),
        }
    }

    /// C1: connected means a writable event, no pending error, and a peer address.
    fn connecting(&mut self, socket: S, turn: Turn<'_>) -> Outcome<S> {
        match socket.is_connected() {
            Ok(true) => self.connected(socket, turn),
            Ok(false) if turn.now < self.deadline => {
                self.stage = Stage::Connecting(socket);
                Outcome::Pending
            }
            Ok(false) => Outcome::GivenUp(DialError::Connect(ErrorKind::TimedOut.into())),
            Err(error) => Outcome::GivenUp(DialError::Connect(error)),
        }
    }

    /// Connecting → Tunnelling through a proxy, else → Upgrading.
    fn connected(&mut self, socket: S, turn: Turn<'_>) -> Outcome<S> {
        socket.hurry();
        let target = &turn.job.target;
        let (config, host) = match &target.proxy {
            Some(proxy) => (target.tls.as_ref().filter(|_| proxy.tls), &proxy.host),
            None => (target.tls.as_ref(), &target.host),
        };
        let transport = match config.map(|config| tls::client(config, host)).transpose() {
            Ok(None) => Transport::plain(socket),
            Ok(Some(connection)) => Transport::tls(socket, connection),
            Err(error) => return Outcome::Failed(DialError::Internal(error)),
        };
        let Some(proxy) = &target.proxy else {
            return self.begin_upgrade(transport, turn);
        };
        self.deadline = turn.deadline(TUNNEL_TIMEOUT);
        self.tunnel_time = self.deadline.saturating_duration_since(turn.now);
        let request = proxy.request(&target.host, target.port).into_bytes();
        self.tunnelling(transport, request, Vec::new(), turn)
    }

    /// Tunnelling → Upgrading when the proxy has opened the tunnel.
    fn tunnelling(
        &mut self,
        mut transport: Transport<S>,
        mut request: Vec<u8>,
        mut answer: Vec<u8>,
        turn: Turn<'_>,
    ) -> Outcome<S> {
        transport.begin_turn();
        let ended = match exchange(&mut transport, &mut request, &mut answer) {
            Ok(ended) => ended,
            Err(error) => return no_tunnel(proxy_broken(error), turn),
        };
        match proxy::answer(&answer) {
            proxy::Answer::Open(head) => return self.tunnel(transport, &answer[head..], turn),
            proxy::Answer::Refused(refusal) => {
                return no_tunnel(ProxyFault::Refused(refusal), turn);
            }
            proxy::Answer::Invalid(what) => return no_tunnel(ProxyFault::Invalid(what), turn),
            proxy::Answer::Partial => {}
        }
        if ended {
            return no_tunnel(ProxyFault::Broken(ErrorKind::UnexpectedEof.into()), turn);
        }
        if turn.now >= self.deadline {
            return no_tunnel(ProxyFault::Silent(self.tunnel_time.as_secs()), turn);
        }
        self.stage = Stage::Tunnelling { transport, request, answer };
        Outcome::Pending
    }

    /// TLS to the service begins inside the tunnel. Only TLS may go through: the proxy would read the
    /// credential otherwise.
    fn tunnel(&mut self, transport: Transport<S>, early: &[u8], turn: Turn<'_>) -> Outcome<S> {
        let Some(config) = &turn.job.target.tls else {
            let what = "only an encrypted service is reached through a proxy".to_owned();
            return Outcome::Failed(DialError::Internal(what));
        };
        let connection = match tls::client(config, &turn.job.target.host) {
            Ok(connection) => connection,
            Err(error) => return Outcome::Failed(DialError::Internal(error)),
        };
        match transport.tunnelled(connection, early) {
            Ok(transport) => self.begin_upgrade(transport, turn),
            Err(error) => Outcome::GivenUp(broken(error)),
        }
    }

    fn begin_upgrade(&mut self, transport: Transport<S>, turn: Turn<'_>) -> Outcome<S> {
        let Job { target, request_id, query, .. } = turn.job;
        let request_target = format!("{}{query}", target.request_target);
        match upgrade::request(&target.host_field, &request_target, &target.credential, request_id)
        {
            Ok(upgrade::Request { text, accept }) => {
                self.deadline = turn.deadline(UPGRADE_TIMEOUT);
                self.upgrading(transport, text.into_bytes(), accept, Vec::new(), turn)
            }
            Err(error) => Outcome::Failed(DialError::Internal(error)),
        }
    }

    /// Goes on with TLS, the request and the answer, and judges what there is of the answer.
    fn upgrading(
        &mut self,
        mut transport: Transport<S>,
        mut request: Vec<u8>,
        accept: String,
        mut answer: Vec<u8>,
        Turn { job, now, .. }: Turn<'_>,
    ) -> Outcome<S> {
        transport.begin_turn();
        let ended = match exchange(&mut transport, &mut request, &mut answer) {
            Ok(ended) => ended,
            Err(error) => return Outcome::GivenUp(broken(error)),
        };
        match upgrade::answer(&answer, &accept) {
            Answer::Upgraded(head) => {
                let rest = &answer[head..];
                return Outcome::Open(WsPeer::new(transport, Role::Client, job.sizes, rest));
            }
            Answer::Refused(mut refusal)
                if ended || body_complete(&refusal, &answer) || now >= self.deadline =>
            {
                let body = body_text(&refusal, &answer);
                let body = job.target.conceal(&body).unwrap_or(body);
                let id = refusal.request_id.as_deref().and_then(|id| job.target.conceal(id));
                refusal.request_id = id.or(refusal.request_id);
                return Outcome::Failed(DialError::Refused(refusal, body));
            }
            Answer::Invalid(what) => return Outcome::Failed(DialError::Invalid(what)),
            // The refusal is clear already; its text is worth a moment, not the whole wait.
            Answer::Refused(_) => self.deadline = self.deadline.min(now + REFUSAL_BODY_WAIT),
            Answer::Partial => {}
        }
        if ended {
            return Outcome::GivenUp(DialError::Broken(ErrorKind::UnexpectedEof.into()));
        }
        let step = if transport.is_handshaking() { Step::Tls } else { Step::Upgrade };
        if now >= self.deadline {
            return Outcome::GivenUp(DialError::Timeout(step.name()));
        }
        self.stage = Stage::Upgrading { transport, request, accept, answer };
        Outcome::Pending
    }
}

/// Tunnelling → Over: the address is given up if it is to blame, else the dial.
fn no_tunnel<S>(mut fault: ProxyFault, turn: Turn<'_>) -> Outcome<S> {
    let Some(proxy) = turn.job.target.proxy.clone() else {
        return Outcome::Failed(DialError::Internal("there is no proxy".to_owned()));
    };
    if let ProxyFault::Refused(refusal) = &mut fault {
        refusal.reason = proxy.conceal(&refusal.reason);
        for challenge in &mut refusal.challenges {
            *challenge = proxy.conceal(challenge);
        }
    }
    let error = DialError::Proxy(Box::new(proxy), fault);
    // As the service's, its refusal holds at its other addresses too.
    if error.is_absence() { Outcome::GivenUp(error) } else { Outcome::Failed(error) }
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
    match tls_fault(&error) {
        Some(tls) => ProxyFault::Tls(tls),
        None => ProxyFault::Broken(error),
    }
}

fn broken(error: io::Error) -> DialError {
    match tls_fault(&error) {
        Some(tls) => DialError::Tls(tls),
        None => DialError::Broken(error),
    }
}

/// What TLS found wrong, if that has broken the connection.
fn tls_fault(error: &io::Error) -> Option<rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>().cloned()
}
