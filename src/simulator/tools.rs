//! Which functions the simulated model calls, with what arguments, and how it tells their results.

use serde_json::{Map, Value, json};

use super::session::{Settings, Tool, ToolChoice};

/// A function call to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) arguments: String,
    /// The MCP server of the service that has the tool: the user's approval is asked for.
    pub(super) server: Option<String>,
}

/// The tool that ends a call. A model calls it at a goodbye only.
const HANG_UP: &str = "hang_up";

/// The calls of the `turn`th spoken turn, counted from 1. The simulator does not understand speech.
/// So every third turn calls a tool, and every sixth turn calls two, unless the script fixes the
/// number.
pub(super) fn for_speech(settings: &Settings, turn: usize, scripted: Option<u8>) -> Vec<Call> {
    let count = match (scripted, turn % 6) {
        (Some(count), _) => usize::from(count),
        (None, 0) => 2,
        (None, 3) => 1,
        (None, _) => 0,
    };
    if let Some(forced) = forced(settings, "") {
        return vec![forced];
    }
    let count = if settings.parallel_tool_calls { count } else { count.min(1) };
    if settings.tool_choice == ToolChoice::None {
        return Vec::new();
    }
    // Nobody asked for the end of the call.
    let tools: Vec<&Tool> = settings.tools.iter().filter(|tool| tool.name != HANG_UP).collect();
    if tools.is_empty() {
        return Vec::new();
    }
    // Single calls take turns among the tools.
    let first = if count == 1 { turn / 3 } else { 0 };
    let first = first % tools.len();
    tools.into_iter().cycle().skip(first).take(count).map(|tool| call(tool, "")).collect()
}

/// The calls a typed turn asks for by its words.
pub(super) fn for_text(settings: &Settings, text: &str) -> Vec<Call> {
    if let Some(forced) = forced(settings, text) {
        return vec![forced];
    }
    if settings.tool_choice == ToolChoice::None {
        return Vec::new();
    }
    let most = if settings.parallel_tool_calls { usize::MAX } else { 1 };
    if let Some(named) = of_server(settings, text).or_else(|| named(settings, text)) {
        return vec![named];
    }
    let lower = text.to_lowercase();
    let asked = [("weather", "weather"), ("stock", "stock"), ("goodbye", HANG_UP)];
    let words = asked.into_iter().filter(|(word, _)| lower.contains(word)).map(|(_, name)| name);
    let tools =
        words.filter_map(|word| settings.tools.iter().find(|tool| tool.name.contains(word)));
    tools.take(most).map(|tool| call(tool, text)).collect()
}

/// The call of a typed turn that names a tool, with its arguments as JSON behind the name or made up
/// from the tool's schema: `get_weather {"location": "Oslo"}`, or `please call get_time`.
fn named(settings: &Settings, text: &str) -> Option<Call> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let found = settings.tools.iter().filter_map(|tool| {
        let mut places = text.match_indices(tool.name.as_str()).map(|(at, name)| {
            let (before, behind) = (&text[..at], &text[at + name.len()..]);
            let whole = !before.ends_with(is_name) && !behind.starts_with(is_name);
            whole.then_some((at, tool, behind))
        });
        places.find_map(|place| place)
    });
    let (_, tool, behind) = found.min_by_key(|(at, ..)| *at)?;
    let arguments = behind.trim_start_matches([':', ',', ' ']);
    let mut values = serde_json::Deserializer::from_str(arguments).into_iter::<Value>();
    match values.next() {
        Some(Ok(Value::Object(object))) => {
            let arguments = Value::from(object).to_string();
            Some(Call { name: tool.name.clone(), arguments, server: None })
        }
        _ => Some(call(tool, text)),
    }
}

/// The call of a typed turn that begins with the label of an MCP server, the name of a tool there, which is taken
/// to be right, and its arguments as JSON: `docs search {"query": "voice"}`.
fn of_server(settings: &Settings, text: &str) -> Option<Call> {
    let (label, rest) = text.trim().split_once(' ')?;
    let server = settings.servers.iter().find(|server| *server == label)?;
    let rest = rest.trim();
    let (name, arguments) = rest.split_once(' ').unwrap_or((rest, "{}"));
    let object: Map<String, Value> = serde_json::from_str(arguments).unwrap_or_default();
    let arguments = Value::from(object).to_string();
    Some(Call { name: name.to_owned(), arguments, server: Some(server.clone()) })
}

