//! The part of the answers that a listener to `voicelived call` would have heard, and the file for
//! it.

use std::path::Path;
use std::time::Instant;

use super::answer::{Ear, duration};
use super::wav::WavWriter;
use crate::cli::exit::{self, Failure};
use crate::cli::screen::Screen;

/// What is heard, and the file it goes to, if any.
pub(super) struct Record {
    writer: Option<WavWriter>,
    name: String,
    ear: Ear,
    bytes: usize,
}

impl Record {
    pub(super) fn create(path: Option<&Path>) -> Result<Self, Failure> {
        let name = path.map(|path| format!("{path:?}")).unwrap_or_default();
        let create = |error| (exit::CANNOT_CREATE, format!("{name}: {error}"));
        let writer = path.map(WavWriter::create).transpose().map_err(create)?;
        Ok(Self { writer, name, ear: Ear::new(Instant::now()), bytes: 0 })
    }

    /// Audio of an answer has come.
    pub(super) fn hear(&mut self, pcm: &[u8], now: Instant) -> Result<(), Failure> {
        self.ear.hear(pcm, now);
        let heard = self.ear.take(now);
        self.write(&heard)
    }

    /// The user speaks, so audio that was not heard yet is dropped.
    pub(super) fn interrupt(&mut self, now: Instant) -> Result<(), Failure> {
        let heard = self.ear.take(now);
        self.ear.drop_rest();
        self.write(&heard)
    }

    /// The user may be speaking: what was not heard yet waits.
    pub(super) fn hold(&mut self, now: Instant) -> Result<(), Failure> {
        let heard = self.ear.take(now);
        self.ear.hold();
        self.write(&heard)
    }

    /// It was no turn: the listener hears on.
    pub(super) fn go_on(&mut self, now: Instant) {
        self.ear.go_on(now);
    }

    /// Whether a listener has heard all there was.
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        self.ear.is_quiet(now)
    }

    fn write(&mut self, pcm: &[u8]) -> Result<(), Failure> {
        self.bytes += pcm.len();
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.write(pcm).map_err(|error| (exit::IO, format!("{}: {error}", self.name)))
    }

    /// Completes the file. A file without audio is not written, and an older file of that name
    /// stays.
    pub(super) fn finish(mut self, screen: &mut Screen) -> Result<(), Failure> {
        let rest = self.ear.take_all();
        self.write(&rest)?;
        let seconds = duration(self.bytes).as_secs_f64();
        match self.writer {
            Some(writer) if self.bytes == 0 => writer.discard(),
            Some(writer) => {
                let fault = |error| (exit::IO, format!("{}: {error}", self.name));
                writer.finish().map_err(fault)?;
                screen.line(&format!("answer: {seconds:.1} s of audio in {}", self.name));
            }
            None if self.bytes > 0 => screen.line(&format!("answer: {seconds:.1} s of audio")),
            None => {}
        }
        Ok(())
    }
}
