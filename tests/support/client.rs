//! A plain blocking WebSocket client, independent of the daemon's own networking.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Error, Message};

use super::daemon::PATIENCE;

/// What a call has brought so far.
pub(crate) struct Client {
    socket: WebSocket<TcpStream>,
    /// All reply audio, as PCM bytes.
    pub(crate) audio: Vec<u8>,
    /// When each of its frames came.
    pub(crate) arrivals: Vec<Instant>,
    /// All text messages, each with the number of audio bytes before it.
    pub(crate) messages: Vec<(usize, Value)>,
    /// Close code and reason, once the daemon has closed.
    pub(crate) closed: Option<(u16, String)>,
    /// The connection is over, with a close frame or without.
    pub(crate) broken: bool,
}

/// What a client has had of a call, over all its connections.
pub(crate) struct Had {
    pub(crate) secret: String,
    pub(crate) audio: Vec<u8>,
    pub(crate) messages: Vec<(usize, Value)>,
}

impl Had {
    /// The query that takes the call up again.
    pub(crate) fn query(&self) -> String {
        let (secret, received, messages) = (&self.secret, self.audio.len(), self.messages.len());
        format!("resume={secret}&received={received}&messages={messages}")
    }

    /// The client is back: it goes on where it was.
    pub(crate) fn join(self, address: SocketAddr, fields: &str) -> Client {
        let socket = TcpStream::connect(address).expect("the daemon accepts");
        self.join_on(socket, address, fields)
    }

    /// The same on a connection that is there already.
    pub(crate) fn join_on(self, socket: TcpStream, address: SocketAddr, fields: &str) -> Client {
        let mut client = Client::join_on(socket, address, &self.query(), fields);
        client.audio = self.audio;
        client.messages = self.messages;
        client
    }
}

/// Sends a request head and reads the answer's head.
pub(crate) fn request(address: SocketAddr, head: &str) -> (TcpStream, String) {
    exchange(TcpStream::connect(address).expect("the daemon accepts"), head)
}

fn exchange(mut socket: TcpStream, head: &str) -> (TcpStream, String) {
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    socket.write_all(head.as_bytes()).expect("the daemon reads");
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        match socket.read(&mut byte) {
            Ok(1) => answer.push(byte[0]),
            Ok(_) => break,
            Err(error) => panic!("no answer: {error}"),
        }
    }
    (socket, String::from_utf8(answer).expect("ASCII"))
}

