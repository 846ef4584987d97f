//! The installed service's settings: `voicelived check --service` reads its file as systemd does, and a
//! key that systemd has withheld is told as such.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support;
use crate::support::random;
use random::Random;
use support::daemon::KEY;
use support::service::Service;
use voicelived::config::{Config, Purpose, Sources, environment_file};

fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("service-{name}"));
    fs::create_dir_all(&path).expect("a folder");
    path
}

/// What `check --service` says of this file; its exit code first.
fn check(name: &str, text: impl AsRef<[u8]>) -> (Option<i32>, String) {
    let path = folder("check").join(name);
    fs::write(&path, text).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_voicelived"))
        .args(["check", "--service", "--env-file"])
        .arg(&path)
        .env_clear()
        // The shell's own settings are none of the service's.
        .env("VOICE_LIVE_MODEL", "of-the-shell")
        .current_dir(std::env::temp_dir())
        .output()
        .expect("it runs");
    let told = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(told).expect("UTF-8"))
}

/// The state folder of this machine is none of the test's business.
const OWN: &str = "VOICELIVED_ACCESS=open\nVOICELIVED_STATE_DIR=/tmp\n";

#[test]
fn the_file_is_read_as_systemd_reads_it() {
    let service = Service::new();
    let text = format!(
        "# one\\\n{OWN}AZURE_VOICE_LIVE_ENDPOINT = \"ws://{}\"\nAZURE_VOICE_LIVE_API_KEY={KEY}\n\
         VOICE_LIVE_MODEL=gpt-4.1\nAZURE_VOICE_LIVE_INSTRUCTIONS=Be brief. # not a comment\n\
         AZURE_VOICE_LIVE_VOICE=al\\\nloy\nexport AZURE_VOICE_LIVE_LANGUAGE=de\n\
         VOICE_LIVE_MODEL=gpt-realtime\n",
        service.address
    );
    let (code, told) = check("whole.env", &text);
    assert_eq!(code, Some(0), "{told}");
    let calls = service.calls();
    assert!(
        calls[0].head.contains("model=gpt-realtime "),
        "the last one counts: {}",
        calls[0].head
    );
    let session = &calls[0].session;
    assert_eq!(session["instructions"], "Be brief. # not a comment");
    assert_eq!(session["voice"]["name"], "alloy");
    assert!(session["input_audio_transcription"].get("language").is_none(), "{session}");
    for (line, part) in [
        (2, "ends in a backslash"),
        (7, "the comment behind the value of AZURE_VOICE_LIVE_INSTRUCTIONS"),
        (8, "AZURE_VOICE_LIVE_VOICE otherwise"),
        (10, "begins with export, so systemd ignores it"),
        (11, "VOICE_LIVE_MODEL stands in line 6 too"),
    ] {
        let found = told
            .lines()
            .any(|text| text.contains(&format!("line {line} of")) && text.contains(part));
        assert!(found, "{line} {part}: {told}");
    }
    assert!(!told.contains(KEY), "{told}");
}

#[test]
fn what_systemd_ignores_is_missing_and_the_line_is_named() {
    let text = format!(
        "{OWN}export AZURE_VOICE_LIVE_ENDPOINT=https://x.services.ai.azure.com\n\
         AZURE_VOICE_LIVE_API_KEY={KEY}\n"
    );
    let (code, told) = check("export.env", &text);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("AZURE_VOICE_LIVE_ENDPOINT: is not set"), "{told}");
    assert!(told.contains("line 3 of") && told.contains("begins with export"), "{told}");
}

/// systemd reads nothing of such a file, or cannot start the service with it.
#[test]
fn what_spoils_the_whole_file_is_a_fault() {
    let service = Service::new();
    let whole = format!(
        "{OWN}AZURE_VOICE_LIVE_ENDPOINT=ws://{}\nAZURE_VOICE_LIVE_API_KEY={KEY}\n",
        service.address
    );
    let long = format!("OTHER={}\n", "x".repeat(131_066));
    for (name, spoilt, part) in [
        ("nul", &b"# a\0b\n"[..], "NUL"),
        ("latin", b"OTHER=caf\xe9\n", "not UTF-8"),
        ("noncharacter", b"OTHER=\xef\xbf\xbf\n", "not UTF-8"),
        ("long", long.as_bytes(), "131,071 bytes"),
    ] {
        let (code, told) = check(&format!("{name}.env"), [whole.as_bytes(), spoilt].concat());
        assert_eq!(code, Some(78), "{name}: {told}");
        assert!(told.contains("line 5 of") && told.contains(part), "{name}: {told}");
    }
    let (code, told) = check("marked.env", format!("\u{feff}# mine\r\n{whole}"));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("line 1 of") && told.contains("byte order mark"), "{told}");
}

