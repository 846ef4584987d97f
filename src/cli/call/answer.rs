//! Decides whether a call was answered, and which part of the answer was heard. It is pure:
//! messages and time go in.

use std::time::{Duration, Instant};

use serde_json::Value;

/// An answer counts as complete when nothing has followed its response for this long. Late audio,
/// the transcript of the question or a follow-up response may still follow.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// How soon an answer goes on that was lost in the middle, if it does.
const CONTINUED: Duration = Duration::from_secs(4);

/// PCM16, 24 kHz, mono.
const BYTES_PER_MS: u128 = 48;

/// Of what was heard before a hold, so many bytes are heard again: 200 ms.
const AGAIN: usize = 9_600;

/// The response that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Response {
    None,
    /// It is no answer, because it began before the user's turn ended. A greeting does so.
    Unasked,
    /// The answer or a part of it.
    Answer,
}

/// Follows the daemon's messages as a caller who has asked and waits for the answer.
///
/// The answer is what begins after a turn of the user has ended, spoken or typed. When a tool ran
/// in a response, the next response belongs to the answer too. A new turn begins a new answer.
#[derive(Debug)]
pub(super) struct Answer {
    asked: bool,
    speaking: bool,
    response: Response,
    tools: usize,
    /// A tool has run, and no response has used its result yet.
    follow_up: bool,
    /// Words or sound have come since the last turn ended.
    heard: bool,
    /// The last response was completed.
    done: bool,
    completed: u32,
    /// The last response ended with its session. It may go on.
    lost: bool,
    /// Why the last response has no proper end.
    failure: Option<String>,
    /// When the last thing happened that concerns the answer.
    last: Instant,
}

impl Answer {
    /// Nothing is asked yet.
    #[must_use]
    pub(super) fn new(now: Instant) -> Self {
        Self {
            asked: false,
            speaking: false,
            response: Response::None,
            tools: 0,
            follow_up: false,
            heard: false,
            done: false,
            completed: 0,
            lost: false,
            failure: None,
            last: now,
        }
    }

    /// A typed turn was sent.
    pub(super) fn typed(&mut self, now: Instant) {
        self.turn_ended(now);
    }

    /// The user has answered a question: what becomes of it will be spoken about.
    pub(super) fn question_answered(&mut self, now: Instant) {
        self.follow_up |= self.asked;
        self.last = now;
    }

    /// Takes one text message of the daemon. Most types change nothing.
    pub(super) fn on_message(&mut self, message: &Value, now: Instant) {
        let text = |key: &str| message[key].as_str().unwrap_or_default();
        match text("type") {
            "speech_started" | "hold" => self.speaking = true,
            "resume_playback" => {
                self.speaking = false;
                self.last = now;
            }
            "speech_stopped" => self.turn_ended(now),
            "response_started" => self.response_started(now),
            "response_done" => self.response_done(text("status"), now),
            "tool" => self.on_tool(text("state"), now),
            "call_state" if text("state") == "active" => self.service_is_back(now),
            "transcript" if text("role") == "assistant" && self.response == Response::Answer => {
                self.heard = true;
                self.last = now;
            }
            "transcript_delta" if self.response == Response::Answer => self.last = now,
            "error" if matches!(text("code"), "response_failed" | "response_incomplete") => {
                self.failure = Some(text("message").to_owned());
            }
            _ => {}
        }
    }

    /// Audio has come. Returns whether it belongs to the answer.
    pub(super) fn on_audio(&mut self, now: Instant) -> bool {
        // Text overtakes audio. So audio after a `response_done` still belongs to that response.
        let answer = self.response == Response::Answer || self.done;
        if answer {
            self.heard = true;
            self.last = now;
        }
        answer
    }

    /// Whether neither side speaks.
    #[must_use]
    pub(super) fn is_idle(&self) -> bool {
        !self.speaking && self.response == Response::None
    }

    /// Whether the answer has ended, and nothing has followed for [`GRACE`].
    #[must_use]
    pub(super) fn is_complete(&self, now: Instant) -> bool {
        self.is_answered() && now >= self.last + GRACE
    }

    /// Whether the last turn has an answer, as far as is known.
    #[must_use]
    pub(super) fn is_answered(&self) -> bool {
        let pending = self.tools > 0 || self.follow_up;
        self.asked && self.done && self.heard && self.is_idle() && !pending
    }

    /// The number of completed responses in this call that answered a turn.
    #[must_use]
    pub(super) fn completed(&self) -> u32 {
        self.completed
    }

