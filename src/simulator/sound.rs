//! The sounds of replies: the welcome clip, the user's own words, a chime, or a pattern whose every
//! sample is known. They are read in pieces when the socket has room, and never queued.

use std::rc::Rc;

use super::input::Turn;

/// Bytes of PCM16, 24 kHz, mono per millisecond.
pub(super) const BYTES_PER_MS: usize = 48;

/// "This is the simulator, not the real model. Speak, and I will play it back."
/// G.711 µ-law at 24 kHz, 4 s: synthetic speech by espeak-ng 1.51 (voice en-us, 195 words a
/// minute), resampled and levelled to −6 dBFS by sox.
static WELCOME: &[u8] = include_bytes!("welcome.ul");

/// Sample `index` of a reply made with the script word `reply-seconds`, so that a receiver can check
/// every byte it gets: `(index · 40503) mod 65536`, read as a signed 16-bit number.
#[must_use]
pub fn pattern_sample(index: u64) -> i16 {
    let [low, high, ..] = index.wrapping_mul(40_503).to_le_bytes();
    i16::from_le_bytes([low, high])
}

/// A source of PCM16, 24 kHz, mono.
#[derive(Debug, Clone)]
pub(super) enum Sound {
    Welcome,
    Pcm(Rc<Vec<u8>>),
    Pattern { bytes: usize },
}

impl Sound {
    /// The user's words, unchanged if they came at 24 kHz.
    pub(super) fn turn(turn: &Turn) -> Self {
        match turn.rate {
            24_000 => Self::Pcm(Rc::clone(&turn.pcm)),
            rate => Self::Pcm(Rc::new(resample(&turn.pcm, rate))),
        }
    }

    pub(super) fn pattern(seconds: u32) -> Self {
        let seconds = usize::try_from(seconds).unwrap_or(0);
        Self::Pattern { bytes: seconds * 1000 * BYTES_PER_MS }
    }

    /// A short struck tone: audible, and plainly no voice.
    pub(super) fn chime() -> Self {
        let samples = (0..16_800_u16).map(|n| {
            let seconds = f32::from(n) / 24_000.0;
            let fade = (-4.0 * seconds).exp() * (seconds * 400.0).min(1.0);
            let phase = seconds * std::f32::consts::TAU;
            let tone = (659.0 * phase).sin() + 0.5 * (988.0 * phase).sin();
            to_sample(6000.0 * fade * tone)
        });
        Self::Pcm(Rc::new(samples.flat_map(i16::to_le_bytes).collect()))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Welcome => WELCOME.len() * 2,
            Self::Pcm(pcm) => pcm.len(),
            Self::Pattern { bytes } => *bytes,
        }
    }

    /// At most `count` bytes from `offset` on.
    pub(super) fn read(&self, offset: usize, count: usize) -> Vec<u8> {
        let end = offset.saturating_add(count).min(self.len());
        let range = offset.min(end)..end;
        match self {
            Self::Pcm(pcm) => pcm[range].to_vec(),
            Self::Welcome => bytes(range, |index| {
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                WELCOME.get(index).map_or(0, |&byte| decode_ulaw(byte))
            }),
            Self::Pattern { .. } => bytes(range, pattern_sample),
        }
    }
}

/// Bytes of a sample function; a range may begin or end inside a sample.
fn bytes(range: std::ops::Range<usize>, sample: impl Fn(u64) -> i16) -> Vec<u8> {
    let at = |byte: usize| {
        let index = u64::try_from(byte / 2).unwrap_or(u64::MAX);
        sample(index).to_le_bytes()[byte % 2]
    };
    range.map(at).collect()
}

/// G.711 µ-law: inverted bits; sign, three bits of exponent, four of mantissa, bias 132.
fn decode_ulaw(byte: u8) -> i16 {
    let byte = !byte;
    let exponent = (byte >> 4) & 7;
    let magnitude = ((i16::from(byte & 15) << 3) + 132) << exponent;
    if byte & 128 == 0 { magnitude - 132 } else { 132 - magnitude }
}

/// Linear interpolation up to 24 kHz: good enough to recognise one's own words.
fn resample(pcm: &[u8], rate: u32) -> Vec<u8> {
    let samples: Vec<f32> =
        pcm.chunks_exact(2).map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]]))).collect();
    // The rates the session allows divide 48,000, so positions are exact in these steps.
    let (step, unit) = (usize::try_from(rate / 1000).unwrap_or(24), 24);
    let count = samples.len() * unit / step;
    let output = (0..count).map(|n| {
        let (index, part) = (n * step / unit, u8::try_from(n * step % unit).unwrap_or(0));
        let here = samples.get(index).copied().unwrap_or(0.0);
        let next = samples.get(index + 1).copied().unwrap_or(here);
        to_sample(here + (next - here) * f32::from(part) / 24.0)
    });
    output.flat_map(i16::to_le_bytes).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, which is clipping")]
fn to_sample(value: f32) -> i16 {
    value as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulaw_decodes_its_corner_values() {
        assert_eq!(decode_ulaw(0xff), 0);
        assert_eq!(decode_ulaw(0x7f), 0);
        assert_eq!(decode_ulaw(0x80), 32_124);
        assert_eq!(decode_ulaw(0x00), -32_124);
    }

    #[test]
    fn the_welcome_is_speech_of_about_four_seconds() {
        let pcm = Sound::Welcome.read(0, usize::MAX);
        assert!((170_000..=200_000).contains(&pcm.len()));
        let peak =
            pcm.chunks_exact(2).map(|p| i16::from_le_bytes([p[0], p[1]]).unsigned_abs()).max();
        assert!((15_000..18_000).contains(&peak.unwrap()), "{peak:?}");
    }

    #[test]
    fn pieces_of_any_size_make_the_whole() {
        for sound in [Sound::Welcome, Sound::pattern(1), Sound::chime()] {
            let whole = sound.read(0, usize::MAX);
            let mut pieces = Vec::new();
            while pieces.len() < sound.len() {
                pieces.extend(sound.read(pieces.len(), 4801));
            }
            assert_eq!(pieces, whole);
        }
        assert_eq!(pattern_sample(1), -25_033);
    }

    #[test]
    fn slower_audio_is_stretched_to_24_khz() {
        let ramp: Vec<u8> = (0..800_i16).flat_map(|n| (n * 30).to_le_bytes()).collect();
        let stretched = resample(&ramp, 8000);
        assert_eq!(stretched.len(), 3 * ramp.len());
        let at = |n: usize| i16::from_le_bytes([stretched[2 * n], stretched[2 * n + 1]]);
        assert_eq!((at(0), at(1), at(3), at(299)), (0, 10, 30, 2990));
    }
}
