//! A network namespace for a test, with interfaces, addresses and a host name of its own.

use std::process::Command;

/// Says so to the test in the namespace.
const INSIDE: &str = "VOICELIVED_TEST_OWN_NETWORK";

/// Whether this process has a network of its own. If not, it runs the test of this name in this module
/// (`module_path!()`) again in one, fails as that does, and says false: there is nothing left to do.
pub(crate) fn is_own(module: &str, test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let test = &name_of(module, test);
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--uts"]);
    if !is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.arg("--").arg(std::env::current_exe().expect("this program"));
    unshare.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output =
        unshare.stderr(std::process::Stdio::inherit()).output().expect("util-linux is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{test} has failed in a network of its own");
    assert!(said.contains("1 passed"), "there is no test of the name {test}");
    false
}

/// What the test harness calls a test: it leaves the program's name out.
pub(crate) fn name_of(module: &str, test: &str) -> String {
    module.split_once("::").map_or_else(|| test.to_owned(), |(_, inner)| format!("{inner}::{test}"))
}

pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").expect("Linux").uid() == 0
}

/// Runs a command of words without quotes.
pub(crate) fn run(command: &str) {
    let mut words = command.split(' ');
    let program = words.next().expect("a program");
    let status = Command::new(program).args(words).status().expect("it is installed");
    assert!(status.success(), "{command}");
}
