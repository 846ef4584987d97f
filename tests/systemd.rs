//! The daemon under a service manager that the test plays: what it is told, the watchdog, the
//! state without settings, and sockets that it passes.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support;
use support::client::Client;
use support::daemon::{Daemon, KEY, with_sockets};
use support::http::{self, ask};
use support::manager::Manager;
use support::witness;

/// Longer than anything under test takes, short enough to wait for nothing.
const A_WHILE: Duration = Duration::from_secs(2);

fn managed(service: &Daemon, manager: &Manager, settings: &[(&str, &str)]) -> Daemon {
    let mut all = vec![("NOTIFY_SOCKET", manager.name.as_str())];
    all.extend(settings);
    Daemon::run(service.address, &all)
}

fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("systemd-{name}"));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a folder");
    path
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port")
}

#[test]
fn the_manager_hears_of_readiness_calls_reload_and_end() {
    let service = Daemon::simulate(&witness::SERVICE);
    let mut manager = Manager::at_path("life");
    let daemon = managed(&service, &manager, &[("VOICELIVED_DRAIN_SECONDS", "30")]);
    assert_eq!(manager.wait_for(""), "READY=1", "the first of all");
    assert_eq!(ask(daemon.address, "GET /healthz", "").text(), "ok");
    assert_eq!(manager.wait_for("STATUS="), "STATUS=0 of at most 16 calls");
    // The next status may not follow at once.
    std::thread::sleep(A_WHILE);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    assert_eq!(manager.wait_for("STATUS="), "STATUS=1 of at most 16 calls");
    daemon.signal("HUP");
    let reloading = manager.wait_for("RELOADING=1");
    let (_, time) = reloading.split_once("\nMONOTONIC_USEC=").expect("the time of it");
    assert!(time.parse::<u64>().expect("a number") > 0);
    assert_eq!(manager.wait_for("READY"), "READY=1");
    std::thread::sleep(A_WHILE);
    daemon.signal("TERM");
    assert_eq!(manager.wait_for("STOPPING"), "STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000");
    let status = manager.wait_for("STATUS=");
    assert_eq!(status, "STATUS=Draining, no new calls; 1 still running");
    drop(client);
    assert_eq!(daemon.stop("CONT"), Some(0), "the last call's end is the daemon's");
}

