//! Every counter, and the text of `GET /metrics` (Prometheus' text format 0.0.4).
//!
//! The loop owns one [`Metrics`] and lends it for a turn. An event is counted where it is decided. The
//! counters are plain numbers without locks or atomics, and only the text is allocated.
//!
//! All label values are fixed here. Nothing that a peer sends ever becomes one. So the number of series
//! never grows, their text stays below [`MAX_TEXT`], and no value needs escaping.
//!
//! `docs/metrics.md` explains each name; `tests/metrics.rs` holds the two together.

use std::fmt::Write;
use std::time::Duration;

/// The bound of the text, in bytes. It is allocated once per scrape.
pub const MAX_TEXT: usize = 24 * 1024;

/// The most values of a label.
const MAX_WORDS: usize = 40;

/// One line for each family: its name (without `voicelived_`), its label, the label's values, its help. A
/// name that ends in `_total` is a counter, any other a gauge. Values of `_seconds` are kept in
/// nanoseconds.
macro_rules! families {
    ($($family:ident: $name:literal, $label:literal, $words:expr, $help:literal;)*) => {
        /// The metric families. A family has one number, or one for each value of its label.
        #[derive(Debug, Clone, Copy)]
        pub enum Family { $(#[doc = $help] $family),* }

        /// One string for each family. A table with a field for each part would take more bytes for its
        /// addresses than for its text.
        const FAMILIES: &[&str] = &[$(concat!($name, "|", $label, "|", $words, "|", $help)),*];
    };
}

families! {
    Build: "build_info", "version", env!("CARGO_PKG_VERSION"), "This program.";
    Accepted: "connections_accepted_total", "", "", "Connections accepted.";
    Dropped: "connections_dropped_total", "reason",
        "evicted no_place no_descriptor setup_failed idle slow_reader tls_failed tls_timeout",
        "Connections closed without an answer to a request.";
    Paused: "accept_pauses_total", "reason", "no_descriptor handshake_limit",
        "Times that accepting paused while connections waited.";
    Answers: "http_responses_total", "code",
        "101 200 204 304 307 308 400 401 403 404 405 408 413 414 421 426 429 431 503 505",
        "Answers to requests.";
    Refused: "access_refused_total", "reason",
        "host origin token_missing token_wrong throttled draining",
        "Requests refused by access rules, or because the daemon stops.";
    Calls: "calls_started_total", "", "", "Calls that began.";
    TurnedAway: "calls_turned_away_total", "reason",
        "full address_limit daily_limit access_changed not_configured no_assistant pool internal resume_refused \
         resume_late",
        "Calls that were refused after the WebSocket had opened.";
    Ended: "calls_ended_total", "reason",
        "hang_up goodbye client_lost idle time_limit session_expired stopping bad_text too_big \
         bad_protocol client_stalled flood access_changed refused daily_limit internal unreachable tls \
         bad_answer bad_request unauthorized forbidden not_found quota redirect service_trouble \
         service_timeout session_refused service_error service_closed service_lost \
         service_protocol proxy sign_in resume_late",
        "Calls that ended, by the reason that the client and the log get.";
    Holds: "calls_held_total", "outcome", "resumed replaced ended",
        "Broken connections of clients: the call was taken up again, was taken up before the break was \
         known, or ended first.";
    WithoutClient: "without_client_seconds_total", "", "",
        "Time that calls were held for clients that were away.";
    Microphone: "microphone_bytes_total", "", "", "Microphone audio that came from clients.";
    MicrophoneDropped: "microphone_dropped_bytes_total", "", "",
        "Microphone audio dropped because the service was behind.";
    Reply: "reply_bytes_total", "", "", "Reply audio sent to clients.";
    Backpressure: "reply_stalls_total", "", "",
        "Times that a service was not read because its client was behind and no block was free.";
    Unsent: "service_messages_dropped_total", "", "",
        "Messages dropped because the service did not take them.";
    Connects: "service_connects_total", "outcome", "ok failed unresolved",
        "Attempts to reach the service.";
    Outages: "service_outages_total", "cause",
        "unreachable quota service_trouble service_timeout service_error service_closed service_lost \
         session_expired other",
        "Sessions of the service that were lost in a running call.";
    Reconnects: "service_reconnects_total", "", "", "Lost sessions that were followed by another one.";
    Rollovers: "service_rollovers_total", "", "",
        "Sessions of the service that were followed by a prepared one, without an outage.";
    WithoutService: "without_service_seconds_total", "", "",
        "Time that running calls were without a session of the service.";
    ItemsReplayed: "items_replayed_total", "", "",
        "Items of conversations that were sent again to a new session.";
    ItemsRefused: "items_refused_total", "", "", "Items sent again that the service refused.";
    PassedOver: "messages_passed_over_total", "side", "client service",
        "Messages that meant nothing and were passed over.";
    HalfSamples: "half_samples_dropped_total", "side", "client service",
        "Bytes of audio dropped because their sound ended with half a sample.";
    ServiceErrors: "service_errors_total", "code",
        "conversation_already_has_active_response ec_not_supported input_audio_buffer_commit_empty \
         insufficient_quota invalid_request_error invalid_value item_already_truncated \
         missing_required_parameter rate_limit_exceeded response_cancel_not_active server_error \
         session_expired unknown_parameter other",
        "Errors that the service has reported.";
    Unfinished: "responses_unfinished_total", "reason",
        "max_output_tokens content_filter incomplete failed silent cancel_unanswered superseded \
         not_created",
        "Responses that did not end as they should; interrupted ones are not among them.";
    LateAnswers: "late_answers_total", "", "",
        "Answers whose first sound came after 3 s or more, no tool among their causes.";
    InputTokens: "input_tokens_total", "", "", "Tokens that the service has read.";
    OutputTokens: "output_tokens_total", "", "", "Tokens that the service has written.";
    TranscriptsFailed: "transcripts_failed_total", "", "",
        "Turns of which the service has no transcript.";
    SignIns: "sign_ins_total", "outcome", "ok failed refused",
        "Tokens of Entra ID: fetched, not fetched, and refused by the service.";
    Tools: "tool_runs_total", "outcome", "ok failed refused not_started abandoned",
        "Tool runs that the model asked for.";
    Confirms: "confirms_total", "outcome", "allowed refused expired withdrawn unasked stray",
        "Questions to users before a tool runs, and answers to none.";
    McpServers: "mcp_servers", "", "", "MCP servers of the file that can be used.";
    McpReady: "mcp_servers_ready", "", "", "Those of them whose tools can be called now.";
    McpTools: "mcp_tools", "", "", "Tools of MCP servers that new calls are offered.";
    McpFailures: "mcp_failures_total", "", "",
        "Times that an MCP server could not be started, ended, or was ended for a fault.";
    LogLost: "log_lines_lost_total", "", "", "Log lines that standard error did not take.";
    Active: "calls_active", "", "", "Calls now.";
    Open: "connections_open", "", "", "Connections now, calls among them.";
    Blocks: "pcm_blocks", "", "", "Audio blocks of 20 ms in the pool.";
    BlocksFree: "pcm_blocks_free", "", "", "Blocks that are neither used nor promised to a call.";
    UsedToday: "used_today_seconds", "", "", "Time of calls today, for the spending guard.";
    Longest: "loop_turn_longest_seconds", "", "", "Longest turn since the last scrape.";
}

/// Upper bounds of the histogram of turns, in nanoseconds: 100 µs to 1 s.
const TURNS: [u64; 9] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
];

/// Upper bounds of the histogram of first audio, in nanoseconds: 0.1 s to 10 s.
const FIRST_AUDIO: [u64; 9] = [
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    1_500_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Upper bounds of the histogram of what is heard, in nanoseconds: 10 ms to 5 s.
const FIRST_HEARD: [u64; 9] = [
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    150_000_000,
    250_000_000,
    500_000_000,
    5_000_000_000,
];

/// All counters, gauges and histograms.
#[derive(Debug)]
pub struct Metrics {
    counts: [[u64; MAX_WORDS]; FAMILIES.len()],
    turns: Histogram,
    first_audio: Histogram,
    first_heard: Histogram,
}

impl Metrics {
    /// Metrics that are all zero but for `build_info`.
    #[must_use]
    pub fn new() -> Self {
        let counts = [[0; MAX_WORDS]; FAMILIES.len()];
        let (turns, first_audio) = (Histogram::new(&TURNS), Histogram::new(&FIRST_AUDIO));
        let first_heard = Histogram::new(&FIRST_HEARD);
        let mut metrics = Self { counts, turns, first_audio, first_heard };
        metrics.set(Family::Build, 1);
        metrics
    }

    /// Adds 1 to the counter with this label value. A value that the family does not have is a mistake
    /// in the code; a release program then counts nothing.
    pub fn count(&mut self, family: Family, word: &str) {
        let [_, _, words, _] = parts(family as usize);
        let at = words.split(' ').position(|known| known == word);
        debug_assert!(at.is_some(), "{family:?} has no word {word}");
        if let Some(count) = at.and_then(|at| self.counts[family as usize].get_mut(at)) {
            *count += 1;
        }
    }

    /// As [`count`](Self::count), for a word of a peer: one that the family does not have counts as its
    /// word `other`, so no peer can add a series.
    pub fn count_known(&mut self, family: Family, word: &str) {
        let [_, _, words, _] = parts(family as usize);
        let known = words.split(' ').any(|known| known == word);
        self.count(family, if known { word } else { "other" });
    }

    /// Adds to the counter of a family without a label.
    pub fn add(&mut self, family: Family, more: u64) {
        self.counts[family as usize][0] += more;
    }

    /// Sets a family without a label: a gauge, or a counter that another module keeps.
    pub fn set(&mut self, family: Family, value: u64) {
        self.counts[family as usize][0] = value;
    }

    /// Records the length of a turn of the loop.
    pub fn turn(&mut self, took: Duration) {
        let took = nanos(took);
        self.turns.observe(took);
        let longest = &mut self.counts[Family::Longest as usize][0];
        *longest = took.max(*longest);
    }

    /// Records how long a user waited for the first sound of an answer.
    pub fn first_audio(&mut self, waited: Duration) {
        self.first_audio.observe(nanos(waited));
    }

    /// Records how long after it had left the first sound of an answer was heard, as the client says.
    pub fn first_heard(&mut self, after: Duration) {
        self.first_heard.observe(nanos(after));
    }

    /// The number of a family, over all values of its label.
    #[must_use]
    pub fn total(&self, family: Family) -> u64 {
        self.counts[family as usize].iter().sum()
    }

    /// The text of `GET /metrics`. It also resets the longest turn, which is measured from scrape to
    /// scrape.
    #[must_use]
    pub fn render(&mut self) -> String {
        let (calls, ended) = (self.total(Family::Calls), self.total(Family::Ended));
        self.set(Family::Active, calls.saturating_sub(ended));
        let mut out = String::with_capacity(MAX_TEXT);
        for (at, counts) in self.counts.iter().enumerate() {
            let [name, label, words, help] = parts(at);
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            head(&mut out, name, kind, help);
            for (word, count) in words.split(' ').zip(counts) {
                sample(&mut out, (name, ""), (label, word), *count, name.contains("_seconds"));
            }
        }
        self.turns.render(&mut out, "loop_turn_seconds", "Length of the loop's turns.");
        let help = "From the end of a user's turn to the first sound of the answer.";
        self.first_audio.render(&mut out, "first_audio_seconds", help);
        let help = "From there until the client says that it plays.";
        self.first_heard.render(&mut out, "first_heard_seconds", help);
        self.set(Family::Longest, 0);
        out
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Name, label, words and help of a family.
fn parts(at: usize) -> [&'static str; 4] {
    let mut parts = FAMILIES.get(at).copied().unwrap_or_default().split('|');
    [(); 4].map(|()| parts.next().unwrap_or_default())
}

/// A duration in nanoseconds, the unit in which `_seconds` are kept. At most 584 years.
#[must_use]
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Displays nanoseconds as seconds.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    for part in
        ["# HELP voicelived_", name, " ", help, "\n# TYPE voicelived_", name, " ", kind, "\n"]
    {
        out.push_str(part);
    }
}

fn sample(
    out: &mut String,
    (name, suffix): (&str, &str),
    (label, word): (&str, &str),
    value: u64,
    nanos: bool,
) {
    for part in ["voicelived_", name, suffix] {
        out.push_str(part);
    }
    if !label.is_empty() {
        for part in ["{", label, "=\"", word, "\"}"] {
            out.push_str(part);
        }
    }
    let _ = if nanos { writeln!(out, " {}", Seconds(value)) } else { writeln!(out, " {value}") };
}

/// A histogram with nine upper bounds, in nanoseconds.
#[derive(Debug)]
struct Histogram {
    bounds: &'static [u64; 9],
    /// For each bound, the values up to it and above the bound before. The last counts the values above
    /// all bounds.
    counts: [u64; 10],
    sum: u64,
}

impl Histogram {
    const fn new(bounds: &'static [u64; 9]) -> Self {
        Self { bounds, counts: [0; 10], sum: 0 }
    }

    fn observe(&mut self, nanos: u64) {
        let at = self.bounds.iter().position(|bound| nanos <= *bound);
        self.counts[at.unwrap_or(9)] += 1;
        self.sum = self.sum.saturating_add(nanos);
    }

    fn render(&self, out: &mut String, name: &str, help: &str) {
        head(out, name, "histogram", help);
        let mut total = 0;
        for (count, bound) in self.counts.iter().zip(self.bounds) {
            total += count;
            let bound = Seconds(*bound).to_string();
            let bound = bound.trim_end_matches('0').trim_end_matches('.');
            sample(out, (name, "_bucket"), ("le", bound), total, false);
        }
        total += self.counts[9];
        sample(out, (name, "_bucket"), ("le", "+Inf"), total, false);
        sample(out, (name, "_sum"), ("", ""), self.sum, true);
        sample(out, (name, "_count"), ("", ""), total, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, series: &str) -> String {
        let line =
            text.lines().find_map(|line| line.strip_prefix(&format!("voicelived_{series} ")));
        line.unwrap_or_else(|| panic!("{series} is not in {text}")).to_owned()
    }

    #[test]
    fn what_is_counted_is_told() {
        let mut metrics = Metrics::new();
        metrics.count(Family::Dropped, "tls_timeout");
        metrics.count(Family::Dropped, "tls_timeout");
        metrics.add(Family::Reply, 960);
        metrics.add(Family::Calls, 2);
        metrics.count(Family::Ended, "service_protocol");
        metrics.set(Family::LogLost, 7);
        metrics.set(Family::UsedToday, 1_500_000_000);
        let text = metrics.render();
        for (series, wanted) in [
            ("connections_dropped_total{reason=\"tls_timeout\"}", "2"),
            ("connections_dropped_total{reason=\"evicted\"}", "0"),
            ("reply_bytes_total", "960"),
            ("calls_active", "1"),
            ("log_lines_lost_total", "7"),
            ("used_today_seconds", "1.500000000"),
        ] {
            assert_eq!(value(&text, series), wanted, "{series}");
        }
    }

    #[test]
    fn a_histogram_is_cumulative_and_its_bounds_are_inclusive() {
        let mut metrics = Metrics::new();
        for micros in [99, 100, 101, 2_000_000] {
            metrics.turn(Duration::from_micros(micros));
        }
        let text = metrics.render();
        for (series, wanted) in [
            ("loop_turn_seconds_bucket{le=\"0.0001\"}", "2"),
            ("loop_turn_seconds_bucket{le=\"0.00025\"}", "3"),
            ("loop_turn_seconds_bucket{le=\"1\"}", "3"),
            ("loop_turn_seconds_bucket{le=\"+Inf\"}", "4"),
            ("loop_turn_seconds_count", "4"),
            ("loop_turn_seconds_sum", "2.000300000"),
            ("loop_turn_longest_seconds", "2.000000000"),
        ] {
            assert_eq!(value(&text, series), wanted, "{series}");
        }
        let again = metrics.render();
        assert_eq!(value(&again, "loop_turn_longest_seconds"), "0.000000000");
    }

    #[test]
    fn the_text_is_bounded_and_needs_no_escaping() {
        let mut metrics = Metrics::new();
        for counts in &mut metrics.counts {
            // Their sum is computed too.
            counts.fill(u64::MAX / 100);
        }
        metrics.counts[Family::Calls as usize] = [u64::MAX / 2; MAX_WORDS].map(|count| count / 50);
        let Metrics { turns, first_audio, first_heard, .. } = &mut metrics;
        for histogram in [turns, first_audio, first_heard] {
            histogram.counts = [u64::MAX / 10; 10];
            histogram.sum = u64::MAX;
        }
        let text = metrics.render();
        assert!(text.len() < MAX_TEXT, "{} bytes", text.len());
        assert!(text.is_ascii() && !text.contains('\\'));
        for (at, family) in FAMILIES.iter().enumerate() {
            assert!(parts(at)[2].split(' ').count() <= MAX_WORDS, "{family}");
            assert_eq!(family.matches('|').count(), 3, "{family}");
            assert!(!family.contains('"') && !family.contains("  "), "{family}");
        }
    }
}
