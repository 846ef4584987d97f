//! Long typed turns: the page's field and the daemon count the same, in every script.

use std::process::Command;

use crate::support;
use serde_json::{Value, json};
use support::client::Client;
use support::daemon::Daemon;

/// The limit in UTF-16 code units, and texts of just so many, with their bytes for each unit.
const MOST: usize = 8_192;
const LETTERS: [(&str, usize); 9] = [
    ("x", 1),
    ("\u{e9}", 1),
    ("\u{4e2d}", 1),
    ("\u{1f600}", 2),
    ("\u{20000}", 2),
    // A combining mark, a flag of two, a family of joined emoji, and right to left.
    ("e\u{301}", 2),
    ("\u{1f1e9}\u{1f1ea}", 4),
    ("\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}", 8),
    ("\u{5d0}\u{5b8}", 2),
];

#[test]
fn a_text_of_the_longest_length_is_answered_in_every_script() {
    let daemon = Daemon::demo(&[]);
    for (letter, units) in LETTERS {
        let mut client = Client::connect(daemon.address);
        client.wait_for("the welcome ends", |message| message["type"] == "response_done");
        let most = letter.repeat(MOST / units);
        client.tell(&json!({"type": "text", "text": format!("{most}x")}));
        client.tell(&json!({"type": "ping", "id": 1}));
        client.wait_for_next("pong");
        let errors: Vec<_> = client.of_type("error").iter().map(|e| e["code"].clone()).collect();
        assert_eq!(errors, ["text_too_long"], "{letter}");
        client.tell(&json!({"type": "text", "text": most}));
        let done = client.wait_for_next("response_done");
        assert_eq!(done["status"], "completed", "{letter}");
        assert_eq!(client.of_type("error").len(), 1, "{letter}");
    }
}

/// Twice the same number: in the page and in the daemon. The field itself has none, since it would cut what is
/// pasted without a word.
#[test]
fn the_pages_field_takes_as_much_as_the_daemon() {
    let read = |file: &str| {
        std::fs::read_to_string(format!("{}/frontend/{file}", env!("CARGO_MANIFEST_DIR")))
            .expect("the page")
    };
    assert!(read("call.js").contains(&format!("const MAX_TEXT_UNITS = {MOST};")));
    let page = read("index.html");
    let field = page.lines().find(|line| line.contains("id=\"text\"")).expect("the field");
    assert!(!field.contains("maxlength"), "{field}");
    assert_eq!(voicelived::call::client::MAX_TEXT_UNITS, MOST);
}

#[test]
fn voicelived_call_types_as_much_and_shows_only_what_was_taken() {
    let daemon = Daemon::demo(&[]);
    let call = |text: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_voicelived"));
        let url = format!("ws://{}/ws", daemon.address);
        let output = command.args(["call", "--url", &url, "--text", text]).env_clear().output();
        let output = output.expect("it runs");
        let said = String::from_utf8(output.stdout).expect("text");
        (output.status.code(), said, String::from_utf8(output.stderr).expect("text"))
    };
    let text = "\u{4e2d}".repeat(3_000);
    let (code, said, complaint) = call(&text);
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{said}");
    assert!(said.contains(&format!("you: {text}")));
    let (code, said, complaint) = call(&"\u{1f600}".repeat(MOST / 2 + 1));
    assert_eq!((code, said.as_str()), (Some(64), ""), "{complaint}");
    assert!(complaint.contains("8192 characters"), "{complaint}");
}

/// A daemon that takes less than this program: the text was not said, and the command says why.
#[test]
fn voicelived_call_does_not_show_a_refused_text_as_said() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        let mut socket = tungstenite_accept(listener.accept().expect("a client").0);
        for message in [
            json!({"type": "hello", "session": "s", "limits": {}}),
            json!({"type": "call_state", "state": "connecting"}),
            json!({"type": "call_state", "state": "active", "service": "azure"}),
        ] {
            socket.send(tungstenite::Message::text(message.to_string())).expect("it reads");
        }
        while let Ok(message) = socket.read() {
            let Ok(text) = message.to_text() else { continue };
            let message: Value = serde_json::from_str(text).unwrap_or_default();
            let answer = match message["type"].as_str() {
                Some("text") => json!({"type": "error", "code": "text_too_long",
                    "message": "A typed turn may have 5 bytes at most."}),
                Some("ping") => json!({"type": "pong", "id": message["id"]}),
                Some("hang_up") => return,
                _ => continue,
            };
            let _ = socket.send(tungstenite::Message::text(answer.to_string()));
        }
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_voicelived"));
    command.args(["call", "--url", &format!("ws://{address}/ws"), "--text", "Hello there"]);
    let output = command.env_clear().output().expect("it runs");
    let said = String::from_utf8(output.stdout).expect("text");
    let complaint = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(!said.contains("you:"), "{said}");
    assert!(complaint.contains("5 bytes at most"), "{complaint}");
}

/// The server's half of a handshake that is not looked at.
fn tungstenite_accept(
    mut socket: std::net::TcpStream,
) -> tungstenite::protocol::WebSocket<std::net::TcpStream> {
    use std::io::{Read, Write};
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("ASCII");
    let key =
        head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
    let accept = voicelived::net::upgrade::accept_key(key);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    socket.write_all(answer.as_bytes()).expect("it reads");
    tungstenite::protocol::WebSocket::from_raw_socket(
        socket,
        tungstenite::protocol::Role::Server,
        None,
    )
}
