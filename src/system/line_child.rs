//! A child that lives long and talks in lines, as the child of the built-in tools does.
//!
//! Its pipes do not wait, and both directions go on in each turn: a child that does not read while it
//! writes would otherwise stand still, and the loop with it. What has not left yet is bounded, and so are a
//! line and what one turn reads.

use std::io;

use mio::Registry;

use super::piped_child::PipedChild;
pub use super::piped_child::{Start, Talk};

/// The most bytes that wait for the child. At the bound nothing more is taken.
const MAX_OUTGOING: usize = 1024 * 1024;

/// See the module's text. Dropping it kills it.
#[derive(Debug)]
pub struct LineChild {
    child: PipedChild,
    outgoing: Vec<u8>,
    /// The line that has not ended yet.
    line: Vec<u8>,
    max_line: usize,
}

impl LineChild {
    /// Starts a child that writes lines of at most `max_line` bytes, and registers its pipes with the
    /// poll: `token` and the two after it.
    ///
    /// # Errors
    /// When the command is empty, or the program cannot be started or watched.
    pub fn spawn(
        launch: &Start<'_>,
        max_line: usize,
        token: usize,
        registry: &Registry,
    ) -> io::Result<Self> {
        let child = PipedChild::spawn(launch, token, registry)?;
        Ok(Self { child, outgoing: Vec::new(), line: Vec::new(), max_line })
    }

    /// Says a line, with its line break. What the pipe does not take leaves with [`pump`](Self::pump). False
    /// if too much waits already: the child does not read.
    pub fn send(&mut self, line: &[u8]) -> bool {
        if self.outgoing.len() + line.len() > MAX_OUTGOING {
            return false;
        }
        self.outgoing.extend_from_slice(line);
        self.flush();
        true
    }

    /// Writes and reads as far as it goes without waiting. `heard` gets each whole line without its line
    /// break, and `errors` what it wrote to standard error.
    pub fn pump(&mut self, heard: &mut dyn FnMut(&[u8]), errors: &mut dyn FnMut(&[u8])) -> Talk {
        self.flush();
        let told = self.child.read_errors(errors);
        let line = &mut self.line;
        let talk = self.child.read(&mut |mut rest| {
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                line.extend_from_slice(&rest[..end]);
                heard(line);
                line.clear();
                rest = &rest[end + 1..];
            }
            line.extend_from_slice(rest);
        });
        match talk {
            _ if self.line.len() > self.max_line => {
                Talk::Gone("it writes a line that is too long".to_owned())
            }
            Talk::Idle => told,
            other => other,
        }
    }

    /// The id of its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn flush(&mut self) {
        let count = self.child.write(&self.outgoing);
        self.outgoing.drain(..count);
    }
}
