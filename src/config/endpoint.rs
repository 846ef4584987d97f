//! Turns an address, as people paste it, into the parts that a connection needs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::net::upgrade::percent_encoded;

/// The path of the service's WebSocket.
const SERVICE_PATH: &str = "/voice-live/realtime";
const MAX_BYTES: usize = 2048;

/// What stood behind the path of an endpoint.
#[derive(Debug, Default)]
pub(super) struct OwnQuery {
    /// The query, without its `?`.
    pub(super) text: String,
    /// Whether the path is one of another API, whose versions mean nothing here.
    pub(super) foreign: bool,
}

/// The address of a WebSocket server, normalised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Lower-case name or IP address; an IPv6 address without brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
    /// Request target: begins with `/`, visible ASCII only.
    pub path_and_query: String,
}

impl Endpoint {
    /// Reads the endpoint of a Voice Live resource as the portal shows it. The second value is a
    /// warning about a path that was dropped. [`Endpoint::set_query`] completes it.
    ///
    /// # Errors
    /// A sentence that says what to change. It never quotes the query, which may hold a secret.
    pub fn service(text: &str) -> Result<(Self, Option<String>), String> {
        let (mut endpoint, path, query) = split(text)?;
        if !endpoint.tls && !is_loopback(&endpoint.host) {
            return Err(format!(
                "would send the key to {} unencrypted; use https:// (http:// is for loopback only)",
                endpoint.host
            ));
        }
        let (path, warning) = service_path(path);
        let warning = warning.or_else(|| foreign_host(&endpoint.host));
        endpoint.path_and_query = path;
        let kept = own_query(query)?;
        if !kept.is_empty() {
            endpoint.path_and_query.push('?');
            endpoint.path_and_query.push_str(&kept);
        }
        Ok((endpoint, warning))
    }

    /// The query of an endpoint as it was pasted.
    ///
    /// # Errors
    /// As [`Endpoint::service`].
    pub(super) fn own_query(text: &str) -> Result<OwnQuery, String> {
        let (_, path, query) = split(text)?;
        let text = query.unwrap_or_default().to_owned();
        Ok(OwnQuery { text, foreign: is_foreign(path) })
    }

    /// Reads any `ws://`, `wss://`, `http://` or `https://` address and keeps its path and query.
    ///
    /// # Errors
    /// A sentence that says what to change.
    pub fn exact(text: &str) -> Result<Self, String> {
        let (mut endpoint, path, query) = split(text)?;
        endpoint.path_and_query = if path.is_empty() { "/" } else { path }.to_owned();
        if let Some(query) = query {
            endpoint.path_and_query.push('?');
            endpoint.path_and_query.push_str(query);
        }
        Ok(endpoint)
    }

    /// The service's path, unencrypted, at `address`.
    #[must_use]
    pub fn plain(address: SocketAddr) -> Self {
        Self {
            tls: false,
            host: address.ip().to_string(),
            port: address.port(),
            path_and_query: SERVICE_PATH.to_owned(),
        }
    }

    /// Puts `api-version` and `model` in front of the query's other parameters. An empty model is that
    /// of an agent, which is named by the others.
    pub fn set_query(&mut self, api_version: &str, model: &str) {
        let (path, others) = match self.path_and_query.split_once('?') {
            Some((path, others)) => (path, others),
            None => (&*self.path_and_query, ""),
        };
        let mut target = format!("{path}?api-version={}", percent_encoded(api_version));
        if !model.is_empty() {
            target.push_str(&format!("&model={}", percent_encoded(model)));
        }
        for parameter in parameters(others).filter(|parameter| !is_ours(parameter)) {
            target.push('&');
            target.push_str(parameter);
        }
        self.path_and_query = target;
    }

    /// Value of the `Host` header: brackets around IPv6, the port only where it is not the usual.
    #[must_use]
    pub fn authority(&self) -> String {
        let brackets = self.host.contains(':');
        let (open, close) = if brackets { ("[", "]") } else { ("", "") };
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual {
            return format!("{open}{}{close}", self.host);
        }
        format!("{open}{}{close}:{}", self.host, self.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path_and_query)
    }
}

