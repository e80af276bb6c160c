//! Infers the types of CSV columns from all of their cells.
//!
//! Most cells have the form of those before them and are recognized byte by byte, without parsing:
//! records are split here as `csv-core` splits them. Any other record is left to the caller's
//! parser, and any other cell is looked at in full.

use std::io::BufRead;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::cell::CellRules;
use super::cell_forms::{CellEnds, CellForm};
use super::cell_types::SeenCells;
use super::csv::{CsvOptions, SAMPLE_ROWS};
use super::csv_records::{BadRecord, Block, CsvRecords, Dialect};
use super::csv_vectors::{VectorColumn, VectorVotes};
use super::stop::Stop;

/// Number of records that are parsed at once if none is recognized.
const PARSED_ROWS: usize = 256;

/// The types of the columns of CSV files, as far as their cells were read.
#[derive(Debug)]
pub(super) struct ColumnTypes {
    columns: Vec<ColumnType>,
    rules: CellRules,
    dialect: Dialect,
    ends: CellEnds,
    /// False if each record is parsed.
    is_scanned: bool,
    /// The cells of one record that are not recognized.
    cells: Vec<CellRange>,
}

#[derive(Debug)]
struct ColumnType {
    given: Option<DataType>,
    votes: VectorVotes,
    seen: SeenCells,
    form: CellForm,
}

/// A cell's bytes.
#[derive(Debug, Clone, Copy)]
struct CellRange {
    column: usize,
    start: usize,
    end: usize,
    /// True if the cell has doubled quotes.
    is_doubled: bool,
}

/// Result of splitting a record.
enum Split {
    /// Position after the record.
    Record(usize),
    /// The record needs the parser, or more bytes.
    Unknown,
}

impl ColumnTypes {
    /// Creates the types of columns without cells.
    pub fn new(width: usize, options: &CsvOptions) -> Self {
        let ends = CellEnds { delimiter: options.dialect.delimiter, decimal: options.rules.decimal };
        // An escape changes where a cell ends, and a delimiter may be part of a number or a time.
        let is_scanned = options.dialect.escape.is_none() && ends.are_outside_cells();
        let column = |_| ColumnType {
            given: None,
            votes: VectorVotes::default(),
            seen: SeenCells::default(),
            form: CellForm::Unknown,
        };
        Self {
            columns: (0..width).map(column).collect(),
            rules: options.rules.clone(),
            dialect: options.dialect,
            ends,
            is_scanned,
            cells: Vec::new(),
        }
    }

    /// Returns the number of columns.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// Sets the types of the columns with these names that the options give.
    pub fn give(&mut self, names: &[String], options: &CsvOptions) {
        for (column, name) in self.columns.iter_mut().zip(names) {
            column.given = options.given_type(name);
            if column.given.is_some() {
                column.form = CellForm::Any;
            }
        }
    }

    /// Returns true if no cell can change a type.
    pub fn are_settled(&self) -> bool {
        self.columns.iter().all(ColumnType::is_settled)
    }

    /// Adds the cells of parsed records of this width.
    pub fn add(&mut self, block: &Block) {
        for record in 0..block.len() {
            for (column, cell) in self.columns.iter_mut().zip(block.record(record)) {
                column.add(cell, &self.rules);
            }
        }
    }

    /// Adds all records of a text from the current one on, unless the types are settled before.
    ///
    /// # Errors
    /// The first record that is not one of these columns. The types of the records before it stay.
    pub fn read_all(&mut self, records: &mut CsvRecords<impl BufRead>, stop: &Stop) -> Result<(), BadRecord> {
        let most = if self.is_scanned { 1 } else { PARSED_ROWS };
        while !self.are_settled() && !stop.is_set() {
            records.skim(|bytes| if stop.is_set() { 0 } else { self.scan(bytes) }).map_err(BadRecord::Io)?;
            let block = records.read(most, Some(self.width()))?;
            if block.len() == 0 {
                break;
            }
            self.add(&block);
        }
        Ok(())
    }

    /// Adds the records at the start of these bytes, which are the start of a record, and returns
    /// their number of bytes.
    fn scan(&mut self, bytes: &[u8]) -> usize {
        if !self.is_scanned {
            return 0;
        }
        let mut start = 0;
        while let Split::Record(end) = self.split(bytes, start) {
            start = end;
            if self.cells.is_empty() {
                continue;
            }
            for cell in &self.cells {
                let quote = self.dialect.quote.filter(|_| cell.is_doubled);
                self.columns[cell.column].look(&bytes[cell.start..cell.end], quote, &self.rules);
            }
            if self.are_settled() {
                break;
            }
        }
        start
    }

