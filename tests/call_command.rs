//! `voicelived call` as its users run it: against the daemon, and against servers of every kind.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support;
use support::client::speech;
use support::daemon::Daemon;
use support::standin::read_head;
use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocket};

const AUDIO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/audio");

fn command(address: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_voicelived"));
    command.args(["call", "--url", &format!("ws://{address}/ws")]).args(arguments).env_clear();
    command
}

fn call(address: SocketAddr, arguments: &[&str]) -> (i32, String, String) {
    told(&command(address, arguments).stdin(Stdio::null()).output().expect("it runs"))
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (output.status.code().expect("a code"), text(&output.stdout), text(&output.stderr))
}

/// A file of this test's own, not there yet.
fn temporary(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("voicelived-call-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

#[test]
fn a_spoken_question_is_answered_into_a_file() {
    let daemon = Daemon::demo(&[]);
    let out = temporary("spoken.wav");
    let began = Instant::now();
    let input = format!("{AUDIO}/weather.wav");
    let (code, lines, fault) =
        call(daemon.address, &["--in", &input, "--out", out.to_str().expect("UTF-8")]);
    assert_eq!(code, 0, "{lines}{fault}");
    assert!(began.elapsed() > Duration::from_secs(3), "the question takes its real time");
    assert!(lines.contains("\nyou: ") && lines.contains("\nassistant: "), "{lines}");
    assert!(lines.contains("\nlatency: ") && lines.contains("state: active (the simulator"));
    assert!(lines.contains("state: ended (hang_up)"), "{lines}");
    let answer = std::fs::read(&out).expect("an answer");
    std::fs::remove_file(&out).expect("it is ours");
    // The simulator says what it heard: the answer is a piece of the question, and no welcome.
    let question = [speech("weather"), vec![0; 48_000]].concat();
    let answer = &answer[44..];
    assert!(answer.len() > 48_000, "{} bytes", answer.len());
    assert!(question.windows(answer.len()).any(|piece| piece == answer));
}

#[test]
fn a_typed_turn_waits_for_the_welcome_and_the_tool() {
    let daemon = Daemon::demo(&[]);
    let turn_after_welcome = || {
        let (code, lines, fault) = call(daemon.address, &["--text", "the weather?"]);
        assert_eq!(code, 0, "{lines}{fault}");
        let at = |text: &str| lines.find(text).unwrap_or_else(|| panic!("no {text}: {lines}"));
        let last = lines.rfind("assistant: ").expect("found");
        assert!(at("tool: get_weather done") < last, "{lines}");
        at("assistant: ") < at("you: the weather?")
    };
    // It waits for a welcome for a second, in which one begins. On a busy machine it may be later.
    assert!((0..4).any(|_| turn_after_welcome()), "each turn came before the welcome");
}

#[test]
fn standard_input_may_come_in_drops() {
    let daemon = Daemon::demo(&[]);
    let mut process = command(daemon.address, &["--in", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut pipe = process.stdin.take().expect("piped");
    for part in speech("greeting").chunks(4_801) {
        pipe.write_all(part).expect("it reads");
        std::thread::sleep(Duration::from_millis(90));
    }
    drop(pipe);
    let (code, lines, fault) = told(&process.wait_with_output().expect("it ends"));
    assert_eq!(code, 0, "{lines}{fault}");
}

#[test]
fn a_daemon_with_its_own_authority_is_trusted_by_name() {
    let state = temporary("state");
    let folder = state.to_str().expect("UTF-8");
    let token = "canary-token-66ab/+=%";
    let daemon = Daemon::demo(&[
        ("VOICELIVED_TLS_LISTEN", "127.0.0.1:0"),
        ("VOICELIVED_STATE_DIR", folder),
        ("VOICELIVED_ACCESS_TOKEN", token),
    ]);
    let port = daemon.secure_address().port();
    let ca = state.join("ca.pem");
    let ca = ca.to_str().expect("UTF-8");
    let call = |host: &str, more: &[&str], token: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_voicelived"));
        let url = format!("wss://{host}:{port}/ws");
        command.args(["call", "--url", &url, "--text", "the weather?"]).args(more);
        command.env_clear().env("VOICELIVED_ACCESS_TOKEN", token).stdin(Stdio::null());
        let (code, lines, fault) = told(&command.output().expect("it runs"));
        assert!(!format!("{lines}{fault}").contains("canary"), "{lines}{fault}");
        (code, lines, fault)
    };
    for host in ["localhost", "127.0.0.1"] {
        let (code, lines, fault) = call(host, &["--ca", ca], token);
        assert_eq!(code, 0, "{lines}{fault}");
        assert!(lines.contains("tool: get_weather done"), "{lines}");
    }
    let (code, _, fault) = call("localhost", &[], token);
    assert!(code == 69 && fault.contains("--ca"), "{fault}");
    let other = temporary("other-ca.pem");
    std::fs::write(&other, support::certificates::Authority::new("other").pem).expect("a file");
    let (code, _, fault) = call("localhost", &["--ca", other.to_str().expect("UTF-8")], token);
    assert!(code == 69 && fault.contains("not trusted"), "{fault}");
    let (code, _, fault) = call("localhost", &["--ca", ca], "canary-wrong-66ab/+=%");
    assert!(code == 69 && fault.contains("401"), "{fault}");
    let (code, _, fault) = call("localhost", &["--ca", "/nonexistent"], token);
    assert!(code == 66 && fault.contains("/nonexistent"), "{fault}");
    let (code, _, fault) = call("localhost", &["--ca", "/dev/null"], token);
    assert!(code == 65 && fault.contains("no certificate"), "{fault}");
    std::fs::remove_file(&other).expect("ours");
    drop(daemon);
    std::fs::remove_dir_all(&state).expect("ours");
}

#[test]
fn what_is_not_answered_says_why() {
    let service = Daemon::simulate(&["no-welcome", "no-reply"]);
    let daemon = Daemon::run(service.address, &[]);
    let out = temporary("unanswered.wav");
    let arguments = ["--text", "hello", "--timeout", "3", "--out", out.to_str().expect("UTF-8")];
    let (code, _, fault) = call(daemon.address, &arguments);
    assert_eq!((code, fault.lines().count()), (1, 1), "{fault}");
    assert!(fault.contains("no answer came within 3 s"), "{fault}");
    assert!(!out.exists(), "no empty answer");
    let silence = format!("{AUDIO}/silence-1s.wav");
    let (code, _, fault) = call(daemon.address, &["--in", &silence, "--timeout", "3"]);
    assert!(code == 1 && fault.contains("heard no turn"), "{fault}");
}

#[test]
fn a_failed_response_and_a_refused_call_are_told() {
    let failing = Daemon::simulate(&["no-welcome", "fail-response"]);
    let daemon = Daemon::run(failing.address, &[]);
    let (code, _, fault) = call(daemon.address, &["--text", "hello"]);
    assert!(code == 1 && fault.contains("could not answer"), "{fault}");
    let refusing = Daemon::simulate(&["refuse=401"]);
    let daemon = Daemon::run(refusing.address, &[]);
    let (code, lines, fault) = call(daemon.address, &["--text", "hello"]);
    assert!(code == 1 && fault.contains("AZURE_VOICE_LIVE_API_KEY"), "{fault}");
    assert!(lines.contains("state: ended (unauthorized)"), "{lines}");
}

#[test]
fn control_c_hangs_up_in_order() {
    let service = Daemon::simulate(&["no-welcome", "no-reply"]);
    let daemon = Daemon::run(service.address, &[]);
    let mut process = command(daemon.address, &["--text", "hello"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut output = BufReader::new(process.stdout.take().expect("piped"));
    let mut lines = String::new();
    while !lines.contains("you: hello") {
        assert!(output.read_line(&mut lines).expect("UTF-8") > 0, "it ends: {lines}");
    }
    let id = process.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().expect("kill").success());
    output.read_to_string(&mut lines).expect("UTF-8");
    let (code, _, fault) = told(&process.wait_with_output().expect("it ends"));
    assert!(code == 1 && fault.contains("stopped before"), "{fault}");
    assert!(lines.contains("state: ended (hang_up)"), "{lines}");
}

/// The daemon's side of a call, played by the test.
struct Played(WebSocket<std::net::TcpStream>);

impl Played {
    /// Starts the command with these arguments, and takes its call.
    fn call(arguments: &[&str]) -> (Self, std::process::Child) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let process = command(listener.local_addr().expect("bound"), arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let (mut socket, _) = listener.accept().expect("it connects");
        let head = read_head(&mut socket);
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let accept = voicelived::net::upgrade::accept_key(key.expect("a key"));
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        socket.write_all(answer.as_bytes()).expect("it reads");
        let mut played = Self(WebSocket::from_raw_socket(socket, Role::Server, None));
        played.say(r#"{"type":"call_state","state":"active"}"#);
        (played, process)
    }

    fn say(&mut self, message: &str) {
        self.0.send(Message::text(message)).expect("it listens");
    }

    /// Waits until the command says this.
    fn wait_for(&mut self, word: &str) {
        while !matches!(self.0.read(), Ok(Message::Text(text)) if text.contains(word)) {}
    }

    /// The call is over: what the command has told.
    fn end(mut self, process: std::process::Child) -> (i32, String, String) {
        self.say(r#"{"type":"call_state","state":"ended","reason":"hang_up"}"#);
        let _ = self.0.close(None);
        while self.0.read().is_ok() {}
        told(&process.wait_with_output().expect("it ends"))
    }
}

/// The daemon's last words may come late, such as what the call has cost.
#[test]
fn a_goodbye_is_waited_for_longer_than_three_seconds() {
    let (mut daemon, process) = Played::call(&["--text", "hello", "--timeout", "1"]);
    // Its turn gets no answer, so it hangs up.
    daemon.wait_for("hang_up");
    std::thread::sleep(Duration::from_secs(3));
    let (code, lines, fault) = daemon.end(process);
    assert!(code == 1 && fault.contains("no answer came"), "{fault}");
    assert!(lines.contains("state: ended (hang_up)"), "it left before the last word: {lines}");
}

#[test]
fn what_was_said_is_printed_in_the_order_of_the_conversation() {
    let (mut daemon, process) = Played::call(&["--text", "hello"]);
    daemon.wait_for("hello");
    daemon.say(r#"{"type":"pong","id":"typed"}"#);
    let speech = |item: &str| {
        ["started", "stopped"]
            .map(|kind| format!(r#"{{"type":"speech_{kind}","item_id":"{item}"}}"#))
    };
    let words = |role: &str, item: &str, text: &str| {
        format!(r#"{{"type":"transcript","role":"{role}","item_id":"{item}","text":"{text}"}}"#)
    };
    // The words of two turns come the wrong way round, and those of the third after the answer to it.
    for message in [speech("u1"), speech("u2"), speech("u3")].as_flattened() {
        daemon.say(message);
    }
    daemon.say(&words("user", "u2", "Second."));
    daemon.say(&words("user", "u1", "First."));
    daemon.say(r#"{"type":"response_started"}"#);
    daemon.say(&words("assistant", "a1", "Answer."));
    daemon.say(r#"{"type":"transcript_failed","item_id":"u3"}"#);
    daemon.say(r#"{"type":"response_done","status":"completed"}"#);
    daemon.wait_for("hang_up");
    // What waits for words that never come is printed at the latest at the end.
    for message in &speech("u4") {
        daemon.say(message);
    }
    daemon.say(&words("assistant", "a2", "Good bye."));
    let (code, lines, fault) = daemon.end(process);
    assert_eq!(code, 0, "{lines}{fault}");
    let said: Vec<_> = lines.lines().filter(|line| !line.starts_with("latency")).collect();
    let expected = [
        "state: active",
        "you: hello",
        "you: First.",
        "you: Second.",
        "you: (no transcript)",
        "assistant: Answer.",
        "assistant: Good bye.",
        "state: ended (hang_up)",
    ];
    assert_eq!(said, expected);
}

#[test]
fn no_daemon_and_no_websocket_are_exit_69() {
    // Nobody listens there, nor can another test get this port.
    let closed = SocketAddr::from(([127, 0, 0, 1], 1));
    let (code, _, fault) = call(closed, &["--text", "hello"]);
    assert!(code == 69 && fault.contains("no daemon answers"), "{fault}");

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a client");
        let _ = socket.read(&mut [0; 4096]);
        let body = "no \u{1b}[2Jwebsocket\r\nhere";
        let head = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = socket.write_all(format!("{head}{body}").as_bytes());
    });
    let (code, _, fault) = call(address, &["--text", "hello"]);
    server.join().expect("it ends");
    assert!(code == 69 && fault.contains("404") && fault.contains("/ws"), "{fault}");
    assert_eq!(fault.matches(char::is_control).count(), 1, "{fault:?}");
}

#[test]
fn the_address_of_the_page_leads_to_calls_and_a_page_is_not_printed() {
    let daemon = Daemon::demo(&[]);
    let run = |url: String| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_voicelived"));
        command.args(["call", "--text", "hello", "--url", &url]).env_clear().stdin(Stdio::null());
        told(&command.output().expect("it runs"))
    };
    for url in ["ws", "http"].map(|scheme| format!("{scheme}://{}", daemon.address)) {
        let (code, lines, fault) = run(url);
        assert_eq!(code, 0, "{lines}{fault}");
    }
    let (code, lines, fault) = run(format!("ws://{}/app.js", daemon.address));
    assert!(code == 69 && fault.contains("/ws") && fault.lines().count() == 1, "{fault}");
    assert!(lines.is_empty() && !fault.contains("import"), "{lines}{fault}");
}

#[test]
fn a_token_is_not_sent_through_a_network_unencrypted() {
    // An address of documentation: nothing may be sent there.
    let url = "ws://192.0.2.1:8000/ws";
    let folder = temporary("unencrypted");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join(".env"), "VOICELIVED_ACCESS_TOKEN=canary-0123456789\n").expect("ok");
    let run = |variable: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_voicelived"));
        command.args(["call", "--url", url, "--text", "hi", "--timeout", "1"]);
        command.env_clear().current_dir(&folder).stdin(Stdio::null());
        command.envs(variable.map(|token| ("VOICELIVED_ACCESS_TOKEN", token)));
        told(&command.output().expect("it runs"))
    };
    let (code, _, fault) = run(None);
    assert!(code == 64 && fault.contains("unencrypted"), "the token of .env: {fault}");
    assert!(fault.contains("wss://") && !fault.contains("canary"), "{fault}");
    let (code, _, fault) = run(Some("canary-0123456789"));
    assert!(code == 64 && fault.contains("unencrypted"), "the environment's token: {fault}");
    std::fs::remove_dir_all(&folder).expect("ours");
}

#[test]
fn speech_that_is_none_ends_the_call_at_once() {
    let daemon = Daemon::demo(&[]);
    let empty = temporary("empty.wav");
    let header = std::fs::read(format!("{AUDIO}/greeting.wav")).expect("a file")[..40].to_vec();
    std::fs::write(&empty, [&header[..], &[0; 4]].concat()).expect("a file");
    let (code, lines, fault) = call(daemon.address, &["--in", empty.to_str().expect("UTF-8")]);
    assert!(code == 65 && fault.contains("no sound") && lines.is_empty(), "{lines}{fault}");
    std::fs::remove_file(&empty).expect("ours");
    let wav = std::fs::read(format!("{AUDIO}/greeting.wav")).expect("a file");
    for (bytes, word) in [(&b""[..], "empty"), (b"ID3\x04\0\0\0\0", "MP3"), (&wav, "/dev/stdin")] {
        let began = Instant::now();
        let mut process = command(daemon.address, &["--in", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        // It may have ended before it has read all.
        let _ = process.stdin.take().expect("piped").write_all(bytes);
        let (code, lines, fault) = told(&process.wait_with_output().expect("it ends"));
        assert!(code == 65 && fault.contains(word), "{word}: {lines}{fault}");
        assert!(began.elapsed() < Duration::from_secs(29), "{word}: it did not wait its 30 s");
    }
}

#[test]
fn files_that_cannot_be_used_have_their_own_codes() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let codes = [
        (&["--in", "/nonexistent.wav"][..], 66),
        (&["--in", "/dev/null"], 65),
        (&["--text", "hi", "--out", "/nonexistent/a.wav"], 73),
        (&["--text", " "], 64),
        (&["--timeout", "never"], 64),
    ];
    for (arguments, expected) in codes {
        let (code, lines, fault) = call(nowhere, arguments);
        assert_eq!((code, fault.lines().count(), lines.as_str()), (expected, 1, ""), "{fault}");
    }
}
