//! libfaketime, which plays the clock of a daemon.

use std::fs;

/// Where Debian's package libfaketime puts it, for any architecture.
pub(crate) fn library() -> String {
    let folders = fs::read_dir("/usr/lib").expect("a Linux").flatten();
    let mut found = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    let library = found.find(|path| path.exists());
    let library = library.expect("this test needs libfaketime (Debian package faketime)");
    library.to_str().expect("plain").to_owned()
}
