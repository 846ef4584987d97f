//! Checks for `voicelived check` what a start will find in the state folder. It makes and changes
//! nothing.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use super::report::Report;
use crate::certificates::Authority;
use crate::cli::exit::{self, Failure};
use crate::cli::{access_token, own_names};
use crate::config::{AccessConfig, Config};

/// `O_TMPFILE` of Linux: makes a file without a name, which shows that the folder can be written.
/// The kernel removes it when it is closed.
const NAMELESS: i32 = 0o20_000_000
    | if cfg!(any(target_arch = "arm", target_arch = "aarch64")) { 0o40_000 } else { 0o200_000 };

/// Checks everything that [`run`](crate::cli::run::run) keeps there under these settings.
pub(super) fn check(config: &Config, report: &mut Report) -> Result<(), Failure> {
    let refused = |why| (exit::CONFIG, why);
    let own_token = matches!(config.access, AccessConfig::OwnToken);
    let local = config.web.tls_listen.is_some() && config.web.tls_files.is_none();
    if !own_token && !local && config.limits.daily.is_none() {
        return Ok(());
    }
    let Some(folder) = &config.state_dir else {
        return Err(refused("VOICELIVED_STATE_DIR: there is no state folder; set it".to_owned()));
    };
    let mut to_write = config.limits.daily.is_some();
    if own_token {
        let missing = access_token::is_missing(config).map_err(refused)?;
        to_write |= missing;
        report.done("access token", if missing { "made at the next start" } else { "usable" });
    }
    if local {
        let inspected =
            Authority::inspect(folder, &own_names::of(config).read(), SystemTime::now());
        let (to_make, warnings) = inspected.map_err(refused)?;
        to_write |= to_make;
        report.done(
            "authority",
            if to_make { "certificates made at the next start" } else { "usable" },
        );
        warnings.iter().for_each(|warning| report.note(warning));
    }
    let Err(error) = take_a_file(folder) else {
        report.done("state folder", "can be written");
        return Ok(());
    };
    let name = folder.display().to_string();
    let sentence = format!(
        "VOICELIVED_STATE_DIR: {} cannot be written ({error}); let the daemon's user write there, or choose another",
        name.escape_debug()
    );
    if to_write {
        return Err(refused(sentence));
    }
    // Usable certificates serve until they must be renewed.
    report.note(&sentence);
    Ok(())
}

/// Whether a file can be made in the folder, or in what the folder will be made in.
fn take_a_file(folder: &Path) -> io::Result<()> {
    for place in folder.ancestors().filter(|place| !place.as_os_str().is_empty()) {
        match OpenOptions::new().write(true).custom_flags(NAMELESS).open(place) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // A file system without such files checks the rights before it refuses.
            Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(()),
            other => return other.map(drop),
        }
    }
    Ok(())
}
