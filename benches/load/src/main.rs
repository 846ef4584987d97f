//! Loads a relay, any relay that is given as a command, and tells what it costs and how late it is.
//!
//! N callers on loopback stream noise to the relay's `/ws`; the relay's service is a stand-in in
//! this process that sends the same audio back. Every byte is checked. The relay has a core for
//! itself in real time; callers and stand-in have the other and never sleep, so that a relay's
//! sends wake nobody. In the saturating mode all share one core and every call has one frame out,
//! so that the relay always finds all that can wait for it. Prints one line of JSON per step.

mod caller;
mod certificates;
mod connections;
mod disturb;
mod engine;
mod fairness;
mod frame;
mod pattern;
mod process;
mod service;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use disturb::Orders;
use engine::{Engine, Pace, audio_seconds};
use fairness::Plan;
use process::{Relay, Schedule, Surroundings, Usage};
use serde_json::{Value, json};

const USAGE: &str = "load [--mode realtime|saturate|idle|tools|fairness|connections|\
    secure-connections] [--calls N[,N…]] [--talking N] [--seconds S] \
    [--beside NAME[,NAME…]] [--until MS] [--name NAME] [--sleep] [--urgent] -- COMMAND…
  COMMAND starts the relay; {port} in it is the port to listen on, which is in $PORT too.
  --calls 250,500  steps: more calls are added to those there are
  --beside alone,burst  of the troubles in fairness, these (all: alone, burst, slow-reader,
                   flood, abuse, crumbs, handshakes, rollover)
  --mode tools     the model calls a built-in tool in all calls at once, again and again
  --talking N      callers that speak, the others are silent (all)
  --until MS       no further step once the 99th percentile of delay is above
  --sleep          callers and stand-in sleep in epoll instead of spinning (real time only)
  --urgent         real-time priority, to measure on a machine that has other work; for root";

/// The time that is left out at the beginning of a measurement.
const WARM_UP: Duration = Duration::from_millis(500);

struct Options {
    mode: Mode,
    steps: Vec<usize>,
    time: Duration,
    until: Option<f64>,
    name: String,
    sleep: bool,
    urgent: bool,
    /// Callers that speak, if not all.
    talking: usize,
    /// Of the troubles of `fairness`, these; all if empty.
    beside: Vec<String>,
    command: Vec<String>,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Calls of this pace.
    Pace(Pace),
    /// A tool is called in each call, in all of them at once.
    Tools,
    /// Quiet calls beside others' trouble.
    Fairness,
    /// HTTP connections that are kept and ask for nothing more.
    Connections { secure: bool },
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some("__disturb") {
        let orders = Orders::read(&words.collect::<Vec<_>>()).ok_or("no such orders")?;
        return disturb::run(&orders);
    }
    let options = options()?;
    let folder = Folder::new()?;
    certificates::make(&folder.0)?;
    let mut engine = Engine::new(certificates::server(&folder.0)?)?;
    let shared = options.mode == Mode::Pace(Pace::Saturating);
    let fairness = options.mode == Mode::Fairness;
    let calls = options.steps.iter().copied().max().unwrap_or(1).max(1);
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
            calls: if fairness { calls + fairness::PLACES } else { calls },
            core: relay_core,
            schedule,
            https: fairness || options.mode == Mode::Connections { secure: true },
        },
    )?;
    engine.talking = options.talking;
    let outcome = if let Mode::Connections { secure } = options.mode {
        connections::run(&options.name, calls, secure, &relay, &folder.0)
    } else if fairness {
        let plan = Plan {
            name: &options.name,
            calls,
            time: options.time,
            beside: &options.beside,
            urgent: options.urgent,
            folder: &folder.0,
            core: own_core,
        };
        fairness::run(&plan, &relay, &mut engine)
    } else {
        steps(&options, &relay, &mut engine)
    };
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
        match options.mode {
            Mode::Pace(Pace::Silent) => watch(options, relay, engine, &mut line)?,
            Mode::Pace(pace) => talk(options, pace, relay, engine, &mut line)?,
            Mode::Tools => call_tools(options, engine, &mut line)?,
            Mode::Fairness | Mode::Connections { .. } => {}
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

/// How often the relay wakes while no side talks.
fn watch(
    options: &Options,
    relay: &Relay,
    engine: &mut Engine,
    line: &mut Value,
) -> io::Result<()> {
    if options.time.is_zero() {
        return Ok(());
    }
    // What the calls' beginning has put off.
    engine.run(WARM_UP)?;
    let (before, start) = (relay.usage()?, Instant::now());
    engine.run(options.time)?;
    let used = relay.usage()?.since(before);
    line["wakeups_per_second"] = json!(used.sleeps as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

fn talk(
    options: &Options,
    pace: Pace,
    relay: &Relay,
    engine: &mut Engine,
    line: &mut Value,
) -> io::Result<()> {
    engine.spin = pace == Pace::RealTime && !options.sleep;
    engine.set_pace(pace)?;
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

/// From a tool call of the model to its result, as the service sees it.
fn call_tools(options: &Options, engine: &mut Engine, line: &mut Value) -> io::Result<()> {
    // The first round finds a child whose memory is not warm.
    engine.tool_round()?;
    let (mut times, start) = (Vec::new(), Instant::now());
    while start.elapsed() < options.time {
        times.extend(engine.tool_round()?);
        // The relay's request for an answer belongs to this round.
        engine.run(Duration::from_millis(5))?;
    }
    line["tool_runs"] = json!(times.len());
    line["tool_ms"] = percentiles(&mut times);
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
        mode: Mode::Pace(Pace::RealTime),
        steps: vec![1],
        time: Duration::from_secs(5),
        until: None,
        name: "relay".to_owned(),
        sleep: false,
        urgent: false,
        talking: usize::MAX,
        beside: Vec::new(),
        command: Vec::new(),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("mode") => {
                options.mode = match parser.value()?.string()?.as_str() {
                    "realtime" => Mode::Pace(Pace::RealTime),
                    "saturate" => Mode::Pace(Pace::Saturating),
                    "idle" => Mode::Pace(Pace::Silent),
                    "tools" => Mode::Tools,
                    "fairness" => Mode::Fairness,
                    "connections" => Mode::Connections { secure: false },
                    "secure-connections" => Mode::Connections { secure: true },
                    other => return Err(format!("no mode {other}\n{USAGE}").into()),
                }
            }
            Long("calls") => {
                let list = parser.value()?.string()?;
                options.steps = list.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            Long("talking") => options.talking = parser.value()?.parse()?,
            Long("beside") => {
                let list = parser.value()?.string()?;
                options.beside = list.split(',').map(str::to_owned).collect();
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
