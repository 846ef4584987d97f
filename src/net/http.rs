//! HTTP/1.1 heads: bytes to [`Request`], and answers to bytes. Pure; no request bodies.
//!
//! A head is judged anew with each arrival: [`ParsedHead::Partial`] → `Complete` or `Bad`, and more bytes
//! never change either. A `Bad` one ends the connection: after it nobody can tell where the next
//! request begins, and a guess is what request smuggling lives on. `Complete` tells its length, since
//! the client may have sent the next request, or its first frame, behind it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::upgrade::has_token;

/// The largest request head, in bytes.
pub const MAX_HEAD: usize = 8 * 1024;

/// The longest request line, in bytes.
pub(super) const MAX_LINE: usize = 4 * 1024;

/// The most fields a head may have.
const MAX_FIELDS: usize = 64;

/// What has arrived so far.
#[derive(Debug, PartialEq, Eq)]
pub enum ParsedHead {
    /// More bytes are needed.
    Partial,
    /// A whole head and its length in bytes.
    Complete(Box<Request>, usize),
    /// No acceptable request: answer with this status and close.
    Bad(Status),
}

/// The parts of a request that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The method, as sent.
    pub method: String,
    /// The path as sent, without the query; `*` for the whole server.
    pub path: String,
    /// The query, without `?`; empty if there is none.
    pub query: String,
    /// Whether an absolute request target says https; `None` for other targets.
    pub secure: Option<bool>,
    /// `Host`, or the authority of an absolute request target.
    pub host: String,
    /// Every `Origin` field, as sent.
    pub origins: Vec<String>,
    /// The WebSocket part, if the request asks for an upgrade.
    pub upgrade: Option<Upgrade>,
    /// `If-None-Match`; empty if there is none.
    pub if_none_match: String,
    /// Whether gzip is accepted.
    pub gzip: bool,
    /// `Accept-Language`; empty if there is none.
    pub languages: String,
    /// Whether the connection may stay open after the answer.
    pub keep_alive: bool,
    /// `api-key`, for the simulator; empty if there is none.
    pub api_key: String,
    /// `Authorization`; empty if there is none. Several are no credential, but one wrong one.
    pub authorization: String,
    /// Every `Cookie` field, as one; empty if there is none.
    pub cookies: String,
    /// Every `Forwarded` field, as sent. A proxy's; but anybody can write it.
    pub forwarded: Vec<String>,
    /// Every `X-Forwarded-For` field, as sent. A proxy's; but anybody can write it.
    pub forwarded_for: Vec<String>,
}

/// A WebSocket opening handshake (RFC 6455, section 4.2.1).
#[derive(Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// All fields are right.
    Valid {
        /// `Sec-WebSocket-Key`, to be answered.
        key: String,
        /// The subprotocol to agree to: the first well-formed one that is offered, if any is offered.
        protocol: Option<String>,
    },
    /// Another protocol version than 13: answer 426 and name ours.
    Version,
    /// Something is missing or wrong: answer 400.
    Invalid,
}

/// The statuses this server uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u16, pub &'static str);

impl Status {
    /// 200
    pub const OK: Self = Self(200, "OK");
    /// 204
    pub const NO_CONTENT: Self = Self(204, "No Content");
    /// 304
    pub const NOT_MODIFIED: Self = Self(304, "Not Modified");
    /// 307
    pub const TEMPORARY_REDIRECT: Self = Self(307, "Temporary Redirect");
    /// 308
    pub const PERMANENT_REDIRECT: Self = Self(308, "Permanent Redirect");
    /// 400
    pub const BAD_REQUEST: Self = Self(400, "Bad Request");
    /// 401
    pub const UNAUTHORIZED: Self = Self(401, "Unauthorized");
    /// 403
    pub const FORBIDDEN: Self = Self(403, "Forbidden");
    /// 404
    pub const NOT_FOUND: Self = Self(404, "Not Found");
    /// 405
    pub const METHOD_NOT_ALLOWED: Self = Self(405, "Method Not Allowed");
    /// 408
    pub const REQUEST_TIMEOUT: Self = Self(408, "Request Timeout");
    /// 413
    pub const CONTENT_TOO_LARGE: Self = Self(413, "Content Too Large");
    /// 414
    pub const URI_TOO_LONG: Self = Self(414, "URI Too Long");
    /// 421
    pub const MISDIRECTED_REQUEST: Self = Self(421, "Misdirected Request");
    /// 426
    pub const UPGRADE_REQUIRED: Self = Self(426, "Upgrade Required");
    /// 429
    pub const TOO_MANY_REQUESTS: Self = Self(429, "Too Many Requests");
    /// 431
    pub const HEAD_TOO_LARGE: Self = Self(431, "Request Header Fields Too Large");
    /// 503
    pub const SERVICE_UNAVAILABLE: Self = Self(503, "Service Unavailable");
    /// 505
    pub const VERSION_NOT_SUPPORTED: Self = Self(505, "HTTP Version Not Supported");
}

