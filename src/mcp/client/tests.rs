//! Scenarios with a server that is played by the test, and a clock that the test moves.

use super::*;

const TIMEOUT: Duration = Duration::from_secs(20);

struct Scene {
    client: Client,
    now: Instant,
    events: Vec<Event>,
}

impl Scene {
    fn new() -> Self {
        Self::over(Transport::Stdio)
    }

    fn over(transport: Transport) -> Self {
        let mut scene = Self {
            client: Client::new(transport, TIMEOUT),
            now: Instant::now(),
            events: Vec::new(),
        };
        scene.client.open(scene.now);
        scene
    }

    /// A client that is ready, with the tools `a` and `b`.
    fn ready(era: Era) -> Self {
        let mut scene = Self::new();
        scene.begin(era);
        scene.hear_list(json!({ "tools": [{ "name": "a" }, { "name": "b" }] }));
        assert_eq!(scene.tools(), ["a", "b"]);
        scene.events.clear();
        scene
    }

    /// All up to the request for the list.
    fn begin(&mut self, era: Era) {
        let discover = self.said_one("server/discover");
        match era {
            Era::Modern => self.hear_result(&discover, json!({ "supportedVersions": [MODERN] })),
            Era::Legacy => {
                self.hear_error(&discover, messages::METHOD_NOT_FOUND, json!(null));
                let initialize = self.said_one("initialize");
                let result = json!({ "protocolVersion": LEGACY[0], "capabilities": {} });
                self.hear_result(&initialize, result);
            }
        }
    }

