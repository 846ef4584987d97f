//! `voicelived call` takes its call up again: against a daemon's side that the test plays, and against
//! the daemon through a relay that breaks.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support;
use serde_json::{Value, json};
use support::client::{Client, speech};
use support::daemon::{Daemon, PATIENCE};
use support::standin::read_head;
use support::switch::Switch;
use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Error, Message};

const AUDIO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/audio");
const SECRET: &str = "00112233445566778899aabbccddeeff";
const FRAME: usize = 960;

/// The daemon's side, played by the test: one connection after another.
struct Played {
    listener: TcpListener,
    process: Child,
    socket: WebSocket<TcpStream>,
    /// The query of the present connection.
    query: String,
    /// All sound, over all connections.
    sound: Vec<u8>,
}

impl Played {
    /// Starts the command and takes its call.
    fn call(arguments: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("ws://{}/ws", listener.local_addr().expect("bound"));
        let process = Command::new(env!("CARGO_BIN_EXE_voicelived"))
            .args(["call", "--url", &url])
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let (socket, query) = accept(&listener);
        Self { listener, process, socket, query, sound: Vec::new() }
    }

    fn say(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).expect("it listens");
    }

    fn hello(&mut self, resumed: bool, seconds: u64, more: &Value) {
        let mut hello = json!({"type": "hello", "session": "s", "resume": SECRET,
            "resumed": resumed, "limits": {"resume_seconds": seconds}});
        if let (Some(hello), Some(more)) = (hello.as_object_mut(), more.as_object()) {
            hello.extend(more.clone());
        }
        self.say(&hello);
        self.say(&json!({"type": "call_state", "state": "active"}));
    }

    /// Ends the connection without a close frame, and takes the next one.
    fn cut(&mut self) {
        let _ = self.socket.get_ref().shutdown(Shutdown::Both);
        self.accept();
    }

    fn accept(&mut self) {
        (self.socket, self.query) = accept(&self.listener);
    }

    /// Reads until the command has said this, or so many bytes of sound in all.
    fn read_until(&mut self, word: &str, bytes: usize) {
        loop {
            match self.socket.read().expect("it goes on") {
                Message::Text(text) if text.contains(word) => return,
                Message::Binary(frame) => self.sound.extend_from_slice(&frame),
                _ => {}
            }
            if self.sound.len() >= bytes {
                return;
            }
        }
    }

    fn answer(&mut self) {
        for message in [
            json!({"type": "response_started"}),
            json!({"type": "transcript", "role": "assistant", "item_id": "a1", "text": "Yes."}),
            json!({"type": "response_done", "status": "completed"}),
        ] {
            self.say(&message);
        }
    }

    /// What the command has told: exit code, standard output, standard error.
    fn told(self) -> (i32, String, String) {
        let output = self.process.wait_with_output().expect("it ends");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        (output.status.code().expect("a code"), text(&output.stdout), text(&output.stderr))
    }

    /// The call is over in order.
    fn end(mut self) -> (i32, String, String) {
        self.say(&json!({"type": "call_state", "state": "ended", "reason": "hang_up"}));
        let _ = self.socket.close(None);
        while self.socket.read().is_ok() {}
        self.told()
    }
}

fn accept(listener: &TcpListener) -> (WebSocket<TcpStream>, String) {
    let (mut socket, _) = listener.accept().expect("it connects");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let head = read_head(&mut socket);
    let target = head.split(' ').nth(1).expect("a target");
    let query = target.split_once('?').expect("a query").1.to_owned();
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        voicelived::net::upgrade::accept_key(key.expect("a key"))
    );
    socket.write_all(answer.as_bytes()).expect("it reads");
    (WebSocket::from_raw_socket(socket, Role::Server, None), query)
}

