//! Clients behind a reverse proxy: whose limit of calls, whose wrong guesses, and what a liar can do. The test is the
//! proxy, at 127.0.0.1; a client that is none comes from another loopback address.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use crate::support;
use support::client::{Client, upgrade_head};
use support::daemon::Daemon;
use support::http::{Answer, read_answers};

const PROXY: &str = "127.0.0.1";
const STRANGER: &str = "127.0.0.9";
const TOKEN: &str = "correct-horse-battery-staple";

fn daemon(settings: &[(&str, &str)]) -> Daemon {
    let mut all = vec![
        ("VOICELIVED_TRUSTED_PROXIES", PROXY),
        ("VOICELIVED_MAX_SESSIONS_PER_ADDRESS", "2"),
        ("VOICELIVED_ACCESS", "open"),
        // A caller that goes without a word would keep its place for a while.
        ("VOICELIVED_RESUME_SECONDS", "0"),
    ];
    all.extend(settings);
    Daemon::demo(&all)
}

/// A connection from this address.
fn from(source: &str, to: SocketAddr) -> TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let own: SocketAddr = format!("{source}:0").parse().expect("an address");
    socket.bind(&own.into()).expect("all of 127.0.0.0/8 is ours");
    socket.connect(&to.into()).expect("it accepts");
    let socket: TcpStream = socket.into();
    socket.set_read_timeout(Some(support::daemon::PATIENCE)).expect("a socket");
    socket
}

fn call(daemon: &Daemon, source: &str, fields: &str) -> Client {
    Client::upgrade(from(source, daemon.address), daemon.address, fields)
}

fn ask(daemon: &Daemon, source: &str, path: &str, fields: &str) -> Answer {
    let mut socket = from(source, daemon.address);
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{fields}\r\n",
        daemon.address
    );
    socket.write_all(head.as_bytes()).expect("it reads");
    read_answers(&mut socket).remove(0)
}

/// Opens two calls as one client, which is its limit, and asserts that a third by `same` counts as that client's,
/// and one by `other` does not.
fn assert_limited(daemon: &Daemon, first: (&str, &str), same: (&str, &str), other: (&str, &str)) {
    let own: Vec<_> = (0..2)
        .map(|_| {
            let mut client = call(daemon, first.0, first.1);
            client.wait_until_active();
            client
        })
        .collect();
    let mut third = call(daemon, same.0, same.1);
    let ended = third.wait_for_end();
    assert_eq!(ended["reason"], "address_limit", "{first:?} and {same:?}: {ended}");
    let mut fourth = call(daemon, other.0, other.1);
    fourth.wait_until_active();
    drop((own, third, fourth));
    daemon.wait_until("its calls are over", |daemon| {
        let metrics = ask(daemon, STRANGER, "/metrics", "");
        metrics.text().lines().any(|line| line == "voicelived_calls_active 0")
    });
}

fn behind(fields: &str) -> (&str, &str) {
    (PROXY, fields)
}

/// A listener of both families sees an IPv4 proxy as `::ffff:127.0.0.1`, and an owner may write it so too.
#[test]
fn a_proxy_is_known_in_both_spellings_of_ipv4() {
    for setting in
        ["127.0.0.0/8", "::ffff:127.0.0.1", "::FFFF:7f00:0/104", "10.0.0.0/8, ::ffff:127.0.0.1/128"]
    {
        let settings = [
            ("VOICELIVED_TRUSTED_PROXIES", setting),
            ("VOICELIVED_MAX_SESSIONS_PER_ADDRESS", "1"),
            ("VOICELIVED_ACCESS", "open"),
        ];
        let mut daemon = Daemon::start(&["demo", "--listen", "[::]:0"], &settings);
        daemon.address = SocketAddr::from(([127, 0, 0, 1], daemon.address.port()));
        let mut own = Vec::new();
        for fields in ["X-Forwarded-For: 203.0.113.9\r\n", "Forwarded: for=203.0.113.10\r\n"] {
            let mut client = call(&daemon, PROXY, fields);
            client.wait_until_active();
            own.push(client);
        }
        let again = "Forwarded: for=\"[::ffff:203.0.113.9]:1\", for=\"[::ffff:7f00:1]\"\r\n";
        let ended = call(&daemon, PROXY, again).wait_for_end();
        assert_eq!(ended["reason"], "address_limit", "{setting}: {ended}");
    }
}

#[test]
fn each_client_of_a_proxy_has_its_own_limit() {
    let daemon = daemon(&[]);
    for [first, same, other] in [
        [
            "X-Forwarded-For: 203.0.113.9\r\n",
            "X-Forwarded-For: 203.0.113.9\r\n",
            "X-Forwarded-For: 203.0.113.10\r\n",
        ],
        [
            "Forwarded: for=203.0.113.19\r\n",
            "Forwarded: for=\"203.0.113.19:4711\";proto=https;by=10.0.0.1\r\n",
            "Forwarded: for=203.0.113.20\r\n",
        ],
        [
            "X-Forwarded-For: 2001:db8::9\r\n",
            "Forwarded: for=\"[2001:DB8:0::9]:99\"\r\n",
            "X-Forwarded-For: [2001:db8::a]:99\r\n",
        ],
        [
            "X-Forwarded-For: 203.0.113.29\r\nForwarded: for=203.0.113.29\r\n",
            "X-FORWARDED-FOR: ::ffff:203.0.113.29\r\n",
            "X-Forwarded-For: 203.0.113.30\r\n",
        ],
    ] {
        assert_limited(&daemon, behind(first), behind(same), behind(other));
    }
    daemon.wait_for_log("call from 203.0.113.9\n");
    daemon.wait_for_log("call from 2001:db8::9\n");
}

