//! Calls by the thousand, started, dropped, reset and begun again at random, with a service behind
//! TLS that is lost now and then: at the end memory and descriptors are what they were, and
//! every PCM block is back. Replies come at a hundred times real time.
//!
//! `VOICELIVED_SOAK_SECONDS` is how long (20; 60 by `tests/run soak`, 300 by `make soak`),
//! `VOICELIVED_SEED` replays.

mod support;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use support::client::Client;
use support::daemon::{Daemon, PATIENCE};
use support::random::Random;
use support::switch::Switch;
use support::{certificates, frames};
use tungstenite::Message;

/// Callers at once: more than there are places, so that some are turned away.
const CALLERS: u64 = 10;
const PLACES: &str = "8";

/// What the service is like: mostly well.
const SERVICES: [&[&str]; 5] =
    [&[], &[], &["reset@reply"], &["close=1011@update"], &["unknown-events", "pings", "fragments"]];

/// kB by which memory may be above what it was after a quarter of the time: the heap's edges move.
const FLAT: u64 = 512;

/// What a second of the time must bring at least, or it was no soak. A loaded machine of two cores
/// brings ten times as much.
const CALLS_A_SECOND: u64 = 10;
const AUDIO_A_SECOND: u64 = 5 * 48_000;

/// Ways to end that must have been among them. A reset connection ends no call.
const ENDS: [&str; 4] = ["hang_up", "client_lost", "bad_protocol", "service_closed"];

#[derive(Default)]
struct Totals {
    calls: AtomicU64,
    active: AtomicU64,
    heard: AtomicU64,
}

#[test]
fn thousands_of_calls_leave_nothing_behind() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let time = Duration::from_secs(number("VOICELIVED_SOAK_SECONDS").unwrap_or(20));
    let seed = number("VOICELIVED_SEED").unwrap_or(1);
    let folder = std::env::temp_dir().join(format!("voicelived-soak-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let services = services(&folder);
    let switch = Switch::to(services[0].address);
    let settings = [
        ("VOICELIVED_LOG", "debug"),
        ("VOICELIVED_RECONNECT_SECONDS", "1"),
        ("VOICELIVED_RESUME_SECONDS", "0"),
        ("VOICELIVED_CONNECTS_PER_MINUTE", "10000"),
        ("VOICELIVED_MAX_SESSIONS", PLACES),
        ("VOICELIVED_MAX_SESSIONS_PER_ADDRESS", PLACES),
        ("VOICELIVED_UPSTREAM_CA_FILE", folder.join("cert.pem").to_str().expect("UTF-8")),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let daemon = Daemon::run_at(&format!("https://{}", switch.address), &settings);
    let descriptors = daemon.descriptors();

    let (totals, stop) = (Arc::new(Totals::default()), Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (totals, stop, address) = (Arc::clone(&totals), Arc::clone(&stop), daemon.address);
            let mut random = Random::new(seed * 1000 + caller);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    call(address, &mut random, &totals);
                }
            })
        })
        .collect();
    let (start, mut random, mut early) = (Instant::now(), Random::new(seed), None);
    while start.elapsed() < time {
        switch.turn_to(services[random.range(0, services.len() - 1)].address);
        std::thread::sleep(Duration::from_millis(200));
        if early.is_none() && start.elapsed() > time / 4 {
            early = Some((daemon.status("VmRSS"), totals.calls.load(Ordering::Relaxed)));
        }
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.join().unwrap_or_else(|_| panic!("a caller fails. Log:\n{}", tail(&daemon.log())));
    }
    daemon.assert_nothing_left(descriptors);

    let (early, early_calls) = early.expect("a quarter has passed");
    let (late, threads) = (daemon.status("VmRSS"), daemon.status("Threads"));
    let of = |total: &AtomicU64| total.load(Ordering::Relaxed);
    let (calls, active, heard) = (of(&totals.calls), of(&totals.active), of(&totals.heard));
    // As the daemon counts it: what was sent after a refusal, it has not heard.
    let said = daemon.count("microphone_bytes_total", "");
    println!(
        "seed {seed}, {time:?}: {calls} calls, {active} seen active, {:.1} h of replies and {:.1} h of \
         speech; memory {early} kB after {early_calls} calls, {late} kB at the end",
        hours(heard),
        hours(said),
    );
    let seconds = time.as_secs();
    assert!(calls >= CALLS_A_SECOND * seconds, "only {calls} calls");
    assert!(active >= calls / 8, "of {calls} calls only {active} could talk");
    assert!(heard >= AUDIO_A_SECOND * seconds, "only {heard} bytes were heard");
    assert!(said >= AUDIO_A_SECOND * seconds, "only {said} bytes were said");
    for end in ENDS {
        assert!(daemon.count("calls_ended_total", end) > 0, "no call ended by {end}");
    }
    assert!(daemon.count("service_reconnects_total", "") > 0, "no call outlived its session");
    assert!(late <= early + FLAT, "memory grows: {early} kB, then {late} kB");
    assert_eq!(threads, 1);
    let _ = std::fs::remove_dir_all(folder);
}

