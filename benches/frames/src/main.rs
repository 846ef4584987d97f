//! What the core needs for one frame of audio, from the bytes that come to the bytes that leave. What
//! no relay can avoid is measured by `floor-frames` of `benches/load`, on the same cases.
//!
//! A real `Session` is pumped by hand: no poll and no other call is in the figures. Everything that must
//! be there is there before the measured part begins, and what it sent is checked after. Its connections
//! are in memory, so that the figures are of its computing; times, medians of single frames, are told
//! once more over sockets on loopback, where they hold the system calls, one receive and one send.
//!
//!     frames                          a line of JSON for each case
//!     frames count CASE up|down N     for callgrind
//!
//! `benches/instructions` does the latter and compares with the record; `make bench` shows both.

#[path = "../../load/src/frame.rs"]
#[allow(
    dead_code,
    clippy::cast_possible_truncation,
    reason = "the load uses the rest, and judges itself"
)]
mod frame;
mod ground;
#[path = "../../load/src/memory.rs"]
mod memory;
#[path = "../../load/src/shape.rs"]
#[allow(dead_code, clippy::cast_possible_truncation, reason = "the floor uses the rest")]
mod shape;
mod stage;
#[path = "../../load/src/unavoidable.rs"]
#[allow(dead_code, reason = "the floor uses the rest")]
mod unavoidable;

use std::time::{Duration, Instant};

use ground::{Ground, InMemory, Sockets};
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

/// For callgrind, which counts within [`stage::frames_measured`] only. Frames go both ways, as in a call.
fn count(name: &str, counted: Direction, frames: usize) {
    let mut stage = Stage::<InMemory>::new(shape(name));
    for number in 0..WARM_UP + frames {
        for direction in [Direction::Up, Direction::Down] {
            stage.prepare(direction);
            if direction == counted && number >= WARM_UP {
                stage.relay_counted();
            } else {
                stage.relay_aside();
            }
            stage.check(direction);
        }
    }
}

fn report(name: &str, shape: Shape) {
    let memory = Figures::of::<InMemory>(shape);
    let sockets = Figures::of::<Sockets>(shape);
    let line = serde_json::json!({
        "case": name,
        "up_memory_ns": memory.times[0], "down_memory_ns": memory.times[1],
        "up_ns": sockets.times[0], "down_ns": sockets.times[1],
        "up_allocations": memory.allocations[0], "down_allocations": memory.allocations[1],
    });
    println!("{line}");
}

/// What is measured up and down.
struct Figures {
    /// Quartiles, in nanoseconds.
    times: [[u64; 3]; 2],
    /// A frame.
    allocations: [f64; 2],
}

impl Figures {
    fn of<G: Ground>(shape: Shape) -> Self {
        let mut stage = Stage::<G>::new(shape);
        let (mut times, mut allocations) = ([Vec::new(), Vec::new()], [0, 0]);
        for number in 0..WARM_UP + SAMPLES {
            for (way, direction) in [Direction::Up, Direction::Down].into_iter().enumerate() {
                stage.prepare(direction);
                let mut time = Duration::ZERO;
                let counted = allocation_counter::measure(|| {
                    let started = Instant::now();
                    stage.relay();
                    time = started.elapsed();
                });
                stage.check(direction);
                if number >= WARM_UP {
                    allocations[way] += counted.count_total;
                    times[way].push(time);
                }
            }
        }
        let allocations = allocations.map(|count| count as f64 / SAMPLES as f64);
        Self { times: times.map(quartiles), allocations }
    }
}
