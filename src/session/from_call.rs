//! What the call wants: its outputs become work for the two sides, the loop and the counters.

use super::context::{Carried, TurnContext};
use super::{CLOSE_TIMEOUT, Phase, Session};
use crate::call::ending::EndReason;
use crate::call::service::ServiceError;
use crate::call::{Input, MAX_SILENCE_BYTES, Output, Unfinished};
use crate::metrics::Family;
use crate::net::socket::Socket;
use crate::net::ws::WsError;

impl<S: Socket> Session<S> {
    /// Gives the call one input, and does what it wants at once. The call must never meet the next
    /// input with outputs waiting.
    pub(super) fn input(&mut self, input: Input<'_>, cx: &mut TurnContext<'_>) {
        self.call.handle(input, cx.now);
        self.carry_out(cx);
        self.tick = self.call.deadline();
    }

    /// Does what the call wants, in its order, until it wants nothing more. Refused tools are answered
    /// afterwards: their answer is an input, and an input must not come between two outputs.
    pub(super) fn carry_out(&mut self, cx: &mut TurnContext<'_>) {
        if self.call.is_drained() {
            return;
        }
        let mut settled = Vec::new();
        while let Some(output) = self.call.poll() {
            match output {
                Output::ToService(json) => self.tell_service(&json, cx),
                Output::BehindMicrophone(json) => {
                    let told = self.service.tell_behind(json);
                    self.count_unsent(told, cx);
                }
                Output::Silence { bytes } => {
                    // It ends a turn where the client has stopped sending.
                    let silence = [0; MAX_SILENCE_BYTES];
                    let silence = &silence[..bytes.min(MAX_SILENCE_BYTES)];
                    let keep = self.call.microphone_keep();
                    let dropped = self.service.take_microphone(silence, keep, cx.pool);
                    self.totals.microphone_dropped += dropped as u64;
                    cx.metrics.add(Family::MicrophoneDropped, dropped as u64);
                }
                Output::ToClient(json) => self.client.tell(&json),
                Output::DropPlayback => {
                    self.client.drop_reply(cx.pool);
                    self.drop_half_reply(cx);
                }
                Output::DropSession { word, message } => self.drop_session(word, &message, cx),
                Output::Redial { conversation } => {
                    self.release_next(cx);
                    self.service.redial(&conversation);
                }
                Output::Prepare { conversation } => self.prepare_next(&conversation, cx),
                Output::ToNext(json) => self.tell_next(&json, cx),
                Output::DropNext { message } => self.drop_next(&message, cx),
                Output::HoldMicrophone => self.service.pause_microphone(),
                Output::ResumeMicrophone => self.service.resume_microphone(),
                Output::ChangeOver(change) => self.change_over(&change, cx),
                Output::ReleaseMicrophone { restored } => self.release_microphone(restored, cx),
                Output::CommitMicrophone => self.service.commit_microphone(),
                Output::SettleMicrophone => self.service.settle_microphone(cx.pool),
                Output::HoldCall { until } => self.hold(until, cx),
                Output::Heard(after) => cx.metrics.first_heard(after),
                Output::ItemRefused => cx.metrics.add(Family::ItemsRefused, 1),
                Output::RunTool { call_id, name, arguments } => {
                    let wanted = if self.candidate().settings().may_use(&name) {
                        cx.want_tool(&call_id, &name, &arguments)
                    } else {
                        Err("There is no such tool.".to_owned())
                    };
                    cx.count_wanted(&wanted);
                    settled.push((call_id, wanted));
                }
                Output::RunAllowed { call_id } => {
                    let allowed = self.run_allowed(&call_id, cx);
                    settled.push((call_id, allowed));
                }
                Output::ForgetTool { call_id } => self.forget_tool(&call_id),
                Output::StopTool { call_id } => cx.unwanted.push(call_id),
                Output::Asked(asked) => self.count_asked(asked, cx),
                Output::ToolRefused => cx.metrics.count(Family::Tools, "refused"),
                Output::Unfinished { how, response_id, said } => {
                    let (id, meaning) = (&self.id, how.meaning());
                    let said = if said.is_empty() { said } else { format!(": {said}") };
                    // After an interruption the next response may well come before the end of the first.
                    let usual = how == Unfinished::Superseded;
                    let level = if usual { log::Level::Debug } else { log::Level::Warn };
                    log::log!(level, "[{id}] response {response_id:?} {meaning}{said}");
                    cx.metrics.count(Family::Unfinished, how.word());
                }
                Output::TranscriptFailed { error } => self.on_transcript_failed(&error, cx),
                Output::Close(reason) => self.begin_close(reason, cx),
            }
        }
        for (call_id, wanted) in settled {
            let call_id = &call_id;
            match wanted {
                Ok(Carried::Run { most }) => self.input(Input::ToolTakes { call_id, most }, cx),
                Ok(Carried::Ask(wanted)) => self.ask_first(wanted, cx),
                Ok(Carried::HangUp) => self.input(Input::HangUp { call_id }, cx),
                Err(error) => {
                    let output = &serde_json::json!({ "error": error }).to_string();
                    self.input(Input::ToolFinished { call_id, output, ok: false }, cx);
                }
            }
        }
    }

