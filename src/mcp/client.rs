//! The client of one server: what is said in which state, as a pure state machine.
//!
//! ```text
//!            open                    discovered: modern
//! Closed ───────────► Discovering ─────────────────────► Ready
//!   ▲  │                  │ any other answer,              ▲
//!   │  │ known as legacy  │ or silence                     │ answered
//!   │  └──────────► Initializing ──────────────────────────┘
//!   └── `close`, from every state: the connection is gone
//! ```
//!
//! **The era** is found out by `server/discover`, which only modern servers know. A server that dies of
//! it, or does not answer it, is asked by `initialize`. A slow one may have taken the first question
//! for its era and then refuses `initialize` with -32022: it is modern. What was found stays for the
//! next connection ([`Client`] outlives connections), and a refusal corrects it.
//!
//! **Every call ends in words**, whatever the server does: by its answer, by its deadline, by the end
//! of the connection. A deadline ends the call and tells the server, and never the connection.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::content;
pub use super::event::{Event, Weight};
use super::lines::{Line, Lines};
use super::listing::{Listing, Page};
use super::messages::{id_at_an_end, id_of, reason, speaks};
use super::{Era, LEGACY, MODERN, messages, shown};

/// How long `server/discover` may take. Old servers may say nothing at all.
const DISCOVER: Duration = Duration::from_secs(10);
/// How long `initialize` may take. A server that is fetched by `npx` for the first time takes long.
const INITIALIZE: Duration = Duration::from_secs(60);
/// How long one page of the list may take.
const PAGE: Duration = Duration::from_secs(30);
/// The least time between two lists: a server may announce changes in a flood.
const BETWEEN_LISTS: Duration = Duration::from_secs(1);
/// When a list that failed is asked for again.
const LIST_AGAIN: Duration = Duration::from_secs(60);
/// The longest that progress can put the end of a call off, from its start.
pub const LONGEST_CALL: Duration = Duration::from_secs(120);
/// The most calls at once. The loop has a bound of its own; this one holds if that fails.
const MAX_RUNNING: usize = 64;
/// The most bytes that wait to be written. A server that does not read is refused more.
const MAX_OUTBOX: usize = 1024 * 1024;
/// The most messages in one array (a batch of 2025-03-26).
const MAX_BATCH: usize = 64;
/// How many odd lines of a connection are told to the log.
const TOLD_ODDITIES: usize = 5;

/// How the server is reached, as far as the protocol differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A program's pipes.
    Stdio,
    /// HTTP, through the child.
    Http,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is no connection.
    Closed,
    /// `server/discover` waits for its answer.
    Discovering { id: u64, until: Instant },
    /// `initialize` waits for its answer.
    Initializing { id: u64, until: Instant },
    /// Tools may be called.
    Ready,
}

/// A call that waits for its result.
#[derive(Debug)]
struct Running {
    id: u64,
    ticket: u64,
    tool: String,
    due: Instant,
    /// Beyond this time nothing puts `due` off.
    last: Instant,
}

/// See the module's text.
#[derive(Debug)]
pub struct Client {
    transport: Transport,
    timeout: Duration,
    state: State,
    /// What this server was found to speak, also by earlier connections.
    era: Option<Era>,
    next_id: u64,
    running: Vec<Running>,
    /// The list in progress: the id of the page that was asked for, when it is overdue, and what came.
    listing: Option<(u64, Instant, Listing)>,
    /// When to list again; `None` while nothing asks for it.
    list_at: Option<Instant>,
    /// The server tells of changes if it is asked to (modern era).
    tells_changes: bool,
    /// The standing request for that.
    subscription: Option<u64>,
    outbox: Vec<u8>,
    lines: Lines,
    events: VecDeque<Event>,
    oddities: usize,
}