/// An endpoint without a path, the text's path, and its query.
fn split(text: &str) -> Result<(Endpoint, &str, Option<&str>), String> {
    if text.len() > MAX_BYTES {
        return Err(format!("is longer than {MAX_BYTES} bytes"));
    }
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    if !text.bytes().all(allowed) {
        return Err("has characters that an address cannot hold; copy it again".to_owned());
    }
    let (scheme, rest) = text.split_once("://").ok_or(NO_SCHEME)?;
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "https" | "wss" => true,
        "http" | "ws" => false,
        _ => return Err(NO_SCHEME.to_owned()),
    };
    if rest.contains('#') {
        return Err("must not have a part after #; remove it".to_owned());
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let (host, port) = parse_authority(authority)?;
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let endpoint = Endpoint {
        tls,
        host,
        port: port.unwrap_or(if tls { 443 } else { 80 }),
        path_and_query: String::new(),
    };
    // A target such as `?x=y` right after the host has an empty path, which HTTP does not allow.
    Ok((endpoint, if path.is_empty() { "/" } else { path }, query))
}

const NO_SCHEME: &str =
    "must begin with https:// or wss://, for example https://NAME.services.ai.azure.com";

/// Host in lower case and the port of `host:port`, where the host may be a bracketed IPv6 address.
pub(super) fn parse_authority(text: &str) -> Result<(String, Option<u16>), String> {
    if text.contains('@') {
        return Err("must not hold a user name or password; remove it".to_owned());
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or("lacks the ] of its address")?;
            let address: Ipv6Addr =
                address.parse().map_err(|_| "has an address in [ ] that is not IPv6")?;
            (address.to_string(), after)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            (parse_name(&text[..end])?, &text[end..])
        }
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok((host, None)),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => match digits.parse() {
            Ok(port) if port > 0 => Ok((host, Some(port))),
            _ => Err("has a port that is not in 1 to 65535".to_owned()),
        },
        _ => Err("has something other than a port after its host".to_owned()),
    }
}

fn parse_name(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err("has no valid host name after ://".to_owned());
    }
    // Other programs take `127.1` for an address. Here it would be a name, as `10.0.0.256` would.
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    if numeric && name.parse::<Ipv4Addr>().is_err() {
        return Err("has an IPv4 address that is not four numbers".to_owned());
    }
    Ok(name)
}

fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost",
    }
}

/// A warning about a host of Azure that belongs to another kind of service than Voice Live.
fn foreign_host(host: &str) -> Option<String> {
    let is_under = |domain: &str| host.strip_suffix(domain).is_some_and(|name| name.ends_with('.'));
    if is_under("openai.azure.com") {
        let name = host.split('.').next().unwrap_or_default();
        return Some(format!(
            "{host} is an Azure OpenAI endpoint, which has no Voice Live; try \
             https://{name}.services.ai.azure.com, or the endpoint that the portal shows for \
             Azure AI Foundry"
        ));
    }
    let regional = ["api.cognitive.microsoft.com", "speech.microsoft.com", "voice.microsoft.com"];
    if regional.into_iter().any(is_under) {
        return Some(format!(
            "{host} is the endpoint of a region, shared by all its resources; if the service \
             refuses it, use the resource's own: https://NAME.services.ai.azure.com"
        ));
    }
    None
}

/// Whether a path is one of another API than Voice Live's.
fn is_foreign(path: &str) -> bool {
    !path.trim_end_matches('/').ends_with(SERVICE_PATH)
        && (path.starts_with("/openai") || format!("{path}/").contains("/api/projects/"))
}

