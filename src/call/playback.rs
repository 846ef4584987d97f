//! What of the reply has gone to the client, and how much of it can have been heard.
//!
//! Audio is counted per item when the service's delta is accepted, and again when its bytes leave
//! for the client. Clients play in real time, one item after the other, so the end of playing is
//! known without asking; a client that reports `played` makes it exact.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::service::AudioDelta;

/// PCM16, 24 kHz, mono: 48 bytes a millisecond.
pub(super) const BYTES_PER_MS: u64 = 48;
/// Items remembered. A response has one spoken item, rarely two; older ones were played long ago, or
/// still wait and are only counted.
const MAX_ITEMS: usize = 8;
/// Of what a client had played when it was held, so much is played again: half a word is not understood.
const REPEATED: Duration = Duration::from_millis(200);
/// A report of `played` this old no longer tells where a reply ended.
const REPORT_STALE: Duration = Duration::from_secs(2);

/// The audio of one item.
#[derive(Debug)]
struct ItemAudio {
    response_id: String,
    item_id: String,
    /// Bytes of the same response in items before this one.
    offset: u64,
    /// Bytes the service sent and we accepted.
    accepted: u64,
    /// Bytes that left for the client.
    sent: u64,
    /// When its first byte is heard: when it left, or when what was before it has been played.
    start: Option<Instant>,
}

/// Where an item is cut, in milliseconds of its audio.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) item_id: String,
    /// What the user has heard.
    pub(super) heard_ms: u64,
    /// All that has come.
    pub(super) all_ms: u64,
}

/// A client's report of what it has played.
#[derive(Debug, Clone, Copy)]
struct Report {
    ms: u64,
    at: Instant,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Playback {
    items: VecDeque<ItemAudio>,
    /// Bytes that still wait of items that are not remembered: they leave before all others.
    older: u64,
    /// When the client will have played all it was sent.
    end: Option<Instant>,
    /// Since when it has played without running out, and without a hold.
    begun: Option<Instant>,
    report: Option<Report>,
    held: Option<Held>,
}

/// The client does not play.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// For all estimates the clock stands still here.
    since: Instant,
    /// What is played again when it goes on.
    again: Duration,
}

impl Playback {
    /// The client stops playing, and keeps what it has.
    pub(super) fn hold(&mut self, now: Instant) {
        let until = self.end.map_or(now, |end| end.min(now));
        let heard = self.begun.map(|begun| until.saturating_duration_since(begun));
        self.held = Some(Held { since: now, again: heard.unwrap_or_default().min(REPEATED) });
    }

    /// It goes on where it stopped: all times of what it has not played yet move on. If it has played all, nothing
    /// has stood still.
    pub(super) fn go_on(&mut self, now: Instant) {
        let Some(Held { since, again }) = self.held.take() else { return };
        let Some(end) = self.end.filter(|end| *end > since) else { return };
        let pause = now.saturating_duration_since(since) + again;
        self.end = Some(end + pause);
        self.begun = Some(now);
        for item in &mut self.items {
            item.start = item.start.map(|start| start + pause);
        }
    }

    /// What the time is as far as playing goes.
    fn clock(&self, now: Instant) -> Instant {
        self.held.map_or(now, |held| held.since.min(now))
    }

    /// A delta that will be forwarded. Allocates only for a new item.
    pub(super) fn accept(&mut self, delta: &AudioDelta<'_>) {
        let bytes = delta.pcm_bytes as u64;
        let mut offset = 0;
        if let Some(last) =
            self.items.back_mut().filter(|last| last.response_id == delta.response_id)
        {
            if last.item_id == delta.item_id {
                last.accepted += bytes;
                return;
            }
            offset = last.offset + last.accepted;
        }
        if self.items.len() == MAX_ITEMS {
            self.older += self.items.pop_front().map_or(0, |item| item.accepted - item.sent);
        }
        self.items.push_back(ItemAudio {
            response_id: delta.response_id.to_owned(),
            item_id: delta.item_id.to_owned(),
            offset,
            accepted: bytes,
            sent: 0,
            start: None,
        });
    }

