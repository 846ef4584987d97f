//! Tools that ask first: the questions that wait for the user's answer.
//!
//! ```text
//! (none) ──a tool asks──► Open ──yes──────────────► it is run, with exactly what was shown
//!                          ├──no, or 30 s pass────► it is not run, and the model is told so in words
//!                          └──its session is lost─► withdrawn (a request of the service's alone)
//! ```
//!
//! This is the only owner of what is asked. What may be relied on: nothing that asks is run without a yes of
//! the client to its own id, and a yes counts once, since the question leaves the list with it. The id is made of
//! the call's, so an answer that was meant for another call fits nowhere. What would be run is never sent to
//! the client and back: the owner of the call keeps it as it was shown. Without that a model, or a client, could
//! change the arguments after the user has read them.
//!
//! A function call stays open at the service meanwhile (`tool_calls`), so its one output is the result, or the
//! reason why there is none. The model is asked for one response in which it asks aloud. What the user
//! says to that does not count: it is words like these that may be misheard.
//!
//! Bounds: [`MAX_QUESTIONS`] at once, arguments of [`MAX_SHOWN`] bytes, [`PATIENCE`] each. Beyond the first two
//! the answer is no.

use std::time::{Duration, Instant};

use super::absence::Presence;
use super::announced_calls::FinishedCall;
use super::client::{self, Confirm};
use super::playback::whole_ms;
use super::response_gate::ResponseRequest;
use super::service::{bounded_str, commands};
use super::{Call, Output, sooner};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Questions at once. With more nobody could answer all of them in time.
const MAX_QUESTIONS: usize = 4;
/// Longest arguments that are shown, in bytes. Nobody could judge more of them in time.
const MAX_SHOWN: usize = 4 * 1024;
/// Most of a tool's description that is shown, in bytes.
const MAX_ABOUT: usize = 300;
/// Most of the arguments that the model is reminded of, in bytes: it has written them itself.
const MAX_REMINDED: usize = 500;

/// What became of a question, or of an answer to none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The user has agreed.
    Allowed,
    /// The user has said no.
    Refused,
    /// No answer has come in time.
    Expired,
    /// The session of the service that asked is lost.
    Withdrawn,
    /// The user could not be asked: too much is asked at once, or too much would have to be shown.
    Unasked,
    /// An answer to nothing that is open: it was late, came twice, or is of another call.
    Stray,
}

impl Asked {
    /// A fixed word for the count.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
            Self::Unasked => "unasked",
            Self::Stray => "stray",
        }
    }

    /// Why a tool was not run, for the model.
    fn why(self) -> &'static str {
        match self {
            Self::Refused => r#"{"error":"The user said no, so it was not done."}"#,
            Self::Expired => {
                r#"{"error":"It was not done: the user has not agreed within 30 seconds, or has no screen to agree on."}"#
            }
            _ => {
                r#"{"error":"It was not done: the user must agree first, and cannot be asked about so much."}"#
            }
        }
    }
}

/// What waits for the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    /// A function call, whose tool the owner of the call keeps ready.
    Tool { call_id: String },
    /// A tool of the service's own, on the MCP server with this label.
    Request { id: String, server: String },
}

/// Whether the model has been asked to ask aloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aloud {
    Due,
    Said,
}

#[derive(Debug)]
struct Question {
    id: String,
    subject: Subject,
    tool: String,
    about: String,
    arguments: String,
    until: Instant,
    aloud: Aloud,
}

impl Question {
    /// `confirm`, with this much time left.
    fn message(&self, left: Duration) -> String {
        let server = match &self.subject {
            Subject::Request { server, .. } => Some(server.as_str()),
            Subject::Tool { .. } => None,
        };
        client::confirm(&Confirm {
            id: &self.id,
            tool: &self.tool,
            about: &self.about,
            server,
            arguments: &self.arguments,
            seconds: whole_ms(left).div_ceil(1_000),
        })
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Questions {
    /// The call's public id: the beginning of every question's.
    call: String,
    /// Questions so far.
    count: u32,
    open: Vec<Question>,
}

impl Questions {
    pub(super) fn new(call: &str) -> Self {
        Self { call: call.to_owned(), count: 0, open: Vec::new() }
    }

    /// Whether the user is being asked something.
    pub(super) fn are_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether this function call waits for the user's answer.
    pub(super) fn are_about(&self, call_id: &str) -> bool {
        let is_its =
            |subject: &Subject| matches!(subject, Subject::Tool { call_id: id } if id == call_id);
        self.open.iter().any(|question| is_its(&question.subject))
    }

    /// When [`Call::expire_questions`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open.iter().fold(None, |soonest, question| sooner(soonest, Some(question.until)))
    }

    /// What the model has not asked about yet, as sentences. From now on it has.
    pub(super) fn take_unspoken(&mut self) -> Option<String> {
        let mut asked = String::new();
        for question in self.open.iter_mut().filter(|question| question.aloud == Aloud::Due) {
            question.aloud = Aloud::Said;
            let arguments = bounded_str(&question.arguments, MAX_REMINDED);
            asked.push_str(&format!("\n- {} with {arguments}", question.tool));
        }
        (!asked.is_empty()).then_some(asked)
    }

    fn take(&mut self, is_meant: impl Fn(&Question) -> bool) -> Option<Question> {
        let at = self.open.iter().position(is_meant)?;
        Some(self.open.remove(at))
    }

    /// Whether the user is being asked exactly this.
    fn asks(&self, subject: &Subject, tool: &str, arguments: &str) -> bool {
        let same_kind = |other: &Subject| match (subject, other) {
            (Subject::Tool { .. }, Subject::Tool { .. }) => true,
            (Subject::Request { server, .. }, Subject::Request { server: other, .. }) => {
                server == other
            }
            _ => false,
        };
        self.open.iter().any(|question| {
            same_kind(&question.subject) && question.tool == tool && question.arguments == arguments
        })
    }
}

impl Call {
    /// A tool of ours asks first.
    pub(super) fn on_ask_first(
        &mut self,
        call_id: &str,
        about: &str,
        arguments: &str,
        now: Instant,
    ) {
        let call_id = call_id.to_owned();
        let Some(tool) = self.tools.name(&call_id).map(str::to_owned) else {
            return self.outputs.push_back(Output::ForgetTool { call_id });
        };
        self.tools.waits(&call_id, now + PATIENCE);
        self.ask(Subject::Tool { call_id }, tool, about, arguments, now);
    }

