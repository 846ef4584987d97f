//! A client's connection breaks without a goodbye: the call is held, and the client takes it up again.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support;
use crate::support::random;
use random::Random;
use serde_json::{Value, json};
use support::client::{Client, Had, from_elsewhere, narrow, request, speech, upgrade_head};
use support::daemon::Daemon;
use support::http::ask;
use support::switch::Switch;
use support::witness;
use support::{certificates, door};
use tungstenite::Message;

/// A call of a client that can take it up again.
fn call(daemon: &Daemon) -> Client {
    let mut client = Client::join(daemon.address, "resume", "");
    client.wait_until_active();
    client
}

fn hello(client: &Client) -> Value {
    (*client.of_type("hello").last().expect("it comes first")).clone()
}

#[test]
fn a_client_goes_on_with_its_call() {
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[]);
    let descriptors = daemon.descriptors();
    let client = call(&daemon);
    let first = hello(&client);
    assert_eq!(
        (&first["resumed"], &first["limits"]["resume_seconds"]),
        (&json!(false), &json!(30))
    );
    let had = client.cut();
    daemon.wait_for_log("the call is held for 30 s");
    let mut client = had.join(daemon.address, "");
    client.wait_for("hello", |message| message["resumed"] == true);
    let second = hello(&client);
    assert_eq!(second["session"], first["session"]);
    assert_ne!(second["resume"], first["resume"]);
    client.wait_for_next("call_state");
    client.tell(&json!({"type": "text", "text": "Hello"}));
    client.wait_for_next("response_done");
    client.tell(&json!({"type": "hang_up"}));
    client.assert_ends("it hangs up", 1000, "hang_up");
    daemon.assert_counted("calls_held_total", "resumed", 1);
    daemon.assert_nothing_left(descriptors);
}

/// The daemon refuses to give the call back, with this reason.
fn assert_refused(daemon: &Daemon, query: &str, fields: &str, reason: &str) {
    let mut client = Client::join(daemon.address, query, fields);
    client.assert_ends(query, 1008, reason);
    assert!(client.of_type("hello").is_empty(), "{query}");
    assert!(client.audio.is_empty(), "{query}");
}

#[test]
fn a_secret_is_good_for_one_call_once() {
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[]);
    let had = call(&daemon).cut();
    let used = had.secret.clone();
    let wrong = "0123456789abcdef0123456789abcdef";
    assert_refused(&daemon, &format!("resume={wrong}"), "", "resume_refused");
    assert_refused(&daemon, &format!("resume={}", &used[1..]), "", "resume_refused");
    let mut client = had.join(daemon.address, "");
    client.wait_for_next("call_state");
    assert_refused(&daemon, &format!("resume={used}"), "", "resume_refused");
    client.tell(&json!({"type": "hang_up"}));
    client.assert_ends("the call goes on", 1000, "hang_up");
    let over = hello(&client)["resume"].as_str().expect("text").to_owned();
    assert_refused(&daemon, &format!("resume={over}"), "", "resume_refused");
    daemon.assert_counted("calls_turned_away_total", "resume_refused", 4);
    // Five in a row are too many, and each further one doubles the wait. A new call is still welcome.
    for _ in 0..3 {
        assert_refused(&daemon, &format!("resume={wrong}"), "", "resume_refused");
    }
    let head = upgrade_head(daemon.address, "");
    let head = head.replacen("/ws", &format!("/ws?resume={wrong}"), 1);
    let mut answer = String::new();
    // The first wait, a second, may be over before this machine gets around to the next try.
    for _ in 0..4 {
        answer = request(daemon.address, &head).1;
        if answer.starts_with("HTTP/1.1 429 ") {
            break;
        }
    }
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("Retry-After: "), "{answer}");
    call(&daemon).tell(&json!({"type": "hang_up"}));
}

