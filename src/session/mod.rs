//! A session joins one [`Call`] with its two connections, `client_side` and `service_side`. It is the
//! only place where `net` and `call` meet.
//!
//! Who knows what: a *side* knows its connection and the audio that waits for it, and nothing of the
//! call. The *call* knows the conversation, and nothing of connections. `from_client` and
//! `from_service` turn what a side says into inputs of the call; `from_call` turns the call's outputs
//! into work for the sides.
//!
//! A turn ([`Session::pump`]) always runs in the same order:
//!
//! 1. what waits for the client leaves: this makes room, so that backpressure ends in this turn;
//! 2. the dial goes on, and the service is read, into the room that was made;
//! 3. the client is read;
//! 4. time is told: after the reading, so that a side whose words lay in the kernel is not given up
//!    for silence;
//! 5. everything is flushed: what was queued above leaves with one write for each side.
//!
//! Audio goes straight through. When a side is behind, it waits in PCM blocks (`reply`,
//! `microphone`), and when those are full the service is not read until there is room (R2).

mod absence;
mod asking;
mod base64_audio;
pub mod candidates;
mod client_side;
pub mod connection_faults;
mod consumption;
mod context;
mod from_call;
mod from_client;
mod from_service;
mod half_samples;
mod keep_alive;
mod microphone;
mod microphone_side;
mod next_side;
mod reconnect;
pub mod refusals;
mod reply;
mod service_side;
mod service_words;
mod strays;
mod tail;
mod texts;
mod waits;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use crate::call::ending::{EndReason, ServiceFault};
use crate::call::pcm::PcmPool;
use crate::call::{Call, Input, sooner};
use crate::metrics::Family;
use crate::net::socket::Socket;
use crate::net::ws::WsPeer;

use candidates::Candidate;
use client_side::ClientSide;
pub use client_side::{CLIENT_SIZES, Had, SUPERSEDED};
pub use context::{Buffers, LoopResources, TurnContext, WantedTool};
use half_samples::{MicrophoneHalf, ReplyHalf};
use keep_alive::{Dead, STALL_TIMEOUT};
use microphone::MicrophonePath;
use next_side::NextSide;
use reply::ReplyPath;
pub use service_side::News;
use service_side::ServiceSide;
use strays::Oddities;
pub use tail::NoReturn;
use waits::Waits;

/// Messages that one side may bring in one turn. The rest is read in the next one, so no call can hold
/// the loop.
const TURN_MESSAGES: usize = 64;

/// How long the closing handshakes may take. After that the slot is freed all the same: a side that
/// never answers the close must not keep a call's place.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A call's share of the PCM pool.
#[derive(Debug)]
pub struct Queues {
    reply: ReplyPath,
    microphone: MicrophonePath,
}

impl Queues {
    /// For a client that can take its call up again: the end of what it is sent is kept.
    #[must_use]
    pub fn expecting_return(mut self, pool: &mut PcmPool) -> Self {
        self.reply.keep_tail(pool);
        self
    }

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

/// What a turn has left to do, told to the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing until the next event or deadline.
    Idle,
    /// Something may still be read without a new event: pump again without waiting. Forgotten, it
    /// would lie there for ever, because the poll reports each arrival once.
    More,
    /// Both sides are closed, or had their time: free the slot. Nothing may be pumped after this.
    Closed,
}

/// How far the session's end has got.
enum Phase {
    /// The call has not ended. Every fault of a side becomes an input of the call.
    Talking,
    /// The call has ended, and both sides were told. Their closing handshakes run until the deadline.
    /// What they still say is read, so that a close frame is not lost to a reset, and changes
    /// nothing.
    Closing { reason: EndReason, deadline: Instant },
}

/// Counts for the line that is logged at the end; PCM in bytes (48 a millisecond).
#[derive(Debug, Default)]
struct Totals {
    microphone_bytes: u64,
    microphone_dropped: u64,
    /// What was told to the call of [`ClientSide::reply_sent`].
    reply_bytes: u64,
    transcripts_failed: u64,
    waits: Waits,
}

