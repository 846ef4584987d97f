//! `run`, `demo` and `simulate`: the daemon in its three guises.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::access::{Gate, Origin};
use crate::call::pcm::BLOCK_BYTES;
use crate::cli::args::{RunArgs, SimulateArgs, exit};
use crate::cli::{access, service};
use crate::config::{Config, Purpose, read_file};
use crate::net::tls;
use crate::server::{Calls, Listen, Server, bind};
use crate::simulator::{Options, Script};
use crate::tools::Tools;
use crate::web::Site;

/// Longest certificate or key file, in bytes.
const MAX_PEM: usize = 256 * 1024;

/// Why the daemon did not start, or how it ended: an exit code and a line for standard error.
pub type Failure = (u8, String);

/// The daemon with the configured service.
///
/// # Errors
/// [`Failure`]; the configuration's faults are one line each.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let config = configure(Purpose::Service, args)?;
    serve(config, Vec::new(), reload(Purpose::Service, args))
}

/// The daemon with the built-in simulator as its service, on a port of its own in the same loop.
///
/// # Errors
/// As [`run`].
pub fn demo(args: &RunArgs) -> Result<(), Failure> {
    let mut config = configure(Purpose::Demo, args)?;
    let simulator =
        listen_on(SocketAddr::from(([127, 0, 0, 1], 0)), Site::Simulator(Rc::default()))?;
    let address = simulator.socket.local_addr().map_err(system)?;
    config.use_simulator(address);
    log::warn!("demo: the built-in simulator answers, not the real voice model");
    serve(config, vec![simulator], reload(Purpose::Demo, args))
}

/// The simulated service alone.
///
/// # Errors
/// As [`run`]; a wrong fault word is a usage error.
pub fn simulate(args: &SimulateArgs) -> Result<(), Failure> {
    crate::log::init(log::LevelFilter::Info);
    let script = Script::parse(&args.faults).map_err(|error| (exit::USAGE, error))?;
    let options = Options { script, ..Options::default() };
    let mut listen = listen_on(args.listen, Site::Simulator(Rc::new(options)))?;
    if let Some((certificate, key)) = &args.tls {
        listen.tls = Some(server_tls(certificate, key)?);
    }
    let address = listen.socket.local_addr().map_err(system)?;
    let scheme = if listen.tls.is_some() { "wss" } else { "ws" };
    let server = Server::new(vec![listen], None).map_err(system)?;
    log::info!("simulator (not the real model) listening on {scheme}://{address}");
    server.run().map_err(system)
}

fn configure(purpose: Purpose, args: &RunArgs) -> Result<Config, Failure> {
    let config = Config::from_process(purpose, args.env_file.as_deref(), args.listen.clone());
    let config = config.map_err(|faults| (exit::CONFIG, service::lines(&faults)))?;
    crate::log::init(config.log);
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    Ok(config)
}

/// For SIGHUP: the same sources again. The environment cannot have changed, files can.
fn reload(purpose: Purpose, args: &RunArgs) -> access::Reload {
    let args = args.clone();
    Box::new(move || {
        Config::from_process(purpose, args.env_file.as_deref(), args.listen.clone())
            .map_err(|faults| service::lines(&faults))
    })
}

fn serve(config: Config, mut listen: Vec<Listen>, reload: access::Reload) -> Result<(), Failure> {
    let simulated = !listen.is_empty();
    let program = std::env::current_exe().map_err(system)?;
    let tools = Tools::builtin(&program);
    let mut address = None;
    if let Some(wanted) = config.web.listen {
        let listener = listen_for_calls(wanted, &config, simulated)?;
        address = Some(listener.socket.local_addr().map_err(system)?);
        listen.push(listener);
    }
    let (rules, token) = access::rules(&config, reload)?;
    let calls = Calls {
        settings: Rc::new(service::call_settings(&config, &tools)),
        target: service::target(&config.service).map_err(|error| (exit::CONFIG, error))?,
        access: rules,
        tools,
        program,
        max_sessions: config.limits.max_sessions,
        max_sessions_per_address: config.limits.max_sessions_per_address,
        pool_blocks: blocks(&config),
    };
    let server = Server::new(listen, Some(calls)).map_err(system)?;
    if let Some(address) = address {
        if let Some(token) = &token {
            print_link(&access::pairing_link(&format!("http://{address}"), token));
        }
        log::info!("listening on http://{address}");
    }
    server.run().map_err(system)
}

/// For the person who started it, and for nobody who reads what it leaves behind: no pipe, no file,
/// no journal.
fn print_link(link: &str) {
    let mut out = std::io::stdout();
    if out.is_terminal() {
        // Where it cannot be printed the token can still be typed.
        let _ = writeln!(out, "Open this on the device that is to call:\n\n    {link}\n");
    }
}

/// 48,000 bytes of PCM a second.
fn blocks(config: &Config) -> usize {
    let milliseconds = usize::try_from(config.limits.audio_pool.as_millis()).unwrap_or(usize::MAX);
    milliseconds.saturating_mul(48) / BLOCK_BYTES
}

fn listen_for_calls(
    address: SocketAddr,
    config: &Config,
    simulated: bool,
) -> Result<Listen, Failure> {
    let extra =
        config.web.allowed_origins.iter().filter_map(|origin| Origin::parse(origin)).collect();
    let socket = bind(address).map_err(|error| cannot_listen(address, &error))?;
    // Port 0 lets the kernel choose: the gate must know what it chose.
    let address = socket.local_addr().map_err(system)?;
    Ok(Listen {
        socket,
        site: Site::Calls { gate: Gate::new(false, address, &[], extra), simulated },
        tls: None,
    })
}

fn listen_on(address: SocketAddr, site: Site) -> Result<Listen, Failure> {
    let socket = bind(address).map_err(|error| cannot_listen(address, &error))?;
    Ok(Listen { socket, site, tls: None })
}

fn server_tls(certificate: &Path, key: &Path) -> Result<Arc<rustls::ServerConfig>, Failure> {
    let read = |path: &Path| {
        read_file(path, MAX_PEM)
            .map_err(|error| (exit::NO_INPUT, format!("{}: {error}", path.display())))
    };
    tls::server_config(&read(certificate)?, &read(key)?).map_err(|error| (exit::DATA, error))
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> Failure {
    (
        exit::UNAVAILABLE,
        format!(
            "cannot listen on {address}: {error}. Choose another with --listen or VOICELIVED_LISTEN."
        ),
    )
}

fn system(error: std::io::Error) -> Failure {
    (exit::SYSTEM, format!("the system refuses: {error}"))
}
