//! Reads the objects of a JSON file, one after the other, with their positions.

use std::io::{self, BufRead};

use std::str::FromStr;

use vexact_core::error::{Error, Result};

use super::json_scan::MAX_DEPTH;

/// Arrangement of the objects in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonFormat {
    /// One object on each line.
    Lines,
    /// One array of objects.
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
    /// Returns the first byte of such a file, and a readable name of the format.
    pub(super) fn start(self) -> (u8, &'static str) {
        match self {
            Self::Lines => (b'{', "JSON lines, an object on each (json_lines)"),
            Self::Array => (b'[', "a JSON array of objects (json_array)"),
        }
    }
}

/// One object as it is written in the file.
#[derive(Debug, Default)]
pub(super) struct Object {
    /// The line on which it begins, counting from 1.
    pub line: u64,
    /// Column on that line at which it begins, counting from 1, in bytes.
    pub column: u64,
    /// Text at this position, which may not be an object.
    pub text: Vec<u8>,
}

/// Unexpected content instead of the next object.
#[derive(Debug)]
pub(super) struct Misplaced {
    pub line: u64,
    pub column: u64,
    pub problem: String,
}

/// Reason why there is no next object.
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

/// Objects of a file. In lines, each line that is not blank is an object, unless the first object
/// spans several lines (pretty-printed): then each of them may. In an array, each item is an
/// object.
pub(super) struct Objects<R> {
    input: R,
    format: JsonFormat,
    /// True if objects may span several lines.
    is_printed: bool,
    line: u64,
    column: u64,
    /// Number of objects returned so far.
    count: u64,
    is_over: bool,
}

impl<R: BufRead> Objects<R> {
    pub fn new(input: R, format: JsonFormat) -> Self {
        Self { input, format, is_printed: false, line: 1, column: 1, count: 0, is_over: false }
    }

    /// Returns the text that the objects are in.
    pub fn input(&self) -> &R {
        &self.input
    }

    /// Reads the next object.
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
            if object.text.trim_ascii().is_empty() {
                continue;
            }
            if self.count == 0 {
                self.is_printed = matches!(object.text.trim_ascii_end().last(), Some(b'{' | b'[' | b',' | b':'));
            }
            if self.is_printed {
                self.read_lines_of(object)?;
            }
            return Ok(true);
        }
    }

    /// Reads the further lines of the object.
    fn read_lines_of(&mut self, object: &mut Object) -> io::Result<()> {
        let mut nesting = Nesting::default();
        nesting.pass_all(&object.text);
        while nesting.depth > 0 {
            let read = object.text.len();
            if self.input.read_until(b'\n', &mut object.text)? == 0 {
                break;
            }
            self.line += 1;
            nesting.pass_all(&object.text[read..]);
        }
        Ok(())
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

    /// Checks that nothing follows the array.
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

    /// Copies the object after its `{`, up to the end of the file if it is not closed.
    fn copy_rest(&mut self, text: &mut Vec<u8>) -> io::Result<()> {
        let mut nesting = Nesting { depth: 1, ..Nesting::default() };
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            let (mut used, mut line, mut column) = (0, self.line, self.column);
            for byte in bytes {
                used += 1;
                column += 1;
                nesting.pass(*byte);
                if *byte == b'\n' {
                    (line, column) = (line + 1, 1);
                }
                if nesting.depth == 0 {
                    break;
                }
            }
            text.extend_from_slice(&bytes[..used]);
            (self.line, self.column) = (line, column);
            self.input.consume(used);
            if nesting.depth == 0 {
                return Ok(());
            }
        }
    }
}

/// Returns the problem of an object whose lists and objects are nested too deeply, if they are.
pub(super) fn too_deep(text: &[u8]) -> Option<String> {
    let (mut nesting, mut deepest) = (Nesting::default(), 0);
    for byte in text {
        nesting.pass(*byte);
        deepest = deepest.max(nesting.depth as usize);
    }
    let problem = || format!("expected at most {MAX_DEPTH} lists and objects within each other, got {deepest}");
    (deepest > MAX_DEPTH).then(problem)
}

/// Depth of a position in a JSON text: the number of open objects and lists.
#[derive(Debug, Default)]
struct Nesting {
    depth: u32,
    is_text: bool,
    is_escaped: bool,
}

impl Nesting {
    fn pass(&mut self, byte: u8) {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' if self.is_text => self.is_escaped = true,
            b'"' => self.is_text = !self.is_text,
            b'{' | b'[' if !self.is_text => self.depth += 1,
            b'}' | b']' if !self.is_text => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    fn pass_all(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.pass(*byte));
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
    fn an_object_that_is_printed_for_people_goes_on_over_lines() {
        let found = objects("{\n \"a\": \"}\",\n \"b\": {}\n}\n{\"a\":2}\n", JsonFormat::Lines).unwrap();
        assert_eq!(found, [at(1, 1, "{\n \"a\": \"}\",\n \"b\": {}\n}"), at(5, 1, "{\"a\":2}")]);
        // A line that ends too early is not such an object.
        let found = objects("{\"a\": 1\n{\"a\":2}\n", JsonFormat::Lines).unwrap();
        assert_eq!(found, [at(1, 1, "{\"a\": 1"), at(2, 1, "{\"a\":2}")]);
    }

    #[test]
    fn items_of_an_array_are_objects_wherever_they_are() {
        let text = "\n [{\"a\":\"]},{\\\"\"}, {\n\"b\":[{}, {}]}\n,{}]\n ";
        let found = objects(text, JsonFormat::Array).unwrap();
        assert_eq!(found, [at(2, 3, "{\"a\":\"]},{\\\"\"}"), at(2, 19, "{\n\"b\":[{}, {}]}"), at(4, 2, "{}")]);
        assert_eq!(objects("[ ]", JsonFormat::Array).unwrap(), []);
    }

    #[test]
    fn deep_nesting_is_named_and_brackets_in_text_are_none() {
        let nested = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(too_deep(nested(MAX_DEPTH - 1).as_bytes()), None);
        for depth in [MAX_DEPTH, 50_000] {
            let expected = format!("expected at most 127 lists and objects within each other, got {}", depth + 1);
            assert_eq!(too_deep(nested(depth).as_bytes()), Some(expected));
        }
        assert_eq!(too_deep(format!("{{\"a\":\"{}\"}}", "[".repeat(1000)).as_bytes()), None);
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