/// The status of an answer as it is written.
#[must_use]
pub fn status_word(answer: &[u8]) -> &str {
    answer.get(9..12).and_then(|word| std::str::from_utf8(word).ok()).unwrap_or_default()
}

/// Parses the head at the start of `bytes`.
#[must_use]
pub fn parse(bytes: &[u8]) -> ParsedHead {
    let (window, unfinished) = window(bytes);
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    match head.parse(window) {
        Ok(httparse::Status::Complete(length)) => match request(&head) {
            Ok(request) => ParsedHead::Complete(Box::new(request), length),
            Err(status) => ParsedHead::Bad(status),
        },
        Ok(httparse::Status::Partial) => unfinished,
        Err(httparse::Error::TooManyHeaders) => ParsedHead::Bad(Status::HEAD_TOO_LARGE),
        Err(httparse::Error::Version) => wrong_version(window).map_or(unfinished, ParsedHead::Bad),
        Err(_) => ParsedHead::Bad(Status::BAD_REQUEST),
    }
}

/// The bytes a head may be made of, and what it is if it does not end within them. What stops it
/// first decides, so that the answer never depends on how the bytes were cut on their way.
fn window(bytes: &[u8]) -> (&[u8], ParsedHead) {
    let line = start_of_line(bytes) + MAX_LINE + 2;
    let is_long = bytes.get(..line).is_some_and(|start| line_end(start).is_none());
    // Where the head stops, how many bytes show that, and the status.
    let stops = [
        bare_line_end(bytes).map(|(at, shown)| (at, shown, Status::BAD_REQUEST)),
        is_long.then_some((line, line, Status::URI_TOO_LONG)),
        (bytes.len() >= MAX_HEAD).then_some((MAX_HEAD, MAX_HEAD, Status::HEAD_TOO_LARGE)),
    ];
    match stops.into_iter().flatten().min_by_key(|&(_, shown, _)| shown) {
        Some((at, _, status)) => (&bytes[..at], ParsedHead::Bad(status)),
        None => (bytes, ParsedHead::Partial),
    }
}

/// Empty lines before a request are passed over (RFC 9112, section 2.2).
fn start_of_line(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len())
}

/// The end of the request line, without its CR LF.
fn line_end(bytes: &[u8]) -> Option<usize> {
    let start = start_of_line(bytes);
    bytes[start..].windows(2).position(|two| two == b"\r\n").map(|at| start + at)
}

/// The first CR or LF that is not one of a pair, and how many bytes show that. Lines end in CR LF
/// and nothing else: a bare one is read differently by different servers, which is what request
/// smuggling lives on (RFC 9112, section 2.2).
fn bare_line_end(bytes: &[u8]) -> Option<(usize, usize)> {
    bytes.iter().enumerate().find_map(|(at, byte)| match byte {
        b'\n' => (at == 0 || bytes[at - 1] != b'\r').then_some((at, at + 1)),
        b'\r' => bytes.get(at + 1).is_some_and(|next| *next != b'\n').then_some((at, at + 2)),
        _ => None,
    })
}

/// 505 for a well-formed version that is not ours; `None` until the line has ended.
fn wrong_version(bytes: &[u8]) -> Option<Status> {
    let line = &bytes[start_of_line(bytes)..line_end(bytes)?];
    let version = line.splitn(3, |byte| *byte == b' ').nth(2)?;
    let is_version = matches!(
        version.strip_prefix(b"HTTP/"),
        Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit()
    );
    Some(if is_version { Status::VERSION_NOT_SUPPORTED } else { Status::BAD_REQUEST })
}

