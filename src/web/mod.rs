//! One visitor: an HTTP connection, from its first byte to its last answer or to its upgrade.
//!
//! A slot of the loop owns it until the upgrade, which hands its transport to a call. Bounds: a
//! request head of [`MAX_HEAD`] bytes within [`HEAD_TIMEOUT`], one answer at a time, no request
//! bodies.

mod answers;
pub mod assets;
mod join;
mod languages;
#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use answers::{answer_as_service, answer_visitor, text_head};
pub use join::{Abilities, Join, JoinRequest, Named, TakeUp};

pub use crate::access::Credential;
use crate::access::{Forwarding, Gate, Guard};
use crate::metrics::{Family, Metrics};
use crate::net::http::{self, MAX_HEAD, ParsedHead, Request, Status};
use crate::net::transport::Transport;
use crate::simulator::{self, Admission};

/// How long a request head may take, from the connection or from the answer before it. A TLS handshake
/// is part of that time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the client may take to receive an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the client may take to close the connection after its last answer.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// The most requests of one visitor that one turn of the loop answers. With more, a pipeline of
/// requests would hold up the calls.
const TURN_ANSWERS: u32 = 4;

/// How long the simulator's `silent` fault keeps a connection. No client waits as long.
const SILENCE: Duration = Duration::from_secs(3600);

/// What a listener serves.
#[derive(Debug, Clone)]
pub enum Site {
    /// The page and `/ws`.
    Calls(CallSite),
    /// The simulated service.
    Simulator(Rc<simulator::Options>),
}

/// A listener that serves the page and calls.
#[derive(Debug, Clone)]
pub struct CallSite {
    /// The Host and Origin rules.
    pub gate: Gate,
    /// The service behind it is the simulator. `/healthz` says so.
    pub simulated: bool,
    /// The port of the listener that serves the same over HTTPS, if there is one. Visitors that come
    /// over the network without TLS are redirected to it: browsers give no microphone to such a page,
    /// and others on the network could listen.
    pub https: Option<u16>,
    /// The local authority's root certificate as PEM, for devices to trust; `None` without one.
    pub ca_pem: Option<Rc<str>>,
}

impl CallSite {
    /// Whether a browser may be told to use HTTPS only, for a year (HSTS, RFC 6797). With the local
    /// authority it may not: after its root is lost, or before it is trusted, such a browser could no
    /// longer reach `/trust`.
    fn is_lasting(&self, host: &str) -> bool {
        self.ca_pem.is_none() && self.gate.is_secure() && self.gate.is_network_name(host)
    }
}

/// What the loop lends a visitor for one turn, to judge and count its requests.
#[derive(Debug)]
pub struct VisitContext<'a> {
    /// Judges access tokens and cookies.
    pub guard: &'a mut Guard,
    /// The counters.
    pub metrics: &'a mut Metrics,
    /// The client's address: the peer's, or what a trusted proxy says of it.
    pub address: IpAddr,
    /// The daemon is stopping. `/healthz` says so, and no connection is kept for another request.
    pub draining: bool,
    /// This visitor may begin a call.
    pub takes_calls: bool,
    /// No call can be made until the owner completes the settings.
    pub unready: bool,
    /// The assistants that a client may choose from, as JSON; empty if there are none.
    pub assistants: &'a str,
    /// How the client of an upgrade joins: written by the answer to it.
    pub join: Join,
    /// The time of this turn.
    pub now: Instant,
}

/// The result of one turn of a visitor.
#[derive(Debug)]
pub enum Visit {
    /// The connection goes on.
    Stays,
    /// The 101 has been written. Take the transport with [`Visitor::into_transport`].
    Upgrade,
    /// The connection is over: free the slot.
    Gone,
}

