//! The table of the service's models and transcribers. It is dated, and each row has its source. It
//! decides defaults and what `check` reports. A model that is not in the table works too.
//!
//! Names are those of Voice Live's `model` parameter. The service may report another name for the same
//! model.

/// The day on which the rows were last compared with their sources.
pub const KNOWN_AT: &str = "2026-11-27";

/// The models that a call asks for, in this order, if the owner names none.
pub const DEFAULT_MODELS: &str = "gpt-realtime-2.1-mini,gpt-realtime-mini";

/// The voice that a call asks for if the owner names none, where the model takes it.
pub const DEFAULT_VOICE: &str = "en-US-Ava:DragonHDLatestNeural";

/// The voice for models that accept only their own voices (`azure-realtime`).
pub const DEFAULT_AZURE_NATIVE_VOICE: &str = "ava";

/// Voices that belong to OpenAI's models rather than to Azure speech.
pub const OPENAI_VOICES: [&str; 10] =
    ["alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"];

/// Voices of `azure-realtime` alone.
pub const AZURE_NATIVE_VOICES: [&str; 12] = [
    "aarti",
    "andrew",
    "ava",
    "denise",
    "diya",
    "elsa",
    "florian",
    "francisca",
    "meera",
    "xiaoxiao",
    "yunxi",
    "ximena",
];

/// How a model hears and speaks. The voices that it refuses follow from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One of OpenAI's realtime models. It hears audio, and speaks with OpenAI's or Azure's voices.
    Native,
    /// A text model behind Azure's speech recognition and before Azure's voices. It refuses OpenAI's
    /// voices.
    Cascade,
    /// Azure's own realtime model. It refuses all voices but its own.
    AzureNative,
}

/// The end of a model (its retirement), as one publication gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The date, as YYYY-MM-DD.
    pub date: &'static str,
    /// The publisher.
    pub by: &'static str,
}

/// A row of the table of models.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    /// The models of this row.
    pub names: &'static [&'static str],
    /// How they hear and speak.
    pub kind: Kind,
    /// The voice that a session gets if it names none.
    pub voice: &'static str,
    /// The published ends. If publications differ, all of them are here.
    pub ends: &'static [End],
    /// Where the ends are published, and on which day.
    pub source: &'static str,
}

/// A row of the table of transcribers.
#[derive(Debug, Clone, Copy)]
pub struct TranscriberEnd {
    /// The transcriber's name.
    pub name: &'static str,
    /// The published ends.
    pub ends: &'static [End],
    /// Where they are published, and on which day.
    pub source: &'static str,
}

const fn end(date: &'static str, by: &'static str) -> End {
    End { date, by }
}

const AZURE: &str = "Azure";
const AZURE_TOO: &str = "another row of Azure";
const OPENAI: &str = "OpenAI";

/// Azure's retirement schedule (page concepts-model-retirement-schedule) of 2026-07-07, and Azure's list of
/// models (`az cognitiveservices model list`) as others reported it on 2026-09-17.
const AZURE_SCHEDULE: &str = "Azure's retirement schedule of 2026-07-07 and list of 2026-09-17";
const BOTH: &str = "Azure's retirement schedule of 2026-07-07 and list of 2026-09-17, OpenAI's \
                    deprecations of 2026-08-26";
/// Voice Live's page of models, which has no ends.
const NO_END: &str = "Voice Live's list of models of 2026-09-29";