    /// Finds the end of the record at a position, and its cells that are not recognized.
    fn split(&mut self, bytes: &[u8], start: usize) -> Split {
        let mut at = start;
        while let Some(b'\n' | b'\r') = bytes.get(at) {
            at += 1;
        }
        self.cells.clear();
        if bytes.get(at).is_none_or(|first| Some(*first) == self.dialect.comment) {
            return Split::Unknown;
        }
        let width = self.columns.len();
        for column in 0..width {
            let form = &self.columns[column].form;
            let end = match form.end(&bytes[at..], self.dialect.quote, self.ends) {
                Some(length) => at + length,
                None => {
                    let Some((cell, end)) = self.cell(bytes, at, column) else { return Split::Unknown };
                    let written = &bytes[cell.start..cell.end];
                    let is_known = !cell.is_doubled && (written.is_empty() || form.has(written, self.ends.decimal));
                    if !is_known && *form != CellForm::Any {
                        self.cells.push(cell);
                    }
                    end
                }
            };
            at = end + 1;
            if bytes[end] != self.dialect.delimiter {
                return if column + 1 == width { Split::Record(at) } else { Split::Unknown };
            }
        }
        Split::Unknown
    }

    /// Returns the cell at a position, and the position of the byte that ends it.
    fn cell(&self, bytes: &[u8], start: usize, column: usize) -> Option<(CellRange, usize)> {
        let Some(quote) = self.dialect.quote.filter(|quote| bytes.get(start) == Some(quote)) else {
            let end = self.ends.find(bytes, start)?;
            return Some((CellRange { column, start, end, is_doubled: false }, end));
        };
        let start = start + 1;
        let (mut at, mut is_doubled) = (start, false);
        loop {
            let end = at + bytes.get(at..)?.iter().position(|byte| *byte == quote)?;
            match bytes.get(end + 1) {
                Some(next) if *next == quote => (at, is_doubled) = (end + 2, true),
                Some(next) if self.ends.has(*next) => {
                    return Some((CellRange { column, start, end, is_doubled }, end + 1));
                }
                _ => return None,
            }
        }
    }

    /// Returns the columns of these names.
    pub fn schema(&self, names: Vec<String>) -> SchemaRef {
        let field = |(name, column): (String, &ColumnType)| Field::new(name, column.data_type(), true);
        Arc::new(Schema::new(names.into_iter().zip(&self.columns).map(field).collect::<Vec<_>>()))
    }
}

impl ColumnType {
    fn is_settled(&self) -> bool {
        self.form == CellForm::Any
    }

    /// Adds a cell as it is written: `quote` is the quote that is doubled in it.
    fn look(&mut self, cell: &[u8], quote: Option<u8>, rules: &CellRules) {
        // The reader rejects what is not UTF-8.
        let Ok(cell) = str::from_utf8(cell) else { return };
        match quote.map(char::from) {
            None => self.add(cell, rules),
            Some(quote) => self.add(&cell.replace(&format!("{quote}{quote}"), &quote.to_string()), rules),
        }
    }

    fn add(&mut self, cell: &str, rules: &CellRules) {
        if self.is_settled() || rules.is_null(cell) {
            return;
        }
        if self.votes.count() < SAMPLE_ROWS {
            self.votes.add(cell);
        }
        self.seen.add(cell, rules);
        self.form = match self.votes.count() < SAMPLE_ROWS {
            // The cell after it votes too.
            true => CellForm::Unknown,
            false if self.votes.dim().is_some() => CellForm::Any,
            false => self.seen.form(cell),
        };
    }

