//! Replies that come faster than a client takes them: nothing is cut, memory stays flat, and a
//! barge-in is not stuck behind the backlog.

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::client::{Client, speech};
use support::daemon::{Daemon, PATIENCE};
use voicelived::simulator::pattern_sample;

/// The bytes of a reply of the simulator's `reply-seconds` fault.
fn pattern(seconds: usize) -> Vec<u8> {
    (0..seconds * 24_000).flat_map(|at| pattern_sample(at as u64).to_le_bytes()).collect()
}

fn say_something(client: &mut Client) {
    client.wait_until_active();
    client.tell(&json!({"type": "text", "text": "go on"}));
}

/// Reads `bytes` of reply at `bytes_per_second`, through a small window.
fn read_slowly(client: &mut Client, bytes: usize, bytes_per_second: usize) -> Instant {
    let start = Instant::now();
    while client.audio.len() < bytes {
        let due =
            start + Duration::from_secs_f64(client.audio.len() as f64 / bytes_per_second as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let before = client.audio.len();
        assert!(client.read_one_within(PATIENCE), "the reply stopped at byte {before}");
    }
    start
}

#[test]
fn a_long_reply_to_a_slow_client_arrives_whole_and_another_call_does_not_notice() {
    let service = Daemon::simulate(&["reply-seconds=60", "speed=20", "no-welcome"]);
    let daemon = Daemon::run(service.address, &[]);
    let descriptors = daemon.descriptors();
    let mut slow = Client::connect_with_window(daemon.address, 8 * 1024);
    let mut other = Client::connect(daemon.address);
    say_something(&mut slow);
    other.wait_until_active();
    let expected = pattern(60);
    let reader = std::thread::spawn(move || {
        let start = read_slowly(&mut slow, expected.len(), 400_000);
        assert!(slow.audio == expected, "every sample, in order");
        println!("2,880,000 bytes compared after {:.1} s", start.elapsed().as_secs_f64());
        slow
    });
    // The other call talks meanwhile, and its own reply is not held up by the slow one's.
    say_something(&mut other);
    let start = Instant::now();
    other.wait_for("its reply", |message| message["type"] == "response_done");
    assert!(other.audio == pattern(60));
    println!("the other call had its whole reply after {:.1} s", start.elapsed().as_secs_f64());
    let memory = daemon.status("VmHWM");
    println!("peak memory {memory} kB, the pool being 5,760 kB of it");
    assert!(memory < 16_000, "{memory} kB");
    let mut slow = reader.join().expect("the slow reader is content");
    for client in [&mut slow, &mut other] {
        client.tell(&json!({"type": "hang_up"}));
        client.wait_for_end();
    }
    daemon.assert_nothing_left(descriptors);
}

#[test]
fn when_the_blocks_are_full_the_service_is_not_read_and_nothing_is_lost() {
    let service = Daemon::simulate(&["reply-seconds=40", "speed=50", "no-welcome"]);
    // Half of the pool, 6 s, is one call's share: far less than the reply.
    let settings = [("VOICELIVED_AUDIO_POOL_SECONDS", "12"), ("VOICELIVED_MAX_SESSIONS", "4")];
    let daemon = Daemon::run(service.address, &settings);
    let mut slow = Client::connect_with_window(daemon.address, 8 * 1024);
    say_something(&mut slow);
    let expected = pattern(40);
    read_slowly(&mut slow, expected.len(), 600_000);
    assert!(slow.audio == expected, "every sample, in order");
    assert!(daemon.count("reply_stalls_total", "") > 0);
    daemon.assert_counted("reply_bytes_total", "", expected.len() as u64);
}

/// Bytes of audio that a loudspeaker plays since `start`.
fn playable(start: Instant) -> usize {
    start.elapsed().as_millis() as usize * 48
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

#[test]
fn a_barge_in_overtakes_the_backlog() {
    let service = Daemon::simulate(&["reply-seconds=60", "speed=20", "no-welcome"]);
    let daemon = Daemon::run(service.address, &[]);
    let mut client = Client::connect_with_window(daemon.address, 8 * 1024);
    say_something(&mut client);
    read_slowly(&mut client, 96_000, 48_000);
    let heard = client.audio.len();
    // Speech as the microphone brings it, while the client takes its audio in real time.
    let said = speech("weather");
    let start = Instant::now();
    for frame in said.chunks(960) {
        client.send(tungstenite::Message::binary(frame.to_vec()));
        let due = Instant::now() + Duration::from_millis(20);
        while client.audio.len() < heard + playable(start) && client.read_one_within(left(due)) {}
        std::thread::sleep(left(due));
        if !client.of_type("speech_started").is_empty() {
            break;
        }
    }
    let began = |(_, message): &&(usize, serde_json::Value)| message["type"] == "speech_started";
    let (at, _) = client.messages.iter().find(began).expect("a barge-in").clone();
    let backlog = (at - heard) / 48;
    println!("speech_started after {:?}, behind {backlog} ms of audio", start.elapsed());
    assert!(backlog < 2_000, "the rest of the reply was dropped, not sent first");
    client.read_until_time(Instant::now() + Duration::from_millis(300));
    assert_eq!(client.audio.len(), at, "nothing of the interrupted reply comes after");
}
