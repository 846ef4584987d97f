//! A name has several addresses, and one of them takes connections and then does nothing, or goes away.
//! The call goes on to the next one, and later calls begin there.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Instant;

use crate::support;
use mio::{Events, Interest, Poll, Token};
use support::certificates::Authority;
use support::client::Client;
use support::daemon::Daemon;
use support::inside::daemon_with_names;
use voicelived::net::dial::{Dial, Progress, Target};
use voicelived::net::upgrade;
use voicelived::net::ws::{Sizes, USUAL_WAITING};

/// The years in which these tests are run.
const NOW: std::ops::Range<i32> = 2020..2080;

fn file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("stalled-{name}"));
    std::fs::write(&path, text).expect("a file");
    path
}

/// What an address does with a connection.
type Manner = fn(TcpStream);

/// Takes it and never says anything.
fn silent(socket: TcpStream) {
    std::thread::spawn(move || std::thread::park_timeout(support::daemon::PATIENCE * 3));
    std::mem::forget(socket);
}

fn ended(socket: TcpStream) {
    let mut socket = socket;
    // The request is read first: unread bytes would make a reset of the end.
    let _ = std::io::Read::read(&mut socket, &mut [0; 4096]);
}

fn reset(socket: TcpStream) {
    let linger = socket2::SockRef::from(&socket);
    linger.set_linger(Some(std::time::Duration::ZERO)).expect("a socket");
}

fn half_an_answer(mut socket: TcpStream) {
    let _ = socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n");
    silent(socket);
}

/// An address at this port where every connection is treated so.
fn bad_address(port: u16, last: u8, manner: Manner) -> SocketAddr {
    let address = SocketAddr::from(([127, 0, 0, last], port));
    let listener = TcpListener::bind(address).expect("nobody is there");
    std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(manner));
    address
}

#[test]
fn an_address_that_stalls_or_breaks_off_is_followed_by_the_next() {
    for (name, last, manner) in [
        ("silent", 11, silent as Manner),
        ("ended", 12, ended),
        ("reset", 13, reset),
        ("half", 14, half_an_answer),
    ] {
        let service = Daemon::simulate(&["no-welcome"]);
        let port = service.address.port();
        let bad = bad_address(port, last, manner);
        let names = file(&format!("{name}-names"), &format!("{bad}\n{}\n", service.address));
        let address = daemon_with_names("service.test", port, &names);
        for _ in 0..2 {
            Client::connect(address).wait_until_active();
        }
    }
}

/// A service with a certificate, a silent one at the same port, and what both are told to trust.
fn secure_service(name: &str, last: u8) -> (Daemon, SocketAddr, PathBuf) {
    let authority = Authority::new("Ours");
    let (certificate, key) = authority.certify(name, NOW);
    let files = [
        file(&format!("{last}.pem"), &certificate),
        file(&format!("{last}.key"), &key),
        file(&format!("{last}-ca.pem"), &authority.pem),
    ];
    let [certificate, key, _] = files.each_ref().map(|path| path.to_str().expect("a plain path"));
    let service = Daemon::start(
        &["simulate", "--listen", "127.0.0.1:0", "--cert", certificate, "--key", key],
        &[],
    );
    let bad = bad_address(service.address.port(), last, silent);
    let [.., trusted] = files;
    (service, bad, trusted)
}

#[test]
fn a_tls_handshake_that_stalls_is_followed_by_the_next_address() {
    let (service, bad, trusted) = secure_service("localhost", 17);
    let trusted = std::fs::read(trusted).expect("it was written");
    let roots = voicelived::net::tls::certificates(&trusted).expect("PEM");
    let target = Target {
        host: "localhost".to_owned(),
        port: service.address.port(),
        request_target: "/voice-live/realtime?api-version=1&model=m".to_owned(),
        host_field: "localhost".to_owned(),
        credential: "api-key: k".to_owned(),
        tls: Some(voicelived::net::tls::client_config(&roots).expect("TLS")),
        proxy: None,
    };
    let (end, setbacks) = dial(target, vec![bad, service.address]);
    assert!(matches!(end, Progress::Open(_)), "{end:?}");
    let expected =
        format!("{bad} did not finish the TLS handshake in time; the next address is tried");
    assert_eq!(setbacks, [expected]);
}

/// Drives an attempt to its end; what was told of addresses that were given up.
fn dial(target: Target, addresses: Vec<SocketAddr>) -> (Progress, Vec<String>) {
    let sizes = Sizes { message: 65_536, waiting: USUAL_WAITING };
    let id = upgrade::request_id().expect("randomness");
    let mut dial = Dial::new(Rc::new(target), addresses, id, sizes, Instant::now());
    let (mut poll, mut events) = (Poll::new().expect("a poll"), Events::with_capacity(8));
    let mut setbacks = Vec::new();
    loop {
        let progress = dial.advance(Instant::now());
        setbacks.extend(dial.take_setback().map(|setback| setback.to_string()));
        match progress {
            Progress::Pending => {
                let wait = dial.deadline().saturating_duration_since(Instant::now());
                poll.poll(&mut events, Some(wait)).expect("it polls");
                for event in &events {
                    dial.mark(event.is_readable(), event.is_writable(), event.is_read_closed());
                }
            }
            Progress::NewSocket => {
                let both = Interest::READABLE | Interest::WRITABLE;
                let socket = dial.socket().expect("it was just made");
                poll.registry().register(socket, Token(0), both).expect("it registers");
            }
            end => return (end, setbacks),
        }
    }
}

