//! `voicelived check`: what every call does to reach the service, once and step by step, with times
//! and advice.
//!
//! It sends the same `session.update` as the daemon. So it finds a voice or an option that the
//! service refuses before the first call. It sends no audio and requests no response, so it costs
//! nothing.

mod report;
mod state;

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

use super::args::CheckArgs;
use super::assistants::AssistantFolder;
use super::drive::{self, Drive, Ended, Event, Way};
use super::exit::{self, Failure};
use super::own_names;
use super::screen::plain;
use super::service;
use super::tool_folder::ToolFolder;
use super::tools;
use crate::call::ending::{EndReason, ServiceFault};
use crate::call::service::session::{Dialect, SessionInfo, ga_session};
use crate::call::service::{self as codec, Parsed, ServiceError, ServiceEvent, commands};
use crate::call::{CallSettings, SERVICE_TIMEOUT};
use crate::certificates::{Certificates, OwnFiles};
use crate::config::{Config, Purpose};
use crate::identity;
use crate::identity::answer::{self, Refusal};
use crate::models;
use crate::net::dial::{Step, Target};
use crate::net::suites;
use crate::net::tls::ClientConfigs;
use crate::net::upgrade;
use crate::net::ws::{Message, Sizes, USUAL_WAITING};
use crate::server::Alone;
use crate::session::candidates::Candidate;
use crate::session::connection_faults;
use crate::session::refusals::{self, Refused};
use crate::system::child::{Child, Outcome};
use crate::system::terminal_log;
use report::Report;

/// Bounds, in bytes. `session.updated` repeats the instructions and all tools.
const SIZES: Sizes = Sizes { message: 4 * 1024 * 1024, waiting: USUAL_WAITING };

/// Checks the configuration and everything up to a configured session.
///
/// # Errors
/// [`Failure`]: all faults of the configuration, or what the service doesn't like.
pub(super) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let mut report = Report::new();
    let env_file = args.env_file.as_deref();
    let config = if args.service {
        Config::of_service(Purpose::Service, env_file)
    } else {
        Config::from_process(Purpose::Service, env_file, None, &[])
    };
    let config = config.map_err(|faults| (exit::CONFIG, service::lines(&faults)))?;
    if let Some(sentence) = config.unready {
        return Err((exit::CONFIG, sentence));
    }
    terminal_log::init(config.log);
    report.done("configuration", "ok");
    for warning in config.warnings.iter().chain(&service::odd_settings(&config)) {
        report.note(warning);
    }
    for model in &config.session.models {
        report.fact("model", &models::published_end(model));
    }
    if !config.session.assistant.is_empty() {
        report.fact("agent", &config.session.assistant);
    }
    let faults = service::language_faults(&config);
    if !faults.is_empty() {
        return Err((exit::CONFIG, faults.join("\n")));
    }
    if let Some((certificate, key)) = &config.web.tls_files {
        let mut files = OwnFiles::new(certificate.clone(), key.clone());
        files.load(SystemTime::now()).map_err(|error| (exit::CONFIG, error))?;
        report.done("certificate", "usable");
        for name in Certificates::Own(Box::new(files)).lacks(own_names::of(&config).set()) {
            report.note(&format!("VOICELIVED_NAMES: the certificate does not hold for {name}"));
        }
    }
    state::check(&config, &mut report)?;
    let program = std::env::current_exe().unwrap_or_default();
    let mut found = ToolFolder::default().read(config.tools_dir.as_deref());
    let servers = tools::servers(service::mcp(&config), &mut found, None)?;
    servers.into_iter().for_each(Alone::end);
    let widths = tools::widths(&found.tools);
    for tool in found.tools.iter() {
        report.fact("tool", &tools::line(tool, widths));
    }
    let assistants = AssistantFolder::default().read(&config);
    for one in &assistants.list {
        report.fact("assistant", &one.line());
    }
    let missing = assistants.list.iter().flat_map(|one| one.missing(&found.tools));
    let faults = missing.chain(found.faults.iter().chain(&assistants.faults).cloned());
    faults.for_each(|fault| report.note(&fault));
    let candidate = service::first_candidate(&config, &found.tools, &ClientConfigs::default())
        .map_err(|error| (exit::CONFIG, error))?;
    let login = log_in(&config, &program, &mut report)?;
    try_candidates(candidate, login.as_deref(), &mut report)?;
    report.line("All is well: calls can be made.");
    Ok(())
}

