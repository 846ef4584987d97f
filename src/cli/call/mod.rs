//! `voicelived call`: one call to a daemon's `/ws`, for scripts and for trying a daemon.
//!
//! Speech leaves in frames of 20 ms by an absolute schedule. Silence follows, as from a microphone
//! that stays open, so the service can tell the end of the turn. A typed turn follows when the
//! speech was answered and a listener has heard the answer. The file gets what a listener would
//! have heard of the answers. A greeting before the first turn is no answer. If further speech
//! interrupts an answer, the rest of it is missing.
//!
//! Standard output gets one line for each event (`you: …`, `assistant: …`, `tool: …`, `latency: …`,
//! `state: …`). If there is no answer, standard error gets the reason.
//!
//! A connection that breaks is replaced, and the call goes on (`line`). The speech waits meanwhile. A call
//! that cannot be joined again has failed: what was said in it would be missing in another one.

mod answer;
mod connection;
mod line;
mod lines;
mod order;
mod questions;
mod record;
mod source;
mod wav;

use std::time::{Duration, Instant};

use log::LevelFilter;
use serde_json::{Value, json};

use super::args::CallArgs;
use super::drive::{Ended, Event};
use super::exit::{self, Failure};
use super::screen::{Screen, plain};
use super::service;
use crate::call::client::{MAX_TEXT_UNITS, is_too_long};
use crate::config::Config;
use crate::system::terminal_log;
use answer::{Answer, GRACE};
use connection::{Way, authorities};
use line::Line;
use lines::line;
use order::Order;
use questions::Questions;
use record::Record;
use source::{FRAME, Fill, Source};

/// The time of a frame.
const TICK: Duration = Duration::from_millis(20);
/// So many times as fast leaves what a broken connection has swallowed.
const CATCH_UP: u32 = 4;
/// If the schedule is this late, it starts anew: the machine has slept, or the daemon was away.
const LATE: Duration = Duration::from_secs(1);
/// Frames for which a source may have nothing before silence is sent in its place.
const STARVED: u32 = 10;
/// How long a greeting may take to begin before a typed turn is sent in its stead.
const SETTLE: Duration = Duration::from_secs(1);
/// How long the daemon may take to end the call after we hung up.
const GOODBYE: Duration = Duration::from_secs(5);

static SILENCE: [u8; FRAME] = [0; FRAME];

/// Makes the call.
///
/// # Errors
/// [`Failure`]: not answered, no daemon, or a file that can't be used.
pub(super) fn call(args: &CallArgs) -> Result<(), Failure> {
    terminal_log::init(terminal_log::level_or(LevelFilter::Warn));
    check_text(args.text.as_deref())?;
    let token = Config::client_token(args.token_file.as_deref(), args.env_file.as_deref())
        .map_err(|faults| (exit::CONFIG, service::lines(&faults)))?;
    let source = Source::open(&args.input)?;
    let mut record = Record::create(args.output.as_deref())?;
    let mut screen = Screen::new();
    let authorities = authorities(args.authorities.as_deref())?;
    let outcome = Line::open(Way { args, token, authorities })
        .and_then(|line| Talk::new(args, source, line, &mut record, &mut screen).run());
    let saved = record.finish(&mut screen);
    outcome.and(saved)
}

fn check_text(text: Option<&str>) -> Result<(), Failure> {
    let fault = match text {
        Some(text) if text.trim().is_empty() => "--text is blank".to_owned(),
        Some(text) if is_too_long(text) => {
            format!("--text is longer than {MAX_TEXT_UNITS} characters")
        }
        _ => return Ok(()),
    };
    Err((exit::USAGE, fault))
}

/// How far the call has got.
enum Phase {
    /// The daemon is calling the service.
    Opening,
    /// Both sides can talk.
    Talking {
        /// Since when.
        since: Instant,
        /// When the next frame is due.
        next_frame: Instant,
    },
    /// We hung up, or were told that the call has ended.
    Leaving {
        /// The connection is dropped then.
        until: Instant,
        /// What the command will say.
        verdict: Result<(), Failure>,
    },
}

struct Talk<'a> {
    line: Line<'a>,
    source: Source,
    /// The typed turn, until it is sent.
    text: Option<&'a str>,
    /// The typed turn, until the daemon has taken it. It is not printed as said before that.
    untaken: Option<&'a str>,
    /// The service finds no ends of turns: silence means nothing to it.
    manual: bool,
    timeout: Duration,
    phase: Phase,
    answer: Answer,
    questions: Questions,
    record: &'a mut Record,
    screen: &'a mut Screen,
    /// What was said and is not printed yet.
    order: Order,
    /// Whether there is speech at all.
    speaks: bool,
    /// The call was joined again, and what was missed is still to come.
    rejoined: bool,
    /// When the last of our own turns ended. `None` while no answer is due.
    said: Option<Instant>,
    starved: u32,
    started: Instant,
    sent: u64,
}

