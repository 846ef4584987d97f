//! What a start refuses: the exit code, and one line that names the setting to change.

mod support;

use std::net::TcpListener;
use std::process::{Command, Stdio};

use support::daemon::Daemon;

/// Runs a command that must end by itself, and gives its exit code and what it said.
fn start(arguments: &[&str], settings: &[(&str, &str)]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_voicelived"))
        .args(arguments)
        .env_clear()
        .env("AZURE_VOICE_LIVE_ENDPOINT", "http://127.0.0.1:9")
        .env("AZURE_VOICE_LIVE_API_KEY", "canary-key")
        .envs(settings.iter().copied())
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!said.contains("canary"), "{said}");
    (output.status.code().expect("a code"), said)
}

#[test]
fn a_port_in_use_names_the_setting_that_chose_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("bound").to_string();
    let certificate = support::certificates::localhost();
    let folder = std::env::temp_dir();
    let [chain, key] = [("chain", certificate.0), ("key", certificate.1)].map(|(name, text)| {
        let path = folder.join(format!("voicelived-{}-taken-{name}.pem", std::process::id()));
        std::fs::write(&path, text).expect("a file");
        path
    });
    let tls = [
        ("VOICELIVED_LISTEN", "127.0.0.1:0"),
        ("VOICELIVED_TLS_LISTEN", &taken),
        ("VOICELIVED_TLS_CERT", chain.to_str().expect("UTF-8")),
        ("VOICELIVED_TLS_KEY", key.to_str().expect("UTF-8")),
    ];
    for (arguments, settings, named, not_named) in [
        (&["run"][..], &tls[..], "VOICELIVED_TLS_LISTEN", "--listen"),
        (&["demo"], &[("VOICELIVED_LISTEN", taken.as_str())], "VOICELIVED_LISTEN", "TLS"),
        (&["demo", "--listen", &taken], &[], "--listen", "TLS"),
        (&["simulate", "--listen", &taken], &[], "--listen", "VOICELIVED_"),
    ] {
        let (code, said) = start(arguments, settings);
        assert_eq!(code, 69, "{arguments:?}: {said}");
        let line = said.lines().find(|line| line.contains("cannot listen")).unwrap_or_default();
        assert!(line.contains(&taken) && line.contains(named), "{arguments:?}: {said}");
        assert!(!line.contains(not_named), "{arguments:?}: {said}");
    }
    for path in [chain, key] {
        std::fs::remove_file(path).expect("ours");
    }
}

#[test]
fn check_and_run_refuse_to_listen_nowhere() {
    let service = Daemon::simulate(&[]);
    let endpoint = format!("http://{}", service.address);
    for command in ["run", "check", "demo"] {
        let settings =
            [("AZURE_VOICE_LIVE_ENDPOINT", endpoint.as_str()), ("VOICELIVED_LISTEN", "off")];
        let (code, said) = start(&[command], &settings);
        assert!(code == 78 && said.contains("VOICELIVED_LISTEN: is off"), "{command}: {said}");
    }
}
