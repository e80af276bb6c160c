//! Rows in the order of a sort by distance, NULL and NaN included.

use std::cmp::Ordering;

use arrow::buffer::BooleanBuffer;
use datafusion::common::{DataFusionError, Result};
use rayon::prelude::*;
use vexact_kernel::{ChunkedColumn, FilterReport, KernelError, Metric, Report, Search, Tier};

use super::groups::{GroupEntry, keep_first_of_each};
use super::run::FILTER;
use super::spec::Scoring;
use super::ties::Ties;

/// Name of the ranking of groups in reports.
pub(super) const GROUPED: &str = "flat-buffer+group-topk";

/// Number of rows that are ranked at once when rows are grouped.
const GROUPED_ROWS: usize = 1 << 16;

/// Rank class of a row: ordinary distances are ordered between the NULLs and NaNs that come first
/// and those that come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    NullFirst,
    NanFirst,
    Distance,
    NanLast,
    NullLast,
}

/// One row and its rank.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    class: Class,
    key: f64,
    /// The metric's value; `None` if it is NULL.
    pub distance: Option<f64>,
    pub position: u64,
}

impl Entry {
    pub fn order(&self, other: &Entry) -> Ordering {
        self.distance_order(other).then(self.position.cmp(&other.position))
    }

    fn distance_order(&self, other: &Entry) -> Ordering {
        self.class.cmp(&other.class).then(self.key.total_cmp(&other.key))
    }

    /// Returns the distance of a row that has one which is a number.
    pub fn ordinary_distance(&self) -> Option<f64> {
        self.distance.filter(|_| self.class == Class::Distance)
    }

    pub fn is_tied(&self, other: &Entry) -> bool {
        self.distance_order(other).is_eq()
    }
}

/// Parameters of a ranking, with the value of the query.
#[derive(Debug, Clone)]
pub(super) struct Ranker {
    pub scoring: Scoring,
    /// The query vector; `None` if it is NULL, so that no row has a distance.
    pub query: Option<Vec<f64>>,
    pub k: usize,
    pub negative_nans_first: bool,
    pub nulls_first: bool,
    pub tier: Tier,
    pub threads: usize,
    /// Name of the column, for errors.
    pub column: String,
}

impl Ranker {
    pub fn metric(&self) -> Metric {
        self.scoring.metric()
    }

    pub fn entry(&self, distance: Option<f64>, position: u64) -> Entry {
        let class = match distance {
            None if self.nulls_first => Class::NullFirst,
            None => Class::NullLast,
            Some(x) if x.is_nan() && x.is_sign_negative() == self.negative_nans_first => Class::NanFirst,
            Some(x) if x.is_nan() => Class::NanLast,
            Some(_) => Class::Distance,
        };
        let sign = if self.metric().is_larger_closer() { -1.0 } else { 1.0 };
        let key = distance.filter(|x| !x.is_nan()).map_or(0.0, |x| sign * x);
        Entry { class, key, distance, position }
    }

    /// Returns a search for the query. Returns `None` if the kernel rejects the query but SQL's
    /// distance function accepts it: the distance is then evaluated row by row.
    ///
    /// # Errors
    /// A query of another dimension; any query that the kernel rejects if the scoring is
    /// [`Scoring::Search`].
    pub fn search(&self, dim: Option<usize>) -> Result<Option<Search>> {
        let refused = |error: KernelError| on_column(&self.column, external(error));
        if let (Some(expected), Some(query)) = (dim, &self.query)
            && expected != query.len()
        {
            return Err(refused(KernelError::DimensionMismatch { expected, got: query.len() }));
        }
        let search = match &self.query {
            Some(query) => Search::new(self.metric(), query).map_err(refused),
            None => datafusion::common::exec_err!(
                "vector search on column {:?}: expected a query vector, got NULL",
                self.column
            ),
        };
        match (search, self.scoring) {
            (Ok(search), Scoring::Search(_)) => Ok(Some(search)),
            (Ok(search), Scoring::Sql(_)) => Ok(Some(search.sql_distances())),
            (Err(error), Scoring::Search(_)) => Err(error),
            (Err(_), Scoring::Sql(_)) => Ok(None),
        }
    }

    /// Returns the first k rows of a column. Entries after `worst` are not needed.
    pub fn rank(
        &self,
        column: &ChunkedColumn<'_>,
        selection: Option<&BooleanBuffer>,
        worst: Option<Entry>,
    ) -> Result<(Vec<Entry>, Option<Report>)> {
        let Some(search) = self.search(column.dim())? else {
            return Ok((self.rank_plainly(column, selection), None));
        };
        let mut search = self.configured(search, selection).top_k(self.k);
        if let Some(radius) = worst.filter(|worst| worst.class == Class::Distance).and_then(|worst| worst.distance) {
            search = search.radius(radius);
        }
        let hits = search.run(column).map_err(external)?;
        let ranked = hits.rows.iter().zip(&hits.scores).map(|(row, score)| self.entry(Some(*score), *row));
        let query = self.query.as_deref().unwrap_or_default();
        let nans = hits.nan_rows.iter().map(|row| self.entry(column.distance(self.metric(), *row, query), *row));
        let nulls = hits.null_rows.iter().map(|row| self.entry(None, *row));
        let mut entries: Vec<Entry> = ranked.chain(nans).chain(nulls).collect();
        if !hits.nan_rows.is_empty() || !hits.null_rows.is_empty() {
            entries.sort_unstable_by(Entry::order);
            entries.truncate(self.k);
        }
        Ok((entries, Some(hits.report)))
    }

