//! Where settings come from.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{ConfigError, dotenv};
use crate::system::files;

/// Where settings come from.
#[derive(Debug, Default)]
pub struct Sources {
    /// Value of `--listen`: stands for `VOICELIVED_LISTEN` and wins over it.
    pub listen: Option<String>,
    /// Listening sockets that were handed over: they stand for `VOICELIVED_TLS_LISTEN` and
    /// `VOICELIVED_LISTEN` and win over them.
    pub sockets: Vec<PassedSocket>,
    /// The environment; other programs' variables may be among them.
    pub environment: Vec<(OsString, OsString)>,
    /// The service's file as systemd reads it: it counts as the environment.
    pub service_file: Option<EnvFile>,
    /// The `.env` file.
    pub env_file: Option<EnvFile>,
}

/// A listening socket that another process has bound, such as systemd.
#[derive(Debug, Clone, Copy)]
pub struct PassedSocket {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it is for HTTPS.
    pub secure: bool,
}

impl Sources {
    /// Sources with an environment only.
    pub fn from_environment(variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        Self { environment: variables.collect(), ..Self::default() }
    }
}

/// The content of a `.env` file.
#[derive(Debug)]
pub struct EnvFile {
    /// Its name, for messages.
    pub path: PathBuf,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl EnvFile {
    /// Reads the file `named` by the user, or `.env` in the working directory if it is there.
    ///
    /// # Errors
    /// When a file that is there, or was named, cannot be read or is longer than
    /// [`dotenv::MAX_BYTES`].
    pub fn find(named: Option<&Path>) -> Result<Option<Self>, ConfigError> {
        let path = named.unwrap_or_else(|| Path::new(".env"));
        match files::read(path, dotenv::MAX_BYTES) {
            Ok(bytes) => Ok(Some(Self { path: path.to_owned(), bytes })),
            Err(fault) if named.is_none() && fault.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(ConfigError {
                what: path.display().to_string().escape_debug().to_string(),
                place: None,
                message: format!("cannot read this file: {fault}"),
            }),
        }
    }
}
