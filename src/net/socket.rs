//! What the way to the service and a closing handshake need of a stream besides its bytes. Here it is
//! mio's socket; a bench or a test may bring memory.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::net::TcpStream;

/// The kernel's send buffer, in bytes (Linux doubles it, and counts what a packet takes in memory). With what
/// waits in front of it, it holds at most 1.25 s of microphone audio, and it still fills a way of
/// 300 ms there and back.
const SEND_BUFFER: usize = 32 * 1024;

/// The part of it that may be unsent, in bytes (`TCP_NOTSENT_LOWAT`).
const UNSENT: u32 = 4 * 1024;

/// A non-blocking stream socket.
pub trait Socket: Read + Write + Sized {
    /// Begins to connect.
    ///
    /// # Errors
    /// What the kernel says at once.
    fn connect(address: SocketAddr) -> io::Result<Self>;

    /// Whether a non-blocking connect has come through (C1).
    ///
    /// # Errors
    /// Why it has not and will not.
    fn is_connected(&self) -> io::Result<bool>;

    /// Lets small frames leave at once: without it they would wait for the peer's acknowledgement. And lets
    /// little wait in the kernel, where nobody can tell what has been taken: a broken way shows soon, and
    /// what was lost with it is within what a session keeps to send again.
    fn hurry(&self);

    /// Ends our side of the connection. A failure shows at the next read.
    fn end_output(&self);
}

impl Socket for TcpStream {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::connect(address)
    }

    fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = self.take_error()? {
            return Err(error);
        }
        match self.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn hurry(&self) {
        let _ = self.set_nodelay(true);
        let socket = socket2::SockRef::from(self);
        let _ = socket.set_tcp_notsent_lowat(UNSENT);
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
    }

    fn end_output(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::{Duration, Instant};

    use socket2::{Domain, Type};

    use super::*;

    /// What becomes of a connect, asked as often as it is under way.
    fn outcome(socket: &TcpStream) -> io::Result<bool> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match socket.is_connected() {
                Ok(false) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                other => return other,
            }
        }
    }

    #[test]
    fn a_connect_goes_on_comes_through_or_fails() {
        // A listener that accepts none, with the shortest queue.
        let listener = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
        let address = listener.local_addr().expect("bound").as_socket().expect("IP");
        let nobody =
            <TcpStream as Socket>::connect(address).and_then(|it| outcome(&it).map(|_| it));
        assert_eq!(nobody.expect_err("it does not listen").kind(), ErrorKind::ConnectionRefused);
        listener.listen(0).expect("a queue");
        let sockets: Vec<TcpStream> =
            (0..20).map(|_| Socket::connect(address).expect("it begins")).collect();
        assert!(outcome(&sockets[0]).expect("no error"));
        let last = &sockets[19];
        assert!(!last.is_connected().expect("no error"), "the queue is full");
        assert!(!sockets[0].nodelay().expect("a socket"));
        sockets[0].hurry();
        assert!(sockets[0].nodelay().expect("a socket"));
    }
}
