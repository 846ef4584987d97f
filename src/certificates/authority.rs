//! The local authority. It makes certificates for a device whose names no public authority certifies.
//!
//! Its folder has these files, each written as a whole:
//!
//! | file | mode | what |
//! |---|---|---|
//! | `ca-key.pem` | 0600 | the root's key and its certificate: one file, so that a power cut cannot part them |
//! | `ca.pem` | 0644 | the root's certificate alone, which users trust |
//! | `leaf.pem` | 0600 | the leaf's key and certificate |
//! | `lock` | 0600 | empty; keeps two processes from making two roots |
//!
//! The root is made once, and the program never replaces it. Users have told their devices to trust it,
//! and a new one would not be trusted. The leaf may be replaced at any time. The root's key is read when
//! a leaf is made, and is not kept in memory.
//!
//! **Clock.** A device without a clock battery starts in the past, until the network tells it the time.
//! While the clock is before a constant of this program (`EARLIEST`), dates are not judged. A leaf that
//! must be made then begins at the latest time that is known to be past. Once the clock is right,
//! [`Authority::needs_renewal`] judges dates again.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;

use super::names::Names;
use super::store::{Leaf, Root, Store};
use crate::net::tls;

/// A root and a leaf certificate, backed by a folder.
pub struct Authority {
    store: Store,
    root: Root,
    leaf: Leaf,
}

impl Authority {
    /// Loads root and leaf from `folder`, and makes what is missing or no longer fits. A root is made only
    /// if there is none. A leaf is made when [`needs_renewal`](Self::needs_renewal) says so. If all is well
    /// nothing is written. Several processes may do this at the same time.
    ///
    /// # Errors
    /// A sentence that names a file and says how to mend it. The root may be damaged, incomplete, not
    /// ours, or expired; or the folder must be written and cannot be.
    pub fn open(folder: &Path, names: &Names, now: SystemTime) -> Result<Self, String> {
        let mut store = Store::new(folder);
        if let Some((root, leaf)) = store.find(names, now)? {
            return Ok(Self { store, root, leaf });
        }
        let _lock = store.lock_for_start()?;
        // Another process may have been quicker.
        let (root, leaf) = match store.find(names, now)? {
            Some(found) => found,
            None => store.complete(names, now)?,
        };
        Ok(Self { store, root, leaf })
    }

    /// Tells what [`open`](Self::open) will find, without changing anything: whether something has to be
    /// made, and warnings for the owner.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), as far as reading shows them.
    pub fn inspect(
        folder: &Path,
        names: &Names,
        now: SystemTime,
    ) -> Result<(bool, Vec<String>), String> {
        let mut store = Store::for_looking(folder);
        let complete = store.look(names, now)?;
        Ok((!complete, store.take_warnings()))
    }

    /// Whether the leaf should be made anew. There are three reasons: a third of its validity is left or
    /// less; it begins in the future, because the clock was ahead when it was made; or it lacks one of
    /// `names` that the root may certify. A name or address that has gone is no reason. Interfaces come
    /// and go, and each write wears the memory card.
    #[must_use]
    pub fn needs_renewal(&self, names: &Names, now: SystemTime) -> bool {
        self.leaf.needs_renewal(&self.root, names, now)
    }

    /// When a third of the leaf's validity will be left.
    #[must_use]
    pub fn renew_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.leaf.renew_at())
    }

    /// Makes a new leaf for `names`. It does not wait: if another process is writing, that is an error.
    /// Call [`server_config`](Self::server_config) and [`take_warnings`](Self::take_warnings) afterwards.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and if the root in the folder is not the one that was opened. The
    /// leaf then stays as it was. If the new leaf cannot be saved, that is only a warning, because it
    /// works without.
    pub fn renew(&mut self, names: &Names, now: SystemTime) -> Result<(), String> {
        self.leaf = self.store.renew(&self.root, &self.leaf, names, now)?;
        Ok(())
    }

    /// The TLS configuration with the leaf. The root is not sent, because a client does not trust a root
    /// that it does not have already.
    ///
    /// # Errors
    /// A sentence, if rustls refuses the leaf or its key.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, String> {
        tls::server_config(self.leaf.pem.as_bytes(), self.leaf.pem.as_bytes())
    }

    /// The root's certificate as PEM, for users' devices to trust.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.root.pem
    }

    /// SHA-256 of the root's certificate as devices show it: upper case hexadecimal with colons.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.root.fingerprint
    }

    /// The names and addresses that the leaf certifies.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.leaf.facts.names
    }

    /// The warnings since the last call, each for a log line.
    pub fn take_warnings(&mut self) -> Vec<String> {
        self.store.take_warnings()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("store", &self.store)
            .field("fingerprint", &self.root.fingerprint)
            .field("leaf", &self.leaf.facts.names)
            .finish_non_exhaustive()
    }
}
