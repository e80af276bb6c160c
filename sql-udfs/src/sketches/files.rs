//! Sketches that are stored in files beside the vectors. A crate that reads files gives them to
//! searches by an extension of the session's configuration.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use vexact_kernel::{Sketch, SketchBasis};

/// Finds the sketches of scans of files: an extension of `SessionConfig`.
#[derive(Debug, Clone)]
pub struct FileSketches(pub Arc<dyn OpenSketches>);

/// Opens the sketches of scans.
#[async_trait]
pub trait OpenSketches: fmt::Debug + Send + Sync {
    /// Opens the sketches of a column, by its ordinal in the rows of a scan. Returns `None` if the
    /// plan is no scan of files, or one of which no file has a sketch of the column.
    ///
    /// # Errors
    /// A failed read of a file's footer.
    async fn open(
        &self,
        scan: &Arc<dyn ExecutionPlan>,
        column: usize,
        context: &Arc<TaskContext>,
    ) -> Result<Option<Arc<dyn SketchedScan>>>;
}

/// A scan of which some parts have a stored sketch. A sketch has been checked to belong to the
/// vectors as they were written; it is never the truth.
#[async_trait]
pub trait SketchedScan: fmt::Debug + Send + Sync {
    /// The parts of the scan, in the order of its partitions and of their rows.
    fn parts(&self) -> &[ScanPart];

    /// Reads the sketch of a part.
    ///
    /// # Errors
    /// The reason why it is ignored, in the terms of a strategy.
    async fn sketch(&self, part: usize) -> Result<Sketch, String>;

    /// Returns a scan of all rows with some of the columns, in the same partitions.
    ///
    /// # Errors
    /// Columns that cannot be read alone.
    fn of_columns(&self, columns: &[usize]) -> Result<Arc<dyn ExecutionPlan>>;

    /// Returns a scan of some rows of each part with all columns, in the same partitions and in
    /// order.
    ///
    /// # Errors
    /// Another number of parts.
    fn of_rows(&self, rows: &[PartRows]) -> Result<Arc<dyn ExecutionPlan>>;
}

/// Consecutive rows of one partition.
#[derive(Debug, Clone)]
pub struct ScanPart {
    /// The partition of the scan.
    pub partition: usize,
    /// Number of rows.
    pub rows: usize,
    /// The basis of the sketch, or the reason why there is none.
    pub basis: Result<Arc<SketchBasis>, String>,
}

/// Rows of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartRows {
    /// All rows.
    All,
    /// These rows, by their positions in the part, which ascend.
    Some(Vec<usize>),
}

impl PartRows {
    /// Returns the number of rows of a part of `rows` rows.
    pub fn count(&self, rows: usize) -> usize {
        match self {
            Self::All => rows,
            Self::Some(positions) => positions.len(),
        }
    }

    /// Calls `range` with the start and length of each range of consecutive rows.
    pub fn for_each_range(&self, rows: usize, mut range: impl FnMut(usize, usize)) {
        match self {
            Self::All if rows > 0 => range(0, rows),
            Self::All => {}
            Self::Some(positions) => {
                for consecutive in positions.chunk_by(|a, b| a + 1 == *b) {
                    range(consecutive[0], consecutive.len());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_ranges() {
        let ranges = |rows: PartRows| {
            let mut ranges = Vec::new();
            rows.for_each_range(9, |start, len| ranges.push((start, len)));
            (ranges, rows.count(9))
        };
        assert_eq!(ranges(PartRows::All), (vec![(0, 9)], 9));
        assert_eq!(ranges(PartRows::Some(vec![0, 1, 4, 7, 8])), (vec![(0, 2), (4, 1), (7, 2)], 5));
        assert_eq!(ranges(PartRows::Some(Vec::new())), (Vec::new(), 0));
    }
}
