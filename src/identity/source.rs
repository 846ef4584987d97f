//! Where a token comes from.

use std::fmt;
use std::path::PathBuf;

/// One way to a token. It is displayed without its secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// A command of the owner's, which prints a token. No shell reads it.
    Command(Vec<String>),
    /// A file that holds a token. It is read for each connection, so another program may renew it.
    File(PathBuf),
    /// A service principal with a secret.
    Principal {
        /// Entra ID's address, such as `https://login.microsoftonline.com`, without a `/` at its end.
        authority: String,
        /// Directory.
        tenant: String,
        /// Application.
        client: String,
        /// Its secret.
        secret: String,
    },
    /// A service principal whose secret is a token of another system, as in Kubernetes. The file is
    /// read for each fetch: the other system renews it.
    Workload {
        /// As above.
        authority: String,
        /// Directory.
        tenant: String,
        /// Application.
        client: String,
        /// The file with the other system's token.
        file: PathBuf,
    },
    /// An identity that Azure manages for the machine.
    Managed {
        /// The client id of a user-assigned identity; `None` for the machine's own.
        client: Option<String>,
        /// Where this machine asks for it.
        place: ManagedIdentityEndpoint,
    },
}

/// The endpoint for a managed identity, as each kind of machine has it.
#[derive(Clone, PartialEq, Eq)]
pub enum ManagedIdentityEndpoint {
    /// A virtual machine: the metadata service at this address, usually `http://169.254.169.254`.
    Metadata(String),
    /// App Service or Container Apps.
    App {
        /// `IDENTITY_ENDPOINT`.
        endpoint: String,
        /// `IDENTITY_HEADER`, a secret.
        header: String,
    },
    /// A machine elsewhere that is joined to Azure Arc: its agent's local endpoint.
    Arc(String),
}

impl fmt::Debug for ManagedIdentityEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Metadata(_) => "Metadata",
            Self::App { .. } => "App",
            Self::Arc(_) => "Arc",
        })
    }
}

impl Source {
    /// Whether a token is asked for before every connection: nothing tells how long it lasts.
    #[must_use]
    pub fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(words) => {
                let program = words.first().map(String::as_str).unwrap_or_default();
                write!(f, "the command {} (AZURE_VOICE_LIVE_TOKEN_COMMAND)", program.escape_debug())
            }
            Self::File(path) => {
                let path = path.display().to_string();
                write!(f, "the file {} (AZURE_VOICE_LIVE_TOKEN_FILE)", path.escape_debug())
            }
            Self::Principal { client, .. } => {
                write!(f, "the service principal {client} (AZURE_CLIENT_SECRET)")
            }
            Self::Workload { client, .. } => {
                write!(f, "the workload identity {client} (AZURE_FEDERATED_TOKEN_FILE)")
            }
            Self::Managed { client, place } => {
                let place = match place {
                    ManagedIdentityEndpoint::Metadata(_) => "virtual machine",
                    ManagedIdentityEndpoint::App { .. } => "app",
                    ManagedIdentityEndpoint::Arc(_) => "Azure Arc",
                };
                match client {
                    Some(client) => write!(f, "the managed identity {client} ({place})"),
                    None => write!(f, "the machine's managed identity ({place})"),
                }
            }
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({self})")
    }
}
