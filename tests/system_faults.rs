//! Failing system calls, and a log without a reader. The daemon lives, a call's audio stays whole,
//! and later clients are served.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support;
use support::client::{Client, request, upgrade_head};
use support::daemon::{Daemon, PATIENCE};
use support::witness::{self, Witness};

/// Whether a visitor is answered. One that is turned away may ask again.
fn is_served(address: SocketAddr) -> bool {
    let ask = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    std::panic::catch_unwind(|| request(address, &ask).1.starts_with("HTTP/1.1 200 "))
        .unwrap_or_default()
}

fn assert_served_soon(what: &str, address: SocketAddr) {
    let start = Instant::now();
    while !is_served(address) {
        assert!(start.elapsed() < PATIENCE, "{what}: no client is served");
        // A client that returns at once may be turned away again in the same turn of the loop.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A file of this process alone: another run of these tests may be going on.
fn own_file(name: &str) -> PathBuf {
    let name = format!("system-faults-{}-{name}", std::process::id());
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Where strace writes, for a test of this name.
fn trace(name: &str) -> PathBuf {
    own_file(&format!("trace-{name}"))
}

/// The tracer did make each of these calls fail.
fn assert_injected(name: &str, calls: &[&str]) {
    let text = std::fs::read_to_string(trace(name)).expect("strace wrote it");
    let _ = std::fs::remove_file(trace(name));
    for call in calls {
        let failed = |line: &str| line.contains(&format!("{call}(")) && line.contains("(INJECTED)");
        assert!(text.lines().any(failed), "{call} never failed");
    }
}

/// A whole call and visitors, while these system calls fail.
fn live_through(what: &str, calls: &[&str]) {
    let service = Daemon::simulate(&witness::SERVICE);
    let injections: Vec<_> =
        calls.iter().map(|call| format!("inject={call}:error={what}:when=4+3")).collect();
    let injections: Vec<_> = injections.iter().map(String::as_str).collect();
    let daemon = Daemon::run_injected(service.address, &injections, &trace(what));
    assert_served_soon(what, daemon.address);
    let witness = Witness::call(daemon.address);
    for _ in 0..20 {
        assert_served_soon(what, daemon.address);
    }
    witness.finish();
    assert_injected(what, calls);
}

#[test]
fn interrupted_calls_are_repeated() {
    live_through("EINTR", &["epoll_wait", "recvfrom", "sendto"]);
}

/// The first option of the first connection: that connection goes, the next ones are served.
#[test]
fn a_connection_that_cannot_be_set_up_is_dropped_and_counted() {
    let service = Daemon::simulate(&witness::SERVICE);
    let injection = "inject=setsockopt:error=ENOBUFS:when=2";
    let daemon = Daemon::run_injected(service.address, &[injection], &trace("setup"));
    assert!(!is_served(daemon.address));
    Witness::call(daemon.address).finish();
    daemon.assert_counted("connections_dropped_total", "setup_failed", 1);
    assert_injected("setup", &["setsockopt"]);
}

/// Connections that cannot be accepted are closed or wait; either way the next ones are served.
fn refuse_every_fifth(error: &str) {
    let service = Daemon::simulate(&witness::SERVICE);
    let injection = format!("inject=accept4:error={error}:when=4+5");
    let name = format!("accept-{error}");
    let daemon = Daemon::run_injected(service.address, &[&injection], &trace(&name));
    // Its own connection is accepted before any fails.
    let witness = Witness::call(daemon.address);
    for _ in 0..20 {
        assert_served_soon(error, daemon.address);
    }
    witness.finish();
    assert_injected(&name, &["accept4"]);
    if !["ECONNABORTED", "EINTR"].contains(&error) {
        daemon.wait_for_log("no connection can be accepted for a moment");
    }
}

#[test]
fn a_kernel_that_cannot_accept_is_asked_again() {
    std::thread::scope(|scope| {
        for error in ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "EINTR"] {
            scope.spawn(move || refuse_every_fifth(error));
        }
    });
}

#[test]
fn a_service_that_cannot_be_dialled_ends_that_call_only() {
    let service = Daemon::simulate(&witness::SERVICE);
    // At its start the daemon learns its own addresses, by sockets that connect and send nothing.
    drop(Daemon::run_injected(service.address, &[], &trace("start")));
    let start = std::fs::read_to_string(trace("start")).expect("strace wrote it");
    let second = start.matches("connect(").count() + 2;
    let injection = format!("inject=connect:error=ENETUNREACH:when={second}");
    let daemon = Daemon::run_injected(service.address, &[&injection], &trace("connect"));
    let witness = Witness::call(daemon.address);
    let mut second = Client::connect(daemon.address);
    second.assert_ends("the second call", 1011, "unreachable");
    Witness::call(daemon.address).finish();
    witness.finish();
    assert_injected("connect", &["connect"]);
}

/// A call and a visitor, whatever becomes of the log.
fn assert_works(daemon: &Daemon) {
    let witness = Witness::call(daemon.address);
    assert_served_soon("without a log", daemon.address);
    witness.finish();
    assert_served_soon("after the call", daemon.address);
}

fn redirected(redirection: &str, service: &Daemon) -> Daemon {
    let endpoint = format!("ws://{}", service.address);
    Daemon::redirected(redirection, "trace", &endpoint, &[])
}

#[test]
fn a_full_disk_takes_the_log_and_nothing_else() {
    let service = Daemon::simulate(&witness::SERVICE);
    assert_works(&redirected("1>/dev/full 2>&1", &service));
}

/// A named pipe, and its reader; reading from it does not wait.
fn pipe(name: &str) -> (String, File) {
    let path = own_file(&format!("log-{name}"));
    let _ = std::fs::remove_file(&path);
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
    let nonblocking = 0o4000;
    let reader = OpenOptions::new().read(true).custom_flags(nonblocking).open(&path);
    (path.to_str().expect("a plain path").to_owned(), reader.expect("a pipe"))
}

#[test]
fn a_log_whose_reader_has_gone() {
    let service = Daemon::simulate(&witness::SERVICE);
    let (path, reader) = pipe("closed");
    let daemon = redirected(&format!("2>{path}"), &service);
    drop(reader);
    assert_works(&daemon);
}

#[test]
fn a_log_whose_reader_stalls() {
    let service = Daemon::simulate(&witness::SERVICE);
    let (path, mut reader) = pipe("stalled");
    // The pipe is full before the daemon says its first word.
    let mut writer =
        OpenOptions::new().write(true).custom_flags(0o4000).open(&path).expect("a pipe");
    while writer.write(&[b'.'; 4096]).is_ok() {}
    let daemon = redirected(&format!("2>{path}"), &service);
    assert_works(&daemon);
    // Somebody reads again: what was lost is told.
    let mut text = String::new();
    let mut chunk = [0; 64 * 1024];
    let deadline = Instant::now() + PATIENCE;
    while !text.contains(" log lines were lost") {
        assert!(Instant::now() < deadline, "{text}");
        assert_served_soon("while it is read", daemon.address);
        Witness::call(daemon.address).finish();
        if let Ok(count) = reader.read(&mut chunk) {
            text.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    }
}

/// A call needs an id that cannot be guessed. The fourth request for random bytes is its.
#[test]
fn without_random_numbers_a_caller_is_turned_away_and_counted() {
    let service = Daemon::simulate(&witness::SERVICE);
    let injection = "inject=getrandom:error=EIO:when=4";
    let daemon = Daemon::run_injected(service.address, &[injection], &trace("getrandom"));
    Client::connect(daemon.address).assert_ends("no random numbers", 1013, "full");
    assert_injected("getrandom", &["getrandom"]);
    daemon.assert_counted("calls_turned_away_total", "internal", 1);
    daemon.assert_counted("calls_turned_away_total", "full", 0);
    Witness::call(daemon.address).finish();
}

/// The first answer is made to wait, and the token changes before it has left and the call begins.
#[test]
fn a_token_that_changes_between_request_and_call_turns_the_caller_away() {
    let service = Daemon::simulate(&witness::SERVICE);
    let file = own_file("changed-token");
    let keep = |token: &str| {
        std::fs::write(&file, token).expect("a file");
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("ours");
    };
    keep("the-first-token-0123");
    let daemon = Daemon::run_injected_with(
        service.address,
        &["inject=sendto:error=EAGAIN:when=1"],
        &trace("changed"),
        &[("VOICELIVED_ACCESS_TOKEN_FILE", file.to_str().expect("UTF-8"))],
    );
    let address = daemon.address;
    let field = "Authorization: Bearer the-first-token-0123\r\n";
    let mut calling = support::http::connect(address);
    // The kernel tells of a new connection once that it takes something. That has to be over: it would send the answer.
    daemon.wait_until("it is accepted", |_| {
        let text = std::fs::read_to_string(trace("changed")).unwrap_or_default();
        let accepts = |line: &str| line.contains("accept4(") && !line.contains("= -1");
        let mut since = text.lines().skip_while(|line| !accepts(line));
        since.any(|line| line.contains("epoll_wait(") && line.contains("EPOLLOUT"))
    });
    calling.write_all(upgrade_head(address, field).as_bytes()).expect("the daemon reads");
    daemon.wait_until("the answer waits", |_| {
        std::fs::read_to_string(trace("changed")).is_ok_and(|text| text.contains("(INJECTED)"))
    });
    keep("the-second-token-4567");
    daemon.signal("HUP");
    daemon.wait_for_log("access: the token has changed");
    // The socket was never full: what comes shows the daemon that it takes something.
    calling.write_all(&[0x89, 0x80, 0, 0, 0, 0]).expect("a ping");
    let mut answer = Vec::new();
    calling.read_to_end(&mut answer).expect("it is told and the connection ended");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains(r#""reason":"access_changed""#), "{answer}");
    let second = "Authorization: Bearer the-second-token-4567\r\n";
    let counts = support::http::ask(address, "GET /metrics", second);
    let turned_away = "calls_turned_away_total{reason=\"access_changed\"} 1\n";
    assert!(counts.text().contains(turned_away), "{}", counts.text());
    assert!(counts.text().contains("calls_started_total 0\n"), "{}", counts.text());
    let _ = std::fs::remove_file(&file);
    assert_injected("changed", &["sendto"]);
}
