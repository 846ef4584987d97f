//! Audio as base64 (RFC 4648, section 4), by the vector engine of the crate `base64`: AVX2 or NEON.
//! What the processor can do is asked once. A processor without either has the scalar engine.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, PAD};

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
type Fastest = base64::engine::Simd;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Fastest = GeneralPurpose;

static ENGINE: LazyLock<Fastest> = LazyLock::new(|| {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    return Fastest::standard(PAD);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return Fastest::new(&STANDARD, PAD);
});

/// Appends PCM as base64, padded. It is written where it leaves from.
pub(super) fn append(pcm: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    lengthen(out, pcm.len().div_ceil(3) * 4);
    let written = ENGINE.encode_slice(pcm, &mut out[start..]);
    debug_assert_eq!(written, Ok(out.len() - start), "the room is exactly what base64 takes");
}

/// As `resize` does, a block at a time. The linker may take the `resize` of a crate that is made for size
/// (Cargo.toml), and that one writes byte by byte: 7,600 instructions for 20 ms.
fn lengthen(out: &mut Vec<u8>, bytes: usize) {
    static BLOCK: [u8; 1_280] = [0; 1_280]; // 20 ms at 24 kHz
    let mut left = bytes;
    while left > 0 {
        let next = left.min(BLOCK.len());
        out.extend_from_slice(&BLOCK[..next]);
        left -= next;
    }
}

/// The most bytes that a base64 text of `length` characters can stand for.
pub(super) fn most_decoded(length: usize) -> usize {
    length / 4 * 3
}

/// The bytes that a base64 text stands for, in `room`, which holds [`most_decoded`] bytes at least.
/// `None` if it is no base64: padding and the last bits must be as the RFC has them.
pub(super) fn decode<'r>(text: &[u8], room: &'r mut [u8]) -> Option<&'r [u8]> {
    let length = ENGINE.decode_slice(text, room).ok()?;
    room.get(..length)
}

/// Padding may be missing, and the last bits may be anything.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The bytes that a base64 text in another spelling stands for, behind one byte of room: with line breaks
/// (MIME), of the URL's alphabet (RFC 4648, section 5), or without its padding. `None` if it is no base64.
pub(super) fn decode_odd(text: &[u8]) -> Option<Vec<u8>> {
    let letters = text.iter().filter(|byte| !byte.is_ascii_whitespace());
    let plain = letters.map(|byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    });
    let plain: Vec<u8> = plain.collect();
    let end = plain.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let mut pcm = vec![0; 1];
    LENIENT.decode_vec(plain.get(..end)?, &mut pcm).ok()?;
    Some(pcm)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::{append, decode, decode_odd, most_decoded};
    use base64::Engine as _;

    /// Around every width that a vector engine takes at once.
    #[test]
    fn audio_of_every_length_is_what_the_scalar_engine_makes_of_it() {
        for length in 0..300 {
            let pcm: Vec<u8> =
                (0..length).map(|at: usize| (at * 31 % 251).to_le_bytes()[0]).collect();
            let mut text = b"before".to_vec();
            append(&pcm, &mut text);
            let text = text.strip_prefix(b"before").expect("it appends");
            assert_eq!(text, STANDARD.encode(&pcm).as_bytes());
            let mut room = vec![0; most_decoded(text.len())];
            assert_eq!(decode(text, &mut room), Some(&pcm[..]));
        }
    }

    #[test]
    fn other_spellings_are_read_and_nonsense_is_not() {
        for text in ["+/8=", "-_8=", "-_8", " +/\n8=\r\n", "+/9"] {
            assert_eq!(
                decode_odd(text.as_bytes()).as_deref(),
                Some(&[0, 0xfb, 0xff][..]),
                "{text}"
            );
        }
        for text in ["", " ", "==", "\n"] {
            assert_eq!(decode_odd(text.as_bytes()).as_deref(), Some(&[0][..]), "{text:?}");
        }
        for text in ["!!!!", "AAAAA", "AA==AA", "\u{e9}", "A", "AA.AA"] {
            assert_eq!(decode_odd(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_base64_is_found_wherever_it_stands() {
        let good = STANDARD.encode([7; 300]);
        let mut room = [0; 300];
        for at in 0..good.len() {
            let mut text = good.clone().into_bytes();
            text[at] = b'?';
            assert_eq!(decode(&text, &mut room), None, "at {at}");
            if at % 4 != 0 {
                assert_eq!(decode(&good.as_bytes()[..at], &mut room), None, "cut at {at}");
            }
        }
        for text in ["AB==", "AAB=", "AA", "AA=", "====", "AA==AA=="] {
            let wrong = decode(text.as_bytes(), &mut room).is_none();
            assert!(wrong, "{text}");
        }
        assert_eq!(decode(b"", &mut room), Some(&[][..]));
    }
}
