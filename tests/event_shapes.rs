//! The borrowed scan of audio events against `serde_json`, over every published shape of event, in
//! both dialects and in every spelling that JSON allows, or nearly allows: order, escapes, doubled
//! keys, nesting, huge, tiny, cut and damaged.
//!
//! What is compared is said in `support/fuzzed/service_event.rs`, which the fuzzer uses too. Here the
//! texts are made from the list of events; a failure names its seed, and
//! `VOICELIVED_SEED=17 cargo test --test all event_shapes::` repeats it.

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::fuzz_corpus::fuzzed::fuzz_service_event as compare;
use crate::support::random;
use random::Random;
use serde_json::{Map, Value, json};
use voicelived::call::service::{Parsed, parse, reply_audio};

const EVENTS: &str = include_str!("data/voice-live-events.json");

/// Names that the GA dialect has for a dated one.
const GA: [(&str, &str); 7] = [
    ("response.audio.delta", "response.output_audio.delta"),
    ("response.audio.done", "response.output_audio.done"),
    ("response.audio_transcript.delta", "response.output_audio_transcript.delta"),
    ("response.audio_transcript.done", "response.output_audio_transcript.done"),
    ("response.text.delta", "response.output_text.delta"),
    ("response.text.done", "response.output_text.done"),
    ("conversation.item.created", "conversation.item.added"),
];

/// Seeds tried for each shape.
const SEEDS: u64 = 60;

/// All published events, with all fields, of both dialects.
fn shapes() -> Vec<Map<String, Value>> {
    let catalogue: Value = serde_json::from_str(EVENTS).expect("the list is JSON");
    let events = catalogue["server_events"].as_object().expect("events by name");
    let mut shapes: Vec<_> = events
        .iter()
        .map(|(kind, entry)| {
            let mut fields = fields(entry, &catalogue, 0);
            fields.insert("type".to_owned(), json!(kind));
            fields
        })
        .collect();
    let others = catalogue["not_in_sdk"]["server_events"].as_object().expect("events by name");
    let named = |kind: &str| Map::from_iter([("type".to_owned(), json!(kind))]);
    shapes.extend(others.keys().map(|kind| named(kind)));
    for (dated, ga) in GA {
        let mut shape = shapes.iter().find(|shape| shape["type"] == dated).expect("it").clone();
        shape.insert("type".to_owned(), json!(ga));
        shapes.push(shape);
    }
    shapes
}

fn fields(entry: &Value, catalogue: &Value, depth: usize) -> Map<String, Value> {
    let types = entry["types"].as_object().into_iter().flatten();
    let value = |key: &String, kind| match key.ends_with("_id") {
        // Without a quote in it: the scan shall take the audio events among them.
        true => json!("resp_ä€🎧"),
        false => value_of(kind, catalogue, depth),
    };
    types.map(|(key, kind)| (key.clone(), value(key, kind))).collect()
}

fn value_of(kind: &Value, catalogue: &Value, depth: usize) -> Value {
    let name = kind.as_str().unwrap_or("string");
    let object = &catalogue["objects"][name];
    match name {
        "integer" => json!(7),
        "number" => json!(0.5),
        "boolean" => json!(true),
        "base64" => json!("AAABAAIAAwD//w=="),
        _ if name.starts_with("array") || name.contains("[array") => json!([{"delta": "AAAA"}, []]),
        _ if name.starts_with("map") => json!({"type": "response.audio.delta"}),
        _ if object.is_object() && depth < 3 => fields(object, catalogue, depth + 1).into(),
        _ => json!("resp_ä€🎧 \"quoted\\\""),
    }
}

fn seeds(most: u64) -> std::ops::Range<u64> {
    match std::env::var("VOICELIVED_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..most,
    }
}

/// Runs `check` for every shape and seed, and names those that fail.
fn for_all(check: impl Fn(&Map<String, Value>, &mut Random)) {
    for shape in shapes() {
        // The one event that the scan takes is worth the most tries.
        let most = if shape.contains_key("delta") { 20 * SEEDS } else { SEEDS };
        for seed in seeds(most) {
            let run = || check(&shape, &mut Random::new(seed));
            let outcome = catch_unwind(AssertUnwindSafe(run));
            assert!(outcome.is_ok(), "{} with VOICELIVED_SEED={seed}", shape["type"]);
        }
    }
}

#[test]
fn every_event_reads_the_same_in_every_spelling() {
    for_all(|shape, random| compare(spell(shape, random).as_bytes()));
}