/// A tool's answer as a sentence, because a person hears it. An answer that is not a JSON object is
/// repeated as it is.
pub(super) fn told(output: &str) -> String {
    let Ok(Value::Object(answer)) = serde_json::from_str(output) else {
        return format!("The tool said: {output}");
    };
    if let Some(fault) = answer.get("error").and_then(Value::as_str) {
        return format!("The tool could not do it: {fault}");
    }
    let facts: Vec<String> = answer
        .iter()
        .map(|(name, value)| format!("{} is {}", name.replace(['_', '-'], " "), spoken(value)))
        .collect();
    match facts.as_slice() {
        [] => "The tool has nothing to tell.".to_owned(),
        [only] => format!("The tool says that {only}."),
        [first @ .., last] => format!("The tool says that {} and {last}.", first.join(", ")),
    }
}

/// A value in words. Lists and objects within an answer are too long to be spoken.
fn spoken(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Null => "not known".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(fields) => format!("a record of {} fields", fields.len()),
    }
}

fn forced(settings: &Settings, text: &str) -> Option<Call> {
    let tool = match &settings.tool_choice {
        ToolChoice::Required => settings.tools.first(),
        ToolChoice::Named(name) => settings.tools.iter().find(|tool| tool.name == *name),
        ToolChoice::Auto | ToolChoice::None => None,
    };
    tool.map(|tool| call(tool, text))
}

fn call(tool: &Tool, text: &str) -> Call {
    let arguments = arguments(&tool.parameters, text);
    Call { name: tool.name.clone(), arguments, server: None }
}

/// Arguments that fit the schema roughly, laid out as loosely as models were seen to do.
fn arguments(schema: &Value, text: &str) -> String {
    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let required: Vec<&str> = match schema["required"].as_array() {
        Some(names) => names.iter().filter_map(Value::as_str).collect(),
        None => properties.keys().map(String::as_str).collect(),
    };
    let pairs: Vec<String> = required
        .into_iter()
        .map(|name| {
            let value = plausible(name, properties.get(name).unwrap_or(&Value::Null), text);
            format!("\"{}\" : {value}", name.replace(['"', '\\'], ""))
        })
        .collect();
    format!("{{  \n  {} \n}} \n", pairs.join(",\n  "))
}

fn plausible(name: &str, schema: &Value, text: &str) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str),
        kind => kind.as_str(),
    };
    match kind {
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
        Some("boolean") => json!(true),
        Some("array") => json!([]),
        Some("object") => json!({}),
        Some("null") => Value::Null,
        _ => json!(word_for(name, text)),
    }
}

fn word_for(name: &str, text: &str) -> String {
    let name = name.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if has(&["city", "location", "place"]) {
        capitalised_after(text, " in ").unwrap_or_else(|| "Seattle".to_owned())
    } else if has(&["symbol", "ticker"]) {
        let mut words = text.split(|c: char| !c.is_ascii_alphabetic());
        let ticker = |word: &&str| word.len() >= 2 && word.chars().all(|c| c.is_ascii_uppercase());
        words.find(ticker).unwrap_or("MSFT").to_owned()
    } else {
        "example".to_owned()
    }
}

