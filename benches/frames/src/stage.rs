//! An active call between two ends that we hold in our hands.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, ClientConfig, ServerConfig};
use voicelived::call::CallSettings;
use voicelived::call::service::session::{Dialect, SessionSettings, session_object};
use voicelived::net::dial::Target;
use voicelived::net::socket::Socket;
use voicelived::net::suites;
use voicelived::net::tls;
use voicelived::net::transport::Transport;
use voicelived::net::ws::{Role, WsPeer};
use voicelived::session::candidates::Candidate;
use voicelived::session::{CLIENT_SIZES, LoopResources, Progress, Queues, Session, TurnContext};
use voicelived::tools::Tools;

use crate::frame;
use crate::ground::{End, Event, Ground, InMemory, PATIENCE};
use crate::shape::{Direction, Message, Shape, check};
use crate::unavoidable::Side;

const CREATED: &str = r#"{"type":"session.created","event_id":"event_BGn1wOZ4Y3q7VQ0s","session":{"id":"sess_BGn1wPq0HcXtm5E2","model":"gpt-realtime-mini"}}"#;
const UPDATED: &str = r#"{"type":"session.updated","event_id":"event_BGn1wRf7jK2eWc9d","session":{"id":"sess_BGn1wPq0HcXtm5E2","model":"gpt-realtime-mini","turn_detection":{"type":"server_vad","auto_truncate":true}}}"#;
/// Of the response whose audio is relayed. Without it the first frame would open that response.
const RESPONSE: &str = r#"{"type":"response.created","event_id":"event_BGn1wTb3nP5uYh8k","response":{"id":"resp_BGn1xZyXwVuTsRqP","status":"in_progress"}}"#;

/// What the loop lends to a call.
struct Loop {
    resources: LoopResources,
    tools: Tools,
}

impl Loop {
    fn lend(&mut self) -> TurnContext<'_> {
        self.resources.lend(&self.tools, Instant::now())
    }
}

/// The call and its surroundings.
pub(crate) struct Stage<G: Ground> {
    session: Session<G::Near>,
    owner: Loop,
    ground: G,
    client: Side<G::Far>,
    service: Side<G::Far>,
    up: Message,
    down: Message,
    sealed: Vec<u8>,
    plain: Vec<u8>,
    wire: Vec<u8>,
}

