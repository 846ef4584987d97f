//! What a relayed audio frame allocates: nothing of ours, and what rustls takes is pinned.
//!
//! A minute of audio goes both ways through the whole program, TLS on both sides, one frame at a
//! time and faster than real time, and every byte is compared. The program runs in a process of its
//! own under an allocator that counts, and finds out for each allocation who asked for it: the first
//! file on the stack that is neither Rust's own nor this one.
//!
//! This file has its own `main`: started by itself with arguments of `voicelived`, it is the program.
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]
#![allow(clippy::unwrap_used, reason = "it is a test, if without the harness")]

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/standin.rs"]
mod standin;

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::{ClientConnection, StreamOwned};
use standin::{Served, StandIn, read_head};
use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocket};

/// Bytes of 20 ms of PCM.
const FRAME: usize = 960;
/// Frames in a minute: as many as are whole deltas.
const MINUTE: usize = 3003;
/// Frames in one of the service's usual deltas (260 ms).
const DELTA: usize = 13;
/// Where the counted process finds this one.
const CONTROL: &str = "TEST_CONTROL";

// ---- the counted program ----

#[global_allocator]
static COUNTING: Counting = Counting;

/// Counts while [`COUNTED`] is set for the thread.
struct Counting;

thread_local! {
    /// The thread is the relay's, and is not itself counting.
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

/// The number of allocations by the code that asked for them.
static FOUND: Mutex<Option<BTreeMap<String, u64>>> = Mutex::new(None);

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}

fn count() {
    let Ok(true) = COUNTED.try_with(Cell::get) else { return };
    COUNTED.set(false);
    if let Some(found) = &mut *FOUND.lock().unwrap() {
        *found.entry(asker(&Backtrace::force_capture().to_string())).or_default() += 1;
    }
    COUNTED.set(true);
}

/// `crate file:line` of the innermost frame that is not the standard library's.
fn asker(stack: &str) -> String {
    let places = stack.lines().filter_map(|line| line.trim().strip_prefix("at "));
    let mut others = places.filter(|at| !at.contains("/rustc/") && !at.contains("allocations.rs"));
    let Some(at) = others.next() else { return "unknown".to_owned() };
    let at = at.rsplit_once(':').map_or(at, |(place, _column)| place);
    match at.split_once("/registry/src/") {
        Some((_, library)) => library.split_once('/').map_or(library, |(_, path)| path).to_owned(),
        None => format!("voicelived {}", at.trim_start_matches("./")),
    }
}

/// Answers what the other process asks: `begin`, `tell`.
fn obey(control: TcpStream) {
    let mut out = control.try_clone().unwrap();
    for line in BufReader::new(control).lines().map_while(Result::ok) {
        let mut found = FOUND.lock().unwrap();
        let told = found.replace(BTreeMap::new()).unwrap_or_default();
        let told: String = told.iter().map(|(who, count)| format!("{count} {who}\n")).collect();
        let told = if line == "begin" { String::new() } else { told };
        out.write_all(format!("{told}.\n").as_bytes()).unwrap();
    }
}

fn main() -> ExitCode {
    if let Some(address) = std::env::var_os(CONTROL) {
        let control = TcpStream::connect(address.to_str().unwrap()).unwrap();
        std::thread::spawn(|| obey(control));
        COUNTED.set(true);
        return voicelived::cli::main();
    }
    let names = std::env::args().skip(1);
    if names.filter(|name| !name.starts_with('-')).any(|name| !"allocations".contains(&name)) {
        return ExitCode::SUCCESS;
    }
    a_minute_both_ways();
    println!("test a_minute_both_ways ... ok");
    ExitCode::SUCCESS
}

// ---- the test ----

/// The counted process.
struct Relay {
    process: Child,
    control: BufReader<TcpStream>,
    address: SocketAddr,
}