/// What a client writes itself stands before what the proxy adds, in one line or in several.
#[test]
fn what_a_client_writes_before_the_proxys_word_changes_nothing() {
    let daemon = daemon(&[]);
    let long = format!("X-Forwarded-For: {}203.0.113.9\r\n", "6.6.6.6, ".repeat(700));
    for (number, lie) in [
        "X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\n",
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.9\r\n",
        "X-Forwarded-For: 127.0.0.1, 203.0.113.9\r\n",
        "X-Forwarded-For: unknown, garbage \u{1f600}, \", 203.0.113.9, 127.0.0.1\r\n",
        "X-Forwarded-For: for=6.6.6.6,203.0.113.9:50000\r\n",
        "Forwarded: for=\"\r\nForwarded: for=203.0.113.9\r\n",
        "Forwarded: for=6.6.6.6;host=\"for=7.7.7.7\", for=_hidden, for=203.0.113.9\r\n",
        "Forwarded: for=6.6.6.6, for=203.0.113.9\r\nX-Forwarded-For: 7.7.7.7, 203.0.113.9\r\n",
        // nginx adds to the client's own line, whatever stands there.
        "Forwarded: nonsense, for=203.0.113.9\r\n",
        "Forwarded: for = 6.6.6.6;;=, f\u{fc}r=\u{fc} , FOR=\"203.0.113.9\"\r\n",
        "Forwarded: for=6.6.6.6, for=\", for=203.0.113.9\r\n",
        "Forwarded: for=\"6.6.6.6\\\", for=\"203.0.113.9:_x\";host=\"a\\\", b\"\r\n",
        &long,
    ]
    .into_iter()
    .enumerate()
    {
        let mine = "X-Forwarded-For: 203.0.113.9\r\n";
        let other = format!("X-Forwarded-For: 198.51.100.{number}\r\n");
        assert_limited(&daemon, behind(mine), behind(lie), behind(&other));
    }
}

/// Bytes that are no text take nothing of the proxy's word along.
#[test]
fn a_line_that_is_no_text_still_ends_in_the_proxys_word() {
    let daemon = daemon(&[("VOICELIVED_MAX_SESSIONS_PER_ADDRESS", "1")]);
    let mut own = call(&daemon, PROXY, "X-Forwarded-For: 203.0.113.9\r\n");
    own.wait_until_active();
    for lie in [
        &b"X-Forwarded-For: \xff\xfe, 203.0.113.9"[..],
        b"X-Forwarded-For: 6.6.6.6\xc3,203.0.113.9",
        b"Forwarded: for=\xe9, for=203.0.113.9",
        b"Forwarded: \xff\r\nForwarded: host=\"\xff\";for=203.0.113.9",
    ] {
        let mut head = upgrade_head(daemon.address, "").into_bytes();
        head.truncate(head.len() - 2);
        head.extend([lie, b"\r\n\r\n"].concat());
        let mut socket = from(PROXY, daemon.address);
        socket.write_all(&head).expect("it reads");
        let mut told = String::new();
        while !told.contains("\"state\"") {
            let mut bytes = [0; 4096];
            let length = std::io::Read::read(&mut socket, &mut bytes).expect("an answer");
            told += &String::from_utf8_lossy(&bytes[..length]);
        }
        assert!(told.contains("address_limit"), "{}: {told}", String::from_utf8_lossy(lie));
    }
}

/// Proxies in Go write a neighbour's address with the interface that it came by.
#[test]
fn neighbours_are_told_apart() {
    let daemon = daemon(&[]);
    for [first, same, other] in [
        [
            "X-Forwarded-For: fe80::1%eth0\r\n",
            "X-Forwarded-For: 6.6.6.6, [fe80::1%eth0]:99\r\n",
            "X-Forwarded-For: fe80::2%eth0\r\n",
        ],
        [
            "Forwarded: for=\"[fe80::a%25wlan0]:4711\"\r\n",
            "X-Forwarded-For: FE80:0::A\r\n",
            "Forwarded: for=\"[fe80::b%wlan0]\"\r\n",
        ],
    ] {
        assert_limited(&daemon, behind(first), behind(same), behind(other));
    }
}

