//! The service manager (systemd): the messages to it (`sd_notify(3)`) and the sockets that it passes
//! (`sd_listen_fds(3)`). Other supervisors that speak these two protocols work as well.
//!
//! Nothing here waits. A message that the manager's socket does not take at once is lost; the next one
//! tells the state anew. Only the loop's turns feed the watchdog, so the manager notices a turn that
//! hangs. A status is sent when it has changed, at most every [`STATUS_EVERY`]. It never wakes the loop:
//! a change that comes too soon is sent in a later turn, and the watchdog causes turns.

use std::ffi::OsStr;
use std::io;
use std::net::{self, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The shortest time between two status messages.
const STATUS_EVERY: Duration = Duration::from_secs(2);

/// The most sockets that are taken over. The loop has poll tokens for no more listeners.
const MAX_SOCKETS: usize = 8;

/// The service manager. Without one (the default) every message is dropped.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often the watchdog is fed: half of `WATCHDOG_USEC`, after which the manager kills the process.
    watchdog: Option<Duration>,
    watchdog_due: Option<Instant>,
    /// The last status that was sent, and when.
    standing: Option<(Standing, Instant)>,
    /// `RELOADING=1` was sent, and `READY=1` must follow. Otherwise the manager waits for the reload
    /// until its time limit.
    reloading: bool,
}

/// What a status tells. Its text is made only when this changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The number of calls now.
    pub calls: usize,
    /// The daemon is stopping and admits no new calls.
    pub draining: bool,
    /// The settings are complete, so calls can be made.
    pub configured: bool,
}

impl Manager {
    /// The manager that the environment names (`NOTIFY_SOCKET`). Without one nothing is ever sent.
    ///
    /// # Errors
    /// When there is one, but its socket cannot be used.
    pub fn from_environment() -> io::Result<Self> {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|time| ours && *time > 0);
        Ok(Self {
            socket: Some((socket, address(&name)?)),
            watchdog: watchdog.map(|time| Duration::from_micros(time / 2)),
            ..Self::default()
        })
    }

    /// Tells that the daemon is listening. From now on the watchdog is fed.
    pub fn ready(&mut self, now: Instant) {
        self.watchdog_due = self.watchdog.map(|_| now);
        self.send("READY=1");
    }

    /// Tells that the daemon is about to end, and asks for `grace` (whole seconds) until then.
    pub fn stopping(&self, grace: Duration) {
        self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}000000", grace.as_secs()));
    }

    /// Tells that the daemon reads its settings again, until [`reloaded`](Self::reloaded).
    pub fn reloading(&mut self) {
        self.reloading = true;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_micros()));
    }

    /// Tells that the settings have been read again, if [`reloading`](Self::reloading) came before.
    pub fn reloaded(&mut self) {
        if std::mem::take(&mut self.reloading) {
            self.send("READY=1");
        }
    }

    /// When the watchdog must be fed.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.watchdog_due
    }

    /// Feeds the watchdog if it is due. The loop calls it in each turn.
    pub fn turn(&mut self, now: Instant) {
        if self.watchdog_due.is_some_and(|due| now >= due) {
            self.watchdog_due = self.watchdog.map(|time| now + time);
            self.send("WATCHDOG=1");
        }
    }

    /// Sends a status if it has changed, and if the last one was sent [`STATUS_EVERY`] ago or earlier.
    /// `words` makes its text.
    pub fn tell(&mut self, standing: Standing, now: Instant, words: impl FnOnce() -> String) {
        let fresh = |(last, at): (Standing, Instant)| last == standing || now < at + STATUS_EVERY;
        if self.socket.is_none() || self.standing.is_some_and(fresh) {
            return;
        }
        self.standing = Some((standing, now));
        self.send(&format!("STATUS={}", words().replace('\n', " ")));
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket {
            // If the manager does not get the message, it acts as its own settings say.
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

/// The address of the manager's socket: a path, or `@` and a name in Linux's abstract namespace.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
    }
}

/// The kernel's monotonic clock in microseconds. The manager compares it with its own reading.
fn monotonic_micros() -> i64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1000)
}

/// A listening socket that the service manager has passed.
#[derive(Debug)]
pub struct Passed {
    /// The socket, bound and listening.
    pub socket: TcpListener,
    /// The address that it listens on.
    pub address: net::SocketAddr,
    /// It is for HTTPS, as its name (`FileDescriptorName=`) says.
    pub secure: bool,
}

