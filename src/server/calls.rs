//! What the loop does for its calls: it admits them, and looks up the service's addresses.

use std::time::Instant;

use mio::Interest;
use mio::net::TcpStream;

use super::children::{Job, Purpose};
use super::manage::Lifecycle;
use super::slot::{Conn, Slot, turn_away};
use super::{Server, token};
use crate::access::Ticket;
use crate::call::ending::EndReason;
use crate::metrics::Family;
use crate::net::upgrade;
use crate::net::ws::WsPeer;
use crate::session::candidates::Candidate;
use crate::session::connection_faults;
use crate::session::{News, Queues, Session};
use crate::system::child::Outcome;
use crate::system::resolve;
use crate::web::{Abilities, Credential};

/// What is reserved for an admitted call.
struct Admitted {
    /// The random bytes of the session id.
    id: [u8; 6],
    /// The random bytes of the secret in `hello`.
    resume: [u8; 16],
    /// The call's share of the PCM pool.
    queues: Queues,
}

impl Server {
    /// Makes a call of a client's WebSocket, or refuses it if a limit does not allow it. In both cases
    /// the client has a WebSocket and gets a message with the reason.
    pub(super) fn begin_call(
        &mut self,
        at: usize,
        peer: WsPeer<TcpStream>,
        credential: Credential,
        (able, assistant): (Abilities, &str),
        now: Instant,
    ) -> Conn {
        let Slot { address, generation, .. } = self.slots[at];
        let admitted = self
            .candidate(assistant, now)
            .and_then(|candidate| self.admit(at, now).map(|admitted| (admitted, candidate)));
        let (Admitted { id, resume, mut queues }, candidate) = match admitted {
            Ok(admitted) => admitted,
            Err((reason, word)) => {
                self.resources.metrics.count(Family::TurnedAway, word);
                return turn_away(peer, &reason, now);
            }
        };
        let Some(calls) = &self.calls else { return Conn::Free };
        if able.resumes {
            queues = queues.expecting_return(&mut self.resources.pool);
        }
        let resume = hex(&resume);
        let mut cx = self.resources.lend(&calls.configuration.tools, now);
        let mut session = Session::new(hex(&id), &resume, peer, queues, candidate, &mut cx);
        if able.holds {
            session.prefer_hold();
        }
        if self.lifecycle != Lifecycle::Serving {
            session.hold_no_more(&mut cx);
        }
        self.slots[at].ticket = Ticket::new(&resume, credential, generation);
        self.resources.metrics.add(Family::Calls, 1);
        let with = match (assistant, &*session.candidate().settings().assistant) {
            ("", "") => String::new(),
            ("", agent) => format!(" to the agent {}", agent.escape_debug()),
            (name, _) => format!(" to the assistant {name}"),
        };
        log::info!("[{}] call from {address}{with}", session.id());
        Conn::Call(Box::new(session))
    }

    /// What a call asks the service for, with the assistant of that name if it is not empty.
    fn candidate(
        &mut self,
        assistant: &str,
        now: Instant,
    ) -> Result<Candidate, (EndReason, &'static str)> {
        let full = (EndReason::Full, EndReason::Full.word());
        let configuration = &mut self.calls.as_mut().ok_or(full)?.configuration;
        let chosen = match assistant {
            "" => Some(&mut configuration.candidate),
            name => configuration.assistants.find(name),
        };
        if let Some(chosen) = chosen {
            return Ok(chosen.candidate(now));
        }
        let reason = EndReason::NoAssistant(configuration.assistants.lacks(assistant));
        let word = reason.word();
        Err((reason, word))
    }

