//! The candidates for a call's session: combinations of a model, a transcriber and a language hint.
//!
//! A call asks for the owner's first choice. If the service refuses it, the call falls back: to the
//! next model of the owner's list, to another transcriber, or to no language hint. A call asks for
//! each candidate once, since a fallback never goes back. The candidate that the service has accepted
//! is remembered for later calls ([`Chosen`]).

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::refusals::Refused;
use crate::call::CallSettings;
use crate::call::service::session::{SessionSettings, first_session, session_with};
use crate::call::service::transcription::{
    Transcription, hint, language, transcriber, transcriptions,
};
use crate::net::dial::Target;

/// How long new calls begin with a fallback. After that, a call asks for the owner's first choice
/// again. This costs one refused connection a day. So a model that was missing for an hour is not
/// given up for good.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// A model, and the target that serves it.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "the target holds the credential")]
pub struct ModelTarget {
    /// The model's name; empty for an agent.
    pub model: String,
    /// The service, with the model in the query of its address.
    pub target: Rc<Target>,
}

/// Everything that the owner's settings allow a call to ask for.
#[allow(missing_debug_implementations, reason = "the targets hold the credential")]
pub struct Candidates {
    /// The model that is asked for first.
    pub first: ModelTarget,
    /// The others, in the owner's order.
    pub others: Vec<ModelTarget>,
    /// The settings of every session. Their model is replaced by the candidate's.
    pub session: SessionSettings,
    /// What does not depend on the choice. Its session is not looked at.
    pub call: CallSettings,
}

impl Candidates {
    fn model_at(&self, index: usize) -> Option<&ModelTarget> {
        match index.checked_sub(1) {
            None => Some(&self.first),
            Some(other) => self.others.get(other),
        }
    }

    fn session_settings(&self, model: &ModelTarget) -> SessionSettings {
        SessionSettings { model: model.model.clone(), ..self.session.clone() }
    }
}

/// Which of the candidates: an index into the models, an index into the transcriptions that fit the
/// model, and whether the transcriber is told the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Choice {
    model: usize,
    transcription: usize,
    hinted: bool,
}

const FIRST: Choice = Choice { model: 0, transcription: 0, hinted: true };

/// One combination to ask the service for: where, and with which settings.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "the target holds the credential")]
pub struct Candidate {
    settings: Rc<CallSettings>,
    target: Rc<Target>,
    choice: Choice,
    all: Option<Rc<Candidates>>,
}

impl Candidate {
    /// A candidate without a fallback.
    #[must_use]
    pub fn only(settings: CallSettings, target: Target) -> Self {
        let (settings, target) = (Rc::new(settings), Rc::new(target));
        Self { settings, target, choice: FIRST, all: None }
    }

    /// The owner's first choice.
    #[must_use]
    pub fn first(all: Candidates) -> Self {
        let model = all.first.clone();
        Self::of(&Rc::new(all), &model, FIRST)
    }

    fn of(all: &Rc<Candidates>, model: &ModelTarget, choice: Choice) -> Self {
        let wanted = all.session_settings(model);
        let transcribers = transcriptions(&wanted, &first_session(&wanted));
        let which = transcribers.get(choice.transcription).copied().unwrap_or(Transcription::Off);
        let session = session_with(&wanted, which, choice.hinted);
        let settings = Rc::new(CallSettings { session, ..all.call.clone() });
        let (target, all) = (Rc::clone(&model.target), Some(Rc::clone(all)));
        Self { settings, target, choice, all }
    }

    /// The call's settings.
    #[must_use]
    pub fn settings(&self) -> &Rc<CallSettings> {
        &self.settings
    }

    /// The service to connect to.
    #[must_use]
    pub fn target(&self) -> &Rc<Target> {
        &self.target
    }

    /// From now on this candidate logs in with `header`. The others that it may fall back to do not: each
    /// needs a token of its own time.
    pub fn log_in_with(&mut self, header: &str) {
        self.target = Rc::new(self.target.with_credential(header));
    }

    /// The model's name; empty if it is not known here.
    #[must_use]
    pub fn model(&self) -> &str {
        let model = self.all.as_ref().and_then(|all| all.model_at(self.choice.model));
        model.map_or("", |model| &model.model)
    }

