//! A folder of the owner's with JSON files, each for one thing: a tool, or an assistant.
//!
//! A file with a fault costs only itself. While the daemon runs, its last good version stays; so does that of a
//! file that cannot be read at the moment. A file that is gone takes its thing with it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::system::files;
use crate::tools::file::{Fault, MAX_FILE};

/// Takes a file's text, or says what is wrong with it.
pub(super) type Take<'a> = &'a mut dyn FnMut(&Path, &str) -> Result<(), Fault>;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct DropIns {
    /// The last good version of each file.
    good: RefCell<BTreeMap<PathBuf, String>>,
}

impl DropIns {
    /// Gives `take` the files of `folder`, in the order of their names and at most `most`. Returns a line for
    /// each fault.
    pub(super) fn read(&self, folder: Option<&Path>, most: usize, take: Take<'_>) -> Vec<String> {
        let mut faults = Vec::new();
        let mut before = self.good.take();
        let Some(folder) = folder else { return faults };
        let files = match list(folder) {
            Ok(files) => files,
            Err(error) => {
                faults.push(format!("{}: {error}", shown(folder)));
                before.retain(|path, text| take(path, text).is_ok());
                self.good.replace(before);
                return faults;
            }
        };
        if files.len() > most {
            faults.push(format!("{}: only the first {most} files count", shown(folder)));
        }
        let mut good = BTreeMap::new();
        for path in files.into_iter().take(most) {
            let old = before.remove(&path);
            let new = read(&path);
            let taken = new.and_then(|text| match take(&path, &text) {
                Ok(()) => Ok(text),
                Err(Fault { line, reason }) => Err(format!(" line {line}: {reason}")),
            });
            match taken {
                Ok(text) => {
                    good.insert(path, text);
                }
                Err(fault) => {
                    // It was good, but the settings beside it may have changed.
                    let old = old.filter(|text| take(&path, text).is_ok());
                    let kept = if old.is_some() { "; its last good version stays" } else { "" };
                    faults.push(format!("{}{fault}{kept}", shown(&path)));
                    if let Some(text) = old {
                        good.insert(path, text);
                    }
                }
            }
        }
        self.good.replace(good);
        faults
    }
}

/// A path on one line.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string().escape_debug().to_string()
}

/// The files in the order of their names.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    // A heap does for a few files, and is a tenth of the sort's code.
    Ok(BinaryHeap::from(files).into_sorted_vec())
}

/// The text of a file. The error is what follows the path.
fn read(path: &Path) -> Result<String, String> {
    // Opening a pipe would wait for its other end.
    let is_file = fs::metadata(path).map(|it| it.is_file());
    if !is_file.map_err(|error| format!(": {error}"))? {
        return Err(": it is no file".to_owned());
    }
    let bytes = files::read(path, MAX_FILE).map_err(|error| format!(": {error}"))?;
    String::from_utf8(bytes).map_err(|_| ": it is not UTF-8 text".to_owned())
}
