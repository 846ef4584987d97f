//! WAV files of the one kind that `/ws` carries: PCM, 16 bit, mono, 24 kHz.
//!
//! `hound` writes them. It cannot read what people have: streams whose length their recorder did not
//! know (`ffmpeg` to a pipe), and chunks of odd length with their pad byte. Its faults do not say what
//! kind of audio it met either. So the reader is ours.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavSpec};

/// Samples per second.
pub(super) const RATE: u32 = 24_000;

/// What is written.
const SPEC: WavSpec = WavSpec {
    channels: 1,
    sample_rate: RATE,
    bits_per_sample: 16,
    sample_format: SampleFormat::Int,
};
/// Most bytes of audio in a file whose header still states its true length.
const MAX_AUDIO: u32 = UNKNOWN - 64;
/// After so many bytes of audio the header is brought up to date: 1 s.
const CHECKPOINT: u32 = RATE * 2;
/// Chunks before the audio, such as tags and cover pictures, are skipped up to this many bytes.
const MAX_SKIPPED: u64 = 64 * 1024 * 1024;
/// Size that recorders write when they cannot know it: read to the end.
const UNKNOWN: u32 = u32::MAX;
const PCM: u16 = 1;
/// The format word that moves the real one into an extension.
const EXTENSIBLE: u16 = 0xFFFE;

/// Why a WAV file cannot be read.
#[derive(Debug)]
pub(super) enum WavError {
    /// Reading failed, or the file ends too early.
    Io(io::Error),
    /// It is no RIFF/WAVE file, or has no audio in it.
    NotWav,
    /// Its audio is of another kind.
    Format {
        /// Format word of its header; 1 is PCM.
        format: u16,
        /// Number of channels.
        channels: u16,
        /// Samples per second.
        rate: u32,
        /// Bits per sample.
        bits: u16,
    },
}

impl fmt::Display for WavError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CONVERT: &str = "convert it with: sox IN -b 16 -c 1 -r 24000 -e signed OUT.wav";
        match self {
            Self::Io(fault) if fault.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the file ends before its audio begins")
            }
            Self::Io(fault) => fault.fmt(f),
            Self::NotWav => write!(f, "this is not a WAV file; {CONVERT}"),
            Self::Format { format, channels, rate, bits } => write!(
                f,
                "needs PCM (format 1), 1 channel, {RATE} Hz, 16 bit, but has format {format}, \
                 {channels} channel(s), {rate} Hz, {bits} bit; {CONVERT}"
            ),
        }
    }
}

impl std::error::Error for WavError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<io::Error> for WavError {
    fn from(fault: io::Error) -> Self {
        Self::Io(fault)
    }
}

/// The audio of a WAV file, read as it is needed: PCM16, little endian.
#[derive(Debug)]
pub(super) struct WavReader<R> {
    inner: io::Take<R>,
}

impl WavReader<BufReader<File>> {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be read or is of another kind.
    pub(super) fn open(path: &Path) -> Result<Self, WavError> {
        Self::new(BufReader::new(File::open(path)?))
    }
}

impl<R: Read> WavReader<R> {
    /// Reads up to where the audio begins. The input need not be seekable.
    ///
    /// # Errors
    /// When reading fails or the audio is of another kind.
    pub(super) fn new(mut inner: R) -> Result<Self, WavError> {
        let riff: [u8; 12] = take(&mut inner)?;
        if &riff[..4] != b"RIFF" || &riff[8..] != b"WAVE" {
            return Err(WavError::NotWav);
        }
        let mut known = false;
        let mut skipped = 0;
        loop {
            let head: [u8; 8] = take(&mut inner)?;
            let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
            // Chunks are padded to an even length.
            let mut rest = u64::from(size) + u64::from(size % 2);
            match &head[..4] {
                b"fmt " if size >= 16 => {
                    rest -= check_format(&mut inner, size)?;
                    known = true;
                }
                b"data" if known => {
                    let unknown = size == 0 || size >= UNKNOWN - 64;
                    let limit = if unknown { u64::MAX } else { u64::from(size) };
                    return Ok(Self { inner: inner.take(limit) });
                }
                b"data" => return Err(WavError::NotWav),
                _ => {}
            }
            skipped += rest;
            if skipped > MAX_SKIPPED {
                return Err(WavError::NotWav);
            }
            io::copy(&mut (&mut inner).take(rest), &mut io::sink())?;
        }
    }

