//! One call's glue: the client's WebSocket, the service's connection, and the [`Call`] between
//! them. The only place where `net` and `call` meet.
//!
//! A turn ([`Session::pump`]) always runs in the same order: what waits for the client leaves,
//! the service is read, the client is read, time is told, everything is flushed. Audio goes
//! straight through; when a side is behind, it waits in PCM blocks (`reply`, `microphone`), and
//! when those are full the service is not read until there is room (R2).

mod microphone;
mod reply;

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mio::net::TcpStream;
use tungstenite::{Bytes, Message, Utf8Bytes};

use crate::call::client::{self, MAX_FRAME_BYTES};
use crate::call::ending::{EndReason, ServiceFault};
use crate::call::pcm::PcmPool;
use crate::call::service::{self, Parsed};
use crate::call::{Call, CallSettings, Input, Microphone, Output, Reply};
use crate::fault;
use crate::net::dial::{Dial, Progress as DialProgress, Target};
use crate::net::ws::{Incoming, Sizes, WsError, WsPeer};
use crate::tools::Tools;

use microphone::MicrophonePath;
use reply::{PathError, ReplyPath};

/// Buffers of the client's side, in bytes.
pub const CLIENT_SIZES: Sizes = Sizes { read: 4 * 1024, message: MAX_FRAME_BYTES };

/// Buffers of the service's side, in bytes. Audio deltas have about 17 KB; both public SDKs read
/// at most a few MiB, so the service stays below one.
const SERVICE_SIZES: Sizes = Sizes { read: 8 * 1024, message: 1024 * 1024 + 64 * 1024 };

/// Messages that one side may bring in one turn: no call can hold the loop.
const TURN_MESSAGES: usize = 64;

/// Text and control messages that a client may send in a second.
const MAX_CHATTER: u32 = 200;

/// A side that takes nothing of what it is sent for this long is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(15);

/// A silent client is asked whether it lives after this long, and given up after as long again
/// and a half.
const CLIENT_PING: Duration = Duration::from_secs(10);

/// The service is asked after this long (the SDK's own interval is 30 s), and given up after
/// twice that and ten seconds.
const SERVICE_PING: Duration = Duration::from_secs(25);

/// How long the closing handshakes may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What all calls share, lent to each for its turn.
#[allow(missing_debug_implementations, reason = "lent for a turn, never kept")]
pub struct Desk<'a> {
    /// All PCM memory.
    pub pool: &'a mut PcmPool,
    /// Where frames are built; reclaimed after each.
    pub scratch: &'a mut BytesMut,
    /// The tools there are.
    pub tools: &'a Tools,
    /// Tool runs wanted by the call; the loop starts them.
    pub wanted: &'a mut Vec<WantedTool>,
    /// The time of this turn.
    pub now: Instant,
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
enum Service {
    /// Its addresses are being looked up.
    Resolving,
    /// It is being made.
    Dialling(Box<Dial>),
    /// Events flow.
    Open(Box<WsPeer<TcpStream>>),
    /// There is none any more.
    Gone,
}

/// How far the call's end has got.
enum Phase {
    /// Not ended.
    Talking,
    /// Both sides were told; their closing handshakes run until the deadline.
    Closing { deadline: Instant },
}

/// Counts for the line that is logged at the end.
#[derive(Debug, Default)]
struct Totals {
    microphone_bytes: u64,
    microphone_dropped: u64,
    reply_bytes: u64,
}

/// How a side's liveness is watched.
struct Pulse {
    received: u64,
    heard: Instant,
    pinged: bool,
    sent: u64,
    took: Instant,
}

/// One call. See the module's text.
#[allow(missing_debug_implementations, reason = "the dial's target holds the credential")]
pub struct Session {
    id: String,
    client: WsPeer<TcpStream>,
    service: Service,
    target: Rc<Target>,
    call: Call,
    reply: ReplyPath,
    microphone: MicrophonePath,
    phase: Phase,
    /// A socket was made that the loop has not registered yet.
    unregistered: bool,
    client_pulse: Pulse,
    service_pulse: Pulse,
    chatter: (Instant, u32),
    totals: Totals,
    started: Instant,
}