/// One call and its two connections. See the module's text.
///
/// Invariant: between two turns the call has no outputs left, and `tick` is not later than
/// the call's deadline.
#[allow(missing_debug_implementations, reason = "the dial's target holds the credential")]
pub struct Session<S = TcpStream> {
    id: String,
    call: Call,
    client: ClientSide<S>,
    service: ServiceSide<S>,
    /// A second connection to the service, for a moment.
    next: Option<Box<NextSide<S>>>,
    phase: Phase,
    /// When the call wants to be told the time, as it said after its last input. Audio of either side only
    /// ever puts it off, so after that it is too early: an empty turn is cheaper than asking at each
    /// frame. Reply audio that has waited is another thing, and rare.
    tick: Option<Instant>,
    totals: Totals,
    started: Instant,
    half_reply: ReplyHalf,
    half_microphone: MicrophoneHalf,
    oddities: Oddities,
    /// What asks first: ready to run, and run only on [`Output::RunAllowed`]. As many as the call has questions.
    asking: Vec<WantedTool>,
}

impl<S: Socket> Session<S> {
    /// A call on a client's open WebSocket. It tells the client `hello` and `connecting`; the service
    /// is called once [`dial`](Self::dial) brings its addresses.
    #[must_use]
    pub fn new(
        id: String,
        resume: &str,
        client: WsPeer<S>,
        Queues { reply, microphone }: Queues,
        candidate: Candidate,
        cx: &mut TurnContext<'_>,
    ) -> Self {
        let now = cx.now;
        let call = Call::new(Rc::clone(candidate.settings()), &id, resume, now);
        let mut session = Self {
            id,
            call,
            client: ClientSide::new(client, reply, now),
            service: ServiceSide::new(candidate, microphone),
            next: None,
            phase: Phase::Talking,
            tick: None,
            totals: Totals::default(),
            started: now,
            half_reply: ReplyHalf::default(),
            half_microphone: MicrophoneHalf::default(),
            oddities: Oddities::default(),
            asking: Vec::new(),
        };
        session.carry_out(cx);
        session.tick = session.call.deadline();
        session
    }

    /// The client can hold a reply, and wants to. To be told before [`dial`](Self::dial).
    pub fn prefer_hold(&mut self) {
        self.call.prefer_hold();
    }

    /// The call's public id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the service's addresses are still wanted.
    #[must_use]
    pub fn is_resolving(&self) -> bool {
        self.way().is_resolving()
    }

    /// Whether the call has not ended yet.
    #[must_use]
    pub fn is_talking(&self) -> bool {
        matches!(self.phase, Phase::Talking)
    }

    /// The service's addresses are known: connect. Follow with [`pump`](Self::pump).
    pub fn dial(&mut self, addresses: &[SocketAddr], now: Instant) {
        self.way_mut().dial(addresses, now);
    }

    /// The service's addresses are known, and a token is needed besides. Follow with
    /// [`authorise`](Self::authorise) or [`unauthorised`](Self::unauthorised).
    pub fn await_token(&mut self, addresses: &[SocketAddr], now: Instant) {
        self.way_mut().await_token(addresses, now);
    }

    /// Whether a token is wanted.
    #[must_use]
    pub fn is_authorising(&self) -> bool {
        self.way().is_authorising()
    }

    /// There is a token: connect with this header line. `kept` says that it was fetched before this call
    /// asked, so that a newer one may be had. Follow with [`pump`](Self::pump).
    pub fn authorise(&mut self, header: &str, kept: bool, now: Instant) {
        self.way_mut().authorise(header, kept, now);
    }