#[test]
fn cut_and_damaged_events_read_the_same_or_are_refused() {
    for_all(|shape, random| {
        let mut text = spell(shape, random).into_bytes();
        for _ in 0..random.range(1, 4) {
            let at = random.range(0, text.len());
            match random.range(0, 3) {
                0 => text.truncate(at),
                1 => text.insert(at, b"\"\\{}[],:0 \x01x"[random.range(0, 11)]),
                2 if at < text.len() => drop(text.remove(at)),
                _ => text.splice(at..at, *b"\"delta\":\"AAAA\",").for_each(drop),
            }
        }
        compare(&text);
    });
}

#[test]
fn the_hot_path_takes_plain_audio_in_any_order_and_size_and_nothing_else() {
    let texts = ["", "AAAA", "AA==", "=", "A", "no base64!", "ÄÖ🎧"].map(str::to_owned);
    let huge = "QUJD".repeat(350_000);
    for_all(|shape, random| {
        let mut shape = shape.clone();
        shape.retain(|_, value| !value.is_array() && !value.is_object());
        for id in ["response_id", "item_id", "event_id"] {
            shape.entry(id).and_modify(|value| *value = json!("resp_ä1"));
        }
        let audio = ["response.audio.delta", "response.output_audio.delta"];
        let is_audio = audio.contains(&shape["type"].as_str().expect("a name"));
        if is_audio {
            let usual = &texts[random.range(0, texts.len() - 1)];
            let text = if random.one_in(10) { &huge } else { usual };
            shape.insert("delta".to_owned(), json!(text));
        }
        let members: Vec<_> = shuffled(&shape, random)
            .into_iter()
            .map(|(key, value)| format!("{}{value}", json!(key).to_string() + ":"))
            .collect();
        let text = format!("{{{}}}", members.join(","));
        compare(text.as_bytes());
        let hot = matches!(parse(&text), Ok(Parsed::Audio(_)));
        let whole = is_audio && shape.contains_key("response_id") && shape.contains_key("item_id");
        assert_eq!(hot, whole, "{:.300}", text);
        // Bytes that need not be text are only taken for it where they are ASCII.
        let plain = text.replace('ä', "a");
        compare(plain.as_bytes());
        let hot = reply_audio(plain.as_bytes()).is_some();
        assert!(hot == whole || !plain.is_ascii(), "{:.300}", plain);
    });
}

