//! How long a token is used, and when the next one is fetched. Pure: its owner runs the fetches and
//! tells it the time.
//!
//! ```text
//! Idle ──begin──► Running ──a token──────────────► Idle
//!   ▲                ├──no token, may pass──► Pausing ──begin──► Running
//!   │                └──no token─────────────► Idle
//! ```
//!
//! A call waits while a fetch is Running or Pausing, unless a token is held that is still good. There is
//! one fetch at a time, for all calls.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::SignIn;
use super::answer::{Refusal, Token};

/// A token with less left is no longer shown: the service looks at it at some later moment.
const MARGIN: Duration = Duration::from_secs(10);

/// A token with less left is renewed.
const EARLY: Duration = Duration::from_secs(300);

/// A token that lasts longer is renewed at half its life.
const LONG: Duration = Duration::from_secs(2 * 3600);

/// The shortest time between a token and the fetch of its successor.
const SPACING: Duration = Duration::from_secs(30);

/// Pauses before the further tries of a fetch that may pass. Calls wait meanwhile.
const PAUSES: [Duration; 2] = [Duration::from_millis(1600), Duration::from_millis(3200)];

/// The first and the longest pause before the daemon tries again by itself, with no call waiting.
const REST: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(900));

/// The token in use and the fetch of the next one.
#[derive(Debug)]
pub struct Tokens {
    sign_in: Rc<SignIn>,
    /// Tells apart the fetches of this object from those of one before it.
    pub generation: u64,
    held: Option<Held>,
    fetch: Fetch,
    /// Tries that have failed since the last token.
    failed: u32,
    /// When to fetch without being asked; `None` for never.
    next: Option<Instant>,
}

/// A token that may serve more than one call.
#[derive(Debug)]
struct Held {
    header: Rc<str>,
    /// It is not shown after this.
    end: Instant,
    /// The service has refused it.
    refused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fetch {
    Idle,
    Running,
    /// The last try failed. The next one is due at this time.
    Pausing(Instant),
}

/// What a fetch has brought.
#[derive(Debug)]
pub enum Fetched {
    /// A token: the header line, and how long it lasts.
    Token(Rc<str>, Option<Duration>),
    /// None yet: it is tried again soon.
    Pause(String),
    /// None, for the calls that wait. The text follows a colon in a sentence.
    Nothing(String),
}

impl Tokens {
    /// None yet. The first fetch is due at once, except for a file, which is read when it is needed.
    #[must_use]
    pub fn new(sign_in: Rc<SignIn>, generation: u64, now: Instant) -> Self {
        let next = Some(now).filter(|_| !sign_in.source.is_file());
        Self { sign_in, generation, held: None, fetch: Fetch::Idle, failed: 0, next }
    }

    /// How the tokens are got.
    #[must_use]
    pub fn sign_in(&self) -> &Rc<SignIn> {
        &self.sign_in
    }

    /// The header line of a token that is still good.
    #[must_use]
    pub fn held(&self, now: Instant) -> Option<Rc<str>> {
        let held = self.held.as_ref().filter(|held| !held.refused && now < held.end)?;
        Some(Rc::clone(&held.header))
    }

    /// Whether a fetch should start now: because a call needs one (`wanted`) or because it is due. If
    /// so, it counts as running until [`finish`](Self::finish).
    pub fn begin(&mut self, wanted: bool, now: Instant) -> bool {
        let due = match self.fetch {
            Fetch::Running => false,
            Fetch::Pausing(until) => now >= until,
            Fetch::Idle => wanted || self.next.is_some_and(|next| now >= next),
        };
        if due {
            self.fetch = Fetch::Running;
            self.next = None;
        }
        due
    }

