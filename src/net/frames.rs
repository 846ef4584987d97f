//! WebSocket framing (RFC 6455, section 5): pure bytes, no stream and no state.
//!
//! Frames are read where they lie and written where they leave from, so that a relayed frame is
//! copied once and allocates nothing. [`super::ws`] makes a connection of it.

use std::hash::{BuildHasher, RandomState};

/// Which end of a connection a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It asked for the connection, and masks what it sends.
    Client,
    /// It was asked.
    Server,
}

/// The most a control frame may carry, in bytes.
pub(super) const MAX_CONTROL: usize = 125;

/// Bytes of a head whose length takes 16 bits: almost every audio frame's.
const USUAL_HEAD: usize = 4;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn of(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The head of a frame, found sound as far as one frame can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) opcode: Opcode,
    pub(super) last: bool,
    /// Bytes of the head itself.
    pub(super) size: usize,
    /// Bytes that follow it.
    pub(super) length: u64,
    pub(super) mask: Option<[u8; 4]>,
}

/// Reads the head that `bytes` begin with, sent to a peer in `role`; `None` until it is whole.
///
/// # Errors
/// What is wrong with it (close code 1002).
pub(super) fn head(bytes: &[u8], role: Role) -> Result<Option<Head>, &'static str> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    if first & 0x70 != 0 {
        return Err("reserved bits are set");
    }
    let opcode = Opcode::of(first & 0x0f).ok_or("an unknown kind of frame")?;
    let last = first & 0x80 != 0;
    let masked = second & 0x80 != 0;
    match role {
        Role::Server if !masked => return Err("a frame is not masked"),
        Role::Client if masked => return Err("a frame is masked"),
        _ => {}
    }
    let short = second & 0x7f;
    if opcode.is_control() && !last {
        return Err("a control frame is fragmented");
    }
    if opcode.is_control() && usize::from(short) > MAX_CONTROL {
        return Err("a control frame is too long");
    }
    let (length, rest, least) = match short {
        126 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest, 126),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from_be_bytes(*length), rest, 1 << 16),
            None => return Ok(None),
        },
        short => (u64::from(short), rest, 0),
    };
    if length < least {
        return Err("a length is written longer than it is");
    }
    let mask = match (masked, rest.first_chunk()) {
        (false, _) => None,
        (true, None) => return Ok(None),
        (true, mask) => mask.copied(),
    };
    let size = bytes.len() - rest.len() + if masked { 4 } else { 0 };
    Ok(Some(Head { opcode, last, size, length, mask }))
}

