//! Energy voice-activity detection: 20 ms windows, one loudness threshold, and runs of loud or
//! quiet windows that are long enough. It does not recognise speech: it takes a door that slams for
//! 60 ms for speech, as a test of false alarms needs.

use super::session::VadSettings;

/// Length of one window. Short enough to place an onset well, long enough for a pitch period.
pub(super) const WINDOW_MS: u64 = 20;

/// What one window changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    /// Speech began this many windows before the end of this one.
    Started { windows_ago: u64 },
    /// The configured silence is over.
    Stopped,
}

/// The detector's state between windows.
#[derive(Debug)]
pub(super) struct Vad {
    /// Mean square above which a quiet detector hears speech.
    loud: f64,
    /// Windows of speech needed for a start.
    needed: u64,
    /// Windows of silence needed for a stop.
    patience: u64,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Quiet { loud_windows: u64 },
    Speaking { quiet_windows: u64 },
}

impl Vad {
    pub(super) fn new(settings: &VadSettings) -> Self {
        let mut vad =
            Self { loud: 0.0, needed: 1, patience: 1, state: State::Quiet { loud_windows: 0 } };
        vad.configure(settings);
        vad
    }

    /// Changes the limits. Speech that has begun goes on.
    pub(super) fn configure(&mut self, settings: &VadSettings) {
        self.loud = mean_square_limit(settings.threshold);
        self.needed = (settings.speech_duration_ms / WINDOW_MS).max(1);
        self.patience = (settings.silence_duration_ms / WINDOW_MS).max(1);
    }

    pub(super) fn speaking(&self) -> bool {
        matches!(self.state, State::Speaking { .. })
    }

    /// Windows an onset may lie back at most: what must be kept besides the prefix.
    pub(super) fn needed(&self) -> u64 {
        self.needed
    }

    pub(super) fn reset(&mut self) {
        self.state = State::Quiet { loud_windows: 0 };
    }

    /// Takes the next window of little-endian PCM16.
    pub(super) fn window(&mut self, pcm: &[u8]) -> Option<Edge> {
        let loudness = mean_square(pcm);
        match &mut self.state {
            State::Quiet { loud_windows } if loudness >= self.loud => {
                *loud_windows += 1;
                let windows_ago = *loud_windows;
                (windows_ago >= self.needed).then(|| {
                    self.state = State::Speaking { quiet_windows: 0 };
                    Edge::Started { windows_ago }
                })
            }
            State::Quiet { loud_windows } => {
                *loud_windows = 0;
                None
            }
            // Words end more softly than they begin. So speech lasts until half the amplitude.
            State::Speaking { quiet_windows } if loudness >= self.loud / 4.0 => {
                *quiet_windows = 0;
                None
            }
            State::Speaking { quiet_windows } => {
                *quiet_windows += 1;
                (*quiet_windows >= self.patience).then(|| {
                    self.reset();
                    Edge::Stopped
                })
            }
        }
    }
}

/// Maps the threshold to loudness: 0 is −60 dBFS, 0.5 is −40 dBFS, 1 is −20 dBFS. A quiet room's
/// microphone lies near −60, speech between −35 and −15.
fn mean_square_limit(threshold: f64) -> f64 {
    let decibels = -60.0 + 40.0 * threshold.clamp(0.0, 1.0);
    10_f64.powf(decibels / 10.0) * 32_768.0 * 32_768.0
}

fn mean_square(pcm: &[u8]) -> f64 {
    let mut sum = 0.0;
    let mut count = 0.0;
    for sample in pcm.chunks_exact(2) {
        let value = f64::from(i16::from_le_bytes([sample[0], sample[1]]));
        sum += value * value;
        count += 1.0;
    }
    if count > 0.0 { sum / count } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Session;

    fn detector(silence_ms: u64, speech_ms: u64) -> Vad {
        let mut settings = Session::new(1, 1, "gpt-realtime", false).settings.vad.unwrap();
        settings.silence_duration_ms = silence_ms;
        settings.speech_duration_ms = speech_ms;
        Vad::new(&settings)
    }

    fn window(level: i16) -> Vec<u8> {
        let samples = (0..480).map(|n| if n % 2 == 0 { level } else { -level });
        samples.flat_map(i16::to_le_bytes).collect()
    }

    #[test]
    fn a_click_is_no_speech_and_a_short_pause_is_no_end() {
        let mut vad = detector(100, 60);
        let mut edges = Vec::new();
        let levels = [0, 9000, 9000, 0, 9000, 9000, 9000, 9000, 0, 0, 0, 0, 9000, 0, 0, 0, 0, 0];
        for (index, level) in levels.into_iter().enumerate() {
            edges.extend(vad.window(&window(level)).map(|edge| (index, edge)));
        }
        let expected = [(6, Edge::Started { windows_ago: 3 }), (17, Edge::Stopped)];
        assert_eq!(edges, expected);
    }

    #[test]
    fn the_threshold_is_a_loudness() {
        let started = |threshold: f64, level: i16| {
            let mut vad = detector(100, 20);
            vad.loud = mean_square_limit(threshold);
            vad.window(&window(level)).is_some()
        };
        // −40 dBFS is 1 % of full scale: 328.
        assert!(started(0.5, 340) && !started(0.5, 310));
        assert!(started(0.0, 40) && !started(1.0, 3000) && started(1.0, 3400));
    }
}
