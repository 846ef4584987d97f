//! What a `call` says: frames of PCM from a WAV file or from standard input.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, IsTerminal, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::args::{CallInput, exit};
use super::run::Failure;
use super::wav::{WavError, WavReader};

/// Bytes of a frame: 20 ms of PCM16, 24 kHz, mono.
pub(super) const FRAME: usize = 960;

/// Linux's value on x86-64, arm64 and armhf.
const O_NONBLOCK: i32 = 0o4000;

/// Where the speech comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// Nothing is said.
    Silence,
    /// A WAV file.
    Wav(WavReader<BufReader<File>>),
    /// Raw PCM that comes when it comes.
    Stream(Stream<File>),
}

/// What there is to send next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// A frame; the last one ends in silence.
    Frame(Vec<u8>),
    /// Nothing yet.
    Starved,
    /// Nothing more.
    End,
}

impl Source {
    /// Opens what the arguments name.
    ///
    /// # Errors
    /// Usage, when standard input is a keyboard; else what is wrong with the file.
    pub(super) fn open(input: &CallInput) -> Result<Self, Failure> {
        match input {
            CallInput::Silence => Ok(Self::Silence),
            CallInput::Wav(path) => {
                WavReader::open(path).map(Self::Wav).map_err(|error| unusable(path, &error))
            }
            CallInput::Stdin if io::stdin().is_terminal() => {
                let text = "standard input is a terminal: give --in FILE.wav or --text TEXT, or \
                            pipe PCM in";
                Err((exit::USAGE, text.to_owned()))
            }
            CallInput::Stdin => standard_input()
                .map(|file| Self::Stream(Stream::new(file)))
                .map_err(|error| (exit::NO_INPUT, format!("standard input: {error}"))),
        }
    }

    /// The next 20 ms.
    ///
    /// # Errors
    /// When reading fails.
    pub(super) fn next(&mut self) -> io::Result<Fill> {
        match self {
            Self::Silence => Ok(Fill::End),
            Self::Wav(reader) => {
                let mut frame = [0; FRAME];
                let count = reader.read(&mut frame)?;
                frame[count..].fill(0);
                Ok(if count == 0 { Fill::End } else { Fill::Frame(frame.to_vec()) })
            }
            Self::Stream(stream) => stream.next(),
        }
    }
}

fn unusable(path: &Path, error: &WavError) -> Failure {
    let code = match error {
        WavError::Io(error) if error.kind() != ErrorKind::UnexpectedEof => exit::NO_INPUT,
        _ => exit::DATA,
    };
    (code, format!("{path:?}: {error}"))
}

/// Bytes to frames, where bytes come in any portions and may not be there yet.
#[derive(Debug)]
pub(super) struct Stream<R> {
    inner: R,
    part: Box<[u8; FRAME]>,
    filled: usize,
    ended: bool,
}

impl<R: Read> Stream<R> {
    fn new(inner: R) -> Self {
        Self { inner, part: Box::new([0; FRAME]), filled: 0, ended: false }
    }

    fn next(&mut self) -> io::Result<Fill> {
        while !self.ended && self.filled < FRAME {
            match self.inner.read(&mut self.part[self.filled..]) {
                Ok(0) => self.ended = true,
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Fill::Starved),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // Half a sample at the very end is none.
        let whole = self.filled & !1;
        self.part[whole..].fill(0);
        self.filled = 0;
        Ok(if whole == 0 { Fill::End } else { Fill::Frame(self.part.to_vec()) })
    }
}

/// Standard input, read without ever waiting for its writer.
fn standard_input() -> io::Result<File> {
    let shared = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let kind = shared.metadata()?.file_type();
    if !(kind.is_fifo() || kind.is_char_device() || kind.is_socket()) {
        // Reading a regular file waits for nobody.
        return Ok(shared);
    }
    // A new description of the same pipe, whose flags no other process shares.
    let own = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(format!("/proc/self/fd/{}", shared.as_raw_fd()));
    own.or_else(|_| {
        // Sockets can't be opened again. `UnixStream` only lends its `FIONBIO`, which works on
        // any kind of descriptor.
        let stream = UnixStream::from(OwnedFd::from(shared));
        stream.set_nonblocking(true)?;
        Ok(File::from(OwnedFd::from(stream)))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Hands out its portions one by one; an empty one is "not yet".
    struct Portions(VecDeque<Vec<u8>>);

    impl Read for Portions {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let Some(mut portion) = self.0.pop_front() else { return Ok(0) };
            if portion.is_empty() {
                return Err(ErrorKind::WouldBlock.into());
            }
            let rest = portion.split_off(portion.len().min(out.len()));
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
            out[..portion.len()].copy_from_slice(&portion);
            Ok(portion.len())
        }
    }

    fn frames(portions: &[usize]) -> Vec<Fill> {
        let portions = portions.iter().map(|&size| vec![7; size]).collect();
        let mut stream = Stream::new(Portions(portions));
        let mut all = Vec::new();
        loop {
            all.push(stream.next().unwrap());
            if all.last() == Some(&Fill::End) {
                return all;
            }
        }
    }

    #[test]
    fn portions_become_frames() {
        let full = || Fill::Frame(vec![7; FRAME]);
        let mut last = [0; FRAME];
        last[..80].fill(7);
        let found = frames(&[1, 958, 0, 0, FRAME, 82]);
        let expected =
            [Fill::Starved, Fill::Starved, full(), full(), Fill::Frame(last.to_vec()), Fill::End];
        assert_eq!(found, expected);
        assert_eq!(frames(&[1]), [Fill::End]);
        assert_eq!(frames(&[]), [Fill::End]);
    }

    #[test]
    fn what_cannot_be_read_is_told_apart() {
        let code = |path: &str| Source::open(&CallInput::Wav(path.into())).unwrap_err().0;
        assert_eq!(code("/nonexistent/a.wav"), exit::NO_INPUT);
        assert_eq!(code("/"), exit::NO_INPUT);
        assert_eq!(code("/dev/null"), exit::DATA);
        assert_eq!(code("/proc/self/cmdline"), exit::DATA);
    }
}