#[test]
fn who_has_missed_more_than_is_kept_gets_a_new_call() {
    let service = Daemon::simulate(&["no-welcome", "reply-seconds=3", "speed=20"]);
    let daemon = Daemon::run(service.address, &[]);
    for (declared, had_bytes) in [(true, 47_998), (false, 143_998)] {
        let mut client = Client::join(daemon.address, if declared { "resume" } else { "" }, "");
        client.wait_until_active();
        client.tell(&json!({"type": "text", "text": "Hello"}));
        client.wait_for_audio(3 * 48_000);
        let mut had = client.cut();
        had.audio.truncate(had_bytes);
        // Only a break that the daemon has noticed is a hold.
        daemon.wait_for_logs("the call is held", if declared { 1 } else { 2 });
        assert_refused(&daemon, &had.query(), "", "resume_late");
    }
    daemon.assert_counted("calls_turned_away_total", "resume_late", 2);
    daemon.assert_counted("calls_ended_total", "resume_late", 2);
    daemon.assert_counted("calls_held_total", "ended", 2);
}

/// The text messages of a reply without those that tell of the connection, and without what counts time.
fn story(client: &Client) -> Vec<String> {
    let told = client.messages.iter().map(|(_, message)| message);
    let told =
        told.filter(|message| !matches!(message["type"].as_str(), Some("hello" | "call_state")));
    told.map(|message| match message["type"].as_str() {
        Some("latency" | "usage" | "tool") => message["type"].to_string(),
        _ => {
            // Each call has ids of its own.
            let mut message = message.clone();
            message.as_object_mut().expect("an object").remove("item_id");
            message.to_string()
        }
    })
    .collect()
}

/// A call whose connection breaks again and again while it hears a reply. It misses no byte and no message.
fn cut_and_go_on(
    daemon: &Daemon,
    address: SocketAddr,
    connect: impl Fn() -> TcpStream,
    whole: &[u8],
    random: &mut Random,
) -> Client {
    let mut client = Client::join_on(connect(), address, "resume", "");
    client.wait_until_active();
    client.tell(&json!({"type": "text", "text": "Hello"}));
    while client.audio.len() < whole.len() {
        client.wait_for_audio((client.audio.len() + random.range(1, 40_000)).min(whole.len()));
        let held = daemon.log().matches("the call is held").count();
        let had = client.cut();
        if random.one_in(2) {
            // The daemon knows it, and the service goes on.
            daemon.wait_for_logs("the call is held", held + 1);
        }
        client = had.join_on(connect(), address, "");
        client.wait_for_next("call_state");
    }
    assert!(client.audio == whole, "{} bytes", client.audio.len());
    while client.of_type("usage").is_empty() {
        client.wait_for_next("usage");
    }
    client.tell(&json!({"type": "hang_up"}));
    client.wait_for_end();
    // The last of them comes with the end.
    client.messages.retain(|(_, message)| message["type"] != "usage");
    client
}

#[test]
fn a_reply_goes_on_at_the_byte_where_it_was_cut() {
    let service = Daemon::simulate(&["no-welcome", "reply-seconds=3", "speed=20"]);
    let daemon = Daemon::run(service.address, &[]);
    let descriptors = daemon.descriptors();
    let whole = witness::pattern(3);
    let mut random = Random::new(11);
    let mut uncut = call(&daemon);
    uncut.tell(&json!({"type": "text", "text": "Hello"}));
    uncut.wait_for_audio(whole.len());
    uncut.wait_for_next("usage");
    uncut.messages.retain(|(_, message)| message["type"] != "usage");
    for round in 0..10 {
        let connect = || narrow(daemon.address);
        let client = cut_and_go_on(&daemon, daemon.address, connect, &whole, &mut random);
        assert_eq!(story(&client).join("\n"), story(&uncut).join("\n"), "round {round}");
    }
    uncut.tell(&json!({"type": "hang_up"}));
    uncut.wait_for_end();
    daemon.assert_nothing_left(descriptors);
}