fn request(head: &httparse::Request<'_, '_>) -> Result<Request, Status> {
    let fields = Fields(head.headers);
    let method = head.method.unwrap_or_default();
    let target = Target::parse(method, head.path.unwrap_or_default())?;
    let host = one_host(&fields, head.version)?;
    check_no_body(&fields)?;
    let (path, query) = target.rest.split_once('?').unwrap_or((target.rest, ""));
    let path = if path.is_empty() { "/" } else { path };
    let connection = fields.joined("connection");
    let is_current = head.version == Some(1);
    Ok(Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        secure: target.secure,
        host: target.authority.unwrap_or(host).to_owned(),
        origins: fields.all("origin").map(str::to_owned).collect(),
        // HTTP/1.0 cannot be upgraded (RFC 9110, section 7.8).
        upgrade: if is_current { upgrade(&fields, &connection) } else { None },
        if_none_match: fields.joined("if-none-match"),
        gzip: accepts_gzip(&fields.joined("accept-encoding").to_ascii_lowercase()),
        languages: fields.joined("accept-language"),
        // What follows a refused CONNECT may be meant for the tunnel.
        keep_alive: is_current && !has_token(&connection, "close") && method != "CONNECT",
        api_key: fields.first("api-key").unwrap_or_default().to_owned(),
        authorization: fields.joined("authorization"),
        cookies: fields.cookies(),
        forwarded: fields.lines("forwarded"),
        forwarded_for: fields.lines("x-forwarded-for"),
    })
}

/// A request target in one of its four forms (RFC 9112, section 3.2).
struct Target<'a> {
    secure: Option<bool>,
    authority: Option<&'a str>,
    /// Path and query; `*` if it is the whole server that is meant.
    rest: &'a str,
}

impl<'a> Target<'a> {
    fn parse(method: &str, target: &'a str) -> Result<Self, Status> {
        // No client may send these unescaped.
        let fits = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>".contains(&byte);
        if !target.bytes().all(fits) {
            return Err(Status::BAD_REQUEST);
        }
        let found = match method {
            "CONNECT" => Self::of_tunnel(target),
            "OPTIONS" if target == "*" => Some(Self { secure: None, authority: None, rest: "*" }),
            _ if target.starts_with('/') => {
                Some(Self { secure: None, authority: None, rest: target })
            }
            _ => Self::absolute(target),
        };
        found.ok_or(Status::BAD_REQUEST)
    }

    fn of_tunnel(target: &'a str) -> Option<Self> {
        let (_, port) = target.rsplit_once(':')?;
        let goes_somewhere = is_authority(target) && port.parse::<u16>().is_ok_and(|port| port > 0);
        goes_somewhere.then_some(Self { secure: None, authority: Some(target), rest: "*" })
    }

    fn absolute(target: &'a str) -> Option<Self> {
        let (scheme, rest) = target.split_once("://")?;
        let secure = scheme.eq_ignore_ascii_case("https");
        if !secure && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let fits = !authority.is_empty() && is_authority(authority);
        fits.then_some(Self { secure: Some(secure), authority: Some(authority), rest })
    }
}

/// `uri-host [":" port]` (RFC 9110, section 7.2), which may be empty.
fn is_authority(text: &str) -> bool {
    let port = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        port
    } else {
        let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte);
        if !name.bytes().all(fits) {
            return false;
        }
        port
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    (port.is_empty() || port.starts_with(':')) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Exactly one proper `Host` in HTTP/1.1 (RFC 9112, section 3.2); at most one in 1.0.
fn one_host<'a>(fields: &Fields<'a>, version: Option<u8>) -> Result<&'a str, Status> {
    let mut hosts = fields.all("host");
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_authority(host) => Ok(host),
        (None, None) if version == Some(0) => Ok(""),
        _ => Err(Status::BAD_REQUEST),
    }
}

