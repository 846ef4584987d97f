//! Lays the owner's session file over the session settings.

use serde_json::{Map, Value, json};

/// What the service has switched on by itself, or may have: `null` switches it off, so it must be
/// sent. Both dialects' names; none of them means anything else elsewhere.
const SWITCHES: [&str; 7] = [
    "turn_detection",
    "input_audio_transcription",
    "input_audio_noise_reduction",
    "input_audio_echo_cancellation",
    "transcription",
    "noise_reduction",
    "echo_cancellation",
];

/// JSON merge patch (RFC 7386) with two differences, because of what the service does with objects:
///
/// - An object with another `type` than the target's replaces it whole. The service refuses an
///   option of one type beside another type, so nothing of the target may stay.
/// - `null` for one of [`SWITCHES`] stays, as the service's word for "off". So does the type `none`
///   of turn detection, which other clients use for it. Any other `null` removes its key.
pub(super) fn lay_over(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    match target {
        Value::Object(target) if has_same_type(target, patch) => {
            for (key, value) in patch {
                lay_key_over(target, key, value);
            }
        }
        target => {
            // Nulls remove here too: there is nothing that they could remove, but they are not sent.
            let mut whole = Map::new();
            for (key, value) in patch {
                lay_key_over(&mut whole, key, value);
            }
            *target = Value::Object(whole);
        }
    }
}

fn lay_key_over(target: &mut Map<String, Value>, key: &str, value: &Value) {
    let is_switch = SWITCHES.contains(&key);
    let is_off = value.is_null() || (key == "turn_detection" && value["type"] == json!("none"));
    if is_off && is_switch {
        target.insert(key.to_owned(), Value::Null);
    } else if is_off {
        target.remove(key);
    } else {
        lay_over(target.entry(key).or_insert(Value::Null), value);
    }
}

/// Whether the patch leaves the target's type as it is.
fn has_same_type(target: &Map<String, Value>, patch: &Map<String, Value>) -> bool {
    let kind = |object: &'_ Map<String, Value>| object.get("type").cloned().unwrap_or_default();
    let (old, new) = (kind(target), kind(patch));
    old.is_null() || new.is_null() || old == new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid(target: Value, patch: Value) -> Value {
        let mut target = target;
        lay_over(&mut target, &patch);
        target
    }

    #[test]
    fn objects_merge_unless_their_types_differ() {
        for (target, patch, expected) in [
            (json!({"a": 1}), json!({"b": 2}), json!({"a": 1, "b": 2})),
            (json!({"a": {"b": 1}}), json!({"a": {"c": 2}}), json!({"a": {"b": 1, "c": 2}})),
            (
                json!({"type": "x", "a": 1}),
                json!({"type": "x", "b": 2}),
                json!({"type": "x", "a": 1, "b": 2}),
            ),
            (json!({"type": "x", "a": 1}), json!({"type": "y"}), json!({"type": "y"})),
            (json!({"a": 1}), json!({"type": "y"}), json!({"a": 1, "type": "y"})),
            (
                json!({"o": {"type": "x", "a": 1}}),
                json!({"o": {"type": "y", "b": null}}),
                json!({"o": {"type": "y"}}),
            ),
            (json!({"a": [1, 2]}), json!({"a": [null]}), json!({"a": [null]})),
            (json!("text"), json!({"a": null, "b": {"c": null}}), json!({"b": {}})),
            (json!({"a": 1}), json!("text"), json!("text")),
        ] {
            assert_eq!(laid(target.clone(), patch.clone()), expected, "{target} {patch}");
        }
    }

    #[test]
    fn null_removes_what_is_no_switch() {
        let target = json!({"turn_detection": {"type": "x", "a": 1}, "tools": [], "audio": {}});
        let patch = json!({"turn_detection": null, "tools": null, "other": null,
            "audio": {"input": {"noise_reduction": null, "format": null}}});
        assert_eq!(
            laid(target.clone(), patch),
            json!({"turn_detection": null, "audio": {"input": {"noise_reduction": null}}})
        );
        let patch = json!({"turn_detection": {"type": "none"}});
        assert_eq!(laid(target.clone(), patch)["turn_detection"], Value::Null);
        let patch = json!({"turn_detection": {"type": null}});
        assert_eq!(laid(target, patch)["turn_detection"], json!({"a": 1}));
    }
}
