//! The tools that are part of this program, and the child `voicelived __tools` that runs them.
//!
//! The child lives as long as the daemon. It reads one run a line, `{"id":1,"name":…,"arguments":{…}}`, and
//! writes one answer a line, `{"id":1,"output":…}` or `{"id":1,"error":"…"}`. A process for each run would
//! take 14 ms to start, and 45 ms with fifty of them at once. A handler that hangs, or brings the process down,
//! costs the child and the runs in it, and nothing else: the loop starts another.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Backing, Builtin, Confirm, Limits, Origin, Tool, hang_up, schema, stock, weather};

const BUILTINS: &[Builtin] = &[weather::TOOL, stock::TOOL];

/// A handler only computes. One that takes longer hangs, and all runs of built-in tools wait behind it. What it
/// may say is bounded by [`MAX_LINE`].
const LIMITS: Limits =
    Limits { timeout: Duration::from_secs(5), at_once: usize::MAX, ..Limits::DEFAULT };

/// Longest line of the child, in bytes: the longest output of a built-in tool, as JSON.
pub const MAX_LINE: usize = 128 * 1024;

/// All of them, as the registry has them.
pub(super) fn all() -> impl Iterator<Item = Tool> {
    let tool = |name: &str, description: &str, parameters: Value, backing: Backing| {
        debug_assert_eq!(schema::verify(&parameters), Ok(()), "{name}");
        Tool {
            name: name.to_owned(),
            description: description.to_owned(),
            parameters,
            backing,
            limits: LIMITS,
            confirm: Confirm::Never,
            origin: Origin::Builtin,
        }
    };
    let handled = BUILTINS
        .iter()
        .map(move |it| tool(it.name, it.description, (it.parameters)(), Backing::Builtin));
    let parameters = json!({ "type": "object", "properties": {} });
    let own = tool(hang_up::NAME, hang_up::DESCRIPTION, parameters, Backing::HangUp);
    handled.chain([own])
}

/// The line that asks the child for a run. `arguments` is a JSON object on one line.
#[must_use]
#[inline(never)]
pub fn request(id: u64, name: &str, arguments: &str) -> String {
    format!("{{\"id\":{id},\"name\":{},\"arguments\":{arguments}}}\n", Value::from(name))
}

/// What a line of the child tells: which run has ended, and its result, or a sentence for the model.
/// `None` if it is no such line.
#[must_use]
#[inline(never)]
pub fn answer(line: &[u8]) -> Option<(u64, Result<String, String>)> {
    let mut line: Value = serde_json::from_slice(line).ok()?;
    let id = line["id"].as_u64()?;
    let result = match (line["output"].take(), line["error"].take()) {
        (output, Value::Null) if !output.is_null() => Ok(output.to_string()),
        (Value::Null, Value::String(why)) => Err(why),
        _ => return None,
    };
    Some((id, result))
}

/// The whole child: answers each line of `input` on `output` until the input ends. A line that is no run
/// is passed over.
///
/// # Errors
/// When a stream fails.
#[inline(never)]
pub fn serve(input: &mut dyn BufRead, output: &mut dyn Write) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let Ok(run) = serde_json::from_slice::<Value>(&line) else { continue };
        let Some(id) = run["id"].as_u64() else { continue };
        let answer = match handle(run["name"].as_str().unwrap_or_default(), &run["arguments"]) {
            Ok(result) => json!({ "id": id, "output": result }),
            Err(why) => json!({ "id": id, "error": why }),
        };
        // One write, so that the loop wakes up once.
        output.write_all(format!("{answer}\n").as_bytes())?;
        output.flush()?;
    }
}

/// Runs a built-in tool with arguments that have passed its schema.
fn handle(name: &str, arguments: &Value) -> Result<Value, String> {
    let builtin = BUILTINS.iter().find(|builtin| builtin.name == name);
    let builtin = builtin.ok_or("There is no built-in tool of this name.")?;
    (builtin.handler)(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builtin_schemas_are_sound_and_names_unique() {
        let all: Vec<Tool> = all().collect();
        for (index, tool) in all.iter().enumerate() {
            schema::verify(&tool.parameters).unwrap();
            assert!(all[..index].iter().all(|other| other.name != tool.name));
        }
    }

    fn told(input: &str) -> Vec<(u64, Result<String, String>)> {
        let mut output = Vec::new();
        serve(&mut input.as_bytes(), &mut output).unwrap();
        output.split(|byte| *byte == b'\n').filter_map(answer).collect()
    }

    #[test]
    fn the_child_answers_each_run_and_passes_over_what_is_none() {
        let weather = request(1, "get_weather", r#"{"location":"oslo","unit":"celsius"}"#);
        let stock = request(7, "get_stock_price", r#"{"symbol":"msft"}"#);
        let lines = format!("{weather}nonsense\n[]\n{{\"id\":-1}}\n\n{stock}");
        let told = told(&lines);
        assert_eq!(told.len(), 2);
        assert!(told[0].0 == 1 && told[0].1.as_ref().unwrap().contains("demo data"), "{told:?}");
        assert!(told[1].0 == 7 && told[1].1.as_ref().unwrap().contains("MSFT"), "{told:?}");
    }

    #[test]
    fn the_child_answers_with_an_error_what_it_cannot_do() {
        let unknown = request(3, "a \"quoted\" name", "{}");
        let nowhere = request(4, "get_weather", r#"{"location":"Nowhere"}"#);
        for (id, result) in told(&format!("{unknown}{nowhere}")) {
            assert!(result.is_err(), "{id}");
        }
        assert_eq!(answer(b"{\"id\":1}"), None);
        assert_eq!(answer(b"{\"id\":1,\"output\":1,\"error\":\"x\"}"), None);
        assert_eq!(answer(b"\xff"), None);
    }
}