/// They all count as the proxy itself: no fresh address, and nobody else's.
#[test]
fn those_whose_address_cannot_be_believed_share_one() {
    let daemon = daemon(&[]);
    for lie in [
        "X-Forwarded-For: unknown\r\n",
        "X-Forwarded-For: 6.6.6.6, unknown\r\n",
        "X-Forwarded-For: 6.6.6.6, _obfuscated\r\n",
        "X-Forwarded-For: 203.0.113.9.9\r\n",
        "X-Forwarded-For: \r\n",
        "Forwarded: for=unknown\r\n",
        "Forwarded: for=\"6.6.6.6\r\n",
        "Forwarded: for=6.6.6.6, for=203.0.113.9\", for=unknown\r\n",
        "Forwarded: proto=https\r\n",
        "Forwarded: for=6.6.6.6;for=7.7.7.7\r\n",
        // The proxy writes one of the two fields, and passes on the other as the client has written it.
        "Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 203.0.113.9\r\n",
        "Forwarded: for=203.0.113.9\r\nX-Forwarded-For: 6.6.6.6\r\n",
    ] {
        let honest = "X-Forwarded-For: 203.0.113.9\r\n";
        assert_limited(&daemon, behind(""), behind(lie), behind(honest));
    }
}

#[test]
fn a_client_that_is_no_proxy_is_not_believed() {
    let daemon = daemon(&[]);
    for lie in [
        "X-Forwarded-For: 203.0.113.9\r\n",
        "Forwarded: for=203.0.113.9\r\n",
        "X-Real-IP: 6.6.6.6\r\n",
    ] {
        let honest = behind("X-Forwarded-For: 203.0.113.9\r\n");
        assert_limited(&daemon, (STRANGER, ""), (STRANGER, lie), honest);
    }
    let without = Daemon::demo(&[
        ("VOICELIVED_MAX_SESSIONS_PER_ADDRESS", "2"),
        ("VOICELIVED_RESUME_SECONDS", "0"),
    ]);
    let lie = "X-Forwarded-For: 203.0.113.9\r\n";
    assert_limited(&without, behind(""), behind(lie), (STRANGER, lie));
}

/// One connection of a proxy carries requests of many clients.
#[test]
fn wrong_guesses_slow_their_client_alone() {
    let daemon = daemon(&[("VOICELIVED_ACCESS", "token"), ("VOICELIVED_ACCESS_TOKEN", TOKEN)]);
    let (guesser, other) =
        ("X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\n", "X-Forwarded-For: 203.0.113.10\r\n");
    let (wrong, right) = (
        "Authorization: Bearer wrong-wrong-wrong\r\n",
        format!("Authorization: Bearer {TOKEN}\r\n"),
    );
    let request = |fields: &str, end: &str| {
        format!("GET /pair HTTP/1.1\r\nHost: {}\r\n{fields}{end}\r\n", daemon.address)
    };
    let mut requests = request(&format!("{guesser}{wrong}"), "").repeat(5);
    requests += &request(&format!("X-Forwarded-For: 7.7.7.7, 203.0.113.9\r\n{right}"), "");
    requests += &request(&format!("{other}{right}"), "Connection: close\r\n");
    let mut socket = from(PROXY, daemon.address);
    socket.write_all(requests.as_bytes()).expect("it reads");
    let statuses: Vec<_> = read_answers(&mut socket).iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 204], "the last is another client's");
    assert_eq!(
        ask(&daemon, PROXY, "/pair", &right).status,
        204,
        "the proxy itself has not guessed"
    );
    daemon.wait_for_log("a wrong access token from 203.0.113.9\n");
}

/// On loopback alone nobody asks for a token. But whoever comes through the proxy comes from elsewhere.
#[test]
fn with_a_trusted_proxy_a_token_is_asked_for_on_loopback_too() {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("proxies-token");
    let state = folder.to_str().expect("UTF-8");
    let settings = [("VOICELIVED_TRUSTED_PROXIES", PROXY), ("VOICELIVED_STATE_DIR", state)];
    let daemon = Daemon::demo(&settings);
    for source in [PROXY, STRANGER] {
        let mut socket = from(source, daemon.address);
        socket.write_all(upgrade_head(daemon.address, "").as_bytes()).expect("it reads");
        // It stays open for another request.
        socket.shutdown(std::net::Shutdown::Write).expect("a socket");
        assert_eq!(read_answers(&mut socket)[0].status, 401, "{source}");
    }
    let _ = std::fs::remove_dir_all(folder);
}

/// The proxy has taken the TLS off, so the plain connection says nothing about the visitor's.
#[test]
fn what_comes_through_a_proxy_is_not_sent_to_the_daemons_own_https() {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("proxies-https");
    let state = folder.to_str().expect("UTF-8");
    let daemon = daemon(&[
        ("VOICELIVED_TLS_LISTEN", "127.0.0.1:0"),
        ("VOICELIVED_STATE_DIR", state),
        ("VOICELIVED_NAMES", "voice.example"),
    ]);
    let status = |source: &str| {
        let mut socket = from(source, daemon.address);
        let port = daemon.address.port();
        let head =
            format!("GET / HTTP/1.1\r\nHost: voice.example:{port}\r\nConnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).expect("it reads");
        read_answers(&mut socket).remove(0).status
    };
    assert_eq!((status(PROXY), status(STRANGER)), (200, 308));
    let _ = std::fs::remove_dir_all(folder);
}
