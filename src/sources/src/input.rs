//! Inputs: files, and pipes, which can be read once and are copied into a file without a name. Text comes out of them
//! decompressed and in UTF-8.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vexact_core::error::{Error, Result};

use super::encoding::{Decoded, TextEncoding};
use super::{bad_file, refuse_open_database};

const BUFFER_BYTES: usize = 1 << 18;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The text of an input.
pub(crate) type TextReader = BufReader<Box<dyn Read + Send>>;

/// A file, or what came through a pipe. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Input {
    path: PathBuf,
    /// What a pipe gave.
    copy: Option<Arc<File>>,
}

impl Input {
    /// An input that is there. A pipe is read to its end.
    ///
    /// # Errors
    /// A path of nothing, of a folder, or of a database that is open in this process; an address of a network.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = local_path(path.as_ref())?;
        let io = |error| Error::io(&path, error);
        refuse_open_database(&path)?;
        let metadata = std::fs::metadata(&path).map_err(io)?;
        if metadata.is_dir() {
            return Err(Error::InvalidArgument(format!("{}: expected a file, got a folder", path.display())));
        }
        if can_be_read_again(&metadata) {
            return Ok(Self::of_file(&path));
        }
        let mut copy = tempfile::tempfile().map_err(io)?;
        io::copy(&mut File::open(&path).map_err(io)?, &mut copy).map_err(io)?;
        Ok(Self { path: path.clone(), copy: Some(Arc::new(copy)) })
    }

    /// The file of a path, which may not be there yet.
    pub fn of_file(path: &Path) -> Self {
        Self { path: path.into(), copy: None }
    }

    /// As given, for messages; the file's own path unless it is a pipe.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is something to read.
    pub(crate) fn is_there(&self) -> bool {
        self.copy.is_some() || self.path.exists()
    }

    /// Whether it was a pipe.
    pub fn is_pipe(&self) -> bool {
        self.copy.is_some()
    }

    /// The content as it is, from its begin.
    pub(crate) fn bytes(&self) -> Result<InputBytes> {
        match &self.copy {
            Some(copy) => Ok(InputBytes::Copy { file: Arc::clone(copy), at: 0 }),
            None => super::open_file(&self.path).map(InputBytes::File),
        }
    }

    /// The content as it is, where there is any.
    pub(crate) fn full_bytes(&self, expected: &str) -> Result<InputBytes> {
        let bytes = self.bytes()?;
        match bytes.len().map_err(|error| Error::io(&self.path, error))? {
            0 => Err(bad_file(&self.path, &format!("expected {expected}, got an empty file"))),
            _ => Ok(bytes),
        }
    }

    /// The content, decompressed.
    pub(crate) fn decompressed(&self) -> Result<Box<dyn Read + Send>> {
        let io = |error| Error::io(&self.path, error);
        let mut bytes = self.bytes()?;
        let mut start = Vec::new();
        bytes.by_ref().take(4).read_to_end(&mut start).map_err(io)?;
        bytes.seek(SeekFrom::Start(0)).map_err(io)?;
        Ok(match Compression::of(&start) {
            None => Box::new(bytes),
            Some(Compression::Gzip) => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
            Some(Compression::Zstd) => Box::new(zstd::Decoder::new(bytes).map_err(io)?),
        })
    }

    /// The text, without a byte order mark.
    pub(crate) fn text(&self, encoding: TextEncoding) -> Result<TextReader> {
        let mut bytes = self.decompressed()?;
        let mut start = Vec::new();
        bytes.by_ref().take(3).read_to_end(&mut start).map_err(|error| self.failed(error))?;
        let text: Box<dyn Read + Send> = match encoding.at(&start) {
            Ok(TextEncoding::Utf8) if start == BYTE_ORDER_MARK => bytes,
            Ok(TextEncoding::Utf8) => Box::new(io::Cursor::new(start).chain(bytes)),
            Ok(other) => Box::new(Decoded::new(io::Cursor::new(start).chain(bytes), other)),
            Err(problem) => return Err(bad_file(&self.path, &problem)),
        };
        Ok(BufReader::with_capacity(BUFFER_BYTES, text))
    }

    /// A failure to read it: bytes that cannot be decompressed or decoded are the file's fault.
    pub(crate) fn failed(&self, error: io::Error) -> Error {
        let is_content = matches!(
            error.kind(),
            io::ErrorKind::InvalidData
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::Other
        ) && error.raw_os_error().is_none();
        if is_content { bad_file(&self.path, &error) } else { Error::io(&self.path, error) }
    }
}

