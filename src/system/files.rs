//! Files of the state folder: read whole up to a bound, and written whole or not at all. A power cut
//! leaves the old file or the new one, never half of one.
//!
//! During an upgrade two daemons write in one folder: who replaces a file there holds its
//! [`Lock`](super::lock::Lock).

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Mode of a file that only its owner may read.
pub const PRIVATE: u32 = 0o600;
/// Mode of a file that everybody may read.
pub const PUBLIC: u32 = 0o644;

/// How far a write has to go before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The kernel's memory: a power cut in the next seconds loses the new file and keeps the old one.
    Cache,
    /// The disk, which may take its time: nothing for the loop while a call talks.
    Disk,
}

/// Reads a whole file of at most `max` bytes.
///
/// # Errors
/// The system's, or `FileTooLarge`.
pub fn read(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        let message = format!("it is longer than {max} bytes");
        return Err(io::Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// Creates a folder, and the folders that it lies in, for the owner only. One that is there stays as
/// it is.
///
/// # Errors
/// The system's.
pub fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Gives `folder` a file `name` with these bytes in place of the one that may be there. The mode
/// holds from the first byte. The caller holds the folder's lock.
///
/// # Errors
/// The system's; the old file is then as it was, and nothing of the new one is left.
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
    // A full disk keeps no half of it.
    steps().inspect_err(|_| drop(remove(&unfinished)))
}

/// Makes a private file that is not there yet. Of two processes that make it at once, both find the
/// first one's: the file is written beside its place and then linked there.
///
/// # Errors
/// The system's. That the file is there already is none.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    // A process of our number may have died here.
    remove(&draft)?;
    let written =
        write_new(&draft, PRIVATE, bytes, Reach::Disk).and_then(|()| fs::hard_link(&draft, path));
    // What is left of a failure is of no use.
    let _ = remove(&draft);
    match written {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.exists() => Ok(()),
        // A file system without links, as on many SD cards: no second daemon starts there at once.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            write_new(path, PRIVATE, bytes, Reach::Disk)
        }
        other => other,
    }
}

/// Whether nobody but the owner may read or write a file.
///
/// # Errors
/// The system's.
pub fn is_private(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o077 == 0)
}

/// Takes a file away from others who can read or write it. True when that was needed.
///
/// # Errors
/// The system's.
pub fn make_private(path: &Path) -> io::Result<bool> {
    if is_private(path)? {
        return Ok(false);
    }
    fs::set_permissions(path, Permissions::from_mode(PRIVATE))?;
    Ok(true)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `create_new` follows no link that another user has put there.
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
