//! Compares what was heard and told with what was sent and said.

use super::World;
use super::said::Said;
use crate::support::whole_call::{end, read_numbers};

impl World {
    /// What the new session was told is the conversation, in order.
    pub(super) fn compare_replay(&self) {
        let seed = self.seed;
        let session = self.sessions.last().expect("there is one");
        let mut told = session.items.iter().map(|item| item.1.as_str());
        let mut next = told.next();
        for said in &self.said {
            let parts = said
                .is_tool()
                .then(|| [format!("call {}", said.key), format!("output {}", said.key)]);
            if let (Some([call, output]), "is done") = (parts, said.text.as_str()) {
                assert_eq!((next, told.next()), (Some(&*call), Some(&*output)), "seed {seed}");
                next = told.next();
            } else if let Some(text) = next
                && said.begins(text)
            {
                assert!(said.is(text), "seed {seed}: {text:?} is told of {said:?}");
                next = told.next();
            } else {
                let unheard = said.cut.is_some() && said.is("");
                assert!(
                    unheard || said.is_tool(),
                    "seed {seed}: {said:?} is missing, {next:?} is there"
                );
            }
        }
        assert_eq!(next, None, "seed {seed}: nobody has said this");
    }

    pub(super) fn check(&mut self) {
        let seed = self.seed;
        self.check_reply_audio();
        self.check_microphone();
        // What the last session knows, which it was told or has heard itself.
        let session = self.sessions.last().expect("there is one");
        for (at, (_, whole)) in session.items.iter().enumerate() {
            let text = whole.as_str();
            let text = text.trim_start_matches("call ").trim_start_matches("output ");
            let known = |said: &&Said| said.begins(text) && (said.is(text) || said.is_tool());
            let known = text.is_empty() || self.said.iter().any(|said| known(&said));
            assert!(known, "seed {seed}: it knows {text:?}, of {:?}", self.said);
            let again = session.items[..at].iter().any(|(_, other)| other == whole);
            assert!(!text.contains(' ') || !again, "seed {seed}: it knows {text:?} twice");
        }
        let last = self.said.last().map(|said| said.key.as_str());
        assert!(
            self.turn.is_none() && last.is_none_or(|key| key.starts_with('a')),
            "seed {seed}: nobody has answered {last:?}, {:?}\n{}",
            self.turn,
            self.scene.texts
        );
    }

    /// The client has heard every number of the replies once; a gap ends where the user has interrupted.
    fn check_reply_audio(&self) {
        let seed = self.seed;
        let mut next = 1;
        for number in read_numbers(&self.scene.audio) {
            let cut = number > next && self.cuts.contains(&number);
            assert!(number == next || cut, "seed {seed}: {number} instead of {next}");
            next = number + 1;
        }
        let end = self.cuts.last().copied().unwrap_or_default();
        assert!(next == self.reply || end == self.reply, "seed {seed}: {next} of {}", self.reply);
    }

    /// No session hears a number twice or out of order. What none has heard, and the client has sent, was counted.
    fn check_microphone(&mut self) {
        let seed = self.seed;
        let counted = self.scene.counted("microphone_dropped_bytes_total") / 4;
        let mut heard = vec![false; self.microphone as usize];
        for session in &self.sessions {
            assert!(session.heard.is_sorted_by(|one, next| one < next), "seed {seed}: doubled");
            session.heard.iter().for_each(|number| heard[*number as usize] = true);
        }
        self.gone.iter().for_each(|number| heard[*number as usize] = true);
        let missing = heard[1..].iter().filter(|heard| !**heard).count();
        assert_eq!(missing as u64, counted, "seed {seed}: missing, and counted");
    }

    /// The call ends once, and nothing is left of either connection.
    pub(super) fn end(mut self) {
        let seed = self.seed;
        let reconnects = self.scene.counted("service_reconnects_total");
        assert_eq!(reconnects, self.outages as u64, "seed {seed}: outages");
        end(self.scene, seed);
    }
}
