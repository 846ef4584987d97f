//! The simulated service: whatever a client sends, it answers with events, in bounds, and what ended
//! stays ended.
//!
//! Each line of the input is a step. The first line may be `!` and script words.
//!
//! | Line | Step |
//! |---|---|
//! | `{…}` | a text message |
//! | `b…` | a binary message |
//! | `a`, `s` | 100 ms of a tone, or of silence |
//! | `tN` | N milliseconds pass |
//! | `pN` | N polls |
//! | `x` | the last message again and again |

use std::rc::Rc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use voicelived::simulator::{Action, Admission, Dialect, Options, Script, Simulation};

/// Steps of one input at most.
const MOST_STEPS: usize = 300;

/// Events that may wait for a client which does not read: the simulator cuts it off at 4,096, and
/// one message may bring some more.
const MOST_WAITING: usize = 4_096 + 64;

/// How often `x` repeats: enough to be cut off.
const TIMES: usize = 5_000;

/// Longer messages are not repeated: that would take seconds.
const MOST_REPEATED: usize = 200;

/// Steps as the module's text tells.
pub fn fuzz_simulator(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n').peekable();
    let words = lines.next_if(|line| line.starts_with('!'));
    let Ok(script) = Script::parse(words.unwrap_or("!")[1..].split_whitespace()) else {
        return;
    };
    // Big messages and long replies cost time and find nothing.
    if script.big_message.is_some_and(|bytes| bytes > 10_000)
        || script.reply_seconds.is_some_and(|seconds| seconds > 5)
    {
        return;
    }
    let mut client = Client::new(script);
    for line in lines.take(MOST_STEPS) {
        client.step(line);
    }
    client.read_all();
    client.wait(Duration::from_secs(60));
    // Sessions last an hour, whatever happens.
    client.wait(Duration::from_secs(86_401));
    assert!(client.ended || client.simulation.deadline().is_none(), "a session without end");
}

struct Client<'a> {
    simulation: Simulation,
    now: Instant,
    last: &'a str,
    repeated: bool,
    binary: bool,
    garbage: bool,
    ended: bool,
}

impl<'a> Client<'a> {
    fn new(script: Script) -> Self {
        let now = Instant::now();
        let (binary, garbage) = (script.binary, script.garbage);
        let dialect = script.dialect.unwrap_or(Dialect::Dated);
        let admission = Admission { dialect, model: "m".to_owned(), agent: false };
        let options = Rc::new(Options { script, ..Options::default() });
        let simulation = Simulation::new(options, admission, 1, now, 1_700_000_000);
        Self { simulation, now, last: "", repeated: false, binary, garbage, ended: false }
    }

    fn step(&mut self, line: &'a str) {
        let Some(first) = line.chars().next() else {
            return;
        };
        let number: u64 = line[first.len_utf8()..].trim().parse().unwrap_or_default();
        match first {
            'b' => self.simulation.handle_binary(&line.as_bytes()[1..], self.now),
            'a' => self.speak(true),
            's' => self.speak(false),
            't' => self.wait(Duration::from_millis(number.min(100_000))),
            'p' => (0..number.min(100)).for_each(|_| drop(self.poll())),
            'x' if !self.repeated && self.last.len() <= MOST_REPEATED => {
                self.repeated = true;
                for _ in 0..TIMES {
                    self.simulation.handle_text(self.last, self.now);
                }
                let waiting = self.read_all();
                assert!(waiting <= MOST_WAITING, "{waiting} events waited");
            }
            _ => {
                self.last = line;
                self.simulation.handle_text(line, self.now);
            }
        }
    }

    /// A tenth of a second, as the daemon sends it.
    fn speak(&mut self, loud: bool) {
        let level: i16 = if loud { 6_000 } else { 0 };
        let samples = (0..2_400).map(|at| if at % 80 < 40 { level } else { -level });
        let pcm: Vec<u8> = samples.flat_map(i16::to_le_bytes).collect();
        let audio = STANDARD.encode(pcm);
        let text = format!(r#"{{"type":"input_audio_buffer.append","audio":"{audio}"}}"#);
        self.simulation.handle_text(&text, self.now);
        self.wait(Duration::from_millis(100));
    }

    /// Lets time pass, polling at each deadline on the way.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        self.read_all();
        let mut wakes = 0;
        while let Some(due) = self.simulation.deadline().filter(|due| *due <= end) {
            assert!(due > self.now || self.ended, "a deadline that passed must not stay");
            self.now = self.now.max(due);
            self.read_all();
            wakes += 1;
            assert!(wakes < 100_000, "woken without end");
        }
        self.now = end;
        self.read_all();
    }

    /// Everything that is due now; how many actions that were.
    fn read_all(&mut self) -> usize {
        let mut actions = 0;
        while self.poll().is_some() {
            actions += 1;
            assert!(actions < 100_000, "it talks without end");
        }
        actions
    }

    fn poll(&mut self) -> Option<Action> {
        let action = self.simulation.poll(self.now)?;
        assert!(!self.ended, "{action:?} after the end");
        match &action {
            Action::Send(text) => self.check(text),
            Action::SendBinary(data) => {
                assert!(self.binary);
                self.check(std::str::from_utf8(data).expect("text"));
            }
            Action::Ping => {}
            Action::Close { reason, .. } => {
                assert!(reason.len() <= 123);
                self.ended = true;
            }
            Action::Reset => self.ended = true,
        }
        if self.ended {
            assert_eq!(self.simulation.deadline(), None);
        }
        Some(action)
    }

    fn check(&self, text: &str) {
        match serde_json::from_str::<Value>(text) {
            Ok(event) => assert!(event["type"].is_string(), "{text}"),
            Err(error) => assert!(self.garbage, "{error}: {text}"),
        }
    }
}
