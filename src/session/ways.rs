//! How a call asks the service for its session, and how else when the service refuses that: another
//! model of the owner's list, another transcriber, no language hint.
//!
//! Each is asked for once in a call, since a choice only ever moves on. What the service has taken
//! in the end is remembered for later calls ([`Chosen`]).

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::refusals::Refused;
use crate::call::CallSettings;
use crate::call::service::session::{SessionSettings, first_session, session_with};
use crate::call::service::transcription::{Transcription, hint, transcriber, transcriptions};
use crate::net::dial::Target;

/// How long a second choice is made first. Then the owner's first one is asked for again: it costs
/// one refused connection a day, and a model that was missing for an hour is not given up for good.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// Where a model is asked for.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "the target holds the credential")]
pub struct Place {
    /// The model's name; empty for an agent.
    pub model: String,
    /// The service, with the model in the query.
    pub target: Rc<Target>,
}

/// All that the owner's settings allow.
#[allow(missing_debug_implementations, reason = "the targets hold the credential")]
pub struct Ways {
    /// The model that is asked for first.
    pub first: Place,
    /// The others, in the owner's order.
    pub others: Vec<Place>,
    /// What every session is to be; its model is the place's.
    pub wishes: SessionSettings,
    /// What does not depend on the choice. Its session is not looked at.
    pub call: CallSettings,
}

impl Ways {
    fn place(&self, model: usize) -> Option<&Place> {
        match model.checked_sub(1) {
            None => Some(&self.first),
            Some(other) => self.others.get(other),
        }
    }

    fn wishes_of(&self, place: &Place) -> SessionSettings {
        SessionSettings { model: place.model.clone(), ..self.wishes.clone() }
    }
}

/// One choice among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Choice {
    model: usize,
    transcription: usize,
    hinted: bool,
}

const FIRST: Choice = Choice { model: 0, transcription: 0, hinted: true };

/// One way to ask for a session.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "the target holds the credential")]
pub struct Way {
    settings: Rc<CallSettings>,
    target: Rc<Target>,
    choice: Choice,
    ways: Option<Rc<Ways>>,
}

impl Way {
    /// The only one.
    #[must_use]
    pub fn only(settings: CallSettings, target: Target) -> Self {
        let (settings, target) = (Rc::new(settings), Rc::new(target));
        Self { settings, target, choice: FIRST, ways: None }
    }

    /// The owner's first choice.
    #[must_use]
    pub fn first(ways: Ways) -> Self {
        let place = ways.first.clone();
        Self::of(&Rc::new(ways), &place, FIRST)
    }

    fn of(ways: &Rc<Ways>, place: &Place, choice: Choice) -> Self {
        let wishes = ways.wishes_of(place);
        let all = transcriptions(&wishes, &first_session(&wishes));
        let which = all.get(choice.transcription).copied().unwrap_or(Transcription::Off);
        let session = session_with(&wishes, which, choice.hinted);
        let settings = Rc::new(CallSettings { session, ..ways.call.clone() });
        let (target, ways) = (Rc::clone(&place.target), Some(Rc::clone(ways)));
        Self { settings, target, choice, ways }
    }

    /// The call's settings.
    #[must_use]
    pub fn settings(&self) -> &Rc<CallSettings> {
        &self.settings
    }

    /// The service.
    #[must_use]
    pub fn target(&self) -> &Rc<Target> {
        &self.target
    }

    /// The model's name; empty if it is not known here.
    #[must_use]
    pub fn model(&self) -> &str {
        let place = self.ways.as_ref().and_then(|ways| ways.place(self.choice.model));
        place.map_or("", |place| &place.model)
    }

