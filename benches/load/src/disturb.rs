//! Trouble for a relay, made by a process of its own that runs behind everything else on the load's
//! core: the load has the core at once whenever it has something to do, so it is the relay's
//! fairness that is measured. It never sleeps, so that the core is awake with every trouble and
//! with none. It ends by itself, and prints what it did as a line of JSON.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use crate::caller::FRAME;
use crate::service::{CREATED, DELTA_HEAD, DELTA_TAIL, UPDATED};
use crate::{certificates, frame};

/// Bytes of PCM in the 60 s of reply that come at once, and in each of its deltas (260 ms, as the
/// service sends them).
const REPLY: usize = 60 * 48_000;
const DELTA: usize = 12_480;

/// A slow reader takes a tenth of real time.
const SIP: usize = FRAME / 10;
const PERIOD: Duration = Duration::from_millis(20);

/// Calls that flood, and the pings that each sends ten times a second: below the 200 messages a
/// second that a client is allowed.
const FLOODERS: usize = 8;
const PINGS: usize = 19;

/// Pings at once of one who sends too many.
const TOO_MANY: usize = 1_000;

/// Frames of one sample in a write of who floods with audio.
const SAMPLES: usize = 1_024;

/// So short that a step of a few seconds has several changes of the session.
const SESSION: Duration = Duration::from_secs(4);

/// Clients that open TLS connections one after the other.
const KNOCKERS: usize = 8;

/// What happens beside the quiet calls.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing.
    Alone,
    /// The service brings another call a minute of reply at once, and again when it was taken.
    Burst,
    /// As many, but that call's client reads a tenth of real time.
    SlowReader,
    /// Calls with as many small messages as are allowed.
    Flood,
    /// Calls with more than that, begun again as soon as they are ended for it.
    Abuse,
    /// A call with audio of one sample a frame, as fast as it is taken.
    Crumbs,
    /// TLS handshakes without end at the HTTPS port.
    Handshakes,
    /// A call whose service ends each session after [`SESSION`].
    Rollover,
}

/// All kinds by their names.
pub(crate) const KINDS: [(&str, Kind); 8] = [
    ("alone", Kind::Alone),
    ("burst", Kind::Burst),
    ("slow-reader", Kind::SlowReader),
    ("flood", Kind::Flood),
    ("abuse", Kind::Abuse),
    ("crumbs", Kind::Crumbs),
    ("handshakes", Kind::Handshakes),
    ("rollover", Kind::Rollover),
];

/// What was done: bursts taken, bytes read slowly, messages, calls thrown out, handshakes, or sessions.
static DONE: AtomicU64 = AtomicU64::new(0);
/// Bytes of audio that the burst's client has.
static HEARD: AtomicU64 = AtomicU64::new(0);
/// What went wrong, and would have been done otherwise.
static FAILED: AtomicU64 = AtomicU64::new(0);

/// The arguments of the process.
#[derive(Clone)]
pub(crate) struct Orders {
    pub(crate) kind: Kind,
    pub(crate) relay: SocketAddr,
    pub(crate) secure: Option<SocketAddr>,
    /// Where the relay looks for its service.
    pub(crate) service: SocketAddr,
    pub(crate) folder: PathBuf,
    pub(crate) time: Duration,
}

impl Orders {
    /// As words, for [`read`](Self::read).
    pub(crate) fn words(&self) -> Vec<String> {
        let name = KINDS.iter().find(|kind| kind.1 == self.kind).map_or("alone", |kind| kind.0);
        let secure = self.secure.map_or("-".to_owned(), |address| address.to_string());
        vec![
            name.to_owned(),
            self.relay.to_string(),
            secure,
            self.service.to_string(),
            self.folder.to_string_lossy().into_owned(),
            self.time.as_secs_f64().to_string(),
        ]
    }

    pub(crate) fn read(words: &[String]) -> Option<Self> {
        let [name, relay, secure, service, folder, time] = words else { return None };
        Some(Self {
            kind: KINDS.iter().find(|kind| kind.0 == name)?.1,
            relay: relay.parse().ok()?,
            secure: secure.parse().ok(),
            service: service.parse().ok()?,
            folder: folder.into(),
            time: Duration::from_secs_f64(time.parse().ok()?),
        })
    }
}

