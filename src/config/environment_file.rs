//! `voicelived.env` as systemd reads it (`EnvironmentFile=`, systemd.exec(5)), and where that differs from
//! the `.env` files of other programs (`dotenv`).
//!
//! The rules are those of systemd's own reader:
//!
//! - a comment begins a line with `#` or `;`; behind a value it is a part of the value;
//! - a name ends at `=`; blanks around it and around the value go. A name with other characters than
//!   letters, digits and `_`, such as that of `export NAME=…`, is ignored with its value;
//! - `'…'` is literal and may span lines; in `"…"` a backslash protects `"`, `\`, `$` and a backtick, and
//!   joins lines; elsewhere a backslash protects any character, and joins lines;
//! - what stands behind a closing quote goes on with the value;
//! - of two lines with one name the last one counts; nothing is substituted;
//! - a NUL, and a name or value that is not UTF-8 or has a noncharacter of Unicode, spoil the whole file.

use std::collections::{BTreeMap, BinaryHeap};

use super::dotenv::{self, Entry, Fault};

/// What stands before the character that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Blanks between lines.
    BeforeName,
    Name,
    /// Nothing of the value, or a part of it in quotes.
    BeforeValue,
    Value,
    /// A backslash outside of quotes.
    Escape,
    SingleQuotes,
    DoubleQuotes,
    /// A backslash in double quotes.
    EscapeInQuotes,
    Comment,
    /// A backslash in a comment. Before version 254 it joined the next line to the comment.
    EscapeInComment,
}

/// What of an assignment has been read.
#[derive(Debug, Default)]
struct Draft {
    line: usize,
    name: Vec<u8>,
    value: Vec<u8>,
    /// The value's length without the blanks at its end, outside of quotes.
    kept: usize,
}

/// The longest assignment, `=` included, that the kernel hands to a program (`MAX_ARG_STRLEN` without the NUL, execve(2)).
const MAX_ASSIGNMENT: usize = 131_071;

const NUL: &str = "holds a NUL character, for which systemd ignores the whole file; remove it";
const NO_TEXT: &str = "is not UTF-8 text, for which systemd ignores the whole file";
const TOO_LONG: &str =
    "is longer than 131,071 bytes, with which systemd starts no service; use a …_FILE variable";

/// Editors of Windows begin a file with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const MARKED: &str = "begins with an invisible byte order mark, so systemd ignores it; save the file as UTF-8 without one";

/// Whether a line with this fault costs more than itself: the whole file, or the service's start.
#[must_use]
pub fn spoils_all(fault: &Fault) -> bool {
    [NUL, NO_TEXT, TOO_LONG].contains(&fault.message)
}

/// The assignments in their order, and the faults of lines that systemd ignores.
#[must_use]
pub fn parse(bytes: &[u8]) -> Vec<Result<Entry, Fault>> {
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        let line = 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
        return vec![Err(Fault { line, name: None, message: NUL })];
    }
    let (mut found, mut draft, mut state, mut line) =
        (Vec::new(), Draft::default(), State::BeforeName, 1);
    for &byte in bytes {
        state = step(state, byte, line, &mut draft, &mut found);
        line += usize::from(byte == b'\n');
    }
    // The last line may have no end. A name without a value is nothing.
    if !matches!(state, State::BeforeName | State::Name | State::Comment | State::EscapeInComment) {
        if state != State::Value {
            draft.kept = draft.value.len();
        }
        found.extend(draft.finish());
    }
    found
}

fn step(
    state: State,
    byte: u8,
    line: usize,
    draft: &mut Draft,
    found: &mut Vec<Result<Entry, Fault>>,
) -> State {
    let ends = matches!(byte, b'\n' | b'\r');
    let blank = ends || matches!(byte, b' ' | b'\t');
    match state {
        State::BeforeName if matches!(byte, b'#' | b';') => State::Comment,
        State::BeforeName if blank => state,
        State::BeforeName => {
            *draft = Draft { line, name: vec![byte], ..Draft::default() };
            State::Name
        }
        State::Name if ends => {
            let message = if draft.name.starts_with(BYTE_ORDER_MARK) {
                MARKED
            } else {
                "is not NAME=value, so systemd ignores it; begin a comment with #"
            };
            found.push(Err(Fault { line: draft.line, name: None, message }));
            State::BeforeName
        }
        State::Name if byte == b'=' => State::BeforeValue,
        State::Name => {
            draft.name.push(byte);
            state
        }
        State::BeforeValue | State::Value if ends => {
            if state == State::BeforeValue {
                draft.kept = draft.value.len();
            }
            found.extend(std::mem::take(draft).finish());
            State::BeforeName
        }
        State::BeforeValue | State::Value if byte == b'\\' => State::Escape,
        State::BeforeValue if byte == b'\'' => State::SingleQuotes,
        State::BeforeValue if byte == b'"' => State::DoubleQuotes,
        State::BeforeValue if blank => state,
        State::BeforeValue | State::Value => {
            draft.push(byte, !blank);
            State::Value
        }
        State::Escape => {
            // A line end behind the backslash is taken with it.
            if !ends {
                draft.push(byte, true);
            }
            draft.kept = draft.value.len();
            State::Value
        }
        State::SingleQuotes if byte == b'\'' => State::BeforeValue,
        State::DoubleQuotes if byte == b'"' => State::BeforeValue,
        State::DoubleQuotes if byte == b'\\' => State::EscapeInQuotes,
        State::SingleQuotes | State::DoubleQuotes => {
            draft.push(byte, true);
            state
        }
        State::EscapeInQuotes => {
            if !b"\"\\`$\n".contains(&byte) {
                draft.push(b'\\', true);
            }
            if byte != b'\n' {
                draft.push(byte, true);
            }
            State::DoubleQuotes
        }
        State::Comment if byte == b'\\' => State::EscapeInComment,
        State::Comment | State::EscapeInComment if ends => State::BeforeName,
        State::Comment | State::EscapeInComment => State::Comment,
    }
}

