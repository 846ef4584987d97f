//! The history of a call: what was said, so that a new session of the service can go on from there.
//!
//! A new connection is a new session, and that begins with an empty conversation. So the call keeps
//! the text of the conversation, and gives it to the new session item by item.
//!
//! What is kept is what the user has heard: the text of a reply that was cut off is cut too, in
//! proportion to the audio that was played. A function call and its output are one entry, because the
//! service refuses a call without an output, and an output without its call. Audio is not kept; the
//! transcript stands for it.
//!
//! Bounds: [`MAX_ENTRIES`] entries, [`MAX_TEXT_BYTES`] bytes of each text, [`MAX_BYTES`] in all. When
//! one is reached, the oldest turn goes as a whole (everything up to the next words of the user).

use std::collections::VecDeque;

use super::service::commands::Item;
use super::service::{bounded, bounded_str, trimmed};

/// Most entries kept. With a tool's two items this makes at most 128 items.
const MAX_ENTRIES: usize = 64;
/// Most text kept of all entries together, in bytes.
const MAX_BYTES: usize = 32 * 1024;
/// Most text kept of one message, one call's arguments or one tool's output, in bytes.
const MAX_TEXT_BYTES: usize = 8 * 1024;

/// An entry of the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    /// Words of the user, typed or spoken. The text of spoken ones is empty until the transcript is
    /// there.
    User { item_id: String, text: String },
    /// Words of the assistant.
    Assistant { item_id: String, text: String, ending: Ending },
    /// A function call. Without an output the tool is still running. `known`: the present session of
    /// the service has the call.
    Tool { call_id: String, name: String, arguments: String, output: Option<String>, known: bool },
}

/// What may still become of a reply's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// More words may come. The present session has the item with its audio.
    Open,
    /// Its session is gone, and no word follows. What was sent of its audio may still be playing, so it may
    /// be cut. The present session has it as text, or will.
    Settled,
    /// It was cut to what was heard.
    Cut,
}

impl Entry {
    /// Bytes of text in it.
    fn bytes(&self) -> usize {
        match self {
            Self::User { text, .. } | Self::Assistant { text, .. } => text.len(),
            Self::Tool { name, arguments, output, .. } => {
                name.len() + arguments.len() + output.as_ref().map_or(0, String::len)
            }
        }
    }