    /// Bytes have left for the client. Returns the id of the response they began with.
    pub(super) fn sent(&mut self, bytes: usize, now: Instant) -> Option<&str> {
        let now = self.clock(now);
        let last = self.items.len().checked_sub(1)?;
        let older = self.older.min(bytes as u64);
        self.older -= older;
        if self.end.is_none_or(|end| end < now) {
            self.begun = Some(now);
        }
        if older > 0 {
            self.end = Some(after(self.end, now) + playing_time(older));
        }
        let mut left = bytes as u64 - older;
        let mut first = None;
        for (index, item) in self.items.iter_mut().enumerate() {
            // What exceeds all that was accepted (a miscounted padding) belongs to the last item.
            let room = item.accepted - item.sent;
            let part = if index == last { left } else { left.min(room) };
            if part == 0 {
                continue;
            }
            match &mut item.start {
                // It had run out, and was silent until now.
                Some(start) => {
                    *start +=
                        self.end.map_or(Duration::ZERO, |end| now.saturating_duration_since(end));
                }
                None => {
                    item.start = Some(after(self.end, now));
                    if item.offset == 0 {
                        self.report = None;
                    }
                }
            }
            item.sent += part;
            item.accepted = item.accepted.max(item.sent);
            self.end = Some(after(self.end, now) + playing_time(part));
            left -= part;
            first.get_or_insert(index);
        }
        first.map(|index| self.items[index].response_id.as_str())
    }

    /// Of the bytes that left last, so many did not arrive and will leave again: its connection broke.
    /// While it was away it played what it had and then nothing, so the times of all that is known
    /// move on by that pause: the user has heard no more than that.
    pub(super) fn unsent(&mut self, bytes: usize, now: Instant) {
        let now = self.clock(now);
        let mut left = bytes as u64;
        for item in self.items.iter_mut().rev() {
            let part = left.min(item.sent);
            item.sent -= part;
            left -= part;
        }
        self.older += left;
        let Some(end) = self.end else { return };
        let end = end.checked_sub(playing_time(bytes as u64)).unwrap_or(now);
        self.end = Some(end.max(now));
        let pause = now.saturating_duration_since(end);
        for item in &mut self.items {
            item.start = item.start.filter(|_| item.sent > 0).map(|start| start + pause);
        }
    }

    /// The client says how much of the current reply it has played.
    pub(super) fn report(&mut self, ms: u64, now: Instant) {
        self.report = Some(Report { ms, at: now });
    }

    /// Whether reply audio waits, is being played, or may still be (all estimated by the clock).
    pub(super) fn is_playing(&self, now: Instant) -> bool {
        self.end.is_some_and(|end| end > self.clock(now)) || self.is_waiting()
    }

    /// Whether reply audio has come that has not left for the client.
    pub(super) fn is_waiting(&self) -> bool {
        self.older > 0 || self.items.iter().any(|item| item.sent < item.accepted)
    }

    /// Whether audio of this item may still be heard.
    pub(super) fn is_playing_item(&self, item_id: &str, now: Instant) -> bool {
        self.is_playing(now) && self.items.iter().any(|item| item.item_id == item_id)
    }

    /// When the client will have played all it was sent, if anything was.
    pub(super) fn end(&self) -> Option<Instant> {
        self.end
    }

    /// Whether audio of this response has come.
    pub(super) fn has_audio_of(&self, response_id: &str) -> bool {
        self.items.iter().any(|item| item.response_id == response_id && item.accepted > 0)
    }

