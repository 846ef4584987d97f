//! The part of JSON Schema that tools may use: `type`, `enum`, `properties`, `required`,
//! `additionalProperties` (true or false), `items`, `minLength`, `maxLength`, `minimum`, `maximum`,
//! `minItems`, `maxItems`. Other keywords inform the model and are not checked.
//!
//! The recursion follows the schema, and [`verify`] bounds its depth. So a deep value costs no
//! more.

use serde_json::{Map, Value};

const MAX_DEPTH: usize = 8;
const MAX_NODES: usize = 512;
const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// Checks a schema itself, before a tool is offered with it.
///
/// # Errors
/// What is wrong, as the middle of a sentence.
pub(super) fn verify(schema: &Value) -> Result<(), String> {
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err("its type must be \"object\"".to_owned());
    }
    verify_node(schema, MAX_DEPTH, &mut 0)
}

fn verify_node(schema: &Value, depth: usize, nodes: &mut usize) -> Result<(), String> {
    *nodes += 1;
    if depth == 0 || *nodes > MAX_NODES {
        return Err(format!(
            "it is deeper than {MAX_DEPTH} levels or has more than {MAX_NODES} parts"
        ));
    }
    let schema = schema.as_object().ok_or("a schema must be an object")?;
    verify_types(schema)?;
    verify_numbers(schema)?;
    for (key, good) in [
        ("enum", schema.get("enum").is_none_or(Value::is_array)),
        ("required", schema.get("required").is_none_or(is_list_of_names)),
        ("additionalProperties", schema.get("additionalProperties").is_none_or(Value::is_boolean)),
    ] {
        if !good {
            return Err(format!("{key} has a form that is not supported"));
        }
    }
    if let Some(properties) = schema.get("properties") {
        let properties = properties.as_object().ok_or("properties must be an object")?;
        for property in properties.values() {
            verify_node(property, depth - 1, nodes)?;
        }
    }
    match schema.get("items") {
        Some(items) => verify_node(items, depth - 1, nodes),
        None => Ok(()),
    }
}

fn verify_types(schema: &Map<String, Value>) -> Result<(), String> {
    for name in types(schema) {
        if !name.is_some_and(|name| TYPES.contains(&name)) {
            return Err(format!("type must be one of {}", TYPES.join(", ")));
        }
    }
    Ok(())
}

fn verify_numbers(schema: &Map<String, Value>) -> Result<(), String> {
    for key in ["minLength", "maxLength", "minItems", "maxItems"] {
        if schema.get(key).is_some_and(|value| value.as_u64().is_none()) {
            return Err(format!("{key} must be a whole number"));
        }
    }
    for key in ["minimum", "maximum"] {
        if schema.get(key).is_some_and(|value| !value.is_number()) {
            return Err(format!("{key} must be a number"));
        }
    }
    Ok(())
}

fn is_list_of_names(value: &Value) -> bool {
    value.as_array().is_some_and(|names| names.iter().all(Value::is_string))
}

/// Checks `value` against `schema`.
///
/// # Errors
/// The first fault found, such as ``location must be a string``; never longer than a line or two.
pub(super) fn check(schema: &Value, value: &Value) -> Result<(), String> {
    check_node(schema, value, "the arguments", MAX_DEPTH)
}

fn check_node(schema: &Value, value: &Value, place: &str, depth: usize) -> Result<(), String> {
    let Some(schema) = schema.as_object().filter(|_| depth > 0) else {
        return Ok(());
    };
    let wanted: Vec<&str> = types(schema).flatten().collect();
    if !wanted.is_empty() && !wanted.iter().any(|name| is_type(value, name)) {
        return Err(format!("{place} must be of type {}", wanted.join(" or ")));
    }
    if let Some(Value::Array(choices)) = schema.get("enum")
        && !choices.contains(value)
    {
        let list: Vec<String> = choices.iter().take(16).map(Value::to_string).collect();
        return Err(format!("{place} must be one of {}", list.join(", ")));
    }
    match value {
        Value::String(text) => check_range(schema, "Length", text.chars().count(), place),
        Value::Number(_) => check_number(schema, value, place),
        Value::Array(items) => check_items(schema, items, place, depth),
        Value::Object(fields) => check_fields(schema, fields, place, depth),
        Value::Null | Value::Bool(_) => Ok(()),
    }
}

/// The names under `type`: one, or a list. `None` if one of them is not a text.
fn types(schema: &Map<String, Value>) -> impl Iterator<Item = Option<&str>> {
    let names = match schema.get("type") {
        None => &[],
        Some(Value::Array(names)) => names.as_slice(),
        Some(name) => std::slice::from_ref(name),
    };
    names.iter().map(Value::as_str)
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "array" => value.is_array(),
        "boolean" => value.is_boolean(),
        // In JSON Schema 3.0 is an integer, and models write it so.
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        "string" => value.is_string(),
        _ => false,
    }
}

/// `minLength`, `maxLength`, `minItems`, `maxItems`.
fn check_range(
    schema: &Map<String, Value>,
    what: &str,
    size: usize,
    place: &str,
) -> Result<(), String> {
    let bound = |word: &str| schema.get(&format!("{word}{what}")).and_then(Value::as_u64);
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    let unit = if what == "Length" { "characters" } else { "items" };
    if let Some(min) = bound("min").filter(|min| size < *min) {
        return Err(format!("{place} must have at least {min} {unit}"));
    }
    if let Some(max) = bound("max").filter(|max| size > *max) {
        return Err(format!("{place} must have at most {max} {unit}"));
    }
    Ok(())
}

