//! The local authority, judged by rustls and openssl as clients, with a clock of its own.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::support::network;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use voicelived::certificates::{Authority, Names, OwnFiles};
use voicelived::net::tls;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder that goes when the test does.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir()
            .join(format!("voicelived-authority-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).expect("a file of the folder")
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.file(name)).expect("a file of the folder").permissions().mode() & 0o777
    }

    /// Inode and time of change of every file: what a start that writes nothing leaves alone.
    fn stamps(&self) -> Vec<(String, u64, i64, i64)> {
        let entries = fs::read_dir(&self.0).expect("the folder");
        let mut stamps: Vec<_> = entries
            .map(|entry| {
                let entry = entry.expect("an entry");
                let found = entry.metadata().expect("what the entry is");
                let name = entry.file_name().into_string().expect("our own names");
                (name, found.ino(), found.mtime(), found.mtime_nsec())
            })
            .collect();
        stamps.sort();
        stamps
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn names(dns: &[&str], addresses: &[&str]) -> Names {
    Names {
        dns: dns.iter().map(|&name| name.to_owned()).collect(),
        addresses: addresses.iter().map(|address| address.parse().expect("an address")).collect(),
    }
}

fn pi() -> Names {
    names(
        &["pi", "pi.local", "pi.fritz.box", "localhost"],
        &["192.168.1.7", "203.0.113.9", "127.0.0.1", "::1", "fd12::5", "2001:db8::7"],
    )
}

/// Days after the beginning of 2027.
fn day(number: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_761_600) + DAY * number
}

fn open(folder: &Folder, names: &Names, now: SystemTime) -> Authority {
    Authority::open(&folder.0, names, now).expect("an authority")
}

fn fault(folder: &Folder) -> String {
    Authority::open(&folder.0, &pi(), day(1)).expect_err("a fault")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

fn clock() -> SystemTime {
    // rustls and openssl judge by the real clock.
    SystemTime::now()
}

/// A client that trusts the root shakes hands with a server that shows the leaf.
fn handshake(ca_pem: &str, server: &Arc<ServerConfig>, name: &str) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    let root = tls::certificates(ca_pem.as_bytes()).expect("PEM").remove(0);
    roots.add(root).expect("a trust anchor");
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut server = ServerConnection::new(Arc::clone(server)).expect("a server");
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).expect("memory");
        server.read_tls(&mut wire.as_slice()).expect("memory");
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).expect("memory");
        client.read_tls(&mut wire.as_slice()).expect("memory");
        client.process_new_packets()?;
    }
    Ok(())
}

