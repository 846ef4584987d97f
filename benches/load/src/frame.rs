//! As much of HTTP upgrades and WebSocket frames as a load needs, cheaply.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The mask of everything the callers send. RFC 6455 wants a random one; a relay's work is the same.
pub(crate) const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame's head.
pub(crate) struct Head {
    pub(crate) opcode: u8,
    pub(crate) fin: bool,
    pub(crate) mask: Option<[u8; 4]>,
    /// Bytes of the head itself.
    pub(crate) bytes: usize,
    /// Bytes of the payload behind it.
    pub(crate) payload: usize,
}

impl Head {
    /// The head at the beginning of `data`, once it is complete.
    pub(crate) fn parse(data: &[u8]) -> Option<Self> {
        let (&first, &second) = (data.first()?, data.get(1)?);
        let (payload, mut bytes) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes(data.get(2..4)?.try_into().ok()?)), 4),
            127 => {
                let long = u64::from_be_bytes(data.get(2..10)?.try_into().ok()?);
                (usize::try_from(long).ok()?, 10)
            }
            short => (usize::from(short), 2),
        };
        let mut mask = None;
        if second & 0x80 != 0 {
            mask = Some(data.get(bytes..bytes + 4)?.try_into().ok()?);
            bytes += 4;
        }
        Some(Self { opcode: first & 0x0f, fin: first & 0x80 != 0, mask, bytes, payload })
    }
}

/// Appends the head of a whole message.
pub(crate) fn head(out: &mut Vec<u8>, opcode: u8, payload: usize, mask: Option<[u8; 4]>) {
    out.push(0x80 | opcode);
    let flag = if mask.is_some() { 0x80 } else { 0 };
    match payload {
        0..126 => out.push(flag | payload as u8),
        126..=0xffff => {
            out.push(flag | 126);
            out.extend_from_slice(&(payload as u16).to_be_bytes());
        }
        _ => {
            out.push(flag | 127);
            out.extend_from_slice(&(payload as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask.unwrap_or_default()[..if mask.is_some() { 4 } else { 0 }]);
}

/// Masks or unmasks in place.
pub(crate) fn mask(data: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([key, key].concat().try_into().expect("eight bytes"));
    let mut words = data.chunks_exact_mut(8);
    for word in words.by_ref() {
        let masked = u64::from_ne_bytes((&*word).try_into().expect("eight bytes")) ^ wide;
        word.copy_from_slice(&masked.to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// A client's request for an upgrade.
pub(crate) fn request(host: &str, target: &str, extra: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extra}\r\n"
    )
}

/// The answer 101 to a request head.
pub(crate) fn upgrade(head: &str) -> Option<String> {
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    })?;
    let joined = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, joined.as_bytes()));
    Some(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ))
}

/// Where the head of an HTTP message ends, once it is complete.
pub(crate) fn head_end(data: &[u8]) -> Option<usize> {
    data.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}