/// The words with capitals after `before`: "weather in New York today" gives "New York".
fn capitalised_after(text: &str, before: &str) -> Option<String> {
    let (_, rest) = text.split_once(before)?;
    let rest = rest.split(['.', ',', '?', '!', ';']).next()?;
    let words: Vec<&str> = rest
        .split_whitespace()
        .take_while(|word| word.chars().next().is_some_and(char::is_uppercase))
        .take(3)
        .collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Past;
    use crate::session::Session;

    fn settings(choice: Value) -> Settings {
        let mut session = Session::new(1, 1, "gpt-realtime", false);
        let string = |name: &str| {
            json!({"type":"object","properties":{name:{"type":"string"}},
            "required":[name]})
        };
        let tools = json!([
            {"type":"function","name":"get_weather","parameters":string("city")},
            {"type":"function","name":"get_stock_price","parameters":string("symbol")}]);
        let patch = json!({"tools": tools, "tool_choice": choice});
        let past = Past { model: "", agent: false, spoken: false };
        session.update(patch.as_object().unwrap(), &past).unwrap();
        session.settings
    }

    fn names(calls: &[Call]) -> Vec<&str> {
        calls.iter().map(|call| call.name.as_str()).collect()
    }

    #[test]
    fn typed_words_choose_the_tools() {
        let auto = settings(json!("auto"));
        let calls = for_text(&auto, "The weather in New York, and the stock of AAPL?");
        assert_eq!(names(&calls), ["get_weather", "get_stock_price"]);
        let value: Value = serde_json::from_str(&calls[0].arguments).unwrap();
        assert_eq!(value, json!({"city": "New York"}));
        let value: Value = serde_json::from_str(&calls[1].arguments).unwrap();
        assert_eq!(value, json!({"symbol": "AAPL"}));
        assert!(for_text(&auto, "Hello!").is_empty());
        assert!(for_text(&settings(json!("none")), "weather").is_empty());
        let named = settings(json!({"type":"function","name":"get_stock_price"}));
        assert_eq!(names(&for_text(&named, "Hello!")), ["get_stock_price"]);
    }

    #[test]
    fn any_tool_can_be_called_by_its_name() {
        let auto = settings(json!("auto"));
        let arguments = |text: &str| {
            let calls = for_text(&auto, text);
            assert_eq!(names(&calls), ["get_stock_price"], "{text}");
            serde_json::from_str::<Value>(&calls[0].arguments).unwrap()
        };
        let text = r#"Call get_stock_price: {"symbol": "SAP", "more": {"a": [1]}} and the weather"#;
        assert_eq!(arguments(text), json!({"symbol": "SAP", "more": {"a": [1]}}));
        assert_eq!(arguments("get_stock_price NVDA"), json!({"symbol": "NVDA"}));
        assert_eq!(arguments("get_stock_price {broken"), json!({"symbol": "MSFT"}));
        // A part of another word names no tool.
        assert!(named(&auto, "forget_weather my_get_weather get_weather2").is_none());
        assert!(for_text(&settings(json!("none")), "get_weather").is_empty());
    }

    #[test]
    fn answers_of_tools_are_sentences() {
        for (output, sentence) in [
            (
                r#"{"condition":"fog","humidity_percent":80,"raining":false}"#,
                "The tool says that condition is fog, humidity percent is 80 and raining is no.",
            ),
            (r#"{"time":"12:30"}"#, "The tool says that time is 12:30."),
            (r#"{"error":"No such city."}"#, "The tool could not do it: No such city."),
            (
                r#"{"list":[1,2],"at":{"a":1}}"#,
                "The tool says that at is a record of 1 fields and list is a list of 2.",
            ),
            ("{}", "The tool has nothing to tell."),
            ("It is noon.", "The tool said: It is noon."),
        ] {
            assert_eq!(told(output), sentence);
        }
    }

    #[test]
    fn every_third_spoken_turn_is_a_tool_round() {
        let auto = settings(json!("auto"));
        let counts: Vec<usize> = (1..=9).map(|n| for_speech(&auto, n, None).len()).collect();
        assert_eq!(counts, [0, 0, 1, 0, 0, 2, 0, 0, 1]);
        assert_eq!(for_speech(&auto, 1, Some(2)).len(), 2);
        assert_eq!(for_speech(&settings(json!("required")), 1, None).len(), 1);
    }

    #[test]
    fn arguments_fit_their_schema() {
        let schema = json!({"type":"object","required":["unit","days","exact"],"properties":{
            "unit":{"enum":["celsius","kelvin"]},"days":{"type":"integer","minimum":2},
            "exact":{"type":"boolean"},"note":{"type":"string"}}});
        let value: Value = serde_json::from_str(&arguments(&schema, "")).unwrap();
        assert_eq!(value, json!({"unit":"celsius","days":2,"exact":true}));
        let empty: Value = serde_json::from_str(&arguments(&Value::Null, "")).unwrap();
        assert_eq!(empty, json!({}));
    }
}
