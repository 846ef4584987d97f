//! The authority's folder: private files that are written whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use crate::config::read_file;
use crate::system::lock::{self, Lock};

/// Longest file that is read, in bytes; ours have about 1,500.
const MAX_FILE: usize = 64 * 1024;
/// Readable by the owner only.
pub(super) const PRIVATE: u32 = 0o600;
/// Readable by all.
pub(super) const PUBLIC: u32 = 0o644;

/// A fault of a file, in a sentence that begins with its name.
pub(super) fn fault(path: &Path, what: impl std::fmt::Display) -> String {
    // Escaped, because a file name may hold a line break.
    format!("{}: {what}", path.display().to_string().escape_debug())
}

/// Creates the folder, and what it lies in, for the owner only; one that is there stays as it is.
pub(super) fn create_folder(path: &Path) -> Result<(), String> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        fault(path, format_args!("cannot be created ({error}); choose VOICELIVED_STATE_DIR"))
    })
}

/// Reads a text; `None` when there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>, String> {
    let bytes = match read_file(path, MAX_FILE) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| fault(path, format_args!("cannot be read ({error})")))?,
    };
    String::from_utf8(bytes).map(Some).map_err(|_| fault(path, "is damaged: it is no text"))
}

/// Whether nobody but the owner may read or write a file.
pub(super) fn is_private(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o077 == 0)
}

/// Takes a file away from others who can read or write it; true when that was needed.
pub(super) fn make_private(path: &Path) -> io::Result<bool> {
    if is_private(path)? {
        return Ok(false);
    }
    fs::set_permissions(path, Permissions::from_mode(PRIVATE))?;
    Ok(true)
}

/// Writes a file as a whole: a power cut leaves the old one or the new one. The mode holds from the
/// first byte. The caller has the folder's [`Lock`].
pub(super) fn write(folder: &Path, name: &str, mode: u32, text: &str) -> Result<(), String> {
    let path = folder.join(name);
    let unfinished = folder.join(format!(".{name}.new"));
    let steps = || {
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // `create_new` follows no link that somebody has put there.
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        File::open(folder)?.sync_all()
    };
    steps().map_err(|error| {
        // A full disk keeps no half of it.
        let _ = fs::remove_file(&unfinished);
        fault(&path, format_args!("cannot be written ({error})"))
    })
}

/// The folder's lock, which the caller holds while it writes here. Waits at most `patience`.
pub(super) fn lock(folder: &Path, patience: Duration) -> Result<Lock, String> {
    Lock::take(folder, patience).map_err(|error| {
        let what = format_args!("cannot be locked ({error})");
        fault(&folder.join(lock::FILE), what)
    })
}
