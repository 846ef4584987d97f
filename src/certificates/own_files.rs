//! The owner's own certificate and key (`VOICELIVED_TLS_CERT`, `VOICELIVED_TLS_KEY`).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::ServerConfig;

use super::facts::{self, Facts};
use super::files::fault;
use super::names::Names;
use crate::net::tls;
use crate::system::clock::is_clock_set;
use crate::system::files;

/// Longest certificate or key file, in bytes.
const MAX_PEM: usize = 256 * 1024;

/// What tells one version of a file from the next, without reading it: device, inode, size, and time
/// of the last change in seconds and nanoseconds. `None` when there is no file.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// PEM files that something else, such as an ACME client, renews.
#[derive(Debug)]
pub struct OwnFiles {
    cert: PathBuf,
    key: PathBuf,
    seen: [Stamp; 2],
    names: Vec<String>,
    /// All of the certificate's names and addresses, wildcards among them.
    all_names: Names,
    /// The certificate's last second since 1970, and its date in words.
    end: Option<(u64, String)>,
}

impl OwnFiles {
    /// Files that have not been looked at yet: the chain, leaf first, and its key.
    #[must_use]
    pub fn new(cert: PathBuf, key: PathBuf) -> Self {
        Self {
            cert,
            key,
            seen: [None; 2],
            names: Vec::new(),
            all_names: Names::default(),
            end: None,
        }
    }

    /// Reads both. A caller that has an older configuration keeps it when this fails.
    ///
    /// # Errors
    /// A sentence that names the setting and its file, when one cannot be read, they do not belong
    /// together, or the certificate has expired by `now`. A clock that was never set judges nothing.
    pub fn load(&mut self, now: SystemTime) -> Result<Arc<ServerConfig>, String> {
        // Before reading: a change in between is then seen the next time.
        self.seen = self.stamps();
        let of_cert = |error| format!("VOICELIVED_TLS_CERT: {}", fault(&self.cert, error));
        let of_key = |error| format!("VOICELIVED_TLS_KEY: {}", fault(&self.key, error));
        let chain = read(&self.cert).map_err(of_cert)?;
        let key = read(&self.key).map_err(of_key)?;
        let leaf = tls::certificates(&chain).map_err(of_cert)?;
        // Tried alone first, so that the setting at fault is named.
        tls::private_key(&key).map_err(of_key)?;
        let with_key = |error| format!("{error} (VOICELIVED_TLS_KEY: {})", self.key.display());
        let config = tls::server_config(&chain, &key).map_err(with_key).map_err(of_cert)?;
        self.end = leaf.first().and_then(|leaf| facts::end_of(leaf));
        if let Some(expired) = self.expired(now) {
            return Err(expired);
        }
        let names = leaf.first().and_then(|leaf| Facts::names_of(leaf)).unwrap_or_default();
        self.names = names.dns.iter().filter(|name| !name.contains('*')).cloned().collect();
        self.all_names = names;
        Ok(config)
    }

    /// A sentence, if the certificate that was loaded last has expired by `now`.
    #[must_use]
    pub fn expired(&self, now: SystemTime) -> Option<String> {
        let (end, date) = self.end.as_ref()?;
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let words = || format!("the certificate expired on {date}; browsers refuse it: renew it");
        (is_clock_set(now) && seconds > *end)
            .then(|| format!("VOICELIVED_TLS_CERT: {}", fault(&self.cert, words())))
    }

    /// The DNS names of the certificate that was loaded last. Names with a wildcard are left out, because
    /// such a name may belong to another device.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The names and addresses of the certificate that was loaded last, with its wildcards.
    pub(super) fn all_names(&self) -> &Names {
        &self.all_names
    }

    /// Whether a file has been replaced or written since the last [`load`](Self::load). A failed load
    /// counts too, so a broken file is reported once. Links are followed, because ACME clients use them.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.stamps() != self.seen
    }

    fn stamps(&self) -> [Stamp; 2] {
        [&self.cert, &self.key].map(|path| {
            let found = fs::metadata(path).ok()?;
            Some((found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    files::read(path, MAX_PEM).map_err(|error| format!("cannot be read ({error})"))
}