    /// The next way when this one was refused so, and a clause that says what is done.
    #[must_use]
    pub fn instead(&self, refused: Refused) -> Option<(Self, String)> {
        let ways = self.ways.as_ref()?;
        let place = ways.place(self.choice.model)?;
        let model = &place.model;
        match refused {
            Refused::Model => {
                let choice =
                    Choice { model: self.choice.model + 1, transcription: 0, ..self.choice };
                let next = ways.place(choice.model)?;
                let clause =
                    format!("the model {model} is refused; {} is tried instead", next.model);
                Some((Self::of(ways, next, choice), clause))
            }
            Refused::Transcriber => {
                let transcription = self.choice.transcription + 1;
                let wishes = ways.wishes_of(place);
                let all = transcriptions(&wishes, &first_session(&wishes));
                let name = |which: &Transcription| transcriber(&wishes, *which).map(str::to_owned);
                let old = name(all.get(self.choice.transcription)?)?;
                let new = name(all.get(transcription)?);
                let new = new.map_or_else(
                    || "the call goes on without captions of what the user says".to_owned(),
                    |new| format!("{new} is tried instead"),
                );
                let choice = Choice { transcription, ..self.choice };
                let clause = format!("the transcriber {old} is refused for {model}; {new}");
                Some((Self::of(ways, place, choice), clause))
            }
            Refused::Language => {
                let wishes = ways.wishes_of(place);
                let all = transcriptions(&wishes, &first_session(&wishes));
                let name = transcriber(&wishes, *all.get(self.choice.transcription)?)?;
                let language = wishes.language.as_deref()?;
                let told = hint(name, language).filter(|_| self.choice.hinted)?;
                let choice = Choice { hinted: false, ..self.choice };
                let clause = format!("{name} is not told the language {told}, which is refused");
                Some((Self::of(ways, place, choice), clause))
            }
        }
    }

    /// The same wishes at the service of `old`, with its key and models.
    #[must_use]
    fn at(&self, old: &Self) -> Self {
        let (Some(ways), Some(old_ways)) = (&self.ways, &old.ways) else {
            return Self { target: Rc::clone(&old.target), ..self.clone() };
        };
        Self::first(Ways {
            first: old_ways.first.clone(),
            others: old_ways.others.clone(),
            wishes: ways.wishes.clone(),
            call: ways.call.clone(),
        })
    }
}

/// The way that new calls are made, and how long it stays so.
#[allow(missing_debug_implementations, reason = "the target holds the credential")]
pub struct Chosen {
    way: Way,
    /// When the first choice is made again; `None` while it is the first.
    until: Option<Instant>,
}

impl Chosen {
    /// The owner's first choice.
    #[must_use]
    pub fn new(way: Way) -> Self {
        Self { way, until: None }
    }

    /// For a new call.
    pub fn way(&mut self, now: Instant) -> Way {
        if self.until.is_some_and(|until| now >= until) {
            self.until = None;
            if let Some(ways) = self.way.ways.clone() {
                self.way = Way::of(&ways, &ways.first, FIRST);
            }
        }
        self.way.clone()
    }

    /// The service, of whichever model.
    #[must_use]
    pub fn target(&self) -> &Rc<Target> {
        &self.way.target
    }

    /// A call has come through by a second choice. True if that is news; a call by older settings
    /// has none.
    pub fn remember(&mut self, way: &Way, now: Instant) -> bool {
        let same = match (&self.way.ways, &way.ways) {
            (Some(ours), Some(theirs)) => Rc::ptr_eq(ours, theirs),
            _ => false,
        };
        let news = same && way.choice != FIRST && way.choice != self.way.choice;
        if news {
            (self.way, self.until) = (way.clone(), now.checked_add(REMEMBERED));
        }
        news
    }

