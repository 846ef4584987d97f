//! Login with Entra ID: tokens are fetched by children, renewed ahead of time, and given to the calls
//! that wait. How long a token is used is decided in [`crate::identity`].

use std::rc::Rc;
use std::time::{Instant, SystemTime};

use super::Server;
use super::children::{Job, Purpose};
use super::manage::Lifecycle;
use super::slot::Conn;
use crate::identity::answer::{self, Refusal, Token};
use crate::identity::{Fetched, MAX_OUTPUT, SignIn, TIMEOUT, Tokens};
use crate::metrics::Family;
use crate::session::connection_faults;

use crate::system::child::Outcome;

impl Server {
    /// Takes the sign-in of the configuration in force. If it is another one, the tokens of the old one serve no
    /// call any more, and those who wait get one of the new.
    pub(super) fn change_sign_in(&mut self, now: Instant) {
        let configuration = self.calls.as_ref().map(|calls| &calls.configuration);
        let new = configuration.filter(|configuration| configuration.unready.is_none());
        let new = new.and_then(|configuration| configuration.sign_in.clone());
        if self.tokens.as_ref().map(Tokens::sign_in) == new.as_ref() {
            return;
        }
        let generation = self.tokens.as_ref().map_or(0, |tokens| tokens.generation + 1);
        self.tokens = new.map(|sign_in| {
            log::info!("calls log in with {}", sign_in.source);
            Tokens::new(sign_in, generation, now)
        });
        for at in 0..self.slots.len() {
            if self.is_authorising(at) {
                self.authorise(at, now);
            }
        }
    }

    /// When [`renew_token`](Self::renew_token) must run at the latest.
    pub(super) fn token_deadline(&self) -> Option<Instant> {
        let due = self.tokens.as_ref()?.due();
        due.filter(|_| matches!(self.lifecycle, Lifecycle::Serving | Lifecycle::Draining(_)))
    }

    /// Fetches a token that is due, so that no call has to wait for one.
    pub(super) fn renew_token(&mut self, now: Instant) {
        if self.token_deadline().is_some_and(|due| now >= due) {
            self.fetch_token(false, now);
        }
    }

    /// Gives a call that waits the token that is held, or has one fetched. Otherwise the call stays
    /// authorising, and `signed_in` gives it the token or tells it the fault.
    pub(super) fn authorise(&mut self, at: usize, now: Instant) {
        let Some(tokens) = &self.tokens else {
            let fault = connection_faults::no_token(&"Entra ID", "the settings have changed");
            return self.with_session(at, now, |session, cx| session.unauthorised(fault, cx));
        };
        let Some(header) = tokens.held(now) else {
            return self.fetch_token(true, now);
        };
        if let Conn::Call(session) = &mut self.slots[at].conn {
            session.authorise(&header, true, now);
            self.want_pump(at);
        }
    }

    /// The service has refused the token that was held. The call waits for a new one.
    pub(super) fn token_refused(&mut self, at: usize, now: Instant) {
        self.resources.metrics.count(Family::SignIns, "refused");
        if let (Conn::Call(session), Some(tokens)) = (&self.slots[at].conn, &mut self.tokens) {
            log::warn!("[{}] the service refuses the token; a new one is fetched", session.id());
            tokens.refuse(&session.candidate().target().credential);
        }
        self.authorise(at, now);
    }

    fn is_authorising(&self, at: usize) -> bool {
        matches!(&self.slots[at].conn, Conn::Call(session) if session.is_authorising())
    }

    /// Starts a fetch, if one is due or a call needs it. At most one runs at a time. If it cannot be
    /// started, it counts as failed.
    fn fetch_token(&mut self, wanted: bool, now: Instant) {
        let (Some(tokens), Some(calls)) = (&mut self.tokens, &self.calls) else {
            return;
        };
        if !tokens.begin(wanted, now) {
            return;
        }
        let generation = tokens.generation;
        let sign_in = Rc::clone(tokens.sign_in());
        let job = Job {
            command: &sign_in.command(&calls.program),
            folder: None,
            input: sign_in.input(),
            max_output: MAX_OUTPUT,
            deadline: now + TIMEOUT,
            purpose: Purpose::SignIn(generation),
        };
        if let Err(why) = self.children.spawn(job, self.poll.registry()) {
            self.take_token(Err(Refusal::lasting(why)), now);
        }
    }

    /// A child that fetched a token has ended.
    pub(super) fn signed_in(&mut self, generation: u64, outcome: Outcome, now: Instant) {
        let Some(tokens) = self.tokens.as_ref().filter(|it| it.generation == generation) else {
            return;
        };
        let result = match outcome {
            Outcome::Done(output) => answer::parse(&output, SystemTime::now()),
            Outcome::Refused(_) => Err(tokens.sign_in().failed("it failed")),
            Outcome::Failed(why) => Err(tokens.sign_in().failed(&why)),
        };
        self.take_token(result, now);
    }

    fn take_token(&mut self, result: Result<Token, Refusal>, now: Instant) {
        let Some(tokens) = &mut self.tokens else { return };
        let sign_in = Rc::clone(tokens.sign_in());
        let fetched = tokens.finish(result, now);
        let outcome = if matches!(fetched, Fetched::Token(..)) { "ok" } else { "failed" };
        self.resources.metrics.count(Family::SignIns, outcome);
        match fetched {
            Fetched::Token(header, life) => {
                let life = life.map_or_else(String::new, |life| {
                    format!("; it is good for {} minutes", life.as_secs() / 60)
                });
                log::debug!("there is a token of {}{life}", sign_in.source);
                for at in 0..self.slots.len() {
                    if let Conn::Call(session) = &mut self.slots[at].conn
                        && session.is_authorising()
                    {
                        session.authorise(&header, false, now);
                        self.want_pump(at);
                    }
                }
            }
            Fetched::Pause(why) => {
                log::warn!("no token of {} yet: {why}. It is tried again", sign_in.source);
            }
            Fetched::Nothing(why) => self.no_token(&sign_in, &why, now),
        }
    }

    /// Tells the calls that wait. If none does, the log is told.
    fn no_token(&mut self, sign_in: &SignIn, why: &str, now: Instant) {
        let fault = connection_faults::no_token(&sign_in.source, why);
        let mut anybody = false;
        for at in 0..self.slots.len() {
            if self.is_authorising(at) {
                anybody = true;
                let fault = fault.clone();
                self.with_session(at, now, |session, cx| session.unauthorised(fault, cx));
            }
        }
        if !anybody {
            log::warn!("{}", fault.message);
        }
    }
}
