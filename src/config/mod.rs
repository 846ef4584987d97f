//! Makes one validated [`Config`] of the environment and the `.env` file. It reports all faults at
//! once.
//!
//! [`VARIABLES`] is the only list of settings: parsing, defaults, `.env.example` and the check of
//! the documentation derive from it. Precedence: command line, environment, `.env` file, default.
//! An empty value counts as unset. Nothing here connects, listens or logs.

mod agent;
mod assistant;
mod change;
pub mod dotenv;
mod draft;
pub mod endpoint;
mod entra;
pub mod environment_file;
mod installed;
mod load;
mod login;
mod names;
mod network;
mod pasted;
pub mod secret;
mod sources;
mod spelling;
mod table;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use rustls::pki_types::CertificateDer;

use crate::identity::SignIn;
use crate::net::proxy::Proxy;
use crate::system::files;

pub use endpoint::Endpoint;
pub use network::OwnName;
pub use secret::Secret;
pub use sources::{EnvFile, PassedSocket, Sources};
pub use table::{VARIABLES, Variable, secret_names};

/// Everything the daemon can be told, validated. Hand each layer its own part, not the whole.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the Voice Live service is and how to log in.
    pub service: ServiceConfig,
    /// What every conversation starts with.
    pub session: SessionConfig,
    /// Bounds that protect memory and money.
    pub limits: Limits,
    /// The side that faces browsers.
    pub web: Web,
    /// Who may call.
    pub access: AccessConfig,
    /// Folder for what is kept from one start to the next; `None` if nothing names one. It may not
    /// be there yet.
    pub state_dir: Option<PathBuf>,
    /// The MCP servers whose tools the model is offered.
    pub mcp: McpConfig,
    /// Folder with the owner's tools, one JSON file each; `None` for none.
    pub tools_dir: Option<PathBuf>,
    /// Folder with the owner's assistants, one JSON file each; `None` for none.
    pub assistants_dir: Option<PathBuf>,
    /// The most detailed level that is logged.
    pub log: log::LevelFilter,
    /// Why no call can be made: the settings that are missing. Only a daemon under a service
    /// manager starts without them (see [`load`](Self::load)).
    pub unready: Option<String>,
    /// Files that hold secrets: the key's, the token's, the certificate's key, a `.env` with one.
    pub secret_files: Vec<PathBuf>,
    /// Sentences worth a log line at `warn`: odd but no reason to refuse to start.
    pub warnings: Vec<String>,
}

/// How to reach the service.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// Complete address, with `api-version` and `model` in its query.
    pub endpoint: Endpoint,
    /// Value of the `api-key` header: visible ASCII, so it cannot break out of its header line. It is a
    /// placeholder where [`Self::sign_in`] stands for it.
    pub key: Secret,
    /// Entra ID in place of the key.
    pub sign_in: Option<SignIn>,
    /// The `api-version` that is part of [`Self::endpoint`].
    pub api_version: String,
    /// Trust anchors besides the built-in ones; usually none.
    pub extra_authorities: Vec<CertificateDer<'static>>,
    /// The proxy on the way to the service, if there is one.
    pub proxy: Option<Proxy>,
}

/// Settings of the service's `session` object.
#[derive(Debug, Clone, Default)]
pub struct SessionConfig {
    /// Names of the models. The first one is asked for first. The others follow when it is refused.
    /// The first is also part of the endpoint's query. There is none if an agent is asked for.
    pub models: Vec<String>,
    /// Name of the agent that holds the conversation in place of a model; empty for none.
    pub assistant: String,
    /// Name of the voice; empty for the agent's own.
    pub voice: String,
    /// The owner has named the voice: a model that refuses it gets another one only with a warning.
    pub voice_is_chosen: bool,
    /// System prompt.
    pub instructions: String,
    /// Language hint for the transcription: `en-US`, or several such as `en,de`.
    pub language: Option<String>,
    /// Sentence spoken when a call begins.
    pub greeting: Option<String>,
    /// JSON merged over the `session` object last.
    pub overrides: serde_json::Map<String, serde_json::Value>,
}

