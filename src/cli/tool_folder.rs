//! The folder with the owner's tools, one JSON file each.
//!
//! A file with a fault costs only itself. While the daemon runs, its last good version stays; so does that of a
//! file that cannot be read at the moment. A file that is gone takes its tool with it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::system::files;
use crate::tools::file::{MAX_FILE, parse};
use crate::tools::{Origin, Tool, Tools};

/// Where systemd puts the credentials of the installed service, for commands that are not run by it.
const CREDENTIALS: &str = "/run/credentials/voicelived.service";

/// The most files that are looked at.
const MAX_FILES: usize = 128;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct ToolFolder {
    /// The last good version of each file.
    good: RefCell<BTreeMap<PathBuf, Tool>>,
}

/// What there is.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) tools: Tools,
    /// A line for each fault.
    pub(super) faults: Vec<String>,
}

impl ToolFolder {
    /// The built-in tools and those of `folder`.
    pub(super) fn read(&self, folder: Option<&Path>) -> Found {
        let mut found = Found { tools: Tools::builtin(), faults: Vec::new() };
        let Some(folder) = folder else {
            self.good.borrow_mut().clear();
            return found;
        };
        let files = match list(folder) {
            Ok(files) => files,
            Err(error) => {
                let known = self.good.borrow();
                found.faults.push(format!("{}: {error}", shown(folder)));
                known.values().for_each(|tool| found.add(tool.clone()));
                return found;
            }
        };
        if files.len() > MAX_FILES {
            let text = format!("{}: only the first {MAX_FILES} files count", shown(folder));
            found.faults.push(text);
        }
        let mut before = self.good.take();
        let mut good = BTreeMap::new();
        for path in files.into_iter().take(MAX_FILES) {
            let old = before.remove(&path);
            let tool = read(&path, folder).map_err(|(line, reason)| {
                let line = line.map_or_else(String::new, |line| format!(" line {line}"));
                let kept = if old.is_some() { "; its last good version stays" } else { "" };
                found.faults.push(format!("{}{line}: {reason}{kept}", shown(&path)));
            });
            if let Some(tool) = tool.ok().or(old) {
                found.add(tool.clone());
                good.insert(path, tool);
            }
        }
        self.good.replace(good);
        found
    }
}

impl Found {
    fn add(&mut self, tool: Tool) {
        let (name, from) = (tool.name.clone(), origin(&tool.origin));
        if let Err(taken) = self.tools.add(tool) {
            self.faults.push(format!("{from}: the name {name} is taken: {}", origin(&taken)));
        }
    }
}

/// Where a tool comes from, in words.
pub(super) fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Builtin => "built in".to_owned(),
        Origin::File(path) => shown(path),
        Origin::Server(name) => format!("MCP server {}", name.escape_debug()),
    }
}

fn shown(path: &Path) -> String {
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

fn read(path: &Path, folder: &Path) -> Result<Tool, (Option<usize>, String)> {
    // Opening a pipe would wait for its other end.
    let is_file = fs::metadata(path).map(|it| it.is_file());
    if !is_file.map_err(|error| (None, error.to_string()))? {
        return Err((None, "it is no file".to_owned()));
    }
    let bytes = files::read(path, MAX_FILE).map_err(|error| (None, error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| (None, "it is not UTF-8 text".to_owned()))?;
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    let credentials = credentials.map_or_else(|| PathBuf::from(CREDENTIALS), PathBuf::from);
    parse(&text, path, &folder, &credentials).map_err(|fault| (Some(fault.line), fault.reason))
}
