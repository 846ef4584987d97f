//! Starts the program as a user does, and reads its log, its descriptors and its memory.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it. Limits of the daemon of 15 s are waited for, on
/// machines that do much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The service's key in all tests; it must never be seen in a log.
pub(crate) const KEY: &str = "canary-5bd1e995-key";

/// A test that makes one call after the other is one address, and a call counts for it until the daemon has seen
/// its connection end.
const MANY_CALLS: (&str, &str) = ("VOICELIVED_MAX_SESSIONS_PER_ADDRESS", "16");

/// A running `voicelived`. Killed when dropped.
pub(crate) struct Daemon {
    process: Child,
    log: Arc<Mutex<String>>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Daemon {
    /// `voicelived demo` with these settings besides.
    pub(crate) fn demo(settings: &[(&str, &str)]) -> Self {
        Self::start(&["demo", "--listen", "127.0.0.1:0"], &[&[MANY_CALLS], settings].concat())
    }

    /// `voicelived simulate` with these fault words.
    pub(crate) fn simulate(faults: &[&str]) -> Self {
        let mut arguments = vec!["simulate", "--listen", "127.0.0.1:0"];
        for fault in faults {
            arguments.extend(["--fault", fault]);
        }
        Self::start(&arguments, &[])
    }

    /// `voicelived run` with a service at `service`, for example a [`simulate`](Self::simulate).
    pub(crate) fn run(service: SocketAddr, settings: &[(&str, &str)]) -> Self {
        Self::run_at(&format!("ws://{service}"), settings)
    }

    /// `voicelived run` with a service of any address.
    pub(crate) fn run_at(endpoint: &str, settings: &[(&str, &str)]) -> Self {
        let mut all = vec![
            ("AZURE_VOICE_LIVE_ENDPOINT", endpoint),
            ("AZURE_VOICE_LIVE_API_KEY", KEY),
            MANY_CALLS,
        ];
        all.extend(settings);
        Self::start(&["run", "--listen", "127.0.0.1:0"], &all)
    }

    /// `voicelived run` under strace with these options. A signal goes to strace, which dies of it.
    pub(crate) fn traced(options: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new("strace");
        command.args(options).arg(env!("CARGO_BIN_EXE_voicelived"));
        command.args(["run", "--listen", "127.0.0.1:0"]).env_clear();
        command.env("PATH", "/usr/bin:/bin");
        Self::spawn(command, settings)
    }

    /// The program as a service manager starts it: with these listening sockets, of these names.
    pub(crate) fn passed(
        sockets: &[(&str, &std::net::TcpListener)],
        arguments: &[&str],
        settings: &[(&str, &str)],
    ) -> Self {
        let mut daemon = Self::launch(with_sockets(sockets, arguments), settings);
        daemon.address = daemon.listening("");
        daemon
    }

    /// As [`run`](Self::run), with at most `descriptors` open at once.
    pub(crate) fn run_limited(
        service: SocketAddr,
        descriptors: u32,
        settings: &[(&str, &str)],
    ) -> Self {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
        shell.args([
            "-c",
            &script,
            env!("CARGO_BIN_EXE_voicelived"),
            "run",
            "--listen",
            "127.0.0.1:0",
        ]);
        shell.envs([
            ("AZURE_VOICE_LIVE_ENDPOINT", format!("ws://{service}").as_str()),
            ("AZURE_VOICE_LIVE_API_KEY", KEY),
        ]);
        Self::spawn(shell, settings)
    }

    /// The program with these arguments and nothing else in its environment.
    pub(crate) fn start(arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_voicelived"));
        command.args(arguments).env_clear();
        Self::spawn(command, settings)
    }

    /// The program as this command starts it, for example under an emulator.
    pub(crate) fn started_by(command: Command, settings: &[(&str, &str)]) -> Self {
        Self::spawn(command, settings)
    }

    /// `voicelived run` at a log level that need not tell where it listens. What it prints counts
    /// as logged.
    pub(crate) fn quiet(level: &str, endpoint: &str, settings: &[(&str, &str)]) -> Self {
        Self::redirected("1>&2", level, endpoint, settings)
    }

    /// `voicelived run` whose output goes where the shell's redirection says.
    pub(crate) fn redirected(
        redirection: &str,
        level: &str,
        endpoint: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        let mut shell = Command::new("/bin/sh");
        let program = env!("CARGO_BIN_EXE_voicelived");
        let script = format!("exec \"$0\" \"$@\" {redirection}");
        shell.args(["-c", &script, program, "run", "--listen", "127.0.0.1:0"]).env_clear();
        shell.envs([
            ("VOICELIVED_LOG", level),
            ("AZURE_VOICE_LIVE_ENDPOINT", endpoint),
            ("AZURE_VOICE_LIVE_API_KEY", KEY),
        ]);
        let mut daemon = Self::launch(shell, settings);
        daemon.wait_until("it listens", |daemon| daemon.listening_port().is_some());
        let port = daemon.listening_port().expect("waited for");
        daemon.address = SocketAddr::from(([127, 0, 0, 1], port));
        daemon
    }

    /// `voicelived run` in which system calls fail as `strace` is told. The tracer is a grandchild,
    /// so the process that is killed in the end is the daemon. It writes `trace`.
    pub(crate) fn run_injected(service: SocketAddr, injections: &[&str], trace: &Path) -> Self {
        Self::run_injected_with(service, injections, trace, &[])
    }

    /// As [`run_injected`](Self::run_injected), with these settings.
    pub(crate) fn run_injected_with(
        service: SocketAddr,
        injections: &[&str],
        trace: &Path,
        settings: &[(&str, &str)],
    ) -> Self {
        let mut traced = Command::new("strace");
        traced.args(["-D", "-qq", "-o"]).arg(trace).env_clear();
        let calls = "accept4,setsockopt,epoll_wait,recvfrom,sendto,writev,connect,getrandom";
        traced.args(["-e", &format!("trace={calls}")]);
        traced.args(injections.iter().flat_map(|injection| ["-e", injection]));
        let program = env!("CARGO_BIN_EXE_voicelived");
        traced.args(["--", program, "run", "--listen", "127.0.0.1:0"]);
        traced.envs([
            ("PATH", std::env::var("PATH").unwrap_or_default().as_str()),
            ("AZURE_VOICE_LIVE_ENDPOINT", &format!("ws://{service}")),
            ("AZURE_VOICE_LIVE_API_KEY", KEY),
        ]);
        Self::spawn(traced, settings)
    }

    /// The port of its only listening socket, as the kernel tells it.
    fn listening_port(&self) -> Option<u16> {
        let own: Vec<_> = fs::read_dir(format!("/proc/{}/fd", self.id()))
            .expect("it runs")
            .filter_map(|fd| Some(fs::read_link(fd.ok()?.path()).ok()?.display().to_string()))
            .collect();
        let table = fs::read_to_string("/proc/net/tcp").expect("Linux");
        table.lines().find_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let listens = fields.get(3) == Some(&"0A");
            let socket = format!("socket:[{}]", fields.get(9)?);
            let port = fields.get(1)?.rsplit(':').next()?;
            (listens && own.contains(&socket)).then(|| u16::from_str_radix(port, 16).ok())?
        })
    }

    fn spawn(mut command: Command, settings: &[(&str, &str)]) -> Self {
        command.env("VOICELIVED_LOG", "trace");
        let mut daemon = Self::launch(command, settings);
        daemon.address = daemon.listening("");
        daemon
    }

    /// Starts it; where it listens is not known yet.
    fn launch(mut command: Command, settings: &[(&str, &str)]) -> Self {
        command.envs(settings.iter().copied()).current_dir(std::env::temp_dir());
        let mut process = command
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let stderr = BufReader::new(process.stderr.take().expect("it was piped"));
        let log = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = shared.lock().expect("no panic holds it");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { process, log, address: unknown }
    }

    /// Where it serves HTTPS.
    pub(crate) fn secure_address(&self) -> SocketAddr {
        self.listening("https")
    }

    /// The last address it listens on with this scheme, or any: HTTPS is told before HTTP.
    fn listening(&self, scheme: &str) -> SocketAddr {
        let mut found = None;
        let wanted = format!("listening on {scheme}");
        self.wait_until("it listens", |daemon| {
            let log = daemon.logged();
            let mut lines = log.lines().filter(|line| line.contains(&wanted));
            let plain = lines.clone().find(|line| !line.contains("https://"));
            let line = if scheme.is_empty() { plain } else { lines.next() };
            found = line.and_then(|line| line.rsplit("//").next()?.trim().parse().ok());
            found.is_some()
        });
        found.expect("waited for")
    }

    /// Everything it has logged. One thread of the daemon writes the log, and one here reads it. So a line may
    /// come a moment after what it tells of: this waits until none has come for 50 ms, for a second at most.
    pub(crate) fn log(&self) -> String {
        let mut log = self.logged();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(50));
            let later = self.logged();
            if later.len() == log.len() {
                break;
            }
            log = later;
        }
        log
    }

    /// What has come of its log.
    fn logged(&self) -> String {
        self.log.lock().expect("no panic holds it").clone()
    }

    /// Waits for a condition, asking often; fails with the log when it never comes.
    pub(crate) fn wait_until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "{what}: not in time. Log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for a line with this text.
    pub(crate) fn wait_for_log(&self, text: &str) {
        self.wait_for_logs(text, 1);
    }

    /// Waits until this text has been logged so often. What counts the times must not be asked before: the daemon
    /// notices what a client does, such as a broken connection, only when it gets around to it.
    pub(crate) fn wait_for_logs(&self, text: &str, times: usize) {
        self.wait_until(text, |daemon| daemon.logged().matches(text).count() >= times);
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Threads; without those of an emulator that it may be run by (`tests/arm`).
    pub(crate) fn threads(&self) -> u64 {
        let program = fs::read_link(format!("/proc/{}/exe", self.id())).expect("it runs");
        let emulated =
            program.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"qemu-"));
        self.status("Threads") - u64::from(emulated)
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).expect("it runs").count()
    }

    /// A number from `/proc/PID/status`, such as `Threads` or `VmRSS` (kB).
    pub(crate) fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(&format!("{name}:")));
        let number = line.and_then(|line| line.split_whitespace().nth(1)).map(str::parse);
        number.expect("a line of that name").expect("a number")
    }

    /// Processor time used so far, to the nanosecond (`/proc/PID/schedstat`).
    pub(crate) fn processor_time(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.id())).expect("it runs");
        let first = text.split_whitespace().next().map(str::parse);
        Duration::from_nanos(first.expect("three numbers").expect("a number"))
    }

    /// Waits until no call is left, and asserts that everything was given back: connections,
    /// PCM blocks and descriptors.
    pub(crate) fn assert_nothing_left(&self, descriptors_before: usize) {
        self.wait_until("the last call is freed", |daemon| {
            let log = daemon.log();
            let last = log.lines().rev().find(|line| line.contains("PCM blocks free"));
            last.is_some_and(|line| {
                let mut numbers =
                    line.split_whitespace().skip(2).filter_map(|word| word.parse::<u64>().ok());
                let (used, free, all) = (numbers.next(), numbers.next(), numbers.next());
                used == Some(0) && free.is_some() && free == all
            })
        });
        self.wait_until("descriptors are closed", |daemon| {
            daemon.descriptors() <= descriptors_before
        });
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Sends a signal by name and waits for the end; the exit code.
    pub(crate) fn stop(mut self, signal: &str) -> Option<i32> {
        self.signal(signal);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().expect("it is ours") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not stop. Log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A command that finds these sockets at descriptor 3 and the next. The standard library passes
/// descriptors only as the standard streams, so a shell moves them.
pub(crate) fn with_sockets(
    sockets: &[(&str, &std::net::TcpListener)],
    arguments: &[&str],
) -> Command {
    let pass = |at: usize| {
        let (_, socket) = sockets.get(at)?;
        Some(Stdio::from(std::os::fd::OwnedFd::from(socket.try_clone().expect("a descriptor"))))
    };
    let names: Vec<_> = sockets.iter().map(|(name, _)| *name).collect();
    let mut shell = Command::new("/bin/sh");
    let script = "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ exec \"$0\" \"$@\"";
    shell.args(["-c", script, env!("CARGO_BIN_EXE_voicelived")]).args(arguments).env_clear();
    shell.stdin(pass(0).unwrap_or_else(Stdio::null)).stdout(pass(1).unwrap_or_else(Stdio::null));
    shell.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    shell.env("VOICELIVED_LOG", "trace");
    shell
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if !std::thread::panicking() {
            assert!(!self.log().contains(KEY), "the key is in the log");
        }
    }
}
