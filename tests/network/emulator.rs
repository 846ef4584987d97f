//! The emulator itself: what it counts is what happens to numbered datagrams, and everything is switched
//! on by itself.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::link::{Link, Network};
use crate::support::network;

const DATAGRAMS: u16 = 400;

/// Sends every datagram back.
const ECHO: &str = "import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('10.99.1.2', 7))
print('ready', flush=True)
while True:
    s.sendto(*s.recvfrom(2000))";

struct Echo(Child);

impl Echo {
    fn start(far: &Network) -> Self {
        let mut python = far.command("python3");
        let mut child = python.args(["-c", ECHO]).stdout(Stdio::piped()).spawn().expect("python3");
        let mut line = String::new();
        let said = child.stdout.take().expect("it was piped");
        BufReader::new(said).read_line(&mut line).expect("it is readable");
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What has come back, in its order, and what the link has counted for it.
fn exchange(options: &[&str], settings: &str) -> (Vec<u16>, Value) {
    let far = Network::new();
    let mut link = Link::to(&far, "tried", "10.99.1", &[options, &["--seed=7"]].concat());
    let _echo = Echo::start(&far);
    if !settings.is_empty() {
        link.set(settings);
    }
    let socket = UdpSocket::bind("10.99.1.1:0").expect("a port");
    let mut back = Vec::new();
    // They are taken as they come: the kernel would drop what waits for long.
    let mut take = |patience: u64| {
        let mut datagram = [0; 2];
        socket.set_nonblocking(patience == 0).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(patience.max(1)))).expect("a socket");
        while socket.recv(&mut datagram).is_ok() {
            back.push(u16::from_le_bytes(datagram));
        }
    };
    for number in 0..DATAGRAMS {
        socket.send_to(&number.to_le_bytes(), "10.99.1.2:7").expect("the interface is up");
        std::thread::sleep(Duration::from_millis(1));
        take(0);
    }
    // On a busy machine the emulator comes late to it.
    take(1_000);
    let counts = link.count();
    (back, counts)
}

fn both(counts: &Value, key: &str) -> usize {
    let ways = ["to_far", "to_near"].map(|way| counts[way][key].as_u64().expect("a number"));
    usize::try_from(ways[0] + ways[1]).expect("small")
}

#[test]
fn the_link_does_to_packets_what_it_is_told_and_counts_it() {
    if !network::is_own(module_path!(), "the_link_does_to_packets_what_it_is_told_and_counts_it") {
        return;
    }
    let all: Vec<u16> = (0..DATAGRAMS).collect();
    let whole = usize::from(DATAGRAMS);

    let (back, counts) = exchange(&[], "");
    assert_eq!(back, all, "a good link: {counts}");

    let (back, _) = exchange(&["--delay=20", "--jitter=15"], "");
    assert_eq!(back, all, "delay and jitter keep the order");

    let (back, counts) = exchange(&["--loss=20"], "");
    let lost = both(&counts, "lost");
    assert!((80..240).contains(&lost), "20 % each way: {counts}");
    // The kernel sends packets of its own, so a few of the lost may be none of these.
    assert!(back.len() >= whole - lost && back.len() < whole - lost / 2, "{} {counts}", back.len());
    assert!(back.is_sorted(), "the order stays");

    let (mut back, counts) = exchange(&["--duplicate=10"], "");
    assert!(both(&counts, "duplicated") > 20, "{counts}");
    assert!(back.len() > whole + 20, "{} {counts}", back.len());
    back.dedup();
    assert_eq!(back, all);

    let (mut back, counts) = exchange(&["--reorder=10"], "");
    assert!(both(&counts, "reordered") > 20, "{counts}");
    assert!(!back.is_sorted(), "some were overtaken");
    back.sort_unstable();
    assert_eq!(back, all, "and none was lost");

    let (back, counts) = exchange(&["--rate=16", "--queue=0.5"], "");
    assert!(both(&counts, "overflow") > 0 && back.len() < whole, "{} {counts}", back.len());

    for (options, settings) in [(&["--outage=0-60"][..], ""), (&[], "down=1")] {
        let (back, counts) = exchange(options, settings);
        assert!(back.is_empty(), "an outage: {} {counts}", back.len());
        assert!(both(&counts, "outage") >= whole, "{counts}");
    }
}

#[test]
fn a_seed_decides_the_fate_of_each_packet_whatever_else_is_switched_on() {
    let program = "import sys; sys.path.insert(0, sys.argv[1])
import link
def fates(seed, **settings):
    way = link.Direction(seed)
    return [way.fate(100, {**link.USUAL, **settings}, False, at / 50) for at in range(1000)]
lost = lambda fates: [not fate for fate in fates]
once = fates(1, loss=10)
assert once == fates(1, loss=10) and 60 < sum(lost(once)) < 140
assert lost(once) == lost(fates(1, loss=10, delay=40, jitter=10, reorder=5, duplicate=5))
assert lost(once) != lost(fates(2, loss=10))";
    let folder = format!("{}/tests/network", env!("CARGO_MANIFEST_DIR"));
    let python = Command::new("python3").args(["-B", "-c", program, &folder]).output();
    let python = python.expect("this test needs python3");
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
}
