//! Login to the service with Entra ID in place of a key: where tokens come from, how they are fetched,
//! and how long one is used.
//!
//! A fetch may take seconds, so a child process does it: the owner's command, or this program again as
//! `voicelived __token`, which reads its job from its standard input. So no secret is in a command line
//! or in an environment, and nothing here waits in the loop.

pub mod answer;
pub mod fetch;
mod source;
mod tokens;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use crate::net::proxy::Proxy;
use answer::Refusal;

pub use source::{ManagedIdentityEndpoint, Source};
pub use tokens::{Fetched, Tokens};

/// What the service's tokens are for.
pub const RESOURCE: &str = "https://ai.azure.com";

/// The most bytes that a fetch may print. A token of a user with many groups has about 4 KiB.
pub const MAX_OUTPUT: usize = 64 * 1024;

/// The longest token that is taken, in bytes. It stands in one header line.
pub const MAX_TOKEN: usize = 16 * 1024;

/// How long a fetch may take. The command `az` needs up to 3 s on a small device.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// How the daemon signs in: the source of its tokens, and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    /// Where the tokens come from.
    pub source: Source,
    /// The proxy on the way to Entra ID; never for a managed identity, whose endpoint is beside us.
    pub proxy: Option<Proxy>,
    /// Trust anchors besides the built-in ones.
    pub authorities: Vec<CertificateDer<'static>>,
}

impl SignIn {
    /// The child's program and arguments.
    #[must_use]
    pub fn command(&self, program: &Path) -> Vec<OsString> {
        match &self.source {
            Source::Command(words) => words.iter().map(OsString::from).collect(),
            _ => vec![program.into(), "__token".into()],
        }
    }

    /// Why there is no token when the child itself has failed. `why` is such as "it took too long".
    #[must_use]
    pub fn failed(&self, why: &str) -> Refusal {
        match &self.source {
            Source::Command(_) => {
                Refusal::lasting(format!("{why}; run it by hand, as the daemon's user, to see why"))
            }
            _ => Refusal::passing(why),
        }
    }

    /// What the child reads from its standard input. It holds the secret.
    #[must_use]
    pub fn input(&self) -> Vec<u8> {
        match &self.source {
            Source::Command(_) => Vec::new(),
            _ => fetch::job(self).into_bytes(),
        }
    }
}