#[test]
fn when_no_address_is_left_the_one_that_got_furthest_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    // It is kept, so that nobody gets this port at the other addresses.
    let port = listener.local_addr().expect("it is bound").port();
    // The last one refuses to connect, which says less than what the first one did.
    let bad = bad_address(port, 15, ended);
    let nobody = SocketAddr::from(([127, 0, 0, 16], port));
    let names = file("furthest-names", &format!("{bad}\n{nobody}\n"));
    let address = daemon_with_names("service.test", port, &names);
    let message = Client::connect(address).assert_ends("both", 1011, "unreachable");
    assert!(message.contains("broke before the service answered"), "{message}");
}

/// An address that neither accepts nor refuses: its queue is full. It is so as long as this is kept.
struct BlackHole {
    address: SocketAddr,
    _queue: (socket2::Socket, Vec<mio::net::TcpStream>),
}

fn black_hole(port: u16, last: u8) -> BlackHole {
    let address = SocketAddr::from(([127, 0, 0, last], port));
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let listener = listener.expect("a socket");
    listener.bind(&address.into()).expect("nobody is there");
    listener.listen(0).expect("a queue");
    let fill = |_| mio::net::TcpStream::connect(address).expect("it begins");
    BlackHole { address, _queue: (listener, (0..5).map(fill).collect()) }
}

/// One after the other would take longer than a call waits for its service.
#[test]
fn addresses_that_accept_nothing_cost_a_moment_each() {
    let service = Daemon::simulate(&["no-welcome"]);
    let port = service.address.port();
    let holes: Vec<_> = (20..25).map(|last| black_hole(port, last)).collect();
    let mut lines: String = holes.iter().map(|hole| format!("{}\n", hole.address)).collect();
    lines.push_str(&service.address.to_string());
    let address = daemon_with_names("service.test", port, &file("holes-names", &lines));
    Client::connect(address).wait_until_active();
}

/// Its request may have opened a session of the service, which costs money.
#[test]
fn an_address_that_loses_is_closed_while_the_call_goes_on() {
    let service = Daemon::simulate(&["no-welcome"]);
    let port = service.address.port();
    let address = SocketAddr::from(([127, 0, 0, 26], port));
    let listener = TcpListener::bind(address).expect("nobody is there");
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let mut heard = Vec::new();
            let _ = std::io::Read::read_to_end(&mut socket, &mut heard);
            let _ = tell.send(String::from_utf8_lossy(&heard).into_owned());
        }
    });
    let names = file("loser-names", &format!("{address}\n{}\n", service.address));
    let mut client = Client::connect(daemon_with_names("service.test", port, &names));
    client.wait_until_active();
    let heard = told.recv_timeout(support::daemon::PATIENCE).expect("its connection has ended");
    assert!(heard.starts_with("GET /voice-live/realtime"), "it had been asked: {heard}");
    // The end of the loser is not taken for the winner's.
    client.tell(&serde_json::json!({"type": "ping", "id": 1}));
    client.wait_for_next("pong");
}

/// `voicelived check` where `localhost` has two addresses, and the one of IPv6 comes first.
fn check_with_two_families(settings: &[(&str, &str)]) -> String {
    let hosts = file("hosts", "::1 localhost\n127.0.0.1 localhost\n");
    let mut unshare = Command::new("unshare");
    if !support::network::is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let script = format!("mount --bind '{}' /etc/hosts; exec \"$0\" check", hosts.display());
    let output = unshare
        .args(["--mount", "sh", "-euc", &script, env!("CARGO_BIN_EXE_voicelived")])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("AZURE_VOICE_LIVE_API_KEY", "key")
        .envs(settings.iter().copied())
        .current_dir(std::env::temp_dir())
        .output()
        .expect("util-linux is installed");
    let [out, error] =
        [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    assert_eq!(output.status.code(), Some(0), "{out}{error}");
    out
}

/// A silent address of IPv6 at this port.
fn silent_in_ipv6(port: u16) -> SocketAddr {
    let address = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).expect("nobody is there");
    std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(silent));
    address
}

#[test]
fn check_goes_the_same_way_and_names_the_address_that_has_won() {
    let service = Daemon::simulate(&[]);
    let port = service.address.port();
    let bad = silent_in_ipv6(port);
    let endpoint = format!("http://localhost:{port}");
    let lines = check_with_two_families(&[("AZURE_VOICE_LIVE_ENDPOINT", &endpoint)]);
    let late = format!("warning         {bad} did not finish the WebSocket upgrade in time");
    assert!(lines.contains("localhost, 2 addresses") && lines.contains(&late), "{lines}");
    assert!(lines.contains(&format!("credential accepted by {}", service.address)), "{lines}");
}

#[test]
fn the_addresses_of_a_proxy_race_too() {
    let (service, _, trusted) = secure_service("voice.service.invalid", 18);
    let conduct = support::proxy::Conduct::Tunnel(service.address);
    let proxy = support::proxy::ProxyStandIn::start(conduct, None);
    let bad = silent_in_ipv6(proxy.address.port());
    let settings = [
        (
            "AZURE_VOICE_LIVE_ENDPOINT",
            format!("https://voice.service.invalid:{}", service.address.port()),
        ),
        ("HTTPS_PROXY", format!("http://localhost:{}", proxy.address.port())),
        ("VOICELIVED_UPSTREAM_CA_FILE", trusted.to_str().expect("a plain path").to_owned()),
    ];
    let lines =
        check_with_two_families(&settings.each_ref().map(|(name, value)| (*name, &**value)));
    assert!(lines.contains("the proxy localhost, 2 addresses"), "{lines}");
    assert!(lines.contains(&format!("{bad} did not finish the proxy's tunnel in time")), "{lines}");
    let connected = lines.lines().rfind(|line| line.starts_with("connect ")).unwrap_or_default();
    assert!(connected.ends_with(&proxy.address.to_string()), "{lines}");
    assert_eq!(proxy.requests().len(), 1);
}
