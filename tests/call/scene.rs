//! A call with a virtual clock: a scenario is a list of events and what must come of each.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use voicelived::call::ending::EndReason;
use voicelived::call::service::{AudioDelta, Parsed, parse};
use voicelived::call::{Call, CallSettings, Input, Output, Reply, client};

/// A call, its clock, and everything it put out since the last look.
pub(crate) struct Scene {
    pub(crate) call: Call,
    pub(crate) now: Instant,
    pub(crate) outputs: Vec<Output>,
}

pub(crate) fn settings() -> CallSettings {
    CallSettings {
        assistant: String::new(),
        chosen: None,
        session: json!({"modalities": ["text", "audio"], "voice": {"type": "openai", "name": "alloy"},
            "input_audio_format": "pcm16", "turn_detection": {"type": "server_vad"}}),
        greeting: None,
        idle: Duration::from_secs(120),
        max_duration: Duration::from_secs(3_600),
        reconnect: Duration::ZERO,
        continue_reply: false,
        reversible_barge_in: false,
        session_time: Duration::ZERO,
        resume: Duration::ZERO,
    }
}

impl Scene {
    /// A call that waits for its service.
    pub(crate) fn connecting(settings: CallSettings) -> Self {
        let now = Instant::now();
        let call = Call::new(Rc::new(settings), "c1", "secret", now);
        let mut scene = Self { call, now, outputs: Vec::new() };
        scene.drain();
        scene.client(Input::ServiceOpened);
        scene
    }

    /// A call whose service has taken the settings; `turns` is the effective turn detection.
    pub(crate) fn active_with(settings: CallSettings, turns: Value) -> Self {
        let mut scene = Self::connecting(settings);
        scene.service(json!({"type": "session.created", "session":
            {"id": "sess_1", "model": "gpt-realtime", "modalities": ["audio"]}}));
        scene.service(json!({"type": "session.updated", "session": {"id": "sess_1",
            "input_audio_format": "pcm16", "turn_detection": turns}}));
        scene
    }

    /// An active call at a service that truncates by itself; nothing in its outputs.
    pub(crate) fn active() -> Self {
        let mut scene = Self::active_with(settings(), json!({"auto_truncate": true}));
        scene.outputs.clear();
        scene
    }

    /// The same, at a service that does not truncate.
    pub(crate) fn active_without_truncation() -> Self {
        let mut scene = Self::active_with(settings(), json!({"auto_truncate": null}));
        scene.outputs.clear();
        scene
    }

    pub(crate) fn client(&mut self, input: Input<'_>) {
        self.call.handle(input, self.now);
        self.drain();
    }

    pub(crate) fn says(&mut self, message: Value) {
        let text = message.to_string();
        let message = client::parse(&text).unwrap();
        self.client(Input::Client(message));
    }

