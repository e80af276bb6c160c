//! The objects of a JSON file, one after the other, with their places.

use std::io::{self, BufRead, Read};

use std::str::FromStr;

use vexact_core::error::{Error, Result};

/// How objects follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonFormat {
    /// One object a line.
    Lines,
    /// One array.
    Array,
}

impl FromStr for JsonFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "json_lines" | "jsonl" | "ndjson" => Ok(Self::Lines),
            "json_array" | "json" => Ok(Self::Array),
            _ => Err(Error::InvalidArgument(format!("format: expected one of json_lines, json_array, got {name:?}"))),
        }
    }
}

impl JsonFormat {
    /// The byte with which such a file begins, and its name for people.
    pub(super) fn start(self) -> (u8, &'static str) {
        match self {
            Self::Lines => (b'{', "JSON lines, an object on each (json_lines)"),
            Self::Array => (b'[', "a JSON array of objects (json_array)"),
        }
    }
}

/// One object as it is written, on one line.
#[derive(Debug, Default)]
pub(super) struct Object {
    /// The line on which it begins, counting from 1.
    pub line: u64,
    /// Its first column on that line, counting from 1, in bytes.
    pub column: u64,
    /// What is written there, which may yet be no object.
    pub text: Vec<u8>,
}

/// Something else than the next object.
#[derive(Debug)]
pub(super) struct Misplaced {
    pub line: u64,
    pub column: u64,
    pub problem: String,
}

/// Why there is no next object.
#[derive(Debug)]
pub(super) enum Failure {
    Io(io::Error),
    Misplaced(Misplaced),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The objects of a file. In lines, each line that is not blank is one; in an array, each item is.
pub(super) struct Objects<R> {
    input: R,
    format: JsonFormat,
    line: u64,
    column: u64,
    /// Objects given so far.
    count: u64,
    is_over: bool,
}

impl<R: BufRead> Objects<R> {
    pub fn new(input: R, format: JsonFormat) -> Self {
        Self { input, format, line: 1, column: 1, count: 0, is_over: false }
    }

    /// The next object.
    pub fn read(&mut self, object: &mut Object) -> Result<bool, Failure> {
        let found = match self.format {
            JsonFormat::Lines => self.read_line(object)?,
            JsonFormat::Array => !self.is_over && self.read_item(object)?,
        };
        self.count += u64::from(found);
        Ok(found)
    }

    fn read_line(&mut self, object: &mut Object) -> Result<bool, Failure> {
        loop {
            object.text.clear();
            if self.input.read_until(b'\n', &mut object.text)? == 0 {
                return Ok(false);
            }
            (object.line, object.column) = (self.line, 1);
            self.line += 1;
            if !object.text.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    fn read_item(&mut self, object: &mut Object) -> Result<bool, Failure> {
        let is_first = self.count == 0;
        if is_first {
            self.expect(b"[", "'['")?;
        }
        let expected = if is_first { "an object or ']'" } else { "',' or ']'" };
        match self.expect(if is_first { b"{]" } else { b",]" }, expected)? {
            b']' => return self.end(),
            b',' => {
                self.expect(b"{", "an object")?;
            }
            _ => {}
        }
        (object.line, object.column) = (self.line, self.column - 1);
        object.text.clear();
        object.text.push(b'{');
        self.copy_rest(&mut object.text)?;
        Ok(true)
    }

    /// Nothing follows the array.
    fn end(&mut self) -> Result<bool, Failure> {
        self.is_over = true;
        match self.next_visible()? {
            None => Ok(false),
            Some(byte) => Err(self.misplaced("the end of the file", Some(byte))),
        }
    }

    fn expect(&mut self, bytes: &[u8], expected: &str) -> Result<u8, Failure> {
        match self.next_visible()? {
            Some(byte) if bytes.contains(&byte) => Ok(byte),
            got => Err(self.misplaced(expected, got)),
        }
    }

    fn misplaced(&self, expected: &str, got: Option<u8>) -> Failure {
        let (got, column) = match got {
            Some(byte) => (format!("'{}'", byte.escape_ascii()), self.column - 1),
            None => ("the end of the file".into(), self.column),
        };
        Failure::Misplaced(Misplaced { line: self.line, column, problem: format!("expected {expected}, got {got}") })
    }

    fn next_visible(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        while self.input.read(&mut byte)? > 0 {
            self.pass(byte[0]);
            if !byte[0].is_ascii_whitespace() {
                return Ok(Some(byte[0]));
            }
        }
        Ok(None)
    }

    fn pass(&mut self, byte: u8) {
        if byte == b'\n' {
            (self.line, self.column) = (self.line + 1, 1);
        } else {
            self.column += 1;
        }
    }

    /// The object after its `{`, to the end of the file where it is not closed. Line ends in it become spaces: in texts there are
    /// none.
    fn copy_rest(&mut self, text: &mut Vec<u8>) -> io::Result<()> {
        let (mut depth, mut is_text, mut is_escaped) = (1_u32, false, false);
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            let (mut used, mut line, mut column) = (0, self.line, self.column);
            for byte in bytes {
                used += 1;
                column += 1;
                match byte {
                    _ if is_escaped => is_escaped = false,
                    b'\\' if is_text => is_escaped = true,
                    b'"' => is_text = !is_text,
                    b'{' | b'[' if !is_text => depth += 1,
                    b'}' | b']' if !is_text => depth -= 1,
                    b'\n' => (line, column) = (line + 1, 1),
                    _ => {}
                }
                text.push(if *byte == b'\n' { b' ' } else { *byte });
                if depth == 0 {
                    break;
                }
            }
            (self.line, self.column) = (line, column);
            self.input.consume(used);
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

/// The objects as lines, for a reader of those.
pub(super) struct ObjectLines<R> {
    objects: Objects<R>,
    object: Object,
    /// Bytes of the object that are read.
    used: usize,
}

impl<R: BufRead> ObjectLines<R> {
    pub fn new(objects: Objects<R>) -> Self {
        Self { objects, object: Object::default(), used: 0 }
    }
}

impl<R: BufRead> BufRead for ObjectLines<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.object.text.len() {
            self.used = 0;
            match self.objects.read(&mut self.object) {
                Ok(true) => {
                    if self.object.text.last() != Some(&b'\n') {
                        self.object.text.push(b'\n');
                    }
                }
                Ok(false) => self.object.text.clear(),
                Err(Failure::Io(error)) => return Err(error),
                Err(Failure::Misplaced(found)) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, found.problem));
                }
            }
        }
        Ok(&self.object.text[self.used..])
    }

