//! One visitor: an accepted connection from its first byte to its answer, or to its upgrade.
//!
//! Owned by the loop's slot until the upgrade takes the transport away. Bounds: a head of
//! [`MAX_HEAD`] bytes within [`HEAD_TIMEOUT`], one answer at a time, no bodies.

mod answers;
pub mod assets;
#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use answers::{answer_as_service, answer_visitor, text_head};

use crate::access::{Gate, Guard};
use crate::metrics::{Family, Metrics};
use crate::net::http::{self, MAX_HEAD, ParsedHead, Status};
use crate::net::transport::Transport;
use crate::simulator::{self, Admission};

/// How long a request head may take, from the connection or from the answer before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take to leave.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the peer may take to go after its last answer.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// Requests that one turn of the loop answers to one visitor: calls do not wait for a whole pipeline.
const TURN_ANSWERS: u32 = 4;

/// How long the simulator's `silent` fault keeps a connection: longer than anybody waits.
const SILENCE: Duration = Duration::from_secs(3600);

/// What a listener is for, and what its visitors are judged by.
#[derive(Debug, Clone)]
pub enum Site {
    /// The page and `/ws`.
    Calls(CallSite),
    /// The simulated service.
    Simulator(Rc<simulator::Options>),
}

/// A listener for people and their clients.
#[derive(Debug, Clone)]
pub struct CallSite {
    /// Host and Origin rules.
    pub gate: Gate,
    /// The service is the simulator, and says so.
    pub simulated: bool,
    /// The port that serves the same over HTTPS: whoever comes from the network without TLS is
    /// sent there, since browsers hide the microphone and others could listen.
    pub https: Option<u16>,
    /// The local authority's root as PEM, for devices to trust; `None` without one.
    pub ca_pem: Option<Rc<str>>,
}

impl CallSite {
    /// Whether browsers may be told to come by HTTPS only for a year. Not with the local authority:
    /// where its root is lost or not trusted yet, they would be shut out with no way to /trust.
    fn is_lasting(&self, host: &str) -> bool {
        self.ca_pem.is_none() && self.gate.is_secure() && self.gate.is_network_name(host)
    }
}

/// Who stands at the door, for one turn.
#[derive(Debug)]
pub struct Doorway<'a> {
    /// Who may call.
    pub guard: &'a mut Guard,
    /// What is counted.
    pub metrics: &'a mut Metrics,
    /// Where the visitor comes from.
    pub address: IpAddr,
    /// The daemon is stopping: it says so, and keeps no connection for another request.
    pub draining: bool,
    /// A call may begin.
    pub takes_calls: bool,
    /// No call can be made until the settings are completed.
    pub unready: bool,
    /// The time.
    pub now: Instant,
}

/// What has become of a visitor after a turn.
#[derive(Debug)]
pub enum Visit {
    /// It is still here.
    Stays,
    /// It asks for a WebSocket; the 101 is on its way. Take it with [`Visitor::into_transport`].
    Upgrade,
    /// It is gone.
    Gone,
}

/// A connection that speaks HTTP.
#[derive(Debug)]
pub struct Visitor {
    transport: Transport<TcpStream>,
    input: Vec<u8>,
    output: Vec<u8>,
    phase: Phase,
    /// It has been answered once.
    served: bool,
    deadline: Instant,
    /// What the simulated service let in.
    admission: Option<Admission>,
    /// The generation of the rules that the visitor was admitted by.
    generation: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waiting for a request head.
    Reading,
    /// It has had a turn's answers; the input may hold another request.
    Yielding,
    /// The answer is leaving; the next request may follow.
    Answering,
    /// The last answer is leaving.
    LastAnswer,
    /// Our side has ended: the peer's leftovers are read so that a reset cannot eat the answer.
    Lingering,
    /// Answered with 101.
    Upgraded,
    /// Nothing is answered at all (the simulator's `silent` fault).
    Silent,
}

