//! HTTP/1.1 heads: bytes to [`Request`], and answers to bytes. Pure; no request bodies.

use super::upgrade::has_token;

/// The largest request head, in bytes.
pub const MAX_HEAD: usize = 8 * 1024;

/// The longest request line, in bytes.
const MAX_LINE: usize = 4 * 1024;

/// The most fields a head may have.
const MAX_FIELDS: usize = 64;

/// What has arrived so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Head {
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
    /// The path, without the query.
    pub path: String,
    /// The query, without `?`; empty if there is none.
    pub query: String,
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
    /// Whether the connection may stay open after the answer.
    pub keep_alive: bool,
    /// `api-key`, for the simulator; empty if there is none.
    pub api_key: String,
    /// `Authorization`; empty if there is none.
    pub authorization: String,
}

/// A WebSocket opening handshake (RFC 6455, section 4.2.1).
#[derive(Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// All fields are right; the key to answer.
    Valid(String),
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
    /// 304
    pub const NOT_MODIFIED: Self = Self(304, "Not Modified");
    /// 308
    pub const PERMANENT_REDIRECT: Self = Self(308, "Permanent Redirect");
    /// 400
    pub const BAD_REQUEST: Self = Self(400, "Bad Request");
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
    /// 431
    pub const HEAD_TOO_LARGE: Self = Self(431, "Request Header Fields Too Large");
    /// 503
    pub const SERVICE_UNAVAILABLE: Self = Self(503, "Service Unavailable");
    /// 505
    pub const VERSION_NOT_SUPPORTED: Self = Self(505, "HTTP Version Not Supported");
}

/// Parses the head at the start of `bytes`.
#[must_use]
pub fn parse(bytes: &[u8]) -> Head {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return partial(bytes),
        Ok(_) => return Head::Bad(too_large(bytes)),
        Err(httparse::Error::TooManyHeaders) => return Head::Bad(Status::HEAD_TOO_LARGE),
        Err(httparse::Error::Version) => return Head::Bad(Status::VERSION_NOT_SUPPORTED),
        Err(_) => return Head::Bad(Status::BAD_REQUEST),
    };
    if has_long_line(&bytes[..length]) {
        return Head::Bad(Status::URI_TOO_LONG);
    }
    if !has_strict_lines(&bytes[..length]) {
        return Head::Bad(Status::BAD_REQUEST);
    }
    match request(&head) {
        Ok(request) => Head::Complete(Box::new(request), length),
        Err(status) => Head::Bad(status),
    }
}

/// A request line that never ends is refused as soon as it is too long.
fn partial(bytes: &[u8]) -> Head {
    if has_long_line(bytes) { Head::Bad(Status::URI_TOO_LONG) } else { Head::Partial }
}

/// Asked of a whole head too, or it would depend on the cuts between reads whether it is refused.
fn has_long_line(bytes: &[u8]) -> bool {
    bytes.len() > MAX_LINE && !bytes[..MAX_LINE].contains(&b'\n')
}

fn too_large(bytes: &[u8]) -> Status {
    let line = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    if line > MAX_LINE { Status::URI_TOO_LONG } else { Status::HEAD_TOO_LARGE }
}

/// Lines end in CR LF and nothing else: a bare CR or LF is read differently by different servers,
/// which is what request smuggling lives on (RFC 9112, section 2.2).
fn has_strict_lines(head: &[u8]) -> bool {
    head.iter().enumerate().all(|(at, byte)| match byte {
        b'\n' => at > 0 && head[at - 1] == b'\r',
        b'\r' => head.get(at + 1) == Some(&b'\n'),
        _ => true,
    })
}

