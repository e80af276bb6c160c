//! Samples the first rows of CSV files, which determine the types of columns.

use std::io::BufRead;

use vexact_core::error::Result;

use super::cell::{CellRules, Cells};
use super::csv::{CsvOptions, TYPED_ROWS};
use super::csv_place::bad_record;
use super::csv_records::{Block, CsvRecords};
use super::input::Input;

/// Maximum number of sampled rows of all files.
const MOST_ROWS: usize = 100 * TYPED_ROWS;

/// Rows of one width.
#[derive(Debug, Default)]
pub(super) struct Sample {
    blocks: Vec<Block>,
    /// For each row, its block and its index in the block.
    rows: Vec<(usize, usize)>,
    width: usize,
}

impl Sample {
    /// Adds the first rows of a file. Their width is that of the header line, else that of the
    /// first row.
    pub fn read(
        &mut self,
        input: &Input,
        options: &CsvOptions,
        records: &mut CsvRecords<impl BufRead>,
        header: Option<&[String]>,
    ) -> Result<()> {
        let bad = |bad| bad_record(input, options.encoding, bad, header.unwrap_or_default());
        let most = if self.rows.len() < MOST_ROWS { TYPED_ROWS } else { 0 };
        if let Some(header) = header {
            self.width = header.len();
        } else if self.rows.is_empty() {
            let first = records.read(most.min(1), None).map_err(bad)?;
            self.width = if first.len() > 0 { first.width(0) } else { 0 };
            self.add(first);
        }
        let block = records.read(most, Some(self.width)).map_err(bad)?;
        self.add(block);
        Ok(())
    }

    fn add(&mut self, block: Block) {
        self.rows.extend((0..block.len()).map(|row| (self.blocks.len(), row)));
        self.blocks.push(block);
    }

    /// Returns the number of cells of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns the cells of a column.
    pub fn column<'a>(&'a self, ordinal: usize, rules: &'a CellRules) -> impl Cells + 'a {
        SampleColumn { sample: self, ordinal, rules }
    }
}

struct SampleColumn<'a> {
    sample: &'a Sample,
    ordinal: usize,
    rules: &'a CellRules,
}

impl Cells for SampleColumn<'_> {
    fn len(&self) -> usize {
        self.sample.len()
    }

    fn get(&self, row: usize) -> Option<&str> {
        let (block, row) = self.sample.rows[row];
        let cell = self.sample.blocks[block].get(row, self.ordinal);
        if self.rules.is_null(cell) { None } else { Some(cell) }
    }
}
