//! The responses that the user has interrupted. The service goes on sending what it had made of them,
//! and none of that may reach the client, or a barge-in would be followed by the words it cut off.

use std::collections::VecDeque;

/// Responses remembered. What the service had made of one comes within a second, and a user cannot
/// interrupt eight in that time.
const MOST: usize = 8;

/// The ids of the interrupted responses. One stays also after its `response.done`, since a delta may be
/// later than that.
#[derive(Debug, Default)]
pub(super) struct Interrupted {
    ids: VecDeque<String>,
}

impl Interrupted {
    /// This response is interrupted.
    pub(super) fn set(&mut self, response_id: &str) {
        if self.is(response_id) {
            return;
        }
        if self.ids.len() == MOST {
            self.ids.pop_front();
        }
        self.ids.push_back(response_id.to_owned());
    }

    /// A response begins: what has its id is to be heard, and so is what has none.
    pub(super) fn begin(&mut self, response_id: &str) {
        self.ids.retain(|id| id != response_id && !id.is_empty());
    }

    /// Whether there is none, as in most calls at most times.
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Whether it is one of them. Asked for every audio delta: it neither allocates nor copies.
    pub(super) fn is(&self, response_id: &str) -> bool {
        self.ids.iter().any(|id| id == response_id)
    }
}
