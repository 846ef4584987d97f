//! Collects the settings from their sources, decides which source counts, and builds the
//! configuration.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::draft::Draft;
use super::names::{
    AZURE_PREFIX, AZURE_SHORT_PREFIX, CLIENT, CLIENT_SECRET, ENDPOINT, ENTRA_COMMAND, ENTRA_FILE,
    FEDERATED_FILE, KEY, KEY_FILE, LISTEN, OWN_PREFIX, PAIRS, SECRETS, SERVICE_FILE, STATE_DIR,
    TENANT, TLS_LISTEN, TOKEN, TOKEN_FILE, VOICE,
};
use super::pasted::Pasted;
use super::sources::{EnvFile, Sources};
use super::spelling::{is_ours, near_miss, nearest};
use super::{
    AccessConfig, Config, ConfigError, Endpoint, Files, Limits, Purpose, Secret, ServiceConfig,
    SettingSource, VARIABLES, Variable, dotenv, environment_file, installed,
};

pub(super) fn load(
    purpose: Purpose,
    sources: Sources,
    files: Files<'_>,
) -> Result<Config, Vec<ConfigError>> {
    let credentials = credentials_directory(&sources);
    let differences = match (purpose, &sources.service_file, &credentials) {
        (Purpose::Service, Some(file), _) => installed::differences(&file.path, &file.bytes),
        (Purpose::Service, None, Some(folder)) => installed::of_copy(folder, files),
        _ => Vec::new(),
    };
    let supervised = sources.environment.iter().any(|(name, _)| name == "NOTIFY_SOCKET");
    let mut loader = Loader::new(files);
    let state_dir = state_directory(&sources);
    loader.draft.environment = shareable(&sources);
    loader.collect(sources);
    loader.judge_unknown_names();
    loader.parse_all(&|variable| purpose == Purpose::Service || !variable.service_only);
    loader.draft.state_dir = loader.draft.state_dir.take().or(state_dir);
    if purpose == Purpose::Service {
        loader.settle_pasted();
        let host = loader.draft.endpoint.as_ref().map(|endpoint| endpoint.host.clone());
        loader.draft.proxy = host.and_then(|host| loader.proxy_to(&host));
        loader.find_credentials(credentials);
        loader.settle_login();
        let missing = loader.require_service();
        if !supervised {
            loader.errors.extend(missing);
        } else if !missing.is_empty() {
            let names: Vec<_> = missing.iter().map(|fault| fault.what.as_str()).collect();
            loader.draft.unready = Some(loader.unready(&names));
        }
    }
    loader.settle_servers();
    loader.check_pool();
    loader.require_listener();
    loader.settle_tls_files();
    let access = loader.settle_access();
    loader.draft.warnings.extend(differences.iter().map(ToString::to_string));
    // Beside faults they are told as faults, since they may be why something is missing or wrong.
    loader.finish(access).map_err(|mut faults| {
        faults.extend(differences);
        faults
    })
}

/// Loads only the token, for a client of the daemon.
pub(super) fn client_token(
    named: Option<&Path>,
    sources: Sources,
    files: Files<'_>,
) -> Result<Option<Secret>, Vec<ConfigError>> {
    let mut loader = Loader::new(files);
    if let Some(path) = named {
        let fault = |message| ConfigError { what: "--token-file".to_owned(), place: None, message };
        let path = path.to_str().ok_or_else(|| vec![fault("is not UTF-8 text".to_owned())])?;
        super::draft::token_file(&mut loader.draft, path, files)
            .map_err(|message| vec![fault(message)])?;
        return Ok(loader.draft.token);
    }
    loader.collect(sources);
    loader.errors.retain(|error| [TOKEN, TOKEN_FILE].contains(&error.what.as_str()));
    loader.parse_all(&|variable| [TOKEN, TOKEN_FILE].contains(&variable.name));
    if loader.errors.is_empty() { Ok(loader.draft.token) } else { Err(loader.errors) }
}

