//! HTTP proxies on the way to the service: which one (`HTTPS_PROXY`, `NO_PROXY`, read as curl reads
//! them), and the `CONNECT` request that opens a tunnel through it (RFC 9110, section 9.3.6).
//!
//! All of it is text. The sockets are in [`dial`](super::dial).

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;

use super::upgrade::after_provisional;

/// Bytes of a proxy's answer head that are read before giving up.
pub const MAX_ANSWER_HEAD: usize = 16 * 1024;

/// Fields that an answer head may have.
const MAX_ANSWER_FIELDS: usize = 64;

/// Longest text that is taken for a proxy, in bytes.
const MAX_BYTES: usize = 2048;

/// The port where none is given, as curl has it. Other programs take 80, so a fault names it.
const DEFAULT_PORT: u16 = 1080;

/// Letters of a status line or challenge that are passed on.
const MAX_QUOTE: usize = 120;

/// A proxy that takes `CONNECT`. It is displayed without its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Whether the connection to the proxy itself is encrypted.
    pub tls: bool,
    /// Lower-case name or address; an IPv6 address without brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
    /// The port was not given.
    pub port_assumed: bool,
    /// `user:password` in base64; `None` without a user.
    credentials: Option<String>,
    /// The password itself, to be kept out of whatever is shown.
    password: String,
    /// The variable that names this proxy, for messages.
    pub variable: String,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", authority(&self.host, self.port))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl Proxy {
    /// Reads `[http[s]://][user[:password]@]host[:port]`; what follows the port is dropped, as curl
    /// does. `variable` is where the text stands.
    ///
    /// # Errors
    /// A sentence without the text, which may hold a password.
    pub fn parse(text: &str, variable: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("is longer than {MAX_BYTES} bytes"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("has characters that an address cannot hold; write them as %XX".to_owned());
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            socks if socks.starts_with("socks") => {
                return Err("is a SOCKS proxy, which voicelived does not speak; use one that begins with http:// or https://".to_owned());
            }
            _ => return Err("must be http://HOST:PORT or https://HOST:PORT".to_owned()),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        // A password may hold an @ that was not written as %40.
        let (login, place) = match rest[..end].rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, &rest[..end]),
        };
        let (host, port) =
            place_of(place).ok_or("must be http://HOST:PORT or http://USER:PASSWORD@HOST:PORT")?;
        let (user, password) =
            login.map_or(("", ""), |login| login.split_once(':').unwrap_or((login, "")));
        // The decoded bytes are what the proxy compares. A user name cannot hold a colon (RFC 7617).
        let (user, password) = (decoded(user), decoded(password));
        let joined = [user.as_slice(), b":", &password].concat();
        Ok(Self {
            tls,
            host,
            port: port.unwrap_or(if tls { 443 } else { DEFAULT_PORT }),
            port_assumed: port.is_none(),
            credentials: login.map(|_| STANDARD.encode(joined)),
            password: String::from_utf8_lossy(&password).into_owned(),
            variable: variable.to_owned(),
        })
    }

    /// The request for a tunnel to `host` and `port`. The name goes to the proxy as it is.
    #[must_use]
    pub fn request(&self, host: &str, port: u16) -> String {
        let to = authority(host, port);
        let login = self.credentials.as_ref();
        let login = login
            .map(|login| format!("Proxy-Authorization: Basic {login}\r\n"))
            .unwrap_or_default();
        format!(
            "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{login}User-Agent: voicelived/{}\r\n\
             Proxy-Connection: Keep-Alive\r\n\r\n",
            env!("CARGO_PKG_VERSION")
        )
    }

    /// The whole address, with user and password, for a library that takes one. It is a secret.
    #[must_use]
    pub fn expose(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let login = self.credentials.as_ref().and_then(|text| STANDARD.decode(text).ok());
        let login = login.map(|bytes| {
            let colon = bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len());
            let password = bytes.get(colon + 1..).unwrap_or_default();
            format!("{}:{}@", encoded(&bytes[..colon]), encoded(password))
        });
        format!("{scheme}://{}{}", login.unwrap_or_default(), authority(&self.host, self.port))
    }

    /// Whether user and password are sent.
    #[must_use]
    pub fn logs_in(&self) -> bool {
        self.credentials.is_some()
    }

    /// `text` without this proxy's credentials, should the proxy have put them there.
    #[must_use]
    pub fn conceal(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.credentials.iter().chain([&self.password]) {
            if !secret.is_empty() {
                text = text.replace(secret.as_str(), "***");
            }
        }
        text
    }
}

/// What a proxy has answered so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The head is not complete yet.
    Partial,
    /// The tunnel is open. The head ends after this many bytes; what follows comes from the far end.
    Open(usize),
    /// The proxy has refused.
    Refused(Refusal),
    /// No proper answer to `CONNECT`.
    Invalid(&'static str),
}

/// A proxy's answer without a tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The words beside it, on one line and bounded.
    pub reason: String,
    /// The ways to log in that the proxy offers, such as `Basic realm="x"`; bounded.
    pub challenges: Vec<String>,
}

