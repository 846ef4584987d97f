//! A whole call in memory that loses the service at random moments: what the sessions hear of the
//! microphone, what the client hears of the replies, and what is left at the end.

use std::time::Duration;

use crate::support::random::Random;
use crate::support::scene::{Scene, settings};
use crate::support::whole_call::{
    end, find_service, for_seeds, numbers, read_numbers, refusal, send,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use voicelived::call::CallSettings;
use voicelived::net::ws::Message;

const FRAME: Duration = Duration::from_millis(20);
const SAMPLES: usize = 480;

/// A call, and everything that its two ends have said and heard.
struct Call {
    scene: Scene,
    /// The number of the next sample of the microphone. Each pair of samples says its own number.
    next: usize,
    /// The numbers that each session of the service has heard.
    heard: Vec<Vec<usize>>,
    /// All reply audio that the service has sent in an active session.
    sent: Vec<u8>,
    active: bool,
    replies: usize,
    /// The number of the first sample of a turn whose words the service has not told.
    open_turn: Option<usize>,
}

impl Call {
    fn new() -> Self {
        let settings = CallSettings { reconnect: Duration::from_secs(60), ..settings() };
        let scene = Scene::active(settings, usize::MAX);
        let mut call = Self {
            scene,
            next: 0,
            heard: vec![Vec::new()],
            sent: Vec::new(),
            active: true,
            replies: 0,
            open_turn: None,
        };
        call.listen();
        call
    }

    /// The client says 20 ms.
    fn speak(&mut self) {
        let pair = |sample: usize| u32::try_from(sample / 2).expect("it fits");
        let pairs = pair(self.next)..pair(self.next + SAMPLES);
        self.next += SAMPLES;
        send(&mut self.scene, Message::Binary(&numbers(pairs)));
        self.listen();
    }

    /// The service says something in its present session.
    fn say(&mut self, event: &Value) {
        self.scene.say(event.to_string().as_bytes());
        self.listen();
    }

    /// The service sends audio of its present reply.
    fn reply(&mut self, ms: usize) {
        let pcm: Vec<u8> = (0..ms * 48).map(|at| u8::try_from(at % 251).expect("small")).collect();
        let response = format!("r{}", self.replies);
        let delta = STANDARD.encode(&pcm);
        self.sent.extend(&pcm);
        self.say(&json!({"type": "response.audio.delta", "response_id": response, "item_id": "a",
            "output_index": 0, "content_index": 0, "delta": delta}));
    }

    fn pass(&mut self, time: Duration) {
        self.scene.pass(time);
        self.listen();
    }

    /// What the service was told since the last look.
    fn listen(&mut self) {
        for text in std::mem::take(&mut self.scene.told) {
            let event: Value = serde_json::from_str(&text).expect("JSON");
            if event["type"] != "input_audio_buffer.append" {
                continue;
            }
            let pcm = STANDARD.decode(event["audio"].as_str().expect("text")).expect("base64");
            let session = self.heard.last_mut().expect("there is one");
            for pair in read_numbers(&pcm) {
                let sample = pair as usize * 2;
                session.extend([sample, sample + 1]);
            }
        }
    }

    fn lose(&mut self) {
        self.scene.break_service();
        self.listen();
        self.active = false;
    }

    /// Time goes by, with the microphone on, until the call dials again.
    fn wait_for_redial(&mut self) {
        for _ in 0..600 {
            if self.scene.redial {
                return;
            }
            self.pass(FRAME);
            self.speak();
        }
        panic!("nobody calls: {}", self.scene.texts);
    }

    fn come_back(&mut self) {
        self.heard.push(Vec::new());
        find_service(&mut self.scene);
        self.listen();
        self.active = true;
    }

    /// The new session hears the turn that was under way from its beginning.
    fn come_back_to_the_turn(&mut self) {
        self.come_back();
        self.pass(Duration::from_secs(1));
        // A long turn has lost its beginning: what can be held is bounded.
        let turn = self.open_turn.take().filter(|start| self.next - start < 10 * 24_000);
        let first = self.heard.last().and_then(|session| session.first());
        if let (Some(start), Some(first)) = (turn, first) {
            assert!(*first <= start, "the turn's first {} samples", first - start);
        }
    }
}

/// No session hears a sample twice or out of order. What none has heard was counted: an outage may be longer than
/// what can be held.
fn check_microphone(call: &mut Call, seed: u64) {
    let counted = call.scene.counted("microphone_dropped_bytes_total") / 2;
    let counted = usize::try_from(counted).expect("it fits");
    let mut heard = vec![false; call.next];
    for (at, session) in call.heard.iter().enumerate() {
        assert!(session.is_sorted_by(|a, b| a < b), "seed {seed}, session {at}");
        session.iter().for_each(|sample| heard[*sample] = true);
    }
    let missing = heard.iter().filter(|heard| !**heard).count();
    assert!(missing <= counted, "seed {seed}: {missing} samples are missing, {counted} counted");
    assert_eq!(heard.last(), Some(&true), "seed {seed}: the end is missing");
}

fn run(seed: u64) {
    let mut random = Random::new(seed);
    let mut call = Call::new();
    for _ in 0..200 {
        match random.range(0, 20) {
            0..12 => {
                call.pass(FRAME);
                call.speak();
            }
            12..14 if call.active => call.reply(random.range(1, 400)),
            14 if call.active => {
                call.say(&json!({"type": "response.done", "response":
                    {"id": format!("r{}", call.replies), "status": "completed"}}));
                call.replies += 1;
            }
            15 if call.active => {
                call.say(&json!({"type": "input_audio_buffer.speech_started"}));
                call.open_turn.get_or_insert(call.next);
            }
            16 if call.active => {
                call.say(&json!({"type": "input_audio_buffer.speech_stopped"}));
                let item = format!("u{}", random.next());
                call.say(&json!({"type": "input_audio_buffer.committed", "item_id": item}));
                if random.one_in(2) {
                    call.say(
                        &json!({"type": "conversation.item.input_audio_transcription.completed",
                        "item_id": item, "content_index": 0, "transcript": "words"}),
                    );
                    call.open_turn = None;
                }
            }
            17 => call.pass(Duration::from_millis(random.range(0, 500) as u64)),
            18 if call.active => call.lose(),
            19 if !call.active => {
                call.wait_for_redial();
                if random.one_in(3) {
                    call.scene.refuse_redial(refusal(&mut random));
                } else {
                    call.come_back_to_the_turn();
                }
            }
            _ => {}
        }
        assert!(call.scene.session_is_talking(), "seed {seed}: {}", call.scene.texts);
    }
    while !call.active {
        call.wait_for_redial();
        call.come_back();
    }
    // Until nothing waits any more.
    call.pass(Duration::from_secs(40));
    check_microphone(&mut call, seed);
    end(call.scene, seed);
}

#[test]
fn no_session_misses_or_doubles_a_sample_of_the_microphone() {
    for_seeds(run);
}

#[test]
fn all_reply_audio_that_came_before_the_cut_is_heard() {
    let mut call = Call::new();
    for turn in 0..5 {
        call.replies = turn;
        for _ in 0..20 {
            call.reply(100);
        }
        call.lose();
        call.wait_for_redial();
        call.come_back();
    }
    assert!(call.scene.audio == call.sent, "{} of {}", call.scene.audio.len(), call.sent.len());
    let texts = &call.scene.texts;
    assert_eq!(texts.matches(r#""state":"reconnecting""#).count(), 5, "{texts}");
    assert_eq!(call.scene.counted("service_reconnects_total"), 5);
}

#[test]
fn half_a_sample_of_a_lost_session_is_no_part_of_the_next_one() {
    let mut call = Call::new();
    let odd = |bytes: usize, first: u8| STANDARD.encode(vec![first; bytes]);
    let delta = |response: &str, item: &str, base64: &str| {
        json!({"type": "response.audio.delta", "response_id": response, "item_id": item,
            "output_index": 0, "content_index": 0, "delta": base64})
    };
    call.say(&delta("r", "a", &odd(961, 1)));
    call.lose();
    call.wait_for_redial();
    call.come_back();
    call.say(&delta("r", "a", &odd(960, 2)));
    assert!(call.scene.audio == [vec![1; 960], vec![2; 960]].concat(), "no byte was shifted");
    assert_eq!(call.scene.counted("half_samples_dropped_total{side=\"service\"}"), 1);
}

#[test]
fn what_was_held_is_sent_at_twice_real_time() {
    let mut call = Call::new();
    call.lose();
    call.wait_for_redial();
    for _ in 0..100 {
        call.pass(FRAME);
        call.speak();
    }
    call.come_back();
    let held = call.next;
    let before = call.heard.last().expect("a session").len();
    assert!(before < SAMPLES, "{before} samples came at once");
    call.pass(Duration::from_secs(1));
    let heard = call.heard.last().expect("a session").len();
    assert!((45_000..=48_000).contains(&heard), "{heard} samples in a second");
    call.pass(Duration::from_secs(1));
    assert_eq!(call.heard.last().and_then(|session| session.last()), Some(&(held - 1)));
    // Caught up: what comes now goes straight through.
    call.speak();
    assert_eq!(call.heard.last().and_then(|session| session.last()), Some(&(call.next - 1)));
}

/// What is held is bounded. The silence after a question makes way before the question does.
#[test]
fn a_long_outage_costs_no_word_of_the_question_before_it() {
    let mut call = Call::new();
    call.say(&json!({"type": "input_audio_buffer.speech_started"}));
    let speak = |call: &mut Call, seconds: usize| {
        for _ in 0..seconds * 50 {
            call.pass(FRAME);
            call.speak();
        }
    };
    speak(&mut call, 5);
    let question = call.next;
    call.lose();
    call.wait_for_redial();
    speak(&mut call, 25);
    call.come_back();
    call.pass(Duration::from_secs(20));
    let heard = call.heard.last().expect("a session");
    assert!(heard[..question].iter().copied().eq(0..question), "the question is not whole");
    assert_eq!(heard.last(), Some(&(call.next - 1)), "what was said last is not there");
    check_microphone(&mut call, 0);
}

/// Of a long outage the last 16 s are held, to the sample, and what makes way for them is counted.
#[test]
fn sixteen_seconds_of_speech_are_held_in_an_outage() {
    let mut call = Call::new();
    call.lose();
    call.wait_for_redial();
    for _ in 0..1_000 {
        call.pass(FRAME);
        call.speak();
    }
    let first = call.next - 16 * 24_000;
    call.come_back();
    call.pass(Duration::from_secs(16));
    let heard = call.heard.last().expect("a session").iter().copied();
    assert!(
        heard.clone().eq(first..call.next),
        "{} samples from {:?} on",
        heard.len(),
        heard.min()
    );
    let dropped = call.scene.counted("microphone_dropped_bytes_total");
    assert_eq!(usize::try_from(dropped).expect("it fits"), 2 * first);
}

#[test]
fn a_turn_is_kept_as_long_as_its_words_are_not_known() {
    for (transcript, again) in [(false, true), (true, false)] {
        let mut call = Call::new();
        call.say(&json!({"type": "input_audio_buffer.speech_started"}));
        for _ in 0..250 {
            call.pass(FRAME);
            call.speak();
        }
        call.say(&json!({"type": "input_audio_buffer.speech_stopped"}));
        call.say(&json!({"type": "input_audio_buffer.committed", "item_id": "u"}));
        if transcript {
            call.say(&json!({"type": "conversation.item.input_audio_transcription.completed",
                "item_id": "u", "content_index": 0, "transcript": "words"}));
        }
        call.lose();
        call.wait_for_redial();
        call.come_back();
        call.pass(Duration::from_secs(10));
        let first = call.heard.last().and_then(|session| session.first()).copied();
        assert_eq!(first == Some(0), again, "transcript: {transcript}, first sample {first:?}");
    }
}

#[test]
fn kept_audio_makes_way_for_audio_that_waits_to_be_heard() {
    let mut call = Call::new();
    call.say(&json!({"type": "input_audio_buffer.speech_started"}));
    for _ in 0..500 {
        call.pass(FRAME);
        call.speak();
    }
    // The client takes nothing for 9 s: its reply needs nearly all the blocks that it may have.
    call.scene.client_listens = false;
    for _ in 0..90 {
        call.reply(100);
        call.pass(FRAME);
        call.speak();
    }
    assert_eq!(call.scene.counted("reply_stalls_total"), 0, "the service had to wait");
    call.scene.client_listens = true;
    for _ in 0..100 {
        call.scene.turn();
    }
    assert!(call.scene.audio == call.sent, "{} of {}", call.scene.audio.len(), call.sent.len());
}
