//! Where in a CSV file something is wrong: looked for once it is known that something is.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::csv::reader::{Format, ReaderBuilder};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use csv::ByteRecord;
use vexact_core::error::Error;

use super::{bad_file, lines};

/// A reader of rows of any width.
pub(super) fn reader(delimiter: u8) -> csv::ReaderBuilder {
    let mut reader = csv::ReaderBuilder::new();
    reader.delimiter(delimiter).flexible(true);
    reader
}

/// A reading of a file.
pub(super) struct Place {
    pub path: PathBuf,
    pub delimiter: u8,
    /// All columns of the file, vectors as text.
    pub text: SchemaRef,
    /// Those that are read.
    pub columns: Vec<usize>,
}

impl Place {
    /// The error for the first bad row from this row on, which reading the file has met.
    pub fn find(&self, first: usize, met: &ArrowError) -> Error {
        let records = reader(self.delimiter).from_path(&self.path).map(|reader| reader.into_byte_records().skip(first));
        let Ok(records) = records else { return bad_file(&self.path, met) };
        for (row, record) in (first..).zip(records) {
            let problem = match record {
                Ok(record) => self.problem(&record),
                Err(error) => Some(error.to_string()),
            };
            if let Some(problem) = problem {
                return self.error(row, &problem);
            }
        }
        bad_file(&self.path, met)
    }

    /// An error of a row, with the line on which it begins.
    pub fn error(&self, row: usize, problem: &str) -> Error {
        let line = line_of(&self.path, self.delimiter, row).map_or(String::new(), |line| format!("line {line}, "));
        bad_file(&self.path, &format!("{line}{problem}"))
    }

    /// What is wrong in a row.
    fn problem(&self, record: &ByteRecord) -> Option<String> {
        let (expected, got) = (self.text.fields().len(), record.len());
        if got != expected {
            return Some(format!("expected {expected} cells, as in the header line, got {got}"));
        }
        // A row is decoded as a whole: text in another encoding is met wherever it is.
        let undecoded = (0..got).find(|ordinal| str::from_utf8(&record[*ordinal]).is_err());
        let (ordinal, expected) = match undecoded {
            Some(ordinal) => (ordinal, "UTF-8".to_owned()),
            None => {
                let ordinal = *self.columns.iter().find(|ordinal| !self.is_good(record, **ordinal))?;
                (ordinal, self.text.field(ordinal).data_type().to_string())
            }
        };
        let (name, got) = (self.text.field(ordinal).name(), lines::shown(&record[ordinal]));
        Some(format!("column {name:?}: expected {expected}, got {got}"))
    }

    /// Whether a cell is read.
    fn is_good(&self, record: &ByteRecord, ordinal: usize) -> bool {
        let mut row = Vec::new();
        {
            let mut writer = csv::WriterBuilder::new().delimiter(self.delimiter).from_writer(&mut row);
            if writer.write_byte_record(record).and_then(|()| Ok(writer.flush()?)).is_err() {
                return false;
            }
        }
        let format = Format::default().with_delimiter(self.delimiter);
        let reader = ReaderBuilder::new(Arc::clone(&self.text)).with_format(format).with_projection(vec![ordinal]);
        reader.build(row.as_slice()).is_ok_and(|mut reader| matches!(reader.next(), Some(Ok(_))))
    }
}

/// The line on which a row of the file begins, counting from 1 with the header.
fn line_of(path: &Path, delimiter: u8, row: usize) -> Option<u64> {
    let record = reader(delimiter).from_path(path).ok()?.into_byte_records().nth(row)?.ok()?;
    let start = record.position()?.byte();
    let mut bytes = BufReader::new(File::open(path).ok()?).bytes().map_while(Result::ok).zip(0_u64..).peekable();
    let (mut line, mut is_after_return) = (1, false);
    // The reader stands before what is left of the last line's end, and before blank lines.
    while let Some((byte, _)) = bytes.next_if(|(byte, at)| *at < start || matches!(byte, b'\r' | b'\n')) {
        line += u64::from(byte == b'\r' || byte == b'\n' && !is_after_return);
        is_after_return = byte == b'\r';
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_begins_on_its_line_whatever_ends_the_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.csv");
        for (text, lines) in [
            ("h,v\n1,a\n2,b\n", [2, 3]),
            ("h,v\r\n1,a\r\n2,b\r\n", [2, 3]),
            ("h,v\r1,a\r2,b\r", [2, 3]),
            ("\n\nh,v\n\n1,a\n\n\n2,b", [5, 8]),
            ("\r\nh,v\r\n\r\n1,a\r\n\r\n2,b", [4, 6]),
            ("\"h\n\",v\n1,\"a\n\n\"\n2,b\n", [3, 6]),
            ("\"h\r\n\",v\r\n1,\"a\r\n\r\n\"\r\n\r\n2,b\r\n", [3, 7]),
            ("\u{feff}h,v\n1,a\n2,b\n", [2, 3]),
        ] {
            std::fs::write(&path, text).unwrap();
            let found = [0, 1].map(|row| line_of(&path, b',', row));
            assert_eq!(found, lines.map(Some), "{text:?}");
        }
    }
}