/// Says which credential is used. A token of Entra ID is fetched as the daemon does it, by the same
/// child, and given back as a header line.
fn log_in(config: &Config, program: &Path, report: &mut Report) -> Result<Option<String>, Failure> {
    let Some(sign_in) = &config.service.sign_in else {
        report.fact("credential", "the key (AZURE_VOICE_LIVE_API_KEY)");
        return Ok(None);
    };
    report.begin_step();
    if let Some(proxy) = &sign_in.proxy {
        report.fact("sign-in", &format!("through the proxy {proxy} ({})", proxy.variable));
    }
    let deadline = Instant::now() + identity::TIMEOUT;
    let command = sign_in.command(program);
    let child = Child::spawn(&command, sign_in.input(), identity::MAX_OUTPUT, deadline);
    let outcome = child.and_then(drive::finish);
    let token = match outcome {
        Ok(Outcome::Done(output)) => answer::parse(&output, SystemTime::now()),
        Ok(Outcome::Refused(_)) => Err(sign_in.failed("it failed")),
        Ok(Outcome::Failed(why)) => Err(sign_in.failed(&why)),
        Err(error) => Err(Refusal::lasting(format!("it cannot be started: {error}"))),
    };
    let token = token
        .map_err(|refusal| refused(connection_faults::no_token(&sign_in.source, &refusal.why)))?;
    let until = match token.life {
        Some(life) => good_until(life, SystemTime::now()),
        None => "it is fetched for each connection".to_owned(),
    };
    report.done("sign-in", &plain(&format!("token of {}; {until}", sign_in.source)));
    Ok(Some(token.header()))
}

/// A token's life, and its end by this device's clock.
fn good_until(life: Duration, now: SystemTime) -> String {
    let end = (now + life).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let end = i64::try_from(end).ok().and_then(|end| OffsetDateTime::from_unix_timestamp(end).ok());
    let end = end.map_or_else(String::new, |end| {
        let (date, time) = (end.date(), end.time());
        format!(", until {date} {:02}:{:02} UTC", time.hour(), time.minute())
    });
    format!("good for {} minutes{end}", life.as_secs() / 60)
}

/// Tries the owner's first choice, and falls back as a call does when the service refuses it.
fn try_candidates(
    mut candidate: Candidate,
    login: Option<&str>,
    report: &mut Report,
) -> Result<(), Failure> {
    let first = candidate.model().to_owned();
    login.iter().for_each(|header| candidate.log_in_with(header));
    while let Err(Setback { failure, refused }) = try_candidate(&candidate, report) {
        let Some((refused, said)) = refused else { return Err(failure) };
        let Some((next, clause)) = candidate.fallback(refused) else { return Err(failure) };
        let said = candidate.target().conceal(&said).unwrap_or(said);
        report.note(&format!("{clause}. The service said: {said}"));
        candidate = next;
        login.iter().for_each(|header| candidate.log_in_with(header));
    }
    let model = candidate.model();
    if model != first {
        report.note(&format!("calls are made with {model}; put it first in VOICE_LIVE_MODEL"));
    }
    Ok(())
}

fn try_candidate(candidate: &Candidate, report: &mut Report) -> Result<(), Setback> {
    let mut drive = connect(candidate, report)?;
    if let Some(agreed) = drive.agreed() {
        report.fact("cipher", &format!("{agreed}; {}", processor()));
    }
    let outcome = configure(&mut drive, candidate, report);
    drive.close();
    outcome
}

/// Why this cipher may stand first in our offer: see `net::suites`.
fn processor() -> &'static str {
    if suites::is_aes_fast() {
        "this processor has instructions for AES"
    } else {
        "this processor has no instructions for AES, so ChaCha20-Poly1305 is asked for first"
    }
}

/// Why a candidate failed, and what the service has refused, if a fallback may do without it.
struct Setback {
    failure: Failure,
    refused: Option<(Refused, String)>,
}

impl From<Failure> for Setback {
    fn from(failure: Failure) -> Self {
        Self { failure, refused: None }
    }
}

fn connect(candidate: &Candidate, report: &mut Report) -> Result<Drive, Setback> {
    let target: Rc<Target> = Rc::clone(candidate.target());
    let host = target.host.clone();
    report.begin_step();
    let (hop, port) = target.next_hop();
    let addresses = drive::look_up(hop, port).map_err(|error| {
        let why = error.to_string();
        refused(match &target.proxy {
            Some(proxy) => connection_faults::proxy_unresolved(proxy, &why),
            None => connection_faults::unresolved(&host, &why),
        })
    })?;
    let count = addresses.len();
    let plural = if count == 1 { "" } else { "es" };
    let what = if target.proxy.is_some() { "the proxy " } else { "" };
    report.done("resolve", &format!("{what}{hop}, {count} address{plural}"));
    let tunnel = target.proxy.as_ref().map(|proxy| {
        format!("{proxy} ({}) opens a tunnel to {host}:{}", proxy.variable, target.port)
    });
    let request_id = upgrade::request_id().map_err(|why| (exit::UNAVAILABLE, why))?;
    report.fact("request id", &request_id);
    let on_way = |way: Way| {
        let (done, address) = match way {
            Way::Done(done, address) => (done, address),
            Way::Setback(clause) => return report.note(&clause),
        };
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        match done {
            Step::Connect => report.done("connect", &address),
            Step::Tunnel => report.done("proxy", tunnel.as_deref().unwrap_or_default()),
            Step::Tls => report.done("TLS", "certificate accepted"),
            Step::Upgrade => report.done("upgrade", &format!("credential accepted by {address}")),
            Step::Over => {}
        }
    };
    let shown = Rc::clone(&target);
    Drive::connect(target, addresses, request_id, SIZES, on_way).map_err(|error| Setback {
        failure: refused(connection_faults::explain(&error, &shown)),
        refused: refusals::model_refusal(&error, candidate.model())
            .map(|said| (Refused::Model, said)),
    })
}

