//! The `.env` file: a subset on which shells, systemd's `EnvironmentFile=` and dotenv readers
//! agree. Where they disagree the line is refused instead of guessed.
//!
//! - `NAME=value`, with an optional `export ` before it and blanks around both sides;
//! - blank lines, and lines that begin with `#` or `;`, are comments;
//! - `'…'` is taken literally; in `"…"` a backslash protects `"`, `\`, `$` and a backtick, and is
//!   an ordinary character before anything else;
//! - nothing is substituted: `$` stands for itself;
//! - refused: a backslash or ` #` in an unquoted value, text after a closing quote, a value that
//!   spans lines.

/// Longest file that is read, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Line, counted from 1.
    pub line: usize,
    /// Letters, digits and underscores.
    pub name: String,
    /// The value without its quotes.
    pub value: String,
}

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line, counted from 1.
    pub line: usize,
    /// The name on the line, if it could be read. Faults of other programs' variables are ignored.
    pub name: Option<String>,
    /// What is wrong, and how to correct it.
    pub message: &'static str,
}

/// Reads all lines. Never fails as a whole: each line is an entry, a fault or nothing.
#[must_use]
pub fn parse(bytes: &[u8]) -> Vec<Result<Entry, Fault>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let lines = bytes.split(|&byte| byte == b'\n').enumerate();
    lines.filter_map(|(index, text)| parse_line(index + 1, text).transpose()).collect()
}

fn parse_line(line: usize, text: &[u8]) -> Result<Option<Entry>, Fault> {
    let fault =
        |name: Option<&str>, message| Fault { line, name: name.map(str::to_owned), message };
    let text = std::str::from_utf8(text).map_err(|_| fault(None, "is not UTF-8 text"))?;
    let text = text.trim();
    if text.is_empty() || text.starts_with(['#', ';']) {
        return Ok(None);
    }
    let Some((name, rest)) = text.split_once('=') else {
        return Err(fault(None, "is not NAME=value; begin a comment with #"));
    };
    let name = name.strip_prefix("export ").unwrap_or(name).trim();
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || name.as_bytes()[0].is_ascii_digit() || !name.bytes().all(letters) {
        return Err(fault(None, "needs a name of letters, digits and _ before the ="));
    }
    if rest.contains('\0') {
        return Err(fault(Some(name), "holds a NUL character; remove it"));
    }
    let value = unquote(rest.trim()).map_err(|message| fault(Some(name), message))?;
    Ok(Some(Entry { line, name: name.to_owned(), value }))
}

fn unquote(text: &str) -> Result<String, &'static str> {
    match text.chars().next() {
        Some('\'') => {
            let (value, after) = text[1..].split_once('\'').ok_or(UNCLOSED)?;
            nothing_after(after).map(|()| value.to_owned())
        }
        Some('"') => double_quoted(&text[1..]),
        _ if text.contains('\\') => Err("has a backslash; put the value in single quotes"),
        _ if text.starts_with('#') || text.contains(" #") || text.contains("\t#") => {
            Err("has a # after a blank; put the value in quotes, or the comment on its own line")
        }
        _ => Ok(text.to_owned()),
    }
}

fn double_quoted(text: &str) -> Result<String, &'static str> {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        match next {
            '"' => return nothing_after(chars.as_str()).map(|()| value),
            '\\' => match chars.next().ok_or(UNCLOSED)? {
                escaped @ ('"' | '\\' | '$' | '`') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    Err(UNCLOSED)
}

fn nothing_after(text: &str) -> Result<(), &'static str> {
    if text.trim().is_empty() {
        return Ok(());
    }
    Err("has text after the closing quote; put a comment on its own line")
}

const UNCLOSED: &str = "lacks its closing quote; a value cannot span lines, use a …_FILE variable";

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(usize, String, String)> {
        let lines = parse(text.as_bytes());
        let entries = lines.into_iter().map(Result::unwrap);
        entries.map(|e| (e.line, e.name, e.value)).collect()
    }

    fn value(line: &str) -> Result<String, &'static str> {
        let only = parse(line.as_bytes()).remove(0);
        only.map(|entry| entry.value).map_err(|fault| fault.message)
    }

    #[test]
    fn reads_entries_with_their_lines() {
        let text = "\u{feff}# note\r\n\r\nA=1\r\n; other note\n export B = two words  \n  C=\n";
        let expected = [(3, "A", "1"), (5, "B", "two words"), (6, "C", "")];
        let found = values(text);
        let found: Vec<_> = found.iter().map(|(l, n, v)| (*l, &**n, &**v)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn quotes() {
        assert_eq!(value("A='x # $y \\n \"'").unwrap(), "x # $y \\n \"");
        assert_eq!(value(r#"A="x # \"q\" \$ \\ \` \n 'z'""#).unwrap(), "x # \"q\" $ \\ ` \\n 'z'");
        assert_eq!(value("A=\"\"").unwrap(), "");
        assert_eq!(value("A=it's").unwrap(), "it's");
        assert_eq!(value("A=a#b=c$d").unwrap(), "a#b=c$d");
    }

    #[test]
    fn refuses_what_readers_disagree_about() {
        for line in [
            "A=x # note",
            "A=#x",
            "A=a\\b",
            "A='x' # n",
            "A=\"x\"y",
            "A='x",
            "A=\"x",
            "A=\"x\\",
            "A=\"x\\\"",
            "novalue",
            "=x",
            "1A=x",
            "A B=x",
            "A-B=x",
            "export =x",
            "A=x\0y",
        ] {
            assert!(value(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn names_line_and_variable_of_a_fault() {
        let lines = parse(b"A=1\nB='x\n\xff=2\nC=3");
        assert_eq!(lines.len(), 4);
        let fault = lines[1].clone().unwrap_err();
        assert_eq!((fault.line, fault.name.as_deref()), (2, Some("B")));
        let fault = lines[2].clone().unwrap_err();
        assert_eq!((fault.line, fault.name), (3, None));
        assert_eq!(lines[3].clone().unwrap().value, "3");
    }

    #[test]
    fn survives_anything() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let alphabet = b"A=\"'\\ #\n\0\xff\xc3;export$`\r";
        for _ in 0..20_000 {
            let mut text = Vec::new();
            for _ in 0..24 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                text.push(alphabet[(seed >> 33) as usize % alphabet.len()]);
            }
            let _ = parse(&text);
        }
        assert_eq!(parse(&vec![b'a'; 1 << 20]).len(), 1);
    }
}
