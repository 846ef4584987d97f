//! Loads a relay, any relay that is given as a command, and tells what it costs and how late it is.
//!
//! N callers on loopback stream noise to the relay's `/ws`; the relay's service is a stand-in in
//! this process that sends the same audio back. Every byte is checked. The relay has a core for
//! itself in real time; callers and stand-in have the other and never sleep, so that a relay's
//! sends wake nobody. In the saturating mode all share one core and every call has one frame out,
//! so that the relay always finds all that can wait for it. Prints one line of JSON per step.

mod caller;
mod engine;
mod frame;
mod pattern;
mod process;
mod service;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Engine, Pace, audio_seconds};
use process::{Relay, Schedule, Surroundings, Usage};
use serde_json::{Value, json};

const USAGE: &str = "load [--mode realtime|saturate|idle] [--calls N[,N…]] [--seconds S] \
    [--until MS] [--name NAME] [--sleep] [--urgent] -- COMMAND…
  COMMAND starts the relay; {port} in it is the port to listen on, which is in $PORT too.
  --calls 250,500  steps: more calls are added to those there are
  --until MS       no further step once the 99th percentile of delay is above
  --sleep          callers and stand-in sleep in epoll instead of spinning (real time only)
  --urgent         real-time priority, to measure on a machine that has other work; for root";

/// What is left out at the beginning of a measurement.
const WARM_UP: Duration = Duration::from_millis(500);

struct Options {
    mode: Pace,
    steps: Vec<usize>,
    time: Duration,
    until: Option<f64>,
    name: String,
    sleep: bool,
    urgent: bool,
    command: Vec<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = options()?;
    let folder = Folder::new()?;
    let tls = certificates(&folder.0)?;
    let mut engine = Engine::new(tls)?;
    let shared = options.mode == Pace::Saturating;
    let (relay_core, own_core) = if shared { (1, 1) } else { (0, 1) };
    let schedule = match (options.urgent, shared) {
        (true, _) => Schedule::Urgent,
        (false, true) => Schedule::Batch,
        (false, false) => Schedule::Usual,
    };
    process::pin_self(own_core, schedule)?;
    let relay = Relay::start(
        &options.command,
        &Surroundings {
            service: engine.service,
            folder: &folder.0,
            calls: options.steps.iter().copied().max().unwrap_or(1).max(1),
            core: relay_core,
            schedule,
        },
    )?;
    let outcome = steps(&options, &relay, &mut engine);
    if outcome.is_err() {
        eprintln!("{}", std::fs::read_to_string(folder.0.join("relay.log"))?);
    }
    outcome.map_err(Into::into)
}

fn steps(options: &Options, relay: &Relay, engine: &mut Engine) -> io::Result<()> {
    std::thread::sleep(Duration::from_millis(300));
    let idle = relay.memory()?;
    for &calls in &options.steps {
        let started = open_calls(relay, engine, calls)?;
        engine.run(Duration::from_millis(200))?;
        let silent = relay.memory()?;
        let mut line = json!({
            "name": options.name, "calls": calls,
            "ready_ms": ms(relay.start_to_ready),
            "start_cpu_ms": started, "resumed": engine.resumed,
            "rss_idle_kib": idle.0, "pss_idle_kib": idle.1,
            "rss_silent_kib": silent.0, "pss_silent_kib": silent.1,
        });
        if options.mode != Pace::Silent {
            talk(options, relay, engine, &mut line)?;
        }
        line["failed"] = json!(engine.failed);
        println!("{line}");
        let late = line["delay_ms"]["p99"].as_f64().unwrap_or(0.0);
        if !engine.failed.is_empty() || options.until.is_some_and(|most| late > most) {
            break;
        }
    }
    engine.spin = false;
    engine.hang_up()
}

/// Adds calls until there are `calls`; processor time of the relay for each, but for the first,
/// which has no TLS session to take up.
fn open_calls(relay: &Relay, engine: &mut Engine, calls: usize) -> io::Result<Value> {
    engine.spin = false;
    if engine.calls() == 0 && calls > 0 {
        engine.open_call(relay.address)?;
        engine.run(Duration::from_millis(20))?;
    }
    let (before, missing) = (relay.usage()?, calls - engine.calls());
    for _ in 0..missing {
        engine.open_call(relay.address)?;
    }
    if missing == 0 {
        return Ok(Value::Null);
    }
    engine.run(Duration::from_millis(20))?;
    Ok(json!(ms(relay.usage()?.since(before).cpu) / missing as f64))
}

