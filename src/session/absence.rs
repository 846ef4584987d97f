//! The client's connection breaks, and the client takes its call up again on another one.
//!
//! The order of a return is a promise: `hello`, the messages that were missed, the state of the call as it
//! is now, `hold` if the reply is held, the questions that are open, then the reply from the byte on that the client
//! has had. Audio that a barge-in has dropped meanwhile is not sent: the missed `speech_started` stands for it.

use std::fmt::Display;
use std::time::{Duration, Instant};

use super::client_side::{Had, Missed};
use super::context::TurnContext;
use super::tail::NoReturn;
use super::{EndReason, Input, Session};
use crate::call::client;
use crate::metrics::{Family, nanos};
use crate::net::socket::Socket;
use crate::net::ws::WsPeer;

impl<S: Socket> Session<S> {
    /// The client's connection has broken without a goodbye. A call that may not be held ends.
    pub(super) fn break_client(&mut self, why: &dyn Display, cx: &mut TurnContext<'_>) {
        if self.is_talking() {
            log::debug!("[{}] the client is gone: {why}", self.id);
            self.input(Input::ClientBroken, cx);
        }
    }

    /// The call goes on without a client, until then at most.
    pub(super) fn hold(&mut self, until: Instant, cx: &mut TurnContext<'_>) {
        self.client.leave(until);
        self.drop_half_microphone(cx);
        log::info!(
            "[{}] the client's connection broke; the call is held for {} s",
            self.id,
            (until - cx.now).as_secs()
        );
    }

    /// Since when the call is held for a client that is away; `None` while it is not.
    #[must_use]
    pub fn held_since(&self) -> Option<Instant> {
        self.call.away_since().filter(|_| self.is_talking())
    }

    /// Whether the call can be taken up: it may be held, and has not ended.
    #[must_use]
    pub fn may_be_taken_up(&self) -> bool {
        self.call.may_be_held()
    }

    /// Whether a client that has had this can go on from there.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn may_go_on(&self, had: Had) -> Result<(), NoReturn> {
        self.client.may_go_on(had)
    }

    /// The client goes on with the call on another connection; ask [`may_go_on`](Self::may_go_on) first.
    /// `resume` is the secret for the next time. Returns the connection before, if it was not known to
    /// be dead. Follow with [`pump`](Self::pump).
    pub fn take_up(
        &mut self,
        peer: WsPeer<S>,
        had: Had,
        resume: &str,
        cx: &mut TurnContext<'_>,
    ) -> Option<WsPeer<S>> {
        let Missed { pcm, texts, old } = self.client.join(peer, had, cx.pool, cx.now);
        let away = self.call.take_up(pcm, cx.now);
        self.drop_half_microphone(cx);
        self.tick = self.call.deadline();
        Self::count_hold(if old.is_some() { "replaced" } else { "resumed" }, away, cx);
        log::info!(
            "[{}] the client is back after {} ms; {} messages and {pcm} bytes of the reply are sent again",
            self.id,
            away.as_millis(),
            texts.len(),
        );
        let heard = self.totals.microphone_bytes;
        self.client.tell(&self.call.hello_again(&self.id, resume, heard));
        let told = texts.iter().filter(|json| !client::is_question(json));
        told.for_each(|json| self.client.tell(json));
        self.client.tell(&self.call.state_now());
        self.call.hold_now().iter().for_each(|json| self.client.tell(json));
        // A question that was missed may be over, and has less time left.
        self.call.questions_now(cx.now).for_each(|json| self.client.tell(&json));
        old
    }

    /// The next connection begins with a whole sample, so the half that has come counts as not heard.
    pub(super) fn drop_half_microphone(&mut self, cx: &mut TurnContext<'_>) {
        if self.half_microphone.drop() {
            self.totals.microphone_bytes -= 1;
            cx.metrics.count(Family::HalfSamples, "client");
        }
    }

    /// A hold is over: counts how, and how long the client was away.
    fn count_hold(outcome: &'static str, away: Duration, cx: &mut TurnContext<'_>) {
        cx.metrics.count(Family::Holds, outcome);
        cx.metrics.add(Family::WithoutClient, nanos(away));
    }

    /// The call ends, perhaps while it is held.
    pub(super) fn end_hold(&self, cx: &mut TurnContext<'_>) {
        if let Some(since) = self.call.away_since() {
            Self::count_hold("ended", cx.now.saturating_duration_since(since), cx);
        }
    }

    /// From now on this call is not held: the daemon stops, and the client would not be let in again. If
    /// it is held, it ends.
    pub fn hold_no_more(&mut self, cx: &mut TurnContext<'_>) {
        self.call.hold_no_more();
        if self.held_since().is_some() {
            self.input(Input::End(EndReason::Stopping), cx);
        }
    }
}
