//! Faults that prevent the start: the exit code, and one line that names the setting to change.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::support;
use support::daemon::Daemon;

/// Files of a test's own, removed at its end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("voicelived-start-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

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
    let folder = Folder::new("taken");
    let (chain, key) = support::certificates::localhost();
    let (chain, key) = (folder.write("chain.pem", &chain), folder.write("key.pem", &key));
    let tls = [
        ("VOICELIVED_LISTEN", "127.0.0.1:0"),
        ("VOICELIVED_TLS_LISTEN", &taken),
        ("VOICELIVED_TLS_CERT", &chain),
        ("VOICELIVED_TLS_KEY", &key),
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

/// What `openssl` makes of a key or certificate.
fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("PEM")
}

/// A certificate of the key that ended with January 2020.
fn expired(key: &str) -> String {
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 31);
    let key = rcgen::KeyPair::from_pem(key).expect("a key");
    params.self_signed(&key).expect("signed").pem()
}

#[test]
fn a_fault_of_a_certificate_file_is_told_in_words_with_its_setting() {
    let folder = Folder::new("own-files");
    let ((chain, key), (_, other)) =
        (support::certificates::localhost(), support::certificates::localhost());
    let expired = expired(&key);
    let chain = folder.write("chain.pem", &chain);
    let key_file = folder.write("key.pem", &key);
    let locked = openssl(&["pkey", "-in", &key_file, "-aes128", "-passout", "pass:canary"]);
    let rsa = openssl(&["genrsa", "-traditional", "-aes128", "-passout", "pass:canary", "2048"]);
    let old = openssl(&["req", "-new", "-key", &key_file, "-subj", "/CN=old"]);
    let old = folder.write("request.pem", &old);
    let old = openssl(&["x509", "-req", "-in", &old, "-signkey", &key_file, "-days", "2"]);
    for (cert, key, setting, words) in [
        (
            folder.write("expired.pem", &expired),
            key_file.clone(),
            "VOICELIVED_TLS_CERT",
            "expired on 2020-01-31",
        ),
        (
            chain.clone(),
            folder.write("other.pem", &other),
            "VOICELIVED_TLS_CERT",
            "another certificate",
        ),
        (
            chain.clone(),
            folder.write("locked.pem", &locked),
            "VOICELIVED_TLS_KEY",
            "has a password",
        ),
        (chain.clone(), folder.write("rsa.pem", &rsa), "VOICELIVED_TLS_KEY", "has a password"),
        (chain.clone(), chain.clone(), "VOICELIVED_TLS_KEY", "the other file"),
        (folder.write("old.pem", &old), key_file.clone(), "VOICELIVED_TLS_CERT", "version 1"),
        ("/nonexistent".to_owned(), key_file.clone(), "VOICELIVED_TLS_CERT", "cannot be read"),
    ] {
        let settings = [
            ("VOICELIVED_LISTEN", "127.0.0.1:0"),
            ("VOICELIVED_TLS_LISTEN", "127.0.0.1:0"),
            ("VOICELIVED_TLS_CERT", cert.as_str()),
            ("VOICELIVED_TLS_KEY", key.as_str()),
        ];
        for command in ["run", "check"] {
            let (code, said) = start(&[command], &settings);
            assert!(
                code == 78 && said.contains(setting) && said.contains(words),
                "{command}: {said}"
            );
        }
    }
    // The simulator's options are named in the same way.
    let arguments = ["simulate", "--listen", "127.0.0.1:0", "--cert", &chain, "--key", &chain];
    let (code, said) = start(&arguments, &[]);
    assert!(code == 65 && said.contains("--key") && said.contains("the other file"), "{said}");
}