    /// The service asks whether it may run a tool of its own. Each request comes here once, with all that the
    /// service's events tell of it. Nobody is asked for the sake of an answer that was interrupted.
    pub(super) fn on_approval_request(
        &mut self,
        call: FinishedCall,
        cancelled: bool,
        now: Instant,
    ) {
        let interrupted = cancelled || self.interrupted.is(&call.response_id);
        let FinishedCall { call_id: id, name, arguments, server, .. } = call;
        let subject = Subject::Request { id, server: server.unwrap_or_default() };
        if interrupted {
            return self.settle_subject(subject, Asked::Refused, now);
        }
        self.first_audio.explain();
        self.ask(subject, name, "", &arguments, now);
    }

    fn ask(&mut self, subject: Subject, tool: String, about: &str, arguments: &str, now: Instant) {
        let arguments = if arguments.is_empty() { "{}" } else { arguments };
        let too_much = self.questions.open.len() == MAX_QUESTIONS || arguments.len() > MAX_SHOWN;
        // Nobody can judge what has no name.
        if too_much || tool.is_empty() || self.questions.asks(&subject, &tool, arguments) {
            self.outputs.push_back(Output::ToolRefused);
            return self.settle_subject(subject, Asked::Unasked, now);
        }
        self.questions.count += 1;
        let id = format!("{}-{}", self.questions.call, self.questions.count);
        let about = bounded_str(about, MAX_ABOUT).to_owned();
        let (arguments, until) = (arguments.to_owned(), now + PATIENCE);
        let question = Question { id, subject, tool, about, arguments, until, aloud: Aloud::Due };
        if self.presence == Presence::Here {
            self.tell(question.message(PATIENCE));
        }
        self.questions.open.push(question);
        self.gate.want(ResponseRequest::Answer);
    }

    /// The client's answer. One to nothing that is open changes nothing.
    pub(super) fn on_confirm(&mut self, id: &str, allow: bool, now: Instant) {
        self.expire_questions(now);
        match self.questions.take(|question| question.id == id) {
            Some(question) => {
                let how = if allow { Asked::Allowed } else { Asked::Refused };
                self.settle_subject(question.subject, how, now);
            }
            None => self.outputs.push_back(Output::Asked(Asked::Stray)),
        }
    }

    /// No answer is a no.
    pub(super) fn expire_questions(&mut self, now: Instant) {
        while let Some(question) = self.questions.take(|question| question.until <= now) {
            self.settle_subject(question.subject, Asked::Expired, now);
        }
    }

    /// A question has left the list, or never came into it.
    fn settle_subject(&mut self, subject: Subject, how: Asked, now: Instant) {
        self.limits.touch(now);
        self.outputs.push_back(Output::Asked(how));
        match subject {
            Subject::Tool { call_id } if how == Asked::Allowed => {
                self.tools.begins(&call_id, now);
                self.outputs.push_back(Output::RunAllowed { call_id });
            }
            Subject::Tool { call_id } => {
                self.on_tool_finished(&call_id, how.why(), false, now);
                self.outputs.push_back(Output::ForgetTool { call_id });
            }
            Subject::Request { id, .. } => {
                let allowed = how == Asked::Allowed;
                self.send(commands::approval(&id, allowed));
                // The service runs what is approved, and says when there is something to tell.
                if !allowed {
                    self.gate.want(ResponseRequest::Answer);
                }
            }
        }
    }

    /// The session is lost, and with it the service's own requests: no answer would find them. The model is
    /// asked again in the next session, and then asks again if it still wants to.
    pub(super) fn withdraw_requests(&mut self) {
        let of_service = |question: &Question| matches!(question.subject, Subject::Request { .. });
        while let Some(question) = self.questions.take(of_service) {
            self.outputs.push_back(Output::Asked(Asked::Withdrawn));
            if self.presence == Presence::Here {
                self.tell(question.message(Duration::ZERO));
            }
            self.gate.want(ResponseRequest::Answer);
        }
    }

    /// What is open, with the time that is left, for a client that has come back.
    pub fn questions_now(&self, now: Instant) -> impl Iterator<Item = String> {
        let left = move |question: &Question| question.until.saturating_duration_since(now);
        let open = self.questions.open.iter().filter(move |question| !left(question).is_zero());
        open.map(move |question| question.message(left(question)))
    }
}
