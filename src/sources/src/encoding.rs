//! Text encodings other than UTF-8: UTF-16, Latin-1 and Windows-1252, as spreadsheets and older
//! programs write them.

use std::io::{self, Read};
use std::str::FromStr;

use vexact_core::error::Error;

/// Characters of the bytes 0x80 to 0x9f in Windows-1252; five of the bytes have no character.
const WINDOWS_1252: [Option<char>; 32] = [
    Some('\u{20ac}'),
    None,
    Some('\u{201a}'),
    Some('\u{192}'),
    Some('\u{201e}'),
    Some('\u{2026}'),
    Some('\u{2020}'),
    Some('\u{2021}'),
    Some('\u{2c6}'),
    Some('\u{2030}'),
    Some('\u{160}'),
    Some('\u{2039}'),
    Some('\u{152}'),
    None,
    Some('\u{17d}'),
    None,
    None,
    Some('\u{2018}'),
    Some('\u{2019}'),
    Some('\u{201c}'),
    Some('\u{201d}'),
    Some('\u{2022}'),
    Some('\u{2013}'),
    Some('\u{2014}'),
    Some('\u{2dc}'),
    Some('\u{2122}'),
    Some('\u{161}'),
    Some('\u{203a}'),
    Some('\u{153}'),
    None,
    Some('\u{17e}'),
    Some('\u{178}'),
];

/// Character encoding of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TextEncoding {
    /// UTF-8.
    #[default]
    Utf8,
    /// UTF-16, whose byte order mark determines the order of its bytes.
    Utf16,
    /// UTF-16, little-endian.
    Utf16Le,
    /// UTF-16, big-endian.
    Utf16Be,
    /// Each byte is the character of its number.
    Latin1,
    /// Latin-1 with other characters in place of most of its control characters.
    Windows1252,
}

impl FromStr for TextEncoding {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let plain: String = name.to_ascii_lowercase().chars().filter(|c| !matches!(c, '-' | '_' | ' ')).collect();
        match plain.as_str() {
            "utf8" | "utf8sig" | "ascii" | "usascii" => Ok(Self::Utf8),
            "utf16" => Ok(Self::Utf16),
            "utf16le" => Ok(Self::Utf16Le),
            "utf16be" => Ok(Self::Utf16Be),
            "latin1" | "iso88591" | "l1" => Ok(Self::Latin1),
            "windows1252" | "cp1252" => Ok(Self::Windows1252),
            _ => Err(Error::InvalidArgument(format!(
                "encoding: expected utf-8, utf-16, utf-16le, utf-16be, latin-1 or windows-1252, got {name:?}"
            ))),
        }
    }
}

impl TextEncoding {
    /// Returns the encoding of a text that begins with these bytes.
    pub(super) fn at(self, start: &[u8]) -> Result<Self, String> {
        let marked = match start {
            [0xff, 0xfe, ..] => Some(Self::Utf16Le),
            [0xfe, 0xff, ..] => Some(Self::Utf16Be),
            _ => None,
        };
        match (self, marked) {
            (Self::Utf16, Some(order)) => Ok(order),
            (Self::Utf16, None) => {
                Err("expected UTF-16 with a byte order mark (utf-16le and utf-16be need none)".into())
            }
            (Self::Utf8, Some(_)) => Err("expected UTF-8, got UTF-16, which encoding='utf-16' reads".into()),
            (encoding, _) => Ok(encoding),
        }
    }
}

/// Decodes text of another encoding to UTF-8. Bytes without a character in that encoding are an
/// error.
pub(super) struct Decoded<R> {
    input: R,
    encoding: TextEncoding,
    bytes: Vec<u8>,
    /// Text that is decoded but not read yet.
    text: io::Cursor<Vec<u8>>,
    is_begin: bool,
}

impl<R: Read> Decoded<R> {
    pub fn new(input: R, encoding: TextEncoding) -> Self {
        Self { input, encoding, bytes: Vec::new(), text: io::Cursor::default(), is_begin: true }
    }

    /// Decodes the next bytes; the text stays empty at the end.
    fn fill(&mut self) -> io::Result<()> {
        let kept = self.bytes.len();
        let read = self.input.by_ref().take(1 << 16).read_to_end(&mut self.bytes)?;
        if read == 0 && kept == 0 {
            return Ok(());
        }
        let (text, used) = self.decode(read == 0)?;
        self.bytes.drain(..used);
        let text = match std::mem::take(&mut self.is_begin) {
            true => text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned),
            false => text,
        };
        self.text = io::Cursor::new(text.into_bytes());
        Ok(())
    }

    /// Returns the characters of the bytes, and the number of decoded bytes.
    fn decode(&self, is_end: bool) -> io::Result<(String, usize)> {
        let bad = |name: &str| {
            io::Error::new(io::ErrorKind::InvalidData, format!("expected text in {name}, got other bytes"))
        };
        let unit = |pair: &[u8]| match self.encoding {
            TextEncoding::Utf16Be => u16::from_be_bytes([pair[0], pair[1]]),
            _ => u16::from_le_bytes([pair[0], pair[1]]),
        };
        match self.encoding {
            TextEncoding::Latin1 => Ok((self.bytes.iter().copied().map(char::from).collect(), self.bytes.len())),
            TextEncoding::Windows1252 => {
                let character = |byte: &u8| match byte {
                    0x80..0xa0 => WINDOWS_1252[usize::from(*byte - 0x80)],
                    byte => Some(char::from(*byte)),
                };
                let text: Option<String> = self.bytes.iter().map(character).collect();
                Ok((text.ok_or_else(|| bad("Windows-1252"))?, self.bytes.len()))
            }
            _ => {
                let mut units: Vec<u16> = self.bytes.chunks_exact(2).map(unit).collect();
                // The first half of a surrogate pair waits for the second.
                if !is_end && units.last().is_some_and(|unit| (0xd800..0xdc00).contains(unit)) {
                    units.pop();
                }
                if is_end && !self.bytes.len().is_multiple_of(2) {
                    return Err(bad("UTF-16"));
                }
                let text = String::from_utf16(&units).map_err(|_| bad("UTF-16"))?;
                Ok((text, units.len() * 2))
            }
        }
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.text.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            let before = self.bytes.len();
            self.fill()?;
            let has_text = !self.text.get_ref().is_empty() && self.text.position() == 0;
            if !has_text && self.bytes.is_empty() && before == 0 {
                return Ok(0);
            }
        }
    }
}