/// Makes trouble for as long as ordered, and tells how much it was.
pub(crate) fn run(orders: &Orders) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    if orders.kind != Kind::Alone && orders.kind != Kind::Handshakes {
        let listener = TcpListener::bind(orders.service)?;
        let (tls, kind) = (certificates::server(&orders.folder)?, orders.kind);
        thread::spawn(move || stand_in(&listener, &tls, kind));
    }
    let clients = match orders.kind {
        Kind::Alone => 0,
        Kind::Flood => FLOODERS,
        Kind::Handshakes => KNOCKERS,
        Kind::Burst | Kind::SlowReader | Kind::Abuse | Kind::Crumbs | Kind::Rollover => 1,
    };
    for _ in 0..clients {
        let orders = orders.clone();
        thread::spawn(move || client(&orders, start + orders.time));
    }
    while start.elapsed() < orders.time {
        thread::yield_now();
    }
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let seconds = start.elapsed().as_secs_f64();
    println!("{}", json!({"done": of(&DONE), "failed": of(&FAILED), "seconds": seconds}));
    Ok(())
}

/// One client, begun again when it ends.
fn client(orders: &Orders, end: Instant) {
    let knock = certificates::client(&orders.folder);
    while Instant::now() < end {
        let done = match (orders.kind, orders.secure, &knock) {
            (Kind::Burst, ..) => take_all(orders.relay),
            (Kind::SlowReader, ..) => sip(orders.relay),
            (Kind::Flood, ..) => flood(orders.relay),
            (Kind::Abuse, ..) => abuse(orders.relay),
            (Kind::Crumbs, ..) => crumble(orders.relay),
            (Kind::Rollover, ..) => talk_on(orders.relay),
            (Kind::Handshakes, Some(secure), Ok(config)) => handshake(secure, config),
            _ => return,
        };
        if done.is_err() {
            FAILED.fetch_add(1, Ordering::Relaxed);
            thread::sleep(PERIOD);
        }
    }
}

fn done(count: usize) {
    DONE.fetch_add(count as u64, Ordering::Relaxed);
}

/// Upgraded, and not yet read from.
fn dial(relay: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let mut socket = TcpStream::connect(relay)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.write_all(frame::request(&relay.to_string(), "/ws", "").as_bytes())?;
    let mut socket = BufReader::with_capacity(64 * 1024, socket);
    let head = read_head(&mut socket)?;
    if !head.starts_with("HTTP/1.1 101") {
        return Err(io::Error::other(head));
    }
    Ok(socket)
}

fn take_all(relay: SocketAddr) -> io::Result<()> {
    let mut socket = dial(relay)?;
    let mut heard = 0;
    loop {
        let (opcode, payload) = read_message(&mut socket)?;
        if opcode == frame::BINARY {
            heard += payload.len();
            HEARD.store(heard as u64, Ordering::Relaxed);
            DONE.store((heard / REPLY) as u64, Ordering::Relaxed);
        }
    }
}

fn sip(relay: SocketAddr) -> io::Result<()> {
    let mut socket = dial(relay)?.into_inner();
    let mut buffer = [0; SIP];
    loop {
        socket.read_exact(&mut buffer)?;
        done(SIP);
        thread::sleep(PERIOD);
    }
}

fn flood(relay: SocketAddr) -> io::Result<()> {
    let mut socket = dial(relay)?;
    let pings = many(PINGS, frame::PING, &[]);
    loop {
        socket.get_mut().write_all(&pings)?;
        done(PINGS);
        thread::sleep(Duration::from_millis(100));
        // The answers: a pong each.
        for _ in 0..PINGS {
            read_message(&mut socket)?;
        }
    }
}

fn abuse(relay: SocketAddr) -> io::Result<()> {
    let mut socket = dial(relay)?;
    // The relay may end the call within the write.
    let _ = socket.get_mut().write_all(&many(TOO_MANY, frame::PING, &[]));
    while read_message(&mut socket).is_ok_and(|(opcode, _)| opcode != frame::CLOSE) {}
    done(1);
    Ok(())
}

fn crumble(relay: SocketAddr) -> io::Result<()> {
    let mut socket = dial(relay)?;
    let crumbs = many(SAMPLES, frame::BINARY, &[1, 0]);
    loop {
        socket.get_mut().write_all(&crumbs)?;
        done(SAMPLES);
    }
}