/// Bounds on what clients can use.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Calls at the same time.
    pub max_sessions: usize,
    /// Calls at the same time from one client address.
    pub max_sessions_per_address: usize,
    /// Length of one call.
    pub max_session: Duration,
    /// Time in which neither side speaks before a call ends.
    pub idle: Duration,
    /// How long a call that has lost the service tries to go on; zero ends it at once.
    pub reconnect: Duration,
    /// A reply that a lost session has cut off is continued in the next one.
    pub continue_reply: bool,
    /// A client may ask that speech holds the reply until it is known to be a turn.
    pub reversible_barge_in: bool,
    /// How long a session of the service is used that tells no end; `None` for as long as it lasts.
    pub session_time: Option<Duration>,
    /// How long a call is held for a client whose connection broke; zero ends it at once.
    pub resume: Duration,
    /// New connections to the service in a minute, from which on a call that has lost it waits.
    pub connects_per_minute: usize,
    /// Minutes of calls in a day (UTC), all together; `None` for no limit.
    pub daily: Option<Duration>,
    /// How long running calls may go on after SIGTERM; zero ends them at once.
    pub drain: Duration,
    /// Reply audio that can wait in all calls together.
    pub audio_pool: Duration,
}

impl Limits {
    /// PCM that every call is promised: two seconds of microphone and one of reply.
    pub const GUARANTEED_PER_CALL: Duration = Duration::from_secs(3);
}

/// The listening side.
#[derive(Debug, Clone, Default)]
pub struct Web {
    /// Plain HTTP address; `None` when switched off. Port 0 lets the system choose.
    pub listen: Option<SocketAddr>,
    /// HTTPS address; `None` when switched off.
    pub tls_listen: Option<SocketAddr>,
    /// The owner's certificate chain and private key; without them a local authority is made.
    pub tls_files: Option<(PathBuf, PathBuf)>,
    /// Origins besides the daemon's own whose pages may open `/ws`, in the form browsers send.
    pub allowed_origins: Vec<String>,
    /// Names and addresses by which clients reach the daemon, besides those that the system knows.
    pub names: Vec<OwnName>,
    /// Reverse proxies: their word on a client's address is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins whose pages may show the daemon's page in a frame, in the form browsers send.
    pub frame_ancestors: Vec<String>,
}

impl Web {
    /// Whether other machines can reach the daemon. Through a proxy they can, although to the daemon each of
    /// them may come from loopback.
    #[must_use]
    pub fn is_beyond_loopback(&self) -> bool {
        let mut all = self.listen.iter().chain(&self.tls_listen);
        !self.trusted_proxies.is_empty()
            || all.any(|address| !address.ip().to_canonical().is_loopback())
    }
}

/// The MCP servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct McpConfig {
    /// The servers of the file that can be used.
    pub servers: Vec<crate::mcp::file::Server>,
    /// The names of those that have a fault; `None` if the whole file has one.
    pub faulty: Vec<Option<String>>,
    /// The most bytes that their tools' names, descriptions and schemas may have together.
    pub schema_budget: usize,
}

/// Who may call.
#[derive(Debug, Clone)]
pub enum AccessConfig {
    /// Everybody who reaches the daemon.
    Open,
    /// Clients that show this token.
    Token(Secret),
    /// Clients that show the token that the daemon makes and keeps in [`Config::state_dir`].
    OwnToken,
}

/// The kind of service that the configuration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Calls go to the configured service: endpoint and key are required.
    Service,
    /// Calls go to the built-in simulator. The settings of the service's address, key and trust are
    /// ignored. Finish with [`Config::use_simulator`].
    Demo,
}

