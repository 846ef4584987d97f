//! The odd byte of audio that comes in an odd number of bytes: half of a 16-bit sample. It waits for its
//! other half, which is the next byte of the same sound. Left in place, it would shift every later
//! sample by a byte and turn the rest of the call into noise.

use crate::call::service::AudioDelta;

/// Items whose halves are kept at once. Services send one item after the other, or two in turns.
const MAX_ITEMS: usize = 4;

/// Halves of samples of the reply, each with the item it belongs to. Two items are two sounds, so a half
/// never joins another item's. What is left at an item's end is dropped.
///
/// An entry without a byte is free. Its memory is used again, so that a service that cuts all its deltas so
/// costs no allocation for each.
#[derive(Debug, Default)]
pub(super) struct ReplyHalf(Vec<Half>);

#[derive(Debug, Default)]
struct Half {
    byte: Option<u8>,
    response_id: String,
    item_id: String,
}

impl ReplyHalf {
    /// How many bytes are whole samples of a delta of `bytes`, with the half that waits for it.
    pub(super) fn whole(&self, delta: &AudioDelta<'_>, bytes: usize) -> usize {
        let waits = self.0.iter().any(|half| half.waits_for(delta));
        (bytes + usize::from(waits)) & !1
    }

    /// Whether a delta of `bytes` can be passed on as it is, as nearly all can: no half waits, and it leaves
    /// none.
    pub(super) fn is_even(&self, bytes: usize) -> bool {
        bytes.is_multiple_of(2)
            && (self.0.is_empty() || self.0.iter().all(|half| half.byte.is_none()))
    }

    /// The whole samples of a delta. `room` is its PCM behind one byte of room, where the half that
    /// waits is put in front. The second value says whether a half of another item had to be dropped.
    pub(super) fn join<'r>(
        &mut self,
        delta: &AudioDelta<'_>,
        room: &'r mut [u8],
    ) -> (&'r [u8], bool) {
        let own = self.0.iter_mut().find(|half| half.waits_for(delta));
        let before = own.and_then(|half| half.byte.take());
        let mut from = 1;
        if let (Some(byte), Some(first)) = (before, room.first_mut()) {
            (*first, from) = (byte, 0);
        }
        let samples = room.get(from..).unwrap_or_default();
        let (whole, odd) = samples.split_at(samples.len() & !1);
        let dropped = odd.first().is_some_and(|odd| self.keep(delta, *odd));
        (whole, dropped)
    }

    /// Keeps a half. True if the oldest one had to go for it.
    fn keep(&mut self, delta: &AudioDelta<'_>, byte: u8) -> bool {
        let free = self.0.iter().position(|half| half.byte.is_none());
        let mut half = match free {
            Some(at) => self.0.remove(at),
            None if self.0.len() < MAX_ITEMS => Half::default(),
            None => self.0.remove(0),
        };
        delta.response_id.clone_into(&mut half.response_id);
        delta.item_id.clone_into(&mut half.item_id);
        let dropped = half.byte.replace(byte).is_some();
        self.0.push(half);
        dropped
    }

    /// No more audio of this item comes: drops its half. How many there were. Where either names no item, it
    /// is taken for this one.
    pub(super) fn end_item(&mut self, item_id: &str) -> u64 {
        self.drop_those(|half| is_same(&half.item_id, item_id))
    }

    /// The same for all items of a response.
    pub(super) fn end_response(&mut self, response_id: &str) -> u64 {
        self.drop_those(|half| is_same(&half.response_id, response_id))
    }

    /// Drops what waits (barge-in, the call's end). How many there were.
    pub(super) fn drop(&mut self) -> u64 {
        self.drop_those(|_| true)
    }

    fn drop_those(&mut self, which: impl Fn(&Half) -> bool) -> u64 {
        let those = self.0.iter_mut().filter(|half| which(half));
        those.filter_map(|half| half.byte.take()).count() as u64
    }
}

impl Half {
    fn waits_for(&self, delta: &AudioDelta<'_>) -> bool {
        self.byte.is_some()
            && self.item_id == delta.item_id
            && self.response_id == delta.response_id
    }
}

fn is_same(one: &str, other: &str) -> bool {
    one == other || one.is_empty() || other.is_empty()
}

/// Half a sample of the microphone. A call has one microphone, so it waits until the call ends.
#[derive(Debug, Default)]
pub(super) struct MicrophoneHalf(Option<u8>);

impl MicrophoneHalf {
    /// Whether a frame of `bytes` can be passed on as it is.
    pub(super) fn is_even(&self, bytes: usize) -> bool {
        self.0.is_none() && bytes.is_multiple_of(2)
    }

