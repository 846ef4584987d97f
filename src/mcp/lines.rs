//! Lines of a byte stream, each with a bound.
//!
//! A line that is longer than the bound is passed over to its end, and told as [`Line::TooLong`]. The
//! stream goes on behind it: one giant answer must not cost the connection.

/// The most bytes of a line. Results with pictures are long, although the pictures are not used.
pub const MAX_LINE: usize = 4 * 1024 * 1024;

/// What is kept of each end of a line that is too long. The id of an answer stands there.
const KEPT_ENDS: usize = 128;

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line within the bound.
    Whole(Vec<u8>),
    /// One beyond the bound: its first bytes and its last ones.
    TooLong {
        /// The first 128 bytes.
        head: Vec<u8>,
        /// The last 128 bytes.
        tail: Vec<u8>,
    },
}

/// The lines of one stream. It keeps only what has come of an unfinished line.
#[derive(Debug)]
pub struct Lines {
    most: usize,
    part: Vec<u8>,
    /// The first bytes of a line that is being passed over; `part` then holds its last ones.
    head: Option<Vec<u8>>,
}

impl Default for Lines {
    fn default() -> Self {
        Self::new(MAX_LINE)
    }
}

impl Lines {
    /// Lines of at most `most` bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, part: Vec::new(), head: None }
    }

    /// Takes bytes from the front of `bytes` up to the end of a line, and gives that line. `None` when
    /// `bytes` is used up before.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Line> {
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        self.keep(line);
        if end.is_none() {
            *bytes = rest;
            return None;
        }
        *bytes = &rest[1..];
        // The memory goes with the line: a long one must not stay with the connection.
        let mut part = std::mem::take(&mut self.part);
        Some(match self.head.take() {
            Some(head) => {
                part.drain(..part.len().saturating_sub(KEPT_ENDS));
                Line::TooLong { head, tail: part }
            }
            None => {
                if part.last() == Some(&b'\r') {
                    part.pop();
                }
                Line::Whole(part)
            }
        })
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.head.is_none() {
            if self.part.len() + bytes.len() <= self.most {
                return self.part.extend_from_slice(bytes);
            }
            let mut head = std::mem::take(&mut self.part);
            let last = head.split_off(head.len().saturating_sub(KEPT_ENDS));
            self.part.extend_from_slice(&last);
            head.extend_from_slice(&last);
            head.extend_from_slice(&bytes[..bytes.len().min(KEPT_ENDS)]);
            head.truncate(KEPT_ENDS);
            head.shrink_to_fit();
            self.head = Some(head);
        }
        self.part.extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT_ENDS)..]);
        self.part.drain(..self.part.len().saturating_sub(KEPT_ENDS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lines: &mut Lines, mut bytes: &[u8]) -> Vec<Line> {
        std::iter::from_fn(|| lines.next(&mut bytes)).collect()
    }

    fn whole(text: &str) -> Line {
        Line::Whole(text.into())
    }

    #[test]
    fn pieces_give_the_lines_of_the_whole() {
        let mut lines = Lines::new(5);
        assert_eq!(all(&mut lines, b"ab"), []);
        assert_eq!(all(&mut lines, b"c\r\n\nde\nf"), [whole("abc"), whole(""), whole("de")]);
        assert_eq!(all(&mut lines, b"\n"), [whole("f")]);
    }

    #[test]
    fn a_line_at_the_bound_is_kept_and_one_beyond_it_is_passed_over() {
        for size in [1, 3, 7, 1000] {
            let mut lines = Lines::new(300);
            let long = format!("{{\"id\":7{}\"end\":1}}", "x".repeat(290));
            let text = format!("{}\n{long}\nnext\n", "y".repeat(300));
            let mut got = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                got.extend(all(&mut lines, piece));
                assert!(lines.part.len() <= 300);
            }
            assert_eq!(got.len(), 3, "pieces of {size}");
            assert_eq!(got[0], whole(&"y".repeat(300)));
            let Line::TooLong { head, tail } = &got[1] else { panic!("{:?}", got[1]) };
            assert_eq!(head, &long.as_bytes()[..128]);
            assert_eq!(tail, &long.as_bytes()[long.len() - 128..]);
            assert_eq!(got[2], whole("next"));
        }
    }
}
