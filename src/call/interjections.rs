//! Words that are no turn: what a listener says while another one speaks ("mhm"), by language.

/// Words that an interjection has at most: after more of them somebody wants to say something.
const MOST_WORDS: usize = 4;

/// The words of each language, in small letters, with every run of a letter written once ("hmmm" is "hm"). A word
/// that may be an answer or an order (yes, no, stop, wait) must not be here: it would be passed over.
const WORDS: [(&str, &str); 10] = [
    ("en", "ah aha eh er erm hm huh m mhm oh uh um wow yeah"),
    ("de", "ach ah aha äh ähm eh hm m mhm na oh öh soso tja uh"),
    ("fr", "ah aha bah ben euh eh hein hm m mhm oh ouais uh"),
    ("es", "ah aha ay eh em este hm m mhm oh uh uy"),
    ("pt", "ah aha ahn eh hm hum m mhm oh pois tá uh uhum"),
    ("it", "ah aha beh boh eh ehm hm m mah mhm oh uh"),
    ("nl", "ach ah aha eh ehm goh hm m mhm oh tja uh uhm"),
    ("pl", "ach ah aha e eh hm m mhm no och oh y yhm"),
    ("ja", "あ あの うん うんうん え えっと えー へえ ふん ふーん ほう"),
    ("zh", "呃 哎 哦 唔 啊 喔 嗯 噢"),
];

/// Whether these words of the user are something to answer. `language` as the transcriber was told it (`en-US`,
/// or several such as `en,de`); empty, or one that has no list, for all lists.
pub(super) fn is_turn(text: &str, language: &str) -> bool {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == 'ー';
    let mut words = text.split(|letter| !is_word(letter)).filter(|word| !word.is_empty());
    words.by_ref().take(MOST_WORDS).any(|word| !is_listed(&plain(word), language))
        || words.next().is_some()
}

/// In small letters, each run of a letter written once.
fn plain(word: &str) -> String {
    let mut plain = String::with_capacity(word.len());
    for letter in word.chars().flat_map(char::to_lowercase) {
        if !plain.ends_with(letter) {
            plain.push(letter);
        }
    }
    plain
}

fn is_listed(word: &str, language: &str) -> bool {
    let spoken = |tag: &str| language.split(',').any(|spoken| spoken.trim().starts_with(tag));
    let known = WORDS.iter().any(|(tag, _)| spoken(tag));
    let lists = WORDS.iter().filter(|(tag, _)| !known || spoken(tag));
    lists.into_iter().any(|(_, list)| list.split(' ').any(|listed| plain(listed) == word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interjections_and_nothing_are_no_turn() {
        for text in ["", " ", "...", "Hmmm.", "Mm-hmm.", "Uh, huh!", "Yeah yeah", "えーと"] {
            assert_eq!(is_turn(text, ""), text == "えーと", "{text}");
        }
        for (text, language) in
            [("Ähm…", "de-DE"), ("Ouais, ouais.", "fr"), ("うん、うん。", "ja"), ("嗯嗯", "zh-CN")]
        {
            assert!(!is_turn(text, language), "{text}");
        }
    }

    #[test]
    fn answers_and_orders_are_turns() {
        for text in ["Stop!", "No", "Yes.", "Wait", "Yeah, but why?", "ah ah ah ah ah", "7"] {
            assert!(is_turn(text, "en"), "{text}");
        }
    }

    #[test]
    fn a_language_has_its_own_words() {
        assert!(!is_turn("No", "pl") && is_turn("No", "en") && !is_turn("Tja", "en,nl"));
        assert!(!is_turn("Tja", "sv") && !is_turn("Tja", ""), "of no list, so of any");
    }

    /// The lists are compared with words whose runs are written once.
    #[test]
    fn no_word_is_there_twice() {
        for (language, list) in WORDS {
            let mut words: Vec<String> = list.split(' ').map(plain).collect();
            words.sort();
            let count = words.len();
            words.dedup();
            assert_eq!(words.len(), count, "{language}");
        }
    }
}