/// The default state folder: the one that systemd has made for the service (the first, if there are
/// several), else the user's. As the XDG base directories demand, relative paths are ignored.
fn state_directory(sources: &Sources) -> Option<PathBuf> {
    let folder = |wanted: &str| {
        let (_, value) = sources.environment.iter().find(|(name, _)| name == wanted)?;
        let value = value.to_str()?;
        let first = if wanted == "STATE_DIRECTORY" { value.split(':').next()? } else { value };
        let path = Path::new(first);
        path.is_absolute().then(|| path.to_owned())
    };
    folder("STATE_DIRECTORY")
        .or_else(|| folder("XDG_STATE_HOME").map(|path| path.join("voicelived")))
        .or_else(|| folder("HOME").map(|path| path.join(".local/state/voicelived")))
}

/// The environment without this program's own settings and secrets: what the MCP file may name.
fn shareable(sources: &Sources) -> Vec<(String, String)> {
    let text = |(name, value): &(OsString, OsString)| {
        let (name, value) = (name.to_str()?, value.to_str()?);
        let is_own =
            [AZURE_PREFIX, AZURE_SHORT_PREFIX, OWN_PREFIX].iter().any(|it| name.starts_with(it));
        (!is_own && !SECRETS.contains(&name)).then(|| (name.to_owned(), value.to_owned()))
    };
    sources.environment.iter().filter_map(text).collect()
}

fn credentials_directory(sources: &Sources) -> Option<PathBuf> {
    let mut variables = sources.environment.iter();
    let (_, path) = variables.find(|(name, _)| name == "CREDENTIALS_DIRECTORY")?;
    Some(PathBuf::from(path))
}

/// One value from one source.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    /// The rank of the source. The lowest one wins.
    pub(super) rank: u8,
    pub(super) place: SettingSource,
    pub(super) name: String,
    pub(super) value: String,
}

pub(super) struct Loader<'a> {
    pub(super) files: Files<'a>,
    pub(super) draft: Draft,
    pub(super) settings: Vec<Setting>,
    /// The variables that are set: each with the name and the place that count.
    pub(super) set: Vec<(&'static str, String, SettingSource)>,
    pub(super) errors: Vec<ConfigError>,
    /// The key was handed over as a credential with nothing in it.
    pub(super) empty_key: bool,
}

impl<'a> Loader<'a> {
    fn new(files: Files<'a>) -> Self {
        let (settings, set, errors) = (Vec::new(), Vec::new(), Vec::new());
        Self { files, draft: Draft::default(), settings, set, errors, empty_key: false }
    }

    pub(super) fn fault(
        &mut self,
        what: &str,
        place: Option<SettingSource>,
        message: impl Into<String>,
    ) {
        self.errors.push(ConfigError { what: what.to_owned(), place, message: message.into() });
    }

    fn collect(&mut self, sources: Sources) {
        if let Some(value) = sources.listen {
            self.add(0, SettingSource::Option, LISTEN.to_owned(), value);
        }
        for (name, secure) in [(TLS_LISTEN, true), (LISTEN, false)] {
            // The socket that most machines can reach counts: it decides whether a token is needed.
            let of_kind = sources.sockets.iter().filter(|socket| socket.secure == secure);
            let widest =
                of_kind.min_by_key(|socket| socket.address.ip().to_canonical().is_loopback());
            if let Some(socket) = widest {
                self.add(0, SettingSource::Socket, name.to_owned(), socket.address.to_string());
            }
        }
        for (name, value) in sources.environment {
            let Some(name) = name.to_str() else { continue };
            if !is_ours(name) {
                self.warn_of_near_miss(name, &SettingSource::Environment);
                continue;
            }
            match value.into_string() {
                Ok(value) => self.add(1, SettingSource::Environment, name.to_owned(), value),
                Err(_) => self.fault(name, Some(SettingSource::Environment), "is not UTF-8 text"),
            }
        }
        if let Some(file) = sources.service_file {
            self.collect_service_file(&file);
        }
        if let Some(file) = sources.env_file {
            self.collect_file(&file);
        }
    }

