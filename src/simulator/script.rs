//! The script: where a simulation behaves differently from a good service. Each fault or fixed
//! behaviour is a word such as `late-deltas=3`. The script is parsed once and never changes.
//!
//! Some words concern bytes on the socket (`silent`, `fragments`, `trickle`, `no-pong`, `reset`).
//! The core only passes them to the socket shell.

use std::fmt::Write as _;

use super::event::Dialect;

/// The largest message `big-message` makes: more than any client should take.
pub const MAX_BIG_MESSAGE: usize = 16 * 1024 * 1024;

/// An HTTP answer instead of the upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refuse {
    /// The status code, 300 to 599.
    pub status: u16,
    /// Seconds for the `Retry-After` header.
    pub retry_after: Option<u32>,
}

/// How long new connections are refused after one has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Down {
    /// From the end of the connection on.
    pub seconds: u32,
    /// The answer to each new connection meanwhile.
    pub refuse: Refuse,
}

/// How a model is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelRefusal {
    /// The upgrade is answered 404.
    NotFound,
    /// The upgrade is answered 400.
    BadRequest,
    /// An `error` event instead of `session.created`, and a close.
    Error,
    /// An `error` event in answer to `session.update`.
    Update,
}

/// When a scripted ending happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before `session.created`.
    Start,
    /// Instead of the answer to the first `session.update`.
    Update,
    /// In the middle of the first reply.
    Reply,
}

/// How a scripted connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// A close frame with this code and reason; without a code an empty close frame.
    Close(Option<u16>, String),
    /// The TCP connection is reset.
    Reset,
    /// Nothing more comes, and the connection stays open.
    Stall,
}

/// What happens to replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyFault {
    /// Replies complete.
    #[default]
    None,
    /// `response.done` with status `failed` right after `response.created`.
    Failed,
    /// Replies end half-way with status `incomplete`, reason `max_output_tokens`.
    Incomplete,
    /// The user's turn is committed, and no reply ever comes.
    Missing,
}

/// When the user's transcription arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TranscriptTiming {
    /// In the middle of the reply, as recorded from the real service.
    #[default]
    Usual,
    /// Before `response.created`, as a cascade model would.
    Early,
    /// After `response.done`.
    Late,
    /// As usual, and once more, empty, after `response.done`: seen with cascade models.
    Twice,
    /// Never: `conversation.item.input_audio_transcription.failed` in the middle of the reply.
    Failed,
}

/// The behaviour asked for; the default is a well-behaved service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    /// Answer the upgrade with this instead.
    pub refuse: Option<Refuse>,
    /// Shell: accept TCP and never answer the upgrade.
    pub silent: bool,
    /// `session.created` is never sent.
    pub no_session_created: bool,
    /// Every `session.update` is answered with an `error`.
    pub refuse_session: bool,
    /// Models that are refused, and how.
    pub refused_models: Vec<(String, ModelRefusal)>,
    /// Transcribers that are refused.
    pub refused_transcribers: Vec<String>,
    /// Only a token of Entra ID is let in, in `Authorization: Bearer`, and no key; with a text only the token
    /// with that text.
    pub require_token: Option<String>,
    /// Every language hint is refused.
    pub refuse_language: bool,
    /// Audio deltas sent after `speech_started` interrupted a reply.
    pub late_deltas: u8,
    /// Unknown events and fields.
    pub unknown_events: bool,
    /// Optional fields are present as `null`.
    pub nulls: bool,
    /// `type` is the last key of each event.
    pub type_last: bool,
    /// JSON with spaces, tabs and line ends wherever they are allowed.
    pub whitespace: bool,
    /// Shell: each message in several WebSocket frames.
    pub fragments: bool,
    /// A WebSocket ping before `session.created` and in each reply.
    pub pings: bool,
    /// One event of this many bytes in each reply.
    pub big_message: Option<usize>,
    /// One audio delta of each reply is not base64.
    pub bad_base64: bool,
    /// Audio deltas hold odd numbers of bytes.
    pub odd_pcm: bool,
    /// One message of each reply is not JSON.
    pub garbage: bool,
    /// Events travel in binary messages.
    pub binary: bool,
    /// An `error` event of this type in each reply.
    pub error_event: Option<String>,
    /// Shell: the connection is reset after so many bytes of messages, in the middle of one.
    pub drop_at: Option<u64>,
    /// Connections that the script ends; all, if absent.
    pub times: Option<u32>,
    /// New connections are refused for a while after one has ended.
    pub down: Option<Down>,
    /// What happens to replies.
    pub reply: ReplyFault,
    /// How and when the connection ends before its time.
    pub ending: Option<(Ending, Moment)>,
    /// When the user's words arrive.
    pub transcript: TranscriptTiming,
    /// A turn of at most so many milliseconds, its padding included, is a cough: its transcript is empty.
    pub cough_ms: Option<u32>,
    /// Replies of exactly this many seconds of [`super::pattern_sample`].
    pub reply_seconds: Option<u32>,
    /// Reply pace in multiples of real time; overrides the model's.
    pub speed: Option<u32>,
    /// Milliseconds between a request for a reply and `response.created`.
    pub latency_ms: u32,
    /// Shell: a few bytes at a time.
    pub trickle: bool,
    /// Shell: pings are not answered.
    pub no_pong: bool,
    /// Seconds a session lasts; overrides the model's.
    pub session_seconds: Option<u64>,
    /// No spoken welcome after the first `session.updated`.
    pub no_welcome: bool,
    /// Every spoken turn makes this many function calls.
    pub tools: Option<u8>,
    /// A reply with function calls starts with a spoken sentence.
    pub say_first: bool,
    /// Function call arguments are not valid JSON.
    pub bad_arguments: bool,
    /// `response.create` during a reply cancels it instead of failing.
    pub cancel_previous: bool,
    /// Names and session shape; `None` follows the path of the upgrade.
    pub dialect: Option<Dialect>,
}

