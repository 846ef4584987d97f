//! What a family of models does in its own order and at its own pace, apart from what it refuses.
//!
//! A native model hears the audio itself: its answer and the transcription of the user's words race.
//! A cascade model is a text model behind a recogniser and before a voice: words come first, and the
//! finished speech leaves in a burst. Both as recorded (api-versions 2026-04-10 and 2025-10-01).

use super::family::known_kind;
use voicelived_models::Kind;

/// See the module's text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Habits {
    /// The user's words are told before their item, which holds them, and as a whole.
    pub(super) transcript_first: bool,
    /// A `conversation.item.done` follows the item of a turn that the service has detected.
    pub(super) announces_turns: bool,
    /// `previous_item_id` of a user's item names the user's item before it, whatever lies between.
    pub(super) counts_users_only: bool,
    /// The status of the assistant's items when they begin.
    pub(super) begun: &'static str,
    /// `conversation_id` of a response that belongs to the conversation.
    pub(super) conversation_id: &'static str,
    /// Sizes of audio deltas in milliseconds, in turn.
    pub(super) delta_ms: &'static [usize],
    /// Pace of replies in multiples of real time.
    pub(super) speed: u32,
    /// How long a session lasts, in seconds.
    pub(super) session_seconds: u64,
}

static NATIVE: Habits = Habits {
    transcript_first: false,
    announces_turns: true,
    counts_users_only: false,
    begun: "in_progress",
    conversation_id: "conv_sim",
    // About 260 on average, as the recordings suggest.
    delta_ms: &[200, 250, 300],
    speed: 5,
    session_seconds: 3600,
};

static CASCADE: Habits = Habits {
    transcript_first: true,
    announces_turns: false,
    counts_users_only: true,
    begun: "incomplete",
    conversation_id: "",
    delta_ms: &[500],
    // Ten seconds within 0.6 s. So nobody interrupts before `response.done`.
    speed: 17,
    session_seconds: 7200,
};

/// The habits of a session's model. Those of native models, if its name is not known.
pub(super) fn habits(model: &str, agent: bool) -> &'static Habits {
    match known_kind(model, agent) {
        Some(Kind::Cascade) => &CASCADE,
        Some(Kind::Native | Kind::AzureNative) | None => &NATIVE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_models_and_agents_are_cascades() {
        for (model, agent, cascade) in [
            ("gpt-4.1-mini", false, true),
            ("gpt-4.1-2025-04-14", false, true),
            ("phi4-mm-realtime", false, true),
            ("", true, true),
            ("gpt-realtime", false, false),
            ("azure-realtime", false, false),
            ("my-deployment", false, false),
        ] {
            let expected = if cascade { &CASCADE } else { &NATIVE };
            assert_eq!(habits(model, agent), expected, "{model}");
        }
    }
}