#[test]
fn nothing_is_ready_that_was_refused() {
    let mut manager = Manager::new("refused");
    for (name, value) in [("VOICELIVED_MAX_SESSIONS", "many"), ("VOICELIVED_LISTEN", "192.0.2.1:1")]
    {
        let settings = [
            ("NOTIFY_SOCKET", manager.name.as_str()),
            ("AZURE_VOICE_LIVE_ENDPOINT", "https://x.services.ai.azure.com"),
            ("AZURE_VOICE_LIVE_API_KEY", KEY),
            ("VOICELIVED_ACCESS", "open"),
            (name, value),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_voicelived"));
        let status = command.arg("run").env_clear().envs(settings).stderr(Stdio::null()).status();
        assert!(!status.expect("it runs").success());
        assert_eq!(manager.hear(Duration::from_millis(50)), None, "{name}");
    }
}

#[test]
fn the_watchdog_starves_when_the_loop_stands_still() {
    let service = Daemon::simulate(&[]);
    let mut manager = Manager::new("watchdog");
    let daemon = managed(&service, &manager, &[("WATCHDOG_USEC", "400000")]);
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    daemon.signal("STOP");
    // What was on its way.
    std::thread::sleep(Duration::from_millis(100));
    manager.forget();
    assert_eq!(manager.hear(A_WHILE), None, "nobody but the loop feeds it");
    daemon.signal("CONT");
    manager.wait_for("WATCHDOG=1");
}

#[test]
fn a_watchdog_for_another_process_is_not_ours() {
    let service = Daemon::simulate(&[]);
    let mut manager = Manager::new("another");
    let settings = [("WATCHDOG_USEC", "100000"), ("WATCHDOG_PID", "1")];
    let _daemon = managed(&service, &manager, &settings);
    manager.wait_for("READY=1");
    while manager.hear(Duration::from_millis(500)).is_some() {}
    assert!(!manager.heard.iter().any(|message| message.contains("WATCHDOG")));
}

/// How often the idle daemon wakes up within that time.
fn wakeups(daemon: &Daemon, time: Duration) -> u64 {
    let before = daemon.status("voluntary_ctxt_switches");
    std::thread::sleep(time);
    daemon.status("voluntary_ctxt_switches") - before
}

#[test]
fn an_idle_daemon_wakes_for_the_watchdog_alone() {
    let service = Daemon::simulate(&[]);
    let mut manager = Manager::new("idle");
    let daemon = managed(&service, &manager, &[("WATCHDOG_USEC", "1000000")]);
    let unwatched = Manager::new("idle-unwatched");
    let quiet = managed(&service, &unwatched, &[]);
    // The look-up at the start has ended, and the status after it is told.
    for daemon in [&daemon, &quiet] {
        daemon.wait_until("it is idle", |daemon| wakeups(daemon, Duration::from_millis(300)) <= 1);
    }
    std::thread::sleep(A_WHILE);
    manager.forget();
    let woken = wakeups(&daemon, 2 * A_WHILE);
    while manager.hear(Duration::from_millis(1)).is_some() {}
    let fed = manager.heard.iter().filter(|message| *message == "WATCHDOG=1").count();
    // Four seconds, in each of which the manager would take it for stuck if it heard nothing.
    assert!(fed >= 4, "{:?}", manager.heard);
    assert!(woken <= fed as u64 + 1, "{woken} wake-ups to feed it {fed} times");
    assert_eq!(wakeups(&quiet, A_WHILE), 0);
}

#[test]
fn without_settings_it_runs_and_says_what_to_set() {
    let credentials = folder("credentials");
    fs::write(credentials.join("AZURE_VOICE_LIVE_API_KEY"), " ").expect("a blank stands in");
    let sentence = "This device is not set up yet: its owner must set AZURE_VOICE_LIVE_ENDPOINT \
                    and AZURE_VOICE_LIVE_API_KEY and restart the daemon.";
    let mut manager = Manager::new("unset");
    let settings = [
        ("NOTIFY_SOCKET", manager.name.as_str()),
        ("CREDENTIALS_DIRECTORY", credentials.to_str().expect("plain")),
    ];
    let daemon = Daemon::start(&["run", "--listen", "127.0.0.1:0"], &settings);
    manager.wait_for("READY=1");
    assert_eq!(manager.wait_for("STATUS="), format!("STATUS={sentence}"));
    daemon.wait_for_log(sentence);
    assert_eq!(daemon.log().matches(sentence).count(), 1);
    let health = ask(daemon.address, "GET /healthz", "");
    assert_eq!((health.status, health.text()), (503, "not_configured"));
    assert_eq!(ask(daemon.address, "GET /", "").status, 200);
    let mut client = Client::connect(daemon.address);
    assert_eq!(client.assert_ends("a call", 1011, "not_configured"), sentence);
    daemon.assert_counted("calls_turned_away_total", "not_configured", 1);
    daemon.signal("HUP");
    manager.wait_for("RELOADING=1");
    manager.wait_for("READY=1");
    assert_eq!(daemon.stop("TERM"), Some(0));
}

#[test]
fn what_systemd_reads_otherwise_is_named_at_the_start() {
    let credentials = folder("differences");
    let told = [
        "line 1 of /etc/voicelived/voicelived.env): this line begins with export",
        "line 2 of /etc/voicelived/voicelived.env): the comment behind the value of VOICELIVED_LOG",
    ];
    let text = "export AZURE_VOICE_LIVE_LANGUAGE=canary\nVOICELIVED_LOG=info # canary\nA=plain\n";
    fs::write(credentials.join("voicelived.env"), text).expect("a file");
    let folder = ("CREDENTIALS_DIRECTORY", credentials.to_str().expect("plain"));
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[folder]);
    for part in told {
        daemon.wait_for_log(part);
    }
    assert!(!daemon.log().contains("canary"), "{}", daemon.log());
    // What systemd makes of such a comment is a wrong value: the cause is told beside the fault.
    let output = Command::new(env!("CARGO_BIN_EXE_voicelived"))
        .args(["run", "--listen", "127.0.0.1:0"])
        .env_clear()
        .envs([folder, ("VOICELIVED_LOG", "info # canary"), ("AZURE_VOICE_LIVE_API_KEY", KEY)])
        .current_dir(std::env::temp_dir())
        .output()
        .expect("it runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(78), "{said}");
    for part in told {
        assert!(said.contains(part), "{said}");
    }
    // Nothing to tell: the blank that stands in for a missing file, and a unit without the line.
    for text in [Some(" "), None] {
        let path = credentials.join("voicelived.env");
        match text {
            Some(text) => fs::write(path, text).expect("a file"),
            None => fs::remove_file(path).expect("it is there"),
        }
        let daemon = Daemon::run(service.address, &[folder]);
        assert_eq!(ask(daemon.address, "GET /healthz", "").text(), "ok");
        assert!(!daemon.log().contains("voicelived.env"), "{}", daemon.log());
    }
}

#[test]
fn settings_that_are_completed_count_from_the_next_reload() {
    let service = Daemon::simulate(&witness::SERVICE);
    let file = folder("completed").join("env");
    fs::write(&file, "").expect("a file");
    let mut manager = Manager::new("completed");
    let arguments = ["run", "--listen", "127.0.0.1:0", "--env-file", file.to_str().expect("plain")];
    let daemon = Daemon::start(&arguments, &[("NOTIFY_SOCKET", &manager.name)]);
    Client::connect(daemon.address).assert_ends("a call", 1011, "not_configured");
    let address = service.address;
    let complete =
        format!("AZURE_VOICE_LIVE_ENDPOINT=ws://{address}\nAZURE_VOICE_LIVE_API_KEY={KEY}\n");
    fs::write(&file, complete).expect("a file");
    manager.forget();
    daemon.signal("HUP");
    manager.wait_for("READY=1");
    assert_eq!(ask(daemon.address, "GET /healthz", "").text(), "ok");
    witness::Witness::call(daemon.address).finish();
    // What was complete stays so.
    fs::write(&file, "").expect("a file");
    daemon.signal("HUP");
    daemon.wait_for_log("the old settings stay: This device is not set up yet");
    witness::Witness::call(daemon.address).finish();
}

#[test]
fn one_missing_setting_is_named_alone() {
    let manager = Manager::new("one");
    let settings = [
        ("NOTIFY_SOCKET", manager.name.as_str()),
        ("AZURE_VOICE_LIVE_ENDPOINT", "https://x.services.ai.azure.com"),
    ];
    let daemon = Daemon::start(&["run", "--listen", "127.0.0.1:0"], &settings);
    daemon.wait_for_log("must set AZURE_VOICE_LIVE_API_KEY and restart");
    assert!(!daemon.log().contains("AZURE_VOICE_LIVE_ENDPOINT"));
}

#[test]
fn a_passed_socket_is_served_as_if_it_were_our_own() {
    let service = Daemon::simulate(&witness::SERVICE);
    let door = listener();
    let endpoint = format!("ws://{}", service.address);
    let settings = [
        ("AZURE_VOICE_LIVE_ENDPOINT", endpoint.as_str()),
        ("AZURE_VOICE_LIVE_API_KEY", KEY),
        ("VOICELIVED_LISTEN", "127.0.0.1:1"),
    ];
    let daemon = Daemon::passed(&[("http", &door)], &["run"], &settings);
    assert_eq!(daemon.address, door.local_addr().expect("bound"));
    daemon.wait_for_log("VOICELIVED_LISTEN (environment): not used");
    witness::Witness::call(daemon.address).finish();
    let other = http::exchange(
        daemon.address,
        b"GET / HTTP/1.1\r\nHost: pi:8443\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(other[0].status, 421, "the gate knows the socket's address");
}

#[test]
fn a_passed_socket_that_others_reach_asks_for_a_token() {
    let state = folder("token");
    let open = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = open.local_addr().expect("bound").port();
    let settings = [("VOICELIVED_STATE_DIR", state.to_str().expect("plain"))];
    let daemon = Daemon::passed(&[("http", &open)], &["demo"], &settings);
    let local = format!("127.0.0.1:{port}").parse().expect("an address");
    let head = support::client::upgrade_head(local, "");
    let (_, answer) = support::client::request(local, &head);
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(state.join("access-token").exists());
    drop(daemon);
}

#[test]
fn names_decide_which_socket_speaks_tls() {
    let state = folder("names");
    let (plain, secure) = (listener(), listener());
    let settings = [("VOICELIVED_STATE_DIR", state.to_str().expect("plain"))];
    let sockets = [("https", &secure), ("http", &plain)];
    let daemon = Daemon::passed(&sockets, &["demo"], &settings);
    assert_eq!(daemon.address, plain.local_addr().expect("bound"));
    assert_eq!(daemon.secure_address(), secure.local_addr().expect("bound"));
    assert_eq!(ask(daemon.address, "GET /healthz", "").text(), "ok");
    // A TLS record, not HTTP, answers what is no TLS.
    let mut socket = http::connect(daemon.secure_address());
    std::io::Write::write_all(&mut socket, b"GET / HTTP/1.1\r\n\r\n").expect("sent");
    let mut first = [0];
    std::io::Read::read_exact(&mut socket, &mut first).expect("an alert");
    assert_eq!(first, [21]);
}

#[test]
fn a_socket_of_no_known_name_is_refused() {
    let door = listener();
    for name in ["voicelived.socket", "", "HTTPS"] {
        let mut command = with_sockets(&[(name, &door)], &["demo"]);
        let output = command.stderr(Stdio::piped()).output().expect("it runs");
        assert_eq!(output.status.code(), Some(78));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("FileDescriptorName="), "{said}");
    }
}

#[test]
fn sockets_for_another_process_are_not_ours() {
    let door = listener();
    let output = Command::new(env!("CARGO_BIN_EXE_voicelived"))
        .args(["demo", "--listen", "256.0.0.0:0"])
        .env_clear()
        .envs([("LISTEN_FDS", "1"), ("LISTEN_PID", "1"), ("LISTEN_FDNAMES", "x")])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("256.0.0.0:0") && !said.contains("FileDescriptorName"), "{said}");
    drop(door);
}