    fn collect_file(&mut self, file: &EnvFile) {
        for line in dotenv::parse(&file.bytes) {
            let place = |line| SettingSource::File { path: file.path.clone(), line };
            match line {
                Ok(entry) if is_ours(&entry.name) => {
                    self.add(2, place(entry.line), entry.name, entry.value);
                }
                Ok(entry) => self.warn_of_near_miss(&entry.name, &place(entry.line)),
                Err(fault) if fault.name.as_deref().is_none_or(is_ours) => {
                    let what = fault.name.as_deref().unwrap_or("setting");
                    self.fault(what, Some(place(fault.line)), fault.message);
                }
                _ => {}
            }
        }
    }

    /// What systemd makes of the file. Lines that it ignores are no faults, but told (`installed`). Of
    /// several with one name the last counts.
    fn collect_service_file(&mut self, file: &EnvFile) {
        let place = |line| SettingSource::File { path: file.path.clone(), line };
        let mut last: Vec<dotenv::Entry> = Vec::new();
        for line in environment_file::parse(&file.bytes) {
            match line {
                Ok(entry) => {
                    last.retain(|other| other.name != entry.name);
                    last.push(entry);
                }
                Err(fault) if environment_file::spoils_all(&fault) => {
                    self.fault("setting", Some(place(fault.line)), fault.message);
                }
                Err(_) => {}
            }
        }
        for entry in last {
            if is_ours(&entry.name) {
                self.add(1, place(entry.line), entry.name, entry.value);
            } else {
                self.warn_of_near_miss(&entry.name, &place(entry.line));
            }
        }
    }

    fn add(&mut self, rank: u8, place: SettingSource, name: String, value: String) {
        if !value.is_empty() {
            self.settings.push(Setting { rank, place, name, value });
        }
    }

    /// Warns of a variable that may be a misspelt setting of ours. Other programs' variables are
    /// ignored.
    fn warn_of_near_miss(&mut self, name: &str, place: &SettingSource) {
        if let Some(meant) = near_miss(name) {
            let warning =
                format!("{name} ({place}): not used by voicelived; did you mean {meant}?");
            self.draft.warnings.push(warning);
        }
    }

    fn judge_unknown_names(&mut self) {
        let known: Vec<String> = VARIABLES.iter().flat_map(Variable::spellings).collect();
        for setting in std::mem::take(&mut self.settings) {
            if known.contains(&setting.name) {
                self.settings.push(setting);
                continue;
            }
            let nearest = nearest(&setting.name, &known);
            let hint = match nearest {
                Some(name) => format!("did you mean {name}?"),
                None => "see .env.example for the names".to_owned(),
            };
            if setting.name.starts_with(OWN_PREFIX) {
                let message = format!("no setting has this name; {hint}");
                self.fault(&setting.name, Some(setting.place), message);
            } else {
                let (name, place) = (&setting.name, &setting.place);
                let warning = format!("{name} ({place}): not used by voicelived; {hint}");
                self.draft.warnings.push(warning);
            }
        }
    }

    fn parse_all(&mut self, looked_at: &dyn Fn(&Variable) -> bool) {
        let mut chosen: Vec<Option<Setting>> = VARIABLES
            .iter()
            .map(|variable| looked_at(variable).then(|| self.choose(variable)).flatten())
            .collect();
        for (one, other) in PAIRS {
            self.settle_pair(&mut chosen, one, other);
        }
        for (variable, setting) in VARIABLES.iter().zip(chosen) {
            let text = setting.as_ref().map_or(variable.default, |s| &s.value);
            if text.is_empty() {
                continue;
            }
            if let Some(Setting { place: SettingSource::File { path, .. }, .. }) = &setting
                && SECRETS.contains(&variable.name)
                && !self.draft.secret_files.contains(path)
            {
                self.draft.secret_files.push(path.clone());
            }
            if let Some(setting) = &setting {
                self.set.push((variable.name, setting.name.clone(), setting.place.clone()));
                self.draft.session.voice_is_chosen |= variable.name == VOICE;
            }
            if let Err(message) = (variable.parse)(&mut self.draft, text, self.files) {
                let (name, place) = match setting {
                    Some(setting) => (setting.name, Some(setting.place)),
                    None => (variable.name.to_owned(), None),
                };
                self.fault(&name, place, message);
            }
        }
    }

