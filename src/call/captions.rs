//! The words of both sides: each part of an item is told once, without blanks at its ends.
//!
//! Services tell words twice, with a line end behind them, or as nothing but blanks, and they tell the
//! words of several items in turns. A client shows what it is told, so what is told must be right.
//!
//! The service sends a reply's full text also when it was cancelled, with words nobody heard. Of an
//! interrupted reply the client is told only what had come before the interruption.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::client::Role;
use super::service::{Part, bounded, bounded_str, is_blank, trimmed};

/// Most text kept of one part, in bytes.
const MAX_CAPTION_BYTES: usize = 64 * 1024;
/// Parts whose words may come in turns. The words of an older one are not kept any longer: they were
/// told as they came.
const MAX_OPEN: usize = 4;
/// Parts of which is remembered that they were told. The service repeats itself soon or never.
const MAX_TOLD: usize = 32;

/// A part whose words are still coming.
#[derive(Debug)]
struct Caption {
    role: Role,
    /// The response that it belongs to; empty for words of the user.
    response_id: String,
    part: Part,
    text: String,
    /// How much of the text was told as deltas, in bytes. Blanks at its end are told with what follows,
    /// so never if nothing does.
    shown: usize,
}

/// What the client knows of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// All its words. Nothing more is told of it.
    All,
    /// What had come when its response was given up. If the response goes on all the same, its full
    /// words replace them.
    SoFar,
    /// That it has no words. They may come all the same.
    Failed,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Captions {
    open: VecDeque<Caption>,
    told: VecDeque<(Role, Part, Told)>,
    /// The last words told of a part without an item, of the user and of the assistant.
    unnamed: [Option<Unnamed>; 2],
}

/// What tells words without an item from the next ones: their part, and a hash of them.
type Unnamed = (u64, u64);

impl Captions {
    /// More words of a part. Returns those to tell now; `None` if all of it was told before, or if they
    /// are blank so far. `response_id` is empty for words of the user.
    pub(super) fn push(
        &mut self,
        role: Role,
        response_id: &str,
        part: &Part,
        text: &str,
    ) -> Option<String> {
        if self.was_told(role, part) == Some(Told::All) {
            return None;
        }
        let at = self.position(role, part).unwrap_or_else(|| self.begin(role, response_id, part));
        let Caption { text: all, shown, .. } = self.open.get_mut(at)?;
        all.push_str(bounded_str(text, MAX_CAPTION_BYTES.saturating_sub(all.len())));
        let end = all.trim_end_matches(is_blank).len();
        let fresh = all.get(*shown..end).filter(|fresh| !fresh.is_empty())?;
        let fresh = if *shown == 0 { fresh.trim_start_matches(is_blank) } else { fresh };
        *shown = end;
        Some(fresh.to_owned())
    }

    /// The end of a part: its full text, bounded, or its deltas if there is none. `None` if it was told
    /// before, or is blank.
    pub(super) fn finish(&mut self, role: Role, part: &Part, full: &str) -> Option<String> {
        let deltas = self.take(role, part);
        if self.was_told(role, part) == Some(Told::All) {
            return None;
        }
        let text = match trimmed(full) {
            "" => trimmed(&deltas),
            full => full,
        };
        if text.is_empty() || self.repeats_unnamed(role, part, text) {
            return None;
        }
        self.remember(role, part, Told::All);
        Some(bounded(text, MAX_CAPTION_BYTES))
    }

    /// The next turn of the user, or the next response, begins: from here on the same words are said anew.
    pub(super) fn next_turn(&mut self, role: Role) {
        self.unnamed[role as usize] = None;
    }

    /// Whether these words of an item were told, with its name or without any.
    pub(super) fn has_told(&self, role: Role, part: &Part, text: &str) -> bool {
        let words = Some((part.content_index, hash(trimmed(text))));
        self.was_told(role, part) == Some(Told::All) || self.unnamed[role as usize] == words
    }

