//! `voicelived tools`: lists the tools, and runs one as a call would.

use std::path::Path;
use std::time::Instant;

use super::args::{Run, ToolsArgs};
use super::drive;
use super::exit::{self, Failure};
use super::screen::plain;
use super::service;
use super::tool_folder::{Found, ToolFolder, origin};
use crate::config::{Config, Purpose};
use crate::system::child::{Child, Launch, Outcome};
use crate::tools::process::{self, Ended};
use crate::tools::{Backing, Confirm, Tool, builtin};

/// Lists the tools, or runs one.
///
/// # Errors
/// [`Failure`]: a setting or a file has a fault, or the run failed.
pub(super) fn tools(args: &ToolsArgs) -> Result<(), Failure> {
    let folder = match &args.folder {
        Some(folder) => Some(folder.clone()),
        None => configured(args)?,
    };
    let found = ToolFolder::default().read(folder.as_deref());
    match &args.run {
        None => list(&found, folder.as_deref()),
        Some(run) => try_out(&found, run),
    }
}

/// The folder that the settings name. What is wrong with the service's settings does not matter here.
fn configured(args: &ToolsArgs) -> Result<Option<std::path::PathBuf>, Failure> {
    let env_file = args.env_file.as_deref();
    let config = if args.service {
        Config::of_service(Purpose::Demo, env_file)
    } else {
        Config::from_process(Purpose::Demo, env_file, None, &[])
    };
    config.map(|config| config.tools_dir).map_err(|faults| (exit::CONFIG, service::lines(&faults)))
}

fn list(found: &Found, folder: Option<&Path>) -> Result<(), Failure> {
    let mut text = String::new();
    for tool in found.tools.iter() {
        text.push_str(&line(tool));
        text.push('\n');
    }
    if folder.is_none() {
        text.push_str("VOICELIVED_TOOLS_DIR names no folder with tools of your own.\n");
    }
    super::print(&text)?;
    match found.faults.as_slice() {
        [] => Ok(()),
        faults => Err((exit::CONFIG, faults.join("\n"))),
    }
}

/// A tool on a line: its name, what stands behind it, and where it comes from.
pub(super) fn line(tool: &Tool) -> String {
    let what = match &tool.backing {
        Backing::Builtin | Backing::HangUp => "",
        Backing::Command { .. } => "command",
        Backing::Web { origin, .. } => origin,
        Backing::Server { .. } => "server",
    };
    let asks = if tool.confirm == Confirm::Always { ", asks first" } else { "" };
    let line = format!("{:<24} {:<28} {}{asks}", tool.name, what, origin(&tool.origin));
    plain(&line)
}

/// Runs a tool, and prints what the model would get. Its time and its standard error are for the owner, and
/// go elsewhere.
fn try_out(found: &Found, Run { name, arguments }: &Run) -> Result<(), Failure> {
    let begin = Instant::now();
    let result = match found.tools.check(name, arguments) {
        Ok((tool, arguments)) => run(tool, &arguments)?,
        Err(why) => Err(why),
    };
    let ms = begin.elapsed().as_secs_f64() * 1000.0;
    let failed = result.is_err();
    let output = result.unwrap_or_else(|why| serde_json::json!({ "error": why }).to_string());
    super::print(&format!("{output}\n"))?;
    eprintln!("{ms:.1} ms, {} bytes", output.len());
    if failed {
        return Err((exit::FAILURE, "the model is told that it failed".to_owned()));
    }
    Ok(())
}

fn run(tool: &Tool, arguments: &str) -> Result<Result<String, String>, Failure> {
    if !matches!(tool.backing, Backing::Builtin | Backing::Command { .. } | Backing::Web { .. }) {
        return Ok(Err("It can only be done in a call.".to_owned()));
    }
    let program = std::env::current_exe().map_err(|error| (exit::SYSTEM, error.to_string()))?;
    let process = process::of(tool, arguments, &program);
    let child = Child::launch(Launch {
        command: &process.command,
        folder: process.folder.as_deref(),
        input: process.input,
        max_output: process.max_output,
        deadline: Instant::now() + tool.limits.timeout,
        speaks: true,
    });
    let ended = child.and_then(drive::finish_speaking);
    let (outcome, errors) = match ended {
        Ok(ended) => ended,
        Err(error) => return Ok(Err(format!("it cannot be started: {error}"))),
    };
    for line in String::from_utf8_lossy(&errors).lines() {
        eprintln!("{}: {}", tool.name, plain(line));
    }
    Ok(match (&tool.backing, outcome) {
        (Backing::Builtin, Outcome::Done(line)) => {
            let answer = builtin::answer(&line).map(|(_, result)| result);
            answer.unwrap_or_else(|| Err("The built-in tool has not answered.".to_owned()))
        }
        (_, Outcome::Done(output)) => process::result(Ended::Well(output)),
        (_, Outcome::Refused(output)) => process::result(Ended::Speaking(output)),
        (_, Outcome::Failed(why)) => process::result(Ended::Badly(why)),
    })
}
