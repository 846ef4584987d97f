//! The local authority: certificates for a device that no public authority can vouch for.
//!
//! The folder holds, each written as a whole:
//!
//! | file | mode | what |
//! |---|---|---|
//! | `ca-key.pem` | 0600 | the root's key and its certificate: one file, so that a power cut cannot part them |
//! | `ca.pem` | 0644 | the root's certificate alone, which users trust |
//! | `leaf.pem` | 0600 | the leaf's key and certificate |
//! | `lock` | 0600 | empty; keeps two processes from making two roots |
//!
//! The root is made once and never replaced by itself: that would take away the trust users gave it,
//! without a word to them. The leaf is ours to replace at any time. The root's key is read when a
//! leaf is made and not kept in memory.
//!
//! **Clock.** A device without a battery starts in the past until the network tells it the time.
//! While the clock is before a constant of this program (`EARLIEST`), dates are not judged, and a leaf
//! that must be made begins at the latest moment known to be past. Once the clock is right,
//! [`Authority::needs_renewal`] judges again.

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
    /// Loads what is in `folder`, and makes what is missing or no longer fits: the root only if there
    /// is none, the leaf as [`needs_renewal`](Self::needs_renewal) says. Writes nothing when all is
    /// well. Several processes may do this at once.
    ///
    /// # Errors
    /// A sentence that names a file and says how to mend it: the root is damaged, incomplete, of
    /// somebody else's making, or has ended; or the folder cannot be written although it must be.
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

    /// What [`open`](Self::open) will find, without making or changing anything: whether something
    /// has to be made, and sentences for people.
    ///
    /// # Errors
    /// As there, as far as it can be told by looking.
    pub fn inspect(
        folder: &Path,
        names: &Names,
        now: SystemTime,
    ) -> Result<(bool, Vec<String>), String> {
        let mut store = Store::for_looking(folder);
        let complete = store.look(names, now)?;
        Ok((!complete, store.take_warnings()))
    }

    /// Whether the leaf should be made anew: a third of its life is left or less, it begins in the
    /// future (the clock was ahead when it was made), or it lacks one of `names` that the root may
    /// vouch for. A name or address that has gone is no reason: interfaces come and go, and a memory
    /// card wears out.
    #[must_use]
    pub fn needs_renewal(&self, names: &Names, now: SystemTime) -> bool {
        self.leaf.needs_renewal(&self.root, names, now)
    }

    /// When a third of the leaf's life will be left.
    #[must_use]
    pub fn renew_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.leaf.renew_at())
    }

    /// Makes a new leaf for `names`. Does not wait: another process that is just writing is an error.
    /// Take [`server_config`](Self::server_config) and [`take_warnings`](Self::take_warnings) after.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when the root in the folder is not the one that was opened; the
    /// leaf stays as it was. That the new leaf cannot be saved is only a warning: it works.
    pub fn renew(&mut self, names: &Names, now: SystemTime) -> Result<(), String> {
        self.leaf = self.store.renew(&self.root, &self.leaf, names, now)?;
        Ok(())
    }

    /// The TLS configuration that shows the leaf. The root is not sent along: a client either has it
    /// already or has no reason to believe it.
    ///
    /// # Errors
    /// A sentence, when rustls refuses them.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, String> {
        tls::server_config(self.leaf.pem.as_bytes(), self.leaf.pem.as_bytes())
    }

    /// The root's certificate in PEM, for users to trust.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.root.pem
    }

    /// SHA-256 of the root's certificate as devices show it: upper case hexadecimal with colons.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.root.fingerprint
    }

    /// What the leaf is made out to.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.leaf.facts.names
    }

    /// Sentences worth a log line at `warn` since the last time.
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
