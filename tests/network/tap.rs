//! A stand-in for the way into the service's machine: it stands in front of a simulator, speaks TLS, and writes down
//! everything that passes, session by session. The simulator decides what is said; this is the witness of it. The framing
//! is a library's, not ours.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Error, Message};

use crate::support::standin::read_head;

/// How long one side is listened to before it is the other's turn.
const MOMENT: Duration = Duration::from_millis(2);

/// See the module's text.
pub(crate) struct Tap {
    pub(crate) address: SocketAddr,
    /// Its certificate, to be trusted.
    pub(crate) certificate: String,
    sessions: Arc<Mutex<Vec<Session>>>,
}

/// What has passed in one session.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// All microphone audio that has come, as PCM bytes.
    pub(crate) microphone: Vec<u8>,
    /// The audio of each response that was given to the connection, with its id, as PCM bytes.
    pub(crate) replies: Vec<(String, Vec<u8>)>,
    /// Everything else that has come, in order, each with the bytes of microphone audio before it.
    pub(crate) told: Vec<(usize, Value)>,
    /// What the service has refused.
    pub(crate) refused: Vec<Value>,
    /// When the settings were taken.
    pub(crate) ready: Option<Instant>,
    /// The connection is over.
    pub(crate) over: bool,
}

type Sessions = Arc<Mutex<Vec<Session>>>;
/// Changes what is written down of a session.
type Note<'n> = &'n dyn Fn(&dyn Fn(&mut Session));

impl Tap {
    /// Listens at this address, in front of `service`.
    pub(crate) fn start(address: IpAddr, service: SocketAddr) -> Self {
        let made =
            rcgen::generate_simple_self_signed([address.to_string()]).expect("a certificate");
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let config = voicelived::net::tls::server_config(certificate.as_bytes(), key.as_bytes())
            .expect("certificate and key fit");
        let listener = TcpListener::bind((address, 0)).expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let sessions = Sessions::default();
        let shared = Arc::clone(&sessions);
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (config, sessions) = (Arc::clone(&config), Arc::clone(&shared));
                std::thread::spawn(move || serve(socket, &config, service, &sessions));
            }
        });
        Self { address, certificate, sessions }
    }

    /// All sessions that were opened, in that order.
    pub(crate) fn sessions(&self) -> Vec<Session> {
        self.sessions.lock().expect("no panic holds it").clone()
    }
}

/// A connection that never gets as far as a session is none: its end is not written down.
fn serve(socket: TcpStream, config: &Arc<ServerConfig>, service: SocketAddr, sessions: &Sessions) {
    socket.set_nodelay(true).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    let tls = ServerConnection::new(Arc::clone(config)).expect("a configuration");
    let mut daemon = StreamOwned::new(tls, socket);
    let Some(head) = head_of(&mut daemon) else { return };
    let mut service = TcpStream::connect(service).expect("the simulator accepts");
    service.set_nodelay(true).expect("a socket");
    service.write_all(head.as_bytes()).expect("it reads");
    let answer = read_head(&mut service);
    if daemon.write_all(answer.as_bytes()).is_err() || !answer.starts_with("HTTP/1.1 101 ") {
        return;
    }
    for socket in [&daemon.sock, &service] {
        socket.set_read_timeout(Some(MOMENT)).expect("a socket");
        socket.set_write_timeout(Some(MOMENT)).expect("a socket");
    }
    let at = {
        let mut sessions = sessions.lock().expect("no panic holds it");
        sessions.push(Session::new());
        sessions.len() - 1
    };
    let mut passage = Passage {
        daemon: WebSocket::from_raw_socket(daemon, Role::Server, None),
        service: WebSocket::from_raw_socket(service, Role::Client, None),
    };
    let note = |change: &dyn Fn(&mut Session)| {
        change(&mut sessions.lock().expect("no panic holds it")[at]);
    };
    while passage.pass(&note).is_some() {}
    note(&|session| session.over = true);
}

/// The request's head, if the connection lives as long.
fn head_of(stream: &mut StreamOwned<ServerConnection, TcpStream>) -> Option<String> {
    use std::io::Read;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

struct Passage {
    daemon: WebSocket<StreamOwned<ServerConnection, TcpStream>>,
    service: WebSocket<TcpStream>,
}

impl Passage {
    /// Passes on what waits at both sides; `None` when one is gone.
    fn pass(&mut self, note: Note<'_>) -> Option<()> {
        while let Some(message) = next(&mut self.daemon).ok()? {
            if let Message::Text(text) = &message {
                let event = serde_json::from_str(text).expect("the daemon writes JSON");
                note(&|session| session.hear(&event));
            }
            give(&mut self.service, message).ok()?;
        }
        while let Some(message) = next(&mut self.service).ok()? {
            if let Message::Text(text) = &message {
                let event = serde_json::from_str(text).expect("the simulator writes JSON");
                note(&|session| session.say(&event));
            }
            give(&mut self.daemon, message).ok()?;
        }
        // Answers to pings, and what did not leave at once.
        wait(self.daemon.flush()).ok()?;
        wait(self.service.flush()).ok()
    }
}

/// The next message, or none if none is there now.
fn next<S: std::io::Read + Write>(socket: &mut WebSocket<S>) -> Result<Option<Message>, Error> {
    match socket.read() {
        Ok(message) => Ok(Some(message)),
        Err(Error::Io(error)) if is_pause(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Each side answers the pings that it gets itself.
fn give<S: std::io::Read + Write>(
    socket: &mut WebSocket<S>,
    message: Message,
) -> Result<(), Error> {
    match message {
        Message::Ping(_) | Message::Pong(_) => Ok(()),
        message => wait(socket.send(message)),
    }
}

/// What cannot leave now stays in the library's buffer.
fn wait(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::Io(error)) if is_pause(&error) => Ok(()),
        other => other,
    }
}

fn is_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

impl Session {
    fn new() -> Self {
        Self {
            microphone: Vec::new(),
            replies: Vec::new(),
            told: Vec::new(),
            refused: Vec::new(),
            ready: None,
            over: false,
        }
    }

    /// The daemon has told the service something.
    fn hear(&mut self, event: &Value) {
        if event["type"] == "input_audio_buffer.append" {
            self.microphone.extend(pcm(&event["audio"]));
        } else {
            self.told.push((self.microphone.len(), event.clone()));
        }
    }

    /// The service has said something.
    fn say(&mut self, event: &Value) {
        match event["type"].as_str().unwrap_or_default() {
            "response.audio.delta" | "response.output_audio.delta" => {
                let id = event["response_id"].as_str().expect("text");
                if self.replies.last().is_none_or(|(last, _)| last != id) {
                    self.replies.push((id.to_owned(), Vec::new()));
                }
                let (_, reply) = self.replies.last_mut().expect("there is one now");
                reply.extend(pcm(&event["delta"]));
            }
            "session.updated" => {
                self.ready.get_or_insert_with(Instant::now);
            }
            "error" => self.refused.push(event.clone()),
            _ => {}
        }
    }
}

fn pcm(base64: &Value) -> Vec<u8> {
    STANDARD.decode(base64.as_str().expect("text")).expect("base64")
}