impl<'a> Talk<'a> {
    fn new(
        args: &'a CallArgs,
        source: Source,
        line: Line<'a>,
        record: &'a mut Record,
        screen: &'a mut Screen,
    ) -> Self {
        let now = Instant::now();
        Self {
            line,
            text: args.text.as_deref(),
            untaken: None,
            manual: false,
            timeout: args.timeout,
            phase: Phase::Opening,
            answer: Answer::new(now),
            questions: Questions::new(),
            record,
            screen,
            order: Order::default(),
            speaks: !matches!(source, Source::Silence),
            rejoined: false,
            source,
            said: None,
            starved: 0,
            started: now,
            sent: 0,
        }
    }

    fn run(mut self) -> Result<(), Failure> {
        let outcome = self.talk();
        self.print_rest();
        outcome
    }

    fn talk(&mut self) -> Result<(), Failure> {
        loop {
            let now = Instant::now();
            if let Phase::Leaving { until, verdict } = &self.phase
                && now >= *until
            {
                return verdict.clone();
            }
            self.act(now)?;
            let deadline = self.deadline();
            let doubted = self.line.look(now, self.screen);
            match doubted.unwrap_or_else(|| self.line.next(deadline, self.screen)) {
                Event::Text(text) => self.on_text(&text, Instant::now())?,
                Event::Binary(pcm) => self.on_audio(&pcm, Instant::now())?,
                Event::Deadline => {}
                Event::Signal => {
                    if let Phase::Leaving { verdict, .. } = &self.phase {
                        return verdict.clone();
                    }
                    let stopped = || unanswered("stopped before an answer was complete");
                    let answered = self.answer.completed() > 0;
                    self.hang_up(if answered { Ok(()) } else { Err(stopped()) });
                }
                Event::Ended(ended) => return self.ended(&ended),
            }
        }
    }

    fn deadline(&self) -> Instant {
        match &self.phase {
            Phase::Opening => self.started + self.timeout,
            Phase::Talking { next_frame, .. } => *next_frame,
            Phase::Leaving { until, .. } => *until,
        }
    }

    /// Does what is due.
    fn act(&mut self, now: Instant) -> Result<(), Failure> {
        self.print_said(now);
        if let Some(answer) = self.questions.next(now, self.screen) {
            self.answer_question(&answer, now);
        }
        match self.phase {
            Phase::Opening if now >= self.started + self.timeout => {
                let text =
                    format!("the daemon did not reach its service within {}", self.patience());
                self.hang_up(Err(unanswered(&text)));
            }
            Phase::Talking { since, .. } => {
                self.send_frames(now)?;
                self.show_status(now);
                self.take_turn(since, now);
            }
            Phase::Opening | Phase::Leaving { .. } => {}
        }
        Ok(())
    }

    fn send_frames(&mut self, now: Instant) -> Result<(), Failure> {
        while let Phase::Talking { next_frame, .. } = &mut self.phase
            && *next_frame <= now
        {
            if now > *next_frame + LATE {
                *next_frame = now;
            }
            *next_frame += if self.line.is_late() { TICK / CATCH_UP } else { TICK };
            // A frame that cannot leave now is kept, so that no word is lost.
            if !self.line.has_room() {
                continue;
            }
            if let Some(entry) = self.line.next_unheard() {
                self.line.send(entry);
            } else if let Some(frame) = self.next_frame(now)? {
                self.sent += 1;
                self.line.send(Some(frame));
            }
        }
        Ok(())
    }

    /// The next frame: speech, and silence after it. `None` while a slow source may still bring
    /// more.
    fn next_frame(&mut self, now: Instant) -> Result<Option<Vec<u8>>, Failure> {
        if self.said.is_none() {
            match self.source.next()? {
                Fill::Frame(frame) => {
                    self.starved = 0;
                    return Ok(Some(frame));
                }
                Fill::Starved if self.starved < STARVED => {
                    self.starved += 1;
                    return Ok(None);
                }
                Fill::Starved => {}
                Fill::End => {
                    self.said = Some(now);
                    if self.speaks {
                        self.line.send(None);
                    }
                }
            }
        }
        // Where the service waits to be told, silence would only be paid for.
        Ok((!self.manual || self.said.is_none()).then(|| SILENCE.to_vec()))
    }

