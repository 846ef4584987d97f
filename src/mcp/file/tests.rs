use super::*;

fn read(text: &str) -> (Vec<Server>, Vec<Fault>) {
    parse(text, &|name| (name == "TOKEN").then(|| "secret".to_owned()))
}

fn one(entry: &str) -> Server {
    let (mut servers, faults) = read(&format!("{{\"mcpServers\": {{\"a\": {entry}}}}}"));
    assert_eq!((servers.len(), faults), (1, Vec::new()), "{entry}");
    servers.remove(0)
}

fn fault(entry: &str) -> String {
    let (servers, faults) = read(&format!("{{\"mcpServers\": {{\"a\": {entry}}}}}"));
    assert!(servers.is_empty() && faults.len() == 1, "{entry}: {faults:?}");
    faults[0].message.clone()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn files_of_other_assistants_work_as_they_are() {
    // Each as the assistant's own documentation shows it, with what only that one knows.
    let desktop = one(r#"{"command": "npx", "args": ["-y", "server", "/home/pi"]}"#);
    let ServerEndpoint::Program { command, environment, folder } = desktop.place else {
        panic!("a program")
    };
    assert_eq!(command, strings(&["npx", "-y", "server", "/home/pi"]));
    assert!(environment.is_empty() && folder.is_none());
    let editor = one(r#"{"type": "stdio", "command": "uvx", "env": {"K": "${env:TOKEN}", "N": 3},
        "cwd": "/srv", "alwaysAllow": ["x"], "autoApprove": [], "timeout": 60, "disabled": false}"#);
    let ServerEndpoint::Program { environment, folder, .. } = editor.place else {
        panic!("a program")
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(environment, [pair("K", "secret"), pair("N", "3")]);
    assert_eq!(folder.as_deref(), Some("/srv"));
    for key in ["url", "serverUrl", "httpUrl"] {
        let web = one(&format!(
            r#"{{"type": "http", "{key}": "https://h/mcp", "headers": {{"Authorization": "Bearer ${{TOKEN}}"}}}}"#
        ));
        let ServerEndpoint::Http { url, headers, .. } = web.place else { panic!("an address") };
        assert_eq!(url, "https://h/mcp");
        assert_eq!(headers, [pair("Authorization", "Bearer secret")]);
    }
    let (servers, faults) = read(r#"{"servers": {"b": {"command": "x"}}, "inputs": []}"#);
    assert_eq!((servers.len(), faults.len()), (1, 0));
    let (servers, faults) = read(r#"{"mcpServers": {"b": {"command": "x", "disabled": true}}}"#);
    assert_eq!((servers.len(), faults.len()), (0, 0));
}

#[test]
fn our_own_fields_are_read() {
    let server = one(
        r#"{"command": "x", "allow": ["a*"], "deny": ["b"], "confirm": "auto", "timeout_seconds": 5}"#,
    );
    assert_eq!(server.allow, Some(strings(&["a*"])));
    assert_eq!(server.deny, ["b"]);
    assert_eq!((server.confirm, server.timeout), (Confirm::Auto, Duration::from_secs(5)));
    let plain = one(r#"{"command": "x"}"#);
    assert_eq!((plain.allow, plain.confirm, plain.timeout), (None, Confirm::Never, TIMEOUT));
}

#[test]
fn variables_are_put_in_and_nothing_else_is() {
    let expanded = |text: &str| expand(text, &|name| (name == "TOKEN").then(|| "v".to_owned()));
    for (text, value) in [
        ("", ""),
        ("a$b", "a$b"),
        ("${TOKEN}", "v"),
        ("x${TOKEN}y${env:TOKEN}z", "xvyvz"),
        ("${NONE:-d}", "d"),
        ("${NONE:-}", ""),
        ("${input:key}", "${input:key}"),
        ("${", "${"),
        ("${}", "${}"),
        ("${TOKEN", "${TOKEN"),
        ("$TOKEN", "$TOKEN"),
    ] {
        assert_eq!(expanded(text), Ok(value.to_owned()), "{text}");
    }
    assert_eq!(expanded("${NONE}"), Err("the variable NONE is not set".to_owned()));
}

#[test]
fn each_fault_names_its_line_and_costs_only_its_server() {
    let text = r#"{
  "mcpServers": {
    "fine": {"command": "x"},
    "bad\u0061": {
      "command": "x",
      "args": [{"args": 1},
        2]
    },
    "both": {"command": "x",
      "url": "https://h"},
    "none": {}
  },
  "command": 3
}"#;
    let (servers, faults) = read(text);
    assert_eq!(servers.len(), 1);
    let lines: Vec<_> = faults.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [6, 10, 11], "{faults:?}");
    assert!(faults[0].message.starts_with("bada: "), "{faults:?}");
    for (text, line, part) in [
        ("", 1, "not valid JSON"),
        ("{\n\"mcpServers\": {\n]}", 3, "not valid JSON"),
        ("[]", 1, "no \"mcpServers\""),
        ("{\n\n\"mcpServers\": []}", 3, "must be an object"),
    ] {
        let (servers, faults) = read(text);
        assert!(servers.is_empty() && faults.len() == 1, "{text}");
        assert_eq!(faults[0].line, line, "{text}");
        assert!(faults[0].message.contains(part), "{faults:?}");
    }
}

#[test]
fn faults_say_what_is_wrong_and_never_a_value() {
    for (entry, part) in [
        ("3", "must be an object"),
        (r#"{"command": 3}"#, "must be a text"),
        (r#"{"command": " "}"#, "is empty"),
        (r#"{"command": "x", "args": "canary"}"#, "list of texts"),
        (r#"{"command": "x", "env": ["canary"]}"#, "object of texts"),
        (r#"{"command": "x", "env": {"a=b": "canary"}}"#, "cannot be used"),
        (r#"{"command": "x", "env": {"A": "canary\u0000"}}"#, "cannot be used"),
        (r#"{"command": "x\u0000"}"#, "NUL"),
        (r#"{"url": "canary"}"#, "no address"),
        (r#"{"url": "ftp://canary"}"#, "no address"),
        (r#"{"url": "http://"}"#, "no address"),
        (r#"{"url": "http://h", "headers": {"A": "canary\r\nB: c"}}"#, "cannot be used"),
        (r#"{"url": "http://h/sse", "type": "sse"}"#, "2024"),
        (r#"{"command": "${NONE}"}"#, "NONE is not set"),
        (r#"{"command": "x", "allow": "canary"}"#, "list of tools"),
        (r#"{"command": "x", "confirm": "perhaps"}"#, "never, always or auto"),
        (r#"{"command": "x", "timeout_seconds": 0}"#, "from 1 to"),
        (r#"{"command": "x", "timeout_seconds": 1e9}"#, "from 1 to"),
    ] {
        let fault = fault(entry);
        assert!(fault.contains(part) && !fault.contains("canary"), "{entry}: {fault}");
    }
}

#[test]
fn servers_are_bounded() {
    let entries: Vec<_> =
        (0..20).map(|at| format!("\"s{at:02}\": {{\"command\": \"x\"}}")).collect();
    let (servers, faults) = read(&format!("{{\"mcpServers\": {{\n{}}}}}", entries.join(",\n")));
    assert_eq!((servers.len(), faults.len()), (MAX_SERVERS, 4));
    assert_eq!(faults[0].line, 18);
}
