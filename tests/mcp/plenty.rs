//! A server that is slow, dead, or lists 500 tools delays neither the daemon's start, nor a call's, nor audio. No
//! clock judges that: each server stands still until all of it has happened.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Map, Value, json};
use tungstenite::Message;

use super::{entry, file};
use crate::support::client::Client;
use crate::support::daemon::{Daemon, PATIENCE};
use crate::support::service::Service;

/// A call whose microphone the stand-in for the service plays back.
struct Talk {
    client: Client,
    sent: Vec<u8>,
}

impl Talk {
    fn begin(daemon: &Daemon) -> Self {
        let mut client = Client::connect(daemon.address);
        client.wait_until_active();
        Self { client, sent: Vec::new() }
    }

    /// Speaks a frame of 20 ms, and hears it before the next one. No two frames are alike.
    fn frames(&mut self, count: usize) {
        for _ in 0..count {
            let number = self.sent.len() / 960;
            let sample = |at: usize| ((number * 480 + at) * 31 % 32_749).to_le_bytes();
            let frame: Vec<u8> = (0..480).flat_map(|at| [sample(at)[0], sample(at)[1]]).collect();
            self.sent.extend_from_slice(&frame);
            self.client.send(Message::binary(frame));
            self.client.wait_for_audio(self.sent.len());
        }
        assert!(self.client.audio == self.sent, "the audio is another one");
    }
}

/// How many tools the service was told of last.
fn told(service: &Service) -> usize {
    service.calls().last().map_or(0, |call| tools(&call.session))
}

fn tools(session: &Value) -> usize {
    session["tools"].as_array().map_or(0, Vec::len)
}

#[test]
fn servers_that_are_slow_dead_or_list_500_tools_delay_neither_starts_nor_audio() {
    let gate = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("mcp-plenty-gate");
    let _ = std::fs::remove_dir_all(&gate);
    std::fs::create_dir_all(&gate).expect("a folder");
    let open = |name: &str| std::fs::write(gate.join(name), "").expect("a file");
    let mut many = entry("lists 500 when it is let");
    many["env"]["GATE"] = json!(gate);
    let servers = Map::from_iter([
        ("dead".to_owned(), entry("dies at the start")),
        ("many".to_owned(), many),
        ("mute".to_owned(), json!({ "command": "sleep", "args": ["600"] })),
    ]);
    let path = file("plenty", &servers);
    let service = Service::new();
    let settings: [(&str, &str); 3] = [
        ("VOICELIVED_MCP_FILE", path.to_str().expect("text")),
        ("VOICELIVED_MCP_SCHEMA_KIB", "1024"),
        ("VOICELIVED_LOG", "debug"),
    ];
    // It listens, a call begins, and audio flows, before any server has told a tool.
    let daemon = Daemon::run(service.address, &settings);
    let mut talk = Talk::begin(&daemon);
    talk.frames(25);
    let own = told(&service);
    assert!((1..10).contains(&own), "{own} tools");
    // The loop has read half of a long list, and waits for the rest.
    open("first");
    daemon.wait_until("half of the list is read", |_| gate.join("half").exists());
    talk.frames(25);
    let mut second = Talk::begin(&daemon);
    second.frames(5);
    assert_eq!(told(&service), own);
    // The rest comes while both speak.
    open("second");
    let deadline = Instant::now() + PATIENCE;
    while !service.calls().iter().any(|call| tools(&call.session) == own + 500) {
        assert!(Instant::now() < deadline, "running calls are not told: {}", daemon.log());
        talk.frames(1);
        second.frames(1);
    }
    daemon.wait_for_log("mcp: 500 tools are offered");
    talk.frames(25);
    let mut third = Talk::begin(&daemon);
    third.frames(5);
    assert_eq!(told(&service), own + 500);
    assert_eq!((daemon.threads(), daemon.count("mcp_servers_ready", "")), (1, 1));
    drop((talk, second, third));
    assert_eq!(daemon.stop("TERM"), Some(0));
}