/// A call in real time. It ends when the relay ends it.
fn talk_on(relay: SocketAddr) -> io::Result<()> {
    let mut socket = dial(relay)?;
    let sound = many(1, frame::BINARY, &[0; FRAME]);
    loop {
        socket.get_mut().write_all(&sound)?;
        thread::sleep(PERIOD);
    }
}

fn handshake(secure: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<()> {
    let mut socket = TcpStream::connect(secure)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let name = ServerName::from(secure.ip());
    let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut socket)?;
    }
    done(1);
    Ok(())
}

/// Frames for one write.
fn many(count: usize, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..count {
        frame::head(&mut out, opcode, payload.len(), Some(frame::MASK));
        let start = out.len();
        out.extend_from_slice(payload);
        frame::mask(&mut out[start..], frame::MASK);
    }
    out
}

// ---- the service of the calls that make trouble ----

fn stand_in(listener: &TcpListener, tls: &Arc<ServerConfig>, kind: Kind) {
    while let Ok((socket, _)) = listener.accept() {
        let tls = Arc::clone(tls);
        // A relay that goes away is no fault.
        thread::spawn(move || drop(serve(socket, tls, kind)));
    }
}

fn serve(socket: TcpStream, tls: Arc<ServerConfig>, kind: Kind) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let tls = ServerConnection::new(tls).map_err(io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(tls, socket));
    let head = read_head(&mut stream)?;
    let answer = frame::upgrade(&head).ok_or_else(|| io::Error::other("no upgrade"))?;
    stream.get_mut().write_all(answer.as_bytes())?;
    if kind == Kind::Rollover {
        let ends =
            (SystemTime::now() + SESSION).duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        let session =
            json!({"id": "sess", "model": "gpt-realtime-mini", "expires_at": ends.as_secs()});
        let created = json!({"type": "session.created", "session": session}).to_string();
        stream.get_mut().write_all(&message(&[created.as_bytes()]))?;
        done(1);
    } else {
        stream.get_mut().write_all(&message(&[CREATED.as_bytes()]))?;
    }
    loop {
        let (opcode, payload) = read_message(&mut stream)?;
        if opcode == frame::CLOSE {
            return Ok(());
        }
        if memchr::memmem::find(&payload, b"\"session.update\"").is_some() {
            stream.get_mut().write_all(&message(&[UPDATED.as_bytes()]))?;
            if kind == Kind::Burst || kind == Kind::SlowReader {
                return burst(stream.get_mut());
            }
        }
    }
}

/// A minute of reply at once, again and again: the next once the client has the last.
fn burst(stream: &mut impl Write) -> io::Result<()> {
    let audio = STANDARD.encode([0x5a; DELTA]);
    let delta = message(&[DELTA_HEAD.as_bytes(), audio.as_bytes(), DELTA_TAIL.as_bytes()]);
    let mut sent = 0;
    loop {
        let goal = sent + REPLY as u64;
        while sent < goal {
            stream.write_all(&delta)?;
            sent += DELTA as u64;
        }
        while HEARD.load(Ordering::Relaxed) < sent {
            thread::yield_now();
        }
    }
}

/// One unmasked text message.
fn message(parts: &[&[u8]]) -> Vec<u8> {
    let mut message = Vec::new();
    frame::head(&mut message, frame::TEXT, parts.iter().map(|part| part.len()).sum(), None);
    parts.iter().for_each(|part| message.extend_from_slice(part));
    message
}

fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    while frame::head_end(&head).is_none() {
        if head.len() > 16 * 1024 {
            return Err(ErrorKind::InvalidData.into());
        }
        head.push(read_byte(stream)?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn read_message(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut start = vec![read_byte(stream)?, read_byte(stream)?];
    let head = loop {
        match frame::Head::parse(&start) {
            Some(head) => break head,
            None => start.push(read_byte(stream)?),
        }
    };
    let mut payload = vec![0; head.payload];
    stream.read_exact(&mut payload)?;
    frame::mask(&mut payload, head.mask.unwrap_or_default());
    Ok((head.opcode, payload))
}

fn read_byte(stream: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// A process with such orders.
pub(crate) fn spawn(
    orders: &Orders,
    core: usize,
    policy: [&str; 2],
) -> io::Result<std::process::Child> {
    let program: &Path = &std::env::current_exe()?;
    let mut command = std::process::Command::new("taskset");
    command.args(["-c", &core.to_string(), "chrt"]).args(policy).arg(program).arg("__disturb");
    command.args(orders.words()).stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).spawn()
}
