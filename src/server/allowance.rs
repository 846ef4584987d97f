//! The bound on what one turn of the loop does for visitors. It keeps calls from waiting while
//! visitors connect or send many requests.

use super::slot::Conn;

/// The most visitors that one turn pumps.
const TURN_VISITORS: usize = 8;

/// The most visitors among them whose TLS handshake goes on. A handshake may cost a signature, a few
/// tenths of a millisecond, and all calls wait for it. A frame and its answer pass two turns, so they
/// may wait for two signatures.
const TURN_HANDSHAKES: usize = 1;

/// How many more visitors this turn may pump.
pub(super) struct Allowance {
    visitors: usize,
    handshakes: usize,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { visitors: TURN_VISITORS, handshakes: TURN_HANDSHAKES }
    }
}

impl Allowance {
    /// Whether the connection may be pumped in this turn, and if so, counts it. Calls always may. A
    /// visitor that may not is pumped first in the next turn (`Server::pump_slots`).
    pub(super) fn admits(&mut self, conn: &Conn) -> bool {
        if !matches!(conn, Conn::Visitor { .. }) {
            return true;
        }
        if self.visitors == 0 || (conn.is_handshaking() && self.handshakes == 0) {
            return false;
        }
        self.visitors -= 1;
        self.handshakes -= usize::from(conn.is_handshaking());
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::time::Instant;

    use mio::net::TcpStream;

    use super::*;
    use crate::net::tls;
    use crate::net::transport::Transport;
    use crate::web::Visitor;

    fn visitor(secure: Option<&Arc<rustls::ServerConfig>>) -> Conn {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let ours = std::net::TcpStream::connect(listener.local_addr().expect("bound"));
        let ours = TcpStream::from_std(ours.expect("a connection"));
        let transport = match secure {
            None => Transport::plain(ours),
            Some(config) => {
                let connection = rustls::ServerConnection::new(Arc::clone(config));
                Transport::tls(ours, connection.expect("a configuration").into())
            }
        };
        Conn::Visitor { visitor: Box::new(Visitor::new(transport, Instant::now())), listener: 0 }
    }

    #[test]
    fn a_turn_has_one_handshake_and_eight_visitors() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let config = tls::server_config(chain.as_bytes(), key.as_bytes()).expect("they fit");
        let secure: Vec<_> = (0..10).map(|_| visitor(Some(&config))).collect();
        let plain: Vec<_> = (0..10).map(|_| visitor(None)).collect();
        let mut allowance = Allowance::default();
        let mut admitted =
            |conns: &[Conn]| conns.iter().filter(|conn| allowance.admits(conn)).count();
        assert_eq!(admitted(&secure), 1, "each costs a signature, for which all calls wait");
        assert_eq!(admitted(&plain), 7);
        assert_eq!(admitted(&secure), 0);
        // Not a visitor: it is never passed over.
        assert_eq!(admitted(&[Conn::Free]), 1);
    }
}
