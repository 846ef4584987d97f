//! A second call on the same daemon that must not notice anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;
use voicelived::simulator::pattern_sample;

use super::client::Client;

/// Fault words for the simulator that serves witnesses: replies whose every byte is known.
pub(crate) const SERVICE: [&str; 3] = ["no-welcome", "reply-seconds=1", "speed=4"];

/// Seconds of audio in each of its replies.
const SECONDS: u64 = 1;

/// A call that asks for one reply after another and compares every byte of them.
pub(crate) struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Report>,
    /// Ends with `stop`; how late this machine was at worst.
    sleeper: JoinHandle<Duration>,
}

/// What the witness saw.
#[derive(Debug)]
pub(crate) struct Report {
    /// Replies that came whole.
    pub(crate) replies: usize,
    /// The longest time within a reply without audio.
    pub(crate) longest_gap: Duration,
    /// What nobody may have waited longer for: a second, and what this machine has kept everybody waiting.
    pub(crate) bound: Duration,
}

impl Witness {
    /// Opens the call; it is active when this returns.
    pub(crate) fn call(address: SocketAddr) -> Self {
        let mut client = Client::connect(address);
        client.wait_until_active();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, awake) = (Arc::clone(&stop), Arc::clone(&stop));
        let sleeper = std::thread::spawn(move || lateness(&awake));
        let thread = std::thread::spawn(move || {
            let mut report =
                Report { replies: 0, longest_gap: Duration::ZERO, bound: Duration::ZERO };
            while report.replies == 0 || !stopped.load(Ordering::Relaxed) {
                let gap = take_reply(&mut client);
                report.replies += 1;
                report.longest_gap = report.longest_gap.max(gap);
            }
            client.tell(&json!({"type": "hang_up"}));
            assert_eq!(client.wait_for_end()["reason"], "hang_up");
            report
        });
        Self { stop, thread, sleeper }
    }

    /// Ends the call after the reply under way. Fails if anything was missing, late or different.
    pub(crate) fn finish(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut report = self.thread.join().expect("the other call goes on untouched");
        // Three processes stand in a row: test, daemon, service.
        let late = self.sleeper.join().expect("it only sleeps");
        report.bound = Duration::from_secs(1) + 6 * late;
        assert!(report.longest_gap < report.bound, "{report:?}");
        report
    }
}

/// How late this thread was woken at worst, until it is stopped. It only sleeps, so what is late is the machine.
fn lateness(stop: &AtomicBool) -> Duration {
    const NAP: Duration = Duration::from_millis(20);
    let mut worst = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        std::thread::sleep(NAP);
        worst = worst.max(start.elapsed().saturating_sub(NAP));
    }
    worst
}

/// Asks for a reply and compares it; the longest time between two of its frames.
fn take_reply(client: &mut Client) -> Duration {
    let expected = pattern(SECONDS);
    client.audio.clear();
    client.arrivals.clear();
    client.tell(&json!({"type": "text", "text": "Go on."}));
    client.wait_for_next("response_done");
    client.wait_for_audio(expected.len());
    assert!(client.audio == expected, "the other call's audio is different");
    let gaps = client.arrivals.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default()
}

/// What the simulator says under the word `reply-seconds`.
pub(crate) fn pattern(seconds: u64) -> Vec<u8> {
    (0..seconds * 24_000).flat_map(|index| pattern_sample(index).to_le_bytes()).collect()
}
