//! `tests/data/http.jsonl` against the real daemon: odd and hostile requests, each with its exact
//! answer, however the bytes are cut on their way.
//!
//! One case a line: `id`, `group`, `request` (or `base64`), `status` of the first answer (0: the
//! end without one), `connection` (`stays` or `closes`). If need be: `then` (statuses of further
//! answers), `has` and `lacks` (texts of the answers), `close` (the WebSocket code), `end` (our side
//! ends after the request), `length` (bytes that `{PAD}` fills the request up to), `note`.
//! In a request `{HOST}`, `{PORT}`, `{SCHEME}`, `{LOUD}` (in capitals), `{OTHER}` (the scheme that the listener does not
//! have) and `{ETAG}` (of the page) are replaced, `{text*9}` is repeated, `{0xff}` is a byte.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support;
use crate::support::random;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use random::Random;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;
use support::daemon::Daemon;
use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Error, Message};
use voicelived::net::tls;

/// No answer may take longer: a head has 5 s, an ending connection 5 s more, and this machine may be busy.
const LIMIT: Duration = Duration::from_secs(30);

/// Connections at once.
const WORKERS: usize = 12;

/// The daemon takes 200 TLS handshakes in a second.
const HANDSHAKE_EVERY: Duration = Duration::from_millis(6);

/// Calls at once: those that have just ended may not be gone yet.
const CALLS: [(&str, &str); 2] =
    [("VOICELIVED_MAX_SESSIONS", "40"), ("VOICELIVED_MAX_SESSIONS_PER_ADDRESS", "40")];

/// A connection to a listener, plain or in TLS, whose reads end after [`LIMIT`].
trait Connection: Read + Write {
    fn end_output(&mut self) -> io::Result<()>;
}

impl Connection for TcpStream {
    fn end_output(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Connection for StreamOwned<ClientConnection, TcpStream> {
    fn end_output(&mut self) -> io::Result<()> {
        self.conn.send_close_notify();
        self.flush()?;
        self.sock.end_output()
    }
}

/// What the cases are run against.
struct Listener<'a> {
    address: SocketAddr,
    schemes: [&'a str; 2],
    connect: &'a (dyn Fn() -> Box<dyn Connection> + Sync),
    cuts: &'a [Cut],
}

/// How a request is cut into writes.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Whole,
    Bytes,
    Random,
}

#[test]
fn the_plain_port_answers_every_request_as_the_corpus_says() {
    let daemon = Daemon::demo(&CALLS);
    let address = daemon.address;
    let connect = || -> Box<dyn Connection> { Box::new(socket(address)) };
    let before = daemon.descriptors();
    let cuts = &[Cut::Whole, Cut::Bytes, Cut::Random];
    run(&Listener { address, schemes: ["http", "https"], connect: &connect, cuts });
    daemon.assert_nothing_left(before);
}

#[test]
fn the_tls_port_answers_every_request_as_the_corpus_says() {
    let folder = std::env::temp_dir().join(format!("voicelived-corpus-{}", std::process::id()));
    let mut settings = vec![
        ("VOICELIVED_TLS_LISTEN", "127.0.0.1:0"),
        ("VOICELIVED_STATE_DIR", folder.to_str().unwrap()),
    ];
    settings.extend(CALLS);
    let daemon = Daemon::demo(&settings);
    let address = daemon.secure_address();
    let root = std::fs::read(folder.join("ca.pem")).unwrap();
    let roots = tls::certificates(&root).unwrap();
    let config = tls::client_config(&roots).unwrap();
    let pace = Mutex::new(());
    let connect = || -> Box<dyn Connection> {
        let turn = pace.lock().expect("no panic holds it");
        std::thread::sleep(HANDSHAKE_EVERY);
        drop(turn);
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = ClientConnection::new(config.clone(), name).expect("a client");
        let mut socket = socket(address);
        client.complete_io(&mut socket).expect("a handshake");
        Box::new(StreamOwned::new(client, socket))
    };
    let before = daemon.descriptors();
    let cuts = &[Cut::Whole, Cut::Random];
    run(&Listener { address, schemes: ["https", "http"], connect: &connect, cuts });
    daemon.assert_nothing_left(before);
    std::fs::remove_dir_all(folder).unwrap();
}

fn socket(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("the daemon accepts");
    socket.set_read_timeout(Some(LIMIT)).expect("a socket");
    socket.set_nodelay(true).expect("a socket");
    socket
}

/// Runs all cases in all cuts and fails with all that went wrong.
fn run(listener: &Listener<'_>) {
    let cases = corpus();
    let etag = page_tag(listener);
    let mut work: Vec<_> =
        cases.iter().flat_map(|case| listener.cuts.iter().map(move |cut| (case, *cut))).collect();
    // Timeouts take longest, so they come first.
    work.sort_by_key(|(case, _)| !statuses(case).contains(&408));
    let failures = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    let worker = || {
        while let Some((case, cut)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(what) = check(case, *cut, listener, &etag) {
                let line = format!("{} ({cut:?}): {what}", case["id"]);
                failures.lock().expect("no panic holds it").push(line);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(worker);
        }
    });
    let failures = failures.into_inner().expect("no panic held it");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn corpus() -> Vec<Value> {
    let text = include_str!("data/http.jsonl");
    let cases: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let mut ids: Vec<&str> = cases.iter().map(|case| case["id"].as_str().expect("an id")).collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|two| two[0] != two[1]), "ids are unique");
    assert!(ids.len() >= 170, "{} cases", ids.len());
    cases
}

