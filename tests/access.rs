//! Access to the real daemon: clients with the token get in, and all others are refused.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support;
use serde_json::json;
use support::client::{Client, request, upgrade_head};
use support::daemon::{Daemon, PATIENCE};
use support::http::{Answer, ask, read_answers};
use support::metrics::value;
use support::time::in_time;

const TOKEN: &str = "canary-token-9d1f/+=%";
const OTHER: &str = "canary-other-77aa/+=%";
const TOKENS: [(&str, &str); 1] = [("VOICELIVED_ACCESS_TOKEN", TOKEN)];

/// A daemon with a service behind it that answers.
struct Scene {
    daemon: Daemon,
    _service: Daemon,
}

impl Scene {
    fn new(settings: &[(&str, &str)]) -> Self {
        let service = Daemon::simulate(&["no-welcome"]);
        let daemon = Daemon::run(service.address, settings);
        Self { daemon, _service: service }
    }
}

/// A daemon that asks for [`TOKEN`], with a service that no test may reach.
struct Untouched {
    daemon: Daemon,
    service: TcpListener,
}

impl Untouched {
    fn new() -> Self {
        let service = TcpListener::bind("127.0.0.1:0").expect("a port");
        service.set_nonblocking(true).expect("a socket");
        let daemon = Daemon::run(service.local_addr().expect("bound"), &TOKENS);
        Self { daemon, service }
    }