impl Relay {
    fn start(service: SocketAddr, folder: &std::path::Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let file = |name: &str| folder.join(name).into_os_string();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["run", "--listen", "off"])
            .env_clear()
            .env(CONTROL, listener.local_addr().unwrap().to_string())
            .env("AZURE_VOICE_LIVE_ENDPOINT", format!("https://{service}"))
            .env("AZURE_VOICE_LIVE_API_KEY", "k")
            .env("VOICELIVED_UPSTREAM_CA_FILE", file("cert.pem"))
            .env("VOICELIVED_TLS_LISTEN", "127.0.0.1:0")
            .env("VOICELIVED_TLS_CERT", file("cert.pem"))
            .env("VOICELIVED_TLS_KEY", file("key.pem"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (control, _) = listener.accept().unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let mut log = log.lines().map_while(Result::ok);
        let address = log.find_map(|line| line.split("https://").nth(1)?.trim().parse().ok());
        std::thread::spawn(move || log.for_each(|line| eprintln!("{line}")));
        let control = BufReader::new(control);
        Self { process, control, address: address.expect("it listens") }
    }

    fn ask(&mut self, what: &str) -> BTreeMap<String, u64> {
        self.control.get_mut().write_all(format!("{what}\n").as_bytes()).unwrap();
        let mut found = BTreeMap::new();
        loop {
            let mut line = String::new();
            self.control.read_line(&mut line).unwrap();
            match line.trim_end().split_once(' ') {
                Some((count, who)) => found.insert(who.to_owned(), count.parse().unwrap()),
                None => return found,
            };
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Caller(WebSocket<StreamOwned<ClientConnection, TcpStream>>);

impl Caller {
    fn connect(address: SocketAddr, certificate: &str) -> Self {
        let roots = voicelived::net::tls::certificates(certificate.as_bytes()).unwrap();
        let config = voicelived::net::tls::client_config(&roots).unwrap();
        let tls = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.set_nodelay(true).unwrap();
        let mut stream = StreamOwned::new(tls, socket);
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self(WebSocket::from_raw_socket(stream, Role::Client, None))
    }

    /// Reads this much audio; text in between is the relay's talk.
    fn hear(&mut self, bytes: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        while heard.len() < bytes {
            match self.0.read().expect("the relay goes on") {
                Message::Binary(data) => heard.extend_from_slice(&data),
                Message::Text(_) | Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
        heard
    }

    fn wait_until_active(&mut self) {
        while !matches!(self.0.read().unwrap(), Message::Text(text) if text.contains("active")) {}
    }
}

fn frame(at: usize) -> Vec<u8> {
    (0..FRAME).map(|byte| (at * 7 + byte * 31).to_le_bytes()[0]).collect()
}

/// A minute of speech, and the same back in deltas of so many frames.
fn talk(caller: &mut Caller, service: &mut Served, frames_in_delta: usize, frames: usize) {
    let mut said = Vec::new();
    for at in 0..frames {
        let pcm = frame(at);
        caller.0.send(Message::binary(pcm.clone())).expect("the relay reads");
        assert!(service.hear_audio() == STANDARD.encode(&pcm), "frame {at} is different");
        said.extend(pcm);
        if said.len() == frames_in_delta * FRAME {
            service.say_audio(&STANDARD.encode(&said));
            assert!(caller.hear(said.len()) == said, "the reply at frame {at} is different");
            said.clear();
        }
    }
}

fn a_minute_both_ways() {
    let (certificate, key) = certificates::localhost();
    let folder = std::env::temp_dir().join(format!("voicelived-alloc-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("cert.pem"), &certificate).unwrap();
    std::fs::write(folder.join("key.pem"), &key).unwrap();
    let stand_in = StandIn::new(&certificate, &key);
    let mut relay = Relay::start(stand_in.address(), &folder);
    let mut caller = Caller::connect(relay.address, &certificate);
    let mut service = stand_in.accept();
    caller.wait_until_active();

    for frames_in_delta in [1, DELTA] {
        // Buffers find their size.
        talk(&mut caller, &mut service, frames_in_delta, DELTA * 10);
        relay.ask("begin");
        talk(&mut caller, &mut service, frames_in_delta, MINUTE);
        check(&relay.ask("tell"), frames_in_delta);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Ours is nothing. rustls takes a block for each record that it opens and for each that it seals;
/// and one and a few more to put a record together that is longer than the 4 KiB it reads at once.
fn check(found: &BTreeMap<String, u64>, frames_in_delta: usize) {
    let deltas = MINUTE / frames_in_delta;
    println!("a minute each way, deltas of {frames_in_delta} frames:");
    found.iter().for_each(|(who, count)| println!("  {count:6} {who}"));
    // The service's usual delta takes two records.
    let long = frames_in_delta == DELTA;
    let records_in_delta = if long { 2 } else { 1 };
    let opened = MINUTE + deltas * records_in_delta;
    let sealed = MINUTE + deltas;
    let joined = if long { deltas * 4 } else { 0 };
    let count = |file: &str| -> u64 {
        found.iter().filter(|(who, _)| who.contains(file)).map(|(_, count)| count).sum()
    };
    let all: u64 = found.values().sum();
    let rustls = [
        (count("msgs/base.rs"), opened, "records opened"),
        (count("msgs/message/outbound.rs"), sealed, "records sealed"),
        (count("msgs/deframer/buffers.rs"), joined, "long records put together"),
    ];
    for (found, expected, what) in rustls {
        assert_eq!(found, expected as u64, "allocations of rustls for {what}");
    }
    let known: u64 = rustls.iter().map(|(found, ..)| found).sum();
    assert_eq!(all, known, "somebody else allocates for each frame: {found:#?}");
}
