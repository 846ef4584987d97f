//! A tool that is a web request: what its file says, and the request that a call of it makes.
//!
//! Scheme, host and port stand in the file as they are. No argument can change them, and no redirect leads
//! elsewhere. So a private address is asked only if the owner wrote it.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::places::{Text, fill_json, header, percent, plain};

/// Headers that belong to the request itself, or that would change whom it is for.
const FORBIDDEN: [&str; 7] =
    ["host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "expect"];
/// Headers whose value is a secret, which must not stand in the file.
const SECRET: [&str; 5] =
    ["authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"];

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// What is wrong with a file, and a text that stands where it is wrong.
pub type Fault = (String, String);

/// The `http` part of a tool's file.
#[derive(Debug, Clone, PartialEq)]
pub struct Web {
    method: String,
    /// `http://host:port` or `https://…`, in lower case.
    origin: String,
    /// Path and query, beginning with `/`.
    target: Text,
    query: Vec<(String, Piece)>,
    headers: Vec<(String, Piece)>,
    body: Option<Body>,
    /// Which part of a JSON answer is the result (RFC 6901).
    pointer: Option<String>,
    /// The parameters and their defaults.
    parameters: Map<String, Value>,
}

/// A value of a query or a header.
#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(Text),
    Secret(Secret),
}

/// A value that stands in a file of its own, read for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// The file.
    pub file: PathBuf,
    /// What stands before it.
    pub prefix: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Body {
    Json(Value),
    Form(Vec<(String, Piece)>),
    Text(Text),
}

/// A request that is ready to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`…
    pub method: String,
    /// Scheme, host and port, as the file has them.
    pub origin: String,
    /// Path and query.
    pub target: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// What is sent, if anything.
    pub body: Option<String>,
    /// Which part of a JSON answer is the result (RFC 6901).
    pub pointer: Option<String>,
    /// What must not be told to the model.
    pub secrets: Vec<String>,
}

