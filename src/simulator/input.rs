//! The input audio buffer: counts what was appended, runs the detector over it and cuts turns out
//! of it. Positions are milliseconds of audio appended in this session, as the service counts.
//!
//! Memory is bounded. Before speech, only the prefix padding is kept. Of a turn, the first
//! [`KEPT_SECONDS`] are kept.

use std::rc::Rc;

use super::session::Settings;
use super::vad::{Edge, Vad, WINDOW_MS};

/// A turn may be longer. Later audio is counted, but not kept for playing back.
const KEPT_SECONDS: u64 = 60;

/// A committed piece of the user's audio.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    /// PCM16, little-endian, mono, at the session's input rate: exactly what was appended.
    pub(super) pcm: Rc<Vec<u8>>,
    /// Samples per second of `pcm`.
    pub(super) rate: u32,
    /// The whole length, also when `pcm` holds less.
    pub(super) milliseconds: u64,
}

/// What happened while audio was appended.
#[derive(Debug)]
pub(super) enum Heard {
    Started { audio_start_ms: u64 },
    Stopped { audio_end_ms: u64, turn: Turn },
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct InputBuffer {
    vad: Option<Vad>,
    rate: u32,
    channels: u8,
    prefix_ms: u64,
    /// Milliseconds at which the present rate began to apply.
    base_ms: u64,
    /// Bytes since `base_ms` that went through the detector.
    seen: u64,
    /// Less than one window.
    pending: Vec<u8>,
    /// Audio that ends at `seen`, or earlier when the turn is too long to keep.
    kept: Vec<u8>,
    /// Bytes since `base_ms` where `kept` begins.
    kept_from: u64,
}

impl InputBuffer {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut buffer = Self {
            vad: None,
            rate: settings.input_rate,
            channels: 1,
            prefix_ms: 0,
            base_ms: 0,
            seen: 0,
            pending: Vec::new(),
            kept: Vec::new(),
            kept_from: 0,
        };
        buffer.configure(settings);
        buffer
    }

    /// Follows a `session.update`.
    pub(super) fn configure(&mut self, settings: &Settings) {
        if settings.input_rate != self.rate {
            self.clear();
            self.base_ms = self.ms(self.seen);
            self.rate = settings.input_rate;
            self.seen = 0;
            self.kept_from = 0;
        }
        self.channels = settings.input_channels;
        self.prefix_ms = settings.vad.as_ref().map_or(0, |vad| vad.prefix_padding_ms);
        match (&mut self.vad, &settings.vad) {
            (Some(vad), Some(settings)) => vad.configure(settings),
            (vad, settings) => *vad = settings.as_ref().map(Vad::new),
        }
    }

    /// Bytes every append must be a multiple of.
    pub(super) fn frame_bytes(&self) -> usize {
        2 * usize::from(self.channels)
    }

    /// Takes whole frames of PCM16.
    pub(super) fn append(&mut self, pcm: &[u8]) -> Vec<Heard> {
        if self.channels == 2 {
            // Channel 0 is the microphone, channel 1 what the loudspeaker plays.
            let mono: Vec<u8> =
                pcm.chunks_exact(4).flat_map(|frame| [frame[0], frame[1]]).collect();
            self.pending.extend_from_slice(&mono);
        } else {
            self.pending.extend_from_slice(pcm);
        }
        let window_bytes = self.window_bytes();
        let pending = std::mem::take(&mut self.pending);
        let mut windows = pending.chunks_exact(window_bytes);
        let heard = windows.by_ref().filter_map(|window| self.window(window)).collect();
        self.pending = windows.remainder().to_vec();
        heard
    }

    /// Ends the turn at the client's request. `None` when there is too little audio: the service
    /// demands at least 100 ms.
    pub(super) fn commit(&mut self) -> Option<Turn> {
        let pending = std::mem::take(&mut self.pending);
        self.keep(&pending);
        let turn = self.cut(self.kept_from, self.seen);
        if turn.milliseconds < 100 {
            return None;
        }
        self.forget();
        Some(turn)
    }

    /// Milliseconds held, for the message of an empty commit.
    pub(super) fn held_ms(&self) -> u64 {
        self.ms(self.seen) - self.ms(self.kept_from)
    }

    pub(super) fn clear(&mut self) {
        self.seen += u64::try_from(self.pending.len()).unwrap_or(0);
        self.pending.clear();
        self.forget();
    }

    fn window(&mut self, pcm: &[u8]) -> Option<Heard> {
        self.keep(pcm);
        match self.vad.as_mut()?.window(pcm) {
            None => {
                self.trim();
                None
            }
            Some(Edge::Started { windows_ago }) => {
                let lead = windows_ago * WINDOW_MS + self.prefix_ms;
                let from = self.seen.saturating_sub(self.bytes(lead));
                self.drop_before(from);
                Some(Heard::Started { audio_start_ms: self.ms(self.kept_from) })
            }
            Some(Edge::Stopped) => {
                let turn = self.cut(self.kept_from, self.seen);
                self.forget();
                Some(Heard::Stopped { audio_end_ms: self.ms(self.seen), turn })
            }
        }
    }

