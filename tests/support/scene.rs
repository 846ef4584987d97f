//! A call whose two ends are in memory, on a clock that the test moves: a real `Session`, woken as the
//! loop wakes it, when bytes have come and at its own deadlines.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use voicelived::call::CallSettings;
use voicelived::metrics::Family;
use voicelived::net::dial::Target;
use voicelived::net::inbox::Inbox;
use voicelived::net::transport::Transport;
use voicelived::net::upgrade;
use voicelived::net::ws::{Incoming, Role, Sizes, WsPeer};
use voicelived::session::candidates::Candidate;
use voicelived::session::{
    CLIENT_SIZES, Had, LoopResources, News, NoReturn, Progress, Queues, Session, TurnContext,
};
use voicelived::tools::Tools;

use super::kernel::{self, Socket};

const SIZES: Sizes = Sizes { message: 1 << 20, waiting: 1 << 20 };

/// A call and its two ends.
pub(crate) struct Scene {
    session: Session<Socket>,
    client: WsPeer<Socket>,
    service: WsPeer<Socket>,
    /// The end of the second connection: of the session that is prepared, or of the one that was left.
    next: Option<WsPeer<Socket>>,
    /// What the session that is prepared was told.
    next_told: Vec<String>,
    /// At each change to a prepared session: how much of `told` was told to the ones before.
    pub(crate) changes: Vec<usize>,
    /// The code of the last close frame to a second connection.
    pub(crate) next_closed: Option<u16>,
    /// The call has asked for a new connection, and nobody has made it.
    pub(crate) redial: bool,
    resources: LoopResources,
    tools: Tools,
    /// What both ends read into, empty between two turns.
    inbox: Inbox,
    /// The time, which only [`pass`](Self::pass) moves.
    pub(crate) now: Instant,
    /// The client takes what it is sent, and answers pings.
    pub(crate) client_listens: bool,
    /// The service does.
    pub(crate) service_listens: bool,
    /// The owner would free the call's slot.
    pub(crate) closed: bool,
    /// What the client has heard: all its audio, and the bytes of each frame of it.
    pub(crate) audio: Vec<u8>,
    pub(crate) frames: Vec<usize>,
    /// What the client and the service were told.
    pub(crate) texts: String,
    /// Each message to the client, and the bytes of audio that came before each.
    pub(crate) messages: Vec<String>,
    pub(crate) audio_before: Vec<usize>,
    pub(crate) told: Vec<String>,
    /// The code of the close frame that the service was sent.
    pub(crate) service_closed: Option<u16>,
    /// Pings and pongs that the client and the service were sent.
    pub(crate) client_controls: usize,
    pub(crate) service_controls: usize,
}

/// Limits that no test meets.
pub(crate) fn settings() -> CallSettings {
    CallSettings {
        assistant: String::new(),
        chosen: None,
        session: serde_json::json!({}),
        greeting: None,
        idle: Duration::from_secs(48 * 3600),
        max_duration: Duration::from_secs(96 * 3600),
        reconnect: Duration::ZERO,
        continue_reply: false,
        reversible_barge_in: false,
        session_time: Duration::ZERO,
        resume: Duration::ZERO,
    }
}

/// A service in memory, without TLS.
pub(crate) fn target() -> Target {
    Target {
        host: "service".to_owned(),
        port: 443,
        request_target: "/".to_owned(),
        host_field: "service".to_owned(),
        credential: String::new(),
        tls: None,
        proxy: None,
    }
}

impl Scene {
    /// An active call.
    pub(crate) fn new() -> Self {
        Self::active(settings(), usize::MAX)
    }

    /// An active call; the kernel takes `room` bytes for the client at a time. Where the settings allow it, the client
    /// can hold a reply.
    pub(crate) fn active(settings: CallSettings, room: usize) -> Self {
        Self::opened(settings, room).activated()
    }

    /// The same for a client that can take its call up again.
    pub(crate) fn active_resumable(settings: CallSettings, room: usize) -> Self {
        Self::begun(settings, room, true).activated()
    }