    /// Whether words without an item are those that were told last in this turn. The next turn may well
    /// have the same ones.
    fn repeats_unnamed(&mut self, role: Role, part: &Part, text: &str) -> bool {
        if !part.item_id.is_empty() {
            return false;
        }
        let words = Some((part.content_index, hash(trimmed(text))));
        std::mem::replace(&mut self.unnamed[role as usize], words) == words
    }

    /// The end of a part of a reply that was cut off: what had come, with a mark that more was meant. The mark
    /// takes the place of a full stop.
    pub(super) fn cut_off(&mut self, part: &Part) -> Option<String> {
        let text = self.take(Role::Assistant, part);
        if self.was_told(Role::Assistant, part) == Some(Told::All) {
            return None;
        }
        self.remember(Role::Assistant, part, Told::All);
        marked(&text)
    }

    /// The end of a response: the parts of it that have not come to their own. With `complete` their
    /// words are all there were.
    pub(super) fn end(&mut self, response_id: &str, complete: bool) -> Vec<(Part, String)> {
        self.close(response_id, |text| {
            let whole = trimmed(text);
            if complete { (!whole.is_empty()).then(|| whole.to_owned()) } else { marked(text) }
        })
    }

    /// The response was given up. Its words so far are told as if it had been cut off, but they may be
    /// replaced yet.
    pub(super) fn give_up(&mut self, response_id: &str) -> Vec<(Part, String)> {
        let parts = self.close(response_id, marked);
        for (part, _) in &parts {
            self.remember(Role::Assistant, part, Told::SoFar);
        }
        parts
    }

    /// The user's part has no words. Returns what the client knew of it before. What it has been told is
    /// not taken back.
    pub(super) fn fail(&mut self, part: &Part) -> Option<Told> {
        self.take(Role::User, part);
        let before = self.was_told(Role::User, part);
        if before.is_none() {
            self.remember(Role::User, part, Told::Failed);
        }
        before
    }

    /// Closes the parts of a response. Where either id is missing, it is taken for this response.
    fn close(
        &mut self,
        response_id: &str,
        words: impl Fn(&str) -> Option<String>,
    ) -> Vec<(Part, String)> {
        let belongs = |caption: &mut Caption| {
            let id = &caption.response_id;
            let same = id == response_id || id.is_empty() || response_id.is_empty();
            caption.role == Role::Assistant && same
        };
        let mut closed = Vec::new();
        while let Some(at) = self.open.iter_mut().position(belongs) {
            let Some(caption) = self.open.remove(at) else { break };
            self.remember(caption.role, &caption.part, Told::All);
            closed.extend(words(&caption.text).map(|text| (caption.part, text)));
        }
        closed
    }

    fn position(&self, role: Role, part: &Part) -> Option<usize> {
        self.open.iter().position(|caption| caption.role == role && caption.part == *part)
    }

    fn begin(&mut self, role: Role, response_id: &str, part: &Part) -> usize {
        if self.open.len() == MAX_OPEN {
            self.open.pop_front();
        }
        let (response_id, part) = (response_id.to_owned(), part.clone());
        self.open.push_back(Caption { role, response_id, part, text: String::new(), shown: 0 });
        self.open.len() - 1
    }

    fn take(&mut self, role: Role, part: &Part) -> String {
        let caption = self.position(role, part).and_then(|at| self.open.remove(at));
        caption.map(|caption| caption.text).unwrap_or_default()
    }

    fn was_told(&self, role: Role, part: &Part) -> Option<Told> {
        let same = |(whose, known, _): &&(Role, Part, Told)| *whose == role && known == part;
        self.told.iter().find(same).map(|(.., told)| *told)
    }

