//! The configuration that the installed service starts with, made without systemd.

use std::net::SocketAddr;
use std::path::Path;

use super::names::{ENTRA_COMMAND, ENTRA_FILE, KEY, KEY_FILE, SERVICE_FILE, TOOLS_DIR};
use super::{
    Config, ConfigError, EnvFile, PassedSocket, Place, Purpose, Sources, environment_file, secret,
};
use crate::system::files;

/// The folder that the unit's `StateDirectory=` makes.
const STATE_DIRECTORY: &str = "/var/lib/voicelived";

/// The folder with the owner's tools, which the unit names.
const TOOLS_FOLDER: &str = "/etc/voicelived/tools.d";

/// The variable that names the key's file, which stands for the unit's `LoadCredential=`.
const KEY_FILE_NAME: &str = "AZURE_VOICE_LIVE_API_KEY_FILE";

impl Config {
    /// The configuration of the installed service: its settings file read as systemd reads it, its key
    /// and state folder, and the sockets of the package. Nothing of this process's environment counts.
    /// `file` stands for the settings file.
    ///
    /// # Errors
    /// As [`Config::load`], and when the file cannot be read. Where systemd reads the file otherwise than
    /// expected is among them, since that may be why something is missing.
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
        if !entries.iter().flatten().any(|entry| entry.name == TOOLS_DIR) {
            sources.environment.push((TOOLS_DIR.into(), TOOLS_FOLDER.into()));
        }
        if !has_key && Path::new(KEY_FILE).exists() {
            sources.environment.push((KEY_FILE_NAME.into(), KEY_FILE.into()));
        }
        let loaded = Self::load(purpose, sources, &files::read);
        let mut config = loaded.map_err(|mut faults| {
            let told = environment_file::differences(&bytes).into_iter();
            faults.extend(told.map(|(line, message)| ConfigError {
                what: "systemd".to_owned(),
                place: Some(Place::File { path: path.to_owned(), line }),
                message,
            }));
            faults
        })?;
        config.warnings.extend(config.secret_files.iter().filter_map(|path| secret::exposed(path)));
        Ok(config)
    }
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
