//! A stdio MCP server that breaks the protocol in one way. It is this test program again: a test that does
//! nothing unless `FAULT` is set. What the test harness prints before it begins is itself no JSON.

#![expect(clippy::exit, reason = "the stand-in is a process of its own, which ends as it likes")]

use std::io::{BufRead, Write};
use std::time::Duration;

use serde_json::{Value, json};

/// Acts as the server until its input ends, or until its fault ends it.
pub(crate) fn serve(fault: &str) -> ! {
    let mut server = Standin { fault, listed: 0 };
    if fault == "dies at the start" {
        std::process::exit(3);
    }
    if fault == "floods its standard error" {
        for at in 0..200_000 {
            eprintln!("{at} is a line of a log that nobody asked for");
        }
    }
    if fault == "does not end when it is told to" {
        // SIGTERM has no effect on a shell that ignores it, nor on what it waits for.
        let script = "trap '' TERM; while :; do sleep 1; done";
        let _ = std::process::Command::new("sh").args(["-c", script]).spawn();
    }
    if fault == "prints on its standard output" {
        write(b"Server 1.0 started\n{half\n[1, 2\n\x1b[32mready\x1b[0m\r\n\xff\xfe\n");
    }
    if fault == "leaves a child with its pipes" {
        // It has all three, and is not waited for.
        let _ = std::process::Command::new("sleep").arg("600").spawn();
    }
    for line in std::io::stdin().lock().lines() {
        let Ok(message) = serde_json::from_str(&line.unwrap_or_default()) else { continue };
        server.take(&message);
    }
    note(&json!({ "name": "ends", "arguments": "with its input" }));
    if fault == "does not end when it is told to" {
        std::thread::sleep(Duration::from_secs(600));
    }
    std::process::exit(0)
}

struct Standin<'a> {
    fault: &'a str,
    listed: usize,
}

