//! The order of TLS cipher suites on both legs, with and without instructions for AES. The processor without
//! them is qemu's: it tells the program so, and runs it.
#![cfg(target_arch = "x86_64")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::support;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    SupportedProtocolVersion, version,
};
use support::certificates;
use support::daemon::Daemon;
use voicelived::net::tls;

const PROGRAM: &str = env!("CARGO_BIN_EXE_voicelived");

/// What each processor asks for first: in TLS 1.3, and in TLS 1.2 with an ECDSA certificate.
const WITH_AES: [CipherSuite; 6] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];
const WITHOUT_AES: [CipherSuite; 6] = [
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
];

/// The program on a processor with or without AES.
fn on_processor(aes: bool) -> Command {
    let mut command = if aes && is_x86_feature_detected!("aes") {
        Command::new(PROGRAM)
    } else {
        let mut emulator = Command::new(emulator());
        emulator.args(["-cpu", if aes { "max" } else { "max,-aes" }, PROGRAM]);
        emulator
    };
    command.env_clear();
    command
}

/// qemu for programs of this processor's kind: the installed one, or one that is unpacked beside the system.
fn emulator() -> PathBuf {
    let installed = Path::new("/usr/bin/qemu-x86_64-static");
    if installed.exists() {
        return installed.to_owned();
    }
    let beside = Command::new("packaging/beside")
        .args(["qemu", "qemu-user-static"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("a script of ours");
    assert!(beside.status.success(), "{}", String::from_utf8_lossy(&beside.stderr));
    let folder = String::from_utf8(beside.stdout).expect("a path");
    Path::new(folder.trim()).join("usr/bin/qemu-x86_64-static")
}

/// Files of a certificate for localhost, and what a client has to trust.
struct Certified {
    folder: PathBuf,
    pem: String,
}

impl Certified {
    fn new(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let (pem, key) = certificates::localhost();
        std::fs::write(folder.join("cert.pem"), &pem).expect("ours");
        std::fs::write(folder.join("key.pem"), key).expect("ours");
        Self { folder, pem }
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("UTF-8").to_owned()
    }
}

/// What the daemon agrees on with a client that offers these suites in this order, of one version.
fn agreed(
    address: SocketAddr,
    pem: &str,
    offered: &[CipherSuite],
    version: &'static SupportedProtocolVersion,
) -> CipherSuite {
    let all = rustls::crypto::ring::default_provider();
    let pick = |wanted: &CipherSuite| {
        *all.cipher_suites.iter().find(|suite| suite.suite() == *wanted).expect("it is known")
    };
    let provider =
        CryptoProvider { cipher_suites: offered.iter().map(pick).collect(), ..all.clone() };
    let mut roots = RootCertStore::empty();
    roots.add(tls::certificates(pem.as_bytes()).expect("PEM").remove(0)).expect("an anchor");
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .expect("suites of that version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = StreamOwned::new(client, TcpStream::connect(address).expect("it accepts"));
    stream.conn.complete_io(&mut stream.sock).expect("a handshake");
    stream.conn.negotiated_cipher_suite().expect("it is over").suite()
}

/// The suites in the program's first message to the service, without those of RSA certificates and the signal
/// that is no suite.
fn offered(aes: bool) -> Vec<CipherSuite> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let mut check = on_processor(aes);
    check.arg("check").current_dir(std::env::temp_dir()).envs([
        ("AZURE_VOICE_LIVE_ENDPOINT", format!("https://localhost:{port}").as_str()),
        ("AZURE_VOICE_LIVE_API_KEY", "canary"),
    ]);
    let running = std::thread::spawn(move || check.output());
    let (mut socket, _) = listener.accept().expect("it calls");
    let mut acceptor = Acceptor::default();
    let accepted = loop {
        acceptor.read_tls(&mut socket).expect("a hello");
        if let Some(accepted) = acceptor.accept().expect("TLS") {
            break accepted;
        }
    };
    let hello = accepted.client_hello().cipher_suites().to_vec();
    drop((socket, listener));
    running.join().expect("no panic").expect("it runs");
    let elsewhere = |suite: &CipherSuite| format!("{suite:?}").contains("ECDHE_RSA");
    let signal = CipherSuite::TLS_EMPTY_RENEGOTIATION_INFO_SCSV;
    hello.into_iter().filter(|suite| !elsewhere(suite) && *suite != signal).collect()
}

#[test]
fn the_service_is_offered_first_what_this_processor_computes_fastest() {
    assert_eq!(offered(true), WITH_AES, "with AES");
    assert_eq!(offered(false), WITHOUT_AES, "without AES");
}

#[test]
fn clients_get_what_this_processor_computes_fastest_and_those_with_aes_only_get_aes() {
    let certified = Certified::new("ciphers");
    let (cert, key) = (certified.file("cert.pem"), certified.file("key.pem"));
    for (aes, [new, .., old, _, _]) in [(true, WITH_AES), (false, WITHOUT_AES)] {
        let mut command = on_processor(aes);
        command.args(["demo", "--listen", "127.0.0.1:0"]);
        let daemon = Daemon::started_by(
            command,
            &[
                ("VOICELIVED_TLS_LISTEN", "127.0.0.1:0"),
                ("VOICELIVED_TLS_CERT", &cert),
                ("VOICELIVED_TLS_KEY", &key),
            ],
        );
        let address = daemon.secure_address();
        let agreed =
            |offered: &[CipherSuite], version| agreed(address, &certified.pem, offered, version);
        for (first, version, range) in [(new, &version::TLS13, 0..3), (old, &version::TLS12, 3..6)]
        {
            let mut all = WITH_AES[range].to_vec();
            // Whatever the client would rather have.
            for _ in 0..all.len() {
                assert_eq!(agreed(&all, version), first, "AES: {aes}, {all:?}");
                all.rotate_left(1);
            }
            for only in all {
                assert_eq!(agreed(&[only], version), only, "AES: {aes}");
            }
        }
        let cipher = if aes { "AES-128-GCM" } else { "ChaCha20-Poly1305" };
        for version in ["1.3", "1.2"] {
            daemon.wait_for_log(&format!("TLS with a client: TLS {version}, {cipher}"));
        }
    }
}

/// Whatever the processor, the service decides here: `check` and the log say what was agreed on.
#[test]
fn check_and_the_log_name_the_cipher_of_the_way_to_the_service() {
    let certified = Certified::new("ciphers-check");
    let (cert, key) = (certified.file("cert.pem"), certified.file("key.pem"));
    let arguments = ["simulate", "--listen", "127.0.0.1:0", "--cert", &cert, "--key", &key];
    let service = Daemon::start(&arguments, &[]);
    let endpoint = format!("https://localhost:{}", service.address.port());
    for (aes, words) in [(true, "instructions for AES"), (false, "no instructions for AES")] {
        let mut check = on_processor(aes);
        let output = check
            .arg("check")
            .current_dir(std::env::temp_dir())
            .envs([
                ("AZURE_VOICE_LIVE_ENDPOINT", endpoint.as_str()),
                ("AZURE_VOICE_LIVE_API_KEY", "canary"),
                ("VOICELIVED_UPSTREAM_CA_FILE", &cert),
                ("VOICELIVED_LOG", "debug"),
            ])
            .output()
            .expect("it runs");
        let lines = String::from_utf8_lossy(&output.stdout);
        let log = String::from_utf8_lossy(&output.stderr);
        // The simulator is this program on this machine: its own order counts.
        let cipher = if is_x86_feature_detected!("aes") {
            "TLS 1.3, AES-128-GCM"
        } else {
            "TLS 1.3, ChaCha20-Poly1305"
        };
        let line = lines.lines().find(|line| line.starts_with("cipher"));
        let line = line.unwrap_or_else(|| panic!("no cipher: {lines}{log}"));
        assert!(line.contains(cipher) && line.contains(words), "{line}");
        assert!(log.contains(&format!("TLS with the service: {cipher}")), "{log}");
        assert!(output.status.success(), "{lines}{log}");
    }
}
