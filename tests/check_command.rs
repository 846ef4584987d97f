//! `voicelived check`: every step is named, and what fails says what to change.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support;
use support::daemon::Daemon;
use support::script::{Script, Step};
use support::tools::Folder;

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
    let path = std::env::temp_dir().join(format!("voicelived-check-{}-{name}", std::process::id()));
    fs::write(&path, content).expect("a file");
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

/// What a call passes over does not fail a check. It is told, since a call's log would tell it too.
#[test]
fn messages_that_mean_nothing_are_passed_over() {
    let stray =
        || [Step::Text(String::new()), Step::Binary(vec![0xff]), Step::Text("{".to_owned())];
    let created = r#"{"type":"session.created","session":{"id":"s\ud83d","model":"m"}}"#;
    let first: Vec<_> = stray().into_iter().chain([Step::Text(created.to_owned())]).collect();
    let service = Script::beginning(first, vec![]);
    let (code, lines, fault) = check(&plain(service.address), &[]);
    assert_eq!(code, 0, "{lines}{fault}");
    assert!(lines.contains("passes over") && lines.contains("All is well"), "{lines}");
    assert!(!lines.contains("1.."), "{lines}");
    // Nothing else ever comes.
    let service = Script::beginning([stray(), stray(), stray()].concat(), vec![]);
    let (code, lines, fault) = check(&plain(service.address), &[]);
    assert_eq!(code, 69, "{lines}{fault}");
    assert!(fault.contains("unreadable") && !fault.contains(".."), "{fault}");
}

/// The owner's tools with what is wrong with some. That costs no call, so the check goes on.
#[test]
fn tools_of_the_owners_are_listed_with_their_faults() {
    let good = r#"{"name":"lamp","description":"d","command":["true"],"confirm":"always"}"#;
    let folder = Folder::new("check")
        .with("lamp.json", good)
        .with("again.json", &good.replace(r#""confirm":"always""#, r#""comment":"c""#))
        .with("typo.json", "{\n  \"name\": \"x\",\n  \"descripton\": \"y\"\n}");
    let service = Daemon::simulate(&[]);
    let settings = [("VOICELIVED_TOOLS_DIR", folder.path())];
    let (code, lines, fault) = check(&plain(service.address), &settings);
    assert_eq!(code, 0, "{lines}{fault}");
    let has = |what: &str, parts: &[&str]| {
        let of = |line: &&str| line.starts_with(what) && parts.iter().all(|it| line.contains(it));
        assert_eq!(lines.lines().filter(of).count(), 1, "{what}, {parts:?}: {lines}");
    };
    has("tool", &["get_weather", "built in"]);
    has("tool", &["lamp", "command", "again.json"]);
    has("warning", &["typo.json line 3: there is no field \"descripton\"; the fields are name, "]);
    has("warning", &["lamp.json: the name lamp is taken: ", "again.json"]);
    assert!(lines.contains("All is well") && !lines.contains('\u{1b}'), "{lines}");
    // What asks first says so, and a folder that is not there is a warning too.
    fs::remove_file(folder.0.join("again.json")).expect("it is there");
    let (_, lines, _) = check(&plain(service.address), &settings);
    assert!(lines.contains("lamp.json, asks first"), "{lines}");
    let (code, lines, fault) =
        check(&plain(service.address), &[("VOICELIVED_TOOLS_DIR", "/no/such/folder")]);
    assert!(
        lines.contains("warning") && lines.contains("/no/such/folder: No such file"),
        "{lines}"
    );
    assert_eq!(code, 0, "{fault}");
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
                ("VOICELIVED_NAMES", "localhost,pi-2.local"),
            ],
        );
        assert_eq!((code, lines.contains("usable")), (expected, expected == 0), "{lines}{fault}");
        let lacking = lines.contains("does not hold for pi-2.local");
        assert_eq!(
            (lacking, lines.contains("hold for localhost")),
            (expected == 0, false),
            "{lines}"
        );
        assert!(expected == 0 || fault.contains("other-key.pem"), "{fault}");
    }
    for path in [certificate, key, other] {
        fs::remove_file(path).expect("ours");
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
        fs::remove_file(path).expect("it is ours");
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
        let (code, steps, fault) = check(&plain(service.address), &[]);
        assert_eq!((code, fault.lines().count()), (69, 1), "{word}: {fault}");
        let connected = steps.lines().filter(|line| line.starts_with("connect ")).count();
        assert_eq!(connected, 1, "{word}: the step before the one that failed: {steps}");
        assert!(fault.contains(hint), "{word}: {fault}");
    }
    let (code, _, fault) = check("http://127.0.0.1:1", &[]);
    assert!(code == 69 && fault.contains("cannot be reached"), "{fault}");
    let (code, _, fault) = check("https://nowhere.invalid", &[]);
    assert!(code == 69 && fault.contains("nowhere.invalid"), "{fault}");
}

