//! What the service manager is told of the loop, and the way from SIGTERM to the end.

use std::time::{Duration, Instant};

use super::slot::Conn;
use super::{Server, Stop};
use crate::call::ending::EndReason;
use crate::system::systemd::Standing;

/// How long calls may take to end in order once they are told to. Visitors are still answered
/// meanwhile: `/healthz` says `draining`, and new calls are refused.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What the manager is asked for beyond that: the loop is done by then.
const MARGIN: Duration = Duration::from_secs(5);

impl Stop {
    /// Whether a call may begin for a visitor, who came through a passed socket or not. While calls
    /// may go on, nobody new comes through a passed one; who is there already is served.
    pub(super) fn lets_in(self, passed: bool) -> bool {
        match self {
            Self::No => true,
            Self::Draining(_) => passed,
            Self::By(_) | Self::Now => false,
        }
    }
}

impl Server {
    /// The first signal: calls end, or go on for as long as they may. The second: at once.
    pub(super) fn begin_stop(&mut self, now: Instant) {
        if self.stop != Stop::No {
            self.stop = Stop::Now;
            return;
        }
        let drain = self.calls.as_ref().map_or(Duration::ZERO, |calls| calls.drain);
        self.manager.stopping(drain + STOP_TIMEOUT + MARGIN);
        self.leave_passed_sockets();
        let running = self.running_calls();
        if drain.is_zero() || (running == 0 && !self.is_expected()) {
            log::info!("stopping: calls in progress are told and ended");
            return self.end_calls(now);
        }
        log::info!(
            "draining: calls in progress: {running}; they may go on for {} s",
            drain.as_secs()
        );
        self.stop = Stop::Draining(now + drain);
    }

    fn end_calls(&mut self, now: Instant) {
        self.stop = Stop::By(now + STOP_TIMEOUT);
        for at in 0..self.slots.len() {
            self.with_session(at, now, |session, cx| session.end(EndReason::Stopping, cx));
        }
    }

    /// Ends the calls that are left when the time for them is over.
    pub(super) fn watch_drain(&mut self, now: Instant) {
        if matches!(self.stop, Stop::Draining(deadline) if now >= deadline) {
            log::warn!(
                "draining took too long; calls that are told and ended: {}",
                self.running_calls()
            );
            self.end_calls(now);
        }
    }

    /// Whoever comes to a socket that was passed waits there for the next process; our own say
    /// `draining` until the end.
    fn leave_passed_sockets(&mut self) {
        for listener in self.listeners.iter_mut().filter(|listener| listener.passed) {
            // Where this fails its events are as good as none: nobody is accepted any more.
            let _ = self.poll.registry().deregister(&mut listener.socket);
            listener.ready = false;
        }
    }

    /// Whether somebody came through a passed socket who has not been served yet: whoever stands
    /// inside no longer reaches the next process. A visitor's own time limits bound it.
    fn is_expected(&self) -> bool {
        let passed = |at: &usize| self.listeners.get(*at).is_some_and(|door| door.passed);
        self.slots.iter().any(|slot| match &slot.conn {
            Conn::Visitor { visitor, listener } => visitor.is_expectant() && passed(listener),
            _ => false,
        })
    }

    pub(super) fn is_stopped(&self, now: Instant) -> bool {
        let is_empty = || self.running_calls() == 0 && !self.is_expected();
        match self.stop {
            Stop::No => false,
            Stop::Draining(_) => is_empty(),
            Stop::By(deadline) => is_empty() || now >= deadline,
            Stop::Now => true,
        }
    }

    pub(super) fn running_calls(&self) -> usize {
        self.running
    }

    /// At the end of each turn.
    pub(super) fn report(&mut self, now: Instant) {
        self.manager.turn(now);
        self.manager.reloaded();
        let calls = self.calls.as_ref();
        let standing = Standing {
            calls: self.running_calls(),
            draining: self.stop != Stop::No,
            configured: calls.is_none_or(|calls| calls.terms.unready.is_none()),
        };
        let most = calls.map_or(0, |calls| calls.max_sessions);
        let unready = calls.and_then(|calls| calls.terms.unready.as_deref());
        self.manager.tell(standing, now, || words(standing, most, unready));
    }
}

fn words(standing: Standing, most: usize, unready: Option<&str>) -> String {
    let calls = standing.calls;
    match unready {
        _ if standing.draining => format!("Draining, no new calls; {calls} still running"),
        Some(sentence) => sentence.to_owned(),
        None => format!("{calls} of at most {most} calls"),
    }
}
