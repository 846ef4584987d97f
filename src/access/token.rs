//! The access token. It is compared in constant time, and is neither kept as text nor shown.
//!
//! A browser holds a cookie instead of the token. The cookie is made from the token, so a changed token
//! locks every browser out. A wrong cookie counts as a guess like a wrong token, because it would tell
//! an attacker as much. There are no users, no roles and no tokens that expire.

use std::fmt::{self, Write as _};

use ring::hmac;

use super::Verdict;

/// Shortest and longest token, in bytes.
pub const LENGTH: std::ops::RangeInclusive<usize> = 16..=256;

/// The cookie's name. With the prefix `__Host-` browsers accept the cookie only from this host itself,
/// with `Secure` and `Path=/` (RFC 6265bis, section 4.1.3.2). So no neighbour domain can set one.
const COOKIE: &str = "__Host-voicelived";

/// The cookie's life in seconds: 400 days, the most that browsers allow. It is renewed whenever the page
/// is opened.
const COOKIE_SECONDS: u32 = 400 * 24 * 60 * 60;

/// The cookie's value is the HMAC-SHA-256 of this message with the token as the key.
const COOKIE_MESSAGE: &[u8] = b"voicelived cookie v1";

/// A token is recognised by the HMAC-SHA-256 of this message with the token as the key.
const BEARER_MESSAGE: &[u8] = b"voicelived bearer v1";

/// The most cookies with our name that are tried in one request. A browser sends one.
const MAX_TRIES: usize = 4;

/// The letters of a generated token. No two look alike (0 o, 1 i l), and all are easy to type on a phone.
const ALPHABET: &[u8; 31] = b"23456789abcdefghjkmnpqrstuvwxyz";

/// Letters in a group.
const GROUP: usize = 4;

/// Letters of a generated token: seven groups, 138 bits.
const LETTERS: usize = 28;

/// The access rule.
#[derive(Clone)]
pub enum Access {
    /// Every client that the gate admits may call.
    Open,
    /// Clients that know the token may call.
    Token(Box<Token>),
}

impl Access {
    /// The rule that asks for this token.
    #[must_use]
    pub fn token(token: &str) -> Self {
        Self::Token(Box::new(Token::new(token)))
    }

    /// Whether no token is asked for.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Whether both rules admit the same clients.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Open, Self::Open) => true,
            (Self::Token(one), Self::Token(other)) => one.bearer.as_ref() == other.bearer.as_ref(),
            _ => false,
        }
    }

    /// Judges the fields `Authorization` and `Cookie`; each is empty if the request has none. One right
    /// credential is enough, so an old cookie beside a right token does no harm.
    #[must_use]
    pub fn admits(&self, authorization: &str, cookies: &str) -> Verdict {
        let Self::Token(token) = self else {
            return Verdict::Admitted;
        };
        let mut verdict = Verdict::Missing;
        if let Some(bearer) = bearer(authorization) {
            if token.is_bearer(bearer) {
                return Verdict::Admitted;
            }
            verdict = Verdict::Wrong;
        }
        for value in ours(cookies).take(MAX_TRIES) {
            if token.is_cookie(value) {
                return Verdict::Admitted;
            }
            verdict = Verdict::Wrong;
        }
        verdict
    }

    /// The value of `Set-Cookie` for a browser that was admitted; `None` if no token is asked for.
    #[must_use]
    pub fn cookie(&self) -> Option<String> {
        Some(set_cookie(&self.cookie_value()?, COOKIE_SECONDS, OWN_SITE))
    }

    /// As [`cookie`](Self::cookie), for a page that may be shown in another site's frame. There a browser
    /// neither keeps nor sends a `SameSite=Strict` cookie.
    #[must_use]
    pub fn cookie_for_frames(&self) -> Option<String> {
        Some(set_cookie(&self.cookie_value()?, COOKIE_SECONDS, FRAMES))
    }

    fn cookie_value(&self) -> Option<String> {
        let Self::Token(token) = self else {
            return None;
        };
        let tag = hmac::sign(&token.key, COOKIE_MESSAGE);
        let mut value = String::with_capacity(64);
        for byte in tag.as_ref() {
            // A String takes everything.
            let _ = write!(value, "{byte:02x}");
        }
        Some(value)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_open() { "Open" } else { "Token(***)" })
    }
}