    /// Types, hangs up or gives up when it is time to.
    fn take_turn(&mut self, since: Instant, now: Instant) {
        let Some(said) = self.said.filter(|_| !self.questions.is_open()) else { return };
        let complete = self.answer.is_complete(now);
        match self.text {
            Some(text) if self.may_type(complete, since, now) => self.type_text(text, now),
            None if complete && now >= said + GRACE => self.hang_up(Ok(())),
            _ => {
                if let Some(why) = self.gives_up(said, now) {
                    self.hang_up(Err(unanswered(&why)));
                }
            }
        }
    }

    /// Whether the typed turn may be sent. It would interrupt the assistant. So it waits until the
    /// answer to the speech was heard, or, without speech, until a greeting has ended.
    fn may_type(&self, complete: bool, since: Instant, now: Instant) -> bool {
        if self.speaks {
            complete && self.record.is_quiet(now)
        } else {
            now >= since + SETTLE && self.answer.is_idle()
        }
    }

    /// Why waiting longer makes no sense, if it does not.
    fn gives_up(&self, said: Instant, now: Instant) -> Option<String> {
        if let Some(why) = self.answer.failure(now) {
            return Some(plain(why));
        }
        // While a listener hears an answer, the waiting time does not count.
        let quiet = self.answer.is_complete(now) && self.text.is_some();
        if quiet || now < said.max(self.answer.last()) + self.timeout {
            return None;
        }
        let what = match (self.answer.has_begun(), self.answer.is_asked()) {
            (true, _) => "the answer broke off: nothing came",
            (false, true) => "no answer came",
            (false, false) => "the service heard no turn of ours",
        };
        Some(format!("{what} within {}", self.patience()))
    }

    fn type_text(&mut self, text: &str, now: Instant) {
        self.send_text(text);
        self.answer.typed(now);
        self.untaken = self.text.take();
        self.said = Some(now);
    }

    /// The daemon answers in order: a refusal of the text comes before the pong.
    fn send_text(&mut self, text: &str) {
        self.line.tell(&json!({"type": "text", "text": text}));
        self.line.tell(&json!({"type": "ping", "id": "typed"}));
    }

    fn hang_up(&mut self, verdict: Result<(), Failure>) {
        self.line.tell(&json!({"type": "hang_up"}));
        self.line.leave();
        self.phase = Phase::Leaving { until: Instant::now() + GOODBYE, verdict };
    }

    // ---- what the daemon says ----

    fn on_text(&mut self, text: &str, now: Instant) -> Result<(), Failure> {
        // A text that is not JSON is ignored, as a message of an unknown type is.
        let message: Value = serde_json::from_str(text).unwrap_or_default();
        self.answer.on_message(&message, now);
        self.settle_typed(&message);
        self.print(&message, now);
        match (message["type"].as_str(), message["state"].as_str()) {
            (Some("speech_started"), _) => self.record.interrupt(now)?,
            (Some("hold"), _) => self.record.hold(now)?,
            (Some("resume_playback"), _) => self.record.go_on(now),
            (Some("confirm"), _) => {
                if let Some(answer) = self.questions.take(&message, now, self.screen) {
                    self.answer_question(&answer, now);
                }
            }
            (Some("hello"), _) => self.on_hello(&message, now),
            (Some("call_state"), Some("active")) => {
                self.manual = message["turns"] == "client";
                self.begin(now);
                self.catch_up();
            }
            (Some("call_state"), Some("ended")) => self.call_ended(&message),
            _ => {}
        }
        Ok(())
    }

    fn answer_question(&mut self, answer: &Value, now: Instant) {
        self.line.tell(answer);
        self.answer.question_answered(now);
    }

    /// Prints what the message says to a person. What was said waits for its place.
    fn print(&mut self, message: &Value, now: Instant) {
        let item = message["item_id"].as_str().unwrap_or_default();
        let line = line(message);
        match (message["type"].as_str(), line) {
            (Some("speech_started" | "speech_stopped" | "transcript_delta"), _) => {
                self.order.expect(item);
            }
            (Some("transcript" | "transcript_failed"), Some(line)) => {
                self.order.say(item, line, now);
            }
            (kind, Some(line)) => {
                if kind == Some("call_state") && message["state"] == "ended" {
                    self.print_rest();
                }
                self.screen.line(&line);
            }
            (_, None) => {}
        }
        self.print_said(now);
    }

    fn print_said(&mut self, now: Instant) {
        while let Some(line) = self.order.next(now) {
            self.screen.line(&line);
        }
    }

    /// Nothing is waited for any more.
    fn print_rest(&mut self) {
        while let Some(line) = self.order.next_at_all() {
            self.screen.line(&line);
        }
    }

