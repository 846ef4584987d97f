//! One MCP server: its process, from start to end and start again, and the protocol's client.
//!
//! ```text
//! Resting ──its time──► Running ──broken, or the daemon ends──► Ending ──gone──► Resting
//!    ▲                     └──gone──► (at once)                               ──► Stopped
//!    └── 1 s, and twice as long after each failure, up to a minute
//! ```
//!
//! `Ending` keeps the protocol's order: close its input, after 2 s SIGTERM, after 2 s more SIGKILL. A server that
//! the file names no more ends in the same way, and so does one that is at another place now before it begins
//! there.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use mio::Registry;

use super::super::runs::RunId;
use crate::call::sooner;
use crate::mcp::client::{Client, Event, Transport, Weight};
use crate::mcp::file::{Server, ServerEndpoint};
use crate::mcp::http::Job;
use crate::mcp::lines::{Line, Lines};
use crate::mcp::listing::Tool;
use crate::mcp::shown;
use crate::system::piped_child::{PipedChild, Start, Talk};

/// The first wait after a failure, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A server that has lived so long has not failed at its start, and the waits begin anew.
const HEALTHY: Duration = Duration::from_secs(60);
/// How long a server may take for each step of its end.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest line of standard error that is logged, in bytes.
const MAX_ERROR: usize = 1000;
/// The most lines of standard error that are logged in so much time. A server that floods it must not
/// fill the log, nor hold the loop with writing it.
const MOST_ERRORS: (u32, Duration) = (100, Duration::from_secs(10));

/// Variables that a server gets besides those that every child gets: what the protocol's own SDKs pass
/// on. The daemon's other variables, with the service's key among them, do not reach it.
const SERVER_VARIABLES: [&str; 4] = ["LOGNAME", "SHELL", "TERM", "USER"];

enum State {
    /// There is no process until this time.
    Resting(Instant),
    /// There is one.
    Running { child: PipedChild, since: Instant },
    /// It has been asked to end, and is killed or told to at this time.
    Ending { child: PipedChild, until: Instant, told: bool, why: String },
    /// The daemon ends, or the file does not name it any more.
    Stopped,
}

/// What has happened, for the loop.
pub(super) enum News {
    /// Its list of tools is another one.
    Tools,
    /// A run has ended.
    Ended(RunId, Result<String, String>),
    /// A run makes progress.
    Later(RunId, Instant),
}

/// See the module's text.
pub(super) struct Link {
    pub(super) spec: Server,
    /// As it listed them last. They stay while it is started anew.
    pub(super) tools: Vec<Tool>,
    client: Client,
    state: State,
    /// Its pipes have this token of the poll and the two after it.
    pub(super) token: usize,
    /// Failures one after the other.
    pub(super) failures: u32,
    /// It has told its tools since it was started, or why it has not. Empty while neither is known.
    pub(super) standing: Result<(), String>,
    /// The next process is at another place: nothing that was learnt of the last one holds for it.
    moved: bool,
    errors: Lines,
    /// When counting of logged lines began, and how many there were since.
    logged: (Instant, u32),
    /// A pipe is ready, some child has exited, or something is to be written.
    marked: bool,
    stopping: bool,
}

impl Link {
    /// A server that is started in the next turn.
    pub(super) fn new(spec: Server, token: usize, now: Instant) -> Self {
        let client = new_client(&spec);
        let (tools, errors) = (Vec::new(), Lines::new(MAX_ERROR));
        let state = State::Resting(now);
        Self {
            spec,
            tools,
            client,
            state,
            token,
            failures: 0,
            standing: Err(String::new()),
            moved: false,
            errors,
            logged: (now, 0),
            marked: false,
            stopping: false,
        }
    }

    pub(super) fn mark(&mut self) {
        self.marked = true;
    }

    pub(super) fn is_marked(&self) -> bool {
        self.marked
    }

