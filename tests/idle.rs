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

/// Waits until it has done what it has to do at its start, or at that of its calls: a busy machine comes to that late.
fn settle(daemon: &Daemon) {
    let slept = || daemon.status("voluntary_ctxt_switches");
    daemon.wait_until("it has settled", |_| {
        let before = slept();
        std::thread::sleep(Duration::from_secs(1));
        slept() == before
    });
}

#[test]
fn nobody_there_means_no_wake_up() {
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[]);
    // It looks up its service first.
    settle(&daemon);
    assert_eq!(sleeps(&daemon), 0);
}

#[test]
fn silent_calls_wake_nobody() {
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_MAX_SESSIONS_PER_ADDRESS", "10")]);
    let mut calls: Vec<Client> = (0..10).map(|_| Client::connect(daemon.address)).collect();
    calls.iter_mut().for_each(Client::wait_until_active);
    settle(&daemon);
    let woken = sleeps(&daemon);
    println!("10 silent calls, {WATCHED:?}: {woken} wake-ups");
    // The beginning's deadlines (5 s for a head, 3 s and 10 s for a dial) have passed unneeded, and
    // each may have woken the loop once to find that out; a timer would do so again and again.
    assert!(woken <= 2, "{woken} wake-ups");
}
