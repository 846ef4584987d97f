//! Makes the configuration of new calls: at the start, and at every SIGHUP again from the same sources.
//! Files may have changed since then, but the environment cannot.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::cli::args::RunArgs;
use crate::cli::assistants::AssistantFolder;
use crate::cli::tool_folder::ToolFolder;
use crate::cli::{access_token, service};
use crate::config::{Config, ConfigError, PassedSocket, Purpose, Secret};
use crate::net::tls::ClientConfigs;
use crate::server::reload::{CallConfiguration, Reread};
use crate::session::candidates::Chosen;
use crate::tools::{Origin, Tools};

/// Where a daemon's settings come from.
pub(super) struct Provenance {
    pub(super) purpose: Purpose,
    pub(super) args: RunArgs,
    /// Listening sockets that were passed at the start.
    pub(super) sockets: Vec<PassedSocket>,
    /// In a demo, the simulator that stands for the service.
    pub(super) simulator: Option<SocketAddr>,
}

impl Provenance {
    /// Reads everything.
    ///
    /// # Errors
    /// All faults.
    pub(super) fn read(&self) -> Result<Config, Vec<ConfigError>> {
        let RunArgs { env_file, listen, .. } = &self.args;
        let (env_file, listen) = (env_file.as_deref(), listen.clone());
        let mut config = Config::from_process(self.purpose, env_file, listen, &self.sockets)?;
        if let Some(address) = self.simulator {
            config.use_simulator(address);
        }
        config.warnings.extend(service::odd_settings(&config));
        config.warnings.extend(service::language_faults(&config));
        Ok(config)
    }
}

/// The folders of the owner's. Each remembers the last good version of its files.
#[derive(Default)]
pub(super) struct Folders {
    tools: ToolFolder,
    assistants: AssistantFolder,
}

/// Makes the configuration of new calls from `config`. `token` is `None` if everybody may call.
///
/// # Errors
/// A sentence, when TLS cannot be set up.
pub(super) fn configuration(
    config: &Config,
    folders: &Folders,
    token: Option<&Secret>,
    tls: &ClientConfigs,
) -> Result<CallConfiguration, String> {
    let tools = tools(&folders.tools, config);
    let candidate = Chosen::new(service::first_candidate(config, &tools, tls)?);
    let found = folders.assistants.read(config);
    for fault in &found.faults {
        log::error!("assistants: {fault}");
    }
    let assistants = found.ready(&tools, tls)?;
    let sign_in = config.service.sign_in.clone().map(Rc::new);
    let access = access_token::access(token);
    let (mcp, unready) = (service::mcp(config), config.unready.clone());
    Ok(CallConfiguration { access, candidate, assistants, sign_in, tools, mcp, unready })
}

/// The tools of new calls. A fault is told, and costs only its file.
fn tools(folder: &ToolFolder, config: &Config) -> Tools {
    let found = folder.read(config.tools_dir.as_deref());
    for fault in &found.faults {
        log::error!("tools: {fault}");
    }
    let own = found.tools.iter().filter(|tool| tool.origin != Origin::Builtin);
    let names: Vec<&str> = own.map(|tool| tool.name.as_str()).collect();
    if !names.is_empty() {
        log::info!("tools of your own: {}", names.join(", "));
    }
    found.tools
}

/// Reads the configuration again for SIGHUP. As long as a setting that needs a restart differs from
/// `started`, a log line names it.
pub(super) fn reread(
    from: Provenance,
    started: Config,
    folders: Folders,
    tls: ClientConfigs,
) -> Reread {
    Box::new(move || {
        let one_line = |faults: Vec<ConfigError>| service::lines(&faults).replace('\n', "; ");
        let config = from.read().map_err(one_line)?;
        let token = access_token::kept_token(&config)?;
        let configuration = configuration(&config, &folders, token.as_ref(), &tls)?;
        for warning in &config.warnings {
            log::warn!("{warning}");
        }
        let stuck = started.needs_restart(&config);
        if !stuck.is_empty() {
            log::warn!("changed, but used only after a restart: {}", stuck.join(", "));
        }
        Ok(configuration)
    })
}