    /// The candidate to fall back to, and a clause for the log that says what changes. `None` if the
    /// settings allow no other one.
    #[must_use]
    pub fn fallback(&self, refused: Refused) -> Option<(Self, String)> {
        let all = self.all.as_ref()?;
        let model = all.model_at(self.choice.model)?;
        match refused {
            Refused::Model => {
                let choice =
                    Choice { model: self.choice.model + 1, transcription: 0, ..self.choice };
                let next = all.model_at(choice.model)?;
                let clause = format!(
                    "the model {} is refused; {} is tried instead",
                    model.model, next.model
                );
                Some((Self::of(all, next, choice), clause))
            }
            Refused::Transcriber => {
                let transcription = self.choice.transcription + 1;
                let wanted = all.session_settings(model);
                let transcribers = transcriptions(&wanted, &first_session(&wanted));
                let name = |which: &Transcription| transcriber(&wanted, *which).map(str::to_owned);
                let old = name(transcribers.get(self.choice.transcription)?)?;
                let new = name(transcribers.get(transcription)?);
                let new = new.map_or_else(
                    || "the call goes on without captions of what the user says".to_owned(),
                    |new| format!("{new} is tried instead"),
                );
                let choice = Choice { transcription, ..self.choice };
                let clause = format!("the transcriber {old} is refused for {}; {new}", model.model);
                Some((Self::of(all, model, choice), clause))
            }
            Refused::Language => {
                let wanted = all.session_settings(model);
                let transcribers = transcriptions(&wanted, &first_session(&wanted));
                let name = transcriber(&wanted, *transcribers.get(self.choice.transcription)?)?;
                let language = language(&wanted)?;
                let told = hint(name, language).filter(|_| self.choice.hinted)?;
                let choice = Choice { hinted: false, ..self.choice };
                let clause = format!("{name} is not told the language {told}, which is refused");
                Some((Self::of(all, model, choice), clause))
            }
        }
    }

    /// These session settings, with the service, key and models of `old`.
    #[must_use]
    fn at(&self, old: &Self) -> Self {
        let (Some(all), Some(old_all)) = (&self.all, &old.all) else {
            return Self { target: Rc::clone(&old.target), ..self.clone() };
        };
        Self::first(Candidates {
            first: old_all.first.clone(),
            others: old_all.others.clone(),
            session: all.session.clone(),
            call: all.call.clone(),
        })
    }
}

/// The candidate that new calls begin with.
#[allow(missing_debug_implementations, reason = "the target holds the credential")]
pub struct Chosen {
    candidate: Candidate,
    /// When calls begin with the first choice again. `None` while they do so anyway.
    until: Option<Instant>,
}

impl Chosen {
    /// The owner's first choice.
    #[must_use]
    pub fn new(candidate: Candidate) -> Self {
        Self { candidate, until: None }
    }

    /// The candidate for a new call.
    pub fn candidate(&mut self, now: Instant) -> Candidate {
        if self.until.is_some_and(|until| now >= until) {
            self.until = None;
            if let Some(all) = self.candidate.all.clone() {
                self.candidate = Candidate::of(&all, &all.first, FIRST);
            }
        }
        self.candidate.clone()
    }

    /// The service. Its address is the same for every model.
    #[must_use]
    pub fn target(&self) -> &Rc<Target> {
        &self.candidate.target
    }

    /// The service has accepted `candidate` in a call. True if new calls begin with it from now on and
    /// did not before. A candidate from older settings changes nothing.
    pub fn remember(&mut self, candidate: &Candidate, now: Instant) -> bool {
        let same = match (&self.candidate.all, &candidate.all) {
            (Some(ours), Some(theirs)) => Rc::ptr_eq(ours, theirs),
            _ => false,
        };
        let news = same && candidate.choice != FIRST && candidate.choice != self.candidate.choice;
        if news {
            (self.candidate, self.until) = (candidate.clone(), now.checked_add(REMEMBERED));
        }
        news
    }

    /// The `tools` that new calls offer the model.
    #[must_use]
    pub fn offered(&self) -> Option<&serde_json::Value> {
        self.candidate.settings.session.get("tools")
    }

    /// New calls offer the model these tools, a `tools` array of the service's session. An agent has tools
    /// of its own and is offered none.
    pub fn offer(&mut self, tools: &serde_json::Value) {
        let Some(all) = self.candidate.all.as_ref() else { return };
        let tools = all.call.offer(tools);
        if all.session.tools.is_null() || all.session.tools == tools {
            return;
        }
        let session = SessionSettings { tools, ..all.session.clone() };
        let (first, others, call) = (all.first.clone(), all.others.clone(), all.call.clone());
        let all = Rc::new(Candidates { first, others, session, call });
        let choice = self.candidate.choice;
        if let Some(model) = all.model_at(choice.model).cloned() {
            self.candidate = Candidate::of(&all, &model, choice);
        }
    }

