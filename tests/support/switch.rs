//! A service address behind which the service can be exchanged from call to call, so that a good
//! call and a bad one can share a daemon. It also counts the connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A relay of plain bytes.
pub(crate) struct Switch {
    /// Where the daemon connects to.
    pub(crate) address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    visits: Arc<AtomicUsize>,
    cuts: Arc<AtomicUsize>,
}

impl Switch {
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let target = Arc::new(Mutex::new(target));
        let visits = Arc::new(AtomicUsize::new(0));
        let cuts = Arc::new(AtomicUsize::new(0));
        let (now, count, cut) = (Arc::clone(&target), Arc::clone(&visits), Arc::clone(&cuts));
        std::thread::spawn(move || {
            for visitor in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::Relaxed);
                let target = *now.lock().expect("no panic holds it");
                if let Ok(service) = TcpStream::connect(target) {
                    relay(visitor, service, &cut);
                }
            }
        });
        Self { address, target, visits, cuts }
    }

    /// The next connection goes there.
    pub(crate) fn turn_to(&self, target: SocketAddr) {
        *self.target.lock().expect("no panic holds it") = target;
    }

    /// Breaks all connections.
    pub(crate) fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections so far.
    pub(crate) fn visits(&self) -> usize {
        self.visits.load(Ordering::Relaxed)
    }
}

fn relay(a: TcpStream, b: TcpStream, cuts: &Arc<AtomicUsize>) {
    for socket in [&a, &b] {
        socket.set_nodelay(true).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
    }
    let (from_a, to_b) = (a.try_clone().expect("a socket"), b.try_clone().expect("a socket"));
    let (cuts_there, cuts_back) = (Arc::clone(cuts), Arc::clone(cuts));
    std::thread::spawn(move || carry(from_a, to_b, &cuts_there));
    std::thread::spawn(move || carry(b, a, &cuts_back));
}

/// Passes bytes on, and the end as it came: in order, or as a reset. A cut ends both ways at once.
fn carry(mut from: TcpStream, mut to: TcpStream, cuts: &AtomicUsize) {
    let before = cuts.load(Ordering::Relaxed);
    let mut chunk = [0; 64 * 1024];
    loop {
        let (count, reset) = match from.read(&mut chunk) {
            Ok(count) => (count, false),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if cuts.load(Ordering::Relaxed) == before {
                    continue;
                }
                let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                return;
            }
            Err(_) => (0, true),
        };
        if count > 0 && to.write_all(&chunk[..count]).is_ok() {
            continue;
        }
        if reset {
            // No lingering: closing sends a reset. The other thread must let go as well.
            let _ = socket2::SockRef::from(&to).set_linger(Some(Duration::ZERO));
            let _ = to.shutdown(Shutdown::Read);
        } else {
            let _ = to.shutdown(Shutdown::Write);
        }
        return;
    }
}