#[test]
fn a_turn_that_was_cut_off_is_answered_for_the_client_that_comes_back() {
    let service = Daemon::simulate(&["no-welcome", "reply-seconds=1"]);
    let daemon = Daemon::run(service.address, &[]);
    let mut client = call(&daemon);
    client.speak(&speech("weather"), 4);
    client.wait_for("the service hears it", |message| message["type"] == "speech_started");
    let had = client.cut();
    // Nobody sends the silence that ends the turn: the daemon does, and the service answers.
    daemon.wait_until("it is answered", |daemon| daemon.count("output_tokens_total", "") > 0);
    let mut client = had.join(daemon.address, "");
    let expected = witness::pattern(1);
    client.wait_for_audio(expected.len());
    assert!(client.audio == expected, "{} bytes", client.audio.len());
    for kind in ["speech_started", "speech_stopped", "response_started"] {
        assert_eq!(client.of_type(kind).len(), 1, "{kind}: {:?}", story(&client));
    }
    client.tell(&json!({"type": "hang_up"}));
    client.assert_ends("it hangs up", 1000, "hang_up");
}

#[test]
fn a_connection_that_is_not_known_to_be_dead_is_replaced() {
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[]);
    let descriptors = daemon.descriptors();
    let mut old = call(&daemon);
    let secret = hello(&old)["resume"].as_str().expect("text").to_owned();
    let query = format!("resume={secret}&received=0&messages={}", old.messages.len());
    let mut new = Client::join(daemon.address, &query, "");
    new.wait_for("hello", |message| message["resumed"] == true);
    // What it still says counts for nothing: neither its audio nor its goodbye.
    old.send(Message::binary(vec![1; 960]));
    old.tell(&json!({"type": "hang_up"}));
    old.wait_for_end();
    let (code, words) = old.closed.clone().expect("a close frame");
    assert_eq!((code, words.as_str()), (1012, "The call goes on over another connection."));
    assert!(old.of_type("call_state").iter().all(|state| state["state"] != "ended"));
    new.tell(&json!({"type": "text", "text": "Hello"}));
    new.wait_for_next("response_done");
    assert_eq!(daemon.count("microphone_bytes_total", ""), 0);
    daemon.assert_counted("calls_held_total", "replaced", 1);
    new.tell(&json!({"type": "hang_up"}));
    new.assert_ends("it hangs up", 1000, "hang_up");
    daemon.assert_nothing_left(descriptors);
}

#[test]
fn a_call_is_taken_up_with_the_credential_that_began_it() {
    const TOKEN: &str = "a-token-of-many-letters";
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_ACCESS_TOKEN", TOKEN)]);
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let paired = ask(daemon.address, "GET /pair", &bearer);
    let cookie = paired.field("Set-Cookie").split(';').next().expect("a cookie").to_owned();
    let cookie = format!("Cookie: {cookie}\r\n");
    for (own, other) in [(&bearer, &cookie), (&cookie, &bearer)] {
        let mut client = Client::join(daemon.address, "resume", own);
        client.wait_until_active();
        let had = client.cut();
        assert_refused(&daemon, &had.query(), other, "resume_refused");
        let status = |fields: &str| {
            let head = upgrade_head(daemon.address, fields);
            let head = head.replacen("/ws", &format!("/ws?{}", had.query()), 1);
            request(daemon.address, &head).1.split(' ').nth(1).expect("a status").to_owned()
        };
        assert_eq!(status(""), "401");
        assert_eq!(status(&format!("Origin: http://elsewhere.example\r\n{own}")), "403");
        let mut client = had.join(daemon.address, own);
        client.wait_for("it is back", |message| message["resumed"] == true);
        client.tell(&json!({"type": "hang_up"}));
        client.assert_ends("it hangs up", 1000, "hang_up");
    }
}

#[test]
fn a_call_is_held_for_its_time_and_no_longer() {
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_RESUME_SECONDS", "1")]);
    let descriptors = daemon.descriptors();
    let had = call(&daemon).cut();
    daemon.assert_counted("calls_ended_total", "client_lost", 1);
    assert_refused(&daemon, &had.query(), "", "resume_refused");
    daemon.assert_counted("calls_held_total", "ended", 1);
    daemon.assert_nothing_left(descriptors);

    let never = Daemon::run(service.address, &[("VOICELIVED_RESUME_SECONDS", "0")]);
    let client = call(&never);
    assert_eq!(hello(&client)["limits"]["resume_seconds"], 0);
    let had = client.cut();
    never.assert_counted("calls_ended_total", "client_lost", 1);
    assert_refused(&never, &had.query(), "", "resume_refused");
    let client = call(&never);
    let secret = hello(&client)["resume"].as_str().expect("text").to_owned();
    assert_refused(&never, &format!("resume={secret}"), "", "resume_refused");
    assert_eq!(never.count("calls_held_total", "ended"), 0);
}

