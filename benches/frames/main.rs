//! What the core needs for one frame of audio, from the bytes that come to the bytes that leave. What
//! no relay can avoid is measured by `floor-frames` of `benches/load`, on the same cases.
//!
//! A real `Session` with real sockets on loopback is pumped by hand: no poll and no other call is in
//! the figures. Everything that must be there is there before the measured part begins, and what it
//! sent is checked after. Times are medians of single frames and hold the system calls, one receive
//! and one send; instructions are the user's only, so the kernel is not in them.
//!
//!     cargo bench --bench frames                     a line of JSON for each case
//!     cargo bench --bench frames -- count CASE N     runs N frames of one case, for callgrind
//!
//! `benches/instructions` does the latter and compares with the record; `make bench` shows both.

#[path = "../load/src/frame.rs"]
#[allow(dead_code, reason = "the load uses the rest")]
mod frame;
#[path = "../load/src/shape.rs"]
#[allow(dead_code, reason = "the floor uses the rest")]
mod shape;
mod stage;
#[path = "../load/src/unavoidable.rs"]
#[allow(dead_code, reason = "the floor uses the rest")]
mod unavoidable;

use std::time::Instant;

use shape::{CASES, Shape, quartiles, shape};
use stage::Stage;

/// Frames of which a median is made.
const SAMPLES: usize = 2_000;

/// Frames before the first that counts: buffers grow to their size, caches fill.
const WARM_UP: usize = 100;

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => CASES.iter().for_each(|(name, shape)| report(name, *shape)),
        ["cases"] => CASES.iter().for_each(|(name, _)| println!("{name}")),
        ["count", name, frames] => count(name, frames.parse().expect("a number of frames")),
        _ => panic!("no arguments, `cases`, or `count CASE FRAMES`"),
    }
}

/// For callgrind, which counts within [`stage::measured`] only.
fn count(name: &str, frames: usize) {
    let mut stage = Stage::new(shape(name));
    for _ in 0..WARM_UP {
        stage.prepare();
        stage.warm();
        stage.check();
    }
    for _ in 0..frames {
        stage.prepare();
        stage.relay();
        stage.check();
    }
}

fn report(name: &str, shape: Shape) {
    let mut stage = Stage::new(shape);
    let mut times = Vec::with_capacity(SAMPLES);
    let mut allocations = 0;
    for sample in 0..WARM_UP + SAMPLES {
        stage.prepare();
        let started = Instant::now();
        let counted = allocation_counter::measure(|| stage.relay());
        let time = started.elapsed();
        stage.check();
        if sample >= WARM_UP {
            allocations += counted.count_total;
            times.push(time);
        }
    }
    let line = serde_json::json!({
        "case": name,
        "ns": quartiles(times),
        "allocations": allocations as f64 / SAMPLES as f64,
    });
    println!("{line}");
}
