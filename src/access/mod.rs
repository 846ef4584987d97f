//! Access control: decides whether a client may open a call. Pure: no socket, no file, no clock.
//!
//! [`gate`] judges the request's fields `Host` and `Origin`. [`proxies`] tells whose request it is when a
//! reverse proxy has sent it. [`token`] judges the access token or the
//! cookie. [`throttle`] limits how often an address may guess. [`Guard`] joins the last two. A [`Ticket`] is
//! the right to take a call up again.

pub mod gate;
pub mod proxies;
pub mod throttle;
mod ticket;
pub mod token;

use std::net::IpAddr;
use std::time::{Duration, Instant};

pub use gate::{Authority, Gate, Origin};
pub use proxies::{Forwarding, Proxies};
use throttle::Throttle;
pub use ticket::{Credential, Secret, Ticket};
pub use token::Access;

/// The judgement on a client's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The call may be made.
    Admitted,
    /// The request has no credential for this daemon. That does not count as a guess, since every new
    /// browser begins this way.
    Missing,
    /// The credential is wrong. It counts as a guess.
    Wrong,
    /// Too many wrong credentials came from this address. None is compared for this long.
    Later(Duration),
}

/// The access rules in force, and the wrong guesses so far.
#[derive(Debug)]
pub struct Guard {
    access: Access,
    throttle: Throttle,
    /// Wrong secrets of calls, counted apart: they never keep a client from a new call.
    secrets: Throttle,
    generation: u32,
}

impl Guard {
    /// A guard with these rules that has seen no guess yet.
    #[must_use]
    pub fn new(access: Access) -> Self {
        let (throttle, secrets) = (Throttle::default(), Throttle::default());
        Self { access, throttle, secrets, generation: 0 }
    }

    /// Judges a request from `address` by its `Authorization` and `Cookie` fields. While an address
    /// has to wait, its credentials are not compared. Otherwise the answer would show which guess was
    /// right.
    pub fn judge(
        &mut self,
        address: IpAddr,
        authorization: &str,
        cookies: &str,
        now: Instant,
    ) -> Verdict {
        if self.access.is_open() {
            return Verdict::Admitted;
        }
        if let Some(wait) = self.throttle.wait(address, now) {
            return Verdict::Later(wait);
        }
        let verdict = self.access.admits(authorization, cookies);
        match verdict {
            Verdict::Admitted => self.throttle.forget(address),
            Verdict::Wrong => self.throttle.fail(address, now),
            Verdict::Missing | Verdict::Later(_) => {}
        }
        verdict
    }

    /// By which credential a client was admitted that has shown these fields.
    #[must_use]
    pub fn credential(&self, authorization: &str) -> Credential {
        if self.access.is_open() {
            Credential::None
        } else if self.access.admits(authorization, "") == Verdict::Admitted {
            Credential::Bearer
        } else {
            Credential::Cookie
        }
    }

    /// How long an address must wait until it may show the secret of a call; `None` if it may.
    #[must_use]
    pub fn secret_wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        self.secrets.wait(address, now)
    }

    /// An address has shown a secret of no call that it may take up. It counts as a guess.
    pub fn wrong_secret(&mut self, address: IpAddr, now: Instant) {
        self.secrets.fail(address, now);
    }

    /// An address has shown the right secret of a call.
    pub fn right_secret(&mut self, address: IpAddr) {
        self.secrets.forget(address);
    }

    /// `Set-Cookie`'s value for a browser that was admitted; `None` where none is needed.
    #[must_use]
    pub fn cookie(&self) -> Option<String> {
        self.access.cookie()
    }

    /// As [`cookie`](Self::cookie), for a page that may be shown in another site's frame.
    #[must_use]
    pub fn cookie_for_frames(&self) -> Option<String> {
        self.access.cookie_for_frames()
    }

    /// The generation of the rules: how many changes have taken rights away. A call keeps the
    /// generation that admitted it, and ends when a newer one is in force.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Takes new rules. True if clients that were admitted before have lost their right, which begins
    /// a new generation.
    pub fn replace(&mut self, access: Access) -> bool {
        let lost = !access.is_open() && !access.is_same(&self.access);
        self.access = access;
        if lost {
            self.generation = self.generation.wrapping_add(1);
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 2));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 3));

    #[test]
    fn wrong_tokens_slow_their_address_and_missing_ones_do_not() {
        let mut guard = Guard::new(Access::token("correct-horse-battery"));
        let now = Instant::now();
        for _ in 0..100 {
            assert_eq!(guard.judge(HERE, "", "", now), Verdict::Missing);
        }
        for _ in 0..5 {
            assert_eq!(guard.judge(HERE, "Bearer wrong", "", now), Verdict::Wrong);
        }
        let right = "Bearer correct-horse-battery";
        let wait = Duration::from_secs(1);
        assert_eq!(guard.judge(HERE, right, "", now), Verdict::Later(wait), "no oracle");
        assert_eq!(guard.judge(THERE, right, "", now), Verdict::Admitted);
        assert_eq!(guard.judge(HERE, right, "", now), Verdict::Later(wait), "not reset by others");
        assert_eq!(guard.judge(HERE, right, "", now + wait), Verdict::Admitted);
    }

    #[test]
    fn open_admits_everybody_and_slows_nobody() {
        let mut guard = Guard::new(Access::Open);
        for _ in 0..100 {
            assert_eq!(guard.judge(HERE, "Bearer x", "", Instant::now()), Verdict::Admitted);
        }
        assert_eq!(guard.cookie(), None);
    }

    #[test]
    fn it_is_known_by_what_a_client_was_admitted() {
        let guard = Guard::new(Access::token("correct-horse-battery"));
        assert_eq!(guard.credential("Bearer correct-horse-battery"), Credential::Bearer);
        assert_eq!(guard.credential(""), Credential::Cookie);
        assert_eq!(Guard::new(Access::Open).credential("Bearer x"), Credential::None);
    }

    #[test]
    fn only_a_change_that_takes_rights_away_begins_a_generation() {
        let mut guard = Guard::new(Access::Open);
        assert!(!guard.replace(Access::Open));
        assert!(guard.replace(Access::token("one-token-of-many")));
        assert!(!guard.replace(Access::token("one-token-of-many")));
        assert!(guard.replace(Access::token("another-of-the-many")));
        assert!(guard.cookie().is_some_and(|cookie| cookie.starts_with("__Host-voicelived=")));
        assert!(!guard.replace(Access::Open));
        assert_eq!((guard.generation(), guard.cookie()), (2, None));
    }
}