/// The value of `Set-Cookie` that makes a browser drop a cookie that is not right any more.
#[must_use]
pub fn forget_cookie() -> String {
    set_cookie("", 0, OWN_SITE)
}

/// As [`forget_cookie`], for the cookie of [`Access::cookie_for_frames`]. To a browser it is another cookie of
/// the same name.
#[must_use]
pub fn forget_cookie_of_frames() -> String {
    set_cookie("", 0, FRAMES)
}

/// Which sites' pages may make a browser send the cookie: only the daemon's own.
const OWN_SITE: &str = "SameSite=Strict";

/// Pages of any site may, with a cookie that the browser keeps apart for each site in its address bar
/// (`Partitioned`, CHIPS). So a page elsewhere cannot use the cookie of a dashboard's frame.
const FRAMES: &str = "SameSite=None; Partitioned";

fn set_cookie(value: &str, seconds: u32, sites: &str) -> String {
    format!("{COOKIE}={value}; Path=/; Secure; HttpOnly; {sites}; Max-Age={seconds}")
}

/// What is needed to recognise a token. The token itself cannot be read from it.
#[derive(Clone)]
pub struct Token {
    key: hmac::Key,
    bearer: hmac::Tag,
}

impl Token {
    fn new(token: &str) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
        let bearer = hmac::sign(&key, BEARER_MESSAGE);
        Self { key, bearer }
    }

    /// Compares two HMACs, one made with each token, and not the tokens. So the time that it takes tells
    /// nothing about where the tokens differ.
    fn is_bearer(&self, candidate: &str) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, candidate.as_bytes());
        hmac::verify(&key, BEARER_MESSAGE, self.bearer.as_ref()).is_ok()
    }

    fn is_cookie(&self, candidate: &str) -> bool {
        from_hex(candidate).is_some_and(|tag| hmac::verify(&self.key, COOKIE_MESSAGE, &tag).is_ok())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750, section 2.1). `None` without the field, and for
/// other schemes, which are meant for somebody else.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ').unwrap_or((authorization, ""));
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The values of our cookie in a `Cookie` field (RFC 6265, section 5.4), with or without quotes.
fn ours(cookies: &str) -> impl Iterator<Item = &str> {
    cookies.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = value.trim();
        let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        (name.trim() == COOKIE).then(|| quoted.unwrap_or(value)).filter(|value| !value.is_empty())
    })
}

