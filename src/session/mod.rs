//! One call's glue: the client's WebSocket, the service's connection, and the [`Call`] between
//! them. The only place where `net` and `call` meet.
//!
//! A turn ([`Session::pump`]) always runs in the same order: what waits for the client leaves,
//! the service is read, the client is read, time is told, everything is flushed. Audio goes
//! straight through; when a side is behind, it waits in PCM blocks (`reply`, `microphone`), and
//! when those are full the service is not read until there is room (R2).

mod client_side;
pub mod connection_faults;
mod microphone;
mod pulse;
pub mod refusals;
mod reply;
mod service_side;
mod waits;
pub mod ways;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use crate::call::client::MAX_FRAME_BYTES;
use crate::call::ending::{EndReason, ServiceFault};
use crate::call::pcm::PcmPool;
use crate::call::{Call, Input, Output, sooner};
use crate::metrics::{Family, Metrics};
use crate::net::dial::Dial;
use crate::net::inbox::Inbox;
use crate::net::socket::Socket;
use crate::net::ws::{Message, Sizes, USUAL_WAITING, WsError, WsPeer};
use crate::tools::Tools;

use microphone::MicrophonePath;
use pulse::{Dead, Pulse, STALL_TIMEOUT};
use reply::{Decoded, ReplyPath};
use waits::Waits;
use ways::Way;

/// Bounds of the client's side, in bytes.
pub const CLIENT_SIZES: Sizes = Sizes { message: MAX_FRAME_BYTES, waiting: USUAL_WAITING };

/// Bounds of the service's side, in bytes. Audio deltas have about 17 KB; both public SDKs read
/// at most a few MiB, so the service stays below one.
const SERVICE_SIZES: Sizes = Sizes { message: 1024 * 1024 + 64 * 1024, waiting: USUAL_WAITING };

/// Messages that one side may bring in one turn: no call can hold the loop.
const TURN_MESSAGES: usize = 64;

/// How long the closing handshakes may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What all calls share, lent to each for its turn.
#[allow(missing_debug_implementations, reason = "lent for a turn, never kept")]
pub struct Desk<'a> {
    /// All PCM memory.
    pub pool: &'a mut PcmPool,
    /// Where bytes lie for a turn.
    pub buffers: &'a mut Buffers,
    /// The tools there are.
    pub tools: &'a Tools,
    /// Tool runs wanted by the call; the loop starts them.
    pub wanted: &'a mut Vec<WantedTool>,
    /// What is counted.
    pub metrics: &'a mut Metrics,
    /// The time of this turn.
    pub now: Instant,
}

/// Memory for what is read and written within a turn: of the loop, not of a call.
#[derive(Debug, Default)]
pub struct Buffers {
    /// What is read, from either side. A pointer, since it changes hands in every turn; none while it
    /// is in others'.
    inbox: Option<Box<Inbox>>,
    decoded: Decoded,
    to_client: Vec<u8>,
    to_service: Vec<u8>,
}

impl Buffers {
    /// What is read.
    pub fn inbox(&mut self) -> &mut Inbox {
        self.inbox.get_or_insert_default()
    }
}

/// A tool run that a call asks for, its arguments already checked.
#[derive(Debug)]
pub struct WantedTool {
    /// The service's id of the function call.
    pub call_id: String,
    /// The tool's name.
    pub name: String,
    /// JSON for its standard input.
    pub input: String,
}

/// A call's share of the PCM pool.
#[derive(Debug)]
pub struct Queues {
    reply: ReplyPath,
    microphone: MicrophonePath,
}

impl Queues {
    /// Reserves the blocks that every call is guaranteed; `None` when the pool has not as many.
    #[must_use]
    pub fn open(pool: &mut PcmPool) -> Option<Self> {
        let microphone = MicrophonePath::open(pool)?;
        match ReplyPath::open(pool) {
            Some(reply) => Some(Self { reply, microphone }),
            None => {
                microphone.close(pool);
                None
            }
        }
    }
}

/// What a turn has left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing until the next event or deadline.
    Idle,
    /// Something may still be read without a new event.
    More,
    /// Both sides are closed: free the slot.
    Closed,
}

/// The connection to the service.
enum Service<S> {
    /// Its addresses are being looked up.
    Resolving,
    /// It is being made.
    Dialling(Box<Dial<S>>),
    /// Events flow.
    Open(Box<WsPeer<S>>),
    /// There is none any more.
    Gone,
}