    /// Whether the daemon has taken the typed turn, if this message tells: the pong behind it, or the
    /// answer itself, from a daemon that answers no ping.
    fn settle_typed(&mut self, message: &Value) {
        let kind = message["type"].as_str().unwrap_or_default();
        let refused = matches!(message["code"].as_str(), Some("text_too_long" | "not_ready"));
        let taken = kind == "response_started" || (kind == "pong" && message["id"] == "typed");
        if kind == "error" && refused && self.untaken.take().is_some() {
            let why = plain(message["message"].as_str().unwrap_or("the daemon refused the text"));
            self.hang_up(Err(unanswered(&why)));
        } else if taken && let Some(text) = self.untaken.take() {
            self.print_rest();
            self.screen.line(&format!("you: {}", plain(text)));
        }
    }

    fn on_audio(&mut self, pcm: &[u8], now: Instant) -> Result<(), Failure> {
        if self.answer.on_audio(now) { self.record.hear(pcm, now) } else { Ok(()) }
    }

    fn begin(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Opening) {
            self.phase = Phase::Talking { since: now, next_frame: now };
        }
    }

    /// After a broken connection the daemon goes on with the call, or it knows nothing of it.
    fn on_hello(&mut self, hello: &Value, now: Instant) {
        if !self.line.on_hello(hello) {
            self.hang_up(Err(unanswered("the daemon has lost the call and begun another")));
        }
        self.rejoined = hello["resumed"] == true;
        if let Some(said) = &mut self.said {
            *said = now;
        }
    }

    /// All that was missed has come. Where the pong of the typed turn is not among it, the daemon has not
    /// had the turn.
    fn catch_up(&mut self) {
        if std::mem::take(&mut self.rejoined)
            && let Some(text) = self.untaken
        {
            self.send_text(text);
        }
    }

    /// The daemon ended the call; its close frame follows.
    fn call_ended(&mut self, message: &Value) {
        self.line.leave();
        if !matches!(self.phase, Phase::Leaving { .. }) {
            let why = plain(message["message"].as_str().unwrap_or("the daemon ended the call"));
            let reason = plain(message["reason"].as_str().unwrap_or("no reason given"));
            let verdict = self.verdict(&format!("the call ended: {why} ({reason})"));
            self.phase = Phase::Leaving { until: Instant::now() + GOODBYE, verdict };
        }
    }

    fn ended(&self, ended: &Ended) -> Result<(), Failure> {
        let why = match ended {
            Ended::Closed { code: Some(code), reason } => {
                format!("the daemon closed the connection: {} (code {code})", plain(reason))
            }
            Ended::Closed { code: None, .. } => "the daemon closed the connection".to_owned(),
            Ended::Lost(error) => format!("the connection to the daemon was lost: {error}"),
            Ended::Violation(what) => format!("the daemon broke the protocol: {what}"),
        };
        let verdict = self.verdict(&why);
        if let Phase::Leaving { verdict, .. } = &self.phase { verdict.clone() } else { verdict }
    }

    /// Whether all turns were answered when the other side ended the call, because of `why`.
    fn verdict(&self, why: &str) -> Result<(), Failure> {
        let all = self.said.is_some() && self.text.is_none() && self.answer.is_answered();
        if all { Ok(()) } else { Err(unanswered(why)) }
    }

    fn show_status(&mut self, now: Instant) {
        // The user may be typing there.
        if self.questions.is_open() {
            return;
        }
        let seconds = |from: Instant| now.saturating_duration_since(from).as_secs_f64();
        let (said, answer, sent) = (self.said, &self.answer, self.sent);
        self.screen.status(now, || match said {
            None => format!(
                "speaking {:.1} s",
                f64::from(u32::try_from(sent).unwrap_or(u32::MAX)) / 50.0
            ),
            Some(_) if answer.has_begun() => "listening".to_owned(),
            Some(said) => format!("waiting {:.1} s", seconds(said)),
        });
    }

    fn patience(&self) -> String {
        format!("{} s", self.timeout.as_secs())
    }
}

fn unanswered(why: &str) -> Failure {
    (exit::FAILURE, format!("not answered: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impossible_typed_turn_is_refused_before_the_call() {
        assert!(check_text(None).is_ok() && check_text(Some("hi")).is_ok());
        assert_eq!(check_text(Some(" \n")).unwrap_err().0, exit::USAGE);
        let most = "\u{4e2d}".repeat(MAX_TEXT_UNITS);
        assert!(check_text(Some(&most)).is_ok());
        assert_eq!(check_text(Some(&format!("{most}x"))).unwrap_err().0, exit::USAGE);
    }
}
