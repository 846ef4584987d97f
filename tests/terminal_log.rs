//! The log of a command that a person waits for: on a terminal in colours, elsewhere plain, and never a
//! panic.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::daemon::PATIENCE;
use crate::support::pty;

const PROGRAM: &str = env!("CARGO_BIN_EXE_voicelived");

/// The simulator, which logs as soon as it listens, and again when it is told to stop.
fn simulate() -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["simulate", "--listen", "127.0.0.1:0"]).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

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

fn stop(mut child: Child) -> Option<i32> {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    child.wait().expect("ours").code()
}

/// What a command prints on a terminal, standard error included.
fn on_a_terminal(command: &str, settings: &[(&str, &str)]) -> String {
    let output = pty::command(command)
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("script of util-linux");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A command for the shell: the simulator for a second.
fn briefly(rest: &str) -> String {
    format!("timeout -s TERM 1 {PROGRAM} simulate --listen 127.0.0.1:0 {rest}; true")
}

/// What the simulator prints on a terminal up to the line that says where it listens. Then its terminal goes, and
/// it with that.
fn until_it_listens(rest: &str) -> String {
    let command = format!("{PROGRAM} simulate --listen 127.0.0.1:0 {rest}");
    let mut terminal = pty::command(&command).spawn().expect("script of util-linux");
    let mut screen = terminal.stdout.take().expect("piped");
    let (mut text, mut bytes) = (String::new(), [0; 4096]);
    while !text.split_once("listening on").is_some_and(|(_, rest)| rest.contains('\n')) {
        let count = screen.read(&mut bytes).expect("it is readable");
        assert!(count > 0, "it has ended: {text:?}");
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    terminal.kill().expect("ours");
    terminal.wait().expect("ours");
    text
}

#[test]
fn a_terminal_gets_colours_and_the_time() {
    let text = until_it_listens("");
    let line = text
        .lines()
        .find(|line| line.contains("listening on ws://"))
        .unwrap_or_else(|| panic!("{text:?}"));
    let (time, rest) = line.split_once(' ').expect("words");
    assert!(time.starts_with("20") && time.ends_with('Z') && time.contains('T'), "{line:?}");
    assert!(rest.starts_with("INFO  [voicelived::cli::run] simulator"), "{line:?}");
    // Behind a pipe it is the daemon's line, although standard output is a terminal.
    let piped = until_it_listens("2>&1 | cat");
    assert!(piped.contains("INFO  simulator") && !piped.contains('['), "{piped:?}");
    let dim = "\u{1b}[2m127.0.0.1 has the addresses";
    let debug = ("VOICELIVED_LOG", "debug");
    assert!(on_a_terminal(&refused(), &[debug]).contains(dim));
    let plain = on_a_terminal(&refused(), &[debug, ("NO_COLOR", "1")]);
    assert!(
        plain.contains("127.0.0.1 has the addresses") && !plain.contains('\u{1b}'),
        "{plain:?}"
    );
}

/// A call that no daemon answers.
fn refused() -> String {
    format!("{PROGRAM} call --url http://127.0.0.1:1 --text x; true")
}

/// `simple_logger` alone prints everything.
#[test]
fn the_level_is_the_wanted_one() {
    let quiet = on_a_terminal(&briefly(""), &[("VOICELIVED_LOG", "error")]);
    assert!(!quiet.contains("listening"), "{quiet:?}");
    for (level, shown) in [("info", false), ("debug", true)] {
        let text = on_a_terminal(&refused(), &[("VOICELIVED_LOG", level)]);
        assert_eq!(text.contains("127.0.0.1 has the addresses"), shown, "{text:?}");
        assert!(!text.contains("TRACE"), "{text:?}");
    }
}

/// `eprintln!` would panic, and a panic ends the process with SIGABRT.
#[test]
fn standard_error_that_fails_stops_nothing() {
    // The reader is gone, as behind `2>&1 | head`.
    let mut child = simulate().stderr(Stdio::piped()).spawn().expect("it runs");
    let mut reader = BufReader::new(child.stderr.take().expect("piped"));
    let mut first = String::new();
    reader.read_line(&mut first).expect("a line");
    assert!(first.contains("listening"), "{first}");
    drop(reader);
    assert_eq!(stop(child), Some(0));
    // Nothing has room for it.
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let child = simulate().stderr(full).stdout(Stdio::null()).spawn().expect("it runs");
    // Before it listens, a signal would end it otherwise.
    let sockets = format!("/proc/{}/fd", child.id());
    wait("it listens", || {
        let open = fs::read_dir(&sockets).ok()?.flatten();
        let mut open = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        open.any(|place| place.to_string_lossy().starts_with("socket:")).then_some(())
    });
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(stop(child), Some(0));
}

/// After its terminal has gone the simulator has a last line to say.
#[test]
fn a_terminal_that_has_gone_stops_nothing() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("terminal-log");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    // The shell outlives its terminal, to tell how the simulator ended.
    let inner = format!("echo $$ >pid; exec {PROGRAM} simulate --listen 127.0.0.1:0");
    let command = format!("trap : HUP; sh -c '{inner}'; echo $? >code");
    let output = File::create(folder.join("output")).expect("a file");
    let mut terminal = pty::command(&command)
        .current_dir(&folder)
        .stdout(output)
        .spawn()
        .expect("script of util-linux");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    // The whole line: a terminal that goes in the middle of one makes `eprintln!` panic.
    wait("it listens", || {
        read("output").split_once("listening on")?.1.contains('\n').then_some(())
    });
    terminal.kill().expect("ours");
    terminal.wait().expect("ours");
    let pid = read("pid");
    // The kernel's SIGHUP may have ended it already.
    let _ = Command::new("kill")
        .args(["-TERM", pid.trim()])
        .stderr(Stdio::null())
        .status()
        .expect("kill");
    let code = wait("it has ended", || Some(read("code")).filter(|code| code.ends_with('\n')));
    assert_eq!(code.trim(), "0");
}
