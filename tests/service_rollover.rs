//! A daemon whose service ends its sessions after some seconds: the call goes on from one to the next, and
//! neither the client nor a sample of the microphone shows it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::client::{Client, speech};
use support::daemon::Daemon;
use support::witness;
use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocket};
use voicelived::net::upgrade;

/// What the stand-in does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Good,
    /// It answers the upgrade with this status and `Retry-After: 1`.
    Refuse(u16),
    /// It sends an error in place of a session.
    Error,
}

/// What one connection has heard.
#[derive(Debug, Default, Clone)]
struct Heard {
    microphone: Vec<u8>,
    items: Vec<Value>,
    /// It was closed with this code.
    closed: Option<u16>,
    open: bool,
}

/// A service that tells when it ends a session, and ends it then.
struct Service {
    address: SocketAddr,
    sessions: Arc<Mutex<Vec<Heard>>>,
}

impl Service {
    /// The sessions last so many seconds; connections are treated so, those after the last as that.
    fn new(seconds: u64, manners: &'static [Manner]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let sessions = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&sessions);
        std::thread::spawn(move || {
            for (at, socket) in listener.incoming().map_while(Result::ok).enumerate() {
                let manner = manners[at.min(manners.len() - 1)];
                let sessions = Arc::clone(&shared);
                sessions.lock().expect("no panic").push(Heard { open: true, ..Heard::default() });
                std::thread::spawn(move || {
                    // A connection that has ended says so by an error.
                    let _ = serve(socket, manner, seconds, &sessions, at);
                    sessions.lock().expect("no panic")[at].open = false;
                });
            }
        });
        Self { address, sessions }
    }

    fn sessions(&self) -> Vec<Heard> {
        self.sessions.lock().expect("no panic holds it").clone()
    }
}

