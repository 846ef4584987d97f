//! Which login the settings mean: the key, or one of the ways to a token of Entra ID.
//!
//! The settings of this program come first: a key, a token's file, or a command. The variables that many
//! programs share count only without them, in the order of Azure's own libraries: a secret, another
//! system's token, a managed identity.

use std::path::{Path, PathBuf};

use super::names::{CLIENT, CLIENT_SECRET, FEDERATED_FILE, TENANT};
use crate::identity::{ManagedIdentityEndpoint, Source};

/// Entra ID's address, unless a setting names another.
const AUTHORITY: &str = "https://login.microsoftonline.com";

/// The metadata service of Azure's virtual machines.
const METADATA: &str = "http://169.254.169.254";

/// The agent of Azure Arc, and its endpoint.
const ARC_AGENT: &str = "/opt/azcmagent/bin/himds";
const ARC_ENDPOINT: &str = "http://localhost:40342/metadata/identity/oauth2/token";

/// What the settings say of Entra ID.
#[derive(Default)]
pub(super) struct EntraDraft {
    pub(super) file: Option<PathBuf>,
    pub(super) command: Option<Vec<String>>,
    pub(super) tenant: Option<String>,
    pub(super) client: Option<String>,
    pub(super) secret: Option<String>,
    pub(super) federated: Option<PathBuf>,
    pub(super) authority: Option<String>,
    pub(super) credentials: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) header: Option<String>,
    pub(super) imds: Option<String>,
    pub(super) metadata: Option<String>,
}

impl std::fmt::Debug for EntraDraft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EntraDraft")
    }
}

impl EntraDraft {
    /// The source that one of this program's own settings names.
    pub(super) fn own(&self) -> Option<Source> {
        let command = self.command.clone().map(Source::Command);
        command.or_else(|| self.file.clone().map(Source::File))
    }

    /// The source that the shared variables name. The error has the variables that are missing beside
    /// those that are set.
    pub(super) fn shared(&self) -> Result<Option<Source>, Vec<&'static str>> {
        let wanted = self.credentials.as_deref().unwrap_or_default().to_ascii_lowercase();
        match wanted.as_str() {
            "managedidentitycredential" => return Ok(Some(self.managed())),
            "workloadidentitycredential" => return self.with_client(true).map(Some),
            "environmentcredential" => return self.with_client(false).map(Some),
            _ => {}
        }
        if self.secret.is_some() {
            return self.with_client(false).map(Some);
        }
        if self.federated.is_some() {
            return self.with_client(true).map(Some);
        }
        let told = self.endpoint.is_some() || self.metadata.is_some() || wanted == "prod";
        let told = told || (self.client.is_some() && self.tenant.is_none());
        Ok(told.then(|| self.managed()))
    }

    /// A service principal: with another system's token, or with a secret.
    fn with_client(&self, federated: bool) -> Result<Source, Vec<&'static str>> {
        let authority = self.authority.clone().unwrap_or_else(|| AUTHORITY.to_owned());
        let parts = (self.tenant.clone(), self.client.clone());
        match (parts, self.secret.clone(), self.federated.clone()) {
            ((Some(tenant), Some(client)), _, Some(file)) if federated => {
                Ok(Source::Workload { authority, tenant, client, file })
            }
            ((Some(tenant), Some(client)), Some(secret), _) if !federated => {
                Ok(Source::Principal { authority, tenant, client, secret })
            }
            ((tenant, client), secret, file) => {
                let proof = if federated { file.is_none() } else { secret.is_none() };
                let named = if federated { FEDERATED_FILE } else { CLIENT_SECRET };
                let all = [(tenant.is_none(), TENANT), (client.is_none(), CLIENT), (proof, named)];
                Err(all.iter().filter(|(missing, _)| *missing).map(|(_, name)| *name).collect())
            }
        }
    }

    fn managed(&self) -> Source {
        let place = match (&self.endpoint, &self.header, &self.imds) {
            (Some(endpoint), Some(header), _) => {
                ManagedIdentityEndpoint::App { endpoint: endpoint.clone(), header: header.clone() }
            }
            (Some(endpoint), None, Some(_)) => ManagedIdentityEndpoint::Arc(endpoint.clone()),
            _ if self.metadata.is_none() && Path::new(ARC_AGENT).exists() => {
                ManagedIdentityEndpoint::Arc(ARC_ENDPOINT.to_owned())
            }
            _ => ManagedIdentityEndpoint::Metadata(
                self.metadata.clone().unwrap_or_else(|| METADATA.to_owned()),
            ),
        };
        Source::Managed { client: self.client.clone(), place }
    }
}
