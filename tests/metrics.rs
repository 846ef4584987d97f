//! `/metrics`: its text is valid, documented, bounded, and only for clients that may ask. Also the
//! counters of limits that no other test meets.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::support;
use serde_json::json;
use support::certificates;
use support::client::Client;
use support::daemon::{Daemon, PATIENCE, with_sockets};
use support::http::{ask, connect};
use support::inside::{daemon_with, daemon_with_tools};
use support::metrics::{count, scrape, value};
use support::service::{Lines, Service};
use tungstenite::Message;
use voicelived::net::http::Status;

const TOKEN: &str = "a-token-for-metrics";

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// For each word that a limit or a refusal is counted by, the test in which it happens.
const TESTED: &[(&str, &[(&str, &str)])] = &[
    (
        "connections_dropped_total",
        &[
            ("evicted", "exhaustion::a_thousand_half_open_connections"),
            ("no_place", "limits::visitors_beyond_all_places_are_dropped_and_counted"),
            ("no_descriptor", "exhaustion::no_descriptor_left"),
            (
                "setup_failed",
                "system_faults::a_connection_that_cannot_be_set_up_is_dropped_and_counted",
            ),
            ("idle", "limits::half_a_handshake_is_cut_after_five_seconds"),
            (
                "slow_reader",
                "metrics::answers_that_nobody_takes_make_way_or_end_after_five_seconds",
            ),
            ("tls_failed", "metrics::tls_handshakes_that_fail_or_never_come_are_counted"),
            ("tls_timeout", "metrics::tls_handshakes_that_fail_or_never_come_are_counted"),
        ],
    ),
    (
        "accept_pauses_total",
        &[
            ("no_descriptor", "exhaustion::no_descriptor_left"),
            ("handshake_limit", "exhaustion::a_flood_of_tls_handshakes"),
        ],
    ),
    (
        "access_refused_total",
        &[
            ("host", "http::only_names_of_this_device_are_answered"),
            ("origin", "http::a_foreign_page_is_refused_before_anything_is_paid_for"),
            ("token_missing", "access::without_rights_there_is_no_call_and_no_byte_to_the_service"),
            ("token_wrong", "access::without_rights_there_is_no_call_and_no_byte_to_the_service"),
            ("throttled", "access::guessing_is_slowed_and_only_for_those_who_guess"),
            ("draining", "conversation::while_it_stops_visitors_are_told"),
        ],
    ),
    (
        "calls_turned_away_total",
        &[
            ("full", "limits::when_all_lines_are_busy_the_next_caller_hears_it"),
            ("address_limit", "limits::one_address_gets_its_share_only"),
            ("no_assistant", "assistants::a_name_that_none_has_is_refused_in_words"),
            ("daily_limit", "spending::the_days_minutes_end_calls_also_after_a_restart"),
            (
                "access_changed",
                "system_faults::a_token_that_changes_between_request_and_call_turns_the_caller_away",
            ),
            ("not_configured", "systemd::without_settings_it_runs_and_says_what_to_set"),
            ("resume_refused", "resume::a_secret_is_good_for_one_call_once"),
            ("resume_late", "resume::who_has_missed_more_than_is_kept_gets_a_new_call"),
            ("pool", "metrics::a_pool_that_is_promised_turns_callers_away"),
            (
                "internal",
                "system_faults::without_random_numbers_a_caller_is_turned_away_and_counted",
            ),
        ],
    ),
];

/// The test exists, and what it sees is this word of this family.
#[test]
fn every_limit_and_refusal_has_a_test_that_sees_its_count() {
    let served = served(&scrape(Daemon::demo(&[]).address));
    for (family, tests) in TESTED {
        let named: BTreeSet<String> = tests.iter().map(|(word, _)| (*word).to_owned()).collect();
        assert_eq!(named, served[&format!("voicelived_{family}")], "{family}: right is served");
        for (word, test) in *tests {
            let (file, name) = test.split_once("::").expect("file::test");
            let text = document(&format!("tests/{file}.rs"));
            let begin = format!("#[test]\nfn {name}() {{");
            let body = text.split(&begin).nth(1).unwrap_or_else(|| panic!("there is no {test}"));
            let body = body.split("\n}\n").next().expect("a body");
            assert!(body.contains(family) && body.contains(word), "{test}: {family} {word}");
        }
    }
}

