//! Parts of CSV files: byte ranges that begin and end between records, for readers that resume
//! where others stopped.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use ::csv::ByteRecord;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use vexact_core::error::{Error, Result};

use super::cell::CellRules;
use super::csv::{self, CsvOptions, check_declared, delimiter_byte, infer_columns, reader};
use super::csv_place::{bad_record, error};
use super::csv_records::{CsvRecords, Dialect};
use super::csv_sample::Sample;
use super::encoding::TextEncoding;
use super::input::Input;
use super::{bad_file, open_file};

/// Number of rows that are parsed together.
const BLOCK_ROWS: usize = 8192;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Number of bytes of a file from which its columns are inferred.
const PREFIX_BYTES: u64 = 4 << 20;

/// Returns the length of the whole records at the start of these bytes, including blank lines after
/// them: 0 if no record has ended.
pub fn whole_records(bytes: &[u8], delimiter: u8) -> usize {
    let is_line_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if !bytes.contains(&b'"') {
        return bytes.iter().rposition(is_line_end).map_or(0, |last| last + 1);
    }
    let start = last_record(bytes, delimiter).unwrap_or(0) as usize;
    // The reader is positioned before the rest of a line end.
    start + bytes[start..].iter().take_while(|byte| is_line_end(byte)).count()
}

/// Returns the byte offset of the last, possibly incomplete, record of a text. If the last record
/// has ended, it is the end of the text, or the position before the rest of its line end.
///
/// # Errors
/// A text that cannot be read.
pub fn last_record(text: impl Read, delimiter: u8) -> std::io::Result<u64> {
    // With one more byte at the end, the last record is the one that this byte is in.
    let mut records = reader(delimiter).has_headers(false).from_reader(text.chain(&b"x"[..]));
    let (mut record, mut start) = (ByteRecord::new(), 0);
    while records.read_byte_record(&mut record).map_err(std::io::Error::from)? {
        start = record.position().map_or(0, |position| position.byte());
    }
    Ok(start)
}

/// Returns true if these bytes, which begin with a record, end within quotes.
pub fn ends_in_quotes(bytes: &[u8], delimiter: u8) -> bool {
    let mut ended = bytes.to_vec();
    ended.push(b'\n');
    whole_records(&ended, delimiter) < ended.len()
}

/// Returns the bytes of the header line, including those before it, and its names; `None` if it has
/// not ended.
fn header(input: &Input, bytes: &[u8], dialect: &Dialect) -> Result<Option<(usize, Vec<String>)>> {
    let mark = if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let mut records = CsvRecords::new(&bytes[mark..], dialect, mark as u64);
    let block = records.read(1, None).map_err(|bad| bad_record(input, TextEncoding::Utf8, bad, &[]))?;
    if block.len() == 0 {
        return Ok(None);
    }
    let end = records.position() as usize;
    let end = end + bytes[end..].iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
    Ok(Some((end, block.record(0).map(str::to_owned).collect())))
}

/// Reads the bytes of a file from one position to another.
///
/// # Errors
/// A file that cannot be read, or has fewer bytes.
pub fn read_bytes(path: &Path, from: u64, to: u64) -> Result<Vec<u8>> {
    let io = |error| Error::io(path, error);
    let mut file = open_file(path)?;
    file.seek(SeekFrom::Start(from)).map_err(io)?;
    let mut bytes = Vec::with_capacity((to - from) as usize);
    file.take(to - from).read_to_end(&mut bytes).map_err(io)?;
    if (bytes.len() as u64) < to - from {
        let got = from + bytes.len() as u64;
        return Err(bad_file(path, &format!("expected at least {to} bytes, as when it was looked at, got {got}")));
    }
    Ok(bytes)
}

/// Columns of CSV files with one layout.
#[derive(Debug, Clone)]
pub struct CsvColumns {
    dialect: Dialect,
    rules: CellRules,
    schema: SchemaRef,
}

impl CsvColumns {
    /// Creates the columns from a declared schema.
    ///
    /// # Errors
    /// A type that a cell cannot hold; an invalid delimiter.
    pub fn declared(schema: &Schema, delimiter: char) -> Result<Self> {
        check_declared(schema)?;
        let dialect = Dialect::delimited(delimiter_byte(delimiter)?);
        Ok(Self { dialect, rules: CellRules::default(), schema: Arc::new(schema.clone()) })
    }

    /// Infers the columns of a file from its first whole records; returns `None` if it has only a
    /// header line, or nothing.
    ///
    /// # Errors
    /// A file that is not CSV; an invalid delimiter.
    pub fn infer(path: &Path, delimiter: char) -> Result<Option<Self>> {
        let mut options = CsvOptions::delimited(delimiter)?;
        options.rules.is_inferred = true;
        let len = std::fs::metadata(path).map_err(|error| Error::io(path, error))?.len();
        let bytes = read_bytes(path, 0, len.min(PREFIX_BYTES))?;
        let delimiter = options.dialect.delimiter;
        let mut whole = whole_records(&bytes, delimiter);
        if bytes.len() as u64 == len && !ends_in_quotes(&bytes[whole..], delimiter) {
            // A last line without a line end is a whole record.
            whole = bytes.len();
        }
        let input = Input::of_file(path);
        let Some((start, names)) = header(&input, &bytes[..whole], &options.dialect)? else { return Ok(None) };
        if start >= whole {
            return Ok(None);
        }
        csv::check_unique(path, &names)?;
        let mut sample = Sample::default();
        let mut records = CsvRecords::new(&bytes[start..whole], &options.dialect, start as u64);
        sample.read(&input, &options, &mut records, Some(&names))?;
        let schema = infer_columns(names, &sample, &options)?;
        Ok(Some(Self { dialect: options.dialect, rules: options.rules, schema }))
    }

