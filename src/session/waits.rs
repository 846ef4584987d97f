//! How long the user of a call waited for the first sound of each answer: the last
//! [`KEPT`] times, in memory that is there from the start.
//!
//! A ring: the newest time takes the place of the oldest. `answers` counts all of them and never goes
//! back, so it tells both how many places are filled and which one comes next.

use std::fmt;
use std::time::Duration;

use super::consumption::LATE;

/// Answers that are remembered: enough for a 95th percentile.
const KEPT: usize = 64;

/// The waits of one call. Displays as the end of a log line.
#[derive(Debug)]
pub(super) struct Waits {
    milliseconds: [u16; KEPT],
    answers: usize,
    late: usize,
}

impl Default for Waits {
    fn default() -> Self {
        Self { milliseconds: [0; KEPT], answers: 0, late: 0 }
    }
}

impl Waits {
    pub(super) fn add(&mut self, waited: Duration) {
        self.milliseconds[self.answers % KEPT] =
            u16::try_from(waited.as_millis()).unwrap_or(u16::MAX);
        self.answers += 1;
        self.late += usize::from(waited >= LATE);
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = &self.milliseconds[..self.answers.min(KEPT)];
        // The smallest value that so many per cent do not exceed. Counting is enough for so few;
        // the code of a sort would weigh 9 KB.
        let percentile = |percent: usize| {
            let rank = (kept.len() * percent).div_ceil(100);
            let reaches = |most: &u16| kept.iter().filter(|one| *one <= most).count() >= rank;
            kept.iter().copied().filter(reaches).min().unwrap_or_default()
        };
        match self.answers {
            0 => f.write_str("no answer"),
            answers => {
                let [half, most, all] = [50, 95, 100].map(percentile);
                write!(
                    f,
                    "{answers} answers, first audio after {half}/{most}/{all} ms (p50/p95/max), {} late",
                    self.late
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_last_answers() {
        let mut waits = Waits::default();
        assert_eq!(waits.to_string(), "no answer");
        waits.add(Duration::from_secs(999));
        let told = waits.to_string();
        assert_eq!(told, "1 answers, first audio after 65535/65535/65535 ms (p50/p95/max), 1 late");
        for milliseconds in (1..=64).rev() {
            waits.add(Duration::from_millis(milliseconds));
        }
        let told = waits.to_string();
        assert_eq!(told, "65 answers, first audio after 32/61/64 ms (p50/p95/max), 1 late");
    }
}
