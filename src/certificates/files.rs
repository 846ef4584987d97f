//! The files of the local authority. Errors become sentences that begin with the file's name.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use crate::system::files::{self, Reach};
use crate::system::lock::{self, Lock};

/// The longest file that is read, in bytes. Ours have about 1,500.
const MAX_FILE: usize = 64 * 1024;

/// A sentence about a file that begins with its name.
pub(super) fn fault(path: &Path, what: impl std::fmt::Display) -> String {
    // Escaped, because a file name may hold a line break.
    format!("{}: {what}", path.display().to_string().escape_debug())
}

/// Creates the folder, and what it lies in, for the owner only; one that is there stays as it is.
pub(super) fn create_folder(path: &Path) -> Result<(), String> {
    files::create_folder(path).map_err(|error| {
        fault(path, format_args!("cannot be created ({error}); choose VOICELIVED_STATE_DIR"))
    })
}

/// Reads a text file; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, String> {
    let bytes = match files::read(path, MAX_FILE) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| fault(path, format_args!("cannot be read ({error})")))?,
    };
    String::from_utf8(bytes).map(Some).map_err(|_| fault(path, "is damaged: it is no text"))
}

/// Replaces a file as a whole, down to the disk. The calling function holds the folder's [`Lock`].
pub(super) fn write(folder: &Path, name: &str, mode: u32, text: &str) -> Result<(), String> {
    files::replace(folder, name, mode, text.as_bytes(), Reach::Disk)
        .map_err(|error| fault(&folder.join(name), format_args!("cannot be written ({error})")))
}

/// Takes the folder's lock, which a process must hold while it writes there. Waits at most `patience`.
pub(super) fn lock(folder: &Path, patience: Duration) -> Result<Lock, String> {
    Lock::take(folder, patience).map_err(|error| {
        let what = format_args!("cannot be locked ({error})");
        fault(&folder.join(lock::FILE), what)
    })
}
