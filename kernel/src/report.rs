//! The strategy of a search, planned or executed, as a value.

use std::fmt;

use crate::arch::Backend;
use crate::metric::Metric;
use crate::tier::Tier;

/// The strategy of one search. `None` is what only execution can tell, and prints as `unknown`.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The distance function.
    pub metric: Metric,
    /// Components of a vector.
    pub dimension: Option<usize>,
    /// The limit, `None` for a search by radius alone.
    pub top_k: Option<usize>,
    /// The farthest score that is in the result.
    pub radius: Option<f64>,
    /// Queries searched together.
    pub queries: Option<usize>,
    /// Rows that passed the filter (all, without one).
    pub candidate_rows: Option<u64>,
    /// Candidate rows that cannot be compared: NULL, a non-finite component, zero length under
    /// cosine.
    pub skipped_rows: Option<u64>,
    /// The prefilter, if there is one.
    pub filter: Option<FilterReport>,
    /// How the vectors are read and ranked.
    pub acceleration: Acceleration,
    /// The instruction set.
    pub backend: Backend,
    /// The source of the bounds.
    pub tier: Tier,
    /// Directions that the sketch codes, where one was used.
    pub components: Option<usize>,
    /// Why this tier.
    pub reason: String,
    /// Threads that scan.
    pub threads: Option<usize>,
    /// Bytes of the candidate rows' vectors, or of their codes in a sketch.
    pub bytes_planned: Option<u64>,
    /// Counts and times, once executed.
    pub execution: Option<Execution>,
}

/// The prefilter of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterReport {
    /// Rows before the filter.
    pub input_rows: Option<u64>,
    /// How the filter was evaluated.
    pub execution: FilterExecution,
    /// Rows in the result.
    pub returned_rows: Option<u64>,
}

impl FilterReport {
    fn has_filter(&self) -> bool {
        self.execution != FilterExecution::NoFilter
    }
}

/// How the filter of a search was evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterExecution {
    /// A hybrid search without a filter.
    NoFilter,
    /// The caller gave the rows that passed.
    SelectionBitmap,
    /// The predicate was evaluated over batches, before the search.
    PredicateToBitmap,
}

impl fmt::Display for FilterExecution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoFilter => "none",
            Self::SelectionBitmap => "selection-bitmap",
            Self::PredicateToBitmap => "vectorized-predicate-to-selection-bitmap",
        })
    }
}

/// How the vectors of a search are read, and how its rows are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acceleration {
    /// The memory that is read.
    pub input: ScanInput,
    /// The ranking of the rows.
    pub ranking: RankedBy,
}

/// The memory that a search reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanInput {
    /// The buffers of the column, in place.
    FlatBuffer,
    /// Blocks of the column, converted to `f32`.
    ConvertedBlocks,
    /// Batches of a stream.
    BatchStream,
}

/// How a search ranks rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankedBy {
    /// The closest rows of one query.
    TopK,
    /// The closest rows of several queries, in one pass.
    MatrixTopK,
    /// The closest row of each group.
    GroupTopK,
    /// Rows within a radius.
    Range,
}

impl Acceleration {
    /// Joins both parts.
    pub const fn new(input: ScanInput, ranking: RankedBy) -> Self {
        Self { input, ranking }
    }

    /// A search for the closest rows of so many queries.
    pub(crate) fn top_k(input: ScanInput, queries: usize) -> Self {
        Self::new(input, if queries > 1 { RankedBy::MatrixTopK } else { RankedBy::TopK })
    }
}

impl fmt::Display for Acceleration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let input = match self.input {
            ScanInput::FlatBuffer => "flat-buffer",
            ScanInput::ConvertedBlocks => "converted-blocks",
            ScanInput::BatchStream => "batch-stream",
        };
        let ranking = match self.ranking {
            RankedBy::TopK => "simd-topk",
            RankedBy::MatrixTopK => "simd-matrix-topk",
            RankedBy::GroupTopK => "group-topk",
            RankedBy::Range => "simd-range",
        };
        write!(f, "{input}+{ranking}")
    }
}

/// Counts and times of an executed search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Execution {
    /// Rows whose vectors were read.
    pub rows_scanned: u64,
    /// Pairs of a row and a query that the bound ruled out.
    pub pruned: u64,
    /// Pairs computed in `f64`.
    pub refined: u64,
    /// Pairs that a sketch left over, so that their vectors were read; `None` without one.
    pub rows_left: Option<u64>,
    /// Bytes of the vectors and sketches read by the scan.
    pub bytes_read: u64,
    /// Microseconds of the scan.
    pub scan_us: u64,
    /// Microseconds of the refinement.
    pub refine_us: u64,
}