/// The path to ask for, and a warning when the given one was dropped.
fn service_path(path: &str) -> (String, Option<String>) {
    let path = path.trim_end_matches('/');
    if path.ends_with(SERVICE_PATH) {
        return (path.to_owned(), None);
    }
    if is_foreign(path) {
        let warning = format!("the path {path} belongs to another API and was left out");
        return (SERVICE_PATH.to_owned(), Some(warning));
    }
    (format!("{path}{SERVICE_PATH}"), None)
}

/// The parameters that ask for an agent.
pub(super) const AGENT_PARAMETERS: [&str; 6] = [
    "agent-name",
    "agent-project-name",
    "agent-version",
    "conversation-id",
    "agent-authentication-identity-client-id",
    "foundry-resource-override",
];

/// A parameter's name as the service has it. Settings of other programs and some samples write `agent_name` and
/// `project_name`.
pub(super) fn agent_parameter(name: &str) -> String {
    match &*name.to_ascii_lowercase().replace('_', "-") {
        "project-name" => "agent-project-name".to_owned(),
        name => name.to_owned(),
    }
}

/// The endpoint's own parameters, without those that we set.
fn own_query(query: Option<&str>) -> Result<String, String> {
    let all = query.unwrap_or_default();
    for parameter in parameters(all) {
        let name = agent_parameter(parameter_name(parameter));
        if ["api-key", "authorization", "agent-access-token"].contains(&name.as_str()) {
            return Err(format!(
                "has {name} in its query, where it would be logged; use AZURE_VOICE_LIVE_API_KEY"
            ));
        }
    }
    let kept = parameters(all).filter(|part| !is_ours(part)).map(|part| {
        let name = agent_parameter(parameter_name(part));
        let is_agents = AGENT_PARAMETERS.contains(&&*name);
        let value = &part[parameter_name(part).len()..];
        if is_agents { name + value } else { part.to_owned() }
    });
    Ok(kept.collect::<Vec<_>>().join("&"))
}

fn parameters(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter(|part| !part.is_empty())
}

fn parameter_name(parameter: &str) -> &str {
    parameter.split_once('=').map_or(parameter, |(name, _)| name)
}

/// Whether the settings decide about a parameter.
fn is_ours(parameter: &str) -> bool {
    let name = parameter_name(parameter).to_ascii_lowercase();
    ["api-version", "model", "deployment"].contains(&name.as_str())
}