/// What the loop has to learn of the way to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// There is a socket to register.
    Socket,
    /// There is a connection to this address.
    Reached(SocketAddr),
    /// There is none, and this address was tried last.
    Unreached(SocketAddr),
    /// Another way is to be dialled: the service has refused the one before.
    Instead,
    /// The service has taken that other way.
    Taken,
}

/// How far the call's end has got.
enum Phase {
    /// Not ended.
    Talking,
    /// Both sides were told; their closing handshakes run until the deadline.
    Closing { reason: EndReason, deadline: Instant },
}

/// Counts for the line that is logged at the end.
#[derive(Debug, Default)]
struct Totals {
    microphone_bytes: u64,
    microphone_dropped: u64,
    reply_bytes: u64,
    waits: Waits,
}

/// One call. See the module's text.
#[allow(missing_debug_implementations, reason = "the dial's target holds the credential")]
pub struct Session<S = TcpStream> {
    id: String,
    client: WsPeer<S>,
    service: Service<S>,
    way: Way,
    /// The service has not taken `way` yet, and it is not the one that the call began with.
    untried: bool,
    call: Call,
    reply: ReplyPath,
    microphone: MicrophonePath,
    phase: Phase,
    /// What the loop does not know yet.
    news: Option<News>,
    client_pulse: Pulse,
    service_pulse: Pulse,
    chatter: (Instant, u32),
    totals: Totals,
    started: Instant,
    /// When the service will end its session, once that is known.
    expires: Option<Instant>,
    /// A message found no more room in the client's buffer.
    overfull: bool,
    /// When the call wants to be told the time, as it said after its last input or turn.
    tick: Option<Instant>,
}

impl<S: Socket> Session<S> {
    /// A call on a client's open WebSocket.
    #[must_use]
    pub fn new(
        id: String,
        resume: &str,
        client: WsPeer<S>,
        Queues { reply, microphone }: Queues,
        way: Way,
        desk: &mut Desk<'_>,
    ) -> Self {
        let now = desk.now;
        let call = Call::new(Rc::clone(way.settings()), &id, resume, now);
        let mut session = Self {
            id,
            client_pulse: Pulse::new(pulse::CLIENT, now),
            service_pulse: Pulse::new(pulse::SERVICE, now),
            client,
            service: Service::Resolving,
            way,
            untried: false,
            call,
            reply,
            microphone,
            phase: Phase::Talking,
            news: None,
            chatter: (now, 0),
            totals: Totals::default(),
            started: now,
            expires: None,
            overfull: false,
            tick: None,
        };
        session.carry_out(desk);
        session.tick = session.call.deadline();
        session
    }

    /// The call's public id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the service's addresses are still wanted.
    #[must_use]
    pub fn is_resolving(&self) -> bool {
        matches!(self.service, Service::Resolving)
    }

    /// Whether the call has not ended yet.
    #[must_use]
    pub fn is_talking(&self) -> bool {
        matches!(self.phase, Phase::Talking)
    }

    /// The service's addresses are known: connect.
    pub fn dial(&mut self, addresses: &[SocketAddr], now: Instant) {
        if self.is_resolving() {
            let target = Rc::clone(self.way.target());
            let dial = Dial::new(target, addresses.to_vec(), SERVICE_SIZES, now);
            self.service = Service::Dialling(Box::new(dial));
        }
    }

    /// The service's addresses cannot be had.
    pub fn unresolved(&mut self, fault: ServiceFault, desk: &mut Desk<'_>) {
        if self.is_resolving() {
            desk.metrics.count(Family::Connects, "unresolved");
            self.lose_service(fault, desk);
        }
    }

    /// A tool run has ended.
    pub fn tool_finished(&mut self, call_id: &str, output: &str, ok: bool, desk: &mut Desk<'_>) {
        self.input(Input::ToolFinished { call_id, output, ok }, desk);
    }

    /// Ends the call for a reason outside it.
    pub fn end(&mut self, reason: EndReason, desk: &mut Desk<'_>) {
        self.input(Input::End(reason), desk);
    }

    /// The client's transport, for registration.
    pub fn client_socket(&mut self) -> &mut S {
        self.client.transport_mut().stream_mut()
    }

    /// How it asks the service for its session.
    #[must_use]
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// What has become of the way to the service since the last turn.
    pub fn news(&mut self) -> Option<News> {
        self.news.take()
    }

