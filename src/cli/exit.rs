//! How a command ends: exit codes, numbered as in BSD's `sysexits.h`.

/// Why a command failed: an exit code and a line for standard error.
pub type Failure = (u8, String);

/// All went well.
pub const OK: u8 = 0;
/// The call was not answered, or another failure without a number of its own.
pub const FAILURE: u8 = 1;
/// Wrong command line.
pub const USAGE: u8 = 64;
/// A file's content cannot be used.
pub const DATA: u8 = 65;
/// A file cannot be read.
pub const NO_INPUT: u8 = 66;
/// The service cannot be reached or refuses us.
pub const UNAVAILABLE: u8 = 69;
/// A fault of this program.
pub const SOFTWARE: u8 = 70;
/// The system refuses something, such as a socket.
pub const SYSTEM: u8 = 71;
/// A file cannot be written.
pub const CANNOT_CREATE: u8 = 73;
/// Reading or writing failed.
pub const IO: u8 = 74;
/// A setting is wrong or missing.
pub const CONFIG: u8 = 78;
