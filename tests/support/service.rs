//! A stand-in for the service that says what it was told: every request head and every
//! `session.update`. Audio it plays back as it came, in the same base64.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocket};
use voicelived::net::upgrade;

/// See the module's text.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    calls: Arc<Mutex<Vec<Told>>>,
    items: Arc<Mutex<Vec<Value>>>,
    requests: Arc<Mutex<Vec<Value>>>,
}

/// What one call has told.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// The upgrade request's head.
    pub(crate) head: String,
    /// The `session` of its `session.update`.
    pub(crate) session: Value,
}

/// What it says of itself.
pub(crate) struct Lines {
    /// Before anything else.
    pub(crate) first: Vec<Value>,
    /// In answer to `session.update`; if it is none, the session as it was asked for.
    pub(crate) updated: Option<Value>,
    /// After that.
    pub(crate) then: Vec<Value>,
}

impl Service {
    pub(crate) fn new() -> Self {
        let created = json!({"type": "session.created", "session": {"id": "s", "model": "m"}});
        Self::saying(Lines { first: vec![created], updated: None, then: Vec::new() })
    }

    pub(crate) fn saying(lines: Lines) -> Self {
        let lines = Arc::new(lines);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let calls = Arc::new(Mutex::new(Vec::new()));
        let items = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let shared = (Arc::clone(&calls), Arc::clone(&items), Arc::clone(&requests));
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let ((calls, items, requests), lines) = (shared.clone(), Arc::clone(&lines));
                // A call that has ended says so by an error.
                std::thread::spawn(move || serve(socket, &lines, &calls, &items, &requests));
            }
        });
        Self { address, calls, items, requests }
    }

    /// How often a response was asked for.
    pub(crate) fn requests(&self) -> usize {
        self.requests.lock().expect("no panic holds it").len()
    }

    /// The `response` of each of these requests.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.requests.lock().expect("no panic holds it").clone()
    }

    /// What was added to conversations, such as outputs of tools.
    pub(crate) fn items(&self) -> Vec<Value> {
        self.items.lock().expect("no panic holds it").clone()
    }

    /// All calls whose settings have come, in that order.
    pub(crate) fn calls(&self) -> Vec<Told> {
        self.calls.lock().expect("no panic holds it").clone()
    }
}

fn serve(
    mut socket: TcpStream,
    lines: &Lines,
    calls: &Mutex<Vec<Told>>,
    items: &Mutex<Vec<Value>>,
    requests: &Mutex<Vec<Value>>,
) -> tungstenite::Result<()> {
    let head = read_head(&mut socket)?;
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    let accept = upgrade::accept_key(key.expect("a key"));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    socket.write_all(answer.as_bytes())?;
    let mut socket = WebSocket::from_raw_socket(socket, Role::Server, None);
    for line in &lines.first {
        socket.send(Message::text(line.to_string()))?;
    }
    loop {
        let Message::Text(text) = socket.read()? else { continue };
        let event: Value = serde_json::from_str(&text).expect("the daemon writes JSON");
        match event["type"].as_str() {
            Some("session.update") => {
                let session = event["session"].clone();
                let told = Told { head: head.clone(), session: session.clone() };
                calls.lock().expect("no panic holds it").push(told);
                let updated = json!({"type": "session.updated", "session": session});
                let updated = lines.updated.as_ref().unwrap_or(&updated);
                for line in std::iter::once(updated).chain(&lines.then) {
                    socket.send(Message::text(line.to_string()))?;
                }
            }
            Some("input_audio_buffer.append") => {
                let delta = json!({"type": "response.audio.delta", "response_id": "r",
                    "item_id": "i", "output_index": 0, "content_index": 0,
                    "delta": event["audio"]});
                socket.send(Message::text(delta.to_string()))?;
            }
            Some("response.create") => {
                requests.lock().expect("no panic holds it").push(event["response"].clone());
            }
            Some("conversation.item.create") => {
                items.lock().expect("no panic holds it").push(event["item"].clone());
            }
            _ => {}
        }
    }
}

fn read_head(socket: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8(head).expect("ASCII"))
}
