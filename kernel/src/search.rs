//! The public interface: build a search, run it over a column.

mod groups;

use std::marker::PhantomData;

use arrow_array::Array;
use arrow_buffer::BooleanBuffer;

use crate::arch::{Backend, Kernels};
use crate::column::{ChunkedColumn, Components, VectorColumn};
use crate::error::{KernelError, Result};
use crate::metric::Metric;
use crate::query::Query;
use crate::reference::Element;
use crate::report::{Acceleration, Execution, FilterExecution, FilterReport, Report, ScanInput};
use crate::scan::{Counts, Job, ScanResult};
use crate::sketch::SketchFilter;
use crate::tier::Tier;

pub use groups::{GroupedHits, GroupedRow};

/// A [`Search`] for one query.
#[derive(Debug, Clone, Copy)]
pub enum One {}

/// A [`Search`] for a query batch.
#[derive(Debug, Clone, Copy)]
pub enum Many {}

/// An exact search, by k, by radius, or by both: the k best within the radius. The query is
/// validated here, the column when the search [runs](Search::run).
#[derive(Debug, Clone)]
pub struct Search<Q = One> {
    metric: Metric,
    queries: Vec<Query>,
    top_k: Option<usize>,
    radius: Option<f64>,
    inner_radius: Option<f64>,
    selection: Option<BooleanBuffer>,
    threads: usize,
    tier: Tier,
    backend: Option<Backend>,
    is_sql: bool,
    is_rows_only: bool,
    shape: PhantomData<Q>,
}

/// The rows found for one query, best first, ties by position.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ranking {
    /// Positions in the column, NULL rows counted.
    pub rows: Vec<u64>,
    /// The score of each row: the distance, or the inner product under `dot`.
    pub scores: Vec<f64>,
}

/// The result for one query.
#[derive(Debug, Clone, PartialEq)]
pub struct Hits {
    /// Positions in the column, best first, ties by position.
    pub rows: Vec<u64>,
    /// The score of each row: the distance, or the inner product under `dot`.
    pub scores: Vec<f64>,
    /// Only of a search [with SQL's distances](Search::sql_distances): positions whose distance is
    /// NaN, in order.
    pub nan_rows: Vec<u64>,
    /// Only of a search [with SQL's distances](Search::sql_distances): positions whose distance is
    /// NULL, at most k, in order.
    pub null_rows: Vec<u64>,
    /// The strategy as executed.
    pub report: Report,
}

/// The result for a query batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchHits {
    /// One ranking per query, in the order of the queries.
    pub rankings: Vec<Ranking>,
    /// The strategy as executed, for the whole batch.
    pub report: Report,
}

impl Search<One> {
    /// A search for one query.
    ///
    /// # Errors
    /// An empty or non-finite query; under cosine one of zero length; under a metric of bits one with
    /// a component other than 0 and 1.
    pub fn new<T: Element>(metric: Metric, query: &[T]) -> Result<Self> {
        Ok(Self::of(metric, vec![Query::try_new(metric, query)?]))
    }

    /// Keeps SQL's distances instead of a search's scores: cosine is not clamped, a row with an
    /// infinity is ranked by what the arithmetic gives, and rows whose distance is NaN or NULL are
    /// listed in the result instead of skipped.
    pub fn sql_distances(mut self) -> Self {
        self.is_sql = true;
        self
    }

    /// Leaves the scores out of a search by radius alone: `rows` come in order of position, and
    /// rows that the bound proves to be inside are not computed exactly. Without effect on a search
    /// by k.
    pub fn rows_only(mut self) -> Self {
        self.is_rows_only = true;
        self
    }

    /// Leaves out the rows that are closer than this score: only rows whose score is at least
    /// `inner`; under `dot`, at most.
    pub fn inner_radius(mut self, inner: f64) -> Self {
        self.inner_radius = Some(inner);
        self
    }

    /// A filter that finds from sketches alone the rows whose vectors this search has to read. The
    /// selection is not part of it.
    pub fn sketch_filter(&self) -> SketchFilter {
        SketchFilter::new(self.metric, self.queries[0].clone(), !self.is_sql, self.top_k, self.radius)
    }

