//! An active call between two ends that we hold in our hands.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use rustls::{ClientConfig, ServerConfig};
use voicelived::call::CallSettings;
use voicelived::call::pcm::PcmPool;
use voicelived::call::service::session::{SessionSettings, session_object};
use voicelived::metrics::Metrics;
use voicelived::net::dial::Target;
use voicelived::net::tls;
use voicelived::net::transport::Transport;
use voicelived::net::ws::{Role, WsPeer};
use voicelived::session::{Buffers, CLIENT_SIZES, Desk, Progress, Queues, Session};
use voicelived::tools::Tools;

use crate::frame;
use crate::shape::{Direction, Message, Shape, check, pair};
use crate::unavoidable::Side;

const CLIENT: Token = Token(0);
const SERVICE: Token = Token(1);

/// How long anything may take: it is on loopback, but the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

const CREATED: &str = r#"{"type":"session.created","event_id":"event_BGn1wOZ4Y3q7VQ0s","session":{"id":"sess_BGn1wPq0HcXtm5E2","model":"gpt-realtime-mini"}}"#;
const UPDATED: &str = r#"{"type":"session.updated","event_id":"event_BGn1wRf7jK2eWc9d","session":{"id":"sess_BGn1wPq0HcXtm5E2","model":"gpt-realtime-mini","turn_detection":{"type":"server_vad","auto_truncate":true}}}"#;

/// What the loop lends to a call.
struct Loop {
    pool: PcmPool,
    buffers: Buffers,
    metrics: Metrics,
    tools: Tools,
    wanted: Vec<voicelived::session::WantedTool>,
    poll: Poll,
    events: Events,
}

impl Loop {
    fn desk(&mut self) -> Desk<'_> {
        Desk {
            pool: &mut self.pool,
            buffers: &mut self.buffers,
            tools: &self.tools,
            wanted: &mut self.wanted,
            metrics: &mut self.metrics,
            now: Instant::now(),
        }
    }
}

/// The call and its surroundings.
pub(crate) struct Stage {
    session: Session,
    owner: Loop,
    client: Side,
    service: Side,
    up: Message,
    down: Message,
    sealed: Vec<u8>,
    plain: Vec<u8>,
    wire: Vec<u8>,
}

impl Stage {
    /// Makes everything up to an active call.
    pub(crate) fn new(shape: Shape) -> Self {
        let (server, trusting) = tls_configs();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let address = listener.local_addr().expect("bound");
        let mut owner = Loop {
            pool: PcmPool::new(1_000),
            buffers: Buffers::default(),
            metrics: Metrics::new(),
            tools: Tools::builtin("/proc/self/exe".as_ref()),
            wanted: Vec::new(),
            poll: Poll::new().expect("a poll"),
            events: Events::with_capacity(16),
        };
        let (far, near) = pair();
        near.set_nonblocking(true).expect("an open socket");
        let near = mio::net::TcpStream::from_std(near);
        let (transport, client_tls) = if shape.client_tls {
            let connection = tls::client(&trusting, "127.0.0.1").expect("a name");
            (Transport::tls(near, tls::server(&server).expect("a config")), Some(connection))
        } else {
            (Transport::plain(near), None)
        };
        let mut session = new_session(transport, target(address, shape, &trusting), &mut owner);
        register(session.client_socket(), CLIENT, &owner.poll);
        session.dial(&[address], Instant::now());
        session.pump(&mut owner.desk());
        let socket = session.new_service_socket().expect("it has begun to connect");
        register(socket, SERVICE, &owner.poll);
        let service = listener.accept().expect("the session's connection").0;
        service.set_nodelay(true).expect("an open socket");
        let service_tls = shape.service_tls.then(|| tls::server(&server).expect("a config"));
        let mut stage = Self {
            session,
            owner,
            client: Side { stream: far, tls: client_tls },
            service: Side { stream: service, tls: service_tls },
            up: Message::of(shape, Direction::Up),
            down: Message::of(shape, Direction::Down),
            sealed: Vec::with_capacity(64 * 1_024),
            plain: Vec::with_capacity(64 * 1_024),
            wire: vec![0; 64 * 1_024],
        };
        stage.begin();
        stage
    }

    /// TLS on both sides, upgrade, `session.created`, `session.updated`.
    fn begin(&mut self) {
        self.until("the request", |plain| frame::head_end(plain).is_some());
        let head = String::from_utf8_lossy(&self.plain).into_owned();
        self.plain.clear();
        let answer = frame::upgrade(&head).expect("a request for an upgrade");
        self.say(answer.as_bytes());
        self.event(CREATED);
        self.until("session.update", |plain| {
            frame::Head::parse(plain).is_some_and(|head| plain.len() >= head.bytes + head.payload)
        });
        self.plain.clear();
        self.event(UPDATED);
        self.finish_client();
    }

    /// The client's end hears `hello` and the states, and is silent after them.
    fn finish_client(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        self.client.stream.set_nonblocking(true).expect("an open socket");
        loop {
            drive(&mut self.client, &mut self.wire, &mut self.plain, &mut self.sealed);
            self.turn(Some(Duration::from_millis(5)));
            if self.plain.windows(8).any(|text| text == b"\"active\"") {
                break;
            }
            assert!(Instant::now() < deadline, "the call does not become active");
        }
        self.plain.clear();
        self.client.stream.set_nonblocking(false).expect("an open socket");
    }

