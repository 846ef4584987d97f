//! WebSocket frames by hand, right and wrong: what no library would send.

const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

/// A masked frame. `first` is its first byte: FIN 0x80, RSV 0x70, opcode 0x0f.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u64::try_from(payload.len()).expect("it fits");
    let mut bytes = head(first, length);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The head of a masked frame, whatever follows it.
pub(crate) fn head(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | length.to_le_bytes()[0]),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend(&length.to_be_bytes()[6..]);
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

/// The same frame without a mask.
pub(crate) fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126);
    [&[first, length.expect("a short payload")], payload].concat()
}