    fn data_type(&self) -> DataType {
        match (&self.given, self.votes.dim()) {
            (Some(given), _) => given.clone(),
            (None, Some(dim)) => VectorColumn { dim }.data_type(),
            (None, None) => self.seen.data_type(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    /// Infers the types of the columns of a text, with a buffer of this size.
    fn infer(text: &str, width: usize, options: &CsvOptions, buffer: usize) -> Vec<DataType> {
        let mut types = ColumnTypes::new(width, options);
        let mut records = CsvRecords::new(BufReader::with_capacity(buffer, text.as_bytes()), &options.dialect, 0);
        let _ = types.read_all(&mut records, &Stop::default());
        types.columns.iter().map(ColumnType::data_type).collect()
    }

    /// As [`infer`], by the parser alone, which looks at each cell in full.
    fn infer_by_parser(text: &str, width: usize, options: &CsvOptions) -> Vec<DataType> {
        let mut types = ColumnTypes::new(width, options);
        let mut records = CsvRecords::new(text.as_bytes(), &options.dialect, 0);
        while let Ok(block) = records.read(1, Some(width)) {
            if block.len() == 0 {
                break;
            }
            types.add(&block);
        }
        types.columns.iter().map(ColumnType::data_type).collect()
    }

    #[test]
    fn a_late_cell_widens_the_type() {
        let options = CsvOptions::delimited(',').unwrap();
        for (first, late, expected) in [
            ("1", "1.5", "Float64"),
            ("1", "1e3", "Float64"),
            ("1", "9223372036854775808", "Utf8"),
            ("1.5", "9007199254740993", "Utf8"),
            ("1", "007", "Utf8"),
            ("1", "-0", "Float64"),
            ("1", "", "Int64"),
            ("", "5", "Int64"),
            ("", "[1 2]", "FixedSizeList(2 x Float32)"),
            ("true", "FALSE", "Boolean"),
            ("true", "maybe", "Utf8"),
            ("2024-01-01", "2024-02-30", "Utf8"),
            ("2024-01-01", "2024-01-02 13:45:00", "Timestamp(s)"),
            ("2024-01-01", "2024-01-02T00:30:00+02:00", "Utf8"),
            ("2024-01-01 00:00:00", "2024-01-02", "Timestamp(s)"),
            ("2024-01-01 00:00:00", "2024-01-02 00:00:00.5", "Timestamp(ms)"),
            ("2024-01-01 00:00:00", "2024-01-02 24:00:00", "Utf8"),
            ("1600-01-01 00:00:00", "2024-01-02 00:00:00.123456789", "Utf8"),
            ("2024-01-01T00:00:00+02:00", "2024-01-01T00:00:00+03:00", "Utf8"),
            ("2024-01-01T00:00:00Z", "2024-01-01T00:00:01Z", "Timestamp(s, \"UTC\")"),
            ("x", "1", "Utf8"),
        ] {
            let text = format!("{first},1\n").repeat(2000) + &format!("{late},2\n");
            assert_eq!(infer(&text, 2, &options, 1 << 10)[0].to_string(), expected, "{first:?}, then {late:?}");
        }
    }

    #[test]
    fn rows_behind_a_defect_decide_nothing() {
        let options = CsvOptions::delimited(',').unwrap();
        for defect in ["1,2,3\n", "\"1", "1\n"] {
            let text = format!("1,2\n{defect}x,y\n");
            assert_eq!(infer(&text, 2, &options, 64), [DataType::Int64, DataType::Int64], "{defect:?}");
        }
    }

    proptest! {
        /// Recognizing cells byte by byte finds the types that parsing all of them finds.
        #[test]
        fn types_are_those_of_the_parser(
            many in "[0-9]{1,3}|-?[0-9]{1,2}\\.[0-9]{1,2}|true|2024-0[1-9]-[12][0-9]( [01][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{3})?)?|\"a,b\"|",
            few in prop::collection::vec(
                "-?[0-9]{1,20}|[0-9.e-]{1,6}|tr[ue]{2}|20[0-9]{2}-[0-3][0-9]-[0-3][0-9]([ T][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,4})?(Z|\\+0[0-9]:00)?)?|\"[ab\"\"1,\n]{0,4}\"|[a\"#\r\n,]{0,3}",
                0..8,
            ),
            buffer in 16_usize..200,
        ) {
            let options = CsvOptions { dialect: Dialect { comment: Some(b'#'), ..Dialect::delimited(b',') }, ..CsvOptions::default() };
            let mut text = format!("{many},1\n").repeat(SAMPLE_ROWS + 1);
            for cell in few {
                text += &format!("{cell},{many}\r\n{many},2\n");
            }
            prop_assert_eq!(infer(&text, 2, &options, buffer), infer_by_parser(&text, 2, &options), "{}", text);
        }
    }
}
