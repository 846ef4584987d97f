//! The words of the reply that is being spoken, for the case that it is cut off.
//!
//! The service sends a reply's full text also when it was cancelled, with words nobody heard. Of an
//! interrupted reply the client is told only what had come before the interruption.

use super::service::{bounded, bounded_str};

/// Most text kept of one item, in bytes.
const MAX_CAPTION_BYTES: usize = 64 * 1024;

/// The deltas of one item, joined.
#[derive(Debug, Default)]
pub(super) struct Captions {
    item_id: String,
    text: String,
}

impl Captions {
    /// More words of an item; those of another item before it are forgotten.
    pub(super) fn push(&mut self, item_id: &str, text: &str) {
        if self.item_id != item_id {
            self.text.clear();
            self.item_id.clear();
            self.item_id.push_str(item_id);
        }
        let room = MAX_CAPTION_BYTES.saturating_sub(self.text.len());
        self.text.push_str(bounded_str(text, room));
    }

    /// The end of an item: its full text, bounded, or the deltas if there is none.
    pub(super) fn finish(&mut self, full: &str) -> Option<String> {
        let deltas = std::mem::take(&mut self.text);
        let text = if full.trim().is_empty() { deltas } else { bounded(full, MAX_CAPTION_BYTES) };
        (!text.trim().is_empty()).then_some(text)
    }

    /// The end of an item that was cut off: what had come, with a mark that more was meant. The mark
    /// takes the place of a full stop.
    pub(super) fn cut_off(&mut self) -> Option<String> {
        let text = std::mem::take(&mut self.text);
        let text = text.trim_end().trim_end_matches(['.', '…', '。']);
        (!text.is_empty()).then(|| format!("{text}…"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_bounded_and_per_item() {
        let mut captions = Captions::default();
        captions.push("a", "old");
        captions.push("b", "One ");
        captions.push("b", "two ");
        assert_eq!(captions.cut_off().as_deref(), Some("One two…"));
        assert_eq!(captions.cut_off(), None);
        for (text, marked) in [("Back. ", "Back…"), ("So...", "So…"), ("Why?", "Why?…")] {
            captions.push("b", text);
            assert_eq!(captions.cut_off().as_deref(), Some(marked));
        }
        captions.push("b", "…");
        assert_eq!(captions.cut_off(), None);
        captions.push("b", &"é".repeat(MAX_CAPTION_BYTES));
        captions.push("b", "more");
        assert_eq!(captions.finish("").map(|text| text.len()), Some(MAX_CAPTION_BYTES));
        captions.push("b", "delta");
        assert_eq!(captions.finish("full").as_deref(), Some("full"));
        assert_eq!(captions.finish(" "), None);
    }
}
