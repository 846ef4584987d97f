//! An MCP server behind HTTP, written for the tests: old or new, and faulty in one way.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::daemon::PATIENCE;

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Names in lower case.
    pub(crate) fields: HashMap<String, String>,
    pub(crate) body: Value,
}

impl Request {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// The server. It runs until the process ends.
pub(crate) struct Web {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Request>>>,
    state: Arc<Mutex<State>>,
}

impl Web {
    pub(crate) fn serve(fault: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/mcp", listener.local_addr().expect("it is bound"));
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let start = State { fault, sessions: 0, lost: false, tries: 0, cut_off: 0 };
        let state = Arc::new(Mutex::new(start));
        let (kept, shared) = (Arc::clone(&seen), Arc::clone(&state));
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (state, kept) = (Arc::clone(&shared), Arc::clone(&kept));
                std::thread::spawn(move || answer(socket, &state, &kept));
            }
        });
        Self { url, seen, state }
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("no panic").clone()
    }

    /// How many calls were cut off while it worked on them.
    pub(crate) fn cut_off(&self) -> usize {
        self.state.lock().expect("no panic").cut_off
    }

    /// The requests that end a session, once there are as many: who sends the last one does not wait until it is
    /// written down here.
    pub(crate) fn ends(&self, count: usize) -> Vec<Request> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let is_end = |request: &Request| request.method == "DELETE";
            let ends: Vec<_> = self.seen().into_iter().filter(is_end).collect();
            if ends.len() >= count || Instant::now() > deadline {
                return ends;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Requests of this method of the protocol.
    pub(crate) fn asked(&self, method: &str) -> Vec<Request> {
        self.seen().into_iter().filter(|request| request.body["method"] == method).collect()
    }
}

struct State {
    fault: &'static str,
    sessions: usize,
    lost: bool,
    tries: usize,
    cut_off: usize,
}