#[test]
fn a_goodbye_in_any_form_ends_the_call_at_once() {
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[]);
    for code in [None, Some(1000), Some(1001), Some(4000)] {
        let mut client = call(&daemon);
        let frame = code.map(|code: u16| tungstenite::protocol::CloseFrame {
            code: code.into(),
            reason: "".into(),
        });
        client.send(Message::Close(frame));
        client.wait_for_end();
    }
    daemon.assert_counted("calls_ended_total", "client_lost", 4);
    assert!(!daemon.log().contains("the call is held"));
}

/// A page that is loaded again: its browser says goodbye for it, or the daemon does. What it says behind its
/// `leave` counts for nothing, and what it is told meanwhile waits for it.
#[test]
fn a_client_that_has_said_it_leaves_comes_back_to_its_call() {
    let service = Daemon::simulate(&["no-welcome", "reply-seconds=1"]);
    let daemon = Daemon::run(service.address, &[]);
    for (turn, code) in [Some(1001_u16), None].into_iter().enumerate() {
        let mut client = call(&daemon);
        let first = hello(&client);
        client.tell(&json!({"type": "text", "text": "Hello"}));
        client.tell(&json!({"type": "leave"}));
        if let Some(code) = code {
            client.send(Message::binary(vec![1; 960]));
            client.tell(&json!({"type": "hang_up"}));
            let goodbye =
                tungstenite::protocol::CloseFrame { code: code.into(), reason: "".into() };
            client.send(Message::Close(Some(goodbye)));
        }
        daemon.wait_for_logs("the call is held for 30 s", turn + 1);
        if code.is_none() {
            while client.read_one_within(Duration::from_secs(20)) {}
            assert_eq!(client.closed.as_ref().map(|(code, _)| *code), Some(1012));
        }
        let mut client = client.cut().join(daemon.address, "");
        client.wait_for("hello", |message| message["resumed"] == true);
        assert_eq!(hello(&client)["session"], first["session"]);
        assert_eq!(hello(&client)["heard"], 0);
        let expected = witness::pattern(1);
        client.wait_for_audio(expected.len());
        assert!(client.audio == expected, "{} bytes", client.audio.len());
        while client.of_type("response_done").is_empty() {
            client.wait_for_next("response_done");
        }
        assert_eq!(client.of_type("response_started").len(), 1, "{}", client.told());
        client.tell(&json!({"type": "hang_up"}));
        client.assert_ends("it hangs up", 1000, "hang_up");
    }
    daemon.assert_counted("calls_held_total", "resumed", 2);
    let never = Daemon::run(service.address, &[("VOICELIVED_RESUME_SECONDS", "0")]);
    call(&never).tell(&json!({"type": "leave"}));
    never.assert_counted("calls_ended_total", "client_lost", 1);
}

#[test]
fn held_calls_make_way_for_new_ones_and_the_longest_held_goes_first() {
    let service = Daemon::simulate(&witness::SERVICE);
    let settings = [("VOICELIVED_MAX_SESSIONS", "8"), ("VOICELIVED_MAX_SESSIONS_PER_ADDRESS", "8")];
    let daemon = Daemon::run(service.address, &settings);
    let descriptors = daemon.descriptors();
    let mut held: Vec<Had> = Vec::new();
    let clients: Vec<Client> = (0..8).map(|_| call(&daemon)).collect();
    for (at, client) in clients.into_iter().enumerate() {
        held.push(client.cut());
        daemon.wait_for_logs("the call is held", at + 1);
    }
    let mut new = call(&daemon);
    daemon.assert_counted("calls_ended_total", "client_lost", 1);
    assert_refused(&daemon, &held.remove(0).query(), "", "resume_refused");
    let back: Vec<Client> = held
        .into_iter()
        .map(|had| {
            let mut client = had.join(daemon.address, "");
            client.wait_for("it is back", |message| message["resumed"] == true);
            client
        })
        .collect();
    // Now all places are taken by clients that are there.
    let mut full = Client::connect(daemon.address);
    full.assert_ends("a ninth call", 1013, "full");
    for mut client in back {
        client.tell(&json!({"type": "hang_up"}));
        client.assert_ends("it hangs up", 1000, "hang_up");
    }
    new.tell(&json!({"type": "hang_up"}));
    new.wait_for_end();
    daemon.assert_nothing_left(descriptors);
}

