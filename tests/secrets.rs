//! Secrets: the service's key, the access tokens and the browsers' cookies appear in no log of any
//! level, no answer, no message of a call and no command line.

use std::fs;
use std::path::PathBuf;

use crate::support;
use serde_json::{Value, json};
use support::certificates;
use support::client::{Client, request, upgrade_head};
use support::daemon::{Daemon, KEY};
use support::http::{Answer, ask, exchange};
use support::recorder::Recorder;
use support::service::{Lines, Service};
use support::switch::Switch;
use tungstenite::Message;
use voicelived::web::assets::ASSETS;

/// Every canary has this word, whatever is cut off or escaped around it.
const CANARY: &str = "canary-";
const TOKEN: &str = "canary-token-51c7/+=%";
const OTHER: &str = "canary-other-e08b/+=%";
const WRONG: &str = "canary-wrong-3aa4/+=%";

/// What the services behind the daemon do, one call each, and how the calls end.
const FAULTS: [(&str, &str); 10] = [
    ("refuse=401", "unauthorized"),
    ("refuse=403", "forbidden"),
    ("refuse=429:7", "quota"),
    ("refuse=500", "service_trouble"),
    ("refuse=302", "redirect"),
    ("refuse-session", "session_refused"),
    ("reset@reply", "service_lost"),
    ("big-message=2000000", "service_protocol"),
    ("close=1011:trouble@update", "service_closed"),
    // It knows the key, and says it.
    ("close=1011:canary-5bd1e995-key@update", "service_closed"),
];

/// Services that all levels share.
struct Services {
    good: Daemon,
    bad: Vec<(Daemon, &'static str)>,
    /// Its error events say the key.
    indiscreet: Daemon,
    /// Their events say the key wherever there is room for a word; and how the calls end.
    chatty: Vec<(Service, &'static str)>,
    echoes: Vec<Recorder>,
    untrusted: Recorder,
}

impl Services {
    fn new() -> Self {
        let (certificate, key) = certificates::localhost();
        Self {
            good: Daemon::simulate(&["no-welcome"]),
            bad: FAULTS.map(|(word, reason)| (Daemon::simulate(&[word]), reason)).into(),
            indiscreet: Daemon::simulate(&["no-welcome", &format!("error-event={KEY}")]),
            chatty: chatty(),
            echoes: ["401 Unauthorized", "418 Teapot", "500 Trouble"].map(echo).into(),
            untrusted: Recorder::tls(&certificate, &key),
        }
    }
}

/// A service that refuses and says whose key it was shown.
fn echo(status: &str) -> Recorder {
    let body = format!("{{\"error\":{{\"message\":\"no such key: {KEY}\"}}}}");
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nx-key: {KEY}\r\nContent-Length: {length}\r\n\r\n");
    Recorder::plain((head + &body).as_bytes())
}

/// Services that say the key in every text of every event that the daemon reads.
fn chatty() -> Vec<(Service, &'static str)> {
    let key = || format!("Look: {KEY}!");
    let session = |kind: &str, format: &str| json!({"type": kind, "session": {"id": KEY, "model": key(), "input_audio_format": format}});
    let error = |event_id: &str| {
        json!({"type": "error", "error": {"type": key(), "code": key(), "message": key(),
            "param": key(), "event_id": event_id}})
    };
    let heard = "conversation.item.input_audio_transcription";
    let words = "response.audio_transcript";
    let then = vec![
        json!({"type": key()}),
        json!({"type": "warning", "warning": {"code": key(), "message": key()}}),
        error(""),
        json!({"type": format!("{heard}.delta"), "item_id": KEY, "delta": key()}),
        json!({"type": format!("{heard}.completed"), "item_id": KEY, "transcript": key()}),
        json!({"type": format!("{heard}.failed"), "item_id": "failed", "error": {"message": key()}}),
        json!({"type": "conversation.item.truncated", "item_id": KEY, "audio_end_ms": 1}),
        json!({"type": "response.created", "response": {"id": KEY}}),
        json!({"type": format!("{words}.delta"), "response_id": KEY, "item_id": "answer", "delta": key()}),
        json!({"type": format!("{words}.done"), "response_id": KEY, "item_id": "answer",
            "transcript": key()}),
        json!({"type": "response.output_item.done", "response_id": KEY, "item": {
            "type": "function_call", "call_id": KEY, "name": KEY, "arguments": key()}}),
        json!({"type": "response.done", "response": {"id": KEY, "status": "failed",
            "status_details": {"reason": key(), "error": {"message": key()}}}}),
    ];
    let created = vec![session("session.created", "pcm16")];
    let says = |first: &[Value], updated, then: &[Value]| {
        Service::saying(Lines {
            first: first.to_vec(),
            updated: Some(updated),
            then: then.to_vec(),
        })
    };
    let updated = session("session.updated", "pcm16");
    vec![
        (says(&created, updated.clone(), &then), "hang_up"),
        (says(&created, error("cfg1"), &[]), "session_refused"),
        (says(&created, session("session.updated", KEY), &[]), "session_refused"),
        (says(&[error("")], updated, &[]), "service_error"),
    ]
}

/// One daemon, and everything that others than its owner can see of it.
struct Scene<'a> {
    level: &'a str,
    daemon: Daemon,
    switch: Switch,
    services: &'a Services,
    token_file: PathBuf,
    cookies: Vec<String>,
    seen: String,
}

impl<'a> Scene<'a> {
    fn new(level: &'a str, services: &'a Services) -> Self {
        let name = format!("secrets-{}-{level}", std::process::id());
        let token_file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&token_file, TOKEN).expect("a file");
        let switch = Switch::to(services.good.address);
        let endpoint = format!("ws://{}", switch.address);
        let file = token_file.to_str().expect("a plain path");
        let settings =
            [("VOICELIVED_ACCESS_TOKEN_FILE", file), ("VOICELIVED_RECONNECT_SECONDS", "0")];
        let daemon = Daemon::quiet(level, &endpoint, &settings);
        let (cookies, seen) = (Vec::new(), String::new());
        Self { level, daemon, switch, services, token_file, cookies, seen }
    }

