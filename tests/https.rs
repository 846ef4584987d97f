//! The HTTPS listener: the owner's certificate renewed under it, and the local authority.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::support;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use support::certificates;
use support::client::Client;
use support::daemon::Daemon;
use voicelived::net::tls;

/// A folder of the test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
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

/// The leaf certificate that the daemon shows to a client that trusts `roots`, or rustls' error.
fn shown(daemon: &Daemon, roots: &str) -> Result<Vec<u8>, String> {
    let roots = tls::certificates(roots.as_bytes()).expect("PEM");
    let config = tls::client_config(&roots).expect("a configuration");
    let name = ServerName::try_from("localhost").expect("a name");
    let client = ClientConnection::new(Arc::clone(&config), name).expect("a client");
    let socket = std::net::TcpStream::connect(daemon.secure_address()).expect("it accepts");
    let mut stream = StreamOwned::new(client, socket);
    stream.conn.complete_io(&mut stream.sock).map_err(|error| error.to_string())?;
    let chain = stream.conn.peer_certificates().expect("a certificate");
    Ok(chain[0].to_vec())
}

fn hang_up(daemon: &Daemon) {
    let id = daemon.id().to_string();
    assert!(Command::new("kill").args(["-s", "HUP", &id]).status().expect("kill runs").success());
}

#[test]
fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
    let folder = Folder::new("https-renewed");
    let (first, first_key) = certificates::localhost();
    let (second, second_key) = certificates::localhost();
    let (cert, key) = (folder.write("cert.pem", &first), folder.write("key.pem", &first_key));
    let daemon = Daemon::demo(&[
        ("VOICELIVED_TLS_LISTEN", "127.0.0.1:0"),
        ("VOICELIVED_TLS_CERT", &cert),
        ("VOICELIVED_TLS_KEY", &key),
    ]);
    let mut call = Client::connect(daemon.address);
    call.wait_until_active();
    let before = shown(&daemon, &first).expect("trusted");
    folder.write("cert.pem", "no certificate at all");
    hang_up(&daemon);
    daemon.wait_for_log("the certificate in use is kept");
    assert_eq!(shown(&daemon, &first).expect("still trusted"), before);
    folder.write("cert.pem", &second);
    folder.write("key.pem", &second_key);
    hang_up(&daemon);
    daemon.wait_for_log("a new certificate is in use");
    assert_ne!(shown(&daemon, &second).expect("trusted"), before);
    assert!(shown(&daemon, &first).is_err());
    // A running call has noticed nothing.
    call.wait_for("the welcome ends", |message| message["type"] == "response_done");
}

/// An ACME client that renews the files without a signal to the daemon. The hour is libfaketime's:
/// a file sets the clock.
#[test]
fn a_renewed_certificate_is_taken_within_the_hour_without_a_signal() {
    let folder = Folder::new("https-hour");
    let (first, first_key) = certificates::localhost();
    let (second, second_key) = certificates::localhost();
    let (cert, key) = (folder.write("cert.pem", &first), folder.write("key.pem", &first_key));
    let (library, clock) = (support::clock::library(), folder.write("clock", "+0\n"));
    let daemon = Daemon::demo(&[
        ("VOICELIVED_TLS_LISTEN", "127.0.0.1:0"),
        ("VOICELIVED_TLS_CERT", &cert),
        ("VOICELIVED_TLS_KEY", &key),
        ("LD_PRELOAD", &library),
        ("FAKETIME_TIMESTAMP_FILE", &clock),
        ("FAKETIME_NO_CACHE", "1"),
    ]);
    let before = shown(&daemon, &first).expect("trusted");
    folder.write("cert.pem", &second);
    folder.write("key.pem", &second_key);
    assert_eq!(shown(&daemon, &first).expect("trusted"), before, "it is not time to look yet");
    folder.write("clock", "+61m\n");
    // A visitor lets the sleeping loop see that an hour has passed.
    let _ = shown(&daemon, &first);
    daemon.wait_for_log("a new certificate is in use");
    assert_ne!(shown(&daemon, &second).expect("trusted"), before);
    assert!(shown(&daemon, &first).is_err());
}

#[test]
fn the_local_authority_is_made_once_and_is_all_that_must_be_trusted() {
    let folder = Folder::new("https-local");
    let state = folder.0.to_str().expect("UTF-8").to_owned();
    let settings = [
        ("VOICELIVED_TLS_LISTEN", "127.0.0.1:0"),
        ("VOICELIVED_STATE_DIR", state.as_str()),
        ("VOICELIVED_ACCESS", "open"),
    ];
    let root = |daemon: &Daemon| {
        let ask = format!(
            "GET /ca.pem HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            daemon.address
        );
        support::http::exchange(daemon.address, ask.as_bytes())[0].body.clone()
    };
    let daemon = Daemon::demo(&settings);
    let first = String::from_utf8(root(&daemon)).expect("PEM");
    shown(&daemon, &first).expect("trusted by its root alone");
    let (stranger, _) = certificates::localhost();
    assert!(shown(&daemon, &stranger).is_err());
    assert_eq!(mode(&folder.0.join("ca-key.pem")), 0o600);
    assert_eq!(daemon.stop("TERM"), Some(0));
    let daemon = Daemon::demo(&settings);
    assert_eq!(root(&daemon), first.as_bytes(), "trusted once is enough");
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

/// The certificate with these names, in place.
fn certify(folder: &Folder, names: &[&str]) -> (String, [String; 2]) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let pem = made.cert.pem();
    let key = made.signing_key.serialize_pem();
    let files = [folder.write("cert.pem", &pem), folder.write("key.pem", &key)];
    (pem, files)
}

/// The status line of the page, asked for over HTTPS as that of `host`.
fn page_of(daemon: &Daemon, roots: &str, host: &str) -> String {
    let roots = tls::certificates(roots.as_bytes()).expect("PEM");
    let config = tls::client_config(&roots).expect("a configuration");
    let name = ServerName::try_from("localhost").expect("a name");
    let client = ClientConnection::new(Arc::clone(&config), name).expect("a client");
    let address = daemon.secure_address();
    let socket = std::net::TcpStream::connect(address).expect("it accepts");
    let mut stream = StreamOwned::new(client, socket);
    let port = address.port();
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n")
        .expect("it takes a request");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn the_names_of_the_owners_certificate_are_its_own() {
    let folder = Folder::new("https-names");
    let (first, [cert, key]) = certify(&folder, &["localhost", "Voice.example", "*.wild.example"]);
    let daemon = Daemon::demo(&[
        ("VOICELIVED_TLS_LISTEN", "127.0.0.1:0"),
        ("VOICELIVED_TLS_CERT", &cert),
        ("VOICELIVED_TLS_KEY", &key),
    ]);
    for (host, status) in [
        ("voice.example", "200"),
        ("localhost", "200"),
        ("other.example", "421"),
        ("any.wild.example", "421"),
    ] {
        assert_eq!(page_of(&daemon, &first, host), format!("HTTP/1.1 {status}"), "{host}");
    }
    let (second, _) = certify(&folder, &["localhost", "other.example"]);
    hang_up(&daemon);
    daemon.wait_for_log("a new certificate is in use");
    assert_eq!(page_of(&daemon, &second, "other.example"), "HTTP/1.1 200");
    assert_eq!(page_of(&daemon, &second, "voice.example"), "HTTP/1.1 421");
}