/// The upgrade: the old process drains, the next one serves the same socket, and between two
/// processes callers wait.
#[test]
fn nobody_is_refused_while_the_daemon_is_replaced() {
    let service = Daemon::simulate(&witness::SERVICE);
    let door = listener();
    let endpoint = format!("ws://{}", service.address);
    let settings = [
        ("AZURE_VOICE_LIVE_ENDPOINT", endpoint.as_str()),
        ("AZURE_VOICE_LIVE_API_KEY", KEY),
        ("VOICELIVED_DRAIN_SECONDS", "60"),
    ];
    let start = || Daemon::passed(&[("http", &door)], &["run"], &settings);
    let old = start();
    let mut running = Client::connect(old.address);
    running.wait_until_active();
    old.signal("TERM");
    old.wait_for_log("draining: calls in progress: 1");
    // No process serves the socket now, so a client waits. Its request is there when it is accepted: from then on it
    // would have five seconds for it.
    let mut early = http::connect(old.address);
    let head =
        format!("GET /healthz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", old.address);
    std::io::Write::write_all(&mut early, head.as_bytes()).expect("it waits");
    let next = start();
    assert_eq!(ask(next.address, "GET /healthz", "").text(), "ok", "not draining");
    witness::Witness::call(next.address).finish();
    assert!(!old.log().contains("ended:"), "the old process's call goes on");
    assert_whole_reply(&mut running);
    assert_eq!(http::read_answers(&mut early)[0].text(), "ok");
    running.tell(&serde_json::json!({"type": "hang_up"}));
    assert_eq!(running.wait_for_end()["reason"], "hang_up");
    assert_eq!(old.stop("CONT"), Some(0));
}