    fn keep(&mut self, pcm: &[u8]) {
        self.seen += u64::try_from(pcm.len()).unwrap_or(0);
        let most = usize::try_from(self.bytes(KEPT_SECONDS * 1000)).unwrap_or(usize::MAX);
        let room = most.saturating_sub(self.kept.len()).min(pcm.len());
        self.kept.extend_from_slice(&pcm[..room]);
    }

    /// Drops audio that no turn can need: outside of speech, all but the prefix padding.
    fn trim(&mut self) {
        let Some(vad) = self.vad.as_ref().filter(|vad| !vad.speaking()) else {
            return;
        };
        let lead = vad.needed() * WINDOW_MS + self.prefix_ms;
        self.drop_before(self.seen.saturating_sub(self.bytes(lead)));
    }

    fn drop_before(&mut self, from: u64) {
        let excess = usize::try_from(from.saturating_sub(self.kept_from)).unwrap_or(0);
        self.kept.drain(..excess.min(self.kept.len()));
        self.kept_from = self.kept_from.max(from);
    }

    fn cut(&self, from: u64, to: u64) -> Turn {
        Turn {
            pcm: Rc::new(self.kept.clone()),
            rate: self.rate,
            milliseconds: self.ms(to) - self.ms(from),
        }
    }

    fn forget(&mut self) {
        self.kept = Vec::new();
        self.kept_from = self.seen;
        if let Some(vad) = &mut self.vad {
            vad.reset();
        }
    }

    fn bytes(&self, milliseconds: u64) -> u64 {
        milliseconds * u64::from(self.rate) / 1000 * 2
    }

    fn ms(&self, bytes: u64) -> u64 {
        self.base_ms + bytes / 2 * 1000 / u64::from(self.rate)
    }

    fn window_bytes(&self) -> usize {
        usize::try_from(self.bytes(WINDOW_MS)).unwrap_or(960).max(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Session;

    fn tone(milliseconds: usize) -> Vec<u8> {
        let samples = (0..24 * milliseconds).map(|n| if n % 100 < 50 { 4000_i16 } else { -4000 });
        samples.flat_map(i16::to_le_bytes).collect()
    }

    #[test]
    fn a_turn_is_a_slice_of_what_was_appended() {
        let mut buffer = InputBuffer::new(&Session::new(1, 1, "gpt-realtime", false).settings);
        let sent = [vec![0; 48_000], tone(1000), vec![0; 48_000]].concat();
        let mut heard = Vec::new();
        // Chunks of an odd number of samples: windows don't follow messages.
        for chunk in sent.chunks(962) {
            heard.extend(buffer.append(chunk));
        }
        let [Heard::Started { audio_start_ms }, Heard::Stopped { audio_end_ms, turn }] = &heard[..]
        else {
            panic!("{heard:?}");
        };
        assert_eq!((*audio_start_ms, *audio_end_ms), (700, 2200));
        assert_eq!(turn.pcm[..], sent[700 * 48..2200 * 48]);
    }

    #[test]
    fn silence_costs_no_memory_and_a_long_turn_is_cut() {
        let mut buffer = InputBuffer::new(&Session::new(1, 1, "gpt-realtime", false).settings);
        for _ in 0..100 {
            buffer.append(&vec![0; 48_000]);
        }
        assert!(buffer.kept.len() <= 400 * 48);
        for _ in 0..90 {
            buffer.append(&tone(1000));
        }
        assert_eq!(buffer.kept.len(), 60 * 48_000);
        let heard = buffer.append(&vec![0; 48_000]);
        let [Heard::Stopped { turn, .. }] = &heard[..] else {
            panic!("{heard:?}");
        };
        assert!(turn.milliseconds > 90_000);
    }

    #[test]
    fn stereo_uses_the_microphone_channel() {
        let mut session = Session::new(1, 1, "gpt-realtime", false);
        session.settings.input_channels = 2;
        let mut buffer = InputBuffer::new(&session.settings);
        let frames = tone(400);
        let stereo: Vec<u8> = frames.chunks_exact(2).flat_map(|s| [s[0], s[1], 9, 9]).collect();
        assert!(matches!(buffer.append(&stereo)[..], [Heard::Started { .. }]));
        assert_eq!(buffer.commit().unwrap().pcm[..], frames);
    }

    #[test]
    fn another_rate_goes_on_counting_milliseconds() {
        let mut session = Session::new(1, 1, "gpt-realtime", false);
        session.settings.vad = None;
        let mut buffer = InputBuffer::new(&session.settings);
        buffer.append(&vec![0; 48_000]);
        session.settings.input_rate = 16_000;
        buffer.configure(&session.settings);
        buffer.append(&vec![0; 32_000]);
        assert_eq!(buffer.ms(buffer.seen), 2000);
        assert_eq!(buffer.commit().unwrap().milliseconds, 1000);
        assert!(buffer.commit().is_none());
    }
}
