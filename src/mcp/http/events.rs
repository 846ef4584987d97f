//! An event stream (WHATWG HTML, section 9.2), as far as MCP uses it: data, ids and the time to wait.

use std::time::Duration;

use crate::lines::{Line, Lines, MAX_LINE};

/// The longest time to wait that a server may ask for.
const MOST_WAIT: Duration = Duration::from_secs(30);
/// Longest id of an event, in bytes. It goes back as a header field.
const MAX_ID: usize = 1024;

/// A reader of one stream after the other: what it knows of ids is for the next stream.
#[derive(Debug, Default)]
pub struct Events {
    lines: Lines,
    data: Vec<u8>,
    has_data: bool,
    /// The data of this event is too long; it is passed over.
    too_long: bool,
    last_id: Option<String>,
    wait: Option<Duration>,
}

impl Events {
    /// Takes bytes from the front of `bytes` up to the end of an event with data, and gives the data.
    /// `None` when `bytes` is used up before.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Vec<u8>> {
        while let Some(line) = self.lines.next(bytes) {
            match line {
                Line::TooLong { .. } => self.too_long = true,
                Line::Whole(line) if line.is_empty() => {
                    let data = std::mem::take(&mut self.data);
                    let whole = std::mem::take(&mut self.has_data);
                    if !std::mem::take(&mut self.too_long) && whole {
                        return Some(data);
                    }
                }
                Line::Whole(line) => self.field(&line),
            }
        }
        None
    }

    /// A new stream begins. What the last one left unfinished is dropped, and its last id stays.
    pub fn begin(&mut self) {
        let (last_id, wait) = (self.last_id.take(), self.wait);
        *self = Self { last_id, wait, ..Self::default() };
    }

    /// The id of the last event that had one: where a new stream may go on.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// How long to wait before a new stream, if the server said so.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.wait
    }

    fn field(&mut self, line: &[u8]) {
        let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" if self.data.len() + value.len() > MAX_LINE => self.too_long = true,
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"id" => {
                let fits =
                    value.len() <= MAX_ID && value.iter().all(|byte| (b' '..=b'~').contains(byte));
                if let (true, Ok(id)) = (fits, std::str::from_utf8(value)) {
                    self.last_id = Some(id.to_owned()).filter(|id| !id.is_empty());
                }
            }
            b"retry" => {
                let ms = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                if let Some(ms) = ms {
                    self.wait = Some(Duration::from_millis(ms).min(MOST_WAIT));
                }
            }
            // A comment has an empty name. Kinds of events mean nothing to MCP.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(events: &mut Events, text: &str, size: usize) -> Vec<String> {
        let mut found = Vec::new();
        for mut piece in text.as_bytes().chunks(size) {
            while let Some(data) = events.next(&mut piece) {
                found.push(String::from_utf8(data).unwrap());
            }
        }
        found
    }

    #[test]
    fn data_is_joined_and_the_rest_is_passed_over() {
        let text = "\u{feff}: hello\r\nevent: message\r\nid: 7\r\ndata: {\"a\":\r\ndata:1}\r\n\r\n\
                    :\n\nretry: 250\n\ndata\n\ndata: last\nfoo: bar\nid\n\ndata: unfinished\n";
        for size in [1, 2, 1000] {
            let mut events = Events::default();
            assert_eq!(
                all(&mut events, text, size),
                ["{\"a\":\n1}", "", "last"],
                "pieces of {size}"
            );
            assert_eq!((events.last_id(), events.wait()), (None, Some(Duration::from_millis(250))));
        }
    }

    #[test]
    fn the_last_id_is_for_the_next_stream() {
        let mut events = Events::default();
        assert_eq!(all(&mut events, "id: a-1\ndata: x\n\nid: bad\u{e9}\ndata: half", 9), ["x"]);
        assert_eq!(events.last_id(), Some("a-1"));
        events.begin();
        assert_eq!(all(&mut events, "data: y\n\n", 9), ["y"]);
        assert_eq!(events.last_id(), Some("a-1"));
    }

    #[test]
    fn an_event_that_is_too_long_is_passed_over() {
        let half = "x".repeat(MAX_LINE / 2 + 1);
        let whole = "y".repeat(MAX_LINE + 1);
        let text = format!("data: {half}\ndata: {half}\n\ndata: {whole}\n\ndata: z\n\n");
        assert_eq!(all(&mut Events::default(), &text, 8192), ["z"]);
    }

    #[test]
    fn waiting_has_a_bound() {
        let mut events = Events::default();
        for text in
            ["retry: 99999999\n", "retry: -1\n", "retry: x\n", "retry: 99999999999999999999999\n"]
        {
            assert!(all(&mut events, text, 99).is_empty());
        }
        assert_eq!(events.wait(), Some(MOST_WAIT));
    }
}
