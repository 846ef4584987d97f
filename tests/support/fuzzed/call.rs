//! The core of a call: whatever the order of what happens, it keeps its promises. One response is
//! asked for at a time, and the client hears of its beginning and its end in turns. A tool call is answered once, and it ends once, with nothing after.
//!
//! Each line of the input is a step. `N` is a number of milliseconds. The first line may be `!`, for a
//! call with a greeting.
//!
//! | Line | Step |
//! |---|---|
//! | `s{…}` | an event of the service |
//! | `c{…}` | a message of the client |
//! | `tN` | time passes |
//! | `aN` | reply audio of the active response comes, and as much of the waiting audio leaves |
//! | `qN` | reply audio comes, and none leaves |
//! | `wN` | waiting reply audio leaves |
//! | `m` | microphone audio |
//! | `f`, `F` | the oldest running tool finishes, or fails |
//! | `o` | the connection to the service is open |
//! | `r` | everything up to an active call |
//! | `l` | the service is lost |
//! | `g` | the client is gone |
//! | `A…` | the first tool that runs asks first, with these arguments |
//! | `y` | the client agrees to the first question |
//! | `G`, `h` | the client's connection breaks, and the client is back |
//! | `e` | the daemon stops |

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use voicelived::call::client::ClientMessage;
use voicelived::call::ending::{EndReason, ServiceFault};
use voicelived::call::service::{AudioDelta, Parsed, ServiceEvent, commands, parse};
use voicelived::call::{
    Call, CallSettings, Input, MAX_SILENCE_BYTES, Microphone, Output, Reply, client,
};

/// Steps of one input at most.
const MOST_STEPS: usize = 300;

/// Outputs of one input at most. A typed turn over a reply of many items brings the most.
const MOST_OUTPUTS: usize = 64;

/// Items of a reply that the call remembers.
const ITEMS: usize = 8;

/// How long the call waits for the response it asked for.
const REQUESTED: Duration = Duration::from_secs(10);

/// What makes a call active.
const READY: [&str; 2] = [
    r#"{"type":"session.created","session":{"id":"sess_1","model":"gpt-realtime"}}"#,
    r#"{"type":"session.updated","session":{"id":"sess_1","turn_detection":{"auto_truncate":null}}}"#,
];

/// Steps as the module's text tells.
pub fn fuzz_call(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n').peekable();
    let greeting = lines.next_if(|line| line.starts_with('!')).map(|_| "Say hello.".to_owned());
    let mut scene = Scene::new(greeting);
    for line in lines.take(MOST_STEPS) {
        scene.step(line);
    }
    // Nothing keeps a call beyond its longest duration.
    scene.pass(Duration::from_secs(3_601));
    assert_eq!(scene.closes, 1, "it never ended");
    assert!(scene.call.is_ended() && scene.call.deadline().is_none());
    scene.handle(Input::ClientLost);
    assert_eq!(scene.call.microphone(960, scene.now), Microphone::Discard);
}

/// A call with its clock, and what an observer of both sides knows of it.
struct Scene {
    call: Call,
    now: Instant,
    active: bool,
    closes: usize,
    /// The response between its `created` and its `done`.
    response: Option<String>,
    /// What the client knows: a response is under way.
    answering: bool,
    /// Until when the response that was asked for may still come.
    requested: Option<Instant>,
    audio: Audio,
    running: Vec<String>,
    /// Tools that wait for a yes, and whether one was just given.
    asking: Vec<String>,
    yes: bool,
    /// Function calls that were told of, by id: how many outputs they may still get. Each gets one in a
    /// session, however often it is told.
    unanswered: HashMap<String, usize>,
}