impl Script {
    /// Reads script words. The error names the word at fault and what would have been right.
    #[inline(never)]
    pub fn parse<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Result<Self, String> {
        let mut script = Self::default();
        for word in words {
            let word = word.as_ref().trim();
            if !word.is_empty() {
                script.apply(word)?;
            }
        }
        Ok(script)
    }

    /// How a model is refused, if it is.
    pub(super) fn model_refusal(&self, model: &str) -> Option<ModelRefusal> {
        let found = self.refused_models.iter().find(|(name, _)| name == model);
        found.map(|(_, how)| *how)
    }

    /// One line per word, for `simulate --help`.
    #[must_use]
    #[inline(never)]
    pub fn help() -> String {
        let mut text = String::new();
        for (form, meaning) in words() {
            let _ = writeln!(text, "  {form:<24} {meaning}");
        }
        text
    }

    fn apply(&mut self, word: &str) -> Result<(), String> {
        let known = match word.split_once('=') {
            None => self.apply_flag(word),
            Some((key, value)) => self.apply_value(key, value),
        };
        if known.is_some() {
            return Ok(());
        }
        let key = word.split('=').next().unwrap_or(word);
        let form = words().find(|(form, _)| form.split(['=', '[']).next() == Some(key));
        Err(match form {
            Some((form, meaning)) => format!("script word '{word}': expected {form} ({meaning})"),
            None => format!("script word '{word}' is unknown"),
        })
    }

    fn apply_flag(&mut self, word: &str) -> Option<()> {
        match word {
            "close-after-upgrade" => {
                self.ending = Some((Ending::Close(None, String::new()), Moment::Start));
            }
            "require-token" => self.require_token = Some(String::new()),
            "fail-response" => self.reply = ReplyFault::Failed,
            "incomplete-response" => self.reply = ReplyFault::Incomplete,
            "no-reply" => self.reply = ReplyFault::Missing,
            _ => match word.split_once('@') {
                Some(("reset", at)) => self.ending = Some((Ending::Reset, moment(at)?)),
                Some(("stall", at)) => self.ending = Some((Ending::Stall, moment(at)?)),
                Some(_) => return None,
                None => *self.switch(word)? = true,
            },
        }
        Some(())
    }

    fn switch(&mut self, word: &str) -> Option<&mut bool> {
        Some(match word {
            "silent" => &mut self.silent,
            "no-session-created" => &mut self.no_session_created,
            "refuse-session" => &mut self.refuse_session,
            "refuse-language" => &mut self.refuse_language,
            "unknown-events" => &mut self.unknown_events,
            "nulls" => &mut self.nulls,
            "type-last" => &mut self.type_last,
            "whitespace" => &mut self.whitespace,
            "fragments" => &mut self.fragments,
            "pings" => &mut self.pings,
            "bad-base64" => &mut self.bad_base64,
            "odd-pcm" => &mut self.odd_pcm,
            "garbage" => &mut self.garbage,
            "binary" => &mut self.binary,
            "trickle" => &mut self.trickle,
            "no-pong" => &mut self.no_pong,
            "no-welcome" => &mut self.no_welcome,
            "say-first" => &mut self.say_first,
            "bad-arguments" => &mut self.bad_arguments,
            "cancel-previous" => &mut self.cancel_previous,
            _ => return None,
        })
    }