impl Report {
    /// The strategy of a search that has not run: one query, in place, without a filter, on the
    /// fastest backend.
    pub fn planned(metric: Metric, dimension: Option<usize>, top_k: Option<usize>, tier: Tier) -> Self {
        Self {
            metric,
            dimension,
            top_k,
            radius: None,
            queries: Some(1),
            candidate_rows: None,
            skipped_rows: None,
            filter: None,
            acceleration: Acceleration::top_k(ScanInput::FlatBuffer, 1),
            backend: Backend::fastest(),
            tier: Tier::F32,
            components: None,
            reason: match tier {
                Tier::F32 => "tier f32 asked for".into(),
                Tier::Auto | Tier::I8 | Tier::Pca4 | Tier::Integer => "no sketch, so the vectors themselves".into(),
            },
            threads: None,
            bytes_planned: None,
            execution: None,
        }
    }

    /// Adds the same search over other rows: counts and times are summed.
    pub fn add_rows(&mut self, part: &Report) {
        let sum = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a + b);
        self.candidate_rows = sum(self.candidate_rows, part.candidate_rows);
        self.skipped_rows = sum(self.skipped_rows, part.skipped_rows);
        self.bytes_planned = sum(self.bytes_planned, part.bytes_planned);
        if let Some((filter, part)) = self.filter.as_mut().zip(part.filter.as_ref()) {
            filter.input_rows = sum(filter.input_rows, part.input_rows);
            filter.returned_rows = sum(filter.returned_rows, part.returned_rows);
        }
        self.execution = self.execution.zip(part.execution).map(Execution::sum);
    }

    /// Adds other queries over the same rows.
    pub fn add_queries(&mut self, part: &Report) {
        self.queries = self.queries.zip(part.queries).map(|(a, b)| a + b);
        self.execution = self.execution.zip(part.execution).map(Execution::sum);
    }
}

impl Execution {
    fn sum((a, b): (Self, Self)) -> Self {
        Self {
            rows_scanned: a.rows_scanned + b.rows_scanned,
            pruned: a.pruned + b.pruned,
            refined: a.refined + b.refined,
            rows_left: match (a.rows_left, b.rows_left) {
                (None, None) => None,
                (a, b) => Some(a.unwrap_or(0) + b.unwrap_or(0)),
            },
            bytes_read: a.bytes_read + b.bytes_read,
            scan_us: a.scan_us + b.scan_us,
            refine_us: a.refine_us + b.refine_us,
        }
    }
}

/// `unknown` where there is no value.
fn known<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "unknown".into(), |value| value.to_string())
}

impl Report {
    /// The names and values of the report, in a fixed order.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let mode = if self.filter.is_some() { "exact-scan-hybrid-search" } else { "exact-scan" };
        let mut facts = vec![
            ("mode", mode.to_owned()),
            ("metric", self.metric.to_string()),
            ("dimension", known(self.dimension)),
            ("top_k", self.top_k.map_or_else(|| "all".into(), |k| k.to_string())),
        ];
        if self.queries != Some(1) {
            facts.push(("queries", known(self.queries)));
        }
        facts.push(("candidate_rows", known(self.candidate_rows)));
        facts.push(("skipped_rows", known(self.skipped_rows)));
        let has_filter = self.filter.as_ref().is_some_and(FilterReport::has_filter);
        facts.push(("filter_pushdown", has_filter.to_string()));
        if let Some(filter) = &self.filter {
            let selectivity = self
                .candidate_rows
                .zip(filter.input_rows)
                .map(|(kept, all)| format!("{:.6}", if all == 0 { 0.0 } else { kept as f64 / all as f64 }));
            let none = FilterExecution::NoFilter.to_string();
            facts.extend([
                ("input_rows", known(filter.input_rows)),
                ("selectivity", known(selectivity)),
                ("column_filter_stage", if has_filter { "before-vector".into() } else { none }),
                ("column_filter_execution", filter.execution.to_string()),
            ]);
        }
        if self.filter.is_some() || self.radius.is_some() {
            let compare = if self.metric.is_larger_closer() { ">=" } else { "<=" };
            facts.push(("score_threshold", self.radius.map_or_else(|| "none".into(), |radius| radius.to_string())));
            facts.push(("score_threshold_compare", compare.into()));
        }
        if let Some(filter) = &self.filter {
            facts.push(("returned_rows", known(filter.returned_rows)));
        }
        facts.extend([
            ("acceleration", self.acceleration.to_string()),
            ("backend", self.backend.to_string()),
            ("tier", self.tier.to_string()),
        ]);
        facts.extend(self.components.map(|components| ("components", components.to_string())));
        facts.extend([
            ("reason", self.reason.clone()),
            ("threads", known(self.threads)),
            ("bytes_planned", known(self.bytes_planned)),
        ]);
        if let Some(execution) = &self.execution {
            facts.extend([
                ("rows_scanned", execution.rows_scanned.to_string()),
                ("pruned", execution.pruned.to_string()),
                ("refined", execution.refined.to_string()),
            ]);
            facts.extend(execution.rows_left.map(|rows_left| ("rows_left", rows_left.to_string())));
            facts.extend([
                ("bytes_read", execution.bytes_read.to_string()),
                ("scan_us", execution.scan_us.to_string()),
                ("refine_us", execution.refine_us.to_string()),
            ]);
        }
        facts
    }
}

impl fmt::Display for Report {
    /// `key=value` lines, in the order of [`Self::facts`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.facts().iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{key}={value}")?;
        }
        Ok(())
    }
}