fn hours(bytes: u64) -> f64 {
    bytes as f64 / 48_000.0 / 3600.0
}

fn services(folder: &std::path::Path) -> Vec<Daemon> {
    let (certificate, key) = certificates::localhost();
    let file = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();
    let (cert_file, key_file) = (file("cert.pem"), file("key.pem"));
    std::fs::write(&cert_file, certificate).expect("a file");
    std::fs::write(&key_file, key).expect("a file");
    let start = |faults: &&[&str]| {
        let mut arguments = vec!["simulate", "--listen", "127.0.0.1:0"];
        arguments.extend(["--cert", &cert_file, "--key", &key_file]);
        for fault in ["no-welcome", "reply-seconds=10", "speed=100"].iter().chain(*faults) {
            arguments.extend(["--fault", fault]);
        }
        Daemon::start(&arguments, &[("VOICELIVED_LOG", "info")])
    };
    SERVICES.iter().map(start).collect()
}

/// One caller's visit, from the connection to some way of leaving.
fn call(address: SocketAddr, random: &mut Random, totals: &Totals) {
    if random.one_in(10) {
        // Gone before the request is whole.
        let mut socket = TcpStream::connect(address).expect("it accepts");
        let _ = socket.write_all(b"GET /ws HTTP/1.1\r\nHost:");
        return leave_abruptly(&socket, random);
    }
    totals.calls.fetch_add(1, Ordering::Relaxed);
    let mut client = Client::connect(address);
    if !random.one_in(5) {
        wait(&mut client, |client| says(client, "active") || says(client, "ended"));
    }
    for _ in 0..random.range(0, 3) {
        let frames = random.range(0, 100);
        for _ in 0..frames {
            client.send(Message::binary(vec![0; 2 * random.range(1, 960)]));
        }
        if random.one_in(2) {
            client.tell(&json!({"type": "text", "text": "Go on."}));
            let patience = Duration::from_millis(random.range(0, 150) as u64);
            let until = Instant::now() + patience;
            client.read_until_time(until);
        }
    }
    totals.heard.fetch_add(client.audio.len() as u64, Ordering::Relaxed);
    totals.active.fetch_add(u64::from(says(&client, "active")), Ordering::Relaxed);
    leave(client, random);
}

fn leave(mut client: Client, random: &mut Random) {
    match random.range(0, 5) {
        0 => {
            client.tell(&json!({"type": "hang_up"}));
            wait(&mut client, |client| client.broken);
        }
        1 => {
            client.send(Message::Close(None));
            wait(&mut client, |client| client.broken);
        }
        2 => client.send_raw(&frames::head(0x82, 960)),
        3 => {
            client.send_raw(&frames::frame(0xf2, b"a reserved bit"));
            wait(&mut client, |client| client.broken);
        }
        4 => {
            // It stops reading, with a reply on its way.
            client.tell(&json!({"type": "text", "text": "Go on."}));
            std::thread::sleep(Duration::from_millis(50));
        }
        _ => {}
    }
    leave_abruptly(client.tcp(), random);
}

/// With a reset or without.
fn leave_abruptly(socket: &TcpStream, random: &mut Random) {
    if random.one_in(2) {
        let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
    }
}

fn says(client: &Client, state: &str) -> bool {
    client.messages.iter().any(|(_, message)| message["state"] == state)
}

/// Reads until then, or until the connection is over.
fn wait(client: &mut Client, mut done: impl FnMut(&Client) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !client.broken && !done(client) {
        assert!(Instant::now() < deadline, "nothing comes any more");
        client.read_one_within(Duration::from_secs(1));
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().rev().take(200).collect();
    lines.into_iter().rev().map(|line| format!("{line}\n")).collect()
}
