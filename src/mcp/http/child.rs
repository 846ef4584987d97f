//! What the child does: one thread reads the loop's lines, and each message has a thread of its own
//! for as long as its answer takes.

use std::collections::HashMap;
use std::io::{BufRead, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::Job;
use super::events::Events;
use super::fields::{self, SESSION, Session, fault, modern_version};
use crate::client::LONGEST_CALL;
use crate::lines::MAX_LINE;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take; the loop's own limits are shorter.
const ANSWER: Duration = Duration::from_secs(LONGEST_CALL.as_secs() + 10);
/// How long a message that has no answer may take, and the last one of all.
const SHORT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(1));
/// The most messages that are under way at once.
const MAX_THREADS: usize = 32;
/// How often a stream that broke off is taken up again before the answer counts as lost.
const RESUMES: usize = 3;
/// How long to wait before that, where the server does not say.
const WAIT: Duration = Duration::from_secs(1);
/// The most bytes of an answer that is no success.
const MAX_REFUSAL: u64 = 64 * 1024;
/// How long the threads that stand by may wait between two tries.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);

/// The whole child: carries lines between the loop and the server until `input` ends.
#[inline(never)]
pub fn run(input: &mut dyn BufRead, output: Box<dyn Write + Send>) {
    let mut line = Vec::new();
    if input.read_until(b'\n', &mut line).is_err() {
        return;
    }
    let Some(job) = Job::read(&line) else { return };
    let bridge = Arc::new(Bridge::new(job, output));
    loop {
        line.clear();
        if !matches!(input.read_until(b'\n', &mut line), Ok(1..)) {
            return bridge.end();
        }
        if let Ok(message) = serde_json::from_slice::<Value>(&line) {
            bridge.take(message);
        }
    }
}

/// What all threads share. Locks are held for moments only, never over the network.
struct Bridge {
    job: Job,
    output: Mutex<Box<dyn Write + Send>>,
    state: Mutex<State>,
    /// Held while a new session is made, so that one thread makes it for all.
    renewal: Mutex<()>,
}

#[derive(Default)]
struct State {
    session: Session,
    /// Counts sessions: a thread that was refused may see that another has made a new one already.
    generation: usize,
    /// The request that began the session, to begin another one with.
    initialize: Option<Value>,
    /// What is under way, by its id: shutting its agent down ends it at once.
    running: HashMap<String, Agent>,
    /// Agents whose connections may be used again.
    idle: Vec<Agent>,
    threads: usize,
    /// Whether only the owner's authorities are trusted, after Mozilla's did not know the server's.
    own_authorities: bool,
}

/// Why there is no answer: an error as a server would send it.
type Fault = Value;

