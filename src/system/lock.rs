//! The state folder's lock: held by a process while it changes files that others keep too. During an
//! upgrade there are two daemons on one folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Its file in the folder. It holds no data.
pub const FILE: &str = "lock";

/// How often a lock that somebody else holds is tried again.
const STEP: Duration = Duration::from_millis(10);

/// Held while files are written; the kernel frees it however the process ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would not do while a child that has just been forked shares the file.
        let _ = self.file.unlock();
    }
}

impl Lock {
    /// Waits at most `patience` for another process that writes: none at all in the loop.
    ///
    /// # Errors
    /// `WouldBlock` when the other is not done by then; else the system's.
    pub fn take(folder: &Path, patience: Duration) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(folder.join(FILE))?;
        let begin = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { file }),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if begin.elapsed() < patience => thread::sleep(STEP),
                Err(TryLockError::WouldBlock) => {
                    let what = "another process is writing in this folder";
                    return Err(io::Error::new(ErrorKind::WouldBlock, what));
                }
            }
        }
    }
}
