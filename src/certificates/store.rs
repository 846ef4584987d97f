//! Root and leaf in their folder: reads them, checks them, and makes what is missing.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::KeyPair;
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;

use super::facts::Facts;
use super::files::{self, fault};
use super::issue::{self, DAY, Signer};
use super::names::Names;
use super::permits::Permits;
use crate::net::tls;
use crate::system::clock::{EARLIEST, seconds};
use crate::system::files::{PRIVATE, PUBLIC, is_private, make_private};
use crate::system::lock::Lock;

const ROOT_KEY: &str = "ca-key.pem";
const ROOT: &str = "ca.pem";
const LEAF: &str = "leaf.pem";
/// What a user must do when a root cannot be used any more. The text ends several messages.
const NEW_ROOT: &str = "delete ca-key.pem and ca.pem to begin with a new root, which every device \
                        must be told to trust";
/// How long the start waits for another process. Making certificates takes milliseconds.
const START_PATIENCE: Duration = Duration::from_secs(5);
/// How long before its end a root is announced to end, in seconds.
const ROOT_NOTICE: u64 = 365 * DAY;

/// The certificate that users trust.
#[derive(PartialEq, Eq)]
pub(super) struct Root {
    pub(super) pem: String,
    /// SHA-256, as devices show it.
    pub(super) fingerprint: String,
    der: CertificateDer<'static>,
    facts: Facts,
}

/// The certificate that clients are shown.
pub(super) struct Leaf {
    /// Key and certificate.
    pub(super) pem: String,
    pub(super) facts: Facts,
}

/// The folder, and what is to be said about it.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    warnings: Vec<String>,
    /// Nothing may be changed, not even the mode of a file.
    only_looks: bool,
}