    fn until(&mut self, what: &str, complete: impl Fn(&[u8]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        self.service.stream.set_nonblocking(true).expect("an open socket");
        self.client.stream.set_nonblocking(true).expect("an open socket");
        let mut heard = Vec::new();
        while !complete(&self.plain) {
            assert!(Instant::now() < deadline, "{what} does not come");
            drive(&mut self.service, &mut self.wire, &mut self.plain, &mut self.sealed);
            // A TLS client has to answer for its handshake.
            drive(&mut self.client, &mut self.wire, &mut heard, &mut self.sealed);
            self.turn(Some(Duration::from_millis(5)));
        }
        self.service.stream.set_nonblocking(false).expect("an open socket");
        self.client.stream.set_nonblocking(false).expect("an open socket");
    }

    fn event(&mut self, text: &str) {
        let mut message = Vec::new();
        frame::head(&mut message, frame::TEXT, text.len(), None);
        message.extend_from_slice(text.as_bytes());
        self.say(&message);
    }

    fn say(&mut self, bytes: &[u8]) {
        self.service.send(bytes, &mut self.sealed).expect("an open connection");
    }

    /// One turn as the loop has it.
    fn turn(&mut self, timeout: Option<Duration>) {
        self.mark(timeout);
        let mut desk = self.owner.desk();
        while self.session.pump(&mut desk) == Progress::More {}
    }

    fn mark(&mut self, timeout: Option<Duration>) {
        self.owner.poll.poll(&mut self.owner.events, timeout).expect("a poll");
        for event in &self.owner.events {
            let (readable, writable) = (event.is_readable(), event.is_writable());
            let ending = event.is_read_closed();
            if event.token() == CLIENT {
                self.session.mark_client(readable, writable, ending);
            } else {
                self.session.mark_service(readable, writable, ending);
            }
        }
    }

    /// The next frame lies in the session's socket, and the session knows.
    pub(crate) fn prepare(&mut self, direction: Direction) {
        let (end, message, token) = match direction {
            Direction::Up => (&mut self.client, &self.up, CLIENT),
            Direction::Down => (&mut self.service, &self.down, SERVICE),
        };
        end.send(&message.wire, &mut self.sealed).expect("an open connection");
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.mark(Some(Duration::from_secs(1)));
            let came = |event: &mio::event::Event| event.token() == token && event.is_readable();
            if self.owner.events.iter().any(came) {
                return;
            }
            assert!(Instant::now() < deadline, "the frame does not come");
        }
    }

    /// The measured part.
    pub(crate) fn relay(&mut self) {
        measured(&mut self.session, &mut self.owner.desk());
    }

    /// The same, not measured.
    pub(crate) fn relay_aside(&mut self) {
        let mut desk = self.owner.desk();
        while self.session.pump(&mut desk) == Progress::More {}
    }

    /// What was relayed is right, to the last sample.
    pub(crate) fn check(&mut self, direction: Direction) {
        let (end, message) = match direction {
            Direction::Up => (&mut self.service, &self.up),
            Direction::Down => (&mut self.client, &self.down),
        };
        check(end, message, &mut self.wire, &mut self.plain);
    }
}

/// A certificate for 127.0.0.1, its server, and a client that trusts it.
fn tls_configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("names");
    let key = made.signing_key.serialize_pem();
    let server = tls::server_config(made.cert.pem().as_bytes(), key.as_bytes()).expect("a pair");
    let client = tls::client_config(&[made.cert.der().clone()]).expect("an anchor");
    (server, client)
}

/// What callgrind counts and the clock measures.
#[inline(never)]
fn measured(session: &mut Session, desk: &mut Desk<'_>) {
    while session.pump(desk) == Progress::More {}
}

fn new_session(
    transport: Transport<mio::net::TcpStream>,
    target: Target,
    owner: &mut Loop,
) -> Session {
    let peer = WsPeer::new(transport, Role::Server, CLIENT_SIZES, &[]);
    let queues = Queues::open(&mut owner.pool).expect("the pool is new");
    let settings = CallSettings {
        session: session_object(&SessionSettings {
            model: "gpt-realtime-mini".to_owned(),
            voice: "en-US-AvaNeural".to_owned(),
            instructions: None,
            language: None,
            tools: serde_json::Value::Null,
            overrides: serde_json::Map::new(),
        }),
        greeting: None,
        idle: Duration::from_secs(3_600),
        max_duration: Duration::from_secs(3_600),
    };
    let shared = (Rc::new(settings), Rc::new(target));
    Session::new("bench".to_owned(), "resume", peer, queues, shared, &mut owner.desk())
}

fn target(address: SocketAddr, shape: Shape, trusting: &Arc<ClientConfig>) -> Target {
    Target {
        host: "127.0.0.1".to_owned(),
        port: address.port(),
        request_target: "/voice-live/realtime?api-version=2026-07-15&model=m".to_owned(),
        host_field: address.to_string(),
        credential: "api-key: bench".to_owned(),
        tls: shape.service_tls.then(|| Arc::clone(trusting)),
    }
}

fn register(socket: &mut mio::net::TcpStream, token: Token, poll: &Poll) {
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry().register(socket, token, interest).expect("a new socket");
}

/// Moves what there is to move on one end, without waiting.
fn drive(end: &mut Side, wire: &mut [u8], plain: &mut Vec<u8>, sealed: &mut Vec<u8>) {
    loop {
        match end.receive(wire, plain) {
            Ok(true) => {}
            Ok(false) => panic!("the session has closed"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    sealed.clear();
    if let Some(tls) = &mut end.tls {
        while tls.wants_write() {
            tls.write_tls(sealed).expect("memory");
        }
    }
    end.stream.write_all(sealed).expect("an open connection");
}