    fn note(&mut self, text: &str) {
        self.seen.push_str(text);
        self.seen.push('\n');
    }

    fn note_answer(&mut self, answer: &Answer) {
        self.note(&format!("{answer:?}"));
        self.note(&String::from_utf8_lossy(&answer.body));
    }

    /// Everything that came by `/ws`.
    fn note_call(&mut self, client: &Client) {
        for (_, message) in &client.messages {
            self.note(&message.to_string());
        }
        self.note(&format!("{:?}", client.closed));
    }

    fn ask(&mut self, line: &str, fields: &str) -> u16 {
        let answer = ask(self.daemon.address, line, fields);
        self.note_answer(&answer);
        answer.status
    }

    /// Bytes that may be no request at all.
    fn send(&mut self, bytes: &str) {
        for answer in exchange(self.daemon.address, bytes.as_bytes()) {
            self.note_answer(&answer);
        }
    }

    fn open(&self, token: &str) -> Client {
        Client::connect_with(self.daemon.address, &bearer(token))
    }

    /// The cookie is for the browser that pairs: there, and nowhere else, it may be seen.
    fn pair(&mut self, token: &str) -> String {
        let answer = ask(self.daemon.address, "GET /pair", &bearer(token));
        let field = answer.field("Set-Cookie");
        let value = field.split(['=', ';']).nth(1).expect("a cookie").to_owned();
        assert_eq!((answer.status, value.len()), (204, 64), "{field}");
        self.note(&format!("{answer:?}").replacen(&value, "", 1));
        self.cookies.push(value.clone());
        format!("Cookie: __Host-voicelived={value}\r\n")
    }

    fn calls(&mut self, cookie: &str) {
        for fields in [bearer(TOKEN), cookie.to_owned()] {
            let mut client = Client::connect_with(self.daemon.address, &fields);
            client.wait_until_active();
            client.tell(&json!({"type": "text", "text": "weather and stock"}));
            client.wait_for_next("response_done");
            client.tell(&json!({"type": "hang_up"}));
            client.assert_ends("a good call", 1000, "hang_up");
            self.note_call(&client);
        }
        for message in [Message::text(TOKEN), Message::text(format!("{{\"type\":\"{KEY}\"}}"))] {
            let mut client = self.open(TOKEN);
            client.send(message);
            client.tell(&json!({"type": "hang_up"}));
            client.wait_for_end();
            self.note_call(&client);
        }
    }