impl Visitor {
    /// A connection just accepted.
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
            generation: 0,
        }
    }

    /// What the simulated service let in; `None` for other sites.
    pub fn take_admission(&mut self) -> Option<Admission> {
        self.admission.take()
    }

    /// Under which generation of [`Guard`]'s rules the upgrade was granted.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The transport, for readiness and registration.
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

    /// The transport and the bytes that came behind the upgrade request.
    #[must_use]
    pub fn into_transport(self) -> (Transport<TcpStream>, Vec<u8>) {
        (self.transport, self.input)
    }

    /// Reads, answers, writes, as far as it goes without waiting.
    pub fn pump(&mut self, site: &Site, door: &mut Doorway<'_>) -> Visit {
        self.transport.begin_turn();
        match self.advance(site, door) {
            Ok(visit) => visit,
            Err(_) => {
                if self.transport.is_handshaking() {
                    door.metrics.count(Family::Dropped, "tls_failed");
                }
                Visit::Gone
            }
        }
    }

    fn advance(&mut self, site: &Site, door: &mut Doorway<'_>) -> io::Result<Visit> {
        let now = door.now;
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
                    if !self.answer(site, door)
                        && let Some(visit) = self.wait_for_head(open, door)
                    {
                        return Ok(visit);
                    }
                    if matches!(site, Site::Calls(_)) {
                        // What is said is what is counted.
                        door.metrics.count(Family::Answers, http::status_word(&self.output));
                    }
                }
                Phase::Answering | Phase::LastAnswer | Phase::Upgraded => {
                    if !self.write_out()? {
                        if now < self.deadline {
                            return Ok(Visit::Stays);
                        }
                        door.metrics.count(Family::Dropped, "slow_reader");
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

    fn begin_reading(&mut self, now: Instant) {
        self.phase = Phase::Reading;
        self.deadline = now + HEAD_TIMEOUT;
    }

    /// Reads up to a head's worth; false at the peer's end.
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

    /// `None` when half a head has had its time, which is now being said.
    fn wait_for_head(&mut self, open: bool, door: &mut Doorway<'_>) -> Option<Visit> {
        if open && door.now < self.deadline {
            return Some(Visit::Stays);
        }
        if !open || self.input.is_empty() {
            match (open, self.transport.is_handshaking()) {
                (true, true) => door.metrics.count(Family::Dropped, "tls_timeout"),
                (false, true) => door.metrics.count(Family::Dropped, "tls_failed"),
                (true, false) => door.metrics.count(Family::Dropped, "idle"),
                // It has gone by itself.
                (false, false) => {}
            }
            self.transport.send_close_notify();
            // A peer that does not take this has gone.
            let _ = self.transport.flush();
            return Some(Visit::Gone);
        }
        self.refuse(Status::REQUEST_TIMEOUT, door.now);
        None
    }

    /// Answers the first head in the input, if it is whole.
    fn answer(&mut self, site: &Site, door: &mut Doorway<'_>) -> bool {
        if self.input.is_empty() {
            return false;
        }
        match http::parse(&self.input) {
            ParsedHead::Partial => false,
            ParsedHead::Bad(status) => {
                self.refuse(status, door.now);
                true
            }
            ParsedHead::Complete(mut request, length) => {
                self.input.drain(..length);
                self.served = true;
                request.keep_alive &= !door.draining;
                self.deadline = door.now + ANSWER_TIMEOUT;
                self.generation = door.guard.generation();
                self.phase = match site {
                    Site::Calls(site) => answer_visitor(&mut self.output, &request, site, door),
                    Site::Simulator(options) => {
                        answer_as_service(&mut self.output, &request, options, &mut self.admission)
                    }
                };
                if self.phase == Phase::Silent {
                    self.deadline = door.now + SILENCE;
                }
                true
            }
        }
    }

    fn refuse(&mut self, status: Status, now: Instant) {
        text_head(&mut self.output, status, "", status.1, false);
        if !self.input.starts_with(b"HEAD ") {
            self.output.extend_from_slice(status.1.as_bytes());
        }
        self.input.clear();
        self.phase = Phase::LastAnswer;
        self.deadline = now + ANSWER_TIMEOUT;
    }

    /// True when everything has left.
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

    fn end_output(&mut self, now: Instant) -> io::Result<()> {
        self.transport.send_close_notify();
        self.transport.flush()?;
        self.transport.stream().shutdown(std::net::Shutdown::Write)?;
        self.phase = Phase::Lingering;
        self.deadline = now + LINGER_TIMEOUT;
        Ok(())
    }

    fn linger(&mut self, now: Instant) -> io::Result<Visit> {
        self.input.clear();
        let open = self.fill()?;
        self.input.clear();
        Ok(if open && now < self.deadline { Visit::Stays } else { Visit::Gone })
    }

    /// Whether it has not asked for anything yet, or does not take its answer: the first to go when
    /// places are short.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        match self.phase {
            Phase::Reading | Phase::Yielding | Phase::Lingering => true,
            Phase::Answering | Phase::LastAnswer => self.transport.is_blocked(),
            Phase::Upgraded | Phase::Silent => false,
        }
    }

    /// Whether it has come with a wish that is not fulfilled yet, even if it has not said which.
    #[must_use]
    pub fn is_expectant(&self) -> bool {
        match self.phase {
            Phase::Reading | Phase::Yielding => !self.served || !self.input.is_empty(),
            Phase::Answering | Phase::LastAnswer | Phase::Upgraded => true,
            Phase::Lingering | Phase::Silent => false,
        }
    }

    /// Whether another turn is needed without a new event.
    #[must_use]
    pub fn has_more(&self) -> bool {
        match self.phase {
            Phase::Yielding => true,
            Phase::Reading | Phase::Lingering | Phase::Silent => self.transport.has_more(),
            Phase::Answering | Phase::LastAnswer | Phase::Upgraded => false,
        }
    }
}
