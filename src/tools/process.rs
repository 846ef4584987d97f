//! The process of one run, for tools that have one: what to start, and what it reads. The loop and
//! `voicelived tools run` start the same.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Backing, Tool, builtin};

/// What to start.
#[derive(Debug)]
pub struct Process {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// The working folder; `None` for that of this process.
    pub folder: Option<PathBuf>,
    /// For its standard input.
    pub input: Vec<u8>,
    /// With more bytes of output it is killed.
    pub max_output: usize,
}

/// How a process ended.
#[derive(Debug)]
pub enum Ended {
    /// With status 0, and this output.
    Well(Vec<u8>),
    /// With another status, and this output.
    Speaking(Vec<u8>),
    /// Without output, or it was killed: why.
    Badly(String),
}

/// What the service is told of a run, or why it failed: a sentence for the model.
///
/// # Errors
/// That sentence.
#[inline(never)]
pub fn result(ended: Ended) -> Result<String, String> {
    let text = |bytes| {
        let text = String::from_utf8(bytes).map_err(|_| "The tool's answer is not text.")?;
        Ok(text.trim().to_owned())
    };
    match ended {
        Ended::Well(output) => text(output),
        Ended::Speaking(output) => Err(text(output).unwrap_or_else(|why: String| why)),
        Ended::Badly(why) => Err(format!("The tool failed: {why}.")),
    }
}

/// The least that the child of web requests may say: its sentences are longer than some results.
const SENTENCE: usize = 1024;

/// The process of a run with these arguments, a JSON object on one line. `program` is this program. Of a
/// built-in tool it is a child that serves this run alone; the loop has one for all.
#[must_use]
#[inline(never)]
pub fn of(tool: &Tool, arguments: &str, program: &Path) -> Process {
    let own = |command: &str| vec![program.into(), command.into()];
    match &tool.backing {
        Backing::Command { argv, folder } => Process {
            command: argv.clone(),
            folder: Some(folder.clone()),
            input: arguments.as_bytes().to_vec(),
            max_output: tool.limits.max_output,
        },
        Backing::Web { job, .. } => Process {
            command: own("__request"),
            folder: None,
            input: format!("[{job},{arguments}]").into_bytes(),
            max_output: tool.limits.max_output.max(SENTENCE),
        },
        Backing::Builtin | Backing::HangUp | Backing::Server { .. } => Process {
            command: own("__tools"),
            folder: None,
            input: builtin::request(1, &tool.name, arguments).into_bytes(),
            max_output: builtin::MAX_LINE,
        },
    }
}
