//! Reads records of delimited text, block by block, with the byte offset of each. A quote that is
//! never closed and text that is not UTF-8 are errors: the parser of `csv-core` itself never fails
//! (BurntSushi/rust-csv#252).

use std::io::{self, BufRead};

use csv_core::{ReadFieldResult, ReadRecordResult, Reader};

use super::cell::{CellRules, Cells};

/// Special characters of delimited text: delimiter, quote, escape and comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// Delimiter between two cells.
    pub delimiter: u8,
    /// Quote around a cell that contains delimiters or line ends; `None` if quotes are text.
    pub quote: Option<u8>,
    /// Escape character before a quote within quotes, in addition to a doubled quote.
    pub escape: Option<u8>,
    /// Character at the start of a comment line, which is skipped.
    pub comment: Option<u8>,
}

impl Dialect {
    /// Comma-separated values with another delimiter.
    pub fn delimited(delimiter: u8) -> Self {
        Self { delimiter, quote: Some(b'"'), escape: None, comment: None }
    }

    fn parser(&self) -> Reader {
        let mut builder = csv_core::ReaderBuilder::new();
        builder.delimiter(self.delimiter).escape(self.escape).comment(self.comment);
        match self.quote {
            Some(quote) => builder.quote(quote),
            None => builder.quoting(false),
        };
        let mut parser = builder.build();
        // A blank line is not a record, and after it the parser does not remove a byte order mark.
        parser.read_record(b"\n", &mut [0], &mut [0]);
        parser
    }

    /// Returns the cells of a record that are written as two quotes, by their index in it. `parser`
    /// parses the record again.
    fn quoted_cells(&self, parser: &mut Reader, record: &[u8]) -> Vec<usize> {
        let Some(quote) = self.quote else { return Vec::new() };
        // Most records with an empty cell have no two quotes in a row.
        if !record.windows(2).any(|pair| pair == [quote, quote]) {
            return Vec::new();
        }
        let mut rest = record;
        while let Some((first, after)) = rest.split_first() {
            // Line ends and comments before the record belong to none of its cells.
            rest = match first {
                b'\r' | b'\n' => after,
                first if Some(*first) == self.comment => {
                    let end = after.iter().position(|byte| *byte == b'\n').unwrap_or(after.len());
                    &after[end..]
                }
                _ => break,
            };
        }
        parser.reset();
        // As in a new parser.
        parser.read_record(b"\n", &mut [0], &mut [0]);
        let (mut quoted, mut cell) = (Vec::new(), 0);
        let (mut is_quoted, mut written) = (rest.first() == Some(&quote), 0);
        loop {
            let (result, read, bytes) = parser.read_field(rest, &mut [0; 256]);
            rest = &rest[read..];
            written += bytes;
            match result {
                ReadFieldResult::OutputFull => {}
                ReadFieldResult::Field { record_end } => {
                    quoted.extend((is_quoted && written == 0).then_some(cell));
                    if record_end || rest.is_empty() {
                        // An empty cell after the last delimiter has no byte.
                        return quoted;
                    }
                    (is_quoted, written, cell) = (rest.first() == Some(&quote), 0, cell + 1);
                }
                // The end of the text ends its last cell.
                ReadFieldResult::InputEmpty | ReadFieldResult::End => {
                    quoted.extend((is_quoted && written == 0).then_some(cell));
                    return quoted;
                }
            }
        }
    }
}

/// Reason why there are no more records.
#[derive(Debug)]
pub(super) enum BadRecord {
    Io(io::Error),
    /// A defect of the record that begins at this byte.
    At {
        byte: u64,
        problem: String,
    },
    /// A cell that cannot be decoded, in the record that begins at this byte.
    Undecoded {
        byte: u64,
        cell: usize,
        problem: String,
    },
}

/// Consecutive records.
#[derive(Debug, Default)]
pub(super) struct Block {
    text: String,
    /// End of each cell in the text.
    ends: Vec<usize>,
    /// For each record, the number of cells up to its end.
    records: Vec<usize>,
    /// Byte offset of the input at which each record begins, or of the line ends before it.
    starts: Vec<u64>,
    /// Cells that are written as two quotes, in their order.
    quoted: Vec<usize>,
}

impl Block {
    /// Returns the number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns the byte offset of a record.
    pub fn start(&self, record: usize) -> u64 {
        self.starts[record]
    }

