//! The audio that is sent: for every call its own, known at every position, so that what comes
//! back is checked sample by sample.

/// Bytes of noise before it repeats.
const PERIOD: usize = 1 << 20;

/// The noise, and per call where in it the stream begins.
pub(crate) struct Pattern(Vec<u8>);

impl Pattern {
    pub(crate) fn new() -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let noise = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        Self(noise.take(PERIOD / 8).flatten().collect())
    }

    /// From position `at` of call `call`'s stream as much as lies in one piece, at least a byte.
    fn piece(&self, call: usize, at: u64) -> &[u8] {
        let start = (call as u64 * 86_028_121 + at) % PERIOD as u64;
        &self.0[usize::try_from(start).expect("below PERIOD")..]
    }

    /// Appends `bytes` bytes of the stream to `out`.
    pub(crate) fn append(&self, call: usize, mut at: u64, mut bytes: usize, out: &mut Vec<u8>) {
        while bytes > 0 {
            let piece = self.piece(call, at);
            let count = bytes.min(piece.len());
            out.extend_from_slice(&piece[..count]);
            bytes -= count;
            at += count as u64;
        }
    }

    /// Whether `bytes` are exactly what the stream has from `at` on.
    pub(crate) fn matches(&self, call: usize, mut at: u64, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let piece = self.piece(call, at);
            let count = bytes.len().min(piece.len());
            if piece[..count] != bytes[..count] {
                return false;
            }
            bytes = &bytes[count..];
            at += count as u64;
        }
        true
    }
}
