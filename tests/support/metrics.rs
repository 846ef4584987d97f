//! What `/metrics` says, asked by plain HTTP.

use std::net::SocketAddr;

use super::daemon::Daemon;
use super::http::ask;

/// The whole text.
pub(crate) fn scrape(address: SocketAddr) -> String {
    let answer = ask(address, "GET /metrics", "");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text().to_owned()
}

/// The number of a series in `text`: `voicelived_` and `name`, its label's word or none.
pub(crate) fn value(text: &str, name: &str, word: &str) -> f64 {
    number(text, name, word).parse().expect("a number")
}

fn number<'a>(text: &'a str, name: &str, word: &str) -> &'a str {
    let mut lines = text.lines().filter_map(|line| {
        let (series, number) = line.strip_prefix("voicelived_")?.rsplit_once(' ')?;
        let (family, labels) = series.split_once('{').unwrap_or((series, ""));
        (family == name && labels.split('"').nth(1).unwrap_or_default() == word).then_some(number)
    });
    let number = lines.next().unwrap_or_else(|| panic!("there is no {name} {word} in {text}"));
    assert_eq!(lines.next(), None, "{name} {word} is there twice");
    number
}

/// The whole number of a series now.
pub(crate) fn count(address: SocketAddr, name: &str, word: &str) -> u64 {
    let text = scrape(address);
    let whole = number(&text, name, word).split('.').next();
    whole.and_then(|whole| whole.parse().ok()).expect("a number")
}

impl Daemon {
    /// The number of a series now.
    pub(crate) fn count(&self, name: &str, word: &str) -> u64 {
        count(self.address, name, word)
    }

    /// Asserts that this was counted so often since the start. It waits a moment, because a client
    /// that has read the last byte may ask before the daemon has counted the end.
    pub(crate) fn assert_counted(&self, name: &str, word: &str, times: u64) {
        let mut found = 0;
        self.wait_until(&format!("{name} {word} is {times}"), |daemon| {
            found = daemon.count(name, word);
            found >= times
        });
        assert_eq!(found, times, "{name} {word}");
    }
}
