//! A non-blocking byte stream, plain or TLS, in either role. The only file that drives rustls.
//!
//! mio reports readiness once per change (edge-triggered), so the transport remembers it. Its
//! owner tells it what the poll said ([`Transport::mark_readable`], [`Transport::mark_writable`])
//! and reads, writes and flushes until `WouldBlock`.
//!
//! Invariants, named in the loop's description (`docs/architecture.md`):
//!
//! - **R1** `WouldBlock` from `read` means that the kernel is drained or the turn's allowance is
//!   used up; [`Transport::has_more`] tells which.
//! - **R2** A transport that is not read for backpressure keeps `has_more`: no second event comes.
//! - **W1** `WouldBlock` from `write` implies [`Transport::is_blocked`], so a writable event will
//!   come. What the WebSocket keeps has no other way to leave.
//!
//! Two ways to read: `Read`, in small pieces, for heads and handshakes; and [`Transport::fill`], for
//! all that comes after, which takes what there is with one system call.

use std::io::{self, ErrorKind, Read, Write};

use super::inbox::{Inbox, Open};
use super::suites;

/// Bytes that one turn of the loop may read from one transport: no peer can hold the loop.
pub const TURN_ALLOWANCE: usize = 128 * 1024;

/// A byte stream `S` (a socket, or a test's stand-in) with optional TLS over it.
#[derive(Debug)]
pub struct Transport<S> {
    wire: Wire<S>,
    tls: Option<Box<rustls::Connection>>,
    /// rustls may hold opened bytes, or the peer's end. Nothing in the kernel tells of them, so an owner
    /// that trusted `drained` alone would wait for an event that never comes. [`Transport::fill`]
    /// leaves no bytes, only the end.
    left: bool,
}

/// TLS between this process and a proxy that wants it.
#[derive(Debug)]
struct Tunnel {
    tls: rustls::Connection,
    /// It may hold opened bytes. As with `Transport::left`, no event tells of them.
    left: bool,
}

/// The socket with what is known of the kernel's side of it.
#[derive(Debug)]
struct Wire<S> {
    stream: S,
    /// TLS to a proxy, under our own TLS to the service; `None` where the kernel carries our bytes as they
    /// are. Its handshake is over before it comes here.
    tunnel: Option<Box<Tunnel>>,
    /// The last read took all there was; nothing new until the next readable event. Set too early, bytes
    /// would lie in the kernel unnoticed (R1).
    drained: bool,
    /// The peer's end was announced: a short read no longer proves that nothing follows.
    ending: bool,
    /// The kernel refused a write, or took only a part of one; a writable event will follow. Set
    /// without that, the connection would stand still for ever (W1).
    blocked: bool,
    /// Bytes that may still be read in this turn. At zero a read says `WouldBlock` although `drained` is
    /// not set, so the owner comes back in the next turn without an event.
    allowance: usize,
    /// Bytes since the beginning, as the kernel counts them: with TLS, those of its records.
    received: u64,
    sent: u64,
}

impl<S: Read + Write> Transport<S> {
    /// A plain transport. Nothing is known of the kernel's side yet: the first read finds out.
    pub fn plain(stream: S) -> Self {
        Self { wire: Wire::new(stream), tls: None, left: false }
    }

    /// A TLS transport in the role of `connection`. The handshake happens within `read` and
    /// `flush`; bytes written before its end wait inside rustls and leave only after it.
    pub fn tls(stream: S, mut connection: rustls::Connection) -> Self {
        connection.set_buffer_limit(Some(TLS_BUFFER));
        Self { wire: Wire::new(stream), tls: Some(Box::new(connection)), left: true }
    }

