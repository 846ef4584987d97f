//! `voicelived tools`: lists the tools, and runs one as a call would.

use std::path::PathBuf;
use std::time::Instant;

use log::LevelFilter;

use super::args::{Run, ToolsArgs};
use super::drive;
use super::exit::{self, Failure};
use super::screen::plain;
use super::service;
use super::tool_folder::{LoadedTools, ToolFolder, origin};
use crate::config::{Config, Purpose};
use crate::server::{Alone, Mcp};
use crate::system::child::{Child, Launch, Outcome};
use crate::system::terminal_log;
use crate::tools::process::{self, Ended};
use crate::tools::{Backing, Confirm, Origin, Tool, Tools, builtin};

/// The widest that a column gets, in characters: the longest name of a tool. A web address may be longer.
const WIDEST: usize = 64;

/// Lists the tools, or runs one.
///
/// # Errors
/// [`Failure`]: a setting or a file has a fault, or the run failed.
pub(super) fn tools(args: &ToolsArgs) -> Result<(), Failure> {
    // What has become of MCP servers is told below. VOICELIVED_LOG=debug shows more of them.
    terminal_log::init(terminal_log::level_or(LevelFilter::Error));
    let Settings { folder, mcp, faults } = match &args.folder {
        Some(folder) => Settings { folder: Some(folder.clone()), ..Settings::default() },
        None => settings(args)?,
    };
    let mut found = ToolFolder::default().read(folder.as_deref());
    found.faults.extend(faults);
    let wanted = args.run.as_ref().map(|run| run.name.as_str());
    let servers = match wanted {
        // No server needs to be started for a tool of the folder.
        Some(name) if found.tools.find(name).is_some() => None,
        _ => servers(mcp, &mut found, wanted)?,
    };
    match &args.run {
        None => {
            servers.into_iter().for_each(Alone::end);
            list(&found, folder.is_none())
        }
        Some(run) => try_out(&found, run, servers),
    }
}

/// What the settings say of tools, and what is wrong with it.
#[derive(Default)]
struct Settings {
    folder: Option<PathBuf>,
    mcp: Mcp,
    faults: Vec<String>,
}

/// What is wrong with the service's settings does not matter here.
fn settings(args: &ToolsArgs) -> Result<Settings, Failure> {
    let env_file = args.env_file.as_deref();
    let config = if args.service {
        Config::of_service(Purpose::Demo, env_file)
    } else {
        Config::from_process(Purpose::Demo, env_file, None, &[])
    };
    let config = config.map_err(|faults| (exit::CONFIG, service::lines(&faults)))?;
    let mcp = service::mcp(&config);
    let mut faults = config.warnings;
    faults.retain(|fault| fault.starts_with("VOICELIVED_MCP_FILE"));
    Ok(Settings { folder: config.tools_dir, mcp, faults })
}

/// Starts the MCP servers, if there are any, and adds their tools and faults to what was found.
pub(super) fn servers(
    mcp: Mcp,
    found: &mut LoadedTools,
    wanted: Option<&str>,
) -> Result<Option<Alone>, Failure> {
    if mcp.servers.is_empty() {
        return Ok(None);
    }
    let program = std::env::current_exe();
    let servers = program.and_then(|program| Alone::start(mcp, program));
    let mut servers = servers.map_err(|error| (exit::SYSTEM, error.to_string()))?;
    found.faults.extend(servers.list(&mut found.tools, wanted));
    Ok(Some(servers))
}

fn list(found: &LoadedTools, no_folder: bool) -> Result<(), Failure> {
    let (mut text, widths) = (String::new(), widths(&found.tools));
    for tool in found.tools.iter() {
        text.push_str(&line(tool, widths));
        text.push('\n');
    }
    if no_folder {
        text.push_str("VOICELIVED_TOOLS_DIR names no folder with tools of your own.\n");
    }
    super::print(&text)?;
    match found.faults.as_slice() {
        [] => Ok(()),
        faults => Err((exit::CONFIG, faults.join("\n"))),
    }
}

/// The widths of a list's columns in characters: the longest of each, up to [`WIDEST`].
pub(super) fn widths(tools: &Tools) -> [usize; 2] {
    let longest = |column: usize| {
        let texts = tools.iter().map(|tool| columns(tool)[column].chars().count());
        texts.max().unwrap_or_default().min(WIDEST)
    };
    [longest(0), longest(1)]
}

/// Its name, and what stands behind it.
fn columns(tool: &Tool) -> [&str; 2] {
    let what = match &tool.backing {
        Backing::Builtin | Backing::HangUp => "",
        Backing::Command { .. } => "command",
        Backing::Web { origin, .. } => origin,
        Backing::Server { .. } => "server",
    };
    [&tool.name, what]
}

/// A tool on a line: its name, what stands behind it, and where it comes from. `widths` are those of the list.
pub(super) fn line(tool: &Tool, [first, second]: [usize; 2]) -> String {
    let [name, what] = columns(tool);
    let asks = if tool.confirm == Confirm::Always { ", asks first" } else { "" };
    let line = format!("{name:<first$} {what:<second$} {}{asks}", origin(&tool.origin));
    plain(&line)
}

/// Runs a tool, and prints what the model would get. Its time and its standard error are for the owner, and
/// go elsewhere.
fn try_out(
    found: &LoadedTools,
    Run { name, arguments }: &Run,
    mut servers: Option<Alone>,
) -> Result<(), Failure> {
    let begin = Instant::now();
    let result = match (found.tools.check(name, arguments), &mut servers) {
        (Ok((tool, input)), Some(servers)) if matches!(tool.origin, Origin::Server(_)) => {
            servers.run(tool, &input)
        }
        (Ok((tool, arguments)), _) => run(tool, &arguments)?,
        (Err(why), _) => {
            found.faults.iter().for_each(|fault| eprintln!("{}", plain(fault)));
            Err(why)
        }
    };
    let ms = begin.elapsed().as_secs_f64() * 1000.0;
    servers.into_iter().for_each(Alone::end);
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