    fn apply_value(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "refuse" => self.refuse = Some(refuse(value)?),
            "down" => self.down = Some(down(value)?),
            "times" => self.times = Some(within(value, 1, 1_000_000)?),
            "drop-at" => self.drop_at = Some(value.parse().ok()?),
            "require-token" if !value.is_empty() => self.require_token = Some(value.to_owned()),
            "refuse-model" => self.refused_models.push(refused_model(value)?),
            "refuse-transcriber" if !value.is_empty() => {
                self.refused_transcribers.push(value.to_owned());
            }
            "late-deltas" => self.late_deltas = value.parse().ok()?,
            "big-message" => {
                self.big_message = Some(value.parse().ok().filter(|n| *n <= MAX_BIG_MESSAGE)?);
            }
            "error-event" => self.error_event = Some(value.to_owned()),
            "close" => self.ending = Some(close(value)?),
            "transcript" => self.transcript = timing(value)?,
            "cough" => self.cough_ms = Some(within(value, 1, 60_000)?),
            "reply-seconds" => self.reply_seconds = Some(within(value, 1, 3600)?),
            "speed" => self.speed = Some(within(value, 1, 1000)?),
            "latency" => self.latency_ms = within(value, 0, 60_000)?,
            "session-seconds" => self.session_seconds = Some(within(value, 1, 86_400)?.into()),
            "tools" => self.tools = Some(value.parse().ok().filter(|n| (1..=2).contains(n))?),
            "dialect" => {
                self.dialect = Some(match value {
                    "dated" => Dialect::Dated,
                    "ga" => Dialect::Ga,
                    _ => return None,
                });
            }
            _ => return None,
        }
        Some(())
    }
}

fn within(value: &str, least: u32, most: u32) -> Option<u32> {
    value.parse().ok().filter(|n| (least..=most).contains(n))
}

fn refuse(value: &str) -> Option<Refuse> {
    let (status, retry_after) = match value.split_once(':') {
        Some((status, after)) => (status, Some(after.parse().ok()?)),
        None => (value, None),
    };
    let status = status.parse().ok().filter(|code| (300..=599).contains(code))?;
    Some(Refuse { status, retry_after })
}

/// `SECONDS[:STATUS[:SECONDS]]`.
fn down(value: &str) -> Option<Down> {
    let (seconds, how) = value.split_once(':').unwrap_or((value, "503"));
    Some(Down { seconds: within(seconds, 1, 86_400)?, refuse: refuse(how)? })
}

fn refused_model(value: &str) -> Option<(String, ModelRefusal)> {
    let (name, how) = value.split_once(':').unwrap_or((value, "404"));
    let how = match how {
        "404" => ModelRefusal::NotFound,
        "400" => ModelRefusal::BadRequest,
        "error" => ModelRefusal::Error,
        "update" => ModelRefusal::Update,
        _ => return None,
    };
    (!name.is_empty()).then(|| (name.to_owned(), how))
}

/// `CODE[:REASON][@MOMENT]`; the reason may hold `@` as long as no moment's name follows it.
fn close(value: &str) -> Option<(Ending, Moment)> {
    let (rest, moment) = match value.rsplit_once('@').map(|(rest, at)| (rest, moment(at))) {
        Some((rest, Some(moment))) => (rest, moment),
        _ => (value, Moment::Reply),
    };
    let (code, reason) = rest.split_once(':').unwrap_or((rest, ""));
    let code = code.parse().ok().filter(|code| (1000..=4999).contains(code))?;
    // A close frame's payload is at most 125 bytes, two of them the code (RFC 6455, 5.5).
    (reason.len() <= 123).then(|| (Ending::Close(Some(code), reason.to_owned()), moment))
}

fn moment(name: &str) -> Option<Moment> {
    Some(match name {
        "start" => Moment::Start,
        "update" => Moment::Update,
        "reply" => Moment::Reply,
        _ => return None,
    })
}

fn timing(name: &str) -> Option<TranscriptTiming> {
    Some(match name {
        "usual" => TranscriptTiming::Usual,
        "early" => TranscriptTiming::Early,
        "late" => TranscriptTiming::Late,
        "twice" => TranscriptTiming::Twice,
        "failed" => TranscriptTiming::Failed,
        _ => return None,
    })
}