impl Standin<'_> {
    fn take(&mut self, message: &Value) {
        let (id, fault) = (&message["id"], self.fault);
        let answer = |result: Value| json!({ "jsonrpc": "2.0", "id": id, "result": result });
        match message["method"].as_str().unwrap_or_default() {
            "server/discover" => match fault {
                "dies of the first question" => std::process::exit(1),
                "takes its time for the first question" => {
                    // By then it was asked in the old way, and it has taken the new one.
                    std::thread::sleep(Duration::from_millis(10_500));
                    say(&answer(
                        json!({ "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} } }),
                    ));
                }
                "repeats itself" => {
                    for _ in 0..50 {
                        say(&error(id, -32601));
                    }
                }
                "answers with its modern era alone" => {
                    say(&answer(json!({ "supportedVersions": ["2026-07-28"] })));
                }
                _ => say(&error(id, -32601)),
            },
            "initialize" => match fault {
                "refuses to begin" => say(&error(id, -32000)),
                "takes its time for the first question" => {
                    let mut refusal = error(id, -32022);
                    refusal["error"]["data"] = json!({ "supported": ["2026-07-28"] });
                    say(&refusal);
                }
                "begins with nonsense" => say(&answer(json!("welcome"))),
                "speaks an unknown version" => {
                    say(&answer(json!({ "protocolVersion": "1999-12-31" })));
                }
                _ => say(&answer(json!({ "protocolVersion": "2025-06-18", "capabilities": {} }))),
            },
            "tools/list" => self.list(id),
            "tools/call" => self.call(message),
            "notifications/cancelled" => note(&json!({
                "name": "cancelled",
                "arguments": message["params"]["reason"],
            })),
            _ => {}
        }
    }

    fn list(&mut self, id: &Value) {
        self.listed += 1;
        let mut tools = vec![json!({
            "name": "echo",
            "description": "Says it again.",
            "inputSchema": { "type": "object", "properties": { "text": { "type": "string" } } },
        })];
        let mut next = Value::Null;
        match self.fault {
            "tells how its tools are" => {
                for (name, hints) in [
                    ("look", json!({ "readOnlyHint": true })),
                    ("add", json!({ "readOnlyHint": false, "destructiveHint": false })),
                    ("wipe", json!({ "readOnlyHint": false, "destructiveHint": true })),
                    ("both", json!({ "readOnlyHint": "true", "destructiveHint": 0 })),
                ] {
                    tools.push(json!({ "name": name, "annotations": hints }));
                }
            }
            "says that its tool is harmless, later" if self.listed > 1 => {
                tools[0]["annotations"] = json!({ "readOnlyHint": true });
                tools[0]["description"] = json!("Quite harmless.");
            }
            "lists without an end" => next = json!(format!("page {}", self.listed)),
            "lists the same page for ever" => next = json!("again"),
            "lists thousands" => {
                tools.extend((0..5000).map(|at| json!({ "name": format!("t{at}") })));
            }
            "lists nonsense" => {
                tools.extend([
                    json!(3),
                    json!({ "name": 7 }),
                    json!({ "name": "echo" }),
                    json!(null),
                ]);
            }
            "lists what is huge" => {
                let long = "x".repeat(300_000);
                tools.push(json!({ "name": "huge", "description": long, "inputSchema": { "title": long } }));
            }
            "changes its tools" if self.listed > 1 => {
                tools.push(json!({ "name": "new", "description": "It was not there before." }));
            }
            "does not list" => return say(&error(id, -32603)),
            "lists 500 when it is let" => tools = plenty(),
            _ => {}
        }
        let mut result = json!({ "tools": tools });
        if !next.is_null() {
            result["nextCursor"] = next;
        }
        if self.fault == "says half an emoji" {
            result["tools"][0]["description"] = json!("Says it again HALF.");
        }
        let answer = json!({ "jsonrpc": "2.0", "id": id, "result": result });
        if self.fault == "lists 500 when it is let" {
            return say_in_halves(&answer);
        }
        self.say_oddly(&answer);
        if self.fault == "writes before it reads" {
            flood();
        }
        if self.fault == "announces changes in a flood" {
            for _ in 0..20_000 {
                say(&json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" }));
            }
        }
        if self.fault == "closes its output and stays" {
            // A process of its own keeps this one alive without the pipe.
            let _ = std::process::Command::new("sleep")
                .arg("600")
                .stdout(std::process::Stdio::null())
                .spawn();
            std::process::exit(0);
        }
    }

    fn call(&self, message: &Value) {
        let id = &message["id"];
        note(&message["params"]);
        let said = message["params"]["arguments"]["text"].as_str().unwrap_or_default();
        let good = |text: &str| {
            let content = json!([{ "type": "text", "text": text }]);
            json!({ "jsonrpc": "2.0", "id": id, "result": { "content": content } })
        };
        match self.fault {
            "never answers" => {}
            "answers only the word" if said != "word" => {}
            "writes before it reads" => {
                flood();
                let length = said.len();
                say(&good(&format!(
                    "{length} bytes have come, {}",
                    &said[length.saturating_sub(9)..]
                )));
            }
            "leaves a child with its pipes" if said == "leave" => std::process::exit(0),
            "says that its tool is harmless, later" => {
                say(&good(said));
                say(&json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" }));
            }
            "exits in the midst" => std::process::exit(7),
            "answers with another id" => say(&json!({ "id": 987_654, "result": {} })),
            "answers without an id" => say(&json!({ "result": {} })),
            "answers with text for an id" => {
                let mut answer = good(said);
                answer["id"] = json!(id.to_string());
                say(&answer);
            }
            "answers with a giant line" => say(&good(&"x".repeat(9_000_000))),
            "stops in half a line" => write(b"{\"jsonrpc\":\"2.0\",\"id\":"),
            "answers with HTML" => write(b"<!DOCTYPE html>\n<title>502 Bad Gateway</title>\n"),
            "answers with bytes that are no text" => write(b"\xff\xfe\0\x01\n\0\0\n"),
            "answers slowly" => {
                for byte in format!("{}\n", good(said)).bytes() {
                    write(&[byte]);
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            "floods before it answers" => {
                for at in 0..30_000 {
                    say(&json!({ "method": "notifications/message", "params": { "data": at } }));
                }
                say(&good(said));
            }
            "asks in a flood" => {
                for at in 0..30_000 {
                    say(&json!({ "jsonrpc": "2.0", "id": format!("q{at}"), "method": "ping" }));
                }
                say(&good(said));
            }
            "asks for what is not offered" => {
                say(&json!({ "jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage" }));
                say(&json!({ "jsonrpc": "2.0", "id": 2, "method": "roots/list" }));
                say(&good(said));
            }
            "answers twice" => {
                say(&good(said));
                say(&good("the second answer"));
            }
            "fails without a word" => say(&json!({ "id": id, "error": {} })),
            "fails with control characters" => {
                let words = "\u{1b}[31mred\u{7}\r\n\u{202e}";
                say(&json!({ "id": id, "error": { "code": 1, "message": words } }));
            }
            "gives no result" => say(&json!({ "id": id, "result": null })),
            "gives a result of the wrong kind" => {
                say(&json!({ "id": id, "result": { "content": { "a": [1] }, "isError": "no" } }));
            }
            "nests deeply" => {
                let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
                write(format!("{{\"id\":{id},\"result\":{open}{close}}}\n").as_bytes());
            }
            "wants input" => {
                say(&json!({ "id": id, "result": { "resultType": "input_required" } }))
            }
            "changes its tools" => {
                say(&good(said));
                say(&json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" }));
            }
            "tells of progress" => {
                for at in 0..6 {
                    std::thread::sleep(Duration::from_millis(700));
                    let params = json!({ "progressToken": message["params"]["_meta"]["progressToken"], "progress": at });
                    say(
                        &json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params }),
                    );
                }
                say(&good(said));
            }
            "answers in an array" => say(&json!([[], good(said), {}])),
            "says half an emoji" => self.say_oddly(&good(&format!("HALF {said} HALF"))),
            _ => self.say_oddly(&good(said)),
        }
    }

    /// As JavaScript writes a text that was cut within an emoji, and as some programs begin a text on Windows.
    fn say_oddly(&self, message: &Value) {
        let mark = if self.fault == "begins with a byte order mark" { "\u{feff}" } else { "" };
        write(format!("{mark}{message}\n").replace("HALF", "\\ud83d").as_bytes());
    }
}

/// As many tools as are taken of a server.
fn plenty() -> Vec<Value> {
    let property = json!({ "type": "string", "description": "x".repeat(200) });
    let tool = |at| {
        json!({
            "name": format!("t{at}"),
            "inputSchema": { "type": "object", "properties": { "text": property } },
        })
    };
    (0..500).map(tool).collect()
}

/// One half when the file `first` is in the folder `GATE`, which more than fills a pipe; then it makes the file
/// `half`, and says the rest when `second` is there.
fn say_in_halves(message: &Value) {
    let folder = std::path::PathBuf::from(std::env::var_os("GATE").expect("a folder"));
    let wait_for = |name: &str| {
        while !folder.join(name).exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let line = format!("{message}\n");
    let (first, second) = line.split_at(line.len() / 2);
    assert!(first.len() > 70_000, "more than a pipe holds");
    wait_for("first");
    write(first.as_bytes());
    std::fs::write(folder.join("half"), "").expect("a file");
    wait_for("second");
    write(second.as_bytes());
}

/// More than any pipe holds, while a request may be on its way.
fn flood() {
    for at in 0..10_000 {
        say(&json!({ "method": "notifications/message", "params": { "data": at } }));
    }
}

/// Notes what was run, if the test wants to know.
fn note(params: &Value) {
    let Some(path) = std::env::var_os("NOTE") else { return };
    let mut file =
        std::fs::OpenOptions::new().append(true).create(true).open(path).expect("a file");
    let _ =
        writeln!(file, "{} {}", params["name"].as_str().unwrap_or_default(), params["arguments"]);
}

fn error(id: &Value, code: i64) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": "no" } })
}

fn say(message: &Value) {
    write(format!("{message}\n").as_bytes());
}

/// Past the harness, which keeps what is printed.
fn write(bytes: &[u8]) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(bytes);
    let _ = output.flush();
}
