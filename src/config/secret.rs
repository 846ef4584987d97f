//! A text that must not reach a log, an error message or debug output.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::{fmt, fs};

/// A secret text. `Debug` and `Display` print a placeholder; clones share one copy in memory.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Longest key that is accepted, in bytes.
    pub const MAX_BYTES: usize = 4096;
    /// Shortest access token, in bytes. The throttle slows guessing, but an attacker may have much
    /// time.
    pub const MIN_TOKEN_BYTES: usize = 16;
    /// Longest access token, in bytes.
    pub const MAX_TOKEN_BYTES: usize = 256;

    /// Takes a key for use in an HTTP header; surrounding white space is dropped.
    ///
    /// # Errors
    /// A sentence, without the key, when it is empty, too long, or has characters that are not
    /// visible ASCII. A line break would otherwise smuggle further headers into the request.
    pub fn header_value(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("is empty; put the key there".to_owned());
        }
        if text.len() > Self::MAX_BYTES {
            return Err(format!("is longer than {} bytes", Self::MAX_BYTES));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(
                "must be one line of visible ASCII characters; copy the key again".to_owned()
            );
        }
        Ok(Self(text.into()))
    }

    /// Takes an access token; surrounding white space is dropped.
    ///
    /// # Errors
    /// A sentence, without the token, when it is too short, too long, or has characters that are
    /// not visible ASCII.
    pub fn access_token(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (least, most) = (Self::MIN_TOKEN_BYTES, Self::MAX_TOKEN_BYTES);
        if !(least..=most).contains(&text.len()) {
            let length = text.len();
            return Err(format!("must have {least} to {most} characters, but has {length}"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("must be one word of visible ASCII characters".to_owned());
        }
        Ok(Self(text.into()))
    }

    /// A stand-in for services that want no login, such as the simulator.
    #[must_use]
    pub fn placeholder() -> Self {
        Self("simulator".into())
    }

    /// The text itself. Callers hand it to the service and to nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A warning, if the file is open to every user of the device. A group may be meant to read it.
pub(super) fn exposed(path: &Path) -> Option<String> {
    let data = fs::metadata(path).ok()?;
    let open = data.is_file() && data.permissions().mode() & 0o007 != 0;
    let name = path.display().to_string();
    let name = name.escape_debug();
    open.then(|| format!("{name} holds a secret and is open to all users: chmod o= {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints_itself() {
        let secret = Secret::header_value(" canary123\n").unwrap();
        assert_eq!(secret.expose(), "canary123");
        assert!(!format!("{secret:?} {secret:#?} {secret} {secret:>40}").contains("canary"));
    }

    #[test]
    fn access_tokens_have_their_length() {
        for good in ["0123456789abcdef", " 0123456789-/+=%$\n", &"k".repeat(256)] {
            assert!(Secret::access_token(good).is_ok(), "{good}");
        }
        for bad in ["", "canary9abcdef", "canary9 abcdef0123", "canary-ü-abcdef0", &"k".repeat(257)]
        {
            assert!(!Secret::access_token(bad).unwrap_err().contains("canary"), "{bad}");
        }
    }

    #[test]
    fn refuses_what_could_break_a_header() {
        for bad in ["", " \n", "a\r\nx: y", "a b", "a\tb", "a\0", "schlüssel", "a\u{7f}"] {
            let fault = Secret::header_value(bad).unwrap_err();
            assert!(!fault.contains("x: y"), "{fault}");
        }
        assert!(Secret::header_value(&"k".repeat(4096)).is_ok());
        assert!(Secret::header_value(&"k".repeat(4097)).is_err());
    }
}