    /// What was said since the last time.
    fn said(&mut self) -> Vec<Value> {
        let text = String::from_utf8(self.client.to_write().to_vec()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        self.client.written(text.len());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn said_one(&mut self, method: &str) -> Value {
        let mut said = self.said();
        assert!(said.len() == 1 && said[0]["method"] == method, "{method}: {said:?}");
        said.remove(0)
    }

    fn hear(&mut self, line: &str) {
        self.client.read(format!("{line}\n").as_bytes(), self.now);
        self.events.extend(std::iter::from_fn(|| self.client.poll()));
    }

    fn hear_result(&mut self, request: &Value, result: Value) {
        self.hear(&json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string());
    }

    fn hear_error(&mut self, request: &Value, code: i64, data: Value) {
        let error = json!({ "code": code, "message": "no", "data": data });
        self.hear(&json!({ "jsonrpc": "2.0", "id": request["id"], "error": error }).to_string());
    }

    /// Answers the request for the list, which is the last thing that was said.
    fn hear_list(&mut self, result: Value) {
        let said = self.said();
        let list = said.iter().find(|it| it["method"] == "tools/list").unwrap().clone();
        self.hear_result(&list, result);
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.client.tick(self.now);
        self.events.extend(std::iter::from_fn(|| self.client.poll()));
    }

    fn tools(&self) -> Vec<String> {
        let listed = self.events.iter().rev().find_map(|event| match event {
            Event::Tools(tools) => Some(tools),
            _ => None,
        });
        listed.expect("a list").iter().map(|tool| tool.name.clone()).collect()
    }

    fn call(&mut self, ticket: u64, tool: &str) -> Value {
        self.client.call(ticket, tool, json!({ "x": 1 }), self.now).unwrap();
        self.said_one("tools/call")
    }

    /// The ends of calls since the last time.
    fn ends(&mut self) -> Vec<(u64, String, bool)> {
        let events = std::mem::take(&mut self.events);
        let ends = events.into_iter().filter_map(|event| match event {
            Event::Done { ticket, output, ok } => Some((ticket, output, ok)),
            _ => None,
        });
        ends.collect()
    }

    fn broken(&self) -> String {
        let words = self.events.iter().find_map(|event| match event {
            Event::Broken(words) => Some(words.clone()),
            _ => None,
        });
        words.expect("broken")
    }

    fn notes(&self) -> String {
        let notes = self.events.iter().filter_map(|event| match event {
            Event::Note(_, words) => Some(words.as_str()),
            _ => None,
        });
        notes.collect::<Vec<_>>().join("\n")
    }
}

// ---- the era ----

#[test]
fn a_modern_server_is_told_the_version_with_each_request() {
    let mut scene = Scene::new();
    let discover = scene.said_one("server/discover");
    let meta = |request: &Value| request["params"]["_meta"].clone();
    assert_eq!(meta(&discover)["io.modelcontextprotocol/protocolVersion"], MODERN);
    assert_eq!(meta(&discover)["io.modelcontextprotocol/clientCapabilities"], json!({}));
    scene.hear_result(&discover, json!({ "supportedVersions": ["2099-01-01", MODERN] }));
    assert_eq!((scene.client.era(), scene.client.is_ready()), (Some(Era::Modern), true));
    scene.hear_list(json!({ "resultType": "complete", "tools": [{ "name": "a" }] }));
    let call = scene.call(1, "a");
    assert_eq!(meta(&call)["io.modelcontextprotocol/protocolVersion"], MODERN);
    assert_eq!(call["params"]["arguments"], json!({ "x": 1 }));
}

#[test]
fn an_old_server_is_initialized_whatever_it_says_of_the_first_question() {
    let answers = [
        r#"{"id":1,"error":{"code":-32601,"message":"Method not found"}}"#,
        r#"{"id":1,"error":{"code":-32602,"message":"Invalid request parameters"}}"#,
        r#"{"id":"1","error":{"code":0}}"#,
        r#"{"id":1,"result":{"supportedVersions":["2025-06-18"]}}"#,
        r#"{"id":1,"result":{}}"#,
        r#"{"id":1,"result":null}"#,
        r#"{"id":1,"error":{"code":-32022,"data":{"supported":["2025-11-25"]}}}"#,
    ];
    for answer in answers {
        let mut scene = Scene::new();
        scene.said_one("server/discover");
        scene.hear(answer);
        let initialize = scene.said_one("initialize");
        assert_eq!(initialize["params"]["protocolVersion"], LEGACY[0], "{answer}");
        scene.hear_result(&initialize, json!({ "protocolVersion": "2025-03-26" }));
        let said = scene.said();
        assert_eq!(said[0]["method"], "notifications/initialized", "{answer}");
        assert_eq!(said[1]["method"], "tools/list");
        assert_eq!(said[1]["params"], json!({}), "an old server is told no version");
        assert_eq!(scene.client.era(), Some(Era::Legacy));
    }
}

#[test]
fn a_server_that_is_silent_is_initialized_after_ten_seconds() {
    let mut scene = Scene::new();
    let discover = scene.said_one("server/discover");
    assert_eq!(scene.client.deadline(), Some(scene.now + DISCOVER));
    scene.wait(9);
    assert!(scene.said().is_empty());
    scene.wait(1);
    scene.said_one("initialize");
    // Its answer comes too late and means nothing any more.
    scene.hear_result(&discover, json!({ "supportedVersions": [MODERN] }));
    assert!(!scene.client.is_ready());
    scene.wait(60);
    assert!(scene.broken().contains("does not answer"));
    assert_eq!(scene.client.deadline(), None);
}

#[test]
fn a_slow_server_that_has_taken_the_first_question_is_modern() {
    let mut scene = Scene::new();
    scene.said_one("server/discover");
    scene.wait(10);
    let initialize = scene.said_one("initialize");
    scene.hear_error(&initialize, messages::UNSUPPORTED_VERSION, json!({ "supported": [MODERN] }));
    assert_eq!((scene.client.era(), scene.client.is_ready()), (Some(Era::Modern), true));
}

#[test]
fn a_server_that_dies_of_the_question_is_not_asked_it_again() {
    let mut scene = Scene::new();
    scene.client.close("it has ended");
    scene.client.open(scene.now);
    scene.said_one("initialize");
}

#[test]
fn what_a_server_speaks_is_remembered_and_corrected() {
    let mut scene = Scene::ready(Era::Modern);
    scene.client.close("it has ended");
    scene.client.open(scene.now);
    scene.begin(Era::Legacy);
    scene.said();
    scene.client.close("it has ended");
    scene.client.open(scene.now);
    let initialize = scene.said_one("initialize");
    scene.hear_error(&initialize, messages::UNSUPPORTED_VERSION, json!({ "supported": [MODERN] }));
    assert_eq!(scene.client.era(), Some(Era::Modern));
}

#[test]
fn a_server_without_a_common_version_is_told() {
    let mut scene = Scene::new();
    let discover = scene.said_one("server/discover");
    let theirs = json!({ "supported": ["2031-01-01"] });
    scene.hear_error(&discover, messages::UNSUPPORTED_VERSION, theirs);
    assert!(scene.broken().contains("2031-01-01"));
    let mut scene = Scene::new();
    scene.said_one("server/discover");
    scene.wait(10);
    let initialize = scene.said_one("initialize");
    scene.hear_error(&initialize, -32000, json!(null));
    assert_eq!(scene.broken(), "it refuses to begin: no (-32000)");
}

#[test]
fn an_unknown_version_costs_a_line_in_the_log() {
    let mut scene = Scene::new();
    scene.said_one("server/discover");
    scene.hear(r#"{"id":1,"error":{"code":-32601}}"#);
    let initialize = scene.said_one("initialize");
    scene.hear_result(&initialize, json!({ "protocolVersion": "2019-01-01" }));
    assert!(scene.client.is_ready() && scene.notes().contains("2019-01-01"));
}

#[test]
fn a_server_that_was_replaced_in_the_midst_is_asked_anew() {
    let mut scene = Scene::ready(Era::Modern);
    let call = scene.call(5, "a");
    scene.hear_error(&call, messages::UNSUPPORTED_VERSION, json!({ "supported": [LEGACY[0]] }));
    let ends = scene.ends();
    assert!(ends.len() == 1 && !ends[0].2);
    scene.said_one("server/discover");
    assert!(!scene.client.is_ready());
}

// ---- the list ----

#[test]
fn pages_are_joined() {
    let mut scene = Scene::new();
    scene.begin(Era::Legacy);
    scene.hear_list(json!({ "tools": [{ "name": "a" }], "nextCursor": "two" }));
    let second = scene.said_one("tools/list");
    assert_eq!(second["params"]["cursor"], "two");
    scene.hear_result(&second, json!({ "tools": [{ "name": "b" }] }));
    assert_eq!(scene.tools(), ["a", "b"]);
}

#[test]
fn a_list_without_an_end_ends() {
    for same in [true, false] {
        let mut scene = Scene::new();
        scene.begin(Era::Legacy);
        for page in 0..200 {
            let said = scene.said();
            let Some(list) = said.iter().find(|it| it["method"] == "tools/list") else { break };
            let next = if same { "x".to_owned() } else { page.to_string() };
            let tools: Vec<_> =
                (0..20).map(|at| json!({ "name": format!("{page}-{at}") })).collect();
            scene.hear_result(&list.clone(), json!({ "tools": tools, "nextCursor": next }));
        }
        assert!(scene.said().is_empty());
        let words = if same { "does not end" } else { "more than 500 tools" };
        assert!(scene.notes().contains(words), "{}", scene.notes());
        assert_eq!(scene.tools().len(), if same { 40 } else { 500 });
    }
}

#[test]
fn what_cannot_be_offered_is_left_out_and_the_rest_is_taken() {
    let mut scene = Scene::new();
    scene.begin(Era::Modern);
    scene.hear_list(json!({ "tools": [
        3, {}, { "name": "" }, { "name": "a", "inputSchema": 7 }, { "name": "x".repeat(600) },
        { "name": "b", "annotations": { "readOnlyHint": true, "destructiveHint": false } },
        { "name": "b" },
        { "name": "c", "inputSchema": { "$ref": "#/$defs/x", "oneOf": [] }, "description": 9 },
    ]}));
    assert_eq!(scene.tools(), ["b", "c"]);
    let Some(Event::Tools(tools)) = scene.events.last() else { panic!("{:?}", scene.events) };
    assert_eq!((tools[0].read_only, tools[0].destructive), (Some(true), Some(false)));
    assert_eq!(tools[0].parameters, json!({ "type": "object" }));
    assert_eq!(tools[1].parameters["$ref"], "#/$defs/x");
}

#[test]
fn arguments_that_belong_into_header_fields_are_left_out_over_http() {
    for (transport, count) in [(Transport::Http, 1), (Transport::Stdio, 2)] {
        let mut scene = Scene::over(transport);
        scene.begin(Era::Modern);
        let schema = json!({ "properties": { "region": { "x-mcp-header": "Region" } } });
        scene.hear_list(
            json!({ "tools": [{ "name": "a" }, { "name": "b", "inputSchema": schema }] }),
        );
        assert_eq!(scene.tools().len(), count, "{transport:?}");
    }
}

#[test]
fn a_changed_list_is_asked_for_once_a_second_at_most() {
    let mut scene = Scene::ready(Era::Legacy);
    for _ in 0..10_000 {
        scene.hear(r#"{"method":"notifications/tools/list_changed"}"#);
    }
    assert!(scene.said().is_empty());
    scene.wait(1);
    let list = scene.said_one("tools/list");
    scene.hear(r#"{"method":"notifications/tools/list_changed"}"#);
    scene.hear_result(&list, json!({ "tools": [{ "name": "c" }] }));
    assert_eq!(scene.tools(), ["c"]);
    scene.wait(1);
    scene.said_one("tools/list");
}

#[test]
fn a_modern_server_is_asked_to_tell_of_changes() {
    let mut scene = Scene::new();
    let discover = scene.said_one("server/discover");
    let capabilities = json!({ "tools": { "listChanged": true } });
    let result = json!({ "supportedVersions": [MODERN], "capabilities": capabilities, "ttlMs": 0 });
    scene.hear_result(&discover, result);
    let said = scene.said();
    assert_eq!(said[1]["method"], "subscriptions/listen");
    assert_eq!(said[1]["params"]["notifications"], json!({ "toolsListChanged": true }));
    scene.hear_result(&said[0], json!({ "tools": [], "ttlMs": 0 }));
    assert_eq!(scene.client.deadline(), None, "nothing is due");
    scene.hear(r#"{"method":"notifications/tools/list_changed","params":{}}"#);
    scene.wait(1);
    let list = scene.said_one("tools/list");
    scene.hear_result(&list, json!({ "tools": [] }));
    // When that ends, what was missed is asked for, and it is asked for again.
    scene.hear_result(&said[1], json!({}));
    scene.wait(60);
    let methods: Vec<_> = scene.said().iter().map(|it| it["method"].clone()).collect();
    assert_eq!(methods, ["tools/list", "subscriptions/listen"]);
}

#[test]
fn a_list_that_is_fresh_for_a_time_is_asked_for_again_afterwards() {
    let mut scene = Scene::new();
    scene.begin(Era::Modern);
    scene.hear_list(json!({ "tools": [], "ttlMs": 120_000 }));
    scene.wait(119);
    assert!(scene.said().is_empty());
    scene.wait(1);
    scene.said_one("tools/list");
}

#[test]
fn a_list_that_fails_is_asked_for_again_and_the_old_one_stays() {
    let mut scene = Scene::ready(Era::Legacy);
    scene.hear(r#"{"method":"notifications/tools/list_changed"}"#);
    scene.wait(1);
    scene.said_one("tools/list");
    scene.wait(30);
    assert!(scene.notes().contains("cannot be listed"));
    assert!(!scene.events.iter().any(|event| matches!(event, Event::Tools(_))));
    scene.wait(60);
    let list = scene.said_one("tools/list");
    scene.hear_error(&list, messages::METHOD_NOT_FOUND, json!(null));
    assert!(scene.tools().is_empty(), "a server without tools has none");
}

// ---- calls ----

#[test]
fn answers_reach_their_calls_in_any_order() {
    for era in [Era::Modern, Era::Legacy] {
        let mut scene = Scene::ready(era);
        let (first, second) = (scene.call(10, "a"), scene.call(11, "b"));
        scene.hear_result(&second, json!({ "content": [{ "type": "text", "text": "two" }] }));
        scene.hear_error(&first, -32602, json!(null));
        let expected =
            [(11, "two".to_owned(), true), (10, "The tool failed: no (-32602).".to_owned(), false)];
        assert_eq!(scene.ends(), expected);
        scene.hear_result(&second, json!({}));
        assert_eq!(scene.ends(), [], "a second answer means nothing");
    }
}

#[test]
fn a_call_ends_by_its_deadline_and_the_connection_stays() {
    let mut scene = Scene::ready(Era::Legacy);
    let call = scene.call(1, "a");
    assert_eq!(scene.client.deadline(), Some(scene.now + TIMEOUT));
    scene.wait(20);
    let ends = scene.ends();
    assert_eq!(ends, [(1, "The tool a took too long.".to_owned(), false)]);
    let cancelled = scene.said_one("notifications/cancelled");
    assert_eq!(cancelled["params"]["requestId"], call["id"]);
    assert!(scene.client.is_ready());
    scene.hear_result(&call, json!({}));
    assert_eq!(scene.ends(), [], "its answer comes too late");
}

#[test]
fn progress_puts_the_deadline_off_up_to_a_bound() {
    let mut scene = Scene::ready(Era::Legacy);
    let call = scene.call(1, "a");
    let other = scene.call(2, "b");
    let token = &call["params"]["_meta"]["progressToken"];
    let progress = json!({ "method": "notifications/progress",
        "params": { "progressToken": token, "progress": 1 } });
    for _ in 0..11 {
        scene.wait(10);
        scene.hear(&progress.to_string());
    }
    assert_eq!(scene.ends().iter().map(|end| end.0).collect::<Vec<_>>(), [2]);
    assert_eq!(scene.said_one("notifications/cancelled")["params"]["requestId"], other["id"]);
    scene.wait(10);
    assert_eq!(scene.ends().len(), 1, "after two minutes nothing helps");
}

#[test]
fn a_cancelled_call_is_told_to_the_server_and_to_nobody_else() {
    let mut scene = Scene::ready(Era::Legacy);
    let call = scene.call(1, "a");
    scene.client.cancel(1, "the user interrupted");
    scene.client.cancel(1, "again");
    scene.client.cancel(2, "unknown");
    let cancelled = scene.said_one("notifications/cancelled");
    assert_eq!(cancelled["params"]["requestId"], call["id"]);
    scene.hear_result(&call, json!({}));
    assert_eq!(scene.ends(), []);
}

#[test]
fn the_end_of_the_connection_ends_all_calls_in_words() {
    let mut scene = Scene::ready(Era::Legacy);
    scene.call(1, "a");
    scene.call(2, "a");
    scene.client.close("it has ended");
    scene.wait(0);
    let ends = scene.ends();
    assert!(
        ends.len() == 2 && ends.iter().all(|(_, text, ok)| !ok && text.contains("it has ended"))
    );
    assert!(scene.client.call(3, "a", json!({}), scene.now).is_err());
    assert_eq!(scene.client.deadline(), None);
}

#[test]
fn a_server_that_does_not_read_is_refused_more() {
    let mut scene = Scene::ready(Era::Legacy);
    let big = json!({ "x": "y".repeat(300_000) });
    let taken =
        (0..10).take_while(|&at| scene.client.call(at, "a", big.clone(), scene.now).is_ok());
    assert_eq!(taken.count(), 4);
    for _ in 0..10_000 {
        scene.hear(r#"{"id":"p","method":"ping"}"#);
    }
    assert!(scene.client.to_write().len() < 1_500_000);
}

// ---- what else a server may say ----

#[test]
fn requests_of_a_server_are_answered_as_the_specification_says() {
    let mut scene = Scene::ready(Era::Legacy);
    scene.hear(r#"{"jsonrpc":"2.0","id":"p-1","method":"ping"}"#);
    scene.hear(r#"{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage","params":{}}"#);
    let said = scene.said();
    assert_eq!(said[0], json!({ "jsonrpc": "2.0", "id": "p-1", "result": {} }));
    assert_eq!((&said[1]["id"], &said[1]["error"]["code"]), (&json!(7), &json!(-32601)));
    let mut scene = Scene::ready(Era::Modern);
    scene.hear(r#"{"jsonrpc":"2.0","id":"p-1","method":"ping"}"#);
    assert!(scene.said().is_empty(), "answers are no messages to a modern server");
}

#[test]
fn what_is_no_message_is_passed_over() {
    let mut scene = Scene::ready(Era::Legacy);
    let call = scene.call(1, "a");
    for line in [
        "Server started on stdio",
        "",
        "\u{1b}[32minfo\u{1b}[0m",
        "{",
        "3",
        "null",
        "[]",
        "[[]]",
        "{}",
        r#"{"id":{}}"#,
        r#"{"id":-1,"result":{}}"#,
        r#"{"id":999,"result":{}}"#,
        r#"{"id":null,"result":{}}"#,
        r#"{"id":4}"#,
        r#"{"method":3}"#,
        r#"{"method":"x","id":{"a":1}}"#,
        r#"{"method":"notifications/progress"}"#,
        r#"{"method":"notifications/progress","params":{"progressToken":"x"}}"#,
        r#"{"method":"notifications/message","params":{"data":"\n\u0007"}}"#,
    ] {
        scene.hear(line);
    }
    scene.client.read(b"\xff\xfe\n\0\0\n", scene.now);
    assert_eq!(scene.ends(), []);
    scene.hear(&format!("[{}]", json!({ "id": call["id"], "result": {} })));
    assert_eq!(scene.ends().len(), 1, "an array of messages is taken");
}

#[test]
fn odd_lines_fill_no_log() {
    let mut scene = Scene::ready(Era::Legacy);
    for _ in 0..1000 {
        scene.hear("chatter");
    }
    assert_eq!(scene.events.len(), TOLD_ODDITIES);
    assert!(scene.notes().ends_with("(no more of this is told)"));
}

#[test]
fn an_answer_that_is_too_long_ends_its_call_and_nothing_else() {
    let long = "x".repeat(super::super::lines::MAX_LINE);
    for at_the_end in [false, true] {
        let mut scene = Scene::ready(Era::Legacy);
        let call = scene.call(1, "a");
        scene.call(2, "b");
        let id = &call["id"];
        let result = format!(r#""result":{{"content":[{{"id":2,"text":"{long}"}}]}}"#);
        scene.hear(&match at_the_end {
            false => format!(r#"{{"jsonrpc":"2.0","id":{id},{result}}}"#),
            true => format!(r#"{{{result},"jsonrpc":"2.0","id":{id}}}"#),
        });
        let ends = scene.ends();
        assert!(ends.len() == 1 && ends[0].0 == 1 && ends[0].1.contains("too long"), "{ends:?}");
    }
}

#[test]
fn bytes_may_come_one_by_one() {
    let mut scene = Scene::ready(Era::Legacy);
    let call = scene.call(1, "a");
    for byte in format!("{}\r\n", json!({ "id": call["id"], "result": {} })).bytes() {
        assert_eq!(scene.ends(), []);
        scene.client.read(&[byte], scene.now);
        scene.events.extend(std::iter::from_fn(|| scene.client.poll()));
    }
    assert_eq!(scene.ends().len(), 1);
}