    /// A connection that came and went would still wait to be accepted.
    fn finish(self) {
        assert!(self.service.accept().is_err(), "the service was called");
        let log = self.daemon.log();
        assert!(!log.contains("call from"), "{log}");
        let connected = TcpStream::connect(self.service.local_addr().expect("bound"));
        assert!(connected.is_ok() && self.service.accept().is_ok(), "the service could be called");
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn status_of_call(address: SocketAddr, fields: &str) -> String {
    let (_, answer) = request(address, &upgrade_head(address, fields));
    assert!(!answer.contains("canary"), "{answer}");
    answer
}

fn cookie_of(answer: &Answer) -> String {
    let cookie = answer.field("Set-Cookie");
    assert!(cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=34560000"));
    format!("Cookie: {}\r\n", cookie.split(';').next().expect("a pair"))
}

fn metrics(address: SocketAddr, fields: &str) -> String {
    let answer = ask(address, "GET /metrics", fields);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text().to_owned()
}

fn temporary(name: &str) -> PathBuf {
    let path =
        std::env::temp_dir().join(format!("voicelived-access-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    let _ = fs::remove_file(&path);
    path
}

#[test]
fn without_rights_there_is_no_call_and_no_byte_to_the_service() {
    let scene = Untouched::new();
    let address = scene.daemon.address;
    for fields in ["", "Cookie: a=b\r\n", "Authorization: Basic eDp5\r\n"] {
        let answer = status_of_call(address, fields);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{fields}: {answer}");
        assert!(answer.contains("\r\nWWW-Authenticate: Bearer\r\n"), "{answer}");
        assert!(!answer.contains("Set-Cookie"), "{answer}");
    }
    for fields in [
        bearer(OTHER),
        "Cookie: __Host-voicelived=0123\r\n".to_owned(),
        bearer(TOKEN) + &bearer(TOKEN),
    ] {
        let answer = status_of_call(address, &fields);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{fields}: {answer}");
        assert!(answer.contains("Max-Age=0\r\n"), "a wrong cookie is taken back: {answer}");
    }
    // The token has no place in an address.
    assert_eq!(ask(address, &format!("GET /pair?token={TOKEN}"), "").status, 401);
    let text = metrics(address, &bearer(TOKEN));
    assert_eq!(value(&text, "access_refused_total", "token_missing"), 4.0);
    assert_eq!(value(&text, "access_refused_total", "token_wrong"), 3.0);
    assert_eq!(value(&text, "http_responses_total", "401"), 7.0);
    scene.finish();
}

#[test]
fn a_bearer_and_a_cookie_open_calls() {
    let scene = Scene::new(&TOKENS);
    let address = scene.daemon.address;
    let mut client = Client::connect_with(address, &bearer(TOKEN));
    client.wait_until_active();
    client.tell(&json!({"type": "hang_up"}));
    client.assert_ends("hanging up", 1000, "hang_up");

    let paired = ask(address, "GET /pair", &bearer(TOKEN));
    assert_eq!(
        (paired.status, paired.text(), paired.field("Cache-Control")),
        (204, "", "no-store")
    );
    let cookie = cookie_of(&paired);
    let again = ask(address, "GET /pair", &cookie);
    assert_eq!((again.status, cookie_of(&again)), (204, cookie.clone()));
    let mut client = Client::connect_with(address, &format!("Cookie: a=b\r\n{cookie}"));
    client.wait_until_active();
}

#[test]
fn pairing_says_who_is_known() {
    let scene = Untouched::new();
    let address = scene.daemon.address;
    let stranger = ask(address, "GET /pair", "");
    assert_eq!((stranger.status, stranger.field("WWW-Authenticate")), (401, "Bearer"));
    assert_eq!((stranger.field("Set-Cookie"), stranger.field("Cache-Control")), ("", "no-store"));
    assert_eq!(ask(address, "POST /pair", &bearer(TOKEN)).status, 405);
    assert_eq!(ask(address, "HEAD /pair", &bearer(TOKEN)).status, 204);
    let foreign = format!("Origin: https://evil.example\r\n{}", bearer(TOKEN));
    assert_eq!(ask(address, "GET /pair", &foreign).status, 403);
    assert!(status_of_call(address, &foreign).starts_with("HTTP/1.1 403 "));
    // What everybody may see does not need a token.
    for path in ["/", "/app.js", "/healthz"] {
        assert_eq!(ask(address, &format!("GET {path}"), "").status, 200, "{path}");
    }
    scene.finish();
}

#[test]
fn guessing_is_slowed_and_only_for_those_who_guess() {
    // The first wait lasts a second, and what is asked in it has to be asked by then.
    let scene = in_time("the first wait", Duration::from_secs(1), || {
        let scene = Scene::new(&TOKENS);
        let address = scene.daemon.address;
        for _ in 0..4 {
            assert_eq!(ask(address, "GET /pair", &bearer(OTHER)).status, 401);
        }
        let start = Instant::now();
        assert_eq!(ask(address, "GET /pair", &bearer(OTHER)).status, 401);
        let slowed = ask(address, "GET /pair", &bearer(TOKEN));
        let called = status_of_call(address, &bearer(TOKEN));
        let elsewhere = from_another_address(address, &bearer(TOKEN));
        let took = start.elapsed();
        if took < Duration::from_secs(1) {
            assert_eq!((slowed.status, slowed.field("Retry-After")), (429, "1"), "{slowed:?}");
            assert!(called.starts_with("HTTP/1.1 429 "), "{called}");
        }
        assert_eq!(elsewhere, 204);
        (took, scene)
    });
    let address = scene.daemon.address;
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(ask(address, "GET /pair", &bearer(OTHER)).status, 401);
    let wait = ask(address, "GET /pair", "").field("Retry-After").parse::<u64>();
    assert!(wait.is_ok_and(|seconds| (1..=2).contains(&seconds)), "the second wait is longer");
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(ask(address, "GET /pair", &bearer(TOKEN)).status, 204);
    let text = metrics(address, &bearer(TOKEN));
    assert_eq!(value(&text, "access_refused_total", "throttled"), 3.0);
    assert_eq!(value(&text, "http_responses_total", "429"), 3.0);
    // Clients without any token may ask as often as they like.
    for _ in 0..20 {
        assert_eq!(ask(address, "GET /pair", "").status, 401);
    }
}

/// The status of `GET /pair` from 127.0.0.2.
fn from_another_address(address: SocketAddr, fields: &str) -> u16 {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let here = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0));
    socket.bind(&here.into()).expect("all of 127/8 is this machine");
    socket.connect(&address.into()).expect("the daemon accepts");
    let mut socket = TcpStream::from(socket);
    let head =
        format!("GET /pair HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{fields}\r\n");
    socket.write_all(head.as_bytes()).expect("the daemon reads");
    read_answers(&mut socket)[0].status
}

#[test]
fn open_is_open_only_by_its_word() {
    let everywhere = |settings: &[(&str, &str)]| {
        let all = [&[("VOICELIVED_STATE_DIR", "/proc/none/state")], settings].concat();
        let log = temporary("refused");
        let status = Command::new(env!("CARGO_BIN_EXE_voicelived"))
            .args(["demo", "--listen", "0.0.0.0:0"])
            .env_clear()
            .envs(all)
            .stderr(fs::File::create(&log).expect("a file"))
            .status();
        (status.expect("it runs").code(), fs::read_to_string(&log).expect("text"))
    };
    // Beyond loopback a token is asked for: here it cannot be kept, so there is no daemon.
    let (code, said) = everywhere(&[]);
    assert!(code == Some(73) && said.contains("/proc/none/state/access-token"), "{said}");
    let (code, said) = everywhere(&[("VOICELIVED_ACCESS", "Open")]);
    assert!(code == Some(78) && said.contains("token or open"), "{said}");

    let open = Daemon::start(
        &["demo", "--listen", "0.0.0.0:0"],
        &[("VOICELIVED_ACCESS", "open"), ("VOICELIVED_STATE_DIR", "/proc/none/state")],
    );
    open.wait_for_log("at your expense");
    let address = SocketAddr::from(([127, 0, 0, 1], open.address.port()));
    let paired = ask(address, "GET /pair", &bearer(OTHER));
    assert_eq!((paired.status, paired.field("Set-Cookie")), (204, ""));
    Client::connect(address).wait_until_active();
}

#[test]
fn the_first_start_makes_a_token_and_the_next_ones_use_it() {
    let folder = temporary("state");
    let state = folder.to_str().expect("UTF-8");
    let file = folder.join("access-token");
    let start =
        || Daemon::start(&["demo", "--listen", "0.0.0.0:0"], &[("VOICELIVED_STATE_DIR", state)]);
    let first = start();
    let token = fs::read_to_string(&file).expect("a token").trim().to_owned();
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    let address = |daemon: &Daemon| SocketAddr::from(([127, 0, 0, 1], daemon.address.port()));
    assert_eq!(ask(address(&first), "GET /pair", "").status, 401);
    assert_eq!(ask(address(&first), "GET /pair", &bearer(&token)).status, 204);
    assert!(!first.log().contains(&token), "{}", first.log());

    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("ours");
    let second = start();
    second.wait_for_log("chmod 600");
    assert_eq!(ask(address(&second), "GET /pair", &bearer(&token)).status, 204);

    fs::write(&file, format!("{OTHER}\n")).expect("ours");
    first.signal("HUP");
    first.wait_for_log("the token has changed");
    assert_eq!(ask(address(&first), "GET /pair", &bearer(OTHER)).status, 204);
    fs::remove_dir_all(&folder).expect("ours");
}

/// As the person who starts it by hand sees it. `script` (in every Debian) is the terminal.
#[test]
fn a_terminal_is_shown_the_addresses_and_the_pairing_link() {
    let folder = temporary("terminal");
    fs::create_dir_all(&folder).expect("a folder");
    let (state, seen) = (folder.join("state"), folder.join("seen"));
    let command = format!("exec '{}' demo --listen 127.0.0.1:0", env!("CARGO_BIN_EXE_voicelived"));
    let mut terminal = support::pty::command(&command)
        .env("VOICELIVED_TLS_LISTEN", "0.0.0.0:0")
        .env("VOICELIVED_STATE_DIR", &state)
        .stdout(fs::File::create(&seen).expect("a file"))
        .spawn()
        .expect("script runs");
    let deadline = Instant::now() + PATIENCE;
    let mut text = String::new();
    while !text.contains("listening on http://") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
        // A letter of which half is written yet is none.
        text = String::from_utf8_lossy(&fs::read(&seen).expect("a file")).into_owned();
    }
    // Ctrl-C ends it, before anything can fail here and leave it behind.
    terminal.stdin.take().expect("piped").write_all(b"\x03").expect("it reads");
    assert_eq!(terminal.wait().expect("it ends").code(), Some(0), "{text}");
    let token = fs::read_to_string(state.join("access-token")).expect("a token");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let link = lines.iter().position(|line| line.ends_with(&format!("/#token={}", token.trim())));
    let (page, _) = lines[link.expect("a link")].split_once('#').expect("its fragment");
    assert!(page.starts_with("https://"), "{text}");
    assert!(lines[..link.expect("a link")].contains(&page), "the page alone stands above: {text}");
    assert!(lines[link.expect("a link")..].iter().any(|line| line.contains('█')), "{text}");
    // What /trust asks to compare.
    assert!(text.contains("SHA-256"), "{text}");
    fs::remove_dir_all(&folder).expect("ours");
}

#[test]
fn a_changed_token_ends_the_calls_of_the_old_one() {
    let file = temporary("token");
    fs::write(&file, TOKEN).expect("a file");
    let path = file.to_str().expect("UTF-8");
    let scene = Scene::new(&[("VOICELIVED_ACCESS_TOKEN_FILE", path)]);
    let (daemon, address) = (&scene.daemon, scene.daemon.address);
    let cookie = cookie_of(&ask(address, "GET /pair", &bearer(TOKEN)));
    let mut talking = Client::connect_with(address, &bearer(TOKEN));
    talking.wait_until_active();

    daemon.signal("HUP");
    daemon.wait_for_log("read again, unchanged");
    for bad in ["short", "two words are no token\n", &"x".repeat(400)] {
        fs::write(&file, bad).expect("a file");
        let before = daemon.log().matches("the old settings stay").count();
        daemon.signal("HUP");
        daemon.wait_until("it says so", |daemon| {
            daemon.log().matches("the old settings stay").count() > before
        });
    }
    talking.tell(&json!({"type": "ping", "id": 1}));
    talking.wait_for("the call goes on", |message| message["type"] == "pong");

    fs::write(&file, OTHER).expect("a file");
    daemon.signal("HUP");
    let sentence = talking.assert_ends("a changed token", 1008, "access_changed");
    assert!(sentence.contains("access token was changed"), "{sentence}");
    assert_eq!(
        value(&metrics(address, &bearer(OTHER)), "calls_ended_total", "access_changed"),
        1.0
    );
    for old in [bearer(TOKEN), cookie] {
        assert!(status_of_call(address, &old).starts_with("HTTP/1.1 401 "), "{old}");
    }
    Client::connect_with(address, &bearer(OTHER)).wait_until_active();
    fs::remove_file(&file).expect("ours");
}

#[test]
fn the_token_is_in_no_log_page_or_answer() {
    let scene = Scene::new(&TOKENS);
    let address = scene.daemon.address;
    for fields in [bearer(TOKEN), bearer(OTHER), format!("Cookie: __Host-voicelived={TOKEN}\r\n")] {
        for line in ["GET /", "GET /app.js", "GET /healthz", "GET /pair", "GET /ws", "GET /none"] {
            let answer = ask(address, line, &fields);
            assert!(!format!("{answer:?}").contains("canary"), "{answer:?}");
            assert!(!String::from_utf8_lossy(&answer.body).contains("canary"), "{line}");
        }
    }
    scene.daemon.signal("HUP");
    scene.daemon.wait_for_log("read again");
    let log = scene.daemon.log();
    assert!(
        log.contains("a wrong access token from 127.0.0.1") && !log.contains("canary"),
        "{log}"
    );
    let command = fs::read(format!("/proc/{}/cmdline", scene.daemon.id())).expect("it runs");
    assert!(!String::from_utf8_lossy(&command).contains("canary"));
}

#[test]
fn the_call_command_shows_its_token() {
    let scene = Scene::new(&TOKENS);
    let url = format!("ws://{}/ws", scene.daemon.address);
    let file = temporary("client");
    fs::write(&file, format!("{TOKEN}\n")).expect("a file");
    let folder = temporary("client-folder");
    fs::create_dir(&folder).expect("a folder");
    let call = |more: &[&str], settings: &[(&str, &str)]| {
        let output = Command::new(env!("CARGO_BIN_EXE_voicelived"))
            .args(["call", "--url", &url, "--text", "hello"])
            .args(more)
            .env_clear()
            .envs(settings.iter().copied())
            .current_dir(&folder)
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!said.contains("canary"), "{said}");
        (output.status.code(), said)
    };
    let (code, said) = call(&[], &[]);
    assert!(code == Some(69) && said.contains("--token-file"), "{said}");
    let path = file.to_str().expect("UTF-8");
    for (more, settings) in [
        (&["--token-file", path][..], &[][..]),
        (&[], &TOKENS[..]),
        (&[], &[("VOICELIVED_ACCESS_TOKEN_FILE", path)]),
        (
            &["--token-file", path],
            &[("VOICELIVED_ACCESS_TOKEN", OTHER), ("VOICELIVED_LOG", "loud")],
        ),
    ] {
        let (code, said) = call(more, settings);
        assert_eq!(code, Some(0), "{more:?}: {said}");
    }
    let (code, said) = call(&["--token-file", "/nonexistent"], &[]);
    assert!(code == Some(78) && said.contains("/nonexistent"), "{said}");
    let (code, said) = call(&[], &[("VOICELIVED_ACCESS_TOKEN", "canary")]);
    assert!(code == Some(78) && said.contains("16 to 256"), "{said}");
    let named = folder.join("named.env");
    fs::write(&named, format!("VOICELIVED_ACCESS_TOKEN='{TOKEN}'\n")).expect("a file");
    assert_eq!(call(&["--env-file", named.to_str().expect("UTF-8")], &[]).0, Some(0));
    let (code, said) = call(&["--env-file", "/nonexistent"], &[]);
    assert!(code == Some(78) && said.contains("/nonexistent"), "{said}");
    fs::write(folder.join(".env"), format!("VOICELIVED_ACCESS_TOKEN='{TOKEN}'\n")).expect("a file");
    assert_eq!(call(&[], &[]).0, Some(0));
    fs::remove_dir_all(&folder).expect("ours");
    fs::remove_file(&file).expect("ours");
}
