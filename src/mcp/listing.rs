//! The list of a server's tools, which comes in pages.

use serde_json::{Value, json};

use super::shown;

/// The most tools of one server.
pub const MAX_TOOLS: usize = 500;
/// The most pages of a list. With the bound of tools alone, empty pages could go on for ever.
const MAX_PAGES: usize = 100;
/// The most bytes of a tool's description.
const MAX_DESCRIPTION: usize = 4096;
/// The most bytes of all schemas of one server.
const MAX_SCHEMAS: usize = 1024 * 1024;

/// A tool as its server describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// The server's name of it, which may have dots and up to 128 characters.
    pub name: String,
    /// What the server says of it.
    pub description: String,
    /// JSON Schema of the arguments, any part of 2020-12. The server checks the arguments.
    pub parameters: Value,
    /// `readOnlyHint`, the server's word.
    pub read_only: Option<bool>,
    /// `destructiveHint`, the server's word.
    pub destructive: Option<bool>,
}

/// A list in progress.
#[derive(Debug, Default)]
pub(super) struct Listing {
    tools: Vec<Tool>,
    bytes: usize,
    pages: usize,
    cursors: Vec<String>,
    /// What was odd, each sentence for the log.
    pub(super) notes: Vec<String>,
}

/// What a page leads to.
#[derive(Debug, PartialEq)]
pub(super) enum Page {
    /// Ask for the page at this cursor.
    More(String),
    /// That was the last one, or the last one that is taken.
    Last,
}

impl Listing {
    /// Takes a page. `marked_headers` says that a tool whose arguments belong into header fields
    /// (`x-mcp-header`) cannot be called over this transport; such tools are left out.
    pub(super) fn take(&mut self, result: &Value, marked_headers: bool) -> Page {
        self.pages += 1;
        for entry in result["tools"].as_array().map(Vec::as_slice).unwrap_or_default() {
            if self.tools.len() == MAX_TOOLS {
                self.notes
                    .push(format!("it lists more than {MAX_TOOLS} tools; the rest is left out"));
                return Page::Last;
            }
            if let Err(why) = self.take_tool(entry, marked_headers) {
                self.notes.push(why);
            }
        }
        let Some(next) = result["nextCursor"].as_str() else { return Page::Last };
        if self.pages == MAX_PAGES || self.cursors.iter().any(|cursor| cursor == next) {
            self.notes.push("its list of tools does not end; the rest is left out".to_owned());
            return Page::Last;
        }
        self.cursors.push(next.to_owned());
        Page::More(next.to_owned())
    }

    fn take_tool(&mut self, entry: &Value, marked_headers: bool) -> Result<(), String> {
        let name = entry["name"].as_str().filter(|name| !name.is_empty());
        let name = name.ok_or("a tool without a name is left out")?;
        let left_out = |why: &str| format!("the tool {} is left out: {why}", shown(name, 130));
        if name.len() > 512 {
            return Err(left_out("its name is too long"));
        }
        if self.tools.iter().any(|tool| tool.name == name) {
            return Err(left_out("it is listed twice"));
        }
        let parameters = match &entry["inputSchema"] {
            Value::Object(schema) => Value::Object(schema.clone()),
            Value::Null => json!({}),
            _ => return Err(left_out("its schema is no object")),
        };
        if marked_headers && mentions_header(&parameters) {
            return Err(left_out("its arguments belong into header fields"));
        }
        let mut parameters = parameters;
        if parameters["type"] != "object" {
            parameters["type"] = json!("object");
        }
        self.bytes += parameters.to_string().len();
        if self.bytes > MAX_SCHEMAS {
            return Err(left_out("the server's schemas are too large together"));
        }
        let mut description = entry["description"].as_str().unwrap_or_default().to_owned();
        description.truncate(description.floor_char_boundary(MAX_DESCRIPTION));
        let hint = |name: &str| entry["annotations"][name].as_bool();
        self.tools.push(Tool {
            name: name.to_owned(),
            description,
            parameters,
            read_only: hint("readOnlyHint"),
            destructive: hint("destructiveHint"),
        });
        Ok(())
    }

    /// The tools, in the server's order.
    pub(super) fn tools(self) -> Vec<Tool> {
        self.tools
    }
}

fn mentions_header(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            fields.iter().any(|(name, value)| name == "x-mcp-header" || mentions_header(value))
        }
        Value::Array(list) => list.iter().any(mentions_header),
        _ => false,
    }
}