    fn is_user(&self) -> bool {
        matches!(self, Self::User { .. })
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct History {
    entries: VecDeque<Entry>,
    /// Bytes of text of all entries.
    bytes: usize,
    /// Older turns have gone.
    shortened: bool,
    /// How many of the first entries the session knows that is being prepared.
    told: usize,
    /// Typed turns and renewed replies so far. The service gives the items of the first ids that nobody needs,
    /// so they get one here.
    typed: u64,
}

impl History {
    /// The user's turn is an item now. Its words come later, when it is transcribed.
    pub(super) fn user_spoke(&mut self, item_id: &str) {
        if !item_id.is_empty() && self.position(item_id).is_none() {
            self.push(Entry::User { item_id: item_id.to_owned(), text: String::new() });
        }
    }

    /// The words of a spoken turn. They may come long after the turn, also after the answer to it.
    pub(super) fn user_said(&mut self, item_id: &str, words: &str) {
        self.user_spoke(item_id);
        self.change(item_id, |entry| {
            if let Entry::User { text, .. } = entry {
                *text = bounded(trimmed(words), MAX_TEXT_BYTES);
            }
        });
    }

    /// A typed turn of the user.
    pub(super) fn user_typed(&mut self, words: &str) {
        let text = bounded(trimmed(words), MAX_TEXT_BYTES);
        self.typed += 1;
        self.push(Entry::User { item_id: format!("typed_{}", self.typed), text });
    }

    /// More words of a reply.
    pub(super) fn assistant_says(&mut self, item_id: &str, words: &str) {
        if self.position(item_id).is_none() {
            let item_id = item_id.to_owned();
            self.push(Entry::Assistant { item_id, text: String::new(), ending: Ending::Open });
        }
        self.change(item_id, |entry| {
            if let Entry::Assistant { text, ending: Ending::Open, .. } = entry {
                let room = MAX_TEXT_BYTES.saturating_sub(text.len());
                text.push_str(bounded_str(words, room));
            }
        });
    }

    /// The whole text of a reply's item.
    pub(super) fn assistant_said(&mut self, item_id: &str, words: &str) {
        self.assistant_says(item_id, "");
        self.change(item_id, |entry| {
            if let Entry::Assistant { text, ending: Ending::Open, .. } = entry
                && !trimmed(words).is_empty()
            {
                *text = bounded(words, MAX_TEXT_BYTES);
            }
        });
    }

    /// A reply's item was cut off: of `all_ms` of its audio, `heard_ms` were played. The text is cut
    /// in the same proportion, at the end of a word, since the service tells no times of words.
    ///
    /// Says whether the present session has the item as text, or will: text cannot be truncated there.
    pub(super) fn cut(&mut self, item_id: &str, heard_ms: u64, all_ms: u64) -> bool {
        let mut as_text = false;
        self.change(item_id, |entry| {
            if let Entry::Assistant { text, ending, .. } = entry
                && *ending != Ending::Cut
            {
                as_text = *ending == Ending::Settled;
                *ending = Ending::Cut;
                text.truncate(heard_bytes(text, heard_ms, all_ms));
            }
        });
        as_text
    }

    /// A reply that the session knows as a text, and that was cut, gets another id, by which it is told anew.
    /// `None` if nothing of it was heard.
    pub(super) fn renew(&mut self, id: &str) -> Option<Item<'_>> {
        self.typed += 1;
        let index = self.position(id)?;
        match self.entries.get_mut(index)? {
            Entry::Assistant { item_id, text, .. } if !trimmed(text).is_empty() => {
                *item_id = format!("cut_{}", self.typed);
                Some(Item::Assistant { id: item_id, text })
            }
            _ => None,
        }
    }

    /// The model calls a tool.
    pub(super) fn tool_called(&mut self, call_id: &str, name: &str, arguments: &str) {
        if self.position(call_id).is_some() {
            return;
        }
        // Cut arguments would be no JSON any more, and the service would refuse the item.
        let fits = arguments.len() <= MAX_TEXT_BYTES;
        let arguments = if fits && !arguments.is_empty() { arguments } else { "{}" };
        self.push(Entry::Tool {
            call_id: call_id.to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            output: None,
            known: true,
        });
    }

    /// The output of a tool, as it was sent to the model.
    pub(super) fn tool_answered(&mut self, call_id: &str, text: &str) {
        self.change(call_id, |entry| {
            if let Entry::Tool { output, .. } = entry {
                *output = Some(bounded(text, MAX_TEXT_BYTES));
            }
        });
    }

    /// The service has refused this item: it leaves the history, and a tool's call goes with its
    /// output.
    pub(super) fn forget(&mut self, id: &str) {
        if let Some(index) = self.position(id)
            && let Some(entry) = self.entries.remove(index)
        {
            self.bytes -= entry.bytes();
            self.told -= usize::from(index < self.told);
        }
    }

    /// The session is lost, and with it the turns whose words are not known. Replies are settled
    /// with the words that have come: nothing more will be heard of them.
    pub(super) fn settle(&mut self) {
        let unknown =
            |entry: &Entry| matches!(entry, Entry::User { text, .. } if trimmed(text).is_empty());
        self.entries.retain(|entry| !unknown(entry));
        self.told = 0;
        for entry in &mut self.entries {
            match entry {
                Entry::Assistant { ending: ending @ Ending::Open, .. } => *ending = Ending::Settled,
                Entry::Assistant { .. } => {}
                Entry::Tool { known, .. } => *known = false,
                Entry::User { .. } => {}
            }
        }
    }

    /// The new session was sent all items: it knows the calls that have an output.
    pub(super) fn replayed(&mut self) {
        for entry in &mut self.entries {
            if let Entry::Tool { output: Some(_), known, .. } = entry {
                *known = true;
            }
        }
    }

    /// Whether older turns have gone: the new session is told so.
    pub(super) fn is_shortened(&self) -> bool {
        self.shortened
    }

    /// The items for the new session, in order. Empty messages and tools that are still running are
    /// left out.
    pub(super) fn items(&self) -> impl Iterator<Item = Item<'_>> {
        self.items_of(0, usize::MAX)
    }

