//! A stand-in for an HTTP proxy: it takes `CONNECT` over TCP or TLS, writes the request down, and opens
//! the tunnel or answers otherwise. Every name leads to one address, so no name has to exist.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::standin::read_head;

/// A running stand-in.
pub(crate) struct ProxyStandIn {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

/// What it does with a request.
#[derive(Clone)]
pub(crate) enum Conduct {
    /// Opens a tunnel to this address, whatever is asked for.
    Tunnel(SocketAddr),
    /// Answers with these bytes and closes.
    Answer(String),
    /// Says nothing.
    Silence,
}

impl ProxyStandIn {
    /// Over plain TCP, or TLS with a certificate and key (both PEM).
    pub(crate) fn start(conduct: Conduct, tls: Option<(&str, &str)>) -> Self {
        let config = tls.map(|(certificate, key)| {
            voicelived::net::tls::server_config(certificate.as_bytes(), key.as_bytes())
                .expect("they fit")
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&requests);
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (conduct, config) = (conduct.clone(), config.clone());
                let heard = Arc::clone(&heard);
                std::thread::spawn(move || serve(socket, &conduct, config, &heard));
            }
        });
        Self { address, requests }
    }

    /// The heads of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic holds it").clone()
    }
}

fn serve(
    mut socket: TcpStream,
    conduct: &Conduct,
    config: Option<Arc<ServerConfig>>,
    heard: &Mutex<Vec<String>>,
) {
    match config {
        None => {
            if let Some(far) = negotiate(&mut socket, conduct, heard) {
                let back = (socket.try_clone().expect("a socket"), far.try_clone().expect("one"));
                std::thread::spawn(move || pipe(back.1, back.0));
                pipe(socket, far);
            }
        }
        Some(config) => {
            let tls = ServerConnection::new(config).expect("a configuration");
            let mut stream = StreamOwned::new(tls, socket);
            if let Some(far) = negotiate(&mut stream, conduct, heard) {
                relay(stream, far);
            }
        }
    }
}

/// The far end of the tunnel, if one is opened.
fn negotiate(
    stream: &mut (impl Read + Write),
    conduct: &Conduct,
    heard: &Mutex<Vec<String>>,
) -> Option<TcpStream> {
    heard.lock().expect("no panic holds it").push(read_head(stream));
    match conduct {
        Conduct::Tunnel(to) => {
            let far = TcpStream::connect(to).expect("the service is there");
            // Length fields of a successful answer count for nothing.
            let answer = b"HTTP/1.1 200 Connection established\r\nContent-Length: 7\r\n\r\n";
            stream.write_all(answer).expect("the daemon reads");
            stream.flush().expect("the daemon reads");
            Some(far)
        }
        Conduct::Answer(text) => {
            let _ = stream.write_all(text.as_bytes());
            let _ = stream.flush();
            None
        }
        Conduct::Silence => {
            let _ = stream.read(&mut [0]);
            None
        }
    }
}

fn pipe(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// Both ways in one thread: rustls' stream cannot be taken apart.
fn relay(mut near: StreamOwned<ServerConnection, TcpStream>, mut far: TcpStream) {
    let moment = Some(Duration::from_millis(1));
    near.sock.set_read_timeout(moment).expect("a socket");
    far.set_read_timeout(moment).expect("a socket");
    let mut chunk = [0; 16 * 1024];
    loop {
        for towards_far in [true, false] {
            let read = if towards_far { near.read(&mut chunk) } else { far.read(&mut chunk) };
            match read {
                Ok(0) => return,
                Ok(count) => {
                    let bytes = &chunk[..count];
                    let to: &mut dyn Write = if towards_far { &mut far } else { &mut near };
                    if to.write_all(bytes).and_then(|()| to.flush()).is_err() {
                        return;
                    }
                }
                Err(error)
                    if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut]
                        .contains(&error.kind()) => {}
                Err(_) => return,
            }
        }
    }
}