fn talk(options: &Options, relay: &Relay, engine: &mut Engine, line: &mut Value) -> io::Result<()> {
    engine.spin = options.mode == Pace::RealTime && !options.sleep;
    engine.set_pace(options.mode)?;
    engine.run(WARM_UP)?;
    engine.begin_window();
    let (before, own, start) = (relay.usage()?, Usage::of(std::process::id())?, Instant::now());
    engine.run(options.time)?;
    let (used, own) = (relay.usage()?.since(before), Usage::of(std::process::id())?.since(own));
    let (frames, time) = (engine.window.echoed, start.elapsed());
    let talking = relay.memory()?;
    let whole = engine.drain(Duration::from_secs(3))?;
    if !whole && engine.failed.is_empty() {
        engine.failed.push("some audio never came back".to_owned());
    }
    let per_frame = |nanoseconds: u128| nanoseconds as f64 / 1e3 / frames.max(1) as f64;
    let fields = json!({
        "frames": frames, "all_frames": engine.echoed, "seconds": time.as_secs_f64(),
        "cpu_us_per_frame": per_frame(used.cpu.as_nanos()),
        "cpu_ms_per_audio_second": ms(used.cpu) / audio_seconds(frames).max(1e-9),
        "cpu_share": used.cpu.as_secs_f64() / time.as_secs_f64(),
        "user_ticks": used.user_ticks, "kernel_ticks": used.kernel_ticks,
        "sleeps_per_frame": used.sleeps as f64 / frames.max(1) as f64,
        "load_cpu_us_per_frame": per_frame(own.cpu.as_nanos()),
        "rss_talking_kib": talking.0, "pss_talking_kib": talking.1,
        "delay_ms": percentiles(&mut engine.window.delays),
        "late_ms": percentiles(&mut engine.window.lateness),
    });
    if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
        line.extend(fields);
    }
    Ok(())
}

fn percentiles(nanoseconds: &mut [u64]) -> Value {
    nanoseconds.sort_unstable();
    let at = |share: f64| {
        let index = ((nanoseconds.len() as f64 * share).ceil() as usize).saturating_sub(1);
        nanoseconds.get(index).map_or(0.0, |&value| value as f64 / 1e6)
    };
    json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1.0)})
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// An authority, in `ca.pem`, and the stand-in's certificate.
fn certificates(
    folder: &std::path::Path,
) -> Result<Arc<rustls::ServerConfig>, Box<dyn std::error::Error>> {
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(rcgen::DnType::CommonName, "Load bench");
    let key = rcgen::KeyPair::generate()?;
    std::fs::write(folder.join("ca.pem"), params.self_signed(&key)?.pem())?;
    let issuer = rcgen::Issuer::new(params, key);
    let mut leaf =
        rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    leaf.use_authority_key_identifier_extension = true;
    let key = rcgen::KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &issuer)?;
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()?
    .with_no_client_auth()
    .with_single_cert(
        vec![certificate.der().clone()],
        rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der())?,
    )?;
    Ok(Arc::new(config))
}

/// A folder of our own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let name = format!("voicelived-load-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn options() -> Result<Options, Box<dyn std::error::Error>> {
    use lexopt::prelude::*;
    let mut options = Options {
        mode: Pace::RealTime,
        steps: vec![1],
        time: Duration::from_secs(5),
        until: None,
        name: "relay".to_owned(),
        sleep: false,
        urgent: false,
        command: Vec::new(),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("mode") => {
                options.mode = match parser.value()?.string()?.as_str() {
                    "realtime" => Pace::RealTime,
                    "saturate" => Pace::Saturating,
                    "idle" => Pace::Silent,
                    other => return Err(format!("no mode {other}\n{USAGE}").into()),
                }
            }
            Long("calls") => {
                let list = parser.value()?.string()?;
                options.steps = list.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            Long("seconds") => options.time = Duration::from_secs_f64(parser.value()?.parse()?),
            Long("until") => options.until = Some(parser.value()?.parse()?),
            Long("name") => options.name = parser.value()?.string()?,
            Long("help") => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            Long("sleep") => options.sleep = true,
            Long("urgent") => options.urgent = true,
            Value(word) => {
                options.command.push(word.string()?);
                let rest = parser.raw_args()?.map(|word| word.string());
                options.command.extend(rest.collect::<Result<Vec<_>, _>>()?);
            }
            other => return Err(format!("{}\n{USAGE}", other.unexpected()).into()),
        }
    }
    if options.command.is_empty() || !options.steps.is_sorted() {
        return Err(USAGE.into());
    }
    Ok(options)
}
