//! A device without a clock battery: it starts long ago, and the time comes while the daemon runs.
//! libfaketime plays the clock, which a file sets.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support;
use support::certificates::Authority;
use support::client::Client;
use support::daemon::Daemon;
use support::witness::{self, Witness};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("clock-{name}"))
}

/// Whole at once: libfaketime reads the clock at any moment.
fn file(name: &str, text: &str) -> String {
    let part = path(&format!("{name}.part"));
    fs::write(&part, text).expect("a file");
    fs::rename(part, path(name)).expect("ours");
    path(name).to_str().expect("plain").to_owned()
}

#[test]
fn calls_fail_with_words_until_the_clock_is_set_and_then_work() {
    let authority = Authority::new("Ours");
    let (certificate, key) = authority.certify("localhost", 2020..2080);
    let files = [file("leaf.pem", &certificate), file("leaf.key", &key)];
    let mut arguments = vec!["simulate", "--listen", "127.0.0.1:0"];
    arguments.extend(["--cert", files[0].as_str(), "--key", files[1].as_str()]);
    arguments.extend(witness::SERVICE.iter().flat_map(|word| ["--fault", word]));
    let service = Daemon::start(&arguments, &[]);
    let endpoint = format!("https://localhost:{}", service.address.port());
    let (library, trusted) = (support::clock::library(), file("ca.pem", &authority.pem));
    let clock = file("now", "1970-01-02 00:00:00\n");
    let settings = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", clock.as_str()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("VOICELIVED_UPSTREAM_CA_FILE", trusted.as_str()),
    ];
    let daemon = Daemon::run_at(&endpoint, &settings);
    daemon.wait_for_log("this device's clock has not been set");
    for _ in 0..2 {
        let mut client = Client::connect(daemon.address);
        let message = client.assert_ends("a call in 1970", 1011, "tls");
        assert!(
            message.contains("not valid yet by this device's clock. Set the clock"),
            "{message}"
        );
    }
    // The network's time has come. The same process, the next call.
    file("now", "2030-06-01 12:00:00\n");
    Witness::call(daemon.address).finish();
    // A clock that is wrong the other way is no reason to stop checking either.
    file("now", "2090-01-01 00:00:00\n");
    let message = Client::connect(daemon.address).assert_ends("a call in 2090", 1011, "tls");
    assert!(message.contains("has expired by this device's clock"), "{message}");
}