    fn activated(self) -> Self {
        let mut scene = self;
        scene.say(br#"{"type":"session.created","session":{"id":"s"}}"#);
        scene.say(br#"{"type":"session.updated","session":{"id":"s"}}"#);
        assert!(scene.texts.contains(r#""active""#), "{}", scene.texts);
        scene
    }

    /// A call whose service has said nothing yet.
    pub(crate) fn opened(settings: CallSettings, room: usize) -> Self {
        Self::begun(settings, room, false)
    }

    fn begun(settings: CallSettings, room: usize, resumable: bool) -> Self {
        let (near, far) = kernel::pair(room);
        let peer = WsPeer::new(Transport::plain(near), Role::Server, CLIENT_SIZES, &[]);
        let mut resources = LoopResources::new(1_000);
        let tools = Tools::builtin();
        let mut queues = Queues::open(&mut resources.pool).expect("the pool is new");
        if resumable {
            queues = queues.expecting_return(&mut resources.pool);
        }
        let now = Instant::now();
        let holds = settings.reversible_barge_in;
        let candidate = Candidate::only(settings, target());
        let mut cx = resources.lend(&tools, now);
        let mut session =
            Session::<Socket>::new("call".to_owned(), "resume", peer, queues, candidate, &mut cx);
        if holds {
            session.prefer_hold();
        }
        let service = answer_call(&mut session, &mut cx, now);
        let mut scene = Self {
            session,
            client: WsPeer::new(Transport::plain(far), Role::Client, SIZES, &[]),
            service,
            next: None,
            next_told: Vec::new(),
            changes: Vec::new(),
            next_closed: None,
            redial: false,
            resources,
            tools,
            inbox: Inbox::new(),
            now,
            client_listens: true,
            service_listens: true,
            closed: false,
            audio: Vec::new(),
            frames: Vec::new(),
            texts: String::new(),
            messages: Vec::new(),
            audio_before: Vec::new(),
            told: Vec::new(),
            service_closed: None,
            client_controls: 0,
            service_controls: 0,
        };
        scene.turn();
        scene
    }

    /// The service sends a text message of these bytes, and everybody does what is to do.
    pub(crate) fn say(&mut self, text: &[u8]) {
        self.send(0x81, text);
    }

    /// The service sends a frame that begins with this byte.
    pub(crate) fn send(&mut self, first: u8, payload: &[u8]) {
        let frame = frame(first, payload);
        self.service.transport_mut().stream_mut().write_all(&frame).expect("memory");
        self.turn();
    }

    /// The client's end, to send something with: [`turn`](Self::turn) brings it to the call.
    pub(crate) fn client(&mut self) -> &mut WsPeer<Socket> {
        &mut self.client
    }

    /// Whether the call waits for the connection that it has asked for.
    pub(crate) fn is_calling(&self) -> bool {
        self.session.is_resolving()
    }

    /// The owner takes a call that is over out of its slot; how many blocks are free then, of how many.
    pub(crate) fn release(mut self) -> (usize, usize) {
        self.session.release(&mut self.resources.pool, self.now);
        (self.resources.pool.free_blocks(), self.resources.pool.total_blocks())
    }

    /// What `/metrics` says of this series.
    pub(crate) fn counted(&mut self, series: &str) -> u64 {
        let text = self.resources.metrics.render();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("voicelived_"));
        let number = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        number.and_then(|number| number.parse().ok()).expect("there is one")
    }

    /// Whether the call has not ended.
    pub(crate) fn session_is_talking(&self) -> bool {
        self.session.is_talking()
    }

    /// Time passes. The call is woken at each of its deadlines, and by nothing else.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while !self.closed
            && let Some(deadline) = self.session.deadline()
            && deadline <= end
        {
            assert!(deadline > self.now, "the call would be woken for ever");
            self.now = deadline;
            self.turn();
        }
        self.now = end;
    }

    /// What the two ends have sent arrives, and everybody does what is to do.
    pub(crate) fn turn(&mut self) {
        self.service.transport_mut().stream_mut().carry(usize::MAX);
        self.client.transport_mut().stream_mut().carry(usize::MAX);
        if let Some(next) = &self.next {
            next.transport().stream().carry(usize::MAX);
        }
        self.session.mark_service(true, true, false);
        self.session.mark_next(true, true, false);
        self.session.mark_client(true, true, false);
        let mut cx = self.resources.lend(&self.tools, self.now);
        loop {
            match self.session.pump(&mut cx) {
                Progress::More => {}
                Progress::Idle => break,
                Progress::Closed => {
                    self.closed = true;
                    break;
                }
            }
        }
        while let Some(news) = self.session.news() {
            self.redial |= news == News::Redial;
        }
        if self.client_listens {
            if let Some(socket) = self.session.client_socket() {
                socket.carry(usize::MAX);
            }
            self.hear_as_client();
        }
        if self.service_listens {
            if let Some(socket) = self.session.service_socket() {
                socket.carry(usize::MAX);
            }
            if let Some(socket) = self.session.next_socket() {
                socket.carry(usize::MAX);
            }
            self.hear_as_service();
            self.hear_as_next();
        }
        self.notice_change();
    }

    /// A prepared session has taken the place of the one before: what it was told before is told now.
    fn notice_change(&mut self) {
        if self.next.is_none() {
            return;
        }
        let changes = self.resources.metrics.total(Family::Rollovers);
        if changes > self.changes.len() as u64 {
            self.changes.push(self.told.len());
            self.told.append(&mut self.next_told);
            self.next_closed = self.service_closed.take();
            let next = self.next.as_mut().expect("it was prepared");
            std::mem::swap(next, &mut self.service);
            self.hear_as_service();
            self.hear_as_next();
        }
    }

    /// Whether a session is being prepared, or was and is being left.
    pub(crate) fn has_next(&mut self) -> bool {
        self.session.next_socket().is_some()
    }

    /// The connection that the call has asked for is made, beside the one that serves.
    pub(crate) fn answer_next(&mut self) {
        assert!(std::mem::take(&mut self.redial), "nobody calls");
        let mut cx = self.resources.lend(&self.tools, self.now);
        self.next = Some(answer_call(&mut self.session, &mut cx, self.now));
        self.next_told.clear();
        self.next_closed = None;
        self.turn();
    }

    /// It is refused with this status.
    pub(crate) fn refuse_next(&mut self, status: u16) {
        assert!(std::mem::take(&mut self.redial), "nobody calls");
        let mut cx = self.resources.lend(&self.tools, self.now);
        let mut socket = called(&mut self.session, &mut cx, self.now);
        let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
        socket.write_all(answer.as_bytes()).expect("memory");
        self.next = Some(WsPeer::new(Transport::plain(socket), Role::Server, SIZES, &[]));
        self.turn();
    }

    /// The session that is prepared says this.
    pub(crate) fn say_next(&mut self, text: &[u8]) {
        let next = self.next.as_mut().expect("it was prepared");
        next.transport_mut().stream_mut().write_all(&frame(0x81, text)).expect("memory");
        self.turn();
    }

    /// Its connection ends, without a goodbye.
    pub(crate) fn break_next(&mut self) {
        self.next.as_ref().expect("it was prepared").transport().stream().end();
        self.turn();
    }

    fn hear_as_next(&mut self) {
        let Some(next) = &mut self.next else { return };
        let told = &mut self.next_told;
        if let Some(code) = hear(next, &mut self.inbox, told, &mut self.service_controls) {
            self.next_closed = code;
            next.transport().stream().end();
        }
    }

    /// The service's connection ends, without a goodbye.
    pub(crate) fn break_service(&mut self) {
        self.service.transport().stream().end();
        self.turn();
    }

    /// Whether the call has let go of the connection to the service that it had last.
    pub(crate) fn service_is_let_go(&self) -> bool {
        self.service.transport().stream().is_alone()
    }

    /// The client's connection ends, without a goodbye. Of what is under way to it, `most` bytes arrive.
    pub(crate) fn break_client(&mut self, most: usize) {
        if let Some(socket) = self.session.client_socket() {
            socket.carry(most);
        }
        self.hear_as_client();
        self.client.transport().stream().end();
        let listens = std::mem::replace(&mut self.client_listens, false);
        // The first brings what it had sent, the second its end.
        self.turn();
        self.turn();
        self.client_listens = listens;
    }

    /// The client opens another connection and goes on with what it has had. The kernel takes `room` bytes
    /// for it at a time. The old connection, if there still is one, is closed.
    pub(crate) fn join(&mut self, room: usize) -> Result<(), NoReturn> {
        let (near, far) = kernel::pair(room);
        let peer = WsPeer::new(Transport::plain(near), Role::Server, CLIENT_SIZES, &[]);
        let received = Some(self.audio.len() as u64);
        let had = Had { received, messages: Some(self.messages.len() as u64) };
        self.session.may_go_on(had)?;
        let mut cx = self.resources.lend(&self.tools, self.now);
        drop(self.session.take_up(peer, had, "resume", &mut cx));
        self.client = WsPeer::new(Transport::plain(far), Role::Client, SIZES, &[]);
        self.turn();
        Ok(())
    }

    /// Whether the call is held for its client.
    pub(crate) fn is_held(&self) -> bool {
        self.session.held_since().is_some()
    }

    /// The tools that the call wants have run.
    pub(crate) fn finish_tools(&mut self) -> usize {
        let wanted = std::mem::take(&mut self.resources.wanted);
        for tool in &wanted {
            let mut cx = self.resources.lend(&self.tools, self.now);
            self.session.tool_finished(&tool.call_id, r#"{"n":1}"#, true, &mut cx);
        }
        self.turn();
        wanted.len()
    }

    /// The connection that the call has asked for is made. The service says nothing yet.
    pub(crate) fn answer_redial(&mut self) {
        assert!(std::mem::take(&mut self.redial), "nobody calls");
        let mut cx = self.resources.lend(&self.tools, self.now);
        self.service = answer_call(&mut self.session, &mut cx, self.now);
        self.turn();
    }

    /// The connection that the call has asked for is refused with this status.
    pub(crate) fn refuse_redial(&mut self, status: u16) {
        assert!(std::mem::take(&mut self.redial), "nobody calls");
        let mut cx = self.resources.lend(&self.tools, self.now);
        let mut socket = called(&mut self.session, &mut cx, self.now);
        let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
        socket.write_all(answer.as_bytes()).expect("memory");
        self.service = WsPeer::new(Transport::plain(socket), Role::Server, SIZES, &[]);
        self.turn();
    }

    fn hear_as_client(&mut self) {
        self.client.mark_readable(false);
        self.client.transport_mut().begin_turn();
        let mut closed = false;
        while let Ok(Some(message)) = self.client.read(&mut self.inbox) {
            match message {
                Incoming::Binary(pcm) => {
                    self.audio.extend_from_slice(pcm);
                    self.frames.push(pcm.len());
                }
                Incoming::Text(text) => {
                    self.texts.push_str(text);
                    self.messages.push(text.to_owned());
                    self.audio_before.push(self.audio.len());
                }
                Incoming::Control => self.client_controls += 1,
                Incoming::Close(frame) => {
                    let code = frame.map(|frame| u16::from(frame.code));
                    self.texts.push_str(&format!("closed {code:?}"));
                    closed = true;
                }
            }
        }
        self.client.keep(&mut self.inbox);
        self.inbox.clear();
        // Pongs leave with it. A failure shows at the call's side.
        let _ = self.client.flush();
        if closed {
            self.client.transport().stream().end();
        }
    }

    fn hear_as_service(&mut self) {
        let (told, controls) = (&mut self.told, &mut self.service_controls);
        if let Some(code) = hear(&mut self.service, &mut self.inbox, told, controls) {
            self.service_closed = code;
            self.service.transport().stream().end();
        }
    }

    /// Nothing more came to the client than an end that says this.
    pub(crate) fn assert_ended(&self, what: &str, words: &str) {
        assert!(self.audio.is_empty(), "{what}: {} bytes were played", self.audio.len());
        assert!(self.texts.contains(words), "{what}: {}", self.texts);
        assert!(self.texts.contains("closed Some(1011)"), "{what}: {}", self.texts);
    }
}

/// A frame of the service, that begins with this byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 127];
    match payload.len() {
        length @ 0..126 => frame[1] = u8::try_from(length).expect("short"),
        length @ 126..0x1_0000 => {
            frame[1] = 126;
            frame.extend(u16::try_from(length).expect("short").to_be_bytes());
        }
        length => frame.extend((length as u64).to_be_bytes()),
    }
    frame.extend_from_slice(payload);
    frame
}

/// What has come to an end of the service. Its close code, if it was closed.
fn hear(
    end: &mut WsPeer<Socket>,
    inbox: &mut Inbox,
    told: &mut Vec<String>,
    controls: &mut usize,
) -> Option<Option<u16>> {
    let mut closed = None;
    end.mark_readable(false);
    end.transport_mut().begin_turn();
    while let Ok(Some(message)) = end.read(inbox) {
        match message {
            Incoming::Text(text) => told.push(text.to_owned()),
            Incoming::Control => *controls += 1,
            Incoming::Close(frame) => closed = Some(frame.map(|frame| u16::from(frame.code))),
            Incoming::Binary(_) => {}
        }
    }
    end.keep(inbox);
    inbox.clear();
    let _ = end.flush();
    closed
}

/// The call connects: the service's end, before it has answered.
fn called(session: &mut Session<Socket>, cx: &mut TurnContext<'_>, now: Instant) -> Socket {
    session.dial(&[([127, 0, 0, 1], 443).into()], now);
    session.pump(cx);
    let service = kernel::called().expect("it has connected");
    session.pump(cx);
    if let Some((_, socket)) = session.new_socket() {
        socket.carry(usize::MAX);
    }
    service
}

/// The call connects, and the service opens the WebSocket.
fn answer_call(
    session: &mut Session<Socket>,
    cx: &mut TurnContext<'_>,
    now: Instant,
) -> WsPeer<Socket> {
    let mut service = called(session, cx, now);
    let answer = upgraded(&key_of(&mut service));
    service.write_all(answer.as_bytes()).expect("memory");
    WsPeer::new(Transport::plain(service), Role::Server, SIZES, &[])
}

/// The answer to a request with this `Sec-WebSocket-Key`.
pub(crate) fn upgraded(key: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        upgrade::accept_key(key),
    )
}

/// `Sec-WebSocket-Key` of the request that waits here.
pub(crate) fn key_of(service: &mut Socket) -> String {
    let mut request = vec![0; 4096];
    let count = service.read(&mut request).expect("a request");
    let request = String::from_utf8_lossy(&request[..count]).into_owned();
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    key.expect("a key").to_owned()
}