impl<G: Ground> Stage<G> {
    /// Makes everything up to an active call.
    pub(crate) fn new(shape: Shape) -> Self {
        let (server, trusting) = tls_configs();
        let mut ground = G::new();
        let address = ground.address();
        let mut owner = Loop { resources: LoopResources::new(1_000), tools: Tools::builtin() };
        let (far, near) = ground.client();
        let (transport, client_tls) = if shape.client_tls {
            let connection = tls::client(&trusting, "127.0.0.1").expect("a name");
            (Transport::tls(near, tls::server(&server).expect("a config")), Some(connection))
        } else {
            (Transport::plain(near), None)
        };
        let mut session = new_session(transport, target(address, shape, &trusting), &mut owner);
        let socket = session.client_socket().expect("it is there");
        ground.watch(End::Client, socket);
        session.dial(&[address], Instant::now());
        session.pump(&mut owner.lend());
        let socket = session.service_socket().expect("it has begun to connect");
        ground.watch(End::Service, socket);
        let service = ground.accept();
        let service_tls = shape.service_tls.then(|| tls::server(&server).expect("a config"));
        let mut stage = Self {
            session,
            owner,
            ground,
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
        self.event(RESPONSE);
        self.finish_client();
    }

    /// The client's end hears `hello`, the states and the begin of the response, and is silent after them.
    fn finish_client(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        G::set_nonblocking(&self.client.stream, true);
        loop {
            drive(&mut self.client, &mut self.wire, &mut self.plain, &mut self.sealed);
            self.turn();
            if self.plain.windows(18).any(|text| text == b"\"response_started\"") {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "the call does not become active, or no response begins"
            );
        }
        self.plain.clear();
        G::set_nonblocking(&self.client.stream, false);
    }

    fn until(&mut self, what: &str, complete: impl Fn(&[u8]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        G::set_nonblocking(&self.service.stream, true);
        G::set_nonblocking(&self.client.stream, true);
        let mut heard = Vec::new();
        while !complete(&self.plain) {
            assert!(Instant::now() < deadline, "{what} does not come");
            drive(&mut self.service, &mut self.wire, &mut self.plain, &mut self.sealed);
            // A TLS client has to answer for its handshake.
            drive(&mut self.client, &mut self.wire, &mut heard, &mut self.sealed);
            self.turn();
        }
        G::set_nonblocking(&self.service.stream, false);
        G::set_nonblocking(&self.client.stream, false);
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
    fn turn(&mut self) {
        let events = self.ground.poll(Duration::from_millis(5));
        self.mark(&events);
        self.relay_aside();
    }

    fn mark(&mut self, events: &[Event]) {
        for Event { end, readable, writable, ending } in events {
            match end {
                End::Client => self.session.mark_client(*readable, *writable, *ending),
                End::Service => self.session.mark_service(*readable, *writable, *ending),
            }
        }
    }

    /// The next frame lies in the session's socket, and the session knows.
    pub(crate) fn prepare(&mut self, direction: Direction) {
        let (far, message, end) = match direction {
            Direction::Up => (&mut self.client, &self.up, End::Client),
            Direction::Down => (&mut self.service, &self.down, End::Service),
        };
        far.send(&message.wire, &mut self.sealed).expect("an open connection");
        let events = self.ground.arrival(end);
        self.mark(&events);
    }

    /// The measured part.
    pub(crate) fn relay(&mut self) {
        measured(&mut self.session, &mut self.owner.lend());
    }

    /// The same, not measured.
    pub(crate) fn relay_aside(&mut self) {
        let mut cx = self.owner.lend();
        while self.session.pump(&mut cx) == Progress::More {}
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
    let mut provider = CryptoProvider::clone(&suites::provider());
    if std::env::var_os("AES_ONLY").is_some() {
        let aes = CipherSuite::TLS13_AES_128_GCM_SHA256;
        provider.cipher_suites.retain(|suite| suite.suite() == aes);
    }
    let chain = tls::certificates(made.cert.pem().as_bytes()).expect("PEM");
    // As services are: rustls leaves the suite to its client, unless it is told otherwise.
    let mut server = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("suites")
        .with_no_client_auth()
        .with_single_cert(chain, tls::private_key(key.as_bytes()).expect("a key"))
        .expect("a pair");
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    let client = tls::client_config(&[made.cert.der().clone()]).expect("an anchor");
    (Arc::new(server), client)
}

impl Stage<InMemory> {
    /// [`Stage::relay`], for callgrind.
    pub(crate) fn relay_counted(&mut self) {
        frames_measured(&mut self.session, &mut self.owner.lend());
    }
}

/// What callgrind counts, under a name that the linker keeps in a stripped program (`build.rs`).
#[inline(never)]
#[unsafe(no_mangle)]
#[allow(unsafe_code, reason = "no other function has this name")]
fn frames_measured(session: &mut Session<<InMemory as Ground>::Near>, cx: &mut TurnContext<'_>) {
    measured(session, cx);
}

/// What the clock measures.
#[inline(never)]
fn measured<S: Socket>(session: &mut Session<S>, cx: &mut TurnContext<'_>) {
    while session.pump(cx) == Progress::More {}
}

fn new_session<S: Socket>(transport: Transport<S>, target: Target, owner: &mut Loop) -> Session<S> {
    let peer = WsPeer::new(transport, Role::Server, CLIENT_SIZES, &[]);
    let queues = Queues::open(&mut owner.resources.pool).expect("the pool is new");
    let settings = CallSettings {
        assistant: String::new(),
        chosen: None,
        session: session_object(&SessionSettings {
            model: "gpt-realtime-mini".to_owned(),
            expected: Dialect::Beta,
            voice: "en-US-AvaNeural".to_owned(),
            instructions: None,
            language: None,
            tools: serde_json::Value::Null,
            overrides: serde_json::Map::new(),
        }),
        greeting: None,
        idle: Duration::from_secs(3_600),
        max_duration: Duration::from_secs(3_600),
        reconnect: Duration::from_secs(60),
        continue_reply: false,
        reversible_barge_in: false,
        session_time: Duration::from_secs(1_500),
        resume: Duration::from_secs(30),
    };
    let candidate = Candidate::only(settings, target);
    Session::new("bench".to_owned(), "resume", peer, queues, candidate, &mut owner.lend())
}

fn target(address: SocketAddr, shape: Shape, trusting: &Arc<ClientConfig>) -> Target {
    Target {
        host: "127.0.0.1".to_owned(),
        port: address.port(),
        request_target: "/voice-live/realtime?api-version=2026-07-15&model=m".to_owned(),
        host_field: address.to_string(),
        credential: "api-key: bench".to_owned(),
        tls: shape.service_tls.then(|| Arc::clone(trusting)),
        proxy: None,
    }
}

/// Moves what there is to move on one end, without waiting.
fn drive<S: Read + Write>(
    end: &mut Side<S>,
    wire: &mut [u8],
    plain: &mut Vec<u8>,
    sealed: &mut Vec<u8>,
) {
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
