//! What the core needs for one frame of audio, from the bytes that come to the bytes that leave. What
//! no relay can avoid is measured by `floor-frames` of `benches/load`, on the same cases.
//!
//! A real `Session` with real sockets on loopback is pumped by hand: no poll and no other call is in
//! the figures. Everything that must be there is there before the measured part begins, and what it
//! sent is checked after. Times are medians of single frames and hold the system calls, one receive
//! and one send; instructions are the user's only, so the kernel is not in them.
//!
//!     frames                          a line of JSON for each case
//!     frames count CASE up|down N     for callgrind
//!
//! `benches/instructions` does the latter and compares with the record; `make bench` shows both.

#[path = "../../load/src/frame.rs"]
#[allow(dead_code, reason = "the load uses the rest")]
mod frame;
#[path = "../../load/src/shape.rs"]
#[allow(dead_code, reason = "the floor uses the rest")]
mod shape;
mod stage;
#[path = "../../load/src/unavoidable.rs"]
#[allow(dead_code, reason = "the floor uses the rest")]
mod unavoidable;

use std::time::Instant;

use shape::{CASES, Direction, Shape, direction, quartiles, shape};
use stage::Stage;

/// Frames of which a median is made.
const SAMPLES: usize = 2_000;

/// Frames before the first that counts: buffers grow to their size, caches fill.
const WARM_UP: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => CASES.iter().for_each(|(name, shape)| report(name, *shape)),
        ["count", name, way, frames] => {
            count(name, direction(way), frames.parse().expect("a number of frames"))
        }
        _ => panic!("no arguments, or `count CASE up|down FRAMES`"),
    }
}

/// For callgrind, which counts within [`stage::measured`] only. Frames go both ways, as in a call.
fn count(name: &str, counted: Direction, frames: usize) {
    let mut stage = Stage::new(shape(name));
    for number in 0..WARM_UP + frames {
        for direction in [Direction::Up, Direction::Down] {
            stage.prepare(direction);
            if direction == counted && number >= WARM_UP {
                stage.relay();
            } else {
                stage.relay_aside();
            }
            stage.check(direction);
        }
    }
}

fn report(name: &str, shape: Shape) {
    let mut stage = Stage::new(shape);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let mut allocations = [0, 0];
    for number in 0..WARM_UP + SAMPLES {
        for (direction, times) in [(Direction::Up, &mut up), (Direction::Down, &mut down)] {
            stage.prepare(direction);
            let started = Instant::now();
            let counted = allocation_counter::measure(|| stage.relay());
            let time = started.elapsed();
            stage.check(direction);
            if number >= WARM_UP {
                allocations[usize::from(direction == Direction::Down)] += counted.count_total;
                times.push(time);
            }
        }
    }
    let line = serde_json::json!({
        "case": name,
        "up_ns": quartiles(up), "down_ns": quartiles(down),
        "up_allocations": allocations[0] as f64 / SAMPLES as f64,
        "down_allocations": allocations[1] as f64 / SAMPLES as f64,
    });
    println!("{line}");
}
