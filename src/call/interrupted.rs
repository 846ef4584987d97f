//! The response that the user has interrupted. The service goes on sending what it had made of it, and
//! none of that may reach the client, or a barge-in would be followed by the words it cut off.

/// The id of the interrupted response, from the interruption to its `response.done`.
///
/// One id is enough: the service has one response active at a time, and the next
/// `response.created` [clears](Self::clear) it. The text's memory is reused.
#[derive(Debug, Default)]
pub(super) struct Interrupted {
    on: bool,
    response_id: String,
}

impl Interrupted {
    /// This response is interrupted; an earlier one is forgotten.
    pub(super) fn set(&mut self, response_id: &str) {
        self.on = true;
        self.response_id.clear();
        self.response_id.push_str(response_id);
    }

    /// No response is interrupted any more.
    pub(super) fn clear(&mut self) {
        self.on = false;
    }

    /// Whether it is this response. Asked for every audio delta: it neither allocates nor copies.
    pub(super) fn is(&self, response_id: &str) -> bool {
        self.on && self.response_id == response_id
    }
}