#[test]
fn a_call_counts_for_the_address_where_its_client_is() {
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_MAX_SESSIONS_PER_ADDRESS", "1")]);
    let had = call(&daemon).cut();
    // A client that is back before the daemon has noticed the break replaces its connection: that holds nothing.
    daemon.wait_for_log("the call is held");
    let mut moved = had.join_on(from_elsewhere(daemon.address, 2), daemon.address, "");
    moved.wait_for("it is back", |message| message["resumed"] == true);
    let _first = call(&daemon);
    let mut second = Client::upgrade(from_elsewhere(daemon.address, 2), daemon.address, "");
    second.assert_ends("a second call from there", 1013, "address_limit");
    // Held, it makes way for a call from its own address only.
    drop(moved.cut());
    daemon.wait_for_logs("the call is held", 2);
    let mut other = Client::connect(daemon.address);
    other.assert_ends("a second call from here", 1013, "address_limit");
    let mut second = Client::upgrade(from_elsewhere(daemon.address, 2), daemon.address, "");
    second.wait_until_active();
}

#[test]
fn the_service_may_be_lost_meanwhile() {
    let service = Daemon::simulate(&["no-welcome", "reply-seconds=1", "speed=4"]);
    let switch = Switch::to(service.address);
    let daemon = Daemon::run(switch.address, &[]);
    let had = call(&daemon).cut();
    daemon.wait_for_log("the call is held");
    switch.cut();
    daemon.assert_counted("service_reconnects_total", "", 1);
    let mut client = had.join(daemon.address, "");
    let states = |client: &Client| -> Vec<String> {
        let states = client.of_type("call_state");
        states.iter().map(|state| state["state"].as_str().expect("text").to_owned()).collect()
    };
    while states(&client).len() < 5 {
        client.wait_for_next("call_state");
    }
    let told = ["connecting", "active", "reconnecting", "active", "active"];
    assert_eq!(states(&client), told, "missed, and as it is now");
    client.tell(&json!({"type": "text", "text": "Hello"}));
    client.wait_for_next("response_done");
    let expected = witness::pattern(1);
    client.wait_for_audio(expected.len());
    assert!(client.audio == expected);
}

#[test]
fn a_daemon_that_stops_holds_no_call() {
    let service = Daemon::simulate(&witness::SERVICE);
    for drain in ["0", "60"] {
        let daemon = Daemon::run(service.address, &[("VOICELIVED_DRAIN_SECONDS", drain)]);
        drop(call(&daemon).cut());
        daemon.wait_for_log("the call is held");
        assert_eq!(daemon.stop("TERM"), Some(0), "drain {drain}");
    }
    // While it drains, a call whose client breaks ends too.
    let daemon = Daemon::run(service.address, &[("VOICELIVED_DRAIN_SECONDS", "60")]);
    let client = call(&daemon);
    daemon.signal("TERM");
    daemon.wait_for_log("draining");
    drop(client.cut());
    daemon.wait_for_log("ended: client_lost");
}

