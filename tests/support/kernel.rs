//! A pair of in-memory stream sockets that behave as Linux does towards an edge-triggered poll:
//! short reads and writes at every byte, room that comes and goes, and an event only when
//! something changes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;

use voicelived::net::socket;

use super::random::Random;

thread_local! {
    /// The other end of the connection that was made last.
    static CALLED: RefCell<Option<Socket>> = const { RefCell::new(None) };
    /// No connection is accepted.
    static DEAF: Cell<bool> = const { Cell::new(false) };
}

/// One direction of a connection.
#[derive(Debug)]
struct Pipe {
    /// Bytes the sender's kernel holds.
    send: VecDeque<u8>,
    /// How many it may hold.
    room: usize,
    /// The sender was refused or cut short: it gets an event when room appears (SOCK_NOSPACE).
    refused: bool,
    /// Bytes the receiver's kernel holds.
    receive: VecDeque<u8>,
    /// The sender has ended this direction.
    ended: bool,
    /// Events that the poll has not reported yet.
    readable: bool,
    writable: bool,
}

/// One end.
#[derive(Debug)]
pub(crate) struct Socket {
    outgoing: Rc<RefCell<Pipe>>,
    incoming: Rc<RefCell<Pipe>>,
}

/// What the poll reports for one end.
pub(crate) struct Events {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The other end is known to have ended its side.
    pub(crate) ended: bool,
}

/// Both ends, with send buffers of `room` bytes.
pub(crate) fn pair(room: usize) -> (Socket, Socket) {
    let pipe = || {
        Rc::new(RefCell::new(Pipe {
            send: VecDeque::new(),
            room,
            refused: false,
            receive: VecDeque::new(),
            ended: false,
            readable: false,
            writable: false,
        }))
    };
    let (a, b) = (pipe(), pipe());
    (Socket { outgoing: a.clone(), incoming: b.clone() }, Socket { outgoing: b, incoming: a })
}

impl Socket {
    /// Moves up to `most` of this end's bytes to the other end's kernel; false if there are none.
    pub(crate) fn carry(&self, most: usize) -> bool {
        let pipe = &mut *self.outgoing.borrow_mut();
        let count = most.min(pipe.send.len());
        if count == 0 {
            return false;
        }
        // Whole pieces, because seeds by the thousand pass through here.
        if pipe.receive.is_empty() && count == pipe.send.len() {
            std::mem::swap(&mut pipe.receive, &mut pipe.send);
        } else {
            pipe.receive.extend(&pipe.send.make_contiguous()[..count]);
            pipe.send.drain(..count);
        }
        pipe.readable = true;
        pipe.writable |= std::mem::take(&mut pipe.refused);
        true
    }

    /// Takes the events that have come up since the last call: an edge is reported once.
    pub(crate) fn poll(&self) -> Option<Events> {
        let incoming = &mut *self.incoming.borrow_mut();
        let outgoing = &mut *self.outgoing.borrow_mut();
        let events = Events {
            readable: std::mem::take(&mut incoming.readable),
            writable: std::mem::take(&mut outgoing.writable),
            ended: incoming.ended && incoming.send.is_empty(),
        };
        (events.readable || events.writable).then_some(events)
    }

    /// No more bytes will come from this end.
    pub(crate) fn end(&self) {
        let pipe = &mut *self.outgoing.borrow_mut();
        pipe.readable |= !std::mem::replace(&mut pipe.ended, true);
    }

    /// Whether the other end is closed and gone.
    pub(crate) fn is_alone(&self) -> bool {
        Rc::strong_count(&self.outgoing) == 1
    }

    /// Gives this end's send buffer another size.
    pub(crate) fn resize(&self, random: &mut Random) {
        self.outgoing.borrow_mut().room = random.range(1, 20_000);
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let pipe = &mut *self.incoming.borrow_mut();
        if pipe.receive.is_empty() {
            if pipe.ended && pipe.send.is_empty() {
                return Ok(0);
            }
            return Err(ErrorKind::WouldBlock.into());
        }
        // A deque may lie in two pieces; the kernel hands over all it has.
        pipe.receive.make_contiguous();
        pipe.receive.read(buf)
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let pipe = &mut *self.outgoing.borrow_mut();
        let count = buf.len().min(pipe.room.saturating_sub(pipe.send.len()));
        pipe.refused |= count < buf.len();
        if count == 0 && !buf.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        pipe.send.extend(&buf[..count]);
        Ok(count)
    }

    /// As the kernel does it: what fits of all of them.
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let joined: Vec<&[u8]> = bufs.iter().map(|buf| &**buf).collect();
        self.write(&joined.concat())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl socket::Socket for Socket {
    /// Connects to a new pair. The test takes the other end by [`called`].
    fn connect(_: SocketAddr) -> io::Result<Self> {
        let (near, far) = pair(usize::MAX);
        CALLED.set(Some(far));
        Ok(near)
    }

    fn is_connected(&self) -> io::Result<bool> {
        Ok(!DEAF.get())
    }

    fn hurry(&self) {}

    fn end_output(&self) {
        self.end();
    }
}

/// The other end of the connection that was made last, once.
pub(crate) fn called() -> Option<Socket> {
    CALLED.take()
}

/// From now on connections are neither accepted nor refused.
pub(crate) fn accept_nobody() {
    DEAF.set(true);
}
