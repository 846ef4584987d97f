//! What happens to the connections of a call: each is lost, and comes back.

use std::time::Duration;

use super::said::Link;
use super::{ROOM, World};
use crate::support::whole_call::{
    CREATED, UPDATED, find_service, lose_service, read_numbers, refusal,
};

impl World {
    /// The service ends the session, or loses it.
    pub(super) fn lose(&mut self) {
        if lose_service(&mut self.scene, &mut self.random) {
            let lasted = self.scene.now >= self.began + Duration::from_secs(10);
            self.losses = if lasted { 1 } else { self.losses + 1 };
            self.link = Link::Lost;
            self.refusals = 0;
            self.outages += 1;
            self.listen();
            self.lose_turn();
        } else {
            self.listen();
        }
    }

    /// The service may be there again.
    pub(super) fn find(&mut self) {
        if !self.scene.redial {
            return;
        }
        if self.refusals < 3 && self.random.one_in(3) {
            self.refusals += 1;
            self.scene.refuse_redial(refusal(&mut self.random));
            return self.listen();
        }
        self.listen();
        self.begin_session();
        find_service(&mut self.scene);
        self.listen();
        self.compare_replay();
    }

    /// Something of what may happen to the session that is being prepared.
    pub(super) fn prepare(&mut self) {
        // A try whose time was over at once is not waited for any more.
        self.scene.redial &= self.scene.is_calling();
        if self.scene.redial {
            if self.random.one_in(4) {
                self.scene.refuse_next(refusal(&mut self.random));
            } else {
                self.scene.answer_next();
                self.link = Link::Coming;
                if self.random.one_in(8) {
                    return;
                }
                self.scene.say_next(CREATED);
                self.scene.say_next(UPDATED);
            }
        } else if self.link == Link::Coming && self.random.one_in(80) {
            self.scene.break_next();
            self.link = Link::Active;
        }
        self.listen();
    }

    pub(super) fn lose_client(&mut self) {
        let most = self.random.range(0, 40_000);
        self.scene.break_client(most);
        self.listen();
        assert!(self.scene.is_held(), "seed {}: {}", self.seed, self.scene.texts);
        self.away_since = Some(self.scene.now);
        self.stalled_since = None;
    }

    /// The client takes its call up, perhaps before the daemon knows that its old connection is dead, and
    /// sends what it has kept of its microphone, if it keeps any.
    pub(super) fn join(&mut self) {
        let before = self.scene.messages.len();
        let joined = self.scene.join(ROOM);
        assert_eq!(joined, Ok(()), "seed {}", self.seed);
        (self.away_since, self.stalled_since) = (None, None);
        self.scene.client_listens = true;
        (0..20).for_each(|_| self.scene.turn());
        self.joins += 1;
        self.late = true;
        let hello = &self.scene.messages[before];
        assert!(hello.contains(r#""resumed":true"#), "seed {}: {hello}", self.seed);
        let kept = std::mem::take(&mut self.kept);
        let keeps = self.random.one_in(2);
        for frame in kept {
            if keeps {
                self.send(&frame);
            } else {
                self.gone.extend(read_numbers(&frame));
            }
        }
        self.listen();
    }
}