    /// Lets the endpoint's query count where the settings say nothing.
    fn settle_pasted(&mut self) {
        let pasted = Pasted::read(&self.draft.own_query);
        let set = std::mem::take(&mut self.set);
        let find = |wanted: &str| set.iter().find(|(variable, ..)| *variable == wanted);
        let told = |wanted: &str| find(wanted).map(|(_, name, place)| format!("{name} ({place})"));
        let outcome = pasted.settle(&mut self.draft, &told);
        let (name, place) = find(ENDPOINT)
            .map_or((ENDPOINT, None), |(_, name, place)| (name.as_str(), Some(place.clone())));
        for message in outcome.err().into_iter().flatten() {
            self.fault(name, place.clone(), message);
        }
        if let Some((missing, set)) = pasted.incomplete_agent(&self.draft) {
            self.fault(missing, None, format!("is not set, but {set} is; set both"));
        }
    }

    /// The setting that counts for `variable`. Two of the same rank must agree.
    pub(super) fn choose(&mut self, variable: &Variable) -> Option<Setting> {
        if let Some(spellings) = variable.shared() {
            let strength = |name: &str| spellings.iter().position(|known| *known == name);
            let found = self.settings.iter().filter(|s| spellings.contains(&s.name.as_str()));
            return found.min_by_key(|s| (s.rank, strength(&s.name))).cloned();
        }
        let names = variable.spellings();
        let mut found = self.settings.iter().filter(|s| names.contains(&s.name));
        let first = found.clone().min_by_key(|s| s.rank)?.clone();
        let rival = found.rfind(|s| s.rank == first.rank && s.value != first.value).cloned();
        if let Some(rival) = rival {
            let message =
                format!("contradicts {} ({}); keep only one of them", first.name, first.place);
            self.fault(&rival.name, Some(rival.place), message);
        }
        if first.place == SettingSource::Socket {
            let others = self.settings.iter().filter(|s| names.contains(&s.name));
            let unused = others.filter(|s| s.rank > 0 && s.value != first.value);
            self.draft.warnings.extend(unused.map(|unused| {
                let (name, place) = (&unused.name, &unused.place);
                format!(
                    "{name} ({place}): not used, a socket for {} was passed instead",
                    first.value
                )
            }));
        }
        Some(first)
    }

    /// If two variables say the same thing, drops the one from the weaker source.
    fn settle_pair(&mut self, chosen: &mut [Option<Setting>], one: &str, other: &str) {
        let index = |name| VARIABLES.iter().position(|variable| variable.name == name);
        let (Some(one), Some(other)) = (index(one), index(other)) else {
            return;
        };
        let (Some(a), Some(b)) = (&chosen[one], &chosen[other]) else {
            return;
        };
        if a.rank == b.rank {
            let message = format!("{} ({}) is set too; keep only one of them", a.name, a.place);
            let (name, place) = (b.name.clone(), b.place.clone());
            self.fault(&name, Some(place), message);
        }
        let weaker = if a.rank < b.rank { other } else { one };
        chosen[weaker] = None;
    }

