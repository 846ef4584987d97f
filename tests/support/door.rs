//! A door to a daemon's HTTPS port for clients that speak no TLS: it puts TLS around each connection. When
//! its client breaks off, so does it, without a goodbye of TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use voicelived::net::tls;

use super::client::narrow;

/// The address of a door to the daemon at `address`, whose certificate `roots` vouch for.
pub(crate) fn to(address: SocketAddr, roots: &str) -> SocketAddr {
    let roots = tls::certificates(roots.as_bytes()).expect("PEM");
    let config = tls::client_config(&roots).expect("a configuration");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let door = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for visitor in listener.incoming().map_while(Result::ok) {
            let name = ServerName::try_from("localhost").expect("a name");
            let client = ClientConnection::new(Arc::clone(&config), name).expect("a client");
            let socket = narrow(address);
            std::thread::spawn(move || pass(visitor, StreamOwned::new(client, socket)));
        }
    });
    door
}

fn pass(mut visitor: TcpStream, mut daemon: StreamOwned<ClientConnection, TcpStream>) {
    daemon.conn.complete_io(&mut daemon.sock).expect("a handshake");
    // As little as possible is under way in here.
    socket2::SockRef::from(&visitor).set_send_buffer_size(4 * 1024).expect("a smaller buffer");
    let pause = Some(Duration::from_millis(2));
    visitor.set_read_timeout(pause).expect("a socket");
    daemon.sock.set_read_timeout(pause).expect("a socket");
    let mut buffer = [0; 4096];
    loop {
        match visitor.read(&mut buffer) {
            Ok(count @ 1..) if daemon.write_all(&buffer[..count]).is_err() => break,
            Ok(1..) => {}
            Err(error) if is_pause(&error) => {}
            Ok(0) | Err(_) => break,
        }
        match daemon.read(&mut buffer) {
            Ok(count @ 1..) if visitor.write_all(&buffer[..count]).is_err() => break,
            Ok(1..) => {}
            Err(error) if is_pause(&error) => {}
            Ok(0) | Err(_) => break,
        }
    }
}

fn is_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
