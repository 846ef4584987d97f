//! `{argument}` places in the text of a web request, filled so that an argument stays an argument.
//!
//! A place is a parameter's name in single braces. Other braces are text, `{{name}}` too, since templates of
//! other systems use them. What is put in is encoded for where it stands, and what cannot be encoded there is
//! refused with a sentence for the model.

use serde_json::{Map, Value};

/// A text with its places.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Text {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Plain(String),
    Placeholder(String),
}

impl Text {
    /// Finds the places. `is_parameter` knows the tool's parameters.
    ///
    /// # Errors
    /// The name in a place that is no parameter.
    pub(super) fn parse(text: &str, is_parameter: &dyn Fn(&str) -> bool) -> Result<Self, String> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(open) = rest.find('{') {
            let behind = &rest[open + 1..];
            let length = behind.bytes().take_while(|byte| is_word(*byte)).count();
            let single = !rest[..open].ends_with('{') && !plain_ends(&plain, &rest[..open]);
            let closes = behind[length..].starts_with('}') && !behind[length..].starts_with("}}");
            if length == 0 || !single || !closes {
                plain.push_str(&rest[..=open]);
                rest = behind;
                continue;
            }
            let name = &behind[..length];
            if !is_parameter(name) {
                return Err(name.to_owned());
            }
            plain.push_str(&rest[..open]);
            parts.push(Part::Plain(std::mem::take(&mut plain)));
            parts.push(Part::Placeholder(name.to_owned()));
            rest = &behind[length + 1..];
        }
        plain.push_str(rest);
        parts.push(Part::Plain(plain));
        Ok(Self { parts })
    }

    /// The name, if the text is one place and nothing else.
    fn sole_place(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Plain(before), Part::Placeholder(name), Part::Plain(behind)]
                if before.is_empty() && behind.is_empty() =>
            {
                Some(name)
            }
            _ => None,
        }
    }

    /// The names of its places.
    pub(super) fn places(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Placeholder(name) => Some(name.as_str()),
            Part::Plain(_) => None,
        })
    }

    /// The text with all places filled, each by `encode`. `None` if an argument was not given.
    ///
    /// # Errors
    /// A sentence for the model about an argument that cannot stand there.
    pub(super) fn fill(
        &self,
        arguments: &Map<String, Value>,
        encode: fn(&str) -> Option<String>,
    ) -> Result<Option<String>, String> {
        self.fill_within(arguments, encode, plain)
    }

    /// As [`fill`](Self::fill), for a value: the text around the places is encoded too, or a `&` or `#` in it would
    /// end the value.
    pub(super) fn fill_value(
        &self,
        arguments: &Map<String, Value>,
        encode: fn(&str) -> Option<String>,
    ) -> Result<Option<String>, String> {
        self.fill_within(arguments, encode, encode)
    }

    fn fill_within(
        &self,
        arguments: &Map<String, Value>,
        encode: fn(&str) -> Option<String>,
        around: fn(&str) -> Option<String>,
    ) -> Result<Option<String>, String> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Plain(text) => filled.push_str(
                    &around(text).ok_or("The tool's file has characters that are not allowed.")?,
                ),
                Part::Placeholder(name) => {
                    let Some(text) = scalar(name, arguments)? else { return Ok(None) };
                    let text = encode(&text)
                        .ok_or_else(|| format!("{name} has characters that are not allowed."))?;
                    filled.push_str(&text);
                }
            }
        }
        Ok(Some(filled))
    }
}

/// Whether the brace before was already passed over as text.
fn plain_ends(plain: &str, before: &str) -> bool {
    before.is_empty() && plain.ends_with('{')
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// An argument as text; `None` if it was not given.
fn scalar(name: &str, arguments: &Map<String, Value>) -> Result<Option<String>, String> {
    match arguments.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(value @ (Value::Bool(_) | Value::Number(_))) => Ok(Some(value.to_string())),
        Some(_) => Err(format!("{name} must be a text, a number, or true or false.")),
    }
}

