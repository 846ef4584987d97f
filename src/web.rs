//! One visitor: an accepted connection from its first byte to its answer, or to its upgrade.
//!
//! Owned by the loop's slot until the upgrade takes the transport away. Bounds: a head of
//! [`MAX_HEAD`] bytes within [`HEAD_TIMEOUT`], one answer at a time, no bodies.

use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use crate::access::{Gate, Guard, Verdict, token};
use crate::assets::{self, Asset};
use crate::metrics::{Family, Metrics};
use crate::net::http::{self, Head, MAX_HEAD, Request, Status, Upgrade};
use crate::net::transport::Transport;
use crate::simulator::{self, Admission};

/// How long a request head may take, from the connection or from the answer before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take to leave.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the peer may take to go after its last answer.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the simulator's `silent` fault keeps a connection: longer than anybody waits.
const SILENCE: Duration = Duration::from_secs(3600);

/// Sent with every answer: nothing of ours may be framed, sniffed or told to others.
const COMMON_FIELDS: &str = "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n";

/// Sent with the page's files. `'self'` covers the page's own WebSocket too.
const PAGE_FIELDS: &str = "Content-Security-Policy: default-src 'self'; base-uri 'none'; \
    frame-ancestors 'none'; form-action 'none'\r\nPermissions-Policy: microphone=(self)\r\n\
    Cache-Control: no-cache\r\nVary: Accept-Encoding\r\n";

/// Sent with the page's files over HTTPS, see [`CallSite::is_lasting`].
const STAY_SECURE: &str = "Strict-Transport-Security: max-age=31536000\r\n";

/// Sent with 401.
const ASK_FOR_TOKEN: &str = "WWW-Authenticate: Bearer\r\nCache-Control: no-store\r\n";

/// What a listener is for, and what its visitors are judged by.
#[derive(Debug, Clone)]
pub enum Site {
    /// The page and `/ws`.
    Calls(CallSite),
    /// The simulated service.
    Simulator(Rc<simulator::Options>),
}

/// A listener for people and their clients.
#[derive(Debug, Clone)]
pub struct CallSite {
    /// Host and Origin rules.
    pub gate: Gate,
    /// The service is the simulator, and says so.
    pub simulated: bool,
    /// The port that serves the same over HTTPS: whoever comes from the network without TLS is
    /// sent there, since browsers hide the microphone and others could listen.
    pub https: Option<u16>,
    /// The local authority's root as PEM, for devices to trust; `None` without one.
    pub ca_pem: Option<Rc<str>>,
}

impl CallSite {
    /// Whether browsers may be told to come by HTTPS only for a year. Not with the local authority:
    /// where its root is lost or not trusted yet, they would be shut out with no way to /trust.
    fn is_lasting(&self, host: &str) -> bool {
        self.ca_pem.is_none() && self.gate.is_secure() && self.gate.is_network_name(host)
    }
}

/// Who stands at the door, for one turn.
#[derive(Debug)]
pub struct Doorway<'a> {
    /// Who may call.
    pub guard: &'a mut Guard,
    /// What is counted.
    pub metrics: &'a mut Metrics,
    /// Where the visitor comes from.
    pub address: IpAddr,
    /// The daemon is stopping: it says so, and keeps no connection for another request.
    pub draining: bool,
    /// A call may begin.
    pub takes_calls: bool,
    /// No call can be made until the settings are completed.
    pub unready: bool,
    /// The time.
    pub now: Instant,
}

/// What has become of a visitor after a turn.
#[derive(Debug)]
pub enum Visit {
    /// It is still here.
    Stays,
    /// It asks for a WebSocket; the 101 is on its way. Take it with [`Visitor::into_transport`].
    Upgrade,
    /// It is gone.
    Gone,
}

