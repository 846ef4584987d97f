//! Plays the service manager: receives the daemon's notifications.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use super::daemon::PATIENCE;

/// The socket that `NOTIFY_SOCKET` names.
pub(crate) struct Manager {
    socket: UnixDatagram,
    /// Its name as the environment has it.
    pub(crate) name: String,
    /// All messages so far.
    pub(crate) heard: Vec<String>,
}

impl Manager {
    /// A socket in the abstract namespace.
    pub(crate) fn new(test: &str) -> Self {
        let name = format!("voicelived-{}-{test}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("short");
        let socket = UnixDatagram::bind_addr(&address).expect("free");
        Self { socket, name: format!("@{name}"), heard: Vec::new() }
    }

    /// A socket in the file system, as systemd's own.
    pub(crate) fn at_path(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("voicelived-{}-{test}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).expect("free");
        Self { socket, name: path.to_str().expect("plain").to_owned(), heard: Vec::new() }
    }

    /// The next message; `None` when none comes in that time.
    pub(crate) fn hear(&mut self, time: Duration) -> Option<String> {
        let mut bytes = [0; 2048];
        self.socket.set_read_timeout(Some(time)).expect("some time");
        let length = self.socket.recv(&mut bytes).ok()?;
        let message = String::from_utf8(bytes[..length].to_vec()).expect("text");
        self.heard.push(message.clone());
        Some(message)
    }

    /// Waits for a message that begins so, and returns it.
    pub(crate) fn wait_for(&mut self, start: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(message) = self.hear(Duration::from_millis(100))
                && message.starts_with(start)
            {
                return message;
            }
        }
        panic!("{start} was never told, but {:?}", self.heard);
    }

    /// Forgets what has come until now.
    pub(crate) fn forget(&mut self) {
        while self.hear(Duration::from_millis(1)).is_some() {}
        self.heard.clear();
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if self.name.starts_with('/') {
            let _ = std::fs::remove_file(&self.name);
        }
    }
}
