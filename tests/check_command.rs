//! `voicelived check`: every step is named, and what fails says what to change.

mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use support::daemon::Daemon;

fn check(endpoint: &str, settings: &[(&str, &str)]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_voicelived"))
        .arg("check")
        .env_clear()
        .env("AZURE_VOICE_LIVE_ENDPOINT", endpoint)
        .env("AZURE_VOICE_LIVE_API_KEY", "canary-key")
        .envs(settings.iter().copied())
        .current_dir(std::env::temp_dir())
        .output()
        .expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let (out, error) = (text(output.stdout), text(output.stderr));
    assert!(!out.contains("canary") && !error.contains("canary"), "the key: {out}{error}");
    (output.status.code().expect("a code"), out, error)
}

fn plain(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// A file of this test's own.
fn temporary(name: &str, content: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("voicelived-{}-{name}", std::process::id()));
    std::fs::write(&path, content).expect("a file");
    path
}

#[test]
fn all_steps_are_named_in_both_dialects() {
    for faults in [&[][..], &["dialect=ga"], &["pings", "fragments", "binary"]] {
        let service = Daemon::simulate(faults);
        let (code, lines, fault) = check(&plain(service.address), &[]);
        assert_eq!(code, 0, "{faults:?}: {lines}{fault}");
        let mut rest = lines.as_str();
        let steps = ["configuration", "resolve", "connect", "upgrade"];
        for step in steps.into_iter().chain(["session.created", "session.update", "All is well"]) {
            let at = rest.find(step).unwrap_or_else(|| panic!("no {step}: {lines}"));
            rest = &rest[at..];
        }
    }
}

#[test]
fn the_owners_certificate_is_part_of_the_configuration() {
    let (certificate, key) = support::certificates::localhost();
    let (_, other) = support::certificates::localhost();
    let files = [("own.pem", certificate), ("own-key.pem", key), ("other-key.pem", other)];
    let [certificate, key, other] = files.map(|(name, text)| temporary(name, &text));
    let service = Daemon::simulate(&[]);
    for (key, expected) in [(&key, 0), (&other, 78)] {
        let (code, lines, fault) = check(
            &plain(service.address),
            &[
                ("VOICELIVED_TLS_CERT", certificate.to_str().expect("UTF-8")),
                ("VOICELIVED_TLS_KEY", key.to_str().expect("UTF-8")),
            ],
        );
        assert_eq!((code, lines.contains("usable")), (expected, expected == 0), "{lines}{fault}");
        assert!(expected == 0 || fault.contains("other-key.pem"), "{fault}");
    }
    for path in [certificate, key, other] {
        std::fs::remove_file(path).expect("ours");
    }
}

#[test]
fn tls_is_a_step_of_its_own() {
    let (certificate, key) = support::certificates::localhost();
    let certificate = temporary("check-cert.pem", &certificate);
    let key = temporary("check-key.pem", &key);
    let file = |path: &PathBuf| path.to_str().expect("UTF-8").to_owned();
    let (cert_file, key_file) = (file(&certificate), file(&key));
    let arguments =
        ["simulate", "--listen", "127.0.0.1:0", "--cert", &cert_file, "--key", &key_file];
    let service = Daemon::start(&arguments, &[]);
    let endpoint = format!("https://localhost:{}", service.address.port());
    let trusting = [("VOICELIVED_UPSTREAM_CA_FILE", cert_file.as_str())];
    let trusted = check(&endpoint, &trusting);
    let strange = check(&endpoint, &[]);
    for path in [certificate, key] {
        std::fs::remove_file(path).expect("it is ours");
    }
    assert!(trusted.0 == 0 && trusted.1.contains("certificate accepted"), "{trusted:?}");
    assert!(strange.0 == 69 && strange.2.contains("VOICELIVED_UPSTREAM_CA_FILE"), "{strange:?}");
}

#[test]
fn all_faults_of_the_configuration_are_told() {
    let (code, lines, fault) = check("nowhere", &[("VOICELIVED_NONSENSE", "1")]);
    assert_eq!((code, lines.as_str()), (78, ""));
    assert!(fault.contains("VOICELIVED_NONSENSE") && fault.contains("AZURE_VOICE_LIVE_ENDPOINT"));
}

#[test]
fn a_refused_setting_is_named() {
    let service = Daemon::simulate(&[]);
    let (code, lines, fault) =
        check(&plain(service.address), &[("AZURE_VOICE_LIVE_VOICE", "nobody")]);
    assert_eq!((code, fault.lines().count()), (78, 1), "{lines}{fault}");
    assert!(fault.contains("nobody") && fault.contains("AZURE_VOICE_LIVE_VOICE"), "{fault}");
    assert!(lines.contains("session.created") && !lines.contains("session.update"), "{lines}");
}

#[test]
fn faults_of_the_service_are_exit_69() {
    for (word, hint) in [
        ("refuse=401", "AZURE_VOICE_LIVE_API_KEY"),
        ("refuse=404", "AZURE_VOICE_LIVE_ENDPOINT"),
        ("refuse=429:7", "in 7 seconds"),
        ("close-after-upgrade", "closed"),
        ("close=1011:busy@start", "busy"),
        ("reset@update", "lost"),
    ] {
        let service = Daemon::simulate(&[word]);
        let (code, _, fault) = check(&plain(service.address), &[]);
        assert_eq!((code, fault.lines().count()), (69, 1), "{word}: {fault}");
        assert!(fault.contains(hint), "{word}: {fault}");
    }
    let (code, _, fault) = check("http://127.0.0.1:1", &[]);
    assert!(code == 69 && fault.contains("cannot be reached"), "{fault}");
    let (code, _, fault) = check("https://nowhere.invalid", &[]);
    assert!(code == 69 && fault.contains("nowhere.invalid"), "{fault}");
}