    /// As [`Self::rank`], with ties in the order of the table.
    pub fn rank_tied(
        &self,
        column: &ChunkedColumn<'_>,
        selection: Option<&BooleanBuffer>,
        ties: &Ties<'_>,
    ) -> Result<(Vec<Entry>, Option<Report>)> {
        let of_so_many = |k| Self { k, ..self.clone() };
        let (entries, report) = of_so_many(self.k.saturating_add(1)).rank(column, selection, None)?;
        let all_tied = |last: &Entry| match (last.class, last.distance, self.search(column.dim())?) {
            (Class::Distance, Some(distance), Some(search)) => {
                let hits = self.configured(search, selection).radius(distance).run(column).map_err(external)?;
                Ok(hits.rows.iter().zip(&hits.scores).map(|(row, score)| self.entry(Some(*score), *row)).collect())
            }
            // Rows without a distance are counted, not searched.
            _ => Ok(of_so_many(column.len()).rank(column, selection, None)?.0),
        };
        let entries = ties.first(Some(self.k), entries, Entry::is_tied, |entry| entry.position, all_tied)?;
        Ok((entries, report.map(|report| Report { top_k: Some(self.k), ..report })))
    }

    /// The k first rows of each group, in the order of groups, and with `has_ties` all rows that
    /// are tied with the k-th. `groups`: the group of each row.
    pub fn rank_groups(
        &self,
        column: &ChunkedColumn<'_>,
        selection: Option<&BooleanBuffer>,
        groups: &[u32],
        has_ties: bool,
    ) -> Result<(Vec<GroupEntry>, Report)> {
        self.search(column.dim())?;
        let (metric, query) = (self.metric(), self.query.as_deref().unwrap_or_default());
        let rank = |start: usize| {
            let rows = start..groups.len().min(start + GROUPED_ROWS);
            let selected: Vec<usize> = rows.filter(|row| selection.is_none_or(|bits| bits.value(*row))).collect();
            let scored = selected.iter().filter_map(|row| {
                let score = column.score(metric, *row as u64, query)?;
                Some(GroupEntry { group: groups[*row], entry: self.entry(Some(score), *row as u64) })
            });
            let mut entries: Vec<GroupEntry> = scored.collect();
            let skipped = selected.len() - entries.len();
            keep_first_of_each(&mut entries, self.k, has_ties);
            (entries, selected.len(), skipped)
        };
        let starts: Vec<usize> = (0..groups.len()).step_by(GROUPED_ROWS).collect();
        let ranked: Vec<_> = match self.threads {
            1 => starts.into_iter().map(rank).collect(),
            _ => vexact_kernel::in_pool(|| starts.into_par_iter().map(rank).collect()),
        };
        let candidates: usize = ranked.iter().map(|(_, selected, _)| selected).sum();
        let skipped: usize = ranked.iter().map(|(_, _, skipped)| skipped).sum();
        let mut entries: Vec<GroupEntry> = ranked.into_iter().flat_map(|(entries, ..)| entries).collect();
        keep_first_of_each(&mut entries, self.k, has_ties);
        let filter = selection.map(|selection| FilterReport {
            input_rows: Some(selection.len() as u64),
            execution: FILTER,
            returned_rows: Some(entries.len() as u64),
        });
        let report = Report {
            candidate_rows: Some(candidates as u64),
            skipped_rows: Some(skipped as u64),
            filter,
            acceleration: GROUPED,
            ..Report::planned(metric, column.dim(), Some(self.k), self.tier)
        };
        Ok((entries, report))
    }

    /// As [`Self::rank_groups`], best first, with ties in the order of the table.
    pub fn rank_groups_tied(
        &self,
        column: &ChunkedColumn<'_>,
        selection: Option<&BooleanBuffer>,
        groups: &[u32],
        ties: Option<&Ties<'_>>,
    ) -> Result<(Vec<Entry>, Report)> {
        let (ranked, report) = self.rank_groups(column, selection, groups, ties.is_some())?;
        let mut entries: Vec<Entry> = Vec::with_capacity(ranked.len());
        for group in ranked.chunk_by(|a, b| a.group == b.group) {
            let group: Vec<Entry> = group.iter().map(|ranked| ranked.entry).collect();
            match ties {
                None => entries.extend(group),
                Some(ties) => {
                    let all_tied = |last: &Entry| Ok(group.iter().filter(|row| row.is_tied(last)).copied().collect());
                    let first =
                        ties.first(Some(self.k), group.clone(), Entry::is_tied, |row| row.position, all_tied)?;
                    entries.extend(first);
                }
            }
        }
        entries.sort_unstable_by(Entry::order);
        if let Some(ties) = ties {
            entries = ties.first(None, entries, Entry::is_tied, |row| row.position, |_| Ok(Vec::new()))?;
        }
        Ok((entries, report))
    }

    fn configured(&self, search: Search, selection: Option<&BooleanBuffer>) -> Search {
        let search = search.tier(self.tier).threads(self.threads);
        match selection {
            Some(selection) => search.selection(selection),
            None => search,
        }
    }

    fn rank_plainly(&self, column: &ChunkedColumn<'_>, selection: Option<&BooleanBuffer>) -> Vec<Entry> {
        let is_selected = |row: &usize| selection.is_none_or(|bits| bits.value(*row));
        let distance = |row: u64| {
            let query = self.query.as_ref()?;
            column.distance(self.metric(), row, query)
        };
        let rows = (0..column.len()).filter(is_selected).map(|row| row as u64);
        let mut entries: Vec<Entry> = rows.map(|row| self.entry(distance(row), row)).collect();
        entries.sort_unstable_by(Entry::order);
        entries.truncate(self.k);
        entries
    }
}

/// A kernel error as DataFusion's, its source kept.
pub(crate) fn external(error: KernelError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// An error with the column that it is about.
pub(super) fn on_column(column: &str, error: DataFusionError) -> DataFusionError {
    error.context(format!("vector search on column {column:?}"))
}