/// A connection that speaks HTTP.
#[derive(Debug)]
pub struct Visitor {
    transport: Transport<TcpStream>,
    input: Vec<u8>,
    output: Vec<u8>,
    phase: Phase,
    /// It has been answered once.
    served: bool,
    deadline: Instant,
    /// What the simulated service let in.
    admission: Option<Admission>,
    /// The generation of the rules that the visitor was admitted by.
    generation: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waiting for a request head.
    Reading,
    /// The answer is leaving; the next request may follow.
    Answering,
    /// The last answer is leaving.
    LastAnswer,
    /// Our side has ended: the peer's leftovers are read so that a reset cannot eat the answer.
    Lingering,
    /// Answered with 101.
    Upgraded,
    /// Nothing is answered at all (the simulator's `silent` fault).
    Silent,
}

impl Visitor {
    /// A connection just accepted.
    #[must_use]
    pub fn new(transport: Transport<TcpStream>, now: Instant) -> Self {
        Self {
            transport,
            input: Vec::new(),
            output: Vec::new(),
            phase: Phase::Reading,
            served: false,
            deadline: now + HEAD_TIMEOUT,
            admission: None,
            generation: 0,
        }
    }

    /// What the simulated service let in; `None` for other sites.
    pub fn take_admission(&mut self) -> Option<Admission> {
        self.admission.take()
    }

    /// Under which generation of [`Guard`]'s rules the upgrade was granted.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The transport, for readiness and registration.
    pub fn transport_mut(&mut self) -> &mut Transport<TcpStream> {
        &mut self.transport
    }

