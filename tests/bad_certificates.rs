//! Services with every kind of wrong certificate or too weak TLS: the call ends as such, and the
//! key is not sent. Controls with right ones do get it.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::support;
use rcgen::{
    CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    NameConstraints,
};
use support::certificates::{self, Authority};
use support::client::Client;
use support::daemon::{Daemon, KEY};
use support::recorder::Recorder;

fn file(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("certificates-{name}"));
    fs::write(&path, text).expect("a file");
    path.to_str().expect("a plain path").to_owned()
}

fn daemon_for(service: SocketAddr, authority: &Authority) -> Daemon {
    let trusted = file(&format!("{}.pem", service.port()), &authority.pem);
    let endpoint = format!("https://localhost:{}", service.port());
    Daemon::run_at(&endpoint, &[("VOICELIVED_UPSTREAM_CA_FILE", &trusted)])
}

/// The call ends for TLS's sake, and the service has not been told anything.
fn assert_refused(
    what: &str,
    service: SocketAddr,
    authority: &Authority,
    heard: impl Fn() -> String,
) {
    let daemon = daemon_for(service, authority);
    let before = daemon.descriptors();
    let message = Client::connect(daemon.address).assert_ends(what, 1011, "tls");
    println!("{what}: {message}");
    daemon.assert_nothing_left(before);
    let heard = heard();
    assert!(!heard.contains("GET ") && !heard.contains(KEY), "{what}: {heard}");
}

fn assert_accepted(service: SocketAddr, authority: &Authority, heard: impl Fn() -> String) {
    let daemon = daemon_for(service, authority);
    let _client = Client::connect(daemon.address);
    daemon.wait_until("the key is sent", |_| heard().contains(KEY));
}

