//! The folder with the owner's tools, one JSON file each.

use std::fs;
use std::path::{Path, PathBuf};

use super::drop_ins::{DropIns, shown};
use crate::tools::file::parse;
use crate::tools::{Origin, Tool, Tools};

/// Where systemd puts the credentials of the installed service, for commands that are not run by it.
const CREDENTIALS: &str = "/run/credentials/voicelived.service";

/// The most files that are looked at.
const MAX_FILES: usize = 128;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct ToolFolder(DropIns);

/// What there is.
#[derive(Debug)]
pub(super) struct LoadedTools {
    pub(super) tools: Tools,
    /// A line for each fault.
    pub(super) faults: Vec<String>,
}

impl ToolFolder {
    /// The built-in tools and those of `folder`.
    pub(super) fn read(&self, folder: Option<&Path>) -> LoadedTools {
        let mut found = LoadedTools { tools: Tools::builtin(), faults: Vec::new() };
        let home = folder.unwrap_or_else(|| Path::new(""));
        let home = fs::canonicalize(home).unwrap_or_else(|_| home.to_owned());
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
        let credentials = credentials.map_or_else(|| PathBuf::from(CREDENTIALS), PathBuf::from);
        let faults = self.0.read(folder, MAX_FILES, &mut |path, text| {
            found.add(parse(text, path, &home, &credentials)?);
            Ok(())
        });
        found.faults.extend(faults);
        found
    }
}

impl LoadedTools {
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
