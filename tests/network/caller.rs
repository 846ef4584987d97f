//! A client on a bad network: its microphone never stops, it notices that its connection is dead, and takes its call up
//! again as `docs/protocol.md` tells app makers.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Error, Message};

use crate::support::client::upgrade_head;
use crate::support::random::Random;

/// Bytes of PCM in 20 ms, and in a second.
const FRAME: usize = 960;
const SECOND: usize = 48_000;
/// After this silence the connection is doubted. The caller pings every second.
const DOUBT: Duration = Duration::from_secs(3);
/// The pause after the first try to take the call up; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// What is kept of the microphone while there is no connection.
const KEPT: usize = 5 * SECOND;
/// How long a call may take that is made over a bad network.
pub(crate) const PATIENCE: Duration = Duration::from_secs(100);

/// See the module's text.
pub(crate) struct Caller {
    address: SocketAddr,
    socket: Option<WebSocket<TcpStream>>,
    /// Whether it may take its call up again; without, a lost connection is the end.
    resumes: bool,
    secret: String,
    /// All reply audio of the call, as PCM bytes.
    pub(crate) audio: Vec<u8>,
    /// When audio came, and how much there was then.
    pub(crate) arrivals: Vec<(Instant, usize)>,
    /// All text messages of the call.
    pub(crate) messages: Vec<(Instant, Value)>,
    /// All that the microphone has brought, as PCM bytes, and how much of it was sent.
    pub(crate) spoken: Vec<u8>,
    sent: usize,
    /// Bytes of the microphone that were never sent, since they were too old.
    pub(crate) given_up: usize,
    /// The microphone is off.
    pub(crate) muted: bool,
    /// Speech that is still to be said.
    speech: VecDeque<u8>,
    noise: Random,
    began: Instant,
    heard: Instant,
    pinged: Instant,
    /// When the next try to take the call up is due, and the pause after that.
    next_try: Instant,
    pause: Duration,
    /// How often the call was taken up again, and each time how long nothing had been heard.
    pub(crate) resumed: Vec<Duration>,
    /// The daemon has closed, with this code.
    pub(crate) closed: Option<u16>,
}

impl Caller {
    /// Opens a call that may be taken up again, or not.
    pub(crate) fn call(address: SocketAddr, resumes: bool, seed: u64) -> Self {
        let query = if resumes { "?resume" } else { "" };
        let deadline = Instant::now() + PATIENCE;
        let mut socket = join(address, query);
        while socket.is_none() {
            assert!(Instant::now() < deadline, "no call can be made");
            socket = join(address, query);
        }
        let now = Instant::now();
        Self {
            address,
            socket,
            resumes,
            secret: String::new(),
            audio: Vec::new(),
            arrivals: Vec::new(),
            messages: Vec::new(),
            spoken: Vec::new(),
            sent: 0,
            given_up: 0,
            muted: false,
            speech: VecDeque::new(),
            noise: Random::new(seed),
            began: now,
            heard: now,
            pinged: now,
            next_try: now,
            pause: FIRST_PAUSE,
            resumed: Vec::new(),
            closed: None,
        }
    }

    /// Says these samples after what it is saying.
    pub(crate) fn say(&mut self, pcm: &[u8]) {
        self.speech.extend(pcm);
    }

    /// Sends a text message on the present connection.
    pub(crate) fn tell(&mut self, message: &Value) {
        if let Some(socket) = &mut self.socket {
            let _ = socket.send(Message::text(message.to_string()));
        }
    }

