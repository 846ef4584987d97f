//! The MCP file, what a server writes on its pipe, and an event stream.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use voicelived::mcp::client::{Client, Event, Transport};
use voicelived::mcp::file;
use voicelived::mcp::http::events::Events;
use voicelived::mcp::offer::offer;

/// The file that names the servers.
pub fn fuzz_mcp_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let canary = "4c1d-canary";
    let (servers, faults) =
        file::parse(text, &|name| (name == "SECRET").then(|| canary.to_owned()));
    let lines = text.split('\n').count().max(1);
    for fault in &faults {
        assert!((1..=lines).contains(&fault.line), "{fault:?}");
        assert!(!fault.message.contains(char::is_control), "{fault:?}");
        assert!(text.contains(canary) || !fault.message.contains(canary), "{fault:?}");
    }
    assert!(servers.len() <= file::MAX_SERVERS);
    let names: BTreeSet<_> = servers.iter().map(|server| &server.name).collect();
    assert_eq!(names.len(), servers.len(), "each name once");
}

/// What a server writes. The first byte says how it is cut into reads, and how time passes between
/// them.
pub fn fuzz_mcp_lines(data: &[u8]) {
    let Some((&how, data)) = data.split_first() else { return };
    let whole = run(how, data, usize::MAX);
    let pieces = run(how, data, usize::from(how % 16) + 1);
    // Time passes between reads alone, so the order of words about time may differ, but no result.
    assert_eq!(whole, pieces, "pieces mean what the whole means");
}

/// Gives the calls' ends. Each ends exactly once.
fn run(how: u8, data: &[u8], piece: usize) -> Vec<(u64, String, bool)> {
    let transport = if how & 32 == 0 { Transport::Stdio } else { Transport::Http };
    let mut client = Client::new(transport, Duration::from_secs(20));
    let now = Instant::now();
    client.open(now);
    let (mut given, mut ends) = (0, Vec::new());
    for line in data.split_inclusive(|&byte| byte == b'\n') {
        // The loop calls tools between what it reads.
        if client.is_ready() && given < 20 {
            given += u64::from(client.call(given, "a", json!({}), now).is_ok());
        }
        for part in line.chunks(piece) {
            client.read(part, now);
        }
        take(&mut client, &mut ends);
        let waiting = client.to_write();
        assert!(waiting.is_empty() || waiting.ends_with(b"\n"));
        assert!(waiting.len() < 1_200_000);
        let count = if how & 64 == 0 { waiting.len() } else { waiting.len() / 2 };
        if count == waiting.len() {
            client.written(count);
        }
        client.tick(now);
    }
    let end = now + Duration::from_secs(1000);
    client.tick(end);
    take(&mut client, &mut ends);
    client.close("it has ended");
    take(&mut client, &mut ends);
    assert_eq!(client.deadline(), None, "nothing is due without a connection");
    let tickets: BTreeSet<_> = ends.iter().map(|end| end.0).collect();
    assert_eq!((tickets.len(), ends.len() as u64), (ends.len(), given), "each call ends once");
    ends
}

fn take(client: &mut Client, ends: &mut Vec<(u64, String, bool)>) {
    while let Some(event) = client.poll() {
        match event {
            Event::Done { ticket, output, ok } => {
                assert!(output.len() < 40_000 && !output.is_empty());
                ends.push((ticket, output, ok));
            }
            Event::Later { .. } => {}
            Event::Note(_, words) | Event::Broken(words) => {
                assert!(words.len() < 4000, "{words}");
                assert!(!words.contains(char::is_control), "{words:?}");
            }
            Event::Tools(tools) => {
                let (servers, _) =
                    file::parse(r#"{"mcpServers":{"a":{"command":"x"}}}"#, &|_| None);
                let (offered, _) = offer(&[(&servers[0], &tools)], &["a_b"], 32_768);
                let names: BTreeSet<_> = offered.iter().map(|one| &one.name).collect();
                assert_eq!(names.len(), offered.len(), "each name once");
                let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                assert!(names.iter().all(|name| name.len() <= 64 && name.chars().all(fits)));
            }
        }
    }
}

/// An event stream. The first byte says how it is cut into reads.
pub fn fuzz_mcp_events(data: &[u8]) {
    let Some((&how, data)) = data.split_first() else { return };
    let read = |piece: usize| {
        let (mut events, mut found) = (Events::default(), Vec::new());
        for mut part in data.chunks(piece) {
            found.extend(std::iter::from_fn(|| events.next(&mut part)));
        }
        let last = events.last_id().map(str::to_owned);
        assert!(
            last.as_ref().is_none_or(|id| id.bytes().all(|byte| (b' '..=b'~').contains(&byte)))
        );
        assert!(events.wait().is_none_or(|wait| wait <= Duration::from_secs(30)));
        let size: usize = found.iter().map(Vec::len).sum();
        assert!(size <= data.len(), "nothing is made up");
        (found, last, events.wait())
    };
    assert_eq!(
        read(data.len().max(1)),
        read(usize::from(how) + 1),
        "pieces mean what the whole means"
    );
}
