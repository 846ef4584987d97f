//! What the Python sample got wrong, a test each.

mod support;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use support::client::{Client, speech};
use support::daemon::Daemon;
use support::witness::Witness;
use voicelived::access::{Access, Gate};
use voicelived::call::CallSettings;
use voicelived::call::service::session::{SessionSettings, session_object};
use voicelived::net::dial::Target;
use voicelived::server::reload::Terms;
use voicelived::server::{Calls, Listen, Server, bind};
use voicelived::tools::Tools;
use voicelived::web::{CallSite, Site};

/// How long a slow tool takes.
const SLOW: Duration = Duration::from_secs(2);

/// A daemon in a thread of this process, whose tools run through `script`: it gets the program
/// as `$0`, and the tool's name as `$2`. The thread ends with the process.
fn daemon_with_tools(service: SocketAddr, script: &str) -> SocketAddr {
    let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let address = socket.local_addr().expect("it is bound");
    let program = slow_program(address.port(), script);
    std::thread::spawn(move || {
        let tools = Tools::builtin(&program);
        let session = SessionSettings {
            model: "m".to_owned(),
            voice: "en-US-AvaNeural".to_owned(),
            instructions: None,
            language: None,
            tools: tools.schemas(),
            overrides: serde_json::Map::new(),
        };
        let settings = CallSettings {
            session: session_object(&session),
            greeting: None,
            idle: Duration::from_secs(60),
            max_duration: Duration::from_secs(600),
        };
        let target = Target {
            host: service.ip().to_string(),
            port: service.port(),
            request_target: "/voice-live/realtime?api-version=1&model=m".to_owned(),
            host_field: service.to_string(),
            credential: "api-key: k".to_owned(),
            tls: None,
        };
        let gate = Gate::new(false, address, Vec::new());
        let site = Site::Calls(CallSite { gate, simulated: true, https: None, ca_pem: None });
        let calls = Calls {
            terms: Terms {
                access: Access::Open,
                settings: Rc::new(settings),
                target: Rc::new(target),
                unready: None,
            },
            reread: Box::new(|| Err("nothing is read again".to_owned())),
            certificates: None,
            spending: None,
            tools,
            program,
            max_sessions: 4,
            max_sessions_per_address: 4,
            pool_blocks: 2000,
            drain: Duration::ZERO,
        };
        let door = Listen { socket, site, tls: None, passed: false };
        let server = Server::new(vec![door], Some(calls));
        server.and_then(Server::run).expect("it serves");
    });
    address
}

/// The daemon's program with `script` in front of it.
fn slow_program(name: u16, script: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("slow-tool-{name}"));
    let program = env!("CARGO_BIN_EXE_voicelived");
    fs::write(&path, format!("#!/bin/sh\n{script}\nexec '{program}' \"$@\"\n")).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
    path
}

fn slow_weather() -> String {
    format!("[ \"$2\" = get_weather ] && sleep {}", SLOW.as_secs())
}

fn open(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client.wait_until_active();
    client
}

fn ask_for(client: &mut Client, words: &str) {
    client.tell(&json!({"type": "text", "text": words}));
    client.wait_for("the tool", |message| message["state"] == "running");
}

#[test]
fn a_silent_client_keeps_its_call_until_the_idle_limit_and_hears_why() {
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_IDLE_SECONDS", "3")]);
    let before = daemon.descriptors();
    let mut client = open(daemon.address);
    let (active, work) = (Instant::now(), daemon.processor_time());
    let message = client.assert_ends("silence", 1000, "idle");
    assert_eq!(message, "Nobody has spoken for 3 seconds, so the call was ended.");
    let lasted = active.elapsed().as_secs_f64();
    assert!((2.9..4.5).contains(&lasted), "{lasted} s");
    assert_eq!(client.of_type("error")[0]["code"], "idle_soon");
    let used = daemon.processor_time() - work;
    assert!(used < Duration::from_millis(50), "the loop turns for nothing: {used:?}");
    daemon.assert_nothing_left(before);
}

#[test]
fn after_ended_nothing_comes_and_the_socket_closes_at_once() {
    let service = Daemon::simulate(&["reply-seconds=60"]);
    let daemon = Daemon::run(service.address, &[]);
    let mut client = open(daemon.address);
    client.wait_for_audio(48_000);
    client.tell(&json!({"type": "hang_up"}));
    client.wait_for("ended", |message| message["state"] == "ended");
    let (heard, start) = (client.audio.len(), Instant::now());
    client.assert_ends("hanging up", 1000, "hang_up");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(client.messages.last().expect("messages").1["state"], "ended");
    assert_eq!(client.audio.len(), heard);
}

#[test]
fn what_is_said_while_a_tool_runs_is_heard_and_answered() {
    let service = Daemon::simulate(&["no-welcome"]);
    let mut client = open(daemon_with_tools(service.address, &slow_weather()));
    ask_for(&mut client, "weather");
    client.speak(&[speech("stock"), vec![0; 48_000]].concat(), 6);
    client.wait_for("the tool's end", |message| message["state"] == "done");
    client.wait_for("the tool's answer", |message| {
        message["type"] == "transcript" && message["text"].as_str().unwrap().contains("Seattle")
    });
    let place = |wanted: &dyn Fn(&serde_json::Value) -> bool| {
        client.messages.iter().position(|(_, message)| wanted(message)).expect("it came")
    };
    let done = place(&|message| message["state"] == "done");
    assert!(place(&|message| message["type"] == "speech_started") < done);
    assert!(place(&|message| message["role"] == "user") < done);
    assert!(client.messages[done].0 > 48_000, "audio came while the tool ran");
}

#[test]
fn two_tools_of_one_response_get_one_answer_after_the_slower() {
    let service = Daemon::simulate(&["no-welcome", "tools=2"]);
    let mut client = open(daemon_with_tools(service.address, &slow_weather()));
    client.speak(&[speech("weather"), vec![0; 48_000]].concat(), 6);
    client.wait_for("both results are spoken", |message| {
        let text = message["text"].as_str().unwrap_or_default();
        message["type"] == "transcript" && text.contains("Seattle") && text.contains("MSFT")
    });
    client.wait_for_next("response_done");
    let states: Vec<_> = client.of_type("tool").iter().map(|tool| &tool["state"]).collect();
    assert_eq!(states, ["running", "running", "done", "done"]);
    // The response with the calls, and one answer to both.
    assert_eq!(client.of_type("response_started").len(), 2);
    assert_eq!(client.of_type("error").len(), 0);
}

#[test]
fn a_slow_tool_delays_no_other_calls_audio() {
    let service = Daemon::simulate(&support::witness::SERVICE);
    let address = daemon_with_tools(service.address, &slow_weather());
    let witness = Witness::call(address);
    let mut client = open(address);
    ask_for(&mut client, "weather");
    let start = Instant::now();
    client.wait_for("the tool's end", |message| message["state"] == "done");
    assert!(start.elapsed() > SLOW / 2, "it was slow");
    let report = witness.finish();
    assert!(report.replies >= 4, "{report:?}");
    assert!(report.longest_gap < SLOW / 4, "{report:?}");
}

#[test]
fn a_broken_tool_is_told_to_the_model_and_the_call_goes_on() {
    let service = Daemon::simulate(&["no-welcome"]);
    let mut client = open(daemon_with_tools(service.address, "exit 3"));
    ask_for(&mut client, "weather");
    client.wait_for("the tool's end", |message| message["state"] == "failed");
    client.wait_for("the model's word on it", |message| message["type"] == "transcript");
    client.tell(&json!({"type": "hang_up"}));
    client.assert_ends("hanging up", 1000, "hang_up");
}
