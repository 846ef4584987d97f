//! A whole call in memory whose client loses its connection at random moments, and takes the call up again:
//! what it hears of the replies, what it is told, what the service hears of the microphone, and what is left
//! at the end. In half of the calls the service is lost at random moments, too.

use std::time::Duration;

use crate::support::random::Random;
use crate::support::scene::{Scene, settings};
use crate::support::whole_call::{find_service, for_seeds, numbers, read_numbers, send};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use voicelived::call::CallSettings;
use voicelived::net::ws::Message;
use voicelived::session::NoReturn;

const FRAME: Duration = Duration::from_millis(20);
const HOLD: Duration = Duration::from_secs(30);
/// What the kernel takes for a client: as the daemon asks of Linux.
const ROOM: usize = 32 * 1024;

/// A call, and what its two ends have said.
struct Call {
    scene: Scene,
    seed: u64,
    /// The next number of the reply, and of the microphone.
    reply: u32,
    microphone: u32,
    /// The number of the reply that comes first after each `speech_started`.
    cuts: Vec<u32>,
    /// Transcripts, tool outputs and sessions so far.
    said: u32,
    tools: usize,
    service: bool,
    /// What the service has heard, in each of its sessions.
    heard: Vec<Vec<u32>>,
    /// Bytes of silence that the service has heard.
    silence: usize,
    /// Numbers of the microphone that were under way when a connection broke.
    lost: Vec<u32>,
}

impl Call {
    fn new(seed: u64) -> Self {
        let reconnect = Duration::from_secs(60);
        let settings = CallSettings { reconnect, resume: HOLD, ..settings() };
        let mut call = Self {
            scene: Scene::active_resumable(settings, ROOM),
            seed,
            reply: 1,
            microphone: 1,
            cuts: Vec::new(),
            said: 0,
            tools: 0,
            service: true,
            heard: vec![Vec::new()],
            silence: 0,
            lost: Vec::new(),
        };
        call.listen();
        call
    }

    fn say(&mut self, event: &Value) {
        self.scene.say(event.to_string().as_bytes());
        self.listen();
    }

    fn pass(&mut self, time: Duration) {
        self.scene.pass(time);
        self.listen();
    }

    /// The service sends so many numbers of its reply.
    fn reply(&mut self, count: u32) {
        let pcm = STANDARD.encode(numbers(self.reply..self.reply + count));
        self.reply += count;
        let response = format!("r{}", self.cuts.len());
        self.say(
            &json!({"type": "response.audio.delta", "response_id": response, "item_id": response,
            "output_index": 0, "content_index": 0, "delta": pcm}),
        );
    }

    /// The service hears the user speak, so what has come of its reply is dropped.
    fn barge_in(&mut self) {
        self.cuts.push(self.reply);
        self.say(&json!({"type": "input_audio_buffer.speech_started", "item_id": "u"}));
        self.say(&json!({"type": "input_audio_buffer.speech_stopped", "item_id": "u"}));
    }

    /// The service has understood something: a message with a number.
    fn transcribe(&mut self) {
        let text = format!("said {}", self.said);
        self.said += 1;
        self.say(&json!({"type": "conversation.item.input_audio_transcription.completed",
            "item_id": text, "content_index": 0, "transcript": text}));
    }