    /// Why no answer will come, when the service gave up on it.
    #[must_use]
    pub(super) fn failure(&self, now: Instant) -> Option<&str> {
        let over = self.is_idle() && now >= self.last + GRACE;
        self.failure.as_deref().filter(|_| over)
    }

    /// Whether the user has had a turn.
    #[must_use]
    pub(super) fn is_asked(&self) -> bool {
        self.asked
    }

    /// Whether anything of an answer to the last turn has come.
    #[must_use]
    pub(super) fn has_begun(&self) -> bool {
        self.heard || self.response == Response::Answer
    }

    /// When the last thing happened that concerns the answer.
    #[must_use]
    pub(super) fn last(&self) -> Instant {
        self.last
    }

    /// The call has a session again. What the user has heard the beginning of is asked for again only if
    /// the owner of the daemon wants that.
    fn service_is_back(&mut self, now: Instant) {
        if self.lost && self.heard {
            self.failure = Some("the service was lost in the middle of the answer".to_owned());
            self.last = now + CONTINUED;
        }
    }

    fn turn_ended(&mut self, now: Instant) {
        self.speaking = false;
        self.asked = true;
        self.heard = false;
        self.done = false;
        self.follow_up = false;
        self.lost = false;
        self.failure = None;
        self.last = now;
    }

    fn response_started(&mut self, now: Instant) {
        let answer = self.asked && !self.speaking;
        self.response = if answer { Response::Answer } else { Response::Unasked };
        self.done = false;
        self.follow_up = false;
        self.lost = false;
        self.failure = None;
        self.last = now;
    }

    fn response_done(&mut self, status: &str, now: Instant) {
        let answer = std::mem::replace(&mut self.response, Response::None) == Response::Answer;
        if !answer {
            return;
        }
        self.last = now;
        match status {
            "completed" => {
                self.done = true;
                self.completed += u32::from(self.heard);
            }
            // The user went on speaking: another answer comes. A lost one may go on.
            "cancelled" => {}
            "lost" => self.lost = true,
            _ => self.failure = Some(format!("the service broke the answer off ({status})")),
        }
    }

    fn on_tool(&mut self, state: &str, now: Instant) {
        self.last = now;
        self.follow_up |= self.asked;
        match state {
            "running" => self.tools += 1,
            _ => self.tools = self.tools.saturating_sub(1),
        }
    }
}

/// A listener. Answers arrive faster than they are played. What had not been played when the user
/// spoke again was never heard.
#[derive(Debug)]
pub(super) struct Ear {
    queue: Vec<u8>,
    /// When the queue's first sample is heard.
    from: Instant,
    /// The last that was heard of this answer: [`AGAIN`] at most.
    past: Vec<u8>,
    /// The daemon has told it to stop here, for the moment.
    held: bool,
}

impl Ear {
    /// Has heard nothing.
    #[must_use]
    pub(super) fn new(now: Instant) -> Self {
        Self { queue: Vec::new(), from: now, past: Vec::new(), held: false }
    }

    /// Audio has come; it is heard after what waits.
    pub(super) fn hear(&mut self, pcm: &[u8], now: Instant) {
        if self.queue.is_empty() {
            self.from = self.from.max(now);
            if !self.held {
                self.past.clear();
            }
        }
        self.queue.extend_from_slice(pcm);
    }

    /// Takes what has been heard by now.
    pub(super) fn take(&mut self, now: Instant) -> Vec<u8> {
        if self.held {
            return Vec::new();
        }
        let elapsed = now.saturating_duration_since(self.from);
        let bytes = elapsed.as_millis() * BYTES_PER_MS;
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.queue.len() & !1);
        let rest = self.queue.split_off(bytes);
        self.from += duration(bytes);
        let heard = std::mem::replace(&mut self.queue, rest);
        self.past.extend_from_slice(&heard);
        self.past.drain(..self.past.len().saturating_sub(AGAIN));
        heard
    }

    /// Hears nothing more until it goes on. Call [`take`](Self::take) first.
    pub(super) fn hold(&mut self) {
        self.held = true;
    }

    /// Goes on where it stopped. What was heard last is heard again, unless there is nothing more to hear.
    pub(super) fn go_on(&mut self, now: Instant) {
        if std::mem::take(&mut self.held) && !self.queue.is_empty() {
            self.from = now;
            self.queue.splice(..0, std::mem::take(&mut self.past));
        }
    }

    /// Forgets what has not been heard yet.
    pub(super) fn drop_rest(&mut self) {
        self.queue.clear();
        self.held = false;
    }

    /// Takes everything, as if it had been listened to to the end.
    pub(super) fn take_all(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.queue)
    }

    /// Whether everything has been heard.
    #[must_use]
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        !self.held && now >= self.from + duration(self.queue.len())
    }
}