    /// The same wishes at the service of `old`.
    #[must_use]
    pub fn at(&self, old: &Self) -> Self {
        Self::new(self.way.at(&old.way))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    fn place(model: &str) -> Place {
        let target = Target {
            host: "h".to_owned(),
            port: 1,
            request_target: format!("/?model={model}"),
            host_field: "h".to_owned(),
            credential: String::new(),
            tls: None,
        };
        Place { model: model.to_owned(), target: Rc::new(target) }
    }

    fn ways(models: &[&str], language: Option<&str>) -> Way {
        let mut places = models.iter().map(|model| place(model));
        let second = Duration::from_secs(1);
        Way::first(Ways {
            first: places.next().unwrap(),
            others: places.collect(),
            wishes: SessionSettings {
                model: String::new(),
                voice: "alloy".to_owned(),
                instructions: None,
                language: language.map(str::to_owned),
                tools: json!([]),
                overrides: Map::new(),
            },
            call: CallSettings {
                session: json!(null),
                greeting: None,
                idle: second,
                max_duration: second,
            },
        })
    }

    fn transcription(way: &Way) -> &serde_json::Value {
        &way.settings().session["input_audio_transcription"]
    }

    #[test]
    fn each_model_is_tried_once_with_its_own_transcriber() {
        let first = ways(&["gpt-realtime-2.1-mini", "gpt-realtime-mini"], None);
        assert_eq!(transcription(&first)["model"], "azure-speech");
        let (second, clause) = first.instead(Refused::Model).unwrap();
        assert_eq!(
            clause,
            "the model gpt-realtime-2.1-mini is refused; gpt-realtime-mini is tried instead"
        );
        assert_eq!(
            (second.model(), &*second.target().request_target),
            ("gpt-realtime-mini", "/?model=gpt-realtime-mini")
        );
        assert_eq!(transcription(&second)["model"], "whisper-1");
        assert!(second.instead(Refused::Model).is_none());
        assert!(ways(&["alone"], None).instead(Refused::Model).is_none());
    }

    #[test]
    fn each_transcriber_is_tried_once_and_then_none() {
        let first = ways(&["gpt-realtime"], Some("en-US"));
        assert_eq!(transcription(&first), &json!({"model": "whisper-1", "language": "en"}));
        let (second, _) = first.instead(Refused::Transcriber).unwrap();
        assert_eq!(transcription(&second), &json!({"model": "azure-speech", "language": "en-US"}));
        let (third, clause) = second.instead(Refused::Transcriber).unwrap();
        assert!(transcription(&third).is_null() && clause.contains("without captions"), "{clause}");
        assert!(third.instead(Refused::Transcriber).is_none());
        assert!(third.instead(Refused::Language).is_none());
    }

    #[test]
    fn a_language_is_left_out_once() {
        let first = ways(&["gpt-4.1"], Some("xx-XX"));
        let (second, clause) = first.instead(Refused::Language).unwrap();
        assert!(clause.contains("xx-XX"), "{clause}");
        assert_eq!(transcription(&second), &json!({"model": "azure-speech"}));
        assert!(second.instead(Refused::Language).is_none());
        assert!(ways(&["gpt-4.1"], None).instead(Refused::Language).is_none());
    }

    #[test]
    fn a_second_choice_is_remembered_for_a_day() {
        let start = Instant::now();
        let first = ways(&["a", "b"], None);
        let (second, _) = first.instead(Refused::Model).unwrap();
        let mut chosen = Chosen::new(first.clone());
        assert!(!chosen.remember(&first, start) && chosen.remember(&second, start));
        assert!(!chosen.remember(&second, start), "it is told once");
        assert_eq!(chosen.way(start + REMEMBERED - Duration::from_secs(1)).model(), "b");
        assert_eq!(chosen.way(start + REMEMBERED).model(), "a");
        assert!(chosen.remember(&second, start + REMEMBERED));
        // Settings that were read again are not overruled by what a call of the old ones found.
        let mut again = Chosen::new(ways(&["a", "b"], None));
        assert!(!again.remember(&second, start));
    }

    #[test]
    fn new_wishes_at_an_old_service_keep_its_models() {
        let old = Chosen::new(ways(&["a", "b"], None));
        let mut new = Chosen::new(ways(&["c"], Some("de"))).at(&old);
        let way = new.way(Instant::now());
        assert_eq!((way.model(), &*way.target().request_target), ("a", "/?model=a"));
        assert_eq!(transcription(&way)["language"], "de");
    }
}
