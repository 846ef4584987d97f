//! Writes a server event as JSON text: its id, its dialect, and the odd spellings that a client
//! must understand.

use serde_json::{Map, Value, json};

use super::event::{Dialect, Event};
use super::ga;
use super::script::Script;

/// Numbers and writes events.
#[derive(Debug)]
pub(super) struct Encoder {
    dialect: Dialect,
    sent: u64,
    unknown_fields: bool,
    nulls: bool,
    type_last: bool,
    whitespace: bool,
}

impl Encoder {
    pub(super) fn new(script: &Script, dialect: Dialect) -> Self {
        Self {
            dialect,
            sent: 0,
            unknown_fields: script.unknown_events,
            nulls: script.nulls,
            type_last: script.type_last,
            whitespace: script.whitespace,
        }
    }

    pub(super) fn encode(&mut self, mut event: Event) -> String {
        self.sent += 1;
        if self.dialect == Dialect::Ga {
            event = ga::event(event);
        }
        if self.nulls {
            add_nulls(&mut event.fields);
        }
        if self.unknown_fields {
            event.fields.insert("x_simulator".to_owned(), json!({"type": "noise", "delta": [1]}));
        }
        let id = if self.nulls { Value::Null } else { format!("event_{}", self.sent).into() };
        self.write(&id, event)
    }

    /// Writes the keys in the order of the recordings: `event_id`, `type`, the rest.
    fn write(&self, id: &Value, event: Event) -> String {
        let kind = Value::from(event.kind);
        let mut pairs: Vec<(&str, &Value)> = vec![("event_id", id)];
        if !self.type_last {
            pairs.push(("type", &kind));
        }
        pairs.extend(event.fields.iter().map(|(key, value)| (key.as_str(), value)));
        if self.type_last {
            pairs.push(("type", &kind));
        }
        let (open, colon, comma, close) = match self.whitespace {
            true => (" \r\n{\t", " :\n ", "\t,\r\n ", " \n}\n"),
            false => ("{", ":", ",", "}"),
        };
        let mut text = String::from(open);
        for (index, (key, value)) in pairs.into_iter().enumerate() {
            text.push_str(if index == 0 { "" } else { comma });
            text.push('"');
            text.push_str(key);
            text.push('"');
            text.push_str(colon);
            text.push_str(&if self.whitespace { format!("{value:#}") } else { value.to_string() });
        }
        text.push_str(close);
        text
    }
}

/// Real events have many unset fields. These are the optional ones that a client is likely to read.
fn add_nulls(fields: &mut Map<String, Value>) {
    for key in ["previous_item_id", "logprobs", "phrases", "metadata", "obfuscation"] {
        fields.entry(key).or_insert(Value::Null);
    }
    if let Some(Value::Object(response)) = fields.get_mut("response") {
        for key in ["usage", "metadata", "voice", "temperature", "conversation_id"] {
            response.insert(key.to_owned(), Value::Null);
        }
    }
    if let Some(Value::Object(error)) = fields.get_mut("error") {
        error.insert("param".to_owned(), Value::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::event;

    fn encoded(words: &[&str]) -> String {
        let script = Script::parse(words).unwrap();
        let event = event("response.audio.delta", json!({"delta": "AAAA", "item_id": "i"}));
        Encoder::new(&script, Dialect::Dated).encode(event)
    }

    #[test]
    fn keys_come_in_the_recorded_order() {
        let text =
            r#"{"event_id":"event_1","type":"response.audio.delta","delta":"AAAA","item_id":"i"}"#;
        assert_eq!(encoded(&[]), text);
        assert!(encoded(&["type-last"]).ends_with(r#","type":"response.audio.delta"}"#));
    }

    #[test]
    fn every_disguise_is_still_the_same_event() {
        let all = ["nulls", "type-last", "whitespace", "unknown-events"];
        for words in [&all[..], &["whitespace"], &["nulls"]] {
            let value: Value = serde_json::from_str(&encoded(words)).unwrap();
            assert_eq!(value["type"], "response.audio.delta");
            assert_eq!(value["delta"], "AAAA");
        }
    }
}