/// Every model of Voice Live's page, and `gpt-realtime-2`, which the service was seen to accept.
pub static MODELS: &[Model] = &[
    Model {
        names: &["gpt-realtime-mini"],
        kind: Kind::Native,
        voice: "alloy",
        ends: &[end("2026-12-15", AZURE), end("2027-06-15", AZURE_TOO), end("2027-01-20", OPENAI)],
        source: BOTH,
    },
    Model {
        names: &["gpt-realtime"],
        kind: Kind::Native,
        voice: "alloy",
        ends: &[end("2027-02-28", AZURE), end("2027-03-02", AZURE_TOO), end("2027-01-20", OPENAI)],
        source: BOTH,
    },
    Model {
        names: &["gpt-realtime-1.5"],
        kind: Kind::Native,
        voice: "alloy",
        ends: &[end("2027-02-23", AZURE), end("2027-08-24", AZURE_TOO)],
        source: AZURE_SCHEDULE,
    },
    Model {
        names: &["gpt-realtime-2"],
        kind: Kind::Native,
        voice: "marin",
        ends: &[end("2026-10-31", AZURE), end("2027-05-06", AZURE_TOO)],
        source: AZURE_SCHEDULE,
    },
    Model {
        names: &["gpt-realtime-2.1", "gpt-realtime-2.1-mini"],
        kind: Kind::Native,
        voice: "marin",
        ends: &[end("2027-06-25", AZURE), end("2027-07-31", AZURE_TOO)],
        source: AZURE_SCHEDULE,
    },
    Model {
        names: &["gpt-4o", "gpt-4o-mini"],
        kind: Kind::Cascade,
        voice: "en-US-AvaNeural",
        ends: &[end("2026-10-01", AZURE)],
        source: AZURE_SCHEDULE,
    },
    Model {
        names: &["gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano"],
        kind: Kind::Cascade,
        voice: "en-US-AvaNeural",
        ends: &[end("2026-10-14", AZURE)],
        source: AZURE_SCHEDULE,
    },
    Model {
        names: &[
            "gpt-5",
            "gpt-5-mini",
            "gpt-5-nano",
            "gpt-5.1",
            "gpt-5.2",
            "gpt-5.4",
            "gpt-5.6-terra",
            "gpt-5.6-luna",
            "phi4-mm-realtime",
        ],
        kind: Kind::Cascade,
        voice: "en-US-AvaNeural",
        ends: &[],
        source: NO_END,
    },
    Model {
        names: &["azure-realtime"],
        kind: Kind::AzureNative,
        voice: DEFAULT_AZURE_NATIVE_VOICE,
        ends: &[],
        source: NO_END,
    },
];

/// Transcribers that have a published end. Azure calls `whisper-1` `whisper`, version 001.
pub static TRANSCRIBERS: &[TranscriberEnd] = &[
    TranscriberEnd {
        name: WHISPER,
        ends: &[end("2026-12-15", AZURE), end("2027-02-26", OPENAI)],
        source: BOTH,
    },
    TranscriberEnd {
        name: "gpt-4o-transcribe",
        ends: &[end("2026-10-15", AZURE), end("2027-02-26", OPENAI)],
        source: BOTH,
    },
    TranscriberEnd {
        name: "gpt-4o-transcribe-diarize",
        ends: &[end("2026-10-15", AZURE), end("2027-02-26", OPENAI)],
        source: BOTH,
    },
    TranscriberEnd {
        name: "gpt-4o-mini-transcribe",
        ends: &[end("2026-12-15", AZURE), end("2026-10-15", AZURE_TOO), end("2027-02-26", OPENAI)],
        source: BOTH,
    },
];

/// OpenAI's transcriber.
pub const WHISPER: &str = "whisper-1";
/// Azure's transcriber.
pub const AZURE_SPEECH: &str = "azure-speech";
/// The newest of Microsoft's transcribers, which all models take (reference of 2026-07-15, read 2026-09-24).
/// Nothing is known of a detection of turns that it would need.
pub const MAI_TRANSCRIBE: &str = "mai-transcribe";

/// The row of a model. The name may end in the deployment's kind (`-datazone`) or in a version's date.
#[must_use]
pub fn find(name: &str) -> Option<&'static Model> {
    let plain = family_name(name);
    MODELS.iter().find(|model| model.names.contains(&plain))
}

/// How a model hears and speaks. A model that is not in the table is judged by the start of its name;
/// one that has no known start counts as a text model.
#[must_use]
pub fn kind(name: &str) -> Kind {
    known_kind(name).unwrap_or(Kind::Cascade)
}

/// The same, but `None` for a name that says nothing, such as a deployment's.
#[must_use]
pub fn known_kind(name: &str) -> Option<Kind> {
    if let Some(model) = find(name) {
        return Some(model.kind);
    }
    let families = [
        ("gpt-realtime", Kind::Native),
        ("gpt-4o-realtime", Kind::Native),
        ("gpt-4o-mini-realtime", Kind::Native),
        ("azure-realtime", Kind::AzureNative),
        ("gpt-4o", Kind::Cascade),
        ("gpt-4.1", Kind::Cascade),
        ("gpt-5", Kind::Cascade),
        ("phi4", Kind::Cascade),
    ];
    families.iter().find(|(start, _)| name.starts_with(start)).map(|(_, kind)| *kind)
}

/// Whether `whisper-1` transcribes the user's speech for this model if the owner sets no transcriber. True
/// for two exact names only. The service's page (reference of 2026-07-15, read 2026-09-24) names
/// `azure-speech` for all other models and for agents. The page does not list `-datazone` and dated names.
/// For them `azure-speech` is the safe choice, because the service was seen to accept it for
/// `gpt-realtime` too.
#[must_use]
pub fn takes_whisper(name: &str) -> bool {
    ["gpt-realtime", "gpt-realtime-mini"].contains(&name)
}