    /// There is no token: the call ends with this fault, unless it has got past needing one.
    pub fn unauthorised(&mut self, fault: ServiceFault, cx: &mut TurnContext<'_>) {
        if self.is_authorising() {
            self.lose_way(fault, cx);
        }
    }

    /// The service's addresses cannot be had: the call ends with this fault, unless it has got past
    /// needing them.
    pub fn unresolved(&mut self, fault: ServiceFault, cx: &mut TurnContext<'_>) {
        if self.is_resolving() {
            cx.metrics.count(Family::Connects, "unresolved");
            self.lose_way(fault, cx);
        }
    }

    /// A tool run that was [`WantedTool`] has ended. `output` is JSON text for the model, `ok` whether
    /// the tool did its work.
    pub fn tool_finished(
        &mut self,
        call_id: &str,
        output: &str,
        ok: bool,
        cx: &mut TurnContext<'_>,
    ) {
        self.input(Input::ToolFinished { call_id, output, ok }, cx);
    }

    /// The tools that calls may run have changed. `tools` is the array of the service's session.
    pub fn tools_changed(&mut self, tools: &Rc<serde_json::Value>, cx: &mut TurnContext<'_>) {
        self.input(Input::Tools(Rc::clone(tools)), cx);
    }

    /// Ends the call for a reason outside it (limits, the daemon's end). A call that has ended already
    /// keeps its own reason.
    pub fn end(&mut self, reason: EndReason, cx: &mut TurnContext<'_>) {
        self.input(Input::End(reason), cx);
    }

    /// The client's socket, for registration with the poll; `None` while the client is away.
    pub fn client_socket(&mut self) -> Option<&mut S> {
        self.client.socket()
    }

    /// The session that the call asks the service for.
    #[must_use]
    pub fn candidate(&self) -> &Candidate {
        self.way().candidate()
    }

    /// What has become of the way to the service since the last turn; said once. Ask after each
    /// [`pump`](Self::pump): a socket that is not registered is never heard of again.
    pub fn news(&mut self) -> Option<News> {
        self.service.news().or_else(|| self.next_news())
    }

    /// The service's socket, if there is one.
    pub fn service_socket(&mut self) -> Option<&mut S> {
        self.service.socket()
    }

    /// The poll reported the client's socket.
    pub fn mark_client(&mut self, readable: bool, writable: bool, ending: bool) {
        self.client.mark(readable, writable, ending);
    }

    /// The poll reported the service's socket.
    pub fn mark_service(&mut self, readable: bool, writable: bool, ending: bool) {
        self.service.mark(readable, writable, ending);
    }

    /// One turn. See the module's text for its order, which must not change.
    pub fn pump(&mut self, cx: &mut TurnContext<'_>) -> Progress {
        self.client.begin_turn(&mut cx.buffers.to_client);
        self.service.begin_turn(&mut cx.buffers.to_service);
        self.send_reply(cx);
        self.advance_dial(cx);
        self.read_service(cx);
        self.read_client(cx);
        self.watch(cx);
        self.flush(cx);
        self.client.end_turn(&mut cx.buffers.to_client);
        self.service.end_turn(&mut cx.buffers.to_service);
        if self.next.is_some() && self.pump_next(cx) {
            return Progress::More;
        }
        self.progress(cx.now)
    }