impl Web {
    /// Reads the `http` part. `credentials` is the folder of systemd's credentials.
    ///
    /// # Errors
    /// The first fault.
    pub fn parse(http: &Value, parameters: &Value, credentials: &Path) -> Result<Self, Fault> {
        let at = |text: &str, why: &str| (why.to_owned(), text.to_owned());
        let fields = http.as_object().ok_or_else(|| at("http", "http must be an object"))?;
        let known = ["method", "url", "query", "headers", "body", "form", "pointer"];
        if let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(at(
                name,
                &format!("http has no field {name:?}; its fields are {}", known.join(", ")),
            ));
        }
        let properties = parameters["properties"].as_object().cloned().unwrap_or_default();
        let is_parameter = |name: &str| properties.contains_key(name);
        let text = |text: &str, place: &str| {
            Text::parse(text, &is_parameter).map_err(|name| {
                at(
                    &format!("{{{name}}}"),
                    &format!("{place} names {{{name}}}, which is no parameter"),
                )
            })
        };
        let method = match fields.get("method") {
            None => {
                if fields.contains_key("body") || fields.contains_key("form") {
                    "POST"
                } else {
                    "GET"
                }
            }
            Some(Value::String(method)) => method,
            Some(_) => "",
        };
        let method = method.to_uppercase();
        if !METHODS.contains(&method.as_str()) {
            return Err(at("method", &format!("method must be one of {}", METHODS.join(", "))));
        }
        let url = fields.get("url").and_then(Value::as_str);
        let url = url.ok_or_else(|| at("http", "http needs a url"))?;
        let (origin, target) = split(url).map_err(|why| at(url, why))?;
        let target = text(target, "url")?;
        let required: Vec<&str> = parameters["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for name in target.places() {
            if !required.contains(&name) && properties[name].get("default").is_none() {
                let why =
                    format!("{name} stands in the url, so it must be required or have a default");
                return Err(at(&format!("{{{name}}}"), &why));
            }
        }
        let secret = |value: &Value| secret(value, credentials);
        let pieces = |field: &str| -> Result<Vec<(String, Piece)>, Fault> {
            let pairs = match fields.get(field) {
                None => return Ok(Vec::new()),
                Some(Value::Object(pairs)) => pairs,
                Some(_) => return Err(at(field, &format!("{field} must be an object"))),
            };
            let piece = |(name, value): (&String, &Value)| {
                let piece = match value {
                    Value::String(value) => Piece::Text(text(value, field)?),
                    Value::Number(_) | Value::Bool(_) => {
                        Piece::Text(text(&value.to_string(), field)?)
                    }
                    _ => Piece::Secret(secret(value).map_err(|why| at(name, &why))?),
                };
                Ok((name.clone(), piece))
            };
            pairs.iter().map(piece).collect()
        };
        let (query, headers, form) = (pieces("query")?, pieces("headers")?, pieces("form")?);
        for (name, piece) in &headers {
            check_header(name, piece).map_err(|why| at(name, &why))?;
        }
        let body = match (fields.get("body"), fields.contains_key("form")) {
            (Some(_), true) => return Err(at("form", "a request has a body or a form, not both")),
            (None, true) => Some(Body::Form(form)),
            (None, false) => None,
            (Some(Value::String(body)), false) => {
                let is_json = headers.iter().any(|(name, piece)| {
                    name.eq_ignore_ascii_case("content-type")
                        && matches!(piece, Piece::Text(it) if format!("{it:?}").contains("json"))
                });
                if is_json {
                    return Err(at("body", "a JSON body must be written as JSON, not as a text"));
                }
                Some(Body::Text(text(body, "body")?))
            }
            (Some(body), false) => {
                check_json(body, &text)?;
                Some(Body::Json(body.clone()))
            }
        };
        if method == "GET" && body.is_some() {
            return Err(at("method", "a GET has no body"));
        }
        let pointer = match fields.get("pointer") {
            None => None,
            Some(Value::String(pointer)) if pointer.is_empty() || pointer.starts_with('/') => {
                Some(pointer.clone())
            }
            Some(_) => {
                return Err(at("pointer", "pointer must be a JSON pointer such as /current"));
            }
        };
        // Filled one by one, here and below: to collect into a map sorts first, 5 kilobytes of the program.
        let mut parameters = Map::new();
        for (name, schema) in properties {
            parameters.insert(name.clone(), schema["default"].clone());
        }
        Ok(Self { method, origin, target, query, headers, body, pointer, parameters })
    }

    /// Whether it changes nothing at a server that keeps to HTTP (RFC 9110, section 9.2.1).
    #[must_use]
    pub fn only_reads(&self) -> bool {
        self.method == "GET"
    }

    /// Host and port, for lists.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The request of one call. `read` reads a secret.
    ///
    /// # Errors
    /// A sentence for the model.
    #[inline(never)]
    pub fn request(
        &self,
        arguments: &Map<String, Value>,
        read: &dyn Fn(&Secret) -> Result<String, String>,
    ) -> Result<Request, String> {
        let mut given = Map::new();
        for (name, value) in self.parameters.iter().chain(arguments) {
            if !value.is_null() {
                given.insert(name.clone(), value.clone());
            }
        }
        let mut secrets = Vec::new();
        let mut value = |piece: &Piece, encode: fn(&str) -> Option<String>| match piece {
            Piece::Text(text) => text.fill_value(&given, encode),
            Piece::Secret(secret) => {
                let text = read(secret)?;
                secrets.push(text.clone());
                let whole = format!("{}{text}", secret.prefix);
                encode(&whole)
                    .map(Some)
                    .ok_or_else(|| "The tool's secret cannot be sent.".to_owned())
            }
        };
        let mut pairs = |pieces: &[(String, Piece)], encode: fn(&str) -> Option<String>| {
            let mut pairs = Vec::new();
            for (name, piece) in pieces {
                if let Some(value) = value(piece, encode)? {
                    pairs.push((name.clone(), value));
                }
            }
            Ok::<_, String>(pairs)
        };
        let join = |pairs: Vec<(String, String)>| {
            let pairs: Vec<String> = pairs
                .into_iter()
                .map(|(name, value)| format!("{}={value}", percent(&name).unwrap_or_default()))
                .collect();
            pairs.join("&")
        };
        let mut target = self
            .target
            .fill(&given, percent)?
            .ok_or("An argument that the tool needs is missing.")?;
        // An argument must not climb out of its folder.
        let path = target.split('?').next().unwrap_or_default();
        let dots = |part: &str| {
            matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
        };
        if path.split('/').any(dots) {
            return Err("An argument may not be \".\" or \"..\".".to_owned());
        }
        let query = join(pairs(&self.query, percent)?);
        if !query.is_empty() {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(&query);
        }
        let mut headers = pairs(&self.headers, header)?;
        let known = |name: &str| self.parameters.contains_key(name);
        let (kind, body) = match &self.body {
            None => ("", None),
            Some(Body::Json(body)) => {
                let body = fill_json(body, &known, &given)?.unwrap_or_else(|| json!({}));
                ("application/json", Some(body.to_string()))
            }
            Some(Body::Form(form)) => {
                ("application/x-www-form-urlencoded", Some(join(pairs(form, percent)?)))
            }
            Some(Body::Text(text)) => {
                let text = text.fill(&given, plain)?;
                ("text/plain; charset=utf-8", Some(text.unwrap_or_default()))
            }
        };
        if body.is_some()
            && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        {
            headers.push(("Content-Type".to_owned(), kind.to_owned()));
        }
        let (method, origin, pointer) =
            (self.method.clone(), self.origin.clone(), self.pointer.clone());
        Ok(Request { method, origin, target, headers, body, pointer, secrets })
    }
}

