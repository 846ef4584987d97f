//! A tool's result as text for the model.
//!
//! Only text can be spoken. Pictures and sounds are named, so that the model can say that there is one,
//! and are not sent.

use serde_json::Value;

/// The most bytes of a result that reach the model. Each costs tokens in every later turn.
pub const MAX_RESULT: usize = 32 * 1024;

/// What a `tools/call` was answered with: the text for the model, and whether the tool did its work. If
/// not, the text says why.
#[must_use]
#[inline(never)]
pub fn outcome(result: &Value) -> (String, bool) {
    if result["resultType"] == "input_required" {
        return ("The tool wants input that this assistant cannot give.".to_owned(), false);
    }
    let text = text(result);
    if result["isError"] == true {
        let silent = "The tool failed and did not say why.".to_owned();
        return (if text.is_empty() { silent } else { text }, false);
    }
    let text =
        if text.is_empty() { "Done. The tool has nothing to tell.".to_owned() } else { text };
    (text, true)
}

fn text(result: &Value) -> String {
    let parts = result["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut text = String::new();
    for part in parts {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&spoken(part));
        if text.len() > MAX_RESULT {
            break;
        }
    }
    let structured = &result["structuredContent"];
    // Servers repeat the structured form as text for clients that know text only. Then it is told once.
    let same = || serde_json::from_str::<Value>(&text).is_ok_and(|told| told == *structured);
    let inner = || match &structured["result"] {
        Value::String(inner) => *inner == text,
        Value::Number(number) => format!("{number}") == text,
        _ => false,
    };
    if !structured.is_null() && !same() && !inner() {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&structured.to_string());
    }
    cut(text)
}

fn spoken(part: &Value) -> String {
    let field = |name: &str| part[name].as_str().unwrap_or_default();
    match field("type") {
        "text" => field("text").to_owned(),
        kind @ ("image" | "audio") => {
            let bytes = field("data").len() / 4 * 3;
            format!("[{kind}, {}, {bytes} bytes, not shown]", field("mimeType"))
        }
        "resource_link" => {
            let words = ["name", "title", "description", "uri"].map(field);
            let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
            format!("[link: {}]", words.join(", "))
        }
        "resource" => {
            let resource = &part["resource"];
            let uri = resource["uri"].as_str().unwrap_or_default();
            match resource["text"].as_str() {
                Some(text) => format!("[resource {uri}]\n{text}"),
                None => {
                    let kind = resource["mimeType"].as_str().unwrap_or("binary");
                    format!("[resource {uri}, {kind}, not shown]")
                }
            }
        }
        "" => "[something unknown]".to_owned(),
        other => format!("[{}, not shown]", super::shown(other, 40)),
    }
}

/// Cuts at the bound, between two characters, and says so.
fn cut(mut text: String) -> String {
    if text.len() > MAX_RESULT {
        let whole = text.len();
        text.truncate(text.floor_char_boundary(MAX_RESULT));
        text.push_str(&format!("\n[cut here; the whole result has {whole} bytes]"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(result: Value) -> String {
        let (text, ok) = outcome(&result);
        assert!(ok, "{text}");
        text
    }

    #[test]
    fn parts_become_text_and_what_cannot_be_spoken_is_named() {
        let result = json!({ "content": [
            { "type": "text", "text": "21 degrees" },
            { "type": "image", "mimeType": "image/png", "data": "AAAAAAAA" },
            { "type": "audio", "mimeType": "audio/wav", "data": "AAAA" },
            { "type": "resource", "resource": { "uri": "file:///a", "text": "inside" } },
            { "type": "resource", "resource": { "uri": "file:///b", "mimeType": "x/y", "blob": "AA" } },
            { "type": "resource_link", "uri": "file:///c", "name": "plan", "description": "a plan" },
            { "type": "hologram" },
            {},
        ]});
        let lines = [
            "21 degrees",
            "[image, image/png, 6 bytes, not shown]",
            "[audio, audio/wav, 3 bytes, not shown]",
            "[resource file:///a]",
            "inside",
            "[resource file:///b, x/y, not shown]",
            "[link: plan, a plan, file:///c]",
            "[hologram, not shown]",
            "[something unknown]",
        ];
        assert_eq!(told(result), lines.join("\n"));
    }

    #[test]
    fn structured_content_is_told_once() {
        let both = json!({ "content": [{ "type": "text", "text": "{\"a\": 1}" }],
            "structuredContent": { "a": 1 } });
        assert_eq!(told(both), "{\"a\": 1}");
        let wrapped = json!({ "content": [{ "type": "text", "text": "5" }],
            "structuredContent": { "result": 5 } });
        assert_eq!(told(wrapped), "5");
        assert_eq!(told(json!({ "structuredContent": { "a": 1 } })), "{\"a\":1}");
        let other = json!({ "content": [{ "type": "text", "text": "see" }],
            "structuredContent": { "a": 1 } });
        assert_eq!(told(other), "see\n{\"a\":1}");
    }

    #[test]
    fn a_result_without_words_says_so() {
        for nothing in [json!({}), json!({ "content": [] }), json!(null), json!({ "content": 3 })] {
            assert_eq!(told(nothing), "Done. The tool has nothing to tell.");
        }
        let (text, ok) = outcome(&json!({ "isError": true }));
        assert!(!ok && text.contains("did not say why"), "{text}");
        let (text, ok) = outcome(&json!({ "resultType": "input_required" }));
        assert!(!ok && text.contains("wants input"), "{text}");
    }

    #[test]
    fn a_long_result_is_cut_between_characters() {
        let long = json!({ "content": [{ "type": "text", "text": "ä".repeat(MAX_RESULT) }] });
        let text = told(long);
        assert!(text.len() < MAX_RESULT + 100 && text.contains("[cut here"), "{}", text.len());
    }
}