/// An upgrade request for `/ws` with further field lines.
pub(crate) fn upgrade_head(address: SocketAddr, more: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

impl Client {
    /// Opens a call.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, "")
    }

    /// Opens a call with further field lines in its request.
    pub(crate) fn connect_with(address: SocketAddr, fields: &str) -> Self {
        Self::upgrade(TcpStream::connect(address).expect("the daemon accepts"), address, fields)
    }

    /// Opens a call through a receive buffer of `window` bytes, so that unread audio stays with the
    /// daemon instead of in this process's kernel buffer.
    pub(crate) fn connect_with_window(address: SocketAddr, window: usize) -> Self {
        use socket2::{Domain, Socket, Type};
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(window).expect("a smaller buffer");
        socket.connect(&address.into()).expect("the daemon accepts");
        Self::upgrade(socket.into(), address, "")
    }

    /// Opens `/ws` with this query: `resume`, or what takes a call up again.
    pub(crate) fn join(address: SocketAddr, query: &str, fields: &str) -> Self {
        let socket = TcpStream::connect(address).expect("the daemon accepts");
        Self::join_on(socket, address, query, fields)
    }

    /// The same on a connection that is there already.
    pub(crate) fn join_on(
        socket: TcpStream,
        address: SocketAddr,
        query: &str,
        fields: &str,
    ) -> Self {
        let head = upgrade_head(address, fields).replacen("/ws", &format!("/ws?{query}"), 1);
        Self::upgraded(socket, &head)
    }

    /// The connection breaks, without a goodbye. What is left is what the client has had.
    pub(crate) fn cut(mut self) -> Had {
        let secret = self.of_type("hello").last().expect("it came first")["resume"].clone();
        let secret = secret.as_str().expect("text").to_owned();
        // What has come and was not read is lost with it.
        let linger = Some(Duration::ZERO);
        socket2::SockRef::from(&*self.tcp()).set_linger(linger).expect("a socket");
        Had { secret, audio: self.audio, messages: self.messages }
    }

    /// A client of a service, such as `voicelived simulate`, whose events are text messages.
    pub(crate) fn of_service(address: SocketAddr, target: &str) -> Self {
        let socket = TcpStream::connect(address).expect("the service accepts");
        let head = upgrade_head(address, "api-key: k\r\n").replacen("/ws", target, 1);
        Self::upgraded(socket, &head)
    }

    /// Opens a call on a connection that is there already.
    pub(crate) fn upgrade(socket: TcpStream, address: SocketAddr, fields: &str) -> Self {
        Self::upgraded(socket, &upgrade_head(address, fields))
    }

    fn upgraded(socket: TcpStream, head: &str) -> Self {
        let (socket, answer) = exchange(socket, head);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        let socket = WebSocket::from_raw_socket(socket, Role::Client, None);
        Self {
            socket,
            audio: Vec::new(),
            arrivals: Vec::new(),
            messages: Vec::new(),
            closed: None,
            broken: false,
        }
    }

    /// Reads one message; false when none comes in that time.
    pub(crate) fn read_one_within(&mut self, time: Duration) -> bool {
        self.read_one(Instant::now() + time)
    }

    /// The TCP socket, for tests that bypass the framing.
    pub(crate) fn tcp(&mut self) -> &mut TcpStream {
        self.socket.get_mut()
    }

    /// Sends audio in 20 ms frames at `speed` times real time, reading meanwhile.
    pub(crate) fn speak(&mut self, pcm: &[u8], speed: u32) {
        let start = Instant::now();
        for (at, frame) in (0_u32..).zip(pcm.chunks(960)) {
            self.send(Message::binary(frame.to_vec()));
            let due = start + Duration::from_millis(20) * at / speed;
            self.read_until_time(due);
        }
    }

    /// Sends a message; a closed connection shows at the next read.
    pub(crate) fn send(&mut self, message: Message) {
        let _ = self.socket.send(message);
    }

    /// Sends a JSON text message.
    pub(crate) fn tell(&mut self, message: &Value) {
        self.send(Message::text(message.to_string()));
    }

    /// Reads what comes until then.
    pub(crate) fn read_until_time(&mut self, until: Instant) {
        while self.read_one(until) {}
    }

    /// Reads until a message satisfies `wanted`; a copy of it.
    pub(crate) fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        loop {
            while let Some((_, message)) = self.messages.get(seen) {
                if wanted(message) {
                    return message.clone();
                }
                seen += 1;
            }
            assert!(self.read_one(deadline), "{what}: never came. Messages: {}", self.told());
        }
    }

    /// Reads until a message of this `type` that comes after the call of this function.
    pub(crate) fn wait_for_next(&mut self, kind: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.messages.len();
        loop {
            while let Some((_, message)) = self.messages.get(seen) {
                if message["type"] == kind {
                    return message.clone();
                }
                seen += 1;
            }
            assert!(self.read_one(deadline), "{kind}: never came. Messages: {}", self.told());
        }
    }

    /// Reads until this much audio has come.
    pub(crate) fn wait_for_audio(&mut self, bytes: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.audio.len() < bytes {
            assert!(self.read_one(deadline), "{} of {bytes} bytes came", self.audio.len());
        }
    }

    /// Sends bytes past the framing. What the daemon does not take any more is its business.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.tcp().write_all(bytes);
    }

    /// Reads until the daemon closes, and checks code and reason of the end; its sentence.
    pub(crate) fn assert_ends(&mut self, what: &str, code: u16, reason: &str) -> String {
        let ended = self.wait_for_end();
        let (closed, sentence) = self.closed.clone().unwrap_or((1006, String::new()));
        assert_eq!((closed, &ended["reason"]), (code, &reason.into()), "{what}: {sentence}");
        let message = ended["message"].as_str().unwrap_or_default().to_owned();
        let quotes = message.contains(". It said: ");
        assert!(message.ends_with('.') || quotes, "{what}: {message:?} is no sentence");
        message
    }

    /// Reads until the call is active.
    pub(crate) fn wait_until_active(&mut self) {
        self.wait_for("active", |message| message["state"] == "active");
    }

    /// Reads until the daemon closes; the `ended` message, or null if there was none.
    pub(crate) fn wait_for_end(&mut self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        while self.read_one(deadline) {}
        assert!(self.broken, "the daemon did not close: {}", self.told());
        let ended = self.messages.iter().rev().find(|(_, message)| message["state"] == "ended");
        ended.map_or(Value::Null, |(_, message)| message.clone())
    }

    /// All messages, a line each, for a test that fails.
    pub(crate) fn told(&self) -> String {
        self.messages.iter().map(|(audio, message)| format!("\n{audio} {message}")).collect()
    }

    /// The messages of one `type`.
    pub(crate) fn of_type(&self, kind: &str) -> Vec<&Value> {
        self.messages.iter().map(|(_, message)| message).filter(|m| m["type"] == kind).collect()
    }

    /// Reads one message; false when the time is up or the connection is over.
    fn read_one(&mut self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || self.broken {
            return false;
        }
        self.tcp().set_read_timeout(Some(left)).expect("a socket");
        match self.socket.read() {
            Ok(Message::Binary(data)) => {
                self.audio.extend_from_slice(&data);
                self.arrivals.push(Instant::now());
            }
            Ok(Message::Text(text)) => {
                let message = serde_json::from_str(&text).expect("the daemon writes JSON");
                self.messages.push((self.audio.len(), message));
            }
            Ok(Message::Close(frame)) => {
                self.closed = Some(frame.map_or((1005, String::new()), |frame| {
                    (frame.code.into(), frame.reason.to_string())
                }));
            }
            Ok(_) => {}
            Err(Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                return false;
            }
            // A timed read is not begun again by itself.
            Err(Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                // Shown when the test fails.
                println!("the connection is over: {error}");
                self.broken = true;
                return false;
            }
        }
        true
    }
}

/// The samples of a test recording, as PCM bytes.
pub(crate) fn speech(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/audio/{name}.wav", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).expect("a recording")[44..].to_vec()
}

/// A connection with a receive buffer as small as the kernel allows, so that little is under way.
pub(crate) fn narrow(address: SocketAddr) -> TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4 * 1024).expect("a smaller buffer");
    socket.connect(&address.into()).expect("the daemon accepts");
    socket.into()
}

/// A connection from another address of the loopback net.
pub(crate) fn from_elsewhere(address: SocketAddr, last: u8) -> TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let own = SocketAddr::from(([127, 0, 0, last], 0));
    socket.bind(&own.into()).expect("loopback is a net");
    socket.connect(&address.into()).expect("the daemon listens");
    socket.into()
}