/// Fills the texts within a JSON value. A text that is one place becomes the argument itself, of whatever
/// type. What has a place whose argument was not given is left out: `None`.
///
/// # Errors
/// As [`Text::fill`].
pub(super) fn fill_json(
    value: &Value,
    parameters: &dyn Fn(&str) -> bool,
    arguments: &Map<String, Value>,
) -> Result<Option<Value>, String> {
    Ok(match value {
        Value::String(text) => {
            let text = Text::parse(text, parameters).map_err(|name| format!("no {name}"))?;
            match text.sole_place() {
                Some(name) => arguments.get(name).filter(|value| !value.is_null()).cloned(),
                None => text.fill(arguments, plain)?.map(Value::from),
            }
        }
        Value::Array(items) => {
            let filled = items.iter().map(|item| fill_json(item, parameters, arguments));
            Some(filled.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?.into())
        }
        Value::Object(fields) => {
            let mut filled = Map::new();
            for (name, value) in fields {
                if let Some(value) = fill_json(value, parameters, arguments)? {
                    filled.insert(name.clone(), value);
                }
            }
            Some(filled.into())
        }
        other => Some(other.clone()),
    })
}

/// For where any text may stand: JSON is encoded as a whole later.
#[allow(clippy::unnecessary_wraps, reason = "one of the encodings")]
pub(super) fn plain(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Percent-encoding of everything but the unreserved characters (RFC 3986, section 2.3).
#[allow(clippy::unnecessary_wraps, reason = "one of the encodings")]
pub(super) fn percent(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    Some(out)
}

/// For the value of a header: no control characters, which could begin another header.
pub(super) fn header(text: &str) -> Option<String> {
    (!text.contains(char::is_control)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(text: &str) -> Text {
        Text::parse(text, &|name| ["a", "b"].contains(&name)).unwrap()
    }

    fn filled(template: &str, arguments: Value) -> Option<String> {
        text(template).fill(arguments.as_object().unwrap(), percent).unwrap()
    }

    #[test]
    fn places_are_names_in_single_braces() {
        for (template, wanted) in [
            ("x{a}y", "xA%2Fy"),
            ("{a}{b}", "A%2F7"),
            ("{{a}}", "{{a}}"),
            ("{{{a}}}", "{{{a}}}"),
            ("{ a }", "{ a }"),
            ("{}{", "{}{"),
            ("{{ states('x') }}{a}", "{{ states('x') }}A%2F"),
            ("{\"k\":{a}}", "{\"k\":{a}}"),
        ] {
            let arguments = json!({"a": "A/", "b": 7});
            assert_eq!(filled(template, arguments).as_deref(), Some(wanted), "{template}");
        }
        let unknown = Text::parse("{c}", &|name| name == "a");
        assert_eq!(unknown, Err("c".to_owned()));
    }

    #[test]
    fn what_is_not_given_leaves_its_text_out() {
        assert_eq!(filled("{a}{b}", json!({"a": "x"})), None);
        assert_eq!(filled("{a}", json!({"a": null})), None);
        let body = json!({"x": "{a}", "y": ["{b}", "k {a}", 1], "z": {"b": "{b}"}});
        let arguments = json!({"a": [1, {"q": "\""}]});
        let known = |name: &str| ["a", "b"].contains(&name);
        let refused = fill_json(&body, &known, arguments.as_object().unwrap());
        assert!(refused.unwrap_err().contains("a must be a text"));
        let arguments = json!({"a": "\"},{\"admin\":true"});
        let got = fill_json(&body, &known, arguments.as_object().unwrap()).unwrap().unwrap();
        let hostile = "\"},{\"admin\":true";
        assert_eq!(got, json!({"x": hostile, "y": [format!("k {hostile}"), 1], "z": {}}));
    }

    /// A `#` in it would end the address, and a `&` would begin another parameter.
    #[test]
    fn the_text_around_a_place_of_a_value_is_encoded_too() {
        let arguments = json!({"a": "A/"});
        let filled = text("fish & chips #{a}").fill_value(arguments.as_object().unwrap(), percent);
        assert_eq!(filled.unwrap().as_deref(), Some("fish%20%26%20chips%20%23A%2F"));
    }

    #[test]
    fn a_header_takes_no_line_break() {
        let arguments = json!({"a": "x\r\nHost: evil"});
        let refused = text("v {a}").fill_value(arguments.as_object().unwrap(), header);
        assert!(refused.unwrap_err().starts_with("a has characters"));
        let refused = text("v\n").fill_value(arguments.as_object().unwrap(), header);
        assert!(refused.unwrap_err().starts_with("The tool's file has characters"));
    }
}
