//! Programs that a test writes and others start.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a program that all may run. Another process writes it: a child that another test starts meanwhile would
/// inherit a file that is open here, and until that child runs its own program Linux refuses to start a program
/// that is open for writing ("Text file busy").
pub(crate) fn write(path: &Path, text: &str) {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "rm -f \"$0\"; cat >\"$0\" && chmod 755 \"$0\""]).arg(path);
    let mut child = shell.stdin(Stdio::piped()).spawn().expect("a shell");
    let mut input = child.stdin.take().expect("it was piped");
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    assert!(child.wait().expect("ours").success(), "{}", path.display());
}