    /// Searches a column ([`VectorColumn`](crate::VectorColumn) or [`ChunkedColumn`]).
    ///
    /// # Errors
    /// A query of another dim, `top_k` 0, neither k nor a radius, a selection of another length, a
    /// metric of bits over numbers or the reverse. Nothing is read then.
    pub fn run<'a>(&self, column: impl Into<ChunkedColumn<'a>>) -> Result<Hits> {
        let column = column.into();
        let (result, report) = self.execute(&column)?;
        let null_rows = if self.is_sql { self.null_rows(&column, &result.undefined) } else { Vec::new() };
        let nan_rows = result.nan.clone();
        let Ranking { rows, scores } = self.rankings(result).pop().unwrap_or_default();
        Ok(Hits { rows, scores, nan_rows, null_rows, report })
    }

    fn null_rows(&self, column: &ChunkedColumn<'_>, undefined: &[u64]) -> Vec<u64> {
        let limit = self.top_k.unwrap_or(usize::MAX);
        let mut nulls = Vec::new();
        for (ordinal, chunk) in column.chunks().iter().enumerate() {
            let Some(valid) = chunk.valid() else { continue };
            let start = column.start(ordinal);
            let is_selected = |row| self.selection.as_ref().is_none_or(|bits| bits.value(start + row));
            let rows = (0..chunk.len()).filter(|row| !valid.value(*row) && is_selected(*row));
            nulls.extend(rows.map(|row| (start + row) as u64).take(limit - nulls.len().min(limit)));
        }
        nulls.extend_from_slice(undefined);
        nulls.sort_unstable();
        nulls.truncate(limit);
        nulls
    }
}

impl Search<Many> {
    /// A search for a batch of queries of one dim, which reads each row once per block of queries.
    ///
    /// # Errors
    /// As [`Search::new`], and an empty batch or queries of different dims.
    pub fn batch<T: Element, Q: AsRef<[T]>>(metric: Metric, queries: &[Q]) -> Result<Self> {
        let queries: Vec<Query> =
            queries.iter().map(|query| Query::try_new(metric, query.as_ref())).collect::<Result<_>>()?;
        let expected = queries.first().ok_or(KernelError::EmptyBatch)?.values.len();
        match queries.iter().map(|query| query.values.len()).find(|got| *got != expected) {
            Some(got) => Err(KernelError::DimensionMismatch { expected, got }),
            None => Ok(Self::of(metric, queries)),
        }
    }

    /// A search for the rows of an array of vectors: `FixedSizeList` or `FixedSizeBinary`, as
    /// [`VectorColumn::try_new`] takes it.
    ///
    /// # Errors
    /// As [`Self::batch`] and [`VectorColumn::try_new`]; a row that is NULL or holds one.
    pub fn batch_of(metric: Metric, queries: &dyn Array) -> Result<Self> {
        let rows = VectorColumn::try_new(queries)?;
        if rows.is_empty() {
            return Err(KernelError::EmptyBatch);
        }
        let mut values = vec![0.0_f64; rows.dim()];
        let query = |row| match rows.is_valid(row) {
            true => {
                rows.widen(row, &mut values);
                Query::try_new(metric, &values)
            }
            false => Err(KernelError::NullQuery { row }),
        };
        Ok(Self::of(metric, (0..rows.len()).map(query).collect::<Result<_>>()?))
    }

    /// Searches a column.
    ///
    /// # Errors
    /// As for one query.
    pub fn run<'a>(&self, column: impl Into<ChunkedColumn<'a>>) -> Result<BatchHits> {
        let (result, report) = self.execute(&column.into())?;
        Ok(BatchHits { rankings: self.rankings(result), report })
    }
}

impl<Q> Search<Q> {
    fn of(metric: Metric, queries: Vec<Query>) -> Self {
        Self {
            metric,
            queries,
            top_k: None,
            radius: None,
            inner_radius: None,
            selection: None,
            threads: 0,
            tier: Tier::Auto,
            backend: None,
            is_sql: false,
            is_rows_only: false,
            shape: PhantomData,
        }
    }

    /// Only the `k` best rows. `k` above the number of rows returns all of them.
    pub fn top_k(mut self, k: usize) -> Self {
        self.top_k = Some(k);
        self
    }

    /// Only rows whose score is at most `radius`; under `dot`, at least.
    pub fn radius(mut self, radius: f64) -> Self {
        self.radius = Some(radius);
        self
    }

    /// A prefilter: one bit for each row of the column; only set rows are searched.
    pub fn selection(mut self, selection: &BooleanBuffer) -> Self {
        self.selection = Some(selection.clone());
        self
    }

    /// At most this many threads of the current rayon pool, the calling one included; 0 for all.
    /// The result does not depend on it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Forces a tier. The result does not depend on it.
    pub fn tier(mut self, tier: Tier) -> Self {
        self.tier = tier;
        self
    }

    /// Forces an instruction set (for tests and benchmarks). The result does not depend on it.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// The strategy that [`run`](Search::run) would follow over a column of `dim` components, as
    /// far as it is known without running; `rows` where the number of candidates is known.
    ///
    /// # Errors
    /// The same as `run`: a query of another dim, `top_k` 0, no limit, an unavailable backend.
    pub fn plan(&self, dim: usize, rows: Option<u64>) -> Result<Report> {
        let kernels = self.validate(Some(dim))?;
        Ok(Report {
            radius: self.radius,
            queries: Some(self.queries.len()),
            candidate_rows: rows.filter(|_| self.selection.is_none()),
            filter: self.selection.is_some().then_some(FilterReport {
                input_rows: rows,
                execution: FilterExecution::SelectionBitmap,
                returned_rows: None,
            }),
            acceleration: Acceleration::top_k(ScanInput::FlatBuffer, self.queries.len()),
            backend: kernels.backend,
            ..Report::planned(self.metric, Some(dim), self.top_k, self.tier)
        })
    }

