//! How calls log in, and through which proxy: settings that many programs share, and systemd's
//! credentials, beside this program's own.

use std::io;
use std::path::{Path, PathBuf};

use super::draft::Draft;
use super::load::{Loader, Setting};
use super::names::{
    ALL_PROXY, API_KEY_FILE, CLIENT_SECRET, ENTRA_COMMAND, ENTRA_FILE, FEDERATED_FILE, HTTPS_PROXY,
    KEY, NO_PROXY, UPSTREAM_CA_FILE,
};
use super::{Endpoint, Secret, SettingSource, VARIABLES, Variable};
use crate::identity::{SignIn, Source};
use crate::net::proxy::{self, Proxy};

impl Loader<'_> {
    /// Takes the key, and the secret of a service principal, that systemd passes in files, unless they
    /// were set otherwise.
    pub(super) fn find_credentials(&mut self, directory: Option<PathBuf>) {
        let Some(directory) = directory else { return };
        if !self.is_set(&[KEY, API_KEY_FILE, ENTRA_FILE, ENTRA_COMMAND]) {
            self.take_credential(&directory, KEY, |draft, text| draft.set_key(text));
        }
        if !self.is_set(&[CLIENT_SECRET]) {
            self.take_credential(&directory, CLIENT_SECRET, |draft, text| {
                super::draft::entra_secret(text).map(|secret| draft.entra.secret = Some(secret))
            });
        }
    }

    fn is_set(&self, names: &[&str]) -> bool {
        let variables = VARIABLES.iter().filter(|variable| names.contains(&variable.name));
        let spellings: Vec<_> = variables.flat_map(Variable::spellings).collect();
        self.settings.iter().any(|setting| spellings.contains(&setting.name))
    }

    fn take_credential(
        &mut self,
        directory: &Path,
        name: &str,
        set: fn(&mut Draft, &str) -> Result<(), String>,
    ) {
        let outcome = match (self.files)(&directory.join(name), Secret::MAX_BYTES) {
            // A unit may pass a blank credential while there is none yet. One without a byte is an empty file's.
            Ok(bytes) if bytes.trim_ascii().is_empty() => {
                self.empty_key |= name == KEY && bytes != b" ";
                Ok(())
            }
            Ok(bytes) => String::from_utf8(bytes)
                .map_err(|_| "is not UTF-8 text".to_owned())
                .and_then(|text| set(&mut self.draft, &text)),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(fault) => Err(format!("cannot be read: {fault}")),
        };
        if let Err(message) = outcome {
            self.fault(name, Some(SettingSource::Credential), message);
        }
    }

    /// The proxy on the way to a host, if there is one. A proxy that is not asked, because the host is
    /// this machine or `NO_PROXY` names it, is not judged either.
    pub(super) fn proxy_to(&mut self, host: &str) -> Option<Proxy> {
        let mut chosen = |name| {
            let variable = VARIABLES.iter().find(|variable| variable.name == name)?;
            self.choose(variable)
        };
        let (named, exceptions) = (chosen(HTTPS_PROXY), chosen(NO_PROXY));
        let Setting { name, value, place, .. } = named.or_else(|| chosen(ALL_PROXY))?;
        if proxy::is_direct(host, &exceptions.map(|s| s.value).unwrap_or_default()) {
            return None;
        }
        let parsed = Proxy::parse(value.trim(), &name);
        parsed.map_err(|message| self.fault(&name, Some(place), message)).ok()
    }

    /// MCP servers by HTTPS are reached as the service is: by the authorities that are trusted for it, and through
    /// the proxy, unless `NO_PROXY` names them.
    pub(super) fn settle_servers(&mut self) {
        if self.draft.mcp.servers.iter_mut().any(|server| server.place.https_host().is_some()) {
            self.trust_authorities();
        }
        let mut servers = std::mem::take(&mut self.draft.mcp.servers);
        for server in &mut servers {
            if let Some((host, proxy)) = server.place.https_host() {
                *proxy = self.proxy_to(&host).map(|proxy| proxy.expose());
            }
        }
        self.draft.mcp.servers = servers;
    }

    /// A demo reads this setting only here, since nothing else of it needs authorities.
    fn trust_authorities(&mut self) {
        let variable = VARIABLES.iter().find(|variable| variable.name == UPSTREAM_CA_FILE);
        let Some(variable) = variable.filter(|it| !self.set.iter().any(|set| set.0 == it.name))
        else {
            return;
        };
        let Some(Setting { name, value, place, .. }) = self.choose(variable) else { return };
        if let Err(message) = (variable.parse)(&mut self.draft, &value, self.files) {
            self.fault(&name, Some(place), message);
        }
    }

    /// Decides between the key and Entra ID. The settings of this program win over those that many
    /// programs share: another program's variables must not change how calls log in.
    pub(super) fn settle_login(&mut self) {
        let source = match self.draft.entra.own() {
            Some(source) => Some(source),
            None if self.draft.key.is_some() => {
                let entra = &self.draft.entra;
                if entra.secret.is_some() || entra.federated.is_some() {
                    let unused = format!(
                        "{CLIENT_SECRET} and {FEDERATED_FILE} are not used: the key is set, and it wins"
                    );
                    self.draft.warnings.push(unused);
                }
                None
            }
            None => match self.draft.entra.shared() {
                Ok(source) => source,
                Err(missing) => {
                    for name in missing {
                        let mut message = "is not set, but Entra ID needs it beside the variables that are; set it, or the key".to_owned();
                        if name == CLIENT_SECRET {
                            message.push_str(". As a credential systemd hands it over by LoadCredential=, which a drop-in may have emptied (systemctl cat shows it)");
                        }
                        if !self.errors.iter().any(|error| error.what == name) {
                            self.fault(name, None, message);
                        }
                    }
                    None
                }
            },
        };
        let Some(source) = source else {
            if !self.draft.session.assistant.is_empty() {
                let hint = "the agent may refuse the key; agents are meant for Entra ID \
                            (AZURE_VOICE_LIVE_TOKEN_COMMAND and others)";
                self.draft.warnings.push(hint.to_owned());
            }
            return;
        };
        let host = match &source {
            Source::Principal { authority, .. } | Source::Workload { authority, .. } => {
                Endpoint::exact(authority).ok().map(|parsed| parsed.host)
            }
            // A command has its own ways. All others are on this machine or beside it.
            Source::Command(_) | Source::File(_) | Source::Managed { .. } => None,
        };
        let proxy = host.and_then(|host| self.proxy_to(&host));
        let authorities = self.draft.authorities.clone();
        self.draft.sign_in = Some(SignIn { source, proxy, authorities });
    }
}
