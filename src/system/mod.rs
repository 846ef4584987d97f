//! What the operating system offers, and only here: child processes, the state folder's lock, the log's
//! descriptor, name look-up, the service manager, and whether the clock was set. Nothing in it knows of
//! calls.

pub mod child;
pub mod clock;
pub mod files;
pub mod lock;
pub mod log;
pub mod resolve;
pub mod systemd;
pub mod terminal_log;
