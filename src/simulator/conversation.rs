//! The items of a conversation, which the client may name, truncate, delete and answer.
//!
//! Their number and their bytes are bounded. The oldest items are forgotten, as in a model's
//! context.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::sound::BYTES_PER_MS;
use super::validate::Fault;

const MOST_ITEMS: usize = 200;
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Where a new item goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Position<'a> {
    Last,
    After(&'a str),
    First,
}

#[derive(Debug)]
struct Entry {
    id: String,
    value: Value,
    size: usize,
    /// Bytes of reply audio sent for this item.
    audio_bytes: usize,
    /// The service has cut it to what was heard.
    cut: bool,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Conversation {
    pub(super) fn last_id(&self) -> Option<&str> {
        self.entries.back().map(|entry| entry.id.as_str())
    }

    /// The last item of the user.
    pub(super) fn last_user_id(&self) -> Option<&str> {
        let mut latest = self.entries.iter().rev();
        latest.find(|entry| entry.value["role"] == "user").map(|entry| entry.id.as_str())
    }

    /// The id before an item.
    pub(super) fn before(&self, id: &str) -> Option<&str> {
        let index = self.find(id)?.checked_sub(1)?;
        self.entries.get(index).map(|entry| entry.id.as_str())
    }

    pub(super) fn get(&self, id: &str) -> Option<&Value> {
        self.find(id).map(|index| &self.entries[index].value)
    }

    /// Adds an item that has its id, and returns the id before it.
    pub(super) fn insert(&mut self, item: Value, place: Position<'_>) -> Result<Value, Fault> {
        let id = item["id"].as_str().unwrap_or_default().to_owned();
        if self.find(&id).is_some() {
            return Err(Fault::value("item.id", format!("Item '{id}' already exists.")));
        }
        let size = item.to_string().len();
        if size > MOST_BYTES / 8 {
            return Err(Fault::value("item", "The item is too large for the simulator."));
        }
        let index = match place {
            Position::Last => self.entries.len(),
            Position::First => 0,
            Position::After(previous) => match self.find(previous) {
                Some(index) => index + 1,
                None => return Err(missing("previous_item_id", previous)),
            },
        };
        let before = index.checked_sub(1).map(|index| self.entries[index].id.clone());
        self.bytes += size;
        self.entries.insert(index, Entry { id, value: item, size, audio_bytes: 0, cut: false });
        self.forget_oldest();
        Ok(before.into())
    }

    /// Replaces an item's value, for instance when it is complete.
    pub(super) fn update(&mut self, id: &str, value: Value) {
        if let Some(index) = self.find(id) {
            self.entries[index].value = value;
        }
    }

    /// The words of a spoken turn are known.
    pub(super) fn heard(&mut self, id: &str, words: &str) {
        if let Some(index) = self.find(id) {
            for part in parts_of(&mut self.entries[index].value) {
                part["transcript"] = words.into();
            }
        }
    }

    /// What the user has said or written, in order, without the simulator's mark.
    pub(super) fn user_words(&self) -> impl Iterator<Item = String> {
        let users = self.entries.iter().filter(|entry| entry.value["role"] == "user");
        let words = |entry: &Entry| {
            let parts = entry.value["content"].as_array().into_iter().flatten();
            let texts = parts
                .filter_map(|part| part["text"].as_str().or_else(|| part["transcript"].as_str()));
            texts.collect::<Vec<_>>().join(" ").replace("[simulator] ", "")
        };
        users.map(words).filter(|words| !words.is_empty())
    }

    pub(super) fn delete(&mut self, id: &str) -> Result<(), Fault> {
        let index = self.find(id).ok_or_else(|| missing("item_id", id))?;
        if let Some(entry) = self.entries.remove(index) {
            self.bytes -= entry.size;
        }
        Ok(())
    }

    pub(super) fn audio_sent(&mut self, id: &str, bytes: usize) {
        if let Some(index) = self.find(id) {
            self.entries[index].audio_bytes += bytes;
        }
    }

    /// The service's own truncation, after which it refuses the client's.
    pub(super) fn cut(&mut self, id: &str, end_ms: i64) -> Result<(), Fault> {
        self.truncate(id, 0, end_ms)?;
        if let Some(index) = self.find(id) {
            self.entries[index].cut = true;
        }
        Ok(())
    }

    /// Checks a truncation and shortens the item's audio.
    pub(super) fn truncate(&mut self, id: &str, part: i64, end_ms: i64) -> Result<(), Fault> {
        let index = self.find(id).ok_or_else(|| missing("item_id", id))?;
        let entry = &mut self.entries[index];
        if entry.value["role"] != "assistant" {
            return Err(Fault::value("item_id", "Only assistant messages can be truncated."));
        }
        if part != 0 || entry.audio_bytes == 0 {
            return Err(Fault::value("content_index", "There is no audio at this index."));
        }
        if entry.cut {
            let message = format!("Item '{id}' was already truncated.");
            return Err(Fault::new(Fault::ALREADY_TRUNCATED, message));
        }
        let end = usize::try_from(end_ms)
            .map_err(|_| Fault::value("audio_end_ms", "Expected a value that is not negative."))?;
        let held = entry.audio_bytes / BYTES_PER_MS;
        if end > held {
            let message = format!("Audio content of {held}ms is already shorter than {end}ms");
            return Err(Fault::value("audio_end_ms", message));
        }
        entry.audio_bytes = end * BYTES_PER_MS;
        Ok(())
    }

    /// The function call that an output answers. An unknown or already answered call is an error of
    /// the client.
    pub(super) fn check_call(&self, call_id: &str) -> Result<(), Fault> {
        let of_kind = |kind: &str| {
            let mut values = self.entries.iter().map(|entry| &entry.value);
            values.any(|item| item["type"] == kind && item["call_id"] == call_id)
        };
        if !of_kind("function_call") {
            let message = format!("No function call with call_id '{call_id}'.");
            return Err(Fault::value("item.call_id", message));
        }
        if of_kind("function_call_output") {
            let message = format!("The function call '{call_id}' already has an output.");
            return Err(Fault::value("item.call_id", message));
        }
        Ok(())
    }

    /// The request that an approval answers: each is answered once.
    pub(super) fn check_approval(&self, id: &str) -> Result<(), Fault> {
        let asked = self.get(id).is_some_and(|item| item["type"] == "mcp_approval_request");
        let mut items = self.entries.iter().map(|entry| &entry.value);
        if asked
            && !items.any(|item| item["approval_request_id"] == id && item["approve"].is_boolean())
        {
            return Ok(());
        }
        let id: String = id.chars().take(60).collect();
        let message = format!("No approval request with id '{id}' is open.");
        Err(Fault::value("item.approval_request_id", message))
    }

    fn find(&self, id: &str) -> Option<usize> {
        // Clients mostly name a recent item, so the search begins at the end.
        self.entries.iter().rposition(|entry| entry.id == id)
    }

    fn forget_oldest(&mut self) {
        while self.entries.len() > MOST_ITEMS || self.bytes > MOST_BYTES {
            match self.entries.pop_front() {
                Some(entry) => self.bytes -= entry.size,
                None => break,
            }
        }
    }
}

fn missing(param: &str, id: &str) -> Fault {
    let id: String = id.chars().take(60).collect();
    Fault::value(param, format!("Item with item_id '{id}' not found."))
}

/// The parts of a message. An item of another type has none, and no key for them either.
pub(super) fn parts_of(item: &mut Value) -> impl Iterator<Item = &mut Value> {
    item.get_mut("content").and_then(Value::as_array_mut).into_iter().flatten()
}

/// The client's item as the service keeps it: without audio, with the names the service uses.
pub(super) fn normalise(item: &Value, id: String) -> Value {
    let mut item = item.clone();
    item["id"] = id.into();
    item["object"] = "realtime.item".into();
    if item["type"] == "message" {
        item["status"] = "completed".into();
    }
    for part in parts_of(&mut item) {
        match part["type"].as_str() {
            Some("input_audio") => {
                *part = json!({ "type": "input_audio", "transcript": part["transcript"] });
            }
            Some("output_text") => part["type"] = "text".into(),
            _ => {}
        }
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str) -> Value {
        json!({"id": id, "type": "message", "role": "assistant", "content": []})
    }

    #[test]
    fn items_have_places() {
        let mut all = Conversation::default();
        assert_eq!(all.insert(item("a"), Position::Last).unwrap(), Value::Null);
        assert_eq!(all.insert(item("c"), Position::Last).unwrap(), "a");
        assert_eq!(all.insert(item("b"), Position::After("a")).unwrap(), "a");
        assert_eq!(all.insert(item("0"), Position::First).unwrap(), Value::Null);
        assert!(all.insert(item("d"), Position::After("x")).is_err());
        assert!(all.insert(item("a"), Position::Last).is_err());
        assert_eq!(all.last_id(), Some("c"));
        all.delete("c").unwrap();
        assert!(all.delete("c").is_err());
    }

    #[test]
    fn truncation_is_limited_by_what_was_sent() {
        let mut all = Conversation::default();
        all.insert(item("a"), Position::Last).unwrap();
        assert!(all.truncate("a", 0, 0).is_err());
        all.audio_sent("a", 4800);
        assert_eq!(all.truncate("a", 0, 101).unwrap_err().code, "invalid_value");
        assert!(all.truncate("a", 0, -1).is_err() && all.truncate("a", 1, 1).is_err());
        all.truncate("a", 0, 60).unwrap();
        assert!(all.truncate("a", 0, 61).is_err());
        all.cut("a", 50).unwrap();
        assert_eq!(all.truncate("a", 0, 40).unwrap_err().code, "item_already_truncated");
    }

    #[test]
    fn the_oldest_items_are_forgotten() {
        let mut all = Conversation::default();
        for n in 0..300 {
            all.insert(item(&n.to_string()), Position::Last).unwrap();
        }
        assert!(all.get("99").is_none() && all.get("100").is_some());
    }
}
