//! The odd byte of audio that comes in an odd number of bytes: half of a 16-bit sample. It waits for its
//! other half, which is the next byte of the same sound. Left in place, it would shift every later
//! sample by a byte and turn the rest of the call into noise.

use crate::call::service::AudioDelta;

/// Half a sample of the reply, and the item it belongs to. Two items are two sounds, so it never joins
/// another one. What is left at an item's end is dropped.
#[derive(Debug, Default)]
pub(super) struct ReplyHalf {
    byte: Option<u8>,
    /// Of the item. Their memory is used again, so that a service that cuts all its deltas so costs no
    /// allocation for each.
    response_id: String,
    item_id: String,
}

impl ReplyHalf {
    /// Whether a half waits.
    pub(super) fn waits(&self) -> bool {
        self.byte.is_some()
    }

    /// How many bytes are whole samples of a delta of `bytes`, with the half that waits for it.
    pub(super) fn whole(&self, delta: &AudioDelta<'_>, bytes: usize) -> usize {
        (bytes + usize::from(self.waits() && self.is_of(delta))) & !1
    }

    /// Whether a delta of `bytes` can be passed on as it is, as nearly all can: no half waits for it, and
    /// it leaves none.
    pub(super) fn is_even(&self, bytes: usize) -> bool {
        !self.waits() && bytes.is_multiple_of(2)
    }

    /// The whole samples of a delta. `room` is its PCM behind one byte of room, where the half that
    /// waits is put in front. The second value says whether a half of another item was dropped.
    pub(super) fn join<'r>(
        &mut self,
        delta: &AudioDelta<'_>,
        room: &'r mut [u8],
    ) -> (&'r [u8], bool) {
        let goes_on = self.is_of(delta);
        let before = self.byte.take();
        let mut from = 1;
        if let (Some(byte), Some(first), true) = (before, room.first_mut(), goes_on) {
            (*first, from) = (byte, 0);
        }
        let samples = room.get(from..).unwrap_or_default();
        let (whole, odd) = samples.split_at(samples.len() & !1);
        if let [odd] = odd {
            self.byte = Some(*odd);
            if !goes_on {
                delta.response_id.clone_into(&mut self.response_id);
                delta.item_id.clone_into(&mut self.item_id);
            }
        }
        (whole, before.is_some() && !goes_on)
    }

    /// No more audio of this item comes: drops its half. False if there was none.
    pub(super) fn end_item(&mut self, item_id: &str) -> bool {
        (item_id.is_empty() || self.item_id == item_id) && self.drop()
    }

    /// The same for all items of a response.
    pub(super) fn end_response(&mut self, response_id: &str) -> bool {
        self.response_id == response_id && self.drop()
    }

    /// Drops what waits (barge-in, the call's end). False if nothing did.
    pub(super) fn drop(&mut self) -> bool {
        self.byte.take().is_some()
    }

    fn is_of(&self, delta: &AudioDelta<'_>) -> bool {
        self.item_id == delta.item_id && self.response_id == delta.response_id
    }
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
        assert_eq!(join(&mut half, "j", b"lm"), (b"lm".to_vec(), true));
        assert!(!half.waits());
    }

    #[test]
    fn it_is_dropped_at_the_end_of_its_item_or_response() {
        let mut half = ReplyHalf::default();
        join(&mut half, "i", b"a");
        assert!(!half.end_item("j") && !half.end_response("q") && half.waits());
        assert!(half.end_item("i") && !half.end_item("i"));
        join(&mut half, "i", b"a");
        assert!(half.end_response("r") && !half.drop());
        join(&mut half, "i", b"a");
        assert!(half.drop());
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