    fn validate(&self, dim: Option<usize>) -> Result<&'static Kernels> {
        let got = self.queries[0].values.len();
        if let Some(expected) = dim.filter(|expected| *expected != got) {
            return Err(KernelError::DimensionMismatch { expected, got });
        }
        if self.top_k == Some(0) {
            return Err(KernelError::InvalidTopK);
        }
        if let Some(got) = self.radius.into_iter().chain(self.inner_radius).find(|radius| radius.is_nan()) {
            return Err(KernelError::InvalidRadius { got });
        }
        if self.top_k.is_none() && self.radius.is_none() {
            return Err(KernelError::Unbounded);
        }
        Kernels::select(self.backend)
    }

    /// The validated search of a column.
    fn job<'j>(&'j self, column: &'j ChunkedColumn<'j>) -> Result<Job<'j>> {
        let kernels = self.validate(column.dim())?;
        let rows = column.len();
        if let Some(got) = self.selection.as_ref().map(BooleanBuffer::len).filter(|got| *got != rows) {
            return Err(KernelError::SelectionLength { expected: rows, got });
        }
        if let Some(chunk) = column.chunks().first() {
            chunk.check_metric(self.metric)?;
        }
        Ok(Job {
            column,
            selection: self.selection.as_ref(),
            metric: self.metric,
            queries: &self.queries,
            k: self.top_k,
            radius: self.radius.map(|radius| self.metric.key(radius)),
            inner: self.inner_radius.map(|inner| self.metric.key(inner)),
            is_sql: self.is_sql,
            is_rows_only: self.is_rows_only && self.top_k.is_none() && self.inner_radius.is_none(),
            tier: self.tier,
            kernels,
            threads: self.threads,
        })
    }

    fn execute(&self, column: &ChunkedColumn<'_>) -> Result<(ScanResult, Report)> {
        let result = self.job(column)?.run();
        let returned = result.rankings.iter().map(|ranking| ranking.len() as u64).sum();
        let report = self.describe(column, &result, returned)?;
        Ok((result, report))
    }

    /// The report of an executed search.
    fn describe(&self, column: &ChunkedColumn<'_>, result: &ScanResult, returned: u64) -> Result<Report> {
        let rows = column.len();
        let candidates = self.selection.as_ref().map_or(rows, BooleanBuffer::count_set_bits) as u64;
        let row_bytes = column.chunks().first().map_or(0, |chunk| chunk.row_bytes()) as u64;
        let is_float32 =
            matches!(column.chunks().first().map(|chunk| chunk.components()), Some(Components::F32(_)) | None);
        let mut report = self.plan(column.dim().unwrap_or(self.queries[0].values.len()), Some(rows as u64))?;
        report.candidate_rows = Some(candidates);
        let Counts { rows_scanned, rows_sketched, rows_left, .. } = result.counts;
        let vectors = rows_scanned - rows_sketched + rows_left;
        report.tier = result.tier.tier;
        report.components = result.tier.components;
        if let Some(reason) = &result.tier.reason {
            report.reason.clone_from(reason);
        }
        let code_bytes = result.tier.code_bytes as u64;
        report.bytes_planned = Some(match code_bytes {
            0 => candidates * row_bytes,
            _ => result.bytes_planned as u64,
        });
        report.threads = Some(result.threads);
        let nulls = candidates - result.counts.rows_scanned;
        report.skipped_rows = Some(nulls + result.counts.rows_skipped);
        if !is_float32 && report.tier != Tier::Integer {
            report.acceleration = Acceleration::top_k(ScanInput::ConvertedBlocks, self.queries.len());
        }
        if let Some(filter) = &mut report.filter {
            filter.returned_rows = Some(returned);
        }
        let pairs = result.counts.rows_scanned * self.queries.len() as u64;
        report.execution = Some(Execution {
            rows_scanned: result.counts.rows_scanned,
            pruned: pairs.saturating_sub(result.counts.survivors + result.counts.rows_skipped),
            refined: result.counts.refined,
            rows_left: report.components.is_some().then_some(rows_left),
            bytes_read: vectors * row_bytes + rows_sketched * code_bytes,
            scan_us: result.scan_us,
            refine_us: result.refine_us,
        });
        Ok(report)
    }

    fn rankings(&self, result: ScanResult) -> Vec<Ranking> {
        let ranking = |items: Vec<crate::candidates::Candidate>| Ranking {
            rows: items.iter().map(|candidate| candidate.position).collect(),
            scores: if self.is_rows_only && self.top_k.is_none() && self.inner_radius.is_none() {
                Vec::new()
            } else {
                items.iter().map(|candidate| self.metric.key(candidate.low)).collect()
            },
        };
        result.rankings.into_iter().map(ranking).collect()
    }
}
