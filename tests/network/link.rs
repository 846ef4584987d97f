//! A bad network link from this process's network to another one (`tests/network/link.py`).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A network of its own, with no interface that is up. It lasts as long as this does.
pub(crate) struct Network(Child);

impl Network {
    pub(crate) fn new() -> Self {
        let mut holder = Command::new("unshare");
        // `cat` ends with us.
        let child = holder.args(["--net", "--", "sh", "-c", "echo made; exec cat"]);
        let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("util-linux is installed");
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().expect("it was piped"));
        said.read_line(&mut line).expect("it is readable");
        assert_eq!(line, "made\n", "no network namespace can be made: this test needs root");
        let network = Self(child);
        network.run("ip link set lo up");
        network
    }

    /// The process that is in it.
    pub(crate) fn process(&self) -> u32 {
        self.0.id()
    }

    /// A command that will run in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.process())).args(["--", program]);
        command
    }

    /// Runs a command of words without quotes in it.
    pub(crate) fn run(&self, command: &str) {
        let mut words = command.split(' ');
        let status = self.command(words.next().expect("a program")).args(words).status();
        assert!(status.expect("util-linux is installed").success(), "{command}");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// See the module's text.
pub(crate) struct Link {
    program: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Link {
    /// A link to `far`; its two ends get the first and the second address of `net` (as `10.0.0`), and
    /// `options` are those of `link.py`.
    pub(crate) fn to(far: &Network, name: &str, net: &str, options: &[&str]) -> Self {
        let mut program = Command::new("python3");
        program
            .arg("-B")
            .arg(format!("{}/tests/network/link.py", env!("CARGO_MANIFEST_DIR")))
            .arg(name);
        program.arg(format!("--far={}", far.process()));
        program.arg(format!("--near-address={net}.1/24")).arg(format!("--far-address={net}.2/24"));
        let program = program.args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut program = program.expect("this test needs python3");
        let commands = program.stdin.take();
        let answers = BufReader::new(program.stdout.take().expect("it was piped"));
        let mut link = Self { program, commands, answers };
        assert_eq!(
            link.hear(),
            "ready",
            "there is no link: this test needs root, /dev/net/tun and iproute2"
        );
        link
    }

    /// Changes settings of the link, as `loss=5 delay=40`.
    pub(crate) fn set(&mut self, settings: &str) {
        assert_eq!(self.ask(&format!("set {settings}")), "set");
    }

    /// What has become of the packets: `to_far` and `to_near`.
    pub(crate) fn count(&mut self) -> Value {
        serde_json::from_str(&self.ask("count")).expect("JSON")
    }

    fn ask(&mut self, command: &str) -> String {
        let commands = self.commands.as_mut().expect("it lives");
        commands.write_all(format!("{command}\n").as_bytes()).expect("it reads");
        self.hear()
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it is readable");
        line.trim_end().to_owned()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The end of the file ends it.
        drop(self.commands.take());
        let _ = self.program.wait();
    }
}
