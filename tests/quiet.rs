//! A daemon leaves behind its log, and on the disk only the spending guard's minutes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support;
use support::client::Client;
use support::daemon::Daemon;
use support::witness;

fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("quiet-{name}"));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a folder");
    path
}

/// The system calls that change a file system, of the daemon and all its children, as one call with
/// replies and a tool brings them, and then the daemon's end. Needs strace.
fn changes(name: &str, settings: &[(&str, &str)]) -> [Vec<String>; 2] {
    assert!(
        Command::new("strace").arg("-V").output().is_ok(),
        "this test needs strace (Debian package strace)"
    );
    let folder = folder(name);
    let trace = folder.join("trace");
    let service = Daemon::simulate(&["no-welcome", "speed=4"]);
    let endpoint = format!("ws://{}", service.address);
    let state = folder.join("state");
    let mut all = vec![
        ("AZURE_VOICE_LIVE_ENDPOINT", endpoint.as_str()),
        ("AZURE_VOICE_LIVE_API_KEY", support::daemon::KEY),
        ("VOICELIVED_STATE_DIR", state.to_str().expect("plain")),
        ("VOICELIVED_ACCESS", "open"),
    ];
    all.extend(settings);
    let wanted = "--trace=%file,write,pwrite64,ftruncate,fallocate,fsync,fdatasync";
    let daemon = Daemon::traced(&["-f", "-y", wanted, "-o", trace.to_str().expect("plain")], &all);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    let before = fs::read_to_string(&trace).expect("strace writes").lines().count();
    client.tell(&serde_json::json!({"type": "text", "text": "weather and stock"}));
    client.wait_for("a tool's end", |message| message["state"] == "done");
    client.wait_for_next("response_done");
    client.tell(&serde_json::json!({"type": "hang_up"}));
    assert_eq!(client.wait_for_end()["reason"], "hang_up");
    daemon.wait_for_log("ended: hang_up");
    let read = || fs::read_to_string(&trace).expect("strace writes");
    let during = read().lines().count();
    // A signal for strace would be strace's end, not the daemon's.
    let tracer = daemon.id();
    let children = fs::read_to_string(format!("/proc/{tracer}/task/{tracer}/children"));
    let daemon_id = children.expect("it runs").trim().to_owned();
    let sent = Command::new("kill").args(["-s", "TERM", &daemon_id]).status().expect("kill runs");
    assert!(sent.success());
    daemon.wait_until("its end", |_| {
        read().lines().any(|line| {
            line.contains("+++ exited") && line.split_whitespace().next() == Some(&daemon_id)
        })
    });
    let log = read();
    let changes = |from: usize, to: usize| {
        let lines = log.lines().skip(from).take(to - from);
        lines.filter(|line| is_change(line)).map(str::to_owned).collect()
    };
    [changes(before, during), changes(during, log.lines().count())]
}

fn is_change(line: &str) -> bool {
    let call = line.split_whitespace().nth(1).unwrap_or_default();
    let name = call.split('(').next().unwrap_or_default();
    match name {
        "open" | "openat" | "creat" => {
            let writes = ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| line.contains(flag));
            writes && !line.contains("\"/dev/null\"")
        }
        "write" | "pwrite64" => {
            let what = call.split_once('<').map_or("", |(_, rest)| rest);
            what.starts_with('/') && !what.starts_with("/dev/null")
        }
        "ftruncate" | "fallocate" | "fsync" | "fdatasync" => true,
        "access" | "faccessat2" | "execve" | "readlink" | "readlinkat" | "stat" | "lstat"
        | "statx" | "newfstatat" | "statfs" | "getcwd" | "chdir" => false,
        "" | "<..." | "+++" | "---" | "strace:" => false,
        // rename, unlink, mkdir, link, chmod, utimensat…
        _ => true,
    }
}

#[test]
fn a_conversation_writes_nothing_to_the_disk() {
    for changes in changes("nothing", &[]) {
        assert!(changes.is_empty(), "{changes:#?}");
    }
}

/// That the trace would show a write, and what the spending guard's are.
#[test]
fn the_spending_guard_alone_writes() {
    let [during, end] = changes("guard", &[("VOICELIVED_DAILY_MINUTES", "5")]);
    assert!(during.is_empty(), "a minute has not passed: {during:#?}");
    assert!(!end.is_empty(), "the guard keeps the minutes when the daemon ends");
    let others: Vec<_> = end.iter().filter(|line| !line.contains("quiet-guard/state")).collect();
    assert!(others.is_empty(), "{others:#?}");
    assert!(end.len() < 10, "one file, once: {end:#?}");
}

#[test]
fn a_calls_end_is_one_line_with_its_figures() {
    let service = Daemon::simulate(&witness::SERVICE);
    let settings = [("VOICELIVED_LOG", "info")];
    let endpoint = format!("ws://{}", service.address);
    let daemon = Daemon::quiet("info", &endpoint, &settings);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    // The log comes by a pipe of its own.
    daemon.wait_for_log("call from");
    let before = daemon.log().lines().count();
    for _ in 0..3 {
        client.tell(&serde_json::json!({"type": "text", "text": "Go on."}));
        client.wait_for_next("response_done");
    }
    client.tell(&serde_json::json!({"type": "hang_up"}));
    client.wait_for_end();
    daemon.wait_for_log("ended: hang_up");
    let log = daemon.log();
    let lines: Vec<_> = log.lines().skip(before).collect();
    let [line] = &lines[..] else { panic!("one line, whatever the frames: {lines:#?}") };
    for part in ["ended: hang_up (Client) after ", " bytes", "first audio after ", "(p50/p95/max)"]
    {
        assert!(line.contains(part), "{part}: {line}");
    }
}