    fn consume(&mut self, bytes: usize) {
        self.used += bytes;
    }
}

impl<R: BufRead> Read for ObjectLines<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut bytes = self.fill_buf()?;
        let read = bytes.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(text: &str, format: JsonFormat) -> Result<Vec<(u64, u64, String)>, String> {
        // Buffers of every size find the same objects.
        let of = |size| {
            let mut objects = Objects::new(io::BufReader::with_capacity(size, text.as_bytes()), format);
            let (mut found, mut object) = (Vec::new(), Object::default());
            loop {
                match objects.read(&mut object) {
                    Ok(true) => {
                        let text = String::from_utf8_lossy(&object.text).trim_end().to_owned();
                        found.push((object.line, object.column, text));
                    }
                    Ok(false) => return Ok(found),
                    Err(Failure::Io(error)) => return Err(error.to_string()),
                    Err(Failure::Misplaced(at)) => return Err(format!("{}:{}: {}", at.line, at.column, at.problem)),
                }
            }
        };
        let found = of(1);
        assert!([2, 3, 7, 1000].into_iter().all(|size| of(size) == found), "{text:?}");
        found
    }

    fn at(line: u64, column: u64, text: &str) -> (u64, u64, String) {
        (line, column, text.to_owned())
    }

    #[test]
    fn lines_are_objects_and_blank_ones_are_none() {
        let found = objects("{\"a\":1}\n \r\n\n{\"a\":2}", JsonFormat::Lines).unwrap();
        assert_eq!(found, [at(1, 1, "{\"a\":1}"), at(4, 1, "{\"a\":2}")]);
    }

    #[test]
    fn items_of_an_array_are_objects_wherever_they_are() {
        let text = "\n [{\"a\":\"]},{\\\"\"}, {\n\"b\":[{}, {}]}\n,{}]\n ";
        let found = objects(text, JsonFormat::Array).unwrap();
        assert_eq!(found, [at(2, 3, "{\"a\":\"]},{\\\"\"}"), at(2, 19, "{ \"b\":[{}, {}]}"), at(4, 2, "{}")]);
        assert_eq!(objects("[ ]", JsonFormat::Array).unwrap(), []);
    }

    #[test]
    fn what_is_no_array_of_objects_has_its_place() {
        for (text, expected) in [
            ("{}", "1:1: expected '[', got '{'"),
            ("[{},\n 7]", "2:2: expected an object, got '7'"),
            ("[{}\n{}]", "2:1: expected ',' or ']', got '{'"),
            ("[{}]\n{}", "2:1: expected the end of the file, got '{'"),
            ("[{},", "1:5: expected an object, got the end of the file"),
            ("[{}", "1:4: expected ',' or ']', got the end of the file"),
        ] {
            assert_eq!(objects(text, JsonFormat::Array).unwrap_err(), expected, "{text:?}");
        }
    }
}