/// The words of each family's label, or one empty word, as served.
fn served(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut families: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().expect("a name").to_owned();
            assert!(!families.contains_key(&family), "{family} twice");
        } else if !line.starts_with('#') {
            let word = line.split('"').nth(1).unwrap_or_default();
            families.entry(family.clone()).or_default().insert(word.to_owned());
        }
    }
    families
}

#[test]
fn every_metric_is_documented_with_its_words_and_no_other() {
    let documented: BTreeSet<String> = document("docs/metrics.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect();
    let served = served(&scrape(Daemon::demo(&[]).address));
    let names: BTreeSet<String> = served.keys().cloned().collect();
    assert_eq!(documented, names, "left: docs/metrics.md, right: /metrics");
    let text = document("docs/metrics.md");
    for (name, words) in &served {
        let histogram = words.contains("+Inf");
        let row = text.lines().find(|line| line.starts_with(&format!("| `{name}`")));
        let row = row.expect("it was compared");
        let own = name.as_str() == "voicelived_calls_ended_total";
        for word in words.iter().filter(|word| !word.is_empty() && !histogram && !own) {
            let named = row.contains(&format!("`{word}`")) || name.contains("build_info");
            assert!(named || name.contains("http_responses"), "{name} lacks {word}");
        }
    }
}

#[test]
fn every_way_a_call_ends_and_every_status_has_its_series() {
    let served = served(&scrape(Daemon::demo(&[]).address));
    // The tables of docs/protocol.md, whose words the daemon's tests see.
    let protocol = document("docs/protocol.md");
    let ends = protocol.split("## How calls end").nth(1).expect("a section");
    let ends = ends.split("\n## ").next().expect("a section");
    let rows = ends.lines().filter(|line| line.starts_with("| `"));
    let words = rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`'));
    let mut told: BTreeSet<String> =
        words.filter(|word| word.starts_with(char::is_alphabetic)).map(str::to_owned).collect();
    // Only clients that were turned away are told these. The flood is counted apart.
    for turned_away in ["full", "address_limit", "not_configured", "no_assistant", "resume_refused"]
    {
        assert!(told.remove(turned_away), "{turned_away}");
    }
    assert!(told.insert("flood".to_owned()));
    assert_eq!(told, served["voicelived_calls_ended_total"], "left: docs, right: /metrics");
    let source = document("src/session/connection_faults.rs") + &document("src/call/events.rs");
    let code = source.split("#[cfg(test)]").next().expect("code");
    let faults = code.split("fault(").skip(1).filter_map(|call| call.trim().strip_prefix('"'));
    let faults: Vec<_> = faults.filter_map(|call| call.split('"').next()).collect();
    assert!(faults.len() > 10, "{faults:?}");
    for fault in faults {
        assert!(served["voicelived_calls_ended_total"].contains(fault), "{fault}");
    }
    let statuses = document("src/net/http.rs");
    let consts = statuses.lines().filter_map(|line| line.split("Self = Self(").nth(1));
    let codes: BTreeSet<String> = consts.map(|rest| rest[..3].to_owned()).collect();
    assert!(codes.contains(&Status::OK.0.to_string()));
    let mut known = served["voicelived_http_responses_total"].clone();
    assert!(known.remove("101"), "an upgrade's answer is written by itself");
    assert_eq!(codes, known, "left: src/net/http.rs, right: /metrics");
}

#[test]
fn nothing_a_client_sends_becomes_a_label() {
    let daemon = Daemon::demo(&[]);
    let shape = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.rsplit(' ').nth(1).unwrap_or(line).to_owned()).collect()
    };
    let before = shape(&scrape(daemon.address));
    for at in 0..50 {
        ask(daemon.address, &format!("GET /canary{at}?canary"), "Origin: http://canary\r\n");
        ask(daemon.address, "CANARY /", "canary: canary\r\n");
    }
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    for _ in 0..8 {
        client.send(Message::text("canary"));
    }
    client.assert_ends("no JSON", 1007, "bad_text");
    let text = scrape(daemon.address);
    assert!(!text.contains("canary"), "{text}");
    assert_eq!(before, shape(&text), "the same series for ever");
}

#[test]
fn it_is_for_those_who_may_call() {
    let daemon = Daemon::demo(&[("VOICELIVED_ACCESS_TOKEN", TOKEN)]);
    let asked = |fields: &str| ask(daemon.address, "GET /metrics", fields);
    let stranger = asked("");
    assert_eq!((stranger.status, stranger.field("WWW-Authenticate")), (401, "Bearer"));
    assert!(!stranger.text().contains("voicelived_"), "{stranger:?}");
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let known = asked(&bearer);
    assert_eq!(known.status, 200);
    assert_eq!(known.field("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(known.field("Cache-Control"), "no-store");
    assert_eq!(known.field("X-Content-Type-Options"), "nosniff");
    assert_eq!(known.field("Access-Control-Allow-Origin"), "", "no other page may read it");
    let paired = ask(daemon.address, "GET /pair", &bearer);
    let cookie = paired.field("Set-Cookie").split(';').next().expect("a cookie").to_owned();
    assert_eq!(asked(&format!("Cookie: {cookie}\r\n")).status, 200);
    assert_eq!(asked(&format!("{bearer}Origin: https://evil.example\r\n")).status, 403);
    let head = ask(daemon.address, "HEAD /metrics", &bearer);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(ask(daemon.address, "POST /metrics", &bearer).status, 405);
}

#[test]
fn gauges_follow_calls_and_go_back() {
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[]);
    let blocks = daemon.count("pcm_blocks", "");
    assert_eq!((blocks, daemon.count("pcm_blocks_free", "")), (6000, 6000));
    let calls: Vec<_> = (0..3).map(|_| Client::connect(daemon.address)).collect();
    let text = scrape(daemon.address);
    assert_eq!(value(&text, "calls_active", ""), 3.0);
    assert_eq!(value(&text, "pcm_blocks_free", ""), 6000.0 - 3.0 * 150.0);
    assert_eq!(value(&text, "connections_open", ""), 4.0, "the calls and who asks");
    for mut call in calls {
        call.wait_until_active();
        call.tell(&json!({"type": "hang_up"}));
        call.assert_ends("hanging up", 1000, "hang_up");
    }
    daemon.assert_counted("calls_ended_total", "hang_up", 3);
    daemon.assert_counted("service_connects_total", "ok", 3);
    daemon.wait_until("blocks are free", |daemon| daemon.count("pcm_blocks_free", "") == 6000);
    assert_eq!(daemon.count("calls_active", ""), 0);
}

#[test]
fn turns_of_the_loop_are_measured() {
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[]);
    let first = scrape(daemon.address);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    // Each answer is of a turn of its own, as it is asked for only after the one before.
    for at in 0..50 {
        let id = at.to_string();
        client.tell(&json!({"type": "ping", "id": id}));
        client.wait_for("its answer", |message| message["id"] == *id);
    }
    let second = scrape(daemon.address);
    let turns = |text: &str| value(text, "loop_turn_seconds_count", "");
    assert!(turns(&second) >= turns(&first) + 50.0, "{first}\n{second}");
    assert_eq!(turns(&second), value(&second, "loop_turn_seconds_bucket", "+Inf"));
    let longest = value(&second, "loop_turn_longest_seconds", "");
    let sum = value(&second, "loop_turn_seconds_sum", "");
    assert!(longest > 0.0 && longest <= sum, "{longest} of {sum}");
}

#[test]
fn microphone_audio_that_the_service_is_not_ready_for_is_dropped_and_counted() {
    let service = Daemon::simulate(&["no-session-created"]);
    let daemon = Daemon::run(service.address, &[]);
    let mut client = Client::connect(daemon.address);
    // 5 s; 2 s are kept.
    client.speak(&vec![0; 5 * 48_000], 100);
    daemon.assert_counted("microphone_bytes_total", "", 5 * 48_000);
    daemon.assert_counted("microphone_dropped_bytes_total", "", 3 * 48_000);
}

#[test]
fn answers_that_nobody_takes_make_way_or_end_after_five_seconds() {
    let daemon = Daemon::demo(&[]);
    let ask = format!("GET /app.js HTTP/1.1\r\nHost: {}\r\n\r\n", daemon.address).repeat(200);
    let stuck: Vec<_> = (0..64)
        .map(|_| {
            let mut socket = connect(daemon.address);
            socket.set_nonblocking(true).expect("a socket");
            // The daemon stops reading when its answers do not leave.
            let _ = socket.write(ask.as_bytes());
            socket
        })
        .collect();
    thread::sleep(Duration::from_secs(1));
    // One makes way for this question. A second question could come before the place of the first is free.
    assert_eq!(daemon.count("connections_dropped_total", "evicted"), 1);
    thread::sleep(Duration::from_secs(6));
    daemon.assert_counted("connections_dropped_total", "slow_reader", 63);
    drop(stuck);
}

#[test]
fn tls_handshakes_that_fail_or_never_come_are_counted() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("metrics-tls");
    std::fs::create_dir_all(&folder).expect("a folder");
    let (certificate, key) = certificates::localhost();
    let files = [folder.join("own.pem"), folder.join("own.key")];
    std::fs::write(&files[0], certificate).expect("a file");
    std::fs::write(&files[1], key).expect("a file");
    let daemon = Daemon::demo(&[
        ("VOICELIVED_TLS_LISTEN", "127.0.0.1:0"),
        ("VOICELIVED_TLS_CERT", files[0].to_str().expect("UTF-8")),
        ("VOICELIVED_TLS_KEY", files[1].to_str().expect("UTF-8")),
    ]);
    let secure = daemon.secure_address();
    let mut plain = connect(secure);
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("the daemon reads");
    let mut alert = Vec::new();
    let _ = plain.read_to_end(&mut alert);
    daemon.assert_counted("connections_dropped_total", "tls_failed", 1);
    let mut silent = connect(secure);
    silent.read_to_end(&mut Vec::new()).expect("an alert and the end");
    daemon.assert_counted("connections_dropped_total", "tls_timeout", 1);
    daemon.assert_counted("connections_dropped_total", "tls_failed", 1);
}

#[test]
fn a_pool_that_is_promised_turns_callers_away() {
    let service = Daemon::simulate(&["no-welcome"]);
    // The settings do not allow so few: 150 blocks are one call's.
    let address = daemon_with(service.address, env!("CARGO_BIN_EXE_voicelived"), 200);
    let mut first = Client::connect(address);
    first.wait_until_active();
    Client::connect(address).assert_ends("a second call", 1013, "full");
    assert_eq!(count(address, "calls_turned_away_total", "pool"), 1);
    assert_eq!(count(address, "calls_turned_away_total", "full"), 0);
}

#[test]
fn tools_that_are_refused_not_started_or_abandoned_are_counted() {
    let wait = |address, word: &str| {
        let deadline = Instant::now() + PATIENCE;
        while count(address, "tool_runs_total", word) == 0 {
            assert!(Instant::now() < deadline, "{word}: {}", scrape(address));
        }
        assert_eq!(count(address, "tool_runs_total", word), 1, "{word}");
    };
    let ask_for_weather = |address: SocketAddr| {
        let mut client = Client::connect(address);
        client.wait_until_active();
        client.tell(&json!({"type": "text", "text": "weather"}));
        client.wait_for("the tool", |message| message["state"] == "running");
        client
    };
    let bad = Daemon::simulate(&["no-welcome", "bad-arguments"]);
    let address = daemon_with_tools(bad.address, "");
    let _call = ask_for_weather(address);
    wait(address, "refused");
    let service = Daemon::simulate(&["no-welcome"]);
    let address = daemon_with(service.address, "/nonexistent/voicelived", 2000);
    let _call = ask_for_weather(address);
    wait(address, "not_started");
    let address = daemon_with_tools(service.address, "[ \"$2\" = get_weather ] && exec sleep 9");
    let mut leaving = ask_for_weather(address);
    leaving.tell(&json!({"type": "hang_up"}));
    leaving.assert_ends("hanging up", 1000, "hang_up");
    wait(address, "abandoned");
}

/// Eight tools of a call may run. Of all calls together four of one tool run at once, and the others wait.
#[test]
fn tools_beyond_what_a_call_may_run_are_refused_and_those_beyond_what_runs_at_once_wait() {
    let ask = |at| {
        json!({"type": "response.output_item.done", "response_id": "r", "item": {
            "type": "function_call", "call_id": format!("c{at}"), "name": "get_weather",
            "arguments": "{\"location\":\"Rome\"}"}})
    };
    let created = json!({"type": "session.created", "session": {"id": "s", "model": "m"}});
    let mut then = vec![json!({"type": "response.created", "response": {"id": "r"}})];
    then.extend((0..9).map(ask));
    let service = Service::saying(Lines { first: vec![created], updated: None, then });
    let address = daemon_with_tools(service.address, "[ \"$2\" = get_weather ] && exec sleep 0.2");
    let until = |word: &str, wanted: u64| {
        let deadline = Instant::now() + PATIENCE;
        while count(address, "tool_runs_total", word) < wanted {
            assert!(Instant::now() < deadline, "{word}: {}", scrape(address));
        }
        assert_eq!(count(address, "tool_runs_total", word), wanted, "{word}");
    };
    let _calls: Vec<Client> = (1..=4)
        .map(|number| {
            let mut client = Client::connect(address);
            client.wait_until_active();
            until("refused", number);
            client
        })
        .collect();
    until("ok", 32);
    // A run is counted a moment before the service has its result.
    let deadline = Instant::now() + PATIENCE;
    while service.items().len() < 36 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    let items = service.items();
    let told = items.iter().filter(|item| item["output"].to_string().contains("Too many tools"));
    assert_eq!((told.count(), items.len()), (4, 36));
}

#[test]
fn messages_for_a_service_that_takes_none_are_dropped_and_counted() {
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[]);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    // It does not read, and does not end either.
    service.signal("STOP");
    let text = "x".repeat(8000);
    let full = (0..2000).any(|at| {
        client.tell(&json!({"type": "text", "text": text}));
        // Not more than 200 messages without sound in a second, also when the daemon comes late to read them.
        client.read_until_time(Instant::now() + Duration::from_millis(15));
        at % 25 == 0 && daemon.count("service_messages_dropped_total", "") > 0
    });
    assert!(full, "nothing was dropped: {}", scrape(daemon.address));
    assert_eq!(daemon.count("calls_active", ""), 1, "the call goes on");
    service.signal("CONT");
}

#[test]
fn log_lines_that_nobody_takes_are_counted() {
    // It cannot say where it listens, so it is given a socket.
    let door = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = door.local_addr().expect("bound");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let mut command = with_sockets(&[("http", &door)], &["demo"]);
    let mut process = command.stderr(full).spawn().expect("it starts");
    drop(door);
    let deadline = Instant::now() + PATIENCE;
    let lost = count(port, "log_lines_lost_total", "");
    drop(Client::connect(port));
    // The call's begin is a line, and its end.
    while count(port, "log_lines_lost_total", "") < lost + 2 {
        assert!(Instant::now() < deadline, "{}", scrape(port));
    }
    process.kill().expect("ours");
    process.wait().expect("ours");
}