impl Store {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), warnings: Vec::new(), only_looks: false }
    }

    pub(super) fn for_looking(folder: &Path) -> Self {
        Self { only_looks: true, ..Self::new(folder) }
    }

    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Makes the folder, and waits for a process that writes.
    pub(super) fn lock_for_start(&self) -> Result<Lock, String> {
        files::create_folder(&self.folder)?;
        files::lock(&self.folder, START_PATIENCE)
    }

    /// Root and leaf of the folder, if both can be used as they are; `None` if something must be written.
    pub(super) fn find(
        &mut self,
        names: &Names,
        now: SystemTime,
    ) -> Result<Option<(Root, Leaf)>, String> {
        let Some((root, _)) = self.load_root()? else {
            return Ok(None);
        };
        if !self.is_published(&root)? {
            return Ok(None);
        }
        let leaf = self.load_leaf(&root).filter(|leaf| !leaf.needs_renewal(&root, names, now));
        if leaf.is_some() {
            self.announce_end(&root, now);
        }
        Ok(leaf.map(|leaf| (root, leaf)))
    }

    /// Makes what is missing or no longer fits. The calling function holds the lock.
    pub(super) fn complete(
        &mut self,
        names: &Names,
        now: SystemTime,
    ) -> Result<(Root, Leaf), String> {
        let (root, key) = match self.load_root()? {
            Some(found) => found,
            None => self.make_root(names, now)?,
        };
        if !self.is_published(&root)? {
            // The copy is for users only. The daemon works without it, so a failure is a warning.
            let written = files::write(&self.folder, ROOT, PUBLIC, &root.pem);
            self.warn_of(written);
        }
        let leaf = match self.load_leaf(&root) {
            Some(leaf) if !leaf.needs_renewal(&root, names, now) => leaf,
            old => self.make_leaf(&root, key, old.as_ref(), names, now)?,
        };
        self.announce_end(&root, now);
        Ok((root, leaf))
    }

    /// A new leaf under a root that has been in use.
    pub(super) fn renew(
        &mut self,
        used: &Root,
        old: &Leaf,
        names: &Names,
        now: SystemTime,
    ) -> Result<Leaf, String> {
        let _lock = files::lock(&self.folder, Duration::ZERO)?;
        let path = self.folder.join(ROOT_KEY);
        let (root, key) = self
            .load_root()?
            .ok_or_else(|| fault(&path, "is gone; restore it, or start again with a new root"))?;
        if root != *used {
            return Err(fault(&path, "has changed; start again to use the new root"));
        }
        self.announce_end(&root, now);
        self.make_leaf(&root, key, Some(old), names, now)
    }

    /// The root and its key; `None` when there is none yet.
    fn load_root(&mut self) -> Result<Option<(Root, KeyPair)>, String> {
        let path = self.folder.join(ROOT_KEY);
        let Some(text) = files::read(&path)? else {
            return match files::read(&self.folder.join(ROOT))? {
                None => Ok(None),
                Some(_) => Err(fault(
                    &path,
                    format_args!(
                        "is missing, and {ROOT} is of no use without it. Restore it from a \
                         backup, or {NEW_ROOT}"
                    ),
                )),
            };
        };
        self.take_back(&path)?;
        let damaged = |what| {
            let mend = format_args!("is damaged ({what}). Restore it from a backup, or {NEW_ROOT}");
            fault(&path, mend)
        };
        let key = issue::read_key(&text).ok_or_else(|| damaged("no usable private key"))?;
        let root = Root::read(&text).ok_or_else(|| damaged("no usable certificate"))?;
        if root.facts.public_key != key.public_key_raw() {
            return Err(damaged("key and certificate do not belong together"));
        }
        Ok(Some((root, key)))
    }

    /// Makes the root's key readable for its owner only, and warns if others could read it.
    fn take_back(&mut self, path: &Path) -> Result<(), String> {
        if self.only_looks {
            if !is_private(path).unwrap_or(true) {
                let what = "others can read the root's key; set its mode to 0600, which the daemon does too when it starts";
                self.warn(fault(path, what));
            }
            return Ok(());
        }
        match make_private(path) {
            Ok(false) => {}
            Ok(true) => self.warn(fault(
                path,
                format_args!(
                    "others could read the root's key; only its owner can now. If one of them may \
                     have, {NEW_ROOT}"
                ),
            )),
            Err(error) => {
                let what = "others can read the root's key and that cannot be changed";
                return Err(fault(path, format_args!("{what} ({error}); set its mode to 0600")));
            }
        }
        Ok(())
    }

    /// Makes the root and saves it. If it cannot be saved, that is an error: the next start would make
    /// another root, which the users' devices do not trust.
    fn make_root(&mut self, names: &Names, now: SystemTime) -> Result<(Root, KeyPair), String> {
        let host = names.dns.first().map_or("localhost", String::as_str);
        let text = issue::root(host, &Permits::for_device(names), seconds(now).max(EARLIEST))
            .map_err(|error| format!("no root certificate can be made: {error}"))?;
        files::write(&self.folder, ROOT_KEY, PRIVATE, &text)?;
        self.load_root()?
            .ok_or_else(|| fault(&self.folder.join(ROOT_KEY), "has gone while it was made"))
    }

    /// Whether the folder's public copy is there.
    fn is_published(&self, root: &Root) -> Result<bool, String> {
        let path = self.folder.join(ROOT);
        match files::read(&path)? {
            None => Ok(false),
            Some(text) if text == root.pem => Ok(true),
            Some(_) => Err(fault(
                &path,
                format_args!(
                    "is not the root of {ROOT_KEY}. If it is the one your devices trust, restore \
                     its {ROOT_KEY} from a backup; if not, delete it, and it is written again"
                ),
            )),
        }
    }

    /// The leaf, if it names this root as its issuer. A damaged one counts as none and is made anew. Nothing is
    /// lost by that, because devices trust the root and not the leaf.
    fn load_leaf(&mut self, root: &Root) -> Option<Leaf> {
        let path = self.folder.join(LEAF);
        let pem = match files::read(&path) {
            Ok(found) => found?,
            Err(error) => {
                self.warn(error);
                return None;
            }
        };
        // Its mode is not changed here. A start may look twice, and the second look must find the same.
        if !is_private(&path).unwrap_or(false) {
            self.warn(fault(&path, "others could read the key in it; it is made anew"));
            return None;
        }
        let Some(leaf) = Leaf::read(pem) else {
            self.warn(fault(&path, "is damaged and is made anew"));
            return None;
        };
        (leaf.facts.issuer == root.facts.subject).then_some(leaf)
    }

    /// Makes a leaf and saves it if possible. `old` is the one before it.
    fn make_leaf(
        &mut self,
        root: &Root,
        key: KeyPair,
        old: Option<&Leaf>,
        names: &Names,
        now: SystemTime,
    ) -> Result<Leaf, String> {
        let mut now = seconds(now);
        if now < EARLIEST {
            let known = old.map_or(0, |old| old.facts.not_before.saturating_add(DAY));
            now = known.max(EARLIEST);
        }
        self.judge_end(root, now)?;
        let granted = root.permitted(names);
        // Only names get a warning. New public IPv6 addresses come every day, and no user types them.
        for name in names.dns.iter().filter(|name| !granted.dns.contains(name)) {
            self.warn(format!(
                "the name {name} is newer than the root and not in the certificate. Use another \
                 name, or {NEW_ROOT}"
            ));
        }
        let signer = Signer { certificate: &root.der, key, not_after: root.facts.not_after };
        let pem = issue::leaf(signer, &granted, now)
            .map_err(|error| format!("no certificate can be made: {error}"))?;
        let leaf = Leaf::read(pem).ok_or("the certificate just made cannot be read back")?;
        let written = files::write(&self.folder, LEAF, PRIVATE, &leaf.pem);
        self.warn_of(written);
        Ok(leaf)
    }

    /// For [`Authority::inspect`](super::Authority::inspect): whether root and leaf are complete. If not,
    /// it checks that the rest can be made from what is there.
    pub(super) fn look(&mut self, names: &Names, now: SystemTime) -> Result<bool, String> {
        let complete = self.find(names, now)?.is_some();
        if !complete && let Some((root, _)) = self.load_root()? {
            self.judge_end(&root, seconds(now).max(EARLIEST))?;
        }
        Ok(complete)
    }

    /// Refuses a root that has ended, because no leaf under it would be valid.
    fn judge_end(&self, root: &Root, now: u64) -> Result<(), String> {
        if now < root.facts.not_after {
            return Ok(());
        }
        let what = "the root has ended, or the clock is wrong. Set the clock, or";
        Err(fault(&self.folder.join(ROOT), format_args!("{what} {NEW_ROOT}")))
    }

    /// Warns a year before the root ends. Users need that time to make their devices trust another one.
    fn announce_end(&mut self, root: &Root, now: SystemTime) {
        let left = root.facts.not_after.saturating_sub(seconds(now));
        if left < ROOT_NOTICE {
            self.warn(format!("the root certificate ends in {} days; {NEW_ROOT}", left / DAY));
        }
    }

    fn warn_of(&mut self, done: Result<(), String>) {
        if let Err(fault) = done {
            self.warn(fault);
        }
    }

    /// Once each: a start may look at the same file twice.
    fn warn(&mut self, sentence: String) {
        if !self.warnings.contains(&sentence) {
            self.warnings.push(sentence);
        }
    }
}

