//! Seeded random clients: whatever they do, the rules of the protocol hold. `SIMULATOR_SEED` replays
//! one seed.

use super::*;

/// A linear congruential generator: the same numbers everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        let count = u64::try_from(list.len()).unwrap();
        &list[usize::try_from(self.roll(count)).unwrap()]
    }
}

const WORDS: [&str; 12] = [
    "late-deltas=2",
    "cancel-previous",
    "tools=2",
    "say-first",
    "bad-arguments",
    "transcript=late",
    "transcript=early",
    "latency=50",
    "incomplete-response",
    "odd-pcm",
    "unknown-events",
    "dialect=dated",
];

fn tone(loud: bool) -> Vec<u8> {
    let level: i16 = if loud { 6000 } else { 0 };
    (0..2400).flat_map(|n| (if n % 80 < 40 { level } else { -level }).to_le_bytes()).collect()
}

/// Something a client might send; `seen` are ids it has heard of.
fn anything(dice: &mut Dice, seen: &[String]) -> Value {
    let unknown = "nobody".to_owned();
    let id = if seen.is_empty() { &unknown } else { dice.pick(seen) };
    let vads = [
        json!(null),
        json!({"type": "server_vad", "interrupt_response": false}),
        json!({"type": "azure_semantic_vad", "auto_truncate": true, "silence_duration_ms": 100}),
        json!({"type": "server_vad", "create_response": false}),
    ];
    match dice.roll(16) {
        0..=4 => json!({"type": "input_audio_buffer.append", "audio": STANDARD.encode(tone(true))}),
        5..=8 => {
            json!({"type": "input_audio_buffer.append", "audio": STANDARD.encode(tone(false))})
        }
        9 => json!({"type": "response.create"}),
        10 => json!({"type": "response.cancel"}),
        11 => json!({"type": "input_audio_buffer.commit"}),
        12 => json!({"type": "session.update",
            "session": {"turn_detection": dice.pick(&vads), "tools": two_tools()}}),
        13 => json!({"type": "conversation.item.create", "item": {"type": "function_call_output",
            "call_id": id, "output": "{}"}}),
        14 => {
            json!({"type": "conversation.item.create", "item": {"type": "message", "role": "user",
            "content": [{"type": "input_text", "text": "weather and stock"}]}})
        }
        _ => json!({"type": "conversation.item.truncate", "item_id": id, "content_index": 0,
            "audio_end_ms": dice.roll(2000)}),
    }
}

#[derive(Default)]
struct Rules {
    response: Option<String>,
    speaking: bool,
    open_items: Vec<String>,
    seen: Vec<String>,
}

impl Rules {
    fn check(&mut self, event: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for id in [&event["item"]["id"], &event["item"]["call_id"]] {
            self.seen.extend(id.as_str().map(str::to_owned));
        }
        match event["type"].as_str().unwrap() {
            "response.created" => {
                let id = text(&event["response"]["id"]);
                assert!(self.response.replace(id).is_none(), "two responses at once");
            }
            "response.done" => {
                let id = text(&event["response"]["id"]);
                assert_eq!(self.response.take(), Some(id));
                assert!(self.open_items.is_empty(), "an output item was left open");
            }
            "response.output_item.added" => self.open_items.push(text(&event["item"]["id"])),
            "response.output_item.done" => {
                let id = text(&event["item"]["id"]);
                assert_eq!(self.open_items.pop(), Some(id));
            }
            "input_audio_buffer.speech_started" => {
                self.speaking = true;
            }
            "input_audio_buffer.speech_stopped" => {
                assert!(std::mem::take(&mut self.speaking), "stopped without having started");
            }
            "response.audio.delta" => {
                assert_eq!(self.response.as_deref(), event["response_id"].as_str());
                assert_eq!(self.open_items.last().map(String::as_str), event["item_id"].as_str());
            }
            _ => {}
        }
    }
}

fn run(seed: u64) {
    let mut dice = Dice(seed);
    let words: Vec<&str> = (0..dice.roll(4)).map(|_| *dice.pick(&WORDS)).collect();
    let mut client = Client::scripted(&words);
    let mut rules = Rules::default();
    for _ in 0..150 {
        let event = anything(&mut dice, &rules.seen);
        let mut text = event.to_string();
        if dice.roll(20) == 0 {
            text.truncate(text.len() / 2);
        }
        client.simulation.handle_text(&text, client.now);
        client.now += Duration::from_millis(dice.roll(200));
        // A socket with room for a few messages only.
        for _ in 0..dice.roll(12) {
            if let Some(Action::Send(text)) = client.simulation.poll(client.now) {
                rules.check(&serde_json::from_str(&text).unwrap());
            }
        }
    }
    client.read();
    client.wait(60_000);
    client.take().iter().for_each(|event| rules.check(event));
    assert_eq!(rules.response, None, "a response never ended");
}

#[test]
fn random_clients_never_break_the_rules() {
    let replay = std::env::var("SIMULATOR_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = replay.map_or(0..40_u64, |seed| seed..seed + 1);
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "failed with SIMULATOR_SEED={seed}");
    }
}
