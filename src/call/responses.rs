//! The life of a response: how it begins, what shows that it lives, and the ways in which it ends.
//!
//! The service announces a response with `response.created` and ends it with `response.done`. Either may
//! be missing. So any sign of an unknown response begins it, and one without a sign of life for too
//! long counts as over. The client is told one `response_started` and one `response_done` of each in
//! any case, since it shows "answering" between them.

use std::time::Instant;

use super::client::{self, Role};
use super::response_gate::{Canceller, Ended, Maker, Sign};
use super::service::{Part, ResponseDone, commands};
use super::unfinished::{Unfinished, why};
use super::{Call, Output};

/// The status of a response whose end never came, for the client.
pub(super) const LOST: &str = "lost";

impl Call {
    /// A response begins. One that is active still is over, since the service has one at a time.
    pub(super) fn open_response(&mut self, response_id: &str, maker: Maker, now: Instant) {
        let before = self.gate.active().map(str::to_owned);
        let Some(stop) = self.gate.created_by(maker, response_id, now) else {
            return;
        };
        if let Some(before) = before {
            let words = self.captions.end(&before, false);
            self.tell_end(&before, words, LOST);
            self.unfinished(Unfinished::Superseded, &before, String::new());
        }
        self.interrupted.begin(response_id);
        self.captions.next_turn(Role::Assistant);
        self.go_on = false;
        if stop {
            self.cancel(response_id, now);
        }
        if self.end_of_turn.take_untold() {
            self.tell(client::speech_stopped(""));
        }
        self.tell(client::response_started());
    }

    /// Something of a response has come, which may be unknown yet.
    pub(super) fn sign_of_life(&mut self, response_id: &str, now: Instant) {
        match self.gate.sign(response_id, now) {
            Sign::Known => {}
            Sign::New => self.open_response(response_id, Maker::Unknown, now),
            Sign::Revived => self.tell(client::response_started()),
        }
    }

    /// Sound or words of a response have come. Where nothing is active, even a response without any name begins
    /// with them: otherwise nobody could interrupt it.
    #[inline]
    pub(super) fn sign_of_reply(&mut self, response_id: &str, now: Instant) {
        if response_id.is_empty() && self.gate.active().is_none() {
            return self.open_response("", Maker::Unknown, now);
        }
        self.sign_of_life(response_id, now);
    }

    /// Whether what comes of this response is not to be heard. What names none belongs to the last one.
    #[inline]
    pub(super) fn is_interrupted(&self, response_id: &str) -> bool {
        if self.interrupted.is_empty() {
            return false;
        }
        let id = if response_id.is_empty() { self.gate.last_id() } else { response_id };
        self.interrupted.is(id)
    }

    /// The user's turn is over. A response without a name that it has cut off is over too: nothing tells what
    /// may still come of it from the answer to this turn.
    pub(super) fn end_nameless(&mut self) {
        if self.gate.active() == Some("") && self.interrupted.is("") {
            self.gate.done("");
            let words = self.captions.end("", false);
            self.tell_end("", words, "cancelled");
        }
    }

    /// Cancels the active response. Nothing of it is heard from here on.
    pub(super) fn cancel(&mut self, response_id: &str, now: Instant) {
        self.interrupted.set(response_id);
        self.gate.cancelled(Canceller::Us, now);
        self.send(commands::response_cancel(response_id));
    }

    /// Before another response is asked for, one that was given up is cancelled: if it lives at the
    /// service after all, the request would be refused. If it does not, the service's complaint about
    /// this command harms nobody.
    pub(super) fn cancel_lost(&mut self) {
        if let Some(response_id) = self.gate.take_lost().map(str::to_owned) {
            self.interrupted.set(&response_id);
            self.send(commands::response_cancel(&response_id));
        }
    }

    /// The service has ended a response. It is told to the client also when it was interrupted. The end
    /// of one that counted as over already only brings its tokens.
    pub(super) fn on_response_done(&mut self, done: &ResponseDone, now: Instant) {
        self.limits.touch(now);
        let mut ended = self.gate.done(&done.response_id);
        if ended == Ended::Unknown && self.gate.active().is_none() {
            self.open_response(&done.response_id, Maker::Unknown, now);
            ended = self.gate.done(&done.response_id);
        }
        if let Some(usage) = done.usage {
            self.totals.input_tokens = self.totals.input_tokens.saturating_add(usage.input_tokens);
            self.totals.output_tokens =
                self.totals.output_tokens.saturating_add(usage.output_tokens);
        }
        let status = if done.status.is_empty() { "completed" } else { done.status.as_str() };
        if ended == Ended::Active {
            if status == "completed" {
                self.on_item_words(&done.response_id, &done.words);
            }
            // Words whose own end never came.
            let words = self.captions.end(&done.response_id, status == "completed");
            self.tell_end(&done.response_id, words, status);
        }
        self.send_usage(now);
        if ended != Ended::Past
            && let Some(how) = Unfinished::of(done)
        {
            self.tell_unfinished(how, done);
        }
    }

    /// Tells why an answer breaks off, unless the user has broken it off anyway.
    fn tell_unfinished(&mut self, how: Unfinished, done: &ResponseDone) {
        if how == Unfinished::Failed || !self.interrupted.is(&done.response_id) {
            let (code, words) = how.words(done);
            self.error(code, &words);
        }
        self.unfinished(how, &done.response_id, why(done));
    }

    pub(super) fn tell_end(&mut self, response_id: &str, words: Vec<(Part, String)>, status: &str) {
        for (part, text) in words {
            self.tell_transcript(Role::Assistant, &part, Some(text));
        }
        let cancelled = status == LOST && self.interrupted.is(response_id);
        self.tell(client::response_done(if cancelled { "cancelled" } else { status }));
    }

    fn unfinished(&mut self, how: Unfinished, response_id: &str, said: String) {
        let response_id = response_id.to_owned();
        self.outputs.push_back(Output::Unfinished { how, response_id, said });
    }

    /// Lets lapse whose time is over: see `response_gate`.
    pub(super) fn lapse(&mut self, now: Instant) {
        let awaited = self.tools.has_complete_batch();
        let lapsed = self.gate.tick(awaited, self.sound_end(), now);
        if lapsed.any {
            self.limits.touch(now);
        }
        match lapsed.response {
            None => {}
            Some(how @ Unfinished::NotCreated) => {
                self.tell_lost();
                self.unfinished(how, "", String::new());
            }
            Some(how) => self.give_up(how),
        }
    }

    /// The active response shows no sign of life, and counts as over.
    fn give_up(&mut self, how: Unfinished) {
        let response_id = self.gate.last_id().to_owned();
        let words = self.captions.give_up(&response_id);
        self.tell_end(&response_id, words, LOST);
        // Somebody may wait for it whose question nothing else is going to answer.
        let asked_again = self.gate.is_wanted() || self.tools.has_complete_batch();
        if how == Unfinished::Silent && self.first_audio.is_awaited() && !asked_again {
            self.tell_lost();
        }
        self.unfinished(how, &response_id, String::new());
    }

    fn tell_lost(&mut self) {
        let words = "The voice service has not answered. Say it again, or type it.";
        self.error("response_lost", words);
    }
}