    /// Returns the number of a record's cells.
    pub fn width(&self, record: usize) -> usize {
        self.records[record] - self.first(record)
    }

    /// Returns the cells of a record.
    pub fn record(&self, record: usize) -> impl Iterator<Item = &str> {
        (self.first(record)..self.records[record]).map(|cell| self.cell(cell))
    }

    /// Returns one cell of a record.
    pub fn get(&self, record: usize, ordinal: usize) -> &str {
        self.cell(self.first(record) + ordinal)
    }

    /// Returns one column of records that all have `width` cells.
    pub fn column<'a>(&'a self, ordinal: usize, width: usize, rules: &'a CellRules) -> impl Cells + 'a {
        BlockColumn { block: self, ordinal, width, rules }
    }

    /// Returns true if a cell is written as two quotes, which is an empty text unless such cells
    /// are NULL.
    fn is_quoted(&self, cell: usize) -> bool {
        self.quoted.binary_search(&cell).is_ok()
    }

    fn first(&self, record: usize) -> usize {
        if record == 0 { 0 } else { self.records[record - 1] }
    }

    fn cell(&self, cell: usize) -> &str {
        let start = if cell == 0 { 0 } else { self.ends[cell - 1] };
        &self.text[start..self.ends[cell]]
    }
}

struct BlockColumn<'a> {
    block: &'a Block,
    ordinal: usize,
    width: usize,
    rules: &'a CellRules,
}

impl Cells for BlockColumn<'_> {
    fn len(&self) -> usize {
        self.block.len()
    }

    fn get(&self, row: usize) -> Option<&str> {
        let cell = self.block.cell(row * self.width + self.ordinal);
        if self.rules.is_null(cell) { None } else { Some(cell) }
    }

    fn text(&self, row: usize) -> Option<&str> {
        let cell = row * self.width + self.ordinal;
        self.get(row).or_else(|| (self.block.is_quoted(cell) && !self.rules.is_quoted_null()).then_some(""))
    }
}

/// The records of a text.
pub(super) struct CsvRecords<R> {
    input: R,
    dialect: Dialect,
    parser: Reader,
    /// Parses the cells of one record again.
    fields: Reader,
    /// Bytes of the current record, except for those of the last part of the input.
    raw: Vec<u8>,
    /// The cells of the last record that are written as two quotes.
    quoted: Vec<usize>,
    /// Number of bytes that are parsed.
    position: u64,
    text: Vec<u8>,
    /// Bytes that are parsed after the end of the text: a line end, and a record that shows that no
    /// quote was open.
    tail: [u8; 3],
    is_over: bool,
}

impl<R: BufRead> CsvRecords<R> {
    /// Creates a reader of a text that begins at this byte offset of its input. A byte order mark
    /// at its start has been removed.
    pub fn new(input: R, dialect: &Dialect, position: u64) -> Self {
        let is_special = |byte: &u8| Some(*byte) == dialect.quote || Some(*byte) == dialect.comment;
        let letter = [b'x', b'y', b'z'].into_iter().find(|byte| !is_special(byte)).unwrap_or(b'x');
        let (parser, fields) = (dialect.parser(), dialect.parser());
        let (dialect, tail) = (*dialect, [b'\n', letter, b'\n']);
        Self {
            input,
            dialect,
            parser,
            fields,
            raw: Vec::new(),
            quoted: Vec::new(),
            position,
            text: Vec::new(),
            tail,
            is_over: false,
        }
    }

    /// Returns the text that the records are in.
    pub fn input(&self) -> &R {
        &self.input
    }

    /// Returns the byte offset after the last record.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads at most `most` records; `width` is the required number of cells of each. An empty
    /// block means the end.
    pub fn read(&mut self, most: usize, width: Option<usize>) -> Result<Block, BadRecord> {
        let mut block = Block::default();
        let cells = width.unwrap_or(8);
        // The parser fills the buffers completely, so both get the maximum length.
        block.ends.resize(most.min(8192) * cells + 1, 0);
        let mut ends = 0;
        let mut bytes = 0;
        while block.records.len() < most && !self.is_over {
            let (start, first, first_byte) = (self.position, ends, bytes);
            if !self.read_record(&mut block.ends, &mut ends, &mut bytes, start)? {
                break;
            }
            // The parser counts the bytes of a record from its start.
            block.ends[first..ends].iter_mut().for_each(|end| *end += first_byte);
            block.quoted.extend(self.quoted.iter().map(|cell| first + cell));
            if let Some(expected) = width.filter(|expected| ends - first != *expected) {
                // An undecodable record is reported before a wrong number of cells.
                self.decoded(&block.ends[first..ends], first_byte, bytes, start)?;
                let problem = format!("expected {expected} cells, as in the header line, got {}", ends - first);
                return Err(BadRecord::At { byte: start, problem });
            }
            block.records.push(ends);
            block.starts.push(start);
        }
        block.ends.truncate(ends);
        block.text = match String::from_utf8(self.text[..bytes].to_vec()) {
            Ok(text) if text.is_ascii() || block.ends.iter().all(|end| text.is_char_boundary(*end)) => text,
            _ => return Err(self.undecoded(&block, bytes)),
        };
        Ok(block)
    }

