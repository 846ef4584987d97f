//! Reply audio in every spelling, through a real `Session` whose connections are in memory: what is audio
//! reaches the client to the last byte, and what is none ends the call before a byte of it was played.

#[path = "support/kernel.rs"]
#[allow(dead_code, reason = "each test file uses its own part")]
mod kernel;
#[path = "support/random.rs"]
#[allow(dead_code, reason = "each test file uses its own part")]
mod random;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kernel::Socket;
use voicelived::call::CallSettings;
use voicelived::call::pcm::PcmPool;
use voicelived::metrics::Metrics;
use voicelived::net::dial::Target;
use voicelived::net::inbox::Inbox;
use voicelived::net::transport::Transport;
use voicelived::net::upgrade;
use voicelived::net::ws::{Incoming, Role, Sizes, WsPeer};
use voicelived::session::ways::Way;
use voicelived::session::{Buffers, CLIENT_SIZES, Desk, Progress, Queues, Session};
use voicelived::tools::Tools;

const SIZES: Sizes = Sizes { message: 1 << 20, waiting: 1 << 20 };
const HEAD: &str = r#""type":"response.audio.delta","response_id":"r","item_id":"i""#;

/// A call and its two ends.
struct Scene {
    session: Session<Socket>,
    client: WsPeer<Socket>,
    service: Socket,
    pool: PcmPool,
    buffers: Buffers,
    metrics: Metrics,
    tools: Tools,
    wanted: Vec<voicelived::session::WantedTool>,
    /// What the client has heard and been told.
    audio: Vec<u8>,
    texts: String,
}