    /// Checks all limits, and reserves what a call needs. The error has the reason for the client, and
    /// the label for the counter ([`Family::TurnedAway`]). The blocks come last: once they are reserved nothing
    /// may refuse the call, since only `Session::release` gives them back.
    fn admit(&mut self, at: usize, now: Instant) -> Result<Admitted, (EndReason, &'static str)> {
        let refused = |reason: EndReason| {
            let word = reason.word();
            (reason, word)
        };
        let Slot { address, generation, .. } = self.slots[at];
        // The token was changed between the 101 and now.
        if generation != self.guard.generation() {
            return Err(refused(EndReason::AccessChanged));
        }
        let (mut all, mut same) = (0, 0);
        for slot in &self.slots {
            if matches!(&slot.conn, Conn::Call(_)) {
                all += 1;
                same += usize::from(slot.address == address);
            }
        }
        let is_same = |server: &Self, at: usize| server.slots[at].address == address;
        let Some(calls) = &self.calls else {
            return Err(refused(EndReason::Full));
        };
        if let Some(sentence) = &calls.configuration.unready {
            return Err(refused(EndReason::NotConfigured(sentence.clone())));
        }
        if let Some(reason) = self.spent() {
            return Err(refused(reason));
        }
        let (most, most_same) = (calls.max_sessions, calls.max_sessions_per_address);
        // A held call makes way: nobody is there to miss it, as far as is known.
        if same >= most_same {
            if !self.make_way(now, is_same) {
                return Err(refused(if all >= most {
                    EndReason::Full
                } else {
                    EndReason::AddressLimit(same)
                }));
            }
            all -= 1;
        }
        if all >= most && !self.make_way(now, |_, _| true) {
            return Err(refused(EndReason::Full));
        }
        let (Ok(id), Ok(resume)) = (upgrade::random(), upgrade::random()) else {
            return Err((EndReason::Full, "internal"));
        };
        loop {
            if let Some(queues) = Queues::open(&mut self.resources.pool) {
                return Ok(Admitted { id, resume, queues });
            }
            if !self.make_way(now, |_, _| true) {
                return Err((EndReason::Full, "pool"));
            }
        }
    }

    // ---- the service's name ----

    /// Starts a look-up of the service's name if one is due. At most one runs at a time. If it cannot
    /// be started, it counts as failed: the calls that wait for it must not wait for ever.
    pub(super) fn refresh_addresses(&mut self, now: Instant) {
        let (Some(resolver), Some(calls)) = (&mut self.resolver, &self.calls) else {
            return;
        };
        if !resolver.begin(now) {
            return;
        }
        let job = Job {
            command: &resolver.command(&calls.program),
            folder: None,
            input: Vec::new(),
            max_output: resolve::MAX_OUTPUT,
            deadline: now + resolve::TIMEOUT,
            purpose: Purpose::Resolve,
        };
        if let Err(why) = self.children.spawn(job, self.poll.registry()) {
            self.resolved(Err(why), now);
        }
    }

    /// Lets a call connect to the service if an address is known. Otherwise the call stays resolving,
    /// and `resolved` calls this again or tells it the fault.
    pub(super) fn dial(&mut self, at: usize, now: Instant) {
        self.refresh_addresses(now);
        let (Conn::Call(session), Some(resolver)) = (&mut self.slots[at].conn, &self.resolver)
        else {
            return;
        };
        // A call that waits for its turn is resolving too.
        let may_dial = session.is_resolving() && !self.connects.is_waiting(at);
        if resolver.addresses().is_empty() || !may_dial {
            return;
        }
        self.connects.count(now);
        if self.tokens.is_none() {
            return session.dial(resolver.addresses(), now);
        }
        session.await_token(resolver.addresses(), now);
        if session.is_authorising() {
            self.authorise(at, now);
        }
    }

    /// Lets calls that have lost the service connect again, as far as the budget allows.
    pub(super) fn redial(&mut self, now: Instant) {
        while let Some(at) = self.connects.next(now) {
            self.dial(at, now);
            self.want_pump(at);
        }
    }