    /// The service's socket, if there is one.
    pub fn service_socket(&mut self) -> Option<&mut S> {
        match &mut self.service {
            Service::Dialling(dial) => dial.socket(),
            Service::Open(peer) => Some(peer.transport_mut().stream_mut()),
            Service::Resolving | Service::Gone => None,
        }
    }

    /// The poll reported the client's socket.
    pub fn mark_client(&mut self, readable: bool, writable: bool, ending: bool) {
        mark(&mut self.client, readable, writable, ending);
    }

    /// The poll reported the service's socket.
    pub fn mark_service(&mut self, readable: bool, writable: bool, ending: bool) {
        match &mut self.service {
            Service::Dialling(dial) => dial.mark(readable, writable, ending),
            Service::Open(peer) => mark(peer, readable, writable, ending),
            Service::Resolving | Service::Gone => {}
        }
    }

    /// One turn. See the module's text for its order.
    pub fn pump(&mut self, desk: &mut Desk<'_>) -> Progress {
        self.client.transport_mut().begin_turn();
        self.client.lend(&mut desk.buffers.to_client);
        if let Service::Open(peer) = &mut self.service {
            peer.transport_mut().begin_turn();
            peer.lend(&mut desk.buffers.to_service);
        }
        self.send_reply(desk);
        self.advance_dial(desk);
        self.read_service(desk);
        self.read_client(desk);
        self.watch(desk);
        self.flush(desk);
        self.client.take_back(&mut desk.buffers.to_client);
        if let Service::Open(peer) = &mut self.service {
            peer.take_back(&mut desk.buffers.to_service);
        }
        // Audio has put it off.
        self.tick = self.call.deadline();
        self.progress(desk.now)
    }