fn serve(
    mut socket: TcpStream,
    manner: Manner,
    seconds: u64,
    sessions: &Mutex<Vec<Heard>>,
    at: usize,
) -> tungstenite::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if let Manner::Refuse(status) = manner {
        let answer = format!("HTTP/1.1 {status} No\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
        return Ok(socket.write_all(answer.as_bytes())?);
    }
    let head = String::from_utf8(head).expect("ASCII");
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    let accept = upgrade::accept_key(key.expect("a key"));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    socket.write_all(answer.as_bytes())?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let ends = SystemTime::now() + Duration::from_secs(seconds);
    let ends = ends.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let mut socket = WebSocket::from_raw_socket(socket, Role::Server, None);
    let say = |socket: &mut WebSocket<TcpStream>, event: Value| {
        socket.send(Message::text(event.to_string()))
    };
    if manner == Manner::Error {
        say(
            &mut socket,
            json!({"type": "error", "error": {"code": "server_error", "message": "Not now."}}),
        )?;
    } else {
        let session = json!({"id": format!("session_{at}"), "model": "m", "expires_at": ends});
        say(&mut socket, json!({"type": "session.created", "session": session}))?;
    }
    loop {
        if Instant::now() >= end {
            socket.close(None)?;
        }
        let text = match socket.read() {
            Ok(Message::Text(text)) => text,
            Ok(Message::Close(frame)) => {
                let code = frame.map(|frame| u16::from(frame.code));
                sessions.lock().expect("no panic")[at].closed = code;
                continue;
            }
            Ok(_) => continue,
            Err(tungstenite::Error::Io(error))
                if error.kind() == std::io::ErrorKind::WouldBlock =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        let event: Value = serde_json::from_str(&text).expect("the daemon writes JSON");
        match event["type"].as_str() {
            Some("session.update") => {
                say(
                    &mut socket,
                    json!({"type": "session.updated", "session":
                    {"id": format!("session_{at}"), "expires_at": ends}}),
                )?;
            }
            Some("input_audio_buffer.append") => {
                let pcm = STANDARD.decode(event["audio"].as_str().expect("text")).expect("base64");
                sessions.lock().expect("no panic")[at].microphone.extend(pcm);
            }
            Some("conversation.item.create") => {
                sessions.lock().expect("no panic")[at].items.push(event["item"].clone());
            }
            Some("response.create") => {
                for event in [
                    json!({"type": "response.created", "response": {"id": "r"}}),
                    json!({"type": "response.audio_transcript.delta", "response_id": "r",
                        "item_id": "a", "output_index": 0, "content_index": 0, "delta": "Good."}),
                    json!({"type": "response.done", "response": {"id": "r", "status": "completed"}}),
                ] {
                    say(&mut socket, event)?;
                }
            }
            _ => {}
        }
    }
}

/// 20 ms, of which each four bytes say their number in the call.
fn frame(number: usize) -> Vec<u8> {
    let numbers = number * 240..(number + 1) * 240;
    numbers.flat_map(|it| u32::try_from(it).expect("small").to_le_bytes()).collect()
}

/// The client speaks in real time for so long.
fn speak(client: &mut Client, time: Duration, said: &mut Vec<u8>) {
    let mut due = Instant::now();
    let end = due + time;
    while due < end {
        let frame = frame(said.len() / 960);
        said.extend(&frame);
        client.send(Message::binary(frame));
        due += Duration::from_millis(20);
        client.read_until_time(due);
    }
}

fn told_of_states(client: &Client) -> Vec<String> {
    let states = client.of_type("call_state");
    states.iter().map(|state| state["state"].as_str().expect("text").to_owned()).collect()
}

#[test]
fn every_byte_of_the_microphone_is_heard_once_and_the_client_hears_nothing() {
    let service = Service::new(6, &[Manner::Good]);
    let daemon = Daemon::run(service.address, &[]);
    let descriptors = daemon.descriptors();
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    let mut said = Vec::new();
    client.tell(&json!({"type": "text", "text": "My name is Ada."}));
    speak(&mut client, Duration::from_secs(15), &mut said);
    daemon.wait_until("all is heard", |_| {
        service.sessions().iter().map(|it| it.microphone.len()).sum::<usize>() >= said.len()
    });
    // The last one may be being prepared, and the one before it serves then.
    let mut sessions = Vec::new();
    daemon.wait_until("each one before was closed", |_| {
        sessions = service.sessions();
        let before = &sessions[..sessions.len() - 2];
        before.iter().all(|it| (it.closed, it.open) == (Some(1000), false))
    });
    assert!((4..=7).contains(&sessions.len()), "{} sessions", sessions.len());
    let heard: Vec<u8> = sessions.iter().flat_map(|it| it.microphone.clone()).collect();
    assert!(heard == said, "{} of {} bytes, or others", heard.len(), said.len());
    for session in &sessions[1..] {
        let texts: Vec<_> =
            session.items.iter().map(|item| item["content"][0]["text"].clone()).collect();
        let untold = session.microphone.is_empty() && texts.is_empty();
        assert!(untold || texts == ["My name is Ada.", "Good."], "{texts:?}");
    }
    assert!(sessions.last().is_some_and(|it| it.open));
    assert_eq!(told_of_states(&client), ["connecting", "active"]);
    assert_eq!(client.of_type("error").len(), 0, "{}", client.told());
    daemon.assert_counted("service_reconnects_total", "", 0);
    assert!(daemon.log().contains("in a quiet moment"), "{}", daemon.log());
    client.tell(&json!({"type": "hang_up"}));
    daemon.assert_counted("calls_ended_total", "hang_up", 1);
    daemon.assert_nothing_left(descriptors);
    daemon.wait_until("no session is left open", |_| service.sessions().iter().all(|it| !it.open));
}

#[test]
fn a_second_connection_that_fails_is_tried_again_while_the_first_goes_on() {
    let manners =
        &[Manner::Good, Manner::Refuse(429), Manner::Refuse(503), Manner::Error, Manner::Good];
    let service = Service::new(16, manners);
    let daemon = Daemon::run(service.address, &[]);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    let mut said = Vec::new();
    // Until the second session hears it. That began after 8 s, and prepares a third one 8 s later.
    let takes_over = || service.sessions().get(4).is_some_and(|it| !it.microphone.is_empty());
    while !takes_over() {
        assert!(said.len() < 40 * 48_000, "it does not take over: {}", daemon.log());
        speak(&mut client, Duration::from_millis(500), &mut said);
    }
    daemon.wait_until("all is heard", |_| {
        service.sessions().iter().map(|it| it.microphone.len()).sum::<usize>() >= said.len()
    });
    let sessions = service.sessions();
    assert_eq!(sessions.len(), 5);
    let heard = [sessions[0].microphone.clone(), sessions[4].microphone.clone()].concat();
    assert!(heard == said, "{} of {} bytes, or others", heard.len(), said.len());
    assert_eq!(told_of_states(&client), ["connecting", "active"]);
    daemon.assert_counted("service_rollovers_total", "", 1);
}

#[test]
fn a_conversation_goes_on_over_the_sessions_of_the_simulator() {
    let service = Daemon::simulate(&["reply-seconds=1", "session-seconds=8"]);
    let daemon = Daemon::run(service.address, &[]);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    client.wait_for_next("response_done");
    let (expected, start) = (witness::pattern(1), Instant::now());
    let mut turns = 0;
    while start.elapsed() < Duration::from_secs(22) {
        client.audio.clear();
        let answers = client.of_type("response_done").len();
        client.speak(&[speech("weather"), vec![0; 96_000]].concat(), 1);
        while client.of_type("response_done").len() == answers {
            client.wait_for_next("response_done");
        }
        client.wait_for_audio(expected.len());
        assert!(client.audio == expected, "every byte of the answer, and no other");
        turns += 1;
    }
    assert!(turns >= 3, "{turns}");
    assert_eq!(told_of_states(&client), ["connecting", "active"], "{}", daemon.log());
    assert_eq!(client.of_type("error").len(), 0, "{}", client.told());
    let log = daemon.log();
    assert!(log.matches("went on to the next session").count() >= 2, "{log}");
}