    /// Takes what a connection attempt has shown: which address answers, and what the service accepts.
    /// Later calls begin with it.
    pub(super) fn learn_of_service(&mut self, at: usize, news: News, now: Instant) {
        match (news, &mut self.resolver) {
            (News::Reached(address), Some(resolver)) => resolver.reached(address),
            (News::Unreached(address), Some(resolver)) => resolver.unreached(address),
            (News::FallBack, _) => self.dial(at, now),
            (News::Redial, _) => {
                self.connects.wait(at);
                self.redial(now);
            }
            (News::TokenRefused, _) => self.token_refused(at, now),
            (News::Accepted, _) => self.remember_candidate(at, now),
            (News::Socket, _) | (_, None) => {}
        }
    }

    /// Registers a call's new socket to the service. A socket that is not registered is never heard of
    /// again, so the call ends if that fails.
    pub(super) fn watch_service(&mut self, at: usize, now: Instant) {
        let Conn::Call(session) = &mut self.slots[at].conn else {
            return;
        };
        let Some((lane, socket)) = session.new_socket() else {
            return;
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(socket, token(at, lane), interest) {
            let reason = EndReason::Internal(format!("A socket could not be watched: {error}."));
            self.with_session(at, now, |session, cx| session.end(reason, cx));
        }
    }

    /// Keeps the candidate that the service has accepted after it had refused another (a model, for
    /// example). Otherwise every call would first ask for what the service does not have.
    fn remember_candidate(&mut self, at: usize, now: Instant) {
        let (Conn::Call(session), Some(calls)) = (&self.slots[at].conn, &mut self.calls) else {
            return;
        };
        if calls.configuration.remember(session.candidate(), now) {
            let (id, model) = (session.id(), session.candidate().model());
            log::warn!(
                "[{id}] the service has taken that, with the model {model}: later calls begin with it, \
                 for a day or until the settings are read again"
            );
        }
    }

    /// Ends a look-up: the calls that wait for it connect, or learn why they cannot. The text of an
    /// error follows a colon in a sentence.
    fn resolved(&mut self, result: Result<&[u8], String>, now: Instant) {
        let Some(resolver) = &mut self.resolver else {
            return;
        };
        let known = resolver.finish(result);
        let proxy =
            self.calls.as_ref().and_then(|it| it.configuration.candidate.target().proxy.as_ref());
        let fault = known.map_err(|why| match proxy {
            Some(proxy) => connection_faults::proxy_unresolved(proxy, &why),
            None => connection_faults::unresolved(resolver.name().0, &why),
        });
        let mut anybody = false;
        for at in 0..self.slots.len() {
            let waiting =
                matches!(&self.slots[at].conn, Conn::Call(session) if session.is_resolving());
            anybody |= waiting;
            match &fault {
                _ if !waiting => {}
                Ok(()) => {
                    self.dial(at, now);
                    self.want_pump(at);
                }
                Err(fault) => {
                    let fault = fault.clone();
                    self.with_session(at, now, |session, cx| session.unresolved(fault, cx));
                }
            }
        }
        // If a call waited, it has logged the fault itself.
        if let (Err(fault), false) = (&fault, anybody) {
            log::warn!("{}", fault.message);
        }
    }

    // ---- children ----

    /// Takes the results of all children that have ended.
    pub(super) fn take_ended_children(&mut self, now: Instant) {
        while let Some((purpose, outcome)) = self.children.ended(now) {
            self.child_ended(purpose, outcome, now);
        }
    }

    fn child_ended(&mut self, purpose: Purpose, outcome: Outcome, now: Instant) {
        match purpose {
            Purpose::Resolve => match outcome {
                Outcome::Done(output) => self.resolved(Ok(&output), now),
                Outcome::Refused(_) | Outcome::Failed(_) => self.resolved(
                    Err("the name server does not know it or does not answer".to_owned()),
                    now,
                ),
            },
            Purpose::SignIn(generation) => self.signed_in(generation, outcome, now),
            Purpose::Tool { run, .. } => self.process_ended(run, outcome, now),
        }
    }
}

/// The bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
