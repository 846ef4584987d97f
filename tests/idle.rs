//! A daemon that has nothing to do sleeps: no wake-up but for pings, with silent calls connected.

mod support;

use std::time::Duration;

use support::client::Client;
use support::daemon::Daemon;

/// How long it is watched: shorter than the 10 s of silence after which a client is pinged.
const WATCHED: Duration = Duration::from_secs(6);

/// Times that the daemon's thread went to sleep within the watched time.
fn sleeps(daemon: &Daemon) -> u64 {
    let before = daemon.status("voluntary_ctxt_switches");
    std::thread::sleep(WATCHED);
    daemon.status("voluntary_ctxt_switches") - before
}

#[test]
fn nobody_there_means_no_wake_up() {
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[]);
    // Until it has looked up its service and settled.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(sleeps(&daemon), 0);
}

#[test]
fn silent_calls_wake_nobody() {
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_MAX_SESSIONS_PER_ADDRESS", "10")]);
    let mut calls: Vec<Client> = (0..10).map(|_| Client::connect(daemon.address)).collect();
    calls.iter_mut().for_each(Client::wait_until_active);
    // What their beginning has put off: a head's deadline, a dial's.
    std::thread::sleep(Duration::from_millis(500));
    let woken = sleeps(&daemon);
    println!("10 silent calls, {WATCHED:?}: {woken} wake-ups");
    // The beginning's deadlines (5 s for a head, 3 s and 10 s for a dial) have passed unneeded, and
    // each may have woken the loop once to find that out; a timer would do so again and again.
    assert!(woken <= 2, "{woken} wake-ups");
}