impl Scene {
    fn new(greeting: Option<String>) -> Self {
        let settings = CallSettings {
            assistant: String::new(),
            chosen: None,
            session: json!({"voice": "alloy", "turn_detection": {"type": "server_vad"}}),
            greeting,
            idle: Duration::from_secs(120),
            max_duration: Duration::from_secs(3_600),
            reconnect: Duration::ZERO,
            continue_reply: false,
            reversible_barge_in: false,
            session_time: Duration::ZERO,
            resume: Duration::from_secs(30),
        };
        let now = Instant::now();
        let mut scene = Self {
            call: Call::new(Rc::new(settings), "c1", "secret", now),
            now,
            active: false,
            closes: 0,
            response: None,
            answering: false,
            requested: None,
            audio: Audio::default(),
            running: Vec::new(),
            asking: Vec::new(),
            yes: false,
            unanswered: HashMap::new(),
        };
        scene.observe();
        scene
    }

    fn step(&mut self, line: &str) {
        let Some(first) = line.chars().next() else {
            return;
        };
        let rest = &line[first.len_utf8()..];
        let number: u64 = rest.trim().parse().unwrap_or_default();
        match first {
            's' => self.service(rest),
            'c' => self.client(rest),
            't' => self.pass(Duration::from_millis(number.min(1_000_000))),
            'a' => self.reply(number, true),
            'q' => self.reply(number, false),
            'w' => self.leave(bytes_of(number)),
            'm' => {
                let microphone = self.call.microphone(960, self.now);
                assert_eq!(microphone == Microphone::Forward, self.active && self.closes == 0);
            }
            'A' => self.ask_first(rest),
            'y' => self.agree(),
            'f' => self.finish_tool(true),
            'F' => self.finish_tool(false),
            'o' => self.handle(Input::ServiceOpened),
            'r' => READY.iter().for_each(|event| self.service(event)),
            'l' => {
                let message = "It is gone.".to_owned();
                let fault = ServiceFault {
                    word: "service_lost",
                    message,
                    retryable: true,
                    retry_after: None,
                };
                self.handle(Input::ServiceLost(fault));
            }
            'g' => self.handle(Input::ClientLost),
            'G' => self.handle(Input::ClientBroken),
            'h' if self.closes == 0 => drop(self.call.take_up(0, self.now)),
            'e' => self.handle(Input::End(EndReason::Stopping)),
            _ => {}
        }
    }

    fn service(&mut self, text: &str) {
        match parse(text) {
            Ok(Parsed::Event(event)) => {
                self.learn(&event);
                self.handle(Input::Service(event));
            }
            Ok(Parsed::Audio(delta)) => self.audio_by_itself(&delta),
            Ok(Parsed::AudioOwned(owned)) => self.audio_by_itself(&owned.delta()),
            Err(text) => self.handle(Input::End(EndReason::Internal(text))),
        }
    }

    /// Audio as the service may send it at any time; it does not leave.
    fn audio_by_itself(&mut self, delta: &AudioDelta<'_>) {
        let reply = self.call.reply_audio(delta, self.now);
        self.observe();
        assert!(reply == Reply::Discard || (self.active && self.closes == 0));
        if reply == Reply::Forward {
            self.audio.wait(delta);
        }
    }

    /// What an event tells an observer, before the call acts on it.
    fn learn(&mut self, event: &ServiceEvent<'_>) {
        if !self.active {
            return;
        }
        match event {
            ServiceEvent::ResponseCreated { response_id, .. } => {
                self.response = Some(response_id.clone());
                self.requested = None;
            }
            ServiceEvent::ResponseDone(done) => {
                for call in &done.calls {
                    self.unanswered.entry(call.call_id.clone()).or_insert(1);
                }
                if self.response.as_ref() == Some(&done.response_id) {
                    self.response = None;
                }
            }
            ServiceEvent::Error(error) if error.event_id == commands::EVENT_CREATE => {
                self.requested = None;
            }
            ServiceEvent::FunctionCall(call) => {
                self.unanswered.entry(call.call_id.clone()).or_insert(1);
            }
            _ => {}
        }
    }

    fn client(&mut self, text: &str) {
        match client::parse(text) {
            Ok(message) => {
                self.yes = matches!(&message, ClientMessage::Confirm { allow: true, .. });
                self.handle(Input::Client(message));
                self.yes = false;
            }
            Err(text) => self.handle(Input::End(EndReason::BadText(text))),
        }
    }