#[test]
fn a_broken_connection_is_replaced_and_the_typed_turn_is_not_lost() {
    let mut daemon = Played::call(&["--text", "hello"]);
    assert_eq!(daemon.query, "resume&barge_in=hold");
    daemon.hello(false, 30, &json!({}));
    daemon.socket.send(Message::binary(vec![0; 4_800])).expect("it listens");
    daemon.read_until(r#""text":"hello""#, usize::MAX);
    daemon.cut();
    assert_eq!(daemon.query, format!("resume={SECRET}&received=4800&messages=2"));
    daemon.hello(true, 30, &json!({"resume": "f".repeat(32)}));
    // Its pong is not among what was missed, so the daemon has not had it.
    daemon.read_until(r#""text":"hello""#, usize::MAX);
    daemon.say(&json!({"type": "pong", "id": "typed"}));
    daemon.cut();
    assert_eq!(daemon.query, format!("resume={}&received=4800&messages=5", "f".repeat(32)));
    daemon.hello(true, 30, &json!({}));
    daemon.answer();
    daemon.read_until("hang_up", usize::MAX);
    let (code, lines, fault) = daemon.end();
    assert_eq!(code, 0, "{lines}{fault}");
    let lost = "state: reconnecting (the connection to the daemon was lost)";
    assert_eq!(lines.matches(lost).count(), 2, "{lines}");
    assert_eq!(lines.matches("you: hello").count(), 1, "{lines}");
}

#[test]
fn speech_that_the_daemon_has_not_heard_is_sent_again_from_there() {
    let file = format!("{AUDIO}/weather.wav");
    let mut daemon = Played::call(&["--in", &file]);
    daemon.hello(false, 30, &json!({}));
    daemon.read_until("never", 60 * FRAME);
    // The last ten frames were lost on their way.
    daemon.sound.truncate(50 * FRAME);
    daemon.cut();
    daemon.hello(true, 30, &json!({"heard": 50 * FRAME}));
    daemon.read_until("end_turn", usize::MAX);
    let speech = std::fs::read(&file).expect("a file")[44..].to_vec();
    assert!(daemon.sound[..speech.len()] == speech, "a word is missing, or is there twice");
    daemon.say(&json!({"type": "speech_stopped", "item_id": "u1"}));
    daemon.answer();
    daemon.read_until("hang_up", usize::MAX);
    let (code, lines, fault) = daemon.end();
    assert_eq!(code, 0, "{lines}{fault}");
}

#[test]
fn a_silent_connection_is_doubted() {
    let mut daemon = Played::call(&["--text", "hello"]);
    daemon.hello(false, 30, &json!({}));
    daemon.read_until(r#""text":"hello""#, usize::MAX);
    daemon.read_until(r#""id":"line""#, usize::MAX);
    daemon.say(&json!({"type": "pong", "id": "line"}));
    daemon.read_until(r#""id":"line""#, usize::MAX);
    let silent = std::mem::take(&mut daemon.query);
    daemon.accept();
    assert!(
        silent == "resume&barge_in=hold" && daemon.query.starts_with("resume=0011"),
        "{}",
        daemon.query
    );
    daemon.hello(true, 30, &json!({}));
    daemon.say(&json!({"type": "pong", "id": "typed"}));
    daemon.answer();
    daemon.read_until("hang_up", usize::MAX);
    assert_eq!(daemon.end().0, 0);
}

#[test]
fn a_call_that_cannot_be_joined_again_has_failed_and_says_why() {
    // Refused.
    let mut daemon = Played::call(&["--text", "hello"]);
    daemon.hello(false, 30, &json!({}));
    daemon.cut();
    let why = "The call has ended meanwhile.";
    daemon.say(&json!({"type": "call_state", "state": "ended", "reason": "resume_refused",
        "message": why}));
    let _ = daemon.socket.close(None);
    let (code, lines, fault) = daemon.told();
    assert!(code == 1 && fault.contains(why) && fault.contains("resume_refused"), "{fault}");
    assert!(lines.contains("state: ended (resume_refused)"), "{lines}");
    // A daemon that has begun another call.
    let mut daemon = Played::call(&["--text", "hello"]);
    daemon.hello(false, 30, &json!({}));
    daemon.cut();
    daemon.hello(false, 30, &json!({}));
    daemon.read_until("hang_up", usize::MAX);
    let (code, lines, fault) = daemon.end();
    assert!(code == 1 && fault.contains("begun another"), "{lines}{fault}");
    // No daemon any more.
    let mut daemon = Played::call(&["--text", "hello"]);
    daemon.hello(false, 1, &json!({}));
    let Played { listener, process, socket, query, sound } = daemon;
    let _ = socket.get_ref().shutdown(Shutdown::Both);
    drop((listener, query, sound));
    let output = process.wait_with_output().expect("it ends");
    let fault = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && fault.contains("was lost"), "{fault}");
}

#[test]
fn a_goodbye_and_a_daemon_that_holds_no_calls_are_the_end() {
    for (seconds, goodbye) in [(30, true), (0, false)] {
        let mut daemon = Played::call(&["--text", "hello"]);
        daemon.hello(false, seconds, &json!({}));
        daemon.read_until(r#""text":"hello""#, usize::MAX);
        if goodbye {
            let _ = daemon.socket.close(None);
            while !matches!(daemon.socket.read(), Err(Error::ConnectionClosed | Error::Io(_))) {}
        } else {
            let _ = daemon.socket.get_ref().shutdown(Shutdown::Both);
        }
        daemon.listener.set_nonblocking(true).expect("a socket");
        let Played { listener, process, .. } = daemon;
        let output = process.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(1));
        assert!(listener.accept().is_err(), "it came again");
    }
}

#[test]
fn control_c_ends_the_waiting_for_a_daemon() {
    let mut daemon = Played::call(&["--text", "hello"]);
    daemon.hello(false, 60, &json!({}));
    let id = daemon.process.id().to_string();
    let Played { listener, process, socket, .. } = daemon;
    drop(listener);
    let _ = socket.get_ref().shutdown(Shutdown::Both);
    std::thread::sleep(Duration::from_millis(500));
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().expect("kill").success());
    let output = process.wait_with_output().expect("it ends");
    let fault = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && fault.contains("stopped before"), "{fault}");
}

#[test]
fn a_call_through_a_network_that_breaks_is_answered_in_full() {
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let switch = Switch::to(nowhere);
    let origin = format!("http://{}", switch.address);
    let daemon = Daemon::demo(&[("VOICELIVED_ALLOWED_ORIGINS", &origin)]);
    switch.turn_to(daemon.address);
    let out = std::env::temp_dir().join(format!("voicelived-{}-again.wav", std::process::id()));
    let mut process = Command::new(env!("CARGO_BIN_EXE_voicelived"))
        .args(["call", "--url", &format!("ws://{}/ws", switch.address)])
        .args(["--in", &format!("{AUDIO}/weather.wav"), "--out", out.to_str().expect("UTF-8")])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = String::new();
    for line in BufReader::new(process.stdout.take().expect("piped")).lines() {
        let line = line.expect("UTF-8");
        // Once while it speaks, and once while the answer comes.
        if line.starts_with("state: active (") && !lines.contains("reconnecting") {
            std::thread::sleep(Duration::from_secs(1));
            switch.cut();
        } else if line.starts_with("latency: ") {
            switch.cut();
        }
        lines += &line;
        lines.push('\n');
    }
    assert!(process.wait().expect("it ends").success(), "{lines}");
    assert_eq!(lines.matches("state: reconnecting").count(), 2, "{lines}");
    assert_eq!(switch.visits(), 3, "{lines}");
    let answer = std::fs::read(&out).expect("an answer");
    std::fs::remove_file(&out).expect("it is ours");
    // The simulator says what it heard. A sample that is missing or is there twice would show.
    let question = [speech("weather"), vec![0; 48_000]].concat();
    let answer = &answer[44..];
    assert!(answer.len() > 100_000, "{} bytes", answer.len());
    assert!(question.windows(answer.len()).any(|piece| piece == answer), "{lines}");
}

/// What was under way to the daemon when the connection broke is known to the byte.
#[test]
fn the_daemon_says_how_much_of_the_microphone_it_has_had() {
    let daemon = Daemon::demo(&[]);
    let mut client = Client::join(daemon.address, "resume", "");
    client.wait_until_active();
    assert_eq!(client.of_type("hello")[0].get("heard"), None, "nothing yet");
    let mut sent = 0;
    for bytes in [9_600, 48_000, 962] {
        client.speak(&vec![0; bytes], 50);
        // All of it has been read before the pong leaves.
        client.tell(&json!({"type": "ping", "id": bytes}));
        client.wait_for("the pong", |message| message["id"] == bytes);
        sent += bytes;
        client = client.cut().join(daemon.address, "");
        client.wait_for("hello", |message| message["heard"] == sent);
    }
}