fn openssl(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// `openssl verify` of the folder's leaf, strict about RFC 5280.
fn verify(folder: &Folder, extra: &[&str]) -> (bool, String) {
    let (ca, leaf) = (folder.file("ca.pem"), folder.file("leaf.pem"));
    let mut arguments = vec!["verify", "-x509_strict", "-purpose", "sslserver"];
    arguments.extend(["-CAfile", text(&ca)]);
    arguments.extend(extra);
    arguments.push(text(&leaf));
    openssl(&arguments)
}

#[test]
fn clients_accept_every_name_and_address_and_no_other() {
    let folder = Folder::new("names");
    let authority = open(&folder, &pi(), clock());
    assert_eq!(*authority.names(), pi());
    let server = authority.server_config().unwrap();
    let own = pi();
    let addresses = own.addresses.iter().map(IpAddr::to_string);
    for name in own.dns.iter().cloned().chain(addresses.clone()) {
        handshake(authority.ca_pem(), &server, &name).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    for name in &own.dns {
        let (good, text) = verify(&folder, &["-verify_hostname", name]);
        assert!(good, "{text}");
    }
    for address in addresses {
        let (good, text) = verify(&folder, &["-verify_ip", &address]);
        assert!(good, "{text}");
    }
    for name in ["other.local", "x.pi.local", "local", "pi.lan", "192.168.1.8", "fd12::6"] {
        let error = handshake(authority.ca_pem(), &server, name).unwrap_err();
        assert!(error.to_string().contains("not valid for name"), "{name}: {error}");
    }
}

#[test]
fn a_client_without_the_root_refuses() {
    let (own, other) = (Folder::new("own"), Folder::new("other"));
    let authority = open(&own, &pi(), clock());
    let stranger = open(&other, &pi(), clock());
    let server = authority.server_config().unwrap();
    let error = handshake(stranger.ca_pem(), &server, "pi.local").unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    assert_ne!(authority.fingerprint(), stranger.fingerprint());
}

#[test]
fn certificates_say_what_clients_ask_for() {
    let folder = Folder::new("fields");
    open(&folder, &pi(), clock());
    let text = |name: &str| {
        let path = folder.file(name);
        openssl(&["x509", "-noout", "-text", "-in", path.to_str().unwrap()]).1
    };
    let root = text("ca.pem");
    for line in [
        "CA:TRUE, pathlen:0",
        "Certificate Sign, CRL Sign",
        "X509v3 Name Constraints: critical",
        "DNS:local",
        "DNS:pi\n",
        "DNS:pi.fritz.box",
        "IP:192.168.0.0/255.255.0.0",
        "IP:203.0.113.9/255.255.255.255",
        "CN = voicelived pi ",
    ] {
        assert!(root.contains(line), "{line} is not in {root}");
    }
    let leaf = text("leaf.pem");
    for line in [
        "CA:FALSE",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "TLS Web Server Authentication",
        "id-ecPublicKey",
        "NIST CURVE: P-256",
        "ecdsa-with-SHA256",
        "Subject: CN = pi\n",
        "DNS:pi, DNS:pi.local, DNS:pi.fritz.box, DNS:localhost, IP Address:192.168.1.7",
    ] {
        assert!(leaf.contains(line), "{line} is not in {leaf}");
    }
    assert!(!leaf.contains("Name Constraints"));
}

/// The files of `tests/data/old-authority` were written by a version that made certificates without
/// `rcgen`: devices trust that root, so it must go on vouching for new leaves.
#[test]
fn a_root_of_an_older_version_goes_on() {
    let folder = Folder::new("old");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/old-authority");
    fs::create_dir(&folder.0).unwrap();
    for name in ["ca-key.pem", "ca.pem", "leaf.pem"] {
        fs::copy(data.join(name), folder.file(name)).unwrap();
        fs::set_permissions(folder.file(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    // The leaf's first day: nothing is to be made, and what was read is what clients are shown.
    let made = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_745_400);
    let known = names(&["pi", "pi.local"], &["127.0.0.1"]);
    let (root, leaf) = (folder.read("ca.pem"), folder.read("leaf.pem"));
    let mut authority = open(&folder, &known, made);
    assert_eq!(folder.read("leaf.pem"), leaf);
    assert!(authority.take_warnings().is_empty());
    // A year later the root is the same, and signs a leaf for a name that is new.
    let later = made + DAY * 365;
    let wanted = names(&["pi", "kitchen.local"], &["192.168.4.4", "fd00::7"]);
    let authority = open(&folder, &wanted, later);
    assert_eq!(folder.read("ca.pem"), root);
    assert_eq!(authority.ca_pem(), root);
    assert_ne!(folder.read("leaf.pem"), leaf);
    assert_eq!(*authority.names(), wanted);
    let moment = later.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().to_string();
    for name in &wanted.dns {
        let (good, text) = verify(&folder, &["-attime", &moment, "-verify_hostname", name]);
        assert!(good, "{text}");
    }
    let about = |name: &str| {
        let path = folder.file(name);
        openssl(&["x509", "-noout", "-text", "-in", path.to_str().unwrap()]).1
    };
    let after = |text: &str, title: &str| {
        text.split_once(title).unwrap().1.lines().nth(1).unwrap().trim().to_owned()
    };
    assert_eq!(
        after(&about("ca.pem"), "Subject Key Identifier"),
        after(&about("leaf.pem"), "Authority Key Identifier")
    );
}

#[test]
fn the_fingerprint_is_the_one_that_devices_show() {
    let folder = Folder::new("fingerprint");
    let authority = open(&folder, &pi(), clock());
    let ca = folder.file("ca.pem");
    let arguments = ["x509", "-noout", "-fingerprint", "-sha256", "-in", ca.to_str().unwrap()];
    let (_, text) = openssl(&arguments);
    assert_eq!(text.trim().split_once('=').unwrap().1, authority.fingerprint());
    assert_eq!(authority.ca_pem(), folder.read("ca.pem"));
    assert!(!authority.ca_pem().contains("PRIVATE"));
}

/// A thief of the root's key makes a certificate for a web site: clients of the root refuse it.
#[test]
fn the_root_cannot_vouch_for_the_internet() {
    let folder = Folder::new("thief");
    let authority = open(&folder, &pi(), clock());
    let key = rcgen::KeyPair::from_pem(&folder.read("ca-key.pem")).unwrap();
    let ca = folder.file("ca.pem");
    let (_, subject) = openssl(&["x509", "-noout", "-subject", "-in", ca.to_str().unwrap()]);
    let name = subject.trim().split_once("CN = ").unwrap().1;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let issuer = rcgen::Issuer::new(params, key);
    for (target, accepted) in [
        ("printer.local", true),
        ("10.9.8.7", true),
        ("bank.example.com", false),
        ("8.8.8.8", false),
        ("2001:4860:4860::8888", false),
    ] {
        let leaf_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([target.to_owned()]).unwrap();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&leaf_key, &issuer).unwrap();
        let server =
            tls::server_config(leaf.pem().as_bytes(), leaf_key.serialize_pem().as_bytes()).unwrap();
        let result = handshake(authority.ca_pem(), &server, target);
        assert_eq!(result.is_ok(), accepted, "{target}: {result:?}");
        fs::write(folder.file("forged.pem"), leaf.pem()).unwrap();
        let forged = folder.file("forged.pem");
        let files = ["-CAfile", ca.to_str().unwrap(), forged.to_str().unwrap()];
        let (good, text) = openssl(&[&["verify"], &files[..]].concat());
        assert_eq!(good, accepted, "{target}: {text}");
        assert!(good || text.contains("permitted subtree violation"), "{text}");
    }
}

#[test]
fn keys_are_for_their_owner_only() {
    let folder = Folder::new("modes");
    let mut authority = open(&folder, &pi(), day(1));
    assert_eq!(authority.take_warnings(), [""; 0]);
    assert_eq!(fs::metadata(&folder.0).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(folder.mode("ca-key.pem"), 0o600);
    assert_eq!(folder.mode("leaf.pem"), 0o600);
    assert_eq!(folder.mode("ca.pem"), 0o644);
    let left: Vec<_> = folder.stamps().into_iter().map(|stamp| stamp.0).collect();
    assert_eq!(left, ["ca-key.pem", "ca.pem", "leaf.pem", "lock"]);
    assert!(!format!("{authority:?}").contains("PRIVATE"));

    fs::set_permissions(folder.file("ca-key.pem"), fs::Permissions::from_mode(0o640)).unwrap();
    let mut again = open(&folder, &pi(), day(1));
    assert_eq!(folder.mode("ca-key.pem"), 0o600);
    let warnings = again.take_warnings();
    assert!(warnings[0].contains("ca-key.pem: others could read"), "{warnings:?}");
    assert_eq!(warnings.len(), 1);
    assert_eq!(again.fingerprint(), authority.fingerprint());
    assert_eq!(again.take_warnings(), [""; 0]);
}

#[test]
fn a_leaf_that_others_could_read_is_made_anew() {
    let folder = Folder::new("leaf-mode");
    open(&folder, &pi(), day(1));
    let leaf = folder.read("leaf.pem");
    fs::set_permissions(folder.file("leaf.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    open(&folder, &pi(), day(1));
    assert_ne!(folder.read("leaf.pem"), leaf);
    assert_eq!(folder.mode("leaf.pem"), 0o600);
}

#[test]
fn a_second_start_writes_nothing() {
    let folder = Folder::new("again");
    let first = open(&folder, &pi(), day(1));
    let stamps = folder.stamps();
    let second = open(&folder, &pi(), day(100));
    assert_eq!(folder.stamps(), stamps);
    assert_eq!(first.ca_pem(), second.ca_pem());
}

#[test]
fn the_leaf_is_renewed_when_a_third_of_its_life_is_left() {
    let folder = Folder::new("renewal");
    let mut authority = open(&folder, &pi(), day(10));
    let root = authority.ca_pem().to_owned();
    // From day 9 on for 397 days; two thirds are 264 days and 16 hours.
    let due = authority.renew_at();
    assert!(due > day(9 + 264) && due < day(9 + 265));
    assert!(!authority.needs_renewal(&pi(), day(10)));
    assert!(!authority.needs_renewal(&pi(), due - Duration::from_secs(1)));
    assert!(authority.needs_renewal(&pi(), due));
    let leaf = folder.read("leaf.pem");
    authority.renew(&pi(), due).unwrap();
    assert!(!authority.needs_renewal(&pi(), due));
    assert_ne!(folder.read("leaf.pem"), leaf);
    assert_eq!(authority.ca_pem(), root);
    // And the same at a start.
    let opened = open(&folder, &pi(), authority.renew_at());
    assert!(opened.renew_at() > authority.renew_at());
    assert_eq!(opened.ca_pem(), root);
}

#[test]
fn no_leaf_is_valid_for_longer_than_clients_allow() {
    let folder = Folder::new("validity");
    open(&folder, &pi(), day(10));
    let leaf = folder.file("leaf.pem");
    let (_, text) = openssl(&["x509", "-noout", "-dates", "-in", leaf.to_str().unwrap()]);
    // 11 January 2027 less one day, and 397 days on less one second.
    assert_eq!(text, "notBefore=Jan 10 00:00:00 2027 GMT\nnotAfter=Feb 10 23:59:59 2028 GMT\n");
    let ca = folder.file("ca.pem");
    let (_, text) = openssl(&["x509", "-noout", "-dates", "-in", ca.to_str().unwrap()]);
    assert_eq!(text, "notBefore=Oct 31 00:00:00 2026 GMT\nnotAfter=Jan 10 00:00:00 2037 GMT\n");
}

#[test]
fn new_names_and_addresses_renew_and_lost_ones_do_not() {
    let folder = Folder::new("changes");
    let mut authority = open(&folder, &pi(), day(1));
    let fewer = names(&["pi.local"], &["192.168.1.7"]);
    assert!(!authority.needs_renewal(&fewer, day(2)));
    let mut moved = pi();
    moved.addresses[0] = "10.0.0.9".parse().unwrap();
    assert!(authority.needs_renewal(&moved, day(2)));
    authority.renew(&moved, day(2)).unwrap();
    assert_eq!(*authority.names(), moved);
    assert!(!authority.needs_renewal(&moved, day(2)));
    assert_eq!(authority.take_warnings(), [""; 0]);
}

/// One entry outside the root's constraints would make clients refuse the leaf for every name.
#[test]
fn what_the_root_may_not_vouch_for_is_left_out() {
    let folder = Folder::new("renamed");
    let old = open(&folder, &pi(), clock());
    let renamed = names(
        &["kitchen", "kitchen.local", "kitchen.fritz.box", "localhost"],
        &["192.168.1.7", "198.51.100.1", "2001:db8:1::7", "2001:db8::99"],
    );
    let mut authority = open(&folder, &renamed, clock());
    assert_eq!(authority.ca_pem(), old.ca_pem());
    assert_eq!(
        *authority.names(),
        names(&["kitchen.local", "localhost"], &["192.168.1.7", "2001:db8::99"])
    );
    let warnings = authority.take_warnings();
    assert!(warnings[0].contains("the name kitchen is newer than the root"), "{warnings:?}");
    assert_eq!(warnings.len(), 2);
    assert!(!authority.needs_renewal(&renamed, clock()));
    let server = authority.server_config().unwrap();
    handshake(authority.ca_pem(), &server, "kitchen.local").unwrap();
    assert!(verify(&folder, &["-verify_ip", "2001:db8::99"]).0);
}

#[test]
fn a_device_without_a_clock_begins_at_a_known_moment() {
    let folder = Folder::new("clock");
    let authority = open(&folder, &pi(), SystemTime::UNIX_EPOCH);
    // Valid from 31 October 2026.
    assert!(authority.renew_at() > day(0));
    assert!(!authority.needs_renewal(&pi(), SystemTime::UNIX_EPOCH));
    // The clock is set: the leaf still holds, then it does not.
    assert!(!authority.needs_renewal(&pi(), day(1)));
    assert!(authority.needs_renewal(&pi(), day(300)));
    let before = SystemTime::UNIX_EPOCH - DAY;
    assert!(!authority.needs_renewal(&pi(), before));
}

#[test]
fn an_unset_clock_does_not_take_a_newer_leaf_back() {
    let folder = Folder::new("unset");
    open(&folder, &pi(), day(500));
    let leaf = folder.read("leaf.pem");
    let mut authority = open(&folder, &pi(), SystemTime::UNIX_EPOCH);
    assert_eq!(folder.read("leaf.pem"), leaf);
    // A new address must be in it at once: it begins no earlier than the old one.
    let mut moved = pi();
    moved.addresses.push("10.0.0.9".parse().unwrap());
    authority.renew(&moved, SystemTime::UNIX_EPOCH).unwrap();
    assert!(!authority.needs_renewal(&moved, day(500)));
    assert!(authority.renew_at() > day(700));
}

#[test]
fn a_clock_that_was_ahead_is_mended() {
    let folder = Folder::new("ahead");
    let mut authority = open(&folder, &pi(), day(5000));
    assert!(authority.needs_renewal(&pi(), day(1)));
    let root = authority.ca_pem().to_owned();
    authority.renew(&pi(), day(1)).unwrap();
    assert!(!authority.needs_renewal(&pi(), day(1)));
    assert_eq!(authority.ca_pem(), root);
    // The root's own validity does not begin in the future either.
    let ca = folder.file("ca.pem");
    let (_, text) = openssl(&["x509", "-noout", "-startdate", "-in", ca.to_str().unwrap()]);
    assert_eq!(text, "notBefore=Oct 31 00:00:00 2026 GMT\n");
}

#[test]
fn the_end_of_the_root_is_announced_and_final() {
    let folder = Folder::new("end");
    let fingerprint = open(&folder, &pi(), day(0)).fingerprint().to_owned();
    let mut authority = open(&folder, &pi(), day(3652 - 300));
    let warnings = authority.take_warnings();
    assert!(warnings[0].contains("the root certificate ends in 300 days"), "{warnings:?}");
    let leaf = folder.file("leaf.pem");
    let (_, text) = openssl(&["x509", "-noout", "-enddate", "-in", leaf.to_str().unwrap()]);
    assert_eq!(text, "notAfter=Dec 31 00:00:00 2036 GMT\n");
    let error = Authority::open(&folder.0, &pi(), day(3653)).unwrap_err();
    assert!(error.contains("ca.pem: the root has ended, or the clock is wrong"), "{error}");
    // Any clock that exists must do.
    let _ = Authority::open(&folder.0, &pi(), SystemTime::UNIX_EPOCH + DAY * u32::MAX);
    assert_eq!(open(&folder, &pi(), day(1)).fingerprint(), fingerprint);
}

#[test]
fn a_damaged_root_is_an_error_and_stays() {
    let folder = Folder::new("damaged");
    open(&folder, &pi(), day(1));
    let good = folder.read("ca-key.pem");
    let at = good.find("-----BEGIN CERT").unwrap();
    let other = Folder::new("damaged-other");
    open(&other, &pi(), day(1));
    let stranger = other.read("ca-key.pem");
    let mixed =
        format!("{}{}", &good[..at], &stranger[stranger.find("-----BEGIN CERT").unwrap()..]);
    let empty = String::new();
    let cut = good[..good.len() - 40].to_owned();
    let long = "x".repeat(100_000);
    for (bad, word) in [
        (&empty, "no usable private key"),
        (&good[..at].to_owned(), "no usable certificate"),
        (&good[at..].to_owned(), "no usable private key"),
        (&cut, "no usable certificate"),
        (&mixed, "do not belong together"),
        (&long, "cannot be read"),
    ] {
        fs::write(folder.file("ca-key.pem"), bad).unwrap();
        let error = fault(&folder);
        assert!(error.contains("ca-key.pem: ") && error.contains(word), "{error}");
        assert_eq!(folder.read("ca-key.pem"), *bad);
    }
    fs::write(folder.file("ca-key.pem"), [0xff, 0xfe]).unwrap();
    assert!(fault(&folder).contains("ca-key.pem: is damaged: it is no text"));
    fs::write(folder.file("ca-key.pem"), &good).unwrap();
    open(&folder, &pi(), day(1));
}

#[test]
fn a_lost_root_key_is_an_error_that_says_how_to_go_on() {
    let folder = Folder::new("lost");
    let old = open(&folder, &pi(), clock());
    fs::remove_file(folder.file("ca-key.pem")).unwrap();
    let error = fault(&folder);
    assert!(error.contains("ca-key.pem: is missing"), "{error}");
    assert!(error.contains("delete ca-key.pem and ca.pem"), "{error}");
    assert!(!folder.file("ca-key.pem").exists());
    // Done as told: a new root, and a leaf that it has signed.
    fs::remove_file(folder.file("ca.pem")).unwrap();
    let new = open(&folder, &pi(), clock());
    assert_ne!(new.fingerprint(), old.fingerprint());
    handshake(new.ca_pem(), &new.server_config().unwrap(), "pi.local").unwrap();
}

#[test]
fn the_public_copy_is_written_again_and_never_over_another_root() {
    let folder = Folder::new("copy");
    let first = open(&folder, &pi(), day(1));
    fs::remove_file(folder.file("ca.pem")).unwrap();
    let second = open(&folder, &pi(), day(1));
    assert_eq!(folder.read("ca.pem"), first.ca_pem());
    assert_eq!(second.fingerprint(), first.fingerprint());
    fs::write(folder.file("ca.pem"), "another").unwrap();
    let error = fault(&folder);
    assert!(error.contains("ca.pem: is not the root of ca-key.pem"), "{error}");
    assert_eq!(folder.read("ca.pem"), "another");
}

#[test]
fn a_damaged_leaf_is_made_anew() {
    let folder = Folder::new("leaf");
    let fingerprint = open(&folder, &pi(), day(1)).fingerprint().to_owned();
    let good = folder.read("leaf.pem");
    for bad in ["", "nonsense", &good[..300], &good[..good.len() - 60]] {
        fs::write(folder.file("leaf.pem"), bad).unwrap();
        let mut authority = open(&folder, &pi(), day(1));
        let warnings = authority.take_warnings();
        assert!(warnings[0].contains("leaf.pem: is damaged and is made anew"), "{warnings:?}");
        assert_eq!(warnings.len(), 1);
        assert_eq!(authority.fingerprint(), fingerprint);
        authority.server_config().unwrap();
        assert_ne!(folder.read("leaf.pem"), bad);
    }
}

#[test]
fn remains_of_a_power_cut_do_no_harm() {
    let folder = Folder::new("power");
    fs::create_dir(&folder.0).unwrap();
    let target = folder.file("precious");
    fs::write(&target, "untouched").unwrap();
    fs::write(folder.file(".leaf.pem.new"), "half").unwrap();
    symlink(&target, folder.file(".ca-key.pem.new")).unwrap();
    open(&folder, &pi(), day(1));
    assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
    assert!(!folder.file(".leaf.pem.new").exists());
    assert!(!folder.file("ca-key.pem").is_symlink());
}

#[test]
fn a_renewal_does_not_use_a_root_that_was_put_there_since() {
    let (folder, other) = (Folder::new("swapped"), Folder::new("swapped-other"));
    let mut authority = open(&folder, &pi(), day(1));
    open(&other, &pi(), day(1));
    fs::copy(other.file("ca-key.pem"), folder.file("ca-key.pem")).unwrap();
    let error = authority.renew(&pi(), day(1)).unwrap_err();
    assert!(error.contains("has changed"), "{error}");
    fs::remove_file(folder.file("ca-key.pem")).unwrap();
    fs::remove_file(folder.file("ca.pem")).unwrap();
    let error = authority.renew(&pi(), day(1)).unwrap_err();
    assert!(error.contains("is gone"), "{error}");
    // The old leaf goes on.
    authority.server_config().unwrap();
}

#[test]
fn a_leaf_that_cannot_be_saved_is_used_all_the_same() {
    let folder = Folder::new("full");
    let mut authority = open(&folder, &pi(), day(1));
    fs::remove_file(folder.file("leaf.pem")).unwrap();
    // A folder in its place: renaming over it fails, also for root.
    fs::create_dir(folder.file("leaf.pem")).unwrap();
    let due = authority.renew_at();
    authority.renew(&pi(), due).unwrap();
    assert!(!authority.needs_renewal(&pi(), due));
    let warnings = authority.take_warnings();
    assert!(warnings[0].contains("leaf.pem: cannot be written"), "{warnings:?}");
    assert!(!folder.file(".leaf.pem.new").exists());
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let error = Authority::open(Path::new("/dev/null/x\ny"), &pi(), day(1)).unwrap_err();
    assert!(error.starts_with("/dev/null/x\\ny"), "{error}");
}

/// As one of several processes: [`processes_that_start_at_once_make_one_root`] starts this file
/// again with a folder in the environment.
#[test]
fn opens_the_folder_it_is_told() {
    if let Some(folder) = std::env::var_os("AUTHORITY_TEST_FOLDER") {
        let authority = Authority::open(Path::new(&folder), &pi(), day(1)).unwrap();
        println!("fingerprint {}", authority.fingerprint());
    }
}

#[test]
fn processes_that_start_at_once_make_one_root() {
    let folder = Folder::new("race");
    let opener = network::name_of(module_path!(), "opens_the_folder_it_is_told");
    for _ in 0..5 {
        let _ = fs::remove_dir_all(&folder.0);
        let children: Vec<_> = (0..6)
            .map(|_| {
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", &opener, "--nocapture"])
                    .env("AUTHORITY_TEST_FOLDER", &folder.0)
                    .stdout(std::process::Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let own = open(&folder, &pi(), day(1)).fingerprint().to_owned();
        for child in children {
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains(&format!("fingerprint {own}")), "{own}: {text}");
        }
    }
}

#[test]
fn another_process_that_writes_is_not_waited_for_in_a_renewal() {
    let folder = Folder::new("busy");
    let mut authority = open(&folder, &pi(), day(1));
    let lock = fs::File::open(folder.file("lock")).unwrap();
    lock.lock().unwrap();
    let error = authority.renew(&pi(), day(1)).unwrap_err();
    assert!(error.contains("another process is writing"), "{error}");
    drop(lock);
    authority.renew(&pi(), day(1)).unwrap();
}

#[test]
fn own_files_are_taken_up_when_they_change() {
    let folder = Folder::new("files");
    open(&folder, &pi(), clock());
    let (cert, key) = (folder.file("cert.pem"), folder.file("key.pem"));
    let mut files = OwnFiles::new(cert.clone(), key.clone());
    let error = files.load(clock()).unwrap_err();
    assert!(error.contains("cert.pem: cannot be read"), "{error}");
    assert!(!files.changed());
    // As certbot does it: links to files that are replaced.
    for name in ["v1", "v2"] {
        fs::copy(folder.file("leaf.pem"), folder.file(name)).unwrap();
    }
    symlink(folder.file("v1"), &cert).unwrap();
    symlink(folder.file("v1"), &key).unwrap();
    assert!(files.changed());
    let server = files.load(clock()).unwrap();
    handshake(&folder.read("ca.pem"), &server, "pi.local").unwrap();
    assert!(!files.changed());
    fs::remove_file(&cert).unwrap();
    assert!(files.changed());
    symlink(folder.file("v2"), &cert).unwrap();
    assert!(files.changed());
    files.load(clock()).unwrap();
    // A broken one is told once.
    fs::write(folder.file("v1"), "nonsense").unwrap();
    assert!(files.changed());
    let error = files.load(clock()).unwrap_err();
    let start = format!("VOICELIVED_TLS_KEY: {}: there is no private key", key.display());
    assert!(error.starts_with(&start), "{error}");
    assert!(!files.changed());
    fs::write(folder.file("v2"), "nonsense").unwrap();
    let error = files.load(clock()).unwrap_err();
    let start = format!("VOICELIVED_TLS_CERT: {}: there is no certificate", cert.display());
    assert!(error.starts_with(&start), "{error}");
}
