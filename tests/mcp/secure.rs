//! MCP servers by HTTPS: whose certificate counts, and the way through a proxy.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Map, Value, json};

use super::web::Web;
use super::{call, file, good_answer};
use crate::support::certificates::Authority;
use crate::support::daemon::Daemon;
use crate::support::proxy::{Conduct, ProxyStandIn};

/// TLS before a server behind plain HTTP.
fn secured(web: &Web, certificate: &str, key: &str) -> SocketAddr {
    let config = voicelived::net::tls::server_config(certificate.as_bytes(), key.as_bytes())
        .expect("they fit");
    let behind =
        web.url.trim_start_matches("http://").trim_end_matches("/mcp").parse().expect("an address");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            std::thread::spawn(move || drop(pass(socket, config, behind)));
        }
    });
    address
}

/// One request and its answer.
fn pass(socket: TcpStream, config: Arc<ServerConfig>, behind: SocketAddr) -> std::io::Result<()> {
    let tls = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut front = StreamOwned::new(tls, socket);
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") {
        front.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&request).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    front.read_exact(&mut body)?;
    request.extend(body);
    let mut back = TcpStream::connect(behind)?;
    back.write_all(&request)?;
    std::io::copy(&mut back, &mut front)?;
    front.conn.send_close_notify();
    front.flush()
}

fn authority_file(name: &str, authority: &Authority) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("mcp-{name}.pem"));
    std::fs::write(&path, &authority.pem).expect("a file");
    path.to_str().expect("text").to_owned()
}

fn demo_with(name: &str, servers: &[(&str, Value)], settings: &[(&str, &str)]) -> Daemon {
    let servers: Map<String, Value> =
        servers.iter().map(|(name, entry)| ((*name).to_owned(), entry.clone())).collect();
    let path = file(name, &servers);
    let path = path.to_str().expect("text");
    let own = [("VOICELIVED_MCP_FILE", path), ("VOICELIVED_LOG", "debug")];
    Daemon::demo(&[&own[..], settings].concat())
}

fn secure_entry(host: &str, port: u16) -> Value {
    json!({ "url": format!("https://{host}:{port}/mcp"), "headers": { "Authorization": "Bearer canary-77" } })
}

/// A server of the house has a certificate of the house's authority. One of another authority, or for another
/// name, is not talked to: it never sees the login.
#[test]
fn a_server_by_https_is_trusted_by_the_owners_authority_alone() {
    let (house, foreign) = (Authority::new("House"), Authority::new("Foreign"));
    let webs = ["none", "modern", "none", "none"].map(Web::serve);
    let port = |web: &Web, by: &Authority, name: &str| {
        let (certificate, key) = by.certify(name, 2020..2060);
        secured(web, &certificate, &key).port()
    };
    let servers = [
        ("old", secure_entry("localhost", port(&webs[0], &house, "localhost"))),
        ("new", secure_entry("localhost", port(&webs[1], &house, "localhost"))),
        ("foreign", secure_entry("localhost", port(&webs[2], &foreign, "localhost"))),
        ("misnamed", secure_entry("localhost", port(&webs[3], &house, "other.example"))),
    ];
    let trusted = authority_file("house", &house);
    let daemon = demo_with("https", &servers, &[("VOICELIVED_UPSTREAM_CA_FILE", &trusted)]);
    daemon.wait_for_log("4 tools are offered");
    let mut client = call(&daemon);
    good_answer(&mut client, "old", "over TLS");
    good_answer(&mut client, "new", "over TLS");
    for name in ["foreign", "misnamed"] {
        daemon.wait_until("it is refused", |daemon| {
            let log = daemon.log();
            let mut lines = log.lines().filter(|line| line.contains(&format!("mcp {name}: ")));
            lines.any(|line| line.contains("certificate is not trusted"))
        });
    }
    assert!(webs[2].seen().is_empty() && webs[3].seen().is_empty(), "they were asked something");
    assert!(!daemon.log().contains("canary-77"));
    assert_eq!(daemon.stop("TERM"), Some(0));
}

/// The rule of the service's connection: by HTTPS through `HTTPS_PROXY`, unless `NO_PROXY` names the host; by
/// plain HTTP, as in a house, never. The proxy sees a name, and neither login nor request.
#[test]
fn a_server_by_https_is_reached_through_the_proxy_and_one_by_http_is_not() {
    let house = Authority::new("House");
    let webs = ["none", "none", "none"].map(Web::serve);
    let (certificate, key) = house.certify("stock.invalid", 2020..2060);
    let behind = secured(&webs[0], &certificate, &key);
    let (certificate, key) = house.certify("localhost", 2020..2060);
    let near = secured(&webs[2], &certificate, &key);
    let proxy = ProxyStandIn::start(Conduct::Tunnel(behind), None);
    let servers = [
        ("far", secure_entry("stock.invalid", 443)),
        ("plain", json!({ "url": webs[1].url })),
        ("near", secure_entry("localhost", near.port())),
    ];
    let (trusted, named) =
        (authority_file("house-2", &house), format!("http://user:canary%2d88@{}", proxy.address));
    let settings = [("VOICELIVED_UPSTREAM_CA_FILE", trusted.as_str()), ("HTTPS_PROXY", &named)];
    let daemon = demo_with("proxy", &servers, &settings);
    daemon.wait_for_log("6 tools are offered");
    let mut client = call(&daemon);
    for name in ["far", "plain", "near"] {
        good_answer(&mut client, name, "on its way");
    }
    let requests = proxy.requests();
    assert!(!requests.is_empty());
    for request in &requests {
        assert!(request.starts_with("CONNECT stock.invalid:443 "), "{request}");
        assert!(!request.contains("canary-77"), "{request}");
    }
    assert!(!daemon.log().contains("canary"), "{}", daemon.log());
    assert_eq!(daemon.stop("TERM"), Some(0));
}

#[test]
fn a_proxy_that_refuses_is_told_in_words_without_its_login() {
    let refusal =
        "HTTP/1.1 407 Proxy Authentication Required canary-88\r\nContent-Length: 0\r\n\r\n";
    let proxy = ProxyStandIn::start(Conduct::Answer(refusal.to_owned()), None);
    let named = format!("http://user:canary-88@{}", proxy.address);
    let servers = [("far", secure_entry("stock.invalid", 443))];
    let daemon = demo_with("proxy-refuses", &servers, &[("HTTPS_PROXY", &named)]);
    daemon.wait_for_log("the proxy on the way refuses (HTTPS_PROXY)");
    assert!(!daemon.log().contains("canary"), "{}", daemon.log());
}