impl Bridge {
    fn new(job: Job, output: Box<dyn Write + Send>) -> Self {
        let (output, renewal) = (Mutex::new(output), Mutex::new(()));
        Self { job, output, state: Mutex::default(), renewal }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message of the loop.
    fn take(self: &Arc<Self>, message: Value) {
        let id = message["id"].clone();
        match (message["method"].as_str(), id.is_null()) {
            (Some("notifications/cancelled"), _) => {
                self.cancel(&message["params"]["requestId"]);
                // The modern era has no such message over HTTP: the end of the stream says it.
                if self.state().session.version.is_some() {
                    self.spawn(&id, move |bridge| bridge.tell(&message, SHORT.0));
                }
            }
            (Some("notifications/initialized"), _) => {
                // Nothing may overtake it.
                self.tell(&message, SHORT.0);
                self.listen();
            }
            (Some(_), false) => self.spawn(&id, move |bridge| bridge.request(&message)),
            _ => self.spawn(&id, move |bridge| bridge.tell(&message, SHORT.0)),
        }
    }

    fn spawn(self: &Arc<Self>, id: &Value, work: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let full = {
            let mut state = self.state();
            state.threads += 1;
            state.threads > MAX_THREADS
        };
        let bridge = Arc::clone(self);
        let job = move || {
            work(&bridge);
            bridge.state().threads -= 1;
        };
        if full || std::thread::Builder::new().spawn(job).is_err() {
            self.state().threads -= 1;
            self.fail(id, &fault("too much is under way"));
        }
    }

    /// Ends a request: its connection is cut, which tells a modern server.
    fn cancel(&self, id: &Value) {
        let agent = self.state().running.remove(&id.to_string());
        if let Some(agent) = agent {
            agent.shutdown();
        }
    }

    /// Asks, and passes the answer on.
    fn request(self: &Arc<Self>, message: &Value) {
        let (id, mut agent) = (&message["id"], self.agent());
        self.state().running.insert(id.to_string(), agent.clone());
        let answer = self.exchange(&mut agent, message, true);
        let wanted = self.state().running.remove(&id.to_string()).is_some();
        match answer {
            // Cancelled: the loop does not know this id any more.
            _ if !wanted => {}
            Ok(answer) => {
                self.emit(&answer);
                self.state().idle.push(agent);
            }
            Err(error) => self.fail(id, &error),
        }
    }

    /// Sends what has no answer. If that fails, there is nobody to be told.
    fn tell(&self, message: &Value, patience: Duration) {
        let mut agent = self.agent();
        let session = self.state().session.clone();
        if let Ok(mut answer) = self.post(&mut agent, message, &session, Some(patience)) {
            let _ = answer.body_mut().with_config().limit(MAX_REFUSAL).read_to_vec();
            self.state().idle.push(agent);
        }
    }

    /// One request and its answer, with a new session in between if the old one is forgotten.
    fn exchange(
        self: &Arc<Self>,
        agent: &mut Agent,
        message: &Value,
        may_begin: bool,
    ) -> Result<Value, Fault> {
        let begins = message["method"] == "initialize";
        let modern = modern_version(message).is_some();
        let (session, generation) = {
            let state = self.state();
            (state.session.clone(), state.generation)
        };
        let stands = message["method"] == "subscriptions/listen";
        let patience = Some(ANSWER).filter(|_| !stands);
        let mut answer = self.post(agent, message, &session, patience)?;
        let status = answer.status().as_u16();
        // A forgotten session is 404; many servers say 400.
        let forgotten = matches!(status, 400 | 404) && session.id.is_some() && !begins && !modern;
        if forgotten && may_begin {
            self.begin_anew(agent, generation)?;
            return self.exchange(agent, message, false);
        }
        if !(200..300).contains(&status) {
            let body = answer.body_mut().with_config().limit(MAX_REFUSAL).read_to_vec();
            return Err(fields::refusal(status, &body.unwrap_or_default()));
        }
        let given = text_of(&answer, SESSION);
        let answer = self.answer(agent, answer, message, modern)?;
        if begins && answer["result"].is_object() {
            let version = answer["result"]["protocolVersion"].as_str().map(str::to_owned);
            let mut state = self.state();
            state.session = Session { id: given, version };
            state.generation += 1;
            state.initialize = Some(message.clone());
        }
        Ok(answer)
    }

    /// Makes a new session, unless another thread has made one since `generation`.
    fn begin_anew(self: &Arc<Self>, agent: &mut Agent, generation: usize) -> Result<(), Fault> {
        let _alone = self.renewal.lock().unwrap_or_else(PoisonError::into_inner);
        let initialize = {
            let state = self.state();
            if state.generation != generation {
                return Ok(());
            }
            state.initialize.clone().ok_or_else(|| fault("the server has forgotten the session"))?
        };
        say("the server has forgotten the session; another one is begun");
        let answer = self.exchange(agent, &initialize, false)?;
        if !answer["result"].is_object() {
            return Err(fault("the server does not begin another session"));
        }
        self.tell(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }), SHORT.0);
        self.listen();
        // Whatever made it forget may have changed its tools.
        self.emit(&json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" }));
        Ok(())
    }

