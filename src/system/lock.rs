//! The lock of the state folder. A process holds it while it changes files that another process may
//! change too. During an upgrade two daemons use one folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The lock's file in the folder. It holds no data.
pub const FILE: &str = "lock";

/// How long to wait before a lock that another process holds is tried again.
const STEP: Duration = Duration::from_millis(10);

/// The lock, held until it is dropped. The kernel frees it too, however the process ends (flock(2)).
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that was just forked may share it, and the lock would
        // last until that child has closed it too.
        let _ = self.file.unlock();
    }
}

impl Lock {
    /// Takes the lock of a folder, and waits at most `patience` for another process that holds it. The
    /// wait blocks the thread, so the loop passes zero.
    ///
    /// # Errors
    /// `WouldBlock` if the other process still holds it; otherwise the system's error.
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