impl Client {
    /// A client without a connection. `timeout` is how long a call may take without progress.
    #[must_use]
    #[inline(never)]
    pub fn new(transport: Transport, timeout: Duration) -> Self {
        Self {
            transport,
            timeout,
            state: State::Closed,
            era: None,
            next_id: 1,
            running: Vec::new(),
            listing: None,
            list_at: None,
            tells_changes: false,
            subscription: None,
            outbox: Vec::new(),
            lines: Lines::default(),
            events: VecDeque::new(),
            oddities: 0,
        }
    }

    /// Calls from now on may take so long without progress.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// There is a new connection: the first words are written.
    #[inline(never)]
    pub fn open(&mut self, now: Instant) {
        self.close("its connection was replaced");
        match self.era {
            Some(Era::Legacy) => self.initialize(now),
            _ => self.discover(now),
        }
    }

    /// The connection is gone. Calls that wait are ended with `why`, such as "it has ended".
    #[inline(never)]
    pub fn close(&mut self, why: &str) {
        // A server that dies of a question that it does not know must not be asked it again.
        if matches!(self.state, State::Discovering { .. }) && self.era.is_none() {
            self.era = Some(Era::Legacy);
        }
        self.state = State::Closed;
        self.listing = None;
        self.list_at = None;
        self.tells_changes = false;
        self.subscription = None;
        self.outbox = Vec::new();
        self.lines = Lines::default();
        self.oddities = 0;
        for call in std::mem::take(&mut self.running) {
            self.done(call.ticket, format!("The tool's server does not work: {why}."), false);
        }
    }

    /// Whether tools can be called.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// The era, once it is known.
    #[must_use]
    pub fn era(&self) -> Option<Era> {
        self.era
    }

    /// The bytes that wait to be written to the server.
    #[must_use]
    pub fn to_write(&self) -> &[u8] {
        &self.outbox
    }

    /// So many bytes of [`to_write`](Self::to_write) were written.
    pub fn written(&mut self, count: usize) {
        self.outbox.drain(..count.min(self.outbox.len()));
        if self.outbox.is_empty() {
            self.outbox = Vec::new();
        }
    }