/// No request here has a body; one that announces any is refused before it is read.
fn check_no_body(fields: &Fields<'_>) -> Result<(), Status> {
    if fields.all("transfer-encoding").next().is_some() {
        return Err(Status::BAD_REQUEST);
    }
    let mut lengths = fields.all("content-length");
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(()),
        (Some(_), Some(_)) => Err(Status::BAD_REQUEST),
        (Some(length), None)
            if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            Err(Status::BAD_REQUEST)
        }
        (Some(length), None) if length.bytes().all(|byte| byte == b'0') => Ok(()),
        (Some(_), None) => Err(Status::CONTENT_TOO_LARGE),
    }
}

fn upgrade(fields: &Fields<'_>, connection: &str) -> Option<Upgrade> {
    let wanted = fields.joined("upgrade");
    if wanted.is_empty() {
        return None;
    }
    if !has_token(&wanted, "websocket") || !has_token(connection, "upgrade") {
        return Some(Upgrade::Invalid);
    }
    if fields.joined("sec-websocket-version") != "13" {
        return Some(Upgrade::Version);
    }
    let mut keys = fields.all("sec-websocket-key");
    match (keys.next(), keys.next()) {
        (Some(key), None) if is_websocket_key(key) => {
            Some(Upgrade::Valid { key: key.to_owned(), protocol: offered_protocol(fields) })
        }
        _ => Some(Upgrade::Invalid),
    }
}

/// The subprotocol to agree to (RFC 6455, section 4.2.2): the first token in the lists of all
/// `Sec-WebSocket-Protocol` fields. Browsers end a connection whose answer names none of those that
/// they offered. What is no token is passed over: it comes from clients that do not check the answer.
fn offered_protocol(fields: &Fields<'_>) -> Option<String> {
    let lists = fields.bytes("sec-websocket-protocol");
    // Judged one by one: an element that is no UTF-8 takes none of the others along.
    let mut elements = lists.flat_map(|list| list.split(|byte| *byte == b','));
    elements.find_map(|one| {
        str::from_utf8(one).ok().map(as_trimmed).filter(|one| is_token(one)).map(str::to_owned)
    })
}

/// `token` (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

/// Sixteen bytes as base64 (RFC 6455, section 4.1).
fn is_websocket_key(key: &str) -> bool {
    // Room for what 24 characters can stand for at most.
    key.len() == 24 && STANDARD.decode_slice(key, &mut [0; 18]) == Ok(16)
}

/// Whether gzip is named with a quality other than zero, in a list in lower case.
fn accepts_gzip(list: &str) -> bool {
    list.split(',').any(|part| {
        let mut pieces = part.split(';').map(str::trim);
        let named = pieces.next() == Some("gzip");
        let refused = pieces.any(|piece| {
            piece
                .strip_prefix("q=")
                .is_some_and(|quality| quality.trim_matches(['0', '.']).is_empty())
        });
        named && !refused
    })
}

/// The fields of a head, by name in any case.
struct Fields<'a>(&'a [httparse::Header<'a>]);

/// Without the blanks around it that HTTP allows.
fn as_trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

impl<'a> Fields<'a> {
    fn bytes(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let fields = self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| field.value)
    }

    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.bytes(name)
            .map(|value| std::str::from_utf8(value).unwrap_or("\u{fffd}"))
            .map(as_trimmed)
    }

    fn first(&self, name: &'static str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// What is no UTF-8 in a line costs only the part that it stands in: a proxy adds to its client's line.
    fn lines(&self, name: &'static str) -> Vec<String> {
        self.bytes(name).map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    }

    /// Other programs on this host may have set cookies that are no UTF-8: ours still counts.
    fn cookies(&self) -> String {
        self.lines("cookie").join("; ")
    }

    /// Several fields of one name are one list (RFC 9110, section 5.3).
    fn joined(&self, name: &'static str) -> String {
        self.all(name).collect::<Vec<_>>().join(", ")
    }
}