/// A connection that the daemon has accepted; nothing was sent on it yet.
fn accepted(daemon: &Daemon) -> std::net::TcpStream {
    let open = |daemon: &Daemon| daemon.count("connections_open", "");
    // The last visitor's connection lingers for a moment. The connection that asks is counted too.
    let running = daemon.count("calls_active", "");
    daemon.wait_until("all visitors have gone", |daemon| open(daemon) == running + 1);
    let socket = http::connect(daemon.address);
    daemon.wait_until("it is accepted", |daemon| open(daemon) == running + 2);
    socket
}

/// A visitor that was accepted before the signal cannot reach the next process any more.
#[test]
fn who_stands_inside_already_is_still_served_by_the_process_that_stops() {
    let service = Daemon::simulate(&witness::SERVICE);
    let endpoint = format!("ws://{}", service.address);
    for (drain, calls) in [("60", 1), ("60", 0), ("0", 0)] {
        let door = listener();
        let settings = [
            ("AZURE_VOICE_LIVE_ENDPOINT", endpoint.as_str()),
            ("AZURE_VOICE_LIVE_API_KEY", KEY),
            ("VOICELIVED_DRAIN_SECONDS", drain),
        ];
        let old = Daemon::passed(&[("http", &door)], &["run"], &settings);
        let running: Vec<_> = (0..calls).map(|_| Client::connect(old.address)).collect();
        old.wait_until("calls run", |old| old.count("calls_active", "") == calls);
        let mut visitor = accepted(&old);
        let caller = (drain == "60").then(|| {
            let socket = http::connect(old.address);
            old.wait_until("both are in", |old| old.count("connections_open", "") == calls + 3);
            socket
        });
        old.signal("TERM");
        old.wait_for_log(if drain == "0" { "stopping: " } else { "draining: " });
        // Both have five seconds for their requests.
        let mut caller = caller.map(|socket| Client::upgrade(socket, old.address, ""));
        let head = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", old.address);
        std::io::Write::write_all(&mut visitor, head.as_bytes()).expect("it reads");
        let answer = &http::read_answers(&mut visitor)[0];
        assert_eq!((answer.status, answer.text()), (503, "draining"));
        assert_eq!(answer.field("Connection"), "close", "the next request is the next process's");
        if let Some(client) = &mut caller {
            client.wait_until_active();
            assert_whole_reply(client);
            client.tell(&serde_json::json!({"type": "hang_up"}));
            assert_eq!(client.wait_for_end()["reason"], "hang_up");
        }
        drop(running);
        assert_eq!(old.stop("CONT"), Some(0));
    }
}