/// systemd's own reader, as its generator for user environments has it, which needs no manager.
const GENERATOR: &str =
    "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator";

/// What systemd makes of a file: names and values, the last of each name.
fn of_systemd(name: &str, bytes: &[u8]) -> Vec<(String, String)> {
    let home = folder(name);
    let place = home.join("environment.d");
    fs::create_dir_all(&place).expect("a folder");
    fs::write(place.join("x.conf"), bytes).expect("a file");
    let output = Command::new(GENERATOR)
        .env_clear()
        .env("HOME", &home)
        .env("XDG_CONFIG_HOME", &home)
        .output()
        .expect("systemd is installed");
    let told = String::from_utf8(output.stdout).expect("UTF-8");
    let pairs = told.lines().filter_map(|line| line.split_once('='));
    let mut pairs: Vec<_> = pairs
        .filter(|(name, _)| name.len() == 1)
        .map(|(name, value)| (name.to_owned(), unquoted(value)))
        .collect();
    pairs.sort();
    pairs
}

/// A value as that generator writes it: in double quotes where it must be, control characters as in C.
fn unquoted(value: &str) -> String {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let Some(inner) = inner else { return value.to_owned() };
    let mut letters = inner.chars();
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        text.push(match letter {
            '\\' => match letters.next().expect("something is escaped") {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            },
            other => other,
        });
    }
    text
}

/// What we make of it. That generator passes over empty values.
fn pairs(bytes: &[u8]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let entries = environment_file::parse(bytes).into_iter().flatten();
    for entry in entries.filter(|entry| !entry.value.is_empty()) {
        found.retain(|(name, _)| *name != entry.name);
        found.push((entry.name, entry.value));
    }
    found.sort();
    found
}

#[test]
fn systemds_own_reader_agrees() {
    for text in [
        "A=x # note\nB='x' # n\nexport C=1\nD=a\\\nb\nE=it's\nF=\"q\\n\\\"w\"tail \n",
        "A = spaced \t\nB=\nC=' lead'\nD='x'\"y\"z\nE=a=b=c\n",
        "; note\n# note\n\n  A=1\n\tB=2\nnothing\n1C=3\nD E=4\nF=5",
        "A=\"two\nlines\"\nB='three\n\nlines'\nC=\"joined\\\nline\"\n",
        "A=a\\ \nB=\\\\\nC=\\x\\'\\\"\nD=x\\\n",
        "\u{feff}A=1\nB=2\r\nC=3 \r\nD=gr\u{fc}n\n",
        "A=1\nA=2\nB=\"open",
    ] {
        assert_eq!(pairs(text.as_bytes()), of_systemd("table", text.as_bytes()), "{text:?}");
    }
    // Without `$`, which that generator expands; a backslash before a line end within a comment
    // changed its meaning in version 254.
    let alphabet: Vec<char> = "AB=='\"\\ \n\n;#xy \texport".chars().collect();
    let mut random = Random::new(7);
    for round in 0..100 {
        let text: String = (0..40).map(|_| alphabet[random.range(0, alphabet.len() - 1)]).collect();
        let in_comment = text
            .lines()
            .any(|line| line.trim_start().starts_with(['#', ';']) && line.contains('\\'));
        if in_comment {
            continue;
        }
        let (ours, theirs) = (pairs(text.as_bytes()), of_systemd("random", text.as_bytes()));
        let ours: Vec<_> = ours.into_iter().filter(|(name, _)| name.len() == 1).collect();
        assert_eq!(ours, theirs, "{round}: {text:?}");
    }
}

