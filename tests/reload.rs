//! SIGHUP: new calls get the new settings, running calls go on, and settings that cannot be used
//! change nothing. All settings come from files: the environment of a running process is fixed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support;
use serde_json::{Value, json};
use support::client::Client;
use support::daemon::Daemon;
use support::service::Service;
use support::standin::StandIn;
use tungstenite::Message;

const KEY: &str = "canary-first-key-0123";
const OTHER_KEY: &str = "canary-other-key-4567";

/// The owner's files, in a folder of the test's own.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("reload-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        let files = Self(path);
        files.write("key", KEY);
        files.write("instructions", "Be first.");
        files.write("session.json", r#"{"temperature":0.1}"#);
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("a file");
        self.permit(name, 0o600);
    }

    fn permit(&self, name: &str, mode: u32) {
        fs::set_permissions(self.0.join(name), fs::Permissions::from_mode(mode)).expect("ours");
    }

    /// The settings, with these lines besides.
    fn configure(&self, service: &Service, more: &str) {
        let (key, instructions) = (self.path("key"), self.path("instructions"));
        let (address, session) = (service.address, self.path("session.json"));
        let text = format!(
            "AZURE_VOICE_LIVE_ENDPOINT=ws://{address}\nAZURE_VOICE_LIVE_API_KEY_FILE={key}\n\
             AZURE_VOICE_LIVE_INSTRUCTIONS_FILE={instructions}\n\
             AZURE_VOICE_LIVE_SESSION_FILE={session}\n{more}\n"
        );
        self.write("env", &text);
    }

    fn start(&self, arguments: &[&str]) -> Daemon {
        let env = self.path("env");
        Daemon::start(&[&["run", "--env-file", &env], arguments].concat(), &[])
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A call under way, whose audio comes back as it went.
struct Talk {
    client: Client,
    said: Vec<u8>,
}

impl Talk {
    fn new(daemon: &Daemon) -> Self {
        let mut client = Client::connect(daemon.address);
        client.wait_until_active();
        Self { client, said: Vec::new() }
    }

    /// Frames that are all different.
    fn say(&mut self, frames: usize) {
        for _ in 0..frames {
            let at = self.said.len();
            let frame: Vec<u8> =
                (at..at + 960).map(|byte| (byte * 31 / 8).to_le_bytes()[0]).collect();
            self.said.extend_from_slice(&frame);
            self.client.send(Message::binary(frame));
        }
        self.client.wait_for_audio(self.said.len());
        assert!(self.client.audio == self.said, "byte for byte");
    }

    fn limits(&self) -> &Value {
        &self.client.messages[0].1["limits"]
    }
}

/// Sends SIGHUP and returns what was logged until it was dealt with.
fn hang_up(daemon: &Daemon) -> String {
    let before = daemon.log().len();
    daemon.signal("HUP");
    let done = ["settings: read again", "the old settings stay"];
    let news = |daemon: &Daemon| daemon.log()[before..].to_owned();
    daemon.wait_until("it says so", |daemon| done.iter().any(|word| news(daemon).contains(word)));
    news(daemon)
}

fn lines<'a>(log: &'a str, level: &str) -> Vec<&'a str> {
    log.lines().filter(|line| line.contains(&format!(" {level} "))).collect()
}