fn read(socket: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(socket);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut request = Request { method: line.split(' ').next()?.to_owned(), ..Request::default() };
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        request.fields.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; request.field("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    request.body = serde_json::from_slice(&body).unwrap_or_default();
    Some(request)
}

fn head(status: &str, more: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\n{more}\r\n")
}

fn whole(status: &str, kind: &str, more: &str, body: &str) -> String {
    let length = body.len();
    let more = format!("Content-Type: {kind}\r\nContent-Length: {length}\r\n{more}");
    head(status, &more) + body
}

fn json_answer(body: &Value) -> String {
    whole("200 OK", "application/json", "", &body.to_string())
}

fn answer(mut socket: TcpStream, state: &Mutex<State>, seen: &Mutex<Vec<Request>>) {
    let Some(request) = read(&socket) else { return };
    seen.lock().expect("no panic").push(request.clone());
    let fault = state.lock().expect("no panic").fault;
    let id = &request.body["id"];
    let result = |result: Value| json!({ "jsonrpc": "2.0", "id": id, "result": result });
    let tools =
        json!({ "tools": [{ "name": "echo" }, { "name": "größe" }], "resultType": "complete" });
    let method = request.body["method"].as_str().unwrap_or_default();
    let modern = !request.field("mcp-method").is_empty();
    let text = match (request.method.as_str(), method) {
        ("GET", _) if !request.field("last-event-id").is_empty() => {
            return resume(socket, &request, state);
        }
        ("GET", _) if fault == "tells of a change" => return tell_change(socket),
        ("GET", _) => head("405 Method Not Allowed", "Content-Length: 0\r\n"),
        ("DELETE", _) => head("204 No Content", ""),
        (_, "server/discover") if fault == "modern" => {
            json_answer(&result(json!({ "supportedVersions": ["2026-07-28"], "capabilities": {} })))
        }
        (_, "server/discover") => {
            whole("400 Bad Request", "text/plain", "", "Bad Request: no session")
        }
        (_, "initialize") => {
            let mut state = state.lock().expect("no panic");
            state.sessions += 1;
            let session = format!("Mcp-Session-Id: session-{}\r\n", state.sessions);
            let body = result(json!({ "protocolVersion": "2025-06-18", "capabilities": {} }));
            whole("200 OK", "application/json", &session, &body.to_string())
        }
        _ if !modern && !knows(&request, state) => match fault {
            "says 400 for a lost session" => {
                whole("400 Bad Request", "text/plain", "", "No valid session")
            }
            _ => whole("404 Not Found", "text/plain", "", "Session not found"),
        },
        (_, "tools/list") => json_answer(&result(tools)),
        (_, "tools/call") => return call(socket, &request, state),
        _ => head("202 Accepted", "Content-Length: 0\r\n"),
    };
    let _ = socket.write_all(text.as_bytes());
}

/// Whether the request carries the newest session, which was not lost.
fn knows(request: &Request, state: &Mutex<State>) -> bool {
    let mut state = state.lock().expect("no panic");
    let newest = format!("session-{}", state.sessions);
    let called = request.body["method"] == "tools/call";
    if state.fault.contains("lost session") && called && !state.lost {
        state.lost = true;
        return false;
    }
    request.field("mcp-session-id") == newest
}

fn call(mut socket: TcpStream, request: &Request, state: &Mutex<State>) {
    let said = request.body["params"]["arguments"]["text"].as_str().unwrap_or_default();
    let content = json!([{ "type": "text", "text": said }]);
    let good =
        json!({ "jsonrpc": "2.0", "id": request.body["id"], "result": { "content": content } });
    let stream = head("200 OK", "Content-Type: text/event-stream; charset=utf-8\r\n");
    let fault = state.lock().expect("no panic").fault;
    let text = match fault {
        "streams" => {
            let note =
                json!({ "method": "notifications/message", "params": { "data": "working" } });
            format!(
                "{stream}: hello\r\n\r\ndata: {note}\r\n\r\nevent: message\r\ndata: {good}\r\n\r\n"
            )
        }
        "says half an emoji" => {
            let body = good.to_string().replace("the word", "\\ud83d word");
            whole("200 OK", "application/json", "", &body)
        }
        "streams half an emoji" => {
            format!("{stream}data: {good}\n\n").replace("the word", "\\ud83d word")
        }
        "breaks its stream off" => {
            format!("{stream}id: one\nretry: 50\ndata: {{}}\n\ndata: {{\"half")
        }
        "breaks its stream off for good" => format!("{stream}data: {{\"half"),
        "answers with HTML" => whole("200 OK", "text/html", "", "<title>Sign in</title>"),
        "answers with HTML as JSON" => whole("200 OK", "application/json", "", "<title>Oh</title>"),
        "redirects elsewhere" => {
            head("307 Temporary Redirect", "Location: http://127.0.0.1:1/\r\nContent-Length: 0\r\n")
        }
        "refuses the login" => whole("401 Unauthorized", "text/plain", "", "no"),
        "has nothing to say" => head("202 Accepted", "Content-Length: 0\r\n"),
        "closes at once" => String::new(),
        "answers without an end" => {
            let _ =
                socket.write_all(head("200 OK", "Content-Type: application/json\r\n").as_bytes());
            while socket.write_all(&[b' '; 65_536]).is_ok() {}
            return;
        }
        "streams without an end" => {
            let _ = socket.write_all(stream.as_bytes());
            while socket.write_all(&[b'x'; 65_536]).is_ok() {}
            return;
        }
        "never answers" | "modern" if said == "wait" => {
            let _ = socket.write_all(stream.as_bytes());
            // Until the other side has gone.
            socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
            // An error is the end of its patience: the other side has not gone.
            let gone = matches!(socket.read(&mut [0]), Ok(0));
            state.lock().expect("no panic").cut_off += usize::from(gone);
            return;
        }
        "answers slowly" => {
            for byte in json_answer(&good).bytes() {
                let _ = socket.write_all(&[byte]);
                std::thread::sleep(Duration::from_millis(2));
            }
            return;
        }
        _ => json_answer(&good),
    };
    let _ = socket.write_all(text.as_bytes());
}

/// The second try breaks off as well, and the third has the answer.
fn resume(mut socket: TcpStream, request: &Request, state: &Mutex<State>) {
    let mut state = state.lock().expect("no panic");
    state.tries += 1;
    let stream = head("200 OK", "Content-Type: text/event-stream\r\n");
    let text = match (state.tries, request.field("last-event-id")) {
        (1, "one") => format!("{stream}id: two\ndata: {{}}\n\n"),
        // The id of the only call of the test: the client counts from 1.
        (2, "two") => {
            let content = json!([{ "type": "text", "text": "resumed" }]);
            let answers = (1..20).map(|id| json!({ "id": id, "result": { "content": content } }));
            let answers: String = answers.map(|answer| format!("data: {answer}\n\n")).collect();
            format!("{stream}{answers}")
        }
        _ => head("404 Not Found", ""),
    };
    let _ = socket.write_all(text.as_bytes());
}

fn tell_change(mut socket: TcpStream) {
    std::thread::sleep(Duration::from_millis(300));
    let note = json!({ "method": "notifications/tools/list_changed" });
    let stream = head("200 OK", "Content-Type: text/event-stream\r\n");
    let _ = socket.write_all(format!("{stream}data: {note}\n\n").as_bytes());
    std::thread::sleep(Duration::from_secs(20));
}
