//! `run`, `demo` and `simulate`: the daemon in its three guises.

mod invitation;
pub mod qr;
mod reload;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use log::LevelFilter;

use crate::access::{Gate, Origin, Proxies};
use crate::call::pcm::BLOCK_BYTES;
use crate::certificates::{Authority, OwnFiles};
use crate::certificates::{Certificates, Names};
use crate::cli::args::{RunArgs, SimulateArgs};
use crate::cli::exit::{self, Failure};
use crate::cli::{access_token, own_names, service};
use crate::config::{Config, PassedSocket, Purpose};
use crate::net::tls::{self, ClientConfigs};
use crate::server::{Calls, Listen, Server, bind};
use crate::simulator::{Options, Script};
use crate::spending::Ledger;
use crate::system::clock::is_clock_set;
use crate::system::files;
use crate::system::systemd::{self, Manager, Passed};
use crate::system::terminal_log;
use crate::web::{CallSite, Site};

use invitation::Invitation;
use reload::{Folders, Provenance};

/// Longest certificate or key file, in bytes.
const MAX_PEM: usize = 256 * 1024;

/// The daemon with the configured service.
///
/// # Errors
/// [`Failure`]; the configuration's faults are one line each.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let (from, passed) = begin(Purpose::Service, args)?;
    let config = configure(&from)?;
    serve(config, Vec::new(), passed, from)
}

/// The daemon with the built-in simulator as its service, on a port of its own in the same loop.
///
/// # Errors
/// As [`run`].
pub fn demo(args: &RunArgs) -> Result<(), Failure> {
    let site = simulator_site(&args.faults)?;
    let (mut from, passed) = begin(Purpose::Demo, args)?;
    let mut config = configure(&from)?;
    let simulator = listen_on(SocketAddr::from(([127, 0, 0, 1], 0)), site)?;
    let address = simulator.socket.local_addr().map_err(system)?;
    config.use_simulator(address);
    from.simulator = Some(address);
    log::warn!("demo: the built-in simulator answers, not the real voice model");
    serve(config, vec![simulator], passed, from)
}

/// The simulated service alone.
///
/// # Errors
/// As [`run`]; a wrong fault word is a usage error.
pub fn simulate(args: &SimulateArgs) -> Result<(), Failure> {
    terminal_log::init(terminal_log::level_or(LevelFilter::Info));
    let mut listen = listen_on(args.listen, simulator_site(&args.faults)?)?;
    if let Some((certificate, key)) = &args.tls {
        listen.tls = Some(server_tls(certificate, key)?);
    }
    let address = listen.socket.local_addr().map_err(system)?;
    let scheme = if listen.tls.is_some() { "wss" } else { "ws" };
    let server = Server::new(vec![listen], None).map_err(system)?;
    log::info!("simulator (not the real model) listening on {scheme}://{address}");
    server.run().map_err(system)
}

/// The simulator with these faults.
fn simulator_site(faults: &[String]) -> Result<Site, Failure> {
    let refused =
        |error| (exit::USAGE, format!("--fault: {error}; see voicelived simulate --help"));
    let script = Script::parse(faults).map_err(refused)?;
    Ok(Site::Simulator(Rc::new(Options { script, ..Options::default() })))
}

/// The sources of the settings. The listening sockets that were passed are one of them.
fn begin(purpose: Purpose, args: &RunArgs) -> Result<(Provenance, Vec<Passed>), Failure> {
    let passed = systemd::passed_sockets().map_err(|error| (exit::CONFIG, error))?;
    let place = |&Passed { address, secure, .. }: &Passed| PassedSocket { address, secure };
    let sockets = passed.iter().map(place).collect();
    Ok((Provenance { purpose, args: args.clone(), sockets, simulator: None }, passed))
}

fn configure(from: &Provenance) -> Result<Config, Failure> {
    let config = from.read().map_err(|faults| (exit::CONFIG, service::lines(&faults)))?;
    crate::system::log::init(config.log);
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    if let Some(proxy) = &config.service.proxy {
        log::info!("the service is reached through the proxy {proxy} ({})", proxy.variable);
    }
    if !is_clock_set(SystemTime::now()) {
        log::warn!(
            "this device's clock has not been set. Until it is set, certificates seem to be not valid \
             yet, so calls fail. Each new call tries again."
        );
    }
    if let Some(sentence) = &config.unready {
        log::error!("{sentence}");
    }
    Ok(config)
}

