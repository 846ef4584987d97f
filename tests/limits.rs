//! Limits of number, size and time: a client that meets one is told, and no other client notices.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support;
use serde_json::json;
use socket2::{Domain, Type};
use support::client::{Client, request, upgrade_head};
use support::daemon::Daemon;
use support::http::{connect, read_answers};
use support::switch::Switch;
use support::time::{at_once, in_time};
use support::witness::{self, Witness};

#[test]
fn when_all_lines_are_busy_the_next_caller_hears_it() {
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_MAX_SESSIONS", "1")]);
    let before = daemon.descriptors();
    let first = Witness::call(daemon.address);
    for _ in 0..3 {
        let mut second = Client::connect(daemon.address);
        let message = second.assert_ends("a second call", 1013, "full");
        assert_eq!(message, "All lines are busy. Try again later.");
    }
    daemon.assert_counted("calls_turned_away_total", "full", 3);
    first.finish();
    daemon.wait_until("the line is free again", |daemon| daemon.descriptors() <= before);
    Witness::call(daemon.address).finish();
    daemon.assert_nothing_left(before);
}

#[test]
fn one_address_gets_its_share_only() {
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_MAX_SESSIONS_PER_ADDRESS", "2")]);
    let before = daemon.descriptors();
    let (first, second) = (Witness::call(daemon.address), Witness::call(daemon.address));
    let mut third = Client::connect(daemon.address);
    let message = third.assert_ends("a third call", 1013, "address_limit");
    assert_eq!(message, "There are already 2 calls from this address. End one of them first.");
    daemon.assert_counted("calls_turned_away_total", "address_limit", 1);
    // Another address has its own share.
    let elsewhere = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    elsewhere.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).expect("loopback is a net");
    elsewhere.connect(&daemon.address.into()).expect("the daemon listens");
    let mut fourth = Client::upgrade(elsewhere.into(), daemon.address, "");
    fourth.wait_until_active();
    fourth.tell(&json!({"type": "hang_up"}));
    fourth.assert_ends("another address", 1000, "hang_up");
    first.finish();
    second.finish();
    daemon.assert_nothing_left(before);
}

#[test]
fn the_longest_call_ends_in_order() {
    let service = Daemon::simulate(&["reply-seconds=60"]);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_MAX_SESSION_SECONDS", "2")]);
    let before = daemon.descriptors();
    let start = Instant::now();
    let mut client = Client::connect(daemon.address);
    let message = client.assert_ends("a long call", 1000, "time_limit");
    assert!(message.contains("2 seconds"), "{message}");
    assert!(start.elapsed() >= Duration::from_secs(2));
    daemon.assert_counted("calls_ended_total", "time_limit", 1);
    daemon.assert_nothing_left(before);
}

#[test]
fn a_client_that_takes_nothing_is_given_up() {
    let good = Daemon::simulate(&witness::SERVICE);
    let flood = Daemon::simulate(&["no-welcome", "reply-seconds=60", "speed=20"]);
    let switch = Switch::to(good.address);
    let daemon = Daemon::run(switch.address, &[]);
    let before = daemon.descriptors();
    let witness = Witness::call(daemon.address);
    switch.turn_to(flood.address);
    let mut stalled = Client::connect_with_window(daemon.address, 4 * 1024);
    stalled.wait_until_active();
    let start = Instant::now();
    stalled.tell(&json!({"type": "text", "text": "Go on."}));
    daemon.wait_for_log("ended: client_stalled");
    assert!(start.elapsed() >= Duration::from_secs(14), "{:?}", start.elapsed());
    daemon.assert_counted("calls_ended_total", "client_stalled", 1);
    witness.finish();
    daemon.assert_nothing_left(before);
}

/// A call whose service never gets ready ends with this reason and sentence, and only that call.
fn assert_times_out(fault: &str, reason: &str, hint: &str) {
    let good = Daemon::simulate(&witness::SERVICE);
    let mute = Daemon::simulate(&[fault]);
    let switch = Switch::to(good.address);
    let daemon = Daemon::run(switch.address, &[]);
    let before = daemon.descriptors();
    let witness = Witness::call(daemon.address);
    switch.turn_to(mute.address);
    let mut client = Client::connect(daemon.address);
    let message = client.assert_ends(fault, 1011, reason);
    assert!(message.contains(hint), "{fault}: {message}");
    daemon.assert_counted("calls_ended_total", reason, 1);
    witness.finish();
    daemon.assert_nothing_left(before);
}

#[test]
fn a_service_that_never_gets_ready_is_given_up() {
    let not_ready = "did not get ready in time";
    let cases = [
        ("silent", "unreachable", "did not finish the WebSocket upgrade in time"),
        ("no-session-created", "service_timeout", not_ready),
        ("stall@update", "service_timeout", not_ready),
    ];
    // Side by side, since each takes its time.
    std::thread::scope(|scope| {
        for (fault, reason, hint) in cases {
            scope.spawn(move || assert_times_out(fault, reason, hint));
        }
    });
}

