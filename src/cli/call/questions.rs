//! What the assistant may do only if the user agrees: asked on the terminal, one after the other.
//!
//! Without a terminal nobody can be asked, so the answer is no at once. Lines that were typed before a question
//! was shown do not answer it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::source::standard_input;
use crate::cli::screen::{Screen, plain};

/// Longest line that is read of an answer, in bytes. The rest of it is another line, which is a no.
const MAX_LINE: usize = 256;

/// A question of the daemon's.
struct Question {
    id: Value,
    until: Instant,
    line: String,
}

/// See the module's text.
pub(super) struct Questions {
    /// `None` where nobody can be asked.
    keyboard: Option<File>,
    typed: Vec<u8>,
    /// The first one has been shown.
    open: VecDeque<Question>,
}

impl Questions {
    pub(super) fn new() -> Self {
        let keyboard = if io::stdin().is_terminal() { standard_input().ok() } else { None };
        Self { keyboard, typed: Vec::new(), open: VecDeque::new() }
    }

    /// Whether the user is being asked.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Takes the daemon's `confirm`. Returns the answer if nobody can be asked.
    pub(super) fn take(
        &mut self,
        message: &Value,
        now: Instant,
        screen: &mut Screen,
    ) -> Option<Value> {
        let (id, seconds) = (&message["id"], message["seconds"].as_u64().unwrap_or_default());
        // One that is told again after a lost connection, or is over.
        let shown = self.open.front().is_some_and(|open| open.id == *id);
        self.open.retain(|open| open.id != *id || (shown && seconds > 0));
        if seconds == 0 {
            if shown {
                screen.line("question: it is over");
                self.show(screen);
            }
            return None;
        }
        let line = line(message);
        if self.keyboard.is_none() {
            screen.line(&format!("question: {line} no (there is no terminal to ask on)"));
            return Some(answer(id, false));
        }
        if !self.open.iter().any(|open| open.id == *id) {
            let until = now + Duration::from_secs(seconds.min(3_600));
            self.open.push_back(Question { id: id.clone(), until, line });
            if self.open.len() == 1 {
                self.show(screen);
            }
        }
        None
    }

    /// The next answer, once the user has given it, or its time is over. Asked again and again.
    pub(super) fn next(&mut self, now: Instant, screen: &mut Screen) -> Option<Value> {
        let until = self.open.front()?.until;
        let said = self.read_line();
        if said.is_none() && now < until && self.keyboard.is_some() {
            return None;
        }
        let Question { id, .. } = self.open.pop_front()?;
        let allow = said.is_some_and(|said| matches!(said.as_str(), "y" | "yes"));
        screen.line(&format!("answer: {}", if allow { "yes" } else { "no" }));
        self.show(screen);
        Some(answer(&id, allow))
    }

    fn show(&mut self, screen: &mut Screen) {
        // What was typed before is no answer.
        while self.open.front().is_some() && self.read_line().is_some() {}
        if let Some(Question { line, .. }) = self.open.front() {
            screen.line(&format!("question: {line} y/N?"));
        }
    }

    /// A line of the user's, in small letters. Its end by a closed terminal leaves nobody to ask.
    fn read_line(&mut self) -> Option<String> {
        let mut bytes = [0; MAX_LINE];
        while !self.typed.contains(&b'\n') && self.typed.len() < MAX_LINE {
            match self.keyboard.as_mut()?.read(&mut bytes) {
                Ok(count) if count > 0 => self.typed.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => self.keyboard = None,
            }
        }
        let end = self.typed.iter().position(|byte| *byte == b'\n').map_or(MAX_LINE, |at| at + 1);
        let line: Vec<u8> = self.typed.drain(..end.min(self.typed.len())).collect();
        Some(String::from_utf8_lossy(&line).trim().to_ascii_lowercase())
    }
}

fn answer(id: &Value, allow: bool) -> Value {
    json!({"type": "confirm", "id": id, "allow": allow})
}

/// What would be done, on a line.
fn line(message: &Value) -> String {
    let text = |key: &str| plain(message[key].as_str().unwrap_or_default());
    let mut line = format!("may the assistant run {}", text("tool"));
    if message["server"].is_string() {
        line = format!("{line} on {}", text("server"));
    }
    line = format!("{line} with {}", plain(&message["arguments"].to_string()));
    if message["about"].is_string() {
        line = format!("{line} ({})", text("about"));
    }
    line + "?"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_one_tame_line() {
        let message = json!({"tool": "a\u{1b}[2Jb", "server": "x\ny", "about": "Opens\u{202e}",
            "arguments": {"k": "v\u{9b}"}});
        let line = line(&message);
        assert!(line.starts_with("may the assistant run a\u{fffd}[2Jb on x y with "), "{line}");
        assert!(!line.contains(char::is_control) && !line.contains('\u{202e}'), "{line}");
    }
}