/// Masks or unmasks.
pub(super) fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let flip = |word: &mut [u8; 8]| *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    let (words, rest) = bytes.as_chunks_mut();
    // Written out, since `opt-level = "s"` unrolls no loop.
    let (eights, words) = words.as_chunks_mut();
    for [a, b, c, d, e, f, g, h] in eights {
        flip(a);
        flip(b);
        flip(c);
        flip(d);
        flip(e);
        flip(f);
        flip(g);
        flip(h);
    }
    words.iter_mut().for_each(flip);
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// Writes one frame whose payload `fill` appends; what it returns. When it fails, `out` is as before.
///
/// # Errors
/// Those of `fill`.
pub(super) fn write<T, E>(
    out: &mut Vec<u8>,
    (opcode, last): (Opcode, bool),
    key: Option<[u8; 4]>,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
) -> Result<T, E> {
    let start = out.len();
    let mask_bytes = if key.is_some() { 4 } else { 0 };
    out.extend_from_slice(&[0; USUAL_HEAD + 4][..USUAL_HEAD + mask_bytes]);
    let filled = match fill(out) {
        Ok(filled) => filled,
        Err(error) => {
            out.truncate(start);
            return Err(error);
        }
    };
    let payload = start + USUAL_HEAD + mask_bytes;
    let length = out.len() - payload;
    if let Some(key) = key {
        mask(&mut out[payload..], key);
    }
    let mut head = [0; 14];
    head[0] = opcode.bits() | if last { 0x80 } else { 0 };
    let mut size = 2;
    // All casts hold by the comparison before them.
    #[allow(clippy::cast_possible_truncation, reason = "compared first")]
    match length {
        0..=125 => head[1] = length as u8,
        126..=0xffff => {
            head[1] = 126;
            head[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            size = 4;
        }
        _ => {
            head[1] = 127;
            head[2..10].copy_from_slice(&(length as u64).to_be_bytes());
            size = 10;
        }
    }
    if let Some(key) = key {
        head[1] |= 0x80;
        head[size..size + 4].copy_from_slice(&key);
        size += 4;
    }
    move_payload(out, payload, start + size, length);
    out[start..start + size].copy_from_slice(&head[..size]);
    Ok(filled)
}

/// Short and very long payloads have another head than the one that room was left for.
fn move_payload(out: &mut Vec<u8>, from: usize, to: usize, length: usize) {
    if from == to {
        return;
    }
    if to > from {
        out.resize(to + length, 0);
    }
    out.copy_within(from..from + length, to);
    out.truncate(to + length);
}

/// Masking keys that nobody who sees only some of them can foretell (section 10.3): a keyed hash
/// (SipHash, its key from the system's randomness) of a counter. No system call for each frame.
#[derive(Debug)]
pub(super) struct Masks {
    keyed: RandomState,
    count: u64,
}

impl Masks {
    pub(super) fn new() -> Self {
        Self { keyed: RandomState::new(), count: 0 }
    }

    pub(super) fn next(&mut self) -> [u8; 4] {
        self.count += 1;
        let [a, b, c, d, ..] = self.keyed.hash_one(self.count).to_ne_bytes();
        [a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize, key: Option<[u8; 4]>) -> Vec<u8> {
        let payload: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
        let mut out = b"before".to_vec();
        let fill = |out: &mut Vec<u8>| {
            out.extend_from_slice(&payload);
            Ok::<_, ()>(())
        };
        write(&mut out, (Opcode::Binary, true), key, fill).unwrap();
        assert!(out.starts_with(b"before"));
        out.split_off(6)
    }

    #[test]
    fn what_is_written_is_read_again_at_every_length_of_length() {
        let lengths = [0, 1, 7, 8, 9, 125, 126, 127, 960, 0xffff, 0x1_0000, 0x1_0001];
        for length in lengths {
            for key in [None, Some([1, 2, 3, 4])] {
                let role = if key.is_some() { Role::Server } else { Role::Client };
                let mut bytes = frame(length, key);
                for cut in 0..bytes.len().min(14) {
                    let part = head(&bytes[..cut], role).unwrap();
                    assert!(part.is_none_or(|head| head.size <= cut), "{length} cut at {cut}");
                }
                let found = head(&bytes, role).unwrap().unwrap();
                assert_eq!((found.opcode, found.last, found.mask), (Opcode::Binary, true, key));
                assert_eq!(found.length, length as u64);
                assert_eq!(bytes.len(), found.size + length);
                if let Some(key) = key {
                    mask(&mut bytes[found.size..], key);
                }
                let right = |(at, byte): (usize, &u8)| *byte == at.to_le_bytes()[0];
                assert!(bytes[found.size..].iter().enumerate().all(right), "{length} {key:?}");
                let other = if role == Role::Server { Role::Client } else { Role::Server };
                assert!(head(&bytes, other).is_err());
            }
        }
    }

    #[test]
    fn a_frame_that_cannot_be_filled_leaves_nothing() {
        let mut out = b"before".to_vec();
        let fill = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"half");
            Err::<(), _>("no")
        };
        assert_eq!(write(&mut out, (Opcode::Text, true), Some([9; 4]), fill), Err("no"));
        assert_eq!(out, b"before");
    }

    #[test]
    fn heads_that_break_the_rules() {
        let wrong: [&[u8]; 10] = [
            &[0xc2, 0x81],                                         // a reserved bit
            &[0x83, 0x81],                                         // a reserved kind
            &[0x8b, 0x81],                                         // a reserved control frame
            &[0x82, 0x01],                                         // no mask
            &[0x09, 0x81],                                         // a fragmented ping
            &[0x89, 0xfe],                                         // a long ping
            &[0x88, 0xff],                                         // a longer close
            &[0x82, 0xfe, 0, 125],                                 // 125 in two bytes
            &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],           // 65535 in eight
            &[0x80 | 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], // all of it
        ];
        for bytes in wrong {
            assert!(head(bytes, Role::Server).is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn masks_differ_from_frame_to_frame_and_from_peer_to_peer() {
        let (mut a, mut b) = (Masks::new(), Masks::new());
        let all: std::collections::HashSet<_> =
            (0..1000).flat_map(|_| [a.next(), b.next()]).collect();
        // Of 2,000 in four billion hardly two are the same.
        assert!(all.len() > 1990);
    }
}