    /// These session settings, with the service of `old`.
    #[must_use]
    pub fn at(&self, old: &Self) -> Self {
        Self::new(self.candidate.at(&old.candidate))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::call::service::session::Dialect;
    use serde_json::{Map, json};

    fn model_target(model: &str) -> ModelTarget {
        let target = Target {
            host: "h".to_owned(),
            port: 1,
            request_target: format!("/?model={model}"),
            host_field: "h".to_owned(),
            credential: String::new(),
            tls: None,
            proxy: None,
        };
        ModelTarget { model: model.to_owned(), target: Rc::new(target) }
    }

    pub(in crate::session) fn candidate(models: &[&str], language: Option<&str>) -> Candidate {
        let mut targets = models.iter().map(|model| model_target(model));
        let second = Duration::from_secs(1);
        Candidate::first(Candidates {
            first: targets.next().unwrap(),
            others: targets.collect(),
            session: SessionSettings {
                model: String::new(),
                expected: Dialect::Beta,
                voice: "alloy".to_owned(),
                instructions: None,
                language: language.map(str::to_owned),
                tools: json!([]),
                overrides: Map::new(),
            },
            call: CallSettings {
                assistant: String::new(),
                chosen: None,
                session: json!(null),
                greeting: None,
                idle: second,
                max_duration: second,
                reconnect: Duration::ZERO,
                continue_reply: false,
                reversible_barge_in: false,
                session_time: Duration::ZERO,
                resume: Duration::ZERO,
            },
        })
    }

    fn transcription(candidate: &Candidate) -> &serde_json::Value {
        &candidate.settings().session["input_audio_transcription"]
    }

    #[test]
    fn each_model_is_tried_once_with_its_own_transcriber() {
        let first = candidate(&["gpt-realtime-2.1-mini", "gpt-realtime-mini"], None);
        assert_eq!(transcription(&first)["model"], "azure-speech");
        let (second, clause) = first.fallback(Refused::Model).unwrap();
        assert_eq!(
            clause,
            "the model gpt-realtime-2.1-mini is refused; gpt-realtime-mini is tried instead"
        );
        assert_eq!(
            (second.model(), &*second.target().request_target),
            ("gpt-realtime-mini", "/?model=gpt-realtime-mini")
        );
        assert_eq!(transcription(&second)["model"], "whisper-1");
        assert!(second.fallback(Refused::Model).is_none());
        assert!(candidate(&["alone"], None).fallback(Refused::Model).is_none());
    }

    #[test]
    fn each_transcriber_is_tried_once_and_then_none() {
        let first = candidate(&["gpt-realtime"], Some("en-US"));
        assert_eq!(transcription(&first), &json!({"model": "whisper-1", "language": "en"}));
        let (second, _) = first.fallback(Refused::Transcriber).unwrap();
        assert_eq!(transcription(&second), &json!({"model": "azure-speech", "language": "en-US"}));
        let (third, clause) = second.fallback(Refused::Transcriber).unwrap();
        assert!(transcription(&third).is_null() && clause.contains("without captions"), "{clause}");
        assert!(third.fallback(Refused::Transcriber).is_none());
        assert!(third.fallback(Refused::Language).is_none());
    }

    #[test]
    fn a_language_is_left_out_once() {
        let first = candidate(&["gpt-4.1"], Some("xx-XX"));
        let (second, clause) = first.fallback(Refused::Language).unwrap();
        assert!(clause.contains("xx-XX"), "{clause}");
        assert_eq!(transcription(&second), &json!({"model": "azure-speech"}));
        assert!(second.fallback(Refused::Language).is_none());
        assert!(candidate(&["gpt-4.1"], None).fallback(Refused::Language).is_none());
    }

    #[test]
    fn a_second_choice_is_remembered_for_a_day() {
        let start = Instant::now();
        let first = candidate(&["a", "b"], None);
        let (second, _) = first.fallback(Refused::Model).unwrap();
        let mut chosen = Chosen::new(first.clone());
        assert!(!chosen.remember(&first, start) && chosen.remember(&second, start));
        assert!(!chosen.remember(&second, start), "it is told once");
        assert_eq!(chosen.candidate(start + REMEMBERED - Duration::from_secs(1)).model(), "b");
        assert_eq!(chosen.candidate(start + REMEMBERED).model(), "a");
        assert!(chosen.remember(&second, start + REMEMBERED));
        // Settings that were read again are not overruled by what a call of the old ones found.
        let mut again = Chosen::new(candidate(&["a", "b"], None));
        assert!(!again.remember(&second, start));
    }

    #[test]
    fn new_wishes_at_an_old_service_keep_its_models() {
        let old = Chosen::new(candidate(&["a", "b"], None));
        let mut new = Chosen::new(candidate(&["c"], Some("de"))).at(&old);
        let candidate = new.candidate(Instant::now());
        assert_eq!((candidate.model(), &*candidate.target().request_target), ("a", "/?model=a"));
        assert_eq!(transcription(&candidate)["language"], "de");
    }
}