/// Judges a proxy's answer. With any 2xx the tunnel is open, and its length fields count for nothing
/// (RFC 9110, section 9.3.6).
#[must_use]
pub fn answer(bytes: &[u8]) -> Answer {
    let mut fields = [httparse::EMPTY_HEADER; MAX_ANSWER_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let before = after_provisional(bytes);
    let length = match head.parse(bytes.get(before..).unwrap_or_default()) {
        Ok(httparse::Status::Complete(length)) if before + length <= MAX_ANSWER_HEAD => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_ANSWER_HEAD => return Answer::Partial,
        Ok(_) => return Answer::Invalid("its answer's head is too long"),
        Err(_) => return Answer::Invalid("its answer is not HTTP"),
    };
    match head.code {
        Some(200..=299) => Answer::Open(before + length),
        Some(status) => Answer::Refused(Refusal {
            status,
            reason: quoted(head.reason.unwrap_or_default()),
            challenges: head
                .headers
                .iter()
                .filter(|field| is_challenge(field.name))
                .map(|field| quoted(&String::from_utf8_lossy(field.value)))
                .collect(),
        }),
        None => Answer::Invalid("its answer has no status"),
    }
}

/// tinyproxy answers a wrong password with 401 and the field that goes with it.
fn is_challenge(name: &str) -> bool {
    ["proxy-authenticate", "www-authenticate"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether `host` is reached without a proxy: this machine itself and the link-local address of
/// Azure's identity service always, and what `list` (`NO_PROXY`) names, by curl's rules. Tokens are
/// separated by commas; a name stands for itself and all names below it; an address, or a network
/// such as 10.0.0.0/8, stands for addresses; `*` alone for all. No name is looked up, and there are
/// no ports.
#[must_use]
pub fn is_direct(host: &str, list: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    let host = host.strip_suffix('.').unwrap_or(host);
    let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    if is_own(host, address) || list.trim_matches(BLANKS) == "*" {
        return true;
    }
    tokens(list).any(|token| match address {
        Some(address) => names_address(token, address),
        None => names_host(token, host),
    })
}

fn is_own(host: &str, address: Option<IpAddr>) -> bool {
    match address {
        Some(address) => address.is_loopback() || address == IpAddr::from([169, 254, 169, 254]),
        None => host.eq_ignore_ascii_case("localhost"),
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

/// The tokens of the list. A blank without a comma ends the list: `a b` names only `a`.
fn tokens(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let text = rest.take()?.trim_start_matches(BLANKS);
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        let (token, after) = text.split_at(end);
        rest = after.trim_start_matches(BLANKS).strip_prefix(',');
        Some(token)
    })
    .filter(|token| !token.is_empty())
}

fn names_host(token: &str, host: &str) -> bool {
    let token = token.strip_suffix('.').unwrap_or(token);
    let token = token.strip_prefix('.').unwrap_or(token);
    let Some(start) = host.len().checked_sub(token.len()) else { return false };
    let (before, end) = (&host.as_bytes()[..start], &host.as_bytes()[start..]);
    let at_dot = before.is_empty() || before.ends_with(b".");
    !token.is_empty() && at_dot && end.eq_ignore_ascii_case(token.as_bytes())
}

fn names_address(token: &str, address: IpAddr) -> bool {
    let token = token.trim_matches(['[', ']']);
    match token.parse::<IpNet>() {
        Ok(network) => network.contains(&address),
        Err(_) => token.parse::<IpAddr>().is_ok_and(|named| named.to_canonical() == address),
    }
}

/// `host:port`, with brackets around an IPv6 address.
fn authority(host: &str, port: u16) -> String {
    let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
    format!("{open}{host}{close}:{port}")
}

/// Host and port of `host[:port]`.
fn place_of(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host.parse::<std::net::Ipv6Addr>().ok()?.to_string(), port)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            let name = Some(&text[..end]).filter(|name| name.bytes().all(letters))?;
            (name.trim_end_matches('.').to_ascii_lowercase(), &text[end..])
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some("") => None,
        Some(digits) => Some(digits.parse().ok().filter(|port| *port > 0)?),
        None => return None,
    };
    (!host.is_empty()).then_some((host, port))
}

/// Percent escapes decoded; a `%` without two digits stands for itself.
fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let pair = digit(bytes.get(at + 1)).zip(digit(bytes.get(at + 2)));
        let escape = pair.filter(|_| *byte == b'%');
        let code = escape.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        plain.push(code.unwrap_or(*byte));
        at += if code.is_some() { 3 } else { 1 };
    }
    plain
}

fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Another's words on one line, bounded, without control characters.
fn quoted(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(MAX_QUOTE).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(text: &str) -> Proxy {
        Proxy::parse(text, "HTTPS_PROXY").unwrap()
    }

    #[test]
    fn proxies_as_people_write_them() {
        for (text, shown) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("Proxy.Example.:3128/", "http://proxy.example:3128"),
            ("proxy", "http://proxy:1080"),
            ("HTTPS://proxy", "https://proxy:443"),
            ("http://[::1]:8", "http://[::1]:8"),
            ("http://u:p@192.0.2.7:3128/x?y", "http://192.0.2.7:3128"),
        ] {
            assert_eq!(proxy(text).to_string(), shown, "{text}");
        }
        for bad in [
            "http://",
            "http://:3128",
            "http://h:0",
            "http://h:x",
            "ftp://h",
            "http://a b",
            "h:1:2",
            "[::1",
            "http://u:canary@",
        ] {
            let fault = Proxy::parse(bad, "HTTPS_PROXY").unwrap_err();
            assert!(!fault.contains("canary"), "{fault}");
        }
        for bad in ["socks5://h:1", "socks5h://u:canary@h", "SOCKS4://h"] {
            let fault = Proxy::parse(bad, "ALL_PROXY").unwrap_err();
            assert!(fault.contains("SOCKS") && !fault.contains("canary"), "{fault}");
        }
    }

    #[test]
    fn user_and_password_are_decoded_before_they_are_sent() {
        let request = proxy("http://us%65r:p%40s%3As%zz@h:1").request("a.example", 443);
        let login = STANDARD.encode("user:p@s:s%zz");
        assert!(
            request.contains(&format!("\r\nProxy-Authorization: Basic {login}\r\n")),
            "{request}"
        );
        assert!(request.starts_with("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n"));
        assert!(request.ends_with("\r\n\r\n"));
        assert!(!proxy("http://h:1").request("h", 1).contains("Authorization"));
        assert!(proxy("h").request("2001:db8::1", 443).starts_with("CONNECT [2001:db8::1]:443 "));
        let only_user = proxy("http://user@h:1").request("h", 1);
        assert!(only_user.contains(&STANDARD.encode("user:")), "{only_user}");
    }

    #[test]
    fn the_password_is_never_shown() {
        let proxy = proxy("http://user:canary%21@h:1");
        assert!(!format!("{proxy} {proxy:?}").contains("canary"));
        let login = STANDARD.encode("user:canary!");
        let echoed = proxy.conceal(&format!("no canary! with {login}"));
        assert_eq!(echoed, "no *** with ***");
        assert_eq!(Proxy::parse(&proxy.expose(), "HTTPS_PROXY").unwrap(), proxy);
    }

    #[test]
    fn no_proxy_as_curl_reads_it() {
        for (host, list, direct) in [
            ("a.example", "", false),
            ("a.example", "*", true),
            ("a.example", "x,*", false),
            ("a.example", "a.example", true),
            ("A.Example.", "a.eXample.", true),
            ("a.example", "example", true),
            ("a.example", ".example", true),
            ("a.example", ".a.example", true),
            ("a.example", "*.example", false),
            ("aexample", "example", false),
            ("a.example", "b.a.example", false),
            ("a.example", "x , a.example", true),
            ("a.example", "x a.example", false),
            ("a.example", "x,,a.example", true),
            ("a.example", "a.example:443", false),
            ("a.example", ".", false),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.3/33", false),
            ("10.1.2.3", "3", false),
            ("10.1.2.3", "2.3", false),
            ("fd00::1", "fd00::/8", true),
            ("[fd00::1]", "x,FD00:0::1", true),
            ("::ffff:10.1.2.3", "10.0.0.0/8", true),
            ("fe00::1", "10.0.0.0/8", false),
            ("localhost", "", true),
            ("a.localhost", "", false),
            ("127.9.9.9", "", true),
            ("::1", "", true),
            ("169.254.169.254", "", true),
            ("169.254.169.253", "", false),
        ] {
            assert_eq!(is_direct(host, list), direct, "{host} in {list:?}");
        }
    }

    #[test]
    fn a_tunnel_opens_with_any_success() {
        let open =
            b"HTTP/1.1 299 Fine\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello";
        assert_eq!(answer(open), Answer::Open(open.len() - 5));
        for end in 0..open.len() - 5 {
            assert_eq!(answer(&open[..end]), Answer::Partial, "cut at {end}");
            let late = [b"HTTP/1.1 100 Continue\r\n\r\n", &open[..end]].concat();
            assert_eq!(answer(&late), Answer::Partial, "cut at {end}");
        }
        let refused = b"HTTP/1.0 407 Log in\r\nproxy-authenticate: NTLM\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n";
        let Answer::Refused(refusal) = answer(refused) else { panic!("{:?}", answer(refused)) };
        assert_eq!(
            (refusal.status, &*refusal.challenges),
            (407, &["NTLM".to_owned(), "Basic realm=\"x\"".to_owned()][..])
        );
        let endless = format!("HTTP/1.1 200 X\r\na: {}", "b".repeat(MAX_ANSWER_HEAD));
        assert!(matches!(answer(endless.as_bytes()), Answer::Invalid(_)));
        assert!(matches!(answer(b"SSH-2.0-OpenSSH_9\r\n"), Answer::Invalid(_)));
    }

    #[test]
    fn an_address_has_a_bound() {
        let fault = |bytes: usize| Proxy::parse(&"a".repeat(bytes), "ALL_PROXY").err();
        let is_long = |fault: Option<String>| fault.is_some_and(|it| it.contains("is longer than"));
        assert!(!is_long(fault(MAX_BYTES)) && is_long(fault(MAX_BYTES + 1)));
    }
}