#[test]
fn new_calls_get_what_has_changed_and_running_ones_go_on() {
    let service = Service::new();
    let files = Files::new("new");
    files.configure(&service, "");
    let daemon = files.start(&["--listen", "127.0.0.1:0"]);
    let mut first = Talk::new(&daemon);
    first.say(20);

    files.write("instructions", "Be second.");
    files.write("session.json", r#"{"temperature":0.9}"#);
    files.write("key", OTHER_KEY);
    let more = "AZURE_VOICE_LIVE_VOICE=alloy\nAZURE_VOICE_LIVE_LANGUAGE=de-DE\n\
                AZURE_VOICE_LIVE_GREETING=Hello\nVOICE_LIVE_MODEL=other-model\n\
                AZURE_VOICE_LIVE_API_VERSION=2031-01-01\nVOICELIVED_IDLE_SECONDS=77\n\
                VOICELIVED_MAX_SESSION_SECONDS=99";
    files.configure(&service, more);
    // Nothing is read unless it is asked for.
    Talk::new(&daemon).say(1);
    let news = hang_up(&daemon);
    assert!(lines(&news, "WARN").is_empty() && lines(&news, "ERROR").is_empty(), "{news}");
    first.say(20);
    let mut third = Talk::new(&daemon);
    third.say(20);
    first.say(20);
    assert_eq!(
        third.limits(),
        &json!({"idle_seconds": 77, "max_seconds": 99, "resume_seconds": 30,
            "max_frame_bytes": 65536})
    );
    assert_eq!(first.limits()["idle_seconds"], 120);

    let calls = service.calls();
    let [first, second, third] = calls.as_slice() else { panic!("{} calls", calls.len()) };
    for old in [first, second] {
        assert_eq!(old.session["instructions"], "Be first.");
        assert_eq!(old.session["temperature"], 0.1);
        assert!(old.head.contains(KEY) && !old.head.contains(OTHER_KEY));
        assert!(old.head.contains("api-version=2026-07-15"), "{}", old.head);
    }
    assert_eq!(third.session["instructions"], "Be second.");
    assert_eq!(third.session["temperature"], 0.9);
    assert_eq!(third.session["voice"], json!({"type": "openai", "name": "alloy"}));
    assert_eq!(third.session["input_audio_transcription"]["language"], "de-DE");
    assert!(third.head.contains(OTHER_KEY) && !third.head.contains(KEY));
    assert!(third.head.contains("api-version=2031-01-01"), "{}", third.head);
    assert!(third.head.contains("model=other-model"), "{}", third.head);
    assert!(!daemon.log().contains("canary"), "{}", daemon.log());
}

#[test]
fn what_cannot_be_used_changes_nothing_and_is_named_in_one_line() {
    let service = Service::new();
    let files = Files::new("broken");
    files.configure(&service, "");
    let daemon = files.start(&["--listen", "127.0.0.1:0"]);
    let mut first = Talk::new(&daemon);
    files.write("instructions", "Be second.");
    let session = "AZURE_VOICE_LIVE_SESSION_FILE";
    for (name, text, fault) in [
        ("session.json", "{\"temperature\": oops}", session),
        ("session.json", "[]", session),
        ("session.json", "{\"output_audio_format\":\"g711_ulaw\"}", session),
        ("key", "two words", "AZURE_VOICE_LIVE_API_KEY_FILE"),
    ] {
        let before = fs::read_to_string(files.path(name)).expect("ours");
        files.write(name, text);
        let news = hang_up(&daemon);
        let errors = lines(&news, "ERROR");
        assert_eq!(errors.len(), 1, "{news}");
        assert!(
            errors[0].contains("the old settings stay: ") && errors[0].contains(fault),
            "{news}"
        );
        assert!(!news.contains("read again"), "{news}");
        files.write(name, &before);
        first.say(5);
        Talk::new(&daemon).say(1);
    }
    // Two faults are still one line.
    files.configure(&service, "VOICELIVED_IDEL_SECONDS=5\nVOICELIVED_IDLE_SECONDS=soon");
    let news = hang_up(&daemon);
    let errors = lines(&news, "ERROR");
    assert!(
        errors.len() == 1 && errors[0].contains("IDEL") && errors[0].contains("soon"),
        "{news}"
    );
    fs::remove_file(files.path("env")).expect("ours");
    let news = hang_up(&daemon);
    assert!(lines(&news, "ERROR")[0].contains("cannot read this file"), "{news}");
    Talk::new(&daemon).say(1);
    first.say(5);
    let calls = service.calls();
    assert_eq!(calls.len(), 6);
    assert!(calls.iter().all(|told| told.session["instructions"] == "Be first."));
    assert!(calls.iter().all(|told| told.session["temperature"] == 0.1));

    files.configure(&service, "");
    hang_up(&daemon);
    Talk::new(&daemon).say(1);
    assert_eq!(service.calls()[6].session["instructions"], "Be second.");
    assert!(!daemon.log().contains("canary") && !daemon.log().contains("two words"));
}

#[test]
fn what_needs_a_restart_is_named_until_it_is_as_before() {
    let (service, elsewhere) = (Service::new(), Service::new());
    let files = Files::new("restart");
    let listen = "VOICELIVED_LISTEN=127.0.0.1:0\n";
    files.configure(&service, listen);
    let daemon = files.start(&[]);
    files.write("key", OTHER_KEY);
    files.write("instructions", "Be second.");
    let more = "VOICELIVED_LISTEN=127.0.0.1:1\nVOICELIVED_MAX_SESSIONS=3\n\
                VOICELIVED_AUDIO_POOL_SECONDS=60\nVOICELIVED_LOG=debug";
    files.configure(&elsewhere, more);
    let warning = "changed, but used only after a restart: AZURE_VOICE_LIVE_ENDPOINT, \
                   VOICELIVED_LISTEN, VOICELIVED_MAX_SESSIONS, VOICELIVED_AUDIO_POOL_SECONDS";
    for _ in 0..2 {
        let news = hang_up(&daemon);
        let warnings = lines(&news, "WARN");
        assert!(warnings.len() == 1 && warnings[0].ends_with(warning), "{news}");
        Talk::new(&daemon).say(1);
    }
    let told = service.calls();
    assert_eq!((told.len(), elsewhere.calls().len()), (2, 0));
    for told in told {
        assert_eq!(told.session["instructions"], "Be second.");
        assert!(told.head.contains(KEY), "a key is for the service it was given for");
        assert!(!told.head.contains(OTHER_KEY));
    }
    files.configure(&service, listen);
    let news = hang_up(&daemon);
    assert!(lines(&news, "WARN").is_empty(), "{news}");
    Talk::new(&daemon).say(1);
    assert!(service.calls()[2].head.contains(OTHER_KEY));
}

#[test]
fn files_with_secrets_that_are_open_to_all_are_warned_about() {
    let service = Service::new();
    let files = Files::new("open");
    let (certificate, key) = support::certificates::localhost();
    files.write("token", "canary-token-0123456789");
    files.write("cert.pem", &certificate);
    files.write("cert-key.pem", &key);
    let more = format!(
        "VOICELIVED_ACCESS_TOKEN_FILE={}\nVOICELIVED_TLS_LISTEN=127.0.0.1:0\n\
         VOICELIVED_TLS_CERT={}\nVOICELIVED_TLS_KEY={}",
        files.path("token"),
        files.path("cert.pem"),
        files.path("cert-key.pem"),
    );
    files.configure(&service, &more);
    let secrets = ["key", "token", "cert-key.pem"];
    let warned = |log: &str| -> Vec<String> {
        let warnings = log.lines().filter(|line| line.contains("is open to all users"));
        warnings.map(|line| line.rsplit("chmod o= ").next().expect("a file").to_owned()).collect()
    };
    // A group may be meant; a certificate, and a `.env` without a secret, are for everybody.
    for name in secrets {
        files.permit(name, 0o640);
    }
    files.permit("cert.pem", 0o644);
    files.permit("env", 0o644);
    let daemon = files.start(&["--listen", "127.0.0.1:0"]);
    assert!(warned(&daemon.log()).is_empty(), "{}", daemon.log());
    for name in secrets {
        files.permit(name, 0o644);
    }
    let expected: Vec<String> = secrets.map(|name| files.path(name)).into();
    let sorted = |mut found: Vec<String>| {
        found.sort();
        found
    };
    assert_eq!(sorted(warned(&hang_up(&daemon))), sorted(expected.clone()));
    let second = files.start(&["--listen", "127.0.0.1:0"]);
    assert_eq!(sorted(warned(&second.log())), sorted(expected));

    let text = format!(
        "AZURE_VOICE_LIVE_ENDPOINT=ws://{}\nAZURE_VOICE_LIVE_API_KEY={KEY}",
        service.address
    );
    files.write("env", &text);
    assert!(warned(&hang_up(&second)).is_empty());
    files.permit("env", 0o604);
    assert_eq!(warned(&hang_up(&second)), [files.path("env")]);
}

/// Nothing of the service's identity has changed, so its sessions are taken up; another authority has
/// to judge its certificate again.
#[test]
fn the_first_call_after_it_resumes_the_tls_session_unless_other_authorities_are_trusted() {
    let files = Files::new("resumed");
    let (certificate, key) = support::certificates::localhost();
    let service = StandIn::new(&certificate, &key);
    files.write("ca.pem", &certificate);
    let endpoint = format!("https://localhost:{}", service.address().port());
    files.write(
        "env",
        &format!(
            "AZURE_VOICE_LIVE_ENDPOINT={endpoint}\nAZURE_VOICE_LIVE_API_KEY_FILE={}\n\
             AZURE_VOICE_LIVE_INSTRUCTIONS_FILE={}\nVOICELIVED_UPSTREAM_CA_FILE={}\n",
            files.path("key"),
            files.path("instructions"),
            files.path("ca.pem")
        ),
    );
    let daemon = files.start(&["--listen", "127.0.0.1:0"]);
    let is_resumed = || {
        let mut client = Client::connect(daemon.address);
        let served = service.accept();
        client.wait_until_active();
        // Otherwise the call outlives both its connections, and its next try to reach the service is taken for
        // the next call's.
        client.tell(&json!({"type": "hang_up"}));
        client.assert_ends("it was asked to", 1000, "hang_up");
        served.is_resumed()
    };
    assert!(!is_resumed(), "the first one cannot");
    assert!(is_resumed());
    files.write("key", OTHER_KEY);
    files.write("instructions", "Be second.");
    hang_up(&daemon);
    assert!(is_resumed(), "key and instructions are no part of TLS");
    let (other, _) = support::certificates::localhost();
    files.write("ca.pem", &(certificate + &other));
    hang_up(&daemon);
    assert!(!is_resumed(), "judged anew");
}