/// Writes an answer's head. `extra` are whole field lines, each with its CR LF.
pub fn answer_head(
    out: &mut Vec<u8>,
    status: Status,
    extra: &str,
    length: Option<usize>,
    keep_alive: bool,
) {
    let Status(code, reason) = status;
    let connection = if keep_alive { "" } else { "Connection: close\r\n" };
    let mut head = format!("HTTP/1.1 {code} {reason}\r\n{connection}{extra}");
    if let Some(length) = length {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    head.push_str("\r\n");
    out.extend_from_slice(head.as_bytes());
}

/// Writes the 101 answer to a valid upgrade. `protocol` is a token that the client has offered.
pub fn answer_upgrade(out: &mut Vec<u8>, key: &str, protocol: Option<&str>) {
    let accept = super::upgrade::accept_key(key);
    let protocol = protocol.map(|token| format!("Sec-WebSocket-Protocol: {token}\r\n"));
    let protocol = protocol.unwrap_or_default();
    out.extend_from_slice(
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
        )
        .as_bytes(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> u16 {
        match parse(text.as_bytes()) {
            ParsedHead::Partial => 0,
            ParsedHead::Complete(..) => 200,
            ParsedHead::Bad(Status(code, _)) => code,
        }
    }

    fn complete(text: &str) -> Box<Request> {
        match parse(text.as_bytes()) {
            ParsedHead::Complete(request, length) => {
                assert_eq!(length, text.len());
                request
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_browser_request_is_understood() {
        let request = complete(
            "GET /app.js?v=1 HTTP/1.1\r\nHost: a:1\r\nAccept-Encoding: br, gzip;q=0.5\r\nIf-None-Match: \"x\"\r\n\r\n",
        );
        assert_eq!(
            (request.path.as_str(), request.query.as_str(), request.host.as_str()),
            ("/app.js", "v=1", "a:1")
        );
        assert!(request.gzip && request.keep_alive && request.upgrade.is_none());
    }

    #[test]
    fn every_cut_is_partial() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(status(&text[..end]), 0, "cut at {end}");
        }
    }

    #[test]
    fn malformed_requests_get_their_status() {
        let long = "x".repeat(9000);
        let many = "a: b\r\n".repeat(65);
        for (text, expected) in [
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), 505),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 200),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/11\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("\u{16}\u{3}\u{1}".to_owned(), 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n".to_owned(), 413),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n".to_owned(), 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), 400),
            (format!("GET /{long}"), 414),
            (format!("GET / HTTP/1.1\r\nHost: a\r\nx: {long}\r\n\r\n"), 431),
            (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
        ] {
            assert_eq!(status(&text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_long_request_line_is_refused_however_it_arrives() {
        let text = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(MAX_LINE));
        assert_eq!(status(&text), 414);
        assert_eq!(status(&text[..MAX_LINE + 2]), 414);
    }

    #[test]
    fn upgrades_are_judged_by_every_field() {
        let good = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        assert!(matches!(complete(good).upgrade, Some(Upgrade::Valid { .. })));
        for (from, to, expected) in [
            ("Version: 13", "Version: 8", Upgrade::Version),
            ("keep-alive, Upgrade", "keep-alive", Upgrade::Invalid),
            ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", Upgrade::Invalid),
            ("Upgrade: websocket", "Upgrade: h2c", Upgrade::Invalid),
        ] {
            assert_eq!(complete(&good.replace(from, to)).upgrade, Some(expected), "{to}");
        }
    }

    #[test]
    fn absolute_targets_name_their_own_host() {
        let request = complete("GET http://b:2/x HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((request.host.as_str(), request.path.as_str()), ("b:2", "/x"));
        assert_eq!(status("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    }

    #[test]
    fn cookies_of_several_fields_are_one_list_whatever_their_bytes() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: x=\xff; b=1\r\ncookie: c=2\r\n\r\n";
        let ParsedHead::Complete(request, _) = parse(text) else { panic!("a request") };
        assert_eq!(request.cookies, "x=\u{fffd}; b=1; c=2");
    }

    #[test]
    fn two_credentials_are_a_wrong_one() {
        let field = "Authorization: Bearer a\r\n";
        let request = complete(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}{field}\r\n"));
        assert_eq!(request.authorization, "Bearer a, Bearer a");
    }

    #[test]
    fn zero_quality_refuses_gzip() {
        assert!(!accepts_gzip("gzip;q=0") && !accepts_gzip("gzip; q=0.0") && !accepts_gzip("br"));
        assert!(accepts_gzip("gzip;q=1.0") && accepts_gzip("deflate, gzip"));
    }
}