/// 32 bytes from 64 hexadecimal digits in lower case, as `cookie` writes them; `None` for anything else.
fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Makes a token of at least 128 bits from `random` bytes, in groups that can be read aloud and typed.
/// Some bytes cannot be used, so give more than 28. `None` if too few could be used.
#[must_use]
pub fn made_from(random: &[u8]) -> Option<String> {
    // Bytes above the last whole multiple of the alphabet's size are dropped. They would make some
    // letters likelier than others.
    let fair = u8::try_from(256 / ALPHABET.len() * ALPHABET.len()).unwrap_or(u8::MAX);
    let letters: Vec<u8> = random
        .iter()
        .filter(|byte| **byte < fair)
        .map(|byte| ALPHABET[usize::from(*byte) % ALPHABET.len()])
        .take(LETTERS)
        .collect();
    if letters.len() < LETTERS {
        return None;
    }
    let groups: Vec<_> = letters.chunks(GROUP).map(String::from_utf8_lossy).collect();
    Some(groups.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "correct-horse-battery";

    fn cookie_of(token: &str) -> String {
        let field = Access::token(token).cookie().expect("a cookie");
        field.split(';').next().expect("a pair").to_owned()
    }

    fn judged(authorization: &str, cookies: &str) -> Verdict {
        Access::token(TOKEN).admits(authorization, cookies)
    }

    #[test]
    fn the_bearer_is_the_token_and_nothing_like_it() {
        for right in ["Bearer correct-horse-battery", "bearer  correct-horse-battery"] {
            assert_eq!(judged(right, ""), Verdict::Admitted, "{right}");
        }
        for wrong in [
            "Bearer",
            "Bearer ",
            "Bearer correct-horse-batter",
            "Bearer correct-horse-battery2",
            "Bearer Correct-horse-battery",
            "Bearer correct-horse-battery, Bearer x",
            "Bearer \"correct-horse-battery\"",
        ] {
            assert_eq!(judged(wrong, ""), Verdict::Wrong, "{wrong}");
        }
        for other in ["", "Basic Y29ycmVjdA==", "correct-horse-battery", "Bearer:x"] {
            assert_eq!(judged(other, ""), Verdict::Missing, "{other}");
        }
    }

    #[test]
    fn long_tokens_are_compared_whole() {
        let (token, other) = ("a".repeat(256), format!("{}b", "a".repeat(255)));
        let access = Access::token(&token);
        assert_eq!(access.admits(&format!("Bearer {token}"), ""), Verdict::Admitted);
        assert_eq!(access.admits(&format!("Bearer {other}"), ""), Verdict::Wrong);
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let own = cookie_of(TOKEN);
        let (name, value) = own.split_once('=').expect("a pair");
        for right in [
            own.clone(),
            format!("{name}=\"{value}\""),
            format!("a=b; {own}; c"),
            format!(";;=;a;{own};"),
            format!("{name}=; {own}"),
            format!("{name}=stale; {own}"),
            format!("a={}; {own}", "x".repeat(7000)),
        ] {
            assert_eq!(judged("", &right), Verdict::Admitted, "{right}");
            assert_eq!(judged("Bearer wrong", &right), Verdict::Admitted, "{right}");
            assert_eq!(judged("Basic x", &right), Verdict::Admitted, "{right}");
        }
        for wrong in [
            cookie_of("another-horse-battery"),
            format!("{name}={TOKEN}"),
            format!("{name}={}", value.to_uppercase()),
            format!("{name}={value}0"),
            format!("{name}={}", &value[1..]),
            format!("{name}=\"{value}"),
            format!("{name}={}", "é".repeat(32)),
        ] {
            assert_eq!(judged("", &wrong), Verdict::Wrong, "{wrong}");
        }
        for other in [
            String::new(),
            format!("{name}="),
            name.to_owned(),
            format!("voicelived={value}"),
            format!("x{own}"),
            format!("{}={value}", name.to_lowercase()),
            format!("\"a; {own}x={value}\"").replace(name, "no"),
        ] {
            assert_eq!(judged("", &other), Verdict::Missing, "{other}");
        }
        let flood = format!("{name}=stale; ").repeat(MAX_TRIES) + &own;
        assert_eq!(judged("", &flood), Verdict::Wrong);
    }

    #[test]
    fn nothing_prints_the_token_and_the_cookie_does_not_hold_it() {
        let access = Access::token(TOKEN);
        let cookie = access.cookie().expect("a cookie");
        assert!(!format!("{access:?} {access:#?} {cookie}").contains("horse"));
        for part in
            ["; Path=/;", "; Secure;", "; HttpOnly;", "; SameSite=Strict;", "Max-Age=345600"]
        {
            assert!(cookie.contains(part), "{part} in {cookie}");
        }
        assert!(forget_cookie().ends_with("; Max-Age=0"));
    }

    #[test]
    fn made_tokens_are_long_readable_and_fair() {
        assert_eq!(made_from(&[255; 500]), None);
        assert_eq!(made_from(&[0; 27]), None);
        let token = made_from(&(0..=255).collect::<Vec<u8>>()).expect("enough");
        assert!(LENGTH.contains(&token.len()), "{token}");
        assert_eq!(token, "2345-6789-abcd-efgh-jkmn-pqrs-tuvw");
        let bits = (ALPHABET.len() as f64).log2() * LETTERS as f64;
        assert!(bits > 128.0, "{bits}");
        assert!(!ALPHABET.iter().any(|letter| b"01oil".contains(letter)));
    }

    /// 248 is the last whole multiple of 31 letters in a byte.
    #[test]
    fn bytes_that_would_favour_a_letter_are_dropped() {
        assert_eq!(made_from(&[247; 100]).map(|token| token.len() > LETTERS), Some(true));
        for unfair in 248..=255 {
            assert_eq!(made_from(&[unfair; 100]), None, "{unfair}");
        }
        assert!(Access::Open.is_same(&Access::Open));
        assert!(!Access::Open.is_same(&Access::token(TOKEN)));
    }
}
