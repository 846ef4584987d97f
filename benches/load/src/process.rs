//! The relay under test: a command, its environment, and what the kernel says it uses.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a relay may take until it accepts connections. Python's takes its time.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// The key that every relay is given.
pub(crate) const KEY: &str = "bench-key-0123456789abcdef0123456789";

/// A running relay. Ended when dropped.
pub(crate) struct Relay {
    process: Child,
    pub(crate) address: SocketAddr,
    /// Where it serves HTTPS, if it does.
    pub(crate) secure: Option<SocketAddr>,
    /// From the start of its process to the first connection that it accepts.
    pub(crate) start_to_ready: Duration,
}

/// What it is told about its surroundings.
pub(crate) struct Surroundings<'a> {
    pub(crate) service: SocketAddr,
    pub(crate) folder: &'a Path,
    /// The most calls it will get.
    pub(crate) calls: usize,
    /// The core it has for itself.
    pub(crate) core: usize,
    /// How it is scheduled.
    pub(crate) schedule: Schedule,
    /// It shall serve HTTPS too.
    pub(crate) https: bool,
}

impl Relay {
    /// Starts `command`, in which `{port}` stands for the port to listen on.
    pub(crate) fn start(command: &[String], around: &Surroundings<'_>) -> io::Result<Self> {
        let port = free_port()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // It runs in a folder of its own.
        let words = command.iter().map(|word| match std::path::absolute(word) {
            Ok(path) if word.contains('/') && path.exists() => path.into_os_string(),
            _ => word.replace("{port}", &port.to_string()).into(),
        });
        let secure = around.https.then(free_port).transpose()?;
        let core = around.core.to_string();
        let mut taskset = Command::new("taskset");
        taskset.args(["-c", &core]);
        taskset.arg("chrt").args(around.schedule.words());
        taskset.args(words);
        // Its `.env`, if it reads one, shall not be ours.
        taskset.current_dir(around.folder);
        environment(&mut taskset, around, port);
        if let Some(port) = secure {
            https(&mut taskset, around.folder, port);
        }
        let log = File::create(around.folder.join("relay.log"))?;
        taskset.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let started = Instant::now();
        let mut process = taskset.spawn()?;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = process.try_wait()? {
                let log = fs::read_to_string(around.folder.join("relay.log"))?;
                return Err(io::Error::other(format!("the relay ended: {status}\n{log}")));
            }
            if started.elapsed() > READY_TIMEOUT {
                return Err(io::Error::other("the relay does not listen"));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        let secure = secure.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Ok(Self { process, address, secure, start_to_ready: started.elapsed() })
    }

    pub(crate) fn usage(&self) -> io::Result<Usage> {
        Usage::of(self.process.id())
    }

    /// Resident and proportional set, in KiB.
    pub(crate) fn memory(&self) -> io::Result<(u64, u64)> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.id()))?;
        Ok((number(&text, "Rss:"), number(&text, "Pss:")))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline && matches!(self.process.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn environment(command: &mut Command, around: &Surroundings<'_>, port: u16) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let authority = around.folder.join("ca.pem");
    let calls = around.calls.to_string();
    // A relay's guaranteed share is 3 s of audio for every call.
    let pool = (around.calls * 4).max(120).to_string();
    command.env_clear().env("PATH", path).env("HOME", around.folder);
    command.envs([
        ("AZURE_VOICE_LIVE_ENDPOINT", format!("https://{}", around.service).as_str()),
        ("AZURE_VOICE_LIVE_API_KEY", KEY),
        ("VOICE_LIVE_MODEL", "gpt-realtime-mini"),
        ("PORT", &port.to_string()),
        ("BENCH_CALLS", &calls),
        ("VOICELIVED_MAX_SESSIONS", &calls),
        ("VOICELIVED_MAX_SESSIONS_PER_ADDRESS", &calls),
        ("VOICELIVED_CONNECTS_PER_MINUTE", "10000"),
        ("VOICELIVED_AUDIO_POOL_SECONDS", &pool),
        ("VOICELIVED_LOG", "warn"),
    ]);
    command.env("VOICELIVED_STATE_DIR", around.folder);
    command.env("VOICELIVED_UPSTREAM_CA_FILE", &authority);
    command.env("SSL_CERT_FILE", &authority);
}

/// HTTPS with the certificate of the folder; a relay that has none takes no notice.
fn https(command: &mut Command, folder: &Path, port: u16) {
    command.env("VOICELIVED_TLS_LISTEN", format!("127.0.0.1:{port}"));
    command.env("VOICELIVED_TLS_CERT", folder.join("cert.pem"));
    command.env("VOICELIVED_TLS_KEY", folder.join("key.pem"));
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// What a process has used since its start, by the kernel's accounting.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Time on a processor, user and kernel together.
    pub(crate) cpu: Duration,
    /// The kernel's part of it, of 1 s in hundredths.
    pub(crate) kernel_ticks: u64,
    /// The user's part of it.
    pub(crate) user_ticks: u64,
    /// Times that it went to sleep.
    pub(crate) sleeps: u64,
    /// Time that it could have run and waited for a processor.
    pub(crate) waited: Duration,
}

impl Usage {
    pub(crate) fn of(process: u32) -> io::Result<Self> {
        let mut sum = Self::default();
        for task in fs::read_dir(format!("/proc/{process}/task"))? {
            let folder = task?.path();
            let schedule = fs::read_to_string(folder.join("schedstat"))?;
            sum.cpu += Duration::from_nanos(field(&schedule, 0));
            sum.waited += Duration::from_nanos(field(&schedule, 1));
            let status = fs::read_to_string(folder.join("status"))?;
            sum.sleeps += number(&status, "voluntary_ctxt_switches:");
        }
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|word| word.parse().ok());
        (sum.user_ticks, sum.kernel_ticks) = (ticks(11).unwrap_or(0), ticks(12).unwrap_or(0));
        Ok(sum)
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            kernel_ticks: self.kernel_ticks - earlier.kernel_ticks,
            user_ticks: self.user_ticks - earlier.user_ticks,
            sleeps: self.sleeps.saturating_sub(earlier.sleeps),
            waited: self.waited.saturating_sub(earlier.waited),
        }
    }
}