#[test]
fn a_new_token_ends_held_calls() {
    let path = std::env::temp_dir().join(format!("voicelived-resume-{}", std::process::id()));
    let file = path.to_str().expect("a plain path");
    std::fs::write(&path, "one-token-of-many-letters").expect("a file");
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_ACCESS_TOKEN_FILE", file)]);
    let mut client = Client::join(
        daemon.address,
        "resume",
        "Authorization: Bearer one-token-of-many-letters\r\n",
    );
    client.wait_until_active();
    let had = client.cut();
    daemon.wait_for_log("the call is held");
    std::fs::write(&path, "another-token-of-many-letters").expect("a file");
    daemon.signal("HUP");
    daemon.wait_for_log("ended: access_changed");
    let fields = "Authorization: Bearer another-token-of-many-letters\r\n";
    assert_refused(&daemon, &had.query(), fields, "resume_refused");
    let _ = std::fs::remove_file(&path);
}

#[test]
fn over_tls_it_is_the_same() {
    let (certificate, key) = certificates::localhost();
    let folder = std::env::temp_dir().join(format!("voicelived-resume-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a plain path").to_owned()
    };
    let (certificate_file, key_file) = (write("cert.pem", &certificate), write("key.pem", &key));
    let service = Daemon::simulate(&["no-welcome", "reply-seconds=3", "speed=20"]);
    let settings = [
        ("VOICELIVED_TLS_LISTEN", "127.0.0.1:0"),
        ("VOICELIVED_TLS_CERT", certificate_file.as_str()),
        ("VOICELIVED_TLS_KEY", key_file.as_str()),
    ];
    let daemon = Daemon::run(service.address, &settings);
    let door = door::to(daemon.secure_address(), &certificate);
    let (whole, mut random) = (witness::pattern(3), Random::new(12));
    for _ in 0..3 {
        let connect = || narrow(door);
        cut_and_go_on(&daemon, daemon.secure_address(), connect, &whole, &mut random);
    }
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn no_secret_of_a_call_is_logged_or_counted() {
    let service = Daemon::simulate(&witness::SERVICE);
    let daemon = Daemon::run(service.address, &[]);
    let mut secrets = vec!["0123456789abcdef0123456789abcdef".to_owned()];
    let mut client = call(&daemon);
    for _ in 0..2 {
        let had = client.cut();
        secrets.push(had.secret.clone());
        let wrong = format!("resume={}&received=1&messages=1", secrets[0]);
        assert_refused(&daemon, &wrong, "", "resume_refused");
        for line in ["GET", "POST", "HEAD"] {
            // Where no call can begin, too.
            ask(daemon.address, &format!("{line} /ws?{}", had.query()), "");
            ask(daemon.address, &format!("{line} /?{}", had.query()), "");
        }
        client = had.join(daemon.address, "");
        client.wait_for_next("call_state");
    }
    secrets.push(hello(&client)["resume"].as_str().expect("text").to_owned());
    client.tell(&json!({"type": "hang_up"}));
    client.assert_ends("it hangs up", 1000, "hang_up");
    let metrics = ask(daemon.address, "GET /metrics", "");
    let shown = daemon.log() + &String::from_utf8_lossy(&metrics.body);
    assert!(shown.contains("the client is back"), "{shown}");
    for secret in secrets {
        assert!(!shown.contains(&secret) && !shown.contains(&secret[8..24]), "{secret}: {shown}");
    }
}

/// All that the daemon and the kernel take for it is under way when the connection breaks. It fits into what
/// is kept.
#[test]
fn a_client_that_has_not_read_for_a_while_goes_on_all_the_same() {
    let service = Daemon::simulate(&["no-welcome", "reply-seconds=10", "speed=20"]);
    let daemon = Daemon::run(service.address, &[]);
    let whole = witness::pattern(10);
    let mut client = Client::join_on(narrow(daemon.address), daemon.address, "resume", "");
    client.wait_until_active();
    client.tell(&json!({"type": "text", "text": "Hello"}));
    for part in 1..=4 {
        client.wait_for_audio(part * 100_000);
        std::thread::sleep(Duration::from_secs(1));
        client = client.cut().join_on(narrow(daemon.address), daemon.address, "");
    }
    client.wait_for_audio(whole.len());
    assert!(client.audio == whole, "{} bytes", client.audio.len());
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("the client is back"));
    println!("{}", lines.collect::<Vec<_>>().join("\n"));
}
