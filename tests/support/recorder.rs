//! A stand-in for the service that writes down what it is sent, and answers one fixed thing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

/// See the module's text.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    /// Plain TCP: a client that sends something gets `answer`, and then the connection ends.
    pub(crate) fn plain(answer: &[u8]) -> Self {
        let answer = answer.to_vec();
        Self::start(move |mut socket, heard| take(&mut socket, &answer, heard))
    }

    /// TLS with this certificate and key (PEM); what is recorded is what TLS has let through.
    pub(crate) fn tls(certificate: &str, key: &str) -> Self {
        let config = voicelived::net::tls::server_config(certificate.as_bytes(), key.as_bytes())
            .expect("TLS");
        Self::start(move |socket, heard| {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("TLS");
            take(&mut rustls::StreamOwned::new(connection, socket), b"", heard);
        })
    }

    fn start(serve: impl Fn(std::net::TcpStream, &Mutex<Vec<u8>>) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&heard);
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                serve(socket, &shared);
            }
        });
        Self { address, heard }
    }

    /// Everything it was sent so far.
    pub(crate) fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().expect("no panic holds it")).into_owned()
    }
}

fn take(stream: &mut (impl Read + Write), answer: &[u8], heard: &Mutex<Vec<u8>>) {
    let mut chunk = [0; 4096];
    if let Ok(count) = stream.read(&mut chunk) {
        heard.lock().expect("no panic holds it").extend_from_slice(&chunk[..count]);
    }
    // A client that has refused the connection does not take an answer.
    let _ = stream.write_all(answer);
    let _ = stream.flush();
}
