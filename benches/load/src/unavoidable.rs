//! The work that no relay can avoid for one frame in one direction: one receive, TLS opened, unmask,
//! base64, mask, TLS sealed, one send. No poll, no parser, no state, no queue.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::LazyLock;

use base64::Engine as _;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use base64::engine::Simd as Fastest;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use base64::engine::general_purpose::GeneralPurpose as Fastest;
use base64::engine::general_purpose::PAD;
use rustls::Connection;

use crate::frame;

/// What stands around the base64 of a frame for the service.
pub(crate) const APPEND: (&[u8], &[u8]) =
    (br#"{"type":"input_audio_buffer.append","audio":""#, br#""}"#);

/// The engine that the daemon has, too: a vector engine where there is one.
pub(crate) static BASE64: LazyLock<Fastest> = LazyLock::new(|| {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    return Fastest::standard(PAD);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return Fastest::new(&base64::alphabet::STANDARD, PAD);
});

/// A caller's head: 20 ms or more, masked.
const CLIENT_HEAD: usize = 8;

/// One end of the relay: a blocking socket or memory, with TLS or plain.
pub(crate) struct Side<S = TcpStream> {
    pub(crate) stream: S,
    pub(crate) tls: Option<Connection>,
}

/// Memory that all calls share.
pub(crate) struct Buffers {
    wire: Box<[u8]>,
    plain: Vec<u8>,
    message: Vec<u8>,
    sealed: Vec<u8>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        let sized = || Vec::with_capacity(64 * 1_024);
        let wire = vec![0; 64 * 1_024].into();
        Self { wire, plain: sized(), message: sized(), sealed: sized() }
    }
}

impl<S: Read + Write> Side<S> {
    /// One receive, opened into `plain`; false at the end.
    pub(crate) fn receive(&mut self, wire: &mut [u8], plain: &mut Vec<u8>) -> io::Result<bool> {
        let count = self.stream.read(wire)?;
        let Some(tls) = &mut self.tls else {
            plain.extend_from_slice(&wire[..count]);
            return Ok(count > 0);
        };
        let mut sealed = &wire[..count];
        while !sealed.is_empty() {
            tls.read_tls(&mut sealed)?;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let old = plain.len();
            plain.resize(old + state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut plain[old..])?;
        }
        Ok(count > 0)
    }

    /// Seals and sends at once.
    pub(crate) fn send(&mut self, message: &[u8], sealed: &mut Vec<u8>) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return self.stream.write_all(message);
        };
        tls.writer().write_all(message)?;
        sealed.clear();
        while tls.wants_write() {
            tls.write_tls(sealed)?;
        }
        self.stream.write_all(sealed)
    }
}

/// Client to service; false at the client's end.
pub(crate) fn forth<S: Read + Write>(
    client: &mut Side<S>,
    service: &mut Side<S>,
    buffers: &mut Buffers,
) -> io::Result<bool> {
    let Buffers { wire, plain, message, sealed } = buffers;
    plain.clear();
    loop {
        if !client.receive(wire, plain)? {
            return Ok(false);
        }
        match frame::Head::parse(plain) {
            Some(head) if head.opcode != frame::BINARY => return Ok(false),
            Some(head) if plain.len() >= head.bytes + head.payload => break,
            _ => {}
        }
    }
    let (head, pcm) = plain.split_at_mut(CLIENT_HEAD);
    frame::mask(pcm, [head[4], head[5], head[6], head[7]]);
    message.clear();
    let chars = pcm.len().div_ceil(3) * 4;
    let length = APPEND.0.len() + chars + APPEND.1.len();
    frame::head(message, frame::TEXT, length, Some(frame::MASK));
    let start = message.len();
    message.extend_from_slice(APPEND.0);
    let text = message.len();
    message.resize(text + chars, 0);
    let _ = BASE64.encode_slice(pcm, &mut message[text..]);
    message.extend_from_slice(APPEND.1);
    frame::mask(&mut message[start..], frame::MASK);
    service.send(message, sealed)?;
    Ok(true)
}

/// Service to client: a delta whose base64 has `chars` characters and two bytes behind it.
pub(crate) fn back<S: Read + Write>(
    service: &mut Side<S>,
    client: &mut Side<S>,
    chars: usize,
    buffers: &mut Buffers,
) -> io::Result<()> {
    let Buffers { wire, plain, message, sealed } = buffers;
    plain.clear();
    while plain.len() < chars {
        if !service.receive(wire, plain)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let text = &plain[plain.len() - 2 - chars..plain.len() - 2];
    message.clear();
    frame::head(message, frame::BINARY, chars / 4 * 3, None);
    let start = message.len();
    message.resize(start + chars / 4 * 3, 0);
    let decoded = BASE64.decode_slice(text, &mut message[start..]);
    decoded.map_err(|_| io::Error::other("no base64"))?;
    client.send(message, sealed)
}