/// A connection that speaks HTTP/1.1.
#[derive(Debug)]
pub struct Visitor {
    transport: Transport<TcpStream>,
    /// Received and not parsed yet: part of a head, or what came behind it (pipelined requests).
    input: Vec<u8>,
    /// The rest of the answer that is being sent. The next request is not read before it is empty, so
    /// it never holds more than one answer.
    output: Vec<u8>,
    phase: Phase,
    /// At least one request was answered.
    served: bool,
    /// When the current phase ends at the latest.
    deadline: Instant,
    /// What the simulated service admitted.
    admission: Option<Admission>,
    /// How the client of the upgrade joins.
    join: Join,
    /// The generation of the access rules that admitted the last request.
    generation: u32,
    /// The client of the last request: a proxy sends requests of many on one connection.
    client: Option<IpAddr>,
}

/// The state of a visitor. The deadline belongs to the state, and is set anew with each change but for
/// `Yielding`.
///
/// ```text
/// Reading ──whole head──► Answering ──sent──► Reading
///    ▲ │                  LastAnswer ──sent──► Lingering ──► gone
///    │ │                  Upgraded ──sent──► the slot's next owner
///    │ │                  Silent ──► gone
///    │ └──4 answers in this turn──► Yielding ──next turn──┐
///    └────────────────────────────────────────────────────┘
/// Reading ──bad head, or part of one at the deadline──► LastAnswer
/// any state ──its deadline, or an error──► gone
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It waits for a whole request head. `output` is empty.
    Reading,
    /// It has got a turn's answers, and `input` may hold another request. It must be pumped without an
    /// event ([`Visitor::has_more`]): the bytes were read already, so the poll announces nothing.
    Yielding,
    /// The answer is being sent. The next request may follow on this connection.
    Answering,
    /// The last answer is being sent. No further request is read.
    LastAnswer,
    /// The answer was sent and our sending side is shut down. What the client still sends is read and
    /// dropped. Closing at once would send a reset if unread bytes were left, and the reset could
    /// destroy the answer before the client has read it (RFC 9112, section 9.6).
    Lingering,
    /// The 101 is being sent. The transport goes to a call only after that, or the call's first frame
    /// would come before the 101.
    Upgraded,
    /// No answer is given at all (the simulator's `silent` fault).
    Silent,
}

impl Visitor {
    /// A visitor on a connection that was just accepted. Its first head is due in [`HEAD_TIMEOUT`].
    #[must_use]
    pub fn new(transport: Transport<TcpStream>, now: Instant) -> Self {
        Self {
            transport,
            input: Vec::new(),
            output: Vec::new(),
            phase: Phase::Reading,
            served: false,
            deadline: now + HEAD_TIMEOUT,
            admission: None,
            join: Join::default(),
            generation: 0,
            client: None,
        }
    }

    /// What the simulated service admitted; `None` for other sites.
    pub fn take_admission(&mut self) -> Option<Admission> {
        self.admission.take()
    }

    /// How the client of the upgrade joins.
    pub fn take_join(&mut self) -> Join {
        std::mem::take(&mut self.join)
    }

    /// The generation of [`Guard`]'s rules under which the upgrade was granted.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The address of the client whose upgrade was granted, if a trusted proxy may have told another than the
    /// peer's. `None` before the first request, and for other sites.
    #[must_use]
    pub fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// The transport, to mark its readiness.
    pub fn transport_mut(&mut self) -> &mut Transport<TcpStream> {
        &mut self.transport
    }