/// Asks for a reply and compares every byte.
fn assert_whole_reply(client: &mut Client) {
    let expected = witness::pattern(1);
    client.audio.clear();
    client.tell(&serde_json::json!({"type": "text", "text": "Go on."}));
    client.wait_for_next("response_done");
    client.wait_for_audio(expected.len());
    assert!(client.audio == expected, "the reply is different");
}

#[test]
fn draining_lets_calls_finish_and_takes_no_new_ones() {
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_DRAIN_SECONDS", "60")]);
    let mut running = Client::connect(daemon.address);
    running.wait_until_active();
    daemon.signal("TERM");
    daemon.wait_for_log("draining");
    let health = ask(daemon.address, "GET /healthz", "");
    assert_eq!((health.status, health.text()), (503, "draining"));
    let head = support::client::upgrade_head(daemon.address, "");
    let (_, answer) = support::client::request(daemon.address, &head);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    for _ in 0..2 {
        assert_whole_reply(&mut running);
    }
    running.tell(&serde_json::json!({"type": "hang_up"}));
    assert_eq!(running.wait_for_end()["reason"], "hang_up");
    assert_eq!(daemon.stop("CONT"), Some(0));
}

#[test]
fn draining_has_an_end() {
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_DRAIN_SECONDS", "1")]);
    let mut running = Client::connect(daemon.address);
    running.wait_until_active();
    daemon.signal("TERM");
    running.assert_ends("draining is over", 1001, "stopping");
    daemon.wait_for_log("draining took too long");
    assert_eq!(daemon.stop("CONT"), Some(0));
}

#[test]
fn a_second_signal_ends_draining_at_once() {
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_DRAIN_SECONDS", "3600")]);
    let mut running = Client::connect(daemon.address);
    running.wait_until_active();
    daemon.signal("TERM");
    daemon.wait_for_log("draining");
    let since = Instant::now();
    assert_eq!(daemon.stop("TERM"), Some(0));
    assert!(since.elapsed() < Duration::from_secs(15), "far from an hour");
}

#[test]
fn without_calls_draining_is_over_at_once() {
    let service = Daemon::simulate(&[]);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_DRAIN_SECONDS", "3600")]);
    assert_eq!(daemon.stop("TERM"), Some(0));
}