    /// What a frame brings: the sample that it completes, and its own whole samples. What is left over
    /// waits for the next frame.
    pub(super) fn join<'f>(&mut self, frame: &'f [u8]) -> (Option<[u8; 2]>, &'f [u8]) {
        let (completed, rest) = match (self.0, frame) {
            (Some(low), [high, rest @ ..]) => {
                self.0 = None;
                (Some([low, *high]), rest)
            }
            _ => (None, frame),
        };
        let (whole, odd) = rest.split_at(rest.len() & !1);
        if let [odd] = odd {
            self.0 = Some(*odd);
        }
        (completed, whole)
    }

    /// Drops what waits. False if nothing did.
    pub(super) fn drop(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta<'a>(response_id: &'a str, item_id: &'a str) -> AudioDelta<'a> {
        AudioDelta { response_id, item_id, base64: 0..0, pcm_bytes: 0 }
    }

    /// What comes of a delta, and whether another item's half was dropped for it.
    fn join(half: &mut ReplyHalf, item: &str, pcm: &[u8]) -> (Vec<u8>, bool) {
        let delta = delta("r", item);
        let whole = half.whole(&delta, pcm.len());
        let mut room = [&[0xee][..], pcm].concat();
        let (samples, dropped) = half.join(&delta, &mut room);
        assert_eq!(samples.len(), whole);
        (samples.to_vec(), dropped)
    }

    #[test]
    fn an_odd_byte_waits_for_its_item() {
        let mut half = ReplyHalf::default();
        assert_eq!(join(&mut half, "i", b"abc"), (b"ab".to_vec(), false));
        assert_eq!(join(&mut half, "i", b""), (b"".to_vec(), false));
        assert_eq!(join(&mut half, "i", b"d"), (b"cd".to_vec(), false));
        assert_eq!(join(&mut half, "i", b"e"), (b"".to_vec(), false));
        assert_eq!(join(&mut half, "i", b"fgh"), (b"efgh".to_vec(), false));
        assert_eq!(join(&mut half, "i", b"k"), (b"".to_vec(), false));
        assert_eq!(join(&mut half, "j", b"lm"), (b"lm".to_vec(), false));
        assert_eq!(join(&mut half, "j", b"n"), (b"".to_vec(), false));
        assert_eq!(join(&mut half, "i", b"l"), (b"kl".to_vec(), false));
        assert_eq!(join(&mut half, "j", b"o"), (b"no".to_vec(), false));
        assert!(half.is_even(2));
    }

    #[test]
    fn the_oldest_half_goes_when_too_many_wait() {
        let mut half = ReplyHalf::default();
        for item in ["a", "b", "c", "d"] {
            assert_eq!(join(&mut half, item, b"1"), (b"".to_vec(), false));
        }
        assert_eq!(join(&mut half, "e", b"1"), (b"".to_vec(), true));
        assert_eq!(join(&mut half, "a", b"12"), (b"12".to_vec(), false));
        assert_eq!(join(&mut half, "e", b"2"), (b"12".to_vec(), false));
        assert_eq!((half.drop(), half.0.len()), (3, MAX_ITEMS));
    }

    #[test]
    fn it_is_dropped_at_the_end_of_its_item_or_response() {
        let mut half = ReplyHalf::default();
        join(&mut half, "i", b"a");
        assert_eq!((half.end_item("j"), half.end_response("q")), (0, 0));
        assert_eq!((half.end_item("i"), half.end_item("i")), (1, 0));
        for end in [ReplyHalf::end_item, ReplyHalf::end_response] {
            join(&mut half, "i", b"a");
            assert_eq!(end(&mut half, ""), 1, "it is not named");
        }
        join(&mut half, "", b"a");
        assert_eq!(half.end_item("i"), 1);
        join(&mut half, "i", b"a");
        join(&mut half, "j", b"a");
        assert_eq!((half.end_response("r"), half.drop()), (2, 0));
    }

    #[test]
    fn a_microphones_frames_are_one_sound() {
        let mut half = MicrophoneHalf::default();
        let mut sound = Vec::new();
        for frame in [&b"a"[..], b"", b"bcd", b"efgh", b"i", b"jk", b"l"] {
            let (completed, whole) = half.join(frame);
            assert!(whole.len().is_multiple_of(2));
            sound.extend(completed.into_iter().flatten());
            sound.extend_from_slice(whole);
        }
        assert_eq!(sound, b"abcdefghijkl");
        assert!(!half.drop());
    }
}
