//! What the kernel sees of tools that a model was talked into: which programs start, and where connections go.
//! Needs strace.

use std::fs;

use crate::support;
use serde_json::json;
use support::client::Client;
use support::daemon::{Daemon, KEY, PATIENCE};
use support::tools::{Folder, WebService};

/// Has the model call a tool with a text; returns when it has ended.
fn run(client: &mut Client, tool: &str, text: &str) {
    let seen = client.of_type("tool").len();
    let arguments = json!({ "argument": text });
    client.tell(&json!({ "type": "text", "text": format!("{tool} {arguments}") }));
    while client.of_type("tool").len() < seen + 2 {
        assert!(client.read_one_within(PATIENCE), "{tool} with {text:?} does not end");
    }
}

/// Sixty texts, to a program and into each part of a web request. No text starts a program, and none brings a
/// connection to another place.
#[test]
fn hostile_arguments_start_no_program_and_reach_no_other_place() {
    let web = WebService::json("{}");
    let parameters = json!({"type": "object", "properties": {"argument": {"type": "string"}},
        "required": ["argument"]});
    let fetch = json!({"name": "fetch", "description": "d", "parameters": parameters, "http": {
        "url": format!("http://{}/{{argument}}?in={{argument}}", web.address),
        "query": {"q": "{argument}"},
        "headers": {"X-Text": "{argument}"},
        "body": {"text": "{argument}"},
    }});
    let echo = json!({"name": "echo", "description": "d", "parameters": parameters,
        "command": ["cat"]});
    let folder = Folder::new("traces")
        .with("fetch.json", &fetch.to_string())
        .with("echo.json", &echo.to_string());
    let trace = folder.0.join("trace");
    let service = Daemon::simulate(&["no-welcome"]);
    let endpoint = format!("ws://{}", service.address);
    let wanted = "--trace=execve,execveat,connect,sendto";
    let path = trace.to_str().expect("UTF-8");
    // With -D the daemon is the process that was started, and the tracer stands beside it.
    let daemon = Daemon::traced(
        &["-D", "-f", "-qq", "-s", "300", wanted, "-e", "signal=none", "-o", path],
        &[
            ("AZURE_VOICE_LIVE_ENDPOINT", &endpoint),
            ("AZURE_VOICE_LIVE_API_KEY", KEY),
            ("VOICELIVED_TOOLS_DIR", folder.path()),
        ],
    );
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    for text in support::hostile::TEXTS {
        run(&mut client, "echo", text);
        run(&mut client, "fetch", text);
    }
    assert_eq!(daemon.stop("TERM"), Some(0));
    let log = fs::read_to_string(&trace).expect("strace writes");
    // Of a program that is looked for along PATH only the place that has it counts.
    let started = log.lines().filter(|line| line.contains("execve") && !line.contains("ENOENT"));
    let mut programs: Vec<&str> = started
        .filter_map(|line| line.split_once(", [")?.1.split(']').next())
        .map(|words| words.rsplit(", ").next().unwrap_or_default())
        .collect();
    let count = |word: &str| programs.iter().filter(|it| **it == word).count();
    assert_eq!(count("\"cat\""), support::hostile::TEXTS.len(), "each text, once");
    assert!(count("\"__request\"") >= 45, "{}", count("\"__request\""));
    programs.sort_unstable();
    programs.dedup();
    assert_eq!(programs, ["\"127.0.0.1:0\"", "\"__request\"", "\"__tools\"", "\"cat\""]);
    let ports = [web.address.port(), service.address.port()].map(|it| format!("htons({it})"));
    // The daemon asks the kernel for its own addresses: a connection to this port sends nothing.
    let asks_itself = |line: &str| line.contains("htons(9)");
    let places = log.lines().filter(|line| line.contains("sa_family=") && !asks_itself(line));
    let places: Vec<&str> = places.collect();
    assert!(places.len() > 45, "{} connections", places.len());
    for line in places {
        let ours = ports.iter().any(|port| line.contains(port));
        assert!(ours && line.contains("inet_addr(\"127.0.0.1\")"), "{line}");
    }
}
