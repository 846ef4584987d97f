//! A daemon started by hand ends when its terminal goes; asked to read its settings again, it does.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support;
use support::client::Client;
use support::daemon::PATIENCE;

fn wait<T>(what: &str, found: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_terminal_that_goes_ends_the_daemon_and_a_hangup_from_elsewhere_does_not() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("terminal");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    let program = env!("CARGO_BIN_EXE_voicelived");
    let daemon = format!("echo $$ >pid; exec {program} demo --listen 127.0.0.1:0 2>log");
    let mut terminal = support::pty::command(&daemon)
        .current_dir(&folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("script of util-linux");
    let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
    let address: SocketAddr = wait("it listens", || {
        let log = log();
        let line = log.lines().rfind(|line| line.contains("listening on http://"))?;
        line.rsplit("http://").next()?.parse().ok()
    });
    let pid = fs::read_to_string(folder.join("pid")).expect("the shell wrote it");
    let mut call = Client::connect(address);
    call.wait_until_active();
    let status = Command::new("kill").args(["-HUP", pid.trim()]).status().expect("kill");
    assert!(status.success());
    wait("it reads again", || log().contains("settings: read again").then_some(()));
    assert!(!log().contains("stopping"), "{}", log());

    terminal.kill().expect("ours");
    terminal.wait().expect("ours");
    call.assert_ends("the terminal has gone", 1001, "stopping");
    let process = PathBuf::from(format!("/proc/{}/exe", pid.trim()));
    wait("it has ended", || fs::read_link(&process).is_err().then_some(()));
    assert_eq!(log().matches("settings: read again").count(), 1, "{}", log());
}