impl Root {
    fn read(text: &str) -> Option<Self> {
        let der = tls::certificates(text.as_bytes()).ok()?.into_iter().next()?;
        let facts = Facts::read(&der)?;
        let digits = digest(&SHA256, &der);
        let digits: Vec<_> = digits.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        let pem = text[text.find("-----BEGIN CERTIFICATE-----")?..].to_owned();
        Some(Self { pem, fingerprint: digits.join(":"), der, facts })
    }

    /// The part of `names` that a leaf can be made out to.
    fn permitted(&self, names: &Names) -> Names {
        self.facts.permits.as_ref().map_or_else(|| names.clone(), |permits| permits.of(names))
    }
}

impl Leaf {
    fn read(pem: String) -> Option<Self> {
        tls::server_config(pem.as_bytes(), pem.as_bytes()).ok()?;
        let der = tls::certificates(pem.as_bytes()).ok()?.into_iter().next()?;
        Some(Self { facts: Facts::read(&der)?, pem })
    }

    /// See [`Authority::needs_renewal`](super::Authority::needs_renewal).
    pub(super) fn needs_renewal(&self, root: &Root, names: &Names, now: SystemTime) -> bool {
        let now = seconds(now);
        let outdated = now >= self.renew_at() || now < self.facts.not_before;
        let wanted = root.permitted(names);
        let own = &self.facts.names;
        (outdated && now >= EARLIEST)
            || wanted.dns.iter().any(|name| !own.dns.contains(name))
            || wanted.addresses.iter().any(|address| !own.addresses.contains(address))
    }

    /// When a third of its life is left, in seconds since 1970.
    pub(super) fn renew_at(&self) -> u64 {
        let life = self.facts.not_after.saturating_sub(self.facts.not_before);
        self.facts.not_after - life / 3
    }
}