/// How long that many bytes of PCM sound.
#[must_use]
pub(super) fn duration(bytes: usize) -> Duration {
    Duration::from_micros(u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(125) / 6)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Scene {
        answer: Answer,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            let now = Instant::now();
            Self { answer: Answer::new(now), now }
        }

        /// One word a message: `started` and `done` of a response, `completed` is the status.
        fn play(&mut self, words: &str) -> &mut Self {
            for word in words.split_whitespace() {
                self.now += Duration::from_millis(100);
                let message = match word {
                    "audio" => {
                        self.answer.on_audio(self.now);
                        continue;
                    }
                    "typed" => {
                        self.answer.typed(self.now);
                        continue;
                    }
                    "speech" => json!({"type": "speech_started"}),
                    "stopped" => json!({"type": "speech_stopped"}),
                    "started" => json!({"type": "response_started"}),
                    "running" => json!({"type": "tool", "name": "t", "state": "running"}),
                    "finished" => json!({"type": "tool", "name": "t", "state": "done"}),
                    "words" => json!({"type": "transcript", "role": "assistant", "text": "x"}),
                    "active" => json!({"type": "call_state", "state": "active"}),
                    status => json!({"type": "response_done", "status": status}),
                };
                self.answer.on_message(&message, self.now);
            }
            self
        }

        fn is_complete(&self) -> bool {
            self.answer.is_complete(self.now + GRACE)
        }
    }

    fn complete(words: &str) -> bool {
        Scene::new().play(words).is_complete()
    }

    #[test]
    fn a_completed_response_after_the_turn_is_an_answer() {
        assert!(complete("speech stopped started audio completed"));
        assert!(complete("speech stopped started words completed"));
        assert!(complete("typed started audio completed audio"));
        assert!(!complete("speech stopped started audio"));
        assert!(!complete("speech stopped started completed"), "neither words nor sound");
        assert!(!complete("started audio words completed"), "nobody has asked");
        assert!(!complete("speech started audio completed"), "the user still speaks");
    }

    #[test]
    fn a_greeting_is_no_answer() {
        assert!(!complete("started audio speech cancelled stopped"));
        assert!(!complete("started audio speech stopped completed"));
        assert!(complete("started audio speech cancelled stopped started audio completed"));
        assert!(complete("started audio completed typed started audio completed"));
        let mut scene = Scene::new();
        scene.play("started");
        assert!(!scene.answer.on_audio(scene.now) && !scene.answer.is_idle());
        scene.play("speech cancelled stopped");
        assert!(!scene.answer.on_audio(scene.now));
        scene.play("started");
        assert!(scene.answer.on_audio(scene.now));
    }

    #[test]
    fn a_tool_is_followed_by_the_answer_proper() {
        let called = "speech stopped started audio running completed";
        assert!(!complete(called));
        assert!(!complete(&format!("{called} finished")));
        assert!(!complete(&format!("{called} finished started")));
        assert!(complete(&format!("{called} finished started audio completed")));
        assert!(!complete("typed started running running finished completed"));
        assert!(complete("typed started running finished completed started words completed"));
    }

    #[test]
    fn grace_runs_from_the_last_sound() {
        let mut scene = Scene::new();
        scene.play("typed started audio completed");
        let early = scene.now + GRACE;
        scene.play("audio");
        assert!(!scene.answer.is_complete(early));
        assert!(scene.is_complete());
    }

    #[test]
    fn a_new_turn_wants_a_new_answer() {
        let first = "speech stopped started audio completed";
        assert!(!complete(&format!("{first} speech")));
        assert!(!complete(&format!("{first} speech stopped")));
        assert!(!complete("speech stopped started audio speech cancelled stopped"));
        let mut scene = Scene::new();
        scene.play(first).play("speech stopped started audio completed");
        assert!(scene.is_complete());
        assert_eq!(scene.answer.completed(), 2);
    }

    #[test]
    fn a_failed_response_is_told_after_the_grace() {
        let mut scene = Scene::new();
        scene.play("speech stopped started audio failed");
        assert!(!scene.is_complete() && scene.answer.failure(scene.now).is_none());
        assert!(scene.answer.failure(scene.now + GRACE).unwrap().contains("failed"));
        let error = json!({"type": "error", "code": "response_failed", "message": "No quota."});
        scene.answer.on_message(&error, scene.now);
        assert_eq!(scene.answer.failure(scene.now + GRACE), Some("No quota."));
        scene.play("started");
        assert!(scene.answer.failure(scene.now + GRACE).is_none());
        scene.play("incomplete");
        let error = json!({"type": "error", "code": "response_incomplete", "message": "Too long."});
        scene.answer.on_message(&error, scene.now);
        assert_eq!(scene.answer.failure(scene.now + GRACE), Some("Too long."));
    }

    #[test]
    fn a_lost_response_may_go_on() {
        let mut scene = Scene::new();
        scene.play("typed started audio lost");
        assert!(scene.answer.failure(scene.now + GRACE).is_none() && !scene.is_complete());
        scene.play("started audio completed");
        assert!(scene.is_complete());
    }

    #[test]
    fn a_response_that_was_lost_with_its_session_may_be_over() {
        let mut scene = Scene::new();
        scene.play("typed started audio lost active");
        assert!(scene.answer.failure(scene.now + GRACE).is_none(), "it may be continued");
        let later = scene.now + GRACE + CONTINUED;
        assert!(scene.answer.failure(later).unwrap().contains("in the middle"));
        scene.play("started audio completed");
        assert!(scene.is_complete() && scene.answer.failure(later + GRACE).is_none());
        // What had not begun is asked for again in any case.
        scene.play("typed started lost active");
        assert!(scene.answer.failure(scene.now + GRACE + CONTINUED).is_none());
    }

    #[test]
    fn strange_messages_change_nothing() {
        let mut scene = Scene::new();
        for message in [json!(null), json!([]), json!({"type": 7}), json!({"type": "later"})] {
            scene.answer.on_message(&message, scene.now);
        }
        scene.play("finished finished words");
        assert!(!scene.answer.is_answered() && scene.answer.is_idle());
    }

    #[test]
    fn an_ear_hears_in_real_time() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut ear = Ear::new(start);
        ear.hear(&[1; 4800], at(1000));
        assert_eq!(ear.take(at(1040)).len(), 40 * 48);
        assert_eq!(ear.take(at(1040)).len(), 0);
        assert!(!ear.is_quiet(at(1099)) && ear.is_quiet(at(1100)));
        ear.hear(&[2; 960], at(1050));
        assert_eq!(ear.take(at(1110)).len(), 70 * 48);
        ear.drop_rest();
        assert!(ear.take_all().is_empty() && ear.is_quiet(at(1110)));
        ear.hear(&[3; 96], at(5000));
        assert_eq!(ear.take(at(5001)).len(), 48);
        assert_eq!(ear.take_all().len(), 48);
    }

    #[test]
    fn an_ear_that_is_held_hears_nothing_and_then_the_last_of_it_again() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let pcm: Vec<u8> = (0..96_000_u32).map(|byte| (byte % 251) as u8).collect();
        let mut ear = Ear::new(start);
        ear.hear(&pcm[..72_000], at(0));
        assert!(ear.take(at(1000)) == pcm[..48_000]);
        ear.hold();
        ear.hear(&pcm[72_000..], at(1200));
        assert!(ear.take(at(2000)).is_empty() && !ear.is_quiet(at(9000)));
        ear.go_on(at(2000));
        assert!(ear.take(at(2200)) == pcm[48_000 - AGAIN..48_000], "200 ms again");
        assert!(ear.take(at(3000)) == pcm[48_000..86_400] && !ear.is_quiet(at(3199)));
        assert!(ear.take(at(3200)) == pcm[86_400..] && ear.is_quiet(at(3200)));
        // It has heard all: there is nothing to go on with, unless more has come.
        ear.hold();
        ear.go_on(at(4000));
        assert!(ear.take(at(5000)).is_empty());
        ear.hold();
        ear.hear(&[7; 96], at(5000));
        ear.go_on(at(6000));
        assert_eq!(ear.take(at(7000)).len(), AGAIN + 96);
        // A turn ends the hold, and what comes then is another answer.
        ear.hold();
        ear.drop_rest();
        ear.hear(&[8; 96], at(8000));
        assert_eq!(ear.take(at(8002)), [8; 96]);
        ear.hold();
        ear.hear(&[9; 96], at(8100));
        ear.go_on(at(8200));
        assert_eq!(ear.take(at(9000)), [[8; 96], [9; 96]].concat(), "of the other one nothing");
    }
}