impl Config {
    /// Builds the configuration from `sources`; `files` reads the files that settings name.
    ///
    /// Under a service manager (`NOTIFY_SOCKET`) a missing endpoint or key is no fault. It makes
    /// the configuration [`unready`](Self::unready): no person at a terminal would read the fault,
    /// and the manager would only start the daemon again. A setting with a wrong value is always a
    /// fault.
    ///
    /// # Errors
    /// Every fault found, in the order of [`VARIABLES`] after the faults of the sources.
    pub fn load(
        purpose: Purpose,
        sources: Sources,
        files: Files<'_>,
    ) -> Result<Self, Vec<ConfigError>> {
        load::load(purpose, sources, files)
    }

    /// [`Config::load`] from this process's environment, `--listen`, `sockets`, and `env_file` or,
    /// if that is `None`, the file `.env` in the working directory when there is one. Warns of
    /// files with secrets that every user can read.
    ///
    /// # Errors
    /// As [`Config::load`], and when the file cannot be read.
    pub fn from_process(
        purpose: Purpose,
        env_file: Option<&Path>,
        listen: Option<String>,
        sockets: &[PassedSocket],
    ) -> Result<Self, Vec<ConfigError>> {
        let mut sources = Sources::from_environment(std::env::vars_os());
        sources.listen = listen;
        sources.sockets = sockets.to_vec();
        sources.env_file = EnvFile::find(env_file).map_err(|fault| vec![fault])?;
        let mut config = Self::load(purpose, sources, &files::read)?;
        config.warnings.extend(config.secret_files.iter().filter_map(|path| secret::exposed(path)));
        Ok(config)
    }

    /// The access token that a client in this process has to show. It comes from the `named` file,
    /// else from the environment or the `.env` file. Faults of other settings are ignored, and so
    /// is a `.env` that cannot be read and was not named.
    ///
    /// # Errors
    /// What is wrong with the token or its file.
    pub fn client_token(
        token_file: Option<&Path>,
        env_file: Option<&Path>,
    ) -> Result<Option<Secret>, Vec<ConfigError>> {
        let mut sources = Sources::from_environment(std::env::vars_os());
        sources.env_file = match EnvFile::find(env_file) {
            Err(fault) if env_file.is_some() => return Err(vec![fault]),
            found => found.unwrap_or_default(),
        };
        load::client_token(token_file, sources, &files::read)
    }

    /// Points a [`Purpose::Demo`] configuration at the simulator listening on `address`.
    pub fn use_simulator(&mut self, address: SocketAddr) {
        self.service.endpoint = Endpoint::plain(address);
        let model = self.session.models.first().map_or("", String::as_str);
        self.service.endpoint.set_query(&self.service.api_version, model);
    }
}

/// Reads at most the given number of bytes of a file; a longer file is an error.
pub type Files<'a> = &'a dyn Fn(&Path, usize) -> io::Result<Vec<u8>>;

/// One fault: what is wrong, where it is, and how to correct it. It is displayed as one line and
/// never shows a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Name of the variable or file.
    pub what: String,
    /// Where the value came from; `None` when it is missing.
    pub place: Option<SettingSource>,
    /// The fault and the remedy.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{} ({place}): {}", self.what, self.message),
            None => write!(f, "{}: {}", self.what, self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

/// The source of a setting: where its value was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingSource {
    /// The `--listen` option.
    Option,
    /// A socket that was handed over at the start.
    Socket,
    /// The process's environment.
    Environment,
    /// A line of the `.env` file.
    File {
        /// The file as named by the user.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// `$CREDENTIALS_DIRECTORY`.
    Credential,
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option => f.write_str("option --listen"),
            Self::Socket => f.write_str("passed socket"),
            Self::Environment => f.write_str("environment"),
            // Escaped, because a file name may hold a line break.
            Self::File { path, line } => {
                let path = path.display().to_string();
                write!(f, "line {line} of {}", path.escape_debug())
            }
            Self::Credential => f.write_str("systemd credential"),
        }
    }
}