/// Chain and key of a service that must not be believed, and what is wrong with it.
fn impostors(ours: &Authority) -> Vec<(&'static str, (String, String))> {
    let named = |name: &str| ours.certify(name, 2020..2080);
    let odd = |edit: fn(&mut CertificateParams)| ours.certify_as("localhost", edit);
    let below = |edit: fn(&mut CertificateParams)| {
        let between = ours.delegate(edit);
        let (leaf, key) = between.certify("localhost", 2020..2080);
        (leaf, between.pem, key)
    };
    let chained = |edit| {
        let (leaf, between, key) = below(edit);
        (leaf + &between, key)
    };
    let (leaf_alone, _, its_key) = below(|_| ());
    vec![
        ("another host", named("other.example")),
        ("a longer name", named("localhost.example")),
        ("a name that ends the same", named("notlocalhost")),
        ("another's wildcard", named("*.example")),
        ("a wildcard for all", named("*")),
        ("only the address", named("127.0.0.1")),
        (
            "only a common name",
            odd(|params| {
                params.subject_alt_names.clear();
                params.distinguished_name.push(DnType::CommonName, "localhost");
            }),
        ),
        ("expired", ours.certify("localhost", 2001..2002)),
        ("not valid yet", ours.certify("localhost", 2090..2091)),
        ("signed by itself", certificates::localhost()),
        ("of an unknown authority", Authority::new("Other").certify("localhost", 2020..2080)),
        ("of a namesake", Authority::new("Ours").certify("localhost", 2020..2080)),
        ("without what is between", (leaf_alone, its_key)),
        ("signed by a leaf", chained(|params| params.is_ca = IsCa::NoCa)),
        (
            "of an authority for other names",
            chained(|params| {
                let permitted_subtrees = vec![GeneralSubtree::DnsName("other.example".to_owned())];
                let excluded_subtrees = Vec::new();
                let constraints = NameConstraints { permitted_subtrees, excluded_subtrees };
                params.name_constraints = Some(constraints);
            }),
        ),
        (
            "for clients only",
            odd(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
        ),
        (
            "an authority as a service",
            odd(|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
        ),
    ]
}

#[test]
fn no_wrong_certificate_is_told_the_key() {
    let ours = Authority::new("Ours");
    let impostors = impostors(&ours);
    assert_eq!(impostors.len(), 17);
    for (what, (chain, key)) in impostors {
        let impostor = Recorder::tls(&chain, &key);
        assert_refused(what, impostor.address, &ours, || impostor.heard());
    }
    // rustls would not serve this one.
    let (leaf, key) = ours.certify_as("localhost", |params| {
        let mut unknown = CustomExtension::from_oid_content(&[1, 3, 9999, 1], vec![5, 0]);
        unknown.set_criticality(true);
        params.custom_extensions.push(unknown);
    });
    let files = [file("critical-leaf.pem", &leaf), file("critical-key.pem", &key)];
    let service = Openssl::serve(&files, &[]);
    assert_refused("an unknown critical extension", service.address, &ours, || service.heard());
}

#[test]
fn right_ones_are_believed() {
    let ours = Authority::new("Ours");
    let (leaf, key) = ours.certify("localhost", 2020..2080);
    let service = Recorder::tls(&leaf, &key);
    assert_accepted(service.address, &ours, || service.heard());

    let between = ours.delegate(|_| ());
    let (leaf, key) = between.certify("localhost", 2020..2080);
    let service = Recorder::tls(&(leaf + &between.pem), &key);
    assert_accepted(service.address, &ours, || service.heard());

    let old = Openssl::new("tls12", &ours, "ec", "P-256", &["-sha256"], &["-tls1_2"]);
    assert_accepted(old.address, &ours, || old.heard());
}

#[test]
fn weak_tls_is_refused() {
    let ours = Authority::new("Ours");
    let ec = |name, curve, digest, server: &[&str]| {
        Openssl::new(name, &ours, "ec", curve, &[digest], server)
    };
    let cbc = ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"];
    for (what, service) in [
        ("TLS 1.1", ec("tls11", "P-256", "-sha256", &["-tls1_1"])),
        ("CBC suites", ec("cbc", "P-256", "-sha256", &cbc)),
        ("P-521", ec("p521", "P-521", "-sha512", &[])),
        ("SHA-1", ec("sha1", "P-256", "-sha1", &[])),
        ("RSA of 1024 bits", Openssl::new("rsa", &ours, "rsa", "1024", &["-sha256"], &[])),
    ] {
        assert_refused(what, service.address, &ours, || service.heard());
    }
}

/// `openssl s_server`, for what rustls would not do. Killed when dropped.
struct Openssl {
    process: Child,
    address: SocketAddr,
    said: Arc<Mutex<String>>,
}

impl Openssl {
    /// A certificate of `authority` for localhost with such a key, and a server that shows it.
    fn new(
        name: &str,
        authority: &Authority,
        kind: &str,
        size: &str,
        digest: &[&str],
        options: &[&str],
    ) -> Self {
        let [leaf, key] = ["leaf", "key"].map(|what| file(&format!("{name}-{what}.pem"), ""));
        let ca = file(&format!("{name}-ca.pem"), &authority.pem);
        let ca_key = file(&format!("{name}-ca-key.pem"), &authority.key_pem);
        let option = if kind == "ec" {
            format!("ec_paramgen_curve:{size}")
        } else {
            format!("rsa_keygen_bits:{size}")
        };
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", kind, "-pkeyopt", &option, "-nodes", "-days", "30"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-CA", &ca, "-CAkey", &ca_key, "-keyout", &key, "-out", &leaf])
            .args(digest)
            .output()
            .expect("openssl is installed");
        assert!(made.status.success(), "{name}: {}", String::from_utf8_lossy(&made.stderr));
        Self::serve(&[leaf, key], options)
    }

    /// Serves certificate and key from these files.
    fn serve([leaf, key]: &[String; 2], options: &[&str]) -> Self {
        // Its own rules would keep it from being as weak as it shall be.
        let weak: &[&str] =
            if options.contains(&"-cipher") { &[] } else { &["-cipher", "ALL:@SECLEVEL=0"] };
        let mut process = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", leaf, "-key", key])
            .args(weak)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed");
        let mut output = process.stdout.take().expect("it was piped");
        let said = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut chunk) {
                let text = String::from_utf8_lossy(&chunk[..count]);
                shared.lock().expect("no panic holds it").push_str(&text);
            }
        });
        let address = port_of(&said);
        Self { process, address, said }
    }

    /// What it printed: what it was sent, among other things.
    fn heard(&self) -> String {
        self.said.lock().expect("no panic holds it").clone()
    }
}

fn port_of(said: &Mutex<String>) -> SocketAddr {
    for _ in 0..500 {
        let text = said.lock().expect("no panic holds it").clone();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("ACCEPT "));
        if let Some(address) = lines.next().and_then(|line| line.trim().parse().ok()) {
            return address;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("openssl does not listen")
}

impl Drop for Openssl {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