fn page_tag(listener: &Listener<'_>) -> String {
    let mut wire = Wire::new(listener);
    wire.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", listener.address).as_bytes());
    let (_, text) = wire.answer(false).expect("a page").expect("an answer");
    let (_, rest) = text.split_once("ETag: ").expect("a tag");
    rest.lines().next().expect("a line").to_owned()
}

fn check(case: &Value, cut: Cut, listener: &Listener<'_>, etag: &str) -> Result<(), String> {
    let request = request(case, listener, etag);
    let mut wire = Wire::new(listener);
    wire.send_cut(&request, cut);
    if case["end"] == true {
        // The daemon may have closed before.
        let _ = wire.connection.end_output();
    }
    let is_head = request.starts_with(b"HEAD ");
    let mut all = String::new();
    let mut status = 0;
    for (at, expected) in statuses(case).into_iter().enumerate() {
        let Some((found, text)) = wire.answer(is_head && at == 0)? else {
            return Err(format!("the end, not answer {at} ({expected})"));
        };
        if found != expected {
            return Err(format!("answer {at} is {found}, not {expected}"));
        }
        status = found;
        all.push_str(&text);
    }
    for (key, wanted) in [("has", true), ("lacks", false)] {
        for text in case[key].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if all.contains(&text.replace("{ETAG}", etag)) != wanted {
                return Err(format!("{key} {text:?} is wrong:\n{all}"));
            }
        }
    }
    match (case["connection"].as_str(), status) {
        (Some("stays"), 101) => wire.assert_open_call(),
        (Some("stays"), _) => wire.assert_open(listener.address),
        (Some("closes"), 101) => wire.assert_closes_call(case["close"].as_u64().unwrap_or(0)),
        (Some("closes"), _) => {
            let says = status != 0 && case["end"] != true;
            if says && !all.contains("\r\nConnection: close\r\n") {
                return Err(format!("does not say that it closes:\n{all}"));
            }
            wire.assert_closed()
        }
        (other, _) => Err(format!("connection: {other:?}")),
    }
}

fn statuses(case: &Value) -> Vec<u64> {
    let first = case["status"].as_u64().filter(|status| *status != 0);
    let more = case["then"].as_array().into_iter().flatten().filter_map(Value::as_u64);
    first.into_iter().chain(more).collect()
}

fn request(case: &Value, listener: &Listener<'_>, etag: &str) -> Vec<u8> {
    if let Some(text) = case["base64"].as_str() {
        return STANDARD.decode(text).expect("base64");
    }
    let text = case["request"].as_str().expect("a request");
    let (host, port) = (listener.address.to_string(), listener.address.port().to_string());
    let [scheme, other] = listener.schemes;
    let loud = scheme.to_uppercase();
    let with = |pad: &str| {
        let names = [
            ("HOST", host.as_str()),
            ("PORT", &port),
            ("SCHEME", scheme),
            ("LOUD", &loud),
            ("OTHER", other),
            ("ETAG", etag),
            ("PAD", pad),
        ];
        expand(text, &names)
    };
    let bytes = with("");
    let missing = case["length"].as_u64().map_or(0, |length| {
        usize::try_from(length).expect("it fits").checked_sub(bytes.len()).expect("a longer length")
    });
    if missing == 0 { bytes } else { with(&"p".repeat(missing)) }
}

