//! Plans a response: turns contents and script words into ordered steps.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::Action;
use super::event::Event;
use super::outcome::Outcome;
use super::script::{Moment, ReplyFault, Script, TranscriptTiming};
use super::sound::Sound;

/// One output item's content.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Spoken with `sound`, or written when there is none.
    Message {
        transcript: String,
        sound: Option<Sound>,
    },
    Call {
        name: String,
        call_id: String,
        arguments: String,
    },
    /// The user's approval is asked for.
    Approval {
        server: String,
        name: String,
        arguments: String,
    },
}

/// One output item that is being sent.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) item_id: String,
    pub(super) content: Content,
    /// Announced and not done.
    pub(super) open: bool,
    pub(super) part_open: bool,
    /// Transcript, text or arguments sent so far.
    pub(super) written: String,
    /// Bytes of audio sent so far.
    pub(super) sent: usize,
    pub(super) status: &'static str,
}

impl Output {
    pub(super) fn new(item_id: String, content: Content) -> Self {
        Self {
            item_id,
            content,
            open: false,
            part_open: false,
            written: String::new(),
            sent: 0,
            status: "in_progress",
        }
    }

    /// The item as events show it; `full` with what was sent of it.
    pub(super) fn item(&self, status: &str, full: bool) -> Value {
        let written = if full { self.written.as_str() } else { "" };
        let mut item = match &self.content {
            Content::Message { sound, .. } => {
                let part = match sound {
                    Some(_) => json!({ "type": "audio", "transcript": written }),
                    None => json!({ "type": "text", "text": written }),
                };
                let content = if full { json!([part]) } else { json!([]) };
                json!({ "type": "message", "role": "assistant", "content": content })
            }
            Content::Call { name, call_id, .. } => json!({
                "type": "function_call", "name": name, "call_id": call_id, "arguments": written,
            }),
            Content::Approval { server, name, arguments } => json!({
                "type": "mcp_approval_request", "server_label": server, "name": name,
                "arguments": arguments,
            }),
        };
        item["id"] = self.item_id.clone().into();
        item["object"] = "realtime.item".into();
        item["status"] = status.into();
        item
    }

    pub(super) fn call_id(&self) -> &str {
        match &self.content {
            Content::Call { call_id, .. } => call_id,
            Content::Message { .. } | Content::Approval { .. } => "",
        }
    }

    pub(super) fn call_name(&self) -> &str {
        match &self.content {
            Content::Call { name, .. } => name,
            Content::Message { .. } | Content::Approval { .. } => "",
        }
    }
}

/// One step of a response. Most become one event.
#[derive(Debug)]
pub(super) enum Step {
    Created,
    ItemAdded,
    ItemCreated,
    PartAdded,
    /// A piece of transcript or text.
    Words(String),
    /// One audio delta, if there is audio left, when it is due.
    Audio,
    /// All audio deltas that are left.
    AudioRest,
    /// One audio delta after an interruption, sent at once.
    LateAudio,
    AudioDone,
    TextDone,
    PartDone,
    Arguments(String),
    ArgumentsDone,
    ItemDone,
    /// An event that follows its announcement later.
    Announced(Event),
    /// On to the next output item.
    Next,
    /// The user's transcription, which belongs to the turn and not to the response.
    Heard,
    /// The script ends the response here.
    Cut(Outcome),
    Done,
    Truncated(usize),
    Noise(Noise),
}

/// Something that the script adds to a reply.
#[derive(Debug)]
pub(super) enum Noise {
    Ping,
    Garbage,
    Unknown,
    Big(usize),
    Error(String),
    /// The end of the connection; `None` is a stall.
    End(Option<Action>),
}

/// Lays out a response. `may_end`: the script's ending may happen in it.
pub(super) fn steps(outputs: &[Output], script: &Script, may_end: bool) -> VecDeque<Step> {
    let mut steps = VecDeque::from([Step::Created]);
    steps.extend(noises(script).into_iter().map(Step::Noise));
    if script.reply == ReplyFault::Failed {
        steps.extend([Step::Cut(Outcome::Failed)]);
        return steps;
    }
    // It happens inside the first item of a reply.
    let mut middle = in_the_middle(script, may_end);
    for (index, output) in outputs.iter().enumerate() {
        let middle = std::mem::take(&mut middle);
        if index > 0 {
            steps.push_back(Step::Next);
        }
        steps.extend([Step::ItemAdded, Step::ItemCreated]);
        match &output.content {
            Content::Message { transcript, sound } => {
                message(transcript, sound.is_some(), middle, &mut steps);
            }
            Content::Call { arguments, .. } => call(arguments, middle, &mut steps),
            Content::Approval { .. } => steps.extend(middle),
        }
        steps.push_back(Step::ItemDone);
    }
    steps.push_back(Step::Done);
    steps
}

fn noises(script: &Script) -> Vec<Noise> {
    let mut noises = Vec::new();
    if script.pings {
        noises.push(Noise::Ping);
    }
    if script.garbage {
        noises.push(Noise::Garbage);
    }
    if script.unknown_events {
        noises.push(Noise::Unknown);
    }
    noises.extend(script.big_message.map(Noise::Big));
    noises.extend(script.error_event.clone().map(Noise::Error));
    noises
}

/// The recorded mixture: three words, the user's transcription around the first audio, then words in
/// groups with audio between them, so that text runs ahead.
fn message(text: &str, spoken: bool, middle: Vec<Step>, steps: &mut VecDeque<Step>) {
    steps.push_back(Step::PartAdded);
    let mut words = text.split_inclusive(' ').map(|word| Step::Words(word.to_owned()));
    steps.extend(words.by_ref().take(3));
    if !spoken {
        steps.extend(middle);
        steps.extend(words);
        steps.extend([Step::TextDone, Step::PartDone]);
        return;
    }
    steps.push_back(Step::Audio);
    steps.extend(middle);
    let mut words = words.peekable();
    while words.peek().is_some() {
        steps.extend(words.by_ref().take(4));
        steps.push_back(Step::Audio);
    }
    steps.extend([Step::AudioRest, Step::AudioDone, Step::TextDone, Step::PartDone]);
}

fn call(arguments: &str, middle: Vec<Step>, steps: &mut VecDeque<Step>) {
    steps.extend(middle);
    // The text is split at odd places, because no client may expect tokens or whole words.
    let mut rest = arguments.chars().peekable();
    let mut size = 1;
    while rest.peek().is_some() {
        steps.push_back(Step::Arguments(rest.by_ref().take(size).collect()));
        size = size % 7 + 2;
    }
    steps.push_back(Step::ArgumentsDone);
}

/// What happens besides in a reply: the words of the user's turn, and what the script wants.
fn in_the_middle(script: &Script, may_end: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let in_passing = [TranscriptTiming::Usual, TranscriptTiming::Twice, TranscriptTiming::Failed];
    if in_passing.contains(&script.transcript) {
        steps.push(Step::Heard);
    }
    match &script.ending {
        Some((ending, Moment::Reply)) if may_end => {
            steps.push(Step::Audio);
            steps.push(Step::Noise(Noise::End(Action::from_ending(ending))));
        }
        _ if script.reply == ReplyFault::Incomplete => {
            steps.push(Step::Cut(Outcome::Incomplete));
        }
        _ => {}
    }
    steps
}
