//! A self-signed certificate that stands for its own authority, and the pair that the manual makes
//! instead.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support;
use support::client::Client;
use support::daemon::{Daemon, KEY};
use support::recorder::Recorder;

fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("own-authority-{name}"));
    fs::create_dir_all(&path).expect("a folder");
    path
}

fn shell(folder: &Path, command: &str) {
    let output = Command::new("sh").args(["-c", command]).current_dir(folder).output();
    let output = output.expect("a shell");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_authority_that_stands_for_a_server_is_told_with_the_remedy() {
    let folder = folder("alone");
    shell(
        &folder,
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
         -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout own.key -out own.pem",
    );
    let text = |name: &str| fs::read_to_string(folder.join(name)).expect("openssl wrote it");
    let service = Recorder::tls(&text("own.pem"), &text("own.key"));
    let endpoint = format!("https://localhost:{}", service.address.port());
    let trusted = folder.join("own.pem");
    let trusted = trusted.to_str().expect("a plain path");
    let daemon = Daemon::run_at(&endpoint, &[("VOICELIVED_UPSTREAM_CA_FILE", trusted)]);
    let message = Client::connect(daemon.address).assert_ends("alone", 1011, "tls");
    let output = Command::new(env!("CARGO_BIN_EXE_voicelived"))
        .arg("check")
        .env_clear()
        .env("AZURE_VOICE_LIVE_ENDPOINT", &endpoint)
        .env("AZURE_VOICE_LIVE_API_KEY", KEY)
        .env("VOICELIVED_UPSTREAM_CA_FILE", trusted)
        .current_dir(std::env::temp_dir())
        .output()
        .expect("it runs");
    let check = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
    for told in [message, daemon.log(), check] {
        assert!(!told.contains("CaUsedAsEndEntity"), "{told}");
        for part in ["an authority's own", "basicConstraints=CA:FALSE", "docs/operations.md"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
    assert_eq!(service.heard(), "", "the key stays here");
    // The words are true as well where nobody trusts it.
    let service = Recorder::tls(&text("own.pem"), &text("own.key"));
    let daemon = Daemon::run_at(&format!("https://localhost:{}", service.address.port()), &[]);
    let message = Client::connect(daemon.address).assert_ends("untrusted", 1011, "tls");
    assert!(message.contains("an authority's own"), "{message}");
    assert!(message.contains("even where it is trusted"), "{message}");
}

#[test]
fn the_commands_of_the_manual_make_a_pair_that_serves() {
    let manual = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md"));
    let manual = manual.expect("the manual");
    let (_, section) = manual.split_once("**How do I make a certificate").expect("a section");
    let commands: Vec<&str> = section
        .lines()
        .skip_while(|line| !line.starts_with("    "))
        .take_while(|line| line.starts_with("    "))
        .map(str::trim)
        .collect();
    assert_eq!(commands.len(), 4, "{commands:?}");
    let folder = folder("pair");
    shell(&folder, &commands.join(" && "));
    let path = |name: &str| folder.join(name).to_str().expect("a plain path").to_owned();
    let (certificate, key) = (path("server.pem"), path("server.key"));
    let service = Daemon::start(
        &["simulate", "--listen", "127.0.0.1:0", "--cert", &certificate, "--key", &key],
        &[],
    );
    let endpoint = format!("https://localhost:{}", service.address.port());
    let daemon = Daemon::run_at(&endpoint, &[("VOICELIVED_UPSTREAM_CA_FILE", &path("ca.pem"))]);
    Client::connect(daemon.address).wait_until_active();
}