    fn want_tool(&mut self) {
        let id = format!("t{}", self.tools);
        self.tools += 1;
        let name = "get_weather";
        self.say(&json!({"type": "response.output_item.done", "response_id": "t", "item": {
            "type": "function_call", "call_id": id, "name": name,
            "arguments": r#"{"location":"Oslo"}"#}}));
        self.say(&json!({"type": "response.done", "response": {"id": "t", "status": "completed"}}));
    }

    /// The client says 20 ms.
    fn speak(&mut self) {
        let said = self.microphone..self.microphone + 240;
        self.microphone = said.end;
        if self.scene.is_held() {
            self.lost.extend(said);
            return;
        }
        send(&mut self.scene, Message::Binary(&numbers(said)));
        self.listen();
    }

    fn listen(&mut self) {
        for text in std::mem::take(&mut self.scene.told) {
            let event: Value = serde_json::from_str(&text).expect("JSON");
            if event["type"] == "input_audio_buffer.append" {
                let pcm = STANDARD.decode(event["audio"].as_str().expect("text")).expect("base64");
                let session = self.heard.last_mut().expect("there is one");
                self.silence += read_numbers(&pcm).filter(|number| *number == 0).count() * 4;
                session.extend(read_numbers(&pcm).filter(|number| *number > 0));
            }
        }
    }

    fn lose_service(&mut self) {
        self.scene.break_service();
        self.listen();
        self.service = false;
    }

    /// The service has not been lost.
    fn service_is_there(&self) -> bool {
        !self.scene.redial && !self.scene.texts.contains("reconnecting")
    }

    fn find_service(&mut self) {
        for _ in 0..600 {
            if self.scene.redial {
                break;
            }
            self.pass(FRAME);
        }
        self.heard.push(Vec::new());
        find_service(&mut self.scene);
        self.listen();
        self.service = true;
    }

    fn join(&mut self) {
        let held = self.scene.is_held();
        let before = self.scene.messages.len();
        let joined = self.scene.join(ROOM);
        assert_eq!(joined, Ok(()), "seed {}: held {held}", self.seed);
        self.scene.client_listens = true;
        self.scene.turn();
        let hello = &self.scene.messages[before];
        assert!(hello.contains(r#""resumed":true"#), "seed {}: {hello}", self.seed);
    }

    /// What the client has been told and has heard.
    fn check(&self) {
        let seed = self.seed;
        let heard: Vec<u32> = read_numbers(&self.scene.audio).collect();
        let (mut said, mut cuts) = (0, self.cuts.iter());
        for (message, before) in self.scene.messages.iter().zip(&self.scene.audio_before) {
            let message: Value = serde_json::from_str(message).expect("JSON");
            // The rule of the protocol: what comes after `speech_started` is a new reply.
            if message["type"] == "speech_started" {
                let cut = *cuts.next().unwrap_or(&0);
                let (old, new) = heard.split_at(before / 4);
                assert!(old.last().is_none_or(|last| *last < cut), "seed {seed}: told late");
                assert!(new.first().is_none_or(|first| *first >= cut), "seed {seed}: old audio");
            }
            if message["type"] == "transcript" {
                assert_eq!(message["text"], format!("said {said}"), "seed {seed}");
                said += 1;
            }
        }
        assert_eq!(said, self.said, "seed {seed}: messages are missing");
        let mut next = 1;
        for number in heard {
            // A gap ends where the user has interrupted.
            assert!(
                number == next || (number > next && self.cuts.contains(&number)),
                "seed {seed}: {number} instead of {next}, cuts at {:?}",
                self.cuts
            );
            next = number + 1;
        }
        let end = self.cuts.last().copied().unwrap_or_default();
        assert!(
            next == self.reply || (next < self.reply && end == self.reply),
            "seed {seed}: {next}"
        );
        let interruptions = self.scene.texts.matches(r#""speech_started""#).count();
        assert_eq!(interruptions, self.cuts.len(), "seed {seed}");
        self.check_microphone();
    }

    /// No number is heard twice in a session or out of order, and none is missing that came.
    fn check_microphone(&self) {
        let seed = self.seed;
        let mut known = 1;
        for session in &self.heard {
            assert!(session.is_sorted_by(|one, next| one < next), "seed {seed}: doubled");
            for number in session {
                if *number >= known {
                    let missing = (known..*number).find(|number| !self.lost.contains(number));
                    assert_eq!(missing, None, "seed {seed}: the service has not heard it");
                    known = number + 1;
                }
            }
        }
        let missing = (known..self.microphone).find(|number| !self.lost.contains(number));
        assert_eq!(missing, None, "seed {seed}: the end is missing");
    }
}

fn run(seed: u64) {
    let mut random = Random::new(seed);
    let mut call = Call::new(seed);
    let both = seed % 2 == 1;
    for _ in 0..150 {
        let here = !call.scene.is_held();
        match random.range(0, 23) {
            0..6 => {
                call.pass(FRAME);
                call.speak();
            }
            6..12 if call.service => {
                call.reply(u32::try_from(random.range(1, 6_000)).expect("small"))
            }
            12 if call.service && random.one_in(4) => call.barge_in(),
            13..15 if call.service => call.transcribe(),
            15 if call.service => call.want_tool(),
            16 => drop(call.scene.finish_tools()),
            17 => call.pass(Duration::from_millis(random.range(0, 500) as u64)),
            18 if here => call.scene.client_listens = random.one_in(2),
            19..21 if here => {
                call.scene.break_client(random.range(0, 40_000));
                assert!(call.scene.is_held(), "seed {seed}");
            }
            // Perhaps before the daemon knows that the old connection is dead.
            21 => call.join(),
            22 if both && call.service => call.lose_service(),
            23 if !call.service => call.find_service(),
            _ => {}
        }
        call.listen();
        assert!(call.scene.session_is_talking(), "seed {seed}: {}", call.scene.texts);
        if call.scene.is_held() && random.one_in(8) {
            call.join();
        }
    }
    if !call.service {
        call.find_service();
    }
    call.join();
    while call.scene.finish_tools() > 0 {}
    call.pass(Duration::from_secs(40));
    call.check();
    end(call, random.one_in(2));
}

/// The call ends once, in order or because its client never comes back, and leaves nothing.
fn end(mut call: Call, hangs_up: bool) {
    let seed = call.seed;
    let word = if hangs_up {
        send(&mut call.scene, Message::Text(r#"{"type":"hang_up"}"#));
        assert_eq!(call.scene.texts.matches(r#""state":"ended""#).count(), 1, "seed {seed}");
        "hang_up"
    } else {
        call.scene.break_client(0);
        assert!(call.scene.is_held(), "seed {seed}: {}", call.scene.texts);
        call.pass(HOLD - FRAME);
        assert!(call.scene.is_held(), "seed {seed}: {}", call.scene.texts);
        call.pass(FRAME);
        assert!(!call.scene.is_held(), "seed {seed}");
        "client_lost"
    };
    call.pass(Duration::from_secs(3));
    assert!(call.scene.closed, "seed {seed}");
    let ended = call.scene.counted(&format!("calls_ended_total{{reason=\"{word}\"}}"));
    assert_eq!(ended, 1, "seed {seed}");
    let (free, all) = call.scene.release();
    assert_eq!(free, all, "seed {seed}: blocks are missing");
}

#[test]
fn a_client_that_comes_back_misses_nothing_and_hears_nothing_twice() {
    for_seeds(run);
}

#[test]
fn a_client_that_has_had_too_little_or_too_much_cannot_go_on() {
    let mut call = Call::new(0);
    call.reply(30_000);
    (0..10).for_each(|_| call.scene.turn());
    call.scene.break_client(0);
    let audio = call.scene.audio.clone();
    assert_eq!(audio.len(), 120_000);
    call.scene.audio = audio[..120_000 - 96_004].to_vec();
    assert_eq!(call.scene.join(ROOM), Err(NoReturn::Late));
    call.scene.audio = [&audio[..], &[0; 4]].concat();
    assert_eq!(call.scene.join(ROOM), Err(NoReturn::Beyond));
    call.scene.audio = audio[..120_000 - 96_000].to_vec();
    assert_eq!(call.scene.join(ROOM), Ok(()));
    (0..10).for_each(|_| call.scene.turn());
    assert!(call.scene.audio == audio, "{} bytes", call.scene.audio.len());
    call.check();
}

#[test]
fn the_limits_go_on_while_the_client_is_away() {
    let limit = Duration::from_secs(20);
    let idle = CallSettings { idle: limit, resume: HOLD, ..settings() };
    let longest = CallSettings { max_duration: limit, resume: HOLD, ..settings() };
    for (settings, word) in [(idle, "idle"), (longest, "time_limit")] {
        let mut scene = Scene::active_resumable(settings, ROOM);
        scene.break_client(0);
        scene.pass(limit - FRAME);
        assert!(scene.is_held(), "{word}: {}", scene.texts);
        scene.pass(Duration::from_secs(3));
        assert!(scene.closed, "{word}: {}", scene.texts);
        assert_eq!(scene.counted(&format!("calls_ended_total{{reason=\"{word}\"}}")), 1);
    }
}

/// The blocks are full, so the service is not read. That it says nothing is no wonder then.
#[test]
fn a_reply_that_waits_for_its_client_is_not_given_up_and_nor_is_the_service() {
    let settings = CallSettings { resume: Duration::from_secs(300), ..settings() };
    let mut call = Call { scene: Scene::active_resumable(settings, ROOM), ..Call::new(0) };
    call.say(&json!({"type": "response.created", "response": {"id": "r0"}}));
    call.scene.break_client(0);
    // Half the pool takes 10 s; this is 15 s.
    for _ in 0..60 {
        call.reply(3_000);
    }
    call.pass(Duration::from_secs(200));
    assert!(call.scene.is_held() && call.service_is_there(), "{}", call.scene.texts);
    call.join();
    for _ in 0..100 {
        call.scene.turn();
    }
    call.say(&json!({"type": "response.done", "response": {"id": "r0", "status": "completed"}}));
    call.check();
    let texts = &call.scene.texts;
    assert_eq!(texts.matches(r#""response_started""#).count(), 1, "{texts}");
    assert!(texts.contains(r#""completed""#) && !texts.contains(r#""lost""#), "{texts}");
    assert!(!texts.contains(r#""latency""#), "nobody has waited for the service: {texts}");
}

/// What has not come before the connection broke would be played otherwise.
#[test]
fn a_client_that_comes_back_is_told_again_that_the_reply_is_held() {
    let settings = CallSettings { resume: HOLD, reversible_barge_in: true, ..settings() };
    for missed in [false, true] {
        let scene = Scene::active_resumable(settings.clone(), ROOM);
        let mut call = Call { scene, ..Call::new(0) };
        call.say(&json!({"type": "session.updated", "session": {"turn_detection":
            {"type": "server_vad", "create_response": false, "interrupt_response": false}}}));
        call.say(&json!({"type": "response.created", "response": {"id": "r0"}}));
        call.reply(30_000);
        let speech = json!({"type": "input_audio_buffer.speech_started", "item_id": "u"});
        if missed {
            call.scene.break_client(0);
            call.say(&speech);
        } else {
            call.say(&speech);
            call.scene.break_client(0);
        }
        let before = call.scene.messages.len();
        call.join();
        let told = &call.scene.messages[before..];
        let state = told.iter().position(|text| text.contains("call_state"));
        let after = &told[state.expect("the state of the call") + 1..];
        let is_hold = |text: &String| text.contains(r#""type":"hold""#);
        assert!(after.iter().any(is_hold), "missed {missed}: {told:?}");
        call.pass(Duration::from_secs(2));
        call.scene.break_client(0);
        let before = call.scene.messages.len();
        call.join();
        assert!(!call.scene.messages[before..].iter().any(is_hold), "it is over");
    }
}

#[test]
fn the_wait_for_an_answer_is_not_measured_while_the_client_is_away() {
    let mut call = Call::new(0);
    call.say(&json!({"type": "input_audio_buffer.speech_started", "item_id": "u"}));
    call.say(&json!({"type": "input_audio_buffer.speech_stopped", "item_id": "u"}));
    call.scene.break_client(0);
    call.reply(100);
    call.pass(Duration::from_secs(20));
    call.join();
    assert_eq!(call.scene.audio.len(), 400);
    assert!(!call.scene.texts.contains(r#""latency""#), "{}", call.scene.texts);
}

/// The user was speaking: after a moment the service hears silence, until it has heard the end.
#[test]
fn silence_ends_the_turn_of_a_client_that_is_away() {
    for comes_back in [false, true] {
        let mut call = Call::new(0);
        call.speak();
        call.say(&json!({"type": "input_audio_buffer.speech_started", "item_id": "u"}));
        call.scene.break_client(0);
        call.silence = 0;
        call.pass(Duration::from_millis(900));
        assert_eq!(call.silence, 0, "the client may be back at once");
        if comes_back {
            call.join();
            for _ in 0..50 {
                call.pass(FRAME);
                call.speak();
            }
            assert_eq!(call.silence, 0, "it has gone on");
            call.check_microphone();
            continue;
        }
        call.pass(Duration::from_secs(3));
        assert!(call.silence > 48_000, "{} bytes", call.silence);
        call.say(&json!({"type": "input_audio_buffer.speech_stopped", "item_id": "u"}));
        let heard = call.silence;
        call.pass(Duration::from_secs(5));
        assert!(call.silence <= heard + 4_800, "it has ended");
    }
}

/// What the kernel takes and what waits for it: the end of the reply that is kept must hold all of it.
#[test]
fn less_than_a_second_is_under_way_to_a_client_that_takes_nothing() {
    let mut call = Call::new(0);
    call.scene.client_listens = false;
    for _ in 0..20 {
        call.reply(3_000);
    }
    let sent = call.scene.counted("reply_bytes_total");
    assert!((20_000..48_000).contains(&sent), "{sent} bytes have left");
    call.scene.client_listens = true;
    call.scene.turn();
    (0..50).for_each(|_| call.scene.turn());
    call.check();
}
