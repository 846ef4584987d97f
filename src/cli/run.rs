//! `run`, `demo` and `simulate`: the daemon in its three guises.

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::access::{Gate, Origin};
use crate::call::pcm::BLOCK_BYTES;
use crate::cli::args::{RunArgs, SimulateArgs, exit};
use crate::cli::service;
use crate::config::{Config, Purpose, read_file};
use crate::net::tls;
use crate::server::{Calls, Listen, Server, bind};
use crate::simulator::{Options, Script};
use crate::tools::Tools;
use crate::web::{CallSite, Site};

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
    serve(config, Vec::new())
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
    serve(config, vec![simulator])
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

fn serve(config: Config, mut listen: Vec<Listen>) -> Result<(), Failure> {
    let simulated = !listen.is_empty();
    let program = std::env::current_exe().map_err(system)?;
    let tools = Tools::builtin(&program);
    let doors = listen_for_calls(&config, simulated)?;
    let urls: Vec<String> = doors.iter().filter_map(url).collect();
    listen.extend(doors);
    let calls = Calls {
        settings: Rc::new(service::call_settings(&config, &tools)),
        target: service::target(&config.service).map_err(|error| (exit::CONFIG, error))?,
        tools,
        program,
        max_sessions: config.limits.max_sessions,
        max_sessions_per_address: config.limits.max_sessions_per_address,
        pool_blocks: blocks(&config),
    };
    let server = Server::new(listen, Some(calls)).map_err(system)?;
    // Only now is every socket served and every signal heard.
    for url in urls {
        log::info!("listening on {url}");
    }
    server.run().map_err(system)
}

/// 48,000 bytes of PCM a second.
fn blocks(config: &Config) -> usize {
    let milliseconds = usize::try_from(config.limits.audio_pool.as_millis()).unwrap_or(usize::MAX);
    milliseconds.saturating_mul(48) / BLOCK_BYTES
}

/// The HTTPS listener and the plain one, as far as they are switched on.
fn listen_for_calls(config: &Config, simulated: bool) -> Result<Vec<Listen>, Failure> {
    let mut listen = Vec::new();
    let mut https = None;
    if let Some(address) = config.web.tls_listen {
        let tls = tls_config(config)?;
        let mut secure = call_site(address, true, config, simulated)?;
        secure.tls = Some(tls);
        https = Some(secure.socket.local_addr().map_err(system)?.port());
        listen.push(secure);
    }
    if let Some(address) = config.web.listen {
        let mut plain = call_site(address, false, config, simulated)?;
        if let Site::Calls(site) = &mut plain.site {
            site.https = https;
        }
        listen.push(plain);
    }
    Ok(listen)
}

fn url(door: &Listen) -> Option<String> {
    let scheme = if door.tls.is_some() { "https" } else { "http" };
    Some(format!("{scheme}://{}", door.socket.local_addr().ok()?))
}

fn call_site(
    address: SocketAddr,
    secure: bool,
    config: &Config,
    simulated: bool,
) -> Result<Listen, Failure> {
    let extra =
        config.web.allowed_origins.iter().filter_map(|origin| Origin::parse(origin)).collect();
    let socket = bind(address).map_err(|error| cannot_listen(address, &error))?;
    // Port 0 lets the kernel choose: the gate must know what it chose.
    let address = socket.local_addr().map_err(system)?;
    let gate = Gate::new(secure, address, &[], extra);
    Ok(Listen { socket, site: Site::Calls(CallSite { gate, simulated, https: None }), tls: None })
}

fn tls_config(config: &Config) -> Result<Arc<rustls::ServerConfig>, Failure> {
    let Some((certificate, key)) = &config.web.tls_files else {
        let message = "VOICELIVED_TLS_LISTEN needs VOICELIVED_TLS_CERT and VOICELIVED_TLS_KEY";
        return Err((exit::CONFIG, message.to_owned()));
    };
    server_tls(certificate, key)
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