    /// Whether its TLS handshake is still going on.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.transport.is_handshaking()
    }

    /// When [`pump`](Self::pump) must be called again at the latest.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The transport and the bytes that came behind the upgrade request.
    #[must_use]
    pub fn into_transport(self) -> (Transport<TcpStream>, Vec<u8>) {
        (self.transport, self.input)
    }

    /// Reads, answers, writes, as far as it goes without waiting.
    pub fn pump(&mut self, site: &Site, door: &mut Doorway<'_>) -> Visit {
        self.transport.begin_turn();
        match self.advance(site, door) {
            Ok(visit) => visit,
            Err(_) => {
                if self.transport.is_handshaking() {
                    door.metrics.count(Family::Dropped, "tls_failed");
                }
                Visit::Gone
            }
        }
    }

    fn advance(&mut self, site: &Site, door: &mut Doorway<'_>) -> io::Result<Visit> {
        let now = door.now;
        loop {
            match self.phase {
                Phase::Reading => {
                    let open = self.fill()?;
                    if !self.answer(site, door)
                        && let Some(visit) = self.wait_for_head(open, door)
                    {
                        return Ok(visit);
                    }
                    if matches!(site, Site::Calls(_)) {
                        // What is said is what is counted.
                        door.metrics.count(Family::Answers, http::status_word(&self.output));
                    }
                }
                Phase::Answering | Phase::LastAnswer | Phase::Upgraded => {
                    if !self.write_out()? {
                        if now < self.deadline {
                            return Ok(Visit::Stays);
                        }
                        door.metrics.count(Family::Dropped, "slow_reader");
                        return Ok(Visit::Gone);
                    }
                    match self.phase {
                        Phase::Upgraded => return Ok(Visit::Upgrade),
                        Phase::LastAnswer => self.end_output(now)?,
                        _ => self.begin_reading(now),
                    }
                }
                Phase::Lingering | Phase::Silent => return self.linger(now),
            }
        }
    }

    fn begin_reading(&mut self, now: Instant) {
        self.phase = Phase::Reading;
        self.deadline = now + HEAD_TIMEOUT;
    }

    /// Reads up to a head's worth; false at the peer's end.
    fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 2048];
        while self.input.len() <= MAX_HEAD {
            match self.transport.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// `None` when half a head has had its time, which is now being said.
    fn wait_for_head(&mut self, open: bool, door: &mut Doorway<'_>) -> Option<Visit> {
        if open && door.now < self.deadline {
            return Some(Visit::Stays);
        }
        if !open || self.input.is_empty() {
            match (open, self.transport.is_handshaking()) {
                (true, true) => door.metrics.count(Family::Dropped, "tls_timeout"),
                (false, true) => door.metrics.count(Family::Dropped, "tls_failed"),
                (true, false) => door.metrics.count(Family::Dropped, "idle"),
                // It has gone by itself.
                (false, false) => {}
            }
            self.transport.send_close_notify();
            // A peer that does not take this has gone.
            let _ = self.transport.flush();
            return Some(Visit::Gone);
        }
        self.refuse(Status::REQUEST_TIMEOUT, door.now);
        None
    }

    /// Answers the first head in the input, if it is whole.
    fn answer(&mut self, site: &Site, door: &mut Doorway<'_>) -> bool {
        if self.input.is_empty() {
            return false;
        }
        match http::parse(&self.input) {
            Head::Partial => false,
            Head::Bad(status) => {
                self.refuse(status, door.now);
                true
            }
            Head::Complete(mut request, length) => {
                self.input.drain(..length);
                self.served = true;
                request.keep_alive &= !door.draining;
                self.deadline = door.now + ANSWER_TIMEOUT;
                self.generation = door.guard.generation();
                self.phase = match site {
                    Site::Calls(site) => answer_visitor(&mut self.output, &request, site, door),
                    Site::Simulator(options) => {
                        answer_as_service(&mut self.output, &request, options, &mut self.admission)
                    }
                };
                if self.phase == Phase::Silent {
                    self.deadline = door.now + SILENCE;
                }
                true
            }
        }
    }

    fn refuse(&mut self, status: Status, now: Instant) {
        text_head(&mut self.output, status, "", status.1, false);
        if !self.input.starts_with(b"HEAD ") {
            self.output.extend_from_slice(status.1.as_bytes());
        }
        self.input.clear();
        self.phase = Phase::LastAnswer;
        self.deadline = now + ANSWER_TIMEOUT;
    }

    /// True when everything has left.
    fn write_out(&mut self) -> io::Result<bool> {
        while !self.output.is_empty() {
            match self.transport.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.output = Vec::new();
        self.transport.flush()?;
        Ok(!self.transport.is_blocked())
    }

    fn end_output(&mut self, now: Instant) -> io::Result<()> {
        self.transport.send_close_notify();
        self.transport.flush()?;
        self.transport.stream().shutdown(std::net::Shutdown::Write)?;
        self.phase = Phase::Lingering;
        self.deadline = now + LINGER_TIMEOUT;
        Ok(())
    }

    fn linger(&mut self, now: Instant) -> io::Result<Visit> {
        self.input.clear();
        let open = self.fill()?;
        self.input.clear();
        Ok(if open && now < self.deadline { Visit::Stays } else { Visit::Gone })
    }

    /// Whether it has not asked for anything yet, or does not take its answer: the first to go when
    /// places are short.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        match self.phase {
            Phase::Reading | Phase::Lingering => true,
            Phase::Answering | Phase::LastAnswer => self.transport.is_blocked(),
            Phase::Upgraded | Phase::Silent => false,
        }
    }

    /// Whether it has come with a wish that is not fulfilled yet, even if it has not said which.
    #[must_use]
    pub fn is_expectant(&self) -> bool {
        match self.phase {
            Phase::Reading => !self.served || !self.input.is_empty(),
            Phase::Answering | Phase::LastAnswer | Phase::Upgraded => true,
            Phase::Lingering | Phase::Silent => false,
        }
    }

    /// Whether another turn is needed without a new event.
    #[must_use]
    pub fn has_more(&self) -> bool {
        matches!(self.phase, Phase::Reading | Phase::Lingering | Phase::Silent)
            && self.transport.has_more()
    }
}