    /// The proxy has opened its tunnel: from now on `connection` speaks through what this transport
    /// carries, plain or TLS. `early` are bytes from the far end that came with the proxy's answer.
    ///
    /// # Errors
    /// `InvalidData` with what rustls says of the early bytes.
    pub fn tunnelled(
        mut self,
        mut connection: rustls::Connection,
        early: &[u8],
    ) -> io::Result<Self> {
        connection.set_buffer_limit(Some(TLS_BUFFER));
        let mut rest = early;
        while !rest.is_empty() {
            connection.read_tls(&mut rest)?;
            let processed = connection.process_new_packets();
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
        if let Some(tls) = self.tls.take() {
            self.wire.tunnel = Some(Box::new(Tunnel { tls: *tls, left: self.left }));
        }
        Ok(Self { wire: self.wire, tls: Some(Box::new(connection)), left: true })
    }

    /// The poll reported new bytes, or (`ending`) that the peer will send no more.
    pub fn mark_readable(&mut self, ending: bool) {
        self.wire.drained = false;
        self.wire.ending |= ending;
    }

    /// The poll reported room for writing.
    pub fn mark_writable(&mut self) {
        self.wire.blocked = false;
    }

    /// A new turn of the loop: the reading allowance is full again.
    pub fn begin_turn(&mut self) {
        self.wire.allowance = TURN_ALLOWANCE;
    }

    /// Whether a read may still find something without a new readable event (R2).
    pub fn has_more(&self) -> bool {
        self.wire.has_more()
    }

    /// Whether [`fill`](Self::fill) may find something.
    pub(super) fn may_fill(&self) -> bool {
        self.wire.has_more() || self.left
    }

    /// Whether the kernel refused the last write, so that only a writable event can help (W1).
    pub fn is_blocked(&self) -> bool {
        self.wire.blocked
    }

    /// Whether the TLS handshake is still going on.
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// TLS version and cipher that both sides have agreed on, for people. `None` without TLS, and before
    /// the handshake has come so far.
    pub fn agreed(&self) -> Option<String> {
        agreed(self.tls.as_ref()?)
    }

    /// Bytes the kernel has handed over so far (TLS overhead included).
    pub fn received(&self) -> u64 {
        self.wire.received
    }

    /// Bytes the kernel has taken so far (TLS overhead included).
    pub fn sent(&self) -> u64 {
        self.wire.sent
    }

    /// The stream underneath, for registration and socket options.
    pub fn stream(&self) -> &S {
        &self.wire.stream
    }

    /// The stream underneath, for registration and shutdown.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.wire.stream
    }

    /// Reads what there is into the inbox, at most one usual read; the bytes. `Ok(0)` is the peer's
    /// end, as for `read`.
    ///
    /// # Errors
    /// `WouldBlock` as R1 says; what the kernel or TLS says.
    pub fn fill(&mut self, inbox: &mut Inbox) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            let open = inbox.open();
            let count = self.wire.read(open.room())?;
            open.filled(count);
            return Ok(count);
        };
        let (open, sealed) = inbox.with_sealed();
        if self.left {
            // What the handshake has left behind comes first.
            let opened = open_records(tls, open)?;
            if opened.end || opened.bytes > 0 {
                return Ok(opened.bytes);
            }
        }
        let opened = fill_tls(tls, &mut self.wire, open, sealed)?;
        // The end that TLS has announced behind these bytes is told next time.
        self.left = opened.end;
        Ok(opened.bytes)
    }

    /// Whether TLS has bytes that the kernel has not taken.
    pub fn holds_output(&self) -> bool {
        let tunnel = self.wire.tunnel.as_ref();
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
            || tunnel.is_some_and(|tunnel| tunnel.tls.wants_write())
    }

    /// Announces the end of our data: TLS `close_notify` if there is TLS. Flush afterwards.
    pub fn send_close_notify(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
    }
}

impl<S: Read + Write> Read for Transport<S> {
    /// Reads decrypted bytes. `Ok(0)` is the peer's end, announced by TLS or not: the protocols
    /// above have their own way to tell a whole message from a cut one.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.wire.read(buf);
        };
        self.left = true;
        loop {
            match tls.reader().read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            let taken = tls.read_tls(&mut self.wire)?;
            let was_handshaking = tls.is_handshaking();
            let processed = tls.process_new_packets();
            if was_handshaking && !tls.is_handshaking() {
                tell_agreed(tls);
            }
            // Handshake answers and alerts leave at once; what is refused waits for `flush`.
            let flushed = flush_tls(tls, &mut self.wire);
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            flushed?;
            if taken == 0 {
                return Ok(0);
            }
        }
    }
}