    fn bad_services(&mut self) {
        for (service, reason) in &self.services.bad {
            self.switch.turn_to(service.address);
            let ended = self.call_until_end();
            assert_eq!(ended, *reason, "{}", self.level);
        }
        for echo in &self.services.echoes {
            self.switch.turn_to(echo.address);
            self.call_until_end();
            assert!(echo.heard().contains(KEY), "the service itself is told the key");
        }
        self.switch.turn_to(self.services.indiscreet.address);
        let mut client = self.open(TOKEN);
        client.wait_until_active();
        client.tell(&json!({"type": "text", "text": "hello"}));
        client.wait_for_next("response_done");
        assert!(!client.of_type("error").is_empty(), "its error is passed on");
        self.note_call(&client);
        for (service, reason) in &self.services.chatty {
            self.switch.turn_to(service.address);
            let ended = self.listen_and_hang_up();
            assert_eq!(ended, *reason, "{}", self.level);
        }
        self.switch.turn_to(self.services.good.address);
    }

    /// Calls, takes what the service says, and hangs up if there still is a call; the reason.
    fn listen_and_hang_up(&mut self) -> String {
        let mut client = self.open(TOKEN);
        client.wait_for("the last word or the end", |message| {
            message["code"] == "response_failed" || message["state"] == "ended"
        });
        client.tell(&json!({"type": "hang_up"}));
        let ended = client.wait_for_end();
        let told: String = client.messages.iter().map(|(_, text)| text.to_string()).collect();
        // The call that goes on brings most kinds: what is concealed would have been shown.
        let concealed = told.matches("Look: ***!").count();
        let expected = if ended["reason"] == "hang_up" { 7 } else { 0 };
        assert!(concealed >= expected && told.contains("***"), "{concealed}: {told}");
        self.note_call(&client);
        ended["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// Calls, says something, and waits for the service to spoil it; the reason.
    fn call_until_end(&mut self) -> String {
        let mut client = self.open(TOKEN);
        client.wait_for("active or ended", |message| {
            message["state"] == "active" || message["state"] == "ended"
        });
        client.tell(&json!({"type": "text", "text": "hello"}));
        let ended = client.wait_for_end();
        self.note_call(&client);
        ended["reason"].as_str().unwrap_or_default().to_owned()
    }

    fn untrusted_service(&mut self) {
        let port = self.services.untrusted.address.port();
        let settings = [("VOICELIVED_ACCESS_TOKEN", TOKEN)];
        let daemon = Daemon::quiet(self.level, &format!("https://localhost:{port}"), &settings);
        let mut client = Client::connect_with(daemon.address, &bearer(TOKEN));
        client.assert_ends("an unknown authority", 1011, "tls");
        self.note_call(&client);
        self.note(&daemon.log());
        self.note(&command_line(&daemon));
        assert_eq!(self.services.untrusted.heard(), "");
    }

    fn strangers(&mut self, cookie: &str) {
        let wrong = format!("Cookie: __Host-voicelived={WRONG}\r\n");
        for fields in [bearer(WRONG), wrong, bearer(KEY), format!("Authorization: {TOKEN}\r\n")] {
            assert_eq!(self.ask("GET /pair", &fields), 401);
            let address = self.daemon.address;
            let (_, answer) = request(address, &upgrade_head(address, &fields));
            assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
            self.note(&answer);
            // A client with a right token is not slowed for earlier wrong ones.
            assert_eq!(self.ask("HEAD /none", cookie), 404);
            self.pair(TOKEN);
        }
        for _ in 0..6 {
            self.ask("GET /pair", &bearer(WRONG));
        }
        // The first wait, a second, may be over by now: then this guess begins a longer one.
        let slowed = (0..3).any(|_| self.ask("GET /pair", &bearer(WRONG)) == 429);
        assert!(slowed, "{}", self.level);
        let address = self.daemon.address;
        self.daemon.wait_until("it may ask again", |_| {
            ask(address, "HEAD /pair", &bearer(TOKEN)).status == 204
        });
    }

    fn pages(&mut self, cookie: &str) {
        for asset in ASSETS {
            let fields = bearer(TOKEN) + cookie;
            assert_eq!(self.ask(&format!("GET {}", asset.path), &fields), 200, "{}", asset.path);
        }
        self.ask("GET /healthz", &bearer(TOKEN));
        for fields in [bearer(TOKEN), cookie.to_owned()] {
            assert_eq!(self.ask("GET /metrics", &fields), 200);
        }
    }

    /// Requests that have a secret where it does not belong.
    fn bad_requests(&mut self) {
        let host = self.daemon.address;
        let cookie = self.cookies[0].clone();
        for secret in [TOKEN, KEY, &cookie] {
            for path in ["", "ws", "pair", "ws?token=", "?", "healthz?key=", "ca.pem/", "../"] {
                self.ask(&format!("GET /{path}{secret}"), "");
            }
            for field in ["Origin: http://", "api-key: ", "Cookie: a=", "Sec-WebSocket-Key: "] {
                let fields = format!("{field}{secret}\r\n");
                self.ask("GET /pair", &fields);
                self.send(&upgrade_head(host, &format!("{fields}Connection: close\r\n")));
            }
            let last = "Connection: close\r\n\r\n";
            self.send(&format!("GET / HTTP/1.1\r\nHost: {secret}\r\n{last}"));
            self.send(&format!("GET http://{secret}/ HTTP/1.1\r\nHost: {secret}\r\n{last}"));
            self.send(&format!("{secret} / HTTP/1.1\r\nHost: {host}\r\n{last}"));
            self.send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n{secret}\r\n{last}"));
            self.send(&format!("GET / {secret}\r\n\r\n"));
            let length = secret.len();
            self.send(&format!(
                "POST /pair HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{secret}"
            ));
        }
    }

    /// A token that cannot be used, a new one, and the end, each with a call under way.
    fn signals(&mut self) {
        let mut talking = self.open(TOKEN);
        talking.wait_until_active();
        fs::write(&self.token_file, format!("{WRONG} {WRONG}")).expect("a file");
        self.daemon.signal("HUP");
        self.daemon.wait_for_log("the old settings stay");
        fs::write(&self.token_file, OTHER).expect("a file");
        self.daemon.signal("HUP");
        talking.assert_ends("a new token", 1008, "access_changed");
        self.note_call(&talking);
        assert_eq!(self.ask("GET /pair", &bearer(TOKEN)), 401);
        self.pair(OTHER);
        let mut talking = self.open(OTHER);
        talking.wait_until_active();
        self.daemon.signal("TERM");
        talking.assert_ends("the end", 1001, "stopping");
        self.note_call(&talking);
    }

    /// What was seen has none of it, and was worth looking at.
    fn finish(mut self) {
        let Self { level, daemon, .. } = &self;
        let log = daemon.log();
        assert_eq!(log.contains(" WARN "), *level != "error", "{log}");
        assert_eq!(log.contains("a wrong access token from"), *level != "error", "{log}");
        assert_eq!(log.contains("PCM blocks free"), ["debug", "trace"].contains(level), "{log}");
        for said in ["warns: Look: ***!", "no transcript: Look: ***!"] {
            assert_eq!(log.contains(said), *level != "error", "{said}: {log}");
        }
        assert!(!log.contains("weather and stock"), "what is said is not logged: {log}");
        self.note(&log);
        for line in self.seen.lines() {
            let found = line.to_lowercase().contains(CANARY);
            assert!(!found, "{}: {line}", self.level);
            let cookie = self.cookies.iter().find(|cookie| line.contains(*cookie));
            assert_eq!(cookie, None, "{}: {line}", self.level);
        }
        fs::remove_file(&self.token_file).expect("ours");
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn command_line(daemon: &Daemon) -> String {
    let bytes = fs::read(format!("/proc/{}/cmdline", daemon.id())).expect("it runs");
    assert!(bytes.starts_with(env!("CARGO_BIN_EXE_voicelived").as_bytes()));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn watch(level: &str, services: &Services) {
    let mut scene = Scene::new(level, services);
    scene.note(&command_line(&scene.daemon));
    let cookie = scene.pair(TOKEN);
    scene.calls(&cookie);
    scene.bad_services();
    scene.untrusted_service();
    scene.pages(&cookie);
    scene.bad_requests();
    scene.strangers(&cookie);
    scene.signals();
    scene.finish();
}

#[test]
fn no_secret_is_seen_at_any_log_level() {
    let services = Services::new();
    std::thread::scope(|scope| {
        for level in ["error", "warn", "info", "debug", "trace"] {
            let services = &services;
            scope.spawn(move || watch(level, services));
        }
    });
}
