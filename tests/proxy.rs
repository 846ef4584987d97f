//! The service is reached through a proxy: whole calls through tunnels, what the proxy is shown and what
//! it never sees, and each way in which it can fail. The last test runs Debian's tinyproxy.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support;
use support::certificates::Authority;
use support::client::Client;
use support::daemon::{Daemon, KEY, PATIENCE};
use support::proxy::{Conduct, ProxyStandIn};
use support::recorder::Recorder;
use support::witness::{self, Witness};

/// The years in which these tests are run.
const NOW: std::ops::Range<i32> = 2020..2080;

/// A name that nobody can look up. Only the proxy knows where it leads.
const SERVICE: &str = "voice.service.invalid";

const LOGIN: &str = "user:p%40ss-canary";

fn file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("proxy-{name}"));
    fs::write(&path, text).expect("a file");
    path
}

/// A simulator with TLS, known by `name`, and the file of the authority to trust.
struct Service {
    daemon: Daemon,
    authority: Authority,
    trusted: String,
}

impl Service {
    fn start(name: &str, test: &str, words: &[&str]) -> Self {
        let authority = Authority::new("Ours");
        let (certificate, key) = authority.certify(name, NOW);
        let text = |path: PathBuf| path.to_str().expect("a plain path").to_owned();
        let certificate = text(file(&format!("{test}.pem"), &certificate));
        let key = text(file(&format!("{test}.key"), &key));
        let trusted = text(file(&format!("{test}-ca.pem"), &authority.pem));
        let mut arguments =
            vec!["simulate", "--listen", "127.0.0.1:0", "--cert", &certificate, "--key", &key];
        arguments.extend(words.iter().flat_map(|word| ["--fault", word]));
        Self { daemon: Daemon::start(&arguments, &[]), authority, trusted }
    }

    fn endpoint(&self) -> String {
        format!("https://{SERVICE}:{}", self.daemon.address.port())
    }

    fn relay(&self, settings: &[(&str, &str)]) -> Daemon {
        let mut all = vec![("VOICELIVED_UPSTREAM_CA_FILE", self.trusted.as_str())];
        all.extend(settings);
        Daemon::run_at(&self.endpoint(), &all)
    }
}

#[test]
fn a_whole_turn_goes_through_a_plain_and_through_a_tls_proxy() {
    let service = Service::start(SERVICE, "turn", &witness::SERVICE);
    let (certificate, key) = service.authority.certify("localhost", NOW);
    for (scheme, tls) in [("http", None), ("https", Some((&*certificate, &*key)))] {
        let proxy = ProxyStandIn::start(Conduct::Tunnel(service.daemon.address), tls);
        let named = format!("{scheme}://{LOGIN}@localhost:{}", proxy.address.port());
        let daemon = service.relay(&[("HTTPS_PROXY", &named)]);
        Witness::call(daemon.address).finish();
        let requests = proxy.requests();
        let to = format!("{SERVICE}:{}", service.daemon.address.port());
        let wanted = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
        assert!(requests[0].starts_with(&wanted), "{scheme}: {requests:?}");
        // user:p@ss-canary
        let login = "Proxy-Authorization: Basic dXNlcjpwQHNzLWNhbmFyeQ==\r\n";
        assert!(requests[0].contains(login), "{scheme}: {requests:?}");
        assert!(!requests.concat().contains(KEY), "the key is the service's alone");
        let log = daemon.log();
        let told = format!("through the proxy {scheme}://localhost:{}", proxy.address.port());
        assert!(log.contains(&told) && !log.contains("canary"), "{log}");
        assert!(!log.contains("dXNlcjpw"), "{log}");
    }
}