fn check_number(schema: &Map<String, Value>, value: &Value, place: &str) -> Result<(), String> {
    let bound = |key| schema.get(key).and_then(Value::as_f64);
    let number = value.as_f64().unwrap_or_default();
    if let Some(min) = bound("minimum").filter(|min| number < *min) {
        return Err(format!("{place} must be at least {min}"));
    }
    if let Some(max) = bound("maximum").filter(|max| number > *max) {
        return Err(format!("{place} must be at most {max}"));
    }
    Ok(())
}

fn check_items(
    schema: &Map<String, Value>,
    items: &[Value],
    place: &str,
    depth: usize,
) -> Result<(), String> {
    check_range(schema, "Items", items.len(), place)?;
    let Some(inner) = schema.get("items") else {
        return Ok(());
    };
    for (index, item) in items.iter().enumerate() {
        check_node(inner, item, &format!("{place}[{index}]"), depth - 1)?;
    }
    Ok(())
}

fn check_fields(
    schema: &Map<String, Value>,
    fields: &Map<String, Value>,
    place: &str,
    depth: usize,
) -> Result<(), String> {
    let required = schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            return Err(format!("{} is missing", inside(place, name, depth)));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    for (name, value) in fields {
        match properties.and_then(|properties| properties.get(name)) {
            Some(property) => check_node(property, value, &inside(place, name, depth), depth - 1)?,
            None if closed => {
                return Err(format!("{} is not known", inside(place, name, depth)));
            }
            None => {}
        }
    }
    Ok(())
}

/// The path of a property for a message: `location`, or `address.city`. The model may have invented
/// a long or odd name.
fn inside(place: &str, name: &str, depth: usize) -> String {
    let name: String = name.chars().take(40).flat_map(char::escape_debug).collect();
    if depth == MAX_DEPTH {
        return name;
    }
    format!("{place}.{name}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fault(schema: &Value, value: &Value) -> Option<String> {
        check(schema, value).err()
    }

    #[test]
    fn types_are_checked() {
        let values =
            [json!([]), json!(true), json!(3), json!(null), json!(1.5), json!({}), json!("x")];
        for (index, name) in TYPES.iter().enumerate() {
            for (other, value) in values.iter().enumerate() {
                let integer_as_number = *name == "number" && other == 2;
                let good = check(&json!({ "type": name }), value).is_ok();
                assert_eq!(good, index == other || integer_as_number, "{name} {value}");
            }
        }
        assert!(check(&json!({"type": "integer"}), &json!(3.0)).is_ok());
        assert!(check(&json!({"type": ["string", "null"]}), &json!(null)).is_ok());
        assert!(check(&json!({}), &json!(7)).is_ok());
    }

    #[test]
    fn every_keyword_is_checked() {
        for (schema, good, bad, words) in [
            (json!({"enum": ["a", 1]}), json!(1), json!("b"), "must be one of \"a\", 1"),
            (json!({"minLength": 2}), json!("üü"), json!("ü"), "at least 2 characters"),
            (json!({"maxLength": 2}), json!("üü"), json!("üüü"), "at most 2 characters"),
            (json!({"minimum": 1}), json!(1), json!(0.5), "at least 1"),
            (json!({"maximum": 1}), json!(1), json!(1.5), "at most 1"),
            (json!({"minItems": 1}), json!([1]), json!([]), "at least 1 items"),
            (json!({"maxItems": 1}), json!([1]), json!([1, 2]), "at most 1 items"),
            (json!({"items": {"type": "null"}}), json!([null]), json!([null, 1]), "[1] must"),
            (json!({"required": ["a"]}), json!({"a": 1}), json!({"b": 1}), "a is missing"),
            (json!({"additionalProperties": false}), json!({}), json!({"b": 1}), "b is not known"),
        ] {
            assert_eq!(fault(&schema, &good), None, "{schema}");
            let fault = fault(&schema, &bad).unwrap();
            assert!(fault.contains(words), "{fault}");
        }
    }

    #[test]
    fn faults_name_their_place() {
        let city = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        let schema = json!({"type": "object", "properties": {"at": city}});
        let found = fault(&schema, &json!({"at": {"city": 3}})).unwrap();
        assert_eq!(found, "at.city must be of type string");
        let odd = json!({"type": "object", "additionalProperties": false});
        let found = fault(&odd, &json!({ "\n".repeat(5000): 1 })).unwrap();
        assert!(found.len() < 200 && !found.contains('\n'));
    }

    #[test]
    fn unsound_schemas_are_refused() {
        for bad in [
            json!([]),
            json!({"type": "string"}),
            json!({"type": "object", "properties": []}),
            json!({"type": "object", "properties": {"a": 1}}),
            json!({"type": "object", "properties": {"a": {"type": "text"}}}),
            json!({"type": "object", "properties": {"a": {"type": [1]}}}),
            json!({"type": "object", "required": "a"}),
            json!({"type": "object", "required": [1]}),
            json!({"type": "object", "additionalProperties": {}}),
            json!({"type": "object", "properties": {"a": {"enum": 1}}}),
            json!({"type": "object", "properties": {"a": {"maxLength": -1}}}),
            json!({"type": "object", "properties": {"a": {"minimum": "1"}}}),
        ] {
            assert!(verify(&bad).is_err(), "{bad}");
        }
        let mut deep = json!({"type": "object"});
        for _ in 0..MAX_DEPTH {
            deep = json!({"type": "object", "properties": {"a": deep}});
        }
        assert!(verify(&deep).is_err());
        let wide: Map<String, Value> = (0..MAX_NODES).map(|i| (i.to_string(), json!({}))).collect();
        assert!(verify(&json!({"type": "object", "properties": wide})).is_err());
    }
}