    /// Returns the columns' names and types.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the delimiter of cells.
    pub fn delimiter(&self) -> u8 {
        self.dialect.delimiter
    }

    /// Checks the header line and the values of the first whole records of a file, as far as it has
    /// any.
    ///
    /// # Errors
    /// Other names; a value of another type, with its line and column.
    pub fn check(&self, path: &Path) -> Result<()> {
        let len = std::fs::metadata(path).map_err(|error| Error::io(path, error))?.len();
        let bytes = read_bytes(path, 0, len.min(1 << 16))?;
        let whole = whole_records(&bytes, self.delimiter());
        match whole {
            0 => Ok(()),
            _ => self.parse(path, 0, &bytes[..whole]).map(|_| ()),
        }
    }

    /// Parses the rows of a part of a file: whole records, which begin at byte `from`. At the
    /// beginning of the file, the header line is checked and skipped.
    ///
    /// # Errors
    /// A record that is not a row of these columns, with line and column.
    pub fn parse(&self, path: &Path, from: u64, bytes: &[u8]) -> Result<Vec<RecordBatch>> {
        let input = Input::of_file(path);
        let names: Vec<String> = self.schema.fields().iter().map(|field| field.name().clone()).collect();
        let mut start = 0;
        if from == 0 {
            let Some((end, found)) = header(&input, bytes, &self.dialect)? else { return Ok(Vec::new()) };
            csv::check_header(path, &names, &found)?;
            start = end;
        }
        let mut records = CsvRecords::new(&bytes[start..], &self.dialect, from + start as u64);
        let all: Vec<usize> = (0..names.len()).collect();
        let mut batches = Vec::new();
        loop {
            let block = records
                .read(BLOCK_ROWS, Some(names.len()))
                .map_err(|bad| bad_record(&input, TextEncoding::Utf8, bad, &names))?;
            if block.len() == 0 {
                return Ok(batches);
            }
            let batch = csv::batch(&block, &self.schema, &all, names.len(), &self.rules);
            batches.push(batch.map_err(|bad| error(&input, TextEncoding::Utf8, block.start(bad.row), &bad.problem))?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_whole_once_their_line_ends_outside_of_quotes() {
        for (text, whole) in [
            ("", 0),
            ("a,b", 0),
            ("a,b\n", 4),
            ("a,b\n1,", 4),
            ("a\r\nb\r\nc", 6),
            ("a\rb\rc", 4),
            ("a\n\n\nb", 4),
            ("a,\"x\ny\"", 0),
            ("a,\"x\ny\"\n", 8),
            ("a,\"x\n", 0),
            ("1,\"\"\n2,\"a\nb", 5),
            ("1,\"\"\r\n2,3\r\n4", 11),
            ("\"a\"\n\n\n\"b", 6),
            ("1,\"say \"\"hi\n\"\"\"\n2", 16),
            ("1,a\"b\n2", 6),
        ] {
            assert_eq!(whole_records(text.as_bytes(), b','), whole, "{text:?}");
        }
        assert!(ends_in_quotes(b"a,\"b\n", b','));
        assert!(!ends_in_quotes(b"a,\"b\"", b','));
        assert!(!ends_in_quotes(b"", b','));
    }

    #[test]
    fn every_cut_of_a_file_between_records_gives_the_same_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let text =
            "\u{feff}id,name,v\r\n1,\"x, \"\"y\"\"\r\nz\",[1 2]\r\n\r\n2,,\r\n3,\"\",\"[3,4]\"\r\n4,d\u{e9},[5 6]";
        std::fs::write(&path, text).unwrap();
        let columns = CsvColumns::infer(&path, ',').unwrap().unwrap();
        let all = columns.parse(&path, 0, text.as_bytes()).unwrap();
        let expected = arrow::compute::concat_batches(columns.schema(), &all).unwrap();
        assert_eq!(expected.num_rows(), 4);
        let header = header(&Input::of_file(&path), text.as_bytes(), &Dialect::delimited(b',')).unwrap().unwrap().0;
        for cut in header..text.len() {
            let end = header + whole_records(&text.as_bytes()[header..cut], b',');
            let mut batches = columns.parse(&path, 0, &text.as_bytes()[..end]).unwrap();
            batches.extend(columns.parse(&path, end as u64, &text.as_bytes()[end..]).unwrap());
            assert_eq!(arrow::compute::concat_batches(columns.schema(), &batches).unwrap(), expected, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let text = "id,v\n1,[1 2]\n2,[3 4]\nx,[5 6]\n4,[7]\n";
        std::fs::write(&path, text).unwrap();
        let columns = CsvColumns::declared(CsvColumns::infer(&path, ',').unwrap().unwrap().schema(), ',').unwrap();
        let int = |columns: &CsvColumns| {
            let mut fields: Vec<_> = columns.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
            fields[0].set_data_type(arrow::datatypes::DataType::Int64);
            CsvColumns::declared(&Schema::new(fields), ',').unwrap()
        };
        let problem =
            |from: usize| int(&columns).parse(&path, from as u64, &text.as_bytes()[from..]).unwrap_err().to_string();
        assert!(problem(13).contains("line 4, column \"id\": expected Int64, got \"x\""), "{}", problem(13));
        let at = text.find("4,[7]").unwrap();
        assert!(problem(at).contains("line 5, column \"v\": vectors of different lengths"), "{}", problem(at));
        let other = CsvColumns::declared(&Schema::new(vec![columns.schema().field(0).clone()]), ',').unwrap();
        let error = other.parse(&path, 0, text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("id") && error.contains('v'), "{error}");
    }
}