/// The page, `/ws`, `/pair`, `/healthz`, `/metrics`.
fn answer_visitor(
    out: &mut Vec<u8>,
    request: &Request,
    site: &CallSite,
    door: &mut Doorway<'_>,
) -> Phase {
    let CallSite { gate, simulated, https, ca_pem } = site;
    if !gate.admits_scheme(request.secure) || !gate.admits_host(&request.host) {
        door.metrics.count(Family::Refused, "host");
        let text = "This name is not one of this device's own. Add its origin to VOICELIVED_ALLOWED_ORIGINS.";
        return plain(out, request, Status::MISDIRECTED_REQUEST, "", text);
    }
    let is_read = matches!(request.method.as_str(), "GET" | "HEAD");
    // A device that does not trust the authority yet gets these without HTTPS too.
    match (request.path.as_str(), ca_pem) {
        ("/ca.pem", Some(pem)) if is_read => return answer_root(out, request, pem),
        ("/trust" | "/trust.html" | "/trust.css" | "/style.css", Some(_)) if is_read => {
            let path = if request.path == "/trust" { "/trust.html" } else { &request.path };
            if let Some(asset) = assets::find(path) {
                return answer_asset(out, request, asset, "");
            }
        }
        _ => {}
    }
    if let Some(location) = https.and_then(|port| gate.elsewhere(&request.host, port))
        && request.path != "*"
    {
        let extra = format!("Location: {location}{}\r\n", path_and_query(request));
        return plain(
            out,
            request,
            Status::PERMANENT_REDIRECT,
            &extra,
            "This device speaks HTTPS.",
        );
    }
    let trusts = ca_pem.is_some() && matches!(request.path.as_str(), "/ca.pem" | "/trust");
    let known =
        trusts || matches!(request.path.as_str(), "/ws" | "/pair" | "/healthz" | "/metrics" | "*");
    let asset = assets::find(&request.path);
    if !known && asset.is_none() {
        return plain(out, request, Status::NOT_FOUND, "", "There is nothing here.");
    }
    if !is_read {
        let allow = if request.path == "/ws" { "Allow: GET\r\n" } else { "Allow: GET, HEAD\r\n" };
        return plain(out, request, Status::METHOD_NOT_ALLOWED, allow, "Only GET is served.");
    }
    match (request.path.as_str(), asset) {
        ("/ws", _) => answer_call(out, request, gate, door),
        ("/pair", _) => answer_pairing(out, request, gate, door),
        ("/metrics", _) => answer_metrics(out, request, gate, door),
        ("/healthz", _) => {
            let service = if *simulated { "voicelived-service: simulator\r\n" } else { "" };
            let extra = format!("Cache-Control: no-store\r\n{service}");
            let (status, text) = if door.draining {
                (Status::SERVICE_UNAVAILABLE, "draining")
            } else if door.unready {
                (Status::SERVICE_UNAVAILABLE, "not_configured")
            } else {
                (Status::OK, "ok")
            };
            plain(out, request, status, &extra, text)
        }
        (_, Some(asset)) => {
            let extra = if site.is_lasting(&request.host) { STAY_SECURE } else { "" };
            answer_asset(out, request, asset, extra)
        }
        (_, None) => plain(out, request, Status::NOT_FOUND, "", "There is nothing here."),
    }
}

/// The media type makes phones offer to install it; as an attachment they would only store it.
fn answer_root(out: &mut Vec<u8>, request: &Request, pem: &str) -> Phase {
    let extra = format!(
        "{COMMON_FIELDS}Content-Type: application/x-x509-ca-cert\r\nCache-Control: no-cache\r\n"
    );
    http::answer_head(out, Status::OK, &extra, Some(pem.len()), request.keep_alive);
    if request.method != "HEAD" {
        out.extend_from_slice(pem.as_bytes());
    }
    after(request)
}

/// The target as it was sent, but for characters that could end a field's line.
fn path_and_query(request: &Request) -> String {
    let query =
        if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
    format!("{}{query}", request.path).replace(|c: char| c.is_control(), "")
}