    /// Where to cut the conversation: each item of which audio has come but not all was heard.
    /// `active` is the response still being made.
    pub(super) fn cuts(&self, active: Option<&str>, now: Instant) -> Vec<Cut> {
        let now = self.clock(now);
        let current = self.items.iter().rev().find(|item| item.start.is_some());
        let current = current.map(|item| item.response_id.as_str());
        self.items
            .iter()
            .filter(|item| item.accepted > 0)
            .filter_map(|item| {
                let in_current = current == Some(item.response_id.as_str());
                let heard = self.heard(item, in_current, now);
                let complete = active != Some(item.response_id.as_str());
                let all = complete && heard >= item.accepted / BYTES_PER_MS;
                (!all).then(|| Cut {
                    item_id: item.item_id.clone(),
                    heard_ms: heard,
                    all_ms: item.accepted / BYTES_PER_MS,
                })
            })
            .collect()
    }

    /// Forgets all audio: it was dropped on both sides.
    pub(super) fn flush(&mut self, now: Instant) {
        self.items.clear();
        self.older = 0;
        self.report = None;
        self.held = None;
        self.begun = None;
        self.end = self.end.map(|end| end.min(now));
    }

    /// Milliseconds of an item that can have been heard: never more than was sent.
    fn heard(&self, item: &ItemAudio, in_current: bool, now: Instant) -> u64 {
        let sent = item.sent / BYTES_PER_MS;
        let elapsed =
            item.start.map_or(Duration::ZERO, |start| now.saturating_duration_since(start));
        let by_clock = sent.min(whole_ms(elapsed));
        let fresh = |report: &Report| {
            by_clock < sent || now.saturating_duration_since(report.at) < REPORT_STALE
        };
        match self.report.filter(|_| in_current).filter(fresh) {
            Some(report) => by_clock.min(report.ms.saturating_sub(item.offset / BYTES_PER_MS)),
            None => by_clock,
        }
    }
}

/// When the next byte is heard: at once, or after what plays.
fn after(end: Option<Instant>, now: Instant) -> Instant {
    end.map_or(now, |end| end.max(now))
}

/// How long PCM of this many bytes plays.
fn playing_time(bytes: u64) -> Duration {
    Duration::from_micros(bytes.saturating_mul(1_000) / BYTES_PER_MS)
}