    /// Reads one record at the end of the text; returns `false` if there is none.
    fn read_record(
        &mut self,
        ends: &mut Vec<usize>,
        count: &mut usize,
        bytes: &mut usize,
        start: u64,
    ) -> Result<bool, BadRecord> {
        let first = *count;
        self.raw.clear();
        self.quoted.clear();
        loop {
            if self.text.len() < *bytes + 64 {
                self.text.resize((self.text.len() * 2).max(1 << 16), 0);
            }
            if ends.len() < *count + 1 {
                ends.resize((ends.len() * 2).max(64), 0);
            }
            let input = self.input.fill_buf().map_err(BadRecord::Io)?;
            let is_end = input.is_empty();
            let given = if is_end { &self.tail[..] } else { input };
            let (result, read, written, ended) =
                self.parser.read_record(given, &mut self.text[*bytes..], &mut ends[*count..]);
            *bytes += written;
            *count += ended;
            if is_end {
                return match result {
                    // A record of the text, closed by the first byte of the tail.
                    ReadRecordResult::Record if read == 1 => {
                        if *count - first > 1 {
                            self.quoted = self.dialect.quoted_cells(&mut self.fields, &self.raw);
                        }
                        Ok(true)
                    }
                    // A record of the tail.
                    ReadRecordResult::Record => {
                        *bytes -= written;
                        *count -= ended;
                        self.is_over = true;
                        Ok(false)
                    }
                    ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => continue,
                    ReadRecordResult::InputEmpty | ReadRecordResult::End => {
                        let problem = "expected a closing quote, got the end of the file".into();
                        Err(BadRecord::At { byte: start, problem })
                    }
                };
            }
            let is_record = matches!(result, ReadRecordResult::Record);
            let record = match (is_record, self.raw.is_empty()) {
                (true, true) => &given[..read],
                _ => {
                    self.raw.extend_from_slice(&given[..read]);
                    &self.raw
                }
            };
            // Only a record of several cells distinguishes an empty cell from NULL: with one cell,
            // the line would be blank.
            let ends = &ends[first..*count];
            let has_empty = || ends.first() == Some(&0) || ends.windows(2).any(|pair| pair[0] == pair[1]);
            if is_record && ends.len() > 1 && has_empty() {
                self.quoted = self.dialect.quoted_cells(&mut self.fields, record);
            }
            self.input.consume(read);
            self.position += read as u64;
            if is_record {
                return Ok(true);
            }
        }
    }

    /// Returns the error of the first record of a block that is not UTF-8.
    fn undecoded(&self, block: &Block, bytes: usize) -> BadRecord {
        for record in 0..block.len() {
            let cells = &block.ends[block.first(record)..block.records[record]];
            let first = block.first(record).checked_sub(1).map_or(0, |cell| block.ends[cell]);
            if let Err(bad) = self.decoded(cells, first, bytes, block.starts[record]) {
                return bad;
            }
        }
        BadRecord::At { byte: block.starts.first().copied().unwrap_or_default(), problem: "expected UTF-8".into() }
    }

