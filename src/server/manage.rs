//! The way from SIGTERM to the end of the process, and the reports to the service manager (systemd).

use std::time::{Duration, Instant};

use super::Server;
use super::slot::Conn;
use crate::call::ending::EndReason;
use crate::system::systemd::Standing;

/// How long calls may take to end in order once they were told to. Visitors are still answered during
/// this time: `/healthz` says `draining`, and new calls are refused.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The time that the service manager is asked for beyond draining and closing. It keeps the manager
/// from killing the process just before its own deadline.
const MARGIN: Duration = Duration::from_secs(5);

/// Where the daemon stands between its start and its end. It only moves downwards:
///
/// ```text
/// Serving ──first signal──► Draining ──time is up──► Closing ──► end of `run`
///    └──────first signal, nothing to wait for──────────▲
/// Draining, Closing ──second signal──► Stopped ──► end of `run`
/// ```
///
/// Draining and Closing also end as soon as nothing is left to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifecycle {
    /// New calls are admitted.
    Serving,
    /// Running calls may go on until this time. The only new calls are those of visitors that came
    /// through a passed socket before: they are connected to this process and cannot reach the next.
    Draining(Instant),
    /// Every call was told to end. What is left at this time is dropped, so a client that does not
    /// answer cannot keep the process alive.
    Closing(Instant),
    /// A second signal asked for the end at once. Nothing is told any more.
    Stopped,
}

impl Lifecycle {
    /// Whether a visitor may begin a call. `passed` says whether it came through a passed socket.
    /// While the daemon drains it accepts no more connections there. So a visitor with `passed` came
    /// before the signal, and no other process can serve it.
    pub(super) fn admits_calls(self, passed: bool) -> bool {
        match self {
            Self::Serving => true,
            Self::Draining(_) => passed,
            Self::Closing(_) | Self::Stopped => false,
        }
    }
}

impl Server {
    /// Takes SIGTERM or SIGINT. The first one begins to drain, or to close if there is nothing to
    /// wait for. The second one stops the loop in this turn.
    pub(super) fn begin_stop(&mut self, now: Instant) {
        if self.lifecycle != Lifecycle::Serving {
            self.lifecycle = Lifecycle::Stopped;
            return;
        }
        let drain = self.calls.as_ref().map_or(Duration::ZERO, |calls| calls.drain);
        self.manager.stopping(drain + STOP_TIMEOUT + MARGIN);
        // This comes before the visitors are counted, since no visitor may be added to them afterwards.
        self.leave_passed_sockets();
        // A client that is away would not be let in again.
        for at in 0..self.slots.len() {
            self.with_session(at, now, |session, cx| session.hold_no_more(cx));
        }
        let running = self.running_calls();
        if drain.is_zero() || (running == 0 && !self.has_unserved_visitors()) {
            log::info!("stopping: running calls are told and end now");
            return self.close_calls(now);
        }
        log::info!(
            "draining: calls in progress: {running}; they may go on for {} s",
            drain.as_secs()
        );
        self.lifecycle = Lifecycle::Draining(now + drain);
    }

    /// Begins to close: tells every call to end. Each call sends its `ended` message and its close
    /// frames; the deadline bounds how long the loop waits for the peers' answers.
    fn close_calls(&mut self, now: Instant) {
        self.lifecycle = Lifecycle::Closing(now + STOP_TIMEOUT);
        self.servers.stop(now);
        for at in 0..self.slots.len() {
            self.with_session(at, now, |session, cx| session.end(EndReason::Stopping, cx));
        }
    }

    /// Goes from draining to closing when the time for the calls is over.
    pub(super) fn watch_drain(&mut self, now: Instant) {
        let done = self.running_calls() == 0 && !self.has_unserved_visitors();
        if matches!(self.lifecycle, Lifecycle::Draining(_)) && done {
            return self.close_calls(now);
        }
        if matches!(self.lifecycle, Lifecycle::Draining(deadline) if now >= deadline) {
            log::warn!(
                "draining took too long; calls that are told and end now: {}",
                self.running_calls()
            );
            self.close_calls(now);
        }
    }

    /// Stops accepting on the passed sockets. New connections wait in the kernel for the next process.
    /// The daemon's own listeners stay open, and answer `draining` until the end.
    fn leave_passed_sockets(&mut self) {
        for listener in self.listeners.iter_mut().filter(|listener| listener.passed) {
            // If this fails, a later event may still mark the listener. Nothing else can be done.
            let _ = self.poll.registry().deregister(&mut listener.socket);
            listener.ready = false;
        }
    }

    /// Whether a visitor from a passed socket still waits for an answer or a call. Its connection
    /// belongs to this process, so the next process cannot serve it. The visitor's own time limits
    /// bound how long this is true.
    fn has_unserved_visitors(&self) -> bool {
        let passed = |at: &usize| self.listeners.get(*at).is_some_and(|listener| listener.passed);
        self.slots.iter().any(|slot| match &slot.conn {
            Conn::Visitor { visitor, listener } => visitor.is_unserved() && passed(listener),
            _ => false,
        })
    }

    /// Whether the loop ends now. Closing has a deadline here, draining has not: `watch_drain` turns
    /// it into closing.
    pub(super) fn is_stopped(&self, now: Instant) -> bool {
        let is_empty = || self.running_calls() == 0 && !self.has_unserved_visitors();
        match self.lifecycle {
            Lifecycle::Serving => false,
            // What is left to close has its own time.
            Lifecycle::Draining(_) => false,
            Lifecycle::Closing(deadline) => {
                (is_empty() && self.servers.are_stopped()) || now >= deadline
            }
            Lifecycle::Stopped => true,
        }
    }

    /// How many calls there are, those that are just ending included.
    pub(super) fn running_calls(&self) -> usize {
        self.running
    }

    /// Reports to the service manager, at the end of each turn: the watchdog is fed, a reload is
    /// confirmed, and a changed state is told. A loop that hangs does not get here, so the manager's
    /// watchdog notices it.
    pub(super) fn report(&mut self, now: Instant) {
        self.manager.turn(now);
        self.manager.reloaded();
        let calls = self.calls.as_ref();
        let standing = Standing {
            calls: self.running_calls(),
            draining: self.lifecycle != Lifecycle::Serving,
            configured: calls.is_none_or(|calls| calls.configuration.unready.is_none()),
        };
        let most = calls.map_or(0, |calls| calls.max_sessions);
        let unready = calls.and_then(|calls| calls.configuration.unready.as_deref());
        self.manager.tell(standing, now, || words(standing, most, unready));
    }
}

/// The text that `systemctl status` shows (`STATUS=`, sd_notify(3)).
pub(super) fn words(standing: Standing, most: usize, unready: Option<&str>) -> String {
    let calls = standing.calls;
    match unready {
        _ if standing.draining => format!("Draining, no new calls; {calls} still running"),
        Some(sentence) => sentence.to_owned(),
        None => format!("{calls} of at most {most} calls"),
    }
}