    pub(crate) fn service(&mut self, event: Value) {
        let text = event.to_string();
        match parse(&text).unwrap() {
            Parsed::Event(event) => self.client(Input::Service(event)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn events(&mut self, kinds: &[&str]) {
        for kind in kinds {
            self.service(json!({"type": kind}));
        }
    }

    /// Reply audio of `ms` milliseconds; forwarded audio leaves for the client at once.
    pub(crate) fn audio(&mut self, response: &str, item: &str, ms: usize) -> Reply {
        let pcm_bytes = ms * 48;
        let delta = AudioDelta { response_id: response, item_id: item, base64: 0..0, pcm_bytes };
        let reply = self.call.reply_audio(&delta, self.now);
        self.drain();
        if reply == Reply::Forward {
            self.call.reply_sent(pcm_bytes, self.now);
            self.drain();
        }
        reply
    }

    pub(crate) fn speech(&mut self) {
        self.events(&["input_audio_buffer.speech_started"]);
    }

    pub(crate) fn speech_ends(&mut self) {
        self.events(&["input_audio_buffer.speech_stopped", "input_audio_buffer.committed"]);
    }

    pub(crate) fn created(&mut self, response: &str) {
        self.service(json!({"type": "response.created", "response": {"id": response}}));
    }

    /// Lets time pass with a sign of life of this response every second, of which nobody is told.
    pub(crate) fn stays_alive(&mut self, response: &str, secs: u64) {
        for _ in 0..secs {
            self.pass_secs(1);
            self.service(json!({"type": "response.content_part.added", "response_id": response}));
        }
    }

    pub(crate) fn done(&mut self, response: &str, status: &str) {
        self.service(
            json!({"type": "response.done", "response": {"id": response, "status": status,
            "usage": {"input_tokens": 10, "output_tokens": 5}}}),
        );
    }

    pub(crate) fn function_call(&mut self, response: &str, call: &str, status: &str) {
        self.service(json!({"type": "response.output_item.done", "response_id": response, "item":
            {"type": "function_call", "name": "get_weather", "call_id": call, "arguments": "{}",
             "status": status}}));
    }

    pub(crate) fn tool_finished(&mut self, call_id: &str) {
        self.client(Input::ToolFinished { call_id, output: r#"{"ok":1}"#, ok: true });
    }

    /// Lets time pass, with a tick at each deadline on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut ticks = 0;
        while let Some(deadline) = self.call.deadline().filter(|&deadline| deadline <= end) {
            self.now = self.now.max(deadline);
            self.client(Input::Tick);
            ticks += 1;
            assert!(ticks < 1_000, "a deadline that passed must not stay");
        }
        self.now = end;
    }

    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.pass(Duration::from_millis(ms));
    }

    pub(crate) fn pass_secs(&mut self, secs: u64) {
        self.pass(Duration::from_secs(secs));
    }

    fn drain(&mut self) {
        while let Some(output) = self.call.poll() {
            self.outputs.push(output);
        }
    }

    /// Takes the outputs so far as short words: the type of a message, or the output's name. What is
    /// kept of the microphone is another story.
    pub(crate) fn story(&mut self) -> Vec<String> {
        let outputs = std::mem::take(&mut self.outputs);
        let kept = |output: &&Output| {
            !matches!(output, Output::CommitMicrophone | Output::SettleMicrophone)
        };
        outputs.iter().filter(kept).map(word).collect()
    }

    /// Takes the outputs and keeps only the messages for the client.
    pub(crate) fn told(&mut self) -> Vec<Value> {
        self.take(|output| match output {
            Output::ToClient(text) => Some(text),
            _ => None,
        })
    }

    /// Takes the outputs and keeps only the commands to the service.
    pub(crate) fn commands(&mut self) -> Vec<Value> {
        self.take(|output| match output {
            Output::ToService(text) | Output::BehindMicrophone(text) => Some(text),
            _ => None,
        })
    }

    /// Takes the outputs and keeps only the commands to the session that is being prepared.
    pub(crate) fn next_commands(&mut self) -> Vec<Value> {
        self.take(|output| match output {
            Output::ToNext(text) => Some(text),
            _ => None,
        })
    }

    /// An event of the session that is being prepared.
    pub(crate) fn next_service(&mut self, event: Value) {
        let text = event.to_string();
        match parse(&text).unwrap() {
            Parsed::Event(event) => self.client(Input::Next(event)),
            other => panic!("{other:?}"),
        }
    }

    fn take(&mut self, keep: impl Fn(&Output) -> Option<&String>) -> Vec<Value> {
        let outputs = std::mem::take(&mut self.outputs);
        outputs.iter().filter_map(keep).map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    /// The last three outputs of an ended call: how it ended, checked for order.
    pub(crate) fn ended(&mut self) -> EndReason {
        let outputs = std::mem::take(&mut self.outputs);
        let closes = outputs.iter().filter(|output| matches!(output, Output::Close(_))).count();
        assert_eq!(closes, 1, "{outputs:?}");
        let [.., Output::ToClient(state), Output::Close(reason)] = outputs.as_slice() else {
            panic!("{outputs:?}")
        };
        let state: Value = serde_json::from_str(state).unwrap();
        assert_eq!(state["type"], "call_state");
        assert_eq!(state["state"], "ended");
        assert_eq!(state["reason"], reason.word());
        assert_eq!(state["message"], reason.message().as_ref());
        assert!(self.call.is_ended() && self.call.deadline().is_none());
        reason.clone()
    }
}

fn word(output: &Output) -> String {
    match output {
        Output::ToService(text) => format!("> {}", kind(text)),
        Output::BehindMicrophone(text) => format!(">> {}", kind(text)),
        Output::Silence { bytes } => format!("silence {bytes}"),
        Output::ToClient(text) => kind(text),
        Output::DropPlayback => "drop".to_owned(),
        Output::ReleaseMicrophone { .. } => "release".to_owned(),
        Output::RunTool { call_id, .. } => format!("run {call_id}"),
        Output::RunAllowed { call_id } => format!("allowed {call_id}"),
        Output::StopTool { call_id } => format!("stop {call_id}"),
        Output::ForgetTool { call_id } => format!("forget {call_id}"),
        Output::Asked(asked) => format!("asked {}", asked.word()),
        Output::ToolRefused => "refused".to_owned(),
        Output::Unfinished { how, .. } => format!("unfinished {}", how.word()),
        Output::TranscriptFailed { .. } => "no transcript".to_owned(),
        Output::DropSession { word, .. } => format!("lost {word}"),
        Output::Redial { .. } => "redial".to_owned(),
        Output::Prepare { .. } => "prepare".to_owned(),
        Output::ToNext(text) => format!("+ {}", kind(text)),
        Output::DropNext { .. } => "drop next".to_owned(),
        Output::HoldMicrophone => "hold".to_owned(),
        Output::ResumeMicrophone => "resume".to_owned(),
        Output::ChangeOver(change) => format!("change {:?}", change.moment),
        Output::CommitMicrophone => "commit".to_owned(),
        Output::SettleMicrophone => "settle".to_owned(),
        Output::HoldCall { .. } => "hold".to_owned(),
        Output::ItemRefused => "item refused".to_owned(),
        Output::Heard(_) => "heard".to_owned(),
        Output::Close(reason) => format!("close {}", reason.word()),
    }
}

fn kind(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap();
    value["type"].as_str().unwrap().to_owned()
}