fn request(head: &httparse::Request<'_, '_>) -> Result<Request, Status> {
    let fields = Fields(head.headers);
    let target = head.path.unwrap_or_default();
    let (authority, path_and_query) = split_target(target)?;
    let host = one_host(&fields, head.version)?;
    check_no_body(&fields)?;
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let connection = fields.joined("connection");
    Ok(Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        host: authority.unwrap_or(host).to_owned(),
        origins: fields.all("origin").map(str::to_owned).collect(),
        upgrade: upgrade(&fields, &connection),
        if_none_match: fields.joined("if-none-match"),
        gzip: accepts_gzip(&fields.joined("accept-encoding")),
        keep_alive: head.version == Some(1) && !has_token(&connection, "close"),
        api_key: fields.first("api-key").unwrap_or_default().to_owned(),
        authorization: fields.first("authorization").unwrap_or_default().to_owned(),
    })
}

/// Origin-form, or absolute-form as RFC 9112, section 3.2.2 wants it accepted.
fn split_target(target: &str) -> Result<(Option<&str>, &str), Status> {
    if target.starts_with('/') {
        return Ok((None, target));
    }
    let lower = target.get(..8).unwrap_or(target).to_ascii_lowercase();
    let rest = if lower.starts_with("http://") {
        &target[7..]
    } else if lower.starts_with("https://") {
        &target[8..]
    } else {
        return Err(Status::BAD_REQUEST);
    };
    match rest.find('/') {
        Some(0) => Err(Status::BAD_REQUEST),
        Some(at) => Ok((Some(&rest[..at]), &rest[at..])),
        None if rest.is_empty() || rest.contains('?') => Err(Status::BAD_REQUEST),
        None => Ok((Some(rest), "/")),
    }
}

/// Exactly one `Host` in HTTP/1.1 (RFC 9112, section 3.2); at most one in 1.0.
fn one_host<'a>(fields: &Fields<'a>, version: Option<u8>) -> Result<&'a str, Status> {
    let mut hosts = fields.all("host");
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Ok(host),
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
        (Some(key), None) if is_websocket_key(key) => Some(Upgrade::Valid(key.to_owned())),
        _ => Some(Upgrade::Invalid),
    }
}

/// Sixteen bytes as base64 (RFC 6455, section 4.1).
fn is_websocket_key(key: &str) -> bool {
    use base64::Engine;
    let mut bytes = [0; 18];
    base64::engine::general_purpose::STANDARD
        .decode_slice(key, &mut bytes)
        .is_ok_and(|length| length == 16)
}

/// Whether gzip is named with a quality other than zero.
fn accepts_gzip(list: &str) -> bool {
    list.split(',').any(|part| {
        let mut pieces = part.split(';').map(str::trim);
        let named = pieces.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
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

impl<'a> Fields<'a> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| std::str::from_utf8(field.value).unwrap_or("\u{fffd}").trim())
    }

    fn first(&self, name: &'static str) -> Option<&'a str> {
        self.all(name).next()
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
    let mut head = format!("HTTP/1.1 {code} {reason}\r\n{extra}");
    if let Some(length) = length {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    if !keep_alive {
        head.push_str("Connection: close\r\n");
    }
    head.push_str("\r\n");
    out.extend_from_slice(head.as_bytes());
}

/// Writes the 101 answer to a valid upgrade.
pub fn answer_upgrade(out: &mut Vec<u8>, key: &str) {
    let accept = super::upgrade::accept_key(key);
    out.extend_from_slice(
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        .as_bytes(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> u16 {
        match parse(text.as_bytes()) {
            Head::Partial => 0,
            Head::Complete(..) => 200,
            Head::Bad(Status(code, _)) => code,
        }
    }

    fn complete(text: &str) -> Box<Request> {
        match parse(text.as_bytes()) {
            Head::Complete(request, length) => {
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
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
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
        assert_eq!(status(&text[..MAX_LINE + 1]), 414);
    }

    #[test]
    fn upgrades_are_judged_by_every_field() {
        let good = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        assert!(matches!(complete(good).upgrade, Some(Upgrade::Valid(_))));
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
    fn zero_quality_refuses_gzip() {
        assert!(!accepts_gzip("gzip;q=0") && !accepts_gzip("gzip; q=0.0") && !accepts_gzip("br"));
        assert!(accepts_gzip("gzip;q=1.0") && accepts_gzip("deflate, GZIP"));
    }
}
