//! The line of a `call` to its daemon. It outlives its connection: when one breaks and nobody has said
//! goodbye, the line joins the call again with another one (`docs/protocol.md`, *Taking a call up again*).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::connection::{Way, connect};
use super::source::FRAME;
use crate::cli::drive::{Drive, Ended, Event};
use crate::cli::exit::Failure;
use crate::cli::screen::Screen;
use crate::net::ws::Message;

/// The pauses between tries. The first try is made at once. Each pause is as long as the time gone.
const LEAST_PAUSE: Duration = Duration::from_millis(250);
const MOST_PAUSE: Duration = Duration::from_secs(4);
/// After so long without a sign of life the daemon is asked for one.
const QUIET: Duration = Duration::from_secs(3);
/// After so long without one the connection counts as broken.
const SILENT: Duration = Duration::from_secs(7);
/// Sent frames that are kept, in case that the daemon has not heard them: 5 s.
const KEPT: usize = 250;

/// What leaves in order: a frame, or `None` for the end of the user's turn.
type Entry = Option<Vec<u8>>;

/// One call, and one connection after another.
pub(super) struct Line<'a> {
    way: Way<'a>,
    drive: Drive,
    /// For the next joining; empty when the call cannot be joined again.
    secret: String,
    /// How long the daemon holds the call.
    hold: Duration,
    /// Bytes of reply and text messages so far, over all connections.
    received: usize,
    messages: usize,
    /// Since when the call is to be joined again, while it is not.
    away: Option<Instant>,
    pause: Duration,
    /// The last sign of life, and whether another was asked for.
    sign: Instant,
    asked: bool,
    sent: VecDeque<Entry>,
    /// Sent on a connection that broke, and not heard by the daemon. It leaves before anything else.
    unheard: VecDeque<Entry>,
    /// Bytes of sound so far, as the daemon counts them.
    spoken: usize,
}

impl<'a> Line<'a> {
    /// Connects.
    ///
    /// # Errors
    /// As [`connect`]; or the system gives no signals.
    pub(super) fn open(way: Way<'a>) -> Result<Self, Failure> {
        let mut drive = connect(&way, "resume&barge_in=hold")?;
        drive.watch_signals().map_err(|error| (crate::cli::exit::SYSTEM, error.to_string()))?;
        Ok(Self {
            way,
            drive,
            secret: String::new(),
            hold: Duration::ZERO,
            received: 0,
            messages: 0,
            away: None,
            pause: Duration::ZERO,
            sign: Instant::now(),
            asked: false,
            sent: VecDeque::new(),
            unheard: VecDeque::new(),
            spoken: 0,
        })
    }

    /// As [`Drive::next`]. A connection that breaks is replaced here, as long as the daemon holds the call.
    pub(super) fn next(&mut self, deadline: Instant, screen: &mut Screen) -> Event {
        let event = match self.drive.next(deadline) {
            Event::Ended(Ended::Lost(error)) if !self.secret.is_empty() => {
                return self.join_again(error, screen);
            }
            event => event,
        };
        match &event {
            Event::Text(_) => self.messages += 1,
            Event::Binary(pcm) => self.received += pcm.len(),
            _ => return event,
        }
        (self.sign, self.asked) = (Instant::now(), false);
        event
    }

    /// Doubts a daemon that gives no sign of life. Its connection may be dead although nothing says so.
    pub(super) fn look(&mut self, now: Instant, screen: &mut Screen) -> Option<Event> {
        let quiet = now.saturating_duration_since(self.sign);
        if self.secret.is_empty() || self.away.is_some() || quiet < QUIET {
            return None;
        }
        if quiet >= SILENT {
            return Some(self.join_again(std::io::ErrorKind::TimedOut.into(), screen));
        }
        if !std::mem::replace(&mut self.asked, true) {
            self.tell(&json!({"type": "ping", "id": "line"}));
        }
        None
    }

    /// The daemon's `hello`. Returns whether it goes on with this call.
    pub(super) fn on_hello(&mut self, hello: &Value) -> bool {
        let seconds = hello["limits"]["resume_seconds"].as_u64().unwrap_or_default();
        let secret = hello["resume"].as_str().filter(|_| seconds > 0).unwrap_or_default();
        let joins = self.away.take().is_some();
        // The secret goes into an address.
        let plain = secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
        self.secret = if plain { secret.to_owned() } else { String::new() };
        self.hold = Duration::from_secs(seconds);
        self.pause = Duration::ZERO;
        if joins {
            self.rewind(hello["heard"].as_u64().and_then(|heard| usize::try_from(heard).ok()));
        }
        !joins || hello["resumed"] == true
    }

    /// A broken connection is the end of the call from here on.
    pub(super) fn leave(&mut self) {
        self.secret.clear();
    }

    /// Whether audio would leave now. Before `hello` a new connection is not the call's yet.
    pub(super) fn has_room(&self) -> bool {
        self.away.is_none() && self.drive.has_room()
    }

    /// What was sent in vain, to be sent again with [`Line::send`].
    pub(super) fn next_unheard(&mut self) -> Option<Entry> {
        self.unheard.pop_front()
    }

    /// Whether the speech is late, and may leave faster than it is spoken.
    pub(super) fn is_late(&self) -> bool {
        !self.unheard.is_empty()
    }

    /// Sends a frame, or the end of the user's turn. If the connection has ended, the next event says so.
    pub(super) fn send(&mut self, entry: Entry) {
        match &entry {
            Some(frame) => {
                self.spoken += frame.len();
                let _ = self.drive.send(Message::Binary(frame));
            }
            None => self.tell(&json!({"type": "end_turn"})),
        }
        if self.sent.len() == KEPT {
            self.sent.pop_front();
        }
        self.sent.push_back(entry);
    }

    /// Sends a message that means something only now.
    pub(super) fn tell(&mut self, message: &Value) {
        let _ = self.drive.send(Message::Text(&message.to_string()));
    }

    /// Tries to join the call again until it is too late. Blocks, but for a signal.
    fn join_again(&mut self, error: std::io::Error, screen: &mut Screen) -> Event {
        if self.away.is_none() {
            screen.line("state: reconnecting (the connection to the daemon was lost)");
        }
        let since = *self.away.get_or_insert_with(Instant::now);
        let until = since + self.hold;
        loop {
            if self.drive.rest(until.min(Instant::now() + self.pause)) {
                return Event::Signal;
            }
            self.pause = since.elapsed().clamp(LEAST_PAUSE, MOST_PAUSE);
            let query = format!(
                "resume={}&received={}&messages={}",
                self.secret, self.received, self.messages
            );
            match connect(&self.way, &query) {
                Ok(drive) => {
                    self.drive.become_next(drive);
                    (self.sign, self.asked) = (Instant::now(), false);
                    return Event::Deadline;
                }
                Err((_, why)) => log::debug!("{why}"),
            }
            if Instant::now() >= until {
                self.secret.clear();
                return Event::Ended(Ended::Lost(error));
            }
        }
    }

    /// What the daemon has not heard is to leave once more. An end of the turn may be said twice.
    fn rewind(&mut self, heard: Option<usize>) {
        let mut missing = heard.map_or(0, |heard| self.spoken.saturating_sub(heard));
        while let Some(last) = self.sent.back()
            && (last.is_none() || missing > 0)
        {
            missing = missing.saturating_sub(last.as_ref().map_or(0, |_| FRAME));
            self.unheard.extend(self.sent.pop_back());
        }
        self.unheard.make_contiguous().reverse();
        self.spoken = heard.unwrap_or(self.spoken);
    }
}