    /// The message with the request's id: the whole body, or one of a stream whose others are passed
    /// on.
    fn answer(
        &self,
        agent: &Agent,
        mut answer: Response<Body>,
        message: &Value,
        modern: bool,
    ) -> Result<Value, Fault> {
        match kind_of(&answer).as_str() {
            "text/event-stream" => self.streamed(agent, answer, message, modern),
            "application/json" => {
                let body = answer.body_mut().with_config().limit(MAX_LINE as u64).read_to_vec();
                let body = body.map_err(|error| fault(&words(&error)))?;
                voicelived_lenient::read_bytes(&body)
                    .map_err(|_| fault("the server's answer is no JSON"))
            }
            "" => Err(fault("the server gave no answer")),
            kind => {
                let kind = crate::shown(kind, 60);
                Err(fault(&format!("the server answered with {kind}, which is no message")))
            }
        }
    }

    fn streamed(
        &self,
        agent: &Agent,
        mut answer: Response<Body>,
        message: &Value,
        modern: bool,
    ) -> Result<Value, Fault> {
        let mut events = Events::default();
        let mut tries = 0;
        loop {
            let ours = |told: &Value| told["id"] == message["id"] && told.get("method").is_none();
            let broken = match self.read_events(answer, &mut events, ours) {
                Ok(Some(told)) => return Ok(told),
                Ok(None) => "the server's stream ended without an answer".to_owned(),
                Err(why) => why,
            };
            // Only the legacy era takes streams up again, and only servers that number their events.
            answer = loop {
                let Some(last) = events.last_id().filter(|_| !modern && tries < RESUMES) else {
                    return Err(fault(&broken));
                };
                tries += 1;
                std::thread::sleep(events.wait().unwrap_or(WAIT));
                match self.get(agent, Some(last), Some(ANSWER)) {
                    Ok(stream) if is_stream(&stream) => break stream,
                    _ => {}
                }
            };
            events.begin();
        }
    }

    /// Reads a stream to its end, or to the message that is waited for. Others are passed on.
    fn read_events(
        &self,
        answer: Response<Body>,
        events: &mut Events,
        is_wanted: impl Fn(&Value) -> bool,
    ) -> Result<Option<Value>, String> {
        let mut body = answer.into_body().into_reader();
        let mut chunk = [0; 8192];
        loop {
            let count = body.read(&mut chunk).map_err(|_| "the server's stream broke off")?;
            if count == 0 {
                return Ok(None);
            }
            let mut bytes = &chunk[..count];
            while let Some(data) = events.next(&mut bytes) {
                let Ok(told) = voicelived_lenient::read_bytes(&data) else { continue };
                if is_wanted(&told) {
                    return Ok(Some(told));
                }
                self.emit(&told);
            }
        }
    }

    /// Stands by for what a server of the legacy era says of itself, for as long as this session lives.
    fn listen(self: &Arc<Self>) {
        self.spawn(&Value::Null, |bridge| {
            let agent = bridge.agent();
            let generation = bridge.state().generation;
            let mut events = Events::default();
            let mut back_off = WAIT;
            loop {
                let last = events.last_id().map(str::to_owned);
                match bridge.get(&agent, last.as_deref(), None) {
                    Ok(stream) if is_stream(&stream) => {
                        events.begin();
                        let _ = bridge.read_events(stream, &mut events, |_| false);
                        back_off = WAIT;
                    }
                    // It has nothing to say by itself (405), or does not know the session any more.
                    Ok(_) => return,
                    Err(_) => back_off = (back_off * 2).min(LONGEST_BACK_OFF),
                }
                std::thread::sleep(events.wait().unwrap_or_default().max(back_off));
                if bridge.state().generation != generation {
                    return;
                }
            }
        });
    }

    /// The loop has ended: the session is given back.
    fn end(&self) {
        let session = std::mem::take(&mut self.state().session);
        let Some(id) = session.id else { return };
        let mut request = self.agent().delete(&self.job.url).header(SESSION, id);
        for (name, value) in &self.job.headers {
            request = request.header(name, value);
        }
        let _ = request.config().timeout_global(Some(SHORT.1)).build().call();
    }

    // ---- HTTP ----