fn answer_call(out: &mut Vec<u8>, request: &Request, gate: &Gate, door: &mut Doorway<'_>) -> Phase {
    if request.method != "GET" {
        return plain(
            out,
            request,
            Status::METHOD_NOT_ALLOWED,
            "Allow: GET\r\n",
            "Calls are opened with GET.",
        );
    }
    if let Some(phase) = refuse_stranger(out, request, gate, door) {
        return phase;
    }
    if !door.takes_calls && matches!(request.upgrade, Some(Upgrade::Valid(_))) {
        door.metrics.count(Family::Refused, "draining");
        let text = "The daemon is stopping.";
        return plain(out, request, Status::SERVICE_UNAVAILABLE, "Retry-After: 5\r\n", text);
    }
    answer_valid_upgrade(out, request)
}

/// A browser shows the token once and gets a cookie for it; or asks whether its cookie is right,
/// and has its life prolonged.
fn answer_pairing(
    out: &mut Vec<u8>,
    request: &Request,
    gate: &Gate,
    door: &mut Doorway<'_>,
) -> Phase {
    if let Some(phase) = refuse_stranger(out, request, gate, door) {
        return phase;
    }
    let cookie = door.guard.cookie().map(|value| format!("Set-Cookie: {value}\r\n"));
    let cookie = cookie.unwrap_or_default();
    let extra = format!("{COMMON_FIELDS}Cache-Control: no-store\r\n{cookie}");
    http::answer_head(out, Status::NO_CONTENT, &extra, None, request.keep_alive);
    after(request)
}

/// The owner's monitoring shows the token as every program does.
fn answer_metrics(
    out: &mut Vec<u8>,
    request: &Request,
    gate: &Gate,
    door: &mut Doorway<'_>,
) -> Phase {
    if let Some(phase) = refuse_stranger(out, request, gate, door) {
        return phase;
    }
    let text = door.metrics.render();
    let extra = format!(
        "{COMMON_FIELDS}Content-Type: text/plain; version=0.0.4; charset=utf-8\r\nCache-Control: no-store\r\n"
    );
    http::answer_head(out, Status::OK, &extra, Some(text.len()), request.keep_alive);
    if request.method != "HEAD" {
        out.extend_from_slice(text.as_bytes());
    }
    after(request)
}

/// Turns away who has no right to call: `None` for those who have. Nothing of a call exists yet.
fn refuse_stranger(
    out: &mut Vec<u8>,
    request: &Request,
    gate: &Gate,
    door: &mut Doorway<'_>,
) -> Option<Phase> {
    if !gate.admits_origin(&request.origins, &request.host) {
        door.metrics.count(Family::Refused, "origin");
        let text = "Pages of this origin may not open calls. Add it to VOICELIVED_ALLOWED_ORIGINS.";
        return Some(plain(out, request, Status::FORBIDDEN, "", text));
    }
    let Doorway { guard, metrics, address, now, .. } = door;
    match guard.judge(*address, &request.authorization, &request.cookies, *now) {
        Verdict::Admitted => None,
        Verdict::Later(wait) => {
            metrics.count(Family::Refused, "throttled");
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let extra = format!("Cache-Control: no-store\r\nRetry-After: {seconds}\r\n");
            let text = format!("Too many wrong access tokens. Try again in {seconds} seconds.");
            Some(plain(out, request, Status::TOO_MANY_REQUESTS, &extra, &text))
        }
        Verdict::Missing => {
            metrics.count(Family::Refused, "token_missing");
            let text = "This needs the access token: Authorization: Bearer TOKEN.";
            Some(plain(out, request, Status::UNAUTHORIZED, ASK_FOR_TOKEN, text))
        }
        Verdict::Wrong => {
            metrics.count(Family::Refused, "token_wrong");
            log::warn!("a wrong access token from {address}");
            // A browser would go on showing a cookie that is not right any more, and be slowed.
            let extra = format!("{ASK_FOR_TOKEN}Set-Cookie: {}\r\n", token::forget_cookie());
            Some(plain(out, request, Status::UNAUTHORIZED, &extra, "The access token is wrong."))
        }
    }
}

