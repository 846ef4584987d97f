//! Single WebSocket frames (RFC 6455, section 5): pure bytes, no stream and no state.
//!
//! tungstenite reads and writes the headers. Three things are ours, since it does not offer them: a
//! payload is read where it lies and written where it leaves from, so that a relayed frame is copied
//! once and allocates nothing; it is masked in place; and the rules that tungstenite leaves to the
//! owner of a header are checked here, in its words.

use std::hash::{BuildHasher, RandomState};
use std::io::Cursor;

use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::protocol::Role;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, OpCode};

/// The most that a control frame may carry, in bytes (section 5.5).
pub(super) const MAX_CONTROL: usize = 125;

/// Bytes of a header whose length takes 16 bits, without a masking key: almost every audio frame's.
const USUAL_HEADER: usize = 4;

/// What a peer did wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What the close frame will say: `Protocol` (1002), `Invalid` (1007) or `Size` (1009).
    pub(super) code: CloseCode,
    /// The same in words, for the log and for the peer's owner.
    pub(super) what: String,
}

impl Fault {
    /// A fault in these words, which stand within a sentence.
    pub(super) fn new(code: CloseCode, what: impl ToString) -> Self {
        let mut what = what.to_string();
        if let Some(first) = what.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        Self { code, what }
    }
}

impl From<ProtocolError> for Fault {
    fn from(error: ProtocolError) -> Self {
        Self::new(CloseCode::Protocol, error)
    }
}

impl From<CapacityError> for Fault {
    fn from(error: CapacityError) -> Self {
        match error {
            CapacityError::MessageTooLong { max_size, .. } => {
                Self::new(CloseCode::Size, format!("a message is longer than {max_size} bytes"))
            }
            CapacityError::TooManyHeaders => Self::new(CloseCode::Size, error),
        }
    }
}

impl From<Error> for Fault {
    /// A header that is read from memory can only break the protocol.
    fn from(error: Error) -> Self {
        match error {
            Error::Protocol(error) => error.into(),
            other => Self::new(CloseCode::Protocol, other),
        }
    }
}

/// The header of a frame that has come, found sound as far as a single frame can be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReceivedHeader {
    pub(super) header: FrameHeader,
    /// Bytes of the header itself: 2 to 14.
    pub(super) size: usize,
    /// Bytes of the payload that follows it. Nobody has compared them with a bound yet.
    pub(super) length: u64,
}

/// Reads the header that `bytes` begin with, as the peer in `role` hears it. `None` means that the
/// header is not whole; the caller tries again when more bytes have come.
///
/// # Errors
/// The rule that it breaks (section 5.2, and 5.5 for control frames).
pub(super) fn read_header(bytes: &[u8], role: Role) -> Result<Option<ReceivedHeader>, Fault> {
    if bytes.len() < 2 {
        // The usual case at the end of a turn is worth no parser.
        return Ok(None);
    }
    let mut cursor = Cursor::new(bytes);
    let Some((header, length)) = FrameHeader::parse(&mut cursor)? else {
        return Ok(None);
    };
    if header.rsv1 || header.rsv2 || header.rsv3 {
        // No extension is ever agreed on, so nothing may use these bits.
        return Err(ProtocolError::NonZeroReservedBits.into());
    }
    match (role, header.mask) {
        (Role::Server, None) => return Err(ProtocolError::UnmaskedFrameFromClient.into()),
        (Role::Client, Some(_)) => return Err(ProtocolError::MaskedFrameFromServer.into()),
        _ => {}
    }
    if let OpCode::Control(_) = header.opcode {
        if !header.is_final {
            return Err(ProtocolError::FragmentedControlFrame.into());
        }
        if length > MAX_CONTROL as u64 {
            return Err(ProtocolError::ControlFrameTooBig.into());
        }
    }
    let size = header.len(length);
    if cursor.position() != size as u64 {
        return Err(Fault::new(CloseCode::Protocol, "a length is not in its shortest form"));
    }
    Ok(Some(ReceivedHeader { header, size, length }))
}

/// Appends one frame to `out`; `fill` appends its payload there. Returns what `fill` returns. The
/// payload is masked where it stands if `header` has a masking key.
///
/// # Errors
/// Those of `fill`. `out` is then as before.
pub(super) fn write<T, E>(
    out: &mut Vec<u8>,
    header: &FrameHeader,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
) -> Result<T, E> {
    let start = out.len();
    // The header tells the length, which only `fill` knows. So room is left for the usual header.
    let room = USUAL_HEADER + if header.mask.is_some() { 4 } else { 0 };
    out.extend_from_slice(&[0; USUAL_HEADER + 4][..room]);
    let filled = match fill(out) {
        Ok(filled) => filled,
        Err(error) => {
            out.truncate(start);
            return Err(error);
        }
    };
    let payload = start + room;
    let length = out.len() - payload;
    if let Some(key) = header.mask {
        mask(&mut out[payload..], key);
    }
    let size = header.len(length as u64);
    move_payload(out, payload, start + size, length);
    let written = header.format(length as u64, &mut &mut out[start..start + size]);
    debug_assert!(written.is_ok(), "the room is exactly what the header takes");
    Ok(filled)
}