    /// When [`begin`](Self::begin) must be asked again at the latest, without a call.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        match self.fetch {
            Fetch::Idle => self.next,
            Fetch::Pausing(until) => Some(until),
            Fetch::Running => None,
        }
    }

    /// Takes the result of the fetch that was begun. A token that is still good stays after a failed
    /// one.
    pub fn finish(&mut self, result: Result<Token, Refusal>, now: Instant) -> Fetched {
        self.fetch = Fetch::Idle;
        match result {
            Ok(token) => {
                self.failed = 0;
                Fetched::Token(self.keep(&token, now), token.life)
            }
            Err(Refusal { why, retry }) => {
                let tries = usize::try_from(self.failed).unwrap_or(usize::MAX);
                self.failed = self.failed.saturating_add(1);
                if let Some(pause) = PAUSES.get(tries).filter(|_| retry) {
                    self.fetch = Fetch::Pausing(now + *pause);
                    return Fetched::Pause(why);
                }
                // Calls ask by themselves. This is for a device that nobody has called for a while.
                let (first, longest) = REST;
                let rest = first.saturating_mul(1 << self.failed.min(8));
                let by_itself = !self.sign_in.source.is_file();
                self.next = by_itself.then(|| now + rest.min(longest));
                Fetched::Nothing(why)
            }
        }
    }

    /// The service has refused a token: if it is the one that is held, no further call gets it.
    pub fn refuse(&mut self, header: &str) {
        if let Some(held) = self.held.as_mut().filter(|held| *held.header == *header) {
            held.refused = true;
        }
    }

    /// A token whose life is not known serves only those who wait for it.
    fn keep(&mut self, token: &Token, now: Instant) -> Rc<str> {
        let header: Rc<str> = token.header().into();
        let Some(life) = token.life else {
            self.held = None;
            return header;
        };
        let half = Some(life / 2).filter(|_| life >= LONG);
        let early = token.refresh.or(half).unwrap_or_else(|| life.saturating_sub(EARLY));
        self.next = now.checked_add(early.min(life).max(SPACING));
        let end = now + life.saturating_sub(MARGIN);
        self.held = Some(Held { header: Rc::clone(&header), end, refused: false });
        header
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::answer::parse;
    use super::super::{ManagedIdentityEndpoint, Source};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn tokens(source: Source, now: Instant) -> Tokens {
        let sign_in = SignIn { source, proxy: None, authorities: Vec::new() };
        Tokens::new(Rc::new(sign_in), 1, now)
    }

    fn managed(now: Instant) -> Tokens {
        let place = ManagedIdentityEndpoint::Metadata("http://169.254.169.254".to_owned());
        tokens(Source::Managed { client: None, place }, now)
    }

    fn token(text: &str, life: u64) -> Result<Token, Refusal> {
        let text = format!(r#"{{"access_token":"{text}","expires_in":{life}}}"#);
        parse(text.as_bytes(), UNIX_EPOCH)
    }

    #[test]
    fn one_fetch_serves_all_until_shortly_before_the_end() {
        let start = Instant::now();
        let mut tokens = managed(start);
        assert_eq!(tokens.due(), Some(start));
        assert!(tokens.begin(false, start) && !tokens.begin(true, start));
        assert_eq!((tokens.due(), tokens.held(start)), (None, None));
        assert!(matches!(tokens.finish(token("a", 3600), start), Fetched::Token(..)));
        assert_eq!(tokens.held(start).as_deref(), Some("Authorization: Bearer a"));
        let early = start + 3300 * SECOND;
        assert!(tokens.due() == Some(early) && !tokens.begin(false, early - SECOND));
        // A failed renewal keeps the old one.
        assert!(tokens.begin(false, early));
        assert!(matches!(tokens.finish(Err(Refusal::lasting("no")), early), Fetched::Nothing(_)));
        assert!(
            tokens.held(start + 3589 * SECOND).is_some()
                && tokens.held(start + 3590 * SECOND).is_none()
        );
        assert_eq!(tokens.due(), Some(early + 60 * SECOND));
    }

    #[test]
    fn long_lives_are_renewed_at_half_and_short_ones_not_at_once() {
        let start = Instant::now();
        for (life, renewal) in [(86_400, 43_200), (7200, 3600), (7199, 6899), (60, 30), (5, 30)] {
            let mut tokens = managed(start);
            assert!(tokens.begin(false, start));
            tokens.finish(token("a", life), start);
            assert_eq!(tokens.due(), Some(start + renewal * SECOND), "{life}");
        }
    }

    #[test]
    fn a_token_of_unknown_life_serves_once() {
        let start = Instant::now();
        let mut tokens = tokens(Source::File("/x".into()), start);
        assert!(tokens.due().is_none() && !tokens.begin(false, start));
        assert!(tokens.begin(true, start));
        let fetched = tokens.finish(parse(b"a", UNIX_EPOCH), start);
        assert!(
            matches!(fetched, Fetched::Token(header, None) if &*header == "Authorization: Bearer a")
        );
        assert!(tokens.held(start).is_none() && tokens.due().is_none());
        assert!(tokens.begin(true, start), "the next call reads it again");
    }

    #[test]
    fn what_may_pass_is_tried_again_while_calls_wait() {
        let start = Instant::now();
        let mut tokens = managed(start);
        let mut now = start;
        for pause in PAUSES {
            assert!(tokens.begin(true, now));
            assert!(matches!(tokens.finish(Err(Refusal::passing("x")), now), Fetched::Pause(_)));
            assert!(!tokens.begin(true, now) && tokens.due() == Some(now + pause));
            now += pause;
        }
        assert!(tokens.begin(false, now));
        assert!(matches!(tokens.finish(Err(Refusal::passing("x")), now), Fetched::Nothing(_)));
        assert!(tokens.due().is_some_and(|due| due > now + SPACING));
        assert!(tokens.begin(true, now), "a call asks at once");
        tokens.finish(token("a", 3600), now);
        assert_eq!(tokens.failed, 0);
    }

    #[test]
    fn a_refused_token_is_shown_to_no_further_call() {
        let start = Instant::now();
        let mut tokens = managed(start);
        tokens.begin(true, start);
        tokens.finish(token("a", 3600), start);
        tokens.refuse("Authorization: Bearer another");
        assert!(tokens.held(start).is_some());
        tokens.refuse("Authorization: Bearer a");
        assert!(tokens.held(start).is_none() && tokens.begin(true, start));
    }
}