    /// Fills `buffer` with whole samples as far as there are any and returns the number of bytes;
    /// 0 is the end. A last half sample is dropped.
    ///
    /// # Errors
    /// When reading fails.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len() & !1;
        let mut filled = 0;
        while filled < room {
            match self.inner.read(&mut buffer[filled..room]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(filled & !1)
    }
}

fn take<const N: usize>(inner: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    inner.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads the `fmt ` chunk as far as it matters and returns how many bytes that was.
fn check_format(inner: &mut impl Read, size: u32) -> Result<u64, WavError> {
    let bytes: [u8; 16] = take(inner)?;
    let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let mut format = word(0);
    let mut used = 16;
    if format == EXTENSIBLE && size >= 40 {
        let extension: [u8; 10] = take(inner)?;
        format = u16::from_le_bytes([extension[8], extension[9]]);
        used += 10;
    }
    let (channels, bits) = (word(2), word(14));
    let rate = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    if (format, channels, rate, bits) == (PCM, 1, RATE, 16) {
        return Ok(used);
    }
    Err(WavError::Format { format, channels, rate, bits })
}

/// A WAV file that is being written. Its name is `NAME.part` until [`WavWriter::finish`] renames
/// it. The file that a crash leaves can be played, but may lack its last second. A device or pipe
/// is written directly, with a header that says "to the end".
pub(super) struct WavWriter {
    out: Out,
    /// Audio so far.
    bytes: u32,
}

/// Where it goes.
enum Out {
    File { writer: hound::WavWriter<BufWriter<File>>, part: PathBuf, path: PathBuf },
    Stream(BufWriter<File>),
}

impl WavWriter {
    /// Begins the file that will have the name `path`.
    ///
    /// # Errors
    /// When it cannot be created.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            let mut stream = BufWriter::new(File::create(path)?);
            stream.write_all(&SPEC.into_header_for_infinite_file())?;
            return Ok(Self { out: Out::Stream(stream), bytes: 0 });
        }
        let path = path.to_owned();
        let mut part = path.clone();
        part.as_mut_os_string().push(".part");
        let file = BufWriter::new(File::create(&part)?);
        let writer = hound::WavWriter::new(file, SPEC).map_err(io_fault)?;
        Ok(Self { out: Out::File { writer, part, path }, bytes: 0 })
    }

    /// Adds audio: whole samples of PCM16, little endian.
    ///
    /// # Errors
    /// When writing fails, or the file would exceed the 4 GiB that its format can say.
    pub(super) fn write(&mut self, pcm: &[u8]) -> io::Result<()> {
        let before = self.bytes;
        let more = u32::try_from(pcm.len()).ok();
        let sum = more.and_then(|more| before.checked_add(more)).filter(|sum| *sum < MAX_AUDIO);
        self.bytes = sum.ok_or(io::ErrorKind::FileTooLarge)?;
        let writer = match &mut self.out {
            Out::Stream(stream) => return stream.write_all(pcm),
            Out::File { writer, .. } => writer,
        };
        for &sample in pcm.as_chunks().0 {
            writer.write_sample(i16::from_le_bytes(sample)).map_err(io_fault)?;
        }
        if before / CHECKPOINT != self.bytes / CHECKPOINT {
            writer.flush().map_err(io_fault)?;
        }
        Ok(())
    }

    /// Gives the file up. The `.part` file is removed. A file of the final name stays as it was.
    pub(super) fn discard(self) {
        if let Out::File { part, .. } = self.out {
            // A file that cannot be removed does no harm.
            let _ = fs::remove_file(part);
        }
    }

    /// Writes the true size into the header and gives the file its name.
    ///
    /// # Errors
    /// When writing or renaming fails; the `.part` file stays.
    pub(super) fn finish(self) -> io::Result<()> {
        match self.out {
            Out::Stream(mut stream) => stream.flush(),
            Out::File { writer, part, path } => {
                writer.finalize().map_err(io_fault)?;
                fs::rename(part, path)
            }
        }
    }
}

impl fmt::Debug for WavWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WavWriter").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