#[test]
fn decoys_do_not_deceive() {
    let head = r#""type":"response.audio.delta","response_id":"r","item_id":"i""#;
    for text in [
        format!(r#"{{{head},"delta":"AAAA","\u0064elta":"BBBB"}}"#),
        format!(r#"{{"\u0064elta":"BBBB",{head},"delta":"AAAA"}}"#),
        format!(r#"{{{head},"delta":"AAAA","type":"error"}}"#),
        format!(r#"{{"type":"error",{head},"delta":"AAAA"}}"#),
        format!(r#"{{{head},"\u0074ype":"error","delta":"AAAA"}}"#),
        format!(r#"{{{head},"x":"\"delta\":\"BBBB\"","delta":"AAAA"}}"#),
        format!(r#"{{{head},"x":{{"y":[{{"delta":"BBBB"}}]}},"delta":"AAAA"}}"#),
        format!(r#"{{{head},"delta":"AA\u0041A"}}"#),
        format!(r#"{{{head},"delta":"AAA\/"}}"#),
        format!(r#"{{{head},"delta":"\ud83c\udfa7"}}"#),
        format!(r#"{{{head},"delta":"\ud83c"}}"#),
        format!(r#"{{{head},"delta":["AAAA"]}}"#),
        format!(r#"{{{head},"delta":{{"delta":"AAAA"}}}}"#),
        format!(r#"[{{{head},"delta":"AAAA"}}]"#),
        format!(r#"{{{head},"delta":"AAAA"}}{{}}"#),
        format!("{{{head},\"delta\":\"AA\tAA\"}}"),
        format!("\u{feff}{{{head},\"delta\":\"AAAA\"}}"),
        format!("{{{head},\"delta\":\"AAAA\"}}\0"),
        format!("{}{head},\"delta\":\"AAAA\"{}", "{\"x\":".repeat(200), "}".repeat(200)),
        format!(r#"{{{head},"x":{}1{},"delta":"AAAA"}}"#, "[".repeat(200), "]".repeat(200)),
        format!(r#"{{{head},"x":{},"delta":"AAAA"}}"#, "9".repeat(400)),
        // Where the hot path takes the end for granted.
        format!(r#"{{{head},"delta":"AAAA","x":"y"}}"#),
        format!(r#"{{{head},"delta":"AAAA"}},"x":"y"}}"#),
        format!(r#"{{{head},"delta":"}}"#),
        format!(r#"{{{head},"delta":""}}"#),
        format!(r#"{{{head},"delta":"AA\"}}"#),
        format!(r#"{{{head},"delta":"AAAA"}} "#),
        format!(r#"{{{head},"delta":"AAAA","delta":"BBBB"}}"#),
        format!(r#"{{{head},"item_id":"j","delta":"AAAA"}}"#),
        format!(r#"{{"delta":"AAAA",{head}}}"#),
        format!(r#"{{"x":"ä",{head},"delta":"AAAA"}}"#),
    ] {
        compare(text.as_bytes());
    }
    compare(&[b"{\"x\":\"\xff\",", head.as_bytes(), b",\"delta\":\"AAAA\"}"].concat());
    for value in [
        "007",
        "-0",
        "1.5",
        "1e3",
        "1e999",
        "9999999999999999999",
        "+1",
        "nul",
        "truE",
        "\"\u{1}\"",
    ] {
        compare(format!(r#"{{{head},"x":{value},"delta":"AAAA"}}"#).as_bytes());
    }
}

// ---- spelling ----

fn shuffled<'a>(
    object: &'a Map<String, Value>,
    random: &mut Random,
) -> Vec<(&'a String, &'a Value)> {
    let mut members: Vec<_> = object.iter().collect();
    for at in (1..members.len()).rev() {
        members.swap(at, random.range(0, at));
    }
    members
}

/// The event as JSON, as oddly as the seed wants: sometimes plain, sometimes everything at once.
fn spell(shape: &Map<String, Value>, random: &mut Random) -> String {
    let oddness = [0, 3, 10, 30][random.range(0, 3)];
    // Often only one oddity: the scan takes what has none but that, if it is wrong about it.
    let kinds = if random.one_in(2) { 1 << random.range(0, 5) } else { random.range(0, 63) };
    let mut speller = Speller { random, oddness, kinds, text: String::new() };
    speller.blank();
    speller.object(shape, 0);
    speller.blank();
    speller.text
}

/// What may be odd about a text.
#[derive(Clone, Copy)]
enum Oddity {
    Blanks,
    Doubled,
    Unknown,
    Nulls,
    Numbers,
    Escapes,
}

struct Speller<'r> {
    random: &'r mut Random,
    /// The oddities that there may be, a bit each.
    kinds: usize,
    /// In how many cases of a hundred something odd is done.
    oddness: usize,
    text: String,
}

impl Speller<'_> {
    fn odd(&mut self, what: Oddity) -> bool {
        self.kinds & (1 << what as usize) != 0 && self.random.range(0, 99) < self.oddness
    }

    fn blank(&mut self) {
        while self.odd(Oddity::Blanks) {
            self.text.push([' ', '\n', '\r', '\t'][self.random.range(0, 3)]);
        }
    }

    fn object(&mut self, object: &Map<String, Value>, depth: usize) {
        let members: Vec<_> = shuffled(object, self.random);
        self.text.push('{');
        let mut first = true;
        for (key, value) in members {
            // A doubled key: of both the last counts.
            if self.odd(Oddity::Doubled) {
                self.member(&mut first, key, &json!("decoy"), depth);
            }
            if self.odd(Oddity::Unknown) {
                let decoy = json!({"delta": "BBBB", "type": ["error", {"item_id": null}]});
                self.member(&mut first, "unknown", &decoy, depth);
            }
            let value = if self.odd(Oddity::Nulls) { &Value::Null } else { value };
            self.member(&mut first, key, value, depth);
        }
        self.text.push('}');
    }

    fn member(&mut self, first: &mut bool, key: &str, value: &Value, depth: usize) {
        if !std::mem::take(first) {
            self.text.push(',');
        }
        self.blank();
        self.string(key);
        self.blank();
        self.text.push(':');
        self.blank();
        self.value(value, depth);
        self.blank();
    }

    fn value(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Object(object) => self.object(object, depth + 1),
            Value::Array(list) => {
                self.text.push('[');
                for (at, item) in list.iter().enumerate() {
                    if at > 0 {
                        self.text.push(',');
                    }
                    self.blank();
                    self.value(item, depth + 1);
                }
                self.text.push(']');
            }
            Value::String(text) => self.string(text),
            Value::Number(_) if self.odd(Oddity::Numbers) => {
                let odd = ["-0", "1e3", "1.5E-7", "18446744073709551616", "1e999", "007"];
                self.text.push_str(odd[self.random.range(0, 5)]);
            }
            other => self.text.push_str(&other.to_string()),
        }
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        let mut units = [0; 2];
        for letter in text.chars() {
            if self.odd(Oddity::Escapes) {
                for unit in letter.encode_utf16(&mut units) {
                    // Writing to a String cannot fail.
                    let _ = write!(self.text, "\\u{unit:04x}");
                }
            } else if letter == '"'
                || letter == '\\'
                || (letter == '/' && self.odd(Oddity::Escapes))
            {
                self.text.extend(['\\', letter]);
            } else {
                self.text.push(letter);
            }
        }
        self.text.push('"');
    }
}
