//! Inputs: files, and pipes, which can be read only once and are copied into an unnamed file. Their
//! text is decompressed and converted to UTF-8.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use vexact_core::error::{Error, Result};

use super::encoding::{Decoded, TextEncoding};
use super::{bad_file, refuse_open_database};

const BUFFER_BYTES: usize = 1 << 18;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reason for rejecting rows that are not of one consistent state of a file.
pub(crate) const CHANGED: &str = "the file was changed while it was read: expected it to stay as it is";

/// A file, or the content of a pipe. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Input {
    path: PathBuf,
    /// Copy of the bytes from a pipe; `None` for a file.
    copy: Option<Arc<File>>,
}

impl Input {
    /// Opens an existing input. A pipe is read to its end.
    ///
    /// # Errors
    /// A path that does not exist, or is a folder or a database that is open in this process; a
    /// network address.
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

    /// Creates an input of a copy of what the path or URL has.
    pub(crate) fn of_copy(path: &Path, copy: File) -> Self {
        Self { path: path.into(), copy: Some(Arc::new(copy)) }
    }

    /// Creates an input of a file, which may not exist yet.
    pub fn of_file(path: &Path) -> Self {
        Self { path: path.into(), copy: None }
    }

    /// Returns the path as given, for messages; it is the file's own path unless the input is a
    /// pipe.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true if the input exists: it was a pipe, or there is a file at its path.
    pub(crate) fn is_there(&self) -> bool {
        self.copy.is_some() || self.path.exists()
    }

    /// Returns true if the input was a pipe.
    pub fn is_pipe(&self) -> bool {
        self.copy.is_some()
    }

    /// Returns the raw content, from its start.
    pub(crate) fn bytes(&self) -> Result<InputBytes> {
        let (file, version) = match &self.copy {
            Some(copy) => (Arc::clone(copy), None),
            None => {
                let file = super::open_file(&self.path)?;
                let metadata = file.metadata().map_err(|error| Error::io(&self.path, error))?;
                (Arc::new(file), Some(Version::of(&metadata)))
            }
        };
        Ok(InputBytes { file, position: 0, version })
    }

    /// Returns the raw content; an empty input is an error.
    pub(crate) fn full_bytes(&self, expected: &str) -> Result<InputBytes> {
        let bytes = self.bytes()?;
        match bytes.len().map_err(|error| Error::io(&self.path, error))? {
            0 => Err(bad_file(&self.path, &format!("expected {expected}, got an empty file"))),
            _ => Ok(bytes),
        }
    }

    /// Returns the content, decompressed.
    pub(crate) fn decompressed(&self) -> Result<Box<dyn Read + Send>> {
        self.decompress(self.bytes()?)
    }

    fn decompress(&self, mut bytes: InputBytes) -> Result<Box<dyn Read + Send>> {
        let io = |error| Error::io(&self.path, error);
        let mut start = Vec::new();
        bytes.by_ref().take(4).read_to_end(&mut start).map_err(io)?;
        bytes.seek(SeekFrom::Start(0)).map_err(io)?;
        Ok(match Compression::of(&start) {
            None => Box::new(bytes),
            Some(Compression::Gzip) => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
            Some(Compression::Zstd) => Box::new(zstd::Decoder::new(bytes).map_err(io)?),
        })
    }

    /// Returns the text, without a byte order mark.
    pub(crate) fn text(&self, encoding: TextEncoding) -> Result<TextReader> {
        let opened = self.bytes()?;
        let mut bytes = self.decompress(opened.clone())?;
        let mut start = Vec::new();
        bytes.by_ref().take(3).read_to_end(&mut start).map_err(|error| self.failed(error))?;
        let text: Box<dyn Read + Send> = match encoding.at(&start) {
            Ok(TextEncoding::Utf8) if start == BYTE_ORDER_MARK => bytes,
            Ok(TextEncoding::Utf8) => Box::new(io::Cursor::new(start).chain(bytes)),
            Ok(other) => Box::new(Decoded::new(io::Cursor::new(start).chain(bytes), other)),
            Err(problem) => return Err(bad_file(&self.path, &problem)),
        };
        Ok(TextReader { text: BufReader::with_capacity(BUFFER_BYTES, text), opened, path: self.path.clone() })
    }

