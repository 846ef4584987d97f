//! Request heads at the edges of what is taken.

use crate::net::http::{MAX_LINE, ParsedHead, Request, Status, Upgrade, parse};

fn status(head: &str) -> u16 {
    match parse(head.as_bytes()) {
        ParsedHead::Partial => 0,
        ParsedHead::Complete(..) => 200,
        ParsedHead::Bad(Status(code, _)) => code,
    }
}

fn complete(head: &str) -> Request {
    match parse(head.as_bytes()) {
        ParsedHead::Complete(request, length) if length == head.len() => *request,
        other => panic!("{head:?}: {other:?}"),
    }
}

/// The same whether empty lines come first or not, and however the bytes are cut.
#[test]
fn the_longest_request_line_is_taken_and_a_byte_more_is_not() {
    let ends = "GET / HTTP/1.1".len();
    let line = |length: usize| format!("GET /{} HTTP/1.1", "x".repeat(length - ends));
    let fields = "\r\nHost: a\r\n\r\n";
    for before in ["", "\r\n", "\r\n\r\n"] {
        let longest = format!("{before}{}", line(MAX_LINE));
        assert_eq!(status(&(longest.clone() + fields)), 200, "{before:?}");
        assert_eq!(status(&(longest.clone() + "\r")), 0, "{before:?}");
        assert_eq!(status(&longest), 0, "{before:?}");
        let longer = format!("{before}{}", line(MAX_LINE + 1));
        assert_eq!(status(&(longer.clone() + "\r")), 414, "{before:?}");
        assert_eq!(status(&(longer + fields)), 414, "{before:?}");
    }
    // What stops it first decides: the line is too long before its end is wrong.
    let shown = line(MAX_LINE + 2);
    for end in ["\n", "\n\r\n", "x\n"] {
        assert_eq!(status(&format!("{shown}{end}")), 414, "{end:?}");
    }
    let shown = line(MAX_LINE + 1);
    assert_eq!(status(&format!("{shown}\rx")), 414);
    assert_eq!(status(&format!("{}\n", line(MAX_LINE))), 400);
}

#[test]
fn a_bare_end_of_a_line_is_refused_as_soon_as_it_shows() {
    for (head, code) in [
        ("\n", 400),
        ("GET / HTTP/1.1\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r", 0),
        ("GET / HTTP/1.1\r\nHost: a\rb", 400),
        ("GET / HTTP/2.0\r", 0),
        ("GET / HTTP/2.0\rx", 400),
        ("GET / HTTP/2.0\n", 400),
        ("GET / HTTP/2.0\r\n", 505),
        ("GET / HTTP/2.0\r\nHost: a\nb", 505),
        ("\r\nGET / HTTP/2.0\r\n", 505),
        ("GET / HTTP/two\r\n", 400),
    ] {
        assert_eq!(status(head), code, "{head:?}");
    }
}

#[test]
fn targets_have_four_forms() {
    let ask = |line: &str| format!("{line} HTTP/1.1\r\nHost: own:1\r\n\r\n");
    let found = |line: &str| {
        let request = complete(&ask(line));
        (request.path, request.query, request.host, request.secure)
    };
    let told = |path: &str, query: &str, host: &str, secure| {
        (path.to_owned(), query.to_owned(), host.to_owned(), secure)
    };
    assert_eq!(found("GET /a?b?c"), told("/a", "b?c", "own:1", None));
    assert_eq!(found("GET http://other:2/a?b"), told("/a", "b", "other:2", Some(false)));
    assert_eq!(found("GET HTTPS://other?b"), told("/", "b", "other", Some(true)));
    assert_eq!(found("OPTIONS *"), told("*", "", "own:1", None));
    assert_eq!(found("OPTIONS /a"), told("/a", "", "own:1", None));
    // A tunnel has no path, and what follows its refusal may be meant for the tunnel.
    assert_eq!(found("CONNECT other:2"), told("*", "", "other:2", None));
    assert_eq!(found("CONNECT [::1]:65535"), told("*", "", "[::1]:65535", None));
    assert_eq!(found("CONNECT other:1"), told("*", "", "other:1", None));
    assert!(!complete(&ask("CONNECT other:2")).keep_alive);
    for line in [
        "GET *",
        "GET a",
        "GET ftp://other/a",
        "GET http://",
        "GET http:///a",
        "GET /a#b",
        "GET /\"a\"",
        "GET /<a>",
        "CONNECT /a",
        "CONNECT other",
        "CONNECT other:",
        "CONNECT other:0",
        "CONNECT other:65536",
        "CONNECT o/ther:80",
    ] {
        assert_eq!(status(&ask(line)), 400, "{line}");
    }
}

#[test]
fn a_host_may_be_missing_in_the_oldest_version_alone() {
    let old = complete("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((old.host.as_str(), old.keep_alive), ("", false));
    assert_eq!(status("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
    assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(status("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 200);
}

#[test]
fn a_key_is_sixteen_bytes_and_a_credential_is_whole_or_empty() {
    let ask = |fields: &str| {
        complete(&format!(
            "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\n{fields}\r\n"
        ))
    };
    let key = |key: &str| ask(&format!("Sec-WebSocket-Key: {key}\r\n")).upgrade;
    assert!(matches!(key("dGhlIHNhbXBsZSBub25jZQ=="), Some(Upgrade::Valid { .. })));
    for wrong in
        ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZXgx", "!!!!!!!!!!!!!!!!!!!!!!!!"]
    {
        assert_eq!(key(wrong), Some(Upgrade::Invalid), "{wrong}");
    }
    assert_eq!(ask("").api_key, "");
    assert_eq!(ask("API-Key: k e y \r\n").api_key, "k e y");
}