    /// When [`pump`](Self::pump) must be called again at the latest. It changes with every turn. While
    /// the session closes, only the end of its patience counts.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if let Phase::Closing { deadline, .. } = self.phase {
            return Some(deadline);
        }
        let sides = sooner(self.service.deadline(), self.client.deadline());
        self.sooner_next(sooner(self.tick, sides))
    }

    /// Gives the blocks back to the pool and logs how the call was. The owner must call it at the end:
    /// a session that is merely dropped keeps its blocks for ever.
    pub fn release(self, pool: &mut PcmPool, now: Instant) {
        self.log_end(now);
        self.client.release(pool);
        self.service.release(pool);
        if let Some(next) = self.next {
            next.release(pool);
        }
    }

    fn log_end(&self, now: Instant) {
        let Totals { microphone_bytes, microphone_dropped, reply_bytes, waits, .. } = &self.totals;
        let (reason, fault) = match &self.phase {
            Phase::Closing { reason, .. } => {
                (format!("{} ({:?})", reason.word(), reason.side()), reason.is_fault())
            }
            Phase::Talking => ("dropped".to_owned(), false),
        };
        log::log!(
            if fault { log::Level::Warn } else { log::Level::Info },
            "[{}] ended: {reason} after {:.1} s; microphone {microphone_bytes} bytes, {microphone_dropped} dropped; reply {reply_bytes} bytes; {waits}; service session {:?}, request {}",
            self.id,
            (now - self.started).as_secs_f64(),
            self.call.service_session(),
            self.service.request_id(),
        );
    }

    // ---- time, output, end ----

    /// Tells time to everything that waits for it: the call, the session's expiry, both keep-alives.
    /// Several may end the call in the same turn; the first one is the reason, since the call ignores
    /// the others.
    fn watch(&mut self, cx: &mut TurnContext<'_>) {
        if !self.is_talking() {
            return;
        }
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|due| cx.now >= due);
        // A client that speaks again ends the silence in its place, of which a piece was due in a moment.
        let soon = cx.now + Duration::from_millis(100);
        debug_assert!(
            self.call
                .deadline()
                .is_none_or(|due| self.tick.is_some_and(|tick| tick <= due.max(soon))),
            "something else than an input has brought the call's deadline nearer"
        );
        if is_due(self.tick) {
            // Audio may have put it off since.
            self.tick = self.call.deadline();
            if is_due(self.tick) {
                self.input(Input::Tick, cx);
            }
        }
        if self.service.has_expired(cx.now) {
            self.input(Input::SessionExpired, cx);
        }
        match self.client.check(cx.now) {
            Ok(()) => {}
            Err(Dead::Silent) => self.break_client(&"it is silent", cx),
            Err(Dead::Away) => self.input(Input::ClientLost, cx),
            Err(Dead::Stalled) => {
                self.input(Input::End(EndReason::ClientStalled(STALL_TIMEOUT.as_secs())), cx);
            }
        }
        if let Err(dead) = self.service.check(cx.now)
            && self.is_talking()
        {
            if matches!(dead, Dead::Silent) && self.client.is_backed_up() {
                // It is not read, so it cannot be heard.
                return self.service.excuse(cx.now);
            }
            self.input(Input::ServiceLost(connection_faults::lost(&"it does not answer")), cx);
        }
    }

    /// Writes out what this turn has queued, on both sides (W2). The service's side goes first: if it
    /// turns out to be lost, the client is told in the same turn.
    fn flush(&mut self, cx: &mut TurnContext<'_>) {
        if let Err(error) = self.service.flush(cx.pool, cx.now) {
            self.service_ended(&error, cx);
            // Another session may have taken its place.
            let _ = self.service.flush_commands();
        }
        if let Err(error) = self.client.flush() {
            self.client_ended(&error, cx);
            // What the end has queued for a client that is gone stays unsent.
            let _ = self.client.flush();
        }
        if !self.is_talking() {
            self.client.end_output();
        }
    }

    /// What is left. A service that must not be read (R2) is no reason for another turn: the loop would
    /// spin until the client takes something. Its bytes stay marked, and the turn that makes room for
    /// the reply reads them.
    fn progress(&self, now: Instant) -> Progress {
        if let Phase::Closing { deadline, .. } = self.phase
            && (now >= deadline
                || (self.client.is_done() && self.service.is_done() && self.next_is_done()))
        {
            return Progress::Closed;
        }
        let service_more = self.service.has_more() && !self.client.is_backed_up();
        if service_more || self.client.has_more() { Progress::More } else { Progress::Idle }
    }
}