/// The kernel's account of this process, kept open: it is read for every frame.
pub(crate) struct Account(File);

impl Account {
    pub(crate) fn own() -> io::Result<Self> {
        File::open("/proc/self/schedstat").map(Self)
    }

    /// How long this process could have run and waited for its core instead, in nanoseconds since
    /// its start. What it waits after being woken is in it.
    pub(crate) fn waited(&self) -> u64 {
        let mut text = [0; 96];
        let count = self.0.read_at(&mut text, 0).unwrap_or(0);
        field(std::str::from_utf8(&text[..count]).unwrap_or(""), 1)
    }
}

/// A number of a line that has nothing but numbers.
fn field(line: &str, index: usize) -> u64 {
    line.split_whitespace().nth(index).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// The number behind a name at the beginning of a line.
fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// How the kernel schedules a process.
#[derive(Clone, Copy)]
pub(crate) enum Schedule {
    /// As everything else.
    Usual,
    /// Whoever wakes does not push the other off a core that both share.
    Batch,
    /// Before everything else that runs on the machine, which must not be quiet then. For root.
    Urgent,
    /// Behind everything else: whatever wakes has the core at once.
    Behind,
}

impl Schedule {
    /// Policy and priority for `chrt`.
    pub(crate) fn words(self) -> [&'static str; 2] {
        match self {
            Self::Usual => ["--other", "0"],
            Self::Batch => ["--batch", "0"],
            Self::Urgent => ["--fifo", "1"],
            Self::Behind => ["--idle", "0"],
        }
    }
}

/// Binds this process to a core and schedules it: by tool, since the standard library cannot.
pub(crate) fn pin_self(core: usize, schedule: Schedule) -> io::Result<()> {
    let id = std::process::id().to_string();
    let mut taskset = Command::new("taskset");
    taskset.args(["-pc", &core.to_string(), &id]).stdout(Stdio::null());
    let [policy, priority] = schedule.words();
    let mut chrt = Command::new("chrt");
    chrt.args([policy, "-p", priority, &id]);
    if taskset.status()?.success() && chrt.status()?.success() {
        return Ok(());
    }
    Err(io::Error::other("taskset or chrt (package util-linux) failed"))
}