    /// The items of the entries in front of `until` that the session does not know which is being prepared.
    pub(super) fn untold(&self, until: usize) -> impl Iterator<Item = Item<'_>> {
        self.items_of(self.told, until)
    }

    /// That session was told them.
    pub(super) fn tell(&mut self, until: usize) {
        self.told = until.min(self.entries.len()).max(self.told);
    }

    /// That session is gone.
    pub(super) fn untell(&mut self) {
        self.told = 0;
    }

    /// How many of the first entries will not change any more: those of the turns before the last one, up to
    /// words that have not come, a tool that runs, or a reply that may still be cut.
    pub(super) fn settled(&self, is_playing: impl Fn(&str) -> bool) -> usize {
        let may_change = |entry: &Entry| match entry {
            Entry::User { text, .. } => trimmed(text).is_empty(),
            Entry::Assistant { item_id, .. } => is_playing(item_id),
            Entry::Tool { output, .. } => output.is_none(),
        };
        let last_turn = self.entries.iter().rposition(Entry::is_user).unwrap_or_default();
        self.entries.iter().take(last_turn).position(may_change).unwrap_or(last_turn)
    }

    fn items_of(&self, from: usize, until: usize) -> impl Iterator<Item = Item<'_>> {
        self.entries
            .iter()
            .take(until)
            .skip(from)
            .flat_map(|entry| match entry {
                Entry::User { item_id, text } if !trimmed(text).is_empty() => {
                    [Some(Item::User { id: item_id, text }), None]
                }
                Entry::Assistant { item_id, text, .. } if !trimmed(text).is_empty() => {
                    [Some(Item::Assistant { id: item_id, text }), None]
                }
                Entry::Tool { call_id, name, arguments, output: Some(output), .. } => [
                    Some(Item::Call { call_id, name, arguments }),
                    Some(Item::Output { call_id, output }),
                ],
                Entry::User { .. } | Entry::Assistant { .. } | Entry::Tool { .. } => [None, None],
            })
            .flatten()
    }

    /// This call, if the present session of the service does not know it: its tool was running when
    /// the session before was lost.
    pub(super) fn unknown_call(&self, id: &str) -> Option<Item<'_>> {
        match self.entries.get(self.position(id)?)? {
            Entry::Tool { call_id, name, arguments, known: false, .. } => {
                Some(Item::Call { call_id, name, arguments })
            }
            Entry::User { .. } | Entry::Assistant { .. } | Entry::Tool { .. } => None,
        }
    }

    /// Where the entry with this item id or call id is. The newest is looked at first, since nearly
    /// every change is to the newest entry.
    fn position(&self, id: &str) -> Option<usize> {
        let has_id = |entry: &Entry| match entry {
            Entry::User { item_id, .. } | Entry::Assistant { item_id, .. } => item_id == id,
            Entry::Tool { call_id, .. } => call_id == id,
        };
        if id.is_empty() { None } else { self.entries.iter().rposition(has_id) }
    }

    /// Changes the entry with this id, and keeps the bound.
    fn change(&mut self, id: &str, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.position(id).and_then(|index| self.entries.get_mut(index)) else {
            return;
        };
        self.bytes -= entry.bytes();
        change(entry);
        self.bytes += entry.bytes();
        self.keep_bounds();
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        self.keep_bounds();
    }

    /// Drops the oldest turns until the bounds hold. The newest entry always stays.
    fn keep_bounds(&mut self) {
        while self.entries.len() > 1 && (self.entries.len() > MAX_ENTRIES || self.bytes > MAX_BYTES)
        {
            self.shortened = true;
            self.drop_oldest();
            while self.entries.len() > 1 && !self.entries[0].is_user() {
                self.drop_oldest();
            }
        }
    }

    fn drop_oldest(&mut self) {
        self.bytes -= self.entries.pop_front().map_or(0, |entry| entry.bytes());
        self.told = self.told.saturating_sub(1);
    }
}