    /// The faults for missing settings without which no call can be made.
    fn require_service(&self) -> Vec<ConfigError> {
        let mut missing = Vec::new();
        let faulty = |errors: &[ConfigError], name: &str| {
            let short = name.replace(AZURE_PREFIX, AZURE_SHORT_PREFIX);
            errors.iter().any(|e| e.what.starts_with(name) || e.what.starts_with(&short))
        };
        if self.draft.endpoint.is_none() && !faulty(&self.errors, ENDPOINT) {
            let remedy = "put the resource's endpoint into the environment or .env, or try \
                          `voicelived demo`";
            missing.push(self.missing(ENDPOINT, remedy));
        }
        let entra = [ENTRA_FILE, ENTRA_COMMAND, TENANT, CLIENT, CLIENT_SECRET, FEDERATED_FILE]
            .iter()
            .any(|name| faulty(&self.errors, name));
        let none = self.draft.key.is_none() && self.draft.sign_in.is_none();
        if none && !entra && !faulty(&self.errors, KEY) {
            let remedy = "put the resource's key into the environment or .env, or name its file in \
                          AZURE_VOICE_LIVE_API_KEY_FILE; or log in with Entra ID \
                          (docs/operations.md)";
            missing.push(self.missing(KEY, remedy));
        }
        missing
    }

    /// Why a daemon under a service manager can make no call. The key's usual file may be there without
    /// having been handed over: some containers' images empty `LoadCredential=` of every service.
    fn unready(&self, missing: &[&str]) -> String {
        let names = missing.join(" and ");
        let mut sentence = format!(
            "This device is not set up yet: its owner must set {names} and restart the daemon."
        );
        if missing.contains(&KEY) {
            sentence.push_str(&self.withheld_key());
        }
        sentence
    }

    /// What the key's usual file tells of a key that the daemon does not have.
    fn withheld_key(&self) -> String {
        let emptied = format!(
            " The file {KEY_FILE} exists, but systemd has not handed it over: a drop-in has emptied \
             LoadCredential= (systemctl cat voicelived shows it). Put the key into {SERVICE_FILE} \
             instead, as {KEY}=…"
        );
        let empty = format!(" The file {KEY_FILE} is empty: put the key into it.");
        match (self.files)(Path::new(KEY_FILE), Secret::MAX_BYTES) {
            Ok(bytes) if bytes.trim_ascii().is_empty() => empty,
            Ok(_) => emptied,
            // The daemon may not read it. That it may not tells that it is there.
            Err(fault) if fault.kind() == io::ErrorKind::PermissionDenied => {
                if self.empty_key {
                    empty
                } else {
                    emptied
                }
            }
            // Some programs make a folder of a file that they are to pass on and do not find.
            Err(fault) if fault.kind() == io::ErrorKind::IsADirectory => {
                format!(" {KEY_FILE} is a folder: put a file with the key in its place.")
            }
            Err(_) => String::new(),
        }
    }

    /// Says that `name` is not set, and which misspelt name may be meant for it.
    fn missing(&self, name: &str, remedy: &str) -> ConfigError {
        let question = format!("did you mean {name}?");
        let slip = self.draft.warnings.iter().find(|w| w.ends_with(&question));
        let message = match slip {
            Some(slip) => format!("is not set; {slip}"),
            None => format!("is not set; {remedy}"),
        };
        ConfigError { what: name.to_owned(), place: None, message }
    }

    /// Each call reserves blocks at its start. So the pool must be large enough for all calls
    /// together.
    fn check_pool(&mut self) {
        let Limits { max_sessions, audio_pool, .. } = self.draft.limits;
        let needed = max_sessions as u64 * Limits::GUARANTEED_PER_CALL.as_secs();
        if audio_pool.as_secs() < needed && max_sessions > 0 && !audio_pool.is_zero() {
            let message = format!(
                "must be at least {needed} for {max_sessions} calls; raise it or lower VOICELIVED_MAX_SESSIONS"
            );
            self.fault("VOICELIVED_AUDIO_POOL_SECONDS", None, message);
        }
    }