/// Whether a transcriber is one of OpenAI's. These take one language of two letters (ISO 639-1). Azure's
/// take up to ten BCP 47 tags.
#[must_use]
pub fn is_openai_transcriber(name: &str) -> bool {
    name.starts_with("whisper") || name.starts_with("gpt-")
}

/// A text about the published end of a model, with the day of that knowledge.
#[must_use]
pub fn published_end(name: &str) -> String {
    match find(name) {
        Some(model) => told_end(name, model.ends, model.source),
        None => format!("{name}: not in this program's table of {KNOWN_AT}"),
    }
}

/// The same for a transcriber; `None` if it is not in the table.
#[must_use]
pub fn transcriber_end(name: &str) -> Option<String> {
    let row = TRANSCRIBERS.iter().find(|row| row.name == name)?;
    Some(told_end(name, row.ends, row.source))
}

fn told_end(name: &str, ends: &[End], source: &str) -> String {
    let dates: Vec<String> = ends.iter().map(|end| format!("{} ({})", end.date, end.by)).collect();
    let dates = match dates.is_empty() {
        true => "none".to_owned(),
        false => dates.join(", "),
    };
    format!("{name}: published end {dates}; known on {KNOWN_AT} from {source}")
}

/// A model's name without `-datazone`, `-global-standard` or a version's date at its end.
fn family_name(name: &str) -> &str {
    let plain = ["-datazone", "-global-standard"].iter().find_map(|end| name.strip_suffix(end));
    let plain = plain.unwrap_or(name);
    let is_date = |text: &str| {
        text.len() == 11
            && text.bytes().enumerate().all(|(at, byte)| match at {
                0 | 5 | 8 => byte == b'-',
                _ => byte.is_ascii_digit(),
            })
    };
    match plain.len().checked_sub(11).and_then(|at| plain.split_at_checked(at)) {
        Some((family, date)) if is_date(date) => family,
        _ => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_family() {
        let family = |name| find(name).map(|model| model.names[0]);
        for (name, expected) in [
            ("gpt-realtime-mini", Some("gpt-realtime-mini")),
            ("gpt-realtime-mini-2025-12-15", Some("gpt-realtime-mini")),
            ("gpt-realtime-2-global-standard", Some("gpt-realtime-2")),
            ("gpt-realtime-2.1-datazone", Some("gpt-realtime-2.1")),
            ("gpt-realtime-2.1-mini", Some("gpt-realtime-2.1")),
            ("gpt-4.1-2025-04-14", Some("gpt-4.1")),
            ("gpt-realtime-3", None),
            ("größe-2025-12-1", None),
            ("", None),
        ] {
            assert_eq!(family(name), expected, "{name}");
        }
        assert_eq!(kind("gpt-realtime-3"), Kind::Native);
        assert_eq!(kind("azure-realtime-next"), Kind::AzureNative);
        assert_eq!((kind("my-deployment"), kind("")), (Kind::Cascade, Kind::Cascade));
        assert_eq!((known_kind("my-deployment"), known_kind("")), (None, None));
        assert_eq!(known_kind("phi4-mini"), Some(Kind::Cascade));
        assert_eq!(known_kind("gpt-4o-mini-realtime-preview"), Some(Kind::Native));
    }

    #[test]
    fn whisper_is_for_two_names_alone() {
        assert!(takes_whisper("gpt-realtime") && takes_whisper("gpt-realtime-mini"));
        for name in [
            "gpt-realtime-datazone",
            "gpt-realtime-mini-2025-12-15",
            "gpt-realtime-1.5",
            "gpt-realtime-2.1-mini",
            "gpt-4.1",
            "azure-realtime",
            "",
        ] {
            assert!(!takes_whisper(name), "{name}");
        }
    }

    #[test]
    fn every_end_is_a_date_and_rows_that_differ_are_both_told() {
        let all = MODELS.iter().flat_map(|row| row.ends);
        for end in all.chain(TRANSCRIBERS.iter().flat_map(|row| row.ends)) {
            assert!(end.date.starts_with("202") && end.date.len() == 10, "{end:?}");
        }
        let told = published_end("gpt-realtime-mini");
        for part in ["2026-12-15", "2027-06-15", "2027-01-20", KNOWN_AT, "2026-07-07"] {
            assert!(told.contains(part), "{told}");
        }
        assert!(published_end("azure-realtime").contains("published end none"));
        assert!(published_end("other").contains("not in this program's table"));
        assert!(transcriber_end(WHISPER).is_some_and(|told| told.contains("2026-12-15")));
        assert_eq!(transcriber_end(AZURE_SPEECH), None);
    }

    #[test]
    fn the_default_models_are_in_the_table() {
        assert!(DEFAULT_MODELS.split(',').all(|name| find(name).is_some()));
    }
}
