//! By which names and addresses the device is reached: those its owner sets, and those it gets while it runs. The
//! second part runs in a network of its own, where addresses come and go (`unshare`, as in `support::network`).

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::support;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use support::client::upgrade_head;
use support::daemon::{Daemon, PATIENCE};
use support::http::{Answer, exchange};
use support::network::{self, run};
use voicelived::net::tls;

/// A daemon with a local authority, for all of its network, and the root to trust.
struct Device {
    daemon: Daemon,
    root: String,
    folder: PathBuf,
}

impl Device {
    fn start(name: &str, listen: &str, tls_listen: &str, settings: &[(&str, &str)]) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        let state = folder.to_str().expect("UTF-8");
        let mut all = vec![
            ("VOICELIVED_TLS_LISTEN", tls_listen),
            ("VOICELIVED_STATE_DIR", state),
            ("VOICELIVED_ACCESS", "open"),
        ];
        all.extend(settings);
        let daemon = Daemon::start(&["demo", "--listen", listen], &all);
        let port = daemon.address.port();
        let ask =
            format!("GET /ca.pem HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
        let root = exchange(SocketAddr::from(([127, 0, 0, 1], port)), ask.as_bytes()).remove(0);
        Self { daemon, root: root.text().to_owned(), folder }
    }

    /// A TLS connection to `address` whose certificate must hold for `name`, a name or an address.
    fn secured(
        &self,
        address: IpAddr,
        name: &str,
    ) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
        let roots = tls::certificates(self.root.as_bytes()).expect("PEM");
        let config = tls::client_config(&roots).expect("a configuration");
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let client = ClientConnection::new(Arc::clone(&config), name).expect("a client");
        let port = self.daemon.secure_address().port();
        let socket = TcpStream::connect((address, port)).expect("it accepts");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut stream = StreamOwned::new(client, socket);
        stream.conn.complete_io(&mut stream.sock).map_err(|error| error.to_string())?;
        Ok(stream)
    }

    /// The status of the page, asked for over HTTPS as a browser does that was given this host.
    fn page(&self, address: IpAddr, host: &str) -> Result<String, String> {
        let port = self.daemon.secure_address().port();
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let head = format!("GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
        self.status(address, name, &head)
    }

    fn status(&self, address: IpAddr, name: &str, head: &str) -> Result<String, String> {
        let mut stream = self.secured(address, name)?;
        stream.write_all(head.as_bytes()).expect("it takes a request");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("an answer");
        Ok(String::from_utf8_lossy(&answer[9..]).into_owned())
    }

    /// The answer to a call that the page of this origin opens.
    fn call(&self, address: IpAddr, origin: &str, host: &str) -> String {
        let head = upgrade_head(self.daemon.address, &format!("Origin: {origin}\r\n"));
        let own = format!("Host: {}", self.daemon.address);
        let head = head.replace(&own, &format!("Host: {host}"));
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        self.status(address, name.trim_matches(['[', ']']), &head).expect("a certificate for it")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn plain(address: SocketAddr, host: &str) -> Answer {
    let ask = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    exchange(address, ask.as_bytes()).remove(0)
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

const HERE: &str = "127.0.0.1";

/// What a name conflict makes of the device's name, and what a published port shows of a container.
#[test]
fn names_that_are_set_count_for_certificate_host_and_origin() {
    let names = "Device-2.local, 192.168.77.7 [fd00::77]:8443,outside.local:443";
    for listen in [HERE, "0.0.0.0"] {
        let listen = format!("{listen}:0");
        let device = Device::start("names-set", &listen, &listen, &[("VOICELIVED_NAMES", names)]);
        let port = device.daemon.secure_address().port();
        for name in ["device-2.local", "192.168.77.7", "[fd00::77]", "outside.local", "localhost"] {
            assert_eq!(device.page(address(HERE), name).expect(name), "200", "{name}, {listen}");
            let origin = format!("https://{name}:{port}");
            assert_eq!(device.call(address(HERE), &origin, &format!("{name}:{port}")), "101");
        }
        // The other side of the published port.
        assert_eq!(device.call(address(HERE), "https://outside.local", "outside.local"), "101");
        let foreign = device.call(address(HERE), "https://device-2.local", "outside.local");
        assert_eq!(foreign, "403", "another origin of its own is foreign there");
        for other in ["device-3.local", "192.168.77.8"] {
            let error = device.page(address(HERE), other).expect_err("no certificate");
            assert!(error.contains("not valid for name"), "{other}: {error}");
        }
        let at = SocketAddr::from(([127, 0, 0, 1], device.daemon.address.port()));
        assert_eq!(plain(at, &format!("device-3.local:{}", at.port())).status, 421);
        let sent = plain(at, &format!("outside.local:{}", at.port()));
        assert_eq!((sent.status, sent.field("Location")), (308, "https://outside.local:443/"));
        let sent = plain(at, &format!("device-2.local:{}", at.port()));
        let to = format!("https://device-2.local:{port}/");
        assert_eq!((sent.status, sent.field("Location")), (308, to.as_str()));
    }
}

#[test]
fn a_refused_name_says_where_to_set_it() {
    let daemon = Daemon::demo(&[]);
    let answer = plain(daemon.address, "device-2.local");
    assert_eq!(answer.status, 421);
    assert!(answer.text().contains("VOICELIVED_NAMES"), "{}", answer.text());
}

/// The owner's own certificate is not ours to change, so the daemon says what is missing in it.
#[test]
fn names_that_the_owners_certificate_lacks_are_named() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("names-own");
    std::fs::create_dir_all(&folder).expect("a folder");
    let names = ["localhost", "*.wild.example"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("ours");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("ours");
    let daemon = Daemon::demo(&[
        ("VOICELIVED_TLS_LISTEN", "127.0.0.1:0"),
        ("VOICELIVED_TLS_CERT", cert.to_str().expect("UTF-8")),
        ("VOICELIVED_TLS_KEY", key.to_str().expect("UTF-8")),
        ("VOICELIVED_NAMES", "a.wild.example,b.a.wild.example,192.0.2.7"),
    ]);
    let log = daemon.log();
    for (name, lacking) in
        [("a.wild.example", false), ("b.a.wild.example", true), ("192.0.2.7", true)]
    {
        let line = format!("VOICELIVED_NAMES: the certificate does not hold for {name}:");
        assert_eq!(log.contains(&line), lacking, "{name}: {log}");
    }
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn a_new_address_is_known_at_the_first_connection_to_it() {
    if !network::is_own(module_path!(), "a_new_address_is_known_at_the_first_connection_to_it") {
        return;
    }
    run("ip link set lo up");
    run("ip addr add 10.9.8.6/32 dev lo");
    let device = Device::start("names-new", "0.0.0.0:0", "[::]:0", &[]);
    let port = device.daemon.secure_address().port();
    assert_eq!(device.page(address("10.9.8.6"), "10.9.8.6").expect("known at the start"), "200");
    // At once, each right after a look at the addresses before it: not one request may be lost.
    for new in ["10.9.8.7", "192.168.44.5", "fd09::7"] {
        let length = if new.contains(':') { 128 } else { 32 };
        run(&format!("ip addr add {new}/{length} dev lo"));
        let host = if new.contains(':') { format!("[{new}]") } else { new.to_owned() };
        assert_eq!(device.page(address(new), &host).expect(new), "200", "{new}");
        let (origin, host) = (format!("https://{host}:{port}"), format!("{host}:{port}"));
        assert_eq!(device.call(address(new), &origin, &host), "101", "{new}");
    }
    // What was there before is still there.
    assert_eq!(device.page(address("10.9.8.6"), "10.9.8.6").expect("it has not gone"), "200");
    // A phone that was given the address without a scheme asks the plain port first.
    run("ip addr add 10.9.8.8/32 dev lo");
    let at = SocketAddr::new(address("10.9.8.8"), device.daemon.address.port());
    let sent = plain(at, &at.to_string());
    let to = format!("https://10.9.8.8:{port}/");
    assert_eq!((sent.status, sent.field("Location")), (308, to.as_str()));
    assert_eq!(device.page(address("10.9.8.8"), "10.9.8.8").expect("a certificate for it"), "200");
    // An address of somebody else is none of ours, whoever asks for it.
    assert_eq!(plain(at, &format!("10.9.8.99:{}", at.port())).status, 421);
    assert!(device.page(address("10.9.8.8"), "10.9.8.99").is_err());
}

/// Nothing renews a certificate there, and the addresses change all the same.
#[test]
fn a_new_address_is_known_without_https_too() {
    if !network::is_own(module_path!(), "a_new_address_is_known_without_https_too") {
        return;
    }
    run("ip link set lo up");
    let open = [("VOICELIVED_ACCESS", "open")];
    let daemon = Daemon::start(&["demo", "--listen", "0.0.0.0:0"], &open);
    run("ip addr add 10.9.8.7/32 dev lo");
    let at = SocketAddr::new(address("10.9.8.7"), daemon.address.port());
    assert_eq!(plain(at, &at.to_string()).status, 200);
    assert_eq!(plain(at, &format!("10.9.8.8:{}", at.port())).status, 421);
}

/// The host name counts too: a device is renamed, or its network tells it a search domain.
#[test]
fn a_new_host_name_is_known_within_seconds() {
    if !network::is_own(module_path!(), "a_new_host_name_is_known_within_seconds") {
        return;
    }
    run("ip link set lo up");
    run("ip addr add 10.9.8.6/32 dev lo");
    run("hostname before");
    let device = Device::start("names-host", "0.0.0.0:0", "0.0.0.0:0", &[]);
    assert_eq!(device.page(address("10.9.8.6"), "before.local").expect("its name"), "200");
    run("hostname kitchen");
    let deadline = Instant::now() + PATIENCE;
    let mut found = device.page(address("10.9.8.6"), "kitchen.local");
    while found.is_err() {
        assert!(Instant::now() < deadline, "{found:?}\n{}", device.daemon.log());
        std::thread::sleep(std::time::Duration::from_millis(100));
        found = device.page(address("10.9.8.6"), "kitchen.local");
    }
    assert_eq!(found.expect("waited for"), "200");
}

/// A host of many containers has more addresses than a certificate takes: those that are used count.
#[test]
fn of_many_addresses_the_one_that_is_used_is_known() {
    if !network::is_own(module_path!(), "of_many_addresses_the_one_that_is_used_is_known") {
        return;
    }
    run("ip link set lo up");
    for at in 1..=60 {
        run(&format!("ip addr add 10.1.{at}.1/32 dev lo"));
    }
    let device = Device::start("names-many", "0.0.0.0:0", "[::]:0", &[]);
    let port = device.daemon.secure_address().port();
    run("ip addr add 192.168.9.9/32 dev lo");
    run("ip addr add fd09::9/128 dev lo");
    // Its network's prefix has changed: it is good for a while yet.
    run("ip addr add fd09::10/128 dev lo preferred_lft 0");
    for used in
        ["fd09::10", "10.1.60.1", "192.168.9.9", "fd09::9", "10.1.3.1", "10.1.59.1", "192.168.9.9"]
    {
        let host = if used.contains(':') { format!("[{used}]") } else { used.to_owned() };
        assert_eq!(device.page(address(used), &host).expect(used), "200", "{used}");
        let (origin, host) = (format!("https://{host}:{port}"), format!("{host}:{port}"));
        assert_eq!(device.call(address(used), &origin, &host), "101", "{used}");
    }
}

/// A lease runs out and comes again, with other visitors between or without.
#[test]
fn an_address_that_goes_and_comes_back_is_known_while_it_is_there() {
    if !network::is_own(
        module_path!(),
        "an_address_that_goes_and_comes_back_is_known_while_it_is_there",
    ) {
        return;
    }
    run("ip link set lo up");
    run("ip addr add 10.9.8.6/32 dev lo");
    run("ip addr add fd09::6/128 dev lo");
    let device = Device::start("names-back", "0.0.0.0:0", "[::]:0", &[]);
    let known = |used: &str| {
        let host = if used.contains(':') { format!("[{used}]") } else { used.to_owned() };
        device.page(address(used), &host)
    };
    for pause in [0, 1100, 0, 1100] {
        run("ip addr add 10.9.8.7/32 dev lo");
        run("ip addr add fd09::7/128 dev lo");
        for used in ["10.9.8.7", "fd09::7", "10.9.8.6", "fd09::6"] {
            assert_eq!(known(used).expect(used), "200", "{used} after {pause} ms");
        }
        run("ip addr del 10.9.8.7/32 dev lo");
        run("ip addr del fd09::7/128 dev lo");
        std::thread::sleep(std::time::Duration::from_millis(pause));
        assert_eq!(known("10.9.8.6").expect("it stays"), "200");
        // What has gone is somebody else's, once the daemon has looked.
        if pause > 0 {
            let at = SocketAddr::new(address("10.9.8.6"), device.daemon.address.port());
            assert_eq!(plain(at, &format!("10.9.8.7:{}", at.port())).status, 421);
        }
    }
}

/// The certificate is the owner's, and the gate knows the new address all the same.
#[test]
fn a_new_address_is_known_with_the_owners_certificate() {
    if !network::is_own(module_path!(), "a_new_address_is_known_with_the_owners_certificate") {
        return;
    }
    run("ip link set lo up");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("names-owned");
    std::fs::create_dir_all(&folder).expect("a folder");
    let names = ["localhost", "10.9.8.7", "fd09::7"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("ours");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("ours");
    let text = |path: &PathBuf| path.to_str().expect("UTF-8").to_owned();
    let settings = [
        ("VOICELIVED_TLS_LISTEN", "[::]:0".to_owned()),
        ("VOICELIVED_TLS_CERT", text(&cert)),
        ("VOICELIVED_TLS_KEY", text(&key)),
        ("VOICELIVED_ACCESS", "open".to_owned()),
    ];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let daemon = Daemon::start(&["demo", "--listen", "0.0.0.0:0"], &settings);
    let device = Device { daemon, root: made.cert.pem(), folder };
    for used in ["10.9.8.7", "fd09::7"] {
        let (length, host) =
            if used.contains(':') { (128, format!("[{used}]")) } else { (32, used.to_owned()) };
        run(&format!("ip addr add {used}/{length} dev lo"));
        assert_eq!(device.page(address(used), &host).expect(used), "200", "{used}");
    }
}

/// Names as devices have them: the certificate holds for what others write.
#[test]
fn a_device_is_renamed_to_whatever_it_likes() {
    if !network::is_own(module_path!(), "a_device_is_renamed_to_whatever_it_likes") {
        return;
    }
    run("ip link set lo up");
    run("ip addr add 10.9.8.6/32 dev lo");
    run("hostname first");
    let device = Device::start("names-renamed", "0.0.0.0:0", "0.0.0.0:0", &[]);
    for (name, reached) in [
        ("KITCHEN", &["kitchen.local"][..]),
        ("pi.example.org", &["pi.local"]),
        ("localhost", &["localhost"]),
        ("first", &["first.local", "first"]),
    ] {
        run(&format!("hostname {name}"));
        std::thread::sleep(std::time::Duration::from_millis(1100));
        for host in reached {
            let found = device.page(address("10.9.8.6"), host);
            assert_eq!(found.as_deref(), Ok("200"), "{name}: {host}\n{}", device.daemon.log());
        }
        // The one before is another device's now.
        if name != "first" {
            assert!(device.page(address("10.9.8.6"), "first.local").is_err(), "{name}");
        }
    }
}