/// How many bytes of a text were heard, if `heard_ms` of `all_ms` were: whole words only.
fn heard_bytes(text: &str, heard_ms: u64, all_ms: u64) -> usize {
    if heard_ms >= all_ms {
        return text.len();
    }
    let characters = text.chars().count() as u64;
    let heard = characters * heard_ms / all_ms;
    let heard = usize::try_from(heard).unwrap_or(usize::MAX);
    let at = text.char_indices().nth(heard).map_or(text.len(), |(at, _)| at);
    // Languages without spaces are cut between characters.
    if !text[..at].contains(char::is_whitespace) || text[at..].starts_with(char::is_whitespace) {
        return text[..at].trim_end().len();
    }
    text[..at].rfind(char::is_whitespace).map_or(at, |space| text[..space].trim_end().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(history: &History) -> Vec<String> {
        history
            .items()
            .map(|item| match item {
                Item::User { text, .. } => format!("user: {text}"),
                Item::Assistant { text, .. } => format!("assistant: {text}"),
                Item::Call { name, arguments, .. } => format!("{name}({arguments})"),
                Item::Output { output, .. } => format!("-> {output}"),
            })
            .collect()
    }

    #[test]
    fn a_late_transcript_stands_before_the_answer() {
        let mut history = History::default();
        history.user_spoke("u1");
        history.assistant_says("a1", "It is ");
        history.assistant_says("a1", "noon.");
        history.user_said("u1", " What time is it?\n");
        history.assistant_said("a1", "It is noon.");
        history.user_typed("Thanks");
        assert_eq!(
            texts(&history),
            ["user: What time is it?", "assistant: It is noon.", "user: Thanks"]
        );
    }

    #[test]
    fn a_reply_is_cut_to_what_was_heard_and_stays_so() {
        for (heard, all, text) in [
            (1_000, 1_000, "One two three four"),
            (600, 1_000, "One two"),
            (0, 1_000, ""),
            (10, 0, "One two three four"),
        ] {
            let mut history = History::default();
            history.assistant_says("a", "One two three four");
            history.cut("a", heard, all);
            history.assistant_says("a", " five");
            history.assistant_said("a", "One two three four five");
            let expected: Vec<_> = Some(format!("assistant: {text}"))
                .filter(|_| !text.is_empty())
                .into_iter()
                .collect();
            assert_eq!(texts(&history), expected, "{heard} of {all}");
        }
        assert_eq!(heard_bytes("今日は晴れです", 500, 1_000), 9, "no spaces: whole characters");
        assert_eq!(heard_bytes("Hello there", 500, 1_000), 5);
    }

    #[test]
    fn a_call_and_its_output_are_always_together() {
        let mut history = History::default();
        history.tool_called("c1", "clock", "");
        history.tool_called("c1", "clock", "{\"again\":1}");
        assert!(texts(&history).is_empty(), "it is still running");
        assert!(history.unknown_call("c1").is_none(), "its session knows it");
        history.settle();
        history.replayed();
        assert!(
            history.unknown_call("c1").is_some(),
            "it was not sent again, since it has no output"
        );
        history.tool_answered("c1", "12:00");
        history.tool_answered("other", "lost");
        assert_eq!(texts(&history), ["clock({})", "-> 12:00"]);
        history.replayed();
        assert!(history.unknown_call("c1").is_none());
        history.forget("c1");
        assert!(texts(&history).is_empty());
    }

    #[test]
    fn whole_old_turns_go_first() {
        let mut history = History::default();
        for turn in 0..40 {
            history.user_typed(&format!("question {turn}"));
            assert!(texts(&history)[0].starts_with("user: "), "a reply goes with its question");
            history.assistant_said(&format!("a{turn}"), "answer");
        }
        assert!(history.is_shortened());
        let kept = texts(&history);
        assert!(kept.len() <= MAX_ENTRIES);
        assert!(kept[0].starts_with("user: "), "a reply without its question: {}", kept[0]);
        assert_eq!(kept.last().map(String::as_str), Some("assistant: answer"));

        let mut history = History::default();
        for turn in 0..9 {
            history.user_typed(&format!("{turn}").repeat(MAX_TEXT_BYTES));
        }
        assert!(history.bytes <= MAX_BYTES);
        assert_eq!(texts(&history).len(), MAX_BYTES / MAX_TEXT_BYTES);
    }

    #[test]
    fn what_has_no_words_goes_with_its_session() {
        let mut history = History::default();
        history.user_typed("Hello");
        history.user_spoke("u1");
        history.assistant_says("a1", "Half a sen");
        history.settle();
        history.assistant_says("a1", "tence");
        history.user_said("u2", "");
        assert_eq!(texts(&history), ["user: Hello", "assistant: Half a sen"]);
        assert_eq!(history.entries.len(), 3);
    }
}