impl Session {
    /// A call on a client's open WebSocket. Fails, giving the peer back, when the pool cannot
    /// guarantee it its blocks.
    ///
    /// # Errors
    /// The peer, to be turned away as full.
    pub fn new(
        id: String,
        resume: &str,
        client: WsPeer<TcpStream>,
        settings: Rc<CallSettings>,
        target: Rc<Target>,
        desk: &mut Desk<'_>,
    ) -> Result<Self, WsPeer<TcpStream>> {
        let Some((reply, microphone)) = open_queues(desk.pool) else {
            return Err(client);
        };
        let now = desk.now;
        let call = Call::new(settings, &id, resume, now);
        let mut session = Self {
            id,
            client_pulse: Pulse::new(now),
            service_pulse: Pulse::new(now),
            client,
            service: Service::Resolving,
            target,
            call,
            reply,
            microphone,
            phase: Phase::Talking,
            unregistered: false,
            chatter: (now, 0),
            totals: Totals::default(),
            started: now,
        };
        session.carry_out(desk);
        Ok(session)
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
    pub fn dial(&mut self, addresses: &[std::net::SocketAddr], now: Instant) {
        if self.is_resolving() {
            let dial = Dial::new(Rc::clone(&self.target), addresses.to_vec(), SERVICE_SIZES, now);
            self.service = Service::Dialling(Box::new(dial));
        }
    }

    /// The service's addresses cannot be had.
    pub fn unresolved(&mut self, fault: ServiceFault, desk: &mut Desk<'_>) {
        if self.is_resolving() {
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
    pub fn client_socket(&mut self) -> &mut TcpStream {
        self.client.transport_mut().stream_mut()
    }

    /// The service's socket, if it is new and must be registered.
    pub fn new_service_socket(&mut self) -> Option<&mut TcpStream> {
        if !std::mem::take(&mut self.unregistered) {
            return None;
        }
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
        if let Service::Open(peer) = &mut self.service {
            peer.transport_mut().begin_turn();
        }
        self.send_reply(desk);
        self.advance_dial(desk);
        self.read_service(desk);
        self.read_client(desk);
        self.watch(desk);
        self.flush(desk);
        self.progress(desk.now)
    }

    /// When [`pump`](Self::pump) must be called again at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if let Phase::Closing { deadline } = self.phase {
            return Some(deadline);
        }
        let dial = match &self.service {
            Service::Dialling(dial) => Some(dial.deadline()),
            Service::Open(peer) => Some(self.service_pulse.deadline(peer, SERVICE_PING)),
            Service::Resolving | Service::Gone => None,
        };
        let client = Some(self.client_pulse.deadline(&self.client, CLIENT_PING));
        [self.call.deadline(), dial, client].into_iter().flatten().min()
    }

    /// Gives the blocks back. The owner calls it before the session is dropped.
    pub fn release(self, pool: &mut PcmPool) {
        let Totals { microphone_bytes, microphone_dropped, reply_bytes } = self.totals;
        log::info!(
            "[{}] freed after {:.1} s, microphone {microphone_bytes} bytes ({microphone_dropped} dropped), reply {reply_bytes} bytes",
            self.id,
            self.started.elapsed().as_secs_f64(),
        );
        self.reply.close(pool);
        self.microphone.close(pool);
    }

    // ---- inputs and outputs of the call ----

    fn input(&mut self, input: Input<'_>, desk: &mut Desk<'_>) {
        self.call.handle(input, desk.now);
        self.carry_out(desk);
    }

    /// Does what the call wants, until it wants nothing more.
    fn carry_out(&mut self, desk: &mut Desk<'_>) {
        let mut refused = Vec::new();
        while let Some(output) = self.call.poll() {
            match output {
                Output::ToService(json) => self.tell_service(json),
                Output::ToClient(json) => self.tell_client(json),
                Output::DropPlayback => self.reply.clear(desk.pool),
                Output::ReleaseMicrophone => self.send_microphone(desk),
                Output::RunTool { call_id, name, arguments } => {
                    if let Err(error) = want_tool(desk, &call_id, &name, &arguments) {
                        refused.push((call_id, error));
                    }
                }
                Output::Close(reason) => self.begin_close(&reason, desk),
            }
        }
        for (call_id, error) in refused {
            let output = serde_json::json!({ "error": error }).to_string();
            self.input(Input::ToolFinished { call_id: &call_id, output: &output, ok: false }, desk);
        }
    }

    fn tell_service(&mut self, json: String) {
        if let Service::Open(peer) = &mut self.service {
            // A service that takes nothing is found by its pulse; a lost one by the next read.
            if let Err(WsError::Full) = peer.send(Message::text(json)) {
                log::warn!("[{}] a message for the service was dropped: too many wait", self.id);
            }
        }
    }

    fn tell_client(&mut self, json: String) {
        if let Err(WsError::Full) = self.client.send(Message::text(json)) {
            log::debug!("[{}] a message for the client was dropped: too many wait", self.id);
        }
    }

    fn begin_close(&mut self, reason: &EndReason, desk: &mut Desk<'_>) {
        log::info!(
            "[{}] ended: {} ({:?}) after {:.1} s",
            self.id,
            reason.word(),
            reason.side(),
            (desk.now - self.started).as_secs_f64()
        );
        log::debug!("[{}] {}", self.id, reason.message());
        self.reply.clear(desk.pool);
        self.microphone.clear(desk.pool);
        self.client.close(reason.close_code(), &reason.message());
        match &mut self.service {
            Service::Open(peer) => peer.close(1000, ""),
            other => *other = Service::Gone,
        }
        self.phase = Phase::Closing { deadline: desk.now + CLOSE_TIMEOUT };
    }

    // ---- the service's side ----

    fn advance_dial(&mut self, desk: &mut Desk<'_>) {
        let Service::Dialling(dial) = &mut self.service else { return };
        match dial.advance(desk.now) {
            DialProgress::Pending => {}
            DialProgress::NewSocket => self.unregistered = true,
            DialProgress::Open(mut peer) => {
                peer.transport_mut().begin_turn();
                self.service_pulse = Pulse::new(desk.now);
                self.service = Service::Open(Box::new(peer));
                self.input(Input::ServiceOpened, desk);
            }
            DialProgress::Failed(error) => {
                let fault = fault::explain(&error, &self.target.host);
                log::warn!("[{}] {}", self.id, fault.message);
                self.lose_service(fault, desk);
            }
        }
    }

    fn lose_service(&mut self, fault: ServiceFault, desk: &mut Desk<'_>) {
        self.service = Service::Gone;
        self.input(Input::ServiceLost(fault), desk);
    }

    fn read_service(&mut self, desk: &mut Desk<'_>) {
        for _ in 0..TURN_MESSAGES {
            // R2: what the client does not take, and the blocks cannot hold, stays unread.
            if self.reply.is_backed_up() {
                return;
            }
            let Service::Open(peer) = &mut self.service else { return };
            match peer.read() {
                Ok(Some(Incoming::Text(text))) => self.on_event(text, desk),
                Ok(Some(Incoming::Binary(data))) => match Utf8Bytes::try_from(data) {
                    Ok(text) => self.on_event(text, desk),
                    Err(_) => self.service_error("a binary message that is no JSON", desk),
                },
                Ok(Some(Incoming::Control)) => {}
                Ok(Some(Incoming::Close { code, reason })) => {
                    if self.is_talking() {
                        self.input(Input::ServiceLost(fault::closed(code, &reason)), desk);
                    }
                }
                Ok(None) => return,
                Err(error) => return self.service_ended(&error, desk),
            }
        }
    }

    fn service_ended(&mut self, error: &WsError, desk: &mut Desk<'_>) {
        let fault = match error {
            WsError::Closed => fault::closed(None, ""),
            WsError::Lost(error) => fault::lost(error),
            WsError::Violation { what, .. } => fault::violation(what),
            WsError::Full => fault::lost(&"it takes nothing"),
        };
        if !matches!(error, WsError::Violation { .. }) {
            self.service = Service::Gone;
        }
        if self.is_talking() {
            self.input(Input::ServiceLost(fault), desk);
        }
    }

    fn service_error(&mut self, what: &str, desk: &mut Desk<'_>) {
        if self.is_talking() {
            log::warn!("[{}] the service sent {what}", self.id);
            self.input(Input::ServiceLost(fault::violation(what)), desk);
        }
    }

    fn on_event(&mut self, text: Utf8Bytes, desk: &mut Desk<'_>) {
        if !self.is_talking() {
            return;
        }
        match service::parse(text.as_str()) {
            Ok(Parsed::Audio(delta)) => {
                let verdict = self.call.reply_audio(&delta, desk.now);
                let (range, bytes) = (delta.base64, delta.pcm_bytes);
                if verdict == Reply::Forward {
                    self.on_audio(text, range, bytes, desk);
                }
            }
            Ok(Parsed::AudioOwned(owned)) => {
                let delta = owned.delta();
                let verdict = self.call.reply_audio(&delta, desk.now);
                let (range, bytes) = (delta.base64, delta.pcm_bytes);
                if verdict == Reply::Forward {
                    self.on_audio(Utf8Bytes::from(owned.base64), range, bytes, desk);
                }
            }
            Ok(Parsed::Event(event)) => self.input(Input::Service(event), desk),
            Err(what) => self.service_error(&what, desk),
        }
    }

    fn on_audio(&mut self, text: Utf8Bytes, base64: std::ops::Range<usize>, bytes: usize, desk: &mut Desk<'_>) {
        if !bytes.is_multiple_of(2) {
            return self.service_error("audio that is no whole number of samples", desk);
        }
        self.reply.accept(text, base64);
        self.send_reply(desk);
    }

    /// Sends what waits for the client as far as it takes it.
    fn send_reply(&mut self, desk: &mut Desk<'_>) {
        if self.reply.is_empty() {
            return;
        }
        let sent = self.reply.send(&mut self.client, desk);
        let bytes = match sent {
            Ok(bytes) => bytes,
            Err(PathError::Client(error)) => return self.client_ended(&error, desk),
            Err(PathError::Service(what)) => return self.service_error(what, desk),
        };
        if bytes > 0 {
            self.totals.reply_bytes += bytes as u64;
            self.call.reply_sent(bytes, desk.now);
            self.carry_out(desk);
        }
    }

    // ---- the client's side ----

    fn read_client(&mut self, desk: &mut Desk<'_>) {
        for _ in 0..TURN_MESSAGES {
            match self.client.read() {
                Ok(Some(Incoming::Binary(data))) => self.on_microphone(&data, desk),
                Ok(Some(Incoming::Text(text))) => self.on_text(&text, desk),
                Ok(Some(Incoming::Control)) => self.count_chatter(desk),
                Ok(Some(Incoming::Close { .. })) => {
                    if self.is_talking() {
                        self.input(Input::ClientLost, desk);
                    }
                }
                Ok(None) => return,
                Err(error) => return self.client_ended(&error, desk),
            }
        }
    }

    fn client_ended(&mut self, error: &WsError, desk: &mut Desk<'_>) {
        if !self.is_talking() {
            return;
        }
        let input = match error {
            WsError::Closed => Input::ClientLost,
            WsError::Lost(error) => {
                log::debug!("[{}] the client is gone: {error}", self.id);
                Input::ClientLost
            }
            WsError::Violation { code: 1009, .. } => Input::End(EndReason::TooBig),
            WsError::Violation { code: 1007, what } => Input::End(EndReason::BadText(what.clone())),
            WsError::Violation { what, .. } => Input::End(EndReason::BadProtocol(what.clone())),
            WsError::Full => Input::End(EndReason::ClientStalled(STALL_TIMEOUT.as_secs())),
        };
        self.input(input, desk);
    }

    fn on_text(&mut self, text: &Utf8Bytes, desk: &mut Desk<'_>) {
        self.count_chatter(desk);
        if !self.is_talking() {
            return;
        }
        match client::parse(text.as_str()) {
            Ok(message) => self.input(Input::Client(message), desk),
            Err(what) => self.input(Input::End(EndReason::BadText(what)), desk),
        }
    }

    /// Everything but audio is rare in an honest call; a flood of it ends the call.
    fn count_chatter(&mut self, desk: &mut Desk<'_>) {
        let (since, count) = &mut self.chatter;
        if desk.now.duration_since(*since) >= Duration::from_secs(1) {
            (*since, *count) = (desk.now, 0);
        }
        *count += 1;
        if *count > MAX_CHATTER && self.is_talking() {
            let message = format!("More than {MAX_CHATTER} messages came within a second.");
            self.input(Input::End(EndReason::Refused(message)), desk);
        }
    }

    fn on_microphone(&mut self, data: &Bytes, desk: &mut Desk<'_>) {
        if !data.len().is_multiple_of(2) {
            if self.is_talking() {
                let message = "A binary frame must hold whole 16-bit samples.".to_owned();
                self.input(Input::End(EndReason::BadAudio(message)), desk);
            }
            return;
        }
        if data.is_empty() {
            return self.count_chatter(desk);
        }
        self.totals.microphone_bytes += data.len() as u64;
        let verdict = self.call.microphone(data.len(), desk.now);
        let dropped = match (verdict, &mut self.service) {
            (Microphone::Discard, _) => return,
            (Microphone::Forward, Service::Open(peer)) => self.microphone.forward(data, peer, desk),
            (Microphone::Forward | Microphone::Hold, _) => self.microphone.hold(data, desk.pool),
        };
        self.totals.microphone_dropped += dropped as u64;
    }

    fn send_microphone(&mut self, desk: &mut Desk<'_>) {
        if let Service::Open(peer) = &mut self.service {
            self.microphone.send(peer, desk);
        }
    }

    // ---- time, output, end ----

    fn watch(&mut self, desk: &mut Desk<'_>) {
        if !self.is_talking() {
            return;
        }
        if self.call.deadline().is_some_and(|deadline| desk.now >= deadline) {
            self.input(Input::Tick, desk);
        }
        match self.client_pulse.check(&mut self.client, CLIENT_PING, CLIENT_PING * 5 / 2, desk.now) {
            Ok(()) => {}
            Err(Dead::Silent) => self.input(Input::ClientLost, desk),
            Err(Dead::Stalled) => self.input(Input::End(EndReason::ClientStalled(STALL_TIMEOUT.as_secs())), desk),
        }
        let Service::Open(peer) = &mut self.service else { return };
        let give_up = SERVICE_PING * 2 + Duration::from_secs(10);
        if self.service_pulse.check(peer, SERVICE_PING, give_up, desk.now).is_err() && self.is_talking() {
            self.input(Input::ServiceLost(fault::lost(&"it does not answer")), desk);
        }
    }

    fn flush(&mut self, desk: &mut Desk<'_>) {
        if let Service::Open(peer) = &mut self.service {
            self.microphone.send(peer, desk);
            if let Err(error) = peer.flush() {
                self.service_ended(&error, desk);
            }
        }
        if let Err(error) = self.client.flush() {
            self.client_ended(&error, desk);
            // What the end has queued for a client that is gone stays unsent.
            let _ = self.client.flush();
        }
    }

    fn progress(&mut self, now: Instant) -> Progress {
        if let Phase::Closing { deadline } = self.phase {
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

fn mark(peer: &mut WsPeer<TcpStream>, readable: bool, writable: bool, ending: bool) {
    if readable {
        peer.mark_readable(ending);
    }
    if writable {
        peer.mark_writable();
    }
}

/// Each call's guaranteed blocks, and how many more it may borrow for a long reply.
fn open_queues(pool: &mut PcmPool) -> Option<(ReplyPath, MicrophonePath)> {
    let microphone = MicrophonePath::open(pool)?;
    match ReplyPath::open(pool) {
        Some(reply) => Some((reply, microphone)),
        None => {
            microphone.close(pool);
            None
        }
    }
}

fn want_tool(desk: &mut Desk<'_>, call_id: &str, name: &str, arguments: &str) -> Result<(), String> {
    let (_, input) = desk.tools.check(name, arguments)?;
    desk.wanted.push(WantedTool { call_id: call_id.to_owned(), name: name.to_owned(), input });
    Ok(())
}

/// Why a side is given up.
enum Dead {
    /// Nothing came from it, not even an answer to a ping.
    Silent,
    /// It took nothing of what it was sent.
    Stalled,
}

impl Pulse {
    fn new(now: Instant) -> Self {
        Self { received: 0, heard: now, pinged: false, sent: 0, took: now }
    }

    /// Notes what has moved, pings a silent peer, and says when it must be given up.
    fn check(&mut self, peer: &mut WsPeer<TcpStream>, ping: Duration, give_up: Duration, now: Instant) -> Result<(), Dead> {
        let (received, sent) = (peer.transport().received(), peer.transport().sent());
        if received != self.received {
            (self.received, self.heard, self.pinged) = (received, now, false);
        }
        if sent != self.sent || !peer.transport().is_blocked() {
            (self.sent, self.took) = (sent, now);
        }
        if now >= self.took + STALL_TIMEOUT {
            return Err(Dead::Stalled);
        }
        if now >= self.heard + give_up {
            return Err(Dead::Silent);
        }
        if now >= self.heard + ping && !self.pinged {
            self.pinged = true;
            // A full or closed peer shows elsewhere.
            let _ = peer.send(Message::Ping(Bytes::new()));
        }
        Ok(())
    }

    fn deadline(&self, peer: &WsPeer<TcpStream>, ping: Duration) -> Instant {
        let give_up = if ping == CLIENT_PING { CLIENT_PING * 5 / 2 } else { SERVICE_PING * 2 + Duration::from_secs(10) };
        let silent = self.heard + if self.pinged { give_up } else { ping };
        if peer.transport().is_blocked() { silent.min(self.took + STALL_TIMEOUT) } else { silent }
    }
}
