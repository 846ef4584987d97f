//! HTTP connections that were answered once and are kept: what each takes in the relay's memory.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::json;

use crate::certificates;
use crate::process::Relay;

/// The first connections bring what all share.
const FIRST: usize = 4;

/// What is kept open.
trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// Opens as many connections as wanted, and prints a line of JSON.
pub(crate) fn run(
    name: &str,
    count: usize,
    secure: bool,
    relay: &Relay,
    folder: &Path,
) -> io::Result<()> {
    let config =
        certificates::client(folder).map_err(|error| io::Error::other(error.to_string()))?;
    let open = || -> io::Result<Box<dyn Stream>> {
        let address = if secure { relay.secure.unwrap_or(relay.address) } else { relay.address };
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut stream: Box<dyn Stream> = if secure {
            let host = ServerName::from(address.ip());
            let tls = ClientConnection::new(Arc::clone(&config), host).map_err(io::Error::other)?;
            Box::new(StreamOwned::new(tls, socket))
        } else {
            Box::new(socket)
        };
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
        let mut answer = [0; 4_096];
        let count = stream.read(&mut answer)?;
        if !answer[..count].starts_with(b"HTTP/1.1 200") {
            return Err(io::Error::other(String::from_utf8_lossy(&answer[..count]).into_owned()));
        }
        Ok(stream)
    };
    let settle = || std::thread::sleep(Duration::from_millis(100));
    let mut kept = (0..FIRST).map(|_| open()).collect::<io::Result<Vec<_>>>()?;
    settle();
    let before = relay.memory()?;
    for _ in 0..count {
        kept.push(open()?);
    }
    settle();
    let after = relay.memory()?;
    println!(
        "{}",
        json!({
            "name": name, "calls": count, "secure": secure, "failed": [],
            "rss_each_kib": (after.0 as f64 - before.0 as f64) / count as f64,
            "pss_each_kib": (after.1 as f64 - before.1 as f64) / count as f64,
        })
    );
    Ok(())
}