/// Waits for the session, sends the settings, and waits until they are taken.
fn configure(drive: &mut Drive, candidate: &Candidate, report: &mut Report) -> Result<(), Setback> {
    let settings: &CallSettings = candidate.settings();
    let setback = |failure: Failure, error: &ServiceError| Setback {
        failure,
        refused: refusals::choice_refusal(error, candidate.model()),
    };
    let deadline = Instant::now() + SERVICE_TIMEOUT;
    let created = loop {
        match next_event(drive, deadline, report)? {
            ServiceEvent::SessionCreated(session) => break session,
            ServiceEvent::Error(error) => return Err(setback(complaint(&error), &error)),
            _ => {}
        }
    };
    report.done("session.created", &describe(&created));
    let update = match created.dialect {
        Dialect::Beta => commands::session_update(&settings.session),
        Dialect::Ga => commands::session_update(&ga_session(&settings.session)),
    };
    // A connection that has just ended says so in the next event.
    let _ = drive.send(Message::Text(&update));
    let updated = loop {
        match next_event(drive, deadline, report)? {
            ServiceEvent::SessionUpdated(session) => break session,
            ServiceEvent::Error(error) => return Err(setback(rejection(&error), &error)),
            _ => {}
        }
    };
    if let Some(fault) = updated.format_fault {
        return Err((exit::CONFIG, plain(&fault)).into());
    }
    report.done("session.update", "accepted");
    report.fact("transcriber", &transcriber(settings));
    if !updated.finds_turns(&settings.session) {
        report.note(NO_TURNS);
    }
    Ok(())
}

/// What a session without turn detection needs of its clients.
const NO_TURNS: &str = "turn_detection is off, so the service does not notice when a user has finished \
    speaking. Every client must say so with {\"type\":\"end_turn\"}. The page does, with its button to hold, \
    and voicelived call does. A client that only sends audio gets no answer.";

/// The transcriber of the user's words, and the published date of its end.
fn transcriber(settings: &CallSettings) -> String {
    let session = &settings.session;
    let own = session.pointer("/audio/input/transcription");
    let name = own.unwrap_or_else(|| &session["input_audio_transcription"])["model"].as_str();
    let Some(name) = name else {
        return "none: calls show no captions of what users say".to_owned();
    };
    models::transcriber_end(name).unwrap_or_else(|| name.to_owned())
}

fn describe(session: &SessionInfo) -> String {
    let named = |name: &str| if name.is_empty() { "not named".to_owned() } else { plain(name) };
    format!("model {}, session {}", named(&session.model), named(&session.id))
}

/// Messages without a meaning that are put up with before an event.
const MOST_PASSED_OVER: usize = 7;

/// The service's next event; warnings that come before it are printed.
fn next_event(
    drive: &mut Drive,
    deadline: Instant,
    report: &mut Report,
) -> Result<ServiceEvent<'static>, Failure> {
    let mut passed_over = 0;
    loop {
        let text = match drive.next(deadline) {
            Event::Text(text) => text,
            // What is no text is no JSON either.
            Event::Binary(data) => String::from_utf8(data).unwrap_or_default(),
            Event::Deadline | Event::Signal => {
                return Err((exit::UNAVAILABLE, EndReason::ServiceTimeout.message().into_owned()));
            }
            Event::Ended(Ended::Closed { code, reason }) => {
                return Err(refused(connection_faults::closed(code, &reason)));
            }
            Event::Ended(Ended::Lost(error)) => {
                return Err(refused(connection_faults::lost(&error)));
            }
            Event::Ended(Ended::Violation(what)) => {
                return Err(refused(connection_faults::violation(&what)));
            }
        };
        match codec::parse(&text) {
            Ok(Parsed::Event(ServiceEvent::Warning { code, message })) => {
                report.note(&format!("the service says: {message} ({code})"));
            }
            Ok(Parsed::Event(ServiceEvent::Ignored { .. }) | Parsed::Audio(_)) => {}
            Ok(Parsed::AudioOwned(_)) => {}
            Ok(Parsed::Event(event)) => return Ok(owned(event)),
            // A call passes it over too.
            Err(what) if passed_over < MOST_PASSED_OVER => {
                passed_over += 1;
                report
                    .note(&format!("the service sent {}, which a call passes over", plain(&what)));
            }
            Err(what) => return Err(refused(connection_faults::violation(&what))),
        }
    }
}