/// Takes the sockets that the service manager has passed. Call it once, at the start.
///
/// # Errors
/// A sentence, when one of them cannot be used. It is not skipped: the owner has configured it, and the
/// daemon would then not listen where the owner expects it.
pub fn passed_sockets() -> Result<Vec<Passed>, String> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for at in 0..passed.len() {
        let name = names.next().filter(|_| at < MAX_SOCKETS).unwrap_or("of too many");
        if !matches!(name, "http" | "https") {
            return Err(format!(
                "socket {name:?} was passed: FileDescriptorName= must be https or http"
            ));
        }
        let secure = name == "https";
        let taken = passed.take_tcp_listener(at).and_then(|socket| {
            let Some(socket) = socket else { return Ok(()) };
            let address = socket.local_addr()?;
            sockets.push(Passed { socket, address, secure });
            Ok(())
        });
        taken.map_err(|error| format!("socket {name:?} cannot be used: {error}"))?;
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDING: Standing = Standing { calls: 1, draining: false, configured: true };

    fn pair(name: &str) -> (UnixDatagram, Manager) {
        let name = format!("voicelived-test-{}-{name}", std::process::id());
        let systemd = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap());
        let systemd = systemd.unwrap();
        systemd.set_nonblocking(true).unwrap();
        let ours = UnixDatagram::unbound().unwrap();
        let address = address(OsStr::new(&format!("@{name}"))).unwrap();
        (systemd, Manager { socket: Some((ours, address)), ..Manager::default() })
    }

    fn received(systemd: &UnixDatagram) -> Option<String> {
        let mut bytes = [0; 512];
        let length = systemd.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..length].to_vec()).unwrap())
    }

    #[test]
    fn a_status_is_told_when_it_changes_but_not_at_once_again() {
        let (systemd, mut manager) = pair("status");
        let start = Instant::now();
        manager.tell(STANDING, start, || "one\ncall".to_owned());
        assert_eq!(received(&systemd).as_deref(), Some("STATUS=one call"));
        let later = start + STATUS_EVERY;
        manager.tell(STANDING, later, || unreachable!("nothing has changed"));
        let two = Standing { calls: 2, ..STANDING };
        manager.tell(two, start + STATUS_EVERY / 2, || unreachable!("too soon"));
        manager.tell(two, later, || "two".to_owned());
        assert_eq!(received(&systemd).as_deref(), Some("STATUS=two"));
        assert_eq!(received(&systemd), None);
    }

    #[test]
    fn the_watchdog_is_fed_by_turns_at_half_its_time() {
        let (systemd, mut manager) = pair("watchdog");
        manager.watchdog = Some(Duration::from_secs(5));
        let start = Instant::now();
        manager.turn(start);
        assert_eq!((received(&systemd), manager.deadline()), (None, None), "not ready yet");
        manager.ready(start);
        manager.turn(start);
        manager.turn(start + Duration::from_secs(4));
        assert_eq!(manager.deadline(), Some(start + Duration::from_secs(5)));
        manager.turn(start + Duration::from_secs(6));
        let all: Vec<_> = std::iter::from_fn(|| received(&systemd)).collect();
        assert_eq!(all, ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]);
    }

    #[test]
    fn a_reload_is_told_with_its_time_and_ends_once() {
        let (systemd, mut manager) = pair("reload");
        manager.reloaded();
        manager.reloading();
        manager.reloaded();
        manager.reloaded();
        let all: Vec<_> = std::iter::from_fn(|| received(&systemd)).collect();
        let [reloading, ready] = &all[..] else { panic!("{all:?}") };
        let (_, time) = reloading.split_once("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        // They differ by the time the machine slept.
        assert!(time.parse::<f64>().unwrap() <= (uptime + 1.0) * 1e6, "{time} {uptime}");
        assert!(time.parse::<f64>().unwrap() > 0.0);
        assert_eq!(ready, "READY=1");
    }

    #[test]
    fn a_manager_that_is_gone_does_no_harm() {
        let (systemd, mut manager) = pair("gone");
        drop(systemd);
        manager.ready(Instant::now());
        manager.stopping(Duration::from_secs(1));
        assert!(address(OsStr::new("vsock:2:1234")).is_err());
        assert!(address(OsStr::new("relative")).is_err());
    }
}
