//! The daemon's access token: found in the settings, or made once and kept in the state folder.

use std::io;
use std::path::{Path, PathBuf};

use super::exit::{self, Failure};
use crate::access::{Access, token};
use crate::config::{AccessConfig, Config, Secret};
use crate::net::upgrade;
use crate::system::files;

/// Its name in the state folder.
const FILE: &str = "access-token";

/// Random bytes drawn for a token. This is twice what it needs, since some of them are skipped.
const RANDOM: usize = 64;

/// The token that `config` asks for. None, if everybody may call. The first start makes one.
///
/// # Errors
/// [`Failure`], when a token has to be kept and cannot.
pub(super) fn token(config: &Config) -> Result<Option<Secret>, Failure> {
    match &config.access {
        AccessConfig::Open => Ok(None),
        AccessConfig::Token(token) => Ok(Some(token.clone())),
        AccessConfig::OwnToken => own(config.state_dir.as_deref()).map(Some),
    }
}

/// As [`token`], but it makes no token: a running daemon has one already.
///
/// # Errors
/// A sentence, when it cannot be read.
pub(super) fn kept_token(config: &Config) -> Result<Option<Secret>, String> {
    match &config.access {
        AccessConfig::Open => Ok(None),
        AccessConfig::Token(token) => Ok(Some(token.clone())),
        AccessConfig::OwnToken => {
            let path = file(config.state_dir.as_deref()).map_err(|(_, why)| why)?;
            let token = kept(&path).map_err(|why| format!("{}: {why}", path.display()))?;
            warn_if_readable(&path);
            Ok(Some(token))
        }
    }
}

/// Whether the start has to make the token.
///
/// # Errors
/// A sentence, when there is one that cannot be used.
pub(super) fn is_missing(config: &Config) -> Result<bool, String> {
    if !matches!(config.access, AccessConfig::OwnToken) {
        return Ok(false);
    }
    let path = file(config.state_dir.as_deref()).map_err(|(_, why)| why)?;
    if !path.try_exists().unwrap_or(true) {
        return Ok(true);
    }
    let name = path.display().to_string();
    let mend = "correct it, or delete it, then the next start makes a new one";
    kept(&path).map_err(|why| format!("access token {}: {why}; {mend}", name.escape_debug()))?;
    Ok(false)
}

/// The access rule of the server: open, or by this token.
pub(super) fn access(token: Option<&Secret>) -> Access {
    token.map_or(Access::Open, |token| Access::token(token.expose()))
}

/// The address that lets a browser in without typing. A browser sends nothing behind the `#`, so
/// the token reaches no proxy and no log. `base` is the page's address, such as
/// `https://pi.local:8443`.
#[must_use]
pub(super) fn pairing_link(base: &str, token: &Secret) -> String {
    let mut link = format!("{}/#token=", base.trim_end_matches('/'));
    for byte in token.expose().bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                link.push(char::from(byte));
            }
            _ => link.push_str(&format!("%{byte:02X}")),
        }
    }
    link
}

fn file(folder: Option<&Path>) -> Result<PathBuf, Failure> {
    let why = "there is no folder to keep the access token in; set VOICELIVED_STATE_DIR";
    folder.map(|folder| folder.join(FILE)).ok_or_else(|| (exit::CONFIG, why.to_owned()))
}

/// The token in the state folder, made if there is none.
fn own(folder: Option<&Path>) -> Result<Secret, Failure> {
    let path = file(folder)?;
    let failure = |code: u8, why: String| {
        let path = path.display().to_string();
        (code, format!("access token {}: {why}", path.escape_debug()))
    };
    if !path.try_exists().unwrap_or(true) {
        make(&path).map_err(|why| failure(exit::CANNOT_CREATE, why))?;
        log::info!("access: made a token; it is kept in {}", path.display());
    }
    let token = kept(&path).map_err(|why| failure(exit::CONFIG, why))?;
    warn_if_readable(&path);
    Ok(token)
}

fn kept(path: &Path) -> Result<Secret, String> {
    let bytes = files::read(path, Secret::MAX_TOKEN_BYTES + 64)
        .map_err(|error| format!("cannot be read: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    Secret::access_token(&text).map_err(|why| format!("the token {why}"))
}

/// Keeps a new token. If two daemons start at once, both use the token of the first one.
fn make(path: &Path) -> Result<(), String> {
    let text = token::made_from(&upgrade::random::<RANDOM>()?)
        .ok_or("too few of the random bytes were usable; try again")?;
    let keep = || -> io::Result<()> {
        path.parent().map_or(Ok(()), files::create_folder)?;
        files::create(path, format!("{text}\n").as_bytes())
    };
    keep().map_err(|error| format!("cannot be kept: {error}; see VOICELIVED_STATE_DIR"))
}

fn warn_if_readable(path: &Path) {
    if !files::is_private(path).unwrap_or(true) {
        log::warn!("{} can be read by others: chmod 600 {0}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn links_keep_the_token_behind_the_hash() {
        let token = Secret::access_token("a+b/c=d%e&f#g\"hijkl~").unwrap();
        assert_eq!(
            pairing_link("https://pi.local:8443/", &token),
            "https://pi.local:8443/#token=a%2Bb%2Fc%3Dd%25e%26f%23g%22hijkl~"
        );
    }

    #[test]
    fn a_token_is_made_once_for_its_owner_alone() {
        let folder = std::env::temp_dir().join(format!("voicelived-token-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let path = folder.join("deep").join(FILE);
        let first = own(path.parent()).unwrap();
        assert!(token::LENGTH.contains(&first.expose().len()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(own(path.parent()).unwrap().expose(), first.expose());
        assert_eq!(fs::read_dir(folder.join("deep")).unwrap().count(), 1, "no draft is left");
        make(&path).unwrap();
        assert_eq!(kept(&path).unwrap().expose(), first.expose(), "the first one stays");
        fs::write(&path, "short").unwrap();
        let (code, why) = own(path.parent()).unwrap_err();
        assert!(
            code == exit::CONFIG && why.contains("16 to 256") && !why.contains("short"),
            "{why}"
        );
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(own(Some(Path::new("/proc/none"))).unwrap_err().0, exit::CANNOT_CREATE);
    }
}