    /// Builds the error of a failed read: bytes that cannot be decompressed or decoded are a defect
    /// of the file.
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

/// Compressions of text, which its first bytes identify: no text begins with them.
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

/// Returns a path on this machine: `file:///a%20b.csv` is `/a b.csv`.
///
/// # Errors
/// A network address.
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
            "{}: expected a path on this machine, got an address of {scheme}",
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

/// The text of an input, in UTF-8.
pub(crate) struct TextReader {
    text: BufReader<Box<dyn Read + Send>>,
    opened: InputBytes,
    path: PathBuf,
}

impl TextReader {
    /// Returns the cause of an error in the text: a change of the file if it was changed, else this
    /// error.
    pub fn blame(&self, error: Error) -> Error {
        self.opened.blame(&self.path, error)
    }
}

impl Read for TextReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.text.read(into)
    }
}

impl BufRead for TextReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.text.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.text.consume(bytes);
    }
}

/// Version of a file: each write to the file changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    len: u64,
    modified: Option<SystemTime>,
}

impl Version {
    pub fn of(metadata: &Metadata) -> Self {
        Self { len: metadata.len(), modified: metadata.modified().ok() }
    }
}

/// The bytes of an input. A clone reads the same open file, at its own position.
#[derive(Debug, Clone)]
pub(crate) struct InputBytes {
    file: Arc<File>,
    position: u64,
    /// Version of the file when it was opened; `None` for the copy of a pipe.
    version: Option<Version>,
}

impl InputBytes {
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Returns a reader of the same bytes from a position on.
    pub fn from(&self, position: u64) -> Self {
        Self { position, ..self.clone() }
    }

    /// Returns true if the file was written to since it was opened. A new file of the same name
    /// does not count as a change.
    pub fn is_changed(&self) -> bool {
        let is_same = |version| self.file.metadata().is_ok_and(|now| Version::of(&now) == version);
        self.version.is_some_and(|version| !is_same(version))
    }

    /// Returns the cause of an error in the content: a change of the file if it was changed, else
    /// this error.
    pub fn blame(&self, path: &Path, error: Error) -> Error {
        if self.is_changed() { bad_file(path, &CHANGED) } else { error }
    }
}

impl Read for InputBytes {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = read_at(&self.file, into, self.position)?;
        self.position += read as u64;
        // A reader that reaches the end has read one consistent state of the file, or gets an
        // error.
        if read == 0 && !into.is_empty() && self.is_changed() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, CHANGED));
        }
        Ok(read)
    }
}

impl Seek for InputBytes {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, offset) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::Current(offset) => (self.position, offset),
            SeekFrom::End(offset) => (self.len()?, offset),
        };
        self.position = base.checked_add_signed(offset).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
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

    /// Changes a file in place, and gives it a later modification time.
    fn rewrite(path: &Path, content: &[u8]) {
        let before = std::fs::metadata(path).unwrap().modified().unwrap();
        std::fs::write(path, content).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(before + std::time::Duration::from_secs(1)).unwrap();
    }

    #[test]
    fn a_file_that_is_changed_while_it_is_read_is_refused_and_one_that_is_replaced_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        let text = "a,b\n1,2\n".repeat(1 << 17);
        for compressed in [text.as_bytes().to_vec(), zstd::encode_all(text.as_bytes(), 1).unwrap()] {
            for content in [&compressed[..], &compressed[..compressed.len() - 1], &[&compressed[..], b"x"].concat()] {
                std::fs::write(&path, &compressed).unwrap();
                let input = Input::open(&path).unwrap();
                let mut reader = input.text(TextEncoding::Utf8).unwrap();
                reader.read_exact(&mut [0; 10]).unwrap();
                rewrite(&path, content);
                let error = io::copy(&mut reader, &mut io::sink()).map_err(|error| input.failed(error));
                let error = reader.blame(error.unwrap_err()).to_string();
                assert!(error.ends_with(CHANGED) && error.contains(path.to_str().unwrap()), "{error}");
            }
            std::fs::write(&path, &compressed).unwrap();
            let mut reader = Input::open(&path).unwrap().text(TextEncoding::Utf8).unwrap();
            let mut found = vec![0; 10];
            reader.read_exact(&mut found).unwrap();
            std::fs::write(&other, "x").unwrap();
            std::fs::rename(&other, &path).unwrap();
            reader.read_to_end(&mut found).unwrap();
            assert!(found == text.as_bytes());
        }
    }

    #[test]
    fn addresses_of_networks_are_named_and_those_of_files_are_paths() {
        assert_eq!(local_path(Path::new("file:///a%20b.csv")).unwrap(), Path::new("/a b.csv"));
        assert_eq!(local_path(Path::new("a:b.csv")).unwrap(), Path::new("a:b.csv"));
        let error = local_path(Path::new("s3://bucket/a.csv")).unwrap_err().to_string();
        assert_eq!(error, "s3://bucket/a.csv: expected a path on this machine, got an address of s3");
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