impl Draft {
    fn push(&mut self, byte: u8, counts: bool) {
        self.value.push(byte);
        if counts {
            self.kept = self.value.len();
        }
    }

    fn finish(mut self) -> Option<Result<Entry, Fault>> {
        self.value.truncate(self.kept);
        let line = self.line;
        let fault = |message| Some(Err(Fault { line, name: None, message }));
        let length = self.name.len() + self.value.len() + 1;
        let (Some(name), Some(value)) = (text(self.name), text(self.value)) else {
            return fault(NO_TEXT);
        };
        let name = name.trim_end_matches([' ', '\t']);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.as_bytes().starts_with(BYTE_ORDER_MARK) {
            return fault(MARKED);
        }
        if name.starts_with("export ") || name.starts_with("export\t") {
            return fault("begins with export, so systemd ignores it; take that word away");
        }
        if name.is_empty() || name.as_bytes()[0].is_ascii_digit() || !name.bytes().all(fits) {
            return fault(
                "has no name of letters, digits and _ before its =, so systemd ignores it",
            );
        }
        if length > MAX_ASSIGNMENT {
            return fault(TOO_LONG);
        }
        Some(Ok(Entry { line, name: name.to_owned(), value }))
    }
}

/// Text as systemd takes it (`utf8_is_valid`): without the 66 noncharacters of Unicode.
fn text(bytes: Vec<u8>) -> Option<String> {
    let is_none = |letter: char| {
        let code = u32::from(letter);
        (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
    };
    String::from_utf8(bytes).ok().filter(|text| !text.contains(is_none))
}

/// Where systemd and readers of `.env` files, this program's among them, do not read the same: a line
/// and a clause for each. Values are not told, since one may be a secret.
#[must_use]
pub fn differences(bytes: &[u8]) -> Vec<(usize, String)> {
    let theirs = parse(bytes);
    let spoilt: Vec<_> =
        theirs.iter().filter_map(|line| line.as_ref().err()).filter(|it| spoils_all(it)).collect();
    if !spoilt.is_empty() {
        let told =
            spoilt.into_iter().map(|fault| (fault.line, format!("this line {}", fault.message)));
        return told.collect();
    }
    let mut ours: BTreeMap<usize, Result<Entry, Fault>> = BTreeMap::new();
    for line in dotenv::parse(bytes) {
        let at = match &line {
            Ok(entry) => entry.line,
            Err(fault) => fault.line,
        };
        ours.insert(at, line);
    }
    let mut found = Vec::new();
    let mut last: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for line in &theirs {
        match line {
            Ok(entry) => {
                let our = ours.remove(&entry.line);
                found.extend(difference(entry, our).map(|clause| (entry.line, clause)));
                let known = (entry.line, entry.value.clone());
                if let Some((before, value)) = last.insert(entry.name.clone(), known)
                    && value != entry.value
                {
                    let name = &entry.name;
                    let clause =
                        format!("{name} stands in line {before} too; for systemd this one counts");
                    found.push((entry.line, clause));
                }
            }
            Err(fault) => {
                ours.remove(&fault.line);
                found.push((fault.line, format!("this line {}", fault.message)));
            }
        }
    }
    // What is left was a line of its own to the other reader alone.
    let inside = ours.into_values().filter_map(Result::ok);
    found.extend(inside.map(|entry| {
        let name = &entry.name;
        (entry.line, format!("{name} is a part of the value above it for systemd: a quote or backslash goes on to here"))
    }));
    found.extend(joined_comments(bytes));
    // A heap does for a few lines, and is a tenth of the sort's code.
    BinaryHeap::from(found).into_sorted_vec()
}

/// How an assignment is read differently, if it is.
fn difference(entry: &Entry, other: Option<Result<Entry, Fault>>) -> Option<String> {
    let name = &entry.name;
    match other {
        Some(Ok(other)) if other.value == entry.value => None,
        Some(Err(fault)) if fault.message.contains('#') => Some(format!(
            "the comment behind the value of {name} is a part of the value for systemd; put it on a \
             line of its own"
        )),
        _ => Some(format!(
            "systemd reads the value of {name} otherwise than other readers of such files do, \
             because of its quotes, a backslash or text behind a quote; put all of it in single quotes"
        )),
    }
}

/// Lines behind a comment that ends in a backslash.
fn joined_comments(bytes: &[u8]) -> impl Iterator<Item = (usize, String)> {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).collect();
    let is_joined = |line: &[u8]| {
        line.starts_with(b"#") && line.ends_with(b"\\")
            || line.starts_with(b";") && line.ends_with(b"\\")
    };
    let joined = (1..lines.len()).filter(|at| is_joined(lines[at - 1]) && !lines[*at].is_empty());
    let clause = "the comment above ends in a backslash: for systemd before version 254 this line \
                  belongs to it; take the backslash away";
    joined.map(|at| (at + 1, clause.to_owned())).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(usize, String, String)> {
        let entries = parse(text.as_bytes()).into_iter().filter_map(Result::ok);
        entries.map(|entry| (entry.line, entry.name, entry.value)).collect()
    }

    fn value(text: &str) -> String {
        let found = read(text);
        let [(_, _, value)] = found.as_slice() else { panic!("{text:?}: {found:?}") };
        value.clone()
    }

    #[test]
    fn values_are_those_of_systemd() {
        for (text, expected) in [
            ("A=x", "x"),
            ("A = x y \t\n", "x y"),
            ("A=\n", ""),
            ("A=x # note", "x # note"),
            ("A=#x", "#x"),
            ("A='x # $y \\n'", "x # $y \\n"),
            ("A='two\nlines'\n", "two\nlines"),
            ("A=\"a\\\"b\\\\c\\$d\\`e\\nf\"", "a\"b\\c$d`e\\nf"),
            ("A=\"one\\\ntwo\"", "onetwo"),
            ("A=one\\\ntwo", "onetwo"),
            ("A=a\\b\\ c", "ab c"),
            ("A=a\\ ", "a "),
            ("A='x' y", "xy"),
            ("A='x'\"y\"'z'", "xyz"),
            ("A='x' # n", "x# n"),
            ("A=it's", "it's"),
            ("A=\"x", "x"),
            ("A=x=y", "x=y"),
            ("A=x\r\n", "x"),
            (" \t A=1", "1"),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_systemd_ignores_is_named_with_its_line() {
        let text = "# c\nA=1\nexport B=2\nnothing\n; c\n\u{feff}C=3\n1D=4\nE F=5\nG=6";
        let lines: Vec<_> =
            parse(text.as_bytes()).into_iter().filter_map(Result::err).map(|it| it.line).collect();
        assert_eq!(lines, [3, 4, 6, 7, 8]);
        assert_eq!(read(text).len(), 2);
        assert!(parse(b"A=1\nB=\0\n")[0].as_ref().is_err_and(|fault| fault.line == 2));
        for spoilt in [
            &b"A=\xff"[..],
            b"\xff=1",
            b"A=\xef\xbf\xbe",
            b"A=\xef\xb7\x90\nB=1",
            b"B=1\nA='\xed\xa0\x80",
        ] {
            assert!(parse(spoilt).iter().flatten().count() < 2, "{spoilt:?}");
            assert!(
                parse(spoilt).iter().any(|line| line.as_ref().is_err_and(spoils_all)),
                "{spoilt:?}"
            );
            assert_eq!(differences(spoilt).len(), 1, "{spoilt:?}");
        }
        assert!(differences(b"A=1\0\nB=2\n").len() == 1);
        // Within a comment, and in a line that is no assignment, nothing counts.
        for harmless in [&b"# \xff\nA=1"[..], b"\xff\nA=1"] {
            assert!(!parse(harmless).iter().any(|line| line.as_ref().is_err_and(spoils_all)));
        }
        for (length, fits) in [(131_069, true), (131_070, false)] {
            let found = parse(format!("A={}", "x".repeat(length)).as_bytes()).remove(0);
            assert_eq!(found.is_ok(), fits, "{length}");
        }
        for marked in ["\u{feff}A=1", "\u{feff}# note\nA=1", "\u{feff}\nA=1"] {
            let (_, clause) = &differences(marked.as_bytes())[0];
            assert!(clause.contains("byte order mark"), "{clause}");
        }
    }

    #[test]
    fn differences_have_their_lines_and_no_values() {
        let text = "A=same\nexport B=canary\nC=canary # note\nD='x' canary\nE=a\\\nF=canary\nG=1\nG=2\n\
                    # note\\\nH=1\nI='one\nJ=2'\n";
        let found = differences(text.as_bytes());
        let lines: Vec<_> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 3, 4, 5, 6, 8, 10, 11, 12], "{found:?}");
        assert!(!found.iter().any(|(_, clause)| clause.contains("canary")), "{found:?}");
        for same in ["A=x\nB='y z'\nC=\"q\"\n# note\n; note\n\nD=\n", ""] {
            assert_eq!(differences(same.as_bytes()), [], "{same}");
        }
    }
}
