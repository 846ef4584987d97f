//! The configuration that the installed service starts with, made without systemd.

use std::net::SocketAddr;
use std::path::Path;

use super::names::{
    ASSISTANTS_DIR, ENTRA_COMMAND, ENTRA_FILE, KEY, KEY_FILE, SERVICE_FILE, TOOLS_DIR,
};
use super::{
    Config, ConfigError, EnvFile, Files, PassedSocket, Purpose, SettingSource, Sources, dotenv,
    environment_file, secret,
};
use crate::system::files;

/// The folder that the unit's `StateDirectory=` makes.
const STATE_DIRECTORY: &str = "/var/lib/voicelived";

/// The name that the unit's `LoadCredential=` gives to the copy of the settings file.
const SETTINGS_COPY: &str = "voicelived.env";

/// The folders with the owner's tools and assistants, which the unit names.
const FOLDERS: [(&str, &str); 2] =
    [(TOOLS_DIR, "/etc/voicelived/tools.d"), (ASSISTANTS_DIR, "/etc/voicelived/assistants.d")];

/// The variable that names the key's file, which stands for the unit's `LoadCredential=`.
const KEY_FILE_NAME: &str = "AZURE_VOICE_LIVE_API_KEY_FILE";

impl Config {
    /// The configuration of the installed service: its settings file read as systemd reads it, its key
    /// and state folder, and the sockets of the package. Nothing of this process's environment counts.
    /// `file` stands for the settings file.
    ///
    /// # Errors
    /// As [`Config::load`], and when the file cannot be read.
    pub fn of_service(purpose: Purpose, file: Option<&Path>) -> Result<Self, Vec<ConfigError>> {
        let path = file.unwrap_or_else(|| Path::new(SERVICE_FILE));
        let file = EnvFile::find(Some(path)).map_err(|fault| vec![fault])?;
        let bytes = file.as_ref().map(|file| file.bytes.clone()).unwrap_or_default();
        let mut sources = Sources { service_file: file, sockets: sockets(), ..Sources::default() };
        sources.environment = vec![("STATE_DIRECTORY".into(), STATE_DIRECTORY.into())];
        let entries = environment_file::parse(&bytes);
        let mut names =
            entries.iter().flatten().map(|entry| entry.name.replace("VOICELIVE", "VOICE_LIVE"));
        let has_key = names.any(|name| {
            [KEY, KEY_FILE_NAME, ENTRA_FILE, ENTRA_COMMAND].iter().any(|it| name == *it)
        });
        for (name, folder) in FOLDERS {
            if !entries.iter().flatten().any(|entry| entry.name == name) {
                sources.environment.push((name.into(), folder.into()));
            }
        }
        if !has_key && Path::new(KEY_FILE).exists() {
            sources.environment.push((KEY_FILE_NAME.into(), KEY_FILE.into()));
        }
        let mut config = Self::load(purpose, sources, &files::read)?;
        config.warnings.extend(config.secret_files.iter().filter_map(|path| secret::exposed(path)));
        Ok(config)
    }
}

/// Where systemd reads the settings file otherwise than other readers of such files do.
pub(super) fn differences(path: &Path, bytes: &[u8]) -> Vec<ConfigError> {
    let told = environment_file::differences(bytes).into_iter();
    told.map(|(line, message)| ConfigError {
        what: "systemd".to_owned(),
        place: Some(SettingSource::File { path: path.to_owned(), line }),
        message,
    })
    .collect()
}

/// The same of the copy that the unit hands to the daemon, which cannot read the file itself. A daemon
/// without a copy, or with one that is too long, says nothing of it.
pub(super) fn of_copy(credentials: &Path, files: Files<'_>) -> Vec<ConfigError> {
    let bytes = files(&credentials.join(SETTINGS_COPY), dotenv::MAX_BYTES).unwrap_or_default();
    differences(Path::new(SERVICE_FILE), &bytes)
}

/// What the package's socket units listen on.
fn sockets() -> Vec<PassedSocket> {
    let secure = SocketAddr::from(([0_u16; 8], 8443));
    let plain = SocketAddr::from(([127, 0, 0, 1], 8000));
    vec![
        PassedSocket { address: secure, secure: true },
        PassedSocket { address: plain, secure: false },
    ]
}