/// Every file below a folder with its mode, size and time of change.
fn snapshot(folder: &Path) -> Vec<(PathBuf, u32, u64, i64, i64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        let data = fs::metadata(&path).expect("it is there");
        found.push((path, data.mode(), data.size(), data.mtime(), data.ctime_nsec()));
    }
    found.sort();
    found
}

#[test]
fn the_state_folder_is_looked_at_and_left_as_it_is() {
    let service = Daemon::simulate(&[]);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("check-state");
    let _ = fs::remove_dir_all(&folder);
    let state = folder.join("state");
    let path = state.to_str().expect("UTF-8");
    let settings = [
        ("VOICELIVED_STATE_DIR", path),
        ("VOICELIVED_TLS_LISTEN", "127.0.0.1:0"),
        ("VOICELIVED_LISTEN", "127.0.0.1:0"),
        ("VOICELIVED_ACCESS", "token"),
    ];
    let look = || {
        let before = snapshot(&state);
        let told = check(&plain(service.address), &settings);
        assert_eq!(before, snapshot(&state), "nothing is made or changed");
        told
    };
    fs::create_dir_all(&folder).expect("a folder");
    let (code, lines, fault) = look();
    assert_eq!((code, lines.matches("made at the next start").count()), (0, 2), "{lines}{fault}");
    assert!(lines.contains("can be written") && !state.exists(), "{lines}");

    drop(Daemon::run(service.address, &settings));
    let (code, lines, fault) = look();
    assert_eq!((code, lines.matches("usable").count()), (0, 2), "{lines}{fault}");

    let permit = |name: &str, mode| {
        fs::set_permissions(state.join(name), fs::Permissions::from_mode(mode)).expect("ours");
    };
    permit("ca-key.pem", 0o644);
    let (code, lines, _) = look();
    assert!(code == 0 && lines.contains("ca-key.pem") && lines.contains("0600"), "{lines}");
    permit("ca-key.pem", 0o600);

    for (name, damage, mend) in [
        ("access-token", "short", "delete it"),
        ("ca-key.pem", "nonsense", "Restore it from a backup"),
        ("ca.pem", "nonsense", "delete it"),
    ] {
        let whole = fs::read_to_string(state.join(name)).expect("the daemon made it");
        fs::write(state.join(name), damage).expect("ours");
        let (code, _, fault) = look();
        assert!(code == 78 && fault.contains(name) && fault.contains(mend), "{name}: {fault}");
        assert_eq!(fault.lines().count(), 1, "{fault}");
        fs::write(state.join(name), whole).expect("ours");
    }
    // A leaf is the daemon's to replace: no fault, but a word.
    let leaf = fs::read_to_string(state.join("leaf.pem")).expect("the daemon made it");
    fs::write(state.join("leaf.pem"), "nonsense").expect("ours");
    let (code, lines, _) = look();
    assert!(code == 0 && lines.contains("is damaged and is made anew"), "{lines}");
    assert!(lines.contains("certificates made at the next start"), "{lines}");
    fs::write(state.join("leaf.pem"), leaf).expect("ours");
    assert_eq!(look().0, 0);
    fs::remove_dir_all(&folder).expect("ours");
}

/// The rights of a user who may not write there.
#[test]
fn a_state_folder_that_cannot_be_written_is_named_before_the_start_needs_it() {
    let service = Daemon::simulate(&[]);
    let folder = std::env::temp_dir().join(format!("voicelived-rights-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let program = folder.join("voicelived");
    // By another process: see `support::program`.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_voicelived")).arg(&program).status();
    assert!(copied.expect("cp runs").success(), "a copy that all may run");
    let state = folder.join("state");
    fs::create_dir(&state).expect("a folder");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o555)).expect("ours");
    // Nothing is forbidden to root.
    let root = fs::metadata("/proc/self").expect("Linux").uid() == 0;
    let mut command = Command::new(if root { "setpriv".into() } else { program.clone() });
    if root {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&program);
    }
    let path = std::env::var("PATH").expect("a path");
    command.arg("check").current_dir("/").env_clear().env("PATH", path).envs([
        ("AZURE_VOICE_LIVE_ENDPOINT", plain(service.address).as_str()),
        ("AZURE_VOICE_LIVE_API_KEY", "canary-key"),
        ("VOICELIVED_STATE_DIR", state.to_str().expect("UTF-8")),
        ("VOICELIVED_ACCESS", "token"),
    ]);
    let output = command.output().expect("it runs");
    let fault = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(78), "{fault}");
    assert!(fault.contains("VOICELIVED_STATE_DIR") && fault.contains("cannot be written"));
    fs::remove_dir_all(&folder).expect("ours");
}
