//! What the program needs of the operating system: child processes, files written whole, the state
//! folder's lock, logs, name look-up, the service manager, and whether the clock was set. Nothing in
//! here knows of calls.

pub mod child;
pub mod clock;
pub mod files;
pub mod line_child;
pub mod lock;
pub mod log;
pub mod piped_child;
pub mod resolve;
pub mod systemd;
pub mod terminal_log;
