//! A stand-in for the service that says exactly what a test has written down, frame by frame, and
//! remembers what it was told. It serves every call in the same way.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocket};
use voicelived::net::upgrade;

use super::standin::read_head;

/// What it does, once its session is configured.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Sends this text message as it stands; it need not be JSON.
    Text(String),
    /// Sends this binary message.
    Binary(Vec<u8>),
    /// Waits until the daemon has added something to the conversation.
    AwaitItem,
    /// Waits until the daemon has asked for a response.
    AwaitCreate,
}

/// See the module's text.
pub(crate) struct Script {
    pub(crate) address: SocketAddr,
    told: Arc<Mutex<Vec<Value>>>,
}

/// An event, as a step.
pub(crate) fn say(event: Value) -> Step {
    Step::Text(event.to_string())
}

impl Script {
    /// A service that plays these steps.
    pub(crate) fn playing(steps: Vec<Step>) -> Self {
        let created = json!({"type": "session.created", "session": {"id": "s", "model": "m"}});
        Self::beginning(vec![say(created)], steps)
    }

    /// The same; `first` takes the place of its `session.created`.
    pub(crate) fn beginning(first: Vec<Step>, steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let told = Arc::new(Mutex::new(Vec::new()));
        let (shared, script) = (Arc::clone(&told), Arc::new((first, steps)));
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (told, script) = (Arc::clone(&shared), Arc::clone(&script));
                // A call that has ended says so by an error.
                std::thread::spawn(move || serve(socket, &script.0, &script.1, &told));
            }
        });
        Self { address, told }
    }

    /// Everything it was told but `session.update`, by all calls.
    pub(crate) fn told(&self) -> Vec<Value> {
        self.told.lock().expect("no panic holds it").clone()
    }

    /// What was added to conversations.
    pub(crate) fn items(&self) -> Vec<Value> {
        self.told()
            .iter()
            .filter(|event| event["type"] == "conversation.item.create")
            .map(|event| event["item"].clone())
            .collect()
    }
}

fn serve(
    mut socket: TcpStream,
    first: &[Step],
    steps: &[Step],
    told: &Mutex<Vec<Value>>,
) -> tungstenite::Result<()> {
    let head = read_head(&mut socket);
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    let accept = upgrade::accept_key(key.expect("a key"));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    socket.write_all(answer.as_bytes())?;
    let mut peer = Peer { socket: WebSocket::from_raw_socket(socket, Role::Server, None), told };
    peer.play(first)?;
    let session = peer.hear_until("session.update")?["session"].clone();
    let updated = json!({"type": "session.updated", "session": session});
    peer.play(&[say(updated)])?;
    peer.play(steps)?;
    loop {
        peer.hear()?;
    }
}

struct Peer<'t> {
    socket: WebSocket<TcpStream>,
    told: &'t Mutex<Vec<Value>>,
}

impl Peer<'_> {
    fn play(&mut self, steps: &[Step]) -> tungstenite::Result<()> {
        for step in steps {
            match step {
                Step::Text(text) => self.socket.send(Message::text(text.clone()))?,
                Step::Binary(bytes) => self.socket.send(Message::binary(bytes.clone()))?,
                Step::AwaitItem => drop(self.hear_until("conversation.item.create")?),
                Step::AwaitCreate => drop(self.hear_until("response.create")?),
            }
        }
        Ok(())
    }

    fn hear_until(&mut self, kind: &str) -> tungstenite::Result<Value> {
        loop {
            let event = self.hear()?;
            if event["type"] == kind {
                return Ok(event);
            }
        }
    }

    fn hear(&mut self) -> tungstenite::Result<Value> {
        loop {
            if let Message::Text(text) = self.socket.read()? {
                let event: Value = serde_json::from_str(&text).expect("the daemon writes JSON");
                if event["type"] != "session.update" {
                    self.told.lock().expect("no panic holds it").push(event.clone());
                }
                return Ok(event);
            }
        }
    }
}