/// Short and very long payloads have another header than the one that room was left for.
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

/// Masks or unmasks a payload in place (section 5.3). tungstenite has the same, but keeps it to itself.
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

/// Masking keys that nobody who sees only some of them can foretell (section 10.3): a keyed hash
/// (SipHash, its key from the system's randomness) of a counter. No system call for each frame, and a
/// hash for two of them.
#[derive(Debug)]
pub(super) struct Masks {
    keyed: RandomState,
    count: u64,
    /// The other half of the last hash.
    spare: Option<[u8; 4]>,
}

impl Masks {
    pub(super) fn new() -> Self {
        Self { keyed: RandomState::new(), count: 0, spare: None }
    }

    pub(super) fn next(&mut self) -> [u8; 4] {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        self.count += 1;
        let [a, b, c, d, e, f, g, h] = self.keyed.hash_one(self.count).to_ne_bytes();
        self.spare = Some([e, f, g, h]);
        [a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use tungstenite::protocol::frame::coding::Data;

    use super::*;

    fn header(data: Data, mask: Option<[u8; 4]>) -> FrameHeader {
        FrameHeader { opcode: OpCode::Data(data), mask, ..FrameHeader::default() }
    }

    fn frame(length: usize, key: Option<[u8; 4]>) -> Vec<u8> {
        let payload: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
        let mut out = b"before".to_vec();
        let fill = |out: &mut Vec<u8>| {
            out.extend_from_slice(&payload);
            Ok::<_, ()>(())
        };
        write(&mut out, &header(Data::Binary, key), fill).unwrap();
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
                    let part = read_header(&bytes[..cut], role).unwrap();
                    assert!(part.is_none_or(|head| head.size <= cut), "{length} cut at {cut}");
                }
                let found = read_header(&bytes, role).unwrap().unwrap();
                assert_eq!(found.header, header(Data::Binary, key));
                assert_eq!(found.length, length as u64);
                assert_eq!(bytes.len(), found.size + length);
                if let Some(key) = key {
                    mask(&mut bytes[found.size..], key);
                }
                let right = |(at, byte): (usize, &u8)| *byte == at.to_le_bytes()[0];
                assert!(bytes[found.size..].iter().enumerate().all(right), "{length} {key:?}");
                let other = if role == Role::Server { Role::Client } else { Role::Server };
                assert!(read_header(&bytes, other).is_err());
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
        assert_eq!(write(&mut out, &header(Data::Text, Some([9; 4])), fill), Err("no"));
        assert_eq!(out, b"before");
    }

    #[test]
    fn headers_that_break_the_rules() {
        use ProtocolError::{
            ControlFrameTooBig, FragmentedControlFrame, InvalidOpcode, NonZeroReservedBits,
            UnmaskedFrameFromClient,
        };
        let longer = || Fault::new(CloseCode::Protocol, "a length is not in its shortest form");
        let wrong: [(&[u8], Fault); 11] = [
            (&[0xc2, 0x81], NonZeroReservedBits.into()),
            (&[0xa2, 0x81], NonZeroReservedBits.into()),
            (&[0x92, 0x81], NonZeroReservedBits.into()),
            (&[0x83, 0x81], InvalidOpcode(3).into()),
            (&[0x8b, 0x81], InvalidOpcode(11).into()),
            (&[0x82, 0x01], UnmaskedFrameFromClient.into()),
            (&[0x09, 0x81], FragmentedControlFrame.into()),
            (&[0x89, 0xfe, 0, 126], ControlFrameTooBig.into()),
            (&[0x88, 0xff, 0, 0, 0, 0, 0, 1, 0, 0], ControlFrameTooBig.into()),
            (&[0x82, 0xfe, 0, 125], longer()),
            (&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], longer()),
        ];
        for (bytes, fault) in wrong {
            // The masking key belongs to the header: before it has come nothing is judged.
            let key: &[u8] = if bytes[1] & 0x80 != 0 { &[1, 2, 3, 4] } else { &[] };
            let whole = [bytes, key].concat();
            assert_eq!(read_header(&whole, Role::Server), Err(fault), "{bytes:x?}");
            let cut = read_header(&whole[..whole.len() - 1], Role::Server);
            assert_eq!(cut, Ok(None), "{bytes:x?}");
        }
    }

    #[test]
    fn a_length_no_memory_holds_is_only_told() {
        let header = [&[0x82, 0xff][..], &[0xff; 8], &[0; 4]].concat();
        let head = read_header(&header, Role::Server).unwrap().unwrap();
        assert_eq!((head.length, head.size), (u64::MAX, 14));
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
