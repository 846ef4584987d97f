//! Quiet calls in real time beside another's trouble: how late they get, how much of that is this
//! process's own lateness, and how long the relay's turns are. The trouble comes from a process of
//! its own (`disturb`). Everybody takes turns within one run: alone, then each trouble.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::disturb::{self, KINDS, Kind, Orders};
use crate::engine::{Engine, Pace};
use crate::process::{Relay, Schedule};
use crate::{WARM_UP, ms, open_calls, percentiles};

/// After a trouble, until its calls are gone.
const REST: Duration = Duration::from_millis(400);

/// Beyond the measured time, the process that makes trouble goes on for this.
const MARGIN: Duration = Duration::from_millis(300);

/// Places for the calls that make trouble, those on their way out included.
pub(crate) const PLACES: usize = 64;

pub(crate) struct Plan<'a> {
    pub(crate) name: &'a str,
    pub(crate) calls: usize,
    pub(crate) time: Duration,
    /// Of `KINDS`, those that are wanted.
    pub(crate) beside: &'a [String],
    pub(crate) urgent: bool,
    pub(crate) folder: &'a Path,
    pub(crate) core: usize,
}

/// All steps, a line of JSON each.
pub(crate) fn run(plan: &Plan<'_>, relay: &Relay, engine: &mut Engine) -> io::Result<()> {
    open_calls(relay, engine, plan.calls)?;
    engine.close_door()?;
    for (title, kind) in KINDS {
        if plan.beside.is_empty() || plan.beside.iter().any(|wanted| wanted == title) {
            let mut line = step(plan, kind, relay, engine)?;
            line["beside"] = json!(title);
            println!("{line}");
            if !engine.failed.is_empty() {
                break;
            }
            engine.run(REST)?;
        }
    }
    engine.hang_up()
}

fn step(plan: &Plan<'_>, kind: Kind, relay: &Relay, engine: &mut Engine) -> io::Result<Value> {
    let orders = Orders {
        kind,
        relay: relay.address,
        secure: relay.secure,
        service: engine.service,
        folder: plan.folder.to_owned(),
        time: WARM_UP + plan.time + MARGIN,
    };
    let schedule = if plan.urgent { Schedule::Usual } else { Schedule::Behind };
    let trouble = disturb::spawn(&orders, plan.core, schedule.words())?;
    engine.set_pace(Pace::RealTime)?;
    engine.run(WARM_UP)?;
    // Asking makes the longest turn begin anew.
    let _ = longest_turn(relay);
    engine.run(Duration::from_millis(50))?;
    engine.begin_window();
    let (before, start) = (relay.usage()?, Instant::now());
    engine.run(plan.time)?;
    let (used, time) = (relay.usage()?.since(before), start.elapsed());
    let turn = longest_turn(relay);
    let whole = engine.drain(Duration::from_secs(3))?;
    if !whole && engine.failed.is_empty() {
        engine.failed.push("some audio never came back".to_owned());
    }
    let told = trouble.wait_with_output()?.stdout;
    Ok(json!({
        "name": plan.name, "calls": plan.calls, "failed": engine.failed,
        "frames": engine.window.echoed,
        "delay_ms": percentiles(&mut engine.window.delays),
        "load_waits_ms": percentiles(&mut engine.window.waits),
        "relay_waited_ms": ms(used.waited),
        "cpu_share": used.cpu.as_secs_f64() / time.as_secs_f64(),
        "turn_longest_ms": turn,
        "trouble": serde_json::from_slice::<Value>(&told).unwrap_or_default(),
    }))
}

/// The longest turn since the last time this was asked, of a relay that tells it in `/metrics`.
fn longest_turn(relay: &Relay) -> Option<f64> {
    let mut socket = TcpStream::connect(relay.address).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let host = relay.address;
    write!(socket, "GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).ok()?;
    let seconds =
        text.lines().find_map(|line| line.strip_prefix("voicelived_loop_turn_longest_seconds "))?;
    Some(seconds.parse::<f64>().ok()? * 1e3)
}
