//! The searches that a sketch serves: those that are expected to read so few vectors besides that
//! they are faster.

use super::basis::SketchBasis;
use crate::arch::Backend;
use crate::arch::codes::CodeKernels;
use crate::metric::Metric;

/// A search of fewer rows than this many times those it is expected to leave reads the vectors.
const ROWS_PER_LEFT_OF_ONE: f64 = 3.0;
const ROWS_PER_LEFT_OF_BATCH: f64 = 80.0;

/// Rows that are read in the time in which one query is put into the terms of a sketch.
const ROWS_PER_QUERY: f64 = 256.0;

/// Components from which on a tile of codes is faster than the matrix product of the vectors.
const BATCH_DIM_MIN: usize = 192;

impl SketchBasis {
    /// Checks that a search of so many candidate rows reads sketches of this basis, as
    /// [`Tier::Auto`](crate::Tier::Auto) decides.
    ///
    /// # Errors
    /// The reason why it reads the vectors.
    pub fn check_search(&self, k: Option<usize>, candidate_rows: usize, queries: usize) -> Result<(), String> {
        self.check_search_by(CodeKernels::of(Backend::fastest()), k, candidate_rows, queries)
    }

    pub(crate) fn check_search_by(
        &self,
        kernels: &CodeKernels,
        k: Option<usize>,
        candidate_rows: usize,
        queries: usize,
    ) -> Result<(), String> {
        let left = self.expected_left(k, candidate_rows);
        let rows_min = match queries {
            1 => ROWS_PER_LEFT_OF_ONE * left + ROWS_PER_QUERY,
            _ => ROWS_PER_LEFT_OF_BATCH * left,
        };
        if (candidate_rows as f64) < rows_min {
            return Err(format!("the sketch would leave {left:.0} of {candidate_rows} rows"));
        }
        let has_tile = kernels.has_tile() && self.dim() >= BATCH_DIM_MIN;
        if queries > 1 && !has_tile && queries > kernels.untiled_queries {
            let dim = self.dim();
            return Err(format!("the matrix product of {queries} queries of {dim} components is faster here"));
        }
        Ok(())
    }

    /// Rows that a query is expected to leave.
    pub(crate) fn expected_left(&self, k: Option<usize>, candidate_rows: usize) -> f64 {
        k.map_or(0.0, |k| k as f64 * self.rows_left(candidate_rows))
    }

    /// Bytes of a row that a search by this metric reads.
    pub fn scanned_bytes(&self, metric: Metric) -> usize {
        let norm = if metric == Metric::Cosine { 0 } else { size_of::<f32>() };
        self.row_bytes() + norm
    }

    /// The reason that a report gives for a sketch; `uncovered` has the chunks without one, and all
    /// chunks.
    pub fn describe_reads(&self, row_bytes: usize, (uncovered, chunks): (usize, usize)) -> String {
        let reads = format!("the {} sketch reads {row_bytes} bytes a row", self.tier());
        match uncovered {
            0 => reads,
            _ => format!("{reads}; {uncovered} of {chunks} chunks have none"),
        }
    }
}