fn answer_asset(out: &mut Vec<u8>, request: &Request, asset: &Asset, extra: &str) -> Phase {
    let gzip = request.gzip && !asset.is_document();
    // The two encodings are two representations, so each has its own strong tag.
    let (length, encoding, tag) = if gzip {
        (asset.gzip.len(), "Content-Encoding: gzip\r\n", format!("\"{}-gz\"", asset.tag))
    } else {
        (asset.length, "", format!("\"{}\"", asset.tag))
    };
    let unchanged = request.if_none_match.split(',').map(str::trim).any(|known| {
        // The comparison is weak (RFC 9110, section 13.1.2).
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
    });
    let status = if unchanged { Status::NOT_MODIFIED } else { Status::OK };
    let extra = format!(
        "{COMMON_FIELDS}{PAGE_FIELDS}{extra}{encoding}ETag: {tag}\r\nContent-Type: {}\r\n",
        asset.media_type
    );
    let length = (!unchanged).then_some(length);
    http::answer_head(out, status, &extra, length, request.keep_alive);
    match (unchanged || request.method != "GET", gzip) {
        (true, _) => {}
        (false, true) => out.extend_from_slice(asset.gzip),
        (false, false) => out.extend_from_slice(&asset.plain()),
    }
    after(request)
}

/// The simulated service's side of the upgrade.
fn answer_as_service(
    out: &mut Vec<u8>,
    request: &Request,
    options: &simulator::Options,
    admission: &mut Option<Admission>,
) -> Phase {
    if options.script.silent {
        return Phase::Silent;
    }
    let field = |name: &str| match name {
        "api-key" if !request.api_key.is_empty() => Some(request.api_key.as_str()),
        "authorization" if !request.authorization.is_empty() => {
            Some(request.authorization.as_str())
        }
        _ => None,
    };
    let target = format!("{}?{}", request.path, request.query);
    let refusal = match simulator::admit(options, &target, field) {
        Err(refusal) => refusal,
        Ok(admitted) => {
            *admission = Some(admitted);
            return answer_valid_upgrade(out, request);
        }
    };
    let mut extra = String::from("Content-Type: application/json\r\n");
    for (name, value) in &refusal.headers {
        extra.push_str(&format!("{name}: {value}\r\n"));
    }
    let status = Status(refusal.status, "Refused");
    http::answer_head(out, status, &extra, Some(refusal.body.len()), false);
    out.extend_from_slice(refusal.body.as_bytes());
    Phase::LastAnswer
}

fn answer_valid_upgrade(out: &mut Vec<u8>, request: &Request) -> Phase {
    match &request.upgrade {
        Some(Upgrade::Valid(key)) => {
            http::answer_upgrade(out, key);
            Phase::Upgraded
        }
        Some(Upgrade::Invalid) => {
            plain(out, request, Status::BAD_REQUEST, "", "This is no valid WebSocket handshake.")
        }
        Some(Upgrade::Version) | None => {
            let extra =
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
            plain(out, request, Status::UPGRADE_REQUIRED, extra, "This is a WebSocket endpoint.")
        }
    }
}

fn plain(out: &mut Vec<u8>, request: &Request, status: Status, extra: &str, text: &str) -> Phase {
    let keep_alive = request.keep_alive && request.upgrade.is_none();
    text_head(out, status, extra, text, keep_alive);
    if request.method != "HEAD" {
        out.extend_from_slice(text.as_bytes());
    }
    if keep_alive { Phase::Answering } else { Phase::LastAnswer }
}

/// The head of an answer with this text, whether the text itself follows or not.
fn text_head(out: &mut Vec<u8>, status: Status, extra: &str, text: &str, keep_alive: bool) {
    let extra = format!("{COMMON_FIELDS}Content-Type: text/plain; charset=utf-8\r\n{extra}");
    http::answer_head(out, status, &extra, Some(text.len()), keep_alive);
}

fn after(request: &Request) -> Phase {
    if request.keep_alive { Phase::Answering } else { Phase::LastAnswer }
}
