//! Misspelt names of settings: which setting a name is probably meant for.

use super::names::{AZURE_PREFIX, AZURE_SHORT_PREFIX, OWN_PREFIX, SHARED};
use super::{VARIABLES, Variable};

/// Whether this program reads a variable of this name, or the name can only be meant for it.
pub(super) fn is_ours(name: &str) -> bool {
    let prefixes = [OWN_PREFIX, AZURE_PREFIX, AZURE_SHORT_PREFIX];
    let shared = SHARED.iter().any(|(_, spellings)| spellings.contains(&name));
    shared || prefixes.iter().any(|prefix| name.starts_with(prefix)) || name == "VOICE_LIVE_MODEL"
}

/// The prefixes that people put before a setting's name, the longest first. Each product and each
/// sample of this family spells its prefix differently.
const FAMILY_PREFIXES: [&str; 9] = [
    "AZURE_VOICE_LIVED_",
    "AZURE_VOICE_LIVE_",
    "AZURE_VOICELIVED_",
    "AZURE_VOICELIVE_",
    "VOICE_LIVED_",
    "VOICE_LIVE_",
    "VOICELIVED_",
    "VOICELIVE_",
    "AZURE_",
];

/// The setting that a name without one of our prefixes is probably meant for. Either the name differs
/// by two typing slips at most, or it has another prefix of the family, such as `VOICE_LIVE_ENDPOINT`.
pub(super) fn near_miss(name: &str) -> Option<String> {
    let name = name.to_ascii_uppercase();
    if !name.contains("VOICE") {
        return None;
    }
    let known: Vec<String> = VARIABLES.iter().flat_map(Variable::spellings).collect();
    let rest = |name: &str| {
        let rest = FAMILY_PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
        rest.map(str::to_owned)
    };
    let same_rest = || {
        let wanted = rest(&name)?;
        known.iter().find(|other| rest(other).as_ref() == Some(&wanted))
    };
    nearest(&name, &known).or_else(same_rest).cloned()
}

/// The nearest known name, if it differs by at most two typing slips.
pub(super) fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    let close = known.iter().map(|other| (distance(name, other), other));
    let (slips, best) = close.min_by_key(|(slips, _)| *slips)?;
    (slips <= 2).then_some(best)
}

/// Levenshtein distance in bytes. A name of more than 64 bytes counts as far away, which bounds the
/// work.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_typing_slips() {
        let known = ["VOICELIVED_LISTEN".to_owned(), "VOICELIVED_LOG".to_owned()];
        assert_eq!(nearest("VOICELIVED_LISEN", &known), Some(&known[0]));
        assert_eq!(nearest("VOICELIVED_LGO", &known), Some(&known[1]));
        assert_eq!(nearest("VOICELIVED_FOO_BAR", &known), None);
        assert_eq!(nearest(&"X".repeat(100_000), &known), None);
    }

    #[test]
    fn names_with_a_wrong_prefix_are_recognised() {
        for (name, meant) in [
            ("VOICE_LIVE_MODELS", "VOICE_LIVE_MODEL"),
            ("VOICELIVE_LISTEN", "VOICELIVED_LISTEN"),
            ("VOICE_LIVED_LOG", "VOICELIVED_LOG"),
            ("VOICE_LIVE_ENDPOINT", "AZURE_VOICE_LIVE_ENDPOINT"),
            ("VOICELIVE_API_KEY", "AZURE_VOICE_LIVE_API_KEY"),
            ("voicelived_log", "VOICELIVED_LOG"),
        ] {
            assert_eq!(near_miss(name).as_deref(), Some(meant), "{name}");
        }
        for other in ["PATH", "VOICE", "VOICEMEETER_LOG", "AZURE_CLIENT_ID", "GOOGLE_VOICE_KEY"] {
            assert_eq!(near_miss(other), None, "{other}");
        }
    }
}