#[test]
fn each_failure_of_a_proxy_is_told_in_words() {
    let refused =
        |head: &str| Conduct::Answer(format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n"));
    let endpoint = format!("https://{SERVICE}");
    for (what, conduct, login, hint) in [
        (
            "login",
            refused("407 Who\r\nProxy-Authenticate: Basic realm=\"x\""),
            "",
            "wants a user name and a password (407 Who)",
        ),
        (
            "wrong login",
            refused("407 No user:p@ss-canary"),
            "u:p%40ss-canary@",
            "does not accept the user name and password in HTTPS_PROXY (407 No user:***)",
        ),
        (
            "ntlm",
            refused("407 X\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate"),
            "",
            "offers only NTLM, Negotiate, which voicelived does not speak. A helper on this device, such as cntlm or px",
        ),
        (
            "forbidden",
            refused("403 Filtered"),
            "",
            "does not allow a connection to voice.service.invalid (403 Filtered)",
        ),
        (
            "no way",
            refused("502 Bad Gateway"),
            "",
            "has no way to voice.service.invalid (502 Bad Gateway)",
        ),
        ("unavailable", refused("503 Service Unavailable"), "", "has no way to"),
        (
            "a web server",
            refused("405 Method Not Allowed"),
            "",
            "opens no tunnel to voice.service.invalid (405",
        ),
        ("no HTTP", Conduct::Answer("SSH-2.0-OpenSSH_9\r\n".to_owned()), "", "not HTTP"),
        ("nothing", Conduct::Answer(String::new()), "", "closed the connection without an answer"),
        ("silence", Conduct::Silence, "", "said nothing for"),
    ] {
        let proxy = ProxyStandIn::start(conduct, None);
        let named = format!("http://{login}{}", proxy.address);
        let daemon = Daemon::run_at(&endpoint, &[("HTTPS_PROXY", &named)]);
        let before = daemon.descriptors();
        let message = Client::connect(daemon.address).assert_ends(what, 1011, "proxy");
        assert!(message.contains(hint), "{what}: {message}");
        assert!(message.contains(&format!("http://{}", proxy.address)), "{what}: {message}");
        assert!(!message.contains("canary") && !daemon.log().contains("canary"), "{what}");
        assert!(!proxy.requests().concat().contains(KEY), "{what}");
        daemon.assert_nothing_left(before);
    }
}

#[test]
fn a_proxy_that_is_not_there_is_told_in_words() {
    // Nobody listens there, nor can another test get this port.
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let plain = Recorder::plain(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let endpoint = format!("https://{SERVICE}");
    for (proxy, hint) in [
        (format!("http://{address}"), "cannot be reached"),
        (
            "http://nosuchproxy.invalid:3128".to_owned(),
            "The name of the proxy http://nosuchproxy.invalid:3128 could not be looked up",
        ),
        (
            format!("https://{}", plain.address),
            "does not speak TLS on this port. If it is a plain one, write http:// in https_proxy",
        ),
    ] {
        let daemon = Daemon::run_at(&endpoint, &[("https_proxy", &proxy)]);
        let message = Client::connect(daemon.address).assert_ends(&proxy, 1011, "proxy");
        assert!(message.contains(hint) && message.contains("https_proxy"), "{message}");
    }
}

#[test]
fn what_needs_no_proxy_goes_straight() {
    let service = Daemon::simulate(&[]);
    let broken = ProxyStandIn::start(Conduct::Silence, None);
    let proxy = format!("http://{}", broken.address);
    for service in [
        format!("http://{}", service.address),
        format!("http://localhost:{}", service.address.port()),
    ] {
        let daemon = Daemon::run_at(&service, &[("HTTPS_PROXY", &proxy), ("all_proxy", &proxy)]);
        Client::connect(daemon.address).wait_until_active();
        assert!(!daemon.log().contains("through the proxy"));
    }
    let exempt = [("HTTPS_PROXY", proxy.as_str()), ("NO_PROXY", "x, .SERVICE.invalid")];
    let daemon = Daemon::run_at(&format!("https://{SERVICE}"), &exempt);
    // It looks the name up itself, and nobody knows it.
    Client::connect(daemon.address).assert_ends("exempt", 1011, "unreachable");
    assert!(broken.requests().is_empty());
}

#[test]
fn check_names_the_proxy_as_a_step_and_keeps_its_login() {
    let service = Service::start(SERVICE, "check", &[]);
    let good = ProxyStandIn::start(Conduct::Tunnel(service.daemon.address), None);
    let bad =
        ProxyStandIn::start(Conduct::Answer("HTTP/1.1 403 Filtered\r\n\r\n".to_owned()), None);
    for (proxy, code) in [(&good, 0), (&bad, 69)] {
        let output = Command::new(env!("CARGO_BIN_EXE_voicelived"))
            .arg("check")
            .env_clear()
            .env("AZURE_VOICE_LIVE_ENDPOINT", service.endpoint())
            .env("AZURE_VOICE_LIVE_API_KEY", KEY)
            .env("VOICELIVED_UPSTREAM_CA_FILE", &service.trusted)
            .env("ALL_PROXY", format!("{LOGIN}@localhost:{}", proxy.address.port()))
            .env("VOICELIVED_LOG", "trace")
            .current_dir(std::env::temp_dir())
            .output()
            .expect("it runs");
        let lines = String::from_utf8_lossy(&output.stdout);
        let fault = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{lines}{fault}");
        assert!(!lines.contains("canary") && !fault.contains("canary"), "{lines}{fault}");
        let mut rest = &*lines;
        let steps = ["resolve", "connect", "proxy", "TLS", "upgrade", "All is well"];
        for step in &steps[..if code == 0 { 6 } else { 2 }] {
            let at = rest.find(step).unwrap_or_else(|| panic!("no {step}: {lines}{fault}"));
            rest = &rest[at..];
        }
        assert!(code == 0 || fault.contains("does not allow a connection to"), "{fault}");
        assert!(code != 0 || lines.contains("(ALL_PROXY) opens a tunnel to"), "{lines}");
    }
}

/// This machine's address in its network. Nothing is sent: the system only chooses a way.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

/// Debian's tinyproxy with this login, killed when dropped.
struct Tinyproxy(Child, SocketAddr);

impl Tinyproxy {
    fn start(program: &str, port_allowed: u16, test: &str) -> Self {
        // tinyproxy cannot say which port it got. At this address no other test listens, so a port that was
        // just given back stays free.
        let free = TcpListener::bind("127.0.0.77:0").expect("a port");
        let address = free.local_addr().expect("it is bound");
        drop(free);
        let port = address.port();
        let config = file(
            &format!("{test}.conf"),
            &format!(
                "Port {port}\nListen 127.0.0.77\nTimeout 60\nMaxClients 20\nBasicAuth user pass-canary\nConnectPort {port_allowed}\n"
            ),
        );
        let child =
            Command::new(program).arg("-d").arg("-c").arg(config).stdout(Stdio::null()).spawn();
        let running = Self(child.expect("it starts"), address);
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(address).is_err() {
            assert!(std::time::Instant::now() < deadline, "tinyproxy does not listen");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        running
    }
}

impl Drop for Tinyproxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program: what `TINYPROXY` names, as `tests/run` does, else Debian's, unpacked beside the system.
fn tinyproxy() -> String {
    if let Ok(named) = std::env::var("TINYPROXY") {
        return named;
    }
    let unpack = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/beside");
    let output = Command::new(unpack).args(["tinyproxy", "tinyproxy"]).output().expect("bash");
    let faults = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "tinyproxy cannot be unpacked; install it and let TINYPROXY name it: {faults}"
    );
    format!("{}/bin/tinyproxy", String::from_utf8_lossy(&output.stdout).trim())
}

#[test]
fn debians_tinyproxy_carries_a_whole_turn() {
    let program = tinyproxy();
    // What is on loopback is reached without a proxy.
    let own = own_address().expect("this machine has an address beyond loopback");
    let authority = Authority::new("Ours");
    let (certificate, key) = authority.certify(&own.to_string(), NOW);
    let (certificate, key) = (file("tiny.pem", &certificate), file("tiny.key", &key));
    let trusted = file("tiny-ca.pem", &authority.pem);
    let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
    let (certificate, key, trusted) = (text(&certificate), text(&key), text(&trusted));
    let listen = format!("{own}:0");
    let mut arguments =
        vec!["simulate", "--listen", &listen, "--cert", &certificate, "--key", &key];
    arguments.extend(witness::SERVICE.iter().flat_map(|word| ["--fault", word]));
    let service = Daemon::start(&arguments, &[]);
    let proxy = Tinyproxy::start(&program, service.address.port(), "tiny");
    let endpoint = format!("https://{}", service.address);
    let relay = |login: &str| {
        let named = format!("http://{login}@{}", proxy.1);
        let settings = [("VOICELIVED_UPSTREAM_CA_FILE", trusted.as_str()), ("HTTPS_PROXY", &named)];
        Daemon::run_at(&endpoint, &settings)
    };
    Witness::call(relay("user:p%61ss-canary").address).finish();
    let message = Client::connect(relay("user:wrong").address).assert_ends("login", 1011, "proxy");
    assert!(message.contains("does not accept the user name and password"), "{message}");
    // A port that it does not allow.
    let closed = Tinyproxy::start(&program, 443, "tiny-closed");
    let named = format!("http://user:pass-canary@{}", closed.1);
    let settings = [("VOICELIVED_UPSTREAM_CA_FILE", trusted.as_str()), ("HTTPS_PROXY", &named)];
    let daemon = Daemon::run_at(&endpoint, &settings);
    let message = Client::connect(daemon.address).assert_ends("port", 1011, "proxy");
    assert!(message.contains("does not allow a connection"), "{message}");
}