    /// The next event, until `None`.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`tick`](Self::tick) must be called at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let handshake = match self.state {
            State::Discovering { until, .. } | State::Initializing { until, .. } => Some(until),
            State::Closed => return None,
            State::Ready => None,
        };
        let page = self.listing.as_ref().map(|(_, until, _)| *until);
        let list_at = self.list_at.filter(|_| self.listing.is_none() && self.is_ready());
        let calls = self.running.iter().map(|call| call.due).min();
        [handshake, page, list_at, calls].into_iter().flatten().min()
    }

    /// Does what is due.
    #[inline(never)]
    pub fn tick(&mut self, now: Instant) {
        match self.state {
            State::Discovering { until, .. } if now >= until => self.initialize(now),
            State::Initializing { until, .. } if now >= until => {
                self.broken("it does not answer".to_owned());
            }
            _ => {}
        }
        if self.listing.as_ref().is_some_and(|(_, until, _)| now >= *until) {
            self.list_failed("it does not answer", now);
        }
        if self.is_ready() && self.listing.is_none() && self.list_at.is_some_and(|at| now >= at) {
            self.list(now);
        }
        while let Some(at) = self.running.iter().position(|call| now >= call.due) {
            let call = self.running.swap_remove(at);
            self.say(&messages::cancelled(call.id, "it took too long"));
            let why = format!("The tool {} took too long.", call.tool);
            self.done(call.ticket, why, false);
        }
    }

    /// Calls a tool by the server's own name of it. [`Event::Done`] tells how it ended, with `ticket`.
    ///
    /// # Errors
    /// A sentence for the model, when the server cannot be asked now. No event follows then.
    #[inline(never)]
    pub fn call(
        &mut self,
        ticket: u64,
        tool: &str,
        arguments: Value,
        now: Instant,
    ) -> Result<(), &'static str> {
        if !self.is_ready() {
            return Err("The tool's server is not ready. It is being started.");
        }
        if self.running.len() >= MAX_RUNNING {
            return Err("The tool's server has too much to do.");
        }
        let id = self.next_id;
        let params = json!({
            "name": tool,
            "arguments": arguments,
            "_meta": { "progressToken": id },
        });
        if !self.ask("tools/call", params) {
            return Err("The tool's server does not take what it is sent.");
        }
        let tool = tool.to_owned();
        let last = now + self.timeout.max(LONGEST_CALL);
        self.running.push(Running { id, ticket, tool, due: now + self.timeout, last });
        Ok(())
    }

    /// Nobody waits for this call any more. No event follows.
    pub fn cancel(&mut self, ticket: u64, why: &str) {
        if let Some(at) = self.running.iter().position(|call| call.ticket == ticket) {
            let call = self.running.swap_remove(at);
            self.say(&messages::cancelled(call.id, why));
        }
    }

    /// Takes what the server wrote.
    #[inline(never)]
    pub fn read(&mut self, mut bytes: &[u8], now: Instant) {
        while let Some(line) = self.lines.next(&mut bytes) {
            match line {
                Line::Whole(line) => self.take_line(&line, now),
                Line::TooLong { head, tail } => self.line_too_long(&head, &tail, now),
            }
        }
    }

    fn take_line(&mut self, line: &[u8], now: Instant) {
        if line.trim_ascii().is_empty() {
            return;
        }
        match voicelived_lenient::read_bytes(line) {
            Ok(Value::Array(batch)) => {
                for message in batch.into_iter().take(MAX_BATCH) {
                    self.take(message, now);
                }
            }
            Ok(message @ Value::Object(_)) => self.take(message, now),
            // Many programs print greetings and logs there. That must not end the connection.
            _ => self.odd(&format!("what it writes is no message: {}", messages::text(line))),
        }
    }

    fn line_too_long(&mut self, head: &[u8], tail: &[u8], now: Instant) {
        self.odd("it writes a line that is too long");
        if let Some(id) = id_at_an_end(head, tail) {
            let error = json!({ "message": "its answer is too long" });
            self.on_answer(id, Err(&error), now);
        }
    }

    fn take(&mut self, mut message: Value, now: Instant) {
        let method = message["method"].as_str().map(str::to_owned);
        match (method, &message["id"]) {
            (Some(method), Value::Null) => self.on_notification(&method, &message["params"], now),
            (Some(method), id) => self.on_request(&id.clone(), &method),
            (None, id) => match id_of(id) {
                Some(id) if message["error"].is_object() => {
                    self.on_answer(id, Err(&message["error"]), now);
                }
                Some(id) if message.get("result").is_some() => {
                    let result = message["result"].take();
                    self.on_answer(id, Ok(result), now);
                }
                _ => self.odd("it sends a message that is neither request nor answer"),
            },
        }
    }

    // ---- what the server says ----

    fn on_request(&mut self, id: &Value, method: &str) {
        // A modern server sends no requests, and an answer to one would be no message to it.
        let known = id.is_string() || id.is_number();
        if self.era != Some(Era::Modern) && known {
            self.say(&messages::answer(id, method));
        }
        if method != "ping" {
            self.odd(&format!("it asks for {}, which is not offered", shown(method, 60)));
        }
    }

    fn on_notification(&mut self, method: &str, params: &Value, now: Instant) {
        match method {
            "notifications/tools/list_changed" => self.want_list(now + BETWEEN_LISTS),
            "notifications/progress" => {
                let id = id_of(&params["progressToken"]);
                let timeout = self.timeout;
                let call = self.running.iter_mut().find(|call| Some(call.id) == id);
                if let Some(call) = call {
                    call.due = (now + timeout).min(call.last).max(call.due);
                    let (ticket, until) = (call.ticket, call.due);
                    self.events.push_back(Event::Later { ticket, until });
                }
            }
            "notifications/message" => {
                self.odd(&format!("it says: {}", shown(&params["data"].to_string(), 300)));
            }
            _ => {}
        }
    }

    fn on_answer(&mut self, id: u64, answer: Result<Value, &Value>, now: Instant) {
        match self.state {
            State::Discovering { id: asked, .. } if id == asked => {
                return self.on_discovered(answer, now);
            }
            State::Initializing { id: asked, .. } if id == asked => {
                return self.on_initialized(answer, now);
            }
            _ => {}
        }
        if self.listing.as_ref().is_some_and(|(asked, ..)| *asked == id) {
            return self.on_page(answer, now);
        }
        if self.subscription == Some(id) {
            // It ended, or the server does not know it.
            self.subscription = None;
            self.tells_changes &= !answer.is_err_and(|it| it["code"] == messages::METHOD_NOT_FOUND);
            if self.tells_changes {
                self.want_list(now + LIST_AGAIN);
            }
            return;
        }
        let Some(at) = self.running.iter().position(|call| call.id == id) else {
            // Too late, or an id that was never given out. The call that it may have been meant for ends
            // by its deadline.
            return self.odd("it answers what was not asked, or too late");
        };
        let call = self.running.swap_remove(at);
        let changed = answer.as_ref().is_err_and(|it| it["code"] == messages::UNSUPPORTED_VERSION);
        let (output, ok) = match answer {
            Ok(result) => content::outcome(&result),
            Err(error) => (format!("The tool failed: {}.", reason(error)), false),
        };
        self.done(call.ticket, output, ok);
        if changed {
            self.era_changed(now);
        }
    }

    fn on_discovered(&mut self, answer: Result<Value, &Value>, now: Instant) {
        match answer {
            Ok(result) if speaks(&result["supportedVersions"], MODERN) => {
                self.tells_changes = result["capabilities"]["tools"]["listChanged"] == true;
                self.be_ready(Era::Modern, MODERN, now);
            }
            Err(error) if error["code"] == messages::UNSUPPORTED_VERSION => {
                let theirs = &error["data"]["supported"];
                if LEGACY.iter().any(|version| speaks(theirs, version)) {
                    return self.initialize(now);
                }
                let theirs = shown(&theirs.to_string(), 100);
                self.broken(format!(
                    "it speaks no version of the protocol that is known here: {theirs}"
                ));
            }
            _ => self.initialize(now),
        }
    }

    fn on_initialized(&mut self, answer: Result<Value, &Value>, now: Instant) {
        match answer {
            Ok(result) if result.is_object() => {
                let version = result["protocolVersion"].as_str().unwrap_or_default();
                if !LEGACY.contains(&version) {
                    let version = shown(version, 40);
                    self.note(Weight::Warn, format!("it speaks the unknown version {version:?}"));
                }
                self.era = Some(Era::Legacy);
                self.say(&messages::initialized());
                self.be_ready(Era::Legacy, version, now);
            }
            Ok(_) => self.broken("its answer to initialize is no object".to_owned()),
            Err(error) if error["code"] == messages::UNSUPPORTED_VERSION => {
                if speaks(&error["data"]["supported"], MODERN) {
                    self.be_ready(Era::Modern, MODERN, now);
                } else {
                    self.era = None;
                    self.broken(format!("it refuses the version: {}", reason(error)));
                }
            }
            Err(error) => self.broken(format!("it refuses to begin: {}", reason(error))),
        }
    }

    fn on_page(&mut self, answer: Result<Value, &Value>, now: Instant) {
        let Some((_, _, mut listing)) = self.listing.take() else { return };
        let result = match answer {
            Ok(result) => result,
            Err(error) if error["code"] == messages::METHOD_NOT_FOUND => json!({}),
            Err(error) if error["code"] == messages::UNSUPPORTED_VERSION => {
                return self.era_changed(now);
            }
            Err(error) => return self.list_failed(&reason(error), now),
        };
        let marked = self.transport == Transport::Http && self.era == Some(Era::Modern);
        if let Page::More(cursor) = listing.take(&result, marked) {
            return self.ask_page(json!({ "cursor": cursor }), listing, now);
        }
        for note in std::mem::take(&mut listing.notes).into_iter().take(10) {
            self.note(Weight::Warn, note);
        }
        let fresh = result["ttlMs"].as_u64().filter(|ms| *ms > 0 && self.subscription.is_none());
        if let Some(ms) = fresh {
            self.want_list(now + Duration::from_millis(ms).clamp(LIST_AGAIN, LIST_AGAIN * 1440));
        }
        self.events.push_back(Event::Tools(listing.tools()));
    }

    // ---- what is said to it ----

    fn discover(&mut self, now: Instant) {
        let id = self.next_id;
        self.era = self.era.filter(|era| *era == Era::Modern);
        self.state = State::Discovering { id, until: now + DISCOVER };
        let message = messages::request(Era::Modern, id, "server/discover", json!({}));
        self.next_id += 1;
        self.say(&message);
    }

    fn initialize(&mut self, now: Instant) {
        let id = self.next_id;
        self.next_id += 1;
        self.state = State::Initializing { id, until: now + INITIALIZE };
        self.say(&messages::initialize(id));
    }

    fn be_ready(&mut self, era: Era, version: &str, now: Instant) {
        self.era = Some(era);
        self.state = State::Ready;
        self.note(Weight::Info, format!("it is ready and speaks {}", shown(version, 40)));
        self.list(now);
    }

    /// The server refuses the version in the midst: it was replaced by another one behind its address.
    fn era_changed(&mut self, now: Instant) {
        self.era = None;
        self.listing = None;
        self.note(Weight::Info, "it speaks another version now".to_owned());
        self.discover(now);
    }

    fn want_list(&mut self, at: Instant) {
        self.list_at = Some(self.list_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn list(&mut self, now: Instant) {
        self.list_at = None;
        self.ask_page(json!({}), Listing::default(), now);
        if self.tells_changes && self.subscription.is_none() {
            let id = self.next_id;
            let params = json!({ "notifications": { "toolsListChanged": true } });
            self.subscription = self.ask("subscriptions/listen", params).then_some(id);
        }
    }

    fn ask_page(&mut self, params: Value, listing: Listing, now: Instant) {
        let id = self.next_id;
        if self.ask("tools/list", params) {
            self.listing = Some((id, now + PAGE, listing));
        } else {
            self.list_failed("it does not take what it is sent", now);
        }
    }

    fn list_failed(&mut self, why: &str, now: Instant) {
        self.listing = None;
        self.note(Weight::Warn, format!("its tools cannot be listed: {why}"));
        self.want_list(now + LIST_AGAIN);
    }

    /// A request with the next id; false if too much waits already.
    fn ask(&mut self, method: &str, params: Value) -> bool {
        let era = self.era.unwrap_or(Era::Legacy);
        let message = messages::request(era, self.next_id, method, params);
        self.next_id += 1;
        self.say(&message)
    }

    fn say(&mut self, message: &Value) -> bool {
        let fits = self.outbox.len() < MAX_OUTBOX;
        if fits {
            self.outbox.extend_from_slice(message.to_string().as_bytes());
            self.outbox.push(b'\n');
        }
        fits
    }

    // ---- what the loop is told ----

    fn done(&mut self, ticket: u64, output: String, ok: bool) {
        self.events.push_back(Event::Done { ticket, output, ok });
    }

    fn note(&mut self, weight: Weight, words: String) {
        self.events.push_back(Event::Note(weight, words));
    }

    /// Something that costs a log line and nothing else; the first few of a connection are told.
    fn odd(&mut self, words: &str) {
        self.oddities += 1;
        if self.oddities <= TOLD_ODDITIES {
            let last =
                if self.oddities == TOLD_ODDITIES { " (no more of this is told)" } else { "" };
            self.note(Weight::Debug, format!("{words}{last}"));
        }
    }

    fn broken(&mut self, why: String) {
        self.close(&why);
        self.events.push_back(Event::Broken(why));
    }
}

#[cfg(test)]
mod tests;