/// Origin, and path with query. The path begins with `/`.
fn split(url: &str) -> Result<(String, &str), &'static str> {
    let form = "url must be http:// or https://, a host, and a path";
    if url.contains(|c: char| c.is_control() || c.is_whitespace() || matches!(c, '#' | '\\')) {
        return Err("url may have no spaces, no # and no \\");
    }
    let (scheme, rest) = url.split_once("://").ok_or(form)?;
    let scheme = scheme.to_ascii_lowercase();
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err(form);
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if authority.contains('@') {
        return Err("url may hold no name and password; write a header with {\"file\": …}");
    }
    if authority.contains(['{', '}']) {
        return Err("no argument can stand for host or port");
    }
    let host = authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    let host = host.map_or(authority, |(host, _)| host);
    let six = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match six {
        Some(six) => six.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        }
    };
    if !good {
        return Err(form);
    }
    // A path that is empty is `/` (RFC 9110, section 4.2.3).
    if target.is_empty() {
        return Ok((format!("{scheme}://{}", authority.to_ascii_lowercase()), "/"));
    }
    if !target.starts_with('/') {
        return Err("url needs a path before its query, such as /?q=1");
    }
    Ok((format!("{scheme}://{}", authority.to_ascii_lowercase()), target))
}

fn check_header(name: &str, piece: &Piece) -> Result<(), String> {
    let lower = name.to_ascii_lowercase();
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(format!("{name:?} is no name of a header"));
    }
    if FORBIDDEN.contains(&lower.as_str()) {
        return Err(format!("the header {name} cannot be set"));
    }
    if SECRET.contains(&lower.as_str()) && matches!(piece, Piece::Text(_)) {
        return Err(format!(
            "the value of {name} is a secret: write {{\"file\": \"/path\"}} or {{\"credential\": \"name\"}}"
        ));
    }
    Ok(())
}

fn check_json(
    value: &Value,
    text: &dyn Fn(&str, &str) -> Result<Text, Fault>,
) -> Result<(), Fault> {
    match value {
        Value::String(value) => text(value, "body").map(drop),
        Value::Array(items) => items.iter().try_for_each(|item| check_json(item, text)),
        Value::Object(fields) => fields.values().try_for_each(|value| check_json(value, text)),
        _ => Ok(()),
    }
}

fn secret(value: &Value, credentials: &Path) -> Result<Secret, String> {
    let form = "must be a text, {\"file\": \"/path\"} or {\"credential\": \"name\"}, with a \"prefix\" such as \"Bearer \" if need be";
    let fields = value.as_object().ok_or(form)?;
    let text = |name: &str| fields.get(name).map(|value| value.as_str().ok_or(form)).transpose();
    if fields.keys().any(|name| !["file", "credential", "prefix"].contains(&name.as_str())) {
        return Err(form.to_owned());
    }
    let prefix = text("prefix")?.unwrap_or_default().to_owned();
    if prefix.contains(char::is_control) {
        return Err(form.to_owned());
    }
    let file = match (text("file")?, text("credential")?) {
        (Some(file), None) if file.starts_with('/') => PathBuf::from(file),
        (Some(_), None) => return Err("file must be a whole path".to_owned()),
        (None, Some(name)) if !name.is_empty() && !name.contains('/') && name != ".." => {
            credentials.join(name)
        }
        _ => return Err(form.to_owned()),
    };
    Ok(Secret { file, prefix })
}
