//! What the way to the service and a closing handshake need of a stream besides its bytes. Here it is
//! mio's socket; a bench or a test may bring memory.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::net::TcpStream;

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

    /// Lets small frames leave at once: without it they would wait for the peer's acknowledgement.
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
    }

    fn end_output(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}