    /// When [`pump`](Self::pump) must be called at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Resting(until) | State::Ending { until, .. } => Some(*until),
            State::Running { .. } | State::Stopped => None,
        };
        sooner(own, self.client.deadline())
    }

    /// Whether it is asked to be gone for good.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Whether it is gone for good.
    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped)
    }

    /// The server is asked to end, and not started again.
    pub(super) fn stop(&mut self, why: &str, now: Instant) {
        self.stopping = true;
        self.end(why, now);
        self.marked = true;
    }

    /// The file does not name it any more. True if it had tools.
    pub(super) fn retire(&mut self, now: Instant) -> bool {
        self.log(Weight::Info, "the file does not name it any more, so it ends");
        self.stop("the owner has taken it out", now);
        !std::mem::take(&mut self.tools).is_empty()
    }

    /// Takes what the file says of it now. True if its tools may be offered in another way.
    pub(super) fn adopt(&mut self, spec: Server, now: Instant) -> bool {
        if self.spec == spec && !self.stopping {
            return false;
        }
        let moved = self.stopping || self.spec.place != spec.place;
        self.spec = spec;
        self.client.set_timeout(self.spec.timeout);
        if moved {
            (self.stopping, self.moved) = (false, true);
            self.tools.clear();
            self.end("the file has another place for it", now);
            if !matches!(self.state, State::Ending { .. }) {
                self.state = State::Resting(now);
            }
            self.marked = true;
        }
        true
    }

    /// Whether its tools can be called.
    pub(super) fn is_ready(&self) -> bool {
        self.client.is_ready()
    }

    /// Whether waiting longer will hardly show more of it.
    pub(super) fn is_settled(&self) -> bool {
        self.standing.is_ok() || self.failures >= 2
    }

    /// Calls a tool.
    pub(super) fn call(
        &mut self,
        run: RunId,
        tool: &str,
        input: &str,
        now: Instant,
    ) -> Result<(), String> {
        let arguments = serde_json::from_str(input).unwrap_or_default();
        self.client.call(run.0, tool, arguments, now)?;
        self.marked = true;
        Ok(())
    }

    /// Nobody waits for this run any more.
    pub(super) fn cancel(&mut self, run: RunId, why: &str) {
        self.client.cancel(run.0, why);
        self.marked = true;
    }

    /// Does all that is due, within the bounds of one turn.
    pub(super) fn pump(
        &mut self,
        program: &Path,
        authorities: &[Vec<u8>],
        registry: &Registry,
        now: Instant,
        news: &mut Vec<News>,
    ) {
        self.marked = false;
        match &mut self.state {
            State::Resting(until) if now >= *until => {
                self.start(program, authorities, registry, now)
            }
            State::Resting(_) | State::Stopped => {}
            State::Running { .. } => self.talk(now),
            State::Ending { .. } => self.go_on_ending(now),
        }
        self.client.tick(now);
        while let Some(event) = self.client.poll() {
            match event {
                Event::Tools(tools) => {
                    self.failures = 0;
                    self.standing = Ok(());
                    if tools != self.tools {
                        self.tools = tools;
                        news.push(News::Tools);
                    }
                }
                Event::Done { ticket, output, ok } => {
                    let result = if ok { Ok(output) } else { Err(output) };
                    news.push(News::Ended(RunId(ticket), result));
                }
                Event::Later { ticket, until } => news.push(News::Later(RunId(ticket), until)),
                Event::Note(weight, words) => self.log(weight, &words),
                Event::Broken(why) => self.end(&why, now),
            }
        }
        self.write();
    }

    fn start(
        &mut self,
        program: &Path,
        authorities: &[Vec<u8>],
        registry: &Registry,
        now: Instant,
    ) {
        if std::mem::take(&mut self.moved) {
            self.failures = 0;
            self.client = new_client(&self.spec);
        }
        let (command, mut environment, folder, job): (Vec<OsString>, Vec<_>, _, _) =
            match &self.spec.place {
                ServerEndpoint::Program { command, environment, folder } => {
                    let command = command.iter().map(OsString::from).collect();
                    let pair = |(name, value): &(String, String)| (name.into(), value.into());
                    (command, environment.iter().map(pair).collect(), folder.as_ref(), None)
                }
                ServerEndpoint::Http { url, headers, proxy } => {
                    let (url, headers, proxy) = (url.clone(), headers.clone(), proxy.clone());
                    let job = Job { url, headers, proxy, authorities: authorities.to_vec() };
                    (vec![program.into(), "__mcp_http".into()], Vec::new(), None, Some(job))
                }
            };
        let passed =
            SERVER_VARIABLES.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
        let own: Vec<(OsString, OsString)> = passed.chain(environment.drain(..)).collect();
        let start = Start { command: &command, environment: &own, folder: folder.map(Path::new) };
        match PipedChild::spawn(&start, self.token, registry) {
            Ok(mut child) => {
                // A pipe that is new and empty takes a job whole.
                if let Some(job) = job {
                    child.write(job.line().as_bytes());
                }
                self.log(Weight::Debug, &format!("it is started as process {}", child.id()));
                self.errors = Lines::new(MAX_ERROR);
                self.state = State::Running { child, since: now };
                self.client.open(now);
            }
            Err(error) => {
                let why = format!("it cannot be started: {error}");
                self.log(Weight::Warn, &why);
                self.standing = Err(why);
                self.failures += 1;
                self.rest(now);
            }
        }
    }

    fn write(&mut self) {
        let (State::Running { child, .. } | State::Ending { child, .. }) = &mut self.state else {
            return;
        };
        let waiting = self.client.to_write();
        if !waiting.is_empty() {
            let count = child.write(waiting);
            self.client.written(count);
        }
    }

    /// Writes before and after reading: a server that does not read while it writes would otherwise
    /// stand still.
    fn talk(&mut self, now: Instant) {
        self.write();
        let State::Running { child, since } = &mut self.state else { return };
        let (client, since) = (&mut self.client, *since);
        let talk = child.read(&mut |bytes| client.read(bytes, now));
        let (name, lines, logged) = (&self.spec.name, &mut self.errors, &mut self.logged);
        if now >= logged.0 + MOST_ERRORS.1 {
            *logged = (now, 0);
        }
        let errors = child.read_errors(&mut |mut bytes| {
            while let Some(line) = lines.next(&mut bytes) {
                let (Line::Whole(line) | Line::TooLong { head: line, .. }) = line;
                logged.1 += 1;
                if logged.1 <= MOST_ERRORS.0 {
                    let text = String::from_utf8_lossy(&line);
                    log::debug!("mcp {name}, standard error: {}", shown(&text, 300));
                }
            }
        });
        match talk {
            Talk::Gone(why) => self.lost(&why, since, now),
            Talk::More => self.marked = true,
            Talk::Idle => self.marked |= errors == Talk::More,
        }
    }

    /// Its process has gone by itself, or has closed its output.
    fn lost(&mut self, why: &str, since: Instant, now: Instant) {
        if now.saturating_duration_since(since) >= HEALTHY {
            self.failures = 0;
        }
        self.end(why, now);
    }

    /// Ends the connection, in the protocol's order if there is a process.
    fn end(&mut self, why: &str, now: Instant) {
        self.client.close(why);
        let state = std::mem::replace(&mut self.state, State::Stopped);
        match state {
            State::Running { mut child, .. } => {
                self.failures += 1;
                child.close_input();
                let (until, why) = (now + PATIENCE, why.to_owned());
                self.state = State::Ending { child, until, told: false, why };
                self.go_on_ending(now);
            }
            ending @ State::Ending { .. } => self.state = ending,
            State::Resting(_) | State::Stopped if self.stopping => {}
            other => self.state = other,
        }
    }

    fn go_on_ending(&mut self, now: Instant) {
        let State::Ending { child, until, told, why } = &mut self.state else { return };
        // What it says now is for nobody. It must be read, or a full pipe would keep it from ending.
        let _ = child.read(&mut |_| {});
        let _ = child.read_errors(&mut |_| {});
        let status = child.exit_status();
        if status.is_some() || (*told && now >= *until) {
            let why = match status {
                Some(status) if !why.contains(&status.to_string()) => format!("{why} ({status})"),
                _ => std::mem::take(why),
            };
            if !self.stopping {
                let wait = self.wait().as_secs();
                let weight = if self.moved { Weight::Info } else { Weight::Warn };
                self.log(weight, &format!("it is started anew in {wait} s: {why}"));
                self.standing = Err(why);
            }
            // Its process is dropped, and killed if it is still there.
            return self.rest(now);
        }
        if now >= *until {
            child.terminate();
            (*until, *told) = (now + PATIENCE, true);
        }
    }

    fn rest(&mut self, now: Instant) {
        self.state = if self.stopping { State::Stopped } else { State::Resting(now + self.wait()) };
    }

    fn wait(&self) -> Duration {
        if self.moved {
            return Duration::ZERO;
        }
        let doubled = BACK_OFF.0 * 2_u32.pow(self.failures.saturating_sub(1).min(6));
        doubled.min(BACK_OFF.1)
    }

    fn log(&self, weight: Weight, words: &str) {
        let level = match weight {
            Weight::Debug => log::Level::Debug,
            Weight::Info => log::Level::Info,
            Weight::Warn => log::Level::Warn,
        };
        log::log!(level, "mcp {}: {words}", self.spec.name.escape_debug());
    }
}

fn new_client(spec: &Server) -> Client {
    let transport = match &spec.place {
        ServerEndpoint::Program { .. } => Transport::Stdio,
        ServerEndpoint::Http { .. } => Transport::Http,
    };
    Client::new(transport, spec.timeout)
}
