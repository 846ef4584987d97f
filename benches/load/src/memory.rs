//! Connections in memory: what is written on one end lies ready on the other, at once and whole.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::rc::Rc;

/// One end.
pub(crate) struct Memory {
    incoming: Rc<RefCell<Pipe>>,
    outgoing: Rc<RefCell<Pipe>>,
}

/// One direction.
#[derive(Default)]
struct Pipe {
    bytes: Vec<u8>,
    /// How many of them were read.
    taken: usize,
}

/// Both ends of a connection.
pub(crate) fn pair() -> (Memory, Memory) {
    let pipe = || Rc::new(RefCell::new(Pipe::default()));
    let (here, there) = (pipe(), pipe());
    let near = Memory { incoming: Rc::clone(&here), outgoing: Rc::clone(&there) };
    (near, Memory { incoming: there, outgoing: here })
}

impl Read for Memory {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Pipe { bytes, taken } = &mut *self.incoming.borrow_mut();
        let count = buf.len().min(bytes.len() - *taken);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        buf[..count].copy_from_slice(&bytes[*taken..*taken + count]);
        *taken += count;
        if *taken == bytes.len() {
            (*taken, _) = (0, bytes.clear());
        }
        Ok(count)
    }
}

impl Write for Memory {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.outgoing.borrow_mut().bytes.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let pipe = &mut *self.outgoing.borrow_mut();
        bufs.iter().for_each(|buf| pipe.bytes.extend_from_slice(buf));
        Ok(bufs.iter().map(|buf| buf.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
