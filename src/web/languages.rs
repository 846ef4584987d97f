//! The language of the page that explains how to trust the certificate. A device may read it before it can use HTTPS.
//! So it needs no script, and the daemon chooses.

use super::assets::{self, Asset};

/// How many of a visitor's languages are looked at.
const MOST: usize = 16;

/// `/trust` in the first language of an `Accept-Language` (RFC 9110, section 12.5.4) that there is, else in English.
/// Browsers name the best one first, so weights do not count, but for a zero.
pub(super) fn trust_page(accepted: &str) -> Option<&'static Asset> {
    for range in accepted.split(',').take(MOST) {
        let (tag, weight) = range.split_once(';').unwrap_or((range, ""));
        let language = tag.trim().split('-').next().unwrap_or_default().to_ascii_lowercase();
        if is_zero(weight) {
            continue;
        }
        if language == "en" {
            break;
        }
        if let Some(page) = assets::find(&format!("/trust.{language}.html")) {
            return Some(page);
        }
    }
    assets::find("/trust.html")
}

/// Whether a weight, such as `q=0.5`, is zero: the visitor does not want the language.
fn is_zero(weight: &str) -> bool {
    let value = weight.trim().strip_prefix("q=").unwrap_or("1");
    value.chars().all(|digit| matches!(digit, '0' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_language_that_there_is_counts_by_its_main_part() {
        for (accepted, path) in [
            ("", "/trust.html"),
            ("de-AT,de;q=0.9,en;q=0.8", "/trust.de.html"),
            ("sv, PT-br;q=0.5", "/trust.pt.html"),
            ("en-GB, de", "/trust.html"),
            ("de;q=0, fr; q=0.3", "/trust.fr.html"),
            ("de;q=0.000", "/trust.html"),
            ("*", "/trust.html"),
            (",;,-,../words,;q=", "/trust.html"),
        ] {
            assert_eq!(trust_page(accepted).map(|page| page.path), Some(path), "{accepted}");
        }
        let many = format!("{}de", "sv,".repeat(MOST));
        assert_eq!(trust_page(&many).map(|page| page.path), Some("/trust.html"));
    }
}