    /// When [`pump`](Self::pump) must be called again at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if let Phase::Closing { deadline, .. } = self.phase {
            return Some(deadline);
        }
        let dial = match &self.service {
            Service::Dialling(dial) => Some(dial.deadline()),
            Service::Open(peer) => Some(self.service_pulse.deadline(peer)),
            Service::Resolving | Service::Gone => None,
        };
        let client = Some(self.client_pulse.deadline(&self.client));
        sooner(sooner(self.tick, dial), sooner(client, self.expires))
    }

    /// Gives the blocks back and says how the call was. The owner calls it at the end.
    pub fn release(self, pool: &mut PcmPool, now: Instant) {
        self.log_end(now);
        self.reply.close(pool);
        self.microphone.close(pool);
    }

    fn log_end(&self, now: Instant) {
        let Totals { microphone_bytes, microphone_dropped, reply_bytes, waits } = &self.totals;
        let (reason, fault) = match &self.phase {
            Phase::Closing { reason, .. } => {
                (format!("{} ({:?})", reason.word(), reason.side()), reason.is_fault())
            }
            Phase::Talking => ("dropped".to_owned(), false),
        };
        log::log!(
            if fault { log::Level::Warn } else { log::Level::Info },
            "[{}] ended: {reason} after {:.1} s; microphone {microphone_bytes} bytes, {microphone_dropped} dropped; reply {reply_bytes} bytes; {waits}; service session {:?}",
            self.id,
            (now - self.started).as_secs_f64(),
            self.call.service_session(),
        );
    }

    // ---- inputs and outputs of the call ----

    fn input(&mut self, input: Input<'_>, desk: &mut Desk<'_>) {
        self.call.handle(input, desk.now);
        self.carry_out(desk);
        self.tick = self.call.deadline();
    }

    /// Does what the call wants, until it wants nothing more.
    fn carry_out(&mut self, desk: &mut Desk<'_>) {
        let mut refused = Vec::new();
        while let Some(output) = self.call.poll() {
            match output {
                Output::ToService(json) => self.tell_service(&json, desk),
                Output::ToClient(json) => self.tell_client(&json),
                Output::DropPlayback => self.reply.clear(desk.pool),
                Output::ReleaseMicrophone => {
                    self.microphone.release();
                    self.send_microphone(desk);
                }
                Output::RunTool { call_id, name, arguments } => {
                    if let Err(error) = want_tool(desk, &call_id, &name, &arguments) {
                        desk.metrics.count(Family::Tools, "refused");
                        refused.push((call_id, error));
                    }
                }
                Output::ToolRefused => desk.metrics.count(Family::Tools, "refused"),
                Output::Close(reason) => self.begin_close(reason, desk),
            }
        }
        for (call_id, error) in refused {
            let output = serde_json::json!({ "error": error }).to_string();
            self.input(Input::ToolFinished { call_id: &call_id, output: &output, ok: false }, desk);
        }
    }

    fn tell_service(&mut self, json: &str, desk: &mut Desk<'_>) {
        if let Service::Open(peer) = &mut self.service {
            // A service that takes nothing is found by its pulse; a lost one by the next read.
            if let Err(WsError::Full) = peer.send(Message::Text(json)) {
                desk.metrics.add(Family::Unsent, 1);
                log::warn!("[{}] a message for the service was dropped: too many wait", self.id);
            }
        }
    }

    /// A client that lets even short messages pile up to the bound is stalled.
    fn tell_client(&mut self, json: &str) {
        if let Err(WsError::Full) = self.client.send(Message::Text(json)) {
            self.overfull = true;
        }
    }

    fn begin_close(&mut self, reason: EndReason, desk: &mut Desk<'_>) {
        // `refused` is the service's word too: a client's flood is counted by itself.
        let flood = matches!(reason, EndReason::Refused(_));
        desk.metrics.count(Family::Ended, if flood { "flood" } else { reason.word() });
        if reason.is_fault() {
            log::warn!("[{}] {}", self.id, reason.message());
        }
        self.reply.clear(desk.pool);
        self.microphone.clear(desk.pool);
        self.client.close(reason.close_code(), &reason.message());
        match &mut self.service {
            Service::Open(peer) => peer.close(1000, ""),
            other => *other = Service::Gone,
        }
        self.phase = Phase::Closing { reason, deadline: desk.now + CLOSE_TIMEOUT };
    }

    // ---- time, output, end ----

    fn watch(&mut self, desk: &mut Desk<'_>) {
        if !self.is_talking() {
            return;
        }
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|due| desk.now >= due);
        if is_due(self.tick) && is_due(self.call.deadline()) {
            self.input(Input::Tick, desk);
        }
        if self.expires.is_some_and(|expires| desk.now >= expires) {
            self.input(Input::End(EndReason::SessionExpired), desk);
        }
        match self.client_pulse.check(&mut self.client, desk.now) {
            Ok(()) if !self.overfull => {}
            Err(Dead::Silent) => self.input(Input::ClientLost, desk),
            Ok(()) | Err(Dead::Stalled) => {
                self.input(Input::End(EndReason::ClientStalled(STALL_TIMEOUT.as_secs())), desk)
            }
        }
        let Service::Open(peer) = &mut self.service else {
            return;
        };
        if self.service_pulse.check(peer, desk.now).is_err() && self.is_talking() {
            self.input(Input::ServiceLost(connection_faults::lost(&"it does not answer")), desk);
        }
    }

    fn flush(&mut self, desk: &mut Desk<'_>) {
        if let Service::Open(peer) = &mut self.service {
            self.microphone.send(peer, desk.pool);
            if let Err(error) = peer.flush() {
                self.service_ended(&error, desk);
            }
        }
        if let Err(error) = self.client.flush() {
            self.client_ended(&error, desk);
            // What the end has queued for a client that is gone stays unsent.
            let _ = self.client.flush();
        }
        self.client.end_output();
    }

    fn progress(&self, now: Instant) -> Progress {
        if let Phase::Closing { deadline, .. } = self.phase {
            let service_done = !matches!(&self.service, Service::Open(peer) if !peer.is_done());
            if now >= deadline || (self.client.is_done() && service_done) {
                return Progress::Closed;
            }
        }
        let service_more = match &self.service {
            Service::Open(peer) => peer.has_more() && !self.reply.is_backed_up(),
            _ => false,
        };
        if service_more || self.client.has_more() { Progress::More } else { Progress::Idle }
    }
}

fn mark<S: Socket>(peer: &mut WsPeer<S>, readable: bool, writable: bool, ending: bool) {
    if readable {
        peer.mark_readable(ending);
    }
    if writable {
        peer.mark_writable();
    }
}

fn want_tool(
    desk: &mut Desk<'_>,
    call_id: &str,
    name: &str,
    arguments: &str,
) -> Result<(), String> {
    let (_, input) = desk.tools.check(name, arguments)?;
    desk.wanted.push(WantedTool { call_id: call_id.to_owned(), name: name.to_owned(), input });
    Ok(())
}