    /// A part without an item has no name to be known by: see [`Self::repeats_unnamed`].
    fn remember(&mut self, role: Role, part: &Part, told: Told) {
        if part.item_id.is_empty() {
            return;
        }
        self.told.retain(|(whose, known, _)| *whose != role || known != part);
        if self.told.len() == MAX_TOLD {
            self.told.pop_front();
        }
        self.told.push_back((role, part.clone(), told));
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Words that were cut off, with the mark for it.
fn marked(text: &str) -> Option<String> {
    let text = trimmed(text).trim_end_matches(['.', '…', '。']);
    (!text.is_empty()).then(|| format!("{text}…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(item_id: &str) -> Part {
        Part { item_id: item_id.to_owned(), content_index: 0 }
    }

    #[test]
    fn what_was_cut_off_is_marked() {
        for (text, wanted) in [
            ("One two ", Some("One two…")),
            ("Back. ", Some("Back…")),
            ("So...", Some("So…")),
            ("Why?", Some("Why?…")),
            ("…", None),
            (" ", None),
        ] {
            let mut captions = Captions::default();
            captions.push(Role::Assistant, "r", &part("a"), text);
            assert_eq!(captions.cut_off(&part("a")).as_deref(), wanted);
            assert_eq!(
                captions.finish(Role::Assistant, &part("a"), "All of it."),
                None,
                "it was told"
            );
        }
    }

    #[test]
    fn everything_that_is_kept_is_bounded() {
        let mut captions = Captions::default();
        captions.push(Role::Assistant, "r", &part("b"), &"é".repeat(MAX_CAPTION_BYTES));
        assert_eq!(captions.push(Role::Assistant, "r", &part("b"), "more"), None);
        assert_eq!(
            captions.finish(Role::Assistant, &part("b"), "").map(|text| text.len()),
            Some(MAX_CAPTION_BYTES)
        );
        for index in 0..1_000 {
            captions.push(Role::User, "", &part(&index.to_string()), "x");
            captions.finish(Role::Assistant, &part(&format!("f{index}")), "x");
        }
        assert_eq!((captions.open.len(), captions.told.len()), (MAX_OPEN, MAX_TOLD));
    }

    #[test]
    fn a_response_that_was_given_up_may_yet_be_told_in_full() {
        let mut captions = Captions::default();
        captions.push(Role::Assistant, "r", &part("a"), "Once upon");
        captions.push(Role::User, "", &part("u"), "Tell me");
        assert_eq!(captions.give_up("r"), [(part("a"), "Once upon…".to_owned())]);
        assert_eq!(
            captions.push(Role::Assistant, "r", &part("a"), " a time").as_deref(),
            Some("a time")
        );
        assert_eq!(
            captions.finish(Role::Assistant, &part("a"), "Once upon a time.").as_deref(),
            Some("Once upon a time.")
        );
        assert_eq!(captions.finish(Role::Assistant, &part("a"), "Once upon a time."), None);
        assert_eq!(captions.finish(Role::User, &part("u"), "").as_deref(), Some("Tell me"));
    }

    #[test]
    fn words_without_an_item_are_told_once_a_turn() {
        let mut captions = Captions::default();
        let mut told = |role, text| captions.finish(role, &part(""), text).is_some();
        assert!(told(Role::Assistant, "Yes.") && told(Role::User, "Yes.\n"));
        assert!(!told(Role::Assistant, "Yes.\n") && !told(Role::User, "Yes."));
        assert!(told(Role::User, "No."));
        captions.next_turn(Role::User);
        let mut told = |role, text| captions.finish(role, &part(""), text).is_some();
        assert!(told(Role::User, "No.") && !told(Role::Assistant, "Yes."));
    }

    #[test]
    fn what_nobody_sees_is_no_transcript() {
        for blank in ["", " \n", "\u{feff}", "\u{200b}\u{a0}", "\u{2060}\t"] {
            let mut captions = Captions::default();
            let item = part("a");
            assert_eq!(captions.push(Role::User, "", &item, blank), None, "{blank:?}");
            assert_eq!(captions.finish(Role::User, &item, blank), None, "{blank:?}");
            let text = format!("{blank}one\u{200b}two{blank}");
            assert_eq!(
                captions.finish(Role::User, &item, &text).as_deref(),
                Some("one\u{200b}two")
            );
        }
    }
}
