//! A stand-in for whoever gives tokens: Entra ID, a metadata service, the agent of Azure Arc. It writes
//! down what it is asked and answers what a test has prepared, the last answer again and again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use super::standin::read_head;

/// A running stand-in.
pub(crate) struct TokenStandIn {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl TokenStandIn {
    /// Over HTTP, or HTTPS with a certificate and key (PEM). Each answer is a status line's rest with
    /// further fields, and a body.
    pub(crate) fn start(answers: &[(&str, &str)], tls: Option<(&str, &str)>) -> Self {
        let answers: Vec<_> = answers
            .iter()
            .map(|(head, body)| {
                format!(
                    "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                )
            })
            .collect();
        let config = tls.map(|(certificate, key)| {
            voicelived::net::tls::server_config(certificate.as_bytes(), key.as_bytes())
                .expect("they fit")
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        let answers = Arc::new(answers);
        std::thread::spawn(move || {
            for mut socket in listener.incoming().map_while(Result::ok) {
                let (answers, heard) = (Arc::clone(&answers), Arc::clone(&heard));
                let config = config.clone();
                // A client that does not trust it leaves: that ends this connection alone.
                std::thread::spawn(move || match config {
                    None => answer(&mut socket, &answers, &heard),
                    Some(config) => {
                        let tls = rustls::ServerConnection::new(config).expect("TLS");
                        answer(&mut rustls::StreamOwned::new(tls, socket), &answers, &heard);
                    }
                });
            }
        });
        Self { address, asked }
    }

    /// One that always gives this token, good for an hour.
    pub(crate) fn giving(token: &str) -> Self {
        Self::start(&[("200 OK", &good(token))], None)
    }

    /// Its address as a setting.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far, heads with bodies.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic holds it").clone()
    }
}

/// Entra ID's answer with a token that is good for an hour.
pub(crate) fn good(token: &str) -> String {
    format!(
        r#"{{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"{token}"}}"#
    )
}

fn answer(stream: &mut (impl Read + Write), answers: &[String], heard: &Mutex<Vec<String>>) {
    let mut request = read_head(stream);
    let length = request.lines().find_map(|line| {
        line.to_ascii_lowercase().strip_prefix("content-length: ").map(|it| it.parse::<usize>())
    });
    let mut body = vec![0; length.and_then(Result::ok).unwrap_or(0)];
    stream.read_exact(&mut body).expect("the whole request");
    request.push_str(&String::from_utf8_lossy(&body));
    let at = {
        let mut heard = heard.lock().expect("no panic holds it");
        heard.push(request);
        heard.len() - 1
    };
    let text = answers.get(at).or_else(|| answers.last());
    let _ = stream.write_all(text.expect("an answer").as_bytes());
    let _ = stream.flush();
}