/// One text, since a list of pairs costs 80 bytes of relocations for each.
const WORDS: &str = r#"refuse=STATUS[:SECONDS]: answer the upgrade with this status, SECONDS as Retry-After
silent: accept the connection and never answer the upgrade
close-after-upgrade: close right after the upgrade, without a code
close=CODE[:TEXT][@WHEN]: close at start, update or reply (default reply)
reset@WHEN: reset the connection at start, update or reply
stall@WHEN: send nothing more from start, update or reply on
drop-at=BYTES: reset the connection after so many bytes of messages
times=N: let all this end the first N connections only
down=SECONDS[:STATUS[:SECONDS]]: refuse new connections so long after one has ended (503)
no-session-created: never send session.created
refuse-session: answer every session.update with an error
refuse-model=NAME[:HOW]: refuse this model by 404 (default), 400, error or update
refuse-transcriber=NAME: refuse this transcriber
refuse-language: refuse every language hint for the transcriber
require-token[=TOKEN]: let in a token of Entra ID only (or this one only), and no key
session-seconds=N: end the session after N seconds
dialect=dated|ga: use this dialect's event names and session shape, whatever the path
no-welcome: don't speak first
speed=N: send replies at N times real time
latency=MS: wait so many milliseconds before each reply
reply-seconds=N: send replies of exactly N seconds, of a pattern that a test can verify
tools=1|2: make so many function calls in every spoken turn
say-first: speak a sentence before the function calls of a reply
bad-arguments: send function call arguments that are not JSON
transcript=WHEN: send the user's words at this time: usual, early, late, twice or failed
cough=MS: take a turn of MS milliseconds at most, padding included, for a cough, without words
late-deltas=N: send N more audio deltas after an interruption
cancel-previous: let a response.create during a reply cancel the reply
fail-response: let replies fail
incomplete-response: stop replies half-way, as at a token limit
no-reply: commit turns and never answer them
error-event=TYPE: send an error event of this type in each reply
unknown-events: send events and fields that no client knows
nulls: send optional fields as null
type-last: send "type" as the last key of each event
whitespace: send JSON with white space everywhere
fragments: send messages in several WebSocket frames
binary: send events in binary messages
big-message=BYTES: send one message of so many bytes in each reply
bad-base64: send one audio delta in each reply that is not base64
odd-pcm: send audio deltas with odd numbers of bytes
garbage: send one message in each reply that is not JSON
pings: send WebSocket pings before the session and in each reply
no-pong: don't answer pings
trickle: send a few bytes at a time"#;

/// The form and the meaning of each word.
fn words() -> impl Iterator<Item = (&'static str, &'static str)> {
    WORDS.lines().filter_map(|line| line.split_once(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_word_is_understood() {
        for (form, _) in words() {
            let example = form
                .replace("=SECONDS[:STATUS[:SECONDS]]", "=5:429:7")
                .replace("[:SECONDS]", ":7")
                .replace("[:TEXT][@WHEN]", ":busy@update")
                .replace("=STATUS", "=429")
                .replace("=NAME[:HOW]", "=gpt-realtime:update")
                .replace("=NAME", "=whisper-1")
                .replace("=CODE", "=1011")
                .replace("transcript=WHEN", "transcript=late")
                .replace("@WHEN", "@reply")
                .replace("=TYPE", "=server_error")
                .replace("1|2", "2")
                .replace("dated|ga", "ga")
                .replace("[=TOKEN]", "=secret")
                .replace("=BYTES", "=1048576")
                .replace("=N", "=3")
                .replace("=MS", "=250");
            Script::parse([&example]).expect(&example);
        }
        assert_eq!(Script::help().lines().count(), words().count());
    }

    #[test]
    fn values_arrive() {
        let script = Script::parse(["refuse=429:7", "close=1011:a:b@c@reply", "tools=2"]).unwrap();
        assert_eq!(script.refuse, Some(Refuse { status: 429, retry_after: Some(7) }));
        let close = Ending::Close(Some(1011), "a:b@c".to_owned());
        assert_eq!(script.ending, Some((close, Moment::Reply)));
        assert_eq!(script.tools, Some(2));
        let script = Script::parse(["down=5"]).unwrap();
        let refuse = Refuse { status: 503, retry_after: None };
        assert_eq!(script.down, Some(Down { seconds: 5, refuse }));
    }

    #[test]
    fn bad_words_are_named() {
        for word in [
            "refuse=200",
            "refuse-model=",
            "refuse-model=a:b",
            "refuse-transcriber=",
            "tools=3",
            "speed=0",
            "close=99",
            "reset@never",
            "down=0",
            "down=5:200",
            "times=0",
            "drop-at=x",
            "nonsense",
        ] {
            let error = Script::parse([word]).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
