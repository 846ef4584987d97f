//! Clients that take their call up again, and held calls that make way for new ones.
//!
//! The call stays in its slot, with its service connection, its tools and its turn in the budget of
//! connections: only its client's socket changes. The slot in which that socket came is free again, or
//! holds the connection before until its close frame has left.

use std::time::Instant;

use mio::Interest;
use mio::net::TcpStream;

use super::slot::{Conn, part, turn_away};
use super::{Server, calls::hex, token};
use crate::access::{Secret, Ticket};
use crate::call::ending::EndReason;
use crate::metrics::Family;
use crate::net::upgrade;
use crate::net::ws::WsPeer;
use crate::session::{Had, NoReturn};
use crate::web::{Credential, TakeUp};

impl Server {
    /// Gives a client that shows the right secret its call back, or refuses it: then it has a WebSocket
    /// and gets a message with the reason. Returns what the client's own slot holds from now on.
    pub(super) fn take_up(
        &mut self,
        at: usize,
        mut peer: WsPeer<TcpStream>,
        credential: Credential,
        take_up: &TakeUp,
        now: Instant,
    ) -> Conn {
        let had = Had { received: take_up.received, messages: take_up.messages };
        let held = match self.find_call(at, credential, take_up.secret.as_ref(), had) {
            Ok(held) => held,
            Err((reason, held)) => {
                self.resources.metrics.count(Family::TurnedAway, reason.word());
                match held {
                    Some(held) => {
                        let reason = reason.clone();
                        self.with_session(held, now, |session, cx| session.end(reason, cx));
                    }
                    None if reason == EndReason::ResumeRefused => {
                        self.guard.wrong_secret(self.slots[at].address, now);
                    }
                    None => {}
                }
                return turn_away(peer, &reason, now);
            }
        };
        let both = Interest::READABLE | Interest::WRITABLE;
        let socket = peer.transport_mut().stream_mut();
        let moved = self.poll.registry().reregister(socket, token(held, 0), both);
        let (Ok(()), Ok(secret)) = (moved, upgrade::random::<16>()) else {
            let reason = EndReason::Internal("A socket could not be watched.".to_owned());
            self.resources.metrics.count(Family::TurnedAway, "internal");
            return turn_away(peer, &reason, now);
        };
        let (secret, address) = (hex(&secret), self.slots[at].address);
        self.guard.right_secret(address);
        let old = self.lend(held, now, |session, cx| {
            let old = session.take_up(peer, had, &secret, cx);
            log::info!("[{}] it calls from {address}", session.id());
            old
        });
        let slot = &mut self.slots[held];
        slot.address = address;
        slot.ticket = Ticket::new(&secret, credential, slot.generation);
        self.want_pump(held);
        let Some(mut old) = old.flatten() else { return Conn::Free };
        let socket = old.transport_mut().stream_mut();
        match self.poll.registry().reregister(socket, token(at, 0), both) {
            Ok(()) => part(old, now),
            Err(_) => Conn::Free,
        }
    }

    /// The slot of the call that a client may go on with. Else the reason why there is none, and the call
    /// that ends with that: the client has shown its secret, and has missed too much of it.
    fn find_call(
        &self,
        at: usize,
        credential: Credential,
        secret: Option<&Secret>,
        had: Had,
    ) -> Result<usize, (EndReason, Option<usize>)> {
        let generation = self.slots[at].generation;
        if generation != self.guard.generation() {
            return Err((EndReason::AccessChanged, None));
        }
        let refused = (EndReason::ResumeRefused, None);
        let Some(secret) = secret else { return Err(refused) };
        let mut found = Err(refused);
        // All are compared, whichever fits.
        for (held, slot) in self.slots.iter().enumerate() {
            let (Conn::Call(session), Some(ticket)) = (&slot.conn, &slot.ticket) else { continue };
            if ticket.admits(secret, credential, generation) && session.may_be_taken_up() {
                found = match session.may_go_on(had) {
                    Ok(()) => Ok(held),
                    Err(NoReturn::Beyond) => Err((EndReason::ResumeRefused, None)),
                    Err(NoReturn::Late) => Err((EndReason::ResumeLate, Some(held))),
                };
            }
        }
        found
    }

    /// Ends the call that has been held longest, so that a new one finds a place. `of` says which ones
    /// may be taken. False if none of them is held.
    pub(super) fn make_way(&mut self, now: Instant, of: impl Fn(&Self, usize) -> bool) -> bool {
        let held = |at: usize| match &self.slots[at].conn {
            Conn::Call(session) => session.held_since().filter(|_| of(self, at)),
            _ => None,
        };
        let longest = (0..self.slots.len()).filter_map(|at| Some((held(at)?, at))).min();
        let Some((_, at)) = longest else { return false };
        self.lend(at, now, |session, cx| session.end(EndReason::ClientLost, cx));
        // The service is told before the slot is freed: a session that is left open costs money.
        self.lend(at, now, crate::session::Session::pump);
        self.release(at, now);
        true
    }
}
