//! What a client must show to take its call up again: the secret of its `hello`, and the kind of credential
//! that began the call.
//!
//! The secret is not kept, only its HMAC: it can be recognised, and neither read nor logged. Two HMACs are
//! compared, in constant time, so the time tells nothing about where two secrets differ.

use std::fmt;

use ring::hmac;

/// What is signed with a secret as the key.
const MESSAGE: &[u8] = b"voicelived resume v1";

/// The length of a secret: 128 bits as hexadecimal digits.
const LENGTH: usize = 32;

/// How a client has shown that it may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// Nothing was asked for.
    None,
    /// The access token.
    Bearer,
    /// A browser's cookie.
    Cookie,
}

/// A secret that was shown, ready to be compared.
#[derive(Clone)]
pub struct Secret(hmac::Tag);

impl Secret {
    /// Takes what a client shows; `None` if it cannot be a secret of this daemon.
    #[must_use]
    pub fn shown(text: &str) -> Option<Self> {
        let digits = text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes());
            Self(hmac::sign(&key, MESSAGE))
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// The right to take one call up, once.
#[derive(Debug, Clone)]
pub struct Ticket {
    secret: Secret,
    credential: Credential,
    generation: u32,
}

impl Ticket {
    /// The ticket for this secret. `credential` and `generation` (of the access rules) are those of the
    /// client that gets it. `None` if the text is no secret.
    #[must_use]
    pub fn new(secret: &str, credential: Credential, generation: u32) -> Option<Self> {
        Some(Self { secret: Secret::shown(secret)?, credential, generation })
    }

    /// Whether a client that shows this may take the call up.
    #[must_use]
    pub fn admits(&self, secret: &Secret, credential: Credential, generation: u32) -> bool {
        // The comparison runs in any case: its time must not tell whether the rest fits.
        let right = is_same(&self.secret, secret);
        right && self.credential == credential && self.generation == generation
    }
}

/// Whether both are the same, in constant time: `verify` compares in that way what it computes itself.
fn is_same(one: &Secret, other: &Secret) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, MESSAGE);
    let tag = hmac::sign(&key, one.0.as_ref());
    hmac::verify(&key, other.0.as_ref(), tag.as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn only_the_secret_with_the_credential_of_its_call_is_admitted() {
        let ticket = Ticket::new(SECRET, Credential::Cookie, 3).expect("a secret");
        let shown = |text: &str| Secret::shown(text).expect("its form is right");
        assert!(ticket.admits(&shown(SECRET), Credential::Cookie, 3));
        assert!(!ticket.admits(&shown(SECRET), Credential::Bearer, 3));
        assert!(!ticket.admits(&shown(SECRET), Credential::None, 3));
        assert!(!ticket.admits(&shown(SECRET), Credential::Cookie, 4));
        for wrong in ["0123456789abcdef0123456789abcdee", "1123456789abcdef0123456789abcdef"] {
            assert!(!ticket.admits(&shown(wrong), Credential::Cookie, 3), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_secret_is_not_compared_and_nothing_shows_one() {
        for text in ["", "0123", &SECRET[1..], "0123456789abcdef0123456789abcdeg", "%30"] {
            assert!(Secret::shown(text).is_none(), "{text}");
        }
        let ticket = Ticket::new(SECRET, Credential::Bearer, 0).expect("a secret");
        assert!(!format!("{ticket:?}{:?}", Secret::shown(SECRET)).contains("0123"));
    }
}