    /// Whether its TLS handshake is still going on.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.transport.is_handshaking()
    }

    /// When [`pump`](Self::pump) must be called again at the latest.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The transport, and the bytes that came behind the upgrade request. They are the client's first
    /// frames and belong to the next owner.
    #[must_use]
    pub fn into_transport(self) -> (Transport<TcpStream>, Vec<u8>) {
        (self.transport, self.input)
    }

    /// Reads requests, answers them and writes, as far as it goes without waiting and within the bounds
    /// of one turn. After [`Visit::Upgrade`] and [`Visit::Gone`] it must not be called again.
    pub fn pump(&mut self, site: &Site, cx: &mut VisitContext<'_>) -> Visit {
        self.transport.begin_turn();
        match self.advance(site, cx) {
            Ok(visit) => visit,
            Err(_) => {
                if self.transport.is_handshaking() {
                    cx.metrics.count(Family::Dropped, "tls_failed");
                }
                Visit::Gone
            }
        }
    }

    /// Goes from phase to phase until one of them has to wait.
    fn advance(&mut self, site: &Site, cx: &mut VisitContext<'_>) -> io::Result<Visit> {
        let now = cx.now;
        let mut answers = 0;
        loop {
            match self.phase {
                Phase::Yielding => self.phase = Phase::Reading,
                Phase::Reading if answers == TURN_ANSWERS => {
                    self.phase = Phase::Yielding;
                    return Ok(Visit::Stays);
                }
                Phase::Reading => {
                    answers += 1;
                    let open = self.fill()?;
                    if !self.answer(site, cx)
                        && let Some(visit) = self.wait_for_head(open, cx)
                    {
                        return Ok(visit);
                    }
                    if matches!(site, Site::Calls(_)) {
                        // The status is taken from the answer itself, so the count cannot differ.
                        cx.metrics.count(Family::Answers, http::status_word(&self.output));
                    }
                }
                Phase::Answering | Phase::LastAnswer | Phase::Upgraded => {
                    if !self.write_out()? {
                        if now < self.deadline {
                            return Ok(Visit::Stays);
                        }
                        cx.metrics.count(Family::Dropped, "slow_reader");
                        return Ok(Visit::Gone);
                    }
                    match self.phase {
                        Phase::Upgraded => return Ok(Visit::Upgrade),
                        Phase::LastAnswer => self.end_output(now)?,
                        _ => self.begin_reading(now),
                    }
                }
                Phase::Lingering | Phase::Silent => return self.linger(now),
            }
        }
    }

    /// An answer was sent, and the client may send its next request.
    fn begin_reading(&mut self, now: Instant) {
        self.phase = Phase::Reading;
        self.deadline = now + HEAD_TIMEOUT;
    }

    /// Reads into `input`, until it holds more than the longest head or the socket is empty. False if
    /// the client has closed its sending side.
    fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 2048];
        while self.input.len() <= MAX_HEAD {
            match self.transport.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Decides what to do without a whole head: go on waiting, or end the connection. `None` if part of
    /// a head was there at the deadline. The client then gets a 408, which is being sent.
    fn wait_for_head(&mut self, open: bool, cx: &mut VisitContext<'_>) -> Option<Visit> {
        if open && cx.now < self.deadline {
            return Some(Visit::Stays);
        }
        if !open || self.input.is_empty() {
            match (open, self.transport.is_handshaking()) {
                (true, true) => cx.metrics.count(Family::Dropped, "tls_timeout"),
                (false, true) => cx.metrics.count(Family::Dropped, "tls_failed"),
                (true, false) => cx.metrics.count(Family::Dropped, "idle"),
                // The client has closed the connection, as it may at any time.
                (false, false) => {}
            }
            self.transport.send_close_notify();
            // If the client cannot be told, it has gone, and there is nothing left to do.
            let _ = self.transport.flush();
            return Some(Visit::Gone);
        }
        self.refuse(Status::REQUEST_TIMEOUT, cx.now);
        None
    }

    /// Answers the first head in `input` and enters the next phase. False if the head is not whole.
    fn answer(&mut self, site: &Site, cx: &mut VisitContext<'_>) -> bool {
        if self.input.is_empty() {
            return false;
        }
        match http::parse(&self.input) {
            ParsedHead::Partial => false,
            ParsedHead::Bad(status) => {
                self.refuse(status, cx.now);
                true
            }
            ParsedHead::Complete(mut request, length) => {
                self.input.drain(..length);
                self.served = true;
                request.keep_alive &= !cx.draining;
                self.deadline = cx.now + ANSWER_TIMEOUT;
                self.generation = cx.guard.generation();
                self.phase = match site {
                    Site::Calls(site) => self.answer_client(&request, site, cx),
                    Site::Simulator(options) => {
                        let admission = &mut self.admission;
                        answer_as_service(&mut self.output, &request, options, admission, cx.now)
                    }
                };
                if self.phase == Phase::Silent {
                    self.deadline = cx.now + SILENCE;
                }
                true
            }
        }
    }

    /// Answers a request as that of its client, which may not be the peer. The peer's address is put back, since
    /// the next request on this connection may be another client's.
    fn answer_client(
        &mut self,
        request: &Request,
        site: &CallSite,
        cx: &mut VisitContext<'_>,
    ) -> Phase {
        let peer = cx.address;
        let Request { forwarded, forwarded_for, .. } = request;
        let client = site.gate.proxies().client(peer, Forwarding { forwarded, forwarded_for });
        cx.address = client;
        self.client = Some(client);
        let by_proxy = site.gate.proxies().trusts(peer);
        let phase = answer_visitor(&mut self.output, request, site, by_proxy, cx);
        cx.address = peer;
        self.join = std::mem::take(&mut cx.join);
        phase
    }

    /// Answers a head that cannot be served, as the last answer: where the next request would begin is
    /// not known.
    fn refuse(&mut self, status: Status, now: Instant) {
        text_head(&mut self.output, status, "", status.1, false);
        if !self.input.starts_with(b"HEAD ") {
            self.output.extend_from_slice(status.1.as_bytes());
        }
        self.input.clear();
        self.phase = Phase::LastAnswer;
        self.deadline = now + ANSWER_TIMEOUT;
    }

    /// Sends what is left of the answer. True when the kernel has taken all of it, TLS records included.
    fn write_out(&mut self) -> io::Result<bool> {
        while !self.output.is_empty() {
            match self.transport.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.output = Vec::new();
        self.transport.flush()?;
        Ok(!self.transport.is_blocked())
    }

    /// The last answer was sent: shuts our sending side down and begins to linger.
    fn end_output(&mut self, now: Instant) -> io::Result<()> {
        self.transport.send_close_notify();
        self.transport.flush()?;
        self.transport.stream().shutdown(std::net::Shutdown::Write)?;
        self.phase = Phase::Lingering;
        self.deadline = now + LINGER_TIMEOUT;
        Ok(())
    }

    /// Reads and drops what the client sends, until it closes or the deadline has come.
    fn linger(&mut self, now: Instant) -> io::Result<Visit> {
        self.input.clear();
        let open = self.fill()?;
        self.input.clear();
        Ok(if open && now < self.deadline { Visit::Stays } else { Visit::Gone })
    }

    /// Whether the visitor holds its slot without using it: it has sent no request, does not receive
    /// its answer, or has got its last one. When slots are short, such a visitor is evicted.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        match self.phase {
            Phase::Reading | Phase::Yielding | Phase::Lingering => true,
            Phase::Answering | Phase::LastAnswer => self.transport.is_blocked(),
            Phase::Upgraded | Phase::Silent => false,
        }
    }

    /// Whether the visitor still waits for something: its first answer, the rest of an answer, or its
    /// call. A new connection counts, because its request may be on the way.
    #[must_use]
    pub fn is_unserved(&self) -> bool {
        match self.phase {
            Phase::Reading | Phase::Yielding => !self.served || !self.input.is_empty(),
            Phase::Answering | Phase::LastAnswer | Phase::Upgraded => true,
            Phase::Lingering | Phase::Silent => false,
        }
    }

    /// Whether the visitor must be pumped again without a new event (R2).
    #[must_use]
    pub fn has_more(&self) -> bool {
        match self.phase {
            Phase::Yielding => true,
            Phase::Reading | Phase::Lingering | Phase::Silent => self.transport.has_more(),
            Phase::Answering | Phase::LastAnswer | Phase::Upgraded => false,
        }
    }
}