    /// Checks the cells of one record, which have these ends.
    fn decoded(&self, ends: &[usize], first: usize, bytes: usize, byte: u64) -> Result<(), BadRecord> {
        let mut start = first;
        for (ordinal, end) in ends.iter().enumerate() {
            let cell = &self.text[start..(*end).min(bytes)];
            if str::from_utf8(cell).is_err() {
                let problem = format!("expected UTF-8, got {}", super::describe::shown(cell));
                return Err(BadRecord::Undecoded { byte, cell: ordinal, problem });
            }
            start = *end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the records, or the byte offset and the problem of an invalid one.
    fn records(text: &[u8], dialect: &Dialect, most: usize, buffer: usize) -> Result<Vec<Vec<String>>, (u64, String)> {
        let mut records = CsvRecords::new(io::BufReader::with_capacity(buffer, text), dialect, 0);
        let mut found = Vec::new();
        loop {
            match records.read(most, None) {
                Ok(block) if block.len() == 0 => return Ok(found),
                Ok(block) => {
                    found.extend((0..block.len()).map(|row| block.record(row).map(str::to_owned).collect::<Vec<_>>()))
                }
                Err(BadRecord::At { byte, problem }) => return Err((byte, problem)),
                Err(BadRecord::Undecoded { byte, cell, problem }) => {
                    return Err((byte, format!("cell {}: {problem}", cell + 1)));
                }
                Err(BadRecord::Io(error)) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_quote_that_is_never_closed_is_an_error_where_its_record_begins() {
        let comma = Dialect::delimited(b',');
        for (text, expected) in
            [("a,b\n1,\"x\n2,y\n3,z\n", 4), ("a,b\n1,\"x", 4), ("\"", 0), ("a\n\"x\"\"", 2), ("a\r\n1\r\n\"\r\n", 5)]
        {
            let (byte, problem) = records(text.as_bytes(), &comma, 2, 3).unwrap_err();
            assert_eq!((byte, problem.contains("closing quote")), (expected, true), "{text:?}");
        }
        for text in
            ["", "\n\n", "a", "a\n", "a,\n", "a,", "\"a\"", "\"a\"\n", "\"\"", "a\r", "a\r\n\r\n", "a\"", "a,\"b\nc\""]
        {
            assert!(records(text.as_bytes(), &comma, 2, 2).is_ok(), "{text:?}");
        }
        let commented = Dialect { comment: Some(b'x'), quote: Some(b'y'), ..comma };
        assert_eq!(records(b"a\nx comment", &commented, 9, 9).unwrap(), [["a"]]);
        let unquoted = Dialect { quote: None, ..comma };
        assert_eq!(records(b"\"a,b\n", &unquoted, 9, 9).unwrap(), [["\"a", "b"]]);
        let escaped = Dialect { escape: Some(b'\\'), ..comma };
        assert_eq!(records(b"\"a\\\"b\",c\n", &escaped, 9, 9).unwrap(), [["a\"b", "c"]]);
        assert!(records(b"\"a\\\"", &escaped, 9, 9).is_err());
    }

    #[test]
    fn text_that_is_not_utf8_is_an_error_also_where_its_cells_together_are() {
        let comma = Dialect::delimited(b',');
        for (text, byte, cell) in
            [(&b"a,b\n1,\xfc\n"[..], 4, "cell 2"), (b"a\n\xc3,\xa9\n", 2, "cell 1"), (b"\xff\xfea", 0, "cell 1")]
        {
            let (at, problem) = records(text, &comma, 9, 4).unwrap_err();
            assert!(at == byte && problem.starts_with(cell) && problem.contains("UTF-8"), "{problem}");
        }
    }

    #[test]
    fn a_mark_within_the_text_is_kept() {
        let text = "\u{feff}a\n\u{feff}b\n";
        assert_eq!(records(text.as_bytes(), &Dialect::delimited(b','), 1, 64).unwrap(), [["\u{feff}a"], ["\u{feff}b"]]);
    }

    proptest! {
        /// A text that is not rejected has the records that the crate csv reads, for all sizes of
        /// buffers and blocks.
        #[test]
        fn records_are_those_of_another_reader(text in "[ab,;\"\r\n\u{e9}]{0,40}", most in 1_usize..4, buffer in 1_usize..9) {
            let mut reader = csv::ReaderBuilder::new();
            let reader = reader.has_headers(false).flexible(true).from_reader(text.as_bytes());
            let expected: Vec<Vec<String>> =
                reader.into_records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect();
            match records(text.as_bytes(), &Dialect::delimited(b','), most, buffer) {
                Ok(found) => prop_assert_eq!(found, expected),
                Err(_) => {
                    // With the quote closed, the text is readable.
                    let closed = [text.as_bytes(), b"\""].concat();
                    prop_assert!(records(&closed, &Dialect::delimited(b','), most, buffer).is_ok());
                }
            }
        }
    }
}
