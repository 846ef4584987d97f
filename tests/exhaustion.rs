//! Floods beside a call: its audio is not disturbed, memory stays flat, and a client that sends its
//! request at once is served. When the flood ends, everything is as before.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use support::certificates;
use support::client::request;
use support::daemon::{Daemon, PATIENCE};
use support::witness::{self, Witness};

/// A page is asked for and answered; how long that took.
fn health(address: SocketAddr) -> Duration {
    let start = Instant::now();
    let (_, answer) =
        request(address, &format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    start.elapsed()
}

/// How long a call is watched at least, before the flood and from its begin.
const WATCH: Duration = Duration::from_secs(1);

/// Runs `flood` beside a call, and prints what the call, a visitor and the memory noticed: `calm` is
/// the same call's longest gap between two frames without a flood, to compare with.
fn beside_a_call(name: &str, daemon: &Daemon, flood: impl FnOnce()) {
    let descriptors = daemon.descriptors();
    let witness = Witness::call(daemon.address);
    std::thread::sleep(WATCH);
    let calm = witness.finish().longest_gap;
    daemon.assert_nothing_left(descriptors);
    let before = daemon.status("VmRSS");
    let witness = Witness::call(daemon.address);
    let start = Instant::now();
    flood();
    let visit = health(daemon.address);
    std::thread::sleep(WATCH.saturating_sub(start.elapsed()));
    let peak = daemon.status("VmHWM");
    let report = witness.finish();
    daemon.assert_nothing_left(descriptors);
    let after = daemon.status("VmRSS");
    println!(
        "{name}: longest gap {:?} (calm {calm:?}) in {} replies, a visitor waited {visit:?}, \
         memory {before} kB, at most {peak} kB, then {after} kB",
        report.longest_gap, report.replies
    );
    assert!(visit < report.bound, "{name}: a visitor waited {visit:?}: {report:?}");
    let grown = peak.saturating_sub(before);
    assert!(grown < 4_000, "{name}: memory grew by {grown} kB");
}

fn service() -> Daemon {
    Daemon::simulate(&witness::SERVICE)
}

#[test]
fn a_thousand_half_open_connections() {
    let service = service();
    let daemon = Daemon::run(service.address, &[]);
    beside_a_call("half-open", &daemon, || {
        let mut open = Vec::new();
        for at in 0..1000 {
            let mut socket = TcpStream::connect(daemon.address).expect("it accepts");
            let _ = socket.write_all(b"GET / HT");
            open.push(socket);
            if at % 100 == 0 {
                health(daemon.address);
            }
        }
    });
    assert!(daemon.count("connections_dropped_total", "evicted") >= 900);
}

#[test]
fn senders_of_slow_heads_are_cut_off_in_time() {
    let service = service();
    let daemon = Daemon::run(service.address, &[]);
    beside_a_call("slow heads", &daemon, || {
        let mut socket = TcpStream::connect(daemon.address).expect("it accepts");
        let start = Instant::now();
        // A byte every 100 ms would take minutes: the bound is on the whole head.
        while socket.write_all(b"G").is_ok() {
            assert!(start.elapsed() < PATIENCE, "it is not cut off");
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    daemon.assert_counted("http_responses_total", "408", 1);
}

#[test]
fn connections_that_come_and_go() {
    let service = service();
    let daemon = Daemon::run(service.address, &[]);
    beside_a_call("come and go", &daemon, || {
        for at in 0..2000 {
            let socket = TcpStream::connect(daemon.address).expect("it accepts");
            if at % 2 == 0 {
                // Half of them end with a reset.
                let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
            }
        }
    });
    assert!(daemon.count("connections_accepted_total", "") >= 1000);
}

#[test]
fn readers_that_never_read() {
    let service = service();
    let daemon = Daemon::run(service.address, &[]);
    beside_a_call("slow readers", &daemon, || {
        let ask = format!("GET /app.js HTTP/1.1\r\nHost: {}\r\n\r\n", daemon.address).repeat(200);
        let mut open = Vec::new();
        // More than there are places for visitors.
        for at in 0..200 {
            let mut socket = TcpStream::connect(daemon.address).expect("it accepts");
            let _ = socket.set_nonblocking(true);
            let _ = socket.write(ask.as_bytes());
            open.push(socket);
            if at % 10 == 0 {
                health(daemon.address);
            }
        }
    });
}

/// More than a turn of the loop may answer, all at once and on every place for visitors: calls come
/// first, and yet each request has its answer.
#[test]
fn long_pipelines_of_requests() {
    const CONNECTIONS: usize = 60;
    const REQUESTS: usize = 400;
    /// What one turn answers at most: 8 visitors' 4 requests.
    const TURN: usize = 32;
    let service = service();
    let daemon = Daemon::run(service.address, &[]);
    let turns = || daemon.count("loop_turn_seconds_count", "");
    let before = turns();
    beside_a_call("pipelines", &daemon, || {
        let ask = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", daemon.address);
        let all =
            ask.repeat(REQUESTS - 1) + &ask.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        let open: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let mut socket = TcpStream::connect(daemon.address).expect("it accepts");
                socket.write_all(all.as_bytes()).expect("it fits into the socket's buffers");
                socket
            })
            .collect();
        for mut socket in open {
            let mut answers = String::new();
            socket.read_to_string(&mut answers).expect("it answers and closes");
            assert_eq!(answers.matches("HTTP/1.1 200 ").count(), REQUESTS);
        }
    });
    let turns = turns() - before;
    let least = (CONNECTIONS * REQUESTS / TURN) as u64;
    assert!(turns >= least, "{turns} turns for what needs {least}");
}

#[test]
fn a_flood_of_tls_handshakes() {
    let (certificate, key) = certificates::localhost();
    let folder = std::env::temp_dir().join(format!("voicelived-flood-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (cert_file, key_file) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert_file, &certificate).unwrap();
    std::fs::write(&key_file, key).unwrap();
    let service = service();
    let daemon = Daemon::run(
        service.address,
        &[
            ("VOICELIVED_TLS_LISTEN", "127.0.0.1:0"),
            ("VOICELIVED_TLS_CERT", cert_file.to_str().unwrap()),
            ("VOICELIVED_TLS_KEY", key_file.to_str().unwrap()),
        ],
    );
    let secure = daemon.secure_address();
    let hello = client_hello(&certificate);
    beside_a_call("handshakes", &daemon, || {
        let mut open = Vec::new();
        for _ in 0..1000 {
            let mut socket = TcpStream::connect(secure).expect("it accepts");
            // The hello makes the daemon sign; nothing ever follows.
            let _ = socket.write_all(&hello);
            open.push(socket);
        }
    });
    assert!(daemon.count("accept_pauses_total", "handshake_limit") >= 1);
    assert!(daemon.count("connections_dropped_total", "evicted") >= 100);
    std::fs::remove_dir_all(folder).unwrap();
}

fn client_hello(certificate: &str) -> Vec<u8> {
    use voicelived::net::tls;
    let roots = tls::certificates(certificate.as_bytes()).expect("a hello");
    let config = tls::client_config(&roots).expect("a hello");
    let mut connection = tls::client(&config, "localhost").expect("a hello");
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).expect("a hello");
    hello
}

#[test]
fn no_descriptor_left() {
    let service = service();
    let daemon = Daemon::run_limited(service.address, 40, &[]);
    beside_a_call("descriptors", &daemon, || {
        let busy = daemon.processor_time();
        let start = Instant::now();
        let mut open: Vec<TcpStream> = Vec::new();
        for _ in 0..120 {
            let mut socket = TcpStream::connect(daemon.address).expect("the kernel accepts");
            let _ = socket.write_all(b"GET / HT");
            open.push(socket);
        }
        // Those beyond the limit are told so by a close, soon and all of them.
        let told = open.iter_mut().map(is_closed).filter(|closed| *closed).count();
        assert!(told >= 80, "{told} of 120 were closed");
        daemon.wait_for_log("no connection can be accepted for a moment");
        drop(open);
        let used = daemon.processor_time() - busy;
        assert!(used < start.elapsed() / 2, "it spins: {used:?} in {:?}", start.elapsed());
        let recovered = Instant::now();
        while std::panic::catch_unwind(|| health(daemon.address)).is_err() {
            assert!(recovered.elapsed() < PATIENCE, "it does not recover");
        }
    });
    assert!(daemon.count("connections_dropped_total", "no_descriptor") >= 80);
    assert!(daemon.count("accept_pauses_total", "no_descriptor") >= 1);
}

fn is_closed(socket: &mut TcpStream) -> bool {
    let _ = socket.set_read_timeout(Some(Duration::from_millis(200)));
    match socket.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}
