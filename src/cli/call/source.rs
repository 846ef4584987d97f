//! The speech of a `call`: frames of PCM from a WAV file or from standard input.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, IsTerminal, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::wav::{WavError, WavReader};
use crate::cli::args::CallInput;
use crate::cli::exit::{self, Failure};

/// Bytes of a frame: 20 ms of PCM16, 24 kHz, mono.
pub(super) const FRAME: usize = 960;

/// Linux's value on x86-64, arm64 and armhf.
const O_NONBLOCK: i32 = 0o4000;

/// Where the speech comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// Nothing is said.
    Silence,
    /// A WAV file, and its first frame until that is sent.
    Wav(WavReader<BufReader<File>>, Option<Vec<u8>>),
    /// Raw PCM, which may arrive late or in pieces.
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
            CallInput::Wav(path) => open_wav(path),
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
    /// When reading fails, or when standard input holds no PCM.
    pub(super) fn next(&mut self) -> Result<Fill, Failure> {
        let unreadable = |error| (exit::IO, format!("the speech could not be read: {error}"));
        match self {
            Self::Silence => Ok(Fill::End),
            Self::Wav(reader, first) => {
                let frame = match first.take() {
                    Some(frame) => Some(frame),
                    None => wav_frame(reader).map_err(unreadable)?,
                };
                Ok(frame.map_or(Fill::End, Fill::Frame))
            }
            Self::Stream(stream) => {
                let begins = stream.begins;
                let fill = stream.next().map_err(unreadable)?;
                if begins {
                    judge_beginning(&fill)?;
                }
                Ok(fill)
            }
        }
    }
}

/// Refuses a file without sound. The caller would wait for an answer to nothing.
fn open_wav(path: &Path) -> Result<Source, Failure> {
    let mut reader = WavReader::open(path).map_err(|error| unusable(path, &error))?;
    let first =
        wav_frame(&mut reader).map_err(|error| (exit::NO_INPUT, format!("{path:?}: {error}")))?;
    if first.is_none() {
        return Err((exit::DATA, format!("{path:?}: this WAV file holds no sound")));
    }
    Ok(Source::Wav(reader, first))
}

/// 20 ms; the last one ends in silence. `None` is the end.
fn wav_frame(reader: &mut WavReader<BufReader<File>>) -> io::Result<Option<Vec<u8>>> {
    let mut frame = vec![0; FRAME];
    let count = reader.read(&mut frame)?;
    frame[count..].fill(0);
    Ok((count > 0).then_some(frame))
}

/// Refuses standard input that is not PCM. PCM has no mark, but files of other kinds begin with
/// one. Without this check a caller would wait for an answer to noise or to nothing.
fn judge_beginning(first: &Fill) -> Result<(), Failure> {
    let fault = match first {
        Fill::Starved => return Ok(()),
        Fill::End => "it is empty".to_owned(),
        Fill::Frame(bytes) => match kind_of_file(bytes) {
            Some("WAV") => "it is a WAV file; read it with --in /dev/stdin".to_owned(),
            Some(kind) => format!(
                "it is {kind}, not raw PCM; convert it, for example with: ffmpeg -i FILE -ar 24000 \
                 -ac 1 -f s16le -"
            ),
            None => return Ok(()),
        },
    };
    Err((exit::DATA, format!("standard input: {fault}")))
}

/// The kind of a sound file, by the marks that such files begin with.
fn kind_of_file(bytes: &[u8]) -> Option<&'static str> {
    let marks: [(usize, &[u8], &str); 6] = [
        (0, b"RIFF", "WAV"),
        (0, b"ID3", "MP3"),
        (0, b"OggS", "Ogg"),
        (0, b"fLaC", "FLAC"),
        (4, b"ftyp", "MP4"),
        (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    ];
    let found = marks.iter().find(|(at, mark, _)| bytes[*at..].starts_with(mark));
    found.map(|(_, _, kind)| *kind).or_else(|| is_mpeg_audio(bytes).then_some("MP3"))
}

/// Whether there are two headers of MPEG audio frames (ISO 11172-3, layer III), the second one
/// where the first says. A single header could be loud PCM.
fn is_mpeg_audio(bytes: &[u8]) -> bool {
    /// Kilobits a second, by the head's index.
    const RATES: [usize; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
    let is_head = |bytes: &[u8]| bytes.len() >= 4 && bytes[0] == 0xff && bytes[1] & 0xfe == 0xfa;
    if !is_head(bytes) {
        return false;
    }
    let rate = RATES.get(usize::from(bytes[2] >> 4)).copied().unwrap_or_default();
    let hertz = [44_100, 48_000, 32_000, 0][usize::from(bytes[2] >> 2 & 3)];
    if rate == 0 || hertz == 0 {
        return false;
    }
    let length = 144_000 * rate / hertz + usize::from(bytes[2] >> 1 & 1);
    bytes.get(length..).is_some_and(is_head)
        || bytes.windows(4).any(|four| four == b"Xing" || four == b"Info")
}

fn unusable(path: &Path, error: &WavError) -> Failure {
    let code = match error {
        WavError::Io(error) if error.kind() != ErrorKind::UnexpectedEof => exit::NO_INPUT,
        _ => exit::DATA,
    };
    (code, format!("{path:?}: {error}"))
}

/// Makes frames of bytes. The bytes come in portions of any size, and may not be there yet.
#[derive(Debug)]
pub(super) struct Stream<R> {
    inner: R,
    part: Box<[u8; FRAME]>,
    filled: usize,
    ended: bool,
    /// Until the first frame, or the end, has been handed out.
    begins: bool,
}

impl<R: Read> Stream<R> {
    fn new(inner: R) -> Self {
        Self { inner, part: Box::new([0; FRAME]), filled: 0, ended: false, begins: true }
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
        // Half a sample at the end is dropped.
        let whole = self.filled & !1;
        self.begins = false;
        self.part[whole..].fill(0);
        self.filled = 0;
        Ok(if whole == 0 { Fill::End } else { Fill::Frame(self.part.to_vec()) })
    }
}

/// Standard input, read without ever waiting for its writer.
pub(super) fn standard_input() -> io::Result<File> {
    let shared = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let kind = shared.metadata()?.file_type();
    if !(kind.is_fifo() || kind.is_char_device() || kind.is_socket()) {
        // Reading a regular file never blocks.
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
    use std::iter;

    use super::*;

    /// Hands out its portions one by one. An empty portion means "not yet".
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

    #[test]
    fn sound_files_are_told_from_pcm() {
        // 128 kbit/s at 44,100 Hz: 417 bytes a frame.
        let head = [0xff, 0xfb, 0x90, 0x64];
        let mp3: Vec<u8> = head.into_iter().chain(iter::repeat_n(0, 413)).collect();
        for (bytes, kind) in [
            (&b"RIFF\x24\0\0\0WAVE"[..], Some("WAV")),
            (b"ID3\x04\0\0\0\0", Some("MP3")),
            (&[&mp3[..], &head].concat(), Some("MP3")),
            (b"\0\0\0\x20ftypM4A ", Some("MP4")),
            (&[&head[..], &[0; 900]].concat(), None),
            (&[0xff; FRAME], None),
            (&[0; 8], None),
        ] {
            assert_eq!(kind_of_file(bytes), kind, "{bytes:?}");
        }
        assert_eq!(judge_beginning(&Fill::End).unwrap_err().0, exit::DATA);
        assert!(judge_beginning(&Fill::Starved).is_ok());
    }
}