fn serve(
    config: Config,
    mut listen: Vec<Listen>,
    passed: Vec<Passed>,
    from: Provenance,
) -> Result<(), Failure> {
    let simulated = !listen.is_empty();
    let program = std::env::current_exe().map_err(system)?;
    let folders = Folders::default();
    let certificates = config.web.tls_listen.map(|_| certificates(&config)).transpose()?;
    let doors = listen_for_calls(&config, passed, certificates.as_ref(), simulated)?;
    let urls: Vec<String> = doors.iter().filter_map(url).collect();
    let own = certificates.as_ref().map_or(&[][..], |(certificates, _)| certificates.own_names());
    let names = own_names::of(&config);
    if let Some((certificates, _)) = &certificates {
        warn_of_names(certificates, names.set());
    }
    let invitation = Invitation::to(&doors, own, &config.web.names);
    listen.extend(doors);
    let token = access_token::token(&config)?;
    let tls = ClientConfigs::default();
    let configuration = reload::configuration(&config, &folders, token.as_ref(), &tls)
        .map_err(|error| (exit::CONFIG, error))?;
    let calls = Calls {
        certificates: certificates.map(|(certificates, _)| certificates),
        spending: spending(&config)?,
        configuration,
        program,
        max_sessions: config.limits.max_sessions,
        max_sessions_per_address: config.limits.max_sessions_per_address,
        connects_per_minute: config.limits.connects_per_minute,
        pool_blocks: blocks(&config),
        drain: config.limits.drain,
        reread: reload::reread(from, config, folders, tls),
    };
    let server = Server::new(listen, Some(calls)).map_err(system)?;
    let server = server.named_by(names).managed_by(manager()).with_tools(Instant::now());
    invitation.print(token.as_ref());
    // Only now is every socket served and every signal heard.
    for url in urls {
        log::info!("listening on {url}");
    }
    server.run().map_err(system)
}

/// The spending guard. It continues with the minutes that it has kept.
fn spending(config: &Config) -> Result<Option<Ledger>, Failure> {
    let Some(limit) = config.limits.daily else { return Ok(None) };
    let Some(folder) = &config.state_dir else {
        let message =
            "VOICELIVED_STATE_DIR: there is no folder to keep the day's minutes in; set it";
        return Err((exit::CONFIG, message.to_owned()));
    };
    Ledger::open(folder, limit, SystemTime::now(), Instant::now())
        .map(Some)
        .map_err(|error| (exit::CANNOT_CREATE, format!("{}: {error}", folder.display())))
}

/// 48,000 bytes of PCM a second.
fn blocks(config: &Config) -> usize {
    let milliseconds = usize::try_from(config.limits.audio_pool.as_millis()).unwrap_or(usize::MAX);
    milliseconds.saturating_mul(48) / BLOCK_BYTES
}

/// The HTTPS listeners and the plain ones, if they are switched on. Passed sockets come first.
/// Without any, one socket is bound here.
fn listen_for_calls(
    config: &Config,
    passed: Vec<Passed>,
    secured: Option<&Secured>,
    simulated: bool,
) -> Result<Vec<Listen>, Failure> {
    let (secure, plain): (Vec<_>, Vec<_>) = passed.into_iter().partition(|socket| socket.secure);
    let mut listen = Vec::new();
    let mut https = None;
    if let (Some(address), Some((certificates, tls))) = (config.web.tls_listen, secured) {
        for (socket, passed) in sockets(address, secure, "VOICELIVED_TLS_LISTEN")? {
            let mut door = call_site(socket, true, config, Some(certificates), simulated)?;
            door.tls = Some(Arc::clone(tls));
            door.passed = passed;
            https = https.or(Some(door.socket.local_addr().map_err(system)?.port()));
            listen.push(door);
        }
    }
    if let Some(address) = config.web.listen {
        let certificates = secured.map(|(certificates, _)| certificates);
        for (socket, passed) in sockets(address, plain, "--listen or VOICELIVED_LISTEN")? {
            let mut door = call_site(socket, false, config, certificates, simulated)?;
            door.passed = passed;
            if let Site::Calls(site) = &mut door.site {
                site.https = https;
            }
            listen.push(door);
        }
    }
    Ok(listen)
}

/// The sockets that were passed, each with `true`. If there are none, one that is bound here at the
/// address of `setting`, with `false`.
fn sockets(
    address: SocketAddr,
    passed: Vec<Passed>,
    setting: &str,
) -> Result<Vec<(TcpListener, bool)>, Failure> {
    if passed.is_empty() {
        let socket = bind(address).map_err(|error| cannot_listen(address, &error, setting))?;
        return Ok(vec![(socket, false)]);
    }
    Ok(passed.into_iter().map(|passed| (passed.socket, true)).collect())
}

/// The connection to the service manager. A start without it is better than no start.
fn manager() -> Manager {
    Manager::from_environment().unwrap_or_else(|error| {
        log::warn!("NOTIFY_SOCKET: the service manager cannot be told anything: {error}");
        Manager::default()
    })
}

