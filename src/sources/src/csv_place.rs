//! Finds line numbers in CSV files, after an error has been found.

use std::io::BufRead;

use vexact_core::error::Error;

use super::bad_file;
use super::csv_records::BadRecord;
use super::encoding::TextEncoding;
use super::input::Input;

/// Creates a reader of rows of any width.
pub(super) fn reader(delimiter: u8) -> csv::ReaderBuilder {
    let mut reader = csv::ReaderBuilder::new();
    reader.delimiter(delimiter).flexible(true);
    reader
}

/// Builds the error of a record that begins at a byte of a text, with its line.
pub(super) fn error(input: &Input, encoding: TextEncoding, byte: u64, problem: &str) -> Error {
    let line = input.text(encoding).ok().and_then(|text| line_at(text, byte));
    let line = line.map_or(String::new(), |line| format!("line {line}, "));
    bad_file(input.path(), &format!("{line}{problem}"))
}

/// Builds the error of a record that cannot be read; `names` are the names of its columns, if they
/// are known.
pub(super) fn bad_record(input: &Input, encoding: TextEncoding, bad: BadRecord, names: &[String]) -> Error {
    match bad {
        BadRecord::Io(source) => input.failed(source),
        BadRecord::Undecoded { byte, cell, problem } => {
            let column =
                names.get(cell).map_or_else(|| format!("cell {}", cell + 1), |name| format!("column {name:?}"));
            error(input, encoding, byte, &format!("{column}: {problem}"))
        }
        BadRecord::At { byte, problem } => error(input, encoding, byte, &problem),
    }
}

/// Returns the line, counting from 1, on which the next record after a byte begins.
fn line_at(text: impl BufRead, start: u64) -> Option<u64> {
    let mut bytes = text.bytes().map_while(Result::ok).zip(0_u64..).peekable();
    let (mut line, mut is_after_return) = (1, false);
    // The reader is positioned before the rest of the last line end, and before blank lines.
    while let Some((byte, _)) = bytes.next_if(|(byte, at)| *at < start || matches!(byte, b'\r' | b'\n')) {
        line += u64::from(byte == b'\r' || byte == b'\n' && !is_after_return);
        is_after_return = byte == b'\r';
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::super::csv_records::{CsvRecords, Dialect};
    use super::*;

    #[test]
    fn a_row_begins_on_its_line_whatever_ends_the_lines() {
        for (text, lines) in [
            ("h,v\n1,a\n2,b\n", [2, 3]),
            ("h,v\r\n1,a\r\n2,b\r\n", [2, 3]),
            ("h,v\r1,a\r2,b\r", [2, 3]),
            ("\n\nh,v\n\n1,a\n\n\n2,b", [5, 8]),
            ("\r\nh,v\r\n\r\n1,a\r\n\r\n2,b", [4, 6]),
            ("\"h\n\",v\n1,\"a\n\n\"\n2,b\n", [3, 6]),
            ("\"h\r\n\",v\r\n1,\"a\r\n\r\n\"\r\n\r\n2,b\r\n", [3, 7]),
        ] {
            let mut records = CsvRecords::new(text.as_bytes(), &Dialect::delimited(b','), 0);
            let block = records.read(9, None).unwrap_or_default();
            let found = [1, 2].map(|row| line_at(text.as_bytes(), block.start(row)));
            assert_eq!(found, lines.map(Some), "{text:?}");
        }
    }
}
