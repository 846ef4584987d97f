//! A session of the service is lost, and the call goes on without one for a while (`call/reconnect`).

use super::Session;
use super::context::TurnContext;
use crate::call::Restored;
use crate::call::service::HalfCharacters;
use crate::metrics::{Family, nanos};
use crate::net::socket::Socket;

impl<S: Socket> Session<S> {
    /// The service's session is over, and the call goes on without one for a while.
    pub(super) fn drop_session(&mut self, word: &str, message: &str, cx: &mut TurnContext<'_>) {
        log::warn!("[{}] {message} The call connects again.", self.id);
        cx.metrics.count_known(Family::Outages, word);
        // Halves of samples and characters have nothing to wait for any more.
        self.drop_half_reply(cx);
        self.oddities.halves = HalfCharacters::default();
        self.oddities.end_rows();
        self.service.drop_session();
    }

    /// The service's session takes audio. If it follows an outage, this is the end of that.
    pub(super) fn release_microphone(
        &mut self,
        restored: Option<Restored>,
        cx: &mut TurnContext<'_>,
    ) {
        if let Some(Restored { after, tries, items }) = restored {
            log::info!(
                "[{}] connected again after {} ms, {tries} tries; {items} items of the conversation were sent again",
                self.id,
                after.as_millis(),
            );
            cx.metrics.add(Family::Reconnects, 1);
            cx.metrics.add(Family::ItemsReplayed, items as u64);
            cx.metrics.add(Family::WithoutService, nanos(after));
        }
        self.service.open_microphone(restored.is_some(), cx.pool, cx.now);
    }
}