    fn reply(&mut self, ms: u64, leaves: bool) {
        let response = self.response.clone().unwrap_or_else(|| "r0".to_owned());
        let item = format!("item_{response}");
        let pcm_bytes = bytes_of(ms);
        let base64 = 0..0;
        let delta = AudioDelta { response_id: &response, item_id: &item, base64, pcm_bytes };
        let fate = self.call.reply_audio(&delta, self.now);
        self.observe();
        match fate {
            Reply::Forward => assert!(self.active && self.closes == 0),
            Reply::Discard => return,
        }
        self.audio.wait(&delta);
        if leaves {
            self.leave(pcm_bytes);
        }
    }

    /// The client's socket takes the oldest of what waits.
    fn leave(&mut self, most: usize) {
        let bytes = self.audio.leave(most);
        self.call.reply_sent(bytes, self.now);
        self.observe();
    }

    /// A tool that was to run asks first.
    fn ask_first(&mut self, arguments: &str) {
        if !self.running.is_empty() {
            let call_id = self.running.remove(0);
            self.asking.push(call_id.clone());
            self.handle(Input::AskFirst { call_id: &call_id, about: "It does.", arguments });
        }
    }

    /// The user agrees to what was asked first.
    fn agree(&mut self) {
        let asked = self.call.questions_now(self.now).next();
        if let Some(asked) = asked {
            let id = read(&asked)["id"].clone();
            self.client(&json!({"type": "confirm", "id": id, "allow": true}).to_string());
        }
    }