/// A query's value as it was meant. A `+` stands for a blank, as in forms; what is no UTF-8 becomes
/// U+FFFD.
pub(super) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
    while let [first, tail @ ..] = rest {
        let (byte, next) = match (first, tail) {
            (b'%', [high, low, next @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, next),
                _ => (b'%', tail),
            },
            (b'+', _) => (b' ', tail),
            _ => (*first, tail),
        };
        bytes.push(byte);
        rest = next;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(text: &str) -> String {
        let (mut endpoint, _) = Endpoint::service(text).unwrap();
        endpoint.set_query("2026-07-15", "gpt-realtime-mini");
        endpoint.to_string()
    }

    const QUERY: &str = "?api-version=2026-07-15&model=gpt-realtime-mini";

    #[test]
    fn normalises_what_people_paste() {
        let azure = format!("wss://x.services.ai.azure.com/voice-live/realtime{QUERY}");
        for text in [
            "https://x.services.ai.azure.com",
            "https://x.services.ai.azure.com/",
            "wss://X.Services.AI.Azure.com:443//",
            "https://x.services.ai.azure.com./voice-live/realtime",
            "HTTPS://x.services.ai.azure.com/voice-live/realtime/",
            "https://x.services.ai.azure.com/api/projects/p1",
            "https://x.services.ai.azure.com/openai/v1?model=old&api-version=1",
            "https://x.services.ai.azure.com?",
        ] {
            assert_eq!(service(text), azure, "{text}");
        }
        let others = [
            ("ws://localhost:9000", "ws://localhost:9000/voice-live/realtime"),
            ("http://127.0.0.1", "ws://127.0.0.1/voice-live/realtime"),
            ("http://[0:0::1]:81/a/", "ws://[::1]:81/a/voice-live/realtime"),
            ("https://[2001:DB8::1]/", "wss://[2001:db8::1]/voice-live/realtime"),
            ("https://h/voice-live", "wss://h/voice-live/voice-live/realtime"),
        ];
        for (text, expected) in others {
            assert_eq!(service(text), format!("{expected}{QUERY}"), "{text}");
        }
    }

    #[test]
    fn keeps_the_endpoints_own_query() {
        let text = "https://h/p?profile=byom%20x&model=a&&flag&api-version=b";
        let expected = format!("wss://h/p/voice-live/realtime{QUERY}&profile=byom%20x&flag");
        assert_eq!(service(text), expected);
    }

    #[test]
    fn encodes_what_it_adds() {
        let (mut endpoint, _) = Endpoint::service("https://h").unwrap();
        endpoint.set_query("1&x=y", "größe 1/2~");
        let target = "/voice-live/realtime?api-version=1%26x%3Dy&model=gr%C3%B6%C3%9Fe%201%2F2~";
        assert_eq!(endpoint.path_and_query, target);
        endpoint.set_query("a", "b");
        assert_eq!(endpoint.path_and_query, "/voice-live/realtime?api-version=a&model=b");
    }

    #[test]
    fn warns_about_a_path_of_another_api() {
        for path in ["/api/projects/p", "/x/api/projects", "/openai/realtime"] {
            let (_, warning) = Endpoint::service(&format!("https://h{path}")).unwrap();
            assert!(warning.unwrap().contains(path));
        }
        assert_eq!(Endpoint::service("https://h/proxy").unwrap().1, None);
    }

    #[test]
    fn warns_about_a_host_that_is_no_resource_of_this_service() {
        let warning = |host: &str| Endpoint::service(&format!("https://{host}/")).unwrap().1;
        let openai = warning("Home.openai.azure.com").unwrap();
        assert!(openai.contains("https://home.services.ai.azure.com"), "{openai}");
        for host in ["westeurope.api.cognitive.microsoft.com", "eastus2.tts.speech.microsoft.com"] {
            assert!(warning(host).unwrap().contains("the endpoint of a region"), "{host}");
        }
        for host in ["x.services.ai.azure.com", "x.cognitiveservices.azure.com", "openai.azure.com"]
        {
            assert_eq!(warning(host), None, "{host}");
        }
    }

    #[test]
    fn refuses_bad_endpoints() {
        for text in [
            "",
            "x.services.ai.azure.com",
            "ftp://h",
            "https://",
            "https:///p",
            "https://a b",
            "https://h\r\nx: y",
            "https://h/\u{e9}",
            "https://u:p@h",
            "https://h:0",
            "https://h:",
            "https://h:65536",
            "https://h:+1",
            "https://[::1",
            "https://[::1]x",
            "https://[fe80::1%eth0]",
            "https://-h",
            "https://h..i",
            "https://10.0.0.256",
            "https://127.1",
            "https://h#f",
            "http://example.com",
            "ws://192.168.0.2:9000",
            "http://localhost.example.com",
            "https://h?api-key=canary",
            "https://h?Authorization=Bearer",
            "https://::1/",
        ] {
            let fault = Endpoint::service(text).unwrap_err();
            assert!(!fault.contains("canary") && !fault.contains('\n'), "{fault}");
        }
        assert!(Endpoint::service(&format!("https://h/{}", "p".repeat(2048))).is_err());
    }

    #[test]
    fn exact_addresses_keep_their_target() {
        let parts = |text| {
            let e = Endpoint::exact(text).unwrap();
            (e.tls, e.authority(), e.path_and_query)
        };
        let lan = parts("ws://192.168.1.5:8000/ws?resume=1");
        assert_eq!(lan, (false, "192.168.1.5:8000".into(), "/ws?resume=1".into()));
        assert_eq!(parts("wss://pi.local"), (true, "pi.local".into(), "/".into()));
    }
}