/// Compressions of text, which are told by its first bytes: no text begins so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    pub fn of(start: &[u8]) -> Option<Self> {
        match start {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// A path as it is on this machine: `file:///a%20b.csv` is `/a b.csv`.
///
/// # Errors
/// An address of a network.
pub(crate) fn local_path(path: &Path) -> Result<PathBuf> {
    let Some((scheme, _)) = path.to_str().and_then(|text| text.split_once("://")) else { return Ok(path.into()) };
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    if !is_scheme || path.exists() {
        return Ok(path.into());
    }
    let url = path.to_str().and_then(|text| url::Url::parse(text).ok());
    match url.filter(|url| url.scheme() == "file").and_then(|url| url.to_file_path().ok()) {
        Some(local) => Ok(local),
        None => Err(Error::InvalidArgument(format!(
            "{}: expected a path on this machine, got an address of {scheme}: no networks are read",
            path.display()
        ))),
    }
}

#[cfg(unix)]
fn can_be_read_again(metadata: &Metadata) -> bool {
    metadata.is_file()
}

#[cfg(not(unix))]
fn can_be_read_again(_: &Metadata) -> bool {
    true
}

/// The bytes of an input.
#[derive(Debug)]
pub(crate) enum InputBytes {
    File(File),
    /// Several read one copy, each at its own place.
    Copy {
        file: Arc<File>,
        at: u64,
    },
}

impl InputBytes {
    pub fn len(&self) -> io::Result<u64> {
        let file = match self {
            Self::File(file) => file,
            Self::Copy { file, .. } => file.as_ref(),
        };
        Ok(file.metadata()?.len())
    }
}

impl Read for InputBytes {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(into),
            Self::Copy { file, at } => {
                let read = read_at(file, into, *at)?;
                *at += read as u64;
                Ok(read)
            }
        }
    }
}

impl Seek for InputBytes {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Copy { file, at } => {
                let (base, offset) = match to {
                    SeekFrom::Start(at) => (at, 0),
                    SeekFrom::Current(offset) => (*at, offset),
                    SeekFrom::End(offset) => (file.metadata()?.len(), offset),
                };
                *at = base.checked_add_signed(offset).ok_or(io::ErrorKind::InvalidInput)?;
                Ok(*at)
            }
        }
    }
}

#[cfg(unix)]
fn read_at(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, into, at)
}

#[cfg(windows)]
fn read_at(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, into, at)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn text_of(input: &Input, encoding: TextEncoding) -> Result<String> {
        let mut text = String::new();
        input.text(encoding)?.read_to_string(&mut text).map_err(|error| input.failed(error))?;
        Ok(text)
    }

    #[test]
    fn text_is_the_same_however_it_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let text = "a,b\n1,\u{e9}\n".repeat(1000);
        let marked = [BYTE_ORDER_MARK, text.as_bytes()].concat();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&marked).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(text.as_bytes(), 1).unwrap();
        let utf16: Vec<u8> = "\u{feff}"
            .chars()
            .chain(text.chars())
            .collect::<String>()
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let latin: Vec<u8> = text.chars().map(|c| c as u8).collect();
        for (bytes, encoding) in [
            (text.as_bytes(), "utf-8"),
            (&marked, "utf-8"),
            (&gzip, "UTF8"),
            (&zstd, "utf-8"),
            (&utf16, "utf-16"),
            (&latin, "latin-1"),
            (&latin, "windows-1252"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let input = Input::open(&path).unwrap();
            assert!(text_of(&input, encoding.parse().unwrap()).unwrap() == text, "{encoding}");
        }
        for (bytes, expected) in
            [(&utf16[..], "expected UTF-8, got UTF-16"), (&gzip[..gzip.len() - 9], ""), (&zstd[..zstd.len() - 1], "")]
        {
            std::fs::write(&path, bytes).unwrap();
            let error = text_of(&Input::open(&path).unwrap(), TextEncoding::Utf8).unwrap_err();
            assert!(matches!(&error, Error::BadFile { problem, .. } if problem.contains(expected)), "{error}");
        }
    }

    #[test]
    fn addresses_of_networks_are_named_and_those_of_files_are_paths() {
        assert_eq!(local_path(Path::new("file:///a%20b.csv")).unwrap(), Path::new("/a b.csv"));
        assert_eq!(local_path(Path::new("a:b.csv")).unwrap(), Path::new("a:b.csv"));
        let error = local_path(Path::new("s3://bucket/a.csv")).unwrap_err().to_string();
        assert_eq!(
            error,
            "s3://bucket/a.csv: expected a path on this machine, got an address of s3: no networks are read"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_read_once_and_its_rows_as_often_as_wanted() {
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        let sender = std::thread::spawn(move || writer.write_all(b"a\n1\n"));
        let input = Input::open(&path).unwrap();
        sender.join().unwrap().unwrap();
        for _ in 0..2 {
            assert_eq!(text_of(&input, TextEncoding::Utf8).unwrap(), "a\n1\n");
        }
        assert!(input.is_pipe());
    }
}