/// The configuration under systemd with this answer to a look at the key's usual file.
fn withheld(answer: Result<&'static str, io::ErrorKind>, credential: Option<&str>) -> String {
    let mut environment = vec![
        ("NOTIFY_SOCKET", "/run/systemd/notify"),
        ("AZURE_VOICE_LIVE_ENDPOINT", "https://x.services.ai.azure.com"),
        ("VOICELIVED_ACCESS", "open"),
    ];
    if credential.is_some() {
        environment.push(("CREDENTIALS_DIRECTORY", "/run/credentials"));
    }
    let environment = environment.into_iter().map(|(name, value)| (name.into(), value.into()));
    let files = |path: &Path, _: usize| -> io::Result<Vec<u8>> {
        if path.starts_with("/run/credentials") {
            return Ok(credential.unwrap_or_default().into());
        }
        assert_eq!(path, Path::new("/etc/voicelived/api-key"));
        answer.map(|text| text.as_bytes().to_vec()).map_err(io::Error::from)
    };
    let config = Config::load(Purpose::Service, Sources::from_environment(environment), &files);
    config.expect("no fault").unready.expect("there is no key")
}

#[test]
fn a_key_that_systemd_did_not_hand_over_is_told_as_such() {
    let told = "The file /etc/voicelived/api-key exists, but systemd has not handed it over";
    for credentials in [None, Some(" ")] {
        for answer in [Ok("a-key"), Err(io::ErrorKind::PermissionDenied)] {
            let sentence = withheld(answer, credentials);
            for part in [told, "LoadCredential=", "voicelived.env", "AZURE_VOICE_LIVE_API_KEY=…"]
            {
                assert!(sentence.contains(part), "{answer:?}: {sentence}");
            }
            assert!(!sentence.contains("a-key "), "{sentence}");
        }
        for answer in [Ok(" \n"), Ok(""), Err(io::ErrorKind::NotFound)] {
            let sentence = withheld(answer, credentials);
            assert!(!sentence.contains(told), "{answer:?}: {sentence}");
            assert!(sentence.contains("must set AZURE_VOICE_LIVE_API_KEY"), "{sentence}");
        }
    }
}

/// What was handed over and holds nothing is not told as withheld.
#[test]
fn an_empty_key_and_a_folder_in_its_place_are_told_as_such() {
    let denied = Err(io::ErrorKind::PermissionDenied);
    for (answer, credential) in [
        (denied, Some("")),
        (denied, Some("\n")),
        (denied, Some(" \n\n")),
        (Ok(""), Some("")),
        (Ok("\n"), None),
    ] {
        let sentence = withheld(answer, credential);
        assert!(sentence.contains("api-key is empty: put the key into it"), "{sentence}");
        assert!(!sentence.contains("LoadCredential"), "{answer:?} {credential:?}: {sentence}");
    }
    for credential in [None, Some(" ")] {
        let sentence = withheld(Err(io::ErrorKind::IsADirectory), credential);
        assert!(sentence.contains("api-key is a folder: put a file"), "{sentence}");
    }
}

/// Whatever a unit names as a credential, and does not get.
#[test]
fn a_credential_that_was_not_handed_over_is_told_as_such() {
    let path = "/run/credentials/voicelived.service/missing";
    for name in [
        "AZURE_VOICE_LIVE_API_KEY_FILE",
        "AZURE_VOICE_LIVE_TOKEN_FILE",
        "AZURE_VOICE_LIVE_SESSION_FILE",
        "VOICELIVED_ACCESS_TOKEN_FILE",
        "VOICELIVED_UPSTREAM_CA_FILE",
        "VOICELIVED_MCP_FILE",
        "VOICELIVED_TLS_KEY",
        "VOICELIVED_TLS_CERT",
    ] {
        let mut settings = vec![(name, path)];
        if name.starts_with("VOICELIVED_TLS") {
            let other =
                if name.ends_with("KEY") { "VOICELIVED_TLS_CERT" } else { "VOICELIVED_TLS_KEY" };
            settings.extend([("VOICELIVED_TLS_LISTEN", "127.0.0.1:0"), (other, path)]);
        }
        if !name.contains("API_KEY") && !name.contains("E_TOKEN") {
            settings.push(("AZURE_VOICE_LIVE_API_KEY", "x"));
        }
        let output = Command::new(env!("CARGO_BIN_EXE_voicelived"))
            .arg("check")
            .current_dir(std::env::temp_dir())
            .env_clear()
            .env("AZURE_VOICE_LIVE_ENDPOINT", "http://127.0.0.1:1")
            .envs(settings)
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("systemd has not handed it over: LoadCredential="), "{name}: {told}");
    }
}