    /// At least one listener must be on. Without one, no client could reach the daemon.
    fn require_listener(&mut self) {
        let faulty = |error: &ConfigError| [LISTEN, TLS_LISTEN].contains(&error.what.as_str());
        if self.draft.web.listen.is_none()
            && self.draft.web.tls_listen.is_none()
            && !self.errors.iter().any(faulty)
        {
            let message = "is off, and so is VOICELIVED_TLS_LISTEN: no client could reach the \
                           daemon; give one of them an address, such as 127.0.0.1:8000";
            self.fault(LISTEN, None, message);
        }
    }

    /// A certificate and its key must be set together.
    fn settle_tls_files(&mut self) {
        let draft = &mut self.draft;
        match (draft.tls_cert.take(), draft.tls_key.take()) {
            (Some(cert), Some(key)) => {
                draft.secret_files.push(key.clone());
                draft.web.tls_files = Some((cert, key));
            }
            (None, None) => {}
            (Some(_), None) => {
                self.fault(
                    "VOICELIVED_TLS_KEY",
                    None,
                    "is not set, but VOICELIVED_TLS_CERT is; set both",
                );
            }
            (None, Some(_)) => {
                self.fault(
                    "VOICELIVED_TLS_CERT",
                    None,
                    "is not set, but VOICELIVED_TLS_KEY is; set both",
                );
            }
        }
    }

    /// Decides whether clients need a token. They do if other machines can reach the daemon or a
    /// token is set, unless the owner decides otherwise.
    fn settle_access(&mut self) -> AccessConfig {
        let beyond = self.draft.web.is_beyond_loopback();
        let token = self.draft.token.take();
        if !self.draft.asks_token.unwrap_or_else(|| beyond || token.is_some()) {
            if beyond {
                let warning =
                    "VOICELIVED_ACCESS: open lets everybody on the network call, at your expense";
                self.draft.warnings.push(warning.to_owned());
            }
            return AccessConfig::Open;
        }
        let Some(token) = token else {
            let faulty =
                |error: &ConfigError| [TOKEN, TOKEN_FILE, STATE_DIR].contains(&error.what.as_str());
            if self.draft.state_dir.is_none() && !self.errors.iter().any(faulty) {
                let message = "there is no folder to keep the access token in; set this one or \
                               VOICELIVED_ACCESS_TOKEN";
                self.fault(STATE_DIR, None, message);
            }
            return AccessConfig::OwnToken;
        };
        AccessConfig::Token(token)
    }

    fn finish(self, access: AccessConfig) -> Result<Config, Vec<ConfigError>> {
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        let draft = self.draft;
        // Only the demo has no endpoint, and it sets its own later.
        let nowhere = || Endpoint::plain(([127, 0, 0, 1], 0).into());
        let mut endpoint = draft.endpoint.unwrap_or_else(nowhere);
        let model = draft.session.models.first().map_or("", String::as_str);
        endpoint.set_query(&draft.api_version, model);
        Ok(Config {
            service: ServiceConfig {
                endpoint,
                key: draft.key.unwrap_or_else(Secret::placeholder),
                sign_in: draft.sign_in,
                api_version: draft.api_version,
                extra_authorities: draft.authorities,
                proxy: draft.proxy,
            },
            session: draft.session,
            limits: draft.limits,
            web: draft.web,
            access,
            state_dir: draft.state_dir,
            mcp: draft.mcp,
            tools_dir: draft.tools_dir,
            assistants_dir: draft.assistants_dir,
            log: draft.log.unwrap_or(log::LevelFilter::Info),
            unready: draft.unready,
            secret_files: draft.secret_files,
            warnings: draft.warnings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_parse() {
        let no_files: Files<'_> = &|_, _| Err(io::ErrorKind::NotFound.into());
        let mut draft = Draft::default();
        for variable in VARIABLES.iter().filter(|v| !v.default.is_empty()) {
            (variable.parse)(&mut draft, variable.default, no_files).unwrap();
        }
    }

    #[test]
    fn names_in_pairs_exist() {
        for name in PAIRS.iter().flat_map(|(a, b)| [a, b]).chain([&ENDPOINT]) {
            assert!(VARIABLES.iter().any(|variable| variable.name == *name));
        }
    }
}