    /// Goes on until then.
    pub(crate) fn live(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.turn();
        }
    }

    /// Goes on until something is so.
    pub(crate) fn live_until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !so(self) {
            assert!(self.closed.is_none(), "{what}: the call has ended: {}", self.told());
            assert!(Instant::now() < until, "{what}: never came. {}", self.told());
            self.turn();
        }
    }

    /// How many messages of this type have come.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.messages.iter().filter(|(_, message)| message["type"] == kind).count()
    }

    /// Whether a response that brought audio beyond so many bytes is over. One that runs a tool brings none.
    pub(crate) fn has_answer(&self, bytes: usize) -> bool {
        let first = self.arrivals.iter().find(|(_, all)| *all > bytes);
        let done =
            self.messages.iter().rev().find(|(_, message)| message["type"] == "response_done");
        first.zip(done).is_some_and(|((first, _), (done, _))| done > first)
    }

    /// The states that it was told, in order.
    pub(crate) fn states(&self) -> Vec<&str> {
        let all = self.messages.iter().map(|(_, message)| message);
        all.filter(|message| message["type"] == "call_state")
            .filter_map(|message| message["state"].as_str())
            .collect()
    }

    /// All messages, a line each, for a test that fails.
    pub(crate) fn told(&self) -> String {
        let line = |(at, message): &(Instant, Value)| {
            format!("\n{:.1} s {message}", at.duration_since(self.began).as_secs_f32())
        };
        self.messages.iter().map(line).collect()
    }

    /// Hangs up, and waits for the end.
    pub(crate) fn hang_up(&mut self) {
        self.tell(&json!({"type": "hang_up"}));
        let until = Instant::now() + PATIENCE;
        while self.closed.is_none() && self.socket.is_some() {
            assert!(Instant::now() < until, "the call does not end: {}", self.told());
            self.read();
        }
        let ended = self.states().iter().filter(|state| **state == "ended").count();
        assert_eq!(ended, 1, "{}", self.told());
    }

    /// Once around: what has come, what the microphone has brought, and whether the connection lives.
    fn turn(&mut self) {
        self.read();
        self.record();
        self.send();
        let now = Instant::now();
        if self.closed.is_none() && (self.socket.is_none() || now > self.heard + DOUBT) {
            if self.resumes {
                self.join_again();
            } else {
                assert!(self.socket.is_some(), "the connection is lost: {}", self.told());
            }
        }
        if now > self.pinged + Duration::from_secs(1) {
            self.pinged = now;
            if let Some(socket) = &mut self.socket {
                let _ = socket.send(Message::Ping(Vec::new().into()));
            }
        }
    }

    /// The microphone brings 20 ms in 20 ms: speech, and always a little noise, so that each moment of it
    /// can be told from all others.
    fn record(&mut self) {
        let due = self.began.elapsed().as_millis() as usize / 20 * FRAME;
        while self.spoken.len() < due && !self.muted {
            let low = self.speech.pop_front().unwrap_or_default();
            let high = self.speech.pop_front().unwrap_or_default();
            let noise = i16::try_from(self.noise.range(0, 40)).expect("small") - 20;
            let sample = i16::from_le_bytes([low, high]).saturating_add(noise);
            self.spoken.extend(sample.to_le_bytes());
        }
    }

    /// Sends what the microphone has brought; what waited for a connection at about four times real time,
    /// since a turn takes up to 5 ms.
    fn send(&mut self) {
        let Some(socket) = &mut self.socket else { return };
        if self.secret.is_empty() {
            return;
        }
        let end = (self.sent + FRAME).min(self.spoken.len());
        if end > self.sent {
            // What does not leave at once waits in the library.
            let _ = socket.send(Message::binary(self.spoken[self.sent..end].to_vec()));
            self.sent = end;
        } else {
            let _ = socket.flush();
        }
    }

    fn read(&mut self) {
        let Some(socket) = &mut self.socket else { return };
        match socket.read() {
            Ok(Message::Binary(pcm)) => {
                self.audio.extend_from_slice(&pcm);
                self.arrivals.push((Instant::now(), self.audio.len()));
            }
            Ok(Message::Text(text)) => {
                let message = serde_json::from_str(&text).expect("the daemon writes JSON");
                self.note(message);
            }
            Ok(Message::Close(frame)) => {
                self.closed = Some(frame.map_or(1005, |frame| frame.code.into()));
            }
            Ok(_) => {}
            Err(Error::Io(error))
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                return;
            }
            Err(_) => {
                self.socket = None;
                return;
            }
        }
        self.heard = Instant::now();
    }

    fn note(&mut self, message: Value) {
        if message["type"] == "hello" {
            message["resume"].as_str().expect("a secret").clone_into(&mut self.secret);
        }
        self.messages.push((Instant::now(), message));
    }

    /// Tries to take the call up again, now and then.
    fn join_again(&mut self) {
        if Instant::now() < self.next_try {
            return;
        }
        let query = format!(
            "?resume={}&received={}&messages={}",
            self.secret,
            self.audio.len(),
            self.messages.len()
        );
        let joined = join(self.address, &query);
        self.next_try = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(Duration::from_secs(4));
        if joined.is_some() {
            // The old one is let go without a close frame, which would be a goodbye.
            self.socket = joined;
            self.hear_hello();
        }
    }

    /// Waits for the hello of a joining, and goes on from where the daemon says.
    fn hear_hello(&mut self) {
        let (silent, hellos) = (self.heard, self.count("hello"));
        let until = Instant::now() + DOUBT;
        while self.count("hello") == hellos {
            let lost = Instant::now() > until || self.socket.is_none() || self.closed.is_some();
            if lost {
                self.socket = None;
                return;
            }
            self.read();
        }
        let hello = &self.messages.iter().rev().find(|(_, it)| it["type"] == "hello");
        let hello = &hello.expect("it has come").1;
        assert_eq!(hello["resumed"], true, "{}", self.told());
        let heard = hello["heard"].as_u64().expect("it says what it has heard");
        self.sent = usize::try_from(heard).expect("it fits") + self.given_up;
        let oldest = self.spoken.len().saturating_sub(KEPT);
        self.given_up += oldest.saturating_sub(self.sent);
        self.sent = self.sent.max(oldest);
        self.resumed.push(silent.elapsed());
        (self.pause, self.heard) = (FIRST_PAUSE, Instant::now());
    }
}

/// A connection for a call, if one can be had now.
fn join(address: SocketAddr, query: &str) -> Option<WebSocket<TcpStream>> {
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    socket.set_nodelay(true).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let head = upgrade_head(address, "").replacen("/ws", &format!("/ws{query}"), 1);
    socket.write_all(head.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        if socket.read(&mut byte).ok()? == 0 {
            return None;
        }
        answer.push(byte[0]);
    }
    let answer = String::from_utf8(answer).expect("ASCII");
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
        set(&socket, Some(Duration::from_millis(4))).ok()?;
    }
    Some(WebSocket::from_raw_socket(socket, Role::Client, None))
}