fn io_fault(fault: hound::Error) -> io::Error {
    match fault {
        hound::Error::IoError(fault) => fault,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header that says how many bytes of audio follow.
    fn header(data: u32) -> Vec<u8> {
        let mut bytes = SPEC.into_header_for_infinite_file();
        bytes[40..].copy_from_slice(&data.to_le_bytes());
        bytes
    }

    fn audio(bytes: &[u8]) -> Result<Vec<u8>, WavError> {
        let mut reader = WavReader::new(bytes)?;
        let mut all = Vec::new();
        let mut buffer = [0; 7];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(all),
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    fn fault(bytes: &[u8]) -> String {
        audio(bytes).unwrap_err().to_string()
    }

    /// A file with a wanted `fmt ` content and chunks around it.
    fn with_format(format: &[u8], before: &[u8]) -> Vec<u8> {
        let mut bytes = b"RIFF\0\0\0\0WAVE".to_vec();
        bytes.extend(before);
        bytes.extend(b"fmt ");
        bytes.extend(u32::try_from(format.len()).unwrap().to_le_bytes());
        bytes.extend(format);
        bytes.extend(b"data\x04\0\0\0abcdLIST\x02\0\0\0xx");
        bytes
    }

    #[test]
    fn what_is_written_can_be_read() {
        let path = std::env::temp_dir().join(format!("voicelived-{}.wav", std::process::id()));
        let mut writer = WavWriter::create(&path).unwrap();
        writer.write(b"abcd").unwrap();
        assert!(!path.exists());
        writer.write(b"efgh").unwrap();
        writer.finish().unwrap();
        let bytes = fs::read(&path).unwrap();
        let mut reader = WavReader::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(audio(&bytes).unwrap(), b"abcdefgh");
        assert_eq!(reader.read(&mut [0; 64]).unwrap(), 8);
        assert_eq!((bytes.len(), &bytes[4..8]), (52, &44_u32.to_le_bytes()[..]));
    }

    /// As a process that is killed leaves it.
    #[test]
    fn a_file_that_was_not_finished_can_be_played() {
        let name = format!("voicelived-unfinished-{}.wav", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut part = path.clone();
        part.as_mut_os_string().push(".part");
        let mut writer = WavWriter::create(&path).unwrap();
        let second = vec![7; CHECKPOINT as usize];
        writer.write(&second).unwrap();
        writer.write(b"ab").unwrap();
        std::mem::forget(writer);
        let left = fs::read(&part).unwrap();
        fs::remove_file(&part).unwrap();
        assert!(!path.exists());
        assert_eq!(left[40..44], CHECKPOINT.to_le_bytes());
        assert_eq!(audio(&left).unwrap(), second);
    }

    #[test]
    fn a_device_is_not_replaced() {
        let mut writer = WavWriter::create(Path::new("/dev/null")).unwrap();
        writer.write(b"ab").unwrap();
        writer.finish().unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(WavWriter::create(Path::new("/nonexistent/a.wav")).is_err());
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let name = format!("voicelived-discard-{}.wav", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut writer = WavWriter::create(&path).unwrap();
        writer.write(b"ab").unwrap();
        writer.discard();
        let mut part = path.clone();
        part.as_mut_os_string().push(".part");
        assert!(!path.exists() && !part.exists());
    }

    #[test]
    fn a_file_of_unknown_length_is_read_to_its_end() {
        for size in [0, UNKNOWN, UNKNOWN - 36] {
            let bytes = [&header(size)[..], b"abcde"].concat();
            assert_eq!(audio(&bytes).unwrap(), b"abcd");
        }
        let short = [&header(1000)[..], b"ab"].concat();
        assert_eq!(audio(&short).unwrap(), b"ab");
    }

    #[test]
    fn other_chunks_are_skipped() {
        let plain = &header(4)[20..36];
        assert_eq!(audio(&with_format(plain, b"LIST\x03\0\0\0xyz\0")).unwrap(), b"abcd");
        let longer = [plain, &[0, 0]].concat();
        assert_eq!(audio(&with_format(&longer, b"")).unwrap(), b"abcd");
        let extension =
            [&[0xFE, 0xFF][..], &plain[2..], &[22, 0, 16, 0, 4, 0, 0, 0, 1, 0], &[0; 14]];
        assert_eq!(audio(&with_format(&extension.concat(), b"")).unwrap(), b"abcd");
    }

    #[test]
    fn other_formats_are_refused_with_a_remedy() {
        for (at, value) in [(0, 3_u16), (2, 2), (4, 16_000), (14, 8), (0, EXTENSIBLE)] {
            let mut format = header(0)[20..36].to_vec();
            format[at..at + 2].copy_from_slice(&value.to_le_bytes());
            let text = fault(&with_format(&format, b""));
            assert!(text.contains(&value.to_string()) && text.contains("sox"), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(fault(b"").contains("ends before"));
        assert!(fault(&header(0)[..40]).contains("ends before"));
        assert!(fault(b"ID3\x04 this is an mp3 file").contains("not a WAV"));
        assert!(fault(b"RIFF\0\0\0\0WAVEdata\x04\0\0\0abcd").contains("not a WAV"));
        assert!(fault(b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\xff").contains("not a WAV"));
        assert!(fault(b"RIFF\0\0\0\0WAVEfmt \x02\0\0\0\x01\0").contains("ends before"));
    }
}
