//! `tests/run` and `packaging/install` are run on a contributor's own machine. They remove nothing
//! from it, and they judge the source as it is. Stand-ins on `PATH` play apt and cargo.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::program;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A folder of stand-ins, gone with the test. Each notes its arguments in `asked`.
struct Machine {
    folder: PathBuf,
}

impl Machine {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("voicelived-test-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        Self { folder }
    }

    fn with(self, program: &str, body: &str) -> Self {
        let path = self.folder.join(program);
        let asked = self.folder.join("asked");
        let script = format!("#!/bin/sh\necho {program} \"$@\" >>'{}'\n{body}\n", asked.display());
        program::write(&path, &script);
        self
    }

    /// The end and the words of a script of the repository.
    fn run(&self, script: &str, arguments: &[&str]) -> (bool, String) {
        let path = std::env::var("PATH").expect("PATH");
        let done = Command::new(Path::new(ROOT).join(script))
            .args(arguments)
            .env("PATH", format!("{}:{path}", self.folder.display()))
            .env("CARGO_TARGET_DIR", self.folder.join("target"))
            .output()
            .expect("the script starts");
        let words = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&words).into_owned())
    }

    fn asked(&self) -> String {
        fs::read_to_string(self.folder.join("asked")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// What apt 2.6 says on a GNOME desktop of Debian 12, asked for pulseaudio.
const GNOME: &str = r#"case "$*" in
*-s\ *) cat <<'PLAN'
The following packages will be REMOVED:
  gnome-core pipewire-alsa pipewire-audio
Remv gnome-core [1:43+1]
Inst libspeexdsp1 (1.2.1-1 Debian:12.15/oldstable [amd64])
Remv pipewire-audio [0.3.65-3+deb12u1] [gnome-settings-daemon:amd64 ]
Remv pipewire-alsa [0.3.65-3+deb12u1] [gnome-settings-daemon:amd64 ]
Inst pulseaudio (16.1+dfsg1-2+b1 Debian:12.15/oldstable [amd64])
PLAN
;;
esac"#;

#[test]
fn a_package_that_drives_others_out_is_refused() {
    let machine = Machine::new("gnome")
        .with("dpkg-query", "exit 1")
        .with("sudo", "exec \"$@\"")
        .with("apt-get", GNOME);
    let (succeeded, words) = machine.run("packaging/install", &["pulseaudio"]);
    assert!(!succeeded, "it was not refused: {words}");
    for name in
        ["gnome-core", "pipewire-alsa", "pipewire-audio", "Nothing was installed or removed"]
    {
        assert!(words.contains(name), "{name} is not named: {words}");
    }
    let asked = machine.asked();
    let installs: Vec<_> = asked
        .lines()
        .filter(|line| {
            line.starts_with("apt-get") && line.contains(" install ") && !line.contains(" -s ")
        })
        .collect();
    assert!(installs.is_empty(), "apt was asked to install: {installs:?}");
}

#[test]
fn no_part_installs_a_server_that_would_start() {
    let parts = [
        "rust",
        "instructions",
        "interop",
        "clients",
        "all-clients",
        "metrics",
        "judges",
        "testssl",
        "browsers",
        "arm",
        "debs",
        "device",
    ];
    let (succeeded, needed) =
        Machine::new("needs").run("tests/steps", &[&["needs"], &parts[..]].concat());
    assert!(succeeded && needed.lines().any(|package| package == "chromium"), "{needed}");
    for server in ["pulseaudio", "haproxy", "prometheus", "avahi-daemon", "qemu-user-static"] {
        assert!(needed.lines().all(|package| package != server), "{server} would be installed");
    }
}

#[test]
fn what_cannot_be_built_is_not_judged() {
    // All packages are there, and a binary of yesterday's source too.
    let machine = Machine::new("stale")
        .with("dpkg-query", "echo 'install ok installed'")
        .with("cargo", "case $1 in --version) echo cargo 1.95.0 ;; *) exit 101 ;; esac");
    let stale = machine.folder.join("target/release");
    fs::create_dir_all(&stale).expect("a folder");
    fs::copy(env!("CARGO_BIN_EXE_voicelived"), stale.join("voicelived")).expect("a stale binary");
    let parts = ["metrics", "judges", "testssl", "browsers"];
    let (succeeded, words) = machine.run("tests/run", &parts);
    assert!(!succeeded, "{words}");
    assert_eq!(words.matches("the daemon cannot be built").count(), 4, "{words}");
    assert!(words.ends_with("\n0 passed, 4 failed\n"), "{words}");
}

#[test]
fn a_step_that_stands_still_is_ended_with_all_its_children() {
    let machine = Machine::new("patience").with("still", "echo begun\nsleep 1000 & wait");
    let done = Command::new(Path::new(ROOT).join("tests/patience"))
        .arg(machine.folder.join("still"))
        .env("PATIENCE_QUIET_MINUTES", "0.08")
        .output()
        .expect("it starts");
    let words = String::from_utf8_lossy(&done.stdout);
    assert_eq!(done.status.code(), Some(124), "{words}");
    assert!(words.starts_with("begun\n") && words.contains("it has stood still"), "{words}");
    assert!(words.contains("sleep 1000"), "the process is not named: {words}");
}

#[test]
fn a_step_that_gets_on_is_not_ended() {
    // Silent, and at work for longer than the patience with those that stand still. Four of them, so that on a busy
    // machine they get more of it than one that stands still.
    let body = "end=$(($(date +%s) + 6))\n\
                for _ in 1 2 3 4; do while [ \"$(date +%s)\" -lt $end ]; do :; done & done\n\
                wait\nexit 7";
    let machine = Machine::new("work").with("work", body);
    let done = Command::new(Path::new(ROOT).join("tests/patience"))
        .arg(machine.folder.join("work"))
        .env("PATIENCE_QUIET_MINUTES", "0.05")
        .output()
        .expect("it starts");
    assert_eq!(done.status.code(), Some(7), "{}", String::from_utf8_lossy(&done.stdout));
}

#[test]
fn a_step_that_waits_for_a_file_that_another_has_locked_is_not_ended() {
    let machine = Machine::new("lock");
    let lock = machine.folder.join("lock");
    let machine = machine.with("waits", &format!("flock '{}' true\nexit 7", lock.display()));
    let mut holder = Command::new("flock").arg(&lock).args(["sleep", "9"]).spawn().expect("flock");
    while !lock.exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let done = Command::new(Path::new(ROOT).join("tests/patience"))
        .arg(machine.folder.join("waits"))
        .env("PATIENCE_QUIET_MINUTES", "0.08")
        .output()
        .expect("it starts");
    holder.wait().expect("it ends");
    assert_eq!(done.status.code(), Some(7), "{}", String::from_utf8_lossy(&done.stdout));
}

/// By itself, and at most three. What fails again has failed.
#[test]
fn a_test_that_fails_beside_others_and_passes_alone_is_named() {
    let body = "if [ \"$1\" = --exact ]; then\n\
                [ \"$2\" != red ] && echo 'test result: ok. 1 passed; 0 failed' && exit\n\
                exit 101\n\
                fi\n\
                for name in $FAIL; do echo \"---- $name stdout ----\"; done\n\
                exit ${END:-101}";
    let machine = Machine::new("again").with("tests", body);
    let run = |fail: &str, end: &str| {
        machine.run("tests/again", &["env", fail, end, "--", "tests", "--quiet"])
    };
    for (fail, flaky) in [("late", true), ("late red", false), ("a b c d", false), ("", false)] {
        let (passes, words) = run(&format!("FAIL={fail}"), "END=101");
        assert_eq!((passes, words.contains("\nFLAKY: late (")), (flaky, flaky), "{fail}: {words}");
    }
    let (passes, words) = run("FAIL=", "END=0");
    assert!(passes && !words.contains("FLAKY"), "{words}");
}