    fn finish_tool(&mut self, ok: bool) {
        if !self.running.is_empty() {
            let call_id = self.running.remove(0);
            self.handle(Input::ToolFinished { call_id: &call_id, output: r#"{"n":1}"#, ok });
        }
    }

    /// Lets time pass, with a tick at each deadline on the way.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut ticks = 0;
        while let Some(deadline) = self.call.deadline().filter(|&deadline| deadline <= end) {
            self.now = self.now.max(deadline);
            self.handle(Input::Tick);
            ticks += 1;
            assert!(ticks < 1_000, "a deadline that passed must not stay");
        }
        self.now = end;
    }

    fn handle(&mut self, input: Input<'_>) {
        self.call.handle(input, self.now);
        self.observe();
    }

    fn observe(&mut self) {
        let (mut count, mut dropped) = (0, false);
        while let Some(output) = self.call.poll() {
            count += 1;
            assert!(count <= MOST_OUTPUTS, "too much at once: {output:?}");
            assert_eq!(self.closes, 0, "{output:?} after the end");
            match output {
                Output::ToService(text) | Output::BehindMicrophone(text) => {
                    self.command(&read(&text));
                }
                Output::Silence { bytes } => {
                    assert!(self.active && bytes > 0 && bytes <= MAX_SILENCE_BYTES);
                }
                Output::ToClient(text) => {
                    let message = read(&text);
                    self.active |= message["state"] == "active";
                    let begins = message["type"] == "response_started";
                    if begins || message["type"] == "response_done" {
                        assert_ne!(self.answering, begins, "{message} twice");
                        self.answering = begins;
                    }
                    if begins {
                        self.requested = None;
                    }
                }
                Output::RunTool { call_id, .. } => self.running.push(call_id),
                Output::RunAllowed { call_id } => {
                    assert!(std::mem::take(&mut self.yes), "{call_id} runs without a yes");
                    let at = self.asking.iter().position(|asking| *asking == call_id);
                    self.running.push(self.asking.remove(at.expect("it asked, and once")));
                }
                Output::StopTool { call_id } => {
                    assert!(self.running.contains(&call_id), "{call_id} runs, and asks nothing");
                }
                Output::ForgetTool { call_id } => {
                    self.asking.retain(|asking| *asking != call_id);
                }
                Output::Asked(_) | Output::Heard(_) => {}
                Output::Close(_) => self.closes += 1,
                Output::DropPlayback => {
                    assert!(self.active);
                    dropped = true;
                    self.audio.waiting.clear();
                }
                // The call does not outlive its session here.
                Output::DropSession { .. }
                | Output::Redial { .. }
                | Output::ItemRefused
                | Output::Prepare { .. }
                | Output::ToNext(_)
                | Output::DropNext { .. }
                | Output::HoldMicrophone
                | Output::ResumeMicrophone
                | Output::ChangeOver(_) => panic!("{output:?}"),
                Output::HoldCall { .. } => assert!(self.call.away_since().is_some()),
                Output::ReleaseMicrophone { .. }
                | Output::CommitMicrophone
                | Output::SettleMicrophone
                | Output::ToolRefused
                | Output::Unfinished { .. }
                | Output::TranscriptFailed { .. } => assert!(self.active),
            }
        }
        if dropped {
            self.audio.items.clear();
        }
        assert_eq!(self.call.is_ended(), self.closes > 0);
    }

    fn command(&mut self, command: &Value) {
        match command["type"].as_str().expect("a type") {
            "response.create" => {
                assert!(!self.answering, "asked for a response while one is active");
                let waits = self.requested.is_some_and(|until| until > self.now);
                assert!(!waits, "asked for a response twice");
                self.requested = Some(self.now + REQUESTED);
            }
            "conversation.item.create" if command["item"]["type"] == "function_call_output" => {
                let id = command["item"]["call_id"].as_str().expect("an id");
                let open = self.unanswered.get_mut(id).expect("an output for nobody's call");
                *open = open.checked_sub(1).expect("a call was answered twice");
            }
            "conversation.item.truncate" => {
                let id = command["item_id"].as_str().expect("an id");
                let ms = command["audio_end_ms"].as_u64().expect("a number");
                // A service may use a name twice.
                let handed = self.audio.items.iter().filter(|item| item.id == id);
                let handed = handed.map(|item| item.handed).max().expect("a remembered item");
                assert!(ms * 48 <= handed as u64, "{command}, but {handed} bytes");
            }
            "session.update" => assert!(!self.active, "configured twice"),
            _ => {}
        }
    }
}

/// Reply audio on its way: what waits, in order, and what the client's socket was handed.
#[derive(Default)]
struct Audio {
    /// Bytes, and the number of their item.
    waiting: VecDeque<(usize, usize)>,
    /// The newest since playback was dropped.
    items: VecDeque<Item>,
    /// How many there were.
    count: usize,
}

/// Audio that came without any of another item between.
struct Item {
    number: usize,
    response: String,
    id: String,
    handed: usize,
}

impl Audio {
    fn wait(&mut self, delta: &AudioDelta<'_>) {
        let last = self.items.back();
        if last.is_none_or(|l| l.response != delta.response_id || l.id != delta.item_id) {
            self.count += 1;
            let (response, id) = (delta.response_id.to_owned(), delta.item_id.to_owned());
            self.items.push_back(Item { number: self.count, response, id, handed: 0 });
            if self.items.len() > ITEMS {
                self.items.pop_front();
            }
        }
        self.waiting.push_back((delta.pcm_bytes, self.count));
    }

    /// Takes the oldest bytes; how many there were.
    fn leave(&mut self, most: usize) -> usize {
        let mut left = most;
        while let Some((bytes, number)) = self.waiting.front_mut() {
            let part = left.min(*bytes);
            (left, *bytes) = (left - part, *bytes - part);
            if let Some(item) = self.items.iter_mut().find(|item| item.number == *number) {
                item.handed += part;
            }
            if *bytes > 0 {
                break;
            }
            self.waiting.pop_front();
        }
        most - left
    }
}

/// PCM of so many ms, within reason.
fn bytes_of(ms: u64) -> usize {
    usize::try_from(ms.min(10_000) * 48).expect("it is small")
}

/// A message: every one is an object with a type.
fn read(text: &str) -> Value {
    let message: Value = serde_json::from_str(text).expect("JSON");
    assert!(message["type"].is_string(), "{text}");
    message
}
