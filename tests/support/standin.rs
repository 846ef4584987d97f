//! A stand-in for the service, behind TLS, driven step by step: what the relay forwards is looked
//! at, and what it gets is chosen, message by message. The framing is a library's, not ours.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocket};

const PATIENCE: Duration = Duration::from_secs(20);

/// A listening stand-in.
pub(crate) struct StandIn {
    listener: TcpListener,
    config: Arc<ServerConfig>,
}

/// One connection to it, its session configured.
pub(crate) struct Served(WebSocket<StreamOwned<ServerConnection, TcpStream>>);

impl Served {
    /// Whether the relay took up an earlier TLS session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.0.get_ref().conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }
}

impl StandIn {
    /// With a certificate chain and key, both PEM.
    pub(crate) fn new(certificate: &str, key: &str) -> Self {
        let config = voicelived::net::tls::server_config(certificate.as_bytes(), key.as_bytes());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self { listener, config: config.expect("certificate and key fit") }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    /// Takes the next connection up to its configured session.
    pub(crate) fn accept(&self) -> Served {
        let (socket, _) = self.listener.accept().expect("the relay connects");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        socket.set_nodelay(true).expect("a socket");
        let tls = ServerConnection::new(Arc::clone(&self.config)).expect("a configuration");
        let mut stream = StreamOwned::new(tls, socket);
        let head = read_head(&mut stream);
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let accept = voicelived::net::upgrade::accept_key(key.expect("a key"));
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).expect("the relay reads");
        let mut served = Served(WebSocket::from_raw_socket(stream, Role::Server, None));
        let session = r#"{"id":"sess_1","model":"m","modalities":["text","audio"],"input_audio_format":"pcm16","output_audio_format":"pcm16"}"#;
        served.say(&format!(r#"{{"type":"session.created","event_id":"e1","session":{session}}}"#));
        assert!(served.hear().contains("session.update"));
        served.say(&format!(r#"{{"type":"session.updated","event_id":"e2","session":{session}}}"#));
        served
    }
}

impl Served {
    /// The next text message.
    pub(crate) fn hear(&mut self) -> String {
        loop {
            match self.0.read().expect("the relay goes on") {
                Message::Text(text) => return text.as_str().to_owned(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?} from the relay"),
            }
        }
    }

    /// The base64 of the next microphone frame.
    pub(crate) fn hear_audio(&mut self) -> String {
        let event = self.hear();
        let audio = event.split("\"audio\":\"").nth(1).and_then(|rest| rest.split('"').next());
        audio.unwrap_or_else(|| panic!("no audio in {event}")).to_owned()
    }

    pub(crate) fn say(&mut self, event: &str) {
        self.0.send(Message::text(event)).expect("the relay reads");
    }

    /// An audio delta as the service words it.
    pub(crate) fn say_audio(&mut self, base64: &str) {
        self.say(&format!(
            r#"{{"type":"response.audio.delta","event_id":"event_BGn2AbCdEfGhIjKl","response_id":"resp_BGn1xZyXwVuTsRqP","item_id":"item_BGn1xLmNoPqRsTuV","output_index":0,"content_index":0,"delta":"{base64}"}}"#
        ));
    }
}

/// A request's or answer's head, byte by byte.
pub(crate) fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("ASCII")
}