impl<S: Read + Write> Write for Transport<S> {
    /// Takes bytes into TLS or the kernel. When rustls is at its limit, what it holds is flushed
    /// and the write tried once more: without that retry its `WouldBlock` would promise a
    /// writable event that nobody ordered (W1).
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.wire.write(buf);
        };
        if self.wire.blocked {
            return Err(ErrorKind::WouldBlock.into());
        }
        match tls.writer().write(buf)? {
            0 if !buf.is_empty() => {}
            taken => return Ok(taken),
        }
        flush_tls(tls, &mut self.wire)?;
        match tls.writer().write(buf)? {
            // To a writer `Ok(0)` is the end, so "full" must be said in its own word.
            0 => Err(ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        }
    }

    /// Moves what rustls holds into the kernel. Blocked is `Ok`: it shows in `is_blocked`.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => flush_tls(tls, &mut self.wire),
            None => Ok(()),
        }
    }
}

/// One read from the kernel, opened record by record into the inbox.
fn fill_tls<S: Read + Write>(
    tls: &mut rustls::Connection,
    wire: &mut Wire<S>,
    open: &mut Open,
    sealed: &mut [u8],
) -> io::Result<Opened> {
    loop {
        let mut opened = Opened { bytes: 0, end: false };
        let count = wire.read(sealed)?;
        if count == 0 {
            return Ok(opened);
        }
        let mut rest = &sealed[..count];
        while !rest.is_empty() {
            if tls.read_tls(&mut rest)? == 0 {
                return Err(ErrorKind::InvalidData.into());
            }
            let processed = tls.process_new_packets();
            if let Err(error) = processed {
                // The alert leaves at once, if it can.
                let _ = flush_tls(tls, wire);
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
            // rustls holds little, so it is emptied after each piece.
            let part = open_records(tls, open)?;
            opened = Opened { bytes: opened.bytes + part.bytes, end: part.end };
        }
        if count > RUSTLS_READ {
            // Its buffer, grown for a long record, shrinks with the next reading only.
            let _ = tls.read_tls(&mut Nothing);
        }
        // Handshake answers leave at once; what is refused waits for `flush`.
        flush_tls(tls, wire)?;
        if opened.end || opened.bytes > 0 {
            return Ok(opened);
        }
    }
}

fn agreed(tls: &rustls::Connection) -> Option<String> {
    let suite = tls.negotiated_cipher_suite()?.suite();
    Some(suites::named(tls.protocol_version()?, suite))
}

/// Logs what a handshake has agreed on. It happens once for each connection, when the handshake ends.
fn tell_agreed(tls: &rustls::Connection) {
    let other = match tls {
        rustls::Connection::Client(_) => "the service",
        rustls::Connection::Server(_) => "a client",
    };
    log::debug!("TLS with {other}: {}", agreed(tls).unwrap_or_default());
}

/// Bytes that rustls reads at once, and keeps allocated.
const RUSTLS_READ: usize = 4096;

/// A stream on which nothing comes now.
struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}

struct Opened {
    bytes: usize,
    /// TLS itself has announced the peer's end.
    end: bool,
}

/// Moves all opened bytes from rustls to the inbox.
fn open_records(tls: &mut rustls::Connection, open: &mut Open) -> io::Result<Opened> {
    let mut bytes = 0;
    loop {
        match tls.reader().read(open.room()) {
            Ok(0) => return Ok(Opened { bytes, end: true }),
            Ok(count) => {
                open.filled(count);
                bytes += count;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(Opened { bytes, end: false });
            }
            Err(error) => return Err(error),
        }
    }
}

/// Writes TLS records until none is left or the kernel refuses.
fn flush_tls<S: Read + Write>(tls: &mut rustls::Connection, wire: &mut Wire<S>) -> io::Result<()> {
    while tls.wants_write() && !wire.blocked {
        match tls.write_tls(wire) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    wire.flush()
}

impl<S> Wire<S> {
    /// Whether a read may find something without a new event.
    fn has_more(&self) -> bool {
        !self.drained || self.tunnel.as_ref().is_some_and(|tunnel| tunnel.left)
    }

    fn new(stream: S) -> Self {
        Self {
            stream,
            tunnel: None,
            drained: false,
            ending: false,
            blocked: false,
            allowance: TURN_ALLOWANCE,
            received: 0,
            sent: 0,
        }
    }
}

impl<S: Read + Write> Read for Wire<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // The tunnel comes back in any case. Meanwhile this is the kernel's side alone.
        let Some(mut tunnel) = self.tunnel.take() else { return self.read_kernel(buf) };
        let result = tunnel.read(self, buf);
        self.tunnel = Some(tunnel);
        result
    }
}

