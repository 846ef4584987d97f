//! Whole conversations with the built-in simulator, through real sockets.

use std::time::{Duration, Instant};

use crate::support;
use serde_json::json;
use support::client::{Client, request, speech, upgrade_head};
use support::daemon::Daemon;
use support::metrics::count;
use support::time::in_time;

/// Where `needle` begins in `haystack`.
fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).step_by(2).position(|window| window == needle).map(|at| at * 2)
}

#[test]
fn the_users_words_come_back_byte_for_byte() {
    let daemon = Daemon::demo(&[]);
    let before = daemon.descriptors();
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    client.wait_for("the welcome ends", |message| message["type"] == "response_done");
    let welcome = client.audio.len();
    let mut said = speech("weather");
    said.extend(vec![0; 48_000]);
    client.speak(&said, 4);
    client.wait_for_next("response_done");
    let reply = &client.audio[welcome..];
    let at = position(&said, reply).expect("the reply is a piece of what was said");
    // Speech lies between 0.50 s and 2.76 s of the recording.
    assert!(at <= 24_000 && at + reply.len() >= 132_480, "{at}..{}", at + reply.len());
    println!("compared {} bytes, {} frames of 20 ms", reply.len(), reply.len() / 960);
    assert_eq!(client.of_type("latency").len(), 1);
    daemon.assert_counted("first_audio_seconds_count", "", 1);
    daemon.assert_counted("microphone_bytes_total", "", said.len() as u64);
    let transcripts = client.of_type("transcript");
    assert!(transcripts.iter().all(|t| t["text"].as_str().unwrap().starts_with("[simulator]")));
    assert!(transcripts.iter().any(|t| t["role"] == "user"));
    assert_eq!(daemon.threads(), 1);
    client.tell(&json!({"type": "hang_up"}));
    let ended = client.wait_for_end();
    assert_eq!(ended["reason"], "hang_up");
    assert_eq!(client.closed.as_ref().unwrap().0, 1000);
    daemon.assert_nothing_left(before);
}

#[test]
fn two_tools_of_one_response_are_answered_in_one_batch() {
    let daemon = Daemon::demo(&[]);
    let mut client = Client::connect(daemon.address);
    client.wait_for("the welcome ends", |message| message["type"] == "response_done");
    client.tell(&json!({"type": "text", "text": "weather and stock"}));
    client.wait_for("both results are spoken", |message| {
        let text = message["text"].as_str().unwrap_or_default();
        message["type"] == "transcript" && text.contains("Seattle") && text.contains("MSFT")
    });
    let done: Vec<_> = client.of_type("tool").iter().map(|t| t["state"].clone()).collect();
    assert_eq!(done, ["running", "running", "done", "done"]);
    // Welcome, the response that called the tools, and one answer to both.
    assert_eq!(client.of_type("response_started").len(), 3);
    assert_eq!(daemon.threads(), 1, "tools are processes, not threads");
}

#[test]
fn sigterm_tells_calls_and_ends_in_order() {
    let daemon = Daemon::demo(&[]);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    let start = Instant::now();
    let stopping = std::thread::spawn(move || daemon.stop("TERM"));
    assert_eq!(client.wait_for_end()["reason"], "stopping");
    assert_eq!(client.closed.as_ref().unwrap().0, 1001);
    assert_eq!(stopping.join().unwrap(), Some(0));
    // It ends by itself: none of its limits for calls is as short.
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn while_it_stops_visitors_are_told() {
    // The client does not answer the close, so its call takes the two seconds it may.
    let told = in_time("a client's last two seconds", Duration::from_millis(1_900), || {
        let daemon = Daemon::demo(&[]);
        let address = daemon.address;
        let mut client = Client::connect(address);
        client.wait_until_active();
        let start = Instant::now();
        let stopping = std::thread::spawn(move || daemon.stop("TERM"));
        client.wait_for("it is told", |message| message["reason"] == "stopping");
        let ask = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n");
        // Nobody answers after that time.
        let told = std::panic::catch_unwind(|| {
            let answers = [ask, upgrade_head(address, "")].map(|head| request(address, &head).1);
            let counts = [
                ("access_refused_total", "draining"),
                ("calls_ended_total", "stopping"),
                ("http_responses_total", "503"),
            ];
            (answers, counts.map(|(name, word)| count(address, name, word)))
        });
        let took = start.elapsed();
        assert_eq!(stopping.join().unwrap(), Some(0));
        (took, told)
    });
    let ([answer, refused], counts) = told.expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("Retry-After"), "{refused}");
    assert_eq!(counts, [1, 1, 2]);
}