/// Whole milliseconds of a duration.
pub(super) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta<'a>(response_id: &'a str, item_id: &'a str, ms: usize) -> AudioDelta<'a> {
        AudioDelta { response_id, item_id, base64: 0..0, pcm_bytes: ms * 48 }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn cuts(playback: &Playback, active: Option<&str>, now: Instant) -> Vec<(String, u64)> {
        let cuts = playback.cuts(active, now).into_iter();
        cuts.map(|cut| (cut.item_id, cut.heard_ms)).collect()
    }

    fn cut(item: &str, ms: u64) -> Vec<(String, u64)> {
        vec![(item.to_owned(), ms)]
    }

    #[test]
    fn heard_is_the_least_of_sent_elapsed_and_reported() {
        let now = Instant::now();
        let mut playback = Playback::default();
        playback.accept(&delta("r", "a", 1_000));
        assert_eq!(cuts(&playback, Some("r"), now), cut("a", 0), "nothing was sent");
        assert_eq!(playback.sent(500 * 48, now), Some("r"));
        assert_eq!(cuts(&playback, None, now + ms(100)), cut("a", 100));
        assert_eq!(cuts(&playback, None, now + ms(900)), cut("a", 500));
        playback.report(80, now + ms(100));
        assert_eq!(cuts(&playback, None, now + ms(100)), cut("a", 80));
    }

    /// A client that stands still has heard no more since. Once all can have been played, an old report is no
    /// proof of that.
    #[test]
    fn an_old_report_counts_while_the_item_plays() {
        let now = Instant::now();
        let mut playback = Playback::default();
        playback.accept(&delta("r", "a", 0));
        assert!(!playback.has_audio_of("r"));
        playback.accept(&delta("r", "a", 10_000));
        assert!(playback.has_audio_of("r") && !playback.has_audio_of("s"));
        playback.sent(10_000 * 48, now);
        playback.report(80, now + ms(100));
        assert_eq!(cuts(&playback, None, now + ms(9_999)), cut("a", 80));
        assert!(cuts(&playback, None, now + ms(10_000)).is_empty());
    }

    #[test]
    fn what_comes_after_the_client_has_run_out_is_heard_later() {
        let now = Instant::now();
        let mut playback = Playback::default();
        playback.accept(&delta("r", "a", 1_000));
        playback.sent(300 * 48, now);
        playback.sent(300 * 48, now + ms(200));
        playback.sent(400 * 48, now + ms(900));
        assert_eq!(cuts(&playback, None, now + ms(1_000)), cut("a", 700));
        assert!(cuts(&playback, None, now + ms(1_300)).is_empty());
    }

    #[test]
    fn what_was_played_to_its_end_is_not_cut() {
        let now = Instant::now();
        let mut playback = Playback::default();
        playback.accept(&delta("r", "a", 1_000));
        playback.sent(48_000, now);
        assert!(playback.is_playing(now + ms(999)));
        assert!(!playback.is_playing(now + ms(1_000)));
        assert!(cuts(&playback, None, now + ms(1_000)).is_empty());
        playback.report(900, now + ms(900));
        assert_eq!(cuts(&playback, None, now + ms(1_000)), cut("a", 900));
        assert!(cuts(&playback, None, now + ms(5_000)).is_empty(), "an old report says nothing");
        assert_eq!(cuts(&playback, Some("r"), now + ms(5_000)), cut("a", 1_000));
    }

    #[test]
    fn items_play_one_after_the_other() {
        let now = Instant::now();
        let mut playback = Playback::default();
        playback.accept(&delta("r", "a", 1_000));
        playback.accept(&delta("r", "b", 1_000));
        playback.sent(96_000, now);
        assert_eq!(playback.end(), Some(now + ms(2_000)));
        let both = vec![("a".to_owned(), 600), ("b".to_owned(), 0)];
        assert_eq!(cuts(&playback, None, now + ms(600)), both);
        assert_eq!(cuts(&playback, None, now + ms(1_300)), cut("b", 300));
        playback.report(1_200, now + ms(1_300));
        assert_eq!(cuts(&playback, None, now + ms(1_300)), cut("b", 200));
    }

    #[test]
    fn a_new_reply_forgets_the_old_report_and_flush_forgets_all() {
        let now = Instant::now();
        let mut playback = Playback::default();
        playback.accept(&delta("r1", "a", 100));
        playback.sent(4_800, now);
        playback.report(10, now);
        playback.accept(&delta("r2", "b", 1_000));
        assert_eq!(playback.sent(48_000, now + ms(500)), Some("r2"));
        assert_eq!(cuts(&playback, None, now + ms(900)), cut("b", 400));
        playback.flush(now + ms(900));
        assert!(!playback.is_playing(now + ms(900)));
        assert!(cuts(&playback, None, now + ms(950)).is_empty());
        assert_eq!(playback.sent(48, now), None);
    }

    #[test]
    fn what_waits_of_forgotten_items_counts_for_no_other() {
        let now = Instant::now();
        let mut playback = Playback::default();
        for item in ["a", "b", "c", "d", "e", "f", "g", "h", "i"] {
            playback.accept(&delta("r", item, 100));
        }
        playback.sent(150 * 48, now);
        let cuts = cuts(&playback, None, now + ms(150));
        assert_eq!(cuts[..1], cut("b", 50), "the first 100 ms were a's");
        assert!(cuts[1..].iter().all(|(_, heard)| *heard == 0), "none of these has left: {cuts:?}");
    }

    #[test]
    fn a_hold_stops_the_clock_and_what_is_heard_again_is_heard_once() {
        let now = Instant::now();
        let mut playback = Playback::default();
        playback.accept(&delta("r", "a", 1_000));
        playback.sent(48_000, now);
        playback.hold(now + ms(300));
        assert_eq!(cuts(&playback, None, now + ms(799)), cut("a", 300));
        assert!(playback.is_playing(now + ms(5_000)));
        playback.go_on(now + ms(800));
        assert_eq!(cuts(&playback, None, now + ms(800)), cut("a", 100));
        assert_eq!(cuts(&playback, None, now + ms(1_300)), cut("a", 600));
        assert_eq!(playback.end(), Some(now + ms(1_000 + 500 + 200)));
        // So soon after it, only as much comes again as was heard since.
        playback.hold(now + ms(1_400));
        playback.go_on(now + ms(1_400));
        assert_eq!(cuts(&playback, None, now + ms(1_400)), cut("a", 500));
        playback.hold(now + ms(1_450));
        playback.go_on(now + ms(1_450));
        assert_eq!(cuts(&playback, None, now + ms(1_450)), cut("a", 500));
    }

    #[test]
    fn of_the_reply_before_nothing_is_heard_again() {
        let now = Instant::now();
        let mut playback = Playback::default();
        playback.accept(&delta("r1", "a", 1_000));
        playback.sent(48_000, now);
        playback.accept(&delta("r2", "b", 1_000));
        playback.sent(48_000, now + ms(2_000));
        playback.hold(now + ms(2_100));
        playback.go_on(now + ms(2_500));
        assert_eq!(cuts(&playback, None, now + ms(2_700)), cut("b", 200));
    }

    #[test]
    fn a_hold_of_a_client_that_had_run_out_moves_only_what_comes_then() {
        let now = Instant::now();
        for (comes, heard_at_1_200) in [(700, 500), (1_100, 600)] {
            let mut playback = Playback::default();
            playback.accept(&delta("r", "a", 500));
            playback.sent(500 * 48, now);
            playback.hold(now + ms(600));
            playback.accept(&delta("r", "a", 500));
            if comes < 1_000 {
                playback.sent(500 * 48, now + ms(comes));
            }
            playback.go_on(now + ms(1_000));
            if comes > 1_000 {
                playback.sent(500 * 48, now + ms(comes));
            }
            let heard = cuts(&playback, Some("r"), now + ms(1_200));
            assert_eq!(heard, cut("a", heard_at_1_200), "it comes after {comes} ms");
        }
    }

    #[test]
    fn items_are_bounded() {
        let mut playback = Playback::default();
        for index in 0..100 {
            playback.accept(&delta("r", &index.to_string(), 1));
        }
        assert_eq!(playback.items.len(), MAX_ITEMS);
    }

    /// Nine items, of which eight are remembered. What the forgotten one still has to send comes first.
    #[test]
    fn a_forgotten_item_is_still_sent_and_played() {
        let now = Instant::now();
        let mut playback = Playback::default();
        let items: Vec<String> = (0..=MAX_ITEMS).map(|at| at.to_string()).collect();
        playback.accept(&delta("r0", &items[0], 100));
        assert!(playback.is_playing(now), "it waits");
        assert_eq!(playback.sent(40 * 48, now), Some("r0"));
        for item in &items[1..] {
            playback.accept(&delta(item, item, 100));
        }
        assert_eq!(playback.sent(25 * 48, now), None);
        assert_eq!(playback.end(), Some(now + ms(65)));
        assert_eq!(playback.sent(35 * 48, now), None, "the last of what is forgotten");
        assert_eq!(playback.end(), Some(now + ms(100)));
        for (before, item) in items[1..].iter().enumerate() {
            assert!(playback.is_playing(now + ms(10_000)), "{item} waits");
            assert_eq!(playback.sent(100 * 48, now), Some(item.as_str()));
            assert_eq!(playback.end(), Some(now + ms(before as u64 * 100 + 200)));
        }
        let end = now + ms(1_000 - 100);
        assert!(playback.is_playing(end - ms(1)) && !playback.is_playing(end));
    }
}