impl<S: Read> Wire<S> {
    fn read_kernel(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.drained || self.allowance == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let room = buf.len().min(self.allowance);
        match retry_interrupted(|| self.stream.read(&mut buf[..room])) {
            Ok(taken) => {
                self.allowance -= taken;
                self.received += taken as u64;
                // A short read empties a stream socket, and later bytes raise a new event: the
                // read that would only hear WouldBlock is saved. Only the peer's end may already
                // stand behind these bytes without an event of its own.
                self.drained = taken > 0 && taken < room && !self.ending;
                Ok(taken)
            }
            Err(error) => {
                if error.kind() == ErrorKind::WouldBlock {
                    self.drained = true;
                    // The end that was announced is not this socket's: those of a race share a token.
                    self.ending = false;
                }
                Err(error)
            }
        }
    }
}

impl<S: Read + Write> Write for Wire<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.tunnel.is_some() {
            return self.write_vectored(&[io::IoSlice::new(buf)]);
        }
        self.write_with(buf.len(), |stream| stream.write(buf))
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let Some(mut tunnel) = self.tunnel.take() else {
            let offered = bufs.iter().map(|buf| buf.len()).sum();
            return self.write_with(offered, |stream| stream.write_vectored(bufs));
        };
        let result = tunnel.write(self, bufs);
        self.tunnel = Some(tunnel);
        result
    }

    /// Moves what a tunnel holds into the kernel. Blocked is `Ok`.
    fn flush(&mut self) -> io::Result<()> {
        let Some(mut tunnel) = self.tunnel.take() else { return Ok(()) };
        let result = flush_tls(&mut tunnel.tls, self);
        self.tunnel = Some(tunnel);
        result
    }
}

impl Tunnel {
    fn read<S: Read + Write>(&mut self, wire: &mut Wire<S>, buf: &mut [u8]) -> io::Result<usize> {
        self.left = true;
        loop {
            match self.tls.reader().read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.left = false,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            let taken = self.tls.read_tls(wire)?;
            let processed = self.tls.process_new_packets();
            let flushed = flush_tls(&mut self.tls, wire);
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            flushed?;
            if taken == 0 {
                return Ok(0);
            }
        }
    }

    /// As `Transport::write`: when rustls is at its limit, it is flushed and tried once more. So a
    /// `WouldBlock` means that the kernel has refused something (W1).
    fn write<S: Read + Write>(
        &mut self,
        wire: &mut Wire<S>,
        bufs: &[io::IoSlice<'_>],
    ) -> io::Result<usize> {
        if wire.blocked {
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = match self.tls.writer().write_vectored(bufs)? {
            0 => {
                flush_tls(&mut self.tls, wire)?;
                self.tls.writer().write_vectored(bufs)?
            }
            taken => taken,
        };
        flush_tls(&mut self.tls, wire)?;
        if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }
}

impl<S: Write> Wire<S> {
    fn write_with(
        &mut self,
        offered: usize,
        mut write: impl FnMut(&mut S) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.blocked {
            return Err(ErrorKind::WouldBlock.into());
        }
        match retry_interrupted(|| write(&mut self.stream)) {
            Ok(taken) => {
                self.sent += taken as u64;
                // A short write has filled the kernel's buffer, and room there will raise an event:
                // the write that would only hear WouldBlock is saved. (`S` must write all buffers
                // that fit, as sockets do, not only the first.)
                self.blocked = taken < offered;
                Ok(taken)
            }
            Err(error) => {
                self.blocked |= error.kind() == ErrorKind::WouldBlock;
                Err(error)
            }
        }
    }
}

/// A signal in the middle of a system call is no event of the connection.
fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Plaintext or records that rustls may hold per direction, in bytes: about half a second of
/// audio as base64, so that a barge-in is never stuck behind more.
const TLS_BUFFER: usize = 32 * 1024;
