//! Files that are read whole up to a bound, and written whole or not at all. A power cut leaves the old
//! file or the new one, never half of one.
//!
//! During an upgrade two daemons write in the state folder. So a process that replaces a file there must
//! hold the folder's [`Lock`](super::lock::Lock).

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Mode of a file that only its owner may read.
pub const PRIVATE: u32 = 0o600;
/// Mode of a file that everybody may read.
pub const PUBLIC: u32 = 0o644;

/// How far a write must have gone when the function returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The kernel's memory. A power cut in the next seconds loses the new file and keeps the old one.
    Cache,
    /// The disk. An SD card may take a second, so the loop must not use it while calls run.
    Disk,
}

/// Reads a whole file of at most `max` bytes.
///
/// # Errors
/// The system's error, or `FileTooLarge`.
pub fn read(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let file = File::open(path).map_err(|error| explained(path, error))?;
    file.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        let message = format!("it is longer than {max} bytes");
        return Err(io::Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// Where systemd lays the credentials of each unit (systemd.exec(5)).
const CREDENTIALS: &str = "/run/credentials";

/// Says of a credential that is not there why that may be. Some containers empty the option for every service.
fn explained(path: &Path, error: io::Error) -> io::Error {
    if error.kind() != ErrorKind::NotFound || !path.starts_with(CREDENTIALS) {
        return error;
    }
    let why = "systemd has not handed it over: LoadCredential= of the unit must name it, and a drop-in \
               may have emptied that (systemctl cat shows it)";
    io::Error::new(ErrorKind::NotFound, why)
}

/// Creates a folder and its parent folders, with access for their owner only. A folder that exists stays
/// as it is.
///
/// # Errors
/// The system's error.
pub fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Replaces the file `name` in `folder`, or creates it. The new file has this mode from its first byte
/// on, so a secret in it is never readable for others. The calling function must hold the folder's lock.
///
/// # Errors
/// The system's error. The old file is then unchanged, and nothing is left of the new one.
pub fn replace(folder: &Path, name: &str, mode: u32, bytes: &[u8], reach: Reach) -> io::Result<()> {
    let unfinished = folder.join(format!(".{name}.new"));
    let steps = || {
        remove(&unfinished)?;
        write_new(&unfinished, mode, bytes, reach)?;
        fs::rename(&unfinished, folder.join(name))?;
        match reach {
            Reach::Disk => File::open(folder)?.sync_all(),
            Reach::Cache => Ok(()),
        }
    };
    // After a failure, such as a full disk, the unfinished file is removed.
    steps().inspect_err(|_| drop(remove(&unfinished)))
}

/// Creates a private file, unless it exists. If two processes do this at once, one of them wins, and both
/// then find that file. For this the file is written under another name and then linked to its own.
///
/// # Errors
/// The system's error. It is no error if the file exists.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    // A process that died here may have had the same process id.
    remove(&draft)?;
    let written =
        write_new(&draft, PRIVATE, bytes, Reach::Disk).and_then(|()| fs::hard_link(&draft, path));
    // If this fails, a file stays that nothing reads. The next start with this process id removes it.
    let _ = remove(&draft);
    match written {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.exists() => Ok(()),
        // The file system has no links, as FAT on many SD cards. The file is then written in its place:
        // two daemons that start there at the same moment are not provided for.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            write_new(path, PRIVATE, bytes, Reach::Disk)
        }
        other => other,
    }
}

/// Whether only the owner may read or write a file.
///
/// # Errors
/// The system's error.
pub fn is_private(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o077 == 0)
}

/// Removes the access of other users to a file. True if they had access before.
///
/// # Errors
/// The system's error.
pub fn make_private(path: &Path) -> io::Result<bool> {
    if is_private(path)? {
        return Ok(false);
    }
    fs::set_permissions(path, Permissions::from_mode(PRIVATE))?;
    Ok(true)
}

/// Removes a file. It is no error if there is none.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file that must not exist. `create_new` follows no link, so another user cannot make it write
/// somewhere else.
fn write_new(path: &Path, mode: u32, bytes: &[u8], reach: Reach) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    match reach {
        Reach::Disk => file.sync_all(),
        Reach::Cache => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder(name: &str) -> std::path::PathBuf {
        let name = format!("voicelived-files-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        create_folder(&path).unwrap();
        path
    }

    #[test]
    fn a_replaced_file_is_whole_and_follows_no_link() {
        let folder = folder("replace");
        let path = folder.join("it");
        let victim = folder.join("victim");
        fs::write(&victim, "untouched").unwrap();
        symlink(&victim, folder.join(".it.new")).unwrap();
        for (mode, reach) in [(PRIVATE, Reach::Cache), (PUBLIC, Reach::Disk)] {
            replace(&folder, "it", mode, b"new", reach).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"new");
            assert_eq!(is_private(&path).unwrap(), mode == PRIVATE);
        }
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
        // What cannot take its place leaves nothing behind, and the old one stays.
        fs::create_dir(folder.join("busy")).unwrap();
        assert!(replace(&folder, "busy", PRIVATE, b"new", Reach::Cache).is_err());
        assert!(!folder.join(".busy.new").exists());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_first_one_to_make_a_file_wins() {
        let folder = folder("create");
        let path = folder.join("token");
        create(&path, b"first").unwrap();
        create(&path, b"second").unwrap();
        assert_eq!((read(&path, 5).unwrap(), is_private(&path).unwrap()), (b"first".into(), true));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        assert_eq!(read(&path, 4).unwrap_err().kind(), ErrorKind::FileTooLarge);
        fs::set_permissions(&path, Permissions::from_mode(PUBLIC)).unwrap();
        assert_eq!((make_private(&path).unwrap(), make_private(&path).unwrap()), (true, false));
        fs::remove_dir_all(&folder).unwrap();
    }
}
