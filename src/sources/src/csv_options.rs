//! Options of CSV files that differ from comma-separated values under a header line.

use std::io::{self, BufRead};
use std::path::Path;

use arrow::datatypes::DataType;
use vexact_core::error::{Error, Result};

use super::bad_file;
use super::cell::{self, CellRules};
use super::csv::check_unique;
use super::csv_records::Dialect;
use super::encoding::TextEncoding;

/// Format of a CSV file and, as far as they are given, its columns.
#[derive(Debug, Clone, PartialEq)]
pub struct CsvOptions {
    /// Special characters: delimiter, quote, escape and comment.
    pub dialect: Dialect,
    /// True if the first row has the names of the columns.
    pub has_header: bool,
    /// Names of the columns, which replace those of the header line; `None` for the header line's
    /// names, or `column_1` and so on without a header line.
    pub names: Option<Vec<String>>,
    /// The types of columns, by name; the others are inferred.
    pub dtypes: Vec<(String, DataType)>,
    /// Rules for reading cells.
    pub rules: CellRules,
    /// Number of skipped lines before the header line.
    pub skip_rows: usize,
    /// Character encoding.
    pub encoding: TextEncoding,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            dialect: Dialect::delimited(b','),
            has_header: true,
            names: None,
            dtypes: Vec::new(),
            rules: CellRules::default(),
            skip_rows: 0,
            encoding: TextEncoding::Utf8,
        }
    }
}

impl CsvOptions {
    /// Options for comma-separated values with another delimiter.
    ///
    /// # Errors
    /// A delimiter that is not one ASCII character, or has another meaning in CSV.
    pub fn delimited(delimiter: char) -> Result<Self> {
        Ok(Self { dialect: Dialect::delimited(delimiter_byte(delimiter)?), ..Self::default() })
    }

    /// Rejects characters with two meanings, and types that no cell can have.
    ///
    /// # Errors
    /// The first such character or type.
    pub fn check(&self) -> Result<()> {
        let Dialect { delimiter, quote, escape, comment } = self.dialect;
        let used = [("delimiter", Some(delimiter)), ("quote", quote), ("escape", escape), ("comment", comment)];
        for (place, (name, byte)) in used.iter().enumerate() {
            let Some(byte) = byte else { continue };
            let shown = char::from(*byte);
            if !byte.is_ascii() || matches!(byte, b'\n' | b'\r') {
                return Err(Error::InvalidArgument(format!("{name}: expected one ASCII character, got {shown:?}")));
            }
            if let Some((other, _)) = used[..place].iter().find(|(_, other)| *other == Some(*byte)) {
                let problem = format!("expected another character than the {other}, got {shown:?}");
                return Err(Error::InvalidArgument(format!("{name}: {problem}")));
            }
        }
        if !matches!(self.rules.decimal, b'.' | b',') {
            let got = char::from(self.rules.decimal);
            return Err(Error::InvalidArgument(format!("decimal: expected '.' or ',', got {got:?}")));
        }
        match self.dtypes.iter().find(|(_, data_type)| !cell::is_readable(data_type)) {
            None => Ok(()),
            Some((name, got)) => {
                let expected = "expected VECTOR(n), a number, text or a time";
                Err(Error::InvalidArgument(format!("dtypes: column {name:?}: {expected}, got {got}")))
            }
        }
    }

    /// Skips the lines before the header, and returns their bytes.
    pub(super) fn skip(&self, text: &mut impl BufRead) -> io::Result<u64> {
        let (mut skipped, mut line) = (0, Vec::new());
        for _ in 0..self.skip_rows {
            line.clear();
            skipped += text.read_until(b'\n', &mut line)? as u64;
        }
        Ok(skipped)
    }

    /// Returns the names of the columns: the given ones, else those of the header line, else
    /// numbers.
    pub(super) fn names(&self, path: &Path, header: Option<&[String]>, width: usize) -> Result<Vec<String>> {
        let names = match (&self.names, header) {
            (Some(names), _) if names.len() == width => names.clone(),
            (Some(names), _) => {
                let problem = format!("names: expected one for each of the {width} columns, got {}", names.len());
                return Err(bad_file(path, &problem));
            }
            (None, Some(header)) => header.to_vec(),
            (None, None) if width == 0 => return Err(bad_file(path, &"expected at least one row, got none")),
            (None, None) => (1..=width).map(|number| format!("column_{number}")).collect(),
        };
        check_unique(path, &names)?;
        Ok(names)
    }

    pub(super) fn check_types(&self, names: &[String]) -> Result<()> {
        match self.dtypes.iter().find(|(name, _)| !names.contains(name)) {
            None => Ok(()),
            Some((name, _)) => {
                let expected = names.join(", ");
                Err(Error::InvalidArgument(format!("dtypes: expected names of the columns [{expected}], got {name:?}")))
            }
        }
    }

    pub(super) fn given_type(&self, name: &str) -> Option<DataType> {
        self.dtypes.iter().find(|(given, _)| given == name).map(|(_, data_type)| data_type.clone())
    }
}

/// Returns a delimiter as one byte.
///
/// # Errors
/// A delimiter that is not one ASCII character, or has another meaning in CSV.
pub fn delimiter_byte(delimiter: char) -> Result<u8> {
    let expected = match u8::try_from(delimiter) {
        Ok(b'"' | b'\n' | b'\r') => "another character than a quote and a line end",
        Ok(byte) if byte.is_ascii() => return Ok(byte),
        _ => "one ASCII character",
    };
    Err(Error::InvalidArgument(format!("delimiter: expected {expected}, got {delimiter:?}")))
}