    fn agent(&self) -> Agent {
        let mut state = self.state();
        if let Some(agent) = state.idle.pop() {
            return agent;
        }
        let own = self.job.authorities.iter().map(|it| Certificate::from_der(it).to_owned());
        let roots = match state.own_authorities {
            true => RootCerts::from(own.collect::<Vec<_>>()),
            false => RootCerts::WebPki,
        };
        let config = Agent::config_builder()
            .proxy(self.job.proxy.as_deref().and_then(|proxy| ureq::Proxy::new(proxy).ok()))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .user_agent(concat!("voicelived/", env!("CARGO_PKG_VERSION")));
        config.build().into()
    }

    fn post(
        &self,
        agent: &mut Agent,
        message: &Value,
        session: &Session,
        patience: Option<Duration>,
    ) -> Result<Response<Body>, Fault> {
        let text = message.to_string();
        let send = |agent: &Agent| {
            let mut request = agent
                .post(&self.job.url)
                .header("content-type", "application/json")
                .header("accept", "application/json, text/event-stream");
            for (name, value) in &self.job.headers {
                request = request.header(name, value);
            }
            for (name, value) in fields::of(message, session) {
                request = request.header(name, value);
            }
            request.config().timeout_global(patience).build().send(&text)
        };
        let answer = send(agent);
        // The library takes either Mozilla's authorities or others, not both.
        let untrusted = answer.as_ref().is_err_and(is_untrusted);
        if untrusted && !self.job.authorities.is_empty() && !self.state().own_authorities {
            self.state().own_authorities = true;
            self.state().idle.clear();
            // The old one would come back with Mozilla's.
            *agent = self.agent();
            return send(agent).map_err(|error| fault(&words(&error)));
        }
        answer.map_err(|error| fault(&words(&error)))
    }

    /// Asks for a stream of the legacy era.
    fn get(
        &self,
        agent: &Agent,
        last: Option<&str>,
        patience: Option<Duration>,
    ) -> Result<Response<Body>, ureq::Error> {
        let session = self.state().session.clone();
        let mut request = agent.get(&self.job.url).header("accept", "text/event-stream");
        for (name, value) in &self.job.headers {
            request = request.header(name, value);
        }
        for (name, value) in fields::of(&Value::Null, &session) {
            request = request.header(name, value);
        }
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        request.config().timeout_global(patience).build().call()
    }

    // ---- to the loop ----

    fn fail(&self, id: &Value, error: &Value) {
        if !id.is_null() {
            self.emit(&json!({ "jsonrpc": "2.0", "id": id, "error": error }));
        }
    }

    /// Writes one message. If nobody reads any more, the input ends, too.
    fn emit(&self, message: &Value) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = output.write_all(format!("{message}\n").as_bytes());
        let _ = output.flush();
    }
}

/// A line for the loop's log at debug.
fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

fn is_stream(answer: &Response<Body>) -> bool {
    answer.status().as_u16() == 200 && kind_of(answer) == "text/event-stream"
}

/// The type of the answer's content, without parameters.
fn kind_of(answer: &Response<Body>) -> String {
    let kind = text_of(answer, "content-type").unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn text_of(answer: &Response<Body>, name: &str) -> Option<String> {
    Some(answer.headers().get(name)?.to_str().ok()?.to_owned())
}

fn is_untrusted(error: &ureq::Error) -> bool {
    let text = error.to_string();
    matches!(error, ureq::Error::Rustls(_) | ureq::Error::Tls(_)) || text.contains("certificate")
}

/// Why the server is not reached.
fn words(error: &ureq::Error) -> String {
    let why = match error {
        // The status line may repeat the login.
        ureq::Error::ConnectProxyFailed(_) => {
            "the proxy on the way refuses (HTTPS_PROXY)".to_owned()
        }
        ureq::Error::HostNotFound => "its name was not found".to_owned(),
        ureq::Error::Timeout(_) => "it does not answer in time".to_owned(),
        ureq::Error::BodyExceedsLimit(_) => "its answer is too long".to_owned(),
        other if is_untrusted(other) => {
            "its certificate is not trusted; VOICELIVED_UPSTREAM_CA_FILE may name its authority"
                .to_owned()
        }
        other => crate::shown(&other.to_string(), 200),
    };
    format!("the server is not reached: {why}")
}
