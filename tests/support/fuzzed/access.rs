//! `Host` and `Origin`: only our own names are accepted, in every spelling.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use voicelived::access::{Access, Authority, Gate, Origin, Verdict};

/// Names besides the loopback addresses that the gate below calls its own.
const NAMES: [&str; 2] = ["localhost", "pi.local"];

/// The port it listens on.
const PORT: u16 = 8000;

/// A page elsewhere that may use it.
const LISTED: (&str, &str) = ("https://voice.example.org", "voice.example.org");

/// The token that callers of [`fuzz_credentials`] should know.
const TOKEN: &str = "correct-horse-battery";

/// First line: `Authorization`. The rest: `Cookie`.
pub fn fuzz_credentials(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (authorization, cookies) = text.split_once('\n').unwrap_or((text, ""));
    let access = Access::token(TOKEN);
    let cookie = access.cookie().expect("browsers get one");
    let cookie = cookie.split(';').next().expect("the cookie before its attributes");
    let by_token = access.admits(authorization, "");
    let by_cookie = access.admits("", cookies);
    let (_, value) = cookie.split_once('=').expect("a name and a value");
    match by_token {
        Verdict::Admitted => assert!(authorization.contains(TOKEN), "{authorization:?}"),
        _ => assert_ne!(authorization, format!("Bearer {TOKEN}")),
    }
    match by_cookie {
        Verdict::Admitted => assert!(cookies.contains(value), "{cookies:?}"),
        _ => assert_ne!(cookies, cookie),
    }
    let either = access.admits(authorization, cookies) == Verdict::Admitted;
    assert_eq!(either, by_token == Verdict::Admitted || by_cookie == Verdict::Admitted);
    assert_eq!(Access::Open.admits(authorization, cookies), Verdict::Admitted);
}

/// First line: `Host`. Each further line: an `Origin` field.
pub fn fuzz_access(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines = text.split('\n');
    let host = lines.next().unwrap_or_default();
    let origins: Vec<String> = lines.take(4).map(str::to_owned).collect();
    for secure in [false, true] {
        let extra = vec![Origin::parse(LISTED.0).expect("an origin")];
        let address = (Ipv4Addr::LOCALHOST, PORT).into();
        let mut gate = Gate::new(secure, address, extra);
        gate.set_device_names(&["Pi.local".to_owned()], &[]);
        check_host(&gate, host, secure);
        check_origins(&gate, &origins, host, secure);
    }
    check_spelling(host);
}

fn check_host(gate: &Gate, host: &str, secure: bool) {
    let admitted = gate.admits_host(host);
    let ours = is_ours(host, if secure { 443 } else { 80 }) || is_listed(host);
    assert_eq!(admitted, ours, "{host:?}");
    assert_eq!(admitted, gate.admits_host(&host.to_ascii_uppercase()), "{host:?} in capitals");
    assert_eq!(admitted, gate.admits_host(&host.to_ascii_lowercase()), "{host:?} in small letters");
}

/// The same rule said in another way.
fn is_ours(host: &str, default_port: u16) -> bool {
    let Some((name, port)) = name_and_port(host) else {
        return false;
    };
    let port = port.unwrap_or(default_port);
    let own = match name.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']').is_some_and(|v6| v6.parse() == Ok(Ipv6Addr::LOCALHOST)),
        None => {
            let name = name.strip_suffix('.').unwrap_or(name);
            NAMES.iter().any(|own| own.eq_ignore_ascii_case(name))
                || name.parse().is_ok_and(|ip: Ipv4Addr| ip.is_loopback())
        }
    };
    own && port == PORT
}

/// The host of the listed page, at the usual port of its scheme.
fn is_listed(host: &str) -> bool {
    name_and_port(host).is_some_and(|(name, port)| {
        let name = name.strip_suffix('.').unwrap_or(name);
        name.eq_ignore_ascii_case(LISTED.1) && port.is_none_or(|port| port == 443)
    })
}

fn name_and_port(host: &str) -> Option<(&str, Option<u16>)> {
    let end = host.find(']').map_or(0, |at| at + 1);
    match host[end..].find(':') {
        None => Some((host, None)),
        Some(at) => {
            let (name, port) = host.split_at(end + at);
            if port == ":" {
                return Some((name, None));
            }
            let digits = port[1..].bytes().all(|byte| byte.is_ascii_digit());
            Some((name, Some(port[1..].parse().ok().filter(|_| digits)?)))
        }
    }
}

fn check_origins(gate: &Gate, origins: &[String], host: &str, secure: bool) {
    let admitted = gate.admits_origin(origins, host);
    match origins {
        [] => assert!(admitted, "no browser has no Origin"),
        [origin] if admitted => {
            let origin = Origin::parse(origin).expect("an admitted origin is one");
            let port = if secure { 443 } else { 80 };
            let same = Authority::parse(host, port).is_some_and(|own| own == origin.authority);
            let own = same && is_ours(host, port) && origin.secure == secure;
            assert!(own || Origin::parse(LISTED.0) == Some(origin), "{host:?} is somebody else");
        }
        [_] => {}
        _ => assert!(!admitted, "several Origin fields"),
    }
}

/// An authority written out and read again is the same.
fn check_spelling(host: &str) {
    let Some(authority) = Authority::parse(host, 80) else {
        return;
    };
    let Authority { host, port } = &authority;
    let written = match host.parse() {
        Ok(IpAddr::V6(_)) => format!("[{host}]:{port}"),
        _ => format!("{host}:{port}"),
    };
    assert_eq!(Authority::parse(&written, 80).as_ref(), Some(&authority), "{written}");
}