#[test]
fn whoever_vanishes_lets_go_of_the_service() {
    let service = Daemon::simulate(&witness::SERVICE);
    // Calls that are held are in `tests/resume.rs`.
    let daemon = Daemon::run(service.address, &[("VOICELIVED_RESUME_SECONDS", "0")]);
    let before = daemon.descriptors();
    let gone = |service: &Daemon| service.log().matches("the client has gone").count();
    let call = || {
        let mut client = Client::connect(daemon.address);
        client.wait_until_active();
        client
    };
    let leaves = |how: &str, leave: &dyn Fn(Client)| {
        at_once(how, Duration::from_secs(2), || {
            let (client, before) = (call(), gone(&service));
            let start = Instant::now();
            leave(client);
            service.wait_until(how, |service| gone(service) > before);
            start.elapsed()
        });
    };
    // It says goodbye in TCP's words only.
    leaves("an end", &drop);
    leaves("a reset", &|mut client| {
        socket2::SockRef::from(&*client.tcp()).set_linger(Some(Duration::ZERO)).unwrap();
    });

    // A cable is pulled: nothing is heard of it any more, and no ping is answered.
    let (silent, before_it) = (call(), gone(&service));
    std::thread::sleep(Duration::from_secs(15));
    service.wait_until("silence", |service| gone(service) > before_it);
    drop(silent);
    daemon.assert_nothing_left(before);
}

#[test]
fn half_a_handshake_is_cut_after_five_seconds() {
    let daemon = Daemon::demo(&[]);
    let before = daemon.descriptors();
    let head = upgrade_head(daemon.address, "");
    let start = Instant::now();
    let mut silent = connect(daemon.address);
    let mut half = connect(daemon.address);
    half.write_all(&head.as_bytes()[..head.len() / 2]).unwrap();
    // The whole head has five seconds, however busily it comes.
    let mut slow = connect(daemon.address);
    for byte in head.as_bytes() {
        // Nothing is written that could come after the end.
        if start.elapsed() > Duration::from_millis(3_500) {
            break;
        }
        slow.write_all(&[*byte]).unwrap();
        std::thread::sleep(Duration::from_millis(500));
    }
    let answers = read_answers(&mut half);
    assert_eq!((answers.len(), answers[0].status), (1, 408));
    assert_eq!(read_answers(&mut slow)[0].status, 408);
    assert_eq!(read_answers(&mut silent).len(), 0, "who asks nothing is told nothing");
    let taken = start.elapsed();
    assert!(taken.as_secs() >= 5, "{taken:?}");
    daemon.assert_counted("http_responses_total", "408", 2);
    daemon.assert_counted("connections_dropped_total", "idle", 1);
    drop((silent, half, slow));
    daemon.wait_until("all are gone", |daemon| daemon.descriptors() <= before);
}

#[test]
fn slow_strangers_do_not_keep_callers_out() {
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_MAX_SESSIONS", "1")]);
    // More than there are places: all are cut in time, and then the caller's turn comes.
    let _strangers: Vec<_> = (0..80).map(|_| connect(daemon.address)).collect();
    Witness::call(daemon.address).finish();
    // 64 have a place, and the caller needs one too.
    assert!(daemon.count("connections_dropped_total", "evicted") >= 17);
}

/// A client that was turned away has two seconds to take the answer. With the call, 65 such clients
/// fill all 66 slots.
#[test]
fn visitors_beyond_all_places_are_dropped_and_counted() {
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_MAX_SESSIONS", "1")]);
    let witness = Witness::call(daemon.address);
    let head = upgrade_head(daemon.address, "");
    let (calm, mut crowds) = (daemon.descriptors(), 0);
    let told = in_time("65 are turned away", Duration::from_millis(1_800), || {
        // Those of an attempt before have gone.
        daemon.wait_until("all places are free", |daemon| daemon.descriptors() <= calm);
        crowds += 1;
        let start = Instant::now();
        let turned_away: Vec<_> = (0..65).map(|_| request(daemon.address, &head)).collect();
        // It sends a request, so it would be answered if it had a place.
        let mut late = connect(daemon.address);
        let ask = format!(
            "GET /healthz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            daemon.address
        );
        let _ = late.write_all(ask.as_bytes());
        let mut told = Vec::new();
        match late.read_to_end(&mut told) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        let took = start.elapsed();
        drop(turned_away);
        (took, told)
    });
    assert!(told.is_empty(), "it is closed without an answer: {}", String::from_utf8_lossy(&told));
    witness.finish();
    daemon.wait_until("it is counted", |daemon| {
        daemon.count("connections_dropped_total", "no_place") > 0
    });
    daemon.assert_counted("calls_turned_away_total", "full", crowds * 65);
}