fn expand(mut text: &str, names: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some((before, after)) = text.split_once('{') {
        let (word, rest) = after.split_once('}').expect("a closing brace");
        bytes.extend(before.bytes());
        if let Some((_, value)) = names.iter().find(|(name, _)| *name == word) {
            bytes.extend(value.bytes());
        } else if let Some(digits) = word.strip_prefix("0x") {
            bytes.push(u8::from_str_radix(digits, 16).expect("a byte"));
        } else {
            let (piece, count) = word.rsplit_once('*').expect("a known name or a repetition");
            bytes.extend(piece.repeat(count.parse().expect("a count")).bytes());
        }
        text = rest;
    }
    bytes.extend(text.bytes());
    bytes
}

/// A connection and what it has brought beyond the answers read so far.
struct Wire {
    connection: Box<dyn Connection>,
    input: Vec<u8>,
}

impl Wire {
    fn new(listener: &Listener<'_>) -> Self {
        Self { connection: (listener.connect)(), input: Vec::new() }
    }

    /// What the daemon does not take any more is its business.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.connection.write_all(bytes).and_then(|()| self.connection.flush());
    }

    fn send_cut(&mut self, bytes: &[u8], cut: Cut) {
        let mut random = Random::new(bytes.len() as u64);
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = match cut {
                Cut::Whole => rest.len(),
                Cut::Bytes => 1,
                Cut::Random => random.range(1, rest.len().min(40)),
            };
            self.send(&rest[..count]);
            rest = &rest[count..];
        }
    }

    /// Reads more; false at the end.
    fn fill(&mut self) -> Result<bool, String> {
        let mut chunk = [0; 4096];
        match self.connection.read(&mut chunk) {
            Ok(count) => {
                self.input.extend_from_slice(&chunk[..count]);
                Ok(count > 0)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err("it hangs".to_owned()),
            Err(error) => Err(format!("it broke: {error}")),
        }
    }

    /// Status and text of the next answer; `None` at the end.
    fn answer(&mut self, no_body: bool) -> Result<Option<(u64, String)>, String> {
        let end = loop {
            if let Some(at) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill()? {
                let nothing = self.input.is_empty();
                return if nothing { Ok(None) } else { Err("half an answer".to_owned()) };
            }
        };
        let head = String::from_utf8_lossy(&self.input[..end]).into_owned();
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status: u64 = status.ok_or_else(|| format!("no status: {head}"))?;
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = match length {
            Some(length) if !no_body => length.parse().map_err(|_| head.clone())?,
            Some(_) => 0,
            None if status == 101 || status == 304 => 0,
            None => return Err(format!("no length: {head}")),
        };
        while self.input.len() < end + length {
            if !self.fill()? {
                return Err("half a body".to_owned());
            }
        }
        let whole: Vec<u8> = self.input.drain(..end + length).collect();
        Ok(Some((status, String::from_utf8_lossy(&whole).into_owned())))
    }

    fn assert_open(mut self, host: SocketAddr) -> Result<(), String> {
        if !self.input.is_empty() {
            return Err(format!("more: {}", String::from_utf8_lossy(&self.input)));
        }
        self.send(format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        match self.answer(false)? {
            Some((200, text)) if text.ends_with("\r\n\r\nok") => Ok(()),
            other => Err(format!("it does not stay: {other:?}")),
        }
    }

    fn assert_closed(mut self) -> Result<(), String> {
        while self.fill()? {}
        let more = String::from_utf8_lossy(&self.input);
        if more.is_empty() { Ok(()) } else { Err(format!("more: {more}")) }
    }

    fn into_call(self) -> WebSocket<Box<dyn Connection>> {
        WebSocket::from_partially_read(self.connection, self.input, Role::Client, None)
    }

    fn assert_open_call(self) -> Result<(), String> {
        let mut call = self.into_call();
        let sent = call.send(Message::Ping("still there?".into()));
        sent.map_err(|error| format!("no ping: {error}"))?;
        loop {
            match call.read() {
                Ok(Message::Pong(text)) if text == "still there?" => return Ok(()),
                Ok(Message::Close(frame)) => return Err(format!("it closed: {frame:?}")),
                Ok(_) => {}
                Err(error) => return Err(format!("no pong: {error}")),
            }
        }
    }

    fn assert_closes_call(self, code: u64) -> Result<(), String> {
        let mut call = self.into_call();
        let mut closed = 0;
        loop {
            match call.read() {
                Ok(Message::Close(frame)) => {
                    closed = frame.map_or(1005, |frame| u16::from(frame.code).into());
                }
                Ok(_) => {}
                Err(Error::ConnectionClosed) if closed == code => return Ok(()),
                Err(error) => return Err(format!("code {closed}, not {code}; {error}")),
            }
        }
    }
}
