//! The floor: the work no relay can avoid, and nothing else. For each frame and direction one
//! receive, unmask or base64, mask, one TLS record sealed or opened, one send. There is no poll, no
//! parser and no state: the calls are served in turn with blocking sockets, which only works under
//! the load's saturating mode. It is no relay that anyone could use.

#[path = "../frame.rs"]
#[allow(dead_code, reason = "the load uses the rest")]
mod frame;
mod setup;
#[path = "../unavoidable.rs"]
mod unavoidable;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use setup::Setup;
use unavoidable::{Buffers, Side, back, forth};

/// Characters of base64 in a frame's delta.
const CHARS: usize = 1_280;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let setup = Setup::from_env()?;
    let count: usize = std::env::var("BENCH_CALLS")?.parse()?;
    let listener = TcpListener::bind(setup.listen)?;
    // The load's own look whether anyone listens.
    drop(listener.accept()?);
    let mut calls = Vec::with_capacity(count);
    while calls.len() < count {
        calls.push(begin(listener.accept()?.0, &setup)?);
    }
    let mut buffers = Buffers::new();
    loop {
        for (client, service) in &mut calls {
            if !forth(client, service, &mut buffers)? {
                return Ok(());
            }
        }
        for (client, service) in &mut calls {
            back(service, client, CHARS, &mut buffers)?;
        }
    }
}

/// Both upgrades and the session, as simply as can be.
fn begin(client: TcpStream, setup: &Setup) -> Result<(Side, Side), Box<dyn std::error::Error>> {
    let mut client = client;
    client.set_nodelay(true)?;
    let head = read_head(&mut client)?;
    let service = TcpStream::connect(&setup.service)?;
    service.set_nodelay(true)?;
    let name = ServerName::try_from("127.0.0.1")?;
    let tls = ClientConnection::new(Arc::clone(&setup.tls), name)?;
    let mut stream = StreamOwned::new(tls, service);
    let extra = format!("api-key: {}\r\n", setup.key);
    stream.write_all(frame::request(&setup.service, &setup.target, &extra).as_bytes())?;
    read_head(&mut stream)?;
    read_message(&mut stream)?; // session.created
    let mut update = setup::session_update().into_bytes();
    let mut message = Vec::new();
    frame::head(&mut message, frame::TEXT, update.len(), Some(frame::MASK));
    frame::mask(&mut update, frame::MASK);
    message.extend_from_slice(&update);
    stream.write_all(&message)?;
    read_message(&mut stream)?; // session.updated
    client.write_all(frame::upgrade(&head).ok_or("no upgrade")?.as_bytes())?;
    let StreamOwned { conn, sock } = stream;
    let client = Side { stream: client, tls: None };
    Ok((client, Side { stream: sock, tls: Some(conn.into()) }))
}

fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    while frame::head_end(&head).is_none() {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn read_message(stream: &mut impl Read) -> io::Result<()> {
    let mut data = Vec::new();
    loop {
        if let Some(head) = frame::Head::parse(&data) {
            let mut payload = vec![0; head.payload];
            return stream.read_exact(&mut payload);
        }
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        data.push(byte[0]);
    }
}