    /// Half a sample of a reply that is over will not be completed.
    pub(super) fn drop_half_reply(&mut self, cx: &mut TurnContext<'_>) {
        for _ in 0..self.half_reply.drop() {
            cx.metrics.count(Family::HalfSamples, "service");
        }
    }

    /// The owner is told once a call what to change: a transcriber that is not there fails at every turn.
    fn on_transcript_failed(&mut self, error: &ServiceError, cx: &mut TurnContext<'_>) {
        cx.metrics.add(Family::TranscriptsFailed, 1);
        self.totals.transcripts_failed += 1;
        let or =
            |text: &str, none: &str| if text.is_empty() { none.into() } else { text.to_owned() };
        let (message, code) = (or(&error.message, "no reason given"), or(&error.code, "no code"));
        let id = &self.id;
        if self.totals.transcripts_failed > 1 {
            log::debug!("[{id}] another turn without a transcript: {message} ({code})");
            return;
        }
        log::warn!(
            "[{id}] the service has no transcript: {message} ({code}). The call goes on without. \
             If it happens at every turn, set another transcriber as input_audio_transcription in AZURE_VOICE_LIVE_SESSION_FILE, or change \
             AZURE_VOICE_LIVE_LANGUAGE"
        );
    }

    /// A service that takes nothing is found by its keep-alive; a lost one by the next read.
    fn tell_service(&mut self, json: &str, cx: &mut TurnContext<'_>) {
        let told = self.service.tell(json);
        self.count_unsent(told, cx);
    }

    pub(super) fn count_unsent(&self, told: Result<(), WsError>, cx: &mut TurnContext<'_>) {
        if let Err(WsError::Full) = told {
            cx.metrics.add(Family::Unsent, 1);
            log::warn!("[{}] a message for the service was dropped: too many wait", self.id);
        }
    }

    /// Talking → Closing. The call gives [`Output::Close`] once, so this runs once.
    fn begin_close(&mut self, reason: EndReason, cx: &mut TurnContext<'_>) {
        // `refused` is the service's word too: a client's flood is counted by itself.
        let flood = matches!(reason, EndReason::Refused(_));
        cx.metrics.count(Family::Ended, if flood { "flood" } else { reason.word() });
        if reason.is_fault() {
            log::warn!("[{}] {}", self.id, reason.message());
        }
        self.end_hold(cx);
        self.client.close(&reason, cx.pool);
        self.service.close(cx.pool);
        self.close_next(cx);
        self.drop_half_reply(cx);
        self.drop_half_microphone(cx);
        self.phase = Phase::Closing { reason, deadline: cx.now + CLOSE_TIMEOUT };
    }
}