/// Only ignored events borrow from their text.
fn owned(event: ServiceEvent<'_>) -> ServiceEvent<'static> {
    match event {
        ServiceEvent::SessionCreated(session) => ServiceEvent::SessionCreated(session),
        ServiceEvent::SessionUpdated(session) => ServiceEvent::SessionUpdated(session),
        ServiceEvent::Error(error) => ServiceEvent::Error(error),
        _ => ServiceEvent::Ignored { kind: "".into(), response_id: None },
    }
}

fn refused(fault: ServiceFault) -> Failure {
    (exit::UNAVAILABLE, plain(&fault.message))
}

/// An error before there is a session.
fn complaint(error: &ServiceError) -> Failure {
    let reason = reason(error);
    (exit::UNAVAILABLE, format!("The service reports: {reason} Check VOICE_LIVE_MODEL."))
}

/// The settings were refused: what to change depends on the one that the service names.
fn rejection(error: &ServiceError) -> Failure {
    let setting = match error.param.trim_start_matches("session.") {
        "" => "Check the session's settings".to_owned(),
        param => format!("The setting is {}", plain(param)),
    };
    let variable = variable(&error.param);
    let reason = reason(error);
    let text = format!("The service refused the settings: {reason} {setting}: see {variable}.");
    (exit::CONFIG, text)
}

fn variable(param: &str) -> &'static str {
    let param = param.trim_start_matches("session.").trim_start_matches("audio.");
    let variables = [
        ("voice", "AZURE_VOICE_LIVE_VOICE"),
        ("output.voice", "AZURE_VOICE_LIVE_VOICE"),
        ("instructions", "AZURE_VOICE_LIVE_INSTRUCTIONS"),
        ("input_audio_transcription.language", "AZURE_VOICE_LIVE_LANGUAGE"),
        ("input.transcription.language", "AZURE_VOICE_LIVE_LANGUAGE"),
        ("model", "VOICE_LIVE_MODEL"),
    ];
    let found = variables.iter().find(|(prefix, _)| param.starts_with(prefix));
    found.map_or("AZURE_VOICE_LIVE_SESSION_FILE", |(_, variable)| variable)
}

/// The service's words as a sentence, with its code.
fn reason(error: &ServiceError) -> String {
    let message = plain(&error.message);
    let message = message.trim_end_matches('.');
    match (message, plain(&error.code)) {
        ("", code) if code.is_empty() => "it gives no reason.".to_owned(),
        ("", code) => format!("{code}."),
        (message, code) if code.is_empty() => format!("{message}."),
        (message, code) => format!("{message} ({code})."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VARIABLES;

    fn error(message: &str, code: &str, param: &str) -> ServiceError {
        let [message, code, param] = [message, code, param].map(str::to_owned);
        ServiceError { message, code, param, ..ServiceError::default() }
    }

    #[test]
    fn a_refused_setting_is_named_with_its_variable() {
        let (code, text) =
            rejection(&error("Voice 'x' is\nunknown.", "bad_voice", "session.voice.name"));
        assert_eq!(code, exit::CONFIG);
        assert_eq!(
            text,
            "The service refused the settings: Voice 'x' is unknown (bad_voice). The setting is \
             voice.name: see AZURE_VOICE_LIVE_VOICE."
        );
        let (_, text) = rejection(&error("", "", ""));
        assert!(text.contains("no reason") && text.contains("AZURE_VOICE_LIVE_SESSION_FILE"));
    }

    #[test]
    fn variables_that_are_named_exist() {
        for param in ["voice", "audio.output.voice", "instructions", "model", "temperature"] {
            let name = variable(param);
            assert!(VARIABLES.iter().any(|known| known.name == name), "{name}");
        }
        let language = variable("session.input_audio_transcription.language");
        assert!(VARIABLES.iter().any(|known| known.name == language), "{language}");
    }

    #[test]
    fn a_complaint_is_one_line_and_of_the_service() {
        let (code, text) = complaint(&error("Model\r\nmissing", "", ""));
        assert_eq!(code, exit::UNAVAILABLE);
        assert!(text.contains("Model  missing.") && !text.contains(char::is_control));
    }
}
