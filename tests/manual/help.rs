//! What `--help` prints, taken apart.

use std::process::Command;

/// The help of one command.
#[derive(Debug)]
pub(crate) struct Help {
    /// Its word on the command line.
    pub(crate) command: String,
    /// After `Usage:`, one each.
    pub(crate) usages: Vec<String>,
    /// What it says besides, in order.
    pub(crate) parts: Vec<Part>,
}

/// A piece of a help text.
#[derive(Debug, PartialEq)]
pub(crate) enum Part {
    /// Text that flows.
    Paragraph(String),
    /// A line that names the list below it.
    Heading(String),
    /// Entries and what they mean.
    List(Vec<(String, String)>),
}

/// An option as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CommandOption {
    /// With its dashes.
    pub(crate) name: String,
    /// The word for its value, if it takes one.
    pub(crate) value: Option<String>,
}

impl Help {
    /// Of every command, `run` first, in the order of the program's own list.
    pub(crate) fn of_all() -> Vec<Self> {
        let main = Self::of("run");
        let commands = main.parts.iter().find_map(|part| match part {
            Part::List(entries) if entries.iter().any(|(name, _)| name == "demo") => Some(entries),
            _ => None,
        });
        let names: Vec<_> = commands
            .expect("--help lists the commands")
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        assert!(names.len() >= 5 && names[0] == "run", "{names:?}");
        names.iter().map(|name| Self::of(name)).collect()
    }

    fn of(command: &str) -> Self {
        let program = env!("CARGO_BIN_EXE_voicelived");
        let output =
            Command::new(program).args([command, "--help"]).output().expect("the program runs");
        assert!(output.status.success(), "{command} --help");
        Self::parse(command, &String::from_utf8(output.stdout).expect("UTF-8"))
    }

    fn parse(command: &str, text: &str) -> Self {
        let mut help = Self { command: command.into(), usages: Vec::new(), parts: Vec::new() };
        for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
            if let Some(usage) = block.strip_prefix("Usage: ") {
                help.usages.extend(usage.lines().map(|line| line.trim().to_owned()));
                continue;
            }
            let (headings, entries): (Vec<_>, Vec<_>) =
                block.lines().partition(|line| !line.starts_with("  "));
            if entries.is_empty() {
                help.parts.push(Part::Paragraph(headings.join(" ")));
                continue;
            }
            help.parts.extend(headings.into_iter().map(|line| Part::Heading(line.into())));
            help.parts.push(Part::List(list(&entries)));
        }
        help
    }

    /// Its options, in the order they are told in; `--help` and `--version` are every command's.
    pub(crate) fn options(&self) -> Vec<CommandOption> {
        let entries = self.parts.iter().flat_map(|part| match part {
            Part::List(entries) => entries.iter().map(|(name, _)| name.as_str()).collect(),
            _ => Vec::new(),
        });
        // In the list they stand with their words; what has no list has them in its usage.
        let text: Vec<_> = entries.chain(self.usages.iter().map(String::as_str)).collect();
        let mut found: Vec<CommandOption> = Vec::new();
        for line in text {
            let line = line.replace(['[', ']', ','], " ");
            let words: Vec<_> = line.split_whitespace().collect();
            for (at, word) in words.iter().enumerate().filter(|(_, word)| word.starts_with("--")) {
                let value = words.get(at + 1).filter(|next| {
                    next.starts_with(|c: char| c.is_ascii_uppercase()) && **next != "OPTIONS"
                });
                let option = CommandOption {
                    name: (*word).to_owned(),
                    value: value.map(|word| (*word).to_owned()),
                };
                if !found.iter().any(|known| known.name == option.name) {
                    found.push(option);
                }
            }
        }
        for name in ["--help", "--version"] {
            if !found.iter().any(|known| known.name == name) {
                found.push(CommandOption { name: name.to_owned(), value: None });
            }
        }
        found
    }
}

/// Entries start after two blanks; their words in one column, which a line of blanks goes on with.
fn list(lines: &[&str]) -> Vec<(String, String)> {
    let column = lines.iter().find_map(|line| {
        let gap = line[2..].find("  ")? + 2;
        (!line[2..].starts_with(' ')).then(|| gap + line[gap..].find(|c| c != ' ').unwrap_or(0))
    });
    let column = column.unwrap_or(usize::MAX);
    let mut entries: Vec<(String, String)> = Vec::new();
    for line in lines {
        let (name, words) = match line.get(column..) {
            Some(words) if line.as_bytes()[column - 1] == b' ' => (&line[..column], words),
            _ => (*line, ""),
        };
        match entries.last_mut() {
            Some((_, before)) if name.trim().is_empty() => {
                if !before.is_empty() {
                    before.push(' ');
                }
                before.push_str(words.trim());
            }
            _ => entries.push((name.trim().to_owned(), words.trim().to_owned())),
        }
    }
    entries
}

#[test]
fn a_help_text_is_taken_apart() {
    let help = Help::parse(
        "x",
        "Does x.\nAnd y.\n\nUsage: voicelived x [--a FILE]\n       voicelived x\n\nOptions:\n  \
         --a FILE  read FILE\n            twice\n  --b LONGER words\n  -h, --help  this\n\nThe end.\n",
    );
    assert_eq!(help.usages, ["voicelived x [--a FILE]", "voicelived x"]);
    let entry = |name: &str, words: &str| (name.to_owned(), words.to_owned());
    assert_eq!(help.parts[0], Part::Paragraph("Does x. And y.".into()));
    assert_eq!(help.parts[1], Part::Heading("Options:".into()));
    let Part::List(entries) = &help.parts[2] else { panic!("{help:?}") };
    assert_eq!(entries[0], entry("--a FILE", "read FILE twice"));
    assert_eq!(help.parts[3], Part::Paragraph("The end.".into()));
    let names: Vec<_> = help.options().into_iter().map(|option| option.name).collect();
    assert_eq!(names, ["--a", "--b", "--help", "--version"]);
    assert_eq!(help.options()[0].value.as_deref(), Some("FILE"));
    assert_eq!(help.options()[2].value, None);
}
