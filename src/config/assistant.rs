//! The configuration of one assistant: the daemon's own with another conversation.

use serde_json::{Map, Value};

use super::draft::{self, Draft};
use super::names::VOICE;
use super::{Config, VARIABLES};

/// The fields of an assistant's file that say what a setting says, the settings, and the options of the
/// session file that such a field takes the place of.
const TEXTS: [(&str, &str, &[&str]); 5] = [
    ("model", "VOICE_LIVE_MODEL", &[]),
    ("instructions", "AZURE_VOICE_LIVE_INSTRUCTIONS", &["/instructions"]),
    ("voice", VOICE, &["/voice", "/audio/output/voice"]),
    (
        "language",
        "AZURE_VOICE_LIVE_LANGUAGE",
        &["/input_audio_transcription/language", "/audio/input/transcription/language"],
    ),
    ("greeting", "AZURE_VOICE_LIVE_GREETING", &[]),
];

/// What an agent brings itself.
const OF_AGENT: [&str; 3] = ["model", "instructions", "tools"];

impl Config {
    /// This configuration with what an assistant's file says of the conversation. Its other fields are passed
    /// over. The warnings are those of the file alone.
    ///
    /// # Errors
    /// The reason, and the field that is at fault.
    pub fn for_assistant(&self, fields: &Map<String, Value>) -> Result<Self, (String, String)> {
        let refuse = |field: &str, why: &str| (format!("{field} {why}"), field.to_owned());
        if self.session.models.is_empty()
            && let Some(field) = OF_AGENT.into_iter().find(|field| fields.contains_key(*field))
        {
            return Err(refuse(field, "cannot be set: the agent has its own"));
        }
        let mut draft = Draft { session: self.session.clone(), ..Draft::default() };
        for (field, setting, hidden) in TEXTS {
            let Some(value) = fields.get(field) else { continue };
            let text = value.as_str().ok_or_else(|| refuse(field, "must be a text"))?;
            let mut known = VARIABLES.iter().filter(|variable| variable.name == setting);
            let parse = known.next().map(|variable| variable.parse);
            parse
                .map_or(Ok(()), |parse| parse(&mut draft, text, &|_, _| Ok(Vec::new())))
                .map_err(|why| refuse(field, &why))?;
            hidden.iter().for_each(|pointer| remove(&mut draft.session.overrides, pointer));
        }
        draft.session.voice_is_chosen |= fields.contains_key("voice");
        match fields.get("session") {
            None => {}
            Some(Value::Object(options)) => {
                draft::judge_session(&mut draft, options, "session")
                    .map_err(|why| (why, "session".to_owned()))?;
                merge(&mut draft.session.overrides, options);
            }
            Some(_) => return Err(refuse("session", "must be a JSON object: {…}")),
        }
        Ok(Self { session: draft.session, warnings: draft.warnings, ..self.clone() })
    }
}

/// Takes out what stands at `pointer`.
fn remove(options: &mut Map<String, Value>, pointer: &str) {
    let (first, rest) = pointer[1..].split_once('/').unwrap_or_else(|| (&pointer[1..], ""));
    if rest.is_empty() {
        options.remove(first);
    } else if let Some(inner) = options.get_mut(first).and_then(Value::as_object_mut) {
        remove(inner, &format!("/{rest}"));
    }
}

/// Adds the `later` options to those that are laid over a session. An object that names its type replaces
/// the earlier one: options of another type may not stay beside it.
fn merge(options: &mut Map<String, Value>, later: &Map<String, Value>) {
    for (key, value) in later {
        match (options.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) if !new.contains_key("type") => {
                merge(old, new);
            }
            _ => {
                options.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn later_options_add_to_earlier_ones_and_another_type_replaces() {
        let mut options = map(json!({
            "temperature": 0.5, "turn_detection": {"type": "a", "x": 1}, "n": {"a": 1, "b": null},
        }));
        merge(
            &mut options,
            &map(json!({"turn_detection": {"type": "b"}, "n": {"a": null, "c": 3}, "new": 1})),
        );
        let expected = json!({
            "temperature": 0.5, "turn_detection": {"type": "b"},
            "n": {"a": null, "b": null, "c": 3}, "new": 1,
        });
        assert_eq!(Value::Object(options), expected);
    }

    #[test]
    fn what_a_field_says_is_not_overruled_by_the_session_file() {
        let mut options =
            map(json!({"voice": "x", "audio": {"output": {"voice": "x", "speed": 2}}, "a": 1}));
        remove(&mut options, "/voice");
        remove(&mut options, "/audio/output/voice");
        remove(&mut options, "/audio/input/none");
        assert_eq!(Value::Object(options), json!({"audio": {"output": {"speed": 2}}, "a": 1}));
    }
}