impl Scene {
    /// An active call.
    fn new() -> Self {
        let (far, near) = kernel::pair(usize::MAX);
        let peer = WsPeer::new(Transport::plain(near), Role::Server, CLIENT_SIZES, &[]);
        let mut pool = PcmPool::new(1_000);
        let (mut buffers, mut metrics) = (Buffers::default(), Metrics::new());
        let (tools, mut wanted) = (Tools::builtin("/bin/false".as_ref()), Vec::new());
        let queues = Queues::open(&mut pool).expect("the pool is new");
        let settings = CallSettings {
            session: serde_json::json!({}),
            greeting: None,
            idle: Duration::from_secs(60),
            max_duration: Duration::from_secs(60),
        };
        let target = Target {
            host: "service".to_owned(),
            port: 443,
            request_target: "/".to_owned(),
            host_field: "service".to_owned(),
            credential: String::new(),
            tls: None,
        };
        let way = Way::only(settings, target);
        let mut desk = Desk {
            pool: &mut pool,
            buffers: &mut buffers,
            tools: &tools,
            wanted: &mut wanted,
            metrics: &mut metrics,
            now: Instant::now(),
        };
        let mut session =
            Session::<Socket>::new("call".to_owned(), "resume", peer, queues, way, &mut desk);
        session.dial(&[([127, 0, 0, 1], 443).into()], Instant::now());
        session.pump(&mut desk);
        let mut service = kernel::called().expect("it has connected");
        session.pump(&mut desk);
        if let Some(socket) = session.service_socket() {
            socket.carry(usize::MAX);
        }
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            upgrade::accept_key(&key_of(&mut service)),
        );
        service.write_all(answer.as_bytes()).expect("memory");
        let client = WsPeer::new(Transport::plain(far), Role::Client, SIZES, &[]);
        let (audio, texts) = (Vec::new(), String::new());
        let mut scene =
            Self { session, client, service, pool, buffers, metrics, tools, wanted, audio, texts };
        scene.say(br#"{"type":"session.created","session":{"id":"s"}}"#);
        scene.say(br#"{"type":"session.updated","session":{"id":"s"}}"#);
        assert!(scene.texts.contains(r#""active""#), "{}", scene.texts);
        scene
    }

    /// The service sends a text message of these bytes, and everybody does what is to do.
    fn say(&mut self, text: &[u8]) {
        self.send(0x81, text);
    }

    fn send(&mut self, first: u8, payload: &[u8]) {
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
        self.service.write_all(&frame).expect("memory");
        self.turn();
    }

    fn turn(&mut self) {
        self.service.carry(usize::MAX);
        self.session.mark_service(true, true, false);
        self.session.mark_client(true, true, false);
        let mut desk = Desk {
            pool: &mut self.pool,
            buffers: &mut self.buffers,
            tools: &self.tools,
            wanted: &mut self.wanted,
            metrics: &mut self.metrics,
            now: Instant::now(),
        };
        while self.session.pump(&mut desk) == Progress::More {}
        self.session.client_socket().carry(usize::MAX);
        self.client.mark_readable(false);
        self.client.transport_mut().begin_turn();
        let mut inbox = Inbox::new();
        while let Ok(Some(message)) = self.client.read(&mut inbox) {
            match message {
                Incoming::Binary(pcm) => self.audio.extend_from_slice(pcm),
                Incoming::Text(text) => self.texts.push_str(text),
                Incoming::Control => {}
                Incoming::Close { code, .. } => self.texts.push_str(&format!("closed {code:?}")),
            }
        }
        self.client.keep(&mut inbox);
    }

    /// Nothing more came to the client than an end that says this.
    fn assert_ended(&self, what: &str, words: &str) {
        assert!(self.audio.is_empty(), "{what}: {} bytes were played", self.audio.len());
        assert!(self.texts.contains(words), "{what}: {}", self.texts);
        assert!(self.texts.contains("closed Some(1011)"), "{what}: {}", self.texts);
    }
}

/// `Sec-WebSocket-Key` of the request that waits here.
fn key_of(service: &mut Socket) -> String {
    let mut request = vec![0; 4096];
    let count = service.read(&mut request).expect("a request");
    let request = String::from_utf8_lossy(&request[..count]).into_owned();
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    key.expect("a key").to_owned()
}

fn pcm(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 % 251).to_le_bytes()[0]).collect()
}

fn event(base64: &str) -> String {
    format!(r#"{{{HEAD},"delta":"{base64}"}}"#)
}

#[test]
fn every_spelling_of_audio_is_played() {
    // Its base64 has slashes, at which an escape may stand; the longest takes several frames.
    for sound in [pcm(2), pcm(960), vec![0xff; 960], pcm(12_480), pcm(48_000)] {
        let base64 = STANDARD.encode(&sound);
        for text in [
            event(&base64),
            event(&base64.replace('/', r"\/")),
            event(&base64.replacen('A', r"\u0041", 1)),
            format!(r#"{{{HEAD},"delta":"{base64}","output_index":0,"x":"y"}}"#),
            format!(r#"{{"delta":"{base64}",{HEAD}}}"#),
            format!(" {{ {HEAD} , \"delta\" : \"{base64}\" }} \n"),
            format!(r#"{{"event_id":"ä",{HEAD},"delta":"{base64}"}}"#),
            format!(r#"{{{HEAD},"more":{{"delta":"AAAA"}},"delta":"{base64}"}}"#),
            event(&base64).replace("response.audio.delta", "response.output_audio.delta"),
        ] {
            for first in [0x81, 0x82] {
                let mut scene = Scene::new();
                scene.send(first, text.as_bytes());
                scene.send(first, text.as_bytes());
                assert!(scene.audio == sound.repeat(2), "{:.200}: {}", text, scene.texts);
            }
        }
    }
}

#[test]
fn what_is_no_audio_ends_the_call_and_is_not_played() {
    let base64 = STANDARD.encode(pcm(48_000));
    let bad = |what: &[u8]| {
        let start = event("");
        let start = start.trim_end_matches("\"}").as_bytes();
        [start, base64.as_bytes(), what, b"\"}"].concat()
    };
    let utf8 = "not UTF-8";
    for (text, words) in [
        (bad(b"\xff\xff\xff\xff"), utf8),
        ([b"{\"x\":\"\xff\",", &event("AAAA").as_bytes()[1..]].concat(), utf8),
        (bad("ä".as_bytes()), "not base64"),
        (bad(b"!!!!"), "not base64"),
        (bad(b"AAA"), "not base64"),
        (bad(b"AA=="), "samples"),
        (bad(b"AAA=AAAA"), "not base64"),
        (bad(b"AA\nA"), "not JSON"),
        (bad(b"AA\"A"), "not JSON"),
        (event("AA==").into_bytes(), "samples"),
    ] {
        let mut scene = Scene::new();
        scene.say(&text);
        scene.assert_ended(&String::from_utf8_lossy(&text[text.len() - 20..]), words);
    }
}
