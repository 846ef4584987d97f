//! What a daemon leaves behind: its log, and nothing on the disk but the spending guard's minutes.

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

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
/// replies and a tool brings them. Needs strace.
fn changes_during_a_call(name: &str, settings: &[(&str, &str)]) -> Vec<String> {
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
    let log = fs::read_to_string(&trace).expect("strace writes");
    log.lines().skip(before).filter(|line| is_change(line)).map(str::to_owned).collect()
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
    let changes = changes_during_a_call("nothing", &[]);
    assert!(changes.is_empty(), "{changes:#?}");
}

/// That the trace would show a write, and what the spending guard's are.
#[test]
fn the_spending_guard_alone_writes() {
    let changes = changes_during_a_call("guard", &[("VOICELIVED_DAILY_MINUTES", "5")]);
    assert!(!changes.is_empty(), "the guard keeps the minutes when the last call ends");
    let others: Vec<_> = changes.iter().filter(|line| !line.contains("minutes-today")).collect();
    let synced = |line: &&&String| !line.contains("quiet-guard/state");
    let others: Vec<_> = others.iter().filter(synced).collect();
    assert!(others.is_empty(), "{others:#?}");
    assert!(changes.len() < 10, "one file, once: {changes:#?}");
}

#[test]
fn a_calls_end_is_one_line_with_its_figures() {
    let service = Daemon::simulate(&witness::SERVICE);
    let settings = [("VOICELIVED_LOG", "info")];
    let endpoint = format!("ws://{}", service.address);
    let daemon = Daemon::quiet("info", &endpoint, &settings);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
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