fn url(door: &Listen) -> Option<String> {
    let scheme = if door.tls.is_some() { "https" } else { "http" };
    Some(format!("{scheme}://{}", door.socket.local_addr().ok()?))
}

fn call_site(
    socket: TcpListener,
    secure: bool,
    config: &Config,
    certificates: Option<&Certificates>,
    simulated: bool,
) -> Result<Listen, Failure> {
    let extra =
        config.web.allowed_origins.iter().filter_map(|origin| Origin::parse(origin)).collect();
    // With port 0 the kernel chooses a port, and the gate must know it.
    let address = socket.local_addr().map_err(system)?;
    let mut gate = Gate::new(secure, address, extra);
    let own = own_names::of(config);
    let of_device = (&own.read(), own.set());
    let names = Certificates::names_at(certificates, of_device, address.ip(), secure);
    gate.set_device_names(&names.dns, &names.addresses);
    gate.set_published(own_names::published(config));
    gate.set_proxies(Proxies::new(config.web.trusted_proxies.clone()));
    gate.set_frame_ancestors(&config.web.frame_ancestors);
    let ca_pem = certificates.and_then(Certificates::ca_pem).map(Rc::from);
    let site = CallSite { gate, simulated, https: None, ca_pem };
    Ok(Listen { socket, site: Site::Calls(site), tls: None, passed: false })
}

/// The certificates, and the TLS configuration that the first handshakes use.
type Secured = (Certificates, Arc<rustls::ServerConfig>);

/// The owner's certificate files, or the local authority, made on the first start.
fn certificates(config: &Config) -> Result<Secured, Failure> {
    let refused = |error| (exit::CONFIG, error);
    if let Some((certificate, key)) = &config.web.tls_files {
        let mut files = OwnFiles::new(certificate.clone(), key.clone());
        let tls = files.load(SystemTime::now()).map_err(refused)?;
        return Ok((Certificates::Own(Box::new(files)), tls));
    }
    let Some(folder) = &config.state_dir else {
        let message = "VOICELIVED_STATE_DIR: there is no folder to keep certificates in; set it, or VOICELIVED_TLS_CERT and VOICELIVED_TLS_KEY";
        return Err(refused(message.to_owned()));
    };
    let names = own_names::of(config).read();
    let mut authority = Authority::open(folder, &names, SystemTime::now()).map_err(refused)?;
    for warning in authority.take_warnings() {
        log::warn!("{warning}");
    }
    let tls = authority.server_config().map_err(refused)?;
    log::info!(
        "devices must trust the authority, see /trust (SHA-256 {})",
        authority.fingerprint()
    );
    Ok((Certificates::Local(Box::new(authority)), tls))
}

/// Warns of names that the owner has set, and for which the certificate does not hold.
fn warn_of_names(certificates: &Certificates, set: &Names) {
    let remedy = match certificates {
        Certificates::Own(_) => "get one that names it",
        // The authority itself warns of names. Of addresses it does not, since the system's come and go.
        Certificates::Local(_) => {
            "the authority is older, and it may vouch for private addresses only"
        }
    };
    for name in certificates.lacks(set) {
        log::warn!("VOICELIVED_NAMES: the certificate does not hold for {name}: {remedy}");
    }
}

/// A listener of the simulator.
fn listen_on(address: SocketAddr, site: Site) -> Result<Listen, Failure> {
    let socket = bind(address).map_err(|error| cannot_listen(address, &error, "--listen"))?;
    Ok(Listen { socket, site, tls: None, passed: false })
}

fn server_tls(certificate: &Path, key: &Path) -> Result<Arc<rustls::ServerConfig>, Failure> {
    let named = |option: &str, path: &Path, error: &dyn std::fmt::Display| {
        format!("{option} {}: {error}", path.display().to_string().escape_debug())
    };
    let read = |option: &str, path: &Path| {
        files::read(path, MAX_PEM).map_err(|error| (exit::NO_INPUT, named(option, path, &error)))
    };
    let (chain, secret) = (read("--cert", certificate)?, read("--key", key)?);
    tls::private_key(&secret).map_err(|error| (exit::DATA, named("--key", key, &error)))?;
    tls::server_config(&chain, &secret)
        .map_err(|error| (exit::DATA, named("--cert", certificate, &error)))
}

/// `setting` is what chose the address.
fn cannot_listen(address: SocketAddr, error: &io::Error, setting: &str) -> Failure {
    let text = format!("cannot listen on {address}: {error}. Choose another with {setting}.");
    (exit::UNAVAILABLE, text)
}

fn system(error: io::Error) -> Failure {
    (exit::SYSTEM, format!("the system refuses: {error}"))
}
